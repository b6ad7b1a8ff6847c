//! The metrics of a live audit, in the Prometheus text format.

use std::collections::BTreeMap;

use prometheus::core::Collector;
use prometheus::{Encoder, GaugeVec, IntCounterVec, Opts, Registry, TextEncoder};

use super::listener::{Duty, WindowClosed};
use crate::flow::AggregationLevel;
use crate::pipeline::{Audit, Reading};

/// A set of metrics that is filled once and then written. All names begin with `rasaudit_`.
#[derive(Default)]
pub(super) struct Metrics(Registry);

impl Metrics {
    /// Adds a gauge with one value per combination of labels.
    fn gauge(&self, name: &str, help: &str, labels: &[&str], samples: Samples<'_, f64>) {
        let Ok(family) = GaugeVec::new(opts(name, help), labels) else { return };
        for (values, value) in samples {
            family.with_label_values(&values).set(value);
        }
        self.add(family);
    }

    /// Adds a counter with one value per combination of labels.
    fn counter(&self, name: &str, help: &str, labels: &[&str], samples: Samples<'_, u64>) {
        let Ok(family) = IntCounterVec::new(opts(name, help), labels) else { return };
        for (values, value) in samples {
            family.with_label_values(&values).inc_by(value);
        }
        self.add(family);
    }

    fn add(&self, family: impl Collector + 'static) {
        // Registering fails only if a name is used twice. That would be a mistake in the code,
        // which the tests find.
        let registered = self.0.register(Box::new(family));
        debug_assert!(registered.is_ok(), "{registered:?}");
    }

    /// Adds a gauge without labels.
    pub fn single(&self, name: &str, help: &str, value: f64) {
        self.gauge(name, help, &[], vec![(Vec::new(), value)]);
    }

    /// Adds a counter without labels.
    pub fn count(&self, name: &str, help: &str, value: u64) {
        self.counter(name, help, &[], vec![(Vec::new(), value)]);
    }

    /// Returns all metrics as text.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        // Writing to memory does not fail.
        let _ = TextEncoder::new().encode(&self.0.gather(), &mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Adds the number of failures of each duty.
    pub fn add_failures(&self, failures: &BTreeMap<Duty, u64>) {
        let count = |duty: &Duty| failures.get(duty).copied().unwrap_or_default();
        let samples = Duty::ALL.iter().map(|duty| (vec![duty.name()], count(duty))).collect();
        let help = "Failures to write reports, the state, syslog messages, frames or rows.";
        self.counter("failures_total", help, &["what"], samples);
    }

    /// Adds the state, the frames and the loss of each interface, and the share of frames that the
    /// window lost. `down` names the interfaces that cannot be read.
    pub fn add_interfaces(&self, closed: &WindowClosed<'_>, down: &[String]) {
        let window: &Reading = closed.window.reading;
        let all: &Reading = closed.all.reading;
        let label = &["interface"];
        let is_up = |name: &String| f64::from(u8::from(!down.contains(name)));
        let up = window.inputs.iter().map(|input| (vec![&*input.name], is_up(&input.name)));
        let help = "1 if the interface is being read, 0 if not.";
        self.gauge("interface_up", help, label, up.collect());
        let frames = all.inputs.iter().map(|input| (vec![&*input.name], input.account.frames));
        let help = "Frames read, including those of earlier runs whose state was restored.";
        self.counter("frames_total", help, label, frames.collect());
        let lost = all.inputs.iter().map(|input| (vec![&*input.name], input.loss.dropped));
        let help = "Frames dropped by the kernel or the interface, including those of earlier runs whose state was restored.";
        self.counter("frames_lost_total", help, label, lost.collect());
        let help = "Share of the last window's frames that were lost.";
        self.single("window_loss_ratio", help, window.loss.share());
    }

    /// Adds the flows of all windows, and how many flows were aggregated to each level.
    pub fn add_flows(
        &self,
        all: &Audit<&mut Reading>,
        aggregated: &BTreeMap<AggregationLevel, u64>,
    ) {
        let flows = &all.reading.flows;
        let (on_disk, _) = flows.idle_size();
        self.single("flows", "Flows in memory and on disk.", flows.len() as f64);
        self.single("flows_on_disk", "Idle flows on disk.", on_disk as f64);
        let levels = aggregated.iter().map(|(level, flows)| (vec![level.name()], *flows));
        let help = "Flows that were aggregated to stay within the memory limit.";
        self.counter("folded_flows_total", help, &["fold"], levels.collect());
    }

    /// Adds the conversations of all windows, and whether anything was checked.
    pub fn add_conversations(&self, all: &Audit<&mut Reading>) {
        let help = "1 if anything was checked, that is, unicast packets other than background traffic were seen from a listed host with a role, or traffic is reported as missing; 0 if not.";
        self.single("assessed", help, f64::from(u8::from(all.outcome.checked_anything())));
        let verdicts = all.outcome.by_verdict().into_iter();
        let verdicts = verdicts.map(|(verdict, count)| (vec![verdict.name()], count as f64));
        let help = "Conversations of all windows by verdict.";
        self.gauge("conversations", help, &["verdict"], verdicts.collect());
    }

    /// Adds the findings of all windows, once by verdict, code and severity, and once by code and
    /// the roles of their ends.
    pub fn add_findings(&self, all: &Audit<&mut Reading>) {
        let mut by_code: BTreeMap<_, u64> = BTreeMap::new();
        let mut by_roles: BTreeMap<_, u64> = BTreeMap::new();
        let judged_by = all.explainer().zip(all.policy());
        for finding in all.outcome.findings() {
            let code = finding.code();
            *by_code.entry((finding.verdict(), code, finding.severity)).or_default() += 1;
            if let Some((explainer, policy)) = &judged_by {
                let roles = |roles| policy.matrix.role_names(roles).join(";");
                let [client, server] = explainer.roles(finding).map(roles);
                *by_roles.entry((code, client, server)).or_default() += 1;
            }
        }
        let samples = by_code.iter().map(|((verdict, code, severity), count)| {
            (vec![verdict.name(), code.name(), severity.name()], *count as f64)
        });
        let help = "Findings of all windows by verdict, code and severity.";
        self.gauge("findings", help, &["verdict", "code", "severity"], samples.collect());
        let samples = by_roles.iter().map(|((code, client, server), count)| {
            (vec![code.name(), client.as_str(), server.as_str()], *count as f64)
        });
        let help = "Findings of all windows by code and the roles of client and server.";
        let labels = &["code", "client_roles", "server_roles"];
        self.gauge("findings_by_roles", help, labels, samples.collect());
    }
}

/// The values of a metric, each with the values of its labels.
type Samples<'s, T> = Vec<(Vec<&'s str>, T)>;

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("rasaudit")
}
