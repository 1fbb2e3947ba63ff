//! The text that BuildKit makes of a pattern (moby/patternmatcher: `Pattern.compile`).

use crate::context::text::chars;

/// The text of the expression that BuildKit makes of a cleaned pattern, and what it takes the
/// pattern for.
pub(in crate::context) fn translate(pattern: &[u8]) -> (Form, String) {
    // Go's scanner drops a byte order mark.
    let pattern = pattern.strip_prefix("\u{feff}".as_bytes()).unwrap_or(pattern);
    let mut text = String::new();
    let mut form = Form::Exact;
    let mut rest = chars(pattern).peekable();
    let mut at_start = true;
    while let Some(character) = rest.next() {
        match character {
            '*' if rest.next_if_eq(&'*').is_some() => {
                rest.next_if_eq(&'/');
                if rest.peek().is_some() {
                    text.push_str("(.*/)?");
                    form = Form::Regexp;
                } else if form == Form::Exact {
                    form = Form::Prefix;
                } else {
                    text.push_str(".*");
                    form = Form::Regexp;
                }
                if at_start {
                    form = Form::Suffix;
                }
            }
            '*' => {
                text.push_str("[^/]*");
                form = Form::Regexp;
            }
            '?' => {
                text.push_str("[^/]");
                form = Form::Regexp;
            }
            '.' | '+' | '(' | ')' | '$' => {
                text.push('\\');
                text.push(character);
            }
            '\\' => {
                text.push('\\');
                if let Some(escaped) = rest.next() {
                    text.push(escaped);
                    form = Form::Regexp;
                }
            }
            '[' | ']' => {
                text.push(character);
                form = Form::Regexp;
            }
            other => text.push(other),
        }
        at_start = false;
    }
    (form, text)
}

/// How BuildKit matches a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::context) enum Form {
    /// The path is the pattern.
    Exact,
    /// `x**`: the path starts with what is before the stars.
    Prefix,
    /// `**x`: the path ends with what is after the stars.
    Suffix,
    /// By the regular expression.
    Regexp,
}
