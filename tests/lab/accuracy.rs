//! Tests how loss, a missing direction and a short snaplen affect the verdicts. At most one in a
//! hundred certain claims may be false. `docs/accuracy.md` contains the results. `UPDATE_GOLDEN=1
//! cargo test --test lab accuracy` rewrites it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::support::{FIXTURES, Fixture, Random, Records, columns, rasaudit, stdout};

lab_tests! {
    certain_claims_stay_true_where_frames_are_lost: [],
}

/// The number of pieces into which each capture is also split. Most services occur two or three
/// times in a piece.
const PIECES: usize = 8;

const FARMS: [&str; 3] = ["farm-faults", "farm-healthy", "farm-codes"];

/// The claims of an audit, and whether each is certain: conversations with verdict and code, and
/// findings by ID. A conversation with two rows is certain if one of them is.
#[derive(Default)]
struct Said {
    conversations: BTreeMap<String, bool>,
    findings: BTreeMap<String, (String, bool)>,
}

fn said(farm: &Fixture, capture: &Path) -> Said {
    let inventory = farm.inventory().display().to_string();
    let more = farm.more();
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let report = |format: &str, wanted: &[&str]| {
        let capture = capture.display().to_string();
        let base = ["audit", &capture, "-i", &inventory, "--format", format, "--min-watch", "60s"];
        let run = rasaudit([&base, &more[..]].concat());
        // The exit code may be 3, because the last record of `farm-running` is truncated.
        assert!(matches!(run.status.code(), Some(0 | 1 | 3)), "{run:?}");
        columns(&stdout(&run), wanted)
    };
    let wanted = ["client", "server", "transport", "port", "verdict", "code", "certain"];
    let mut said = Said::default();
    for row in report("conversations", &wanted) {
        *said.conversations.entry(row[..6].join(" ")).or_default() |= row[6] == "yes";
    }
    let wanted = ["id", "certain", "verdict", "code", "client", "server", "transport", "port"];
    for row in report("csv", &wanted) {
        // A finding that something cannot be assessed is not a claim.
        if row[2] != "not-assessable" {
            said.findings.insert(row[0].clone(), (row[2..].join(" "), row[1] == "yes"));
        }
    }
    said
}

/// The numbers of certain, false and uncertain claims about changed captures, compared with the
/// claims about the unchanged captures. Only certain claims count as false, and `wrong` lists them.
/// `known` counts the findings about the unchanged captures, and `found` those of them that the
/// changed captures still show.
#[derive(Default)]
struct Count {
    certain: u32,
    wrong: BTreeSet<String>,
    wrong_count: u32,
    certain_findings: u32,
    wrong_findings: u32,
    doubted: u32,
    known: u32,
    found: u32,
}

impl Count {
    fn add(&mut self, truth: &Said, now: &Said) {
        for (what, certain) in &now.conversations {
            self.claim(*certain, truth.conversations.contains_key(what), || what.clone());
        }
        for (id, (what, certain)) in &now.findings {
            let right = truth.findings.contains_key(id);
            self.claim(*certain, right, || format!("{id} {what}"));
            self.certain_findings += u32::from(*certain);
            self.wrong_findings += u32::from(*certain && !right);
        }
        self.known += truth.findings.len() as u32;
        self.found +=
            truth.findings.keys().filter(|id| now.findings.contains_key(*id)).count() as u32;
    }

    fn claim(&mut self, certain: bool, right: bool, what: impl Fn() -> String) {
        self.certain += u32::from(certain);
        self.doubted += u32::from(!certain);
        if certain && !right {
            self.wrong.insert(what());
            self.wrong_count += 1;
        }
    }
}

/// A change to the records of a capture.
type Change = Box<dyn Fn(&[Vec<u8>]) -> Vec<Vec<u8>>>;

fn lose(percent: usize, seed: u64) -> Change {
    Box::new(move |records| {
        let mut random = Random(seed);
        records.iter().filter(|_| random.below(100) >= percent).cloned().collect()
    })
}

