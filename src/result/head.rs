//! Everything in `audit.json` except its tables. The doc comments become the descriptions in its
//! schema.

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ExceptionUse, Site, Time, short};
use crate::classify::{BACKGROUND, Policy};
use crate::model::SkipReason;

/// The name of the layout. Its number changes when a key is renamed or removed.
pub const SCHEMA: &str = "rasaudit.audit/2";

/// The minor version of the layout. It is incremented when a key is added.
pub const SCHEMA_MINOR: u32 = 6;

type Counts = BTreeMap<String, u64>;

/// An audit result without its tables.
pub type Head = Layout<(), (), (), ()>;

/// `audit.json`: everything that an audit found. As long as the number in `schema` stays the same,
/// keys may be added, but none is renamed, moved, removed or reused. Readers must ignore keys that
/// they do not know.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Layout<F, C, M, H> {
    /// The name of the layout. Its number changes when a key is renamed or removed.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// The minor version of the layout. It is incremented when a key is added.
    #[serde(default)]
    pub schema_minor: u32,
    /// The program that wrote the file.
    pub tool: Tool,
    /// The name of the farm. Null without an inventory.
    pub farm: Option<String>,
    /// The results in numbers.
    pub summary: Summary,
    /// The reasons for the exit code.
    pub exit_reasons: Vec<String>,
    /// The inputs, ordered by name.
    pub inputs: Vec<Input>,
    /// The numbers of frames that were read, that became observations, and that were skipped.
    pub accounting: Accounting,
    /// The time range of the capture.
    pub window: CaptureWindow,
    /// The matrix that the capture was judged against. Null without an inventory.
    pub matrix: Option<JudgedBy>,
    /// The inventory that the capture was judged against. Null if there was none.
    pub inventory: Option<InventoryFile>,
    /// The exceptions of the audit, each with the conversations that it covers. Null without a list
    /// of exceptions.
    pub exceptions: Option<ExceptionList>,
    /// The changes since an earlier audit. Null without a baseline.
    pub known: Option<Since>,
    /// The filter expression that the user gave. Null if there was none.
    pub filter: Option<String>,
    /// The coverage that the inventory declares. Null without an inventory.
    pub coverage: Option<StatedCoverage>,
    /// The overall verdict in a sentence.
    #[serde(default)]
    pub headline: Headline,
    /// Notes that readers need about the capture and the judgement, in the order in which reports
    /// show them.
    #[serde(default)]
    pub notes: Vec<Note>,
    /// A sentence about what the capture covers.
    #[serde(default)]
    pub coverage_note: String,
    /// Traffic over time, as triples of start (seconds since 1970), frames and bytes. A slot is ten
    /// seconds long, or an hour in the older part of a live audit.
    #[serde(default)]
    pub timeline: Vec<(i64, u64, u64)>,
    /// The roles, matrix rows and inventory, as far as reports show them.
    #[serde(default)]
    pub site: Option<Site>,
    /// The conditions that limit the claims that the capture supports.
    #[serde(default)]
    pub conditions: Conditions,
    /// The findings that fail the audit (`--fail-on`): a severity, `new` or `never`. Null in
    /// results of earlier versions.
    #[serde(default)]
    pub fail_on: Option<String>,
    /// The options that differ from their defaults and affect the judgement.
    #[serde(default)]
    pub settings: Vec<OptionSetting>,
    /// The configuration file that was read. Null if there was none.
    #[serde(default)]
    pub configuration: Option<ConfigurationFile>,
    /// The findings, worst first.
    pub findings: F,
    /// The conversations, ordered by client, server, transport and port.
    pub conversations: C,
    /// The rows of the matrix, in the order of the matrix.
    pub matrix_rows: M,
    /// The hosts of the inventory, in the order of the inventory.
    pub hosts: H,
}

