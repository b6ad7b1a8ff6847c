//! Selects rows of a result: filters, groups and sorts them.

mod cause;
mod ends;
mod filter;
mod groups;
mod key;
mod row;
mod table;
mod text;
mod totals;

use std::cmp::Ordering;
use std::net::IpAddr;

pub use cause::{CauseNumbers, SharedCause};
pub use ends::{EndFilter, known_ends, known_roles};
pub use filter::{FilterValue, PortFilter, RowFilter};
pub use groups::GroupBy;
pub use key::FilterKey;
pub use row::ListedRow;
pub use table::ListedTable;

use groups::RowGroups;
use key::Fit;
use totals::{ConversationTotals, FindingTotals};

use super::{AuditResult, address_of};
use crate::classify::Severity;

/// A column by which rows are sorted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SortColumn {
    /// The name of the column.
    pub column: &'static str,
    /// Whether the greatest value comes first.
    pub is_descending: bool,
}

/// A query for rows of a table: which rows are wanted, and in which order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RowQuery {
    /// The table.
    pub table: ListedTable,
    /// The filter that rows have to fit.
    pub wanted: RowFilter,
    /// The filters that leave rows out. A row is left out if it fits one of them.
    pub unwanted: Vec<RowFilter>,
    /// The property by which rows are grouped; `None` if they are not grouped.
    pub group_by: Option<GroupBy>,
    /// The columns by which rows or groups are sorted. Without any, rows are in the order of their
    /// table, and the largest group comes first.
    pub sort: Vec<SortColumn>,
    /// The maximum number of rows or groups; `None` for no limit.
    pub limit: Option<usize>,
}

impl RowQuery {
    /// Returns the query for all rows of a table.
    pub fn all(table: ListedTable) -> Self {
        Self {
            table,
            wanted: RowFilter::default(),
            unwanted: Vec::new(),
            group_by: None,
            sort: Vec::new(),
            limit: None,
        }
    }

    /// Returns the columns of the rows or groups, as in the CSV files.
    pub fn columns(&self) -> &'static [&'static str] {
        match (self.group_by, self.table) {
            (None, table) => table.columns(),
            (Some(_), ListedTable::Conversations) => ConversationTotals::COLUMNS,
            (Some(_), _) => FindingTotals::COLUMNS,
        }
    }

    /// Returns the additional columns that are derived from [`Self::columns`].
    pub fn derived_columns(&self) -> &'static [&'static str] {
        if self.group_by.is_some() { &[] } else { self.table.derived_columns() }
    }

    /// Returns the columns that fit on a terminal.
    pub fn main_columns(&self) -> &'static [&'static str] {
        match (self.group_by, self.table) {
            (None, table) => table.main_columns(),
            (Some(_), ListedTable::Conversations) => {
                &["group", "count", "severity", "packets", "bytes", "last_seen"]
            }
            (Some(_), _) => &["group", "count", "severity", "certain", "last_seen", "example"],
        }
    }

    /// Returns whether the query has a filter, so that it may leave out rows.
    pub fn has_filter(&self) -> bool {
        !self.wanted.is_empty() || !self.unwanted.is_empty()
    }

    /// Returns whether a row fits. A row that may fit is kept, and a row that may be unwanted is
    /// kept, too, so that no filter hides a row that the user asked for.
    fn keeps(&self, row: &ListedRow<'_>, number: usize, result: &AuditResult<'_>) -> bool {
        self.wanted.fit(row, number, result) > Fit::No
            && self.unwanted.iter().all(|filter| filter.fit(row, number, result) < Fit::Yes)
    }
}

/// The selected rows.
pub struct RowSelection<'r> {
    result: &'r AuditResult<'r>,
    rows: RowSource<'r>,
    /// The indices of the selected rows, in order.
    selected: Vec<usize>,
    /// The number of rows of the table. Findings that are gone count if the filter asks for them.
    pub total: usize,
    /// The number of rows that fit.
    pub fitting: usize,
    /// The number of rows or groups before the limit.
    pub entries: usize,
}

/// The source of the rows.
enum RowSource<'r> {
    /// The findings, followed by those of the baseline that are gone.
    Findings,
    Conversations,
    /// Rows in memory.
    Listed(Vec<ListedRow<'r>>),
}

impl<'r> RowSource<'r> {
    fn of(table: ListedTable, result: &'r AuditResult<'r>) -> Self {
        match table {
            ListedTable::Findings => Self::Findings,
            ListedTable::Conversations => Self::Conversations,
            ListedTable::Matrix => {
                Self::Listed(result.matrix_rows().map(|r| ListedRow::Matrix(Box::new(r))).collect())
            }
            ListedTable::Hosts => {
                Self::Listed(result.hosts().map(|r| ListedRow::Host(Box::new(r))).collect())
            }
            ListedTable::Exceptions => {
                let rows = result.exceptions().iter().cloned();
                Self::Listed(rows.map(|row| ListedRow::Exception(Box::new(row))).collect())
            }
        }
    }

