//! Opens and starts the HTTP server of `rasaudit live --listen`.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::args::LiveArguments;
use super::report_error;
use crate::live::{Auth, Control, LiveSnapshot, listen, serve};
use crate::policy::unreadable;

/// The bound listener and its access check; `None` without `--listen`.
pub(super) struct PageServer(Option<(TcpListener, Auth)>);

impl PageServer {
    /// Reads the token and binds the listener as the arguments specify. If there is a problem,
    /// reports it and returns `None`.
    pub fn open(arguments: &LiveArguments) -> Option<Self> {
        let opened = open_listener(arguments);
        opened.map(Self).map_err(|message| report_error(&message)).ok()
    }

    /// Starts the server and returns its address; `None` without `--listen`. An error has already
    /// been reported to the user.
    pub fn start(
        self,
        pages: &Arc<LiveSnapshot>,
        every: Duration,
        control: &Arc<Control>,
    ) -> Result<Option<SocketAddr>, ()> {
        let Some((listener, auth)) = self.0 else { return Ok(None) };
        let address = listener.local_addr().ok();
        serve(listener, auth, pages, every, control)
            .map_err(|error| report_error(&format!("--listen: {error}")))?;
        Ok(address)
    }
}

fn open_listener(arguments: &LiveArguments) -> Result<Option<(TcpListener, Auth)>, String> {
    let auth = arguments.token.as_deref().map(read_token).transpose()?.unwrap_or_default();
    let Some(address) = arguments.listen else { return Ok(None) };
    let listener = listen(address, &auth).map_err(|error| format!("--listen: {error}"))?;
    Ok(Some((listener, auth)))
}

/// Reads the token that HTTP clients must send. A file that other users could read or change is
/// refused.
fn read_token(file: &Path) -> Result<Auth, String> {
    let problem = |what: &str| format!("--token {}: {what}", file.display());
    let failed = |error: &io::Error| problem(&unreadable(file, error));
    // Reading a device might never end, and reading a pipe would block until another process writes
    // to it.
    if !file.metadata().map_err(|error| failed(&error))?.is_file() {
        return Err(problem("this is not a regular file"));
    }
    let mut open = std::fs::File::open(file).map_err(|error| failed(&error))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let data = open.metadata().map_err(|error| failed(&error))?;
        let ours = [0, nix::unistd::geteuid().as_raw()].contains(&data.uid());
        if data.permissions().mode() & 0o077 != 0 || !ours {
            return Err(problem(
                "other users can read or write it; run chmod 600, and chown to the user who starts rasaudit",
            ));
        }
    }
    let mut text = String::new();
    open.read_to_string(&mut text).map_err(|error| failed(&error))?;
    Auth::with_token(text.trim()).map_err(|error| problem(&error.to_string()))
}
