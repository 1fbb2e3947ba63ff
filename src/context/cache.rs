//! The stat cache: digests of files, and names in directories, that have not changed since they were
//! last read.
//!
//! One file a context, in the user's cache directory, with a block for each directory of it: a scan
//! reads the blocks of the directories that it visits. A record is trusted when device, inode, length,
//! mode, modification time and change time are all what they were. No program can set a change time,
//! so a restored modification time deceives nobody. What changed within the last two seconds before
//! a scan (or "in the future") is not recorded: it might change again without its times telling (git
//! calls that racy). Anything odd about the cache file, and it is as if there were none; anything odd
//! about a block, and that directory is read.
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
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use flate2::Crc;
use sha2::{Digest, Sha256};

use super::{
    cache_block::{Block, Fresh, Page},
    directory::{Identity, read_at},
};

/// Ends with the version of the format. What follows, in numbers of eight bytes: the device, how many
/// blocks there are, a checksum of all that comes before the blocks; of each block the inode of its
/// directory, its length and its checksum, sorted by inode. Then the blocks.
const MAGIC: &[u8; 16] = b"smartbuild-stat\x03";
const HEADER: usize = MAGIC.len() + 8 + 8 + 8;
const PLACE: usize = 8 + 8 + 8;
/// A larger cache is not kept, in bytes. It is one of about four million files.
const LARGEST: u64 = 384 << 20;
/// Blocks of directories that a scan did not visit are kept, up to so many bytes and as many as it
/// visited.
const MOST_UNSEEN: u64 = 8 << 20;
/// No file system counts time in steps longer than that.
const GRANULARITY: Duration = Duration::from_secs(2);
/// Caches that nobody wrote for so long are removed.
const FORGOTTEN: Duration = Duration::from_secs(90 * 24 * 3600);
/// So are unfinished ones, from a run that was killed.
const UNFINISHED: Duration = Duration::from_secs(24 * 3600);
const UNFINISHED_PREFIX: &str = ".unfinished-";

/// The cache of a context as an earlier run left it.
#[derive(Debug)]
pub(super) struct Cache {
    path: PathBuf,
    device: u64,
    /// The latest time of a file that may be recorded, in nanoseconds since 1970.
    settled: i64,
    old: Option<Old>,
}

/// A cache file: another run may put a new one in its place, this one stays what it is.
#[derive(Debug)]
struct Old {
    file: File,
    /// Sorted by inode.
    places: Vec<Place>,
}

/// Where the block of a directory is.
#[derive(Debug)]
struct Place {
    /// The inode of the directory.
    directory: u64,
    start: u64,
    length: u64,
    checksum: u64,
    /// Whether this scan asked for it.
    seen: AtomicBool,
}

impl Cache {
    /// Opens the cache of a context that lies on `device`, for a scan that starts `now`; an empty
    /// one if there is none or it is not to be trusted.
    pub(super) fn load(directory: &Path, context: &Path, device: u64, now: SystemTime) -> Cache {
        let name = Sha256::digest(context.as_os_str().as_encoded_bytes());
        let path = directory.join(hex::encode(&name[..16]));
        let old = Old::open(&path, device);
        let start = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let settled = start.saturating_sub(GRANULARITY).as_nanos().try_into().unwrap_or(i64::MAX);
        Cache { path, device, settled, old }
    }

