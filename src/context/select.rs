//! From what a stage reads to where the walk has to go: sources resolved inside the context, links
//! followed name by name, wildcards expanded.
//!
//! The rules are those of the copy operation of BuildKit (tonistiigi/fsutil: `copy/copy.go`,
//! `followlinks.go`): a source is cleaned before anything is followed; a link is followed wherever
//! it stands in a source, inside the context as if that were `/`, but not where it is found inside a
//! copied directory; wildcards are matched against names in real directories, and what they match is
//! followed in turn, but not behind a directory that itself matched a wildcard: there the client sends
//! a link without what it leads to.

use std::{collections::BTreeMap, io};

use super::{
    Error, Read,
    directory::{FileKind, Root, native_path},
    glob,
    ignore::{Ignore, IgnoreError},
    patterns::{Matched, Patterns},
    text::{below_root, clean, join},
};

/// As many links as BuildKit follows for one source.
pub(super) const MOST_LINKS: usize = 255;

/// Where to go: a tree of names, with what is taken at each.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) children: BTreeMap<Vec<u8>, Node>,
    /// Takes this, and everything below it.
    pub(super) everything: bool,
    /// Takes this, and what these let through below it.
    pub(super) filters: Vec<Filter>,
    /// A link on the way to something that is taken: it is taken itself.
    pub(super) link: bool,
    /// A directory that a wildcard looks into: the engine fails if it is not there, even where
    /// nothing has to match.
    pub(super) searched: bool,
}

/// What is selected.
pub(super) struct Selection<'r> {
    pub(super) tree: Node,
    /// What nothing matches.
    pub(super) unmatched: Vec<&'r Read>,
    /// Sources that are ignored directories: nothing is there unless something in them is not ignored.
    pub(super) doubtful: Vec<(&'r Read, Vec<u8>)>,
}

/// What is taken below a directory, by paths relative to it.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    /// `COPY --parents`: what matches, and the directories above it.
    pub(super) include: Option<Patterns>,
    /// `COPY --exclude`: not what matches.
    pub(super) exclude: Patterns,
}

/// Resolves all that is read. That something is not there is no error: the engine has the last word on
/// it.
pub(super) fn resolve<'r>(
    root: &Root,
    ignore: &Ignore,
    reads: &'r [Read],
) -> Result<Selection<'r>, Error> {
    let mut resolver = Resolver { root, ignore, tree: Node::default(), ignored: Vec::new() };
    let (mut unmatched, mut doubtful) = (Vec::new(), Vec::new());
    for read in reads {
        let found = match read {
            Read::All => resolver.take(b"", None),
            Read::Bind { source } => resolver.follow_and_take(&below_root(source), None)?,
            Read::Copy { source, parents, exclude } => {
                let (source, filter) = filter_of(source, *parents, exclude)?;
                resolver.copy(&source, filter.as_ref())?
            }
        };
        if !found {
            unmatched.push(read);
        }
        let ignored = resolver.ignored.drain(..).map(|path| (read, path));
        doubtful.extend(ignored.filter(|_| found));
    }
    Ok(Selection { tree: resolver.tree, unmatched, doubtful })
}

/// The first that is there of what a source stands for, where nothing is ignored.
pub(super) fn there(root: &Root, source: &[u8]) -> Option<Vec<u8>> {
    let ignore = Ignore::none();
    let mut resolver =
        Resolver { root, ignore: &ignore, tree: Node::default(), ignored: Vec::new() };
    let names: Vec<&[u8]> = source.split(|byte| *byte == b'/').collect();
    let Some(wild) = names.iter().position(|name| glob::has_wildcard(name)) else {
        return resolver.follow(source).ok()?.map(|(path, _)| path);
    };
    let (literal, pattern) = names.split_at(wild);
    let (_, matches) = resolver.matches(literal, pattern).ok()??;
    matches.into_iter().next().map(|(path, _)| path)
}

/// Where a path of a directory, of which nothing is ignored, leads to a file.
pub(super) fn file(root: &Root, path: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    let ignore = Ignore::none();
    let mut resolver =
        Resolver { root, ignore: &ignore, tree: Node::default(), ignored: Vec::new() };
    let found = resolver.follow(path)?;
    Ok(found.and_then(|(path, kind)| (kind == FileKind::File).then_some(path)))
}

