//! Draws when each host was visible in the capture, and in which direction.

use maud::{Markup, html};

use super::timeline::TimeBins;
use super::wording::{self, time_utc, unbroken};
use crate::classify::{Coverage, PartyKind};
use crate::model::escape_control;
use crate::result::{AuditResult, HostRow, Site, Time, plural};

/// The maximum number of time bins. A lane has one bit for each.
const BINS: usize = 128;
/// The maximum number of hosts that are shown. `hosts.csv` lists all of them.
const HOSTS: usize = 1000;
/// The maximum number of hosts in a table that is not folded.
const UNFOLDED: usize = 40;
/// The width of a bin if there are [`BINS`] of them, in units of the drawing.
const UNIT: usize = 3;
/// The height of a lane, in units of the drawing.
const LANE: usize = 6;

/// The bins in which a host sent, and those in which it received, with one bit per bin.
#[derive(Clone, Copy, Default)]
struct Lanes([u128; 2]);

/// A host with its index.
type NumberedHost<'h> = (usize, &'h HostRow<'h>);

pub(super) fn table(result: &AuditResult<'_>) -> Markup {
    let Some(site) = result.site() else { return html! {} };
    let hosts: Vec<HostRow<'_>> = result.hosts().collect();
    let window = result.head.window.first.zip(result.head.window.last);
    let lanes = window.map(|(Time(first), Time(last))| {
        let bins = TimeBins::between(first, last, BINS);
        (activity_lanes(result, &bins, &hosts), bins)
    });
    let all: Vec<NumberedHost<'_>> = hosts.iter().enumerate().collect();
    let table =
        |hosts: &[NumberedHost<'_>], label: &str| hosts_table(site, hosts, lanes.as_ref(), label);
    html! {
        section #coverage aria-labelledby="coverage-title" {
            h2 #coverage-title { "Coverage of each host" }
            @if let Some(((first, last), (_, bins))) = window.zip(lanes.as_ref()) {
                p {
                    "The upper bar shows when the host sent, the lower bar when it received. A bar extends from the first to the last "
                    "packet of a conversation and may contain pauses. Time runs from " (time_utc(first)) " to " (time_utc(last)) ", in intervals of " (bins.seconds()) " s."
                }
            }
            @if all.len() <= UNFOLDED {
                (table(&all, "Table of hosts"))
            } @else {
                // A long list is divided by coverage, and only short parts are open.
                @for CoveragePart { coverage, hosts, shown } in parts(&all) {
                    details open[hosts.len() <= UNFOLDED] {
                        summary { (escape_control(coverage)) span.faint { " · " (plural(hosts.len() as u64, "host")) } }
                        @if shown > 0 { (table(&hosts[..shown], &format!("Hosts with the coverage {coverage}"))) }
                        @if shown < hosts.len() { p { "and " (plural((hosts.len() - shown) as u64, "more host")) " in hosts.csv" } }
                    }
                }
            }
        }
    }
}

/// The hosts with the same coverage, of which the first `shown` are listed.
struct CoveragePart<'h> {
    coverage: &'h str,
    hosts: Vec<NumberedHost<'h>>,
    shown: usize,
}

/// Divides hosts by coverage. Those with full coverage come last, because they need no attention,
/// and at most [`HOSTS`] hosts are shown.
fn parts<'h>(hosts: &[NumberedHost<'h>]) -> Vec<CoveragePart<'h>> {
    let mut parts: Vec<CoveragePart<'h>> = Vec::new();
    for (number, host) in hosts {
        match parts.iter_mut().find(|part| part.coverage == host.coverage) {
            Some(part) => part.hosts.push((*number, host)),
            None => parts.push(CoveragePart {
                coverage: &host.coverage,
                hosts: vec![(*number, host)],
                shown: 0,
            }),
        }
    }
    parts.sort_by_key(|part| part.coverage == Coverage::Full.name());
    let mut room = HOSTS;
    for part in &mut parts {
        part.shown = part.hosts.len().min(room);
        room -= part.shown;
    }
    parts
}

