//! Tests the command line: arguments, standard output, error messages and exit codes.

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use crate::support::{fixture, rasaudit, stderr, stdout};

fn healthy() -> (String, String) {
    let path = |p: &str| fixture(p).display().to_string();
    (path("farm-healthy/span.pcap"), path("farm-healthy/inventory.toml"))
}

/// Runs the program and returns the exit code, standard output and standard error.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = rasaudit(arguments);
    (output.status.code().expect("an exit code"), stdout(&output), stderr(&output))
}

/// The exit code states the result even if the program that reads the output has closed it.
#[test]
fn an_output_that_is_closed_early_does_not_change_the_exit_code() {
    let (healthy, inventory) = healthy();
    let faults = fixture("farm-faults/span.pcap").display().to_string();
    let explain = ["explain", "--from", "gw1", "--to", "broker1", "-i", &inventory, "--port"];
    let cases = [
        (["audit", &faults, "-i", &inventory].to_vec(), 1),
        (["audit", &healthy, "-i", &inventory].to_vec(), 0),
        ([&explain[..], &["20003/tcp"]].concat(), 1),
        ([&explain[..], &["20002/tcp"]].concat(), 0),
    ];
    for (arguments, code) in cases {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_rasaudit"));
        let output = command.args(&arguments).stdout(writer).output().expect("the program runs");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stderr(&output), "", "{arguments:?}");
    }
}

#[test]
fn exit_codes_are_the_documented_ones() {
    let (healthy, inventory) = healthy();
    let faults = fixture("farm-faults/span.pcap").display().to_string();
    let cases: &[(&[&str], i32)] = &[
        (&["audit", &healthy, "-i", &inventory], 0),
        (&["audit", &faults, "-i", &inventory], 1),
        (&["audit", &faults, "-i", &inventory, "--fail-on", "critical"], 0),
        (&["audit", &faults, "-i", &inventory, "--fail-on", "never"], 0),
        (&["audit", "no-such-file.pcap"], 2),
        (&["audit"], 2),
        (&["audit", &healthy, "--since", "yesterday"], 2),
        (&["audit", &healthy, "--filter", "tcp and and"], 2),
        (&["audit", &healthy, "--filter", ""], 2),
        (&["audit", &healthy, "--format", "csv"], 2),
        (&["audit", &healthy, "--matrix", "ras-19"], 2),
        (&["audit", &healthy, "-i", &inventory, "--matrix", "ras-20"], 2),
        (&["audit", &healthy, "--since", "2026-01-02", "--until", "2026-01-01"], 2),
        (&["audit", &inventory], 2),
        (&["no-such-command"], 2),
        (&["--help"], 0),
        (&["--version"], 0),
    ];
    for (arguments, expected) in cases {
        let (code, out, err) = run(arguments);
        assert_eq!(code, *expected, "{arguments:?}\n{out}\n{err}");
        if code == 2 {
            assert!(out.is_empty(), "{arguments:?} printed {out}");
            assert!(!err.is_empty(), "{arguments:?}: no output");
        }
    }
}

#[test]
fn every_unreadable_name_is_told_at_once() {
    let (code, _, err) = run(&["audit", "none-a.pcap", "none-b.pcap", "--filter", "!!"]);
    assert_eq!(code, 2);
    for part in ["none-a.pcap", "none-b.pcap", "--filter"] {
        assert!(err.contains(part), "{err}");
    }
}

#[test]
fn what_is_wrong_with_options_of_reading_is_told() {
    let capture = fixture("decode-mix/mix.pcap").display().to_string();
    for (options, told) in [
        (&["--dedup", "maybe"][..], "[possible values: auto, on, off]"),
        (&["--vxlan-port", "0"], "give a whole number from 1 to 65535"),
        (&["--jobs", "x"], "give a whole number from 1 to 256"),
        (&["--vxlan-port", "4789,http"], "give a whole number from 1 to 65535"),
        (&["--vxlan-port", "4444", "--no-decap"], "cannot be used with"),
    ] {
        let (code, _, err) = run(&[&["audit", &capture], options].concat());
        assert_eq!(code, 2, "{options:?}");
        assert!(err.contains(told), "{options:?}: {err}");
    }
}

