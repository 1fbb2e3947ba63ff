//! Stage reuse (`--cache-stages`): a stage that takes long gets a key of its own, as if it were the
//! target, and its image is pushed under it. A build whose own image is missing then starts from
//! those that are there, on any engine, without an export of the engine's cache.

use std::{iter, sync::Arc};

use futures_util::future::try_join_all;

use super::{
    Error, Prepared, World, prepare,
    prepare::by_context,
    publish::{self, Sought},
};
use crate::{
    dockerfile,
    engine::BuildRequest,
    plan::Found,
    registry::{Reference, Repository},
    settings::Request,
};

/// A stage with a key of its own.
pub(super) struct Stage {
    name: String,
    /// The build of it alone.
    pub(super) request: Request,
    pub(super) prepared: Prepared,
    /// Its image, pinned by its digest, where the registry has it.
    pub(super) image: Option<Reference>,
}

/// The stages of a build that may have images, and which of those the registry has.
///
/// # Errors
/// When the registry cannot be asked for a reason that will not pass, or the inputs cannot be read
/// any more.
pub(super) async fn look(
    request: &Request,
    world: &World,
    prepared: &Prepared,
    home: &Repository,
) -> Result<Vec<Stage>, Error> {
    let Some(chosen) = &request.cache_stages else { return Ok(Vec::new()) };
    let is_chosen = |name: &&String| {
        (chosen.is_empty() || chosen.contains(name))
            && !request.no_cache_filter.iter().any(|no| no.eq_ignore_ascii_case(name))
    };
    if request.no_cache || prepared.not_skippable.is_some() {
        return Ok(Vec::new());
    }
    let stages = prepared.reusable.iter().filter(is_chosen).map(|name| async move {
        let mut request = Request {
            target: Some(name.clone()),
            // What is said of the image is not said of a stage of it.
            labels: [].into(),
            cache_to: Vec::new(),
            cache_stages: None,
            load: false,
            ..request.clone()
        };
        let prepared = prepare(&request, world).await?;
        request.tags = vec![publish::key_reference(home, prepared.key)];
        if prepared.not_skippable.is_some() {
            return Ok::<_, Error>(None);
        }
        let key = prepared.key;
        let parts = [(request.target_platform(), key)].into_iter().collect();
        let sought = Sought { key, parts, signed: request.verify_key.as_deref() };
        let image = match publish::find(&world.client(), home, &sought).await? {
            Found::Image(manifest) => Some(home.pinned(manifest.digest)),
            // It is built then, as it would be without us.
            Found::Nothing | Found::Impostor(_) | Found::Unanswered(_) => None,
        };
        Ok(Some(Stage { name: name.clone(), request, prepared, image }))
    });
    let stages = try_join_all(stages).await?;
    Ok(stages.into_iter().flatten().collect())
}

/// The images that stand for stages, by the names of these.
pub(super) fn images(stages: &[Stage]) -> Vec<(String, Reference)> {
    let image = |stage: &Stage| Some((stage.name.clone(), stage.image.clone()?));
    stages.iter().filter_map(image).collect()
}

/// Has a build start from images instead of stages, and serves no files that only those need.
///
/// # Errors
/// When the Dockerfile that is served cannot be read, which is a mistake of ours.
pub(super) fn reuse(
    build: &mut BuildRequest,
    prepared: &Prepared,
    images: &[(String, Reference)],
) -> Result<(), dockerfile::Error> {
    if images.is_empty() {
        return Ok(());
    }
    let pinned: Vec<_> =
        images.iter().map(|(name, image)| (name.clone(), image.to_string())).collect();
    build.dockerfile = dockerfile::parse(&build.dockerfile)?.with_images(&pinned);
    build.registries.extend(images.iter().map(|(_, image)| image.host().to_owned()));
    let names = images.iter().map(|(name, _)| name.as_str()).collect();
    let reads = by_context(prepared.slice.reads_without(&names));
    let main = iter::once((String::new(), &mut build.context));
    let named = build.contexts.iter_mut().map(|(name, files)| (name.clone(), files));
    for (name, files) in main.chain(named) {
        let reads = reads.get(&name).map(Vec::as_slice).unwrap_or_default();
        files.tree = Arc::new(files.tree.narrowed(reads));
    }
    Ok(())
}
