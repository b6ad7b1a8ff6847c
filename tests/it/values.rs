//! Tests that flows are values: the evidence from a capture can be handed over in parts of any size
//! and judged elsewhere, and yields the same reports. A judgement does not depend on which part of
//! the flows is read first.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::sync::Arc;

use crate::support::{FIXTURES, Fixture};
use rasaudit::capture::{CaptureError, ReadError};
use rasaudit::classify::Judge;
use rasaudit::conversation::{CaptureLimits, Conversations, ReadOptions, TrustedMirrors};
use rasaudit::flow::{Evidence, FlowPartitions, MergedFlows, PartitionFlows, SideEvidence};
use rasaudit::model::{ActivityHistogram, InputRecord, Merge};
use rasaudit::pipeline::{
    Audit, Chunk, Dedup, Limits, Origin, Plan, Progress, Reading, Request, Source,
};
use rasaudit::policy::{Exceptions, Inventory, Policy, RuleFiles};
use rasaudit::report::FORMATS;

fn policy(case: &Fixture) -> Policy {
    let matrix = RuleFiles::named("ras-19", None).expect("shipped").load().expect("valid");
    let text = fs::read_to_string(case.inventory()).expect("the fixture");
    let inventory = Inventory::from_toml("inventory.toml", &text, &matrix).expect("valid");
    let exceptions = case.more().last().map(|file| {
        let text = fs::read_to_string(file).expect("the fixture");
        Exceptions::load(file, &text, &matrix, &inventory).expect("valid")
    });
    let mut policy = Policy::new(matrix, inventory);
    if let Some(exceptions) = exceptions {
        policy.exceptions = exceptions;
    }
    policy
}

/// Returns a request that keeps duplicates, because the totals of a flow do not show which of its
/// packets are duplicates.
fn request(case: &Fixture, jobs: usize) -> Request {
    Request {
        captures: vec![case.capture()],
        jobs: Some(jobs),
        max_memory: 1 << 30,
        dedup: Dedup::Off,
        ..Request::default()
    }
}

/// The evidence gathered from one capture.
#[derive(Debug)]
struct Gathered {
    record: InputRecord,
    timeline: ActivityHistogram,
    evidence: Evidence,
}

impl Gathered {
    fn of(case: &Fixture, policy: &Policy) -> Self {
        let plan = Plan::new(request(case, 1)).expect("the fixture").with_inventory(policy);
        let reading = Reading::of(&plan, &Progress::default()).expect("the fixture");
        let evidence = reading.flows.evidence().expect("in memory");
        Self { record: reading.inputs[0].clone(), timeline: reading.timeline, evidence }
    }
}

#[derive(Debug)]
struct Gave(Arc<Gathered>);

impl Origin for Gave {
    fn open(&self, _hash: bool) -> Result<Box<dyn Source>, CaptureError> {
        Ok(Box::new(Giving { of: Arc::clone(&self.0), given: 0 }))
    }
}

struct Giving {
    of: Arc<Gathered>,
    given: usize,
}

/// The number of flows per chunk.
const SOME: usize = 7;

impl Source for Giving {
    fn next(&mut self, chunk: &mut Chunk) -> Result<bool, ReadError> {
        let Evidence { flows, side } = &self.of.evidence;
        // The chunks start at the end of the list of flows. The side evidence comes with the first
        // chunk.
        let side = if self.given == 0 { side.clone() } else { SideEvidence::default() };
        let from = flows.len().saturating_sub(self.given + SOME);
        let to = flows.len() - self.given;
        chunk.evidence = Some(Evidence { flows: flows[from..to].to_vec(), side });
        self.given += to - from;
        Ok(self.given < flows.len())
    }

    fn position(&self) -> u64 {
        self.given as u64
    }

    fn finish(
        self: Box<Self>,
        record: &mut InputRecord,
        timeline: &mut ActivityHistogram,
    ) -> io::Result<()> {
        *record = self.of.record.clone();
        timeline.merge(&self.of.timeline);
        Ok(())
    }
}

/// Judges the evidence of a plan and returns all reports by format.
fn told(plan: &Plan, policy: Policy) -> Vec<(&'static str, String)> {
    let limits = Limits::default();
    let progress = Progress::default();
    let audit = Audit::of(plan, Some(policy), None, &limits, &progress).expect("it is judged");
    let written = FORMATS.iter().map(|format| {
        let mut bytes = Vec::new();
        (format.write)(&audit.result(), &mut bytes).expect("in memory");
        (format.name, String::from_utf8(bytes).expect("text"))
    });
    written.collect()
}

#[test]
fn what_is_given_as_values_is_judged_as_the_capture_itself() {
    for case in FIXTURES {
        let policy = policy(case);
        let frames = told(&Plan::new(request(case, 1)).expect("the fixture"), policy.clone());
        let gathered = Arc::new(Gathered::of(case, &policy));
        for (jobs, max_memory) in [(1, 1 << 30), (2, 1 << 30), (2, 1)] {
            let request = Request { max_memory, ..request(case, jobs) };
            let origin: Arc<dyn Origin> = Arc::new(Gave(Arc::clone(&gathered)));
            let plan = Plan::of_origins(request, vec![(gathered.record.name.clone(), origin)]);
            for (own, (format, theirs)) in frames.iter().zip(told(&plan, policy.clone())) {
                let differs = own.1.lines().zip(theirs.lines()).find(|(a, b)| a != b);
                let name = case.name;
                assert!(own.1 == theirs, "{name}, {jobs} workers, {format}: {differs:?}");
            }
        }
    }
}

/// Merged flows whose partitions are visited in reverse order.
struct Backwards(MergedFlows);

impl FlowPartitions for Backwards {
    fn count(&self) -> usize {
        self.0.count()
    }

    fn visit_one(
        &self,
        number: usize,
        visitor: &mut dyn FnMut(PartitionFlows<'_>),
    ) -> io::Result<()> {
        self.0.visit_one(self.count() - 1 - number, visitor)
    }

    fn side(&self) -> &SideEvidence {
        self.0.side()
    }

    fn trust_mirrors(&mut self, mirrors: &BTreeSet<u16>) -> io::Result<()> {
        self.0.trust_mirrors(mirrors)
    }
}

#[test]
fn whichever_part_of_the_flows_is_read_first() {
    for case in FIXTURES {
        let policy = policy(case);
        let plan = Plan::new(request(case, 1)).expect("the fixture").with_inventory(&policy);
        let read = || Reading::of(&plan, &Progress::default()).expect("the fixture").flows;
        let judge = Judge::new(&policy);
        let shown = |conversations: Conversations| {
            let names = conversations.list.iter().map(|c| conversations.names_of(c));
            let names: Vec<String> = names.map(|names| format!("{names:?}")).collect();
            (format!("{:?}", conversations.list), names)
        };
        let work = || ReadOptions {
            jobs: 1,
            keep: false,
            max_memory: usize::MAX,
            mirrors: TrustedMirrors::Inferred,
        };
        let there = Conversations::read(&mut read(), &judge, &CaptureLimits::default(), work());
        let back =
            Conversations::read(&mut Backwards(read()), &judge, &CaptureLimits::default(), work());
        let there = shown(there.expect("in memory"));
        let back = shown(back.expect("in memory"));
        assert!(!there.0.is_empty() && there == back, "{}", case.name);
    }
}