#[test]
fn a_file_that_is_no_capture_is_told_by_its_looks() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let write = |name: &str, bytes: &[u8]| {
        let path = scratch.path().join(name);
        fs::write(&path, bytes).expect("the scratch folder is writable");
        path.display().to_string()
    };
    let elf = write("span.pcap.gz", b"\x7fELF\x02\x01\x01");
    let notes = write("notes.txt", b"captured on Monday\n");
    let (code, _, err) = run(&["audit", &elf, &notes]);
    assert_eq!(code, 2);
    assert!(err.contains("ELF") && err.contains("text"), "both problems are reported: {err}");
    // Other files in a folder are listed as skipped.
    fs::rename(&elf, scratch.path().join("program")).expect("a name that no capture has");
    fs::copy(fixture("farm-healthy/span.pcap"), scratch.path().join("span.pcap")).expect("a copy");
    let (code, out, err) = run(&["audit", &scratch.path().display().to_string()]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("notes.txt skipped: not a pcap") && out.contains("10956 frames in 1 input"),
        "{out}"
    );
}

/// Messages do not suggest what the user has already done, or what does not help.
#[test]
fn messages_fit_what_was_given() {
    let (healthy, inventory) = healthy();
    let (code, _, err) = run(&["audit", &inventory, "-i", &inventory]);
    assert!(code == 2 && err.contains("; give it with --inventory, and pcap"), "{err}");
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let link = scratch.path().join("span.pcap");
    std::os::unix::fs::symlink("nowhere.pcap", &link).expect("a link");
    let (code, _, err) = run(&["audit", &link.display().to_string()]);
    assert!(code == 2 && err.contains("span.pcap: this is a link to a file"), "{err}");
    assert!(!err.contains("did you mean"), "{err}");
    for option in ["--limit", "--jobs", "--max-memory", "--max-loss"] {
        let command = if option == "--limit" { "show" } else { "audit" };
        let (code, _, err) = run(&[command, "findings", "report", option, "-1"]);
        assert!(code == 2 && err.contains("invalid value '-1'"), "{option}: {err}");
        assert!(!err.contains("-- -1"), "{option}: {err}");
    }
    let (code, out, err) = run(&["audit", &healthy, &healthy]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("span.pcap was given more than once, or is also in a store"), "{out}");
    let notes = scratch.path().join("notes.txt");
    fs::write(&notes, "captured on Monday\n").expect("writable");
    fs::rename(&notes, scratch.path().join("notes.pcap")).expect("a name of a capture");
    fs::copy(&healthy, scratch.path().join("a.pcap")).expect("a copy");
    fs::remove_file(&link).expect("the link");
    let (code, out, err) = run(&["audit", &scratch.path().display().to_string()]);
    assert!(code == 3 && err.contains("notes.pcap is not a pcap"), "{err}");
    assert!(out.contains("notes.pcap is not a pcap or pcapng file"), "{out}");
}

#[test]
fn standard_input_is_read() {
    let (healthy, inventory) = healthy();
    let mut child = Command::new(env!("CARGO_BIN_EXE_rasaudit"))
        .args(["audit", "-", "-i", &inventory])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let capture = fs::read(healthy).expect("the fixture is there");
    child.stdin.take().expect("a pipe").write_all(&capture).expect("it is read");
    let output = child.wait_with_output().expect("it ends");
    assert!(stdout(&output).contains("10956 frames in 1 input"));
}

