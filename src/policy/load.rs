//! Loads rule files into a matrix. The problems of all files are reported together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::csv_file::{CsvRecord, each_record};
use super::rules::RuleFile;
use super::{
    Background, Certainty, Diagnostic, Diagnostics, EndpointTarget, Example, ExampleTarget,
    Expectation, Exposure, Feature, Matrix, Pattern, PolicyError, Quantifier, Role, RoleKind,
    RoleSet, Row, RuleFiles, Scope, Severity, SeverityTable, SourceDocument, Trait, nearest,
};
use crate::model::Transport;

impl Matrix {
    pub(super) fn load(files: &RuleFiles) -> Result<Self, Vec<Diagnostic>> {
        let mut matrix = Self {
            name: files.name.clone(),
            title: files.name.clone(),
            prefix: String::new(),
            sha256: files.sha256(),
            roles: Vec::new(),
            rows: Vec::new(),
            unused_overlays: Vec::new(),
            features: BTreeMap::new(),
            services: Vec::new(),
            background: Vec::new(),
            severities: SeverityTable::default(),
            groups: BTreeMap::new(),
            overlays: files.overlays.iter().map(|overlay| overlay.name.clone()).collect(),
            documents: Vec::new(),
        };
        let mut loader =
            MatrixLoader { matrix: &mut matrix, problems: Vec::new(), ids: BTreeSet::new() };
        loader.meta(files.file("meta.toml"));
        loader.read(files.file("roles.csv"), &["slug", "name", "kind"], MatrixLoader::roles);
        loader.read(files.file("features.csv"), &["feature", "meaning"], MatrixLoader::features);
        loader.read(files.file("matrix.csv"), MATRIX_COLUMNS, MatrixLoader::rows);
        loader.read(files.file("endpoints.csv"), ENDPOINT_COLUMNS, MatrixLoader::rows);
        for overlay in &files.overlays {
            loader.overlay(overlay);
        }
        for overlay in files.unused_overlays() {
            loader.unused_overlay(&overlay);
        }
        loader.read(files.file("services.csv"), &["role", "name"], MatrixLoader::services);
        let columns = &["verdict", "code", "reached", "attempted"];
        loader.read(files.file("severity.csv"), columns, MatrixLoader::severities);
        loader.triggers();
        if loader.matrix.rows.is_empty() && loader.problems.is_empty() {
            let file = files.file("matrix.csv").0.to_owned();
            let message = "the file has no rows".to_owned();
            loader.problems.push(Diagnostic { file, line: 0, message });
        }
        let problems = loader.problems;
        if problems.is_empty() { Ok(matrix) } else { Err(problems) }
    }
}

/// The columns that a matrix must have. Any other column has a default if it is missing.
const MATRIX_COLUMNS: &[&str] = &[
    "id",
    "source_role",
    "destination_role",
    "transport",
    "port_low",
    "port_high",
    "purpose",
    "provenance",
];

const ENDPOINT_COLUMNS: &[&str] =
    &["id", "source_role", "destination", "transport", "port", "purpose", "provenance"];

const BACKGROUND_COLUMNS: &[&str] = &["id", "transport", "port", "towards"];

/// The content of `meta.toml` in a folder of rules.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RulesMeta {
    /// The name of the product and its version.
    title: Option<String>,
    /// A word that may precede role names.
    prefix: Option<String>,
    /// The documents that rows come from.
    #[serde(default)]
    document: Vec<SourceDocument>,
}

/// The file that is being read.
struct FileContext<'a> {
    file: Arc<str>,
    /// The name of the overlay, if the file is an overlay.
    overlay: Option<&'a str>,
    problems: Diagnostics,
}

