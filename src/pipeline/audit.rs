//! Reads and judges captures, and prepares the result for reports.

use std::borrow::BorrowMut;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::evidence::GatheredEvidence;
use super::plan::resolved;
use super::read::may_carry_ip;
use super::settings::settings;
use super::{AuditError, FailOn, Limits, Plan, Progress, Reading, evidence, temporary};
use crate::capture::{Filter, link_name};
use crate::classify::{CaptureConditions, Judge, Judgement, VantageTimes, Watched};
use crate::conversation::{
    CaptureLimits, Conversations, DirectionHints, EndMacs, Outages, ReadOptions,
};
use crate::decode::ethertype_words;
#[cfg(feature = "live")]
use crate::flow::MergedFlows;
use crate::model::{ActivityHistogram, Endpoint, InputRecord, Nanos, Transport};
use crate::policy::{Policy, Severity};
use crate::report::{
    self, FindingEvidence, Folder, FolderError, LineFormat, ReportFiles, WindowFolders,
};
use crate::result::{
    AuditResult, AuditRun, Baseline, CaptureSelection, Comparison, ConfigurationFile,
    EvidenceFiles, Explainer, OptionSetting, ReportedFinding,
};

/// Whether the flows are kept after they are judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FlowRetention {
    /// The flows stay available, for evidence or for the next window.
    Keep,
    /// The memory of the flows is released.
    Discard,
}

/// A finished audit. It owns the result of reading the captures, or borrows it so that a live audit
/// can continue with it.
pub struct Audit<R = Reading> {
    /// The result of reading the captures.
    pub reading: R,
    /// The judgement. Without a policy, it contains only conversations.
    pub outcome: Judgement,
    /// The name and the error of each input that could not be read completely.
    pub damaged: Vec<String>,
    /// Whether the findings fail the audit (see [`FailOn`]).
    pub failed: bool,
    /// Whether nothing was checked although a check was required.
    pub unchecked: bool,
    policy: Option<Arc<Policy>>,
    baseline: Option<Baseline>,
    /// The comparison with the baseline, if the baseline is a complete result.
    comparison: Option<Comparison>,
    selection: CaptureSelection,
    settings: Vec<OptionSetting>,
    configuration: Option<ConfigurationFile>,
    exit_reasons: Vec<String>,
    fail_on: FailOn,
    /// When frames were captured. Frames with implausible timestamps are excluded, and `odd_stamps`
    /// is their number.
    timeline: ActivityHistogram,
    odd_stamps: u64,
    /// The number of fragments whose first fragment is not in the capture, by source, destination
    /// and protocol.
    orphans: BTreeMap<(IpAddr, IpAddr, Transport), u64>,
    /// The link types for which the filter expression cannot be compiled.
    unfiltered_links: Vec<String>,
    /// The kinds of side evidence from which entries were dropped.
    trimmed: Vec<&'static str>,
    /// The frames that each finding is based on, if they were requested.
    evidence: Option<GatheredEvidence>,
}

impl Audit {
    /// Reads and judges captures. Without a policy, the result contains only conversations.
    /// Findings in `baseline` do not count as new.
    pub fn of(
        plan: &Plan,
        policy: Option<Policy>,
        baseline: Option<Baseline>,
        limits: &Limits,
        progress: &Progress,
    ) -> Result<Self, AuditError> {
        let policy = policy.map(Arc::new);
        let with_inventory = policy.as_ref().map(|policy| plan.with_inventory(policy));
        let plan = with_inventory.as_ref().unwrap_or(plan);
        let reading = Reading::of(plan, progress)?;
        let flows = match plan.request.evidence {
            Some(_) => FlowRetention::Keep,
            None => FlowRetention::Discard,
        };
        let mut audit = Self::judged(plan, reading, policy, baseline, limits, progress, flows)?;
        if let (FlowRetention::Keep, Some(policy)) = (flows, &audit.policy) {
            let reading = &mut audit.reading;
            let outcome = &audit.outcome;
            audit.evidence = Some(evidence::gather(plan, progress, reading, policy, outcome)?);
        }
        progress.timings.done("evidence");
        Ok(audit)
    }
}

