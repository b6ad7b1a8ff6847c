//! Rule files: the first byte chooses the file that is replaced. Sound, or all problems told.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rasaudit::policy::RuleFiles;

const FILES: &[&str] =
    &["matrix.csv", "roles.csv", "features.csv", "services.csv", "background.csv", "severity.csv"];

fuzz_target!(|bytes: &[u8]| {
    let Some((first, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let file = FILES[usize::from(*first) % FILES.len()];
    let rules = RuleFiles::named("ras-19", None).expect("shipped");
    if let Err(problems) = rules.with(file, file.to_owned(), text.to_owned()).load() {
        assert!(!problems.is_empty());
        problems.iter().for_each(|p| assert!(!p.to_string().is_empty()));
    }
});
