//! Tests that the commands of the tutorial and of the how-to guides print what the pages show, that
//! every page is in the table of contents, and that links are valid.

use crate::support;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::engines::Engines;
use crate::support::stdout;

lab_tests! {
    the_guides_for_engines_show_what_their_commands_print: [Spark, Tshark],
}

/// The programs of `make need-engines` that guides use. The test program `lab` follows the guides
/// that use them.
const ENGINES: [&str; 4] = ["duckdb", "python3", "spark-sql", "spark-submit"];

/// A command in a page, and the output that the page shows below it.
#[derive(Debug)]
struct Step {
    line: usize,
    command: String,
    shown: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(page: &Path) -> String {
    fs::read_to_string(page).unwrap_or_else(|error| panic!("{}: {error}", page.display()))
}

/// Returns the commands in the `console` blocks of a page. `$ ` begins a command, and `> `
/// continues it. Blocks in lists are indented.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut indent = None;
    for (number, line) in text.lines().enumerate() {
        let spaces = line.len() - line.trim_start().len();
        if line.trim_start().starts_with("```") {
            indent = (indent.is_none() && line.trim() == "```console").then_some(spaces);
            continue;
        }
        let Some(indent) = indent else { continue };
        let line = line.get(indent..).unwrap_or_default();
        if let Some(command) = line.strip_prefix("$ ") {
            let command = command.to_owned();
            steps.push(Step { line: number + 1, command, shown: Vec::new() });
            continue;
        }
        let step = steps.last_mut().expect("a console block begins with a command");
        match line.strip_prefix('>') {
            Some(more) if step.shown.is_empty() => {
                step.command += &format!("\n{}", more.strip_prefix(' ').unwrap_or(more));
            }
            _ => step.shown.push(line.to_owned()),
        }
    }
    steps
}

/// Returns whether a command prints what a page shows. A line `...` matches any number of lines,
/// and `...` at the end of a line matches the rest of that line.
fn agrees(shown: &[String], printed: &[&str]) -> bool {
    let same = |shown: &String, printed: &&str| match shown.strip_suffix(" ...") {
        Some(start) => printed.starts_with(start),
        None => printed.trim_end() == shown,
    };
    let parts: Vec<&[String]> = shown.split(|line| line == "...").collect();
    let mut rest = printed;
    for (number, part) in parts.iter().enumerate() {
        let fits = |at: &usize| {
            let lines = rest.get(*at..*at + part.len());
            lines.is_some_and(|lines| part.iter().zip(lines).all(|(a, b)| same(a, b)))
        };
        let (first, last) = (number == 0, number + 1 == parts.len());
        let end = rest.len().checked_sub(part.len());
        let at = match (first, last) {
            (true, _) => Some(0).filter(|at| fits(at) && (!last || end == Some(0))),
            (false, true) => end.filter(fits),
            (false, false) => (0..=rest.len()).find(fits),
        };
        let Some(at) = at else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

/// Runs commands as a reader would at the root of a checkout. A command must end with the status
/// that a following `echo $?` shows, otherwise with 0.
fn follow(page: &str, steps: &[Step], engines: Option<&Engines>) {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    for folder in ["fixtures", "contrib"] {
        let link = scratch.path().join(folder);
        std::os::unix::fs::symlink(root().join(folder), link).expect("a link");
    }
    let program = Path::new(env!("CARGO_BIN_EXE_rasaudit")).parent().expect("a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", program.display());
    let mut status = 0;
    for (number, step) in steps.iter().enumerate() {
        let place = format!("{page}:{}: {}", step.line, step.command);
        if step.command == "echo $?" {
            assert_eq!(step.shown, [status.to_string()], "{place}");
            continue;
        }
        let mut command = Command::new("sh");
        command.current_dir(scratch.path()).env("PATH", &path).arg("-c");
        if let Some(engines) = engines {
            engines.provide(&mut command, &path);
        }
        let run = command.arg(format!("exec 2>&1\n{}", step.command)).output().expect("sh runs");
        let printed = stdout(&run);
        status = run.status.code().unwrap_or_else(|| panic!("{place}: ended by a signal"));
        let stated = steps.get(number + 1).is_some_and(|next| next.command == "echo $?");
        assert!(status == 0 || stated, "{place}: exit status {status} is not shown\n{printed}");
        let lines: Vec<&str> = printed.lines().collect();
        assert!(
            agrees(&step.shown, &lines),
            "{place}: shown is\n{}\nprinted is\n{printed}",
            step.shown.join("\n")
        );
    }
}

#[test]
fn the_tutorial_shows_what_its_commands_print() {
    let steps = steps(&read(&root().join("docs/tutorial.md")));
    assert!(!steps.is_empty(), "the tutorial has no commands");
    follow("docs/tutorial.md", &steps, None);
}

/// Runs the commands of each guide that does not need [`ENGINES`] in a separate folder, after the
/// commands of the overview page (`index.md`).
#[test]
fn the_guides_show_what_their_commands_print() {
    let folder = root().join("docs/how-to");
    let mut followed = 0;
    for page in pages(&folder).into_iter().filter(|page| !needs_engines(page)) {
        let name = page.strip_prefix(root()).expect("a page").display().to_string();
        let own = steps(&read(&page));
        let missing = ["editcap", "tshark"].into_iter().find(|tool| {
            let uses = own.iter().any(|step| step.command.split(' ').next() == Some(tool));
            uses && Command::new(tool).arg("--version").output().is_err()
        });
        if let Some(tool) = missing {
            assert!(std::env::var_os("RASAUDIT_REQUIRE_TSHARK").is_none(), "{tool} is required");
            support::skipped(&format!("{name}: {tool} is not installed (apt-get install tshark)"));
            continue;
        }
        followed += own.len();
        let mut all = steps(&read(&folder.join("index.md")));
        if !page.ends_with("index.md") {
            all.extend(own);
        }
        follow(&name, &all, None);
    }
    assert!(followed > 0, "the guides have no commands");
}

/// Returns whether a command of a page contains one of [`ENGINES`] as a word.
fn needs_engines(page: &Path) -> bool {
    let uses =
        |step: &Step| ENGINES.iter().any(|e| step.command.split_whitespace().any(|w| w == *e));
    steps(&read(page)).iter().any(uses)
}

fn the_guides_for_engines_show_what_their_commands_print() {
    let folder = root().join("docs/how-to");
    let engines = Engines::new();
    let own: Vec<PathBuf> = pages(&folder).into_iter().filter(|page| needs_engines(page)).collect();
    assert_eq!(own.len(), 2, "{own:?}");
    for page in own {
        let name = page.strip_prefix(root()).expect("a page").display().to_string();
        let mut all = steps(&read(&folder.join("index.md")));
        all.extend(steps(&read(&page)));
        follow(&name, &all, Some(&engines));
    }
}

#[test]
fn a_page_that_shows_something_else_is_noticed() {
    let shown = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let printed = ["a", "b", "c: and so on", "d"];
    for right in ["a\nb\nc: and so on\nd", "...", "a\n...\nd", "...\nb\n...", "a\nb\nc: ...\nd"] {
        assert!(agrees(&shown(right), &printed), "{right}");
    }
    for wrong in ["", "a\nb", "b\n...", "...\nc: ...", "...\nb\nd\n...", "d\n...\na", "...\nd\nd"] {
        assert!(!agrees(&shown(wrong), &printed), "{wrong}");
    }
    let text =
        "```sh\n$ no\n```\n1. x\n\n   ```console\n   $ cat <<E\n   > >x\n   > E\n   >x\n   ```\n";
    let steps = steps(text);
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0].command, "cat <<E\n>x\nE\nx");
}

