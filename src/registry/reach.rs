//! What a name leads to: its manifest, and every manifest below it.
//!
//! For who deletes: what cannot be understood leads to everything that its text could mean, never to
//! nothing.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    client::{Client, Raw},
    digest::Digest,
    error::Error,
    manifest::{InvalidManifest, Manifest, media_type},
    reference::Reference,
};

/// Indexes below indexes; what is deeper is nobody's image.
const DEEPEST: usize = 4;
/// Questions on their way at once.
const AT_ONCE: usize = 8;
/// The algorithms of digests, and how many hexadecimal digits they have.
const ALGORITHMS: [(&str, usize); 2] = [("sha256:", 64), ("sha512:", 128)];

/// What a name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The manifest that it points at.
    pub digest: Digest,
    /// The manifests below that, at any depth; none below the image of one platform.
    pub below: BTreeSet<Digest>,
}

impl Client {
    /// Follows a name to every manifest below it. `None` when there is none of that name.
    ///
    /// # Errors
    /// When the registry cannot be asked, or indexes name indexes without end.
    pub async fn reach(&self, name: &Reference) -> Result<Option<Reached>, Error> {
        let Some(raw) = self.raw_manifest(name).await? else { return Ok(None) };
        let digest = raw.digest.clone();
        let mut below = BTreeSet::new();
        let mut level = children(raw);
        for _ in 0..DEEPEST {
            below.extend(level.iter().map(|child| child.digest.clone()));
            let indexes = level.into_iter().filter(|child| child.may_be_index);
            let read = indexes.map(async |child| {
                let raw = self.raw_manifest(&name.repository.pinned(child.digest)).await?;
                Ok::<_, Error>(raw.map(children).unwrap_or_default())
            });
            let read: Vec<Vec<Child>> =
                stream::iter(read).buffer_unordered(AT_ONCE).try_collect().await?;
            level = read.into_iter().flatten().filter(|c| !below.contains(&c.digest)).collect();
            if level.is_empty() {
                return Ok(Some(Reached { digest, below }));
            }
        }
        Err(Error::manifest(name, InvalidManifest::TooDeep))
    }
}

/// A manifest that another names.
struct Child {
    digest: Digest,
    may_be_index: bool,
}

fn children(raw: Raw) -> Vec<Child> {
    let Raw { content_type, bytes, digest } = raw;
    match Manifest::with_digest(&content_type, bytes.clone(), digest) {
        Ok(manifest) => {
            let named = manifest.index().into_iter().flat_map(|index| &index.manifests);
            let child = |descriptor: &super::Descriptor| Child {
                digest: descriptor.digest.clone(),
                may_be_index: !matches!(
                    descriptor.media_type.as_str(),
                    media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST
                ),
            };
            named.map(child).collect()
        }
        // It may name manifests, or blobs: whatever these are, they are not asked for.
        Err(_) => {
            let child = |digest| Child { digest, may_be_index: false };
            digests_in(&bytes).into_iter().map(child).collect()
        }
    }
}

/// Every text that is a digest.
fn digests_in(bytes: &Bytes) -> BTreeSet<Digest> {
    let text = String::from_utf8_lossy(bytes);
    let mut found = BTreeSet::new();
    for (name, digits) in ALGORITHMS {
        for (at, _) in text.match_indices(name) {
            let digest = text.get(at..at + name.len() + digits);
            found.extend(digest.and_then(|digest| digest.parse::<Digest>().ok()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digest_of_a_text_is_found_and_nothing_else() {
        let (one, other) = (Digest::of(b"1"), Digest::of(b"2"));
        let text =
            format!("{{\"a\":\"{one}\", sha256:00, \u{e4}sha256:{other} sha512:{one} sha256:");
        assert_eq!(digests_in(&text.into()), [one, other.clone()].into());
        assert_eq!(digests_in(&Bytes::from_static(b"sha256:\xff\xff")), [].into());
        assert_eq!(digests_in(&format!("[\"{other}\"]").into()), [other].into());
    }
}
