//! Where credentials come from, and in which order they are asked.
//!
//! 1. [`variables`]: `REGISTRY_USERNAME`, `REGISTRY_PASSWORD` and their kin, as CI systems set them;
//! 2. [`stored`]: what `docker login` or `docker-credential-aliyun login` kept;
//! 3. [`identity`]: a RAM identity of this machine, exchanged for a token of one hour.
//!
//! The first source that has something for the host answers. One that is configured for the host
//! and cannot answer ends the search with its reason: to slide to the next would be to log in as
//! somebody else.

pub mod identity;
pub mod stored;
pub mod variables;

use std::error::Error;

use crate::Credential;
use crate::environment::Environment;
use crate::host::Host;

/// A place that may know credentials.
pub trait Source {
    /// What people call it, such as `CI variables`.
    fn name(&self) -> &str;

    /// The credential for a host; nothing if this source is not configured for it.
    ///
    /// # Errors
    /// The source is configured for the host, and cannot answer.
    fn get(&self, host: &Host) -> Result<Option<Credential>, SourceError>;

    /// The hosts that [`Source::get`] would answer for, each with its user name. A user name that
    /// only an expensive request would tell is empty.
    ///
    /// # Errors
    /// The source is configured, and cannot say.
    fn list(&self) -> Result<Vec<(Host, String)>, SourceError>;

    /// Those of [`Source::list`] for which [`Source::get`] would not fail, as far as can be told
    /// without asking for each.
    ///
    /// # Errors
    /// The source is configured, and cannot say.
    fn list_open(&self) -> Result<Vec<(Host, String)>, SourceError> {
        self.list()
    }
}

/// Why a source that is configured cannot answer, in one sentence with what to do about it.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SourceError(Box<dyn Error + Send + Sync>);

impl SourceError {
    /// Carries a source's own typed error, or a sentence.
    pub fn new(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(reason.into())
    }
}

/// All sources, in the order in which they are asked.
#[must_use]
pub fn all(environment: &Environment) -> [Box<dyn Source + '_>; 3] {
    [
        Box::new(variables::Variables::new(environment)),
        Box::new(stored::Stored::new(environment)),
        Box::new(identity::TokenExchange::new(environment)),
    ]
}
