//! rasaudit audits packet captures of a Parallels RAS farm against the vendor's port matrix.
//!
//! The rooms, in the order of the data: [`capture`] gives frames, [`decode`] turns each into an
//! observation, [`payload`] reads what its payload tells, [`flow`] merges observations into flow states, [`conversation`] reads who talked to
//! whom, [`policy`] knows what is documented, [`classify`] judges, [`report`] tells. [`pipeline`]
//! runs them; [`cli`] is what the user types. A room imports only what `tests/architecture.rs` lets it.

pub mod capture;
pub mod classify;
pub mod cli;
pub mod conversation;
pub mod decode;
pub mod flow;
pub mod model;
pub mod payload;
pub mod pipeline;
pub mod policy;
pub mod report;
pub mod result;
