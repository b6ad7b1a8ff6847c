//! The verdicts, codes, doubts and statuses of the judgement.

use crate::model::named_enum;

named_enum!(
    /// The verdict on a conversation or a finding.
    Verdict {
        /// An exception permits the traffic.
        Excepted = "excepted",
        /// A row of the matrix documents the traffic.
        Documented = "documented",
        /// The traffic is background traffic, which occurs in every network.
        Background = "background",
        /// The matrix allows the two roles to communicate, but not on this port or not in this way,
        /// or an exception for the traffic has expired.
        UnexpectedPort = "unexpected-port",
        /// No row allows the two ends to communicate.
        Undocumented = "undocumented",
        /// Documented traffic failed, or traffic that the matrix requires on this farm was not
        /// attempted.
        Missing = "missing",
        /// Whether the traffic is missing could not be assessed.
        NotAssessable = "not-assessable",
        /// The inventory, the exceptions or the addresses of hosts do not agree with the capture.
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
    /// The reason for a verdict. Codes are ordered by verdict. Up to [`Self::UnknownHost`], a later
    /// code is worse.
    Code {
        /// An exception permits the traffic.
        Exception = "exception",
        /// A row of the matrix documents the traffic.
        Matrix = "matrix",
        /// A row documents the traffic on the port to which the inventory moved it.
        Renumbered = "renumbered",
        /// A row of an overlay documents the traffic.
        Overlay = "overlay",
        /// The traffic is background traffic, which is found in every network.
        Background = "background",
        /// An expired exception would have permitted the traffic.
        ExpiredException = "expired-exception",
        /// A row would document the traffic, but needs a feature that is off in the inventory.
        FeatureOff = "feature-off",
        /// The port is documented for these roles over another transport.
        WrongTransport = "wrong-transport",
        /// The port is documented for these roles in the opposite direction.
        Reversed = "reversed",
        /// The matrix allows the roles to communicate, but not on this port.
        PortNotInMatrix = "port-not-in-matrix",
        /// An external client contacted an internal port of a farm host.
        ExposedInternal = "exposed-internal",
        /// The matrix documents this port of the server, but only for clients with other roles.
        WrongSource = "wrong-source",
        /// No row allows traffic from the client's roles to the server's.
        NoRelation = "no-relation",
        /// An end of the conversation is in the inventory, but has no role there.
        NoRole = "no-role",
        /// An end is not in the inventory.
        UnknownHost = "unknown-host",
        /// The answer was an RST or an ICMP port unreachable.
        Refused = "refused",
        /// An ICMP error (prohibited, host unreachable, or port unreachable from a device other
        /// than the server) or an RST that may come from another device rejected the traffic.
        Rejected = "rejected",
        /// The answer to the SYN was a bare ACK that does not acknowledge it.
        Challenged = "challenged",
        /// No answer was seen.
        Unanswered = "unanswered",
        /// The server answered, but the client did not complete the handshake.
        HalfOpen = "half-open",
        /// No attempt was made, although the capture could have shown it.
        NeverAttempted = "never-attempted",
        /// The capture shows no unicast packets from a host, or does not show the name or address
        /// of a destination.
        HostNotSeen = "host-not-seen",
        /// Nothing shows that the capture covers the pair of hosts, or only networks have the
        /// destination role.
        PairNotCovered = "pair-not-covered",
        /// Only one direction is visible.
        OneSidedView = "one-sided-view",
        /// The traffic would stay inside a host.
        LoopbackOnly = "loopback-only",
        /// The capture watched for less time than the row needs.
        WindowTooShort = "window-too-short",
        /// A capture filter was active.
        CaptureFiltered = "capture-filtered",
        /// The capture lost too many frames.
        LossTooHigh = "loss-too-high",
        /// The row needs a feature that the inventory does not mention.
        FeatureUnknown = "feature-unknown",
        /// The row is expected only after a trigger, which was not seen.
        TriggerNotSeen = "trigger-not-seen",
        /// A handshake shows that a host or an unlisted address serves a port of a role that it
        /// does not have.
        RoleMismatch = "role-mismatch",
        /// A host showed no traffic of one of its roles.
        SilentRole = "silent-role",
        /// Several MAC addresses claim one address at the same time.
        AddressConflict = "address-conflict",
        /// Loopback addresses were seen on a network.
        LoopbackOnWire = "loopback-on-wire",
        /// The traffic is permitted only by a feature that is usually off and that the inventory
        /// does not mention.
        FeatureUnstated = "feature-unstated",
        /// An exception matched no traffic that requires it.
        UnusedException = "unused-exception",
    }
);

impl Code {
    /// Returns whether findings may have the code. Permitted traffic is never a finding.
    pub fn is_of_findings(self) -> bool {
        let verdict = self.verdict();
        !matches!(verdict, Verdict::Excepted | Verdict::Documented | Verdict::Background)
    }

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
    /// The reason why a result is not certain.
    Doubt {
        /// The direction is a guess, and the other orientation would be judged differently.
        Direction = "direction",
        /// The capture may not cover the traffic, for example because its coverage is only
        /// inferred.
        Coverage = "coverage",
        /// The row that the ruling is based on is doubtful, or the capture does not show that the
        /// endpoint mapper announced the port.
        Row = "row",
        /// The ruling depends on the server's name, and the capture shows no name or only a weak
        /// one.
        Name = "name",
        /// The capture may have lost packets that would contradict the result.
        Loss = "loss",
        /// Memory ran short, and flows or conversations were aggregated.
        Aggregated = "fold",
        /// Packets of the flow contradict each other, so another device may have sent some of them.
        /// Or both hosts were recognized only by hardware addresses that the inventory does not
        /// list.
        Spoof = "spoof",
        /// The traffic was seen inside a tunnel that the inventory does not declare, where it could
        /// be forged.
        Tunnel = "tunnel",
        /// The result is based on an ICMP error that any host could have sent.
        Quoted = "quoted",
        /// The clocks of the inputs contradict each other, or the ruling depends on a packet whose
        /// timestamp is doubted.
        Clock = "clock",
        /// Frames or packets that could not be read may contain the traffic that seems to be
        /// missing.
        Unread = "unread",
        /// What belongs to a site is a guess. Either the client may not be external: the inventory
        /// does not list the internal prefixes, and the address may belong to the same site as the
        /// farm. Or the hosts of missing traffic may belong to different sites of the farm.
        Site = "site",
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

    /// Returns the union of both sets.
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
        /// A role of the row does not occur in the inventory, and the row has no conversations.
        RoleAbsent = "role-absent",
        /// The row needs a feature that is off.
        FeatureOff = "feature-off",
        /// The traffic was expected, but it was not seen or it failed.
        Missing = "missing",
        /// The traffic was seen.
        Seen = "seen",
        /// Whether the traffic is missing could not be assessed.
        NotAssessable = "not-assessable",
        /// The traffic was neither seen nor expected.
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
