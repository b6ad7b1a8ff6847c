//! Builds the head of a result (everything except its tables) from an audit that has just run.

use std::collections::BTreeMap;

use serde_json::Value;

use super::head::{
    Accounting, CaptureWindow, Conditions, ConversationCounts, Copies, CopySample, FindingCounts,
    Fragments, Head, Input, InventoryFile, JudgedBy, LossCounts, LostFrames, Orphans, SCHEMA,
    SCHEMA_MINOR, SensorWatch, SourceLoss, StatedCoverage, Summary, Tool, ViewCounts,
};
use super::run::AuditRun;
use super::since::changes;
use super::{HostWatch, Site, Time, exception_use, summary_notes};
use crate::classify::{Code, CoverageStatement, Policy, Severity, VantageTimes};
use crate::model::{Duplicates, FrameCounters, InputRecord, SECOND, SkipCounts, Transport};

/// Maximum number of entries in the list of orphaned fragments, one for each source, destination
/// and protocol. In a flood, further fragments are only counted.
const MAX_ORPHANS: usize = 100;

type Tally = BTreeMap<String, u64>;

impl AuditRun<'_> {
    /// Returns everything except the tables.
    pub(super) fn head(&self) -> Head {
        let policy = self.policy;
        let account = self.account;
        let slots = self.timeline.iter();
        Head {
            schema: SCHEMA.to_owned(),
            schema_minor: SCHEMA_MINOR,
            tool: Tool {
                name: "rasaudit".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            farm: policy.map(|p| p.inventory.farm.clone()),
            summary: self.summary(),
            exit_reasons: self.exit_reasons.to_vec(),
            inputs: self.inputs.iter().map(input).collect(),
            accounting: self.accounting(),
            window: CaptureWindow {
                first: account.first.get().map(Time),
                last: account.last.get().map(Time),
                watched_seconds: self.timeline.watched_s(),
                doubted_stamps: self.odd_stamps,
                since: self.selection.since.map(Time),
                until: self.selection.until.map(Time),
                as_of: self.selection.as_of.map(Time),
            },
            matrix: policy.map(JudgedBy::of),
            inventory: policy.map(|p| InventoryFile {
                sha256: p.inventory.sha256.clone(),
                file: p.inventory.file.clone(),
            }),
            exceptions: policy.and_then(|p| exception_use::exceptions(self, p)),
            known: changes(self),
            filter: self.selection.filter.clone(),
            coverage: policy.map(|p| StatedCoverage { stated: covers(p) }),
            headline: summary_notes::headline(self),
            notes: summary_notes::collect_notes(self),
            coverage_note: policy.map_or_else(String::new, |p| summary_notes::coverage(self, p)),
            timeline: slots.map(|(time, slot)| (time / SECOND, slot.frames, slot.bytes)).collect(),
            site: policy.map(|policy| {
                let seen = self.outcome.seen(policy);
                Site::of(policy, |host| {
                    seen.as_ref().map_or_else(HostWatch::default, |seen| HostWatch {
                        is_watched: seen.watches(host).is_some(),
                        active_seconds: u64::try_from(seen.seconds_of(host)).ok(),
                    })
                })
            }),
            conditions: policy.and_then(|policy| self.outcome.seen(policy)).map_or_else(
                Conditions::default,
                |seen| {
                    let view = seen.view();
                    let versions = self.outcome.conversations.index.lacking_versions();
                    Conditions {
                        is_filtered: view.filtered,
                        lacking: [Transport::TCP, Transport::UDP]
                            .into_iter()
                            .filter(|transport| seen.lacks(*transport))
                            .map(|transport| transport.to_string())
                            .chain(versions.into_iter().map(str::to_owned))
                            .collect(),
                        is_damaged: view.damaged,
                        lacks_evidence: view.lacks_evidence,
                        loss: view.loss,
                        max_loss: view.max_loss,
                        sensors: Some(sensors(&view.vantages)),
                    }
                },
            ),
            fail_on: Some(self.fail_on.to_owned()),
            settings: self.settings.to_vec(),
            configuration: self.configuration.cloned(),
            findings: (),
            conversations: (),
            matrix_rows: (),
            hosts: (),
        }
    }

    fn summary(&self) -> Summary {
        let outcome = self.outcome;
        let by_verdict = outcome.by_verdict();
        // There are far fewer combinations than findings, so the names are looked up only for
        // these.
        let mut combinations = BTreeMap::<(Code, Severity), u64>::new();
        for finding in outcome.findings() {
            *combinations.entry((finding.code(), finding.severity)).or_default() += 1;
        }
        let mut by: [Tally; 3] = Default::default();
        for ((code, severity), count) in combinations {
            let names = [code.verdict().name(), code.name(), severity.name()];
            for (counts, name) in by.iter_mut().zip(names) {
                *counts.entry(name.to_owned()).or_default() += count;
            }
        }
        let mut matrix_rows = Tally::new();
        for row in &outcome.rows {
            *matrix_rows.entry(row.status.name().to_owned()).or_default() += 1;
        }
        let [of_verdict, by_code, by_severity] = by;
        Summary {
            judged: self.policy.is_some(),
            assessed: self.policy.is_some() && outcome.checked_anything(),
            conversations: ConversationCounts {
                total: outcome.conversations.list.len() as u64,
                by_verdict: by_verdict.iter().map(|(v, n)| (v.name().to_owned(), *n)).collect(),
            },
            findings: FindingCounts {
                total: outcome.findings().len() as u64,
                by_verdict: of_verdict,
                by_code,
                by_severity,
            },
            matrix_rows,
        }
    }

    fn accounting(&self) -> Accounting {
        let FrameCounters {
            frames,
            observations,
            skipped,
            truncated,
            bad_checksums,
            non_ip,
            portless,
            fragments,
            opaque,
            bytes,
            ..
        } = self.account;
        let view = &self.outcome.conversations.index.visibility;
        let orphans = self.orphans.iter().take(MAX_ORPHANS);
        let orphans = orphans.map(|((source, destination, transport), packets)| Orphans {
            source: *source,
            destination: *destination,
            transport: transport.to_string(),
            packets: *packets,
        });
        let non_ip = non_ip.iter().map(|(ethertype, count)| match ethertype {
            0 => ("802.3".to_owned(), *count),
            ethertype => (format!("{ethertype:#06x}"), *count),
        });
        let Duplicates { sample, correction, removed } = self.duplicates;
        let sample = sample.at_most(*observations);
        let losing = self.inputs.iter().filter(|input| input.loss.dropped > 0);
        Accounting {
            frames_read: *frames,
            observations: *observations,
            skipped: by_reason(skipped),
            duplicates: removed,
            copies: Copies {
                sample: CopySample {
                    sampled: sample.sampled,
                    same: sample.same,
                    interfaces: sample.interfaces,
                    vlans: sample.vlans,
                    hops: sample.hops,
                },
                correction: correction.name().to_owned(),
                removed,
            },
            view: ViewCounts {
                one_sided_frames: view.one_sided,
                split_frames: view.split,
                cut_one_way_frames: view.cut_one_way,
            },
            truncated: *truncated,
            loss: LossCounts {
                received: self.loss.received,
                dropped: self.loss.dropped,
                acknowledged_bytes: view.acked,
                unseen_bytes: view.unseen,
                by_source: losing
                    .map(|i| SourceLoss { file: i.name.clone(), dropped: i.loss.dropped })
                    .collect(),
            },
            bytes: *bytes,
            bad_checksums: *bad_checksums,
            non_ip: non_ip.collect(),
            portless: *portless,
            opaque_tunnels: opaque.values().sum::<u64>(),
            opaque_by_tunnel: opaque.clone(),
            fragments: Fragments {
                later: *fragments,
                orphaned: self.orphans.values().sum::<u64>(),
                orphans: orphans.collect(),
            },
            unknown_link_types: self.unknown_links.iter().cloned().collect(),
        }
    }
}

