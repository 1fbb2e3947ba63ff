//! What can go wrong between an engine and us, in one sentence each.

use std::io;

use super::endpoint::EndpointError;
use crate::credentials;

/// The conversation with an engine failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is set names no engine.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// Nobody answers.
    #[error("no {what} answers at {endpoint}: {reason}; {advice}")]
    NotRunning {
        /// What does not.
        what: &'static str,
        /// Where it was looked for, and who said so.
        endpoint: String,
        /// What the system says.
        reason: String,
        /// How to start one, or how to find the one that runs.
        advice: String,
    },
    /// A program that is to build is not there.
    #[error("{program} is not installed; install it, or start a Docker Engine")]
    NotInstalled {
        /// Its name.
        program: &'static str,
    },
    /// The socket is there and not for us.
    #[error(
        "this user may not use the Docker Engine at {endpoint}; run as a member of the group that owns the socket (usually `docker`), or set DOCKER_HOST to another engine"
    )]
    Forbidden {
        /// The engine.
        endpoint: String,
    },
    /// No TLS, or the engine is not who it should be.
    #[error("no TLS connection with the Docker Engine at {endpoint}: {reason}; check {directory}")]
    Tls {
        /// The engine.
        endpoint: String,
        /// What is wrong.
        reason: String,
        /// Where the certificates are.
        directory: String,
    },
    /// Something answers, and it is no engine.
    #[error("what answers at {endpoint} is no Docker Engine: {reason}; {advice}")]
    NotAnEngine {
        /// Where.
        endpoint: String,
        /// What it did.
        reason: String,
        /// What to set.
        advice: &'static str,
    },
    /// The engine says no.
    #[error("the engine cannot {action}: {message} (status {status})")]
    Refused {
        /// What was to be done, to what.
        action: String,
        /// The HTTP status.
        status: u16,
        /// What the engine says.
        message: String,
    },
    /// The engine tried and failed.
    #[error("the engine cannot {action}: {message}")]
    Failed {
        /// What was to be done, to what.
        action: String,
        /// What the engine says.
        message: String,
    },
    /// The disk of the engine is full.
    #[error(
        "the engine cannot {action}: its disk is full; `docker system prune`, `buildctl prune` or `buildah prune` makes room"
    )]
    DiskFull {
        /// What was to be done, to what.
        action: String,
    },
    /// The connection broke: the engine was stopped, or died.
    #[error("cannot {action}: the connection to the engine broke ({reason})")]
    Broken {
        /// What was to be done, to what.
        action: String,
        /// What the system says.
        reason: String,
    },
    /// The engine's answer breaks the rules.
    #[error("cannot {action}: the engine {what}")]
    Protocol {
        /// What was to be done, to what.
        action: String,
        /// What it did.
        what: String,
    },
    /// A registry refused the engine.
    #[error("cannot push {image}: {message}{}", advice(*login))]
    Push {
        /// What was to be pushed.
        image: String,
        /// What the registry says, through the engine.
        message: String,
        /// Whether there was a login to show.
        login: bool,
    },
    /// The login for a registry could not be fetched.
    #[error(transparent)]
    Login(#[from] credentials::Error),
}

fn advice(login: bool) -> &'static str {
    if login { "" } else { " (no login was found for it)" }
}

impl Error {
    /// An [`Error::Failed`], or something more precise where the engine's text allows it.
    pub(super) fn failed(action: impl Into<String>, message: impl Into<String>) -> Self {
        let (action, message) = (action.into(), message.into());
        if message.contains("no space left on device") {
            Self::DiskFull { action }
        } else {
            Self::Failed { action, message }
        }
    }

    /// A broken connection while `action` was under way.
    pub(super) fn broken(action: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Broken { action: action.to_owned(), reason: innermost(error) }
    }

    /// Whether a registry was in trouble of its own, or the network, so that the same push may well
    /// work soon.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        let trouble = [
            &[" 429 ", " 500 ", " 502 ", " 503 ", " 504 ", "toomanyrequests"][..],
            &["blob unknown", "unknown blob", "EOF", "connection reset", "broken pipe", "timeout"],
        ]
        .concat();
        matches!(self, Self::Push { message, .. } if trouble.iter().any(|t| message.contains(t)))
    }

    /// Whether nobody answered, so that a caller may look for another engine.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::NotRunning { .. } | Self::Forbidden { .. } | Self::Tls { .. })
    }
}

/// Why no connection could be opened.
pub(super) fn no_connection(error: &io::Error) -> String {
    match error.kind() {
        // With a text it is a program that is not there.
        io::ErrorKind::NotFound if error.get_ref().is_none() => {
            "there is no such socket".to_owned()
        }
        io::ErrorKind::PermissionDenied => "this user may not use it".to_owned(),
        io::ErrorKind::ConnectionRefused => "nobody listens there".to_owned(),
        io::ErrorKind::TimedOut => "it does not answer".to_owned(),
        _ => innermost(error),
    }
}

/// The last cause of an error: the outer ones only say that something failed.
pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    match cause.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof,
        ) => "it was closed from the other side".to_owned(),
        _ => cause.to_string(),
    }
}
