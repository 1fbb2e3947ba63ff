//! Which engine to take where several may be there.

use std::path::Path;

use super::{Endpoint, Engine, Error};

/// Which kind of engine is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The one that is named, a Docker Engine before a buildkitd before buildah.
    #[default]
    Auto,
    /// A Docker Engine, or podman behind its interface.
    Docker,
    /// A `buildkitd`.
    BuildKit,
    /// The program `buildah`.
    Buildah,
}

/// What there is to go by.
pub struct Search<'a> {
    /// What is wanted.
    pub choice: Choice,
    /// The environment's variables.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Docker's configuration directory, if there is one.
    pub config: Option<&'a Path>,
    /// Whether the image has to be in a store at the end, which a `buildkitd` does not have.
    pub keep: bool,
    /// Registries that may be spoken to without TLS, for engines that have to be told.
    pub insecure: &'a [String],
}

impl Engine {
    /// Finds an engine that answers.
    ///
    /// An engine that a variable or a Docker context names is the one that is meant: if it does not
    /// answer, no other takes its place. `BUILDKIT_HOST` is only about builds, so that it comes
    /// before `DOCKER_HOST` where a `buildkitd` will do.
    ///
    /// # Errors
    /// When what is set names no engine, or none answers.
    pub async fn find(search: &Search<'_>) -> Result<Self, Error> {
        let Search { choice, variable, config, keep, insecure } = *search;
        let named = || variable("BUILDKIT_HOST").is_some_and(|host| !host.is_empty());
        match choice {
            Choice::Buildah => return Self::buildah(insecure).await,
            Choice::BuildKit => return Self::buildkitd(&Endpoint::of_buildkitd(variable)?).await,
            Choice::Auto if !keep && named() => {
                return Self::buildkitd(&Endpoint::of_buildkitd(variable)?).await;
            }
            Choice::Auto | Choice::Docker => {}
        }
        let endpoint = Endpoint::discover(variable, config)?;
        let error = match Self::connect(&endpoint).await {
            Err(error) if error.is_unreachable() => error,
            found => return found,
        };
        if choice == Choice::Docker || endpoint.origin.is_some() {
            return Err(error);
        }
        if !keep && let Ok(found) = Self::buildkitd(&Endpoint::of_buildkitd(variable)?).await {
            return Ok(found);
        }
        match Self::buildah(insecure).await {
            Err(Error::NotInstalled { .. }) => Err(error),
            found => found,
        }
    }
}
