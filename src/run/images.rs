//! What the images that a build reads are: digests for the key, configurations for the slice.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use futures_util::future::join_all;

use super::{Error, World, publish::may_pass};
use crate::{
    dockerfile::{BaseImage, Frontend, ImageKey, ImageUse, Role},
    engine::{self, LocalImage},
    inputs::{Image, ImageIdentity},
    platform::Platform,
    registry::{self, Digest, ImageConfig, Reference},
    settings::{BasePolicy, Request},
};

/// The images found so far in this run.
pub(super) struct Found<'a> {
    request: &'a Request,
    world: &'a World,
    images: BTreeMap<ImageKey, Resolved>,
    /// What named contexts stand for.
    contexts: BTreeSet<ImageKey>,
    frontend: Option<(Frontend, Digest)>,
}

/// What an image was found to be.
#[derive(Clone, Debug)]
struct Resolved {
    identity: ImageIdentity,
    /// What to pin it to in the Dockerfile that is served.
    pin: Option<Digest>,
    /// Its configuration, where it was asked for.
    base: Option<BaseImage>,
    /// Why it is the engine's, where the registry should have been asked and could not be.
    warning: Option<String>,
}

impl<'a> Found<'a> {
    pub(super) fn new(request: &'a Request, world: &'a World) -> Self {
        let (images, contexts) = (BTreeMap::new(), BTreeSet::new());
        Self { request, world, images, contexts, frontend: None }
    }

    /// Finds every image of `uses` that is not known yet, all at once.
    pub(super) async fn uses(&mut self, uses: &[ImageUse]) -> Result<(), Error> {
        let in_contexts = uses.iter().filter(|image| image.context.is_some());
        self.contexts.extend(in_contexts.map(|image| image.key.clone()));
        let mut missing: BTreeMap<&ImageKey, bool> = BTreeMap::new();
        for image in uses.iter().filter(|image| image.context.is_none()) {
            if !self.images.contains_key(&image.key) {
                *missing.entry(&image.key).or_default() |= image.role == Role::Base;
            }
        }
        let searches = missing.into_iter().map(|(key, is_base)| {
            let this = &*self;
            async move { Ok::<_, Error>((key.clone(), this.resolve(key, is_base).await?)) }
        });
        for found in join_all(searches).await {
            let (key, resolved) = found?;
            if let Entry::Vacant(place) = self.images.entry(key) {
                place.insert(resolved);
            }
        }
        Ok(())
    }

    /// Finds the frontend; one that cannot be found makes the build not skippable.
    pub(super) async fn frontend(&mut self, frontend: &Frontend, reasons: &mut Vec<String>) {
        let found = match frontend.image.parse::<Reference>() {
            Ok(reference) => match reference.digest.clone() {
                Some(digest) => Ok(Some(digest)),
                None if self.request.offline => Err("no registry is asked (--offline)".to_owned()),
                None => self
                    .world
                    .client()
                    .resolve(&reference.or_latest())
                    .await
                    .map_err(|e| e.to_string()),
            },
            Err(error) => Err(error.to_string()),
        };
        match found {
            Ok(Some(digest)) => self.frontend = Some((frontend.clone(), digest)),
            Ok(None) => {
                reasons.push(format!("its frontend {} is not in the registry", frontend.image));
            }
            Err(error) => {
                reasons
                    .push(format!("its frontend {} could not be found: {error}", frontend.image));
            }
        }
    }

