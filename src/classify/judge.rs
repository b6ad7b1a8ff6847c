//! Permission: which code a conversation gets, and which row decided it.

use std::net::IpAddr;

use super::verdict::{Code, Doubt, Doubts, Verdict};
use crate::conversation::{Conversation, Lens, State, Subject};
use crate::model::{Endpoint, Transport};
use crate::policy::{FeatureState, Party, Policy, RoleSet, Row, Scope, Severity, Who};

/// What decided about a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ruling {
    /// The code, and with it the verdict.
    pub code: Code,
    /// The row that decided, by position.
    pub row: Option<usize>,
}

/// A conversation's judgement.
#[derive(Clone, Copy, Debug)]
pub struct Judged {
    /// What decided.
    pub ruling: Ruling,
    /// Who the client is to the inventory.
    pub client: Party,
    /// Who the server is to the inventory.
    pub server: Party,
    /// Why it is not certain.
    pub doubts: Doubts,
    /// The code of the other orientation, where it differs and the direction is a guess.
    pub other: Option<Code>,
    /// How much it weighs.
    pub severity: Severity,
}

impl Judged {
    /// The verdict.
    pub fn verdict(&self) -> Verdict {
        self.ruling.code.verdict()
    }
}

/// How the judge is asked: the traffic, and how it travelled.
#[derive(Clone, Copy)]
struct Asked {
    client: Party,
    server: Party,
    client_roles: RoleSet,
    server_roles: RoleSet,
    subject: Subject,
    broadcast: bool,
    /// It answers a broadcast, and so belongs to the broadcast's row.
    answer: bool,
}

/// Judges conversations by a policy.
pub struct Judge<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// For each role, the roles that some row lets it reach, and whether a row lets it reach anybody.
    joins: Vec<(RoleSet, bool)>,
    /// The roles that somebody in the inventory plays.
    present: RoleSet,
}

impl<'a> Judge<'a> {
    /// A judge of one policy.
    pub fn new(policy: &'a Policy) -> Self {
        let matrix = &policy.matrix;
        let joins = (0..matrix.roles.len()).map(|role| {
            let mut reach = (RoleSet::default(), false);
            let rows = matrix.rows.iter().filter(|r| r.scope != Scope::Localhost);
            for row in rows.filter(|r| matrix.is_source(r, RoleSet::one(role))) {
                let destination = &matrix.roles[row.destination];
                reach = (reach.0.with(destination.members), reach.1 || destination.everybody);
            }
            reach
        });
        Self { policy, joins: joins.collect(), present: policy.present_roles() }
    }

    /// The roles that somebody in the inventory plays.
    pub fn present(&self) -> RoleSet {
        self.present
    }

    /// Judges a conversation.
    pub fn judge(&self, conversation: &Conversation) -> Judged {
        let asked = self.asked(conversation);
        let ruling = self.rule(&asked);
        let mut doubts = Doubts::default();
        let mut other = None;
        if conversation.grade.is_guess() {
            other = self.other_reading(conversation, &asked, ruling.code);
            // Of many client ports only some are tried the other way round.
            if other.is_some() || conversation.client_ports.more() {
                doubts.add(Doubt::Direction);
            }
        }
        if ruling.row.is_some_and(|row| self.policy.matrix.rows[row].is_doubtful()) {
            doubts.add(Doubt::Row);
        }
        if ruling.code == Code::UnknownHost && self.only_a_name_decides(&asked) {
            doubts.add(Doubt::Name);
        }
        let strangers = asked.client.who == Who::Stranger && asked.server.who == Who::Stranger;
        let severity = match strangers {
            // A span full of strangers' traffic must stay readable.
            true => Severity::Info,
            false => self.severity(ruling.code, conversation.state.reached(), doubts),
        };
        Judged { ruling, client: asked.client, server: asked.server, doubts, other, severity }
    }

    /// The severity of a code; what is not certain is never above medium.
    pub fn severity(&self, code: Code, first: bool, doubts: Doubts) -> Severity {
        let table = &self.policy.matrix.severities;
        let severity = table.get(code.verdict().name(), code.name(), first);
        if doubts.certain() { severity } else { severity.min(Severity::Medium) }
    }

    /// Every row that documents a conversation, whatever its features.
    pub fn fitting(&self, conversation: &Conversation) -> Vec<usize> {
        let asked = self.asked(conversation);
        self.fits(&asked).map(|(row, _)| row).collect()
    }

