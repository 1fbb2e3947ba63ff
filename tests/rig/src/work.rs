//! A directory of a test's own.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::command::{Program, Ran, Running};

/// A working directory with a home beside it; removed when dropped.
#[derive(Debug)]
pub struct Work {
    directory: TempDir,
}

impl Work {
    /// An empty directory, and an empty home.
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    #[must_use]
    pub fn new() -> Self {
        let directory = TempDir::with_prefix("rig-work-").unwrap();
        for name in ["work", "home"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        Self { directory }
    }

    /// The directory in which programs run: the build context, as a rule.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    /// The home directory that programs see.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// Where a file of the working directory is.
    #[must_use]
    pub fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.path().join(path)
    }

    /// Writes a file, and the directories above it. A path such as `../home/.docker/config.json`
    /// leads to the home.
    pub fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> &Self {
        let path = self.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// Reads a file as text.
    #[must_use]
    pub fn read(&self, path: impl AsRef<Path>) -> String {
        let path = self.join(path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Removes a file or a directory with all that is in it.
    pub fn remove(&self, path: impl AsRef<Path>) -> &Self {
        let path = self.join(path);
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
        self
    }

    /// Makes a symbolic link at `path`.
    pub fn symlink(&self, target: impl AsRef<Path>, path: impl AsRef<Path>) -> &Self {
        let path = self.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
        self
    }

    /// Sets the permission bits.
    pub fn chmod(&self, path: impl AsRef<Path>, mode: u32) -> &Self {
        fs::set_permissions(self.join(path), fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    /// Writes Docker's `config.json` into the home.
    pub fn docker_config(&self, content: &serde_json::Value) -> &Self {
        self.write("../home/.docker/config.json", content.to_string())
    }

    /// Runs a program here and waits for its end.
    pub fn run(&self, program: Program) -> Ran {
        self.start(program).wait()
    }

    /// Starts a program here.
    pub fn start(&self, program: Program) -> Running {
        program.start(&self.path(), &self.home())
    }
}

/// The kernel would keep the key of a token cache for hours after its directory is gone, and a user
/// may have some hundreds of keys only.
#[cfg(target_os = "linux")]
impl Drop for Work {
    fn drop(&mut self) {
        use linux_keyutils::{KeyRing, KeyRingIdentifier};

        let cache = self.home().join(".cache/docker-credential-aliyun");
        if !cache.exists() {
            return;
        }
        // As helper/src/cache/key.rs names it.
        let name = crate::sha256(cache.as_os_str().as_encoded_bytes());
        let name = format!("docker-credential-aliyun:cache:{}", &name["sha256:".len()..][..16]);
        // Not every kernel lets us keep keys, and not every cache has one there.
        let Ok(ring) = KeyRing::get_persistent(KeyRingIdentifier::Process) else { return };
        if let Ok(key) = ring.search(&name) {
            let _ = ring.unlink_key(key);
        }
    }
}
