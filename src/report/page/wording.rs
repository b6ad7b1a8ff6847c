//! Words that several sections share: severities, roles, times with their zone, and names of files.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;

use maud::{Markup, html};

use super::Tone;
use crate::classify::RoleSet;
use crate::model::escape_control;
use crate::result::{AuditResult, Head, Site, Time, short};

/// Returns a time with a resolution of one second; nothing for `None`.
pub(super) fn time(time: Option<Time>) -> Markup {
    html! { @if let Some(Time(time)) = time { (dated(&short(time))) } }
}

/// Formats a time with a resolution of one second, and its zone.
pub(super) fn time_utc(Time(time): Time) -> String {
    format!("{} UTC", short(time))
}

/// Returns text in which no line ends inside a date of the form `2026-11-21`. Control characters
/// must have been escaped before.
pub(super) fn dated(text: &str) -> Markup {
    const FORM: &[u8] = b"0000-00-00";
    let bytes = text.as_bytes();
    let is_date = |at: usize| {
        bytes.get(at..at + FORM.len()).is_some_and(|found| {
            found.iter().zip(FORM).all(|(byte, form)| match form {
                b'0' => byte.is_ascii_digit(),
                _ => byte == form,
            })
        })
    };
    let mut parts: Vec<(&str, &str)> = Vec::new();
    let (mut done, mut at) = (0, 0);
    while at < bytes.len() {
        if is_date(at) {
            let end = at + FORM.len();
            parts.push((&text[done..at], &text[at..end]));
            (done, at) = (end, end);
        } else {
            at += 1;
        }
    }
    html! {
        @for (before, date) in &parts { (before) span.date { (date) } }
        (text[done..])
    }
}

/// Returns the name of a severity with its style. The style sheet adds a symbol, because colour
/// alone must not carry the meaning.
pub(super) fn severity(name: &str) -> Markup {
    html! { span class={ "sev " (name) } { (name) } }
}

/// Returns a name that does not wrap, unless it is long.
pub(super) fn unbroken(name: &str) -> Markup {
    /// The maximum number of characters that stay on one line.
    const LINE: usize = 40;
    let is_short = name.chars().count() <= LINE;
    html! { span class=[is_short.then_some("word")] { (escape_control(name)) } }
}

/// Returns the short names of roles. A tooltip has the complete names.
pub(super) fn roles(site: &Site, roles: RoleSet) -> Markup {
    let full = site.titles(roles).join(", ");
    html! {
        span title=(escape_control(&full)) {
            @for (number, role) in roles.iter().enumerate() {
                @if number > 0 { ", " }
                (unbroken(site.short_title(role)))
            }
        }
    }
}

/// Returns the CSS class of a tone.
pub(super) fn tone_class(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain | Tone::Other => "plain",
        Tone::Faint => "faint",
        Tone::Good => "good",
        Tone::Warning => "warning",
        Tone::Bad => "bad",
    }
}

/// Returns the name of a file without its folders.
pub(super) fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).find(|part| !part.is_empty()).unwrap_or(path)
}

/// Paths of files, grouped by folder. A folder may have thousands of files, but a text that does
/// not contain the folder need not be searched for them. In each folder, the longest path comes
/// first, so that no path replaces a part of another.
pub(super) struct FolderNames<'r>(BTreeMap<&'r str, Vec<&'r str>>);

impl<'r> FolderNames<'r> {
    /// Collects the files that a result names.
    pub fn of(result: &'r AuditResult<'_>) -> Self {
        let Head { inputs, inventory, exceptions, configuration, known, .. } = &result.head;
        let inputs = inputs.iter().map(|input| input.file.as_str());
        let inventory = inventory.iter().map(|inventory| inventory.file.as_str());
        let exceptions = exceptions.iter().map(|exceptions| exceptions.file.as_str());
        let configuration = configuration.iter().map(|configuration| configuration.file.as_str());
        let baseline = known.iter().filter_map(|known| known.baseline.as_ref());
        let baseline = baseline.map(|baseline| baseline.file.as_str());
        let own = inventory.chain(exceptions).chain(configuration).chain(baseline);
        Self::collect(inputs.chain(own))
    }