/// Sends a signal to an audit that waits for standard input, and returns how the audit ended. It
/// must not leave any file.
fn interrupted(signal: &str) -> ExitStatus {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let out = scratch.path().join("report");
    let mut child = Command::new(env!("CARGO_BIN_EXE_rasaudit"))
        .args(["audit", "-", "--out"])
        .arg(&out)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    // The folder exists once the program has installed its signal handler.
    for _ in 0..200 {
        if out.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    std::thread::sleep(std::time::Duration::from_millis(200));
    let kill = Command::new("sh").args(["-c", &format!("kill -{signal} {}", child.id())]).status();
    assert!(kill.expect("a shell runs").success());
    // `Child::wait` closes standard input, which would end the capture.
    let stdin = child.stdin.take();
    let status = child.wait().expect("it ends");
    drop(stdin);
    let mut left = fs::read_dir(scratch.path()).expect("a folder");
    assert!(left.all(|entry| entry.expect("an entry").file_name() == "core"), "{signal}");
    status
}

#[test]
fn an_interrupt_ends_even_a_waiting_read_and_leaves_nothing() {
    assert_eq!(interrupted("INT").code(), Some(130));
    // SIGQUIT ends the program as usual, by the signal.
    assert_eq!(interrupted("QUIT").signal(), Some(3));
}

/// A log may be on a full disk, or a terminal may have been closed.
#[test]
fn messages_that_cannot_be_written_change_nothing_else() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let out = scratch.path().join("out");
    let status = |arguments: &[&str]| {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("a device");
        let program = env!("CARGO_BIN_EXE_rasaudit");
        let mut command = Command::new(program);
        command.args(arguments).stderr(full).stdout(Stdio::null());
        command.status().expect("the program").code()
    };
    let (capture, inventory) = healthy();
    let out = out.display().to_string();
    assert_eq!(status(&["audit", &capture, "-i", &inventory, "--out", &out, "-v"]), Some(0));
    assert!(Path::new(&out).join("audit.json").exists());
    assert_eq!(status(&["audit", "no-such-file", "-i", &inventory]), Some(2));
}

/// Text that cannot be written is an error, also for commands that print only a help text.
#[test]
fn a_full_output_is_an_error() {
    let (healthy, inventory) = healthy();
    let cases: &[&[&str]] = &[
        &["--help"],
        &["--version"],
        &["audit", "--help"],
        &["completions", "bash"],
        &["inventory", "template"],
        &["audit", &healthy, "-i", &inventory, "--format", "json"],
        #[cfg(feature = "store")]
        &["collect", &healthy, "--to", "-"],
    ];
    for arguments in cases {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("a device");
        let mut command = Command::new(env!("CARGO_BIN_EXE_rasaudit"));
        let output = command.args(*arguments).stdout(full).output().expect("the program runs");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let err = stderr(&output);
        assert!(err.contains("No space left") && err.lines().count() == 1, "{arguments:?}: {err}");
    }
}

/// A value that begins with a dash has to be in the same argument as its option.
#[test]
fn a_value_that_begins_with_a_dash_has_a_tip() {
    let add = ["exceptions", "add", "f-1", "--report", "report"];
    let (code, _, err) = run(&[&add[..], &["--ticket", "-1"]].concat());
    assert!(code == 2 && err.contains("dash, use '--ticket=-1'"), "{err}");
    assert!(!err.contains("-- -1"), "{err}");
    // Without an option before it, clap's own tip remains.
    let (_, _, err) = run(&["audit", "-1"]);
    assert!(err.contains("'-- -1'"), "{err}");
}

/// A message about a wrong filter names the option, the expression and the manual.
#[test]
fn a_wrong_filter_is_explained() {
    let (_, _, err) = run(&["audit", &healthy().0, "--filter", "tcp prot 5"]);
    assert!(err.contains("--filter \"tcp prot 5\"") && err.contains("pcap-filter(7)"), "{err}");
}

/// The reports that contain the digests of inputs contain them wherever they are written.
#[test]
fn printed_reports_have_the_digests_of_inputs() {
    let (healthy, inventory) = healthy();
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let out = scratch.path().display().to_string();
    run(&["audit", &healthy, "-i", &inventory, "--out", &out]);
    let json = fs::read_to_string(scratch.path().join("audit.json")).expect("the report");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let digest = json["inputs"][0]["sha256"].as_str().expect("a digest");
    for format in ["json", "html", "markdown"] {
        let (_, text, _) = run(&["audit", &healthy, "-i", &inventory, "--format", format]);
        assert!(text.contains(digest), "{format}");
    }
}

