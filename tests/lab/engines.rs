//! Tests that a Spark job produces the same store as `rasaudit collect` and `rasaudit merge`, even
//! if executors die, and that other engines can read the rows. Tests that need the engines (`make
//! need-engines`) or Java are ignored without them, or fail if `RASAUDIT_REQUIRE_SPARK` is set, as
//! in CI.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::engines::Engines;
use crate::support::{Random, Records, audit, fixture, rasaudit, reports, stderr, stdout};

lab_tests! {
    a_spark_job_gives_the_reports_of_a_single_run: [Spark],
    a_spark_job_continues_if_a_file_cannot_be_copied: [Spark],
    a_spark_job_finds_local_files_that_java_cannot_name: [Spark],
    a_spark_job_reads_other_file_systems: [Spark],
    duckdb_and_pyarrow_read_the_documented_columns: [Engines],
    files_that_an_engine_wrote_with_another_compression_are_read: [Engines],
    the_program_for_object_stores_queries_and_copies_a_store: [Engines],
    a_capture_with_too_many_windows_is_a_row_with_its_error: [],
    the_batch_jobs_give_the_store_of_one_command: [],
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Captures that were cut from a fixture, one of them truncated, and a text file.
struct Archive {
    scratch: tempfile::TempDir,
    captures: PathBuf,
    inventory: PathBuf,
    /// The name of the truncated capture.
    truncated: String,
}

impl Archive {
    fn new(pieces: usize) -> Self {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let captures = scratch.path().join("captures");
        fs::create_dir(&captures).expect("a folder");
        let whole = Records::read(&fixture("farm-faults/span.pcap"));
        let cut = whole.cut(&captures, pieces, &mut Random(7));
        let size = |path: &PathBuf| fs::metadata(path).expect("a piece").len();
        let truncated = cut.into_iter().max_by_key(size).expect("a piece");
        let bytes = fs::read(&truncated).expect("a piece");
        fs::write(&truncated, &bytes[..bytes.len() - 7]).expect("writable");
        fs::write(captures.join("notes.txt"), "not a capture\n").expect("writable");
        let inventory = fixture("farm-healthy/inventory.toml");
        let truncated = truncated.file_name().expect("a name").to_string_lossy().into_owned();
        Self { scratch, captures, inventory, truncated }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Audits captures or a store, and returns the folder of the reports.
    fn audited(&self, input: &Path) -> PathBuf {
        let name = input.file_name().expect("a name").to_string_lossy();
        let out = self.at(&format!("report-{name}"));
        // A truncated capture makes the audit incomplete.
        assert_eq!(audit(&[input.to_owned()], &self.inventory, &out, &[]), 3);
        out
    }

    /// Runs the job. Returns its output. `spark-submit` writes the errors of a job to standard
    /// output, too.
    ///
    /// In the locale `C`, Java can represent only ASCII names.
    fn spark(&self, engines: &Engines, program: &Path, options: &[&str], from: &str) -> Output {
        let job = root().join("contrib/spark/rasaudit_spark.py");
        let mut command = engines.submit(&job, program, options);
        command.arg(from).arg("--to").arg(self.at("store")).arg("--inventory").arg(&self.inventory);
        command.env("LC_ALL", "C").current_dir(self.scratch.path());
        let output = command.output().expect("Spark runs");
        assert!(output.status.success(), "{}", stderr(&output));
        output
    }

    /// Runs the job on the captures as files of `viewfs`, a file system of Hadoop that takes the
    /// place of an object store. It shows a local folder, but its URLs are not local paths.
    fn spark_through_viewfs(&self) -> Output {
        let folder = self.captures.display();
        let table = format!("spark.hadoop.fs.viewfs.mounttable.lab.link./captures=file://{folder}");
        let options = ["--master", "local[2]", "--conf", &table];
        let program = Path::new(env!("CARGO_BIN_EXE_rasaudit"));
        self.spark(&Engines::new(), program, &options, "viewfs://lab/captures")
    }
}

/// Returns the contents of the files in a folder, by name.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    entries.map(|e| (name(&e.path()), fs::read(e.path()).expect("a file"))).collect()
}

/// Collects captures with a single command, and returns its output.
fn collect(captures: &Path, store: &Path, options: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rasaudit"));
    command.arg("collect").args([captures, "--to".as_ref(), store]).args(options);
    let output = command.current_dir(root()).output().expect("the program runs");
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

fn write_script(path: &Path, text: &str) {
    fs::write(path, text).expect("writable");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("executable");
}

/// Returns a program that behaves like rasaudit, but once during `collect` and once during `merge`
/// kills the executor in which it runs, after it has written the first rows. Each time, it first
/// creates the folder `killed-COMMAND`.
fn deadly_program(folder: &Path) -> PathBuf {
    let path = folder.join("rasaudit");
    let program = env!("CARGO_BIN_EXE_rasaudit");
    let mark = folder.join("killed");
    let text = format!(
        r#"#!/bin/sh
case "$*" in
*/piece4.pcap*|merge*)
    if mkdir "{mark}-$1" 2>/dev/null; then
        process=$$
        until [ "$(cat /proc/$process/comm)" = java ]; do
            process=$(sed -n 's/^PPid:[[:space:]]*//p' /proc/$process/status)
            [ "$process" -gt 1 ] || exit 1
        done
        "{program}" "$@" | head -c 20000
        kill -KILL "$process"
        exit 1
    fi ;;
esac
exec "{program}" "$@"
"#,
        mark = mark.display(),
    );
    write_script(&path, &text);
    path
}

fn a_spark_job_gives_the_reports_of_a_single_run() {
    let archive = Archive::new(12);
    let engines = Engines::new();
    let program = deadly_program(archive.scratch.path());
    let captures = archive.captures.to_str().expect("UTF-8");
    // These options make several tasks merge, although there are few rows.
    let options = [
        ["--master", "local-cluster[2,1,1024]"],
        ["--conf", "spark.sql.shuffle.partitions=6"],
        ["--conf", "spark.sql.adaptive.coalescePartitions.enabled=false"],
    ];
    let output = archive.spark(&engines, &program, options.as_flattened(), captures);
    for command in ["collect", "merge"] {
        let mark = archive.at(&format!("killed-{command}"));
        assert!(mark.is_dir(), "no executor was killed by {command}");
    }
    assert!(stderr(&output).contains("Lost executor"), "{}", stderr(&output));
    let store = archive.at("store");
    let printed = stdout(&output);
    for line in [
        "captures: 13, bytes: ".to_owned(),
        format!("error: {captures}/{}: cut off inside a record", archive.truncated),
        // The text file was found in a folder, so it is not an error.
        format!("{}: captures: 13, with errors: 1, frames: ", store.display()),
    ] {
        assert!(
            format!("\n{printed}").contains(&format!("\n{line}")),
            "{line} is not in\n{printed}"
        );
    }
    let parts = files(&store).into_keys().filter(|name| name.ends_with(".parquet")).count();
    assert!(parts > 3, "{parts} files of rows");

    let [single, spark] = [&archive.captures, &store].map(|input| files(&archive.audited(input)));
    assert_eq!(single.keys().collect::<Vec<_>>(), spark.keys().collect::<Vec<_>>());
    for (name, bytes) in &single {
        assert!(*bytes == spark[name], "{name} differs");
    }

    // If one of the files is lost, an audit refuses the store.
    let lost = fs::read_dir(&store).expect("a store").flatten().map(|entry| entry.path());
    let is_part = |path: &PathBuf| path.extension().is_some_and(|e| e == "parquet");
    let lost = lost.filter(is_part).max_by_key(|path| path.metadata().map_or(0, |data| data.len()));
    fs::remove_file(lost.expect("a file of rows")).expect("writable");
    let run = rasaudit(["audit", store.to_str().expect("UTF-8")]);
    assert_eq!(run.status.code(), Some(2), "{}", stderr(&run));
}

/// The file system of Hadoop leaves out such files without an error.
fn a_spark_job_finds_local_files_that_java_cannot_name() {
    let archive = Archive::new(5);
    let captures = &archive.captures;
    let below = captures.join("below");
    fs::create_dir(&below).expect("a folder");
    let whole = (1..=5).map(|number| format!("piece{number}.pcap"));
    let whole: Vec<_> = whole.filter(|name| *name != archive.truncated).collect();
    let [unicode, latin] = ["München.pcap".as_bytes(), b"M\xfcnchen.pcap"].map(OsStr::from_bytes);
    fs::rename(captures.join(&whole[0]), captures.join(unicode)).expect("writable");
    fs::rename(captures.join(&whole[1]), captures.join(latin)).expect("writable");
    fs::rename(captures.join(&whole[2]), below.join(unicode)).expect("writable");
    symlink("nowhere", captures.join("broken1.pcap")).expect("writable");
    symlink("nowhere", below.join("broken2.pcap")).expect("writable");
    // Links to folders are not followed.
    symlink(captures, below.join("loop")).expect("writable");

    let pattern = format!("{}/{{[!x]*,*.none}}", captures.display());
    let program = Path::new(env!("CARGO_BIN_EXE_rasaudit"));
    let output = archive.spark(&Engines::new(), program, &["--master", "local[2]"], &pattern);
    let printed = stdout(&output);
    assert!(printed.contains("store: captures: 8, with errors: 3, frames: "), "{printed}");
    let [single, spark] =
        [captures, &archive.at("store")].map(|input| files(&archive.audited(input)));
    assert!(single == spark, "{printed}");
}

fn a_spark_job_reads_other_file_systems() {
    let archive = Archive::new(3);
    // Hadoop would interpret this name as a pattern.
    let odd = archive.captures.join("piece [2] #x*.pcap");
    let whole = ["piece1.pcap", "piece2.pcap"].into_iter().find(|name| *name != archive.truncated);
    fs::rename(archive.captures.join(whole.expect("a piece")), odd).expect("a new name");
    let output = archive.spark_through_viewfs();
    let name = format!("viewfs://lab/captures/{}", archive.truncated);
    let error = format!("error: {name}: cut off inside a record");
    assert!(stdout(&output).contains(&error), "{}", stdout(&output));
    let [single, spark] = [&archive.captures, &archive.at("store")].map(|i| archive.audited(i));
    // The names of the inputs differ, so the reports are compared without them.
    assert_eq!(reports(&single), reports(&spark));
}

/// Hadoop refuses to copy a file with a wrong checksum. The file becomes a row with the error.
fn a_spark_job_continues_if_a_file_cannot_be_copied() {
    let archive = Archive::new(3);
    let whole = ["piece1.pcap", "piece2.pcap"].into_iter().find(|name| *name != archive.truncated);
    let whole = whole.expect("a piece");
    let wrong = [&b"crc\0"[..], &512u32.to_be_bytes(), &[7; 4096]].concat();
    fs::write(archive.captures.join(format!(".{whole}.crc")), wrong).expect("writable");
    let output = archive.spark_through_viewfs();
    let printed = stdout(&output);
    let error = format!("error: viewfs://lab/captures/{whole}: the file cannot be copied: ");
    assert!(printed.contains(&error) && printed.contains("with errors: 2,"), "{printed}");
    let inputs = fs::read_to_string(archive.audited(&archive.at("store")).join("audit.json"));
    let inputs = inputs.expect("a report");
    assert!(inputs.contains("the file cannot be copied") && inputs.contains("cut off inside"));
}

/// Returns the columns that the documentation lists, with their types.
fn documented_columns() -> BTreeMap<String, String> {
    let page = fs::read_to_string(root().join("docs/how-to/audit-an-archive.md")).expect("a page");
    let (_, table) = page.split_once("\n## Columns\n").expect("the columns");
    let mut columns = BTreeMap::new();
    for line in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        for name in cells[1].split(", ") {
            columns.insert(name.trim_matches('`').to_owned(), cells[2].to_owned());
        }
    }
    columns
}

