//! Benchmarks decoding, flow tables, classification, reports and whole audits: `cargo bench --bench
//! rooms`.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

use rasaudit::capture::{Batch, CaptureReader, InputHash, expand};
use rasaudit::classify::{CaptureConditions, Judgement, Watched};
use rasaudit::conversation::{CaptureLimits, Conversations, ReadOptions, TrustedMirrors};
use rasaudit::decode::{Body, Decoder, FiveTuple, Observation, flag};
use rasaudit::flow::{EvidenceLimit, FlowStore, HashSeed, Retention, WorkerTables};
use rasaudit::model::Transport;
use rasaudit::pipeline::{Audit, Limits, Plan, Progress, Request};
use rasaudit::policy::{Inventory, Policy, RuleFiles};
use rasaudit::report::{FORMATS, Format};

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path)
}

fn batches(capture: &Path) -> Vec<Batch> {
    let sources = expand(&[capture.to_owned()]).expect("the fixture");
    let mut reader = CaptureReader::open(&sources[0], InputHash::Skip).expect("a capture");
    let mut batches = Vec::new();
    loop {
        let mut batch = Batch::default();
        let more = reader.next(&mut batch).expect("valid");
        batches.push(batch);
        if !more {
            return batches;
        }
    }
}

fn observations() -> Vec<Observation> {
    let batches = batches(&fixture("farm-healthy/span.pcap"));
    let frames = batches.iter().flat_map(|b| b.frames.iter().map(move |f| (f, b.data(f))));
    let decoder = Decoder::default();
    let decoded = frames.filter_map(|(frame, data)| {
        let mut seen = Observation::default();
        decoder.decode(frame, data, &mut seen).ok().map(|()| seen)
    });
    decoded.collect()
}

fn policy() -> Policy {
    let matrix = RuleFiles::named("ras-19", None).expect("shipped").load().expect("valid");
    let file = fixture("farm-healthy/inventory.toml");
    let text = std::fs::read_to_string(file).expect("the fixture");
    let inventory = Inventory::from_toml("inventory.toml", &text, &matrix).expect("valid");
    Policy::new(matrix, inventory)
}

/// Measures decoding for each link type and tunnel, with the fixtures in `wrapped/` and two others.
/// Asserts that decoding does not allocate.
fn families(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    let wrapped = std::fs::read_dir(fixture("wrapped")).expect("the fixtures");
    let mut files: Vec<PathBuf> = wrapped.map(|f| f.expect("an entry").path()).collect();
    files.extend(["decode-mix/mix.pcap", "overlay/vxlan.pcap"].map(fixture));
    files.sort();
    let decoder = Decoder::default();
    let mut seen = Observation::default();
    for file in files {
        let batches = batches(&file);
        let frames: usize = batches.iter().map(|b| b.frames.len()).sum();
        let mut all = || {
            for batch in &batches {
                for frame in &batch.frames {
                    let _ = black_box(decoder.decode(frame, batch.data(frame), &mut seen));
                }
            }
        };
        let allocated = allocation_counter::measure(&mut all);
        let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
        assert_eq!(allocated.count_total, 0, "{name}: decoding allocates");
        group.throughput(Throughput::Elements(frames as u64));
        group.bench_function(format!("{name} ({} allocations)", allocated.count_total), |b| {
            b.iter(&mut all);
        });
    }
    group.finish();
}

/// Measures decoding of the healthy farm, for comparison with individual link types.
fn decoding(c: &mut Criterion) {
    let batches = batches(&fixture("farm-healthy/span.pcap"));
    let frames: usize = batches.iter().map(|b| b.frames.len()).sum();
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(frames as u64));
    group.bench_function("farm", |b| {
        let decoder = Decoder::default();
        let mut seen = Observation::default();
        b.iter(|| {
            for batch in &batches {
                for frame in &batch.frames {
                    let _ = black_box(decoder.decode(frame, batch.data(frame), &mut seen));
                }
            }
        });
    });
    group.finish();
}

/// Returns flow tables into which the observations were merged in batches of 32.
fn filled_tables(store: &FlowStore, seen: &[Observation]) -> WorkerTables {
    let mut tables = store.tables(&Retention::default());
    seen.chunks(32).for_each(|s| tables.observe(s, []));
    tables
}

/// Measures how fast the farm's observations are merged into flow tables.
fn flows(c: &mut Criterion) {
    let seen = observations();
    let seed = HashSeed::new();
    let store = || FlowStore::new(&seed, std::env::temp_dir());
    let mut group = c.benchmark_group("flow");
    group.throughput(Throughput::Elements(seen.len() as u64));
    group.bench_function("observe", |b| b.iter(|| black_box(filled_tables(&store(), &seen).len())));
    group.finish();
}

