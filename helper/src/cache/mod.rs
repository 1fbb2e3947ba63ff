//! Tokens that are still good, kept between processes.
//!
//! One sealed file a host and identity, in our cache directory. It knows time, files and locks; it
//! must not know where tokens come from.
//!
//! Losing the cache costs a call. So whatever is wrong with it (no directory, a damaged file,
//! another key, a full disk) makes it empty, never an error.

mod key;

use std::borrow::Cow;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use ring::hmac;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use self::key::Key;
use crate::environment::Environment;
use crate::host::Host;
use crate::openapi::acr::AuthorizationToken;
use crate::secret::Secret;
use crate::transport::Deadline;

/// How long before its end a token is replaced: the vendor's own margin. A client may use what it
/// got minutes later, and a push may be long.
const MARGIN: SignedDuration = SignedDuration::from_mins(15);
/// How much of its life a token must have left to be worth anything.
const WORTH: SignedDuration = SignedDuration::from_secs(30);
/// How long to leave the API alone after it failed while there is a token that is good.
const PAUSE: SignedDuration = SignedDuration::from_secs(60);
/// How long a new token may take while there is one that is good.
const REFRESH: Duration = Duration::from_secs(4);
/// How far a clock may go back before what was kept by its earlier time counts for nothing.
const SLIP: SignedDuration = SignedDuration::from_mins(5);
/// The age at which a file is swept out: no token lives so long.
const SWEEP: Duration = Duration::from_hours(24);

/// The directory of the tokens and of their locks, in ours.
const TOKENS: &str = "tokens";
/// What the name of a lock ends in; the slot's goes before it.
const LOCK: &str = ".lock";

/// The tokens of this user on this machine.
#[derive(Debug)]
pub struct TokenCache {
    directory: PathBuf,
    key: Key,
}

/// The place of one host's token for one identity.
#[derive(Debug)]
pub struct Slot<'a> {
    cache: &'a TokenCache,
    name: String,
}

/// A token, when it came and when to replace it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    token: AuthorizationToken,
    kept_at: Timestamp,
    refresh_at: Timestamp,
}

/// An entry as it stands in its file, before it is sealed. Times in milliseconds since 1970.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    #[serde(borrow)]
    user: Cow<'a, str>,
    #[serde(borrow)]
    token: Cow<'a, str>,
    expires: i64,
    kept: i64,
    refresh: i64,
}

impl TokenCache {
    /// The cache, ready to be filled; `None` where there is no place for it.
    #[must_use]
    pub fn open(environment: &Environment) -> Option<Self> {
        let directory = environment.cache_dir()?;
        // Where they cannot be made, older ones can still be read.
        drop(create_private(&directory.join(TOKENS)));
        let key = Key::load(&directory, environment).or_else(|| Key::create(&directory))?;
        Some(Self { directory, key })
    }

    /// The cache if there is one already.
    #[must_use]
    pub fn open_existing(environment: &Environment) -> Option<Self> {
        let directory = environment.cache_dir()?;
        let key = Key::load(&directory, environment)?;
        Some(Self { directory, key })
    }

    /// The place for a host, and for the identity and whatever else the token depends on. Its name
    /// tells none of these to those without the key.
    pub fn slot(&self, host: &Host, identity: &impl Hash) -> Slot<'_> {
        let mut mac = Mac(self.key.names());
        identity.hash(&mut mac);
        let identity = hex::encode(&mac.0.sign().as_ref()[..16]);
        Slot { cache: self, name: format!("{}-{identity}", self.prefix(host)) }
    }

    /// The tokens of all identities for the host, those that have ended included.
    pub fn tokens_of(&self, host: &Host) -> impl Iterator<Item = AuthorizationToken> {
        self.slots_of(host).filter_map(|slot| Some(slot.read()?.token))
    }

    /// Forgets the tokens of all identities for the host.
    pub fn forget(&self, host: &Host) {
        for slot in self.slots_of(host) {
            // One that cannot be removed stays as good as it is.
            drop(fs::remove_file(slot.path()));
        }
    }

    fn slots_of(&self, host: &Host) -> impl Iterator<Item = Slot<'_>> {
        let prefix = self.prefix(host);
        let files = fs::read_dir(self.tokens()).into_iter().flatten().flatten();
        files
            .filter_map(|file| file.file_name().into_string().ok())
            .filter(move |name| name.starts_with(&prefix) && !name.ends_with(LOCK))
            .map(|name| Slot { cache: self, name })
    }

    fn prefix(&self, host: &Host) -> String {
        let mut mac = self.key.names();
        mac.update(host.as_str().as_bytes());
        hex::encode(&mac.sign().as_ref()[..8])
    }

    fn tokens(&self) -> PathBuf {
        self.directory.join(TOKENS)
    }

    /// Removes what is older than any token, and what killed processes left.
    fn sweep(&self) {
        for file in fs::read_dir(self.tokens()).into_iter().flatten().flatten() {
            let age = file.metadata().and_then(|data| data.modified()).ok();
            if age.and_then(|time| time.elapsed().ok()).is_some_and(|age| age > SWEEP) {
                drop(fs::remove_file(file.path()));
            }
        }
    }
}

/// Feeds what is hashed into a MAC. The hash itself is asked of the MAC, not of this.
struct Mac(hmac::Context);

impl Hasher for Mac {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

impl Slot<'_> {
    fn path(&self) -> PathBuf {
        self.cache.tokens().join(&self.name)
    }

