//! Problems in a valid matrix, such as rows that repeat, hide or contradict each other, or whose
//! traffic no capture can show.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::{Diagnostic, EndpointTarget, Expectation, Exposure, Matrix, RoleSet, Row, Scope};
use crate::model::Transport;

impl Matrix {
    /// Returns all problems of the matrix, in the order of files and lines.
    pub fn lint(&self) -> Vec<Diagnostic> {
        let mut lint = Lint { matrix: self, problems: Vec::new() };
        for (number, row) in self.rows.iter().enumerate() {
            lint.check_completeness(row);
            lint.check_observable(row);
            lint.check_satisfiable(row);
            lint.check_consistency(row);
            lint.check_overlaps(number, row);
            lint.check_shadowed(number, row);
        }
        lint.check_groups();
        lint.check_names();
        let mut problems = lint.problems;
        problems.sort_by(|a, b| (&a.file, a.line, &a.message).cmp(&(&b.file, b.line, &b.message)));
        problems
    }

    /// Returns the number of pairs of roles that a row covers. A side that includes any address
    /// counts as [`RoleSet::MAX`] roles. Of two rows that document the same traffic, the narrower
    /// one determines the ruling, unless an overlay or a doubt distinguishes them
    /// ([`Matrix::precedence`]).
    pub fn breadth(&self, row: &Row) -> usize {
        let side = |role: usize| match &self.roles[role] {
            role if role.is_any => RoleSet::MAX,
            role => role.members.len(),
        };
        side(row.source) * side(row.destination)
    }

    /// Returns the sort key of a row among those that document the same traffic. The row with the
    /// lowest key determines the ruling. The matrix comes before its overlays, certain rows come
    /// before doubtful ones, and rows for few roles come before rows for many.
    pub fn precedence(&self, number: usize) -> (bool, bool, usize, usize) {
        let row = &self.rows[number];
        (row.overlay.is_some(), row.is_doubtful(), self.breadth(row), number)
    }
}

struct Lint<'m> {
    matrix: &'m Matrix,
    problems: Vec<Diagnostic>,
}

