//! Checks many pairs of hosts for missing traffic. Hosts with the same decisive traits form a
//! class. The result for one pair holds for all pairs of the same two classes, so it is computed
//! once.

use std::collections::{BTreeMap, BTreeSet};

use super::absence_claims::{AbsenceClaim, GroupId, MergedPairs, To, roles_on};
use super::coverage::Peer;
use super::ends::EndKey;
use super::expected::{AbsenceCheck, Assessor, Tried};
use super::facts::JudgedCapture;
use super::finding::{About, Finding, FindingKey, Reason};
use super::sites::HostSite;
use super::verdict::{Code, Doubts, Status};
use crate::conversation::VantageSet;
use crate::policy::{Quantifier, RoleSet, Row, SeverityColumn};

/// The minimum number of pairs with the same group and code that become one finding.
pub(super) const MANY_PAIRS: u64 = 50;

/// The properties of a host that determine the result for pairs with this host. Properties that do
/// not matter at the host's end of the pair keep their default values.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
struct Traits {
    roles: RoleSet,
    site: HostSite,
    /// Whether the capture was probably made on the host.
    is_place: bool,
    is_source: bool,
    sends: bool,
    is_covered: bool,
    /// The vantage points that saw the host.
    seen_from: VantageSet,
    /// For each vantage point with breaks and each row, whether the breaks leave less of the host's
    /// activity than the row's watch time.
    limits: Vec<bool>,
    has_unreadable_with_unlisted: bool,
    has_undecoded: bool,
    has_unseen_version: bool,
    may_share: bool,
    has_aggregated: bool,
    /// The host itself if it made aggregated attempts, so that no other host is in its class.
    tried_several: Option<usize>,
    /// For each row, whether the host was active for as long as the row needs.
    there: Vec<bool>,
    /// For each row, whether unlisted addresses used the row's service on the host.
    unlisted: Vec<bool>,
    /// The host itself if it served a trigger, so that no other host is in its class.
    triggered: Option<usize>,
}

/// The hosts of a class that form pairs with a given host.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PairOrder {
    /// All hosts of the class.
    Any,
    /// The hosts of the class that follow the given host in the inventory.
    Above,
    /// The hosts of the class that precede the given host in the inventory.
    Below,
}

/// Which host of a pair is expected to initiate the traffic.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum PairDirection {
    /// Only the source of the pair.
    #[default]
    FromSource,
    /// Either of the two, because both may be the client.
    Either,
}

impl PairDirection {
    /// Restricts the direction to [`Self::FromSource`] if the other host cannot be a client.
    fn if_client(self, other_is_client: bool) -> Self {
        if other_is_client { self } else { Self::FromSource }
    }
}

/// The end of a pair at which hosts are classified.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PairEnd {
    Source,
    Destination,
}

/// Hosts by their decisive traits, each class in the order of the inventory.
type Classes = BTreeMap<Traits, Vec<u32>>;

/// Pairs that are checked one by one, because the capture shows an attempt or unreadable traffic
/// between their ends. The key is the first host of a pair.
#[derive(Default)]
struct Particular(BTreeMap<u32, BTreeSet<Peer>>);

impl Particular {
    fn has(&self, host: u32, peer: Peer) -> bool {
        self.0.get(&host).is_some_and(|peers| peers.contains(&peer))
    }

    /// Returns the number of hosts of a class that form pairs with a host, except for pairs that
    /// are checked one by one. The class is in ascending order.
    fn count(&self, host: u32, class: &[u32], order: PairOrder) -> u64 {
        let range = range(host, class, order);
        let own = usize::from(range.binary_search(&host).is_ok());
        let particular = self.0.get(&host).into_iter().flatten();
        let particular = particular.filter(|peer| match peer {
            Peer::Host(other) => {
                *other != host as usize && range.binary_search(&(*other as u32)).is_ok()
            }
            _ => false,
        });
        (range.len() - own - particular.count()) as u64
    }

    /// Returns the hosts of a class that form pairs with a host, except for pairs that are checked
    /// one by one.
    fn all<'c>(
        &'c self,
        host: u32,
        class: &'c [u32],
        order: PairOrder,
    ) -> impl Iterator<Item = u32> + 'c {
        let others = range(host, class, order).iter().copied();
        others.filter(move |other| *other != host && !self.has(host, Peer::Host(*other as usize)))
    }
}