    fn asked(&self, c: &Conversation) -> Asked {
        let client = self.policy.party(c.subject.client, c.rare().macs[0].iter());
        let server = self.policy.party(c.subject.server, c.rare().macs[1].iter());
        self.ask(client, server, c.subject, c.broadcast, c.state == State::AnswerOnly)
    }

    fn ask(
        &self,
        client: Party,
        server: Party,
        subject: Subject,
        broadcast: bool,
        answer: bool,
    ) -> Asked {
        let client_roles = self.policy.client_roles(&client, &server, broadcast);
        let server_roles = server.roles;
        Asked { client, server, client_roles, server_roles, subject, broadcast, answer }
    }

    /// The rows that join the two ends on this port, moved ports counted where they are now.
    fn fits(&self, asked: &Asked) -> impl Iterator<Item = (usize, bool)> + use<'_> {
        let asked = *asked;
        let (matrix, subject) = (&self.policy.matrix, asked.subject);
        let inside = subject.client.is_loopback() && subject.server.is_loopback();
        self.policy.candidates(subject.transport, subject.port, asked.server).filter_map(
            move |found| {
                let row = &matrix.rows[found.row];
                let scope_fits = match row.scope {
                    Scope::Localhost => inside,
                    Scope::Broadcast => asked.broadcast || asked.answer,
                    Scope::Network | Scope::Internet => !asked.broadcast && !inside,
                };
                let destination_fits = match row.scope {
                    Scope::Localhost => true,
                    // Somebody of the destination role has to be there to be asked.
                    Scope::Broadcast if asked.broadcast => matrix.is_destination(row, self.present),
                    _ => matrix.is_destination(row, asked.server_roles),
                };
                let fits =
                    scope_fits && destination_fits && matrix.is_source(row, asked.client_roles);
                fits.then_some((found.row, found.moved))
            },
        )
    }

    fn rule(&self, asked: &Asked) -> Ruling {
        let ruling = |code, row| Ruling { code, row };
        let mut off = None;
        let mut best: Option<((FeatureState, bool, bool, usize), Code)> = None;
        for (number, moved) in self.fits(asked) {
            let row = &self.policy.matrix.rows[number];
            let features = self.policy.feature_state(row);
            if features == FeatureState::Off {
                off = off.or(Some(number));
                continue;
            }
            let rank = (features, row.is_doubtful(), moved, number);
            let code = if moved { Code::Renumbered } else { Code::Matrix };
            if best.is_none_or(|(least, _)| rank < least) {
                best = Some((rank, code));
            }
        }
        if let Some(((.., number), code)) = best {
            return ruling(code, Some(number));
        }
        if self.is_background(asked) {
            return ruling(Code::Background, None);
        }
        let ends_have_roles = !asked.client_roles.is_empty() && !asked.server_roles.is_empty();
        if !asked.broadcast && ends_have_roles && self.joined(asked) {
            return if off.is_some() {
                ruling(Code::FeatureOff, off)
            } else if let Some(row) = self.moved_away(asked) {
                ruling(Code::PortNotInMatrix, Some(row))
            } else if let Some(row) = self.other_transport(asked) {
                ruling(Code::WrongTransport, Some(row))
            } else if let Some(row) = self.reversed(asked) {
                ruling(Code::Reversed, Some(row))
            } else {
                ruling(Code::PortNotInMatrix, None)
            };
        }
        if let Some(row) = self.exposed(asked) {
            return ruling(Code::ExposedInternal, Some(row));
        }
        if asked.broadcast && !asked.client_roles.is_empty() {
            return ruling(Code::NoRelation, None);
        }
        if !asked.broadcast && ends_have_roles {
            return match self.documented_for_others(asked).next() {
                Some(row) => ruling(Code::WrongSource, Some(row)),
                None => ruling(Code::NoRelation, None),
            };
        }
        let no_role = |party: &Party| party.who != Who::Stranger && party.roles.is_empty();
        if no_role(&asked.client) || (no_role(&asked.server) && !asked.broadcast) {
            return ruling(Code::NoRole, None);
        }
        ruling(Code::UnknownHost, None)
    }

    /// Whether some row joins the two ends in this direction, on whatever port.
    fn joined(&self, asked: &Asked) -> bool {
        asked.client_roles.iter().any(|role| {
            let (reach, anybody) = self.joins[role];
            anybody || reach.meets(asked.server_roles)
        })
    }

    fn is_background(&self, asked: &Asked) -> bool {
        let Subject { server, transport, port, .. } = asked.subject;
        self.policy.background(transport, port).is_some_and(|entry| {
            entry.anywhere || asked.broadcast || asked.answer || crate::model::is_link_local(server)
        })
    }

    /// The row that would document it, had the inventory not moved its port elsewhere.
    fn moved_away(&self, asked: &Asked) -> Option<usize> {
        let (matrix, Subject { transport, port, .. }) = (&self.policy.matrix, asked.subject);
        self.policy.moved_away(transport, port, asked.server).find(|row| {
            let row = &matrix.rows[*row];
            matrix.is_source(row, asked.client_roles)
                && matrix.is_destination(row, asked.server_roles)
        })
    }

    fn other_transport(&self, asked: &Asked) -> Option<usize> {
        let others = [Transport::TCP, Transport::UDP, Transport::SCTP];
        others.into_iter().filter(|t| *t != asked.subject.transport).find_map(|transport| {
            let subject = Subject { transport, ..asked.subject };
            let fits = self.fits(&Asked { subject, ..*asked }).map(|(row, _)| row).next();
            fits.filter(|_| asked.subject.transport.has_ports())
        })
    }

    fn reversed(&self, asked: &Asked) -> Option<usize> {
        let turned = Asked {
            client: asked.server,
            server: asked.client,
            client_roles: asked.server_roles,
            server_roles: asked.client_roles,
            subject: Subject {
                client: asked.subject.server,
                server: asked.subject.client,
                ..asked.subject
            },
            ..*asked
        };
        self.fits(&turned).map(|(row, _)| row).next()
    }

    /// Rows that document the port at the server, for whomever.
    fn documented_for_others(&self, asked: &Asked) -> impl Iterator<Item = usize> + use<'_> {
        let (server, roles, subject) = (asked.server, asked.server_roles, asked.subject);
        let matrix = &self.policy.matrix;
        self.policy.candidates(subject.transport, subject.port, server).map(|c| c.row).filter(
            move |row| {
                let row = &matrix.rows[*row];
                matches!(row.scope, Scope::Network | Scope::Internet)
                    && matrix.is_destination(row, roles)
            },
        )
    }

    /// The row of an internal port of a farm host that somebody outside reaches: documented, but
    /// for nobody who comes from outside.
    fn exposed(&self, asked: &Asked) -> Option<usize> {
        let matrix = &self.policy.matrix;
        let farm = asked.server_roles.iter().any(|r| matrix.roles[r].kind == "ras-component");
        if !farm || asked.broadcast || self.policy.is_internal(asked.subject.client) {
            return None;
        }
        let outside =
            |row: &Row| row.scope == Scope::Internet || matrix.roles[row.source].kind == "client";
        let mut rows = self.documented_for_others(asked).peekable();
        let first = *rows.peek()?;
        (!rows.any(|row| outside(&matrix.rows[row]))).then_some(first)
    }

    /// Whether the client may go to a service on this port, so that the server's name would decide.
    fn only_a_name_decides(&self, asked: &Asked) -> bool {
        let matrix = &self.policy.matrix;
        let Subject { server, transport, port, .. } = asked.subject;
        !self.policy.is_internal(server)
            && self.policy.rows_at(transport, port).any(|row| {
                let row = &matrix.rows[row];
                row.scope == Scope::Internet && matrix.is_source(row, asked.client_roles)
            })
    }

    /// The code of the other orientation, if it is worse or gives another verdict. Of several
    /// client ports the worst counts.
    fn other_reading(&self, c: &Conversation, asked: &Asked, shown: Code) -> Option<Code> {
        let ports = c.client_ports.iter().map(|port| {
            let subject = Subject {
                client: c.subject.server,
                server: c.subject.client,
                port: *port,
                ..c.subject
            };
            self.rule(&self.ask(asked.server, asked.client, subject, c.broadcast, asked.answer))
                .code
        });
        ports.max().filter(|other| *other > shown || other.verdict() != shown.verdict())
    }
}

/// The two questions of direction, answered by the judge.
impl Lens for Judge<'_> {
    fn is_broadcast(&self, address: IpAddr) -> bool {
        self.policy.is_broadcast(address)
    }

    fn is_documented(&self, client: IpAddr, server: Endpoint, transport: Transport) -> bool {
        let subject = Subject { client, server: server.addr, transport, port: server.port };
        let (client, server) = (self.policy.party(client, []), self.policy.party(server.addr, []));
        let asked = self.ask(client, server, subject, false, false);
        self.rule(&asked).code.verdict() == Verdict::Documented
    }
}
