//! Platforms: operating system, architecture and variant, as `linux/arm64/v8` writes them.
//!
//! Knows the names and their normal forms (containerd `platforms/database.go`); must not know who
//! asks for one.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What an image runs on.
///
/// Always in normal form: `x86_64` reads as `amd64`, `aarch64` as `arm64`, and the variants that
/// are the default of their architecture (`arm64/v8`, `amd64/v1`) are left out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    /// Operating system: `linux`, `windows`.
    pub os: String,
    /// Architecture as Go names it: `amd64`, `arm64`.
    pub architecture: String,
    /// Variant of the architecture: `v7` of `arm`.
    pub variant: Option<String>,
}

impl Platform {
    /// The platform that images are built for here when nobody says otherwise: Linux on the
    /// architecture of this machine, which is what an engine on it builds for.
    #[must_use]
    pub fn host() -> Self {
        Self::normal("linux", std::env::consts::ARCH, None)
    }

    /// A platform from its parts, in normal form.
    #[must_use]
    pub fn normal(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let variant = variant.unwrap_or_default().to_ascii_lowercase();
        let (architecture, variant) =
            match (architecture.to_ascii_lowercase().as_str(), variant.as_str()) {
                ("i386" | "i686" | "x86", _) => ("386".to_owned(), String::new()),
                ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64".to_owned(), String::new()),
                ("x86_64" | "x86-64" | "amd64", v) => ("amd64".to_owned(), v.to_owned()),
                ("aarch64" | "arm64", "8" | "v8") => ("arm64".to_owned(), String::new()),
                ("aarch64" | "arm64", v) => ("arm64".to_owned(), v.to_owned()),
                ("armhf", _) => ("arm".to_owned(), "v7".to_owned()),
                ("armel", _) => ("arm".to_owned(), "v6".to_owned()),
                ("arm", "" | "7") => ("arm".to_owned(), "v7".to_owned()),
                ("arm", v @ ("5" | "6" | "8")) => ("arm".to_owned(), format!("v{v}")),
                (other, v) => (other.to_owned(), v.to_owned()),
            };
        Self { os, architecture, variant: (!variant.is_empty()).then_some(variant) }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if let Some(variant) = &self.variant {
            write!(f, "/{variant}")?;
        }
        Ok(())
    }
}

impl Platform {
    /// How it is written in a tag, which cannot have slashes: `linux-arm64`.
    #[must_use]
    pub fn in_a_tag(&self) -> String {
        self.to_string().replace('/', "-")
    }
}

/// The text was not `os/architecture[/variant]`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a platform: write os/architecture[/variant], for example linux/arm64")]
pub struct InvalidPlatform(String);

impl FromStr for Platform {
    type Err = InvalidPlatform;

    /// Reads `os/architecture[/variant]`; a single word is an architecture for Linux, or an
    /// operating system for this machine's architecture.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidPlatform(text.to_owned());
        let parts: Vec<&str> = text.split('/').collect();
        let word = |part: &&str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        if !parts.iter().all(word) {
            return Err(invalid());
        }
        match parts[..] {
            [os @ ("linux" | "windows" | "darwin" | "freebsd")] => {
                Ok(Self::normal(os, std::env::consts::ARCH, None))
            }
            [architecture] => Ok(Self::normal("linux", architecture, None)),
            [os, architecture] => Ok(Self::normal(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::normal(os, architecture, Some(variant))),
            _ => Err(invalid()),
        }
    }
}

impl Serialize for Platform {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Platform {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_platform_are_one_platform() {
        for text in ["linux/amd64", "linux/x86_64", "Linux/AMD64", "amd64", "linux/amd64/v1"] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), "linux/amd64", "{text}");
        }
        for text in ["linux/arm64", "linux/aarch64", "linux/arm64/v8", "arm64/v8x"] {
            let parsed = text.parse::<Platform>();
            if text == "arm64/v8x" {
                assert_eq!(parsed.unwrap().os, "arm64");
            } else {
                assert_eq!(parsed.unwrap().to_string(), "linux/arm64", "{text}");
            }
        }
        assert_eq!("linux/arm".parse::<Platform>().unwrap().to_string(), "linux/arm/v7");
        assert_eq!("linux/i386".parse::<Platform>().unwrap().to_string(), "linux/386");
        // Nobody has such a variant; engines keep what they are told, and builds see it.
        assert_eq!("linux/386/v1".parse::<Platform>().unwrap().to_string(), "linux/386/v1");
    }

    #[test]
    fn what_is_no_platform_is_refused_with_the_text() {
        for text in ["", "/", "linux/", "linux//v7", "a/b/c/d", "linux/amd64 "] {
            let error = text.parse::<Platform>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }
}
