//! Defines the command line. Arguments are parsed and checked, but nothing is opened yet.

use std::path::PathBuf;

use anstream::ColorChoice;
use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};
use jiff::civil::Date;

#[cfg(feature = "serve")]
use super::values::parse_listen;
#[cfg(all(feature = "live", feature = "store"))]
use super::values::parse_rows_size;
use super::values::{
    color, dedup, fail_on, parse_day, parse_duration, parse_memory, parse_network, parse_service,
    parse_severity, parse_share, parse_time, whole_number,
};
#[cfg(feature = "live")]
use super::values::{live_fail_on, parse_size, parse_window, sandbox};
#[cfg(feature = "store")]
use super::values::{parse_clock_window, parse_vantage_name};
use crate::classify::Code;
#[cfg(feature = "live")]
use crate::live::{Sandbox, SyslogTarget};
use crate::model::{Nanos, Transport};
use crate::pipeline::{Dedup, FailOn, JsonLayout, ReportFiles};
use crate::policy::{MATRICES, Severity};
use crate::report::{COMPARISON_FORMATS, FORMATS, LISTING_FORMATS, TABLE_FORMATS};
use crate::result::ListedTable;

/// Audits packet captures of a Parallels RAS farm against the vendor's port matrix.
///
/// rasaudit reads captures and an inventory of the hosts and their roles. It reports unexpected
/// ports, missing expected flows and undocumented traffic, each with its evidence.
#[derive(Parser, Debug)]
#[command(name = "rasaudit", version = env!("RASAUDIT_VERSION"), max_term_width = 100, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,

    /// Colour the output: auto (on a terminal, unless NO_COLOR is set), always or never.
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = color(), global = true)]
    pub(super) color: ColorChoice,
}

const EXAMPLES: &str = "\
Examples:
  rasaudit inventory draft farm.pcapng -o inventory.toml    draft an inventory from the traffic
  rasaudit inventory template > inventory.toml              or start from a commented file
  rasaudit inventory check inventory.toml                   check it and list all problems
  rasaudit audit farm.pcapng -i inventory.toml              print the summary of an audit
  rasaudit audit captures/ -i inventory.toml --out report/  write all reports
  rasaudit matrix show --from gateway-normal                show what this role connects to

Exit codes of an audit: 0 no finding that --fail-on counts (default: low or higher), 1 at least one
such finding, 2 the command failed, 3 part of the input was unreadable, 4 nothing was checked (only
with --require-assessed, or with --fail-on and a value other than never), 130 interrupted. If
several apply, the first of 2, 3, 4 and 1 is used.";

const AUDIT_EXAMPLES: &str = "\
Examples:
  rasaudit audit farm.pcapng -i inventory.toml --out report/
  rasaudit audit monday/ tuesday.pcap -i inventory.toml --fail-on high
  tcpdump -i eth1 -w - | rasaudit audit - -i inventory.toml
  rasaudit audit farm.pcap -i inventory.toml --format csv > findings.csv
  rasaudit audit farm.pcap --format conversations   # needs no inventory";

const DIFF_EXAMPLES: &str = "\
Examples:
  rasaudit diff monday/ tuesday/
  rasaudit diff monday/audit.json tuesday/audit.json --format markdown > changes.md

Exit codes: 0 no finding above info has changed, not counting findings whose traffic an exception
now permits; 1 at least one is new, gone, worse, better or grown (it has additional clients, none of
which the inventory lists); 2 the audits could not be compared.";

const ADD_EXAMPLES: &str = "\
Example:
  rasaudit exceptions add f-98457e43204a --report report/ --exceptions exceptions.csv \\
    --owner \"Farm team\" --approved-by \"Security office\" --reason \"Load test\" --expires 2026-12-31";

const REPORT_EXAMPLES: &str = "\
Examples:
  rasaudit report report/   # prints the summary of an earlier audit
  rasaudit report report/audit.json --format html > report.html
  rasaudit report monday.json --out report/
  rasaudit report report/ --format junit > junit.xml";

const SHOW_EXAMPLES: &str = "\
Examples:
  rasaudit show findings report/ --severity high --from gw1
  rasaudit show findings report/ --group-by cause
  rasaudit show findings report/ --port tcp/443 --not code=refused --format csv > some.csv
  rasaudit show conversations report/ --to role:broker --sort -bytes_to_server --limit 10
  rasaudit show matrix report/ --state missing,not-assessable

Filters: a row must match every given option. If an option has several values, separated by commas,
one of them must match. --not code=refused,port=443 leaves out the rows that match both filters. A
finding about many ports or hosts does not name all of them, so it is listed even if it is not
certain that it matches, and --not leaves it out only if it certainly matches. Findings that only
the baseline has are listed only with --state gone or --state excepted.

Exit codes: 0 done, even if no row matches; 2 the result cannot be read, or an option is wrong.";

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Audit captures against a farm's inventory.
    #[command(after_help = AUDIT_EXAMPLES)]
    Audit(Box<AuditArguments>),
    /// Write reports from the stored result of an earlier audit (audit.json), without its captures.
    #[command(after_help = REPORT_EXAMPLES)]
    Report(ReportArguments),
    /// List findings, conversations, matrix rows, hosts or exceptions of a stored result.
    #[command(after_help = SHOW_EXAMPLES)]
    Show(Box<ListArguments>),
    /// Compare two audits, and show which findings are new, gone, worse or better, and why.
    #[command(after_help = DIFF_EXAMPLES)]
    Diff(AuditDiffArguments),
    /// Audit a span port continuously: each time window separately, and all windows together.
    #[cfg(feature = "live")]
    #[command(after_help = LIVE_EXAMPLES)]
    Live(Box<LiveArguments>),
    /// List the network interfaces, and show whether rasaudit can capture on each.
    #[cfg(feature = "live")]
    Interfaces,
    /// Turn captures into rows of evidence, which can be merged and audited elsewhere.
    #[cfg(feature = "store")]
    #[command(after_help = COLLECT_EXAMPLES)]
    Collect(Box<CollectArguments>),
    /// Merge rows of evidence from several stores into one.
    #[cfg(feature = "store")]
    #[command(after_help = MERGE_EXAMPLES)]
    Merge(MergeArguments),
    /// Show, check and compare port matrices.
    #[command(subcommand)]
    Matrix(MatrixCommand),
    /// Show whether the matrix documents a connection, with the row that applies or comes closest.
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(ExplainArguments),
    /// Create and check inventories.
    #[command(subcommand)]
    Inventory(InventoryCommand),
    /// Create and check lists of exceptions.
    #[command(subcommand)]
    Exceptions(ExceptionsCommand),
    /// Print a completion script for a shell.
    Completions {
        /// Shell to generate the script for.
        shell: clap_complete::Shell,
    },
}

