//! Content digests, as `sha256:<hex>` writes them.
//!
//! Knows the grammar of the image specification (`descriptor.md`, "Digests") and how to compute
//! SHA-256; must not know what the bytes are.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256, Sha512};

/// The digest of some content: an algorithm we can verify and its value.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Digest {
    /// SHA-256, what every registry uses.
    Sha256([u8; 32]),
    /// SHA-512, which the specification allows.
    Sha512(Box<[u8; 64]>),
}

impl Digest {
    /// The SHA-256 digest of `content`.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        Self::Sha256(Sha256::digest(content).into())
    }

    /// Whether `content` has this digest.
    #[must_use]
    pub fn matches(&self, content: &[u8]) -> bool {
        match self {
            Self::Sha256(value) => Sha256::digest(content).as_slice() == value,
            Self::Sha512(value) => Sha512::digest(content).as_slice() == value.as_slice(),
        }
    }

    /// The name before the colon.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::Sha512(_) => "sha512",
        }
    }

    /// The value itself.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        match self {
            Self::Sha256(value) => value,
            Self::Sha512(value) => value.as_slice(),
        }
    }

    /// The hexadecimal digits after the colon.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::encode(self.value())
    }

    /// The first twelve digits, enough for a person to tell two digests apart.
    #[must_use]
    pub fn short(&self) -> String {
        let mut digits = self.hex();
        digits.truncate(12);
        digits
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text was not a digest that we can verify.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a digest: expected sha256: and 64 lower-case hexadecimal digits")]
pub struct InvalidDigest(String);

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidDigest(text.chars().take(160).collect());
        let (algorithm, digits) = text.split_once(':').ok_or_else(invalid)?;
        if digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(invalid());
        }
        match algorithm {
            "sha256" => {
                let mut value = [0; 32];
                hex::decode_to_slice(digits, &mut value).map_err(|_| invalid())?;
                Ok(Self::Sha256(value))
            }
            "sha512" => {
                let mut value = [0; 64];
                hex::decode_to_slice(digits, &mut value).map_err(|_| invalid())?;
                Ok(Self::Sha512(Box::new(value)))
            }
            _ => Err(invalid()),
        }
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_digest_reads_back_as_it_was_written_and_matches_its_content() {
        let digest = Digest::of(b"");
        assert_eq!(digest.to_string(), EMPTY);
        assert_eq!(EMPTY.parse(), Ok(digest.clone()));
        assert!(digest.matches(b"") && !digest.matches(b"x"));
        assert_eq!(digest.short(), "e3b0c44298fc");
    }

    #[test]
    fn what_cannot_be_verified_is_refused() {
        let upper = EMPTY.to_ascii_uppercase();
        for text in
            ["", "sha256", "sha256:", "md5:d41d8cd98f00b204e9800998ecf8427e", &EMPTY[..70], &upper]
        {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }
}