/// Keeps the packets from the lower to the higher address if `rising` is set, otherwise those of
/// the other direction. Frames that are neither IPv4 nor IPv6 are always kept.
fn one_way(rising: bool) -> Change {
    Box::new(move |records| {
        let passes = |record: &&Vec<u8>| {
            let frame = &record[16..];
            let ends = match frame[12..14] {
                [0x08, 0x00] => (&frame[26..30], &frame[30..34]),
                [0x86, 0xdd] => (&frame[22..38], &frame[38..54]),
                _ => return true,
            };
            (ends.0 < ends.1) == rising
        };
        records.iter().filter(passes).cloned().collect()
    })
}

fn cut(snaplen: usize) -> Change {
    Box::new(move |records| {
        let cut = |record: &Vec<u8>| {
            let mut record = record.clone();
            record.truncate(16 + snaplen);
            let kept = (record.len() - 16) as u32;
            record[8..12].copy_from_slice(&kept.to_le_bytes());
            record
        };
        records.iter().map(cut).collect()
    })
}

/// Claims that were certain before the threat model was introduced (`tests/data/honest.tsv`) and no
/// longer are: fixture, claim, and the sentence of `docs/threat-model.md` that requires the doubt.
const LOST: [(&str, &str, &str); 7] = [
    ("farm-codes", "10.20.9.101 10.20.1.21 tcp 443 documented matrix", SERVES),
    ("farm-codes", "10.20.9.101 10.20.1.21 udp 20000 unexpected-port port-not-in-matrix", GUESSED),
    (
        "farm-codes",
        "finding f-bc7143586df6 10.20.9.101 10.20.1.21 udp 20000 unexpected-port port-not-in-matrix",
        GUESSED,
    ),
    ("farm-running", "10.20.1.21 10.20.1.51 tcp 3389 documented matrix", SERVES),
    ("farm-running", "10.20.1.22 10.20.1.52 tcp 3389 documented matrix", SERVES),
    ("farm-running", "10.20.1.51 10.20.1.31 tcp 20003 documented matrix", SERVES),
    ("farm-running", "10.20.9.102 10.20.1.21 tcp 443 documented matrix", SERVES),
];

const GUESSED: &str = "A flow whose direction is a guess is judged separately.";
const SERVES: &str = "If one flow proves that an endpoint is a server, the direction of its other flows is still only a guess.";

/// Returns the section of `docs/accuracy.md` that counts and lists the claims that are no longer
/// certain, for the lab farms and for one that was running before its capture.
fn still_certain() -> String {
    let model = include_str!("../../docs/threat-model.md");
    let mut claims: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in include_str!("../data/honest.tsv").lines() {
        let (farm, claim) = line.split_once('\t').expect("a farm and a claim");
        claims.entry(farm).or_default().insert(claim);
    }
    let mut text = "
## Findings still certain

`tests/data/honest.tsv` lists the true claims that were certain when audits still trusted every host. The table shows how
many of them are no longer certain with the [threat model](threat-model.md). It includes two more farms: `farm-domain`, and
`farm-running`, which was already running when its capture began.

| farm | certain claims | certain findings | claims no longer certain | findings no longer certain |
| --- | --- | --- | --- | --- |
"
    .to_owned();
    let mut lost = Vec::new();
    let mut all = [0; 4];
    for (farm, claims) in claims {
        let case = FIXTURES.iter().find(|case| case.name == farm).expect("a fixture");
        let said = said(case, &case.capture());
        let findings = said.findings.iter().map(|(id, (what, certain))| {
            let words: Vec<&str> = what.split(' ').filter(|word| !word.is_empty()).collect();
            let (verdict, subject) = words.split_at(2);
            (
                ["finding", id]
                    .iter()
                    .chain(subject)
                    .chain(verdict)
                    .copied()
                    .collect::<Vec<_>>()
                    .join(" "),
                *certain,
            )
        });
        let rows = said.conversations.iter().map(|(what, certain)| {
            (what.split_whitespace().collect::<Vec<_>>().join(" "), *certain)
        });
        let certain: BTreeSet<String> =
            findings.chain(rows).filter(|(_, certain)| *certain).map(|(what, _)| what).collect();
        let gone: Vec<&str> = claims.iter().filter(|c| !certain.contains(**c)).copied().collect();
        let findings = |of: &mut dyn Iterator<Item = &str>| {
            of.filter(|claim| claim.starts_with("finding ")).count()
        };
        let row = [
            claims.len(),
            findings(&mut claims.iter().copied()),
            gone.len(),
            findings(&mut gone.iter().copied()),
        ];
        text += &format!("| `{farm}` | {} | {} | {} | {} |\n", row[0], row[1], row[2], row[3]);
        all = std::array::from_fn(|at| all[at] + row[at]);
        lost.extend(gone.into_iter().map(|claim| (farm, claim)));
    }
    let [claims, findings, gone, gone_findings] = all;
    text += &format!("| all | {claims} | {findings} | {gone} | {gone_findings} |\n\n");
    text += &format!(
        "{:.2} % of the claims are no longer certain. Each is listed with the sentence of the \
         threat model that requires the doubt:\n\n",
        gone as f64 * 100.0 / claims as f64
    );
    assert_eq!(lost, LOST.map(|(farm, claim, _)| (farm, claim)));
    assert!(gone * 100 <= claims, "{gone} of {claims} claims are no longer certain");
    for (farm, claim, sentence) in LOST {
        assert!(model.contains(sentence), "{sentence}");
        text += &format!("- `{farm}`: {claim}. \"{}\"\n", sentence.trim_end_matches('.'));
    }
    text
}