impl FileContext<'_> {
    fn add(&mut self, record: &CsvRecord<'_>, message: impl Into<String>) {
        self.problems.add(record.line, message);
    }

    /// Returns `value`, the parsed value of a cell. If it is `None`, reports the cell and suggests
    /// the most similar `known` word.
    fn word<T>(
        &mut self,
        record: &CsvRecord<'_>,
        column: &str,
        value: Option<T>,
        known: &[&str],
    ) -> Option<T> {
        if value.is_none() {
            let text = record.get(column);
            let known = known.iter().copied();
            self.add(record, format!("{column}: unknown value \"{text}\"{}", nearest(text, known)));
        }
        value
    }

    /// Returns the number in a cell, or zero if the cell is empty. If the cell does not contain a
    /// number, returns `None` and reports the cell with `what`, such as "not a number of seconds".
    fn number<T: std::str::FromStr + Default>(
        &mut self,
        record: &CsvRecord<'_>,
        column: &str,
        what: &str,
    ) -> Option<T> {
        match record.get(column) {
            "" => Some(T::default()),
            text => {
                let value = text.parse().ok();
                if value.is_none() {
                    self.add(record, format!("{column}: \"{text}\" is {what}"));
                }
                value
            }
        }
    }
}

/// The columns of all rule files. A site can add other columns. They are ignored unless their names
/// look like misspellings.
const COLUMNS: &[&str] = &[
    "aliases",
    "announced_by",
    "condition",
    "optional",
    "attempted",
    "certainty",
    "code",
    "default",
    "destination",
    "destination_role",
    "example",
    "expectation",
    "exposure",
    "feature",
    "features",
    "group",
    "id",
    "kind",
    "meaning",
    "members",
    "multicast",
    "name",
    "note",
    "pause_s",
    "port",
    "port_high",
    "port_low",
    "provenance",
    "purpose",
    "quantifier",
    "reached",
    "role",
    "scope",
    "section",
    "short",
    "slug",
    "source_role",
    "towards",
    "traits",
    "transport",
    "trigger",
    "verdict",
    "watch_s",
];

/// Reports columns whose names look like misspellings of known ones, because their cells would be
/// ignored.
fn misspelt(text: &str, problems: &mut Diagnostics) {
    let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    let Some((number, header)) = lines.find(|(_, line)| !line.starts_with('#')) else {
        return;
    };
    for column in header.split(',').map(|name| name.trim().trim_matches('"')) {
        if COLUMNS.contains(&column) {
            continue;
        }
        let near = nearest(column, COLUMNS.iter().copied());
        if !near.is_empty() {
            problems.add(number + 1, format!("unknown column \"{column}\"{near}"));
        }
    }
}

struct MatrixLoader<'m> {
    matrix: &'m mut Matrix,
    problems: Vec<Diagnostic>,
    ids: BTreeSet<String>,
}

