//! One HTTP request and its answer: connections, time limits, sizes, counting.
//!
//! Bounds everything that comes back; must not know what a registry is, nor any login.

use std::{
    collections::HashMap,
    error::Error as StdError,
    io,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use reqwest::{
    Method, Response, StatusCode, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use tokio::{sync::OnceCell, task::spawn_blocking, time::timeout};

use super::{
    config::{Config, Timeouts},
    error::Error,
    tls::{self, Trust},
};

/// Pieces of content on their way.
pub(super) type ByteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// What is sent with a request.
pub(super) enum Body {
    /// Nothing.
    Empty,
    /// What can be sent again.
    Bytes(Bytes),
    /// What can be sent once, and its length.
    Stream(ByteStream, u64),
}

/// One request, to be sent once.
pub(super) struct Outgoing<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// What is being done, for errors: "read r.example/app:v1".
    pub(super) action: &'a str,
}

/// What the conversation has cost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Requests sent, those for tokens and after redirects included.
    pub requests: u64,
    /// Requests for tokens, among them.
    pub tokens: u64,
    /// Requests that were sent again, among them.
    pub retries: u64,
    /// Bytes of bodies sent.
    pub sent: u64,
    /// Bytes of bodies received.
    pub received: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) requests: AtomicU64,
    pub(super) tokens: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
}

impl Counters {
    pub(super) fn read(&self) -> Statistics {
        Statistics {
            requests: self.requests.load(Relaxed),
            tokens: self.tokens.load(Relaxed),
            retries: self.retries.load(Relaxed),
            sent: self.sent.load(Relaxed),
            received: self.received.load(Relaxed),
        }
    }
}

type LazyClient = Arc<OnceCell<reqwest::Client>>;

/// The connections, and what they need.
pub(super) struct Transport {
    pub(super) config: Config,
    pub(super) counters: Arc<Counters>,
    /// By the proof that a server has to give, and whether proxies are passed by.
    clients: Mutex<HashMap<(Trust, bool), LazyClient>>,
}

impl Transport {
    /// Cheap: nothing is read, and no TLS set up, before the first request.
    pub(super) fn new(config: Config) -> Self {
        Self { config, counters: Arc::default(), clients: Mutex::default() }
    }

    /// Sends a request once and waits for the head of the answer.
    pub(super) async fn send(&self, outgoing: Outgoing<'_>) -> Result<Incoming, Error> {
        let Outgoing { method, url, headers, body, action } = outgoing;
        let place = Place { action: action.to_owned(), host: authority(&url) };
        let client = self.client(&url).await?;
        let timeouts = self.config.timeouts;
        let progress = Progress::new();
        let mut request = client.request(method, url.clone()).headers(headers);
        match body {
            Body::Empty => {}
            Body::Bytes(bytes) => {
                self.counters.sent.fetch_add(bytes.len() as u64, Relaxed);
                request = request.body(bytes);
            }
            Body::Stream(stream, length) => {
                let (counters, progress) = (Arc::clone(&self.counters), progress.clone());
                let watched = stream.inspect(move |piece| {
                    progress.advance();
                    let length = piece.as_ref().map_or(0, Bytes::len);
                    counters.sent.fetch_add(length as u64, Relaxed);
                });
                request = request
                    .header(reqwest::header::CONTENT_LENGTH, length)
                    .body(reqwest::Body::wrap_stream(watched));
            }
        }
        self.counters.requests.fetch_add(1, Relaxed);
        let answer = progress.watch(timeouts.answer, request.send()).await;
        let response = match answer {
            None => return Err(place.timeout("did not answer", timeouts.answer)),
            Some(Err(error)) => return Err(place.failed(&error, &url, timeouts)),
            Some(Ok(response)) => response,
        };
        Ok(Incoming { response, timeouts, place, counters: Arc::clone(&self.counters) })
    }

    /// The client for `url`, made when it is first needed: reading the system's certificates takes
    /// milliseconds.
    async fn client(&self, url: &Url) -> Result<reqwest::Client, Error> {
        let trust = Trust::of(&self.config, url);
        // A proxy could not reach our loopback, whatever `HTTP_PROXY` says (Go's rule, too).
        let direct = is_loopback(url);
        let cell = {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(clients.entry((trust.clone(), direct)).or_default())
        };
        let (host, config) = (authority(url), self.config.clone());
        let make = async move {
            let failed = host.clone();
            let built = spawn_blocking(move || tls::build(&config, &trust, direct, &host)).await;
            built.unwrap_or_else(|panic| {
                let (path, reason) = ("the system".to_owned(), panic.to_string());
                Err(Error::Certificates { host: failed, path, reason })
            })
        };
        cell.get_or_try_init(|| make).await.cloned()
    }
}

/// The head of an answer; the body is still to come.
pub(super) struct Incoming {
    response: Response,
    timeouts: Timeouts,
    pub(super) place: Place,
    counters: Arc<Counters>,
}

impl Incoming {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    pub(super) fn url(&self) -> &Url {
        self.response.url()
    }

