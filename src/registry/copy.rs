//! Whole images, brought from one repository to another, and indexes put together from images.
//!
//! The order is what keeps a repository consistent when we are killed: blobs, then the manifests
//! that name them, then the index that names those, then the tags.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::{
    StreamExt as _, TryStreamExt as _,
    future::{ready, try_join_all},
    stream,
};

use super::{
    client::Client,
    digest::Digest,
    error::Error,
    manifest::{
        Descriptor, DescriptorPlatform, Index, InvalidManifest, Manifest, View, media_type,
    },
    reference::{Reference, Repository, Tag, TagOrDigest},
};
use crate::platform::Platform;

/// Blobs on their way at once, as many as Docker pushes.
const BLOBS_AT_ONCE: usize = 5;
/// An index of indexes of indexes is nobody's image.
const DEEPEST: usize = 3;

impl Client {
    /// Copies an image, with all its platforms, to another repository and tags it there. On the
    /// same registry nothing but names travels.
    ///
    /// # Errors
    /// When there is no such image, or either registry fails or refuses.
    pub async fn copy(
        &self,
        from: &Reference,
        to: &Repository,
        tags: &[Tag],
    ) -> Result<Digest, Error> {
        let manifest = self.manifest(from).await?.ok_or_else(|| Error::NotFound {
            action: format!("copy {}", from.familiar()),
            host: from.host().to_owned(),
            message: String::new(),
        })?;
        self.copy_manifest(&from.repository, &manifest, to, tags).await
    }

    /// Copies the image of a manifest that was read already.
    ///
    /// # Errors
    /// When either registry fails or refuses.
    pub async fn copy_manifest(
        &self,
        from: &Repository,
        manifest: &Manifest,
        to: &Repository,
        tags: &[Tag],
    ) -> Result<Digest, Error> {
        if from != to {
            self.copy_parts(from, manifest, to, DEEPEST).await?;
        }
        self.put_tags(to, manifest, tags).await
    }

    /// Puts a manifest under each of `tags` at the same time, or under its digest when there are
    /// none.
    ///
    /// # Errors
    /// The first failure; the other tags may have been put.
    pub async fn put_tags(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        tags: &[Tag],
    ) -> Result<Digest, Error> {
        if tags.is_empty() {
            let target = manifest.digest.clone().into();
            return self.put_manifest(repository, &target, manifest).await;
        }
        let targets: Vec<TagOrDigest> = tags.iter().cloned().map(Into::into).collect();
        let puts = targets.iter().map(|target| self.put_manifest(repository, target, manifest));
        try_join_all(puts.collect::<Vec<_>>()).await?;
        Ok(manifest.digest.clone())
    }

    /// Copies everything that a manifest names, unless the manifest is there: then so is the rest.
    async fn copy_parts(
        &self,
        from: &Repository,
        manifest: &Manifest,
        to: &Repository,
        depth: usize,
    ) -> Result<(), Error> {
        if self.resolve(&to.pinned(manifest.digest.clone())).await?.is_some() {
            return Ok(());
        }
        match manifest.view() {
            View::Image(image) => {
                let mut blobs: Vec<&Descriptor> = Vec::with_capacity(image.layers.len() + 1);
                for blob in std::iter::once(&image.config).chain(&image.layers) {
                    let twice = blobs.iter().any(|known| known.digest == blob.digest);
                    if !blob.is_foreign() && !twice {
                        blobs.push(blob);
                    }
                }
                let copies: Vec<_> =
                    blobs.into_iter().map(|blob| self.copy_blob(from, to, blob)).collect();
                let copies = stream::iter(copies).buffer_unordered(BLOBS_AT_ONCE);
                copies.try_for_each(|_| ready(Ok(()))).await
            }
            View::Index(_) if depth == 0 => {
                let reference = from.pinned(manifest.digest.clone());
                Err(Error::manifest(&reference, InvalidManifest::TooDeep))
            }
            View::Index(index) => {
                // One after the other: their layers overlap, and come in parallel anyway.
                for descriptor in &index.manifests {
                    let child = self.child(from, descriptor).await?;
                    Box::pin(self.copy_parts(from, &child, to, depth - 1)).await?;
                    self.put_tags(to, &child, &[]).await?;
                }
                Ok(())
            }
        }
    }
}

