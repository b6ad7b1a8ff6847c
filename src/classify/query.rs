//! Judges traffic without a capture: returns the policy's ruling on traffic between two ends, and
//! checks the examples of a matrix.

use std::net::{IpAddr, Ipv4Addr};

use super::judge::Judge;
use super::ruling::Ruling;
use crate::conversation::ServiceKey;
use crate::model::Transport;
use crate::policy::{
    Diagnostic, Example, ExampleTarget, Host, Inventory, Matrix, Party, PartyKind, Policy, RoleSet,
    Row,
};

/// Traffic to be judged.
pub struct Question {
    /// The party that initiates the traffic.
    pub from: Party,
    /// The party that the client contacts.
    pub to: Party,
    /// The client's address, or an arbitrary address if it is not known.
    pub client: IpAddr,
    /// The server's address, or an arbitrary address if it is not known.
    pub server: IpAddr,
    /// The protocol above IP.
    pub transport: Transport,
    /// The server's port.
    pub port: u16,
    /// Whether the traffic goes to all hosts on the link.
    pub broadcast: bool,
    /// The server's name, if it is known.
    pub name: Option<String>,
}

/// The policy's answer to a question.
pub struct Answer<'a> {
    /// The ruling: the first code that applies, and the row that it is based on.
    pub ruling: Ruling,
    /// All rows that document the traffic, whatever the state of their features.
    pub documenting: Vec<&'a Row>,
    /// Rows that allow the two ends to communicate, on other ports.
    pub other_ports: Vec<&'a Row>,
    /// Rows that document the port at the server, for other clients.
    pub for_others: Vec<&'a Row>,
}

impl<'a> Judge<'a> {
    /// Judges traffic that was not captured.
    pub fn answer(&self, question: &Question) -> Answer<'a> {
        let subject = ServiceKey {
            client: question.client,
            server: question.server,
            transport: question.transport,
            port: question.port,
        };
        let plain = self.plain_query(question.from, question.to, subject);
        let mut query = self.with_broadcast(plain, question.broadcast);
        if let Some(name) = &question.name {
            query = self.with_name(&query, name);
        }
        let matrix = &self.policy.matrix;
        let row = |number: usize| &matrix.rows[number];
        let documenting: Vec<usize> = self.matching_rows(&query).map(|(row, _)| row).collect();
        let connects = |number: &usize| {
            let row = row(*number);
            row.only.is_none()
                && matrix.is_source(row, query.client_roles)
                && matrix.is_destination(row, query.server_roles)
        };
        let is_other = |n: &usize| !documenting.contains(n);
        Answer {
            ruling: self.rule(&query),
            documenting: documenting.iter().copied().map(row).collect(),
            other_ports: (0..matrix.rows.len())
                .filter(connects)
                .filter(is_other)
                .map(row)
                .collect(),
            for_others: self.documented_for_others(&query).filter(is_other).map(row).collect(),
        }
    }
}

/// Checks the examples of a matrix. Returns a diagnostic for each example for which the verdict is
/// not that its own row documents it.
pub fn check_examples(matrix: &Matrix) -> Vec<Diagnostic> {
    let policy = Policy::new(matrix.clone(), farm(matrix, |_| true));
    let judge = Judge::new(&policy);
    let mut problems = Vec::new();
    for (number, row) in matrix.rows.iter().enumerate() {
        for example in &row.examples {
            let ruling = match example.to {
                // The ruling on a broadcast depends on the roles that are present, so this farm has
                // only the roles of the row.
                ExampleTarget::Everybody => {
                    let takes =
                        RoleSet::one(example.from).with(matrix.roles[row.destination].members);
                    let policy =
                        Policy::new(matrix.clone(), farm(matrix, |role| takes.intersects(role)));
                    Judge::new(&policy).answer(&example_question(&policy, row, example)).ruling
                }
                _ => judge.answer(&example_question(&policy, row, example)).ruling,
            };
            if ruling.row() == Some(number) && ruling.code.verdict() == super::Verdict::Documented {
                continue;
            }
            let by =
                ruling.row().map_or_else(String::new, |row| format!(" by {}", matrix.rows[row].id));
            let message = format!(
                "{}: the row does not document one of its examples, whose ruling is {}/{}{by}",
                row.id,
                ruling.code.verdict(),
                ruling.code
            );
            problems.push(Diagnostic { file: row.file.to_string(), line: row.line, message });
        }
    }
    problems
}

