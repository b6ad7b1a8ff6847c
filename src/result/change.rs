//! The result of comparing a finding with an earlier audit.

use crate::model::named_enum;

named_enum!(
    /// The result of comparing a finding with an earlier audit.
    Change {
        /// An exception now allows the traffic that the finding was about.
        Excepted = "excepted",
        /// The new audit does not have the finding, or only with severity info.
        Gone = "gone",
        /// The finding is known, but its severity is lower, or its connections no longer reach the
        /// server.
        Better = "better",
        /// The finding is known, and no change was found. Severity and outcome are not compared if
        /// only one of the audits shows the outcome.
        Same = "same",
        /// The finding is known, but has new clients, none of which the inventory lists.
        Grown = "grown",
        /// The finding is known, but its severity is higher, its connections now reach the server,
        /// it is about more pairs, it reached more services, or it has new servers, new hosts of
        /// the inventory or a second client.
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
