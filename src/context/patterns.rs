//! A list of patterns, of which the last one that matches decides: BuildKit's rules for ignore
//! files, `COPY --exclude` and `COPY --parents` (moby/patternmatcher: `patternmatcher.go`).
//!
//! A pattern also matches everything below what it matches. That is carried down the tree pattern
//! by pattern ([`Matched`]), as BuildKit does in its walk: patterns that had no say about a
//! directory are not asked about it again for what the directory holds.

use super::{
    glob,
    regexp::{Form, Regexp, translate},
    text::{clean, trim},
};

/// Patterns in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Patterns {
    patterns: Vec<Pattern>,
    has_exceptions: bool,
    /// The steps that repetitions in them come to.
    repeated: usize,
}

#[derive(Clone, Debug)]
struct Pattern {
    exception: bool,
    matcher: Matcher,
}

#[derive(Clone, Debug)]
enum Matcher {
    Exact(Vec<u8>),
    Prefix(Vec<u8>),
    Suffix(Vec<u8>),
    Regexp(Regexp),
}

/// Which patterns matched a directory, one bit each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Matched(Vec<u64>);

impl Matched {
    fn get(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    fn set(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
    }
}

impl Patterns {
    /// Adds a pattern. Blank ones are passed over.
    ///
    /// # Errors
    /// It is no pattern; the reason is for people.
    pub(super) fn add(&mut self, pattern: &[u8]) -> Result<(), &'static str> {
        let pattern = trim(pattern);
        if pattern.is_empty() {
            return Ok(());
        }
        let pattern = clean(pattern);
        let (exception, pattern) = match pattern.strip_prefix(b"!") {
            Some(b"") => return Err("a `!` must be followed by a pattern"),
            Some(rest) => (true, rest),
            None => (false, &pattern[..]),
        };
        glob::matches(pattern, b".")
            .map_err(|_| "a `[` is not closed or empty, or a backslash is at the end")?;
        let matcher = match translate(pattern) {
            (Form::Exact, _) => Matcher::Exact(pattern.to_vec()),
            (Form::Prefix, _) => Matcher::Prefix(pattern[..pattern.len() - 2].to_vec()),
            (Form::Suffix, _) => Matcher::Suffix(pattern[2..].to_vec()),
            (Form::Regexp, text) => Matcher::Regexp(Regexp::parse(&text, &mut self.repeated)?),
        };
        self.patterns.push(Pattern { exception, matcher });
        self.has_exceptions |= exception;
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.patterns.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a path matches, given what matched the directory it is in (`None` in the root), and
    /// what matched the path itself.
    pub(super) fn step(&self, path: &[u8], parent: Option<&Matched>) -> (bool, Matched) {
        let mut own = Matched(vec![0; self.patterns.len().div_ceil(64)]);
        let matched = self.evaluate(path, parent, |index| own.set(index));
        (matched, own)
    }

    /// Whether a path matches, given what matched the directory it is in.
    pub(super) fn matches(&self, path: &[u8], parent: Option<&Matched>) -> bool {
        self.evaluate(path, parent, |_| {})
    }

    fn evaluate(&self, path: &[u8], parent: Option<&Matched>, mut note: impl FnMut(usize)) -> bool {
        let mut matched = false;
        for (index, pattern) in self.patterns.iter().enumerate() {
            let inherited = parent.is_some_and(|parent| parent.get(index));
            // An exclusion is only asked while nothing matched, an exception only while something
            // did; what is inherited counts always.
            if inherited || (pattern.exception == matched && pattern.matcher.matches(path)) {
                note(index);
                matched = !pattern.exception;
            }
        }
        matched
    }

    /// Whether anything below a directory that matches may still not match.
    pub(super) fn has_exception_below(&self, directory: &[u8]) -> bool {
        self.has_exceptions && self.reaches_below(directory, true)
    }

    /// Whether anything below a directory that does not match may match.
    pub(super) fn has_match_below(&self, directory: &[u8]) -> bool {
        self.reaches_below(directory, false)
    }

    fn reaches_below(&self, directory: &[u8], exception: bool) -> bool {
        self.patterns
            .iter()
            .filter(|pattern| pattern.exception == exception)
            .any(|pattern| pattern.matcher.reaches_below(directory))
    }

    /// Whether a path matches, asked without a walk.
    pub(super) fn matches_from_root(&self, path: &[u8]) -> bool {
        self.deciding(path).is_some()
    }

    /// The number of the pattern by which a path matches, if it does: of those that had a say, the
    /// last.
    pub(super) fn deciding(&self, path: &[u8]) -> Option<usize> {
        let mut parent: Option<Matched> = None;
        let mut deciding = None;
        let ends = (0..=path.len()).filter(|end| path.get(*end).is_none_or(|byte| *byte == b'/'));
        for end in ends {
            let mut own = Matched(vec![0; self.patterns.len().div_ceil(64)]);
            let mut last = None;
            let matched = self.evaluate(&path[..end], parent.as_ref(), |index| {
                own.set(index);
                last = Some(index);
            });
            deciding = last.filter(|_| matched);
            parent = Some(own);
        }
        deciding
    }
}

impl Matcher {
    fn matches(&self, path: &[u8]) -> bool {
        match self {
            Matcher::Exact(own) => path == own,
            Matcher::Prefix(prefix) => path.starts_with(prefix),
            Matcher::Suffix(suffix) => {
                // Most paths end otherwise, which one byte tells. `**/x` matches `x` too.
                suffix.last().is_none_or(|last| path.last() == Some(last))
                    && (path.ends_with(suffix) || suffix.strip_prefix(b"/") == Some(path))
            }
            Matcher::Regexp(regexp) => regexp.matches(path),
        }
    }

    /// Whether a path below `directory` can match.
    fn reaches_below(&self, directory: &[u8]) -> bool {
        // How the two begin tells: `directory/` and what every match starts with.
        let agrees = |prefix: &[u8]| {
            let common = directory.len().min(prefix.len());
            directory[..common] == prefix[..common]
                && prefix.get(directory.len()).is_none_or(|byte| *byte == b'/')
        };
        match self {
            Matcher::Exact(own) => own.len() > directory.len() && agrees(own),
            Matcher::Prefix(prefix) => agrees(prefix),
            Matcher::Suffix(_) => true,
            Matcher::Regexp(regexp) => agrees(regexp.literal_prefix()),
        }
    }
}
