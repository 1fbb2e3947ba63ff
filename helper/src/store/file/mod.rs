//! The encrypted file, for machines without a keychain: servers, containers, CI.
//!
//! One file holds all entries. It is replaced as a whole, by a rename, under a lock that all
//! processes share, and is on the disk before a change is acknowledged: whenever a process dies, the
//! file is the old one or the new one. [`format`](self) is in `format.rs`, the key in `key.rs`.

mod format;
mod key;

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyring_core::api::{Credential, CredentialApi, CredentialStoreApi};
use keyring_core::{Entry, Error, Result};
use zeroize::Zeroizing;

use crate::environment::Environment;
use crate::secret::Secret;
pub use format::FormatError;
use format::{Entries, Record};
pub use key::KeyError;
use key::{FileKey, MasterKey};

/// The variable that moves the file.
pub const VARIABLE: &str = "DOCKER_CREDENTIAL_ALIYUN_FILE";

/// Why the encrypted file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// Nowhere to put it.
    #[error("there is no home directory for the encrypted file; set {VARIABLE} to its path")]
    NoPlace,
    /// The key is missing or wrong.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There is a file, and the key that opens it is gone.
    #[error(
        "the key {} of the encrypted file {} is not there: put it back (or set the variable that \
         held it), or remove the file, which nothing else opens, and log in again",
        key.display(), file.display()
    )]
    Lost {
        /// Where the key was, as far as is known.
        key: PathBuf,
        /// The file.
        file: PathBuf,
    },
}

/// What happened to the file, to follow its name in a sentence.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("cannot be read: {0}")]
    Read(io::Error),
    #[error("cannot be written: {0}")]
    Write(io::Error),
    #[error("{0}")]
    Format(#[from] FormatError),
    #[error("has no key: {0}")]
    Key(#[from] KeyError),
}

/// The file and what opens it.
#[derive(Clone)]
pub struct FileStore {
    path: PathBuf,
    key: Arc<FileKey>,
}

impl FileStore {
    /// Whether somebody set up a key.
    #[must_use]
    pub fn is_configured(environment: &Environment) -> bool {
        MasterKey::is_configured(environment)
    }

    /// Finds the file's place and its key; nothing if there is neither file nor key, and it is not to
    /// be written. The file itself need not exist. A key that is not there is made with the first
    /// secret that is stored, and not before.
    ///
    /// # Errors
    /// No place, no key for a file that is there, or a key that is none.
    pub fn open(
        environment: &Environment,
        for_writing: bool,
    ) -> std::result::Result<Option<Self>, FileError> {
        let named = environment.path(VARIABLE);
        let path = named.or_else(|| Some(environment.data_dir()?.join("credentials.json")));
        let path = path.ok_or(FileError::NoPlace)?;
        // A link stays one: what it leads to is replaced.
        let path = fs::canonicalize(&path).unwrap_or(path);
        let is_there = path.exists();
        let key = match (MasterKey::find(environment), key::place(environment)) {
            (Ok(key), _) => FileKey::Ready(key),
            (Err(error), Some(key)) if error.is_absence() => match (is_there, for_writing) {
                // A new key would not open a file that is there.
                (true, _) => return Err(FileError::Lost { key, file: path }),
                (false, true) => FileKey::to_be_made(key),
                (false, false) => return Ok(None),
            },
            (Err(error), _) => return Err(error.into()),
        };
        Ok(Some(Self { path, key: Arc::new(key) }))
    }

    /// The key, for others who have something to seal: where one is configured or was made, and takes
    /// no time to get. A pass-phrase's takes tens of milliseconds.
    #[must_use]
    pub fn ready_key(environment: &Environment) -> Option<Zeroizing<[u8; 32]>> {
        MasterKey::find(environment).ok()?.ready()
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The entries; none where there is no file. Needs no lock: a rename is all or nothing.
    fn read(&self) -> std::result::Result<Entries, Fault> {
        match fs::read(&self.path) {
            Ok(bytes) => Ok(format::open(&bytes, self.key.get()?)?),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Entries::new()),
            Err(error) => Err(Fault::Read(error)),
        }
    }

    /// Reads, changes and writes, with no other process in between.
    fn change(&self, change: impl FnOnce(&mut Entries) -> Result<()>) -> Result<()> {
        let _lock = self.lock().map_err(|error| fail(Fault::Write(error)))?;
        let mut entries = self.read().map_err(fail)?;
        change(&mut entries)?;
        let key = self.key.get().map_err(|error| fail(error.into()))?;
        let bytes = format::seal(&entries, key).map_err(|error| fail(error.into()))?;
        self.replace(&bytes).map_err(|error| fail(Fault::Write(error)))
    }

    /// Held until it is dropped, or until the process ends, however that happens.
    fn lock(&self) -> io::Result<File> {
        if let Some(directory) = self.path.parent() {
            make_private_directory(directory)?;
        }
        let lock = private(OpenOptions::new().write(true).create(true).truncate(false))
            .open(self.sibling("lock"))?;
        lock.lock()?;
        Ok(lock)
    }

    /// Puts the new file in place of the old. The name of the draft is always the same, so that a
    /// process that was killed leaves nothing that the next would not clear away.
    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let draft = self.sibling("new");
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = private(OpenOptions::new().write(true).create_new(true)).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, &self.path)?;
        sync_directory(&self.path)
    }

    fn sibling(&self, extension: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".");
        name.push(extension);
        name.into()
    }

    fn entry(&self, server: &str, username: &str) -> Entry {
        let (server, username) = (server.to_owned(), username.to_owned());
        Entry::new_with_credential(Arc::new(FileItem { store: self.clone(), server, username }))
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore").field("path", &self.path).finish_non_exhaustive()
    }
}

