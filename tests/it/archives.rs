//! Tests that an audit of collected rows gives the same bytes as an audit of the captures, and that
//! missing, duplicate and incompatible rows are errors.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, BinaryArray, Int64Array, RecordBatch, StringArray};
use arrow_schema::{Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;

use crate::support::{FIXTURES, Fixture, Random, Records, fixture, rasaudit, stderr, stdout};

#[allow(dead_code, reason = "the function `main` of the example is not used")]
#[path = "../../benches/generate.rs"]
mod generate;

lab_tests! {
    every_fixture_in_any_order_and_grouping: [],
    generated_captures_in_any_order_and_grouping: [],
    foreign_captures_in_any_order_and_grouping: [Captures],
    shared_cases_in_any_order_and_grouping: [Cases],
}

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

/// Compresses bytes with gzip.
fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut out, bytes).and_then(|()| out.finish()).expect("in memory")
}

/// Returns the contents of the files in a folder, by name.
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
    let inventory = ["-i".to_owned(), text(inventory).to_owned()];
    audited_with(inputs, &[&inventory[..], more].concat(), scratch)
}

/// Does the same as [`audited`], with `more` as the only arguments besides the inputs and `--out`.
fn audited_with(
    inputs: &[PathBuf],
    more: &[String],
    scratch: &Path,
) -> (BTreeMap<String, Vec<u8>>, String, i32) {
    let out = &scratch.join("report");
    let mut arguments = vec!["audit"];
    arguments.extend(inputs.iter().map(|input| text(input)));
    arguments.extend(["--out", text(out)]);
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

/// An audit that must not depend on how its captures are collected and merged.
struct Division<'a> {
    /// The name of the captures in messages.
    name: String,
    captures: Vec<PathBuf>,
    /// The arguments of the audit other than its inputs.
    arguments: Vec<String>,
    /// The arguments of each collection other than its captures.
    collecting: Vec<String>,
    scratch: &'a Path,
}

impl Division<'_> {
    /// Distributes the captures among stores at random, merges some of the stores in random groups
    /// and steps, and compares an audit of the resulting stores with an audit of the captures. In
    /// about a third of the cases, some captures are not collected but audited together with the
    /// stores. In about half of the others, also compares an audit of the complete store.
    fn check(&self, random: &mut Random) {
        let Self { name, captures, arguments, scratch, .. } = self;
        let direct = audited_with(captures, arguments, scratch);
        let at = |name: String| scratch.join(name);
        let mut shares = vec![Vec::new(); 1 + random.below(captures.len().min(4))];
        let mut shuffled = captures.clone();
        random.shuffle(&mut shuffled);
        for capture in shuffled {
            let share = random.below(shares.len());
            shares[share].push(capture);
        }
        let has_others = shares[1..].iter().any(|share| !share.is_empty());
        let loose = match random.below(3) {
            0 if has_others => std::mem::take(&mut shares[0]),
            _ => Vec::new(),
        };
        let mut stores = Vec::new();
        for (number, share) in shares.iter().filter(|share| !share.is_empty()).enumerate() {
            let store = at(format!("store{number}"));
            self.collect(share, &store, random);
            stores.push(store);
        }
        for step in 0..random.below(4) {
            random.shuffle(&mut stores);
            let group = stores.split_off(random.below(stores.len()));
            let merged = at(format!("merged{step}"));
            let memory = ["1", "1GiB"][random.below(2)];
            merge(&group, &merged, &["--max-memory", memory]);
            stores.push(merged);
        }
        let mut inputs = [&stores[..], &loose].concat();
        random.shuffle(&mut inputs);
        assert_same(&direct, &audited_with(&inputs, arguments, scratch), name);
        if loose.is_empty() && random.below(2) == 0 {
            let complete = at("complete".to_owned());
            merge(&stores, &complete, &["--complete"]);
            let completed = audited_with(&[complete], arguments, scratch);
            assert_same(&direct, &completed, format!("{name}, complete"));
        }
    }

    /// Collects captures with a random number of threads and a random memory limit.
    fn collect(&self, captures: &[PathBuf], store: &Path, random: &mut Random) {
        let mut arguments = vec!["collect"];
        arguments.extend(captures.iter().map(|capture| text(capture)));
        arguments.extend(["--to", text(store), "--quiet", "--pieces", "--traces"]);
        arguments.extend(["--jobs", ["1", "2", "5"][random.below(3)]]);
        arguments.extend(["--max-memory", ["1", "1GiB"][random.below(2)]]);
        arguments.extend(self.collecting.iter().map(String::as_str));
        run(&arguments, &[0]);
    }

    /// Checks a random division of a fixture, whose capture is cut into pieces.
    fn check_fixture(case: &Fixture, random: &mut Random) {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let inventory = ["-i".to_owned(), text(&case.inventory()).to_owned()];
        Division {
            name: case.name.to_owned(),
            captures: pieces(case, scratch.path(), random),
            arguments: [inventory.to_vec(), case.more()].concat(),
            collecting: [&inventory[..], &window(random)].concat(),
            scratch: scratch.path(),
        }
        .check(random);
    }
}

/// Returns the option that divides rows into windows of a minute, or no option, at random.
fn window(random: &mut Random) -> Vec<String> {
    match random.below(2) {
        0 => Vec::new(),
        _ => vec!["--window".to_owned(), "1m".to_owned()],
    }
}

/// Two ports of a switch mirrored every packet, and some datagrams are fragmented.
#[test]
fn duplicates_of_fragments_are_subtracted_once_from_every_store() {
    for name in ["decode-mix/mix.pcap", "farm-domain/span.pcap"] {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let at = |name: &str| scratch.path().join(name);
        let once = Records::read(&fixture(name));
        let twice: Vec<Vec<u8>> = once
            .records
            .iter()
            .flat_map(|record| {
                let mut copy = record.clone();
                let micros: [u8; 4] = copy[4..8].try_into().expect("four bytes");
                let later = (u32::from_le_bytes(micros) + 200).min(999_999);
                copy[4..8].copy_from_slice(&later.to_le_bytes());
                [record.clone(), copy]
            })
            .collect();
        let (capture, store, complete) = (at("twice.pcap"), at("store"), at("complete"));
        once.write(&capture, &twice);
        let inventory = fixture("farm-domain/inventory.toml");
        collect(std::slice::from_ref(&capture), &inventory, &store, &["--pieces", "--traces"]);
        merge(std::slice::from_ref(&store), &complete, &["--complete"]);
        let arguments = ["-i", text(&inventory), "--dedup", "on"].map(str::to_owned);
        let audited = |input: &Path| audited_with(&[input.to_owned()], &arguments, scratch.path());
        let direct = audited(&capture);
        for input in [&store, &complete] {
            assert_same(&direct, &audited(input), input);
        }
    }
}

#[test]
fn rows_give_the_reports_of_the_captures() {
    let names = ["farm-codes", "decode-mix", "services/names"];
    let cases = FIXTURES.iter().filter(|case| names.contains(&case.name));
    let mut random = Random(11);
    cases.for_each(|case| Division::check_fixture(case, &mut random));
}

fn every_fixture_in_any_order_and_grouping() {
    let mut random = Random(12);
    for case in FIXTURES.iter().cycle().take(3 * FIXTURES.len()) {
        Division::check_fixture(case, &mut random);
    }
}

/// Checks a division of a generated capture.
fn check_generated(shape: &str, packets: u32, flows: u32, random: &mut Random) {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let at = |name: &str| scratch.path().join(name);
    let (capture, inventory) = (at("all.pcap"), at("farm.toml"));
    let (packets, flows) = (packets.to_string(), flows.to_string());
    let arguments = ["generate", shape, text(&capture), "--inventory", text(&inventory)];
    let amounts = ["--packets", &packets, "--flows", &flows];
    generate::generate(arguments.iter().chain(&amounts)).expect("writable");
    let inventory = ["-i".to_owned(), text(&inventory).to_owned()];
    let parts = 2 + random.below(8);
    Division {
        name: format!("{shape} traffic"),
        captures: Records::read(&capture).cut(scratch.path(), parts, random),
        arguments: inventory.to_vec(),
        collecting: [&inventory[..], &window(random)].concat(),
        scratch: scratch.path(),
    }
    .check(random);
}

#[test]
fn generated_traffic_gives_the_same_reports() {
    check_generated("mixed", 4000, 400, &mut Random(13));
}

fn generated_captures_in_any_order_and_grouping() {
    let mut random = Random(14);
    check_generated("mixed", 30_000, 3_000, &mut random);
    check_generated("small", 20_000, 7_000, &mut random);
    check_generated("hostile", 5_000, 800, &mut random);
}

fn foreign_captures_in_any_order_and_grouping() {
    let folder = std::env::var_os("RASAUDIT_CAPTURES").expect("the folder of foreign captures");
    let all = files_below(Path::new(&folder));
    assert!(!all.is_empty(), "{}", Path::new(&folder).display());
    let mut random = Random(15);
    for round in 0..4 {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        // Files that are named directly must be captures, so the files are distributed among
        // folders.
        let parts: Vec<PathBuf> = (0..9).map(|n| scratch.path().join(format!("part{n}"))).collect();
        parts.iter().for_each(|part| fs::create_dir(part).expect("writable"));
        for (number, file) in all.iter().enumerate() {
            let name = file.file_name().expect("a name").to_string_lossy();
            // Files in different folders may have equal names, so each copy gets a number.
            let copy = parts[random.below(parts.len())].join(format!("{number}-{name}"));
            fs::copy(file, copy).expect("writable");
        }
        Division {
            name: format!("foreign captures, round {round}"),
            captures: parts,
            arguments: Vec::new(),
            collecting: window(&mut random),
            scratch: scratch.path(),
        }
        .check(&mut random);
    }
}

fn shared_cases_in_any_order_and_grouping() {
    let folder = std::env::var_os("RASAUDIT_CASES").expect("the folder of cases");
    let all = files_below(Path::new(&folder));
    let mut random = Random(16);
    let mut checked = 0;
    for inventory in all.iter().filter(|file| file.ends_with("inventory.toml")) {
        let is_beside = |file: &&PathBuf| file.parent() == inventory.parent();
        let is_capture = |file: &&PathBuf| file.extension().is_some_and(|e| e == "pcap");
        for capture in all.iter().filter(is_beside).filter(is_capture) {
            let scratch = tempfile::tempdir().expect("a scratch folder");
            let is_little_endian = fs::read(capture).expect("a file").starts_with(&LITTLE_ENDIAN);
            let captures = if is_little_endian {
                Records::read(capture).cut(scratch.path(), 2 + random.below(5), &mut random)
            } else {
                vec![capture.clone()]
            };
            let inventory = ["-i".to_owned(), text(inventory).to_owned()];
            Division {
                name: text(capture).to_owned(),
                captures,
                arguments: inventory.to_vec(),
                collecting: [&inventory[..], &window(&mut random)].concat(),
                scratch: scratch.path(),
            }
            .check(&mut random);
            checked += 1;
        }
    }
    assert!(checked > 0, "{}", Path::new(&folder).display());
}

