//! Writes JSON in three layouts: indented, one line for each row of a table, or everything on one
//! line. Control characters, invisible characters, and characters that change the text direction
//! are escaped, which does not change the values.

use std::io::{self, Write};

use serde_json::Serializer;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

use crate::model::{is_control_or_bidi, is_plain};

/// Returns a serializer that writes indented JSON.
pub(super) fn pretty<W: Write>(
    out: W,
) -> Serializer<W, EscapingFormatter<PrettyFormatter<'static>>> {
    Serializer::with_formatter(out, EscapingFormatter(PrettyFormatter::new()))
}

/// Returns a serializer that puts each member of the outer object on a line of its own. If a member
/// is an array or an object, each of its items also has its own line. Everything inside an item is
/// written without white space.
pub(super) fn compact<W: Write>(out: W) -> Serializer<W, EscapingFormatter<LineFormatter>> {
    Serializer::with_formatter(out, EscapingFormatter(LineFormatter::default()))
}

/// A layout with the two outer levels on separate lines, so that line-based programs such as `grep`
/// find the rows of tables.
#[derive(Default)]
pub(super) struct LineFormatter {
    /// The number of arrays and objects that are open.
    depth: usize,
}

impl LineFormatter {
    /// The number of outer levels that have separate lines.
    const SEPARATE: usize = 2;

    fn begin(&mut self, out: &mut (impl ?Sized + Write), bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        out.write_all(bracket)
    }

    fn end(&mut self, out: &mut (impl ?Sized + Write), bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        out.write_all(bracket)
    }

    fn item(&mut self, out: &mut (impl ?Sized + Write), first: bool) -> io::Result<()> {
        let is_separate = self.depth <= Self::SEPARATE;
        out.write_all(match (first, is_separate) {
            (true, true) => b"\n",
            (true, false) => b"",
            (false, true) => b",\n",
            (false, false) => b",",
        })
    }
}

impl Formatter for LineFormatter {
    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.begin(out, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.end(out, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.item(out, first)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.begin(out, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.end(out, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.item(out, first)
    }
}

pub(super) struct EscapingFormatter<F>(F);

impl EscapingFormatter<CompactFormatter> {
    /// Returns a formatter that writes everything on one line.
    pub fn one_line() -> Self {
        Self(CompactFormatter)
    }
}

/// Defines methods that delegate the layout to the inner formatter.
macro_rules! delegate {
    ($($method:ident($($argument:ident: $type:ty)?)),+) => {$(
        fn $method<W: ?Sized + Write>(&mut self, out: &mut W $(, $argument: $type)?) -> io::Result<()> {
            self.0.$method(out $(, $argument)?)
        }
    )+};
}

impl<F: Formatter> Formatter for EscapingFormatter<F> {
    delegate!(
        begin_array(), end_array(), begin_array_value(first: bool), end_array_value(),
        begin_object(), end_object(), begin_object_key(first: bool), begin_object_value(),
        end_object_value()
    );

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if is_plain(fragment) {
            return out.write_all(fragment.as_bytes());
        }
        let mut start = 0;
        for (at, c) in fragment.char_indices().filter(|(_, c)| is_control_or_bidi(*c)) {
            out.write_all(&fragment.as_bytes()[start..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            start = at + c.len_utf8();
        }
        out.write_all(&fragment.as_bytes()[start..])
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize as _;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_steers_is_escaped_and_nothing_is_lost() {
        let value = json!({"a\u{202e}": ["\u{9b}31m", "plain \"é\" \\ \n", "\u{7f}", {}, []]});
        let mut text = Vec::new();
        value.serialize(&mut pretty(&mut text)).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("\"a\\u202e\"") && text.contains("\"\\u009b31m\""), "{text}");
        assert!(!text.chars().any(|c| is_control_or_bidi(c) && c != '\n'), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        let mut text = Vec::new();
        value.serialize(&mut compact(&mut text)).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("\"a\\u202e\"") && text.contains("\"\\u009b31m\""), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        // Apart from the escapes, the output equals that of `serde_json`.
        let plain = json!({"a": [1, "b"], "c": {}});
        let mut text = Vec::new();
        plain.serialize(&mut pretty(&mut text)).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), serde_json::to_string_pretty(&plain).unwrap());
    }

    #[test]
    fn each_row_of_a_table_has_a_line() {
        let value = json!({"rows": [{"a": [1, 2]}, {"b": {}}], "schema": "s", "empty": []});
        let mut text = Vec::new();
        value.serialize(&mut compact(&mut text)).unwrap();
        let lines = "{\n\"empty\":[],\n\"rows\":[\n{\"a\":[1,2]},\n{\"b\":{}}],\n\"schema\":\"s\"}";
        assert_eq!(String::from_utf8(text).unwrap(), lines);
    }
}
