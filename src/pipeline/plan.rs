//! Plans what is read, and checks the plan before the long work starts.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::check_filter;
use super::source::{Origin, SharedEvidence};
use crate::capture::{CaptureError, CaptureInput, InputContent, Unreadable, expand_with};
use crate::conversation::TrustedMirrors;
use crate::decode::{StatedTunnel, Tunnel, TunnelUse};
use crate::model::{Nanos, named_enum};
use crate::policy::{Policy, unreadable};
use crate::result::ConfigurationFile;

/// A request to read captures, with the options of the user.
#[derive(Clone, Debug)]
pub struct Request {
    /// Files, folders, or `-` for standard input.
    pub captures: Vec<PathBuf>,
    /// The number of worker threads; `None` for one per processor.
    pub jobs: Option<usize>,
    /// The memory limit in bytes. Flow tables that take more than half of it spill to disk.
    pub max_memory: usize,
    /// A BPF expression. Frames that do not match are counted and skipped. Without the feature
    /// `bpf`, [`Plan::new`] rejects every expression.
    pub filter: Option<String>,
    /// Frames before this time are counted and skipped, in ns since the epoch.
    pub since: Option<Nanos>,
    /// Frames at or after this time are counted and skipped, in ns since the epoch.
    pub until: Option<Nanos>,
    /// What to do with a named capture that exists but cannot be read.
    pub unreadable: Unreadable,
    /// Whether to compute the SHA-256 of each source.
    pub hash: bool,
    /// Whether to audit the tunnels themselves instead of their contents.
    pub no_decap: bool,
    /// UDP ports on which to look for VXLAN in addition to 4789 and 8472.
    pub vxlan_ports: Vec<u16>,
    /// The tunnels that the inventory lists.
    pub tunnels: Vec<StatedTunnel>,
    /// Whether to exclude duplicate packets from counters.
    pub dedup: Dedup,
    /// The folder for the frames that findings are based on; `None` to write no frames.
    pub evidence: Option<PathBuf>,
    /// The configuration file that options were read from, if there was one.
    pub configuration: Option<ConfigurationFile>,
}

/// A request without captures, with the defaults of the commands.
impl Default for Request {
    fn default() -> Self {
        Self {
            captures: Vec::new(),
            jobs: None,
            max_memory: 1 << 30,
            filter: None,
            since: None,
            until: None,
            unreadable: Unreadable::default(),
            hash: false,
            no_decap: false,
            vxlan_ports: Vec::new(),
            tunnels: Vec::new(),
            dedup: Dedup::default(),
            evidence: None,
            configuration: None,
        }
    }
}

named_enum!(
    /// Whether duplicate packets are excluded from counters.
    Dedup {
        /// If a sample shows duplicates or several sensors saw the same conversation, provided that
        /// the sources can be read again.
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

/// The reason why a request cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A named file or folder cannot be read.
    #[error("{}", unreadable_input(.0))]
    Input(#[source] CaptureError),
    /// Standard input, which can be read only once, is given more than once.
    #[error("standard input (-) is given more than once")]
    StandardInputTwice,
    /// The named folders contain no files.
    #[error("there is nothing to read, because none of the given folders contains a file")]
    NoFiles,
    /// The filter expression is empty, libpcap rejects it, or this build has no libpcap.
    #[error("--filter \"{expression}\": {source}{advice}", advice = filter_advice(source))]
    Filter {
        /// The expression as the user wrote it.
        expression: String,
        /// The error of libpcap, or the reason why libpcap was not called.
        source: CaptureError,
    },
    /// The end of the time range is not after its start.
    #[error("--since is not before --until, so no frame can match")]
    EmptyTimeRange,
    /// The frames of findings were requested, but this input cannot be read a second time.
    #[error(
        "--evidence reads the captures a second time, which is not possible with {0}; write it to a file first"
    )]
    EvidenceReadsAgain(String),
    /// This input is in the evidence folder, whose content is replaced.
    #[error("--evidence: the folder contains the input {0}; use another folder")]
    EvidenceAroundInput(String),
    /// The evidence folder is inside this folder of captures.
    #[error(
        "--evidence is inside the input folder {}, so the next audit would read the evidence as captures; use another folder", .0.display()
    )]
    EvidenceInsideInput(PathBuf),
}

/// Returns where a user finds the syntax of filters, as the end of a message about a filter that
/// libpcap rejected.
fn filter_advice(error: &CaptureError) -> &'static str {
    match error {
        #[cfg(feature = "bpf")]
        CaptureError::Filter(_) => "; the manual page pcap-filter(7) describes the syntax",
        _ => "",
    }
}

