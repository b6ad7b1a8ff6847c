//! Shows the port matrix as a map: which roles may communicate, and the result for each pair.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::farm::{Farm, RoleNumber, Standing};
use crate::model::escape_control;
use crate::result::plural;

/// Returns the map as a table instead of a drawing, so that a screen reader can announce its rows
/// and columns, and the keyboard can move between its cells.
pub(super) fn map(farm: &Farm<'_>) -> Markup {
    let shown = farm.pairs.iter().filter(|(_, pair)| pair.standing().is_some());
    let keys: Vec<(RoleNumber, RoleNumber)> = shown.map(|(key, _)| *key).collect();
    // Parties without a role come last.
    let sort_roles = |roles: BTreeSet<RoleNumber>| -> Vec<RoleNumber> {
        let none = roles.contains(&None).then_some(None);
        roles.into_iter().filter(Option::is_some).chain(none).collect()
    };
    let from = sort_roles(keys.iter().map(|(from, _)| *from).collect());
    let to = sort_roles(keys.iter().map(|(_, to)| *to).collect());
    html! {
        section #map aria-labelledby="map-title" {
            h2 #map-title { "The port matrix of this farm" }
            p { "Rows are client roles, and columns are server roles. Select a cell to see its rows of the matrix and its findings." }
            ul.legend {
                @for standing in Standing::ALL {
                    @let (class, flag, meaning) = standing.shown();
                    li { span class={ "cell " (class) } aria-hidden="true" { (flag) } " " (meaning) }
                }
            }
            div.scroll tabindex="0" role="region" aria-label="Map of roles" {
                table.map {
                    thead { tr {
                        td {}
                        @for role in &to { th scope="col" title=(escape_control(farm.title(*role))) { span { (escape_control(farm.short_title(*role))) } } }
                    } }
                    tbody {
                        @for row in &from {
                            tr {
                                th scope="row" title=(escape_control(farm.title(*row))) { (escape_control(farm.short_title(*row))) }
                                @for column in &to { (matrix_cell(farm, *row, *column)) }
                            }
                        }
                    }
                }
            }
            div #cell role="region" aria-label="Selected cell" hidden {}
        }
    }
}

fn matrix_cell(farm: &Farm<'_>, from: RoleNumber, to: RoleNumber) -> Markup {
    let found = farm.pairs.get(&(from, to)).and_then(|pair| Some((pair, pair.standing()?)));
    let Some((pair, standing)) = found else { return html! { td {} } };
    let (class, flag, meaning) = standing.shown();
    let [seen, missing, not_assessable] = pair.counts();
    let mut words = format!("{} to {}: {meaning}", farm.title(from), farm.title(to));
    let counts = [
        (pair.findings, "finding", ""),
        (pair.excepted, "conversation", " permitted by an exception"),
        (pair.rows.len() as u64, "row", " of the matrix"),
        (missing, "row", " missing"),
        (not_assessable, "row", " not assessable"),
        (seen, "row", " seen"),
    ];
    for (count, noun, what) in counts.into_iter().filter(|(count, ..)| *count > 0) {
        words.push_str(&format!("; {}{what}", plural(count, noun)));
    }
    let words = escape_control(&words);
    let rows: Vec<String> = pair.rows.iter().map(ToString::to_string).collect();
    html! {
        td {
            a class={ "cell " (class) } title=(words) aria-label=(words) data-rows=(rows.join(" "))
                data-findings=(pair.findings) href={ "#map?cell=" (farm.slug(from)) "~" (farm.slug(to)) } { (flag) }
        }
    }
}
