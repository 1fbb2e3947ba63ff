//! What a scan takes of a context, and what it says of it.

use std::{fs, io::Read as _, path::Path};

use tempfile::TempDir;

use super::*;

/// A context of these entries: `dir/`, `link -> target`, or a file that holds its own path.
fn context(entries: &[&str]) -> TempDir {
    let root = TempDir::new().unwrap();
    for entry in entries {
        add(root.path(), entry);
    }
    root
}

fn add(root: &Path, entry: &str) {
    let (path, target) = match entry.split_once(" -> ") {
        Some((path, target)) => (path, Some(target)),
        None => (entry, None),
    };
    let full = root.join(path);
    fs::create_dir_all(full.parent().unwrap()).unwrap();
    match target {
        #[cfg(unix)]
        Some(target) => std::os::unix::fs::symlink(target, full).unwrap(),
        #[cfg(not(unix))]
        Some(_) => unimplemented!("links"),
        None if path.ends_with('/') => fs::create_dir_all(full).unwrap(),
        None => fs::write(full, path).unwrap(),
    }
}

fn copy(source: &str) -> Read {
    Read::Copy { source: source.into(), parents: false, exclude: Vec::new() }
}

fn copy_excluding(source: &str, exclude: &[&str]) -> Read {
    let exclude = exclude.iter().map(|pattern| pattern.as_bytes().to_vec()).collect();
    Read::Copy { source: source.into(), parents: false, exclude }
}

fn copy_parents(source: &str) -> Read {
    Read::Copy { source: source.into(), parents: true, exclude: Vec::new() }
}

fn bind(source: &str) -> Read {
    Read::Bind { source: source.into() }
}

fn take(root: &TempDir, ignore: &str, reads: &[Read]) -> Tree {
    let ignore = Ignore::parse(ignore.as_bytes()).unwrap();
    scan(root.path(), &ignore, reads, &Options::default()).unwrap()
}

/// The paths of what is taken: directories with a slash, links with their target.
fn paths(tree: &Tree) -> Vec<String> {
    let shown = |entry: Entry<'_>| {
        let path = String::from_utf8_lossy(entry.path);
        match entry.kind {
            Kind::File { .. } => path.into_owned(),
            Kind::Directory => format!("{path}/"),
            Kind::Symlink { target } => format!("{path} -> {}", String::from_utf8_lossy(target)),
        }
    };
    tree.entries().map(shown).collect()
}

#[track_caller]
fn assert_takes(root: &TempDir, ignore: &str, reads: &[Read], expected: &[&str]) {
    assert_eq!(paths(&take(root, ignore, reads)), expected, "{ignore:?} {reads:?}");
}

#[test]
fn everything_is_in_walk_order() {
    let root = context(&["a.txt", "a/b", "a/c/d", "a-b", "Z", "empty/"]);
    let all = ["Z", "a/", "a/b", "a/c/", "a/c/d", "a-b", "a.txt", "empty/"];
    for read in [Read::All, copy("."), copy("/"), copy(""), copy("a/../"), bind(""), bind("/")] {
        assert_takes(&root, "", &[read], &all);
    }
}

#[test]
fn a_copied_directory_is_all_that_is_in_it() {
    let root = context(&["a/b/c", "a/b/d/e", "a/f", "g"]);
    assert_takes(&root, "", &[copy("a/b")], &["a/", "a/b/", "a/b/c", "a/b/d/", "a/b/d/e"]);
    assert_takes(&root, "", &[copy("../a/b/")], &["a/", "a/b/", "a/b/c", "a/b/d/", "a/b/d/e"]);
    assert_takes(&root, "", &[copy("a/f"), copy("g")], &["a/", "a/f", "g"]);
    assert_takes(&root, "", &[bind("a/b/d")], &["a/", "a/b/", "a/b/d/", "a/b/d/e"]);
    assert_takes(&root, "", &[], &[]);
}

#[test]
fn what_is_not_there_is_a_warning() {
    let root = context(&["a/b"]);
    for (source, taken) in [("c", &[][..]), ("a/b/c", &[]), ("a/*.x", &["a/"]), ("x/*", &[])] {
        let tree = take(&root, "", &[copy(source)]);
        assert_eq!(paths(&tree), taken);
        assert_eq!(tree.warnings, [Warning::NothingSelected { source: source.into(), why: None }]);
    }
}

