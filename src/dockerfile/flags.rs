//! The flags of an instruction, checked against those that it has
//! (`moby/buildkit: frontend/dockerfile/instructions/bflag.go`).

use super::{arguments::Word, error::Fault, lex::Joined, split::Flag};

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    Bool,
    One,
    Many,
}

/// The value of a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) text: String,
    /// Where the flag begins in the source.
    pub(super) at: usize,
    /// For each character of the text, where it ends in the source.
    pub(super) ends: Vec<usize>,
}

/// The flags of one instruction.
#[derive(Debug)]
pub(super) struct Flags(Vec<(&'static str, Value)>);

impl Flags {
    pub(super) fn read(
        flags: &[Flag],
        joined: &Joined,
        instruction: &str,
        known: &[(&'static str, Takes)],
    ) -> Result<Self, Fault> {
        let mut values: Vec<(&'static str, Value)> = Vec::new();
        for flag in flags {
            let at = joined.source(flag.at);
            let (name, value) = match flag.text.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (flag.text.as_str(), None),
            };
            let Some(&(known, takes)) =
                known.iter().find(|(known, _)| name.strip_prefix("--") == Some(known))
            else {
                return Err(Fault::not_understood(
                    at,
                    format!("`{name}` is not a flag of {instruction} that is known here"),
                ));
            };
            if takes != Takes::Many && values.iter().any(|(seen, _)| *seen == known) {
                return Err(Fault::invalid(at, format!("`{name}` stands here twice")));
            }
            let value = match (takes, value) {
                (Takes::Bool, None) => "true",
                (Takes::Bool, Some(text)) => match text.to_ascii_lowercase().as_str() {
                    "true" => "true",
                    "false" => "false",
                    _ => {
                        return Err(Fault::invalid(
                            at,
                            format!("`{name}` is true or false, not `{text}`"),
                        ));
                    }
                },
                (_, Some(text)) => text,
                (_, None) => {
                    return Err(Fault::invalid(at, format!("`{name}` needs a value")));
                }
            };
            let skipped = flag.ends.len() - value.chars().count().min(flag.ends.len());
            let ends = flag.ends[skipped..].iter().map(|&end| joined.source_end(end)).collect();
            values.push((known, Value { text: value.to_owned(), at, ends }));
        }
        Ok(Self(values))
    }

    /// The value of a flag that can stand once; an empty one is as good as none.
    pub(super) fn one(&self, name: &str) -> Option<&Value> {
        self.many(name).next().filter(|value| !value.text.is_empty())
    }

    /// The value of a flag that can stand once, as a word to be expanded.
    pub(super) fn word(&self, name: &str) -> Option<Word> {
        self.one(name).map(|value| Word { text: value.text.clone(), at: value.at })
    }

    /// Whether a flag is there, and true.
    pub(super) fn bool(&self, name: &str) -> Option<bool> {
        self.many(name).next().map(|value| value.text == "true")
    }

    /// The values of a flag that can stand many times.
    pub(super) fn many(&self, name: &str) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value)
    }
}