fn fail(fault: Fault) -> Error {
    match fault {
        Fault::Format(FormatError::WrongKey) => Error::NoStorageAccess(Box::new(fault)),
        other => Error::PlatformFailure(Box::new(other)),
    }
}

impl CredentialStoreApi for FileStore {
    fn vendor(&self) -> String {
        "encrypted file".to_owned()
    }

    fn id(&self) -> String {
        format!("docker-credential-aliyun/file:{}", self.path.display())
    }

    fn build(&self, service: &str, user: &str, _: Option<&HashMap<&str, &str>>) -> Result<Entry> {
        Ok(self.entry(service, user))
    }

    fn search(&self, spec: &HashMap<&str, &str>) -> Result<Vec<Entry>> {
        let entries = self.read().map_err(fail)?;
        let wanted = |name, value: &str| spec.get(name).is_none_or(|wanted| *wanted == value);
        let found = entries.iter().filter(|(server, record)| {
            wanted("service", server) && wanted("user", &record.username)
        });
        Ok(found.map(|(server, record)| self.entry(server, &record.username)).collect())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// An entry that is there, or is to be.
#[derive(Debug, Clone)]
struct FileItem {
    store: FileStore,
    server: String,
    username: String,
}

impl CredentialApi for FileItem {
    /// Replaces whatever the server had: there is one entry for each.
    fn set_secret(&self, secret: &[u8]) -> Result<()> {
        let secret = str::from_utf8(secret).map_err(|_| Error::BadEncoding(Vec::new()))?;
        let record =
            Record { username: self.username.clone(), secret: Secret::new(secret.to_owned()) };
        self.store.change(|entries| {
            entries.insert(self.server.clone(), record);
            Ok(())
        })
    }

    fn get_secret(&self) -> Result<Vec<u8>> {
        let entries = self.store.read().map_err(fail)?;
        let record = entries.get(&self.server).filter(|record| record.username == self.username);
        record.map(|record| record.secret.expose().as_bytes().to_vec()).ok_or(Error::NoEntry)
    }

    fn delete_credential(&self) -> Result<()> {
        self.store.change(|entries| {
            let found = entries.get(&self.server).filter(|r| r.username == self.username);
            found.ok_or(Error::NoEntry)?;
            entries.remove(&self.server);
            Ok(())
        })
    }

    fn get_credential(&self) -> Result<Option<Arc<Credential>>> {
        self.get_secret().map(|_| None)
    }

    fn get_specifiers(&self) -> Option<(String, String)> {
        Some((self.server.clone(), self.username.clone()))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Readable and writable by the owner alone, from the moment it exists.
pub(super) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

pub(super) fn make_private_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Makes a rename survive a loss of power. Windows has no such call, and needs none.
fn sync_directory(file: &Path) -> io::Result<()> {
    match file.parent() {
        Some(directory) if cfg!(unix) => File::open(directory)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
