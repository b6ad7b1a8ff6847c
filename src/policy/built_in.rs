//! The rule files that are built into the program.

/// The name and the text of a built-in file.
pub(super) type BuiltIn = (&'static str, &'static str);

/// The name and the files of a built-in matrix.
pub(super) type Shipped = (&'static str, &'static [BuiltIn]);

/// The built-in matrices, each with its files.
pub(super) const SHIPPED: [Shipped; 2] = [
    (
        "ras-19",
        &[
            ("meta.toml", include_str!("../../rules/ras-19/meta.toml")),
            ("matrix.csv", include_str!("../../rules/ras-19/matrix.csv")),
            ("endpoints.csv", include_str!("../../rules/ras-19/endpoints.csv")),
            ("roles.csv", include_str!("../../rules/ras-19/roles.csv")),
            ("features.csv", include_str!("../../rules/ras-19/features.csv")),
            ("services.csv", include_str!("../../rules/ras-19/services.csv")),
        ],
    ),
    (
        "ras-legacy",
        &[
            ("meta.toml", include_str!("../../rules/ras-legacy/meta.toml")),
            ("matrix.csv", include_str!("../../rules/ras-legacy/matrix.csv")),
            ("roles.csv", include_str!("../../rules/ras-legacy/roles.csv")),
            ("features.csv", include_str!("../../rules/ras-legacy/features.csv")),
            ("services.csv", include_str!("../../rules/ras-legacy/services.csv")),
        ],
    ),
];

/// The built-in overlays, each with its text.
pub(super) const SHIPPED_OVERLAYS: [BuiltIn; 2] = [
    (BACKGROUND, include_str!("../../rules/overlays/network-background.csv")),
    ("windows-domain", include_str!("../../rules/overlays/windows-domain.csv")),
];

/// The overlay that is in use unless the inventory disables it.
pub const BACKGROUND: &str = "network-background";

/// The severities of findings, for all matrices.
pub(super) const SEVERITIES: BuiltIn = ("severity.csv", include_str!("../../rules/severity.csv"));

/// The names of the built-in matrices.
pub const MATRICES: &[&str] = &names_of(SHIPPED);

/// The names of the built-in overlays.
pub const OVERLAYS: &[&str] = &names_of(SHIPPED_OVERLAYS);

/// Returns the names of built-in rules.
const fn names_of<T: Copy, const N: usize>(list: [(&'static str, T); N]) -> [&'static str; N] {
    let mut names = [""; N];
    let mut number = 0;
    while number < N {
        names[number] = list[number].0;
        number += 1;
    }
    names
}