    async fn resolve(&self, key: &ImageKey, is_base: bool) -> Result<Resolved, Error> {
        let reference: Reference = key
            .name
            .parse()
            .map_err(|source| Error::ImageName { name: key.name.clone(), source })?;
        let reference = reference.or_latest();
        let answer = if self.request.offline {
            Ok(None)
        } else {
            self.ask_registry(&reference, &key.platform, is_base).await
        };
        let fault = |source| Error::Base { name: key.name.clone(), source: Box::new(source) };
        match answer {
            Ok(Some(resolved)) => Ok(resolved),
            Err(error) if !self.may_be_in_engine(&reference, &error) => Err(fault(error)),
            answer => match (self.ask_engine(key).await, answer) {
                (Ok(Some(image)), answer) => {
                    let warning = answer.err().filter(|error| !is_absent(&reference, error));
                    let warning = warning.map(|error| {
                        format!("{} is the one that the engine has, for {error}", key.name)
                    });
                    Ok(Resolved { warning, ..self.local(key, &image) })
                }
                (_, Err(source)) => Err(fault(source)),
                (Ok(None), _) => Err(Error::NoBase { name: key.name.clone(), engine: "" }),
                (Err(_), _) => Err(Error::NoBase {
                    name: key.name.clone(),
                    engine: "; an engine, which may have it, does not answer",
                }),
            },
        }
    }

    /// Whether the engine may have the image although its registry gave an error: where that says that
    /// the image is not there or, with less strictness, may well be another one in a minute. A login
    /// that is refused or broken is for the user to mend.
    fn may_be_in_engine(&self, reference: &Reference, error: &registry::Error) -> bool {
        use registry::Error as E;
        let passes = matches!(error, E::UnknownHost { .. } | E::Connect { .. }) || may_pass(error);
        is_absent(reference, error) || passes && !self.request.strict
    }

    async fn ask_registry(
        &self,
        reference: &Reference,
        platform: &Platform,
        is_base: bool,
    ) -> Result<Option<Resolved>, registry::Error> {
        let client = self.world.client();
        let by_name = self.request.base_policy == BasePolicy::Tag && reference.digest.is_none();
        let (digest, base) = if is_base {
            let Some(manifest) = self.world.base(reference).await? else { return Ok(None) };
            let remembered = self.world.bases();
            let known = remembered.as_ref().and_then(|r| r.get(&manifest.digest, platform));
            let base = match known {
                Some(base) => base,
                None => {
                    let index = manifest.index();
                    let own = index
                        .map_or_else(|| platform.clone(), |index| index.base_platform(platform));
                    let config =
                        client.image_config(&reference.repository, &manifest, &own).await?;
                    let base = base_image(&config);
                    if let Some(remembered) = remembered {
                        remembered.put(&manifest.digest, platform, &base);
                    }
                    base
                }
            };
            (manifest.digest, Some(base))
        } else if let Some(digest) = &reference.digest {
            (digest.clone(), None)
        } else {
            let Some(digest) = client.resolve(reference).await? else { return Ok(None) };
            (digest, None)
        };
        let identity =
            if by_name { ImageIdentity::NameOnly } else { ImageIdentity::Digest(digest.clone()) };
        Ok(Some(Resolved { identity, pin: Some(digest), base, warning: None }))
    }

    /// The image in the engine's store, where an engine answers and may be asked.
    async fn ask_engine(&self, key: &ImageKey) -> Result<Option<LocalImage>, engine::Error> {
        if self.request.pull {
            return Ok(None);
        }
        self.world.engine().await?.inspect(&key.name).await
    }

    fn local(&self, key: &ImageKey, image: &LocalImage) -> Resolved {
        self.world.reporter.detail(|| {
            format!("{} is in the engine only: its identifier {} is in the key", key.name, image.id)
        });
        let env = image.environment.iter().map(|line| variable(line)).collect();
        let base = BaseImage { env, onbuild: image.on_build.clone() };
        Resolved {
            identity: ImageIdentity::EngineId(image.id.digest().clone()),
            pin: None,
            base: Some(base),
            warning: None,
        }
    }