/// Describes why an input that the user named cannot be read, and suggests the most similar name
/// that exists.
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
    /// The sources. Captures are sorted by name.
    pub sources: Vec<CaptureInput>,
    /// The sources that are not captures, keyed by their index in `sources`.
    pub(crate) origins: BTreeMap<usize, Arc<dyn Origin>>,
    /// The evidence that the sources which are not captures have in common.
    pub(crate) shared: Option<Arc<dyn SharedEvidence>>,
    /// The number of worker threads.
    pub jobs: usize,
    /// The folder that tables spill to.
    pub temp: PathBuf,
    /// Which tunnels count as mirrors.
    pub(crate) mirrors: TrustedMirrors,
    /// The addresses of the hosts in the inventory. If memory is short, evidence about them is kept
    /// before other evidence.
    pub(crate) hosts: Arc<HashSet<IpAddr>>,
    /// The request that the plan carries out.
    pub request: Request,
}

impl Plan {
    /// Checks a request.
    ///
    /// # Errors
    ///
    /// Returns all problems of the request, not only the first one.
    pub fn new(request: Request) -> Result<Self, Vec<PlanError>> {
        let mut problems = Vec::new();
        let sources = match expand_with(&request.captures, Vec::new(), request.unreadable) {
            Ok(sources) => {
                if sources.iter().filter(|s| s.path.is_none()).count() > 1 {
                    problems.push(PlanError::StandardInputTwice);
                }
                if sources.is_empty() {
                    problems.push(PlanError::NoFiles);
                }
                sources
            }
            Err(errors) => {
                problems.extend(errors.into_iter().map(PlanError::Input));
                Vec::new()
            }
        };
        problems.extend(request.filter.as_deref().and_then(|filter| check_filter(filter).err()));
        if let (Some(since), Some(until)) = (request.since, request.until)
            && since >= until
        {
            problems.push(PlanError::EmptyTimeRange);
        }
        let evidence = request.evidence.as_deref();
        problems.extend(evidence.and_then(|to| evidence_problem(to, &request, &sources)));
        if !problems.is_empty() {
            return Err(problems);
        }
        let jobs = request.jobs.unwrap_or_else(processors).max(1);
        let origins = BTreeMap::new();
        let temp = std::env::temp_dir();
        let mirrors = TrustedMirrors::Inferred;
        let hosts = Arc::default();
        Ok(Self { sources, origins, shared: None, jobs, temp, mirrors, hosts, request })
    }

    /// Creates a plan to read inputs whose evidence is stored, in addition to the captures of the
    /// request. A file whose content is stored is not read again, whatever its name.
    ///
    /// # Errors
    ///
    /// Returns an error for each capture that cannot be read. The filter, the time range and the
    /// evidence folder are not checked.
    pub fn with_stored(
        request: Request,
        stored: Vec<StoredInput>,
        shared: Arc<dyn SharedEvidence>,
    ) -> Result<Self, Vec<PlanError>> {
        let known = stored.iter().map(|input| CaptureInput {
            path: None,
            name: input.name.clone(),
            size: input.size,
            found: false,
            special: false,
            same_as: None,
            content: Some(input.content),
            content_size: input.content_size,
        });
        let sources = expand_with(&request.captures, known.collect(), request.unreadable)
            .map_err(|errors| errors.into_iter().map(PlanError::Input).collect::<Vec<_>>())?;
        // The first input with each content takes the record of the stored input with its name, or
        // of another one.
        let mut by_content: BTreeMap<InputContent, Vec<StoredInput>> = BTreeMap::new();
        for input in stored {
            by_content.entry(input.content).or_default().push(input);
        }
        let mut origins = BTreeMap::new();
        for (number, source) in sources.iter().enumerate().filter(|(_, s)| s.same_as.is_none()) {
            let stored = source.content.and_then(|content| by_content.remove(&content));
            let mut stored = stored.into_iter().flatten();
            let other = stored.next();
            let own = stored.find(|input| input.name == source.name);
            let other = other.filter(|other| own.is_none() || other.name == source.name);
            origins.extend(other.or(own).map(|input| (number, input.origin)));
        }
        let jobs = request.jobs.unwrap_or_else(processors).max(1);
        // The stored inputs count as captures, as if they were read.
        let captures = sources.iter().map(|source| PathBuf::from(&source.name)).collect();
        let request = Request { captures, ..request };
        Ok(Self {
            sources,
            origins,
            shared: Some(shared),
            jobs,
            temp: std::env::temp_dir(),
            mirrors: TrustedMirrors::Inferred,
            hosts: Arc::default(),
            request,
        })
    }