/// Measures the judgement of the farm's conversations, without reading and decoding.
fn judgement(c: &mut Criterion) {
    let seen = observations();
    let seed = HashSeed::new();
    let policy = policy();
    let mut watched = Watched::default();
    watched.longest_s = 650;
    let conditions = CaptureConditions {
        end: None,
        start: None,
        watched,
        filtered: false,
        one_sided: 0.0,
        loss: 0.0,
        suspected_loss: 0.0,
        losses: Default::default(),
        damaged: false,
        lacks_evidence: false,
        no_decap: false,
        max_loss: 0.01,
        min_watch: None,
        vantages: Default::default(),
        series: Vec::new(),
    };
    let conversations = || {
        let store = FlowStore::new(&seed, std::env::temp_dir());
        store.submit(filled_tables(&store, &seen)).expect("in memory");
        let mut flows =
            store.finish(&Retention::default(), 1, &EvidenceLimit::NONE).expect("in memory");
        let judge = rasaudit::classify::Judge::new(&policy);
        Conversations::read(
            &mut flows,
            &judge,
            &CaptureLimits::default(),
            ReadOptions {
                jobs: 1,
                keep: false,
                max_memory: usize::MAX,
                mirrors: TrustedMirrors::Inferred,
            },
        )
        .expect("in memory")
    };
    let mut group = c.benchmark_group("classify");
    group.throughput(Throughput::Elements(conversations().list.len() as u64));
    group.bench_function("farm", |b| {
        b.iter_batched(
            conversations,
            |c| Judgement::of(&policy, c, &conditions, 1).findings().len(),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// Measures an audit of the farm from the capture file to the findings, without reports.
fn audits(c: &mut Criterion) {
    let batches = batches(&fixture("farm-healthy/span.pcap"));
    let frames: usize = batches.iter().map(|b| b.frames.len()).sum();
    let mut group = c.benchmark_group("end-to-end");
    group.throughput(Throughput::Elements(frames as u64));
    group.sample_size(20);
    let request = Request {
        captures: vec![fixture("farm-healthy/span.pcap")],
        jobs: Some(1),
        max_memory: 1 << 30,
        ..Request::default()
    };
    let plan = Plan::new(request).expect("the fixture");
    let limits = Limits::default();
    group.bench_function("farm", |b| {
        b.iter_batched(
            policy,
            |policy| {
                Audit::of(&plan, Some(policy), None, &limits, &Progress::default())
                    .expect("valid")
                    .failed
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// Returns `packets` observations of `flows` flows: the first of each flow, and then others in
/// random order. `end` maps the index of a flow to its source address and port.
fn synthetic(flows: u32, packets: u32, end: impl Fn(u32) -> (u32, u16)) -> Vec<Observation> {
    let mut state = 1u64;
    let mut observations = Vec::with_capacity(packets as usize);
    for number in 0..packets {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let flow = if number < flows { number } else { (state >> 33) as u32 % flows };
        let (address, sport) = end(flow);
        let tuple = FiveTuple {
            src: Ipv4Addr::from(address).into(),
            dst: Ipv4Addr::new(10, 20, 1, 1).into(),
            sport,
            dport: 443,
            transport: Transport::TCP,
        };
        let flags = flag::ACK | flag::UNICAST;
        let acked = Some(number);
        let fragment = None;
        let body = Body::Transport { tuple, flags, payload: 0, seq: 0, acked, fragment };
        observations.push(Observation { time: i64::from(number), body, ..Observation::default() });
    }
    observations
}

/// Measures flow tables of several sizes, flow tables with addresses that an attacker chose so that
/// they collide, and the merge of two tables.
fn tables(c: &mut Criterion) {
    let seed = HashSeed::new();
    let store = || FlowStore::new(&seed, std::env::temp_dir());
    let spread = |flow: u32| (0x0a00_0000 | flow, (flow >> 4) as u16 | 0x8000);
    let cases = [
        ("1,000 flows", synthetic(1_000, 1_000_000, spread)),
        ("100,000 flows", synthetic(100_000, 1_000_000, spread)),
        ("1,000,000 flows", synthetic(1_000_000, 2_000_000, spread)),
        // The addresses differ only in their upper bits, which an unkeyed hash of the lower bits
        // ignores.
        ("100,000 flows, chosen", synthetic(100_000, 1_000_000, |flow| (flow << 15, 0x8000))),
    ];
    let mut group = c.benchmark_group("observe");
    group.sample_size(10);
    for (name, seen) in &cases {
        group.throughput(Throughput::Elements(seen.len() as u64));
        group.bench_function(*name, |b| b.iter(|| black_box(filled_tables(&store(), seen).len())));
    }
    group.finish();
    let seen = &cases[1].1;
    let mut group = c.benchmark_group("merge");
    group.sample_size(10);
    group.throughput(Throughput::Elements(100_000));
    for jobs in [1, 2] {
        group.bench_function(format!("100,000 flows on {jobs} threads"), |b| {
            let two = || {
                let store = store();
                for half in seen.chunks(seen.len() / 2) {
                    store.submit(filled_tables(&store, half)).expect("in memory");
                }
                store
            };
            b.iter_batched(
                two,
                |m| m.finish(&Retention::default(), jobs, &EvidenceLimit::NONE).expect("in memory"),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

/// Measures each report format on the farm with faults.
fn reports(c: &mut Criterion) {
    let request = Request {
        captures: vec![fixture("farm-faults/span.pcap")],
        jobs: Some(1),
        max_memory: 1 << 30,
        ..Request::default()
    };
    let plan = Plan::new(request).expect("the fixture");
    let limits = Limits::default();
    let progress = Progress::default();
    let audit = Audit::of(&plan, Some(policy()), None, &limits, &progress).expect("valid");
    let mut group = c.benchmark_group("report");
    group.throughput(Throughput::Elements(audit.outcome.conversations.list.len() as u64));
    for Format { name: format, write, .. } in FORMATS {
        group.bench_function(*format, |b| {
            b.iter(|| write(&audit.result(), &mut std::io::sink()).expect("a sink"));
        });
    }
    group.finish();
}

criterion_group!(benches, families, decoding, flows, judgement, audits, tables, reports);
criterion_main!(benches);
