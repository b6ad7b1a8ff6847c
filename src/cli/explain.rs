//! Implements `rasaudit explain`, which shows whether the matrix documents some traffic, with the
//! rows that document it or come closest.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};

use super::args::ExplainArguments;
use super::exit::Exit;
use super::policy::{RulesWanted, load_matrix, load_policy, report_errors};
use super::{print_result, report_error};
use crate::classify::{Answer, Judge, Party, Policy, Question, Verdict, conditions_of_absence};
use crate::model::{escape_control, service_words};
use crate::policy::{
    Certainty, FeatureState, Inventory, PartyKind, Pattern, RoleSet, Row, nearest,
};

/// One end of the traffic, as the user named it.
struct QuestionEnd {
    party: Party,
    address: IpAddr,
    /// The DNS name of a host that is not in the inventory.
    name: Option<String>,
    broadcast: bool,
    /// Whether this end is the same host as the other end.
    itself: bool,
    words: String,
}

pub(super) fn run(arguments: &ExplainArguments) -> io::Result<Exit> {
    let policy = match &arguments.inventory {
        Some(file) => {
            let matrix = arguments.matrix.as_deref();
            load_policy(file, &RulesWanted { matrix, overlays: &arguments.overlays, rules: None })
        }
        None => load_matrix(
            "--matrix",
            arguments.matrix.as_deref().unwrap_or(crate::policy::MATRICES[0]),
            &[],
        )
        .map(|matrix| Policy::new(matrix, Inventory::without_hosts())),
    };
    let policy = match policy {
        Ok(policy) => policy,
        Err(problems) => {
            report_errors(&problems);
            return Ok(Exit::CannotDo);
        }
    };
    let ends = (parse_end(&policy, &arguments.from), parse_end(&policy, &arguments.to));
    let (from, to) = match ends {
        (Ok(from), Ok(to)) => (from, to),
        (from, to) => {
            for message in [from.err(), to.err()].into_iter().flatten() {
                report_error(&message);
            }
            return Ok(Exit::CannotDo);
        }
    };
    if from.itself || from.broadcast {
        report_error(
            "--from must be the client, which cannot be localhost or a broadcast or multicast address",
        );
        return Ok(Exit::CannotDo);
    }
    let (port, transport) = arguments.port;
    let localhost = IpAddr::from(Ipv4Addr::LOCALHOST);
    let question = Question {
        from: from.party,
        to: if to.itself { from.party } else { to.party },
        client: if to.itself { localhost } else { from.address },
        server: if to.itself { localhost } else { to.address },
        transport,
        port,
        broadcast: to.broadcast,
        name: to.name.clone(),
    };
    let judge = match arguments.inventory {
        Some(_) => Judge::new(&policy),
        None => Judge::of_any_farm(&policy),
    };
    let answer = judge.answer(&question);
    let mut out = Vec::new();
    if let Some(members) = answer_by_member(&judge, &question) {
        let all_documented = members.iter().all(|(_, _, documented)| *documented);
        print_members(&policy, arguments, &members, &mut out)?;
        print_result(&out)?;
        return Ok(if all_documented { Exit::Compliant } else { Exit::Findings });
    }
    let documented = is_documented(answer.ruling.code.verdict());
    print_answer(&policy, (&from, &to), arguments, &answer, &mut out)?;
    print_result(&out)?;
    Ok(if documented { Exit::Compliant } else { Exit::Findings })
}

/// Returns whether traffic with this verdict needs no attention. Background traffic counts as
/// documented.
fn is_documented(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Documented | Verdict::Background)
}

