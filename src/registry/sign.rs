//! Signatures of records: a keyed digest that only somebody with the same secret can make.
//!
//! Whoever may push to a repository could plant an image under a key's tag. With a secret that
//! only trusted pipelines have, the record says which image belongs to the key, and what does not
//! say so is a miss. Knows HMAC-SHA-256 and what it is over; must not know where secrets come
//! from, nor how records travel.

use docker_credential_aliyun::Secret;
use ring::hmac;

use super::{
    digest::Digest,
    records::{Record, RecordHead},
    reference::Tag,
};

/// Where a record keeps its signature.
const SIGNATURE: &str = "io.smartbuild.signature";
/// What is signed starts with this, so that no other use of the secret gives the same digest.
const DOMAIN: &str = "smartbuild record signature 1";
/// Shorter secrets could be found by trying.
const SHORTEST: usize = 16;

/// The secret that signs and verifies records.
pub struct SigningKey(hmac::Key);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(***)")
    }
}

/// The secret is too short to be one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "a signing key needs at least {SHORTEST} characters, better 32 random bytes, as `openssl rand -hex 32` prints them"
)]
pub struct WeakKey;

/// Why a record does not vouch for an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// Nobody signed it.
    #[error("its record is not signed")]
    Unsigned,
    /// It is signed with another secret, or was changed afterwards.
    #[error("the signature of its record is not by this key")]
    WrongSignature,
    /// It vouches for another image: the tag was moved, or two pipelines published at once.
    #[error("its record is signed for another image, {0}")]
    OtherImage(Digest),
}

impl SigningKey {
    /// Takes the secret, without the blanks and line ends around it.
    ///
    /// # Errors
    /// When it is too short.
    pub fn new(secret: &Secret) -> Result<Self, WeakKey> {
        let secret = secret.expose().trim().as_bytes();
        if secret.len() < SHORTEST {
            return Err(WeakKey);
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }

    /// The record of `key` with its signature.
    #[must_use]
    pub fn sign(&self, key: &Tag, mut record: Record) -> Record {
        let text = signed(key, &record.image, &Digest::of(&record.inputs));
        let signature = hmac::sign(&self.0, &text);
        record.notes.insert(SIGNATURE.to_owned(), hex::encode(signature));
        record
    }

    /// Whether a record vouches for `image` as the image of `key`.
    ///
    /// # Errors
    /// Why it does not.
    pub fn verify(&self, key: &Tag, record: &RecordHead, image: &Digest) -> Result<(), Untrusted> {
        let signature = record.notes.get(SIGNATURE).ok_or(Untrusted::Unsigned)?;
        let signature = hex::decode(signature).map_err(|_| Untrusted::WrongSignature)?;
        let text = signed(key, &record.image, &record.inputs);
        hmac::verify(&self.0, &text, &signature).map_err(|_| Untrusted::WrongSignature)?;
        if record.image != *image {
            return Err(Untrusted::OtherImage(record.image.clone()));
        }
        Ok(())
    }
}

/// What is signed: each part with its length before it, so that no two lists of parts are one text.
fn signed(key: &Tag, image: &Digest, inputs: &Digest) -> Vec<u8> {
    let parts = [DOMAIN.to_owned(), key.to_string(), image.to_string(), inputs.to_string()];
    let mut text = Vec::new();
    for part in &parts {
        text.extend((part.len() as u64).to_be_bytes());
        text.extend(part.as_bytes());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> SigningKey {
        SigningKey::new(&Secret::new(text.to_owned())).unwrap()
    }

    fn record() -> Record {
        Record {
            image: Digest::of(b"image"),
            created: String::new(),
            notes: [].into(),
            inputs: b"inputs".as_slice().into(),
        }
    }

    fn tag(text: &str) -> Tag {
        text.parse().unwrap()
    }

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_signed_record_vouches_for_its_image_and_nothing_else() {
        let (key, image) = (key(SECRET), Digest::of(b"image"));
        let head = key.sign(&tag("sb1-a"), record()).head();
        assert_eq!(key.verify(&tag("sb1-a"), &head, &image), Ok(()));
        let other = Digest::of(b"planted");
        let refused = Untrusted::OtherImage(image.clone());
        assert_eq!(key.verify(&tag("sb1-a"), &head, &other), Err(refused));
        assert_eq!(key.verify(&tag("sb1-b"), &head, &image), Err(Untrusted::WrongSignature));
        let changes: [fn(&mut RecordHead); 4] = [
            |head| head.image = Digest::of(b"planted"),
            |head| head.inputs = Digest::of(b"others"),
            |head| drop(head.notes.insert(SIGNATURE.to_owned(), "00".repeat(32))),
            |head| drop(head.notes.insert(SIGNATURE.to_owned(), "nonsense".to_owned())),
        ];
        for change in changes {
            let mut changed = head.clone();
            change(&mut changed);
            let image = changed.image.clone();
            let verdict = key.verify(&tag("sb1-a"), &changed, &image);
            assert_eq!(verdict, Err(Untrusted::WrongSignature));
        }
        let unsigned = record().head();
        assert_eq!(key.verify(&tag("sb1-a"), &unsigned, &image), Err(Untrusted::Unsigned));
    }

    #[test]
    fn another_secret_is_another_key_and_line_ends_are_not_part_of_it() {
        let head = key(SECRET).sign(&tag("sb1-a"), record()).head();
        let image = Digest::of(b"image");
        let same = key(&format!("{SECRET}\n"));
        assert_eq!(same.verify(&tag("sb1-a"), &head, &image), Ok(()));
        let other = key(&SECRET.replace('0', "1"));
        assert_eq!(other.verify(&tag("sb1-a"), &head, &image), Err(Untrusted::WrongSignature));
        let short = SigningKey::new(&Secret::new("  hunter2hunter2 ".to_owned()));
        assert_eq!(short.unwrap_err(), WeakKey);
        assert!(!format!("{other:?}").contains('1'));
    }
}
