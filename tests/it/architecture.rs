//! Tests the structure of the sources. Each top-level module imports only the modules and crates
//! that a table allows, so that a new dependency is a deliberate decision. docs/architecture.md has
//! the same table of modules. Also tests cycles between files, the crates of each feature, the
//! names of types, the width of comments, and ports in the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::Visit;

/// Each module, the modules that it may import, and the external crates that it may use in addition
/// to `std`.
const ROOMS: &[(&str, &[&str], &[&str])] = &[
    ("model", &[], &["serde"]),
    (
        "capture",
        &["model"],
        &[
            "crossbeam_channel",
            "pcap",
            "libc",
            "nix",
            "sha2",
            "flate2",
            "zstd",
            "liblzma",
            "lz4_flex",
            "bzip2",
            "thiserror",
        ],
    ),
    ("decode", &["model", "capture"], &["etherparse", "serde", "ipnet"]),
    ("payload", &["model", "decode"], &["domain", "tls_parser", "httparse", "serde"]),
    (
        "flow",
        &["model", "decode", "payload"],
        &["dashmap", "ahash", "indexmap", "libc", "serde", "postcard", "tempfile"],
    ),
    ("conversation", &["model", "flow"], &[]),
    (
        "policy",
        &["model"],
        &[
            "ahash",
            "csv",
            "serde",
            "toml",
            "ipnet",
            "sha2",
            "strsim",
            "jiff",
            "memchr",
            "thiserror",
        ],
    ),
    (
        "classify",
        &["model", "conversation", "policy"],
        &["ahash", "dashmap", "sha2", "ipnet", "jiff"],
    ),
    (
        "result",
        &["model", "classify"],
        &["base64", "csv", "ipnet", "jiff", "schemars", "serde", "serde_json", "sha1"],
    ),
    (
        "report",
        &["model", "classify", "result"],
        &[
            "csv",
            "serde",
            "serde_json",
            "anstyle",
            "base64",
            "ipnet",
            "jiff",
            "maud",
            "nix",
            "pcap_file",
            "quick_xml",
            "sha2",
            "tempfile",
            "textwrap",
            "thiserror",
        ],
    ),
    (
        "pipeline",
        &[
            "model",
            "capture",
            "decode",
            "payload",
            "flow",
            "conversation",
            "policy",
            "classify",
            "result",
            "report",
        ],
        &["cpu_time", "crossbeam_channel", "thiserror"],
    ),
    (
        "store",
        &["model", "capture", "flow", "pipeline"],
        &[
            "arrow_array",
            "arrow_ipc",
            "arrow_schema",
            "crc32fast",
            "jiff",
            "parquet",
            "postcard",
            "serde",
            "sha2",
            "tempfile",
            "thiserror",
        ],
    ),
    (
        "live",
        &["model", "capture", "flow", "policy", "classify", "report", "pipeline", "store"],
        &[
            "crossbeam_channel",
            "serde",
            "postcard",
            "sha2",
            "base64",
            "serde_json",
            "bytes",
            "http_body_util",
            "hyper",
            "hyper_util",
            "tokio",
            "prometheus",
            "pcap_file",
            "nix",
            "caps",
            "landlock",
            "thiserror",
        ],
    ),
    (
        "cli",
        &["model", "policy", "classify", "pipeline", "live", "store", "result", "report"],
        &[
            "clap",
            "clap_complete",
            "indicatif",
            "anstream",
            "anstyle",
            "ctrlc",
            "jiff",
            "crossbeam_channel",
            "ipnet",
            "signal_hook",
            "nix",
            "supports_hyperlinks",
            "tempfile",
            "terminal_size",
            "serde_json",
            "toml",
        ],
    ),
];

