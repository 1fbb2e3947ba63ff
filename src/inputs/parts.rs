//! What an image of several platforms is made of: the images of each, by their keys.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Key, encode};
use crate::platform::Platform;

/// The keys of the images that an index is made of.
///
/// An index has nothing in it that they have not: so its key is the digest of theirs, and an image
/// that was built for one platform alone is as good as one that was built for the index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// The key of the image of each platform.
    pub parts: BTreeMap<Platform, Key>,
}

impl Parts {
    /// The key of them all; that of the image itself where there is only one.
    #[must_use]
    pub fn key(&self) -> Key {
        match self.parts.values().next() {
            Some(only) if self.parts.len() == 1 => *only,
            _ => encode::key_of_parts(self),
        }
    }
}

impl FromIterator<(Platform, Key)> for Parts {
    fn from_iter<I: IntoIterator<Item = (Platform, Key)>>(parts: I) -> Self {
        Self { parts: parts.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::Inputs;

    fn parts(platforms: &[&str]) -> Parts {
        let inputs = |platform: &str| Inputs {
            platforms: vec![platform.parse().unwrap()],
            ..Inputs::default()
        };
        platforms.iter().map(|name| (name.parse().unwrap(), inputs(name).key())).collect()
    }

    #[test]
    fn golden_key() {
        assert_eq!(
            parts(&["linux/amd64", "linux/arm64"]).key().to_string(),
            "sb1-e54ea5ba8e7a36b5ea9890d8f79544ee4f2e7656f72c75141d651d8f6dce2c86"
        );
    }

    #[test]
    fn one_platform_is_the_image_itself_and_order_is_nothing() {
        let one = parts(&["linux/arm64"]);
        assert_eq!(Some(&one.key()), one.parts.values().next());
        let both = parts(&["linux/arm64", "linux/amd64"]);
        assert_eq!(both.key(), parts(&["linux/amd64", "linux/arm64"]).key());
        assert_ne!(both.key(), parts(&["linux/amd64", "linux/arm/v7"]).key());
    }

    #[test]
    fn it_reads_back_from_json() {
        let both = parts(&["linux/arm64", "linux/arm/v7"]);
        let json = serde_json::to_string(&both).unwrap();
        assert!(json.starts_with(r#"{"parts":{"linux/arm/v7":"sb1-"#), "{json}");
        assert_eq!(serde_json::from_str::<Parts>(&json).unwrap(), both);
    }
}
