//! The files that an engine is served, and the times it is told.
//!
//! # Modification times
//! BuildKit keeps what it was sent, and asks again only for files whose size, mode or modification
//! time (in nanoseconds) is another (fsutil `diff_containerd.go`: `sameFile`). A file that changed
//! while keeping both size and time is then built as it was before: the oldest of BuildKit's stale
//! builds (moby/buildkit#2592 and many after it). The key does not help, for it would be right and
//! stand on the wrong image. So the time we tell depends on the content:
//!
//! - **the seconds are those of the disk.** They end in the image, where they have a meaning: web
//!   servers make `Last-Modified` and `ETag` of them, and would go on serving the old content to
//!   whoever has it if new content had an older time or the same one; `make` compares them. Seconds
//!   made from the digest would be reproducible, and would break both. With a
//!   `SOURCE_DATE_EPOCH` they are not later than that, as the specification of it says.
//! - **the nanoseconds are thirty bits of the content's digest.** They decide whether BuildKit asks
//!   for the file, and are gone from the layer, whose times are whole seconds. A change is missed
//!   only if it keeps size, second *and* meets another digest in one of a billion cases.
//!
//! What is not asked for is what the engine was sent before with the same digest: a file that
//! changes on disk after it was hashed does no harm there, and one that is asked for is verified
//! while it is sent.

use std::{
    borrow::Cow,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::UNIX_EPOCH,
};

use crate::context::{Entry, Kind, Tree, open_verified};

/// The files of a build: what was hashed, and where it is.
#[derive(Clone, Debug)]
pub struct Context {
    /// The directory.
    pub root: PathBuf,
    /// The entries of it that the engine is served, all of them and no others.
    pub tree: Arc<Tree>,
}

impl Context {
    /// The entry at a place of the walk order.
    pub(super) fn entry(&self, index: usize) -> Option<Entry<'_>> {
        self.tree.entry(index)
    }

    /// When an entry was modified last, in whole seconds: not before 1970, nor after `latest`.
    pub(super) fn seconds(&self, entry: &Entry<'_>, latest: Option<i64>) -> io::Result<i64> {
        let path = self.root.join(native(entry.path));
        let modified = std::fs::symlink_metadata(path)?.modified()?;
        let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(0);
        Ok(latest.map_or(seconds, |latest| seconds.min(latest)))
    }

    /// Opens a file; what it gives is verified, and the end of it is an error if it was not what
    /// was hashed.
    pub(super) fn open(&self, entry: &Entry<'_>) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(open_verified(&self.root, entry)?))
    }
}

/// A path of an entry as this system writes it.
pub(super) fn native(path: &[u8]) -> Cow<'_, Path> {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        Path::new(std::ffi::OsStr::from_bytes(path)).into()
    }
    #[cfg(not(unix))]
    PathBuf::from(String::from_utf8_lossy(path).into_owned()).into()
}

/// The nanoseconds that stand for what an entry holds.
pub(super) fn nanoseconds(entry: &Entry<'_>) -> i64 {
    match entry.kind {
        Kind::File { digest, .. } => fingerprint(&digest),
        // Links are compared by their text. Directories are not compared by anything that BuildKit
        // would act on: where their modes are unusual, it is given a place of its own for them.
        Kind::Directory | Kind::Symlink { .. } => 0,
    }
}

/// Thirty bits of a digest, as nanoseconds.
pub(super) fn fingerprint(digest: &[u8; 32]) -> i64 {
    let [a, b, c, d, ..] = *digest;
    i64::from(u32::from_be_bytes([a, b, c, d]) % 1_000_000_000)
}