/// Returns all Markdown pages below a folder.
fn pages(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(pages(&path));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Returns the lines of a page without its code blocks.
fn prose(text: &str) -> Vec<&str> {
    let mut inside = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        if !inside && !fence {
            lines.push(line);
        }
    }
    lines
}

/// Returns the targets of the links and images of a page, except those in code.
fn links(text: &str) -> Vec<String> {
    let text = prose(text).join("\n");
    let plain: String = text.split('`').step_by(2).collect();
    let targets = plain.split("](").skip(1);
    targets.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

/// Returns the anchors of the headings of a page, as GitHub and mdBook name them.
fn anchors(text: &str) -> Vec<String> {
    let mut seen = BTreeMap::new();
    let mut anchors = Vec::new();
    for line in prose(text) {
        let title = line.trim_start_matches('#');
        let Some(title) = title.strip_prefix(' ').filter(|_| line.starts_with('#')) else {
            continue;
        };
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let anchor = kept.collect::<String>().to_lowercase().replace(' ', "-");
        let again = seen.entry(anchor.clone()).and_modify(|count| *count += 1).or_insert(0);
        anchors.push(if *again == 0 { anchor } else { format!("{anchor}-{again}") });
    }
    anchors
}

#[test]
fn every_page_is_in_the_table_of_contents() {
    let docs = root().join("docs");
    let listed = links(&read(&docs.join("SUMMARY.md")));
    let mut listed: Vec<PathBuf> = listed.iter().map(|target| docs.join(target)).collect();
    listed.sort();
    let mut written = pages(&docs);
    written.retain(|page| !page.ends_with("SUMMARY.md"));
    assert_eq!(listed, written);
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    let mut followed = 0;
    let docs = root().join("docs");
    let mut all = pages(&docs);
    let beside = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"];
    all.extend(beside.map(|page| root().join(page)));
    for page in all {
        for target in links(&read(&page)) {
            if target.contains("://") {
                continue;
            }
            followed += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let folder = page.parent().expect("a folder");
            let file = if file.is_empty() { page.clone() } else { folder.join(file) };
            // mdBook turns README.md into index.html but does not adapt links, so links must name
            // the folder.
            let renamed = file.starts_with(&docs)
                && file.ends_with("README.md")
                && !page.ends_with("SUMMARY.md");
            let there = !renamed
                && file.exists()
                && (anchor.is_empty() || anchors(&read(&file)).iter().any(|own| own == anchor));
            if !there {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(followed > 50, "{followed} links were found");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
