//! The key that seals the cache.
//!
//! It is kept apart from what it seals where that costs nothing: it is the key of the encrypted file,
//! where that store is set up; else it is in the kernel's keyring of the user on Linux, so that a
//! copy of the home directory opens nothing. Elsewhere it is a file that only its owner can read. A
//! desktop's Secret Service is not asked: it takes longer than an answer from the cache may.

use std::fs;
use std::path::Path;
use std::time::Duration;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::lock;
use crate::environment::Environment;
use crate::store::file::FileStore;
use crate::transport::Deadline;

const LENGTH: usize = 32;
/// How long to wait for another process that is making the key.
const PATIENCE: Duration = Duration::from_secs(2);
/// What every sealed file begins with: what it is, and the version of its format.
const MAGIC: &[u8; 4] = b"dca1";

/// Seals and opens, and makes names that tell nothing.
pub(super) struct Key {
    seal: LessSafeKey,
    names: hmac::Key,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(***)")
    }
}

impl Key {
    /// The key of a cache directory, if there is one.
    pub(super) fn load(directory: &Path, environment: &Environment) -> Option<Self> {
        match FileStore::ready_key(environment) {
            Some(bytes) => Self::from_bytes(&*bytes),
            None => Self::load_own(directory),
        }
    }

    fn load_own(directory: &Path) -> Option<Self> {
        let bytes = match fs::read(directory.join(FILE)).map(Zeroizing::new).ok()? {
            marker if marker.as_slice() == IN_KEYRING => keyring::load(directory)?,
            bytes => bytes,
        };
        Self::from_bytes(&bytes)
    }

    /// Makes the key of a cache directory. Of several processes that do so at once, all get the
    /// same one: the one whose file came first.
    pub(super) fn create(directory: &Path) -> Option<Self> {
        Self::create_in(directory, keyring::store)
    }

    /// The same with another keyring, which says whether it took the key.
    pub(super) fn create_in(
        directory: &Path,
        keyring: impl Fn(&Path, &[u8]) -> bool,
    ) -> Option<Self> {
        // Held for some file operations only.
        let _guard = lock(&directory.join("lock-key"), Deadline::after(PATIENCE)).ok()?;
        if let Some(key) = Self::load_own(directory) {
            return Some(key);
        }
        let mut bytes = Zeroizing::new(vec![0; LENGTH]);
        SystemRandom::new().fill(&mut bytes).ok()?;
        let kept = if keyring(directory, &bytes) { IN_KEYRING } else { &bytes };
        super::replace(&directory.join(FILE), kept).ok()?;
        Self::from_bytes(&bytes)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != LENGTH {
            return None;
        }
        // One key, two uses: each gets its own.
        let root = hmac::Key::new(hmac::HMAC_SHA256, bytes);
        let seal = hmac::sign(&root, b"seal");
        let names = hmac::sign(&root, b"names");
        Some(Self {
            seal: LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, seal.as_ref()).ok()?),
            names: hmac::Key::new(hmac::HMAC_SHA256, names.as_ref()),
        })
    }

    /// Begins a name.
    pub(super) fn names(&self) -> hmac::Context {
        hmac::Context::with_key(&self.names)
    }

    /// Seals a text for one name: under another name it does not open.
    pub(super) fn seal(&self, name: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
        // Random nonces of 96 bits: a key seals some dozens of tokens a day.
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut text = plain.to_vec();
        let nonce_used = Nonce::assume_unique_for_key(nonce);
        self.seal.seal_in_place_append_tag(nonce_used, Aad::from(name), &mut text).ok()?;
        Some([MAGIC.as_slice(), &nonce, &text].concat())
    }

    /// Opens what was sealed for a name.
    pub(super) fn open(&self, name: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let rest = sealed.strip_prefix(MAGIC.as_slice())?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>()?;
        let mut text = Zeroizing::new(text.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.seal.open_in_place(nonce, Aad::from(name), &mut text).ok()?.len();
        text.truncate(length);
        Some(text)
    }
}

/// The key's file in the cache directory.
const FILE: &str = "key";
/// What stands in that file if the key is in the kernel's keyring.
const IN_KEYRING: &[u8] = b"in the kernel's keyring\n";

/// The kernel's keyring of the user. It outlives processes and sessions. A key in it is gone after a
/// restart, or some time without use, and with it what it sealed.
#[cfg(target_os = "linux")]
mod keyring {
    use std::path::Path;

    use linux_keyutils::{KeyRing, KeyRingIdentifier};
    use zeroize::Zeroizing;

    use super::LENGTH;

    /// How long a key stays without use, in seconds: longer than any token, and no longer, since a
    /// user may have some hundreds of keys only.
    const LIFE: usize = 2 * 60 * 60;

    pub(super) fn load(directory: &Path) -> Option<Zeroizing<Vec<u8>>> {
        let key = ring()?.search(&description(directory)).ok()?;
        // Should that fail, the key stays as long as the keyring.
        let _ = key.set_timeout(LIFE);
        let mut bytes = Zeroizing::new(vec![0; LENGTH]);
        (key.read(&mut bytes).ok()? == LENGTH).then_some(bytes)
    }

    /// Whether it took the key.
    pub(super) fn store(directory: &Path, bytes: &[u8]) -> bool {
        let added = ring().and_then(|ring| ring.add_key(&description(directory), bytes).ok());
        // A container may have a keyring that takes keys and does not give them back.
        added.is_some() && load(directory).is_some_and(|read| *read == bytes)
    }

    fn ring() -> Option<KeyRing> {
        KeyRing::get_persistent(KeyRingIdentifier::Process).ok()
    }

    fn description(directory: &Path) -> String {
        let path = crate::openapi::acs3::hash(directory.as_os_str().as_encoded_bytes());
        format!("docker-credential-aliyun:cache:{}", &path[..16])
    }
}

#[cfg(not(target_os = "linux"))]
mod keyring {
    use std::path::Path;

    use zeroize::Zeroizing;

    pub(super) fn load(_: &Path) -> Option<Zeroizing<Vec<u8>>> {
        None
    }

    pub(super) fn store(_: &Path, _: &[u8]) -> bool {
        false
    }
}
