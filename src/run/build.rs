//! Making an image be there: by finding it, or else by building it.

use std::{collections::BTreeSet, time::Instant};

use futures_util::future::join;

use super::{
    Error, Part, Prepared, Whole, World, prepare_all,
    publish::{self, Sought},
    records, serve, several,
};
use crate::{
    engine::{LocalImage, Progress},
    inputs::Difference,
    plan::{self, Found, Plan, Why, Wish},
    registry::{Access, Digest, Manifest, Reference, Repository},
    report::{Outcome, Report, TagChange, Tagged},
    settings::{self, OutputSpec, Request},
};

/// Sees to it that the image of `request` exists and has its names.
///
/// # Errors
/// When the inputs cannot be found out, a step of the build fails, or the engine or the registry
/// refuses what is needed. Nothing is published under a key then.
pub async fn build(
    request: &Request,
    world: &World,
    progress: &dyn Progress,
) -> Result<Report, Error> {
    let started = Instant::now();
    if request.platforms.len() > 1 && request.output.is_some() {
        return Err(Error::Settings(settings::Error::Conflict(
            "--output writes one platform: run smartbuild once for each".into(),
        )));
    }
    if request.platforms.len() > 1 && (request.load || !request.push) {
        return Err(Error::Settings(settings::Error::Conflict(
            "an image of several platforms can only be pushed: give --push, or one platform to have \
             its image in the engine's store"
                .into(),
        )));
    }
    let wanted = if request.push { wanted(request, Access::Push) } else { Vec::new() };
    let mut whole = prepare_with_registry(request, world, &wanted).await?;
    for warning in whole.warnings() {
        world.reporter.warn(&warning);
    }
    match whole.parts.pop() {
        Some(Part { prepared, .. }) if whole.parts.is_empty() => {
            let run =
                Run { started, ..Run::new(request, world, prepared, progress, &request.tags) };
            match &request.output {
                None if request.push => run.in_registry().await,
                None => run.in_engine().await,
                Some(output) => run.written(output).await,
            }
        }
        last => {
            whole.parts.extend(last);
            several::build(request, world, whole, progress, started).await
        }
    }
}

/// The repositories that the run will ask for, and what it will want of them.
pub(super) fn wanted(request: &Request, access: Access) -> Vec<(&Repository, Access)> {
    let tags = request.tags.iter().map(|tag| &tag.repository);
    let repositories: BTreeSet<&Repository> = request.keys_in.iter().chain(tags).collect();
    repositories.into_iter().map(|repository| (repository, access)).collect()
}

/// Finds the key, and meanwhile gets connection, TLS and token ready for what comes after it.
pub(super) async fn prepare_with_registry(
    request: &Request,
    world: &World,
    wanted: &[(&Repository, Access)],
) -> Result<Whole, Error> {
    let client = world.client();
    let contact = async { if wanted.is_empty() { Ok(()) } else { client.prepare(wanted).await } };
    let (prepared, contact) = join(prepare_all(request, world), contact).await;
    let prepared = prepared?;
    match contact {
        // What is of the moment is met again by the request that matters.
        Err(error) if !publish::may_pass(&error) => Err(error.into()),
        _ => Ok(prepared),
    }
}

/// The repository that holds the key's tag.
pub(super) fn key_home(request: &Request) -> Option<Repository> {
    request.keys_in.clone().or_else(|| Some(request.tags.first()?.repository.clone()))
}

/// Whether an image of somebody's own can be there: nobody pushes to Docker Hub's official images,
/// which is where a name without a namespace would be.
pub(super) fn is_ours(repository: &Repository) -> bool {
    !(repository.host() == "docker.io" && repository.path().starts_with("library/"))
}

