//! The configuration files of clients: Docker's `config.json`, podman's `auth.json`.
//!
//! Both say in `credHelpers` which helper answers for which registry. This module reads that, and
//! changes it without touching anything else in the file. It must not know credentials.

mod file;
mod splice;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::environment::Environment;
use crate::host::Host;

/// What clients call this program.
pub const SUFFIX: &str = "aliyun";

/// Why a client's configuration cannot be read or changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no home to look in.
    #[error("there is no home directory, so no place for {0}; set {1}")]
    NoPlace(&'static str, &'static str),
    /// The system refuses.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// The system refuses.
    #[error("cannot write {}: {error}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// The file is not what its clients would read.
    #[error("{} is not a configuration that Docker can read ({problem}); it is left as it is: mend it by hand", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and how, without quoting the file: it may hold passwords.
        problem: String,
    },
    /// Somebody else keeps writing.
    #[error("{} changes all the time; try again", .0.display())]
    Busy(PathBuf),
}

/// What we read of a client's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The helper for each registry.
    pub helpers: BTreeMap<String, String>,
    /// The helper for all others.
    pub default_helper: Option<String>,
    /// The registries with an entry in the file itself.
    pub auths: BTreeMap<String, Auth>,
}

/// An entry in the file itself: empty, or with a password that anybody who reads the file has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Auth {
    /// Whether there is a password or token, whose text is not kept.
    pub has_secret: bool,
}

impl<'de> Deserialize<'de> for Auth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = Option::<BTreeMap<String, &RawValue>>::deserialize(deserializer)?;
        let secrets = ["auth", "password", "identitytoken", "registrytoken"];
        let is_there = |field: &&RawValue| !matches!(field.get(), "null" | "\"\"");
        let has_secret =
            fields.is_some_and(|f| secrets.iter().any(|name| f.get(*name).is_some_and(is_there)));
        Ok(Self { has_secret })
    }
}

/// As Docker's decoder reads it: `null` is the same as nothing, and of a name that stands there twice
/// the last counts, or both if it has entries of its own.
impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Settings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Settings, A::Error> {
                let mut settings = Settings::default();
                while let Some(name) = map.next_key::<String>()? {
                    match name.as_str() {
                        "credHelpers" => {
                            let helpers: Option<BTreeMap<_, Option<String>>> = map.next_value()?;
                            let helpers = helpers.unwrap_or_default().into_iter();
                            let named = helpers.filter_map(|(host, helper)| Some((host, helper?)));
                            settings.helpers.extend(named);
                        }
                        "credsStore" => settings.default_helper = map.next_value()?,
                        "auths" => {
                            let auths: Option<BTreeMap<_, _>> = map.next_value()?;
                            settings.auths.extend(auths.unwrap_or_default());
                        }
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(settings)
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

impl Settings {
    /// The hosts for which a client asks us because somebody said so for each.
    pub fn named_hosts(&self) -> impl Iterator<Item = Host> + '_ {
        let ours = self.helpers.iter().filter(|(_, helper)| *helper == SUFFIX);
        ours.filter_map(|(server, _)| Host::parse(server).ok())
    }

    /// The hosts that a client asks us for, as far as it knows them: those that are named, and where
    /// we are asked for all others, those with an entry in the file, as `docker login` leaves one.
    pub fn hosts(&self) -> impl Iterator<Item = Host> + '_ {
        let others = self.auths.keys().filter_map(|server| Host::parse(server).ok());
        let others = others.filter(|host| self.helper_for(host) == Some(SUFFIX));
        let once: BTreeSet<_> = self.named_hosts().chain(others).collect();
        once.into_iter()
    }

    /// The helper that a client would ask for a host, if any.
    #[must_use]
    pub fn helper_for(&self, host: &Host) -> Option<&str> {
        let named =
            self.helpers.get(&host.server_url()).or_else(|| self.helpers.get(host.as_str()));
        named.or(self.default_helper.as_ref()).map(String::as_str)
    }
}

/// A client's configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    path: PathBuf,
}

/// What a change did, or would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The entry is new.
    Added,
    /// The entry named another helper before.
    Replaced(String),
    /// The entry was so already, or was not there.
    Nothing,
    /// The entry is gone.
    Removed,
}

impl ConfigFile {
    /// A file at this path.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Docker's: `$DOCKER_CONFIG/config.json`, or `~/.docker/config.json`.
    ///
    /// # Errors
    /// There is no home directory.
    pub fn docker(environment: &Environment) -> Result<Self, ConfigError> {
        let directory = environment.docker_dir();
        let directory = directory.ok_or(ConfigError::NoPlace("config.json", "DOCKER_CONFIG"))?;
        Ok(Self::at(directory.join("config.json")))
    }

    /// The one of podman, buildah and skopeo: `$REGISTRY_AUTH_FILE`, else
    /// `~/.config/containers/auth.json`. The latter they read second (containers-auth.json(5)), but
    /// the first is gone when the machine restarts.
    ///
    /// # Errors
    /// There is no home directory.
    pub fn podman(environment: &Environment) -> Result<Self, ConfigError> {
        if let Some(path) = environment.path("REGISTRY_AUTH_FILE") {
            return Ok(Self::at(path));
        }
        let config = environment.config_dir();
        let base = config.as_deref().and_then(Path::parent);
        let base = base.ok_or(ConfigError::NoPlace("auth.json", "REGISTRY_AUTH_FILE"))?;
        Ok(Self::at(base.join("containers/auth.json")))
    }

