//! The policy that traffic is judged against: the port matrix with its roles and features, the
//! inventory, which gives the roles of hosts, and the exceptions.
//!
//! All problems of a file that a user wrote are reported together, each with file and line and, if
//! a known word is similar, with a suggestion. This code does not contain any port numbers of the
//! product, because the matrix is data in `rules/`.

mod address_blocks;
mod background;
mod built_in;
mod control;
mod csv_file;
mod dates;
mod diagnostic;
mod diff;
mod error;
mod exception_list;
mod exceptions;
mod inventory;
mod inventory_damage;
mod inventory_sections;
mod lint;
mod load;
mod lookup;
mod matrix;
mod party;
mod pattern;
mod role;
mod row;
mod rules;
mod severity;
mod text_file;

pub use background::Background;
pub use built_in::{BACKGROUND, MATRICES, OVERLAYS};
pub use control::is_control;
pub(crate) use diagnostic::unreadable;
pub use diagnostic::{Diagnostic, Diagnostics, nearest};
pub use diff::MatrixChange;
pub use error::PolicyError;
pub use exception_list::{ListedException, add_exceptions};
pub(crate) use exceptions::UNFILLED;
pub use exceptions::{
    EXCEPTION_COLUMNS, Exception, ExceptionMatch, ExceptionParty, Exceptions, TICKET_COLUMN,
};
pub use inventory::{
    CoverageStatement, Host, Inventory, MovedPort, NamedRules, Network, Service, TEMPLATE,
    TUNNEL_KINDS, Tunnels, beyond_prefix_or_address, is_toml, line_of,
};
pub use lookup::{Candidate, FeatureState, Policy};
pub use matrix::{Feature, Matrix, SourceDocument};
pub use party::{Party, PartyKind};
pub use pattern::Pattern;
pub use role::{Role, RoleKind, RoleSet, Trait};
pub use row::{
    Certainty, EndpointTarget, Example, ExampleTarget, Expectation, Exposure, Quantifier, Row,
    Scope,
};
pub use rules::RuleFiles;
pub use severity::{Severity, SeverityColumn, SeverityOverride, SeverityTable};
pub use text_file::TextFile;

/// The keyed hash function of the maps in which the policy looks up addresses, networks, names and
/// ports.
type LookupHash = ahash::RandomState;
