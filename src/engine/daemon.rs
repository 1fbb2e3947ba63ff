//! A Docker Engine, or podman behind Docker's interface: what it says of itself, and its builds.
//!
//! bollard serves what is one question and one answer (images, version). Builds, push and pull are
//! spoken here: bollard 0.21 passes on neither the digest of a push nor more than one tag of a
//! build, and its BuildKit session serves no files.

use std::sync::Arc;

use ::http::Method;
use bollard::{ClientVersion, Docker};
use tokio::time::timeout;

use super::{
    Endpoint, Error, ImageId, Progress, Version,
    build::{BuildError, BuildRequest},
    buildkit::{self, Place},
    classic,
    endpoint::Address,
    http::{Http, accepted, advice, empty},
    output::{Exported, Output, OutputKind},
};

/// A Docker Engine that answers.
#[derive(Clone)]
pub(super) struct Daemon {
    pub(super) http: Http,
    pub(super) docker: Docker,
    pub(super) capabilities: Capabilities,
}

/// What an engine says of itself when it is first asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The version of the API that is spoken with it: `1.41`.
    pub api: String,
    /// Whether it builds with BuildKit when it is asked to. Otherwise there is the classic builder.
    pub buildkit: bool,
    /// Whether it is podman behind Docker's interface.
    pub podman: bool,
    /// What its containers run on: `linux` or `windows`.
    pub os: String,
}

impl Capabilities {
    /// Whether its BuildKit knows named contexts (Docker 23.0, BuildKit 0.10).
    pub(super) fn knows_contexts(&self) -> bool {
        self.has_api(&ClientVersion { major_version: 1, minor_version: 42 })
    }

    /// Whether its BuildKit knows `ADD` of git repositories (Docker 25.0, BuildKit 0.12).
    pub(super) fn knows_git(&self) -> bool {
        self.has_api(&ClientVersion { major_version: 1, minor_version: 44 })
    }

    /// Whether it speaks that version of the API, or a later one.
    fn has_api(&self, wanted: &ClientVersion) -> bool {
        api_version(&self.api).is_some_and(|api| api >= *wanted)
    }
}

/// The newest API that this module was written for.
const NEWEST_API: ClientVersion = *bollard::API_DEFAULT_VERSION;
/// The first API whose `/session` BuildKit builds can use (Docker 18.09).
const FIRST_BUILDKIT_API: ClientVersion = ClientVersion { major_version: 1, minor_version: 39 };
/// How long an engine may take to begin an answer to bollard: it may be pulling. In seconds.
const PATIENCE: u64 = 24 * 60 * 60;

impl Daemon {
    /// Contacts the engine at `endpoint` and learns what it can do.
    ///
    /// # Errors
    /// When nobody answers there, or what answers is no engine.
    pub(super) async fn connect(endpoint: &Endpoint) -> Result<Self, Error> {
        let mut http = Http { endpoint: endpoint.clone(), prefix: String::new() };
        let not_an_engine = |reason: String| Error::NotAnEngine {
            endpoint: endpoint.to_string(),
            reason,
            advice: "have DOCKER_HOST or the Docker context name one",
        };
        let ping = http.request(Method::GET, "/_ping").body(empty());
        let ping = ping.map_err(|e| not_an_engine(e.to_string()))?;
        let silent = |_| http.unreachable(&std::io::ErrorKind::TimedOut.into());
        let sent = http.send("contact the engine", ping);
        let patience = endpoint.address.patience();
        let response =
            timeout(patience, sent).await.map_err(silent)?.map_err(|error| match error {
                Error::Broken { reason, .. } => match &endpoint.address {
                    // A certificate of ours is refused only after the connection stands.
                    Address::Tcp { tls: Some(tls), .. } => Error::Tls {
                        endpoint: endpoint.to_string(),
                        reason,
                        directory: tls.directory.display().to_string(),
                    },
                    // What leads there says why it does not.
                    address @ (Address::Ssh(_) | Address::Program { .. }) => {
                        let (endpoint, advice) = (endpoint.to_string(), advice(address));
                        Error::NotRunning { what: "Docker Engine", endpoint, reason, advice }
                    }
                    _ => not_an_engine(reason),
                },
                error => error,
            })?;
        let response = accepted("be contacted", response).await.map_err(|error| match error {
            Error::Refused { message, .. } if message.contains("HTTPS server") => {
                Error::NotAnEngine {
                    endpoint: endpoint.to_string(),
                    reason: "it wants TLS".to_owned(),
                    advice: "set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to its certificates",
                }
            }
            Error::Refused { message, .. } => not_an_engine(message),
            error => error,
        })?;
        let header = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let theirs = header("api-version")
            .and_then(|text| api_version(&text))
            .ok_or_else(|| not_an_engine("it does not say which API it speaks".to_owned()))?;
        let podman = header("libpod-api-version").is_some();
        let os = header("ostype").unwrap_or_else(|| "linux".to_owned());
        let api = if theirs < NEWEST_API { theirs } else { NEWEST_API };
        let capabilities = Capabilities {
            api: format!("{}.{}", api.major_version, api.minor_version),
            buildkit: !podman && os != "windows" && api >= FIRST_BUILDKIT_API,
            podman,
            os,
        };
        http.prefix = format!("/v{}", capabilities.api);
        let docker = bollard_over(&http, &api)?;
        Ok(Self { http, docker, capabilities })
    }

