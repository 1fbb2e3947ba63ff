//! The registry side of a run: is the image of a key there, and pointing names at it.

use std::pin::pin;

use futures_util::future::{Either, join_all, ready, select, try_join_all};

use super::records;
use crate::{
    inputs::{Key, Parts},
    plan::Found,
    platform::Platform,
    registry::{Client, Digest, Error, Manifest, Reference, Repository, SigningKey},
    report::{TagChange, Tagged},
};

/// The name under which the image of a key stands.
pub(super) fn key_reference(home: &Repository, key: Key) -> Reference {
    home.tagged(records::key_tag(key))
}

/// What is looked for under a key's tag.
pub(super) struct Sought<'a> {
    pub(super) key: Key,
    /// The platforms that it must have, and the key that the image of each must say it is of.
    pub(super) parts: Parts,
    /// What its record must be signed with.
    pub(super) signed: Option<&'a SigningKey>,
}

/// Looks for the image of a key and, at the same time, at the names that would point at it: these are
/// needed only where it is there, and not waited for otherwise.
///
/// # Errors
/// Those of [`find`] and, where the image is there, of [`look`].
pub(super) async fn find_with_names(
    client: &Client,
    home: &Repository,
    sought: &Sought<'_>,
    names: &[Reference],
) -> Result<Found<(Manifest, Vec<Option<Digest>>)>, Error> {
    let (find, look) = (pin!(find(client, home, sought)), pin!(look(client, names)));
    let (found, there) = match select(find, look).await {
        Either::Left((found, look)) => (found, Either::Left(look)),
        Either::Right((there, find)) => (find.await, Either::Right(ready(there))),
    };
    Ok(match found? {
        Found::Image(manifest) => Found::Image((manifest, there.await?)),
        Found::Nothing => Found::Nothing,
        Found::Impostor(reason) => Found::Impostor(reason),
        Found::Unanswered(reason) => Found::Unanswered(reason),
    })
}

/// Looks for the image of a key and verifies that it is what the tag says.
///
/// # Errors
/// When pushing would fail for the same reason: no such host, no TLS, no connection, not allowed.
/// What may pass is [`Found::Unanswered`].
pub(super) async fn find(
    client: &Client,
    home: &Repository,
    sought: &Sought<'_>,
) -> Result<Found<Manifest>, Error> {
    match verified(client, &key_reference(home, sought.key), sought).await {
        Ok(found) => Ok(found),
        Err(error) if may_pass(&error) => Ok(Found::Unanswered(error.to_string())),
        Err(error) => Err(error),
    }
}

/// Looks whether a name is that of the image of a key.
///
/// # Errors
/// When the registry cannot be asked.
pub(super) async fn verified(
    client: &Client,
    name: &Reference,
    sought: &Sought<'_>,
) -> Result<Found<Manifest>, Error> {
    let (key, home) = (sought.key, &name.repository);
    let Some(manifest) = client.manifest(name).await? else {
        return Ok(Found::Nothing);
    };
    let wrong = sought.parts.parts.iter().map(|(platform, key)| {
        let manifest = &manifest;
        async move { wrong(client, home, manifest, platform, *key).await }
    });
    let wrong = try_join_all(wrong.collect::<Vec<_>>()).await?;
    if let Some(reason) = wrong.into_iter().flatten().next() {
        return Ok(Found::Impostor(reason));
    }
    if let Some(signed) = sought.signed
        && let Some(reason) = untrusted(client, home, key, &manifest, signed).await?
    {
        return Ok(Found::Impostor(reason));
    }
    Ok(Found::Image(manifest))
}

