//! The shipped matrix is whole: as many rows a section as the transcription of the document counts,
//! and every row says where it comes from.

use std::collections::BTreeMap;

use rasaudit::policy::{Expectation, RuleFiles, Scope};

#[test]
fn rows_by_section_are_those_of_the_transcription() {
    let matrix = RuleFiles::named("ras-19", None).expect("shipped").load().expect("sound");
    let mut sections: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &matrix.rows {
        *sections.entry(&row.section).or_default() += 1;
        assert!(row.provenance.starts_with("kb-129097 line "), "{}", row.id);
        assert!(!row.purpose.is_empty(), "{}", row.id);
    }
    let expected = [
        ("all-components", 2),
        ("connection-broker", 48),
        ("console", 34),
        ("enrollment-server", 11),
        ("guest-agent", 7),
        ("halb", 11),
        ("parallels-client", 29),
        ("powershell", 6),
        ("provider-agent", 13),
        ("rdsh-agent", 6),
        ("remote-pc-agent", 7),
        ("reporting", 3),
        ("secure-gateway", 14),
        ("ssrs", 1),
        ("tenant-broker", 1),
        ("web-admin", 10),
        ("web-external", 9),
    ];
    assert_eq!(sections.into_iter().collect::<Vec<_>>(), expected);
    let count = |e| matrix.rows.iter().filter(|r| r.expectation == e).count();
    assert_eq!(
        [Expectation::Steady, Expectation::OnDemand, Expectation::Feature, Expectation::Localhost]
            .map(count),
        [21, 101, 86, 4]
    );
    let scope = |s| matrix.rows.iter().filter(|r| r.scope == s).count();
    assert_eq!(
        [Scope::Network, Scope::Internet, Scope::Broadcast, Scope::Localhost].map(scope),
        [184, 19, 5, 4]
    );
}

#[test]
fn every_feature_is_described_and_every_one_described_is_needed() {
    let matrix = RuleFiles::named("ras-19", None).expect("shipped").load().expect("sound");
    for (feature, known) in &matrix.features {
        assert!(!known.meaning.is_empty());
        assert!(matrix.rows.iter().any(|r| r.features.contains(feature)), "{feature}");
    }
}

/// Every code has a severity of its own or of its verdict, and what was reached weighs no less than
/// what was only tried.
#[test]
fn every_code_has_a_severity() {
    let matrix = RuleFiles::named("ras-19", None).expect("shipped").load().expect("sound");
    let text = include_str!("../rules/severity.csv");
    for code in rasaudit::classify::Code::ALL {
        let verdict = code.verdict().name();
        let named = format!("{verdict},{code},");
        let any = format!("{verdict},*,");
        assert!(text.contains(&named) || text.contains(&any), "{verdict}/{code}");
        let table = &matrix.severities;
        let [reached, attempted] = [true, false].map(|r| table.get(verdict, code.name(), r));
        assert!(reached >= attempted, "{verdict}/{code}");
    }
}
