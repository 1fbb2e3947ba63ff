//! Deleting images of old keys, and their records, from a registry.
//!
//! An image goes only when its key's tag is the only name that points at it, and no index that stays
//! names it: deleting a manifest takes every tag of it along.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{Error, World, records};
use crate::{
    inputs::Key,
    registry::{self, Client, Digest, RECORD_SUFFIX, Reference, Repository, Tag},
};

/// Questions to the registry at once.
const AT_ONCE: usize = 8;

/// What to keep.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// What is younger than this.
    pub younger_than: SignedDuration,
    /// The newest so many, however old.
    pub newest: usize,
}

/// An image that stands under a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stored {
    /// The key.
    pub key: Key,
    /// Its manifest.
    pub digest: Digest,
    /// When it was published; unknown without a record.
    #[serde(serialize_with = "as_text")]
    pub created: Option<Timestamp>,
    /// The manifests that it names, if it is an index.
    #[serde(skip)]
    pub parts: Vec<Digest>,
    /// Tags of people that point at it, or at an index that names it.
    pub tags: Vec<String>,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It stays: a tag points at it.
    Tagged,
    /// It stays: it is young enough, or among the newest.
    Recent,
    /// It stays: nobody knows how old it is.
    Unknown,
    /// It goes.
    Deleted,
}

fn as_text<S: serde::Serializer>(
    time: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    time.map(|time| time.to_string()).serialize(serializer)
}

/// Lists the images of keys in `repository`, decides, and deletes unless it is a dry run. Records go
/// before their images and indexes before what they name, so that nothing is left that names what is
/// gone if this is interrupted.
///
/// # Errors
/// When the registry cannot be asked, or deletes nothing.
pub async fn prune(
    world: &World,
    repository: &Repository,
    keep: Keep,
    dry_run: bool,
) -> Result<Vec<Stored>, Error> {
    let stored = decide(list(world, repository).await?, keep, Timestamp::now());
    if dry_run {
        return Ok(stored);
    }
    let client = world.client();
    let doomed = stored.iter().filter(|image| image.fate == Fate::Deleted);
    let (images, indexes): (Vec<_>, Vec<_>) = doomed.partition(|image| image.parts.is_empty());
    for image in indexes.into_iter().chain(images) {
        let record: Option<Tag> = format!("{}{RECORD_SUFFIX}", image.key).parse().ok();
        if let Some(record) = record
            && let Some(digest) = client.resolve(&repository.tagged(record)).await?
        {
            client.delete(repository, &digest.into()).await?;
        }
        client.delete(repository, &image.digest.clone().into()).await?;
    }
    Ok(stored)
}

