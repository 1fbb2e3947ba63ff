//! Caches in directories of this machine: BuildKit reads and writes their blobs over the session, by
//! the service with which containerd serves its own (buildkit `session/content`, containerd
//! `plugins/services/content/contentserver`).
//!
//! Knows the calls and which directory one is for; must not know what the blobs are.

mod messages;

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};
use tokio::{sync::mpsc, task::spawn_blocking};

use self::messages::{
    AbortRequest, Empty, Info, InfoRequest, InfoResponse, ReadContentRequest, ReadContentResponse,
    WriteAction, WriteContentRequest, WriteContentResponse,
};
use super::grpc::{self, Code, Messages, Outgoing, Status};
use crate::{
    engine::{
        build::{BuildError, Fault},
        layout::{Layout, Unfinished, Writing},
    },
    layer_cache::{LayerCache, LocalPlace},
    registry::Digest,
};

/// The calls.
pub(super) const METHODS: [&str; 4] = [INFO, READ, WRITE, ABORT];
const INFO: &str = "/containerd.services.content.v1.Content/Info";
const READ: &str = "/containerd.services.content.v1.Content/Read";
const WRITE: &str = "/containerd.services.content.v1.Content/Write";
const ABORT: &str = "/containerd.services.content.v1.Content/Abort";
/// The metadata that says which directory a call is for (buildkit `session/content/attachable.go`).
const STORE: &str = "buildkit-attachable-store-id";
/// So much of a blob is sent at once.
const CHUNK: usize = 256 << 10;
/// So many chunks may wait for the connection.
const WAITING: usize = 4;

/// The directories that a build may read caches from, or write them into.
#[derive(Default)]
pub(super) struct Stores(BTreeMap<String, Store>);

/// A directory.
#[derive(Clone)]
struct Store {
    layout: Layout,
    /// What was written last, or would have been, where caches are written at all.
    last: Option<Last>,
}

/// The digest of the blob that came last. A cache's manifest comes last of its blobs.
type Last = Arc<Mutex<Option<Digest>>>;

/// A directory that a cache is left in, and the right to write there, which is held until its index has
/// what was written.
struct Destination {
    place: LocalPlace,
    writing: Writing,
    last: Last,
}

/// The directories that a build leaves its cache in.
pub(super) struct Destinations(Vec<Destination>);

/// The name by which BuildKit asks for a directory (buildkit `cache/remotecache/local/local.go`).
fn name_of(directory: &Path) -> String {
    format!("local:{}", directory.to_string_lossy())
}