impl Manifest {
    /// An index of images of one platform each: of Docker's type when all the images are, else of
    /// the OCI's, which alone has room for `annotations`. The same images give the same index, in
    /// whatever order they come.
    ///
    /// An image may come in an index of its own, with its attestations; both go into the new one.
    ///
    /// # Errors
    /// When the index of one of them has no image for its platform, or the platforms are not
    /// distinct.
    pub fn assemble(
        images: &[(Platform, Manifest)],
        annotations: BTreeMap<String, String>,
    ) -> Result<Self, InvalidManifest> {
        let mut images: Vec<_> = images.iter().collect();
        images.sort_by(|one, other| one.0.cmp(&other.0));
        if let Some(twice) = images.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(InvalidManifest::PlatformTwice(twice[0].0.clone()));
        }
        let mut manifests = Vec::with_capacity(images.len());
        for (platform, image) in &images {
            let mut descriptor = match image.view() {
                View::Image(_) => image.descriptor(),
                View::Index(index) => {
                    let found = index.image_for(platform).cloned();
                    found.ok_or_else(|| InvalidManifest::NoImage(platform.clone()))?
                }
            };
            descriptor.platform = Some(DescriptorPlatform::from(platform));
            let attestations: Vec<_> = match image.index() {
                Some(index) => index.attestations_of(&descriptor.digest).cloned().collect(),
                None => Vec::new(),
            };
            manifests.push(descriptor);
            manifests.extend(attestations);
        }
        let docker = !manifests.is_empty()
            && manifests.iter().all(|image| image.media_type == media_type::DOCKER_MANIFEST);
        let (media_type, annotations) = if docker {
            (media_type::DOCKER_LIST, BTreeMap::new())
        } else {
            (media_type::OCI_INDEX, annotations)
        };
        let media_type_field = Some(media_type.to_owned());
        let index =
            Index { schema_version: 2, media_type: media_type_field, manifests, annotations };
        Self::parse(media_type, Bytes::from(serde_json::to_vec(&index)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(kind: &str, marker: u8) -> Manifest {
        let config = Descriptor::of("x", &[marker]);
        let text = serde_json::json!({"schemaVersion": 2, "config": config, "layers": []});
        Manifest::parse(kind, Bytes::from(text.to_string())).unwrap()
    }

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn an_image_brings_its_attestations_along() {
        let arm = platform("linux/arm64");
        let mut image = image(media_type::OCI_MANIFEST, 1).descriptor();
        image.platform = Some(DescriptorPlatform::from(&arm));
        let attestation = |of: &str| {
            let mut descriptor = Descriptor::of(media_type::OCI_MANIFEST, of.as_bytes());
            descriptor.platform = Some((&platform("unknown/unknown")).into());
            descriptor.annotations.insert("vnd.docker.reference.digest".into(), of.into());
            descriptor
        };
        let digest = image.digest.to_string();
        let manifests = vec![image, attestation(&digest), attestation("another")];
        let text = serde_json::json!({"schemaVersion": 2, "manifests": manifests}).to_string();
        let own = Manifest::parse(media_type::OCI_INDEX, text.into()).unwrap();
        let whole = Manifest::assemble(&[(arm.clone(), own.clone())], BTreeMap::new()).unwrap();
        assert_eq!(whole.index().unwrap().manifests, manifests[..2]);
        assert_eq!(whole.index().unwrap().platforms(), [arm]);
        let other = [(platform("linux/amd64"), own)];
        let error = Manifest::assemble(&other, BTreeMap::new()).unwrap_err().to_string();
        assert_eq!(error, "it has no image for linux/amd64");
    }

    #[test]
    fn the_same_images_give_the_same_index_in_any_order() {
        let one = (platform("linux/arm64"), image(media_type::OCI_MANIFEST, 1));
        let two = (platform("linux/amd64"), image(media_type::DOCKER_MANIFEST, 2));
        let notes = BTreeMap::from([("note".to_owned(), "x".to_owned())]);
        let index = Manifest::assemble(&[one.clone(), two.clone()], notes.clone()).unwrap();
        assert_eq!(Manifest::assemble(&[two.clone(), one], notes.clone()).unwrap(), index);
        assert_eq!(index.media_type, media_type::OCI_INDEX);
        assert_eq!(index.annotations(), &notes);
        let chosen = index.index().unwrap().image_for(&two.0).unwrap();
        assert_eq!((&chosen.digest, chosen.size), (&two.1.digest, two.1.bytes.len() as u64));
    }

    #[test]
    fn docker_images_give_a_docker_list() {
        let one = (platform("linux/amd64"), image(media_type::DOCKER_MANIFEST, 1));
        let list = Manifest::assemble(std::slice::from_ref(&one), BTreeMap::new()).unwrap();
        assert_eq!(list.media_type, media_type::DOCKER_LIST);
        let twice = Manifest::assemble(&[one.clone(), one.clone()], BTreeMap::new());
        assert!(twice.unwrap_err().to_string().contains("linux/amd64"));
        let again = Manifest::assemble(&[(one.0, list.clone())], BTreeMap::new());
        assert_eq!(again.unwrap(), list, "an index of one image is as good as the image");
    }
}