fn duckdb_and_pyarrow_read_the_documented_columns() {
    let archive = Archive::new(3);
    let store = archive.at("store");
    let collected = collect(&archive.captures, &store, &["--pieces", "--traces"]);
    let mut python = Engines::new().command("python3");
    let output = python.arg(root().join("tests/engines/rows.py")).arg(&store).output();
    let output = output.expect("Python runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let found: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("JSON");

    let documented = documented_columns();
    let names = [
        ("int32", ["int32", "INTEGER"]),
        ("int64", ["int64", "BIGINT"]),
        ("text", ["string", "VARCHAR"]),
        ("binary", ["binary", "BLOB"]),
    ];
    for (number, engine) in ["pyarrow", "duckdb"].into_iter().enumerate() {
        let columns: Vec<(String, String)> =
            serde_json::from_value(found[engine].clone()).expect("names and types");
        let columns: BTreeMap<String, String> = columns.into_iter().collect();
        let expected: BTreeMap<String, String> = documented
            .iter()
            .map(|(name, kind)| {
                let known = names.iter().find(|(documented, _)| documented == kind);
                (name.clone(), known.expect("a type").1[number].to_owned())
            })
            .collect();
        assert_eq!(columns, expected, "{engine}");
    }
    assert_eq!(found["rows"]["pyarrow"], found["rows"]["duckdb"]);
    let counts: BTreeMap<String, [u64; 4]> =
        serde_json::from_value(found["counts"].clone()).expect("counts");
    // There is one row for each input, and each frame is counted once.
    assert_eq!(counts["input"][..2], [4, 4]);
    let frames = counts["input"][3];
    assert!(collected.ends_with(&format!("frames: {frames}\n")), "{frames} frames");
    assert_eq!(counts.values().map(|count| count[2]).sum::<u64>(), frames);
    for kind in ["flows", "lookups", "claims"] {
        assert!(counts[kind][0] > 0, "{kind}: {counts:?}");
    }
}

fn files_that_an_engine_wrote_with_another_compression_are_read() {
    let archive = Archive::new(3);
    let store = archive.at("store");
    let inventory = archive.inventory.to_string_lossy();
    collect(&archive.captures, &store, &["--inventory", &inventory]);
    let expected = reports(&archive.audited(&store));
    let engines = Engines::new();
    let rewritten = |compression: &str| {
        let new = archive.at(compression);
        let mut python = engines.command("python3");
        python.arg(root().join("tests/engines/rewrite.py")).args([&store, &new]).arg(compression);
        let output = python.output().expect("Python runs");
        assert!(output.status.success(), "{}", stderr(&output));
        new
    };
    for compression in ["none", "gzip", "lz4", "snappy", "zstd"] {
        let found = reports(&archive.audited(&rewritten(compression)));
        assert!(found == expected, "{compression}");
    }
    let brotli = rewritten("brotli");
    let output = rasaudit(["audit".as_ref(), brotli.as_os_str()]);
    assert_eq!(output.status.code(), Some(2));
    let told = stderr(&output);
    assert!(told.contains(".parquet is compressed with Brotli, which rasaudit cannot"), "{told}");
}

fn the_program_for_object_stores_queries_and_copies_a_store() {
    let page = root().join("docs/how-to/query-an-archive.md");
    let page = fs::read_to_string(page).expect("the page");
    let (_, program) = page.split_once("```python\n").expect("a program");
    let (program, _) = program.split_once("```\n").expect("its end");
    let archive = Archive::new(3);
    let store = archive.at("store");
    collect(&archive.captures, &store, &["--inventory", "fixtures/farm-healthy/inventory.toml"]);
    fs::write(archive.at("query.py"), program).expect("writable");
    let mut python = Engines::new().command("python3");
    python.arg(root().join("tests/engines/object_store.py")).arg(&store).arg("query.py");
    let output = python.current_dir(archive.scratch.path()).output().expect("Python runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let expected =
        "10.20.1.5 10.20.1.31\n10.20.1.5 10.20.1.71\nfd00:20:1::5 fd00:20:1::32\n".to_owned();
    assert_eq!(stdout(&output), expected);
    assert!(files(&archive.at("copy")) == files(&store));
}

/// Returns the script in the manifest of the Kubernetes job.
fn script_of_manifest() -> String {
    let manifest = root().join("contrib/kubernetes/rasaudit-collect.yaml");
    let manifest = fs::read_to_string(manifest).expect("the manifest");
    let (_, script) = manifest.split_once("- |\n").expect("a script");
    let indent = script.len() - script.trim_start().len();
    let own = script.lines().take_while(|line| line.len() - line.trim_start().len() >= indent);
    own.map(|line| format!("{}\n", &line[indent..])).collect()
}

/// A capture with more than 100,000 frames, each in a minute of its own, has damaged or forged
/// timestamps.
fn a_capture_with_too_many_windows_is_a_row_with_its_error() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let mut bytes = fs::read(fixture("farm-healthy/span.pcap")).expect("a capture")[..24].to_vec();
    for minute in 0..100_100_u32 {
        for number in [minute * 60, 0, 14, 14] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend([1; 14]);
    }
    let (forged, store) = (scratch.path().join("forged.pcap"), scratch.path().join("rows"));
    fs::write(&forged, bytes).expect("writable");
    let whole = fixture("farm-healthy/span.pcap");
    let collect = |more: &[&str]| {
        let mut collector = Command::new(env!("CARGO_BIN_EXE_rasaudit"));
        collector.arg("collect").args([&forged, &whole]).args(["--window", "1m", "--to"]);
        collector.arg(&store).args(more).output().expect("the program runs")
    };
    let collected = collect(&[]);
    assert!(collected.status.success());
    let told = stderr(&collected);
    assert!(told.contains("forged.pcap: has timestamps in more than 100000 windows"), "{told}");
    // The rows of the other capture are there.
    let audited = rasaudit(["audit", store.to_str().expect("UTF-8")]);
    assert_eq!(audited.status.code(), Some(3), "{}", stderr(&audited));
    assert!(stdout(&audited).contains("10956 frames in "), "{}", stdout(&audited));
}

fn the_batch_jobs_give_the_store_of_one_command() {
    let archive = Archive::new(7);
    let link = |name: &str, to: &Path| symlink(to, archive.captures.join(name)).expect("a link");
    link("link.pcap", &fixture("services/rpc.pcap"));
    link("broken.pcap", Path::new("/nonexistent"));
    let one = archive.at("one");
    collect(&archive.captures, &one, &[]);
    let slurm = root().join("contrib/slurm/rasaudit-collect.sbatch");
    let slurm = fs::read_to_string(slurm).expect("the script");
    let bin = Path::new(env!("CARGO_BIN_EXE_rasaudit")).parent().expect("a folder");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    for (engine, script) in [("slurm", slurm), ("kubernetes", script_of_manifest())] {
        let store = archive.at(engine);
        // One of the tasks is repeated.
        for task in [0, 2, 1, 2] {
            let mut shell = Command::new("bash");
            shell.args(["-euc", &script]).env("PATH", &path);
            shell.env("CAPTURES", &archive.captures).env("STORE", &store);
            match engine {
                "slurm" => shell
                    .env("SLURM_ARRAY_TASK_COUNT", "3")
                    .env("SLURM_ARRAY_TASK_MIN", "1")
                    .env("SLURM_ARRAY_TASK_ID", (task + 1).to_string()),
                _ => shell.env("COUNT", "3").env("JOB_COMPLETION_INDEX", task.to_string()),
            };
            let output = shell.output().expect("a shell");
            assert!(output.status.success(), "{engine}: {}", stderr(&output));
        }
        assert!(files(&store) == files(&one), "{engine}");
    }
}
