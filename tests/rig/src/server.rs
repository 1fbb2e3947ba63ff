//! A small HTTP/1.1 server on a free loopback port, and the bodies that misbehave.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Sleep;

use crate::runtime;

pub(crate) type Boxed = http_body_util::combinators::BoxBody<Bytes, io::Error>;

/// The whole of a body, known beforehand.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Boxed {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// What a handler answers: a response, or a connection that is reset without one.
pub(crate) type Answer = Result<Response<Boxed>, Reset>;

/// Ends the connection with a TCP reset.
#[derive(Debug)]
pub(crate) struct Reset;

impl std::fmt::Display for Reset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("reset on purpose")
    }
}

impl std::error::Error for Reset {}

/// A running server; dropping it closes the port and every connection.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens, and answers every request with `handler`.
    pub(crate) fn start<H, F>(handler: H) -> Self
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let listener = runtime::block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let task = runtime::handle().spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let handler = handler.clone();
                connections.spawn(async move {
                    let reset = Arc::new(AtomicBool::new(false));
                    let socket = Socket { stream, reset: Arc::clone(&reset) };
                    let service = service_fn(move |request| {
                        let answer = handler(request);
                        let reset = Arc::clone(&reset);
                        async move {
                            let answer = answer.await;
                            reset.store(answer.is_err(), Ordering::Relaxed);
                            answer
                        }
                    });
                    // An error here is the client's going away, or our own doing.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
                });
            }
        });
        Self { address, task }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A connection that ends with a reset if it was told to.
struct Socket {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What happens to the bytes of a body on their way.
pub(crate) enum Spoil {
    /// One bit is turned in the first byte.
    Corrupt,
    /// The connection breaks after so many bytes.
    Truncate(usize),
    /// Nothing more comes after so many bytes, and the connection stays open.
    Stall(usize),
    /// Comes a byte at a time, with this pause before each.
    Drip(Duration),
}

/// A body that arrives otherwise than it was sent.
pub(crate) struct Spoiled {
    inner: Boxed,
    spoil: Spoil,
    seen: usize,
    /// What is left of a piece that drips, and the pause before its next byte.
    left: Bytes,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Spoiled {
    pub(crate) fn new(inner: Boxed, spoil: Spoil) -> Self {
        Self { inner, spoil, seen: 0, left: Bytes::new(), pause: None }
    }
}

impl Spoiled {
    fn drip(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Spoil::Drip(pause) = self.spoil else { return Poll::Ready(None) };
        let waiting = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
        if waiting.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.pause = None;
        Poll::Ready(Some(Ok(Frame::data(self.left.split_to(1)))))
    }
}

impl Body for Spoiled {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.spoil {
            Spoil::Truncate(limit) if self.seen >= limit => {
                return Poll::Ready(Some(Err(io::Error::other("truncated on purpose"))));
            }
            Spoil::Stall(limit) if self.seen >= limit => return Poll::Pending,
            Spoil::Drip(_) if !self.left.is_empty() => return self.drip(cx),
            _ => {}
        }
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
            return Poll::Pending;
        };
        let Some(Ok(frame)) = frame else { return Poll::Ready(frame) };
        let Ok(mut data) = frame.into_data() else { return Poll::Ready(None) };
        match self.spoil {
            Spoil::Corrupt if self.seen == 0 && !data.is_empty() => {
                let mut bytes = data.to_vec();
                bytes[0] ^= 1;
                data = bytes.into();
            }
            Spoil::Truncate(limit) | Spoil::Stall(limit) => {
                data.truncate(limit.saturating_sub(self.seen));
            }
            Spoil::Drip(_) if !data.is_empty() => {
                self.left = data;
                return self.drip(cx);
            }
            Spoil::Corrupt | Spoil::Drip(_) => {}
        }
        self.seen += data.len();
        Poll::Ready(Some(Ok(Frame::data(data))))
    }
}

/// A body without end.
pub(crate) struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        static SPACES: [u8; 16 << 10] = [b' '; 16 << 10];
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&SPACES)))))
    }
}
