//! Which store this machine has, and what to say where it has none.
//!
//! In order: what `DOCKER_CREDENTIAL_ALIYUN_STORE` names; the encrypted file, where its key is
//! configured; the platform's own: Secret Service, Keychain, Credential Manager. The latter two are
//! asked through Docker's helper for them, where that is installed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use super::Vault;
use super::file::{FileError, FileStore};
use super::helper::HelperStore;
#[cfg(any(target_os = "macos", windows))]
use super::native::NativeStore;
use crate::environment::{Environment, NotText};

/// The variable that overrides the choice.
pub const VARIABLE: &str = "DOCKER_CREDENTIAL_ALIYUN_STORE";

/// The helper that knows this platform's keychain, in the format that Docker's users have there.
const PLATFORM_HELPER: Option<&str> = if cfg!(target_os = "macos") {
    Some("osxkeychain")
} else if cfg!(windows) {
    Some("wincred")
} else {
    None
};

/// What is wrong where there is no store.
pub const NO_STORE: &str = "no place to keep a secret: no keychain answers in this session, and no \
                            encrypted file is set up";

/// What to do where there is no store.
pub const WAYS_OUT: &str = "run `docker-credential-aliyun login --store file HOST` once, which makes an encrypted file \
     and its key; or set DOCKER_CREDENTIAL_ALIYUN_STORE=keyutils to keep secrets in the kernel for \
     days; or set REGISTRY_USERNAME and REGISTRY_PASSWORD, and store nothing";

/// A kind of store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The freedesktop Secret Service: GNOME Keyring, KWallet, KeePassXC.
    SecretService,
    /// The Linux kernel's persistent keyring of the user.
    Keyutils,
    /// The encrypted file.
    File,
    /// The Keychain of macOS.
    Keychain,
    /// The Credential Manager of Windows.
    CredentialManager,
    /// Another credential helper, `docker-credential-<name>`.
    Helper(String),
}

impl FromStr for Choice {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        match text.split_once(':') {
            None if text == "secret-service" => Ok(Self::SecretService),
            None if text == "keyutils" => Ok(Self::Keyutils),
            None if text == "file" => Ok(Self::File),
            None if text == "keychain" => Ok(Self::Keychain),
            None if text == "credential-manager" => Ok(Self::CredentialManager),
            Some(("helper", name)) if is_helper_name(name) => Ok(Self::Helper(name.to_owned())),
            _ => Err(StoreError::Unknown(text.to_owned())),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SecretService => f.write_str("secret-service"),
            Self::Keyutils => f.write_str("keyutils"),
            Self::File => f.write_str("file"),
            Self::Keychain => f.write_str("keychain"),
            Self::CredentialManager => f.write_str("credential-manager"),
            Self::Helper(name) => write!(f, "helper:{name}"),
        }
    }
}

/// A name that is no path, and not our own: that would never end.
fn is_helper_name(name: &str) -> bool {
    !name.is_empty()
        && name != "aliyun"
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// Why there is no store, or why it failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is none, and it takes a person to change that.
    #[error("{NO_STORE}; {WAYS_OUT}")]
    None,
    /// A name that is not one of ours.
    #[error(
        "there is no store called {0:?}; there are secret-service, keyutils, file, keychain, \
         credential-manager, helper:NAME"
    )]
    Unknown(String),
    /// The override is not one of ours.
    #[error("{VARIABLE} is wrong: {0}")]
    Variable(Box<StoreError>),
    /// The override names what this system does not have.
    #[error("this system has no {0}; set {VARIABLE}=file for the encrypted file")]
    Foreign(Choice),
    /// There is no Secret Service here.
    #[error("there is no Secret Service: {0}; set {VARIABLE}=file for the encrypted file")]
    Absent(String),
    /// The Secret Service is there, and does not answer.
    #[error("the Secret Service does not answer: {0}")]
    Unreachable(String),
    /// The override is no text.
    #[error(transparent)]
    NotText(#[from] NotText),
    /// The encrypted file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store is there, and fails.
    #[error("{store} {reason}")]
    Failed {
        /// The store, as people call it.
        store: String,
        /// What it did not do, and what to do about it.
        reason: String,
    },
}

/// The store to read from; nothing if this machine has none, or if it has nothing in it.
///
/// # Errors
/// A store is set up, and cannot be used.
pub fn open(environment: &Environment) -> Result<Option<Vault>, StoreError> {
    match choose(environment)? {
        Some(choice) => open_named(&choice, environment, false),
        None => Ok(platform(environment)?.map(|vault| with_lock(vault, environment))),
    }
}