impl<F, C, M, H> Layout<F, C, M, H> {
    /// Replaces the tables, and returns the old ones.
    #[expect(clippy::type_complexity, reason = "four tables, before and after")]
    pub fn with_tables<F2, C2, M2, H2>(
        self,
        (findings, conversations, matrix_rows, hosts): (F2, C2, M2, H2),
    ) -> (Layout<F2, C2, M2, H2>, (F, C, M, H)) {
        let tables = (self.findings, self.conversations, self.matrix_rows, self.hosts);
        let layout = Layout {
            schema: self.schema,
            schema_minor: self.schema_minor,
            tool: self.tool,
            farm: self.farm,
            summary: self.summary,
            exit_reasons: self.exit_reasons,
            inputs: self.inputs,
            accounting: self.accounting,
            window: self.window,
            matrix: self.matrix,
            inventory: self.inventory,
            exceptions: self.exceptions,
            known: self.known,
            filter: self.filter,
            coverage: self.coverage,
            headline: self.headline,
            notes: self.notes,
            coverage_note: self.coverage_note,
            timeline: self.timeline,
            site: self.site,
            conditions: self.conditions,
            fail_on: self.fail_on,
            settings: self.settings,
            configuration: self.configuration,
            findings,
            conversations,
            matrix_rows,
            hosts,
        };
        (layout, tables)
    }
}

/// The program that wrote a result.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    /// The name of the program, `rasaudit`.
    pub name: String,
    /// The version of the program.
    pub version: String,
}

/// The results of an audit in numbers.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Whether the capture was judged against an inventory.
    pub judged: bool,
    /// Whether any traffic of the farm could be judged.
    pub assessed: bool,
    /// The conversations, by verdict.
    pub conversations: ConversationCounts,
    /// The findings, by verdict, code and severity.
    pub findings: FindingCounts,
    /// The number of matrix rows with each status.
    pub matrix_rows: Counts,
}

/// The conversations, by verdict.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct ConversationCounts {
    /// The number of conversations.
    pub total: u64,
    /// The number of conversations with each verdict.
    pub by_verdict: Counts,
}

/// The findings, by verdict, code and severity.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct FindingCounts {
    /// The number of findings.
    pub total: u64,
    /// The number of findings with each verdict.
    pub by_verdict: Counts,
    /// The number of findings with each code.
    pub by_code: Counts,
    /// The number of findings with each severity.
    pub by_severity: Counts,
}

/// An input of the audit: a file, standard input or an interface.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Input {
    /// The file as the user named it, the name of the interface, or `-` for standard input.
    pub file: String,
    /// The SHA-256 of the input, in hexadecimal. Null if it was not computed.
    pub sha256: Option<String>,
    /// The size of the input in bytes; 0 if unknown.
    pub size: u64,
    /// The format: `pcap` or `pcapng`, followed by the compression if there is one (`pcap, gzip`),
    /// or `live` for an interface. If compressed data cannot be unpacked, only the compression.
    /// Empty if the format is unknown or the input was not read.
    pub format: String,
    /// The link types that the input declares, as registry numbers (LINKTYPE).
    pub link_types: Vec<u16>,
    /// The capture filters that were active according to the input.
    pub capture_filters: Vec<String>,
    /// The number of frames that were read.
    pub frames: u64,
    /// The number of frames that became observations.
    pub observations: u64,
    /// The number of frames that did not become observations, by reason.
    pub skipped: Counts,
    /// The time of the earliest frame in the requested time range. Null if there is none.
    pub first: Option<Time>,
    /// The time of the latest frame in the requested time range. Null if there is none.
    pub last: Option<Time>,
    /// The loss that the input reports.
    pub loss: LostFrames,
    /// The reason why the input could not be read completely, or at all. Null if there was no
    /// error.
    pub error: Option<String>,
    /// The input with the same content that was read instead. Null if there is none.
    pub same_as: Option<String>,
}

/// Frames that a capture reports as lost.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct LostFrames {
    /// The number of frames received, as far as the capture reports it.
    pub received: u64,
    /// The number of frames dropped.
    pub dropped: u64,
}

/// The numbers of frames that were read, that became observations, and that were skipped.
/// `frames_read` is the sum of `observations` and all counts in `skipped`.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Accounting {
    /// The number of frames that were read.
    pub frames_read: u64,
    /// The number of frames that became observations.
    pub observations: u64,
    /// The number of frames that did not become observations, by reason.
    pub skipped: Counts,
    /// The number of packets that were excluded from the counters because they were duplicates.
    pub duplicates: u64,
    /// How duplicates were found and treated: the sample of packets and the correction.
    pub copies: Copies,
    /// How completely the capture shows the traffic.
    pub view: ViewCounts,
    /// The number of frames that the snaplen truncated.
    pub truncated: u64,
    /// The lost frames and bytes.
    pub loss: LossCounts,
    /// The number of bytes of all frames, as on the wire.
    pub bytes: u64,
    /// The number of packets with a wrong IPv4 header checksum. They are used nevertheless.
    pub bad_checksums: u64,
    /// The number of frames without IP, by EtherType, such as `0x0806`. Three keys are not
    /// EtherTypes: `802.3` for content without an EtherType, as in most frames of IEEE 802.2,
    /// `0x0001` for an unknown kind of IEEE 802.2, and `0x0002` for IEEE 802.11 in a capture that
    /// declares Ethernet.
    pub non_ip: Counts,
    /// The number of IP packets whose ports are unknown, because they are truncated or are
    /// unreadable ICMP errors.
    pub portless: u64,
    /// The number of packets of tunnels whose content cannot be decoded.
    pub opaque_tunnels: u64,
    /// The number of packets of tunnels whose content cannot be decoded, by tunnel.
    pub opaque_by_tunnel: Counts,
    /// The IP fragments.
    pub fragments: Fragments,
    /// The number of frames of link types that are not decoded, by name.
    pub unknown_link_types: Counts,
}

