//! The build context: which of its files an image can see, and what they hold.
//!
//! Knows ignore files, walking, selecting, hashing and the stat cache. Knows nothing of the syntax
//! of a Dockerfile, of keys, registries or engines.

use std::{
    io,
    num::NonZero,
    path::{Path, PathBuf},
};

use thiserror::Error;

mod ignore;
mod tree;

pub use ignore::{Ignore, IgnoreError};
pub use tree::{Entry, Kind, Mode, Statistics, Tree, Warning};

/// What a stage reads of the context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// Everything that is not ignored: what a frontend we do not know may read.
    All,
    /// One source of a `COPY` or `ADD`.
    Copy {
        /// The source as the instruction says it, expanded, wildcards and all.
        source: Vec<u8>,
        /// `--parents`.
        parents: bool,
        /// The patterns of `--exclude`.
        exclude: Vec<Vec<u8>>,
    },
    /// A `RUN --mount=type=bind` without `from`.
    Bind {
        /// The mount's `source`, expanded; empty for the whole context.
        source: Vec<u8>,
    },
}

/// How to scan.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Keep every permission bit instead of what git keeps.
    pub strict_modes: bool,
    /// The directory that stat caches are kept in; without it every file is read.
    pub stat_cache: Option<PathBuf>,
    /// How many threads may work at once; without it, one for each processor.
    pub threads: Option<NonZero<usize>>,
}

/// Why a context could not be scanned.
#[derive(Debug, Error)]
pub enum Error {
    /// A file, directory or link could not be read.
    #[error("cannot read `{}` of the build context: {source}", path.display())]
    Unreadable {
        /// What could not be read.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The context is not a directory.
    #[error("the build context `{}` is not a directory", path.display())]
    NotADirectory {
        /// The context.
        path: PathBuf,
    },
    /// A pattern of `COPY --exclude` or `COPY --parents` is not one.
    #[error("a pattern of a COPY is wrong: {0}")]
    Pattern(#[from] IgnoreError),
}

/// Finds the ignore file of a build and reads it: `<Dockerfile>.dockerignore` beside the Dockerfile,
/// else `.dockerignore` in the root of the context. `None` if there is neither.
///
/// # Errors
/// The file is there and cannot be read.
pub fn ignore_file(context: &Path, dockerfile: &Path) -> Result<Option<(PathBuf, Vec<u8>)>, Error> {
    let mut beside = dockerfile.as_os_str().to_owned();
    beside.push(".dockerignore");
    for path in [PathBuf::from(beside), context.join(".dockerignore")] {
        match std::fs::read(&path) {
            Ok(text) => return Ok(Some((path, text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::Unreadable { path, source }),
        }
    }
    Ok(None)
}

/// Walks a context and hashes exactly what those reads select.
///
/// # Errors
/// Something that is selected cannot be read, or a pattern of a read is not one.
pub fn scan(
    root: &Path,
    ignore: &Ignore,
    reads: &[Read],
    options: &Options,
) -> Result<Tree, Error> {
    let _ = (root, ignore, reads, options);
    Ok(Tree::default())
}

/// Opens a file to be sent to the engine. The reader fails at the end, with [`Changed`] inside the
/// [`io::Error`], when what it gave is not what was hashed.
///
/// # Errors
/// The file is gone or cannot be opened, or is no regular file of that size any more.
pub fn open_verified(root: &Path, entry: &Entry<'_>) -> io::Result<Box<dyn io::Read + Send>> {
    let _ = (root, entry);
    Ok(Box::new(io::empty()))
}

/// A file is not what was hashed: it changed while the build was under way.
#[derive(Debug, Error)]
#[error("`{}` changed while it was being built: the image would not be that of its key", path.display())]
pub struct Changed {
    /// The file, relative to the context.
    pub path: PathBuf,
}
