//! Gathers the frames that findings are based on, by reading the captures once more for a few
//! flows.
//!
//! Only the merged evidence and the frames determine which flows and frames are chosen. The result
//! therefore depends neither on the workers nor on the order of the files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::Ordering;

use super::read::{Batches, FrameFilter, ReadResult, decoder, read_batches};
use super::{AuditError, Plan, Progress, Reading, temporary};
use crate::capture::Frame;
use crate::classify::{Code, Conversation, Finding, Judge, Judgement, Policy, Verdict};
use crate::conversation::{DirectionEvidence, DirectionHints, SampleFlow, SampleFlows, ServiceKey};
use crate::decode::{Body, FiveTuple, Observation, Path, Quoted, flag};
use crate::flow::{FlowKey, HashSeed, OuterFlow};
use crate::model::{BoundedSet, InputRecord, Mac, Merge, Nanos};
use crate::payload::{PayloadFact, read};
use crate::report::{EvidenceFrame, FindingEvidence};

/// The maximum number of flows that are chosen from the conversations of one finding. Flows that
/// are added for another reason, such as that of the conversation that is the trigger, do not
/// count.
const FLOWS: usize = 8;
/// The maximum number of flows that are chosen from the conversations of all findings together.
const ALL_FLOWS: usize = 1024;
/// The maximum number of findings for which frames are gathered. The most severe findings come
/// first.
const FINDINGS: usize = 512;
/// The maximum number of frames of each kind that are kept for each side of a flow, earliest first.
/// The last frame of each side is also kept.
const FRAMES: usize = 4;
/// The maximum number of bytes of a frame that are kept: enough for headers and complete names.
const SNAPLEN: usize = 2048;

/// A flow or a fact that a frame can be evidence of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum EvidenceSubject {
    Flow(FlowKey),
    /// DNS answers to a client (given by its canonical address) that contain the address of a
    /// server.
    Names(IpAddr, IpAddr),
    /// Claims of an IP address by a MAC address (ARP, neighbour discovery).
    Claims(IpAddr, Mac),
}

/// How an evidence subject supports a finding.
#[derive(Clone, Copy)]
enum EvidencePart {
    /// A flow of a conversation of the finding. The number is the side of the client.
    Own(ServiceKey, usize),
    /// A flow of the conversation that triggers the expectation of the missing traffic.
    Trigger(ServiceKey, usize),
    /// A flow that shows which host serves the port.
    Proof(ServiceKey, usize),
    /// A broadcast that a conversation of the finding answers.
    Broadcast(ServiceKey, usize),
    Names,
    Claims(Mac),
}

/// The kind of a frame. If several kinds apply, the first one is used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum FrameKind {
    Syn,
    SynAck,
    Rst,
    Fin,
    TlsHello,
    Dns,
    Data,
    Ack,
    Other,
    /// An ICMP error about a packet from this side.
    Error,
    Answer,
    Claim,
}

/// A copy of a captured frame, truncated to [`SNAPLEN`] bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct KeptFrame {
    time: Nanos,
    link: u16,
    wire_len: u32,
    data: Box<[u8]>,
    kind: FrameKind,
    /// The sender of the ICMP error, if the frame is one.
    by: Option<IpAddr>,
}

/// The evidence subjects to search for, with their numbers.
#[derive(Default)]
struct EvidenceTargets {
    numbers: HashMap<EvidenceSubject, usize, HashSeed>,
}

impl EvidenceTargets {
    /// Adds a subject unless it was added before, and returns its number.
    fn add(&mut self, subject: EvidenceSubject) -> usize {
        let next = self.numbers.len();
        *self.numbers.entry(subject).or_insert(next)
    }
}

/// The frames found so far: for each target and side, the earliest frames of each kind and the last
/// frame. Equal times are ordered by content, so that the result does not depend on which worker
/// found a frame or when.
#[derive(Default)]
struct EvidenceSearch {
    frames: BTreeMap<(usize, usize, FrameKind), BoundedSet<KeptFrame, FRAMES>>,
    last: BTreeMap<(usize, usize), KeptFrame>,
    /// The number of frames that were read from each source.
    read: Vec<u64>,
}

