//! Claims that could not be assessed, in words, and what claims of absence rest on.

use std::collections::BTreeSet;

use super::{EndIdentity, Explainer, ToldFinding, Words};
use crate::classify::ServiceKey;
use crate::classify::{
    AbsenceClaim, ClaimId, Code, FoldedPairs as Fold, Peer, RoleSet, Row, roles_on,
};
use crate::model::service_words;

/// Maximum number of hosts that the trace of a claim describes.
const SHOWN: usize = 5;

/// Returns the number of pairs that folded claims are about, in words. The text is empty if they
/// are about hosts alone.
pub(super) fn pairs(fold: Option<&Fold>) -> String {
    let fold = fold.filter(|fold| !fold.to.is_empty());
    fold.map_or_else(String::new, |fold| format!(" ({} pairs, each once)", fold.pairs))
}

impl Explainer<'_> {
    pub(super) fn not_assessable(&self, id: ClaimId, told: &ToldFinding) -> Words {
        let code = told.code;
        let claims = self.outcome.claims();
        let claim = claims.get(id).0;
        let fold = claims.fold(id);
        let rows = claims.rows(claim.rows);
        let client = told.client.words();
        let server = told.server.words();
        // The place to capture at.
        let at = match fold {
            Some(_) => "ports of these hosts".to_owned(),
            None => format!("port of {client}"),
        };
        let minutes = claim.watch_s.div_ceil(60).max(1);
        let features: BTreeSet<&str> = rows
            .iter()
            .flat_map(|r| &self.policy.matrix.rows[*r].features)
            .map(String::as_str)
            .filter(|f| !self.policy.inventory.features.contains_key(*f))
            .collect();
        let unseen_end = if self.seen.is_sending(Peer::Host(claim.source as usize)) {
            &told.server
        } else {
            &told.client
        };
        let unseen = unseen_end.words();
        let never_seen = match unseen.strip_prefix("any ") {
            Some(roles) => format!("no {roles} was seen sending"),
            None => format!("{unseen} was never seen sending"),
        };
        let outside = rows.iter().any(|row| self.policy.matrix.rows[*row].only.is_some());
        let (why, action) = match code {
            Code::HostNotSeen if outside => (
                "the capture does not show that name or address".to_owned(),
                format!("Capture at the switch {at} for {minutes} minutes, including DNS"),
            ),
            Code::HostNotSeen if fold.is_some() => (
                "in each pair, one host was never seen sending".to_owned(),
                format!(
                    "Capture at the switch {at} for {minutes} minutes; hosts.csv lists the hosts that were seen"
                ),
            ),
            Code::HostNotSeen => (
                never_seen,
                format!("Capture at the switch port of {unseen} for {minutes} minutes"),
            ),
            Code::PairNotCovered => (
                "nothing shows that the capture covers the pair".to_owned(),
                format!(
                    "Capture at the switch {at} for {minutes} minutes, or state in [capture] what the span covers"
                ),
            ),
            Code::OneSidedView => (
                "only one direction of the pair is visible".to_owned(),
                format!("Mirror both directions of the switch {at}"),
            ),
            Code::LoopbackOnly => (
                "the farm has no second host of the role".to_owned(),
                format!(
                    "None if this is correct; otherwise list the other hosts, or capture on the loopback interface of {client}"
                ),
            ),
            // The window was long enough, but too much of it consists of gaps without frames.
            Code::WindowTooShort if self.seen.view().watched.longest_s >= claim.watch_s => (
                format!(
                    "the longest stretch with gaps of at most {1} s in total has {0} s; {2} s are needed",
                    self.seen.view().watched.seconds_for(claim.watch_s),
                    claim.watch_s / 10,
                    claim.watch_s
                ),
                "Capture where more traffic is visible: the traffic may have occurred in the gaps of this capture"
                    .to_owned(),
            ),
            Code::WindowTooShort => (
                format!(
                    "{} s were watched; {} s are needed",
                    self.seen.view().watched.seconds_for(claim.watch_s),
                    claim.watch_s
                ),
                format!("Capture for at least {minutes} minutes"),
            ),
            Code::CaptureFiltered => (
                "a capture filter may have removed it".to_owned(),
                "Capture without a filter".to_owned(),
            ),
            Code::LossTooHigh => (
                format!("the capture lost {:.1} % of its frames", self.seen.view().loss * 100.0),
                "Capture again with a larger buffer or a shorter snaplen".to_owned(),
            ),
            Code::FeatureUnknown => (
                "the inventory does not state whether the feature is in use".to_owned(),
                format!(
                    "Set {} to true or false in [farm.features]",
                    features.into_iter().collect::<Vec<_>>().join(" and ")
                ),
            ),
            _ => (
                "the capture shows no session that would require this connection".to_owned(),
                format!("Capture while users work through {client}"),
            ),
        };
        let pairs = pairs(fold);
        let message = format!(
            "{} from {client} to {server}{pairs} was not assessed: {why}",
            self.services(claim)
        );
        Words { message, action, display_filter: String::new() }
    }

    pub(super) fn claim_trace(&self, id: ClaimId) -> Vec<String> {
        let policy = self.policy;
        let seen = &self.seen;
        let claims = self.outcome.claims();
        let claim = claims.get(id).0;
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
            let c = &self.outcome.conversations.list[number as usize];
            let ServiceKey { client, server, transport, port } = c.subject;
            let group = policy.matrix.groups.keys().nth(group.into()).map_or("", String::as_str);
            trace.push(format!(
                "expected because a conversation of {group} used this host: {client} to {server}, {}, {} packets and {} bytes",
                service_words(transport, &port.to_string()),
                c.to_server.packets.0 + c.to_client.packets.0,
                c.to_server.bytes.0 + c.to_client.bytes.0
            ));
        }
        trace.push(format!(
            "watched {} s, the row needs {} s; loss: {:.2} % (from capture statistics or acknowledgements, at least 1 %)",
            seen.view().watched.seconds_for(claim.watch_s),
            claim.watch_s,
            seen.view().miss() * 100.0
        ));
        let source = claim.source as usize;
        let to = claims.to(claim);
        let coverage = match (&policy.inventory.covers, seen.covers(source, &to)) {
            (Some(_), Some(_)) => "the inventory states that the capture covers the pair",
            (Some(_), None) => "the inventory states that the capture does not cover the pair",
            (None, Some(_)) => "other traffic of the pair shows that the capture covers it",
            (None, None) => "nothing shows that the capture covers the pair",
        };
        trace.push(coverage.to_owned());
        let hosts = [&[Peer::Host(source)], &to[..]].concat();
        trace.extend(hosts.iter().take(SHOWN).filter_map(|unit| seen.words(*unit)));
        if hosts.len() > SHOWN {
            trace.push(format!("and {} more hosts, in hosts.csv", hosts.len() - SHOWN));
        }
        if claim.is_of_absence {
            trace.extend(seen.hidden_ways(rows, source, &to, claim.tunnelled));
        }
        if let Some(fold) = claims.fold(id) {
            trace.push(format!("this is the first of {} pairs", fold.pairs));
            if fold.doubtful > 0 && fold.doubtful < fold.pairs {
                trace.push(format!(
                    "{1} of {0} pairs are not certain; the claim rests on the others",
                    fold.pairs, fold.doubtful
                ));
            }
        }
        trace
    }

    /// Returns the roles of the ends of folded claims, which are those of their rows.
    pub(super) fn roles_of_claims(&self, id: ClaimId) -> [RoleSet; 2] {
        let claims = self.outcome.claims();
        let rows = claims.rows(claims.get(id).0.rows);
        let sides: [fn(&Row) -> usize; 2] = [|row| row.source, |row| row.destination];
        sides.map(|side| roles_on(self.policy, rows, side))
    }

    /// Returns the ends of folded claims: all hosts with the roles of their rows.
    pub(super) fn ends_of_claims(&self, id: ClaimId) -> [EndIdentity; 2] {
        let fold = self.outcome.claims().fold(id);
        let counts = fold.map_or([0; 2], |fold| [fold.sources.len(), fold.to.len()]);
        let [client, server] =
            self.roles_of_claims(id).map(|roles| EndIdentity::playing(self.policy, roles));
        [client.many(counts[0]), server.many(counts[1])]
    }

    /// Returns what a claim is about, in words.
    pub(super) fn services(&self, claim: &AbsenceClaim) -> String {
        let rows = self.outcome.claims().rows(claim.rows);
        let rows = rows.iter().map(|r| &self.policy.matrix.rows[*r]);
        let words: BTreeSet<String> =
            rows.map(|row| service_words(row.transport, &self.policy.ports_here(row))).collect();
        words.into_iter().collect::<Vec<_>>().join(" or ")
    }
}
