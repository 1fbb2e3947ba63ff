//! Another credential helper as a store: `docker-credential-osxkeychain`, `-wincred`, `-pass`.
//!
//! This is how the Keychain of macOS and the Credential Manager of Windows are reached where Docker's
//! own helpers are, as with Docker Desktop: what one program stored the other reads, in the very
//! format that Docker's users have there. It is the protocol of [`crate::protocol`], seen from the
//! other side, and runs the same on every platform.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use keyring_core::api::{Credential, CredentialApi, CredentialStoreApi};
use keyring_core::{Entry, Error, Result};
use serde::{Deserialize, Serialize};
use thiserror::Error as ThisError;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::child::{self, Ended, RunError};
use crate::environment::Environment;
use crate::keychain::DEADLINE;
use crate::transport::Deadline;

/// What the protocol says when there is nothing.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// The most that Windows keeps for one credential (wincred.h: CRED_MAX_CREDENTIAL_BLOB_SIZE).
const WINCRED_LIMIT: u32 = 5 * 512;

/// How long a helper may take for a whole verb: a little less than the keychain waits, so that it is
/// ended, and the reason told and not only the time. Somebody may be at a command that has no such
/// limit.
const PATIENCE: Duration = DEADLINE.saturating_sub(Duration::from_millis(500));

/// More than any list of credentials.
const LONGEST: u64 = 16 << 20;

/// What the helper did not do, to follow its name in a sentence.
#[derive(Debug, ThisError)]
enum Refusal {
    #[error(
        "is not on the PATH; install it, or set DOCKER_CREDENTIAL_ALIYUN_STORE=file for the encrypted file"
    )]
    Missing,
    #[error("cannot be run: {0}")]
    Unrunnable(std::io::Error),
    #[error("did not answer to {0} in time and was ended; run it by hand to see what it waits for")]
    Late(&'static str),
    #[error("refused to {verb}: {message}")]
    Refused { verb: &'static str, message: String },
    #[error("gave an answer to {0} that is not the protocol's")]
    Babble(&'static str),
}

/// A helper by the end of its name.
#[derive(Clone)]
pub struct HelperStore {
    name: String,
    environment: Vec<(OsString, OsString)>,
    /// For all that it is asked, from the first request on.
    deadline: Arc<OnceLock<Deadline>>,
}

/// The protocol's credential; wiped when dropped.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(rename_all = "PascalCase")]
struct Body {
    #[serde(rename = "ServerURL")]
    server_url: String,
    username: String,
    secret: String,
}

impl HelperStore {
    /// `docker-credential-<name>`, run with everything in the environment but secrets.
    #[must_use]
    pub fn new(name: &str, environment: &Environment) -> Self {
        let variables = environment.for_child();
        Self {
            name: name.to_owned(),
            environment: variables.map(|(name, value)| (name.into(), value.into())).collect(),
            deadline: Arc::default(),
        }
    }

    /// Whether the helper is on the search path.
    #[must_use]
    pub fn is_installed(name: &str, environment: &Environment) -> bool {
        find(name, environment).is_some()
    }

    /// Runs a verb; the answer, or nothing if there is nothing.
    fn ask(&self, verb: &'static str, input: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let mut command = Command::new(format!("docker-credential-{}", self.name));
        command
            .arg(verb)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        let deadline = *self.deadline.get_or_init(|| Deadline::after(PATIENCE));
        let no_access = |refusal| Error::NoStorageAccess(Box::new(refusal));
        let Ended { stdout, success } = child::run(&mut command, input, LONGEST, deadline)
            .map_err(|error| match error {
                RunError::Start(error) if error.kind() == ErrorKind::NotFound => {
                    no_access(Refusal::Missing)
                }
                RunError::Start(error) => no_access(Refusal::Unrunnable(error)),
                RunError::Late => no_access(Refusal::Late(verb)),
            })?;
        if success {
            return Ok(Some(stdout));
        }
        // A helper that fails says why on stdout; it has no secret to say there.
        let message: String = String::from_utf8_lossy(&stdout).trim().chars().take(300).collect();
        // Some can do no more than look up one server: `not implemented`, `list is unimplemented`.
        let is_unable = verb == "list" && message.to_ascii_lowercase().contains("implemented");
        if message == NOT_FOUND || is_unable {
            return Ok(None);
        }
        let message = message.replace(char::is_control, " ");
        Err(Error::PlatformFailure(Box::new(Refusal::Refused { verb, message })))
    }

    fn get(&self, server: &str) -> Result<Option<Body>> {
        let Some(answer) = self.ask("get", server.as_bytes())? else { return Ok(None) };
        let body: Body = serde_json::from_slice(&answer).map_err(|_| babble("get"))?;
        // Some answer with empty texts where there is nothing.
        Ok(Some(body).filter(|body| !body.username.is_empty()))
    }

    fn entry(&self, server: &str, username: &str) -> Entry {
        let (server, username) = (server.to_owned(), username.to_owned());
        Entry::new_with_credential(Arc::new(HelperItem { store: self.clone(), server, username }))
    }
}

/// Where a helper is on the search path.
#[must_use]
pub fn find(name: &str, environment: &Environment) -> Option<PathBuf> {
    let file = format!("docker-credential-{name}{}", std::env::consts::EXE_SUFFIX);
    std::env::split_paths(environment.var_os("PATH")?)
        .map(|directory| environment.directory().join(directory).join(&file))
        .find(|path| path.is_file())
}

fn babble(verb: &'static str) -> Error {
    Error::PlatformFailure(Box::new(Refusal::Babble(verb)))
}

impl fmt::Debug for HelperStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "docker-credential-{}", self.name)
    }
}