#[test]
fn an_empty_capture_is_an_answer() {
    let empty = fixture("formats/empty.pcap").display().to_string();
    let (code, out, _) = run(&["audit", &empty, "-i", &healthy().1]);
    assert_eq!(code, 0);
    assert!(out.starts_with("No frame was audited"), "{out}");
    assert!(!out.contains("agrees"), "{out}");
}

#[test]
fn an_unknown_link_type_is_named_and_its_frames_counted() {
    let path = fixture("formats/unknown-link.pcap").display().to_string();
    let (code, out, _) = run(&["audit", &path]);
    assert_eq!(code, 0);
    assert!(out.contains("3 unknown-link-type"), "{out}");
    assert!(out.contains("147"), "{out}");
}

#[test]
fn without_an_inventory_conversations_are_listed_and_nothing_is_judged() {
    let (healthy, _) = healthy();
    let (code, out, _) = run(&["audit", &healthy]);
    assert_eq!(code, 0);
    assert!(out.starts_with("Nothing was judged") && out.contains("inventory draft"), "{out}");
    let (_, csv, _) = run(&["audit", &healthy, "--format", "conversations"]);
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let rows: Vec<_> = reader.records().map(|r| r.expect("a row")).collect();
    assert_eq!(rows.len(), 133);
    assert!(rows.iter().all(|r| r[8].is_empty() && r[9].is_empty()), "no verdict, no code");
}

#[test]
fn a_filter_hides_and_so_nothing_silent_is_claimed() {
    let (healthy, inventory) = healthy();
    for filter in ["tcp[13]=2", "src port not 1433", "greater 200"] {
        let (code, out, _) = run(&["audit", &healthy, "-i", &inventory, "--filter", filter]);
        assert!(code < 2 && !out.contains("missing/"), "{filter}: {out}");
        assert!(out.contains("Filter") && out.contains("filtered"), "{out}");
        assert!(!out.contains("= 0 observed"), "{filter}: {out}");
    }
}

#[test]
fn a_filter_accepts_tagged_frames() {
    let capture = fixture("wrapped/vlan.pcap").display().to_string();
    let conversations = |filter: &str| {
        let (_, csv, _) =
            run(&["audit", &capture, "--format", "conversations", "--filter", filter]);
        csv.lines().count() - 1
    };
    let all = conversations("greater 1");
    let tcp = conversations("tcp");
    assert!(tcp > 0 && tcp + conversations("not tcp") == all, "{tcp} of {all}");
}

#[test]
fn an_inventory_that_is_not_there_can_be_made() {
    let (healthy, _) = healthy();
    let (code, _, err) = run(&["audit", &healthy, "-i", "none-at-all.toml"]);
    assert!(code == 2 && err.contains("none-at-all.toml"), "{err}");
    assert!(err.contains("make one from a capture with rasaudit inventory draft"), "{err}");
}

#[test]
fn the_wanted_time_is_kept_to() {
    let (healthy, _) = healthy();
    let (_, out, _) =
        run(&["audit", &healthy, "--since", "2026-11-21T01:50:00Z", "--until", "2026-11-21 01:51"]);
    assert!(out.contains("58 s watched") && out.contains("outside-window"), "{out}");
}

#[test]
fn all_problems_of_an_inventory_are_told_at_once_with_their_lines() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let path = scratch.path().join("broken.toml");
    fs::write(&path, include_str!("../data/broken.toml")).expect("the scratch folder is writable");
    let path = path.display().to_string();
    let (code, _, err) = run(&["inventory", "check", &path]);
    assert_eq!(code, 2);
    let told: Vec<String> =
        err.lines().map(|l| l.replace(&path, "broken.toml").replace("error: ", "")).collect();
    let expected: Vec<&str> = include_str!("../data/broken.expected").lines().collect();
    assert_eq!(told, expected);
    // The same problems are reported when the file is used.
    let (code, out, again) = run(&["audit", &healthy().0, "-i", &path]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert_eq!(err, again);
}

