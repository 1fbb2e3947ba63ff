//! Manifests: the bytes that came, and typed views of them.
//!
//! Knows the OCI image specification 1.1 (`manifest.md`, `image-index.md`, `config.md`) and
//! Docker's image manifest version 2, schema 2; must not know how they travel. A manifest is never
//! written anew from its view: that would change its digest.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};

use super::digest::Digest;
use crate::platform::Platform;

/// Media types, as registries and engines spell them.
pub mod media_type {
    /// An image manifest of the OCI.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An index of the OCI.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An image manifest of Docker, version 2, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// A manifest list of Docker.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// The configuration of an OCI image.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// The configuration of a Docker image.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// A compressed layer of a Docker image.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Content that is only there to be there: `{}` (`manifest.md`, "Guidance for an Empty
    /// Descriptor").
    pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
    /// What we ask for.
    pub(crate) const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
         application/vnd.docker.distribution.manifest.list.v2+json, \
         application/vnd.oci.image.manifest.v1+json, \
         application/vnd.docker.distribution.manifest.v2+json";
}

/// Content somewhere in a registry: its type, digest and size in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub media_type: String,
    /// The content's digest.
    pub digest: Digest,
    /// The content's length in bytes.
    pub size: u64,
    /// What the content runs on, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<DescriptorPlatform>,
    /// Where else the content is: set on "foreign" layers, which are in no registry.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Notes of whoever wrote the descriptor.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// What an artifact is, when the descriptor is of its manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// The descriptor of `content` as `media_type`.
    #[must_use]
    pub fn of(media_type: &str, content: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: Digest::of(content),
            size: content.len() as u64,
            platform: None,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            artifact_type: None,
        }
    }

    /// Whether registries do not hold this content (Windows base layers).
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        !self.urls.is_empty()
            || self.media_type.contains("foreign")
            || self.media_type.contains("nondistributable")
    }
}

/// A platform as an index writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescriptorPlatform {
    /// `amd64`; empty where an index does not say.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub architecture: String,
    /// `linux`; empty where an index does not say.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub os: String,
    /// Version of Windows.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// `v7` of `arm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl DescriptorPlatform {
    /// The platform in normal form.
    #[must_use]
    pub fn normal(&self) -> Platform {
        Platform::normal(&self.os, &self.architecture, self.variant.as_deref())
    }
}

impl From<&Platform> for DescriptorPlatform {
    /// The platform as engines write it into an index: with the `v8` that `arm64` implies left out.
    fn from(platform: &Platform) -> Self {
        Self {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            os_version: None,
            variant: platform.variant.clone(),
        }
    }
}

/// An image of one platform: its configuration and its layers. An artifact looks the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// Always 2.
    pub schema_version: u8,
    /// The manifest's own type; OCI tools may leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What an artifact is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, lowest first. Go writes `null` where there are none, as containerd's store pushes
    /// an image of nothing but labels.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub layers: Vec<Descriptor>,
    /// Notes.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

/// Go writes `null` for what is empty.
fn null_is_empty<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Images of several platforms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u8,
    /// The index's own type; OCI tools may leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The images, and what belongs to them (attestations have the platform `unknown/unknown`).
    #[serde(deserialize_with = "null_is_empty")]
    pub manifests: Vec<Descriptor>,
    /// Notes.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// What is said about an image: where it came from, what is in it (buildkit
    /// `docs/attestations/attestation-storage.md`).
    pub(super) fn attestations_of(
        &self,
        image: &Digest,
    ) -> impl Iterator<Item = &Descriptor> + use<'_> {
        let image = image.to_string();
        self.manifests.iter().filter(move |descriptor| {
            descriptor.annotations.get("vnd.docker.reference.digest") == Some(&image)
        })
    }
}

/// What a manifest describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// One image, or an artifact.
    Image(Box<ImageManifest>),
    /// Several images.
    Index(Index),
}

/// A manifest as its registry holds it.
#[derive(Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What it is.
    pub media_type: String,
    /// The bytes that came, which the digest is of.
    pub bytes: Bytes,
    /// The digest of the bytes.
    pub digest: Digest,
    view: View,
}

impl std::fmt::Debug for Manifest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Manifest({} {})", self.media_type, self.digest)
    }
}

/// The bytes were no manifest that we understand.
#[derive(Debug, thiserror::Error)]
pub enum InvalidManifest {
    /// Not JSON, or not of the form that its type promises.
    #[error("it is not a manifest: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Of a type that we do not read.
    #[error("it is of the type `{0}`, which is neither an image nor an index of OCI or Docker")]
    Unknown(String),
    /// Docker's first schema, which registries and engines have dropped.
    #[error("it is of Docker's schema 1, which engines no longer read: push the image again")]
    SchemaOne,
    /// It says two things about what it is (CVE-2021-41190).
    #[error("it says two different things about what it is, `{0}` and `{1}`")]
    Ambiguous(String, String),
    /// An index of an index of an index.
    #[error("its indexes name indexes without end")]
    TooDeep,
    /// An index that was to have an image for this platform.
    #[error("it has no image for {0}")]
    NoImage(Platform),
    /// An index that was to have two images for one platform.
    #[error("there are two images for {0}")]
    PlatformTwice(Platform),
    /// It was to be a record of ours.
    #[error("it is not a record of inputs: {0}")]
    NoRecord(String),
}

impl Manifest {
    /// Reads `bytes` that came as `content_type` (empty if the server did not say).
    ///
    /// # Errors
    /// When they are no image and no index, or could be read as both.
    pub fn parse(content_type: &str, bytes: Bytes) -> Result<Self, InvalidManifest> {
        let digest = Digest::of(&bytes);
        Self::with_digest(content_type, bytes, digest)
    }

