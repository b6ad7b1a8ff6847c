//! Explains contradictions between the inventory and the capture, loopback addresses on a network,
//! and unused exceptions.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Explainer, ReportedFinding, Words};
use crate::classify::TimeSpan;
use crate::classify::{
    Conversation, EndKey, Finding, HarmlessCause, Party, PartyKind, Peer, ROLE_WATCH_S, RoleSet,
    SHOWN_CLAIMANTS, unseen,
};
use crate::model::{Mac, Merge as _, SECOND, Transport, network_around, service_words};
use crate::result::plural;

/// Maximum number of rows shown for one role.
const ROWS: usize = 5;
/// Maximum number of services shown for one address.
const SERVICES: usize = 3;
/// Maximum number of pairs of loopback addresses shown in a finding, and of MAC addresses in its
/// trace.
const PAIRS: usize = 8;

impl Explainer<'_> {
    /// Describes the host that a finding is about, as the inventory lists it. The list is empty if
    /// the finding is not about a host.
    pub(super) fn host_trace(&self, finding: &Finding) -> Vec<String> {
        let host = self.host(finding);
        let described = host.map(|host| {
            let roles = self.policy.inventory.hosts[host].roles;
            self.policy.describe(&Party { kind: PartyKind::Host(host), roles })
        });
        described.into_iter().collect()
    }

    fn host(&self, finding: &Finding) -> Option<usize> {
        match self.outcome.end(finding.key.client) {
            crate::classify::EndKey::Host(host) => Some(*host as usize),
            _ => None,
        }
    }

    pub(super) fn serves(&self, finding: &Finding, reported: &ReportedFinding) -> Words {
        let Some((_, c, _)) = self.first(finding) else { return Words::default() };
        let matrix = &self.policy.matrix;
        let service = service_words(c.subject.transport, &reported.port);
        let roles = self.judge.serving(c);
        let name = reported.client.words_with_roles();
        let others = matrix.role_titles(roles);
        let (others, owned) = match others.as_slice() {
            [role] => (format!("the role {role} serves"), "this role"),
            roles => (format!("the roles {} serve", roles.join(", ")), "one of these roles"),
        };
        Words {
            message: format!("{name} serves {service}, which in the matrix only {others}"),
            action: format!(
                "If {} has {owned}, add the role to the inventory; otherwise find out what listens on the port",
                reported.client.words()
            ),
            display_filter: self.filter(finding),
        }
    }

    pub(super) fn looks_alike(&self, finding: &Finding, role: usize) -> Words {
        let Some((_, c, _)) = self.first(finding) else { return Words::default() };
        let address = c.subject.server;
        let role_name = &self.policy.matrix.roles[role].name;
        let services: BTreeSet<(Transport, u16)> = self
            .conversations(finding)
            .map(|(c, _)| (c.subject.transport, c.subject.port))
            .collect();
        let words =
            |(transport, port): &(Transport, u16)| service_words(*transport, &port.to_string());
        let mut shown: Vec<String> = services.iter().take(SERVICES).map(words).collect();
        let more = services.len().saturating_sub(SERVICES);
        shown.extend((more > 0).then(|| format!("{more} more")));
        let (names, verb) = self.unseen(role);
        let [question, answer, whose] = match verb {
            "was" => ["are they the same host?", "If they are", names.as_str()],
            _ => ["is it one of them?", "If it is", "this host"],
        };
        Words {
            message: format!(
                "{address} serves what in the matrix only the role {role_name} serves ({}), and {names} {verb} never seen: {question}",
                shown.join(", ")
            ),
            action: format!(
                "{answer}, correct the address of {whose} in the inventory; otherwise find out what {address} is"
            ),
            display_filter: self.filter(finding),
        }
    }

    pub(super) fn look_alike_trace(&self, finding: &Finding, role: usize) -> Vec<String> {
        let Some((_, c, _)) = self.first(finding) else { return Vec::new() };
        let role_name = &self.policy.matrix.roles[role].name;
        let (names, verb) = self.unseen(role);
        let have = if verb == "was" { "has" } else { "have" };
        vec![
            format!("no host in the inventory has the address {}", c.subject.server),
            format!("in the inventory, {names} {have} the role {role_name}"),
            match finding.members.len() {
                1 => "1 conversation, with a complete handshake, uses a service that no other role provides".to_owned(),
                count => format!(
                    "{count} conversations, each with a complete handshake, use services that no other role provides"
                ),
            },
        ]
    }

    /// Returns the names of the hosts with a role that were never seen, and the verb that agrees
    /// with their number.
    fn unseen(&self, role: usize) -> (String, &'static str) {
        let hosts = unseen(self.policy, &self.outcome.hosts, role);
        let name = |host: &usize| self.policy.inventory.hosts[*host].name.clone();
        let names: Vec<String> = hosts.iter().map(name).collect();
        (names.join(" and "), if names.len() == 1 { "was" } else { "were" })
    }

    pub(super) fn silent_role(
        &self,
        finding: &Finding,
        role: usize,
        reported: &ReportedFinding,
    ) -> Words {
        let view = self.seen.view();
        let watch_s = view.watch(ROLE_WATCH_S);
        let watched_s = match self.outcome.end(finding.key.client) {
            EndKey::Host(host) => self.seen.watched_for_host(*host as usize, watch_s),
            _ => view.watched.seconds_for(watch_s),
        };
        let name = reported.client.words();
        let title = &self.policy.matrix.roles[role].name;
        Words {
            message: format!(
                "{name} showed no traffic of the role {title} in {watched_s} s, although the capture shows unicast packets from it"
            ),
            action: format!(
                "If {name} no longer has this role, correct the inventory; otherwise find out why there is no such traffic"
            ),
            display_filter: String::new(),
        }
    }

    pub(super) fn silent_role_trace(&self, finding: &Finding, role: usize) -> Vec<String> {
        let matrix = &self.policy.matrix;
        let one = RoleSet::one(role);
        let mut trace = self.host_trace(finding);
        let of_role = matrix.rows.iter().filter(|row| {
            row.is_expected() && (matrix.is_source(row, one) || matrix.is_destination(row, one))
        });
        let ids: Vec<&str> = of_role.take(ROWS).map(|row| row.id.as_str()).collect();
        trace.push(format!("rows whose traffic would show the role (up to 5): {}", ids.join(", ")));
        trace.push(match self.policy.inventory.covers {
            Some(_) => "the inventory states that the capture covers the host".to_owned(),
            None => "other traffic of the host shows that the capture covers the host".to_owned(),
        });
        if let Some(host) = self.host(finding) {
            trace.extend(self.seen.describe_activity(Peer::Host(host)));
            trace.extend(self.seen.unread_between(host, &[]));
        }
        trace.extend(self.seen.clock_words());
        trace
    }

    pub(super) fn conflict(&self, number: u32, reported: &ReportedFinding) -> Words {
        let conflict = self.outcome.conflict(number);
        let address = conflict.address;
        let macs = &conflict.macs;
        let more = macs.len().saturating_sub(SHOWN_CLAIMANTS);
        let shown: Vec<String> = macs.iter().take(SHOWN_CLAIMANTS).map(Mac::to_string).collect();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let name = reported.client.words();
        let when = if conflict.in_turn { "in turn" } else { "within ten seconds of each other" };
        let shown = shown.join(", ");
        let message = match (conflict.is_virtual, macs.len()) {
            (true, 1) => format!(
                "the virtual address {address} of {name} is claimed by a MAC address that neither the inventory nor the capture shows for any of its holders: {shown}"
            ),
            (true, _) => format!(
                "the virtual address {address} of {name} is claimed by MAC addresses that neither the inventory nor the capture shows for any of its holders: {shown}{more}"
            ),
            (false, _) => format!(
                "{address} of {name} is repeatedly claimed by several MAC addresses {when}: {shown}{more}"
            ),
        };
        let action = if conflict.is_virtual {
            format!("Find the host that uses {address}, or add it to held-by of {name}")
        } else {
            let other = match conflict.harmless_cause {
                Some(HarmlessCause::Router(_) | HarmlessCause::Proxy(_)) => {
                    "if a router answers for it, list the networks of the router with answers-arp-for"
                }
                _ => "if these are its own cards, list their MAC addresses with macs",
            };
            format!(
                "Find the host other than {name} that uses {address}; {other}. If several hosts take turns with the address, list it as virtual with held-by"
            )
        };
        Words {
            message,
            action,
            display_filter: match address {
                IpAddr::V4(_) => format!("arp.src.proto_ipv4 == {address}"),
                IpAddr::V6(_) => format!(
                    "icmpv6.nd.na.target_address == {address} || (icmpv6.type == 135 && ipv6.src == {address})"
                ),
            },
        }
    }

    pub(super) fn conflict_trace(&self, finding: &Finding, number: u32) -> Vec<String> {
        let conflict = self.outcome.conflict(number);
        let mut trace = self.host_trace(finding);
        if !conflict.is_repeated && !conflict.is_virtual {
            trace.push("the MAC addresses claimed it so rarely that the address may have been taken over and returned".to_owned());
        }
        match conflict.harmless_cause {
            Some(HarmlessCause::CardsOfHost) => trace.push("frames of another address of the host came from the same MAC addresses, so they may be cards of one host, each of which answers for all of its addresses".to_owned()),
            Some(HarmlessCause::CardsOfConnection) => trace.push("one connection of this address has frames from all of these MAC addresses, with the same hop count, so they may be cards of one host, which spreads its traffic over them".to_owned()),
            Some(HarmlessCause::CardsOfTeam) => trace.push("the address sent frames with the same hop count from all of these MAC addresses, and none of its services both worked and refused a connection, so they may be cards of one host, which uses a different one for each client".to_owned()),
            Some(HarmlessCause::Proxy(mac)) => trace.push(format!("{mac} also claims addresses of other hosts, which claim them themselves, so it may be a device that answers for the whole network (local proxy ARP); a host that takes over connections by forged ARP replies does the same")),
            Some(HarmlessCause::Router(mac)) => trace.push(format!("{mac} sent frames for addresses in at least three networks that have no other MAC address, so it may be a router that answers for the host (proxy ARP)")),
            None => {}
        }
        if !conflict.holders.is_empty() {
            let name = |host: &usize| self.policy.inventory.hosts[*host].name.as_str();
            let names: Vec<&str> = conflict.holders.iter().map(name).collect();
            trace.push(format!(
                "{} advertised the address as virtual (VRRP), but the inventory does not list it with held-by",
                names.join(" and ")
            ));
        }
        let claims = &self.outcome.conversations.index.claims;
        for mac in conflict.macs.iter().take(SHOWN_CLAIMANTS) {
            let theirs =
                claims.iter().filter(|(c, _)| (c.address, c.mac) == (conflict.address, *mac));
            let mut window = TimeSpan::default();
            let mut frames = 0;
            for (_, claim) in theirs {
                window.merge(&TimeSpan { first: claim.first, last: claim.last });
                frames += claim.frames.0;
            }
            let seconds = window.length().unwrap_or_default() / SECOND;
            trace.push(format!(
                "{mac} claimed {} in {}, over {seconds} s",
                conflict.address,
                plural(frames, "frame")
            ));
        }
        trace
    }

    pub(super) fn loopback(&self, finding: &Finding) -> Words {
        let pairs = self.conversations(finding).map(|(c, _)| loopback_pair(c));
        let pairs: BTreeSet<String> = pairs.collect();
        let shown: Vec<&str> = pairs.iter().take(PAIRS).map(String::as_str).collect();
        let more = pairs.len() - shown.len();
        // An aggregated conversation does not list its pairs.
        let more = if self.conversations(finding).any(|(c, _)| c.stands_for().is_some()) {
            " and others".to_owned()
        } else if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        Words {
            message: format!(
                "loopback addresses were seen on a network ({}{more}); they must stay inside a host, so these frames are forged or leaked",
                shown.join(", ")
            ),
            action: "Use the MAC address to find the switch port that the frames come from, and block loopback addresses on switches and routers".to_owned(),
            display_filter: self.filter(finding),
        }
    }

    pub(super) fn loopback_trace(&self, finding: &Finding) -> Vec<String> {
        let Some((_, first, _)) = self.first(finding) else { return Vec::new() };
        let macs: BTreeSet<String> = ["client", "server"]
            .iter()
            .enumerate()
            .flat_map(|(side, end)| {
                let macs =
                    self.conversations(finding).flat_map(move |(c, _)| c.rare().macs[side].iter());
                macs.map(move |mac| format!("frames of the {end} came from {mac}"))
            })
            .collect();
        let mut trace: Vec<String> = macs.into_iter().take(PAIRS).collect();
        let which = match finding.members.len() {
            1 => "conversation".to_owned(),
            count => format!("first of {count} conversations"),
        };
        trace.push(format!("{which}: {}", loopback_pair(first)));
        trace.extend(self.describe_doubtful_members(finding));
        trace
    }

    pub(super) fn unused(&self, number: usize) -> Words {
        let exceptions = &self.policy.exceptions;
        let exception = &exceptions.list[number];
        let mut message = format!(
            "the exception {} ({}, owner {}, line {} of {}) matched no traffic that requires it",
            exception.id, exception.reason, exception.owner, exception.line, exceptions.file
        );
        let shadowing = self.outcome.shadowed.get(&number).map(|other| &exceptions.list[*other]);
        let action = match shadowing {
            Some(other) => {
                message.push_str(&format!(
                    ", because the exception {} (line {}) takes precedence for traffic that both match",
                    other.id, other.line
                ));
                format!(
                    "Keep only one of the two exceptions for this traffic: if {} is to replace {other}, remove or narrow {other}; otherwise remove {}",
                    exception.id,
                    exception.id,
                    other = other.id
                )
            }
            None => "Remove the exception if it is no longer needed; otherwise capture where its traffic is visible".to_owned(),
        };
        Words { message, action, display_filter: String::new() }
    }
}

/// Returns the ends of a conversation with a loopback address. If the conversation stands for
/// several, these are the ends of the first one. If its flows were aggregated, the ends may be
/// networks.
fn loopback_pair(c: &Conversation) -> String {
    let subject = c.ruled_subject();
    let [client, server] = [subject.client, subject.server].map(|end| {
        if c.rare().aggregated == 0 || network_around(end) != end {
            return end.to_string();
        }
        format!("{end}/{}", if end.is_ipv4() { 24 } else { 64 })
    });
    format!("{client} to {server}")
}
