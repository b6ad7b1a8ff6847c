//! Audits network interfaces continuously: judges each window of traffic alone and together with
//! all windows before it.
//!
//! ```text
//!  capture thread: interface --> batch --> its own tables --+
//!                                 |                         | at the end of a window
//!                                 v                         v
//!                           recorder thread            window loop --> listener --> http, syslog
//!                                                           |
//!                                                         state
//! ```
//!
//! Each interface has at least one capture thread, which reads frames and decodes them into tables
//! of its own. There is no queue between the kernel and the tables. When a window is closed, each
//! thread hands over its tables and continues with empty ones, so that the capture never stops.

mod capture_thread;
#[cfg(feature = "serve")]
mod http;
mod listener;
mod memory;
#[cfg(feature = "serve")]
mod metrics;
mod options;
#[cfg(feature = "serve")]
mod pages;
mod recorder;
#[cfg(feature = "store")]
mod rows;
mod sandbox;
mod snapshot;
mod state;
mod syslog;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crossbeam_channel::unbounded;

use crate::capture::{CaptureInput, LiveCapture};
#[cfg(feature = "store")]
use crate::flow::PacketRetention;
use crate::flow::{FlowStore, HashSeed, PrefixRetention, Retention, WindowCarryOver};
use crate::pipeline::{
    Audit, AuditError, ETHERNET, FlowRetention, Limits, Plan, Reading, Request, TrustedMirrors,
    temporary,
};
use crate::policy::Policy;
use crate::report::{Baseline, folder_of};
#[cfg(feature = "store")]
use crate::store::Spool;

use capture_thread::{CaptureThread, OpenCapture, open_all};
use memory::stay_bounded;
use recorder::{Recorded, RecorderThread, RotatedFiles};
use state::StateFolder;
use window::{WindowLoop, empty, restored};

#[cfg(feature = "serve")]
pub use http::{Auth, ServeError, listen, serve};
pub use listener::{CollectedWindow, Duty, Listener, LiveEvent, LiveOutcome, WindowClosed};
pub use options::{Control, LiveOptions};
pub use sandbox::{ConfineError, Confinement, Sandbox, confine};
pub use snapshot::LiveSnapshot;
pub use state::StateError;
pub use syslog::{Syslog, SyslogTarget, UnknownTarget, UnsentMessages};

/// The interval at which a waiting thread checks for requests.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The data that the threads of a live audit share.
struct LiveContext<'a> {
    plan: &'a Plan,
    watch: &'a LiveOptions,
    limits: &'a Limits,
    control: &'a Control,
    retention: &'a Retention,
    /// The store that creates the empty tables of this run.
    store: &'a FlowStore,
    /// The number of the open window.
    window: AtomicU64,
    /// The addresses that the inventory lists. A reload replaces them.
    listed: Mutex<Arc<ListedAddresses>>,
    end: AtomicBool,
    listener: &'a dyn Listener,
    recorder: Option<&'a RecorderThread>,
    #[cfg(feature = "store")]
    spool: Option<Spool>,
}

impl LiveContext<'_> {
    /// Judges a reading and keeps its flows for the next window.
    fn judge<'r>(
        &self,
        reading: &'r mut Reading,
        policy: &Arc<Policy>,
    ) -> Result<Audit<&'r mut Reading>, AuditError> {
        let progress = &self.control.progress;
        let policy = Some(Arc::clone(policy));
        Audit::judged(self.plan, reading, policy, None, self.limits, progress, FlowRetention::Keep)
    }
}

/// The resources of a live audit. All except `files` were opened before the privileges to open more
/// were given up.
pub struct LiveSetup {
    captures: Vec<OpenCapture>,
    state: Option<StateFolder>,
    files: Option<RotatedFiles>,
    #[cfg(feature = "store")]
    spool: Option<Spool>,
    /// The steps of the sandbox that failed, each with its error.
    pub unconfined: Vec<String>,
}

