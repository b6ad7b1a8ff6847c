//! The results of an audit that has just run.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Baseline, Change, Comparison, ConfigurationFile, Explainer, OptionSetting};
use crate::classify::{Finding, Judgement, Policy};
use crate::model::{
    ActivityHistogram, Duplicates, FrameCounters, InputRecord, Loss, Nanos, Transport,
};

/// Everything that reports show about an audit that has just run.
pub struct AuditRun<'a> {
    /// The inputs, ordered by name.
    pub inputs: &'a [InputRecord],
    /// Numbers of frames that were read, that became observations, and that were skipped.
    pub account: &'a FrameCounters,
    /// The loss that the captures report.
    pub loss: Loss,
    /// Packets that were captured more than once.
    pub duplicates: Duplicates,
    /// Number of later fragments whose first fragment is not in the capture, by source, destination
    /// and protocol.
    pub orphans: &'a BTreeMap<(IpAddr, IpAddr, Transport), u64>,
    /// The part of the capture that the user selected.
    pub selection: &'a CaptureSelection,
    /// The findings of an earlier audit.
    pub known: Option<&'a Baseline>,
    /// The comparison with the earlier audit, if its complete result was given.
    pub comparison: Option<&'a Comparison>,
    /// Link types that are not decoded, by name, each with its number of frames.
    pub unknown_links: Vec<(String, u64)>,
    /// The link types for which the filter expression cannot be compiled, so that none of their
    /// frames match it.
    pub unfiltered_links: &'a [String],
    /// Descriptions of data that was dropped at the memory limit.
    pub trimmed: Vec<&'static str>,
    /// Descriptions of frames that became observations but whose content is unknown, each with the
    /// number of frames. The most frequent kind comes first.
    pub unread: Vec<(String, u64)>,
    /// Activity over time, which shows when frames were captured.
    pub timeline: &'a ActivityHistogram,
    /// Number of frames whose timestamps are not trusted and are therefore ignored.
    pub odd_stamps: u64,
    /// The policy; `None` if nothing was judged.
    pub policy: Option<&'a Policy>,
    /// The judgement. Without a policy, it contains only conversations.
    pub outcome: &'a Judgement,
    /// The explainer of the findings; `None` if nothing was judged.
    pub explainer: Option<Explainer<'a>>,
    /// The reasons for the exit code.
    pub exit_reasons: &'a [String],
    /// The findings that fail the audit: a severity, `new` or `never`.
    pub fail_on: &'static str,
    /// The options that differ from their defaults and affect the judgement.
    pub settings: &'a [OptionSetting],
    /// The configuration file that was read, if there was one.
    pub configuration: Option<&'a ConfigurationFile>,
}

impl AuditRun<'_> {
    /// Returns how a finding compares with the earlier audit, and why it differs. The reason is
    /// empty if the finding does not differ, or if the complete result of the earlier audit was not
    /// given. Returns `None` if there is no earlier audit or if nothing was judged.
    pub(super) fn change(&self, finding: &Finding) -> Option<(Change, String)> {
        let (known, explainer) = self.known.zip(self.explainer.as_ref())?;
        let compared = self.comparison.and_then(|all| all.of_finding(&explainer.id(finding)));
        Some(match compared {
            Some(compared) => (compared.change, compared.reason.clone()),
            None => (known.change(explainer, finding), String::new()),
        })
    }
}

/// The part of the capture that the user selected.
#[derive(Clone, Default, Debug)]
pub struct CaptureSelection {
    /// The filter expression that the user gave.
    pub filter: Option<String>,
    /// Start of the time range. Earlier frames were left out.
    pub since: Option<Nanos>,
    /// End of the time range. Frames at or after this time were left out.
    pub until: Option<Nanos>,
    /// The time that expiry dates are compared with. By default, a ruling uses the time of the
    /// conversation's last packet, and reports use the end of the capture.
    pub as_of: Option<Nanos>,
}
