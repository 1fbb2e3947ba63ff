//! What can go wrong between a registry and us, in one sentence each.
//!
//! Every error names the thing that was asked for and the host that was asked. What a server says
//! is repeated only bounded and without control characters, and never a secret.

use std::{fmt, io, time::Duration};

use super::{
    manifest::InvalidManifest,
    reference::{Reference, Repository},
};
use crate::{credentials, platform::Platform};

/// As whom a registry was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Without a login.
    Nobody,
    /// With a login.
    User {
        /// The user name; empty for an identity token.
        name: String,
        /// Where the login came from.
        origin: String,
    },
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("nobody"),
            Self::User { name, origin } if name.is_empty() => {
                write!(f, "the identity token from {origin}")
            }
            Self::User { name, origin } => write!(f, "user `{name}` (from {origin})"),
        }
    }
}

/// The conversation with a registry failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The login for the registry could not be fetched.
    #[error(transparent)]
    Login(#[from] credentials::Error),
    /// The host's name means nothing.
    #[error("cannot {action}: there is no host `{host}`; check the name and the network")]
    UnknownHost {
        /// What was to be done, to what.
        action: String,
        /// The host.
        host: String,
    },
    /// No connection.
    #[error("cannot {action}: cannot connect to {host}: {reason}")]
    Connect {
        /// What was to be done, to what.
        action: String,
        /// The host.
        host: String,
        /// What the system says.
        reason: String,
    },
    /// No TLS.
    #[error("cannot {action}: no TLS connection with {host}: {reason}")]
    Tls {
        /// What was to be done, to what.
        action: String,
        /// The host.
        host: String,
        /// What is wrong with it, and what to do about it.
        reason: String,
    },
    /// The certificates for a host could not be read.
    #[error("cannot read the certificates for {host} in {path}: {reason}")]
    Certificates {
        /// The host.
        host: String,
        /// The file or directory.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The connection broke.
    #[error("cannot {action}: the connection to {host} broke: {reason}")]
    Broken {
        /// What was to be done, to what.
        action: String,
        /// The host.
        host: String,
        /// What the system says.
        reason: String,
    },
    /// Nothing came for too long.
    #[error("cannot {action}: {host} {what} for {} s", after.as_secs_f32())]
    Timeout {
        /// What was to be done, to what.
        action: String,
        /// The host.
        host: String,
        /// What it did not do.
        what: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// 401: the registry does not know who we are, or does not believe it.
    #[error("cannot {action}: {host} {}{}", refused_login(who), said(message))]
    Unauthorized {
        /// What was to be done, to what.
        action: String,
        /// The host.
        host: String,
        /// As whom it was asked.
        who: Box<Who>,
        /// What the server said.
        message: String,
    },
    /// 403, or a token that does not allow it: the registry knows who we are.
    #[error("cannot {action}: {host} {}{}", not_allowed(who), said(message))]
    Denied {
        /// What was to be done, to what.
        action: String,
        /// The host.
        host: String,
        /// As whom it was asked.
        who: Box<Who>,
        /// What the server said.
        message: String,
    },
    /// 404 where the thing has to be.
    #[error("cannot {action}: {host} does not have it{}", said(message))]
    NotFound {
        /// What was to be done, to what.
        action: String,
        /// The host.
        host: String,
        /// What the server said.
        message: String,
    },
    /// 429, again and again, or for longer than is worth waiting.
    #[error("cannot {action}: {host} says that there were too many requests{}", wait(*retry_after))]
    RateLimited {
        /// What was to be done, to what.
        action: String,
        /// The host.
        host: String,
        /// When to come back, if the server said.
        retry_after: Option<Duration>,
    },
    /// The registry refuses what it was sent, or does not do such things.
    #[error("cannot {action}: {host} refuses it with status {status}{}", said(message))]
    Refused {
        /// What was to be done, to what.
        action: String,
        /// The host.
        host: String,
        /// The status.
        status: u16,
        /// What the server said.
        message: String,
    },
    /// A registry that deletes nothing.
    #[error(
        "cannot {action}: {host} does not delete; deletion has to be enabled there (for \
         distribution's registry: `storage.delete.enabled`)"
    )]
    NoDeletion {
        /// What was to be done, to what.
        action: String,
        /// The host.
        host: String,
    },
    /// A manifest that names content which the registry does not have. It may have it in a moment:
    /// storage that several pipelines write to at once is seen half-written now and then.
    #[error("cannot {action}: {host} does not have a blob that it names{}", said(message))]
    BlobMissing {
        /// What was to be done, to what.
        action: String,
        /// The host.
        host: String,
        /// What the server said.
        message: String,
    },
    /// 5xx, again and again.
    #[error("cannot {action}: {host} has trouble of its own (status {status}){}", said(message))]
    Server {
        /// What was to be done, to what.
        action: String,
        /// The host.
        host: String,
        /// The status.
        status: u16,
        /// What the server said.
        message: String,
        /// When to come back, if the server said.
        retry_after: Option<Duration>,
    },
    /// The server's answer breaks the rules.
    #[error("cannot {action}: {host} {what}")]
    Protocol {
        /// What was to be done, to what.
        action: String,
        /// The host.
        host: String,
        /// What it did.
        what: String,
    },
    /// A manifest that is none.
    #[error("cannot use {image}: {source}")]
    Manifest {
        /// Which one.
        image: String,
        /// What is wrong with it.
        source: Box<InvalidManifest>,
    },
    /// An image that does not exist for the platform asked for.
    #[error("{image} has no image for {platform}; it has {}", listed(available))]
    NoPlatform {
        /// Which one.
        image: String,
        /// The platform asked for.
        platform: Platform,
        /// The platforms it has.
        available: Vec<Platform>,
    },
    /// Content that was to be uploaded could not be read.
    #[error("cannot read what was to be pushed to {repository}: {source}")]
    Source {
        /// Where it was to go.
        repository: Repository,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    pub(super) fn manifest(reference: &Reference, source: impl Into<InvalidManifest>) -> Self {
        Self::Manifest { image: reference.familiar(), source: Box::new(source.into()) }
    }

    /// Whether the registry refuses by whom, so that another login could help.
    #[must_use]
    pub fn is_access(&self) -> bool {
        matches!(self, Self::Unauthorized { .. } | Self::Denied { .. } | Self::Login(_))
    }

    /// Whether the registry refuses because nobody logged in.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        let (Self::Unauthorized { who, .. } | Self::Denied { who, .. }) = self else {
            return false;
        };
        **who == Who::Nobody
    }

    /// Whether what is wrong is written in the user's own configuration.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Login(credentials::Error::Config(_)))
    }

    /// How long the server asked us to stay away.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Server { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }

    /// Whether trying again could help: nothing says that the request itself was wrong.
    pub(super) fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. }
                | Self::Broken { .. }
                | Self::Timeout { .. }
                | Self::RateLimited { .. }
                | Self::BlobMissing { .. }
                | Self::Server { .. }
        )
    }
}

fn refused_login(who: &Who) -> String {
    match who {
        Who::Nobody => "wants a login, and none was found for it; run `docker login` first".into(),
        who => format!("does not accept the login of {who}"),
    }
}

fn not_allowed(who: &Who) -> String {
    match who {
        Who::Nobody => "does not allow it without a login, and none was found for it".into(),
        who => format!("does not allow it to {who}"),
    }
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!("; it says: {message}") }
}

fn wait(retry_after: Option<Duration>) -> String {
    retry_after.map_or_else(
        || "; try again later".to_owned(),
        |wait| format!("; try again in {} s", wait.as_secs()),
    )
}

fn listed(platforms: &[Platform]) -> String {
    match platforms {
        [] => "none".to_owned(),
        platforms => platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}
