//! What opens the encrypted file: a key, or a pass-phrase from which one is made.
//!
//! | variable | holds |
//! |---|---|
//! | `DOCKER_CREDENTIAL_ALIYUN_KEY` | 32 bytes, in hexadecimal or base64 |
//! | `DOCKER_CREDENTIAL_ALIYUN_KEY_FILE` | the path of a file with these, made if it is to be written to |
//! | `DOCKER_CREDENTIAL_ALIYUN_PASSPHRASE`, `..._PASSPHRASE_FILE` | a pass-phrase, or the path of one |
//!
//! With none of these it is the file `key` in the configuration directory, if that exists.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use super::make_private_directory;
use crate::environment::{Environment, NotText};
use crate::secret::Secret;

const KEY: &str = "DOCKER_CREDENTIAL_ALIYUN_KEY";
const KEY_FILE: &str = "DOCKER_CREDENTIAL_ALIYUN_KEY_FILE";
const PASSPHRASE: &str = "DOCKER_CREDENTIAL_ALIYUN_PASSPHRASE";
const PASSPHRASE_FILE: &str = "DOCKER_CREDENTIAL_ALIYUN_PASSPHRASE_FILE";

/// Why there is no key.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// None is configured.
    #[error("there is no key for the encrypted file; set {KEY_FILE}, {KEY} or {PASSPHRASE}")]
    None,
    /// The file of the key cannot be read.
    #[error("cannot read {} for the encrypted file: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// The file of the key cannot be made.
    #[error("cannot make the key {} for the encrypted file: {error}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// It is not a key.
    #[error(
        "{0} is not a key: it has to be 32 bytes in hexadecimal or base64, as from `openssl rand -hex 32`"
    )]
    Malformed(String),
    /// A value that is no text.
    #[error(transparent)]
    NotText(#[from] NotText),
}

impl KeyError {
    /// Whether there is no key, rather than one that is of no use.
    pub(super) fn is_absence(&self) -> bool {
        match self {
            Self::None => true,
            Self::Unreadable { error, .. } => error.kind() == ErrorKind::NotFound,
            _ => false,
        }
    }
}

/// Why a key does not fit a file, to follow the file's name in a sentence.
#[derive(Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KdfError {
    /// The file wants a pass-phrase.
    #[error("was written with a pass-phrase, and a key is configured; set {PASSPHRASE} instead")]
    WantsPassphrase,
    /// The file wants a key.
    #[error(
        "was written with a key, and a pass-phrase is configured; set {KEY} or {KEY_FILE} instead"
    )]
    WantsKey,
    /// The parameters are none that we would write.
    #[error("asks for an unreasonable effort to make its key from the pass-phrase")]
    Unreasonable,
}

/// How the master key comes to be, as the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kdf {
    /// It is configured as it is.
    Key,
    /// Argon2id (RFC 9106) of a pass-phrase.
    Argon2id {
        /// KiB.
        memory: u32,
        passes: u32,
        lanes: u32,
        salt: String,
    },
}

/// The master key, or what it is made from.
pub(super) struct MasterKey {
    material: Material,
    /// How a new file is written. With a pass-phrase, a salt is drawn once for each process.
    kdf: Kdf,
    /// The last key made from the pass-phrase: making one takes tens of milliseconds.
    derived: OnceLock<(Kdf, Zeroizing<[u8; 32]>)>,
}

enum Material {
    Key(Zeroizing<[u8; 32]>),
    Passphrase(Secret),
}

impl MasterKey {
    /// Whether one is configured, or was made.
    pub(super) fn is_configured(environment: &Environment) -> bool {
        [KEY, KEY_FILE, PASSPHRASE, PASSPHRASE_FILE]
            .iter()
            .any(|name| environment.var_os(name).is_some())
            || default_path(environment).is_some_and(|path| path.exists())
    }

    /// The configured key.
    pub(super) fn find(environment: &Environment) -> Result<Self, KeyError> {
        if let Some(text) = environment.var(KEY)? {
            return parse(text.as_bytes()).map(Self::key).ok_or(KeyError::Malformed(KEY.into()));
        }
        if let Some(path) = environment.path(KEY_FILE) {
            return read_key(&path).map(Self::key);
        }
        if let Some(text) = environment.var(PASSPHRASE)? {
            return Self::passphrase(text);
        }
        if let Some(path) = environment.path(PASSPHRASE_FILE) {
            let text = fs::read_to_string(&path).map(Zeroizing::new);
            return match text {
                Ok(text) => Self::passphrase(text.trim_end_matches(['\r', '\n'])),
                Err(error) => Err(KeyError::Unreadable { path, error }),
            };
        }
        match default_path(environment) {
            Some(path) if path.exists() => read_key(&path).map(Self::key),
            _ => Err(KeyError::None),
        }
    }

    pub(super) fn key(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self { material: Material::Key(bytes), kdf: Kdf::Key, derived: OnceLock::new() }
    }

    pub(super) fn passphrase(text: &str) -> Result<Self, KeyError> {
        let mut salt = [0; 16];
        SystemRandom::new()
            .fill(&mut salt)
            .map_err(|_| KeyError::Malformed("the system's random number".to_owned()))?;
        // RFC 9106's second recommendation, at the memory that OWASP's password storage cheat sheet
        // gives for two passes.
        let kdf = Kdf::Argon2id {
            memory: 19 * 1024,
            passes: 2,
            lanes: 1,
            salt: BASE64_STANDARD.encode(salt),
        };
        let material = Material::Passphrase(Secret::new(text.to_owned()));
        Ok(Self { material, kdf, derived: OnceLock::new() })
    }

