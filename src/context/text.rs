//! Bytes read the way Go reads strings: cleaned paths, trimmed white space, runes.
//!
//! BuildKit's rules for patterns are written in Go, and its corner cases come from there: invalid
//! UTF-8 is one U+FFFD a byte, and cleaning is lexical.

/// The character that stands for a byte that is not UTF-8.
pub(super) const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

/// The first character of `bytes` and its length; U+FFFD and 1 where it is not UTF-8. `None` at
/// the end.
pub(super) fn first_char(bytes: &[u8]) -> Option<(char, usize)> {
    let first = *bytes.first()?;
    if first.is_ascii() {
        return Some((char::from(first), 1));
    }
    let decoded = (2..=4).find_map(|length| {
        let text = std::str::from_utf8(bytes.get(..length)?).ok()?;
        Some((text.chars().next()?, length))
    });
    Some(decoded.unwrap_or((REPLACEMENT, 1)))
}

/// The last character of `bytes` and its length, by the same rules.
fn last_char(bytes: &[u8]) -> Option<(char, usize)> {
    bytes.last()?;
    let decoded = (1..=bytes.len().min(4)).find_map(|length| {
        let text = std::str::from_utf8(bytes.get(bytes.len() - length..)?).ok()?;
        Some((text.chars().next()?, length))
    });
    Some(decoded.unwrap_or((REPLACEMENT, 1)))
}

/// The characters of `bytes`, by the same rules.
pub(super) fn chars(mut bytes: &[u8]) -> impl Iterator<Item = char> {
    std::iter::from_fn(move || {
        let (character, length) = first_char(bytes)?;
        bytes = &bytes[length..];
        Some(character)
    })
}

/// Without Unicode white space at both ends (Go: `strings.TrimSpace`).
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let Some((character, length)) = first_char(bytes).filter(|(c, _)| c.is_whitespace()) {
        debug_assert!(character.is_whitespace());
        bytes = &bytes[length..];
    }
    while let Some((_, length)) = last_char(bytes).filter(|(c, _)| c.is_whitespace()) {
        bytes = &bytes[..bytes.len() - length];
    }
    bytes
}

/// The shortest path that means the same without looking at the file system (Go: `path.Clean`).
pub(super) fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.first() == Some(&b'/');
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." if names.last().is_some_and(|last| *last != b"..") => {
                names.pop();
            }
            b".." if rooted => {}
            name => names.push(name),
        }
    }
    let joined = names.join(&b'/');
    match (rooted, joined.is_empty()) {
        (true, _) => [b"/", &joined[..]].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

/// A path below the context's root, however it was written: clean, relative, never outside. Empty
/// for the root itself.
pub(super) fn below_root(path: &[u8]) -> Vec<u8> {
    let mut cleaned = clean(&[b"/", path].concat());
    cleaned.remove(0);
    cleaned
}

/// `name` in `directory`, where the root is empty.
pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, name].join(&b'/') }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning_is_lexical() {
        for (path, cleaned) in [
            ("", "."),
            (".", "."),
            ("/", "/"),
            ("//a//b/", "/a/b"),
            ("a/./b/../c", "a/c"),
            ("a/..", "."),
            ("../a", "../a"),
            ("../../a/..", "../.."),
            ("/../a", "/a"),
            ("!../../x", "x"),
        ] {
            assert_eq!(clean(path.as_bytes()), cleaned.as_bytes(), "{path}");
        }
        assert_eq!(below_root(b"../../a/./b/"), b"a/b");
        assert_eq!(below_root(b"."), b"");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_one_replacement_each() {
        let read: Vec<char> = chars(b"a\xff\xc3\xa9\xe2\x82").collect();
        assert_eq!(read, ['a', REPLACEMENT, 'é', REPLACEMENT, REPLACEMENT]);
    }

    #[test]
    fn white_space_is_trimmed_by_characters() {
        assert_eq!(trim("\u{a0}\t a b\u{3000}\r\n".as_bytes()), b"a b");
        assert_eq!(trim(b"\xa0a\x85"), b"\xa0a\x85");
        assert_eq!(trim(b" \t"), b"");
    }
}
