//! Where the engine is: what `DOCKER_HOST`, the Docker contexts and the TLS variables say.
//!
//! Knows the addresses that the `docker` command understands and the order in which it looks for
//! one (docker/cli `cli/command/cli.go`: `resolveContextName`); must not know how to connect.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// The address of a Docker Engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// How to reach it.
    pub address: Address,
    /// Which setting named it, for people; `None` for the default.
    pub origin: Option<String>,
}

/// How an engine is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// A Windows named pipe, as Windows writes it: `\\.\pipe\docker_engine`.
    NamedPipe(String),
    /// TCP, in the clear or with TLS.
    Tcp {
        /// Name or address of the host, without the brackets of IPv6.
        host: String,
        /// Port.
        port: u16,
        /// The certificates, if the connection is to be encrypted.
        tls: Option<Tls>,
    },
    /// The `docker` command on another machine, reached through the `ssh` command.
    Ssh(SshAddress),
    /// A program whose input and output are the connection.
    Program {
        /// The address as it was written.
        shown: String,
        /// The program and its arguments.
        command: Vec<String>,
    },
}

/// The parts of `ssh://[user@]host[:port][/socket]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshAddress {
    /// User there, if not the one that `ssh` chooses.
    pub user: Option<String>,
    /// The host, which may be a name from `ssh`'s configuration.
    pub host: String,
    /// Port, if not the one that `ssh` chooses.
    pub port: Option<u16>,
    /// The socket over there, if not the default.
    pub socket: Option<String>,
}

/// The certificates of a TLS connection with client authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The directory that holds `ca.pem` (whom to trust), `cert.pem` and `key.pem` (who we are).
    /// Each of them may be missing, the last two together.
    pub directory: PathBuf,
    /// The name that the other side has to prove, if not that of the address.
    pub name: Option<String>,
}

impl Tls {
    /// The certificates of that directory.
    #[must_use]
    pub fn of(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), name: None }
    }
}

