//! Recognizes differences that exist only because one capture shows more of the traffic.

use super::cause::{CauseText, ChangeCause, ChangeCauses};
use super::side::Side;
use crate::classify::State;

impl ChangeCauses<'_, '_> {
    /// Describes that only one of the audits shows the outcome of the traffic; `None` if both or
    /// neither do. A one-sided state proves neither success nor failure, so the traffic may be the
    /// same.
    pub fn visibility(&self, was: &str, is: &str) -> Option<CauseText> {
        let is_one_sided = |state: &str| State::parse(state).map(|s| s == State::OneSided);
        let (before, now) = is_one_sided(was).zip(is_one_sided(is))?;
        let (cause, which, side) = match (before, now) {
            (false, true) => (ChangeCause::LessVisible, "new", self.new),
            (true, false) => (ChangeCause::MoreVisible, "old", self.old),
            _ => return None,
        };
        let words = format!(
            "{}: the state was {was} and is now {is}; in the {which} capture, {}",
            cause.name().replace('-', " "),
            why_one_sided(side)
        );
        Some((cause, words))
    }
}

/// Returns why an audit shows only one direction of some traffic.
pub(super) fn why_one_sided(side: &Side<'_>) -> String {
    match &side.result.head.filter {
        Some(filter) => format!("only one direction passed the filter {filter}"),
        None if side.result.head.conditions.is_filtered => {
            "the capture was filtered, and only one direction is visible".to_owned()
        }
        None => "only one direction is visible".to_owned(),
    }
}