/// If the user named a group and the answer differs between its members, returns each pair of roles
/// and whether the traffic between them is documented. Otherwise, returns `None`. An end that the
/// user did not name by roles has `usize::MAX` in place of a role.
fn answer_by_member(judge: &Judge<'_>, question: &Question) -> Option<Vec<(usize, usize, bool)>> {
    let roles_of = |party: &Party| -> Vec<usize> {
        match party.kind {
            PartyKind::RolesOnly => party.roles.iter().collect(),
            _ => Vec::new(),
        }
    };
    let from = roles_of(&question.from);
    let to = roles_of(&question.to);
    let mut pairs = Vec::new();
    let many = from.len() > 1 || to.len() > 1;
    for source in from.iter().map(|r| Some(*r)).chain(from.is_empty().then_some(None)) {
        for target in to.iter().map(|r| Some(*r)).chain(to.is_empty().then_some(None)) {
            let with_role = |party: Party, role: Option<usize>| match role {
                Some(role) => Party { roles: RoleSet::one(role), ..party },
                None => party,
            };
            let question = Question {
                from: with_role(question.from, source),
                to: with_role(question.to, target),
                name: question.name.clone(),
                ..*question
            };
            let documented = is_documented(judge.answer(&question).ruling.code.verdict());
            pairs.push((source.unwrap_or(usize::MAX), target.unwrap_or(usize::MAX), documented));
        }
    }
    let differ = pairs.iter().any(|p| p.2) && pairs.iter().any(|p| !p.2);
    (many && differ).then_some(pairs)
}

fn print_members(
    policy: &Policy,
    arguments: &ExplainArguments,
    members: &[(usize, usize, bool)],
    out: &mut dyn Write,
) -> io::Result<()> {
    let service = service_words(arguments.port.1, &arguments.port.0.to_string());
    let a = escape_control(&arguments.from);
    let b = escape_control(&arguments.to);
    writeln!(out, "{service} from {a} to {b} is documented only for some pairs of roles:")?;
    let slug = |role: usize, other: &str| {
        policy.matrix.roles.get(role).map_or_else(|| other.to_owned(), |role| role.slug.clone())
    };
    for (source, target, documented) in members {
        let word = if *documented { "yes" } else { "no" };
        writeln!(out, "  {word:<4} {} > {}", slug(*source, &a), slug(*target, &b))?;
    }
    Ok(())
}

/// Parses one end: a host or network of the inventory, an address, a role or group, a DNS name,
/// `broadcast` or `localhost`.
fn parse_end(policy: &Policy, text: &str) -> Result<QuestionEnd, String> {
    let nowhere = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let stranger = Party { kind: PartyKind::Stranger, roles: RoleSet::default() };
    let end = |party, address, words| QuestionEnd {
        party,
        address,
        name: None,
        broadcast: false,
        itself: false,
        words,
    };
    let hosts = &policy.inventory.hosts;
    if let Some(number) = hosts.iter().position(|host| host.name.eq_ignore_ascii_case(text)) {
        let party = Party { kind: PartyKind::Host(number), roles: hosts[number].roles };
        let address = hosts[number].addresses.first().copied().unwrap_or(nowhere);
        return Ok(end(party, address, policy.describe(&party)));
    }
    let networks = &policy.inventory.networks;
    if let Some(number) = networks.iter().position(|own| own.name.eq_ignore_ascii_case(text)) {
        let party = Party { kind: PartyKind::Network(number), roles: networks[number].roles };
        let is_own = |address: &IpAddr| policy.party(*address, []).kind == party.kind;
        // The addresses of listed hosts, and of networks with a longer prefix, do not stand for the
        // network.
        let mut addresses = networks[number].cidr.hosts().take(1 << 16);
        let address = addresses.find(is_own).unwrap_or(nowhere);
        return Ok(end(party, address, policy.describe(&party)));
    }
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        if address.is_loopback() {
            return Ok(QuestionEnd {
                itself: true,
                ..end(stranger, nowhere, "the host itself".to_owned())
            });
        }
        let party = policy.party(address, []);
        let broadcast = address.is_multicast() || policy.is_everybody(address);
        return Ok(QuestionEnd { broadcast, ..end(party, address, policy.describe(&party)) });
    }
    match text {
        "broadcast" => {
            let words = "all hosts on the link".to_owned();
            return Ok(QuestionEnd {
                broadcast: true,
                ..end(stranger, Ipv4Addr::BROADCAST.into(), words)
            });
        }
        "localhost" => {
            return Ok(QuestionEnd {
                itself: true,
                ..end(stranger, nowhere, "the host itself".to_owned())
            });
        }
        _ => {}
    }
    match policy.matrix.roles_named(text) {
        Ok(roles) => {
            let words = policy.matrix.role_titles(roles).join(", or ");
            Ok(end(Party { kind: PartyKind::RolesOnly, roles }, nowhere, words))
        }
        Err(_) if text.chars().all(|c| c.is_ascii_digit() || ".:/".contains(c)) => {
            Err(format!("\"{text}\" is not an IP address"))
        }
        Err(_) if is_host_name(text) => {
            let (name, words) = (Some(text.to_lowercase()), "a host known by name".to_owned());
            let outside = IpAddr::from(Ipv4Addr::new(198, 51, 100, 1));
            Ok(QuestionEnd { name, ..end(stranger, outside, words) })
        }
        Err(_) => {
            let roles = policy.matrix.roles.iter().map(|role| role.slug.as_str());
            let known = hosts.iter().map(|host| host.name.as_str()).chain(roles);
            let near = nearest(text, known.chain(networks.iter().map(|own| own.name.as_str())));
            Err(format!(
                "\"{text}\" is not a host or network of the inventory, a role, an address or a DNS name{near}"
            ))
        }
    }
}

