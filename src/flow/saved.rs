//! Saves and restores merged evidence. All layouts that earlier versions wrote can be restored.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::IpAddr;

use serde::Deserialize;

use super::AddressClaim;
use super::address_claims::AddressBinding;
use super::bytes::{read_bytes, read_part, write_bytes, write_part};
use super::duplicates::DuplicateSampler;
use super::evidence_limit::EvidenceLimit;
use super::key::PARTITIONS;
use super::merged::MergedFlows;
use super::side_evidence::{
    AddressPair, DnsNames, ResolverClients, SideEvidence, VirtualAddressMasters,
};
use super::state::DirectionStats;
use super::store::FlowStore;
use super::table::FlowTable;
use super::undecoded::UndecodedCounts;
use super::worker_tables::Retention;
use crate::decode::{Encapsulation, Path};
use crate::model::{BoundedSet, Nanos, Sum};
use crate::payload::AnnouncedPorts;

/// A layout of saved evidence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StateLayout {
    /// The kinds of side evidence that earlier versions had, in a fixed order.
    Fixed,
    /// Each kind of side evidence with its name. This is the current layout.
    Named,
}

impl MergedFlows {
    /// Writes the side evidence, and all flows partition by partition, in the layout
    /// [`StateLayout::Named`].
    ///
    /// # Errors
    ///
    /// Returns an error if the output cannot be written, or if idle flows cannot be read.
    pub fn save(&self, out: &mut dyn Write) -> io::Result<()> {
        write_part(out, &self.store.interner.all())?;
        self.side.save(out)?;
        // Idle flows are written separately, so that they are restored as idle.
        for (number, part) in self.parts.iter().enumerate() {
            let idle = self.load(number)?.flows;
            for table in [&idle, &part.flows] {
                write_bytes(out, &table.to_bytes().map_err(io::Error::other)?)?;
            }
        }
        Ok(())
    }

    /// Restores evidence that [`MergedFlows::save`] wrote, into `store`.
    ///
    /// # Errors
    ///
    /// Returns [`io::ErrorKind::Unsupported`] if a later version wrote the input and it contains an
    /// unknown kind of evidence, and another error if the input is incomplete or damaged.
    pub fn restore(store: FlowStore, layout: StateLayout, from: &mut dyn Read) -> io::Result<Self> {
        let links: Vec<Encapsulation> = read_part(from)?;
        store.interner.restore(&links);
        let mut side = match layout {
            StateLayout::Fixed => read_part::<FixedLayout>(from)?.into(),
            StateLayout::Named => SideEvidence::restore(from)?,
        };
        side.note_unknown_tunnel_sources();
        let seed = store.seed.clone();
        let mut flows = store.finish(&Retention::default(), 1, &EvidenceLimit::NONE)?;
        let mut links = flows.store.links();
        for _ in 0..PARTITIONS {
            let mut read_table = || {
                let bytes = read_bytes(from)?;
                let table = FlowTable::from_bytes(&seed, &bytes).map_err(io::Error::other)?;
                // The partitions depend on the seed, which differs in each run, so the flows are
                // divided again.
                io::Result::Ok(table.into_partitions(&seed))
            };
            let idle = read_table()?;
            let own = read_table()?;
            flows.add_idle(idle, &mut links);
            for (number, part) in own.into_iter().enumerate() {
                flows.parts[number].flows.merge(part, &seed, &mut links);
            }
        }
        flows.compact_idle()?;
        flows.links = flows.store.interner.all();
        flows.side = side;
        Ok(flows)
    }
}

/// The side evidence in [`StateLayout::Fixed`].
#[derive(Deserialize)]
struct FixedLayout {
    loose: BTreeMap<AddressPair, DirectionStats>,
    claims: BTreeMap<AddressBinding, AddressClaim>,
    unread: UndecodedCounts,
    tunnels: BTreeMap<u16, BoundedSet<IpAddr, 1>>,
    askers: BTreeMap<(IpAddr, Path), ResolverClients>,
    orphans: BTreeMap<AddressPair, Sum>,
    told: BTreeMap<(IpAddr, IpAddr, Path), DnsNames>,
    announced: BTreeMap<(IpAddr, IpAddr, Path), AnnouncedPorts>,
    holders: BTreeMap<(IpAddr, Path), VirtualAddressMasters>,
    cuts: BTreeSet<Nanos>,
    sample: DuplicateSampler,
}

impl From<FixedLayout> for SideEvidence {
    fn from(fixed: FixedLayout) -> Self {
        Self {
            loose: fixed.loose.into_iter().collect(),
            claims: fixed.claims.into_iter().collect(),
            unread: fixed.unread,
            tunnels: fixed.tunnels.into_iter().collect(),
            askers: fixed.askers.into_iter().collect(),
            orphans: fixed.orphans.into_iter().collect(),
            told: fixed.told.into_iter().collect(),
            announced: fixed.announced.into_iter().collect(),
            holders: fixed.holders.into_iter().collect(),
            cuts: fixed.cuts,
            sample: fixed.sample,
            ..Self::default()
        }
    }
}
