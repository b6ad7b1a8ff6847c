//! A finding: what somebody should look at, with its evidence.

use std::cmp::Reverse;
use std::net::IpAddr;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::verdict::{Code, Doubts, Verdict};
use crate::conversation::{Conversation, Grade, State};
use crate::model::{Mac, Nanos, hex};
use crate::policy::{Party, Policy, RoleSet, Severity, Who};

/// What an id begins with, so that no spreadsheet takes it for a number.
const ID_MARK: &str = "f-";

/// The hex digits of an id.
const ID_DIGITS: usize = 12;

/// Returns the id that a text stands for: ids of earlier versions had no mark.
pub fn id_of(text: &str) -> String {
    let bare = text.len() == ID_DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit());
    if bare { format!("{ID_MARK}{text}") } else { text.to_owned() }
}

/// Something that somebody should look at.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Stable across captures: from verdict, code, ends, transport and port or group alone.
    pub id: String,
    /// How much it weighs.
    pub severity: Severity,
    /// What it says.
    pub verdict: Verdict,
    /// Why.
    pub code: Code,
    /// Whether it is certain; if not, `doubt` says why.
    pub certain: bool,
    /// Who asks, or should have asked.
    pub client: End,
    /// Who serves, or should have been asked.
    pub server: End,
    /// The protocol above IP; `*` for several.
    pub transport: String,
    /// The port; several joined by `;`, `*` for many.
    pub port: String,
    /// The best state among its conversations.
    pub state: Option<State>,
    /// The strongest grade of direction among its conversations.
    pub direction: Option<Grade>,
    /// The row that decided.
    pub rule: String,
    /// The group of rows that it is about.
    pub group: String,
    /// Conversations that it stands for.
    pub count: u64,
    /// The earliest packet.
    pub first_seen: Option<Nanos>,
    /// The latest packet.
    pub last_seen: Option<Nanos>,
    /// What was found, in a sentence.
    pub message: String,
    /// What to do about it.
    pub action: String,
    /// A Wireshark display filter that shows its packets.
    pub display_filter: String,
    /// Why it is not certain.
    #[serde(skip)]
    pub doubts: Doubts,
    /// What was considered, in the order of the considering.
    pub trace: Vec<String>,
    /// The id of the finding that explains it, where one does.
    pub explained_by: Option<String>,
    /// The packets that it rests on.
    #[serde(skip)]
    pub grounds: Grounds,
}

/// The packets that a finding rests on, by what they belong to. Nothing where it rests on an absence.
#[derive(Clone, Default, Debug)]
pub struct Grounds {
    /// Conversations, by their position in the list.
    pub conversations: Vec<usize>,
    /// The conversation that made something due which is missing.
    pub trigger: Option<usize>,
    /// Claims of an address (ARP, neighbour discovery) that contradict each other.
    pub claims: Vec<(IpAddr, Mac)>,
}

/// One end of a finding.
#[derive(Clone, Default, Debug, Serialize)]
pub struct End {
    /// Address; `*` for several.
    pub address: String,
    /// Host or network name.
    pub name: String,
    /// Role slugs joined by `;`.
    pub roles: String,
    /// The names of the roles in the farm's own version.
    #[serde(skip)]
    titles: Vec<String>,
    #[serde(skip)]
    identity: String,
    /// The name is of its network, not of itself.
    #[serde(skip)]
    in_network: bool,
}

impl End {
    /// The end that an address is.
    pub fn of(policy: &Policy, party: &Party, address: &str) -> Self {
        let roles = policy.matrix.role_names(party.roles).join(";");
        let titles = titles(policy, party.roles);
        Self {
            address: address.to_owned(),
            name: policy.name_of(party).to_owned(),
            roles,
            titles,
            identity: Self::identity_of(policy, party, || address.to_owned()),
            in_network: matches!(party.who, Who::Network(_)),
        }
    }

    /// What makes the end that an address is the same in another capture.
    pub(super) fn identity_of(
        policy: &Policy,
        party: &Party,
        address: impl FnOnce() -> String,
    ) -> String {
        let name = policy.name_of(party);
        match party.who {
            Who::Host(_) => name.to_owned(),
            Who::Network(_) => {
                format!("{name}\u{1f}{}", policy.matrix.role_names(party.roles).join(";"))
            }
            Who::Service(_) | Who::Stranger | Who::Asked => address(),
        }
    }

