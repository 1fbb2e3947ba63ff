//! What is wrong with a Dockerfile, and where.

use std::{error, fmt};

/// How an error came about, which decides what may still be done with the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The engine refuses it as well: there is nothing to build.
    Invalid,
    /// This program does not understand it, but an engine or a newer frontend may: it can be built,
    /// but nothing is known about what it reads, so the build must not be skipped.
    NotUnderstood,
}

/// A position in the text and what is wrong there, before the text itself is at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: ErrorKind,
    /// Byte offset in the text, or [`NOWHERE`].
    pub(super) at: usize,
    pub(super) message: String,
}

/// Of a fault that is not of one place.
pub(super) const NOWHERE: usize = usize::MAX;

impl Fault {
    pub(super) fn invalid(at: usize, message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Invalid, at, message: message.into() }
    }

    pub(super) fn not_understood(at: usize, message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::NotUnderstood, at, message: message.into() }
    }
}

/// An error in a Dockerfile. Prints as `file:line:column: message`, the line, and a caret below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    file: Option<String>,
    line: usize,
    column: usize,
    message: String,
    text: String,
}

impl Error {
    /// Finds the line and column of a fault in the text.
    pub(super) fn locate(text: &[u8], fault: Fault) -> Self {
        let Fault { kind, at, message } = fault;
        if at == NOWHERE {
            return Self { kind, file: None, line: 0, column: 0, message, text: String::new() };
        }
        let at = at.min(text.len());
        let start = text[..at].iter().rposition(|&b| b == b'\n').map_or(0, |newline| newline + 1);
        let line = text[start..].split(|&b| b == b'\n').next().unwrap_or_default();
        Self {
            kind,
            file: None,
            line: line_of(text, at),
            column: String::from_utf8_lossy(&text[start..at]).chars().count() + 1,
            message,
            text: String::from_utf8_lossy(line).trim_end().to_owned(),
        }
    }

    /// Names the file, as people know it.
    #[must_use]
    pub fn with_file(mut self, file: impl Into<String>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// Whether the engine would refuse the file as well.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The line, from 1; 0 if the error is not of one line.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line
    }

    /// The column in characters, from 1; 0 likewise.
    #[must_use]
    pub fn column(&self) -> usize {
        self.column
    }

    /// What is wrong, in one sentence without the position.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, message, text, .. } = self;
        let file = file.as_deref().unwrap_or("Dockerfile");
        if *line == 0 {
            return write!(f, "{file}: {message}");
        }
        write!(f, "{file}:{line}:{column}: {message}")?;
        if text.is_empty() {
            return Ok(());
        }
        let number = line.to_string();
        // A tab before the caret stays a tab, so that the caret stands where the terminal put it.
        let indent: String =
            text.chars().take(column - 1).map(|c| if c == '\t' { c } else { ' ' }).collect();
        write!(f, "\n {number} | {text}\n {:width$} | {indent}^", "", width = number.len())
    }
}

impl error::Error for Error {}

/// The line that a byte of the text stands on, from 1.
pub(super) fn line_of(text: &[u8], at: usize) -> usize {
    text[..at.min(text.len())].iter().filter(|&&b| b == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_the_line_and_points_at_the_column() {
        let text = "FROM alpine\n\tCOPY --form=x a b\n";
        let error = Error::locate(text.as_bytes(), Fault::invalid(18, "unknown flag `--form`"));
        assert_eq!(
            error.with_file("docker/Dockerfile").to_string(),
            "docker/Dockerfile:2:7: unknown flag `--form`\n 2 | \tCOPY --form=x a b\n   | \t     ^"
        );
    }

    #[test]
    fn columns_count_characters_and_survive_bytes_that_are_no_text() {
        let error = Error::locate("é\u{1F600}x".as_bytes(), Fault::invalid(6, "x"));
        assert_eq!((error.line(), error.column()), (1, 3));
        let error = Error::locate(b"\xff\xfe", Fault::invalid(99, "x"));
        assert_eq!((error.line(), error.column()), (1, 3));
    }
}
