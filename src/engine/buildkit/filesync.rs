//! The files of a build, served to BuildKit: fsutil's protocol.
//!
//! BuildKit opens one call for each directory it wants (`context`, `dockerfile`), is told of every
//! entry in walk order, and asks by number for the files whose content it lacks (fsutil `send.go`,
//! `receive.go`). Files are read by a few threads that wait for the connection, so that memory
//! stays small whatever is sent.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError, mpsc as queue},
};

use bollard_buildkit_proto::fsutil::types::{
    Packet, Stat,
    packet::PacketType::{self, PacketData, PacketErr, PacketFin, PacketReq, PacketStat},
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use sha2::{Digest as _, Sha256};
use tokio::{sync::mpsc, task::spawn_blocking};

use super::{
    grpc::{self, Code, Messages, Outgoing, Status},
    sent::Sent,
};
use crate::{
    context::{Entry, Kind},
    engine::{
        build::{BuildError, Fault},
        context::{Context, fingerprint, nanoseconds, native},
    },
};

/// Threads that read files for one directory.
const READERS: usize = 4;
/// So much of a file is sent at once, and so much is collected of small messages.
const CHUNK: usize = 32 << 10;
/// So many collected messages may wait for the connection.
const WAITING: usize = 16;

/// Bits of a file's kind as Go writes them (Go `io/fs`: `FileMode`).
mod go_mode {
    pub(super) const DIRECTORY: u32 = 1 << 31;
    pub(super) const SYMLINK: u32 = 1 << 27;
    pub(super) const SET_USER_ID: u32 = 1 << 23;
    pub(super) const SET_GROUP_ID: u32 = 1 << 22;
    pub(super) const STICKY: u32 = 1 << 20;
}

/// A directory that BuildKit may ask for.
#[derive(Clone)]
pub(super) enum Directory {
    /// Files on disk that were hashed.
    Context {
        /// Which.
        files: Context,
        /// The latest time that they may have, in seconds.
        latest: Option<i64>,
        /// Who keeps count of what is sent of them.
        sent: Sent,
    },
    /// Files that are made up here: name and content.
    Memory(Arc<BTreeMap<String, Bytes>>),
}

/// The directories of a build, by the name under which BuildKit asks for them.
pub(super) type Directories = BTreeMap<String, Directory>;

/// Serves one call of `moby.filesync.v1.FileSync/DiffCopy`.
pub(super) fn diff_copy(
    directories: &Directories,
    fault: &Fault,
    request: Request<Incoming>,
) -> Response<Outgoing> {
    let name = metadata(request.headers(), "dir-name").pop().unwrap_or_default();
    let Some(directory) = directories.get(&name) else {
        return grpc::refuse(Status::new(Code::NotFound, format!("no directory `{name}` here")));
    };
    let directory = narrowed(directory, &metadata(request.headers(), "followpaths"));
    let (sender, receiver) = mpsc::channel(WAITING);
    let sync = Arc::new(Sync { directory, sender, fault: fault.clone() });
    tokio::spawn(sync.serve(Messages::new(request.into_body())));
    grpc::response(receiver)
}

/// The directory, or the one file of it that is asked for.
///
/// What we are given to serve was selected for the same target by the same rules as BuildKit's
/// paths to follow and patterns to exclude, so there is nothing to narrow; except when an older
/// frontend looks for the ignore file, which by its own rules is one file.
fn narrowed(directory: &Directory, follow: &[String]) -> Directory {
    match directory {
        Directory::Context { files, .. } if follow == [".dockerignore"] => {
            let found = files.tree.find(b".dockerignore").and_then(|entry| {
                let mut text = Vec::new();
                files.open(&entry).ok()?.read_to_end(&mut text).ok()?;
                Some((".dockerignore".to_owned(), text.into()))
            });
            Directory::Memory(Arc::new(found.into_iter().collect()))
        }
        directory => directory.clone(),
    }
}

/// The values of a key of a call's metadata. BuildKit query-escapes them, and says so with a
/// second key (buildkit `session/filesync/filesync.go`: `encodeOpts`).
fn metadata(headers: &HeaderMap, key: &str) -> Vec<String> {
    let encoded = headers.get(format!("{key}-encoded")).is_some_and(|value| value == "1");
    let values = headers.get_all(key).iter().filter_map(|value| value.to_str().ok());
    if !encoded {
        return values.map(str::to_owned).collect();
    }
    values
        .map(|value| {
            // A value alone reads as the name of a pair without a value.
            let escaped = value.replace('&', "%26").replace('=', "%3D");
            form_urlencoded::parse(escaped.as_bytes()).map(|(name, _)| name.into_owned()).collect()
        })
        .collect()
}

/// One call under way.
struct Sync {
    directory: Directory,
    sender: mpsc::Sender<Result<Bytes, Status>>,
    fault: Fault,
}

impl Sync {
    async fn serve(self: Arc<Self>, mut requests: Messages<Incoming>) {
        let announcing = Arc::clone(&self);
        spawn_blocking(move || announcing.announce());
        let (ids, waiting) = queue::channel();
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..READERS {
            let (reading, waiting) = (Arc::clone(&self), Arc::clone(&waiting));
            spawn_blocking(move || reading.read_files(&waiting));
        }
        // Requests are taken as they come, never waiting for what is sent: BuildKit's many small
        // frames would pile up in the connection until HTTP/2 takes them for an attack.
        loop {
            match requests.next::<Packet>().await {
                Ok(Some(packet)) if packet.r#type == PacketReq as i32 => {
                    self.directory.asked(packet.id as usize);
                    if ids.send(packet.id).is_err() {
                        return;
                    }
                }
                Ok(Some(packet)) if packet.r#type == PacketFin as i32 => {
                    let _ = self.sender.send(Ok(grpc::encoded(&packet_of(PacketFin)))).await;
                    return;
                }
                // BuildKit says why it gives up, here and as the error of its step.
                Ok(Some(_) | None) | Err(_) => return,
            }
        }
    }

    /// Tells of every entry, then that there are no more.
    fn announce(&self) {
        let mut batch = BytesMut::new();
        let mut index = 0;
        while let Some(stat) = self.directory.stat(index) {
            let stat = match stat {
                Ok(stat) => stat,
                Err(error) => return self.fail(error),
            };
            grpc::encode(&Packet { stat: Some(stat), ..packet_of(PacketStat) }, &mut batch);
            if batch.len() >= CHUNK && !self.send(batch.split().freeze()) {
                return;
            }
            index += 1;
        }
        grpc::encode(&packet_of(PacketStat), &mut batch);
        self.send(batch.freeze());
    }

    /// Sends files as they are asked for, until nobody asks any more.
    fn read_files(&self, waiting: &Mutex<queue::Receiver<u32>>) {
        loop {
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(id) = next else { return };
            match self.read_file(id) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return self.fail(error),
            }
        }
    }

    /// Sends a file; `false` if the connection is gone.
    fn read_file(&self, id: u32) -> Result<bool, BuildError> {
        let index = id as usize;
        let mut file = self.directory.open(index)?;
        let mut batch = BytesMut::new();
        let mut chunk = vec![0; CHUNK];
        loop {
            let length = fill(&mut file, &mut chunk).map_err(|e| self.directory.blame(index, e))?;
            if let Some(data) = chunk.get(..length).filter(|data| !data.is_empty()) {
                let packet = Packet { id, data: data.to_vec(), ..packet_of(PacketData) };
                grpc::encode(&packet, &mut batch);
                self.directory.sent(data.len());
            }
            if length < chunk.len() {
                break;
            }
            if !self.send(batch.split().freeze()) {
                return Ok(false);
            }
        }
        // An empty one ends the file. Until then BuildKit does not take it for complete, so
        // nothing is built from content that was found to be wrong at its end.
        grpc::encode(&Packet { id, ..packet_of(PacketData) }, &mut batch);
        Ok(self.send(batch.freeze()))
    }

    /// Waits until the connection takes it; `false` if the connection is gone.
    fn send(&self, messages: Bytes) -> bool {
        self.sender.blocking_send(Ok(messages)).is_ok()
    }

    /// Ends the build, for a reason of ours.
    fn fail(&self, error: BuildError) {
        let data = error.to_string().into_bytes();
        self.fault.set(error);
        self.send(grpc::encoded(&Packet { data, ..packet_of(PacketErr) }));
    }
}

