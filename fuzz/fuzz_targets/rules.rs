//! Fuzzes rule files. The first byte chooses the file to replace. The rules must be accepted, or
//! their problems must be reported.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rasaudit::classify::check_examples;
use rasaudit::policy::RuleFiles;

const FILES: &[&str] = &[
    "matrix.csv",
    "roles.csv",
    "features.csv",
    "services.csv",
    "severity.csv",
    "endpoints.csv",
    "network-background",
];

fuzz_target!(|bytes: &[u8]| {
    let Some((first, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let file = FILES[usize::from(*first) % FILES.len()];
    let rules = RuleFiles::named("ras-19", None).expect("shipped");
    match rules.with(file, file.to_owned(), text.to_owned()).load() {
        Ok(matrix) => {
            matrix.lint();
            check_examples(&matrix);
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            problems.iter().for_each(|p| assert!(!p.to_string().is_empty()));
        }
    }
});
