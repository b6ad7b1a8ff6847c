//! Tests a live audit from the operator's point of view: its page in a real browser, access
//! control, a slow disk, and changes of the system clock. Uses a network namespace of its own, like
//! `live.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::browser::browser;
use crate::support::fixture;
use crate::support::span::{Wire, inventory, sh, text, there};

lab_tests! {
    the_page_of_a_live_audit_goes_on_and_keeps_what_its_reader_chose: [Namespaces, Browser],
    who_may_look_is_this_host_or_whoever_has_the_token: [Namespaces],
    health_is_told_while_hundreds_of_half_open_requests_wait: [Namespaces],
    what_cannot_be_written_shows_in_health_and_metrics: [Namespaces],
    a_slow_disk_delays_reports_and_loses_no_frame: [Namespaces, Strace],
    a_clock_that_is_set_back_or_ahead_keeps_no_window_from_being_closed_and_told: [Namespaces, Faketime],
    flows_that_were_idle_lie_on_disk_and_are_judged_as_ever: [Namespaces],
    a_terminal_shows_how_the_audit_stands: [Namespaces],
}

/// Waits until a condition holds. Panics after this many seconds.
fn until(what: &str, seconds: u64, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(seconds), "{what}");
        sleep(Duration::from_millis(100));
    }
}

fn json(path: &Path) -> serde_json::Value {
    let text = fs::read_to_string(path).expect("a report");
    serde_json::from_str(&text).expect("JSON")
}

fn the_page_of_a_live_audit_goes_on_and_keeps_what_its_reader_chose() {
    let (Some(wire), Some(browser)) = (Wire::new(), browser()) else { return };
    wire.ip("link set lo up");
    let scratch = tempfile::tempdir().expect("a folder");
    let live = wire.live(scratch.path(), &["--every", "1h", "--listen", "9475"]);
    live.signal("USR1");
    until("a first window", 10, || wire.get("127.0.0.1:9475/", "").0 == "200");
    let shot = concat!(env!("CARGO_TARGET_TMPDIR"), "/../page/live.png");
    fs::create_dir_all(Path::new(shot).parent().expect("a folder")).expect("writable");
    let mut looking = wire.inside();
    looking.arg("node").arg(browser.join("live.mjs")).args(["http://127.0.0.1:9475/", shot]);
    let mut looking = looking.stdout(Stdio::piped()).spawn().expect("node runs");
    let mut told = BufReader::new(looking.stdout.take().expect("its output"));
    let mut line = String::new();
    told.read_line(&mut line).expect("a line");
    if line == "ready\n" {
        wire.replay(&fixture("farm-faults/span.pcap"));
        live.signal("USR1");
    }
    told.read_to_string(&mut line).expect("the rest");
    assert!(looking.wait().expect("it ends").success(), "{line}");
    live.signal("TERM");
    assert_eq!(live.end().status.code(), Some(1));
}

