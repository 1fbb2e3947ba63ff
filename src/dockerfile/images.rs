//! The images of elsewhere that a Dockerfile names.

use std::ops::Range;

use crate::platform::Platform;

/// An image at a platform: what has one digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageKey {
    /// The name as the Dockerfile says it, after expansion.
    pub name: String,
    /// The platform it is asked for.
    pub platform: Platform,
}

/// How an image is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// `FROM`: its configuration (environment, `ONBUILD` triggers) matters too; see [`BaseImage`].
    Base,
    /// `COPY --from=`.
    Copy,
    /// `RUN --mount=from=`.
    Mount,
}

/// One place where the target's stages use an image that is none of the stages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUse {
    /// The image.
    pub key: ImageKey,
    /// What for.
    pub role: Role,
    /// The line of the instruction, from 1; of the `FROM` for what an `ONBUILD` trigger uses.
    pub line: usize,
    /// Byte offset in the text just after the name, where a digest can be put: see
    /// [`Dockerfile::pin`](super::Dockerfile::pin). `None` if the name stands elsewhere (in a
    /// trigger of a base image) and cannot be pinned.
    pub end: Option<usize>,
    /// The `--build-context` that takes the place of the image; then there is nothing to resolve.
    pub context: Option<String>,
    /// What the image takes the place of, where a `--build-context` says so.
    pub replaced: Option<Replaced>,
}

/// What stands in the text where an image should: the name of a `--build-context`, or a stage of that
/// name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// The context.
    pub context: String,
    /// The bytes that the image takes the place of.
    pub(super) span: Range<usize>,
    /// The name of the stage, if all of it is replaced.
    pub(super) stage: Option<String>,
}

/// What the configuration of a base image says that matters to what is built on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseImage {
    /// `config.Env`, as names and values.
    pub env: Vec<(String, String)>,
    /// `config.OnBuild`.
    pub onbuild: Vec<String>,
}

/// The shortest way to write a name, as `docker images` prints it: without `docker.io/`,
/// `library/` and `:latest`. Contexts that replace images are found by it.
/// (`distribution/reference: normalize.go`)
#[must_use]
pub fn familiar(name: &str) -> String {
    let (domain, path) = match name.split_once('/') {
        Some((domain, path))
            if domain.contains(['.', ':'])
                || domain == "localhost"
                || domain != domain.to_lowercase() =>
        {
            (domain, path)
        }
        _ => ("docker.io", name),
    };
    let path = path.strip_suffix(":latest").unwrap_or(path);
    match domain {
        "docker.io" | "index.docker.io" => match path.strip_prefix("library/") {
            Some(short) if !short.contains('/') => short.to_owned(),
            _ => path.to_owned(),
        },
        _ => format!("{domain}/{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_to_write_a_name_are_one() {
        for name in ["alpine", "alpine:latest", "library/alpine", "docker.io/library/alpine:latest"]
        {
            assert_eq!(familiar(name), "alpine", "{name}");
        }
        for (name, short) in [
            ("index.docker.io/a/b:1", "a/b:1"),
            ("localhost/alpine", "localhost/alpine"),
            ("r.example:5000/library/alpine:latest", "r.example:5000/library/alpine"),
            ("alpine@sha256:00", "alpine@sha256:00"),
        ] {
            assert_eq!(familiar(name), short);
        }
    }
}