/// What is said of a source in a context with this ignore file.
fn said(root: &TempDir, ignore: &str, read: Read) -> String {
    let ignore = Ignore::parse(ignore.as_bytes()).unwrap().named(".dockerignore");
    let tree = scan(root.path(), &ignore, &[read], &Options::default()).unwrap();
    tree.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_source_that_is_ignored_is_said_to_be_there() {
    let root = context(&["dist/app", "dist/deep/x", "src/a.js", "l -> dist", "m -> dist/app"]);
    let ignore = "# made here\n\ndist \r\n!dist/other\n**/*.js\n";
    let of_dist = "but line 3 of .dockerignore (`dist`) leaves it out";
    for (source, expected) in [
        ("dist/app", format!("`dist/app`: it is there, {of_dist}")),
        ("dist", format!("`dist`: it is there, {of_dist}")),
        ("dist/deep", format!("`dist/deep`: it is there, {of_dist}")),
        ("dist/a*", format!("`dist/a*`: `dist/app` is there, {of_dist}")),
        ("l", format!("`l`: `dist` is there, {of_dist}")),
        ("m", format!("`m`: `dist/app` is there, {of_dist}")),
        (
            "src/*.js",
            "`src/*.js`: `src/a.js` is there, but line 5 of .dockerignore (`**/*.js`) leaves it out"
                .to_owned(),
        ),
    ] {
        for read in [copy(source), bind(source)] {
            if matches!(read, Read::Bind { .. }) && source.contains('*') {
                continue;
            }
            let said = said(&root, ignore, read);
            assert_eq!(said, format!("nothing in the build context matches {expected}"));
        }
    }
    let said = said(&root, "*\n!src\n", copy("m"));
    assert!(said.ends_with("`m`: it is there, but line 1 of .dockerignore (`*`) leaves it out"));
}

#[test]
fn an_ignored_directory_with_something_in_it_that_is_not_is_there() {
    let root = context(&["dist/app", "dist/other", "empty/"]);
    for (ignore, source) in
        [("dist\n!dist/app", "dist"), ("dist/*", "dist"), ("empty/*", "empty"), ("*", ".")]
    {
        assert_eq!(said(&root, ignore, copy(source)), "", "{ignore:?}");
    }
    let said = said(&root, "dist\n!dist/none", copy("dist"));
    assert!(said.contains("line 1"), "{said}");
}

#[test]
fn a_source_that_is_mistyped_is_compared_with_what_is_there() {
    let root = context(&["src/main.rs", "src/lib.rs", "target/main.rs", "Makefile"]);
    for (source, near) in [
        ("src/mian.rs", "; there is `src/main.rs`"),
        ("srv/main.rs", "; there is `src/main.rs`"),
        ("makefile", "; there is `Makefile`"),
        ("srv/none.rs", ""),
        ("targt/main.rs", ""),
        ("main.rs", ""),
        ("src/main.rs/x", ""),
        ("src/mian*", ""),
    ] {
        let expected = format!("nothing in the build context matches `{source}`{near}");
        assert_eq!(said(&root, "target", copy(source)), expected);
    }
}

#[test]
fn ignored_files_are_not_there() {
    let root = context(&["a/b", "a/c", "d/e", "f"]);
    assert_takes(&root, "a\n!a/b\nf", &[copy(".")], &["a/", "a/b", "d/", "d/e"]);
    assert_takes(&root, "a\n!a/b", &[copy("a")], &["a/", "a/b"]);
    assert_takes(&root, "a", &[copy("a")], &[]);
    assert_takes(&root, "*", &[copy(".")], &[]);
    // What is inside makes the directory; nothing inside, no directory.
    assert_takes(&root, "a\n!a/x", &[copy(".")], &["d/", "d/e", "f"]);
    assert_takes(&root, "a/*", &[copy(".")], &["a/", "d/", "d/e", "f"]);
    assert_takes(&root, "*\n!*/e", &[copy(".")], &["d/", "d/e"]);
}

#[test]
fn wildcards_match_names_of_real_directories() {
    let root = context(&["a/x.c", "a/y.h", "b/x.c", "b/sub/z.c", "l -> a", "x.c"]);
    assert_takes(&root, "", &[copy("*.c")], &["x.c"]);
    assert_takes(&root, "", &[copy("*/x.c")], &["a/", "a/x.c", "b/", "b/x.c"]);
    assert_takes(&root, "", &[copy("?/*.[ch]")], &["a/", "a/x.c", "a/y.h", "b/", "b/x.c"]);
    assert_takes(&root, "", &[copy("b/s*")], &["b/", "b/sub/", "b/sub/z.c"]);
    assert_takes(&root, "", &[copy("**/z.c")], &[]);
    assert_takes(&root, "", &[copy("[x].c*")], &["x.c"]);
    assert_takes(&root, "", &[copy("[ab]/[y]*")], &["a/", "a/y.h"]);
    // Through a link before the wildcard, and of one that matches.
    assert_takes(&root, "", &[copy("l/*.c")], &["a/", "a/x.c", "l -> a"]);
    assert_takes(&root, "", &[copy("l*")], &["a/", "a/x.c", "a/y.h", "l -> a"]);
    assert_takes(&root, "l", &[copy("l*")], &[]);
    // What is searched is there even where nothing matches, unless it is ignored for good.
    assert_takes(&root, "a\n!a/x.c", &[copy("a/*.h")], &["a/"]);
    assert_takes(&root, "a\n!b/x.c", &[copy("a/*.h")], &[]);
    assert_takes(&root, "a", &[copy("a/*.h")], &[]);
    // A class may match a slash.
    assert_takes(&root, "", &[copy("b[^x]x.c")], &["b/", "b/x.c"]);
}

#[cfg(unix)]
#[test]
fn links_are_followed_inside_the_context_only_where_a_source_names_them() {
    let root = context(&[
        "real/dir/file",
        "abs -> /real",
        "up -> ../../../real/dir",
        "chain -> abs/dir",
        "loop -> loop",
        "out -> /etc/passwd",
        "real/inner -> ../other",
        "other/x",
    ]);
    let dir = ["real/", "real/dir/", "real/dir/file"];
    assert_takes(&root, "", &[copy("abs/dir/file")], &[&["abs -> /real"], &dir[..]].concat());
    assert_takes(
        &root,
        "",
        &[copy("chain")],
        &[&["abs -> /real", "chain -> abs/dir"], &dir[..]].concat(),
    );
    assert_takes(&root, "", &[copy("up")], &[&dir[..], &["up -> ../../../real/dir"]].concat());
    assert_takes(&root, "", &[copy("loop")], &["loop -> loop"]);
    assert_takes(&root, "", &[copy("out")], &["out -> /etc/passwd"]);
    assert_takes(&root, "", &[bind("abs/dir")], &[&["abs -> /real"], &dir[..]].concat());
    assert_takes(
        &root,
        "",
        &[copy("real")],
        &["real/", "real/dir/", "real/dir/file", "real/inner -> ../other"],
    );
}

#[test]
fn excluded_by_a_copy() {
    let root = context(&["a/b.md", "a/c/d.md", "a/c/e.rs", "f.md"]);
    let rest = ["a/", "a/c/", "a/c/e.rs"];
    assert_takes(&root, "", &[copy_excluding(".", &["**/*.md"])], &rest);
    assert_takes(&root, "", &[copy_excluding("a", &["*.md", "c/d.md"])], &rest);
    assert_takes(
        &root,
        "",
        &[copy_excluding("a", &["c", "!c/d.md"])],
        &["a/", "a/b.md", "a/c/", "a/c/d.md"],
    );
    // A file that is the source itself is copied.
    assert_takes(&root, "", &[copy_excluding("f.md", &["*.md"])], &["f.md"]);
    // Two sources, two opinions.
    assert_takes(
        &root,
        "",
        &[copy_excluding("a", &["c"]), copy("a/c/e.rs")],
        &["a/", "a/b.md", "a/c/", "a/c/e.rs"],
    );
}

#[test]
fn parents_are_kept() {
    let root = context(&["a/b/c.x", "a/b/d.y", "a/e/c.x", "f/c.x", "g/"]);
    let found = ["a/", "a/b/", "a/b/c.x", "a/e/", "a/e/c.x"];
    assert_takes(&root, "", &[copy_parents("a/*/c.x")], &found);
    assert_takes(&root, "", &[copy_parents("a/./*/c.x")], &found);
    assert_takes(&root, "", &[copy_parents("./a/./*/c.x")], &found);
    assert_takes(&root, "", &[copy_parents("**/d.y")], &["a/", "a/b/", "a/b/d.y"]);
    assert_takes(
        &root,
        "",
        &[copy_parents("*/./b")],
        &["a/", "a/b/", "a/b/c.x", "a/b/d.y", "f/", "g/"],
    );
    assert_eq!(take(&root, "", &[copy_parents(".")]).len(), 9);
}

#[cfg(unix)]
#[test]
fn names_are_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let root = context(&["README", "readme"]);
    fs::write(root.path().join(std::ffi::OsStr::from_bytes(b"\xff\n")), "x").unwrap();
    let tree = take(&root, "", &[copy(".")]);
    let names: Vec<&[u8]> = tree.entries().map(|entry| entry.path).collect();
    assert_eq!(names, [&b"README"[..], b"readme", b"\xff\n"]);
    assert_eq!(tree.find(b"readme").unwrap().path, b"readme");
    assert_eq!(tree.find(b"other"), None);
}

