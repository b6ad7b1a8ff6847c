//! Writes the findings as JSON for the script of the page.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;

use super::farm::Farm;
use super::groups::FarmGroups;
use super::wording::FolderNames;
use crate::classify::Verdict;
use crate::report::json_text::EscapingFormatter;
use crate::result::{AuditResult, FindingRow, MatrixRow, SiteRow, Time, short};

/// The maximum number of matrix rows that the page names as those that a finding is about.
const ABOUT: usize = 4;

/// The maximum number of rows of the matrix that are shown with a finding.
const ROWS: usize = 8;

#[derive(Serialize)]
struct Data<'a> {
    /// The number of all findings, including those that the page omits.
    total: usize,
    findings: Vec<Explained<'a>>,
    /// The slug, the name and the short name of each role that a host can have.
    roles: Vec<(&'a str, &'a str, &'a str)>,
    /// The pairs of groups of the drawing with documented or excepted traffic.
    documented: Vec<(usize, usize)>,
    /// The URL of the folder of the evidence files, if the page can link to them.
    evidence: Option<&'a str>,
}

#[derive(Serialize)]
struct Explained<'a> {
    #[serde(flatten)]
    row: FindingRow<'a>,
    trace: Vec<String>,
    /// The indexes of the matrix rows that the finding is about.
    about: Vec<usize>,
    /// The indexes of the matrix rows that are nearest to the finding, including those in `about`.
    near: Vec<usize>,
    /// The groups of client and server in the drawing of the farm.
    groups: [Vec<usize>; 2],
    /// Whether the finding has an evidence file.
    has_file: bool,
    talkers: Vec<Talker>,
}

/// A conversation of a finding, as the page shows it.
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

/// Writes the data. `findings` are the worst findings, in their order in the result.
pub(super) fn write(
    result: &AuditResult<'_>,
    farm: Option<&Farm<'_>>,
    groups: Option<&FarmGroups>,
    findings: Vec<FindingRow<'_>>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let matrix: Vec<MatrixRow<'_>> = result.matrix_rows().collect();
    let files = result.evidence.as_ref();
    let names = FolderNames::of(result);
    let explained = findings.into_iter().enumerate().map(|(number, row)| {
        let nearest = farm.map_or_else(Vec::new, |farm| nearest_rows(farm, &matrix, &row));
        let about = nearest.iter().take_while(|(rank, _)| *rank == ABOUT_IT).take(ABOUT);
        Explained {
            trace: result.trace(number).iter().map(|line| names.removed_from(line)).collect(),
            about: about.map(|(_, row)| *row).collect(),
            near: nearest.iter().map(|(_, row)| *row).collect(),
            groups: groups.map_or_else(Default::default, |groups| groups.ends[number].clone()),
            has_file: files.is_some_and(|files| files.findings.contains(&number)),
            row,
            talkers: largest_conversations(result, number),
        }
    });
    let data = Data {
        total: result.findings_len(),
        findings: explained.collect(),
        roles: farm.map_or_else(Vec::new, |farm| {
            let roles = farm.site.roles.iter().enumerate().filter(|(_, role)| role.playable);
            let named = roles.map(|(number, role)| {
                (role.slug.as_str(), role.name.as_str(), farm.site.short_title(number))
            });
            named.collect()
        }),
        documented: groups
            .map_or_else(Vec::new, |groups| groups.documented.iter().copied().collect()),
        evidence: files.map(|files| files.folder.as_str()),
    };
    let mut serializer = Serializer::with_formatter(NoMarkup(out), EscapingFormatter::one_line());
    data.serialize(&mut serializer)?;
    Ok(())
}

/// The rank of rows that a finding is about.
const ABOUT_IT: u8 = 0;

/// Returns the ranks and the indexes of the nearest rows, at most [`ROWS`]: first those that the
/// finding is about, then those that allow its client to reach its server (on the same port first),
/// then those that allow other clients to reach the server on the same port. For missing or
/// unassessable traffic, only the first kind applies.
fn nearest_rows(
    farm: &Farm<'_>,
    matrix: &[MatrixRow<'_>],
    finding: &FindingRow<'_>,
) -> Vec<(u8, usize)> {
    let site = farm.site;
    let [client, server] =
        [&finding.client_roles, &finding.server_roles].map(|roles| site.roles_of(roles));
    let port = finding.port.parse::<u16>().ok();
    let is_of_rows = [Verdict::Missing, Verdict::NotAssessable]
        .iter()
        .any(|verdict| finding.verdict == verdict.name());
    let rank = |row: &SiteRow, named: &MatrixRow<'_>| {
        let about = named.rule == finding.rule
            || (!finding.group.is_empty() && named.group == finding.group);
        let goes_there = site.is_destination(row, server) && !site.roles[row.destination].everybody;
        let joins = goes_there && site.is_source(row, client) && !site.roles[row.source].everybody;
        let same_port = port.is_some_and(|port| (row.ports.0..=row.ports.1).contains(&port))
            && named.transport == finding.transport;
        match (about, joins, same_port) {
            (true, ..) => Some(ABOUT_IT),
            _ if is_of_rows => None,
            (_, true, true) => Some(1),
            (_, true, false) => Some(2),
            (_, false, true) if goes_there => Some(3),
            _ => None,
        }
    };
    let rows = site.rows.iter().zip(matrix).enumerate();
    let ranked = rows.filter_map(|(number, (row, named))| Some((rank(row, named)?, number)));
    let mut ranked: Vec<(u8, usize)> = ranked.collect();
    ranked.sort_unstable();
    ranked.truncate(ROWS);
    ranked
}

/// Returns the largest conversations of a finding.
fn largest_conversations(result: &AuditResult<'_>, number: usize) -> Vec<Talker> {
    let rows = result.talkers(number).into_iter().filter_map(|number| result.conversation(number));
    let talkers = rows.map(|row| {
        let end = |address: std::net::IpAddr, name: &str| match name {
            "" => address.to_string(),
            name => format!("{name} ({address})"),
        };
        let time = |time: Option<Time>| time.map_or_else(String::new, |Time(time)| short(time));
        Talker {
            client: end(row.client, &row.client_name),
            server: end(row.server, &row.server_name),
            port: row
                .port
                .map_or_else(|| row.transport.clone(), |port| format!("{} {port}", row.transport)),
            state: row.state.to_string(),
            packets: row.packets_to_server.saturating_add(row.packets_to_client),
            bytes: row.bytes_to_server.saturating_add(row.bytes_to_client),
            first: time(row.first_seen),
            last: time(row.last_seen),
        }
    });
    talkers.collect()
}

/// A writer that escapes `<`, `>` and `&` in JSON, so that an HTML parser does not mistake them for
/// markup. They occur only inside strings, where JSON allows escapes.
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
