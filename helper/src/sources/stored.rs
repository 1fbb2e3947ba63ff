//! What `docker login` or `docker-credential-aliyun login` kept.

use crate::Credential;
use crate::environment::Environment;
use crate::host::Host;
use crate::sources::{Source, SourceError};
use crate::store;

/// The store of this machine, opened when it is asked.
#[derive(Debug)]
pub struct Stored<'a> {
    environment: &'a Environment,
}

impl<'a> Stored<'a> {
    /// Opens nothing yet.
    #[must_use]
    pub fn new(environment: &'a Environment) -> Self {
        Self { environment }
    }
}

impl Source for Stored<'_> {
    fn name(&self) -> &str {
        "store"
    }

    fn get(&self, host: &Host) -> Result<Option<Credential>, SourceError> {
        match store::open(self.environment).map_err(SourceError::new)? {
            Some(vault) => vault.get(host).map_err(SourceError::new),
            None => Ok(None),
        }
    }

    fn list(&self) -> Result<Vec<(Host, String)>, SourceError> {
        match store::open(self.environment).map_err(SourceError::new)? {
            Some(vault) => vault.list().map_err(SourceError::new),
            None => Ok(Vec::new()),
        }
    }

    fn list_open(&self) -> Result<Vec<(Host, String)>, SourceError> {
        match store::open(self.environment).map_err(SourceError::new)? {
            Some(vault) => vault.list_open().map_err(SourceError::new),
            None => Ok(Vec::new()),
        }
    }
}
