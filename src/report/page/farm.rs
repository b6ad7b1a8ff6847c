//! Summarizes the rows and findings between each pair of roles of the farm.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::classify::{RoleSet, Severity, Status, Verdict};
use crate::model::Transport;
use crate::result::{AuditResult, MatrixRow, Site};

/// The index of a role in the matrix; `None` for parties without a role.
pub(super) type RoleNumber = Option<usize>;

/// The rows, exceptions and findings between two roles.
#[derive(Default)]
pub(super) struct RolePair {
    /// The rows that allow the two roles to communicate.
    pub rows: Vec<usize>,
    /// The rows whose traffic was seen between the two roles.
    seen: BTreeSet<usize>,
    /// The rows whose traffic is missing.
    missing: BTreeSet<usize>,
    /// The rows that could not be assessed.
    not_assessable: BTreeSet<usize>,
    /// The number of conversations that an exception permits.
    pub excepted: u64,
    /// The number of findings above severity info about traffic that is not permitted.
    pub unexpected: u64,
    /// The number of all findings.
    pub findings: u64,
}

/// The overall result of a pair of roles: the worst of all results that apply.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Standing {
    /// Rows allow the roles to communicate, but traffic was neither seen nor expected.
    Silent,
    /// Documented traffic was seen.
    Seen,
    /// Traffic was seen that an exception permits.
    Excepted,
    /// Expected traffic could not be assessed.
    NotAssessable,
    /// Expected traffic is missing.
    Missing,
    /// Traffic was seen that neither a row nor an exception permits.
    Unexpected,
}

impl Standing {
    pub const ALL: [Self; 6] = [
        Self::Unexpected,
        Self::Missing,
        Self::NotAssessable,
        Self::Excepted,
        Self::Seen,
        Self::Silent,
    ];

    /// Returns the CSS class, the symbol and the description. The symbol is needed because colour
    /// alone must not carry the meaning.
    pub fn shown(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Silent => ("silent", "·", "documented, neither seen nor expected"),
            Self::Seen => ("seen", "✓", "documented, seen"),
            Self::Excepted => ("excepted", "≈", "permitted by an exception"),
            Self::NotAssessable => ("unknown", "?", "not assessable"),
            Self::Missing => ("missing", "✗", "missing"),
            Self::Unexpected => ("unexpected", "!", "not documented"),
        }
    }
}

impl RolePair {
    /// Returns the most serious result; `None` if there is no row, no excepted conversation, and no
    /// finding above severity info about traffic that is not permitted.
    pub fn standing(&self) -> Option<Standing> {
        let cases = [
            (self.unexpected > 0, Standing::Unexpected),
            (!self.missing.is_empty(), Standing::Missing),
            (!self.not_assessable.is_empty(), Standing::NotAssessable),
            (self.excepted > 0, Standing::Excepted),
            (!self.seen.is_empty(), Standing::Seen),
            (!self.rows.is_empty(), Standing::Silent),
        ];
        cases.into_iter().find(|(holds, _)| *holds).map(|(_, standing)| standing)
    }

    /// Returns how many rows were seen, how many are missing, and how many could not be assessed.
    pub fn counts(&self) -> [u64; 3] {
        [&self.seen, &self.missing, &self.not_assessable].map(|rows| rows.len() as u64)
    }
}

/// The farm as pairs of the roles that are in use.
pub(super) struct Farm<'a> {
    pub site: &'a Site,
    /// The roles of all hosts, networks and services in the inventory.
    roles: RoleSet,
    /// The roles of each host and network, keyed by name.
    named: HashMap<&'a str, RoleSet>,
    pub pairs: BTreeMap<(RoleNumber, RoleNumber), RolePair>,
}

impl<'a> Farm<'a> {
    /// Returns the farm of a result; `None` if the result was not judged.
    pub fn of(result: &'a AuditResult<'_>) -> Option<Self> {
        let site = result.site()?;
        let hosts = site.hosts.iter().map(|host| host.roles);
        let networks = site.networks.iter().map(|network| network.roles);
        let services = site.services.iter().map(|service| RoleSet::one(service.role));
        let roles = hosts.chain(networks).chain(services).fold(RoleSet::default(), RoleSet::with);
        let hosts = site.hosts.iter().map(|host| (host.name.as_str(), host.roles));
        let networks = site.networks.iter().map(|net| (net.name.as_str(), net.roles));
        let named = networks.chain(hosts).collect();
        let mut farm = Self { site, roles, named, pairs: BTreeMap::new() };
        let rows: Vec<MatrixRow<'_>> = result.matrix_rows().collect();
        farm.add_conversations(result, &rows);
        farm.add_rows(&rows);
        farm.add_findings(result);
        Some(farm)
    }

