//! What was seen and found between the roles of the farm.

use std::collections::{BTreeMap, BTreeSet};

use crate::classify::{FeatureState, Finding, Matrix, Policy, RoleSet, Severity, Status, Verdict};
use crate::report::Report;

/// A role by number; none stands for whoever has no role.
pub(super) type Role = Option<usize>;

/// What was seen and found between two roles.
#[derive(Default)]
pub(super) struct Pair {
    /// The rows that join them.
    pub rows: Vec<usize>,
    /// Documented conversations.
    pub seen: u64,
    /// Findings that are not documented, missing, or could not be assessed.
    pub unexpected: u64,
    pub missing: u64,
    pub unknown: u64,
}

/// What a pair comes to: the worst of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Standing {
    /// Rows join them, which did not have to show.
    Silent,
    /// Documented traffic was seen.
    Seen,
    /// Something that should have shown could not be assessed.
    Unknown,
    /// Something is missing.
    Missing,
    /// Something is not documented.
    Unexpected,
}

impl Standing {
    pub const ALL: [Self; 5] =
        [Self::Unexpected, Self::Missing, Self::Unknown, Self::Seen, Self::Silent];

    /// Its class, its sign (so that colour never says it alone), and what it means.
    pub fn shown(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Silent => ("silent", "·", "documented, silent"),
            Self::Seen => ("seen", "✓", "documented, seen"),
            Self::Unknown => ("unknown", "?", "not assessable"),
            Self::Missing => ("missing", "✗", "missing"),
            Self::Unexpected => ("unexpected", "!", "not documented"),
        }
    }
}

impl Pair {
    /// What it comes to.
    pub fn standing(&self) -> Option<Standing> {
        let cases = [
            (self.unexpected > 0, Standing::Unexpected),
            (self.missing > 0, Standing::Missing),
            (self.unknown > 0, Standing::Unknown),
            (self.seen > 0, Standing::Seen),
            (!self.rows.is_empty(), Standing::Silent),
        ];
        cases.into_iter().find(|(holds, _)| *holds).map(|(_, standing)| standing)
    }
}

/// The farm, by the roles that somebody plays.
pub(super) struct Farm<'a> {
    pub policy: &'a Policy,
    /// The roles of hosts, networks and services of the inventory.
    pub roles: RoleSet,
    pub pairs: BTreeMap<(Role, Role), Pair>,
}

impl<'a> Farm<'a> {
    /// The farm of a report that was judged.
    pub fn of(report: &Report<'a>) -> Option<Self> {
        let policy = report.policy?;
        let inventory = &policy.inventory;
        let hosts = inventory.hosts.iter().map(|host| host.roles);
        let networks = inventory.networks.iter().map(|network| network.roles);
        let services = inventory.services.iter().map(|service| RoleSet::one(service.role));
        let roles = hosts.chain(networks).chain(services).fold(RoleSet::default(), RoleSet::with);
        let mut farm = Self { policy, roles, pairs: BTreeMap::new() };
        farm.add_rows(report);
        farm.add_conversations(report);
        report.outcome.findings.iter().for_each(|finding| farm.add_finding(finding));
        Some(farm)
    }

    /// The name of a role.
    pub fn title(&self, role: Role) -> &'a str {
        role.map_or("nobody listed", |role| self.policy.matrix.roles[role].name.as_str())
    }

    /// The stable name of a role.
    pub fn slug(&self, role: Role) -> &'a str {
        role.map_or("none", |role| self.policy.matrix.roles[role].slug.as_str())
    }

    /// The roles that a row's two sides have on this farm.
    pub fn sides(&self, row: usize) -> [RoleSet; 2] {
        let matrix = &self.policy.matrix;
        let row = &matrix.rows[row];
        [row.source, row.destination].map(|role| {
            let role = &matrix.roles[role];
            if role.everybody { self.roles } else { role.members.common(self.roles) }
        })
    }

    fn pair(&mut self, from: Role, to: Role) -> &mut Pair {
        self.pairs.entry((from, to)).or_default()
    }

    fn add_rows(&mut self, report: &Report<'_>) {
        let matrix = &self.policy.matrix;
        for (number, (row, seen)) in matrix.rows.iter().zip(&report.outcome.rows).enumerate() {
            let off = self.policy.feature_state(row) == FeatureState::Off;
            // A row for everybody says nothing about two roles.
            let everybody =
                [row.source, row.destination].iter().any(|r| matrix.roles[*r].everybody);
            if off || everybody || seen.status == Status::RoleAbsent {
                continue;
            }
            let [from, to] = self.sides(number);
            for (from, to) in each(from, to) {
                if from.is_some() && to.is_some() {
                    self.pair(from, to).rows.push(number);
                }
            }
        }
    }

    fn add_conversations(&mut self, report: &Report<'_>) {
        // Conversations of the same roles and row are many.
        let mut kinds: BTreeMap<(RoleSet, RoleSet, Option<usize>), u64> = BTreeMap::new();
        for judged in &report.outcome.judged {
            if matches!(judged.verdict(), Verdict::Documented | Verdict::Excepted) {
                let kind = (judged.client.roles, judged.server.roles, judged.ruling.row);
                *kinds.entry(kind).or_default() += 1;
            }
        }
        for ((client, server, row), count) in kinds {
            let [from, to] = self.narrowed(client, server, row);
            for (from, to) in each(from, to) {
                self.pair(from, to).seen += count;
            }
        }
    }

    fn add_finding(&mut self, finding: &Finding) {
        let matrix = &self.policy.matrix;
        let [client, server] =
            [&finding.client, &finding.server].map(|end| roles_of(matrix, &end.roles));
        let row = matrix.rows.iter().position(|row| row.id == finding.rule);
        // Of what is missing a host is concerned in one of its roles; what it did it did in any of them.
        let group = matrix.groups.get(&finding.group).and_then(|rows| rows.first().copied());
        let [from, to] = match finding.verdict {
            Verdict::Missing | Verdict::NotAssessable => {
                self.narrowed(client, server, row.or(group))
            }
            _ => [client, server],
        };
        for (from, to) in each(from, to) {
            let pair = self.pair(from, to);
            match finding.verdict {
                Verdict::UnexpectedPort | Verdict::Undocumented
                    if finding.severity > Severity::Info =>
                {
                    pair.unexpected += 1;
                }
                Verdict::Missing => pair.missing += 1,
                Verdict::NotAssessable => pair.unknown += 1,
                _ => {}
            }
        }
    }

    /// The roles in which two ends are concerned by a row.
    fn narrowed(&self, client: RoleSet, server: RoleSet, row: Option<usize>) -> [RoleSet; 2] {
        let Some(row) = row else { return [client, server] };
        let [from, to] = self.sides(row);
        let within = |roles: RoleSet, side: RoleSet| {
            let common = roles.common(side);
            if common.is_empty() { roles } else { common }
        };
        [within(client, from), within(server, to)]
    }
}

/// The roles of a list of stable names.
pub(super) fn roles_of(matrix: &Matrix, slugs: &str) -> RoleSet {
    let numbers = slugs.split(';').filter_map(|slug| matrix.role(slug));
    numbers.fold(RoleSet::default(), |set, role| set.with(RoleSet::one(role)))
}

/// Each role of the one with each of the other; none where a set is empty.
fn each(from: RoleSet, to: RoleSet) -> BTreeSet<(Role, Role)> {
    let list = |set: RoleSet| -> Vec<Role> {
        if set.is_empty() { vec![None] } else { set.iter().map(Some).collect() }
    };
    let to = list(to);
    list(from).into_iter().flat_map(|from| to.iter().map(move |to| (from, *to))).collect()
}
