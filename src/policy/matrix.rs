//! The port matrix with its roles, features and other data.

use std::collections::BTreeMap;

use super::{
    BACKGROUND, Background, EndpointTarget, Pattern, PolicyError, Role, RoleKind, RoleSet, Row,
    SeverityTable, Trait,
};

/// An optional feature of a farm that rows may depend on.
#[derive(Clone, Debug)]
pub struct Feature {
    /// The description of the feature, in one line.
    pub meaning: String,
    /// Whether a typical farm uses the feature. This is not a default: if an inventory does not
    /// list the feature, its state is unknown.
    pub usual: bool,
}

/// A port matrix with its roles, features and other data.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// The name that inventories use for the matrix.
    pub name: String,
    /// The name of the product and its version.
    pub title: String,
    /// SHA-256 over the names and texts of the rule files, in hex.
    pub sha256: String,
    /// The roles. The number of a role is its index.
    pub roles: Vec<Role>,
    /// The rows of the matrix and of its overlays, in the order of the files.
    pub rows: Vec<Row>,
    /// The rows of the built-in overlays that are not in use.
    pub unused_overlays: Vec<Row>,
    /// The features. The key is the name.
    pub features: BTreeMap<String, Feature>,
    /// The names of external services, each with the number of its role.
    pub services: Vec<(usize, Pattern)>,
    /// The kinds of background traffic, which do not belong to a product.
    pub background: Vec<Background>,
    /// The severities of findings, by verdict and code.
    pub severities: SeverityTable,
    /// A word that may precede role names.
    pub prefix: String,
    /// The indexes of the rows of each group. The key is the name of the group.
    pub groups: BTreeMap<String, Vec<usize>>,
    /// The names of the overlays in use, as the inventory or the user wrote them.
    pub overlays: Vec<String>,
    /// The documents that the provenance of rows refers to.
    pub documents: Vec<SourceDocument>,
}

/// A document that rows of a matrix come from.
#[derive(Clone, PartialEq, Eq, serde::Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct SourceDocument {
    /// The name that the provenance of rows begins with, such as `kb-129097`.
    pub id: String,
    /// The title of the document.
    pub title: String,
    /// The edition or the date of the document, as far as it is known.
    #[serde(default)]
    pub edition: String,
}

/// Returns a suggestion if `name` looks like a misspelling of a known role name, or an empty string
/// otherwise. A name that merely shares a word with a known name is a different role.
fn near_role<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    const LEAST: f64 = 0.74;
    let plain = |text: &str| {
        text.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect::<String>()
    };
    let wanted = plain(name);
    let likeness = |known: &str| {
        let known = plain(known);
        // A role name followed by a number, such as `DC1`, counts as an exact match.
        let is_numbered = wanted
            .strip_prefix(&known)
            .is_some_and(|rest| !known.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()));
        if is_numbered { 1.0 } else { strsim::normalized_damerau_levenshtein(&wanted, &known) }
    };
    known
        .into_iter()
        .map(|known| (likeness(known), known))
        .filter(|(likeness, _)| *likeness > LEAST)
        .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(a.1)))
        .map_or_else(String::new, |(_, known)| format!("; did you mean \"{known}\"?"))
}

impl Matrix {
    /// Returns the value of the key `overlays` in an inventory that adds an overlay to those in
    /// use. The list of background traffic has a key of its own.
    pub fn overlays_with(&self, overlay: &str) -> String {
        let listed = self.overlays.iter().map(String::as_str).filter(|name| *name != BACKGROUND);
        let names = listed.chain([overlay]);
        let quoted: Vec<String> = names.map(|name| format!("{name:?}")).collect();
        format!("[{}]", quoted.join(", "))
    }

    /// Returns the number of the role with this slug.
    pub fn role(&self, slug: &str) -> Option<usize> {
        self.roles.iter().position(|r| r.slug == slug)
    }

