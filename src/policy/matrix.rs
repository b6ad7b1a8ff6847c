//! The port matrix as data: rows, roles, features, background traffic, severities.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;

use super::csv_file::{Record, each_record};
use super::{Problem, Problems, RuleFiles, nearest};
use crate::model::{Transport, words};

/// A set of roles of one matrix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct RoleSet(u128);

impl RoleSet {
    /// The most roles that a matrix may have.
    const MAX: usize = 128;

    /// The set of one role.
    pub fn one(role: usize) -> Self {
        Self(1 << role)
    }

    /// Both sets together.
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The roles in both sets.
    pub fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether there is no role.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the sets share a role.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The roles, by number.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..Self::MAX).filter(move |role| self.0 >> role & 1 == 1)
    }
}

/// A role as the matrix knows it.
#[derive(Clone, Debug)]
pub struct Role {
    /// Its stable name.
    pub slug: String,
    /// Its name in this product version.
    pub name: String,
    /// Other names that an inventory may use: of other product versions.
    pub aliases: Vec<String>,
    /// `client`, `ras-component`, `infrastructure`, `external-service`, `hypervisor`, `group` or
    /// `pseudo`.
    pub kind: String,
    /// The roles that it stands for; itself where it is no group.
    pub members: RoleSet,
    /// It stands for every address, in the inventory or not.
    pub everybody: bool,
}

impl Role {
    /// Whether a host can play it: groups and pseudo roles stand for others.
    pub fn is_playable(&self) -> bool {
        !matches!(self.kind.as_str(), "group" | "pseudo")
    }
}

words!(
    /// Where a row's traffic goes.
    Scope {
        /// From host to host.
        Network = "network",
        /// To or from the internet.
        Internet = "internet",
        /// To a broadcast or multicast address.
        Broadcast = "broadcast",
        /// Inside one host.
        Localhost = "localhost",
    }
);

words!(
    /// What silence means.
    Expectation {
        /// Silence in a long capture is a finding.
        Steady = "steady",
        /// Silence means nothing.
        OnDemand = "on-demand",
        /// Only with its feature; then as on demand.
        Feature = "feature",
        /// Never on a span.
        Localhost = "localhost",
    }
);

words!(
    /// Which pairs of hosts have to show a group's traffic.
    Quantifier {
        /// Each source reaches at least one destination.
        AnyDestination = "any-destination",
        /// One host of the source role is enough.
        OneSource = "one-source",
        /// One direction between each two hosts is enough.
        EitherDirection = "either-direction",
        /// Each source reaches each destination.
        EveryPair = "every-pair",
    }
);

words!(
    /// How much a finding weighs.
    Severity {
        /// Nothing to do.
        Info = "info",
        /// Look at it some day.
        Low = "low",
        /// Look at it.
        Medium = "medium",
        /// Look at it now.
        High = "high",
        /// Drop everything.
        Critical = "critical",
    }
);

/// One row of the matrix: a source role may open these ports of a destination role.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its stable name.
    pub id: String,
    /// The table of the vendor's document that it stands in.
    pub section: String,
    /// The source role's number.
    pub source: usize,
    /// The destination role's number.
    pub destination: usize,
    /// TCP, UDP, or an IP protocol without ports.
    pub transport: Transport,
    /// The ports; for IP protocols zero alone.
    pub ports: RangeInclusive<u16>,
    /// The features that it needs, all of them.
    pub features: Vec<String>,
    /// Where its traffic goes.
    pub scope: Scope,
    /// What silence means.
    pub expectation: Expectation,
    /// What the traffic is for.
    pub purpose: String,
    /// The document and line it comes from.
    pub provenance: String,
    /// How sure the transcription is.
    pub certainty: String,
    /// What is doubtful or particular.
    pub note: String,
    /// Rows that serve one purpose share a group.
    pub group: String,
    /// Which pairs of hosts have to show the group's traffic.
    pub quantifier: Quantifier,
    /// Groups any of which, when seen, makes this row expected.
    pub triggers: Vec<String>,
    /// Seconds to be watched before silence means anything.
    pub watch_s: u64,
    /// Its line in the file.
    pub line: usize,
}

