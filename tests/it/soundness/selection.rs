//! The files in the key are the files that land in the image.
//!
//! Every file has content of its own and every name is there once, so that nothing in the image lies
//! over something else, and a file is known by its content wherever it lands.

use std::{collections::BTreeSet, fs};

use fastrand::Rng;
use smartbuild::{cli::BuildOptions, context::Kind};
use smartbuild_test_rig::sha256;

use super::{
    Bench, maker, number, summary,
    tree::{Checkout, Node, Tree, link},
};

#[test]
#[ignore = "needs an engine and a registry: run tests/run.sh"]
fn the_files_in_the_key_are_the_files_that_land_in_the_image() {
    let bench = Bench::new();
    let count = number("SMARTBUILD_TEST_SELECTIONS").unwrap_or(60);
    let first = number("SMARTBUILD_TEST_SEED").unwrap_or_else(|| u64::from(Rng::new().u32(..)));
    summary::say(&format!("selection: {count} cases from seed {first}"));
    let mut faults = Vec::new();
    let (mut built, mut files) = (0, 0);
    for seed in first..first + count {
        match check(&bench, seed) {
            Ok(None) => {}
            Ok(Some(landed)) => {
                built += 1;
                files += landed;
            }
            Err(fault) => {
                summary::say(&fault);
                faults.push(fault);
            }
        }
    }
    summary::say(&format!(
        "selection: {count} cases, {built} built, {files} files, {} faults",
        faults.len()
    ));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// How many files landed; `None` where the engine does not build it.
fn check(bench: &Bench, seed: u64) -> Result<Option<usize>, String> {
    let mut rng = Rng::with_seed(seed);
    let tree = tree(&mut rng);
    let ignore = maker::ignore(&mut rng, &tree, bench.features);
    let mut text = "FROM scratch\n".to_owned();
    for number in 0..rng.usize(1..=5) {
        // One source for each destination: what a link leads to, copied under the link's name, would
        // be covered by the link itself from another source.
        let source = source(&mut rng, &tree);
        let name = match rng.u8(..8) {
            0 => "ADD",
            1 if bench.features.parents => "COPY --parents",
            2 if bench.features.exclude => "COPY --exclude=**/*.txt",
            3 if bench.features.exclude => "COPY --exclude=f? --exclude=sub",
            _ => "COPY",
        };
        text += &format!("{name} {source} /{number}/\n");
    }
    let directory = tempfile::tempdir().unwrap();
    let (context, beside) = (directory.path().join("context"), directory.path().join("docker"));
    fs::create_dir_all(&context).unwrap();
    fs::create_dir_all(&beside).unwrap();
    tree.write(&context, Checkout::Plain);
    fs::write(context.join(".dockerignore"), ignore.join("\n")).unwrap();
    fs::write(beside.join("Dockerfile"), &text).unwrap();

    let said = || format!("##### seed {seed}\n{ignore:?}\n{text}{tree}");
    let options = BuildOptions {
        file: Some(beside.join("Dockerfile")),
        quiet: true,
        ..BuildOptions::default()
    };
    let prepared = bench.prepare_with(&options, &context);
    let built = match bench.oracle.directory(&context, &beside) {
        Ok(built) => built,
        Err(_) => return Ok(None),
    };
    let prepared = prepared.map_err(|error| format!("REFUSED: {error}\n{}", said()))?;
    let mut selected = BTreeSet::new();
    for entry in prepared.inputs.context.entries() {
        if let Kind::File { digest, .. } = entry.kind {
            selected.insert(format!("sha256:{}", hex::encode(digest)));
        }
    }
    let last = |description: &String| description.rsplit(' ').next().unwrap_or_default().to_owned();
    let landed = built.files.values().filter(|it| it.starts_with("Regular")).map(last);
    let landed: BTreeSet<String> = landed.collect();
    if landed == selected {
        return Ok(Some(landed.len()));
    }
    // The old client's ignore rules leave out files that the newer ones bring back: taking more than it
    // does is the newer rule, taking less would be a fault.
    if !bench.features.exceptions && landed.is_subset(&selected) && has_exceptions(&ignore) {
        return Ok(None);
    }
    let name = |digest: &String| {
        let of = |path: &String| match tree.get(path) {
            Some(Node::File { content, .. }) => sha256(content) == *digest,
            _ => false,
        };
        tree.files().into_iter().find(of).unwrap_or_else(|| "?".to_owned())
    };
    let missing: Vec<String> = landed.difference(&selected).map(name).collect();
    let idle: Vec<String> = selected.difference(&landed).map(name).collect();
    Err(format!("SELECTION: not in the key {missing:?}, only in the key {idle:?}\n{}", said()))
}

fn has_exceptions(ignore: &[String]) -> bool {
    ignore.iter().any(|line| line.starts_with('!'))
}

/// A tree in which no name is there twice.
fn tree(rng: &mut Rng) -> Tree {
    let mut tree = Tree::default();
    let directories = ["", "src/", "src/sub/", "lib/", "lib/a b/", "data/x/y/", "[z]/", ".git/"];
    for number in 0..rng.usize(6..16) {
        let directory = directories[rng.usize(..directories.len())];
        let ends = [".txt", ".md", ".c", "", "~", "[1]", ".tar", "*"];
        let path = format!("{directory}f{number}{}", ends[rng.usize(..ends.len())]);
        let content = format!("{path} {}\n", rng.u32(..));
        tree.insert(path, Node::file(content));
    }
    for number in 0..rng.usize(..3) {
        let (path, target) = link(rng, &tree);
        tree.insert(format!("{path}{number}"), Node::Link(target));
    }
    tree
}

/// A source, in the words of a Dockerfile.
fn source(rng: &mut Rng, tree: &Tree) -> String {
    const PATTERNS: [&str; 18] = [
        "*",
        "*.txt",
        "src/*",
        "src/*/*",
        "s*/f*",
        "[l-s]*",
        "*/*.md",
        ".",
        "src/",
        "/lib",
        "./*",
        "?*[0-9].txt",
        "*/f?.*",
        "data/*/y",
        "link*",
        "src/link*",
        "[[]z]",
        ".g*",
    ];
    let paths = tree.paths(|_| true);
    let path = &paths[rng.usize(..paths.len())];
    let path = match rng.u8(..4) {
        0 => path.clone(),
        1 => path.replace('[', "[[]").replace('*', "\\*"),
        _ => PATTERNS[rng.usize(..PATTERNS.len())].to_owned(),
    };
    path.replace(' ', "?")
}
