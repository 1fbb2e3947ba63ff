//! The regular expressions that BuildKit makes of ignore patterns.
//!
//! BuildKit turns a pattern into the *text* of a Go regular expression, and what that text means is
//! what counts, however odd: `[*]` becomes `[[^/]*]`, `\d` is a digit, `^` is an anchor, and `{`, `|`
//! and `}` are not escaped (moby/patternmatcher: `shouldEscape` knows only the first 64 characters),
//! so that `*.a|*.b` means `^[^/]*\.a|[^/]*\.b$`. So the same text is made here, and read by the
//! rules of Go's `regexp/syntax`, as far as such a text can reach: there is one kind of group,
//! `(.*/)?`.
//!
//! Matching takes time in proportion to the length of the name times that of the pattern, and memory in
//! proportion to that of the pattern. A pattern of a few bytes with `{1000}` in it is long: how much is
//! repeated in all is bounded.

mod parse;
mod translate;

pub(super) use translate::{Form, translate};

use self::parse::Parser;
use super::text::{REPLACEMENT, first_char};

/// A compiled expression.
#[derive(Clone, Debug)]
pub(super) struct Regexp {
    /// The expression starts with `(.*/)?` and nothing after that can match a `/`: what follows is
    /// matched against the last name of a path alone.
    any_directory: bool,
    /// What a match must start and end with.
    prefix: Vec<u8>,
    suffix: Vec<u8>,
    /// What must match in between: one of these.
    middle: Vec<Vec<Step>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    One(Set),
    Optional(Set),
    Many(Set),
    /// `(.*/)?`. The step after it is always `InDirectories`.
    Directories,
    InDirectories,
    Start,
    End,
    WordBoundary(bool),
}

#[derive(Clone, Debug, PartialEq)]
enum Set {
    Char(char),
    /// `[^/]`
    NotSlash,
    /// `.`
    NotNewline,
    /// What comes before a match that need not start at the start.
    Any,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Set {
    fn contains(&self, character: char) -> bool {
        match self {
            Set::Char(own) => *own == character,
            Set::NotSlash => character != '/',
            Set::NotNewline => character != '\n',
            Set::Any => true,
            Set::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (low..=high).contains(&&character)) != *negated
            }
        }
    }
}

/// Why a text is no regular expression.
pub(super) type Reason = &'static str;

impl Regexp {
    /// Reads the text of an expression, without the `^` and the `$` around it. `repeated` counts the
    /// steps that repetitions stand for, here and in the other expressions of a list.
    pub(super) fn parse(text: &str, repeated: &mut usize) -> Result<Regexp, Reason> {
        let text: Vec<char> = ['^'].into_iter().chain(text.chars()).chain(['$']).collect();
        let mut alternatives = Parser::new(&text, repeated).parse()?;
        if let [single] = &mut alternatives[..]
            && let [Step::Start, steps @ .., Step::End] = &single[..]
            && !steps.iter().any(Step::is_assertion)
        {
            return Ok(Regexp::anchored(steps.to_vec()));
        }
        for steps in &mut alternatives {
            steps.insert(0, Step::Many(Set::Any));
        }
        let (prefix, suffix) = (Vec::new(), Vec::new());
        Ok(Regexp { any_directory: false, prefix, suffix, middle: alternatives })
    }

    /// An expression that must match the whole of a path.
    fn anchored(mut steps: Vec<Step>) -> Regexp {
        let any_directory = matches!(
            &steps[..],
            [Step::Directories, Step::InDirectories, rest @ ..]
                if rest.iter().all(|step| match step {
                    Step::One(set) | Step::Optional(set) | Step::Many(set) => !set.contains('/'),
                    _ => false,
                })
        );
        if any_directory {
            steps.drain(..2);
        }
        let leading = steps.iter().map_while(literal).count();
        let mut middle = steps.split_off(leading);
        let prefix: String = steps.iter().filter_map(literal).collect();
        let trailing = middle.iter().rev().map_while(literal).count();
        let end = middle.split_off(middle.len() - trailing);
        let suffix: String = end.iter().filter_map(literal).collect();
        middle.push(Step::End);
        Regexp {
            any_directory,
            prefix: prefix.into_bytes(),
            suffix: suffix.into_bytes(),
            middle: vec![middle],
        }
    }