impl<R: BorrowMut<Reading>> Audit<R> {
    /// Judges a reading, compares the result with the baseline, and determines whether it fails the
    /// audit.
    pub(crate) fn judged(
        plan: &Plan,
        mut reading: R,
        mut policy: Option<Arc<Policy>>,
        baseline: Option<Baseline>,
        limits: &Limits,
        progress: &Progress,
        flows: FlowRetention,
    ) -> Result<Self, AuditError> {
        let read = reading.borrow_mut();
        let outcome = judge(plan, read, policy.as_mut(), limits, progress, flows)
            .map_err(temporary(&plan.temp))?;
        if progress.stop.load(Ordering::Relaxed) {
            return Err(AuditError::Interrupted);
        }
        progress.timings.done("judgement");
        let damaged = read.damaged();
        let unchecked =
            limits.require_assessed && !(policy.is_some() && outcome.checked_anything());
        let mut exit_reasons = damaged.clone();
        exit_reasons.extend(unchecked.then(|| "nothing was checked".to_owned()));
        let selection = CaptureSelection {
            filter: plan.request.filter.clone(),
            since: plan.request.since,
            until: plan.request.until,
            as_of: limits.as_of,
        };
        let (timeline, odd_stamps) = read.believed();
        let mut orphans = BTreeMap::new();
        for (pair, count) in read.flows.side.orphans() {
            *orphans.entry((pair.src, pair.dst, pair.transport)).or_default() += count;
        }
        let mut audit = Self {
            timeline,
            odd_stamps,
            orphans,
            unfiltered_links: unfiltered_links(selection.filter.as_deref(), &read.inputs),
            trimmed: read.flows.side.trimmed().collect(),
            reading,
            outcome,
            damaged,
            failed: false,
            unchecked,
            settings: settings(&plan.request, limits, policy.as_deref()),
            configuration: plan.request.configuration.clone(),
            policy,
            baseline,
            comparison: None,
            selection,
            exit_reasons,
            fail_on: limits.fail_on,
            evidence: None,
        };
        let earlier = audit.baseline.as_ref().and_then(|baseline| baseline.result.clone());
        audit.comparison = earlier.map(|earlier| Comparison::of(&earlier, &audit.result()));
        let failure = limits.fail_on.reason(&audit.result());
        audit.failed = failure.is_some();
        audit.exit_reasons.extend(failure);
        Ok(audit)
    }

    /// Returns the flows and leaves `empty` in their place. The data that reports need from the
    /// flows is kept.
    #[cfg(feature = "live")]
    pub(crate) fn take_flows(&mut self, empty: MergedFlows) -> MergedFlows {
        std::mem::replace(&mut self.reading.borrow_mut().flows, empty)
    }

