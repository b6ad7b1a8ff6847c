//! The order of work: threads, channels, memory limits, stopping.
//!
//! ```text
//!  reader (one a source) --full batches--> workers, each with tables of its own
//!         ^-----------empty batches----------'        |
//!                                                 the meeting -> conversations -> judgement
//! ```
//!
//! Any worker takes any batch. Nothing that is shared is touched for a packet or a flow.

mod read;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};

use crate::capture::Source;
use crate::classify::{Judge, Outcome, View};
use crate::conversation::Conversations;
use crate::flow::Flows;
use crate::model::{Account, BUCKET_NS, InputRecord, Loss, Merge, Nanos, SECOND};
use crate::policy::Policy;

/// What to read, and how.
pub struct Plan {
    /// The sources, in order.
    pub sources: Vec<Source>,
    /// Worker threads.
    pub jobs: usize,
    /// Bytes that the flow tables may hold before they spill.
    pub max_memory: usize,
    /// Where they spill to.
    pub temp: PathBuf,
    /// A BPF expression; frames that do not pass are counted and left out.
    pub filter: Option<String>,
    /// Frames before it are counted and left out, in nanoseconds since the epoch.
    pub since: Option<Nanos>,
    /// Frames from it on are counted and left out.
    pub until: Option<Nanos>,
    /// Compute the SHA-256 of each source.
    pub hash: bool,
}

/// How far the reading is; for whoever shows it.
#[derive(Default)]
pub struct Progress {
    /// Bytes read of all sources.
    pub bytes: AtomicU64,
    /// Frames decoded.
    pub frames: AtomicU64,
    /// Set to stop the work.
    pub stop: AtomicBool,
}

/// Why the work could not be done.
#[derive(Debug)]
pub enum Failure {
    /// Somebody set [`Progress::stop`].
    Interrupted,
    /// These sources cannot be read: name and reason.
    Sources(Vec<(String, String)>),
    /// Temporary files cannot be written or read.
    Temporary(io::Error),
}

/// What was read.
pub struct Reading {
    /// One for each source, in order.
    pub inputs: Vec<InputRecord>,
    /// What became of all frames.
    pub account: Account,
    /// What the captures say they lost.
    pub loss: Loss,
    /// The ten-second buckets that hold a frame.
    pub buckets: BTreeSet<Nanos>,
    /// All flows.
    pub flows: Flows,
}

impl Reading {
    /// Reads all sources.
    pub fn of(plan: &Plan, progress: &Progress) -> Result<Self, Failure> {
        read::run(plan, progress)
    }

    /// Seconds that were watched.
    pub fn watched_s(&self) -> u64 {
        self.buckets.len() as u64 * (BUCKET_NS / SECOND) as u64
    }

    /// Whether any capture filter was on: the user's, or one that a capture tells of.
    pub fn is_filtered(&self, plan: &Plan) -> bool {
        plan.filter.is_some() || self.inputs.iter().any(|i| !i.filters.is_empty())
    }
}

/// What the judgement may claim.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The share of lost frames above which absence cannot be claimed.
    pub max_loss: f64,
    /// Seconds that replace every row's own watch time.
    pub min_watch: Option<u64>,
}

/// Judges what was read; without a policy it lists conversations only.
pub fn judge(
    plan: &Plan,
    reading: &mut Reading,
    policy: Option<&Policy>,
    limits: Limits,
) -> io::Result<Outcome> {
    let Some(policy) = policy else {
        let conversations = Conversations::read(&mut reading.flows, &NoPolicy)?;
        return Ok(Outcome::unjudged(conversations));
    };
    let conversations = Conversations::read(&mut reading.flows, &Judge::new(policy))?;
    let view = View {
        end: reading.account.last.get(),
        watched_s: reading.watched_s(),
        filtered: reading.is_filtered(plan),
        loss: reading.loss.share(),
        max_loss: limits.max_loss,
        min_watch: limits.min_watch,
    };
    Ok(Outcome::of(policy, conversations, &view))
}

/// What direction may ask where there is no policy: nothing is documented.
struct NoPolicy;

impl crate::conversation::Lens for NoPolicy {
    fn is_broadcast(&self, address: std::net::IpAddr) -> bool {
        // The last address of a /24, as for every prefix that nobody listed.
        matches!(address, std::net::IpAddr::V4(v4) if v4.octets()[3] == 255)
    }

    fn is_documented(
        &self,
        _: std::net::IpAddr,
        _: crate::model::Endpoint,
        _: crate::model::Transport,
    ) -> bool {
        false
    }
}

/// Everything of all inputs.
fn total(inputs: &[InputRecord]) -> (Account, Loss) {
    let (mut account, mut loss) = (Account::default(), Loss::default());
    for input in inputs {
        account.merge(&input.account);
        loss.merge(&input.loss);
    }
    (account, loss)
}
