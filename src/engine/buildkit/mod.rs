//! Builds with BuildKit: a session that serves what the build needs, and the engine's `/build`
//! that drives it.
//!
//! Nothing is uploaded. BuildKit calls back over the session for the Dockerfile, for the files of
//! the context that it lacks, for logins, secrets and agents; progress comes with the answer of
//! `/build`.

mod agents;
mod build_api;
mod content;
mod daemon;
mod filesync;
mod grpc;
mod language;
mod receive;
mod sent;
mod session;
mod solve;
mod trace;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;

use self::{
    content::Stores,
    filesync::{Directories, Directory},
    receive::Sink,
    sent::{Measured, Sent},
    session::{Services, Session},
    solve::Solved,
};
pub(super) use self::{daemon::Buildkitd, solve::needed_for};
use super::{
    Capabilities,
    build::{BuildError, BuildRequest, Fault},
    context::Context,
    http::Http,
    images::ImageId,
    output::{Exported, Output, OutputKind},
    progress::Progress,
};
use crate::{
    context::{Kind, Mode},
    registry::{Digest, Repository},
};

/// What is being done, for errors.
const ACTION: &str = "build the image";

/// A BuildKit: behind a Docker Engine, or by itself.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    Engine(&'a Http, &'a Capabilities),
    Daemon(&'a Buildkitd),
}

/// Builds an image into the engine's store.
pub(super) async fn build(
    http: &Http,
    capabilities: &Capabilities,
    request: &BuildRequest,
    progress: &dyn Progress,
) -> Result<ImageId, BuildError> {
    let place = Place::Engine(http, capabilities);
    if !solve::fits_into_build(request) {
        let names: Vec<_> = request.tags.iter().map(ToString::to_string).collect();
        // An empty name is not none.
        let attributes = if names.is_empty() { vec![] } else { vec![("name", names.join(","))] };
        let solved = solve(place, request, ("moby", attributes), None, progress).await;
        let solved = solved.map_err(|error| language::explained(error, request, capabilities))?;
        return Ok(ImageId::parse(ACTION, &solved.digest()?.to_string())?);
    }
    language::check(&place, request)?;
    let (fault, sent) = (Fault::default(), Sent::default());
    let progress = &Measured { progress, sent: sent.clone() };
    let services = services(request, Stores::default(), None, sent, &fault);
    let session = Session::open(http, &shared_key(request), services).await?;
    let built = blamed(build_api::run(http, &session.id, request, progress).await, &fault);
    built.map_err(|error| language::explained(error, request, capabilities))
}

/// Builds an image and pushes it by its digest alone: which names point at it is not BuildKit's to
/// say.
pub(super) async fn push(
    place: Place<'_>,
    request: &BuildRequest,
    repository: &Repository,
    insecure: bool,
    progress: &dyn Progress,
) -> Result<Digest, BuildError> {
    let attributes = vec![
        ("name", repository.to_string()),
        ("push", "true".to_owned()),
        ("push-by-digest", "true".to_owned()),
        ("store", "false".to_owned()),
        ("registry.insecure", insecure.to_string()),
    ];
    solve(place, request, ("image", attributes), None, progress).await?.digest()
}

/// Builds, and has what was built sent here.
pub(super) async fn export(
    place: Place<'_>,
    request: &BuildRequest,
    output: &Output,
    progress: &dyn Progress,
) -> Result<Exported, BuildError> {
    let failed = |source| BuildError::Output { source };
    let spool = output.spool().map_err(failed)?;
    let sink = Sink::new(spool.reopen().map_err(failed)?);
    let exporter = match output.kind {
        // A tar of the files is unpacked here, where nobody has to be trusted with the paths.
        OutputKind::Local | OutputKind::Tar => ("tar", Vec::new()),
        OutputKind::Oci => ("oci", Vec::new()),
    };
    let solved = solve(place, request, exporter, Some(sink), progress).await?;
    Ok(Exported::new(output, spool, solved.digest().ok()))
}

/// An exporter of BuildKit's, and its attributes.
type Exporter = (&'static str, Vec<(&'static str, String)>);

