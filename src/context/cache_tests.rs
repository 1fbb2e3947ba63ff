//! The stat cache is never wrong.
#![cfg(unix)]

use std::{
    fs::{self, File, FileTimes},
    path::Path,
    time::{Duration, SystemTime},
};

use proptest::prelude::*;
use tempfile::TempDir;

use super::{
    cache_record::Record,
    directory::{Identity, Names},
    *,
};

/// Large enough that a cache of it is worth keeping.
const SIZE: usize = 2_000_000;

/// A context with one file, and where its cache is kept.
struct Case {
    root: TempDir,
    caches: TempDir,
}

impl Case {
    fn new() -> Case {
        let case = Case { root: TempDir::new().unwrap(), caches: TempDir::new().unwrap() };
        case.write(b'a');
        case
    }

    fn file(&self) -> PathBuf {
        self.root.path().join("file")
    }

    fn write(&self, byte: u8) {
        fs::write(self.file(), vec![byte; SIZE]).unwrap();
    }

    /// The cache file, if there is one.
    fn cache(&self) -> Option<PathBuf> {
        fs::read_dir(self.caches.path()).unwrap().next().map(|entry| entry.unwrap().path())
    }

    fn scan_at(&self, now: SystemTime) -> Tree {
        let options =
            Options { stat_cache: Some(self.caches.path().to_owned()), ..Options::default() };
        let cached = super::scan_at(now, self.root.path(), &Ignore::none(), &[Read::All], &options);
        let plain = scan(self.root.path(), &Ignore::none(), &[Read::All], &Options::default());
        let cached = cached.unwrap();
        assert_eq!(format!("{cached:?}"), format!("{:?}", plain.unwrap()), "the cache is wrong");
        cached
    }

    /// A scan when all that was done so far is long ago: how many files it took from the cache.
    fn cached(&self) -> u64 {
        self.scan_at(later()).statistics.cached
    }
}

fn later() -> SystemTime {
    SystemTime::now() + Duration::from_secs(3600)
}

fn set_modified(path: &Path, time: SystemTime) {
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_file_that_rests_is_read_once() {
    let case = Case::new();
    assert_eq!(case.cached(), 0);
    assert_eq!(case.cached(), 1);
    assert_eq!(case.cached(), 1);
}

#[test]
fn only_its_owner_can_read_a_cache() {
    use std::os::unix::fs::PermissionsExt;
    let case = Case::new();
    case.cached();
    let mode = fs::metadata(case.cache().unwrap()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_same_length_and_modification_time_deceive_nobody() {
    let case = Case::new();
    case.cached();
    let modified = fs::metadata(case.file()).unwrap().modified().unwrap();
    case.write(b'b');
    set_modified(&case.file(), modified);
    assert_eq!(case.cached(), 0);
    assert_eq!(case.cached(), 1);
}

#[test]
fn a_touched_file_is_read_again() {
    let case = Case::new();
    case.cached();
    set_modified(&case.file(), SystemTime::UNIX_EPOCH);
    assert_eq!(case.cached(), 0);
}

#[test]
fn a_file_that_another_one_replaced_is_read_again() {
    let case = Case::new();
    let other = case.root.path().join("other");
    fs::write(&other, vec![b'b'; SIZE]).unwrap();
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    for path in [&case.file(), &other] {
        set_modified(path, modified);
    }
    case.cached();
    assert_eq!(case.cached(), 2);
    // The two change places; nothing but their inodes tells.
    let third = case.root.path().join("third");
    for (from, to) in [(&case.file(), &third), (&other, &case.file()), (&third, &other)] {
        fs::rename(from, to).unwrap();
    }
    case.cached();
}

#[test]
fn what_changed_shortly_before_is_not_recorded() {
    let start = SystemTime::now();
    let case = Case::new();
    case.scan_at(start);
    assert_eq!(case.cache(), None);
    // Nor is what claims to come from the future.
    set_modified(&case.file(), later() + Duration::from_secs(60));
    case.cached();
    assert_eq!(case.cache(), None);
}

#[test]
fn the_cache_of_another_context_says_nothing_wrong() {
    let (one, other) = (Case::new(), Case::new());
    other.write(b'b');
    let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1));
    for case in [&one, &other] {
        File::options().write(true).open(case.file()).unwrap().set_times(times).unwrap();
        case.cached();
    }
    fs::copy(one.cache().unwrap(), other.cache().unwrap()).unwrap();
    assert_eq!(other.cached(), 0);
}

#[test]
fn a_cache_of_another_file_system_is_none() {
    let caches = TempDir::new().unwrap();
    let load = |device| Cache::load(caches.path(), Path::new("/context"), device, later());
    let identity = Identity { device: 1, inode: 7, mode: 0o100_644, modified: 1, changed: 1 };
    let record = Record { identity, known: Known::Content { size: 3, digest: [9; 32] } };
    load(1).store(vec![record]);
    assert_eq!(load(1).digest(&identity, 3), Some([9; 32]));
    assert!(load(2).is_empty());
    assert!(!load(2).accepts(&identity));
    for changed in [
        Identity { inode: 8, ..identity },
        Identity { mode: 0o100_755, ..identity },
        Identity { modified: 2, ..identity },
        Identity { changed: 2, ..identity },
    ] {
        assert_eq!(load(1).digest(&changed, 3), None);
    }
    assert_eq!(load(1).digest(&identity, 4), None);
}

#[test]
fn records_are_kept_from_scan_to_scan_and_replaced() {
    let caches = TempDir::new().unwrap();
    let load = || Cache::load(caches.path(), Path::new("/context"), 1, later());
    let identity = |inode, changed| Identity { device: 1, inode, mode: 0, modified: 0, changed };
    let record = |inode, changed| {
        let digest = [inode as u8 + changed as u8; 32];
        Record { identity: identity(inode, changed), known: Known::Content { size: 0, digest } }
    };
    load().store(vec![record(5, 0), record(1, 0), record(3, 0)]);
    load().store(vec![record(4, 0), record(3, 100), record(9, 0)]);
    let cache = load();
    for (inode, changed) in [(1, 0), (3, 100), (4, 0), (5, 0), (9, 0)] {
        let found = cache.digest(&identity(inode, changed), 0);
        assert_eq!(found, Some([inode as u8 + changed as u8; 32]), "{inode}");
    }
    assert_eq!(cache.digest(&identity(3, 0), 0), None);
    assert_eq!(cache.digest(&identity(2, 0), 0), None);
}

#[test]
fn a_run_that_was_killed_leaves_the_cache_as_it_was() {
    let case = Case::new();
    case.cached();
    let cache = case.cache().unwrap();
    let half = fs::read(&cache).unwrap();
    fs::write(case.caches.path().join(".unfinished-x1y2z3"), &half[..half.len() / 2]).unwrap();
    assert_eq!(case.cached(), 1);
}

#[test]
fn runs_at_the_same_time_do_not_disturb_each_other() {
    let case = Case::new();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let case = &case;
            scope.spawn(move || {
                for _ in 0..4 {
                    let options = Options {
                        stat_cache: Some(case.caches.path().to_owned()),
                        ..Options::default()
                    };
                    let own = case.root.path().join(format!("own-{thread}"));
                    fs::write(&own, vec![thread; SIZE / 4]).unwrap();
                    let reads = [Read::Copy {
                        source: format!("own-{thread}").into_bytes(),
                        parents: false,
                        exclude: Vec::new(),
                    }];
                    let scan = || {
                        let root = case.root.path();
                        super::scan_at(later(), root, &Ignore::none(), &reads, &options).unwrap()
                    };
                    assert_eq!(format!("{:?}", scan()), format!("{:?}", scan()));
                }
            });
        }
    });
    case.cached();
    assert!(case.cached() > 0);
}