/// Returns a table of hosts. `lanes` contains the bins in which each host was active; `None` if no
/// frame has a timestamp.
fn hosts_table(
    site: &Site,
    hosts: &[NumberedHost<'_>],
    lanes: Option<&(Vec<Lanes>, TimeBins)>,
    label: &str,
) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(escape_control(label)) {
            table.hosts {
                thead { tr {
                    @for label in ["Host", "Roles", "Coverage", "Over time", "Frames sent", "Frames received", "Rows not assessable"] {
                        th scope="col" { (label) }
                    }
                } }
                tbody {
                    @for (number, seen) in hosts {
                        tr class=(if seen.coverage == Coverage::Full.name() { "" } else { "partly" }) {
                            th scope="row" { (unbroken(&seen.name)) }
                            td { @if let Some(host) = site.hosts.get(*number) { (wording::roles(site, host.roles)) } }
                            td.word { (seen.coverage) }
                            td { @if let Some((lanes, bins)) = lanes { (draw_lanes(lanes[*number], bins.count)) } }
                            td.number { (seen.frames_sent) }
                            td.number { (seen.frames_received) }
                            td.number { (seen.rows_not_assessable) }
                        }
                    }
                }
            }
        }
    }
}

/// Returns the bins in which each host sent and received, according to its conversations.
fn activity_lanes(result: &AuditResult<'_>, bins: &TimeBins, hosts: &[HostRow<'_>]) -> Vec<Lanes> {
    let mut lanes = vec![Lanes::default(); hosts.len()];
    for talk in result.conversation_briefs() {
        let (Some(first), Some(last)) = (talk.first, talk.last) else { continue };
        let Some([client, server]) = talk.parties else { continue };
        let bits = bits_between(bins.of(first), bins.of(last));
        let sent = talk.packets.map(|packets| packets > 0);
        for (party, sends) in [(client, sent), (server, [sent[1], sent[0]])] {
            let PartyKind::Host(host) = party.kind else { continue };
            for (lane, _) in lanes[host].0.iter_mut().zip(sends).filter(|(_, does)| *does) {
                *lane |= bits;
            }
        }
    }
    // A host may begin to send or receive after its conversation begins, or stop before the
    // conversation ends. A lane must not extend beyond the host's own first and last frame.
    for (Lanes(lanes), host) in lanes.iter_mut().zip(hosts) {
        let windows =
            [(host.first_sent, host.last_sent), (host.first_received, host.last_received)];
        for (lane, (first, last)) in lanes.iter_mut().zip(windows) {
            *lane &= first
                .zip(last)
                .map_or(0, |(first, last)| bits_between(bins.of(first.0), bins.of(last.0)));
        }
    }
    lanes
}

/// Returns a mask of the bins from `from` to `to`, inclusive.
fn bits_between(from: usize, to: usize) -> u128 {
    (u128::MAX >> (127 - (to - from))) << from
}

fn draw_lanes(Lanes(lanes): Lanes, count: usize) -> Markup {
    let [sent, received] = lanes.map(u128::count_ones);
    let label = format!("sent in {sent} of {count} intervals, received in {received}");
    html! {
        svg.lanes viewBox={ "0 0 " (BINS * UNIT) " " (2 * LANE + 2) } role="img" aria-label=(label)
            preserveAspectRatio="none" {
            rect.ground x="0" y="0" width=(BINS * UNIT) height=(2 * LANE + 2) {}
            @for (number, lane) in lanes.into_iter().enumerate().filter(|(_, lane)| *lane != 0) {
                path class=(["sent", "received"][number]) d=(path(lane, count, number * (LANE + 2))) {}
            }
        }
    }
}

/// Returns an SVG path with one box for each run of bits in a lane.
fn path(mut lane: u128, count: usize, y: usize) -> String {
    let x = |bin: usize| bin * BINS * UNIT / count;
    let mut path = String::new();
    let mut bin = 0;
    while lane != 0 {
        let gap = lane.trailing_zeros() as usize;
        bin += gap;
        lane >>= gap;
        let run = lane.trailing_ones() as usize;
        let from = x(bin);
        let to = x(bin + run);
        path.push_str(&format!("M{from} {y}H{to}V{}H{from}z", y + LANE));
        bin += run;
        lane = lane.checked_shr(run as u32).unwrap_or(0);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_a_lane_become_boxes() {
        assert_eq!(path(0b1101, BINS, 0), "M0 0H3V6H0zM6 0H12V6H6z");
        assert_eq!(path(u128::MAX, BINS, 8), "M0 8H384V14H0z");
        assert_eq!(path(1 << 127, BINS, 0), "M381 0H384V6H381z");
        assert_eq!(path(1, 1, 0), "M0 0H384V6H0z");
    }
}