/// Why a manifest does not give the image of a key to a platform, if it does not.
async fn wrong(
    client: &Client,
    home: &Repository,
    manifest: &Manifest,
    platform: &Platform,
    key: Key,
) -> Result<Option<String>, Error> {
    let config = match client.image_config(home, manifest, platform).await {
        Ok(config) => config,
        // Something is there that cannot be read as an image of that platform.
        Err(error) if is_about_content(&error) => return Ok(Some(error.to_string())),
        Err(error) => return Err(error),
    };
    if config.platform() != *platform {
        return Ok(Some(format!("it is for {}, not for {platform}", config.platform())));
    }
    Ok(match config.labels.get(Key::LABEL) {
        Some(label) if *label == key.to_string() => None,
        Some(label) => Some(format!("its label says {label}")),
        None => Some("it does not say which key it was built for".into()),
    })
}

/// Why the record of a key does not vouch for an image, if it does not.
async fn untrusted(
    client: &Client,
    home: &Repository,
    key: Key,
    manifest: &Manifest,
    signed: &SigningKey,
) -> Result<Option<String>, Error> {
    let tag = records::key_tag(key);
    let head = match client.record_head(home, &tag).await {
        Ok(Some(head)) => head,
        Ok(None) => return Ok(Some("it has no record that could be signed".into())),
        Err(error) if is_about_content(&error) => return Ok(Some(error.to_string())),
        Err(error) => return Err(error),
    };
    Ok(signed.verify(&tag, &head, &manifest.digest).err().map(|reason| reason.to_string()))
}

/// What names point at now.
///
/// # Errors
/// When a registry cannot be asked.
pub(super) async fn look(
    client: &Client,
    names: &[Reference],
) -> Result<Vec<Option<Digest>>, Error> {
    try_join_all(names.iter().map(|name| client.resolve(name))).await
}

/// Points names at an image that a registry has, leaving alone those that point at it already.
///
/// # Errors
/// When a registry cannot be asked or refuses.
pub(super) async fn point(
    client: &Client,
    home: &Repository,
    manifest: &Manifest,
    names: &[Reference],
) -> Result<Vec<Tagged>, Error> {
    // All are asked before the first is moved: a registry may show what is being written half-written.
    let there = look(client, names).await?;
    point_from(client, home, manifest, names, there).await
}

/// The same where it is known what the names point at.
pub(super) async fn point_from(
    client: &Client,
    home: &Repository,
    manifest: &Manifest,
    names: &[Reference],
    there: Vec<Option<Digest>>,
) -> Result<Vec<Tagged>, Error> {
    let tagged = join_all(names.iter().zip(there).map(async |(name, there)| {
        if there.as_ref() == Some(&manifest.digest) {
            return Ok(Tagged { reference: name.clone(), change: TagChange::Unchanged });
        }
        put(client, home, manifest, name).await?;
        Ok(Tagged { reference: name.clone(), change: TagChange::Moved })
    }));
    // All are waited for, also when one fails: a registry that is left in mid-write may keep half.
    tagged.await.into_iter().collect()
}

/// Points a name at an image that a registry has.
///
/// # Errors
/// When a registry cannot be asked or refuses.
pub(super) async fn put(
    client: &Client,
    home: &Repository,
    manifest: &Manifest,
    name: &Reference,
) -> Result<(), Error> {
    if name.repository == *home {
        client.put_manifest(&name.repository, &name.target(), manifest).await?;
    } else {
        let from = home.pinned(manifest.digest.clone());
        client.copy(&from, &name.repository, name.tag.as_slice()).await?;
    }
    Ok(())
}

/// Whether an error is of the moment, so that pushing in a few minutes may well work.
pub(super) fn may_pass(error: &Error) -> bool {
    use Error as E;
    matches!(
        error,
        E::Timeout { .. }
            | E::Broken { .. }
            | E::RateLimited { .. }
            | E::Server { .. }
            | E::Protocol { .. }
    )
}

/// Whether an error says that what a registry has is not an image that we can read, rather than that
/// the registry cannot be asked.
pub(super) fn is_about_content(error: &Error) -> bool {
    use Error as E;
    matches!(
        error,
        E::Manifest { .. } | E::NoPlatform { .. } | E::NotFound { .. } | E::Protocol { .. }
    )
}
