//! Records: what an image was made from, stored beside it.
//!
//! A record is found from the key's tag: `sb1-<hex>.inputs` in the repository that has
//! `sb1-<hex>`. It is an OCI artifact with one layer, the compressed inputs. A registry that takes
//! only Docker's schema 2 gets the same as a plain image of one layer that holds one file, with
//! the annotations as labels. What the inputs say is the caller's business.

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
};

use bytes::Bytes;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use futures_util::future::try_join;
use serde_json::json;

use super::{
    client::Client,
    digest::Digest,
    error::Error,
    manifest::{Descriptor, InvalidManifest, Manifest, media_type},
    reference::{Reference, Repository, Tag},
};

/// What the tag of a record has that the tag of its image has not.
pub const RECORD_SUFFIX: &str = ".inputs";
/// What the artifact is.
const ARTIFACT: &str = "application/vnd.smartbuild.inputs.v1";
/// What its layer is.
const LAYER: &str = "application/vnd.smartbuild.inputs.v1+gzip";
/// The digest of the inputs as they are stored, whatever wraps them.
const INPUTS: &str = "io.smartbuild.inputs";
/// The digest of the manifest that the record is of.
const IMAGE: &str = "io.smartbuild.image";
/// When the record was made; the name is the image specification's.
const CREATED: &str = "org.opencontainers.image.created";
/// The one file of a record that is a plain image.
const FILE: &str = "inputs";
/// Compressed inputs are never larger: a hundred thousand files have some 5 MiB.
const LARGEST: u64 = 64 << 20;

/// A record as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The manifest that was made from these inputs.
    pub image: Digest,
    /// When, as RFC 3339 writes it.
    pub created: String,
    /// Further notes, kept as annotations or labels: a signature, say.
    pub notes: BTreeMap<String, String>,
    /// The inputs, compressed by whoever wrote them.
    pub inputs: Bytes,
}

/// A record without the inputs themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// The manifest that was made from the inputs.
    pub image: Digest,
    /// The digest of the inputs as they are stored.
    pub inputs: Digest,
    /// When, as RFC 3339 writes it.
    pub created: String,
    /// Further notes.
    pub notes: BTreeMap<String, String>,
}

impl Record {
    /// The record without the inputs themselves.
    #[must_use]
    pub fn head(&self) -> RecordHead {
        RecordHead {
            image: self.image.clone(),
            inputs: Digest::of(&self.inputs),
            created: self.created.clone(),
            notes: self.notes.clone(),
        }
    }
}

impl RecordHead {
    /// Reads the annotations or labels of a record.
    fn read(mut notes: BTreeMap<String, String>) -> Result<Self, InvalidManifest> {
        let mut digest = |name: &str| {
            let digest = notes.remove(name).and_then(|digest| digest.parse().ok());
            digest.ok_or_else(|| InvalidManifest::NoRecord(format!("it does not say `{name}`")))
        };
        let (image, inputs) = (digest(IMAGE)?, digest(INPUTS)?);
        let created = notes.remove(CREATED).unwrap_or_default();
        Ok(Self { image, inputs, created, notes })
    }

    /// The annotations or labels of a record.
    fn write(&self) -> BTreeMap<String, String> {
        let own = [
            (IMAGE, self.image.to_string()),
            (INPUTS, self.inputs.to_string()),
            (CREATED, self.created.clone()),
        ];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        self.notes.clone().into_iter().chain(own).collect()
    }
}

/// A record's manifest, understood.
struct Found {
    reference: Reference,
    head: RecordHead,
    layer: Descriptor,
    /// Whether the layer is a plain image's.
    plain: bool,
}

/// The tag of the record that belongs to a key's tag; `None` where a tag is too long for it.
#[must_use]
pub fn record_tag(key: &Tag) -> Option<Tag> {
    format!("{key}{RECORD_SUFFIX}").parse().ok()
}

impl Client {
    /// Stores the record of `key` in a repository.
    ///
    /// # Errors
    /// When the registry cannot be reached, or takes neither form.
    pub async fn put_record(
        &self,
        repository: &Repository,
        key: &Tag,
        record: &Record,
    ) -> Result<Digest, Error> {
        let tag = record_tag(key).unwrap_or_else(|| key.clone());
        let artifact = artifact(record);
        match self.put_form(repository, &tag, artifact).await {
            Err(Error::Refused { .. } | Error::NotFound { .. }) => {
                let image = image(record)
                    .map_err(|source| Error::Source { repository: repository.clone(), source })?;
                self.put_form(repository, &tag, image).await
            }
            other => other,
        }
    }

    /// The record of `key`; `None` when there is none.
    ///
    /// # Errors
    /// When the registry cannot be asked, or what is there is no record.
    pub async fn record(
        &self,
        repository: &Repository,
        key: &Tag,
    ) -> Result<Option<Record>, Error> {
        let Some(found) = self.find_record(repository, key).await? else { return Ok(None) };
        let Found { reference, head, layer, plain } = found;
        let invalid = |what: String| Error::manifest(&reference, InvalidManifest::NoRecord(what));
        let content = self.blob(repository, &layer, LARGEST).await?;
        let inputs = if plain {
            unpack(&content).map_err(|error| invalid(error.to_string()))?
        } else {
            content
        };
        if !head.inputs.matches(&inputs) {
            return Err(invalid("its inputs are not those that it names".to_owned()));
        }
        let RecordHead { image, created, notes, .. } = head;
        Ok(Some(Record { image, created, notes, inputs }))
    }

