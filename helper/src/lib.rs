//! Credentials for Alibaba Cloud Container Registry, for every client that speaks Docker's
//! credential-helper protocol, and for `smartbuild`, which links this library.

#![forbid(unsafe_code)]

pub mod accounts;
pub mod cache;
mod child;
pub mod commands;
pub mod docker_config;
pub mod environment;
pub mod host;
pub mod keychain;
mod lock;
pub mod openapi;
pub mod protocol;
pub mod region;
pub mod registry;
pub mod secret;
pub mod sources;
pub mod store;
pub mod transport;

use jiff::Timestamp;
use thiserror::Error;

pub use environment::Environment;
pub use host::Host;
pub use secret::Secret;
pub use sources::{Source, SourceError};

/// What to log in with, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The user name. Not a secret.
    pub username: String,
    /// The password or token.
    pub secret: Secret,
    /// Where it came from, for people: `REGISTRY_USERNAME and REGISTRY_PASSWORD`.
    pub origin: String,
    /// When it stops being accepted, where that is known.
    pub expires: Option<Timestamp>,
}

/// Why there is no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The host is none.
    #[error(transparent)]
    Host(#[from] host::HostError),
    /// A source is configured for the host, and cannot answer.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// There is no store, or it failed.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// Something hangs.
    #[error("no answer within {} seconds", keychain::DEADLINE.as_secs())]
    Timeout,
    /// A fault of this program.
    #[error(
        "the program stopped in the middle of its work; this is a fault of it, please report it"
    )]
    Broken,
}

/// The credential for a registry (`host`, `host:port`, or an address with scheme and path): the
/// first answer of [`sources::all`]. `None` means that no source is configured for the host.
///
/// # Errors
/// The address names no registry, or a source that is configured for it cannot answer.
pub fn credential_for(host: &str, environment: &Environment) -> Result<Option<Credential>, Error> {
    first_answer(&sources::all(environment), &Host::parse(host)?)
}

/// The answer of the first source that has one.
fn first_answer(
    sources: &[Box<dyn Source + '_>],
    host: &Host,
) -> Result<Option<Credential>, Error> {
    for source in sources {
        if let Some(credential) = source.get(host)? {
            return Ok(Some(credential));
        }
    }
    Ok(None)
}
