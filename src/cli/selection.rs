//! Parses filters and the other options of listings, and reports all problems together.

use std::collections::BTreeSet;

use crate::policy::{Severity, beyond_prefix_or_address, nearest};
use crate::report::RowListing;
use crate::result::{
    AuditResult, EndFilter, FilterKey, FilterValue, GroupBy, ListedTable, PortFilter, RowFilter,
    RowQuery, Site, SortColumn, known_ends, known_roles,
};

/// The default for the greatest number of rows or groups in a listing as text.
pub(super) const TEXT_LIMIT: usize = 50;

/// The settings of `--show` that are not filters.
const SETTINGS: [&str; 4] = ["group-by", "sort", "columns", "limit"];

/// The vocabulary that filters are checked against: the inventory, and the result if there is one.
#[derive(Clone, Copy)]
pub(super) struct Vocabulary<'a> {
    pub site: Option<&'a Site>,
    /// `None` before the audit.
    pub result: Option<&'a AuditResult<'a>>,
    pub is_judged: bool,
}

impl<'a> Vocabulary<'a> {
    /// Returns the vocabulary of a result.
    pub fn of(result: &'a AuditResult<'a>) -> Self {
        Self { site: result.site(), result: Some(result), is_judged: result.is_judged() }
    }
}

/// Collects the options of a listing, and their problems.
pub(super) struct SelectionParser<'a> {
    vocabulary: Vocabulary<'a>,
    query: RowQuery,
    columns: Vec<&'static str>,
    problems: Vec<String>,
}

impl<'a> SelectionParser<'a> {
    /// Returns the parser of the options for a table.
    pub fn new(table: ListedTable, vocabulary: Vocabulary<'a>) -> Self {
        Self { vocabulary, query: RowQuery::all(table), columns: Vec::new(), problems: Vec::new() }
    }

    /// Returns the listing. `all_option` is the option that lists all rows.
    ///
    /// # Errors
    ///
    /// Returns all problems of the options.
    pub fn finish(self, all_option: &'static str) -> Result<RowListing, Vec<String>> {
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        Ok(RowListing { query: self.query, columns: self.columns, all_option })
    }

    /// Sets the greatest number of rows or groups; `None` for no limit.
    pub fn limit(&mut self, limit: Option<usize>) {
        self.query.limit = limit;
    }

    /// Adds the values of a filter option.
    pub fn filter(&mut self, key: FilterKey, texts: &[String]) {
        let option = format!("--{key}");
        if texts.is_empty() || !self.applies(&option, key) {
            return;
        }
        for text in texts {
            if let Some(value) = self.value(&option, key, text) {
                self.query.wanted.add(key, value);
            }
        }
    }

    /// Adds the filters that leave rows out, each as `KEY=VALUE,...`.
    pub fn unwanted(&mut self, texts: &[String]) {
        for text in texts {
            let mut filter = RowFilter::default();
            for Item { key, is_negated, value } in self.items("--not", text) {
                if is_negated {
                    self.problems
                        .push(format!("--not: write {key}={value} instead of {key}!={value}"));
                } else if let Some((key, value)) = self.named_value("--not", key, value) {
                    filter.add(key, value);
                }
            }
            if !filter.is_empty() {
                self.query.unwanted.push(filter);
            }
        }
    }

    /// Adds the text of `--show`: filters as `KEY=VALUE` or `KEY!=VALUE`, and settings.
    pub fn show(&mut self, text: &str) {
        const OPTION: &str = "--show";
        let items = self.items(OPTION, text);
        let values = |name: &str| -> Vec<String> {
            items.iter().filter(|i| i.key == name).map(|i| i.value.to_owned()).collect()
        };
        let (sort, columns) = (values("sort"), values("columns"));
        for by in values("group-by") {
            self.group_by(OPTION, &by);
        }
        self.sort(OPTION, &sort);
        self.columns(OPTION, &columns);
        for limit in values("limit") {
            match limit.parse() {
                Ok(limit) if limit > 0 => self.limit(Some(limit)),
                _ if limit == "all" => self.limit(None),
                _ => self.problems.push(format!(
                    "{OPTION}: \"{limit}\" is not a number of rows; give a number greater than 0, or all"
                )),
            }
        }
        let mut unwanted: Vec<(FilterKey, RowFilter)> = Vec::new();
        for Item { key, is_negated, value } in items {
            if SETTINGS.contains(&key) {
                if is_negated {
                    self.problems
                        .push(format!("{OPTION}: {key} is not a filter; write {key}={value}"));
                }
                continue;
            }
            let Some((key, value)) = self.named_value(OPTION, key, value) else { continue };
            if !is_negated {
                self.query.wanted.add(key, value);
                continue;
            }
            match unwanted.iter_mut().find(|(own, _)| *own == key) {
                Some((_, filter)) => filter.add(key, value),
                None => {
                    let mut filter = RowFilter::default();
                    filter.add(key, value);
                    unwanted.push((key, filter));
                }
            }
        }
        self.query.unwanted.extend(unwanted.into_iter().map(|(_, filter)| filter));
    }

