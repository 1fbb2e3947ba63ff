//! RAM identities. To be filled.

use crate::Credential;
use crate::environment::Environment;
use crate::host::Host;
use crate::sources::{Source, SourceError};

/// The RAM identity of this machine, exchanged for a token of one hour.
#[derive(Debug)]
pub struct Identity<'a> {
    _environment: &'a Environment,
}

impl<'a> Identity<'a> {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(environment: &'a Environment) -> Self {
        Self { _environment: environment }
    }
}

impl Source for Identity<'_> {
    fn name(&self) -> &str {
        "RAM identity"
    }

    fn get(&self, _host: &Host) -> Result<Option<Credential>, SourceError> {
        Ok(None)
    }

    fn list(&self) -> Result<Vec<(Host, String)>, SourceError> {
        Ok(Vec::new())
    }
}