async fn solve(
    place: Place<'_>,
    request: &BuildRequest,
    exporter: Exporter,
    sink: Option<Sink>,
    progress: &dyn Progress,
) -> Result<Solved, BuildError> {
    language::check(&place, request)?;
    let (fault, sent) = (Fault::default(), Sent::default());
    let progress = &Measured { progress, sent: sent.clone() };
    let (caches, written) = Stores::open(&request.cache_from, &request.cache_to)?;
    let services = services(request, caches, sink, sent, &fault);
    let key = shared_key(request);
    let (client, session) = match place {
        Place::Engine(http, _) => {
            (solve::connect(http).await?, Session::open(http, &key, services).await?)
        }
        Place::Daemon(daemon) => {
            let client = daemon.client().await?;
            let session = Session::over(&client, &key, services).await?;
            (client, session)
        }
    };
    let solved = solve::run(place, &client, &session.id, request, exporter, progress).await;
    let solved = blamed(solved, &fault)?;
    // A build of which nothing can be kept leaves no cache.
    if let Some(manifest) = solved.cache().map(str::to_owned) {
        // The index may be in other hands for a while.
        let concluded = spawn_blocking(move || written.conclude(&manifest)).await;
        // A panic there is a bug, and is one here too.
        concluded.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    }
    Ok(solved)
}

fn services(
    request: &BuildRequest,
    caches: Stores,
    sink: Option<Sink>,
    sent: Sent,
    fault: &Fault,
) -> Services {
    Services {
        directories: directories(request, sent),
        caches,
        logins: Arc::clone(&request.logins),
        secrets: request.secrets.clone(),
        agents: request.ssh.clone(),
        sink,
        fault: fault.clone(),
    }
}

/// What became of a build, with our own reason for its failure where there is one.
fn blamed<T>(built: Result<T, BuildError>, fault: &Fault) -> Result<T, BuildError> {
    built.map_err(|error| match (fault.take(), error) {
        // BuildKit goes on without a login that it can do without: one for a cache, for example.
        (Some(fault), step @ BuildError::Step { .. }) if fault.is_of_a_login() => step,
        (Some(fault), _) => fault,
        (None, error) => error,
    })
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
///
/// The modes of directories are in it where they are not the usual one. BuildKit gives a directory
/// that it has already its new mode, and does not tell its own cache (fsutil `diskwriter.go`:
/// `HandleChange`; moby/buildkit#7176), so that an image would be built of the mode from before. In
/// a place where a directory had no other mode, there is none to confuse it with.
fn shared_key(request: &BuildRequest) -> String {
    let root = &request.context.root;
    let root = root.canonicalize().unwrap_or_else(|_| root.clone());
    let mut hash = Sha256::new();
    hash.update("smartbuild context\0");
    hash.update(root.as_os_str().as_encoded_bytes());
    let main = ("", &request.context);
    let named = request.contexts.iter().map(|(name, files)| (name.as_str(), files));
    for (name, files) in std::iter::once(main).chain(named) {
        for entry in files.tree.entries() {
            if entry.kind == Kind::Directory && entry.mode != Mode::EXECUTABLE {
                // No name and no path has a zero in it.
                for part in [b"\0directory\0", name.as_bytes(), b"\0", entry.path, b"\0"] {
                    hash.update(part);
                }
                hash.update(entry.permissions().to_be_bytes());
            }
        }
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{credentials, engine::Error};

    #[test]
    fn a_login_that_is_missing_is_the_reason_only_where_no_step_failed() {
        let login = || -> BuildError {
            let (host, reason) = ("cache.example.com".to_owned(), "gone".to_owned());
            Error::from(credentials::Error::Broken { host, reason }).into()
        };
        let step = || BuildError::Step {
            step: "[2/2] RUN false".to_owned(),
            at: None,
            exit_code: Some(1),
            message: String::new(),
            log: String::new(),
        };
        let blamed = |faults: Vec<BuildError>, error| {
            let fault = Fault::default();
            faults.into_iter().for_each(|error| fault.set(error));
            blamed(Err::<(), _>(error), &fault).unwrap_err()
        };
        assert!(matches!(blamed(vec![login()], step()), BuildError::Step { .. }));
        assert!(blamed(vec![login()], BuildError::Cancelled).is_of_a_login());
        // Another reason of ours counts, whatever came before.
        let secret = BuildError::Secret { id: "id".to_owned(), reason: "gone".to_owned() };
        let found = blamed(vec![login(), secret], step());
        assert!(matches!(found, BuildError::Secret { .. }), "{found:?}");
    }
}
