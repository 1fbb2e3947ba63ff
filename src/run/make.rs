//! The engine's part of a run: the image, found in its store, pulled, or built from exactly what was
//! hashed.

use super::{
    Error,
    build::{Run, is_ours, key_home},
    remotes, serve,
    stages::{self, Stage},
};
use crate::{
    engine::{BuildRequest, Engine, LocalImage},
    inputs::{ImageIdentity, Key},
    plan::Why,
    registry::{self, Digest, Manifest, Reference, Repository},
    report::Outcome,
};

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
        for name in &self.request.tags {
            engine.tag(&image.id, name).await?;
        }
        Ok(image)
    }

    /// The image in the engine's store with all its names, found there or built; then also the
    /// stages that have keys of their own.
    pub(super) async fn image(
        &self,
        why: &Why,
    ) -> Result<(Outcome, LocalImage, Vec<Stage>), Error> {
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

    /// The image, pushed or ready to be.
    pub(super) async fn made(&self, why: &Why) -> Result<(Outcome, Made, Vec<Stage>), Error> {
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
    pub(super) async fn is_in(&self, engine: &Engine, why: &Why) -> Result<bool, Error> {
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