/// Opens all resources that require privileges, gives up the privileges to open more, and then
/// begins the files of recorded frames. The calling thread and the threads that it starts
/// afterwards lose these privileges.
pub fn ready(watch: &LiveOptions) -> Result<LiveSetup, AuditError> {
    let captures = open_all(watch)?;
    let state = watch.state.as_deref().map(StateFolder::open).transpose();
    let state = state.map_err(|failed| AuditError::Output(failed.path, failed.error))?;
    #[cfg(feature = "store")]
    let spool = watch.rows.as_ref().map(rows::open).transpose()?;
    let unconfined =
        confine(&watch.confinement).map_err(|error| AuditError::Confinement(error.into()))?;
    // The first file of recorded frames is created after privileges were dropped, like all later
    // ones, so a folder that cannot be written to is reported at the start.
    let files =
        watch.record.as_ref().map(|record| rotated_files(watch, record, &captures)).transpose()?;
    Ok(LiveSetup {
        captures,
        state,
        files,
        #[cfg(feature = "store")]
        spool,
        unconfined,
    })
}

/// Runs the live audit until `control` requests the end, the last window is closed or an error
/// occurs.
pub fn watch(
    watch: &LiveOptions,
    setup: LiveSetup,
    policy: Policy,
    limits: &Limits,
    control: &Control,
    listener: &dyn Listener,
) -> Result<LiveOutcome, AuditError> {
    let LiveSetup { captures, state, files, .. } = setup;
    let policy = Arc::new(policy);
    let recorder = files.map(RecorderThread::start);
    let plan = plan(watch).with_inventory(&policy);
    let seed = HashSeed::new();
    let store = FlowStore::new(&seed, plan.temp.clone());
    let retention = retention(watch);
    let mut all = restored(state.as_ref(), &store, listener)?
        .map_or_else(|| empty(watch, &store), Ok)
        .map_err(temporary(&plan.temp))?;
    let shared = LiveContext {
        plan: &plan,
        watch,
        limits,
        control,
        retention: &retention,
        store: &store,
        window: AtomicU64::new(0),
        listed: Mutex::new(Arc::new(ListedAddresses::of(&policy))),
        end: AtomicBool::new(false),
        listener,
        recorder: recorder.as_ref(),
        #[cfg(feature = "store")]
        spool: setup.spool,
    };
    let mut baseline = Baseline::default();
    if all.account.frames > 0 {
        // This run may have less memory than the earlier one.
        stay_bounded(&shared, &mut all.flows)?;
        // Findings from before the restart are not new.
        shared.judge(&mut all, &policy)?.remember(&mut baseline);
    }
    let threads = captures.len();
    thread::scope(|scope| {
        let (sender, parts) = unbounded();
        for open in captures {
            let shared = &shared;
            let sender = sender.clone();
            scope.spawn(move || CaptureThread::new(shared, open).run(&sender));
        }
        drop(sender);
        let windows = WindowLoop {
            shared: &shared,
            state: state.as_ref(),
            parts,
            threads,
            policy,
            baseline,
            carry_over: WindowCarryOver::default(),
        };
        let result = windows.run(all);
        // The threads must end even if an error ended the loop.
        shared.end.store(true, Ordering::Relaxed);
        shared.window.fetch_add(1, Ordering::Release);
        result
    })
}

/// Returns which evidence of single packets the tables of a window retain.
fn retention(watch: &LiveOptions) -> Retention {
    // Rows contain no pieces, but they must state which messages continue in another segment. This
    // fact is therefore retained in addition to the messages.
    #[cfg(feature = "store")]
    if let Some(rows) = &watch.rows {
        let packets =
            if rows.kept.traces { PacketRetention::Logs } else { PacketRetention::Nothing };
        return Retention { packets, parts: PrefixRetention::StartsAndAll };
    }
    #[cfg(not(feature = "store"))]
    let _ = watch;
    Retention { parts: PrefixRetention::All, ..Retention::default() }
}

/// The addresses that an inventory lists.
struct ListedAddresses {
    /// The addresses of hosts.
    hosts: BTreeSet<IpAddr>,
    /// Returns whether a network contains an address.
    is_in_network: Box<dyn Fn(IpAddr) -> bool + Send + Sync>,
}

impl ListedAddresses {
    fn of(policy: &Policy) -> Self {
        let hosts = policy.inventory.hosts.iter().flat_map(|host| host.addresses.iter().copied());
        let networks = policy.inventory.networks.iter().map(|network| network.cidr);
        let networks: Vec<_> = networks.collect();
        Self {
            hosts: hosts.collect(),
            is_in_network: Box::new(move |address| {
                networks.iter().any(|network| network.contains(&address))
            }),
        }
    }

    fn is_host(&self, address: IpAddr) -> bool {
        self.hosts.contains(&address)
    }

    fn is_listed(&self, address: IpAddr) -> bool {
        self.is_host(address) || (self.is_in_network)(address)
    }
}

