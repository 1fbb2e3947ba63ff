//! The files of an image, put into a directory that may hold others already: those of the build
//! before, for example.
//!
//! What is in the way of an entry is removed, as BuildKit's own client does it (fsutil
//! `diskwriter.go`: `HandleChange`), and nothing is written outside of the directory: no link is
//! followed, neither one of the archive nor one that was there.

use std::{
    fs::{self, File, Permissions},
    io::{self, Read},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Component, Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use tar::{Archive, Entry, EntryType};

use super::error::innermost;

/// Unpacks a tar into a directory.
///
/// # Errors
/// When something cannot be written, with its path.
pub(super) fn unpack(tar: impl Read, into: &Path) -> io::Result<()> {
    fs::create_dir_all(into)?;
    let mut unpacked = Unpacked { root: into, directories: Vec::new() };
    for entry in Archive::new(tar).entries()? {
        let mut entry = entry?;
        let name = entry.path()?.into_owned();
        unpacked.put(&mut entry, &name).map_err(|error| {
            let text = format!("{}: {}", name.display(), innermost(&error));
            io::Error::new(error.kind(), text)
        })?;
    }
    unpacked.finish()
}

/// What was unpacked so far.
struct Unpacked<'a> {
    root: &'a Path,
    /// Directories with their modes and times, which they get at the end: filling them changes
    /// their times, and may be forbidden by then.
    directories: Vec<(PathBuf, u32, u64)>,
}

impl Unpacked<'_> {
    fn put(&mut self, entry: &mut Entry<'_, impl Read>, name: &Path) -> io::Result<()> {
        let Some(path) = self.place(name)? else { return Ok(()) };
        let (mode, time) = (entry.header().mode()? & 0o7777, entry.header().mtime()?);
        let kind = entry.header().entry_type();
        match kind {
            EntryType::Directory => {
                if !is_directory(&path) {
                    clear(&path)?;
                    fs::create_dir(&path)?;
                }
                // It may be one of the build before, which nobody could write into.
                fs::set_permissions(&path, Permissions::from_mode(mode | 0o700))?;
                self.directories.push((path, mode, time));
                return Ok(());
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                clear(&path)?;
                io::copy(entry, &mut File::create_new(&path)?)?;
                fs::set_permissions(&path, Permissions::from_mode(mode))?;
            }
            EntryType::Symlink => {
                clear(&path)?;
                symlink(target(entry)?, &path)?;
            }
            EntryType::Link => {
                let first = self.place(&target(entry)?)?.ok_or(io::ErrorKind::InvalidData)?;
                clear(&path)?;
                return fs::hard_link(first, &path);
            }
            EntryType::Fifo | EntryType::Char | EntryType::Block => {
                clear(&path)?;
                special(&path, kind, entry, mode)?;
            }
            // What is said of the archive, not a file in it.
            _ => return Ok(()),
        }
        set_time(&path, time)
    }

    /// Where a name leads to, through directories only; `None` for the directory itself.
    fn place(&self, name: &Path) -> io::Result<Option<PathBuf>> {
        let mut path = self.root.to_owned();
        let mut names = name.components().peekable();
        let mut any = false;
        while let Some(component) = names.next() {
            match component {
                Component::Normal(name) => path.push(name),
                Component::CurDir | Component::RootDir | Component::Prefix(_) => continue,
                Component::ParentDir => return Err(outside()),
            }
            any = true;
            if names.peek().is_none() || is_directory(&path) {
                continue;
            }
            match fs::symlink_metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir(&path)?,
                Err(error) => return Err(error),
                Ok(_) => return Err(outside()),
            }
        }
        Ok(any.then_some(path))
    }

    fn finish(self) -> io::Result<()> {
        for (path, mode, time) in self.directories.into_iter().rev() {
            // A later entry may have taken its place.
            if is_directory(&path) {
                set_time(&path, time)?;
                fs::set_permissions(&path, Permissions::from_mode(mode))?;
            }
        }
        Ok(())
    }
}

fn outside() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it would lie outside of the directory")
}

fn target(entry: &Entry<'_, impl Read>) -> io::Result<PathBuf> {
    let target = entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?;
    Ok(target.into_owned())
}

/// Whether it is a directory, and no link to one.
fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

