//! The stat cache: digests of files, and names in directories, that have not changed since they were
//! last read.
//!
//! One file a context, in the user's cache directory. A record is trusted when device, inode, length,
//! mode, modification time and change time are all what they were. No program can set a change time,
//! so a restored modification time deceives nobody. What changed within the last two seconds before
//! a scan (or "in the future") is not recorded: it might change again without its times telling (git
//! calls that racy). Anything odd about the cache file, and it is as if there were none.
//!
//! The times of a directory tell whether a name was added, removed or replaced in it; what stands
//! behind the names is looked at in every scan.
//!
//! What the file system says counts only where it is local; a file system mounted inside the context
//! is never cached. A program that writes through a memory mapping may change a file after its times
//! were set; such a file is as stale here as it is for git.
//!
//! Runs at the same time do not disturb each other: a cache is written to a file of its own and
//! moved into place, and the last one wins.

use std::{
    cell::Cell,
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use flate2::Crc;
use sha2::{Digest, Sha256};

use super::{
    cache_record::{Known, RECORD, Record, inode},
    directory::{Identity, Names},
};

/// Ends with the version of the format. What follows: the device, how many records there are, how
/// many bytes of names; the records, sorted by inode; the names; a checksum.
const MAGIC: &[u8; 16] = b"smartbuild-stat\x02";
const HEADER: usize = MAGIC.len() + 8 + 8 + 8;
const CHECKSUM: usize = 4;
/// A larger cache is not kept, in bytes. It is one of about four million files.
const LARGEST: usize = 384 << 20;
/// Records of files that a scan did not see are kept, up to that many and as many as it saw.
const MOST_UNSEEN: usize = 65_536;
/// No file system counts time in steps longer than that.
const GRANULARITY: Duration = Duration::from_secs(2);
/// Caches that nobody wrote for so long are removed.
const FORGOTTEN: Duration = Duration::from_secs(90 * 24 * 3600);
/// So are unfinished ones, from a run that was killed.
const UNFINISHED: Duration = Duration::from_secs(24 * 3600);
const UNFINISHED_PREFIX: &str = ".unfinished-";

thread_local! {
    /// Where this thread found its last record.
    static LAST_FOUND: Cell<usize> = const { Cell::new(0) };
}

/// The cache of a context as an earlier run left it.
#[derive(Debug)]
pub(super) struct Cache {
    path: PathBuf,
    device: u64,
    /// The latest time of a file that may be recorded, in nanoseconds since 1970.
    settled: i64,
    /// The records, sorted by inode, and the names.
    bytes: Vec<u8>,
    /// Which records were found to be true.
    seen: Vec<AtomicBool>,
}

impl Cache {
    /// Loads the cache of a context that lies on `device`, for a scan that starts `now`; an empty
    /// one if there is none or it is not to be trusted.
    pub(super) fn load(directory: &Path, context: &Path, device: u64, now: SystemTime) -> Cache {
        let name = Sha256::digest(context.as_os_str().as_encoded_bytes());
        let path = directory.join(hex::encode(&name[..16]));
        let (bytes, count) = read(&path, device).unwrap_or_default();
        let seen = (0..count).map(|_| AtomicBool::new(false)).collect();
        let start = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let settled = start.saturating_sub(GRANULARITY).as_nanos().try_into().unwrap_or(i64::MAX);
        Cache { path, device, settled, bytes, seen }
    }

    /// Whether there is nothing to be found.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The digest of a file that has not changed.
    pub(super) fn digest(&self, identity: &Identity, size: u64) -> Option<[u8; 32]> {
        match self.find(identity)? {
            Known::Content { size: known, digest } if known == size => Some(digest),
            _ => None,
        }
    }

    /// The names in a directory that has not changed.
    pub(super) fn names(&self, identity: &Identity) -> Option<Names<'_>> {
        match self.find(identity)? {
            Known::Names(names) => Some(names),
            Known::Content { .. } => None,
        }
    }

    fn find(&self, identity: &Identity) -> Option<Known<'_>> {
        // Files of a directory were mostly created one after the other.
        let next = LAST_FOUND.get() + 1;
        let at = match self.inode(next) {
            Some(inode) if inode == identity.inode => next,
            _ => self.position(identity.inode)?,
        };
        LAST_FOUND.set(at);
        let record = self.record(at)?;
        if record.identity != *identity {
            return None;
        }
        self.seen.get(at)?.store(true, Ordering::Relaxed);
        Some(record.known)
    }

    /// Where the record of an inode is, or would be.
    fn position(&self, inode: u64) -> Option<usize> {
        let (mut low, mut high) = (0, self.seen.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.inode(middle)? < inode { low = middle + 1 } else { high = middle }
        }
        Some(low)
    }

    /// Whether a file or a directory that was just read may be recorded.
    pub(super) fn accepts(&self, identity: &Identity) -> bool {
        identity.device == self.device
            && identity.modified < self.settled
            && identity.changed < self.settled
    }

    /// Writes the cache anew with what was read in this run. A failure is no matter: the next run
    /// reads the files.
    pub(super) fn store(&self, mut fresh: Vec<Record<'_>>) {
        fresh.sort_unstable_by_key(|record| record.identity.inode);
        fresh.dedup_by_key(|record| record.identity.inode);
        let seen = self.seen.iter().filter(|seen| seen.load(Ordering::Relaxed)).count();
        let unseen = self.seen.len() - seen;
        let keep_unseen = unseen <= MOST_UNSEEN + seen + fresh.len();
        let _ = self.write(&fresh, keep_unseen);
    }

    fn write(&self, fresh: &[Record<'_>], keep_unseen: bool) -> io::Result<()> {
        let (mut count, mut names) = (0, 0);
        for record in self.merged(fresh, keep_unseen) {
            count += 1;
            names += record.names().len();
        }
        if HEADER + count * RECORD + names + CHECKSUM > LARGEST {
            return Ok(());
        }
        let directory = self.path.parent().unwrap_or(Path::new("."));
        create_private(directory)?;
        sweep(directory);
        let file = tempfile::Builder::new().prefix(UNFINISHED_PREFIX).tempfile_in(directory)?;
        let mut out = Checked { inner: BufWriter::new(file), crc: Crc::new() };
        out.write_all(&header(self.device, count, names))?;
        let mut start = 0;
        for record in self.merged(fresh, keep_unseen) {
            out.write_all(&record.to_bytes(start))?;
            start += record.names().len() as u64;
        }
        for record in self.merged(fresh, keep_unseen) {
            out.write_all(record.names())?;
        }
        let sum = out.crc.sum();
        out.inner.write_all(&sum.to_le_bytes())?;
        let file = out.inner.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.persist(&self.path)?;
        Ok(())
    }

    /// The fresh records, and the old ones that are kept, sorted by inode.
    fn merged<'a>(
        &'a self,
        fresh: &'a [Record<'_>],
        keep_unseen: bool,
    ) -> impl Iterator<Item = Record<'a>> {
        let mut old = (0..self.seen.len())
            .filter(move |at| keep_unseen || self.seen[*at].load(Ordering::Relaxed))
            .filter_map(|at| self.record(at))
            .peekable();
        let mut fresh = fresh.iter().map(Record::borrowed).peekable();
        std::iter::from_fn(move || {
            let Some(next) = fresh.peek() else { return old.next() };
            let inode = next.identity.inode;
            if let Some(before) = old.next_if(|old| old.identity.inode < inode) {
                return Some(before);
            }
            // A fresh record takes the place of an old one.
            let _ = old.next_if(|old| old.identity.inode == inode);
            fresh.next()
        })
    }

    fn inode(&self, at: usize) -> Option<u64> {
        if at < self.seen.len() { inode(self.bytes.get(at * RECORD..)?) } else { None }
    }

    fn record(&self, at: usize) -> Option<Record<'_>> {
        let (records, names) = self.bytes.split_at_checked(self.seen.len() * RECORD)?;
        let bytes = records.get(at * RECORD..)?.first_chunk::<RECORD>()?;
        Record::from_bytes(bytes, self.device, names)
    }
}