    fn row(&self, number: usize, result: &'r AuditResult<'r>) -> Option<ListedRow<'r>> {
        match self {
            Self::Findings => {
                let gone = || Some(result.gone().get(number - result.findings_len())?.row());
                let row =
                    if number < result.findings_len() { result.finding(number) } else { gone() };
                Some(ListedRow::Finding(Box::new(row?)))
            }
            Self::Conversations => {
                Some(ListedRow::Conversation(Box::new(result.conversation(number)?)))
            }
            Self::Listed(rows) => rows.get(number).cloned(),
        }
    }
}

impl<'r> RowSelection<'r> {
    /// Returns the selected rows in order.
    pub fn rows(&self) -> impl Iterator<Item = ListedRow<'r>> {
        self.selected.iter().filter_map(|number| self.rows.row(*number, self.result))
    }

    /// Returns the number of selected rows.
    pub fn len(&self) -> usize {
        self.selected.len()
    }

    /// Returns whether no row is selected.
    pub fn is_empty(&self) -> bool {
        self.selected.is_empty()
    }
}

impl AuditResult<'_> {
    /// Selects the rows that a query asks for.
    pub fn select<'r>(&'r self, query: &RowQuery) -> RowSelection<'r> {
        let rows = RowSource::of(query.table, self);
        let total = match &rows {
            RowSource::Findings if query.wanted.asks_for_gone() => {
                self.findings_len() + self.gone().len()
            }
            RowSource::Findings => self.findings_len(),
            RowSource::Conversations => self.conversations_len(),
            RowSource::Listed(rows) => rows.len(),
        };
        let mut selected = Vec::new();
        let mut keys = Vec::new();
        let mut groups = query.group_by.map(|by| (by, RowGroups::new(self)));
        for number in 0..total {
            let Some(row) = rows.row(number, self).filter(|row| query.keeps(row, number, self))
            else {
                continue;
            };
            match &mut groups {
                Some((by, groups)) => groups.add(&row, *by),
                None if query.sort.is_empty() => {}
                None => keys.push(self.sort_key(&row, &query.sort)),
            }
            selected.push(number);
        }
        let fitting = selected.len();
        let mut selection =
            RowSelection { result: self, rows, selected, total, fitting, entries: fitting };
        if let Some((_, groups)) = groups {
            let groups = groups.finish();
            keys = groups.iter().map(|group| self.sort_key(group, &query.sort)).collect();
            selection.entries = groups.len();
            selection.selected = (0..groups.len()).collect();
            selection.rows = RowSource::Listed(groups);
        }
        if !query.sort.is_empty() {
            let mut order: Vec<usize> = (0..selection.selected.len()).collect();
            order.sort_by(|a, b| compare(&keys[*a], &keys[*b], &query.sort));
            selection.selected = order.iter().map(|at| selection.selected[*at]).collect();
        }
        selection.selected.truncate(query.limit.unwrap_or(usize::MAX));
        selection
    }

    fn sort_key(&self, row: &ListedRow<'_>, columns: &[SortColumn]) -> Vec<SortValue> {
        let names: Vec<&str> = columns.iter().map(|column| column.column).collect();
        let texts = row.texts(&names, self).into_iter().zip(names);
        texts.map(|(text, column)| SortValue::of(column, text)).collect()
    }
}

/// The value of a cell that determines its order.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
enum SortValue {
    Number(u64),
    Address(IpAddr),
    Text(String),
    Empty,
}

impl SortValue {
    fn of(column: &str, text: String) -> Self {
        if text.is_empty() {
            return Self::Empty;
        }
        if column == "severity"
            && let Some(severity) = Severity::parse(&text)
        {
            return Self::Number(severity as u64);
        }
        let address = || address_of(&text).map(Self::Address);
        text.parse().ok().map(Self::Number).or_else(address).unwrap_or(Self::Text(text))
    }
}

/// Compares two rows. Empty cells come last in both directions.
fn compare(a: &[SortValue], b: &[SortValue], columns: &[SortColumn]) -> Ordering {
    let cells = a.iter().zip(b).zip(columns);
    let orders = cells.map(|((a, b), column)| {
        let by_value = match (a, b) {
            (SortValue::Empty, _) | (_, SortValue::Empty) => return a.cmp(b),
            _ => a.cmp(b),
        };
        if column.is_descending { by_value.reverse() } else { by_value }
    });
    orders.fold(Ordering::Equal, Ordering::then)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(column: &'static str, texts: &[&str], is_descending: bool) -> Vec<String> {
        let columns = [SortColumn { column, is_descending }];
        let key = |text: &&str| [SortValue::of(column, (*text).to_owned())];
        let mut texts = texts.to_vec();
        texts.sort_by(|a, b| compare(&key(a), &key(b), &columns));
        texts.into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn cells_are_sorted_by_what_they_mean() {
        assert_eq!(sorted("count", &["10", "", "9"], false), ["9", "10", ""]);
        assert_eq!(sorted("count", &["10", "", "9"], true), ["10", "9", ""]);
        assert_eq!(sorted("severity", &["high", "info", "low"], true), ["high", "low", "info"]);
        let addresses = ["10.0.0.10", "fd00::1", "10.0.0.9"];
        assert_eq!(sorted("client", &addresses, false), ["10.0.0.9", "10.0.0.10", "fd00::1"]);
    }
}
