//! What a scan found: the selected entries of a context, in walk order.
//!
//! A tree of a hundred thousand files is one arena of path bytes and one list of fixed-size
//! records, so that it costs about a hundred bytes a file and nothing to walk over.

use std::fmt;

use super::missing::{Explained, Missing};

/// The selected entries of a context, each directory before what it holds.
///
/// The order is that of a walk with sorted directories: paths are compared name by name, so `a/b`
/// comes before `a.txt`. It depends on nothing but the names.
#[derive(Clone, Default)]
pub struct Tree {
    /// Paths, that of a link followed by its target.
    bytes: Vec<u8>,
    records: Vec<Record>,
    /// What a person should know of this scan.
    pub warnings: Vec<Warning>,
    /// What the scan cost.
    pub statistics: Statistics,
}

/// An entry as it is kept.
#[derive(Clone)]
pub(super) struct Record {
    /// Where its path is.
    pub(super) start: u64,
    pub(super) length: u32,
    pub(super) mode: Mode,
    pub(super) kind: RecordKind,
}

#[derive(Clone)]
pub(super) enum RecordKind {
    File {
        size: u64,
        digest: [u8; 32],
    },
    Directory,
    /// The target's bytes follow those of the path.
    Symlink {
        length: u32,
    },
}

/// One file, directory or symbolic link of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The path relative to the context's root, `/`-separated, in the file system's own bytes.
    pub path: &'a [u8],
    /// What it is, with what it holds.
    pub kind: Kind<'a>,
    /// The permission bits, as they are hashed and as the engine gets them.
    pub mode: Mode,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A regular file. One with several hard links is as many files of the same content.
    File {
        /// Its length in bytes.
        size: u64,
        /// The SHA-256 of its content.
        digest: [u8; 32],
    },
    /// A directory.
    Directory,
    /// A symbolic link. It is never followed when it lies in a copied directory.
    Symlink {
        /// The text of the link.
        target: &'a [u8],
    },
}

/// Permission bits: the lower twelve bits of `st_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mode(u16);

impl Mode {
    /// Of directories, of executable files, and of every link's served form.
    pub const EXECUTABLE: Mode = Mode(0o755);
    /// Of files that are not executable.
    pub const PLAIN: Mode = Mode(0o644);
    /// Of links: a link has no permissions of its own.
    pub const LINK: Mode = Mode(0o777);

    const SET_GROUP_ID: u32 = 0o2000;
    const SPECIAL: u32 = 0o7000;
    const OWNER_EXECUTES: u32 = 0o100;
    const ALL: u32 = 0o7777;

    /// Every bit, as it is on disk.
    pub(crate) fn exact(bits: u32) -> Mode {
        Mode((bits & Mode::ALL) as u16)
    }

    /// A file as git would give it back (0644 or 0755), with its set-id and sticky bits.
    pub(crate) fn of_file(bits: u32) -> Mode {
        let base = if bits & Mode::OWNER_EXECUTES != 0 { Mode::EXECUTABLE } else { Mode::PLAIN };
        Mode(base.0 | (bits & Mode::SPECIAL) as u16)
    }

    /// A directory as git would give it back (0755), with its sticky bit. The set-group-id bit of
    /// a directory is inherited from wherever the checkout lies: it is the machine's, not the
    /// tree's.
    pub(crate) fn of_directory(bits: u32) -> Mode {
        Mode(Mode::EXECUTABLE.0 | (bits & Mode::SPECIAL & !Mode::SET_GROUP_ID) as u16)
    }

