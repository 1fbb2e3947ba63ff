//! Programs whose input and output are a connection: `ssh`, `docker exec`, `kubectl exec`.
//!
//! What such a program says on its standard error is why there is no connection. It is not for the
//! terminal, where it would stand in the middle of something else.

use std::{
    io,
    pin::Pin,
    process::Stdio,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::endpoint::SshAddress;

/// How long a program may take to end when its output has. One that `ssh` leaves behind for the
/// next connection keeps its standard error open.
const PATIENCE: Duration = Duration::from_secs(2);
/// So much of the end of what it says is kept.
const KEPT: usize = 4 << 10;

/// A program as a connection. It is killed with it.
pub(super) struct Piped {
    input: ChildStdin,
    output: ChildStdout,
    /// Why the program failed, if it did; until it has been told.
    end: Option<Pin<Box<dyn Future<Output = Option<String>> + Send>>>,
}

impl Piped {
    /// Starts a program with its arguments.
    pub(super) fn start(command: &[String]) -> io::Result<Self> {
        let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(arguments).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                let reason = format!("the command `{program}` is not installed");
                io::Error::new(io::ErrorKind::NotFound, reason)
            }
            _ => error,
        })?;
        match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
            (Some(input), Some(output), Some(errors)) => {
                let said = tokio::spawn(last_words(errors));
                let end = end(child, program.clone(), said);
                Ok(Self { input, output, end: Some(Box::pin(end)) })
            }
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// The program's own reason for the end of the connection, where it has one.
    fn poll_reason(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Error>> {
        let Some(end) = &mut self.end else { return Poll::Ready(None) };
        let reason = ready!(end.as_mut().poll(cx));
        self.end = None;
        Poll::Ready(reason.map(io::Error::other))
    }
}

/// Waits for a program whose output has ended; says why it failed, if it did.
async fn end(
    mut child: Child,
    program: String,
    said: tokio::task::JoinHandle<Vec<String>>,
) -> Option<String> {
    let ended = async { (child.wait().await, said.await) };
    let (status, said) = timeout(PATIENCE, ended).await.ok()?;
    let status = status.ok().filter(|status| !status.success())?;
    match said.unwrap_or_default() {
        said if said.is_empty() => Some(format!("`{program}` ended with {status}")),
        said => Some(said.join("; ")),
    }
}

/// The end of what a program says, as lines that are not empty.
pub(super) async fn last_words(mut errors: ChildStderr) -> Vec<String> {
    let (mut kept, mut chunk) = (Vec::new(), [0; KEPT]);
    while let Ok(length @ 1..) = errors.read(&mut chunk).await {
        kept.extend_from_slice(chunk.get(..length).unwrap_or_default());
        kept.drain(..kept.len().saturating_sub(KEPT));
    }
    let text = String::from_utf8_lossy(&kept).into_owned();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

impl AsyncRead for Piped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.output).poll_read(cx, buffer))?;
        if buffer.filled().len() > before || buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(ready!(self.poll_reason(cx)).map_or(Ok(()), Err))
    }
}

impl AsyncWrite for Piped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match ready!(Pin::new(&mut self.input).poll_write(cx, bytes)) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                Poll::Ready(Err(ready!(self.poll_reason(cx)).unwrap_or(error)))
            }
            written => Poll::Ready(written),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_shutdown(cx)
    }
}

/// The command that reaches the engine of another machine, as the `docker` command does it
/// (docker/cli `cli/connhelper/connhelper.go`).
pub(super) fn docker_over_ssh(address: &SshAddress) -> Vec<String> {
    over_ssh(address, "docker", "--host", &["system", "dial-stdio"])
}

/// The command that reaches the buildkitd of another machine (buildkit `client/connhelper/ssh`).
pub(super) fn buildctl_over_ssh(address: &SshAddress) -> Vec<String> {
    over_ssh(address, "buildctl", "--addr", &["dial-stdio"])
}

fn over_ssh(
    SshAddress { user, host, port, socket }: &SshAddress,
    program: &str,
    option: &str,
    arguments: &[&str],
) -> Vec<String> {
    let mut command = ["ssh", "-o", "ConnectTimeout=30", "-T"].map(str::to_owned).to_vec();
    let mut add = |words: &[&str]| command.extend(words.iter().map(|&word| word.to_owned()));
    if let Some(user) = user {
        add(&["-l", user]);
    }
    if let Some(port) = port {
        add(&["-p", &port.to_string()]);
    }
    add(&["--", host, program]);
    if let Some(socket) = socket {
        add(&[&format!("{option}=unix://{}", quoted(socket))]);
    }
    add(arguments);
    command
}

/// One word of a shell's command line: `ssh` hands its arguments to the shell over there.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn shell(script: &str) -> Piped {
        Piped::start(&["sh", "-c", script].map(str::to_owned)).unwrap()
    }

    #[tokio::test]
    async fn its_input_and_output_are_the_connection() {
        let mut piped = shell("echo of no interest >&2; cat");
        piped.write_all(b"there and back").await.unwrap();
        let mut bytes = [0; 14];
        piped.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"there and back");
    }

    #[tokio::test]
    async fn what_a_program_fails_with_is_the_reason() {
        for (script, reason) in [
            ("echo no such container >&2; exit 1", "no such container"),
            ("printf 'first\n\nsecond\n' >&2; exit 1", "first; second"),
            ("exit 7", "`sh` ended with exit status: 7"),
            ("exec sleep 0 && exit 0", ""),
        ] {
            let read = shell(script).read_to_end(&mut Vec::new()).await;
            assert_eq!(read.map_or_else(|error| error.to_string(), |_| String::new()), reason);
        }
        let none = Piped::start(&["no-such-program".to_owned()]).err().unwrap();
        assert_eq!(none.to_string(), "the command `no-such-program` is not installed");
    }

    #[test]
    fn another_machine_is_reached_by_ssh() {
        let address = SshAddress {
            user: Some("me".to_owned()),
            host: "build".to_owned(),
            port: Some(2222),
            socket: Some("/run/it's.sock".to_owned()),
        };
        assert_eq!(
            docker_over_ssh(&address).join(" "),
            r"ssh -o ConnectTimeout=30 -T -l me -p 2222 -- build docker --host=unix://'/run/it'\''s.sock' system dial-stdio"
        );
        assert_eq!(
            buildctl_over_ssh(&SshAddress { user: None, port: None, socket: None, ..address })
                .join(" "),
            "ssh -o ConnectTimeout=30 -T -- build buildctl dial-stdio"
        );
    }
}
