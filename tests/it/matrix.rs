//! Tests that the shipped matrices are complete and valid: they contain every port of the vendor's
//! documents with its pair of roles, as many rows per section as the documents, and for each row an
//! example that the row allows. Also tests the subcommands of `rasaudit matrix`.

use crate::support;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::support::wire::{Wire, client_hello};
use crate::support::{columns, rasaudit, stderr, stdout};
use rasaudit::classify::check_examples;
use rasaudit::policy::{
    Certainty, ExampleTarget, Expectation, Exposure, MATRICES, Matrix, OVERLAYS, Row, RuleFiles,
    Scope, SeverityColumn,
};

fn matrix(name: &str) -> Matrix {
    RuleFiles::named(name, None).expect("shipped").load().expect("valid")
}

fn with_overlays(name: &str) -> Matrix {
    let mut files = RuleFiles::named(name, None).expect("shipped");
    for overlay in OVERLAYS {
        files.add_overlay(overlay, None).expect("shipped");
    }
    files.load().expect("valid")
}

/// Source role, destination role, transport, and port or port range.
type Fact = (String, String, String, String);

/// Returns the tables of a document, as transcribed by a person who had not seen the matrix. Each
/// line of a file in `tests/documents/` contains a line number of the document, the numbers of one
/// Ports cell, its protocols, and the two roles.
fn facts(document: &str) -> BTreeSet<Fact> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/documents").join(document);
    let text = fs::read_to_string(path).expect("the facts");
    let mut facts = BTreeSet::new();
    for line in text.lines().skip(1) {
        let cells: Vec<&str> = line.split('\t').collect();
        let [_, ports, protocols, source, destination] = cells[..] else { panic!("{line}") };
        // The numbers are extracted from the text of the printed cell.
        let is_number = |c: char| c.is_ascii_digit() || c == '-';
        let numbers = ports.split(|c| !is_number(c)).filter(|p| !p.is_empty());
        for (port, protocol) in
            numbers.flat_map(|port| protocols.split('+').map(move |protocol| (port, protocol)))
        {
            let fact = [source, destination, protocol, port].map(str::to_owned);
            facts.insert(fact.into());
        }
    }
    facts
}

/// Returns a row of the matrix in the form of the transcribed facts.
fn fact(matrix: &Matrix, row: &Row) -> Fact {
    let (transport, ports) = if row.transport.has_ports() {
        (row.transport.to_string(), row.ports_text())
    } else {
        ("ip".to_owned(), row.transport.0.to_string())
    };
    let destination = matrix.destination_text(row);
    (matrix.roles[row.source].slug.clone(), destination, transport, ports)
}

#[test]
fn every_number_of_both_documents_stands_in_the_matrix_with_its_pair_of_roles() {
    // These rows do not come from a Ports cell. `sources.md` gives the reasons.
    let argued = |row: &Row| {
        [
            "ras19.console.performance-monitor.tcp.3000",
            "legacy.any-farm-host.performance-monitor.tcp.8086",
            "legacy.parallels-client.gateway.udp.20000",
        ]
        .contains(&row.id.as_str())
    };
    for (name, count) in [("ras-19", 232), ("ras-legacy", 70)] {
        let matrix = matrix(name);
        let facts = facts(&format!("{name}.tsv"));
        assert_eq!(facts.len(), count, "{name}: the documents have not changed");
        let ours: BTreeSet<Fact> = matrix.rows.iter().map(|row| fact(&matrix, row)).collect();
        let missing: Vec<_> = facts.difference(&ours).collect();
        assert!(missing.is_empty(), "{name} lacks {missing:?}");
        for row in &matrix.rows {
            let known = facts.contains(&fact(&matrix, row));
            assert!(known != argued(row), "{}: in the document: {known}", row.id);
            assert!(!argued(row) || row.certainty == Certainty::Inferred, "{}", row.id);
        }
    }
}

fn sections(matrix: &Matrix) -> Vec<(&str, usize)> {
    let mut sections: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &matrix.rows {
        *sections.entry(&row.section).or_default() += 1;
    }
    sections.into_iter().collect()
}