/// Splits a source with `--parents` at its pivot (`/./`), and compiles the patterns.
fn filter_of(
    source: &[u8],
    parents: bool,
    exclude: &[Vec<u8>],
) -> Result<(Vec<u8>, Option<Filter>), Error> {
    let mut filter = Filter { include: None, exclude: Patterns::default() };
    for pattern in exclude {
        add(&mut filter.exclude, pattern)?;
    }
    let (base, pattern) = pivot(source, parents);
    // A pattern of nothing, as in `COPY --parents . /`, takes everything.
    if !pattern.is_empty() {
        let mut include = Patterns::default();
        add(&mut include, &pattern)?;
        filter.include = Some(include);
    }
    let filters = filter.include.is_some() || !filter.exclude.is_empty();
    Ok((base, filters.then_some(filter)))
}

/// The part of a source that is followed, and with `--parents` the pattern that counts below it.
pub(super) fn pivot(source: &[u8], parents: bool) -> (Vec<u8>, Vec<u8>) {
    if !parents {
        return (below_root(source), Vec::new());
    }
    match source.windows(3).position(|bytes| bytes == b"/./") {
        Some(at) => (below_root(&source[..at]), below_root(&source[at + 3..])),
        None => (Vec::new(), below_root(source)),
    }
}

fn add(patterns: &mut Patterns, pattern: &[u8]) -> Result<(), Error> {
    patterns.add(pattern).map_err(|reason| {
        let pattern = String::from_utf8_lossy(pattern).into_owned();
        Error::Pattern(IgnoreError { line: 1, pattern, reason })
    })
}

/// What matches a wildcard.
type Matches = Vec<(Vec<u8>, FileKind)>;

struct Resolver<'a> {
    root: &'a Root,
    ignore: &'a Ignore,
    tree: Node,
    /// Directories that are sources, and ignored.
    ignored: Vec<Vec<u8>>,
}

