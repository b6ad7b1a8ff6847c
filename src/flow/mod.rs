//! Observations become flow states, and flow states merge.
//!
//! Workers fill private [`Tables`], in hash partitions from the start; when they end, or grow over their
//! share of memory, equal partitions meet in a [`Meeting`], in memory or in temporary files. No state holds a conclusion: who
//! opened a flow is asked of the merged whole.

mod copies;
mod dense;
mod fragments;
mod heard;
mod idle;
mod index;
mod key;
mod links;
mod meeting;
mod memory;
mod state;
mod table;
mod unread;
mod windows;

pub use heard::Heard;
pub use key::FlowKey;
pub use meeting::{
    Askers, Beside, Carrier, Claim, Claimant, Flows, Holders, Keep, Lookups, Meeting, PairKey,
    Parts, Pending, Shard, Tables,
};
pub use state::{Amount, Errors, Extra, FlowState, IcmpError, Opening, Side};
pub use table::Flow;
pub use unread::{Unread, Unreadable, Unreads};
pub use windows::Fold;

/// The keyed hash of one run. Its seed is random, so that nobody can choose addresses and ports that
/// collide; no result depends on it.
pub type Seed = ahash::RandomState;

// The facts of names, for the rooms that read flows.
pub use crate::names::{ENDPOINT_MAPPER, Hello, Lookup, Ports};

// The words of observations that states are made of, for the rooms that read states.
pub use crate::decode::{ErrorKind, Link, Outer, Path, Tag, TagKind, icmp_paired, sign};
