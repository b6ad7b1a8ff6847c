//! rasaudit audits packet captures of a Parallels RAS farm against the vendor's port matrix.
//!
//! The modules, in the order of the data: [`capture`] reads frames, [`decode`] turns each frame
//! into an observation, [`payload`] extracts facts from its payload, [`flow`] merges observations
//! into flows, [`conversation`] determines which hosts communicated, [`policy`] holds what is
//! documented, [`classify`] judges, and [`report`] writes the results. [`pipeline`] runs them, and
//! [`cli`] is the command line. A module imports only what `tests/architecture.rs` allows.

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