/// Returns the time for which each named vantage point watched.
fn sensors(vantages: &VantageTimes) -> Vec<SensorWatch> {
    let watched = vantages.longest_watched();
    let watched = watched
        .map(|(point, watched_seconds)| SensorWatch { name: point.to_string(), watched_seconds });
    watched.collect()
}

fn by_reason(reasons: &SkipCounts) -> Tally {
    reasons.iter().map(|(reason, count)| (reason.name().to_owned(), count)).collect()
}

/// Returns the coverage that the inventory declares.
fn covers(policy: &Policy) -> Value {
    let name = |host: &usize| Value::from(policy.inventory.hosts[*host].name.as_str());
    match &policy.inventory.covers {
        Some(CoverageStatement::All) => Value::from("all"),
        Some(CoverageStatement::Hosts(hosts)) => hosts.iter().map(name).collect(),
        None => Value::Null,
    }
}

fn input(input: &InputRecord) -> Input {
    Input {
        file: input.name.clone(),
        sha256: input.sha256.clone(),
        size: input.size,
        format: input.format.clone(),
        link_types: input.link_types.clone(),
        capture_filters: input.filters.clone(),
        frames: input.account.frames,
        observations: input.account.observations,
        skipped: by_reason(&input.account.skipped),
        first: input.account.first.get().map(Time),
        last: input.account.last.get().map(Time),
        loss: LostFrames { received: input.loss.received, dropped: input.loss.dropped },
        error: input.error.clone(),
        same_as: input.same_as.clone(),
    }
}