fn header(device: u64, records: usize, names: usize) -> Vec<u8> {
    let numbers = [device, records as u64, names as u64].map(u64::to_le_bytes);
    [&MAGIC[..], numbers.as_flattened()].concat()
}

/// The records and names of a cache file, and how many records there are, if everything about it is
/// right.
fn read(path: &Path, device: u64) -> Option<(Vec<u8>, usize)> {
    let mut file = File::open(path).ok()?;
    let length = usize::try_from(file.metadata().ok()?.len()).ok()?;
    let body = length.checked_sub(HEADER + CHECKSUM)?;
    if length > LARGEST {
        return None;
    }
    let mut head = [0; HEADER];
    file.read_exact(&mut head).ok()?;
    let count = usize::try_from(u64::from_le_bytes(*head[24..].first_chunk()?)).ok()?;
    let names = body.checked_sub(count.checked_mul(RECORD)?)?;
    if head[..] != header(device, count, names) {
        return None;
    }
    let mut bytes = Vec::with_capacity(length - HEADER);
    file.read_to_end(&mut bytes).ok()?;
    let (_, checksum) = bytes.split_last_chunk::<CHECKSUM>()?;
    let checksum = u32::from_le_bytes(*checksum);
    if bytes.len() != length - HEADER {
        return None;
    }
    bytes.truncate(body);
    let mut crc = Crc::new();
    crc.update(&head);
    crc.update(&bytes);
    (crc.sum() == checksum).then_some((bytes, count))
}

/// Creates a directory that only its owner can read.
fn create_private(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// Removes what nobody will read any more.
fn sweep(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let unfinished = entry.file_name().to_string_lossy().starts_with(UNFINISHED_PREFIX);
        let limit = if unfinished { UNFINISHED } else { FORGOTTEN };
        let age = entry.metadata().and_then(|metadata| metadata.modified()).map(|t| t.elapsed());
        if matches!(age, Ok(Ok(age)) if age > limit) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A writer that sums up what goes through it.
struct Checked<W> {
    inner: W,
    crc: Crc,
}

impl<W: Write> Write for Checked<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.crc.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