impl CredentialStoreApi for HelperStore {
    fn vendor(&self) -> String {
        format!("docker-credential-{}", self.name)
    }

    fn id(&self) -> String {
        format!("docker-credential-aliyun/helper:{}", self.name)
    }

    fn build(&self, service: &str, user: &str, _: Option<&HashMap<&str, &str>>) -> Result<Entry> {
        Ok(self.entry(service, user))
    }

    fn search(&self, spec: &HashMap<&str, &str>) -> Result<Vec<Entry>> {
        let is_wanted = |user: &str| spec.get("user").is_none_or(|wanted| *wanted == user);
        if let Some(server) = spec.get("service") {
            let found = self.get(server)?.filter(|body| is_wanted(&body.username));
            return Ok(found.map(|body| self.entry(server, &body.username)).into_iter().collect());
        }
        let Some(answer) = self.ask("list", b"unused")? else { return Ok(Vec::new()) };
        let servers: Option<BTreeMap<String, String>> =
            serde_json::from_slice(&answer).map_err(|_| babble("list"))?;
        let servers = servers.unwrap_or_default();
        let entries = servers.iter().filter(|(_, user)| is_wanted(user));
        Ok(entries.map(|(server, user)| self.entry(server, user)).collect())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A credential that is there, or is to be.
#[derive(Debug, Clone)]
struct HelperItem {
    store: HelperStore,
    server: String,
    username: String,
}

impl HelperItem {
    fn find(&self) -> Result<Body> {
        let found = self.store.get(&self.server)?;
        found.filter(|body| body.username == self.username).ok_or(Error::NoEntry)
    }
}

impl CredentialApi for HelperItem {
    fn set_secret(&self, secret: &[u8]) -> Result<()> {
        if self.store.name == "wincred" && secret.len() > WINCRED_LIMIT as usize {
            return Err(Error::TooLong("secret".to_owned(), WINCRED_LIMIT));
        }
        // Some helpers keep one entry for each user, and go on answering with the first.
        if self.store.get(&self.server)?.is_some_and(|body| body.username != self.username) {
            self.store.ask("erase", self.server.as_bytes())?;
        }
        let secret = str::from_utf8(secret).map_err(|_| Error::BadEncoding(Vec::new()))?;
        let body = Body {
            server_url: self.server.clone(),
            username: self.username.clone(),
            secret: secret.to_owned(),
        };
        let mut request = Zeroizing::new(Vec::with_capacity(1024 + 6 * secret.len()));
        serde_json::to_writer(&mut *request, &body).map_err(|_| babble("store"))?;
        request.push(b'\n');
        self.store.ask("store", &request).map(drop)
    }

    fn get_secret(&self) -> Result<Vec<u8>> {
        self.find().map(|mut body| std::mem::take(&mut body.secret).into_bytes())
    }

    /// None. What a helper lists it is taken to have: to ask it for each entry takes a process each,
    /// and may make it ask somebody.
    fn get_attributes(&self) -> Result<HashMap<String, String>> {
        Ok(HashMap::new())
    }

    fn delete_credential(&self) -> Result<()> {
        self.find()?;
        self.store.ask("erase", self.server.as_bytes()).map(drop)
    }

    fn get_credential(&self) -> Result<Option<Arc<Credential>>> {
        self.find().map(|_| None)
    }

    fn get_specifiers(&self) -> Option<(String, String)> {
        Some((self.server.clone(), self.username.clone()))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
