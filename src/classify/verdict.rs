//! The vocabulary of the judgement.

use crate::model::named_enum;

named_enum!(
    /// What is said of a conversation, a matrix row or a finding.
    Verdict {
        /// A site exception permits it.
        Excepted = "excepted",
        /// A row of the matrix documents it.
        Documented = "documented",
        /// Traffic of every network.
        Background = "background",
        /// The matrix joins the two roles, but not on this port.
        UnexpectedPort = "unexpected-port",
        /// No row joins the two ends.
        Undocumented = "undocumented",
        /// The matrix says this farm must show it, and the capture, which could have, does not.
        Missing = "missing",
        /// The capture could not show it.
        NotAssessable = "not-assessable",
        /// Inventory and capture contradict each other.
        Inventory = "inventory",
    }
);

named_enum!(
    /// Why. Ordered as codes are tried; a later code is the worse one.
    Code {
        /// A site exception permits it.
        Exception = "exception",
        /// A row of the matrix fits.
        Matrix = "matrix",
        /// A row fits, on the port that the site moved it to.
        Renumbered = "renumbered",
        /// A row of an overlay fits.
        Overlay = "overlay",
        /// Traffic of every network.
        Background = "background",
        /// An exception would have permitted it, had it not expired.
        ExpiredException = "expired-exception",
        /// A row fits that needs a feature which the inventory says is off.
        FeatureOff = "feature-off",
        /// The port is documented for these roles over another transport.
        WrongTransport = "wrong-transport",
        /// The port is documented for these roles the other way round.
        Reversed = "reversed",
        /// The roles are joined, on other ports.
        PortNotInMatrix = "port-not-in-matrix",
        /// An internal port of a farm host reached from outside.
        ExposedInternal = "exposed-internal",
        /// The port is documented at the destination, for other roles.
        WrongSource = "wrong-source",
        /// No row joins the two roles.
        NoRelation = "no-relation",
        /// An end is listed without a role.
        NoRole = "no-role",
        /// An end is in no list.
        UnknownHost = "unknown-host",
        /// An RST or ICMP port unreachable answered.
        Refused = "refused",
        /// An ICMP error said that it is prohibited, or the host unreachable.
        Rejected = "rejected",
        /// A bare ACK answered that does not acknowledge the attempt.
        Challenged = "challenged",
        /// Nobody answered.
        Unanswered = "unanswered",
        /// Answered, and then nothing from the client.
        HalfOpen = "half-open",
        /// Not even tried, though the capture could have seen it.
        NeverAttempted = "never-attempted",
        /// A host was not seen sending.
        HostNotSeen = "host-not-seen",
        /// The span does not cover the pair.
        PairNotCovered = "pair-not-covered",
        /// Only one direction is visible.
        OneSidedView = "one-sided-view",
        /// It stays inside a host.
        LoopbackOnly = "loopback-only",
        /// Watched for less than the row needs.
        WindowTooShort = "window-too-short",
        /// A capture filter was on.
        CaptureFiltered = "capture-filtered",
        /// The capture lost too much.
        LossTooHigh = "loss-too-high",
        /// It needs a feature that the inventory does not name.
        FeatureUnknown = "feature-unknown",
        /// It is expected only after something that was not seen.
        TriggerNotSeen = "trigger-not-seen",
        /// A host serves by handshake what only another role serves.
        RoleMismatch = "role-mismatch",
        /// A host showed nothing of its role.
        SilentRole = "silent-role",
        /// Two hosts claim one address at the same time.
        AddressConflict = "address-conflict",
        /// Addresses that stay inside a host were seen on a wire.
        LoopbackOnWire = "loopback-on-wire",
        /// Only a feature that is usually off, and that nobody named, permits it.
        FeatureUnstated = "feature-unstated",
        /// An exception matched nothing.
        UnusedException = "unused-exception",
    }
);

impl Code {
    /// The verdict that the code belongs to.
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
    /// Why something is not certain.
    Doubt {
        /// The direction is a guess, and the other reading judges differently.
        Direction = "direction",
        /// The coverage is inferred, or rests on a trigger.
        Coverage = "coverage",
        /// The deciding row is doubtful.
        Row = "row",
        /// Only a name could decide, and none or a weak one was seen.
        Name = "name",
        /// The capture may have lost what would contradict.
        Loss = "loss",
        /// Memory ran short, and it was taken together with other flows.
        Fold = "fold",
        /// Its packets contradict each other: another device may have sent some of them.
        Spoof = "spoof",
        /// It was seen inside a tunnel that nobody stated, in which anybody may have made it up.
        Tunnel = "tunnel",
        /// It rests on an ICMP error that anybody could have sent.
        Quoted = "quoted",
        /// The clocks of the capture contradict each other.
        Clock = "clock",
        /// Frames that could not be understood may hold what seems to be missing.
        Unread = "unread",
    }
);

/// A set of doubts; empty is certain.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Doubts(u16);

impl Doubts {
    /// Adds a doubt.
    pub fn add(&mut self, doubt: Doubt) {
        self.0 |= 1 << doubt as u8;
    }

    /// All doubts of both.
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether there is none.
    pub fn certain(self) -> bool {
        self.0 == 0
    }

    /// The doubts, in order.
    pub fn iter(self) -> impl Iterator<Item = Doubt> {
        Doubt::ALL.iter().copied().filter(move |d| self.0 >> *d as u8 & 1 == 1)
    }
}

named_enum!(
    /// What a row of the matrix came to. The first that applies.
    Status {
        /// Nobody in the inventory plays one of its roles.
        RoleAbsent = "role-absent",
        /// It needs a feature that is off.
        FeatureOff = "feature-off",
        /// It should have shown, and did not, or failed.
        Missing = "missing",
        /// It was seen.
        Seen = "seen",
        /// It should have shown, but the capture could not show it.
        NotAssessable = "not-assessable",
        /// It was not seen, and did not have to be.
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
