//! What is to be built, and why it could not be.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
};

use docker_credential_aliyun::secret::Secret;
use tokio::{io::AsyncReadExt as _, process::Command, task::spawn_blocking};

use super::{SshAgent, context::Context, error::Error, piped::last_words};
use crate::{
    context::{Change, Changed},
    credentials::Logins,
    dockerfile::{Feature, Location},
    layer_cache::LayerCache,
    platform::Platform,
    registry::Reference,
};

/// An image to be built.
pub struct BuildRequest {
    /// The Dockerfile's text, with its bases pinned.
    pub dockerfile: Vec<u8>,
    /// What it is called in messages; a name without directories.
    pub dockerfile_name: String,
    /// The files that it can read.
    pub context: Context,
    /// Other directories that it can read, by the names that it has for them.
    pub contexts: BTreeMap<String, Context>,
    /// The names that the image gets.
    pub tags: Vec<Reference>,
    /// The stage to build; `None` for the last one.
    pub target: Option<String>,
    /// Build arguments.
    pub build_args: BTreeMap<String, String>,
    /// Labels that are added to those of the Dockerfile.
    pub labels: BTreeMap<String, String>,
    /// What to build for; `None` for what the engine runs on.
    pub platform: Option<Platform>,
    /// Whether to run steps that the engine has the result of.
    pub no_cache: bool,
    /// Whether to ask the registry for bases that the engine has.
    pub pull: bool,
    /// Stages whose steps are run even if the engine has their results.
    pub no_cache_filter: Vec<String>,
    /// Caches that may be used.
    pub cache_from: Vec<LayerCache>,
    /// Where to leave the cache.
    pub cache_to: Vec<LayerCache>,
    /// What steps may ask of the engine, as BuildKit calls it: `network.host`, `security.insecure`.
    pub allow: Vec<String>,
    /// The network of `RUN`: `default`, `none` or `host`.
    pub network: Option<String>,
    /// Lines for `/etc/hosts`, `name:address` each.
    pub add_hosts: Vec<String>,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: Option<u64>,
    /// Limits of processes.
    pub ulimits: Vec<Ulimit>,
    /// What `RUN --mount=type=secret` may read, by its id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// The agents that `RUN --mount=type=ssh` may use, by their ids.
    pub ssh: BTreeMap<String, SshAgent>,
    /// The hosts of the registries that the bases are in. An engine without BuildKit has to be
    /// told the logins beforehand.
    pub registries: BTreeSet<String>,
    /// Who knows the logins for the registries of the bases.
    pub logins: Arc<dyn Logins>,
    /// The latest time that a file may have, in seconds since 1970.
    pub source_date_epoch: Option<i64>,
    /// What of the Dockerfile not every engine can do.
    pub needs_buildkit: BTreeSet<Feature>,
}

impl BuildRequest {
    /// A build of `dockerfile` with nothing else asked for.
    #[must_use]
    pub fn new(dockerfile: Vec<u8>, context: Context, logins: Arc<dyn Logins>) -> Self {
        Self {
            dockerfile,
            dockerfile_name: "Dockerfile".to_owned(),
            context,
            contexts: BTreeMap::new(),
            tags: Vec::new(),
            target: None,
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            platform: None,
            no_cache: false,
            pull: false,
            no_cache_filter: Vec::new(),
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            allow: Vec::new(),
            network: None,
            add_hosts: Vec::new(),
            shm_size: None,
            ulimits: Vec::new(),
            secrets: BTreeMap::new(),
            ssh: BTreeMap::new(),
            registries: BTreeSet::new(),
            logins,
            source_date_epoch: None,
            needs_buildkit: BTreeSet::new(),
        }
    }

    /// The parameters of the engine's `/build` that both builders understand (moby
    /// `api/server/router/build/build_routes.go`: `newImageBuildOptions`).
    pub(super) fn parameters(&self, dockerfile: &str) -> Vec<(&'static str, String)> {
        let mut parameters = vec![("dockerfile", dockerfile.to_owned())];
        let mut add = |name, value| parameters.push((name, value));
        for tag in &self.tags {
            add("t", tag.to_string());
        }
        for host in &self.add_hosts {
            add("extrahosts", host.clone());
        }
        let maps = [("buildargs", &self.build_args), ("labels", &self.labels)];
        for (name, map) in maps.into_iter().filter(|(_, map)| !map.is_empty()) {
            add(name, serde_json::json!(map).to_string());
        }
        let caches: Vec<_> =
            self.cache_from.iter().filter_map(LayerCache::bare_reference).collect();
        if !caches.is_empty() {
            add("cachefrom", serde_json::json!(caches).to_string());
        }
        if !self.ulimits.is_empty() {
            let limits: Vec<_> = self.ulimits.iter().map(Ulimit::json).collect();
            add("ulimits", serde_json::json!(limits).to_string());
        }
        let texts = [
            ("target", self.target.clone()),
            ("networkmode", self.network.clone()),
            ("platform", self.platform.as_ref().map(ToString::to_string)),
            ("shmsize", self.shm_size.map(|size| size.to_string())),
            ("nocache", self.no_cache.then(|| "1".to_owned())),
            ("pull", self.pull.then(|| "1".to_owned())),
        ];
        for (name, value) in texts {
            if let Some(value) = value {
                add(name, value);
            }
        }
        parameters
    }
}

