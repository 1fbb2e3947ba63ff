//! Making an image be there: by finding it, or else by building it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures_util::future::join;

use super::{
    Error, Part, Prepared, Whole, World, prepare_all,
    publish::{self, Sought},
    records, remotes, serve,
    settle::{Placed, Publication},
    several,
    stages::{self, Stage},
    watched::Watched,
};
use crate::{
    engine::{BuildRequest, Engine, LocalImage, Progress},
    inputs::{Difference, ImageIdentity, Key},
    plan::{self, Found, Plan, Why, Wish},
    registry::{self, Access, Digest, Manifest, Reference, Repository},
    report::{Outcome, Report, TagChange, Tagged},
    settings::{self, OutputSpec, Request},
};

/// How many times as long as a registry of ours may be silent it may be towards an engine: engines
/// wait without end, and repeat on their own what fails.
const PUSH_PATIENCE: u32 = 15;

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

/// An image that the engine has for exactly this key.
///
/// A label is inherited by images built on top, so the label alone proves nothing: it must have been
/// set by the last instruction of the image.
pub(super) async fn find_in_engine(engine: &Engine, key: Key) -> Result<Option<LocalImage>, Error> {
    let mark = format!("{}={key}", Key::LABEL);
    for image in engine.find_labelled(Key::LABEL, &key.to_string()).await? {
        if engine.last_instruction(&image.id).await?.is_some_and(|last| last.contains(&mark)) {
            return Ok(Some(image));
        }
    }
    Ok(None)
}

