//! How old the language is that a BuildKit reads Dockerfiles in: what one that is too old would take
//! for something else, and why it refuses what it does not know.

use super::{Buildkitd, Place};
use crate::{
    dockerfile::{Feature, frontend},
    engine::{
        Capabilities,
        build::{BuildError, BuildRequest},
    },
};

/// The minor version of `docker/dockerfile:1` that is in engines before Docker 23.0.
const OLD_FRONTEND: u32 = 2;
/// The first BuildKit with `docker/dockerfile:1.6`, which Docker 25.0 has.
const FIRST_WITH_GIT: (u32, u32) = (0, 12);

/// Refuses what this BuildKit would build as something else without a word: before 1.6, `ADD` of a
/// repository adds the page that is at its address, which the commit in the key says nothing about.
pub(super) fn check(place: &Place<'_>, request: &BuildRequest) -> Result<(), BuildError> {
    if !request.needs_buildkit.contains(&Feature::AddGit) {
        return Ok(());
    }
    let why = match (frontend(&request.dockerfile, &request.build_args), place) {
        (Some(frontend), _) => match frontend.minor() {
            Some(minor) if minor < Feature::AddGit.frontend() => {
                format!("{} does not know it; name docker/dockerfile:1 instead", frontend.image)
            }
            _ => return Ok(()),
        },
        (None, Place::Engine(_, capabilities)) if capabilities.knows_git() => return Ok(()),
        (None, Place::Daemon(daemon)) if knows_git(daemon) => return Ok(()),
        (None, _) => "its BuildKit is too old to know it by itself; begin the Dockerfile with \
                      `# syntax=docker/dockerfile:1`, or use Docker 25.0 or later, or a buildkitd from \
                      0.12"
            .to_owned(),
    };
    Err(BuildError::Unsupported { what: Feature::AddGit.name().to_owned(), why })
}

fn knows_git(daemon: &Buildkitd) -> bool {
    release(&daemon.version).is_none_or(|release| release >= FIRST_WITH_GIT)
        && !daemon.version.starts_with("before")
}

/// Major and minor number of a version; `None` for one that was made between versions.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.trim_start_matches('v').split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// A refusal of the Dockerfile, with the reason where it is the age of the engine.
pub(super) fn explained(
    error: BuildError,
    request: &BuildRequest,
    capabilities: &Capabilities,
) -> BuildError {
    let BuildError::Dockerfile { message } = &error else { return error };
    if capabilities.knows_contexts() || frontend(&request.dockerfile, &request.build_args).is_some()
    {
        return error;
    }
    let newer = |feature: &&Feature| feature.frontend() > OLD_FRONTEND;
    let Some(feature) = request.needs_buildkit.iter().find(newer) else { return error };
    let message = format!(
        "{message}: this engine is too old to know {} by itself; begin the Dockerfile with \
         `# syntax=docker/dockerfile:1`, or use Docker 23.0 or later",
        feature.name()
    );
    BuildError::Dockerfile { message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart() {
        assert_eq!(release("v0.11.6"), Some((0, 11)));
        assert_eq!(release("0.32.2+dfsg1"), Some((0, 32)));
        assert_eq!(release("v1.0-rc1"), None);
        assert_eq!(release("before v0.11"), None);
        assert_eq!(release(""), None);
    }
}
