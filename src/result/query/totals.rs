//! The totals of groups of findings and of conversations.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::result::rows::record;
use crate::result::{Cell, Time};

record!(
    /// The totals of findings that have a property in common.
    FindingTotals<'a> {
        /// The value of the common property, such as `gw1` or `no role > broker`.
        group: String,
        /// The number of findings.
        count: u64,
        /// The worst severity among the findings.
        severity: Cow<'a, str>,
        /// The number of findings that are certain.
        certain: u64,
        /// The number of conversations, or of pairs of hosts, that the findings stand for.
        conversations: u64,
        /// The time of the earliest packet or ICMP error.
        first_seen: Option<Time>,
        /// The time of the latest packet or ICMP error.
        last_seen: Option<Time>,
        /// The id of the worst finding.
        example: String,
    }
);

record!(
    /// The totals of conversations that have a property in common.
    ConversationTotals<'a> {
        /// The value of the common property, such as `gw1` or `no role > broker`.
        group: String,
        /// The number of conversations.
        count: u64,
        /// The worst severity among the conversations. Empty without an inventory.
        severity: Cow<'a, str>,
        /// The number of conversations whose verdict is certain.
        certain: u64,
        /// The number of packets.
        packets: u64,
        /// The number of bytes.
        bytes: u64,
        /// The time of the earliest packet or ICMP error.
        first_seen: Option<Time>,
        /// The time of the latest packet or ICMP error.
        last_seen: Option<Time>,
    }
);
