//! Writes a drafted inventory as a commented TOML file.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::classify::{ClientNetwork, Draft, DraftHost, Given, Guess, Matrix, Policy};
use crate::model::{escape_control, service_words};

/// The maximum number of items in a list: evidence lines of a role, networks, names or uses.
const SHOWN: usize = 4;

/// The maximum number of candidate roles that are listed by name if the evidence is too weak to
/// choose one. If there are more candidates, only their number is written.
const NAMED_ROLES: usize = 5;

/// The maximum number of external servers that are listed.
const OUTSIDE: usize = 30;

/// Writes a draft. `about` describes the captures from which it was drafted.
pub fn draft(draft: &Draft, matrix: &Matrix, about: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "# A draft inventory, made from {}.", escape_control(about))?;
    writeln!(out, "#")?;
    writeln!(
        out,
        "# Addresses and served ports come from the traffic. Roles are guesses based on the matrix {},",
        matrix.name
    )?;
    writeln!(
        out,
        "# each with its evidence. Correct the roles, name the hosts, then run: rasaudit inventory check FILE"
    )?;
    writeln!(out)?;
    write_farm(draft, matrix, out)?;
    write_features(draft, matrix, out)?;
    if draft.internal != Given::usual_internal() {
        let internal = draft.internal.iter().map(|net| quoted(&net.to_string()));
        writeln!(out)?;
        writeln!(out, "[capture]")?;
        writeln!(out, "internal = [{}]", internal.collect::<Vec<_>>().join(", "))?;
    }
    for host in &draft.hosts {
        write_host(host, &host.name, matrix, out)?;
    }
    for (number, network) in draft.networks.iter().enumerate() {
        write_network(network, &format!("clients{}", number + 1), matrix, out)?;
    }
    write_outside(draft, matrix, out)
}

/// Writes the `[farm]` section: the name, the matrix, the overlay, and which clients may connect.
fn write_farm(draft: &Draft, matrix: &Matrix, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "[farm]")?;
    writeln!(out, "name = \"My farm\"")?;
    writeln!(out, "matrix = {}", quoted(&matrix.name))?;
    if let Some((overlay, members)) = &draft.overlay {
        writeln!(
            out,
            "# {members} hosts communicate with domain controllers in the way that domain members do."
        )?;
        writeln!(out, "overlays = [{}]    # a guess", quoted(overlay))?;
    }
    if let Some(words) = left_out(draft) {
        writeln!(out, "# Left out: {words}.")?;
        writeln!(out, "# If the farm has such addresses, draft again with --internal.")?;
    }
    for (address, ports) in draft.scanners.iter().take(SHOWN) {
        writeln!(
            out,
            "# {address} tried {ports} ports in vain, as a scanner does, so the traffic that it started shows no roles."
        )?;
    }
    if draft.from_outside > 0 {
        let addresses = if draft.from_outside == 1 { "address" } else { "addresses" };
        writeln!(
            out,
            "# {} external {addresses} connected to internal hosts. If this is how users connect, set clients to \"any\".",
            draft.from_outside
        )?;
    }
    writeln!(out, "clients = \"listed\"")?;
    writeln!(out)
}

/// Writes the features of the matrix. Features that were not seen in use are written as comments.
fn write_features(draft: &Draft, matrix: &Matrix, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "# Set features that the farm uses to true, and the others to false.")?;
    writeln!(out, "[farm.features]")?;
    for (name, feature) in &matrix.features {
        match draft.features.get(name) {
            Some(example) => {
                writeln!(out, "{name} = true    # a guess: {}", escape_control(example))?
            }
            None => writeln!(out, "# {name} = {}    # {}", feature.usual, feature.meaning)?,
        }
    }
    Ok(())
}

/// Writes the external servers as comments, with their names and what they are used for.
fn write_outside(draft: &Draft, matrix: &Matrix, out: &mut dyn Write) -> io::Result<()> {
    for server in draft.outside.iter().take(OUTSIDE) {
        writeln!(out)?;
        let names = match server.names.as_slice() {
            [] => "no name seen".to_owned(),
            names => first_of(names),
        };
        let address = server.address;
        let uses = first_of(&server.uses);
        writeln!(
            out,
            "# External: {address} ({}): {}",
            escape_control(&names),
            escape_control(&uses)
        )?;
        match server.role.map(|role| &matrix.roles[role].slug) {
            Some(role) => writeln!(out, "# The rules derive its role from its name: {role}")?,
            None => {
                writeln!(out, "# [[service]]")?;
                writeln!(out, "# role = \"...\"")?;
                writeln!(out, "# addresses = [\"{address}\"]")?;
            }
        }
    }
    match draft.outside.len().saturating_sub(OUTSIDE) {
        0 => Ok(()),
        more => writeln!(out, "\n# External servers that are not listed: {more}"),
    }
}

