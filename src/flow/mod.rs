//! Observations become flow states, and flow states merge.
//!
//! Workers fill private [`Tables`], in hash partitions from the start; when they end, or grow over their
//! share of memory, equal partitions meet in a [`Meeting`], in memory or in temporary files. No state holds a conclusion: who
//! opened a flow is asked of the merged whole.

mod bytes;
mod carriers;
mod claims;
mod copies;
mod dense;
mod evidence;
mod flows;
mod fold;
mod fragments;
mod heard;
mod idle;
mod index;
mod key;
mod keyed;
mod links;
mod meeting;
mod memory;
mod partitions;
mod saved;
mod settle;
mod side;
mod spill;
mod state;
mod table;
mod tables;
mod unread;
mod windows;

pub use carriers::Carrier;
pub use claims::{Claim, Claimant};
pub use evidence::{Evidence, FlowRecord, SideRecord};
pub use flows::Flows;
pub use fold::Fold;
pub use heard::Heard;
pub use key::FlowKey;
pub use keyed::{Key, Keyed};
pub use meeting::Meeting;
pub use partitions::{Partitions, Shard};
pub use saved::Layout;
pub use settle::Pending;
pub use side::{Holders, Pair, SideEvidence, Starts, Told, Trimmed};
pub use state::{Amount, Errors, Extra, FlowState, IcmpError, Opening, Side};
pub use table::Flow;
pub use tables::{Keep, Parts, Tables};
pub use unread::{Unread, Unreadable, Unreads};

/// The keyed hash of one run. Its seed is random, so that nobody can choose addresses and ports that
/// collide; no result depends on it.
pub type Seed = ahash::RandomState;

// The facts of names, for the rooms that read flows.
pub use crate::payload::{
    AnnouncedPorts, DnsQuery, ENDPOINT_MAPPER, PayloadFact, ServerNameRequest, StreamPrefix,
};

// The words of observations that states are made of, for the rooms that read states.
pub use crate::decode::{
    EncapTag, EncapTagKind, Encapsulation, ErrorKind, Path, TunnelEndpoints, flag, icmp_paired,
};
