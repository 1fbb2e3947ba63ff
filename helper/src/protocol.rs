//! Docker's credential-helper protocol: five verbs, their bytes and their exact words.
//!
//! It knows the wire; it must not know where credentials live (that is behind [`Keychain`]), and
//! reads and writes nothing but what it is handed.
//!
//! Specification: docker/docker-credential-helpers: credentials/credentials.go, error.go. Clients
//! compare texts, so they are kept to the letter. What that project leaves to its JSON and line
//! scanners is written down in the tests below.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read, Write};

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::host::{Host, HostError};
use crate::secret::Secret;
use crate::{Credential, Error};

/// The name of the program. Clients find it as `docker-credential-` and what their configuration
/// says: `aliyun`.
pub const NAME: &str = "docker-credential-aliyun";

/// What `docker-credential-aliyun version` says: name, package, version.
pub const VERSION: &str =
    concat!("docker-credential-aliyun (smartbuild) v", env!("CARGO_PKG_VERSION"));

/// The usage line of the protocol.
pub const USAGE: &str = "Usage: docker-credential-aliyun <store|get|erase|list|version>";

/// The longest request that is read. The largest real one holds a token of a few KiB.
const MAX_REQUEST: usize = 1 << 20;

/// What a client may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// The credential for a server.
    Get,
    /// Keep a credential.
    Store,
    /// Forget a server's credential.
    Erase,
    /// The servers and their user names.
    List,
    /// Name and version.
    Version,
}

/// What the arguments ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call<'a> {
    /// A verb of the protocol.
    Verb(Verb),
    /// Nothing, or a verb with arguments that no verb has.
    Usage,
    /// Something for people: a command or an option.
    Command,
    /// Neither a verb nor a command.
    Unknown(&'a OsString),
}

impl<'a> Call<'a> {
    /// Reads the arguments after the program's name. `commands` are the names that people use.
    #[must_use]
    pub fn parse(arguments: &'a [OsString], commands: &[&str]) -> Self {
        let Some(first) = arguments.first() else { return Self::Usage };
        let verb = match first.to_str() {
            Some("get") => Verb::Get,
            Some("store") => Verb::Store,
            Some("erase") => Verb::Erase,
            Some("list") => Verb::List,
            Some("version" | "--version" | "-v" | "-V") => Verb::Version,
            Some(name) if commands.contains(&name) || name.starts_with('-') => {
                return Self::Command;
            }
            _ => return Self::Unknown(first),
        };
        if arguments.len() == 1 { Self::Verb(verb) } else { Self::Usage }
    }
}

/// What the verbs act on.
pub trait Keychain {
    /// The credential for a host, if there is one.
    ///
    /// # Errors
    /// There should be one, and it cannot be had.
    fn get(&self, host: &Host) -> Result<Option<Credential>, Error>;

    /// Keeps a credential in place of whatever there was for the host.
    ///
    /// # Errors
    /// It cannot be kept.
    fn store(&self, host: &Host, username: &str, secret: &Secret) -> Result<(), Error>;

    /// Forgets what was stored for a host. Nothing stored is nothing wrong.
    ///
    /// # Errors
    /// It is still there.
    fn erase(&self, host: &Host) -> Result<(), Error>;

    /// The hosts that [`Keychain::get`] answers for, with their user names. What cannot be had is
    /// left out: clients that get an error here forget every credential that they have.
    fn list(&self) -> BTreeMap<Host, String>;
}

/// Why a verb failed. Its text is what the protocol prints on stdout.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// There is no credential for the server. Clients compare this text, and go on without one.
    #[error("credentials not found in native keychain")]
    NotFound,
    /// No server was named. Clients compare this text.
    #[error("no credentials server URL")]
    NoServer,
    /// No user was named. Clients compare this text.
    #[error("no credentials username")]
    NoUsername,
    /// The request has no end in sight.
    #[error("the request is longer than 1 MiB")]
    TooLong,
    /// The request is no text.
    #[error("the server address is not valid UTF-8")]
    NotText,
    /// The request to store is empty.
    #[error("the request is empty; expected a JSON object with ServerURL, Username and Secret")]
    Empty,
    /// The request to store stops too early.
    #[error("the JSON of the request is cut off")]
    Truncated,
    /// The request to store is something else. What it holds is not repeated: it may be a secret.
    #[error(
        "the request is not a JSON object with the texts ServerURL, Username and Secret \
         (line {line}, column {column})"
    )]
    Malformed {
        /// Where the fault is, from 1.
        line: usize,
        /// Where the fault is, from 1.
        column: usize,
    },
    /// The pipe broke.
    #[error("cannot read the request: {0}")]
    Input(io::Error),
    /// The pipe broke.
    #[error("cannot write the answer: {0}")]
    Output(io::Error),
    /// The address is none.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The keychain's own reason.
    #[error(transparent)]
    Keychain(#[from] Error),
}

impl Failure {
    /// Whether this is an everyday answer rather than a fault that somebody has to see.
    #[must_use]
    pub fn is_everyday(&self) -> bool {
        matches!(self, Self::NotFound)
    }
}

/// The body of `store`.
#[derive(Debug, Default)]
struct StoreRequest {
    server_url: String,
    username: String,
    secret: Secret,
}

