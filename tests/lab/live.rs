//! Tests live audits in network namespaces. Most of their traffic is replayed from captures over a
//! pair of interfaces. Needs root, iproute2, nftables, tcpdump, python3 and tcpreplay. Without
//! network namespaces, nftables or tcpreplay, the tests are ignored. If `RASAUDIT_REQUIRE_LAB` is
//! set, as in CI, they fail if anything is missing.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::fixture;
use crate::support::span::{Wire, inventory, path_var, sh, text};

lab_tests! {
    live_says_what_an_audit_of_the_same_traffic_says_with_any_number_of_threads: [Namespaces],
    a_restart_goes_on_where_it_was_killed_and_a_torn_state_costs_one_window: [Namespaces],
    signals_close_windows_and_reload_what_is_valid: [Namespaces],
    an_interface_may_go_and_come_back: [Namespaces],
    an_interface_may_appear_after_the_start: [Namespaces],
    a_full_disk_costs_reports_and_nothing_else: [Namespaces],
    a_filter_lets_tagged_frames_pass_that_the_kernel_untagged: [Namespaces],
    wrong_words_are_told_before_anything_starts: [],
    metrics_health_report_and_syslog_tell_the_same_findings: [Namespaces],
    no_thread_of_a_running_audit_has_rights_that_it_does_not_need: [Namespaces],
    another_user_goes_on_where_root_began: [Namespaces],
    frames_are_kept_in_rotated_files_that_an_audit_reads_as_the_live_one_did: [Namespaces],
    a_wire_that_is_down_proves_nothing_missing: [Namespaces],
    an_answer_may_have_come_while_the_wire_was_away: [Namespaces],
    fragments_are_counted_the_same_with_any_number_of_threads: [Namespaces],
    a_state_goes_on_with_what_limited_it: [Namespaces],
    made_up_addresses_and_inside_scans_stay_within_memory: [Namespaces],
    a_mirror_of_a_switch_with_real_sockets_is_judged_as_its_frames_are_offline: [Namespaces],
}

/// Returns the named columns of a report, as a set of rows.
fn columns<const N: usize>(file: &Path, wanted: [&str; N]) -> BTreeSet<[String; N]> {
    let mut reader = csv::Reader::from_path(file).expect("a report");
    let header = reader.headers().expect("a header").clone();
    let places = wanted.map(|name| header.iter().position(|h| h == name).expect(name));
    reader.records().map(|r| places.map(|p| r.as_ref().expect("a row")[p].to_owned())).collect()
}

/// Returns a pcap file of Ethernet frames.
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, 1] {
        file.extend(u32::to_le_bytes(word));
    }
    for frame in frames {
        for word in [1_700_000_000, 0, frame.len() as u32, frame.len() as u32] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
    }
    file
}

/// Returns an Ethernet frame with an IPv4 packet. `piece` contains the flags and the fragment
/// offset.
fn packet(id: u16, piece: u16, protocol: u8, from: u32, to: u32, above: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x45, 0];
    ip.extend((20 + above.len() as u16).to_be_bytes());
    ip.extend([id.to_be_bytes(), piece.to_be_bytes(), [60, protocol], [0, 0]].concat());
    ip.extend([from.to_be_bytes(), to.to_be_bytes()].concat());
    let words = ip.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0][..], &ip, above].concat()
}

/// Returns one of the two fragments of a UDP datagram.
fn fragment(id: u16, first: bool) -> Vec<u8> {
    const MORE: u16 = 0x2000;
    let from = 0x0a14_011f;
    let to = 0x0a14_0133;
    if first {
        let mut above = [50_000u16, 30_004, 8 + 16 + 32, 0].map(u16::to_be_bytes).concat();
        above.extend([7; 16]);
        packet(id, MORE, 17, from, to, &above)
    } else {
        packet(id, 3, 17, from, to, &[8; 32])
    }
}

