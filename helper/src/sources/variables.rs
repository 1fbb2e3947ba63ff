//! Credentials from variables, as CI systems hand them to a job.
//!
//! One registry: `REGISTRY_USERNAME` and `REGISTRY_PASSWORD`, for the host of `REGISTRY_URL`, or
//! where that is unset for every host of Alibaba Cloud Container Registry. Several registries: the
//! same names with a suffix of one's choice, as in `REGISTRY_URL_PROD`, `REGISTRY_USERNAME_PROD`,
//! `REGISTRY_PASSWORD_PROD`; there the URL is what makes the set count. Each user name and password
//! may instead be in a file (`REGISTRY_PASSWORD_FILE`, `REGISTRY_PASSWORD_PROD_FILE`): GitLab's
//! variables of type "file", Docker's and Kubernetes' secrets.
//!
//! It knows variables and the files they name; it must not know stores or networks.

use std::io::{self, Read};
use std::path::PathBuf;

use thiserror::Error;
use zeroize::Zeroizing;

use crate::Credential;
use crate::environment::{Environment, NotText};
use crate::host::{Host, HostError};
use crate::secret::Secret;
use crate::sources::{Source, SourceError};

/// A file with a password is a line; what is longer is a mistake.
const MAX_FILE: u64 = 64 * 1024;

/// The variables of this process.
#[derive(Debug)]
pub struct Variables<'a> {
    environment: &'a Environment,
}

/// What is wrong with a set of variables.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VariablesError {
    /// A user name without a password, or the reverse.
    #[error(
        "{present} is set but {absent} is not (nor {absent}_FILE); set it, and note that GitLab \
         gives a protected variable to protected branches and tags only"
    )]
    Half {
        /// The variable that is there.
        present: String,
        /// The variable that is missing.
        absent: String,
    },
    /// A variable and its file variant.
    #[error("{0} and {0}_FILE are both set; unset one of them")]
    Both(String),
    /// A file that cannot be read.
    #[error("cannot read the file that {variable} names ({}): {error}", path.display())]
    Unreadable {
        /// The variable.
        variable: String,
        /// The file.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// A file that cannot be a password.
    #[error("the file that {variable} names ({}) {problem}", path.display())]
    Unusable {
        /// The variable.
        variable: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A value that is no text.
    #[error(transparent)]
    NotText(#[from] NotText),
    /// A host that is none.
    #[error("{variable} names no registry: {error}")]
    Url {
        /// The variable.
        variable: String,
        /// What is wrong with its value.
        error: HostError,
    },
}

/// The variables of one registry: those with one suffix, which may be empty.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Set<'a> {
    suffix: &'a str,
}

/// What a set answers for.
#[derive(Debug, PartialEq, Eq)]
enum Scope {
    One(Host),
    EveryAcrHost,
}

impl Set<'_> {
    fn name(&self, base: &str) -> String {
        format!("{base}{}", self.suffix)
    }

    fn scope(&self, environment: &Environment) -> Result<Scope, VariablesError> {
        let variable = self.name("REGISTRY_URL");
        match environment.var(&variable)? {
            Some(url) => Host::parse(url)
                .map(Scope::One)
                .map_err(|error| VariablesError::Url { variable, error }),
            None => Ok(Scope::EveryAcrHost),
        }
    }

    /// User name and password; nothing if neither is set.
    fn credential(&self, environment: &Environment) -> Result<Option<Credential>, VariablesError> {
        let username = Value::read(environment, self.name("REGISTRY_USERNAME"))?;
        let password = Value::read(environment, self.name("REGISTRY_PASSWORD"))?;
        let half = |present: Value, absent: &str| {
            Err(VariablesError::Half { present: present.origin, absent: self.name(absent) })
        };
        match (username, password) {
            (None, None) => Ok(None),
            (Some(username), None) => half(username, "REGISTRY_PASSWORD"),
            (None, Some(password)) => half(password, "REGISTRY_USERNAME"),
            (Some(username), Some(password)) => Ok(Some(Credential {
                username: username.text.expose().to_owned(),
                secret: password.text,
                origin: format!("{} and {}", username.origin, password.origin),
                expires: None,
            })),
        }
    }
}

