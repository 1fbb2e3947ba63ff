//! The session: a connection that the engine opens towards us, over one that we opened to it.
//!
//! `POST /session` turns the connection into HTTP/2 with the roles swapped (moby
//! `client/hijack.go`, buildkit `session/session.go`): BuildKit calls, we serve.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use bollard_buildkit_proto::{
    health::{
        HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus::Serving,
    },
    moby::{
        buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse},
        filesync::v1::{CredentialsRequest, CredentialsResponse},
    },
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, spawn_blocking},
};

use super::{
    agents,
    content::{self, Stores},
    filesync::{self, Directories},
    grpc::{self, Client, Code, Outgoing, Status},
    receive::{self, Sink},
};
use crate::{
    credentials::Logins,
    engine::{
        SshAgent,
        build::{BuildError, Fault, SecretSource},
        error::Error,
        http::{Http, accepted, empty},
    },
};

/// What is being done, for errors.
const ACTION: &str = "open a session for the build";
/// BuildKit's name for Docker Hub.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// So many bytes of a session may wait on their way through a call.
const TUNNEL: usize = 256 << 10;

/// The calls that are served, and the one that carries them to a buildkitd.
mod method {
    pub(super) const SESSION: &str = "/moby.buildkit.v1.Control/Session";
    pub(super) const DIFF_COPY: &str = "/moby.filesync.v1.FileSync/DiffCopy";
    pub(super) const CREDENTIALS: &str = "/moby.filesync.v1.Auth/Credentials";
    pub(super) const GET_SECRET: &str = "/moby.buildkit.secrets.v1.Secrets/GetSecret";
    pub(super) const CHECK_AGENT: &str = "/moby.sshforward.v1.SSH/CheckAgent";
    pub(super) const FORWARD_AGENT: &str = "/moby.sshforward.v1.SSH/ForwardAgent";
    pub(super) const FILE_SEND: &str = "/moby.filesync.v1.FileSend/DiffCopy";
    pub(super) const HEALTH: &str = "/grpc.health.v1.Health/Check";
}

/// What a build may ask for.
pub(super) struct Services {
    pub(super) directories: Directories,
    pub(super) logins: Arc<dyn Logins>,
    pub(super) secrets: BTreeMap<String, SecretSource>,
    pub(super) agents: BTreeMap<String, SshAgent>,
    /// The caches in directories of this machine.
    pub(super) caches: Stores,
    /// Where the build is written to, if it is not for a store.
    pub(super) sink: Option<Sink>,
    pub(super) fault: Fault,
}

/// A session under way. It ends when it is dropped.
pub(super) struct Session {
    /// Its name, under which a build finds it.
    pub(super) id: String,
    serving: AbortHandle,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Session {
    /// Opens a session at the engine and serves it in a task of its own.
    pub(super) async fn open(
        http: &Http,
        shared_key: &str,
        services: Services,
    ) -> Result<Self, BuildError> {
        let id = unique();
        let mut request = http
            .request(Method::POST, "/session")
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "h2c")
            .header("X-Docker-Expose-Session-Uuid", &id)
            .header("X-Docker-Expose-Session-Name", "smartbuild")
            .header("X-Docker-Expose-Session-Sharedkey", shared_key);
        for method in services.methods() {
            request = request.header("X-Docker-Expose-Session-Grpc-Method", method);
        }
        let request = request.body(empty()).map_err(|error| Error::broken(ACTION, &error))?;
        let response = accepted(ACTION, http.send(ACTION, request).await?).await?;
        let connection =
            hyper::upgrade::on(response).await.map_err(|error| Error::broken(ACTION, &error))?;
        let serving = tokio::spawn(serve(connection, Arc::new(services))).abort_handle();
        Ok(Self { id, serving })
    }

    /// Opens a session at a buildkitd: its bytes are carried by a call that is a stream both ways
    /// (buildkit `session/grpchijack/dial.go`).
    pub(super) async fn over(
        client: &Client,
        shared_key: &str,
        services: Services,
    ) -> Result<Self, BuildError> {
        let id = unique();
        let mut metadata = HeaderMap::new();
        let mut add = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                metadata.append(name, value);
            }
        };
        add("x-docker-expose-session-uuid", &id);
        add("x-docker-expose-session-name", "smartbuild");
        add("x-docker-expose-session-sharedkey", shared_key);
        for method in services.methods() {
            add("x-docker-expose-session-grpc-method", method);
        }
        let (ours, theirs) = tokio::io::duplex(TUNNEL);
        let (sender, questions) = mpsc::channel(1);
        let answers = client
            .call(method::SESSION, &metadata, questions)
            .await
            .map_err(|status| Error::Broken { action: ACTION.into(), reason: status.message })?;
        let serving = tokio::spawn(async move {
            let tunnel = grpc::tunnel(theirs, sender, answers);
            let serve = serve(TokioIo::new(ours), Arc::new(services));
            tokio::join!(tunnel, serve);
        });
        Ok(Self { id, serving: serving.abort_handle() })
    }
}

