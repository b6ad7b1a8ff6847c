//! Draws the farm: hosts on a circle, grouped by their roles, with documented traffic as thin lines
//! and findings on top.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::f64::consts::TAU;

use maud::{Markup, html};

use super::farm::Farm;
use crate::classify::{PartyKind, RoleSet, Severity, Verdict};
use crate::model::escape_control;
use crate::result::{AuditResult, Brief, EndIdentity, FindingRow, address_of, plural};

/// The maximum number of findings that are drawn, worst first.
const FINDINGS: usize = 200;
/// The maximum number of hosts that are drawn with their own names and lines. If there are more,
/// names and lines are drawn per group.
const HOSTS: usize = 80;
/// The maximum number of groups whose names are drawn. If there are more, a name appears only as a
/// tooltip.
const GROUPS: usize = 60;
/// The maximum number of hosts that are drawn for a finding about any host of a role.
const HOSTS_OF_ROLE: usize = 6;
/// The size of the drawing, the radius of the circle, and the radius at which the names begin.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 920.0;
const RADIUS: f64 = 260.0;
const NAMES: f64 = 274.0;
/// The distance between lines that connect the same two nodes.
const APART: f64 = 26.0;
/// The maximum number of lines between the same two nodes that are drawn apart. Others overlap.
const MAX_APART: usize = 6;
/// The maximum number of characters in a drawn name.
const LABEL: usize = 20;

/// The level of detail of the drawing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum GraphDetail {
    /// Each host has its own name and lines.
    Hosts,
    /// The middle host of a group represents the whole group.
    Groups,
}

/// A node on the circle.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Node {
    Host(usize),
    Network(usize),
    Service(usize),
    /// All addresses that the inventory does not list.
    Outside,
}

/// The positions of all nodes.
struct GraphLayout {
    /// The name and the nodes of each group: hosts with the same roles, then each network, each
    /// service, and everything else.
    groups: Vec<(String, Vec<Node>)>,
    /// The angle of each node in radians.
    places: HashMap<Node, f64>,
}

pub(super) fn draw(result: &AuditResult<'_>, farm: &Farm<'_>) -> Markup {
    let layout = GraphLayout::of(farm);
    let detail =
        if farm.site.hosts.len() <= HOSTS { GraphDetail::Hosts } else { GraphDetail::Groups };
    let lines = documented_lines(result, &layout, detail);
    let is_drawn = |f: &Brief| {
        f.severity > Severity::Info
            && matches!(
                f.verdict,
                Some(Verdict::UnexpectedPort | Verdict::Undocumented | Verdict::Missing)
            )
    };
    let findings = result.briefs().enumerate().filter(|(_, brief)| is_drawn(brief));
    let findings: Vec<usize> = findings.map(|(number, _)| number).collect();
    let shown = findings.iter().take(FINDINGS);
    let shown: Vec<FindingRow<'_>> = shown.filter_map(|number| result.finding(*number)).collect();
    let mut apart: HashMap<(Node, Node), usize> = HashMap::new();
    let mut drawn: Vec<(&FindingRow<'_>, String)> = Vec::new();
    for finding in &shown {
        // A finding about many pairs of hosts does not name the hosts, so there is no line to draw.
        if finding.client == "*" && finding.server == "*" {
            continue;
        }
        let [from, to] =
            [result.client(finding), result.server(finding)].map(|end| layout.ends(farm, &end));
        for (from, to) in from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to))) {
            let number = apart.entry((from, to)).or_default();
            *number += 1;
            drawn.push((finding, layout.curve(from, to, *number)));
        }
    }
    let label = format!(
        "{}, {} that the matrix documents or an exception permits, {}",
        plural(farm.site.hosts.len() as u64, "host"),
        match detail {
            GraphDetail::Hosts => plural(lines.len() as u64, "connection"),
            GraphDetail::Groups => {
                format!("{} between groups", plural(lines.len() as u64, "connection"))
            }
        },
        plural(findings.len() as u64, "finding")
    );
    html! {
        section #graph aria-labelledby="graph-title" {
            h2 #graph-title { "The farm" }
            ul.legend {
                li { span class="line documented" {} " documented, or permitted by an exception" }
                li { span class="line unexpected" {} " not documented" }
                li { span class="line missing" {} " missing" }
            }
            figure {
                div.scroll tabindex="0" role="region" aria-label="Drawing of the farm" {
                    svg.graph viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="group" aria-label=(label) {
                        defs {
                            @for class in ["unexpected", "missing"] {
                                marker id={ "arrow-" (class) } viewBox="0 0 8 8" refX="7" refY="4" markerWidth="5"
                                    markerHeight="5" orient="auto-start-reverse" {
                                    path class={ "arrow " (class) } d="M0 0L8 4L0 8z" {}
                                }
                            }
                        }
                        g.documented { @for line in &lines { path d=(line) {} } }
                        @for (name, nodes) in &layout.groups { (draw_group(farm, &layout, name, nodes, detail)) }
                        // The worst findings are drawn last, on top.
                        @for (finding, line) in drawn.iter().rev() {
                            @let class = if finding.verdict == Verdict::Missing.name() { "missing" } else { "unexpected" };
                            @let words = escape_control(&finding.message);
                            // The links are not in the tab order, because the table of findings
                            // contains them, too.
                            a href={ "#findings?open=" (finding.id) } aria-label=(words) tabindex="-1" {
                                path class={ "bad " (class) } d=(line) marker-end={ "url(#arrow-" (class) ")" } {}
                                path.wide d=(line) { title { (words) } }
                            }
                        }
                    }
                }
                figcaption {
                    (label) @if findings.len() > FINDINGS { " (the " (FINDINGS) " worst are drawn)" }
                    ". If a finding is about any host of a role, it is drawn for up to " (HOSTS_OF_ROLE) " hosts of the role. Findings about many pairs of hosts are not drawn."
                }
            }
        }
    }
}

