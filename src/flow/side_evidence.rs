//! The list of the kinds of evidence that are kept beside the flows. Each stands here once, and its type in a file of
//! its own: workers, partitions, temporary files, the merged whole and stored states take it from this list.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::address_claims::{AddressBinding, AddressClaim};
use super::bytes::{read_part, write_part};
use super::duplicates::{DuplicateSampler, PacketRecord};
use super::fragments::FragmentTable;
use super::keyed::{EvidenceKey, EvidenceKind, Keyed, empty_parts};
use super::outer_flows::OuterFlow;
use super::state::DirectionStats;
use super::undecoded::UndecodedCounts;
use super::{FlowKey, HashSeed};
use crate::decode::Path;
use crate::model::{BoundedSet, Nanos, Sum, Transport};
use crate::payload::{AnnouncedPorts, DnsExchange, DnsQuery};

/// Source, destination and protocol of packets without ports, and how far they may be believed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct AddressPair {
    /// The source.
    pub src: IpAddr,
    /// The destination.
    pub dst: IpAddr,
    /// The protocol.
    pub transport: Transport,
    /// How far the packets may be believed.
    pub path: Path,
}

impl EvidenceKey for AddressPair {
    fn believed(self, believed: &dyn Fn(Path) -> Path) -> Self {
        Self { path: believed(self.path), ..self }
    }
}

/// The names by which a client was told an address: of each answer the name asked for, then its aliases, and who told
/// it.
pub type DnsNames = BTreeSet<(Vec<String>, IpAddr)>;

/// Who asked a resolver.
pub type ResolverClients = BoundedSet<IpAddr, 256>;

/// Addresses that advertised themselves as the master of a virtual one.
pub type VirtualAddressMasters = BoundedSet<IpAddr, 8>;

/// Sides that started a message which goes on in another segment.
pub type OpenMessages = Keyed<(FlowKey, u8), ()>;

