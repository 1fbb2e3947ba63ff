//! What is said: text for people on stderr, data on stdout.
//!
//! Knows how outcomes are worded; must not know how they came about.

mod files;
mod human;
pub mod progress;
mod terminal;

use std::{
    io::{self, Write},
    time::Duration,
};

use serde::Serialize;

use crate::{
    inputs::Key,
    registry::{Digest, Reference},
    settings::Verbosity,
};

/// How a build ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The registry had the image; tags were pointed at it.
    Retagged,
    /// The registry had the image and every tag pointed at it already.
    Unchanged,
    /// The image was built.
    Built,
    /// The engine's store had the image.
    Local,
    /// The registry had the image, and the engine pulled it.
    Pulled,
}

impl Outcome {
    /// How several builds ended together: as the one that had most to do.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let work = |outcome: &Self| match outcome {
            Self::Unchanged => 0,
            Self::Retagged => 1,
            Self::Pulled => 2,
            Self::Local => 3,
            Self::Built => 4,
        };
        [self, other].into_iter().max_by_key(work).unwrap_or(self)
    }
}

/// What a build did, for `--json` and for people.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// The key of the inputs.
    pub key: Key,
    /// Digest of the image's manifest in the registry, once it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The image's identifier in the engine's store, where an engine was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_id: Option<Digest>,
    /// The names asked for.
    pub tags: Vec<Tagged>,
    /// Why it was built; absent when it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the user should know although it worked.
    pub warnings: Vec<String>,
    /// How long it took, in seconds.
    #[serde(serialize_with = "seconds")]
    pub duration: Duration,
    /// Requests made to registries.
    pub requests: u64,
}

/// A name, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tagged {
    /// The name.
    pub reference: Reference,
    /// What was done for it.
    pub change: TagChange,
}

/// What was done for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TagChange {
    /// It pointed at the image already.
    Unchanged,
    /// It was pointed at the image in the registry.
    Moved,
    /// The image was pushed under it.
    Pushed,
    /// It names the image in the engine's store.
    Local,
}

/// Whether a build would be skipped, for `smartbuild check`.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The key of the inputs.
    pub key: Key,
    /// Whether the image is there.
    pub hit: bool,
    /// Its digest, when it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Why it would be built, when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    let milliseconds = u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
    serializer.serialize_f64(f64::from(milliseconds) / 1000.0)
}

/// Says things to people, as much as they want to hear.
#[derive(Clone, Copy, Debug)]
pub struct Reporter {
    verbosity: Verbosity,
    /// Whether programs read what is said, as a part of a build's progress.
    raw: bool,
}

impl Reporter {
    /// A reporter that says as much as `verbosity` asks for.
    #[must_use]
    pub fn new(verbosity: Verbosity) -> Self {
        Self { verbosity, raw: false }
    }

    /// The same, for programs: it says all as `--progress rawjson` does.
    #[must_use]
    pub fn raw(self) -> Self {
        Self { raw: true, ..self }
    }

    fn line(self, text: &str) {
        if self.raw {
            terminal::line(&progress::note(text));
        } else {
            line(text);
        }
    }

    /// Something that happened.
    pub fn say(&self, text: &str) {
        if self.verbosity >= Verbosity::Normal {
            self.line(text);
        }
    }

    /// How something happened, for those who asked with `-v`.
    pub fn detail(&self, text: impl FnOnce() -> String) {
        if self.verbosity >= Verbosity::Verbose {
            self.line(&text());
        }
    }

    /// Something that the user should know although it goes on. Said even when quiet.
    pub fn warn(&self, text: &str) {
        match self.raw {
            true => terminal::line(&progress::warning_for_programs(text)),
            false => line(&format!("warning: {text}")),
        }
    }

    /// What a person should know of how a key came about: warnings, and why the key does not cover
    /// everything, where it does not.
    pub fn preparation(&self, warnings: &[String], not_skippable: Option<&str>) {
        for warning in warnings {
            self.warn(warning);
        }
        if let Some(reason) = not_skippable {
            self.warn(&format!("a build of these inputs is never skipped: {reason}"));
        }
    }

    /// Whether a build would be skipped.
    pub fn verdict(&self, verdict: &Verdict) {
        match (&verdict.digest, &verdict.reason) {
            (Some(digest), _) => self.say(&format!("would skip: the image is {digest}")),
            (None, None) => self.say("would skip: the engine has the image"),
            (None, Some(reason)) => self.say(&format!("would build: {reason}")),
        }
    }

    /// The end of a build.
    pub fn finish(&self, report: &Report) {
        if self.verbosity >= Verbosity::Normal {
            for text in human::lines(report) {
                self.line(&text);
            }
        }
    }
}

/// Says on stderr what went wrong: one sentence.
pub fn complain(error: &dyn std::error::Error) {
    line(&format!("error: {error}"));
}

pub use files::{file, remove_file};
pub use human::listing;

/// Writes a text to stdout, with a newline at its end.
///
/// # Errors
/// When stdout cannot be written.
pub fn text(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.trim_end().as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Writes data to stdout as pretty JSON.
///
/// # Errors
/// When stdout cannot be written.
pub fn json(data: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, data)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// One line on stderr.
fn line(text: &str) {
    terminal::line(&format!("smartbuild: {text}"));
}