impl GraphLayout {
    fn of(farm: &Farm<'_>) -> Self {
        let site = farm.site;
        let mut hosts: BTreeMap<RoleSet, Vec<Node>> = BTreeMap::new();
        for (number, host) in site.hosts.iter().enumerate() {
            hosts.entry(host.roles).or_default().push(Node::Host(number));
        }
        let titles = |roles: RoleSet| {
            if roles.is_empty() { "no role".to_owned() } else { site.titles(roles).join(", ") }
        };
        let mut groups: Vec<(String, Vec<Node>)> =
            hosts.into_iter().map(|(roles, nodes)| (titles(roles), nodes)).collect();
        let networks = site.networks.iter().enumerate();
        groups.extend(networks.map(|(n, network)| (network.name.clone(), vec![Node::Network(n)])));
        let services = site.services.iter().enumerate();
        let name = |role: usize| site.roles[role].name.clone();
        groups.extend(services.map(|(n, service)| (name(service.role), vec![Node::Service(n)])));
        groups.push(("not in the inventory".to_owned(), vec![Node::Outside]));
        // The space between groups, in units of the space between two nodes.
        const GAP: f64 = 1.5;
        let all: f64 = groups.iter().map(|(_, nodes)| nodes.len() as f64 + GAP).sum();
        let mut place = 0.0;
        let mut places = HashMap::new();
        for (_, nodes) in &groups {
            for (number, node) in nodes.iter().enumerate() {
                let turn = (place + number as f64 + 0.5) / all;
                places.insert(*node, turn * TAU - TAU / 4.0);
            }
            place += nodes.len() as f64 + GAP;
        }
        Self { groups, places }
    }

    /// Returns the node that represents a party. All unlisted parties share one node.
    fn node(who: PartyKind) -> Node {
        match who {
            PartyKind::Host(host) => Node::Host(host),
            PartyKind::Network(network) => Node::Network(network),
            PartyKind::Service(service) => Node::Service(service),
            PartyKind::RolesOnly | PartyKind::Stranger => Node::Outside,
        }
    }

    /// Returns the nodes for one end of a finding: the host or network with its name, else the node
    /// of its address, else hosts or a service with its roles, else the node for unlisted
    /// addresses.
    fn ends(&self, farm: &Farm<'_>, end: &EndIdentity) -> Vec<Node> {
        let site = farm.site;
        let host = site.hosts.iter().position(|host| host.name == end.name);
        let network = site.networks.iter().position(|network| network.name == end.name);
        if let Some(node) = host.map(Node::Host).or(network.map(Node::Network)) {
            return vec![node];
        }
        if let Some(address) = address_of(&end.address) {
            return vec![Self::node(site.party_kind(address))];
        }
        let slugs: Vec<&str> = end.roles.split(';').collect();
        let roles = site.roles_of(&slugs);
        let hosts = site.hosts.iter().enumerate().filter(|(_, host)| host.roles.intersects(roles));
        let hosts: Vec<Node> =
            hosts.take(HOSTS_OF_ROLE).map(|(number, _)| Node::Host(number)).collect();
        let services = site.services.iter();
        let service = services.clone().position(|s| RoleSet::one(s.role).intersects(roles));
        match (hosts.is_empty(), service) {
            (false, _) => hosts,
            (true, Some(service)) => vec![Node::Service(service)],
            (true, None) => vec![Node::Outside],
        }
    }

    fn at(&self, node: Node, radius: f64) -> (f64, f64) {
        let angle = self.places[&node];
        (WIDTH / 2.0 + radius * angle.cos(), HEIGHT / 2.0 + radius * angle.sin())
    }