    /// Reads the whole body, of which at most `limit` bytes are taken.
    pub(super) async fn document(mut self, limit: u64) -> Result<Bytes, Error> {
        let whole = self.timeouts.document;
        let too_large =
            |place: &Place| place.protocol(format!("sent more than {limit} bytes of it"));
        if self.response.content_length().is_some_and(|length| length > limit) {
            return Err(too_large(&self.place));
        }
        let read = async {
            let mut body = BytesMut::new();
            while let Some(piece) = self.piece().await? {
                if (body.len() + piece.len()) as u64 > limit {
                    return Err(too_large(&self.place));
                }
                body.extend_from_slice(&piece);
            }
            Ok(body.freeze())
        };
        let read = timeout(whole, read).await;
        read.unwrap_or_else(|_| Err(self.place.timeout("did not finish its answer", whole)))
    }

    /// The next piece of the body.
    async fn piece(&mut self) -> Result<Option<Bytes>, Error> {
        let idle = self.timeouts.idle;
        let url = self.response.url().clone();
        match timeout(idle, self.response.chunk()).await {
            Err(_) => Err(self.place.timeout("stopped in the middle of its answer", idle)),
            Ok(Err(error)) => Err(self.place.failed(&error, &url, self.timeouts)),
            Ok(Ok(piece)) => {
                let length = piece.as_ref().map_or(0, Bytes::len);
                self.counters.received.fetch_add(length as u64, Relaxed);
                Ok(piece)
            }
        }
    }

    /// The body as it comes.
    pub(super) fn stream(self) -> ByteStream {
        Box::pin(stream::try_unfold(self, |mut incoming| async {
            match incoming.piece().await {
                Ok(Some(piece)) => Ok(Some((piece, incoming))),
                Ok(None) => Ok(None),
                Err(error) => Err(io::Error::other(error)),
            }
        }))
    }
}

/// What was being done and where, for errors.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) action: String,
    pub(super) host: String,
}

impl Place {
    pub(super) fn protocol(&self, what: impl Into<String>) -> Error {
        let Self { action, host } = self.clone();
        Error::Protocol { action, host, what: what.into() }
    }

    fn timeout(&self, what: &'static str, after: Duration) -> Error {
        let Self { action, host } = self.clone();
        Error::Timeout { action, host, what, after }
    }

    /// Says what lies behind an error of the HTTP library.
    fn failed(&self, error: &reqwest::Error, url: &Url, timeouts: Timeouts) -> Error {
        let Self { action, host } = self.clone();
        let reason = innermost(error);
        if let Some(reason) = tls::explain_alert(&reason, url) {
            return Error::Tls { action, host, reason };
        }
        if let Some(tls) = find::<rustls::Error>(error) {
            return Error::Tls { action, host, reason: tls::explain(tls, url) };
        }
        let unknown = chain(error).any(|cause| cause.to_string() == "dns error");
        if let Some(variable) = proxy_variable(url).filter(|_| error.is_connect()) {
            let reason = format!("{reason}; {variable} is set, so this may be its proxy");
            return Error::Connect { action, host, reason };
        }
        if unknown {
            return Error::UnknownHost { action, host };
        }
        if error.is_timeout() {
            return self.timeout("could not be connected to", timeouts.connect);
        }
        if error.is_connect() {
            Error::Connect { action, host, reason }
        } else {
            Error::Broken { action, host, reason }
        }
    }
}

/// The variable that names the proxy for `url`, if one may be in use.
fn proxy_variable(url: &Url) -> Option<String> {
    let scheme = url.scheme().to_ascii_uppercase();
    let names = [format!("{scheme}_PROXY"), "ALL_PROXY".to_owned()];
    let names = names.into_iter().flat_map(|name| [name.to_ascii_lowercase(), name]);
    let set = |name: &String| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    names.filter(|_| !is_loopback(url)).find(set)
}

/// The causes of an error, itself first.
fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// The first cause of type `T`. An `io::Error` hides the error it wraps from `source`.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    chain(error).find_map(|cause| {
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let wrapped = wrapped.map(|inner| inner as &(dyn StdError + 'static));
        cause.downcast_ref::<T>().or_else(|| wrapped.and_then(find::<T>))
    })
}

/// The cause that lies deepest, which is the one that says something.
pub(super) fn innermost(error: &(dyn StdError + 'static)) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

/// When something last moved, so that a long upload that moves is not taken for a dead one.
#[derive(Clone)]
struct Progress(Arc<Mutex<Instant>>);

impl Progress {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn advance(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Runs `future` until nothing has moved for `limit`.
    async fn watch<T>(&self, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(future);
        loop {
            let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match tokio::time::timeout_at((last + limit).into(), &mut future).await {
                Ok(output) => return Some(output),
                Err(_) if *self.0.lock().unwrap_or_else(PoisonError::into_inner) == last => {
                    return None;
                }
                Err(_) => {}
            }
        }
    }
}

/// `host` or `host:port`, without the port that the scheme implies.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Whether two addresses are of one server, so that what was meant for one may go to the other.
pub(super) fn same_origin(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}

/// Whether the server is on this machine: what Docker takes for insecure without being told.
pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

pub(super) fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).map(HeaderValue::to_str).and_then(Result::ok)
}
