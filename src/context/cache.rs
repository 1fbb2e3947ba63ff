//! The stat cache: digests of files that have not changed since they were last read.
//!
//! One file a context, in the user's cache directory: a header, fixed-size records sorted by inode,
//! a checksum. A record is trusted when device, inode, length, mode, modification time and change
//! time are all what they were. No program can set a change time, so a restored modification time
//! deceives nobody. A file that changed within the last two seconds before a scan (or "in the
//! future") is not recorded: it might change again without its times telling (git calls that
//! racy). Anything odd about the cache file, and it is as if there were none.
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

use super::directory::Identity;

/// Ends with the version of the format.
const MAGIC: &[u8; 16] = b"smartbuild-stat\x01";
const HEADER: usize = MAGIC.len() + 8 + 8;
const RECORD: usize = 72;
const CHECKSUM: usize = 4;
/// A cache of more files than that (288 MB) is not kept.
const MOST_RECORDS: usize = 4_000_000;
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

/// The digest of a file, with what the file system said when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) identity: Identity,
    pub(super) size: u64,
    pub(super) digest: [u8; 32],
}

/// The cache of a context as an earlier run left it.
#[derive(Debug)]
pub(super) struct Cache {
    path: PathBuf,
    device: u64,
    /// The latest time of a file that may be recorded, in nanoseconds since 1970.
    settled: i64,
    /// The records, sorted by inode.
    bytes: Vec<u8>,
    /// Which of them were found to be true.
    seen: Vec<AtomicBool>,
}

impl Cache {
    /// Loads the cache of a context that lies on `device`, for a scan that starts `now`; an empty
    /// one if there is none or it is not to be trusted.
    pub(super) fn load(directory: &Path, context: &Path, device: u64, now: SystemTime) -> Cache {
        let name = Sha256::digest(context.as_os_str().as_encoded_bytes());
        let path = directory.join(hex::encode(&name[..16]));
        let bytes = read(&path, device).unwrap_or_default();
        let seen = (0..bytes.len() / RECORD).map(|_| AtomicBool::new(false)).collect();
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
        // Files of a directory were mostly created one after the other.
        let next = LAST_FOUND.get() + 1;
        let at = match self.inode(next) {
            Some(inode) if inode == identity.inode => next,
            _ => self.position(identity.inode)?,
        };
        LAST_FOUND.set(at);
        let record = self.record(at)?;
        if record.identity != *identity || record.size != size {
            return None;
        }
        self.seen.get(at)?.store(true, Ordering::Relaxed);
        Some(record.digest)
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

    /// Whether a file that was just read may be recorded.
    pub(super) fn accepts(&self, identity: &Identity) -> bool {
        identity.device == self.device
            && identity.modified < self.settled
            && identity.changed < self.settled
    }

    /// Writes the cache anew with what was read in this run. A failure is no matter: the next run
    /// reads the files.
    pub(super) fn store(&self, mut fresh: Vec<Record>) {
        fresh.sort_unstable_by_key(|record| record.identity.inode);
        fresh.dedup_by_key(|record| record.identity.inode);
        let seen = self.seen.iter().filter(|seen| seen.load(Ordering::Relaxed)).count();
        let unseen = self.seen.len() - seen;
        let keep_unseen = unseen <= MOST_UNSEEN + seen + fresh.len();
        let _ = self.write(&fresh, keep_unseen);
    }

    fn write(&self, fresh: &[Record], keep_unseen: bool) -> io::Result<()> {
        let fresh_inode = |record: &Record| record.identity.inode;
        let kept: Vec<usize> = (0..self.seen.len())
            .filter(|at| keep_unseen || self.seen[*at].load(Ordering::Relaxed))
            .filter(|at| {
                let inode = self.inode(*at);
                inode.is_some_and(|inode| fresh.binary_search_by_key(&inode, fresh_inode).is_err())
            })
            .collect();
        let count = kept.len() + fresh.len();
        if count > MOST_RECORDS {
            return Ok(());
        }
        let directory = self.path.parent().unwrap_or(Path::new("."));
        create_private(directory)?;
        sweep(directory);
        let file = tempfile::Builder::new().prefix(UNFINISHED_PREFIX).tempfile_in(directory)?;
        let mut out = Checked { inner: BufWriter::new(file), crc: Crc::new() };
        out.write_all(MAGIC)?;
        out.write_all(&self.device.to_le_bytes())?;
        out.write_all(&(count as u64).to_le_bytes())?;
        let mut kept = kept.into_iter().filter_map(|at| self.record(at)).peekable();
        for record in fresh {
            while let Some(old) = kept.next_if(|old| old.identity.inode < fresh_inode(record)) {
                out.write_all(&old.to_bytes())?;
            }
            out.write_all(&record.to_bytes())?;
        }
        for old in kept {
            out.write_all(&old.to_bytes())?;
        }
        let sum = out.crc.sum();
        out.inner.write_all(&sum.to_le_bytes())?;
        let file = out.inner.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.persist(&self.path)?;
        Ok(())
    }

    fn inode(&self, at: usize) -> Option<u64> {
        Some(u64::from_le_bytes(*self.bytes.get(at * RECORD..)?.first_chunk()?))
    }

    fn record(&self, at: usize) -> Option<Record> {
        let bytes = self.bytes.get(at * RECORD..)?.first_chunk::<RECORD>()?;
        Some(Record::from_bytes(bytes, self.device))
    }
}

impl Record {
    fn to_bytes(self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[..8].copy_from_slice(&self.identity.inode.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.size.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.identity.modified.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.identity.changed.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.identity.mode.to_le_bytes());
        bytes[40..].copy_from_slice(&self.digest);
        bytes
    }

    fn from_bytes(bytes: &[u8; RECORD], device: u64) -> Record {
        let at = |start: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[start..start + 8]);
            word
        };
        let mut digest = [0; 32];
        digest.copy_from_slice(&bytes[40..]);
        Record {
            identity: Identity {
                device,
                inode: u64::from_le_bytes(at(0)),
                modified: i64::from_le_bytes(at(16)),
                changed: i64::from_le_bytes(at(24)),
                mode: u64::from_le_bytes(at(32)) as u32,
            },
            size: u64::from_le_bytes(at(8)),
            digest,
        }
    }
}

/// The records of a cache file, if everything about it is right.
fn read(path: &Path, device: u64) -> Option<Vec<u8>> {
    let mut file = File::open(path).ok()?;
    let length = usize::try_from(file.metadata().ok()?.len()).ok()?;
    let count = length.checked_sub(HEADER + CHECKSUM)? / RECORD;
    if count > MOST_RECORDS || length != HEADER + count * RECORD + CHECKSUM {
        return None;
    }
    let mut header = [0; HEADER];
    file.read_exact(&mut header).ok()?;
    let expected = [&MAGIC[..], &device.to_le_bytes(), &(count as u64).to_le_bytes()].concat();
    if header[..] != expected {
        return None;
    }
    let mut bytes = Vec::with_capacity(length - HEADER);
    file.read_to_end(&mut bytes).ok()?;
    let (_, checksum) = bytes.split_last_chunk::<CHECKSUM>()?;
    let checksum = u32::from_le_bytes(*checksum);
    if bytes.len() != length - HEADER {
        return None;
    }
    bytes.truncate(count * RECORD);
    let mut crc = Crc::new();
    crc.update(&header);
    crc.update(&bytes);
    (crc.sum() == checksum).then_some(bytes)
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