/// Entries that no traffic or list could contain are refused, each with one message.
#[test]
fn entries_of_an_inventory_that_cannot_be_used_are_refused() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let path = scratch.path().join("a.toml");
    let text = path.display().to_string();
    let host = |keys: &str| format!("[farm]\nmatrix = \"ras-19\"\n[[host]]\n{keys}\n");
    let usual = "name = \"a\"\naddresses = [\"10.0.0.1\"]\nroles = [\"broker\"]";
    let cases = [
        ("\"a\"", "\"*\"", "the name \"*\" stands for any address"),
        ("\"a\"", "\"a;b\"", "the name \"a;b\" contains a semicolon"),
        ("\"a\"", "\"+3 more\"", "the name \"+3 more\" begins with +"),
        ("\"a\"", "\"role:x\"", "the name \"role:x\" begins with role:"),
        ("\"a\"", "\" a\"", "the name \" a\" begins or ends with a space"),
        ("\"a\"", r#""a\nb""#, r#":3: the name "a\u{a}b" contains a control character"#),
        ("\"a\"", r#""a\u001b[31m""#, r#":3: the name "a\u{1b}[31m" contains a control character"#),
        ("\"a\"", "5", "name must be a quoted string"),
        ("name = \"a\"", "", "a host must have a name"),
        ("[\"10.0.0.1\"]", "[]", "the host \"a\" must have addresses = [\"...\"]"),
        ("[\"broker\"]", "[\"broker\", \"broker\"]", "the role \"broker\" is listed twice"),
    ];
    for (from, to, message) in cases {
        fs::write(&path, host(&usual.replacen(from, to, 1))).expect("writable");
        let (code, _, err) = run(&["inventory", "check", &text]);
        assert!(code == 2 && err.contains(message), "{to}: {err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
    let network = "[[network]]\nname = \"a;b\"\ncidr = \"10.0.0.0/24\"\nroles = []\n";
    fs::write(&path, host(usual) + network).expect("writable");
    let (code, _, err) = run(&["inventory", "check", &text]);
    assert!(code == 2 && err.contains("the name \"a;b\" contains a semicolon"), "{err}");
    // Only its hardware address identifies this host.
    let mac = usual.replace("[\"10.0.0.1\"]", "[]\nmacs = [\"02:00:5e:20:00:0a\"]");
    fs::write(&path, host(&mac)).expect("writable");
    assert_eq!(run(&["inventory", "check", &text]).0, 0);
    let csv = scratch.path().join("hosts.csv").display().to_string();
    fs::write(&csv, "name,addresses,roles\na,,broker\n").expect("writable");
    let (code, _, err) = run(&["inventory", "check", &csv, "--matrix", "ras-19"]);
    assert!(code == 2 && err.contains("the host \"a\" must have addresses"), "{err}");
}

/// Options that could not have any effect, or that contradict each other, are refused.
#[test]
fn options_without_an_effect_are_refused() {
    let (healthy, inventory) = healthy();
    let audit = |more: &[&str]| run(&[&["audit", &healthy, "-i", &inventory], more].concat());
    let twice = ["--severity", "refused=low", "--severity", "refused=high"];
    let (code, _, err) = audit(&twice);
    assert!(code == 2 && err.contains("refused has two severities, low and high"), "{err}");
    assert_eq!(audit(&[&twice[..2], &twice[..2]].concat()).0, 0);
    let (code, _, err) = audit(&["--severity", "background=critical"]);
    assert!(code == 2 && err.contains("which is never a finding"), "{err}");
    let (code, _, err) = audit(&["--show", "sensr=x"]);
    assert!(code == 2 && err.contains("sensor") && !err.contains("cause"), "{err}");
    let (code, _, err) = audit(&["--show", "sensor=x"]);
    assert!(code == 0 && err.contains("of this result name no sensors"), "{err}");
}

#[test]
fn a_csv_of_hosts_serves_as_an_inventory() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let path = scratch.path().join("hosts.csv");
    let hosts = "name,addresses,roles,macs\ngw1,10.20.1.21;fd00:20:1::21,gateway-normal,02:00:5e:20:00:0a\nbroker1,10.20.1.31,Publishing Agent,\n";
    fs::write(&path, hosts).expect("the scratch folder is writable");
    let path = path.display().to_string();
    let (code, out, err) = run(&["inventory", "check", &path, "--matrix", "ras-19"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("hosts: 2"), "{out}");
    let (code, _, err) = run(&["inventory", "check", &path]);
    assert_eq!(code, 2);
    assert!(err.contains("--matrix"), "{err}");
    fs::write(&path, "name;addresses;roles\ngw1;10.0.0.1;broker\n")
        .expect("the scratch folder is writable");
    let (_, _, err) = run(&["inventory", "check", &path, "--matrix", "ras-19"]);
    assert!(err.contains("commas, not semicolons"), "{err}");
}

#[test]
fn the_template_is_sound() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let path = scratch.path().join("inventory.toml");
    let (code, template, _) = run(&["inventory", "template"]);
    assert_eq!(code, 0);
    fs::write(&path, template).expect("the scratch folder is writable");
    let (code, _, err) = run(&["inventory", "check", &path.display().to_string()]);
    assert_eq!(code, 0, "{err}");
}

#[test]
fn the_matrix_is_shown_and_checked() {
    let (code, out, _) = run(&["matrix", "show", "--from", "gateway-normal", "--to", "broker"]);
    assert_eq!(code, 0);
    assert!(out.contains("20002") && !out.contains("8086"), "{out}");
    let (code, _, err) = run(&["matrix", "show", "--from", "gatway-normal"]);
    assert_eq!(code, 2);
    assert!(err.contains("did you mean \"gateway-normal\"?"), "{err}");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules/ras-19");
    for (path, rows) in [(shipped.clone(), "234 rows"), (shipped.join("matrix.csv"), "212 rows")] {
        let (code, out, err) = run(&["matrix", "check", &path.display().to_string()]);
        assert_eq!(code, 0, "{err}");
        assert!(out.contains(rows), "{out}");
    }
}

#[test]
fn all_problems_of_a_matrix_are_told_at_once() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let path = scratch.path().join("matrix.csv");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules/ras-19/matrix.csv");
    let text = fs::read_to_string(shipped).expect("the matrix");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines[3] = lines[3].replace(",halb,", ",hlab,");
    lines[9] = lines[9].replace(",tcp,80,80,", ",tpc,80,79,");
    lines[12] = lines[11].clone();
    fs::write(&path, lines.join("\n")).expect("the scratch folder is writable");
    let (code, _, err) = run(&["matrix", "check", &path.display().to_string()]);
    assert_eq!(code, 2);
    for part in [
        "matrix.csv:4: destination_role: unknown role \"hlab\"; did you mean \"halb\"?",
        "matrix.csv:10: transport: \"tpc\"",
        "matrix.csv:10: port_low 80 is above port_high 79",
        "matrix.csv:13: duplicate id",
    ] {
        assert!(err.contains(part), "{part}\n{err}");
    }
}

#[test]
fn hostile_names_stay_text_in_every_report() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let inventory = scratch.path().join("inventory.toml");
    let text = fs::read_to_string(fixture("farm-healthy/inventory.toml")).expect("the fixture");
    let text = text.replace("\"broker1\"", "\"=HYPERLINK(\\\"x\\\")\\u202e31m\"");
    fs::write(&inventory, text).expect("the scratch folder is writable");
    let capture = fixture("farm-faults/span.pcap").display().to_string();
    let inventory = inventory.display().to_string();
    for format in ["text", "csv", "conversations", "matrix", "hosts"] {
        let (_, out, err) = run(&["audit", &capture, "-i", &inventory, "--format", format]);
        assert!(err.is_empty() && !out.contains('\u{202e}'), "{format}: {err}");
        if format != "text" {
            let mut reader = csv::Reader::from_reader(out.as_bytes());
            for cell in reader
                .records()
                .flat_map(|r| r.expect("a row").iter().map(str::to_owned).collect::<Vec<_>>())
            {
                let dangerous = |piece: &str| piece.starts_with(['=', '+', '-', '@', '\t', '\r']);
                assert!(!cell.split(';').any(dangerous), "{format}: {cell}\n{err}");
            }
        }
    }
}

