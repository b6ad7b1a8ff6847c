//! A side's packets by the link they were seen on: where a capture shows the same packets at several
//! places (before and after a router, in two VLANs), each place has amounts of its own.

use serde::{Deserialize, Serialize};

use super::Amount;
use crate::decode::Link;
use crate::model::Merge;

/// Links kept apart for a side.
const KEPT: usize = 16;

/// Amounts by link: the least links one by one, the rest together.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Views {
    /// Sorted by link.
    kept: Vec<(Link, Amount)>,
    rest: Amount,
}

impl Views {
    /// Takes in packets seen on `link`.
    pub(super) fn add(&mut self, link: &Link, amount: &Amount) {
        match self.kept.binary_search_by(|(kept, _)| kept.cmp(link)) {
            Ok(position) => self.kept[position].1.merge(amount),
            Err(position) => {
                self.kept.insert(position, (*link, *amount));
                // Whatever the order of arrival, the least links stay and the rest of them add up.
                if self.kept.len() > KEPT
                    && let Some((_, amount)) = self.kept.pop()
                {
                    self.rest.merge(&amount);
                }
            }
        }
    }

    /// The links that are kept apart, in order.
    pub(super) fn links(&self) -> impl Iterator<Item = &Link> {
        self.kept.iter().map(|(link, _)| link)
    }

    /// Takes copies out of what was seen on the link that `is_it`.
    pub(super) fn remove(&mut self, is_it: impl Fn(&Link) -> bool, copies: &Amount) {
        match self.kept.iter_mut().find(|(link, _)| is_it(link)) {
            Some((_, amount)) => amount.remove(copies),
            None => self.rest.remove(copies),
        }
    }

    /// The most that was seen at one place.
    pub(super) fn largest(&self) -> Amount {
        self.kept.iter().map(|(_, amount)| *amount).max().unwrap_or_default().max(self.rest)
    }
}

impl Merge for Views {
    fn merge(&mut self, other: &Self) {
        for (link, amount) in &other.kept {
            self.add(link, amount);
        }
        self.rest.merge(&other.rest);
    }
}