fn certain_claims_stay_true_where_frames_are_lost() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let seeds = [0x11, 0x22, 0x33, 0x44, 0x55];
    let mut changes: Vec<(String, Vec<Change>)> =
        vec![("nothing".to_owned(), vec![Box::new(<[Vec<u8>]>::to_vec)])];
    for percent in [1, 5, 20, 50] {
        let change = seeds.map(|seed| lose(percent, seed)).into();
        changes.push((format!("{percent} % of frames, at random, {} times", seeds.len()), change));
    }
    changes.push(("one direction, then the other".to_owned(), vec![one_way(true), one_way(false)]));
    changes.push(("everything after the first 64 bytes of each frame".to_owned(), vec![cut(64)]));
    let mut text = "\
# Accuracy

This page shows how lost frames change the verdicts of three lab farms (`farm-faults`, `farm-healthy`, `farm-codes`). Each
capture is audited as a whole and in eight pieces with the same number of frames, about 80 seconds each (`--min-watch 60s`).
In each piece, most services are used two or three times.

- A claim is the verdict and code of a conversation, or a finding other than `not-assessable`.
- A certain claim is false if the complete frames give a different verdict or code for the same client, server, transport and
  port, or do not give the finding. Uncertain claims are only counted.
- Recall is the share of the findings about the complete frames that remain, whether they are certain or not.

`UPDATE_GOLDEN=1 cargo test --test lab accuracy` writes this page. The test fails if, in any row of the first table, more
than 1% of the certain claims, or of the certain findings alone, are false.

| lost | certain claims | false claims | certain findings | false findings | uncertain claims | recall |
| --- | --- | --- | --- | --- | --- | --- |
"
    .to_owned();
    let file = scratch.path().join("changed.pcap");
    let mut truths = Vec::new();
    for farm in FIXTURES.iter().filter(|farm| FARMS.contains(&farm.name)) {
        let whole = Records::read(&farm.capture());
        let pieces = whole.records.chunks(whole.records.len().div_ceil(PIECES));
        for part in [&whole.records[..]].into_iter().chain(pieces) {
            whole.write(&file, part);
            let header = whole.header.clone();
            let rest = Vec::new();
            let records = Records { header, records: part.to_vec(), rest };
            truths.push((farm, records, said(farm, &file)));
        }
    }
    let mut failures = Vec::new();
    for (name, changes) in changes {
        let mut count = Count::default();
        for change in &changes {
            for (farm, records, truth) in &truths {
                records.write(&file, &change(&records.records));
                count.add(truth, &said(farm, &file));
            }
        }
        if count.wrong_count * 100 > count.certain
            || count.wrong_findings * 100 > count.certain_findings
        {
            failures.push(format!("{name}: {:#?}", count.wrong));
        }
        text += &format!(
            "| {name} | {} | {} ({:.2} %) | {} | {} | {} | {} of {} |\n",
            count.certain,
            count.wrong_count,
            f64::from(count.wrong_count) * 100.0 / f64::from(count.certain.max(1)),
            count.certain_findings,
            count.wrong_findings,
            count.doubted,
            count.found,
            count.known,
        );
    }
    text += &still_certain();
    println!("{text}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/accuracy.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &text).expect("the documents are writable");
    }
    assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), text);
}
