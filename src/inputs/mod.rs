//! The typed inputs of an image, their canonical encoding, and the key that digests them.

mod key;

pub use key::{InvalidKey, Key};
