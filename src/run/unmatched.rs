//! What a step looked for in a context and did not find, in our words: the engine knows neither the
//! ignore file nor the directory that the context was made of.

use super::Prepared;
use crate::{
    context::Warning,
    dockerfile::{ContextRead, ReadKind},
};

/// How engines say that there is no such file (buildkit `cache/contenthash`, moby
/// `builder/dockerfile/copy.go`, containers/buildah `add.go`).
const WORDS: [&str; 6] = [
    "not found",
    "no such file",
    "does not exist",
    "no source files",
    "no items matching",
    "nothing in the build context",
];

/// What is the matter with a step on this line that failed with `message`, if it is that nothing of a
/// context matches what it reads.
pub(super) fn explained(prepared: &Prepared, line: usize, message: &str) -> Option<String> {
    let message = message.to_lowercase();
    if !WORDS.iter().any(|words| message.contains(words)) {
        return None;
    }
    let reads = prepared.slice.reads.iter().filter(|read| read.line == line);
    let mut missing: Vec<String> =
        reads.flat_map(|read| unmatched(prepared, read)).map(ToString::to_string).collect();
    missing.dedup();
    (!missing.is_empty()).then(|| missing.join("; "))
}

/// What the scan said of what is read here.
fn unmatched<'p>(
    prepared: &'p Prepared,
    read: &'p ContextRead,
) -> impl Iterator<Item = &'p Warning> {
    let sources = match &read.kind {
        ReadKind::Copy { sources, .. } => sources.as_slice(),
        ReadKind::Bind { source } => std::slice::from_ref(source),
        ReadKind::All => &[],
    };
    let inputs = &prepared.inputs;
    let tree = match &read.context {
        None => Some(&inputs.context),
        Some(name) => inputs.contexts.get(name),
    };
    let warnings = tree.into_iter().flat_map(|tree| &tree.warnings);
    warnings.filter(move |warning| match warning {
        Warning::NothingSelected { source, .. } => {
            sources.iter().any(|of| of.as_bytes() == source.as_slice())
        }
        Warning::Special { .. } => false,
    })
}
