//! The findings as data for the script.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;

use super::farm::{Farm, roles_of};
use crate::classify::{Finding, Row, Verdict};
use crate::report::json_text::Harmless;
use crate::report::rows::{self, FindingRow};
use crate::report::story::short;
use crate::report::{Report, Time};

/// Findings in the page, the worst ones; all of them are in `findings.csv`.
const FINDINGS: usize = 2000;

/// Rows of the matrix that are shown beside a finding.
const ROWS: usize = 8;

/// Conversations that are shown of a finding, the largest ones.
const TALKERS: usize = 5;

#[derive(Serialize)]
struct Data<'a> {
    /// Findings in all.
    total: usize,
    findings: Vec<Explained<'a>>,
    /// The names of the roles, by stable name.
    roles: Vec<(&'a str, &'a str)>,
}

#[derive(Serialize)]
struct Explained<'a> {
    #[serde(flatten)]
    row: FindingRow<'a>,
    trace: Vec<String>,
    /// The nearest rows of the matrix, by position.
    near: Vec<usize>,
    talkers: Vec<Talker>,
}

/// A conversation of a finding.
#[derive(Serialize)]
struct Talker {
    client: String,
    server: String,
    port: String,
    state: String,
    packets: u64,
    bytes: u64,
    first: String,
    last: String,
}

pub(super) fn write(
    report: &Report<'_>,
    farm: Option<&Farm<'_>>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let findings = report.findings();
    let worst = findings.iter().take(FINDINGS);
    let rows = worst.filter_map(|finding| Some((rows::finding(report, finding)?, finding)));
    let data = Data {
        total: findings.len(),
        findings: rows
            .map(|(row, finding)| Explained {
                trace: report.trace(finding),
                near: farm.map_or_else(Vec::new, |farm| near(farm, finding, &row)),
                row,
                talkers: talkers(report, finding),
            })
            .collect(),
        roles: farm.map_or_else(Vec::new, |farm| {
            let roles = farm.policy.matrix.roles.iter().filter(|role| role.is_playable());
            roles.map(|role| (role.slug.as_str(), role.name.as_str())).collect()
        }),
    };
    let mut serializer = Serializer::with_formatter(NoMarkup(out), Harmless::one_line());
    data.serialize(&mut serializer)?;
    Ok(())
}

/// The rows that a finding is about, then those that join its ends, then those that document its port there.
fn near(farm: &Farm<'_>, finding: &Finding, told: &FindingRow<'_>) -> Vec<usize> {
    let matrix = &farm.policy.matrix;
    let [client, server] =
        [&told.client_roles, &told.server_roles].map(|roles| roles_of(matrix, roles));
    let port = told.port.parse::<u16>().ok();
    let rank = |row: &Row| {
        let about = row.id == told.rule || (!told.group.is_empty() && row.group == told.group);
        let goes_there =
            matrix.is_destination(row, server) && !matrix.roles[row.destination].everybody;
        let joins =
            goes_there && matrix.is_source(row, client) && !matrix.roles[row.source].everybody;
        let same_port = port.is_some_and(|port| row.ports.contains(&port))
            && row.transport.to_string() == told.transport;
        match (about, joins, same_port) {
            (true, ..) => Some(0),
            _ if matches!(finding.verdict(), Verdict::Missing | Verdict::NotAssessable) => None,
            (_, true, true) => Some(1),
            (_, true, false) => Some(2),
            (_, false, true) if goes_there => Some(3),
            _ => None,
        }
    };
    let ranked = matrix.rows.iter().enumerate().filter_map(|(n, row)| Some((rank(row)?, n)));
    let mut ranked: Vec<(u8, usize)> = ranked.collect();
    ranked.sort_unstable();
    ranked.into_iter().take(ROWS).map(|(_, number)| number).collect()
}

/// The largest conversations of a finding.
fn talkers(report: &Report<'_>, finding: &Finding) -> Vec<Talker> {
    let list = &report.outcome.conversations.list;
    let bytes = |number: usize| list[number].to_server.bytes.0 + list[number].to_client.bytes.0;
    let members = report.outcome.members_of(finding).iter();
    let mut numbers: Vec<usize> = members.map(|number| *number as usize).collect();
    let order = |number: &usize| (std::cmp::Reverse(bytes(*number)), *number);
    if numbers.len() > TALKERS {
        numbers.select_nth_unstable_by_key(TALKERS, order);
        numbers.truncate(TALKERS);
    }
    numbers.sort_unstable_by_key(order);
    let talker = |number: usize| {
        let row = rows::conversation_at(report, number);
        let end = |address: std::net::IpAddr, name: &str| match name {
            "" => address.to_string(),
            name => format!("{name} ({address})"),
        };
        let time = |time: Option<Time>| time.map_or_else(String::new, |Time(time)| short(time));
        Talker {
            client: end(row.client, row.client_name),
            server: end(row.server, row.server_name),
            port: row
                .port
                .map_or_else(|| row.transport.clone(), |port| format!("{} {port}", row.transport)),
            state: row.state.to_owned(),
            packets: row.packets_to_server + row.packets_to_client,
            bytes: bytes(number),
            first: time(row.first_seen),
            last: time(row.last_seen),
        }
    };
    numbers.into_iter().map(talker).collect()
}

/// Writes JSON so that no part of it is markup to whoever reads the page around it: `<`, `>` and `&` stand in strings
/// alone, where they may be written as escapes.
struct NoMarkup<'a>(&'a mut dyn Write);

impl Write for NoMarkup<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for run in bytes.split_inclusive(|byte| matches!(byte, b'<' | b'>' | b'&')) {
            let (escape, plain): (&[u8], &[u8]) = match run.split_last() {
                Some((b'<', plain)) => (b"\\u003c", plain),
                Some((b'>', plain)) => (b"\\u003e", plain),
                Some((b'&', plain)) => (b"\\u0026", plain),
                _ => (b"", run),
            };
            self.0.write_all(plain)?;
            self.0.write_all(escape)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_hold_no_markup_and_stay_the_same_json() {
        let text = "</script><!-- & \u{2028} \"quoted\" ü";
        let mut out = Vec::new();
        serde_json::to_writer(NoMarkup(&mut out), text).expect("memory");
        let out = String::from_utf8(out).expect("text");
        assert!(!out.contains(['<', '>', '&']));
        assert_eq!(serde_json::from_str::<String>(&out).expect("JSON"), text);
    }
}
