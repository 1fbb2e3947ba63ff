//! What an engine may show of an instruction.
//!
//! Knows what engines change of its text; must not know which instruction it is, or where it stands.

/// The text of an instruction, with variables expanded or not, and quotes and blanks taken away or not.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// What stands before, between and behind variables.
    pieces: Vec<String>,
    /// Whether more may follow.
    open: bool,
}

impl Shown {
    pub(super) fn new(text: &str, open: bool) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            pieces.push(squeezed(before));
            rest = behind_variable(after);
        }
        pieces.push(squeezed(rest));
        Self { pieces, open }
    }

    /// Whether a squeezed text can be it.
    pub(super) fn may_be(&self, shown: &str) -> bool {
        let Some((first, others)) = self.pieces.split_first() else { return false };
        let Some(mut rest) = shown.strip_prefix(first.as_str()) else { return false };
        let Some((last, between)) = others.split_last() else {
            return self.open || rest.is_empty();
        };
        for piece in between {
            let Some(at) = rest.find(piece.as_str()) else { return false };
            rest = &rest[at + piece.len()..];
        }
        if self.open { rest.contains(last.as_str()) } else { rest.ends_with(last.as_str()) }
    }
}

/// What follows the name of a variable. What is no variable is gone by likewise: anything may stand
/// there.
fn behind_variable(text: &str) -> &str {
    let Some(braced) = text.strip_prefix('{') else {
        return text.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
    };
    let mut depth = 1_usize;
    for (at, c) in braced.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &braced[at + 1..];
        }
    }
    ""
}

/// A text without what engines change of it.
pub(super) fn squeezed(text: &str) -> String {
    let kept = text.chars().filter(|c| !c.is_whitespace() && !"\"'\\`".contains(*c));
    kept.map(|c| c.to_ascii_lowercase()).collect()
}
