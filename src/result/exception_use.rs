//! The traffic that each exception covered.

use super::head::ExceptionList;
use super::{AuditRun, ExceptionUse, Members, Time, plural};
use crate::classify::{Code, Policy};
use crate::model::{Max, Merge as _, Min, Nanos, SECOND};

/// The remaining validity, in nanoseconds, up to which reports show an exception as `expiring`.
const SOON: Nanos = 30 * 24 * 3600 * SECOND;

/// The status of an exception that was created after some of the traffic that it allows had ended.
const RETROACTIVE: &str = "retroactive";

/// The status of an exception with the same owner and approver.
const SELF_APPROVED: &str = "self-approved";

/// Describes each exception and the conversations that it covers. Returns `None` if the audit had
/// no list of exceptions.
pub(super) fn exceptions(run: &AuditRun<'_>, policy: &Policy) -> Option<ExceptionList> {
    let exceptions = &policy.exceptions;
    if exceptions.file.is_empty() {
        return None;
    }
    let mut covered: Vec<Vec<usize>> = vec![Vec::new(); exceptions.list.len()];
    for (number, judged) in run.outcome.judged.iter().enumerate() {
        if let Some(exception) = judged.ruling.exception() {
            covered[exception].push(number);
        }
    }
    let now = run.selection.as_of.or(run.account.last.get());
    let list = exceptions.list.iter().zip(&covered).enumerate().map(|(number, both)| {
        let (exception, covered) = both;
        let mut first = Min::EMPTY;
        let mut last = Max::EMPTY;
        for number in covered {
            let conversation = &run.outcome.conversations.list[*number];
            first.merge(&conversation.first);
            last.merge(&conversation.last);
        }
        let is_expired =
            |number: &&usize| run.outcome.judged[**number].ruling.code == Code::ExpiredException;
        let [clients, servers] =
            Members::of_conversations(policy, run.outcome, covered.iter().copied());
        let use_word = if covered.is_empty() { "unused" } else { "used" };
        let expiry_word = now.and_then(|now| match exception.ends {
            ends if now >= ends => Some("expired"),
            ends if now >= ends - SOON => Some("expiring"),
            _ => None,
        });
        let is_retroactive = run.outcome.predated.iter().any(|(predated, _)| *predated == number);
        let status = [
            Some(use_word),
            expiry_word,
            is_retroactive.then_some(RETROACTIVE),
            exception.is_self_approved().then_some(SELF_APPROVED),
        ];
        let any = || "*".to_owned();
        let [from, to] = exception.written.clone();
        ExceptionUse {
            id: exception.id.clone(),
            owner: exception.owner.clone(),
            reason: exception.reason.clone(),
            approved_by: exception.approved_by.clone(),
            created: exception.created.to_string(),
            expires: exception.expires.to_string(),
            conversations: covered.len() as u64,
            ticket: exception.ticket.clone(),
            from,
            to,
            transport: exception.transport.map_or_else(any, |transport| transport.to_string()),
            port: exception.ports.map_or_else(any, |(low, high)| {
                if low == high { low.to_string() } else { format!("{low}-{high}") }
            }),
            direction: if exception.both { "both" } else { "to-server" }.to_owned(),
            status: status.into_iter().flatten().map(Into::into).collect(),
            conversations_expired: covered.iter().filter(is_expired).count() as u64,
            clients: clients.words(),
            servers: servers.words(),
            first_seen: first.get().map(Time),
            last_seen: last.get().map(Time),
            line: exception.line as u64,
        }
    });
    Some(ExceptionList {
        sha256: exceptions.sha256.clone(),
        file: exceptions.file.clone(),
        list: list.collect(),
    })
}

impl ExceptionUse<'_> {
    /// Describes the traffic that the exception permits, whether or not there was any: `gw1 ->
    /// broker1 tcp/443, both directions`. Returns an empty string for results of earlier versions,
    /// which do not contain the permitted traffic.
    pub fn scope_words(&self) -> String {
        if self.from.is_empty() && self.to.is_empty() {
            return String::new();
        }
        let [from, to] =
            [&self.from, &self.to].map(|side| if side == "*" { "any host" } else { side });
        let what = match (self.transport.as_str(), self.port.as_str()) {
            ("*", "*") => "all protocols and ports".to_owned(),
            ("*", port) => format!("port {port} of all protocols"),
            (transport, "*") => format!("{transport}, all ports"),
            (transport, port) => format!("{transport}/{port}"),
        };
        let direction = if self.direction == "both" { "both directions" } else { "one direction" };
        format!("{from} -> {to} {what}, {direction}")
    }

    /// Returns whether the exception has this status.
    pub fn has_status(&self, status: &str) -> bool {
        self.status.iter().any(|word| word == status)
    }

    /// Returns descriptions of the statuses that an auditor would question: `retroactive` and
    /// `self-approved`.
    pub fn questions(&self) -> Vec<&'static str> {
        let questions = [
            (RETROACTIVE, "retroactive: created after the end of traffic that it allows"),
            (SELF_APPROVED, "self-approved: the owner is also the approver"),
        ];
        let asked = questions.into_iter().filter(|(status, _)| self.has_status(status));
        asked.map(|(_, question)| question).collect()
    }

    /// Describes the traffic that the exception covered: the number of conversations, their clients
    /// and servers, the number of conversations for which it had expired, and the time of the last
    /// packet.
    pub fn use_words(&self) -> String {
        if self.conversations == 0 {
            return "no conversation needed it".to_owned();
        }
        let mut words = plural(self.conversations, "conversation");
        if !self.clients.is_empty() {
            words += &format!(" from {} to {}", shown(&self.clients), shown(&self.servers));
        }
        if self.conversations_expired > 0 {
            words += &format!(" ({} after the exception had expired)", self.conversations_expired);
        }
        if let Some(last) = self.last_seen {
            words += &format!(", last seen {last}");
        }
        words
    }
}

/// Joins the first members of a list, and adds the number of the remaining ones.
fn shown(members: &[String]) -> String {
    const SHOWN: usize = 5;
    if members.len() <= SHOWN {
        return members.join(", ");
    }
    // The last item may itself say how many members are left out.
    let left_out = members.last().and_then(|last| last.strip_prefix('+')?.split(' ').next());
    let left_out: Option<usize> = left_out.and_then(|count| count.parse().ok());
    let more = members.len() - SHOWN + left_out.map_or(0, |count| count.saturating_sub(1));
    format!("{} and {more} more", members[..SHOWN].join(", "))
}