impl Row {
    /// Whether its traffic has to show: always, or after a trigger.
    pub fn is_expected(&self) -> bool {
        self.expectation == Expectation::Steady || !self.triggers.is_empty()
    }

    /// Whether the document's reading is in doubt, so that a finding decided by it must say so.
    pub fn is_doubtful(&self) -> bool {
        self.certainty == "inferred"
    }

    /// The ports in words.
    pub fn ports_text(&self) -> String {
        match (self.ports.start(), self.ports.end()) {
            _ if !self.transport.has_ports() => String::new(),
            (low, high) if low == high => low.to_string(),
            (low, high) => format!("{low}-{high}"),
        }
    }
}

/// Traffic that belongs to no product: only to a broadcast, multicast or link-local address or the
/// direct answer to such, and ICMP.
#[derive(Clone, Debug)]
pub struct Background {
    /// Its stable name.
    pub id: String,
    /// The protocol above IP.
    pub transport: Transport,
    /// The server port; none matches every one.
    pub port: Option<u16>,
    /// It is background towards any address (ICMP).
    pub anywhere: bool,
}

/// Severity by verdict and code, for what was reached and for what was only attempted.
#[derive(Clone, Default, Debug)]
pub struct SeverityTable(HashMap<(String, String), (Severity, Severity)>);

impl SeverityTable {
    /// The severity of a code.
    pub fn get(&self, verdict: &str, code: &str, reached: bool) -> Severity {
        let key = (verdict.to_owned(), code.to_owned());
        let found = self.0.get(&key).or_else(|| self.0.get(&(key.0, "*".to_owned())));
        found.map_or(Severity::Info, |(r, attempted)| if reached { *r } else { *attempted })
    }
}

/// A port matrix with everything it speaks of.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// Its name, as an inventory gives it.
    pub name: String,
    /// The product version, in words.
    pub title: String,
    /// SHA-256 over its files.
    pub sha256: String,
    /// Its roles, by number.
    pub roles: Vec<Role>,
    /// Its rows, in the order of the file.
    pub rows: Vec<Row>,
    /// Its features, each with what it is.
    pub features: BTreeMap<String, String>,
    /// Names of external services, by role number.
    pub services: Vec<(usize, String)>,
    /// Traffic that belongs to no product.
    pub background: Vec<Background>,
    /// How much findings weigh.
    pub severities: SeverityTable,
    /// The positions of the rows of each group, by group name.
    pub groups: BTreeMap<String, Vec<usize>>,
}

impl Matrix {
    /// The number of a role.
    pub fn role(&self, slug: &str) -> Option<usize> {
        self.roles.iter().position(|r| r.slug == slug)
    }

    /// The number of a playable role by its slug or a product name of any version; else what is
    /// wrong.
    pub fn playable_role(&self, name: &str) -> Result<usize, String> {
        // The vendor's own pages write "RAS" before a name or leave it out.
        let plain = |name: &str| name.trim().to_lowercase().trim_start_matches("ras ").to_owned();
        let wanted = plain(name);
        let named = |role: &Role| {
            role.slug == wanted
                || plain(&role.name) == wanted
                || role.aliases.iter().any(|a| plain(a) == wanted)
        };
        let matching = self.roles.iter().enumerate().filter(|(_, r)| named(r));
        match matching.min_by_key(|(_, r)| (r.slug != wanted, !r.is_playable())) {
            Some((number, role)) if role.is_playable() => Ok(number),
            Some((_, role)) if role.kind == "group" && !role.everybody => Err(format!(
                "\"{name}\" stands for several roles; give the one the host plays: {}",
                self.role_names(role.members).join(", ")
            )),
            Some(_) => Err(format!("\"{name}\" is no role that a host can play")),
            None => {
                let playable = self.roles.iter().filter(|r| r.is_playable());
                let known = playable.flat_map(|r| {
                    [&r.slug, &r.name].into_iter().chain(&r.aliases).map(String::as_str)
                });
                Err(format!("unknown role \"{name}\"{}", nearest(name, known)))
            }
        }
    }