/// Partial imports: the importing module, the imported module, and the only items of the latter
/// that the former may use.
const PARTS: &[(&str, &str, &[&str])] = &[
    ("decode", "capture", &["Frame"]),
    (
        "flow",
        "decode",
        &[
            "Observation",
            "Body",
            "Datagram",
            "Path",
            "TunnelUse",
            "Quoted",
            "FiveTuple",
            "Encapsulation",
            "TunnelEndpoints",
            "EncapTag",
            "EncapTagKind",
            "ErrorKind",
            "flag",
            "icmp_paired",
        ],
    ),
    ("payload", "decode", &["Observation", "Body", "Path", "FiveTuple", "flag"]),
    (
        "flow",
        "payload",
        &[
            "PayloadFact",
            "ENDPOINT_MAPPER",
            "ServerNameRequest",
            "DnsQuery",
            "StreamPrefix",
            "AnnouncedPorts",
            "DnsExchange",
        ],
    ),
    // The command line checks arguments against the names of the report formats, and prints
    // summaries, tables, exceptions and comparisons.
    (
        "cli",
        "report",
        &[
            "FORMATS",
            "Format",
            "Needs",
            "TABLE_FORMATS",
            "TextTable",
            "excepted_traffic",
            "exceptions_from",
            "is_exceptions_report",
            "summary",
            "COMPARISON_FORMATS",
            "ComparedAudit",
            "ComparisonReport",
            "LISTING_FORMATS",
            "RowListing",
        ],
    ),
];

/// The paths that a file uses, and the modules that it declares.
#[derive(Default)]
struct Paths {
    found: BTreeSet<Vec<String>>,
    modules: BTreeSet<String>,
}

impl Paths {
    fn tree(&mut self, prefix: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) => drop(self.found.insert(with(&name.ident))),
            syn::UseTree::Rename(name) => drop(self.found.insert(with(&name.ident))),
            syn::UseTree::Glob(_) => drop(self.found.insert([prefix, &["*".to_owned()]].concat())),
            syn::UseTree::Group(group) => group.items.iter().for_each(|t| self.tree(prefix, t)),
        }
    }
}

/// Returns whether an item is marked with `#[cfg(test)]`.
fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|a| {
        a.path().is_ident("cfg") && a.parse_args::<syn::Ident>().is_ok_and(|word| word == "test")
    })
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        // The arguments of a macro are not parsed, so paths are searched for in their text.
        let text = call.tokens.to_string().replace(" :: ", "::");
        for path in text.split(|c: char| !c.is_alphanumeric() && !"_:".contains(c)) {
            let words: Vec<String> = path.split("::").map(str::to_owned).collect();
            if words.len() > 1 && words.iter().all(|w| !w.is_empty()) {
                self.found.insert(words);
            }
        }
        syn::visit::visit_macro(self, call);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        // Some crates are used only in `derive` attributes, so these are searched, too.
        if let syn::Meta::List(list) = &attribute.meta
            && list.path.is_ident("derive")
        {
            let text = list.tokens.to_string().replace(" :: ", "::");
            let paths = text.split(',').map(|path| path.trim().split("::").map(str::to_owned));
            self.found.extend(paths.map(Iterator::collect).filter(|path: &Vec<_>| path.len() > 1));
        }
        syn::visit::visit_attribute(self, attribute);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&[], &item.tree);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        // Tests may use more modules than the code that they test, so they are left out.
        let is_test = is_test(&item.attrs);
        self.modules.insert(item.ident.to_string());
        if !is_test {
            syn::visit::visit_item_mod(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.found.insert(path.segments.iter().map(|s| s.ident.to_string()).collect());
        syn::visit::visit_path(self, path);
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Returns the files of the modules that a file declares with `#[cfg(test)] mod name;`.
fn test_files(file: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(file).expect("a source");
    let items = syn::parse_file(&text).expect("Rust").items.into_iter();
    let names = items.filter_map(|item| match item {
        syn::Item::Mod(item) if item.content.is_none() && is_test(&item.attrs) => Some(item.ident),
        _ => None,
    });
    names.map(|name| file.with_file_name(format!("{name}.rs"))).collect()
}

/// Returns the sources of each top-level module, without the files that only its tests use.
fn room_files() -> BTreeMap<String, Vec<PathBuf>> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut rooms = BTreeMap::new();
    for entry in fs::read_dir(src).expect("src") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            let mut all = files(&path);
            let of_tests: Vec<PathBuf> = all.iter().flat_map(|file| test_files(file)).collect();
            all.retain(|file| !of_tests.contains(file));
            rooms.insert(name, all);
        }
    }
    rooms
}

