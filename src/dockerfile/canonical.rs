//! The canonical form of instructions: one text for all the ways to write the same.
//!
//! Name in upper case, flags in a fixed order without those that say the default, arguments after
//! expansion. A word is written plain or, where that could be read in another way, as a JSON string;
//! the shell text of a `RUN` is the rest of the line, as it is. So two instructions that differ have
//! texts that differ.

use std::borrow::Cow;

use super::{
    instruction::{Command, Health},
    lex::Heredoc,
};

/// A word that can be told from its neighbours.
pub(super) fn word(text: &str) -> Cow<'_, str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_./:@+*?=$~%-".contains(&b);
    if !text.is_empty() && !text.starts_with('-') && text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(json(text))
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// An instruction being written.
pub(super) struct Line(String);

impl Line {
    pub(super) fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// A word, already in canonical form.
    pub(super) fn push(&mut self, word: &str) {
        self.0.push(' ');
        self.0.push_str(word);
    }

    /// `--name=value`, if there is a value.
    pub(super) fn flag(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.push(&format!("--{name}={}", word(value)));
        }
    }

    /// `--name`, if so.
    pub(super) fn switch(&mut self, name: &str, on: bool) {
        if on {
            self.push(&format!("--{name}"));
        }
    }

    pub(super) fn words<'a>(&mut self, words: impl IntoIterator<Item = &'a str>) {
        for text in words {
            self.push(&word(text));
        }
    }

    /// `name=value`.
    pub(super) fn pair(&mut self, name: &str, value: &str) {
        let name = if name.contains('=') { Cow::Owned(json(name)) } else { word(name) };
        self.push(&format!("{name}={}", word(value)));
    }

    pub(super) fn heredoc(&mut self, heredoc: &Heredoc, content: &str) {
        let Heredoc { name, expand, chomp, .. } = heredoc;
        let chomp = if *chomp { "-" } else { "" };
        let raw = if *expand { "" } else { "'" };
        self.push(&format!("<<{chomp}{raw}{}={}", word(name), json(content)));
    }

    /// A command line, as the end of the instruction.
    pub(super) fn command(mut self, command: &Command) -> String {
        match command {
            Command::Exec(arguments) => {
                self.push(&serde_json::Value::from(arguments.as_slice()).to_string());
            }
            Command::Shell { text, heredocs } => {
                for heredoc in heredocs {
                    self.heredoc(heredoc, &heredoc.content);
                }
                // Flags and heredocs end where a text begins that could be read as one.
                if self.0.contains(' ') || text.starts_with("--") || text.starts_with("<<") {
                    self.push("--");
                }
                self.push(text);
            }
        }
        self.0
    }

    pub(super) fn health(mut self, health: &Health) -> String {
        match health {
            Health::None => {
                self.push("NONE");
                self.0
            }
            Health::Command { options, command } => {
                for (name, value) in options {
                    self.flag(name, Some(value));
                }
                self.push("CMD");
                self.command(command)
            }
        }
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}