    /// The slugs of a set, in the order of the roles.
    pub fn role_names(&self, roles: RoleSet) -> Vec<&str> {
        roles.iter().map(|r| self.roles[r].slug.as_str()).collect()
    }

    /// Whether a row's source side takes a party with these roles.
    pub fn is_source(&self, row: &Row, roles: RoleSet) -> bool {
        let role = &self.roles[row.source];
        role.everybody || role.members.meets(roles)
    }

    /// Whether a row's destination side takes a party with these roles.
    pub fn is_destination(&self, row: &Row, roles: RoleSet) -> bool {
        let role = &self.roles[row.destination];
        role.everybody || role.members.meets(roles)
    }

    pub(super) fn load(files: &RuleFiles) -> Result<Self, Vec<Problem>> {
        let mut matrix = Self {
            name: files.name.clone(),
            title: files.title.clone(),
            sha256: files.sha256(),
            roles: Vec::new(),
            rows: Vec::new(),
            features: BTreeMap::new(),
            services: Vec::new(),
            background: Vec::new(),
            severities: SeverityTable::default(),
            groups: BTreeMap::new(),
        };
        // Each file is read whole, so that the problems of all of them are told at once.
        let mut problems = Vec::new();
        problems.extend(matrix.load_roles(files.file("roles.csv")).err().into_iter().flatten());
        problems
            .extend(matrix.load_features(files.file("features.csv")).err().into_iter().flatten());
        problems.extend(matrix.load_rows(files.file("matrix.csv")).err().into_iter().flatten());
        problems
            .extend(matrix.load_services(files.file("services.csv")).err().into_iter().flatten());
        problems.extend(
            matrix.load_background(files.file("background.csv")).err().into_iter().flatten(),
        );
        problems
            .extend(matrix.load_severities(files.file("severity.csv")).err().into_iter().flatten());
        if problems.is_empty() { Ok(matrix) } else { Err(problems) }
    }

    fn load_roles(&mut self, (file, text): (&str, &str)) -> Result<(), Vec<Problem>> {
        let mut problems = Problems::of(file);
        let mut members = Vec::new();
        each_record(text, &["slug", "name", "kind"], &mut problems, |record, problems| {
            let slug = record.get("slug").to_owned();
            if self.role(&slug).is_some() {
                problems.add(record.line, format!("the role \"{slug}\" stands here twice"));
            }
            if self.roles.len() == RoleSet::MAX {
                return problems.add(record.line, format!("more than {} roles", RoleSet::MAX));
            }
            let list: Vec<_> = record.list("members").map(str::to_owned).collect();
            members.push((record.line, list.clone()));
            self.roles.push(Role {
                slug,
                name: record.get("name").to_owned(),
                aliases: record.list("aliases").map(str::to_owned).collect(),
                kind: record.get("kind").to_owned(),
                members: RoleSet::one(self.roles.len()),
                everybody: list == ["*"],
            });
        });
        for (number, (line, list)) in members.into_iter().enumerate() {
            if list.is_empty() || self.roles[number].everybody {
                continue;
            }
            let mut set = RoleSet::default();
            for member in list {
                match self.role(&member) {
                    Some(role) => set = set.with(RoleSet::one(role)),
                    None => problems.add(line, self.unknown_role(&member)),
                }
            }
            self.roles[number].members = set;
        }
        problems.or(())
    }

    fn unknown_role(&self, slug: &str) -> String {
        format!(
            "unknown role \"{slug}\"{}",
            nearest(slug, self.roles.iter().map(|r| r.slug.as_str()))
        )
    }

