//! HTTP/1.1 with an engine: one connection per request, errors as engines write them, and the
//! stream of JSON messages that a long operation answers with.
//!
//! A connection per request costs microseconds on a socket, and makes cancelling plain: whoever
//! drops an answer closes its connection, and the engine stops what it was doing for it.

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Body, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    dial::dial,
    endpoint::{Address, Endpoint},
    error::{Error, innermost, no_connection},
};

/// The longest message that an engine may send: a status of BuildKit with a step's log in it.
const LONGEST_MESSAGE: usize = 64 << 20;

/// Where requests go.
#[derive(Clone, Debug)]
pub(super) struct Http {
    pub(super) endpoint: Endpoint,
    /// What every path starts with: `/v1.41`.
    pub(super) prefix: String,
}

/// A request without content.
pub(super) fn empty() -> Full<Bytes> {
    Full::new(Bytes::new())
}

impl Http {
    /// A request for `path` below the API's version.
    pub(super) fn request(&self, method: Method, path: &str) -> http::request::Builder {
        Request::builder().method(method).uri(format!("{}{path}", self.prefix))
    }

    /// Sends a request and gives the answer's head, whatever it says. `action` says for errors
    /// what is being done.
    pub(super) async fn send<B>(
        &self,
        action: &str,
        mut request: Request<B>,
    ) -> Result<Response<Incoming>, Error>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let address = &self.endpoint.address;
        let connection = dial(address).await.map_err(|e| self.unreachable(&e))?;
        let (mut sender, driver) = http1::handshake(TokioIo::new(connection))
            .await
            .map_err(|e| Error::broken(action, &e))?;
        // Ends by itself when the request and its answer are dropped.
        tokio::spawn(driver.with_upgrades());
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse::<Uri>().map_err(|e| Error::broken(action, &e))?;
        let host = match address {
            Address::Tcp { host, port, .. } => format!("{host}:{port}"),
            _ => "docker".to_owned(),
        };
        if let Ok(host) = HeaderValue::from_str(&host) {
            request.headers_mut().insert(header::HOST, host);
        }
        let agent = concat!("smartbuild/", env!("CARGO_PKG_VERSION"));
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static(agent));
        sender.send_request(request).await.map_err(|e| Error::broken(action, &e))
    }

    /// Sends a request whose answer is a stream of messages.
    pub(super) async fn stream<B>(
        &self,
        action: &str,
        request: Request<B>,
    ) -> Result<Messages, Error>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let response = accepted(action, self.send(action, request).await?).await?;
        Ok(Messages {
            action: action.to_owned(),
            body: response.into_body(),
            buffer: BytesMut::new(),
            searched: 0,
        })
    }

    /// Why no connection could be opened, and what to do about it.
    pub(super) fn unreachable(&self, error: &std::io::Error) -> Error {
        use std::io::ErrorKind;

        let endpoint = self.endpoint.to_string();
        let address = &self.endpoint.address;
        match (error.kind(), address) {
            (ErrorKind::PermissionDenied, _) => return Error::Forbidden { endpoint },
            (ErrorKind::InvalidData, Address::Tcp { tls: Some(tls), .. }) => {
                let directory = tls.directory.display().to_string();
                return Error::Tls { endpoint, reason: innermost(error), directory };
            }
            _ => {}
        }
        let reason = no_connection(error);
        Error::NotRunning { what: "Docker Engine", endpoint, reason, advice: advice(address) }
    }
}

/// What to do where no engine runs: use the one that does, or start it.
pub(super) fn advice(address: &Address) -> String {
    #[cfg(unix)]
    if let Address::Unix(missing) = address {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(std::path::PathBuf::from);
        let rootless = runtime
            .iter()
            .flat_map(|run| [run.join("docker.sock"), run.join("podman/podman.sock")]);
        let system = ["/var/run/docker.sock", "/run/podman/podman.sock"].map(Into::into);
        for other in rootless.chain(system) {
            if other != *missing && other.exists() {
                return format!(
                    "there is a socket at {0}: `export DOCKER_HOST=unix://{0}`",
                    other.display()
                );
            }
        }
    }
    match address {
        Address::Unix(_) if cfg!(target_os = "macos") => "start Docker Desktop".to_owned(),
        Address::Unix(_) => {
            "start it (`sudo systemctl start docker`) or set DOCKER_HOST to one that runs"
                .to_owned()
        }
        Address::NamedPipe(_) => "start Docker Desktop".to_owned(),
        Address::Tcp { .. } | Address::Program { .. } => {
            "start it there, or correct DOCKER_HOST (in CI, check that the service is up)"
                .to_owned()
        }
        Address::Ssh(SshAddress { host, .. }) => {
            format!("check that `ssh {host} docker version` works")
        }
    }
}

