//! What was stored. To be filled.

use crate::Credential;
use crate::environment::Environment;
use crate::host::Host;
use crate::sources::{Source, SourceError};

/// The machine's store of secrets.
#[derive(Debug)]
pub struct Stored<'a> {
    _environment: &'a Environment,
}

impl<'a> Stored<'a> {
    /// Opens nothing yet.
    #[must_use]
    pub fn new(environment: &'a Environment) -> Self {
        Self { _environment: environment }
    }
}

impl Source for Stored<'_> {
    fn name(&self) -> &str {
        "store"
    }

    fn get(&self, _host: &Host) -> Result<Option<Credential>, SourceError> {
        Ok(None)
    }

    fn list(&self) -> Result<Vec<(Host, String)>, SourceError> {
        Ok(Vec::new())
    }
}
