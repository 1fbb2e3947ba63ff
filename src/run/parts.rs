//! A request for several platforms: the build of each, and the key of them all.
//!
//! A request for one platform is the same with one build; nothing else needs to know how many.

use std::collections::BTreeSet;

use futures_util::future::try_join_all;

use super::{Error, Prepared, World, prepare};
use crate::{
    inputs::{Key, Parts},
    plan::Wish,
    settings::Request,
};

/// What is known of every platform that was asked for, before anybody is asked for the image.
#[derive(Debug)]
pub struct Whole {
    /// The key of the image: of the index where there are several platforms.
    pub key: Key,
    /// The build of each platform.
    pub parts: Vec<Part>,
}

/// The build for one platform.
#[derive(Debug)]
pub struct Part {
    /// The request for this platform alone.
    pub request: Request,
    /// What its image depends on.
    pub prepared: Prepared,
}

/// Finds out what the images of every platform of `request` depend on.
///
/// # Errors
/// Those of [`prepare`].
pub async fn prepare_all(request: &Request, world: &World) -> Result<Whole, Error> {
    let parts = request.for_each_platform().into_iter().map(async |request| {
        let prepared = prepare(&request, world).await?;
        Ok::<_, Error>(Part { request, prepared })
    });
    let parts = try_join_all(parts.collect::<Vec<_>>()).await?;
    Ok(Whole { key: keys(&parts).key(), parts })
}

fn keys(parts: &[Part]) -> Parts {
    parts.iter().map(|part| (part.request.target_platform(), part.prepared.key)).collect()
}

impl Whole {
    /// The key of the image of each platform.
    pub(super) fn keys(&self) -> Parts {
        keys(&self.parts)
    }

    /// What a person should know of how the keys came about; once, for however many platforms.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        distinct(self.parts.iter().flat_map(|part| &part.prepared.warnings))
    }

    /// Why the key does not cover everything, where it does not.
    #[must_use]
    pub fn not_skippable(&self) -> Option<String> {
        let reasons = distinct(self.parts.iter().filter_map(|p| p.prepared.not_skippable.as_ref()));
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    pub(super) fn wish(&self, request: &Request) -> Wish {
        Wish { forced: request.forced(), not_skippable: self.not_skippable() }
    }
}

/// The texts in their order, none twice.
fn distinct<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    texts.filter(|text| seen.insert(*text)).cloned().collect()
}