/// A limit of the processes of `RUN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// Its name: `nofile`.
    pub name: String,
    /// What a process starts with.
    pub soft: i64,
    /// What it can raise it to.
    pub hard: i64,
}

impl Ulimit {
    fn json(&self) -> serde_json::Value {
        serde_json::json!({ "Name": self.name, "Soft": self.soft, "Hard": self.hard })
    }
}

/// Where a build's secret comes from. It is read when a step asks for it.
#[derive(Clone, Debug)]
pub enum SecretSource {
    /// A file.
    File(PathBuf),
    /// A variable of the environment.
    Variable(String),
    /// What a shell command writes.
    Command(String),
    /// The value itself.
    Value(Secret),
}

/// The longest secret that BuildKit takes (buildkit `session/secrets/secretsprovider/store.go`).
const LONGEST_SECRET: u64 = 500 * 1024;

impl SecretSource {
    /// The secret's value, or why it cannot be had. A command that is under way ends with the future.
    pub(super) async fn read(&self) -> Result<Vec<u8>, String> {
        let value = match self {
            Self::File(path) => {
                let file = path.clone();
                let read = spawn_blocking(move || limited(std::fs::File::open(file)?)).await;
                let read = read.unwrap_or_else(|error| Err(io::Error::other(error)));
                read.map_err(|error| format!("{}: {error}", path.display()))?
            }
            Self::Variable(name) => {
                let value = std::env::var_os(name).ok_or_else(|| format!("{name} is not set"))?;
                value.into_encoded_bytes()
            }
            Self::Command(line) => output(line).await?,
            Self::Value(secret) => secret.expose().as_bytes().to_vec(),
        };
        Some(value).filter(|value| value.len() as u64 <= LONGEST_SECRET).ok_or_else(too_long)
    }
}

fn too_long() -> String {
    format!("it is longer than the {} KiB of BuildKit", LONGEST_SECRET / 1024)
}

/// Reads no more than is needed to see that it is too long: a device has no end.
fn limited(reader: impl io::Read) -> io::Result<Vec<u8>> {
    let mut value = Vec::new();
    io::Read::read_to_end(&mut reader.take(LONGEST_SECRET + 1), &mut value)?;
    Ok(value)
}

