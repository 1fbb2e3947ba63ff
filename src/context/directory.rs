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

use std::borrow::Cow;

pub(super) use platform::{Directory, Root, native_path, open_file, read_at};

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

/// The names in a directory, sorted by their bytes, each with its kind where the directory tells.
///
/// They are kept as they stand in the stat cache: of each name its kind, its length and itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names<'a> {
    bytes: Cow<'a, [u8]>,
    count: usize,
}

impl<'a> Names<'a> {
    /// How many bytes there are with each name: its kind and its length.
    const HEAD: usize = 3;

    /// Takes names as [`Names::as_bytes`] gave them, if they are.
    pub(super) fn from_bytes(bytes: &'a [u8]) -> Option<Names<'a>> {
        let (mut rest, mut count) = (bytes, 0);
        while let Some((_, after)) = split(rest) {
            (rest, count) = (after, count + 1);
        }
        rest.is_empty().then_some(Names { bytes: Cow::Borrowed(bytes), count })
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// How many bytes all names have together.
    pub(super) fn total_length(&self) -> usize {
        self.bytes.len().saturating_sub(self.count * Self::HEAD)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Name<'_>> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (name, after) = split(rest)?;
            rest = after;
            Some(name)
        })
    }
}

/// A name, with its kind where the directory tells.
type Name<'a> = (&'a [u8], Option<FileKind>);

/// The first name, and what follows it.
fn split(bytes: &[u8]) -> Option<(Name<'_>, &[u8])> {
    let (&[kind, low, high], rest) = bytes.split_first_chunk()?;
    let (name, rest) = rest.split_at_checked(u16::from_le_bytes([low, high]).into())?;
    Some(((name, FileKind::from_byte(kind)), rest))
}

/// Names in the order in which a directory gives them.
#[derive(Debug, Default)]
pub(super) struct Unsorted {
    bytes: Vec<u8>,
    entries: Vec<Unplaced>,
}

#[derive(Debug)]
struct Unplaced {
    start: usize,
    length: u16,
    kind: Option<FileKind>,
    /// How it begins, as a number that sorts as the bytes do: it settles most comparisons.
    prefix: u128,
}

impl Unsorted {
    /// Adds a name. No file system has names of 64 KiB.
    pub(super) fn push(&mut self, name: &[u8], kind: Option<FileKind>) {
        let mut prefix = [0; 16];
        let common = name.len().min(prefix.len());
        prefix[..common].copy_from_slice(&name[..common]);
        let prefix = u128::from_be_bytes(prefix);
        let (start, length) = (self.bytes.len(), name.len() as u16);
        self.entries.push(Unplaced { start, length, kind, prefix });
        self.bytes.extend_from_slice(name);
    }

    pub(super) fn sorted(mut self) -> Names<'static> {
        let name = |of: &Unplaced| {
            self.bytes.get(of.start..of.start + usize::from(of.length)).unwrap_or_default()
        };
        self.entries
            .sort_unstable_by(|a, b| a.prefix.cmp(&b.prefix).then_with(|| name(a).cmp(name(b))));
        let count = self.entries.len();
        let mut bytes = Vec::with_capacity(self.bytes.len() + Names::HEAD * count);
        for entry in &self.entries {
            bytes.push(FileKind::to_byte(entry.kind));
            bytes.extend_from_slice(&entry.length.to_le_bytes());
            bytes.extend_from_slice(name(entry));
        }
        Names { bytes: bytes.into(), count }
    }
}

impl FileKind {
    const ALL: [FileKind; 4] =
        [FileKind::File, FileKind::Directory, FileKind::Symlink, FileKind::Special];

    /// A number from 1; 0 for what a directory does not tell.
    fn to_byte(kind: Option<FileKind>) -> u8 {
        let place = FileKind::ALL.iter().position(|other| Some(*other) == kind);
        place.map_or(0, |place| place as u8 + 1)
    }

    fn from_byte(byte: u8) -> Option<FileKind> {
        FileKind::ALL.get(usize::from(byte).checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_are_sorted_by_their_bytes_and_read_back(
            given in prop::collection::btree_map("[a-c\0\u{80}]{0,20}", 0..5u8, 0..40),
            rotation in 0..40usize,
        ) {
            let mut unsorted = Unsorted::default();
            let mut order: Vec<_> = given.iter().collect();
            order.rotate_left(rotation.min(given.len()));
            for (name, kind) in order {
                unsorted.push(name.as_bytes(), FileKind::from_byte(*kind));
            }
            let names = unsorted.sorted();
            let found: Vec<_> = names.iter().map(|(name, kind)| (name.to_vec(), kind)).collect();
            let expected: Vec<_> = given
                .iter()
                .map(|(name, kind)| (name.as_bytes().to_vec(), FileKind::from_byte(*kind)))
                .collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(Names::from_bytes(names.as_bytes()), Some(names.clone()));
        }

        #[test]
        fn what_are_no_names_is_refused_or_read(bytes: Vec<u8>) {
            if let Some(names) = Names::from_bytes(&bytes) {
                prop_assert_eq!(names.iter().count(), names.len());
            }
        }
    }
}
