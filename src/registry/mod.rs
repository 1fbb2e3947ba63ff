//! The registry conversation: references, authentication, manifests, blobs, tags, records.
//!
//! One [`Client`] talks to every registry of a run. From the outside in: [`Client`]'s methods say
//! what is wanted (`client`, `blobs`, `copy`), `exchange` gets one request answered (scheme,
//! authentication, redirects, trying again), `transport` sends it once (TLS, proxies, limits).
//! Nothing here knows what a build is.

mod answer;
mod auth;
mod blobs;
mod challenge;
mod client;
mod config;
mod copy;
mod digest;
mod error;
mod exchange;
mod image_config;
mod manifest;
mod pages;
mod platforms;
mod reach;
mod records;
mod reference;
mod retry;
mod sign;
mod tls;
mod transport;

pub use blobs::Arrival;
pub use client::{Access, Client};
pub use config::{Config, Retries, Timeouts};
pub use digest::{Digest, InvalidDigest};
pub use error::{Error, Who};
pub use image_config::ImageConfig;
pub use manifest::{
    Descriptor, DescriptorPlatform, ImageManifest, Index, InvalidManifest, Manifest, View,
    media_type,
};
pub use reach::Reached;
pub use records::{RECORD_SUFFIX, Record, RecordHead, record_tag};
pub use reference::{InvalidReference, InvalidTag, Reference, Repository, Tag, TagOrDigest};
pub use sign::{SigningKey, Untrusted, WeakKey};
pub use transport::Statistics;