    /// The bits, 0 to 0o7777.
    pub fn bits(self) -> u32 {
        u32::from(self.0)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl Entry<'_> {
    /// The permission bits that the engine is served, 0 to 0o7777.
    pub fn permissions(&self) -> u32 {
        self.mode.bits()
    }
}

/// Something a person should know of a scan that went well.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Warning {
    /// A source of a `COPY` or a mount that is not in the context, or that the ignore file
    /// excludes. The engine decides whether the build fails.
    NothingSelected {
        /// The source as it was asked for.
        source: Vec<u8>,
        /// Why, if that is known.
        why: Option<Missing>,
    },
    /// A socket, a FIFO or a device. It is left out: no checkout holds one.
    Special {
        /// Where it is, relative to the context.
        path: Vec<u8>,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::NothingSelected { source, why } => {
                Explained { source, why: why.as_ref() }.fmt(f)
            }
            Warning::Special { path } => {
                let path = String::from_utf8_lossy(path);
                write!(f, "`{path}` is a socket, a FIFO or a device: it is left out of the build")
            }
        }
    }
}

/// What a scan cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Files whose content was read.
    pub hashed: u64,
    /// Bytes of content that were read.
    pub bytes: u64,
    /// Files whose digest came from the stat cache.
    pub cached: u64,
}

impl Tree {
    /// The number of entries.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether no entry was selected.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The entry at a place of the walk order.
    pub fn entry(&self, index: usize) -> Option<Entry<'_>> {
        self.records.get(index).map(|record| self.resolve(record))
    }

    /// The entry of a path.
    pub fn find(&self, path: &[u8]) -> Option<Entry<'_>> {
        let index = self
            .records
            .binary_search_by(|record| walk_order(self.slice(record.start, record.length), path))
            .ok()?;
        self.entry(index)
    }

    /// Every entry in walk order.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = Entry<'_>> {
        self.records.iter().map(|record| self.resolve(record))
    }

    fn resolve(&self, record: &Record) -> Entry<'_> {
        let kind = match record.kind {
            RecordKind::File { size, digest } => Kind::File { size, digest },
            RecordKind::Directory => Kind::Directory,
            RecordKind::Symlink { length } => Kind::Symlink {
                target: self.slice(record.start + u64::from(record.length), length),
            },
        };
        Entry { path: self.slice(record.start, record.length), kind, mode: record.mode }
    }

    fn slice(&self, start: u64, length: u32) -> &[u8] {
        let start = start as usize;
        self.bytes.get(start..start + length as usize).unwrap_or_default()
    }

    /// The entries whose paths are kept.
    pub(super) fn filtered(&self, keeps: impl Fn(&[u8]) -> bool) -> Tree {
        let kept = |record: &&Record| keeps(self.slice(record.start, record.length));
        Tree::new(self.bytes.clone(), self.records.iter().filter(kept).cloned().collect())
    }

    /// A tree of entries in walk order, whose paths and link targets are somewhere in `bytes`.
    pub(super) fn new(bytes: Vec<u8>, records: Vec<Record>) -> Tree {
        Tree { bytes, records, ..Tree::default() }
    }

    /// Adds an entry that comes after all those that are there.
    pub(crate) fn push(&mut self, directory: &[u8], name: &[u8], mode: Mode, kind: Kind<'_>) {
        let start = self.bytes.len();
        if !directory.is_empty() {
            self.bytes.extend_from_slice(directory);
            self.bytes.push(b'/');
        }
        self.bytes.extend_from_slice(name);
        let length = (self.bytes.len() - start) as u32;
        let kind = match kind {
            Kind::File { size, digest } => RecordKind::File { size, digest },
            Kind::Directory => RecordKind::Directory,
            Kind::Symlink { target } => {
                self.bytes.extend_from_slice(target);
                RecordKind::Symlink { length: target.len() as u32 }
            }
        };
        self.records.push(Record { start: start as u64, length, mode, kind });
    }
}

/// Two trees are the same when they have the same entries, whatever it cost to find them.
impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        self.entries().eq(other.entries())
    }
}

impl Eq for Tree {}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries()).finish()
    }
}

/// Compares two paths name by name: the order of a walk with sorted directories.
pub(crate) fn walk_order(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    a.split(|byte| *byte == b'/').cmp(b.split(|byte| *byte == b'/'))
}
