//! The freedesktop Secret Service: GNOME Keyring, KWallet, KeePassXC.
//!
//! Items have the format of `docker-credential-secretservice`
//! (docker/docker-credential-helpers: secretservice/secretservice.c), so that each program reads
//! what the other wrote. The session is a plain one: the secret crosses a socket that is the user's
//! own, and agreeing on a key first costs three times the rest. Nobody is ever prompted: a locked
//! collection is an answer.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dbus_secret_service::{EncryptionType, Error as ServiceError, Item, Path, SecretService};
use keyring_core::api::{Credential, CredentialApi, CredentialStoreApi};
use keyring_core::{Entry, Error, Result};
use thiserror::Error as ThisError;

use crate::environment::Environment;

/// The attributes by which `docker-credential-secretservice` knows its items.
const SCHEMA: (&str, &str) = ("xdg:schema", "io.docker.Credentials");
const LABEL: (&str, &str) = ("label", "Docker Credentials");
const OURS: (&str, &str) = ("docker_cli", "1");

/// What the service did not do, to follow its name in a sentence.
#[derive(Debug, ThisError)]
enum Refusal {
    #[error(
        "is locked; unlock the login keyring (log in at the desktop, or with `gnome-keyring-daemon --unlock`), or set REGISTRY_USERNAME and REGISTRY_PASSWORD"
    )]
    Locked,
    #[error(
        "has no keyring that outlasts the session; make one named Login (log in at the desktop \
         once, or `gnome-keyring-daemon --unlock`), or use the encrypted file: \
         `docker-credential-aliyun login --store file HOST`"
    )]
    NoCollection,
    #[error("failed: {0}")]
    Other(ServiceError),
}

/// A connection to the service.
#[derive(Clone)]
pub struct SecretServiceStore {
    service: Arc<Mutex<SecretService>>,
}

impl SecretServiceStore {
    /// Connects to the service of this session's bus.
    ///
    /// The D-Bus library finds the bus in the variables of the process; the snapshot decides only
    /// whether there is one to look for. Without one the library would start a bus of its own.
    ///
    /// # Errors
    /// No bus, or no service on it.
    pub fn connect(environment: &Environment) -> std::result::Result<Self, String> {
        let has_bus = environment.var_os("DBUS_SESSION_BUS_ADDRESS").is_some()
            || environment.path("XDG_RUNTIME_DIR").is_some_and(|path| path.join("bus").exists());
        if !has_bus {
            return Err("this session has no D-Bus".to_owned());
        }
        match SecretService::connect_with_max_prompt_timeout(EncryptionType::Plain, 0) {
            Ok(service) => Ok(Self { service: Arc::new(Mutex::new(service)) }),
            Err(error) => Err(error.to_string()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, SecretService> {
        self.service.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, server: String, username: String, item: Option<Found>) -> Entry {
        Entry::new_with_credential(Arc::new(ServiceItem {
            store: self.clone(),
            server,
            username,
            item,
        }))
    }
}

impl fmt::Debug for SecretServiceStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretServiceStore")
    }
}

impl CredentialStoreApi for SecretServiceStore {
    fn vendor(&self) -> String {
        "Secret Service, in the format of docker-credential-secretservice".to_owned()
    }

    fn id(&self) -> String {
        "docker-credential-aliyun/secret-service".to_owned()
    }

    fn build(&self, service: &str, user: &str, _: Option<&HashMap<&str, &str>>) -> Result<Entry> {
        Ok(self.entry(service.to_owned(), user.to_owned(), None))
    }