#[test]
fn rows_by_section_are_those_of_the_transcription() {
    let matrix = matrix("ras-19");
    assert!(matrix.rows.iter().all(|row| row.provenance.starts_with("kb-129097 line ")));
    let expected = [
        ("all-components", 2),
        ("avd-optional", 9),
        ("avd-required", 13),
        ("connection-broker", 48),
        ("console", 34),
        ("enrollment-server", 11),
        ("guest-agent", 7),
        ("halb", 11),
        ("parallels-client", 29),
        ("powershell", 6),
        ("provider-agent", 13),
        ("rdsh-agent", 6),
        ("remote-pc-agent", 7),
        ("reporting", 3),
        ("secure-gateway", 14),
        ("ssrs", 1),
        ("tenant-broker", 1),
        ("web-admin", 10),
        ("web-external", 9),
    ];
    assert_eq!(sections(&matrix), expected);
    let tables = || matrix.rows.iter().filter(|row| row.only.is_none());
    let count = |e| tables().filter(|r| r.expectation == e).count();
    assert_eq!(
        [Expectation::Steady, Expectation::OnDemand, Expectation::Feature, Expectation::Localhost]
            .map(count),
        [20, 102, 86, 4]
    );
    let scope = |s| tables().filter(|r| r.scope == s).count();
    assert_eq!(
        [Scope::Network, Scope::Internet, Scope::Broadcast, Scope::Localhost].map(scope),
        [184, 19, 5, 4]
    );
}

#[test]
fn rows_of_the_older_document_are_those_of_the_transcription_and_two_more() {
    let matrix = matrix("ras-legacy");
    assert!(matrix.rows.iter().all(|row| row.provenance.starts_with("kb-123255 line ")));
    let expected = [
        ("all-components", 2),
        ("client", 1),
        ("console", 11),
        ("guest-agent", 5),
        ("halb", 7),
        // The document has two rows. A third row also accepts performance counters over TCP (see
        // `sources.md`).
        ("performance-monitor", 3),
        ("publishing-agent", 16),
        ("rdsh-agent", 6),
        ("remote-pc-agent", 5),
        ("reporting", 1),
        // The document has ten rows. The additional row allows clients to look up gateways.
        ("secure-client-gateway", 11),
        ("vdi-agent", 4),
    ];
    assert_eq!(sections(&matrix), expected);
    let count = |e| matrix.rows.iter().filter(|r| r.exposure == Some(e)).count();
    assert_eq!(
        [Exposure::Internal, Exposure::Outbound, Exposure::External, Exposure::Localhost]
            .map(count),
        [40, 20, 11, 1]
    );
}

/// Each open point of the document is named in the note of a row and discussed in sources.md.
#[test]
fn every_open_point_is_resolved_where_it_can_be_seen() {
    let matrix = matrix("ras-19");
    let sources = include_str!("../../rules/ras-19/sources.md");
    for number in 1..=13 {
        let point = format!("(U{number})");
        let rows: Vec<&Row> = matrix.rows.iter().filter(|r| r.note.contains(&point)).collect();
        assert!(!rows.is_empty(), "{point} is not in any note");
        let line = sources.lines().find(|line| line.starts_with(&format!("| U{number} |")));
        let line = line.unwrap_or_else(|| panic!("{point} is not in sources.md"));
        let words: BTreeSet<&str> = rows.iter().map(|row| row.certainty.name()).collect();
        assert!(words.iter().all(|word| line.contains(*word)), "{point}: {words:?}");
    }
    assert!(matrix.rows.iter().all(|r| !r.is_doubtful() || !r.note.is_empty()));
}

#[test]
fn the_shipped_matrices_pass_the_lint_and_decide_their_examples() {
    for name in MATRICES {
        for matrix in [matrix(name), with_overlays(name)] {
            let problems: Vec<String> = matrix
                .lint()
                .iter()
                .chain(&check_examples(&matrix))
                .map(ToString::to_string)
                .collect();
            assert!(problems.is_empty(), "{name}: {problems:#?}");
        }
        let checked = rasaudit(["matrix", "check", name]);
        assert!(checked.status.success(), "{}", stderr(&checked));
    }
}

