//! Docker's `config.json`.
//!
//! Knows the file's fields that concern a build client (docker/cli
//! `cli/config/configfile/file.go`) and ignores the others; must not know who uses them.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use docker_credential_aliyun::{Secret, environment::NotText};
use serde::Deserialize;

use super::{Login, server_url};

/// Larger files are not Docker's.
const LARGEST: u64 = 4 << 20;

/// What `config.json` says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DockerConfig {
    /// Logins by host.
    #[serde(default, deserialize_with = "nulls_are_default")]
    auths: BTreeMap<String, Auth>,
    /// Credential helpers by host.
    #[serde(default, deserialize_with = "nulls_are_default")]
    cred_helpers: BTreeMap<String, String>,
    /// The credential helper of every other host.
    #[serde(default, deserialize_with = "null_is_default")]
    creds_store: String,
    /// Proxies that Docker's client hands to builds, by the engine's address, or `default`.
    #[serde(default, deserialize_with = "nulls_are_default")]
    proxies: BTreeMap<String, Proxies>,
    /// The Docker context in use.
    #[serde(default)]
    pub current_context: Option<String>,
    /// Headers that Docker's client sends to the engine.
    #[serde(rename = "HttpHeaders", default, deserialize_with = "nulls_are_default")]
    pub http_headers: BTreeMap<String, String>,
    #[serde(skip)]
    source: Option<String>,
    #[serde(skip)]
    path: Option<PathBuf>,
}

/// One entry of `auths`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Auth {
    /// `user:password` in Base64; read when its host is asked for, for what is wrong with one host is
    /// nothing to the others.
    #[serde(default, deserialize_with = "secret")]
    auth: Option<Secret>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default, deserialize_with = "secret")]
    password: Option<Secret>,
    #[serde(default, deserialize_with = "secret")]
    identitytoken: Option<Secret>,
}

/// The proxies that builds shall use, as Docker's client passes them in as build arguments.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Proxies {
    /// For `http://`.
    pub http_proxy: Option<String>,
    /// For `https://`.
    pub https_proxy: Option<String>,
    /// For `ftp://`.
    pub ftp_proxy: Option<String>,
    /// For everything.
    pub all_proxy: Option<String>,
    /// Hosts that need none.
    pub no_proxy: Option<String>,
}

impl std::fmt::Debug for Proxies {
    /// A proxy's address may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == Self::default() { "Proxies(none)" } else { "Proxies(***)" })
    }
}

impl Proxies {
    /// The build arguments that Docker's client derives: each in upper and in lower case
    /// (docker/cli `ConfigFile.ParseProxyConfig`).
    #[must_use]
    pub fn build_arguments(&self) -> Vec<(String, String)> {
        [
            ("HTTP_PROXY", &self.http_proxy),
            ("HTTPS_PROXY", &self.https_proxy),
            ("FTP_PROXY", &self.ftp_proxy),
            ("ALL_PROXY", &self.all_proxy),
            ("NO_PROXY", &self.no_proxy),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.as_deref().filter(|v| !v.is_empty())?)))
        .flat_map(|(name, value)| {
            [(name.to_owned(), value.to_owned()), (name.to_ascii_lowercase(), value.to_owned())]
        })
        .collect()
    }
}

/// Docker's configuration could not be used. Never shows what is in it.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// It is there but cannot be read.
    #[error("cannot read Docker's configuration {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no JSON, or not of Docker's form.
    #[error("{place} is broken at line {line}, column {column}: {reason}")]
    Broken {
        /// The file or the variable.
        place: String,
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
        /// What is wrong there.
        reason: &'static str,
    },
    /// A variable that is not text.
    #[error(transparent)]
    NotText(#[from] NotText),
    /// An `auth` that is not Base64 of `user:password`.
    #[error("{place} is broken: `auth` of `{key}` is not user:password in Base64")]
    Auth {
        /// The file or the variable.
        place: String,
        /// The entry of `auths`.
        key: String,
    },
}