#[test]
fn csv_is_rfc_4180() {
    let (healthy, inventory) = healthy();
    let (_, out, _) = run(&["audit", &healthy, "-i", &inventory, "--format", "hosts"]);
    assert!(out.lines().count() > 20 && out.ends_with("\r\n"));
    assert_eq!(out.matches('\n').count(), out.matches("\r\n").count());
}

#[test]
fn a_closed_pipe_keeps_the_exit_code_and_stays_silent() {
    let faults = fixture("farm-faults/span.pcap").display().to_string();
    for format in ["json", "conversations", "text"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rasaudit"))
            .args(["audit", &faults, "-i", &healthy().1, "--format", format])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(1), ""), "{format}");
    }
}

#[test]
fn reports_are_whole_or_not_there() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let (healthy, inventory) = healthy();
    let file = scratch.path().join("file");
    fs::write(&file, "mine").expect("the scratch folder is writable");
    let (code, _, err) =
        run(&["audit", &healthy, "-i", &inventory, "--out", &file.display().to_string()]);
    assert_eq!(code, 2);
    assert!(err.contains("need a folder"), "{err}");
    assert_eq!(fs::read_to_string(&file).expect("unchanged"), "mine");
    // A failed run does not leave a new folder behind. A successful one keeps the other files of an
    // existing folder.
    let out = scratch.path().join("report");
    let (code, ..) = run(&["audit", &inventory, "--out", &out.display().to_string()]);
    assert_eq!((code, out.exists()), (2, false));
    fs::create_dir(&out).expect("a folder");
    fs::write(out.join("notes.txt"), "mine").expect("writable");
    let (code, ..) =
        run(&["audit", &healthy, "-i", &inventory, "--out", &out.display().to_string()]);
    assert_eq!(code, 0);
    let mut names: Vec<_> =
        fs::read_dir(&out).expect("a folder").map(|f| f.expect("a file").file_name()).collect();
    names.sort();
    let expected: Vec<_> =
        "audit.json conversations.csv exceptions.csv findings.csv hosts.csv manifest.sha256 matrix.csv notes.txt report.html"
            .split(' ')
            .collect();
    assert_eq!(names, expected);
}

