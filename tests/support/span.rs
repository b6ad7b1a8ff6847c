//! A test network for live audits: a pair of interfaces in a network namespace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::fixture;

/// The name of a network namespace with the connected veth interfaces `sent` and `span`.
pub struct Wire(pub String);

impl Wire {
    /// Creates the namespace. Prints a message and returns `None` if that is not possible; panics
    /// instead if `RASAUDIT_REQUIRE_LAB` is set.
    pub fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("ras-live-{}-{number}", std::process::id());
        let wire = Self(name.clone());
        let made = sh(&format!("command -v tcpreplay && command -v nft && ip netns add {name}"))
            && wire.cable();
        if !made {
            let reason = "live audits: they need root, iproute2, tcpreplay, nftables, tcpdump and a network namespace";
            assert!(
                std::env::var_os("RASAUDIT_REQUIRE_LAB").is_none(),
                "the lab is required: {reason}"
            );
            super::skipped(reason);
            return None;
        }
        Some(wire)
    }

    pub fn cable(&self) -> bool {
        let ip = format!("ip -n {}", self.0);
        sh(&format!(
            "{ip} link add sent type veth peer name span && {ip} link set sent up && \
             {ip} link set span up && ip netns exec {} sysctl -qw net.ipv6.conf.all.disable_ipv6=1",
            self.0
        ))
    }

    pub fn ip(&self, words: &str) {
        assert!(sh(&format!("ip -n {} {words}", self.0)), "{words}");
    }

    /// Replays a capture from `sent`, and its first frame again 3.2 s later. Without that frame,
    /// attempts in the last three seconds of the capture would not be reported, because they might
    /// still be answered.
    pub fn replay(&self, capture: &Path) {
        let replay = format!("ip netns exec {} tcpreplay -q -i sent", self.0);
        let file = capture.display();
        assert!(sh(&format!("{replay} --mbps 50 {file} && sleep 3.2 && {replay} -L 1 {file}")));
    }

    /// Returns an `ip netns exec` command for the namespace. The caller adds the program to run.
    pub fn inside(&self) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).env("PATH", path_var());
        command
    }

    /// Fetches a URL and returns the HTTP status and the body. `more` is Python code that may
    /// change the request `r`.
    pub fn get(&self, address: &str, more: &str) -> (String, String) {
        let script = format!(
            "import urllib.request as u, urllib.error as e\n\
             r = u.Request('http://{address}')\n{more}\n\
             try: r = u.urlopen(r)\n\
             except e.HTTPError as x: r = x\n\
             print(r.status); print(r.read().decode(), end='')"
        );
        let run = self.inside().args(["python3", "-c", &script]).output().expect("python3");
        let told = text(&run.stdout);
        let (status, body) = told.split_once('\n').unwrap_or_default();
        (status.to_owned(), body.to_owned())
    }

    pub fn live(&self, folder: &Path, more: &[&str]) -> Live {
        self.live_under(&[], folder, more)
    }

    /// Starts a live audit like [`Self::live`], but under the command `starter`, for example
    /// strace.
    pub fn live_under(&self, starter: &[&str], folder: &Path, more: &[&str]) -> Live {
        let mut command = self.inside();
        command.args(starter).args([env!("CARGO_BIN_EXE_rasaudit"), "live", "span"]);
        command.arg("-i").arg(inventory(folder)).arg("--out").arg(folder.join("out"));
        if !more.contains(&"--min-watch") {
            command.args(["--min-watch", "60s"]);
        }
        command.args(more);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("the program starts");
        // Frames that arrive before the program opens the interface are not captured.
        sleep(Duration::from_millis(700));
        Live { child }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // If the test failed, its audit is still running.
        sh(&format!("ip netns pids {0} | xargs -r kill -9; ip netns del {0}", self.0));
    }
}

/// Returns whether a program is installed that only some live tests need. Prints a message if it is
/// missing; panics instead if `RASAUDIT_REQUIRE_LAB` is set.
pub fn there(program: &str) -> bool {
    let there = sh(&format!("command -v {program}"));
    if !there {
        let required = std::env::var_os("RASAUDIT_REQUIRE_LAB").is_some();
        assert!(!required, "the lab is required: {program} is missing");
        super::skipped(&format!("a live audit under {program}, which is missing"));
    }
    there
}

/// A live audit that [`Wire::live`] started.
pub struct Live {
    pub child: Child,
}

impl Live {
    pub fn signal(&self, name: &str) {
        assert!(sh(&format!("kill -{name} {}", self.child.id())));
    }

    pub fn end(mut self) -> Output {
        let start = Instant::now();
        while self.child.try_wait().expect("its state").is_none() {
            if start.elapsed() > Duration::from_secs(60) {
                let _ = self.child.kill();
                panic!("the live audit does not end");
            }
            sleep(Duration::from_millis(50));
        }
        self.child.wait_with_output().expect("its output")
    }
}

pub fn path_var() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

pub fn sh(script: &str) -> bool {
    let mut command = Command::new("sh");
    command.env("PATH", path_var()).args(["-c", script]);
    command.output().is_ok_and(|done| done.status.success())
}

/// Copies the inventory of the lab farm into a folder. Only the owner may write the copy, because
/// live audits reject inventories that others may change.
pub fn inventory(folder: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let file = folder.join("inventory.toml");
    if !file.exists() {
        fs::copy(fixture("farm-healthy/inventory.toml"), &file).expect("a copy");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("permissions");
    }
    file
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
