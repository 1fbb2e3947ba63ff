//! The engine: dialing, images, builds, push and pull, and what happens meanwhile.
//!
//! Knows the Docker Engine's API, BuildKit's session, the classic builder and buildah. Must not know
//! what a key is, or why something is built.
//!
//! | module | knows |
//! |---|---|
//! | `endpoint` | where the engine is |
//! | `find` | which engine to take where several may be there |
//! | `dial`, `piped`, `http` | connections and requests |
//! | `daemon` | a Docker Engine, or podman's |
//! | `images` | what its store holds, tag, push, pull |
//! | `build` | what is built, and why it could not be |
//! | `context` | the files that an engine is served, and the times they get |
//! | `buildkit` | the session: files, logins, secrets and agents, served to BuildKit |
//! | `classic` | the builder before BuildKit, and podman's |
//! | `output`, `unpack` | what a build is written into instead of a store |
//! | `buildah` | the program that builds where there is no engine |
//! | `ssh` | agents that steps may use |
//! | `scratch` | directories for what a program has to find in files |
//! | `progress` | what there is to tell meanwhile |

mod build;
mod buildah;
mod buildkit;
mod classic;
mod context;
mod daemon;
mod dial;
mod endpoint;
mod error;
mod find;
mod history;
mod http;
mod images;
mod layout;
mod log;
mod output;
mod piped;
mod progress;
mod scratch;
mod ssh;
#[cfg(unix)]
mod unpack;

pub use build::{BuildError, BuildRequest, SecretSource, Ulimit};
pub use context::Context;
pub use daemon::Capabilities;
pub use endpoint::{Address, Endpoint, EndpointError, SshAddress, Tls};
pub use error::Error;
pub use find::{Choice, Search};
pub use images::{ImageId, LocalImage};
pub use log::Log;
pub use output::{Exported, Output, OutputKind};
pub use progress::{Amount, Event, Progress, Silent, StepId, Stream};
pub use ssh::SshAgent;

use self::{
    buildah::Buildah,
    buildkit::{Buildkitd, Place},
    daemon::Daemon,
};
use crate::{
    credentials::Login,
    platform::Platform,
    registry::{Digest, Reference, Repository},
};

/// What builds images and, but for a `buildkitd`, has a store for them.
#[derive(Clone)]
pub struct Engine(Kind);

#[derive(Clone)]
enum Kind {
    Docker(Daemon),
    BuildKit(Buildkitd),
    Buildah(Buildah),
}

/// Which engine it is, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its name: `Docker Engine`, `Podman Engine`, `buildah`.
    pub name: String,
    /// Its version: `28.2.2`.
    pub version: String,
    /// What it runs on, as it is written: `linux/amd64`.
    pub platform: String,
    /// Whether images are kept in containerd's store, which knows indexes and attestations.
    pub containerd_store: bool,
}

impl Engine {
    /// Contacts the Docker Engine at `endpoint` and learns what it can do.
    ///
    /// # Errors
    /// When nobody answers there, or what answers is no engine.
    pub async fn connect(endpoint: &Endpoint) -> Result<Self, Error> {
        Daemon::connect(endpoint).await.map(|daemon| Self(Kind::Docker(daemon)))
    }

    /// Contacts the `buildkitd` at `endpoint` and learns what it can do.
    ///
    /// # Errors
    /// When nobody answers there.
    pub async fn buildkitd(endpoint: &Endpoint) -> Result<Self, Error> {
        Buildkitd::connect(endpoint).await.map(|buildkitd| Self(Kind::BuildKit(buildkitd)))
    }

    /// The program `buildah`, to which these registries are not encrypted.
    ///
    /// # Errors
    /// When it is not installed, or cannot work here.
    pub async fn buildah(insecure: &[String]) -> Result<Self, Error> {
        Buildah::find(insecure).await.map(|buildah| Self(Kind::Buildah(buildah)))
    }

    /// What a Docker Engine can do.
    #[must_use]
    pub fn capabilities(&self) -> Option<&Capabilities> {
        match &self.0 {
            Kind::Docker(daemon) => Some(&daemon.capabilities),
            Kind::BuildKit(_) | Kind::Buildah(_) => None,
        }
    }

    /// The same engine, with the classic builder even if it has BuildKit.
    #[must_use]
    pub fn without_buildkit(mut self) -> Self {
        if let Kind::Docker(daemon) = &mut self.0 {
            daemon.capabilities.buildkit = false;
        }
        self
    }

