//! The numbers of duplicate packets and bytes that an earlier run found, as evidence about flows.

use serde::{Deserialize, Serialize};

use super::FlowKey;
use super::keyed::EvidenceKey;
use super::state::Amount;
use crate::model::Merge;

/// For each side of a flow, the numbers of duplicate packets and bytes that the captures contain.
/// They are subtracted if counters are corrected.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CopiedAmounts(pub [Amount; 2]);

impl Merge for CopiedAmounts {
    fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(mine, theirs)| mine.merge(theirs));
    }
}

/// A flow, as the key of evidence about it.
impl EvidenceKey for FlowKey {
    fn bucket(&self, _bytes: &[u8]) -> u16 {
        Self::bucket(self)
    }
}
