//! Records: the inputs of an image, kept in the registry beside it, so that any machine can say what
//! changed since.

use std::io::{Read, Write};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};

use serde::Serialize;

use crate::{
    inputs::{Inputs, Key},
    platform::Platform,
    registry::{Client, Digest, Error, Record, Reference, Repository, SigningKey, Tag},
};

/// Inputs of a million files are not larger than this; what is, is not unpacked to the end.
const LARGEST: u64 = 512 << 20;

/// The tag of a key.
pub(super) fn key_tag(key: Key) -> Tag {
    key.to_string().parse().expect("a key is a tag")
}

/// Stores the record of an image: its inputs or, of an index, the keys of its parts.
///
/// # Errors
/// When the registry cannot be asked or takes no records.
pub(super) async fn put(
    client: &Client,
    home: &Repository,
    key: Key,
    image: &Digest,
    inputs: &impl Serialize,
    sign: Option<&SigningKey>,
) -> Result<(), Error> {
    let tag = key_tag(key);
    let record = Record {
        image: image.clone(),
        created: jiff::Timestamp::now().to_string(),
        notes: [].into(),
        inputs: compress(inputs).into(),
    };
    let record = match sign {
        Some(sign) => sign.sign(&tag, record),
        None => record,
    };
    client.put_record(home, &tag, &record).await?;
    Ok(())
}

/// The inputs that an image was built from, without the values of arguments that were given, if it has a
/// record that can be read. So nobody can see whether they are of the key that the record stands under.
///
/// # Errors
/// When the registry cannot be asked.
pub(super) async fn get(
    client: &Client,
    home: &Repository,
    key: Key,
) -> Result<Option<Inputs>, Error> {
    let Some(record) = client.record(home, &key_tag(key)).await? else { return Ok(None) };
    Ok(decompress(&record.inputs))
}

/// The key that the image of a name says it was built for; `None` if it is not there or does not say.
///
/// # Errors
/// When the registry cannot be asked.
pub(super) async fn key_of(
    client: &Client,
    name: &Reference,
    platform: &Platform,
) -> Result<Option<Key>, Error> {
    let Some(manifest) = client.manifest(name).await? else { return Ok(None) };
    let config = client.image_config(&name.repository, &manifest, platform).await?;
    Ok(config.labels.get(Key::LABEL).and_then(|label| label.parse().ok()))
}

fn compress(inputs: &impl Serialize) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::default());
    // Writing to memory does not fail, nor does this type's serialisation.
    let written = serde_json::to_writer(&mut out, inputs);
    debug_assert!(written.is_ok());
    let _ = out.flush();
    out.finish().unwrap_or_default()
}

fn decompress(bytes: &[u8]) -> Option<Inputs> {
    let mut text = Vec::new();
    GzDecoder::new(bytes).take(LARGEST).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::tests::sample;

    #[test]
    fn inputs_survive_being_stored_and_rubbish_is_no_record() {
        let stored = compress(&sample());
        assert_eq!(decompress(&stored), Some(sample()));
        assert_eq!(decompress(&stored[..stored.len() / 2]), None);
        assert_eq!(decompress(b"{}"), None);
    }
}
