//! Ignore files (`.dockerignore`) with BuildKit's semantics: bytes in, bool out.
//!
//! Reading a file: moby/patternmatcher, `ignorefile/ignorefile.go`. Matching: [`Patterns`]. What
//! BuildKit would refuse while it walks is refused here when the file is read.

use thiserror::Error;

use super::{
    patterns::{Matched, Patterns},
    text::{clean, trim},
};

/// The longest line that BuildKit reads, in bytes, without its line feed.
const LONGEST_LINE: usize = 64 * 1024 - 1;

/// The patterns of an ignore file.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    patterns: Patterns,
}

/// A line of an ignore file, or a pattern of a `COPY`, that BuildKit would refuse.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}, `{pattern}`, is not a pattern: {reason}")]
pub struct IgnoreError {
    /// The line, from 1.
    pub line: usize,
    /// The pattern, as far as it can be shown.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Ignore {
    /// Reads the text of an ignore file.
    ///
    /// # Errors
    /// A line is not a pattern, or is 64 KiB long or longer.
    pub fn parse(text: &[u8]) -> Result<Ignore, IgnoreError> {
        let mut patterns = Patterns::default();
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let error = |reason| {
                let shown = &line[..line.len().min(80)];
                let pattern = String::from_utf8_lossy(shown).trim().to_owned();
                IgnoreError { line: index + 1, pattern, reason }
            };
            if line.len() > LONGEST_LINE {
                return Err(error("the line is longer than 65,535 bytes"));
            }
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let line = match index {
                0 => line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line),
                _ => line,
            };
            // A comment starts in the first column: ` #x` is a pattern.
            if line.first() == Some(&b'#') {
                continue;
            }
            patterns.add(&normalised(trim(line))).map_err(error)?;
        }
        Ok(Ignore { patterns })
    }

    /// Ignores nothing.
    pub fn none() -> Ignore {
        Ignore::default()
    }

    /// Whether that path (relative to the context, clean, `/`-separated) is excluded from the
    /// context. The root never is.
    pub fn excludes(&self, path: &[u8]) -> bool {
        !path.is_empty() && path != b"." && self.patterns.matches_from_root(path)
    }

    /// Whether an entry is excluded, given what matched the directory it is in.
    pub(super) fn excludes_in(&self, path: &[u8], parent: Option<&Matched>) -> bool {
        self.patterns.matches(path, parent)
    }

    /// Whether a directory is excluded, and what matched it.
    pub(super) fn enter(&self, path: &[u8], parent: Option<&Matched>) -> (bool, Matched) {
        self.patterns.step(path, parent)
    }

    /// Whether an excluded directory may hold something that is not.
    pub(super) fn may_include_below(&self, directory: &[u8]) -> bool {
        self.patterns.has_exception_below(directory)
    }
}

/// A line as a pattern relative to the context: clean, without its leading slash.
fn normalised(line: &[u8]) -> Vec<u8> {
    let (exception, pattern) = match line.strip_prefix(b"!") {
        Some(rest) => (true, trim(rest)),
        None => (false, line),
    };
    let mut pattern = if pattern.is_empty() { Vec::new() } else { clean(pattern) };
    if pattern.len() > 1 && pattern.first() == Some(&b'/') {
        pattern.remove(0);
    }
    if exception {
        pattern.insert(0, b'!');
    }
    pattern
}
