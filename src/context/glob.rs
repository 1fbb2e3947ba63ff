//! Go's `path/filepath.Match` on bytes: the wildcards of `COPY`, and the syntax check that
//! BuildKit applies to every ignore pattern.
//!
//! `*` and `?` stop at `/`, a class does not: `a[^b]c` matches `a/c`. Between two stars the
//! leftmost match is taken and never given back, which shows only where a class takes a `/`. A
//! mistake in the pattern is found only as far as the match gets.

use super::text::{REPLACEMENT, first_char};

/// The pattern is not one: a class that is not closed or is empty, or a backslash at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Whether `name` matches `pattern` as a whole.
///
/// # Errors
/// The pattern is malformed, in the part up to the first star after which nothing matches.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> Result<bool, Malformed> {
    let (mut pattern, mut name) = (pattern, name);
    while !pattern.is_empty() {
        let (star, chunk, rest) = next_chunk(pattern);
        pattern = rest;
        if star && chunk.is_empty() {
            return Ok(!name.contains(&b'/'));
        }
        // A star gives way byte by byte, up to the next `/`. The last chunk must reach the end.
        let reach = if star { name.iter().take_while(|byte| **byte != b'/').count() } else { 0 };
        let mut found = None;
        for start in 0..=reach {
            if let Some(left) = match_chunk(chunk, &name[start..])?
                && (left.is_empty() || !rest.is_empty())
            {
                found = Some(left);
                break;
            }
        }
        match found {
            Some(left) => name = left,
            None => return Ok(false),
        }
    }
    Ok(name.is_empty())
}

/// Whether a name of a path has a wildcard in it, by BuildKit's reading.
pub(super) fn has_wildcard(name: &[u8]) -> bool {
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

/// Whether a part of a pattern, between two slashes, may match a `/` by itself or together with its
/// neighbour: a class with a `/` in it, or the halves of what a slash tore apart.
pub(super) fn may_take_slash(part: &[u8]) -> bool {
    let mut rest = part;
    while let Some((first, after)) = rest.split_first() {
        rest = match first {
            b'\\' if after.is_empty() => return true,
            b'\\' => &after[1..],
            b'[' => match match_class(after, Some('/')) {
                Ok((false, after)) => after,
                _ => return true,
            },
            _ => after,
        };
    }
    false
}

/// Splits off leading stars and the text up to the next star.
fn next_chunk(pattern: &[u8]) -> (bool, &[u8], &[u8]) {
    let stars = pattern.iter().take_while(|byte| **byte == b'*').count();
    let pattern = &pattern[stars..];
    let (mut end, mut in_class) = (0, false);
    while let Some(byte) = pattern.get(end) {
        match byte {
            b'\\' if end + 1 < pattern.len() => end += 1,
            b'[' => in_class = true,
            b']' => in_class = false,
            b'*' if !in_class => break,
            _ => {}
        }
        end += 1;
    }
    (stars > 0, &pattern[..end], &pattern[end..])
}

/// Matches a chunk, which has no stars, at the start of `name`: what is left of it. The whole chunk
/// is checked even when it does not match.
fn match_chunk<'a>(chunk: &[u8], name: &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
    let (mut chunk, mut left) = (chunk, Some(name));
    while let Some(byte) = chunk.first() {
        match byte {
            b'[' => {
                let character = left.and_then(first_char);
                let (matched, rest) = match_class(&chunk[1..], character.map(|(c, _)| c))?;
                chunk = rest;
                left = match (matched, left, character) {
                    (true, Some(name), Some((_, length))) => Some(&name[length..]),
                    _ => None,
                };
            }
            b'?' => {
                chunk = &chunk[1..];
                left = left.and_then(|name| {
                    let (character, length) = first_char(name)?;
                    (character != '/').then(|| &name[length..])
                });
            }
            _ => {
                let skip = usize::from(*byte == b'\\');
                let literal = chunk.get(skip).ok_or(Malformed)?;
                chunk = &chunk[skip + 1..];
                left = left.and_then(|name| name.strip_prefix(std::slice::from_ref(literal)));
            }
        }
    }
    Ok(left)
}

/// Matches one character against a class, whose `[` is gone; with what follows the class.
fn match_class(class: &[u8], character: Option<char>) -> Result<(bool, &[u8]), Malformed> {
    let negated = class.first() == Some(&b'^');
    let mut class = &class[usize::from(negated)..];
    let (mut matched, mut first) = (false, true);
    loop {
        if !first && let Some(rest) = class.strip_prefix(b"]") {
            return Ok((matched != negated, rest));
        }
        let (low, rest) = class_char(class)?;
        let (high, rest) = match rest.strip_prefix(b"-") {
            Some(rest) => class_char(rest)?,
            None => (low, rest),
        };
        matched |= character.is_some_and(|c| (low..=high).contains(&c));
        (class, first) = (rest, false);
    }
}

/// One end of a range. Something must follow it, if only the `]`.
fn class_char(class: &[u8]) -> Result<(char, &[u8]), Malformed> {
    let class = match class.first() {
        None | Some(b'-' | b']') => return Err(Malformed),
        Some(b'\\') => &class[1..],
        Some(_) => class,
    };
    let (character, length) = first_char(class).ok_or(Malformed)?;
    if (character == REPLACEMENT && length == 1) || length == class.len() {
        return Err(Malformed);
    }
    Ok((character, &class[length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_stop_at_slashes() {
        for (pattern, name, expected) in [
            ("*", "a", true),
            ("*", "", true),
            ("*", "a/b", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c", "axbxbxc", true),
            ("a*b?c", "axbbc", true),
            ("**", "a/b", false),
            ("?", "é", true),
            ("?", "/", false),
            ("", "", true),
            ("", "a", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a\\b", "ab", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                Ok(expected),
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn classes_take_slashes_and_nothing_is_given_back() {
        for (pattern, name, expected) in [
            ("a[^b]c", "a/c", true),
            ("[a-c]", "b", true),
            ("[^a-c]", "b", false),
            ("[\\]a]", "]", true),
            ("[!a]", "!", true),
            ("[é-ü]", "ö", true),
            ("*[^b]*c", "a/xc", false),
            ("[a-z]*", "abc", true),
            ("[*]", "*", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                Ok(expected),
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn only_some_classes_may_take_a_slash() {
        for part in ["*", "a?", "[ab]", "[a-z]x[0-9]", "\\[^x", "[\\^a]", "a\\\\"] {
            assert!(!may_take_slash(part.as_bytes()), "{part}");
        }
        for part in ["[^a]", "[.-0]", "x[", "[a", "a\\", "[a]["] {
            assert!(may_take_slash(part.as_bytes()), "{part}");
        }
    }

    #[test]
    fn a_mistake_is_found_as_far_as_the_match_gets() {
        for pattern in ["[", "a[", "[]a]", "[-x]", "[x-]", "a\\", "[a-", "*[", "[^]", "z[]", "[\\"]
        {
            assert_eq!(matches(pattern.as_bytes(), b"."), Err(Malformed), "{pattern}");
        }
        assert_eq!(matches(b"[\xff]", b"."), Err(Malformed));
        assert_eq!(matches(b"a*[", b"."), Ok(false));
        assert_eq!(matches(b"a*[", b"ab"), Err(Malformed));
    }
}