/// The image that a registry has which need not be asked: what is wrong with it is a warning or, with
/// `--strict`, an error.
pub(super) async fn look_in(
    home: &Repository,
    sought: &Sought<'_>,
    request: &Request,
    world: &World,
) -> Result<Option<Manifest>, Error> {
    let why = match publish::find(&world.client(), home, sought).await {
        Ok(Found::Image(manifest)) => return Ok(Some(manifest)),
        Ok(Found::Nothing) => return Ok(None),
        Ok(Found::Impostor(reason)) => Why::Impostor(reason),
        Ok(Found::Unanswered(reason)) => Why::Unanswered(reason),
        Err(error) if request.strict => return Err(error.into()),
        // Who never logged in there does not expect an image from there.
        Err(error) if error.is_anonymous() => {
            world.reporter.detail(|| format!("the registry was of no help: {error}"));
            return Ok(None);
        }
        Err(error) => Why::Unanswered(error.to_string()),
    };
    if request.strict {
        return Err(Error::Strict(format!("{why} (--strict)")));
    }
    world.reporter.warn(&why.to_string());
    Ok(None)
}

/// Says why it is built; what is unexpected is a warning or, with `--strict`, an error.
pub(super) fn announce(why: &Why, request: &Request, world: &World) -> Result<(), Error> {
    if why.is_unexpected() {
        if request.strict {
            return Err(Error::Strict(format!("{why} (--strict)")));
        }
        world.reporter.warn(&why.to_string());
    }
    let platforms: Vec<_> = request.platforms.iter().map(ToString::to_string).collect();
    world.reporter.say(&match platforms.as_slice() {
        [] => format!("building: {why}"),
        platforms => format!("building for {}: {why}", platforms.join(", ")),
    });
    Ok(())
}