/// Returns a frame that differs from nearly all others: an address claim, a datagram or SYN from an
/// outside address, or a SYN of a scan inside the farm.
fn stranger(number: u32) -> Vec<u8> {
    // Spreads the addresses over a large part of the address space.
    let made_up = number.wrapping_mul(0x9e37_79b9) | 0x4000_0000;
    let ports = |to: u16| [(1024 + number % 60_000) as u16, to].map(u16::to_be_bytes).concat();
    let syn = |to| [ports(to), vec![0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 32, 0, 0, 0, 0, 0]].concat();
    match number % 4 {
        0 => {
            let mut frame = vec![255; 6];
            frame.extend([2, 9, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 9, 0, 0, 0, 1]);
            frame.extend(made_up.to_be_bytes());
            frame.extend([0, 0, 0, 0, 0, 0, 10, 20, 1, 1]);
            frame
        }
        1 => packet(1, 0, 17, made_up, 0x0a14_0115, &[ports(7161), vec![0, 8, 0, 0]].concat()),
        2 => packet(1, 0, 6, made_up, 0x0a14_0115, &syn(443)),
        _ => {
            let from = 0x0a14_0000 | made_up & 0xffff;
            let to = 0x0a14_0000 | made_up >> 16;
            packet(1, 0, 6, from, to, &syn((number >> 3) as u16))
        }
    }
}

const WHO: [&str; 8] =
    ["client", "server", "transport", "port", "verdict", "code", "direction", "state"];

/// Audits a capture or a folder of captures offline and returns the folder of the reports.
fn offline(capture: &Path, folder: &Path) -> PathBuf {
    offline_with(capture, folder, 1)
}

fn offline_with(capture: &Path, folder: &Path, code: i32) -> PathBuf {
    let out = folder.join("offline");
    let mut command = Command::new(env!("CARGO_BIN_EXE_rasaudit"));
    command.arg("audit").arg(capture).arg("-i").arg(inventory(folder)).arg("--out").arg(&out);
    command.args(["--min-watch", "60s", "-q"]);
    assert_eq!(command.output().expect("it runs").status.code(), Some(code));
    out
}

fn live_says_what_an_audit_of_the_same_traffic_says_with_any_number_of_threads() {
    let Some(wire) = Wire::new() else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    let capture = fixture("farm-faults/span.pcap");
    let offline = offline(&capture, scratch.path());
    let expected = columns(&offline.join("conversations.csv"), WHO);
    let findings = |folder: &Path| columns(&folder.join("findings.csv"), ["id", "severity"]);
    // The replay takes a second and sends truncated frames, so repeated packets look like copies
    // and missing bytes like loss. Severities therefore differ from those of the original.
    let above_info = |folder: &Path| -> BTreeSet<_> {
        let above = findings(folder).into_iter().filter(|[_, severity]| severity != "info");
        above.map(|[id, _]| id).collect()
    };
    for jobs in ["1", "2", "4"] {
        let folder = scratch.path().join(jobs);
        fs::create_dir(&folder).expect("a folder");
        let live = wire.live(&folder, &["--every", "3s", "--jobs", jobs]);
        wire.replay(&capture);
        live.signal("TERM");
        let ended = live.end();
        assert_eq!(ended.status.code(), Some(1), "{}", text(&ended.stderr));
        let latest = folder.join("out/latest");
        assert_eq!(columns(&latest.join("conversations.csv"), WHO), expected, "{jobs}");
        assert_eq!(above_info(&latest), above_info(&offline), "{jobs}");
        // Each finding above info is reported exactly once.
        let told = text(&ended.stdout);
        assert_eq!(told.lines().count(), 3, "{told}");
        for id in above_info(&latest) {
            assert!(told.contains(&id), "{told}");
        }
    }
}

fn a_restart_goes_on_where_it_was_killed_and_a_torn_state_costs_one_window() {
    let Some(wire) = Wire::new() else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    let state = scratch.path().join("state");
    let state_arguments = ["--every", "1s", "--state", state.to_str().expect("a name")];
    let mut live = wire.live(scratch.path(), &state_arguments);
    wire.replay(&fixture("farm-faults/span.pcap"));
    sleep(Duration::from_millis(4500));
    live.signal("KILL");
    live.child.wait().expect("its end");
    let count = |folder: &Path| -> u64 {
        let text = fs::read_to_string(folder.join("out/latest/audit.json")).expect("a report");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        json["accounting"]["frames_read"].as_u64().expect("a number")
    };
    let before = count(scratch.path());
    assert!(before > 10_000, "{before}");
    // A crash during a write leaves a truncated state file.
    let current = state.join("evidence.state");
    let whole = fs::read(&current).expect("a state");
    fs::write(&current, &whole[..whole.len() / 2]).expect("a truncated state");
    let ended =
        wire.live(scratch.path(), &[&state_arguments[..], &["--windows", "2"]].concat()).end();
    let told = text(&ended.stderr);
    assert!(told.contains("is not a complete state: its checksum is wrong"), "{told}");
    assert!(told.contains("flows from the saved state"), "{told}");
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert_eq!(count(scratch.path()), before);
    // Earlier findings are in the report but are not reported as new.
    assert_eq!(
        columns(&scratch.path().join("out/latest/findings.csv"), ["id", "severity"]).len(),
        4
    );
    assert_eq!(text(&ended.stdout), "");
    // After a change of the inventory, the saved evidence is judged again.
    let file = inventory(scratch.path());
    let old = fs::read_to_string(&file).expect("an inventory");
    fs::write(&file, old.replace("\"rep1\"", "\"reporter\"")).expect("an inventory");
    let ended =
        wire.live(scratch.path(), &[&state_arguments[..], &["--windows", "1"]].concat()).end();
    let named = columns(&scratch.path().join("out/latest/findings.csv"), ["client_name", "code"]);
    assert!(
        named.contains(&["reporter".to_owned(), "refused".to_owned()]),
        "{named:?} {}",
        text(&ended.stderr)
    );
}

