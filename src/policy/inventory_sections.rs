//! Divides a TOML inventory into sections that are parsed separately.
//!
//! A parsed document needs about 1.5 KiB for each host. If there are many hosts, it takes longer to
//! obtain this memory than to parse the document.

use memchr::{memchr_iter, memmem};

/// A section of a text.
pub(super) struct Section<'t> {
    /// The byte offset of the section in the text.
    pub(super) offset: usize,
    /// The text of the section.
    pub(super) text: &'t str,
}

impl Section<'_> {
    /// Returns whether the section begins with a host. Other tables may follow the hosts of the
    /// section.
    pub(super) fn begins_with_host(&self) -> bool {
        self.text.starts_with(HOST)
    }
}

/// The header that begins a host.
const HOST: &str = "[[host]]";

/// A line break and [`HOST`].
const HOST_ON_NEW_LINE: &str = "\n[[host]]";

/// The maximum number of hosts in a section.
pub(super) const HOSTS: usize = 64;

/// Divides a text before the first line that begins with `[[host]]` and then before every 64th
/// such line. Returns at least one section. If all sections are valid, none of these lines is
/// inside a string or an array, because either would be incomplete in the section before the line.
pub(super) fn sections(text: &str) -> Vec<Section<'_>> {
    let mut starts = vec![0];
    let first = text.starts_with(HOST).then_some(0);
    let later = memmem::find_iter(text.as_bytes(), HOST_ON_NEW_LINE).map(|at| at + 1);
    starts.extend(first.into_iter().chain(later).step_by(HOSTS).filter(|start| *start > 0));
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(start, end)| Section { offset: *start, text: &text[*start..end] })
        .collect()
}

/// Returns the byte offsets at which the lines after the first start.
pub(super) fn line_starts(text: &str) -> impl Iterator<Item = usize> {
    memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1)
}

/// A host in the usual form, with the lines of its values.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct PlainHost<'t> {
    /// The line of the header, counted from 0 in the section.
    pub(super) line: usize,
    pub(super) name: &'t str,
    pub(super) addresses: Vec<(&'t str, usize)>,
    pub(super) roles: Vec<(&'t str, usize)>,
    pub(super) site: Option<&'t str>,
}

/// The values of a host that have been read so far.
#[derive(Default)]
struct PartialHost<'t> {
    line: usize,
    name: Option<&'t str>,
    addresses: Option<Vec<(&'t str, usize)>>,
    roles: Option<Vec<(&'t str, usize)>>,
    site: Option<&'t str>,
}

impl<'t> PartialHost<'t> {
    fn finish(self) -> Option<PlainHost<'t>> {
        let Self { line, name, addresses, roles, site } = self;
        Some(PlainHost { line, name: name?, addresses: addresses?, roles: roles?, site })
    }
}

/// Reads the hosts of a section in which each host has a name, addresses, roles and at most a site,
/// each on a line of its own, as strings without escapes. Returns `None` if the section contains
/// anything else, which then needs a TOML parser.
pub(super) fn plain_hosts(section: &str) -> Option<Vec<PlainHost<'_>>> {
    let mut hosts = Vec::new();
    let mut host: Option<PartialHost<'_>> = None;
    let mut rest = Some(section);
    let lines = std::iter::from_fn(|| {
        let line;
        (line, rest) = split_line(rest?);
        Some(line)
    });
    for (number, line) in lines.enumerate() {
        let line = line?;
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line == HOST {
            if let Some(complete) = host.take() {
                hosts.push(complete.finish()?);
            }
            host = Some(PartialHost { line: number, ..PartialHost::default() });
            continue;
        }
        let host = host.as_mut()?;
        let (key, value) = split_at_byte(line, |byte| byte == b'=')?;
        let value = value[1..].trim_start_matches(SPACES);
        let is_new = match key.trim_end_matches(SPACES) {
            key @ ("name" | "site") => {
                let (text, rest) = plain_string(value)?;
                let place = if key == "name" { &mut host.name } else { &mut host.site };
                place.replace(text).is_none() && rest.is_empty()
            }
            "addresses" => host.addresses.replace(plain_list(value, number)?).is_none(),
            "roles" => host.roles.replace(plain_list(value, number)?).is_none(),
            _ => false,
        };
        if !is_new {
            return None;
        }
    }
    hosts.push(host?.finish()?);
    Some(hosts)
}

const SPACES: [char; 2] = [' ', '\t'];

