//! Where secrets are kept: the choice of a store, and one entry for each host in it.
//!
//! A store is anything behind the traits of `keyring-core` that can search by `service` (here: the
//! registry) and `user`; ours are in the modules below. This module knows hosts and entries; it
//! must not know how a store keeps them, nor where else credentials come from.

pub mod choice;
pub mod file;
pub mod helper;
#[cfg(target_os = "linux")]
pub mod keyutils;
pub mod native;
#[cfg(target_os = "linux")]
pub mod secret_service;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use keyring_core::{CredentialStore, Entry, Error as KeyringError};

use crate::Credential;
use crate::host::Host;
use crate::secret::Secret;

pub use choice::{Choice, StoreError, open, open_for_writing};

/// One entry for each host, in some store.
#[derive(Clone)]
pub struct Vault {
    name: String,
    store: Arc<CredentialStore>,
}

impl Vault {
    /// Over a store, which people call by this name: `the Secret Service`.
    #[must_use]
    pub fn new(name: impl Into<String>, store: Arc<CredentialStore>) -> Self {
        Self { name: name.into(), store }
    }

    /// What people call the store.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The entry of a host.
    ///
    /// # Errors
    /// There is one, and the store does not give it away: it is locked, or broken.
    pub fn get(&self, host: &Host) -> Result<Option<Credential>, StoreError> {
        let find = || {
            let exact = self.search(Some(host))?;
            let entries = if exact.is_empty() { self.search(None)? } else { exact };
            for (entry, server, username) in entries {
                if Host::parse(&server).as_ref() != Ok(host) {
                    continue;
                }
                let secret = match entry.get_password() {
                    Ok(text) => Secret::new(text),
                    Err(KeyringError::NoEntry) => continue,
                    Err(error) => return Err(error),
                };
                let origin = self.name.clone();
                return Ok(Some(Credential { username, secret, origin, expires: None }));
            }
            Ok(None)
        };
        find().map_err(|error| self.explain(error))
    }

    /// Puts an entry in place of whatever there was for the host. The new one is there before the
    /// old one goes, so that an interruption loses neither.
    ///
    /// # Errors
    /// The store does not take it.
    pub fn store(&self, host: &Host, username: &str, secret: &Secret) -> Result<(), StoreError> {
        let server = host.server_url();
        let put = || {
            self.store.build(&server, username, None)?.set_password(secret.expose())?;
            self.delete(host, |old_server, old_user| (old_server, old_user) != (&server, username))
        };
        put().map_err(|error| self.explain(error))
    }

    /// Removes the entries of a host.
    ///
    /// # Errors
    /// The store does not let go of one.
    pub fn erase(&self, host: &Host) -> Result<(), StoreError> {
        self.delete(host, |_, _| true).map_err(|error| self.explain(error))
    }

    /// The hosts that have an entry, each with its user name.
    ///
    /// # Errors
    /// The store does not say.
    pub fn list(&self) -> Result<Vec<(Host, String)>, StoreError> {
        let entries = self.search(None).map_err(|error| self.explain(error))?;
        let named =
            |(_, server, username): (_, String, _)| Some((Host::parse(&server).ok()?, username));
        Ok(entries.into_iter().filter_map(named).collect())
    }

    /// Entries with their server and user: those whose server is written as the host, or all.
    fn search(&self, host: Option<&Host>) -> keyring_core::Result<Vec<(Entry, String, String)>> {
        let server = host.map(Host::server_url);
        let spec: HashMap<_, _> =
            server.iter().map(|server| ("service", server.as_str())).collect();
        let named = |entry: Entry| {
            let (server, username) = entry.get_specifiers()?;
            Some((entry, server, username))
        };
        Ok(self.store.search(&spec)?.into_iter().filter_map(named).collect())
    }

    /// Deletes those entries of a host, however its server is written, that are picked.
    fn delete(&self, host: &Host, pick: impl Fn(&str, &str) -> bool) -> keyring_core::Result<()> {
        for (entry, server, username) in self.search(None)? {
            if Host::parse(&server).as_ref() == Ok(host) && pick(&server, &username) {
                match entry.delete_credential() {
                    Ok(()) | Err(KeyringError::NoEntry) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn explain(&self, error: KeyringError) -> StoreError {
        let reason = match error {
            KeyringError::PlatformFailure(reason) | KeyringError::NoStorageAccess(reason) => {
                reason.to_string()
            }
            KeyringError::BadEncoding(_) => "holds a secret that is not UTF-8".to_owned(),
            KeyringError::TooLong(_, limit) => {
                format!("takes no secret longer than {limit} bytes")
            }
            other => format!("failed: {other}"),
        };
        StoreError::Failed { store: self.name.clone(), reason }
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("name", &self.name).finish_non_exhaustive()
    }
}
