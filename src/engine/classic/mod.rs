//! The builder before BuildKit, and podman's: a tar of the context goes to `/build`, text comes
//! back.
//!
//! It is what engines without BuildKit have. What it cannot do is said before anything is built.

mod output;
mod tarball;

use std::collections::BTreeMap;

use ::http::{Method, header};
use serde::Deserialize;
use tokio::task::spawn_blocking;

pub(super) use self::output::Output;
use super::{
    Capabilities,
    build::{BuildError, BuildRequest, Fault},
    buildkit,
    error::Error,
    http::{Http, Message, query},
    images::{Auth, ImageId, header_value},
    progress::{Event, Progress},
};
use crate::dockerfile::Feature;

/// What is being done, for errors.
const ACTION: &str = "build the image";
/// What Docker Hub is called among logins.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// Builds an image.
pub(super) async fn build(
    http: &Http,
    capabilities: &Capabilities,
    request: &BuildRequest,
    progress: &dyn Progress,
) -> Result<ImageId, BuildError> {
    check(capabilities, request)?;
    for cache in request.cache_from.iter().filter(|cache| cache.bare_reference().is_none()) {
        progress.event(Event::unused(cache, "this engine has no BuildKit"));
    }
    let fault = Fault::default();
    match run(http, capabilities, request, &fault, progress).await {
        Err(error) => Err(fault.take().unwrap_or(error)),
        built => built,
    }
}

/// Whether there is anything in the request that this builder cannot do.
fn check(capabilities: &Capabilities, request: &BuildRequest) -> Result<(), BuildError> {
    let why = "it has no BuildKit; use an engine that has (Docker 18.09 or later)";
    let unsupported = |what: &str| BuildError::Unsupported { what: what.into(), why: why.into() };
    if !request.secrets.is_empty() {
        return Err(unsupported("with secrets"));
    }
    if !request.ssh.is_empty() {
        return Err(unsupported("with SSH agents"));
    }
    if let Some(what) = buildkit::needed_for(request) {
        return Err(unsupported(&what));
    }
    // podman's builder knows the newer instructions, though not the session. Of a repository's address
    // it would take the page that is there.
    let knows = |feature: &Feature| capabilities.podman && *feature != Feature::AddGit;
    match request.needs_buildkit.iter().find(|feature| !knows(feature)) {
        Some(what) => Err(unsupported(what.name())),
        None => Ok(()),
    }
}

async fn run(
    http: &Http,
    capabilities: &Capabilities,
    request: &BuildRequest,
    fault: &Fault,
    progress: &dyn Progress,
) -> Result<ImageId, BuildError> {
    let (dockerfile, extra) = tarball::dockerfile(request, capabilities.podman)?;
    let mut parameters = request.parameters(&dockerfile);
    if capabilities.podman && !request.add_hosts.is_empty() {
        // podman takes one list (podman `pkg/api/handlers/compat/images_build.go`).
        parameters.retain(|(name, _)| *name != "extrahosts");
        parameters.push(("extrahosts", serde_json::json!(request.add_hosts).to_string()));
    }
    parameters.extend([("rm", "1".to_owned()), ("forcerm", "1".to_owned())]);
    let post = http
        .request(Method::POST, &format!("/build?{}", query(parameters)))
        .header(header::CONTENT_TYPE, "application/x-tar")
        .header("X-Registry-Config", logins(request).await?)
        .body(tarball::stream(request, extra, fault.clone()))
        .map_err(|error| Error::broken(ACTION, &error))?;
    let mut messages = match http.stream(ACTION, post).await {
        // Docker reads the whole Dockerfile first.
        Err(Error::Refused { status: 400, message, .. }) if message.contains("ockerfile") => {
            return Err(BuildError::Dockerfile { message });
        }
        messages => messages?,
    };
    let mut output = Output::default();
    let mut image = None;
    while let Some(message) = messages.next().await? {
        if let Some(failure) = message.failure() {
            return Err(output.failure(failure, progress));
        }
        image = message.aux::<Built>().map(|built| built.id).or(image);
        if let Message { stream: Some(text), .. } = message {
            output.text(&text, progress);
        } else if let Message { status: Some(status), .. } = message {
            output.status(message.id, status, message.progress.as_ref(), progress);
        }
    }
    output.finish(progress);
    match image {
        Some(id) => Ok(ImageId::parse(ACTION, &id)?),
        None => Err(Error::Protocol {
            action: ACTION.to_owned(),
            what: "ended the build without naming an image".to_owned(),
        }
        .into()),
    }
}

#[derive(Deserialize)]
struct Built {
    #[serde(rename = "ID")]
    id: String,
}

/// The logins for the registries of the bases: this builder cannot ask for them when it needs them.
async fn logins(request: &BuildRequest) -> Result<::http::HeaderValue, BuildError> {
    let mut logins = BTreeMap::new();
    for host in &request.registries {
        let (asked, known) = (host.clone(), std::sync::Arc::clone(&request.logins));
        let login = spawn_blocking(move || known.login(&asked)).await;
        let login = login.map_err(|error| Error::broken("look for logins", &error))?;
        if let Some(login) = login.map_err(Error::from)? {
            let name = if host == "docker.io" { DOCKER_HUB } else { host };
            logins.insert(name, login);
        }
    }
    let logins: BTreeMap<_, _> =
        logins.iter().map(|(name, login)| (name, Auth::new(Some(login), name))).collect();
    Ok(header_value(&logins))
}
