//! The registry's part of a run that has built: names, stages, the record, and the key's tag last.

use std::time::Duration;

use super::{
    Error,
    build::Run,
    make::Made,
    publish::{self, Sought},
    settle::{Placed, Publication},
    stages::{self, Stage},
    watched::Watched,
};
use crate::{
    inputs::Key,
    plan::{Found, Why},
    registry::{self, Digest, Manifest, Reference, Repository},
    report::{TagChange, Tagged},
};

/// How many times as long as a registry of ours may be silent it may be towards an engine: engines
/// wait without end, and repeat on their own what fails.
const PUSH_PATIENCE: u32 = 15;

impl Run<'_> {
    /// The image that another pipeline published under the key while this one was building: many at
    /// once then end with one image.
    pub(super) async fn published_meanwhile(
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
    pub(super) async fn push(&self, made: &Made) -> Result<(Placed, Vec<Tagged>), Error> {
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
        let platform = self.request.target_platform();
        let config = client.image_config(&first.repository, &manifest, &platform).await?;
        if self.prepared.not_skippable.is_none()
            && config.labels.get(Key::LABEL) != Some(&self.prepared.key.to_string())
        {
            return Err(Error::Moved(format!("the name {first} in the engine")));
        }
        if config.platform() != platform {
            return Err(Error::Strict(format!(
                "the engine built for {}, and {platform} was asked for: use an engine that can, or \
                 another --platform",
                config.platform()
            )));
        }
        if let Made::Pushed(_) = made {
            client.put_manifest(&first.repository, &first.target(), &manifest).await?;
        }
        let mut tags = vec![Tagged { reference: first.clone(), change: TagChange::Pushed }];
        tags.extend(publish::point(&client, &first.repository, &manifest, others).await?);
        Ok((Placed { repository: first.repository.clone(), manifest }, tags))
    }

    /// The last step: from here on, others find the image by its key.
    pub(super) async fn publish_key(
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
            inputs: &self.prepared.inputs.hiding(&self.prepared.build_args),
            sign,
            names: &self.request.tags,
            yields: *why == Why::Missing,
        };
        publication.settle(image, tags).await
    }

    /// Pushes the stages that were built, under their keys: the engine has all their steps now. That
    /// the image is there does not depend on it.
    pub(super) async fn publish_stages(&self, stages: Vec<Stage>) {
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
}
