//! What is allowed and expected: the port matrix, the roles and features that it refers to, and the
//! inventory, which says which host plays which role.
//!
//! All problems of a file that a user wrote are reported at once, each with its file, its line and
//! the nearest valid word. This code does not contain any port number of the product: the matrix is
//! data in `rules/`.

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
pub use severity::{Severity, SeverityColumn, SeverityTable};
pub use text_file::TextFile;
