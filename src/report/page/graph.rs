//! The farm as a picture: hosts on a circle, grouped by their roles; what is documented as thin lines, findings on top.

use std::collections::{BTreeMap, BTreeSet};
use std::f64::consts::TAU;

use maud::{Markup, html};

use super::farm::{Farm, roles_of};
use crate::classify::{End, Finding, RoleSet, Severity, Verdict, Who};
use crate::model::clean;
use crate::report::Report;

/// Findings that are drawn, the worst ones.
const FINDINGS: usize = 200;
/// Up to so many hosts each line is between two hosts; above it between two groups.
const HOSTS: usize = 80;
/// The size of the drawing, the radius of the circle, and that of the names.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 820.0;
const RADIUS: f64 = 260.0;
const NAMES: f64 = 274.0;
/// The most characters of a name.
const LABEL: usize = 22;

/// Hosts of the same roles.
struct Group {
    name: String,
    /// Hosts by number; none for whoever has no place in the inventory.
    hosts: Vec<Option<usize>>,
}

/// A point of the drawing.
#[derive(Clone, Copy)]
struct Point {
    angle: f64,
}

impl Point {
    fn at(self, radius: f64) -> (f64, f64) {
        (WIDTH / 2.0 + radius * self.angle.cos(), HEIGHT / 2.0 + radius * self.angle.sin())
    }
}

/// Where everything is.
struct Layout {
    groups: Vec<(Group, Point)>,
    hosts: Vec<Point>,
    others: Point,
    by_roles: BTreeMap<RoleSet, Point>,
}

pub(super) fn draw(report: &Report<'_>, farm: &Farm<'_>) -> Markup {
    let layout = Layout::of(farm);
    let inventory = &farm.policy.inventory;
    let single = inventory.hosts.len() <= HOSTS;
    let documented = documented(report, farm, &layout, single);
    let bad = |f: &&Finding| {
        f.severity > Severity::Info
            && matches!(
                f.verdict,
                Verdict::UnexpectedPort | Verdict::Undocumented | Verdict::Missing
            )
    };
    let findings: Vec<&Finding> = report.outcome.findings.iter().filter(bad).collect();
    let drawn = &findings[..findings.len().min(FINDINGS)];
    let label = format!(
        "{} hosts, {} connections that the matrix documents, {} findings",
        inventory.hosts.len(),
        documented.len(),
        findings.len()
    );
    html! {
        section #graph aria-labelledby="graph-title" {
            h2 #graph-title { "The farm" }
            ul.legend {
                li { span class="line documented" {} " documented" }
                li { span class="line unexpected" {} " not documented" }
                li { span class="line missing" {} " missing" }
            }
            figure {
                svg.graph viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="group" aria-label=(label) {
                    defs {
                        @for class in ["unexpected", "missing"] {
                            marker id={ "arrow-" (class) } viewBox="0 0 8 8" refX="7" refY="4" markerWidth="5"
                                markerHeight="5" orient="auto-start-reverse" {
                                path class={ "arrow " (class) } d="M0 0L8 4L0 8z" {}
                            }
                        }
                    }
                    g.documented { @for (from, to) in &documented { path d=(curve(*from, *to)) {} } }
                    @for (group, at) in &layout.groups { (names(farm, group, *at, &layout, single)) }
                    @for finding in drawn {
                        @let class = if finding.verdict == Verdict::Missing { "missing" } else { "unexpected" };
                        @let ends = [&finding.client, &finding.server].map(|end| layout.end(farm, end));
                        a href={ "#findings?open=" (finding.id) } aria-label=(clean(&finding.message)) {
                            path class={ "bad " (class) } d=(curve(ends[0], ends[1])) marker-end={ "url(#arrow-" (class) ")" } {}
                            path.wide d=(curve(ends[0], ends[1])) { title { (clean(&finding.message)) } }
                        }
                    }
                }
                figcaption { (label) @if findings.len() > FINDINGS { ", of which the " (FINDINGS) " worst are drawn" } "." }
            }
        }
    }
}

impl Layout {
    fn of(farm: &Farm<'_>) -> Self {
        let inventory = &farm.policy.inventory;
        let mut groups: BTreeMap<RoleSet, Vec<Option<usize>>> = BTreeMap::new();
        for (number, host) in inventory.hosts.iter().enumerate() {
            groups.entry(host.roles).or_default().push(Some(number));
        }
        // Networks have a place of their own, though nobody knows how many are in them.
        let mut networks: BTreeMap<RoleSet, Vec<&str>> = BTreeMap::new();
        for network in &inventory.networks {
            groups.entry(network.roles).or_default();
            networks.entry(network.roles).or_default().push(&network.name);
        }
        let titles = |roles: RoleSet, hosts: &[Option<usize>]| match networks.get(&roles) {
            Some(names) if hosts.is_empty() => names.join(", "),
            _ if roles.is_empty() => "no role".to_owned(),
            _ => farm.policy.matrix.role_titles(roles).join(", "),
        };
        let mut list: Vec<(Option<RoleSet>, Group)> = groups
            .into_iter()
            .map(|(roles, hosts)| (Some(roles), Group { name: titles(roles, &hosts), hosts }))
            .collect();
        list.push((None, Group { name: "not listed".to_owned(), hosts: vec![None] }));
        // Between groups there is room as for a host or two.
        let gap = 1.5;
        let places = |group: &Group| group.hosts.len().max(1) as f64;
        let all: f64 = list.iter().map(|(_, group)| places(group) + gap).sum();
        let mut hosts = vec![Point { angle: 0.0 }; inventory.hosts.len()];
        let (mut place, mut by_roles) = (0.0, BTreeMap::new());
        let mut others = Point { angle: 0.0 };
        let mut groups = Vec::new();
        for (roles, group) in list {
            let point = |place: f64| Point { angle: place / all * TAU - TAU / 4.0 };
            for (number, host) in group.hosts.iter().enumerate() {
                let at = point(place + number as f64 + 0.5);
                match host {
                    Some(host) => hosts[*host] = at,
                    None => others = at,
                }
            }
            let middle = point(place + places(&group) / 2.0);
            by_roles.extend(roles.map(|roles| (roles, middle)));
            place += places(&group) + gap;
            groups.push((group, middle));
        }
        Self { groups, hosts, others, by_roles }
    }

