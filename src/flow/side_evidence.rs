//! The list of the kinds of evidence that are kept in addition to flows. Each kind is listed only
//! here. Workers, partitions, temporary files, merged flows and saved states all take the kinds
//! from this list.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::address_claims::{AddressBinding, AddressClaim};
use super::bytes::{read_part, write_part};
use super::copied_amounts::CopiedAmounts;
use super::duplicates::{DuplicateSampler, PacketRecord};
use super::evidence_limit::{DroppedEntries, EvidenceLimit};
use super::fragments::FragmentTable;
use super::keyed::{EvidenceKey, EvidenceKind, Keyed, empty_parts};
use super::outer_flows::OuterFlow;
use super::packet_log::PacketLogs;
use super::row::{EvidenceRow, RowError, RowFacts, RowKind, from_record, to_record};
use super::sightings::{FlowGroup, SightedFrom};
use super::state::DirectionStats;
use super::trimmed_kinds::TrimmedKinds;
use super::undecoded::UndecodedCounts;
use super::window_losses::WindowLosses;
use super::{FlowKey, HashSeed};
use crate::decode::Path;
use crate::model::{BoundedSet, DuplicateCounts, Merge, Nanos, Sum, Transport};
use crate::payload::{AnnouncedPorts, DnsExchange, DnsQuery};

/// Source, destination, protocol and path of packets without ports.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct AddressPair {
    /// The source address.
    pub src: IpAddr,
    /// The destination address.
    pub dst: IpAddr,
    /// The protocol above IP.
    pub transport: Transport,
    /// The path of the packets, which determines whether they are trusted.
    pub path: Path,
}

impl EvidenceKey for AddressPair {
    fn with_path(self, new_path: &dyn Fn(Path) -> Path) -> Self {
        Self { path: new_path(self.path), ..self }
    }

    fn addresses(&self) -> [Option<IpAddr>; 2] {
        [Some(self.src), Some(self.dst)]
    }
}

/// The names that DNS answers gave a client for an address. Each entry is the requested name
/// followed by its aliases, and the resolver that answered.
pub type DnsNames = BTreeSet<(Vec<String>, IpAddr)>;

/// The clients that use a resolver.
pub type ResolverClients = BoundedSet<IpAddr, 256>;

/// The lowest addresses that advertised themselves as master of a virtual address (VRRP), as
/// earlier versions recorded them.
pub(super) type VirtualAddressMasters = BoundedSet<IpAddr, 8>;

