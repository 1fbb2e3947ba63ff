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
    /// The lines that the patterns stand on, from 1, and what these say.
    lines: Vec<(usize, String)>,
    /// What the file is called.
    file: String,
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

/// A line of an ignore file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IgnoredBy {
    /// The ignore file, as people know it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What it says.
    pub pattern: String,
}

impl Ignore {
    /// Reads the text of an ignore file.
    ///
    /// # Errors
    /// A line is not a pattern, or is 64 KiB long or longer.
    pub fn parse(text: &[u8]) -> Result<Ignore, IgnoreError> {
        let mut patterns = Patterns::default();
        let mut lines = Vec::new();
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
            // One that is blank is none.
            if patterns.len() > lines.len() {
                lines.push((index + 1, String::from_utf8_lossy(trim(line)).into_owned()));
            }
        }
        Ok(Ignore { patterns, lines, file: "the ignore file".to_owned() })
    }

    /// The same with the name that the file has for people.
    #[must_use]
    pub fn named(self, file: impl Into<String>) -> Ignore {
        Ignore { file: file.into(), ..self }
    }

    /// The line by which a path is excluded, if it is.
    pub(super) fn line(&self, path: &[u8]) -> Option<IgnoredBy> {
        let index = self.patterns.deciding(path).filter(|_| self.excludes(path))?;
        let (line, pattern) = self.lines.get(index)?.clone();
        Some(IgnoredBy { file: self.file.clone(), line, pattern })
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn excludes(text: &str, path: &str) -> bool {
        Ignore::parse(text.as_bytes()).unwrap().excludes(path.as_bytes())
    }

    /// What moby/patternmatcher itself says of generated files, read and asked as BuildKit does.
    #[test]
    fn agrees_with_the_reference() {
        let cases: Vec<Value> = serde_json::from_str(include_str!("ignore_cases.json")).unwrap();
        assert!(cases.len() > 300);
        for case in cases {
            let text = case["ignore"].as_str().unwrap();
            if case["refused"] == true {
                assert!(Ignore::parse(text.as_bytes()).is_err(), "{text:?}");
                continue;
            }
            for (list, expected) in [("excluded", true), ("included", false)] {
                for path in case[list].as_array().unwrap() {
                    let path = path.as_str().unwrap();
                    assert_eq!(excludes(text, path), expected, "{text:?} {path:?}");
                }
            }
        }
    }

    #[test]
    fn lines_are_read_as_buildkit_reads_them() {
        assert!(excludes("\u{feff}a\r\nb\r\n", "a"));
        assert!(excludes("a\r\nb\r\n", "b"));
        assert!(excludes("a", "a/below/it"));
        assert!(excludes("  /a/./b/../c/  ", "a/c"));
        assert!(!excludes("#a", "#a"));
        assert!(excludes(" #a", "#a"));
        assert!(excludes("a\n ! a/b \n", "a/c"));
        assert!(!excludes("a\n ! a/b \n", "a/b"));
        assert!(excludes("/", "a") == excludes(".", "a"));
        // Cleaning takes the mark of an exception with it.
        assert!(excludes("!../../a", "a"));
        for text in ["", "\n\n", "# nothing", "..", "../a", "."] {
            assert!(!excludes(text, "a"), "{text:?}");
        }
    }

    #[test]
    fn the_root_is_never_excluded() {
        for text in ["**", "*", ".", "/"] {
            assert!(!excludes(text, "."));
            assert!(!excludes(text, ""));
        }
    }

    /// buildx #850: what matched a directory is remembered pattern by pattern.
    #[test]
    fn an_exception_holds_for_what_it_was_asked_about() {
        assert!(!excludes("*\n!a/b", "a/b/c"));
        assert!(excludes("*\n!a/b", "a/c"));
        // `a` was not excluded, so its exception had no say, nor has it for what is in `a`.
        assert!(excludes("a/b\n!a", "a/b"));
        assert!(!excludes("**/b\n!a/b", "a/b/c"));
    }

    #[test]
    fn names_that_are_not_utf8_match_by_their_bytes() {
        let excludes = |text: &[u8], path: &[u8]| Ignore::parse(text).unwrap().excludes(path);
        assert!(excludes(b"\xff", b"\xff"));
        assert!(!excludes(b"\xff", b"\xfe"));
        assert!(excludes(b"?.log", b"\xff.log"));
        assert!(excludes(b"*", b"\xff\xfe/x"));
    }

    #[test]
    fn a_wrong_line_is_named() {
        let error = Ignore::parse(b"fine\n\n[a\n").unwrap_err();
        let said = error.to_string();
        assert!(said.starts_with("line 3, `[a`, is not a pattern: a `[` is not closed"), "{said}");
        for text in ["!", "! ", "[", "a[]", "[Local-Only]/", "\\", "a*{2}", "\\k*", "[z-a]"] {
            assert!(Ignore::parse(text.as_bytes()).is_err(), "{text:?}");
        }
        let longest = vec![b'a'; LONGEST_LINE];
        assert!(Ignore::parse(&longest).is_ok());
        assert!(Ignore::parse(&[&longest[..], b"a"].concat()).is_err());
    }

    /// Few bytes can stand for a long expression.
    #[test]
    fn repetitions_come_to_an_end() {
        let error = Ignore::parse(format!("?{}", "[ab]{1000}".repeat(900)).as_bytes()).unwrap_err();
        assert!(error.reason.contains("repetitions"), "{error}");
        let line = format!("?{}\n", "[ab]{1000}".repeat(100));
        assert!(Ignore::parse(line.as_bytes()).is_ok());
        let error = Ignore::parse(line.repeat(5).as_bytes()).unwrap_err();
        assert_eq!(error.line, 3, "{}", error.reason);
        assert!(excludes(&line, &format!("x{}", "ab".repeat(50_000))));
        assert!(!excludes(&line, &format!("x{}c", "ab".repeat(50_000))));
    }

    /// Patterns and paths that meet often.
    fn pattern() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("a"),
            Just("b"),
            Just("/"),
            Just("*"),
            Just("**"),
            Just("?"),
            Just("[a-b]"),
            Just("[^a]"),
            Just("."),
            Just("|"),
            Just("\\"),
            Just("{2}"),
            Just("^"),
            Just("$"),
        ];
        (any::<bool>(), prop::collection::vec(piece, 1..6)).prop_map(|(exception, pieces)| {
            format!("{}{}", if exception { "!" } else { "" }, pieces.concat())
        })
    }

    fn path() -> impl Strategy<Value = String> {
        prop::collection::vec("[ab.]{1,3}", 1..5).prop_map(|names| names.join("/"))
    }

    proptest! {
        /// What is pruned in a walk would not have been taken.
        #[test]
        fn nothing_is_included_below_what_is_pruned(
            lines in prop::collection::vec(pattern(), 1..5),
            paths in prop::collection::vec(path(), 1..20),
        ) {
            let Ok(ignore) = Ignore::parse(lines.join("\n").as_bytes()) else { return Ok(()) };
            for path in &paths {
                for (end, _) in path.match_indices('/') {
                    let directory = &path.as_bytes()[..end];
                    if ignore.excludes(directory) && !ignore.may_include_below(directory) {
                        prop_assert!(ignore.excludes(path.as_bytes()), "{path} {lines:?}");
                    }
                }
            }
        }

        #[test]
        fn nothing_panics(text in prop::collection::vec(any::<u8>(), 0..60), path: Vec<u8>) {
            if let Ok(ignore) = Ignore::parse(&text) {
                ignore.excludes(&path);
            }
        }

        #[test]
        fn odd_patterns_do_not_panic(
            text in "[\\[\\]^!*?/\\\\{}|()$.,:aQEdx0-9-]{0,24}",
            path in "[ab/\\[\\]^*.]{0,12}",
        ) {
            if let Ok(ignore) = Ignore::parse(text.as_bytes()) {
                ignore.excludes(path.as_bytes());
            }
        }
    }
}
