//! Deleting images of old keys, and their records, from a registry.
//!
//! An image goes only when its key's tag is the only name that points at it, and no index that stays
//! names it: deleting a manifest takes every tag of it along.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{Error, World, names::Names, records};
use crate::{
    inputs::Key,
    registry::{self, Client, Digest, Reached, Repository, record_tag},
};

/// Questions to the registry at once.
const AT_ONCE: usize = 8;
/// So many images are deleted for one look at the tags.
const BATCH: usize = 16;
/// Publishing never takes longer from the record to the key's tag.
const PUBLISHING: SignedDuration = SignedDuration::from_hours(1);

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

impl Stored {
    fn is_index(&self) -> bool {
        !self.parts.is_empty()
    }
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

/// Lists the images of keys in `repository`, decides, and deletes unless it is a dry run. Indexes go
/// before what they name, and images before their records: what an interruption leaves behind is a
/// record of nothing, which the next run finds.
///
/// Somebody may point a name at an image while this runs. So the tags are read again before every few
/// images, and what has a name by then stays.
///
/// # Errors
/// When the registry cannot be asked, has no such repository, or deletes nothing.
pub async fn prune(
    world: &World,
    repository: &Repository,
    keep: Keep,
    dry_run: bool,
) -> Result<Vec<Stored>, Error> {
    let client = world.client();
    let names = Names::of(&client, repository, None).await?;
    let found = list(&client, repository, &names).await?;
    let mut stored = decide(found, keep, Timestamp::now());
    if dry_run {
        return Ok(stored);
    }
    let doomed = stored.iter().enumerate().filter(|(_, image)| image.fate == Fate::Deleted);
    let (indexes, images): (Vec<_>, Vec<_>) = doomed.partition(|(_, image)| image.is_index());
    let order: Vec<usize> = indexes.into_iter().chain(images).map(|(place, _)| place).collect();
    for batch in order.chunks(BATCH) {
        let now = Names::of(&client, repository, Some(&names)).await?;
        let named = needed(&now, &stored);
        for &place in batch {
            let image = &mut stored[place];
            if let Some(tags) = named.get(&image.digest) {
                image.fate = if tags.is_empty() { Fate::Recent } else { Fate::Tagged };
                image.tags = tags.iter().cloned().collect();
                continue;
            }
            client.delete(repository, &image.digest.clone().into()).await?;
            delete_record(&client, repository, image.key).await?;
        }
    }
    records_of_nothing(world, repository, keep, &names).await?;
    Ok(stored)
}

/// What has to stay, with the tags of people that lead to it: everything that a tag leads to which is
/// not that of a doomed image.
fn needed(now: &Names, stored: &[Stored]) -> BTreeMap<Digest, BTreeSet<String>> {
    let doomed: BTreeSet<(Key, &Digest)> = stored
        .iter()
        .filter(|image| image.fate == Fate::Deleted)
        .map(|image| (image.key, &image.digest))
        .collect();
    let mut needed: BTreeMap<Digest, BTreeSet<String>> = BTreeMap::new();
    for (tag, to) in &now.tags {
        let key = tag.as_str().parse::<Key>().ok();
        if key.is_some_and(|key| doomed.contains(&(key, &to.digest))) {
            continue;
        }
        for digest in to.below.iter().chain([&to.digest]) {
            let tags = needed.entry(digest.clone()).or_default();
            if key.is_none() {
                tags.insert(tag.to_string());
            }
        }
    }
    needed
}

async fn delete_record(
    client: &Client,
    repository: &Repository,
    key: Key,
) -> Result<(), registry::Error> {
    if let Some(record) = record_tag(&records::key_tag(key))
        && let Some(digest) = client.resolve(&repository.tagged(record)).await?
    {
        client.delete(repository, &digest.into()).await?;
    }
    Ok(())
}

/// Deletes the records whose images are gone. A record is written before its key's tag, so that the
/// young ones may be of an image that is just being published.
async fn records_of_nothing(
    world: &World,
    repository: &Repository,
    keep: Keep,
    names: &Names,
) -> Result<(), Error> {
    let client = world.client();
    let (now, least) = (Timestamp::now(), keep.younger_than.max(PUBLISHING));
    for key in &names.records {
        let tag = records::key_tag(*key);
        if names.tags.contains_key(&tag) {
            continue;
        }
        let record = client.record_head(repository, &tag).await.ok().flatten();
        let created = record.and_then(|record| record.created.parse::<Timestamp>().ok());
        if created.is_some_and(|created| now.duration_since(created) >= least) {
            delete_record(&client, repository, *key).await?;
            world.reporter.say(&format!("deleted the record of {key}, whose image is gone"));
        }
    }
    Ok(())
}

/// Every image that stands under a key, with the tags of people that lead to its manifest.
async fn list(
    client: &Client,
    repository: &Repository,
    names: &Names,
) -> Result<Vec<Stored>, Error> {
    let others = needed(names, &[]);
    let keys = names.tags.iter().filter_map(|(tag, to)| Some((tag.as_str().parse().ok()?, to)));
    Ok(stream::iter(keys)
        .map(async |(key, to): (Key, &Reached)| {
            // A record that cannot be read says nothing about the age of its image.
            let record =
                client.record_head(repository, &records::key_tag(key)).await.ok().flatten();
            let created = record.and_then(|record| record.created.parse().ok());
            let tags = others.get(&to.digest).map(|tags| tags.iter().cloned().collect());
            let (tags, parts) = (tags.unwrap_or_default(), to.below.iter().cloned().collect());
            Stored { key, digest: to.digest.clone(), created, parts, tags, fate: Fate::Unknown }
        })
        .buffered(AT_ONCE)
        .collect()
        .await)
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
