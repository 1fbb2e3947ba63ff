//! What steps write, made harmless for a terminal: colours stay, all else that would move the
//! cursor, rename the window or ask the terminal something goes.

use std::io::{self, Write};

/// A line without what would do more than colour it, or without colours, too. What was drawn over
/// in it is gone, as it would be on a terminal.
pub(super) fn tamed(line: &str, colours: bool) -> String {
    let line = line.trim_end_matches(['\r', '\n']);
    let line = line.rsplit('\r').next().unwrap_or_default();
    let (mut tamed, mut painted) = (String::with_capacity(line.len()), false);
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => {
                if let Some(colour) = escape(&mut rest).filter(|_| colours) {
                    painted = true;
                    tamed.push_str("\u{1b}[");
                    tamed.push_str(&colour);
                    tamed.push('m');
                }
            }
            '\t' => tamed.push(c),
            _ if c.is_control() => {}
            _ => tamed.push(c),
        }
    }
    if painted {
        // Whatever colour is left behind.
        tamed.push_str("\u{1b}[0m");
    }
    tamed
}

/// Takes the rest of an escape (ECMA-48, 5.4 and 8.3); gives the parameters of one that sets colours
/// (SGR).
fn escape(rest: &mut std::str::Chars<'_>) -> Option<String> {
    match rest.next()? {
        '[' => {
            let mut parameters = String::new();
            for c in rest {
                match c {
                    'm' => {
                        let plain = |c: char| c.is_ascii_digit() || matches!(c, ';' | ':');
                        return parameters.chars().all(plain).then_some(parameters);
                    }
                    '\u{40}'..='\u{7e}' => return None,
                    _ => parameters.push(c),
                }
            }
            None
        }
        // Strings, up to their end: of a command, a title, a device.
        ']' | 'P' | 'X' | '^' | '_' => {
            while let Some(c) = rest.next() {
                if c == '\u{7}' || c == '\u{1b}' && rest.next().is_some() {
                    break;
                }
            }
            None
        }
        // One that has a letter after this.
        '\u{20}'..='\u{2f}' => {
            rest.next();
            None
        }
        _ => None,
    }
}

/// A terminal that gets whole lines, each tamed.
pub(super) struct Tamed<W> {
    out: W,
    colours: bool,
    begun: Vec<u8>,
}

impl<W> Tamed<W> {
    pub(super) fn new(out: W, colours: bool) -> Self {
        Self { out, colours, begun: Vec::new() }
    }
}

impl<W: Write> Write for Tamed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let begun = self.begun.len();
        self.begun.extend_from_slice(bytes);
        if let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') {
            let rest = self.begun.split_off(begun + end + 1);
            let whole = std::mem::replace(&mut self.begun, rest);
            for line in String::from_utf8_lossy(&whole).split_inclusive('\n') {
                writeln!(self.out, "{}", tamed(line, self.colours))?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_stay_and_all_else_goes() {
        for (written, shown) in [
            ("\u{1b}[31mred", "\u{1b}[31mred\u{1b}[0m"),
            ("\u{1b}[38:2:1:2:3mred\u{1b}[m", "\u{1b}[38:2:1:2:3mred\u{1b}[m\u{1b}[0m"),
            ("a\u{1b}[2Jb\u{1b}[?1049hc\u{1b}[5;5Hd", "abcd"),
            ("a\u{1b}]0;title\u{7}b\u{1b}]52;c;eHg=\u{1b}\\c", "abc"),
            ("a\u{1b}Pq\u{1b}\\b\u{1b}(0c\u{1b}cd\u{1b}[>4;2me", "abcde"),
            ("a\u{9b}2Jb\u{8}\u{7}\tc", "a2Jb\tc"),
            ("10%\r 20%\r", " 20%"),
            ("a\u{1b}", "a"),
            ("a\u{1b}]no end", "a"),
        ] {
            assert_eq!(tamed(written, true), shown, "{written:?}");
            assert!(!tamed(written, false).contains('\u{1b}'), "{written:?}");
        }
    }

    #[test]
    fn a_terminal_gets_whole_lines() {
        let mut tamed = Tamed::new(Vec::new(), true);
        for piece in ["one\u{1b}[", "2Jtwo\nth", "ree\r\n"] {
            tamed.write_all(piece.as_bytes()).unwrap();
        }
        assert_eq!(tamed.out, b"onetwo\nthree\n");
    }
}