    /// Whether there is nothing to be found.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.old.is_none()
    }

    /// What is known of a directory. `None` for one of another file system, of which nothing is to be
    /// learnt either.
    pub(super) fn page(&self, directory: Identity) -> Option<Page> {
        let block = || self.old.as_ref()?.block(directory.inode);
        (directory.device == self.device).then(|| Page::new(directory, self.settled, block()))
    }

    /// Writes the cache anew with what was learnt in this run. A failure is no matter: the next run
    /// reads the files.
    pub(super) fn store(&self, fresh: Vec<Fresh>) {
        let _ = self.write(&fresh);
    }

    fn write(&self, fresh: &[Fresh]) -> io::Result<()> {
        let mut blocks: BTreeMap<u64, Kept<'_>> = BTreeMap::new();
        if let Some(Old { file, places }) = &self.old {
            let is_seen = |place: &Place| place.seen.load(Ordering::Relaxed);
            let bytes = |seen| -> u64 {
                places.iter().filter(|place| is_seen(place) == seen).map(|place| place.length).sum()
            };
            let learnt: u64 = fresh.iter().map(|fresh| fresh.block.len() as u64).sum();
            let all = bytes(false) <= MOST_UNSEEN + bytes(true) + learnt;
            let kept = places.iter().filter(|place| all || is_seen(place));
            blocks.extend(kept.map(|place| (place.directory, Kept::Old(file, place))));
        }
        blocks.extend(fresh.iter().map(|fresh| (fresh.directory, Kept::Fresh(&fresh.block))));

        let places: Vec<[u64; 3]> = blocks
            .iter()
            .map(|(directory, block)| [*directory, block.length(), block.checksum()])
            .collect();
        let places = numbers(places.as_flattened());
        let length: u64 = blocks.values().map(Kept::length).sum();
        if length + (HEADER + places.len()) as u64 > LARGEST {
            return Ok(());
        }
        let directory = self.path.parent().unwrap_or(Path::new("."));
        create_private(directory)?;
        sweep(directory);
        let file = tempfile::Builder::new().prefix(UNFINISHED_PREFIX).tempfile_in(directory)?;
        let mut out = BufWriter::new(file);
        out.write_all(&header(self.device, &places))?;
        out.write_all(&places)?;
        for block in blocks.values() {
            block.write_to(&mut out)?;
        }
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.persist(&self.path)?;
        Ok(())
    }
}

impl Old {
    /// Opens a cache file, if everything about it is right.
    fn open(path: &Path, device: u64) -> Option<Old> {
        let mut file = File::open(path).ok()?;
        let length = file.metadata().ok()?.len();
        let mut head = [0; HEADER];
        file.read_exact(&mut head).ok()?;
        let count = u64::from_le_bytes(*head[24..].first_chunk()?);
        let size = count.checked_mul(PLACE as u64)?;
        let mut start = size.checked_add(HEADER as u64)?;
        if start > length || length > LARGEST {
            return None;
        }
        let mut bytes = vec![0; size.try_into().ok()?];
        file.read_exact(&mut bytes).ok()?;
        if head != header(device, &bytes) {
            return None;
        }
        let mut places = Vec::with_capacity(bytes.len() / PLACE);
        for place in bytes.as_chunks::<8>().0.as_chunks().0 {
            let [directory, length, checksum] = place.map(u64::from_le_bytes);
            places.push(Place { directory, start, length, checksum, seen: AtomicBool::new(false) });
            start = start.checked_add(length)?;
        }
        (start == length).then_some(Old { file, places })
    }

    fn block(&self, directory: u64) -> Option<Block> {
        let at = self.places.binary_search_by_key(&directory, |place| place.directory).ok()?;
        let place = &self.places[at];
        place.seen.store(true, Ordering::Relaxed);
        let bytes = place.read(&self.file).ok()?;
        if checksum(&bytes) == place.checksum { Block::from_bytes(bytes) } else { None }
    }
}

impl Place {
    fn read(&self, file: &File) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.length).map_err(io::Error::other)?];
        read_at(file, &mut bytes, self.start)?;
        Ok(bytes)
    }
}

/// A block that is to be written.
enum Kept<'a> {
    Old(&'a File, &'a Place),
    Fresh(&'a [u8]),
}

impl Kept<'_> {
    fn length(&self) -> u64 {
        match self {
            Kept::Old(_, place) => place.length,
            Kept::Fresh(block) => block.len() as u64,
        }
    }

    /// That of an old block goes with it unasked: if the block is damaged, it stays so.
    fn checksum(&self) -> u64 {
        match self {
            Kept::Old(_, place) => place.checksum,
            Kept::Fresh(block) => checksum(block),
        }
    }

    fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Kept::Old(file, place) => out.write_all(&place.read(file)?),
            Kept::Fresh(block) => out.write_all(block),
        }
    }
}

/// What a cache file begins with.
fn header(device: u64, places: &[u8]) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..16].copy_from_slice(MAGIC);
    bytes[16..32].copy_from_slice(&numbers(&[device, (places.len() / PLACE) as u64]));
    let sum = checksum(&[&bytes[..32], places].concat());
    bytes[32..].copy_from_slice(&numbers(&[sum]));
    bytes
}

fn numbers(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn checksum(bytes: &[u8]) -> u64 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum().into()
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
