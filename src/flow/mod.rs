//! Collects observations into flow states and merges flow states.
//!
//! Each worker fills its own [`WorkerTables`], which are divided into hash partitions from the
//! start. When a worker ends or exceeds its share of memory, its partitions are added to a
//! [`FlowStore`], in memory or in temporary files. States do not contain conclusions: the direction
//! of a flow, for example, is determined from the merged evidence.

mod address_claims;
mod aggregation;
mod bytes;
mod chunked_vec;
mod compact_record;
mod copied_amounts;
mod decided;
mod duplicates;
mod evidence_limit;
mod finish;
mod flow_facts;
mod flow_rows;
mod fragments;
mod idle;
mod index;
mod interner;
mod key;
mod keyed;
mod memory;
mod merged;
mod outer_flows;
mod packed;
mod packet_log;
mod partitions;
mod records;
mod row;
mod rows;
mod saved;
mod server_names;
mod side_evidence;
mod sighting_rows;
mod sightings;
mod sparse;
mod spill;
mod state;
mod store;
mod table;
mod trimmed_kinds;
mod undecoded;
mod varint;
mod window_losses;
mod window_rows;
mod windows;
mod worker_tables;

pub use address_claims::{AddressBinding, AddressClaim, EDGE_WORDS, WORD_S};
pub use aggregation::AggregationLevel;
pub use copied_amounts::CopiedAmounts;
pub use decided::{DecidedEvidence, Decision};
pub use evidence_limit::EvidenceLimit;
pub use finish::{WindowCarryOver, WindowEnd};
pub use key::{FlowKey, PARTITIONS};
pub use keyed::{EvidenceKey, Keyed};
pub use merged::MergedFlows;
pub use outer_flows::OuterFlow;
pub use partitions::{FlowPartitions, PartitionFlows};
pub use records::{DirectionRecord, Evidence, FlowRecord};
pub use row::{BUCKETS, EvidenceRow, RowError, RowFacts, RowKind, RowRef, RowTrust};
pub use rows::MergedRows;
pub use saved::StateLayout;
pub use server_names::{SegmentRelease, ServerNameEvidence};
pub use side_evidence::{AddressPair, DnsNames, OpenMessages, SideEvidence};
pub use sightings::{FlowGroup, SightedFrom};
pub use state::{Amount, DirectionStats, FlowState, IcmpError, IcmpErrors, Opening, RareEvidence};
pub use store::FlowStore;
pub use table::{Flow, LOOKUP_BATCH};
pub use undecoded::{UndecodedCounts, UndecodedFrames, UndecodedReason};
pub use window_losses::WindowLosses;
pub use window_rows::RowPieces;
pub use worker_tables::{PacketRetention, PrefixRetention, Retention, WorkerTables};

/// The keyed hash function of one run. Its seed is random, so an attacker cannot choose addresses
/// and ports that collide. No result depends on the seed.
pub type HashSeed = ahash::RandomState;

// Items of `payload`, re-exported for the modules that read flows.
pub(crate) use crate::payload::{AnnouncedPorts, ENDPOINT_MAPPER, ServerNameRequest, StreamPrefix};

// Items of `decode`, re-exported for the modules that read flows.
pub(crate) use crate::decode::{
    EncapTag, EncapTagKind, Encapsulation, ErrorKind, Path, TunnelEndpoints, TunnelUse, flag,
    icmp_paired,
};
