//! What stands above the tables of `audit.json`. The doc comments become the descriptions of its schema.

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Site, Time};

/// The layout, whose number changes when something is renamed or taken away.
pub const SCHEMA: &str = "rasaudit.audit/2";

/// The version of the layout, which grows when something is added.
pub const SCHEMA_MINOR: u32 = 1;

type Counts = BTreeMap<String, u64>;

/// An audit without its tables.
pub type Head = Layout<(), (), (), ()>;

/// `audit.json`: everything that an audit found. Keys are added at the end of their objects, never renamed, moved or
/// reused; a reader passes over those that it does not know.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Layout<F, C, M, H> {
    /// The layout. Its number changes when something is renamed or taken away.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// The version of the layout. It grows when something is added.
    #[serde(default)]
    pub schema_minor: u32,
    /// What wrote it.
    pub tool: Tool,
    /// The farm's name; none without an inventory.
    pub farm: Option<String>,
    /// What it came to, in numbers.
    pub summary: Summary,
    /// Why the exit code is what it is.
    pub exit_reasons: Vec<String>,
    /// The inputs, in the order of their names.
    pub inputs: Vec<Input>,
    /// What became of all frames.
    pub accounting: Accounting,
    /// When frames were captured.
    pub window: CaptureWindow,
    /// The matrix that it was judged by.
    pub matrix: Option<JudgedBy>,
    /// The inventory that it was judged by.
    pub inventory: Option<InventoryFile>,
    /// The site's exceptions, and what each let through.
    pub exceptions: Option<ExceptionList>,
    /// What changed against an earlier audit.
    pub known: Option<Since>,
    /// The filter expression of the user.
    pub filter: Option<String>,
    /// What the inventory says that the capture covers.
    pub coverage: Option<StatedCoverage>,
    /// The verdict in a sentence.
    #[serde(default)]
    pub headline: Headline,
    /// What a reader has to know of the capture and of the judgement, in the order in which it is told.
    #[serde(default)]
    pub notes: Vec<Note>,
    /// What the capture covers, in a sentence.
    #[serde(default)]
    pub coverage_note: String,
    /// What was captured when: seconds since 1970, frames, bytes; by ten seconds, long ago by the hour.
    #[serde(default)]
    pub timeline: Vec<(i64, u64, u64)>,
    /// Roles, rows and inventory, as far as reports show them.
    #[serde(default)]
    pub site: Option<Site>,
    /// The findings, worst first.
    pub findings: F,
    /// The conversations, in order.
    pub conversations: C,
    /// The rows of the matrix, in its order.
    pub matrix_rows: M,
    /// The hosts of the inventory, in its order.
    pub hosts: H,
}

impl<F, C, M, H> Layout<F, C, M, H> {
    /// Puts other tables in the place of its own, and returns those.
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
            findings,
            conversations,
            matrix_rows,
            hosts,
        };
        (layout, tables)
    }
}

/// What wrote a result.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    /// `rasaudit`
    pub name: String,
    /// Its version.
    pub version: String,
}

/// What an audit came to, in numbers.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// There was an inventory to judge by.
    pub judged: bool,
    /// Something of the farm could be judged.
    pub assessed: bool,
    /// Conversations by verdict.
    pub conversations: ConversationCounts,
    /// Findings by verdict, code and severity.
    pub findings: FindingCounts,
    /// Rows of the matrix by status.
    pub matrix_rows: Counts,
}

/// Conversations by verdict.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct ConversationCounts {
    /// How many there are.
    pub total: u64,
    /// How many have each verdict.
    pub by_verdict: Counts,
}

/// Findings by verdict, code and severity.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct FindingCounts {
    /// How many there are.
    pub total: u64,
    /// How many have each verdict.
    pub by_verdict: Counts,
    /// How many have each code.
    pub by_code: Counts,
    /// How many have each severity.
    pub by_severity: Counts,
}

/// One input.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Input {
    /// The file as the user named it, or `-` for standard input.
    pub file: String,
    /// SHA-256 of its bytes, in hex.
    pub sha256: Option<String>,
    /// Its size in bytes, where known.
    pub size: u64,
    /// `pcap`, `pcapng`, or what else it looks like.
    pub format: String,
    /// Link types of its frames, by registry number.
    pub link_types: Vec<u16>,
    /// Capture filters that it says were on.
    pub capture_filters: Vec<String>,
    /// Frames read.
    pub frames: u64,
    /// Frames that became observations.
    pub observations: u64,
    /// Frames that did not, by reason.
    pub skipped: Counts,
    /// The earliest frame.
    pub first: Option<Time>,
    /// The latest.
    pub last: Option<Time>,
    /// What it says it lost.
    pub loss: LostFrames,
    /// Why it could not be read to its end, or at all.
    pub error: Option<String>,
    /// The input with the same content that was read in its place.
    pub same_as: Option<String>,
}

/// Frames that a capture says it lost.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct LostFrames {
    /// Frames received, as far as it says.
    pub received: u64,
    /// Frames dropped.
    pub dropped: u64,
}

