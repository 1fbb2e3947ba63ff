//! The canonical encoding of the inputs, and its digest.
//!
//! Every value is written as a type letter, its length and its bytes, so that no two different lists
//! have the same encoding: moving a byte from one field to the next, or a file from one list to the
//! next, changes the digest (peers that concatenate lose exactly this).
//!
//! A change of what this module writes for unchanged inputs changes every key: it needs a new schema
//! version, new golden vectors, and a line in the release notes.

use sha2::{Digest as _, Sha256};

use super::{Image, ImageIdentity, Inputs, Key, Parts};
use crate::{
    context::{Kind, Tree},
    platform::Platform,
    registry::Digest,
};

/// Version of the encoding; also the digit in `sb1-`.
const SCHEMA: &str = "smartbuild inputs 1";
/// The same for the key of an index.
const SCHEMA_OF_PARTS: &str = "smartbuild parts 1";

pub(super) fn key(inputs: &Inputs) -> Key {
    let Inputs {
        platforms,
        stages,
        arguments,
        images,
        context,
        contexts,
        remotes,
        secrets,
        labels,
        options,
        period,
    } = inputs;

    let mut out = Encoder::new();
    out.text(SCHEMA);

    out.list("platforms", platforms.len());
    for platform in platforms {
        out.platform(platform);
    }

    out.list("stages", stages.len());
    for stage in stages {
        out.list("instructions", stage.instructions.len());
        for instruction in &stage.instructions {
            out.text(&instruction.text);
        }
    }

    out.list("arguments", arguments.len());
    for (name, value) in arguments {
        out.text(name);
        out.optional(value.as_deref());
    }

    out.list("images", images.len());
    for image in images {
        out.image(image);
    }

    out.entries("context", context);
    out.list("contexts", contexts.len());
    for (name, entries) in contexts {
        out.entries(name, entries);
    }

    out.list("remotes", remotes.len());
    for remote in remotes {
        out.text(&remote.url);
        out.text(&remote.identity);
    }

    out.list("secrets", secrets.len());
    for id in secrets {
        out.text(id);
    }

    for (name, pairs) in [("labels", labels), ("options", options)] {
        out.list(name, pairs.len());
        for (name, value) in pairs {
            out.text(name);
            out.text(value);
        }
    }

    out.text("period");
    out.optional(period.as_deref());
    out.finish()
}

/// The key of an index: of the keys of its images.
pub(super) fn key_of_parts(parts: &Parts) -> Key {
    let mut out = Encoder::new();
    out.text(SCHEMA_OF_PARTS);
    out.list("parts", parts.parts.len());
    for (platform, key) in &parts.parts {
        out.platform(platform);
        out.value(b'k', &key.0);
    }
    out.finish()
}

/// Writes typed, length-prefixed values into a digest.
struct Encoder {
    hash: Sha256,
    /// Small writes are gathered, since the digest is quickest on whole blocks.
    pending: Vec<u8>,
}

const BLOCK: usize = 16 * 1024;

impl Encoder {
    fn new() -> Self {
        Self { hash: Sha256::new(), pending: Vec::with_capacity(2 * BLOCK) }
    }

    fn value(&mut self, kind: u8, bytes: &[u8]) {
        self.pending.push(kind);
        self.pending.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= BLOCK {
            self.hash.update(&self.pending);
            self.pending.clear();
        }
    }

    fn text(&mut self, text: &str) {
        self.value(b's', text.as_bytes());
    }