fn signals_close_windows_and_reload_what_is_valid() {
    let Some(wire) = Wire::new() else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    let live = wire.live(scratch.path(), &["--every", "1h"]);
    wire.replay(&fixture("farm-faults/span.pcap"));
    sleep(Duration::from_millis(500));
    let latest = scratch.path().join("out/latest/findings.csv");
    let appears = || {
        let start = Instant::now();
        while !latest.exists() && start.elapsed() < Duration::from_secs(10) {
            sleep(Duration::from_millis(50));
        }
        let folder = fs::read_link(scratch.path().join("out/latest")).expect("a report");
        columns(&latest, ["code", "client_name"]).len() + folder.as_os_str().len()
    };
    live.signal("USR1");
    appears();
    // The inventory has two errors. Both are reported, and the old inventory stays in use.
    let file = inventory(scratch.path());
    let good = fs::read_to_string(&file).expect("an inventory");
    fs::write(
        &file,
        format!(
            "{good}\n[[host]]\nname = \"x\"\naddresses = [\"nowhere\"]\nroles = [\"gatewy\"]\n"
        ),
    )
    .expect("a file");
    live.signal("HUP");
    sleep(Duration::from_millis(200));
    live.signal("USR1");
    sleep(Duration::from_millis(1500));
    fs::write(&file, good.replace("\"rep1\"", "\"reporter\"")).expect("a file");
    live.signal("HUP");
    sleep(Duration::from_millis(200));
    live.signal("INT");
    let ended = live.end();
    let told = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{told}");
    for part in [
        "nowhere",
        "gatewy",
        "keeping the previous inventory, rules and exceptions",
        "reloaded the inventory, the rules and the exceptions",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let named = columns(&latest, ["client_name", "code"]);
    assert!(named.contains(&["reporter".to_owned(), "refused".to_owned()]), "{named:?}");
}

fn an_interface_may_go_and_come_back() {
    let Some(wire) = Wire::new() else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    let live = wire.live(scratch.path(), &["--every", "1h"]);
    wire.ip("link del span");
    sleep(Duration::from_millis(1500));
    assert!(wire.cable());
    sleep(Duration::from_millis(2500));
    // libpcap does not distinguish an interface that is down from an idle one, so the audit must
    // check the interface itself.
    wire.ip("link set span down");
    sleep(Duration::from_millis(2500));
    wire.ip("link set span up");
    sleep(Duration::from_millis(2000));
    // A renamed interface counts as missing.
    wire.ip("link set span down");
    wire.ip("link set span name other");
    sleep(Duration::from_millis(2500));
    wire.ip("link set other name span");
    wire.ip("link set span up");
    sleep(Duration::from_millis(2000));
    wire.replay(&fixture("farm-faults/span.pcap"));
    live.signal("INT");
    let ended = live.end();
    let told = text(&ended.stderr);
    assert_eq!(told.matches("span can no longer be read").count(), 3, "{told}");
    assert!(told.contains("(it is down)"), "{told}");
    assert_eq!(told.matches("span is now being read").count(), 3, "{told}");
    // The interface could not be read for some time. The exit code reports this, and the audit
    // continues.
    assert_eq!(ended.status.code(), Some(3), "{told}");
    let report = scratch.path().join("out/latest/findings.csv");
    assert!(columns(&report, ["code"]).contains(&["refused".to_owned()]));
}

fn an_interface_may_appear_after_the_start() {
    let Some(wire) = Wire::new() else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    wire.ip("link del span");
    let live = wire.live(scratch.path(), &["--every", "1h"]);
    sleep(Duration::from_millis(500));
    assert!(wire.cable());
    sleep(Duration::from_millis(2500));
    wire.replay(&fixture("farm-faults/span.pcap"));
    live.signal("INT");
    let ended = live.end();
    let told = text(&ended.stderr);
    assert_eq!(told.matches("span does not exist").count(), 1, "{told}");
    assert_eq!(told.matches("span is now being read").count(), 1, "{told}");
    assert_eq!(ended.status.code(), Some(3), "{told}");
    let report = scratch.path().join("out/latest/findings.csv");
    assert!(columns(&report, ["code"]).contains(&["refused".to_owned()]));
    // With `--sandbox strict`, the audit gives up the privilege to open interfaces, so it does not
    // start if an interface is missing.
    wire.ip("link del span");
    let ended = wire.live(scratch.path(), &["--every", "1h", "--sandbox", "strict"]).end();
    assert_eq!(ended.status.code(), Some(2), "{}", text(&ended.stderr));
}

fn a_full_disk_costs_reports_and_nothing_else() {
    let Some(wire) = Wire::new() else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    let out = scratch.path().join("out");
    fs::create_dir(&out).expect("a folder");
    assert!(sh(&format!("mount -t tmpfs -o size=64k none {}", out.display())));
    let live = wire.live(scratch.path(), &["--every", "1s"]);
    wire.replay(&fixture("farm-faults/span.pcap"));
    sleep(Duration::from_millis(1500));
    live.signal("INT");
    let ended = live.end();
    let left: Vec<_> =
        fs::read_dir(&out).expect("the folder").flatten().map(|e| e.file_name()).collect();
    assert!(sh(&format!("umount {}", out.display())));
    let told = text(&ended.stderr);
    assert!(told.contains("No space left"), "{told}");
    assert_eq!(ended.status.code(), Some(3), "{told}");
    // No partial files are left, and the findings were still reported.
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(text(&ended.stdout).lines().count(), 3);
}

fn a_filter_lets_tagged_frames_pass_that_the_kernel_untagged() {
    let Some(wire) = Wire::new() else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    let capture = fixture("wrapped/vlan.pcap");
    let mut frames = Vec::new();
    fs::File::open(&capture).and_then(|mut f| f.read_to_end(&mut frames)).expect("a capture");
    let live = wire.live(scratch.path(), &["--every", "1h", "--filter", "tcp or udp"]);
    wire.replay(&capture);
    live.signal("INT");
    let ended = live.end();
    let latest = scratch.path().join("out/latest/conversations.csv");
    let seen = columns(&latest, ["client", "server", "tags"]);
    assert!(!seen.is_empty(), "{}", text(&ended.stderr));
    assert!(seen.iter().all(|[_, _, vlans]| !vlans.is_empty()), "{seen:?}");
}

fn wrong_words_are_told_before_anything_starts() {
    let scratch = tempfile::tempdir().expect("a folder");
    let file = inventory(scratch.path());
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rasaudit"));
        let done =
            command.arg("live").args(arguments).arg("-i").arg(&file).output().expect("it runs");
        (done.status.code(), text(&done.stderr))
    };
    let (code, told) = run(&["no-such-interface"]);
    assert_eq!(code, Some(2));
    assert!(told.contains("no-such-interface cannot be used for a capture"), "{told}");
    let (code, told) = run(&["lo", "--filter", "prot 5"]);
    assert_eq!((code, told.contains("--filter")), (Some(2), true), "{told}");
    assert_eq!(run(&["lo", "--every", "0"]).0, Some(2));
    {
        use std::os::unix::fs::PermissionsExt;
        // Rules that only the inventory names are checked, too.
        let whole = fs::read_to_string(&file).expect("the inventory");
        let named = whole.replacen("[farm]\n", "[farm]\noverlays = [\"extra.csv\"]\n", 1);
        fs::write(&file, named).expect("writable");
        let overlay = scratch.path().join("extra.csv");
        fs::write(&overlay, "").expect("writable");
        fs::set_permissions(&overlay, fs::Permissions::from_mode(0o666)).expect("permissions");
        let (code, told) = run(&["lo"]);
        assert_eq!(code, Some(2), "{told}");
        assert!(told.contains("extra.csv: other users can write to it"), "{told}");
        fs::write(&file, whole).expect("writable");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("permissions");
    }
    let (code, told) = run(&["lo"]);
    assert_eq!((code, told.contains("other users can write to it")), (Some(2), true), "{told}");
}

