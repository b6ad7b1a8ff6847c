//! Tests, in a separate process, which files threads can open if they start after the confinement.

use crate::support;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use rasaudit::live::{Confinement, Sandbox, confine};

lab_tests! {
    inside: [],
    no_thread_opens_a_file_outside_what_was_allowed: [],
}

const FOLDER: &str = "RASAUDIT_TEST_CONFINED";

/// Runs the confined part of the other test in this file, which starts this one in a separate
/// process. Does nothing when run directly.
fn inside() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    // The harness runs this in a thread. The confinement applies to this thread and to those that
    // it starts.
    let confinement = Confinement {
        sandbox: Sandbox::Auto,
        user: None,
        read: vec![folder.join("read")],
        write: vec![folder.join("write")],
        give: Vec::new(),
    };
    let left = confine(&confinement).expect("auto never fails");
    if left.iter().any(|what| what.contains("no Landlock")) {
        println!("without landlock");
        return;
    }
    assert_eq!(left, Vec::<String>::new());
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let folder = folder.clone();
            thread::spawn(move || {
                let reads = |path: &Path| File::open(path).is_ok();
                let writes =
                    |path: &Path| OpenOptions::new().create(true).append(true).open(path).is_ok();
                assert!(reads(&folder.join("read/file")));
                assert!(!writes(&folder.join("read/file")));
                assert!(writes(&folder.join(format!("write/{number}"))));
                assert!(!reads(&folder.join("other/file")));
                assert!(!writes(&folder.join("other/file")));
                assert!(!reads(Path::new("/etc/passwd")));
                assert!(!reads(&folder.join("read/../other/file")));
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("only what is allowed"));
    println!("confined");
}

fn no_thread_opens_a_file_outside_what_was_allowed() {
    let scratch = tempfile::tempdir().expect("a folder");
    for name in ["read", "write", "other"] {
        std::fs::create_dir(scratch.path().join(name)).expect("a folder");
        std::fs::write(scratch.path().join(name).join("file"), "x").expect("a file");
    }
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.args(["--exact", "sandbox::inside", "--nocapture"]).env(FOLDER, scratch.path());
    let done = command.output().expect("it runs");
    let told = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{told} {}", String::from_utf8_lossy(&done.stderr));
    if told.contains("without landlock") {
        assert!(std::env::var_os("RASAUDIT_REQUIRE_LAB").is_none(), "Landlock is required");
        support::skipped("the sandbox: this system has no Landlock");
        return;
    }
    assert!(told.contains("confined"), "{told}");
}
