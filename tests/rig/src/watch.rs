//! Looks for a secret where it must not be.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Reads every process's arguments again and again, until it is asked what it found.
#[derive(Debug)]
pub struct Watch {
    secret: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<BTreeSet<String>>>,
}

impl Watch {
    /// Starts to look for this text.
    #[must_use]
    pub fn start(secret: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (secret, stop) = (secret.to_owned(), Arc::clone(&stop));
            move || {
                let mut found = BTreeSet::new();
                while !stop.load(Ordering::Relaxed) {
                    found.extend(arguments_with(&secret));
                    // Often enough for the shortest process, and leaves it a processor to run on.
                    thread::sleep(Duration::from_micros(500));
                }
                found
            }
        });
        Self { secret: secret.to_owned(), stop, thread: Some(thread) }
    }

    /// Stops, and asserts that no process had the secret among its arguments and that no file
    /// below `directory` has it in its name or content.
    #[track_caller]
    pub fn assert_unseen(mut self, directory: &Path) {
        self.stop.store(true, Ordering::Relaxed);
        let found = self.thread.take().map(|thread| thread.join().unwrap()).unwrap_or_default();
        assert!(found.is_empty(), "the secret was in the arguments of {found:?}");
        let files = files_with(&self.secret, directory);
        assert!(files.is_empty(), "the secret is in {files:?}");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn arguments_with(secret: &str) -> Vec<String> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let arguments = processes.flatten().filter_map(|process| {
        let name = process.file_name();
        name.to_str()?.parse::<u32>().ok()?;
        fs::read(process.path().join("cmdline")).ok()
    });
    arguments
        .map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "))
        .filter(|text| text.contains(secret))
        .collect()
}

/// The files below a directory that have a text in their name or content.
#[must_use]
pub fn files_with(text: &str, directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(path) = left.pop() {
        let has = |bytes: &[u8]| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        let content = if path.is_dir() && !path.is_symlink() {
            left.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|at| at.path()));
            Vec::new()
        } else {
            fs::read(&path).unwrap_or_default()
        };
        if has(path.as_os_str().as_bytes()) || has(&content) {
            found.push(path);
        }
    }
    found
}
