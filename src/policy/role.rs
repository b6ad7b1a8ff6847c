//! Roles and sets of roles.

use crate::model::named_enum;

/// A set of roles of one matrix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct RoleSet(u128);

impl RoleSet {
    /// The maximum number of roles in a matrix.
    pub const MAX: usize = 128;

    /// Returns a set with one role.
    pub fn one(role: usize) -> Self {
        Self(1 << role)
    }

    /// Returns the roles in either set.
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the roles in both sets.
    pub fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns the number of roles.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Returns whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns whether the sets share a role.
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns the roles, by number.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let role = rest.trailing_zeros() as usize;
            // Removes the lowest role. `checked_sub` ends the iteration when none is left.
            rest &= rest.checked_sub(1)?;
            Some(role)
        })
    }
}

named_enum!(
    /// The kind of a role.
    RoleKind {
        /// A user of the product.
        Client = "client",
        /// A component of the product.
        Component = "component",
        /// A service that the product needs, such as a directory, a database or a file server.
        Infrastructure = "infrastructure",
        /// An external service of another party.
        ExternalService = "external-service",
        /// A host that runs virtual machines.
        Hypervisor = "hypervisor",
        /// A group of other roles.
        Group = "group",
        /// A stand-in for something else, such as any address or the host itself.
        Pseudo = "pseudo",
        /// A name or an address, which no host plays.
        Endpoint = "endpoint",
    }
);

named_enum!(
    /// A special property of a role.
    Trait {
        /// Strangers play it if the inventory says that clients may be any address.
        Anybody = "anybody",
        /// Such strangers enter the farm through it.
        Entrance = "entrance",
        /// Its answers to lookups are trusted.
        Directory = "directory",
    }
);

/// A role of the matrix.
#[derive(Clone, Debug)]
pub struct Role {
    /// Its stable name.
    pub slug: String,
    /// Its name in this product version.
    pub name: String,
    /// Other names that an inventory may use, which come from other product versions.
    pub aliases: Vec<String>,
    /// Its kind.
    pub kind: RoleKind,
    /// Its special properties.
    pub traits: Vec<Trait>,
    /// The roles that it stands for; itself if it is not a group.
    pub members: RoleSet,
    /// Whether it stands for every address, in the inventory or not.
    pub is_any: bool,
}

impl Role {
    /// Returns whether a host can play it. Groups, pseudo roles and endpoints stand for something
    /// else.
    pub fn is_playable(&self) -> bool {
        !matches!(self.kind, RoleKind::Group | RoleKind::Pseudo | RoleKind::Endpoint)
    }

    /// Returns whether it is a component of the product.
    pub fn is_component(&self) -> bool {
        self.kind == RoleKind::Component
    }

    /// Returns whether it is a user of the product.
    pub fn is_client(&self) -> bool {
        self.kind == RoleKind::Client
    }
}
