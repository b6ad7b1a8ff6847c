//! Explains traffic that could not be assessed, and the evidence for absence claims.

use std::collections::BTreeSet;

use super::conversation::feature_words;
use super::{EndIdentity, Explainer, ReportedFinding, Words};
use crate::classify::ServiceKey;
use crate::classify::{
    AbsenceClaim, CaptureConditions, ClaimId, Code, Doubt, MergedPairs, Peer, RoleSet, Row,
    roles_on,
};
use crate::model::service_words;
use crate::result::plural;

/// Describes how much loss was measured, how much is allowed, and which loss the certainty is based
/// on.
fn measured_loss(view: &CaptureConditions) -> String {
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let measured = if view.loss > 0.0 {
        let loss = percent(view.loss);
        format!("measured loss: {loss}, from capture statistics or unseen acknowledged bytes")
    } else {
        "no loss was measured".to_owned()
    };
    let limit = percent(view.max_loss);
    let basis = view.miss();
    let assumed = if basis > view.loss {
        format!("; the certainty of the absence was calculated for a loss of {}", percent(basis))
    } else {
        String::new()
    };
    format!("{measured} (limit: {limit}){assumed}")
}

/// Maximum number of hosts that the trace of a claim describes.
const SHOWN: usize = 5;

/// Returns the number of pairs that merged claims are about, as text. The string is empty if no
/// claims were merged, or if any host with the role would be enough as the destination.
pub(super) fn pairs_text(merged: Option<&MergedPairs>) -> String {
    let merged = merged.filter(|merged| !merged.to.is_empty());
    merged.map_or_else(String::new, |merged| format!(" ({} pairs of hosts)", merged.pairs))
}

/// Returns the time for which the rows of a claim have to be watched, in minutes: rounded up, and
/// at least 1.
fn minutes_to_watch(claim: &AbsenceClaim) -> u64 {
    claim.watch_s.div_ceil(60).max(1)
}

