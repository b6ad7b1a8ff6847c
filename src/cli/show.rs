//! Implements `rasaudit show`, which lists rows of a stored result.

use std::io::{self, Write};

use super::args::ListArguments;
use super::diff::stored_result;
use super::exit::Exit;
use super::selection::{SelectionParser, TEXT_LIMIT, Vocabulary};
use super::{report_error, terminal_width};
use crate::pipeline::fits_manifest;
use crate::report::RowListing;
use crate::result::{AuditResult, FilterKey, ListedTable};

/// Lists the rows that match the filters.
pub(super) fn run(arguments: &ListArguments) -> io::Result<Exit> {
    let read = read(arguments).map_err(|problem| vec![problem]);
    let listing = read.and_then(|result| Ok((parse(arguments, &result)?, result)));
    let (listing, result) = match listing {
        Ok(listing) => listing,
        Err(problems) => {
            problems.iter().for_each(|problem| report_error(problem));
            return Ok(Exit::CannotDo);
        }
    };
    let format = arguments.format.as_str();
    if format == "text" {
        let mut text = Vec::new();
        listing.write(&result, format, terminal_width(), &mut text)?;
        let mut out = anstream::stdout().lock();
        out.write_all(&text)?;
        out.flush()?;
    } else {
        let mut out = io::BufWriter::new(io::stdout().lock());
        listing.write(&result, format, None, &mut out)?;
        out.flush()?;
    }
    Ok(Exit::Compliant)
}

/// Returns the table that the arguments name.
fn table_of(arguments: &ListArguments) -> ListedTable {
    ListedTable::parse(&arguments.table).unwrap_or(ListedTable::Findings)
}

/// Reads the stored result. An audit without an inventory is an error for all tables except
/// conversations.
fn read(arguments: &ListArguments) -> Result<AuditResult<'static>, String> {
    let path = stored_result(&arguments.result)?;
    fits_manifest(&path).map_err(|problem| format!("{} {problem}", path.display()))?;
    let result = AuditResult::read(&path).map_err(|error| error.to_string())?;
    let table = table_of(arguments);
    if !result.is_judged() && table != ListedTable::Conversations {
        return Err(format!(
            "{}: the audit had no inventory, so its result has no table {table}; rasaudit show conversations lists the traffic",
            path.display()
        ));
    }
    Ok(result)
}

/// Checks the options. The error lists all problems.
fn parse(arguments: &ListArguments, result: &AuditResult<'_>) -> Result<RowListing, Vec<String>> {
    let mut parser = SelectionParser::new(table_of(arguments), Vocabulary::of(result));
    let filters = &arguments.filters;
    for (key, texts) in [
        (FilterKey::From, &filters.from),
        (FilterKey::To, &filters.to),
        (FilterKey::Host, &filters.host),
        (FilterKey::Role, &filters.role),
        (FilterKey::Port, &filters.port),
        (FilterKey::Verdict, &filters.verdict),
        (FilterKey::Code, &filters.code),
        (FilterKey::Severity, &filters.severity),
        (FilterKey::State, &filters.state),
        (FilterKey::Certain, &filters.certain),
        (FilterKey::Sensor, &filters.sensor),
        (FilterKey::Cause, &filters.cause),
    ] {
        parser.filter(key, texts);
    }
    parser.unwanted(&filters.not);
    if let Some(by) = &arguments.group_by {
        parser.group_by("--group-by", by);
    }
    parser.sort("--sort", &arguments.sort);
    parser.columns("--columns", &arguments.columns);
    let usual = (arguments.format == "text").then_some(TEXT_LIMIT);
    let limit = arguments.limit.map(|limit| limit as usize).or(usual);
    parser.limit(limit.filter(|_| !arguments.all));
    parser.finish("--all")
}