#[derive(Args, Debug)]
#[command(mut_arg("config", |arg| arg.help(CONFIG_IN_CURRENT_FOLDER)))]
pub(super) struct ReportArguments {
    /// The audit.json file of an earlier audit, or the folder that contains it.
    #[arg(value_name = "RESULT")]
    pub result: PathBuf,

    /// Write reports into this folder: all of them, or only those that --reports lists.
    #[arg(short, long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Write one report to standard output (default: text, which is the summary; csv is the content
    /// of findings.csv). Cannot be used with --out.
    #[arg(
        long, value_name = "FORMAT", conflicts_with = "out",
        value_parser = PossibleValuesParser::new(FORMATS.iter().map(|f| f.name)),
    )]
    pub format: Option<String>,

    #[command(flatten)]
    pub files: ReportFileArgs,

    /// Do not print the summary. Errors, and the output of --format, are still printed.
    #[arg(short, long)]
    pub quiet: bool,

    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Options for the files of --out.
#[derive(Args, Clone, Debug)]
pub(super) struct ReportFileArgs {
    /// Write only these reports (separated by commas) into the folder of --out.
    #[arg(
        long, value_name = "LIST", requires = "out", value_delimiter = ',',
        value_parser = PossibleValuesParser::new(ReportFiles::names()), help_heading = "Reports",
    )]
    pub reports: Vec<String>,

    /// Indent audit.json and the output of --format json, so that people can read them. Without
    /// this option, each row of their tables is one line.
    #[arg(long, help_heading = "Reports")]
    pub pretty: bool,
}

impl ReportFileArgs {
    /// Returns the selected files.
    pub fn files(&self) -> ReportFiles {
        let layout = if self.pretty { JsonLayout::Indented } else { JsonLayout::Compact };
        ReportFiles::new(self.reports.clone(), layout)
    }
}

#[derive(Args, Debug)]
#[command(mut_arg("config", |arg| arg.help(CONFIG_IN_CURRENT_FOLDER)))]
pub(super) struct ListArguments {
    /// The table to list.
    #[arg(value_name = "TABLE", value_parser = PossibleValuesParser::new(ListedTable::NAMES))]
    pub table: String,

    /// The audit.json file of an audit, or the folder that contains it.
    #[arg(value_name = "RESULT")]
    pub result: PathBuf,

    #[command(flatten)]
    pub filters: FilterArguments,

    /// Group findings or conversations by role-pair, host, port, code or cause. With host, a row
    /// counts for each of its hosts. With cause, all rows of a group have the same severity,
    /// certainty, code, roles, transport, port, group of matrix rows, and matrix row or exception.
    #[arg(long, value_name = "PROPERTY", help_heading = "Output")]
    pub group_by: Option<String>,

    /// Sort by these columns, separated by commas. A minus sign before a column puts its greatest
    /// value first. By default, rows have the order of the table's CSV file, and the largest groups
    /// come first.
    #[arg(
        long,
        value_name = "COLUMN",
        value_delimiter = ',',
        allow_hyphen_values = true,
        help_heading = "Output"
    )]
    pub sort: Vec<String>,

    /// Show these columns, separated by commas: those of the table's CSV file, and also from and to
    /// (findings and conversations) and service (all tables but hosts). With --group-by, these are
    /// the columns of the groups, such as group and count. By default, text shows some of the
    /// columns, and csv and jsonl show all columns of the CSV file or of the groups.
    #[arg(long, value_name = "COLUMN", value_delimiter = ',', help_heading = "Output")]
    pub columns: Vec<String>,

    /// Show at most this number of rows or groups (default: 50 in text, all in csv and jsonl).
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole_number::<u32>(1..=u32::MAX), help_heading = "Output")]
    pub limit: Option<u32>,

    /// Show all rows or groups.
    #[arg(long, conflicts_with = "limit", help_heading = "Output")]
    pub all: bool,

    /// Output format.
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = PossibleValuesParser::new(LISTING_FORMATS), help_heading = "Output")]
    pub format: String,

    #[command(flatten)]
    pub config: ConfigArgs,
}

/// The filters of a listing. Their values are checked against the result.
#[derive(Args, Debug)]
#[command(next_help_heading = "Filters")]
pub(super) struct FilterArguments {
    /// The client: a host or network of the inventory, an address, a network like 10.1.0.0/16, or a
    /// role (role:NAME if a host or network has the same name).
    #[arg(long, value_name = "HOST|ROLE", value_delimiter = ',')]
    pub from: Vec<String>,

    /// The server, in any form that --from accepts.
    #[arg(long, value_name = "HOST|ROLE", value_delimiter = ',')]
    pub to: Vec<String>,

    /// The client or the server, in any form that --from accepts. In the hosts table, the host
    /// itself.
    #[arg(long, value_name = "HOST|ROLE", value_delimiter = ',')]
    pub host: Vec<String>,

    /// The role of the client or of the server. In the hosts table, the role of the host itself.
    #[arg(long, value_name = "ROLE", value_delimiter = ',')]
    pub role: Vec<String>,

    /// The port: 443, 1000-2000, tcp/443, tcp (all its ports) or 112/ip (a protocol without ports).
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    pub port: Vec<String>,

    /// The verdict, e.g. missing.
    #[arg(long, value_name = "VERDICT", value_delimiter = ',')]
    pub verdict: Vec<String>,

    /// The code, e.g. refused. In the matrix table, the reason why a row could not be assessed.
    #[arg(long, value_name = "CODE", value_delimiter = ',')]
    pub code: Vec<String>,

    /// At least this severity: info, low, medium, high or critical.
    #[arg(long, value_name = "SEVERITY", value_delimiter = ',')]
    pub severity: Vec<String>,

    /// The state of the conversations, e.g. established. In the findings table, also the change
    /// since the baseline, e.g. new. In the matrix and exceptions tables, the status. In the hosts
    /// table, the coverage.
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    pub state: Vec<String>,

    /// Whether the verdict is certain: yes or no.
    #[arg(long, value_name = "YES|NO", value_delimiter = ',')]
    pub certain: Vec<String>,

    /// A sensor that saw the traffic, as SENSOR or SITE/SENSOR. For traffic that was not seen, a
    /// sensor that saw one of the hosts.
    #[arg(long, value_name = "SENSOR", value_delimiter = ',')]
    pub sensor: Vec<String>,

