//! Builds with BuildKit: a session that serves what the build needs, and the engine's `/build`
//! that drives it.
//!
//! Nothing is uploaded. BuildKit calls back over the session for the Dockerfile, for the files of
//! the context that it lacks, for logins, secrets and agents; progress comes with the answer of
//! `/build`.

mod agents;
mod build_api;
mod filesync;
mod grpc;
mod sent;
mod session;
mod solve;
mod trace;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

pub(super) use self::solve::{needed_for, reference_of};
use self::{
    filesync::{Directories, Directory},
    sent::{Measured, Sent},
    session::{Services, Session},
};
use super::{
    Capabilities,
    build::{BuildError, BuildRequest, Fault},
    context::Context,
    http::Http,
    images::ImageId,
    progress::Progress,
};

/// What is being done, for errors.
const ACTION: &str = "build the image";
/// Builds an image.
pub(super) async fn build(
    http: &Http,
    capabilities: &Capabilities,
    request: &BuildRequest,
    progress: &dyn Progress,
) -> Result<ImageId, BuildError> {
    let (fault, sent) = (Fault::default(), Sent::default());
    let progress = &Measured { progress, sent: sent.clone() };
    let services = Services {
        directories: directories(request, sent),
        logins: Arc::clone(&request.logins),
        secrets: request.secrets.clone(),
        agents: request.ssh.clone(),
        fault: fault.clone(),
    };
    let session = Session::open(http, &shared_key(request), services).await?;
    let built = match needed_for(request) {
        None => build_api::run(http, &session.id, request, progress).await,
        Some(_) => solve::run(http, capabilities, &session.id, request, progress).await,
    };
    match built {
        Err(error) => Err(fault.take().unwrap_or(error)),
        built => built,
    }
}

/// The directories that BuildKit asks for.
fn directories(request: &BuildRequest, sent: Sent) -> Directories {
    let served = |files: &Context, sent: Sent| Directory::Context {
        files: files.clone(),
        latest: request.source_date_epoch,
        sent,
    };
    // The context is served without what is ignored. An ignore file beside the Dockerfile keeps
    // BuildKit from applying the one in the context once more, and must not be empty: to a
    // frontend from an image, an empty file is none.
    let ignore = Bytes::from_static(b"# What is ignored was left out before.\n");
    let name = &request.dockerfile_name;
    let dockerfile = BTreeMap::from([
        (name.clone(), request.dockerfile.clone().into()),
        (format!("{name}.dockerignore"), ignore),
    ]);
    let named =
        request.contexts.iter().map(|(name, files)| (name.clone(), served(files, Sent::default())));
    let mut directories: Directories = named.collect();
    directories.insert("context".to_owned(), served(&request.context, sent));
    directories.insert("dockerfile".to_owned(), Directory::Memory(Arc::new(dockerfile)));
    directories
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