async fn serve<C>(connection: C, services: Arc<Services>)
where
    C: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    let service = service_fn(move |request| {
        let services = Arc::clone(&services);
        async move { Ok::<_, Infallible>(services.call(request).await) }
    });
    // However it ends, the build's own answer says it better.
    let _ = http2::Builder::new(TokioExecutor::new())
        .initial_connection_window_size(grpc::CONNECTION_WINDOW)
        .serve_connection(connection, service)
        .await;
}

impl Services {
    /// The calls that are worth making. BuildKit does without logins, secrets and agents where
    /// they are not named here.
    fn methods(&self) -> Vec<&'static str> {
        let mut methods = vec![method::DIFF_COPY, method::CREDENTIALS, method::HEALTH];
        if self.sink.is_some() {
            methods.push(method::FILE_SEND);
        }
        if !self.caches.is_empty() {
            methods.extend(content::METHODS);
        }
        if !self.secrets.is_empty() {
            methods.push(method::GET_SECRET);
        }
        if !self.agents.is_empty() {
            methods.extend([method::CHECK_AGENT, method::FORWARD_AGENT]);
        }
        methods
    }

    async fn call(&self, request: Request<Incoming>) -> Response<Outgoing> {
        match request.uri().path() {
            method::DIFF_COPY => filesync::diff_copy(&self.directories, &self.fault, request),
            method::CREDENTIALS => grpc::unary(request, |asked| self.credentials(asked)).await,
            method::GET_SECRET => grpc::unary(request, |asked| self.secret(asked)).await,
            method::CHECK_AGENT => {
                grpc::unary(request, |asked| agents::check(&self.agents, asked)).await
            }
            method::FILE_SEND => match &self.sink {
                Some(sink) => receive::receive(sink, &self.fault, request).await,
                None => grpc::refuse(Status::new(Code::Unimplemented, "nothing is wanted here")),
            },
            method::FORWARD_AGENT => agents::forward(&self.agents, request).await,
            path if content::METHODS.contains(&path) => {
                self.caches.call(&self.fault, request).await
            }
            method::HEALTH => {
                grpc::unary(request, |_: HealthCheckRequest| async {
                    Ok(HealthCheckResponse { status: Serving as i32 })
                })
                .await
            }
            other => {
                grpc::refuse(Status::new(Code::Unimplemented, format!("no method {other} here")))
            }
        }
    }

    /// The login for a registry; an empty one where there is none.
    async fn credentials(&self, asked: CredentialsRequest) -> Result<CredentialsResponse, Status> {
        let host = if asked.host == DOCKER_HUB { "docker.io".to_owned() } else { asked.host };
        let logins = Arc::clone(&self.logins);
        let login = spawn_blocking(move || logins.login(&host))
            .await
            .map_err(|error| Status::new(Code::Unknown, error.to_string()))?
            .map_err(|error| {
                let status = Status::new(Code::Unavailable, error.to_string());
                self.fault.set(Error::from(error).into());
                status
            })?;
        Ok(login.map_or_else(CredentialsResponse::default, |login| CredentialsResponse {
            // A token has no user: that is how BuildKit tells them apart.
            username: if login.identity_token { String::new() } else { login.username.clone() },
            secret: login.secret.expose().to_owned(),
        }))
    }

    async fn secret(&self, asked: GetSecretRequest) -> Result<GetSecretResponse, Status> {
        let id = asked.id;
        // BuildKit goes on without one that is not required.
        let Some(source) = self.secrets.get(&id).cloned() else {
            return Err(Status::new(Code::NotFound, format!("there is no secret `{id}`")));
        };
        match source.read().await {
            Ok(data) => Ok(GetSecretResponse { data }),
            Err(reason) => {
                let error = BuildError::Secret { id, reason };
                let status = Status::new(Code::Unavailable, error.to_string());
                self.fault.set(error);
                Err(status)
            }
        }
    }
}

/// A name that no other session of this engine has.
fn unique() -> String {
    use std::hash::{BuildHasher, RandomState};
    // Each is keyed by the system's random numbers.
    let half = || RandomState::new().hash_one(std::time::SystemTime::now());
    format!("{:016x}{:016x}", half(), half())
}
