//! The user's logins: where every Docker client finds them, and from our own helper's library.
//!
//! Knows `config.json`, its environment variables and the credential-helper protocol; must not
//! know what a registry does with a login.
//!
//! A host's login comes from the first of these that has one (docker/cli
//! `cli/config/configfile/file.go`: `GetAuthConfig`):
//!
//! 1. `DOCKER_AUTH_CONFIG`, a `config.json` in a variable, of which only `auths` counts;
//! 2. the helper that `credHelpers` names for the host;
//! 3. the helper that `credsStore` names for every host;
//! 4. `auths`;
//! 5. the library of `docker-credential-aliyun`, so that a pipeline needs no `config.json` at all.
//!
//! A helper that is named but broken ends the search with its reason, as Docker 29 does: going on
//! without it would only hide the reason behind a later "no basic auth credentials".

mod docker_config;
mod helper;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use docker_credential_aliyun::{Environment, Secret, credential_for};

pub use docker_config::{Auth, DockerConfig, InvalidConfig, Proxies};
pub use helper::HelperError;

/// Docker Hub's name in `config.json` and in the helper protocol.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
/// How long a credential helper may take. Docker waits for ever; a build should not.
const HELPER_DEADLINE: Duration = Duration::from_secs(30);

/// A user name and its secret, and where they came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user name; empty for an identity token.
    pub username: String,
    /// The password, or the identity token.
    pub secret: Secret,
    /// Where it came from, for people: "`auths` in /root/.docker/config.json".
    pub origin: String,
    /// Whether the secret is an OAuth2 refresh token instead of a password.
    pub identity_token: bool,
}

/// Why a login could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Docker's configuration is broken or unreadable.
    #[error(transparent)]
    Config(#[from] Arc<InvalidConfig>),
    /// A credential helper failed.
    #[error(transparent)]
    Helper(#[from] HelperError),
    /// The library of `docker-credential-aliyun` should have a login for the host, and could not
    /// get it.
    #[error("cannot get the login for {host}: {source}")]
    Library {
        /// The registry's host.
        host: String,
        /// What the library says.
        source: docker_credential_aliyun::Error,
    },
    /// Whoever was asked for the login broke down.
    #[error("cannot get the login for {host}: {reason}")]
    Broken {
        /// The registry's host.
        host: String,
        /// What is known of it.
        reason: String,
    },
}

/// Somebody who knows logins.
///
/// Asking may start a program and wait for it, so that callers on an async runtime ask on a thread
/// of their own.
pub trait Logins: Send + Sync {
    /// The login for a registry's host (`host[:port]`, `docker.io` for Docker Hub), or `None` when
    /// there is none and the registry is to be asked as nobody.
    ///
    /// # Errors
    /// When a login should be there and could not be fetched.
    fn login(&self, host: &str) -> Result<Option<Login>, Error>;
}

/// Logins from Docker's configuration and from our helper's library.
///
/// Nothing is read before the first question, and each host is asked about once.
pub struct Credentials {
    environment: Environment,
    config: OnceLock<Result<Sources, Arc<InvalidConfig>>>,
    known: Mutex<HashMap<String, Arc<OnceLock<Option<Login>>>>>,
}

struct Sources {
    /// `config.json`.
    file: DockerConfig,
    /// `DOCKER_AUTH_CONFIG`.
    variable: Option<DockerConfig>,
}

impl Credentials {
    /// Credentials as `environment` describes them: `DOCKER_CONFIG`, `DOCKER_AUTH_CONFIG`, the home
    /// directory, `PATH`, and what the helper's library reads.
    #[must_use]
    pub fn new(environment: Environment) -> Self {
        Self { environment, config: OnceLock::new(), known: Mutex::default() }
    }

    /// Docker's configuration, read once; the empty one where there is no file.
    ///
    /// # Errors
    /// When the file cannot be read or is broken.
    pub fn docker_config(&self) -> Result<&DockerConfig, Error> {
        Ok(&self.sources()?.file)
    }

    fn sources(&self) -> Result<&Sources, Error> {
        let read = || {
            let path = self.environment.docker_dir().map(|directory| directory.join("config.json"));
            let variable = match self.environment.var("DOCKER_AUTH_CONFIG")? {
                Some(text) => Some(DockerConfig::parse(text, "DOCKER_AUTH_CONFIG")?),
                None => None,
            };
            Ok(Sources { file: DockerConfig::load(path)?, variable })
        };
        self.config.get_or_init(|| read().map_err(Arc::new)).as_ref().map_err(|e| e.clone().into())
    }

    fn find(&self, host: &str) -> Result<Option<Login>, Error> {
        let Sources { file, variable } = self.sources()?;
        let auth = |config: &DockerConfig| config.auth(host).map_err(Arc::new);
        if let Some(login) = variable.as_ref().map(auth).transpose()?.flatten() {
            return Ok(Some(login));
        }
        if let Some(login) = self.ask_helper(file, host)? {
            return Ok(Some(login));
        }
        if let Some(login) = auth(file)? {
            return Ok(Some(login));
        }
        self.ask_library(host)
    }

    fn ask_helper(&self, config: &DockerConfig, host: &str) -> Result<Option<Login>, Error> {
        let Some((helper, setting)) = config.helper(host) else { return Ok(None) };
        let login = helper::get(helper, &server_url(host), &self.environment, HELPER_DEADLINE)?;
        Ok(login.map(|found| Login {
            origin: format!(
                "docker-credential-{helper}, which `{setting}` in {} names",
                config.source()
            ),
            ..found
        }))
    }

    /// `docker-credential-aliyun` without its program. It answers for ACR's hosts and for the host
    /// of `REGISTRY_URL`.
    fn ask_library(&self, host: &str) -> Result<Option<Login>, Error> {
        let found = credential_for(&server_url(host), &self.environment);
        let found = found.map_err(|source| Error::Library { host: host.to_owned(), source })?;
        Ok(found.map(|credential| Login {
            username: credential.username,
            secret: credential.secret,
            origin: credential.origin,
            identity_token: false,
        }))
    }
}

impl Logins for Credentials {
    fn login(&self, host: &str) -> Result<Option<Login>, Error> {
        let known = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.entry(host.to_owned()).or_default())
        };
        if let Some(login) = known.get() {
            return Ok(login.clone());
        }
        // Two at once may both ask; helpers do not mind, and the first answer stays.
        let login = self.find(host)?;
        Ok(known.get_or_init(|| login).clone())
    }
}

/// Nobody's logins: every registry is asked anonymously.
pub struct Anonymous;

impl Logins for Anonymous {
    fn login(&self, _host: &str) -> Result<Option<Login>, Error> {
        Ok(None)
    }
}

/// What the helper protocol and `auths` call a host.
fn server_url(host: &str) -> String {
    if host == "docker.io" { DOCKER_HUB_KEY.to_owned() } else { host.to_owned() }
}

#[cfg(all(test, unix))]
mod tests;
