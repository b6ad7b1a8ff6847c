//! Permission checks, in the order in which they are made. The first check that applies determines
//! the ruling.

use super::judge::{Judge, PermissionFacts, Query};
use super::ruling::Ruling;
use super::verdict::Code;
use crate::policy::{Party, PartyKind};

/// A check, which returns a ruling if it applies.
type Check = fn(&Judge<'_>, &Query<'_>, &PermissionFacts) -> Option<Ruling>;

/// All checks. If none applies, an end of the traffic is not in the inventory.
const CHECKS: [Check; 15] = [
    documented,
    background,
    inside_host,
    endpoint_with_feature_off,
    stated_as_internal,
    other_port_of_an_endpoint,
    feature_off,
    moved_away,
    other_transport,
    reversed,
    exposed_to_anybody,
    other_port,
    exposed,
    no_relation,
    no_role,
];

impl Judge<'_> {
    /// Returns the ruling on a query, without regard to exceptions.
    pub(super) fn rule_without_exceptions(&self, query: &Query<'_>) -> Ruling {
        let facts = self.permission_facts(query);
        let ruling = CHECKS.iter().find_map(|check| check(self, query, &facts));
        ruling.unwrap_or(Ruling::without_row(Code::UnknownHost))
    }
}

/// Applies if a row documents the traffic.
fn documented(_: &Judge<'_>, _: &Query<'_>, facts: &PermissionFacts) -> Option<Ruling> {
    facts.documented
}

fn background(judge: &Judge<'_>, query: &Query<'_>, _: &PermissionFacts) -> Option<Ruling> {
    judge.is_background(query).then(|| Ruling::without_row(Code::Background))
}

/// Applies if a host communicates with itself. The matrix is about traffic between hosts.
fn inside_host(_: &Judge<'_>, query: &Query<'_>, _: &PermissionFacts) -> Option<Ruling> {
    let is_inside = matches!(query.client.kind, PartyKind::Host(_))
        && query.client.kind == query.server.kind
        && !query.broadcast;
    is_inside.then(|| Ruling::without_row(Code::Background))
}

/// Applies if every matching row needs a feature that is off, and the destination of the first one
/// is a name or an address. Such a destination has no role, so the checks of roles do not find the
/// row.
fn endpoint_with_feature_off(
    judge: &Judge<'_>,
    _: &Query<'_>,
    facts: &PermissionFacts,
) -> Option<Ruling> {
    let rows = &judge.policy.matrix.rows;
    let row = facts.off.filter(|row| rows[*row].only.is_some())?;
    Some(Ruling::by_row(Code::FeatureOff, row))
}

/// Applies if an external client contacts a port that is internal according to the vendor's
/// document. This check precedes the checks of roles.
fn stated_as_internal(judge: &Judge<'_>, query: &Query<'_>, _: &PermissionFacts) -> Option<Ruling> {
    let rows = &judge.policy.matrix.rows;
    let row = judge.exposed(query).filter(|row| rows[*row].exposure.is_some())?;
    Some(Ruling::by_row(Code::ExposedInternal, row))
}

fn other_port_of_an_endpoint(
    judge: &Judge<'_>,
    query: &Query<'_>,
    facts: &PermissionFacts,
) -> Option<Ruling> {
    let applies = !query.broadcast && judge.may_reach_endpoint(query);
    let code = Code::PortNotInMatrix;
    let row = facts.off;
    applies.then_some(Ruling::new(code, row))
}

/// Returns whether some row allows the two ends to communicate, so that only the port is
/// unexpected.
fn may_communicate(judge: &Judge<'_>, query: &Query<'_>, facts: &PermissionFacts) -> bool {
    !query.broadcast && facts.have_roles && judge.may_communicate(query)
}

fn feature_off(judge: &Judge<'_>, query: &Query<'_>, facts: &PermissionFacts) -> Option<Ruling> {
    let row = facts.off.filter(|_| may_communicate(judge, query, facts))?;
    Some(Ruling::by_row(Code::FeatureOff, row))
}

fn moved_away(judge: &Judge<'_>, query: &Query<'_>, facts: &PermissionFacts) -> Option<Ruling> {
    let row = may_communicate(judge, query, facts).then(|| judge.moved_away(query))??;
    Some(Ruling::by_row(Code::PortNotInMatrix, row))
}

fn other_transport(
    judge: &Judge<'_>,
    query: &Query<'_>,
    facts: &PermissionFacts,
) -> Option<Ruling> {
    let row = may_communicate(judge, query, facts).then(|| judge.other_transport(query))??;
    Some(Ruling::by_row(Code::WrongTransport, row))
}

fn reversed(judge: &Judge<'_>, query: &Query<'_>, facts: &PermissionFacts) -> Option<Ruling> {
    let row = may_communicate(judge, query, facts).then(|| judge.reversed(query))??;
    Some(Ruling::by_row(Code::Reversed, row))
}

/// Applies if an external client that is one only because clients may have any address contacts an
/// internal port. Otherwise, a farm that admits such clients would hide the exposure of the ports
/// that they must not reach.
fn exposed_to_anybody(
    judge: &Judge<'_>,
    query: &Query<'_>,
    facts: &PermissionFacts,
) -> Option<Ruling> {
    judge.policy.is_anybody(&query.client).then(|| exposed(judge, query, facts))?
}