fn who_may_look_is_this_host_or_whoever_has_the_token() {
    let Some(wire) = Wire::new() else { return };
    wire.ip("link set lo up");
    let scratch = tempfile::tempdir().expect("a folder");
    let every = ["--every", "1h", "--listen"];
    let refused = |folder: &str, more: &[&str]| {
        let folder = scratch.path().join(folder);
        fs::create_dir_all(&folder).expect("a folder");
        let ended = wire.live(&folder, &[&every[..], more].concat()).end();
        assert_eq!(ended.status.code(), Some(2));
        text(&ended.stderr)
    };
    assert!(refused("open", &["0.0.0.0:9475"]).contains("--token"));
    let file = scratch.path().join("token");
    let name = file.display().to_string();
    let write = |token: &str, mode| {
        fs::write(&file, token).expect("writable");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("permissions");
    };
    write("correct-horse-battery\n", 0o644);
    assert!(refused("read", &["0.0.0.0:9475", "--token", &name]).contains("chmod 600"));
    write("short\n", 0o600);
    assert!(refused("short", &["0.0.0.0:9475", "--token", &name]).contains("at least 16"));
    write("correct-horse-battery\n", 0o600);

    let folder = scratch.path().join("token.d");
    fs::create_dir(&folder).expect("a folder");
    let live = wire.live(&folder, &[&every[..], &["0.0.0.0:9475", "--token", &name]].concat());
    let get = |more: &str| wire.get("127.0.0.1:9475/healthz", more).0;
    assert_eq!(get(""), "401");
    assert_eq!(get("r.add_header('Authorization', 'Bearer wrong-horse-battery')"), "401");
    assert_eq!(get("r.add_header('Authorization', 'Bearer correct-horse-battery')"), "200");
    let basic = "import base64\n\
                 r.add_header('Authorization', 'Basic ' + base64.b64encode(b'me:correct-horse-battery').decode())";
    assert_eq!(get(basic), "200");
    assert_eq!(
        get("r.add_header('Authorization', 'Bearer correct-horse-battery'); r.method = 'POST'"),
        "405"
    );
    // Clients without the token cannot delay the audit with a body that never arrives, endless
    // headers, or silent connections.
    let attack = "import socket, time\n\
        def send(*parts):\n\
        \x20s = socket.create_connection(('127.0.0.1', 9475)); s.settimeout(15)\n\
        \x20try:\n\
        \x20\x20for part in parts: s.sendall(part)\n\
        \x20\x20return s.recv(100)\n\
        \x20except OSError: return b'closed'\n\
        head = b'POST / HTTP/1.1\\r\\nHost: x\\r\\n'\n\
        print(send(head, b'Content-Length: 9000000000000000000\\r\\n\\r\\n'))\n\
        print(send(head, *[b'X: ' + b'a' * 65536] * 64))\n\
        idle = [socket.create_connection(('127.0.0.1', 9475)) for _ in range(300)]\n\
        time.sleep(11); print(idle[0].recv(1))";
    let attacked = wire.inside().args(["python3", "-c", attack]).output().expect("python3");
    let told = text(&attacked.stdout);
    assert!(told.contains("401") && told.ends_with("b''\n"), "{told}{}", text(&attacked.stderr));
    let threads =
        fs::read_dir(format!("/proc/{}/task", live.child.id())).expect("it lives").count();
    assert!(threads < 10, "{threads} threads");
    assert_eq!(get("r.add_header('Authorization', 'Bearer correct-horse-battery')"), "200");
    live.signal("TERM");
    live.end();

    // The number of subscribers is limited to 32. A client that disconnects makes room for another.
    let follow = "import socket\n\
        def ask():\n\
        \x20s = socket.create_connection(('127.0.0.1', 9475)); s.settimeout(5)\n\
        \x20s.sendall(b'GET /events HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n')\n\
        \x20return s, s.recv(12)[9:]\n\
        all = [ask() for _ in range(33)]\n\
        print(sum(code == b'200' for _, code in all), all[-1][1])";

    // Without a token, a request that uses a foreign host name for this address is rejected.
    let folder = scratch.path().join("host.d");
    fs::create_dir(&folder).expect("a folder");
    let live = wire.live(&folder, &[&every[..], &["127.0.0.1:9475"]].concat());
    assert_eq!(get("r.add_header('Host', 'evil.example:9475')"), "403");
    assert_eq!(get("r.add_header('Host', 'localhost:9475')"), "200");
    for _ in 0..2 {
        let told = wire.inside().args(["python3", "-c", follow]).output().expect("python3");
        assert_eq!(text(&told.stdout), "32 b'503'\n", "{}", text(&told.stderr));
        // The server notices that a page disconnected when it sends the next event.
        sleep(Duration::from_secs(3));
    }
    live.signal("TERM");
    live.end();
}

/// Tests that the server answers requests while hundreds of other requests are incomplete.
fn health_is_told_while_hundreds_of_half_open_requests_wait() {
    let Some(wire) = Wire::new() else { return };
    wire.ip("link set lo up");
    let scratch = tempfile::tempdir().expect("a folder");
    let live = wire.live(scratch.path(), &["--every", "1h", "--listen", "127.0.0.1:9475"]);
    until("it answers", 10, || wire.get("127.0.0.1:9475/healthz", "").0 == "200");
    let ask = "import socket, time\n\
        def half():\n\
        \x20s = socket.create_connection(('127.0.0.1', 9475)); s.sendall(b'GET / HTTP/1.1\\r\\n'); return s\n\
        waiting = [half() for _ in range(600)]\n\
        for _ in range(5):\n\
        \x20start = time.time()\n\
        \x20s = socket.create_connection(('127.0.0.1', 9475)); s.settimeout(5)\n\
        \x20s.sendall(b'GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n')\n\
        \x20print(s.recv(12)[9:].decode(), time.time() - start < 2)";
    let asked = wire.inside().args(["python3", "-c", ask]).output().expect("python3");
    assert_eq!(text(&asked.stdout), "200 True\n".repeat(5), "{}", text(&asked.stderr));
    live.signal("TERM");
    live.end();
}