    /// Findings with the same cause as the finding with this id.
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub cause: Vec<String>,

    /// Leave out the rows that match this filter, e.g. code=half-open. Repeatable.
    #[arg(long, value_name = "KEY=VALUE")]
    pub not: Vec<String>,
}

#[derive(Args, Debug)]
#[command(mut_arg("config", |arg| arg.help(CONFIG_IN_CURRENT_FOLDER)))]
pub(super) struct AuditDiffArguments {
    /// The earlier audit: its audit.json, or the folder that contains it.
    #[arg(value_name = "OLD")]
    pub old: PathBuf,

    /// The later audit: its audit.json, or the folder that contains it.
    #[arg(value_name = "NEW")]
    pub new: PathBuf,

    /// The format of the comparison.
    #[arg(
        long, value_name = "FORMAT", default_value = "text",
        value_parser = PossibleValuesParser::new(COMPARISON_FORMATS.iter().map(|(name, _)| *name)),
    )]
    pub format: Option<String>,

    #[command(flatten)]
    pub config: ConfigArgs,
}

#[derive(Args, Debug)]
pub(super) struct AuditArguments {
    /// Capture files (pcap or pcapng, also compressed), folders of them, or - for standard input.
    #[cfg_attr(
        feature = "store",
        doc = "Folders of rows that `rasaudit collect`, `rasaudit merge` or `rasaudit live --collect` wrote,"
    )]
    #[cfg_attr(feature = "store", doc = "and single files in such folders, are also accepted.")]
    #[arg(required = true, value_name = "CAPTURE")]
    pub captures: Vec<PathBuf>,

    /// Inventory of hosts and roles: a TOML file, or a CSV file of hosts together with --matrix.
    /// Without an inventory, conversations are listed, but nothing is judged.
    #[arg(short, long, value_name = "FILE")]
    pub inventory: Option<PathBuf>,

    /// Write reports into this folder: all of them, or only those that --reports lists.
    #[arg(short, long, value_name = "DIR", help_heading = "Reports")]
    pub out: Option<PathBuf>,

    /// Write one report to standard output (default: text, which is the summary; csv is the content
    /// of findings.csv). Cannot be used with --out.
    #[arg(
        long, value_name = "FORMAT", conflicts_with = "out", help_heading = "Reports",
        value_parser = PossibleValuesParser::new(FORMATS.iter().map(|f| f.name)),
    )]
    pub format: Option<String>,

    #[command(flatten)]
    pub files: ReportFileArgs,

    /// Select the findings that the summary lists, e.g. severity=high,from=gw1 (default: the worst
    /// findings). The keys are group-by, sort, columns, limit (a number or all), and the filters of
    /// `rasaudit show` other than cause and not. KEY!=VALUE leaves findings out. Repeatable. With
    /// --quiet, only this list is printed. Reports and the exit code are not affected.
    #[arg(
        long,
        value_name = "KEY=VALUE,...",
        requires = "inventory",
        conflicts_with = "format",
        help_heading = "Reports"
    )]
    pub show: Vec<String>,

    /// Write frames that show the findings into this folder, one pcapng file for each finding that
    /// has frames. Only the 512 worst findings are considered. This reads the captures a second
    /// time, so
    #[cfg_attr(
        feature = "store",
        doc = "standard input, pipes and folders of rows cannot be used."
    )]
    #[cfg_attr(not(feature = "store"), doc = "standard input and pipes cannot be used.")]
    #[arg(long, value_name = "DIR", requires = "inventory", help_heading = "Reports")]
    pub evidence: Option<PathBuf>,

    /// Exit with status 1 if any finding has at least this severity: info, low (default), medium,
    /// high or critical. With new, findings above info count if they are not in --baseline or have
    /// become worse. With never, no finding counts.
    #[arg(long, value_name = "SEVERITY", value_parser = fail_on, help_heading = "Reports")]
    pub fail_on: Option<FailOn>,

    /// Exit with status 4 if nothing was checked. Implied by --fail-on, unless its value is never.
    #[arg(long, help_heading = "Reports")]
    pub require_assessed: bool,

    /// Do not print the summary or progress. Errors, and the output of --format or --show, are
    /// still printed.
    #[arg(short, long, conflicts_with = "verbose", help_heading = "Reports")]
    pub quiet: bool,

    /// Print the numbers of frames, conversations and worker threads, the duration, and the size of
    /// spilled flow tables to standard error.
    #[arg(short, long, help_heading = "Reports")]
    pub verbose: bool,

    /// Print the duration and the processor time of each step to standard error.
    #[arg(long, help_heading = "Resources")]
    pub timings: bool,

    /// Ignore frames before this time: an RFC 3339 time, in UTC if it has no offset, or a date,
    /// which means 00:00 UTC on that day.
    #[arg(long, value_name = "TIME", value_parser = parse_time, help_heading = "Input")]
    pub since: Option<Nanos>,

    /// Ignore frames at or after this time, in any form that --since accepts.
    #[arg(long, value_name = "TIME", value_parser = parse_time, help_heading = "Input")]
    pub until: Option<Nanos>,

    /// Audit only frames that match this BPF expression. Unless the expression contains the word
    /// vlan, frames are filtered as if they had no VLAN tags. With a filter, missing replies and
    /// traffic that was never attempted are not reported.
    #[arg(long, value_name = "BPF", help_heading = "Input")]
    pub filter: Option<String>,

    #[command(flatten)]
    pub tunnels: TunnelArgs,

    /// Count each packet once, even if it was captured several times: auto, on or off. With auto,
    /// this is done if a sample contains such duplicates, or if several sensors saw the same
    /// conversation, provided that the packets can be read a second time. Only packet and byte
    /// counters are corrected.
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = dedup(), help_heading = "Input")]
    pub dedup: Dedup,

    #[command(flatten)]
    pub policy_args: PolicyArgs,

    /// Compare with an earlier audit (its folder of reports, its audit.json or its findings.csv),
    /// and show how the findings have changed, e.g. which are new, worse or gone. The reasons are
    /// shown unless PATH is a findings.csv.
    #[arg(
        long,
        alias = "known",
        value_name = "PATH",
        requires = "inventory",
        help_heading = "Policy"
    )]
    pub baseline: Option<PathBuf>,

    /// Check the expiry dates of exceptions against this time (in any form that --since accepts)
    /// instead of the time of each conversation's last packet.
    #[arg(long, value_name = "TIME", value_parser = parse_time, help_heading = "Policy")]
    pub as_of: Option<Nanos>,

    /// Number of worker threads (default: one per processor). Does not affect the result.
    #[arg(short, long, value_name = "N", allow_negative_numbers = true, value_parser = whole_number::<u16>(1..=256), help_heading = "Resources")]
    pub jobs: Option<u16>,

    /// Memory limit, e.g. 512MiB or 2GiB. Larger flow tables spill to temporary files. There is
    /// room for one conversation per 2 KiB of the limit, and always for at least 16384. If there
    /// are more, unanswered conversations are aggregated, and the reports state this.
    #[arg(long, value_name = "SIZE", default_value = "1GiB", allow_negative_numbers = true, value_parser = parse_memory, help_heading = "Resources")]
    pub max_memory: usize,

    #[command(flatten)]
    pub config: ConfigArgs,
}