use super::endpoint::SshAddress;

/// The answer, if the engine agrees to do what it was asked.
pub(super) async fn accepted(
    action: &str,
    response: Response<Incoming>,
) -> Result<Response<Incoming>, Error> {
    let status = response.status();
    if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response);
    }
    let body =
        response.into_body().collect().await.map_err(|e| Error::broken(action, &e))?.to_bytes();
    #[derive(Deserialize)]
    struct Refusal {
        message: String,
    }
    let message = serde_json::from_slice::<Refusal>(&body)
        .map(|refusal| refusal.message)
        .unwrap_or_else(|_| String::from_utf8_lossy(&body).trim().chars().take(1000).collect());
    let message = if message.is_empty() { format!("it answers {status}") } else { message };
    Err(Error::Refused { action: action.to_owned(), status: status.as_u16(), message })
}

/// The messages of a long operation, one JSON object a line (moby
/// `pkg/jsonmessage/jsonmessage.go`).
pub(super) struct Messages {
    action: String,
    body: Incoming,
    buffer: BytesMut,
    /// So much of the buffer holds no end of a line.
    searched: usize,
}

/// One of them. Every field may be missing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Message {
    pub(super) id: Option<String>,
    pub(super) stream: Option<String>,
    pub(super) status: Option<String>,
    #[serde(rename = "progressDetail")]
    pub(super) progress: Option<ProgressDetail>,
    #[serde(rename = "errorDetail")]
    pub(super) error_detail: Option<ErrorDetail>,
    pub(super) error: Option<String>,
    pub(super) aux: Option<Box<serde_json::value::RawValue>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ProgressDetail {
    pub(super) current: i64,
    pub(super) total: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ErrorDetail {
    pub(super) code: Option<i64>,
    pub(super) message: String,
}

impl Message {
    /// What went wrong, if this message says so.
    pub(super) fn failure(&self) -> Option<ErrorDetail> {
        match (&self.error_detail, &self.error) {
            (Some(detail), _) if !detail.message.is_empty() => {
                Some(ErrorDetail { code: detail.code, message: detail.message.clone() })
            }
            (_, Some(message)) => Some(ErrorDetail { code: None, message: message.clone() }),
            _ => None,
        }
    }

    /// What is beside the text, if it is of that type.
    pub(super) fn aux<T: DeserializeOwned>(&self) -> Option<T> {
        self.aux.as_ref().and_then(|aux| serde_json::from_str(aux.get()).ok())
    }
}

impl Messages {
    /// The next message; `None` when the operation is over.
    pub(super) async fn next(&mut self) -> Result<Option<Message>, Error> {
        loop {
            while let Some(line) = self.line() {
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return serde_json::from_slice(&line).map(Some).map_err(|error| Error::Protocol {
                    action: self.action.clone(),
                    what: format!("sent a message that cannot be read ({error})"),
                });
            }
            if self.buffer.len() > LONGEST_MESSAGE {
                return Err(Error::Protocol {
                    action: self.action.clone(),
                    what: "sent a message without end".to_owned(),
                });
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(Error::broken(&self.action, &error)),
                None if self.buffer.trim_ascii().is_empty() => return Ok(None),
                // The last line may come without an end.
                None => self.buffer.extend_from_slice(b"\n"),
            }
        }
    }

    /// Takes a whole line out of the buffer, if there is one.
    fn line(&mut self) -> Option<Bytes> {
        let end = self.buffer.get(self.searched..)?.iter().position(|byte| *byte == b'\n');
        match end {
            Some(end) => {
                let line = self.buffer.split_to(self.searched + end + 1).freeze();
                self.searched = 0;
                Some(line)
            }
            None => {
                self.searched = self.buffer.len();
                None
            }
        }
    }
}

/// A query string, from pairs in order.
pub(super) fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}
