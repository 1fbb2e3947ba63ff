//! Opens connections to an engine, of every kind that an address can name.

use std::{
    fs, io,
    path::Path,
    pin::Pin,
    process::Stdio,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::endpoint::{Address, SshAddress, Tls};

/// A connection to an engine.
pub(super) type Connection = Box<dyn Io>;

/// Bytes both ways.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// How long a host may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(20);

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
            let Some(tls) = tls else { return Ok(Box::new(stream)) };
            let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
            let mut config = tls_config(tls)?;
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
            Ok(Box::new(connector.connect(name, stream).await?))
        }
        Address::Ssh(address) => Ok(Box::new(ssh(address)?)),
        Address::Program { command, .. } => {
            let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
            let mut command = Command::new(program);
            command.args(arguments);
            Ok(Box::new(piped(command)?))
        }
    }
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

/// The client's side of TLS, from the files that Docker puts into a certificate directory.
fn tls_config(Tls { directory }: &Tls) -> io::Result<ClientConfig> {
    let named = |path: &Path, error: &dyn std::fmt::Display| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let ca = directory.join("ca.pem");
    let builder = if ca.is_file() {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&ca).map_err(|e| named(&ca, &e))? {
            roots.add(certificate).map_err(|e| named(&ca, &e))?;
        }
        builder.with_root_certificates(roots)
    } else {
        builder.with_platform_verifier().map_err(io::Error::other)?
    };
    let (cert, key) = (directory.join("cert.pem"), directory.join("key.pem"));
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

/// Starts `docker system dial-stdio` on the other machine, as the `docker` command does
/// (docker/cli `cli/connhelper/connhelper.go`).
fn ssh(SshAddress { user, host, port, socket }: &SshAddress) -> io::Result<Piped> {
    let mut command = Command::new("ssh");
    command.args(["-o", "ConnectTimeout=30", "-T"]);
    if let Some(user) = user {
        command.args(["-l", user]);
    }
    if let Some(port) = port {
        command.args(["-p", &port.to_string()]);
    }
    command.args(["--", host, "docker"]);
    if let Some(socket) = socket {
        command.arg(format!("--host=unix://{}", quoted(socket)));
    }
    command.args(["system", "dial-stdio"]);
    piped(command)
}

/// Starts a program, and takes its input and output for the connection.
fn piped(mut command: Command) -> io::Result<Piped> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    match (child.stdin.take(), child.stdout.take()) {
        (Some(input), Some(output)) => Ok(Piped { input, output, _child: child }),
        _ => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

/// One word of a shell's command line: `ssh` hands its arguments to the shell over there.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A program whose input and output are the connection.
struct Piped {
    input: ChildStdin,
    output: ChildStdout,
    /// Ends with the connection.
    _child: Child,
}

impl AsyncRead for Piped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Piped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.input).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_shutdown(cx)
    }
}
