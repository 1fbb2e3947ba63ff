//! How the user wants registries to be talked to.

use std::{path::PathBuf, time::Duration};

/// What the client goes by. [`Config::default`] is what Docker's own client would do.
#[derive(Clone, Debug)]
pub struct Config {
    /// Hosts (`host` or `host:port`) whose certificates are not checked and that may speak plain
    /// HTTP, as `--insecure-registry` names them. Loopback hosts always are, as for Docker.
    pub insecure: Vec<String>,
    /// Directories that hold `HOST/ca.crt`, `HOST/client.cert` and `HOST/client.key`.
    pub certificates: Vec<PathBuf>,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// How often and how patiently to try again.
    pub retries: Retries,
    /// What to call ourselves.
    pub user_agent: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            insecure: Vec::new(),
            certificates: certificate_directories(),
            timeouts: Timeouts::default(),
            retries: Retries::default(),
            user_agent: concat!("smartbuild/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// A limit for every phase of a request, so that no server can hold us.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For the connection, TLS included.
    pub connect: Duration,
    /// For the first byte of the answer, after the request was sent.
    pub answer: Duration,
    /// Between two pieces of a body, in either direction.
    pub idle: Duration,
    /// For the whole of a manifest, a configuration, a token or a list.
    pub document: Duration,
}

impl Timeouts {
    /// The limits of somebody who waits so long for a registry that says nothing.
    #[must_use]
    pub fn of(silence: Duration) -> Self {
        Self {
            connect: silence.min(Self::default().connect),
            answer: silence,
            idle: silence,
            document: silence.saturating_mul(2),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(60),
            idle: Duration::from_secs(30),
            document: Duration::from_secs(120),
        }
    }
}

/// When to try again what is safe to try again.
#[derive(Clone, Copy, Debug)]
pub struct Retries {
    /// How often a request is sent at most.
    pub attempts: u32,
    /// The mean of the first wait; each next is twice as long. Waits are spread at random, so that
    /// many pipelines that failed together do not come back together.
    pub pause: Duration,
    /// The longest `Retry-After` that is waited for.
    pub patience: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self { attempts: 4, pause: Duration::from_millis(250), patience: Duration::from_secs(60) }
    }
}

/// Where Docker looks for certificates: its daemon's directory, the one of a rootless daemon, and
/// the client's own.
fn certificate_directories() -> Vec<PathBuf> {
    let mut directories = Vec::new();
    if let Some(home) = std::env::home_dir() {
        directories.push(home.join(".docker/certs.d"));
        let config = std::env::var_os("XDG_CONFIG_HOME")
            .filter(|path| !path.is_empty())
            .map_or_else(|| home.join(".config"), PathBuf::from);
        directories.push(config.join("docker/certs.d"));
    }
    directories.push(if cfg!(windows) {
        PathBuf::from(r"C:\ProgramData\docker\certs.d")
    } else {
        PathBuf::from("/etc/docker/certs.d")
    });
    directories
}
