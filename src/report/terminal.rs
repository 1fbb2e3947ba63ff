//! stderr, and what is drawn at the bottom of it.
//!
//! A process has one stderr, so there is one of this. Knows how lines get onto a terminal and off
//! again; must not know what they say.

use std::{
    io::{self, Write},
    sync::{Mutex, PoisonError},
};

use console::{Term, measure_text_width};

/// Saves and restores nothing: a terminal is as it was after each write, so that a program that is
/// killed leaves nothing behind but the last drawing.
const BEGIN: &str = "\u{1b}[?25l\u{1b}[?7l";
/// Lines are cut at the window's edge while we write, and the cursor does not flicker.
const END: &str = "\u{1b}[?7h\u{1b}[?25h";
const CLEAR_BELOW: &str = "\u{1b}[J";
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
    let columns = if drawing.lines.is_empty() { 0 } else { size().1 };
    let _ = io::stderr().lock().write_all(drawing.above(text, columns).as_bytes());
}

/// Puts these lines in the place of those that are drawn. None of them is longer than the window
/// is wide.
pub(super) fn draw(lines: &[String]) {
    let mut drawing = DRAWING.lock().unwrap_or_else(PoisonError::into_inner);
    if drawing.lines.is_empty() && lines.is_empty() {
        return;
    }
    let text = drawing.replace(lines, size().1);
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// What stands above the cursor, which rests at the beginning of the line below.
struct Drawing {
    lines: Vec<String>,
    columns: usize,
}

impl Drawing {
    /// Moves to where the drawing begins.
    fn back(&self, columns: usize) -> String {
        // A window that became narrower has broken the lines that do not fit any more.
        let rows = |line: &String| match columns {
            1.. if columns < self.columns => measure_text_width(line).div_ceil(columns).max(1),
            _ => 1,
        };
        match self.lines.iter().map(rows).sum::<usize>() {
            0 => "\r".to_owned(),
            rows => format!("\r\u{1b}[{rows}A"),
        }
    }

    /// What to write so that `lines` take the place of the drawing.
    fn replace(&mut self, lines: &[String], columns: usize) -> String {
        let mut text = BEGIN.to_owned() + &self.back(columns);
        if columns != self.columns {
            text += CLEAR_BELOW;
        }
        for line in lines {
            text += line;
            text += CLEAR_REST;
            text += "\r\n";
        }
        if lines.len() < self.lines.len() {
            text += CLEAR_BELOW;
        }
        lines.clone_into(&mut self.lines);
        self.columns = columns;
        text + END
    }

    /// What to write so that `line` stands above the drawing.
    fn above(&mut self, line: &str, columns: usize) -> String {
        if self.lines.is_empty() {
            return format!("{line}\n");
        }
        let lines = std::mem::take(&mut self.lines);
        let erase = Self { lines: lines.clone(), columns: self.columns }.back(columns);
        self.columns = columns;
        // It may be longer than the window is wide: not cut, but broken.
        format!("{erase}{CLEAR_BELOW}{line}\n{}", self.replace(&lines, columns))
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
        let text = drawing.replace(&["three".to_owned()], 80);
        assert_eq!(text, format!("{BEGIN}\r\u{1b}[2Athree{CLEAR_REST}\r\n{CLEAR_BELOW}{END}"));
        assert_eq!(drawing.lines, ["three"]);
    }

    #[test]
    fn lines_that_a_narrower_window_broke_are_taken_away_whole() {
        let mut drawing = drawing(&["0123456789", "01234"]);
        assert!(drawing.replace(&[], 4).contains("\r\u{1b}[5A\u{1b}[J"));
    }

    #[test]
    fn what_is_said_stands_above_the_drawing() {
        let mut drawing = drawing(&["one"]);
        let text = drawing.above("hear", 80);
        assert!(text.starts_with("\r\u{1b}[1A\u{1b}[Jhear\n"), "{text:?}");
        assert!(text.ends_with(&format!("one{CLEAR_REST}\r\n{END}")), "{text:?}");
        assert_eq!(drawing.lines, ["one"]);
    }
}