/// A farm for one matrix: an inventory with two hosts of each role that a host can have and all
/// features on, and the packets of the examples that were added.
struct Farm<'m> {
    matrix: &'m Matrix,
    inventory: String,
    wire: Wire,
    /// The row that must determine the ruling, by client, server, transport and port.
    expected: BTreeMap<[String; 4], String>,
}

impl<'m> Farm<'m> {
    fn new(matrix: &'m Matrix, on: Option<usize>) -> Self {
        let overlays: BTreeSet<&str> =
            matrix.rows.iter().filter_map(|row| row.overlay.as_deref()).collect();
        let overlays: Vec<&str> = overlays.into_iter().collect();
        let mut inventory = format!(
            "[farm]\nmatrix = \"{}\"\noverlays = {overlays:?}\nresolvers = [\"10.9.9.9\"]\n",
            matrix.name
        );
        inventory.push_str("[farm.features]\n");
        for feature in matrix.features.keys() {
            inventory += &format!("{feature} = true\n");
        }
        for (number, role) in matrix.roles.iter().enumerate().filter(|(_, r)| r.is_playable()) {
            for copy in 0..2 {
                let slug = &role.slug;
                let address = Self::address(number, copy);
                inventory += &format!(
                    "[[host]]\nname = \"{slug}{copy}\"\naddresses = [\"{address}\"]\nroles = [\"{slug}\"]\n"
                );
            }
        }
        if let Some(role) = on {
            inventory += &format!("[capture]\non = \"{}0\"\n", matrix.roles[role].slug);
        }
        Self { matrix, inventory, wire: Wire::default(), expected: BTreeMap::new() }
    }

    fn address(role: usize, copy: usize) -> String {
        format!("10.0.{copy}.{}", role + 1)
    }

    /// Appends the packets of a row's examples.
    fn add(&mut self, row: &Row) {
        for example in &row.examples {
            let ms = self.expected.len() as u64 * 50;
            let count = self.expected.len();
            let outside = format!("203.0.{}.{}", 113 + count / 200, count % 200 + 1);
            let mut client = Self::address(example.from, 0);
            let server = match &example.to {
                ExampleTarget::Role(role) => Self::address(*role, 1),
                ExampleTarget::Everybody => {
                    row.multicast.first().map_or("255.255.255.255".into(), |a| a.to_string())
                }
                ExampleTarget::Itself => {
                    "127.0.0.1".clone_into(&mut client);
                    client.clone()
                }
                ExampleTarget::Address(address) => address.to_string(),
                ExampleTarget::Name(name) => {
                    self.wire.lookup(ms, &client, "10.9.9.9", &[name], &outside);
                    outside
                }
            };
            let from = (client.as_str(), 50_000);
            let to = (server.as_str(), example.port);
            match (example.transport.to_string().as_str(), &example.to) {
                ("tcp", ExampleTarget::Name(name)) => {
                    self.wire.start(ms + 5, from, to, &client_hello(name, false, 9), 1400);
                }
                ("tcp", _) => self.wire.connect(ms, from, to),
                ("udp", _) => self.wire.udp(ms, from, to),
                _ => self.wire.ip(ms, &client, &server, example.transport.0, &[0x21, 1, 100, 0]),
            }
            let port = if example.transport.has_ports() {
                example.port.to_string()
            } else {
                String::new()
            };
            let key = [client, server, example.transport.to_string(), port];
            assert_eq!(
                self.expected.insert(key, row.id.clone()),
                None,
                "{}: the example belongs to two rows",
                row.id
            );
        }
    }

