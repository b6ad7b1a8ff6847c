//! Reads DNS messages (RFC 1035): queries, and the addresses in responses.

use std::net::IpAddr;

use domain::base::iana::{Class, Rcode};
use domain::base::{Message, ParsedName};
use domain::rdata::{A, Aaaa, Cname};

use super::{DnsExchange, DnsQuery, PayloadFact, escape_name};
use crate::decode::{FiveTuple, Path};
use crate::model::{BoundedSet, FlagSet};

/// The maximum number of aliases that are followed. Resolvers give up earlier.
const MAX_ALIASES: usize = 16;

pub(super) fn read(tuple: &FiveTuple, path: Path, payload: &[u8]) -> Option<PayloadFact<'static>> {
    let message = Message::from_octets(payload).ok()?;
    let question = message.sole_question().ok()?;
    let name = name_text(question.qname());
    let header = message.header();
    let is_answer = header.qr();
    let (client, resolver, port) = if is_answer {
        (tuple.dst, tuple.src, tuple.dport)
    } else {
        (tuple.src, tuple.dst, tuple.sport)
    };
    let mut reply =
        DnsExchange { queried: FlagSet(u16::from(!is_answer)), answers: BoundedSet::default() };
    if is_answer {
        if header.rcode() != Rcode::NOERROR || question.qclass() != Class::IN {
            return None;
        }
        collect_answers(&message, &name, &mut reply);
    }
    Some(PayloadFact::DnsQuery(
        DnsQuery { client, resolver, port, id: header.id(), name, path },
        reply,
    ))
}

/// Collects the addresses that belong to the queried name or to one of its aliases.
fn collect_answers(message: &Message<&[u8]>, name: &str, reply: &mut DnsExchange) -> Option<()> {
    let mut chain = vec![name.to_owned()];
    // Aliases may be in any order. Each pass finds the next one.
    for _ in 0..MAX_ALIASES {
        let records = message.answer().ok()?.limit_to_in::<Cname<ParsedName<_>>>();
        let last = chain.last()?.clone();
        let next = records.flatten().find(|r| name_text(r.owner()) == last);
        match next.map(|record| name_text(record.data().cname())) {
            Some(alias) if !chain.contains(&alias) => chain.push(alias),
            _ => break,
        }
    }
    let mut add = |owner: String, address: IpAddr| {
        if let Some(position) = chain.iter().position(|name| *name == owner) {
            reply.answers.insert((address, chain[..=position].to_vec()));
        }
    };
    for record in message.answer().ok()?.limit_to_in::<A>().flatten() {
        add(name_text(record.owner()), record.data().addr().into());
    }
    for record in message.answer().ok()?.limit_to_in::<Aaaa>().flatten() {
        add(name_text(record.owner()), record.data().addr().into());
    }
    Some(())
}

/// Returns a name in lower case and without a final dot. Unusual characters are escaped (RFC 4343).
fn name_text(name: impl std::fmt::Display) -> String {
    let mut text = name.to_string().to_ascii_lowercase();
    if text.ends_with('.') {
        text.pop();
    }
    escape_name(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Transport;

    fn name(text: &str) -> Vec<u8> {
        let labels = text.split('.').flat_map(|l| [&[l.len() as u8], l.as_bytes()].concat());
        labels.chain([0]).collect()
    }

    fn record(owner: &str, kind: u8, data: &[u8]) -> Vec<u8> {
        [&name(owner)[..], &[0, kind, 0, 1, 0, 0, 0, 0, 0, data.len() as u8], data].concat()
    }

    fn message(flags: [u8; 2], question: &str, answers: &[Vec<u8>]) -> Vec<u8> {
        let count = answers.len() as u8;
        let mut bytes = vec![0x12, 0x34, flags[0], flags[1], 0, 1, 0, count, 0, 0, 0, 0];
        bytes.extend(name(question));
        bytes.extend([0, 1, 0, 1]);
        bytes.extend(answers.concat());
        bytes
    }

    fn tuple(sport: u16, dport: u16) -> FiveTuple {
        let a = "10.0.0.1".parse().unwrap();
        let b = "10.0.0.53".parse().unwrap();
        let (src, dst) = if dport == 53 { (a, b) } else { (b, a) };
        FiveTuple { src, dst, sport, dport, transport: Transport::UDP }
    }

    #[test]
    fn an_answer_and_its_question_are_one_lookup() {
        let query = message([1, 0], "WWW.Example.com", &[]);
        let answer = message(
            [0x81, 0x80],
            "www.example.com",
            &[
                record("cdn.example.net", 1, &[192, 0, 2, 7]),
                record("www.example.com", 5, &name("cdn.example.net")),
                record("evil.example.org", 1, &[192, 0, 2, 66]),
            ],
        );
        let Some(PayloadFact::DnsQuery(queried, question)) =
            read(&tuple(40000, 53), Path::PLAIN, &query)
        else {
            panic!()
        };
        let Some(PayloadFact::DnsQuery(answered, reply)) =
            read(&tuple(53, 40000), Path::PLAIN, &answer)
        else {
            panic!()
        };
        assert_eq!(queried, answered);
        assert!(question.queried.has(1) && !reply.queried.has(1));
        let chain = ["www.example.com", "cdn.example.net"].map(str::to_owned).to_vec();
        let expected = ("192.0.2.7".parse().unwrap(), chain);
        assert_eq!(reply.answers.iter().collect::<Vec<_>>(), [&expected]);
    }

    #[test]
    fn loops_of_aliases_end_and_failures_tell_nothing() {
        let turns = [
            record("a.example", 5, &name("b.example")),
            record("b.example", 5, &name("a.example")),
            record("b.example", 1, &[192, 0, 2, 1]),
        ];
        let looped = message([0x81, 0x80], "a.example", &turns);
        let Some(PayloadFact::DnsQuery(_, reply)) = read(&tuple(53, 4), Path::PLAIN, &looped)
        else {
            panic!()
        };
        assert_eq!(reply.answers.len(), 1);
        let failed = message([0x81, 0x83], "a.example", &turns);
        assert_eq!(read(&tuple(53, 4), Path::PLAIN, &failed), None);
        for end in 0..looped.len() {
            let _ = read(&tuple(53, 4), Path::PLAIN, &looped[..end]);
        }
    }
}