/// A failure of syslog, which no user would notice, appears in health and metrics. Messages that
/// syslog did not accept are sent once it listens. A metric reports late windows.
fn what_cannot_be_written_shows_in_health_and_metrics() {
    let Some(wire) = Wire::new() else { return };
    wire.ip("link set lo up");
    let scratch = tempfile::tempdir().expect("a folder");
    let socket = scratch.path().join("log");
    let target = format!("unix:{}", socket.display());
    let more = ["--every", "1h", "--listen", "127.0.0.1:9475", "--syslog", &target];
    let live = wire.live(scratch.path(), &more);
    let health = || wire.get("127.0.0.1:9475/healthz", "");
    let metrics = || wire.get("127.0.0.1:9475/metrics", "").1;
    until("it answers", 10, || health().0 == "200");
    assert!(metrics().contains("rasaudit_failures_total{what=\"syslog\"} 0"), "{}", metrics());
    wire.replay(&fixture("farm-faults/span.pcap"));
    live.signal("USR1");
    until("syslog fails", 20, || health().0 == "503");
    assert!(health().1.contains("findings could not be sent to syslog"), "{}", health().1);
    assert!(!metrics().contains("rasaudit_failures_total{what=\"syslog\"} 0"), "{}", metrics());
    // A daemon that starts later receives the waiting messages, with the fields of the findings.
    let daemon = std::os::unix::net::UnixDatagram::bind(&socket).expect("a socket");
    daemon.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    live.signal("USR1");
    let mut bytes = [0; 4096];
    let length = daemon.recv(&mut bytes).expect("a message");
    let message = text(&bytes[..length]);
    assert!(message.contains("[finding@32473 id=\"f-"), "{message}");
    until("all is well", 20, || health().0 == "200");
    live.signal("TERM");
    let ended = live.end();
    let err = text(&ended.stderr);
    assert!(err.contains("watching ") && err.contains("page: http://127.0.0.1:9475/"), "{err}");
    // The metric of late windows is 0 while the first window is on time.
    let folder = scratch.path().join("late");
    fs::create_dir(&folder).expect("a folder");
    let live = wire.live(&folder, &["--every", "1s", "--listen", "127.0.0.1:9475"]);
    until("it answers", 10, || wire.get("127.0.0.1:9475/metrics", "").0 == "200");
    assert!(metrics().contains("rasaudit_window_late 0"), "{}", metrics());
    live.signal("TERM");
    live.end();
}

fn a_slow_disk_delays_reports_and_loses_no_frame() {
    let Some(wire) = Wire::new() else { return };
    if !there("strace") {
        return;
    }
    let scratch = tempfile::tempdir().expect("a folder");
    let state = scratch.path().join("state").display().to_string();
    // Every fsync takes a second, and each window writes many files, so windows of one second
    // cannot be written in time.
    let slow = ["strace", "-f", "-o", "/dev/null", "--seccomp-bpf", "-e", "trace=fsync"];
    let slow = [&slow[..], &["-e", "inject=fsync:delay_enter=1000000"]].concat();
    let live = wire.live_under(&slow, scratch.path(), &["--every", "1s", "--state", &state]);
    sleep(Duration::from_secs(1));
    wire.replay(&fixture("farm-faults/span.pcap"));
    // The signal goes to the program, not to strace.
    assert!(sh(&format!("pkill -TERM -P {}", live.child.id())));
    let ended = live.end();
    let told = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{told}");
    let report = json(&scratch.path().join("out/latest/audit.json"));
    assert_eq!(report["accounting"]["loss"]["dropped"], 0);
    assert!(report["accounting"]["frames_read"].as_u64() >= Some(10_835), "{report:.200}");
    for code in ["refused", "unanswered", "wrong-source"] {
        assert_eq!(report["summary"]["findings"]["by_code"][code], 1, "{code}");
    }
}