/// Describes the external networks that the draft leaves out although they sent traffic; `None` if
/// there are none.
pub fn left_out(draft: &Draft) -> Option<String> {
    let total: usize = draft.left_out.iter().map(|(_, count)| count).sum();
    let networks = draft.left_out.iter().map(|(net, count)| format!("{net} ({count})"));
    let networks: Vec<String> = networks.collect();
    let shown = networks.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    let more = match networks.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let internal: Vec<String> = draft.internal.iter().map(ToString::to_string).collect();
    let internal = internal.join(", ");
    let addresses = if total == 1 { "address" } else { "addresses" };
    (total > 0).then(|| {
        format!("{total} external {addresses} in {shown}{more} (internal prefixes: {internal})")
    })
}

/// Writes the hosts and networks that an inventory does not cover, as text to append to it. A
/// listed network without roles covers nothing. Returns the number of hosts and networks. Hints
/// that `text`, the inventory as it is, does not contain yet follow as comments, which do not
/// count.
pub fn draft_more(
    draft: &Draft,
    matrix: &Matrix,
    listed: &Policy,
    text: &str,
    about: &str,
    out: &mut dyn Write,
) -> io::Result<usize> {
    let inventory = &listed.inventory;
    // An address inside a listed network counts as known, unless the network has no roles: such a
    // network does not describe its hosts.
    let has_roles = |network: usize| !inventory.networks[network].roles.is_empty();
    let is_known = |address: &IpAddr| {
        listed.host_of(*address).is_some() || listed.network(*address).is_some_and(has_roles)
    };
    let names: BTreeSet<&str> = inventory.hosts.iter().map(|host| host.name.as_str()).collect();
    let networks: BTreeSet<&str> = inventory.networks.iter().map(|net| net.name.as_str()).collect();
    let new_hosts = draft.hosts.iter().filter(|host| host.addresses.iter().all(|a| !is_known(a)));
    let new_networks = draft.networks.iter().filter(|net| {
        let known = inventory.networks.iter().filter(|known| !known.roles.is_empty());
        let overlaps = |known: &IpNet| known.contains(&net.cidr) || net.cidr.contains(known);
        !known.map(|known| known.cidr).any(|known| overlaps(&known))
    });
    let (new_hosts, new_networks): (Vec<_>, Vec<_>) = (new_hosts.collect(), new_networks.collect());
    let count = new_hosts.len() + new_networks.len();
    if count > 0 {
        writeln!(out, "\n# Added from {}.", escape_control(about))?;
    }
    for new in new_hosts {
        let taken = names.contains(new.name.as_str()) || networks.contains(new.name.as_str());
        let first = new.addresses.first().map_or_else(String::new, ToString::to_string);
        let name = if taken {
            format!("{}-{}", new.name, first.replace(['.', ':'], "-"))
        } else {
            new.name.clone()
        };
        write_host(new, &name, matrix, out)?;
    }
    let mut numbers = 1..;
    for new in new_networks {
        let name = numbers.by_ref().map(|number| format!("clients{number}"));
        let mut names_left =
            name.filter(|name| !networks.contains(name.as_str()) && !names.contains(name.as_str()));
        let name = names_left.next().unwrap_or_default();
        write_network(new, &name, matrix, out)?;
    }
    let known: BTreeSet<&str> = text.lines().collect();
    for hint in hints(draft, listed).iter().filter(|hint| !known.contains(hint.as_str())) {
        writeln!(out, "\n{hint}")?;
    }
    Ok(count)
}

/// Returns hints about listed hosts, features and the overlay, each as one line of comment.
fn hints(draft: &Draft, listed: &Policy) -> Vec<String> {
    let mut hints = Vec::new();
    for host in &draft.hosts {
        let (known, new): (Vec<&IpAddr>, Vec<&IpAddr>) =
            host.addresses.iter().partition(|address| listed.host_of(**address).is_some());
        if let Some(known) = known.first() {
            hints.extend(
                new.iter().map(|new| {
                    format!("# The host of {known} probably also has the address {new}.")
                }),
            );
        }
    }
    let named = &listed.inventory.features;
    let unnamed = draft.features.iter().filter(|(name, _)| !named.contains_key(*name));
    hints.extend(unnamed.map(|(name, example)| {
        format!(
            "# [farm.features] does not mention the feature {name}, but the captures show its traffic: {}",
            escape_control(example)
        )
    }));
    if let Some((overlay, members)) = &draft.overlay
        && listed.matrix.unused_overlays.iter().any(|row| row.overlay.as_ref() == Some(overlay))
    {
        hints.push(format!(
            "# {members} hosts have traffic that the overlay {overlay} documents. To use it, set overlays = {} in [farm].",
            listed.matrix.overlays_with(overlay)
        ));
    }
    hints
}

