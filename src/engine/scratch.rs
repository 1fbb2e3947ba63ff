//! Directories for what a program has to find in files: only this user can look into them, they go
//! when they are dropped, and what a killed process left behind goes with the next one.

use std::{
    io,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// What their names begin with.
const PREFIX: &str = "smartbuild-";

/// A directory of a build's own.
#[derive(Debug)]
pub(super) struct Scratch {
    directory: TempDir,
    /// Held while this process lives. Files that a killed process left are told by it.
    #[cfg(unix)]
    _lock: std::fs::File,
}

impl Scratch {
    /// A directory for what is secret and small, called after what it is for: where the system keeps such things in memory for
    /// the time that a user is there.
    ///
    /// # Errors
    /// When none can be made.
    pub(super) fn small(purpose: &str) -> io::Result<Self> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        match runtime.filter(|path| path.is_dir()) {
            // The runtime directory of another user, which `su` leaves in the environment.
            Some(runtime) => Self::within(&runtime, purpose)
                .or_else(|_| Self::within(&std::env::temp_dir(), purpose)),
            None => Self::within(&std::env::temp_dir(), purpose),
        }
    }

    /// A directory for much, called after what it is for: `/tmp` is in memory on many machines.
    ///
    /// # Errors
    /// When none can be made.
    pub(super) fn large(purpose: &str) -> io::Result<Self> {
        let large = Path::new("/var/tmp");
        if std::env::var_os("TMPDIR").is_none() && large.is_dir() {
            Self::within(large, purpose).or_else(|_| Self::within(&std::env::temp_dir(), purpose))
        } else {
            Self::within(&std::env::temp_dir(), purpose)
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    #[cfg(unix)]
    fn within(place: &Path, purpose: &str) -> io::Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        unix::sweep(place);
        let mut new = tempfile::Builder::new();
        // Otherwise it would be the umask's to say who may look into it.
        let directory = new
            .prefix(&format!("{PREFIX}{purpose}-"))
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(place)?;
        let lock = unix::hold(directory.path())?;
        Ok(Self { directory, _lock: lock })
    }

    #[cfg(not(unix))]
    fn within(place: &Path, purpose: &str) -> io::Result<Self> {
        Ok(Self {
            directory: tempfile::Builder::new()
                .prefix(&format!("{PREFIX}{purpose}-"))
                .tempdir_in(place)?,
        })
    }
}

#[cfg(unix)]
impl Drop for Scratch {
    fn drop(&mut self) {
        unix::let_go(self.directory.path());
    }
}

#[cfg(unix)]
mod unix {
    use std::{
        fs::{self, File, Permissions},
        io,
        os::unix::fs::{MetadataExt as _, PermissionsExt as _},
        path::Path,
    };

    use super::PREFIX;

    /// The file that is locked while somebody uses the directory.
    const LOCK: &str = "lock";

    /// Makes the lock of a directory, and takes it. It gets its name when it is taken, so that nobody
    /// finds one that is free by chance.
    pub(super) fn hold(directory: &Path) -> io::Result<File> {
        let unnamed = directory.join("lock.new");
        let lock = File::create_new(&unnamed)?;
        lock.try_lock()?;
        fs::rename(unnamed, directory.join(LOCK))?;
        Ok(lock)
    }

    /// Lets all that is in a directory be removed: what cannot be written cannot be emptied either.
    pub(super) fn let_go(directory: &Path) {
        for entry in walkdir::WalkDir::new(directory).into_iter().flatten() {
            if entry.file_type().is_dir() {
                let _ = fs::set_permissions(entry.path(), Permissions::from_mode(0o700));
            }
        }
    }

    /// Removes the directories of this user that nobody holds any more.
    pub(super) fn sweep(place: &Path) {
        let user = rustix::process::geteuid().as_raw();
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            let path = entry.path();
            let ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
                && entry.metadata().is_ok_and(|found| found.is_dir() && found.uid() == user);
            if ours && File::open(path.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok()) {
                let_go(&path);
                let _ = fs::remove_dir_all(&path);
            }
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn only_this_user_can_look_into_it_and_it_goes_with_all_that_is_in_it() {
        let place = TempDir::new().unwrap();
        let scratch = Scratch::within(place.path(), "test").unwrap();
        let path = scratch.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        fs::create_dir(path.join("closed")).unwrap();
        fs::write(path.join("closed/file"), "").unwrap();
        fs::set_permissions(path.join("closed"), fs::Permissions::from_mode(0o500)).unwrap();
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn what_nobody_holds_any_more_goes_with_the_next() {
        let place = TempDir::new().unwrap();
        let used = Scratch::within(place.path(), "test").unwrap();
        // As a process leaves it that is killed: the system lets go of its locks.
        let left = place.path().join(format!("{PREFIX}left"));
        fs::create_dir(&left).unwrap();
        drop(unix::hold(&left).unwrap());
        // Somebody else's, or one that is just being made.
        let foreign = place.path().join(format!("{PREFIX}foreign"));
        fs::create_dir(&foreign).unwrap();
        let other = Scratch::within(place.path(), "test").unwrap();
        assert!(!left.exists());
        assert!(used.path().exists() && other.path().exists() && foreign.exists());
    }
}
