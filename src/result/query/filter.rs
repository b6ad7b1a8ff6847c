//! Filters that select rows.

use std::ops::RangeInclusive;

use super::cause::SharedCause;
use super::ends::{EndFilter, RowSide};
use super::key::{FilterKey, Fit};
use super::row::ListedRow;
use crate::classify::{OTHER_SENSORS, Severity};
use crate::model::Transport;
use crate::result::{AuditResult, Change};

/// A value that a filter accepts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FilterValue {
    /// An end of the row.
    End(EndFilter),
    /// A transport, ports, or both.
    Port(PortFilter),
    /// The exact text of a cell, such as a code.
    Word(String),
    /// The minimum severity.
    AtLeast(Severity),
    /// Whether the verdict is certain.
    Certain(bool),
    /// The cause of a finding.
    Cause(Box<SharedCause>),
}

/// A filter of rows: for each key, a row has to have one of the values.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RowFilter(Vec<(FilterKey, Vec<FilterValue>)>);

impl RowFilter {
    /// Adds a value. A row needs only one of the values of a key.
    pub fn add(&mut self, key: FilterKey, value: FilterValue) {
        match self.0.iter_mut().find(|(own, _)| *own == key) {
            Some((_, values)) => values.push(value),
            None => self.0.push((key, vec![value])),
        }
    }

    /// Returns whether the filter has no conditions, so that it matches every row.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether the filter asks for findings of the baseline that this audit does not have.
    pub(super) fn asks_for_gone(&self) -> bool {
        let gone = [Change::Gone, Change::Excepted].map(Change::name);
        let is_gone = |value: &FilterValue| matches!(value, FilterValue::Word(word) if gone.contains(&word.as_str()));
        self.0.iter().any(|(key, values)| *key == FilterKey::State && values.iter().any(is_gone))
    }

    /// Returns whether a row fits. `number` is its index in its table.
    pub(super) fn fit(&self, row: &ListedRow<'_>, number: usize, result: &AuditResult<'_>) -> Fit {
        let fit = |(key, values): &(FilterKey, Vec<FilterValue>)| {
            let each = values.iter().map(|value| value_fit(*key, value, row, number, result));
            each.max().unwrap_or(Fit::Yes)
        };
        self.0.iter().map(fit).min().unwrap_or(Fit::Yes)
    }
}

fn value_fit(
    key: FilterKey,
    value: &FilterValue,
    row: &ListedRow<'_>,
    number: usize,
    result: &AuditResult<'_>,
) -> Fit {
    let site = result.site();
    let is_gone = matches!(row, ListedRow::Finding(_)) && number >= result.findings_len();
    if is_gone && !key.is_known_of_gone() {
        return Fit::Unknown;
    }
    match value {
        FilterValue::End(end) => {
            let fit = |side| end.fit(row, number, side, site);
            match key {
                FilterKey::From => fit(RowSide::Client),
                FilterKey::To => fit(RowSide::Server),
                _ => fit(RowSide::Client).max(fit(RowSide::Server)),
            }
        }
        FilterValue::Port(filter) => filter.fit(row),
        FilterValue::Word(word) => {
            let words = row.words(key);
            // A row lists only a limited number of sensors, so the wanted one may be missing from
            // it.
            if key == FilterKey::Sensor
                && !words.contains(&word.as_str())
                && words.contains(&OTHER_SENSORS)
            {
                return Fit::Unknown;
            }
            Fit::of(words.contains(&word.as_str()))
        }
        FilterValue::AtLeast(least) => match row.words(FilterKey::Severity).first() {
            None | Some(&"") => Fit::No,
            // A later version may have further severities, whose order is not known here.
            Some(word) => Severity::parse(word).map_or(Fit::Unknown, |own| Fit::of(own >= *least)),
        },
        FilterValue::Certain(wanted) => Fit::of(row.certain() == Some(*wanted)),
        FilterValue::Cause(cause) => match row {
            ListedRow::Finding(row) => Fit::of(SharedCause::of_finding(row) == **cause),
            _ => Fit::No,
        },
    }
}

/// A transport, ports, or both.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortFilter {
    transport: Option<String>,
    ports: Option<RangeInclusive<u16>>,
}

