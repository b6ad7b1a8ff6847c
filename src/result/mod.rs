//! What an audit found, as reports tell it: rows and sentences, made of the numbers of the judgement.

mod end;
mod explain;
mod members;

pub use end::End;
pub use explain::{Teller, ToldFinding, state_changes};
pub use members::Members;
