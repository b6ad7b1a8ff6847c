//! The vocabulary of the judgement.

use crate::model::named_enum;

named_enum!(
    /// The verdict on a conversation, a matrix row or a finding.
    Verdict {
        /// A site exception permits it.
        Excepted = "excepted",
        /// A row of the matrix documents it.
        Documented = "documented",
        /// Traffic that every network has.
        Background = "background",
        /// The matrix allows the two roles to communicate, but not on this port.
        UnexpectedPort = "unexpected-port",
        /// No row allows the two ends to communicate.
        Undocumented = "undocumented",
        /// The matrix requires it on this farm, and the capture could have shown it but does not.
        Missing = "missing",
        /// The capture could not show it.
        NotAssessable = "not-assessable",
        /// Inventory and capture contradict each other.
        Inventory = "inventory",
    }
);

impl Verdict {
    /// Returns whether neither the matrix nor an exception permits the traffic.
    pub fn is_unpermitted(self) -> bool {
        matches!(self, Self::UnexpectedPort | Self::Undocumented)
    }
}

named_enum!(
    /// The reason for a verdict. Codes are in the order in which they are tried. A later code is
    /// worse.
    Code {
        /// A site exception permits it.
        Exception = "exception",
        /// A row of the matrix fits.
        Matrix = "matrix",
        /// A row fits, on the port that the site moved it to.
        Renumbered = "renumbered",
        /// A row of an overlay fits.
        Overlay = "overlay",
        /// Traffic that every network has.
        Background = "background",
        /// An exception that has expired would have permitted it.
        ExpiredException = "expired-exception",
        /// A row fits that needs a feature that is off according to the inventory.
        FeatureOff = "feature-off",
        /// The port is documented for these roles over another transport.
        WrongTransport = "wrong-transport",
        /// The port is documented for these roles in the other direction.
        Reversed = "reversed",
        /// The matrix allows the roles to communicate, on other ports.
        PortNotInMatrix = "port-not-in-matrix",
        /// An internal port of a farm host was reached from outside.
        ExposedInternal = "exposed-internal",
        /// The port is documented at the destination, for other roles.
        WrongSource = "wrong-source",
        /// No row allows the two roles to communicate.
        NoRelation = "no-relation",
        /// An end is listed without a role.
        NoRole = "no-role",
        /// An end is not listed.
        UnknownHost = "unknown-host",
        /// The answer was an RST or an ICMP port unreachable.
        Refused = "refused",
        /// An ICMP error reported that it is prohibited, or that the host is unreachable.
        Rejected = "rejected",
        /// The answer was a bare ACK that does not acknowledge the attempt.
        Challenged = "challenged",
        /// No answer was seen.
        Unanswered = "unanswered",
        /// The server answered, and the client did not continue.
        HalfOpen = "half-open",
        /// No attempt was made, although the capture could have shown it.
        NeverAttempted = "never-attempted",
        /// A host was not seen sending.
        HostNotSeen = "host-not-seen",
        /// The span does not cover the pair.
        PairNotCovered = "pair-not-covered",
        /// Only one direction is visible.
        OneSidedView = "one-sided-view",
        /// It stays inside a host.
        LoopbackOnly = "loopback-only",
        /// It was watched for less time than the row needs.
        WindowTooShort = "window-too-short",
        /// A capture filter was active.
        CaptureFiltered = "capture-filtered",
        /// The capture lost too many frames.
        LossTooHigh = "loss-too-high",
        /// It needs a feature that the inventory does not name.
        FeatureUnknown = "feature-unknown",
        /// It is expected only after something that was not seen.
        TriggerNotSeen = "trigger-not-seen",
        /// A host serves, proved by a handshake, a port that only another role serves.
        RoleMismatch = "role-mismatch",
        /// A host showed no activity of its role.
        SilentRole = "silent-role",
        /// Two hosts claim one address at the same time.
        AddressConflict = "address-conflict",
        /// Addresses that stay inside a host were seen on a network.
        LoopbackOnWire = "loopback-on-wire",
        /// Only a feature that is usually off, and that the inventory does not name, permits it.
        FeatureUnstated = "feature-unstated",
        /// An exception matched nothing.
        UnusedException = "unused-exception",
    }
);