/// Names that come, go and change what they stand for, one after the other: `scan_at` holds every scan
/// against one without a cache.
#[test]
fn a_name_that_comes_or_goes_is_seen() {
    let case = Case::new();
    let path = |name: &str| case.root.path().join(name);
    for directory in ["kept", "kept/inner", "moved"] {
        fs::create_dir(path(directory)).unwrap();
    }
    for number in 0..300 {
        fs::write(path(&format!("kept/{number}")), [number as u8; 9]).unwrap();
    }
    case.cached();
    assert_eq!(case.cached(), 301);
    let write = |name: &str, text: &str| fs::write(path(name), text).unwrap();
    let steps: [&dyn Fn(); 9] = [
        &|| write("kept/new", "1"),
        &|| write("kept/inner/deep", "2"),
        &|| fs::remove_file(path("kept/7")).unwrap(),
        &|| fs::rename(path("kept/8"), path("kept/eight")).unwrap(),
        &|| fs::rename(path("kept/9"), path("kept/10")).unwrap(),
        &|| {
            fs::remove_file(path("kept/11")).unwrap();
            fs::create_dir(path("kept/11")).unwrap();
        },
        &|| {
            fs::remove_file(path("kept/12")).unwrap();
            std::os::unix::fs::symlink("13", path("kept/12")).unwrap();
        },
        &|| {
            fs::rename(path("kept"), path("moved/kept")).unwrap();
            fs::create_dir(path("kept")).unwrap();
        },
        &|| fs::remove_dir_all(path("moved")).unwrap(),
    ];
    for step in steps {
        step();
        // At once, and when the caches may hold what was found.
        case.scan_at(SystemTime::now());
        case.cached();
        case.cached();
    }
}

/// A name that is added and whose directory is given its old modification time back.
#[test]
fn a_directory_with_its_old_time_deceives_nobody() {
    let case = Case::new();
    let directory = case.root.path().join("directory");
    fs::create_dir(&directory).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let age = || File::open(&directory).unwrap().set_modified(old).unwrap();
    age();
    let before = case.scan_at(later()).len();
    case.cached();
    fs::write(directory.join("new"), "1").unwrap();
    age();
    assert_eq!(case.scan_at(later()).len(), before + 1);
}

#[test]
fn no_cache_is_kept_of_what_is_read_in_no_time() {
    let case = Case::new();
    fs::write(case.file(), "small").unwrap();
    case.cached();
    assert_eq!(case.cache(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any damage to the cache file is found, and the file is read.
    #[test]
    fn a_damaged_cache_is_none(at in any::<prop::sample::Index>(), bit in 0..8u8, cut: bool) {
        let caches = TempDir::new().unwrap();
        let load = || Cache::load(caches.path(), Path::new("/context"), 1, later());
        let records = (1..5).map(|inode| Record {
            identity: Identity { device: 1, inode, mode: 0, modified: 0, changed: 0 },
            known: Known::Content { size: 0, digest: [inode as u8; 32] },
        });
        let names = Record {
            identity: Identity { device: 1, inode: 9, mode: 0, modified: 0, changed: 0 },
            known: Known::Names(Names::from_bytes(b"\x01\x01\x00a\x02\x02\x00bc").unwrap()),
        };
        load().store(records.chain([names]).collect());
        prop_assert!(!load().is_empty());
        let path = fs::read_dir(caches.path()).unwrap().next().unwrap().unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1 << bit;
        }
        fs::write(&path, bytes).unwrap();
        prop_assert!(load().is_empty());
    }
}
