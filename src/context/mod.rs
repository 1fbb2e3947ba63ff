//! The build context: which of its files an image can see, and what they hold.
//!
//! Knows ignore files, walking, selecting, hashing and the stat cache. Knows nothing of the syntax
//! of a Dockerfile, of keys, registries or engines.
//!
//! # What is taken
//! [`scan`] takes what the engine needs to carry out the [`Read`]s it is given, and no more: what it
//! takes is both what is hashed and what the engine is served, so an image cannot depend on anything
//! else. The rules are those of BuildKit's copy operation on a context without the ignored files.
//!
//! | of the context | taken | its mode |
//! |---|---|---|
//! | a file or link that is a source, or lies below a directory that is one | yes | yes |
//! | a directory that is a source, or lies below one, empty ones too | yes | yes |
//! | an ignored directory with something in it that is not ignored, in a source | yes | yes |
//! | a directory above a source, or one that a wildcard looks into | yes | 0755: it cannot be seen |
//! | a link on the way to a source, and what it leads to | yes | |
//! | the target of any other link | no: the link is copied as a link | |
//! | the root of the context itself | no | |
//! | sockets, FIFOs, devices | no, with a warning | |
//! | everything else | no: it is neither looked into nor hashed | |
//!
//! - Links are followed inside the context as if it were `/`: none leads out of it. A source that
//!   ends nowhere, or in a directory in which all is ignored, selects nothing, with a warning that says
//!   why if it can: whether the build fails is up to the engine.
//! - `COPY --exclude` applies below a source that is a directory; a source that is a file is taken.
//! - A file with several hard links is as many files.
//! - Names are bytes: they need not be UTF-8, and names that differ only in case are two names.
//! - The Dockerfile and the ignore file are files like any other if a source takes them.
//! - Times, owners and extended attributes are nothing.
//!
//! # Modes
//! What git keeps, and what is served to the engine: 0755 for directories and files their owner can
//! execute, 0644 for other files, plus the set-user-id, set-group-id and sticky bits; but the
//! set-group-id bit of a directory is dropped, because it is inherited from wherever the checkout
//! lies. With [`Options::strict_modes`], every bit is kept. Where there are no permission bits
//! (Windows) everything is 0755, as BuildKit has it.

use std::{
    ffi::OsStr,
    io::{self, Read as _},
    num::NonZero,
    path::{Path, PathBuf},
    time::SystemTime,
};

use thiserror::Error;

mod cache;
mod cache_block;
mod content;
mod directory;
mod filter;
mod glob;
mod ignore;
mod listing;
mod missing;
mod narrow;
mod patterns;
mod read;
mod regexp;
mod select;
mod sha256;
mod text;
mod tree;
mod walk;

use cache::Cache;
use cache_block::Fresh;
pub use content::{Change, Changed, Verified, open_verified};
use directory::Root;
pub use ignore::{Ignore, IgnoreError, IgnoredBy};
pub use missing::Missing;
pub use tree::{Entry, Kind, Mode, Statistics, Tree, Warning};
use walk::{Found, Walk};

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
/// where that is a file, else `.dockerignore` in the root of the context. `None` if there is neither.
///
/// It is read as any file of a context is (buildkit `frontend/dockerui/config.go`): a link is followed
/// inside the directory as if that were `/`. What is no file in the end is none.
///
/// # Errors
/// The file is there and cannot be read.
pub fn ignore_file(
    context: &Path,
    dockerfile: Option<&Path>,
) -> Result<Option<(PathBuf, Vec<u8>)>, Error> {
    const NAME: &str = ".dockerignore";
    let beside = dockerfile.and_then(|path| {
        let mut name = path.file_name()?.to_owned();
        name.push(NAME);
        Some((path.parent()?, name))
    });
    for (directory, name) in beside.into_iter().chain([(context, NAME.into())]) {
        if let Some(text) = read_inside(directory, &name)? {
            return Ok(Some((directory.join(name), text)));
        }
    }
    Ok(None)
}

/// The content of a file in a directory; `None` if there is none, or a link leads to none inside.
fn read_inside(directory: &Path, name: &OsStr) -> Result<Option<Vec<u8>>, Error> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let root = match Root::open(directory) {
        Ok(root) => root,
        Err(error) if select::is_gone(&error) => return Ok(None),
        Err(source) => return Err(Error::Unreadable { path: directory.to_owned(), source }),
    };
    let Some(path) = select::file(&root, name.as_encoded_bytes())? else { return Ok(None) };
    let unreadable = |source| select::unreadable(&path, source);
    let (mut file, _) = directory::open_file(directory, &path).map_err(unreadable)?;
    let mut text = Vec::new();
    file.read_to_end(&mut text).map_err(unreadable)?;
    Ok(Some(text))
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
    scan_at(SystemTime::now(), root, ignore, reads, options)
}

/// The same at another time: files that changed shortly before it are not put into the stat cache.
fn scan_at(
    now: SystemTime,
    root: &Path,
    ignore: &Ignore,
    reads: &[Read],
    options: &Options,
) -> Result<Tree, Error> {
    let failed = |source: io::Error| {
        let path = root.to_owned();
        match source.kind() {
            io::ErrorKind::NotADirectory => Error::NotADirectory { path },
            _ => Error::Unreadable { path, source },
        }
    };
    let open = Root::open(root).map_err(failed)?;
    let select::Selection { tree: selection, mut unmatched, doubtful } =
        select::resolve(&open, ignore, reads)?;

    let device = open.metadata(b"").map_err(failed)?.identity.map(|identity| identity.device);
    let cache = match (&options.stat_cache, device) {
        (Some(directory), Some(device)) if open.is_trusted() => {
            root.canonicalize().ok().map(|context| Cache::load(directory, &context, device, now))
        }
        _ => None,
    };
    let threads = options.threads.or_else(|| std::thread::available_parallelism().ok());
    let walk = Walk {
        root: &open,
        ignore,
        strict_modes: options.strict_modes,
        cache: cache.as_ref(),
        threads: threads.unwrap_or(NonZero::<usize>::MIN),
    };
    let Found { mut tree, fresh } = walk::walk(&walk, &selection)?;
    if let Some(cache) = cache
        && is_worth_storing(&tree.statistics, &fresh)
    {
        cache.store(fresh);
    }
    let hidden = doubtful.into_iter().filter(|(_, path)| tree.find(path).is_none());
    unmatched.extend(hidden.map(|(read, _)| read));
    let unmatched = unmatched.into_iter().filter_map(|read| missing::warning(&open, ignore, read));
    tree.warnings.splice(..0, unmatched);
    Ok(tree)
}

/// Whether the next run saves more by a new stat cache than this one spends on writing it.
fn is_worth_storing(statistics: &Statistics, fresh: &[Fresh]) -> bool {
    // In microseconds: opening and moving the cache file, a record to be written.
    let saved: u64 = fresh.iter().map(|fresh| fresh.saved).sum();
    let spent = 200 + (statistics.cached + statistics.hashed) / 10;
    saved > 500 && saved * 4 > spent
}

#[cfg(test)]
mod cache_tests;
#[cfg(test)]
mod tests;