    /// Returns the result that all reports are generated from.
    pub fn result(&self) -> AuditResult<'_> {
        let reading: &Reading = self.reading.borrow();
        AuditResult::of(AuditRun {
            inputs: &reading.inputs,
            account: &reading.account,
            loss: reading.loss,
            duplicates: reading.duplicates,
            orphans: &self.orphans,
            selection: &self.selection,
            known: self.baseline.as_ref(),
            comparison: self.comparison.as_ref(),
            unknown_links: self.unknown_links(),
            unfiltered_links: &self.unfiltered_links,
            unread: self.unread(),
            trimmed: self.trimmed.clone(),
            timeline: &self.timeline,
            odd_stamps: self.odd_stamps,
            policy: self.policy.as_deref(),
            outcome: &self.outcome,
            explainer: self.explainer(),
            exit_reasons: &self.exit_reasons,
            fail_on: self.fail_on.name(),
            settings: &self.settings,
            configuration: self.configuration.as_ref(),
        })
    }

    /// Returns the policy; `None` if nothing was judged.
    pub fn policy(&self) -> Option<&Policy> {
        self.policy.as_deref()
    }

    /// Returns the explainer of the findings; `None` if nothing was judged.
    pub fn explainer(&self) -> Option<Explainer<'_>> {
        Explainer::of(self.policy.as_deref()?, &self.outcome)
    }

    /// Returns the number of frames with unknown content for each EtherType and tunnel, largest
    /// first.
    fn unread(&self) -> Vec<(String, u64)> {
        let account = &self.reading.borrow().account;
        let kinds = account.non_ip.iter().filter(|(number, _)| may_carry_ip(**number));
        let kinds = kinds.map(|(number, frames)| (ethertype_words(*number), *frames));
        let tunnels = account.opaque.iter();
        let tunnels = tunnels
            .map(|(tunnel, frames)| (format!("{tunnel} tunnels that cannot be decoded"), *frames));
        let mut unread: Vec<(String, u64)> = kinds.chain(tunnels).collect();
        unread.sort_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
        unread
    }

    fn unknown_links(&self) -> Vec<(String, u64)> {
        let links = self.reading.borrow().account.unknown_links.iter();
        links.map(|(link, frames)| (link_name(*link), *frames)).collect()
    }

    /// Writes the reports and the evidence into their folders. Nothing is moved into place before
    /// everything is written. Until then, the work can be stopped.
    pub fn write_folders(&self, folders: Folders, progress: &Progress) -> Result<(), AuditError> {
        let explainer = self.explainer();
        let evidence = self.evidence.iter().flat_map(|gathered| {
            let findings = self.outcome.findings().iter().enumerate();
            let explainer = explainer.as_ref();
            findings.filter_map(move |(number, finding)| {
                let explainer = explainer?;
                Some((explainer.explain(finding), explainer.trace(finding), gathered.of(number)))
            })
        });
        let mut result = self.result();
        result.evidence = self.evidence.as_ref().and_then(|gathered| folders.evidence(gathered));
        folders.write(&result, evidence, progress)
    }

    /// Writes the reports of a live audit into the folder of the window: those of all windows, and
    /// those of this window alone. Returns the folder.
    pub fn write_window_reports(
        &self,
        window: &Self,
        folders: &WindowFolders,
    ) -> Result<PathBuf, AuditError> {
        folders.write(&self.result(), &window.result()).map_err(output_error)
    }

    /// Returns the indexes of the findings above severity info that are not in `before`, or that
    /// have become worse or certain since.
    fn new_positions(&self, before: &Baseline) -> Vec<usize> {
        let Some(explainer) = self.explainer() else { return Vec::new() };
        let findings = self.outcome.findings().iter().enumerate();
        let new =
            findings.filter(|(_, f)| f.severity > Severity::Info && before.is_news(&explainer, f));
        new.map(|(number, _)| number).collect()
    }

    /// Returns one line per finding above severity info that is not in `before`, or that has become
    /// worse or certain since.
    pub fn new_findings(&self, before: &Baseline, format: LineFormat) -> Vec<String> {
        report::lines(&self.result(), format, &self.new_positions(before))
    }

    /// Returns the findings of [`Audit::new_findings`] as messages for a syslog daemon.
    pub fn new_messages(&self, before: &Baseline) -> Vec<report::Message> {
        report::messages(&self.result(), &self.new_positions(before))
    }

    /// Adds the current findings above severity info to the baseline.
    #[cfg(feature = "live")]
    pub(crate) fn remember(&self, before: &mut Baseline) {
        if let Some(explainer) = self.explainer() {
            before.learn(&explainer);
        }
    }

    /// Writes `audit.json`.
    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        report::json(&self.result(), out)
    }

    /// Writes the page that a live audit serves after `windows` windows.
    pub fn write_live_page(&self, windows: u64, out: &mut dyn Write) -> io::Result<()> {
        report::live_page(&self.result(), windows, out)
    }
}

/// The prepared output folders. Folders that were created for this run are removed if nothing is
/// written.
#[derive(Default)]
pub struct Folders {
    reports: Option<Folder>,
    files: ReportFiles,
    evidence: Option<Folder>,
}

impl Folders {
    /// Returns the evidence files that the reports can link to; `None` if either of the two folders
    /// is not written, or if no URL leads from the reports to the evidence.
    fn evidence(&self, gathered: &GatheredEvidence) -> Option<EvidenceFiles> {
        let folder = self.reports.as_ref()?.url_to(self.evidence.as_ref()?)?;
        Some(EvidenceFiles { folder, findings: gathered.with_frames() })
    }

