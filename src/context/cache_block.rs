//! A block of the stat cache: what is known of one directory. The names in it, and the digests of its
//! files, each with what the file system said when it was read.
//!
//! A block is: the identity of the directory and the length of the names, all zero where the names are
//! not known; the names; one record a file, sorted by inode. The device and the inode of the directory
//! stand where the block is found.

use std::sync::{Mutex, PoisonError};

use super::directory::{Identity, Names};

const HEAD: usize = 8 + 8 + 4 + 4;
/// How long the record of a file is, in bytes.
const RECORD: usize = 8 + 8 + 8 + 8 + 4 + 32;
/// Records of files that a scan did not read again are kept up to so many for each that is there, and
/// that many more: most of the others are of files that are gone.
const MOST_KEPT: (usize, usize) = (2, 64);

/// What an earlier scan left of a directory.
#[derive(Clone, Debug)]
pub(super) struct Block {
    bytes: Vec<u8>,
    /// Where the records start.
    records: usize,
}

impl Block {
    /// Takes the bytes of a block, if they are one.
    pub(super) fn from_bytes(bytes: Vec<u8>) -> Option<Block> {
        let names = u32::from_le_bytes(*bytes.get(HEAD - 4..)?.first_chunk()?);
        let records = HEAD.checked_add(names.try_into().ok()?)?;
        (bytes.get(records..)?.len() % RECORD == 0).then_some(Block { bytes, records })
    }

    /// The names in the directory, if it has not changed.
    fn names(&self, directory: &Identity) -> Option<Names<'_>> {
        if self.bytes[..HEAD - 4] != head(directory) {
            return None;
        }
        Names::from_bytes(&self.bytes[HEAD..self.records])
    }

    /// The digest of a file that has not changed.
    fn digest(&self, file: &Identity, size: u64) -> Option<[u8; 32]> {
        let records = self.records();
        let at = records.binary_search_by_key(&file.inode, inode).ok()?;
        let (known, digest) = records[at].split_last_chunk()?;
        (*known == described(file, size)).then_some(*digest)
    }

    fn records(&self) -> &[[u8; RECORD]] {
        self.bytes[self.records..].as_chunks().0
    }
}

/// The identity of a directory as it is written.
fn head(directory: &Identity) -> [u8; HEAD - 4] {
    let mut bytes = [0; HEAD - 4];
    bytes[..8].copy_from_slice(&directory.modified.to_le_bytes());
    bytes[8..16].copy_from_slice(&directory.changed.to_le_bytes());
    bytes[16..].copy_from_slice(&directory.mode.to_le_bytes());
    bytes
}

/// What the file system says of a file as it is written.
fn described(file: &Identity, size: u64) -> [u8; RECORD - 32] {
    let mut bytes = [0; RECORD - 32];
    bytes[..8].copy_from_slice(&file.inode.to_le_bytes());
    bytes[8..16].copy_from_slice(&size.to_le_bytes());
    bytes[16..24].copy_from_slice(&file.modified.to_le_bytes());
    bytes[24..32].copy_from_slice(&file.changed.to_le_bytes());
    bytes[32..].copy_from_slice(&file.mode.to_le_bytes());
    bytes
}

/// The inode of a record.
fn inode(record: &[u8; RECORD]) -> u64 {
    record.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// What is known of a directory while it is visited, and what is learnt of it.
#[derive(Debug)]
pub(super) struct Page {
    directory: Identity,
    /// The latest time of what may be recorded, in nanoseconds since 1970.
    settled: i64,
    block: Option<Block>,
    learnt: Mutex<Learnt>,
}

#[derive(Debug, Default)]
struct Learnt {
    names: Option<Names<'static>>,
    records: Vec<[u8; RECORD]>,
    saved: u64,
}

/// What the stat cache is to hold of a directory from now on.
#[derive(Debug)]
pub(super) struct Fresh {
    /// Its inode.
    pub(super) directory: u64,
    pub(super) block: Vec<u8>,
    /// What the next scan saves by what is new in it, in microseconds.
    pub(super) saved: u64,
}

impl Page {
    pub(super) fn new(directory: Identity, settled: i64, block: Option<Block>) -> Page {
        Page { directory, settled, block, learnt: Mutex::default() }
    }

    /// Whether nothing is known.
    pub(super) fn is_blank(&self) -> bool {
        self.block.is_none()
    }

    /// The names in the directory, if it has not changed.
    pub(super) fn names(&self) -> Option<Names<'_>> {
        self.block.as_ref()?.names(&self.directory)
    }

    /// The digest of a file of the directory that has not changed.
    pub(super) fn digest(&self, file: &Identity, size: u64) -> Option<[u8; 32]> {
        let block = self.block.as_ref().filter(|_| file.device == self.directory.device)?;
        block.digest(file, size)
    }

    /// Takes note of all names in the directory, as they were read after its identity was.
    pub(super) fn learn_names(&self, names: &Names<'static>) {
        if self.accepts(&self.directory) {
            let mut learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
            learnt.saved += 2 + names.len() as u64 / 4;
            learnt.names = Some(names.clone());
        }
    }

    /// Takes note of the digest of a file, as it was read after its identity was.
    pub(super) fn learn_digest(&self, file: &Identity, size: u64, digest: &[u8; 32]) {
        if self.accepts(file) {
            let mut record = [0; RECORD];
            record[..RECORD - 32].copy_from_slice(&described(file, size));
            record[RECORD - 32..].copy_from_slice(digest);
            let mut learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
            learnt.saved += 5 + size / 1_500;
            learnt.records.push(record);
        }
    }

    fn accepts(&self, identity: &Identity) -> bool {
        identity.device == self.directory.device
            && identity.modified < self.settled
            && identity.changed < self.settled
    }

    /// The block that takes the place of the old one, if anything was learnt; `files` are there.
    pub(super) fn into_fresh(self, files: usize) -> Option<Fresh> {
        let Learnt { names, mut records, saved } =
            self.learnt.into_inner().unwrap_or_else(PoisonError::into_inner);
        if names.is_none() && records.is_empty() {
            return None;
        }
        let old = self.block.as_ref().map(Block::records).unwrap_or_default();
        if old.len() <= MOST_KEPT.0 * files + MOST_KEPT.1 {
            records.extend(old);
        }
        // What was learnt comes first, and the first one stays.
        records.sort_by_key(inode);
        records.dedup_by_key(|record| inode(record));
        let mut block = match (&names, &self.block) {
            (Some(names), _) => {
                let length = u32::try_from(names.as_bytes().len()).ok()?.to_le_bytes();
                [&head(&self.directory)[..], &length, names.as_bytes()].concat()
            }
            (None, Some(old)) => old.bytes[..old.records].to_vec(),
            (None, None) => vec![0; HEAD],
        };
        block.extend_from_slice(records.as_flattened());
        Some(Fresh { directory: self.directory.inode, block, saved })
    }
}