impl Directory {
    /// What BuildKit is told of an entry; `None` after the last.
    fn stat(&self, index: usize) -> Option<Result<Stat, BuildError>> {
        match self {
            Self::Context { files, latest, .. } => {
                let entry = files.entry(index)?;
                Some(stat(files, &entry, *latest))
            }
            Self::Memory(files) => files.iter().nth(index).map(|(name, content)| {
                let digest = <[u8; 32]>::from(Sha256::digest(content));
                Ok(Stat {
                    path: name.clone(),
                    mode: 0o644,
                    size: i64::try_from(content.len()).unwrap_or(i64::MAX),
                    mod_time: fingerprint(&digest),
                    ..Stat::default()
                })
            }),
        }
    }

    /// A file was asked for.
    fn asked(&self, index: usize) {
        if let Self::Context { files, sent, .. } = self
            && let Some(Entry { kind: Kind::File { size, .. }, .. }) = files.entry(index)
        {
            sent.asked(size);
        }
    }

    /// So much of a file was sent.
    fn sent(&self, length: usize) {
        if let Self::Context { sent, .. } = self {
            sent.sent(length);
        }
    }

    fn open(&self, index: usize) -> Result<Box<dyn Read + Send>, BuildError> {
        let content = match self {
            Self::Context { files, .. } => files.entry(index).map(|entry| files.open(&entry)),
            Self::Memory(files) => files.values().nth(index).map(|content| {
                Ok(Box::new(io::Cursor::new(content.clone())) as Box<dyn Read + Send>)
            }),
        };
        match content {
            Some(content) => content.map_err(|error| self.blame(index, error)),
            None => Err(self.blame(index, io::ErrorKind::NotFound.into())),
        }
    }