/// The answer to `get`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GetAnswer<'a> {
    #[serde(rename = "ServerURL")]
    server_url: &'a str,
    username: &'a str,
    secret: &'a str,
}

/// Serves one verb: reads what it needs from `input`, and writes its answer to `output`.
///
/// # Errors
/// The answer is a failure, whose text goes to stdout with exit status 1. Nothing was written then.
pub fn serve(
    verb: Verb,
    keychain: &impl Keychain,
    input: impl Read,
    output: impl Write,
) -> Result<(), Failure> {
    match verb {
        Verb::Get => get(keychain, input, output),
        Verb::Store => store(keychain, input),
        Verb::Erase => erase(keychain, input),
        Verb::List => list(keychain, output),
        Verb::Version => answer(output, format!("{VERSION}\n").as_bytes()),
    }
}

fn get(keychain: &impl Keychain, input: impl Read, output: impl Write) -> Result<(), Failure> {
    let server_url = read_server(input)?;
    let credential = match Host::parse(&server_url) {
        Ok(host) => keychain.get(&host)?,
        // Clients try addresses of their own making, and go on to the next when told "not found".
        Err(HostError::Malformed(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let credential =
        credential.filter(|found| !found.secret.is_empty()).ok_or(Failure::NotFound)?;
    let body = GetAnswer {
        server_url: &server_url,
        username: &credential.username,
        secret: credential.secret.expose(),
    };
    // Large enough never to be moved, which would leave a copy of the secret behind.
    let size = 6 * (server_url.len() + body.username.len() + body.secret.len()) + 64;
    let mut text = Zeroizing::new(Vec::with_capacity(size));
    serde_json::to_writer(&mut *text, &body).map_err(|error| Failure::Output(error.into()))?;
    text.push(b'\n');
    answer(output, &text)
}

fn store(keychain: &impl Keychain, input: impl Read) -> Result<(), Failure> {
    let request = parse_store(&read(input)?)?;
    let server_url = request.server_url.trim();
    if server_url.is_empty() {
        return Err(Failure::NoServer);
    }
    if request.username.trim().is_empty() {
        return Err(Failure::NoUsername);
    }
    Ok(keychain.store(&Host::parse(server_url)?, &request.username, &request.secret)?)
}

fn erase(keychain: &impl Keychain, input: impl Read) -> Result<(), Failure> {
    match Host::parse(&read_server(input)?) {
        Ok(host) => Ok(keychain.erase(&host)?),
        // What cannot have been stored is not there.
        Err(HostError::Malformed(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn list(keychain: &impl Keychain, output: impl Write) -> Result<(), Failure> {
    let entries: BTreeMap<_, _> =
        keychain.list().into_iter().map(|(host, username)| (host.server_url(), username)).collect();
    let mut text = serde_json::to_vec(&entries).map_err(|error| Failure::Output(error.into()))?;
    text.push(b'\n');
    answer(output, &text)
}

/// In one write, so that a reader sees all or nothing.
fn answer(mut output: impl Write, text: &[u8]) -> Result<(), Failure> {
    output.write_all(text).and_then(|()| output.flush()).map_err(Failure::Output)
}

fn read(input: impl Read) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(64 * 1024));
    input.take(MAX_REQUEST as u64 + 1).read_to_end(&mut bytes).map_err(Failure::Input)?;
    if bytes.len() > MAX_REQUEST { Err(Failure::TooLong) } else { Ok(bytes) }
}

/// A server's address: lines are joined without a separator, then blanks around are dropped, as the
/// protocol's reference implementation does.
fn read_server(input: impl Read) -> Result<String, Failure> {
    let bytes = read(input)?;
    let text = str::from_utf8(&bytes).map_err(|_| Failure::NotText)?;
    let joined: String = text.lines().collect();
    match joined.trim() {
        "" => Err(Failure::NoServer),
        server => Ok(server.to_owned()),
    }
}

/// Reads the first JSON value; what follows it is ignored, as the reference implementation does.
fn parse_store(bytes: &[u8]) -> Result<StoreRequest, Failure> {
    if bytes.trim_ascii().is_empty() {
        return Err(Failure::Empty);
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    StoreRequest::deserialize(&mut json).map_err(|error| {
        if error.is_eof() {
            Failure::Truncated
        } else {
            Failure::Malformed { line: error.line(), column: error.column() }
        }
    })
}

impl<'de> Deserialize<'de> for StoreRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(StoreVisitor)
    }
}

/// Field names in any case, unknown fields ignored, `null` the same as absent: Go's rules.
struct StoreVisitor;

impl<'de> Visitor<'de> for StoreVisitor {
    type Value = StoreRequest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with ServerURL, Username and Secret")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StoreRequest, A::Error> {
        let mut request = StoreRequest::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.to_ascii_lowercase().as_str() {
                "serverurl" => request.server_url = text(&mut map)?,
                "username" => request.username = text(&mut map)?,
                "secret" => request.secret = Secret::new(text(&mut map)?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(request)
    }
}

fn text<'de, A: MapAccess<'de>>(map: &mut A) -> Result<String, A::Error> {
    Ok(map.next_value::<Option<String>>()?.unwrap_or_default())
}

#[cfg(test)]
mod tests;
