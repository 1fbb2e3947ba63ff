//! Which image of an index is for a platform.
//!
//! Knows what runs on what (containerd `platforms/compare.go`); must not know how an index is written.

use super::{Descriptor, Index};
use crate::platform::Platform;

impl Index {
    /// The platforms that have an image, in the order of the index.
    #[must_use]
    pub fn platforms(&self) -> Vec<Platform> {
        self.images().map(|(platform, _)| platform).collect()
    }

    /// The image to run on `platform`: the one of exactly this platform, else the newest variant
    /// of its architecture that it can run too (`arm/v6` on `arm/v7`, `amd64` on `amd64/v3`).
    #[must_use]
    pub fn image_for(&self, platform: &Platform) -> Option<&Descriptor> {
        self.images()
            .filter_map(|(candidate, image)| Some((suits(&candidate, platform)?, image)))
            // The first of equals, as engines choose.
            .reduce(|best, next| if next.0 > best.0 { next } else { best })
            .map(|(_, image)| image)
    }

    /// The platform whose image an engine starts from where it builds for `platform`: that one, unless
    /// only the 32-bit architecture of the same processors has an image (containerd
    /// `platforms/compare.go`: `platformVector`).
    #[must_use]
    pub fn base_platform(&self, platform: &Platform) -> Platform {
        let smaller = match platform.architecture.as_str() {
            "amd64" => Some(("386", None)),
            "arm64" => Some(("arm", Some("v8"))),
            _ => None,
        };
        smaller
            .filter(|_| self.image_for(platform).is_none())
            .map(|(architecture, variant)| Platform::normal(&platform.os, architecture, variant))
            .filter(|smaller| self.image_for(smaller).is_some())
            .unwrap_or_else(|| platform.clone())
    }

    fn images(&self) -> impl Iterator<Item = (Platform, &Descriptor)> {
        self.manifests.iter().filter_map(|descriptor| {
            let platform = descriptor.platform.as_ref()?.normal();
            (platform.os != "unknown").then_some((platform, descriptor))
        })
    }
}

/// How well an image of `candidate` suits `wanted`: its variant's number; `None` if it cannot run.
fn suits(candidate: &Platform, wanted: &Platform) -> Option<u32> {
    if (&candidate.os, &candidate.architecture) != (&wanted.os, &wanted.architecture) {
        return None;
    }
    let number = |platform: &Platform| match (&platform.variant, platform.architecture.as_str()) {
        (Some(variant), _) => variant.strip_prefix('v').and_then(|n| n.parse::<u32>().ok()),
        (None, "arm64") => Some(8),
        (None, _) => Some(1),
    };
    if candidate.variant == wanted.variant {
        return Some(u32::MAX);
    }
    number(candidate).filter(|candidate| number(wanted).is_some_and(|wanted| *candidate <= wanted))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::registry::{DescriptorPlatform, Digest, media_type};

    fn index_of(platforms: &[&str]) -> Index {
        let manifests = platforms
            .iter()
            .map(|text| {
                let mut parts = text.split('/');
                let mut next = || parts.next().map(str::to_owned);
                let mut image = Descriptor::of(media_type::OCI_MANIFEST, text.as_bytes());
                image.platform = Some(DescriptorPlatform {
                    os: next().unwrap(),
                    architecture: next().unwrap(),
                    variant: next(),
                    os_version: None,
                });
                image
            })
            .collect();
        Index { schema_version: 2, media_type: None, manifests, annotations: BTreeMap::new() }
    }

    #[test]
    fn the_image_for_a_platform_is_exact_or_an_older_variant() {
        let index = index_of(&[
            "unknown/unknown",
            "linux/arm/v5",
            "linux/arm/v6",
            "linux/amd64",
            "linux/arm64/v8",
        ]);
        for (wanted, chosen) in [
            ("linux/amd64", Some("linux/amd64")),
            ("linux/amd64/v3", Some("linux/amd64")),
            ("linux/arm/v7", Some("linux/arm/v6")),
            ("linux/arm/v6", Some("linux/arm/v6")),
            ("linux/arm64", Some("linux/arm64/v8")),
            ("linux/s390x", None),
            ("windows/amd64", None),
        ] {
            let image = index.image_for(&wanted.parse().unwrap()).map(|image| &image.digest);
            let expected = chosen.map(|text| Digest::of(text.as_bytes()));
            assert_eq!(image, expected.as_ref(), "{wanted}");
        }
        assert_eq!(index.platforms().len(), 4, "attestations are no platform");
        let newer = index_of(&["linux/amd64/v3"]);
        assert_eq!(newer.image_for(&"linux/amd64".parse().unwrap()), None);
    }

    #[test]
    fn a_base_may_be_of_the_32_bit_architecture() {
        let index = index_of(&["linux/386", "linux/arm/v6", "linux/arm/v7"]);
        for (wanted, chosen) in [
            ("linux/amd64", Some("linux/386")),
            ("linux/amd64/v3", Some("linux/386")),
            ("linux/arm64", Some("linux/arm/v7")),
            ("linux/arm/v6", Some("linux/arm/v6")),
            ("linux/riscv64", None),
            ("windows/amd64", None),
        ] {
            let base = index.base_platform(&wanted.parse().unwrap());
            let image = index.image_for(&base).map(|image| &image.digest);
            let expected = chosen.map(|text| Digest::of(text.as_bytes()));
            assert_eq!(image, expected.as_ref(), "{wanted}");
        }
        // Whatever else is there, an image of the very architecture comes first.
        let index = index_of(&["linux/386", "linux/amd64"]);
        let wanted = "linux/amd64/v2".parse().unwrap();
        assert_eq!(index.base_platform(&wanted), wanted);
    }
}
