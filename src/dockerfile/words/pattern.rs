//! The patterns of `${name#pattern}`: `*` and `?`, which do not match a newline, and `\` before
//! one of them, itself, `}` or `/`.
//!
//! Matching takes time in proportion to pattern times value, whatever they are.

use super::{MAX_LENGTH, WordError};

/// Most steps that one match may take.
const MAX_STEPS: usize = 1 << 26;

#[derive(Clone, Copy)]
enum Token {
    Literal(char),
    Any,
    Star,
}

pub(super) struct Pattern(Vec<Token>);

impl Pattern {
    pub(super) fn new(text: &str) -> Result<Self, WordError> {
        let mut chars = text.strip_prefix('\u{feff}').unwrap_or(text).chars().peekable();
        let mut tokens = Vec::new();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Star,
                '?' => Token::Any,
                // Escaped for the sake of `${…}`, not of the pattern.
                '\\' if matches!(chars.peek(), Some('}' | '/')) => continue,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\')) => Token::Literal(c),
                    other => {
                        let escape: String = std::iter::once('\\').chain(other).collect();
                        return Err(WordError::invalid(format!(
                            "`{escape}` is not an escape in a pattern"
                        )));
                    }
                },
                c => Token::Literal(c),
            });
        }
        Ok(Self(tokens))
    }

    /// The value without the prefix that matches.
    pub(super) fn trim_start(&self, value: &str, greedy: bool) -> Result<String, WordError> {
        let value: Vec<char> = value.chars().collect();
        let end = self.ends(&value, greedy)?.first().copied().flatten().unwrap_or(0);
        Ok(value[end..].iter().collect())
    }

    /// The pattern that matches the reversed values. An escape stays before what it escapes; one at
    /// the end, with nothing to escape there, comes to escape what was before it.
    pub(super) fn reversed(text: &str) -> Result<Self, WordError> {
        let mut pieces: Vec<&str> = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let escaped = rest[first.len_utf8()..].chars().next().filter(|_| first == '\\');
            let (piece, tail) = rest.split_at(first.len_utf8() + escaped.map_or(0, char::len_utf8));
            pieces.push(piece);
            rest = tail;
        }
        Self::new(&pieces.into_iter().rev().collect::<String>())
    }

    /// The value without the suffix that matches, for a [`Pattern::reversed`].
    pub(super) fn trim_end(&self, value: &str, greedy: bool) -> Result<String, WordError> {
        let reversed: String = value.chars().rev().collect();
        Ok(self.trim_start(&reversed, greedy)?.chars().rev().collect())
    }

    /// The value with the first match replaced, or every one, as Go's `regexp` finds them.
    pub(super) fn replace(
        &self,
        value: &str,
        replacement: &str,
        all: bool,
    ) -> Result<String, WordError> {
        if all && replacement.contains('$') {
            // BuildKit hands it to Go's `ReplaceAllString`, where `$` is a template.
            return Err(WordError::not_understood("a `$` in the replacement of every match"));
        }
        let value: Vec<char> = value.chars().collect();
        let ends = self.ends(&value, true)?;
        let mut result = String::new();
        let (mut copied, mut from) = (0, 0);
        while let Some((start, end)) =
            (from..ends.len()).find_map(|start| ends[start].map(|end| (start, end)))
        {
            result.extend(&value[copied..start]);
            // An empty match right behind the last one is none.
            if end > copied || start == 0 {
                result.push_str(replacement);
            }
            copied = end;
            from = end.max(from + 1);
            if !all {
                break;
            }
            if result.len() > MAX_LENGTH {
                return Err(WordError::not_understood("a word becomes longer than 1 MiB"));
            }
        }
        result.extend(&value[copied..]);
        Ok(result)
    }

    /// For each place in the value, where the match that begins there ends: the longest if greedy,
    /// else the shortest. From the last token to the first, each from the last place to the first.
    fn ends(&self, value: &[char], greedy: bool) -> Result<Vec<Option<usize>>, WordError> {
        if (value.len() + 1).saturating_mul(self.0.len() + 1) > MAX_STEPS {
            return Err(WordError::not_understood("a pattern is too long for its value"));
        }
        let mut ends: Vec<Option<usize>> = (0..=value.len()).map(Some).collect();
        for &token in self.0.iter().rev() {
            // In place, upwards: the entry to the right still is that of the next token.
            match token {
                Token::Literal(_) | Token::Any => {
                    for at in 0..value.len() {
                        let matches = match token {
                            Token::Literal(c) => value[at] == c,
                            _ => value[at] != '\n',
                        };
                        ends[at] = if matches { ends[at + 1] } else { None };
                    }
                    ends[value.len()] = None;
                }
                // In place, downwards: the entry to the right already is that of the star.
                Token::Star => {
                    for at in (0..value.len()).rev().filter(|&at| value[at] != '\n') {
                        ends[at] = match (ends[at], ends[at + 1]) {
                            (Some(a), Some(b)) => Some(if greedy { a.max(b) } else { a.min(b) }),
                            (a, b) => a.or(b),
                        };
                    }
                }
            }
        }
        Ok(ends)
    }
}
