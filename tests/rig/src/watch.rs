//! Looks for a secret where it must not be.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
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
    /// below these directories has it in its name or content.
    #[track_caller]
    pub fn assert_unseen(mut self, directories: &[&Path]) {
        self.stop.store(true, Ordering::Relaxed);
        let found = self.thread.take().map(|thread| thread.join().unwrap()).unwrap_or_default();
        assert!(found.is_empty(), "the secret was in the arguments of {found:?}");
        let mut files = Vec::new();
        for directory in directories {
            files_with(&self.secret, directory, &mut files);
        }
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

fn files_with(secret: &str, path: &Path, found: &mut Vec<String>) {
    if path.to_string_lossy().contains(secret) {
        found.push(path.display().to_string());
    }
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            files_with(secret, &entry.path(), found);
        }
    } else if let Ok(bytes) = fs::read(path)
        && bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
    {
        found.push(path.display().to_string());
    }
}
