//! The options of a live audit, and the requests to it while it runs.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::sandbox::Confinement;
use crate::capture::CaptureOptions;
use crate::pipeline::{ConfigurationFile, Progress};
#[cfg(feature = "store")]
use crate::store::SpoolOptions;

/// Options of a live audit.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// The names of the interfaces.
    pub interfaces: Vec<String>,
    /// The number of threads per interface.
    pub threads: usize,
    /// How frames are captured.
    pub capture: CaptureOptions,
    /// The length of a window.
    pub every: Duration,
    /// The memory limit in bytes. Flows that exceed their share of it are aggregated.
    pub max_memory: usize,
    /// Whether to audit the tunnels themselves instead of their contents.
    pub no_decap: bool,
    /// UDP ports on which to look for VXLAN in addition to 4789 and 8472.
    pub vxlan_ports: Vec<u16>,
    /// The folder in which the evidence of all windows is kept for the next start.
    pub state: Option<PathBuf>,
    /// The time after which flows without traffic are moved to disk, if there is a state folder.
    pub idle: Duration,
    /// The number of windows after which the audit stops; `None` for no limit.
    pub windows: Option<u64>,
    /// How the process is confined once the interfaces are open.
    pub confinement: Confinement,
    /// Where to record frames, if requested: the path, the maximum size of a file in bytes, and the
    /// number of files to keep.
    pub record: Option<(PathBuf, u64, usize)>,
    /// Where to write the rows of each window, if requested.
    #[cfg(feature = "store")]
    pub rows: Option<SpoolOptions>,
    /// The configuration file that options were read from, if there was one.
    pub configuration: Option<ConfigurationFile>,
}

/// Requests to a running live audit, and its progress.
#[derive(Default)]
pub struct Control {
    /// The counters of the audit, for progress displays.
    pub progress: Progress,
    /// Set to close the window and end the audit.
    pub stop: AtomicBool,
    /// Set to close the window now.
    pub close_now: AtomicBool,
    /// Set to read the rules, the inventory and the exceptions again when the window is closed.
    pub reload: AtomicBool,
}

/// What happens after a window.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterWindow {
    /// The next window is opened.
    Continue,
    /// No further window is opened, because the audit ends.
    Stop,
}
