//! What a scan takes of a context is what the engine puts into the image: for generated contexts,
//! ignore files and `COPY` lines, the image of the whole context is the image of what was taken, and
//! every file that was taken is in it.
//!
//! `SMARTBUILD_SELECTION_CASES` says how many (24), `SMARTBUILD_SEED` from where (the clock); the seed of
//! a case that fails is in the message.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::Read as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use smartbuild::context::{Entry, Ignore, Kind, Options, Read, Tree, Warning, open_verified, scan};
use smartbuild_test_rig::{Engine, Work};

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_scan_takes_what_the_engine_copies() {
    let number = |name| env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let first = number("SMARTBUILD_SEED").unwrap_or(clock % 1_000_000_000);
    let cases = number("SMARTBUILD_SELECTION_CASES").unwrap_or(24);
    let next = AtomicU64::new(first);
    let built = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + cases {
                        return;
                    }
                    built.fetch_add(u64::from(case(seed)), Ordering::Relaxed);
                }
            });
        }
    });
    let built = built.into_inner();
    println!("seed {first}: {cases} cases, of which {built} build");
    assert!(built * 2 > cases, "seed {first}: of {cases} cases only {built} build");
}

/// Builds one context twice: whether it builds at all.
fn case(seed: u64) -> bool {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let work = Work::new();
    let whole = work.join("whole");
    let paths = generate(&mut random, &whole);
    let ignore = random.ignore_file(&paths);
    let patterns = Ignore::parse(ignore.as_bytes()).unwrap();
    let take = |reads: &[Read]| scan(&whole, &patterns, reads, &Options::default()).unwrap();
    let read = |source: &String| Read::Copy {
        source: source.clone().into_bytes(),
        parents: false,
        exclude: Vec::new(),
    };
    let mut sources: Vec<String> = (0..=random.below(3)).map(|_| random.source(&paths)).collect();
    // Most builds should not fail for want of a source.
    sources.retain(|source| take(&[read(source)]).warnings.is_empty() || random.below(4) == 0);
    let dockerfile: String = std::iter::once("FROM scratch\n".to_owned())
        .chain(sources.iter().enumerate().map(|(at, source)| {
            format!("COPY {}\n", serde_json::json!([source, format!("/{at}/")]))
        }))
        .collect();
    let told = format!("seed {seed}\n{dockerfile}--- ignore file\n{ignore}\n--- {paths:?}");

    let tree = take(&sources.iter().map(read).collect::<Vec<_>>());
    let taken = work.join("taken");
    materialise(&whole, &tree, &taken);

    fs::write(work.join("whole.df"), &dockerfile).unwrap();
    fs::write(work.join("taken.df"), &dockerfile).unwrap();
    fs::write(work.join("whole.df.dockerignore"), &ignore).unwrap();
    let expected = build(&work, "whole");
    let found = build(&work, "taken");
    match (&expected, &found) {
        (Ok(expected), Ok(found)) => {
            assert_eq!(expected, found, "{told}");
            // What is built is not called missing, but for a wildcard.
            for warning in &tree.warnings {
                let Warning::NothingSelected { source, .. } = warning else { continue };
                let is_wild = source.iter().any(|byte| b"*?[\\".contains(byte));
                assert!(is_wild, "{warning}: {told}");
            }
            let copied: BTreeSet<&[u8]> = expected.values().map(|item| &item.content[..]).collect();
            let files: Vec<&[u8]> = tree
                .entries()
                .filter(|entry| matches!(entry.kind, Kind::File { .. }))
                .map(|entry| entry.path)
                .collect();
            for path in &files {
                let content = fs::read(whole.join(native(path))).unwrap();
                // Something else of the same name may have been copied over it.
                let same = |entry: &Entry<'_>| name_of(entry.path) == name_of(path);
                let namesakes = tree.entries().filter(same).count();
                let shown = String::from_utf8_lossy(path);
                assert!(
                    namesakes > 1 || copied.contains(&content[..]),
                    "{shown} was taken and is not in the image: {told}"
                );
            }
            true
        }
        (Err(_), Err(_)) => false,
        // Older clients fail where a wildcard has them look below a file.
        (Err(error), Ok(_)) if error.contains("not a directory") => false,
        _ => panic!("{told}\nwhole: {expected:?}\ntaken: {found:?}"),
    }
}

fn name_of(path: &[u8]) -> Option<&[u8]> {
    path.rsplit(|byte| *byte == b'/').next()
}

/// An entry of an image.
#[derive(Debug, PartialEq)]
struct Item {
    kind: u8,
    mode: u32,
    link: Option<Vec<u8>>,
    content: Vec<u8>,
}

/// Builds a context with the engine's own client: all that is in the image.
fn build(work: &Work, name: &str) -> Result<BTreeMap<Vec<u8>, Item>, String> {
    let output = work.join(format!("{name}.tar"));
    // The client of the engine's own package: a later one needs a plug-in to speak with BuildKit.
    let client = Path::new("/usr/bin/docker");
    let ran = Command::new(if client.exists() { client } else { Path::new("docker") })
        .env("DOCKER_HOST", Engine::get().host())
        .env("DOCKER_BUILDKIT", "1")
        .env("DOCKER_CONFIG", work.home())
        .args(["build", "--quiet", "--no-cache", "--file"])
        .arg(work.join(format!("{name}.df")))
        .arg("--output")
        .arg(format!("type=tar,dest={}", output.display()))
        .arg(work.join(name))
        .output()
        .unwrap();
    if !ran.status.success() {
        return Err(String::from_utf8_lossy(&ran.stderr).into_owned());
    }
    let mut archive = tar::Archive::new(fs::File::open(output).unwrap());
    let items = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let header = entry.header();
        let (kind, mode) = (header.entry_type().as_byte(), header.mode().unwrap());
        let link = entry.link_name_bytes().map(|link| link.into_owned());
        (entry.path_bytes().into_owned(), Item { kind, mode, link, content })
    });
    Ok(items.collect())
}