    fn collect(paths: impl Iterator<Item = &'r str>) -> Self {
        let mut folders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for path in paths {
            // A stored result may contain any text as a path, even one that ends with a slash and
            // therefore not with a file name.
            let Some(folder) = path.strip_suffix(file_name(path)) else { continue };
            if !folder.is_empty() {
                folders.entry(folder).or_default().push(path);
            }
        }
        for names in folders.values_mut() {
            names.sort_unstable_by_key(|path| (Reverse(path.len()), *path));
            names.dedup();
        }
        Self(folders)
    }

    /// Removes the folders of these files from a text, and adds the zone to its times.
    pub fn removed_from(&self, text: &str) -> String {
        let mut text = Cow::Borrowed(text);
        // The longest folders come first, because one may end with another.
        let mut folders: Vec<&&str> =
            self.0.keys().filter(|folder| text.contains(**folder)).collect();
        folders.sort_by_key(|folder| Reverse(folder.len()));
        for path in folders.into_iter().flat_map(|folder| &self.0[*folder]) {
            if text.contains(path) {
                text = Cow::Owned(text.replace(path, file_name(path)));
            }
        }
        with_zone(&text)
    }
}

/// Adds the zone to each time of the form `2026-11-21 01:46:25` that does not have it yet. The
/// texts that the terminal also shows have no zone.
fn with_zone(text: &str) -> String {
    const FORM: &[u8] = b"0000-00-00 00:00:00";
    let is_time = |at: usize| {
        let bytes = text.as_bytes();
        let is_part = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        bytes.get(at..at + FORM.len()).is_some_and(|found| {
            found.iter().zip(FORM).all(|(byte, form)| match form {
                b'0' => byte.is_ascii_digit(),
                _ => byte == form,
            })
        }) && !is_part(at.checked_sub(1).and_then(|before| bytes.get(before)))
            && !is_part(bytes.get(at + FORM.len()))
            && !text[at + FORM.len()..].starts_with(" UTC")
    };
    let mut zoned = String::with_capacity(text.len() + 8);
    let mut done = 0;
    for at in (0..text.len()).filter(|at| is_time(*at)) {
        let end = at + FORM.len();
        zoned.push_str(&text[done..end]);
        zoned.push_str(" UTC");
        done = end;
    }
    zoned.push_str(&text[done..]);
    zoned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_get_their_zone_once() {
        let from_to = "7 frames: 2026-11-21 01:46:25 to 2026-11-21 01:57:07, 641 s watched";
        assert_eq!(
            with_zone(from_to),
            "7 frames: 2026-11-21 01:46:25 UTC to 2026-11-21 01:57:07 UTC, 641 s watched"
        );
        for same in ["", "ü 2026-11-21", "2026-11-21 01:46:25 UTC", "x2026-11-21 01:46:25"] {
            assert_eq!(with_zone(same), same);
        }
        assert_eq!(with_zone("ü 2026-11-21 01:46:25."), "ü 2026-11-21 01:46:25 UTC.");
    }

    #[test]
    fn a_line_does_not_end_inside_a_date() {
        let text = "ü 2026-11-21 01:46:25 to <2026-11-22>";
        let markup = "ü <span class=\"date\">2026-11-21</span> 01:46:25 to &lt;<span class=\"date\">2026-11-22</span>&gt;";
        assert_eq!(dated(text).into_string(), markup);
        assert_eq!(dated("2026-1-1").into_string(), "2026-1-1");
    }

    #[test]
    fn names_of_files_lose_their_folders() {
        assert_eq!(file_name("captures/monday/a.pcap"), "a.pcap");
        assert_eq!(file_name("C:\\captures\\a.pcap"), "a.pcap");
        assert_eq!(file_name("-"), "-");
        assert_eq!(file_name("/"), "/");
        let names = FolderNames::collect(
            ["in/a.pcap", "in/a.pcap.gz", "/x/in/b.pcap", "ü/", "/"].into_iter(),
        );
        for (text, without) in [
            ("in/a.pcap.gz and in/a.pcap", "a.pcap.gz and a.pcap"),
            ("line 4 of /x/in/b.pcap", "line 4 of b.pcap"),
            ("in/c.pcap is another file", "in/c.pcap is another file"),
        ] {
            assert_eq!(names.removed_from(text), without);
        }
    }
}