    /// What a person should know of where the images came from.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        self.images.values().filter_map(|image| image.warning.clone())
    }

    /// The configurations of the bases, for the slice. A directory that takes the place of an image
    /// has none: no environment, no triggers.
    pub(super) fn bases(&self) -> BTreeMap<ImageKey, BaseImage> {
        let known = self.images.iter();
        let known = known.filter_map(|(key, found)| Some((key.clone(), found.base.clone()?)));
        let empty = self.contexts.iter().map(|key| (key.clone(), BaseImage::default()));
        known.chain(empty).collect()
    }

    /// The uses of images, with what to pin them to, where that can be done.
    pub(super) fn pins<'u>(&self, uses: &'u [ImageUse]) -> Vec<(&'u ImageUse, Option<String>)> {
        let pin = |image: &'u ImageUse| {
            let found = self.images.get(&image.key)?;
            Some((image, found.pin.as_ref().map(Digest::to_string)))
        };
        uses.iter().filter_map(pin).collect()
    }

    /// The uses that cannot be pinned, with what they were found to be.
    pub(super) fn unpinned(&self, uses: &[ImageUse]) -> Vec<(String, Digest)> {
        let unpinned = |image: &ImageUse| {
            let digest = self.images.get(&image.key)?.pin.clone()?;
            let loose =
                image.end.is_none() && image.replaced.is_none() && !image.key.name.contains('@');
            loose.then(|| (image.key.name.clone(), digest))
        };
        uses.iter().filter_map(unpinned).collect()
    }

    /// The frontend, with what to pin it to.
    pub(super) fn frontend_pin(&self) -> Option<(&Frontend, String)> {
        self.frontend.as_ref().map(|(frontend, digest)| (frontend, digest.to_string()))
    }

    /// The hosts of the registries that the images are in.
    pub(super) fn registries(&self) -> BTreeSet<String> {
        let references = self.images.keys().filter_map(|key| key.name.parse::<Reference>().ok());
        references.map(|reference| reference.host().to_owned()).collect()
    }

    /// The images as inputs.
    pub(super) fn into_inputs(self) -> Vec<Image> {
        let target = self.request.target_platform();
        let image = |(key, found): (ImageKey, Resolved)| Image {
            name: key.name,
            platform: (key.platform != target).then_some(key.platform),
            identity: found.identity,
        };
        let frontend = self.frontend.into_iter().map(|(frontend, digest)| Image {
            name: format!("# syntax={}", frontend.image),
            platform: None,
            identity: ImageIdentity::Digest(digest),
        });
        let mut images: Vec<Image> = self.images.into_iter().map(image).chain(frontend).collect();
        images.sort();
        images.dedup();
        images
    }
}

/// Whether an error is a registry's way to say that it does not have an image. Docker Hub does not tell
/// strangers what is private from what is not there, and asks who may not see it to log in.
fn is_absent(reference: &Reference, error: &registry::Error) -> bool {
    use registry::Error as E;
    let hidden = matches!(error, E::Denied { .. })
        || matches!(error, E::Unauthorized { who, .. } if **who == registry::Who::Nobody);
    matches!(error, E::NotFound { .. } | E::NoPlatform { .. })
        || hidden && reference.host() == "docker.io"
}

fn base_image(config: &ImageConfig) -> BaseImage {
    BaseImage {
        env: config.env.iter().map(|line| variable(line)).collect(),
        onbuild: config.onbuild.clone(),
    }
}

fn variable(line: &str) -> (String, String) {
    let (name, value) = line.split_once('=').unwrap_or((line, ""));
    (name.to_owned(), value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{Error as E, Who};

    #[test]
    fn only_what_says_so_is_absent() {
        let (action, host, message) = (String::new(), String::new(), String::new());
        let user = || Who::User { name: "ci".into(), origin: String::new() };
        let unauthorized = |who| E::Unauthorized {
            action: action.clone(),
            host: host.clone(),
            who: Box::new(who),
            message: message.clone(),
        };
        let is = |name: &str, error: &E| is_absent(&name.parse().unwrap(), error);
        assert!(is("mine", &unauthorized(Who::Nobody)));
        assert!(is("docker.io/team/mine:1", &unauthorized(Who::Nobody)));
        assert!(!is("mine", &unauthorized(user())), "a login that is refused");
        assert!(!is("r.example/mine", &unauthorized(Who::Nobody)));
        let missing =
            E::NotFound { action: action.clone(), host: host.clone(), message: message.clone() };
        assert!(is("r.example/mine", &missing));
        assert!(!is("mine", &E::Connect { action, host, reason: String::new() }));
    }
}
