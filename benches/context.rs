//! What it costs to know a build context, as ratios measured in one run on one machine: against
//! `git status --short` and against reading every file once.
//!
//! ```text
//! cargo bench --bench context                       # 1,000, 10,000 and 100,000 files
//! cargo bench --bench context -- 1000000            # that many
//! SMARTBUILD_BENCH_DIR=/somewhere cargo bench ...   # where the fixtures are made and kept
//! ```
//!
//! The fixtures are Git repositories of 100 files a directory, 6 kB a file on average. Every figure
//! is the best of several rounds, with the contenders taking turns.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it prints what it measures")]
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::{
    env, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use smartbuild::context::{Ignore, Options, Read, Tree, scan};

const ROUNDS: usize = 9;
const FILES_A_DIRECTORY: usize = 100;
/// Set in the processes whose memory is measured: what they are to do.
const CHILD: &str = "SMARTBUILD_BENCH_CHILD";

fn main() -> io::Result<()> {
    if let Ok(work) = env::var(CHILD) {
        return measured_child(&work);
    }
    let counts: Vec<usize> = env::args().filter_map(|argument| argument.parse().ok()).collect();
    let counts = if counts.is_empty() { vec![1_000, 10_000, 100_000] } else { counts };
    let base = env::var_os("SMARTBUILD_BENCH_DIR").map_or_else(env::temp_dir, PathBuf::from);
    let mut slope: Option<(usize, Duration, Duration)> = None;
    for count in counts {
        let root = base.join(format!("smartbuild-bench-{count}"));
        fixture(&root, count)?;
        let (warm, cold) = compare(&root, count)?;
        if let Some((smaller, small_warm, small_cold)) = slope {
            println!(
                "  {count} against {smaller} files: warm x{:.1}, cold x{:.1}",
                ratio(warm, small_warm),
                ratio(cold, small_cold)
            );
        }
        slope = Some((count, warm, cold));
    }
    Ok(())
}

/// Makes a repository of that many files, unless it is there.
fn fixture(root: &Path, count: usize) -> io::Result<()> {
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
    for arguments in [
        &["init", "--quiet"][..],
        &["add", "."],
        &["-c", "user.name=b", "-c", "user.email=b@example.org", "commit", "-qm", "all"],
    ] {
        git(root, arguments)?;
    }
    // Old enough that no stat cache, ours or git's, calls the files racy.
    std::thread::sleep(Duration::from_secs(3));
    git(root, &["update-index", "--refresh", "-q"])
}

fn git(root: &Path, arguments: &[&str]) -> io::Result<()> {
    let status =
        Command::new("git").args(arguments).current_dir(root).stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other("git failed")) }
}

fn compare(root: &Path, count: usize) -> io::Result<(Duration, Duration)> {
    let cache = root.with_extension("cache");
    let _ = fs::remove_dir_all(&cache);
    let cached = || look(root, Read::All, Some(&cache));
    let tree = cached();
    let slice = slice_of(root);
    let changing = root.join("part-00/module-0000/source-000.rs");
    let before = fs::read(&changing)?;

    let mut best = [Duration::MAX; 7];
    for round in 0..ROUNDS {
        let mut lap = |place: usize, work: &mut dyn FnMut() -> io::Result<()>| -> io::Result<()> {
            let start = Instant::now();
            work()?;
            best[place] = best[place].min(start.elapsed());
            Ok(())
        };
        lap(0, &mut || git(root, &["status", "--short"]))?;
        lap(1, &mut || {
            assert_eq!(cached().len(), tree.len());
            Ok(())
        })?;
        lap(2, &mut || read_all(root, &tree))?;
        lap(3, &mut || {
            assert_eq!(look(root, Read::All, None).len(), tree.len());
            Ok(())
        })?;
        lap(4, &mut || {
            assert!(!look(root, slice.clone(), Some(&cache)).is_empty());
            Ok(())
        })?;
        lap(6, &mut || walk_and_read_all(root))?;
        fs::write(&changing, [&before[..], &[round as u8]].concat())?;
        lap(5, &mut || {
            assert_eq!(cached().statistics.hashed, 1);
            Ok(())
        })?;
    }
    fs::write(&changing, before)?;
    let [git, warm, read, cold, slice, changed, walk] = best;

    println!("{count} files, {} MB, best of {ROUNDS}:", tree.statistics.bytes / 1_000_000);
    let row = |name: &str, time: Duration, against: &str, other: Duration| {
        println!("  {name:<34}{:>9.1} ms   {:>5.2} of {against}", ms(time), ratio(time, other));
    };
    row("git status --short", git, "itself", git);
    row("warm (stat cache)", warm, "git status", git);
    row("one directory of it, warm", slice, "warm", warm);
    row("one file changed", changed, "warm", warm);
    row("every file of a list read once", read, "itself", read);
    row("walkdir, then fs::read", walk, "reading", read);
    row("cold (no stat cache)", cold, "reading", read);
    row("", cold, "walking and reading", walk);
    for (name, work) in [("warm", "warm"), ("first run, writing the cache", "first")] {
        let bytes = memory(root, work)?;
        println!(
            "  memory, {name:<26}{:>9.1} MB   {:>5} bytes a file",
            bytes as f64 / 1e6,
            bytes / count as u64
        );
    }
    let _ = fs::remove_dir_all(cache);
    Ok((warm, cold))
}

