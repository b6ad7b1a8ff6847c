//! rasaudit audits packet captures of a Parallels RAS farm against the vendor's port matrix.
//!
//! The program `rasaudit` is a thin wrapper around this library. [`pipeline::Audit`] is the place
//! to start: it reads captures, judges what they show, and yields an
//! [`AuditResult`](result::AuditResult), from which every report is made.
//!
//! ```
//! use rasaudit::pipeline::{Audit, Limits, Plan, Progress, Request};
//! use rasaudit::policy::{Inventory, Policy, RuleFiles};
//!
//! // The matrix states which roles may connect to which, and the inventory assigns roles to hosts.
//! let matrix = RuleFiles::named("ras-19", None).unwrap().load().unwrap();
//! let text = std::fs::read_to_string("fixtures/farm-healthy/inventory.toml").unwrap();
//! let inventory = Inventory::from_toml("inventory.toml", &text, &matrix).unwrap();
//! let policy = Policy::new(matrix, inventory);
//!
//! let captures = vec!["fixtures/farm-faults/span.pcap".into()];
//! let plan = Plan::new(Request { captures, ..Request::default() }).unwrap();
//! let audit =
//!     Audit::of(&plan, Some(policy), None, &Limits::default(), &Progress::default()).unwrap();
//!
//! let result = audit.result();
//! let found: Vec<_> = result.findings().map(|f| format!("{} {}", f.severity, f.code)).collect();
//! assert_eq!(found, ["high wrong-source", "high refused", "high unanswered"]);
//! ```
//!
//! The folder `examples/` has programs that audit a file, list flows, and decode frames.
//!
//! # Modules
//!
//! In the order in which data passes through them: [`capture`] reads frames, [`decode`] turns each
//! frame into an observation, [`payload`] extracts facts from payloads, [`flow`] merges
//! observations into flows, [`conversation`] determines which hosts communicated, [`policy`] holds
//! the port matrix and the inventory, [`classify`] judges the conversations against them,
//! [`result`] holds what an audit found, and [`report`] writes it. [`pipeline`] runs these stages
//! over files. [`model`] has the types that all of them share. `live` runs the stages continuously
//! on interfaces, `store` keeps evidence as rows in files, and `cli` is the command line.
//! `tests/it/architecture.rs` lists the modules that each module may import.
//!
//! # Features
//!
//! All are on by default. Without any of them, everything from [`capture`] to [`report`] works on
//! files, and libpcap is not needed.
//!
//! | feature | adds | needs |
//! | --- | --- | --- |
//! | `bpf` | capture filters and interfaces | libpcap |
//! | `live` | the module `live` | `bpf`; Unix |
//! | `serve` | the page and the metrics of a live audit, over HTTP | `live` |
//! | `store` | the module `store`: evidence in Parquet files and Arrow streams | |
//! | `cli` | the module `cli` and the program | |
//!
//! The interface of the library is not stable yet and may change in any version.

// Only the library must not panic. In `Cargo.toml`, these lints would also apply to tests, benches,
// examples and the build script, where a panic is acceptable.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod capture;
pub mod classify;
#[cfg(feature = "cli")]
pub mod cli;
pub mod conversation;
pub mod decode;
pub mod flow;
#[cfg(feature = "live")]
pub mod live;
pub mod model;
pub mod payload;
pub mod pipeline;
pub mod policy;
pub mod report;
pub mod result;
#[cfg(feature = "store")]
pub mod store;
