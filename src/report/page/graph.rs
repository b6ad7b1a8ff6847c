//! Draws the farm: a box for each group of hosts with the same roles. An open box shows its hosts.
//! The script adds the lines between the boxes. Without it, each box still lists its findings.

use maud::{Markup, html};

use super::farm::Farm;
use super::groups::{FarmGroups, FindingLink, GroupMember, GroupNumber, HostGroup, LinkKind};
use super::wording;
use crate::classify::RoleSet;
use crate::model::escape_control;
use crate::report::url_encoded;
use crate::result::{AuditResult, Site, plural};

/// The maximum number of hosts and networks of a farm whose boxes are initially open.
const OPEN: usize = 60;
/// The maximum number of members of a box that is initially open.
const OPEN_BOX: usize = 8;
/// The maximum number of members that a box lists, those with findings first.
const HOSTS: usize = 20;
/// The maximum number of links that a box lists, worst first ([`FindingLink`]).
const LINKS: usize = 4;

pub(super) fn draw(result: &AuditResult<'_>, farm: &Farm<'_>, groups: &FarmGroups) -> Markup {
    let site = farm.site;
    let is_small = site.hosts.len() + site.networks.len() <= OPEN;
    let drawn = groups.ends.iter().filter(|[from, to]| !from.is_empty() && !to.is_empty()).count();
    let findings = result.findings_len();
    html! {
        section #graph aria-labelledby="graph-title" {
            h2 #graph-title { "The farm" }
            p.screen {
                "Each box is a group of hosts with the same roles or, in a farm with many combinations of roles, with the same first role. Open a box to see its hosts, with the number of findings about each. Select a host to see its findings. "
                span.with-lines { "A line leads to a host if its box is open, otherwise to the box. Select a line to see its findings." }
            }
            ul.legend.with-lines {
                li { span class="line documented" {} " documented, or permitted by an exception" }
                li { span class="line unexpected" {} " ! not documented" }
                li { span class="line missing" {} " ✗ missing" }
            }
            figure {
                div.scroll tabindex="0" role="region" aria-label="Drawing of the farm" {
                    div.drawing {
                        @for column in &groups.columns {
                            div.column {
                                @for group in column { (draw_group(site, groups, *group, is_small)) }
                            }
                        }
                    }
                }
                figcaption {
                    (plural(site.hosts.len() as u64, "host")) " and " (plural(site.networks.len() as u64, "network"))
                    " in " (plural(groups.groups.len() as u64, "group")) "; "
                    (plural(groups.documented.len() as u64, "connection"))
                    " between groups (documented by the matrix or permitted by an exception); "
                    @if drawn < findings { (drawn) " of " }
                    (plural(findings as u64, "finding")) " drawn as lines."
                    @if !groups.undrawn.is_empty() {
                        " Findings that are not drawn but are counted for their hosts: " (undrawn(groups)) "."
                    }
                    @if findings > groups.ends.len() {
                        " The drawing is based on the " (groups.ends.len()) " worst findings."
                    }
                    @if !groups.unseen.is_empty() {
                        " Hosts that the capture does not show: " (groups.unseen.len()) "."
                    }
                }
            }
        }
    }
}

/// Returns the numbers of findings without a line, by verdict.
fn undrawn(groups: &FarmGroups) -> String {
    let counts = groups.undrawn.iter().map(|(verdict, count)| format!("{count} {verdict}"));
    escape_control(&counts.collect::<Vec<_>>().join(", ")).into_owned()
}