    /// Where an end of a finding is: a host, a group of the same roles, one that has some of them, or elsewhere.
    fn end(&self, farm: &Farm<'_>, end: &End) -> Point {
        let host = farm.policy.inventory.hosts.iter().position(|host| host.name == end.name);
        if let Some(host) = host {
            return self.hosts[host];
        }
        let roles = roles_of(&farm.policy.matrix, &end.roles);
        let some = || self.by_roles.iter().find(|(group, _)| group.meets(roles)).map(|(_, at)| at);
        self.by_roles.get(&roles).or_else(some).copied().unwrap_or(self.others)
    }
}

/// Documented connections, each once.
fn documented(
    report: &Report<'_>,
    farm: &Farm<'_>,
    layout: &Layout,
    single: bool,
) -> Vec<(Point, Point)> {
    let mut pairs = BTreeSet::new();
    for judged in &report.outcome.judged {
        if matches!(judged.verdict(), Verdict::Documented | Verdict::Excepted) {
            pairs.insert([judged.client, judged.server].map(|party| match party.who {
                Who::Host(host) if single => (Some(host), party.roles),
                Who::Host(host) => (None, farm.policy.inventory.hosts[host].roles),
                _ => (None, party.roles),
            }));
        }
    }
    let point = |(host, roles): (Option<usize>, RoleSet)| match host {
        Some(host) => layout.hosts[host],
        None => layout.by_roles.get(&roles).copied().unwrap_or(layout.others),
    };
    pairs.into_iter().map(|[from, to]| (point(from), point(to))).collect()
}

/// A line that bends towards the middle.
fn curve(from: Point, to: Point) -> String {
    // A host that talks to itself or its own group gets a loop.
    let near = (from.angle - to.angle).abs() < 0.01;
    let ((x1, y1), (x2, y2)) = (from.at(RADIUS - 6.0), to.at(RADIUS - 6.0));
    if near {
        let (ax, ay) = Point { angle: from.angle - 0.2 }.at(RADIUS * 0.7);
        let (bx, by) = Point { angle: from.angle + 0.2 }.at(RADIUS * 0.7);
        return format!("M{x1:.1} {y1:.1}C{ax:.1} {ay:.1} {bx:.1} {by:.1} {x2:.1} {y2:.1}");
    }
    let (x, y) = (WIDTH / 2.0, HEIGHT / 2.0);
    let bend = |a: f64, b: f64, middle: f64| middle * 0.6 + (a + b) * 0.2;
    let (cx, cy) = (bend(x1, x2, x), bend(y1, y2, y));
    format!("M{x1:.1} {y1:.1}Q{cx:.1} {cy:.1} {x2:.1} {y2:.1}")
}

/// The hosts of a group with their names, or the group's name alone where hosts are many.
fn names(farm: &Farm<'_>, group: &Group, middle: Point, layout: &Layout, single: bool) -> Markup {
    let host_name = |host: &Option<usize>| match host {
        Some(host) => clean(&farm.policy.inventory.hosts[*host].name).into_owned(),
        None => "not listed".to_owned(),
    };
    let each: Vec<(String, Point)> = group
        .hosts
        .iter()
        .map(|host| (host_name(host), host.map_or(layout.others, |host| layout.hosts[host])))
        .collect();
    html! {
        g.group {
            title { (clean(&group.name)) }
            @if each.is_empty() { (dot(middle)) }
            @for (name, at) in &each {
                (dot(*at))
                @if single { (label(*at, name)) }
            }
            @if !single || each.is_empty() { (label(middle, &clean(&group.name))) }
        }
    }
}

fn dot(at: Point) -> Markup {
    let (x, y) = at.at(RADIUS);
    html! { circle cx=(format!("{x:.1}")) cy=(format!("{y:.1}")) r="5" {} }
}

/// A name that points away from the middle and is never upside down.
fn label(at: Point, text: &str) -> Markup {
    let (x, y) = at.at(NAMES);
    let degrees = at.angle.to_degrees();
    let left = at.angle.cos() < 0.0;
    let short: String = match text.chars().count() > LABEL {
        true => text.chars().take(LABEL - 1).chain(['…']).collect(),
        false => text.to_owned(),
    };
    let (turn, anchor) = if left { (degrees + 180.0, "end") } else { (degrees, "start") };
    html! {
        text text-anchor=(anchor) dominant-baseline="middle"
            transform=(format!("translate({x:.1} {y:.1}) rotate({turn:.1})")) { (short) }
    }
}