fn metrics_health_report_and_syslog_tell_the_same_findings() {
    let Some(wire) = Wire::new() else { return };
    wire.ip("link set lo up");
    let scratch = tempfile::tempdir().expect("a folder");
    let log = scratch.path().join("log");
    let socket = std::os::unix::net::UnixDatagram::bind(&log).expect("a socket");
    let target = format!("unix:{}", log.display());
    let live = wire.live(
        scratch.path(),
        &["--every", "1h", "--listen", "9475", "--syslog", &target, "--format", "json"],
    );
    let get = |path: &str| wire.get(&format!("127.0.0.1:9475{path}"), "");
    assert_eq!(get("/report.json").0, "503");
    wire.replay(&fixture("farm-faults/span.pcap"));
    live.signal("USR1");
    let start = Instant::now();
    while get("/report.json").0 != "200" && start.elapsed() < Duration::from_secs(10) {
        sleep(Duration::from_millis(200));
    }
    let (_, metrics) = get("/metrics");
    for line in [
        "rasaudit_findings{code=\"refused\",severity=\"medium\",verdict=\"missing\"} 1",
        "rasaudit_frames_lost_total{interface=\"span\"} 0",
        "rasaudit_interface_up{interface=\"span\"} 1",
        "rasaudit_windows_total 1",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line}: {metrics}");
    }
    assert_eq!(get("/healthz"), ("200".to_owned(), "ok\n".to_owned()));
    let report: serde_json::Value = serde_json::from_str(&get("/report.json").1).expect("JSON");
    let frames = report["accounting"]["frames_read"].as_u64().expect("a number");
    assert!(frames >= 10_835, "{frames}");
    let line = format!("rasaudit_frames_total{{interface=\"span\"}} {frames}");
    assert!(metrics.lines().any(|l| l == line), "{line}: {metrics}");
    assert_eq!(get("/inventory.toml").0, "404");
    let head = wire.get("127.0.0.1:9475/events", "r.method = 'HEAD'");
    assert_eq!(head, ("200".to_owned(), String::new()));
    live.signal("TERM");
    let ended = live.end();
    let told = text(&ended.stdout);
    let mut messages = Vec::new();
    socket.set_nonblocking(true).expect("a socket");
    let mut bytes = [0; 4096];
    while let Ok(length) = socket.recv(&mut bytes) {
        messages.push(text(&bytes[..length]));
    }
    assert_eq!((told.lines().count(), messages.len()), (3, 3), "{told} {messages:?}");
    for (line, message) in told.lines().zip(&messages) {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let id = line["id"].as_str().expect("an id");
        let priority = if line["severity"] == "high" { "<107>1 20" } else { "<108>1 20" };
        assert!(message.starts_with(priority) && message.contains(id), "{message}");
    }
}

