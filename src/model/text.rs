//! Escapes text from hostile sources for terminals, reports and spreadsheets.

use std::borrow::Cow;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

/// Returns whether a character could control a terminal, reorder text or hide in it: a control
/// character, a separator of lines, a formatting character (general category Cf of Unicode), or
/// another character that is invisible.
pub fn is_control_or_bidi(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
            | '\u{890}' | '\u{891}' | '\u{8e2}' | '\u{115f}' | '\u{1160}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}'
            | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Escapes the characters that [`is_control_or_bidi`] finds, for example as `\u{1b}`.
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
    let is_sentence = ["is ", "was ", "cannot "].iter().any(|verb| reason.starts_with(verb));
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

/// Writes an address as text into memory, an IPv4 address faster than [`std::fmt::Display`] does.
/// Such a writer cannot fail.
pub fn write_address(out: &mut impl Write, address: IpAddr) {
    let _ = match address {
        IpAddr::V4(address) => {
            let (text, length) = format_ipv4(address);
            out.write_str(std::str::from_utf8(&text[..length]).unwrap_or_default())
        }
        IpAddr::V6(address) => write!(out, "{address}"),
    };
}

/// Each octet of an IPv4 address as text, followed by a dot, and the length of both.
const OCTETS: [([u8; 4], usize); 256] = {
    let mut octets = [([b'.'; 4], 0); 256];
    let mut octet = 0;
    while octet < octets.len() {
        let digits = [octet / 100, octet / 10 % 10, octet % 10];
        let mut place = if octet >= 100 {
            0
        } else if octet >= 10 {
            1
        } else {
            2
        };
        let (text, length) = &mut octets[octet];
        while place < digits.len() {
            text[*length] = b'0' + digits[place] as u8;
            *length += 1;
            place += 1;
        }
        *length += 1;
        octet += 1;
    }
    octets
};

/// Returns an IPv4 address as text, and the length of the text.
fn format_ipv4(address: Ipv4Addr) -> ([u8; 16], usize) {
    let mut text = [0; 16];
    let mut length = 0;
    for octet in address.octets() {
        let (own, more) = &OCTETS[usize::from(octet)];
        text[length..length + own.len()].copy_from_slice(own);
        length += more;
    }
    // The last dot does not belong to the text.
    (text, length - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_the_usual_text() {
        let parts = [0, 9, 10, 99, 100, 255];
        let pairs = parts.into_iter().flat_map(|a| parts.map(|b| (a, b)));
        let v4 = pairs.map(|(a, b)| Ipv4Addr::new(a, b, b, a).into());
        for address in v4.chain(["fe80::1".parse().unwrap()]) {
            let mut text = String::new();
            write_address(&mut text, address);
            assert_eq!(text, address.to_string());
        }
    }

    #[test]
    fn formulas_and_escapes_are_disarmed() {
        assert_eq!(escape_csv_formula("=1+1"), "'=1+1");
        assert_eq!(escape_csv_formula(" @SUM(A1)"), "' @SUM(A1)");
        assert_eq!(escape_csv_formula("\t=cmd"), "\\u{9}=cmd");
        assert_eq!(escape_csv_formula("a;=1+1;b"), "a;'=1+1;b");
        assert_eq!(escape_csv_formula("10.0.0.1"), "10.0.0.1");
        assert_eq!(escape_csv_formula("*"), "*");
        assert_eq!(escape_control("a\u{1b}[31mb\u{202e}c"), "a\\u{1b}[31mb\\u{202e}c");
        // A bidirectional mark, a tag (hidden text), and a filler.
        for hidden in ['\u{61c}', '\u{e0041}', '\u{3164}'] {
            assert!(is_control_or_bidi(hidden), "{hidden:?}");
        }
        assert_eq!(escape_control("Zürich 東京"), "Zürich 東京");
    }
}