fn paths(file: &Path) -> Paths {
    let text = fs::read_to_string(file).expect("a source");
    let mut paths = Paths::default();
    paths.visit_file(&syn::parse_file(&text).expect("Rust"));
    // `super` is resolved, so that paths that leave their module are detected.
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let inside = file.strip_prefix(src).expect("below src").with_extension("");
    let mut module: Vec<String> =
        inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    paths.found = paths.found.iter().map(|path| resolve(path, &module)).collect();
    paths
}

/// Resolves `super` and `self` at the start of a path to the path from the crate root. Returns any
/// other path unchanged.
fn resolve(path: &[String], module: &[String]) -> Vec<String> {
    let climbs = path.iter().take_while(|word| *word == "super").count();
    let stays = path.first().is_some_and(|word| word == "self") && path.len() > 1;
    if climbs == 0 && !stays {
        return path.to_vec();
    }
    let base = &module[..module.len().saturating_sub(climbs)];
    let start = ["crate".to_owned()];
    [&start, base, &path[climbs + usize::from(stays)..]].concat()
}

#[test]
fn paths_are_resolved() {
    let words = |text: &str| -> Vec<String> { text.split("::").map(str::to_owned).collect() };
    let module = words("report::text");
    assert_eq!(resolve(&words("super::Time"), &module), words("crate::report::Time"));
    assert_eq!(
        resolve(&words("super::super::capture::Frame"), &module),
        words("crate::capture::Frame")
    );
    assert_eq!(resolve(&words("crate::model::Mac"), &module), words("crate::model::Mac"));
}

#[test]
fn every_room_stands_in_the_table() {
    let rooms: Vec<String> = room_files().into_keys().collect();
    let mut table: Vec<String> = ROOMS.iter().map(|r| r.0.to_owned()).collect();
    table.sort();
    assert_eq!(rooms, table);
}

