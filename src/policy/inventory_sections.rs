//! Divides a TOML inventory into sections that are parsed separately.
//!
//! A parsed document needs about 1.5 KiB for each host, which costs more time for memory than for
//! parsing if there are many hosts.

/// A section of a text.
pub(super) struct Section<'t> {
    /// The byte offset of the section in the text.
    pub(super) offset: usize,
    /// The text of the section.
    pub(super) text: &'t str,
}

impl Section<'_> {
    /// Returns whether the section consists of hosts and of what follows them.
    pub(super) fn begins_with_host(&self) -> bool {
        self.text.starts_with(HOST)
    }
}

/// The header that begins a host.
const HOST: &str = "[[host]]";

/// The number of hosts in a section.
const HOSTS: usize = 64;

/// Divides a text before the first line that begins with `[[host]]` and then before every 64th
/// such line. Returns at least one section. If all sections are valid, none of these lines is inside
/// a string or an array, because either would be incomplete in the section before the line.
pub(super) fn sections(text: &str) -> Vec<Section<'_>> {
    let mut starts = vec![0];
    let (mut count, mut offset) = (0, 0);
    for line in text.split_inclusive('\n') {
        if line.starts_with(HOST) {
            if count % HOSTS == 0 && offset > 0 {
                starts.push(offset);
            }
            count += 1;
        }
        offset += line.len();
    }
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(start, end)| Section { offset: *start, text: &text[*start..end] })
        .collect()
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
}