impl EvidenceSearch {
    fn keep(
        &mut self,
        (target, side): (usize, usize),
        (kind, by): (FrameKind, Option<IpAddr>),
        frame: &Frame,
        data: &[u8],
    ) {
        let copy_frame = || KeptFrame {
            time: frame.time,
            link: frame.link,
            wire_len: frame.wire_len,
            data: data[..data.len().min(SNAPLEN)].into(),
            kind,
            by,
        };
        let set = self.frames.entry((target, side, kind)).or_default();
        // Most frames of a long flow come too late to be kept, so they are not copied.
        let early = set.iter().last().is_none_or(|last| frame.time <= last.time);
        if early || set.len() < FRAMES {
            set.insert(copy_frame());
        }
        match self.last.get_mut(&(target, side)) {
            Some(last) if frame.time < last.time => {}
            Some(last) => {
                let kept = copy_frame();
                if kept > *last {
                    *last = kept;
                }
            }
            None => drop(self.last.insert((target, side), copy_frame())),
        }
    }
}

impl Merge for EvidenceSearch {
    fn merge(&mut self, other: &Self) {
        for (place, set) in &other.frames {
            self.frames.entry(*place).or_default().merge(set);
        }
        for (place, theirs) in &other.last {
            let mine = self.last.entry(*place).or_insert_with(|| theirs.clone());
            if theirs > mine {
                mine.clone_from(theirs);
            }
        }
        self.read.resize(self.read.len().max(other.read.len()), 0);
        self.read.iter_mut().zip(&other.read).for_each(|(mine, theirs)| *mine += theirs);
    }
}

/// Finds the frames that each finding is based on.
pub(super) fn gather(
    plan: &Plan,
    progress: &Progress,
    reading: &mut Reading,
    policy: &Policy,
    outcome: &Judgement,
) -> Result<GatheredEvidence, AuditError> {
    let judge = Judge::new(policy);
    let (chosen, targets) = choose(reading, &judge, outcome).map_err(temporary(&plan.temp))?;
    progress.reset();
    let flows = &reading.flows;
    let believed = |path: Path| flows.trusted_path(path);
    let search =
        |batches: &Batches<'_>| search(batches, plan, progress, &targets, (&judge, &believed));
    let ReadResult { inputs: again, found: parts, .. } = read_batches(plan, progress, search)?;
    let mut found =
        EvidenceSearch { read: vec![0; plan.sources.len()], ..EvidenceSearch::default() };
    parts.into_iter().for_each(|part| found.merge(&part));
    let is_unchanged = |(first, (again, read)): &(&InputRecord, (&InputRecord, &u64))| {
        first.account.frames == **read && first.sha256 == again.sha256
    };
    let inputs = reading.inputs.iter().zip(again.iter().zip(&found.read));
    let changed = inputs.filter(|input| !is_unchanged(input)).map(|(input, _)| {
        (input.name.clone(), "changed while it was read; audit a copy".to_owned())
    });
    let changed: Vec<(String, String)> = changed.collect();
    if !changed.is_empty() {
        return Err(AuditError::Sources(changed));
    }
    Ok(GatheredEvidence { chosen, found })
}

/// The frames that findings are based on.
pub(super) struct GatheredEvidence {
    /// The evidence of each finding, in the order of the findings.
    chosen: Vec<ChosenEvidence>,
    found: EvidenceSearch,
}

impl GatheredEvidence {
    /// Returns the evidence of the finding with this index.
    pub fn of(&self, number: usize) -> FindingEvidence {
        self.chosen[number].evidence(&self.found)
    }

    /// Returns the indexes of the findings that have frames.
    pub fn with_frames(&self) -> BTreeSet<usize> {
        let chosen = self.chosen.iter().enumerate();
        chosen.filter(|(_, chosen)| chosen.has_frames(&self.found)).map(|(n, _)| n).collect()
    }
}

/// The evidence chosen for a finding.
struct ChosenEvidence {
    parts: Vec<(usize, EvidencePart)>,
    note: String,
}

impl ChosenEvidence {
    /// Returns whether a frame was found for one of the parts.
    fn has_frames(&self, found: &EvidenceSearch) -> bool {
        self.parts.iter().any(|(target, _)| {
            let range = (*target, 0, FrameKind::Syn)..(target + 1, 0, FrameKind::Syn);
            found.frames.range(range).any(|(_, set)| !set.is_empty())
                || found.last.range((*target, 0)..(target + 1, 0)).next().is_some()
        })
    }

