//! Tests third-party captures in the folder `RASAUDIT_CAPTURES`. Some are hostile or damaged on
//! purpose. No file may cause a panic or a hang, and all frame counters must add up. If tshark can
//! also read a file, each frame's innermost five-tuple must equal tshark's, except for the classes
//! in [`EXCEPTIONS`]. Without the folder, the tests are ignored.

use crate::support;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::frames::{ours, shown};
use crate::support::tshark::{Packet, Sees};
use crate::support::{rasaudit, stdout};
use rasaudit::decode::{Body, Observation};

lab_tests! {
    foreign_captures_are_read_or_refused_by_name: [Captures],
    innermost_five_tuples_agree_with_tshark: [Captures, Tshark],
}

/// A reason why a frame's five-tuple may differ from tshark's: name, explanation, and a check of
/// both results.
type Exception = (&'static str, &'static str, fn(&Packet, &Observation) -> bool);

const EXCEPTIONS: &[Exception] = &[
    ("ipcomp", "what is compressed is not decompressed (RFC 3173)", |theirs, _| {
        theirs.protocols.contains(":ipcomp:")
    }),
    (
        "source port",
        "a tunnel is known by its destination port alone; the other is anybody's",
        |_, ours| matches!(ours.body, Body::Transport { tuple, .. } if tuple.sport == 2152),
    ),
    (
        "gtp prime",
        "the charging protocol beside GTP carries no packets (3GPP TS 32.295)",
        |p, _| p.protocols.contains(":gtpprime:"),
    ),
    ("sctp cut short", "tshark shows the ports of whole SCTP headers alone", |theirs, ours| {
        let Body::Transport { tuple, .. } = ours.body else { return false };
        theirs.sees == Sees::Other
            && theirs.protocols.ends_with(":sctp")
            && tuple.transport.0 == 132
    }),
    (
        "cut in a tunnel",
        "the packet around one that was cut off is what was seen",
        |theirs, ours| ours.undecoded_tunnel.is_some() && theirs.sees == Sees::Other,
    ),
    ("too deep", "we stop at a depth that no network has", |theirs, ours| {
        theirs.protocols.split(':').count() > 24 && ours.fingerprint == 0
    }),
];

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut found = Vec::new();
    for path in entries.map(|e| e.expect("an entry").path()) {
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("RASAUDIT_CAPTURES");
    if folder.is_none() {
        support::skipped("no folder of foreign captures (RASAUDIT_CAPTURES)");
    }
    folder.map(PathBuf::from)
}

fn foreign_captures_are_read_or_refused_by_name() {
    let Some(folder) = folder() else { return };
    let files = files(&folder);
    assert!(!files.is_empty(), "{}", folder.display());
    for file in files {
        let name = file.display().to_string();
        let output = rasaudit(["audit", &name, "--format", "json", "--jobs", "1"]);
        let code = output.status.code().unwrap_or_else(|| panic!("{name}: ended by a signal"));
        assert!([0, 2, 3].contains(&code), "{name}: {code}");
        if code == 2 {
            let told = support::stderr(&output);
            assert!(told.contains("is not a pcap or pcapng file"), "{name}: {told}");
            continue;
        }
        let json: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("JSON");
        let account = &json["accounting"];
        let skipped = account["skipped"].as_object().expect("an object");
        let skipped: u64 = skipped.values().filter_map(serde_json::Value::as_u64).sum();
        let observed = account["observations"].as_u64().expect("a number");
        assert_eq!(account["frames_read"], observed + skipped, "{name}");
    }
}

/// Returns the number of frames that capinfos counts, or `None` if capinfos fails.
fn capinfos(file: &Path) -> Option<usize> {
    let output = Command::new("capinfos").args(["-c", "-M", "-T", "-r"]).arg(file).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.trim_end().rsplit('\t').next()?.parse().ok()
}

/// Returns whether a file contains zeros in place of records.
fn has_zeros(file: &Path) -> bool {
    let output =
        rasaudit(["audit", &file.display().to_string(), "--format", "json", "--jobs", "1"]);
    let text = support::stdout(&output);
    ["of zeros in place of records", "no record follows the zeros"]
        .iter()
        .any(|told| text.contains(told))
}

fn innermost_five_tuples_agree_with_tshark() {
    let Some(folder) = folder() else { return };
    let mut compared = 0;
    let mut excused = BTreeMap::<&str, u64>::new();
    let mut wrong = Vec::new();
    for file in files(&folder) {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        let Some(theirs) = support::tshark::packets(&file) else {
            support::skipped("tshark is not installed (apt-get install tshark)");
            return;
        };
        let ours = ours(&file);
        // tshark shows the zeros as empty frames from 1970, which rasaudit does not count, so the
        // file is left out.
        if has_zeros(&file) {
            continue;
        }
        if let Some(frames) = capinfos(&file)
            && frames != ours.len()
        {
            wrong.push(format!("{name}: capinfos counts {frames} frames, we {}", ours.len()));
        }
        if ours.len() < theirs.len() {
            wrong.push(format!("{name}: tshark shows {} frames, we {}", theirs.len(), ours.len()));
        }
        for (number, (theirs, ours)) in theirs.iter().zip(&ours).enumerate() {
            let Ok(ours) = ours else { continue };
            compared += 1;
            if shown(&ours.body) == theirs.sees {
                continue;
            }
            match EXCEPTIONS.iter().find(|(.., holds)| holds(theirs, ours)) {
                Some((class, ..)) => *excused.entry(class).or_default() += 1,
                None => wrong.push(format!(
                    "{name} frame {}: tshark {:?} ({}), we {:?}",
                    number + 1,
                    theirs.sees,
                    theirs.protocols,
                    ours.body
                )),
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 1000, "only {compared} frames were compared");
    for (class, reason, _) in EXCEPTIONS {
        assert!(excused.contains_key(class), "no frame belongs to the class {class} ({reason})");
    }
}
