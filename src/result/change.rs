//! How a finding compares with an earlier audit.

use crate::model::named_enum;

named_enum!(
    /// How a finding compares with an earlier audit.
    Change {
        /// An exception now allows the traffic that the finding was about.
        Excepted = "excepted",
        /// The new audit does not have the finding.
        Gone = "gone",
        /// The finding is known, but its severity is lower, or its connections no longer reach the
        /// server.
        Better = "better",
        /// The finding is known and has not changed, as far as both audits show its outcome.
        Same = "same",
        /// The finding is known, and only unlisted clients have joined it.
        Grown = "grown",
        /// The finding is known, but its severity is higher, it is about more pairs, it reached
        /// more services, or servers, listed hosts or a second client have joined it.
        Worse = "worse",
        /// The earlier audit does not have the finding.
        New = "new",
    }
);

impl Change {
    /// Returns whether the change makes `rasaudit diff` exit with status 1.
    pub fn is_difference(self) -> bool {
        !matches!(self, Self::Same | Self::Excepted)
    }
}