fn range(host: u32, class: &[u32], order: PairOrder) -> &[u32] {
    let at = class.partition_point(|other| *other < host);
    match order {
        PairOrder::Any => class,
        PairOrder::Above => &class[class.partition_point(|other| *other <= host)..],
        PairOrder::Below => &class[..at],
    }
}

/// The same claim about one or several pairs.
struct PairBatch {
    code: Code,
    /// The claim about one of the pairs.
    claim: AbsenceClaim,
    sources: Vec<u32>,
    /// The hosts that the sources should have contacted, or `None` if the claim itself names its
    /// destination.
    to: Option<(Vec<u32>, PairOrder)>,
}

/// The claims about one group of rows.
#[derive(Default)]
pub(super) struct PairBatches {
    list: Vec<PairBatch>,
    particular: Particular,
    direction: PairDirection,
}

impl PairBatches {
    /// Adds a claim about one source.
    pub fn add_one(&mut self, code: Code, claim: AbsenceClaim) {
        self.list.push(PairBatch { code, claim, sources: vec![claim.source], to: None });
    }

    fn count(&self, batch: &PairBatch, source: u32) -> u64 {
        match &batch.to {
            Some((class, order)) => self.particular.count(source, class, *order),
            None => 1,
        }
    }

    /// Returns the claims of a batch, one for each pair.
    fn each<'b>(&'b self, batch: &'b PairBatch) -> Box<dyn Iterator<Item = AbsenceClaim> + 'b> {
        let of = |source: u32| AbsenceClaim { source, ..batch.claim };
        let Some((class, order)) = &batch.to else {
            return Box::new(batch.sources.iter().map(move |source| of(*source)));
        };
        Box::new(batch.sources.iter().flat_map(move |source| {
            let to = self.particular.all(*source, class, *order);
            to.map(move |to| AbsenceClaim { to: To::Host(to), ..of(*source) })
        }))
    }
}

/// Groups hosts by their decisive traits.
struct HostClassifier<'c, 'a> {
    assessor: &'c Assessor<'a>,
    group: GroupId,
    rows: Vec<&'c Row>,
    /// For each row, the time for which a host has to be active, in seconds.
    due: Vec<u64>,
    /// For each row, the time for which it has to be watched, in seconds.
    watch: Vec<u64>,
    sources: BTreeSet<usize>,
    direction: PairDirection,
}

impl<'c, 'a> HostClassifier<'c, 'a> {
    fn new(
        assessor: &'c Assessor<'a>,
        group: GroupId,
        expected: &[usize],
        sources: &[usize],
        direction: PairDirection,
    ) -> Self {
        let view = assessor.seen.view();
        let rows = expected.iter().map(|row| &assessor.policy.matrix.rows[*row]);
        let watch: Vec<u64> = rows.clone().map(|row| view.watch(row.watch_s)).collect();
        let due = watch.iter().map(|watch_s| view.watched.seconds_for(*watch_s).min(*watch_s));
        Self {
            assessor,
            group,
            due: due.collect(),
            watch,
            rows: rows.collect(),
            sources: sources.iter().copied().collect(),
            direction,
        }
    }

    /// Groups the hosts at one end of the pairs.
    fn classes(&self, hosts: &[usize], end: PairEnd) -> Classes {
        let mut classes = Classes::new();
        for host in hosts {
            classes.entry(self.traits(*host, end)).or_default().push(*host as u32);
        }
        classes
    }

    fn traits(&self, host: usize, end: PairEnd) -> Traits {
        let assessor = self.assessor;
        let seen = &assessor.seen;
        let either = self.direction == PairDirection::Either;
        let may_open = either || end == PairEnd::Source;
        let may_serve = either || end == PairEnd::Destination;
        let there_s = seen.seconds_of(host);
        let has_unlisted_client =
            |row: &&Row| row.transport.has_ports() && seen.has_unlisted_client(host, &[*row]);
        let tried_several = || {
            seen.has_aggregated(host)
                && assessor.attempts(self.group, host, None).iter().any(|tried| tried.to_several)
        };
        let is_triggered = self.rows.iter().any(|row| assessor.is_triggered(row, host));
        Traits {
            roles: if may_open {
                assessor.policy.inventory.hosts[host].roles
            } else {
                RoleSet::default()
            },
            site: assessor.sites.of(host),
            is_place: seen.is_on_place(host),
            is_source: either && self.sources.contains(&host),
            sends: seen.is_sending(Peer::Host(host)),
            is_covered: seen.watches(host).is_some(),
            seen_from: seen.seen_from(Peer::Host(host)),
            limits: seen.facts.vantages.limits(&seen.hosts[host].presence.unicast_in, &self.watch),
            has_unreadable_with_unlisted: seen.has_unreadable_with_unlisted(host),
            has_undecoded: seen.has_undecoded(host),
            has_unseen_version: seen.has_unseen_version(host),
            may_share: assessor.may_share(host),
            has_aggregated: may_open && seen.has_aggregated(host),
            tried_several: (may_open && tried_several()).then_some(host),
            there: self
                .due
                .iter()
                .map(|due| JudgedCapture::is_long_enough(there_s, *due))
                .collect(),
            unlisted: if may_serve {
                self.rows.iter().map(has_unlisted_client).collect()
            } else {
                Vec::new()
            },
            triggered: (may_open && is_triggered).then_some(host),
        }
    }
}

