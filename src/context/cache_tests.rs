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
    directory::{Identity, Names, Unsorted},
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

/// A directory or a file of device 1 that was last changed at that time.
fn identity(inode: u64, changed: i64) -> Identity {
    Identity { device: 1, inode, mode: 0o100_644, modified: 1, changed }
}

/// A digest that is that of no other file.
fn digest(inode: u64, changed: i64) -> [u8; 32] {
    [inode as u8 + changed as u8; 32]
}

/// Caches below a directory, written and read without a context.
struct Caches(TempDir);

impl Caches {
    fn new() -> Caches {
        Caches(TempDir::new().unwrap())
    }

    fn load(&self, device: u64) -> Cache {
        Cache::load(self.0.path(), Path::new("/context"), device, later())
    }

    /// Adds files, by inode and change time, to what is known of a directory with `there` files.
    fn learn(&self, directory: u64, there: usize, files: &[(u64, i64)]) {
        let cache = self.load(1);
        let page = cache.page(identity(directory, 0)).unwrap();
        for (inode, changed) in files {
            page.learn_digest(&identity(*inode, *changed), 3, &digest(*inode, *changed));
        }
        cache.store(page.into_fresh(there).into_iter().collect());
    }

    fn file(&self) -> PathBuf {
        fs::read_dir(self.0.path()).unwrap().next().unwrap().unwrap().path()
    }
}

#[test]
fn a_cache_of_another_file_system_is_none() {
    let caches = Caches::new();
    caches.learn(5, 1, &[(7, 1)]);
    let cache = caches.load(1);
    let page = cache.page(identity(5, 0)).unwrap();
    let file = identity(7, 1);
    assert_eq!(page.digest(&file, 3), Some(digest(7, 1)));
    for changed in [
        Identity { device: 2, ..file },
        Identity { inode: 8, ..file },
        Identity { mode: 0o100_755, ..file },
        Identity { modified: 2, ..file },
        Identity { changed: 2, ..file },
    ] {
        assert_eq!(page.digest(&changed, 3), None);
    }
    assert_eq!(page.digest(&file, 4), None);
    assert!(cache.page(identity(6, 0)).unwrap().is_blank());
    assert!(cache.page(Identity { device: 2, ..identity(5, 0) }).is_none());
    assert!(caches.load(2).is_empty());
}

#[test]
fn records_are_kept_from_scan_to_scan_and_replaced() {
    let caches = Caches::new();
    caches.learn(10, 3, &[(5, 0), (1, 0), (3, 0)]);
    caches.learn(11, 1, &[(6, 0)]);
    caches.learn(10, 5, &[(4, 0), (3, 100), (9, 0)]);
    let cache = caches.load(1);
    let page = cache.page(identity(10, 0)).unwrap();
    for (inode, changed) in [(1, 0), (3, 100), (4, 0), (5, 0), (9, 0)] {
        let found = page.digest(&identity(inode, changed), 3);
        assert_eq!(found, Some(digest(inode, changed)), "{inode}");
    }
    assert_eq!(page.digest(&identity(3, 0), 3), None);
    assert_eq!(page.digest(&identity(2, 0), 3), None);
    // What is known of one directory is asked for in no other.
    assert_eq!(page.digest(&identity(6, 0), 3), None);
    let other = cache.page(identity(11, 0)).unwrap();
    assert_eq!(other.digest(&identity(6, 0), 3), Some(digest(6, 0)));
}

#[test]
fn records_of_files_that_are_gone_do_not_pile_up() {
    let caches = Caches::new();
    let length = || fs::metadata(caches.file()).unwrap().len();
    caches.learn(10, 1, &[(1, 0)]);
    let one = length();
    for inode in 2..500 {
        caches.learn(10, 1, &[(inode, 0)]);
        assert!(length() < 100 * one, "{inode}");
    }
}

#[test]
fn names_are_known_as_long_as_the_directory_is_the_same() {
    let caches = Caches::new();
    let mut names = Unsorted::default();
    names.push(b"b", None);
    names.push(b"a", None);
    let names = names.sorted();
    let cache = caches.load(1);
    let page = cache.page(identity(10, 0)).unwrap();
    page.learn_names(&names);
    cache.store(page.into_fresh(2).into_iter().collect());
    // What is learnt of its files leaves the names as they are.
    caches.learn(10, 2, &[(1, 0)]);
    let cache = caches.load(1);
    assert_eq!(cache.page(identity(10, 0)).unwrap().names(), Some(names));
    assert_eq!(cache.page(identity(10, 1)).unwrap().names(), None);
    assert_eq!(cache.page(identity(11, 0)).unwrap().names(), None);
}

#[test]
fn a_scan_of_a_part_keeps_what_is_known_of_the_rest() {
    let case = Case::new();
    for directory in ["one", "two"] {
        fs::create_dir(case.root.path().join(directory)).unwrap();
        for file in ["a", "b"] {
            fs::write(case.root.path().join(directory).join(file), vec![1; SIZE]).unwrap();
        }
    }
    case.cached();
    assert_eq!(case.cached(), 5);
    fs::write(case.root.path().join("one/a"), vec![2; SIZE]).unwrap();
    let options = Options { stat_cache: Some(case.caches.path().to_owned()), ..Options::default() };
    let source = b"one/a".to_vec();
    let reads = [Read::Copy { source, parents: false, exclude: Vec::new() }];
    let part = || {
        let scanned = super::scan_at(later(), case.root.path(), &Ignore::none(), &reads, &options);
        scanned.unwrap().statistics.cached
    };
    assert_eq!((part(), part()), (0, 1));
    assert_eq!(case.cached(), 5);
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
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Any damage to the cache file is found, and what is damaged is read.
    #[test]
    fn what_is_damaged_is_not_believed(at in any::<prop::sample::Index>(), bit in 0..8u8, cut: bool) {
        let caches = Caches::new();
        let cache = caches.load(1);
        let fresh = (1..5).filter_map(|directory| {
            let page = cache.page(identity(directory, 0)).unwrap();
            page.learn_names(&Names::from_bytes(b"\x01\x01\x00a").unwrap());
            page.learn_digest(&identity(10 * directory, 0), 3, &digest(10 * directory, 0));
            page.into_fresh(1)
        });
        cache.store(fresh.collect());
        let mut bytes = fs::read(caches.file()).unwrap();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1 << bit;
        }
        fs::write(caches.file(), bytes).unwrap();

        let cache = caches.load(1);
        let pages: Vec<_> = (1..5).map(|at| cache.page(identity(at, 0)).unwrap()).collect();
        let blank = pages.iter().filter(|page| page.is_blank()).count();
        prop_assert!(blank == 4 || (blank == 1 && !cut));
        for (page, directory) in pages.iter().zip(1..5).filter(|(page, _)| !page.is_blank()) {
            prop_assert_eq!(page.names(), Names::from_bytes(b"\x01\x01\x00a"));
            let found = page.digest(&identity(10 * directory, 0), 3);
            prop_assert_eq!(found, Some(digest(10 * directory, 0)));
        }
    }
}