    /// The error of a build whose file could not be read.
    fn blame(&self, index: usize, error: io::Error) -> BuildError {
        let path = match self {
            Self::Context { files, .. } => files.entry(index).map(|entry| path_of(&entry)),
            Self::Memory(files) => files.keys().nth(index).map(Into::into),
        };
        BuildError::unreadable(path.unwrap_or_default(), error)
    }
}

fn path_of(entry: &Entry<'_>) -> std::path::PathBuf {
    native(entry.path).into_owned()
}

fn stat(files: &Context, entry: &Entry<'_>, latest: Option<i64>) -> Result<Stat, BuildError> {
    let text = |bytes: &[u8]| {
        String::from_utf8(bytes.to_vec()).map_err(|_| BuildError::Unsupported {
            what: format!("a context with the name `{}`", String::from_utf8_lossy(bytes)),
            why: "BuildKit's protocol carries Unicode names only: rename it or ignore it".into(),
        })
    };
    let seconds =
        files.seconds(entry, latest).map_err(|e| BuildError::unreadable(path_of(entry), e))?;
    let bits = entry.permissions();
    let special = [
        (0o4000, go_mode::SET_USER_ID),
        (0o2000, go_mode::SET_GROUP_ID),
        (0o1000, go_mode::STICKY),
    ];
    let mode = special
        .iter()
        .filter(|(bit, _)| bits & bit != 0)
        .fold(bits & 0o777, |mode, (_, go)| mode | go);
    let (kind, size, linkname) = match entry.kind {
        Kind::File { size, .. } => (0, size, String::new()),
        Kind::Directory => (go_mode::DIRECTORY, 0, String::new()),
        Kind::Symlink { target } => (go_mode::SYMLINK, 0, text(target)?),
    };
    Ok(Stat {
        path: text(entry.path)?,
        mode: mode | kind,
        size: i64::try_from(size).unwrap_or(i64::MAX),
        mod_time: seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds(entry)),
        linkname,
        ..Stat::default()
    })
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

fn packet_of(kind: PacketType) -> Packet {
    Packet { r#type: kind as i32, ..Packet::default() }
}
