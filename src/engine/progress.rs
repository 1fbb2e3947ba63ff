//! What happens while an engine works, as events.
//!
//! Knows what there is to tell; must not know how it is shown.

use std::{fmt, time::Duration};

use crate::dockerfile::{Location, Place};

/// Somebody who wants to know. Called from the task that drives the build, in order.
pub trait Progress: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event);
}

/// Nobody: for builds that nobody watches.
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _event: Event) {}
}

/// The number of a step within one build, in the order in which steps became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepId(pub u32);

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A step became known. It may start later, or never.
    StepKnown {
        /// Which one.
        step: StepId,
        /// Its name as the engine gives it: `[build 2/5] RUN make`, `[internal] load metadata ...`.
        name: String,
        /// Where it stands in the Dockerfile, if it is an instruction of it.
        place: Option<Place>,
    },
    /// A step starts to run.
    StepStarted {
        /// Which one.
        step: StepId,
    },
    /// The engine has the result of a step already.
    StepCached {
        /// Which one.
        step: StepId,
    },
    /// A step ran and is done.
    StepFinished {
        /// Which one.
        step: StepId,
        /// How long it took, by the engine's clock.
        took: Duration,
    },
    /// A step failed.
    StepFailed {
        /// Which one.
        step: StepId,
        /// What the engine says.
        message: String,
        /// Where it stands in the user's Dockerfile. No engine knows: whoever knows it says so.
        at: Option<Location>,
    },
    /// A step wrote something. It ends where the engine cut it, which may be inside a line or
    /// even a character.
    Log {
        /// Which one.
        step: StepId,
        /// Where it wrote to.
        stream: Stream,
        /// What.
        text: Vec<u8>,
    },
    /// Something is being moved within a step: the context, a layer of a base.
    Transfer {
        /// Which step.
        step: StepId,
        /// What is moved, unique within the step.
        what: String,
        /// How far it is.
        amount: Amount,
        /// Whether it is there.
        done: bool,
    },
    /// A layer of an image that is pushed or pulled.
    Layer {
        /// The beginning of the layer's digest, as the engine gives it.
        layer: String,
        /// What happens to it: `Pushing`, `Layer already exists`, `Downloading`.
        status: String,
        /// How far it is, while it is under way.
        amount: Option<Amount>,
    },
    /// The engine has something to say about the Dockerfile.
    Warning {
        /// What, in one line.
        short: String,
        /// What else there is to say.
        detail: Vec<String>,
        /// Where to read about it.
        url: Option<String>,
        /// The first line of the Dockerfile that it is about.
        line: Option<u32>,
    },
    /// The engine has something to say, about nothing in particular.
    Note {
        /// What.
        text: String,
    },
}

impl Event {
    /// A cache is done without.
    pub(super) fn unused(cache: impl fmt::Display, why: &str) -> Self {
        let short = format!("the cache {cache} cannot be used: {why}");
        Self::Warning { short, detail: Vec::new(), url: None, line: None }
    }
}

/// Where a step wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How far something is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    /// So many are there.
    pub current: u64,
    /// Of so many, if that is known.
    pub total: Option<u64>,
}

impl Amount {
    /// From what engines send, where anything below one means unknown.
    pub(super) fn new(current: i64, total: i64) -> Self {
        let total = u64::try_from(total).ok().filter(|total| *total > 0);
        Self { current: u64::try_from(current).unwrap_or(0), total }
    }
}
