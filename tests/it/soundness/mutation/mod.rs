//! One change at a time: what changes, and whether an image may see it.

mod checkout;
mod choice;
mod files;
mod options;
mod text;

use fastrand::Rng;

use super::case::Case;

/// What an image may see of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// Whatever the engine makes of it.
    Open,
    /// Nothing: the key must stay.
    Nothing,
    /// Nothing, since the engine is served other permissions than those on disk: the key must stay,
    /// but a build by another client tells nothing.
    NothingServed,
}

/// A way to change a case.
pub(super) struct Mutation {
    pub(super) name: &'static str,
    /// Makes the change; `None` where the case has no place for it.
    pub(super) apply: fn(&mut Case, &mut Rng) -> Option<Sight>,
}

/// Every way there is.
pub(super) fn all() -> impl Iterator<Item = &'static Mutation> {
    [files::MUTATIONS, options::MUTATIONS, text::MUTATIONS, checkout::MUTATIONS]
        .into_iter()
        .flatten()
}
