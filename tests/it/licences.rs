//! Tests that every dependency has a permissive licence.

use std::process::Command;

/// Licences that allow any use if their notice is kept.
const PERMISSIVE: &[&str] = &[
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "bzip2-1.0.6",
    "ISC",
    "Zlib",
    "0BSD",
    "Unlicense",
    "Unicode-3.0",
    "CC0-1.0",
    "BSL-1.0",
];

/// The target of the build. Crates for other platforms may be missing on this machine.
const HOST: &str = "x86_64-unknown-linux-gnu";

/// Returns the packages of the build, as `cargo metadata` describes them.
fn packages() -> Vec<serde_json::Value> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--offline",
            "--filter-platform",
            HOST,
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].take();
    let packages = packages.as_array().expect("a list").clone();
    assert!(packages.len() > 20);
    packages
}

#[test]
fn every_dependency_is_permissively_licensed() {
    let mut wrong = Vec::new();
    for package in packages() {
        let name = package["name"].as_str().expect("a name");
        let licence = package["license"].as_str().unwrap_or_default().replace('/', " OR ");
        let fits = spdx::Expression::parse(&licence).is_ok_and(|expression| {
            expression.evaluate(|required| {
                let id = required.license.id().map(|id| id.name).unwrap_or_default();
                PERMISSIVE.contains(&id)
            })
        });
        if !fits {
            wrong.push(format!("{name}: {licence}"));
        }
    }
    assert!(wrong.is_empty(), "not permissive:\n{}", wrong.join("\n"));
}

/// Clippy reports functions of the standard library that are newer than `rust-version`. This test
/// reports dependencies that need a newer compiler.
#[test]
fn no_dependency_needs_a_later_compiler_than_the_manifest_states() {
    let version = |text: &str| -> Vec<u32> {
        text.split('.').map(|part| part.parse().expect("a number")).collect()
    };
    let own = version(env!("CARGO_PKG_RUST_VERSION"));
    let mut stated = 0;
    for package in packages() {
        let Some(needed) = package["rust_version"].as_str() else { continue };
        stated += 1;
        assert!(version(needed) <= own, "{} needs Rust {needed}", package["name"]);
    }
    assert!(stated > 20, "{stated} packages state a version");
}

#[test]
fn nothing_is_a_release_candidate() {
    let lock = include_str!("../../Cargo.lock");
    let lock: toml::Table = lock.parse().expect("TOML");
    for package in lock["package"].as_array().expect("a list") {
        let version = package["version"].as_str().expect("a version");
        // The part after a plus is build metadata (Semantic Versioning, 10).
        let version = version.split('+').next().expect("a version");
        let candidate =
            ["-rc", "-alpha", "-beta", "-pre"].iter().any(|mark| version.contains(mark));
        assert!(!candidate, "{:?} {version}", package["name"]);
    }
}
