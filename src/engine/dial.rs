//! Opens connections to an engine, of every kind that an address can name.

use std::{fs, io, path::Path, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

use super::{
    endpoint::{Address, Tls},
    piped::{Piped, docker_over_ssh},
};

/// A connection to an engine.
pub(super) type Connection = Box<dyn Io>;

/// Bytes both ways.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// How long a host may take to accept a connection, then to agree on its encryption, and an engine to
/// answer the first question.
const PATIENCE: Duration = Duration::from_secs(20);

impl Address {
    /// How long whoever is there may take to say so. A program that leads there may ask a person
    /// something first.
    pub(super) fn patience(&self) -> Duration {
        match self {
            Self::Ssh(_) | Self::Program { .. } => 6 * PATIENCE,
            Self::Unix(_) | Self::NamedPipe(_) | Self::Tcp { .. } => PATIENCE,
        }
    }
}

/// Opens a connection.
pub(super) async fn dial(address: &Address) -> io::Result<Connection> {
    dial_for(address, &[]).await
}

/// Opens a connection on which HTTP/2 is spoken from the start, which TLS has to agree on.
pub(super) async fn dial_http2(address: &Address) -> io::Result<Connection> {
    dial_for(address, &[b"h2"]).await
}

async fn dial_for(address: &Address, protocols: &[&[u8]]) -> io::Result<Connection> {
    match address {
        Address::Unix(path) => unix(path).await,
        Address::NamedPipe(path) => named_pipe(path).await,
        Address::Tcp { host, port, tls } => {
            let connect = TcpStream::connect((host.as_str(), *port));
            let stream = timeout(PATIENCE, connect).await??;
            stream.set_nodelay(true)?;
            notice_silence(&stream)?;
            let Some(tls) = tls else { return Ok(Box::new(stream)) };
            let name = ServerName::try_from(tls.name.as_ref().unwrap_or(host).clone())
                .map_err(io::Error::other)?;
            let mut config = tls_config(tls)?;
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
            Ok(Box::new(timeout(PATIENCE, connector.connect(name, stream)).await??))
        }
        Address::Ssh(address) => Ok(Box::new(Piped::start(&docker_over_ssh(address))?)),
        Address::Program { command, .. } => Ok(Box::new(Piped::start(command)?)),
    }
}

/// A build may say nothing for hours. So the systems ask each other whether they are still there, as often
/// as Go's programs do (Go `net/dial.go`: `defaultTCPKeepAliveIdle`), and what is not acknowledged for as
/// long breaks the connection: a machine that is gone would be waited for without end.
fn notice_silence(stream: &TcpStream) -> io::Result<()> {
    const INTERVAL: Duration = Duration::from_secs(15);
    #[cfg(not(windows))]
    const RETRIES: u32 = 5;
    let socket = socket2::SockRef::from(stream);
    let often = socket2::TcpKeepalive::new().with_time(INTERVAL).with_interval(INTERVAL);
    #[cfg(not(windows))]
    let often = often.with_retries(RETRIES);
    socket.set_tcp_keepalive(&often)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(INTERVAL * (RETRIES + 1)))?;
    Ok(())
}

#[cfg(unix)]
async fn unix(path: &Path) -> io::Result<Connection> {
    Ok(Box::new(tokio::net::UnixStream::connect(path).await?))
}

#[cfg(not(unix))]
async fn unix(_path: &Path) -> io::Result<Connection> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no Unix sockets"))
}

#[cfg(windows)]
async fn named_pipe(path: &str) -> io::Result<Connection> {
    /// All instances of the pipe are in use (winerror.h `ERROR_PIPE_BUSY`): one will be free soon.
    const BUSY: i32 = 231;
    let open = async {
        loop {
            match tokio::net::windows::named_pipe::ClientOptions::new().open(path) {
                Err(error) if error.raw_os_error() == Some(BUSY) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                pipe => return pipe,
            }
        }
    };
    Ok(Box::new(timeout(PATIENCE, open).await??))
}

#[cfg(not(windows))]
async fn named_pipe(_path: &str) -> io::Result<Connection> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "named pipes are a thing of Windows"))
}

/// The client's side of TLS, from the files of a certificate directory: under the names that Docker
/// gives them, or those of a Kubernetes secret, as `buildctl` takes them too (buildkit
/// `cmd/buildctl/common/common.go`: `resolveTLSFilesFromDir`).
fn tls_config(Tls { directory, .. }: &Tls) -> io::Result<ClientConfig> {
    let named = |path: &Path, error: &dyn std::fmt::Display| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let either = |names: [&str; 2]| {
        let [first, second] = names.map(|name| directory.join(name));
        if !first.is_file() && second.is_file() { second } else { first }
    };
    // None is named for an `https` address; one that is named and is not there is a mistake.
    if !directory.as_os_str().is_empty() && !directory.is_dir() {
        return Err(named(directory, &"there is no such directory"));
    }
    let ca = either(["ca.pem", "ca.crt"]);
    let builder = if ca.is_file() {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&ca).map_err(|e| named(&ca, &e))? {
            roots.add(certificate).map_err(|e| named(&ca, &e))?;
        }
        builder.with_root_certificates(roots)
    } else {
        builder.with_platform_verifier().map_err(io::Error::other)?
    };
    let (cert, key) = (either(["cert.pem", "tls.crt"]), either(["key.pem", "tls.key"]));
    if !cert.is_file() {
        return Ok(builder.with_no_client_auth());
    }
    let chain = certificates(&cert).map_err(|e| named(&cert, &e))?;
    let private = PrivateKeyDer::from_pem_file(&key).map_err(|e| named(&key, &e))?;
    builder.with_client_auth_cert(chain, private).map_err(|e| named(&key, &e))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, io::Error> {
    let text = fs::read(path)?;
    CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(io::Error::other)
}