impl MatrixLoader<'_> {
    /// Reads the title of the matrix, the prefix of its role names, and the list of its documents.
    /// All of them are optional.
    fn meta(&mut self, (file, text): (&str, &str)) {
        let mut problems = Diagnostics::of(file);
        match toml::from_str::<RulesMeta>(text) {
            Ok(RulesMeta { title, prefix, document }) => {
                self.matrix.documents = document;
                self.matrix.title = title.unwrap_or_else(|| self.matrix.name.clone());
                self.matrix.prefix = prefix.unwrap_or_default();
            }
            Err(error) => {
                let before = error.span().map_or(0, |span| span.start).min(text.len());
                let line = text.as_bytes()[..before].iter().filter(|b| **b == b'\n').count() + 1;
                problems.add(line, error.message().to_owned());
            }
        }
        self.problems.extend(problems.or(()).err().into_iter().flatten());
    }

    /// Reads a CSV file and passes each row to `each`. Collects the problems, so that those of all
    /// files are reported together.
    fn read(
        &mut self,
        file: (&str, &str),
        columns: &[&str],
        each: fn(&mut Self, &CsvRecord<'_>, &mut FileContext<'_>),
    ) {
        self.read_as(None, file, columns, each);
    }

    fn read_as(
        &mut self,
        overlay: Option<&str>,
        (file, text): (&str, &str),
        columns: &[&str],
        each: fn(&mut Self, &CsvRecord<'_>, &mut FileContext<'_>),
    ) {
        // The name is empty if the file does not exist. A file that exists but is empty is
        // reported, because its columns are missing.
        if file.is_empty() {
            return;
        }
        let mut problems = Diagnostics::of(file);
        misspelt(text, &mut problems);
        let mut reading =
            FileContext { file: file.into(), overlay, problems: Diagnostics::of(file) };
        each_record(text, columns, &mut problems, |record, _| each(self, &record, &mut reading));
        if columns.contains(&"slug") {
            self.members(text, &mut reading);
        }
        for found in [problems, reading.problems] {
            self.problems.extend(found.or(()).err().into_iter().flatten());
        }
    }

    /// Reads an overlay, which contains either rows or background traffic, depending on its
    /// columns.
    fn overlay(&mut self, overlay: &RuleFile) {
        let file = (overlay.shown.as_str(), overlay.text.as_str());
        if overlay.is_background() {
            self.read(file, BACKGROUND_COLUMNS, Self::background)
        } else {
            self.read_as(Some(&overlay.name), file, MATRIX_COLUMNS, Self::rows)
        }
    }

    /// Reads the rows of a built-in overlay that is not in use. Problems are ignored, because a
    /// site's own matrix may not have the roles of these rows.
    fn unused_overlay(&mut self, overlay: &RuleFile) {
        let mut problems = Diagnostics::of(&overlay.shown);
        let mut reading = FileContext {
            file: overlay.shown.as_str().into(),
            overlay: Some(&overlay.name),
            problems: Diagnostics::of(&overlay.shown),
        };
        each_record(&overlay.text, MATRIX_COLUMNS, &mut problems, |record, _| {
            let row = self.row(&record, &mut reading);
            self.matrix.unused_overlays.extend(row);
        });
    }

    fn roles(&mut self, record: &CsvRecord<'_>, reading: &mut FileContext<'_>) {
        let slug = record.get("slug").to_owned();
        if self.matrix.role(&slug).is_some() {
            reading.add(record, format!("duplicate role \"{slug}\""));
        }
        if self.matrix.roles.len() == RoleSet::MAX {
            return reading.add(record, format!("there are more than {} roles", RoleSet::MAX));
        }
        let kind = match record.get("kind") {
            // Rules that were written for earlier versions contain this word and lack the column
            // `traits`. Nothing else would report that the column is missing.
            "ras-component" => {
                reading.add(
                    record,
                    "kind: \"ras-component\" is now named \"component\"; the column traits states which roles are anybody, entrance and directory (see rules/ras-19/roles.csv)",
                );
                None
            }
            kind => reading.word(record, "kind", RoleKind::parse(kind), RoleKind::NAMES),
        };
        let mut traits = Vec::new();
        for word in record.list("traits") {
            match Trait::parse(word) {
                Some(known) => traits.push(known),
                None => {
                    let near = nearest(word, Trait::NAMES.iter().copied());
                    reading.add(record, format!("traits: unknown value \"{word}\"{near}"));
                }
            }
        }
        let kind = kind.unwrap_or(RoleKind::Infrastructure);
        self.matrix.roles.push(Role {
            slug,
            name: record.get("name").to_owned(),
            short: record.get("short").to_owned(),
            aliases: record.list("aliases").map(str::to_owned).collect(),
            kind,
            traits,
            members: RoleSet::one(self.matrix.roles.len()),
            is_any: record.get("members") == "*",
        });
    }

    /// Reads the members of groups after all roles, because a group may precede its members.
    fn members(&mut self, text: &str, reading: &mut FileContext<'_>) {
        let mut ignored = Diagnostics::default();
        each_record(text, &[], &mut ignored, |record, _| {
            let Some(number) = self.matrix.role(record.get("slug")) else { return };
            if self.matrix.roles[number].is_any {
                return;
            }
            let mut set = RoleSet::default();
            for member in record.list("members") {
                match self.matrix.role(member) {
                    Some(role) => set = set.with(RoleSet::one(role)),
                    None => reading.add(&record, self.unknown_role(member).to_string()),
                }
            }
            if !set.is_empty() {
                self.matrix.roles[number].members = set;
            }
        });
    }

    fn unknown_role(&self, slug: &str) -> PolicyError {
        let known = self.matrix.roles.iter().map(|r| r.slug.as_str());
        PolicyError::UnknownSlug { slug: slug.to_owned(), near: nearest(slug, known) }
    }

    fn features(&mut self, record: &CsvRecord<'_>, reading: &mut FileContext<'_>) {
        let name = record.get("feature").to_owned();
        let usual = match record.get("default") {
            "on" => true,
            "off" | "" => false,
            other => {
                return reading.add(record, format!("default must be on or off, not \"{other}\""));
            }
        };
        let feature = Feature { meaning: record.get("meaning").to_owned(), usual };
        if self.matrix.features.insert(name.clone(), feature).is_some() {
            reading.add(record, format!("duplicate feature \"{name}\""));
        }
    }

    fn rows(&mut self, record: &CsvRecord<'_>, reading: &mut FileContext<'_>) {
        if !self.ids.insert(record.get("id").to_owned()) {
            reading.add(record, format!("duplicate id \"{}\"", record.get("id")));
        }
        if let Some(row) = self.row(record, reading) {
            let groups = &mut self.matrix.groups;
            groups.entry(row.group.clone()).or_default().push(self.matrix.rows.len());
            self.matrix.rows.push(row);
        }
    }

    /// Reads one row. If it is not valid, reports its problems and returns `None`.
    fn row(&self, record: &CsvRecord<'_>, reading: &mut FileContext<'_>) -> Option<Row> {
        let source = self.role(record, "source_role", reading);
        let (destination, only) = match record.get("destination") {
            "" => (self.role(record, "destination_role", reading), None),
            text => self.endpoint(text, record, reading),
        };
        let scope = match record.get("scope") {
            "" if only.is_some() => Some(Scope::Internet),
            "" => Some(Scope::Network),
            text => reading.word(record, "scope", Scope::parse(text), Scope::NAMES),
        };
        let expectation = match record.get("expectation") {
            "" => Some(Expectation::OnDemand),
            text => {
                let value = Expectation::parse(text);
                reading.word(record, "expectation", value, Expectation::NAMES)
            }
        };
        let quantifier = match record.get("quantifier") {
            "" => Some(Quantifier::AnyDestination),
            text => {
                let value = Quantifier::parse(text);
                reading.word(record, "quantifier", value, Quantifier::NAMES)
            }
        };
        let certainty = match record.get("certainty") {
            "" => Some(Certainty::Document),
            text => reading.word(record, "certainty", Certainty::parse(text), Certainty::NAMES),
        };
        let exposure = match record.get("exposure") {
            "" => Some(None),
            text => {
                let value = Exposure::parse(text).map(Some);
                reading.word(record, "exposure", value, Exposure::NAMES)
            }
        };
        let features = self.conditions(record, reading);
        let (transport, ports) = ports(record, reading)?;
        let watch_s = reading.number(record, "watch_s", "not a number of seconds");
        let pause_s = reading.number(record, "pause_s", "not a number of seconds");
        let announced_by = reading.number(record, "announced_by", "not a port");
        let multicast = multicast(record, reading);
        for column in ["id", "provenance"] {
            if record.get(column).is_empty() {
                reading.add(record, format!("{column} is empty"));
            }
        }
        let group = match record.get("group") {
            "" => record.get("id"),
            group => group,
        };
        Some(Row {
            id: record.get("id").to_owned(),
            section: record.get("section").to_owned(),
            source: source?,
            destination: destination?,
            only,
            transport,
            ports,
            features,
            scope: scope?,
            exposure: exposure?,
            multicast,
            announced_by: Some(announced_by?).filter(|port| *port > 0),
            expectation: expectation?,
            purpose: record.get("purpose").to_owned(),
            provenance: record.get("provenance").to_owned(),
            certainty: certainty?,
            note: record.get("note").to_owned(),
            group: group.to_owned(),
            quantifier: quantifier?,
            triggers: record.list("trigger").map(str::to_owned).collect(),
            watch_s: watch_s?,
            pause_s: pause_s?,
            examples: self.examples(record, reading),
            overlay: reading.overlay.map(str::to_owned),
            file: Arc::clone(&reading.file),
            line: record.line,
        })
    }

    fn role(
        &self,
        record: &CsvRecord<'_>,
        column: &str,
        reading: &mut FileContext<'_>,
    ) -> Option<usize> {
        let role = self.matrix.role(record.get(column));
        if role.is_none() {
            let message = self.unknown_role(record.get(column));
            reading.add(record, format!("{column}: {message}"));
        }
        role
    }

    /// Returns the role and the target of a row whose destination is a name or an address.
    fn endpoint(
        &self,
        text: &str,
        record: &CsvRecord<'_>,
        reading: &mut FileContext<'_>,
    ) -> (Option<usize>, Option<EndpointTarget>) {
        let role = self.matrix.roles.iter().position(|role| role.kind == RoleKind::Endpoint);
        if role.is_none() {
            reading
                .add(record, format!("roles.csv has no role of the kind {}", RoleKind::Endpoint));
        }
        let only = match text.parse() {
            Ok(address) => Ok(EndpointTarget::Address(address)),
            Err(_) => Pattern::parse(text).map(EndpointTarget::Name),
        };
        match only {
            Ok(only) => (role, Some(only)),
            Err(message) => {
                reading.add(record, format!("destination: {message}"));
                (None, None)
            }
        }
    }

    fn conditions(&self, record: &CsvRecord<'_>, reading: &mut FileContext<'_>) -> Vec<String> {
        let words = record.get("condition").split('+').map(str::trim).filter(|f| !f.is_empty());
        let features: Vec<String> = words.map(str::to_owned).collect();
        for feature in features.iter().filter(|f| !self.matrix.features.contains_key(*f)) {
            let near = nearest(feature, self.matrix.features.keys().map(String::as_str));
            reading.add(record, format!("condition: unknown feature \"{feature}\"{near}"));
        }
        features
    }

    fn examples(&self, record: &CsvRecord<'_>, reading: &mut FileContext<'_>) -> Vec<Example> {
        let mut examples = Vec::new();
        for text in record.list("example") {
            match self.example(text) {
                Ok(example) => examples.push(example),
                Err(message) => reading.add(record, format!("example \"{text}\": {message}")),
            }
        }
        examples
    }

    fn example(&self, text: &str) -> Result<Example, PolicyError> {
        let shape = || PolicyError::NotAnExample;
        let (from, rest) = text.split_once('>').ok_or_else(shape)?;
        let (to, service) = rest.trim().split_once(' ').ok_or_else(shape)?;
        let (transport, port) = service.trim().split_once('/').ok_or_else(shape)?;
        let port: u16 = port.parse().map_err(|_| PolicyError::NotAPort(port.to_owned()))?;
        let (transport, port) = match transport {
            "ip" => (u8::try_from(port).ok().map(Transport), 0),
            text => (Transport::parse(text).filter(|t| t.has_ports()), port),
        };
        let to = match to {
            "broadcast" => ExampleTarget::Everybody,
            "localhost" => ExampleTarget::Itself,
            text => match (self.matrix.role(text), text.parse()) {
                (Some(role), _) => ExampleTarget::Role(role),
                (None, Ok(address)) => ExampleTarget::Address(address),
                (None, Err(_)) if text.contains('.') => ExampleTarget::Name(text.to_lowercase()),
                _ => return Err(self.unknown_role(text)),
            },
        };
        let playable = |role: &usize| self.matrix.roles[*role].is_playable();
        let from = self.matrix.role(from.trim()).ok_or_else(|| self.unknown_role(from.trim()))?;
        for role in [Some(from), if let ExampleTarget::Role(to) = to { Some(to) } else { None }] {
            if let Some(role) = role.filter(|role| !playable(role)) {
                return Err(PolicyError::NobodyPlays(self.matrix.roles[role].slug.clone()));
            }
        }
        Ok(Example { from, to, transport: transport.ok_or_else(shape)?, port })
    }

    fn triggers(&mut self) {
        for row in &self.matrix.rows {
            let mut problems = Diagnostics::of(&row.file);
            for trigger in row.triggers.iter().filter(|t| !self.matrix.groups.contains_key(*t)) {
                let near = nearest(trigger, self.matrix.groups.keys().map(String::as_str));
                problems.add(row.line, format!("unknown trigger group \"{trigger}\"{near}"));
            }
            self.problems.extend(problems.or(()).err().into_iter().flatten());
        }
    }

    fn services(&mut self, record: &CsvRecord<'_>, reading: &mut FileContext<'_>) {
        let role = self.role(record, "role", reading);
        match (role, Pattern::parse(record.get("name"))) {
            (Some(role), Ok(name)) => self.matrix.services.push((role, name)),
            (_, Err(error)) => reading.add(record, error.to_string()),
            (None, Ok(_)) => {}
        }
    }

    fn background(&mut self, record: &CsvRecord<'_>, reading: &mut FileContext<'_>) {
        let Some(transport) = Transport::parse(record.get("transport")) else {
            let message = format!("unknown transport \"{}\"", record.get("transport"));
            return reading.add(record, message);
        };
        if transport == Transport::TCP {
            return reading.add(record, "TCP cannot be background traffic");
        }
        let port = record.get("port");
        if !port.is_empty() && port.parse::<u16>().is_err() {
            return reading.add(record, format!("\"{port}\" is not a port"));
        }
        let anywhere = match record.get("towards") {
            "anywhere" => true,
            "group" => false,
            other => {
                let near = nearest(other, ["anywhere", "group"]);
                return reading.add(
                    record,
                    format!("towards must be anywhere or group, not \"{other}\"{near}"),
                );
            }
        };
        let id = record.get("id").to_owned();
        self.matrix.background.push(Background {
            id,
            transport,
            port: port.parse().ok(),
            anywhere,
        });
    }

    fn severities(&mut self, record: &CsvRecord<'_>, reading: &mut FileContext<'_>) {
        let level = |column, reading: &mut FileContext<'_>| {
            let text = record.get(column);
            let level = Severity::parse(text);
            if level.is_none() {
                let near = nearest(text, Severity::NAMES.iter().copied());
                reading.add(record, format!("{column}: unknown severity \"{text}\"{near}"));
            }
            level
        };
        let reached = level("reached", reading);
        let attempted = level("attempted", reading);
        if let (Some(reached), Some(attempted)) = (reached, attempted) {
            self.matrix.severities.set(
                record.get("verdict"),
                record.get("code"),
                reached,
                attempted,
            );
        }
    }
}

