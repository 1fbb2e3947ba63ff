//! The freedesktop Secret Service: GNOME Keyring, KWallet, KeePassXC.
//!
//! Items have the format of `docker-credential-secretservice`
//! (docker/docker-credential-helpers: secretservice/secretservice.c), so that each program reads
//! what the other wrote. The session is a plain one: the secret crosses a socket that is the user's
//! own, and agreeing on a key first costs three times the rest. Nobody is ever prompted: a locked
//! collection is an answer.
//!
//! The calls are those of the Secret Service API (specifications.freedesktop.org/secret-service).
//! They are made here rather than by a library for it because of their order: GNOME Keyring 42, that
//! of Debian 12, was seen to end with an assertion, and all its unlocked keyrings with it, once in some
//! thousand times that the first call of a client opened a session, and not when a property was read
//! first, as libsecret does. Why is not known.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dbus::Path;
use dbus::arg::{AppendAll, Get, PropMap, ReadAll, RefArg, Variant};
use dbus::blocking::stdintf::org_freedesktop_dbus::Properties;
use dbus::blocking::{Proxy, SyncConnection};
use keyring_core::api::{Credential, CredentialApi, CredentialStoreApi};
use keyring_core::{Entry, Error, Result};
use thiserror::Error as ThisError;

use crate::environment::Environment;

/// The attributes by which `docker-credential-secretservice` knows its items.
const SCHEMA: (&str, &str) = ("xdg:schema", "io.docker.Credentials");
const LABEL: (&str, &str) = ("label", "Docker Credentials");
const OURS: (&str, &str) = ("docker_cli", "1");

const BUS_NAME: &str = "org.freedesktop.secrets";
const SERVICE_PATH: &str = "/org/freedesktop/secrets";
const SERVICE: &str = "org.freedesktop.Secret.Service";
const COLLECTION: &str = "org.freedesktop.Secret.Collection";
const ITEM: &str = "org.freedesktop.Secret.Item";
const PROMPT: &str = "org.freedesktop.Secret.Prompt";

/// The path of no object.
const NO_OBJECT: &str = "/";

/// How long the service may take for one call.
const PATIENCE: Duration = Duration::from_secs(5);

/// A secret on the wire: session, parameters of the session's algorithm, value, media type.
type WireSecret = (Path<'static>, Vec<u8>, Vec<u8>, String);

/// Why there is no connection.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum ConnectError {
    /// No bus, or nobody on it who keeps secrets.
    #[error("{0}")]
    Absent(String),
    /// There is a service, and it fails.
    #[error("{0}")]
    Broken(String),
}

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
    Other(String),
}

/// A connection to the service.
#[derive(Clone)]
pub struct SecretServiceStore {
    bus: Arc<SyncConnection>,
}

impl SecretServiceStore {
    /// Connects to the service of this session's bus.
    ///
    /// The D-Bus library finds the bus in the variables of the process; the snapshot decides only
    /// whether there is one to look for. Without one the library would start a bus of its own.
    ///
    /// # Errors
    /// No bus, no service on it, or one that does not answer.
    pub fn connect(environment: &Environment) -> std::result::Result<Self, ConnectError> {
        let has_bus = environment.var_os("DBUS_SESSION_BUS_ADDRESS").is_some()
            || environment.path("XDG_RUNTIME_DIR").is_some_and(|path| path.join("bus").exists());
        if !has_bus {
            return Err(ConnectError::Absent("this session has no D-Bus".to_owned()));
        }
        let bus = SyncConnection::new_session()
            .map_err(|error| ConnectError::Absent(message(&error).to_owned()))?;
        let store = Self { bus: Arc::new(bus) };
        // The first call starts the service, where the bus knows how, and tells it who calls.
        match store.property::<Vec<Path<'_>>>(SERVICE_PATH.into(), SERVICE, "Collections") {
            Ok(_) => Ok(store),
            Err(error) if is_absence(&error) => {
                Err(ConnectError::Absent(message(&error).to_owned()))
            }
            Err(error) => Err(ConnectError::Broken(message(&error).to_owned())),
        }
    }

    fn object<'a>(&'a self, path: Path<'a>) -> Proxy<'a, &'a SyncConnection> {
        Proxy::new(BUS_NAME, path, PATIENCE, &self.bus)
    }

    fn call<R: ReadAll>(
        &self,
        path: Path<'_>,
        interface: &str,
        method: &str,
        arguments: impl AppendAll,
    ) -> Result<R> {
        self.object(path).method_call(interface, method, arguments).map_err(|error| refuse(&error))
    }

    fn property<R: for<'b> Get<'b> + 'static>(
        &self,
        path: Path<'_>,
        interface: &str,
        name: &str,
    ) -> std::result::Result<R, dbus::Error> {
        self.object(path).get(interface, name)
    }

    /// The unlocked and the locked items that have these attributes.
    fn search_items(&self, attributes: HashMap<&str, &str>) -> Result<Vec<Found>> {
        let (unlocked, locked): (Vec<Path<'static>>, Vec<Path<'static>>) =
            self.call(SERVICE_PATH.into(), SERVICE, "SearchItems", (attributes,))?;
        let unlocked = unlocked.into_iter().map(|path| Found { path, locked: false });
        let locked = locked.into_iter().map(|path| Found { path, locked: true });
        Ok(unlocked.chain(locked).collect())
    }

    /// A session in which secrets are what they are. It ends with the connection.
    fn open_session(&self) -> Result<Path<'static>> {
        let arguments = ("plain", Variant(""));
        let (_, session): (Variant<Box<dyn RefArg>>, _) =
            self.call(SERVICE_PATH.into(), SERVICE, "OpenSession", arguments)?;
        Ok(session)
    }

    /// The collection for new items, if it is open.
    fn default_collection(&self) -> Result<Path<'static>> {
        let (path,): (Path<'static>,) =
            self.call(SERVICE_PATH.into(), SERVICE, "ReadAlias", ("default",))?;
        if &*path == NO_OBJECT {
            return Err(no_access(Refusal::NoCollection));
        }
        match self.property(path.clone(), COLLECTION, "Locked") {
            Ok(true) => Err(no_access(Refusal::Locked)),
            Ok(false) => Ok(path),
            Err(error) => Err(refuse(&error)),
        }
    }

    /// Turns down the question that the service would ask somebody, if it has one.
    fn dismiss(&self, prompt: Path<'_>) -> Result<()> {
        if &*prompt == NO_OBJECT {
            return Ok(());
        }
        // Whether it hears this or not: the answer is that it is locked.
        let _ = self.call::<()>(prompt, PROMPT, "Dismiss", ());
        Err(no_access(Refusal::Locked))
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
        let mut entries = Vec::new();
        for item in self.search_items(attributes)? {
            // A locked item may hide its attributes, or be gone by now; what was asked for is known.
            let mut attributes: HashMap<String, String> =
                self.property(item.path.clone(), ITEM, "Attributes").unwrap_or_default();
            let mut take = |name: &str, asked: &str| {
                attributes.remove(name).or_else(|| spec.get(asked).map(ToString::to_string))
            };
            let Some(server) = take("server", "service") else { continue };
            let username = take("username", "user").unwrap_or_default();
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
        self.store.search_items(attributes)?.into_iter().next().ok_or(Error::NoEntry)
    }

    /// The item, if the service gives it away.
    fn find_open(&self) -> Result<Path<'static>> {
        match self.find()? {
            Found { locked: true, .. } => Err(no_access(Refusal::Locked)),
            Found { path, .. } => Ok(path),
        }
    }
}

