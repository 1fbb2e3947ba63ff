//! Which engine to take where several may be there.

use std::path::Path;

use super::{Endpoint, Engine, Error};

/// Which kind of engine is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The Docker Engine, and buildah where none is named and none answers.
    #[default]
    Auto,
    /// A Docker Engine, or podman behind its interface.
    Docker,
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
    /// Registries that may be spoken to without TLS, for engines that have to be told.
    pub insecure: &'a [String],
}

impl Engine {
    /// Finds an engine that answers.
    ///
    /// An engine that a variable or a Docker context names is the one that is meant: if it does not
    /// answer, no other takes its place.
    ///
    /// # Errors
    /// When what is set names no engine, or none answers.
    pub async fn find(search: &Search<'_>) -> Result<Self, Error> {
        if search.choice == Choice::Buildah {
            return Self::buildah(search.insecure).await;
        }
        let endpoint = Endpoint::discover(search.variable, search.config)?;
        match Self::connect(&endpoint).await {
            Err(error)
                if error.is_unreachable()
                    && search.choice == Choice::Auto
                    && endpoint.origin.is_none() =>
            {
                match Self::buildah(search.insecure).await {
                    Err(Error::NotInstalled { .. }) => Err(error),
                    found => found,
                }
            }
            found => found,
        }
    }
}
