//! Where secrets are kept: the choice of a store, and what we do with it.
//!
//! A store is anything behind the traits of `keyring-core`; ours are in the modules below. It knows
//! entries of hosts; it must not know where else credentials come from.

use thiserror::Error;

use crate::Credential;
use crate::environment::Environment;
use crate::host::Host;
use crate::secret::Secret;

/// Why a store did not do what it was asked to.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is none.
    #[error("there is no store for secrets on this machine")]
    None,
}

/// One entry for each host, in some store.
#[derive(Debug)]
pub struct Vault {}

impl Vault {
    /// The entry of a host.
    pub fn get(&self, _host: &Host) -> Result<Option<Credential>, StoreError> {
        Err(StoreError::None)
    }

    /// Puts an entry in place of whatever there was for the host.
    pub fn store(&self, _: &Host, _: &str, _: &Secret) -> Result<(), StoreError> {
        Err(StoreError::None)
    }

    /// Removes the entry of a host.
    pub fn erase(&self, _host: &Host) -> Result<(), StoreError> {
        Err(StoreError::None)
    }

    /// All entries.
    pub fn list(&self) -> Result<Vec<(Host, String)>, StoreError> {
        Err(StoreError::None)
    }
}

/// The store of this machine, if there is one.
pub fn open(_environment: &Environment) -> Result<Option<Vault>, StoreError> {
    Ok(None)
}

/// The store of this machine, made if need be.
pub fn open_for_writing(_environment: &Environment) -> Result<Vault, StoreError> {
    Err(StoreError::None)
}