    /// Returns the plan with the tunnels that the inventory of `policy` declares, and the addresses
    /// of its hosts.
    #[must_use]
    pub fn with_inventory(&self, policy: &Policy) -> Self {
        let stated = policy.inventory.tunnels.iter().filter_map(|tunnels| {
            let stated = if tunnels.is_mirror { TunnelUse::Mirror } else { TunnelUse::Overlay };
            let ends = tunnels.ends.clone();
            let kind = Tunnel::parse(tunnels.kind)?;
            Some(StatedTunnel { ends, kind, stated })
        });
        let mut plan = self.clone();
        plan.request.tunnels = stated.collect();
        let hosts = policy.inventory.hosts.iter();
        plan.hosts = Arc::new(hosts.flat_map(|host| host.addresses.iter().copied()).collect());
        plan
    }

    /// Returns a plan that reads these named sources instead of captures.
    #[must_use]
    pub fn of_origins(request: Request, origins: Vec<(String, Arc<dyn Origin>)>) -> Self {
        let input = |name: &String| CaptureInput {
            path: None,
            name: name.clone(),
            size: 0,
            found: false,
            special: false,
            same_as: None,
            content: None,
            content_size: None,
        };
        let jobs = request.jobs.unwrap_or_else(processors).max(1);
        Self {
            sources: origins.iter().map(|(name, _)| input(name)).collect(),
            origins: origins.into_iter().map(|(_, origin)| origin).enumerate().collect(),
            shared: None,
            jobs,
            temp: std::env::temp_dir(),
            mirrors: TrustedMirrors::Inferred,
            hosts: Arc::default(),
            request,
        }
    }

    /// Returns whether all sources can be read a second time.
    pub fn is_rereadable(&self) -> bool {
        self.files_are_rereadable() && (self.origins.is_empty() || self.shared.is_some())
    }

    /// Returns whether any source is a capture.
    pub(crate) fn reads_captures(&self) -> bool {
        self.captures().next().is_some()
    }

    /// Returns the names of the sources that are captures and are read.
    pub fn captures(&self) -> impl Iterator<Item = &str> {
        let is_capture = |(number, source): &(usize, &CaptureInput)| {
            source.same_as.is_none() && !self.origins.contains_key(number)
        };
        self.sources.iter().enumerate().filter(is_capture).map(|(_, source)| source.name.as_str())
    }

    /// Returns whether all sources that are captures can be read a second time.
    fn files_are_rereadable(&self) -> bool {
        let mut sources = self.sources.iter().enumerate();
        sources.all(|(number, source)| {
            self.origins.contains_key(&number)
                || source.same_as.is_some()
                || can_be_read_again(source)
        })
    }
}

/// An input whose evidence is stored.
#[derive(Clone, Debug)]
pub struct StoredInput {
    /// The name of the capture.
    pub name: String,
    /// The size of the capture in bytes.
    pub size: u64,
    /// The SHA-256 of the content of the capture, after decompression.
    pub content: InputContent,
    /// The size of the content in bytes, after decompression; `None` if it is unknown.
    pub content_size: Option<u64>,
    /// Provides the record of the input and, together with the other stored inputs, the evidence.
    pub origin: Arc<dyn Origin>,
}

/// Returns the number of processors that this process may use.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Returns whether a source can be read as often as necessary. This includes a file in a folder
/// that is not read at all, because it is a link without a target or a special file.
fn can_be_read_again(source: &CaptureInput) -> bool {
    let is_file = |path: &PathBuf| {
        path.metadata().map_or(source.found, |metadata| source.special || metadata.is_file())
    };
    source.path.as_ref().is_some_and(is_file)
}

/// Returns why evidence cannot be written to a folder; `None` if it can.
fn evidence_problem(
    folder: &Path,
    request: &Request,
    sources: &[CaptureInput],
) -> Option<PlanError> {
    if let Some(source) = sources.iter().find(|s| !can_be_read_again(s)) {
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

/// Returns the absolute form of a path. Symbolic links are resolved in the longest part that
/// exists.
pub(crate) fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let existing = absolute.ancestors().find_map(|p| Some((p, p.canonicalize().ok()?)));
    match existing {
        Some((existing, real)) => {
            real.join(absolute.strip_prefix(existing).unwrap_or(Path::new("")))
        }
        None => absolute,
    }
}