    /// Writes the reports and the evidence of findings into the folders. Nothing is moved into
    /// place before everything is written. Until then, the work can be stopped.
    pub fn write(
        mut self,
        result: &AuditResult<'_>,
        evidence: impl Iterator<Item = (ReportedFinding, Vec<String>, FindingEvidence)>,
        progress: &Progress,
    ) -> Result<(), AuditError> {
        let is_stopped = || progress.stop.load(Ordering::Relaxed);
        if let Some(folder) = &mut self.reports {
            folder.stage_reports(result, &self.files).map_err(output_error)?;
        }
        if let Some(folder) = &mut self.evidence {
            folder.stage_evidence(evidence.take_while(|_| !is_stopped())).map_err(output_error)?;
        }
        if is_stopped() {
            return Err(AuditError::Interrupted);
        }
        let folders = [self.reports.take(), self.evidence.take()];
        Folder::publish(folders.into_iter().flatten().collect()).map_err(output_error)
    }

    /// Creates the folders before the long work starts, so that an unusable path is reported early.
    /// Returns an error if a folder cannot be used, or if the evidence folder is or contains the
    /// reports folder.
    pub fn prepare(
        reports: Option<&Path>,
        files: &ReportFiles,
        evidence: Option<&Path>,
    ) -> Result<Self, AuditError> {
        let for_reports = |folder| Folder::for_reports(folder, files);
        let made = Self {
            files: files.clone(),
            evidence: evidence.map(Folder::for_evidence).transpose().map_err(output_error)?,
            reports: reports.map(for_reports).transpose().map_err(output_error)?,
        };
        match (reports, evidence) {
            (Some(a), Some(b)) if resolved(a).starts_with(resolved(b)) => {
                let what =
                    "this folder is or contains that of --out; --evidence needs a separate folder";
                Err(AuditError::Output(b.to_owned(), io::Error::other(what)))
            }
            _ => Ok(made),
        }
    }
}

fn output_error(error: FolderError) -> AuditError {
    AuditError::Output(error.path, error.error)
}

/// Returns the link types of the inputs for which a filter expression cannot be compiled. That it
/// can be compiled for Ethernet was checked when the plan was created.
fn unfiltered_links(filter: Option<&str>, inputs: &[InputRecord]) -> Vec<String> {
    const ETHERNET: u16 = 1;
    let Some(filter) = filter else { return Vec::new() };
    let links: BTreeSet<u16> = inputs.iter().flat_map(|i| &i.link_types).copied().collect();
    let others = links.into_iter().filter(|link| *link != ETHERNET);
    others.filter(|link| !Filter::is_for(filter, *link)).map(link_name).collect()
}

/// Returns the limits on what the capture can show.
pub(crate) fn capture_limits(plan: &Plan, reading: &Reading) -> CaptureLimits {
    let has_capture_filter = reading.inputs.iter().any(|i| !i.filters.is_empty());
    // A live audit has only one clock. A single file may be merged from captures with several.
    let clock_offset = reading.flows.clock_offset().filter(|_| !plan.request.captures.is_empty());
    let all = reading.believed().0;
    let outages_of =
        |timeline: &ActivityHistogram| Outages::new(timeline.outages_in(&all), clock_offset);
    let vantages = reading.vantages.iter();
    CaptureLimits {
        filtered: plan.request.filter.is_some() || has_capture_filter,
        doubled: reading.shows_doubling(),
        has_copies: reading.shows_doubling() || reading.duplicates.removed > 0,
        late_copies: reading.flows.late_copies(reading.series.len()),
        clock_offset,
        start: reading.account.first.get(),
        end: reading.end,
        doubted: reading.timeline.doubted_times(),
        // If a vantage point has a name, its times are compared instead.
        periods: Some(all.stretches())
            .filter(|stretches| reading.vantages.is_empty() && stretches.len() > 1)
            .unwrap_or_default(),
        outages: Outages::new(reading.outages.clone(), clock_offset),
        vantage_outages: vantages.map(|(name, times)| (name.clone(), outages_of(times))).collect(),
    }
}

