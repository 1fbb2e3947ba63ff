//! From what was typed, the environment and `smartbuild.toml` to one [`Request`].
//!
//! Knows option names, the settings file and what CI systems put into the environment; must not know
//! engines or registries.

mod assemble;
mod file;
mod names;
mod pairs;
mod refresh;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use assemble::registry_timeout;
pub use docker_credential_aliyun::Environment;
pub use names::repository;
pub use pairs::{OutputKind, OutputSpec, SecretSource, SecretSpec, SshSpec, Ulimit};
pub use refresh::Refresh;

use crate::{
    layer_cache::LayerCache,
    platform::Platform,
    registry::{Reference, Repository, SigningKey},
};

/// Everything that the user wants, checked and complete.
#[derive(Clone, Debug)]
pub struct Request {
    /// The directory whose files the image may copy.
    pub context: PathBuf,
    /// Further directories by the names that the Dockerfile uses for them.
    pub contexts: BTreeMap<String, PathBuf>,
    /// Images by further names that the Dockerfile uses for them.
    pub context_images: BTreeMap<String, String>,
    /// Where the Dockerfile is.
    pub dockerfile: DockerfileSource,
    /// The stage to build; the last one when absent.
    pub target: Option<String>,
    /// The names to give the image.
    pub tags: Vec<Reference>,
    /// Values of build arguments.
    pub build_args: BTreeMap<String, String>,
    /// Labels to set on the image.
    pub labels: BTreeMap<String, String>,
    /// The platforms to build for, sorted; none stands for the host's.
    pub platforms: Vec<Platform>,
    /// What to build with.
    pub engine: EngineKind,
    /// Whether the tags go to the registry.
    pub push: bool,
    /// What is written into a file, beside what is pushed.
    pub output: Option<OutputSpec>,
    /// Whether the engine must have the image at the end, also after a hit in the registry.
    pub load: bool,
    /// Whether bases must come from the registry, never from the engine's store.
    pub pull: bool,
    /// Whether to build whatever the key says, with no layer from the engine's cache.
    pub no_cache: bool,
    /// Where the engine may take layers from.
    pub cache_from: Vec<LayerCache>,
    /// Where the engine leaves its layer cache.
    pub cache_to: Vec<LayerCache>,
    /// What steps may ask of the engine, as BuildKit calls it: `network.host`, `security.insecure`.
    pub allow: Vec<String>,
    /// Stages to build without the engine's layer cache.
    pub no_cache_filter: Vec<String>,
    /// The stages that get images of their own, where any do; all that can when none is named.
    pub cache_stages: Option<Vec<String>>,
    /// Limits of the processes of `RUN`.
    pub ulimits: Vec<Ulimit>,
    /// Secrets that `RUN --mount=type=secret` may read.
    pub secrets: Vec<SecretSpec>,
    /// Agents that `RUN --mount=type=ssh` may use.
    pub ssh: Vec<SshSpec>,
    /// Network of `RUN`: `default`, `none`, `host`.
    pub network: Option<String>,
    /// Further lines of `/etc/hosts` during `RUN`, as `host:address`.
    pub add_host: Vec<String>,
    /// Size of `/dev/shm` during `RUN`, in bytes.
    pub shm_size: Option<u64>,
    /// Which changes of a base count.
    pub base_policy: BasePolicy,
    /// How long an image may go unbuilt although nothing we can see has changed.
    pub refresh: Option<Refresh>,
    /// Whether all permission bits count, not only those that git keeps.
    pub strict_modes: bool,
    /// Whether what is remembered of unchanged files may be used.
    pub stat_cache: bool,
    /// The repository that holds key tags and records, where that is not the image's own.
    pub keys_in: Option<Repository>,
    /// What records are signed with.
    pub sign_key: Option<Arc<SigningKey>>,
    /// What records must be signed with for their images to be believed.
    pub verify_key: Option<Arc<SigningKey>>,
    /// Registries that may be spoken to without TLS or with an unknown certificate.
    pub insecure_registries: Vec<String>,
    /// Whether no registry may be asked.
    pub offline: bool,
    /// Whether a registry that cannot be asked is an error instead of a reason to build.
    pub strict: bool,
    /// How to show the build.
    pub progress: Progress,
    /// Whether stdout gets a report in JSON.
    pub json: bool,
    /// How much to say.
    pub verbosity: Verbosity,
    /// File to write the image's identifier to.
    pub iidfile: Option<PathBuf>,
    /// File to write what buildx calls metadata to.
    pub metadata_file: Option<PathBuf>,
    /// Variables and directories of this process.
    pub environment: Environment,
}