    /// What the record of `key` says about itself, for one request (two where it is a plain
    /// image); `None` when there is none.
    ///
    /// # Errors
    /// When the registry cannot be asked, or what is there is no record.
    pub async fn record_head(
        &self,
        repository: &Repository,
        key: &Tag,
    ) -> Result<Option<RecordHead>, Error> {
        Ok(self.find_record(repository, key).await?.map(|found| found.head))
    }

    async fn find_record(
        &self,
        repository: &Repository,
        key: &Tag,
    ) -> Result<Option<Found>, Error> {
        let Some(tag) = record_tag(key) else { return Ok(None) };
        let reference = repository.tagged(tag);
        let Some(manifest) = self.manifest(&reference).await? else { return Ok(None) };
        let invalid =
            |what: &str| Error::manifest(&reference, InvalidManifest::NoRecord(what.to_owned()));
        let image = manifest.image().ok_or_else(|| invalid("it is an index"))?;
        let [layer] = image.layers.as_slice() else { return Err(invalid("it has not one layer")) };
        let plain = manifest.media_type == media_type::DOCKER_MANIFEST;
        let notes = if plain {
            let platform = crate::platform::Platform::host();
            self.image_config(repository, &manifest, &platform).await?.labels
        } else if layer.media_type == LAYER {
            image.annotations.clone()
        } else {
            return Err(invalid("it is of another kind"));
        };
        let head = RecordHead::read(notes).map_err(|error| Error::manifest(&reference, error))?;
        Ok(Some(Found { head, layer: layer.clone(), plain, reference }))
    }

    async fn put_form(
        &self,
        repository: &Repository,
        tag: &Tag,
        form: Form,
    ) -> Result<Digest, Error> {
        let config = self.upload_blob(repository, form.config_type, form.config);
        let layer = self.upload_blob(repository, form.layer_type, form.layer);
        let (config, layer) = try_join(config, layer).await?;
        let manifest =
            manifest(form.manifest_type, &config, &layer, form.notes).map_err(|error| {
                Error::Source { repository: repository.clone(), source: error.into() }
            })?;
        let manifest = Manifest::parse(form.manifest_type, manifest.into())
            .map_err(|source| Error::manifest(&repository.tagged(tag.clone()), source))?;
        self.put_manifest(repository, &tag.clone().into(), &manifest).await
    }
}

/// One of the two forms that a record can have.
struct Form {
    manifest_type: &'static str,
    config_type: &'static str,
    config: Bytes,
    layer_type: &'static str,
    layer: Bytes,
    /// Annotations; a plain image has labels instead.
    notes: Option<BTreeMap<String, String>>,
}

fn artifact(record: &Record) -> Form {
    Form {
        manifest_type: media_type::OCI_MANIFEST,
        config_type: media_type::OCI_EMPTY,
        config: Bytes::from_static(b"{}"),
        layer_type: LAYER,
        layer: record.inputs.clone(),
        notes: Some(record.head().write()),
    }
}

fn image(record: &Record) -> io::Result<Form> {
    let (layer, unpacked) = pack(&record.inputs)?;
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "created": record.created,
        "config": {"Labels": record.head().write()},
        "rootfs": {"type": "layers", "diff_ids": [unpacked]},
        "history": [{"created": record.created, "created_by": "smartbuild"}],
    });
    Ok(Form {
        manifest_type: media_type::DOCKER_MANIFEST,
        config_type: media_type::DOCKER_CONFIG,
        config: Bytes::from(config.to_string()),
        layer_type: media_type::DOCKER_LAYER,
        layer,
        notes: None,
    })
}

fn manifest(
    manifest_type: &str,
    config: &Descriptor,
    layer: &Descriptor,
    notes: Option<BTreeMap<String, String>>,
) -> serde_json::Result<Vec<u8>> {
    let mut document = json!({"schemaVersion": 2, "mediaType": manifest_type});
    if notes.is_some() {
        document["artifactType"] = json!(ARTIFACT);
    }
    document["config"] = serde_json::to_value(config)?;
    document["layers"] = json!([layer]);
    if let Some(notes) = notes {
        document["annotations"] = serde_json::to_value(notes)?;
    }
    serde_json::to_vec(&document)
}

/// A layer of one file, and the digest of it unpacked.
fn pack(inputs: &[u8]) -> io::Result<(Bytes, Digest)> {
    let mut header = tar::Header::new_gnu();
    header.set_size(inputs.len() as u64);
    header.set_mode(0o644);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, FILE, inputs)?;
    let archive = archive.into_inner()?;
    let digest = Digest::of(&archive);
    // The inputs are compressed already.
    let mut layer = GzEncoder::new(Vec::new(), Compression::none());
    io::Write::write_all(&mut layer, &archive)?;
    Ok((layer.finish()?.into(), digest))
}

fn unpack(layer: &[u8]) -> io::Result<Bytes> {
    let mut archive = tar::Archive::new(GzDecoder::new(layer).take(LARGEST + (1 << 20)));
    let mut entries = archive.entries()?;
    let entry = entries.next().ok_or_else(|| io::Error::other("its layer is empty"))??;
    let mut inputs = Vec::new();
    entry.take(LARGEST).read_to_end(&mut inputs)?;
    Ok(inputs.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_layer_reads_back() {
        let (layer, _) = pack(b"inputs").unwrap();
        assert_eq!(unpack(&layer).unwrap(), b"inputs".as_slice());
        assert!(unpack(b"").is_err() && unpack(b"\x1f\x8bnonsense").is_err());
    }

    #[test]
    fn a_record_has_the_tag_of_its_key_and_a_suffix() {
        let key: Tag = format!("sb1-{}", "0".repeat(64)).parse().unwrap();
        assert_eq!(record_tag(&key).unwrap().as_str(), format!("{key}.inputs"));
    }
}