impl Lint<'_> {
    fn add(&mut self, row: &Row, message: impl Into<String>) {
        let message = format!("{}: {}", row.id, message.into());
        self.problems.push(Diagnostic { file: row.file.to_string(), line: row.line, message });
    }

    fn check_completeness(&mut self, row: &Row) {
        if row.purpose.is_empty() {
            self.add(row, "the row does not state the purpose of the traffic");
        }
        if row.examples.is_empty() {
            self.add(row, "the row has no example of a conversation that it documents");
        }
        if row.is_doubtful() && row.note.is_empty() {
            self.add(
                row,
                format!("the row is {}, but has no note that gives the reason", row.certainty),
            );
        }
    }

    /// Checks that the traffic can exist and, if it is expected, that a span port can capture it.
    fn check_observable(&mut self, row: &Row) {
        if row.scope == Scope::Localhost && row.is_expected() {
            self.add(
                row,
                "the row is expected, but its traffic stays inside a host, where no span port captures it",
            );
        }
        if row.scope == Scope::Broadcast && row.transport == Transport::TCP {
            self.add(row, "the transport of the row is TCP, which is never broadcast");
        }
        if row.scope != Scope::Broadcast && !row.multicast.is_empty() {
            self.add(row, "the row names multicast addresses, but its scope is not broadcast");
        }
        if row.transport.has_ports() && *row.ports.start() == 0 {
            self.add(row, "the row has port 0, on which no service can listen");
        }
    }

    /// Checks that the row can take effect: an expected row has a watch time, hosts can have its
    /// roles, and the traffic of its triggers can be established.
    fn check_satisfiable(&mut self, row: &Row) {
        let matrix = self.matrix;
        if row.is_expected() && row.watch_s == 0 {
            self.add(
                row,
                "the row is expected, but has no watch time; set watch_s, for example to 600",
            );
        }
        for (side, role) in [("source", row.source), ("destination", row.destination)] {
            let role = &matrix.roles[role];
            let played = role.is_any || role.members.iter().any(|m| matrix.roles[m].is_playable());
            let stands_alone =
                side == "destination" && (row.only.is_some() || row.scope == Scope::Localhost);
            if !played && !stands_alone {
                self.add(row, format!("no host can have the {side} role {}", role.slug));
            }
        }
        for trigger in &row.triggers {
            if *trigger == row.group {
                self.add(row, "the row has its own group as its trigger");
            }
            let rows = matrix.groups.get(trigger).into_iter().flatten();
            let mut rows = rows.map(|n| &matrix.rows[*n]);
            let can_show = |r: &Row| {
                r.transport.has_ports() && !matches!(r.scope, Scope::Broadcast | Scope::Localhost)
            };
            if !rows.any(can_show) {
                self.add(
                    row,
                    format!(
                        "the row has the trigger {trigger}, whose traffic is never established"
                    ),
                );
            }
        }
    }

    /// Checks that the cells of the row do not contradict each other.
    fn check_consistency(&mut self, row: &Row) {
        let matrix = self.matrix;
        if row.expectation == Expectation::Feature && row.features.is_empty() {
            self.add(row, "the row is expected with its feature, but names no feature");
        }
        let localhost = [
            row.scope == Scope::Localhost,
            row.expectation == Expectation::Localhost,
            matrix.roles[row.destination].slug == "localhost",
        ];
        if localhost.contains(&true) && localhost.contains(&false) {
            self.add(
                row,
                "the scope, expectation and destination of the row contradict each other about localhost",
            );
        }
        let is_any = matrix.roles[row.source].is_any;
        match row.exposure {
            Some(Exposure::External) if !is_any => {
                self.add(row, "the row is external, but not open to all hosts");
            }
            Some(Exposure::Internal) if is_any => {
                self.add(row, "the row is internal, but open to all hosts");
            }
            _ => {}
        }
    }

    /// Reports earlier rows that document all or part of the same traffic.
    fn check_overlaps(&mut self, number: usize, row: &Row) {
        let matrix = self.matrix;
        let relation = |r: &Row| (r.source, r.destination, r.transport, r.scope);
        let features_of = |r: &Row| r.features.iter().cloned().collect::<BTreeSet<_>>();
        let has_same_relation = |r: &&Row| relation(r) == relation(row) && r.only == row.only;
        let overlaps_partly = |r: &&Row| {
            let apart = r.ports.end() < row.ports.start() || row.ports.end() < r.ports.start();
            let inside = |a: &RangeInclusive<u16>, b: &RangeInclusive<u16>| {
                a.start() >= b.start() && a.end() <= b.end()
            };
            let meet =
                |a: usize, b: usize| matrix.roles[a].members.intersects(matrix.roles[b].members);
            !(apart || inside(&r.ports, &row.ports) || inside(&row.ports, &r.ports))
                && (r.transport, r.scope) == (row.transport, row.scope)
                && relation(r) != relation(row)
                && r.only == row.only
                && meet(r.source, row.source)
                && meet(r.destination, row.destination)
        };
        for other in matrix.rows[..number].iter().filter(overlaps_partly) {
            self.add(
                row,
                format!("the ports of the row overlap with those of {} for some roles", other.id),
            );
        }
        for other in matrix.rows[..number].iter().filter(has_same_relation) {
            let overlap =
                other.ports.start() <= row.ports.end() && row.ports.start() <= other.ports.end();
            if !overlap {
                continue;
            }
            if other.ports != row.ports {
                self.add(row, format!("the ports of the row overlap with those of {}", other.id));
            } else if features_of(other) == features_of(row) {
                self.add(row, format!("the row duplicates {}", other.id));
            } else {
                self.add(
                    row,
                    format!("the row contradicts {}, which requires different features", other.id),
                );
            }
        }
    }

    /// Checks that the row can determine a ruling. There must be a pair of roles and a port for
    /// which no other row takes precedence.
    fn check_shadowed(&mut self, number: usize, row: &Row) {
        let matrix = self.matrix;
        let mine = matrix.precedence(number);
        let members = |role: usize| -> Vec<RoleSet> {
            match &matrix.roles[role] {
                role if role.is_any => vec![RoleSet::default()],
                role => role.members.iter().map(RoleSet::one).collect(),
            }
        };
        let before = |r: &usize| {
            let other = &matrix.rows[*r];
            *r != number
                && other.scope == row.scope
                && other.transport == row.transport
                && matrix.precedence(*r) < mine
        };
        let rivals: Vec<usize> = (0..matrix.rows.len()).filter(before).collect();
        let mut by = None;
        for source in members(row.source) {
            for destination in members(row.destination) {
                for port in edges(row, rivals.iter().map(|r| &matrix.rows[*r])) {
                    let hides = |r: &&usize| {
                        let other = &matrix.rows[**r];
                        // The other row may need a feature that this row does not need. If that
                        // feature is off, this row determines the ruling.
                        other.features.iter().all(|f| row.features.contains(f))
                            && other.ports.contains(&port)
                            && matrix.is_source(other, source)
                            && match (&row.only, &other.only) {
                                (None, None) => matrix.is_destination(other, destination),
                                (Some(mine), Some(theirs)) => covers(theirs, mine),
                                _ => false,
                            }
                    };
                    match rivals.iter().find(hides) {
                        Some(other) => by = Some(*other),
                        None => return,
                    }
                }
            }
        }
        if let Some(other) = by {
            let message =
                format!("the row never applies: {} always takes precedence", matrix.rows[other].id);
            self.add(row, message);
        }
    }

    fn check_groups(&mut self) {
        let matrix = self.matrix;
        for (group, rows) in &matrix.groups {
            let mut expected = rows.iter().map(|n| &matrix.rows[*n]).filter(|r| r.is_expected());
            let Some(first) = expected.next() else { continue };
            for row in expected.filter(|row| row.quantifier != first.quantifier) {
                let mine = row.quantifier;
                let theirs = first.quantifier;
                let message = format!(
                    "the row has the quantifier {mine}, but {} of the same group {group} has {theirs}",
                    first.id
                );
                self.add(row, message);
            }
        }
        for feature in matrix.features.keys() {
            if !matrix.rows.iter().any(|row| row.features.contains(feature)) {
                let message = format!("no row requires the feature \"{feature}\"");
                self.problems.push(Diagnostic {
                    file: "features.csv".to_owned(),
                    line: 0,
                    message,
                });
            }
        }
    }

    /// Reports names that would be ambiguous in an inventory because two roles have them.
    fn check_names(&mut self) {
        let mut known: BTreeMap<String, &str> = BTreeMap::new();
        for role in self.matrix.roles.iter().filter(|role| role.is_playable()) {
            for name in [&role.slug, &role.name].into_iter().chain(&role.aliases) {
                let first = known.entry(name.to_lowercase()).or_insert(&role.slug);
                if *first != role.slug {
                    let message = format!("\"{name}\" is a name of both {first} and {}", role.slug);
                    self.problems.push(Diagnostic {
                        file: "roles.csv".to_owned(),
                        line: 0,
                        message,
                    });
                }
            }
        }
    }
}

/// Returns the ports of `row` that must be tested to find one for which no other row takes
/// precedence: its first and its last port, and the ports next to the ranges of the others.
fn edges<'r>(row: &Row, others: impl Iterator<Item = &'r Row>) -> BTreeSet<u16> {
    let low = *row.ports.start();
    let high = *row.ports.end();
    let near = |r: &Row| [r.ports.start().saturating_sub(1), r.ports.end().saturating_add(1)];
    let all = others.flat_map(near).chain([low, high]);
    all.filter(|port| row.ports.contains(port)).collect()
}

/// Returns whether `wide` includes all endpoints of `narrow`.
fn covers(wide: &EndpointTarget, narrow: &EndpointTarget) -> bool {
    match (wide, narrow) {
        (EndpointTarget::Name(pattern), EndpointTarget::Name(name)) => {
            pattern.matches(&name.to_string())
        }
        _ => wide == narrow,
    }
}
