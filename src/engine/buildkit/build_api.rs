//! A build driven by the engine's `/build`, which every engine with BuildKit has.

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;
use http::Method;
use prost::Message as _;
use serde::Deserialize;

use super::{ACTION, trace::Trace};
use crate::engine::{
    build::{BuildError, BuildRequest},
    error::Error,
    http::{Http, Message, empty, query},
    images::ImageId,
    progress::{Event, Progress},
};

/// Builds over a session that is open.
pub(super) async fn run(
    http: &Http,
    session: &str,
    request: &BuildRequest,
    progress: &dyn Progress,
) -> Result<ImageId, BuildError> {
    let mut parameters = request.parameters(&request.dockerfile_name);
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
