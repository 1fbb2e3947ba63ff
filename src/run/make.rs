//! The engine's part of a run: the image, found in its store, pulled, or built from exactly what was
//! hashed.

use super::{
    Error, Prepared,
    build::{Run, is_ours, key_home},
    located::Located,
    remotes, serve,
    stages::{self, Stage},
};
use crate::{
    engine::{self, BuildRequest, Engine, Exported, ImageId, LocalImage},
    inputs::{ImageIdentity, Key},
    plan::Why,
    registry::{self, Digest, Manifest, Reference, Repository},
    report::Outcome,
};

impl Prepared {
    /// The image that the engine has for exactly this key.
    ///
    /// A label is inherited by images built on top, so the label alone proves nothing: it must have
    /// been set by the last instruction of the image. Where something had to be looked at again when
    /// the image was built, it must have a name, too: it gets that after the look.
    pub(super) async fn find_in(&self, engine: &Engine) -> Result<Option<LocalImage>, Error> {
        let mark = format!("{}={}", Key::LABEL, self.key);
        for image in engine.find_labelled(Key::LABEL, &self.key.to_string()).await? {
            if self.is_looked_at_again() && image.tags.is_empty() {
                continue;
            }
            if engine.last_instruction(&image.id).await?.is_some_and(|last| last.contains(&mark)) {
                return Ok(Some(image));
            }
        }
        Ok(None)
    }

    /// Whether anything counts that cannot be pinned, so that it is looked at again after the build.
    fn is_looked_at_again(&self) -> bool {
        !(self.local_images.is_empty() && self.unpinned.is_empty() && self.slice.remotes.is_empty())
    }
}

/// An image that was built or found, and where it is.
pub(super) enum Made {
    /// In the engine's store, with all its names.
    Stored(LocalImage),
    /// In the registry, and nothing points at it yet.
    Pushed(Reference),
}

impl Made {
    /// What the engine calls it.
    pub(super) fn id(&self) -> Option<Digest> {
        match self {
            Self::Stored(image) => Some(image.id.digest().clone()),
            Self::Pushed(_) => None,
        }
    }
}

impl Run<'_> {
    pub(super) async fn engine(&self) -> Result<&Engine, Error> {
        self.world.engine().await.map_err(|source| Error::NoEngine {
            source,
            why: "It is needed only because the image has to be built; a build that is skipped \
                  needs none",
        })
    }

    /// Has the engine pull an image by its digest, and gives it all its names there.
    pub(super) async fn pull(
        &self,
        home: &Repository,
        manifest: &Manifest,
    ) -> Result<LocalImage, Error> {
        let engine = self.engine().await?;
        let name = home.pinned(manifest.digest.clone());
        let login = self.world.login(home.host()).await.map_err(registry::Error::from)?;
        let platform = self.request.platform();
        engine.pull(&name, platform, login.as_ref(), self.progress).await?;
        let image = engine.inspect(&name.to_string()).await?;
        let image = image.ok_or_else(|| Error::Strict(format!("the engine lost {name}")))?;
        self.name(engine, &image.id).await?;
        Ok(image)
    }

    /// Gives an image all its names in the engine.
    async fn name(&self, engine: &Engine, image: &ImageId) -> Result<(), Error> {
        for name in &self.request.tags {
            engine.tag(image, name).await?;
        }
        Ok(())
    }

    /// The image in the engine's store, where it may be used, with all its names.
    pub(super) async fn stored(
        &self,
        engine: &Engine,
        why: &Why,
    ) -> Result<Option<LocalImage>, Error> {
        if matches!(why, Why::Forced(_) | Why::NotSkippable(_)) {
            return Ok(None);
        }
        let there = self.prepared.find_in(engine).await?;
        if let Some(image) = &there {
            self.name(engine, &image.id).await?;
        }
        Ok(there)
    }

    /// The image, built into the engine's store, with all its names; and the stages that have keys of
    /// their own.
    pub(super) async fn built(&self) -> Result<(LocalImage, Vec<Stage>), Error> {
        let engine = self.engine().await?;
        let (build, stages) = self.build_request().await?;
        let located = self.located(&build);
        let id = engine.build(&build, &located).await.map_err(|error| located.error(error))?;
        self.still_the_same().await?;
        self.name(engine, &id).await?;
        let image = engine.inspect(&id.to_string()).await?;
        let image =
            image.ok_or_else(|| Error::Strict("the engine lost the image it built".into()))?;
        Ok((image, stages))
    }

    /// What the engine is asked to build, and the stages that have keys of their own.
    pub(super) async fn build_request(&self) -> Result<(BuildRequest, Vec<Stage>), Error> {
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

    /// Who listens to the engine while it builds this.
    fn located(&self, build: &BuildRequest) -> Located<'_> {
        Located::new(self.progress, self.request, &self.prepared, build)
    }

    /// What the engine builds from these inputs, to be written into a file.
    pub(super) async fn exported(&self, output: &engine::Output) -> Result<Exported, Error> {
        let (build, _) = self.build_request().await?;
        let located = self.located(&build);
        let exported = self.engine().await?.export(&build, output, &located).await;
        let exported = exported.map_err(|error| located.error(error))?;
        self.still_the_same().await?;
        Ok(exported)
    }

    /// The image, pushed or ready to be.
    pub(super) async fn made(&self, why: &Why) -> Result<(Outcome, Made, Vec<Stage>), Error> {
        let engine = self.engine().await?;
        if let Some(image) = self.stored(engine, why).await? {
            return Ok((Outcome::Local, Made::Stored(image), Vec::new()));
        }
        let direct = !self.request.load && engine.pushes_directly().await?;
        let Some(first) = self.request.tags.first().filter(|_| direct) else {
            let (image, stages) = self.built().await?;
            return Ok((Outcome::Built, Made::Stored(image), stages));
        };
        let (build, stages) = self.build_request().await?;
        let repository = &first.repository;
        let insecure = self.world.is_insecure(repository.host());
        let located = self.located(&build);
        let pushed = engine.build_and_push(&build, repository, insecure, &located).await;
        let digest = pushed.map_err(|error| located.error(error))?;
        self.still_the_same().await?;
        Ok((Outcome::Built, Made::Pushed(repository.pinned(digest)), stages))
    }

    /// The stages that have keys of their own (`--cache-stages`).
    async fn stages(&self) -> Result<Vec<Stage>, Error> {
        match key_home(self.request).filter(|home| !self.request.offline && is_ours(home)) {
            Some(home) => stages::look(self.request, self.world, &self.prepared, &home).await,
            None => Ok(Vec::new()),
        }
    }

    /// Fails when something that cannot be pinned is not what is in the key any more.
    pub(super) async fn still_the_same(&self) -> Result<(), Error> {
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
}