/// Prints the conditions under which an audit reports the traffic as missing.
fn print_conditions_of_absence(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out)?;
    writeln!(
        out,
        "If neither this connection nor any other of the same group in the matrix is made, an audit reports it as missing, provided that all of these conditions hold. Otherwise, it reports the first condition that does not hold:"
    )?;
    for condition in conditions_of_absence() {
        writeln!(out, "  {:<17} {}", condition.code, condition.words)?;
    }
    Ok(())
}

/// Returns whether a string can be a DNS name: a pattern with a dot and without a star.
fn is_host_name(text: &str) -> bool {
    text.contains('.') && !text.contains('*') && Pattern::parse(text).is_ok()
}

fn print_answer(
    policy: &Policy,
    (from, to): (&QuestionEnd, &QuestionEnd),
    arguments: &ExplainArguments,
    answer: &Answer<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let code = answer.ruling.code;
    let documented = matches!(code.verdict(), Verdict::Documented | Verdict::Background);
    let service = service_words(arguments.port.1, &arguments.port.0.to_string());
    let listed = policy.background(arguments.port.1, arguments.port.0);
    let verdict = match code.verdict() {
        Verdict::Documented => "is documented",
        Verdict::Background if listed.is_none() => "stays inside a host",
        Verdict::Background => "is background traffic that occurs on any network",
        _ => "is not documented",
    };
    let a = escape_control(&arguments.from);
    let b = escape_control(&arguments.to);
    writeln!(out, "{service} from {a} to {b} {verdict} ({}/{code}).", code.verdict())?;
    writeln!(out)?;
    writeln!(out, "From      {}", escape_control(&from.words))?;
    writeln!(out, "To        {}", escape_control(&to.words))?;
    if let Some(row) = answer.ruling.row().map(|row| &policy.matrix.rows[row]) {
        let title = if documented { "Row" } else { "Nearest" };
        print_row(policy, title, row, out)?;
    }
    let others = answer.documenting.iter().filter(|row| {
        answer.ruling.row().is_none_or(|decided| policy.matrix.rows[decided].id != row.id)
    });
    for row in others {
        print_row(policy, "Also", row, out)?;
    }
    if code.verdict() == Verdict::Background {
        return match listed {
            Some(entry) => writeln!(
                out,
                "Listed    {}, as background traffic that occurs on any network",
                entry.id
            ),
            None => writeln!(out, "Reason    the matrix is about traffic between hosts"),
        };
    }
    if code.verdict() == Verdict::Documented {
        let decided = answer.ruling.row().map(|row| &policy.matrix.rows[row]);
        return if decided.is_some_and(|row| row.is_expected()) {
            print_conditions_of_absence(out)
        } else {
            Ok(())
        };
    }
    const SHOWN: usize = 8;
    let lists = [
        ("From this client to this server, the matrix documents other ports:", &answer.other_ports),
        ("Other roles may connect to this port:", &answer.for_others),
    ];
    for (title, rows) in lists {
        // The nearest row has already been printed.
        let is_printed = |row: &&Row| {
            answer.ruling.row().is_some_and(|nearest| policy.matrix.rows[nearest].id == row.id)
        };
        let rows: Vec<&Row> = rows.iter().copied().filter(|row| !is_printed(row)).collect();
        if rows.is_empty() {
            continue;
        }
        writeln!(out)?;
        writeln!(out, "{title}")?;
        for row in rows.iter().take(SHOWN) {
            writeln!(out, "  {}", row_words(policy, row))?;
        }
        if rows.len() > SHOWN {
            writeln!(out, "  and {} more", rows.len() - SHOWN)?;
        }
    }
    let has_no_hint = answer.other_ports.is_empty() && answer.for_others.is_empty();
    if has_no_hint && answer.documenting.is_empty() {
        writeln!(out)?;
        writeln!(
            out,
            "No row allows traffic from this client to this server, and none documents this port of the server."
        )?;
    }
    Ok(())
}