    fn load_features(&mut self, (file, text): (&str, &str)) -> Result<(), Vec<Problem>> {
        let mut problems = Problems::of(file);
        if text.is_empty() {
            return Ok(());
        }
        each_record(text, &["feature", "meaning"], &mut problems, |record, problems| {
            let feature = record.get("feature").to_owned();
            let meaning = record.get("meaning").to_owned();
            if self.features.insert(feature.clone(), meaning).is_some() {
                problems.add(record.line, format!("the feature \"{feature}\" stands here twice"));
            }
        });
        problems.or(())
    }

    fn load_rows(&mut self, (file, text): (&str, &str)) -> Result<(), Vec<Problem>> {
        const COLUMNS: &[&str] = &[
            "id",
            "section",
            "source_role",
            "destination_role",
            "transport",
            "port_low",
            "port_high",
            "condition",
            "scope",
            "expectation",
            "purpose",
            "provenance",
            "certainty",
            "group",
            "quantifier",
            "trigger",
            "watch_s",
        ];
        let mut problems = Problems::of(file);
        let mut ids = BTreeSet::new();
        each_record(text, COLUMNS, &mut problems, |record, problems| {
            if !ids.insert(record.get("id").to_owned()) {
                problems
                    .add(record.line, format!("the id \"{}\" stands here twice", record.get("id")));
            }
            if let Some(row) = self.row(&record, problems) {
                self.groups.entry(row.group.clone()).or_default().push(self.rows.len());
                self.rows.push(row);
            }
        });
        for row in &self.rows {
            for trigger in &row.triggers {
                if !self.groups.contains_key(trigger) {
                    let near = nearest(trigger, self.groups.keys().map(String::as_str));
                    problems.add(row.line, format!("unknown trigger group \"{trigger}\"{near}"));
                }
            }
        }
        problems.or(())
    }

