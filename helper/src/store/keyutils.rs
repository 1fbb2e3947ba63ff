//! The Linux kernel's persistent keyring of a user (persistent-keyring(7)).
//!
//! It needs no session, no bus and no file. The kernel forgets it when the machine restarts, and
//! when nobody has used it for three days. Opt-in.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use keyring_core::api::{Credential, CredentialApi, CredentialPersistence, CredentialStoreApi};
use keyring_core::{Entry, Error, Result};
use linux_keyutils::{Key, KeyError, KeyRing, KeyRingIdentifier};
use serde::{Deserialize, Serialize};
use thiserror::Error as ThisError;
use zeroize::Zeroizing;

/// What the descriptions of our keys start with; the server follows.
const PREFIX: &str = "docker-credential-aliyun:store:";

/// The longest list of keys that is read, in bytes (four for each). By default the kernel lets a user
/// have 200 keys.
const MAX_LIST: usize = 1 << 18;

/// What the kernel did not do, to follow the keyring's name in a sentence.
#[derive(Debug, ThisError)]
enum Refusal {
    #[error(
        "is not available here (containers usually forbid it); set DOCKER_CREDENTIAL_ALIYUN_STORE=file for the encrypted file"
    )]
    Forbidden,
    #[error("is full; see /proc/sys/kernel/keys/maxbytes")]
    Full,
    #[error("holds something else under our name; remove it with `keyctl`")]
    Foreign,
    #[error("failed: {0}")]
    Other(KeyError),
}

/// The persistent keyring of the process's user.
#[derive(Debug, Default)]
pub struct KeyutilsStore {}

/// What a key holds.
#[derive(Serialize)]
struct Payload<'a> {
    username: &'a str,
    secret: &'a str,
}

impl KeyutilsStore {
    /// Opens nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {}
    }
}

/// Linked to the process's keyring, which is what makes it ours to read and write. A session
/// keyring would not do: cron, containers and CI have none.
fn keyring() -> Result<KeyRing> {
    KeyRing::get_persistent(KeyRingIdentifier::Process).map_err(refuse)
}

impl CredentialStoreApi for KeyutilsStore {
    fn vendor(&self) -> String {
        "Linux keyutils, persistent keyring".to_owned()
    }

    fn id(&self) -> String {
        "docker-credential-aliyun/keyutils".to_owned()
    }

    fn build(&self, service: &str, user: &str, _: Option<&HashMap<&str, &str>>) -> Result<Entry> {
        Ok(KernelKey::entry(service, user))
    }

    fn search(&self, spec: &HashMap<&str, &str>) -> Result<Vec<Entry>> {
        let keyring = keyring()?;
        let keys: Vec<Key> = match spec.get("service") {
            Some(server) => keyring.search(&format!("{PREFIX}{server}")).into_iter().collect(),
            None => {
                let links = keyring.get_links(MAX_LIST).map_err(refuse)?;
                links.iter().filter_map(|link| link.as_key()).collect()
            }
        };
        let mut entries = Vec::new();
        for key in keys {
            // A key of somebody else, or one that has expired since, is not ours to list.
            let Ok(metadata) = key.metadata() else { continue };
            let Some(server) = metadata.get_description().strip_prefix(PREFIX) else { continue };
            let Ok((username, _)) = read(&key) else { continue };
            if spec.get("user").is_none_or(|wanted| *wanted == username) {
                entries.push(KernelKey::entry(server, &username));
            }
        }
        Ok(entries)
    }

    fn persistence(&self) -> CredentialPersistence {
        CredentialPersistence::UntilReboot
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A key that is there, or is to be.
#[derive(Debug, Clone)]
struct KernelKey {
    server: String,
    username: String,
}

impl KernelKey {
    fn entry(server: &str, username: &str) -> Entry {
        let (server, username) = (server.to_owned(), username.to_owned());
        Entry::new_with_credential(Arc::new(Self { server, username }))
    }

    fn description(&self) -> String {
        format!("{PREFIX}{}", self.server)
    }

    fn find(&self) -> Result<(KeyRing, Key, Vec<u8>)> {
        let keyring = keyring()?;
        let key = keyring.search(&self.description()).map_err(refuse)?;
        match read(&key)? {
            (username, secret) if username == self.username => Ok((keyring, key, secret)),
            _ => Err(Error::NoEntry),
        }
    }
}

impl CredentialApi for KernelKey {
    /// Replaces whatever the server had: there is one key for each.
    fn set_secret(&self, secret: &[u8]) -> Result<()> {
        let secret = str::from_utf8(secret).map_err(|_| Error::BadEncoding(Vec::new()))?;
        let payload = Payload { username: &self.username, secret };
        let mut bytes = Zeroizing::new(Vec::with_capacity(256 + 6 * secret.len()));
        serde_json::to_writer(&mut *bytes, &payload)
            .map_err(|_| Error::PlatformFailure(Box::new(Refusal::Foreign)))?;
        keyring()?.add_key(&self.description(), &*bytes).map(drop).map_err(refuse)
    }

    fn get_secret(&self) -> Result<Vec<u8>> {
        self.find().map(|(_, _, secret)| secret)
    }

    fn delete_credential(&self) -> Result<()> {
        let (keyring, key, _) = self.find()?;
        keyring.unlink_key(key).map_err(refuse)
    }

    fn get_credential(&self) -> Result<Option<Arc<Credential>>> {
        self.find().map(|_| None)
    }

    fn get_specifiers(&self) -> Option<(String, String)> {
        Some((self.server.clone(), self.username.clone()))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The user name and the secret that a key holds.
fn read(key: &Key) -> Result<(String, Vec<u8>)> {
    #[derive(Deserialize)]
    struct Owned {
        username: String,
        secret: Kept,
    }
    /// Earlier versions kept a list of numbers, four times as long.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Kept {
        Text(String),
        Bytes(Vec<u8>),
    }
    let bytes = Zeroizing::new(key.read_to_vec().map_err(refuse)?);
    let payload: Owned = serde_json::from_slice(&bytes)
        .map_err(|_| Error::PlatformFailure(Box::new(Refusal::Foreign)))?;
    let secret = match payload.secret {
        Kept::Text(text) => text.into_bytes(),
        Kept::Bytes(bytes) => bytes,
    };
    Ok((payload.username, secret))
}

fn refuse(error: KeyError) -> Error {
    match error {
        KeyError::KeyDoesNotExist | KeyError::KeyExpired | KeyError::KeyRevoked => Error::NoEntry,
        KeyError::AccessDenied | KeyError::PermissionDenied | KeyError::OperationNotSupported => {
            Error::NoStorageAccess(Box::new(Refusal::Forbidden))
        }
        KeyError::QuotaExceeded => Error::PlatformFailure(Box::new(Refusal::Full)),
        other => Error::PlatformFailure(Box::new(Refusal::Other(other))),
    }
}
