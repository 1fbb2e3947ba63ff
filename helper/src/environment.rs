//! What a process is given: variables, directories, the working directory.
//!
//! One snapshot is taken in `main`, and handed down. Nothing below reads the process's environment,
//! so that a test can be any machine, and so that two tests can be two machines at once.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;
use zeroize::Zeroize;

/// The directory of our files, below the user's configuration and data directories.
const OURS: &str = "docker-credential-aliyun";

/// A snapshot of the surroundings of a process.
///
/// It holds whatever secrets the variables hold: `Debug` prints names only, and the values are
/// wiped when it is dropped.
#[derive(Clone, Default)]
pub struct Environment {
    variables: HashMap<OsString, OsString>,
    home: Option<PathBuf>,
    directory: PathBuf,
    program: Option<PathBuf>,
}

/// A variable whose value cannot be read as text.
#[derive(Debug, Error)]
#[error("the value of {0} is not valid UTF-8")]
pub struct NotText(pub String);

impl Environment {
    /// This process's own.
    #[must_use]
    pub fn capture() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
            home: std::env::home_dir().filter(|home| home.is_absolute()),
            directory: std::env::current_dir().unwrap_or_default(),
            program: std::env::current_exe().ok(),
        }
    }

    /// One without variables, home or working directory, to be filled by a test.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// The same with a variable set.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// The same with another home directory.
    #[must_use]
    pub fn with_home(mut self, home: impl Into<PathBuf>) -> Self {
        self.home = Some(home.into());
        self
    }

    /// The same with another working directory.
    #[must_use]
    pub fn with_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = directory.into();
        self
    }

    /// The value of a variable. An empty one counts as unset: that is how a CI system passes a
    /// variable that it withholds.
    ///
    /// # Errors
    /// The value is not UTF-8.
    pub fn var(&self, name: &str) -> Result<Option<&str>, NotText> {
        self.var_os(name)
            .map(|value| value.to_str().ok_or_else(|| NotText(name.to_owned())))
            .transpose()
    }

    /// The value of a variable, whatever its encoding; an empty one counts as unset.
    #[must_use]
    pub fn var_os(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str).filter(|v| !v.is_empty())
    }

    /// The value of a variable that is set and is text, even to nothing.
    #[must_use]
    pub fn var_even_empty(&self, name: &str) -> Option<&str> {
        self.variables.get(OsStr::new(name))?.to_str()
    }

    /// A variable that holds a path; a relative one is below the working directory.
    #[must_use]
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.var_os(name).map(|value| self.directory.join(value))
    }

    /// The names of all variables that are set and are text, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().filter(|(_, v)| !v.is_empty()).filter_map(|(name, _)| name.to_str())
    }

    /// The home directory, where there is one: containers often have none.
    #[must_use]
    pub fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    /// The working directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file of the running program, where the system tells.
    #[must_use]
    pub fn program(&self) -> Option<&Path> {
        self.program.as_deref()
    }

    /// Where this program's configuration is: `$XDG_CONFIG_HOME/docker-credential-aliyun`, or the
    /// platform's equivalent.
    #[must_use]
    pub fn config_dir(&self) -> Option<PathBuf> {
        self.base("XDG_CONFIG_HOME", "APPDATA", ".config").map(|base| base.join(OURS))
    }

    /// Where this program's data is: `$XDG_DATA_HOME/docker-credential-aliyun`, or the platform's
    /// equivalent.
    #[must_use]
    pub fn data_dir(&self) -> Option<PathBuf> {
        self.base("XDG_DATA_HOME", "LOCALAPPDATA", ".local/share").map(|base| base.join(OURS))
    }

    /// Where this program may keep what it can do without: `$XDG_CACHE_HOME/docker-credential-aliyun`,
    /// or the platform's equivalent.
    #[must_use]
    pub fn cache_dir(&self) -> Option<PathBuf> {
        self.base("XDG_CACHE_HOME", "LOCALAPPDATA", ".cache").map(|base| base.join(OURS))
    }

    /// Docker's directory: `DOCKER_CONFIG`, or `.docker` in the home directory.
    #[must_use]
    pub fn docker_dir(&self) -> Option<PathBuf> {
        self.path("DOCKER_CONFIG").or_else(|| Some(self.home()?.join(".docker")))
    }

    /// The variables a child process may have: everything but what holds a secret that this program
    /// reads.
    pub fn for_child(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.for_identity_command().filter(|(name, _)| !is_cloud_secret(&name.to_string_lossy()))
    }

    /// The same for a command that is asked for a RAM identity: it may need one to get another, and
    /// has all of these from the vendor's command line as well.
    pub fn for_identity_command(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.variables
            .iter()
            .filter(|(name, _)| !is_secret(&name.to_string_lossy()))
            .map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// A base directory: the XDG variable if it is absolute (as the XDG specification demands),
    /// else the platform's place below the home directory.
    fn base(&self, xdg: &str, windows: &str, unix: &str) -> Option<PathBuf> {
        let named = |name| self.var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let platform = || if cfg!(windows) { named(windows) } else { None };
        named(xdg).or_else(platform).or_else(|| Some(self.home()?.join(unix)))
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<_> = self.variables.keys().collect();
        names.sort();
        f.debug_struct("Environment")
            .field("variables", &names)
            .field("home", &self.home)
            .field("directory", &self.directory)
            .finish()
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        for value in self.variables.values_mut() {
            std::mem::take(value).into_encoded_bytes().zeroize();
        }
    }
}

