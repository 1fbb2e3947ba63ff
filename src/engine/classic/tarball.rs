//! The context as a tar, written while it is sent.

use std::io::{self, Write};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::StreamBody;
use hyper::body::{Body, Frame};
use sha2::{Digest as _, Sha256};
use tokio::{sync::mpsc, task::spawn_blocking};

use crate::{
    context::{Entry, Kind},
    engine::{
        build::{BuildError, BuildRequest, Fault},
        context::{Context, native},
    },
};

/// So much is collected before it is sent.
const CHUNK: usize = 64 << 10;
/// So many chunks may wait for the connection.
const WAITING: usize = 8;
/// The ignore file that every builder knows.
const IGNORE: &str = ".dockerignore";

/// A file that goes with the context: name and content.
pub(super) type Extra = (String, Vec<u8>);

/// The name of the Dockerfile in the tar, and the files that have to be there for it.
///
/// The text is not that of the file on disk, for its bases are pinned, and the file on disk may be
/// copied into the image. So it goes under a name of its own, and must not be seen by `COPY .`.
/// Docker removes the Dockerfile from a context whose ignore file says so (moby
/// `builder/remotecontext/detect.go`: `removeDockerfile`); podman reads an ignore file that goes
/// with the Dockerfile.
pub(super) fn dockerfile(
    request: &BuildRequest,
    podman: bool,
) -> Result<(String, Vec<Extra>), BuildError> {
    let tree = &request.context.tree;
    let digest: [u8; 32] = Sha256::digest(&request.dockerfile).into();
    // Where the very text is in the context already, nothing has to be hidden.
    let same = tree.entries().find(|entry| match entry.kind {
        Kind::File { digest: other, .. } => other == digest,
        _ => false,
    });
    if let Some(path) = same.and_then(|entry| std::str::from_utf8(entry.path).ok()) {
        return Ok((path.to_owned(), Vec::new()));
    }
    let name = format!(".dockerfile.{}", hex::encode(&digest[..10]));
    let ignore = if podman { format!("{name}{IGNORE}") } else { IGNORE.to_owned() };
    if tree.find(ignore.as_bytes()).is_some() {
        return Err(BuildError::Unsupported {
            what: format!("an image into which `{IGNORE}` is copied"),
            why: format!("it has no BuildKit; add a line `{IGNORE}` to that file"),
        });
    }
    let patterns = format!("{name}\n{ignore}\n");
    let extra = vec![(name.clone(), request.dockerfile.clone()), (ignore, patterns.into_bytes())];
    Ok((name, extra))
}

/// The context and those files, as the body of a request. What cannot be read ends it, and the
/// build.
pub(super) fn stream(
    request: &BuildRequest,
    extra: Vec<Extra>,
    fault: Fault,
) -> impl Body<Data = Bytes, Error = io::Error> + Send + 'static {
    let (sender, mut receiver) = mpsc::channel(WAITING);
    let (files, latest) = (request.context.clone(), request.source_date_epoch);
    spawn_blocking(move || {
        let sink = Sink { sender: sender.clone(), buffer: Vec::with_capacity(CHUNK) };
        if let Err(error) = write(&files, latest, &extra, sink) {
            let cut = io::Error::other(error.to_string());
            fault.set(error);
            // Whoever waits for the rest learns that there is none.
            let _ = sender.blocking_send(Err(cut));
        }
    });
    StreamBody::new(
        stream::poll_fn(move |cx| receiver.poll_recv(cx)).map(|chunk| chunk.map(Frame::data)),
    )
}

fn write(
    files: &Context,
    latest: Option<i64>,
    extra: &[Extra],
    sink: Sink,
) -> Result<(), BuildError> {
    let mut tar = tar::Builder::new(sink);
    for (name, content) in extra {
        let mut header = header(tar::EntryType::Regular, content.len() as u64, 0o644, 0);
        tar.append_data(&mut header, name, content.as_slice()).map_err(closed)?;
    }
    for entry in files.tree.entries() {
        append(&mut tar, files, latest, &entry)?;
    }
    tar.into_inner().and_then(|mut sink| sink.flush()).map_err(closed)
}

fn append(
    tar: &mut tar::Builder<Sink>,
    files: &Context,
    latest: Option<i64>,
    entry: &Entry<'_>,
) -> Result<(), BuildError> {
    let path = native(entry.path);
    let failed = |error: io::Error| match error.downcast::<Closed>() {
        Ok(Closed) => BuildError::Cancelled,
        Err(error) => BuildError::unreadable(path.to_path_buf(), error),
    };
    let seconds = files.seconds(entry, latest).map_err(failed)?;
    let header = |kind, size| header(kind, size, entry.permissions(), seconds);
    match entry.kind {
        Kind::File { size, .. } => {
            let content = files.open(entry).map_err(failed)?;
            tar.append_data(&mut header(tar::EntryType::Regular, size), &path, content)
        }
        Kind::Directory => {
            tar.append_data(&mut header(tar::EntryType::Directory, 0), &path, io::empty())
        }
        Kind::Symlink { target } => {
            tar.append_link(&mut header(tar::EntryType::Symlink, 0), &path, native(target))
        }
    }
    .map_err(failed)
}

fn header(kind: tar::EntryType, size: u64, mode: u32, seconds: i64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(u64::try_from(seconds).unwrap_or(0));
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Collects what is written, and hands it to the connection.
struct Sink {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

/// Nobody takes the tar any more: the engine has said why, or the build was dropped.
#[derive(Debug, thiserror::Error)]
#[error("the connection to the engine was closed")]
struct Closed;

fn closed(_error: io::Error) -> BuildError {
    BuildError::Cancelled
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.sender.blocking_send(Ok(chunk.into())).map_err(|_| io::Error::other(Closed))
    }
}