fn no_thread_of_a_running_audit_has_rights_that_it_does_not_need() {
    let Some(wire) = Wire::new() else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    for (sandbox, capabilities) in [("auto", "0000000000002000"), ("strict", "0000000000000000")] {
        let folder = scratch.path().join(sandbox);
        fs::create_dir(&folder).expect("a folder");
        let live = wire.live(
            &folder,
            &["--every", "1h", "--jobs", "2", "--sandbox", sandbox, "--listen", "9476"],
        );
        let tasks = fs::read_dir(format!("/proc/{}/task", live.child.id())).expect("its threads");
        let tasks: Vec<_> = tasks.flatten().collect();
        assert!(tasks.len() >= 4, "{}", tasks.len());
        for task in tasks {
            let status = fs::read_to_string(task.path().join("status")).expect("its status");
            let value = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                line.unwrap_or_default().trim().to_owned()
            };
            assert_eq!(value("CapEff:"), capabilities, "{sandbox}");
            assert_eq!(value("CapPrm:"), capabilities, "{sandbox}");
            assert_eq!(value("NoNewPrivs:"), "1", "{sandbox}");
        }
        // The inventory is replaced by a link to a file outside the sandbox, which the audit cannot
        // open.
        let file = inventory(&folder);
        fs::remove_file(&file).expect("a file");
        let outside = fixture("farm-healthy/inventory.toml");
        std::os::unix::fs::symlink(outside, &file).expect("a link");
        live.signal("HUP");
        live.signal("TERM");
        let ended = live.end();
        let told = text(&ended.stderr);
        assert!(told.contains("ermission denied"), "{told}");
        assert!(told.contains("keeping the previous inventory, rules and exceptions"), "{told}");
        assert!(!told.contains("not fully sandboxed"), "{told}");
    }
}