/// The first bytes of a little-endian pcap file with microseconds.
const LITTLE_ENDIAN: [u8; 4] = [0xd4, 0xc3, 0xb2, 0xa1];

/// Returns all files in a folder and in the folders below it, sorted.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let mut found: Vec<PathBuf> = Vec::new();
    for path in entries.map(|entry| entry.path()) {
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn captures_and_stores_are_audited_together() {
    let case = FIXTURES.iter().find(|case| case.name == "farm-healthy").expect("the fixture");
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let captures = Records::read(&case.capture()).cut(scratch.path(), 3, &mut Random(17));
    let direct = audited(&captures, &case.inventory(), &[], scratch.path());
    let store = scratch.path().join("store");
    let (stored, read) = captures.split_at(2);
    collect(stored, &case.inventory(), &store, &["--pieces", "--traces"]);
    let mixed = audited(&[&[store], read].concat(), &case.inventory(), &[], scratch.path());
    assert_same(&direct, &mixed, case.name);
}

#[test]
fn a_store_that_is_given_twice_counts_once() {
    let case = &FIXTURES[0];
    let scratch = tempfile::tempdir().expect("a folder");
    let store = scratch.path().join("store");
    collect(&[case.capture()], &case.inventory(), &store, &[]);
    let expected = audited(std::slice::from_ref(&store), &case.inventory(), &[], scratch.path());
    let file = files_of(&store).pop().expect("a file of rows");
    let link = scratch.path().join("link");
    std::os::unix::fs::symlink(&store, &link).expect("a link");
    for again in [store.clone(), file, link] {
        let twice = audited(&[store.clone(), again], &case.inventory(), &[], scratch.path());
        assert_same(&twice, &expected, "");
    }
}

#[test]
fn merging_in_one_step_or_in_several_gives_the_same_file() {
    let case = FIXTURES.iter().find(|case| case.name == "farm-faults").expect("the fixture");
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let at = |name: &str| scratch.path().join(name);
    let captures = Records::read(&case.capture()).cut(scratch.path(), 4, &mut Random(18));
    let stores: Vec<PathBuf> = (0..4).map(|number| at(&format!("store{number}"))).collect();
    for (capture, store) in captures.iter().zip(&stores) {
        collect(std::slice::from_ref(capture), &case.inventory(), store, &["--traces"]);
    }
    merge(&stores, &at("once"), &[]);
    merge(&[stores[3].clone(), stores[0].clone()], &at("first"), &["--max-memory", "1"]);
    merge(&[at("first"), stores[2].clone()], &at("second"), &[]);
    merge(&[stores[1].clone(), at("second")], &at("third"), &["--max-memory", "1"]);
    assert!(files(&at("third")) == files(&at("once")));
}

#[test]
fn more_files_than_are_read_at_once_give_the_same_file_as_sorted_rows() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let at = |name: &str| scratch.path().join(name);
    let case = &FIXTURES[0];
    let captures = Records::read(&case.capture()).cut(scratch.path(), 70, &mut Random(5));
    collect(&captures, &case.inventory(), &at("store"), &[]);
    assert_eq!(files(&at("store")).len(), 70);
    merge(&[at("store")], &at("in-order"), &[]);
    // With this little memory, all rows are sorted.
    merge(&[at("store")], &at("sorted"), &["--max-memory", "1"]);
    assert!(files(&at("in-order")) == files(&at("sorted")));
}

/// A store with one file for each of two parts of the capture of the healthy farm.
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

    /// Returns the names of the files in the folder of the store, without its subfolders.
    fn files_only(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.store).expect("a folder").map(|e| e.expect("an entry"));
        let mut files: Vec<_> = entries.map(|e| e.path()).filter(|path| path.is_file()).collect();
        files.sort();
        files
    }

    /// Runs an audit, which must fail, and returns its errors.
    fn refused(&self, inputs: &[&Path], more: &[&str]) -> String {
        let mut arguments = vec!["audit", "-i", text(&self.inventory)];
        arguments.extend(inputs.iter().map(|input| text(input)));
        arguments.extend(more);
        let output = run(&arguments, &[2]);
        assert_eq!(stdout(&output), "", "{}", stderr(&output));
        stderr(&output)
    }
}

/// The programs that a rewritten file names as the one that wrote it. Rows of rasaudit are expected
/// to be in order.
const CREATORS: [&str; 2] = ["another engine", "rasaudit 0.1.0"];

/// Changes the rows of a Parquet file. The file names `creator` as the program that wrote it.
fn rewrite(file: &Path, creator: &str, change: impl Fn(&RecordBatch) -> Vec<RecordBatch>) {
    let open = fs::File::open(file).expect("the file");
    let reader = ParquetRecordBatchReaderBuilder::try_new(open).expect("Parquet");
    let reader = reader.with_batch_size(1 << 20).build().expect("Parquet");
    let batches: Vec<RecordBatch> = reader.map(|batch| batch.expect("a batch")).collect();
    assert_eq!(batches.len(), 1, "the file is small");
    let changed = change(&batches[0]);
    let out = fs::File::create(file).expect("writable");
    let properties = WriterProperties::builder().set_created_by(creator.to_owned()).build();
    let mut writer =
        ArrowWriter::try_new(out, changed[0].schema(), Some(properties)).expect("Parquet");
    changed.iter().for_each(|batch| writer.write(batch).expect("written"));
    writer.close().expect("written");
}

/// Returns the batch with one column replaced.
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
    let refused = |change: &dyn Fn(&RecordBatch) -> Vec<RecordBatch>| {
        // Merging reports the damage, too.
        for creator in CREATORS {
            rewrite(file, creator, change);
            let merged = run(&["merge", text(&two.store), "--to", text(&two.at("merged"))], &[2]);
            assert!(stderr(&merged).starts_with("error: "), "{}", stderr(&merged));
            assert!(!is_written(&two.at("merged")));
            fs::write(file, &whole).expect("writable");
        }
        rewrite(file, CREATORS[0], change);
        let errors = two.refused(&[&two.store], &[]);
        fs::write(file, &whole).expect("writable");
        errors
    };
    // `flow` returns the position of the second flow, and `after` the rows after a position.
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
    let double = |rows: &RecordBatch| vec![rows.clone(), rows.slice(flow(rows), 1)];
    let doubled = refused(&double);
    assert!(doubled.contains("rows, 1 too many") || doubled.contains("twice"), "{doubled}");
    // Merging names the places of both rows and the capture.
    rewrite(file, CREATORS[0], double);
    let merged = run(&["merge", text(&two.store), "--to", text(&two.at("merged"))], &[2]);
    fs::write(file, &whole).expect("writable");
    let told = stderr(&merged);
    let place = format!("{} (row ", text(file));
    assert_eq!(told.matches(&*place).count(), 2, "{told}");
    let is_named =
        two.captures.iter().any(|capture| told.contains(&format!(" of {} twice", text(capture))));
    assert!(is_named, "{told}");
    // The number of rows is right, but one row is missing and another occurs twice.
    let both = refused(&|rows| {
        let at = flow(rows);
        vec![rows.slice(0, at), rows.slice(at - 1, 1), after(rows, at)]
    });
    assert!(both.contains("kind flows, bucket "), "{both}");
    let uncommitted = refused(&|rows| vec![rows.slice(0, rows.num_rows() - 1)]);
    assert!(uncommitted.contains("too many"), "{uncommitted}");

    // The sums are wrong, as if an engine had changed a counter.
    let sums = refused(&|rows| {
        let column = rows.column_by_name("parts").expect("parts");
        let parts = column.as_any().downcast_ref::<Int64Array>().expect("int64");
        let last = parts.len() - 1;
        let wrong =
            parts.iter().enumerate().map(|(n, p)| p.map(|p| if n == last { p } else { 16 * p }));
        vec![with_column(rows, "parts", Arc::new(wrong.collect::<Int64Array>()))]
    });
    assert!(sums.contains("too many"), "{sums}");

    // The same file occurs under another name.
    let copy = two.store.join("copy.parquet");
    fs::copy(file, &copy).expect("a copy");
    let errors = two.refused(&[&two.store], &[]);
    assert!(errors.contains("also contains") && errors.contains("copy.parquet"), "{errors}");
    fs::remove_file(&copy).expect("removed");

    // Stores that were collected with different options cannot be combined.
    collect(&two.captures[..1], &two.inventory, &two.at("other"), &["--no-decap"]);
    let errors = two.refused(&[&two.at("other"), &files_of(&two.store)[1]], &[]);
    assert!(errors.contains("a different setting of --no-decap"), "{errors}");
}