    /// The key itself, if it need not be made from a pass-phrase.
    pub(super) fn ready(self) -> Option<Zeroizing<[u8; 32]>> {
        match self.material {
            Material::Key(bytes) => Some(bytes),
            Material::Passphrase(_) => None,
        }
    }

    /// How to write a file: as the one that was read, so that its salt and with it the key stay.
    pub(super) fn kdf(&self) -> &Kdf {
        self.derived.get().map_or(&self.kdf, |(kdf, _)| kdf)
    }

    /// The 32 bytes for a file that says how.
    pub(super) fn bytes(&self, kdf: &Kdf) -> Result<Zeroizing<[u8; 32]>, KdfError> {
        match (&self.material, kdf) {
            (Material::Key(bytes), Kdf::Key) => Ok(bytes.clone()),
            (Material::Key(_), Kdf::Argon2id { .. }) => Err(KdfError::WantsPassphrase),
            (Material::Passphrase(_), Kdf::Key) => Err(KdfError::WantsKey),
            (Material::Passphrase(text), Kdf::Argon2id { memory, passes, lanes, salt }) => {
                if let Some((known, bytes)) = self.derived.get()
                    && known == kdf
                {
                    return Ok(bytes.clone());
                }
                let bytes = stretch(text, *memory, *passes, *lanes, salt)?;
                // Another thread's is the same, or is for another file.
                let _ = self.derived.set((kdf.clone(), bytes.clone()));
                Ok(bytes)
            }
        }
    }
}

/// The key of a file: one that is there, or one that comes into being with the first secret that is
/// to be sealed. Before that there is nothing to open, and a key without a file would pass for a
/// store that somebody set up.
pub(super) enum FileKey {
    Ready(MasterKey),
    ToBeMade { place: PathBuf, made: OnceLock<MasterKey> },
}

impl FileKey {
    pub(super) fn to_be_made(place: PathBuf) -> Self {
        Self::ToBeMade { place, made: OnceLock::new() }
    }

    /// The key, made now if it has to be.
    pub(super) fn get(&self) -> Result<&MasterKey, KeyError> {
        match self {
            Self::Ready(key) => Ok(key),
            Self::ToBeMade { place, made } => match made.get() {
                Some(key) => Ok(key),
                None => {
                    let key = MasterKey::key(read_or_make_key(place)?);
                    Ok(made.get_or_init(|| key))
                }
            },
        }
    }
}

/// The file of the key: where it is, or where it is to be made; none if a key or a pass-phrase is
/// configured without one.
pub(super) fn place(environment: &Environment) -> Option<PathBuf> {
    if environment.var_os(KEY).is_some() {
        return None;
    }
    let without =
        [PASSPHRASE, PASSPHRASE_FILE].iter().any(|name| environment.var_os(name).is_some());
    let default = || if without { None } else { default_path(environment) };
    environment.path(KEY_FILE).or_else(default)
}

/// Argon2id, within bounds: the parameters come from a file that anybody may have changed.
fn stretch(
    text: &Secret,
    memory: u32,
    passes: u32,
    lanes: u32,
    salt: &str,
) -> Result<Zeroizing<[u8; 32]>, KdfError> {
    const MOST_MEMORY: u32 = 1 << 20;
    const MOST_PASSES: u32 = 16;
    let salt = BASE64_STANDARD.decode(salt).map_err(|_| KdfError::Unreasonable)?;
    if memory > MOST_MEMORY || passes > MOST_PASSES || lanes > 16 {
        return Err(KdfError::Unreasonable);
    }
    let params =
        Params::new(memory, passes, lanes, Some(32)).map_err(|_| KdfError::Unreasonable)?;
    let mut bytes = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(text.expose().as_bytes(), &salt, &mut *bytes)
        .map_err(|_| KdfError::Unreasonable)?;
    Ok(bytes)
}

/// Where a key is kept if nothing else is said.
fn default_path(environment: &Environment) -> Option<PathBuf> {
    environment.config_dir().map(|directory| directory.join("key"))
}

fn read_key(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    match fs::read(path).map(Zeroizing::new) {
        Ok(text) => parse(&text).ok_or_else(|| KeyError::Malformed(path.display().to_string())),
        Err(error) => Err(KeyError::Unreadable { path: path.to_owned(), error }),
    }
}

fn read_or_make_key(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    match read_key(path) {
        Err(error) if error.is_absence() => {
            make_key(path)
                .map_err(|error| KeyError::Unwritable { path: path.to_owned(), error })?;
            // Another process may have been first: then it is that one's.
            read_key(path)
        }
        answer => answer,
    }
}

/// Puts a new key there, complete from the moment it has its name, unless there is one already.
fn make_key(path: &Path) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    make_private_directory(directory)?;
    let mut bytes = Zeroizing::new([0; 32]);
    SystemRandom::new().fill(&mut *bytes).map_err(|_| io::Error::other("no random numbers"))?;
    let mut draft = tempfile::NamedTempFile::new_in(directory)?;
    draft.write_all(Zeroizing::new(hex::encode(*bytes)).as_bytes())?;
    draft.write_all(b"\n")?;
    draft.as_file().sync_all()?;
    match draft.persist_noclobber(path) {
        Err(error) if error.error.kind() != ErrorKind::AlreadyExists => Err(error.error),
        _ => Ok(()),
    }
}

/// 32 bytes as they are, in hexadecimal, or in base64.
fn parse(text: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let exact = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).ok().map(Zeroizing::new);
    if let Some(raw) = exact(text) {
        return Some(raw);
    }
    let text = text.trim_ascii();
    let from_hex = || hex::decode(text).ok().map(Zeroizing::new);
    let from_base64 = || BASE64_STANDARD.decode(text).ok().map(Zeroizing::new);
    from_hex().or_else(from_base64).and_then(|bytes| exact(&bytes))
}