/// One build for one platform, from the key on.
pub(super) struct Run<'a> {
    pub(super) request: &'a Request,
    pub(super) world: &'a World,
    pub(super) prepared: Prepared,
    pub(super) wish: Wish,
    pub(super) progress: &'a dyn Progress,
    pub(super) started: Instant,
    /// The names whose image it is compared with, to say what changed.
    pub(super) since: &'a [Reference],
    /// Images that stand for stages, by the names of these.
    pub(super) reused: Vec<(String, Reference)>,
    /// Whether it is a stage of a build that says itself why.
    pub(super) is_stage: bool,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        request: &'a Request,
        world: &'a World,
        prepared: Prepared,
        progress: &'a dyn Progress,
        since: &'a [Reference],
    ) -> Self {
        let not_skippable = prepared.not_skippable.clone();
        let wish = Wish { forced: request.forced(), not_skippable };
        Self {
            request,
            world,
            prepared,
            wish,
            progress,
            started: Instant::now(),
            since,
            reused: Vec::new(),
            is_stage: false,
        }
    }

    /// What stands under the key's tag if it is the image.
    pub(super) fn sought(&self) -> Sought<'_> {
        let key = self.prepared.key;
        let parts = [(self.request.target_platform(), key)].into_iter().collect();
        Sought { key, parts, signed: self.request.verify_key.as_deref() }
    }

    /// With `--push`: the registry is where images are looked for.
    pub(super) async fn in_registry(self) -> Result<Report, Error> {
        let client = self.world.client();
        let home = key_home(self.request).ok_or_else(|| Error::Strict("no tag to push".into()))?;
        let found = match self.wish.build_anyway() {
            Some(_) => Found::Nothing,
            None => {
                publish::find_with_names(&client, &home, &self.sought(), &self.request.tags).await?
            }
        };
        match plan::decide(&self.wish, found) {
            Plan::Skip((manifest, there)) => {
                let names = &self.request.tags;
                self.world.publishes();
                let tags = publish::point_from(&client, &home, &manifest, names, there).await?;
                let outcome = several::outcome_of(&tags);
                let id = if self.request.load {
                    Some(self.pull(&home, &manifest).await?.id.digest().clone())
                } else {
                    None
                };
                Ok(self.report(outcome, Some(manifest.digest), id, tags, None))
            }
            Plan::Build(why) => {
                if !self.is_stage || why.is_unexpected() {
                    announce(&why, self.request, self.world)?;
                }
                if why == Why::Missing
                    && let Some(changes) = self.changes().await
                {
                    self.world.reporter.say(&changes);
                }
                let (outcome, made, stages) = self.made(&why).await?;
                self.world.publishes();
                let (manifest, tags) = match self.published_meanwhile(&why, &home).await? {
                    Some(manifest) => {
                        let names = &self.request.tags;
                        let tags = publish::point(&client, &home, &manifest, names).await?;
                        (manifest, tags)
                    }
                    None => {
                        let (image, tags) = self.push(&made).await?;
                        self.publish_key(&why, &home, image, tags).await?
                    }
                };
                self.publish_stages(stages).await;
                Ok(self.report(outcome, Some(manifest.digest), made.id(), tags, Some(why)))
            }
        }
    }

    /// With `--output`: the engine builds what is written, from the same inputs, whatever the
    /// registry has; with `--push` as well, the image is made to be there first.
    async fn written(self, output: &OutputSpec) -> Result<Report, Error> {
        let (request, world) = (self.request, self.world);
        let output = serve::output(output);
        if request.push {
            self.exported(&output).await?.deliver().await?;
            return self.in_registry().await;
        }
        let why = self.wish.build_anyway().unwrap_or(Why::Output);
        announce(&why, request, world)?;
        let digest = self.exported(&output).await?.deliver().await?;
        Ok(self.report(Outcome::Built, digest, None, Vec::new(), Some(why)))
    }

    /// Without `--push`: the engine's store is where images are looked for, then the registry, so
    /// that what a pipeline has built is not built again on a laptop.
    async fn in_engine(self) -> Result<Report, Error> {
        let why = match self.wish.build_anyway() {
            Some(why) => why,
            None => {
                if let Some(image) = self.stored(self.engine().await?, &Why::Missing).await? {
                    return Ok(self.in_store(Outcome::Local, None, &image, None));
                }
                if let Some((manifest, image)) = self.pull_if_there().await? {
                    return Ok(self.in_store(Outcome::Pulled, Some(manifest.digest), &image, None));
                }
                Why::Missing
            }
        };
        announce(&why, self.request, self.world)?;
        let (image, _) = self.built().await?;
        Ok(self.in_store(Outcome::Built, None, &image, Some(why)))
    }

    /// The report of an image that has its names in the engine's store.
    fn in_store(
        self,
        outcome: Outcome,
        digest: Option<Digest>,
        image: &LocalImage,
        why: Option<Why>,
    ) -> Report {
        let tags = self.names(TagChange::Local);
        self.report(outcome, digest, Some(image.id.digest().clone()), tags, why)
    }

    /// The image that the registry has for the key, pulled, where the registry may be asked. A registry
    /// that does not answer is no reason not to build.
    async fn pull_if_there(&self) -> Result<Option<(Manifest, LocalImage)>, Error> {
        let Some(home) =
            key_home(self.request).filter(|home| !self.request.offline && is_ours(home))
        else {
            return Ok(None);
        };
        let Some(manifest) = look_in(&home, &self.sought(), self.request, self.world).await? else {
            return Ok(None);
        };
        let image = self.pull(&home, &manifest).await?;
        Ok(Some((manifest, image)))
    }

    /// What changed since the image that one of the names points at, where its record can be read.
    async fn changes(&self) -> Option<String> {
        let client = self.world.client();
        let home = key_home(self.request)?;
        let platform = self.request.target_platform();
        for name in self.since {
            let Ok(Some(key)) = records::key_of(&client, name, &platform).await else { continue };
            let Ok(Some(before)) = records::get(&client, &home, key).await else { continue };
            let after = self.prepared.inputs.hiding(&self.prepared.build_args).hiding_like(&before);
            let difference = Difference::between(&before, &after);
            if !difference.is_empty() {
                return Some(format!("since {}: {}", name.familiar(), difference.summary()));
            }
        }
        None
    }

    fn names(&self, change: TagChange) -> Vec<Tagged> {
        let name = |reference: &Reference| Tagged { reference: reference.clone(), change };
        self.request.tags.iter().map(name).collect()
    }

    fn report(
        self,
        outcome: Outcome,
        digest: Option<Digest>,
        image_id: Option<Digest>,
        tags: Vec<Tagged>,
        why: Option<Why>,
    ) -> Report {
        Report {
            outcome,
            key: self.prepared.key,
            digest,
            image_id,
            tags,
            reason: why.map(|why| why.to_string()),
            warnings: self.prepared.warnings,
            duration: self.started.elapsed(),
            requests: self.world.requests(),
        }
    }
}