/// Where the text of the Dockerfile comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerfileSource {
    /// A file.
    File(PathBuf),
    /// Standard input (`-f -`).
    Stdin,
}

/// Which changes of a base image count (`--base-policy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BasePolicy {
    /// The digest that the registry gives for its name today.
    #[default]
    Digest,
    /// Its name only: the Dockerfile decides when the base moves.
    Tag,
}

/// What to build with (`--engine`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineKind {
    /// The one that is named; else the Docker Engine, a buildkitd or buildah, whichever is there.
    #[default]
    Auto,
    /// The Docker Engine, or podman's service.
    Docker,
    /// A buildkitd.
    Buildkit,
    /// The program buildah.
    Buildah,
}

/// How a build is shown (`--progress`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Progress {
    /// Live on a terminal, plain elsewhere.
    #[default]
    Auto,
    /// Line by line.
    Plain,
    /// Live.
    Tty,
    /// The engine's events as JSON lines.
    Rawjson,
    /// Nothing but errors.
    Quiet,
}

/// How much is said on stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Errors only.
    Quiet,
    /// What happened and why.
    #[default]
    Normal,
    /// Also how: round trips, files read, times.
    Verbose,
}

/// What the user wants cannot be made out, or contradicts itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option's value is not of its form.
    #[error("{option} {value}: {why}")]
    Option {
        /// The option as typed.
        option: &'static str,
        /// Its value.
        value: String,
        /// What is wrong and what it should look like.
        why: String,
    },
    /// Two options, or an option and its absence, do not go together.
    #[error("{0}")]
    Conflict(String),
    /// The context is no directory that can be read.
    #[error("the build context {path} {why}")]
    Context {
        /// The context as typed.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The settings file cannot be used.
    #[error("{path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column where there is one.
        why: String,
    },
}

impl Error {
    fn option(option: &'static str, value: impl Into<String>, why: impl ToString) -> Self {
        Self::Option { option, value: value.into(), why: why.to_string() }
    }
}

impl Request {
    /// The same build in another directory.
    #[must_use]
    pub fn in_context(&self, context: &Path) -> Self {
        let mut request = self.clone();
        if let DockerfileSource::File(path) = &self.dockerfile {
            let inside = path.strip_prefix(&self.context);
            let moved = inside.map(|inside| context.join(inside));
            request.dockerfile = DockerfileSource::File(moved.unwrap_or_else(|_| path.clone()));
        }
        context.clone_into(&mut request.context);
        request
    }

    /// The platform that was asked for, the first where there are several.
    #[must_use]
    pub fn platform(&self) -> Option<&Platform> {
        self.platforms.first()
    }

    /// The platform that the image is for.
    #[must_use]
    pub fn target_platform(&self) -> Platform {
        self.platform().cloned().unwrap_or_else(Platform::host)
    }

    /// The builds that it takes: one for each platform.
    #[must_use]
    pub fn for_each_platform(&self) -> Vec<Self> {
        if self.platforms.is_empty() {
            return vec![self.clone()];
        }
        let one = |platform: &Platform| {
            let mut request = Self { platforms: vec![platform.clone()], ..self.clone() };
            if self.platforms.len() > 1 {
                let sources = self.cache_from.iter().flat_map(|cache| cache.sources_of(platform));
                request.cache_from = sources.collect();
                let destinations = self.cache_to.iter().map(|cache| cache.destination_of(platform));
                request.cache_to = destinations.collect();
            }
            request
        };
        self.platforms.iter().map(one).collect()
    }

    /// Whether the image is wanted in the engine's store, so that it is called there what the engine
    /// calls it.
    #[must_use]
    pub fn is_for_the_engine(&self) -> bool {
        self.load || !self.push
    }

    /// The option that asks for a build whatever is there already, if one was given.
    #[must_use]
    pub fn forced(&self) -> Option<&'static str> {
        if self.no_cache {
            Some("--no-cache")
        } else if self.no_cache_filter.is_empty() {
            None
        } else {
            Some("--no-cache-filter")
        }
    }

    /// How the Dockerfile is called in messages.
    #[must_use]
    pub fn dockerfile_name(&self) -> String {
        match &self.dockerfile {
            DockerfileSource::File(path) => {
                path.strip_prefix(".").unwrap_or(path).display().to_string()
            }
            DockerfileSource::Stdin => "the Dockerfile on stdin".to_owned(),
        }
    }
}

/// The value of a variable, which has to be text.
fn text<'e>(environment: &'e Environment, name: &'static str) -> Result<Option<&'e str>, Error> {
    environment.var(name).map_err(|error| Error::Conflict(error.to_string()))
}

#[cfg(test)]
mod tests;
