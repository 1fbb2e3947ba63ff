//! Names of images and repositories: those that were given, and those of a pipeline.

use std::str::FromStr;

use super::{Environment, Error, file, text};
use crate::{
    cli::BuildOptions,
    registry::{InvalidReference, Reference, Repository},
};

/// The tags asked for, or those of the GitLab pipeline that this runs in.
pub(super) fn tags(
    options: &BuildOptions,
    settings: &file::Settings,
    environment: &Environment,
) -> Result<Vec<Reference>, Error> {
    let typed = if options.tag.is_empty() { &settings.tags } else { &options.tag };
    let mut tags = Vec::new();
    let mut add = |option, text: &str| -> Result<(), Error> {
        let reference: Reference = named(option, text)?;
        let reference = reference.or_latest();
        if !tags.contains(&reference) {
            tags.push(reference);
        }
        Ok(())
    };
    let option = if options.tag.is_empty() { "tags in the settings file:" } else { "--tag" };
    for text in typed {
        add(option, text)?;
    }
    if typed.is_empty()
        && let (Some(image), Some(pipeline)) =
            (text(environment, "IMAGE_URL")?, text(environment, "CI_PIPELINE_IID")?)
    {
        add("IMAGE_URL and CI_PIPELINE_IID", &format!("{image}:{pipeline}"))?;
        add("IMAGE_URL", &format!("{image}:latest"))?;
    }
    Ok(tags)
}

/// What a pipeline would have to set beside what it has set.
pub(super) fn missing_of_a_pipeline(environment: &Environment) -> Result<&'static str, Error> {
    let has = |name| text(environment, name).map(|value| value.is_some());
    Ok(match (has("IMAGE_URL")?, has("CI_PIPELINE_IID")?) {
        (true, false) => ", or set CI_PIPELINE_IID beside IMAGE_URL",
        (false, true) => ", or set IMAGE_URL to the repository, as this GitLab pipeline needs it",
        _ => ", or set IMAGE_URL and CI_PIPELINE_IID as a GitLab pipeline does",
    })
}

/// Reads the name of a repository that was given as `option`.
///
/// # Errors
/// When it is none.
pub fn repository(option: &'static str, text: &str) -> Result<Repository, Error> {
    named(option, text)
}

/// Reads a name of an image or a repository. A login that somebody wrote into it is not repeated.
pub(super) fn named<T: FromStr<Err = InvalidReference>>(
    option: &'static str,
    text: &str,
) -> Result<T, Error> {
    text.parse().map_err(|error| match without_login(text) {
        Some(safe) => Error::option(
            option,
            safe,
            "a login is no part of a name: give it as REGISTRY_USERNAME and REGISTRY_PASSWORD, or \
             with `docker login`",
        ),
        None => Error::option(option, text, error),
    })
}

/// The text without what stands before an `@`, unless that is followed by a digest.
fn without_login(text: &str) -> Option<String> {
    let (before, after) = text.rsplit_once('@')?;
    let scheme = before.find("://").map_or("", |end| &before[..end + 3]);
    let is_digest = scheme.is_empty() && !before.contains('@') && after.starts_with("sha");
    (!is_digest).then(|| format!("{scheme}***@{after}"))
}