    fn evidence(&self, found: &EvidenceSearch) -> FindingEvidence {
        // A frame that belongs to several parts is written only once.
        let mut frames: BTreeMap<&KeptFrame, Vec<String>> = BTreeMap::new();
        for (target, part) in &self.parts {
            let least =
                found.frames.range((*target, 0, FrameKind::Syn)..(target + 1, 0, FrameKind::Syn));
            let least = least.flat_map(|((_, side, _), set)| set.iter().map(|kept| (*side, kept)));
            let last = found.last.range((*target, 0)..(target + 1, 0));
            for (side, kept) in least.chain(last.map(|((_, side), kept)| (*side, kept))) {
                let words = part.words(side, kept);
                let shows = frames.entry(kept).or_default();
                if !shows.contains(&words) {
                    shows.push(words);
                }
            }
        }
        let frame = |(kept, shows): (&KeptFrame, Vec<String>)| EvidenceFrame {
            time: kept.time,
            link: kept.link,
            wire_len: kept.wire_len,
            data: kept.data.to_vec(),
            shows: shows.join("; "),
        };
        FindingEvidence { frames: frames.into_iter().map(frame).collect(), note: self.note.clone() }
    }
}

impl EvidencePart {
    /// Describes what a frame shows.
    fn words(self, side: usize, kept: &KeptFrame) -> String {
        let describe = |subject: ServiceKey, client: usize| {
            let (who, address) = if side == client {
                ("client", subject.client)
            } else {
                ("server", subject.server)
            };
            let what = match kept.kind {
                FrameKind::Syn => "SYN",
                FrameKind::SynAck => "SYN-ACK",
                FrameKind::Rst => "RST",
                FrameKind::Fin => "FIN",
                FrameKind::TlsHello => "TLS hello",
                FrameKind::Dns => "DNS message",
                FrameKind::Ack => "ACK",
                FrameKind::Error => {
                    let by = kept.by.map_or_else(String::new, |by| format!(" from {by}"));
                    return format!("ICMP error{by} about a packet from the {who} {address}");
                }
                FrameKind::Data => "data",
                _ => "packet",
            };
            format!("{what} from the {who} {address}")
        };
        match self {
            Self::Own(subject, client) => describe(subject, client),
            Self::Trigger(subject, client) => {
                format!("triggers the expected traffic: {}", describe(subject, client))
            }
            Self::Proof(subject, client) => {
                format!("shows which host serves the port: {}", describe(subject, client))
            }
            Self::Broadcast(subject, client) => {
                format!("the broadcast that was answered: {}", describe(subject, client))
            }
            Self::Names => "DNS reply that gives the client the server's address".to_owned(),
            Self::Claims(mac) => format!("{mac} claims the address"),
        }
    }
}

/// Chooses flows, address claims and names as evidence for the first [`FINDINGS`] findings. The
/// others get only a note.
fn choose(
    reading: &mut Reading,
    judge: &Judge<'_>,
    outcome: &Judgement,
) -> std::io::Result<(Vec<ChosenEvidence>, EvidenceTargets)> {
    let conversations = &outcome.conversations;
    let findings = outcome.findings();
    let shown = &findings[..findings.len().min(FINDINGS)];
    let most = (ALL_FLOWS / findings.len().clamp(1, FINDINGS)).clamp(1, FLOWS);
    let members: Vec<Vec<usize>> =
        shown.iter().map(|f| best_conversations(outcome, outcome.members_of(f), most)).collect();
    let triggers = shown.iter().filter_map(|f| outcome.trigger_of(f));
    let wanted: BTreeSet<usize> = members.iter().flatten().copied().chain(triggers).collect();
    let mut selector = EvidenceSelector {
        judge,
        outcome,
        most,
        samples: conversations.select_evidence(&reading.flows, judge, &wanted, most)?,
        targets: EvidenceTargets::default(),
    };
    let chosen = shown.iter().zip(&members);
    let mut chosen: Vec<ChosenEvidence> =
        chosen.map(|(finding, members)| selector.select(finding, members)).collect();
    let left_out = format!("omitted: frames are written only for the {FINDINGS} worst findings");
    chosen.resize_with(findings.len(), || ChosenEvidence {
        parts: Vec::new(),
        note: left_out.clone(),
    });
    Ok((chosen, selector.targets))
}

/// Returns at most `most` of the conversations, ordered by state (established first) and then by
/// index.
fn best_conversations(outcome: &Judgement, members: &[u32], most: usize) -> Vec<usize> {
    let list = &outcome.conversations.list;
    let mut best: Vec<usize> = members.iter().map(|number| *number as usize).collect();
    best.sort_by_key(|number| (list[*number].state, *number));
    best.truncate(most);
    best
}