fn other_port(judge: &Judge<'_>, query: &Query<'_>, facts: &PermissionFacts) -> Option<Ruling> {
    may_communicate(judge, query, facts).then(|| Ruling::without_row(Code::PortNotInMatrix))
}

fn exposed(judge: &Judge<'_>, query: &Query<'_>, _: &PermissionFacts) -> Option<Ruling> {
    Some(Ruling::by_row(Code::ExposedInternal, judge.exposed(query)?))
}

fn no_relation(judge: &Judge<'_>, query: &Query<'_>, facts: &PermissionFacts) -> Option<Ruling> {
    if query.broadcast {
        let code = Code::NoRelation;
        let row = facts.off;
        return (!query.client_roles.is_empty()).then_some(Ruling::new(code, row));
    }
    let other = facts.have_roles.then(|| judge.documented_for_others(query).next())?;
    Some(match other {
        Some(row) => Ruling::by_row(Code::WrongSource, row),
        None => Ruling::without_row(Code::NoRelation),
    })
}

fn no_role(_: &Judge<'_>, query: &Query<'_>, _: &PermissionFacts) -> Option<Ruling> {
    let has_none = |party: &Party| party.kind != PartyKind::Stranger && party.roles.is_empty();
    let applies = has_none(&query.client) || (has_none(&query.server) && !query.broadcast);
    applies.then_some(Ruling::without_row(Code::NoRole))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::conversation::ServiceKey;
    use crate::model::Transport;
    use crate::policy::{Inventory, Policy, RuleFiles};

    const FARM: &str = r#"
[farm]
matrix = "ras-19"
[farm.features]
reporting = false
[[host]]
name = "gw1"
addresses = ["10.1.0.1"]
roles = ["gateway-normal"]
[[host]]
name = "broker1"
addresses = ["10.1.0.10"]
roles = ["broker"]
[[host]]
name = "sql1"
addresses = ["10.1.0.11"]
roles = ["sql-server"]
[[host]]
name = "rep1"
addresses = ["10.1.0.12"]
roles = ["ras-reporting"]
[[host]]
name = "file1"
addresses = ["10.1.0.50"]
roles = []
[[moved-port]]
role = "sql-server"
transport = "tcp"
from = 1433
to = 1500
"#;

    /// Returns the index of the first check that applies, or the number of checks if none does, and
    /// the code.
    fn decided(client: &str, server: &str, transport: Transport, port: u16) -> (usize, Code) {
        let matrix = RuleFiles::named("ras-19", None).unwrap().load().unwrap();
        let inventory = Inventory::from_toml("farm.toml", FARM, &matrix).unwrap();
        let policy = Policy::new(matrix, inventory);
        let judge = Judge::new(&policy);
        let [client, server] = [client, server].map(|a| a.parse::<IpAddr>().unwrap());
        let subject = ServiceKey { client, server, transport, port };
        let query = judge.plain_query(policy.party(client, []), policy.party(server, []), subject);
        let facts = judge.permission_facts(&query);
        let mut checks = CHECKS.iter().enumerate();
        let first = checks.find_map(|(n, check)| Some((n, check(&judge, &query, &facts)?)));
        let (place, ruling) =
            first.unwrap_or((CHECKS.len(), judge.rule_without_exceptions(&query)));
        assert_eq!(ruling, judge.rule_without_exceptions(&query));
        (place, ruling.code)
    }

    #[test]
    fn each_check_decides_what_it_is_for() {
        let tcp = Transport::TCP;
        let udp = Transport::UDP;
        let place_of =
            |check: Check| CHECKS.iter().position(|other| std::ptr::fn_addr_eq(*other, check));
        let cases: [(&str, &str, Transport, u16, Check, Code); 9] = [
            ("10.1.0.1", "10.1.0.10", tcp, 20_002, documented, Code::Matrix),
            ("10.1.0.1", "10.1.0.10", Transport::ICMP, 8, background, Code::Background),
            ("203.0.113.9", "10.1.0.10", tcp, 20_001, exposed, Code::ExposedInternal),
            ("10.1.0.12", "10.1.0.11", tcp, 1433, moved_away, Code::PortNotInMatrix),
            ("10.1.0.1", "10.1.0.10", udp, 20_002, other_transport, Code::WrongTransport),
            ("10.1.0.1", "10.1.0.10", tcp, 4444, other_port, Code::PortNotInMatrix),
            ("10.1.0.11", "10.1.0.10", tcp, 20_002, no_relation, Code::WrongSource),
            ("10.1.0.1", "10.1.0.11", tcp, 4444, no_relation, Code::NoRelation),
            ("10.1.0.1", "10.1.0.50", tcp, 445, no_role, Code::NoRole),
        ];
        for (client, server, transport, port, check, code) in cases {
            let (place, decided_code) = decided(client, server, transport, port);
            assert_eq!(
                (Some(place), decided_code),
                (place_of(check), code),
                "{client} {server} {port}"
            );
        }
        let nobody = decided("203.0.113.9", "203.0.113.10", tcp, 4444);
        assert_eq!(nobody, (CHECKS.len(), Code::UnknownHost));
    }
}
