//! stderr, and what is drawn at the bottom of it.
//!
//! A process has one stderr, so there is one of this. Knows how lines get onto a terminal and off
//! again; must not know what they say.

use std::{
    io::{self, Write},
    sync::{Mutex, PoisonError},
};

use console::{Term, measure_text_width};

/// Hides the cursor while we draw, and cuts lines at the window's edge.
const HIDE: &str = "\u{1b}[?25l\u{1b}[?7l";
/// Undoes that at the end of each write: a program that is killed leaves nothing behind but what it
/// drew last.
const END: &str = "\u{1b}[?7h\u{1b}[?25h";
const CLEAR_REST: &str = "\u{1b}[K";

static DRAWING: Mutex<Drawing> = Mutex::new(Drawing { lines: Vec::new(), columns: 0 });

/// Whether stderr is a terminal.
pub(super) fn is_one() -> bool {
    Term::stderr().features().is_attended()
}

/// Whether it is one on which lines can be drawn over.
pub(super) fn can_draw() -> bool {
    let term = Term::stderr();
    // To ask for colours makes an old Windows console understand escapes.
    is_one() && !console::is_dumb() && (cfg!(unix) || term.features().colors_supported())
}

/// Whether to use colours: <https://no-color.org>, <https://bixense.com/clicolors>.
pub(super) fn colours() -> bool {
    let variable = |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    wants_colours(variable, can_draw())
}

