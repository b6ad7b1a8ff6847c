//! Findings of an audit as the start of a list of exceptions.

use crate::classify::{UNFILLED, id_of};
use crate::model::escape_csv_formula;

/// The reason why exceptions cannot be made from a file.
#[derive(Debug, thiserror::Error)]
pub enum NotFindings {
    /// The file is not CSV.
    #[error("{file}: {source}")]
    Csv {
        /// The file.
        file: String,
        /// The cause.
        source: csv::Error,
    },
    /// The file lacks a column.
    #[error("{file}: has no column \"{column}\"; give the findings.csv of an audit")]
    Column {
        /// The file.
        file: String,
        /// The column.
        column: &'static str,
    },
}

/// Returns lines for each finding that an exception could settle, in which only the facts that
/// people know have to be filled in. A line is for one client and one server: a listed host by its
/// name, any other by the address that was seen. Hosts that the finding does not name are never
/// excepted.
///
/// # Errors
///
/// Returns what is wrong with the file.
pub fn exceptions_from(file: &str, findings: &str) -> Result<String, NotFindings> {
    let broken = |source| NotFindings::Csv { file: file.to_owned(), source };
    let mut reader = csv::Reader::from_reader(findings.trim_start_matches('\u{feff}').as_bytes());
    let header = reader.headers().map_err(broken)?.clone();
    let place = |name: &str| header.iter().position(|column| column == name);
    let column = |column| {
        let missing = || NotFindings::Column { file: file.to_owned(), column };
        place(column).ok_or_else(missing)
    };
    let id = column("id")?;
    let verdict = column("verdict")?;
    let client = column("client")?;
    let server = column("server")?;
    let transport = column("transport")?;
    let port = column("port")?;
    let message = column("message")?;
    // Earlier versions did not list them.
    let members = place("clients").zip(place("servers"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut left_out = String::new();
    for record in reader.records() {
        let record = record.map_err(broken)?;
        let get = |number: usize| record[number].trim_start_matches('\'').to_owned();
        // Silence and failures are not traffic that could be excepted.
        if !matches!(get(verdict).as_str(), "unexpected-port" | "undocumented") {
            continue;
        }
        let id = id_of(&get(id));
        let mut more = false;
        let mut members_or_single = |list: usize, single: usize| -> Vec<String> {
            let list = members.map(|_| get(list)).unwrap_or_default();
            let all = list.split(';').filter(|item| !item.is_empty());
            let (omitted, all): (Vec<&str>, Vec<&str>) =
                all.partition(|item| item.starts_with('+'));
            more |= !omitted.is_empty();
            match (all.is_empty(), get(single).as_str()) {
                (false, _) => {
                    all.into_iter().map(|m| m.trim_start_matches('\'').to_owned()).collect()
                }
                (true, "" | "*") => {
                    more = true;
                    Vec::new()
                }
                (true, address) => vec![address.to_owned()],
            }
        };
        let (clients, servers) = members.unwrap_or_default();
        let clients = members_or_single(clients, client);
        let servers = members_or_single(servers, server);
        if more {
            left_out.push_str(&format!(
                "# {id} has more clients or servers than findings.csv lists; these have no line here.\n"
            ));
        }
        let port = if get(port).is_empty() { "*".to_owned() } else { get(port) };
        let pairs = clients.iter().flat_map(|from| servers.iter().map(move |to| (from, to)));
        for (number, (from, to)) in pairs.enumerate() {
            let id = if number == 0 { id.clone() } else { format!("{id}-{}", number + 1) };
            let reason = format!("{UNFILLED} {}", get(message));
            let line =
                [&id, from, to, &get(transport), &port, "to-server", "", &reason, "", "", ""]
                    .map(|text: &str| escape_csv_formula(text).into_owned());
            writer.write_record(line).map_err(broken)?;
        }
    }
    let bytes = writer.into_inner().map_err(|error| broken(error.into_error().into()))?;
    Ok(left_out + &String::from_utf8_lossy(&bytes))
}
