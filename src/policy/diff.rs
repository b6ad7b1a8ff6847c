//! The differences between two matrices: the traffic that one documents and the other does not.

use std::collections::{BTreeMap, BTreeSet};

use super::{EndpointTarget, Matrix, Row, Scope};

/// A row of one matrix whose traffic the other matrix does not document at all, or documents only
/// for some of the pairs of roles.
pub struct MatrixChange<'m> {
    /// The row, from the matrix that documents the traffic.
    pub row: &'m Row,
    /// The source roles that the other matrix does not allow, or `any address` for all addresses.
    pub from: Vec<&'m str>,
    /// The destination roles, or the name or address of an endpoint.
    pub to: Vec<String>,
    /// The source roles for which the other matrix documents the service, at one or more of these
    /// destinations.
    pub others: Vec<String>,
}

impl Matrix {
    /// Returns the traffic that this matrix documents and `other` does not.
    pub fn beyond<'m>(&'m self, other: &Matrix) -> Vec<MatrixChange<'m>> {
        self.rows.iter().flat_map(|row| self.row_beyond(row, other)).collect()
    }

    fn row_beyond<'m>(&'m self, row: &'m Row, other: &Matrix) -> Vec<MatrixChange<'m>> {
        // The pairs are first grouped by destination, so that destinations with the same sources
        // form one change.
        let mut by_destination: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for (source, slug) in self.sides(row.source) {
            for destination in self.destinations(row) {
                if !other.documents(row, source, &destination) {
                    by_destination.entry(destination).or_default().insert(slug);
                }
            }
        }
        let mut by_sources: BTreeMap<Vec<&str>, Vec<String>> = BTreeMap::new();
        for (destination, sources) in by_destination {
            by_sources.entry(sources.into_iter().collect()).or_default().push(destination);
        }
        let change = |(from, to): (Vec<&'m str>, Vec<String>)| {
            let others = other.sources_of(row, &to);
            MatrixChange { row, from, to, others }
        };
        by_sources.into_iter().map(change).collect()
    }

    /// Returns the slugs of the roles that a side includes, each with its text in the comparison.
    /// If the side is any address, the slug is `None`.
    fn sides(&self, role: usize) -> Vec<(Option<&str>, &str)> {
        match &self.roles[role] {
            role if role.is_any => vec![(None, "any address")],
            role => self.role_names(role.members).into_iter().map(|s| (Some(s), s)).collect(),
        }
    }

    fn destinations(&self, row: &Row) -> Vec<String> {
        let role = &self.roles[row.destination];
        if row.only.is_some() || row.scope == Scope::Localhost || role.is_any {
            vec![self.destination_text(row)]
        } else {
            self.role_names(role.members).into_iter().map(str::to_owned).collect()
        }
    }

    /// Returns the source roles for which this matrix documents the service of `wanted` at one or
    /// more of the destinations.
    fn sources_of(&self, wanted: &Row, destinations: &[String]) -> Vec<String> {
        let rows = self
            .rows
            .iter()
            .filter(|row| destinations.iter().any(|to| self.is_same_service(row, wanted, to)));
        let sources: BTreeSet<String> =
            rows.map(|row| self.roles[row.source].slug.clone()).collect();
        sources.into_iter().collect()
    }

    fn is_member(&self, role: usize, slug: &str) -> bool {
        let role = &self.roles[role];
        role.is_any || role.slug == slug || self.role_names(role.members).contains(&slug)
    }

    /// Returns whether a row of this matrix documents the service of `wanted` between this source
    /// and this destination.
    fn documents(&self, wanted: &Row, source: Option<&str>, destination: &str) -> bool {
        self.rows.iter().any(|row| {
            self.is_same_service(row, wanted, destination)
                && match source {
                    Some(slug) => self.is_member(row.source, slug),
                    None => self.roles[row.source].is_any,
                }
        })
    }

    /// Returns whether a row of this matrix covers the service of `wanted` at a destination,
    /// whatever its source.
    fn is_same_service(&self, row: &Row, wanted: &Row, destination: &str) -> bool {
        row.transport == wanted.transport
            && (row.scope == Scope::Broadcast) == (wanted.scope == Scope::Broadcast)
            && (row.scope == Scope::Localhost) == (wanted.scope == Scope::Localhost)
            && row.ports.contains(wanted.ports.start())
            && row.ports.contains(wanted.ports.end())
            && match (&row.only, &wanted.only) {
                (None, None) => self.is_member(row.destination, destination),
                (Some(EndpointTarget::Name(pattern)), Some(EndpointTarget::Name(name))) => {
                    pattern == name || pattern.matches(&name.to_string())
                }
                (mine, theirs) => mine == theirs,
            }
    }
}