#[cfg(feature = "live")]
const LIVE_EXAMPLES: &str = "\
Examples:
  rasaudit interfaces
  rasaudit live eth1 -i inventory.toml --out reports/
  rasaudit live eth1 eth2 -i inventory.toml --out reports/ --every 5m --state /var/lib/rasaudit
  rasaudit live eth1 -i inventory.toml --out reports/ --windows 1 --every 10m

Signals:
  INT, TERM   close the window, write the last report and exit with the exit code of an audit (see
              rasaudit --help; 3 also if an interface was missing for some time or part of the
              output could not be written); a second INT or TERM stops the program immediately
              (status 130)
  HUP         reload the inventory, the rules and the exceptions, which apply as of the next window
              that is closed
  USR1        close the current window immediately";

#[cfg(feature = "live")]
#[derive(Args, Debug)]
pub(super) struct LiveArguments {
    /// The interfaces that receive the mirrored traffic (`rasaudit interfaces` lists them).
    #[arg(required = true, value_name = "INTERFACE")]
    pub interfaces: Vec<String>,

    /// Inventory of hosts and roles: a TOML file, or a CSV file of hosts together with --matrix.
    #[arg(short, long, value_name = "FILE", required = true)]
    pub inventory: Option<PathBuf>,

    /// Write the reports of every window into this folder: one subfolder per window, and `latest`,
    /// a link to the last one.
    #[arg(short, long, value_name = "DIR", help_heading = "Reports")]
    pub out: Option<PathBuf>,

    /// Number of window subfolders to keep in the folder of --out.
    #[arg(long, value_name = "N", default_value_t = 48, allow_negative_numbers = true, value_parser = whole_number::<u16>(1..=u16::MAX), help_heading = "Reports")]
    pub keep: u16,

    /// Length of a window, e.g. 60s or 5m.
    #[arg(long, value_name = "TIME", default_value = "60s", allow_negative_numbers = true, value_parser = parse_window, help_heading = "Reports")]
    pub every: u64,

    /// Stop after this number of windows (default: only a signal stops the audit).
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole_number::<u64>(1..=u64::MAX), help_heading = "Reports")]
    pub windows: Option<u64>,

    /// With --state, move flows that have been idle for this long from memory to disk.
    #[arg(long, value_name = "TIME", default_value = "15m", allow_negative_numbers = true, value_parser = parse_window, help_heading = "Resources")]
    pub idle: u64,

    /// Save the state of the audit in this folder, and resume from it after a restart.
    #[arg(long, value_name = "DIR", help_heading = "Reports")]
    pub state: Option<PathBuf>,

    /// Also record the frames in rotated files, whose numbers are inserted into this name:
    /// farm.pcapng becomes farm.000001.pcapng, then farm.000002.pcapng.
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    pub write: Option<PathBuf>,

    /// File size at which --write starts the next file.
    #[arg(long, value_name = "SIZE", default_value = "100MiB", allow_negative_numbers = true, value_parser = parse_size, requires = "write", help_heading = "Reports")]
    pub write_size: usize,

    /// Number of --write files to keep.
    #[arg(long, value_name = "N", default_value_t = 20, allow_negative_numbers = true, value_parser = whole_number::<u16>(1..=u16::MAX), requires = "write", help_heading = "Reports")]
    pub write_files: u16,

    #[cfg(feature = "store")]
    #[command(flatten)]
    pub rows: WindowRowArgs,

    /// Format of new findings on standard output: one line of text or JSON for each finding.
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = PossibleValuesParser::new(["text", "json"]), help_heading = "Reports")]
    pub format: String,

    /// When the audit ends, exit with status 1 if any finding has at least this severity: info, low
    /// (default), medium, high or critical. With never, no finding counts.
    #[arg(long, value_name = "SEVERITY", value_parser = live_fail_on, help_heading = "Reports")]
    pub fail_on: Option<FailOn>,

    /// Exit with status 4 if nothing was checked. Implied by --fail-on, unless its value is never.
    #[arg(long, help_heading = "Reports")]
    pub require_assessed: bool,

    /// Print only errors and new findings.
    #[arg(short, long, help_heading = "Reports")]
    pub quiet: bool,

    /// Also send new findings to syslog: local, unix:PATH, udp:HOST, udp:HOST:PORT, tcp:HOST or
    /// tcp:HOST:PORT. The default port is 514 for udp and 601 for tcp.
    #[arg(long, value_name = "TARGET", value_parser = SyslogTarget::parse, help_heading = "Reports")]
    pub syslog: Option<SyslogTarget>,

    /// Serve the report (/), its data (/report.json), metrics (/metrics) and health (/healthz) over
    /// HTTP on this address, e.g. 127.0.0.1:9475. An address other than loopback requires --token.
    #[cfg(feature = "serve")]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_listen, help_heading = "Reports")]
    pub listen: Option<std::net::SocketAddr>,

    /// Require clients of --listen to send the token in this file, as a bearer token or as the
    /// password in a browser.
    #[cfg(feature = "serve")]
    #[arg(long, value_name = "FILE", requires = "listen", help_heading = "Reports")]
    pub token: Option<PathBuf>,

    /// If started as root, switch to this user after opening the interfaces, and make this user the
    #[cfg_attr(feature = "store", doc = "owner of the folders of --out, --state and --collect.")]
    #[cfg_attr(not(feature = "store"), doc = "owner of the folders of --out and --state.")]
    #[arg(long, value_name = "NAME", help_heading = "Privileges")]
    pub user: Option<String>,

    /// Drop privileges after startup: auto (warn if a step fails), strict (exit if a step fails) or
    /// off.
    #[arg(long, value_name = "HOW", default_value = "auto", value_parser = sandbox(), help_heading = "Privileges")]
    pub sandbox: Sandbox,

    /// Capture only frames that match this BPF expression. Unless the expression contains the word
    /// vlan, it also matches frames with one or two VLAN tags. With a filter, missing replies and
    /// traffic that was never attempted are not reported.
    #[arg(long, value_name = "BPF", help_heading = "Input")]
    pub filter: Option<String>,

    /// Maximum number of bytes to capture from each frame. The default includes all headers and the
    /// server name in the first segment of a connection.
    #[arg(long, value_name = "BYTES", default_value_t = 1600, allow_negative_numbers = true, value_parser = whole_number::<u32>(64..=262_144), help_heading = "Input")]
    pub snaplen: u32,

    /// Do not put the interfaces into promiscuous mode.
    #[arg(long, help_heading = "Input")]
    pub no_promiscuous: bool,

    #[command(flatten)]
    pub tunnels: TunnelArgs,

    #[command(flatten)]
    pub policy_args: PolicyArgs,

    /// Number of threads per interface. The kernel distributes the flows among them. Does not
    /// affect the result.
    #[arg(short, long, value_name = "N", default_value_t = 1, allow_negative_numbers = true, value_parser = whole_number::<u16>(1..=64), help_heading = "Resources")]
    pub jobs: u16,

    /// Size of the kernel's capture buffer per thread, e.g. 64MiB.
    #[arg(long, value_name = "SIZE", default_value = "32MiB", allow_negative_numbers = true, value_parser = parse_size, help_heading = "Resources")]
    pub buffer: usize,

    /// Memory limit, which is divided into shares. If a table of flows exceeds its share, its flows
    /// are aggregated, first those of clients outside the inventory, and the reports state this.
    #[arg(long, value_name = "SIZE", default_value = "512MiB", allow_negative_numbers = true, value_parser = parse_memory, help_heading = "Resources")]
    pub max_memory: usize,

    #[command(flatten)]
    pub config: ConfigArgs,
}