/// Divides a text before the first byte, which must be ASCII, for which `is_end` returns true.
/// Returns `None` if there is none. Lines and strings are so short that a search which prepares
/// itself first, such as that of the standard library, would take longer.
fn split_at_byte(text: &str, is_end: impl Fn(u8) -> bool) -> Option<(&str, &str)> {
    text.split_at_checked(text.bytes().position(is_end)?)
}

/// Returns the first line of a text, without spaces at its ends, and the text after its line break
/// (`None` if it has none). The line is `None` if it contains a control character.
fn split_line(text: &str) -> (Option<&str>, Option<&str>) {
    let is_control = |byte: u8| byte.is_ascii_control() && byte != b'\t';
    let (line, after) = match split_at_byte(text, is_control) {
        None => (text, None),
        Some((line, rest)) => match rest.strip_prefix('\n').or(rest.strip_prefix("\r\n")) {
            Some(after) => (line, Some(after)),
            // A carriage return may end the text.
            None if rest == "\r" => (line, None),
            None => return (None, None),
        },
    };
    (Some(line.trim_matches(SPACES)), after)
}

/// Returns the string at the start of `text`, and the rest of the line; `None` if there is no
/// string, or if it contains escapes.
fn plain_string(text: &str) -> Option<(&str, &str)> {
    let is_end = |byte| byte == b'"' || byte == b'\\';
    let (string, rest) = split_at_byte(text.strip_prefix('"')?, is_end)?;
    Some((string, rest.strip_prefix('"')?))
}

/// Returns the strings of a list that ends at the end of the line, each with the number of the
/// line; `None` if `text` is anything else.
fn plain_list(text: &str, line: usize) -> Option<Vec<(&str, usize)>> {
    let mut list = Vec::new();
    let mut rest = text.strip_prefix('[')?.trim_start_matches(SPACES);
    while rest != "]" {
        let (string, after) = plain_string(rest)?;
        list.push((string, line));
        rest = after.trim_start_matches(SPACES);
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start_matches(SPACES),
            None if rest == "]" => {}
            None => return None,
        }
    }
    Some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_begin_with_a_host_and_contain_the_whole_text() {
        let host = "[[host]]\nname = \"a\"\n";
        let text = format!("[farm]\n{}", host.repeat(2 * HOSTS + 1));
        let sections = sections(&text);
        assert_eq!(sections.len(), 4);
        assert!(sections[1..].iter().all(|section| section.text.starts_with(HOST)));
        assert_eq!(sections.iter().map(|section| section.text).collect::<String>(), text);
        assert!(sections.iter().all(|section| text[section.offset..].starts_with(section.text)));
    }

    #[test]
    fn plain_hosts_are_read_and_anything_else_is_left_to_toml() {
        let host = "[[host]]\nname = \"a\"\naddresses=[ \"10.0.0.1\", \"fd00::1\",]\n\n# x\nroles = []\r\n";
        let text = format!("{host}{host}");
        let hosts = plain_hosts(&text).unwrap();
        assert_eq!(hosts.len(), 2);
        assert_eq!((hosts[0].line, hosts[1].line, hosts[1].name), (0, 6, "a"));
        assert_eq!(hosts[1].addresses, [("10.0.0.1", 8), ("fd00::1", 8)]);
        assert!(hosts[1].roles.is_empty());
        let with_site = text.replacen("roles", "site = \"x\"\nroles", 1);
        let sites = plain_hosts(&with_site).unwrap();
        assert_eq!((sites[0].site, sites[1].site), (Some("x"), None));
        for (old, new) in [
            ("name = \"a\"", "name = \"a\" # x"),
            ("name = \"a\"", "name = \"a\\n\""),
            ("name = \"a\"", "name = \"\"\"a\"\"\""),
            ("name = \"a\"", "name = 'a'"),
            ("name = \"a\"", "name = \"a\u{7f}\""),
            ("name = \"a\"", "\"name\" = \"a\""),
            ("name = \"a\"", ""),
            ("name = \"a\"", "name = \"a\"\nname = \"a\""),
            ("name = \"a\"", "name = \"a\"\nsite = \"a\"\nsite = \"a\""),
            ("[ \"10.0.0.1\", ", "[ \"10.0.0.1\" "),
            ("[ \"10.0.0.1\", ", "[ ,"),
            ("[ \"10.0.0.1\", ", "[ \"10.0.0.1\",, "),
            ("[ \"10.0.0.1\", ", "[\n"),
            ("roles = []", "roles = [] []"),
            ("roles = []", "roles = []\nmacs = []"),
            ("[[host]]", "[[network]]"),
        ] {
            assert_eq!(plain_hosts(&host.replace(old, new)), None, "{new}");
        }
    }
}