    /// Which engine it is.
    ///
    /// # Errors
    /// When it does not say.
    pub async fn version(&self) -> Result<Version, Error> {
        match &self.0 {
            Kind::Docker(daemon) => daemon.version().await,
            Kind::BuildKit(buildkitd) => Ok(buildkitd.version()),
            Kind::Buildah(buildah) => Ok(buildah.version()),
        }
    }

    /// Where it is; `None` for a program.
    #[must_use]
    pub fn endpoint(&self) -> Option<&Endpoint> {
        match &self.0 {
            Kind::Docker(daemon) => Some(&daemon.http.endpoint),
            Kind::BuildKit(buildkitd) => Some(buildkitd.endpoint()),
            Kind::Buildah(_) => None,
        }
    }

    /// What it can do beyond building and pushing an image, for people. `version` is what it said of
    /// itself.
    #[must_use]
    pub fn abilities(&self, version: &Version) -> Vec<&'static str> {
        const BUILDKIT: [&str; 3] = ["secrets", "SSH agents", "named contexts"];
        let old = self.capabilities().is_some_and(|engine| !engine.knows_contexts());
        let (most, oci) = match &self.0 {
            Kind::BuildKit(_) => (true, true),
            Kind::Docker(daemon) => (daemon.capabilities.buildkit, version.containerd_store),
            Kind::Buildah(_) => return [&BUILDKIT[..], &["--output local, tar, oci"]].concat(),
        };
        if !most {
            return vec!["what the builder before BuildKit can"];
        }
        let rest: &[&str] = if oci {
            &["--cache-to inline, registry", "--output local, tar, oci", "push while building"]
        } else {
            &["--cache-to inline", "--output local, tar"]
        };
        let known = if old { &BUILDKIT[..2] } else { &BUILDKIT[..] };
        [known, rest].concat()
    }

    /// Whether it keeps the images that it builds.
    #[must_use]
    pub fn keeps_images(&self) -> bool {
        !matches!(self.0, Kind::BuildKit(_))
    }

    /// Whether it can push while it builds, past any store: [`Engine::build_and_push`].
    ///
    /// # Errors
    /// When the engine does not say.
    pub async fn pushes_directly(&self) -> Result<bool, Error> {
        match &self.0 {
            Kind::BuildKit(_) => Ok(true),
            Kind::Docker(daemon) if daemon.capabilities.buildkit => {
                daemon.has_containerd_store().await
            }
            Kind::Docker(_) | Kind::Buildah(_) => Ok(false),
        }
    }

    /// Builds an image and pushes it into a repository under its digest alone, which it gives. The
    /// registry may go without encryption if it is `insecure`.
    ///
    /// # Errors
    /// As [`Engine::build`], and when the registry refuses.
    pub async fn build_and_push(
        &self,
        request: &BuildRequest,
        repository: &Repository,
        insecure: bool,
        progress: &dyn Progress,
    ) -> Result<Digest, BuildError> {
        let place = match &self.0 {
            Kind::BuildKit(buildkitd) => Place::Daemon(buildkitd),
            Kind::Docker(daemon) => Place::Engine(&daemon.http, &daemon.capabilities),
            Kind::Buildah(_) => return Err(unsupported("and push it past its store")),
        };
        buildkit::push(place, request, repository, insecure, progress).await
    }

    /// Builds what is to be written into a file or a directory, but for that.
    ///
    /// # Errors
    /// As [`Engine::build`], and when there is no room for it.
    pub async fn export(
        &self,
        request: &BuildRequest,
        output: &Output,
        progress: &dyn Progress,
    ) -> Result<Exported, BuildError> {
        match &self.0 {
            Kind::BuildKit(buildkitd) => {
                buildkit::export(Place::Daemon(buildkitd), request, output, progress).await
            }
            Kind::Docker(daemon) => daemon.export(request, output, progress).await,
            Kind::Buildah(buildah) => buildah.export(request, output, progress).await,
        }
    }

    /// Builds an image with exactly the inputs of `request`, and tags it.
    ///
    /// Dropping the future cancels the build in the engine.
    ///
    /// # Errors
    /// When the build fails, is not possible on this engine, or its inputs changed under way.
    pub async fn build(
        &self,
        request: &BuildRequest,
        progress: &dyn Progress,
    ) -> Result<ImageId, BuildError> {
        match &self.0 {
            Kind::Docker(daemon) => daemon.build(request, progress).await,
            Kind::BuildKit(_) => Err(unsupported("into a store, for it has none")),
            Kind::Buildah(buildah) => buildah.build(request, progress).await,
        }
    }

    /// The images in the store that have a label of that value.
    ///
    /// # Errors
    /// When the engine does not say.
    pub async fn find_labelled(&self, label: &str, value: &str) -> Result<Vec<LocalImage>, Error> {
        match &self.0 {
            Kind::Docker(daemon) => daemon.find_labelled(label, value).await,
            Kind::BuildKit(_) => Ok(Vec::new()),
            Kind::Buildah(buildah) => buildah.find_labelled(label, value).await,
        }
    }

    /// The last instruction that made an image, as the engine's builder wrote it down, without the
    /// quotes that some put around words. `None` if the image has no history, or is gone.
    ///
    /// # Errors
    /// When the engine does not say.
    pub async fn last_instruction(&self, image: &ImageId) -> Result<Option<String>, Error> {
        let last = match &self.0 {
            Kind::Docker(daemon) => daemon.last_instruction(image).await,
            Kind::BuildKit(_) => Ok(None),
            Kind::Buildah(buildah) => buildah.last_instruction(image).await,
        };
        last.map(|last| last.map(|instruction| instruction.replace('"', "")))
    }

    /// The image of a reference or identifier; `None` if the store does not have it.
    ///
    /// # Errors
    /// When the engine does not say.
    pub async fn inspect(&self, name: &str) -> Result<Option<LocalImage>, Error> {
        match &self.0 {
            Kind::Docker(daemon) => daemon.inspect(name).await,
            Kind::BuildKit(_) => Ok(None),
            Kind::Buildah(buildah) => buildah.inspect(name).await,
        }
    }

    /// Gives an image another name.
    ///
    /// # Errors
    /// When the engine refuses, for example because the image is gone.
    pub async fn tag(&self, image: &ImageId, name: &Reference) -> Result<(), Error> {
        match &self.0 {
            Kind::Docker(daemon) => daemon.tag(image, name).await,
            Kind::BuildKit(_) => Err(no_store(format!("tag the image as {name}"))),
            Kind::Buildah(buildah) => buildah.tag(image, name).await,
        }
    }

    /// Removes a name, and the image with it if it was the last one. That there is no such image
    /// is no error.
    ///
    /// # Errors
    /// When the engine refuses, for example because a container uses it.
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        match &self.0 {
            Kind::Docker(daemon) => daemon.remove(name).await,
            Kind::BuildKit(_) => Err(no_store(format!("remove the image {name}"))),
            Kind::Buildah(buildah) => buildah.remove(name).await,
        }
    }

    /// Pulls an image into the store.
    ///
    /// # Errors
    /// When the engine or the registry refuses.
    pub async fn pull(
        &self,
        image: &Reference,
        platform: Option<&Platform>,
        login: Option<&Login>,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        match &self.0 {
            Kind::Docker(daemon) => daemon.pull(image, platform, login, progress).await,
            Kind::BuildKit(_) => Err(no_store(format!("pull {image}"))),
            Kind::Buildah(buildah) => buildah.pull(image, platform, login).await,
        }
    }

    /// Pushes the image that the store has under `name`, and gives the digest of the manifest that
    /// the registry now has under it.
    ///
    /// # Errors
    /// When the engine or the registry refuses.
    pub async fn push(
        &self,
        name: &Reference,
        login: Option<&Login>,
        progress: &dyn Progress,
    ) -> Result<Digest, Error> {
        match &self.0 {
            Kind::Docker(daemon) => daemon.push(name, login, progress).await,
            Kind::BuildKit(_) => Err(no_store(format!("push {name}"))),
            Kind::Buildah(buildah) => buildah.push(name, login).await,
        }
    }
}

/// What a `buildkitd` is asked for that only a store could do.
fn no_store(action: String) -> Error {
    Error::Failed { action, message: "a buildkitd keeps no images; use a Docker Engine".to_owned() }
}

fn unsupported(what: &str) -> BuildError {
    let why = "use another engine, or ask for something else (--push, --output)".to_owned();
    BuildError::Unsupported { what: format!("an image {what}"), why }
}
