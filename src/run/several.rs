//! An image of several platforms: an image of each, and the index that names them.
//!
//! Every platform is a build of its own, which is found, built, pushed and recorded under its own
//! key like any other. So an engine that holds one image a name will do, what is interrupted goes on
//! where it was, and a platform whose inputs did not change is not built again. The index comes last.

use std::{collections::BTreeMap, time::Instant};

use super::{
    Error, Whole, World,
    build::{Run, announce, key_home},
    publish::{self, Sought},
    settle::{Placed, Publication},
};
use crate::{
    engine::Progress,
    inputs::Key,
    plan::{self, Found, Plan, Why},
    platform::Platform,
    registry::{Manifest, Reference, Repository, Tag},
    report::{Outcome, Report, TagChange, Tagged},
    settings::Request,
};

/// Sees to it that the index of `request` exists and has its names.
pub(super) async fn build(
    request: &Request,
    world: &World,
    whole: Whole,
    progress: &dyn Progress,
    started: Instant,
) -> Result<Report, Error> {
    let client = world.client();
    let home = key_home(request).ok_or_else(|| Error::Strict("no tag to push".into()))?;
    let (key, keys, wish) = (whole.key, whole.keys(), whole.wish(request));
    let sought = Sought { key, parts: keys.clone(), signed: request.verify_key.as_deref() };
    let found = match wish.build_anyway() {
        Some(_) => Found::Nothing,
        None => publish::find_with_names(&client, &home, &sought, &request.tags).await?,
    };
    let warnings = whole.warnings();
    let report = |outcome, manifest: Manifest, tags, reason: Option<Why>| Report {
        outcome,
        key,
        digest: Some(manifest.digest),
        image_id: None,
        tags,
        reason: reason.map(|why| why.to_string()),
        warnings,
        duration: started.elapsed(),
        requests: world.requests(),
    };
    let why = match plan::decide(&wish, found) {
        Plan::Skip((index, there)) => {
            let names = &request.tags;
            world.publishes();
            let tags = publish::point_from(&client, &home, &index, names, there).await?;
            return Ok(report(outcome_of(&tags), index, tags, None));
        }
        Plan::Build(why) => why,
    };
    announce(&why, request, world)?;

    let place = place(request, &home, &why)?;
    let mut outcome = Outcome::Unchanged;
    let mut images = Vec::with_capacity(whole.parts.len());
    for mut part in whole.parts {
        let platform = part.request.target_platform();
        part.request.tags = vec![place.name(&platform, part.prepared.key)?];
        let run = Run::new(&part.request, world, part.prepared, progress, &request.tags);
        let image = run.in_registry().await?;
        outcome = outcome.and(image.outcome);
        let Some(digest) = image.digest else { continue };
        let name = place.repository.pinned(digest);
        let manifest = client.manifest(&name).await?;
        let manifest = manifest.ok_or_else(|| {
            Error::Strict(format!("{name} was pushed, and the registry does not have it"))
        })?;
        images.push((platform, manifest));
    }
    let notes = BTreeMap::from([(Key::LABEL.to_owned(), key.to_string())]);
    let notes = if why.may_publish_key() { notes } else { BTreeMap::new() };
    let index = Manifest::assemble(&images, notes)
        .map_err(|error| Error::Strict(format!("the images cannot be put together: {error}")))?;
    client.put_tags(&place.repository, &index, &[]).await?;
    let mut tags = publish::point(&client, &place.repository, &index, &request.tags).await?;
    let mut index = index;
    if why.may_publish_key() {
        let sign = request.sign_key.as_deref();
        let publication = Publication {
            world,
            home: &home,
            sought: Sought { signed: sought.signed.or(sign), ..sought },
            inputs: &keys,
            sign,
            names: &request.tags,
            yields: why == Why::Missing,
        };
        let image = Placed { repository: place.repository, manifest: index };
        (index, tags) = publication.settle(image, tags).await?;
    }
    let why = (outcome == Outcome::Built).then_some(why);
    // What was there for every platform, was not there as an index.
    let outcome = if outcome == Outcome::Unchanged { outcome_of(&tags) } else { outcome };
    Ok(report(outcome, index, tags, why))
}

/// Where the images of the platforms are pushed to, and under which names.
struct Place {
    repository: Repository,
    /// The tag that theirs begin with, where their keys must not be their names.
    tag: Option<Tag>,
}

/// By their keys beside the other keys; what no key covers, under the first tag and the platform.
fn place(request: &Request, home: &Repository, why: &Why) -> Result<Place, Error> {
    if why.may_publish_key() {
        return Ok(Place { repository: home.clone(), tag: None });
    }
    let first = request.tags.first().ok_or_else(|| Error::Strict("no tag to push".into()))?;
    Ok(Place { repository: first.repository.clone(), tag: first.tag.clone() })
}

impl Place {
    fn name(&self, platform: &Platform, key: Key) -> Result<Reference, Error> {
        let Some(tag) = &self.tag else { return Ok(publish::key_reference(&self.repository, key)) };
        // A tag has at most 128 characters.
        let start: String = tag.as_str().chars().take(90).collect();
        let tag = format!("{start}-{}", platform.in_a_tag()).parse();
        let tag = tag.map_err(|error| Error::Strict(format!("no tag for {platform}: {error}")))?;
        Ok(self.repository.tagged(tag))
    }
}

/// How it ended for names of an image that was there.
pub(super) fn outcome_of(tags: &[Tagged]) -> Outcome {
    let all_right = tags.iter().all(|tag| tag.change == TagChange::Unchanged);
    if all_right { Outcome::Unchanged } else { Outcome::Retagged }
}
