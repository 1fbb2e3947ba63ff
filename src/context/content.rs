//! The content of files, held against its hash while it is built.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{
    directory::{FileKind, native_path, open_file},
    tree::{Entry, Kind},
};

/// A file is not what was hashed: it changed while the build was under way.
#[derive(Debug, Error)]
#[error("`{}` {} while it was being built, so the image would not be that of its key; \
         build again when the files are at rest", path.display(), change)]
pub struct Changed {
    /// The file, relative to the context.
    pub path: PathBuf,
    /// What happened to it.
    pub change: Change,
}

/// What happened to a file after it was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is gone.
    Vanished,
    /// Something else has its name now.
    Replaced,
    /// Its length changed.
    Resized,
    /// Its content changed.
    Rewritten,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Change::Vanished => "vanished",
            Change::Replaced => "was replaced by something that is not a file",
            Change::Resized => "changed its length",
            Change::Rewritten => "changed its content",
        })
    }
}

/// The content of a file that was hashed. Reading it fails at its end, or before, when it is not
/// what was hashed: the error of kind [`io::ErrorKind::InvalidData`] holds a [`Changed`].
#[derive(Debug)]
pub struct Verified {
    file: File,
    root: PathBuf,
    path: PathBuf,
    hasher: Sha256,
    left: u64,
    digest: [u8; 32],
}

/// Opens a file of a scanned context to send it to the engine.
///
/// # Errors
/// The file cannot be opened. If it is gone, no file any more, or not of the length that was hashed,
/// the error holds a [`Changed`].
pub fn open_verified(root: &Path, entry: &Entry<'_>) -> io::Result<Verified> {
    let Kind::File { size, digest } = entry.kind else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "only files have content"));
    };
    let path = native_path(entry.path).into_owned();
    let (file, metadata) = match open_file(root, entry.path) {
        Ok(opened) => opened,
        Err(error) => {
            return Err(match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                    changed(path, Change::Vanished)
                }
                // Links are not followed.
                _ if root.join(&path).is_symlink() => changed(path, Change::Replaced),
                _ => error,
            });
        }
    };
    if metadata.kind != FileKind::File {
        return Err(changed(path, Change::Replaced));
    }
    if metadata.size != size && metadata.size != 0 {
        return Err(changed(path, Change::Resized));
    }
    Ok(Verified { file, root: root.to_owned(), path, hasher: Sha256::new(), left: size, digest })
}

impl Read for Verified {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let read = self.file.read(buffer)?;
        let Some(left) = self.left.checked_sub(read as u64) else {
            return Err(changed(self.path.clone(), Change::Resized));
        };
        self.left = left;
        self.hasher.update(&buffer[..read]);
        if read == 0 && left > 0 {
            return Err(changed(self.path.clone(), Change::Resized));
        }
        if read == 0 && self.hasher.clone().finalize()[..] != self.digest {
            return Err(changed(self.path.clone(), Change::Rewritten));
        }
        if read == 0 && self.is_gone() {
            return Err(changed(self.path.clone(), Change::Vanished));
        }
        Ok(read)
    }
}

impl Verified {
    /// Whether no name leads to the file any more, and there is no other in its place.
    fn is_gone(&self) -> bool {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            // Not every file system counts names: that none is left is looked at once more.
            if self.file.metadata().is_ok_and(|metadata| metadata.nlink() > 0) {
                return false;
            }
        }
        let found = self.root.join(&self.path).symlink_metadata();
        found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }
}

fn changed(path: PathBuf, change: Change) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Changed { path, change })
}