    /// Audits all packets and checks which row determined the ruling of each conversation.
    fn check(&self) {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let capture = scratch.path().join("a.pcap");
        let inventory = scratch.path().join("a.toml");
        fs::write(&capture, self.wire.file()).expect("writable");
        fs::write(&inventory, &self.inventory).expect("writable");
        let report = support::conversations(&capture, &inventory);
        let wanted = ["client", "server", "transport", "port", "rule", "verdict", "certain"];
        let mut decided = BTreeMap::new();
        for row in columns(&report, &wanted) {
            let key: [String; 4] = row[..4].to_vec().try_into().expect("four cells");
            decided.insert(key, row[4..].to_vec());
        }
        for (key, id) in &self.expected {
            let [rule, verdict, certain] = &decided[key][..] else { panic!("three cells") };
            assert_eq!((rule, verdict.as_str()), (id, "documented"), "{key:?}");
            let row = self.matrix.rows.iter().find(|row| row.id == *id).expect("the row");
            // Rulings from a doubtful row are uncertain, and so are rulings about ports that were
            // not announced. The certainty of rulings about UDP and about protocols without ports
            // is not checked.
            let guess = row.transport.has_ports() && row.transport.to_string() == "udp";
            if !guess && row.transport.has_ports() {
                let doubtful = row.is_doubtful() || row.announced_by.is_some();
                assert_eq!(certain, if doubtful { "no" } else { "yes" }, "{id}");
            }
        }
    }
}

/// Audits the packets of every example of every row with the complete program.
#[test]
fn the_examples_of_every_row_are_decided_by_it_in_a_capture() {
    for matrix in MATRICES.iter().map(|name| with_overlays(name)) {
        let inside = |row: &&Row| row.scope == Scope::Localhost;
        let to_all = |row: &&Row| row.examples.iter().any(|e| e.to == ExampleTarget::Everybody);
        let mut farm = Farm::new(&matrix, None);
        matrix.rows.iter().filter(|r| !inside(r) && !to_all(r)).for_each(|row| farm.add(row));
        assert!(farm.expected.len() >= matrix.rows.len() - 12, "{}", farm.expected.len());
        farm.check();
        for row in matrix.rows.iter().filter(inside) {
            let mut farm = Farm::new(&matrix, Some(row.examples[0].from));
            farm.add(row);
            farm.check();
        }
        for row in matrix.rows.iter().filter(to_all) {
            let mut farm = Farm::new(&matrix, None);
            // The addressees of a broadcast depend on the hosts that the inventory lists, so only
            // hosts with the roles of the row are kept.
            let members = matrix.roles[row.destination].members;
            let keep: Vec<&str> = matrix.role_names(members);
            let from = &matrix.roles[row.examples[0].from].slug;
            let (head, hosts) = farm.inventory.split_once("[[host]]").expect("hosts");
            let kept = hosts.split("[[host]]").filter(|host| {
                keep.iter()
                    .chain([&from.as_str()])
                    .any(|slug| host.contains(&format!("roles = [\"{slug}\"]")))
            });
            farm.inventory =
                head.to_owned() + &kept.map(|host| format!("[[host]]{host}")).collect::<String>();
            farm.add(row);
            farm.check();
        }
    }
}