    /// What every match starts with.
    pub(super) fn literal_prefix(&self) -> &[u8] {
        if self.any_directory { b"" } else { &self.prefix }
    }

    /// Whether that path matches.
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        let mut path = path;
        if self.any_directory
            && let Some(slash) = path.iter().rposition(|byte| *byte == b'/')
        {
            // `.` matches no newline.
            if path[..slash].contains(&b'\n') {
                return false;
            }
            path = &path[slash + 1..];
        }
        let Some(text) = between(path, &self.prefix, &self.suffix) else { return false };
        self.middle.iter().any(|steps| match &steps[..] {
            [Step::End] => text.is_empty(),
            [Step::Many(Set::NotSlash), Step::End] => !text.contains(&b'/'),
            steps => run(steps, text),
        })
    }
}

/// What stands between a prefix and a suffix, if both are there. Nothing is not compared: a `memcmp`
/// of no bytes at the address of an empty vector, which is no memory, costs as much as hundreds of
/// bytes where it loads with a mask (AVX-512).
fn between<'a>(path: &'a [u8], prefix: &[u8], suffix: &[u8]) -> Option<&'a [u8]> {
    let path = if prefix.is_empty() { path } else { path.strip_prefix(prefix)? };
    if suffix.is_empty() { Some(path) } else { path.strip_suffix(suffix) }
}

impl Step {
    fn is_assertion(&self) -> bool {
        matches!(self, Step::Start | Step::End | Step::WordBoundary(_))
    }
}

/// The character of a step that matches just that. U+FFFD also stands for any byte that is not
/// UTF-8, so it is no literal.
fn literal(step: &Step) -> Option<char> {
    match step {
        Step::One(Set::Char(character)) if *character != REPLACEMENT => Some(*character),
        _ => None,
    }
}

/// Follows every way through the steps at once, until one has come to its end.
fn run(steps: &[Step], text: &[u8]) -> bool {
    // The steps that the ways have come to, in order.
    let (mut current, mut next) = (Vec::new(), Vec::new());
    let mut rest = text;
    enter(steps, &mut current, 0, None, first_char(rest).map(|(c, _)| c));
    while current.last() != Some(&steps.len()) {
        let Some((character, length)) = first_char(rest).filter(|_| !current.is_empty()) else {
            return false;
        };
        rest = &rest[length..];
        let (before, after) = (Some(character), first_char(rest).map(|(c, _)| c));
        next.clear();
        for &at in &current {
            match steps.get(at) {
                Some(Step::One(set) | Step::Optional(set)) if set.contains(character) => {
                    enter(steps, &mut next, at + 1, before, after);
                }
                Some(Step::Many(set)) if set.contains(character) => {
                    enter(steps, &mut next, at, before, after);
                }
                Some(Step::InDirectories) if character != '\n' => {
                    add(&mut next, at);
                    if character == '/' {
                        enter(steps, &mut next, at + 1, before, after);
                    }
                }
                _ => {}
            }
        }
        std::mem::swap(&mut current, &mut next);
    }
    true
}

/// Adds a step, if it is not there already. What comes before the last one is there, or is not come
/// to any more: ways arrive in the order of the steps, each at all steps up to one that needs a
/// character.
fn add(states: &mut Vec<usize>, at: usize) -> bool {
    let is_new = states.last().is_none_or(|last| *last < at);
    if is_new {
        states.push(at);
    }
    is_new
}

/// Arrives at a step, and at those that may follow it without a character.
fn enter(
    steps: &[Step],
    states: &mut Vec<usize>,
    mut at: usize,
    before: Option<char>,
    after: Option<char>,
) {
    while add(states, at) {
        match steps.get(at) {
            Some(Step::Many(_) | Step::Optional(_)) => at += 1,
            Some(Step::Directories) => {
                add(states, at + 1);
                at += 2;
            }
            Some(Step::Start) if before.is_none() => at += 1,
            Some(Step::End) if after.is_none() => at += 1,
            Some(Step::WordBoundary(wanted)) if (is_word(before) != is_word(after)) == *wanted => {
                at += 1;
            }
            _ => return,
        }
    }
}

fn is_word(character: Option<char>) -> bool {
    character.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
}
