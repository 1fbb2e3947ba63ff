//! The same on top of the standard library, where there are no directory-relative calls. There are
//! no permission bits either: as BuildKit does on Windows, every file is taken for executable.

use std::{
    borrow::Cow,
    ffi::OsStr,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::{FileKind, Metadata, Names, Unsorted};

/// The root of a context.
#[derive(Debug)]
pub(in super::super) struct Root(PathBuf);

/// A directory of a context.
#[derive(Debug)]
pub(in super::super) struct Directory(PathBuf);

impl Root {
    pub(in super::super) fn open(path: &Path) -> io::Result<Root> {
        if !fs::metadata(path)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Root(path.to_owned()))
    }

    /// Opens a directory by its path from the root, which is empty for the root itself.
    pub(in super::super) fn directory(&self, path: &[u8]) -> io::Result<Directory> {
        Ok(Directory(self.0.join(native_path(path))))
    }

    pub(in super::super) fn metadata(&self, path: &[u8]) -> io::Result<Metadata> {
        fs::symlink_metadata(self.0.join(native_path(path))).map(|found| metadata(&found))
    }

    pub(in super::super) fn read_link(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        read_link(&self.0.join(native_path(path)))
    }

    /// Without change times nothing can be trusted.
    pub(in super::super) fn is_trusted(&self) -> bool {
        false
    }
}

impl Directory {
    pub(in super::super) fn names(&self) -> io::Result<Names<'static>> {
        let mut names = Unsorted::default();
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            names.push(&file_name(&entry.file_name()), entry.file_type().ok().map(kind));
        }
        Ok(names.sorted())
    }

    /// What the file system says of the directory itself.
    pub(in super::super) fn own_metadata(&self) -> io::Result<Metadata> {
        fs::metadata(&self.0).map(|found| metadata(&found))
    }

    pub(in super::super) fn metadata(&self, name: &[u8]) -> io::Result<Metadata> {
        fs::symlink_metadata(self.0.join(native_path(name))).map(|found| metadata(&found))
    }

    pub(in super::super) fn read_link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        read_link(&self.0.join(native_path(name)))
    }

    /// Opens a file for reading; with what was opened.
    pub(in super::super) fn open(&self, name: &[u8]) -> io::Result<(File, Metadata)> {
        open_file(&self.0, name)
    }
}

/// Opens a file of a context by its path.
pub(in super::super) fn open_file(root: &Path, path: &[u8]) -> io::Result<(File, Metadata)> {
    let path = root.join(native_path(path));
    let found = metadata(&fs::symlink_metadata(&path)?);
    let file = File::open(path)?;
    Ok((file, found))
}

/// Where nothing can be trusted there is no cache to be read.
pub(in super::super) fn read_at(_: &File, _: &mut [u8], _: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A path of a context as the platform writes it.
pub(in super::super) fn native_path(path: &[u8]) -> Cow<'_, Path> {
    let text = String::from_utf8_lossy(path);
    Cow::Owned(text.split('/').collect())
}

/// A name as a context writes it.
fn file_name(name: &OsStr) -> Vec<u8> {
    name.to_string_lossy().replace('\\', "/").into_bytes()
}

fn read_link(path: &Path) -> io::Result<Vec<u8>> {
    fs::read_link(path).map(|target| file_name(target.as_os_str()))
}

fn kind(file_type: fs::FileType) -> FileKind {
    if file_type.is_symlink() {
        FileKind::Symlink
    } else if file_type.is_dir() {
        FileKind::Directory
    } else if file_type.is_file() {
        FileKind::File
    } else {
        FileKind::Special
    }
}

fn metadata(found: &fs::Metadata) -> Metadata {
    Metadata {
        kind: kind(found.file_type()),
        permissions: 0o755,
        size: found.len(),
        identity: None,
    }
}