/// Invalid rows of a matrix, with a part of the lint's message.
const LINT_CASES: &[(&str, &str)] = &[
    (
        "a,broker,ad-dc,tcp,5000,5000,,,,p,q,,,,,,,,,broker > ad-dc tcp/5001",
        "the row does not document one of its examples, whose ruling is unexpected-port/port-not-in-matrix",
    ),
    ("a,broker,ad-dc,tcp,5000,5000,,,,p,q,,,,,,,,,", "has no example"),
    (
        "a,broker,ad-dc,tcp,5000,5000,,,,,q,,,,,,,,,broker > ad-dc tcp/5000",
        "state the purpose of the traffic",
    ),
    ("a,broker,ad-dc,tcp,5000,5000,,,,p,,,,,,,,,,broker > ad-dc tcp/5000", "provenance is empty"),
    (
        "a,brokr,ad-dc,tcp,5000,5000,,,,p,q,,,,,,,,,broker > ad-dc tcp/5000",
        "unknown role \"brokr\"; did you mean \"broker\"?",
    ),
    (
        "a,broker,ad-dc,tcp,5000,5000,mfaa,,,p,q,,,,,,,,,broker > ad-dc tcp/5000",
        "unknown feature \"mfaa\"; did you mean \"mfa\"?",
    ),
    (
        "a,broker,ad-dc,tcp,5000,5000,,,,p,q,maybe,,,,,,,,broker > ad-dc tcp/5000",
        "certainty: unknown value \"maybe\"",
    ),
    (
        "a,broker,ad-dc,tcp,5000,5000,,,,p,q,doubtful,,,,,,,,broker > ad-dc tcp/5000",
        "has no note that gives the reason",
    ),
    (
        "a,broker,ad-dc,tcp,5000,5000,,,,p,q,,,,,,,,,broker > ad-dc tcp/5000\n\
          b,broker,ad-dc,tcp,5000,5000,,,,p,q,,,,,,,,,broker > ad-dc tcp/5000",
        "b: the row duplicates a",
    ),
    (
        "a,broker,ad-dc,tcp,5000,5000,,,,p,q,,,,,,,,,broker > ad-dc tcp/5000\n\
          b,broker,ad-dc,tcp,5000,5000,mfa,,,p,q,,,,,,,,,broker > ad-dc tcp/5000",
        "b: the row contradicts a",
    ),
    (
        "a,broker,ad-dc,tcp,5000,6000,,,,p,q,,,,,,,,,broker > ad-dc tcp/5000\n\
          b,broker,ad-dc,tcp,5500,7000,,,,p,q,,,,,,,,,broker > ad-dc tcp/7000",
        "b: the ports of the row overlap with those of a",
    ),
    (
        "a,broker,rdsh-agent,tcp,5000,5000,,,,p,q,,,,,,,,,broker > rdsh-agent tcp/5000\n\
          b,broker,guest-agent,tcp,5000,5000,,,,p,q,,,,,,,,,broker > guest-agent tcp/5000\n\
          c,broker,remote-pc-agent,tcp,5000,5000,,,,p,q,,,,,,,,,broker > remote-pc-agent tcp/5000\n\
          d,broker,session-host,tcp,5000,5000,,,,p,q,,,,,,,,,broker > rdsh-agent tcp/5000",
        "d: the row never applies",
    ),
    (
        "a,broker,ad-dc,tcp,5000,5000,,broadcast,,p,q,,,,,,,,,broker > broadcast tcp/5000",
        "TCP, which is never broadcast",
    ),
    (
        "a,broker,localhost,tcp,5000,5000,,localhost,steady,p,q,,,,,,60,,,broker > localhost tcp/5000",
        "stays inside a host",
    ),
    (
        "a,broker,ad-dc,tcp,5000,5000,,localhost,localhost,p,q,,,,,,,,,broker > localhost tcp/5000",
        "contradict each other about localhost",
    ),
    (
        "a,broker,ad-dc,tcp,5000,5000,,,,p,q,,,,,,,224.0.0.18,,broker > ad-dc tcp/5000",
        "its scope is not broadcast",
    ),
    (
        "a,broker,ad-dc,tcp,5000,5000,,,,p,q,,,,,,,10.0.0.1,,broker > ad-dc tcp/5000",
        "is not a multicast address",
    ),
    (
        "a,broker,ad-dc,tcp,5000,5000,,,steady,p,q,,,,,,,,,broker > ad-dc tcp/5000",
        "has no watch time; set watch_s",
    ),
    (
        "a,broker,ad-dc,tcp,5000,5000,,,feature,p,q,,,,,,,,,broker > ad-dc tcp/5000",
        "names no feature",
    ),
    ("a,broker,ad-dc,tcp,0,0,,,,p,q,,,,,,,,,broker > ad-dc tcp/0", "port 0"),
    (
        "a,localhost,ad-dc,tcp,5000,5000,,,,p,q,,,,,,,,,broker > ad-dc tcp/5000",
        "no host can have the source role",
    ),
    (
        "a,broker,ad-dc,tcp,5000,5000,,,,p,q,,,g,,g,60,,,broker > ad-dc tcp/5000",
        "has its own group as its trigger",
    ),
    (
        "a,broker,ad-dc,udp,5000,5000,,broadcast,,p,q,,,g,,,,,,broker > broadcast udp/5000\n\
          b,broker,ad-dc,tcp,5000,5000,,,,p,q,,,,,g,60,,,broker > ad-dc tcp/5000",
        "whose traffic is never established",
    ),
    (
        "a,broker,ad-dc,tcp,5000,5000,,,,p,q,,,,,h,60,,,broker > ad-dc tcp/5000",
        "unknown trigger group \"h\"",
    ),
    (
        "a,broker,ad-dc,tcp,5000,5000,,,steady,p,q,,,g,every-pair,,60,,,broker > ad-dc tcp/5000\n\
          b,broker,ad-dc,tcp,5001,5001,,,steady,p,q,,,g,one-source,,60,,,broker > ad-dc tcp/5001",
        "b: the row has the quantifier one-source",
    ),
    (
        "a,broker,gateway,tcp,100,200,,,,p,q,,,,,,,,,broker > gateway-forwarding tcp/100\n\
             b,broker,gateway-normal,tcp,150,250,,,,p,q,,,,,,,,,broker > gateway-normal tcp/250",
        "b: the ports of the row overlap with those of a for some roles",
    ),
    (
        "a,any,ad-dc,tcp,5000,5000,,,,p,q,,,,,,,,internal,broker > ad-dc tcp/5000",
        "internal, but open to all hosts",
    ),
    (
        "a,broker,ad-dc,tcp,5000,5000,,,,p,q,,,,,,,,external,broker > ad-dc tcp/5000",
        "external, but not open to all hosts",
    ),
    (
        "a,broker,ad-dc,tcp,5000,5000,,,,p,q,,,,,,,,,broker to ad-dc",
        "an example must have the form FROM > TO",
    ),
    (
        "a,broker,ad-dc,tcp,5000,5000,,,,p,q,,,,,,,,,gateway > ad-dc tcp/5000",
        "no host can have the role \"gateway\"",
    ),
];

