//! The part of a tree that some of its reads need, found without another look at the disk: what
//! changed there since the scan must not decide what is served.

use std::collections::BTreeSet;

use super::{
    Kind, Read, glob,
    select::{MOST_LINKS, pivot, reversed_names},
    text::{below_root, clean, join},
    tree::Tree,
};

impl Tree {
    /// What those reads need of a tree that was scanned for them and for others: never less than a
    /// scan for them alone would take, and more only where a wildcard or `--exclude` of theirs meets
    /// what the others took.
    #[must_use]
    pub fn narrowed(&self, reads: &[Read]) -> Tree {
        let mut kept = Kept { tree: self, whole: BTreeSet::new(), way: BTreeSet::new() };
        for read in reads {
            kept.add(read);
        }
        self.filtered(|path| kept.has(path))
    }
}

/// What is kept of a tree.
struct Kept<'a> {
    tree: &'a Tree,
    /// Paths that are kept with everything below them.
    whole: BTreeSet<Vec<u8>>,
    /// What leads there: directories and links.
    way: BTreeSet<Vec<u8>>,
}

impl Kept<'_> {
    fn add(&mut self, read: &Read) {
        match read {
            Read::All => self.keep(Vec::new()),
            Read::Bind { source } => {
                if let Some(end) = self.follow(&below_root(source)) {
                    self.keep(end);
                }
            }
            Read::Copy { source, parents, .. } => {
                let (base, pattern) = pivot(source, *parents);
                let (literal, is_whole) = without_wildcards(&base, glob::has_wildcard);
                let Some(end) = self.follow(&literal) else { return };
                if !is_whole {
                    // What a wildcard matches is followed in turn.
                    for link in self.links_below(&end) {
                        if let Some(end) = self.follow(&link) {
                            self.keep(end);
                        }
                    }
                }
                // Patterns escape and negate: only what surely stands for itself is gone by.
                let is_special = |name: &[u8]| {
                    name.iter().any(|byte| b"\\!".contains(byte)) || glob::has_wildcard(name)
                };
                let (below, _) = without_wildcards(&pattern, is_special);
                self.keep(if below.is_empty() { end } else { join(&end, &below) });
            }
        }
    }

    /// Follows a path as it was followed on disk, and keeps every link on the way: where it ends, if
    /// that is in the tree.
    fn follow(&mut self, path: &[u8]) -> Option<Vec<u8>> {
        let mut pending = reversed_names(path);
        let (mut current, mut links) = (Vec::new(), 0);
        while let Some(name) = pending.pop() {
            if name == b".." {
                let parent = current.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                current.truncate(parent);
                continue;
            }
            let next = join(&current, &name);
            let Kind::Symlink { target } = self.tree.find(&next)?.kind else {
                current = next;
                continue;
            };
            links += 1;
            if links > MOST_LINKS {
                return None;
            }
            let target = clean(target);
            if target.first() == Some(&b'/') {
                current.clear();
            }
            pending.extend(reversed_names(&target));
            self.lead_to(&next);
        }
        Some(current)
    }

    /// The links in a directory, however deep.
    fn links_below(&self, directory: &[u8]) -> Vec<Vec<u8>> {
        let is_below = |path: &[u8]| {
            let rest = path.strip_prefix(directory);
            directory.is_empty() || rest.is_some_and(|rest| rest.starts_with(b"/"))
        };
        let entries = self.tree.entries();
        let links = entries.filter(|entry| matches!(entry.kind, Kind::Symlink { .. }));
        links.map(|link| link.path).filter(|path| is_below(path)).map(<[u8]>::to_vec).collect()
    }

    fn keep(&mut self, path: Vec<u8>) {
        self.lead_to(&path);
        self.whole.insert(path);
    }

    fn lead_to(&mut self, path: &[u8]) {
        self.way.extend(above(path).map(<[u8]>::to_vec));
        self.way.insert(path.to_vec());
    }

    fn has(&self, path: &[u8]) -> bool {
        let is_whole = |path: &[u8]| self.whole.contains(path);
        self.way.contains(path) || is_whole(b"") || is_whole(path) || above(path).any(is_whole)
    }
}

/// The directories that a path lies in, but for the root.
fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(end, _)| &path[..end])
}

/// The names of a path before the first one that is special, and whether that is all of them.
fn without_wildcards(path: &[u8], is_special: impl Fn(&[u8]) -> bool) -> (Vec<u8>, bool) {
    let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let end = names.iter().position(|name| is_special(name)).unwrap_or(names.len());
    (names[..end].join(&b'/'), end == names.len())
}