/// Selects the evidence of one finding after another.
struct EvidenceSelector<'a> {
    judge: &'a Judge<'a>,
    outcome: &'a Judgement,
    /// The maximum number of flows from the conversations of one finding, at most [`FLOWS`].
    most: usize,
    samples: SampleFlows,
    targets: EvidenceTargets,
}

impl EvidenceSelector<'_> {
    /// Selects the evidence of a finding. `members` contains the result of [`best_conversations`]
    /// for it.
    fn select(&mut self, finding: &Finding, members: &[usize]) -> ChosenEvidence {
        let list = &self.outcome.conversations.list;
        let flows = self.first_flows(members);
        let mut parts = Vec::new();
        for (number, flow) in &flows {
            let target = self.targets.add(EvidenceSubject::Flow(flow.flow));
            parts.push((target, EvidencePart::Own(list[*number].subject, flow.client)));
        }
        for number in members {
            self.add_reasons(&list[*number], &mut parts);
        }
        let trigger = self.outcome.trigger_of(finding).map(|number| &list[number]);
        let trigger = trigger.and_then(|c| Some((c.subject, *self.flows_of(c).next()?)));
        if let Some((subject, flow)) = trigger {
            let target = self.targets.add(EvidenceSubject::Flow(flow.flow));
            parts.push((target, EvidencePart::Trigger(subject, flow.client)));
        }
        for (address, mac) in self.outcome.address_claims_of(finding) {
            let target = self.targets.add(EvidenceSubject::Claims(address, mac));
            parts.push((target, EvidencePart::Claims(mac)));
        }
        let all = self.outcome.members_of(finding).iter().map(|n| list[*n as usize].flows).sum();
        let note = evidence_note(finding, all, flows.len(), &parts);
        ChosenEvidence { parts, note }
    }

    fn flows_of(&self, c: &Conversation) -> impl Iterator<Item = &SampleFlow> {
        self.samples.flows.get(&c.sample_key()).into_iter().flatten()
    }

    /// Returns at most `most` flows, each with the index of its conversation. The first flow of
    /// every conversation comes before the second flow of any.
    fn first_flows(&self, members: &[usize]) -> Vec<(usize, SampleFlow)> {
        let list = &self.outcome.conversations.list;
        let mut flows: Vec<(usize, usize, SampleFlow)> = Vec::new();
        for (order, number) in members.iter().enumerate() {
            let flows_here = self.flows_of(&list[*number]).enumerate();
            flows.extend(flows_here.map(|(turn, flow)| (turn, order, *flow)));
        }
        flows.sort_unstable();
        flows.truncate(self.most);
        flows.into_iter().map(|(_, order, flow)| (members[order], flow)).collect()
    }

    /// Adds the evidence for the direction and the server name of a conversation: proof that the
    /// port is served, the broadcast that was answered, and DNS answers.
    fn add_reasons(&mut self, c: &Conversation, parts: &mut Vec<(usize, EvidencePart)>) {
        if let Some(proof) = self.samples.proofs.get(&(c.subject.endpoint(), c.subject.transport)) {
            let target = self.targets.add(EvidenceSubject::Flow(proof.flow));
            parts.push((target, EvidencePart::Proof(c.subject, proof.client)));
        }
        let broadcasts = self.samples.broadcasts.get(&(c.subject.client, c.subject.port));
        let answered =
            broadcasts.filter(|_| !c.broadcast && c.grade == DirectionEvidence::Protocol);
        for (flow, subject) in answered.into_iter().flatten() {
            let target = self.targets.add(EvidenceSubject::Flow(flow.flow));
            parts.push((target, EvidencePart::Broadcast(*subject, flow.client)));
        }
        if self.outcome.conversations.names_of(c).known.iter().any(|known| known.by_dns) {
            let client = self.judge.canonical(c.subject.client);
            let target = self.targets.add(EvidenceSubject::Names(client, c.subject.server));
            parts.push((target, EvidencePart::Names));
        }
    }
}

/// Describes what was left out of the evidence, or why there are no frames. Returns an empty string
/// if neither applies. The finding has `all` flows, and `chosen` of them were chosen.
fn evidence_note(
    finding: &Finding,
    all: u64,
    chosen: usize,
    parts: &[(usize, EvidencePart)],
) -> String {
    match finding.verdict() {
        _ if all > chosen as u64 => format!(
            "{chosen} of {all} flows, established ones first; display_filter shows all"
        ),
        _ if !parts.is_empty() => String::new(),
        Verdict::NotAssessable => {
            "the finding is about traffic that could not be assessed; its message states the reason".to_owned()
        }
        _ if finding.code() == Code::UnusedException => {
            "the finding is about the list of exceptions, not about frames".to_owned()
        }
        _ => "the finding is about missing traffic; its trace in audit.json states what the capture could show"
            .to_owned(),
    }
}