/// Tests that the lint reports each kind of invalid row and accepts valid rows.
#[test]
fn the_lint_finds_each_kind_of_problem() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let path = scratch.path().join("matrix.csv");
    let header = "id,source_role,destination_role,transport,port_low,port_high,condition,scope,expectation,\
                  purpose,provenance,certainty,note,group,quantifier,trigger,watch_s,multicast,exposure,example";
    for (rows, expected) in LINT_CASES.iter().copied() {
        fs::write(&path, format!("{header}\n{rows}\n")).expect("writable");
        let checked = rasaudit(["matrix".as_ref(), "check".as_ref(), path.as_os_str()]);
        let told = stderr(&checked);
        assert_eq!(checked.status.code(), Some(2), "{expected}\n{rows}");
        assert!(told.contains(expected), "{expected}\n{told}");
    }
    // Valid rows: a range with an example inside it, a row to a group of roles, and a single port.
    let sound = "a,broker,ad-dc,tcp,100,200,,,,p,q,,,,,,,,,broker > ad-dc tcp/150\n\
                 b,broker,any-farm-host,tcp,300,300,,,,p,q,,,,,,,,,broker > halb tcp/300";
    fs::write(&path, format!("{header}\n{sound}\n")).expect("writable");
    let checked = rasaudit(["matrix".as_ref(), "check".as_ref(), path.as_os_str()]);
    assert!(checked.status.success(), "{}", stderr(&checked));
    fs::write(
        &path,
        format!("{header}\na,broker,ad-dc,tcp,5000,5000,,,,p,q,,,,,,,,,broker > ad-dc tcp/5000\n"),
    )
    .expect("writable");
    let sound = rasaudit(["matrix".as_ref(), "check".as_ref(), path.as_os_str()]);
    assert!(sound.status.success(), "{}", stderr(&sound));
}

