//! Why nothing of the context matches a source: the ignore file leaves it out, or it is called
//! otherwise.
//!
//! Only explains. What is selected is decided elsewhere, and whether a build fails for it, by the
//! engine.

use std::fmt;

use super::{
    Read, Warning,
    directory::Root,
    glob,
    ignore::{Ignore, IgnoredBy},
    select::{self, pivot},
    text::{below_root, join},
};
use crate::nearest::nearest;

/// Why nothing matches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    /// It is there, and ignored.
    Ignored {
        /// What is there, relative to the context.
        path: Vec<u8>,
        /// What leaves it out.
        by: IgnoredBy,
    },
    /// It is not there, and this is, which is called almost like it.
    Nearest(Vec<u8>),
}

/// What follows a source that nothing matches.
pub(super) struct Explained<'a> {
    pub(super) source: &'a [u8],
    pub(super) why: Option<&'a Missing>,
}

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = String::from_utf8_lossy(self.source);
        write!(f, "nothing in the build context matches `{source}`")?;
        match self.why {
            None => Ok(()),
            Some(Missing::Nearest(path)) => {
                write!(f, "; there is `{}`", String::from_utf8_lossy(path))
            }
            Some(Missing::Ignored { path, by: IgnoredBy { file, line, pattern } }) => {
                match path == self.source {
                    true => f.write_str(": it is there")?,
                    false => write!(f, ": `{}` is there", String::from_utf8_lossy(path))?,
                }
                write!(f, ", but line {line} of {file} (`{pattern}`) leaves it out")
            }
        }
    }
}

/// The warning that nothing matches what is read.
pub(super) fn warning(root: &Root, ignore: &Ignore, read: &Read) -> Option<Warning> {
    let (Read::Copy { source, .. } | Read::Bind { source }) = read else { return None };
    let why = why(root, ignore, read);
    Some(Warning::NothingSelected { source: source.clone(), why })
}

/// Why nothing matches what is read, if that can be said.
fn why(root: &Root, ignore: &Ignore, read: &Read) -> Option<Missing> {
    let path = match read {
        Read::All => return None,
        Read::Bind { source } => below_root(source),
        // What follows the pivot filters what is there.
        Read::Copy { source, parents, .. } => match pivot(source, *parents) {
            (base, pattern) if base.is_empty() => pattern,
            (base, _) => base,
        },
    };
    let is_plain = !path.split(|byte| *byte == b'/').any(glob::has_wildcard);
    if let Some(end) = select::there(root, &path) {
        // A link on the way may be what is ignored, or where it leads to.
        let way = is_plain.then(|| path.clone());
        return way.into_iter().chain([end]).find_map(|path| {
            let by = ignore.line(&path)?;
            Some(Missing::Ignored { path, by })
        });
    }
    is_plain.then(|| near(root, ignore, &path)).flatten().map(Missing::Nearest)
}

/// The path with the first name that is not there put right.
fn near(root: &Root, ignore: &Ignore, path: &[u8]) -> Option<Vec<u8>> {
    let mut above = Vec::new();
    let mut names = path.split(|byte| *byte == b'/');
    let missing = names.find(|name| {
        let next = join(&above, name);
        let is_there = root.metadata(&next).is_ok();
        if is_there {
            above = next;
        }
        !is_there
    })?;
    let known = root.directory(&above).and_then(|directory| directory.names()).ok()?;
    let known =
        known.iter().map(|(name, _)| name).filter(|name| !ignore.excludes(&join(&above, name)));
    let known: Vec<&str> = known.filter_map(|name| std::str::from_utf8(name).ok()).collect();
    let meant = nearest(std::str::from_utf8(missing).ok()?, known)?;
    let meant = names.fold(join(&above, meant.as_bytes()), |path, name| join(&path, name));
    let is_there = !ignore.excludes(&meant) && root.metadata(&meant).is_ok();
    is_there.then_some(meant)
}
