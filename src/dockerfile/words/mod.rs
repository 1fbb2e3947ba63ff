//! Words: quotes, escapes and variables, as BuildKit's shell lexer processes them
//! (`moby/buildkit: frontend/dockerfile/shell/lex.go`).
//!
//! Knows nothing of instructions: which words are processed, and with which variables, is theirs.

mod pattern;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use self::pattern::Pattern;
use super::ErrorKind;

/// What a variable is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Set(&'a str),
    Unset,
    /// It cannot be known here, nor what depends on it.
    Unknown,
}

/// Where variables are looked up.
pub(super) trait Scope {
    fn get(&self, name: &str) -> Value<'_>;
}

/// No variables at all.
pub(super) struct Empty;

impl Scope for Empty {
    fn get(&self, _: &str) -> Value<'_> {
        Value::Unset
    }
}

impl Scope for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Value<'_> {
        BTreeMap::get(self, name).map_or(Value::Unset, |value| Value::Set(value))
    }
}

/// Why a word cannot be processed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WordError {
    pub(super) kind: ErrorKind,
    pub(super) message: String,
}

impl WordError {
    fn invalid(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Invalid, message: message.into() }
    }

    fn not_understood(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::NotUnderstood, message: message.into() }
    }
}

/// A word with its variables replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Expansion {
    pub(super) text: String,
    /// The variables that were set and looked at.
    pub(super) used: BTreeSet<String>,
    /// A variable that is not known; then the text means nothing.
    pub(super) unknown: Option<String>,
    /// Whether a pattern modifier (`#`, `%`, `/`) was met.
    pub(super) patterns: bool,
}

/// How words are processed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lexer {
    /// The escape character.
    pub(super) escape: char,
    /// Keep quotes.
    pub(super) raw_quotes: bool,
    /// Keep escape characters.
    pub(super) raw_escapes: bool,
    /// Quotes are characters like others.
    pub(super) skip_quotes: bool,
    /// Leave variables that are not set as they are.
    pub(super) skip_unset: bool,
}

impl Lexer {
    pub(super) fn new(escape: char) -> Self {
        Self {
            escape,
            raw_quotes: false,
            raw_escapes: false,
            skip_quotes: false,
            skip_unset: false,
        }
    }

    /// One word; blanks have no meaning.
    pub(super) fn word(&self, word: &str, scope: &dyn Scope) -> Result<Expansion, WordError> {
        let mut run = Run::new(self, word, scope);
        let result = run.until(None, self.raw_escapes);
        let Run { used, unknown, patterns, .. } = run;
        match result {
            Ok((text, _)) => Ok(Expansion { text, used, unknown, patterns }),
            // Whether this error occurs depends on what is not known.
            Err(_) if unknown.is_some() => {
                Ok(Expansion { text: String::new(), used, unknown, patterns })
            }
            Err(error) => Err(error),
        }
    }

    /// The words that the blanks outside of quotes divide the text into, after expansion.
    pub(super) fn words(&self, text: &str, scope: &dyn Scope) -> Result<Vec<String>, WordError> {
        Run::new(self, text, scope).until(None, self.raw_escapes).map(|(_, words)| words)
    }
}

/// Deepest nesting of `${…}` in `${…}`, and most bytes that one word may become: no sane file comes
/// near, and a hostile one can neither exhaust the stack nor the memory.
const MAX_DEPTH: usize = 64;
const MAX_LENGTH: usize = 1 << 20;

struct Run<'a> {
    lexer: &'a Lexer,
    scope: &'a dyn Scope,
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    raw_escapes: bool,
    depth: usize,
    length: usize,
    /// The word under way. One for all levels of nesting, as in BuildKit, where the word of an
    /// inner level therefore begins by forgetting the outer one.
    word: String,
    used: BTreeSet<String>,
    unknown: Option<String>,
    patterns: bool,
}

/// The words found so far on one level of nesting.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    inside: bool,
}

impl Words {
    fn character(&mut self, word: &mut String, c: char) {
        if !c.is_whitespace() {
            word.push(c);
            self.inside = true;
        } else if self.inside && !word.is_empty() {
            self.done.push(std::mem::take(word));
            self.inside = false;
        }
    }

    fn raw(&mut self, word: &mut String, text: &str) {
        word.push_str(text);
        self.inside = true;
    }

    fn finish(mut self, word: &mut String) -> Vec<String> {
        if !word.is_empty() {
            self.done.push(std::mem::take(word));
        }
        self.done
    }
}

