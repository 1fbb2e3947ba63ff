//! The tags of a repository, and what each leads to: for who wants to know what nothing needs.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt, stream};

use super::Error;
use crate::{
    inputs::Key,
    registry::{self, Client, Digest, RECORD_SUFFIX, Reached, Reference, Repository, Tag},
};

/// Questions to the registry at once.
const AT_ONCE: usize = 8;

/// The tags of a repository.
pub(super) struct Names {
    /// What each tag leads to, records left out.
    pub(super) tags: BTreeMap<Tag, Reached>,
    /// The keys that a record is there for.
    pub(super) records: BTreeSet<Key>,
}

impl Names {
    /// Follows every tag. What is in `known` already is not read once more.
    ///
    /// # Errors
    /// When the registry cannot be asked, or there is no such repository.
    pub(super) async fn of(
        client: &Client,
        repository: &Repository,
        known: Option<&Self>,
    ) -> Result<Self, Error> {
        let listed = client.tags(repository).await?.ok_or_else(|| registry::Error::NotFound {
            action: format!("list the tags of {}", repository.familiar()),
            host: repository.host().to_owned(),
            message: String::new(),
        })?;
        // A record is found by its key; what it points at does not matter.
        let (mut tags, mut records) = (Vec::new(), BTreeSet::new());
        for tag in listed {
            match key_of_record(&tag) {
                Some(key) => drop(records.insert(key)),
                None => tags.push(tag),
            }
        }
        let known: Option<BTreeMap<&Digest, &Reached>> =
            known.map(|known| known.tags.values().map(|to| (&to.digest, to)).collect());
        let found: Vec<Option<(Tag, Reached)>> = stream::iter(tags)
            .map(async |tag| {
                let to = follow(client, &repository.tagged(tag.clone()), known.as_ref()).await?;
                Ok::<_, registry::Error>(to.map(|to| (tag, to)))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(Self { tags: found.into_iter().flatten().collect(), records })
    }
}

/// The key whose record has this tag. What only ends like a record's is somebody's own.
fn key_of_record(tag: &Tag) -> Option<Key> {
    tag.as_str().strip_suffix(RECORD_SUFFIX)?.parse().ok()
}

async fn follow(
    client: &Client,
    name: &Reference,
    known: Option<&BTreeMap<&Digest, &Reached>>,
) -> Result<Option<Reached>, registry::Error> {
    let Some(known) = known else { return client.reach(name).await };
    let Some(digest) = client.resolve(name).await? else { return Ok(None) };
    match known.get(&digest) {
        Some(reached) => Ok(Some((*reached).clone())),
        None => client.reach(name).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_of_a_record_makes_a_tag_one() {
        let key = format!("sb1-{}", "0".repeat(64));
        let of = |tag: &str| key_of_record(&tag.parse().unwrap()).map(|key| key.to_string());
        assert_eq!(of(&format!("{key}.inputs")), Some(key.clone()));
        for tag in ["v1.inputs", "sb1-0.inputs", &key, &format!("{key}.inputs.inputs")] {
            assert_eq!(of(tag), None, "{tag}");
        }
    }
}
