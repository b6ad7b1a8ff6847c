//! What is allowed and expected: the port matrix, the roles and features it speaks of, and the
//! inventory that says which host plays which role.
//!
//! Files that a user wrote are loaded with all their problems at once, each with file, line and the
//! nearest right word. No port number of the product stands here: the matrix is data in `rules/`.

mod background;
mod control;
mod csv_file;
mod diagnostic;
mod diff;
mod error;
mod exceptions;
mod inventory;
mod lint;
mod load;
mod lookup;
mod matrix;
mod pattern;
mod role;
mod row;
mod rules;
mod severity;
mod text_file;

pub use background::Background;
pub use control::is_control;
pub use diagnostic::{Diagnostic, Diagnostics, nearest, unreadable};
pub use diff::MatrixChange;
pub use error::PolicyError;
pub use exceptions::{
    EXCEPTION_COLUMNS, Exception, ExceptionMatch, ExceptionParty, Exceptions, UNFILLED,
};
pub use inventory::{
    CoverageStatement, Host, Inventory, MovedPort, NamedRules, Network, Service, TEMPLATE,
    TUNNEL_KINDS, Tunnels, is_toml,
};
pub use lookup::{Candidate, FeatureState, Party, PartyKind, Policy};
pub use matrix::{Feature, Matrix};
pub use pattern::Pattern;
pub use role::{Role, RoleKind, RoleSet, Trait};
pub use row::{
    Certainty, EndpointTarget, Example, ExampleTarget, Expectation, Exposure, Quantifier, Row,
    Scope,
};
pub use rules::{MATRICES, OVERLAYS, RuleFiles};
pub use severity::{Severity, SeverityTable};
pub use text_file::TextFile;
