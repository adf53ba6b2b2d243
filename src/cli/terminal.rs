//! What a terminal is told otherwise than a file: lines are broken at its width, verdicts have a colour, long work shows
//! how far it is.
//!
//! What is no terminal gets whole lines without any control sequence, so that scripts can rely on them. Neither colour nor
//! a moving line goes to a terminal that asks for none (`NO_COLOR`) or cannot show it (`TERM=dumb`).

use std::env;
use std::io::{IsTerminal as _, stderr, stdout};

use indicatif::{ProgressBar, ProgressStyle};
use terminal_size::{Width, terminal_size_of};

/// Columns of a terminal that does not say.
const COLUMNS: usize = 80;
/// Longer lines are hard to read.
const COLUMNS_MAX: usize = 100;

/// Where lines go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    /// `None` if it is no terminal.
    columns: Option<usize>,
    colour: bool,
}

/// What a word is to look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Doubtful,
    Bad,
}

impl Screen {
    /// Of the results of commands.
    pub(super) fn out() -> Self {
        let size = terminal_size_of(stdout());
        Self::of(stdout().is_terminal(), size.map(|(Width(columns), _)| columns))
    }

    /// Of everything else.
    pub(super) fn err() -> Self {
        let size = terminal_size_of(stderr());
        Self::of(stderr().is_terminal(), size.map(|(Width(columns), _)| columns))
    }

    #[expect(clippy::disallowed_methods, reason = "how a terminal is to be written to, its environment alone tells")]
    fn of(is_terminal: bool, columns: Option<u16>) -> Self {
        let known = columns.filter(|columns| *columns > 0).map(usize::from);
        let said = || env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).filter(|columns| *columns > 0);
        let columns = is_terminal.then(|| known.or_else(said).unwrap_or(COLUMNS));
        let asks_for_none = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { columns, colour: is_terminal && can_move() && !asks_for_none }
    }

    /// Whether colours may be used.
    pub(super) fn has_colour(self) -> bool {
        self.colour
    }

    /// Whether lines of so many columns have room.
    pub(super) fn has_room_for(self, columns: usize) -> bool {
        self.columns.is_none_or(|room| columns <= room)
    }

    /// A line that begins with `mark`, in a column of its own of `width`; what is broken off goes on below the text.
    pub(super) fn marked(self, mark: &str, tone: Option<Tone>, width: usize, text: &str) -> String {
        let broken = self.broken(text, width + 1);
        format!("{}{} {broken}", self.painted(mark, tone), " ".repeat(width.saturating_sub(mark.chars().count())))
    }

    /// `text` in the colour of its tone.
    pub(super) fn painted(self, text: &str, tone: Option<Tone>) -> String {
        let code = match tone {
            Some(Tone::Good) => "32",
            Some(Tone::Doubtful) => "33",
            Some(Tone::Bad) => "1;31",
            None => return text.to_owned(),
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// `text` with lines broken between words where they are too long. What is broken off, and the beginning, has `indent`
    /// columns in front, which are written for all lines but the first.
    pub(super) fn broken(self, text: &str, indent: usize) -> String {
        let Some(columns) = self.columns else { return text.to_owned() };
        let room = columns.min(COLUMNS_MAX).saturating_sub(indent).max(1);
        let lines: Vec<String> = text.split('\n').flat_map(|line| broken_line(line, room)).collect();
        lines.join(&format!("\n{}", " ".repeat(indent)))
    }
}

/// The lines of one line, none longer than `room` unless a single word is.
fn broken_line(line: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut length = 0;
    for (index, word) in line.split(' ').enumerate() {
        let word_length = word.chars().count();
        if index > 0 && length + 1 + word_length > room {
            lines.push(String::new());
            length = 0;
        } else if index > 0 {
            lines.last_mut().expect("the first line was there from the beginning").push(' ');
            length += 1;
        }
        lines.last_mut().expect("the first line was there from the beginning").push_str(word);
        length += word_length;
    }
    lines
}

/// Whether the terminal knows more than to write one line after the other.
fn can_move() -> bool {
    env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// A bar of `total` steps on stderr; hidden where it cannot be shown.
pub(super) fn bar(total: u64, template: &str) -> ProgressBar {
    if !shows_progress() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style)
}

/// A sign on stderr that something is being done of which nobody knows how long it takes.
pub(super) fn spinner() -> ProgressBar {
    if shows_progress() { ProgressBar::new_spinner() } else { ProgressBar::hidden() }
}

/// Whether bars can be shown.
pub(super) fn shows_progress() -> bool {
    stderr().is_terminal() && can_move()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NARROW: Screen = Screen { columns: Some(20), colour: true };
    const FILE: Screen = Screen { columns: None, colour: false };

    #[test]
    fn a_terminal_gets_lines_that_fit_and_a_file_gets_whole_ones() {
        let text = "one two three four five six";
        assert_eq!(NARROW.broken(text, 4), "one two three\n    four five six");
        assert_eq!(FILE.broken(text, 4), text);
        assert_eq!(NARROW.broken("a-word-that-is-longer-than-a-line b", 0), "a-word-that-is-longer-than-a-line\nb");
        assert_eq!(NARROW.broken("two\n  lines", 2), "two\n    lines", "lines stay lines, and keep what is in front");
        assert_eq!(NARROW.broken("", 2), "");
    }

    #[test]
    fn a_mark_has_a_column_of_its_own() {
        assert_eq!(NARROW.marked("ok", None, 4, "one two three four"), "ok   one two three\n     four");
        assert_eq!(NARROW.marked("ok", Some(Tone::Good), 4, "one"), "\x1b[32mok\x1b[0m   one");
        assert_eq!(FILE.marked("ok", Some(Tone::Good), 4, "one"), "ok   one");
    }
}