fn row_words(policy: &Policy, row: &Row) -> String {
    let from = &policy.matrix.roles[row.source].slug;
    let to = policy.matrix.destination_text(row);
    let service = service_words(row.transport, &row.ports_text());
    let off = match policy.feature_state(row) {
        FeatureState::Off => "; needs a feature that is off",
        _ => "",
    };
    format!("{from} > {to}: {service} ({}; {}{off})", row.purpose, row.id)
}

/// Returns a sentence that says where a row comes from and how certain it is.
fn source_words(row: &Row) -> String {
    let provenance = match row.provenance.strip_prefix("kb-").and_then(|kb| kb.split_once(' ')) {
        Some((article, place)) => format!("the vendor's article {article}, {place}"),
        None => row.provenance.clone(),
    };
    match row.certainty {
        Certainty::Document => format!("Stated in the document: {provenance}."),
        Certainty::Completed => format!(
            "The document is damaged or incomplete here ({provenance}); the row was completed from other public pages of the vendor."
        ),
        Certainty::Inferred => {
            format!(
                "Inferred from the document ({provenance}), which does not state this row explicitly."
            )
        }
        Certainty::Doubtful => {
            format!(
                "The document is ambiguous, so nothing based on this row is certain: {provenance}."
            )
        }
    }
}

/// Returns a note without its references to open questions, such as `(U5)`, which are explained
/// only in the `sources.md` of the rules.
fn without_marks(note: &str) -> String {
    let mut pieces = note.split(" (U");
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let digits = piece.bytes().take_while(u8::is_ascii_digit).count();
        match piece[digits..].strip_prefix(')').filter(|_| digits > 0) {
            Some(after_mark) => text.push_str(after_mark),
            None => text.extend([" (U", piece]),
        }
    }
    text
}

/// Prints a row and what it is based on.
fn print_row(policy: &Policy, title: &str, row: &Row, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{title:<9} {}", row_words(policy, row))?;
    writeln!(out, "          {}", source_words(row))?;
    let note = without_marks(&row.note);
    if !note.is_empty() {
        writeln!(out, "          Note: {note}")?;
    }
    for name in &row.features {
        let state = match policy.inventory.features.get(name) {
            Some(true) => "on",
            Some(false) => "off",
            None => "not in the inventory",
        };
        let meaning = policy.matrix.features.get(name).map_or("", |f| f.meaning.as_str());
        writeln!(out, "          needs the feature {name} ({meaning}), which is {state}")?;
    }
    if policy.feature_state(row) == FeatureState::Off {
        writeln!(out, "          while one of its features is off, this row documents no traffic")?;
    }
    if let Some(mapper) = row.announced_by {
        writeln!(
            out,
            "          certain only if the capture shows that an endpoint mapper (TCP {mapper}) announced the port"
        )?;
    }
    Ok(())
}
