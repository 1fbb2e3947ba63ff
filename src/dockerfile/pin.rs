//! The text that the engine is served: the same, with digests behind the names of images.

use std::collections::BTreeMap;

use thiserror::Error;

use super::{Frontend, ImageUse, error::line_of};

/// One place cannot be pinned, because it has two digests.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "line {line} of the Dockerfile names an image that is another one for each platform (`{name}` \
     is one of them): the platforms must be built one by one"
)]
pub struct PinConflict {
    /// The line, from 1.
    pub line: usize,
    /// One of the names that it stands for.
    pub name: String,
}

pub(super) fn pin<'a>(
    text: &[u8],
    digests: impl IntoIterator<Item = (&'a ImageUse, &'a str)>,
    frontend: Option<(&Frontend, &str)>,
) -> Result<Vec<u8>, PinConflict> {
    // Only insertions: what a name is made of (variables, quotes, continued lines) stays as it is.
    let mut insertions: BTreeMap<usize, &str> = BTreeMap::new();
    for (found, digest) in digests {
        let name = &found.key.name;
        let Some(end) = found.end.filter(|_| found.context.is_none() && !name.contains('@')) else {
            continue;
        };
        if *insertions.entry(end).or_insert(digest) != digest {
            return Err(PinConflict { line: line_of(text, end), name: name.clone() });
        }
    }
    if let Some((Frontend { image, span: Some(span), .. }, digest)) = frontend
        && !image.contains('@')
    {
        insertions.insert(span.end, digest);
    }

    let mut pinned = Vec::with_capacity(text.len() + insertions.len() * 72);
    let mut from = 0;
    for (end, digest) in insertions {
        let end = end.clamp(from, text.len());
        pinned.extend_from_slice(&text[from..end]);
        pinned.push(b'@');
        pinned.extend_from_slice(digest.as_bytes());
        from = end;
    }
    pinned.extend_from_slice(&text[from..]);
    Ok(pinned)
}