    /// Sets the property by which rows are grouped.
    pub fn group_by(&mut self, option: &str, text: &str) {
        let table = self.query.table;
        if !matches!(table, ListedTable::Findings | ListedTable::Conversations) {
            self.problems.push(format!("{option}: only findings and conversations can be grouped"));
        } else if let Some(by) = GroupBy::parse(text) {
            self.query.group_by = Some(by);
        } else {
            self.unknown(option, text, "a property to group by", GroupBy::NAMES.iter().copied());
        }
    }

    /// Sets the columns by which rows are sorted. A minus sign before a column puts the greatest
    /// value first. Must be called after [`Self::group_by`], because groups have their own columns.
    pub fn sort(&mut self, option: &str, texts: &[String]) {
        for text in texts {
            let (name, is_descending) = match text.strip_prefix('-') {
                Some(name) => (name, true),
                None => (text.as_str(), false),
            };
            if let Some(column) = self.column(option, name) {
                self.query.sort.push(SortColumn { column, is_descending });
            }
        }
    }

    /// Sets the columns. Must be called after [`Self::group_by`], because groups have their own
    /// columns.
    pub fn columns(&mut self, option: &str, texts: &[String]) {
        for text in texts {
            if let Some(column) = self.column(option, text) {
                self.columns.push(column);
            }
        }
    }