fn a_clock_that_is_set_back_or_ahead_keeps_no_window_from_being_closed_and_told() {
    let Some(wire) = Wire::new() else { return };
    if !there("faketime") {
        return;
    }
    let scratch = tempfile::tempdir().expect("a folder");
    let clock = scratch.path().join("clock");
    let set = |by: &str| {
        fs::write(scratch.path().join("clock.new"), by).expect("writable");
        fs::rename(scratch.path().join("clock.new"), &clock).expect("renamed");
    };
    set("+0");
    let file = format!("FAKETIME_TIMESTAMP_FILE={}", clock.display());
    let libraries = fs::read_dir("/usr/lib").expect("libraries").flatten();
    let libraries = libraries.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    let library = libraries.filter(|path| path.exists()).map(|path| path.display().to_string());
    let library = format!("LD_PRELOAD={}", library.last().expect("the library of faketime"));
    let stepped = ["env", &library, &file, "FAKETIME_NO_CACHE=1", "DONT_FAKE_MONOTONIC=1"];
    let live = wire.live_under(&stepped, scratch.path(), &["--every", "1s", "--keep", "100"]);
    let out = scratch.path().join("out");
    let folders = || -> BTreeSet<String> {
        let entries = fs::read_dir(&out).into_iter().flatten().flatten();
        entries
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .filter(|n| n.starts_with("20"))
            .collect()
    };
    let latest =
        || fs::read_link(out.join("latest")).map(|p| p.display().to_string()).unwrap_or_default();
    until("a window", 10, || folders().len() >= 2);
    for by in ["-1h", "+1d"] {
        let before = folders();
        set(by);
        until("windows after the step", 15, || folders().len() >= before.len() + 3);
        // `latest` points to the newest report, wherever its name sorts among the others.
        let is_new = || !before.contains(&latest()) && folders().contains(&latest());
        until("latest goes on", 10, is_new);
    }
    wire.replay(&fixture("farm-faults/span.pcap"));
    live.signal("TERM");
    assert_eq!(live.end().status.code(), Some(1));
    let severities = &json(&out.join("latest/audit.json"))["summary"]["findings"]["by_severity"];
    let of = |severity: &str| severities[severity].as_u64().unwrap_or_default();
    assert_eq!(of("high") + of("medium"), 3, "{severities}");
}

fn flows_that_were_idle_lie_on_disk_and_are_judged_as_ever() {
    let Some(wire) = Wire::new() else { return };
    wire.ip("link set lo up");
    let scratch = tempfile::tempdir().expect("a folder");
    let state = scratch.path().join("state").display().to_string();
    let arguments = ["--every", "1h", "--state", &state, "--idle", "1s", "--listen", "9475"];
    let metric = |name: &str| -> u64 {
        let metrics = wire.get("127.0.0.1:9475/metrics", "").1;
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("rasaudit_{name} ")));
        line.and_then(|number| number.parse().ok()).unwrap_or(0)
    };
    let mut reports = Vec::new();
    for round in 1..=2u64 {
        let live = wire.live(scratch.path(), &arguments);
        wire.replay(&fixture("farm-faults/span.pcap"));
        live.signal("USR1");
        until("a window", 10, || metric("windows_total") == 1);
        let all = metric("flows");
        let idle = metric("flows_on_disk");
        assert!(all > 300 && idle > all * 9 / 10, "{idle} of {all} flows");
        live.signal("TERM");
        let told = text(&live.end().stderr);
        assert_eq!(told.contains("flows from the saved state"), round == 2, "{told}");
        let report = json(&scratch.path().join("out/latest/audit.json"));
        assert!(report["accounting"]["frames_read"].as_u64() >= Some(round * 10_835));
        reports.push(report);
    }
    // The findings are the same whether flows are in memory, on disk, or in the state of an earlier
    // run. The second report counts the packets of both runs.
    let codes = |report: &serde_json::Value| {
        let wrong = report["findings"].as_array().expect("findings").iter();
        wrong
            .filter(|f| f["severity"] != "info")
            .map(|f| f["id"].to_string())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!((codes(&reports[0]).len(), codes(&reports[0])), (3, codes(&reports[1])));
    let packets = |report: &serde_json::Value| {
        let talks = report["conversations"].as_array().expect("conversations").iter();
        talks.map(|c| c["packets_to_server"].as_u64().expect("a number")).sum::<u64>()
    };
    assert!(packets(&reports[1]) >= packets(&reports[0]) * 2 - 1);
}

fn a_terminal_shows_how_the_audit_stands() {
    let Some(wire) = Wire::new() else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    let program = env!("CARGO_BIN_EXE_rasaudit");
    let list = inventory(scratch.path());
    let line = format!("{program} live span -i {} --every 4s --windows 1", list.display());
    let mut command = wire.inside();
    let shown = command.args(["script", "-qec", &line, "/dev/null"]).output().expect("script runs");
    let shown = text(&shown.stdout);
    assert!(shown.contains(" frames, ") && shown.contains(" per second, 0 lost, "), "{shown:?}");
}