/// What became of all frames. `frames_read` is `observations` and all of `skipped`.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Accounting {
    /// Frames read.
    pub frames_read: u64,
    /// Frames that became observations.
    pub observations: u64,
    /// Frames that did not, by reason.
    pub skipped: Counts,
    /// Packets taken out of the amounts because they were seen twice.
    pub duplicates: u64,
    /// What a sample shows of packets that were seen more than once.
    pub copies: Copies,
    /// How the capture looks at the traffic.
    pub view: ViewCounts,
    /// Frames that the snaplen cut short.
    pub truncated: u64,
    /// What was lost.
    pub loss: LossCounts,
    /// Bytes on the wire.
    pub bytes: u64,
    /// Packets whose IPv4 header checksum is wrong; they are used all the same.
    pub bad_checksums: u64,
    /// Frames without IP, by ethertype.
    pub non_ip: Counts,
    /// Packets without ports.
    pub portless: u64,
    /// Packets of tunnels that cannot be read.
    pub opaque_tunnels: u64,
    /// The same, by tunnel.
    pub opaque_by_tunnel: Counts,
    /// Fragments.
    pub fragments: Fragments,
    /// Frames of link types that are not decoded, by name.
    pub unknown_link_types: Counts,
}

/// Packets that the capture shows more than once.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Copies {
    /// What a sample shows.
    pub sample: CopySample,
    /// What was done about it: `not-needed`, `done`, `off` or `impossible`.
    pub correction: String,
    /// Packets taken out of the amounts.
    pub removed: u64,
}

/// Copies in a sample of packets.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct CopySample {
    /// Packets in the sample.
    pub sampled: u64,
    /// The same again.
    pub same: u64,
    /// From another interface.
    pub interfaces: u64,
    /// In another VLAN.
    pub vlans: u64,
    /// At another hop.
    pub hops: u64,
}

/// How the capture looks at the traffic.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct ViewCounts {
    /// Frames of flows of which one direction alone was captured.
    pub one_sided_frames: u64,
    /// Frames of flows whose directions carry different VLAN ids.
    pub split_frames: u64,
    /// Frames of flows of which one direction alone was cut short.
    pub cut_one_way_frames: u64,
}

/// What was lost.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct LossCounts {
    /// Frames received, as far as the captures say.
    pub received: u64,
    /// Frames dropped, as they say.
    pub dropped: u64,
    /// Bytes of TCP that were acknowledged.
    pub acknowledged_bytes: u64,
    /// Those of them that the capture does not show.
    pub unseen_bytes: u64,
    /// The inputs that say that they lost frames.
    pub by_source: Vec<SourceLoss>,
}

/// What one input says it lost.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct SourceLoss {
    /// The input.
    pub file: String,
    /// Frames dropped.
    pub dropped: u64,
}

/// Fragments.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Fragments {
    /// Later fragments.
    pub later: u64,
    /// Those whose first fragment is not in the capture.
    pub orphaned: u64,
    /// Between whom, at most 100 pairs.
    pub orphans: Vec<Orphans>,
}

/// Later fragments whose first fragment is not in the capture.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Orphans {
    /// Who sent them.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// The protocol above IP.
    pub transport: String,
    /// How many.
    pub packets: u64,
}

/// When frames were captured.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct CaptureWindow {
    /// The earliest frame.
    pub first: Option<Time>,
    /// The latest.
    pub last: Option<Time>,
    /// Seconds watched without a break.
    pub watched_seconds: u64,
    /// Frames whose stamps are not believed.
    pub doubted_stamps: u64,
    /// Frames before it were left out.
    pub since: Option<Time>,
    /// Frames from it on were left out.
    pub until: Option<Time>,
    /// Expiry dates are held against it.
    pub as_of: Option<Time>,
}

/// A matrix.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct JudgedBy {
    /// Its name.
    pub name: String,
    /// The version of the product, in words.
    pub version: String,
    /// SHA-256 of its files, in hex.
    pub sha256: String,
}

/// An inventory.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct InventoryFile {
    /// SHA-256 of its bytes, in hex.
    pub sha256: String,
    /// The file as the user named it.
    #[serde(default)]
    pub file: String,
}

/// The site's exceptions.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct ExceptionList {
    /// SHA-256 of the file, in hex.
    pub sha256: String,
    /// The file as the user named it.
    #[serde(default)]
    pub file: String,
    /// The exceptions, in the order of the file.
    pub list: Vec<ExceptionUse>,
}

/// An exception, and what it let through.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct ExceptionUse {
    /// Its name.
    pub id: String,
    /// Who answers for it.
    pub owner: String,
    /// Why it is needed.
    pub reason: String,
    /// Who approved it.
    pub approved_by: String,
    /// The day it was made.
    pub created: String,
    /// The last day it holds.
    pub expires: String,
    /// Conversations that it let through.
    pub conversations: u64,
}

/// What changed against an earlier audit, of findings above info.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Since {
    /// Findings that were not there, or are worse.
    pub new: u64,
    /// Those of them that were there.
    pub worse: u64,
    /// Findings that are still there.
    pub still_there: u64,
    /// Those of them that have further members.
    pub grown: u64,
    /// Findings that are not found any more.
    pub gone: Vec<Gone>,
}

/// A finding of an earlier audit that is not found any more.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Gone {
    /// Its id.
    pub id: String,
    /// What it said.
    pub message: String,
}

/// What the inventory says that the capture covers.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct StatedCoverage {
    /// `all`, the names of hosts, or null where nothing is said.
    pub stated: Value,
}

/// How something is meant.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Tone {
    /// As it is.
    #[default]
    Plain,
    /// By the way.
    Faint,
    /// All is well.
    Good,
    /// Look at it.
    Warning,
    /// Something is wrong.
    Bad,
    /// What a newer version says.
    #[serde(other)]
    Other,
}

/// The verdict in a sentence: its first words, and the rest.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Headline {
    /// How it is meant.
    pub tone: Tone,
    /// Its first words.
    pub lead: String,
    /// The rest.
    pub rest: String,
}

/// A line about the capture or the judgement.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Note {
    /// How it is meant.
    pub tone: Tone,
    /// What it is about, in a word.
    pub label: String,
    /// What is to be known.
    pub text: String,
}
