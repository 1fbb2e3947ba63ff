//! Directories of a context, read by names relative to an open directory where the platform can.
//!
//! On Unix every call is relative to a file descriptor, which is faster than walking the whole path
//! each time, and a name is never followed if it is a link. Elsewhere the same interface stands on
//! the standard library.

#[cfg(not(unix))]
#[path = "directory_portable.rs"]
mod platform;
#[cfg(unix)]
#[path = "directory_unix.rs"]
mod platform;

pub(super) use platform::{Directory, Root, native_path, open_file};

/// What a name in a directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    File,
    Directory,
    Symlink,
    /// A socket, a FIFO or a device.
    Special,
}

/// What the file system says of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metadata {
    pub(super) kind: FileKind,
    /// The permission bits.
    pub(super) permissions: u32,
    /// The length in bytes.
    pub(super) size: u64,
    /// What tells whether the file changed; `None` where the platform has no such thing.
    pub(super) identity: Option<Identity>,
}

/// What changes whenever the content of a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) device: u64,
    pub(super) inode: u64,
    /// Type and permission bits.
    pub(super) mode: u32,
    /// When the content was last changed, as far as programs say, in nanoseconds since 1970.
    pub(super) modified: i64,
    /// When the inode was last changed, which no program can set, likewise.
    pub(super) changed: i64,
}

/// The names in a directory, sorted by their bytes.
#[derive(Debug, Default)]
pub(super) struct Names {
    bytes: Vec<u8>,
    entries: Vec<(u32, u32, Option<FileKind>)>,
}

impl Names {
    /// Adds a name, with its kind where the directory tells.
    pub(super) fn push(&mut self, name: &[u8], kind: Option<FileKind>) {
        self.entries.push((self.bytes.len() as u32, name.len() as u32, kind));
        self.bytes.extend_from_slice(name);
    }

    pub(super) fn sort(&mut self) {
        let bytes = &self.bytes;
        self.entries.sort_unstable_by_key(|(start, length, _)| slice(bytes, *start, *length));
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many bytes all names have together.
    pub(super) fn total_length(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], Option<FileKind>)> {
        self.entries
            .iter()
            .map(|(start, length, kind)| (slice(&self.bytes, *start, *length), *kind))
    }
}

fn slice(bytes: &[u8], start: u32, length: u32) -> &[u8] {
    bytes.get(start as usize..(start + length) as usize).unwrap_or_default()
}
