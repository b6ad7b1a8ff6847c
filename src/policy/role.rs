//! Roles and sets of roles.

use crate::model::named_enum;

/// A set of roles of one matrix, as a bit set of role numbers. Without the alignment of `u128`, a
/// party takes 32 instead of 48 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[repr(Rust, packed(8))]
pub struct RoleSet(u128);

impl RoleSet {
    /// The maximum number of roles in a matrix.
    pub const MAX: usize = 128;

    /// Returns a set with one role.
    pub fn one(role: usize) -> Self {
        Self(1 << role)
    }

    /// Returns the set as bits.
    pub fn bits(self) -> u128 {
        self.0
    }

    /// Returns the union of both sets.
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the intersection of both sets.
    pub fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns the number of roles.
    pub fn len(self) -> usize {
        let bits = self.0;
        bits.count_ones() as usize
    }

    /// Returns whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns whether the sets have a role in common.
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns the numbers of the roles in ascending order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let role = rest.trailing_zeros() as usize;
            // Removes the lowest role. `checked_sub` ends the iteration when no role is left.
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
        /// An external service that another party operates.
        ExternalService = "external-service",
        /// A host that runs virtual machines.
        Hypervisor = "hypervisor",
        /// A group of other roles.
        Group = "group",
        /// A placeholder for something that is not a role, such as any address or the host itself.
        Pseudo = "pseudo",
        /// A destination that is a name or an address. No host can have this role.
        Endpoint = "endpoint",
    }
);

named_enum!(
    /// A special property of a role.
    Trait {
        /// Unlisted addresses have this role if the inventory allows clients to have any address.
        Anybody = "anybody",
        /// Clients with unlisted addresses enter the farm through hosts with this role.
        Entrance = "entrance",
        /// DNS answers from hosts with this role are trusted.
        Directory = "directory",
        /// The ports of this role are those of software that is also used without the product, so
        /// they do not show that a host has the role.
        CommonPorts = "common-ports",
    }
);

/// A role of the matrix.
#[derive(Clone, Debug)]
pub struct Role {
    /// The stable name in rule files and inventories.
    pub slug: String,
    /// The name in this product version.
    pub name: String,
    /// The name for drawings and narrow columns. Empty if the rules do not state one.
    pub short: String,
    /// Other names that an inventory may use, from other product versions.
    pub aliases: Vec<String>,
    /// The kind of party that has the role.
    pub kind: RoleKind,
    /// The special properties, which most roles lack.
    pub traits: Vec<Trait>,
    /// The members of a group, or only the role itself if it is not a group.
    pub members: RoleSet,
    /// Whether every address has this role, even one that is not in the inventory.
    pub is_any: bool,
}

impl Role {
    /// Returns whether a host can have this role. Groups, pseudo roles and endpoints are not roles
    /// of individual hosts.
    pub fn is_playable(&self) -> bool {
        !matches!(self.kind, RoleKind::Group | RoleKind::Pseudo | RoleKind::Endpoint)
    }

    /// Returns whether hosts with this role are components of the product.
    pub fn is_component(&self) -> bool {
        self.kind == RoleKind::Component
    }

    /// Returns whether the ports of this role are specific to the product, so that only its
    /// components serve them.
    pub fn has_own_ports(&self) -> bool {
        self.is_component() && !self.traits.contains(&Trait::CommonPorts)
    }

    /// Returns whether hosts with this role are users of the product.
    pub fn is_client(&self) -> bool {
        self.kind == RoleKind::Client
    }
}
