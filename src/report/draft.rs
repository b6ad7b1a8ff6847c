//! A drafted inventory as a commented TOML file.

use std::io::{self, Write};
use std::net::IpAddr;

use crate::classify::{Draft, DraftHost, Guess, Matrix, service_words};
use crate::model::clean;

/// Lines of evidence shown of each role.
const SHOWN: usize = 4;

/// So many roles are told by name where too little tells which it is.
const MANY: usize = 5;

/// Servers outside that are told.
const OUTSIDE: usize = 30;

/// Writes a draft; `about` says what it was drafted from.
pub fn draft(draft: &Draft, matrix: &Matrix, about: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "# A draft of an inventory, from {}.", clean(about))?;
    writeln!(out, "#")?;
    writeln!(
        out,
        "# Addresses and served ports were seen. Roles are guesses from the matrix {}: each says what",
        matrix.name
    )?;
    writeln!(
        out,
        "# speaks for it. Correct them, name the hosts, then: rasaudit inventory check FILE"
    )?;
    writeln!(out)?;
    writeln!(out, "[farm]")?;
    writeln!(out, "name = \"My farm\"")?;
    writeln!(out, "matrix = {}", quoted(&matrix.name))?;
    if draft.from_outside > 0 {
        writeln!(
            out,
            "# {} addresses outside opened something inside. If they are users: \"any\".",
            draft.from_outside
        )?;
    }
    writeln!(out, "clients = \"listed\"")?;
    writeln!(out)?;
    writeln!(out, "# Set to true what the farm uses, to false what it does not.")?;
    writeln!(out, "[farm.features]")?;
    for (name, feature) in &matrix.features {
        match draft.features.get(name) {
            Some(example) => writeln!(out, "{name} = true    # a guess: {}", clean(example))?,
            None => writeln!(out, "# {name} = {}    # {}", feature.usual, feature.meaning)?,
        }
    }
    for host in &draft.hosts {
        self::host(host, matrix, out)?;
    }
    for (number, (network, clients)) in draft.networks.iter().enumerate() {
        writeln!(out)?;
        writeln!(
            out,
            "# {clients} addresses that did nothing but what clients do; a guess, as is the prefix."
        )?;
        writeln!(out, "[[network]]")?;
        writeln!(out, "name = \"clients{}\"", number + 1)?;
        writeln!(out, "cidr = \"{network}\"")?;
        let roles = matrix.roles.iter().filter(|r| r.kind == "client").map(|r| quoted(&r.slug));
        writeln!(out, "roles = [{}]", roles.collect::<Vec<_>>().join(", "))?;
    }
    for server in draft.outside.iter().take(OUTSIDE) {
        writeln!(out)?;
        let names = match server.names.as_slice() {
            [] => "no name seen".to_owned(),
            names => some(names),
        };
        let (address, uses) = (server.address, some(&server.uses));
        writeln!(out, "# Outside: {address} ({}): {}", clean(&names), clean(&uses))?;
        match server.role.map(|role| &matrix.roles[role].slug) {
            Some(role) => writeln!(out, "# The rules know it by its name: {role}")?,
            None => {
                writeln!(out, "# [[service]]")?;
                writeln!(out, "# role = \"...\"")?;
                writeln!(out, "# addresses = [\"{address}\"]")?;
            }
        }
    }
    match draft.outside.len().saturating_sub(OUTSIDE) {
        0 => Ok(()),
        more => writeln!(out, "\n# And {more} more servers outside."),
    }
}

fn host(host: &DraftHost, matrix: &Matrix, out: &mut dyn Write) -> io::Result<()> {
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
        writeln!(out, "# Serves nothing that was answered.")?;
    } else {
        writeln!(out, "# Serves (clients): {}", serves.join(", "))?;
    }
    // A virtual address is what its holders are.
    let held = !host.held_by.is_empty();
    let roles = if held { &[][..] } else { host.roles.as_slice() };
    for guess in roles {
        evidence(guess, matrix, out)?;
    }
    if let Some(guess) = host.perhaps.as_ref().filter(|_| !held) {
        let one_of: Vec<&str> = slugs(guess, matrix).collect();
        match one_of.len() {
            0..=MANY => writeln!(out, "# Too little to tell, perhaps {}:", one_of.join(" or "))?,
            many => writeln!(out, "# Too little to tell, {many} roles do as much:")?,
        }
        for line in guess.evidence.iter().take(SHOWN) {
            writeln!(out, "#   {}", clean(line))?;
        }
    }
    for line in &host.unexplained {
        writeln!(out, "# Not explained by its roles: {}", clean(line))?;
    }
    if held {
        writeln!(out, "# A virtual address: its holders advertised it (VRRP).")?;
    }
    writeln!(out, "[[host]]")?;
    writeln!(out, "name = {}", quoted(&host.name))?;
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
        (false, false) => format!("    # a guess; {} would show the same", alike.join(" or ")),
    };
    writeln!(out, "roles = [{}]{guess}", roles.join(", "))?;
    if held {
        let holders: Vec<String> = host.held_by.iter().map(|holder| quoted(holder)).collect();
        writeln!(out, "held-by = [{}]", holders.join(", "))?;
    }
    Ok(())
}

/// The first of some texts.
fn some(texts: &[String]) -> String {
    let shown = texts.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match texts.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The roles of a guess, the proposed one first.
fn slugs<'m>(guess: &Guess, matrix: &'m Matrix) -> impl Iterator<Item = &'m str> {
    let all = [guess.role].into_iter().chain(guess.or.clone());
    all.map(|role| matrix.roles[role].slug.as_str())
}

fn evidence(guess: &Guess, matrix: &Matrix, out: &mut dyn Write) -> io::Result<()> {
    let role = &matrix.roles[guess.role];
    writeln!(out, "# Role: {} ({}), because it", role.slug, role.name)?;
    for line in guess.evidence.iter().take(SHOWN) {
        writeln!(out, "#   {}", clean(line))?;
    }
    if guess.evidence.len() > SHOWN {
        writeln!(out, "#   and {} more", guess.evidence.len() - SHOWN)?;
    }
    Ok(())
}

/// A text in quotes; what steers is written out, and what TOML gives a meaning escaped.
fn quoted(text: &str) -> String {
    let escaped = clean(text).replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}
