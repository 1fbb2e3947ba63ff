//! The typed inputs of an image, their canonical encoding, the key that digests them, and what
//! differs between two of them.
//!
//! Knows what an image can depend on and how that is written down; must not know where any of it
//! came from: values in, values out, no I/O.
//!
//! [`Inputs`] is what is digested, what `smartbuild inputs` prints and what a registry keeps as the
//! record beside the image. Lines and sizes are carried for people and are not in the key.

mod difference;
mod encode;
mod files;
mod hidden;
mod key;
mod parts;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

pub use difference::Difference;
pub use key::{InvalidKey, Key};
pub use parts::Parts;

use crate::{context::Tree, platform::Platform, registry::Digest};

/// Everything that a target image depends on.
///
/// Order matters where it matters to the image (stages, instructions); everywhere else the
/// collections are sorted, so that two machines write the same list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// What the image is built for, sorted.
    pub platforms: Vec<Platform>,
    /// The stages that the target reaches, in the order of the file.
    pub stages: Vec<Stage>,
    /// Build arguments that those stages declare or use, with the value in force.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub arguments: BTreeMap<String, Option<String>>,
    /// Images of other repositories that those stages start from, copy from or mount.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Image>,
    /// Files of the build context that those stages select.
    #[serde(with = "files")]
    pub context: Arc<Tree>,
    /// The same for every named context (`--build-context NAME=PATH`).
    #[serde(default, with = "files::named", skip_serializing_if = "BTreeMap::is_empty")]
    pub contexts: BTreeMap<String, Arc<Tree>>,
    /// What the build fetches from elsewhere (`ADD https://…`, git).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remotes: Vec<Remote>,
    /// Identifiers of the secrets and ssh agents that those stages mount; never their values.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub secrets: BTreeSet<String>,
    /// Labels that the command line sets on the image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Options of the build that can change the image: `network`, `add-host`, `shm-size`, …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// The period that `--refresh` puts the build into: `2026-W48`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<String>,
}

/// One stage of the Dockerfile, in canonical form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Its name, or its number where it has none. Not in the key: instructions that use a stage
    /// name it by its place among these.
    pub name: String,
    /// Its instructions, `FROM` first.
    pub instructions: Vec<Instruction>,
}

/// One instruction in canonical form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction {
    /// The line of the Dockerfile that it starts on, from 1. Not in the key.
    pub line: usize,
    /// Name, flags and arguments, without comments and formatting.
    pub text: String,
}

/// An image that the build reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Image {
    /// As the Dockerfile names it, after expansion.
    pub name: String,
    /// The platform it is used at, where that is not the target's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What it was found to be.
    #[serde(flatten)]
    pub identity: ImageIdentity,
}

/// What makes an image that one and no other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageIdentity {
    /// The digest of its manifest or index in the registry.
    Digest(Digest),
    /// The identifier in the engine's store of an image that no registry has.
    EngineId(Digest),
    /// Its name alone: the user decides when it moves (`--base-policy tag`).
    NameOnly,
}

/// Something that the build fetches from outside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Remote {
    /// Where it is.
    pub url: String,
    /// What pins it: a checksum, an `ETag`, a commit.
    pub identity: String,
}

impl Image {
    /// Whether only the engine has it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self.identity, ImageIdentity::EngineId(_))
    }
}

impl Inputs {
    /// The key of these inputs.
    #[must_use]
    pub fn key(&self) -> Key {
        encode::key(self)
    }

    /// How many files, links and directories the key covers.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.context.len() + self.contexts.values().map(|tree| tree.len()).sum::<usize>()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use sha2::Digest as _;

    use super::*;
    use crate::context::{Kind, Mode};

    /// A tree of the given entries: directory, name, mode, kind.
    pub(crate) fn tree(entries: &[(&str, &str, Mode, Kind<'_>)]) -> Tree {
        let mut tree = Tree::default();
        for (directory, name, mode, kind) in entries {
            tree.push(directory.as_bytes(), name.as_bytes(), *mode, *kind);
        }
        tree
    }

    /// A file of that content.
    pub(crate) fn file(content: &[u8]) -> Kind<'static> {
        Kind::File { size: content.len() as u64, digest: sha2::Sha256::digest(content).into() }
    }

    /// One of everything.
    pub(crate) fn sample() -> Inputs {
        Inputs {
            platforms: vec!["linux/amd64".parse().unwrap()],
            stages: vec![Stage {
                name: "0".into(),
                instructions: vec![
                    Instruction { line: 1, text: "FROM alpine:3".into() },
                    Instruction { line: 4, text: "COPY a b/ /x/".into() },
                ],
            }],
            arguments: [("VERSION".to_owned(), Some("1".to_owned())), ("DEBUG".to_owned(), None)]
                .into(),
            images: vec![Image {
                name: "alpine:3".into(),
                platform: None,
                identity: ImageIdentity::Digest(Digest::of(b"alpine")),
            }],
            context: Arc::new(tree(&[
                ("", "a", Mode::PLAIN, file(b"hello")),
                ("", "b", Mode::EXECUTABLE, Kind::Directory),
                ("b", "\u{e4}", Mode::LINK, Kind::Symlink { target: b"../a" }),
            ])),
            contexts: [("assets".to_owned(), Arc::default())].into(),
            remotes: vec![Remote {
                url: "https://e.example/x.tgz".into(),
                identity: "etag:\"1\"".into(),
            }],
            secrets: ["npm".to_owned()].into(),
            labels: [("team".to_owned(), "infra".to_owned())].into(),
            options: [("network".to_owned(), "none".to_owned())].into(),
            period: Some("2026-W48".into()),
        }
    }

    #[test]
    fn inputs_read_back_from_json_are_the_same_and_have_the_same_key() {
        let inputs = sample();
        let json = serde_json::to_string_pretty(&inputs).unwrap();
        let back: Inputs = serde_json::from_str(&json).unwrap();
        assert_eq!(back, inputs);
        assert_eq!(back.key(), inputs.key());
        assert!(json.contains(r#""path": "a""#) && json.contains(r#""kind": "symlink""#), "{json}");
    }

    #[test]
    fn every_identity_of_an_image_reads_back() {
        for identity in [
            ImageIdentity::Digest(Digest::of(b"a")),
            ImageIdentity::EngineId(Digest::of(b"a")),
            ImageIdentity::NameOnly,
        ] {
            let image = Image { name: "a".into(), platform: None, identity };
            let json = serde_json::to_string(&image).unwrap();
            assert_eq!(serde_json::from_str::<Image>(&json).unwrap(), image, "{json}");
        }
    }
}
