//! Replacing a file as a whole, so that a reader sees the old one or the new one.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use crate::lock;

/// The new content, beside the file that it is for. Dropped, it leaves no trace.
pub(super) struct Draft {
    file: NamedTempFile,
    target: PathBuf,
}

impl Draft {
    /// Writes the content with the mode and owner of the file that it is to replace. Through a
    /// symbolic link, what it leads to is replaced. A new file is its owner's alone, and so is its
    /// directory.
    pub(super) fn new(path: &Path, content: &[u8]) -> io::Result<Self> {
        let (target, metadata) = match fs::canonicalize(path) {
            Ok(target) => {
                let metadata = fs::metadata(&target)?;
                (target, Some(metadata))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => (destination(path)?, None),
            Err(error) => return Err(error),
        };
        let directory = target.parent().unwrap_or(Path::new("."));
        make_private_directory(directory)?;
        let mut file =
            Builder::new().prefix(".docker-credential-aliyun-").tempfile_in(directory)?;
        file.write_all(content)?;
        if let Some(metadata) = metadata {
            keep_owner(file.as_file(), &metadata)?;
            file.as_file().set_permissions(metadata.permissions())?;
        }
        file.as_file().sync_all()?;
        Ok(Self { file, target })
    }

    /// Puts it in place.
    pub(super) fn publish(self) -> io::Result<()> {
        self.file.persist(&self.target).map(drop).map_err(|error| error.error)
    }
}

/// What a path leads to that leads to nothing yet, over as many links as the system would follow
/// (path_resolution(7)).
fn destination(path: &Path) -> io::Result<PathBuf> {
    const MOST_LINKS: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new(".")).join(target),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => {
                return Ok(path);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("its symbolic links lead in a circle"))
}

/// Keeps other processes of this program from changing the file, until it is dropped. The lock is
/// that of the directory, since the file itself is replaced and a lock file would stay behind. Windows
/// has none for directories.
pub(super) fn lock(path: &Path) -> Option<File> {
    let target = fs::canonicalize(path).or_else(|_| destination(path)).ok()?;
    lock::take(File::open(target.parent()?).ok()?)
}

fn make_private_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// As root one edits the files of others, who have to be able to read them afterwards.
#[cfg(unix)]
fn keep_owner(file: &File, old: &fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    let new = file.metadata()?;
    if (new.uid(), new.gid()) == (old.uid(), old.gid()) {
        return Ok(());
    }
    fchown(file, Some(old.uid()), Some(old.gid()))
}

#[cfg(not(unix))]
fn keep_owner(_: &File, _: &fs::Metadata) -> io::Result<()> {
    Ok(())
}