/// The sides of flows that sent the start of a message that spans several segments.
pub type OpenMessages = Keyed<(FlowKey, u8), ()>;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident: $kind:ty $(= $words:literal)?,)+) => {
        /// All evidence that is neither a flow nor part of one. Kinds with a label for reports have
        /// a limited number of entries.
        #[derive(Clone, Default, Debug, Serialize, Deserialize)]
        pub struct SideEvidence { $($(#[$doc])* pub(super) $name: $kind,)+ }

        impl SideEvidence {
            /// Merges all evidence of `other`.
            pub(super) fn merge(&mut self, other: Self) {
                $(EvidenceKind::merge(&mut self.$name, other.$name);)+
            }

            /// Divides the evidence among partitions.
            pub(super) fn split(self, seed: &HashSeed) -> Vec<Self> {
                let mut parts = empty_parts::<Self>();
                $(for (part, own) in parts.iter_mut().zip(EvidenceKind::split(self.$name, seed)) {
                    part.$name = own;
                })+
                parts
            }

            /// Returns whether there is no evidence.
            pub(super) fn is_empty(&self) -> bool {
                true $(&& EvidenceKind::is_empty(&self.$name))+
            }

            /// Returns the approximate number of bytes of memory that the evidence takes.
            pub(super) fn memory(&self) -> usize {
                0 $(+ EvidenceKind::memory(&self.$name))+
            }

            /// The names of the kinds whose entries are limited, with their labels for reports, in
            /// the order of the list.
            const LIMITED_KINDS: &[(&'static str, &'static str)] =
                &[$($((stringify!($name), $words),)?)+];

            /// Drops entries of the kinds in [`Self::LIMITED_KINDS`]. Returns the entries that were
            /// dropped from each of them.
            fn cut(&mut self, limit: &EvidenceLimit<'_>) -> Vec<DroppedEntries> {
                vec![$($({
                    let _ = $words;
                    EvidenceKind::keep_within(&mut self.$name, limit)
                },)?)+]
            }

            /// Moves evidence from each path to the path that `new_path` returns.
            pub(super) fn map_paths(&mut self, new_path: &dyn Fn(Path) -> Path) {
                $(EvidenceKind::map_paths(&mut self.$name, new_path);)+
            }

            /// Writes each kind that has evidence, preceded by its name, so that later versions can
            /// add kinds.
            pub(super) fn save(&self, out: &mut dyn Write) -> io::Result<()> {
                $(if !EvidenceKind::is_empty(&self.$name) {
                    write_part(out, &stringify!($name))?;
                    write_part(out, &self.$name)?;
                })+
                write_part(out, &"")
            }

            /// The names of the kinds, in the order of the list.
            pub(super) const KINDS: &[&'static str] = &[$(stringify!($name)),+];

            /// Passes the evidence to `take` as rows. A [`PacketRecord`] is not passed, because it
            /// depends on the hash seed of the run.
            pub(super) fn each_row(
                self,
                take: &mut dyn FnMut(EvidenceRow) -> io::Result<()>,
            ) -> io::Result<()> {
                let mut index = 0..;
                $({
                    let kind = RowKind::of_side_evidence(index.next().unwrap_or_default());
                    for (bucket, key, part) in EvidenceKind::into_rows(self.$name) {
                        take(EvidenceRow { kind, bucket, key, record: to_record(&part) })?;
                    }
                })+
                Ok(())
            }

            /// Merges the record of a row of this kind. Returns the bucket and the key that the row
            /// must have.
            pub(super) fn take_record(
                &mut self,
                kind: &str,
                record: &[u8],
            ) -> Result<(u16, Vec<u8>), RowError> {
                match kind {
                    $(stringify!($name) => {
                        let (place, part) = read_row(record)?;
                        EvidenceKind::merge(&mut self.$name, part);
                        Ok(place)
                    })+
                    _ => Err(RowError::Damaged),
                }
            }

            /// Reads evidence that [`SideEvidence::save`] wrote.
            ///
            /// # Errors
            ///
            /// Returns [`io::ErrorKind::Unsupported`] if the input contains a kind that this
            /// version does not know, and another error if the input cannot be read or is damaged.
            pub(super) fn restore(from: &mut dyn Read) -> io::Result<Self> {
                let mut all = Self::default();
                loop {
                    match read_part::<String>(from)?.as_str() {
                        "" => return Ok(all),
                        $(stringify!($name) => all.$name = read_part(from)?,)+
                        other => return Err(io::Error::new(
                            io::ErrorKind::Unsupported,
                            format!("the file contains evidence of a kind that this version cannot read ({other}); use the version that wrote it"),
                        )),
                    }
                }
            }
        }
    };
}

// The names of the kinds are written to saved states and rows, and must not change.
kinds! {
    /// Packets whose ports were not seen, and ICMP errors, by pair of addresses.
    loose: Keyed<AddressPair, DirectionStats> = "pairs of hosts that exchanged packets without ports",
    /// Claims that an IP address belongs to a hardware address.
    claims: Keyed<AddressBinding, AddressClaim> = "address claims (ARP, neighbour discovery)",
    /// The names that DNS answers gave for an address, by client and address.
    told: Keyed<(IpAddr, IpAddr, Path), DnsNames> = "names that were looked up",
    /// The clients that sent queries to each resolver. The lowest client addresses are kept.
    askers: Keyed<(IpAddr, Path), ResolverClients> = "resolvers",
    /// TCP ports that endpoint mappers announced, by mapper and client.
    announced: Keyed<(IpAddr, IpAddr, Path), AnnouncedPorts> = "announced ports",
    /// The lowest of the hosts that were master of each virtual address (VRRP), as earlier versions
    /// recorded them.
    holders: Keyed<(IpAddr, Path), VirtualAddressMasters> = "virtual addresses",
    /// The number of later fragments whose first fragment is not in the capture, by pair of
    /// addresses.
    orphans: Keyed<AddressPair, Sum> = "pairs of hosts with orphaned fragments",
    /// The outer packets of tunnels. They become flows when tables are merged.
    carriers: Keyed<OuterFlow, DirectionStats> = "tunnels",
    /// DNS lookups. They become `told` and `askers` when tables are merged.
    lookups: Keyed<DnsQuery, DnsExchange> = "lookups",
    /// Fragments. They become part of their flows, or orphans, when tables are merged.
    fragments: FragmentTable = "fragments",
    /// The destinations of undeclared tunnels, by interface. If an interface has several, the
    /// lowest is kept.
    tunnels: Keyed<u16, BoundedSet<IpAddr, 1>>,
    /// Frames that could not be decoded.
    unread: UndecodedCounts,
    /// Sides that sent the start of a message that spans several segments, if such sides are
    /// recorded.
    starts: OpenMessages,
    /// A record of each packet, if duplicates must be found.
    traces: Vec<PacketRecord>,
    /// Logs of all packets, if duplicates must be found after rows are merged.
    packets: PacketLogs,
    /// A sample of the packets, which shows whether there are duplicates among them.
    sample: DuplicateSampler,
    /// Times at which the capture was interrupted. Replies to requests from shortly before such a
    /// time may be missing.
    cuts: BTreeSet<Nanos>,
    /// The vantage points that saw flows. Only inputs whose vantage point has a name add entries.
    sightings: Keyed<FlowGroup, SightedFrom>,
    /// The numbers of duplicate packets and bytes in each flow, if an earlier run found them.
    copies: Keyed<FlowKey, CopiedAmounts>,
    /// The sources of undeclared tunnels, by interface. If an interface has several, the lowest is
    /// kept.
    tunnel_sources: Keyed<u16, BoundedSet<IpAddr, 1>>,
    /// The hosts that were master of virtual addresses (VRRP), by virtual address and host.
    masters: Keyed<(IpAddr, IpAddr, Path), ()> = "virtual addresses",
    /// The numbers of duplicate packets and bytes that each flow on [`Path::PLAIN`] has in addition
    /// to `copies` if the only undeclared tunnel is a mirror, as an earlier run found them.
    mirror_copies: Keyed<FlowKey, CopiedAmounts>,
    /// The loss of the windows of a live audit.
    losses: WindowLosses,
    /// The kinds from which entries were dropped.
    trimmed: TrimmedKinds,
}

/// The kinds that may show how traffic between two hosts passed without being recognized, or that
/// another machine sent it.
const HIDING_KINDS: [&str; 6] = ["loose", "claims", "holders", "orphans", "fragments", "masters"];

/// A lookup takes more memory than other keys because it contains a name.
impl EvidenceKey for DnsQuery {
    const MEMORY: usize = 400;

    fn addresses(&self) -> [Option<IpAddr>; 2] {
        [Some(self.client), Some(self.resolver)]
    }
}

/// Reads the record of a row and checks that it is one entry in canonical form. Returns the bucket
/// and the key, and the evidence.
fn read_row<K: EvidenceKind>(record: &[u8]) -> Result<((u16, Vec<u8>), K), RowError> {
    let mut rows = from_record::<K>(record)?.canonical().into_rows();
    match (rows.pop(), rows.is_empty()) {
        (Some((bucket, key, part)), true) if to_record(&part) == record => {
            Ok(((bucket, key), part))
        }
        _ => Err(RowError::Damaged),
    }
}

impl SideEvidence {
    /// Returns facts from evidence that is one row.
    pub(super) fn facts(&self) -> RowFacts {
        if let Some((pair, sent)) = self.loose.sorted().next() {
            return RowFacts {
                addresses: Some([pair.src, pair.dst]),
                transport: Some(pair.transport),
                packets: [sent.sent.packets.0, 0],
                bytes: [sent.sent.bytes.0, 0],
                flags: [sent.flags.0, 0],
                first: sent.first,
                last: sent.last,
                accounted: sent.sent.packets.0,
                ..RowFacts::default()
            };
        }
        if let Some((lookup, _)) = self.lookups.sorted().next() {
            return RowFacts {
                addresses: Some([lookup.client, lookup.resolver]),
                ports: [lookup.port, 0],
                name: Some(lookup.name.clone()),
                ..RowFacts::default()
            };
        }
        self.fragments.facts().unwrap_or_default()
    }

    /// Drops entries of bounded kinds beyond a limit, and records the kinds from which entries were
    /// dropped. Returns the number of these entries.
    pub(super) fn keep_within(&mut self, limit: &EvidenceLimit<'_>) -> u64 {
        let cut = self.cut(limit);
        for ((kind, _), dropped) in Self::LIMITED_KINDS.iter().zip(&cut) {
            self.trimmed.add(kind, *dropped);
        }
        cut.iter().map(|dropped| dropped.count).sum()
    }

    /// Returns the descriptions of the kinds from which entries were dropped, in the order of the
    /// list.
    pub fn trimmed(&self) -> impl Iterator<Item = &'static str> {
        let kinds = Self::LIMITED_KINDS.iter();
        kinds.filter(|(name, _)| self.trimmed.contains(name)).map(|(_, words)| *words)
    }

    /// Returns whether entries about hosts of the inventory were dropped that may have shown how
    /// traffic of these hosts passed without being recognized.
    pub fn lacks_traffic(&self) -> bool {
        HIDING_KINDS.iter().any(|kind| self.trimmed.includes_hosts(kind))
    }

    /// Returns the packets whose ports were not seen, and ICMP errors, sorted by pair of addresses.
    pub fn portless(&self) -> impl Iterator<Item = (&AddressPair, &DirectionStats)> {
        self.loose.sorted()
    }

    /// Returns the address claims (ARP, neighbour discovery), sorted by binding.
    pub fn claims(&self) -> impl Iterator<Item = (&AddressBinding, &AddressClaim)> {
        self.claims.sorted()
    }

    /// Returns the names that DNS answers gave for addresses, sorted by client, address and path.
    pub fn dns_names(&self) -> impl Iterator<Item = (&(IpAddr, IpAddr, Path), &DnsNames)> {
        self.told.sorted()
    }

    /// Returns the clients that sent queries to a resolver on [`Path::PLAIN`].
    pub fn resolver_clients(&self, resolver: IpAddr) -> impl Iterator<Item = &IpAddr> {
        self.askers.get(&(resolver, Path::PLAIN)).into_iter().flat_map(ResolverClients::iter)
    }

    /// Returns the TCP ports that endpoint mappers announced, sorted by mapper, client and path.
    pub fn announced(&self) -> impl Iterator<Item = (&(IpAddr, IpAddr, Path), &AnnouncedPorts)> {
        self.announced.sorted()
    }

    /// Returns the hosts that were master of each virtual address (VRRP) on [`Path::PLAIN`].
    pub fn virtual_address_masters(&self) -> BTreeMap<IpAddr, BTreeSet<IpAddr>> {
        let earlier = self.holders.iter().filter(|((_, path), _)| *path == Path::PLAIN);
        let earlier =
            earlier.flat_map(|((address, _), hosts)| hosts.iter().map(|host| (*address, *host)));
        let own = self.masters.iter().filter(|((.., path), ())| *path == Path::PLAIN);
        let own = own.map(|((address, host, _), ())| (*address, *host));
        let mut masters = BTreeMap::<_, BTreeSet<_>>::new();
        for (address, host) in earlier.chain(own) {
            masters.entry(address).or_default().insert(host);
        }
        masters
    }

    /// Returns, for each pair of addresses in ascending order, the number of later fragments whose
    /// first fragment is not in the capture.
    pub fn orphans(&self) -> impl Iterator<Item = (&AddressPair, u64)> {
        self.orphans.sorted().map(|(pair, count)| (pair, count.0))
    }

    /// Returns the frames that could not be decoded.
    pub fn undecoded(&self) -> &UndecodedCounts {
        &self.unread
    }

    /// Returns the times at which the capture was interrupted.
    pub fn cuts(&self) -> &BTreeSet<Nanos> {
        &self.cuts
    }

    /// Adds times at which the capture was interrupted.
    pub fn note_cuts(&mut self, cuts: impl IntoIterator<Item = Nanos>) {
        self.cuts.extend(cuts);
    }

    /// Returns the loss of the windows of a live audit.
    pub fn losses(&self) -> &WindowLosses {
        &self.losses
    }

    /// Adds a window from `from` to `to`, which lost this share of its frames, from 0 to 1.
    pub fn note_loss(&mut self, from: Nanos, to: Nanos, share: f64) {
        self.losses.add(from, to, share);
    }

    /// Removes and returns the sides that sent the start of a message that spans several segments.
    pub fn take_starts(&mut self) -> OpenMessages {
        std::mem::take(&mut self.starts)
    }

    /// Returns the interfaces with undeclared tunnels if all of these lead from one address to one
    /// other, or no interfaces otherwise.
    pub fn only_tunnel(&self) -> BTreeSet<u16> {
        let is_one = |ends: &Keyed<u16, BoundedSet<IpAddr, 1>>| {
            let mut all = BoundedSet::new();
            ends.iter().for_each(|(_, own)| all.merge(own));
            !all.more()
        };
        if !is_one(&self.tunnels) || !is_one(&self.tunnel_sources) {
            return BTreeSet::new();
        }
        self.tunnels.sorted().map(|(interface, _)| *interface).collect()
    }

    /// Records that undeclared tunnels whose sources an earlier version did not record may have
    /// several.
    pub(super) fn note_unknown_tunnel_sources(&mut self) {
        for (interface, _) in self.tunnels.iter() {
            if !self.tunnel_sources.contains(interface) {
                let sources = self.tunnel_sources.entry(*interface);
                for any in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST] {
                    sources.insert(any.into());
                }
            }
        }
    }

    /// Returns the vantage points that saw flows, in no particular order.
    pub fn sightings(&self) -> impl Iterator<Item = (&FlowGroup, &SightedFrom)> {
        self.sightings.iter()
    }

    /// Returns the vantage points that saw a group of flows; `None` if none of them has a name.
    pub fn sighted_from(&self, group: &FlowGroup) -> Option<&SightedFrom> {
        self.sightings.get(group)
    }

    /// Returns the number of duplicates of each kind in a sample of the packets.
    pub fn duplicate_counts(&self) -> DuplicateCounts {
        self.sample.counts()
    }

    /// Returns the sample of packets from which duplicates are estimated.
    pub(super) fn sample(&self) -> &DuplicateSampler {
        &self.sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_that_may_show_hidden_traffic_are_limited() {
        let is_limited = |kind| SideEvidence::LIMITED_KINDS.iter().any(|(name, _)| *name == kind);
        assert!(HIDING_KINDS.into_iter().all(is_limited));
    }

    #[test]
    fn one_tunnel_has_one_sender_and_one_destination_on_all_interfaces() {
        let address = |last: u8| IpAddr::from([192, 0, 2, last]);
        let with = |tunnels: &[(u16, u8, u8)]| {
            let mut side = SideEvidence::default();
            for (interface, src, dst) in tunnels {
                side.tunnels.entry(*interface).insert(address(*dst));
                side.tunnel_sources.entry(*interface).insert(address(*src));
            }
            side
        };
        let only =
            |tunnels: &[(u16, u8, u8)]| with(tunnels).only_tunnel().into_iter().collect::<Vec<_>>();
        assert_eq!(only(&[(2, 1, 9)]), [2]);
        assert_eq!(only(&[(0, 1, 9), (1, 1, 9)]), [0, 1]);
        for several in [[(0, 1, 9), (0, 2, 9)], [(0, 1, 9), (1, 2, 9)], [(0, 1, 9), (1, 1, 8)]] {
            assert_eq!(only(&several), [0; 0], "{several:?}");
        }
        // Earlier versions recorded no sources.
        let mut earlier = with(&[(0, 1, 9)]);
        earlier.tunnel_sources = Keyed::default();
        earlier.note_unknown_tunnel_sources();
        assert!(earlier.only_tunnel().is_empty());
    }
}