fn another_user_goes_on_where_root_began() {
    let Some(wire) = Wire::new() else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).expect("a folder");
    }
    let live =
        wire.live(scratch.path(), &["--every", "1h", "--user", "nobody", "--sandbox", "strict"]);
    let status =
        fs::read_to_string(format!("/proc/{}/status", live.child.id())).expect("its status");
    let uid = status.lines().find(|line| line.starts_with("Uid:")).expect("a user");
    assert!(uid.split_whitespace().skip(1).all(|id| id != "0"), "{uid}");
    wire.replay(&fixture("farm-faults/span.pcap"));
    live.signal("TERM");
    let ended = live.end();
    assert_eq!(ended.status.code(), Some(1), "{}", text(&ended.stderr));
    assert!(scratch.path().join("out/latest/audit.json").exists());
    // A folder in which that user could not begin a second file is refused at the start.
    let kept = scratch.path().join("kept");
    fs::create_dir(&kept).expect("a folder");
    let file = kept.join("farm.pcapng");
    let file = file.to_str().expect("a name");
    let more = ["--windows", "1", "--every", "1s", "--user", "nobody", "--write", file];
    let refused = wire.live(scratch.path(), &more).end();
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    assert!(
        text(&refused.stderr).contains("the user nobody cannot write to the folder of --write")
    );
    assert!(fs::read_dir(&kept).expect("the folder").next().is_none());
}

