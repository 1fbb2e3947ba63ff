//! The client side of Docker's credential-helper protocol.
//!
//! Knows the protocol (docker-credential-helpers `client/client.go`, `credentials/error.go`) and
//! how to run a program without waiting for ever; must not know who named the helper.

use std::{
    io::{self, Read, Write},
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use docker_credential_aliyun::{Environment, Secret};
use serde::Deserialize;

use super::Login;

/// What a helper prints, alone, when it has no login for the server.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// A user name that says: the secret is an identity token.
const TOKEN_USER: &str = "<token>";
/// More is not an answer of a credential helper.
const LARGEST_ANSWER: u64 = 1 << 20;
/// How much of a helper's complaint an error repeats.
const LONGEST_COMPLAINT: usize = 500;

/// A credential helper was named and gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// The program is not there.
    #[error(
        "cannot get the login for {server}: docker-credential-{helper} is not in PATH; install it, or take `{helper}` out of Docker's config.json"
    )]
    Missing {
        /// The name in `config.json`.
        helper: String,
        /// The server that was asked about.
        server: String,
    },
    /// The program could not be run.
    #[error(
        "cannot get the login for {server}: docker-credential-{helper} cannot be run: {source}"
    )]
    Run {
        /// The name in `config.json`.
        helper: String,
        /// The server that was asked about.
        server: String,
        /// Why.
        source: io::Error,
    },
    /// The program said no.
    #[error("cannot get the login for {server}: docker-credential-{helper} failed: {complaint}")]
    Failed {
        /// The name in `config.json`.
        helper: String,
        /// The server that was asked about.
        server: String,
        /// What it printed.
        complaint: String,
    },
    /// The program took too long.
    #[error(
        "cannot get the login for {server}: docker-credential-{helper} did not answer in {} s",
        deadline.as_secs_f32()
    )]
    Slow {
        /// The name in `config.json`.
        helper: String,
        /// The server that was asked about.
        server: String,
        /// How long it was waited for.
        deadline: Duration,
    },
    /// The program's answer was not one. It is not repeated: it may hold a secret.
    #[error(
        "cannot get the login for {server}: docker-credential-{helper} answered something that is not the JSON of the credential-helper protocol"
    )]
    Malformed {
        /// The name in `config.json`.
        helper: String,
        /// The server that was asked about.
        server: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// Asks `docker-credential-HELPER` for the login of `server`; `None` when it has none.
///
/// The helper's stderr is the user's, as with Docker's own client.
pub(super) fn get(
    helper: &str,
    server: &str,
    environment: &Environment,
    deadline: Duration,
) -> Result<Option<Login>, HelperError> {
    let names = || (helper.to_owned(), server.to_owned());
    let not_run = |source: io::Error| {
        let (helper, server) = names();
        match source.kind() {
            io::ErrorKind::NotFound => HelperError::Missing { helper, server },
            _ => HelperError::Run { helper, server, source },
        }
    };
    // The name becomes part of a file name: a path in it would run something else.
    if helper.contains(['/', '\\']) {
        return Err(not_run(io::Error::other("its name must not be a path")));
    }
    let mut command = Command::new(format!("docker-credential-{helper}"));
    // It inherits the rest: our own helper reads its secrets from variables.
    command.arg("get").envs(environment.for_child());
    let output = run(command, server.as_bytes(), deadline).map_err(not_run)?;
    let Some((success, stdout)) = output else {
        let (helper, server) = names();
        return Err(HelperError::Slow { helper, server, deadline });
    };
    let text = std::str::from_utf8(&stdout).unwrap_or_default().trim();
    if !success {
        if text == NOT_FOUND {
            return Ok(None);
        }
        let (helper, server) = names();
        let complaint = match complaint(text) {
            _ if may_hold_secret(text) => "what it printed may hold a secret".to_owned(),
            silent if silent.is_empty() => "it printed no reason".to_owned(),
            complaint => complaint,
        };
        return Err(HelperError::Failed { helper, server, complaint });
    }
    let answer: Answer = serde_json::from_str(text).map_err(|_| {
        let (helper, server) = names();
        HelperError::Malformed { helper, server }
    })?;
    let secret = Secret::new(answer.secret);
    // `{}`, or an empty secret, is how some helpers say that they have none (`pass` 0.6).
    if secret.is_empty() {
        return Ok(None);
    }
    let identity_token = answer.username == TOKEN_USER;
    let username = if identity_token { String::new() } else { answer.username };
    Ok(Some(Login { username, secret, origin: String::new(), identity_token }))
}

/// Runs a program with `input`; `None` when it took too long, and was killed.
fn run(
    mut command: Command,
    input: &[u8],
    deadline: Duration,
) -> io::Result<Option<(bool, Vec<u8>)>> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input may still answer.
        match stdin.write_all(input).and_then(|()| stdin.write_all(b"\n")) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
    }
    let (send, pieces) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        // A grandchild may keep the pipe open after the helper has ended, so the reader is not
        // joined: it ends with the pipe.
        thread::spawn(move || read(stdout.take(LARGEST_ANSWER), &send));
    }
    let started = Instant::now();
    let (mut answer, mut open, mut ended) = (Vec::new(), true, None);
    while started.elapsed() < deadline {
        if ended.is_none() {
            ended = child.try_wait()?;
        }
        // The standard library cannot wait for a process and a pipe at once, nor with a deadline.
        if open {
            match pieces.recv_timeout(Duration::from_millis(1)) {
                Ok(piece) => answer.extend(piece?),
                Err(RecvTimeoutError::Disconnected) => open = false,
                Err(RecvTimeoutError::Timeout) => {}
            }
        } else {
            thread::sleep(Duration::from_millis(1));
        }
        // Nothing comes after a whole answer of a helper that has ended.
        let is_whole = |answer: &[u8]| serde_json::from_slice::<Answer>(answer).is_ok();
        if let Some(status) = ended.filter(|_| !open || is_whole(&answer)) {
            return Ok(Some((status.success(), answer)));
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    Ok(None)
}

/// Passes on what a pipe gives, as it comes.
fn read(mut pipe: impl Read, to: &mpsc::Sender<io::Result<Vec<u8>>>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let piece = match pipe.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => Ok(buffer[..length].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let failed = piece.is_err();
        if to.send(piece).is_err() || failed {
            return;
        }
    }
}

/// Whether a failing helper printed more than its reason: an answer, or part of one.
fn may_hold_secret(text: &str) -> bool {
    text.contains('{')
        || text.to_ascii_lowercase().contains("secret\"")
        || text.len() as u64 + 1 >= LARGEST_ANSWER
}

/// A helper's own words, on one line and bounded.
fn complaint(text: &str) -> String {
    let words = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let line: String = words.take(LONGEST_COMPLAINT).collect();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}