impl PortFilter {
    /// Parses a port, a range of ports, a transport, or a transport combined with a port or a
    /// range. Examples: `443`, `1000-2000`, `tcp`, `tcp/443`, `443/tcp`. `112/ip` stands for the
    /// transport with protocol number 112. Returns `None` for other text.
    pub fn parse(text: &str) -> Option<Self> {
        let transport = |text: &str| Transport::parse(text).map(|transport| transport.to_string());
        let both = |name: &str, ports: &str| {
            if name == "ip" {
                let transport = Transport(ports.parse().ok()?).to_string();
                return Some(Self { transport: Some(transport), ports: None });
            }
            Some(Self { transport: Some(transport(name)?), ports: Some(range(ports)?) })
        };
        let text = text.to_lowercase();
        match text.split_once('/') {
            Some((a, b)) if a.starts_with(|c: char| c.is_ascii_digit()) => both(b, a),
            Some((a, b)) => both(a, b),
            None => match transport(&text) {
                Some(name) => Some(Self { transport: Some(name), ports: None }),
                None => Some(Self { transport: None, ports: Some(range(&text)?) }),
            },
        }
    }

    fn fit(&self, row: &ListedRow<'_>) -> Fit {
        let Some((transport, ports)) = row.service() else { return Fit::No };
        // An exception or a row of the matrix for every port includes the wanted port. A finding
        // about many ports may include it.
        let any = match row {
            ListedRow::Exception(_) | ListedRow::Matrix(_) => Fit::Yes,
            _ => Fit::Unknown,
        };
        let by_transport = match &self.transport {
            None => Fit::Yes,
            Some(_) if transport == "*" => any,
            Some(own) => Fit::of(*own == transport),
        };
        let by_ports = match &self.ports {
            None => Fit::Yes,
            Some(_) if ports == "*" => any,
            Some(own) => {
                let mut ranges = ports.split(';').filter_map(range);
                Fit::of(ranges.any(|r| r.start() <= own.end() && own.start() <= r.end()))
            }
        };
        by_transport.min(by_ports)
    }
}

/// Parses a port or a range of ports.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let port = |text: &str| -> Option<u16> {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().ok())?
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::FindingRow;

    fn fit(filter: &str, transport: &str, port: &str) -> Fit {
        let row = FindingRow {
            transport: transport.to_owned(),
            port: port.to_owned(),
            ..FindingRow::default()
        };
        PortFilter::parse(filter).unwrap().fit(&ListedRow::Finding(Box::new(row)))
    }

    #[test]
    fn ports_fit_by_number_range_and_transport() {
        for filter in ["443", "400-500", "tcp/443", "443/tcp", "tcp", "TCP/1-65535"] {
            assert_eq!(fit(filter, "tcp", "443"), Fit::Yes, "{filter}");
            assert_eq!(fit(filter, "tcp", "80;443"), Fit::Yes, "{filter}");
        }
        for filter in ["44", "444-500", "udp/443", "sctp"] {
            assert_eq!(fit(filter, "tcp", "443"), Fit::No, "{filter}");
        }
        assert_eq!(fit("112/ip", "ip-112", ""), Fit::Yes);
        assert_eq!(fit("icmp/8", "icmp", "8"), Fit::Yes);
        // A finding about many ports may include the wanted port, but not if the transport differs.
        assert_eq!(fit("443", "tcp", "*"), Fit::Unknown);
        assert_eq!(fit("443", "*", "*"), Fit::Unknown);
        assert_eq!(fit("udp/443", "tcp", "*"), Fit::No);
        for wrong in
            ["", "https", "443-80", "70000", "tcp/", "/443", "-1", "1-", "tcp/443/udp", "+1"]
        {
            assert_eq!(PortFilter::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn one_value_of_each_key_has_to_fit() {
        let mut filter = RowFilter::default();
        assert!(filter.is_empty());
        let code = |word: &str| FilterValue::Word(word.to_owned());
        filter.add(FilterKey::Code, code("refused"));
        filter.add(FilterKey::Code, code("unanswered"));
        filter.add(FilterKey::Severity, FilterValue::AtLeast(Severity::Medium));
        assert!(!filter.asks_for_gone());
        let keys: Vec<FilterKey> = filter.0.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, [FilterKey::Code, FilterKey::Severity]);
        filter.add(FilterKey::State, code("gone"));
        assert!(filter.asks_for_gone());
    }
}