/// The engine's address could not be found out.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// An address that means nothing.
    #[error(
        "{origin} is `{address}`, which is no address of an engine; write unix:///path, tcp://host:port or ssh://user@host"
    )]
    Address {
        /// Where it stands.
        origin: String,
        /// What it says.
        address: String,
    },
    /// A Docker context that does not exist.
    #[error(
        "{origin} names the Docker context `{name}`, which does not exist; `docker context ls` lists those that do"
    )]
    NoContext {
        /// What names it.
        origin: String,
        /// Its name.
        name: String,
    },
    /// TLS without verification.
    #[error(
        "{origin} asks for TLS without verifying the engine, which would give it to anybody in between; set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH instead"
    )]
    Unverified {
        /// What asks for it.
        origin: String,
    },
    /// A file of Docker's configuration is unreadable or broken.
    #[error("cannot read {}: {source}; mend it, or set DOCKER_HOST", path.display())]
    Configuration {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Where Docker's engine listens when nobody says otherwise.
const DEFAULT: &str =
    if cfg!(windows) { "npipe:////./pipe/docker_engine" } else { "unix:///var/run/docker.sock" };
/// The name of the context that stands for the default address.
const DEFAULT_CONTEXT: &str = "default";

impl Endpoint {
    /// The engine that the `docker` command would use: the one of `DOCKER_HOST`, else of the
    /// context that `DOCKER_CONTEXT` or `config.json` in `config` names, else the default.
    ///
    /// `variable` gives the environment's variables; `config` is Docker's configuration directory,
    /// if there is one.
    ///
    /// # Errors
    /// When what is set names no engine.
    pub fn discover(
        variable: impl Fn(&str) -> Option<String>,
        config: Option<&Path>,
    ) -> Result<Self, EndpointError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        if let Some(host) = set("DOCKER_HOST") {
            let tls = match set("DOCKER_TLS_VERIFY") {
                Some(_) => set("DOCKER_CERT_PATH")
                    .map(PathBuf::from)
                    .or_else(|| config.map(Path::to_owned))
                    .map(Tls::of),
                None if set("DOCKER_TLS").is_some() => {
                    return Err(EndpointError::Unverified { origin: "DOCKER_TLS".into() });
                }
                None => None,
            };
            return Self::parse(&host, "DOCKER_HOST", tls);
        }
        let (name, origin) = match (set("DOCKER_CONTEXT"), config) {
            (Some(name), _) => (name, "DOCKER_CONTEXT".to_owned()),
            (None, Some(config)) => {
                let path = config.join("config.json");
                let name = read_json::<ConfigFile>(&path)?.unwrap_or_default().current_context;
                (name, format!("`currentContext` in {}", path.display()))
            }
            (None, None) => (String::new(), String::new()),
        };
        match config {
            _ if name.is_empty() || name == DEFAULT_CONTEXT => {
                let endpoint = Self::parse(DEFAULT, "the default", None)?;
                Ok(Self { origin: None, ..endpoint })
            }
            Some(config) => Self::of_context(&name, config, origin),
            None => Err(EndpointError::NoContext { origin, name }),
        }
    }

    /// The address that `text` means, found in `origin`.
    ///
    /// # Errors
    /// When it is not an address of an engine.
    pub fn parse(text: &str, origin: &str, tls: Option<Tls>) -> Result<Self, EndpointError> {
        let address = parse_address(text, tls).ok_or_else(|| EndpointError::Address {
            origin: origin.to_owned(),
            address: text.to_owned(),
        })?;
        Ok(Self { address, origin: Some(origin.to_owned()) })
    }

    /// The engine of a Docker context (docker/cli `cli/context/store`): its description and its
    /// certificates lie in directories that are named after the digest of its name.
    fn of_context(name: &str, config: &Path, origin: String) -> Result<Self, EndpointError> {
        let directory = hex::encode(Sha256::digest(name));
        let path = config.join("contexts/meta").join(&directory).join("meta.json");
        let Some(ContextFile { endpoints: Endpoints { docker: Some(docker) } }) = read_json(&path)?
        else {
            return Err(EndpointError::NoContext { origin, name: name.to_owned() });
        };
        let origin = format!("the Docker context `{name}` ({origin})");
        if docker.skip_tls_verify {
            return Err(EndpointError::Unverified { origin });
        }
        let certificates = config.join("contexts/tls").join(directory).join("docker");
        let tls = certificates.is_dir().then(|| Tls::of(certificates));
        let host = if docker.host.is_empty() { DEFAULT } else { &docker.host };
        Self::parse(host, &origin, tls)
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ConfigFile {
    current_context: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContextFile {
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    docker: Option<DockerEndpoint>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DockerEndpoint {
    #[serde(rename = "Host")]
    host: String,
    #[serde(rename = "SkipTLSVerify")]
    skip_tls_verify: bool,
}

/// The content of a JSON file; `None` if there is no such file.
fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, EndpointError> {
    let failed = |source| EndpointError::Configuration { path: path.to_owned(), source };
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|e| failed(e.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

fn parse_address(text: &str, tls: Option<Tls>) -> Option<Address> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
    match scheme {
        "unix" if rest.starts_with('/') => Some(Address::Unix(rest.into())),
        "npipe" if !rest.is_empty() => Some(Address::NamedPipe(rest.replace('/', "\\"))),
        "tcp" | "http" | "https" => {
            let secure = tls.is_some() || scheme == "https";
            let (host, port) = host_and_port(rest.trim_end_matches('/'))?;
            // The ports that Docker has with IANA, without and with TLS.
            let port = port.unwrap_or(if secure { 2376 } else { 2375 });
            let tls = match tls {
                None if scheme == "https" => Some(Tls::of(PathBuf::new())),
                tls => tls,
            };
            Some(Address::Tcp { host, port, tls })
        }
        "ssh" => {
            let (host, socket) = match rest.split_once('/') {
                Some((host, "")) => (host, None),
                Some((host, path)) => (host, Some(format!("/{path}"))),
                None => (rest, None),
            };
            let (user, host) = match host.rsplit_once('@') {
                // A password in an address would end on a command line.
                Some((user, _)) if user.is_empty() || user.contains(':') => return None,
                Some((user, host)) => (Some(user.to_owned()), host),
                None => (None, host),
            };
            let (host, port) = host_and_port(host)?;
            // What starts with a dash would be an option of `ssh`.
            if [Some(&host), user.as_ref()].into_iter().flatten().any(|word| word.starts_with('-'))
            {
                return None;
            }
            Some(Address::Ssh(SshAddress { user, host, port, socket }))
        }
        _ => None,
    }
}

/// Splits `host`, `host:port`, `[v6]` or `[v6]:port`.
fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.contains(['/', '@', ' ']) {
        return None;
    }
    let host = if host.is_empty() { "localhost" } else { host };
    let port = port.map(str::parse).transpose().ok()?;
    Some((host.to_owned(), port))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Program { shown, .. } => f.write_str(shown),
            Self::NamedPipe(path) => write!(f, "npipe://{}", path.replace('\\', "/")),
            Self::Tcp { host, port, .. } if host.contains(':') => {
                write!(f, "tcp://[{host}]:{port}")
            }
            Self::Tcp { host, port, .. } => write!(f, "tcp://{host}:{port}"),
            Self::Ssh(SshAddress { user, host, port, .. }) => {
                f.write_str("ssh://")?;
                if let Some(user) = user {
                    write!(f, "{user}@")?;
                }
                f.write_str(host)?;
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)?;
        self.origin.as_ref().map_or(Ok(()), |origin| write!(f, " (from {origin})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn discover(
        variables: &[(&str, &str)],
        config: Option<&Path>,
    ) -> Result<Endpoint, EndpointError> {
        let find = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        Endpoint::discover(find, config)
    }

    fn context(config: &Path, name: &str, meta: &str) -> String {
        let directory = hex::encode(Sha256::digest(name));
        let meta_directory = config.join("contexts/meta").join(&directory);
        fs::create_dir_all(&meta_directory).unwrap();
        fs::write(meta_directory.join("meta.json"), meta).unwrap();
        directory
    }

    #[test]
    fn nothing_set_is_the_socket_of_the_platform() {
        let endpoint = discover(&[("DOCKER_HOST", ""), ("DOCKER_CONTEXT", "default")], None);
        assert_eq!(format!("{}", endpoint.unwrap()), DEFAULT);
    }

    #[test]
    fn every_kind_of_address_reads_back() {
        for (text, shown) in [
            ("unix:///run/user/1000/docker.sock", "unix:///run/user/1000/docker.sock"),
            ("npipe:////./pipe/other", "npipe:////./pipe/other"),
            ("tcp://10.0.0.1", "tcp://10.0.0.1:2375"),
            ("tcp://docker:2375/", "tcp://docker:2375"),
            ("tcp://[::1]:99", "tcp://[::1]:99"),
            ("docker:1", "tcp://docker:1"),
            ("http://docker", "tcp://docker:2375"),
            ("https://docker", "tcp://docker:2376"),
            ("tcp://:2375", "tcp://localhost:2375"),
            ("ssh://me@build:2222/run/docker.sock", "ssh://me@build:2222"),
        ] {
            let endpoint = Endpoint::parse(text, "DOCKER_HOST", None).unwrap();
            assert_eq!(endpoint.address.to_string(), shown, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_said_to_be_none() {
        for text in [
            "unix://relative",
            "fd://",
            "tcp://host:port",
            "tcp://host:70000",
            "tcp://a/b",
            "ssh://me:password@host",
            "ssh://-oProxyCommand=x",
            "ssh://-l@host",
            "tcp://[::1",
        ] {
            let error = discover(&[("DOCKER_HOST", text)], None).unwrap_err().to_string();
            assert!(error.starts_with("DOCKER_HOST is `"), "{error}");
        }
    }

    #[test]
    fn tls_is_what_docker_dind_sets_up() {
        let variables = [
            ("DOCKER_HOST", "tcp://docker:2376"),
            ("DOCKER_TLS_VERIFY", "1"),
            ("DOCKER_CERT_PATH", "/certs/client"),
        ];
        let Address::Tcp { host, port, tls } = discover(&variables, None).unwrap().address else {
            panic!("not tcp")
        };
        assert_eq!((host.as_str(), port), ("docker", 2376));
        assert_eq!(tls, Some(Tls::of("/certs/client")));
    }

    #[test]
    fn tls_that_verifies_nobody_is_refused() {
        let variables = [("DOCKER_HOST", "tcp://docker:2376"), ("DOCKER_TLS", "1")];
        assert!(matches!(discover(&variables, None), Err(EndpointError::Unverified { .. })));
    }

    #[test]
    fn a_context_is_found_from_the_variable_or_from_the_configuration() {
        let config = tempfile::tempdir().unwrap();
        let directory = context(
            config.path(),
            "far",
            r#"{"Name":"far","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://far:2376","SkipTLSVerify":false}}}"#,
        );
        let tls = config.path().join("contexts/tls").join(directory).join("docker");
        fs::create_dir_all(&tls).unwrap();
        fs::write(config.path().join("config.json"), r#"{"currentContext":"far"}"#).unwrap();

        let endpoint = discover(&[], Some(config.path())).unwrap();
        assert_eq!(
            endpoint.address,
            Address::Tcp { host: "far".into(), port: 2376, tls: Some(Tls::of(tls)) }
        );
        assert!(endpoint.to_string().contains("the Docker context `far`"), "{endpoint}");

        let by_name = discover(&[("DOCKER_CONTEXT", "far")], Some(config.path())).unwrap();
        assert_eq!(by_name.address, endpoint.address);

        let over = [("DOCKER_CONTEXT", "far"), ("DOCKER_HOST", "unix:///a")];
        let host = discover(&over, Some(config.path())).unwrap();
        assert_eq!(host.address, Address::Unix("/a".into()));
    }

    #[test]
    fn a_context_that_is_not_there_or_is_broken_is_an_error() {
        let config = tempfile::tempdir().unwrap();
        let error = discover(&[("DOCKER_CONTEXT", "gone")], Some(config.path())).unwrap_err();
        assert!(error.to_string().contains("`gone`, which does not exist"), "{error}");
        context(config.path(), "broken", "{");
        let error = discover(&[("DOCKER_CONTEXT", "broken")], Some(config.path())).unwrap_err();
        assert!(error.to_string().contains("meta.json"), "{error}");
    }
}
