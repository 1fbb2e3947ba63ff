//! Dockerfiles: from the text to what a target image depends on.
//!
//! Knows the language as BuildKit's frontend reads it (`moby/buildkit: frontend/dockerfile`). Must
//! not know files, registries or engines: text in, values out.
//!
//! ```text
//! text -> lex          lines -> statements: directives, continuation, heredocs
//!      -> split        a statement -> name, flags, rest
//!      -> arguments    the rest -> words, pairs, JSON
//!      -> instruction  typed instructions            (parse ends here)
//!      -> stages       names, global arguments -> the stages that the target reaches
//!      -> evaluate     their instructions, with the variables they see -> Slice
//!      -> steps        what engines call the instructions -> Lines
//! ```
//!
//! # What makes two Dockerfiles the same
//! The canonical text of [`SlicedInstruction`] is what the engine acts on, so it is equal for:
//! comments, blank lines, the case of instructions and flags' order, blanks between arguments, the
//! `escape` directive, the names of stages, `ARG` defaults that a build argument overrides, `ENV a b`
//! and `ENV a=b`, quotes and variables that expand to the same, and everything in stages that the
//! target does not reach. It differs where the shell or the image could see it: the text of `RUN`,
//! `CMD` and `ENTRYPOINT` is kept verbatim, with continued lines joined and the comments between them
//! removed as BuildKit does; so the indentation of a continued `RUN` counts. Of what only the
//! `history` of an image shows, the expanded arguments count (`COPY ./a` is not `COPY a`), the
//! spelling does not. An `ARG` counts with its value wherever a reached stage declares it, since
//! every later `RUN` sees it and the history shows it.
//!
//! # What is not known
//! widens or refuses ([`Slice::wider`], [`ErrorKind::NotUnderstood`]); nothing is guessed.

mod arguments;
mod canonical;
mod error;
mod evaluate;
mod features;
mod flags;
mod frontend;
mod git_source;
mod images;
mod instruction;
mod lex;
mod mark;
mod mount;
mod paths;
mod pin;
mod reuse;
mod slice;
mod split;
mod stages;
mod steps;
#[cfg(test)]
mod tests;
mod unused;
mod variables;
mod words;

use std::collections::{BTreeMap, BTreeSet};

pub use error::{Error, ErrorKind};
pub use features::Feature;
pub use frontend::{Frontend, frontend};
pub use git_source::GitSource;
pub use images::{BaseImage, ImageKey, ImageUse, Replaced, Role, familiar};
pub use pin::PinConflict;
pub use slice::{
    Base, ContextRead, Effect, ReadKind, Remote, RemoteKind, Secret, Slice, SlicedInstruction,
    SlicedStage, Wider,
};
pub use steps::{Counted, Lines, Location, Place};

use crate::platform::Platform;

/// What a build asks of a Dockerfile.
#[derive(Clone, Debug)]
pub struct Request {
    /// The stage to build; `None` is the last one.
    pub target: Option<String>,
    /// `--build-arg`, with the values that the client found for those without one.
    pub build_args: BTreeMap<String, String>,
    /// The platform to build for.
    pub platform: Platform,
    /// The platform of the builder.
    pub build_platform: Platform,
    /// The names of the `--build-context` options that are directories, each as [`familiar`] has it.
    pub contexts: BTreeSet<String>,
    /// The images that other `--build-context` options are, by their names.
    pub images: BTreeMap<String, String>,
}

impl Request {
    /// The last stage, for a platform on a builder of that platform, with nothing else said.
    #[must_use]
    pub fn new(platform: Platform) -> Self {
        Self {
            target: None,
            build_args: BTreeMap::new(),
            build_platform: platform.clone(),
            platform,
            contexts: BTreeSet::new(),
            images: BTreeMap::new(),
        }
    }
}

