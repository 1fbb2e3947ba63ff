//! buildah: a program that builds, for places without an engine.
//!
//! It is fed what every engine is fed: the Dockerfile with its bases pinned, and a copy of the
//! entries that were hashed, verified while it is made. It works for users without rights and in
//! containers without privileges, as long as these may make user namespaces.
//!
//! | module | knows |
//! |---|---|
//! | `command` | how the program is run, and how it is stopped |
//! | `listener` | what it says, and what its steps write |
//! | `files` | the copy of a context |
//! | `registries` | what it is told of registries and logins |
//! | `arguments` | what of a build it can do, and how that is written |
//! | `images` | its store |

mod arguments;
mod command;
mod files;
mod images;
mod listener;
mod registries;

use std::path::Path;

use tokio::task::spawn_blocking;

use self::{
    arguments::{Paths, arguments, check, variables, write_secrets},
    command::Program,
    files::Copy,
    listener::Listener,
    registries::Registries,
};
use super::{
    Version,
    build::{BuildError, BuildRequest},
    error::Error,
    http::ErrorDetail,
    images::ImageId,
    output::{Exported, Output, OutputKind},
    progress::{Event, Progress},
    scratch::Scratch,
};

/// What is being done, for errors.
const ACTION: &str = "build the image";
/// What is told when a build begins anew.
const ONCE_MORE: &str = "building once more, for another build removed a layer meanwhile";

/// The program, and what it said of this place.
#[derive(Clone, Debug)]
pub(super) struct Buildah {
    program: Program,
    /// Hosts that the user calls insecure.
    insecure: Vec<String>,
}

impl Buildah {
    /// Finds the program and asks how it would work here.
    pub(super) async fn find(insecure: &[String]) -> Result<Self, Error> {
        Ok(Self { program: Program::find().await?, insecure: insecure.to_vec() })
    }

    pub(super) fn version(&self) -> Version {
        let Program { version, rootless, driver, .. } = &self.program;
        let rights = if *rootless { "without rights" } else { "as root" };
        Version {
            name: "buildah".to_owned(),
            version: format!("{version} ({rights}, {driver})"),
            platform: crate::platform::Platform::host().to_string(),
            containerd_store: false,
        }
    }

    /// Builds an image into the store.
    pub(super) async fn build(
        &self,
        request: &BuildRequest,
        progress: &dyn Progress,
    ) -> Result<ImageId, BuildError> {
        self.build_with(request, None, progress).await
    }

    /// Builds, and writes what was built into a file.
    pub(super) async fn export(
        &self,
        request: &BuildRequest,
        output: &Output,
        progress: &dyn Progress,
    ) -> Result<Exported, BuildError> {
        let failed = |source| BuildError::Output { source };
        let spool = output.spool().map_err(failed)?;
        let digest = match output.kind {
            OutputKind::Local | OutputKind::Tar => {
                self.build_with(request, Some(spool.path()), progress).await?;
                None
            }
            OutputKind::Oci => {
                let image = self.build_with(request, None, progress).await?;
                Some(self.archive(&image, spool.path()).await?)
            }
        };
        Ok(Exported::new(output, spool, digest))
    }

    /// Builds; the files of the image go into a tar, too, if there is a place for it.
    async fn build_with(
        &self,
        request: &BuildRequest,
        tar: Option<&Path>,
        progress: &dyn Progress,
    ) -> Result<ImageId, BuildError> {
        check(request, &self.program)?;
        for cache in &request.cache_from {
            progress.event(Event::unused(cache, "buildah has caches of its own"));
        }
        let private = Scratch::small("build").map_err(|e| Error::broken(ACTION, &e))?;
        let registries = Registries::write(private.path(), request, &self.insecure).await?;
        let write = |name: &str, content: &[u8]| {
            let path = private.path().join(name);
            std::fs::write(&path, content).map(|()| path).map_err(|e| Error::broken(ACTION, &e))
        };
        let copy = copy(request).await?;
        let paths = Paths {
            dockerfile: write("Dockerfile", &request.dockerfile)?,
            // What is ignored was left out before.
            ignore: write("ignore", b"")?,
            id: private.path().join("id"),
            tar: tar.map(Path::to_owned),
            logins: registries.logins().to_owned(),
            secrets: private.path().to_owned(),
            context: copy.of(""),
            contexts: request.contexts.keys().map(|name| (name.clone(), copy.of(name))).collect(),
        };
        write_secrets(request, private.path()).await?;
        let arguments = arguments(request, &paths, &self.program);
        let mut listener = Listener::default();
        let mut tries = command::TRIES;
        let message = loop {
            let mut command = self.program.command();
            command.args(&arguments).envs(variables(request)).envs([registries.variable()]);
            let mut running = command::Talk::start(command)?;
            while let Some(text) = running.text().await {
                listener.hear(&text, progress);
            }
            let status = running.end().await?;
            if status.success() {
                listener.finish(progress);
                let id = std::fs::read_to_string(&paths.id);
                let id = id.map_err(|error| Error::broken(ACTION, &error))?;
                return Ok(ImageId::parse(ACTION, id.trim())?);
            }
            // The step ends with it, and has nothing to do with it.
            if let Some(line) = listener.homeless.take() {
                return Err(Error::failed(ACTION, self.program.with_advice(line)).into());
            }
            // Killed, by someone or for want of memory.
            if status.code().is_none() {
                return Err(Error::failed(ACTION, format!("buildah ended with {status}")).into());
            }
            let last = listener.reason().unwrap_or_else(|| format!("buildah ended with {status}"));
            tries -= 1;
            if tries == 0 || !command::stumbled(&last) {
                break last;
            }
            listener.begin_again(progress);
            progress.event(Event::Note { text: format!("{ONCE_MORE}: {last}") });
        };
        let failure = ErrorDetail { code: None, message: self.program.with_advice(message) };
        Err(listener.failure(failure, progress))
    }
}

/// Copies the contexts of a build, on a thread of its own that ends soon if nobody waits for it.
async fn copy(request: &BuildRequest) -> Result<Copy, BuildError> {
    let contexts = [(String::new(), request.context.clone())].into_iter();
    let contexts = contexts.chain(request.contexts.clone());
    let (contexts, latest) = (contexts.collect::<Vec<_>>(), request.source_date_epoch);
    let (waiting, wanted) = tokio::sync::oneshot::channel::<()>();
    let copied = spawn_blocking(move || Copy::make(&contexts, latest, &|| waiting.is_closed()));
    let copied = copied.await.map_err(|e| Error::broken(ACTION, &e))?;
    drop(wanted);
    copied
}