impl Stores {
    /// The directories of a build's caches, and the right to write into those that it leaves some in.
    ///
    /// # Errors
    /// When a directory cannot be written.
    pub(super) fn open(
        from: &[LayerCache],
        to: &[LayerCache],
    ) -> Result<(Self, Destinations), BuildError> {
        let mut stores = Self::default();
        let mut destinations = Vec::new();
        for place in from.iter().filter_map(LayerCache::local) {
            let store = Store { layout: Layout::at(&place.directory), last: None };
            stores.0.insert(name_of(&place.directory), store);
        }
        for place in to.iter().filter_map(LayerCache::local) {
            let layout = Layout::at(&place.directory);
            let writing = layout.write().map_err(|source| unwritten(place, source))?;
            let last = Last::default();
            let store = Store { layout, last: Some(Arc::clone(&last)) };
            stores.0.insert(name_of(&place.directory), store);
            destinations.push(Destination { place: place.clone(), writing, last });
        }
        Ok((stores, Destinations(destinations)))
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Serves a call, if it is one of this service.
    pub(super) async fn call(
        &self,
        fault: &Fault,
        request: Request<Incoming>,
    ) -> Response<Outgoing> {
        let store = match self.chosen(request.headers()) {
            Ok(store) => store.clone(),
            Err(status) => return grpc::refuse(status),
        };
        match request.uri().path() {
            INFO => grpc::unary(request, |asked: InfoRequest| info(store, asked)).await,
            READ => read(store, request).await,
            WRITE if store.last.is_some() => write(store, fault.clone(), request),
            WRITE => {
                let why = "this cache is only read";
                grpc::refuse(Status::new(Code::FailedPrecondition, why))
            }
            // A blob that is not finished goes with the call that wrote it.
            ABORT => grpc::unary(request, |_: AbortRequest| async { Ok(Empty {}) }).await,
            other => {
                grpc::refuse(Status::new(Code::Unimplemented, format!("no method {other} here")))
            }
        }
    }

    fn chosen(&self, headers: &HeaderMap) -> Result<&Store, Status> {
        let named = headers.get(STORE).map(|value| value.as_bytes()).unwrap_or_default();
        let store = self.0.iter().find(|(name, _)| name.as_bytes() == named);
        store.map(|(_, store)| store).ok_or_else(|| {
            let name = String::from_utf8_lossy(named);
            Status::new(Code::NotFound, format!("there is no cache `{name}` here"))
        })
    }
}

impl Destinations {
    /// Puts what was written into the indexes, under the tag of each. BuildKit tells of one manifest
    /// alone, also where it wrote several that differ.
    ///
    /// # Errors
    /// When an index cannot be written.
    pub(super) fn conclude(self, manifest: &str) -> Result<(), BuildError> {
        let Ok(told) = serde_json::from_str(manifest) else { return Ok(()) };
        for Destination { place, writing, last } in self.0 {
            let put = || {
                let layout = Layout::at(&place.directory);
                let last = last.lock().unwrap_or_else(PoisonError::into_inner).take();
                let Some(descriptor) = written(&layout, &told, last)? else { return Ok(()) };
                writing.tag(&descriptor, &place.tag)?;
                if place.reset { writing.remove_unneeded() } else { Ok(()) }
            };
            put().map_err(|source| unwritten(&place, source))?;
        }
        Ok(())
    }
}

/// The descriptor of the cache that was written into a directory: the one that is told of, if it is
/// there, else one of the manifest that came last.
fn written(
    layout: &Layout,
    told: &Map<String, Value>,
    last: Option<Digest>,
) -> io::Result<Option<Map<String, Value>>> {
    let digest = told.get("digest").and_then(Value::as_str).and_then(|text| text.parse().ok());
    if digest.is_some_and(|digest: Digest| layout.size(&digest).is_ok()) {
        return Ok(Some(told.clone()));
    }
    let Some(last) = last else { return Ok(None) };
    let mut text = Vec::new();
    let size = layout.open_verified(&last)?.read_to_end(&mut text)?;
    let manifest: Option<Value> = serde_json::from_slice(&text).ok();
    let Some(kind) = manifest.as_ref().and_then(|manifest| manifest["mediaType"].as_str()) else {
        return Ok(None);
    };
    let descriptor = json!({ "mediaType": kind, "digest": last.to_string(), "size": size });
    Ok(descriptor.as_object().cloned())
}

/// The cache that a place has now.
///
/// # Errors
/// Why there is none.
pub(super) fn found(place: &LocalPlace) -> Result<Digest, String> {
    let LocalPlace { directory, tag, digest, .. } = place;
    let layout = Layout::at(directory);
    let none = || format!("there is no cache `{tag}` in {}", directory.display());
    let found = match digest {
        Some(digest) => digest.clone(),
        None => match layout.tagged(tag) {
            Ok(tagged) => tagged.ok_or_else(none)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(none()),
            Err(error) => return Err(error.to_string()),
        },
    };
    match layout.size(&found) {
        Ok(_) => Ok(found),
        Err(error) => Err(format!("{found} in {}: {error}", directory.display())),
    }
}

fn unwritten(place: &LocalPlace, source: io::Error) -> BuildError {
    BuildError::Cache { directory: place.directory.clone(), source }
}

/// The status of a call that a file's error ends.
fn of_file(error: &io::Error) -> Status {
    let code = match error.kind() {
        io::ErrorKind::NotFound => Code::NotFound,
        io::ErrorKind::InvalidData => Code::FailedPrecondition,
        _ => Code::Unknown,
    };
    Status::new(code, error.to_string())
}

fn parsed(digest: &str) -> Result<Digest, Status> {
    digest.parse().map_err(|error| Status::new(Code::InvalidArgument, format!("{error}")))
}

async fn info(store: Store, asked: InfoRequest) -> Result<InfoResponse, Status> {
    let digest = parsed(&asked.digest)?;
    let size = store.layout.size(&digest).map_err(|error| of_file(&error))?;
    let info = Info { digest: asked.digest, size: i64::try_from(size).unwrap_or(i64::MAX) };
    Ok(InfoResponse { info: Some(info) })
}

async fn read(store: Store, request: Request<Incoming>) -> Response<Outgoing> {
    let asked = Messages::new(request.into_body()).next::<ReadContentRequest>().await;
    let asked = match asked {
        Ok(asked) => asked.unwrap_or_default(),
        Err(status) => return grpc::refuse(status),
    };
    let (sender, receiver) = mpsc::channel(WAITING);
    spawn_blocking(move || {
        if let Err(status) = send(&store, &asked, &sender) {
            // Nobody listens any more, or hears it.
            let _ = sender.blocking_send(Err(status));
        }
    });
    grpc::response(receiver)
}

fn send(
    store: &Store,
    asked: &ReadContentRequest,
    sender: &mpsc::Sender<Result<Bytes, Status>>,
) -> Result<(), Status> {
    let digest = parsed(&asked.digest)?;
    let from = u64::try_from(asked.offset).unwrap_or(0);
    let much = u64::try_from(asked.size).ok().filter(|size| *size > 0).unwrap_or(u64::MAX);
    let file = || {
        // What is read in pieces is looked at once.
        let layout = &store.layout;
        let mut file =
            if from == 0 { layout.open_verified(&digest) } else { layout.open(&digest) }?;
        file.seek(SeekFrom::Start(from))?;
        Ok(file.take(much))
    };
    let mut file = file().map_err(|error| of_file(&error))?;
    let mut sent = 0;
    loop {
        let mut data = Vec::new();
        file.by_ref().take(CHUNK as u64).read_to_end(&mut data).map_err(|error| of_file(&error))?;
        if data.is_empty() {
            return Ok(());
        }
        let length = data.len();
        let offset = i64::try_from(sent).unwrap_or(i64::MAX);
        let message = grpc::encoded(&ReadContentResponse { offset, data });
        if sender.blocking_send(Ok(message)).is_err() {
            return Ok(());
        }
        sent += length;
    }
}

/// Takes a blob: each message of the call is answered before the next one comes.
fn write(store: Store, fault: Fault, request: Request<Incoming>) -> Response<Outgoing> {
    let (sender, receiver) = mpsc::channel(1);
    let mut messages = Messages::new(request.into_body());
    tokio::spawn(async move {
        let mut blob = Blob { store, fault, unfinished: None, expected: None };
        loop {
            let asked = match messages.next::<WriteContentRequest>().await {
                Ok(Some(asked)) => asked,
                // It is over, or nobody is there any more.
                Ok(None) | Err(_) => return,
            };
            let is_last = asked.action() == WriteAction::Commit;
            // Files are waited for elsewhere.
            let answered = spawn_blocking(move || {
                let answer = blob.take(&asked);
                (blob, answer)
            });
            let Ok((same, answer)) = answered.await else { return };
            blob = same;
            let is_last = is_last || answer.is_err();
            let answer = answer.map(|answer| grpc::encoded(&answer));
            if sender.send(answer).await.is_err() || is_last {
                return;
            }
        }
    });
    grpc::response(receiver)
}

/// A blob that is being written.
struct Blob {
    store: Store,
    fault: Fault,
    unfinished: Option<Unfinished>,
    expected: Option<Digest>,
}

impl Blob {
    fn take(&mut self, asked: &WriteContentRequest) -> Result<WriteContentResponse, Status> {
        if !asked.expected.is_empty() {
            let expected = parsed(&asked.expected)?;
            if let Some(last) = &self.store.last {
                *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(expected.clone());
            }
            if self.store.layout.size(&expected).is_ok() {
                let why = format!("the blob {expected} is there already");
                return Err(Status::new(Code::AlreadyExists, why));
            }
            self.expected = Some(expected);
        }
        let action = asked.action();
        let mut answer = WriteContentResponse {
            action: asked.action,
            total: asked.total,
            ..WriteContentResponse::default()
        };
        let mut unfinished = match self.unfinished.take() {
            Some(unfinished) => unfinished,
            None => self.store.layout.begin().map_err(|error| self.broken(error))?,
        };
        if action != WriteAction::Stat {
            let at = u64::try_from(asked.offset).unwrap_or(0);
            if at == 0 && unfinished.length() > 0 {
                unfinished.restart().map_err(|error| self.broken(error))?;
            } else if at != unfinished.length() {
                let why = format!("{at} is not where it goes on: {}", unfinished.length());
                return Err(Status::new(Code::OutOfRange, why));
            }
            unfinished.write(&asked.data).map_err(|error| self.broken(error))?;
        }
        answer.offset = i64::try_from(unfinished.length()).unwrap_or(i64::MAX);
        if action == WriteAction::Commit {
            if asked.total > 0 && asked.total != answer.offset {
                let why = format!("{} bytes came of {}", answer.offset, asked.total);
                return Err(Status::new(Code::FailedPrecondition, why));
            }
            let digest = unfinished.finish(self.expected.as_ref());
            answer.digest = digest.map_err(|error| self.broken(error))?.to_string();
        } else {
            self.unfinished = Some(unfinished);
        }
        Ok(answer)
    }

    /// The status of a write that failed for a reason of this machine, which the build's error names.
    fn broken(&self, source: io::Error) -> Status {
        let status = of_file(&source);
        if source.kind() != io::ErrorKind::InvalidData {
            let directory = self.store.layout.directory().to_owned();
            self.fault.set(BuildError::Cache { directory, source });
        }
        status
    }
}