#[test]
fn quiet_and_verbose_keep_to_their_streams() {
    let faults = fixture("farm-faults/span.pcap").display().to_string();
    let inventory = healthy().1;
    assert_eq!(run(&["audit", &faults, "-i", &inventory, "-q"]), (1, String::new(), String::new()));
    let (_, plain, quiet) = run(&["audit", &faults, "-i", &inventory]);
    let (_, out, err) = run(&["audit", &faults, "-i", &inventory, "-v", "--jobs", "3"]);
    assert_eq!((out, quiet.as_str()), (plain, ""));
    assert!(err.contains("frames: 10834") && err.contains("workers: 3"), "{err}");
}

#[test]
fn rules_of_a_folder_take_the_place_of_those_built_in() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules");
    let copy = |from: &str| {
        let to = scratch.path().join(from);
        fs::create_dir_all(to.parent().expect("a folder")).expect("writable");
        fs::copy(shipped.join(from), to).expect("a copy");
    };
    for file in ["roles.csv", "features.csv", "services.csv", "matrix.csv", "endpoints.csv"] {
        copy(&format!("ras-19/{file}"));
    }
    copy("overlays/network-background.csv");
    let severities = fs::read_to_string(shipped.join("severity.csv")).expect("the rules");
    let raised = severities
        .replace("undocumented,wrong-source,high,", "undocumented,wrong-source,critical,");
    assert_ne!(severities, raised);
    fs::write(scratch.path().join("severity.csv"), raised).expect("writable");
    let faults = fixture("farm-faults/span.pcap").display().to_string();
    let rules = scratch.path().display().to_string();
    let arguments = ["audit", &faults, "-i", &healthy().1, "--fail-on", "critical"];
    assert_eq!(run(&arguments).0, 0);
    let (code, out, _) = run(&[&arguments[..], &["--rules", &rules]].concat());
    assert!(code == 1 && out.contains("1 critical"), "{out}");
    // An invalid rule is reported with file and line.
    fs::write(
        scratch.path().join("severity.csv"),
        "verdict,code,reached,attempted\nmissing,*,hgh,low\n",
    )
    .expect("writable");
    let (code, _, err) = run(&[&arguments[..], &["--rules", &rules]].concat());
    assert_eq!(code, 2);
    assert!(err.contains("severity.csv:2") && err.contains("did you mean \"high\"?"), "{err}");
}