#[test]
fn rows_in_any_order_give_the_same_merged_file() {
    let two = TwoCaptures::new();
    let merged = |name: &str| {
        merge(std::slice::from_ref(&two.store), &two.at(name), &[]);
        files(&two.at(name))
    };
    let expected = merged("in-order");
    let file = &two.files()[1];
    let whole = fs::read(file).expect("the file");
    let row = |rows: &RecordBatch, number| rows.slice(number, 1);
    let moved = |rows: &RecordBatch| vec![rows.slice(1, rows.num_rows() - 1), row(rows, 0)];
    let reversed = |rows: &RecordBatch| (0..rows.num_rows()).rev().map(|n| row(rows, n)).collect();
    for (number, creator) in CREATORS.into_iter().enumerate() {
        rewrite(file, creator, moved);
        assert!(merged(&format!("moved{number}")) == expected, "{creator}");
        fs::write(file, &whole).expect("writable");
        rewrite(file, creator, reversed);
        assert!(merged(&format!("reversed{number}")) == expected, "{creator}");
        fs::write(file, &whole).expect("writable");
    }
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
        // Merging reports the error, too.
        for creator in CREATORS {
            rewrite(file, creator, |rows| vec![change(rows)]);
            let merged = run(&["merge", text(&two.store), "--to", text(&two.at("merged"))], &[2]);
            assert!(stderr(&merged).contains(text(file)), "{}", stderr(&merged));
            fs::write(file, &whole).expect("writable");
        }
        rewrite(file, CREATORS[0], |rows| vec![change(rows)]);
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
        let parts = rows.schema().index_of("parts").expect("the column");
        let columns: Vec<usize> = (0..rows.num_columns()).filter(|n| *n != parts).collect();
        rows.project(&columns).expect("fewer columns")
    });
    assert!(errors.contains("has no column parts"), "{errors}");
    let errors = refused(&|rows| {
        let wrong = Int64Array::from(vec![1; rows.num_rows()]);
        with_column(rows, "bucket", Arc::new(wrong))
    });
    assert!(errors.contains("has column bucket of type Int64 instead of int32"), "{errors}");
    let errors = refused(&|rows| {
        let key = vec![0; (1 << 16) + 1];
        let wrong = BinaryArray::from(vec![key.as_slice(); rows.num_rows()]);
        with_column(rows, "key", Arc::new(wrong))
    });
    assert!(errors.contains("has 65537 bytes in column key, where rasaudit writes"), "{errors}");
    let errors = refused(&|rows| {
        let wrong = BinaryArray::from(vec![&b"\xff"[..]; rows.num_rows()]);
        with_column(rows, "input", Arc::new(wrong))
    });
    assert!(errors.contains("has a row whose column input is not text"), "{errors}");
    let errors = refused(&|rows| {
        let wrong = StringArray::from(vec!["weather"; rows.num_rows()]);
        with_column(rows, "kind", Arc::new(wrong))
    });
    assert!(errors.contains("kind \"weather\", which this version does not know"), "{errors}");

    // Random damage does not make the audit panic.
    let mut random = Random(5);
    for _ in 0..25 {
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

/// A flipped bit either is an error that names the file or does not change the report.
#[test]
fn a_flipped_bit_never_changes_a_report() {
    let two = TwoCaptures::new();
    let file = &two.files()[0];
    let whole = fs::read(file).expect("the file");
    let direct = audited(&two.captures, &two.inventory, &[], two.scratch.path());
    let mut random = Random(6);
    let mut found = 0;
    let (merged, at_end) = (two.at("merged"), 6000.min(whole.len()));
    for round in 0..70 {
        let mut bytes = whole.clone();
        // In every second round, the bit is in the last 6000 bytes, which contain the row of the
        // input and the footer.
        let at = match round % 2 {
            0 => random.below(whole.len()),
            _ => whole.len() - 1 - random.below(at_end),
        };
        bytes[at] ^= 1 << random.below(8);
        fs::write(file, &bytes).expect("writable");
        let audit = ["audit", "-i", text(&two.inventory), text(&two.store)];
        let output = rasaudit(audit);
        let errors = stderr(&output);
        if output.status.code() == Some(2) {
            assert!(errors.contains(text(file)), "byte {at}: {errors}");
            found += 1;
            continue;
        }
        let store = std::slice::from_ref(&two.store);
        assert_same(&direct, &audited(store, &two.inventory, &[], two.scratch.path()), "a bit");
        let _ = fs::remove_dir_all(&merged);
        merge(store, &merged, &[]);
    }
    assert!(found > 35, "{found}");
    // A file that another program wrote has no valid checksums but is accepted.
    fs::write(file, &whole).expect("writable");
    rewrite(file, CREATORS[0], |rows| vec![rows.clone()]);
    let store = std::slice::from_ref(&two.store);
    assert_same(&direct, &audited(store, &two.inventory, &[], two.scratch.path()), "rewritten");
}

#[test]
fn options_that_rows_cannot_follow_are_refused_with_the_reason() {
    let two = TwoCaptures::new();
    let refused = |more: &[&str]| two.refused(&[&two.store], more);
    let errors = refused(&["--since", "2026-01-01", "--no-decap", "--dedup", "on"]);
    assert!(errors.contains("--since: the rows were collected without --window"), "{errors}");
    assert!(errors.contains("--no-decap differs"), "{errors}");
    assert!(errors.contains("collect the rows again with --traces"), "{errors}");
    let evidence = two.at("evidence");
    let errors = refused(&["--evidence", text(&evidence)]);
    assert!(errors.contains("--evidence needs the frames"), "{errors}");
    // The tunnels of the inventory determine how frames are decoded, so rows cannot follow a change
    // of them.
    let inventory = fs::read_to_string(&two.inventory).expect("the inventory");
    let tunnels = "tunnels = [{ ends = [\"192.0.2.0/24\"], kind = \"vxlan\", use = \"overlay\" }]";
    let other = two.at("other.toml");
    let with = inventory.replacen("[capture]", &format!("[capture]\n{tunnels}"), 1);
    assert_ne!(with, inventory);
    fs::write(&other, with).expect("writable");
    let output = run(&["audit", text(&two.store), "-i", text(&other)], &[2]);
    assert!(stderr(&output).contains("the tunnels in the inventory differ"), "{}", stderr(&output));
}

/// An audit reads only the rows of a store, so it warns about captures in the folder of the store.
#[test]
fn captures_in_the_folder_of_a_store_are_not_left_out_without_a_word() {
    let two = TwoCaptures::new();
    fs::copy(&two.captures[0], two.store.join("late.pcap")).expect("writable");
    let audit = ["audit", text(&two.store), "-i", text(&two.inventory), "--fail-on", "never"];
    let errors = stderr(&run(&audit, &[0, 3]));
    assert!(errors.contains("its 1 capture will not be read"), "{errors}");
    assert!(errors.contains("late.pcap"), "{errors}");
}

#[test]
fn links_to_folders_with_rows_in_a_store_are_named() {
    let two = TwoCaptures::new();
    let (other, to) = (two.at("other"), two.at("to"));
    let file = two.files().pop().expect("a file");
    fs::create_dir(&other).expect("a folder");
    fs::rename(&file, other.join(file.file_name().expect("a name"))).expect("writable");
    let below = two.store.join("below");
    fs::create_dir(&below).expect("a folder");
    for (target, name) in [(&other, "site"), (&two.store, "itself"), (&two.at("none"), "broken")] {
        std::os::unix::fs::symlink(target, below.join(name)).expect("a link");
    }
    let (store, other, inventory) = (text(&two.store), text(&other), text(&two.inventory));
    let warning = "store: the rows in its 1 linked folder will not be read (first: ";
    let audit = ["audit", store, "-i", inventory, "--fail-on", "never"];
    let errors = stderr(&run(&audit, &[0, 3]));
    assert!(errors.contains(warning) && errors.contains("store/below/site)"), "{errors}");
    let errors = stderr(&run(&["merge", store, "--to", text(&to)], &[0]));
    assert!(errors.contains(warning), "{errors}");
    // If the folder is also named, its rows are read.
    let errors = stderr(&run(&[&audit[..], &[other]].concat(), &[0, 3]));
    assert!(!errors.contains("linked folder"), "{errors}");
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
fn the_streams_of_several_collections_in_one_pipe_are_all_read() {
    let two = TwoCaptures::new();
    let stream = |capture: &PathBuf| {
        let inventory = text(&two.inventory);
        run(&["collect", text(capture), "-i", inventory, "--quiet", "--to", "-"], &[0]).stdout
    };
    let both = two.captures.iter().flat_map(stream).collect::<Vec<u8>>();
    let piped = two.at("both.arrow");
    let streamed = two.at("streamed");
    let merged_from = |stream: &[u8]| {
        fs::write(&piped, stream).expect("writable");
        let mut merger = Command::new(env!("CARGO_BIN_EXE_rasaudit"));
        merger.args(["merge", "-", "--to"]).arg(&streamed);
        let merger = merger.stdin(fs::File::open(&piped).expect("the file")).output();
        merger.expect("the program runs")
    };
    // Without its last bytes, the stream ends between two batches.
    let cut = merged_from(&both[..both.len() - 8]);
    assert_eq!(cut.status.code(), Some(2));
    assert!(stderr(&cut).contains("is not complete"), "{}", stderr(&cut));
    assert!(!streamed.exists());
    assert!(merged_from(&both).status.success());
    let merged = two.at("merged");
    merge(std::slice::from_ref(&two.store), &merged, &[]);
    assert!(files(&merged) == files(&streamed));
}

#[test]
fn a_stream_that_is_cut_damaged_or_something_else_is_named_with_its_remedy() {
    let two = TwoCaptures::new();
    let stream = |path: &PathBuf| run(&["collect", text(path), "--to", "-"], &[0]).stdout;
    let [first, whole] = [&two.captures[0], &two.captures[1]].map(stream);
    let (piped, to) = (two.at("rows.arrow"), two.at("to"));
    let told = |input: &[u8]| {
        fs::write(&piped, input).expect("writable");
        let mut merger = Command::new(env!("CARGO_BIN_EXE_rasaudit"));
        merger.args(["merge", "-", "--to"]).arg(&to);
        let merger = merger.stdin(fs::File::open(&piped).expect("the file")).output();
        let output = merger.expect("the program runs");
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(!to.exists());
        stderr(&output)
    };
    let cut = "standard input is not complete; the program that wrote it failed or was stopped, so run it again\n";
    let mut random = Random(8);
    let ends = [0, 1, 4, 7, 100, whole.len() / 2, whole.len() - 9, whole.len() - 1];
    for end in ends.into_iter().chain((0..20).map(|_| random.below(whole.len()))) {
        let errors = told(&whole[..end]);
        assert!(errors.ends_with(cut), "{end} of {} bytes: {errors}", whole.len());
        // The first of two streams is complete.
        let errors = told(&[&first, &whole[..end.max(1)]].concat());
        assert!(errors.ends_with(cut), "{end} of {} bytes: {errors}", whole.len());
    }
    // The length of the schema is too large.
    let mut damaged = whole.clone();
    damaged[6] = 0x10;
    let errors = told(&damaged);
    let again = "; run the program that wrote it again\n";
    assert!(errors.contains("is damaged: ") && errors.ends_with(again), "{errors}");
    let errors = told(&fs::read(&two.captures[0]).expect("a capture"));
    assert!(errors.contains("is a capture, not an Arrow stream of rows; collect its rows"));
    let errors = told(&fs::read(&two.files()[0]).expect("a file of rows"));
    assert!(errors.contains("is a Parquet file, not an Arrow stream; give the path of the file"));
    let errors = told(b"some text");
    assert!(errors.contains("is not an Arrow stream: "), "{errors}");
    assert!(errors.contains("; use the output of rasaudit collect --to -"), "{errors}");
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
    // In a folder, a file that is not a capture is not a failure, but a damaged capture is.
    assert!(!stderr(&output).contains("notes.txt"), "{}", stderr(&output));
    let errors = texts(&store, "error");
    assert_eq!(errors.iter().filter(|error| !error.is_empty()).count(), 1, "{errors:?}");
    fs::write(captures[0].join("a.pcap"), &whole).expect("writable");
    let intact = run(&[&collected[..], &[text(&strict), "--strict"]].concat(), &[0]);
    assert!(!stderr(&intact).contains("error"), "{}", stderr(&intact));
    fs::write(captures[0].join("a.pcap"), "no capture").expect("writable");
    let damaged = two.at("damaged");
    run(&[&collected[..], &[text(&damaged), "--strict"]].concat(), &[3]);
    fs::write(captures[0].join("a.pcap"), &whole[..whole.len() - 7]).expect("writable");
    let direct = audited(&captures, &two.inventory, &[], two.scratch.path());
    let stored = audited(&[store], &two.inventory, &[], two.scratch.path());
    assert_same(&direct, &stored, "a folder");
    assert_eq!(direct.2, 3);
}

/// The summary counts only captures, and files of rows are not collected as captures.
#[test]
fn only_captures_are_counted_and_collected() {
    let two = TwoCaptures::new();
    let notes = two.at("notes");
    fs::create_dir(&notes).expect("a folder");
    fs::write(notes.join("notes.txt"), "no capture").expect("writable");
    let [first, second] = [&two.captures[0], &two.captures[1]];
    let to = two.at("to");
    let collect = |inputs: &[&Path], more: &[&str], code: i32| {
        let inputs: Vec<&str> = inputs.iter().map(|path| text(path)).collect();
        let output = run(&[&["collect", "--to", text(&to)], &inputs[..], more].concat(), &[code]);
        (stdout(&output), stderr(&output))
    };
    let (summary, _) = collect(&[&notes, first], &["--strict"], 0);
    assert!(summary.contains("to: captures: 1, skipped files: 1, frames: "), "{summary}");
    let (summary, _) = collect(&[&notes.join("notes.txt"), first], &["--strict"], 3);
    assert!(summary.contains("to: captures: 2, with errors: 1, frames: "), "{summary}");
    for (more, code) in [(&[][..], 0), (&["--strict"], 3)] {
        let (summary, errors) = collect(&[&notes], more, code);
        assert!(summary.contains("to: captures: 0, skipped files: 1, frames: 0"), "{summary}");
        assert!(errors.contains("none of the files is a capture"), "{errors}");
    }
    let merged = run(&["merge", text(&to), "--to", text(&two.at("merged"))], &[0]);
    assert!(stdout(&merged).contains("merged captures: 1"), "{}", stdout(&merged));
    // A store is refused. Files of rows next to captures are skipped.
    let file = &two.files()[0];
    for rows in [two.store.as_path(), file] {
        let (_, errors) = collect(&[rows], &[], 2);
        assert!(errors.contains("contains rows, not frames; to combine stores"), "{errors}");
    }
    let (_, errors) = collect(&[file, second], &[], 2);
    assert!(errors.contains("contains rows, not frames; to combine stores"), "{errors}");
    fs::copy(file, notes.join("rows.parquet")).expect("writable");
    let (summary, errors) = collect(&[&notes, second], &[], 0);
    assert!(errors.contains("1 file of rows skipped"), "{errors}");
    assert!(summary.contains("to: captures: 1, skipped files: 1, frames: "), "{summary}");
}

/// Every message says what happened, to which file, and what to do.
#[test]
fn paths_that_cannot_be_read_or_written_are_refused_with_a_remedy() {
    let two = TwoCaptures::new();
    let store = text(&two.store);
    let refused = |arguments: &[&str]| stderr(&run(arguments, &[2]));
    let (to, inside) = (two.at("to"), two.store.join("more/merged"));
    let to = text(&to);
    for folder in [&inside, &two.store] {
        let errors = refused(&["merge", store, "--to", text(folder)]);
        assert!(errors.contains("is also read, so the merged rows"), "{errors}");
    }
    assert!(!two.store.join("more").exists());
    let capture = text(&two.captures[0]);
    let errors = refused(&["merge", capture, "--to", to]);
    assert!(errors.contains("is a capture, not a store; collect its rows"), "{errors}");
    for arguments in [["collect", capture, "--to", capture], ["merge", store, "--to", capture]] {
        let errors = refused(&arguments);
        assert!(errors.contains("is a file, and rows are written to a folder"), "{errors}");
    }
    let empty = two.at("empty");
    fs::create_dir(&empty).expect("a folder");
    let errors = refused(&["merge", text(&empty), "--to", to]);
    assert!(errors.contains("contains no Parquet files; give a folder"), "{errors}");
    let rowless = empty.join("rowless.parquet");
    fs::copy(&two.files()[0], &rowless).expect("writable");
    rewrite(&rowless, CREATORS[0], |rows| vec![rows.slice(0, 0)]);
    for errors in [refused(&["merge", text(&empty), "--to", to]), refused(&["audit", text(&empty)])]
    {
        assert!(errors.contains("contains no record of an input, probably because"), "{errors}");
    }
    fs::remove_file(rowless).expect("it is there");
    let cut = two.at("cut.parquet");
    let whole = fs::read(&two.files()[0]).expect("a file");
    fs::write(&cut, &whole[..whole.len() / 2]).expect("writable");
    let errors = refused(&["audit", text(&cut)]);
    assert!(errors.contains("is damaged or not complete") && errors.contains("copy it again"));
    let foreign = empty.join("foreign.parquet");
    fs::copy(&two.files()[0], &foreign).expect("writable");
    rewrite(&foreign, CREATORS[0], |rows| vec![rows.project(&[5, 6]).expect("two columns")]);
    let errors = refused(&["audit", text(&empty)]);
    assert!(errors.contains("does not contain rows of rasaudit"), "{errors}");
    fs::write(&foreign, "text").expect("writable");
    let errors = refused(&["audit", text(&empty)]);
    assert!(errors.contains("is not a Parquet file, so it contains no rows"), "{errors}");
    let stream = two.at("rows.arrow");
    let rows = run(&["collect", capture, "--to", "-"], &[0]).stdout;
    fs::write(&stream, rows).expect("writable");
    let errors = refused(&["audit", text(&stream)]);
    assert!(errors.contains("rasaudit merge - --to STORE"), "{errors}");
}

/// Creates the folder `name` in a folder, with subfolders whose paths are longer than the system
/// permits, so that not even root can read them by their paths.
fn add_unreadable_folder(folder: &Path, name: &str) {
    let below = |top: &Path| (0..12).fold(top.to_owned(), |path, _| path.join("d".repeat(200)));
    let (upper, lower) = (below(&folder.join(name)), folder.join("lower"));
    fs::create_dir_all(&upper).expect("writable");
    fs::create_dir_all(below(&lower)).expect("writable");
    fs::rename(lower, upper.join("lower")).expect("writable");
}

/// A folder that cannot be read may contain rows, so it never changes what counts as a store or
/// what may be added to it.
#[test]
fn a_folder_in_a_store_that_cannot_be_read_is_an_error_that_names_it() {
    let two = TwoCaptures::new();
    let merged = two.at("merged");
    merge(std::slice::from_ref(&two.store), &merged, &[]);
    add_unreadable_folder(&two.store, "lost+found");
    let is_refused = |arguments: &[&str]| {
        let output = run(arguments, &[2]);
        let errors = stderr(&output);
        assert!(errors.contains("store/lost+found/") && errors.contains("cannot be read ("));
        assert!(errors.contains("it may contain rows; allow reading it, or keep"), "{errors}");
        assert_eq!(stdout(&output), "");
    };
    let (store, before) = (text(&two.store), two.files_only());
    is_refused(&["audit", store, "-i", text(&two.inventory)]);
    is_refused(&["audit", store, text(&merged), "-i", text(&two.inventory)]);
    is_refused(&["merge", store, "--to", text(&two.at("to"))]);
    is_refused(&["merge", text(&merged), "--to", store]);
    is_refused(&["collect", text(&two.captures[0]), "--to", store]);
    assert_eq!(two.files_only(), before);
    assert!(!two.at("to").exists());
    // A folder of captures is not a store, so the rest of it is audited.
    let captures = two.at("captures");
    fs::create_dir(&captures).expect("a folder");
    fs::copy(&two.captures[0], captures.join("a.pcap")).expect("writable");
    add_unreadable_folder(&captures, "private");
    let partly = run(&["audit", text(&captures), "-i", text(&two.inventory)], &[3]);
    assert!(stderr(&partly).contains("captures/private/"), "{}", stderr(&partly));
}

/// A copy that failed leaves an empty, zeroed or cut file. Its rows are missing, so nobody must be
/// told to leave it out.
#[test]
fn a_torn_file_of_rows_is_to_be_copied_again() {
    let two = TwoCaptures::new();
    let file = &two.files()[0];
    let whole = fs::read(file).expect("the file");
    let other = two.store.join("part-00000.parquet");
    let empty = "is empty or begins with zeros, so its rows are missing; copy it again";
    let torn: [(&[u8], &str); 5] = [
        (&[], empty),
        (&[0; 30_000], empty),
        (&whole[..3], "is damaged or not complete: "),
        (&whole[..whole.len() - 9], "is damaged or not complete: "),
        (b"some text that is not Parquet", "is damaged or not complete: "),
    ];
    for (bytes, words) in torn {
        fs::write(file, bytes).expect("writable");
        // A shell passes the files of a store if the user names a pattern.
        let named = two.refused(&[file, &two.files()[1]], &[]);
        for errors in [two.refused(&[&two.store], &[]), named] {
            assert!(errors.contains(words) && errors.contains("copy it again from"), "{errors}");
            assert!(errors.contains("or collect the captures again"), "{errors}");
            assert!(!errors.contains("leave it out"), "{errors}");
        }
        if bytes != torn[4].0 {
            // Engines give their files other names.
            fs::rename(file, &other).expect("writable");
            let errors = two.refused(&[&two.store], &[]);
            assert!(errors.contains(words) && errors.contains("copy it again from"), "{errors}");
            fs::remove_file(&other).expect("it is there");
        }
    }
    fs::write(file, &whole).expect("writable");
    collect(&two.captures, &two.inventory, &two.store, &[]);
    assert_eq!(fs::read(file).expect("the file"), whole);
}

/// Runs the program with a limit on the size of the files that it writes, in blocks of 512 bytes.
fn run_with_limit(blocks: u32, arguments: &[&str]) -> Output {
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_rasaudit")]).args(arguments);
    command.output().expect("a shell runs")
}

#[test]
fn a_stream_that_is_closed_early_is_an_error_in_plain_words() {
    let two = TwoCaptures::new();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_rasaudit"));
    command.args(["collect", text(&two.captures[0]), "--to", "-"]).stdout(writer);
    let output = command.output().expect("the program runs");
    assert_eq!(output.status.code(), Some(2));
    let error =
        "standard output: the program that reads the rows closed its input before their end";
    assert!(stderr(&output).contains(error), "{}", stderr(&output));
}

/// The standard library replaces a closed standard output by the null device.
#[test]
fn a_stream_to_a_closed_standard_output_is_an_error() {
    let two = TwoCaptures::new();
    let (store, capture) = (text(&two.store), text(&two.captures[0]));
    for arguments in [["merge", store, "--to", "-"], ["collect", capture, "--to", "-"]] {
        let written = |to: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("exec \"$0\" \"$@\" {to}")]);
            command.arg(env!("CARGO_BIN_EXE_rasaudit")).args(arguments);
            command.output().expect("a shell runs")
        };
        let closed = written(">&-");
        assert_eq!(closed.status.code(), Some(2), "{}", stderr(&closed));
        let error = "error: standard output: it is closed, so the rows would be lost\n";
        assert_eq!(stderr(&closed), error);
        // Whoever names the null device wants to discard the rows.
        assert!(written(">/dev/null").status.success());
    }
}