/// Draws the box of a group.
fn draw_group(site: &Site, farm: &FarmGroups, number: GroupNumber, is_small: bool) -> Markup {
    let group = &farm.groups[number];
    let mut members: Vec<(&str, u64)> =
        group.members.iter().map(|member| named(site, farm, *member)).collect();
    // The order of the inventory is kept among members with the same number of findings.
    members.sort_by_key(|(_, findings)| std::cmp::Reverse(*findings));
    let concerned = members.iter().filter(|(_, findings)| *findings > 0).count();
    let links: Vec<&FindingLink> =
        farm.links.iter().filter(|link| link.from == number || link.to == number).collect();
    let is_open = is_small && members.len() <= OPEN_BOX;
    html! {
        details.group id={ "group-" (number) } open[is_open] {
            summary title=(escape_control(&full_title(site, group))) {
                b { (escape_control(&short_title(site, group))) }
                span.size {
                    (counts(group))
                    @if concerned > 0 { ", " span.concerned { (concerned) " with findings" } }
                }
            }
            ul.hosts {
                @for (name, findings) in members.iter().take(HOSTS) {
                    li data-name=(escape_control(name)) {
                        @if *findings > 0 {
                            a href={ "#findings?host=" (url_encoded(name)) } { (escape_control(name)) }
                            " " span.concerned title=(plural(*findings, "finding")) { "(" (findings) ")" }
                        } @else { (escape_control(name)) }
                        @if farm.unseen.contains(*name) { " " span.unseen { "not seen" } }
                    }
                }
                @if members.len() > HOSTS { li.faint { "and " (members.len() - HOSTS) " more; hosts.csv lists the hosts" } }
            }
            @if !links.is_empty() {
                ul.links {
                    @for link in links.iter().take(LINKS) { li { (link_words(site, farm, link, number)) } }
                    @if links.len() > LINKS { li.faint { "and " (links.len() - LINKS) " more" } }
                }
            }
        }
    }
}

/// Returns the name of a member, and the number of findings about it. A service has the name of its
/// role, and no findings are counted for it.
fn named<'s>(site: &'s Site, farm: &FarmGroups, member: GroupMember) -> (&'s str, u64) {
    let name = match member {
        GroupMember::Host(host) => site.hosts[host].name.as_str(),
        GroupMember::Network(network) => site.networks[network].name.as_str(),
        GroupMember::Service(service) => {
            return (site.roles[site.services[service].role].name.as_str(), 0);
        }
    };
    (name, farm.findings_of.get(name).copied().unwrap_or(0))
}

/// Describes the findings between a group and another, or inside the group.
fn link_words(site: &Site, farm: &FarmGroups, link: &FindingLink, number: GroupNumber) -> Markup {
    let FindingLink { from, to, kind, count, worst } = link;
    let (class, symbol, what) = match kind {
        LinkKind::Unexpected => ("unexpected", "!", "not documented"),
        LinkKind::Missing => ("missing", "✗", "missing"),
    };
    let other = |group: GroupNumber| short_title(site, &farm.groups[group]);
    let direction = match (*from == number, *to == number) {
        (true, true) => "inside the group".to_owned(),
        (true, false) => format!("to {}", other(*to)),
        _ => format!("from {}", other(*from)),
    };
    let query = [("from", *from), ("to", *to)].map(|(name, group)| {
        let role = farm.groups[group].roles.and_then(|roles| roles.iter().next());
        format!("{name}={}", role.map_or("none", |role| site.roles[role].slug.as_str()))
    });
    html! {
        a class=(class) href={ "#findings?" (query.join("&")) } {
            (symbol) " " (count) " " (what) " " (escape_control(&direction))
        }
        " " (wording::severity(worst.name()))
    }
}

/// Returns the short names of the roles of a group.
fn short_title(site: &Site, group: &HostGroup) -> String {
    title(group, |roles| roles.iter().map(|role| site.short_title(role)).collect())
}

/// Returns the complete names of the roles of a group.
fn full_title(site: &Site, group: &HostGroup) -> String {
    title(group, |roles| site.titles(roles))
}

fn title<'s>(group: &HostGroup, names: impl Fn(RoleSet) -> Vec<&'s str>) -> String {
    match group.roles {
        None => "Not in the inventory".to_owned(),
        Some(roles) if roles.is_empty() => "No role".to_owned(),
        Some(roles) => names(roles).join(" + "),
    }
}

/// Returns the numbers of hosts, networks and services of a group.
fn counts(group: &HostGroup) -> String {
    let count = |is_kind: fn(&GroupMember) -> bool| {
        group.members.iter().filter(|member| is_kind(member)).count() as u64
    };
    let counts = [
        (count(|member| matches!(member, GroupMember::Host(_))), "host"),
        (count(|member| matches!(member, GroupMember::Network(_))), "network"),
        (count(|member| matches!(member, GroupMember::Service(_))), "service"),
    ];
    let counts = counts.into_iter().filter(|(count, _)| *count > 0);
    counts.map(|(count, noun)| plural(count, noun)).collect::<Vec<_>>().join(", ")
}