    /// Returns the name of a role, or `no role` for `None`.
    pub fn title(&self, role: RoleNumber) -> &'a str {
        role.map_or("no role", |role| self.site.roles[role].name.as_str())
    }

    /// Returns the short name of a role, or `no role` for `None`.
    pub fn short_title(&self, role: RoleNumber) -> &'a str {
        role.map_or("no role", |role| self.site.short_title(role))
    }

    /// Returns the slug of a role, or `none` for `None`.
    pub fn slug(&self, role: RoleNumber) -> &'a str {
        role.map_or("none", |role| self.site.roles[role].slug.as_str())
    }

    /// Returns the roles of this farm that can be the source and the destination of a row. Returns
    /// `None` if a feature that the row needs is off, or if one side is any host: such a row does
    /// not describe a pair of roles.
    fn sides(&self, number: usize) -> Option<[RoleSet; 2]> {
        let row = &self.site.rows[number];
        let roles = [row.source, row.destination].map(|role| &self.site.roles[role]);
        (!row.is_off && roles.iter().all(|role| !role.everybody))
            .then(|| roles.map(|role| role.members.common(self.roles)))
    }

    fn pair(&mut self, from: RoleNumber, to: RoleNumber) -> &mut RolePair {
        self.pairs.entry((from, to)).or_default()
    }

    /// Adds, for each pair of roles, the rows whose traffic its conversations show and the number
    /// of conversations that an exception permits.
    fn add_conversations(&mut self, result: &AuditResult<'_>, rows: &[MatrixRow<'_>]) {
        type ExceptionKey = (RoleSet, RoleSet, Transport, u16, Option<usize>);
        let mut kinds = BTreeSet::<ExceptionKey>::new();
        for talk in result.conversation_briefs() {
            let Some([client, server]) = talk.parties.map(|both| both.map(|party| party.roles))
            else {
                continue;
            };
            match talk.verdict {
                Some(Verdict::Documented) => {
                    kinds.insert((client, server, talk.transport, talk.port, talk.row));
                }
                Some(Verdict::Excepted) => {
                    role_pairs(client, server).for_each(|(a, b)| self.pair(a, b).excepted += 1);
                }
                _ => {}
            }
        }
        let site = self.site;
        for (client, server, transport, port, decided) in kinds {
            let transport = transport.to_string();
            for (number, (row, named)) in site.rows.iter().zip(rows).enumerate() {
                if named.status != Status::Seen.name() {
                    continue;
                }
                let covers =
                    named.transport == transport && (row.ports.0..=row.ports.1).contains(&port);
                let Some([from, to]) = self.sides(number) else { continue };
                // Only the roles that the row names count. A broadcast has no server role, so no
                // row applies to it here.
                let from = client.common(from);
                let to = server.common(to);
                if (covers || decided == Some(number)) && !from.is_empty() && !to.is_empty() {
                    role_pairs(from, to).for_each(|(a, b)| self.pair(a, b).seen.extend([number]));
                }
            }
        }
    }

    /// Adds each row and its status to the pairs that the row applies to.
    fn add_rows(&mut self, rows: &[MatrixRow<'_>]) {
        for (number, seen) in rows.iter().enumerate() {
            let Some([from, to]) = self.sides(number) else { continue };
            if from.is_empty() || to.is_empty() {
                continue;
            }
            role_pairs(from, to).for_each(|(a, b)| self.pair(a, b).rows.push(number));
            // Returns the source roles that the named hosts have, or all source roles if they have
            // none of them.
            let named = |names: &[String]| {
                let roles = names.iter().filter_map(|name| self.named.get(name.as_str()).copied());
                let roles = roles.fold(RoleSet::default(), RoleSet::with).common(from);
                if roles.is_empty() { from } else { roles }
            };
            match Status::parse(&seen.status) {
                Some(Status::Missing) => {
                    let from = named(&seen.source_hosts_missing);
                    role_pairs(from, to)
                        .for_each(|(a, b)| self.pair(a, b).missing.extend([number]));
                }
                Some(Status::NotAssessable) => {
                    role_pairs(from, to)
                        .for_each(|(a, b)| self.pair(a, b).not_assessable.extend([number]));
                }
                Some(Status::Seen)
                    if !role_pairs(from, to).any(|pair| {
                        self.pairs.get(&pair).is_some_and(|pair| pair.seen.contains(&number))
                    }) =>
                {
                    // The row was seen through a server name, a moved port or a broadcast, and the
                    // roles in such a conversation do not match those of the row.
                    let from = named(&seen.source_hosts_seen);
                    role_pairs(from, to).for_each(|(a, b)| self.pair(a, b).seen.extend([number]));
                }
                _ => {}
            }
        }
    }

    fn add_findings(&mut self, result: &AuditResult<'_>) {
        for finding in result.briefs() {
            let [from, to] = finding.roles;
            let is_violation =
                matches!(finding.verdict, Some(Verdict::UnexpectedPort | Verdict::Undocumented));
            let unexpected = finding.severity > Severity::Info && is_violation;
            for (a, b) in role_pairs(from, to) {
                let pair = self.pair(a, b);
                pair.findings += 1;
                pair.unexpected += u64::from(unexpected);
            }
        }
    }
}

/// Returns every pair of a role in `from` and a role in `to`. An empty set counts as `None`.
fn role_pairs(from: RoleSet, to: RoleSet) -> impl Iterator<Item = (RoleNumber, RoleNumber)> {
    let list = |set: RoleSet| -> Vec<RoleNumber> {
        if set.is_empty() { vec![None] } else { set.iter().map(Some).collect() }
    };
    let to = list(to);
    list(from).into_iter().flat_map(move |a| to.clone().into_iter().map(move |b| (a, b)))
}