impl DockerConfig {
    /// Reads the file at `path`; where there is none, the empty configuration.
    ///
    /// # Errors
    /// When the file is there but cannot be read, or is broken.
    pub fn load(path: Option<PathBuf>) -> Result<Self, InvalidConfig> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = match read_bounded(&path) {
            Ok(text) => text,
            Err(error) if is_absent(&error) => String::new(),
            Err(source) => return Err(InvalidConfig::Unreadable { path, source }),
        };
        // Docker's own client takes an empty file for an empty configuration.
        let text = if text.trim().is_empty() { "{}" } else { &text };
        let mut config = Self::parse(text, &path.display().to_string())?;
        config.path = Some(path);
        Ok(config)
    }

    /// Reads `text`, which came from `place` (a path or a variable's name, for errors).
    ///
    /// # Errors
    /// When the text is broken.
    pub fn parse(text: &str, place: &str) -> Result<Self, InvalidConfig> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut config: Self = serde_json::from_str(text).map_err(|error| {
            // serde's own text could quote a secret.
            let reason = match error.classify() {
                serde_json::error::Category::Eof => "it ends too early",
                serde_json::error::Category::Data => "a value is of the wrong type",
                _ => "it is not JSON",
            };
            let (line, column) = (error.line(), error.column());
            InvalidConfig::Broken { place: place.to_owned(), line, column, reason }
        })?;
        config.source = Some(place.to_owned());
        Ok(config)
    }

    /// The proxies for builds on the engine at `host` (`unix:///var/run/docker.sock`), else the
    /// default ones.
    #[must_use]
    pub fn proxies(&self, host: Option<&str>) -> Option<&Proxies> {
        host.and_then(|host| self.proxies.get(host)).or_else(|| self.proxies.get("default"))
    }

    /// The file this was read from, or would have been read from.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Where this came from, for people.
    pub(super) fn source(&self) -> &str {
        self.source.as_deref().unwrap_or("config.json")
    }

    /// The helper for `host`, and the setting that names it.
    pub(super) fn helper(&self, host: &str) -> Option<(&str, &'static str)> {
        let own = self
            .cred_helpers
            .get(&server_url(host))
            // People write their hosts in many ways; Docker's client matches only the plain one.
            .or_else(|| by_host(&self.cred_helpers, host).map(|(_, helper)| helper))
            .map(|helper| (helper.as_str(), "credHelpers"));
        own.or(Some((self.creds_store.as_str(), "credsStore"))).filter(|(name, _)| !name.is_empty())
    }

    /// The login in `auths` for `host`: under its very name, else under a URL of it
    /// (`https://host/v1/`).
    ///
    /// # Errors
    /// When what is there for this host cannot be read.
    pub(super) fn auth(&self, host: &str) -> Result<Option<Login>, InvalidConfig> {
        let exact =
            self.auths.get_key_value(&server_url(host)).filter(|(_, auth)| !auth.is_empty());
        let found = exact.or_else(|| by_host(&self.auths, host));
        let Some((key, auth)) = found.filter(|(_, auth)| !auth.is_empty()) else { return Ok(None) };
        let auth = auth.clone().decoded().ok_or_else(|| InvalidConfig::Auth {
            place: self.source().to_owned(),
            key: key.clone(),
        })?;
        let origin = format!("`auths` in {}", self.source());
        let username = auth.username.unwrap_or_default();
        let (token, password) = (auth.identitytoken.filter(filled), auth.password.filter(filled));
        let identity_token = token.is_some();
        let login = |secret| Login { username, secret, origin, identity_token };
        Ok(token.or(password).map(login))
    }
}

/// Go's decoder passes over line ends; some that encode leave out the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Auth {
    /// With user name and password from `auth`; `None` when it is not what it should be.
    fn decoded(mut self) -> Option<Self> {
        let Some(auth) = self.auth.take().filter(filled) else { return Some(self) };
        let auth: String = auth.expose().split_ascii_whitespace().collect();
        let text = Secret::new(String::from_utf8(BASE64.decode(auth).ok()?).ok()?);
        let (username, password) = text.expose().split_once(':')?;
        self.username = Some(username.to_owned());
        self.password = Some(Secret::new(password.trim_end_matches('\0').to_owned()));
        Some(self)
    }

    /// Docker's client leaves `"host": {}` behind for logins that a helper holds.
    fn is_empty(&self) -> bool {
        let secrets = [&self.auth, &self.password, &self.identitytoken];
        !secrets.into_iter().flatten().any(filled)
    }
}

fn filled(secret: &Secret) -> bool {
    !secret.is_empty()
}

/// The entry whose key means `host`, whatever scheme and path it is written with.
fn by_host<'a, T>(entries: &'a BTreeMap<String, T>, host: &str) -> Option<(&'a String, &'a T)> {
    let plain = |key: &str| {
        let key = key.trim();
        let key =
            key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
        let key = key.split('/').next().unwrap_or_default().to_ascii_lowercase();
        match key.as_str() {
            "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
            other => other.strip_suffix(":443").unwrap_or(other).to_owned(),
        }
    };
    let wanted = plain(host);
    entries.iter().find(|(key, _)| plain(key) == wanted)
}

fn read_bounded(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > LARGEST {
        return Err(io::Error::other("it is larger than 4 MiB"));
    }
    fs::read_to_string(path)
}

/// Whether there is no such file, which is no error: a home that is no directory has none either.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn secret<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Secret::new))
}

fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The same for a map, whose values may be `null` too.
fn nulls_are_default<'de, D, T>(deserializer: D) -> Result<BTreeMap<String, T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    let map = Option::<BTreeMap<String, Option<T>>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(map.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect())
}