fn frames_are_kept_in_rotated_files_that_an_audit_reads_as_the_live_one_did() {
    let Some(wire) = Wire::new() else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    let kept = scratch.path().join("kept");
    fs::create_dir(&kept).expect("a folder");
    let file = kept.join("farm.pcapng");
    let file = file.to_str().expect("a name");
    let live = wire.live(
        scratch.path(),
        &["--every", "1h", "--sandbox", "strict", "--write", file, "--write-size", "200KiB"],
    );
    wire.replay(&fixture("farm-faults/span.pcap"));
    live.signal("TERM");
    let ended = live.end();
    assert_eq!(ended.status.code(), Some(1), "{}", text(&ended.stderr));
    let files = || -> BTreeSet<String> {
        let entries = fs::read_dir(&kept).expect("the folder").flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    assert!(files().len() > 4, "{:?}", files());
    assert!(files().contains("farm.000001.pcapng"), "{:?}", files());
    let offline = offline(&kept, scratch.path());
    let latest = scratch.path().join("out/latest");
    for report in ["conversations.csv", "matrix.csv", "hosts.csv"] {
        let live = fs::read(latest.join(report));
        let offline = fs::read(offline.join(report));
        assert!(live.expect("a report") == offline.expect("a report"), "{report}");
    }
    // After a restart, the numbering of files continues, and only the given number of files is
    // kept.
    let last = files().last().cloned().expect("a file");
    let more = ["--windows", "1", "--every", "1s", "--write", file, "--write-files", "3"];
    let ended = wire.live(scratch.path(), &more).end();
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    assert!(files().len() == 3 && files().last() > Some(&last), "{:?}", files());
}

fn a_wire_that_is_down_proves_nothing_missing() {
    let Some(wire) = Wire::new() else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    // The replayed traffic of the healthy farm lacks one kind of connection, as if those packets
    // took the cable of `span2`.
    let ns = &wire.0;
    let rest = scratch.path().join("rest.pcap");
    let ip = format!("ip -n {ns}");
    assert!(sh(&format!(
        "{ip} link add sent2 type veth peer name span2 && {ip} link set sent2 up && {ip} link set span2 up"
    )));
    let whole = fixture("farm-healthy/span.pcap");
    // The capture contains truncated frames. To be sent, they must have the length that their
    // headers give.
    assert!(sh(&format!(
        "tcpdump -r {0} -w {1}.cut not port 20002 && tcprewrite --fixlen=pad -i {1}.cut -o {1}",
        whole.display(),
        rest.display()
    )));
    let missing = |folder: &Path, more: &[&str], down: bool| {
        fs::create_dir(folder).expect("a folder");
        let live = wire
            .live(folder, &[&["span2", "--every", "1h", "--min-watch", "1s"][..], more].concat());
        if down {
            wire.ip("link set span2 down");
            sleep(Duration::from_millis(1500));
        }
        wire.replay(&rest);
        live.signal("TERM");
        let ended = live.end();
        let told = columns(&folder.join("out/latest/findings.csv"), ["verdict", "code"]);
        (told.contains(&["missing".to_owned(), "never-attempted".to_owned()]), ended.status.code())
    };
    assert_eq!(missing(&scratch.path().join("up"), &[], false), (true, Some(1)));
    assert_eq!(missing(&scratch.path().join("down"), &[], true), (false, Some(3)));
}

fn an_answer_may_have_come_while_the_wire_was_away() {
    let Some(wire) = Wire::new() else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    let capture = fixture("farm-faults/span.pcap").display().to_string();
    let replay = format!("ip netns exec {} tcpreplay -q -i sent", wire.0);
    let unanswered = |name: &str, away: bool| {
        let folder = scratch.path().join(name);
        fs::create_dir(&folder).expect("a folder");
        let live = wire.live(&folder, &["--every", "1h"]);
        assert!(sh(&format!("{replay} --topspeed {capture}")));
        if away {
            wire.ip("link set span down");
            sleep(Duration::from_millis(2500));
            wire.ip("link set span up");
        }
        // Longer than a reply may take.
        sleep(Duration::from_millis(4000));
        assert!(sh(&format!("{replay} -L 1 {capture}")));
        // Closes the window that contains the gap, so that the final report covers all windows.
        live.signal("USR1");
        sleep(Duration::from_millis(1500));
        live.signal("TERM");
        live.end();
        let told = columns(&folder.join("out/latest/findings.csv"), ["code"]);
        (told.contains(&["unanswered".to_owned()]), told.contains(&["refused".to_owned()]))
    };
    assert_eq!(unanswered("there", false), (true, true));
    assert_eq!(unanswered("away", true), (false, true));
}

fn fragments_are_counted_the_same_with_any_number_of_threads() {
    let Some(wire) = Wire::new() else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    // Some datagrams have both fragments, and others only one.
    let mut frames = Vec::new();
    for id in 0..90u16 {
        for first in [true, false] {
            if (id % 3 == 1 && first) || (id % 3 == 2 && !first) {
                continue;
            }
            frames.push(fragment(id, first));
        }
    }
    let capture = scratch.path().join("fragments.pcap");
    fs::write(&capture, pcap(&frames)).expect("a capture");
    let expected = columns(
        &offline_with(&capture, scratch.path(), 0).join("conversations.csv"),
        ["client", "server", "transport", "port", "packets_to_server", "bytes_to_server"],
    );
    for jobs in ["1", "2", "4"] {
        let folder = scratch.path().join(jobs);
        fs::create_dir(&folder).expect("a folder");
        let live = wire.live(&folder, &["--every", "1h", "--jobs", jobs]);
        let file = capture.display();
        assert!(sh(&format!("ip netns exec {} tcpreplay -q -i sent {file}", wire.0)));
        sleep(Duration::from_millis(400));
        live.signal("TERM");
        live.end();
        let latest = folder.join("out/latest/conversations.csv");
        let wanted =
            ["client", "server", "transport", "port", "packets_to_server", "bytes_to_server"];
        assert_eq!(columns(&latest, wanted), expected, "{jobs}");
    }
}

fn a_state_goes_on_with_what_limited_it() {
    let Some(wire) = Wire::new() else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    let state = scratch.path().join("state");
    let keep = ["--every", "1h", "--state", state.to_str().expect("a name")];
    for more in [&[][..], &["--filter", "tcp port 443"]] {
        let live = wire.live(scratch.path(), &[&keep[..], more].concat());
        wire.replay(&fixture("farm-healthy/span.pcap"));
        live.signal("TERM");
        live.end();
    }
    let told = columns(&scratch.path().join("out/latest/findings.csv"), ["verdict", "code"]);
    assert!(!told.iter().any(|[verdict, _]| verdict == "missing"), "{told:?}");
}

fn made_up_addresses_and_inside_scans_stay_within_memory() {
    let Some(wire) = Wire::new() else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    let capture = scratch.path().join("flood.pcap");
    let frames: Vec<Vec<u8>> = (0..120_000u32).map(stranger).collect();
    fs::write(&capture, pcap(&frames)).expect("a capture");
    let live = wire.live(scratch.path(), &["--every", "1h", "--max-memory", "16MiB"]);
    let file = capture.display();
    assert!(sh(&format!("ip netns exec {} tcpreplay -q -i sent --pps 20000 {file}", wire.0)));
    let status =
        fs::read_to_string(format!("/proc/{}/status", live.child.id())).expect("its status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    live.signal("TERM");
    let ended = live.end();
    let told = text(&ended.stderr);
    assert!(peak < 160 << 10, "{peak} kB");
    assert!(told.contains(", aggregated ") && told.contains(", dropped "), "{told}");
    // Every frame is either read or reported as lost.
    let json = fs::read_to_string(scratch.path().join("out/latest/audit.json")).expect("a report");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let count = |value: &serde_json::Value| value.as_u64().expect("a number");
    let accounting = &json["accounting"];
    assert_eq!(count(&accounting["frames_read"]) + count(&accounting["loss"]["dropped"]), 120_000);
    let rows = columns(&scratch.path().join("out/latest/conversations.csv"), ["certain", "doubt"]);
    assert!(
        rows.iter().any(|[certain, doubt]| certain == "no" && doubt.contains("fold")),
        "{rows:?}"
    );
}

/// The network namespaces of two hosts that are connected to a switch. Both switch ports are
/// mirrored to `sent`, whose peer is `span`.
struct MirroredHosts {
    gateway: String,
    broker: String,
}

impl MirroredHosts {
    fn new(wire: &Wire) -> Self {
        let ns = &wire.0;
        let hosts = Self { gateway: format!("{ns}-a"), broker: format!("{ns}-b") };
        let mut script =
            format!("set -e; ip -n {ns} link add br0 type bridge; ip -n {ns} link set br0 up\n");
        for (host, port, address) in
            [(&hosts.gateway, "pa", "10.20.1.21"), (&hosts.broker, "pb", "10.20.1.31")]
        {
            script += &format!(
                "ip netns add {host}; ip -n {ns} link add {port} type veth peer name eth0 netns {host}\n\
                 ip -n {ns} link set {port} master br0 up; ip -n {host} link set eth0 up\n\
                 ip -n {host} addr add {address}/16 dev eth0\n\
                 ip netns exec {ns} nft 'table netdev {port} {{ chain c {{ type filter hook ingress device \
                 \"{port}\" priority 0; dup to \"sent\"; }}; }}'\n"
            );
        }
        assert!(sh(&script), "{script}");
        hosts
    }
}

impl Drop for MirroredHosts {
    fn drop(&mut self) {
        for name in [&self.gateway, &self.broker] {
            sh(&format!("ip netns del {name}"));
        }
    }
}

fn a_mirror_of_a_switch_with_real_sockets_is_judged_as_its_frames_are_offline() {
    let Some(wire) = Wire::new() else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    let kept = scratch.path().join("kept");
    fs::create_dir(&kept).expect("a folder");
    let hosts = MirroredHosts::new(&wire);
    let MirroredHosts { gateway, broker } = &hosts;
    let file = kept.join("mirror.pcapng");
    let live =
        wire.live(scratch.path(), &["--every", "1h", "--write", file.to_str().expect("a name")]);
    let server = format!(
        "ip netns exec {broker} timeout 20 python3 -m http.server 20002 --bind 10.20.1.31 --directory {}",
        kept.display()
    );
    let mut server = Command::new("sh")
        .args(["-c", &format!("exec {server}")])
        .env("PATH", path_var())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a server");
    sleep(Duration::from_millis(1500));
    let client = "import socket\n\
        for port in (20002, 20002, 4444):\n\
        \x20 s = socket.socket(); s.settimeout(3)\n\
        \x20 try: s.connect(('10.20.1.31', port)); s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n'); s.recv(100)\n\
        \x20 except OSError: pass\n\
        \x20 s.close()";
    let mut command = Command::new("ip");
    command.args(["netns", "exec", gateway, "python3", "-c", client]).env("PATH", path_var());
    assert!(command.output().expect("a client").status.success());
    sleep(Duration::from_millis(1500));
    live.signal("TERM");
    let ended = live.end();
    let _ = server.kill();
    let _ = server.wait();
    assert_eq!(ended.status.code(), Some(1), "{}", text(&ended.stderr));
    let latest = scratch.path().join("out/latest");
    let seen = columns(&latest.join("conversations.csv"), WHO);
    for expected in [
        [
            "10.20.1.21",
            "10.20.1.31",
            "tcp",
            "20002",
            "documented",
            "matrix",
            "handshake",
            "established",
        ],
        [
            "10.20.1.21",
            "10.20.1.31",
            "tcp",
            "4444",
            "unexpected-port",
            "port-not-in-matrix",
            "syn",
            "refused",
        ],
    ] {
        assert!(seen.contains(&expected.map(str::to_owned)), "{expected:?}: {seen:?}");
    }
    let offline = offline(&kept, scratch.path()).join("conversations.csv");
    let live = fs::read(latest.join("conversations.csv")).expect("a report");
    assert!(live == fs::read(offline).expect("a report"));
}
