//! The ids that Alibaba Cloud gives to regions and to registry instances.
//!
//! Both come from outside: from host names, files, variables, and from what a registry says of
//! itself. A region becomes a part of the addresses that signed requests go to, so nothing but an id
//! may pass for one. Pure.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use thiserror::Error;

/// Where a region can be, in the first word of its id ("Regions and zones", help.aliyun.com). All
/// other first words belong to products, some of which give names beside the registry's to their
/// users: `registry.oss-cn-hangzhou.aliyuncs.com` is somebody's bucket.
const GEOGRAPHIES: [&str; 8] = ["cn", "ap", "us", "eu", "me", "na", "sa", "af"];

/// Words that follow a region in the names of a product's other networks, and are in no region's id.
const NETWORKS: [&str; 5] = ["internal", "vpc", "intl", "accelerate", "overseas"];

/// The id of a region, such as `cn-hangzhou` or `cn-north-2-gov-1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Region(String);

/// A text that is no region's id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not the id of a region, such as cn-hangzhou or ap-southeast-1")]
pub struct RegionError(String);

impl Region {
    /// Reads an id: a geography, a place, and perhaps more words.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, RegionError> {
        let wrong = || RegionError(text.chars().filter(|c| !c.is_control()).take(60).collect());
        if is_region(text) { Ok(Self(text.to_owned())) } else { Err(wrong()) }
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Region {
    type Err = RegionError;

    fn from_str(text: &str) -> Result<Self, RegionError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Region {
    type Error = RegionError;

    fn try_from(text: String) -> Result<Self, RegionError> {
        Self::parse(&text)
    }
}

fn is_region(text: &str) -> bool {
    let mut words = text.split('-');
    let geography = words.next().is_some_and(|word| GEOGRAPHIES.contains(&word));
    let place = words.next().is_some_and(|word| {
        word.len() >= 3 && word.bytes().all(|b| b.is_ascii_lowercase()) && !NETWORKS.contains(&word)
    });
    let is_word = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            && !NETWORKS.contains(&word)
    };
    text.len() <= 40 && geography && place && words.all(is_word)
}

/// Whether a text is the id of an enterprise instance: `cri-` and letters and digits.
#[must_use]
pub fn is_instance_id(text: &str) -> bool {
    text.strip_prefix("cri-").is_some_and(|id| {
        (1..=60).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn regions_of_every_form_are_read() {
        for text in [
            "cn-hangzhou",
            "cn-hongkong",
            "cn-wuhan-lr",
            "ap-southeast-1",
            "eu-central-1",
            "us-west-1",
            "me-central-1",
            "na-south-1",
            "cn-hangzhou-finance",
            "cn-shanghai-finance-1",
            "cn-north-2-gov-1",
            "cn-heyuan-acdr-1",
        ] {
            assert_eq!(Region::parse(text).map(|region| region.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_becomes_another_address_is_no_region() {
        for text in [
            "",
            "cn",
            "cn-",
            "hangzhou",
            "oss-cn-hangzhou",
            "oss-accelerate",
            "oss-cn-hangzhou-internal",
            "cn-hangzhou-internal",
            "cn-accelerate",
            "log-cn-hangzhou",
            "s3-cn-hangzhou",
            "cn-hangzhou.evil",
            "attacker.example/x",
            "cn-hangzhou/x",
            "cn-hangzhou:1",
            "cn-hangzhou@x",
            "CN-hangzhou",
            "cn-hangzhou\n",
            "cn--hangzhou",
        ] {
            assert!(Region::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_instance_is_cri_and_an_id() {
        assert!(is_instance_id("cri-0123456789abcdef"));
        for text in ["", "cri-", "cri-A", "cri-a b", "cri-a/b", "crpi-a", "cri-a&x=y", "xcri-a"] {
            assert!(!is_instance_id(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_region_is_one_label_of_a_name_and_begins_with_a_geography(text in "[a-z0-9./:@-]{0,20}") {
            if let Ok(region) = Region::parse(&text) {
                prop_assert!(region.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
                let first = text.split('-').next().unwrap_or_default();
                prop_assert!(GEOGRAPHIES.contains(&first));
            }
        }
    }
}
