//! A `buildkitd` by itself, without a Docker Engine around it.
//!
//! It is reached where `buildctl` would look for it, and has no store of images: what it builds is
//! pushed, or written into a file.

use std::{borrow::Cow, path::PathBuf};

use bollard_buildkit_proto::moby::buildkit::v1::{
    InfoRequest, InfoResponse, ListWorkersRequest, ListWorkersResponse,
};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::grpc::{Client, Code, Status};
use crate::{
    engine::{
        Version,
        dial::dial_http2,
        endpoint::{Address, Endpoint, EndpointError, Tls},
        error::{Error, innermost, no_connection},
        piped::buildctl_over_ssh,
    },
    platform::Platform,
};

const LIST_WORKERS: &str = "/moby.buildkit.v1.Control/ListWorkers";
const INFO: &str = "/moby.buildkit.v1.Control/Info";
/// The variable that names it.
const HOST: &str = "BUILDKIT_HOST";
/// The variable that names the directory of its certificates, as `buildctl --tlsdir` does.
const TLS_DIRECTORY: &str = "BUILDKIT_TLS_DIR";
/// The variable that names whom its certificate is for, as `buildctl --tlsservername` does.
const TLS_NAME: &str = "BUILDKIT_TLS_SERVERNAME";
/// Where it listens when nobody says otherwise (buildkit `util/appdefaults`).
const SOCKET: &str = "buildkit/buildkitd.sock";
/// Its port.
const PORT: u16 = 1234;

/// A `buildkitd` that answers.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Buildkitd {
    endpoint: Endpoint,
    pub(super) version: String,
    /// What it can build for.
    platforms: Vec<String>,
}

impl Buildkitd {
    /// Contacts it, and learns what it can do.
    pub(in crate::engine) async fn connect(endpoint: &Endpoint) -> Result<Self, Error> {
        let mut this =
            Self { endpoint: endpoint.clone(), version: String::new(), platforms: Vec::new() };
        let asked = async {
            let client = this.client().await?;
            let workers = client.unary(LIST_WORKERS, &ListWorkersRequest::default()).await;
            let workers: ListWorkersResponse =
                workers.map_err(|status| this.unreachable(status.message))?;
            Ok((client, workers))
        };
        let answered = timeout(endpoint.address.patience(), asked).await;
        let (client, workers) =
            answered.unwrap_or_else(|_| Err(this.unreachable("it does not answer".to_owned())))?;
        let platforms = workers.record.first().into_iter().flat_map(|worker| &worker.platforms);
        this.platforms = platforms
            .map(|p| Platform::normal(&p.os, &p.architecture, Some(&p.variant)).to_string())
            .collect();
        this.platforms.dedup();
        // Older ones do not say.
        this.version = match client.unary::<_, InfoResponse>(INFO, &InfoRequest {}).await {
            Ok(info) => info.buildkit_version.unwrap_or_default().version,
            Err(Status { code: Code::Unavailable, message }) => {
                return Err(this.unreachable(message));
            }
            Err(_) => "before v0.11".to_owned(),
        };
        Ok(this)
    }

    /// A connection of its own.
    pub(super) async fn client(&self) -> Result<Client, Error> {
        let connection = dial_http2(&self.endpoint.address)
            .await
            .map_err(|error| self.unreachable(no_connection(&error)))?;
        Client::new(TokioIo::new(connection), "localhost")
            .await
            .map_err(|error| self.unreachable(innermost(&error)))
    }

    fn unreachable(&self, reason: String) -> Error {
        Error::NotRunning {
            what: "buildkitd",
            endpoint: self.endpoint.to_string(),
            reason,
            advice: advice(&self.endpoint.address),
        }
    }

    pub(in crate::engine) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(in crate::engine) fn version(&self) -> Version {
        Version {
            name: "buildkitd".to_owned(),
            version: self.version.clone(),
            platform: self.platforms.join(", "),
            containerd_store: false,
        }
    }
}

impl Endpoint {
    /// The buildkitd that `BUILDKIT_HOST` names, else the one at its usual place.
    ///
    /// # Errors
    /// When what is set names none.
    pub fn of_buildkitd(variable: impl Fn(&str) -> Option<String>) -> Result<Self, EndpointError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let Some(host) = set(HOST) else {
            let own = set("XDG_RUNTIME_DIR").map(|run| PathBuf::from(run).join(SOCKET));
            let path = own.filter(|path| path.exists());
            let path = path.unwrap_or_else(|| PathBuf::from("/run").join(SOCKET));
            return Ok(Self { address: Address::Unix(path), origin: None });
        };
        if let Some(command) = through_a_program(&host) {
            let address = Address::Program { shown: host, command };
            return Ok(Self { address, origin: Some(HOST.to_owned()) });
        }
        let tls =
            set(TLS_DIRECTORY).map(|directory| Tls { name: set(TLS_NAME), ..Tls::of(directory) });
        let mut endpoint = Self::parse(&host, HOST, tls)?;
        let bare = host.rsplit(['/', ']']).next().is_some_and(|end| !end.contains(':'));
        match &mut endpoint.address {
            Address::Tcp { port, .. } if bare => *port = PORT,
            Address::Ssh(address) => {
                let command = buildctl_over_ssh(address);
                endpoint.address = Address::Program { shown: host, command };
            }
            _ => {}
        }
        Ok(endpoint)
    }
}