/// Kinds of which some was left out, because there was more than is kept: by their place in the list, with what they
/// are called.
pub type TrimmedKinds = BTreeSet<(usize, &'static str)>;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident: $kind:ty $(= $words:literal)?,)+) => {
        /// Everything that is neither flow nor part of one. What has words for users is bounded.
        #[derive(Clone, Default, Debug, Serialize, Deserialize)]
        pub struct SideEvidence { $($(#[$doc])* pub(super) $name: $kind,)+ }

        impl SideEvidence {
            /// Takes in all of another one.
            pub(super) fn merge(&mut self, other: Self) {
                $(EvidenceKind::merge(&mut self.$name, other.$name);)+
            }

            /// Divides it among partitions.
            pub(super) fn split(self, seed: &HashSeed) -> Vec<Self> {
                let mut parts = empty_parts::<Self>();
                $(for (part, own) in parts.iter_mut().zip(EvidenceKind::split(self.$name, seed)) {
                    part.$name = own;
                })+
                parts
            }

            /// Returns whether there is nothing.
            pub(super) fn is_empty(&self) -> bool {
                true $(&& EvidenceKind::is_empty(&self.$name))+
            }

            /// Returns the bytes of memory that it holds, about.
            pub(super) fn memory(&self) -> usize {
                0 $(+ EvidenceKind::memory(&self.$name))+
            }

            /// Keeps at most `most` of each kind that is bounded. Returns how many entries of each were left out.
            fn cut(&mut self, most: usize) -> Vec<(&'static str, u64)> {
                vec![$($(($words, EvidenceKind::keep_least(&mut self.$name, most)),)?)+]
            }

            /// Moves what was seen on a path to the path that `believed` gives.
            pub(super) fn believe(&mut self, believed: &dyn Fn(Path) -> Path) {
                $(EvidenceKind::believe(&mut self.$name, believed);)+
            }

            /// Writes each kind with its name, so that a later version may have more of them.
            pub(super) fn save(&self, out: &mut dyn Write) -> io::Result<()> {
                $(if !EvidenceKind::is_empty(&self.$name) {
                    write_part(out, &stringify!($name))?;
                    write_part(out, &self.$name)?;
                })+
                write_part(out, &"")
            }

            /// Reads what [`SideEvidence::save`] wrote.
            ///
            /// # Errors
            ///
            /// [`io::ErrorKind::Unsupported`] where it holds a kind that this version does not know.
            pub(super) fn restore(from: &mut dyn Read) -> io::Result<Self> {
                let mut all = Self::default();
                loop {
                    match read_part::<String>(from)?.as_str() {
                        "" => return Ok(all),
                        $(stringify!($name) => all.$name = read_part(from)?,)+
                        other => return Err(io::Error::new(
                            io::ErrorKind::Unsupported,
                            format!("holds evidence of a kind that this version does not read ({other}); go on with the version that wrote it"),
                        )),
                    }
                }
            }
        }
    };
}

kinds! {
    /// Packets whose ports were not seen, and ICMP errors, by pair.
    loose: Keyed<AddressPair, DirectionStats> = "pairs of hosts with packets without ports",
    /// Address claims.
    claims: Keyed<AddressBinding, AddressClaim> = "address claims (ARP, neighbour discovery)",
    /// What clients were told of an address by DNS, by client and address.
    told: Keyed<(IpAddr, IpAddr, Path), DnsNames> = "names that were looked up",
    /// Who asked a resolver for names, the least addresses.
    askers: Keyed<(IpAddr, Path), ResolverClients> = "resolvers",
    /// TCP ports that endpoint mappers announced, by mapper and who asked it.
    announced: Keyed<(IpAddr, IpAddr, Path), AnnouncedPorts> = "announced ports",
    /// Who held virtual addresses, by address (VRRP).
    holders: Keyed<(IpAddr, Path), VirtualAddressMasters> = "virtual addresses",
    /// Later fragments whose first one is not in the capture, by pair.
    orphans: Keyed<AddressPair, Sum> = "pairs of hosts with orphaned fragments",
    /// The packets around tunnels; once tables have met they are flows.
    carriers: Keyed<OuterFlow, DirectionStats> = "tunnels",
    /// DNS lookups; once tables have met they are what was told.
    lookups: Keyed<DnsQuery, DnsExchange> = "lookups",
    /// Fragments; once tables have met they are part of their flows, or orphans.
    fragments: FragmentTable = "fragments",
    /// The destinations of tunnels that nobody stated, by the interface that saw them; of several the least.
    tunnels: Keyed<u16, BoundedSet<IpAddr, 1>>,
    /// Frames that could not be understood.
    unread: UndecodedCounts,
    /// Sides that started a message which goes on in another segment, where starts alone were remembered.
    starts: OpenMessages,
    /// What each packet leaves behind where copies are looked for.
    traces: Vec<PacketRecord>,
    /// A sample of the packets, which shows whether there are copies among them.
    sample: DuplicateSampler,
    /// Times at which the capture broke off: what answers came after them nobody saw.
    cuts: BTreeSet<Nanos>,
}

/// A lookup holds its name.
impl EvidenceKey for DnsQuery {
    const MEMORY: usize = 400;
}

impl SideEvidence {
    /// Keeps at most `most` of each kind that is bounded. Returns how many entries were left out, and notes their kinds.
    pub(super) fn keep_least(&mut self, most: usize, trimmed: &mut TrimmedKinds) -> u64 {
        let cut = self.cut(most).into_iter().enumerate().filter(|(_, (_, count))| *count > 0);
        cut.map(|(place, (words, count))| {
            trimmed.insert((place, words));
            count
        })
        .sum()
    }

    /// Returns packets whose ports were not seen, and ICMP errors, by pair, in order.
    pub fn loose(&self) -> impl Iterator<Item = (&AddressPair, &DirectionStats)> {
        self.loose.sorted()
    }

    /// Returns address claims (ARP, neighbour discovery), in order.
    pub fn claims(&self) -> impl Iterator<Item = (&AddressBinding, &AddressClaim)> {
        self.claims.sorted()
    }

    /// Returns what DNS told clients of addresses, by client, address and path, in order.
    pub fn told(&self) -> impl Iterator<Item = (&(IpAddr, IpAddr, Path), &DnsNames)> {
        self.told.sorted()
    }

    /// Returns who asked a resolver, on the wire itself.
    pub fn askers(&self, resolver: IpAddr) -> impl Iterator<Item = &IpAddr> {
        self.askers.get(&(resolver, Path::PLAIN)).into_iter().flat_map(ResolverClients::iter)
    }

    /// Returns TCP ports that endpoint mappers announced, by mapper, who asked it, and path, in order.
    pub fn announced(&self) -> impl Iterator<Item = (&(IpAddr, IpAddr, Path), &AnnouncedPorts)> {
        self.announced.sorted()
    }

    /// Returns who held virtual addresses (VRRP), by address and path, in order.
    pub fn holders(&self) -> impl Iterator<Item = (&(IpAddr, Path), &VirtualAddressMasters)> {
        self.holders.sorted()
    }

    /// Returns the number of later fragments whose first one is not in the capture, by pair, in order.
    pub fn orphans(&self) -> impl Iterator<Item = (&AddressPair, u64)> {
        self.orphans.sorted().map(|(pair, count)| (pair, count.0))
    }

    /// Returns the frames that could not be understood.
    pub fn unread(&self) -> &UndecodedCounts {
        &self.unread
    }

    /// Returns the times at which the capture broke off.
    pub fn cuts(&self) -> &BTreeSet<Nanos> {
        &self.cuts
    }

    /// Notes times at which the capture broke off.
    pub fn note_cuts(&mut self, cuts: impl IntoIterator<Item = Nanos>) {
        self.cuts.extend(cuts);
    }

    /// Takes out the sides that started a message which goes on in another segment.
    pub fn take_starts(&mut self) -> OpenMessages {
        std::mem::take(&mut self.starts)
    }

    /// Returns the interfaces on which tunnels were seen that nobody stated and that all lead to one destination.
    pub fn one_way_tunnels(&self) -> BTreeSet<u16> {
        let one_way = self.tunnels.sorted().filter(|(_, to)| !to.more() && to.len() == 1);
        one_way.map(|(interface, _)| *interface).collect()
    }

    /// Returns the sample of the packets.
    pub(super) fn sample(&self) -> &DuplicateSampler {
        &self.sample
    }
}