impl Code {
    /// Returns the verdict that the code belongs to.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Exception => Verdict::Excepted,
            Self::Matrix | Self::Renumbered | Self::Overlay => Verdict::Documented,
            Self::Background => Verdict::Background,
            code if code <= Self::PortNotInMatrix => Verdict::UnexpectedPort,
            code if code <= Self::UnknownHost => Verdict::Undocumented,
            code if code <= Self::NeverAttempted => Verdict::Missing,
            code if code <= Self::TriggerNotSeen => Verdict::NotAssessable,
            _ => Verdict::Inventory,
        }
    }
}

named_enum!(
    /// The reason why something is not certain.
    Doubt {
        /// The direction is a guess, and the other orientation would be judged differently.
        Direction = "direction",
        /// The coverage is inferred, or rests on a trigger.
        Coverage = "coverage",
        /// The deciding row is doubtful.
        Row = "row",
        /// Only a name could decide, and the capture shows none or only a weak one.
        Name = "name",
        /// The capture may have lost contradicting packets.
        Loss = "loss",
        /// Memory ran short, and the flow was aggregated with others.
        Aggregated = "fold",
        /// Its packets contradict each other, so another device may have sent some of them.
        Spoof = "spoof",
        /// It was seen inside a tunnel that the inventory does not state, where it could be forged.
        Tunnel = "tunnel",
        /// It rests on an ICMP error that any host could have sent.
        Quoted = "quoted",
        /// The clocks of the capture contradict each other.
        Clock = "clock",
        /// Frames that could not be decoded may contain what seems to be missing.
        Unread = "unread",
    }
);

/// A set of doubts. The empty set means certain.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Doubts(u16);

impl Doubts {
    /// Adds a doubt.
    pub fn add(&mut self, doubt: Doubt) {
        self.0 |= 1 << doubt as u8;
    }

    /// Returns the doubts of both sets.
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns whether there are no doubts.
    pub fn certain(self) -> bool {
        self.0 == 0
    }

    /// Returns the doubts, in order.
    pub fn iter(self) -> impl Iterator<Item = Doubt> {
        Doubt::ALL.iter().copied().filter(move |d| self.0 >> *d as u8 & 1 == 1)
    }
}

named_enum!(
    /// The status of a row of the matrix: the first that applies.
    Status {
        /// Nothing in the inventory has one of its roles.
        RoleAbsent = "role-absent",
        /// It needs a feature that is off.
        FeatureOff = "feature-off",
        /// It should have been seen, but was not, or it failed.
        Missing = "missing",
        /// It was seen.
        Seen = "seen",
        /// It should have been seen, but the capture could not show it.
        NotAssessable = "not-assessable",
        /// It was not seen, and was not required.
        NotExpected = "not-expected",
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_ordered_by_verdict_and_unique() {
        let verdicts: Vec<_> = Code::ALL.iter().map(|c| c.verdict()).collect();
        assert!(verdicts.is_sorted());
        for code in Code::NAMES {
            assert_eq!(Code::NAMES.iter().filter(|c| *c == code).count(), 1);
        }
        let first = |v: Verdict| Code::ALL.iter().find(|c| c.verdict() == v).map(|c| c.name());
        assert_eq!(first(Verdict::UnexpectedPort), Some("expired-exception"));
        assert_eq!(first(Verdict::Undocumented), Some("exposed-internal"));
        assert_eq!(first(Verdict::Missing), Some("refused"));
        assert_eq!(first(Verdict::NotAssessable), Some("host-not-seen"));
        assert_eq!(first(Verdict::Inventory), Some("role-mismatch"));
    }
}
