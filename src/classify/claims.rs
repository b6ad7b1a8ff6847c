//! What is missing, or could not be assessed, in words.

use std::collections::BTreeSet;

use super::coverage::Unit;
use super::expected::{Assessor, Claim};
use super::finding::{End, Finding};
use super::verdict::{Code, Status};
use super::wording::service_words;
use crate::conversation::{Presence, Subject};
use crate::model::SECOND;
use crate::policy::{Party, RoleSet, Row, Who};

/// Hosts of a claim that its trace tells of.
const SHOWN: usize = 5;

impl Assessor<'_> {
    /// A finding about a claim, without its words.
    fn claimed(&self, code: Code, group: &str, claim: &Claim, any_source: bool) -> Finding {
        let policy = self.policy;
        let matrix = &policy.matrix;
        let host_end = |host: usize| {
            let entry = &policy.inventory.hosts[host];
            let address = entry.addresses.first().map_or_else(String::new, ToString::to_string);
            let party = Party { who: Who::Host(host), roles: entry.roles };
            End::of(policy, &party, &address)
        };
        let roles = |role: fn(&Row) -> usize| {
            claim.rows.iter().fold(RoleSet::default(), |set, row| {
                set.with(matrix.roles[role(&matrix.rows[*row])].members)
            })
        };
        let client = if any_source {
            End::any_of(policy, roles(|r| r.source))
        } else {
            host_end(claim.source)
        };
        let only = claim.rows.first().filter(|row| matrix.rows[**row].only.is_some());
        let server = match (claim.to.as_slice(), only) {
            ([Unit::Host(host)], _) => host_end(*host),
            (_, Some(row)) => End::only(matrix.destination_text(&matrix.rows[*row])),
            (_, None) => End::any_of(policy, roles(|r| r.destination)),
        };
        let mut finding = Finding::new(code, client, server);
        finding.severity = self.judge.severity(code, true, claim.doubts);
        finding.doubts = claim.doubts;
        finding.certain = claim.doubts.certain();
        if let Some(row) = claim.rows.first() {
            let row = &matrix.rows[*row];
            finding.transport = row.transport.to_string();
            finding.rule.clone_from(&row.id);
            finding.trace.push(format!("row {} ({}, {})", row.id, row.purpose, row.provenance));
            if row.is_doubtful() {
                finding.trace.push(format!("the row is {}: {}", row.certainty, row.note));
            }
        }
        let mut ports: Vec<String> = Vec::new();
        for port in claim.rows.iter().map(|r| policy.ports_here(&matrix.rows[*r])) {
            if !port.is_empty() && !ports.contains(&port) {
                ports.push(port);
            }
        }
        finding.port = ports.join(";");
        group.clone_into(&mut finding.group);
        if let Some((group, number)) = &claim.trigger {
            let c = &self.conversations.list[*number];
            let Subject { client, server, transport, port } = c.subject;
            finding.trace.push(format!(
                "expected because a conversation of {group} went through this host: {client} to {server}, {}, {} packets and {} bytes",
                service_words(transport, &port.to_string()),
                c.to_server.packets.0 + c.to_client.packets.0,
                c.to_server.bytes.0 + c.to_client.bytes.0
            ));
            finding.grounds.trigger = Some(*number);
        }
        finding.trace.push(format!(
            "watched {} s, the row needs {}; loss taken as {:.2} % (what the capture says or acknowledgements show, and at least 1 %)",
            self.view.watched.seconds_for(claim.watch_s),
            claim.watch_s,
            self.view.miss() * 100.0
        ));
        let coverage = match (&policy.inventory.covers, self.covers(claim.source, &claim.to)) {
            (Some(_), Some(_)) => "the inventory states that the capture covers the pair",
            (Some(_), None) => "the inventory states that the capture does not cover the pair",
            (None, Some(_)) => "the capture covers the pair, as its other traffic shows",
            (None, None) => "nothing shows that the capture covers the pair",
        };
        finding.trace.push(coverage.to_owned());
        let hosts = [&[Unit::Host(claim.source)], &claim.to[..]].concat();
        finding.trace.extend(hosts.iter().take(SHOWN).filter_map(|unit| self.seen(*unit)));
        if hosts.len() > SHOWN {
            finding.trace.push(format!("and {} more hosts, in hosts.csv", hosts.len() - SHOWN));
        }
        finding.trace.extend(claim.hidden.iter().cloned());
        finding
    }

    /// How a host was seen, in words.
    pub(super) fn seen(&self, unit: Unit) -> Option<String> {
        let Unit::Host(host) = unit else { return None };
        let (name, report) = (&self.policy.inventory.hosts[host].name, &self.hosts[host]);
        let Presence { unicast_sent, received, unicast_in, .. } = &report.presence;
        let seconds = unicast_in.length().unwrap_or_default() / SECOND;
        Some(match (unicast_sent.0, received.packets.0) {
            (0, 0) => format!("{name} was not seen"),
            (0, received) => {
                format!("{name} was sent {received} packets and not seen sending any to one host")
            }
            (sent, received) => format!(
                "{name} sent {sent} packets to single hosts, {seconds} s from the first to the last, and was sent {received}"
            ),
        })
    }

    /// What a claim is about, in words.
    fn services(&self, claim: &Claim) -> String {
        let rows = claim.rows.iter().map(|r| &self.policy.matrix.rows[*r]);
        let words: BTreeSet<String> =
            rows.map(|row| service_words(row.transport, &self.policy.ports_here(row))).collect();
        words.into_iter().collect::<Vec<_>>().join(" or ")
    }

    pub(super) fn never_attempted(&mut self, group: &str, claim: &Claim, any_source: bool) {
        let mut finding = self.claimed(Code::NeverAttempted, group, claim, any_source);
        let (client, server) =
            (finding.client.words_with_roles(), finding.server.words_with_roles());
        let because = if claim.trigger.is_some() { ", though users worked through it" } else { "" };
        finding.message = format!(
            "{client} never opened {} to {server} in {} s watched{because}",
            self.services(claim),
            self.view.watched.seconds_for(claim.watch_s)
        );
        finding.action = format!(
            "Check that the service of {} runs and knows where to go, and that nothing on the host itself keeps it from trying",
            finding.client.words()
        );
        finding.identify();
        self.findings.push(finding);
        let name = self.policy.inventory.hosts[claim.source].name.clone();
        for row in &claim.rows {
            self.rows[*row].status = Status::Missing;
            self.rows[*row].source_hosts_missing.insert(name.clone());
        }
    }

    pub(super) fn not_assessable(
        &mut self,
        group: &str,
        code: Code,
        claim: &Claim,
        any_source: bool,
    ) {
        let mut finding = self.claimed(code, group, claim, any_source);
        let (client, server) = (finding.client.words(), finding.server.words());
        let minutes = claim.watch_s.div_ceil(60).max(1);
        let features: BTreeSet<&str> = claim
            .rows
            .iter()
            .flat_map(|r| &self.policy.matrix.rows[*r].features)
            .map(String::as_str)
            .filter(|f| !self.policy.inventory.features.contains_key(*f))
            .collect();
        let unseen_end = if self.is_sending(Unit::Host(claim.source)) {
            &finding.server
        } else {
            &finding.client
        };
        let unseen = unseen_end.words();
        let never_seen = match unseen.strip_prefix("any ") {
            Some(roles) => format!("no {roles} was seen sending"),
            None => format!("{unseen} was never seen sending"),
        };
        let outside = claim.rows.iter().any(|row| self.policy.matrix.rows[*row].only.is_some());
        let (why, action) = match code {
            Code::HostNotSeen if outside => (
                "the capture shows nobody of that name or address".to_owned(),
                format!(
                    "Capture at the switch port of {client} for {minutes} minutes, its DNS included"
                ),
            ),
            Code::HostNotSeen => (
                never_seen,
                format!("Capture at the switch port of {unseen} for {minutes} minutes"),
            ),
            Code::PairNotCovered => (
                "nothing shows that the capture covers the pair".to_owned(),
                format!(
                    "Capture at the switch port of {client} for {minutes} minutes, or state in [capture] what the span covers"
                ),
            ),
            Code::OneSidedView => (
                "only one direction of the pair is visible".to_owned(),
                format!("Mirror both directions of the switch port of {client}"),
            ),
            Code::LoopbackOnly => (
                "the farm has no second host of the role".to_owned(),
                format!(
                    "Nothing, if that is so; else list the other hosts, or capture on the loopback interface of {client}"
                ),
            ),
            Code::WindowTooShort => (
                format!(
                    "{} s were watched, {} are needed",
                    self.view.watched.seconds_for(claim.watch_s),
                    claim.watch_s
                ),
                format!("Capture for at least {minutes} minutes"),
            ),
            Code::CaptureFiltered => (
                "a capture filter may have hidden it".to_owned(),
                "Capture without a filter".to_owned(),
            ),
            Code::LossTooHigh => (
                format!("the capture lost {:.1} % of its frames", self.view.loss * 100.0),
                "Capture again with a larger buffer or a shorter snaplen".to_owned(),
            ),
            Code::FeatureUnknown => (
                "the inventory does not say whether its feature is in use".to_owned(),
                format!(
                    "Set {} to true or false in [farm.features]",
                    features.into_iter().collect::<Vec<_>>().join(" and ")
                ),
            ),
            _ => (
                "nothing was seen that makes it necessary".to_owned(),
                format!("Capture while somebody works through {client}"),
            ),
        };
        finding.message =
            format!("{} from {client} to {server} cannot be assessed: {why}", self.services(claim));
        finding.action = action;
        finding.identify();
        self.findings.push(finding);
        for row in &claim.rows {
            let reason = &mut self.rows[*row].reason;
            *reason = Some(reason.map_or(code, |first| first.min(code)));
        }
        self.hosts[claim.source].rows_not_assessable += claim.rows.len() as u64;
    }
}
