//! A way to a server that takes its time: a proxy that delays what passes.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::runtime;

/// A server as it is seen from far away; dropping it closes the way.
#[derive(Debug)]
pub struct Far {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Far {
    /// A way to `host` (`127.0.0.1:PORT`) on which each round trip takes this much longer, the one
    /// that makes the connection too.
    #[must_use]
    pub fn from(host: &str, delay: Duration) -> Self {
        let listener = runtime::block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let host = host.to_owned();
        let task = runtime::handle().spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(connect(near, host.clone(), delay));
            }
        });
        Self { address, task }
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The way there is slow, the way back is not: a round trip takes the delay once.
async fn connect(near: TcpStream, host: String, delay: Duration) {
    sleep(delay).await;
    let Ok(far) = TcpStream::connect(host).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let ((mut from, mut to_near), (mut from_far, mut to)) = (near.into_split(), far.into_split());
    let (send, mut arriving) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            if send.send((Instant::now() + delay, buffer[..length].to_vec())).is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        while let Some((at, bytes)) = arriving.recv().await {
            sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    });
    let _ = tokio::io::copy(&mut from_far, &mut to_near).await;
    let _ = to_near.shutdown().await;
}