impl Accounting {
    /// Returns the number of frames that were skipped for this reason.
    pub fn skipped_for(&self, reason: SkipReason) -> u64 {
        self.skipped.get(reason.name()).copied().unwrap_or(0)
    }

    /// Returns the number of frames that the user's filter and time range did not exclude.
    pub fn frames_audited(&self) -> u64 {
        let excluded: u64 =
            SkipReason::REQUESTED.map(|reason| self.skipped_for(reason)).iter().sum();
        self.frames_read.saturating_sub(excluded)
    }
}

/// Packets that the capture shows more than once.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Copies {
    /// The duplicates in a sample of packets.
    pub sample: CopySample,
    /// The treatment of duplicates: `not-needed`, `done`, `off` or `impossible`.
    pub correction: String,
    /// The number of packets that were excluded from the counters.
    pub removed: u64,
}

/// Duplicates in a sample of packets.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct CopySample {
    /// The number of packets in the sample. Packets that recur often count as an estimate.
    pub sampled: u64,
    /// The number of duplicates that do not differ from the first packet.
    pub same: u64,
    /// The number of duplicates from another interface.
    pub interfaces: u64,
    /// The number of duplicates in another VLAN.
    pub vlans: u64,
    /// The number of duplicates that were captured at another hop.
    pub hops: u64,
}

/// How completely the capture shows the traffic.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct ViewCounts {
    /// The number of frames in flows for which only one direction was captured.
    pub one_sided_frames: u64,
    /// The number of frames in flows whose directions carry different VLAN ids.
    pub split_frames: u64,
    /// The number of frames in flows for which only one direction was truncated.
    pub cut_one_way_frames: u64,
}

/// The lost frames and bytes.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct LossCounts {
    /// The number of frames received, as far as the captures report it.
    pub received: u64,
    /// The number of frames dropped, as reported by the captures.
    pub dropped: u64,
    /// The number of TCP bytes that were acknowledged, in flows whose handshake was seen.
    pub acknowledged_bytes: u64,
    /// The number of acknowledged TCP bytes that the capture does not show.
    pub unseen_bytes: u64,
    /// The inputs that report dropped frames.
    pub by_source: Vec<SourceLoss>,
}

/// The loss that one input reports.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct SourceLoss {
    /// The name of the input, as in `inputs`.
    pub file: String,
    /// The number of frames dropped.
    pub dropped: u64,
}

/// IP fragments.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Fragments {
    /// The number of later fragments, that is, all except first fragments.
    pub later: u64,
    /// The number of later fragments whose first fragment is not in the capture.
    pub orphaned: u64,
    /// The orphaned fragments by source, destination and protocol; at most 100 entries.
    pub orphans: Vec<Orphans>,
}

/// Later fragments that one address sent to another with one protocol, and whose first fragment is
/// not in the capture.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Orphans {
    /// The address that sent the fragments.
    pub source: IpAddr,
    /// The address that the fragments were sent to.
    pub destination: IpAddr,
    /// The protocol above IP.
    pub transport: String,
    /// The number of fragments.
    pub packets: u64,
}

/// The time range of the capture.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct CaptureWindow {
    /// The time of the earliest frame in the requested time range whose timestamp is trusted. Null
    /// if there is none.
    pub first: Option<Time>,
    /// The time of the latest frame in the requested time range whose timestamp is trusted. Null if
    /// there is none.
    pub last: Option<Time>,
    /// The length in seconds of the longest period in which no gap between frames exceeds 60 s.
    pub watched_seconds: u64,
    /// The number of frames whose timestamps are not trusted.
    pub doubted_stamps: u64,
    /// The start of the requested time range: earlier frames were left out. Null if none was
    /// requested.
    pub since: Option<Time>,
    /// The end of the requested time range: frames at or after this time were left out. Null if
    /// none was requested.
    pub until: Option<Time>,
    /// The time that the expiry dates of exceptions were compared with, if the user gave one.
    pub as_of: Option<Time>,
}

