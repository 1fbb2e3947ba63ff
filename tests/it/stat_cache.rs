//! The stat cache, written by real processes that are killed while they write it.

use std::{fs, time::Duration};

use smartbuild_test_rig::{Program, Work};

const FILES: usize = 4_000;

fn key<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Program {
    Program::smartbuild(["key"].into_iter().chain(arguments))
}

#[test]
fn processes_that_are_killed_while_they_write_leave_no_wrong_cache() {
    let seed = std::env::var("SMARTBUILD_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("SMARTBUILD_TEST_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let work = Work::new();
    work.write("Dockerfile", "FROM scratch\nCOPY files /\n");
    for number in 0..FILES {
        work.write(format!("files/{}/{number}", number % 40), number.to_string());
    }
    let caches = work.home().join(".cache/smartbuild");
    let cache = || {
        let stat = walk(&caches).into_iter().find(|path| path.contains("stat"));
        stat.filter(|path| !path.contains(".unfinished"))
    };
    // What was written within the last two seconds is not recorded.
    let first = work.run(key([])).success().stdout().to_owned();
    while cache().is_none() {
        assert_eq!(work.run(key([])).success().stdout(), first);
    }

    let mut survivors = 0;
    for round in 0..25 {
        // Files that another key was made of, and now rest: there is something to write.
        let changed = random.usize(..FILES);
        work.write(format!("files/{}/{changed}", changed % 40), format!("round {round}"));
        if let Some(cache) = cache() {
            fs::remove_file(cache).unwrap();
        }
        let mut running: Vec<_> = (0..8).map(|_| work.start(key([]))).collect();
        for process in &mut running {
            std::thread::sleep(Duration::from_micros(random.u64(..8_000)));
            process.signal("KILL");
        }
        for process in running {
            survivors += usize::from(!process.wait().stdout().is_empty());
        }
        let plain = work.run(key(["--no-stat-cache"])).success().stdout().to_owned();
        assert_eq!(work.run(key([])).success().stdout(), plain, "round {round}");
    }
    println!("{survivors} of 200 ended before they were killed");
}

fn walk(directory: &std::path::Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let entries = entries.flatten().map(|entry| entry.path());
    entries
        .flat_map(|path| {
            if path.is_dir() { walk(&path) } else { vec![path.to_string_lossy().into_owned()] }
        })
        .collect()
}
