//! Alibaba Cloud's OpenAPI, as much of it as a registry login needs: signing, the calls of
//! Container Registry (ACR) and of the Security Token Service (STS), and what their refusals mean.
//!
//! It knows how to ask; it must not know where an identity comes from, which registry host is
//! meant, or what becomes of the answer.
//!
//! Nothing here was seen against the live service; `docs/ram-identities.md` says what was run.

pub mod acr;
pub mod acs3;
mod call;
mod endpoint;
mod error;
pub mod sts;

use jiff::Timestamp;

pub use call::Caller;
pub use endpoint::{Endpoint, EndpointError, Network};
pub use error::{CallError, Refusal};

use crate::secret::Secret;

/// What a request is signed with: a long-lived pair, or a short-lived one with its token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AccessKey {
    /// `AccessKeyId`. It names the key and is sent in the clear.
    pub id: String,
    /// `AccessKeySecret`. It signs and is never sent.
    pub secret: Secret,
    /// `SecurityToken`, with the keys that STS gave.
    pub security_token: Option<Secret>,
    /// When STS keys end, where that was said.
    pub expires_at: Option<Timestamp>,
}