#[test]
fn rooms_import_only_what_the_table_lets_them() {
    let files = room_files();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for (room, may, _) in ROOMS {
        for file in &files[*room] {
            for path in paths(file).found {
                let [start, other, rest @ ..] = path.as_slice() else {
                    continue;
                };
                if start != "crate" || other == room {
                    continue;
                }
                seen.insert((*room, other.clone()));
                let part = PARTS.iter().find(|p| p.0 == *room && p.1 == other);
                let fits = may.contains(&other.as_str())
                    && part.is_none_or(|p| rest.first().is_some_and(|r| p.2.contains(&r.as_str())));
                if !fits {
                    wrong.push(format!("{}: {}", file.display(), path.join("::")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "imports against the table:\n{}", wrong.join("\n"));
    // Makes sure that the test detects imports at all.
    for arrow in
        [("capture", "model"), ("flow", "decode"), ("pipeline", "flow"), ("cli", "pipeline")]
    {
        assert!(seen.contains(&(arrow.0, arrow.1.to_owned())), "{arrow:?} is no longer seen");
    }
}

/// Returns the file that a path from the crate root leads to, after names that a `mod.rs`
/// re-exports are replaced with the paths that they stand for. `None` if the path leads to no file.
fn file_of(path: &[String], reexports: &BTreeMap<Vec<String>, Vec<String>>) -> Option<PathBuf> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut path = path.to_vec();
    // A name may be re-exported more than once on its way up, so the replacement is repeated.
    for _ in 0..path.len() + 4 {
        let found = (1..=path.len()).find_map(|end| Some((end, reexports.get(&path[..end])?)));
        let Some((end, target)) = found else { break };
        path = [target.as_slice(), &path[end..]].concat();
    }
    let file = |end: usize| src.join(path[1..end].join("/")).with_extension("rs");
    (2..=path.len()).map(file).find(|file| file.exists())
}

/// Returns the names that each `mod.rs` among the files re-exports from its submodules, with the
/// paths that they stand for.
fn reexports(files: &[PathBuf]) -> BTreeMap<Vec<String>, Vec<String>> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = BTreeMap::new();
    for file in files.iter().filter(|file| file.ends_with("mod.rs")) {
        let folder = file.parent().expect("a folder").strip_prefix(&src).expect("below src");
        let words = folder.iter().map(|part| part.to_string_lossy().into_owned());
        let module: Vec<String> = ["crate".to_owned()].into_iter().chain(words).collect();
        let text = fs::read_to_string(file).expect("a source");
        let parsed = syn::parse_file(&text).expect("Rust");
        let declared: BTreeSet<String> = parsed
            .items
            .iter()
            .filter_map(|item| match item {
                syn::Item::Mod(item) => Some(item.ident.to_string()),
                _ => None,
            })
            .collect();
        for item in parsed.items {
            let syn::Item::Use(item) = item else { continue };
            let mut used = Paths::default();
            used.tree(&[], &item.tree);
            for path in used.found.iter().filter(|path| declared.contains(&path[0])) {
                let name = path.last().expect("a name").clone();
                let shown = [module.as_slice(), &[name]].concat();
                all.insert(shown, [module.as_slice(), path].concat());
            }
        }
    }
    all
}

/// No file depends on itself through other files of its top-level module, so the files can be read
/// from the bottom up. Each `mod.rs` is left out.
#[test]
fn no_file_depends_on_itself_through_others() {
    let mut arrows: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
    for files in room_files().into_values() {
        let reexports = reexports(&files);
        for file in files.iter().filter(|file| !file.ends_with("mod.rs")) {
            let used = paths(file).found;
            let used = used.iter().filter(|path| path.len() > 1 && path[0] == "crate");
            let used = used.filter_map(|path| file_of(path, &reexports));
            let used = used.filter(|other| other != file && files.contains(other));
            arrows.insert(file.clone(), used.collect());
        }
    }
    // Makes sure that the test follows imports and re-exported names.
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/flow");
    for other in ["keyed.rs", "key.rs"] {
        assert!(arrows[&src.join("side_evidence.rs")].contains(&src.join(other)), "{other}");
    }
    // Files that do not use other files are removed repeatedly, until only cycles and the files
    // that use them remain.
    loop {
        let ends: Vec<PathBuf> =
            arrows.iter().filter(|(_, to)| to.is_empty()).map(|(file, _)| file.clone()).collect();
        if ends.is_empty() {
            break;
        }
        for end in ends {
            arrows.remove(&end);
            arrows.values_mut().for_each(|to| {
                to.remove(&end);
            });
        }
    }
    assert!(arrows.is_empty(), "these files are part of circles, or use one: {arrows:#?}");
}

#[test]
fn rooms_use_only_the_crates_of_their_row() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .expect("Cargo.toml");
    let manifest: toml::Table = manifest.parse().expect("TOML");
    // Dependencies of a single platform are in a `[target.….dependencies]` table.
    let of_systems = manifest["target"].as_table().expect("a table").values();
    let crates: BTreeSet<String> = std::iter::once(&manifest["dependencies"])
        .chain(of_systems.map(|system| &system["dependencies"]))
        .flat_map(|list| list.as_table().expect("a table").keys())
        .map(|k| k.replace('-', "_"))
        .collect();
    let mut used = BTreeSet::new();
    let mut wrong = Vec::new();
    for (room, files) in room_files() {
        let row = ROOMS.iter().find(|r| r.0 == room).expect("a row");
        for file in files {
            let paths = paths(&file);
            for path in &paths.found {
                let Some(name) =
                    crates.get(&path[0]).filter(|n| path.len() > 1 && !paths.modules.contains(*n))
                else {
                    continue;
                };
                used.insert(name.clone());
                if !row.2.contains(&name.as_str()) {
                    wrong.push(format!("{}: {}", file.display(), path.join("::")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "crates against the table:\n{}", wrong.join("\n"));
    assert_eq!(
        crates.difference(&used).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "crates that no module uses"
    );
}

/// Tests which crates each feature adds (docs/install.md, "Features"). Without features, the
/// library depends neither on libpcap nor on the crates for the HTTP server, the sandbox, the store
/// and the command line.
#[test]
fn each_feature_brings_its_own_crates() {
    let crates = |features: &str| -> BTreeSet<String> {
        let output = std::process::Command::new(env!("CARGO"))
            .args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none"])
            .args(["--no-default-features", "--features", features])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let list = String::from_utf8(output.stdout).expect("names");
        list.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
    };
    let own: &[(&str, &[&str])] = &[
        ("bpf", &["pcap"]),
        ("live", &["caps", "landlock"]),
        ("serve", &["http-body-util", "hyper", "hyper-util", "prometheus", "tokio"]),
        ("store", &["arrow-array", "arrow-ipc", "arrow-schema", "parquet"]),
        (
            "cli",
            &[
                "anstream",
                "clap",
                "clap_complete",
                "ctrlc",
                "indicatif",
                "signal-hook",
                "terminal_size",
            ],
        ),
    ];
    let needs = |feature: &str, other: &str| match feature {
        "serve" => ["serve", "live", "bpf"].contains(&other),
        "live" => ["live", "bpf"].contains(&other),
        feature => feature == other,
    };
    for feature in ["", "bpf", "live", "serve", "store", "cli"] {
        let crates = crates(feature);
        assert!(crates.contains("etherparse"), "{crates:?}");
        for (other, names) in own {
            for name in *names {
                let is_there = crates.contains(*name);
                assert_eq!(is_there, needs(feature, other), "{name} with features \"{feature}\"");
            }
        }
    }
}

/// The names of the types that a file defines, except in tests.
#[derive(Default)]
struct Types(Vec<String>);

impl<'ast> Visit<'ast> for Types {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            syn::visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.0.push(item.ident.to_string());
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.0.push(item.ident.to_string());
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.0.push(item.ident.to_string());
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.0.push(item.ident.to_string());
    }

    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        // `named_enum!` defines the type whose name precedes its braces.
        if item.mac.path.is_ident("named_enum") {
            let text = item.mac.tokens.to_string();
            let before = text.split(" {").next().unwrap_or_default();
            self.0.extend(before.rsplit(' ').next().map(str::to_owned));
        }
    }
}

/// A type name has one meaning in the whole crate (docs/glossary.md).
#[test]
fn no_type_name_stands_twice() {
    let mut found = BTreeMap::<String, Vec<PathBuf>>::new();
    for file in room_files().into_values().flatten() {
        let text = fs::read_to_string(&file).expect("a source");
        let mut types = Types::default();
        types.visit_file(&syn::parse_file(&text).expect("Rust"));
        types.0.into_iter().for_each(|name| found.entry(name).or_default().push(file.clone()));
    }
    assert!(found.len() > 400 && found.contains_key("AggregationLevel"), "{}", found.len());
    found.retain(|_, files| files.len() > 1);
    assert!(found.is_empty(), "type names that are defined twice: {found:#?}");
}

/// Comments have at most 100 columns. rustfmt does not check them.
#[test]
fn no_comment_is_wider_than_100_columns() {
    let tests = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"));
    let all: Vec<PathBuf> = room_files().into_values().flatten().chain(tests).collect();
    assert!(all.len() > 300, "{}", all.len());
    let mut wide = Vec::new();
    for file in all {
        let text = fs::read_to_string(&file).expect("a source");
        for (number, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("//") && line.chars().count() > 100 {
                wide.push(format!("{}:{}", file.display(), number + 1));
            }
        }
    }
    assert!(wide.is_empty(), "{wide:#?}");
}

/// The matrix is data, so the sources contain no port of the product.
#[test]
fn no_port_of_the_product_stands_in_the_sources() {
    struct Numbers(BTreeSet<String>);
    impl<'ast> Visit<'ast> for Numbers {
        fn visit_lit_int(&mut self, number: &'ast syn::LitInt) {
            self.0.insert(number.base10_digits().to_owned());
        }
        fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
            if !is_test(&item.attrs) {
                syn::visit::visit_item_mod(self, item);
            }
        }
    }
    let matrix = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules/ras-19/matrix.csv");
    let mut reader = csv::Reader::from_path(matrix).expect("the matrix");
    // Only ports between 1024 and 49152 are checked, because other numbers may be in the sources
    // for unrelated reasons.
    let ports: BTreeSet<String> = reader
        .records()
        .flat_map(|row| {
            let row = row.expect("a row");
            [row[5].to_owned(), row[6].to_owned()]
        })
        .filter(|p| p.parse::<u16>().is_ok_and(|p| p > 1024 && p < 49152))
        .collect();
    assert!(ports.contains("20002"));
    for file in room_files().into_values().flatten() {
        let text = fs::read_to_string(&file).expect("a source");
        let mut numbers = Numbers(BTreeSet::new());
        numbers.visit_file(&syn::parse_file(&text).expect("Rust"));
        let both: Vec<_> = numbers.0.intersection(&ports).collect();
        assert!(both.is_empty(), "{}: {both:?}", file.display());
    }
}
