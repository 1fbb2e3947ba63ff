//! The trees that are measured: Git repositories of files of random bytes.

use std::{
    fs, io,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

const FILES_A_DIRECTORY: usize = 100;

/// Makes a repository of that many files, and as many of 256 MiB, unless it is there.
pub(crate) fn make(root: &Path, count: usize, large: usize) -> io::Result<()> {
    if root.join(".git/index").exists() {
        return Ok(());
    }
    eprintln!("making {} ...", root.display());
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for directory in 0..count.div_ceil(FILES_A_DIRECTORY) {
        let path = root.join(format!("part-{:02}/module-{directory:04}", directory % 20));
        fs::create_dir_all(&path)?;
        for file in 0..FILES_A_DIRECTORY.min(count - directory * FILES_A_DIRECTORY) {
            let words = 64 + next() % 1400;
            let content: Vec<u8> = (0..words).flat_map(|_| next().to_le_bytes()).collect();
            fs::write(path.join(format!("source-{file:03}.rs")), content)?;
        }
    }
    for file in 0..large {
        let block: Vec<u8> = (0..1 << 17).flat_map(|_| next().to_le_bytes()).collect();
        fs::write(root.join(format!("large-{file}")), block.repeat(256))?;
    }
    for arguments in [
        &["init", "--quiet"][..],
        &["-c", "core.compression=0", "add", "."],
        &["config", "maintenance.auto", "false"],
        &["-c", "user.name=b", "-c", "user.email=b@example.org", "commit", "-qm", "all"],
    ] {
        git(root, arguments)?;
    }
    // Old enough that no stat cache, ours or git's, calls the files racy.
    std::thread::sleep(Duration::from_secs(3));
    git(root, &["update-index", "--refresh", "-q"])
}

/// How many bytes the files hold together, without the repository.
pub(crate) fn bytes(root: &Path) -> io::Result<u64> {
    let walk = walkdir::WalkDir::new(root).into_iter().filter_entry(|e| e.file_name() != ".git");
    let mut bytes = 0;
    for entry in walk {
        let entry = entry?;
        if entry.file_type().is_file() {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

pub(crate) fn git(root: &Path, arguments: &[&str]) -> io::Result<()> {
    let mut git = Command::new("git");
    let status = git.args(arguments).current_dir(root).stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other("git failed")) }
}
