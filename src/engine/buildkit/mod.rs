//! Builds with BuildKit: a session that serves what the build needs, and the engine's `/build`
//! that drives it.
//!
//! Nothing is uploaded. BuildKit calls back over the session for the Dockerfile, for the files of
//! the context that it lacks, for logins, secrets and agents; progress comes with the answer of
//! `/build`.

mod agents;
mod filesync;
mod grpc;
mod session;
mod trace;

use std::{collections::BTreeMap, sync::Arc};

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;
use bytes::Bytes;
use http::Method;
use prost::Message as _;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use self::{
    filesync::{Directories, Directory},
    session::{Services, Session},
    trace::Trace,
};
use super::{
    build::{BuildError, BuildRequest, Fault},
    error::Error,
    http::{Http, Message, empty, query},
    images::ImageId,
    progress::{Event, Progress},
};

/// What is being done, for errors.
const ACTION: &str = "build the image";
/// The name under which the Dockerfile is served. What people see is in the request.
const DOCKERFILE: &str = "Dockerfile";

/// Builds an image.
pub(super) async fn build(
    http: &Http,
    request: &BuildRequest,
    progress: &dyn Progress,
) -> Result<ImageId, BuildError> {
    let fault = Fault::default();
    let services = Services {
        directories: directories(request),
        logins: Arc::clone(&request.logins),
        secrets: request.secrets.clone(),
        agents: request.ssh.clone(),
        fault: fault.clone(),
    };
    let session = Session::open(http, &shared_key(request), services).await?;
    match run(http, &session.id, request, progress).await {
        Err(error) => Err(fault.take().unwrap_or(error)),
        built => built,
    }
}

async fn run(
    http: &Http,
    session: &str,
    request: &BuildRequest,
    progress: &dyn Progress,
) -> Result<ImageId, BuildError> {
    let mut parameters = request.parameters(DOCKERFILE);
    parameters.extend([
        ("version", "2".to_owned()),
        ("remote", "client-session".to_owned()),
        ("session", session.to_owned()),
        ("buildid", session.to_owned()),
    ]);
    let post = http
        .request(Method::POST, &format!("/build?{}", query(parameters)))
        .body(empty())
        .map_err(|error| Error::broken(ACTION, &error))?;
    let mut messages = http.stream(ACTION, post).await?;
    let mut trace = Trace::default();
    let mut image = None;
    while let Some(message) = messages.next().await? {
        if let Some(failure) = message.failure() {
            return Err(trace.failure(failure.message));
        }
        match message.id.as_deref() {
            Some("moby.buildkit.trace") => trace.update(status(&message)?, progress),
            Some("moby.image.id") => image = message.aux::<Built>().map(|built| built.id),
            _ => {
                for text in [message.stream, message.status].into_iter().flatten() {
                    progress.event(Event::Note { text });
                }
            }
        }
    }
    match image {
        Some(id) => Ok(ImageId::parse(ACTION, &id)?),
        None => Err(Error::broken(ACTION, &Ended).into()),
    }
}

#[derive(Deserialize)]
struct Built {
    #[serde(rename = "ID")]
    id: String,
}

#[derive(Debug, thiserror::Error)]
#[error("it ended before there was an image")]
struct Ended;

/// The progress in a message: base64 of a protobuf message, as a JSON string.
fn status(message: &Message) -> Result<StatusResponse, Error> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let unreadable = |error: &dyn std::fmt::Display| Error::Protocol {
        action: ACTION.to_owned(),
        what: format!("sent progress that cannot be read ({error})"),
    };
    let text: String = message.aux().unwrap_or_default();
    let bytes = STANDARD.decode(text).map_err(|e| unreadable(&e))?;
    StatusResponse::decode(bytes.as_slice()).map_err(|e| unreadable(&e))
}

/// The directories that BuildKit asks for.
fn directories(request: &BuildRequest) -> Directories {
    let context =
        Directory::Context { files: request.context.clone(), latest: request.source_date_epoch };
    // The context is served without what is ignored. An ignore file beside the Dockerfile keeps
    // BuildKit from applying the one in the context once more, and must not be empty: to a
    // frontend from an image, an empty file is none.
    let ignore = Bytes::from_static(b"# What is ignored was left out before.\n");
    let dockerfile = BTreeMap::from([
        (DOCKERFILE.to_owned(), request.dockerfile.clone().into()),
        (format!("{DOCKERFILE}.dockerignore"), ignore),
    ]);
    BTreeMap::from([
        ("context".to_owned(), context),
        ("dockerfile".to_owned(), Directory::Memory(Arc::new(dockerfile))),
    ])
}

/// Names the place where BuildKit keeps what it was sent, so that the next build of the same
/// directory sends only what changed. The machine is not in it: runners that check out the same
/// project at the same path, and share an engine, share what it has.
fn shared_key(request: &BuildRequest) -> String {
    let root = &request.context.root;
    let root = root.canonicalize().unwrap_or_else(|_| root.clone());
    let mut hash = Sha256::new();
    hash.update("smartbuild context\0");
    hash.update(root.as_os_str().as_encoded_bytes());
    hex::encode(hash.finalize())
}
