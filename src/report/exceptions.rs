//! Turns the findings of an audit into a first list of exceptions.

use crate::classify::{UNFILLED, Verdict, id_of};
use crate::model::escape_csv_formula;
use crate::result::FindingRow;

/// The reason why exceptions cannot be created from a file.
#[derive(Debug, thiserror::Error)]
pub enum NotFindings {
    /// The file is not CSV.
    #[error("{file}: {source}")]
    Csv {
        /// The name of the file.
        file: String,
        /// The error of the CSV reader.
        source: csv::Error,
    },
    /// The file lacks a column.
    #[error("{file}: the column \"{column}\" is missing; give the findings.csv of an audit")]
    Column {
        /// The name of the file.
        file: String,
        /// The name of the missing column.
        column: &'static str,
    },
}

/// The traffic that an exception would permit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExceptedTraffic {
    /// The client: a listed host by name, any other by address.
    pub from: String,
    /// The server, identified in the same way.
    pub to: String,
    /// The protocol above IP, or `*`.
    pub transport: String,
    /// The port, or `*`.
    pub port: String,
}

/// Returns the traffic of a finding: one item for each pair of a client and a server.
///
/// # Errors
///
/// Returns a message if no exception can cover the finding, or if the result does not list all its
/// clients and servers.
pub fn excepted_traffic(finding: &FindingRow<'_>) -> Result<Vec<ExceptedTraffic>, String> {
    if Verdict::parse(&finding.verdict).is_none_or(|verdict| !verdict.is_unpermitted()) {
        return Err(format!(
            "an exception permits traffic, so it cannot cover {}/{}",
            finding.verdict, finding.code
        ));
    }
    let sides = [(&finding.clients, &finding.client), (&finding.servers, &finding.server)];
    let members = sides.map(|(list, single)| match list.as_slice() {
        [] => vec![single.clone()],
        list => list.to_vec(),
    });
    let is_open = |member: &String| matches!(member.as_str(), "" | "*") || member.starts_with('+');
    if members.iter().flatten().any(is_open) {
        let message = "the finding has more clients or servers than the result lists; write an exception for a network, a prefix or a role instead";
        return Err(message.to_owned());
    }
    let [clients, servers] = &members;
    let port = if finding.port.is_empty() { "*" } else { &finding.port };
    let pairs = clients.iter().flat_map(|from| servers.iter().map(move |to| (from, to)));
    let traffic = pairs.map(|(from, to)| ExceptedTraffic {
        from: from.clone(),
        to: to.clone(),
        transport: finding.transport.clone(),
        port: port.to_owned(),
    });
    Ok(traffic.collect())
}

/// Returns CSV lines for the findings that an exception can cover: one line for each pair of a
/// client and a server. The user only has to add facts such as the owner and the reason. A line
/// identifies a listed host by its name and any other host by its address. If a finding has hosts
/// that `findings.csv` omits, a comment says so at the start.
///
/// # Errors
///
/// Returns an error if the file is not valid CSV or lacks a column.
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
    // The findings.csv of earlier versions does not have these columns.
    let members = place("clients").zip(place("servers"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut left_out = String::new();
    for record in reader.records() {
        let record = record.map_err(broken)?;
        let get = |number: usize| record[number].trim_start_matches('\'').to_owned();
        // An exception permits traffic, so it cannot cover missing traffic or failed connections.
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
                "# {id} has clients or servers that findings.csv does not list; they have no line here.\n"
            ));
        }
        let port = if get(port).is_empty() { "*".to_owned() } else { get(port) };
        let pairs = clients.iter().flat_map(|from| servers.iter().map(move |to| (from, to)));
        for (number, (from, to)) in pairs.enumerate() {
            let id = if number == 0 { id.clone() } else { format!("{id}-{}", number + 1) };
            let reason = format!("{UNFILLED} {}", get(message));
            let line =
                [&id, from, to, &get(transport), &port, "to-server", "", &reason, "", "", "", ""]
                    .map(|text: &str| escape_csv_formula(text).into_owned());
            writer.write_record(line).map_err(broken)?;
        }
    }
    let bytes = writer.into_inner().map_err(|error| broken(error.into_error().into()))?;
    Ok(left_out + &String::from_utf8_lossy(&bytes))
}
