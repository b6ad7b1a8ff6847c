//! Escapes text from hostile sources for terminals, reports and spreadsheets.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Returns whether a character could control a terminal or reorder text: a control character, or a
/// bidirectional or invisible formatting character.
pub fn is_control_or_bidi(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Escapes all control and formatting characters, for example as `\u{1b}`.
pub fn escape_control(text: &str) -> Cow<'_, str> {
    if is_plain(text) || !text.chars().any(is_control_or_bidi) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_control_or_bidi(c) {
            let _ = write!(escaped, "\\u{{{:x}}}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// Joins the name of an input and the reason why it cannot be read. A reason that begins with a
/// verb forms a sentence with the name. Any other reason follows a colon.
pub fn name_and_reason(name: &str, reason: &str) -> String {
    let is_sentence = ["is ", "cannot "].iter().any(|verb| reason.starts_with(verb));
    format!("{name}{} {reason}", if is_sentence { "" } else { ":" })
}

/// Returns whether a string consists only of printable ASCII, as nearly all strings in a report do.
/// Such a string contains no control characters.
pub fn is_plain(text: &str) -> bool {
    // The loop has no early exit, so that the compiler can vectorize it.
    text.bytes().fold(true, |plain, byte| plain & (byte.wrapping_sub(b' ') < 0x5f))
}

/// Escapes control characters in a cell, and ensures that no spreadsheet treats it as a formula.
/// Text that starts like a formula is prefixed with an apostrophe, which marks plain text in
/// spreadsheets. Each piece after a semicolon is treated the same way, because spreadsheets in some
/// locales split cells there.
pub fn escape_csv_formula(text: &str) -> Cow<'_, str> {
    let starts_plainly = text.bytes().next().is_none_or(|byte| byte.is_ascii_alphanumeric());
    if starts_plainly && is_plain(text) && !text.contains(';') {
        return Cow::Borrowed(text);
    }
    let text = escape_control(text);
    let is_formula = |piece: &str| {
        let first = piece.trim_start().chars().next();
        first.is_some_and(|c| {
            matches!(c, '=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠' | '|' | '%')
        })
    };
    if !text.split(';').any(is_formula) {
        return text;
    }
    let guard = |piece| {
        if is_formula(piece) { format!("'{piece}") } else { piece.to_owned() }
    };
    Cow::Owned(text.split(';').map(guard).collect::<Vec<_>>().join(";"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_and_escapes_are_disarmed() {
        assert_eq!(escape_csv_formula("=1+1"), "'=1+1");
        assert_eq!(escape_csv_formula(" @SUM(A1)"), "' @SUM(A1)");
        assert_eq!(escape_csv_formula("\t=cmd"), "\\u{9}=cmd");
        assert_eq!(escape_csv_formula("a;=1+1;b"), "a;'=1+1;b");
        assert_eq!(escape_csv_formula("10.0.0.1"), "10.0.0.1");
        assert_eq!(escape_csv_formula("*"), "*");
        assert_eq!(escape_control("a\u{1b}[31mb\u{202e}c"), "a\\u{1b}[31mb\\u{202e}c");
    }
}