/// Returns a farm with every feature on, and with two hosts for each role that a host can have and
/// that `takes` accepts.
fn farm(matrix: &Matrix, takes: impl Fn(RoleSet) -> bool) -> Inventory {
    let playable = matrix.roles.iter().enumerate().filter(|(_, role)| role.is_playable());
    let playable = playable.filter(|(number, _)| takes(RoleSet::one(*number)));
    let hosts = playable.flat_map(|(number, role)| {
        [0, 1].map(|copy| Host {
            name: format!("{}{}", role.slug, copy + 1),
            addresses: vec![Ipv4Addr::new(10, 0, copy, number as u8 + 1).into()],
            macs: Vec::new(),
            roles: RoleSet::one(number),
            held_by: Vec::new(),
            answers_arp_for: Vec::new(),
            site: None,
            line: 0,
        })
    });
    Inventory {
        hosts: hosts.collect(),
        features: matrix.features.keys().map(|feature| (feature.clone(), true)).collect(),
        ..Inventory::default()
    }
}

fn example_question(policy: &Policy, row: &Row, example: &Example) -> Question {
    // The first of the two hosts of each role is the client, and the second is the server.
    let host = |role: usize, copy: usize| {
        let hosts = policy.inventory.hosts.iter().filter(|h| h.roles == RoleSet::one(role));
        hosts.map(|host| host.addresses[0]).nth(copy).unwrap_or(Ipv4Addr::UNSPECIFIED.into())
    };
    let somebody = IpAddr::from(Ipv4Addr::new(198, 51, 100, 7));
    let mut client = host(example.from, 0);
    let mut name = None;
    let server = match &example.to {
        ExampleTarget::Role(role) => host(*role, 1),
        ExampleTarget::Everybody => {
            row.multicast.first().copied().unwrap_or(Ipv4Addr::BROADCAST.into())
        }
        ExampleTarget::Itself => {
            client = Ipv4Addr::LOCALHOST.into();
            client
        }
        ExampleTarget::Name(text) => {
            name = Some(text.clone());
            somebody
        }
        ExampleTarget::Address(address) => *address,
    };
    let from = Party { kind: PartyKind::Stranger, roles: RoleSet::one(example.from) };
    let to = match example.to {
        ExampleTarget::Itself => from,
        _ => policy.party(server, []),
    };
    let broadcast = example.to == ExampleTarget::Everybody;
    let transport = example.transport;
    let port = example.port;
    Question { from, to, client, server, transport, port, broadcast, name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::sample::{BROKER, DC, FARM, GW, RDSH, ip, policy};
    use crate::classify::{Code, Verdict};

    fn question(policy: &Policy, client: &str, server: &str, port: u16) -> Question {
        let [client, server] = [ip(client), ip(server)];
        let (from, to) = (policy.party(client, []), policy.party(server, []));
        let (transport, broadcast, name) = (Transport::TCP, false, None);
        Question { from, to, client, server, transport, port, broadcast, name }
    }

    fn ids(rows: &[&Row]) -> Vec<String> {
        rows.iter().map(|row| row.id.to_string()).collect()
    }

    #[test]
    fn an_answer_names_the_row_and_what_else_the_two_ends_may_do() {
        let policy = policy(FARM);
        let judge = Judge::new(&policy);
        let answer = judge.answer(&question(&policy, GW, BROKER, 20_002));
        assert_eq!(answer.ruling.code, Code::Matrix);
        assert_eq!(ids(&answer.documenting), ["ras19.gateway-normal.broker.tcp.20002"]);
        // The other lists do not repeat the row that documents the traffic.
        let documenting = &ids(&answer.documenting)[0];
        assert!(!ids(&answer.other_ports).contains(documenting));
        assert!(!ids(&answer.for_others).contains(documenting));
        assert!(ids(&answer.for_others).contains(&"ras19.console.broker.tcp.20002".to_owned()));
    }

    #[test]
    fn an_answer_about_another_port_names_the_ports_that_are_open() {
        let policy = policy(FARM);
        let judge = Judge::new(&policy);
        let answer = judge.answer(&question(&policy, GW, BROKER, 4444));
        assert_eq!(answer.ruling.code, Code::PortNotInMatrix);
        assert_eq!((answer.documenting.len(), answer.for_others.len()), (0, 0));
        let port = "ras19.gateway-normal.broker.tcp.20002".to_owned();
        assert!(ids(&answer.other_ports).contains(&port));
        // No row allows these two hosts to communicate.
        let answer = judge.answer(&question(&policy, DC, RDSH, 4444));
        assert_eq!(answer.ruling.code.verdict(), Verdict::Undocumented);
        assert!(answer.other_ports.is_empty());
    }

    #[test]
    fn an_example_has_to_be_documented_by_its_own_row() {
        let mut matrix = policy(FARM).matrix;
        assert_eq!(check_examples(&matrix).len(), 0);
        let row = matrix.rows.iter().position(|row| !row.examples.is_empty()).expect("an example");
        let example = &mut matrix.rows[row].examples[0];
        example.port = if example.port == 9 { 10 } else { 9 };
        let problems = check_examples(&matrix);
        assert_eq!(problems.len(), 1);
        let start = format!(
            "{}: the row does not document one of its examples, whose ruling is ",
            matrix.rows[row].id
        );
        assert!(problems[0].message.starts_with(&start), "{}", problems[0].message);
    }
}
