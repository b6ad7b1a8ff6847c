//! Text styles for terminals.

use anstyle::{AnsiColor, Style};

use crate::classify::Severity;
use crate::result::Tone;

pub(super) const BOLD: Style = Style::new().bold();
pub(super) const DIM: Style = Style::new().dimmed();
pub(super) const GREEN: Style =
    Style::new().bold().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Green)));
pub(super) const YELLOW: Style =
    Style::new().bold().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Yellow)));
pub(super) const RED: Style =
    Style::new().bold().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Red)));

/// Returns the style of a severity.
pub(super) fn style_of_severity(severity: Severity) -> Style {
    style_of(severity.into())
}

/// Returns the style of a tone.
pub(super) fn style_of(tone: Tone) -> Style {
    match tone {
        Tone::Plain | Tone::Other => Style::new(),
        Tone::Faint => DIM,
        Tone::Good => GREEN,
        Tone::Warning => YELLOW,
        Tone::Bad => RED,
    }
}
