//! What is to be read, checked before anything long starts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::source::Origin;
use crate::capture::{CaptureError, CaptureInput, Filter, expand};
use crate::decode::{StatedTunnel, Tunnel, TunnelUse};
use crate::model::{Nanos, named_enum};
use crate::policy::{Policy, unreadable};

/// What the user wants read, and how.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Files, directories, or `-`.
    pub captures: Vec<PathBuf>,
    /// Worker threads; none for one a processor.
    pub jobs: Option<usize>,
    /// Bytes that the flow tables may hold before they spill.
    pub max_memory: usize,
    /// A BPF expression; frames that do not pass are counted and left out.
    pub filter: Option<String>,
    /// Frames before it are counted and left out, in nanoseconds since the epoch.
    pub since: Option<Nanos>,
    /// Frames from it on are counted and left out.
    pub until: Option<Nanos>,
    /// Compute the SHA-256 of each source.
    pub hash: bool,
    /// Audit tunnels themselves, not what is in them.
    pub no_decap: bool,
    /// UDP ports at which VXLAN is looked for beside the usual ones.
    pub vxlan_ports: Vec<u16>,
    /// What the inventory says of tunnels.
    pub tunnels: Vec<StatedTunnel>,
    /// Whether copies of packets are taken out of amounts.
    pub dedup: Dedup,
    /// Where the frames that findings rest on are written.
    pub evidence: Option<PathBuf>,
}

named_enum!(
    /// Whether copies of packets are taken out of amounts.
    Dedup {
        /// Where a sample shows doubling.
        Auto = "auto",
        /// Always.
        On = "on",
        /// Never.
        Off = "off",
    }
);

#[expect(clippy::derivable_impls, reason = "a macro makes the words")]
impl Default for Dedup {
    fn default() -> Self {
        Self::Auto
    }
}

/// What is wrong with a request.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A name leads to nothing readable.
    #[error("{}", unreadable_input(.0))]
    Input(#[source] CaptureError),
    /// Standard input can be read once.
    #[error("standard input (-) is named twice")]
    StandardInputTwice,
    /// No file is in the folders that were named.
    #[error("there is nothing to read: the directories hold no files")]
    Nothing,
    /// libpcap does not compile the filter.
    #[error("--filter \"{expression}\": {source}")]
    Filter {
        /// The filter.
        expression: String,
        /// What libpcap says.
        source: CaptureError,
    },
    /// The end comes before the start.
    #[error("--since is not before --until: no frame can be inside")]
    NoTime,
    /// This input cannot be read a second time.
    #[error(
        "--evidence reads the captures once more, which {0} does not allow: write it to a file first"
    )]
    EvidenceReadsAgain(String),
    /// This input lies in the folder, which is written anew.
    #[error("--evidence: {0} lies in that folder; give another")]
    EvidenceAroundInput(String),
    /// The folder lies in this one.
    #[error(
        "--evidence is inside {}, which is read: the next audit would take the evidence for captures", .0.display()
    )]
    EvidenceInsideInput(PathBuf),
}

/// What is wrong with a name, with the one beside it that is most like it.
fn unreadable_input(error: &CaptureError) -> String {
    match error {
        CaptureError::Input { name, source } => {
            format!("{name}: {}", unreadable(Path::new(name), source))
        }
        other => other.to_string(),
    }
}

/// A request that can be carried out.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The sources, in the order of their names.
    pub sources: Vec<CaptureInput>,
    /// Those of them that are no capture, by their place.
    pub(super) origins: BTreeMap<usize, Arc<dyn Origin>>,
    /// Worker threads.
    pub jobs: usize,
    /// Where tables spill to.
    pub temp: PathBuf,
    /// The request.
    pub request: Request,
}

