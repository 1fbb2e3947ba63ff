//! A record of the stat cache: what the file system said of a file or a directory, and what was read
//! of it then.

use super::directory::{Identity, Names};

/// How long a record is, in bytes, not counting names.
pub(super) const RECORD: usize = 72;

/// What was read of a file or a directory, with what the file system said then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) identity: Identity,
    pub(super) known: Known<'a>,
}

/// What is known as long as the identity is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known<'a> {
    /// The content of a file.
    Content { size: u64, digest: [u8; 32] },
    /// The names in a directory.
    Names(Names<'a>),
}

impl Record<'_> {
    /// The names, if it is one of a directory.
    pub(super) fn names(&self) -> &[u8] {
        match &self.known {
            Known::Names(names) => names.as_bytes(),
            Known::Content { .. } => &[],
        }
    }

    pub(super) fn borrowed(&self) -> Record<'_> {
        let known = match &self.known {
            Known::Names(names) => Known::Names(names.borrowed()),
            Known::Content { size, digest } => Known::Content { size: *size, digest: *digest },
        };
        Record { identity: self.identity, known }
    }

    /// The record as it is written, when its names are written at `start`.
    pub(super) fn to_bytes(&self, start: u64) -> [u8; RECORD] {
        let Identity { inode, modified, changed, mode, .. } = self.identity;
        let mut bytes = [0; RECORD];
        bytes[..8].copy_from_slice(&inode.to_le_bytes());
        bytes[16..24].copy_from_slice(&modified.to_le_bytes());
        bytes[24..32].copy_from_slice(&changed.to_le_bytes());
        bytes[32..36].copy_from_slice(&mode.to_le_bytes());
        match &self.known {
            Known::Content { size, digest } => {
                bytes[8..16].copy_from_slice(&size.to_le_bytes());
                bytes[40..].copy_from_slice(digest);
            }
            Known::Names(names) => {
                bytes[8..16].copy_from_slice(&(names.as_bytes().len() as u64).to_le_bytes());
                bytes[36] = 1;
                bytes[40..48].copy_from_slice(&start.to_le_bytes());
            }
        }
        bytes
    }

    /// Reads a record, given all names.
    pub(super) fn from_bytes<'n>(
        bytes: &[u8; RECORD],
        device: u64,
        names: &'n [u8],
    ) -> Option<Record<'n>> {
        let at = |start: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[start..start + 8]);
            u64::from_le_bytes(word)
        };
        let size = at(8);
        let known = if bytes[36] == 1 {
            let (start, length) = (usize::try_from(at(40)).ok()?, usize::try_from(size).ok()?);
            Known::Names(Names::from_bytes(names.get(start..start.checked_add(length)?)?)?)
        } else {
            Known::Content { size, digest: *bytes.last_chunk()? }
        };
        let identity = Identity {
            device,
            inode: at(0),
            modified: at(16).cast_signed(),
            changed: at(24).cast_signed(),
            mode: at(32) as u32,
        };
        Some(Record { identity, known })
    }
}

/// The inode of a record that starts there.
pub(super) fn inode(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.first_chunk()?))
}
