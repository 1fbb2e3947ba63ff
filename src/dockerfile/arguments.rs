//! The arguments of an instruction: JSON arrays, words between blanks, names with values
//! (`moby/buildkit: frontend/dockerfile/parser/line_parsers.go`).

use super::{error::Fault, split::BLANKS};

/// A word, unprocessed, and where it begins: first in its statement, then in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) at: usize,
}

/// A name and its value, unprocessed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) name: Word,
    pub(super) value: Word,
}

/// The strings of a JSON array, if that is what the text is.
pub(super) fn json(text: &str, at: usize) -> Result<Option<Vec<String>>, Fault> {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return Ok(None);
    }
    match serde_json::from_str::<Vec<serde_json::Value>>(text) {
        Ok(values) => values
            .into_iter()
            .map(|value| match value {
                serde_json::Value::String(text) => Ok(text),
                _ => Err(Fault::invalid(at, "only strings may stand in this JSON array")),
            })
            .collect::<Result<_, _>>()
            .map(Some),
        // Go reads half a surrogate pair, which serde_json refuses, as U+FFFD.
        Err(_) if text.to_ascii_lowercase().contains("\\ud") => {
            Err(Fault::not_understood(at, "a surrogate stands in what looks like a JSON array"))
        }
        Err(_) => Ok(None),
    }
}

/// A boolean as Go's `strconv.ParseBool` reads it.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// The words between blanks; quotes mean nothing.
pub(super) fn blanks(text: &str, at: usize) -> Vec<Word> {
    let mut words = Vec::new();
    let mut start = 0;
    for part in text.split(BLANKS) {
        if !part.is_empty() {
            words.push(Word { text: part.to_owned(), at: at + start });
        }
        start += part.len() + 1;
    }
    words
}

/// The words between blanks, where quotes and escapes keep blanks in a word; they are kept too.
pub(super) fn quoted(text: &str, at: usize, escape: char) -> Vec<Word> {
    let mut words = Vec::new();
    let mut chars = text.char_indices().peekable();
    loop {
        while chars.next_if(|(_, c)| c.is_whitespace()).is_some() {}
        let Some(&(start, _)) = chars.peek() else { return words };
        let mut word = Word { text: String::new(), at: at + start };
        let mut quote = None;
        while let Some((_, c)) = chars.next_if(|(_, c)| quote.is_some() || !c.is_whitespace()) {
            if c == escape && quote != Some('\'') {
                // At the end of the line it is nothing.
                let Some((_, escaped)) = chars.next() else { break };
                word.text.extend([c, escaped]);
                continue;
            }
            match quote {
                None if matches!(c, '\'' | '"') => quote = Some(c),
                Some(q) if q == c => quote = None,
                _ => {}
            }
            word.text.push(c);
        }
        if !word.text.is_empty() {
            words.push(word);
        }
    }
}

/// The pairs of `ENV` and `LABEL`: `name=value …`, or in the old way `name value`.
pub(super) fn pairs(
    text: &str,
    at: usize,
    escape: char,
    instruction: &str,
) -> Result<Vec<Pair>, Fault> {
    let words = quoted(text, at, escape);
    let Some(first) = words.first() else {
        return Err(Fault::invalid(at, format!("{instruction} needs a name and a value")));
    };
    if !first.text.contains('=') {
        let Some(end) = text.find(BLANKS) else {
            return Err(Fault::invalid(at, format!("{instruction} needs a value for the name")));
        };
        let value = text[end..].trim_start_matches(BLANKS);
        return Ok(vec![Pair {
            name: Word { text: text[..end].to_owned(), at },
            value: Word { text: value.to_owned(), at: at + (text.len() - value.len()) },
        }]);
    }
    words
        .into_iter()
        .map(|Word { text, at }| match text.split_once('=') {
            Some(("", _)) => {
                Err(Fault::invalid(at, format!("a name of {instruction} must not be empty")))
            }
            Some((name, value)) => Ok(Pair {
                name: Word { text: name.to_owned(), at },
                value: Word { text: value.to_owned(), at: at + name.len() + 1 },
            }),
            None => Err(Fault::invalid(at, format!("`{text}` must be of the form name=value"))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(words: Vec<Word>) -> Vec<String> {
        words.into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn json_is_an_array_of_strings_or_nothing() {
        let read = |text| json(text, 0);
        assert_eq!(read(r#" ["a", "b c"] "#).unwrap().unwrap(), ["a", "b c"]);
        assert_eq!(read("[]").unwrap().unwrap(), Vec::<String>::new());
        for text in ["", "a", "[a]", "['a']", r#"["a"] b"#, r#"["a""#, "[ -f x ]"] {
            assert_eq!(read(text), Ok(None), "{text}");
        }
        for text in ["[1]", r#"["a", null]"#, r#"[["a"]]"#, r#"["\ud800"]"#] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn words_know_where_they_stand() {
        let words = blanks("a  'b\tc' \u{a0}d", 10);
        let found: Vec<_> = words.iter().map(|word| (word.text.as_str(), word.at)).collect();
        assert_eq!(found, [("a", 10), ("'b", 13), ("c'", 16), ("\u{a0}d", 19)]);
        let words = quoted(" é 'b c' d", 10, '\\');
        let found: Vec<_> = words.iter().map(|word| (word.text.as_str(), word.at)).collect();
        assert_eq!(found, [("é", 11), ("'b c'", 14), ("d", 20)]);
    }

    #[test]
    fn quotes_and_escapes_keep_blanks_in_a_word() {
        for (text, words) in [
            ("", &[][..]),
            (r"a\ b c\", &[r"a\ b", "c"]),
            (r#"a"b 'c"' d'"#, &[r#"a"b 'c"' d'"#]),
            (r#""a\" b" 'c\' d"#, &[r#""a\" b""#, r"'c\'", "d"]),
            (r#""" ''x"#, &[r#""""#, "''x"]),
            (r#""unterminated x"#, &[r#""unterminated x"#]),
            (r"\", &[]),
        ] {
            assert_eq!(texts(quoted(text, 0, '\\')), words, "{text}");
        }
    }

    #[test]
    fn pairs_come_in_two_forms() {
        let read = |text: &str| -> Vec<(String, String)> {
            let pairs = pairs(text, 0, '\\', "ENV").unwrap();
            for Pair { name, value } in &pairs {
                assert!(text[name.at..].starts_with(&name.text), "{text}");
                assert!(text[value.at..].starts_with(&value.text), "{text}");
            }
            pairs.into_iter().map(|pair| (pair.name.text, pair.value.text)).collect()
        };
        assert_eq!(read("a b  c=d"), [("a".into(), "b  c=d".into())]);
        assert_eq!(
            read(r#"a=b c="d e" f= g=h=i"#),
            [("a", "b"), ("c", r#""d e""#), ("f", ""), ("g", "h=i")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        for text in ["", "a", "a=b c", "=b", "a=b =c"] {
            assert!(pairs(text, 0, '\\', "ENV").is_err(), "{text}");
        }
    }
}