    fn column(&mut self, option: &str, text: &str) -> Option<&'static str> {
        let own = self.query.columns().iter().chain(self.query.derived_columns());
        let known: Vec<&'static str> = own.copied().collect();
        let column = known.iter().copied().find(|column| *column == text);
        if column.is_none() {
            let what = match self.query.group_by {
                Some(_) => "a column of groups".to_owned(),
                None => format!("a column of {}", self.query.table),
            };
            self.unknown(option, text, &what, known);
        }
        column
    }

    /// Splits `KEY=VALUE,KEY!=VALUE`. An item without a key is another value of the key before it.
    fn items<'t>(&mut self, option: &str, text: &'t str) -> Vec<Item<'t>> {
        let mut items: Vec<Item<'t>> = Vec::new();
        for part in text.split(',').map(str::trim) {
            let item = match (part.split_once('='), items.last()) {
                (Some((key, value)), _) => {
                    let (key, is_negated) =
                        key.strip_suffix('!').map_or((key, false), |key| (key, true));
                    Item { key: key.trim(), is_negated, value: value.trim() }
                }
                (None, Some(Item { key, is_negated, .. })) if !part.is_empty() => {
                    Item { key, is_negated: *is_negated, value: part }
                }
                (None, _) => {
                    let message =
                        format!("{option}: \"{part}\" has no key; write it like severity=high");
                    self.problems.push(message);
                    continue;
                }
            };
            items.push(item);
        }
        items
    }

    /// Parses a filter and its value. If either is not known or cannot be used, adds a problem and
    /// returns `None`.
    fn named_value(
        &mut self,
        option: &str,
        key: &str,
        text: &str,
    ) -> Option<(FilterKey, FilterValue)> {
        let Some(known) = FilterKey::parse(key) else {
            let settings = if option == "--show" { &SETTINGS[..] } else { &[] };
            let keys = self.usable_keys(self.query.table);
            let names = keys.into_iter().chain(settings.iter().copied());
            self.unknown(option, key, "a filter", names);
            return None;
        };
        let option = format!("{option} {key}");
        let value = self.applies(&option, known).then(|| self.value(&option, known, text))?;
        Some((known, value?))
    }

    /// Returns the filters of a table. Causes are known only after the audit, so before it their
    /// filter is left out.
    fn usable_keys(&self, table: ListedTable) -> Vec<&'static str> {
        let is_known =
            |key: &&FilterKey| **key != FilterKey::Cause || self.vocabulary.result.is_some();
        let own = FilterKey::ALL.iter().filter(|key| key.applies_to(table));
        own.filter(is_known).map(|key| key.name()).collect()
    }

    /// Returns whether a filter can be used. If it cannot, adds the reason to the problems.
    fn applies(&mut self, option: &str, key: FilterKey) -> bool {
        let table = self.query.table;
        if !key.applies_to(table) {
            let others = self.usable_keys(table).join(", ");
            self.problems.push(format!(
                "{option}: the table {table} has no filter {key}; its filters are {others}"
            ));
            return false;
        }
        let needs_judgement = matches!(
            key,
            FilterKey::Verdict | FilterKey::Code | FilterKey::Severity | FilterKey::Certain
        ) || key == FilterKey::Role;
        if needs_judgement && !self.vocabulary.is_judged {
            self.problems.push(format!(
                "{option}: the audit had no inventory, so the filter {key} cannot be used"
            ));
            return false;
        }
        true
    }

    /// Parses a value. If it is not valid, adds a problem and returns `None`.
    fn value(&mut self, option: &str, key: FilterKey, text: &str) -> Option<FilterValue> {
        let Vocabulary { site, result, .. } = self.vocabulary;
        match key {
            FilterKey::From | FilterKey::To | FilterKey::Host => {
                if let Some(message) = text.parse().ok().and_then(beyond_prefix_or_address) {
                    self.problems.push(format!("{option}: {message}"));
                    return None;
                }
                let end = EndFilter::of(text, site, result);
                if end.is_none() {
                    let place = if result.is_some() { "result" } else { "inventory" };
                    let what = format!("a host, network, address or role of the {place}");
                    self.unknown_of(option, text, &what, known_ends(site, result));
                }
                end.map(FilterValue::End)
            }
            FilterKey::Role => {
                let role = EndFilter::of_role(text, site, result);
                if role.is_none() {
                    self.unknown_of(option, text, "a role", known_roles(site, result));
                }
                role.map(FilterValue::End)
            }
            FilterKey::Port => {
                let port = PortFilter::parse(text);
                if port.is_none() {
                    let how = "give a port like 443, 1000-2000 or tcp/443";
                    self.problems.push(format!("{option}: \"{text}\" is not a port; {how}"));
                }
                port.map(FilterValue::Port)
            }
            FilterKey::Severity => {
                let severity = Severity::parse(text);
                if severity.is_none() {
                    self.unknown(option, text, "a severity", Severity::NAMES.iter().copied());
                }
                severity.map(FilterValue::AtLeast)
            }
            FilterKey::Certain => match text {
                "yes" => Some(FilterValue::Certain(true)),
                "no" => Some(FilterValue::Certain(false)),
                _ => {
                    self.unknown(option, text, "a valid value", ["yes", "no"]);
                    None
                }
            },
            FilterKey::Cause => self.cause(option, text),
            FilterKey::Sensor => self.sensor(option, text),
            FilterKey::Verdict | FilterKey::Code | FilterKey::State => self.word(option, key, text),
        }
    }

    /// Parses a word. Words that this version does not know are accepted if the result contains
    /// them, because a later version may have written the result.
    fn word(&mut self, option: &str, key: FilterKey, text: &str) -> Option<FilterValue> {
        let table = self.query.table;
        let words = key.words(table);
        let in_result = || {
            let result = self.vocabulary.result?;
            let rows = result.select(&RowQuery::all(table));
            rows.rows().any(|row| row.words(key).contains(&text)).then_some(())
        };
        if words.contains(&text) || (!text.is_empty() && in_result().is_some()) {
            return Some(FilterValue::Word(text.to_owned()));
        }
        self.unknown(option, text, &format!("a {key} of {table}"), words);
        None
    }

    /// Parses the name of a sensor. Before an audit, its sensors are not known, so every name is
    /// accepted.
    fn sensor(&mut self, option: &str, text: &str) -> Option<FilterValue> {
        if let Some(result) = self.vocabulary.result {
            let rows = result.select(&RowQuery::all(self.query.table));
            let names = rows.rows().flat_map(|row| {
                row.words(FilterKey::Sensor).into_iter().map(str::to_owned).collect::<Vec<_>>()
            });
            let known: BTreeSet<String> = names.collect();
            if known.is_empty() {
                self.problems.push(format!(
                    "{option}: the {} of this result name no sensors, because the audit read no rows of rasaudit collect --sensor or rasaudit live --collect",
                    self.query.table
                ));
                return None;
            }
            if !known.contains(text) {
                self.unknown_of(option, text, "a sensor of the result", known);
                return None;
            }
        }
        Some(FilterValue::Word(text.to_owned()))
    }

    fn cause(&mut self, option: &str, text: &str) -> Option<FilterValue> {
        let Some(result) = self.vocabulary.result else {
            self.problems.push(format!(
                "{option}: the filter cause needs a stored result; use rasaudit show"
            ));
            return None;
        };
        let found = result.finding_number(text).and_then(|number| result.cause(number));
        if found.is_none() {
            let message = format!("{option}: the result has no finding with the id \"{text}\"");
            self.problems.push(message);
        }
        found.map(|cause| FilterValue::Cause(Box::new(cause)))
    }

    fn unknown_of(&mut self, option: &str, text: &str, what: &str, known: BTreeSet<String>) {
        self.unknown(option, text, what, known.iter().map(String::as_str));
    }

    fn unknown<'k>(
        &mut self,
        option: &str,
        text: &str,
        what: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) {
        /// The greatest number of words that a message lists.
        const LISTED: usize = 40;
        let known: Vec<&str> = known.into_iter().collect();
        let near = match nearest(text, known.iter().copied()) {
            none if none.is_empty() && known.len() <= LISTED => {
                format!("; known: {}", known.join(", "))
            }
            near => near,
        };
        self.problems.push(format!("{option}: \"{text}\" is not {what}{near}"));
    }
}

/// One `KEY=VALUE` or `KEY!=VALUE` of a filter or of `--show`.
#[derive(Clone, Copy)]
struct Item<'t> {
    key: &'t str,
    is_negated: bool,
    value: &'t str,
}