/// Whether an image of somebody's own can be there: nobody pushes to Docker Hub's official images,
/// which is where a name without a namespace would be.
fn is_ours(repository: &Repository) -> bool {
    !(repository.host() == "docker.io" && repository.path().starts_with("library/"))
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

/// An image that was built or found, and where it is.
enum Made {
    /// In the engine's store, with all its names.
    Stored(LocalImage),
    /// In the registry, and nothing points at it yet.
    Pushed(Reference),
}

impl Made {
    /// What the engine calls it.
    fn id(&self) -> Option<Digest> {
        match self {
            Self::Stored(image) => Some(image.id.digest().clone()),
            Self::Pushed(_) => None,
        }
    }
}

/// One build for one platform, from the key on.
pub(super) struct Run<'a> {
    request: &'a Request,
    world: &'a World,
    prepared: Prepared,
    wish: Wish,
    progress: &'a dyn Progress,
    started: Instant,
    /// The names whose image it is compared with, to say what changed.
    since: &'a [Reference],
    /// Images that stand for stages, by the names of these.
    reused: Vec<(String, Reference)>,
    /// Whether it is a stage of a build that says itself why.
    is_stage: bool,
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
        let wish = Wish { forced: request.no_cache, not_skippable };
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
    fn sought(&self) -> Sought<'_> {
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
        let (request, world, progress) = (self.request, self.world, self.progress);
        let (build, _) = self.build_request().await?;
        let (build, output) = (BuildRequest { tags: Vec::new(), ..build }, serve::output(output));
        if request.push {
            self.engine().await?.export(&build, &output, progress).await?;
            return self.in_registry().await;
        }
        let why = self.wish.build_anyway().unwrap_or(Why::Output);
        announce(&why, request, world)?;
        let digest = self.engine().await?.export(&build, &output, progress).await?;
        self.still_the_same().await?;
        Ok(self.report(Outcome::Built, digest, None, Vec::new(), Some(why)))
    }

    /// Without `--push`: the engine's store is where images are looked for, then the registry, so
    /// that what a pipeline has built is not built again on a laptop.
    async fn in_engine(self) -> Result<Report, Error> {
        let why = self.wish.build_anyway();
        if why.is_none()
            && let Some((manifest, image)) = self.pull_if_there().await?
        {
            let tags = self.names(TagChange::Local);
            let id = Some(image.id.digest().clone());
            return Ok(self.report(Outcome::Pulled, Some(manifest.digest), id, tags, None));
        }
        if let Some(why) = &why {
            announce(why, self.request, self.world)?;
        }
        let why = why.unwrap_or(Why::Missing);
        let (outcome, image, _) = self.image(&why).await?;
        let tags = self.names(TagChange::Local);
        let why = (outcome == Outcome::Built).then_some(why);
        Ok(self.report(outcome, None, Some(image.id.digest().clone()), tags, why))
    }

    /// The image that the registry has for the key, pulled, where the engine does not have it and
    /// the registry may be asked. A registry that does not answer is no reason not to build.
    async fn pull_if_there(&self) -> Result<Option<(Manifest, LocalImage)>, Error> {
        let Some(home) =
            key_home(self.request).filter(|home| !self.request.offline && is_ours(home))
        else {
            return Ok(None);
        };
        if find_in_engine(self.engine().await?, self.prepared.key).await?.is_some() {
            return Ok(None);
        }
        match publish::find(&self.world.client(), &home, &self.sought()).await {
            Ok(Found::Image(manifest)) => {
                let image = self.pull(&home, &manifest).await?;
                Ok(Some((manifest, image)))
            }
            Ok(_) => Ok(None),
            Err(error) if self.request.strict => Err(error.into()),
            Err(error) => {
                self.world.reporter.detail(|| format!("the registry was of no help: {error}"));
                Ok(None)
            }
        }
    }

    /// Has the engine pull an image by its digest, and gives it all its names there.
    async fn pull(&self, home: &Repository, manifest: &Manifest) -> Result<LocalImage, Error> {
        let engine = self.engine().await?;
        let name = home.pinned(manifest.digest.clone());
        let login = self.world.login(home.host()).await.map_err(registry::Error::from)?;
        let platform = self.request.platform();
        engine.pull(&name, platform, login.as_ref(), self.progress).await?;
        let image = engine.inspect(&name.to_string()).await?;
        let image = image.ok_or_else(|| Error::Strict(format!("the engine lost {name}")))?;
        for name in &self.request.tags {
            engine.tag(&image.id, name).await?;
        }
        Ok(image)
    }

    async fn engine(&self) -> Result<&Engine, Error> {
        self.world.engine().await.map_err(|source| Error::NoEngine {
            source,
            why: "It is needed only because the image has to be built; a build that is skipped \
                  needs none",
        })
    }

    /// What changed since the image that one of the names points at, where its record can be read.
    async fn changes(&self) -> Option<String> {
        let client = self.world.client();
        let home = key_home(self.request)?;
        let platform = self.request.target_platform();
        for name in self.since {
            let Ok(Some(key)) = records::key_of(&client, name, &platform).await else { continue };
            let Ok(Some(before)) = records::get(&client, &home, key).await else { continue };
            let difference = Difference::between(&before, &self.prepared.inputs);
            if !difference.is_empty() {
                return Some(format!("since {}: {}", name.familiar(), difference.summary()));
            }
        }
        None
    }

    /// The image in the engine's store with all its names, found there or built; then also the
    /// stages that have keys of their own.
    async fn image(&self, why: &Why) -> Result<(Outcome, LocalImage, Vec<Stage>), Error> {
        let engine = self.engine().await?;
        let there = match why {
            Why::Forced | Why::NotSkippable(_) => None,
            _ => find_in_engine(engine, self.prepared.key).await?,
        };
        if let Some(image) = there {
            for name in &self.request.tags {
                engine.tag(&image.id, name).await?;
            }
            return Ok((Outcome::Local, image, Vec::new()));
        }
        let (build, stages) = self.build_request().await?;
        let id = engine.build(&build, self.progress).await?;
        self.still_the_same().await?;
        let image = engine.inspect(&id.to_string()).await?;
        let image =
            image.ok_or_else(|| Error::Strict("the engine lost the image it built".into()))?;
        Ok((Outcome::Built, image, stages))
    }

    /// What the engine is asked to build, and the stages that have keys of their own.
    async fn build_request(&self) -> Result<(BuildRequest, Vec<Stage>), Error> {
        let stages = self.stages().await?;
        let mut reused = self.reused.clone();
        for (name, image) in stages::images(&stages) {
            self.world.reporter.say(&format!("stage {name}: {} is there", image.familiar()));
            reused.push((name, image));
        }
        let mut build = serve::build_request(self.request, &self.prepared, self.world).await?;
        stages::reuse(&mut build, &self.prepared, &reused).map_err(Error::Dockerfile)?;
        Ok((build, stages))
    }

    /// The image, pushed or ready to be.
    async fn made(&self, why: &Why) -> Result<(Outcome, Made, Vec<Stage>), Error> {
        let engine = self.engine().await?;
        let direct = !self.request.load && engine.pushes_directly().await?;
        let first = match self.request.tags.first() {
            Some(first) if direct && !self.is_in(engine, why).await? => first,
            _ => {
                let (outcome, image, stages) = self.image(why).await?;
                return Ok((outcome, Made::Stored(image), stages));
            }
        };
        let (build, stages) = self.build_request().await?;
        let build = BuildRequest { tags: Vec::new(), ..build };
        let repository = &first.repository;
        let insecure = self.world.is_insecure(repository.host());
        let digest = engine.build_and_push(&build, repository, insecure, self.progress).await?;
        self.still_the_same().await?;
        Ok((Outcome::Built, Made::Pushed(repository.pinned(digest)), stages))
    }

    /// Whether the engine has the image already.
    async fn is_in(&self, engine: &Engine, why: &Why) -> Result<bool, Error> {
        match why {
            Why::Forced | Why::NotSkippable(_) => Ok(false),
            _ => Ok(find_in_engine(engine, self.prepared.key).await?.is_some()),
        }
    }

    /// The stages that have keys of their own (`--cache-stages`).
    async fn stages(&self) -> Result<Vec<Stage>, Error> {
        match key_home(self.request).filter(|home| !self.request.offline && is_ours(home)) {
            Some(home) => stages::look(self.request, self.world, &self.prepared, &home).await,
            None => Ok(Vec::new()),
        }
    }

    /// Pushes the stages that were built, under their keys: the engine has all their steps now. That
    /// the image is there does not depend on it.
    async fn publish_stages(&self, stages: Vec<Stage>) {
        let reused = stages::images(&stages);
        for stage in stages.into_iter().filter(|stage| stage.image.is_none()) {
            let Stage { request, prepared, .. } = stage;
            let run = Run::new(&request, self.world, prepared, self.progress, &[]);
            let run = Run { reused: reused.clone(), is_stage: true, ..run };
            let name = request.target.as_deref().unwrap_or_default();
            self.world.reporter.say(&format!("storing the stage {name}"));
            if let Err(error) = Box::pin(run.in_registry()).await {
                self.world.reporter.warn(&format!("the stage {name} was not published: {error}"));
            }
        }
    }

    /// Fails when something that cannot be pinned is not what is in the key any more.
    async fn still_the_same(&self) -> Result<(), Error> {
        for image in &self.prepared.local_images {
            let now = self.engine().await?.inspect(&image.name).await?;
            let now = now.map(|found| ImageIdentity::EngineId(found.id.digest().clone()));
            if now.as_ref() != Some(&image.identity) {
                return Err(Error::Moved(format!("the image {}", image.name)));
            }
        }
        if self.prepared.not_skippable.is_some() {
            return Ok(());
        }
        for (name, digest) in &self.prepared.unpinned {
            let Ok(reference) = name.parse::<Reference>() else { continue };
            let now = self.world.client().resolve(&reference.or_latest()).await?;
            if now.as_ref() != Some(digest) {
                return Err(Error::Moved(format!("the image {name}")));
            }
        }
        let (fetched, mut reasons) = (&self.prepared.slice.remotes, Vec::new());
        let now = remotes::identify(fetched, self.request, self.world, &mut reasons).await;
        if now != self.prepared.inputs.remotes {
            return Err(Error::Moved("something that it fetches with ADD".into()));
        }
        Ok(())
    }

    /// The image that another pipeline published under the key while this one was building: many at
    /// once then end with one image.
    async fn published_meanwhile(
        &self,
        why: &Why,
        home: &Repository,
    ) -> Result<Option<Manifest>, Error> {
        if *why != Why::Missing {
            return Ok(None);
        }
        match publish::find(&self.world.client(), home, &self.sought()).await? {
            Found::Image(manifest) => Ok(Some(manifest)),
            _ => Ok(None),
        }
    }

    /// Has the engine push a name. Engines do not try again what a registry in trouble refused, and
    /// what is there already is not sent twice.
    async fn push_patiently(&self, name: &Reference) -> Result<Digest, Error> {
        let engine = self.world.engine().await?;
        let login = self.world.login(name.host()).await.map_err(registry::Error::from)?;
        let mut pauses = [300, 1000, 3000].into_iter().map(Duration::from_millis);
        let patience = self.world.timeouts().answer * PUSH_PATIENCE;
        loop {
            let watched = Watched::new(self.progress);
            let push = engine.push(name, login.as_ref(), &watched);
            let pushed = watched.until_silent(patience, push).await;
            let pushed = pushed.ok_or_else(|| registry::Error::Timeout {
                action: format!("push {}", name.familiar()),
                host: name.host().to_owned(),
                what: "took nothing from the engine",
                after: patience,
            })?;
            match (pushed, pauses.next()) {
                (Err(error), Some(pause)) if error.may_pass() => {
                    self.world.reporter.detail(|| format!("pushing again: {error}"));
                    tokio::time::sleep(pause).await;
                }
                (result, _) => return Ok(result?),
            }
        }
    }

    /// Pushes the first name, unless the image was pushed while it was built, and points the others
    /// at what was pushed.
    async fn push(&self, made: &Made) -> Result<(Placed, Vec<Tagged>), Error> {
        let Some((first, others)) = self.request.tags.split_first() else {
            return Err(Error::Strict("there is no name to push to".to_owned()));
        };
        let client = self.world.client();
        let pushed = match made {
            Made::Stored(_) => first.repository.pinned(self.push_patiently(first).await?),
            Made::Pushed(pushed) => pushed.clone(),
        };
        let manifest = client.manifest(&pushed).await?;
        let manifest = manifest.ok_or_else(|| {
            Error::Strict(format!("{pushed} was pushed, and the registry does not have it"))
        })?;
        // The engine pushes what the name means at that moment: another build may have moved it.
        if self.prepared.not_skippable.is_none() {
            let platform = self.request.target_platform();
            let config = client.image_config(&first.repository, &manifest, &platform).await?;
            if config.labels.get(Key::LABEL) != Some(&self.prepared.key.to_string()) {
                return Err(Error::Moved(format!("the name {first} in the engine")));
            }
        }
        if let Made::Pushed(_) = made {
            client.put_manifest(&first.repository, &first.target(), &manifest).await?;
        }
        let mut tags = vec![Tagged { reference: first.clone(), change: TagChange::Pushed }];
        tags.extend(publish::point(&client, &first.repository, &manifest, others).await?);
        Ok((Placed { repository: first.repository.clone(), manifest }, tags))
    }

    /// The last step: from here on, others find the image by its key.
    async fn publish_key(
        &self,
        why: &Why,
        home: &Repository,
        image: Placed,
        tags: Vec<Tagged>,
    ) -> Result<(Manifest, Vec<Tagged>), Error> {
        if !why.may_publish_key() {
            return Ok((image.manifest, tags));
        }
        let sign = self.request.sign_key.as_deref();
        let publication = Publication {
            world: self.world,
            home,
            sought: Sought { signed: self.request.verify_key.as_deref().or(sign), ..self.sought() },
            inputs: &*self.prepared.inputs,
            sign,
            names: &self.request.tags,
            yields: *why == Why::Missing,
        };
        publication.settle(image, tags).await
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
