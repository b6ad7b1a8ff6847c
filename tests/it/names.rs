//! Tests destinations that are known by name: how much each kind of evidence counts, and that names
//! are found regardless of how the capture is split and which workers read the parts.

use std::fs;
use std::path::PathBuf;

use crate::support::wire::{ACK, SYN, Wire, client_hello, dns};
use crate::support::{Random, Records, columns, rasaudit, stderr, stdout};

const AVD: &str = "10.1.0.60";
const RDSH: &str = "10.1.0.30";
const BROKER: &str = "10.1.0.10";
const CLIENT: &str = "10.1.0.90";
const DC: &str = "10.1.0.20";
const OUTSIDE: &str = "203.0.113.9";
const WVD: &str = "rdgateway-1.wvd.microsoft.com";

const INVENTORY: &str = r#"
[farm]
matrix = "ras-19"
[farm.features]
avd = true
fslogix = true
[[host]]
name = "avd1"
addresses = ["10.1.0.60", "10.1.0.61"]
roles = ["avd-session-host"]
[[host]]
name = "rdsh1"
addresses = ["10.1.0.30"]
roles = ["rdsh-agent"]
[[host]]
name = "broker1"
addresses = ["10.1.0.10"]
roles = ["broker"]
[[host]]
name = "dc1"
addresses = ["10.1.0.20"]
roles = ["ad-dc"]
[[host]]
name = "pc1"
addresses = ["10.1.0.90"]
roles = ["parallels-client"]
[[service]]
role = "fslogix-site"
names = ["*.fslogix.example"]
"#;

/// Audits files and returns the report in this format.
fn audit(files: &[PathBuf], format: &str, more: &[&str]) -> String {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let inventory = scratch.path().join("inventory.toml");
    fs::write(&inventory, INVENTORY).expect("writable");
    let arguments = ["--format", format, "-i"].map(std::ffi::OsStr::new);
    let run = rasaudit(
        [std::ffi::OsStr::new("audit")]
            .into_iter()
            .chain(files.iter().map(|f| f.as_os_str()))
            .chain(arguments)
            .chain([inventory.as_os_str()])
            .chain(more.iter().map(std::ffi::OsStr::new)),
    );
    assert!(run.status.code().is_some_and(|code| code < 2), "{}", stderr(&run));
    stdout(&run)
}

/// Returns the code, names, certainty, doubt and rule of the conversation with this server.
fn judged(wire: &Wire, server: &str) -> [String; 5] {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let file = scratch.path().join("a.pcap");
    fs::write(&file, wire.file()).expect("writable");
    let report = audit(&[file], "conversations", &[]);
    let wanted = ["server", "code", "names", "certain", "doubt", "rule"];
    let rows = columns(&report, &wanted);
    let row = rows.into_iter().find(|row| row[0] == server).expect("the conversation");
    row[1..].to_vec().try_into().expect("five cells")
}