/// If rows cannot be written, no new folder remains, and rows that were complete are kept.
#[test]
fn rows_that_cannot_be_written_leave_no_empty_folder() {
    let two = TwoCaptures::new();
    let small = two.at("first.pcap");
    let records = Records::read(&two.captures[0]);
    records.write(&small, &records.records[..1]);
    let new = two.at("new/store");
    let all = ["merge", text(&two.store), "--to", text(&new)];
    let failed = run_with_limit(8, &all);
    assert_eq!(failed.status.code(), Some(2), "{}", stderr(&failed));
    let errors = stderr(&failed);
    let plain = errors.contains("new/store: file too large\n") && !errors.contains("External");
    assert!(plain, "{errors}");
    assert!(!two.at("new").exists());
    let size = |path: &&PathBuf| fs::metadata(path).expect("a file").len();
    let large = text(two.captures.iter().max_by_key(size).expect("two captures"));
    let failed = run_with_limit(60, &["collect", text(&small), large, "--to", text(&new)]);
    let errors = stderr(&failed);
    assert_eq!(failed.status.code(), Some(2), "{errors}");
    assert!(errors.contains("the rows of 1 capture, which were collected before, are kept"));
    assert_eq!(files(&new).len(), 1);
}

#[test]
fn filters_that_differ_are_both_shown() {
    let two = TwoCaptures::new();
    let filtered = two.at("filtered");
    collect(&two.captures[..1], &two.inventory, &filtered, &["--filter", "tcp"]);
    let errors = two.refused(&[&filtered], &["--filter", "udp"]);
    let wanted = "the rows were collected with --filter \"tcp\", not with --filter \"udp\"";
    assert!(errors.contains(wanted), "{errors}");
    let errors = two.refused(&[&filtered, &two.files()[1]], &[]);
    assert!(errors.contains("a different --filter (") && errors.contains("none"), "{errors}");
}