/// The store to write to, made if it was asked for by name.
///
/// # Errors
/// There is none, or it cannot be used.
pub fn open_for_writing(environment: &Environment) -> Result<Vault, StoreError> {
    let vault = match choose(environment)? {
        Some(choice) => open_named(&choice, environment, true)?,
        None => platform(environment)?.map(|vault| with_lock(vault, environment)),
    };
    vault.ok_or(StoreError::None)
}

/// A store that keeps an entry for each user has a lock for all processes of this one.
fn with_lock(vault: Vault, environment: &Environment) -> Vault {
    let lock = environment.data_dir().map(|directory| directory.join("store.lock"));
    vault.locked_by(lock)
}

/// What was chosen: by its name, or by making a key for the encrypted file.
fn choose(environment: &Environment) -> Result<Option<Choice>, StoreError> {
    match environment.var(VARIABLE)? {
        Some(name) => match name.parse() {
            Ok(choice) => Ok(Some(choice)),
            Err(error) => Err(StoreError::Variable(Box::new(error))),
        },
        None => Ok(FileStore::is_configured(environment).then_some(Choice::File)),
    }
}

fn open_named(
    choice: &Choice,
    environment: &Environment,
    for_writing: bool,
) -> Result<Option<Vault>, StoreError> {
    let vault = match choice {
        // These keep one entry for each server, whoever the user is.
        Choice::File => return file(environment, for_writing),
        Choice::Keyutils => return keyutils().map(Some),
        Choice::Helper(name) => helper(name, environment),
        Choice::SecretService => secret_service(environment)?,
        Choice::Keychain => keychain()?,
        Choice::CredentialManager => credential_manager()?,
    };
    Ok(Some(with_lock(vault, environment)))
}

fn file(environment: &Environment, for_writing: bool) -> Result<Option<Vault>, StoreError> {
    let store = FileStore::open(environment, for_writing)?;
    Ok(store.map(|store| {
        Vault::new(format!("the encrypted file {}", store.path().display()), Arc::new(store))
    }))
}

fn helper(name: &str, environment: &Environment) -> Vault {
    let store = HelperStore::new(name, environment);
    Vault::new(format!("docker-credential-{name}"), Arc::new(store))
}

#[cfg(target_os = "linux")]
fn secret_service(environment: &Environment) -> Result<Vault, StoreError> {
    use super::secret_service::{ConnectError, SecretServiceStore};
    match SecretServiceStore::connect(environment) {
        Ok(store) => Ok(Vault::new("the Secret Service", Arc::new(store))),
        Err(ConnectError::Absent(reason)) => Err(StoreError::Absent(reason)),
        Err(ConnectError::Broken(reason)) => Err(StoreError::Unreachable(reason)),
    }
}

#[cfg(target_os = "linux")]
fn keyutils() -> Result<Vault, StoreError> {
    use super::keyutils::KeyutilsStore;
    Ok(Vault::new("the kernel keyring", Arc::new(KeyutilsStore::new())))
}

#[cfg(not(target_os = "linux"))]
fn secret_service(_: &Environment) -> Result<Vault, StoreError> {
    Err(StoreError::Foreign(Choice::SecretService))
}

#[cfg(not(target_os = "linux"))]
fn keyutils() -> Result<Vault, StoreError> {
    Err(StoreError::Foreign(Choice::Keyutils))
}

#[cfg(target_os = "macos")]
fn keychain() -> Result<Vault, StoreError> {
    native("the Keychain", NativeStore::keychain())
}

#[cfg(not(target_os = "macos"))]
fn keychain() -> Result<Vault, StoreError> {
    Err(StoreError::Foreign(Choice::Keychain))
}

#[cfg(windows)]
fn credential_manager() -> Result<Vault, StoreError> {
    native("the Credential Manager", NativeStore::credential_manager())
}

#[cfg(not(windows))]
fn credential_manager() -> Result<Vault, StoreError> {
    Err(StoreError::Foreign(Choice::CredentialManager))
}

#[cfg(any(target_os = "macos", windows))]
fn native(name: &str, store: keyring_core::Result<NativeStore>) -> Result<Vault, StoreError> {
    store.map(|store| Vault::new(name, Arc::new(store))).map_err(|error| StoreError::Failed {
        store: name.to_owned(),
        reason: format!("failed: {error}"),
    })
}

/// The platform's own store, if it answers. Docker's helper for it goes first: what it stored, it
/// may read.
fn platform(environment: &Environment) -> Result<Option<Vault>, StoreError> {
    if let Some(name) = PLATFORM_HELPER
        && HelperStore::is_installed(name, environment)
    {
        return Ok(Some(helper(name, environment)));
    }
    if cfg!(target_os = "macos") {
        keychain().map(Some)
    } else if cfg!(windows) {
        credential_manager().map(Some)
    } else {
        match secret_service(environment) {
            Err(StoreError::Absent(_) | StoreError::Foreign(_)) => Ok(None),
            answer => answer.map(Some),
        }
    }
}