    /// Returns the number of the role with this slug or product name (of any version), if hosts can
    /// have this role. Otherwise, the error gives the reason.
    pub fn playable_role(&self, name: &str) -> Result<usize, PolicyError> {
        // The vendor's pages sometimes write the prefix before a role name and sometimes omit it.
        let prefix = format!("{} ", self.prefix.trim().to_lowercase().replace('-', " "));
        let plain = |name: &str| {
            let name = name.trim().to_lowercase().replace('-', " ");
            name.trim_start_matches(prefix.as_str()).to_owned()
        };
        let wanted = plain(name);
        let named = |role: &Role| {
            plain(&role.slug) == wanted
                || plain(&role.name) == wanted
                || role.aliases.iter().any(|a| plain(a) == wanted)
        };
        let matching = self.roles.iter().enumerate().filter(|(_, r)| named(r));
        match matching.min_by_key(|(_, r)| (plain(&r.slug) != wanted, !r.is_playable())) {
            Some((number, role)) if role.is_playable() => Ok(number),
            Some((_, role)) if role.kind == RoleKind::Group && !role.is_any => {
                let members = self.role_names(role.members).into_iter().map(str::to_owned);
                let name = name.to_owned();
                let members = members.collect();
                Err(PolicyError::SeveralRoles { name, members })
            }
            Some(_) => Err(PolicyError::NotPlayable(name.to_owned())),
            None => {
                let playable = self.roles.iter().filter(|r| r.is_playable());
                let known = playable.flat_map(|r| {
                    [&r.slug, &r.name].into_iter().chain(&r.aliases).map(String::as_str)
                });
                let near = near_role(name, known);
                Err(PolicyError::UnknownRole { name: name.to_owned(), near })
            }
        }
    }

    /// Returns the roles with this slug or product name. The slug of a group yields all its
    /// members. If there is no such role, the error gives the reason.
    pub fn roles_named(&self, name: &str) -> Result<RoleSet, PolicyError> {
        match self.role(name) {
            Some(number) => Ok(self.roles[number].members),
            None => self.playable_role(name).map(RoleSet::one),
        }
    }

    /// Returns the roles that have a trait.
    pub fn roles_with(&self, of: Trait) -> RoleSet {
        let roles = self.roles.iter().enumerate().filter(|(_, role)| role.traits.contains(&of));
        roles.fold(RoleSet::default(), |set, (number, _)| set.with(RoleSet::one(number)))
    }

    /// Returns the names of the roles in this product version, sorted by role number.
    pub fn role_titles(&self, roles: RoleSet) -> Vec<&str> {
        roles.iter().map(|r| self.roles[r].name.as_str()).collect()
    }

    /// Returns the name of the role or group with exactly these members, or else the names of all
    /// roles.
    pub fn title_of(&self, roles: RoleSet) -> String {
        let same = self.roles.iter().find(|role| role.members == roles);
        same.map_or_else(|| self.role_titles(roles).join(", "), |role| role.name.clone())
    }

    /// Returns the destination of a row as text: the slug of a role, a name or an address.
    pub fn destination_text(&self, row: &Row) -> String {
        match &row.only {
            Some(EndpointTarget::Name(name)) => name.to_string(),
            Some(EndpointTarget::Address(address)) => address.to_string(),
            None => self.roles[row.destination].slug.clone(),
        }
    }

    /// Returns the slugs of the roles, sorted by role number.
    pub fn role_names(&self, roles: RoleSet) -> Vec<&str> {
        roles.iter().map(|r| self.roles[r].slug.as_str()).collect()
    }

    /// Returns whether the source side of a row includes a party with these roles.
    pub fn is_source(&self, row: &Row, roles: RoleSet) -> bool {
        let role = &self.roles[row.source];
        role.is_any || role.members.intersects(roles)
    }

    /// Returns whether the destination side of a row includes a party with these roles.
    pub fn is_destination(&self, row: &Row, roles: RoleSet) -> bool {
        let role = &self.roles[row.destination];
        role.is_any || role.members.intersects(roles)
    }
}