#[test]
fn many_errors_of_one_kind_are_counted() {
    let two = TwoCaptures::new();
    let captures = two.at("many");
    fs::create_dir(&captures).expect("a folder");
    let whole = fs::read(&two.captures[0]).expect("a capture");
    for number in 0..23 {
        let cut = &whole[..whole.len() / 2 - 97 * number];
        fs::write(captures.join(format!("{number:02}.pcap")), cut).expect("writable");
    }
    let store = two.at("cut");
    let collected = stderr(&run(&["collect", text(&captures), "--to", text(&store)], &[0]));
    for errors in [collected, stderr(&run(&["audit", text(&captures)], &[3]))] {
        assert_eq!(errors.matches(".pcap").count(), 20, "{errors}");
        assert!(errors.ends_with("and 3 more\n"), "{errors}");
    }
}

/// Runs a task of the Slurm script with these variables.
fn slurm_task(task: u32, variables: &[(&str, &Path)]) -> Output {
    let bin = Path::new(env!("CARGO_BIN_EXE_rasaudit")).parent().expect("a folder");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("bash");
    shell.arg("contrib/slurm/rasaudit-collect.sbatch").env("PATH", path);
    shell.env_remove("CAPTURES").envs(variables.iter().copied());
    shell.env("SLURM_ARRAY_TASK_COUNT", "2").env("SLURM_ARRAY_TASK_MIN", "0");
    shell.env("SLURM_ARRAY_TASK_ID", task.to_string()).output().expect("bash runs")
}

#[test]
fn the_slurm_script_collects_any_file_name_and_fails_without_captures() {
    let two = TwoCaptures::new();
    let (captures, store) = (two.at("in"), two.at("array"));
    fs::create_dir(&captures).expect("a folder");
    let task = |task, folder: &Path| slurm_task(task, &[("CAPTURES", folder), ("STORE", &store)]);
    let failures = [
        (slurm_task(0, &[("STORE", &store)]), "CAPTURES: is not set"),
        (task(0, &two.at("nowhere")), "nowhere"),
        (task(0, &captures), "contains no files"),
    ];
    for (output, wanted) in failures {
        assert!(!output.status.success(), "{wanted}");
        assert!(stderr(&output).contains(wanted), "{}", stderr(&output));
    }
    assert!(!store.exists());
    let names = ["a b.pcap", "c\nd 'e'.pcap"].map(|name| captures.join(name));
    for (name, capture) in names.iter().zip(&two.captures) {
        fs::copy(capture, name).expect("writable");
    }
    for output in [task(0, &captures), task(1, &captures)] {
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let one = two.at("one");
    run(&["collect", text(&captures), "--to", text(&one), "--quiet"], &[0]);
    assert!(files(&store) == files(&one));
    assert_eq!(files(&store).len(), 2);
    // If a capture cannot be collected, its task fails. Here, a file is in the place of the store.
    let blocked = two.at("blocked");
    fs::write(&blocked, "a file").expect("writable");
    let output = slurm_task(1, &[("CAPTURES", &captures), ("STORE", &blocked)]);
    assert!(!output.status.success(), "{}", stderr(&output));
}

#[test]
fn a_copy_is_collected_under_the_name_of_the_original() {
    let two = TwoCaptures::new();
    let copy = two.at("copy");
    let named = two.at("named");
    for capture in &two.captures {
        fs::copy(capture, &copy).expect("a copy");
        let name = ["--name", text(capture)];
        collect(std::slice::from_ref(&copy), &two.inventory, &named, &name);
    }
    assert!(files(&named) == files(&two.store));
    let captures = [text(&two.captures[0]), text(&two.captures[1])];
    let arguments = [&["collect", "--name", "x", "--to", text(&named)], &captures[..]].concat();
    let errors = stderr(&run(&arguments, &[2]));
    assert!(
        errors.contains("--name is for a single capture, but 2 captures are given"),
        "{errors}"
    );
}

#[test]
fn the_same_content_under_two_names_counts_once() {
    for name in ["zz-copy.pcap", "zz-copy.pcap.gz", "aa-copy.pcap.gz"] {
        check_that_a_copy_counts_once(name);
    }
}

/// Checks that a copy of a capture changes nothing but the list of inputs. The copy is compressed
/// if its name ends with `.gz`.
fn check_that_a_copy_counts_once(name: &str) {
    let two = TwoCaptures::new();
    let copy = two.at(name);
    let original = fs::read(&two.captures[0]).expect("a capture");
    let content = if name.ends_with(".gz") { gzipped(&original) } else { original };
    fs::write(&copy, content).expect("a copy");
    let all = [&two.captures[..], std::slice::from_ref(&copy)].concat();
    let direct = audited(&all, &two.inventory, &[], two.scratch.path());
    // The copy is in a store of its own, is collected or merged with the original, or is read
    // directly.
    let apart = two.at("apart");
    collect(std::slice::from_ref(&copy), &two.inventory, &apart, &[]);
    let together = two.at("together");
    collect(&all, &two.inventory, &together, &[]);
    let merged = two.at("merged");
    merge(&[two.store.clone(), apart.clone()], &merged, &[]);
    for inputs in [vec![two.store.clone(), apart], vec![together], vec![merged.clone()]] {
        let stored = audited(&inputs, &two.inventory, &[], two.scratch.path());
        assert_same(&direct, &stored, text(&inputs[0]));
    }
    let stored =
        audited(&[two.store.clone(), copy.clone()], &two.inventory, &[], two.scratch.path());
    if name == "aa-copy.pcap.gz" {
        // The stored record does not describe the compressed file, which is therefore the copy,
        // although its name is the first.
        let table = |reports: &BTreeMap<String, Vec<u8>>| reports["conversations.csv"].clone();
        assert!(table(&stored.0) == table(&direct.0));
        let list = String::from_utf8_lossy(&stored.0["audit.json"]).into_owned();
        assert!(list.contains(&format!("\"same_as\":\"{}\"", text(&two.captures[0]))));
    } else {
        assert_same(&direct, &stored, "a copy that is read directly");
    }
    // The rows of the original are merged before those of the copy are added.
    let copied = two.at("copied");
    collect(&[copy], &two.inventory, &copied, &[]);
    let stored =
        audited(&[merged_first(&two), copied.clone()], &two.inventory, &[], two.scratch.path());
    assert_same(&direct, &stored, "a copy of merged rows");
    let again = two.at("again");
    merge(&[merged_first(&two), copied], &again, &[]);
    assert!(files(&again) == files(&merged));
}

/// Rows of a copy that were merged with those of other captures cannot be left out.
#[test]
fn two_copies_that_were_merged_with_other_captures_are_refused() {
    let two = TwoCaptures::new();
    let [copy, other] = ["zz-copy.pcap", "zz-other.pcap"].map(|name| two.at(name));
    fs::copy(&two.captures[0], &copy).expect("a copy");
    fs::copy(fixture("services/names.pcap"), &other).expect("another capture");
    let [store, merged] = ["copied", "merged-copy"].map(|name| two.at(name));
    collect(&[copy, other], &two.inventory, &store, &[]);
    merge(&[store], &merged, &[]);
    let first = merged_first(&two);
    let inventory = text(&two.inventory);
    let refused = run(&["audit", text(&first), text(&merged), "-i", inventory], &[2]);
    let errors = String::from_utf8(refused.stderr).expect("UTF-8");
    assert!(errors.contains(", which has the same content as "), "{errors}");
    assert!(errors.contains("zz-copy.pcap"), "{errors}");
    assert!(errors.contains("collect or merge again without one of them"), "{errors}");
}

/// Inputs without frames do not count, however often they were merged.
#[test]
fn captures_without_frames_may_be_merged_with_several_stores() {
    let two = TwoCaptures::new();
    let header = fs::read(&two.captures[0]).expect("a capture")[..24].to_vec();
    let months = [0, 1].map(|month| {
        let quiet = two.at(&format!("quiet-{month}.pcap"));
        fs::write(&quiet, &header).expect("writable");
        let captures = [two.captures[month].clone(), quiet];
        let (store, merged) = (two.at(&format!("month-{month}")), two.at(&format!("m-{month}")));
        collect(&captures, &two.inventory, &store, &[]);
        merge(&[store], &merged, &[]);
        (captures, merged)
    });
    let [first, second] = months;
    let captures = [first.0, second.0].concat();
    let direct = audited(&captures, &two.inventory, &[], two.scratch.path());
    let stores = [first.1, second.1];
    let stored = audited(&stores, &two.inventory, &[], two.scratch.path());
    assert_same(&direct, &stored, "two merged stores");
    let all = two.at("all");
    merge(&stores, &all, &[]);
    let stored = audited(&[all], &two.inventory, &[], two.scratch.path());
    assert_same(&direct, &stored, "stores that were merged again");
}

/// Which worker gets a packet depends on chance.
#[test]
fn the_rows_of_segments_do_not_depend_on_the_workers() {
    let two = TwoCaptures::new();
    let mut wire = crate::support::wire::Wire::default();
    for second in 0..200 {
        for flow in 0..100 {
            let (client, server) = (("10.1.9.7", 50_000 + flow), ("10.1.0.20", 443));
            wire.segment(second * 1000, client, server, 16, (second as u32 * 100, 1), 100);
        }
    }
    let capture = two.at("long.pcap");
    fs::write(&capture, wire.file()).expect("writable");
    let rows = |workers: &str, name: &str| {
        let store = two.at(name);
        let more = ["--pieces", "-j", workers];
        collect(std::slice::from_ref(&capture), &two.inventory, &store, &more);
        files(&store)
    };
    let one = rows("1", "one");
    for name in ["a", "b", "c"] {
        assert!(rows("4", name) == one, "{name}");
    }
}

#[test]
fn rows_of_another_capture_are_never_replaced() {
    let two = TwoCaptures::new();
    let header = fs::read(&two.captures[0]).expect("a capture")[..24].to_vec();
    // The hashes of these names are equal.
    let names = ["quiet-062673.pcap", "quiet-098891.pcap"];
    names.iter().for_each(|name| fs::write(two.at(name), &header).expect("writable"));
    let collect = |folder: &Path, name: &str, code: i32| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rasaudit"));
        command.current_dir(two.scratch.path()).args(["collect", name, "--to"]).arg(folder);
        let output = command.output().expect("the program runs");
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        stderr(&output)
    };
    let store = two.at("quiet");
    collect(&store, names[0], 0);
    collect(&store, names[0], 0);
    let errors = collect(&store, names[1], 2);
    assert!(errors.contains("those of quiet-098891.pcap would replace them"), "{errors}");
    assert_eq!(files(&store).len(), 1);
}

