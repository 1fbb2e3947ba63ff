//! The bytes of the encrypted file. Pure: bytes and a key in, entries out, and back.
//!
//! ```json
//! {"version":1,"kdf":"key","salt":"...","sealed":"..."}
//! ```
//!
//! `sealed` is the entries as JSON under ChaCha20-Poly1305 (RFC 8439). Each write draws a new
//! `salt`, from which HKDF-SHA-256 (RFC 5869) derives a key for this write alone; no key is ever
//! used twice, so the nonce is zero. All that is not sealed is authenticated with it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use super::key::{Kdf, KdfError, MasterKey};
use crate::secret::Secret;

/// The version this program writes, and the only one it reads.
const VERSION: u32 = 1;

/// Binds derived keys to their purpose.
const PURPOSE: &[u8] = b"docker-credential-aliyun credentials v1";

/// What the file holds: a record for each server.
pub(super) type Entries = BTreeMap<String, Record>;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) username: String,
    #[serde(with = "exposed")]
    pub(super) secret: Secret,
}

/// Only inside what is sealed.
mod exposed {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::secret::Secret;

    pub(super) fn serialize<S: Serializer>(secret: &Secret, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(secret.expose())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
        String::deserialize(from).map(Secret::new)
    }
}

/// Why the bytes are not entries, to follow the file's name in a sentence.
#[derive(Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FormatError {
    /// Not our JSON.
    #[error(
        "is damaged, or not a file of this program; put back a copy, or remove it and log in again"
    )]
    Damaged,
    /// A later version's.
    #[error("has version {0}, and this program knows version {VERSION} only; update it")]
    Version(u32),
    /// The seal does not open.
    #[error("does not open with this key: it was written with another one, or has been changed")]
    WrongKey,
    /// The key is of the other kind.
    #[error(transparent)]
    Kdf(#[from] KdfError),
    /// The system gives no random numbers.
    #[error("cannot be sealed: the system gave no random numbers")]
    Random,
}

/// What stands before the seal, in the order in which it is authenticated.
#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    kdf: Kdf,
    salt: String,
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    #[serde(flatten)]
    header: Header,
    sealed: String,
}

/// Only the version, to tell a later file from a damaged one.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// Encrypts the entries.
pub(super) fn seal(entries: &Entries, master: &MasterKey) -> Result<Vec<u8>, FormatError> {
    let mut salt = [0; 32];
    SystemRandom::new().fill(&mut salt).map_err(|_| FormatError::Random)?;
    let header =
        Header { version: VERSION, kdf: master.kdf().clone(), salt: BASE64_STANDARD.encode(salt) };
    let key = write_key(master.bytes(master.kdf())?, &salt)?;
    let size: usize = entries.iter().map(|(server, record)| server.len() + record.size()).sum();
    let mut text = Zeroizing::new(Vec::with_capacity(64 + 6 * size + CHACHA20_POLY1305.tag_len()));
    serde_json::to_writer(&mut *text, entries).map_err(|_| FormatError::Damaged)?;
    key.seal_in_place_append_tag(nonce(), authenticated(&header)?, &mut *text)
        .map_err(|_| FormatError::Random)?;
    let envelope = Envelope { header, sealed: BASE64_STANDARD.encode(&*text) };
    let mut bytes = serde_json::to_vec(&envelope).map_err(|_| FormatError::Damaged)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Decrypts the entries.
pub(super) fn open(bytes: &[u8], master: &MasterKey) -> Result<Entries, FormatError> {
    match serde_json::from_slice(bytes) {
        Ok(Versioned { version: VERSION }) => {}
        Ok(Versioned { version }) => return Err(FormatError::Version(version)),
        Err(_) => return Err(FormatError::Damaged),
    }
    let Envelope { header, sealed } =
        serde_json::from_slice(bytes).map_err(|_| FormatError::Damaged)?;
    let decode = |text: &str| BASE64_STANDARD.decode(text).map_err(|_| FormatError::Damaged);
    let salt = decode(&header.salt)?;
    let mut text = Zeroizing::new(decode(&sealed)?);
    let key = write_key(master.bytes(&header.kdf)?, &salt)?;
    let text = key
        .open_in_place(nonce(), authenticated(&header)?, &mut text)
        .map_err(|_| FormatError::WrongKey)?;
    serde_json::from_slice(text).map_err(|_| FormatError::Damaged)
}

impl Record {
    fn size(&self) -> usize {
        32 + self.username.len() + self.secret.expose().len()
    }
}

/// The key for one write.
fn write_key(master: Zeroizing<[u8; 32]>, salt: &[u8]) -> Result<LessSafeKey, FormatError> {
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, salt);
    let derived = salt.extract(&*master);
    let derived =
        derived.expand(&[PURPOSE], &CHACHA20_POLY1305).map_err(|_| FormatError::Damaged)?;
    Ok(LessSafeKey::new(UnboundKey::from(derived)))
}

/// Zero, for each key seals one text only.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn authenticated(header: &Header) -> Result<Aad<Vec<u8>>, FormatError> {
    serde_json::to_vec(header).map(Aad::from).map_err(|_| FormatError::Damaged)
}