/// The name, the version and the digest of a matrix.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct JudgedBy {
    /// The name of the matrix.
    pub name: String,
    /// The name and the version of the product that the matrix is for.
    pub version: String,
    /// The SHA-256 over the files of the matrix and its overlays, in hexadecimal.
    pub sha256: String,
    /// The names of the overlays. Null in results of earlier versions.
    #[serde(default)]
    pub overlays: Option<Vec<String>>,
    /// The documents that the rows come from.
    #[serde(default)]
    pub documents: Vec<SourceReference>,
}

impl JudgedBy {
    /// Describes the matrix of a policy.
    pub(super) fn of(policy: &Policy) -> Self {
        let matrix = &policy.matrix;
        let documents = matrix.documents.iter().map(|document| SourceReference {
            id: document.id.clone(),
            title: document.title.clone(),
            edition: document.edition.clone(),
        });
        Self {
            name: matrix.name.clone(),
            version: matrix.title.clone(),
            sha256: matrix.sha256.clone(),
            overlays: Some(matrix.overlays.clone()),
            documents: documents.collect(),
        }
    }

    /// Describes the matrix by its name and by the difference between its overlays and the default,
    /// which is [`BACKGROUND`] alone. Results of earlier versions do not list the overlays, so only
    /// the name is returned.
    pub fn words(&self) -> String {
        let Some(overlays) = &self.overlays else { return self.name.clone() };
        let added = overlays.iter().filter(|name| *name != BACKGROUND);
        let added: Vec<&str> = added.map(String::as_str).collect();
        let with = match added.as_slice() {
            [] => String::new(),
            [name] => format!(" with the overlay {name}"),
            names => format!(" with the overlays {}", names.join(", ")),
        };
        let without = if overlays.iter().any(|name| name == BACKGROUND) {
            String::new()
        } else {
            let but = if with.is_empty() { "" } else { " but" };
            format!("{but} without the overlay {BACKGROUND}")
        };
        format!("{}{with}{without}", self.name)
    }
}

/// A document that rows of the matrix come from.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct SourceReference {
    /// The short name of the document, with which the provenance of its rows begins.
    pub id: String,
    /// The title of the document.
    pub title: String,
    /// The edition or the date of the document. Empty if it is not known.
    pub edition: String,
}

impl SourceReference {
    /// Returns the name, the title and the edition.
    pub fn words(&self) -> String {
        let edition = if self.edition.is_empty() { "" } else { "; edition: " };
        format!("{}: {}{edition}{}", self.id, self.title, self.edition)
    }
}

/// The digest and the file name of an inventory.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct InventoryFile {
    /// The SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// The file as the user named it.
    #[serde(default)]
    pub file: String,
}

/// The exceptions of the audit.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct ExceptionList {
    /// The SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// The file as the user named it.
    #[serde(default)]
    pub file: String,
    /// The exceptions, in the order of the file.
    pub list: Vec<ExceptionUse<'static>>,
}

/// The changes since an earlier audit, among findings above info.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Since {
    /// The number of findings that are new or have become worse.
    pub new: u64,
    /// The number of known findings that have become worse. They are part of `new`.
    pub worse: u64,
    /// The number of known findings that have not become worse.
    pub still_there: u64,
    /// The number of findings in `still_there` with new clients, none of which the inventory lists.
    pub grown: u64,
    /// The number of findings in `still_there` that are less severe, or whose connections no longer
    /// reach the server.
    #[serde(default)]
    pub better: u64,
    /// The findings that no longer appear, with the reasons.
    pub gone: Vec<Gone>,
    /// The file that describes the earlier audit. Null in results of earlier versions.
    #[serde(default)]
    pub baseline: Option<BaselineFile>,
}

/// The file that describes an earlier audit.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct BaselineFile {
    /// The file or folder as the user named it.
    pub file: String,
    /// The SHA-256 of the file that was read, in hexadecimal. Null if it was not computed.
    pub sha256: Option<String>,
    /// The time of the earliest frame of the earlier audit, unless only its findings were given.
    pub first: Option<Time>,
    /// The time of the latest frame of the earlier audit, unless only its findings were given.
    pub last: Option<Time>,
}

