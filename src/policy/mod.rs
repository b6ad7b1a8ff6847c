//! What is allowed and expected: the port matrix, the roles and features it speaks of, and the
//! inventory that says which host plays which role.
//!
//! Files that a user wrote are loaded with all their problems at once, each with file, line and the
//! nearest right word. No port number of the product stands here: the matrix is data in `rules/`.

mod csv_file;
mod inventory;
mod lookup;
mod matrix;
mod problem;
mod rules;

pub use inventory::{Covers, Host, Inventory, MovedPort, Network, Service, TEMPLATE, is_toml};
pub use lookup::{Candidate, FeatureState, Party, Policy, Who};
pub use matrix::{
    Background, Expectation, Matrix, Quantifier, Role, RoleSet, Row, Scope, Severity, SeverityTable,
};
pub use problem::{Problem, Problems, nearest};
pub use rules::{MATRICES, RuleFiles};
