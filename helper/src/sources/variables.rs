//! Credentials from variables, as CI systems hand them to a job.
//!
//! One registry: `REGISTRY_USERNAME` and `REGISTRY_PASSWORD`, for the host of `REGISTRY_URL`, or
//! where that is unset for every host of Alibaba Cloud Container Registry. Several registries: the
//! same names with a suffix of one's choice, as in `REGISTRY_URL_PROD`, `REGISTRY_USERNAME_PROD`,
//! `REGISTRY_PASSWORD_PROD`; there the URL is what makes the set count. Each user name and password
//! may instead be in a file (`REGISTRY_PASSWORD_FILE`, `REGISTRY_PASSWORD_PROD_FILE`): GitLab's
//! variables of type "file", Docker's and Kubernetes' secrets. So may the URL.
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
        match Value::read(environment, self.name("REGISTRY_URL"))? {
            Some(url) => Host::parse(url.text.expose())
                .map(Scope::One)
                .map_err(|error| VariablesError::Url { variable: url.origin, error }),
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
        return unusable("is too long to hold a host, a user name or a password");
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
            // `_FILE` at the end says where the value is, and is no suffix of a set's.
            .map(|suffix| suffix.strip_suffix("_FILE").unwrap_or(suffix))
            .filter(|suffix| suffix.len() > 1 && suffix.starts_with('_'))
            .map(|suffix| Set { suffix })
            .collect();
        sets.sort();
        sets.dedup();
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

#[cfg(test)]
mod tests {
    use super::*;

    const ACR: &str = "registry.cn-hangzhou.aliyuncs.com";

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables.iter().fold(Environment::empty(), |all, (name, value)| all.with(name, *value))
    }

    /// `user:password (origin)`, `-`, or the error.
    fn ask(variables: &[(&str, &str)], host: &str) -> String {
        let environment = environment(variables);
        match Variables::new(&environment).get(&Host::parse(host).unwrap()) {
            Ok(Some(c)) => format!("{}:{} ({})", c.username, c.secret.expose(), c.origin),
            Ok(None) => "-".into(),
            Err(error) => error.to_string(),
        }
    }

    const USER: (&str, &str) = ("REGISTRY_USERNAME", "ci@1");
    const PASSWORD: (&str, &str) = ("REGISTRY_PASSWORD", "pw");
    const ANSWER: &str = "ci@1:pw (REGISTRY_USERNAME and REGISTRY_PASSWORD)";

    #[test]
    fn the_host_of_registry_url_is_answered_and_no_other() {
        for url in ["r.example", "https://r.example/", "R.example:443/namespace"] {
            let variables = [USER, PASSWORD, ("REGISTRY_URL", url)];
            assert_eq!(ask(&variables, "r.example"), ANSWER, "{url}");
            assert_eq!(ask(&variables, ACR), "-", "{url}");
            assert_eq!(ask(&variables, "r.example:5000"), "-", "{url}");
        }
        let variables = [USER, PASSWORD, ("REGISTRY_URL", "localhost:5000")];
        assert_eq!(ask(&variables, "http://localhost:5000/v2/"), ANSWER);
    }

    #[test]
    fn without_a_url_every_acr_host_is_answered_and_no_other() {
        assert_eq!(ask(&[USER, PASSWORD], ACR), ANSWER);
        assert_eq!(ask(&[USER, PASSWORD, ("REGISTRY_URL", "")], ACR), ANSWER);
        assert_eq!(ask(&[USER, PASSWORD], "acme-registry.cn-beijing.cr.aliyuncs.com"), ANSWER);
        assert_eq!(ask(&[USER, PASSWORD], "docker.io"), "-");
        assert_eq!(ask(&[USER, PASSWORD], "registry.cn-hangzhou.aliyuncs.com.evil.example"), "-");
    }

    #[test]
    fn nothing_set_is_nothing_said() {
        assert_eq!(ask(&[], ACR), "-");
        assert_eq!(ask(&[("REGISTRY_URL", ACR)], ACR), "-");
        assert_eq!(ask(&[("REGISTRY_URL", ACR), ("REGISTRY_USERNAME", "")], ACR), "-");
    }

    #[test]
    fn a_half_is_an_error_for_its_host_alone() {
        let advice = "; set it, and note that GitLab gives a protected variable to protected \
                      branches and tags only";
        let no_password = format!(
            "REGISTRY_USERNAME is set but REGISTRY_PASSWORD is not (nor REGISTRY_PASSWORD_FILE){advice}"
        );
        let no_user = format!(
            "REGISTRY_PASSWORD is set but REGISTRY_USERNAME is not (nor REGISTRY_USERNAME_FILE){advice}"
        );
        assert_eq!(ask(&[USER], ACR), no_password);
        assert_eq!(ask(&[USER, ("REGISTRY_PASSWORD", "")], ACR), no_password);
        assert_eq!(ask(&[PASSWORD], ACR), no_user);
        assert_eq!(ask(&[PASSWORD, ("REGISTRY_URL", "r.example")], "r.example"), no_user);
        assert_eq!(ask(&[USER], "docker.io"), "-");
        assert_eq!(ask(&[USER, ("REGISTRY_URL", "r.example")], ACR), "-");
    }

    #[test]
    fn a_url_that_is_none_is_an_error_for_acr_hosts() {
        let variables = [USER, PASSWORD, ("REGISTRY_URL", "$REGISTRY URL")];
        assert_eq!(
            ask(&variables, ACR),
            "REGISTRY_URL names no registry: \"$REGISTRY URL\" is not a registry address; write it \
             as host or host:port"
        );
        assert_eq!(ask(&variables, "docker.io"), "-");
        assert_eq!(ask(&[("REGISTRY_URL", "$REGISTRY URL")], ACR), "-");
    }

    #[test]
    fn several_registries_have_a_suffix_each() {
        let variables = [
            USER,
            PASSWORD,
            ("REGISTRY_URL_PROD", "prod.example"),
            ("REGISTRY_USERNAME_PROD", "p"),
            ("REGISTRY_PASSWORD_PROD", "pp"),
            ("REGISTRY_URL_TEST", ACR),
            ("REGISTRY_USERNAME_TEST", "t"),
            ("REGISTRY_PASSWORD_TEST", "tt"),
            ("REGISTRY_USERNAME_NOURL", "x"),
        ];
        let prod = "p:pp (REGISTRY_USERNAME_PROD and REGISTRY_PASSWORD_PROD)";
        assert_eq!(ask(&variables, "prod.example"), prod);
        let test = "t:tt (REGISTRY_USERNAME_TEST and REGISTRY_PASSWORD_TEST)";
        assert_eq!(ask(&variables, ACR), test);
        assert_eq!(ask(&variables, "registry.cn-beijing.aliyuncs.com"), ANSWER);
        let environment = environment(&variables);
        let listed = Variables::new(&environment).list().unwrap();
        let listed: Vec<_> = listed.iter().map(|(host, user)| format!("{host}={user}")).collect();
        assert_eq!(listed, ["prod.example=p", "registry.cn-hangzhou.aliyuncs.com=t"]);
    }

    #[test]
    fn files_stand_in_for_values() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = directory.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let good = write("good", b"pass word\r\n");
        let ask_file = |path: &str| ask(&[USER, ("REGISTRY_PASSWORD_FILE", path)], ACR);
        let answer = "ci@1:pass word (REGISTRY_USERNAME and REGISTRY_PASSWORD_FILE)";
        assert_eq!(ask_file(&good), answer);

        let user = write("user", b"filed@1");
        let variables = [("REGISTRY_USERNAME_FILE", user.as_str()), PASSWORD];
        let answer = "filed@1:pw (REGISTRY_USERNAME_FILE and REGISTRY_PASSWORD)";
        assert_eq!(ask(&variables, ACR), answer);

        assert_eq!(
            ask(&[USER, PASSWORD, ("REGISTRY_PASSWORD_FILE", good.as_str())], ACR),
            "REGISTRY_PASSWORD and REGISTRY_PASSWORD_FILE are both set; unset one of them"
        );
        let named = |path: &str| format!("the file that REGISTRY_PASSWORD_FILE names ({path})");
        let missing = directory.path().join("missing").to_str().unwrap().to_owned();
        assert!(ask_file(&missing).starts_with(&format!("cannot read {}", named(&missing))));
        for (name, bytes, problem) in [
            ("empty", &b"\n"[..], "is empty"),
            ("binary", b"\xff", "is not valid UTF-8"),
            ("long", &[b'a'; 65537], "is too long to hold a host, a user name or a password"),
        ] {
            let path = write(name, bytes);
            assert_eq!(ask_file(&path), format!("{} {problem}", named(&path)));
        }
    }

    #[test]
    fn a_url_may_stand_in_a_file_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("url");
        std::fs::write(&path, "https://r.example/\n").unwrap();
        let path = path.to_str().unwrap();
        let variables = [USER, PASSWORD, ("REGISTRY_URL_FILE", path)];
        assert_eq!(ask(&variables, "r.example"), ANSWER);
        assert_eq!(ask(&variables, ACR), "-");
        let variables = [
            ("REGISTRY_URL_PROD_FILE", path),
            ("REGISTRY_USERNAME_PROD", "p"),
            ("REGISTRY_PASSWORD_PROD", "pp"),
        ];
        let answer = "p:pp (REGISTRY_USERNAME_PROD and REGISTRY_PASSWORD_PROD)";
        assert_eq!(ask(&variables, "r.example"), answer);
        assert_eq!(ask(&variables, ACR), "-");
        // Where it cannot be read, nobody knows which host was meant, and none of ours is answered.
        for wrong in ["url", "/nowhere/url"] {
            let variables = [USER, PASSWORD, ("REGISTRY_URL_FILE", wrong)];
            assert!(ask(&variables, ACR).contains("the file that REGISTRY_URL_FILE names"));
            assert_eq!(ask(&variables, "docker.io"), "-");
        }
    }

    #[test]
    fn the_line_end_of_a_pasted_value_is_dropped_and_blanks_are_kept() {
        let variables = [USER, ("REGISTRY_PASSWORD", " p w \r\n")];
        let answer = "ci@1: p w  (REGISTRY_USERNAME and REGISTRY_PASSWORD)";
        assert_eq!(ask(&variables, ACR), answer);
    }
}
