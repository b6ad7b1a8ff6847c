//! Roles, and sets of them.

use crate::model::named_enum;

/// A set of roles of one matrix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct RoleSet(u128);

impl RoleSet {
    /// The most roles that a matrix may have.
    pub(super) const MAX: usize = 128;

    /// The set of one role.
    pub fn one(role: usize) -> Self {
        Self(1 << role)
    }

    /// Both sets together.
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The roles in both sets.
    pub fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The number of roles.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there is no role.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the sets share a role.
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The roles, by number.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let role = rest.trailing_zeros() as usize;
            // Takes the lowest one out.
            rest &= rest.checked_sub(1)?;
            Some(role)
        })
    }
}

named_enum!(
    /// What a role is.
    RoleKind {
        /// Who uses the product.
        Client = "client",
        /// A part of the product.
        Component = "component",
        /// What the product needs: directories, databases, file servers.
        Infrastructure = "infrastructure",
        /// A service of others, outside.
        ExternalService = "external-service",
        /// What virtual machines run on.
        Hypervisor = "hypervisor",
        /// It stands for other roles.
        Group = "group",
        /// It stands for something else: everybody, the host itself.
        Pseudo = "pseudo",
        /// A name or an address, which nobody plays.
        Endpoint = "endpoint",
    }
);

named_enum!(
    /// What is particular about a role.
    Trait {
        /// Where an inventory says that clients may be anybody, a stranger plays it.
        Anybody = "anybody",
        /// Such strangers come in through it.
        Entrance = "entrance",
        /// Its answers to lookups are believed.
        Directory = "directory",
    }
);

/// A role as the matrix knows it.
#[derive(Clone, Debug)]
pub struct Role {
    /// Its stable name.
    pub slug: String,
    /// Its name in this product version.
    pub name: String,
    /// Other names that an inventory may use: of other product versions.
    pub aliases: Vec<String>,
    /// What it is.
    pub kind: RoleKind,
    /// What is particular about it.
    pub traits: Vec<Trait>,
    /// The roles that it stands for; itself where it is no group.
    pub members: RoleSet,
    /// It stands for every address, in the inventory or not.
    pub is_any: bool,
}

impl Role {
    /// Whether a host can play it: groups, pseudo roles and endpoints stand for something else.
    pub fn is_playable(&self) -> bool {
        !matches!(self.kind, RoleKind::Group | RoleKind::Pseudo | RoleKind::Endpoint)
    }

    /// Whether it is a part of the product.
    pub fn is_component(&self) -> bool {
        self.kind == RoleKind::Component
    }

    /// Whether it is who uses the product.
    pub fn is_client(&self) -> bool {
        self.kind == RoleKind::Client
    }
}
