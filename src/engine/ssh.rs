//! SSH agents for the steps of a build: one that runs, or one of our own that has keys from files.
//!
//! Keys are nothing that we understand: `ssh-agent` and `ssh-add` do.

use std::{
    io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use docker_credential_aliyun::secret::Secret;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    process::{Child, Command},
};

use super::{error::no_connection, scratch::Scratch};

/// An agent that answers.
#[derive(Clone, Debug)]
pub struct SshAgent {
    socket: PathBuf,
    /// The agent, if it is ours. It ends with the last of those that use it.
    _own: Option<Arc<Own>>,
}

impl SshAgent {
    /// The agent whose socket is the only one of these places, or else one of our own with the
    /// private keys that are in these files.
    ///
    /// # Errors
    /// When none answers, or a key cannot be used: why, and what to do.
    pub async fn open(places: &[PathBuf]) -> Result<Self, String> {
        let socket = match places {
            [] => return Err(format!("SSH_AUTH_SOCK is not set; {START}")),
            [only] if !only.is_file() => only.clone(),
            keys => return Own::start(keys).await,
        };
        let agent = Self { socket, _own: None };
        match agent.connect().await {
            Ok(_) => Ok(agent),
            Err(error) => {
                let (place, why) = (agent.socket.display(), no_connection(&error));
                Err(format!("at {place}, {why}; {START}"))
            }
        }
    }

    /// Its socket.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    #[cfg(unix)]
    pub(super) async fn connect(&self) -> io::Result<impl AsyncRead + AsyncWrite + Send + use<>> {
        tokio::net::UnixStream::connect(&self.socket).await
    }

    #[cfg(windows)]
    pub(super) async fn connect(&self) -> io::Result<impl AsyncRead + AsyncWrite + Send + use<>> {
        tokio::net::windows::named_pipe::ClientOptions::new().open(&self.socket)
    }
}

/// What to do where no agent answers.
const START: &str = "start ssh-agent, or give its socket or a private key: --ssh ID=PATH";

/// An agent of our own. Nobody finds its socket any more when this is dropped, and it ends with the
/// program that it was started for, which is killed, within seconds (openssh `ssh-agent.c`:
/// `check_parent_exists`): so it does when we are killed ourselves.
#[derive(Debug)]
struct Own {
    _directory: Scratch,
    _program: Child,
}

impl Own {
    async fn start(keys: &[PathBuf]) -> Result<SshAgent, String> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => {
                "for a key, ssh-agent has to be installed; or give the socket of an agent"
                    .to_owned()
            }
            _ => format!("ssh-agent cannot be started for a key: {error}"),
        };
        let directory = Scratch::small("ssh").map_err(failed)?;
        let socket = directory.path().join("agent");
        let mut command = Command::new("ssh-agent");
        command.arg("-a").arg(&socket).arg("cat").kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut program = command.spawn().map_err(failed)?;
        // The agent listens before its program runs.
        let listens = async {
            let input = program.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
            input.write_all(b"?").await?;
            let output = program.stdout.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
            output.read_u8().await
        };
        listens.await.map_err(failed)?;
        for key in keys {
            add(key, &socket).await?;
        }
        let own = Self { _directory: directory, _program: program };
        Ok(SshAgent { socket, _own: Some(Arc::new(own)) })
    }
}

/// Gives an agent a key. The key itself goes through a pipe: who may read the file is not ssh's to say.
async fn add(key: &Path, socket: &Path) -> Result<(), String> {
    let place = key.display();
    let failed = |error: io::Error| format!("the key {place} cannot be used: {error}");
    let content = Secret::new(std::fs::read_to_string(key).map_err(failed)?);
    let mut command = Command::new("ssh-add");
    command.args(["-q", "-"]).env("SSH_AUTH_SOCK", socket).kill_on_drop(true);
    // A build asks no questions.
    command.env("SSH_ASKPASS", "false").env("SSH_ASKPASS_REQUIRE", "force");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut program = command.spawn().map_err(failed)?;
    if let Some(mut input) = program.stdin.take() {
        // What it does not read, it does not want; it says why.
        let _ = input.write_all(content.expose().as_bytes()).await;
    }
    let output = program.wait_with_output().await.map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().lines().last().map(|line| format!(" ({line})")).unwrap_or_default();
    Err(format!(
        "{place} is no private key that can be used without a passphrase{said}; add it to an agent, \
         and give the socket of that"
    ))
}