    /// Finds by `service` (the attribute `server`) and `user` (`username`), or all.
    fn search(&self, spec: &HashMap<&str, &str>) -> Result<Vec<Entry>> {
        let mut attributes = HashMap::from([OURS]);
        attributes.extend(spec.get("service").map(|server| ("server", *server)));
        attributes.extend(spec.get("user").map(|user| ("username", *user)));
        let service = self.lock();
        let found = service.search_items(attributes).map_err(refuse)?;
        let unlocked = found.unlocked.iter().map(|item| (item, false));
        let locked = found.locked.iter().map(|item| (item, true));
        let mut entries = Vec::new();
        for (item, locked) in unlocked.chain(locked) {
            // A locked item may hide its attributes, or be gone by now; what was asked for is known.
            let mut attributes = item.get_attributes().unwrap_or_default();
            let mut take = |name: &str, asked: &str| {
                attributes.remove(name).or_else(|| spec.get(asked).map(ToString::to_string))
            };
            let Some(server) = take("server", "service") else { continue };
            let username = take("username", "user").unwrap_or_default();
            let item = Found { path: item.path.clone(), locked };
            entries.push(self.entry(server, username, Some(item)));
        }
        Ok(entries)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// An item that a search found.
#[derive(Clone)]
struct Found {
    path: Path<'static>,
    locked: bool,
}

/// An item that is there, or is to be.
#[derive(Clone)]
struct ServiceItem {
    store: SecretServiceStore,
    server: String,
    username: String,
    item: Option<Found>,
}

impl ServiceItem {
    fn find(&self) -> Result<Found> {
        if let Some(found) = &self.item {
            return Ok(found.clone());
        }
        let attributes =
            HashMap::from([OURS, ("server", &*self.server), ("username", &*self.username)]);
        let service = self.store.lock();
        let found = service.search_items(attributes).map_err(refuse)?;
        let first = |items: &[Item<'_>], locked| {
            items.first().map(|item| Found { path: item.path.clone(), locked })
        };
        first(&found.unlocked, false).or_else(|| first(&found.locked, true)).ok_or(Error::NoEntry)
    }
}

impl CredentialApi for ServiceItem {
    fn set_secret(&self, secret: &[u8]) -> Result<()> {
        let attributes = HashMap::from([
            SCHEMA,
            LABEL,
            OURS,
            ("server", &*self.server),
            ("username", &*self.username),
        ]);
        let service = self.store.lock();
        let collection = service.get_default_collection().map_err(|error| match error {
            ServiceError::NoResult => no_access(Refusal::NoCollection),
            other => refuse(other),
        })?;
        if collection.is_locked().map_err(refuse)? {
            return Err(no_access(Refusal::Locked));
        }
        // Docker's own `list` shows the label, so it is the server.
        collection
            .create_item(&self.server, attributes, secret, true, "text/plain")
            .map(drop)
            .map_err(refuse)
    }

    fn get_secret(&self) -> Result<Vec<u8>> {
        let found = self.find()?;
        if found.locked {
            return Err(no_access(Refusal::Locked));
        }
        let service = self.store.lock();
        Item::new(&service, found.path).get_secret().map_err(refuse)
    }

    fn delete_credential(&self) -> Result<()> {
        let found = self.find()?;
        if found.locked {
            return Err(no_access(Refusal::Locked));
        }
        let service = self.store.lock();
        Item::new(&service, found.path).delete().map_err(refuse)
    }

    fn get_credential(&self) -> Result<Option<Arc<Credential>>> {
        let item = Some(self.find()?);
        Ok(Some(Arc::new(Self { item, ..self.clone() })))
    }

    fn get_specifiers(&self) -> Option<(String, String)> {
        Some((self.server.clone(), self.username.clone()))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn debug_fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "item of {} for {}", self.username, self.server)
    }
}

fn no_access(refusal: Refusal) -> Error {
    Error::NoStorageAccess(Box::new(refusal))
}

fn refuse(error: ServiceError) -> Error {
    match error {
        ServiceError::Locked | ServiceError::Prompt => no_access(Refusal::Locked),
        ServiceError::NoResult => Error::NoEntry,
        other => Error::PlatformFailure(Box::new(Refusal::Other(other))),
    }
}