/// The value of a variable, or of the file that its `_FILE` variant names.
struct Value {
    text: Secret,
    origin: String,
}

impl Value {
    fn read(environment: &Environment, name: String) -> Result<Option<Self>, VariablesError> {
        let file_name = format!("{name}_FILE");
        match (environment.var(&name)?, environment.path(&file_name)) {
            (Some(_), Some(_)) => Err(VariablesError::Both(name)),
            (Some(value), None) => Ok(Some(Self { text: one_line(value), origin: name })),
            (None, Some(path)) => {
                Ok(Some(Self { text: read_file(&file_name, path)?, origin: file_name }))
            }
            (None, None) => Ok(None),
        }
    }
}

/// Without the line's end, which an editor or a paste leaves behind and no registry accepts.
fn one_line(text: &str) -> Secret {
    Secret::new(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn read_file(variable: &str, path: PathBuf) -> Result<Secret, VariablesError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    let read =
        std::fs::File::open(&path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    let variable = variable.to_owned();
    if let Err(error) = read {
        return Err(VariablesError::Unreadable { variable, path, error });
    }
    let unusable = |problem| Err(VariablesError::Unusable { variable, path, problem });
    if bytes.len() as u64 > MAX_FILE {
        return unusable("is too long to hold a user name or a password");
    }
    match str::from_utf8(&bytes).map(one_line) {
        Err(_) => unusable("is not valid UTF-8"),
        Ok(text) if text.is_empty() => unusable("is empty"),
        Ok(text) => Ok(text),
    }
}

impl<'a> Variables<'a> {
    /// Over these variables.
    #[must_use]
    pub fn new(environment: &'a Environment) -> Self {
        Self { environment }
    }

    /// The sets that could count, those with a suffix first: they name their host.
    fn sets(&self) -> Vec<Set<'_>> {
        let mut sets: Vec<_> = self
            .environment
            .names()
            .filter_map(|name| name.strip_prefix("REGISTRY_URL"))
            .filter(|suffix| suffix.len() > 1 && suffix.starts_with('_'))
            .map(|suffix| Set { suffix })
            .collect();
        sets.sort();
        sets.push(Set { suffix: "" });
        sets
    }

    fn find(&self, host: &Host) -> Result<Option<Credential>, VariablesError> {
        let mut unreadable = None;
        for set in self.sets() {
            match set.scope(self.environment) {
                Ok(Scope::One(named)) if named != *host => {}
                Ok(Scope::EveryAcrHost) if host.acr().is_none() => {}
                Ok(_) => {
                    if let Some(credential) = set.credential(self.environment)? {
                        return Ok(Some(credential));
                    }
                }
                Err(error) => {
                    // Nobody knows which host was meant. An Alibaba Cloud host is the likely one,
                    // if the rest of the set is there; strangers must not suffer.
                    if host.acr().is_some() && !matches!(set.credential(self.environment), Ok(None))
                    {
                        unreadable.get_or_insert(error);
                    }
                }
            }
        }
        unreadable.map_or(Ok(None), Err)
    }
}

impl Source for Variables<'_> {
    fn name(&self) -> &str {
        "CI variables"
    }

    fn get(&self, host: &Host) -> Result<Option<Credential>, SourceError> {
        self.find(host).map_err(SourceError::new)
    }

    /// Sets for one host each. A set for every host of Alibaba Cloud has no host to name.
    fn list(&self) -> Result<Vec<(Host, String)>, SourceError> {
        let mut hosts = Vec::new();
        for set in self.sets() {
            let Ok(Scope::One(host)) = set.scope(self.environment) else { continue };
            if let Ok(Some(credential)) = set.credential(self.environment) {
                hosts.push((host, credential.username));
            }
        }
        Ok(hosts)
    }
}
