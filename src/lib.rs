//! rasaudit audits packet captures of a Parallels RAS farm against the vendor's port matrix.
//!
//! The modules, in the order in which data passes through them: [`capture`] reads frames,
//! [`decode`] turns each frame into an observation, [`payload`] extracts facts from payloads,
//! [`flow`] merges observations into flows, [`conversation`] determines which hosts communicated,
//! [`policy`] holds the port matrix and the inventory, [`classify`] judges the conversations
//! against them, and [`report`] writes the results. [`pipeline`] runs these stages over files,
//! [`live`] runs them continuously on interfaces, and [`cli`] is the command line.
//! `tests/it/architecture.rs` lists which module may import which.

pub mod capture;
pub mod classify;
pub mod cli;
pub mod conversation;
pub mod decode;
pub mod flow;
pub mod live;
pub mod model;
pub mod payload;
pub mod pipeline;
pub mod policy;
pub mod report;
pub mod result;
