//! The text that the engine is served: the same, with digests behind the names of images, and images
//! where a context stands for one.

use std::{collections::BTreeMap, ops::Range};

use thiserror::Error;

use super::{
    Frontend, ImageUse, Replaced,
    error::line_of,
    reuse::{in_place_of_stage, lines},
};

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
    escape: char,
    uses: impl IntoIterator<Item = (&'a ImageUse, Option<&'a str>)>,
    frontend: Option<(&Frontend, &str)>,
) -> Result<Vec<u8>, PinConflict> {
    // What a name is made of (variables, quotes, continued lines) stays as it is, unless another takes
    // its place.
    let mut edits: BTreeMap<usize, Edit> = BTreeMap::new();
    for (found, digest) in uses {
        let name = &found.key.name;
        let digest = digest.filter(|_| !name.contains('@'));
        let edit = match (&found.replaced, found.end, digest) {
            (Some(replaced), ..) => Edit::replacing(replaced, text, escape, name, digest),
            (None, Some(end), Some(digest)) if found.context.is_none() => Edit::behind(end, digest),
            _ => continue,
        };
        let end = edit.span.end;
        if *edits.entry(end).or_insert_with(|| edit.clone()) != edit {
            return Err(PinConflict { line: line_of(text, end), name: name.clone() });
        }
    }
    if let Some((Frontend { image, span: Some(span), .. }, digest)) = frontend
        && !image.contains('@')
    {
        edits.insert(span.end, Edit::behind(span.end, digest));
    }

    let mut pinned = Vec::with_capacity(text.len() + edits.len() * 72);
    let mut from = 0;
    for Edit { span, text: new } in edits.into_values() {
        let (start, end) = (span.start.clamp(from, text.len()), span.end.clamp(from, text.len()));
        pinned.extend_from_slice(&text[from..start]);
        pinned.extend_from_slice(new.as_bytes());
        from = end;
    }
    pinned.extend_from_slice(&text[from..]);
    Ok(pinned)
}

/// Bytes of the text, and what stands there instead.
#[derive(Clone, PartialEq, Eq)]
struct Edit {
    span: Range<usize>,
    text: String,
}

impl Edit {
    /// A digest behind what ends there.
    fn behind(end: usize, digest: &str) -> Self {
        Self { span: end..end, text: format!("@{digest}") }
    }

    /// An image instead of the context that stands for it. Every line that is left stands where it was.
    fn replacing(
        Replaced { span, stage, .. }: &Replaced,
        text: &[u8],
        escape: char,
        name: &str,
        digest: Option<&str>,
    ) -> Self {
        let digest = digest.map(|digest| format!("@{digest}")).unwrap_or_default();
        let old = text.get(span.clone()).unwrap_or_default();
        let image = format!("{name}{digest}");
        let new = match stage {
            Some(stage) => in_place_of_stage(old, stage, &image),
            None => image + &format!("{escape}\n").repeat(lines(old)),
        };
        Self { span: span.clone(), text: new }
    }
}
