//! Ignore files (`.dockerignore`) with BuildKit's semantics.

use thiserror::Error;

/// The patterns of an ignore file.
#[derive(Clone, Debug, Default)]
pub struct Ignore {}

/// A line of an ignore file that BuildKit would refuse.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line} of the ignore file, `{pattern}`, is not a pattern: {reason}")]
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
    /// A line is not a pattern, or is longer than 64 KiB.
    pub fn parse(text: &[u8]) -> Result<Ignore, IgnoreError> {
        let _ = text;
        Ok(Ignore {})
    }

    /// Ignores nothing.
    pub fn none() -> Ignore {
        Ignore::default()
    }

    /// Whether that path (relative to the context, `/`-separated) is excluded from the context.
    pub fn excludes(&self, path: &[u8]) -> bool {
        let _ = path;
        false
    }
}