#[cfg(feature = "store")]
const COLLECT_EXAMPLES: &str = "\
Examples:
  rasaudit collect captures/ --to store/
  rasaudit collect monday.pcap -i inventory.toml --to store/   # if the inventory lists tunnels
  rasaudit collect captures/ --to store/ --window 1h           # for audits with --since and --until
  rasaudit collect captures/ --to - | rasaudit merge - --to store/

Exit codes: 0 done (without --strict, even if a capture could not be read, or none of the files is a
capture); 2 an option is wrong, a capture does not exist, or the rows could not be written; 3 with
--strict, part of the input was unreadable, or none of the files is a capture; 130 interrupted.";

#[cfg(feature = "store")]
const MERGE_EXAMPLES: &str = "\
Examples:
  rasaudit merge site-a/ site-b/ --to merged/
  rasaudit merge site-a/ site-b/ --to 2026-05/ --complete
  rasaudit audit merged/ -i inventory.toml --out report/

Exit codes: 0 done; 2 an option is wrong, a store cannot be read, the stores do not belong together
(they were collected with different options or versions), some rows are missing, duplicate or
damaged, or the rows could not be written; 130 interrupted.";

#[cfg(feature = "store")]
#[derive(Args, Debug)]
// A script may pass the options of an audit, so these are accepted, but the help does not list
// them, because they do not affect the rows.
#[command(
    mut_arg("overlays", |arg| arg.hide(true)),
    mut_arg("exceptions", |arg| arg.hide(true)),
    mut_arg("severities", |arg| arg.hide(true)),
    mut_arg("min_watch", |arg| arg.hide(true)),
    mut_arg("max_loss", |arg| arg.hide(true)),
)]
pub(super) struct CollectArguments {
    /// Capture files (pcap or pcapng, also compressed), folders of them, or - for standard input.
    #[arg(required = true, value_name = "CAPTURE")]
    pub captures: Vec<PathBuf>,

    /// Write one Parquet file per capture into this folder, or an Arrow stream to standard output
    /// (-).
    #[arg(long, value_name = "STORE|-")]
    pub to: PathBuf,

    /// Name of the capture in the reports (default: its path, or - for standard input). Requires a
    /// single capture. A job that copies a capture to a temporary file can state the original name
    /// with this option. If the input is not a capture, and NAME does not have the extension of
    /// one, the input is skipped, as a file in a folder would be.
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub name: Option<String>,

    /// Read nothing, and write only the row that states that the capture could not be read, for
    /// this reason. A job that cannot copy a capture from where it is stored can use this option
    /// together with --name and standard input (-).
    #[arg(long, value_name = "REASON", requires = "name", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub unreadable: Option<String>,

    /// Inventory, of which only the list of tunnels is used, because it determines how frames are
    /// decoded.
    #[arg(short, long, value_name = "FILE")]
    pub inventory: Option<PathBuf>,

    /// Ignore frames before this time: an RFC 3339 time, in UTC if it has no offset, or a date,
    /// which means 00:00 UTC on that day.
    #[arg(long, value_name = "TIME", value_parser = parse_time, help_heading = "Input")]
    pub since: Option<Nanos>,

    /// Ignore frames at or after this time, in any form that --since accepts.
    #[arg(long, value_name = "TIME", value_parser = parse_time, help_heading = "Input")]
    pub until: Option<Nanos>,

    /// Collect only frames that match this BPF expression. Unless the expression contains the word
    /// vlan, frames are filtered as if they had no VLAN tags.
    #[arg(long, value_name = "BPF", help_heading = "Input")]
    pub filter: Option<String>,

    #[command(flatten)]
    pub tunnels: TunnelArgs,

    /// Also keep the first bytes of TCP connections, so that an audit finds server names that span
    /// several segments. These bytes are payload and may be private.
    #[arg(long, help_heading = "Input")]
    pub pieces: bool,

    /// Also keep the fingerprint, time and size of each packet, so that the counters can be
    /// corrected for duplicate packets. This takes about 26 bytes per packet.
    #[arg(long, help_heading = "Input")]
    pub traces: bool,

    /// Name of the place where the captures were made. The reports show it in the column sensors.
    /// An audit of several sensors takes into account when each of them was watching.
    #[arg(long, value_name = "NAME", value_parser = parse_vantage_name, help_heading = "Input")]
    pub sensor: Option<String>,

    /// Name of the site of the sensor, if sensors of several sites have the same name.
    #[arg(long, value_name = "NAME", requires = "sensor", value_parser = parse_vantage_name, help_heading = "Input")]
    pub site: Option<String>,

