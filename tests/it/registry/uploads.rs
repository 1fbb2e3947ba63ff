//! Uploads that break in the middle.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use smartbuild::registry::Digest;
use smartbuild_test_rig::{Image, Registry, unique};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{anonymous, name, repository, tagged};

/// Three million bytes that are not all the same.
fn content() -> Bytes {
    let seed = unique("content");
    let words = (0_u32..).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes());
    seed.bytes().chain(words).take(3_000_000).collect()
}

/// A line to a registry that is cut after so many bytes of the client's, and then never again.
async fn cut_line(upstream: String, cut_after: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let left = Arc::new(AtomicUsize::new(cut_after));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (upstream, left) = (upstream.clone(), Arc::clone(&left));
            tokio::spawn(async move { carry(client, upstream, &left).await });
        }
    });
    address
}

async fn carry(client: TcpStream, upstream: String, left: &AtomicUsize) -> io::Result<()> {
    let server = TcpStream::connect(upstream).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let back = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from_client.read(&mut buffer).await?;
        if read == 0 {
            return to_server.shutdown().await;
        }
        to_server.write_all(&buffer[..read]).await?;
        let before = left.load(Ordering::Relaxed);
        if before > 0 {
            left.store(before.saturating_sub(read), Ordering::Relaxed);
            if before <= read {
                back.abort();
                return Ok(());
            }
        }
    }
}

#[tokio::test]
#[ignore = "needs a registry: run tests/run.sh"]
async fn a_line_that_breaks_in_mid_upload_costs_a_new_start_at_most() {
    let registry = Registry::open();
    let line = cut_line(registry.host().to_owned(), 1_500_000).await;
    let app = repository(&line.to_string(), "app");
    let client = anonymous();
    let blob = client.upload_blob(&app, "x", content()).await.unwrap();
    assert_eq!(client.statistics().retries, 1);
    let stored = registry.blob("app", &blob.digest.to_string()).unwrap();
    assert_eq!(stored.len() as u64, blob.size);
}

#[tokio::test]
#[ignore = "needs a registry: run tests/run.sh"]
async fn a_source_that_breaks_in_mid_copy_is_asked_for_the_rest() {
    let (here, there) = (Registry::open(), Registry::open());
    let text: String = content().iter().map(|byte| char::from(byte % 64 + 32)).collect();
    let digest = here.push("app", "1", &Image::scratch().files(&[("large", &text)]));
    // What the client reads is cut: the line is turned around.
    let line = cut_answers(here.host().to_owned(), 1_500_000).await;
    let to = repository(there.host(), "app");
    let client = anonymous();
    let copied = client.copy(&tagged(&line.to_string(), "app", "1"), &to, &[name("1")]).await;
    assert_eq!(copied.unwrap().to_string(), digest);
    assert_eq!(there.digest("app", "1"), Some(digest));
    assert!(client.statistics().retries >= 1);
}

/// A line from a registry that is cut after so many bytes of its answers, and then never again.
async fn cut_answers(upstream: String, cut_after: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let left = Arc::new(AtomicUsize::new(cut_after));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (upstream, left) = (upstream.clone(), Arc::clone(&left));
            tokio::spawn(async move {
                let server = TcpStream::connect(upstream).await?;
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let forth =
                    tokio::spawn(
                        async move { tokio::io::copy(&mut from_client, &mut to_server).await },
                    );
                let mut buffer = vec![0; 64 << 10];
                loop {
                    let read = from_server.read(&mut buffer).await?;
                    if read == 0 {
                        return to_client.shutdown().await;
                    }
                    to_client.write_all(&buffer[..read]).await?;
                    let before = left.load(Ordering::Relaxed);
                    if before > 0 {
                        left.store(before.saturating_sub(read), Ordering::Relaxed);
                        if before <= read {
                            forth.abort();
                            return io::Result::Ok(());
                        }
                    }
                }
            });
        }
    });
    address
}

/// A registry that keeps what it got of an upload, as the specification allows; Debian's starts
/// anew.
#[derive(Default)]
struct Resumable {
    received: Mutex<Vec<u8>>,
    log: Mutex<Vec<String>>,
}

impl Resumable {
    async fn start() -> (SocketAddr, Arc<Self>) {
        let state = Arc::new(Self::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                let service = service_fn(move |request| {
                    let shared = Arc::clone(&shared);
                    async move { shared.answer(request).await }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        (address, state)
    }

    async fn answer(&self, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
        let range = request.headers().get("content-range");
        let range = range.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        let line = format!("{} {} {range}", request.method(), request.uri().path());
        self.log.lock().unwrap().push(line.trim_end().to_owned());
        let method = request.method().as_str().to_owned();
        let has = || self.received.lock().unwrap().len();
        let status = match method.as_str() {
            "HEAD" => 404,
            "POST" => 202,
            "PATCH" => {
                let start = range.split('-').next().unwrap().parse().unwrap_or(0);
                if start != has() {
                    416
                } else {
                    // The first time the line breaks after a million bytes.
                    let first = start == 0;
                    let mut body = request.into_body();
                    while let Some(frame) = body.frame().await {
                        let data = frame.map_err(io::Error::other)?.into_data().unwrap();
                        self.received.lock().unwrap().extend(data);
                        if first && has() > 1_000_000 {
                            return Err(io::Error::other("cut"));
                        }
                    }
                    202
                }
            }
            "GET" => 204,
            "PUT" => 201,
            _ => 404,
        };
        let response = Response::builder()
            .status(status)
            // Relative to where it was asked for, or to the host: both are in use.
            .header("location", if method == "POST" { "one" } else { "/v2/app/blobs/uploads/one" })
            .header("range", format!("0-{}", has().saturating_sub(1)));
        Ok(response.body(Full::default()).unwrap())
    }
}

#[tokio::test]
async fn an_upload_goes_on_where_the_registry_has_got_to() {
    let (address, registry) = Resumable::start().await;
    let app = repository(&address.to_string(), "app");
    let content = content();
    let blob = anonymous().upload_blob(&app, "x", content.clone()).await.unwrap();
    assert_eq!(Digest::of(&registry.received.lock().unwrap()), blob.digest);
    let log = registry.log.lock().unwrap();
    let one = "/v2/app/blobs/uploads/one";
    let rest: Vec<_> = log.iter().skip_while(|line| !line.starts_with("POST")).collect();
    assert_eq!(rest[0], "POST /v2/app/blobs/uploads/");
    assert_eq!(rest[1], &format!("PATCH {one}"));
    assert_eq!(rest[2], &format!("GET {one}"));
    let (resumed, to) = rest[3].rsplit_once(' ').unwrap();
    assert_eq!(resumed, format!("PATCH {one}"));
    let (start, end) = to.split_once('-').unwrap();
    assert!(start.parse::<usize>().unwrap() > 1_000_000, "{to}");
    assert_eq!(end.parse::<usize>().unwrap(), content.len() - 1);
    assert_eq!(rest[4], &format!("PUT {one}"));
    assert_eq!(rest.len(), 5);
}
