//! Directory-relative calls.

use std::{
    borrow::Cow,
    ffi::OsStr,
    fs::File,
    io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::FileExt},
    },
    path::Path,
};

#[cfg(target_os = "linux")]
use rustix::fs::RawDir;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};

use super::{FileKind, Identity, Metadata, Names, Unsorted};

/// The root of a context, open.
#[derive(Debug)]
pub(in super::super) struct Root(OwnedFd);

/// A directory of a context, open.
#[derive(Debug)]
pub(in super::super) struct Directory(OwnedFd);

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
// A FIFO that took the place of a file must not block, a terminal must not become ours.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// How much of a directory is read at once, in bytes.
#[cfg(target_os = "linux")]
const DIRECTORY_BUFFER: usize = 32 * 1024;

impl Root {
    pub(in super::super) fn open(path: &Path) -> io::Result<Root> {
        let descriptor = rustix::fs::open(path, DIRECTORY, Mode::empty())?;
        Ok(Root(descriptor))
    }

    /// Opens a directory by its path from the root, which is empty for the root itself.
    pub(in super::super) fn directory(&self, path: &[u8]) -> io::Result<Directory> {
        let (path, follow): (&[u8], _) =
            if path.is_empty() { (b".", OFlags::empty()) } else { (path, OFlags::NOFOLLOW) };
        Ok(Directory(openat(&self.0, path, DIRECTORY | follow, Mode::empty())?))
    }

    pub(in super::super) fn metadata(&self, path: &[u8]) -> io::Result<Metadata> {
        let path = if path.is_empty() { b"." } else { path };
        Ok(metadata(&statat(&self.0, path, AtFlags::SYMLINK_NOFOLLOW)?))
    }

    pub(in super::super) fn read_link(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        Ok(readlinkat(&self.0, path, Vec::new())?.into_bytes())
    }

    /// Whether the stat cache may trust what this file system says: it is local, the time of a change
    /// is that of this machine's clock, and a write through a memory mapping sets it, if only the
    /// first one after the pages were written to disk. Those in memory (tmpfs, ramfs) never write
    /// pages to disk, so that there a mapped file can change for ever without a sign.
    pub(in super::super) fn is_trusted(&self) -> bool {
        #[cfg(target_os = "linux")]
        {
            const LOCAL: [u64; 8] = [
                0xef53,      // ext2, ext3, ext4
                0x5846_5342, // xfs
                0x9123_683e, // btrfs
                0x794c_7630, // overlayfs
                0x2fc1_2fc1, // zfs
                0xf2f5_2010, // f2fs
                0xca45_1a4e, // bcachefs
                0x5265_4973, // reiserfs
            ];
            rustix::fs::fstatfs(&self.0).is_ok_and(|found| LOCAL.contains(&(found.f_type as u64)))
        }
        #[cfg(not(target_os = "linux"))]
        true
    }
}

impl Directory {
    pub(in super::super) fn names(&self) -> io::Result<Names<'static>> {
        let mut names = Unsorted::default();
        self.each_name(|name, file_type| {
            if name != b"." && name != b".." {
                names.push(name, kind(file_type));
            }
        })?;
        Ok(names.sorted())
    }

    #[cfg(target_os = "linux")]
    fn each_name(&self, mut each: impl FnMut(&[u8], FileType)) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(DIRECTORY_BUFFER);
        let mut entries = RawDir::new(&self.0, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            each(entry.file_name().to_bytes(), entry.file_type());
        }
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn each_name(&self, mut each: impl FnMut(&[u8], FileType)) -> io::Result<()> {
        for entry in rustix::fs::Dir::read_from(&self.0)? {
            let entry = entry?;
            each(entry.file_name().to_bytes(), entry.file_type());
        }
        Ok(())
    }

    /// What the file system says of the directory itself.
    pub(in super::super) fn own_metadata(&self) -> io::Result<Metadata> {
        Ok(metadata(&fstat(&self.0)?))
    }

    pub(in super::super) fn metadata(&self, name: &[u8]) -> io::Result<Metadata> {
        Ok(metadata(&statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?))
    }

    pub(in super::super) fn read_link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(readlinkat(&self.0, name, Vec::new())?.into_bytes())
    }

    /// Opens a file for reading, never through a link; with what was opened.
    pub(in super::super) fn open(&self, name: &[u8]) -> io::Result<(File, Metadata)> {
        let file = openat(&self.0, name, FILE, Mode::empty())?;
        let metadata = metadata(&fstat(&file)?);
        Ok((File::from(file), metadata))
    }
}

/// Opens a file of a context by its path, never through a link in the last place.
pub(in super::super) fn open_file(root: &Path, path: &[u8]) -> io::Result<(File, Metadata)> {
    let file = rustix::fs::open(root.join(native_path(path)), FILE, Mode::empty())?;
    let metadata = metadata(&fstat(&file)?);
    Ok((File::from(file), metadata))
}

/// Fills `bytes` with what a file holds from `start` on.
pub(in super::super) fn read_at(file: &File, bytes: &mut [u8], start: u64) -> io::Result<()> {
    file.read_exact_at(bytes, start)
}

/// A path of a context as the platform writes it.
pub(in super::super) fn native_path(path: &[u8]) -> Cow<'_, Path> {
    Cow::Borrowed(Path::new(OsStr::from_bytes(path)))
}

fn kind(file_type: FileType) -> Option<FileKind> {
    match file_type {
        FileType::RegularFile => Some(FileKind::File),
        FileType::Directory => Some(FileKind::Directory),
        FileType::Symlink => Some(FileKind::Symlink),
        FileType::Unknown => None,
        _ => Some(FileKind::Special),
    }
}

// The fields of `stat` have other widths on other systems.
#[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
fn metadata(stat: &Stat) -> Metadata {
    let mode = u32::from(stat.st_mode);
    let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000) + rest;
    Metadata {
        kind: kind(FileType::from_raw_mode(stat.st_mode)).unwrap_or(FileKind::Special),
        permissions: mode & 0o7777,
        size: stat.st_size.try_into().unwrap_or(0),
        identity: Some(Identity {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            mode,
            modified: nanoseconds(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed: nanoseconds(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }),
    }
}