/// A directory with nothing but what was taken.
fn materialise(root: &Path, tree: &Tree, target: &Path) {
    fs::create_dir(target).unwrap();
    for entry in tree.entries() {
        let path = target.join(native(entry.path));
        match entry.kind {
            Kind::Directory => fs::create_dir(&path).unwrap(),
            Kind::Symlink { target } => symlink(native(target), &path).unwrap(),
            Kind::File { .. } => {
                let mut content = Vec::new();
                open_verified(root, &entry).unwrap().read_to_end(&mut content).unwrap();
                fs::write(&path, content).unwrap();
            }
        }
        if !matches!(entry.kind, Kind::Symlink { .. }) {
            fs::set_permissions(&path, fs::Permissions::from_mode(entry.permissions())).unwrap();
        }
    }
}

fn native(path: &[u8]) -> PathBuf {
    PathBuf::from(String::from_utf8(path.to_vec()).unwrap())
}

const NAMES: [&str; 12] =
    ["a", "b", "ab", "abc", "foo", "x.c", "y.h", ".env", "d w", "é", "foo.bar", "b-c"];

/// A name that the engine's own client can speak of: that of 20.10 cannot read how newer engines ask
/// for one that is beyond ASCII.
fn any_name(random: &mut Random) -> &'static str {
    static IS_NEWER: LazyLock<bool> = LazyLock::new(crate::engine::is_newer);
    match *random.one_of(&NAMES) {
        "é" if *IS_NEWER => "e",
        name => name,
    }
}

/// Makes a context: the paths that are in it.
fn generate(random: &mut Random, root: &Path) -> Vec<String> {
    fs::create_dir(root).unwrap();
    let mut directories = vec![String::new()];
    let mut paths: Vec<String> = Vec::new();
    for number in 0..8 + random.below(16) {
        let directory = random.one_of(&directories).clone();
        let name = any_name(random);
        let path = if directory.is_empty() { name.into() } else { format!("{directory}/{name}") };
        if paths.contains(&path) {
            continue;
        }
        let full = root.join(&path);
        match random.below(10) {
            0..=3 => {
                fs::create_dir(full).unwrap();
                directories.push(path.clone());
            }
            4 | 5 if !paths.is_empty() => {
                let target = random.one_of(&paths).clone();
                let target = match random.below(4) {
                    0 => format!("/{target}"),
                    1 => format!("../../../{target}"),
                    2 => target,
                    _ => any_name(random).to_owned(),
                };
                symlink(target, full).unwrap();
            }
            kind => {
                fs::write(&full, format!("file {number}")).unwrap();
                let mode = if kind == 6 { 0o755 } else { 0o644 };
                fs::set_permissions(full, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        paths.push(path);
    }
    paths
}

/// Numbers that are the same for the same seed (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }

    fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// Patterns that old and new clients agree on. Those before 2022 look for a pattern's match at one
    /// level above a path only, and prune below exceptions with wildcards: so there are wildcards, or
    /// exceptions. And they apply an exception to a directory that was not excluded, which its
    /// successors do not.
    fn ignore_file(&mut self, paths: &[String]) -> String {
        let mut lines = Vec::new();
        let with_exceptions = self.below(2) == 0;
        for _ in 0..self.below(4) {
            let path = self.one_of(paths).clone();
            lines.push(if with_exceptions { path } else { self.wildcards(&path, true) });
        }
        let plain = lines.join("\n");
        if !with_exceptions || lines.is_empty() {
            return plain;
        }
        lines.push(format!("!{}", self.one_of(paths)));
        let text = lines.join("\n");
        let ignore = Ignore::parse(text.as_bytes()).unwrap();
        let is_excluded_by_older = |path: &str| {
            lines.iter().fold(false, |excluded, line| {
                let (exception, pattern) =
                    line.strip_prefix('!').map_or((false, &line[..]), |rest| (true, rest));
                let matches = path
                    .strip_prefix(pattern)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
                if matches { !exception } else { excluded }
            })
        };
        let agreed = |path: &String| ignore.excludes(path.as_bytes()) == is_excluded_by_older(path);
        if paths.iter().all(agreed) { text } else { plain }
    }

    fn source(&mut self, paths: &[String]) -> String {
        let path = match self.below(8) {
            0 => return ".".into(),
            // Perhaps through a link.
            1 => format!("{}/{}", self.one_of(paths), any_name(self)),
            _ => self.one_of(paths).clone(),
        };
        match self.below(6) {
            0 => format!("/{path}/"),
            1 => format!("./{path}"),
            2..=4 => self.wildcards(&path, false),
            _ => path,
        }
    }

    /// A pattern that matches a path, or nearly.
    fn wildcards(&mut self, path: &str, deep: bool) -> String {
        let names = path.split('/').map(|name| {
            let first: String = name.chars().take(1).collect();
            match self.below(9) {
                0 => "*".to_owned(),
                1 => format!("{first}*"),
                2 => name.chars().map(|_| '?').collect(),
                3 => format!("[{first}z]*"),
                4 => format!("[^{first}]*"),
                5 if deep => "**".to_owned(),
                6 if deep => format!("**/{name}"),
                7 => name.replace('.', "?"),
                _ => name.to_owned(),
            }
        });
        names.collect::<Vec<_>>().join("/")
    }
}