/// What to do where none answers, in one part of a sentence.
fn advice(address: &Address) -> String {
    match address {
        Address::Tcp { tls: Some(tls), .. } => format!(
            "start it, or correct {HOST}, or check the certificates in {} ({TLS_DIRECTORY}) and \
             whom they are for ({TLS_NAME})",
            tls.directory.display()
        ),
        Address::Tcp { tls: None, .. } => format!(
            "start it, or correct {HOST}, or if it wants TLS, set {TLS_DIRECTORY} to the directory of \
             ca.pem, cert.pem and key.pem"
        ),
        Address::Program { command, .. } => {
            format!("check that `{} < /dev/null` works, or correct {HOST}", command.join(" "))
        }
        _ => format!("start it, as a user whose socket this one may use, or correct {HOST}"),
    }
}

/// The command whose input and output are the connection, for the addresses of containers and pods
/// (buildkit `client/connhelper`).
fn through_a_program(host: &str) -> Option<Vec<String>> {
    let (scheme, rest) = host.split_once("://")?;
    let (name, query) = rest.split_once('?').unwrap_or((rest, ""));
    let name = name.trim_end_matches('/');
    // What starts with a dash would be an option.
    if name.is_empty() || name.starts_with('-') {
        return None;
    }
    // The options of the program that the address may have.
    let (program, known): (_, &[&str]) = match scheme {
        "docker-container" => ("docker", &["context"]),
        "podman-container" => ("podman", &[]),
        "nerdctl-container" => ("nerdctl", &["namespace"]),
        "kube-pod" => ("kubectl", &["context", "namespace", "container"]),
        _ => return None,
    };
    let options = form_urlencoded::parse(query.as_bytes());
    let options = options.filter(|(key, _)| known.contains(&&**key));
    let (of_exec, general): (Vec<_>, Vec<_>) = options.partition(|(key, _)| key == "container");
    let written = |options: Vec<_>| {
        options
            .into_iter()
            .map(|(key, value): (Cow<'_, str>, Cow<'_, str>)| format!("--{key}={value}"))
    };
    let mut command = vec![program.to_owned()];
    command.extend(written(general));
    command.extend(["exec".to_owned(), "-i".to_owned()]);
    command.extend(written(of_exec));
    command.push(name.to_owned());
    if program == "kubectl" {
        command.push("--".to_owned());
    }
    command.extend(["buildctl".to_owned(), "dial-stdio".to_owned()]);
    Some(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Result<Endpoint, EndpointError> {
        Endpoint::of_buildkitd(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn it_is_where_buildctl_would_look() {
        for (host, shown) in [
            ("unix:///run/b.sock", "unix:///run/b.sock"),
            ("tcp://build", "tcp://build:1234"),
            ("tcp://[::1]", "tcp://[::1]:1234"),
            ("tcp://build:99", "tcp://build:99"),
            ("docker-container://bk", "docker-container://bk"),
        ] {
            assert_eq!(found(&[(HOST, host)]).unwrap().address.to_string(), shown);
        }
        assert_eq!(found(&[]).unwrap().address.to_string(), "unix:///run/buildkit/buildkitd.sock");
        assert!(found(&[(HOST, "nonsense://x")]).is_err());
        let secure = found(&[(HOST, "tcp://build:1"), (TLS_DIRECTORY, "/certs")]).unwrap();
        assert!(matches!(secure.address, Address::Tcp { tls: Some(_), .. }));
        let far = found(&[(HOST, "ssh://me@build")]).unwrap().address;
        let Address::Program { shown, command } = far else { panic!("{far:?}") };
        assert_eq!(
            (shown.as_str(), command.last().unwrap().as_str()),
            ("ssh://me@build", "dial-stdio")
        );
        assert!(command.contains(&"buildctl".to_owned()), "{command:?}");
    }

    #[test]
    fn containers_and_pods_are_reached_through_their_programs() {
        let command = |host| through_a_program(host).unwrap().join(" ");
        assert_eq!(command("docker-container://bk"), "docker exec -i bk buildctl dial-stdio");
        assert_eq!(
            command("kube-pod://pod?namespace=ci&container=bk"),
            "kubectl --namespace=ci exec -i --container=bk pod -- buildctl dial-stdio"
        );
        assert_eq!(
            command("docker-container://bk?context=far"),
            "docker --context=far exec -i bk buildctl dial-stdio"
        );
        assert_eq!(command("podman-container://bk"), "podman exec -i bk buildctl dial-stdio");
        assert_eq!(
            command("nerdctl-container://bk?namespace=ci"),
            "nerdctl --namespace=ci exec -i bk buildctl dial-stdio"
        );
        assert_eq!(through_a_program("docker-container://-v"), None);
    }
}