impl Explainer<'_> {
    pub(super) fn not_assessable(&self, id: ClaimId, reported: &ReportedFinding) -> Words {
        let claims = self.outcome.claims();
        let claim = claims.get(id);
        let merged = claims.merged_pairs(id);
        let rows: Vec<&Row> =
            claims.rows(claim.rows).iter().map(|row| &self.policy.matrix.rows[*row]).collect();
        let client = reported.client.words();
        let server = reported.server.words();
        let capture_at = match merged {
            Some(_) => "ports of these hosts".to_owned(),
            None => format!("port of {client}"),
        };
        let minutes = plural(minutes_to_watch(claim), "minute");
        let pair = if merged.is_some() { "these pairs of hosts" } else { "this pair of hosts" };
        let (why, action) = match reported.code {
            Code::HostNotSeen if rows.iter().any(|row| row.only.is_some()) => (
                "the capture does not contain the name or address of the destination".to_owned(),
                format!("Capture at the switch {capture_at} for {minutes}, including DNS"),
            ),
            Code::HostNotSeen if merged.is_some() => (
                "the capture shows no unicast packets from one host of each pair".to_owned(),
                format!(
                    "Capture at the switch {capture_at} for {minutes}; the column coverage of hosts.csv shows which hosts were seen"
                ),
            ),
            Code::HostNotSeen => self.host_not_seen(claim, reported),
            Code::PairNotCovered => (
                format!("no evidence shows that the capture covers {pair}"),
                format!(
                    "Capture at the switch {capture_at} for {minutes}, or declare in [capture] what the span port covers"
                ),
            ),
            Code::OneSidedView => (
                format!("only one direction of the traffic of {pair} is visible"),
                format!("Mirror both directions of the switch {capture_at}"),
            ),
            Code::LoopbackOnly if !claims.to(claim).is_empty() => (
                match merged {
                    Some(_) => "these hosts also have the role of the server, so the traffic may stay inside each of them".to_owned(),
                    None => format!("{client} also has the role of the server, so the traffic may stay inside it"),
                },
                format!("To assess the traffic inside {client}, capture on its loopback interface"),
            ),
            Code::LoopbackOnly => (
                "the inventory lists no other host with the role of the server".to_owned(),
                format!(
                    "If the farm has another host with that role, add it to the inventory; to assess the traffic inside {client}, capture on its loopback interface"
                ),
            ),
            Code::WindowTooShort => self.window_too_short(claim),
            Code::CaptureFiltered => (
                self.filtered(&rows),
                "Capture and audit without a filter".to_owned(),
            ),
            Code::LossTooHigh => (
                format!("the capture lost {:.1} % of the traffic", self.seen.view().loss * 100.0),
                "Capture again with a larger buffer or a shorter snaplen".to_owned(),
            ),
            Code::FeatureUnknown => (
                "the inventory does not state whether a required feature is in use".to_owned(),
                format!(
                    "Set {} to true or false in [farm.features]",
                    feature_words(&self.unstated_features(&rows)).0
                ),
            ),
            _ => (
                "the capture contains no traffic that would require this connection".to_owned(),
                format!("Capture while {client} is in normal use"),
            ),
        };
        let pairs = pairs_text(merged);
        let message = format!(
            "{} from {client} to {server}{pairs} was not assessed: {why}",
            self.services(id)
        );
        Words { message, action, display_filter: String::new() }
    }

    /// Explains a claim about a single pair if the capture shows no unicast packets from one of its
    /// hosts. Returns the reason and the recommended action.
    fn host_not_seen(&self, claim: &AbsenceClaim, reported: &ReportedFinding) -> (String, String) {
        let unseen_end = if self.seen.is_sending(Peer::Host(claim.source as usize)) {
            &reported.server
        } else {
            &reported.client
        };
        let unseen = unseen_end.words();
        let never_seen = format!("the capture shows no unicast packets from {unseen}");
        let minutes = plural(minutes_to_watch(claim), "minute");
        (never_seen, format!("Capture at the switch port of {unseen} for {minutes}"))
    }

    /// Returns the reason why a filter may have removed the traffic of some rows.
    fn filtered(&self, rows: &[&Row]) -> String {
        let lacking = rows.iter().map(|row| row.transport).find(|t| self.seen.lacks(*t));
        match lacking.filter(|_| !self.seen.view().filtered) {
            Some(transport) => format!(
                "the capture contains no {} packets, so a filter may have removed the traffic",
                transport.to_string().to_uppercase()
            ),
            None if self.seen.conversations.index.has_only_openings() => {
                "the capture contains no TCP segments other than SYN, FIN and RST, so a filter may have removed the traffic".to_owned()
            }
            None if !self.seen.view().filtered => format!(
                "the capture contains no {} packets, although both hosts have such addresses, so a filter may have removed the traffic",
                self.outcome.conversations.index.lacking_versions().join(" or ")
            ),
            None => "a capture filter or --filter may have removed the traffic".to_owned(),
        }
    }

    /// Explains a claim about rows that were not watched for long enough. Returns the reason and
    /// the recommended action.
    fn window_too_short(&self, claim: &AbsenceClaim) -> (String, String) {
        let watched = &self.seen.view().watched;
        let to = self.outcome.claims().to(claim);
        let watched_s = self.seen.watched_for(claim, &to);
        if watched_s < watched.seconds_for(claim.watch_s) {
            return self.interrupted(claim, &to, watched_s);
        }
        // The window was long enough, but too much of it consists of gaps without frames.
        if watched.longest_s >= claim.watch_s {
            let gaps_s = claim.watch_s / 10;
            let why = format!(
                "the longest period with gaps of at most {gaps_s} s in total lasted {watched_s} s; {} s are required",
                claim.watch_s
            );
            let action = "Capture where more traffic is visible: the traffic may have occurred in the gaps of this capture";
            return (why, action.to_owned());
        }
        (
            format!("the watch time was {watched_s} s; {} s are required", claim.watch_s),
            format!("Capture for at least {}", plural(minutes_to_watch(claim), "minute")),
        )
    }

    /// Explains a claim about rows whose traffic a vantage point could have missed while it did not
    /// watch. Returns the reason and the recommended action.
    fn interrupted(&self, claim: &AbsenceClaim, to: &[Peer], watched_s: u64) -> (String, String) {
        let hosts = [&[Peer::Host(claim.source as usize)], to].concat();
        let sensors = self.seen.interrupted_sensors(&hosts);
        if sensors.is_empty() {
            let why = format!(
                "some captures show only the traffic of another host, and the watch time without them was {watched_s} s; {} s are required",
                claim.watch_s
            );
            let host = &self.policy.inventory.hosts[claim.source as usize].name;
            let time = plural(minutes_to_watch(claim), "minute");
            return (why, format!("Capture at {host} for at least {time}"));
        }
        let names = sensors.join(", ");
        let noun = if sensors.len() == 1 { "sensor" } else { "sensors" };
        let why = format!(
            "the {noun} {names} did not watch all the time, and the watch time without these gaps was {watched_s} s; {} s are required",
            claim.watch_s
        );
        let action = format!(
            "Find out why the {noun} {names} stopped, and capture for at least {} without a gap",
            plural(minutes_to_watch(claim), "minute")
        );
        (why, action)
    }

    /// Returns the features of some rows that the inventory does not mention, in order.
    fn unstated_features<'r>(&self, rows: &[&'r Row]) -> Vec<&'r str> {
        let features: BTreeSet<&str> = rows
            .iter()
            .flat_map(|row| &row.features)
            .map(String::as_str)
            .filter(|feature| !self.policy.inventory.features.contains_key(*feature))
            .collect();
        features.into_iter().collect()
    }

    pub(super) fn claim_trace(&self, id: ClaimId) -> Vec<String> {
        let policy = self.policy;
        let seen = &self.seen;
        let claims = self.outcome.claims();
        let claim = claims.get(id);
        let rows = claims.rows(claim.rows);
        let mut trace = Vec::new();
        if let Some(row) = rows.first() {
            let row = &policy.matrix.rows[*row];
            trace.push(format!("row {} ({}, {})", row.id, row.purpose, row.provenance));
            if row.is_doubtful() {
                trace.push(format!("the row is {}: {}", row.certainty, row.note));
            }
        }
        if let Some((group, number)) = claim.trigger {
            let trigger = &self.outcome.conversations.list[number as usize];
            let ServiceKey { client, server, transport, port } = trigger.subject;
            let group = policy.matrix.groups.keys().nth(group.into()).map_or("", String::as_str);
            trace.push(format!(
                "expected because a conversation of the group {group} involved this host: {client} to {server}, {}, {} and {}",
                service_words(transport, &port.to_string()),
                plural(trigger.to_server.packets.0 + trigger.to_client.packets.0, "packet"),
                plural(trigger.to_server.bytes.0 + trigger.to_client.bytes.0, "byte")
            ));
            if claim.is_weakly_triggered {
                trace.push("few sessions of one client are weak evidence: a client that starts nothing also transfers data".to_owned());
            }
        }
        trace.push(format!(
            "watch time: {} s, {}; {}",
            seen.watched_for(claim, &claims.to(claim)),
            self.required_watch(claim, rows),
            measured_loss(seen.view())
        ));
        let pauses = rows.iter().map(|row| policy.matrix.rows[*row].pause_s);
        let pause_s = pauses.max().filter(|pause_s| *pause_s > 0);
        if let Some(pause_s) = pause_s.filter(|_| seen.view().min_watch.is_none()) {
            trace.push(format!(
                "the traffic may pause for up to {pause_s} s although everything works, so its absence is certain only after this time"
            ));
        }
        let source = claim.source as usize;
        let to = claims.to(claim);
        let covers = seen.covers_claim(claim, rows, &to);
        let coverage = match (&policy.inventory.covers, covers) {
            (Some(_), Some(_)) => "the inventory states that the capture covers this traffic",
            (Some(_), None) => "the inventory states that the capture does not cover this traffic",
            (None, Some(_)) => {
                "other traffic of these hosts shows that the capture covers this traffic"
            }
            (None, None) => "no evidence shows that the capture covers this traffic",
        };
        trace.push(coverage.to_owned());
        let hosts = [&[Peer::Host(source)], &to[..]].concat();
        trace.extend(hosts.iter().take(SHOWN).filter_map(|peer| seen.describe_activity(*peer)));
        trace.extend(to.iter().take(SHOWN).filter_map(|peer| seen.describe_overlap(source, *peer)));
        if hosts.len() > SHOWN {
            trace.push(format!(
                "and {} in hosts.csv",
                plural((hosts.len() - SHOWN) as u64, "more host")
            ));
        }
        if claim.is_of_absence {
            trace.extend(seen.hidden_ways(claim, rows, &to));
        }
        if claim.doubts.iter().any(|doubt| doubt == Doubt::Site) {
            trace.push("neither the inventory nor the traffic of other components shows that both hosts belong to the same site of the farm".to_owned());
        }
        if let Some(merged) = claims.merged_pairs(id) {
            trace.push(format!("this trace describes the first of {} pairs", merged.pairs));
            if merged.doubtful > 0 && merged.doubtful < merged.pairs {
                trace.push(format!(
                    "the absence is not certain for {} of {} pairs of hosts; the finding is based on the other pairs",
                    merged.doubtful, merged.pairs
                ));
            }
        }
        trace
    }

    /// Describes how long the rows of a claim have to be watched, and whether the row or an option
    /// requires this.
    fn required_watch(&self, claim: &AbsenceClaim, rows: &[usize]) -> String {
        if self.seen.view().min_watch.is_none() {
            return format!("required by the row: {} s", claim.watch_s);
        }
        let rows = rows.iter().map(|row| self.policy.matrix.rows[*row].watch_s);
        let own = rows.map(CaptureConditions::watch_of_row).max().unwrap_or(0);
        format!("required by --min-watch: {} s (instead of {own} s, as in the row)", claim.watch_s)
    }

    /// Returns the roles of the two ends of merged claims, which come from the rows of the claims.
    pub(super) fn roles_of_claims(&self, id: ClaimId) -> [RoleSet; 2] {
        let claims = self.outcome.claims();
        let rows = claims.rows(claims.get(id).rows);
        let sides: [fn(&Row) -> usize; 2] = [|row| row.source, |row| row.destination];
        sides.map(|side| roles_on(self.policy, rows, side))
    }

    /// Returns the ends of merged claims, described by the number of their hosts and by the roles
    /// in the rows of the claims. The only host of an end is named.
    pub(super) fn ends_of_claims(&self, id: ClaimId) -> [EndIdentity; 2] {
        let merged = self.outcome.claims().merged_pairs(id);
        let counts = merged.map_or([0; 2], |merged| [merged.sources.len(), merged.to.len()]);
        let [client, server] =
            self.roles_of_claims(id).map(|roles| EndIdentity::playing(self.policy, roles));
        let hosts = merged.map_or([None; 2], |merged| {
            let source = match merged.sources[..] {
                [source] => Some(source as usize),
                _ => None,
            };
            let destination = match merged.to[..] {
                [Peer::Host(host)] => Some(host),
                _ => None,
            };
            [source, destination]
        });
        let [client, server] =
            [(client, hosts[0]), (server, hosts[1])].map(|(end, host)| match host {
                Some(host) => end.named_after(self.policy, host),
                None => end,
            });
        [client.many(counts[0]), server.many(counts[1])]
    }

    /// Returns the services that a claim is about, as text.
    pub(super) fn services(&self, id: ClaimId) -> String {
        let claims = self.outcome.claims();
        let claim = claims.get(id);
        // A merged claim does not list the hosts of all pairs.
        let to = claims.merged_pairs(id).map_or_else(|| claims.to(claim), |_| Vec::new());
        let hosts: Vec<usize> = to
            .into_iter()
            .filter_map(|peer| match peer {
                Peer::Host(host) => Some(host),
                _ => None,
            })
            .collect();
        let rows = claims.rows(claim.rows).iter().map(|row| &self.policy.matrix.rows[*row]);
        let words: BTreeSet<String> = rows
            .flat_map(|row| {
                let ports: BTreeSet<String> =
                    hosts.iter().map(|host| self.policy.ports_at(row, *host)).collect();
                let ports = if ports.is_empty() {
                    BTreeSet::from([self.policy.ports_here(row)])
                } else {
                    ports
                };
                ports.into_iter().map(|port| service_words(row.transport, &port))
            })
            .collect();
        words.into_iter().collect::<Vec<_>>().join(" or ")
    }
}