#[cfg(unix)]
#[test]
fn modes_are_those_that_git_keeps() {
    use std::os::unix::fs::PermissionsExt;
    let root = context(&["d/f", "d/x", "d/s"]);
    let set = |path: &str, mode| {
        fs::set_permissions(root.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    let modes = |tree: Tree| tree.entries().map(|entry| entry.permissions()).collect::<Vec<_>>();
    set("d", 0o2775);
    set("d/f", 0o664);
    set("d/x", 0o711);
    set("d/s", 0o4755);
    assert_eq!(modes(take(&root, "", &[copy("d")])), [0o755, 0o644, 0o4755, 0o755]);
    let strict = Options { strict_modes: true, ..Options::default() };
    let exact = scan(root.path(), &Ignore::none(), &[copy("d")], &strict).unwrap();
    assert_eq!(modes(exact), [0o2775, 0o664, 0o4755, 0o711]);
    // A directory above what is copied shows nothing of itself.
    let above = scan(root.path(), &Ignore::none(), &[copy("d/f")], &strict).unwrap();
    assert_eq!(modes(above), [0o755, 0o664]);
    set("d", 0o1777);
    assert_eq!(modes(take(&root, "", &[copy(".")])), [0o1755, 0o644, 0o4755, 0o755]);
    assert_eq!(modes(take(&root, "", &[copy("d/f")])), [0o755, 0o644]);
}

#[cfg(unix)]
#[test]
fn special_files_are_left_out_with_a_warning() {
    let root = context(&["a"]);
    let _socket = std::os::unix::net::UnixListener::bind(root.path().join("socket")).unwrap();
    let tree = take(&root, "", &[copy(".")]);
    assert_eq!(paths(&tree), ["a"]);
    assert_eq!(tree.warnings, [Warning::Special { path: "socket".into() }]);
    assert_eq!(take(&root, "socket", &[copy(".")]).warnings, []);
}

#[test]
fn content_is_hashed_and_counted() {
    let root = context(&["a"]);
    fs::write(root.path().join("big"), vec![7; 1_000_000]).unwrap();
    let tree = take(&root, "", &[copy(".")]);
    let digest = |text: &[u8]| -> [u8; 32] { <sha2::Sha256 as sha2::Digest>::digest(text).into() };
    assert_eq!(tree.find(b"a").unwrap().kind, Kind::File { size: 1, digest: digest(b"a") });
    let big = Kind::File { size: 1_000_000, digest: digest(&vec![7; 1_000_000]) };
    assert_eq!(tree.find(b"big").unwrap().kind, big);
    assert_eq!(tree.statistics, Statistics { hashed: 2, bytes: 1_000_001, cached: 0 });
}

#[test]
fn threads_make_no_difference() {
    let names: Vec<String> = (0..3000).map(|i| format!("{}/{}/{i}.txt", i % 7, i % 31)).collect();
    let root = context(&names.iter().map(|name| &name[..]).collect::<Vec<_>>());
    let with = |threads| {
        let options = Options { threads: std::num::NonZero::new(threads), ..Options::default() };
        let tree = scan(root.path(), &Ignore::none(), &[Read::All], &options).unwrap();
        format!("{tree:?}")
    };
    assert_eq!(with(1), with(4));
    let flat: Vec<String> = (0..3000).map(|i| format!("flat/{i}")).collect();
    for name in &flat {
        add(root.path(), name);
    }
    assert_eq!(with(1), with(4));
}

#[test]
fn the_ignore_file_beside_the_dockerfile_wins() {
    let root = context(&[".dockerignore", "sub/Dockerfile"]);
    let find = || ignore_file(root.path(), Some(&root.path().join("sub/Dockerfile"))).unwrap();
    assert_eq!(find().unwrap().1, b".dockerignore");
    add(root.path(), "sub/Dockerfile.dockerignore");
    assert_eq!(find().unwrap().1, b"sub/Dockerfile.dockerignore");
    let none = ignore_file(&root.path().join("sub"), Some(&root.path().join("other"))).unwrap();
    assert_eq!(none, None);
    // A Dockerfile on standard input lies beside nothing.
    add(root.path(), "Dockerfile.dockerignore");
    assert_eq!(ignore_file(root.path(), None).unwrap().unwrap().1, b".dockerignore");
}

#[cfg(unix)]
#[test]
fn an_ignore_file_is_read_like_any_file_of_the_context() {
    let read = |entries: &[&str]| {
        let root = context(entries);
        let found = ignore_file(root.path(), Some(&root.path().join("Dockerfile"))).unwrap();
        found.map(|(_, text)| String::from_utf8(text).unwrap())
    };
    assert_eq!(read(&["a/x", ".dockerignore -> a/x"]).unwrap(), "a/x");
    assert_eq!(read(&["a/x", ".dockerignore -> /b/x", "b -> a"]).unwrap(), "a/x");
    assert_eq!(read(&["a/x", ".dockerignore -> ../../../a/x"]).unwrap(), "a/x");
    // As for BuildKit, all of these are no ignore file.
    for entry in [".dockerignore -> /etc/passwd", ".dockerignore -> a/y", ".dockerignore -> a"] {
        assert_eq!(read(&["a/x", entry]), None, "{entry}");
    }
    assert_eq!(read(&[".dockerignore/"]), None);
    assert_eq!(read(&[".dockerignore", "Dockerfile.dockerignore/"]).unwrap(), ".dockerignore");
    assert_eq!(read(&[".dockerignore -> .dockerignore"]), None);
}

#[cfg(unix)]
#[test]
fn a_link_behind_a_directory_that_a_wildcard_found_is_taken_alone() {
    let root = context(&["a/b -> /", "c/d", "e/f -> /c", "g -> c", "x/y"]);
    let found = ["a/", "a/b -> /", "c/", "c/d", "e/", "e/f -> /c", "x/", "x/y"];
    assert_takes(&root, "", &[copy("*/*")], &found);
    assert_takes(&root, "", &[copy("e*/f")], &["e/", "e/f -> /c"]);
    // What the first wildcard finds is followed, and so are the names before it.
    assert_takes(&root, "", &[copy("e/f*")], &["c/", "c/d", "e/", "e/f -> /c"]);
    assert_takes(&root, "", &[copy("g*")], &["c/", "c/d", "g -> c"]);
    assert_takes(&root, "", &[copy("g/d*")], &["c/", "c/d", "g -> c"]);
}

#[test]
fn a_context_must_be_a_readable_directory() {
    let root = context(&["file"]);
    let scan = |path: &str| {
        let options = Options::default();
        scan(&root.path().join(path), &Ignore::none(), &[Read::All], &options).unwrap_err()
    };
    assert!(matches!(scan("file"), Error::NotADirectory { .. }));
    assert!(matches!(scan("none"), Error::Unreadable { .. }));
}

#[test]
fn what_is_served_is_what_was_hashed() {
    let root = context(&["same", "rewritten", "grown", "shrunk", "gone", "linked"]);
    let tree = take(&root, "", &[copy(".")]);
    fs::write(root.path().join("rewritten"), "REWRITTEN").unwrap();
    fs::write(root.path().join("grown"), "grown!").unwrap();
    fs::write(root.path().join("shrunk"), "").unwrap();
    for name in ["gone", "linked"] {
        fs::remove_file(root.path().join(name)).unwrap();
    }
    add(root.path(), "linked -> same");
    let read = |name: &str| {
        let mut content = String::new();
        open_verified(root.path(), &tree.find(name.as_bytes()).unwrap())?
            .read_to_string(&mut content)?;
        Ok::<_, io::Error>(content)
    };
    let change = |name: &str| {
        let error = read(name).unwrap_err();
        error.downcast::<Changed>().unwrap().change
    };
    assert_eq!(read("same").unwrap(), "same");
    assert_eq!(change("rewritten"), Change::Rewritten);
    assert_eq!(change("grown"), Change::Resized);
    assert_eq!(change("shrunk"), Change::Resized);
    assert_eq!(change("gone"), Change::Vanished);
    assert_eq!(change("linked"), Change::Replaced);
}

#[cfg(unix)]
#[test]
fn a_tree_is_narrowed_to_what_a_scan_for_less_would_take() {
    let root = context(&[
        "a/b/c.txt",
        "a/b/d",
        "a/b/e/f",
        "a/l -> ../o/p",
        "a/n -> nowhere",
        "a/x*y",
        "o/p/q",
        "o/r",
        "o/s -> /a/b",
        "t -> a",
        "u/v",
        "w",
        "z/",
        "loop -> loop",
    ]);
    let parents =
        ["a/b/c.txt", "a/*/c.txt", "a/./b/d", "t/./b/e", "o/**/q", "o/s/d", r"a/x\*y", "."];
    let copies = [
        "a", "a/b", "a/*", "a/*/q", "*/r", "t/b", "o/s/e", "u/v", "w", "z", "loop", "gone",
        "t/l/../r",
    ];
    let reads: Vec<Read> = copies
        .into_iter()
        .map(copy)
        .chain(parents.into_iter().map(copy_parents))
        .chain([copy_excluding("a", &["b/e"]), bind("o/s"), bind("u"), Read::All])
        .collect();
    for ignore in ["", "a/b\n!a/b/c.txt", "o/r\n**/d"] {
        for some in &reads {
            let alone = take(&root, ignore, std::slice::from_ref(some));
            let wide = take(&root, ignore, &reads);
            let narrow = wide.narrowed(std::slice::from_ref(some));
            for entry in alone.entries() {
                let path = String::from_utf8_lossy(entry.path);
                assert!(narrow.find(entry.path).is_some(), "{some:?} with {ignore:?} needs {path}");
            }
            assert!(narrow.entries().all(|entry| wide.find(entry.path) == Some(entry)));
            for other in &reads {
                let both = [some.clone(), other.clone()];
                let (two, one) = (take(&root, ignore, &both), std::slice::from_ref(some));
                for entry in alone.entries() {
                    assert!(two.narrowed(one).find(entry.path).is_some(), "{both:?} {ignore:?}");
                }
            }
        }
    }
    let narrowed = |some: &[Read]| paths(&take(&root, "", &reads).narrowed(some));
    assert_eq!(narrowed(&[]), [""; 0]);
    assert_eq!(narrowed(&[copy("u")]), ["u/", "u/v"]);
    assert_eq!(narrowed(&[copy("t/b/e")]), ["a/", "a/b/", "a/b/e/", "a/b/e/f", "t -> a"]);
    assert_eq!(narrowed(&[copy_parents("o/p/q"), bind("w")]), ["o/", "o/p/", "o/p/q", "w"]);
    assert_eq!(narrowed(&[copy("o/*/q")])[..3], ["a/", "a/b/", "a/b/c.txt"], "o/s leads there");
}