impl Assessor<'_> {
    /// Adds the findings about expected traffic of a group: traffic that is missing, and traffic
    /// that could not be assessed.
    pub(super) fn group(&mut self, number: GroupId, rows: &[usize]) {
        let matrix = &self.policy.matrix;
        let expected = self.expected_rows(rows);
        let Some(first) = expected.first() else { return };
        let quantifier = matrix.rows[*first].quantifier;
        let sources = expected.iter().fold(RoleSet::default(), |set, row| {
            set.with(matrix.roles[matrix.rows[*row].source].members)
        });
        let sources: Vec<usize> = self.policy.hosts_of(sources).collect();
        let silence =
            |source: &usize| self.silence(number, &expected, *source, None, Tried::AsSeen);
        match quantifier {
            Quantifier::OneSource => {
                let silences: Vec<AbsenceCheck> = sources.iter().map(silence).collect();
                self.settle_one(number, &silences);
            }
            Quantifier::AnyDestination => {
                let claims = sources.iter().map(silence).filter_map(AbsenceCheck::claim);
                let mut batches = PairBatches::default();
                claims.for_each(|(code, claim)| batches.add_one(code, claim));
                self.settle(number, batches);
            }
            Quantifier::EveryPair => {
                let direction = PairDirection::FromSource;
                let batches = self.pairs(number, &expected, &sources, direction);
                self.settle(number, batches);
            }
            Quantifier::EitherDirection => {
                let direction = PairDirection::Either;
                let batches = self.pairs(number, &expected, &sources, direction);
                self.settle(number, batches);
            }
        }
    }

    /// Checks every pair of a source with a destination host or service of the rows of a group.
    fn pairs(
        &self,
        group: GroupId,
        expected: &[usize],
        sources: &[usize],
        direction: PairDirection,
    ) -> PairBatches {
        let list = self.destinations(expected);
        let peers = self.book.borrow().claims.peer_list(list).to_vec();
        let hosts: Vec<usize> = peers.iter().filter_map(|peer| peer.host()).collect();
        let mut batches = PairBatches { direction, ..PairBatches::default() };
        if peers.is_empty() || peers.len() == 1 && hosts.len() == 1 {
            // No other host or service has a destination role of these rows, so the source forms no
            // pairs.
            for source in sources.iter().filter(|source| peers.is_empty() || hosts[0] == **source) {
                let silence = self.silence(group, expected, *source, None, Tried::AsSeen);
                silence.claim().into_iter().for_each(|(code, claim)| batches.add_one(code, claim));
            }
        }
        let classifier = HostClassifier::new(self, group, expected, sources, direction);
        let source_classes = classifier.classes(sources, PairEnd::Source);
        let destination_classes = classifier.classes(&hosts, PairEnd::Destination);
        batches.particular = self.particular(group, sources, direction);
        for source_class in source_classes.values() {
            for (traits, class) in &destination_classes {
                let direction = direction.if_client(traits.is_source);
                let batch = self.check_classes(
                    group,
                    expected,
                    [source_class, class],
                    direction,
                    &batches.particular,
                );
                batches.list.extend(batch);
            }
            for service in peers.iter().filter_map(|peer| peer.service()) {
                let plain = |s: &&u32| !batches.particular.has(**s, Peer::Service(service));
                let plain: Vec<u32> = source_class.iter().filter(plain).copied().collect();
                let Some(first) = plain.first() else { continue };
                let to = Some(To::Service(service as u32));
                let silence = self.silence(group, expected, *first as usize, to, Tried::Nothing);
                if let Some((code, claim)) = silence.claim() {
                    batches.list.push(PairBatch { code, claim, sources: plain, to: None });
                }
            }
        }
        self.add_particular(group, expected, &peers, &mut batches);
        batches
    }

    /// Checks one pair of hosts from two classes. The result applies to all their pairs, except
    /// those that are checked one by one.
    fn check_classes(
        &self,
        group: GroupId,
        expected: &[usize],
        [source_class, class]: [&Vec<u32>; 2],
        direction: PairDirection,
        particular: &Particular,
    ) -> Option<PairBatch> {
        let order = match direction {
            PairDirection::FromSource => PairOrder::Any,
            PairDirection::Either => PairOrder::Above,
        };
        let (source, to) = source_class.iter().find_map(|source| {
            let to = particular.all(*source, class, order).next()?;
            Some((*source, to))
        })?;
        let pair = [source, to];
        let silence = self.silence_of_pair(group, expected, pair, direction, Tried::Nothing);
        let (code, claim) = silence.claim()?;
        Some(if claim.source == source {
            let to = Some((class.clone(), order));
            PairBatch { code, claim, sources: source_class.clone(), to }
        } else {
            let to = Some((source_class.clone(), PairOrder::Below));
            PairBatch { code, claim, sources: class.clone(), to }
        })
    }

    /// Checks whether traffic between two hosts is missing.
    fn silence_of_pair(
        &self,
        group: GroupId,
        expected: &[usize],
        [source, to]: [u32; 2],
        direction: PairDirection,
        tried: Tried,
    ) -> AbsenceCheck {
        let forth = self.silence(group, expected, source as usize, Some(To::Host(to)), tried);
        match direction {
            PairDirection::FromSource => forth,
            PairDirection::Either => {
                let back =
                    self.silence(group, expected, to as usize, Some(To::Host(source)), tried);
                back.or(forth)
            }
        }
    }

    /// Adds the claims about pairs that are checked one by one.
    fn add_particular(
        &self,
        group: GroupId,
        expected: &[usize],
        peers: &[Peer],
        batches: &mut PairBatches,
    ) {
        let matrix = &self.policy.matrix;
        let is_client = |host: usize| {
            let roles = self.policy.inventory.hosts[host].roles;
            let mut sources = expected.iter().map(|row| matrix.rows[*row].source);
            sources.any(|role| matrix.roles[role].members.intersects(roles))
        };
        let peers: BTreeSet<Peer> = peers.iter().copied().collect();
        let mut found = Vec::new();
        for (source, others) in &batches.particular.0 {
            for peer in others.iter().filter(|peer| peers.contains(peer)) {
                let silence = match peer {
                    Peer::Host(other) if other == &(*source as usize) => continue,
                    Peer::Host(other) => {
                        let direction = batches.direction.if_client(is_client(*other));
                        // Each pair is checked once, in both directions.
                        if direction == PairDirection::Either && *other < *source as usize {
                            continue;
                        }
                        let pair = [*source, *other as u32];
                        self.silence_of_pair(group, expected, pair, direction, Tried::AsSeen)
                    }
                    Peer::Service(service) => {
                        let to = Some(To::Service(*service as u32));
                        self.silence(group, expected, *source as usize, to, Tried::AsSeen)
                    }
                    Peer::Other(_) => continue,
                };
                found.extend(silence.claim());
            }
        }
        found.into_iter().for_each(|(code, claim)| batches.add_one(code, claim));
    }

    /// Returns the pairs for which the capture shows an attempt or unreadable traffic.
    fn particular(
        &self,
        group: GroupId,
        sources: &[usize],
        direction: PairDirection,
    ) -> Particular {
        let mut pairs = Particular::default();
        let is_source: BTreeSet<usize> = sources.iter().copied().collect();
        let goes_back =
            |other: &usize| direction == PairDirection::Either && is_source.contains(other);
        for source in sources {
            let tried = self.attempts(group, *source, None).iter().map(|attempt| attempt.to);
            let unreadable = self.seen.unreadable_peers(*source).map(Peer::Host);
            for peer in tried.chain(unreadable) {
                pairs.0.entry(*source as u32).or_default().insert(peer);
                if let Some(other) = peer.host().filter(goes_back) {
                    let back = Peer::Host(*source);
                    pairs.0.entry(other as u32).or_default().insert(back);
                }
            }
        }
        pairs
    }

    /// Adds a finding about a group of rows for which one source is enough, unless a source sent
    /// the traffic or tried to.
    fn settle_one(&mut self, group: GroupId, silences: &[AbsenceCheck]) {
        if silences.iter().any(|s| matches!(s, AbsenceCheck::Fine | AbsenceCheck::Failed)) {
            return;
        }
        // If the traffic of even one source could not be assessed, the traffic is not reported as
        // missing.
        let unknown = silences.iter().find(|s| matches!(s, AbsenceCheck::Unknown(..)));
        let Some((code, claim)) = unknown.or(silences.first()).and_then(|s| s.claim()) else {
            return;
        };
        self.count(code, &claim, 1);
        let rows = self.book.borrow().claims.rows(claim.rows).to_vec();
        let client = EndKey::Roles(roles_on(self.policy, &rows, |row| row.source));
        self.add_claim(code, group, claim, client);
    }

    /// Turns the claims about a group into findings. [`MANY_PAIRS`] or more pairs with the same
    /// code become one finding.
    fn settle(&mut self, group: GroupId, batches: PairBatches) {
        let mut codes: BTreeMap<Code, Vec<&PairBatch>> = BTreeMap::new();
        for batch in &batches.list {
            codes.entry(batch.code).or_default().push(batch);
        }
        for (code, list) in codes {
            let count_pairs = |batch: &PairBatch| -> u64 {
                batch.sources.iter().map(|source| batches.count(batch, *source)).sum()
            };
            if list.iter().map(|batch| count_pairs(batch)).sum::<u64>() < MANY_PAIRS {
                for claim in list.iter().flat_map(|batch| batches.each(batch)) {
                    // Either host may be the client, so both have missing traffic.
                    if let (PairDirection::Either, To::Host(to)) = (batches.direction, claim.to)
                        && code == Code::NeverAttempted
                    {
                        self.missing.insert(to as usize);
                    }
                    self.count(code, &claim, 1);
                    self.missing
                        .extend((code == Code::NeverAttempted).then_some(claim.source as usize));
                    self.add_claim(code, group, claim, EndKey::Host(claim.source));
                }
                continue;
            }
            self.settle_many(code, group, &list, &batches);
        }
    }

    /// Reports many claims of one group with the same code as one finding.
    fn settle_many(
        &mut self,
        code: Code,
        group: GroupId,
        list: &[&PairBatch],
        batches: &PairBatches,
    ) {
        let mut merged = MergedPairs::default();
        let mut sources = BTreeSet::new();
        let mut to = BTreeSet::new();
        for batch in list {
            let mut of_batch = 0;
            for source in &batch.sources {
                let pairs = batches.count(batch, *source);
                if pairs == 0 {
                    continue;
                }
                of_batch += pairs;
                sources.insert(*source);
                self.count(code, &AbsenceClaim { source: *source, ..batch.claim }, pairs);
            }
            merged.pairs += of_batch;
            merged.doubtful += if batch.claim.doubts.certain() { 0 } else { of_batch };
            match (&batch.to, batch.claim.to) {
                (Some((class, order)), _) => {
                    let turned = match order {
                        PairOrder::Any => PairOrder::Any,
                        PairOrder::Above => PairOrder::Below,
                        PairOrder::Below => PairOrder::Above,
                    };
                    let all = &batch.sources;
                    let is_checked = |host: &&u32| {
                        let others = range(**host, all, turned);
                        others.iter().any(|other| {
                            other != *host
                                && !batches.particular.has(*other, Peer::Host(**host as usize))
                        })
                    };
                    to.extend(
                        class.iter().filter(is_checked).map(|host| Peer::Host(*host as usize)),
                    );
                }
                (None, To::Host(host)) => drop(to.insert(Peer::Host(host as usize))),
                (None, To::Service(service)) => drop(to.insert(Peer::Service(service as usize))),
                (None, To::AnyOf(_)) => {}
            }
        }
        if code == Code::NeverAttempted {
            self.missing.extend(sources.iter().map(|source| *source as usize));
            // Either host may be the client, so both have missing traffic.
            if batches.direction == PairDirection::Either {
                self.missing.extend(to.iter().filter_map(|peer| peer.host()));
            }
        }
        merged.sources = sources.into_iter().collect();
        merged.to = to.into_iter().collect();
        // The finding is as certain as the most certain claim.
        let claims = list.iter().map(|batch| batch.claim);
        let Some(claim) = claims.min_by_key(|claim| (!claim.doubts.certain(), claim.source)) else {
            return;
        };
        let mut book = self.book.borrow_mut();
        let is_any = book.ends.id(EndKey::Everybody);
        // Hosts with several roles may have different expected rows, so the finding covers the rows
        // of all claims.
        let rows = list.iter().flat_map(|batch| book.claims.rows(batch.claim.rows));
        let rows: BTreeSet<usize> = rows.copied().collect();
        let rows: Vec<usize> = rows.into_iter().collect();
        let claim = AbsenceClaim {
            rows: book.claims.rows_id(&rows),
            watch_s: list.iter().map(|batch| batch.claim.watch_s).max().unwrap_or(claim.watch_s),
            trigger: claim.trigger.filter(|_| list.iter().all(|b| b.claim.trigger.is_some())),
            ..claim
        };
        let mut transports = rows.iter().map(|row| self.policy.matrix.rows[*row].transport);
        let first = transports.next();
        let key = FindingKey {
            code,
            client: is_any,
            server: is_any,
            transport: first.filter(|first| transports.all(|other| other == *first)),
            about: About::Group,
        };
        let id = book.claims.add(claim, group, Some(merged));
        let finding = self.with_severity(Finding::new(key, Reason::Claim(id)), claim.doubts);
        book.findings.push(finding);
    }

    fn with_severity(&self, finding: Finding, doubts: Doubts) -> Finding {
        let severity = self.judge.severity(finding.key.code, SeverityColumn::Reached, doubts);
        finding.weighing(severity, doubts)
    }

    /// Adds a finding about a claim. `client` is the source host, or stands for any host with one
    /// of the source roles.
    fn add_claim(&self, code: Code, group: GroupId, claim: AbsenceClaim, client: EndKey) {
        let policy = self.policy;
        let matrix = &self.policy.matrix;
        let mut book = self.book.borrow_mut();
        let rows = book.claims.rows(claim.rows).to_vec();
        let only = rows.first().filter(|row| matrix.rows[**row].only.is_some());
        let to = match claim.to {
            To::Host(to) => Some(to as usize),
            To::Service(_) => None,
            To::AnyOf(list) => {
                let mut others = book.claims.peer_list(list).iter();
                let own = Peer::Host(claim.source as usize);
                let mut others = others.by_ref().filter(|peer| **peer != own);
                match (others.next(), others.next()) {
                    (Some(Peer::Host(only)), None) => Some(*only),
                    _ => None,
                }
            }
        };
        let server = match (to, only) {
            (Some(to), _) => EndKey::Host(to as u32),
            (None, Some(row)) => EndKey::Words(matrix.destination_text(&matrix.rows[*row]).into()),
            (None, None) => EndKey::Roles(roles_on(policy, &rows, |row| row.destination)),
        };
        let key = FindingKey {
            code,
            client: book.ends.id(client),
            server: book.ends.id(server),
            transport: rows.first().map(|row| matrix.rows[*row].transport),
            about: About::Group,
        };
        let id = book.claims.add(claim, group, None);
        let finding = self.with_severity(Finding::new(key, Reason::Claim(id)), claim.doubts);
        book.findings.push(finding);
    }

    /// Counts a claim about `pairs` pairs in the reports of its rows and its source host.
    fn count(&mut self, code: Code, claim: &AbsenceClaim, pairs: u64) {
        let rows = self.book.borrow().claims.rows(claim.rows).to_vec();
        let name = &self.policy.inventory.hosts[claim.source as usize].name;
        for row in &rows {
            let report = &mut self.rows[*row];
            if code == Code::NeverAttempted {
                report.status = Status::Missing;
                if !report.source_hosts_missing.contains(name) {
                    report.source_hosts_missing.insert(name.clone());
                }
            } else {
                report.reason = Some(report.reason.map_or(code, |first| first.min(code)));
            }
        }
        if code != Code::NeverAttempted {
            self.not_assessable[claim.source as usize] += rows.len() as u64 * pairs;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_counted_without_the_host_itself_and_what_is_particular() {
        let mut particular = Particular::default();
        particular.0.insert(3, BTreeSet::from([Peer::Host(5), Peer::Host(9), Peer::Service(1)]));
        let class = [1, 3, 5, 7];
        for (order, all) in
            [(PairOrder::Any, &[1, 7][..]), (PairOrder::Above, &[7]), (PairOrder::Below, &[1])]
        {
            assert_eq!(particular.count(3, &class, order), all.len() as u64);
            assert_eq!(particular.all(3, &class, order).collect::<Vec<_>>(), all);
        }
        assert_eq!(particular.count(4, &class, PairOrder::Any), 4);
    }
}
