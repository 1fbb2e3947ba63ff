//! Reading the files of a directory: what was not hashed before is hashed, several files at once.
//!
//! Knows when the stat cache is believed, and what a file cost. Knows nothing of what is taken.

use std::{
    cell::RefCell,
    fs::File,
    io::{self, Read as _},
    sync::atomic::{AtomicU64, Ordering},
};

use sha2::{Digest as _, Sha256};

use super::{
    Error,
    cache_block::Page,
    directory::{Directory, FileKind, Metadata},
    listing::{Item, ItemKind},
    select::{is_gone, unreadable},
    sha256::Batch,
    tree::{Mode, Statistics},
    walk::file_name,
};

/// How much work (about microseconds) is done before threads are worth their start.
const WORTH_THREADS: u64 = 2_000;
/// What it costs to look at a name, to read a file, and how many bytes are hashed in a microsecond.
const COST_OF_NAME: u64 = 1;
const COST_OF_FILE: u64 = 5;
const BYTES_A_MICROSECOND: u64 = 1_000;

/// What a thread holds of files before it hashes them; a larger file goes through in such parts.
const BATCH: usize = 128 * 1024;

thread_local! {
    static FILES: RefCell<Batch> = RefCell::new(Batch::with_room_for(BATCH));
}

/// What was done so far, by all threads.
#[derive(Default)]
pub(super) struct Work {
    cost: AtomicU64,
    hashed: AtomicU64,
    bytes: AtomicU64,
}

impl Work {
    /// Whether there was so much of it that threads are worth their start.
    pub(super) fn is_worth_threads(&self) -> bool {
        self.cost.load(Ordering::Relaxed) > WORTH_THREADS
    }

    pub(super) fn add_names(&self, count: usize) {
        self.cost.fetch_add(COST_OF_NAME * count as u64, Ordering::Relaxed);
    }

    fn add_file(&self, size: u64) {
        self.hashed.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(size, Ordering::Relaxed);
        self.cost.fetch_add(COST_OF_FILE + size / BYTES_A_MICROSECOND, Ordering::Relaxed);
    }

    /// What it came to, with that many files found.
    pub(super) fn statistics(self, files: u64) -> Statistics {
        let (hashed, bytes) = (self.hashed.into_inner(), self.bytes.into_inner());
        Statistics { hashed, bytes, cached: files.saturating_sub(hashed) }
    }
}

/// Reads files of one directory.
pub(super) struct Reader<'a> {
    pub(super) directory: &'a Directory,
    /// What the stat cache knows of the directory, and is to learn.
    pub(super) page: Option<&'a Page>,
    /// Where the paths of the items are.
    pub(super) bytes: &'a [u8],
    pub(super) strict_modes: bool,
    pub(super) work: &'a Work,
}

/// A file that was read, and is not hashed yet.
struct Waiting<'i> {
    item: &'i mut Item,
    metadata: Metadata,
    size: u64,
}

impl Reader<'_> {
    /// Reads those of the items that are files.
    pub(super) fn read(&self, items: &mut [Item]) -> Result<(), Error> {
        FILES.with_borrow_mut(|batch| {
            batch.clear();
            let mut waiting = Vec::new();
            for item in items.iter_mut().filter(|item| matches!(item.kind, ItemKind::Unread)) {
                let start = item.start as usize;
                let path = self.bytes.get(start..start + item.length as usize).unwrap_or_default();
                match self.read_file(file_name(path), batch, &mut waiting) {
                    Ok((metadata, size, Some(digest))) => self.put(item, &metadata, size, digest),
                    Ok((metadata, size, None)) => waiting.push(Waiting { item, metadata, size }),
                    Err(error) if is_gone(&error) => item.kind = ItemKind::Gone,
                    Err(error) => return Err(unreadable(path, error)),
                }
            }
            self.hash(batch, &mut waiting);
            Ok(())
        })
    }

    /// Tells the length and the digest of a file. Without digest, its content is the last of the batch.
    fn read_file(
        &self,
        name: &[u8],
        batch: &mut Batch,
        waiting: &mut Vec<Waiting<'_>>,
    ) -> io::Result<(Metadata, u64, Option<[u8; 32]>)> {
        if let Some(page) = self.page.filter(|page| !page.is_blank()) {
            let metadata = self.directory.metadata(name)?;
            let digest = metadata
                .identity
                .filter(|_| metadata.kind == FileKind::File)
                .and_then(|identity| page.digest(&identity, metadata.size));
            if digest.is_some() {
                return Ok((metadata, metadata.size, digest));
            }
        }
        let (file, metadata) = self.directory.open(name)?;
        if metadata.kind != FileKind::File {
            return Err(io::Error::other("it was replaced by something that is not a file"));
        }
        if batch.room().len() as u64 <= metadata.size {
            self.hash(batch, waiting);
        }
        let (size, digest) = read_into(batch, &file, metadata.size)?;
        self.work.add_file(size);
        if let Some(digest) = &digest {
            self.learn(&metadata, size, digest);
        }
        Ok((metadata, size, digest))
    }

    /// Hashes the files that wait for it.
    fn hash(&self, batch: &mut Batch, waiting: &mut Vec<Waiting<'_>>) {
        for (Waiting { item, metadata, size }, digest) in waiting.drain(..).zip(batch.digests()) {
            self.learn(&metadata, size, &digest);
            self.put(item, &metadata, size, digest);
        }
        batch.clear();
    }

    fn learn(&self, metadata: &Metadata, size: u64, digest: &[u8; 32]) {
        if let (Some(page), Some(identity)) = (self.page, &metadata.identity)
            && size == metadata.size
        {
            page.learn_digest(identity, size, digest);
        }
    }

    fn put(&self, item: &mut Item, metadata: &Metadata, size: u64, digest: [u8; 32]) {
        item.mode = match self.strict_modes {
            true => Mode::exact(metadata.permissions),
            false => Mode::of_file(metadata.permissions),
        };
        item.kind = ItemKind::File { size, digest };
    }
}

/// Reads a file to its end, into the room of the batch, and tells its length in bytes. If that is more
/// than there is room for, it tells the SHA-256 too, and the batch is as it was. `expected` is the
/// length that the file system tells: reading stops there, if it is not zero.
fn read_into(
    batch: &mut Batch,
    mut file: &File,
    expected: u64,
) -> io::Result<(u64, Option<[u8; 32]>)> {
    let room = batch.room();
    let (mut size, mut filled) = (0, 0);
    let mut hasher = None;
    loop {
        if filled == room.len() {
            hasher.get_or_insert_with(Sha256::new).update(&*room);
            filled = 0;
        }
        let read = match file.read(&mut room[filled..]) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        filled += read;
        size += read as u64;
        if read == 0 || size == expected {
            break;
        }
    }
    let Some(mut hasher) = hasher else {
        batch.push(filled);
        return Ok((size, None));
    };
    hasher.update(&room[..filled]);
    Ok((size, Some(hasher.finalize().into())))
}