    pub(super) fn with_digest(
        content_type: &str,
        bytes: Bytes,
        digest: Digest,
    ) -> Result<Self, InvalidManifest> {
        /// Just enough to see what it is.
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape<'a> {
            schema_version: u8,
            media_type: Option<String>,
            #[serde(borrow)]
            config: Option<&'a serde_json::value::RawValue>,
            #[serde(borrow)]
            layers: Option<&'a serde_json::value::RawValue>,
            #[serde(borrow)]
            manifests: Option<&'a serde_json::value::RawValue>,
        }
        let shape: Shape<'_> = serde_json::from_slice(&bytes)?;
        let content_type = content_type.split(';').next().unwrap_or_default().trim();
        let said = Some(content_type).filter(|said| is_manifest_type(said));
        if shape.schema_version == 1 {
            return Err(InvalidManifest::SchemaOne);
        }
        let is_index = shape.manifests.is_some();
        let media_type = match (said, shape.media_type) {
            (Some(said), Some(inside)) if said != inside => {
                return Err(InvalidManifest::Ambiguous(said.to_owned(), inside));
            }
            (_, Some(inside)) => inside,
            (Some(said), None) => said.to_owned(),
            (None, None) if is_index => media_type::OCI_INDEX.to_owned(),
            (None, None) => media_type::OCI_MANIFEST.to_owned(),
        };
        if is_index && (shape.config.is_some() || shape.layers.is_some()) {
            let (one, other) = (media_type::OCI_INDEX, media_type::OCI_MANIFEST);
            return Err(InvalidManifest::Ambiguous(one.to_owned(), other.to_owned()));
        }
        let view = match media_type.as_str() {
            media_type::OCI_INDEX | media_type::DOCKER_LIST => {
                View::Index(serde_json::from_slice(&bytes)?)
            }
            media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST => {
                View::Image(serde_json::from_slice(&bytes)?)
            }
            other => return Err(InvalidManifest::Unknown(other.chars().take(120).collect())),
        };
        Ok(Self { media_type, bytes, digest, view })
    }

    /// What it describes.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The index, if it is one.
    #[must_use]
    pub fn index(&self) -> Option<&Index> {
        match &self.view {
            View::Index(index) => Some(index),
            View::Image(_) => None,
        }
    }

    /// The image of one platform, if it is one.
    #[must_use]
    pub fn image(&self) -> Option<&ImageManifest> {
        match &self.view {
            View::Image(image) => Some(image),
            View::Index(_) => None,
        }
    }

    /// The manifest's notes.
    #[must_use]
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        match &self.view {
            View::Image(image) => &image.annotations,
            View::Index(index) => &index.annotations,
        }
    }

    /// A descriptor of this manifest, to put in an index.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        let mut descriptor = Descriptor::of(&self.media_type, &[]);
        descriptor.digest = self.digest.clone();
        descriptor.size = self.bytes.len() as u64;
        descriptor
    }
}

fn is_manifest_type(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.")
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_manifest_keeps_the_bytes_that_came() {
        let text = format!(
            "{{ \"schemaVersion\": 2,\n\"config\":{{\"mediaType\":\"x\",\"digest\":\"{D}\",\"size\":3}},\"layers\":[]}}"
        );
        let bytes = Bytes::from(text);
        let manifest = Manifest::parse(
            "application/vnd.oci.image.manifest.v1+json; charset=utf-8",
            bytes.clone(),
        )
        .unwrap();
        assert_eq!(manifest.bytes, bytes);
        assert_eq!(manifest.digest, Digest::of(&bytes));
        assert_eq!(manifest.image().unwrap().config.size, 3);
    }

    #[test]
    fn an_image_without_layers_may_say_null() {
        let text =
            format!(r#"{{"schemaVersion":2,"config":{{"digest":"{D}","size":1}},"layers":null}}"#);
        let manifest = Manifest::parse(media_type::OCI_MANIFEST, Bytes::from(text)).unwrap();
        assert_eq!(manifest.image().unwrap().layers, []);
    }

    #[test]
    fn an_index_may_say_null_and_half_a_platform() {
        let text = format!(
            r#"{{"schemaVersion":2,"annotations":null,"manifests":[{{"mediaType":null,"digest":"{D}","size":1,
                "urls":null,"annotations":null,"platform":{{"os":"linux"}}}}]}}"#
        );
        let manifest = Manifest::parse(media_type::OCI_INDEX, Bytes::from(text)).unwrap();
        assert_eq!(manifest.index().unwrap().manifests.len(), 1);
    }

    #[test]
    fn what_can_be_read_two_ways_is_refused() {
        let both = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{D}","size":1}},"layers":[],"manifests":[]}}"#
        );
        let parse = |kind: &str, text: &str| {
            Manifest::parse(kind, Bytes::copy_from_slice(text.as_bytes())).unwrap_err().to_string()
        };
        assert!(parse(media_type::OCI_MANIFEST, &both).contains("two different things"));
        let list = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#,
            media_type::DOCKER_LIST
        );
        assert!(parse(media_type::OCI_INDEX, &list).contains("two different things"));
        assert!(parse("", r#"{"schemaVersion":1}"#).contains("schema 1"));
        assert!(parse("", "<html>").contains("not a manifest"));
        assert!(parse("application/vnd.cncf.x", r#"{"schemaVersion":2}"#).contains("vnd.cncf.x"));
    }
}