/// Removes what is in the way.
fn clear(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn set_time(path: &Path, seconds: u64) -> io::Result<()> {
    let tv_sec = i64::try_from(seconds).unwrap_or(0);
    let time = Timespec { tv_sec, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Makes a FIFO or a device; for a device one has to be root.
#[cfg(target_os = "linux")]
fn special(
    path: &Path,
    kind: EntryType,
    entry: &Entry<'_, impl Read>,
    mode: u32,
) -> io::Result<()> {
    use rustix::fs::{FileType, Mode, makedev, mknodat};
    let device = |kind| {
        let (major, minor) = (entry.header().device_major()?, entry.header().device_minor()?);
        io::Result::Ok((kind, makedev(major.unwrap_or(0), minor.unwrap_or(0))))
    };
    let (kind, device) = match kind {
        EntryType::Char => device(FileType::CharacterDevice)?,
        EntryType::Block => device(FileType::BlockDevice)?,
        _ => (FileType::Fifo, 0),
    };
    mknodat(CWD, path, kind, Mode::from_raw_mode(0o600), device)?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

#[cfg(not(target_os = "linux"))]
fn special(
    _path: &Path,
    _kind: EntryType,
    _entry: &Entry<'_, impl Read>,
    _mode: u32,
) -> io::Result<()> {
    let why = "FIFOs and devices are written on Linux only; use --output type=tar";
    Err(io::Error::new(io::ErrorKind::Unsupported, why))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

    use tempfile::TempDir;

    use super::*;

    /// A tar of entries: kind, name, and content or target.
    fn tar(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (kind, name, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            header.set_mtime(1_234_567_890);
            header.set_size(0);
            match kind {
                EntryType::Link | EntryType::Symlink => {
                    tar.append_link(&mut header, name, text).unwrap();
                }
                _ => {
                    header.set_size(text.len() as u64);
                    tar.append_data(&mut header, name, text.as_bytes()).unwrap();
                }
            }
        }
        tar.into_inner().unwrap()
    }

    const ALL: [(EntryType, &str, &str); 6] = [
        (EntryType::Directory, "d", ""),
        (EntryType::Regular, "d/a", "content"),
        (EntryType::Link, "d/b", "d/a"),
        (EntryType::Symlink, "d/c", "a"),
        (EntryType::Symlink, "gone", "/nowhere"),
        (EntryType::Fifo, "fifo", ""),
    ];

    #[test]
    fn all_kinds_are_written_and_written_again_over_themselves() {
        let place = TempDir::new().unwrap();
        for _ in 0..2 {
            unpack(&*tar(&ALL), place.path()).unwrap();
            let of = |name: &str| fs::symlink_metadata(place.path().join(name)).unwrap();
            assert_eq!(of("d/a").ino(), of("d/b").ino());
            assert_eq!(of("d/a").mtime(), 1_234_567_890);
            assert_eq!((of("d").mtime(), of("d").mode() & 0o7777), (1_234_567_890, 0o755));
            assert_eq!(fs::read_to_string(place.path().join("d/c")).unwrap(), "content");
            assert!(of("fifo").file_type().is_fifo());
        }
    }

    #[test]
    fn what_is_in_the_way_is_removed_and_no_link_is_followed() {
        let (place, outside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        symlink(outside.path(), place.path().join("d")).unwrap();
        fs::create_dir(place.path().join("gone")).unwrap();
        fs::write(place.path().join("gone/in"), "").unwrap();
        fs::write(place.path().join("kept"), "").unwrap();
        unpack(&*tar(&ALL), place.path()).unwrap();
        assert!(is_directory(&place.path().join("d")) && place.path().join("kept").exists());
        assert!(place.path().join("gone").is_symlink());
        assert!(fs::read_dir(outside.path()).unwrap().next().is_none());
    }

    #[test]
    fn what_would_lie_outside_is_an_error_that_names_it() {
        let (place, outside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let through = tar(&[
            (EntryType::Symlink, "link", outside.path().to_str().unwrap()),
            (EntryType::Regular, "link/in", "x"),
        ]);
        let error = unpack(&*through, place.path()).unwrap_err();
        assert!(error.to_string().starts_with("link/in: "), "{error}");
        let linked = tar(&[
            (EntryType::Symlink, "link", outside.path().to_str().unwrap()),
            (EntryType::Link, "x", "link/in"),
        ]);
        assert!(unpack(&*linked, place.path()).is_err());
        assert!(fs::read_dir(outside.path()).unwrap().next().is_none());
    }
}
