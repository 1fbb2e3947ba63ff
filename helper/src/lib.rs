//! Credentials for Alibaba Cloud Container Registry, for every client that speaks Docker's
//! credential-helper protocol, and for `smartbuild`, which links this library.

pub mod openapi;
pub mod secret;
pub mod transport;