    fn read(&self) -> Option<Entry> {
        let sealed = fs::read(self.path()).ok()?;
        let opened = self.cache.key.open(self.name.as_bytes(), &sealed)?;
        let stored: Stored<'_> = serde_json::from_slice(&opened).ok()?;
        Some(Entry {
            token: AuthorizationToken {
                user: stored.user.into_owned(),
                token: Secret::new(stored.token.into_owned()),
                expires_at: Timestamp::from_millisecond(stored.expires).ok()?,
            },
            kept_at: Timestamp::from_millisecond(stored.kept).ok()?,
            refresh_at: Timestamp::from_millisecond(stored.refresh).ok()?,
        })
    }

    /// Writes the entry whole or not at all. Where it cannot be written it is not needed.
    fn write(&self, entry: &Entry) {
        let stored = Stored {
            user: entry.token.user.as_str().into(),
            token: entry.token.token.expose().into(),
            expires: entry.token.expires_at.as_millisecond(),
            kept: entry.kept_at.as_millisecond(),
            refresh: entry.refresh_at.as_millisecond(),
        };
        let Ok(plain) = serde_json::to_vec(&stored).map(Zeroizing::new) else { return };
        let Some(sealed) = self.cache.key.seal(self.name.as_bytes(), &plain) else { return };
        if replace(&self.path(), &sealed).is_ok() {
            self.cache.sweep();
        }
    }

    /// The file whose lock guards this slot, and no other: it is held while an API is asked, which
    /// another host must not wait for. It is swept out with the tokens; whoever holds it then may be
    /// one of two who ask.
    fn lock_path(&self) -> PathBuf {
        self.cache.tokens().join(format!("{}{LOCK}", self.name))
    }
}

/// Somebody else has the lock.
#[derive(Debug, PartialEq, Eq)]
struct Busy;

/// A lock that is held until this is dropped; nothing where no lock can be had, as in a directory
/// that is read-only.
type Guard = Option<File>;

/// Takes the lock of a file if nobody has it.
fn try_lock(path: &Path) -> Result<Guard, Busy> {
    let Some(file) = lock_file(path) else { return Ok(None) };
    match file.try_lock() {
        Err(fs::TryLockError::WouldBlock) => Err(Busy),
        _ => Ok(Some(file)),
    }
}

/// Takes the lock of a file, and waits for it until the deadline. On a thread, since a lock has no
/// time limit; it ends with the process if the lock never comes.
fn lock(path: &Path, deadline: Deadline) -> Result<Guard, Busy> {
    if let Ok(guard) = try_lock(path) {
        return Ok(guard);
    }
    let Some(file) = lock_file(path) else { return Ok(None) };
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        if file.lock().is_ok() {
            // Nobody listens any more if the deadline has passed.
            drop(send.send(file));
        }
    });
    receive.recv_timeout(deadline.left()).map(Some).map_err(|_| Busy)
}

fn lock_file(path: &Path) -> Option<File> {
    File::options().create(true).truncate(false).write(true).open(path).ok()
}

impl Entry {
    /// A new token is replaced a margin before its end, or at half its life if that is short.
    fn new(token: AuthorizationToken, now: Timestamp) -> Self {
        let life = token.expires_at.duration_since(now);
        let margin = MARGIN.min(life / 2);
        let refresh_at = token.expires_at - margin;
        Self { token, kept_at: now, refresh_at }
    }

    fn is_fresh(&self, now: Timestamp) -> bool {
        now < self.refresh_at && self.is_good(now)
    }

    /// By a clock that has gone back, a token may be over that seems to have long to live.
    fn is_good(&self, now: Timestamp) -> bool {
        self.token.expires_at.duration_since(now) > WORTH
            && self.kept_at.duration_since(now) <= SLIP
    }
}

/// The token of a slot, or a new one.
///
/// One process at a time fetches for a slot; the others wait for what it brings, or go on with a
/// token that is still good. Such a token also stands in while fetching fails.
///
/// # Errors
/// Those of `fetch`, if there is no good token to go on with.
pub fn get_or_fetch<E>(
    slot: Option<&Slot<'_>>,
    deadline: Deadline,
    now: impl Fn() -> Timestamp,
    fetch: impl FnOnce(Deadline) -> Result<Option<AuthorizationToken>, E>,
) -> Result<Option<AuthorizationToken>, E> {
    let Some(slot) = slot else { return fetch(deadline) };
    let read = || slot.read().filter(|entry| entry.is_good(now()));
    let held = read();
    if let Some(entry) = held.as_ref().filter(|entry| entry.is_fresh(now())) {
        return Ok(Some(entry.token.clone()));
    }
    let guard = match &held {
        Some(_) => try_lock(&slot.lock_path()),
        None => lock(&slot.lock_path(), deadline),
    };
    // Whoever had the lock may have brought a token.
    let Some(held) = read().or(held) else {
        return Ok(fetch(deadline)?.map(|token| keep(slot, token, now())));
    };
    if guard.is_err() || held.is_fresh(now()) {
        return Ok(Some(held.token));
    }
    match fetch(deadline.within(REFRESH)) {
        Ok(Some(token)) => Ok(Some(keep(slot, token, now()))),
        Ok(None) | Err(_) => {
            let refresh_at = now() + PAUSE;
            slot.write(&Entry { refresh_at, ..held.clone() });
            Ok(Some(held.token))
        }
    }
}

fn keep(slot: &Slot<'_>, token: AuthorizationToken, now: Timestamp) -> AuthorizationToken {
    let entry = Entry::new(token, now);
    slot.write(&entry);
    entry.token
}

/// Puts a file in its place whole, readable by its owner only.
fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    create_private(directory)?;
    // Of mode 0600 from the start.
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(content)?;
    file.persist(path)?;
    Ok(())
}

/// Makes a directory that only its owner can enter.
fn create_private(directory: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

#[cfg(test)]
mod tests;
