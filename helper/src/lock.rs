//! Waiting for the lock of a file, but not for ever: whoever holds it may have been stopped.

use std::fs::{File, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

/// The longest that a lock is waited for. Those who have one hold it for some file operations.
const PATIENCE: Duration = Duration::from_secs(5);

/// The file with its lock, which is held until it is dropped. Nothing where no lock can be had, as on
/// some network file systems, or where it does not come: then it is done without.
pub(crate) fn take(file: File) -> Option<File> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Some(file),
            Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => {
                thread::sleep(Duration::from_millis(5));
            }
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_waits_for_the_other() {
        let directory = tempfile::tempdir().unwrap();
        let open = || File::create(directory.path().join("lock")).unwrap();
        let first = take(open()).unwrap();
        assert!(matches!(open().try_lock(), Err(TryLockError::WouldBlock)));
        thread::scope(|scope| {
            let second = scope.spawn(|| take(open()).is_some());
            drop(first);
            assert!(second.join().unwrap());
        });
    }
}
