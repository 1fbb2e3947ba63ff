//! The copy of a context that buildah reads: the entries that were hashed and no others, each
//! verified while it is copied, with the modes that were hashed.
//!
//! A link to the files on disk would be quicker, and would let a file that changes afterwards into
//! the image.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    context::{Entry, Kind},
    engine::{
        build::BuildError,
        context::{Context, native},
        error::Error,
        scratch::Scratch,
    },
};

/// Copies of contexts, removed when dropped.
pub(super) struct Copy {
    directory: Scratch,
    names: Vec<String>,
}

impl Copy {
    /// Copies contexts, until `unwanted` says that nobody waits for them any more.
    pub(super) fn make(
        contexts: &[(String, Context)],
        latest: Option<i64>,
        unwanted: &dyn Fn() -> bool,
    ) -> Result<Self, BuildError> {
        let broken = |error: io::Error| Error::broken("copy the build context", &error);
        let directory = Scratch::large("context").map_err(broken)?;
        let names = contexts.iter().map(|(name, _)| name.clone()).collect();
        let copy = Self { directory, names };
        for (name, files) in contexts {
            let into = copy.of(name);
            fs::create_dir(&into).map_err(broken)?;
            one(files, latest, &into, unwanted)?;
        }
        Ok(copy)
    }

    /// Where the copy of the context of that name is.
    pub(super) fn of(&self, name: &str) -> PathBuf {
        let place = self.names.iter().position(|known| known == name).unwrap_or_default();
        self.directory.path().join(place.to_string())
    }
}

fn one(
    files: &Context,
    latest: Option<i64>,
    into: &Path,
    unwanted: &dyn Fn() -> bool,
) -> Result<(), BuildError> {
    let failed = |entry: &Entry<'_>| {
        let path = native(entry.path).into_owned();
        move |error| BuildError::unreadable(path, error)
    };
    for entry in files.tree.entries() {
        if unwanted() {
            return Err(BuildError::Cancelled);
        }
        let seconds = files.seconds(&entry, latest).map_err(failed(&entry))?;
        let place = into.join(native(entry.path));
        match entry.kind {
            Kind::Directory => fs::create_dir(&place).map_err(failed(&entry))?,
            Kind::Symlink { target } => {
                symlink(&native(target), &place).map_err(failed(&entry))?;
                set_time(&place, seconds).map_err(failed(&entry))?;
            }
            Kind::File { .. } => {
                let mut content = files.open(&entry).map_err(failed(&entry))?;
                let copied = fs::File::create_new(&place)
                    .and_then(|mut file| io::copy(&mut content, &mut file));
                copied.map_err(failed(&entry))?;
                set_mode(&place, entry.permissions()).map_err(failed(&entry))?;
                set_time(&place, seconds).map_err(failed(&entry))?;
            }
        }
    }
    // Directories last and from the end: filling them changed their times, and may be forbidden
    // from here on.
    for index in (0..files.tree.len()).rev() {
        let Some(entry) = files.entry(index).filter(|e| matches!(e.kind, Kind::Directory)) else {
            continue;
        };
        let seconds = files.seconds(&entry, latest).map_err(failed(&entry))?;
        let place = into.join(native(entry.path));
        set_time(&place, seconds).map_err(failed(&entry))?;
        set_mode(&place, entry.permissions()).map_err(failed(&entry))?;
    }
    Ok(())
}

#[cfg(unix)]
fn symlink(target: &Path, place: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, place)
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(unix)]
fn set_time(path: &Path, seconds: i64) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// There is no buildah elsewhere.
#[cfg(not(unix))]
fn symlink(_target: &Path, _place: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(unix))]
fn set_mode(_path: &Path, _mode: u32) -> io::Result<()> {
    Ok(())
}

#[cfg(not(unix))]
fn set_time(_path: &Path, _seconds: i64) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, sync::Arc};

    use tempfile::TempDir;

    use super::*;
    use crate::context::{Ignore, Options, Read, scan};

    fn context(root: &Path) -> Context {
        let tree = scan(root, &Ignore::none(), &[Read::All], &Options::default()).unwrap();
        Context { root: root.to_owned(), tree: Arc::new(tree) }
    }

    fn made(root: &Path) -> Result<Copy, BuildError> {
        Copy::make(&[(String::new(), context(root))], Some(1_000), &|| false)
    }

    #[test]
    fn the_copy_has_the_modes_and_times_that_engines_are_served() {
        let root = TempDir::new().unwrap();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        fs::write(root.path().join("a/b/script"), "#!/bin/sh\n").unwrap();
        set_mode(&root.path().join("a/b/script"), 0o710).unwrap();
        symlink(Path::new("/nowhere"), &root.path().join("a/link")).unwrap();
        let copy = made(root.path()).unwrap();
        let script = fs::metadata(copy.of("").join("a/b/script")).unwrap();
        assert_eq!(script.permissions().mode() & 0o7777, 0o755);
        let a = fs::symlink_metadata(copy.of("").join("a")).unwrap();
        let since = a.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(since.as_secs(), 1_000);
        assert_eq!(fs::read_link(copy.of("").join("a/link")).unwrap(), Path::new("/nowhere"));
        let place = copy.of("");
        drop(copy);
        assert!(!place.exists());
    }

    #[test]
    fn a_file_that_changed_is_not_copied() {
        let root = TempDir::new().unwrap();
        fs::write(root.path().join("file"), "one").unwrap();
        let context = context(root.path());
        fs::write(root.path().join("file"), "two").unwrap();
        let copied = Copy::make(&[(String::new(), context)], None, &|| false);
        assert!(matches!(copied, Err(BuildError::ContextChanged(_))));
    }

    #[test]
    fn a_copy_that_nobody_waits_for_is_given_up() {
        let root = TempDir::new().unwrap();
        fs::write(root.path().join("file"), "one").unwrap();
        let copied = Copy::make(&[(String::new(), context(root.path()))], None, &|| true);
        assert!(matches!(copied, Err(BuildError::Cancelled)));
    }
}