    /// Returns an SVG path that bends towards the middle. `number` shifts the lines between the
    /// same two nodes sideways, so that they do not overlap. Lines in opposite directions are
    /// shifted to opposite sides.
    fn curve(&self, from: Node, to: Node, number: usize) -> String {
        let (x1, y1) = self.at(from, RADIUS - 6.0);
        let (x2, y2) = self.at(to, RADIUS - 6.0);
        // All further lines are shifted equally, so they overlap.
        let side = number.min(MAX_APART) as f64 * APART;
        if from == to {
            // A connection of a node to itself is drawn as a loop.
            let angle = self.places[&from];
            let control_point = |turn: f64| {
                let angle = angle + turn;
                let radius = RADIUS * 0.75 - side;
                (WIDTH / 2.0 + radius * angle.cos(), HEIGHT / 2.0 + radius * angle.sin())
            };
            let (ax, ay) = control_point(-0.2);
            let (bx, by) = control_point(0.2);
            return format!("M{x1:.1} {y1:.1}C{ax:.1} {ay:.1} {bx:.1} {by:.1} {x2:.1} {y2:.1}");
        }
        let bend = |a: f64, b: f64, middle: f64| middle * 0.6 + (a + b) * 0.2;
        let length = (x2 - x1).hypot(y2 - y1).max(1.0);
        let cx = bend(x1, x2, WIDTH / 2.0) - (y2 - y1) / length * side;
        let cy = bend(y1, y2, HEIGHT / 2.0) + (x2 - x1) / length * side;
        format!("M{x1:.1} {y1:.1}Q{cx:.1} {cy:.1} {x2:.1} {y2:.1}")
    }
}

/// Returns one line for each pair of nodes with documented or excepted traffic.
fn documented_lines(
    result: &AuditResult<'_>,
    layout: &GraphLayout,
    detail: GraphDetail,
) -> Vec<String> {
    let middle_of_group: HashMap<Node, Node> = layout
        .groups
        .iter()
        .flat_map(|(_, nodes)| nodes.iter().map(|node| (*node, nodes[nodes.len() / 2])))
        .collect();
    let mut pairs = BTreeSet::new();
    for talk in result.conversation_briefs() {
        let is_permitted = matches!(talk.verdict, Some(Verdict::Documented | Verdict::Excepted));
        if let Some(parties) = talk.parties.filter(|_| is_permitted) {
            pairs.insert(parties.map(|party| {
                let node = GraphLayout::node(party.kind);
                match detail {
                    GraphDetail::Hosts => node,
                    GraphDetail::Groups => middle_of_group[&node],
                }
            }));
        }
    }
    pairs.into_iter().map(|[from, to]| layout.curve(from, to, 0)).collect()
}

/// Draws the nodes of a group with their own names, or with the name of the group.
fn draw_group(
    farm: &Farm<'_>,
    layout: &GraphLayout,
    name: &str,
    nodes: &[Node],
    detail: GraphDetail,
) -> Markup {
    let hosts = &farm.site.hosts;
    let radius = if detail == GraphDetail::Hosts { "5" } else { "3" };
    html! {
        g.group {
            title { (escape_control(name)) @if nodes.len() > 1 { ": " (nodes.len()) " hosts" } }
            @for node in nodes {
                @let (x, y) = layout.at(*node, RADIUS);
                circle cx=(format!("{x:.1}")) cy=(format!("{y:.1}")) r=(radius) {}
            }
            @if detail == GraphDetail::Hosts {
                @for node in nodes {
                    @match node {
                        Node::Host(host) => (draw_label(layout, *node, &hosts[*host].name)),
                        _ => (draw_label(layout, *node, name)),
                    }
                }
            } @else if layout.groups.len() <= GROUPS {
                (draw_label(layout, nodes[nodes.len() / 2], name))
            }
        }
    }
}

/// Draws a name that points away from the middle and is never upside down. A long name is
/// truncated.
fn draw_label(layout: &GraphLayout, node: Node, text: &str) -> Markup {
    let (x, y) = layout.at(node, NAMES);
    let angle = layout.places[&node];
    let degrees = angle.to_degrees();
    let left = angle.cos() < 0.0;
    let text = escape_control(text);
    let short: String = if text.chars().count() > LABEL {
        text.chars().take(LABEL - 1).chain(['…']).collect()
    } else {
        text.into_owned()
    };
    let (turn, anchor) = if left { (degrees + 180.0, "end") } else { (degrees, "start") };
    html! {
        text text-anchor=(anchor) dominant-baseline="middle"
            transform=(format!("translate({x:.1} {y:.1}) rotate({turn:.1})")) { (short) }
    }
}
