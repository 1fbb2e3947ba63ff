//! Trees of files as JSON: a list of objects with `path`, `kind`, and digest or link target.
//!
//! A name that is not UTF-8 is written as `{"hex": "…"}`, so that nothing is lost.

use std::{borrow::Cow, fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, SeqAccess, Visitor},
};

use crate::{
    context::{Entry, Kind, Mode, Tree},
    registry::Digest,
};

pub(super) fn serialize<S: Serializer>(tree: &Arc<Tree>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(tree.entries().map(Row::from))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Arc<Tree>, D::Error> {
    struct Rows;

    impl<'de> Visitor<'de> for Rows {
        type Value = Tree;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of files, directories and links")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<Tree, A::Error> {
            let mut tree = Tree::default();
            while let Some(row) = rows.next_element::<Row<'de>>()? {
                row.push_to(&mut tree).map_err(de::Error::custom)?;
            }
            Ok(tree)
        }
    }

    deserializer.deserialize_seq(Rows).map(Arc::new)
}

/// The same for trees by name.
pub(super) mod named {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Wrapped(#[serde(with = "super")] Arc<Tree>);

    #[derive(Serialize)]
    #[serde(transparent)]
    struct Borrowed<'a>(#[serde(serialize_with = "super::serialize")] &'a Arc<Tree>);

    pub(in super::super) fn serialize<S: Serializer>(
        trees: &BTreeMap<String, Arc<Tree>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(trees.iter().map(|(name, tree)| (name, Borrowed(tree))))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, Arc<Tree>>, D::Error> {
        let trees = BTreeMap::<String, Wrapped>::deserialize(deserializer)?;
        Ok(trees.into_iter().map(|(name, Wrapped(tree))| (name, tree)).collect())
    }
}

/// An entry as JSON.
#[derive(Serialize, Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    path: Bytes<'a>,
    kind: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    target: Option<Bytes<'a>>,
    mode: String,
}

/// Bytes that are nearly always text.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Bytes<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    Hex { hex: String },
}

impl<'a> From<&'a [u8]> for Bytes<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.into()),
            Err(_) => Self::Hex { hex: hex::encode(bytes) },
        }
    }
}

impl Bytes<'_> {
    fn into_bytes(self) -> Result<Vec<u8>, hex::FromHexError> {
        match self {
            Self::Text(text) => Ok(text.into_owned().into_bytes()),
            Self::Hex { hex } => hex::decode(hex),
        }
    }
}

impl<'a> From<Entry<'a>> for Row<'a> {
    fn from(entry: Entry<'a>) -> Self {
        let (kind, digest, size, target) = match entry.kind {
            Kind::File { size, digest } => ("file", Some(Digest::Sha256(digest)), Some(size), None),
            Kind::Directory => ("directory", None, None, None),
            Kind::Symlink { target } => ("symlink", None, None, Some(target.into())),
        };
        let mode = entry.mode.to_string();
        Self { path: entry.path.into(), kind: kind.into(), digest, size, target, mode }
    }
}

impl Row<'_> {
    /// Adds the entry that this row describes, unless it describes none.
    fn push_to(self, tree: &mut Tree) -> Result<(), String> {
        let path = self.path.into_bytes().map_err(|error| format!("a path: {error}"))?;
        let mode = u32::from_str_radix(&self.mode, 8)
            .ok()
            .filter(|mode| *mode <= 0o7777)
            .map(Mode::exact)
            .ok_or_else(|| format!("`{}` is not a mode", self.mode))?;
        let target =
            self.target.map(Bytes::into_bytes).transpose().map_err(|error| error.to_string())?;
        let kind = match (&*self.kind, self.digest, &target) {
            ("file", Some(Digest::Sha256(digest)), None) => {
                Kind::File { size: self.size.unwrap_or_default(), digest }
            }
            ("directory", None, None) => Kind::Directory,
            ("symlink", None, Some(target)) => Kind::Symlink { target },
            (kind, ..) => return Err(format!("`{kind}` is not a file, a directory or a symlink")),
        };
        let (directory, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b""[..], &path[..]),
        };
        tree.push(directory, name, mode, kind);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Wrapped(#[serde(with = "super")] Arc<Tree>);

    #[test]
    fn names_that_are_not_text_survive() {
        let mut tree = Tree::default();
        tree.push(b"a\xff", b"b\"\n", Mode::exact(0o4755), Kind::Symlink { target: b"\xfe/x" });
        let tree = Arc::new(tree);
        let json = serde_json::to_string(&Wrapped(tree.clone())).unwrap();
        assert_eq!(
            json,
            r#"[{"path":{"hex":"61ff2f62220a"},"kind":"symlink","target":{"hex":"fe2f78"},"mode":"4755"}]"#
        );
        assert_eq!(serde_json::from_str::<Wrapped>(&json).unwrap(), Wrapped(tree));
    }

    #[test]
    fn rows_that_describe_nothing_are_refused() {
        for row in [
            r#"{"path":"a","kind":"socket","mode":"0644"}"#,
            r#"{"path":"a","kind":"file","mode":"0644"}"#,
            r#"{"path":"a","kind":"directory","mode":"9"}"#,
            r#"{"path":"a","kind":"directory","mode":"10000"}"#,
            r#"{"path":{"hex":"6"},"kind":"directory","mode":"0755"}"#,
            r#"{"kind":"directory","mode":"0755"}"#,
        ] {
            assert!(serde_json::from_str::<Wrapped>(&format!("[{row}]")).is_err(), "{row}");
        }
    }
}