impl<'a> Run<'a> {
    fn new(lexer: &'a Lexer, text: &'a str, scope: &'a dyn Scope) -> Self {
        // Go's text/scanner skips a byte order mark at the beginning of what it reads.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self {
            lexer,
            scope,
            rest: text.chars().peekable(),
            raw_escapes: lexer.raw_escapes,
            depth: 0,
            length: 0,
            word: String::new(),
            used: BTreeSet::new(),
            unknown: None,
            patterns: false,
        }
    }

    /// Processes up to and including a character, or to the end where there is none.
    fn until(
        &mut self,
        stop: Option<char>,
        raw_escapes: bool,
    ) -> Result<(String, Vec<String>), WordError> {
        if self.depth == MAX_DEPTH {
            return Err(WordError::not_understood("substitutions are nested too deeply"));
        }
        let outer = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        self.depth += 1;
        let result = self.until_inner(stop);
        self.depth -= 1;
        self.raw_escapes = outer;
        result
    }

    fn until_inner(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), WordError> {
        let mut result = String::new();
        let mut words = Words::default();
        self.word.clear();
        while let Some(&next) = self.rest.peek() {
            if Some(next) == stop {
                self.rest.next();
                return Ok((result, words.finish(&mut self.word)));
            }
            match next {
                '$' => {
                    let value = self.dollar()?;
                    result.push_str(&value);
                    value.chars().for_each(|c| words.character(&mut self.word, c));
                }
                '<' => {
                    let text = self.angle();
                    result.push_str(&text);
                    words.raw(&mut self.word, &text);
                }
                '\'' | '"' if !self.lexer.skip_quotes => {
                    let text = if next == '"' { self.double()? } else { self.single()? };
                    result.push_str(&text);
                    words.raw(&mut self.word, &text);
                }
                _ => {
                    self.rest.next();
                    if next != self.lexer.escape {
                        words.character(&mut self.word, next);
                        result.push(next);
                        continue;
                    }
                    if self.raw_escapes {
                        words.raw(&mut self.word, next.encode_utf8(&mut [0; 4]));
                        result.push(next);
                    }
                    let Some(escaped) = self.rest.next() else { break };
                    words.raw(&mut self.word, escaped.encode_utf8(&mut [0; 4]));
                    result.push(escaped);
                }
            }
        }
        match stop {
            None => Ok((result, words.finish(&mut self.word))),
            Some(stop) => Err(WordError::invalid(format!("missing `{stop}` in a substitution"))),
        }
    }

    /// `'…'`: everything as it is.
    fn single(&mut self) -> Result<String, WordError> {
        let mut result = String::new();
        result.extend(self.rest.next().filter(|_| self.lexer.raw_quotes));
        for c in self.rest.by_ref() {
            if c == '\'' {
                result.extend(self.lexer.raw_quotes.then_some(c));
                return Ok(result);
            }
            result.push(c);
        }
        Err(WordError::invalid("missing the closing single quote"))
    }

    /// `"…"`: variables, and escapes of `"`, `$` and the escape character itself.
    fn double(&mut self) -> Result<String, WordError> {
        let mut result = String::new();
        result.extend(self.rest.next().filter(|_| self.lexer.raw_quotes));
        while let Some(&next) = self.rest.peek() {
            if next == '$' {
                result.push_str(&self.dollar()?);
                continue;
            }
            self.rest.next();
            if next == '"' {
                result.extend(self.lexer.raw_quotes.then_some(next));
                return Ok(result);
            }
            if next != self.lexer.escape {
                result.push(next);
                continue;
            }
            if self.raw_escapes {
                result.push(next);
            }
            match self.rest.peek() {
                None => {}
                Some(&c) if c == '"' || c == '$' || c == self.lexer.escape => {
                    self.rest.next();
                    result.push(c);
                }
                Some(_) => result.push(next),
            }
        }
        Err(WordError::invalid("missing the closing double quote"))
    }

    /// `<<` with the blanks behind it belongs together: what follows is the name of a heredoc.
    fn angle(&mut self) -> String {
        let mut text = String::from(self.rest.next().unwrap_or('<'));
        if let Some(second) = self.rest.next_if_eq(&'<') {
            text.push(second);
            while let Some(blank) = self.rest.next_if(|c| matches!(c, '\t' | '\r' | ' ')) {
                text.push(blank);
            }
        }
        text
    }

    /// `$name` or `${…}`.
    fn dollar(&mut self) -> Result<String, WordError> {
        self.rest.next();
        if self.rest.next_if_eq(&'{').is_none() {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(match self.lookup(&name)? {
                None if self.lexer.skip_unset => format!("${name}"),
                value => value.unwrap_or_default(),
            });
        }
        match self.rest.peek() {
            None => return Err(missing_brace()),
            Some('{' | '}' | ':') => return Err(WordError::invalid("bad substitution")),
            Some(_) => {}
        }
        let name = self.name();
        match self.rest.next() {
            None => Err(missing_brace()),
            Some('}') => Ok(match self.lookup(&name)? {
                None if self.lexer.skip_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            }),
            Some(':') => match self.rest.next() {
                None => Err(missing_brace()),
                Some(modifier @ ('-' | '+' | '?')) => self.conditional(&name, modifier, true),
                Some(other) => Err(unsupported(&format!(":{other}"))),
            },
            Some(modifier @ ('-' | '+' | '?')) => self.conditional(&name, modifier, false),
            Some(modifier @ ('#' | '%')) => self.trimmed(&name, modifier),
            Some('/') => self.replaced(&name),
            Some(other) => Err(unsupported(&other.to_string())),
        }
    }

    /// `${name-word}`, `${name+word}`, `${name?message}`, and the same with a colon, for which an
    /// empty value is none.
    fn conditional(
        &mut self,
        name: &str,
        modifier: char,
        colon: bool,
    ) -> Result<String, WordError> {
        let word = self.operand('}', false)?;
        let value = self.lookup(name)?;
        if value.is_none() && self.lexer.skip_unset {
            let colon = if colon { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{modifier}{word}}}"));
        }
        let present = value.as_ref().is_some_and(|value| !colon || !value.is_empty());
        match (modifier, present) {
            ('+', true) | ('-', false) => Ok(word),
            ('+', false) => Ok(String::new()),
            ('?', false) => {
                let what = if value.is_some() { "empty" } else { "unset" };
                let default = format!("is not allowed to be {what}");
                let message = if word.is_empty() { &default } else { &word };
                Err(WordError::invalid(format!("{name}: {message}")))
            }
            _ => Ok(value.unwrap_or_default()),
        }
    }

    /// `${name#pattern}` and `${name%pattern}`; doubled, the longest match.
    fn trimmed(&mut self, name: &str, modifier: char) -> Result<String, WordError> {
        self.patterns = true;
        let word = self.operand('}', true)?;
        let value = self.lookup(name)?;
        if value.is_none() && self.lexer.skip_unset {
            return Ok(format!("${{{name}{modifier}{word}}}"));
        }
        let value = value.unwrap_or_default();
        let (pattern, greedy) = match word.strip_prefix(modifier) {
            Some(rest) => (rest, true),
            None => (word.as_str(), false),
        };
        match modifier {
            '#' => Pattern::new(pattern)?.trim_start(&value, greedy),
            _ => Pattern::reversed(pattern)?.trim_end(&value, greedy),
        }
    }

    /// `${name/pattern/replacement}`, and `${name//pattern/replacement}` for every match.
    fn replaced(&mut self, name: &str) -> Result<String, WordError> {
        self.patterns = true;
        let all = self.rest.next_if_eq(&'/').is_some();
        let pattern = self.operand('/', true)?;
        let replacement = self.operand('}', true)?;
        let value = self.lookup(name)?;
        if value.is_none() && self.lexer.skip_unset {
            return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
        }
        let pattern = Pattern::new(&pattern)?;
        let result = pattern.replace(&value.unwrap_or_default(), &replacement, all)?;
        self.grow(result.len())?;
        Ok(result)
    }

    /// What stands in a substitution up to a character.
    fn operand(&mut self, stop: char, raw_escapes: bool) -> Result<String, WordError> {
        match self.until(Some(stop), raw_escapes) {
            Ok((text, _)) => Ok(text),
            Err(error) if error.kind == ErrorKind::Invalid && self.rest.peek().is_none() => {
                Err(WordError::invalid(format!("missing `{stop}` in a substitution")))
            }
            Err(error) => Err(error),
        }
    }

    /// The name of a variable; empty if there is none.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.rest.peek() {
            Some(c) if c.is_ascii_digit() => {
                while let Some(digit) = self.rest.next_if(char::is_ascii_digit) {
                    name.push(digit);
                }
            }
            // The special parameters of the shell, none of which is ever set.
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.rest.next()),
            _ => {
                while let Some(c) = self.rest.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    name.push(c);
                }
            }
        }
        name
    }

    fn lookup(&mut self, name: &str) -> Result<Option<String>, WordError> {
        match self.scope.get(name) {
            Value::Set(value) => {
                self.used.insert(name.to_owned());
                let value = value.to_owned();
                self.grow(value.len())?;
                Ok(Some(value))
            }
            Value::Unset => Ok(None),
            Value::Unknown => {
                self.unknown.get_or_insert_with(|| name.to_owned());
                Ok(Some(String::new()))
            }
        }
    }

    fn grow(&mut self, by: usize) -> Result<(), WordError> {
        self.length += by;
        if self.length > MAX_LENGTH {
            return Err(WordError::not_understood("a word becomes longer than 1 MiB"));
        }
        Ok(())
    }
}

fn missing_brace() -> WordError {
    WordError::invalid("missing `}` in a substitution")
}

fn unsupported(modifier: &str) -> WordError {
    WordError::not_understood(format!("the modifier `{modifier}` of a substitution is not known"))
}