#[test]
fn old_and_new_names_of_a_role_are_understood_everywhere() {
    for name in MATRICES {
        let matrix = matrix(name);
        for (names, slug) in [
            (&["Publishing Agent", "RAS Connection Broker", "Connection Broker"][..], "broker"),
            (&["VDI Agent", "RAS Provider Agent"], "provider-agent"),
            (
                &[
                    "Terminal Server Agent",
                    "Remote Desktop Session Host Agent",
                    "RAS RD Session Host Agent",
                ],
                "rdsh-agent",
            ),
            (&["HALB Appliance", "HALB"], "halb"),
            (&["2FA Server", "MFA Server(s)"], "mfa-server"),
        ] {
            for name in names {
                let role =
                    matrix.playable_role(name).map(|number| matrix.roles[number].slug.clone());
                assert_eq!(role, Ok(slug.to_owned()), "{name}");
            }
        }
    }
    let names = |name: &str| {
        let matrix = matrix(name);
        let broker = matrix.role("broker").expect("the broker");
        matrix.roles[broker].name.clone()
    };
    assert_eq!(
        (names("ras-19"), names("ras-legacy")),
        ("RAS Connection Broker".into(), "Publishing Agent".into())
    );
}

#[test]
fn every_feature_is_described_and_every_one_described_is_needed() {
    for matrix in MATRICES.iter().map(|name| matrix(name)) {
        for (feature, known) in &matrix.features {
            assert!(!known.meaning.is_empty());
            assert!(matrix.rows.iter().any(|r| r.features.contains(feature)), "{feature}");
        }
    }
    let usual: Vec<_> = matrix("ras-19")
        .features
        .into_iter()
        .filter(|(_, f)| f.usual)
        .map(|(name, _)| name)
        .collect();
    assert_eq!(usual, ["rdp-udp", "ssl", "web-client"]);
}

#[test]
fn a_diff_names_the_argument_that_is_no_matrix() {
    let diff = rasaudit(["matrix", "diff", "ras-19", "ras-99"]);
    assert_eq!(diff.status.code(), Some(2));
    assert!(
        stderr(&diff).contains("NEW: ") && !stderr(&diff).contains("--matrix: "),
        "{}",
        stderr(&diff)
    );
}