impl Resolver<'_> {
    fn copy(&mut self, source: &[u8], filter: Option<&Filter>) -> Result<bool, Error> {
        let names: Vec<&[u8]> = source.split(|byte| *byte == b'/').collect();
        let Some(wild) = names.iter().position(|name| glob::has_wildcard(name)) else {
            return self.follow_and_take(source, filter);
        };
        let (literal, pattern) = names.split_at(wild);
        let Some((base, matches)) = self.matches(literal, pattern)? else { return Ok(false) };
        let mut found = false;
        for (path, kind) in matches {
            let name = path.get(base.len()..).unwrap_or_default();
            let behind_wildcard = pattern.len() > 1 || below_root(name).contains(&b'/');
            if behind_wildcard && kind == FileKind::Symlink {
                self.node(&path).link = true;
                found = true;
            } else {
                found |= self.follow_and_take(&path, filter)?;
            }
        }
        Ok(found)
    }

    /// What matches a pattern below a directory, and where that is; `None` if it is not there.
    fn matches(
        &mut self,
        literal: &[&[u8]],
        pattern: &[&[u8]],
    ) -> Result<Option<(Vec<u8>, Matches)>, Error> {
        let Some((base, FileKind::Directory)) = self.follow(&literal.join(&b'/'))? else {
            return Ok(None);
        };
        self.node(&base).searched = true;
        let mut matches = Vec::new();
        let parent = self.matched(&base);
        self.expand(&base, &base, pattern, parent.as_ref(), &mut matches)?;
        Ok(Some((base, matches)))
    }

    /// What the ignore file says of a directory, from the root down; `None` for the root.
    fn matched(&self, directory: &[u8]) -> Option<Matched> {
        let mut matched = None;
        for (end, _) in directory.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            matched = Some(self.ignore.enter(&directory[..end], matched.as_ref()).1);
        }
        (!directory.is_empty()).then(|| self.ignore.enter(directory, matched.as_ref()).1)
    }

    /// Finds what matches a pattern below `base`, in the order of a walk. Nothing is looked for
    /// inside of a match.
    fn expand(
        &self,
        base: &[u8],
        directory: &[u8],
        pattern: &[&[u8]],
        parent: Option<&Matched>,
        matches: &mut Matches,
    ) -> Result<(), Error> {
        let names = match self.root.directory(directory).and_then(|found| found.names()) {
            Ok(names) => names,
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) => return Err(unreadable(directory, error)),
        };
        // Names pair off with parts of the pattern, unless something in it may match a `/`: then
        // every path is tried.
        let by_name = !pattern.iter().any(|part| glob::may_take_slash(part));
        let whole = pattern.join(&b'/');
        for (name, kind) in names.iter() {
            let path = join(directory, name);
            let relative = if base.is_empty() { &path[..] } else { &path[base.len() + 1..] };
            let matched = glob::matches(&whole, relative).unwrap_or(false);
            let depth = relative.iter().filter(|byte| **byte == b'/').count();
            let may_hold = !by_name
                || depth + 1 < pattern.len()
                    && pattern.get(depth).is_some_and(|part| glob::matches(part, name) == Ok(true));
            if !matched && !may_hold {
                continue;
            }
            let kind = match kind {
                Some(kind) => kind,
                None => match self.root.metadata(&path) {
                    Ok(metadata) => metadata.kind,
                    Err(error) if is_gone(&error) => continue,
                    Err(error) => return Err(unreadable(&path, error)),
                },
            };
            let (ignored, own) = self.ignore.enter(&path, parent);
            let visible =
                !ignored || kind == FileKind::Directory && self.ignore.may_include_below(&path);
            if !visible {
                continue;
            }
            if matched {
                matches.push((path, kind));
            } else if kind == FileKind::Directory {
                self.expand(base, &path, pattern, Some(&own), matches)?;
            }
        }
        Ok(())
    }

    fn follow_and_take(&mut self, path: &[u8], filter: Option<&Filter>) -> Result<bool, Error> {
        match self.follow(path)? {
            None => Ok(false),
            // A file that is a source itself is copied whatever `--exclude` says.
            Some((path, FileKind::Directory)) => {
                if self.ignore.excludes(&path) {
                    self.ignored.push(path.clone());
                }
                Ok(self.take(&path, filter))
            }
            Some((path, _)) => Ok(self.take(&path, None)),
        }
    }

    /// Follows a path from the root, taking every link on the way: where it ends, and what is there.
    /// `None` if the engine would find nothing there.
    fn follow(&mut self, path: &[u8]) -> Result<Option<(Vec<u8>, FileKind)>, Error> {
        let mut pending: Vec<Vec<u8>> = reversed_names(path);
        let mut current: Vec<u8> = Vec::new();
        let mut kind = FileKind::Directory;
        let mut links = 0;
        while let Some(name) = pending.pop() {
            if name == b".." {
                let parent = current.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                current.truncate(parent);
                kind = FileKind::Directory;
                continue;
            }
            let next = join(&current, &name);
            kind = match self.root.metadata(&next) {
                Ok(metadata) => metadata.kind,
                Err(error) if is_gone(&error) => return Ok(None),
                Err(error) => return Err(unreadable(&next, error)),
            };
            if kind != FileKind::Symlink {
                current = next;
                continue;
            }
            links += 1;
            if links > MOST_LINKS || self.ignore.excludes(&next) {
                return Ok(None);
            }
            let target = match self.root.read_link(&next) {
                Ok(target) => clean(&target),
                Err(error) if is_gone(&error) => return Ok(None),
                Err(error) => return Err(unreadable(&next, error)),
            };
            self.node(&next).link = true;
            if target.first() == Some(&b'/') {
                current.clear();
            }
            pending.extend(reversed_names(&target));
        }
        let visible = kind == FileKind::Directory || !self.ignore.excludes(&current);
        Ok(visible.then_some((current, kind)))
    }

    fn take(&mut self, path: &[u8], filter: Option<&Filter>) -> bool {
        let node = self.node(path);
        match filter {
            None => node.everything = true,
            Some(filter) => node.filters.push(filter.clone()),
        }
        true
    }

    fn node(&mut self, path: &[u8]) -> &mut Node {
        path.split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
            .fold(&mut self.tree, |node, name| node.children.entry(name.to_vec()).or_default())
    }
}

/// The names of a clean path, the first one last.
pub(super) fn reversed_names(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/')
        .rev()
        .filter(|name| !name.is_empty() && *name != b".")
        .map(<[u8]>::to_vec)
        .collect()
}

/// Whether an error says that there is nothing there.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

pub(super) fn unreadable(path: &[u8], source: io::Error) -> Error {
    let path = if path.is_empty() { b"." } else { path };
    Error::Unreadable { path: native_path(path).into_owned(), source }
}