    /// An end of which only the role is known.
    pub fn any_of(policy: &Policy, roles: RoleSet) -> Self {
        let titles = titles(policy, roles);
        let roles = policy.matrix.role_names(roles).join(";");
        Self { identity: format!("any {roles}"), roles, titles, ..Self::default() }
    }

    /// An end that stands for no role, in the words of the matrix: a name or an address.
    pub(super) fn only(text: String) -> Self {
        Self { identity: format!("any {text}"), titles: vec![text], ..Self::default() }
    }

    /// Everybody whom no list has.
    pub(super) fn everybody() -> Self {
        Self { address: "*".into(), identity: "*".into(), ..Self::default() }
    }

    /// Makes it stand for a network, or for many of them.
    pub(super) fn become_network(&mut self, network: &str) {
        self.name = if network == "*" { "many networks".to_owned() } else { network.to_owned() };
        self.identity = format!("{network} *");
        self.in_network = true;
    }

    /// Both ends as one: what they share, `*` where they differ.
    pub(super) fn with(&mut self, other: &Self) {
        if self.address != other.address {
            "*".clone_into(&mut self.address);
        }
        if self.name != other.name {
            self.name.clear();
        }
        if self.roles != other.roles {
            self.roles.clear();
            self.titles.clear();
        }
    }

    /// What makes it the same end in another capture.
    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    /// Whether it is one host or address.
    pub(super) fn is_one(&self) -> bool {
        !matches!(self.address.as_str(), "" | "*")
    }

    /// In words.
    pub fn words(&self) -> String {
        match (self.name.as_str(), self.address.as_str()) {
            ("", "") => format!("any {}", self.titles.join(" or ")),
            ("", "*") => "several hosts".to_owned(),
            ("", address) => address.to_owned(),
            (name, "*") => format!("several addresses of {name}"),
            (name, address) if self.in_network => format!("{address} of {name}"),
            (name, _) => name.to_owned(),
        }
    }

    /// In words, with the roles.
    pub fn words_with_roles(&self) -> String {
        match self.titles.is_empty() || (self.name.is_empty() && self.address.is_empty()) {
            true => self.words(),
            false => format!("{} ({})", self.words(), self.titles.join(", ")),
        }
    }
}

fn titles(policy: &Policy, roles: RoleSet) -> Vec<String> {
    policy.matrix.role_titles(roles).into_iter().map(str::to_owned).collect()
}

impl Finding {
    /// Findings are shown worst first; of equal weight in the order of their words.
    pub(super) fn order(&self) -> impl Ord + use<> {
        (
            Reverse(self.severity),
            self.code,
            self.client.identity.clone(),
            self.server.identity.clone(),
            self.transport.clone(),
            self.port.clone(),
            self.group.clone(),
        )
    }

    /// `f-` and the first 12 hex digits of SHA-256 over the finding's identity, its parts each followed by the byte
    /// 0x1e.
    pub(super) fn identify(&mut self) {
        let subject = if self.group.is_empty() { &self.port } else { &self.group };
        let mut hasher = Sha256::new();
        let (client, server) = (&self.client.identity, &self.server.identity);
        for part in
            [self.verdict.name(), self.code.name(), client, server, &self.transport, subject]
        {
            hasher.update(part.as_bytes());
            hasher.update([0x1e]);
        }
        self.id = format!("{ID_MARK}{}", &hex(&hasher.finalize())[..ID_DIGITS]);
    }

    /// A finding without its explanation.
    pub(super) fn new(code: Code, client: End, server: End) -> Self {
        Self {
            id: String::new(),
            severity: Severity::Info,
            verdict: code.verdict(),
            code,
            certain: true,
            client,
            server,
            transport: String::new(),
            port: String::new(),
            state: None,
            direction: None,
            rule: String::new(),
            group: String::new(),
            count: 0,
            first_seen: None,
            last_seen: None,
            message: String::new(),
            action: String::new(),
            display_filter: String::new(),
            doubts: Doubts::default(),
            trace: Vec::new(),
            explained_by: None,
            grounds: Grounds::default(),
        }
    }

    /// Takes in a conversation that the finding stands for.
    pub(super) fn add(&mut self, list: &[Conversation], number: usize) {
        let c = &list[number];
        self.grounds.conversations.push(number);
        self.count += 1;
        self.state = self.state.into_iter().chain([c.state]).min();
        self.direction = self.direction.into_iter().chain([c.grade]).min();
        self.first_seen = self.first_seen.into_iter().chain(c.first.get()).min();
        self.last_seen = self.last_seen.into_iter().chain(c.last.get()).max();
    }
}