/// The size of standard input is not known.
#[test]
fn a_capture_from_standard_input_that_grew_does_not_count_twice() {
    let two = TwoCaptures::new();
    let store = two.at("piped");
    let whole = fs::read(&two.captures[0]).expect("a capture");
    for part in [&whole[..whole.len() / 2], &whole] {
        let program = Command::new(env!("CARGO_BIN_EXE_rasaudit"))
            .args(["collect", "-", "--to", text(&store)])
            .stdin(Stdio::piped())
            .spawn();
        let mut program = program.expect("the program");
        let mut input = program.stdin.take().expect("a pipe");
        std::io::Write::write_all(&mut input, part).expect("a reader");
        drop(input);
        assert!(program.wait().expect("an end").success());
    }
    let errors = two.refused(&[&store], &[]);
    let wanted = "contains a capture from standard input as it was before it grew";
    assert!(errors.contains(wanted), "{errors}");
}

#[test]
fn the_same_content_from_two_sensors_is_refused() {
    let two = TwoCaptures::new();
    let copy = two.at("zz-copy.pcap");
    fs::copy(&two.captures[0], &copy).expect("a copy");
    let stores = ["a", "b"].map(|name| two.at(name));
    let inventory = text(&two.inventory);
    for (capture, store) in [&two.captures[0], &copy].into_iter().zip(&stores) {
        let sensor = store.file_name().and_then(|name| name.to_str()).expect("a name");
        collect(std::slice::from_ref(capture), &two.inventory, store, &["--sensor", sensor]);
    }
    let refused = run(&["audit", text(&stores[0]), text(&stores[1]), "-i", inventory], &[2]);
    let errors = String::from_utf8(refused.stderr).expect("UTF-8");
    assert!(errors.contains("of the sensor a") && errors.contains("of the sensor b"), "{errors}");
}

/// Merges the rows of the two captures and returns the store.
fn merged_first(two: &TwoCaptures) -> PathBuf {
    let first = two.at("first");
    merge(std::slice::from_ref(&two.store), &first, &[]);
    first
}

#[test]
fn a_capture_that_was_empty_at_first_leaves_no_rows_and_one_that_shrank_is_named() {
    let two = TwoCaptures::new();
    let capture = two.at("farm.pcap");
    let whole = fs::read(&two.captures[0]).expect("a capture");
    let store = two.at("from-empty");
    let collect = |bytes: &[u8]| {
        fs::write(&capture, bytes).expect("writable");
        let arguments =
            ["collect", text(&capture), "-i", text(&two.inventory), "--to", text(&store)];
        stderr(&run(&arguments, &[0]))
    };
    collect(b"");
    let told = collect(&whole);
    assert!(told.contains("has grown since it was collected"), "{told}");
    assert_eq!(files_of(&store).len(), 1);
    let direct = audited(std::slice::from_ref(&capture), &two.inventory, &[], two.scratch.path());
    let stored = audited(std::slice::from_ref(&store), &two.inventory, &[], two.scratch.path());
    assert_same(&direct, &stored, "a capture that was empty at first");
    let told = collect(&whole[..whole.len() / 2]);
    assert!(told.contains("an audit is refused until you delete"), "{told}");
    let refused = run(&["audit", text(&store), "-i", text(&two.inventory)], &[2]);
    assert!(stderr(&refused).contains("before it grew"), "{}", stderr(&refused));
}

#[test]
fn a_capture_that_could_not_be_read_at_first_leaves_no_rows() {
    let two = TwoCaptures::new();
    let [store, capture] = [two.at("again"), two.captures[0].clone()];
    let collect = |more: &[&str]| {
        let arguments = ["collect", "--to", text(&store), "--name", "farm", "-i"];
        stderr(&run(&[&arguments[..], &[text(&two.inventory)], more].concat(), &[0]))
    };
    let failed = collect(&["-", "--unreadable", "the disk failed"]);
    assert!(failed.contains("farm: the disk failed"), "{failed}");
    let told = collect(&[text(&capture)]);
    assert!(told.contains("farm: the capture could not be read before"), "{told}");
    assert_eq!(files_of(&store).len(), 1);
    run(&["audit", text(&store), "-i", text(&two.inventory), "--fail-on", "never"], &[0]);
    // A later failure does not remove the rows.
    let told = collect(&["-", "--unreadable", "the disk failed"]);
    assert!(told.contains("contains rows of another capture with this name"), "{told}");
    assert_eq!(files_of(&store).len(), 2);
}

#[test]
fn a_capture_that_grew_replaces_its_earlier_rows() {
    let two = TwoCaptures::new();
    let capture = two.at("growing.pcap");
    let whole = fs::read(&two.captures[0]).expect("a capture");
    let all = |store: &Path| files(store).into_keys().collect::<BTreeSet<_>>();
    let collect = |store: &Path, more: &[&str]| {
        let arguments =
            ["collect", text(&capture), "-i", text(&two.inventory), "--to", text(store)];
        stderr(&run(&[&arguments[..], more].concat(), &[0]))
    };
    let (store, early) = (two.at("growing"), two.at("early"));
    // The first part ends inside a record.
    fs::write(&capture, &whole[..whole.len() / 2]).expect("writable");
    collect(&store, &[]);
    collect(&early, &[]);
    let first = all(&store).pop_first().expect("a file");
    fs::write(&capture, &whole).expect("writable");
    let audit = ["audit", "-i", text(&two.inventory), text(&store), text(&capture)];
    let errors = stderr(&run(&audit, &[2]));
    assert!(errors.contains("growing.pcap: the capture has grown since"), "{errors}");
    // The path may be written in another way.
    let elsewhere = |arguments: &[&str], code: i32| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rasaudit"));
        let output = command.current_dir(two.scratch.path()).args(arguments).output();
        let output = output.expect("the program runs");
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        stderr(&output)
    };
    let inventory = text(&two.inventory);
    let errors = elsewhere(&["audit", "growing", "./growing.pcap", "-i", inventory], 2);
    assert!(errors.contains("growing.pcap: the capture has grown since"), "{errors}");
    let relative = two.at("relative");
    fs::create_dir(&relative).expect("a folder");
    fs::copy(store.join(&first), relative.join(&first)).expect("a copy");
    let errors = elsewhere(&["collect", "growing.pcap", "-i", inventory, "--to", "relative"], 0);
    assert!(errors.contains("was removed"), "{errors}");
    assert_eq!(all(&relative).len(), 1);
    let errors = collect(&store, &[]);
    let wanted = format!("so the earlier file {} was removed", store.join(&first).display());
    assert!(errors.contains(&wanted), "{errors}");
    assert_eq!(all(&store).len(), 1);
    let stored = audited(std::slice::from_ref(&store), &two.inventory, &[], two.scratch.path());
    let direct = audited(std::slice::from_ref(&capture), &two.inventory, &[], two.scratch.path());
    assert_same(&direct, &stored, "a capture that grew");
    // Earlier rows in other stores or in merged files are not removed, and an audit refuses them.
    let errors = two.refused(&[&store, &early], &[]);
    let wanted = format!(
        "{} contains {} as it was before it grew",
        text(&early.join(&first)),
        text(&capture)
    );
    assert!(errors.contains(&wanted), "{errors}");
    let merged = two.at("merged");
    merge(&[early], &merged, &[]);
    let errors = collect(&merged, &[]);
    assert!(errors.contains("still contains its earlier rows"), "{errors}");
    assert!(two.refused(&[&merged], &[]).contains("as it was before it grew"));

    // The rows of another capture with the same name are kept, and an audit reads both.
    fs::write(&capture, fs::read(&two.captures[1]).expect("a capture")).expect("writable");
    let errors = collect(&store, &[]);
    assert!(errors.contains("contains rows of another capture with this name"), "{errors}");
    assert_eq!(all(&store).len(), 2);
    audited(&[store], &two.inventory, &[], two.scratch.path());
}

#[test]
fn a_capture_that_was_collected_with_other_options_names_the_files_to_delete() {
    let two = TwoCaptures::new();
    let before = two.files();
    let arguments = ["collect", text(&two.captures[0]), "-i", text(&two.inventory), "--to"];
    let again = [&arguments[..], &[text(&two.store), "--traces"]].concat();
    let errors = stderr(&run(&again, &[0]));
    let old = before.iter().find(|file| errors.contains(text(file))).expect("the older file");
    assert!(errors.contains("a different setting of --traces than now"), "{errors}");
    let new = two.files().into_iter().find(|file| !before.contains(file)).expect("the new file");
    let errors = two.refused(&[&two.store], &[]);
    assert!(errors.contains("so delete the file that you do not need"), "{errors}");
    assert!(errors.contains(text(old)) && errors.contains(text(&new)), "{errors}");
    fs::remove_file(new).expect("it is there");
    audited(std::slice::from_ref(&two.store), &two.inventory, &[], two.scratch.path());
    // A merged file with rows of the capture causes a warning. A complete store refuses the
    // capture.
    let [merged, complete] = ["merged", "complete"].map(|name| two.at(name));
    merge(std::slice::from_ref(&two.store), &merged, &[]);
    let errors = stderr(&run(&[&arguments[..], &[text(&merged)]].concat(), &[0]));
    assert!(errors.contains("also contains the rows of this capture"), "{errors}");
    merge(std::slice::from_ref(&two.store), &complete, &["--complete"]);
    let errors = stderr(&run(&[&arguments[..], &[text(&complete)]].concat(), &[2]));
    assert!(errors.contains("to which no capture can be added"), "{errors}");
    assert_eq!(files_of(&complete).len(), 1);
}