    /// The one that podman and its kin read first, and write what they are logged in with to:
    /// `$XDG_RUNTIME_DIR/containers/auth.json`, or `/run/containers/<user>/auth.json`. Nothing where
    /// `REGISTRY_AUTH_FILE` takes the place of all.
    #[must_use]
    pub fn podman_session(environment: &Environment) -> Option<Self> {
        if environment.var_os("REGISTRY_AUTH_FILE").is_some() {
            return None;
        }
        let directory = match environment.path("XDG_RUNTIME_DIR") {
            Some(runtime) => runtime.join("containers"),
            None => PathBuf::from("/run/containers").join(user_id()?),
        };
        Some(Self::at(directory.join("auth.json")))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says; nothing where there is no file.
    ///
    /// # Errors
    /// It cannot be read, or not understood.
    pub fn settings(&self) -> Result<Settings, ConfigError> {
        match self.read()? {
            Some(text) => self.parse(&text),
            None => Ok(Settings::default()),
        }
    }

    /// Makes this program the helper for these hosts (or no longer), and says what that changed for
    /// each. A file that nothing changes is not written, and neither is any in a dry run.
    ///
    /// # Errors
    /// The file cannot be read, understood or written. It is as it was then.
    pub fn change(
        &self,
        hosts: &[Host],
        remove: bool,
        dry_run: bool,
    ) -> Result<Vec<Change>, ConfigError> {
        const ATTEMPTS: usize = 10;
        let _lock = if dry_run { None } else { file::lock(&self.path) };
        for _ in 0..ATTEMPTS {
            let before = self.read()?;
            let (after, changes) = self.apply(before.as_deref(), hosts, remove)?;
            let is_same = changes.iter().all(|change| *change == Change::Nothing);
            if dry_run || is_same {
                return Ok(changes);
            }
            let write_error = |error| ConfigError::Write { path: self.path.clone(), error };
            let draft = file::Draft::new(&self.path, after.as_bytes()).map_err(write_error)?;
            // Docker itself may have written meanwhile; that is not to be lost.
            if self.read()? == before {
                draft.publish().map_err(write_error)?;
                return Ok(changes);
            }
        }
        Err(ConfigError::Busy(self.path.clone()))
    }

    fn apply(
        &self,
        before: Option<&str>,
        hosts: &[Host],
        remove: bool,
    ) -> Result<(String, Vec<Change>), ConfigError> {
        let mut text = before.unwrap_or_default().to_owned();
        self.parse(&text)?;
        let mut changes = Vec::new();
        for host in hosts {
            let server = host.server_url();
            // Clients look for the one spelling, so others do nothing: they are left alone.
            let helpers = self.parse(&text)?.helpers;
            let present = helpers.get(&server);
            changes.push(match present.map(String::as_str) {
                Some(SUFFIX) if remove => {
                    text = splice::remove(&text, "credHelpers", &server);
                    Change::Removed
                }
                Some(SUFFIX) => Change::Nothing,
                _ if remove => Change::Nothing,
                other => {
                    text = splice::set(&text, "credHelpers", &server, SUFFIX);
                    other.map_or(Change::Added, |other| Change::Replaced(other.to_owned()))
                }
            });
        }
        // The last word is the parser's: what was written is what was meant.
        let hosts_after: Vec<_> = self.parse(&text)?.named_hosts().collect();
        debug_assert!(hosts.iter().all(|host| hosts_after.contains(host) != remove));
        Ok((text, changes))
    }

    fn read(&self) -> Result<Option<String>, ConfigError> {
        match fs::read(&self.path) {
            Ok(bytes) => String::from_utf8(bytes)
                .map(Some)
                .map_err(|_| self.malformed("it is not UTF-8".to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ConfigError::Read { path: self.path.clone(), error }),
        }
    }

    fn parse(&self, text: &str) -> Result<Settings, ConfigError> {
        if text.trim_ascii().is_empty() {
            return Ok(Settings::default());
        }
        if !text.trim_ascii_start().starts_with('{') {
            return Err(self.malformed("it is not a JSON object".to_owned()));
        }
        // What follows the object does not concern Docker either.
        let mut json = serde_json::Deserializer::from_str(text);
        Settings::deserialize(&mut json).map_err(|error| {
            let kind = if error.is_data() { "an unexpected value" } else { "a syntax error" };
            let (line, column) = (error.line(), error.column());
            self.malformed(format!("{kind} at line {line}, column {column}"))
        })
    }

    fn malformed(&self, problem: String) -> ConfigError {
        ConfigError::Malformed { path: self.path.clone(), problem }
    }
}

#[cfg(unix)]
fn user_id() -> Option<String> {
    Some(rustix::process::getuid().as_raw().to_string())
}

#[cfg(not(unix))]
fn user_id() -> Option<String> {
    None
}

#[cfg(test)]
mod tests;