/// What a command of the system's shell writes, or why it failed.
async fn output(line: &str) -> Result<Vec<u8>, String> {
    let [shell, option] = if cfg!(windows) { ["cmd", "/C"] } else { ["sh", "-c"] };
    let mut command = Command::new(shell);
    command.args([option, line]).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let broken = |error: io::Error| format!("{shell} cannot be run: {error}");
    let mut child = command.spawn().map_err(broken)?;
    let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(broken(io::ErrorKind::BrokenPipe.into()));
    };
    let mut value = Vec::new();
    let mut out = out.take(LONGEST_SECRET + 1);
    let whole = async {
        out.read_to_end(&mut value).await.map_err(broken)?;
        // What is left of one that is too long is not waited for.
        if value.len() as u64 > LONGEST_SECRET { Err(too_long()) } else { Ok(()) }
    };
    let ((), said) = tokio::try_join!(whole, async { Ok(last_words(err).await) })?;
    let status = child.wait().await.map_err(broken)?;
    if status.success() {
        return Ok(value);
    }
    let last = said.last().map(|last| format!(": {last}")).unwrap_or_default();
    Err(format!("`{line}` ended with {status}{last}"))
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A step of the Dockerfile failed.
    #[error("{}", Failed { step, at: at.as_deref(), exit_code: *exit_code, message })]
    Step {
        /// Its name as the engine gives it: `[2/5] RUN make`.
        step: String,
        /// Where it stands in the user's Dockerfile. No engine knows: whoever knows it says so.
        at: Option<Box<Location>>,
        /// The exit code, if it was a program that failed.
        exit_code: Option<i64>,
        /// What the engine says.
        message: String,
        /// What the step wrote, as far as the engine passed it on; the end of it if that is more
        /// than a megabyte.
        log: String,
    },
    /// The engine does not accept the Dockerfile.
    #[error("{message}")]
    Dockerfile {
        /// What the engine says.
        message: String,
    },
    /// A file is not what was hashed any more.
    #[error(transparent)]
    ContextChanged(Changed),
    /// A file that was hashed cannot be read any more.
    #[error("cannot read `{}` of the build context: {source}", path.display())]
    Unreadable {
        /// The file, relative to the context.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A secret cannot be read.
    #[error("cannot read the secret `{id}`: {reason}")]
    Secret {
        /// Its id.
        id: String,
        /// Why.
        reason: String,
    },
    /// An SSH agent cannot be used.
    #[error("there is no SSH agent `{id}`: {reason}")]
    Agent {
        /// Its id.
        id: String,
        /// Why, and what to do.
        reason: String,
    },
    /// What was built cannot be written where it should go.
    #[error("cannot write the output of the build: {source}")]
    Output {
        /// Why.
        source: io::Error,
    },
    /// A cache cannot be written where it should go.
    #[error("cannot write the cache in {}: {source}", directory.display())]
    Cache {
        /// The directory.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The engine cannot build this.
    #[error("this engine cannot build {what}: {why}")]
    Unsupported {
        /// What.
        what: String,
        /// Why, and what to do.
        why: String,
    },
    /// The engine could not do what it was asked.
    #[error(transparent)]
    Engine(#[from] Error),
    /// The build was cancelled in the engine.
    #[error(
        "the build was cancelled in the engine: it was stopped, or somebody there ended the build"
    )]
    Cancelled,
}

impl BuildError {
    /// The error of a build one of whose files could not be read: it changed, or is out of reach.
    pub(super) fn unreadable(path: PathBuf, error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound {
            return Self::ContextChanged(Changed { path, change: Change::Vanished });
        }
        match error.downcast() {
            Ok(changed) => Self::ContextChanged(changed),
            Err(source) => Self::Unreadable { path, source },
        }
    }

    /// Whether the login for a registry could not be had.
    pub(super) fn is_of_a_login(&self) -> bool {
        matches!(self, Self::Engine(Error::Login(_)))
    }

    /// Whether it is the Dockerfile or its files that are wrong, rather than an engine, a registry
    /// or the network.
    #[must_use]
    pub fn is_of_the_build(&self) -> bool {
        matches!(self, Self::Step { .. } | Self::Dockerfile { .. } | Self::ContextChanged(_))
    }
}

/// The sentence about a step that failed.
struct Failed<'a> {
    step: &'a str,
    at: Option<&'a Location>,
    exit_code: Option<i64>,
    message: &'a str,
}

impl fmt::Display for Failed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, at, exit_code, message } = self;
        write!(f, "step `{step}`")?;
        if let Some(at) = at {
            write!(f, " ({at})")?;
        }
        match exit_code {
            Some(code) => write!(f, " failed with exit code {code}"),
            None => write!(f, " failed: {message}"),
        }
    }
}

/// The first reason of ours for which a build has to fail. An engine passes on its text at best.
#[derive(Clone, Default)]
pub(super) struct Fault(Arc<Mutex<Option<BuildError>>>);

impl Fault {
    /// Remembers a reason. That a login is missing need not be one at all, so that it gives way.
    pub(super) fn set(&self, error: BuildError) {
        let mut fault = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if fault.as_ref().is_none_or(BuildError::is_of_a_login) {
            *fault = Some(error);
        }
    }

    pub(super) fn take(&self) -> Option<BuildError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[tokio::test]
    async fn a_secret_without_end_is_too_long() {
        for source in [
            SecretSource::File("/dev/zero".into()),
            SecretSource::Command("cat /dev/zero".to_owned()),
            SecretSource::Command("cat /dev/zero; echo no >&2; exit 1".to_owned()),
        ] {
            let reason = source.read().await.unwrap_err();
            assert!(reason.contains("longer than the 500 KiB"), "{reason}");
        }
        let failing = SecretSource::Command("echo why >&2; exit 3".to_owned());
        let reason = failing.read().await.unwrap_err();
        assert_eq!(reason, "`echo why >&2; exit 3` ended with exit status: 3: why");
        let value = SecretSource::Command("printf value".to_owned()).read().await;
        assert_eq!(value.unwrap(), b"value");
    }
}
