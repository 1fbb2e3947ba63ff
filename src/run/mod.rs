//! Carrying out what was asked for, from the request to the report.
//!
//! Knows the order of things; must not know wire formats. [`prepare`] finds the key, [`build`] makes
//! the image be there, [`check`] only looks.

mod bases;
mod build;
mod check;
mod doctor;
mod explain;
mod images;
mod located;
mod make;
mod names;
mod parts;
mod prepare;
mod prune;
mod publish;
mod push;
mod records;
mod remotes;
mod serve;
mod settle;
mod several;
mod signals;
mod stages;
mod unmatched;
mod unused;
mod watched;
mod world;

use std::{io, path::PathBuf};

pub use build::build;
pub use check::check;
pub use doctor::{Finding, Grade, doctor};
pub use explain::{Side, explain};
pub use parts::{Part, Whole, prepare_all};
pub use prepare::{Prepared, prepare};
pub use prune::{Fate, Keep, Stored, prune};
pub use signals::{Signal, end_at_the_next_signal, first_signal};
pub use world::World;

use crate::{context, dockerfile, engine, registry, settings};

/// Why it did not work: one clear sentence for people, and an exit code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for is wrong.
    #[error(transparent)]
    Settings(#[from] settings::Error),
    /// There is no Dockerfile, or it cannot be read.
    #[error("cannot read {name}: {source}; give the Dockerfile's path with -f")]
    NoDockerfile {
        /// Where it was looked for.
        name: String,
        /// What the system says.
        source: io::Error,
    },
    /// The Dockerfile is wrong.
    #[error("{0}")]
    Dockerfile(dockerfile::Error),
    /// A place in the Dockerfile that cannot be pinned.
    #[error(transparent)]
    Pin(#[from] dockerfile::PinConflict),
    /// A build context that is an image, where the Dockerfile cannot be read.
    #[error(
        "the image that is the build context `{context}` cannot be put into the Dockerfile: {reason}; \
         name the image in the Dockerfile instead"
    )]
    UnplacedImage {
        /// The name of the context.
        context: String,
        /// Why the Dockerfile cannot be read.
        reason: String,
    },
    /// The ignore file is wrong.
    #[error("{}: {source}", path.display())]
    Ignore {
        /// Which one.
        path: PathBuf,
        /// What is wrong.
        source: context::IgnoreError,
    },
    /// The build context cannot be read.
    #[error(transparent)]
    Context(#[from] context::Error),
    /// The Dockerfile names an image that cannot be one.
    #[error("the Dockerfile uses the image `{name}`: {source}")]
    ImageName {
        /// The name after expansion.
        name: String,
        /// What is wrong.
        source: registry::InvalidReference,
    },
    /// A base image could not be found, and the registry says why.
    #[error("the Dockerfile uses the image `{name}`: {source}")]
    Base {
        /// Its name.
        name: String,
        /// Why.
        source: Box<registry::Error>,
    },
    /// A base image is nowhere.
    #[error(
        "the Dockerfile uses the image `{name}`, which is not in its registry; check the name and \
         the tag{engine}"
    )]
    NoBase {
        /// Its name.
        name: String,
        /// What there is to say of the engine's store.
        engine: &'static str,
    },
    /// A stage whose name is mistyped, most likely: it stands for no image either.
    #[error(
        "{file} line {line}: no stage is called `{name}`; there is `{stage}`. As the name of an image, \
         it leads nowhere: {source}"
    )]
    NoStage {
        /// The Dockerfile.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What it says there.
        name: String,
        /// The stage that may be meant.
        stage: String,
        /// What became of the search for an image.
        source: Box<Error>,
    },
    /// The registry.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// No engine, where one is needed.
    #[error("{source}. {why}")]
    NoEngine {
        /// What was tried.
        source: engine::Error,
        /// What it is needed for.
        why: &'static str,
    },
    /// Something that cannot be pinned changed while the image was being built.
    #[error(
        "{0} changed while the image was being built, so that the image would not be that of its \
         key; nothing was published under the key: build again"
    )]
    Moved(String),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The build.
    #[error(transparent)]
    Build(#[from] engine::BuildError),
    /// The key is needed and does not cover everything.
    #[error("{0}")]
    Strict(String),
    /// What to compare cannot be found.
    #[error("{0}")]
    Explain(String),
    /// A signal.
    #[error("{signal}; {}", what_was_published(*publishing))]
    Stopped {
        /// Which one.
        signal: Signal,
        /// Whether names were being moved.
        publishing: bool,
    },
    /// Standard output could not be written.
    #[error("cannot write to stdout: {0}")]
    Stdout(#[from] io::Error),
    /// The system gives no event loop.
    #[error("cannot start: {0}")]
    Runtime(io::Error),
    /// A file that was asked for could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Which one.
        path: String,
        /// What the system says.
        source: io::Error,
    },
}

/// What a run had published that was asked to end.
fn what_was_published(publishing: bool) -> &'static str {
    if publishing {
        "its names were being moved, and not all of them may be: run it again"
    } else {
        "nothing was published"
    }
}
