//! Frames that were not decoded, and truncated ICMP errors, by the hosts that they may belong to.

use std::collections::{BTreeMap, BTreeSet};

use super::coverage::HostReport;
use crate::conversation::Conversations;
use crate::model::Mac;
use crate::policy::Policy;

/// Descriptions of frames that could not be decoded, by the hosts that they may belong to.
#[derive(Default)]
pub(super) struct UndecodedByHost {
    /// The description of frames that may belong to any host.
    anybody: Option<String>,
    /// For each host, one description of frames that may belong to it.
    hosts: BTreeMap<usize, String>,
    /// The descriptions of ICMP errors whose quoted packets are truncated, by the host that they
    /// were sent to.
    errors: BTreeMap<usize, String>,
}

impl UndecodedByHost {
    /// Returns the description of frames that may contain traffic between these hosts.
    pub fn of(&self, hosts: impl IntoIterator<Item = usize>) -> Option<&str> {
        let theirs = hosts.into_iter().find_map(|host| self.hosts.get(&host));
        self.anybody.as_ref().or(theirs).map(String::as_str)
    }

    /// Returns the description of ICMP errors to one of these hosts whose quoted packets are
    /// truncated. Each of them may be about any packet of its receiver.
    pub fn errors_to(&self, hosts: &[usize]) -> Option<&str> {
        hosts.iter().find_map(|host| self.errors.get(host)).map(String::as_str)
    }
}

/// Assigns each frame that could not be decoded to the hosts that have its source or destination
/// hardware address. A frame that passed a router has the hardware address of the router. A frame
/// from or to an unknown hardware address may belong to any host, unless it is a broadcast.
pub(super) fn undecoded_by_host(
    policy: &Policy,
    conversations: &Conversations,
    reports: &[HostReport],
) -> UndecodedByHost {
    let mut found = UndecodedByHost::default();
    match conversations.undecoded.more() {
        0 => {}
        1 => found.anybody = Some("1 frame that could not be decoded".to_owned()),
        more => found.anybody = Some(format!("{more} frames that could not be decoded")),
    }
    let listed = policy.inventory.hosts.iter().enumerate();
    let listed = listed.flat_map(|(host, entry)| entry.macs.iter().map(move |mac| (*mac, host)));
    let seen = reports.iter().enumerate();
    let seen = seen.flat_map(|(host, seen)| seen.presence.macs.iter().map(move |m| (*m, host)));
    let mut owners: BTreeMap<Mac, BTreeSet<usize>> = BTreeMap::new();
    for (mac, host) in listed.chain(seen) {
        owners.entry(mac).or_default().insert(host);
    }
    for (unread, count) in conversations.undecoded.iter() {
        if let Some(receiver) = unread.why.receiver_of_error() {
            if let Some(host) = policy.host_of(receiver) {
                found.errors.entry(host).or_insert_with(|| unread.why.words(count));
            }
            continue;
        }
        let is_group = unread.to.0[0] & 1 == 1 && unread.to != Mac::NONE;
        for mac in [Some(unread.from), Some(unread.to).filter(|_| !is_group)].into_iter().flatten()
        {
            match owners.get(&mac) {
                Some(hosts) => {
                    for host in hosts {
                        let words = || unread.why.words(count);
                        found.hosts.entry(*host).or_insert_with(words);
                    }
                }
                // Broadcasts of unknown senders contain no traffic between two hosts.
                None if unread.to == Mac::BROADCAST => {}
                None => drop(found.anybody.get_or_insert_with(|| unread.why.words(count))),
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::coverage::host_reports;
    use crate::classify::sample::{
        BROKER, FARM, GW, GW_1, Packets, RDSH_1, STRANGER, policy, view,
    };
    use crate::flow::{UndecodedFrames, UndecodedReason};
    use crate::model::{SkipReason, Transport};

    const OF_GATEWAY: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const UNKNOWN: Mac = Mac([2, 0, 0, 0, 0, 9]);

    #[test]
    fn an_undecoded_frame_belongs_to_the_hosts_of_its_hardware_addresses() {
        let policy = policy(FARM);
        let found = |from: Mac, to: Mac, why: UndecodedReason| {
            let mut packets = Packets::default();
            packets.send(0, Transport::ICMP, (GW, 8), (BROKER, 0));
            packets.sent_by(0, OF_GATEWAY);
            packets.undecoded(UndecodedFrames { from, to, why });
            let conversations = packets.conversations(&policy);
            let reports = host_reports(&policy, &conversations, &view(60));
            undecoded_by_host(&policy, &conversations, &reports)
        };
        let undecoded = |from: Mac, to: Mac| {
            let found = found(from, to, UndecodedReason::skipped(SkipReason::EncryptedLink));
            assert_eq!(found.errors_to(&[GW_1, RDSH_1]), None);
            [GW_1, RDSH_1].map(|host| found.of([host]).is_some())
        };
        assert_eq!(undecoded(OF_GATEWAY, Mac::BROADCAST), [true, false]);
        assert_eq!(undecoded(OF_GATEWAY, OF_GATEWAY), [true, false]);
        assert_eq!(undecoded(UNKNOWN, Mac::BROADCAST), [false, false]);
        assert_eq!(undecoded(UNKNOWN, OF_GATEWAY), [true, true]);
        assert_eq!(undecoded(OF_GATEWAY, UNKNOWN), [true, true]);
        // Only the receiver of an ICMP error may have sent the packet that the error is about.
        let errors = |to: &str| {
            let why = UndecodedReason::Error(to.parse().expect("an address"));
            let found = found(Mac::NONE, Mac::NONE, why);
            assert_eq!(found.of([GW_1, RDSH_1]), None);
            [GW_1, RDSH_1].map(|host| found.errors_to(&[host]).is_some())
        };
        assert_eq!(errors(GW), [true, false]);
        assert_eq!(errors(STRANGER), [false, false]);
    }
}