impl BaselineFile {
    /// Returns the time range of the earlier audit; empty if it is not known.
    pub fn window(&self) -> String {
        let window = |(first, last): (Time, Time)| {
            format!("audit of {} to {} UTC", short(first.0), short(last.0))
        };
        self.first.zip(self.last).map_or_else(String::new, window)
    }
}

/// A finding of an earlier audit that no longer appears. Verdict, code and reason are empty if the
/// baseline is only a CSV file.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema, Debug)]
pub struct Gone {
    /// The id of the finding.
    pub id: String,
    /// The message of the finding.
    pub message: String,
    /// The severity of the finding.
    #[serde(default)]
    pub severity: String,
    /// The verdict of the finding.
    #[serde(default)]
    pub verdict: String,
    /// The code that gives the reason for the verdict.
    #[serde(default)]
    pub code: String,
    /// Whether the finding was certain.
    #[serde(default)]
    pub certain: bool,
    /// `gone`, or `excepted` if an exception now allows what the finding was about.
    #[serde(default)]
    pub baseline_state: String,
    /// Why the finding no longer appears. Empty if the baseline is only a CSV file.
    #[serde(default)]
    pub baseline_reason: String,
}

/// An option that differs from its default and affects the judgement.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct OptionSetting {
    /// The name of the option, such as `--min-watch`.
    pub option: String,
    /// The value of the option. Empty if the option has no value.
    pub value: String,
    /// What the option changes.
    pub effect: String,
    /// The configuration file that sets the option. Null if the command line does.
    pub file: Option<String>,
}

impl OptionSetting {
    /// Returns the option with its value, as a user would type it.
    pub fn words(&self) -> String {
        format!("{} {}", self.option, self.value).trim_end().to_owned()
    }
}

/// The file that options were read from.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct ConfigurationFile {
    /// The path of the file.
    pub file: String,
    /// The SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// The options that the file set for the command, such as `--min-watch`.
    pub options: Vec<String>,
}

/// The coverage that the inventory declares.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct StatedCoverage {
    /// `all`, a list of host names, or null if the inventory does not declare the coverage.
    pub stated: Value,
}

/// The conditions that limit the claims that a capture supports.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Conditions {
    /// Whether a filter was active: one that the user set, that the capture states, or that the
    /// kinds of its packets show.
    pub is_filtered: bool,
    /// The transports (`tcp`, `udp`) and IP versions (`IPv4`, `IPv6`) that do not occur in the
    /// capture, perhaps because of a filter. Empty in results of earlier versions.
    #[serde(default)]
    pub lacking: Vec<String>,
    /// Whether part of the input could not be read.
    pub is_damaged: bool,
    /// Whether evidence about listed hosts was dropped to stay within `--max-memory`. False in
    /// results of earlier versions.
    #[serde(default)]
    pub lacks_evidence: bool,
    /// The share of lost frames, 0 to 1, as far as the capture shows it.
    pub loss: f64,
    /// The share of lost frames above which no traffic is reported as missing.
    pub max_loss: f64,
    /// The named vantage points, ordered by name. Null in results of earlier versions.
    #[serde(default)]
    pub sensors: Option<Vec<SensorWatch>>,
}

/// The time for which a named vantage point watched.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct SensorWatch {
    /// The vantage point, as `SITE/SENSOR` or `SENSOR`.
    pub name: String,
    /// The length in seconds of the longest period in which the vantage point watched without a
    /// break.
    pub watched_seconds: u64,
}

/// The tone of a text, which determines how reports show it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Tone {
    /// Neutral.
    #[default]
    Plain,
    /// Of minor importance.
    Faint,
    /// All is well.
    Good,
    /// Needs attention.
    Warning,
    /// Something is wrong.
    Bad,
    /// A tone that only newer versions use.
    #[serde(other)]
    Other,
}

/// The overall verdict in a sentence, split into its first words and the rest.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Headline {
    /// The tone of the sentence.
    pub tone: Tone,
    /// The first words of the sentence.
    pub lead: String,
    /// The rest of the sentence.
    pub rest: String,
}

/// A line about the capture or the judgement.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Note {
    /// The tone of the line.
    pub tone: Tone,
    /// The topic of the line, as one word.
    pub label: String,
    /// The text of the line.
    pub text: String,
}