impl Request {
    /// The same of the text that [`Dockerfile::pin`] gives: images are in the places of their contexts.
    #[must_use]
    pub fn of_pinned(self) -> Self {
        Self { images: BTreeMap::new(), ..self }
    }
}

/// A Dockerfile that was read.
#[derive(Clone, Debug)]
pub struct Dockerfile {
    text: Vec<u8>,
    escape: char,
    /// Whether the last instruction ends in a continued line.
    unfinished: bool,
    globals: Vec<instruction::Instruction>,
    stages: Vec<stages::Stage>,
    names: stages::Names,
}

/// Reads a Dockerfile.
///
/// # Errors
/// It is not one; see [`Error::kind`] for whether an engine may think otherwise. Ask [`frontend`]
/// first: a text for a frontend that is not known need not be a Dockerfile at all.
pub fn parse(text: &[u8]) -> Result<Dockerfile, Error> {
    let read = || {
        let lex::Lexed { escape, statements, unfinished } = lex::lex(text)?;
        let instructions = statements
            .iter()
            .map(|statement| instruction::read(statement, escape))
            .collect::<Result<_, _>>()?;
        let (globals, stages) = stages::divide(instructions)?;
        let names = stages::Names::of(&stages);
        let (text, unfinished) = (text.to_vec(), unfinished.is_some());
        Ok(Dockerfile { text, escape, unfinished, globals, stages, names })
    };
    read().map_err(|fault| Error::locate(text, fault))
}

impl Dockerfile {
    /// The image that reads this Dockerfile, if the engine's own frontend does not.
    ///
    /// [`frontend`] asks the same of a text that could not be parsed.
    #[must_use]
    pub fn frontend(&self, request: &Request) -> Option<Frontend> {
        frontend(&self.text, &request.build_args)
    }

    /// The names of the stages, in the order of the file.
    pub fn stage_names(&self) -> impl Iterator<Item = &str> {
        self.stages.iter().filter_map(|stage| stage.from.name.as_deref())
    }

    /// Every image that the target reaches by what this text says, in the order of the file: one
    /// entry for each place that names it. Base images with `ONBUILD` triggers can add more, which
    /// [`Slice::images`] has.
    ///
    /// # Errors
    /// The target is not there, or a name does not expand to one.
    pub fn images(&self, request: &Request) -> Result<Vec<ImageUse>, Error> {
        let reach = || Ok(stages::Graph::new(self, request)?.reach(&BTreeMap::new())?.1);
        reach().map_err(|fault| Error::locate(&self.text, fault))
    }

    /// What the target depends on.
    ///
    /// `bases` has the configurations of the images with [`Role::Base`]; of a named context that is
    /// a directory, an empty one. Without that of an image, its environment and triggers are unknown,
    /// and what depends on them widens: see [`Slice::wider`].
    ///
    /// # Errors
    /// The target is not there, or something that it reaches is wrong.
    pub fn slice(
        &self,
        request: &Request,
        bases: &BTreeMap<ImageKey, BaseImage>,
    ) -> Result<Slice, Error> {
        evaluate::slice(self, request, bases).map_err(|fault| Error::locate(&self.text, fault))
    }

    /// The text to serve to the engine: each of these uses with its digest (`sha256:…`) behind the
    /// name, the frontend likewise, everything else byte for byte, and the lines where they were.
    /// Images take the place of the contexts that stand for them, with their digests if they have any.
    ///
    /// What cannot be pinned ([`ImageUse::end`] or [`Frontend::span`] is `None`, a directory takes its
    /// place, or the name has a digest already) is passed over.
    ///
    /// # Errors
    /// Two digests for one place: its name depends on the platform, and the platforms must be built
    /// one by one.
    pub fn pin<'a>(
        &self,
        uses: impl IntoIterator<Item = (&'a ImageUse, Option<&'a str>)>,
        frontend: Option<(&Frontend, &str)>,
    ) -> Result<Vec<u8>, PinConflict> {
        pin::pin(&self.text, self.escape, uses, frontend)
    }
}