fn wants_colours(variable: impl Fn(&'static str) -> Option<String>, terminal: bool) -> bool {
    let is =
        |name, off: &str| variable(name).is_some_and(|value| !value.is_empty() && value != off);
    if is("NO_COLOR", "") {
        return false;
    }
    is("CLICOLOR_FORCE", "0") || terminal && variable("CLICOLOR").as_deref() != Some("0")
}

/// Rows and columns of the window.
pub(super) fn size() -> (usize, usize) {
    let (rows, columns) = Term::stderr().size();
    (rows.into(), columns.into())
}

/// Writes a line, above what is drawn. Where nobody reads it, nothing is lost.
pub(super) fn line(text: &str) {
    let mut drawing = DRAWING.lock().unwrap_or_else(PoisonError::into_inner);
    let window = if drawing.lines.is_empty() { (0, 0) } else { size() };
    let _ = io::stderr().lock().write_all(drawing.above(text, window).as_bytes());
}

/// Puts these lines in the place of those that are drawn. None of them is longer than the window
/// is wide.
pub(super) fn draw(lines: &[String]) {
    let mut drawing = DRAWING.lock().unwrap_or_else(PoisonError::into_inner);
    if drawing.lines.is_empty() && lines.is_empty() {
        return;
    }
    let text = drawing.replace(lines, size());
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// What stands above the cursor, which rests at the beginning of the line below.
struct Drawing {
    lines: Vec<String>,
    columns: usize,
}

impl Drawing {
    /// How many rows it takes in a window of this size. One that became narrower has broken the lines
    /// that do not fit any more. Of one that became lower, what is above its first row is gone: to
    /// clear as many rows as there were would scroll away what is drawn instead.
    fn rows(&self, (height, columns): (usize, usize)) -> usize {
        let rows = |line: &String| match columns {
            1.. if columns < self.columns => measure_text_width(line).div_ceil(columns).max(1),
            _ => 1,
        };
        let rows = self.lines.iter().map(rows).sum();
        // The cursor rests in the last one.
        if height > 1 { height.saturating_sub(1).min(rows) } else { rows }
    }

    /// What to write so that `lines` take the place of the drawing.
    fn replace(&mut self, lines: &[String], window: (usize, usize)) -> String {
        let there = self.rows(window);
        lines.clone_into(&mut self.lines);
        self.columns = window.1;
        format!("{}{}{END}", begin(there), self.written(there))
    }

    /// What to write so that `line` stands above the drawing. It may be longer than the window is
    /// wide: it is broken then, not cut.
    fn above(&mut self, line: &str, window: (usize, usize)) -> String {
        if self.lines.is_empty() {
            return format!("{line}\n");
        }
        let (there, columns) = (self.rows(window), window.1);
        self.columns = columns;
        let taken = measure_text_width(line).div_ceil(columns.max(1)).max(1);
        let left = self.written(there.saturating_sub(taken));
        format!("\r\u{1b}[{there}A{line}{CLEAR_REST}\r\n{HIDE}{left}{END}")
    }

    /// The lines, and nothing in those of the `there` rows that they do not take.
    ///
    /// Rows are cleared one by one: to clear the whole screen at once makes some terminals keep
    /// what was on it.
    fn written(&self, there: usize) -> String {
        let mut text: String =
            self.lines.iter().map(|line| format!("{line}{CLEAR_REST}\r\n")).collect();
        let left = there.saturating_sub(self.lines.len());
        if left > 0 {
            text += &format!("{CLEAR_REST}\r\n").repeat(left);
            text += &format!("\u{1b}[{left}A");
        }
        text
    }
}

/// Hides the cursor and goes to where a drawing of so many rows begins.
fn begin(rows: usize) -> String {
    match rows {
        0 => format!("{HIDE}\r"),
        rows => format!("{HIDE}\r\u{1b}[{rows}A"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_as_the_environment_says() {
        type Variables = &'static [(&'static str, &'static str)];
        let cases: [(Variables, bool, bool); 8] = [
            (&[], true, true),
            (&[], false, false),
            (&[("NO_COLOR", "1")], true, false),
            (&[("NO_COLOR", "")], true, true),
            (&[("CLICOLOR", "0")], true, false),
            (&[("CLICOLOR_FORCE", "1")], false, true),
            (&[("CLICOLOR_FORCE", "0")], false, false),
            (&[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")], true, false),
        ];
        for (variables, terminal, colours) in cases {
            let variable = |name| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(wants_colours(variable, terminal), colours, "{variables:?} {terminal}");
        }
    }

    fn drawing(lines: &[&str]) -> Drawing {
        Drawing { lines: lines.iter().map(ToString::to_string).collect(), columns: 80 }
    }

    #[test]
    fn a_drawing_takes_the_place_of_the_one_before() {
        let mut drawing = drawing(&["one", "two"]);
        let text = drawing.replace(&["three".to_owned()], (24, 80));
        let cleared = format!("{CLEAR_REST}\r\n\u{1b}[1A");
        assert_eq!(text, format!("{HIDE}\r\u{1b}[2Athree{CLEAR_REST}\r\n{cleared}{END}"));
        assert_eq!(drawing.lines, ["three"]);
    }

    #[test]
    fn lines_that_a_narrower_window_broke_are_taken_away_whole() {
        let mut drawing = drawing(&["0123456789", "01234"]);
        let text = drawing.replace(&[], (24, 4));
        assert!(text.contains("\r\u{1b}[5A") && text.matches(CLEAR_REST).count() == 5, "{text:?}");
    }

    #[test]
    fn a_window_that_became_lower_is_not_scrolled() {
        let mut drawing = drawing(&["1", "2", "3", "4", "5", "6", "7"]);
        let text = drawing.replace(&["a".to_owned(), "b".to_owned()], (4, 80));
        assert!(text.contains("\r\u{1b}[3A") && text.matches("\r\n").count() == 3, "{text:?}");
    }

    #[test]
    fn what_is_said_stands_above_the_drawing() {
        let mut drawing = drawing(&["one"]);
        let text = drawing.above("hear", (24, 80));
        assert_eq!(text, format!("\r\u{1b}[1Ahear{CLEAR_REST}\r\n{HIDE}one{CLEAR_REST}\r\n{END}"));
        assert_eq!(drawing.lines, ["one"]);
    }
}