/// Judges a reading. If the inventory does not name the host on which a loopback capture was taken,
/// the host is inferred from the conversations and set in the policy. Without a policy, the
/// judgement contains only conversations.
fn judge(
    plan: &Plan,
    reading: &mut Reading,
    policy: Option<&mut Arc<Policy>>,
    limits: &Limits,
    progress: &Progress,
    retention: FlowRetention,
) -> io::Result<Judgement> {
    let capture = capture_limits(plan, reading);
    let options = ReadOptions {
        jobs: plan.jobs,
        keep: retention == FlowRetention::Keep,
        max_memory: plan.request.max_memory,
        mirrors: plan.mirrors,
    };
    let flows = &mut reading.flows;
    let Some(policy) = policy else {
        let conversations = Conversations::read(flows, &NoPolicy, &capture, options)?;
        return Ok(Judgement::unjudged(conversations));
    };
    let mut conversations = Conversations::read(flows, &Judge::new(policy), &capture, options)?;
    if let Some(host) = policy.loopback_host(conversations.ends()) {
        // If the policy is shared, `make_mut` copies it first, so its other owners do not see the
        // change.
        Arc::make_mut(policy).inventory.on = Some(host);
        conversations = Conversations::read(flows, &Judge::new(policy), &capture, options)?;
    }
    reading.duplicates.removed += std::mem::take(&mut reading.flows.removed_from_mirrors);
    progress.timings.done("conversations");
    let visibility = conversations.index.visibility;
    let losses = reading.loss_periods();
    let watched = Watched::new(
        &reading.believed().0,
        reading.flows.clock_offset(),
        watch_times(policy, limits.min_watch),
    );
    let conditions = CaptureConditions {
        start: capture.start,
        end: capture.end,
        vantages: Arc::new(VantageTimes::new(
            &reading.believed().0,
            &reading.vantages,
            reading.flows.clock_offset(),
            watch_times(policy, limits.min_watch),
        )),
        series: reading
            .series
            .iter()
            .map(|timeline| {
                let watch_times = watch_times(policy, limits.min_watch);
                Watched::new(timeline, reading.flows.clock_offset(), watch_times)
            })
            .collect(),
        filtered: conversations.index.is_filtered(),
        one_sided: visibility.one_sided_share(),
        loss: reading
            .loss
            .share()
            .max(reading.vantage_loss)
            .max(reading.estimated(visibility.loss())),
        suspected_loss: reading
            .estimated(visibility.suspected_loss())
            .max(losses.mean_over(watched_time(&reading.believed().0))),
        losses: Arc::new(losses),
        // An input that merely ends early comes from an interrupted capture and does not count as
        // damaged.
        damaged: reading.inputs.iter().any(|i| i.error.is_some() && !i.passed_over && !i.is_cut),
        lacks_evidence: reading.flows.side.lacks_traffic(),
        no_decap: plan.request.no_decap,
        max_loss: limits.max_loss,
        min_watch: limits.min_watch,
        watched,
    };
    Ok(Judgement::of(policy, conversations, &conditions, plan.jobs))
}

/// Returns the time for which a timeline was watched, in nanoseconds.
fn watched_time(timeline: &ActivityHistogram) -> Nanos {
    let Some((first, last)) = timeline.first().zip(timeline.last()) else { return 0 };
    let gaps = timeline.gaps().into_iter().map(|(from, to)| to.saturating_sub(from));
    gaps.fold(last.saturating_sub(first), Nanos::saturating_sub)
}

/// Returns the watch times, in seconds, that rows and roles require, and zero. If `min_watch` is
/// given, it replaces all of them.
fn watch_times(policy: &Policy, min_watch: Option<u64>) -> impl Iterator<Item = u64> {
    let rows = policy.matrix.rows.iter().map(|row| row.watch_s);
    let all = rows.chain([crate::classify::ROLE_WATCH_S, 0]);
    all.map(move |watch| min_watch.unwrap_or(watch))
}

/// Direction hints for reading without a policy. No traffic counts as documented.
pub(crate) struct NoPolicy;

impl DirectionHints for NoPolicy {
    fn is_broadcast(&self, address: IpAddr) -> bool {
        // Without an inventory, prefix lengths are unknown, so a /24 is assumed for every network.
        matches!(address, IpAddr::V4(v4) if v4.octets()[3] == 255)
    }

    fn is_documented(&self, _: IpAddr, _: Endpoint, _: Transport, _: EndMacs<'_>) -> bool {
        false
    }
}
