//! What is wrong with a word that a user wrote, wherever it stands.

use super::{Diagnostic, MATRICES, OVERLAYS, nearest};

/// Why a name, a pattern or an example means nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PolicyError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] Diagnostic),
    /// No matrix has the name.
    #[error(
        "no matrix is called \"{0}\"{near} (known: {known}, or a folder of rules)",
        near = nearest(.0, MATRICES.iter().copied()),
        known = MATRICES.join(", ")
    )]
    NoMatrix(String),
    /// There is no such file.
    #[error("no such file")]
    NoFile,
    /// No overlay has the name.
    #[error(
        "no overlay is called \"{0}\"{near} (known: {known}, or a CSV file)",
        near = nearest(.0, OVERLAYS.iter().copied()),
        known = OVERLAYS.join(", ")
    )]
    NoOverlay(String),
    /// A name stands for several roles.
    #[error(
        "\"{name}\" stands for several roles; give the one the host plays: {members}",
        members = .members.join(", ")
    )]
    SeveralRoles {
        /// The name.
        name: String,
        /// The slugs of the roles.
        members: Vec<String>,
    },
    /// No host plays a role.
    #[error("\"{0}\" is no role that a host can play")]
    NotPlayable(String),
    /// A host has a role that the matrix does not have.
    #[error(
        "unknown role \"{name}\"{near}; rasaudit matrix show --roles lists them, and a host that plays none has \
         roles = []"
    )]
    UnknownRole {
        /// The name.
        name: String,
        /// The role whose name is most like it, in words.
        near: String,
    },
    /// A rule has a role that the matrix does not have.
    #[error("unknown role \"{slug}\"{near}")]
    UnknownSlug {
        /// The slug.
        slug: String,
        /// The role whose slug is most like it, in words.
        near: String,
    },
    /// An address stands where a name should.
    #[error("\"{0}\" is an address, not a name")]
    AddressForName(String),
    /// It is no name of a host.
    #[error("\"{0}\" is no host name like www.example.com")]
    NotAName(String),
    /// A pattern has too many stars, or one in a wrong place.
    #[error("\"{0}\": one star may stand, in the first label")]
    Stars(String),
    /// A pattern fits nearly every name.
    #[error("\"{0}\" matches everything below a top-level domain")]
    TooWide(String),
    /// An example is not written as one.
    #[error("an example is FROM > TO TRANSPORT/PORT")]
    NotAnExample,
    /// An example has a port that is none.
    #[error("\"{0}\" is no port")]
    NotAPort(String),
    /// An example is of a role that no host plays.
    #[error("nobody plays \"{0}\"")]
    NobodyPlays(String),
}
