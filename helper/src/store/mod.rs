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
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use keyring_core::{CredentialStore, Entry, Error as KeyringError};

use crate::Credential;
use crate::host::Host;
use crate::lock;
use crate::secret::Secret;
use file::{make_private_directory, private};

pub use choice::{Choice, StoreError, open, open_for_writing};

/// One entry for each host, in some store.
#[derive(Clone)]
pub struct Vault {
    name: String,
    store: Arc<CredentialStore>,
    /// The file whose lock keeps other processes out while an entry is replaced.
    lock: Option<PathBuf>,
}

impl Vault {
    /// Over a store, which people call by this name: `the Secret Service`.
    #[must_use]
    pub fn new(name: impl Into<String>, store: Arc<CredentialStore>) -> Self {
        Self { name: name.into(), store, lock: None }
    }

    /// The same, where an entry is replaced under the lock of a file. For stores that keep an entry
    /// for each user: of two processes that each put their own and then clear away all others, both
    /// would lose.
    #[must_use]
    pub fn locked_by(self, file: Option<PathBuf>) -> Self {
        Self { lock: file, ..self }
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
    /// old one goes, so that an interruption loses neither; and only what was there before it goes,
    /// so that another program's does not.
    ///
    /// # Errors
    /// The store does not take it.
    pub fn store(&self, host: &Host, username: &str, secret: &Secret) -> Result<(), StoreError> {
        let server = host.server_url();
        let put = || {
            let _lock = self.lock();
            let old = self.entries_of(host)?;
            self.store.build(&server, username, None)?.set_password(secret.expose())?;
            let others = old.into_iter().filter(|(_, old_server, old_user)| {
                (old_server.as_str(), old_user.as_str()) != (&server, username)
            });
            delete(others)
        };
        put().map_err(|error| self.explain(error))
    }

    /// Removes the entries of a host.
    ///
    /// # Errors
    /// The store does not let go of one.
    pub fn erase(&self, host: &Host) -> Result<(), StoreError> {
        let erase = || {
            let _lock = self.lock();
            delete(self.entries_of(host)?)
        };
        erase().map_err(|error| self.explain(error))
    }

    /// The hosts that have an entry, each with its user name.
    ///
    /// # Errors
    /// The store does not say.
    pub fn list(&self) -> Result<Vec<(Host, String)>, StoreError> {
        self.list_those(|_| true)
    }

    /// The same without the entries that the store does not give away now, such as those of a locked
    /// keyring.
    ///
    /// # Errors
    /// The store does not say.
    pub fn list_open(&self) -> Result<Vec<(Host, String)>, StoreError> {
        // Attributes are to be had where the secret is: that is their rule in `keyring-core`.
        self.list_those(|entry| entry.get_attributes().is_ok())
    }

    fn list_those(
        &self,
        is_wanted: impl Fn(&Entry) -> bool,
    ) -> Result<Vec<(Host, String)>, StoreError> {
        let entries = self.search(None).map_err(|error| self.explain(error))?;
        let wanted = entries.into_iter().filter(|(entry, _, _)| is_wanted(entry));
        let named =
            |(_, server, username): (_, String, _)| Some((Host::parse(&server).ok()?, username));
        Ok(wanted.filter_map(named).collect())
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

    /// The entries of a host, however its server is written. Some stores find an entry that they are
    /// asked for, and cannot list what they have.
    fn entries_of(&self, host: &Host) -> keyring_core::Result<Vec<(Entry, String, String)>> {
        let mut entries = self.search(None)?;
        entries.retain(|(_, server, _)| Host::parse(server).as_ref() == Ok(host));
        if entries.is_empty() { self.search(Some(host)) } else { Ok(entries) }
    }

    /// Held until it is dropped. Where there is none, as in a home that is read-only, it is done
    /// without.
    fn lock(&self) -> Option<File> {
        let path = self.lock.as_ref()?;
        make_private_directory(path.parent()?).ok()?;
        let file = private(File::options().write(true).create(true).truncate(false)).open(path);
        lock::take(file.ok()?)
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

fn delete(entries: impl IntoIterator<Item = (Entry, String, String)>) -> keyring_core::Result<()> {
    for (entry, _, _) in entries {
        match entry.delete_credential() {
            Ok(()) | Err(KeyringError::NoEntry) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("name", &self.name).finish_non_exhaustive()
    }
}
