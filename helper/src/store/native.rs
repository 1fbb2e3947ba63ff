//! The platform's own keychain, through the keyring project's store for it: the Keychain of macOS,
//! the Credential Manager of Windows.
//!
//! Where Docker's own helper for that keychain is installed, [`super::helper`] asks it instead, and
//! what one program stored the other reads. Here it is not, so the format is the keyring project's.
//! This module tells our entries from everybody else's in there, which it never touches; it must not
//! know which keychain it is. So it is tested on every platform, with the keyring project's mock.

use std::any::Any;
use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use keyring_core::api::{Credential, CredentialApi, CredentialPersistence, CredentialStoreApi};
use keyring_core::{CredentialStore, Entry, Error, Result};
use thiserror::Error as ThisError;

/// What the service of our entries starts with; the server follows.
const PREFIX: &str = "docker-credential-aliyun:";

/// What the keychain did not do, to follow its name in a sentence.
#[derive(Debug, ThisError)]
enum Refusal {
    #[error(
        "does not let us in: {0}; unlock it, or set DOCKER_CREDENTIAL_ALIYUN_STORE=file for the \
         encrypted file"
    )]
    Closed(Box<dyn StdError + Send + Sync>),
    #[error("failed: {0}")]
    Other(Box<dyn StdError + Send + Sync>),
}

/// Our entries in a keychain that others use too.
#[derive(Clone)]
pub struct NativeStore {
    inner: Arc<CredentialStore>,
}

impl NativeStore {
    /// Over a store that can list what it has.
    #[must_use]
    pub fn new(inner: Arc<CredentialStore>) -> Self {
        Self { inner }
    }

    /// The user's default keychain of macOS.
    ///
    /// # Errors
    /// There is none.
    #[cfg(target_os = "macos")]
    pub fn keychain() -> Result<Self> {
        Ok(Self::new(apple_native_keyring_store::keychain::Store::new()?))
    }

    /// The user's Credential Manager of Windows. A name in it is `user|service`, and no service of
    /// ours has a bar in it.
    ///
    /// # Errors
    /// There is none.
    #[cfg(windows)]
    pub fn credential_manager() -> Result<Self> {
        use windows_native_keyring_store::Store;
        Ok(Self::new(Store::new_with_configuration(&HashMap::from([("divider", "|")]))?))
    }

    fn entry(&self, server: &str, inner: Entry) -> Entry {
        Entry::new_with_credential(Arc::new(Item { server: server.to_owned(), inner }))
    }
}

impl fmt::Debug for NativeStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.vendor())
    }
}

impl CredentialStoreApi for NativeStore {
    fn vendor(&self) -> String {
        self.inner.vendor()
    }

    fn id(&self) -> String {
        format!("docker-credential-aliyun/{}", self.inner.id())
    }

    fn build(&self, service: &str, user: &str, _: Option<&HashMap<&str, &str>>) -> Result<Entry> {
        // It need not outlive this machine's profile, so it does not roam to others.
        let persistence = HashMap::from([("persistence", "Local")]);
        let modifiers = cfg!(windows).then_some(&persistence);
        let inner = self.inner.build(&format!("{PREFIX}{service}"), user, modifiers);
        Ok(self.entry(service, inner.map_err(refuse)?))
    }

    fn search(&self, spec: &HashMap<&str, &str>) -> Result<Vec<Entry>> {
        // Each keychain has a language of its own for less than everything.
        let all = self.inner.search(&HashMap::new()).map_err(refuse)?;
        let wanted = |name, value: &str| spec.get(name).is_none_or(|wanted| *wanted == value);
        let ours = all.into_iter().filter_map(|inner| {
            let (service, user) = inner.get_specifiers()?;
            let server = service.strip_prefix(PREFIX)?;
            let is_wanted = wanted("service", server) && wanted("user", &user);
            is_wanted.then(|| self.entry(server, inner))
        });
        Ok(ours.collect())
    }

    fn persistence(&self) -> CredentialPersistence {
        self.inner.persistence()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// An entry that is there, or is to be.
#[derive(Debug)]
struct Item {
    server: String,
    inner: Entry,
}

/// Secrets are bytes, not the platform's text: UTF-16 would halve what Windows takes.
impl CredentialApi for Item {
    fn set_secret(&self, secret: &[u8]) -> Result<()> {
        self.inner.set_secret(secret).map_err(refuse)
    }

    fn get_secret(&self) -> Result<Vec<u8>> {
        self.inner.get_secret().map_err(refuse)
    }

    fn delete_credential(&self) -> Result<()> {
        self.inner.delete_credential().map_err(refuse)
    }

    fn get_credential(&self) -> Result<Option<Arc<Credential>>> {
        self.inner.get_credential().map(|_| None).map_err(refuse)
    }

    fn get_specifiers(&self) -> Option<(String, String)> {
        self.inner.get_specifiers().map(|(_, user)| (self.server.clone(), user))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn refuse(error: Error) -> Error {
    match error {
        Error::NoStorageAccess(reason) => Error::NoStorageAccess(Box::new(Refusal::Closed(reason))),
        Error::PlatformFailure(reason) => Error::PlatformFailure(Box::new(Refusal::Other(reason))),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use keyring_core::mock;

    use super::*;
    use crate::host::Host;
    use crate::secret::Secret;
    use crate::store::Vault;

    fn vault(inner: &Arc<CredentialStore>) -> Vault {
        Vault::new("the Keychain", Arc::new(NativeStore::new(Arc::clone(inner))))
    }

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    #[test]
    fn what_is_stored_is_found_replaced_and_forgotten() {
        let inner: Arc<CredentialStore> = mock::Store::new().unwrap();
        let vault = vault(&inner);
        let get =
            |text| vault.get(&host(text)).unwrap().map(|found| (found.username, found.secret));
        assert_eq!(get("r.example"), None);
        for (user, secret) in [("a|b", "1"), ("ci@1", "2"), ("ci@1", "3")] {
            vault.store(&host("r.example"), user, &Secret::new(secret.to_owned())).unwrap();
        }
        vault.store(&host("r.example:5000"), "other", &Secret::new("4".to_owned())).unwrap();
        let found = |user: &str, secret: &str| Some((user.into(), Secret::new(secret.to_owned())));
        assert_eq!(get("https://R.example/v2/"), found("ci@1", "3"));
        assert_eq!(get("r.example:5000"), found("other", "4"));
        // The mock goes on listing what was deleted.
        let hosts: BTreeSet<_> = vault.list().unwrap().into_iter().map(|(host, _)| host).collect();
        assert_eq!(hosts, BTreeSet::from([host("r.example"), host("r.example:5000")]));
        vault.erase(&host("r.example")).unwrap();
        vault.erase(&host("r.example")).unwrap();
        assert_eq!(get("r.example"), None);
        assert_eq!(get("r.example:5000"), found("other", "4"));
    }

    #[test]
    fn entries_of_others_are_neither_seen_nor_touched() {
        let inner: Arc<CredentialStore> = mock::Store::new().unwrap();
        let theirs = inner.build("r.example", "somebody", None).unwrap();
        theirs.set_password("theirs").unwrap();
        let vault = vault(&inner);
        assert!(vault.list().unwrap().is_empty());
        assert!(vault.get(&host("r.example")).unwrap().is_none());
        vault.erase(&host("r.example")).unwrap();
        assert_eq!(theirs.get_password().unwrap(), "theirs");
    }
}
