//! Tests that an audit of collected rows gives the same bytes as an audit of the captures, and that
//! lost, doubled and mixed rows are errors.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use arrow_array::{Array, BinaryArray, Int64Array, RecordBatch, StringArray};
use arrow_schema::{Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::support::{FIXTURES, Fixture, Random, Records, fixture, rasaudit, stderr, stdout};

/// Runs `rasaudit` and panics if it does not end with one of these exit codes.
fn run(arguments: &[&str], codes: &[i32]) -> Output {
    let output = rasaudit(arguments);
    let code = output.status.code().expect("no signal");
    assert!(codes.contains(&code), "{arguments:?} ended with {code}: {}", stderr(&output));
    output
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Returns the files in a folder, by name.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    entries.map(|e| (name(&e.path()), fs::read(e.path()).expect("a file"))).collect()
}

/// Audits captures or stores and returns the reports, standard output and the exit code. The
/// reports are written to the same folder each time, because standard output names it.
fn audited(
    inputs: &[PathBuf],
    inventory: &Path,
    more: &[String],
    scratch: &Path,
) -> (BTreeMap<String, Vec<u8>>, String, i32) {
    let out = &scratch.join("report");
    let mut arguments = vec!["audit"];
    arguments.extend(inputs.iter().map(|input| text(input)));
    arguments.extend(["-i", text(inventory), "--out", text(out)]);
    arguments.extend(more.iter().map(String::as_str));
    let output = run(&arguments, &[0, 1, 3]);
    let reports = files(out);
    fs::remove_dir_all(out).expect("the reports");
    (reports, stdout(&output), output.status.code().expect("no signal"))
}

fn collect(captures: &[PathBuf], inventory: &Path, to: &Path, more: &[&str]) {
    let mut arguments = vec!["collect"];
    arguments.extend(captures.iter().map(|capture| text(capture)));
    arguments.extend(["-i", text(inventory), "--to", text(to), "--quiet"]);
    arguments.extend(more);
    run(&arguments, &[0]);
}

fn merge(stores: &[PathBuf], to: &Path, more: &[&str]) {
    let mut arguments = vec!["merge"];
    arguments.extend(stores.iter().map(|store| text(store)));
    arguments.extend(["--to", text(to), "--quiet"]);
    arguments.extend(more);
    run(&arguments, &[0]);
}

/// Asserts that two audits have the same result.
fn assert_same<T: AsRef<Path>>(
    a: &(BTreeMap<String, Vec<u8>>, String, i32),
    b: &(BTreeMap<String, Vec<u8>>, String, i32),
    what: T,
) {
    let what = what.as_ref().display();
    assert_eq!(a.0.keys().collect::<Vec<_>>(), b.0.keys().collect::<Vec<_>>(), "{what}");
    for (name, bytes) in &a.0 {
        let [one, other] = [bytes, &b.0[name]].map(|bytes| String::from_utf8_lossy(bytes));
        let differs = one.lines().zip(other.lines()).find(|(a, b)| a != b);
        assert!(one == other, "{what}: {name} differs: {differs:?}");
    }
    assert_eq!((&a.1, a.2), (&b.1, b.2), "{what}");
}

/// Cuts the capture of a fixture into pieces. A pcapng file stays whole.
fn pieces(case: &Fixture, folder: &Path, random: &mut Random) -> Vec<PathBuf> {
    if !case.is_pcap() {
        return vec![case.capture()];
    }
    let count = 2 + random.below(6);
    Records::read(&case.capture()).cut(folder, count, random)
}

#[test]
fn rows_give_the_reports_of_the_captures() {
    for (number, case) in FIXTURES.iter().enumerate() {
        let mut random = Random(number as u64 + 11);
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let at = |name: &str| scratch.path().join(name);
        let inventory = case.inventory();
        let more = case.more();
        let captures = pieces(case, scratch.path(), &mut random);
        let direct = audited(&captures, &inventory, &more, scratch.path());

        // Each capture is collected into one of several stores, with different resources.
        let mut stores = Vec::new();
        let mut shuffled = captures.clone();
        random.shuffle(&mut shuffled);
        for (number, capture) in shuffled.iter().enumerate() {
            let store = at(&format!("store{}", random.below(3)));
            let memory = if number % 2 == 0 { "1" } else { "1GiB" };
            let options = ["--pieces", "--traces", "--jobs", "2", "--max-memory", memory];
            collect(std::slice::from_ref(capture), &inventory, &store, &options);
            stores.push(store);
        }
        stores.sort();
        stores.dedup();
        let parts = audited(&stores, &inventory, &more, scratch.path());
        assert_same(&direct, &parts, case.name);

        if number % 2 == 0 {
            // Half of the captures are read directly.
            let half = at("half");
            let (stored, read) = captures.split_at(captures.len() / 2 + 1);
            collect(stored, &inventory, &half, &["--pieces", "--traces"]);
            let mixed = audited(&[&[half], read].concat(), &inventory, &more, scratch.path());
            assert_same(&direct, &mixed, case.name);
            continue;
        }
        // The stores are merged in one step, and in several steps in another order.
        merge(&stores, &at("merged"), &[]);
        let merged = audited(&[at("merged")], &inventory, &more, scratch.path());
        assert_same(&direct, &merged, case.name);
        stores.reverse();
        let mut all = stores[0].clone();
        for (number, store) in stores[1..].iter().enumerate() {
            let next = at(&format!("step{number}"));
            merge(&[all, store.clone()], &next, &["--max-memory", "1"]);
            all = next;
        }
        let last = at("last");
        merge(&[all], &last, &[]);
        assert!(files(&last) == files(&at("merged")), "{}: merging in steps", case.name);
    }
}

/// A store of two captures of the healthy farm, in one file each.
struct TwoCaptures {
    scratch: tempfile::TempDir,
    captures: Vec<PathBuf>,
    inventory: PathBuf,
    store: PathBuf,
}

impl TwoCaptures {
    fn new() -> Self {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let case = &FIXTURES[0];
        let captures = Records::read(&case.capture()).cut(scratch.path(), 2, &mut Random(3));
        let store = scratch.path().join("store");
        collect(&captures, &case.inventory(), &store, &[]);
        Self { captures, inventory: case.inventory(), store, scratch }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Returns the files of the store.
    fn files(&self) -> Vec<PathBuf> {
        files(&self.store).keys().map(|name| self.store.join(name)).collect()
    }

    /// Audits stores, which must fail. Returns the errors.
    fn refused(&self, inputs: &[&Path], more: &[&str]) -> String {
        let mut arguments = vec!["audit", "-i", text(&self.inventory)];
        arguments.extend(inputs.iter().map(|input| text(input)));
        arguments.extend(more);
        let output = run(&arguments, &[2]);
        assert_eq!(stdout(&output), "", "{}", stderr(&output));
        stderr(&output)
    }
}

/// Changes the rows of a Parquet file.
fn rewrite(file: &Path, change: impl Fn(&RecordBatch) -> Vec<RecordBatch>) {
    let open = fs::File::open(file).expect("the file");
    let reader = ParquetRecordBatchReaderBuilder::try_new(open).expect("Parquet");
    let reader = reader.with_batch_size(1 << 20).build().expect("Parquet");
    let batches: Vec<RecordBatch> = reader.map(|batch| batch.expect("a batch")).collect();
    assert_eq!(batches.len(), 1, "the file is small");
    let changed = change(&batches[0]);
    let out = fs::File::create(file).expect("writable");
    let mut writer = ArrowWriter::try_new(out, changed[0].schema(), None).expect("Parquet");
    changed.iter().for_each(|batch| writer.write(batch).expect("written"));
    writer.close().expect("written");
}

/// Replaces a column.
fn with_column(batch: &RecordBatch, name: &str, column: Arc<dyn Array>) -> RecordBatch {
    let before = batch.schema();
    let fields = before.fields().iter().map(|field| {
        let kind = if field.name() == name { column.data_type() } else { field.data_type() };
        Field::new(field.name(), kind.clone(), true)
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let mut columns = batch.columns().to_vec();
    columns[batch.schema().index_of(name).expect("the column")] = column;
    RecordBatch::try_new(schema, columns).expect("a batch")
}

#[test]
fn lost_doubled_and_mixed_rows_are_errors_that_name_them() {
    let two = TwoCaptures::new();
    let file = &two.files()[0];
    let whole = fs::read(file).expect("the file");
    let name = text(file);
    let refused = |change: &dyn Fn(&RecordBatch) -> Vec<RecordBatch>| {
        rewrite(file, change);
        let errors = two.refused(&[&two.store], &[]);
        // Merging does not hide it.
        let merged = run(&["merge", text(&two.store), "--to", text(&two.at("merged"))], &[2]);
        assert!(stderr(&merged).starts_with("error: "), "{}", stderr(&merged));
        assert!(!is_written(&two.at("merged")));
        fs::write(file, &whole).expect("writable");
        errors
    };
    // The position of the second flow, and the rows behind a position.
    let flow = |rows: &RecordBatch| {
        let kinds = rows.column_by_name("kind").expect("kind");
        let kinds = kinds.as_any().downcast_ref::<StringArray>().expect("text");
        let mut flows = (0..kinds.len()).filter(|row| kinds.value(*row) == "flows");
        flows.nth(1).expect("two flows")
    };
    let after = |rows: &RecordBatch, at| rows.slice(at + 1, rows.num_rows() - at - 1);
    let lost = refused(&|rows| vec![rows.slice(0, flow(rows)), after(rows, flow(rows))]);
    assert!(lost.contains("kind flows, bucket ") && lost.contains("rows, 1 missing"), "{lost}");
    assert!(lost.contains("frames read: 10956, accounted for: "), "{lost}");
    let doubled = refused(&|rows| vec![rows.clone(), rows.slice(flow(rows), 1)]);
    assert!(doubled.contains("rows, 1 too many") || doubled.contains("twice"), "{doubled}");
    // The number of rows is right, but one is missing and another one is there twice.
    let both = refused(&|rows| {
        let at = flow(rows);
        vec![rows.slice(0, at), rows.slice(at - 1, 1), after(rows, at)]
    });
    assert!(both.contains("kind flows, bucket "), "{both}");
    let uncommitted = refused(&|rows| vec![rows.slice(0, rows.num_rows() - 1)]);
    assert!(uncommitted.contains("too many"), "{uncommitted}");

    // An engine that adds up wrongly.
    let sums = refused(&|rows| {
        let column = rows.column_by_name("parts").expect("parts");
        let parts = column.as_any().downcast_ref::<Int64Array>().expect("int64");
        let last = parts.len() - 1;
        let wrong =
            parts.iter().enumerate().map(|(n, p)| p.map(|p| if n == last { p } else { 16 * p }));
        vec![with_column(rows, "parts", Arc::new(wrong.collect::<Int64Array>()))]
    });
    assert!(sums.contains("too many"), "{sums}");

    // The same file under another name, and the same store twice.
    let copy = two.store.join("copy.parquet");
    fs::copy(file, &copy).expect("a copy");
    let errors = two.refused(&[&two.store], &[]);
    assert!(errors.contains("also contains") && errors.contains("copy.parquet"), "{errors}");
    fs::remove_file(&copy).expect("removed");
    let errors = two.refused(&[&two.store, file], &[]);
    assert!(errors.contains(name), "{errors}");

    // Other options.
    collect(&two.captures[..1], &two.inventory, &two.at("other"), &["--no-decap"]);
    let errors = two.refused(&[&two.at("other"), &files_of(&two.store)[1]], &[]);
    assert!(errors.contains("a different setting of --no-decap"), "{errors}");
}

fn is_written(folder: &Path) -> bool {
    folder.is_dir() && !files(folder).is_empty()
}

fn files_of(store: &Path) -> Vec<PathBuf> {
    files(store).keys().map(|name| store.join(name)).collect()
}

#[test]
fn a_damaged_file_is_an_error_that_names_it() {
    let two = TwoCaptures::new();
    let file = &two.files()[0];
    let whole = fs::read(file).expect("the file");
    let refused = |change: &dyn Fn(&RecordBatch) -> RecordBatch| {
        rewrite(file, |rows| vec![change(rows)]);
        let errors = two.refused(&[&two.store], &[]);
        fs::write(file, &whole).expect("writable");
        assert!(errors.contains(text(file)), "{errors}");
        errors
    };
    let records = |rows: &RecordBatch, change: &dyn Fn(usize, &[u8]) -> Vec<u8>| {
        let column = rows.column_by_name("record").expect("record");
        let column = column.as_any().downcast_ref::<BinaryArray>().expect("binary");
        let changed = (0..column.len()).map(|row| change(row, column.value(row)));
        let changed: BinaryArray = changed.map(Some).collect();
        with_column(rows, "record", Arc::new(changed))
    };
    let version = |row, record: &[u8]| {
        let mut record = record.to_vec();
        record[0] = if row == 1 { 9 } else { record[0] };
        record
    };
    let errors = refused(&|rows| records(rows, &version));
    assert!(errors.contains("(row 2) has a record of layout 9"), "{errors}");
    let cut = |row, record: &[u8]| record[..record.len() - usize::from(row == 4)].to_vec();
    let errors = refused(&|rows| records(rows, &cut));
    assert!(errors.contains("(row 5) has a damaged record"), "{errors}");
    let errors = refused(&|rows| {
        let columns: Vec<usize> = (0..rows.num_columns()).filter(|n| *n != 24).collect();
        rows.project(&columns).expect("fewer columns")
    });
    assert!(errors.contains("has no column parts"), "{errors}");
    let errors = refused(&|rows| {
        let wrong = Int64Array::from(vec![1; rows.num_rows()]);
        with_column(rows, "bucket", Arc::new(wrong))
    });
    assert!(errors.contains("has column bucket of type Int64; expected int32"), "{errors}");
    let errors = refused(&|rows| {
        let wrong = StringArray::from(vec!["weather"; rows.num_rows()]);
        with_column(rows, "kind", Arc::new(wrong))
    });
    assert!(errors.contains("kind \"weather\", which this version does not know"), "{errors}");

    // Any other damage is an error, too, or changes nothing that matters.
    let mut random = Random(5);
    for _ in 0..60 {
        let mut bytes = whole.clone();
        match random.below(3) {
            0 => bytes.truncate(random.below(whole.len())),
            _ => (0..1 + random.below(4)).for_each(|_| {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }),
        }
        fs::write(file, &bytes).expect("writable");
        let output = rasaudit(["audit", "-i", text(&two.inventory), text(&two.store)]);
        let errors = stderr(&output);
        assert!(output.status.code().is_some_and(|code| code <= 3), "{errors}");
        assert!(!errors.contains("panicked"), "{errors}");
    }
}

#[test]
fn options_that_rows_cannot_follow_are_refused_with_the_reason() {
    let two = TwoCaptures::new();
    let refused = |more: &[&str]| two.refused(&[&two.store], more);
    let errors = refused(&["--since", "2026-01-01", "--no-decap", "--dedup", "on"]);
    assert!(errors.contains("--since differs"), "{errors}");
    assert!(errors.contains("--no-decap differs"), "{errors}");
    assert!(errors.contains("collect the captures with --traces"), "{errors}");
    let evidence = two.at("evidence");
    let errors = refused(&["--evidence", text(&evidence)]);
    assert!(errors.contains("--evidence needs the frames"), "{errors}");
    // The tunnels of the inventory determine how frames are decoded.
    let inventory = fs::read_to_string(&two.inventory).expect("the inventory");
    let tunnels = "tunnels = [{ ends = [\"192.0.2.0/24\"], kind = \"vxlan\", use = \"overlay\" }]";
    let other = two.at("other.toml");
    let with = inventory.replacen("[capture]", &format!("[capture]\n{tunnels}"), 1);
    assert_ne!(with, inventory);
    fs::write(&other, with).expect("writable");
    let output = run(&["audit", text(&two.store), "-i", text(&other)], &[2]);
    assert!(stderr(&output).contains("other tunnels"), "{}", stderr(&output));
}

#[test]
fn collecting_again_overwrites_and_the_stream_contains_the_same_rows() {
    let two = TwoCaptures::new();
    let before = files(&two.store);
    collect(&two.captures, &two.inventory, &two.store, &["--jobs", "1"]);
    assert!(before == files(&two.store));
    assert_eq!(before.len(), 2);

    let merged = two.at("merged");
    merge(std::slice::from_ref(&two.store), &merged, &[]);
    let mut collector = Command::new(env!("CARGO_BIN_EXE_rasaudit"));
    collector.arg("collect").args(&two.captures).arg("-i").arg(&two.inventory).args(["--to", "-"]);
    let mut collector = collector.stdout(Stdio::piped()).spawn().expect("the program runs");
    let streamed = two.at("streamed");
    let mut merger = Command::new(env!("CARGO_BIN_EXE_rasaudit"));
    merger.args(["merge", "-", "--to"]).arg(&streamed);
    let merger = merger.stdin(collector.stdout.take().expect("a pipe")).output();
    assert!(merger.expect("the program runs").status.success());
    assert!(collector.wait().expect("it ends").success());
    assert!(files(&merged) == files(&streamed));
}

#[test]
fn what_cannot_be_read_is_a_row_with_its_error() {
    let two = TwoCaptures::new();
    let captures = two.at("captures");
    fs::create_dir(&captures).expect("a folder");
    let whole = fs::read(&two.captures[0]).expect("a capture");
    fs::write(captures.join("a.pcap"), &whole[..whole.len() - 7]).expect("writable");
    fs::write(captures.join("b.pcap"), fs::read(&two.captures[1]).expect("a capture"))
        .expect("writable");
    fs::write(captures.join("notes.txt"), "no capture").expect("writable");
    let captures = [captures];
    let store = two.at("folder");
    let collected = ["collect", text(&captures[0]), "-i", text(&two.inventory), "--to"];
    let output = run(&[&collected[..], &[text(&store)]].concat(), &[0]);
    assert!(stderr(&output).contains("a.pcap: cut off inside a record"), "{}", stderr(&output));
    let strict = two.at("strict");
    run(&[&collected[..], &[text(&strict), "--strict"]].concat(), &[3]);
    assert!(files(&store) == files(&strict));
    let direct = audited(&captures, &two.inventory, &[], two.scratch.path());
    let stored = audited(&[store], &two.inventory, &[], two.scratch.path());
    assert_same(&direct, &stored, "a folder");
    assert_eq!(direct.2, 3);
}

#[test]
fn the_same_content_under_two_names_counts_once() {
    let two = TwoCaptures::new();
    let copy = two.at("zz-copy.pcap");
    fs::copy(&two.captures[0], &copy).expect("a copy");
    let all = [&two.captures[..], std::slice::from_ref(&copy)].concat();
    let direct = audited(&all, &two.inventory, &[], two.scratch.path());
    // The copy is in a store of its own, in one store with the original, or read directly.
    let apart = two.at("apart");
    collect(std::slice::from_ref(&copy), &two.inventory, &apart, &[]);
    let together = two.at("together");
    collect(&all, &two.inventory, &together, &[]);
    let merged = two.at("merged");
    merge(&[two.store.clone(), apart.clone()], &merged, &[]);
    for inputs in [
        vec![two.store.clone(), apart],
        vec![together],
        vec![merged.clone()],
        vec![two.store.clone(), copy.clone()],
    ] {
        let stored = audited(&inputs, &two.inventory, &[], two.scratch.path());
        assert_same(&direct, &stored, text(&inputs[0]));
    }
    // The rows of the first name were merged before the copy is added.
    let copied = two.at("copied");
    collect(&[copy], &two.inventory, &copied, &[]);
    let stored =
        audited(&[merged_first(&two), copied.clone()], &two.inventory, &[], two.scratch.path());
    assert_same(&direct, &stored, "a copy of merged rows");
    let again = two.at("again");
    merge(&[merged_first(&two), copied], &again, &[]);
    assert!(files(&again) == files(&merged));
}

/// Merges the rows of the two captures and returns the store.
fn merged_first(two: &TwoCaptures) -> PathBuf {
    let first = two.at("first");
    merge(std::slice::from_ref(&two.store), &first, &[]);
    first
}

/// `fixtures/stored` contains a store of each layout of rows. The first audit of a new layout
/// writes it with `UPDATE_GOLDEN=1`.
#[test]
fn a_store_of_each_layout_is_read() {
    let case = FIXTURES.iter().find(|case| case.name == "services/rpc").expect("the fixture");
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let stored = fixture("stored/rows-1.parquet");
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !stored.exists() {
        let store = scratch.path().join("store");
        let capture = Path::new("fixtures/services/rpc.pcap").to_owned();
        collect(&[capture], &case.inventory(), &store, &["--pieces"]);
        fs::copy(&files_of(&store)[0], &stored).expect("writable");
    }
    let capture = Path::new("fixtures/services/rpc.pcap").to_owned();
    let direct = audited(&[capture], &case.inventory(), &[], scratch.path());
    let rows = audited(&[stored], &case.inventory(), &[], scratch.path());
    assert_same(&direct, &rows, "the stored rows");
}