fn look(root: &Path, read: Read, cache: Option<&Path>) -> Tree {
    let ignore = Ignore::parse(b".git\n**/*.pyc\n**/node_modules\n*.log\n").unwrap();
    let options = Options { stat_cache: cache.map(Path::to_owned), ..Options::default() };
    scan(root, &ignore, &[read], &options).unwrap()
}

fn slice_of(_root: &Path) -> Read {
    Read::Copy { source: b"part-00/module-0000".to_vec(), parents: false, exclude: Vec::new() }
}

/// Opens every file by its path and reads it, with as many threads as there are processors.
fn read_all(root: &Path, tree: &Tree) -> io::Result<()> {
    let paths: Vec<PathBuf> = tree
        .entries()
        .filter(|entry| matches!(entry.kind, smartbuild::context::Kind::File { .. }))
        .map(|entry| root.join(String::from_utf8_lossy(entry.path).as_ref()))
        .collect();
    paths.par_iter().try_for_each_init(
        || vec![0; 128 * 1024],
        |buffer, path| {
            let mut file = fs::File::open(path)?;
            while file.read(buffer)? > 0 {}
            Ok(())
        },
    )
}

/// What a program does that wants the content of a tree: `walkdir`, then `fs::read`, with as many threads.
fn walk_and_read_all(root: &Path) -> io::Result<()> {
    let walk = walkdir::WalkDir::new(root).into_iter().filter_entry(|e| e.file_name() != ".git");
    let found = walk.collect::<Result<Vec<_>, _>>()?;
    found.par_iter().filter(|entry| entry.file_type().is_file()).try_for_each(|entry| {
        std::hint::black_box(fs::read(entry.path())?);
        Ok(())
    })
}

/// The most memory that a process needs above that of one that does nothing.
fn memory(root: &Path, work: &str) -> io::Result<u64> {
    let peak = |work: &str| -> io::Result<u64> {
        let output = Command::new(env::current_exe()?)
            .env(CHILD, format!("{work}:{}", root.display()))
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        text.parse().map_err(io::Error::other)
    };
    Ok(peak(work)?.saturating_sub(peak("nothing")?))
}

fn measured_child(work: &str) -> io::Result<()> {
    let (work, root) = work.split_once(':').unwrap_or((work, "."));
    let root = Path::new(root);
    let cache = match work {
        "warm" => Some(root.with_extension("cache")),
        "first" => Some(root.with_extension("first")),
        _ => None,
    };
    if let Some(cache) = &cache {
        look(root, Read::All, Some(cache));
    }
    if work == "first" {
        let _ = fs::remove_dir_all(root.with_extension("first"));
    }
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse::<u64>().ok());
    println!("{}", kilobytes.unwrap_or_default() * 1024);
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn ratio(time: Duration, other: Duration) -> f64 {
    time.as_secs_f64() / other.as_secs_f64()
}