impl Plan {
    /// Checks a request.
    ///
    /// # Errors
    ///
    /// All that is wrong with it at once.
    pub fn new(request: Request) -> Result<Self, Vec<PlanError>> {
        let mut wrong = Vec::new();
        let sources = match expand(&request.captures) {
            Ok(sources) => {
                if sources.iter().filter(|s| s.path.is_none()).count() > 1 {
                    wrong.push(PlanError::StandardInputTwice);
                }
                if sources.is_empty() {
                    wrong.push(PlanError::Nothing);
                }
                sources
            }
            Err(errors) => {
                wrong.extend(errors.into_iter().map(PlanError::Input));
                Vec::new()
            }
        };
        if let Some(expression) = &request.filter
            && let Err(source) = Filter::new(expression)
        {
            wrong.push(PlanError::Filter { expression: expression.clone(), source });
        }
        if let (Some(since), Some(until)) = (request.since, request.until)
            && since >= until
        {
            wrong.push(PlanError::NoTime);
        }
        wrong.extend(request.evidence.as_deref().and_then(|to| no_place(to, &request, &sources)));
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let jobs = request.jobs.unwrap_or_else(processors).max(1);
        let (origins, temp) = (BTreeMap::new(), std::env::temp_dir());
        Ok(Self { sources, origins, jobs, temp, request })
    }

    /// The plan with what an inventory says of tunnels.
    #[must_use]
    pub fn stating(&self, policy: &Policy) -> Self {
        let stated = policy.inventory.tunnels.iter().filter_map(|tunnels| {
            let stated = if tunnels.is_mirror { TunnelUse::Mirror } else { TunnelUse::Overlay };
            let (ends, kind) = (tunnels.ends.clone(), Tunnel::parse(tunnels.kind)?);
            Some(StatedTunnel { ends, kind, stated })
        });
        let mut plan = self.clone();
        plan.request.tunnels = stated.collect();
        plan
    }

    /// Returns a plan that reads something else than captures, under these names.
    #[must_use]
    pub fn of_origins(request: Request, origins: Vec<(String, Arc<dyn Origin>)>) -> Self {
        let input = |name: &String| CaptureInput {
            path: None,
            name: name.clone(),
            size: 0,
            found: false,
            same_as: None,
        };
        let jobs = request.jobs.unwrap_or_else(processors).max(1);
        Self {
            sources: origins.iter().map(|(name, _)| input(name)).collect(),
            origins: origins.into_iter().map(|(_, origin)| origin).enumerate().collect(),
            jobs,
            temp: std::env::temp_dir(),
            request,
        }
    }

    /// Whether all sources can be read once more.
    pub fn reads_again(&self) -> bool {
        self.sources.iter().all(is_file)
    }
}

/// Returns the number of processors.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn is_file(source: &CaptureInput) -> bool {
    source.path.as_ref().is_some_and(|path| path.is_file())
}

/// Why evidence cannot be written to a folder.
fn no_place(folder: &Path, request: &Request, sources: &[CaptureInput]) -> Option<PlanError> {
    if let Some(source) = sources.iter().find(|s| !is_file(s)) {
        let name = if source.path.is_none() { "standard input" } else { &source.name };
        return Some(PlanError::EvidenceReadsAgain(name.to_owned()));
    }
    let folder = resolved(folder);
    let inside =
        |s: &&CaptureInput| s.path.as_ref().is_some_and(|p| resolved(p).starts_with(&folder));
    if let Some(source) = sources.iter().find(inside) {
        return Some(PlanError::EvidenceAroundInput(source.name.clone()));
    }
    let read =
        request.captures.iter().filter(|c| c.is_dir()).find(|c| folder.starts_with(resolved(c)));
    read.map(|read| PlanError::EvidenceInsideInput(read.clone()))
}

/// The path without links and detours, as far as it exists.
pub(super) fn resolved(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = whole.ancestors().find_map(|p| Some((p, p.canonicalize().ok()?)));
    match there {
        Some((there, real)) => real.join(whole.strip_prefix(there).unwrap_or(Path::new(""))),
        None => whole,
    }
}
