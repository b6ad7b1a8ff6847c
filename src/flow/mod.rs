//! Observations become flow states, and flow states merge.
//!
//! Workers fill private [`WorkerTables`], in hash partitions from the start; when they end, or grow over their
//! share of memory, equal partitions meet in a [`FlowStore`], in memory or in temporary files. No state holds a conclusion: who
//! opened a flow is asked of the merged whole.

mod address_claims;
mod aggregation;
mod bytes;
mod chunked_vec;
mod duplicates;
mod finish;
mod fragments;
mod idle;
mod index;
mod interner;
mod key;
mod keyed;
mod memory;
mod merged;
mod outer_flows;
mod partitions;
mod records;
mod saved;
mod server_names;
mod side_evidence;
mod spill;
mod state;
mod store;
mod table;
mod undecoded;
mod windows;
mod worker_tables;

pub use address_claims::{AddressBinding, AddressClaim};
pub use aggregation::AggregationLevel;
pub use finish::WindowCarryOver;
pub use key::FlowKey;
pub use keyed::{EvidenceKey, Keyed};
pub use merged::MergedFlows;
pub use outer_flows::OuterFlow;
pub use partitions::{FlowPartitions, PartitionFlows};
pub use records::{DirectionRecord, Evidence, FlowRecord};
pub use saved::StateLayout;
pub use server_names::ServerNameEvidence;
pub use side_evidence::{
    AddressPair, DnsNames, OpenMessages, SideEvidence, TrimmedKinds, VirtualAddressMasters,
};
pub use state::{Amount, DirectionStats, FlowState, IcmpError, IcmpErrors, Opening, RareEvidence};
pub use store::FlowStore;
pub use table::Flow;
pub use undecoded::{UndecodedCounts, UndecodedFrames, UndecodedReason};
pub use worker_tables::{PrefixRetention, Retention, WorkerTables};

/// The keyed hash of one run. Its seed is random, so that nobody can choose addresses and ports that
/// collide; no result depends on it.
pub type HashSeed = ahash::RandomState;

// The facts of names, for the rooms that read flows.
pub use crate::payload::{
    AnnouncedPorts, DnsQuery, ENDPOINT_MAPPER, PayloadFact, ServerNameRequest, StreamPrefix,
};

// The words of observations that states are made of, for the rooms that read states.
pub use crate::decode::{
    EncapTag, EncapTagKind, Encapsulation, ErrorKind, Path, TunnelEndpoints, flag, icmp_paired,
};