/// Every image that stands under a key, with the tags that share its manifest.
async fn list(world: &World, repository: &Repository) -> Result<Vec<Stored>, Error> {
    let client = world.client();
    let tags = client.tags(repository).await?;
    // A record is found by its key; what it points at does not matter.
    let tags = tags.into_iter().filter(|tag| !tag.as_str().ends_with(RECORD_SUFFIX));
    let found: Vec<(Tag, Option<Found>)> = stream::iter(tags)
        .map(async |tag| {
            let found = look(&client, &repository.tagged(tag.clone())).await?;
            Ok::<_, registry::Error>((tag, found))
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let mut keys: Vec<(Key, Found)> = Vec::new();
    let mut others: BTreeMap<Digest, BTreeSet<String>> = BTreeMap::new();
    for (tag, found) in found {
        let Some(found) = found else { continue };
        match tag.as_str().parse::<Key>() {
            Ok(key) => keys.push((key, found)),
            Err(_) => {
                for digest in found.parts.into_iter().chain([found.digest]) {
                    others.entry(digest).or_default().insert(tag.to_string());
                }
            }
        }
    }
    keys.sort_by_key(|(key, _)| *key);
    stream::iter(keys)
        .map(async |(key, Found { digest, parts })| {
            // A record that cannot be read says nothing about the age of its image.
            let record =
                client.record_head(repository, &records::key_tag(key)).await.ok().flatten();
            let created = record.and_then(|record| record.created.parse().ok());
            let tags = others.get(&digest).map(|tags| tags.iter().cloned().collect());
            let tags = tags.unwrap_or_default();
            Ok(Stored { key, digest, created, parts, tags, fate: Fate::Unknown })
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await
}

/// What a tag points at.
struct Found {
    digest: Digest,
    /// What it names, if it is an index.
    parts: Vec<Digest>,
}

async fn look(client: &Client, name: &Reference) -> Result<Option<Found>, registry::Error> {
    match client.manifest(name).await {
        Ok(manifest) => Ok(manifest.map(|manifest| {
            let parts = manifest.index().into_iter().flat_map(|index| &index.manifests);
            let parts = parts.map(|part| part.digest.clone()).collect();
            Found { digest: manifest.digest, parts }
        })),
        // Somebody's tag of a kind that we do not read: it names no image of ours.
        Err(registry::Error::Manifest { .. }) => {
            let digest = client.resolve(name).await?;
            Ok(digest.map(|digest| Found { digest, parts: Vec::new() }))
        }
        Err(error) => Err(error),
    }
}

/// Says what becomes of each; pure.
fn decide(mut stored: Vec<Stored>, keep: Keep, now: Timestamp) -> Vec<Stored> {
    stored.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.key.cmp(&b.key)));
    let mut kept = BTreeSet::new();
    for (place, image) in stored.iter_mut().enumerate() {
        image.fate = match image.created {
            _ if !image.tags.is_empty() => Fate::Tagged,
            None => Fate::Unknown,
            Some(_) if place < keep.newest => Fate::Recent,
            Some(created) if now.duration_since(created) < keep.younger_than => Fate::Recent,
            Some(_) => Fate::Deleted,
        };
        if image.fate != Fate::Deleted {
            kept.insert(image.digest.clone());
            kept.extend(image.parts.iter().cloned());
        }
    }
    // Two keys can share a manifest, and indexes name others; deleting it for one would take it from
    // the other.
    for image in stored.iter_mut().filter(|image| image.fate == Fate::Deleted) {
        if kept.contains(&image.digest) {
            image.fate = Fate::Recent;
        }
    }
    stored
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(number: u8, days_old: Option<i64>, tags: &[&str]) -> Stored {
        Stored {
            key: format!("sb1-{}", hex::encode([number; 32])).parse().unwrap(),
            digest: Digest::of(&[number]),
            created: days_old.map(|days| now() - SignedDuration::from_hours(24 * days)),
            parts: Vec::new(),
            tags: tags.iter().map(ToString::to_string).collect(),
            fate: Fate::Unknown,
        }
    }

    fn now() -> Timestamp {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }

    fn fates(images: Vec<Stored>, newest: usize) -> Vec<Fate> {
        let keep = Keep { younger_than: SignedDuration::from_hours(24 * 30), newest };
        let mut decided = decide(images, keep, now());
        decided.sort_by_key(|image| image.key);
        decided.into_iter().map(|image| image.fate).collect()
    }

    #[test]
    fn what_is_old_and_has_no_tag_goes() {
        let images = vec![
            image(1, Some(1), &[]),
            image(2, Some(40), &[]),
            image(3, Some(400), &["latest"]),
            image(4, None, &[]),
        ];
        let expected = [Fate::Recent, Fate::Deleted, Fate::Tagged, Fate::Unknown];
        assert_eq!(fates(images, 0), expected);
    }

    #[test]
    fn the_newest_stay_however_old() {
        let images =
            vec![image(1, Some(40), &[]), image(2, Some(50), &[]), image(3, Some(60), &[])];
        assert_eq!(fates(images, 2), [Fate::Recent, Fate::Recent, Fate::Deleted]);
    }

    #[test]
    fn what_an_index_names_stays_while_the_index_does() {
        let index = |days| {
            let mut index = image(1, Some(days), &[]);
            index.parts = vec![Digest::of(&[2]), Digest::of(&[3])];
            vec![index, image(2, Some(40), &[]), image(3, Some(50), &[]), image(4, Some(60), &[])]
        };
        let stays = [Fate::Recent, Fate::Recent, Fate::Recent, Fate::Deleted];
        assert_eq!(fates(index(1), 0), stays);
        assert_eq!(fates(index(40), 0), [Fate::Deleted; 4]);
    }

    #[test]
    fn a_manifest_that_two_keys_share_stays_while_one_of_them_does() {
        let mut shared = image(2, Some(40), &[]);
        shared.digest = Digest::of(&[1]);
        assert_eq!(fates(vec![image(1, Some(1), &[]), shared], 0), [Fate::Recent, Fate::Recent]);
    }
}