/// Returns the plan for decoding batches. Each interface is a source.
fn plan(watch: &LiveOptions) -> Plan {
    let source = |name: &String| CaptureInput {
        path: None,
        name: name.clone(),
        size: 0,
        found: false,
        special: false,
        same_as: None,
        content: None,
        content_size: None,
    };
    let request = Request {
        max_memory: watch.max_memory,
        no_decap: watch.no_decap,
        vxlan_ports: watch.vxlan_ports.clone(),
        configuration: watch.configuration.clone(),
        ..Request::default()
    };
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Plan {
        sources: watch.interfaces.iter().map(source).collect(),
        origins: BTreeMap::new(),
        shared: None,
        jobs,
        // Temporary files are in the folder of the state, because it stays writable when file
        // access is confined.
        temp: watch.state.clone().unwrap_or_else(std::env::temp_dir),
        // A window may show the farm in a tunnel alone only because nothing else was captured
        // during this window, and what was once trusted cannot be doubted in a later window.
        mirrors: TrustedMirrors::Listed,
        hosts: Arc::default(),
        request,
    }
}

/// Returns the rotated files that frames are recorded in. The first file has been created.
fn rotated_files(
    watch: &LiveOptions,
    (path, size, files): &(PathBuf, u64, usize),
    captures: &[OpenCapture],
) -> Result<RotatedFiles, AuditError> {
    let folder = folder_of(path);
    if matches!(folder.try_exists(), Ok(false)) {
        let missing = "the folder of --write does not exist; create it first (mkdir -p)";
        let error = io::Error::new(io::ErrorKind::NotFound, missing);
        return Err(AuditError::Output(folder, error));
    }
    let recorded = |(number, name): (usize, &String)| {
        let open = captures.iter().find(|open| open.interface == number);
        let link = open.and_then(|open| open.capture.as_ref()).map_or(ETHERNET, LiveCapture::link);
        Recorded { name: name.clone(), link, snaplen: watch.capture.snaplen }
    };
    let interfaces = watch.interfaces.iter().enumerate().map(recorded).collect();
    RotatedFiles::new(path, *size, *files, interfaces).map_err(|failed| {
        if failed.error.kind() != io::ErrorKind::PermissionDenied {
            return AuditError::Output(failed.path, failed.error);
        }
        let (who, owner) = match &watch.confinement.user {
            Some(user) => (format!("the user {user}"), "that user"),
            None => (
                "the audit, which has given up its other privileges,".to_owned(),
                "the user who runs it",
            ),
        };
        let what = format!(
            "{who} cannot write to the folder of --write ({}); use a folder that belongs to {owner} (chown)",
            failed.error
        );
        AuditError::Output(folder, io::Error::new(io::ErrorKind::PermissionDenied, what))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::CaptureOptions;
    use crate::decode::Path;
    use crate::pipeline::Progress;

    fn options() -> LiveOptions {
        LiveOptions {
            interfaces: vec!["eth1".to_owned()],
            threads: 1,
            capture: CaptureOptions {
                snaplen: 1600,
                buffer: 1 << 20,
                promiscuous: false,
                filter: None,
            },
            every: Duration::from_secs(60),
            max_memory: 1 << 30,
            no_decap: false,
            vxlan_ports: Vec::new(),
            state: None,
            idle: Duration::from_secs(60),
            windows: None,
            confinement: Confinement {
                sandbox: Sandbox::Off,
                user: None,
                read: Vec::new(),
                write: Vec::new(),
                give: Vec::new(),
            },
            record: None,
            #[cfg(feature = "store")]
            rows: None,
            configuration: None,
        }
    }

    #[test]
    fn a_live_audit_infers_no_mirror() {
        let capture = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/wrapped/erspan-2.pcap");
        let captures = vec![PathBuf::from(capture)];
        let request = Request { captures, max_memory: 1 << 30, ..Request::default() };
        let offline = Plan::new(request).unwrap();
        let limits = Limits::default();
        let progress = Progress::default();
        // Returns whether the content of the tunnel is trusted.
        let trusts = |plan: &Plan| {
            let mut reading = Reading::of(&offline, &progress).unwrap();
            let retention = FlowRetention::Keep;
            Audit::judged(plan, &mut reading, None, None, &limits, &progress, retention).unwrap();
            reading.flows.trusted_path(Path::inside(0)) == Path::PLAIN
        };
        assert!(trusts(&offline));
        assert!(!trusts(&plan(&options())));
    }
}