    /// Divide the rows into time windows of this length, aligned with midnight UTC, e.g. 5m, 1h or
    /// 1d, so that an audit of the rows can begin (--since) and end (--until) at the start of any
    /// window. The length must be a whole number of minutes and divide a day evenly.
    #[arg(long, value_name = "TIME", allow_negative_numbers = true, value_parser = parse_clock_window, help_heading = "Input")]
    pub window: Option<Nanos>,

    /// Exit with status 3 if a capture could not be read completely, or if there was no capture at
    /// all. If there are captures, files in a folder that are not captures are skipped and do not
    /// count.
    #[arg(long)]
    pub strict: bool,

    /// Do not print the summary or progress. Errors are still printed.
    #[arg(short, long)]
    pub quiet: bool,

    #[command(flatten)]
    pub policy_args: PolicyArgs,

    /// Number of worker threads (default: one per processor). Does not affect the result.
    #[arg(short, long, value_name = "N", allow_negative_numbers = true, value_parser = whole_number::<u16>(1..=256), help_heading = "Resources")]
    pub jobs: Option<u16>,

    /// Memory for flow tables and rows, e.g. 512MiB or 2GiB. What exceeds it spills to temporary
    /// files. Does not affect the result.
    #[arg(long, value_name = "SIZE", default_value = "1GiB", allow_negative_numbers = true, value_parser = parse_memory, help_heading = "Resources")]
    pub max_memory: usize,

    /// Print the duration and the processor time of each step to standard error.
    #[arg(long, help_heading = "Resources")]
    pub timings: bool,

    #[command(flatten)]
    pub config: ConfigArgs,
}

#[cfg(feature = "store")]
#[derive(Args, Debug)]
#[command(mut_arg("config", |arg| arg.help(CONFIG_IN_CURRENT_FOLDER)))]
pub(super) struct MergeArguments {
    /// Folders of Parquet files that `rasaudit collect`, `rasaudit merge` or `rasaudit live
    /// --collect` wrote, single files in such folders, or - for an Arrow stream on standard input.
    #[arg(required = true, value_name = "STORE|-")]
    pub stores: Vec<PathBuf>,

    /// Write the merged rows into this folder, or as an Arrow stream to standard output (-).
    #[arg(long, value_name = "STORE|-")]
    pub to: PathBuf,

    /// Make a complete store: find the server names and duplicate packets that the rows of all
    /// stores show together, and drop what `rasaudit collect --pieces --traces` stored for this
    /// purpose. Captures cannot be added to the store afterwards.
    #[arg(long)]
    pub complete: bool,

    /// Memory for rows, e.g. 512MiB or 2GiB. Rows that exceed it are sorted in temporary files.
    /// Does not affect the result.
    #[arg(long, value_name = "SIZE", default_value = "1GiB", allow_negative_numbers = true, value_parser = parse_memory, help_heading = "Resources")]
    pub max_memory: usize,

    /// Do not print the summary. Errors are still printed.
    #[arg(short, long)]
    pub quiet: bool,

    #[command(flatten)]
    pub config: ConfigArgs,
}

/// The help of `--config` for commands without `--inventory`.
const CONFIG_IN_CURRENT_FOLDER: &str = "Read further options from this file (default: the file \
     rasaudit.toml in the current folder). Options on the command line take precedence";

/// Options for the configuration file. Commands without `--inventory` use
/// [`CONFIG_IN_CURRENT_FOLDER`].
#[derive(Args, Clone, Debug)]
pub(super) struct ConfigArgs {
    /// Read further options from this file (default: the file rasaudit.toml next to the file of
    /// --inventory or, without --inventory, in the current folder). Options on the command line
    /// take precedence.
    #[arg(long, value_name = "FILE", help_heading = "Configuration")]
    pub config: Option<PathBuf>,

    /// Do not read a configuration file.
    #[arg(long, conflicts_with = "config", help_heading = "Configuration")]
    pub no_config: bool,

    /// Print the options in effect and where each comes from, and exit.
    #[arg(long, help_heading = "Configuration")]
    pub print_config: bool,
}

/// Options for the rows of windows.
#[cfg(all(feature = "live", feature = "store"))]
#[derive(Args, Clone, Debug)]
pub(super) struct WindowRowArgs {
    /// Write the evidence rows of every window into this folder, one Parquet file per window, so
    /// that they can be moved away and audited together with those of other sensors.
    #[arg(long, value_name = "DIR", help_heading = "Reports")]
    pub collect: Option<PathBuf>,

    /// Maximum total size of the files of --collect. If it is exceeded, the oldest files are
    /// removed, and the next file records this.
    #[arg(long, value_name = "SIZE", default_value = "10GiB", allow_negative_numbers = true, value_parser = parse_rows_size, requires = "collect", help_heading = "Reports")]
    pub collect_size: usize,

    /// Also write the fingerprint, time and size of each packet to the rows of --collect, so that
    /// packets that several sensors captured count once in amounts. All sensors of an audit need
    /// the same setting.
    #[arg(long, requires = "collect", help_heading = "Reports")]
    pub traces: bool,

    /// Name of this sensor in the reports of audits that combine several sensors (default: the host
    /// name).
    #[arg(long, value_name = "NAME", requires = "collect", value_parser = parse_vantage_name, help_heading = "Reports")]
    pub sensor: Option<String>,

    /// Name of the site of this sensor, if sensors of several sites have the same name.
    #[arg(long, value_name = "NAME", requires = "collect", value_parser = parse_vantage_name, help_heading = "Reports")]
    pub site: Option<String>,
}

/// Options for tunnels.
#[derive(Args, Clone, Debug)]
pub(super) struct TunnelArgs {
    /// Examine the tunnels themselves, not the packets inside them.
    #[arg(long, help_heading = "Input")]
    pub no_decap: bool,

    /// Decode VXLAN on this UDP port, in addition to 4789 and 8472. Repeatable; several ports can
    /// be separated by commas.
    #[arg(long = "vxlan-port", value_name = "PORT", conflicts_with = "no_decap", value_delimiter = ',', allow_negative_numbers = true, value_parser = whole_number::<u16>(1..=u16::MAX), help_heading = "Input")]
    pub vxlan_ports: Vec<u16>,
}

/// Options for judging, in addition to the inventory.
#[derive(Args, Clone, Debug)]
pub(super) struct PolicyArgs {
    /// The matrix for a CSV inventory: ras-19, ras-legacy, or the folder of another matrix. A TOML
    /// inventory names its own matrix.
    #[arg(long, value_name = "NAME", requires = "inventory", help_heading = "Policy")]
    pub matrix: Option<String>,

