//! Patterns of host names, in the notation of the vendor's lists.

use std::fmt;

use super::PolicyError;

/// A host name or a pattern of host names. Names match label by label, regardless of case.
///
/// A star that is the whole first label stands for one or more labels. For example, `*.example.com`
/// matches every name below `example.com`, but not `example.com` itself. A star inside the first
/// label stands for one or more characters of that label only. For example, `*xt.example.com`
/// matches `a1xt.example.com`, but not `a.xt.example.com`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Pattern(String);

impl Pattern {
    /// Parses a pattern. Returns an error if it is not valid or would match nearly all names.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let name = text.trim().trim_end_matches('.').to_lowercase();
        if name.parse::<std::net::IpAddr>().is_ok() {
            return Err(PolicyError::AddressForName(text.to_owned()));
        }
        let labels: Vec<&str> = name.split('.').collect();
        let is_label = |label: &&str| {
            let known = |c: char| c.is_ascii_alphanumeric() || "-_*".contains(c);
            (1..=63).contains(&label.len()) && label.chars().all(known)
        };
        if name.len() > 253 || !labels.iter().all(is_label) {
            return Err(PolicyError::NotAName(text.to_owned()));
        }
        if labels.iter().skip(1).any(|l| l.contains('*')) || labels[0].matches('*').count() > 1 {
            return Err(PolicyError::Stars(text.to_owned()));
        }
        if labels[0].contains('*') && labels.len() < 3 {
            return Err(PolicyError::TooWide(text.to_owned()));
        }
        Ok(Self(name))
    }

    /// Returns whether the pattern matches a name. Case and a trailing dot are ignored.
    pub fn matches(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.').as_bytes();
        let Some((before, after)) = self.0.split_once('*') else {
            return name.eq_ignore_ascii_case(self.0.as_bytes());
        };
        let Some(middle) = name.len().checked_sub(before.len() + after.len()) else {
            return false;
        };
        let (start, rest) = name.split_at(before.len());
        let (star, end) = rest.split_at(middle);
        let whole_label = before.is_empty() && after.starts_with('.');
        !star.is_empty()
            && (whole_label || !star.contains(&b'.'))
            && !star.starts_with(b".")
            && start.eq_ignore_ascii_case(before.as_bytes())
            && end.eq_ignore_ascii_case(after.as_bytes())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_by_label_without_case() {
        let cases = [
            ("ras.example.com", "RAS.Example.com.", true),
            ("ras.example.com", "xras.example.com", false),
            ("ras.example.com", "ras.example.com.evil.net", false),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "A.b.EXAMPLE.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "evilexample.com", false),
            ("*.example.com", ".example.com", false),
            ("*xt.blob.example.com", "gsm1xt.blob.example.com", true),
            ("*xt.blob.example.com", "xt.blob.example.com", false),
            ("*xt.blob.example.com", "a.xt.blob.example.com", false),
            ("*xt.blob.example.com", "a.bxt.blob.example.com", false),
            ("a*z.example.com", "abcz.example.com", true),
            ("a*z.example.com", "az.example.com", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(
                Pattern::parse(pattern).unwrap().matches(name),
                expected,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn what_would_match_everything_is_refused() {
        for wrong in ["*", "*.com", "", "a..b", "*.*.example.com", "a.*.example.com", "a b.com"] {
            assert!(Pattern::parse(wrong).is_err(), "{wrong}");
        }
    }
}
