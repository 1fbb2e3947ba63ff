//! A text that must not be seen: redacted when printed, wiped when dropped.

use std::fmt;

use serde::Deserialize;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A password, token or key.
///
/// It has no `Display`, its `Debug` says only that it is there, and its memory is wiped when it is
/// dropped. [`Secret::expose`] is the one way to the text, so that every use can be found.
#[derive(Clone, Default, PartialEq, Eq, Hash, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes a text into custody.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the one place that has to send it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing to hide.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "Secret(empty)" } else { "Secret(***)" })
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

/// Keeps the memory of this process out of core files, where the system lets it say so without
/// privileges: on Linux (core(5), "Controlling which mappings are written to the core dump").
pub fn keep_out_of_core_files() {
    if cfg!(target_os = "linux") {
        // A container may hide the file. Then the dump is as it always was.
        let _ = std::fs::write("/proc/self/coredump_filter", "0");
    }
}