/// Returns the protocol and the ports of a row. A single port may be given in the column `port`
/// instead of `port_low` and `port_high`. If the transport is `ip`, these columns contain the
/// protocol number.
fn ports(
    record: &CsvRecord<'_>,
    reading: &mut FileContext<'_>,
) -> Option<(Transport, std::ops::RangeInclusive<u16>)> {
    let number = |column: &str, reading: &mut FileContext<'_>| -> Option<u16> {
        let value = record.get(column).parse().ok();
        if value.is_none() {
            let message =
                format!("{column}: \"{}\" is not a number up to 65535", record.get(column));
            reading.add(record, message);
        }
        value
    };
    let (low, high) = if record.get("port").is_empty() {
        let (low, high) = (number("port_low", reading), number("port_high", reading));
        (low?, high?)
    } else {
        let port = number("port", reading)?;
        (port, port)
    };
    let (transport, ports) = match record.get("transport") {
        "ip" => (u8::try_from(low).ok().map(Transport), 0..=0),
        text => (Transport::parse(text).filter(|t| t.has_ports()), low..=high),
    };
    if transport.is_none() {
        let text = record.get("transport");
        reading.add(
            record,
            match text {
                "ip" => format!("{low} is not an IP protocol; protocol numbers are 0 to 255"),
                _ => format!("transport: \"{text}\" is not tcp, udp, sctp or ip"),
            },
        );
    }
    if low > high {
        reading.add(record, format!("port_low {low} is above port_high {high}"));
    }
    Some((transport?, ports))
}

fn multicast(record: &CsvRecord<'_>, reading: &mut FileContext<'_>) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for text in record.list("multicast") {
        match text.parse::<IpAddr>() {
            Ok(address) if address.is_multicast() => addresses.push(address),
            _ => reading.add(record, format!("multicast: \"{text}\" is not a multicast address")),
        }
    }
    addresses
}
