//! What a build gives back as a stream of bytes (buildkit `session/filesync/filesync.go`: `FileSend`).

use std::{
    fs,
    io::Write as _,
    sync::{Mutex, PoisonError},
};

use bollard_buildkit_proto::moby::filesync::packet::BytesMessage;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::grpc::{self, Code, Messages, Outgoing, Status};
use crate::engine::build::{BuildError, Fault};

/// The file that it goes into.
pub(super) struct Sink(Mutex<fs::File>);

impl Sink {
    pub(super) fn new(file: fs::File) -> Self {
        Self(Mutex::new(file))
    }

    fn write(&self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(bytes)
    }
}

/// Takes all of it.
pub(super) async fn receive(
    sink: &Sink,
    fault: &Fault,
    request: Request<Incoming>,
) -> Response<Outgoing> {
    let mut messages = Messages::new(request.into_body());
    loop {
        match messages.next::<BytesMessage>().await {
            Ok(Some(BytesMessage { data })) => {
                if let Err(source) = sink.write(&data) {
                    let status = Status::new(Code::Unknown, source.to_string());
                    fault.set(BuildError::Output { source });
                    return grpc::refuse(status);
                }
            }
            Ok(None) => break,
            Err(status) => return grpc::refuse(status),
        }
    }
    // No answer but the end: it has arrived.
    let (_, nothing) = mpsc::channel(1);
    grpc::response(nothing)
}