impl CredentialApi for ServiceItem {
    fn set_secret(&self, secret: &[u8]) -> Result<()> {
        let store = &self.store;
        let collection = store.default_collection()?;
        let place = [("server", &*self.server), ("username", &*self.username)];
        let attributes: HashMap<_, _> = [SCHEMA, LABEL, OURS]
            .into_iter()
            .chain(place)
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        // Docker's own `list` shows the label, so it is the server.
        let properties: PropMap = HashMap::from([
            (format!("{ITEM}.Label"), boxed(self.server.clone())),
            (format!("{ITEM}.Attributes"), boxed(attributes)),
        ]);
        let session = store.open_session()?;
        let secret: WireSecret = (session, Vec::new(), secret.to_vec(), "text/plain".to_owned());
        let replace = true;
        let (_, prompt): (Path<'static>, Path<'static>) =
            store.call(collection, COLLECTION, "CreateItem", (properties, secret, replace))?;
        store.dismiss(prompt)
    }

    fn get_secret(&self) -> Result<Vec<u8>> {
        let item = self.find_open()?;
        let session = self.store.open_session()?;
        let ((_, _, secret, _),): (WireSecret,) =
            self.store.call(item, ITEM, "GetSecret", (session,))?;
        Ok(secret)
    }

    /// None of interest, but only of an item that the service gives away.
    fn get_attributes(&self) -> Result<HashMap<String, String>> {
        self.find_open().map(|_| HashMap::new())
    }

    fn delete_credential(&self) -> Result<()> {
        let item = self.find_open()?;
        let (prompt,): (Path<'static>,) = self.store.call(item, ITEM, "Delete", ())?;
        self.store.dismiss(prompt)
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

/// What a call's failure means for whoever wanted the item.
fn refuse(error: &dbus::Error) -> Error {
    match error.name().unwrap_or_default() {
        "org.freedesktop.Secret.Error.IsLocked" => no_access(Refusal::Locked),
        // The last two are how GNOME Keyring and others say that an item is gone.
        "org.freedesktop.Secret.Error.NoSuchObject"
        | "org.freedesktop.DBus.Error.UnknownObject"
        | "org.freedesktop.DBus.Error.UnknownMethod" => Error::NoEntry,
        _ => Error::PlatformFailure(Box::new(Refusal::Other(message(error).to_owned()))),
    }
}

/// Whether nobody on the bus keeps secrets, and nobody can be started who would.
fn is_absence(error: &dbus::Error) -> bool {
    let name = error.name().unwrap_or_default();
    let name = name.strip_prefix("org.freedesktop.DBus.Error.").unwrap_or_default();
    matches!(name, "ServiceUnknown" | "NameHasNoOwner") || name.starts_with("Spawn.")
}

fn message(error: &dbus::Error) -> &str {
    error.message().or(error.name()).unwrap_or("no reason is given")
}

fn boxed(value: impl RefArg + 'static) -> Variant<Box<dyn RefArg>> {
    Variant(Box::new(value))
}
