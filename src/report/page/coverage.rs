//! Hosts against time: when each was visible, and in which direction.

use maud::{Markup, html};

use super::timeline::TimeBins;
use crate::classify::{Coverage, PartyKind};
use crate::model::escape_control;
use crate::result::{AuditResult, HostRow, Time, short};

/// The number of time bins: as many as a word has bits.
const PIECES: usize = 128;
/// The number of hosts that are shown. `hosts.csv` has all of them.
const HOSTS: usize = 1000;
/// The width of a bin in units of the drawing, and the height of a lane.
const UNIT: usize = 3;
const LANE: usize = 6;

/// When something was sent, and when something was received: one bit for each time bin.
#[derive(Clone, Copy, Default)]
struct Lanes([u128; 2]);

pub(super) fn table(result: &AuditResult<'_>) -> Markup {
    let Some(site) = result.site() else { return html! {} };
    let hosts: Vec<HostRow<'_>> = result.hosts().collect();
    let window = result.head.window.first.zip(result.head.window.last);
    let window = window.map(|(Time(first), Time(last))| (first, last));
    let lanes = window.map(|(first, last)| {
        let pieces = TimeBins::between(first, last, PIECES);
        (lanes(result, &pieces, &hosts), pieces)
    });
    html! {
        section #coverage aria-labelledby="coverage-title" {
            h2 #coverage-title { "What the capture saw of each host" }
            @if let Some(((first, last), (_, pieces))) = window.zip(lanes.as_ref()) {
                p {
                    "Upper lane: it sent; lower lane: something was sent to it; each from the first to the last packet of its "
                    "conversations, in between which it may have been silent. From left to right " (short(first)) " to " (short(last)) ", in pieces of " (pieces.seconds()) " s."
                }
            }
            div.scroll tabindex="0" role="region" aria-label="Table of hosts" {
                table.hosts {
                    thead { tr {
                        @for label in ["Host", "Roles", "Coverage", "Seen", "Sent", "Received", "Rows not assessable"] {
                            th scope="col" { (label) }
                        }
                    } }
                    tbody {
                        @for (number, (seen, host)) in hosts.iter().zip(&site.hosts).enumerate().take(HOSTS) {
                            tr class=(if seen.coverage == Coverage::Full.name() { "" } else { "partly" }) {
                                th scope="row" { (escape_control(&seen.name)) }
                                td { (escape_control(&site.titles(host.roles).join(", "))) }
                                td { (seen.coverage) }
                                td { @if let Some((lanes, pieces)) = &lanes { (drawing(lanes[number], pieces.count)) } }
                                td.number { (seen.frames_sent) }
                                td.number { (seen.frames_received) }
                                td.number { (seen.rows_not_assessable) }
                            }
                        }
                    }
                }
            }
            @if hosts.len() > HOSTS { p { "and " (hosts.len() - HOSTS) " more, in hosts.csv" } }
        }
    }
}

/// Returns when each host was visible, according to its conversations.
fn lanes(result: &AuditResult<'_>, pieces: &TimeBins, hosts: &[HostRow<'_>]) -> Vec<Lanes> {
    let mut lanes = vec![Lanes::default(); hosts.len()];
    for talk in result.talks() {
        let (Some(first), Some(last)) = (talk.first, talk.last) else { continue };
        let Some([client, server]) = talk.parties else { continue };
        let bits = range(pieces.of(first), pieces.of(last));
        let sent = talk.packets.map(|packets| packets > 0);
        for (party, sends) in [(client, sent), (server, [sent[1], sent[0]])] {
            let PartyKind::Host(host) = party.who else { continue };
            for (lane, _) in lanes[host].0.iter_mut().zip(sends).filter(|(_, does)| *does) {
                *lane |= bits;
            }
        }
    }
    // A side may have begun later, or ended earlier, than its conversation.
    for (Lanes(lanes), host) in lanes.iter_mut().zip(hosts) {
        let windows =
            [(host.first_sent, host.last_sent), (host.first_received, host.last_received)];
        for (lane, (first, last)) in lanes.iter_mut().zip(windows) {
            let ends = first.zip(last);
            *lane &= ends.map_or(0, |(first, last)| range(pieces.of(first.0), pieces.of(last.0)));
        }
    }
    lanes
}

/// Returns the bits from one bin to another, inclusive.
fn range(from: usize, to: usize) -> u128 {
    (u128::MAX >> (127 - (to - from))) << from
}

fn drawing(Lanes(lanes): Lanes, count: usize) -> Markup {
    let words = |lane: u128| format!("{} of {count}", lane.count_ones());
    let label =
        format!("sent in {} pieces of time, received in {}", words(lanes[0]), words(lanes[1]));
    html! {
        svg.lanes viewBox={ "0 0 " (PIECES * UNIT) " " (2 * LANE + 2) } role="img" aria-label=(label)
            preserveAspectRatio="none" {
            rect.ground x="0" y="0" width=(PIECES * UNIT) height=(2 * LANE + 2) {}
            @for (number, lane) in lanes.into_iter().enumerate().filter(|(_, lane)| *lane != 0) {
                path class=(["sent", "received"][number]) d=(path(lane, count, number * (LANE + 2))) {}
            }
        }
    }
}

/// Returns the runs of a lane as boxes.
fn path(mut lane: u128, count: usize, y: usize) -> String {
    let x = |piece: usize| piece * PIECES * UNIT / count;
    let mut path = String::new();
    let mut piece = 0;
    while lane != 0 {
        let gap = lane.trailing_zeros() as usize;
        piece += gap;
        lane >>= gap;
        let run = lane.trailing_ones() as usize;
        let from = x(piece);
        let to = x(piece + run);
        path.push_str(&format!("M{from} {y}H{to}V{}H{from}z", y + LANE));
        piece += run;
        lane = lane.checked_shr(run as u32).unwrap_or(0);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_a_lane_become_boxes() {
        assert_eq!(path(0b1101, PIECES, 0), "M0 0H3V6H0zM6 0H12V6H6z");
        assert_eq!(path(u128::MAX, PIECES, 8), "M0 8H384V14H0z");
        assert_eq!(path(1 << 127, PIECES, 0), "M381 0H384V6H381z");
        assert_eq!(path(1, 1, 0), "M0 0H384V6H0z");
    }
}
