//! Addresses that stay inside a host (127.0.0.0/8, ::1; RFC 1122, 3.2.1.3; RFC 4291, 2.5.3), seen on a wire.

use std::collections::BTreeSet;

use super::filter::display_filter;
use super::finding::{End, Finding};
use super::judge::{Judge, Judged};
use super::verdict::{Code, Doubt, Doubts};
use super::wording::doubtful_members;
use crate::conversation::Conversations;

/// The finding that such addresses were seen: about no host, because whoever sent the frames is not known.
pub(super) fn on_wire(
    judge: &Judge<'_>,
    conversations: &Conversations,
    judged: &[Judged],
) -> Option<Finding> {
    const SHOWN: usize = 8;
    let list = &conversations.list;
    let members: Vec<usize> = (0..list.len()).filter(|n| list[*n].rare().on_wire).collect();
    let (client, server) = (End::everybody(), End::everybody());
    let first = *members.first()?;
    let mut finding = Finding::new(Code::LoopbackOnWire, client, server);
    for number in &members {
        finding.add(list, *number);
    }
    // What was on the wire itself is sure; what was in a tunnel may be made up.
    let sure = members.iter().any(|n| !list[*n].is_doubted());
    let mut doubts = Doubts::default();
    if !sure {
        doubts.add(Doubt::Tunnel);
    }
    finding.doubts = doubts;
    finding.certain = doubts.certain();
    finding.severity = judge.severity(Code::LoopbackOnWire, true, doubts);
    "*".clone_into(&mut finding.transport);
    "*".clone_into(&mut finding.port);
    let subjects: BTreeSet<String> = members
        .iter()
        .map(|n| format!("{} to {}", list[*n].subject.client, list[*n].subject.server))
        .collect();
    let shown: Vec<&str> = subjects.iter().take(SHOWN).map(String::as_str).collect();
    let more = subjects.len() - shown.len();
    let more = if more > 0 { format!(" and {more} more pairs") } else { String::new() };
    finding.message = format!(
        "Loopback addresses were seen on a network ({}{more}): they stay inside a host, and a frame with one was forged or leaked",
        shown.join(", ")
    );
    finding.action =
        "Find the port that the frames come from by their hardware address, and drop loopback addresses on switches and routers"
            .to_owned();
    finding.display_filter = display_filter(list, &members);
    let macs: BTreeSet<String> = ["client", "server"]
        .iter()
        .enumerate()
        .flat_map(|(side, who)| {
            let macs = members.iter().flat_map(move |n| list[*n].rare().macs[side].iter());
            macs.map(move |mac| format!("frames of the {who} came from {mac}"))
        })
        .collect();
    finding.trace.extend(macs.into_iter().take(SHOWN));
    finding.trace.push(format!(
        "the first of {} conversations: {} to {}",
        members.len(),
        list[first].subject.client,
        list[first].subject.server
    ));
    finding.trace.extend(doubtful_members(judged, &members));
    finding.identify();
    Some(finding)
}