    fn optional(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.value(b'-', b""),
        }
    }

    fn list(&mut self, name: &str, length: usize) {
        self.value(b'l', name.as_bytes());
        self.value(b'n', &(length as u64).to_le_bytes());
    }

    fn digest(&mut self, kind: u8, digest: &Digest) {
        self.value(kind, digest.value());
    }

    fn platform(&mut self, platform: &Platform) {
        self.text(&platform.os);
        self.text(&platform.architecture);
        self.optional(platform.variant.as_deref());
    }

    fn image(&mut self, image: &Image) {
        self.text(&image.name);
        match &image.platform {
            Some(platform) => self.platform(platform),
            None => self.optional(None),
        }
        match &image.identity {
            ImageIdentity::Digest(digest) => self.digest(b'r', digest),
            ImageIdentity::EngineId(digest) => self.digest(b'e', digest),
            ImageIdentity::NameOnly => self.value(b'-', b""),
        }
    }

    fn entries(&mut self, name: &str, tree: &Tree) {
        self.list(name, tree.len());
        for entry in tree.entries() {
            self.value(b'p', entry.path);
            self.value(b'm', &entry.permissions().to_le_bytes());
            match entry.kind {
                Kind::File { digest, size: _ } => self.value(b'f', &digest),
                Kind::Directory => self.value(b'd', b""),
                Kind::Symlink { target } => self.value(b'y', target),
            }
        }
    }

    fn finish(mut self) -> Key {
        self.hash.update(&self.pending);
        Key(self.hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{
        super::tests::{file, sample, tree},
        *,
    };
    use crate::{
        context::Mode,
        inputs::{Instruction, Remote, Stage},
    };

    /// The sample's context with another first entry.
    fn with_first(name: &str, mode: Mode, kind: Kind<'_>) -> Arc<Tree> {
        Arc::new(tree(&[
            ("", name, mode, kind),
            ("", "b", Mode::EXECUTABLE, Kind::Directory),
            ("b", "\u{e4}", Mode::LINK, Kind::Symlink { target: b"../a" }),
        ]))
    }

    /// Keys of schema 1. If one of these moves, every image in every registry is built again.
    #[test]
    fn golden_keys() {
        assert_eq!(
            Inputs::default().key().to_string(),
            "sb1-5b2daac0e5d3a141faf2320bbf21308a8b6a2434a81980bd4df28fd62359c436"
        );
        assert_eq!(
            sample().key().to_string(),
            "sb1-c08feefa237bcf551bd71a14f34d600412f663479c322c800f3e28e485ab2d52"
        );
    }

    #[test]
    fn every_single_change_gives_another_key() {
        type Change = fn(&mut Inputs);
        let changes: [(&str, Change); 24] = [
            ("platform", |i| i.platforms[0] = "linux/arm64".parse().unwrap()),
            ("second platform", |i| i.platforms.push("linux/arm64".parse().unwrap())),
            ("instruction", |i| i.stages[0].instructions[1].text.push('y')),
            ("instruction moved to a new stage", |i| {
                let last = i.stages[0].instructions.pop().unwrap();
                i.stages.push(Stage { name: "1".into(), instructions: vec![last] });
            }),
            ("two instructions joined", |i| {
                let last = i.stages[0].instructions.pop().unwrap();
                i.stages[0].instructions[0].text += &last.text;
            }),
            ("argument", |i| drop(i.arguments.insert("VERSION".into(), Some("2".into())))),
            ("argument unset", |i| drop(i.arguments.insert("VERSION".into(), None))),
            ("argument empty, not unset", |i| {
                drop(i.arguments.insert("DEBUG".into(), Some(String::new())));
            }),
            ("base moved", |i| i.images[0].identity = ImageIdentity::Digest(Digest::of(b"x"))),
            ("base by engine", |i| {
                i.images[0].identity = ImageIdentity::EngineId(Digest::of(b"alpine"));
            }),
            ("base by name", |i| i.images[0].identity = ImageIdentity::NameOnly),
            ("base platform", |i| i.images[0].platform = Some("linux/arm64".parse().unwrap())),
            ("content", |i| i.context = with_first("a", Mode::PLAIN, file(b"hullo"))),
            ("renamed", |i| i.context = with_first("A", Mode::PLAIN, file(b"hello"))),
            ("mode", |i| i.context = with_first("a", Mode::EXECUTABLE, file(b"hello"))),
            ("kind", |i| i.context = with_first("a", Mode::PLAIN, Kind::Directory)),
            ("a link", |i| i.context = with_first("a", Mode::PLAIN, Kind::Symlink { target: b"" })),
            ("link target", |i| {
                i.context = with_first("a", Mode::PLAIN, Kind::Symlink { target: b"b" });
            }),
            ("moved to another context", |i| {
                let tree = std::mem::take(&mut i.context);
                i.contexts.insert("assets".into(), tree);
            }),
            ("remote", |i| i.remotes[0].identity.push('2')),
            ("secret id", |i| assert!(i.secrets.insert("pip".into()))),
            ("label", |i| drop(i.labels.insert("team".into(), "web".into()))),
            ("label became an option", |i| {
                let (name, value) = i.labels.pop_first().unwrap();
                i.options.insert(name, value);
            }),
            ("period", |i| i.period = None),
        ];
        let mut seen = vec![("nothing", sample().key())];
        for (name, change) in changes {
            let mut inputs = sample();
            change(&mut inputs);
            let key = inputs.key();
            if let Some((other, _)) = seen.iter().find(|(_, k)| *k == key) {
                panic!("`{name}` has the key of `{other}`");
            }
            seen.push((name, key));
        }
    }

    #[test]
    fn lines_sizes_and_names_of_stages_are_for_people_only() {
        let mut inputs = sample();
        inputs.stages[0].name = "builder".into();
        inputs.stages[0].instructions[1].line = 40;
        let Kind::File { digest, .. } = file(b"hello") else { unreachable!() };
        inputs.context = with_first("a", Mode::PLAIN, Kind::File { digest, size: 6 });
        assert_eq!(inputs.key(), sample().key());
    }

    #[test]
    fn bytes_do_not_slide_between_neighbouring_fields() {
        let with = |url: &str, identity: &str| Inputs {
            remotes: vec![Remote { url: url.into(), identity: identity.into() }],
            ..Inputs::default()
        };
        assert_ne!(with("ab", "c").key(), with("a", "bc").key());
        let stages = |texts: &[&str]| Inputs {
            stages: vec![Stage {
                name: String::new(),
                instructions: texts
                    .iter()
                    .map(|t| Instruction { line: 1, text: (*t).into() })
                    .collect(),
            }],
            ..Inputs::default()
        };
        assert_ne!(stages(&["a", "b"]).key(), stages(&["ab"]).key());
        assert_ne!(stages(&["", ""]).key(), stages(&[""]).key());
    }
}