    /// Use the rules in this folder, which has a subfolder for each matrix, instead of the built-in
    /// rules.
    #[arg(long, value_name = "DIR", requires = "inventory", help_heading = "Policy")]
    pub rules: Option<PathBuf>,

    /// Also apply this overlay, which adds rows to the matrix: windows-domain or a CSV file.
    /// Requires --inventory. Repeatable.
    #[arg(long = "overlay", value_name = "NAME", requires = "inventory", help_heading = "Policy")]
    pub overlays: Vec<String>,

    /// List of exceptions: approved traffic that the matrix does not permit (see `rasaudit
    /// exceptions template`).
    #[arg(long, value_name = "FILE", requires = "inventory", help_heading = "Policy")]
    pub exceptions: Option<PathBuf>,

    /// Set the severity of all findings with this code, e.g. refused=low. Repeatable.
    #[arg(long = "severity", value_name = "CODE=LEVEL", requires = "inventory", value_parser = parse_severity, help_heading = "Policy")]
    pub severities: Vec<(Code, Severity)>,

    /// Minimum time to watch before expected but unseen traffic is reported as missing, e.g. 600s
    /// or 10m. Replaces the watch times of the matrix rows.
    #[arg(long, value_name = "TIME", allow_negative_numbers = true, value_parser = parse_duration, help_heading = "Policy")]
    pub min_watch: Option<u64>,

    /// If more than this share of frames was lost, e.g. 1% or 0.01, do not report expected but
    /// unseen traffic as missing.
    #[arg(long, value_name = "SHARE", default_value = "1%", allow_negative_numbers = true, value_parser = parse_share, help_heading = "Policy")]
    pub max_loss: f64,
}

#[derive(Subcommand, Debug)]
pub(super) enum MatrixCommand {
    /// Show the rows of a matrix.
    Show(ShowArguments),
    /// Check the rows of a matrix against each other and against their examples.
    Check {
        /// A built-in matrix, a built-in overlay (checked together with ras-19), the folder of a
        /// matrix, or a CSV file of rows or background traffic (checked with the roles and features
        /// of ras-19).
        #[arg(value_name = "MATRIX")]
        name: String,
    },
    /// Compare two matrices, and show the traffic that only one of them documents.
    Diff(DiffArguments),
}

#[derive(Args, Debug)]
pub(super) struct DiffArguments {
    /// The current matrix: ras-19, ras-legacy, or the folder of another matrix.
    #[arg(value_name = "OLD")]
    pub old: String,
    /// The matrix that replaces it, in any form that OLD accepts.
    #[arg(value_name = "NEW")]
    pub new: String,
    /// Output format.
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = PossibleValuesParser::new(TABLE_FORMATS))]
    pub format: String,
}

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  rasaudit explain --from gw1 --to broker1 --port 20003/tcp -i inventory.toml
  rasaudit explain --from console --to broker --port 20002/tcp
  rasaudit explain --from avd-session-host --to login.windows.net --port 443/tcp
  rasaudit explain --from parallels-client --to broadcast --port 20000/udp --matrix ras-legacy

Exit codes: 0 documented, or background traffic; 1 not documented, or documented only for some pairs
of roles; 2 the question could not be answered.";

#[derive(Args, Debug)]
pub(super) struct ExplainArguments {
    /// The client: a host or network of the inventory, an address, a role or a DNS name.
    #[arg(long, value_name = "HOST|ROLE")]
    pub from: String,
    /// The server: a host or network of the inventory, an address, a role, a DNS name, broadcast or
    /// localhost.
    #[arg(long, value_name = "HOST|ROLE")]
    pub to: String,
    /// Port and protocol, e.g. 20003/tcp. For ICMP, the type, e.g. 8/icmp; for any other protocol
    /// without ports, its number, e.g. 112/ip.
    #[arg(long, value_name = "PORT/PROTOCOL", value_parser = parse_service)]
    pub port: (u16, Transport),
    /// Inventory of hosts, roles and features in use.
    #[arg(short, long, value_name = "FILE")]
    pub inventory: Option<PathBuf>,
    /// The matrix: ras-19 (default without an inventory), ras-legacy, or the folder of another
    /// matrix. A CSV inventory requires this option; a TOML inventory names its own matrix.
    #[arg(long, value_name = "NAME")]
    pub matrix: Option<String>,
    /// Also apply this overlay, which adds rows to the matrix: windows-domain or a CSV file.
    /// Requires --inventory. Repeatable.
    #[arg(long = "overlay", value_name = "NAME", requires = "inventory")]
    pub overlays: Vec<String>,

    #[command(flatten)]
    pub config: ConfigArgs,
}

#[derive(Args, Debug)]
pub(super) struct ShowArguments {
    /// Show only rows whose source is or includes this role.
    #[arg(long, value_name = "ROLE")]
    pub from: Option<String>,
    /// Show only rows whose destination is or includes this role.
    #[arg(long, value_name = "ROLE")]
    pub to: Option<String>,
    /// List the roles, with all names that an inventory may use for them.
    #[arg(long, conflicts_with_all = ["from", "to", "features"])]
    pub roles: bool,
    /// List the features that rows of the matrix may depend on.
    #[arg(long, conflicts_with_all = ["from", "to"])]
    pub features: bool,
    /// The matrix: ras-19, ras-legacy, or the folder of another matrix.
    #[arg(long, value_name = "NAME", default_value = MATRICES[0])]
    pub matrix: String,
    /// Include the rows that this overlay adds to the matrix: windows-domain or a CSV file.
    /// Repeatable.
    #[arg(long = "overlay", value_name = "NAME")]
    pub overlays: Vec<String>,
    /// Output format. All formats except table also state where each row of the matrix comes from.
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = PossibleValuesParser::new(TABLE_FORMATS))]
    pub format: String,
}

#[derive(Subcommand, Debug)]
pub(super) enum InventoryCommand {
    /// Draft an inventory from captures: hosts, their services and their probable roles.
    Draft(DraftArguments),
    /// Check an inventory and list all problems.
    Check(CheckArguments),
    /// Print a commented inventory as a starting point.
    Template,
}