    /// One row; none, with all its problems told, where it cannot be read.
    fn row(&self, record: &Record<'_>, problems: &mut Problems) -> Option<Row> {
        let line = record.line;
        let mut word = |column: &str,
                        value: Option<usize>,
                        known: &mut dyn Iterator<Item = &str>| {
            if value.is_none() {
                let text = record.get(column);
                problems.add(line, format!("{column}: unknown \"{text}\"{}", nearest(text, known)));
            }
            value
        };
        let names = |list: &'static [&'static str]| list.iter().copied();
        let roles = || self.roles.iter().map(|r| r.slug.as_str());
        let source = word("source_role", self.role(record.get("source_role")), &mut roles());
        let destination =
            word("destination_role", self.role(record.get("destination_role")), &mut roles());
        let scope = Scope::parse(record.get("scope"));
        word("scope", scope.map(|s| s as usize), &mut names(Scope::NAMES));
        let expectation = Expectation::parse(record.get("expectation"));
        word("expectation", expectation.map(|e| e as usize), &mut names(Expectation::NAMES));
        let quantifier = match record.get("quantifier") {
            "" => Some(Quantifier::AnyDestination),
            text => Quantifier::parse(text),
        };
        word("quantifier", quantifier.map(|q| q as usize), &mut names(Quantifier::NAMES));
        let features: Vec<String> = record
            .get("condition")
            .split('+')
            .filter(|f| !f.is_empty())
            .map(|f| f.trim().to_owned())
            .collect();
        for feature in &features {
            let known = self.features.contains_key(feature).then_some(0);
            word("condition", known, &mut self.features.keys().map(String::as_str));
        }
        let mut number = |column: &str| -> Option<u16> {
            let value = record.get(column).parse().ok();
            if value.is_none() {
                problems.add(
                    line,
                    format!("{column}: \"{}\" is no number up to 65535", record.get(column)),
                );
            }
            value
        };
        let (low, high) = (number("port_low")?, number("port_high")?);
        let (transport, ports) = match record.get("transport") {
            "ip" => (u8::try_from(low).ok().map(Transport), 0..=0),
            text => (Transport::parse(text).filter(|t| t.has_ports()), low..=high),
        };
        if transport.is_none() {
            problems.add(
                line,
                format!("transport: \"{}\" is not tcp, udp, sctp or ip", record.get("transport")),
            );
        }
        if low > high {
            problems.add(line, format!("port_low {low} is above port_high {high}"));
        }
        let watch_s = match record.get("watch_s") {
            "" => Some(0),
            text => text.parse().ok(),
        };
        if watch_s.is_none() {
            problems.add(
                line,
                format!("watch_s: \"{}\" is no number of seconds", record.get("watch_s")),
            );
        }
        for column in ["id", "group", "provenance"] {
            if record.get(column).is_empty() {
                problems.add(line, format!("{column} is empty"));
            }
        }
        Some(Row {
            id: record.get("id").to_owned(),
            section: record.get("section").to_owned(),
            source: source?,
            destination: destination?,
            transport: transport?,
            ports,
            features,
            scope: scope?,
            expectation: expectation?,
            purpose: record.get("purpose").to_owned(),
            provenance: record.get("provenance").to_owned(),
            certainty: record.get("certainty").to_owned(),
            note: record.get("note").to_owned(),
            group: record.get("group").to_owned(),
            quantifier: quantifier?,
            triggers: record.list("trigger").map(str::to_owned).collect(),
            watch_s: watch_s?,
            line,
        })
    }

    fn load_services(&mut self, (file, text): (&str, &str)) -> Result<(), Vec<Problem>> {
        let mut problems = Problems::of(file);
        if text.is_empty() {
            return Ok(());
        }
        each_record(text, &["role", "name"], &mut problems, |record, problems| {
            match self.role(record.get("role")) {
                Some(role) => self.services.push((role, record.get("name").to_lowercase())),
                None => problems.add(record.line, self.unknown_role(record.get("role"))),
            }
        });
        problems.or(())
    }

    fn load_background(&mut self, (file, text): (&str, &str)) -> Result<(), Vec<Problem>> {
        let mut problems = Problems::of(file);
        each_record(
            text,
            &["id", "transport", "port", "towards"],
            &mut problems,
            |record, problems| {
                let Some(transport) = Transport::parse(record.get("transport")) else {
                    return problems.add(
                        record.line,
                        format!("unknown transport \"{}\"", record.get("transport")),
                    );
                };
                if transport == Transport::TCP {
                    return problems.add(record.line, "TCP is never background");
                }
                let port = record.get("port");
                if !port.is_empty() && port.parse::<u16>().is_err() {
                    return problems.add(record.line, format!("\"{port}\" is no port"));
                }
                self.background.push(Background {
                    id: record.get("id").to_owned(),
                    transport,
                    port: port.parse().ok(),
                    anywhere: record.get("towards") == "anywhere",
                });
            },
        );
        problems.or(())
    }

    fn load_severities(&mut self, (file, text): (&str, &str)) -> Result<(), Vec<Problem>> {
        let mut problems = Problems::of(file);
        each_record(
            text,
            &["verdict", "code", "reached", "attempted"],
            &mut problems,
            |record, problems| {
                let mut level = |column| {
                    let text = record.get(column);
                    let level = Severity::parse(text);
                    if level.is_none() {
                        let near = nearest(text, Severity::NAMES.iter().copied());
                        problems.add(
                            record.line,
                            format!("{column}: unknown severity \"{text}\"{near}"),
                        );
                    }
                    level
                };
                if let (Some(reached), Some(attempted)) = (level("reached"), level("attempted")) {
                    let key = (record.get("verdict").to_owned(), record.get("code").to_owned());
                    self.severities.0.insert(key, (reached, attempted));
                }
            },
        );
        problems.or(())
    }
}