/// Tests that a diff lists the rows that a new version opens, narrows and closes.
#[test]
fn a_diff_tells_what_an_upgrade_opens_and_closes() {
    let diff = rasaudit(["matrix", "diff", "ras-legacy", "ras-19", "--format", "csv"]);
    assert!(diff.status.success(), "{}", stderr(&diff));
    let rows = columns(&stdout(&diff), &["change", "from", "to", "transport", "ports", "rule"]);
    let has = |row: [&str; 5]| rows.iter().any(|r| r[..5] == row);
    assert!(has(["opens", "console", "guest-agent", "udp", "30009"]));
    assert!(has(["opens", "avd-session-host", "login.windows.net", "tcp", "443"]));
    assert!(has(["closes", "console", "turbo-site", "tcp", "80"]));
    // The same ports between the same roles are not a change, even if one version uses groups and
    // the other individual roles.
    assert!(!rows.iter().any(|r| r[4] == "20001" && r[1] == "broker"));
    // A broad row is narrowed: only the sources that the new version no longer allows are listed.
    let push =
        rows.iter().find(|r| r[5] == "legacy.any-farm-host.rdsh-agent.tcp.49179").expect("the row");
    assert!(
        push[0] == "narrows" && push[1].contains("console") && !push[1].contains("broker"),
        "{push:?}"
    );
    // The entry port stays allowed, but for fewer sources.
    let web = rows.iter().find(|r| r[5] == "legacy.any.gateway.tcp.443").expect("the row");
    assert_eq!(web[..2], ["narrows", "any address"]);
    // Renamed services are also listed.
    assert!(rows.iter().any(|r| r[0] == "closes" && r[2] == "erp.2x.com"));
    let none = rasaudit(["matrix", "diff", "ras-19", "ras-19", "--format", "json"]);
    assert_eq!(stdout(&none).trim(), "[]");
    let wrong = rasaudit(["matrix", "diff", "ras-legacy", "ras-20"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("did you mean \"ras-19\"?"), "{}", stderr(&wrong));
}

#[test]
fn a_matrix_is_shown_in_every_form() {
    let show = |format: &str| {
        let shown = rasaudit([
            "matrix",
            "show",
            "--from",
            "Publishing Agent",
            "--to",
            "sql-server",
            "--format",
            format,
        ]);
        assert!(shown.status.success(), "{}", stderr(&shown));
        stdout(&shown)
    };
    let csv = show("csv");
    assert!(csv.starts_with("from,to,transport,ports,feature,need,purpose,rule,"), "{csv}");
    let show = |format: &str| {
        let shown = rasaudit(["matrix", "show", "--from", "ssrs", "--format", format]);
        assert!(shown.status.success(), "{}", stderr(&shown));
        stdout(&shown)
    };
    assert_eq!(
        columns(&show("csv"), &["to", "ports", "feature"]),
        [["sql-server", "1433", "reporting"]]
    );
    let json: serde_json::Value = serde_json::from_str(&show("json")).expect("JSON");
    assert_eq!(json[0]["rule"], "ras19.ssrs.sql-server.tcp.1433");
    let markdown = show("markdown");
    assert_eq!(markdown.lines().count(), 3);
    assert!(
        markdown.lines().all(|line| line.starts_with("| ") && line.ends_with(" |")),
        "{markdown}"
    );
    assert!(show("table").contains("1433"));
    let overlay =
        rasaudit(["matrix", "show", "--from", "rdsh-agent", "--overlay", "windows-domain"]);
    assert!(stdout(&overlay).contains("Tickets"), "{}", stdout(&overlay));
}

/// Every code has either its own severity or the severity of its verdict. An established connection
/// is at least as severe as an attempt.
#[test]
fn every_code_has_a_severity() {
    let matrix = RuleFiles::named("ras-19", None).expect("shipped").load().expect("valid");
    let text = include_str!("../../rules/severity.csv");
    for code in rasaudit::classify::Code::ALL {
        let verdict = code.verdict().name();
        let named = format!("{verdict},{code},");
        let any = format!("{verdict},*,");
        assert!(text.contains(&named) || text.contains(&any), "{verdict}/{code}");
        let table = &matrix.severities;
        let columns = [SeverityColumn::Reached, SeverityColumn::Attempted];
        let [reached, attempted] = columns.map(|column| table.get(verdict, code.name(), column));
        assert!(reached >= attempted, "{verdict}/{code}");
    }
}

/// An empty table is not a valid matrix. Lists of background traffic and overlays are checked by
/// their own rules.
#[test]
fn files_of_every_kind_are_checked() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let check = |name: &str, text: &str| {
        let path = scratch.path().join(name);
        fs::write(&path, text).expect("writable");
        let run = rasaudit(["matrix".as_ref(), "check".as_ref(), path.as_os_str()]);
        (run.status.code(), stdout(&run), stderr(&run))
    };
    let (code, _, err) = check("empty.csv", "");
    assert!(code == Some(2) && err.contains("the file is empty"), "{err}");
    let header =
        "id,source_role,destination_role,transport,port_low,port_high,purpose,provenance,example";
    let (code, _, err) = check("header.csv", header);
    assert!(code == Some(2) && err.contains("has no row"), "{err}");
    let row = "a,brokr,ad-dc,tcp,5000,5000,p,q,broker > ad-dc tcp/5000";
    let (_, _, err) = check("windows.csv", &format!("{header}\r\n\r\n{row}\r\n"));
    assert!(err.contains("windows.csv:3: source_role"), "{err}");
    let background = include_str!("../../rules/overlays/network-background.csv");
    let (code, out, err) = check("noise.csv", background);
    assert!(code == Some(0) && out.contains("13 kinds of background traffic"), "{out}{err}");
    for overlay in OVERLAYS {
        let run = rasaudit(["matrix", "check", overlay]);
        assert!(run.status.success(), "{overlay}: {}", stderr(&run));
    }
    let missing = rasaudit(["matrix", "check", "/nonexistent.csv"]);
    assert!(stderr(&missing).contains("no such file"), "{}", stderr(&missing));
}
