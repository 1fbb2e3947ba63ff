//! The engine: dialing, images, builds, push and pull, and what happens meanwhile.
//!
//! Knows the Docker Engine's API, BuildKit's session, the classic builder and buildah. Must not know
//! what a key is, or why something is built.
//!
//! | module | knows |
//! |---|---|
//! | `endpoint` | where the engine is |
//! | `find` | which engine to take where several may be there |
//! | `dial`, `http` | connections and requests |
//! | `daemon` | a Docker Engine, or podman's |
//! | `images` | what its store holds, tag, push, pull |
//! | `build` | what is built, and why it could not be |
//! | `context` | the files that an engine is served, and the times they get |
//! | `buildkit` | the session: files, logins, secrets and agents, served to BuildKit |
//! | `classic` | the builder before BuildKit, and podman's |
//! | `buildah` | the program that builds where there is no engine |
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
mod log;
mod progress;

pub use build::{BuildError, BuildRequest, SecretSource, Ulimit};
pub use context::Context;
pub use daemon::Capabilities;
pub use endpoint::{Address, Endpoint, EndpointError, SshAddress, Tls};
pub use error::Error;
pub use find::{Choice, Search};
pub use images::{ImageId, LocalImage};
pub use log::Log;
pub use progress::{Amount, Event, Progress, Silent, StepId, Stream};

use self::{buildah::Buildah, daemon::Daemon};
use crate::{
    credentials::Login,
    platform::Platform,
    registry::{Digest, Reference},
};

/// What builds images, and has a store for them.
#[derive(Clone)]
pub struct Engine(Kind);

#[derive(Clone)]
enum Kind {
    Docker(Daemon),
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
            Kind::Buildah(_) => None,
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
            Kind::Buildah(buildah) => Ok(buildah.version()),
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
            Kind::Buildah(buildah) => buildah.push(name, login).await,
        }
    }
}
