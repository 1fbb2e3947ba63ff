//! The key: the digest of the inputs, and the tag under which the image of those inputs stands.

use std::{fmt, str::FromStr};

/// Digest of the inputs of an image, written `sb1-<64 hex>`.
///
/// The `1` is the version of the schema, so keys of another schema never compare equal; the whole
/// text is also the tag under which a registry holds the image.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub(super) [u8; 32]);

/// What every key of this schema starts with.
const PREFIX: &str = "sb1-";

impl Key {
    /// The image label that says which key an image was built for.
    pub const LABEL: &str = "io.smartbuild.key";
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text was not a key of a schema that we know.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a key: expected sb1- and 64 lower-case hexadecimal digits")]
pub struct InvalidKey(String);

impl FromStr for Key {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidKey(text.chars().take(80).collect());
        let digits = text.strip_prefix(PREFIX).ok_or_else(invalid)?;
        if digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(invalid());
        }
        let mut value = [0; 32];
        hex::decode_to_slice(digits, &mut value).map_err(|_| invalid())?;
        Ok(Self(value))
    }
}

impl<'de> serde::Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl serde::Serialize for Key {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
