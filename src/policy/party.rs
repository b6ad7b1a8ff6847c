//! The ends of conversations, as the inventory knows them.

use super::RoleSet;

/// The inventory entry that an address belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PartyKind {
    /// A host, by its index in the inventory.
    Host(usize),
    /// The index of an external destination that is known by name or address.
    Service(usize),
    /// The index of the network that contains the address.
    Network(usize),
    /// A party whose roles are known but whose address is not, for example in a question about the
    /// matrix.
    RolesOnly,
    /// An address that is not in the inventory.
    Stranger,
}

/// One end of a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Party {
    /// The inventory entry that the address of this end belongs to.
    pub kind: PartyKind,
    /// The roles of the party.
    pub roles: RoleSet,
}

impl Party {
    /// Returns the index of the listed host; `None` if the party is anything else.
    pub fn host(&self) -> Option<usize> {
        match self.kind {
            PartyKind::Host(host) => Some(host),
            _ => None,
        }
    }
}