#[test]
fn completions_are_made() {
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let (code, out, _) = run(&["completions", shell]);
        assert!(code == 0 && out.contains("rasaudit"), "{shell}");
    }
}

/// If a file is missing, the error names an existing file with a similar name.
#[test]
fn a_wrong_file_name_is_told_with_the_nearest() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let at = |name: &str| scratch.path().join(name).display().to_string();
    for name in ["inventory.toml", "farm.pcap", "findings.csv", "exceptions.csv"] {
        fs::write(at(name), "").expect("writable");
    }
    let capture = fixture("farm-faults/span.pcap").display().to_string();
    let inventory = fixture("farm-healthy/inventory.toml").display().to_string();
    for (arguments, meant) in [
        (vec!["audit", &capture, "-i", &at("inventry.toml")], "inventory.toml"),
        (vec!["audit", &at("fram.pcap")], "farm.pcap"),
        (vec!["audit", &capture, "-i", &inventory, "--known", &at("finding.csv")], "findings.csv"),
        (
            vec!["audit", &capture, "-i", &inventory, "--exceptions", &at("exeptions.csv")],
            "exceptions.csv",
        ),
        (vec!["inventory", "check", &at("inventorytoml")], "inventory.toml"),
    ] {
        let run = rasaudit(&arguments);
        assert_eq!(run.status.code(), Some(2), "{arguments:?}");
        let err = stderr(&run);
        assert!(err.contains(&format!("did you mean \"{meant}\"?")), "{err}");
    }
    let run = rasaudit(["audit", &capture, "-i", &at("xyzzy")]);
    assert!(!stderr(&run).contains("did you mean"), "{}", stderr(&run));
    let run = rasaudit(["audit", &capture, "-i", &inventory, "--severity", "xyzzy=high"]);
    assert!(
        stderr(&run).contains("the codes are") && stderr(&run).contains("wrong-source"),
        "{}",
        stderr(&run)
    );
}

#[test]
fn a_terminal_that_makes_links_gets_one_to_the_page() {
    let scratch = tempfile::tempdir().expect("a folder");
    let out = scratch.path().join("a report");
    let inventory = fixture("farm-healthy/inventory.toml").display().to_string();
    let capture = fixture("farm-healthy/span.pcap").display().to_string();
    let told = |links: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rasaudit"));
        command.env("CLICOLOR_FORCE", "1").env("FORCE_HYPERLINK", links);
        command.args(["audit", &capture, "-i", &inventory, "--out"]).arg(&out);
        stdout(&command.output().expect("the program runs"))
    };
    let page = out.join("report.html");
    assert!(
        page.exists() || told("0").contains(&format!("{} (open it in a browser)", page.display()))
    );
    let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    let address = page.display().to_string().replace(' ', "%20");
    let link = format!("\u{1b}]8;;file://{}{address}\u{1b}\\{}", host.trim(), page.display());
    let text = told("1");
    assert!(text.contains(&link), "{text:?}");
    assert!(page.exists());
}