/// Whether a variable of this name holds a secret of a RAM identity: a key's, a token, or what gets a
/// token. What only names a file is no secret.
fn is_cloud_secret(name: &str) -> bool {
    let vendors = ["ALIBABA_CLOUD_", "ALIBABACLOUD_", "ALICLOUD_"];
    let is_vendors = vendors.iter().any(|prefix| name.starts_with(prefix));
    let is_secret = ["SECRET", "TOKEN", "CREDENTIALS_URI"].iter().any(|word| name.contains(word));
    (is_vendors && is_secret && !name.ends_with("_FILE"))
        || name == "ACTIONS_ID_TOKEN_REQUEST_TOKEN"
}

/// Whether a variable of this name holds a registry's password, or a key to one.
fn is_secret(name: &str) -> bool {
    name == "REGISTRY_PASSWORD"
        || (name.starts_with("REGISTRY_PASSWORD_") && !name.ends_with("_FILE"))
        || matches!(name, "DOCKER_CREDENTIAL_ALIYUN_KEY" | "DOCKER_CREDENTIAL_ALIYUN_PASSPHRASE")
        || name == "DOCKER_AUTH_CONFIG"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_names_the_variables_and_hides_their_values() {
        let environment = Environment::empty().with("REGISTRY_PASSWORD", "hunter2");
        let text = format!("{environment:?}");
        assert!(text.contains("REGISTRY_PASSWORD") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn an_empty_variable_is_unset() {
        let environment = Environment::empty().with("A", "").with("B", "b");
        assert_eq!(environment.var("A").unwrap(), None);
        assert_eq!(environment.var("B").unwrap(), Some("b"));
        assert_eq!(environment.names().collect::<Vec<_>>(), ["B"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_no_text_is_refused_by_name() {
        use std::os::unix::ffi::OsStringExt;
        let environment = Environment::empty().with("A", OsString::from_vec(vec![0xff]));
        assert_eq!(
            environment.var("A").unwrap_err().to_string(),
            "the value of A is not valid UTF-8"
        );
    }

    #[test]
    fn a_child_gets_everything_but_secrets() {
        let environment = Environment::empty()
            .with("PATH", "/bin")
            .with("REGISTRY_PASSWORD", "x")
            .with("REGISTRY_PASSWORD_PROD", "x")
            .with("REGISTRY_PASSWORD_FILE", "/run/secrets/p")
            .with("DOCKER_CREDENTIAL_ALIYUN_KEY", "x");
        let mut names: Vec<_> = environment.for_child().map(|(name, _)| name).collect();
        names.sort();
        assert_eq!(names, ["PATH", "REGISTRY_PASSWORD_FILE"]);
    }

    #[test]
    fn only_a_command_for_identities_gets_what_belongs_to_one() {
        let secrets = [
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
            "ALIBABACLOUD_ACCESS_KEY_SECRET",
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
            "ALIBABA_CLOUD_OIDC_TOKEN",
            "ALIBABA_CLOUD_SECURITY_TOKEN",
            "ALICLOUD_ACCESS_KEY_STS_TOKEN",
            "ALICLOUD_SECRET_KEY",
        ];
        let others = ["ALIBABA_CLOUD_OIDC_TOKEN_FILE", "ALIBABA_CLOUD_ROLE_ARN", "PATH"];
        let environment = secrets
            .iter()
            .chain(&others)
            .fold(Environment::empty().with("REGISTRY_PASSWORD", "x"), |all, name| {
                all.with(name, "x")
            });
        let mut child: Vec<_> = environment.for_child().map(|(name, _)| name).collect();
        child.sort();
        assert_eq!(child, others);
        let mut command: Vec<_> =
            environment.for_identity_command().map(|(name, _)| name).collect();
        command.sort();
        let mut all = [&secrets[..], &others].concat();
        all.sort_unstable();
        assert_eq!(command, all);
    }

    #[cfg(unix)]
    #[test]
    fn directories_follow_xdg_and_ignore_relative_ones() {
        let home = Environment::empty().with_home("/home/u");
        let ours = |base: &str| Some(PathBuf::from(base).join(OURS));
        assert_eq!(home.config_dir(), ours("/home/u/.config"));
        assert_eq!(home.clone().with("XDG_DATA_HOME", "/d").data_dir(), ours("/d"));
        assert_eq!(
            home.clone().with("XDG_DATA_HOME", "d").data_dir(),
            ours("/home/u/.local/share")
        );
        assert_eq!(Environment::empty().config_dir(), None);
        assert_eq!(home.docker_dir(), Some(PathBuf::from("/home/u/.docker")));
    }
}
