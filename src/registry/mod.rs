//! The registry conversation: references, authentication, manifests, blobs, tags, records.

mod digest;

pub use digest::{Digest, InvalidDigest};
