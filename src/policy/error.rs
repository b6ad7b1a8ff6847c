//! Errors in names, patterns and examples that a user wrote, whatever file they are in.

use super::{Diagnostic, MATRICES, OVERLAYS, nearest};

/// The reason why a file cannot be read, or why a name, a pattern or an example is not valid.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PolicyError {
    /// A file that cannot be read.
    #[error(transparent)]
    File(#[from] Diagnostic),
    /// A matrix name that is not known.
    #[error(
        "there is no matrix named \"{0}\" (known: {known}, or a folder of rules){near}",
        near = nearest(.0, MATRICES.iter().copied()),
        known = MATRICES.join(", ")
    )]
    NoMatrix(String),
    /// A file that does not exist.
    #[error("no such file")]
    NoFile,
    /// An overlay name that is not known.
    #[error(
        "there is no overlay named \"{0}\" (known: {known}, or a CSV file){near}",
        near = nearest(.0, OVERLAYS.iter().copied()),
        known = OVERLAYS.join(", ")
    )]
    NoOverlay(String),
    /// The name of a group of roles where a single role is required.
    #[error(
        "\"{name}\" is a group of roles; give one of its roles: {members}",
        members = .members.join(", ")
    )]
    SeveralRoles {
        /// The name of the group.
        name: String,
        /// The slugs of the roles in the group.
        members: Vec<String>,
    },
    /// A role that no host can have.
    #[error(
        "\"{0}\" is not a role that a host can have (rasaudit matrix show --roles lists the roles that hosts can have)"
    )]
    NotPlayable(String),
    /// A role name that the matrix does not define.
    #[error("unknown role \"{name}\" (rasaudit matrix show --roles lists all roles){near}")]
    UnknownRole {
        /// The name that the user wrote.
        name: String,
        /// A suggestion of the role with the most similar name, or an empty string.
        near: String,
    },
    /// A rule names a role that the matrix does not define.
    #[error("unknown role \"{slug}\"{near}")]
    UnknownSlug {
        /// The slug that the rule contains.
        slug: String,
        /// A suggestion of the role with the most similar slug, or an empty string.
        near: String,
    },
    /// An address instead of a name.
    #[error("\"{0}\" is an address, not a name")]
    AddressForName(String),
    /// A string that is not a valid host name.
    #[error("\"{0}\" is not a valid host name; a valid one is, for example, www.example.com")]
    NotAName(String),
    /// A pattern with more than one star, or with a star outside the first label.
    #[error("\"{0}\": only one * is allowed, and only in the first label")]
    Stars(String),
    /// A pattern that matches nearly every name.
    #[error("\"{0}\" is too broad: it matches everything below a top-level domain")]
    TooWide(String),
    /// An example that does not have the required form.
    #[error(
        "an example must have the form FROM > TO TRANSPORT/PORT, where TRANSPORT is tcp, udp or sctp, or FROM > TO ip/PROTOCOL"
    )]
    NotAnExample,
    /// An example with an invalid port.
    #[error("\"{0}\" is not a port")]
    NotAPort(String),
    /// An example with a role that no host can have.
    #[error("no host can have the role \"{0}\"")]
    NobodyPlays(String),
}