/// Searches the batches of one worker for frames that are evidence of the targets.
fn search(
    batches: &Batches<'_>,
    plan: &Plan,
    progress: &Progress,
    targets: &EvidenceTargets,
    (judge, believed): (&Judge<'_>, &dyn Fn(Path) -> Path),
) -> EvidenceSearch {
    let mut filter = FrameFilter::new(&plan.request);
    let decoder = decoder(&plan.request);
    let mut found =
        EvidenceSearch { read: vec![0; plan.sources.len()], ..EvidenceSearch::default() };
    let needs_payload_facts =
        targets.numbers.keys().any(|subject| !matches!(subject, EvidenceSubject::Flow(_)));
    batches.for_each(|chunk| {
        let batch = &chunk.frames;
        if progress.stop.load(Ordering::Relaxed) {
            return;
        }
        for frame in &batch.frames {
            found.read[batch.source] += 1;
            let data = batch.data(frame);
            let mut seen = Observation::default();
            if filter.is_outside(frame)
                || !filter.passes(frame, data)
                || decoder.decode(frame, data, &mut seen).is_err()
            {
                continue;
            }
            let mut keep = |(subject, side), kind, by| {
                if let Some(number) = targets.numbers.get(&subject) {
                    found.keep((*number, side), (kind, by), frame, data);
                }
            };
            let flow_and_side = |tuple: &FiveTuple, path| {
                let (key, side) = FlowKey::new(tuple, believed(path));
                (EvidenceSubject::Flow(key), side)
            };
            for outer in OuterFlow::around(&seen) {
                // A tunnel in mirrored traffic is on a path that is believed.
                let (key, side) = OuterFlow { path: believed(outer.path), ..outer }.flow();
                keep((EvidenceSubject::Flow(key), side), FrameKind::Other, None);
            }
            match seen.body {
                Body::Transport { tuple, flags, .. } => {
                    // A request is a DNS message in other protocols, but not in ICMP.
                    let flags = if tuple.transport.is_icmp() { 0 } else { flags };
                    keep(flow_and_side(&tuple, seen.path), frame_kind(flags), None);
                }
                Body::Error { quoted: Quoted::Flow { tuple, path, .. }, by, .. } => {
                    keep(flow_and_side(&tuple, path), FrameKind::Error, Some(by));
                }
                Body::NonIp { claim: Some((address, mac)), .. } => {
                    keep((EvidenceSubject::Claims(address, mac), 0), FrameKind::Claim, None);
                }
                _ => {}
            }
            let fact = if needs_payload_facts { read(&seen, seen.payload(data)) } else { None };
            match fact {
                Some(PayloadFact::DnsQuery(lookup, reply)) => {
                    let client = judge.canonical(lookup.client);
                    for (address, _) in reply.answers.iter() {
                        keep(
                            (EvidenceSubject::Names(client, *address), 0),
                            FrameKind::Answer,
                            None,
                        );
                    }
                }
                Some(PayloadFact::Claims(address, mac)) => {
                    keep((EvidenceSubject::Claims(address, mac), 0), FrameKind::Claim, None);
                }
                _ => {}
            }
        }
        progress.frames.fetch_add(batch.frames.len() as u64, Ordering::Relaxed);
    });
    found
}

/// Returns the kind of a frame with these flags.
fn frame_kind(flags: u16) -> FrameKind {
    let kinds = [
        (flag::SYN, FrameKind::Syn),
        (flag::SYN_ACK, FrameKind::SynAck),
        (flag::RST, FrameKind::Rst),
        (flag::FIN, FrameKind::Fin),
        (flag::CLIENT_HELLO | flag::SERVER_HELLO, FrameKind::TlsHello),
        (flag::ASKS | flag::ANSWERS, FrameKind::Dns),
        (flag::DATA, FrameKind::Data),
        (flag::ACK, FrameKind::Ack),
    ];
    let first = kinds.into_iter().find(|(flag, _)| flags & flag != 0);
    first.map_or(FrameKind::Other, |(_, kind)| kind)
}