fn hello(wire: &mut Wire, from: &str, name: &str, hidden: bool) {
    wire.start(1000, (from, 50_000), (OUTSIDE, 443), &client_hello(name, hidden, 9), 1400);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn what_a_name_is_worth() {
    const RULE: &str = "avd.required.any.wvd.microsoft.com";
    type Case = (&'static str, &'static str, fn(&mut Wire), [&'static str; 5]);
    let cases: &[Case] = &[
        (
            "DNS and TLS agree",
            OUTSIDE,
            |w| {
                w.lookup(0, AVD, DC, &[WVD], OUTSIDE);
                hello(w, AVD, WVD, false);
            },
            ["matrix", WVD, "yes", "", RULE],
        ),
        (
            "TLS alone: a client chooses its server name",
            OUTSIDE,
            |w| hello(w, AVD, WVD, false),
            ["matrix", WVD, "no", "name", RULE],
        ),
        (
            "DNS alone: anyone can forge an answer",
            OUTSIDE,
            |w| {
                w.lookup(0, AVD, DC, &[WVD], OUTSIDE);
                w.connect(1000, (AVD, 50_000), (OUTSIDE, 443));
            },
            ["matrix", WVD, "no", "name", RULE],
        ),
        (
            "an answer that the client did not ask for",
            OUTSIDE,
            |w| {
                w.datagram(0, (DC, 53), (AVD, 40_000), &dns(7, &[WVD], OUTSIDE)[1]);
                w.connect(1000, (AVD, 50_000), (OUTSIDE, 443));
            },
            ["unknown-host", "", "no", "name", ""],
        ),
        (
            "an answer to another client",
            OUTSIDE,
            |w| {
                w.lookup(0, RDSH, DC, &[WVD], OUTSIDE);
                w.connect(1000, (AVD, 50_000), (OUTSIDE, 443));
            },
            ["unknown-host", "", "no", "name", ""],
        ),
        (
            "no name at all",
            OUTSIDE,
            |w| w.connect(1000, (AVD, 50_000), (OUTSIDE, 443)),
            ["unknown-host", "", "no", "name", ""],
        ),
        (
            "no name, but none could decide: no row lets it go there by name",
            OUTSIDE,
            |w| w.connect(1000, (AVD, 50_000), (OUTSIDE, 8443)),
            ["unknown-host", "", "yes", "", ""],
        ),
        (
            "an encrypted hello, and no DNS",
            OUTSIDE,
            |w| hello(w, AVD, WVD, true),
            ["unknown-host", WVD, "no", "name", ""],
        ),
        (
            "an encrypted hello, and DNS says the same",
            OUTSIDE,
            |w| {
                w.lookup(0, AVD, DC, &[WVD], OUTSIDE);
                hello(w, AVD, WVD, true);
            },
            ["matrix", WVD, "yes", "", RULE],
        ),
        (
            "an encrypted hello with a public name, and DNS tells the true one",
            OUTSIDE,
            |w| {
                w.lookup(0, AVD, DC, &[WVD], OUTSIDE);
                hello(w, AVD, "public.example", true);
            },
            ["matrix", "public.example;rdgateway-1.wvd.microsoft.com", "no", "name", RULE],
        ),
        (
            "a name that nobody documents",
            OUTSIDE,
            |w| {
                w.lookup(0, AVD, DC, &["evil.example"], OUTSIDE);
                hello(w, AVD, "evil.example", false);
            },
            ["unknown-host", "evil.example", "yes", "", ""],
        ),
        (
            "another role may not go there, though it may go to others by name",
            OUTSIDE,
            |w| {
                w.lookup(0, RDSH, DC, &[WVD], OUTSIDE);
                hello(w, RDSH, WVD, false);
            },
            ["unknown-host", WVD, "yes", "", ""],
        ),
        (
            "two names on one address, and DNS alone: the worse counts",
            OUTSIDE,
            |w| {
                w.lookup(0, AVD, DC, &[WVD], OUTSIDE);
                w.lookup(10, AVD, DC, &["evil.example"], OUTSIDE);
                w.connect(1000, (AVD, 50_000), (OUTSIDE, 443));
            },
            ["unknown-host", "evil.example;rdgateway-1.wvd.microsoft.com", "no", "name", ""],
        ),
        (
            "two names on one address, and TLS says which",
            OUTSIDE,
            |w| {
                w.lookup(0, AVD, DC, &[WVD], OUTSIDE);
                w.lookup(10, AVD, DC, &["evil.example"], OUTSIDE);
                hello(w, AVD, WVD, false);
            },
            ["matrix", "rdgateway-1.wvd.microsoft.com;evil.example", "yes", "", RULE],
        ),
        (
            "two server names in one conversation: the worse counts",
            OUTSIDE,
            |w| {
                w.lookup(0, AVD, DC, &[WVD], OUTSIDE);
                hello(w, AVD, WVD, false);
                w.start(
                    3000,
                    (AVD, 50_001),
                    (OUTSIDE, 443),
                    &client_hello("evil.example", false, 9),
                    1400,
                );
            },
            ["unknown-host", "evil.example;rdgateway-1.wvd.microsoft.com", "no", "name", ""],
        ),
        (
            "a server name that DNS gives another address does not stand alone",
            OUTSIDE,
            |w| {
                w.lookup(0, AVD, DC, &["evil.example"], OUTSIDE);
                hello(w, AVD, WVD, false);
            },
            ["unknown-host", "rdgateway-1.wvd.microsoft.com;evil.example", "no", "name", ""],
        ),
        (
            "an alias may decide, which the answer alone tells",
            OUTSIDE,
            |w| {
                w.lookup(0, AVD, DC, &["alias.example", "a.b.digicert.com"], OUTSIDE);
                hello(w, AVD, "alias.example", false);
            },
            [
                "matrix",
                "alias.example;a.b.digicert.com",
                "no",
                "name",
                "avd.optional.any.digicert.com",
            ],
        ),
        (
            "the star stands for one label or more, never for none, nor for a part",
            OUTSIDE,
            |w| {
                w.lookup(0, AVD, DC, &["wvd.microsoft.com"], OUTSIDE);
                hello(w, AVD, "wvd.microsoft.com", false);
            },
            ["unknown-host", "wvd.microsoft.com", "yes", "", ""],
        ),
        (
            "a service that the rules name",
            OUTSIDE,
            |w| {
                w.lookup(0, BROKER, DC, &["ras.parallels.com"], OUTSIDE);
                hello(w, BROKER, "RAS.Parallels.COM", false);
            },
            ["matrix", "ras.parallels.com", "yes", "", "ras19.broker.parallels-licensing.tcp.443"],
        ),
        (
            "the same service, for a role that has nothing to do there",
            OUTSIDE,
            |w| {
                w.lookup(0, RDSH, DC, &["ras.parallels.com"], OUTSIDE);
                hello(w, RDSH, "ras.parallels.com", false);
            },
            [
                "wrong-source",
                "ras.parallels.com",
                "yes",
                "",
                "ras19.broker.parallels-licensing.tcp.443",
            ],
        ),
        (
            "a service that the inventory names by pattern",
            OUTSIDE,
            |w| {
                w.lookup(0, RDSH, DC, &["dl.fslogix.example"], OUTSIDE);
                hello(w, RDSH, "dl.fslogix.example", false);
            },
            ["matrix", "dl.fslogix.example", "yes", "", "ras19.rdsh-agent.fslogix-site.tcp.443"],
        ),
        (
            "an HTTP request names its host",
            OUTSIDE,
            |w| {
                w.lookup(0, CLIENT, DC, &["download.parallels.com"], OUTSIDE);
                let request =
                    b"GET /ras HTTP/1.1\r\nUser-Agent: x\r\nHost: download.parallels.com\r\n\r\n";
                w.start(1000, (CLIENT, 50_000), (OUTSIDE, 80), request, 30);
            },
            [
                "matrix",
                "download.parallels.com",
                "yes",
                "",
                "ras19.parallels-client.parallels-site.tcp.80",
            ],
        ),
        (
            "an endpoint that is an address needs no name",
            "168.63.129.16",
            |w| w.connect(1000, (AVD, 50_000), ("168.63.129.16", 80)),
            ["matrix", "", "yes", "", "avd.required.168.63.129.16"],
        ),
        (
            "a host that is listed is what the inventory says, whatever it is called",
            BROKER,
            |w| {
                w.lookup(0, RDSH, DC, &["ras.parallels.com"], BROKER);
                w.connect(1000, (RDSH, 50_000), (BROKER, 20_003));
            },
            ["matrix", "ras.parallels.com", "yes", "", "ras19.rdsh-agent.broker.tcp.20003"],
        ),
        (
            "one plain word does not bear out what another connection hides",
            OUTSIDE,
            |w| {
                w.lookup(0, AVD, DC, &[WVD], OUTSIDE);
                hello(w, AVD, WVD, false);
                let hidden = client_hello("public.example", true, 9);
                w.start(3000, (AVD, 50_001), (OUTSIDE, 443), &hidden, 1400);
            },
            ["matrix", "public.example;rdgateway-1.wvd.microsoft.com", "no", "name", RULE],
        ),
        (
            "what one address of a host was told, its others know too",
            OUTSIDE,
            |w| {
                w.lookup(0, "10.1.0.61", DC, &[WVD], OUTSIDE);
                hello(w, AVD, WVD, false);
            },
            ["matrix", WVD, "yes", "", RULE],
        ),
        (
            "a client's own word is nothing against an address inside",
            "10.1.0.99",
            |w| w.start(0, (AVD, 50_000), ("10.1.0.99", 443), &client_hello(WVD, false, 9), 1400),
            ["unknown-host", WVD, "yes", "", ""],
        ),
        (
            "a hello that starts with a segment of one byte, and late, from a low port to a high one",
            OUTSIDE,
            |w| {
                w.lookup(0, AVD, DC, &[WVD], OUTSIDE);
                let hello = client_hello(WVD, false, 9);
                let from = (AVD, 33_000);
                let to = (OUTSIDE, 443);
                w.tcp(0, from, to, SYN, 0);
                w.tcp(3000, from, to, SYN, 0);
                w.tcp(9000, to, from, SYN | ACK, 0);
                w.data(9001, from, to, (2, 2), &hello[..1]);
                w.data(9002, from, to, (3, 2), &hello[1..4]);
                w.data(9003, from, to, (6, 2), &hello[4..]);
            },
            ["matrix", WVD, "yes", "", RULE],
        ),
        (
            "DNS over TCP, the length in a segment of its own",
            OUTSIDE,
            |w| {
                let [query, answer] = dns(9, &[WVD], OUTSIDE);
                let client = (AVD, 50_100);
                let resolver = (DC, 53);
                let sized = |m: &[u8]| [&(m.len() as u16).to_be_bytes()[..], m].concat();
                w.data(0, client, resolver, (2, 2), &sized(&query));
                w.data(1, resolver, client, (2, 40), &sized(&answer)[..2]);
                w.data(2, resolver, client, (4, 40), &answer);
                hello(w, AVD, WVD, false);
            },
            ["matrix", WVD, "yes", "", RULE],
        ),
        (
            "an address that many names share, and the client's own word borne out",
            OUTSIDE,
            |w| {
                for number in 0..40 {
                    w.lookup(number * 2, AVD, DC, &[&format!("a{number}.example")], OUTSIDE);
                }
                w.lookup(100, AVD, DC, &[WVD], OUTSIDE);
                hello(w, AVD, WVD, false);
            },
            ["matrix", "*", "yes", "", RULE],
        ),
        (
            "more names than are kept",
            OUTSIDE,
            |w| {
                w.lookup(0, AVD, DC, &[WVD], OUTSIDE);
                hello(w, AVD, WVD, false);
                for number in 0..20 {
                    let request =
                        format!("GET / HTTP/1.1\r\nHost: a{number}.wvd.microsoft.com\r\n\r\n");
                    w.data(
                        2000 + number,
                        (AVD, 50_000),
                        (OUTSIDE, 443),
                        (900 + number as u32, 2),
                        request.as_bytes(),
                    );
                }
            },
            ["matrix", "*", "no", "name", RULE],
        ),
    ];
    for (what, server, make, expected) in cases {
        let mut wire = Wire::default();
        make(&mut wire);
        let mut judged = judged(&wire, server);
        if expected[1] == "*" {
            "*".clone_into(&mut judged[1]);
        }
        assert_eq!(judged, *expected, "{what}");
    }
}

/// A finding about a name states the sources of the name, and a hostile name is escaped in CSV, so
/// that no spreadsheet reads it as a formula.
#[test]
fn a_finding_tells_what_its_name_rests_on() {
    let mut wire = Wire::default();
    hello(&mut wire, AVD, "=cmd()|x.evil.example", false);
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let file = scratch.path().join("a.pcap");
    fs::write(&file, wire.file()).expect("writable");
    let json: serde_json::Value =
        serde_json::from_str(&audit(std::slice::from_ref(&file), "json", &[])).expect("JSON");
    let findings = json["findings"].as_array().expect("findings");
    let finding = findings.iter().find(|f| f["code"] == "unknown-host").expect("the finding");
    let trace = finding["trace"].to_string();
    assert!(trace.contains("according to the client's own request alone"), "{trace}");
    assert!(finding["doubt"].to_string().contains("name"), "{finding}");
    let csv = audit(&[file], "conversations", &[]);
    assert!(csv.contains(",\\061cmd\\040\\041\\124x.evil.example,"), "{csv}");
}

/// A ClientHello in several segments is read regardless of splits, the number of workers, the order
/// of packets, and duplicates.
#[test]
fn a_hello_over_several_segments_is_read_whoever_holds_them() {
    let mut wire = Wire::default();
    for flow in 0..40u16 {
        let (from, at) = ((AVD, 50_000 + flow), u64::from(flow) * 7);
        let name = format!("host{flow}.wvd.microsoft.com");
        let outside = format!("203.0.113.{}", flow + 1);
        wire.lookup(at, AVD, DC, &[&name], &outside);
        let most = [1400, 700, 300][usize::from(flow) % 3];
        wire.start(1000 + at, from, (&outside, 443), &client_hello(&name, false, 2500), most);
    }
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let whole = scratch.path().join("whole.pcap");
    fs::write(&whole, wire.file()).expect("writable");
    let expected = audit(std::slice::from_ref(&whole), "conversations", &["--jobs", "1"]);
    let certain = columns(&expected, &["rule", "certain"]);
    let is_named =
        |row: &&Vec<String>| row[0] == "avd.required.any.wvd.microsoft.com" && row[1] == "yes";
    assert_eq!(certain.iter().filter(is_named).count(), 40);
    let records = Records::read(&whole);
    let mut random = Random(4);
    for (pieces, jobs) in [(2, "1"), (7, "3"), (60, "8"), (200, "2")] {
        let cut = tempfile::tempdir().expect("a scratch folder");
        let files = records.cut(cut.path(), pieces, &mut random);
        assert_eq!(audit(&files, "conversations", &["--jobs", jobs]), expected, "{pieces} {jobs}");
    }
    // Standard input cannot be read a second time, but yields the same names.
    let inventory = scratch.path().join("inventory.toml");
    fs::write(&inventory, INVENTORY).expect("writable");
    let piped = std::process::Command::new(env!("CARGO_BIN_EXE_rasaudit"))
        .args(["audit", "-", "--format", "conversations", "-i"])
        .arg(&inventory)
        .stdin(fs::File::open(&whole).expect("the capture"))
        .output()
        .expect("the program runs");
    assert_eq!(stdout(&piped), expected, "standard input");
    let spilled = audit(&[whole], "conversations", &["--max-memory", "1", "--jobs", "2"]);
    assert_eq!(spilled, expected);
    // The packets are shuffled, in the second round with a duplicate of each.
    let verdicts =
        |report: &str| columns(report, &["client", "server", "code", "rule", "names", "certain"]);
    for twice in [false, true] {
        let mut shuffled = records.records.clone();
        if twice {
            shuffled.extend(records.records.clone());
        }
        random.shuffle(&mut shuffled);
        let file = scratch.path().join("shuffled.pcap");
        records.write(&file, &shuffled);
        let report = audit(&[file], "conversations", &["--jobs", "3"]);
        assert_eq!(verdicts(&report), verdicts(&expected), "twice: {twice}");
    }
}

/// If the snaplen truncates payloads, the name is unknown: the report shows none, and the verdict
/// is in doubt.
#[test]
fn a_short_snaplen_leaves_no_name() {
    let mut wire = Wire::default();
    wire.lookup(0, AVD, DC, &[WVD], OUTSIDE);
    hello(&mut wire, AVD, WVD, false);
    for (_, frame) in &mut wire.0 {
        frame.truncate(60);
    }
    let [code, names, certain, doubt, _] = judged(&wire, OUTSIDE);
    assert_eq!([&*code, &*names, &*certain, &*doubt], ["unknown-host", "", "no", "name"]);
}

/// Separators in a name are escaped, and the number of names in a cell is limited.
#[test]
fn names_keep_to_their_cell() {
    let mut wire = Wire::default();
    hello(&mut wire, AVD, "a;b.example", false);
    let [_, names, ..] = judged(&wire, OUTSIDE);
    assert_eq!(names, "a\\059b.example");
    let mut wire = Wire::default();
    for number in 0..500u16 {
        let name = format!("n{number}.example");
        wire.start(
            u64::from(number) * 40,
            (AVD, 50_000 + number),
            (OUTSIDE, 443),
            &client_hello(&name, false, 9),
            1400,
        );
    }
    let [_, names, ..] = judged(&wire, OUTSIDE);
    assert!(names.split(';').count() <= 32, "{}", names.len());
}