    /// Which engine it is.
    ///
    /// # Errors
    /// When it does not say.
    pub(super) async fn version(&self) -> Result<Version, Error> {
        let action = "say its version";
        let version = self.docker.version().await.map_err(|e| of_bollard(action, e))?;
        let containerd_store = self.has_containerd_store().await?;
        let name = if self.capabilities.podman { "Podman Engine" } else { "Docker Engine" };
        Ok(Version {
            name: name.to_owned(),
            version: version.version.unwrap_or_default(),
            platform: format!(
                "{}/{}",
                version.os.unwrap_or_default(),
                version.arch.unwrap_or_default()
            ),
            containerd_store,
        })
    }

    /// Whether images are kept in containerd's store.
    pub(super) async fn has_containerd_store(&self) -> Result<bool, Error> {
        let info = self.docker.info().await.map_err(|e| of_bollard("say how it is set up", e))?;
        let mut words = info.driver_status.iter().flatten().flatten();
        Ok(words.any(|word| word.starts_with("io.containerd.snapshotter")))
    }

    /// Builds, and writes what was built into a file.
    pub(super) async fn export(
        &self,
        request: &BuildRequest,
        output: &Output,
        progress: &dyn Progress,
    ) -> Result<Exported, BuildError> {
        let refuse = |why: &str| {
            let what = "into a file (--output)".to_owned();
            Err(BuildError::Unsupported { what, why: why.to_owned() })
        };
        if !self.capabilities.buildkit {
            return refuse("it has no BuildKit; use an engine that has, a buildkitd or buildah");
        }
        if output.kind == OutputKind::Oci && !self.has_containerd_store().await? {
            return refuse("only engines with containerd's image store write images (type=oci)");
        }
        let place = Place::Engine(&self.http, &self.capabilities);
        buildkit::export(place, request, output, progress).await
    }

    /// Builds an image with exactly the inputs of `request`, and tags it.
    ///
    /// Dropping the future cancels the build in the engine.
    ///
    /// # Errors
    /// When the build fails, is not possible on this engine, or its inputs changed under way.
    pub(super) async fn build(
        &self,
        request: &BuildRequest,
        progress: &dyn Progress,
    ) -> Result<ImageId, BuildError> {
        if self.capabilities.buildkit {
            if let Some(cache) = request.cache_to.iter().find(|cache| !cache.is_inline())
                && !self.has_containerd_store().await?
            {
                return Err(BuildError::Unsupported {
                    what: format!("with its cache exported to `{cache}`"),
                    why: "only engines with containerd's image store can; `type=inline` works with every BuildKit".to_owned(),
                });
            }
            buildkit::build(&self.http, &self.capabilities, request, progress).await
        } else {
            classic::build(&self.http, &self.capabilities, request, progress).await
        }
    }
}

/// The version that `1.41` is.
fn api_version(text: &str) -> Option<ClientVersion> {
    let (major, minor) = text.split_once('.')?;
    Some(ClientVersion { major_version: major.parse().ok()?, minor_version: minor.parse().ok()? })
}

/// bollard, over our own connections.
fn bollard_over(http: &Http, api: &ClientVersion) -> Result<Docker, Error> {
    let http = Arc::new(http.clone());
    let transport = move |request: bollard::BollardRequest| {
        let http = Arc::clone(&http);
        async move {
            http.send("ask the engine", request)
                .await
                .map_err(|error| std::io::Error::other(error).into())
        }
    };
    Docker::connect_with_custom_transport(transport, Some("http://docker"), PATIENCE, api)
        .map_err(|error| of_bollard("be asked", error))
}

/// Our error for one of bollard's.
pub(super) fn of_bollard(action: &str, error: bollard::errors::Error) -> Error {
    use bollard::errors::Error as Bollard;
    let action = action.to_owned();
    match error {
        Bollard::DockerResponseServerError { status_code: status, message } => {
            Error::Refused { action, status, message }
        }
        // Our own error, on its way through bollard's transport.
        Bollard::IOError { err } => match err.downcast::<Error>() {
            Ok(error) => error,
            Err(error) => Error::broken(&action, &error),
        },
        error @ Bollard::JsonDataError { .. } => {
            Error::Protocol { action, what: format!("gave an unreadable answer: {error}") }
        }
        error => Error::failed(action, error.to_string()),
    }
}