#[derive(Args, Debug)]
#[command(mut_arg("config", |arg| arg.help(CONFIG_IN_CURRENT_FOLDER)))]
pub(super) struct DraftArguments {
    /// Capture files (pcap or pcapng, also compressed), folders of them, or - for standard input.
    #[arg(required = true, value_name = "CAPTURE")]
    pub captures: Vec<PathBuf>,
    /// Write the draft to this file instead of standard output. An existing file is replaced only
    /// if it is the --merge file.
    #[arg(short, long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Start from this TOML inventory, and add what the captures show. Existing entries do not
    /// change.
    #[arg(long, value_name = "INVENTORY")]
    pub merge: Option<PathBuf>,
    /// Also apply this overlay, which adds rows to the matrix: windows-domain or a CSV file.
    /// Repeatable.
    #[arg(long = "overlay", value_name = "NAME")]
    pub overlays: Vec<String>,
    /// Treat this network as part of the farm, in addition to the private networks (10.0.0.0/8,
    /// 100.64.0.0/10, 172.16.0.0/12, 192.168.0.0/16, fc00::/7) and, with --merge, the internal
    /// networks of the inventory. Repeatable.
    #[arg(long = "internal", value_name = "CIDR", value_parser = parse_network)]
    pub internal: Vec<ipnet::IpNet>,
    /// Matrix to guess roles from: ras-19 (default), ras-legacy, or the folder of another matrix.
    /// Cannot be used with --merge, because that inventory names its own matrix.
    #[arg(long, value_name = "NAME", conflicts_with = "merge")]
    pub matrix: Option<String>,
    /// Number of worker threads (default: one per processor). Does not affect the result.
    #[arg(short, long, value_name = "N", allow_negative_numbers = true, value_parser = whole_number::<u16>(1..=256))]
    pub jobs: Option<u16>,
    /// Memory for flow tables, e.g. 512MiB or 2GiB. Larger tables spill to temporary files. Does
    /// not affect the result.
    #[arg(long, value_name = "SIZE", default_value = "1GiB", allow_negative_numbers = true, value_parser = parse_memory)]
    pub max_memory: usize,
    /// Print neither progress nor the external networks that were left out. Errors are still
    /// printed.
    #[arg(short, long)]
    pub quiet: bool,

    #[command(flatten)]
    pub config: ConfigArgs,
}

#[derive(Args, Debug)]
pub(super) struct CheckArguments {
    /// The inventory: TOML or a CSV file of hosts.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The matrix for a CSV file of hosts: ras-19, ras-legacy, or the folder of another matrix. A
    /// TOML inventory names its own matrix.
    #[arg(long, value_name = "NAME")]
    pub matrix: Option<String>,
    /// Use the rules in this folder, which has a subfolder for each matrix, instead of the built-in
    /// rules.
    #[arg(long, value_name = "DIR")]
    pub rules: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub(super) enum ExceptionsCommand {
    /// Print a list of exceptions as a starting point. With --from, it has a line for each pair of
    /// a client and a server in each finding that an exception could cover.
    Template {
        /// The findings.csv of an audit.
        #[arg(long, value_name = "FINDINGS")]
        from: Option<PathBuf>,
    },
    /// Add exceptions for a finding to a list: one for each pair of a client and a server.
    #[command(after_help = ADD_EXAMPLES)]
    Add(AddExceptionArguments),
    /// Check a list of exceptions against an inventory and list all problems.
    Check {
        /// The list of exceptions.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The TOML inventory that defines the hosts, networks and roles in the list.
        #[arg(short, long, value_name = "FILE")]
        inventory: PathBuf,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

#[derive(Args, Debug)]
pub(super) struct AddExceptionArguments {
    /// The id of the finding, such as f-98457e43204a.
    #[arg(value_name = "FINDING")]
    pub finding: String,
    /// The audit.json of the audit that reported the finding, or the folder that contains it.
    #[arg(long, value_name = "RESULT")]
    pub report: PathBuf,
    /// The list of exceptions, which is created if it does not exist (default: the list of the
    /// audit).
    #[arg(long, value_name = "FILE")]
    pub exceptions: Option<PathBuf>,
    /// The TOML inventory that the list is checked against (default: the inventory of the audit).
    #[arg(short, long, value_name = "FILE")]
    pub inventory: Option<PathBuf>,
    /// The person or team that is responsible for the exception.
    #[arg(long, value_name = "NAME")]
    pub owner: String,
    /// The person who approved the exception.
    #[arg(long, value_name = "NAME")]
    pub approved_by: String,
    /// The reason why the traffic is needed.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// The last day on which the exception is valid, e.g. 2027-01-31.
    #[arg(long, value_name = "DATE", value_parser = parse_day)]
    pub expires: Date,
    /// The day on which the exception was created (default: today, UTC).
    #[arg(long, value_name = "DATE", value_parser = parse_day)]
    pub created: Option<Date>,
    /// The ticket of the approval. The list must have a column for it.
    #[arg(long, value_name = "TICKET")]
    pub ticket: Option<String>,
    /// The id of the exception (default: the id of the finding). If the finding needs several
    /// exceptions, the second gets the suffix -2, the third -3, and so on.
    #[arg(long, value_name = "NAME")]
    pub id: Option<String>,

    #[command(flatten)]
    pub config: ConfigArgs,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_argument_has_help() {
        fn walk(command: &clap::Command) {
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{} of {}",
                    argument.get_id(),
                    command.get_name()
                );
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Arguments::command());
    }

    #[test]
    fn the_help_of_an_argument_names_only_options_of_its_command() {
        fn walk(command: &clap::Command) {
            let known: Vec<_> = command.get_arguments().filter_map(|arg| arg.get_long()).collect();
            for argument in command.get_arguments() {
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                // Text in backticks is about another command.
                let own: String = help.split('`').step_by(2).collect();
                let is_part = |c: char| c == '-' || c.is_ascii_alphabetic();
                let words = own.split(|c| !is_part(c)).filter_map(|word| word.strip_prefix("--"));
                for option in words.filter(|word| !word.is_empty()) {
                    let (argument, command) = (argument.get_id(), command.get_name());
                    assert!(known.contains(&option), "--{option} in {argument} of {command}");
                }
            }
            command.get_subcommands().for_each(walk);
        }
        let mut command = Arguments::command();
        command.build();
        walk(&command);
    }

    #[test]
    fn the_help_of_an_audit_names_rows_only_if_they_can_be_read() {
        let mut command = Arguments::command();
        let audit = command.find_subcommand_mut("audit").expect("the command");
        let help = audit.render_long_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(help.contains("or - for standard input"), "{help}");
        assert_eq!(help.to_lowercase().contains("folders of rows"), cfg!(feature = "store"));
    }
}