/// Returns the text values of a column in all files of a store.
fn texts(store: &Path, name: &str) -> Vec<String> {
    let mut texts = Vec::new();
    for file in files_of(store) {
        let open = fs::File::open(file).expect("the file");
        let reader = ParquetRecordBatchReaderBuilder::try_new(open).expect("Parquet");
        for batch in reader.build().expect("Parquet") {
            let batch = batch.expect("a batch");
            let column = batch.column_by_name(name).expect("the column");
            let column = column.as_any().downcast_ref::<StringArray>().expect("text");
            texts.extend(column.iter().map(|text| text.unwrap_or_default().to_owned()));
        }
    }
    texts
}

/// Returns the start of a minute, counted from the one in which the capture of the healthy farm
/// begins, 2026-11-21 01:46 UTC.
fn minute(number: u32) -> String {
    format!("2026-11-21T01:{:02}:00Z", 46 + number)
}

#[test]
fn rows_of_windows_give_the_reports_of_a_time_range() {
    let names = ["farm-domain", "services/names"];
    for case in FIXTURES.iter().filter(|case| names.contains(&case.name)) {
        let mut random = Random(21);
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let at = |name: &str| scratch.path().join(name);
        let inventory = case.inventory();
        let captures = pieces(case, scratch.path(), &mut random);
        let times = first_and_last(&captures);
        let (apart, merged) = (at("apart"), at("merged"));
        let options = ["--window", "1m", "--pieces", "--traces"];
        let (small, large) = captures.split_at(captures.len() / 2);
        // With little memory, the rows of each window are written early.
        collect(small, &inventory, &apart, &[&options[..], &["--max-memory", "1"]].concat());
        collect(large, &inventory, &apart, &options);
        merge(std::slice::from_ref(&apart), &merged, &["--max-memory", "1"]);
        let [first, last] = times.map(|time| time.div_euclid(60));
        let middle = first + 1 + random.below((last - first).max(1) as usize) as i64;
        let range = |since: Option<i64>, until: Option<i64>| {
            let options = [("--since", since), ("--until", until)];
            let given = options.into_iter().filter_map(|(option, minute)| {
                let time = jiff::Timestamp::from_second(minute? * 60).expect("a time");
                Some([option.to_owned(), time.to_string()])
            });
            [given.flatten().collect(), case.more()].concat()
        };
        for more in [
            range(None, None),
            range(Some(middle), None),
            range(Some(middle), Some(middle + 1)),
            range(None, Some(first)),
        ] {
            let direct = audited(&captures, &inventory, &more, scratch.path());
            for store in [&apart, &merged] {
                let stored =
                    audited(std::slice::from_ref(store), &inventory, &more, scratch.path());
                assert_same(&direct, &stored, format!("{}: {more:?}", case.name));
            }
        }
    }
}

/// Returns the times of the first and the last record of captures, in seconds.
fn first_and_last(captures: &[PathBuf]) -> [i64; 2] {
    let records = captures.iter().flat_map(|capture| Records::read(capture).records);
    let second =
        |record: Vec<u8>| i64::from(u32::from_le_bytes(record[..4].try_into().expect("4")));
    let times: Vec<i64> = records.map(second).collect();
    [times.iter().min(), times.iter().max()].map(|time| *time.expect("a record"))
}

#[test]
fn a_time_range_that_is_not_whole_windows_is_refused_with_the_nearest_times() {
    let two = TwoCaptures::new();
    let store = two.at("windows");
    collect(&two.captures, &two.inventory, &store, &["--window", "1m", "--until", &minute(8)]);
    let refused = |more: &[&str]| two.refused(&[&store], more);
    let errors = refused(&["--since", "2026-11-21T01:47:30Z"]);
    let wanted = "--since: the time is inside a window of the rows (1m each); give the start of a window, such as 2026-11-21T01:47:00Z or 2026-11-21T01:48:00Z";
    assert!(errors.contains(wanted), "{errors}");
    let errors = refused(&["--until", &minute(9)]);
    let wanted = "--until: the captures were collected with --until 2026-11-21T01:54:00Z; give a time at or before it, or collect them again";
    assert!(errors.contains(wanted), "{errors}");
    let errors = refused(&["--since", &minute(3), "--until", &minute(2)]);
    assert!(errors.contains("--since is not before --until"), "{errors}");
    // By default, an audit covers the time range of the collection.
    let until = ["--until".to_owned(), minute(8)];
    let direct = audited(&two.captures, &two.inventory, &until, two.scratch.path());
    let whole = audited(std::slice::from_ref(&store), &two.inventory, &[], two.scratch.path());
    assert_same(&direct, &whole, "the range of the collection");
    // Rows of different time ranges cannot be combined.
    let errors = two.refused(&[&store, &two.store], &[]);
    assert!(errors.contains("with a different --until than"), "{errors}");
    for wrong in ["7m", "90s", "0", "2d"] {
        let arguments = ["collect", "x.pcap", "--to", "x", "--window", wrong];
        let errors = stderr(&run(&arguments, &[2]));
        assert!(errors.contains("give whole minutes that divide a day evenly"), "{errors}");
    }
}

#[test]
fn a_complete_store_contains_no_segments_or_packets_and_gives_the_same_reports() {
    let case = FIXTURES.iter().find(|case| case.name == "services/names").expect("the fixture");
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let at = |name: &str| scratch.path().join(name);
    let mut random = Random(4);
    // Each frame occurs twice, so that counters are corrected.
    let mut records = Records::read(&case.capture());
    records.records = records.records.iter().flat_map(|r| [r.clone(), r.clone()]).collect();
    let captures = records.cut(scratch.path(), 3, &mut random);
    let (apart, complete) = (at("apart"), at("complete"));
    collect(&captures, &case.inventory(), &apart, &["--pieces", "--traces"]);
    merge(std::slice::from_ref(&apart), &complete, &["--complete"]);
    let kinds = |store: &Path| texts(store, "kind").into_iter().collect::<BTreeSet<_>>();
    let dropped = ["pieces", "packets", "starts"].map(str::to_owned);
    assert!(dropped.iter().all(|kind| kinds(&apart).contains(kind)), "{:?}", kinds(&apart));
    assert!(!dropped.iter().any(|kind| kinds(&complete).contains(kind)), "{:?}", kinds(&complete));
    assert!(kinds(&complete).contains("copies"));
    for mode in ["auto", "on", "off"] {
        let more = ["--dedup".to_owned(), mode.to_owned()];
        let direct = audited(&captures, &case.inventory(), &more, scratch.path());
        let stored =
            audited(std::slice::from_ref(&complete), &case.inventory(), &more, scratch.path());
        assert_same(&direct, &stored, format!("--dedup {mode}"));
    }

    // If the packets were also captured in a tunnel, the segments may still be needed.
    let in_tunnel = |record: &Vec<u8>| {
        let frame = &record[16..];
        let length = |more: usize| (frame.len() as u16 + more as u16).to_be_bytes();
        let ip = [
            &[0x45, 0][..],
            &length(36),
            &[0, 0, 0, 0, 64, 17, 0, 0],
            &[192, 0, 2, 1, 192, 0, 2, 2],
        ];
        let udp = [&[0xc0, 1, 0x12, 0xb5][..], &length(16), &[0, 0], &[8, 0, 0, 0, 0, 0, 9, 0]];
        let outer = [&frame[..12], &[8, 0], &ip.concat(), &udp.concat(), frame].concat();
        let size = (outer.len() as u32).to_le_bytes();
        [&record[..8], &size, &size, &outer].concat()
    };
    let wrapped: Vec<Vec<u8>> = records.records.iter().map(in_tunnel).collect();
    records.records.extend(wrapped);
    let both = records.cut(scratch.path(), 1, &mut random);
    let (collected, kept) = (at("both"), at("both-complete"));
    collect(&both, &case.inventory(), &collected, &["--pieces"]);
    let arguments = ["merge", text(&collected), "--to", text(&kept), "--complete"];
    let warning = stderr(&run(&arguments, &[0]));
    assert!(warning.contains("still contains segments of"), "{warning}");
    assert!(kinds(&kept).contains("pieces"));

    // Merging a complete store again changes nothing.
    let (again, once_more) = (at("again"), at("once-more"));
    merge(std::slice::from_ref(&complete), &again, &[]);
    merge(std::slice::from_ref(&complete), &once_more, &["--complete"]);
    assert!(files(&complete) == files(&again) && files(&complete) == files(&once_more));

    // Nothing can be added to a complete store.
    let (capture, other) = (at("other.pcap"), at("other"));
    records.write(&capture, &records.records[..5]);
    collect(std::slice::from_ref(&capture), &case.inventory(), &other, &["--pieces", "--traces"]);
    let refused = |arguments: &[&str]| stderr(&run(arguments, &[2]));
    let more = at("more");
    let merging = ["merge", text(&complete), text(&other), "--to", text(&more)];
    let errors = refused(&merging);
    let wanted =
        format!("contains {}, which cannot be added to the complete store", text(&capture));
    assert!(errors.contains(&wanted) && errors.contains(text(&files_of(&complete)[0])), "{errors}");
    assert_eq!(refused(&[&merging[..], &["--complete"]].concat()), errors);
    let inventory = case.inventory();
    let audit = ["audit", "-i", text(&inventory), text(&complete)];
    let errors = refused(&[&audit[..], &[text(&other)]].concat());
    assert!(errors.contains(&wanted), "{errors}");
    let errors = refused(&[&audit[..], &[text(&capture)]].concat());
    assert!(errors.contains("were decided without this capture"), "{errors}");
    // A capture that is in the store is not read again.
    let merged = at("more");
    run(&[&audit[..], &[text(&captures[0])]].concat(), &[0, 1]);
    let stream = ["merge", "-", "--complete", "--to", text(&merged)];
    assert!(refused(&stream).contains("--complete needs whole stores"));
}