/// Writes a client network, with the evidence that its hosts are clients.
fn write_network(
    network: &ClientNetwork,
    name: &str,
    matrix: &Matrix,
    out: &mut dyn Write,
) -> io::Result<()> {
    writeln!(out)?;
    writeln!(
        out,
        "# {} addresses in this network provided no services (those of an overlay do not count). The roles and the prefix are guesses based on this evidence:",
        network.seen
    )?;
    for line in &network.evidence {
        writeln!(out, "#   {}", escape_control(line))?;
    }
    writeln!(out, "[[network]]")?;
    writeln!(out, "name = {}", quoted(name))?;
    writeln!(out, "cidr = \"{}\"", network.cidr)?;
    let roles = matrix.roles.iter().filter(|r| r.is_client()).map(|r| quoted(&r.slug));
    writeln!(out, "roles = [{}]", roles.collect::<Vec<_>>().join(", "))
}

fn write_host(
    host: &DraftHost,
    name: &str,
    matrix: &Matrix,
    out: &mut dyn Write,
) -> io::Result<()> {
    writeln!(out)?;
    let serves: Vec<String> = host
        .serves
        .iter()
        .map(|((transport, port), clients)| {
            let service = service_words(*transport, &port.to_string());
            format!("{service} ({clients})")
        })
        .collect();
    if serves.is_empty() {
        writeln!(out, "# Serves nothing: no connection to it was answered.")?;
    } else {
        writeln!(out, "# Serves (clients): {}", serves.join(", "))?;
    }
    // A virtual address gets no roles of its own, because the roles of its holders apply.
    let held = !host.held_by.is_empty();
    let roles = if held { &[][..] } else { host.roles.as_slice() };
    for guess in roles {
        write_evidence(guess, matrix, out)?;
    }
    if let Some(guess) = host.perhaps.as_ref().filter(|_| !held) {
        let one_of: Vec<&str> = slugs(guess, matrix).collect();
        match one_of.len() {
            0..=NAMED_ROLES => {
                writeln!(out, "# Too little evidence; perhaps {}:", one_of.join(" or "))?
            }
            many => writeln!(out, "# Too little evidence; {many} roles match this traffic:")?,
        }
        write_lines(&guess.evidence, out)?;
    }
    for line in &host.unexplained {
        writeln!(out, "# Not explained by its roles: {}", escape_control(line))?;
    }
    if held {
        writeln!(out, "# A virtual address: its holders advertised it (VRRP).")?;
    }
    writeln!(out, "[[host]]")?;
    writeln!(out, "name = {}", quoted(name))?;
    let addresses: Vec<String> =
        host.addresses.iter().map(IpAddr::to_string).map(|a| quoted(&a)).collect();
    writeln!(out, "addresses = [{}]", addresses.join(", "))?;
    if let Some(mac) = host.mac {
        writeln!(out, "macs = [\"{mac}\"]")?;
    }
    let alike: Vec<&str> = roles.iter().flat_map(|g| slugs(g, matrix).skip(1)).collect();
    let roles: Vec<String> = roles.iter().map(|g| quoted(&matrix.roles[g.role].slug)).collect();
    let guess = match (roles.is_empty(), alike.is_empty()) {
        (true, _) => String::new(),
        (false, true) => "    # a guess".to_owned(),
        (false, false) => {
            format!("    # a guess; {} would have the same traffic", alike.join(" or "))
        }
    };
    writeln!(out, "roles = [{}]{guess}", roles.join(", "))?;
    if held {
        let holders: Vec<String> = host.held_by.iter().map(|holder| quoted(holder)).collect();
        writeln!(out, "held-by = [{}]", holders.join(", "))?;
    }
    Ok(())
}

/// Joins the first few strings, and adds the number of the remaining ones.
fn first_of(texts: &[String]) -> String {
    let shown = texts.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match texts.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Returns the slugs of the roles of a guess, starting with the proposed role.
fn slugs<'m>(guess: &Guess, matrix: &'m Matrix) -> impl Iterator<Item = &'m str> {
    let all = [guess.role].into_iter().chain(guess.or.clone());
    all.map(|role| matrix.roles[role].slug.as_str())
}

fn write_evidence(guess: &Guess, matrix: &Matrix, out: &mut dyn Write) -> io::Result<()> {
    let role = &matrix.roles[guess.role];
    writeln!(out, "# Role: {} ({}), because the host", role.slug, role.name)?;
    write_lines(&guess.evidence, out)
}

/// Writes the first few lines of evidence, and the number of the remaining ones.
fn write_lines(evidence: &[String], out: &mut dyn Write) -> io::Result<()> {
    for line in evidence.iter().take(SHOWN) {
        writeln!(out, "#   {}", escape_control(line))?;
    }
    match evidence.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => writeln!(out, "#   and {more} more"),
    }
}

/// Returns a TOML string in quotes. Control characters, quotes and backslashes are escaped.
fn quoted(text: &str) -> String {
    let escaped = escape_control(text).replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_that_is_left_out_is_counted() {
        let written = |count: usize| {
            let mut out = Vec::new();
            let evidence: Vec<String> = (0..count).map(|line| format!("line {line}")).collect();
            write_lines(&evidence, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert!(written(SHOWN).ends_with("#   line 3\n"));
        assert!(written(SHOWN + 2).ends_with("#   line 3\n#   and 2 more\n"));
    }
}
