//! The section of the findings. The script fills its table.

use maud::{Markup, html};

use super::wording::severity;
use crate::model::escape_control;
use crate::result::FindingRow;

/// The maximum number of findings that a browser without JavaScript shows, worst first.
const WITHOUT_SCRIPT: usize = 50;

/// Returns the section of the findings. The script fills its table.
pub(super) fn section(findings: &[FindingRow<'_>]) -> Markup {
    html! {
        section #findings aria-labelledby="findings-title" {
            h2 #findings-title { "Findings" }
            noscript {
                p.warning { "The table of findings needs JavaScript. These are the worst findings; findings.csv lists all." }
                ol { @for finding in findings.iter().take(WITHOUT_SCRIPT) { (without_script(finding)) } }
            }
            form #filters role="search" aria-label="Filter findings" hidden {
                label { "Text" input type="search" name="text" autocomplete="off"; }
                label { "Severity" select name="severity" { option value="" { "all" } } }
                label { "Verdict" select name="verdict" { option value="" { "all" } } }
                label { "Code" select name="code" { option value="" { "all" } } }
                label { "Role" select name="role" { option value="" { "all" } } }
                label { "From" select name="from" { option value="" { "all" } } }
                label { "To" select name="to" { option value="" { "all" } } }
                label { "Host" input type="search" name="host" autocomplete="off"; }
                label { "Port" input type="search" name="port" inputmode="numeric" autocomplete="off"; }
                button #reset type="reset" { "Clear" }
            }
            p #count role="status" {}
            div.scroll tabindex="0" role="region" aria-label="Table of findings" {
                table #list hidden {
                    thead { tr {
                        @for (key, label) in [
                            ("severity", "Severity"), ("verdict", "Verdict"), ("client", "From"),
                            ("server", "To"), ("port", "Port"), ("count", "Count"), ("message", "Finding"),
                        ] {
                            th scope="col" data-key=(key) { button type="button" { (label) } }
                        }
                    } }
                    tbody {}
                }
            }
            nav #pages aria-label="Pages of findings" hidden {}
        }
    }
}

/// Returns a finding for browsers without JavaScript.
fn without_script(finding: &FindingRow<'_>) -> Markup {
    html! {
        li {
            (severity(&finding.severity)) " " (finding.verdict) "/" (finding.code) ": "
            (escape_control(&finding.message)) ". " (escape_control(&finding.action))
            @if !finding.certain { " " span.tag { "not certain" } }
        }
    }
}