/// Completing a store does not hide that server names may be missing and packets may be duplicates.
#[test]
fn a_complete_store_warns_of_what_its_rows_do_not_contain() {
    let case = FIXTURES.iter().find(|case| case.name == "services/names").expect("the fixture");
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let [apart, complete] = ["apart", "complete"].map(|name| scratch.path().join(name));
    let mut records = Records::read(&case.capture());
    // The same packets come twice, and again two minutes later.
    let later = |record: &Vec<u8>| {
        let seconds: [u8; 4] = record[..4].try_into().expect("four bytes");
        let seconds = u32::from_le_bytes(seconds) + 120;
        [&seconds.to_le_bytes(), &record[4..]].concat()
    };
    let again: Vec<Vec<u8>> = records.records.iter().map(later).collect();
    records.records.extend(again);
    records.records = records.records.iter().flat_map(|r| [r.clone(), r.clone()]).collect();
    let captures = records.cut(scratch.path(), 3, &mut Random(4));
    collect(&captures, &case.inventory(), &apart, &["--window", "1m"]);
    merge(std::slice::from_ref(&apart), &complete, &["--complete"]);
    let inventory = case.inventory();
    let mut summaries = BTreeSet::new();
    for more in [&[][..], &["--since", "2026-11-21T08:18:00Z"]] {
        let audit = |store: &Path| {
            let arguments = ["audit", "-i", text(&inventory), text(store)];
            let output = run(&[&arguments[..], more].concat(), &[0, 1]);
            (stdout(&output), stderr(&output))
        };
        let warned = audit(&apart);
        assert!(
            warned.1.contains("several segments, which the rows do not contain"),
            "{}",
            warned.1
        );
        assert!(warned.1.contains("a sample shows duplicate packets"), "{}", warned.1);
        assert_eq!(audit(&complete), warned);
        summaries.insert(warned);
    }
    assert_eq!(summaries.len(), 2, "the time range leaves frames out");
}

#[test]
fn a_complete_store_with_windows_states_what_was_decided_for_the_whole_time() {
    let two = TwoCaptures::new();
    let since = ["--since".to_owned(), minute(3)];
    let direct = audited(&two.captures, &two.inventory, &since, two.scratch.path());
    for (name, options) in [("plain", &[][..]), ("pieces", &["--pieces"])] {
        let (apart, complete) = (two.at(&format!("{name}-apart")), two.at(name));
        collect(&two.captures, &two.inventory, &apart, &[&["--window", "1m"], options].concat());
        merge(&[apart], &complete, &["--complete"]);
        if options.is_empty() {
            let stored = audited(&[complete], &two.inventory, &since, two.scratch.path());
            assert_same(&direct, &stored, name);
        } else {
            let errors = two.refused(&[&complete], &["--since", &minute(3)]);
            assert!(errors.contains("were decided for the whole period"), "{errors}");
        }
    }
    // A complete store from which a row is missing is an error.
    let complete = two.at("plain");
    let file = files_of(&complete).pop().expect("a file");
    rewrite(&file, CREATORS[1], |rows| vec![rows.slice(1, rows.num_rows() - 1)]);
    let errors = two.refused(&[&complete], &[]);
    assert!(errors.contains("rows, 1 missing"), "{errors}");
}

/// `fixtures/stored` contains a store of each layout of rows: the first without windows, the second
/// with windows of a minute, the third with such windows and checksums, also with a sensor and the
/// records of packets, and as a complete store, the fourth with fingerprints that do not depend on
/// checksums of packets, with a sensor and the records of packets, and the fifth the same with
/// compact records of flows. If a store is missing and `UPDATE_GOLDEN` is set, the test writes it
/// in the current layout. Merging gives every store the current layout.
#[test]
fn a_store_of_each_layout_is_read() {
    let case = FIXTURES.iter().find(|case| case.name == "services/rpc").expect("the fixture");
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let capture = [PathBuf::from("fixtures/services/rpc.pcap")];
    let direct = audited(&capture, &case.inventory(), &[], scratch.path());
    let window = ["--pieces", "--window", "1m"];
    let sensor = ["--traces", "--site", "lab", "--sensor", "span"];
    let with_sensor = [&window[..], &sensor].concat();
    let layouts: [(&str, &[&str], bool); 7] = [
        ("rows-1", &window[..1], false),
        ("rows-2", &window, false),
        ("rows-3", &window, false),
        ("rows-3-sensor", &with_sensor, false),
        ("rows-3-complete", &["--pieces", "--traces"], true),
        ("rows-4-sensor", &with_sensor, false),
        ("rows-5-sensor", &with_sensor, false),
    ];
    for (name, options, is_complete) in layouts {
        let collected = scratch.path().join(name);
        collect(&capture, &case.inventory(), &collected, options);
        let current = if is_complete {
            let complete = scratch.path().join("complete");
            merge(&[collected], &complete, &["--complete"]);
            complete
        } else {
            collected
        };
        let stored = fixture(&format!("stored/{name}.parquet"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() && !stored.exists() {
            let files = files_of(&current);
            assert_eq!(files.len(), 1, "{files:?}");
            fs::copy(&files[0], &stored).expect("writable");
        }
        let renewed = scratch.path().join(format!("{name}-renewed"));
        merge(std::slice::from_ref(&stored), &renewed, &[]);
        assert_eq!(flow_records(&renewed), flow_records(&current), "{name}");
        let rows = audited(&[stored], &case.inventory(), &[], scratch.path());
        let current = audited(&[current], &case.inventory(), &[], scratch.path());
        assert_same(&current, &rows, name);
        if !options.contains(&"--sensor") {
            assert_same(&direct, &rows, name);
        }
    }
    // Up to layout 3, fingerprints depend on checksums, so copies of packets in a capture are not
    // recognized.
    let twin = scratch.path().join("twin.pcap");
    let mut bytes = fs::read(&capture[0]).expect("the fixture");
    let length = bytes.len();
    bytes.extend_from_within(24..length);
    fs::write(&twin, bytes).expect("writable");
    let old = fixture("stored/rows-3.parquet");
    let inventory = case.inventory();
    let refused = run(&["audit", "-i", text(&inventory), text(&old), text(&twin)], &[2]);
    let reason = "twin.pcap: the rows were collected by a version that recognizes duplicates";
    assert!(stderr(&refused).contains(reason), "{}", stderr(&refused));
    let off = ["--dedup".to_owned(), "off".to_owned()];
    audited(&[old, twin], &inventory, &off, scratch.path());
}

/// Returns the records of all flows of a store, sorted.
fn flow_records(store: &Path) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    for file in files_of(store) {
        let reader = fs::File::open(file).expect("a file of rows");
        let batches = ParquetRecordBatchReaderBuilder::try_new(reader).expect("Parquet").build();
        for batch in batches.expect("readable") {
            let batch = batch.expect("readable");
            let column = |name: &str| batch.column_by_name(name).expect("the column").clone();
            let (kinds, bytes) = (column("kind"), column("record"));
            for (kind, record) in kinds.as_string::<i32>().iter().zip(bytes.as_binary::<i32>()) {
                if kind == Some("flows") {
                    records.push(record.expect("a record").to_vec());
                }
            }
        }
    }
    records.sort();
    records
}

/// A draft reads only captures, so it refuses stores and states what it needs.
#[test]
fn a_store_is_not_drafted() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let case = FIXTURES.iter().find(|case| case.name == "services/rpc").expect("the fixture");
    let store = scratch.path().join("store");
    collect(&[fixture("services/rpc.pcap")], &case.inventory(), &store, &[]);
    let run = run(&["inventory", "draft", text(&store)], &[2]);
    let message = "contains rows, not frames; a draft needs the captures from which";
    assert!(stderr(&run).contains(message), "{}", stderr(&run));
}

/// The error of a capture that exists but cannot be read is in the store, even if the user named
/// the capture. A name that does not exist is probably mistyped, so it is refused.
#[cfg(unix)]
#[test]
fn a_named_capture_that_cannot_be_read_is_a_row_with_its_error() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let at = |name: &str| scratch.path().join(name);
    std::os::unix::fs::symlink("/nonexistent", at("broken.pcap")).expect("a link");
    let capture = fixture("services/rpc.pcap");
    let collect = |first: &str, more: &[&str], code| {
        let (first, store) = (at(first), at("store"));
        let named = ["collect", text(&first), text(&capture), "--to", text(&store)];
        stderr(&run(&[&named[..], more].concat(), &[code]))
    };
    let errors = collect("broken.pcap", &[], 0);
    assert!(errors.contains("broken.pcap is a link to a file"), "{errors}");
    collect("broken.pcap", &["--strict"], 3);
    let store = at("store");
    let audit = run(&["audit", text(&store), "--format", "json"], &[3]);
    let json: serde_json::Value = serde_json::from_str(&stdout(&audit)).expect("JSON");
    let inputs = json["inputs"].as_array().expect("a list");
    let broken = |input: &&serde_json::Value| input["error"].is_string();
    assert_eq!((inputs.len(), inputs.iter().filter(broken).count()), (2, 1), "{json:#}");
    let errors = collect("mistyped.pcap", &[], 2);
    assert!(errors.contains("mistyped.pcap"), "{errors}");
}

/// An interrupt ends a collection that waits for standard input. Neither the unfinished file nor
/// the folder that was created for it remains.
#[cfg(unix)]
#[test]
fn an_interrupted_collection_leaves_nothing() {
    for signal in ["-INT", "-TERM"] {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let store = scratch.path().join("new/store");
        let mut run = Command::new(env!("CARGO_BIN_EXE_rasaudit"))
            .args(["collect", "-", "--to", text(&store)])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let is_started = || fs::read_dir(&store).is_ok_and(|mut entries| entries.next().is_some());
        while !is_started() {
            assert!(run.try_wait().expect("a child").is_none(), "ended too early");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let sent = Command::new("kill").args([signal, &run.id().to_string()]).status();
        assert!(sent.expect("kill").success());
        let input = run.stdin.take();
        let output = run.wait_with_output().expect("ended");
        drop(input);
        assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
        assert!(!scratch.path().join("new").exists(), "{signal}");
    }
}

/// The file that a killed run was writing is not an input, and the next collection deletes it,
/// unless a run still uses it.
#[test]
fn files_of_a_killed_collection_are_ignored_and_deleted() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let case = FIXTURES.iter().find(|case| case.name == "services/rpc").expect("the fixture");
    let inputs = scratch.path().join("inputs");
    let store = scratch.path().join("store");
    let capture = fixture("services/rpc.pcap");
    for folder in [&inputs, &store] {
        fs::create_dir(folder).expect("a folder");
        fs::write(folder.join(".rasaudit-left.tmp"), "PAR1").expect("writable");
        fs::write(folder.join(".rasaudit-used.tmp"), "PAR1").expect("writable");
    }
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(90);
    let open = |name: &str| fs::File::options().append(true).open(store.join(name));
    let [left, used] = [".rasaudit-left.tmp", ".rasaudit-used.tmp"].map(|n| open(n).expect("open"));
    used.lock().expect("lockable");
    [&left, &used].iter().for_each(|file| file.set_modified(old).expect("a time"));
    drop(left);
    fs::copy(&capture, inputs.join("rpc.pcap")).expect("writable");
    let direct = audited(&[inputs], &case.inventory(), &[], scratch.path());
    assert!(direct.2 != 3 && direct.1.contains("in 1 input:"), "{}", direct.1);
    collect(&[capture], &case.inventory(), &store, &[]);
    let hidden = files(&store).into_keys().filter(|name| name.starts_with('.'));
    assert_eq!(hidden.collect::<Vec<_>>(), [".rasaudit-used.tmp"]);
}
