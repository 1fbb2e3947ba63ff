//! Which frontend reads the Dockerfile: the builtin one, or the image that `# syntax=` names.

use std::{collections::BTreeMap, ops::Range};

/// The image that a build asks to read its Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontend {
    /// Its name, as written.
    pub image: String,
    /// Where the name stands in the text; `None` if the `BUILDKIT_SYNTAX` argument gave it, or if it
    /// cannot be changed there.
    pub span: Option<Range<usize>>,
    /// The line it stands on, from 1; 0 for the `BUILDKIT_SYNTAX` argument.
    pub line: usize,
    /// Whether this program knows the language that it reads: it is of `docker/dockerfile:1`.
    pub known: bool,
}
