//! Manifests and tags: read, written, listed, deleted.
//!
//! Knows the distribution specification 1.1; everything that comes back is checked against its
//! digest and bounded in size.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures_util::{
    StreamExt as _, TryStreamExt as _,
    future::{ready, try_join_all},
    stream,
};
use reqwest::{
    Method,
    header::{ACCEPT, CONTENT_TYPE, HeaderName},
};
use serde::Deserialize;

use super::{
    answer::Answer,
    challenge::{Action, Scopes},
    config::Config,
    digest::Digest,
    error::Error,
    exchange::{Host, Request, value},
    image_config::ImageConfig,
    manifest::{Descriptor, Manifest, media_type},
    pages,
    reference::{Reference, Repository, Tag, TagOrDigest},
    transport::{Place, Statistics, Transport},
};
use crate::{credentials::Logins, platform::Platform};

/// Registries take no larger manifests (distribution `maxPayloadSize`).
const LARGEST_MANIFEST: u64 = 4 << 20;
/// Configurations are small; one with thousands of history entries is not near this.
const LARGEST_CONFIG: u64 = 8 << 20;
/// One page of a list of tags.
const LARGEST_PAGE: u64 = 8 << 20;
/// A repository with more pages of tags than this is not listed to the end.
const MOST_PAGES: usize = 1000;
/// Questions on their way at once.
const QUESTIONS_AT_ONCE: usize = 8;
const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// What a run will want of a repository, so that one token is good for all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read.
    Pull,
    /// To read and write.
    Push,
    /// To read and delete.
    Delete,
}

impl Access {
    pub(super) fn scopes(self, repository: &Repository) -> Scopes {
        let actions: &[Action] = match self {
            Self::Pull => &[Action::Pull],
            Self::Push => &[Action::Pull, Action::Push],
            Self::Delete => &[Action::Pull, Action::Delete],
        };
        Scopes::of(repository.path(), actions)
    }
}

/// What a registry holds under the name of a manifest.
pub(super) struct Raw {
    pub(super) content_type: String,
    pub(super) bytes: Bytes,
    /// Verified.
    pub(super) digest: Digest,
}

/// The registry client: one for a process, shared by reference.
///
/// Making one costs nothing; connections, TLS and logins come with the first request to a host.
/// All its methods may be called at the same time.
pub struct Client {
    pub(super) transport: Transport,
    logins: Arc<dyn Logins>,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
}

impl Client {
    /// A client that talks as `config` says and logs in with `logins`.
    #[must_use]
    pub fn new(config: Config, logins: Arc<dyn Logins>) -> Self {
        Self { transport: Transport::new(config), logins, hosts: Mutex::default() }
    }

    /// What the conversations of this client have cost so far.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.transport.counters.read()
    }

    /// Gets everything ready that stands before the first real request: connection, TLS, and one
    /// token for all of `wanted`, whose repositories are on one host or several. Meant to run
    /// while files are being hashed.
    ///
    /// # Errors
    /// What the first request would have failed with.
    pub async fn prepare(&self, wanted: &[(&Repository, Access)]) -> Result<(), Error> {
        let mut hosts: HashMap<&str, Scopes> = HashMap::new();
        for (repository, access) in wanted {
            hosts.entry(repository.host()).or_default().extend(&access.scopes(repository));
        }
        let contacts = hosts.into_iter().map(|(name, scopes)| {
            let host = self.host(name);
            async move { host.prepare(&self.transport, &scopes).await }
        });
        try_join_all(contacts.collect::<Vec<_>>()).await.map(drop)
    }

    /// Reads a manifest, as the bytes that the registry holds. `None` when it has none of that
    /// name.
    ///
    /// # Errors
    /// When the registry cannot be asked, or what it answers is not the manifest asked for.
    pub async fn manifest(&self, reference: &Reference) -> Result<Option<Manifest>, Error> {
        let Some(Raw { content_type, bytes, digest }) = self.raw_manifest(reference).await? else {
            return Ok(None);
        };
        let manifest = Manifest::with_digest(&content_type, bytes, digest);
        manifest.map(Some).map_err(|source| Error::manifest(reference, source))
    }

    /// The same before anybody has looked into it.
    pub(super) async fn raw_manifest(&self, reference: &Reference) -> Result<Option<Raw>, Error> {
        let path = manifest_path(&reference.repository, &reference.target());
        let scopes = Access::Pull.scopes(&reference.repository);
        let action = format!("read {}", reference.familiar());
        let mut request = Request::new(Method::GET, &path, scopes, action)
            .expecting(&[404])
            .up_to(LARGEST_MANIFEST);
        request.headers.insert(ACCEPT, value(media_type::ACCEPTED));
        let host = self.host(reference.host());
        let answer = host.ask(&self.transport, &request).await?;
        if answer.status == 404 {
            return Ok(None);
        }
        let digest = verified(reference, &answer)?;
        let content_type = answer.header(CONTENT_TYPE).unwrap_or_default().to_owned();
        Ok(Some(Raw { content_type, bytes: answer.body, digest }))
    }

    /// The digest that a reference means now. `None` when the registry has none of that name.
    ///
    /// # Errors
    /// When the registry cannot be asked.
    pub async fn resolve(&self, reference: &Reference) -> Result<Option<Digest>, Error> {
        let path = manifest_path(&reference.repository, &reference.target());
        let scopes = Access::Pull.scopes(&reference.repository);
        let action = format!("look up {}", reference.familiar());
        let mut request =
            Request::new(Method::HEAD, &path, scopes, action).expecting(&[400, 404, 405, 501]);
        request.headers.insert(ACCEPT, value(media_type::ACCEPTED));
        let answer = self.host(reference.host()).ask(&self.transport, &request).await?;
        if answer.status == 404 {
            return Ok(None);
        }
        let named = answer.header(DOCKER_CONTENT_DIGEST).and_then(|text| text.parse().ok());
        match (named, &reference.digest) {
            (Some(named), wanted) if answer.status.is_success() => {
                if wanted.as_ref().is_some_and(|wanted| *wanted != named) {
                    return Err(answer.place.protocol(format!("answers with {named}")));
                }
                Ok(Some(named))
            }
            // Not every registry answers HEAD, or says the digest.
            _ => Ok(self.manifest(reference).await?.map(|manifest| manifest.digest)),
        }
    }

    /// Puts the very bytes of `manifest` under a tag or its digest.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses it.
    pub async fn put_manifest(
        &self,
        repository: &Repository,
        target: &TagOrDigest,
        manifest: &Manifest,
    ) -> Result<Digest, Error> {
        let path = manifest_path(repository, target);
        let scopes = Access::Push.scopes(repository);
        let action = format!("push {}", named(repository, target));
        let mut request = Request::new(Method::PUT, &path, scopes, action);
        request.headers.insert(CONTENT_TYPE, value(&manifest.media_type));
        request.body = manifest.bytes.clone();
        let answer = self.host(repository.host()).ask(&self.transport, &request).await?;
        match answer.header(DOCKER_CONTENT_DIGEST).and_then(|text| text.parse::<Digest>().ok()) {
            Some(stored) if !stored.matches(&manifest.bytes) => Err(answer
                .place
                .protocol(format!("stored {stored} instead of {}", manifest.digest))),
            _ => Ok(manifest.digest.clone()),
        }
    }

    /// The configuration of the image for `platform`, by way of the index if `manifest` is one.
    ///
    /// # Errors
    /// When the registry cannot be asked, what it answers is wrong, or the index has no image for
    /// the platform. An image that is not in an index is taken whatever it runs on; the caller
    /// looks at [`ImageConfig::platform`].
    pub async fn image_config(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        platform: &Platform,
    ) -> Result<ImageConfig, Error> {
        if let Some(image) = manifest.image() {
            return self.read_config(repository, manifest, &image.config).await;
        }
        let manifest = self.image_for(repository, manifest, platform).await?;
        match manifest.image() {
            Some(image) => self.read_config(repository, &manifest, &image.config).await,
            None => Err(no_platform(repository, &manifest, platform)),
        }
    }

    /// The manifest of the image for `platform` in an index; a manifest of one image is itself.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub async fn image_for(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        platform: &Platform,
    ) -> Result<Manifest, Error> {
        let Some(index) = manifest.index() else { return Ok(manifest.clone()) };
        let Some(descriptor) = index.image_for(platform) else {
            return Err(no_platform(repository, manifest, platform));
        };
        self.child(repository, descriptor).await
    }

    /// A manifest that has to be there, because an index names it.
    pub(super) async fn child(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<Manifest, Error> {
        let reference = repository.pinned(descriptor.digest.clone());
        self.manifest(&reference).await?.ok_or_else(|| Error::NotFound {
            action: format!("read {}", reference.familiar()),
            host: repository.host().to_owned(),
            message: "an index names it".to_owned(),
        })
    }

    async fn read_config(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        config: &Descriptor,
    ) -> Result<ImageConfig, Error> {
        let bytes = self.blob(repository, config, LARGEST_CONFIG).await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::manifest(&repository.pinned(manifest.digest.clone()), error))
    }

    /// All tags of a repository; `None` when the registry does not know it.
    ///
    /// # Errors
    /// When the registry cannot be asked, or its list makes no sense or cannot be read to its end:
    /// whoever took a part for the whole would miss what must not be deleted.
    pub async fn tags(&self, repository: &Repository) -> Result<Option<Vec<Tag>>, Error> {
        #[derive(Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let host = self.host(repository.host());
        let action = format!("list the tags of {}", repository.familiar());
        let mut tags = Vec::new();
        let mut path = format!("/v2/{}/tags/list?n=1000", repository.path());
        for page in 0..MOST_PAGES {
            let scopes = Access::Pull.scopes(repository);
            // Only the first can say that there is no such repository.
            let expected: &[u16] = if page == 0 { &[404] } else { &[] };
            let request = Request::new(Method::GET, &path, scopes, action.clone())
                .expecting(expected)
                .up_to(LARGEST_PAGE);
            let answer = host.ask(&self.transport, &request).await?;
            if answer.status == 404 {
                return Ok(None);
            }
            let page: Page = serde_json::from_slice(&answer.body)
                .map_err(|_| answer.place.protocol("answers with something that is no list"))?;
            // What is no tag cannot be asked for either.
            tags.extend(page.tags.unwrap_or_default().iter().filter_map(|tag| tag.parse().ok()));
            let next = pages::next(&answer.headers, &answer.url).map_err(|_| {
                answer.place.protocol("names the next page of its list in a way that leads nowhere")
            })?;
            match next {
                None => return Ok(Some(tags)),
                Some(next) if next == path => {
                    return Err(answer.place.protocol("repeats one page of its list for ever"));
                }
                Some(next) => path = next,
            }
        }
        let place = Place { action, host: repository.host().to_owned() };
        Err(place.protocol(format!("has more than {MOST_PAGES} pages of them")))
    }

    /// The digest of each of `tags`, those left out that are gone by now.
    ///
    /// # Errors
    /// When the registry cannot be asked.
    pub async fn digests(
        &self,
        repository: &Repository,
        tags: Vec<Tag>,
    ) -> Result<Vec<(Tag, Digest)>, Error> {
        let questions: Vec<_> = tags
            .into_iter()
            .map(|tag| async {
                let digest = self.resolve(&repository.tagged(tag.clone())).await?;
                Ok(digest.map(|digest| (tag, digest)))
            })
            .collect();
        let answers = stream::iter(questions).buffered(QUESTIONS_AT_ONCE);
        answers.try_filter_map(|answer| ready(Ok(answer))).try_collect().await
    }

    /// Deletes a manifest, and with it every tag that points at it; `false` when there was none.
    ///
    /// # Errors
    /// [`Error::NoDeletion`] from a registry that deletes nothing.
    pub async fn delete(
        &self,
        repository: &Repository,
        target: &TagOrDigest,
    ) -> Result<bool, Error> {
        let path = manifest_path(repository, target);
        let scopes = Access::Delete.scopes(repository);
        let action = format!("delete {}", named(repository, target));
        let request = Request::new(Method::DELETE, &path, scopes, action).expecting(&[404]);
        match self.host(repository.host()).ask(&self.transport, &request).await {
            Ok(answer) => Ok(answer.status != 404),
            Err(Error::Refused { action, host, status: 405, .. }) => {
                Err(Error::NoDeletion { action, host })
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn host(&self, name: &str) -> Arc<Host> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let host = hosts.entry(name.to_owned());
        Arc::clone(host.or_insert_with(|| Arc::new(Host::new(name, Arc::clone(&self.logins)))))
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("statistics", &self.statistics()).finish_non_exhaustive()
    }
}

fn manifest_path(repository: &Repository, target: &TagOrDigest) -> String {
    format!("/v2/{}/manifests/{target}", repository.path())
}

/// The reference of `target` as people write it.
fn named(repository: &Repository, target: &TagOrDigest) -> String {
    match target {
        TagOrDigest::Tag(tag) => repository.tagged(tag.clone()).familiar(),
        TagOrDigest::Digest(digest) => repository.pinned(digest.clone()).familiar(),
    }
}

/// The digest of a manifest's bytes, checked against what was asked for and what was promised.
fn verified(reference: &Reference, answer: &Answer) -> Result<Digest, Error> {
    let body: &Bytes = &answer.body;
    let promised = answer.header(DOCKER_CONTENT_DIGEST).and_then(|text| text.parse().ok());
    let wanted = reference.digest.clone();
    if let Some(digest) = [&wanted, &promised].into_iter().flatten().find(|d| !d.matches(body)) {
        return Err(answer
            .place
            .protocol(format!("sent other content than {digest} (it has {})", Digest::of(body))));
    }
    Ok(wanted.unwrap_or_else(|| Digest::of(body)))
}

fn no_platform(repository: &Repository, manifest: &Manifest, platform: &Platform) -> Error {
    Error::NoPlatform {
        image: repository.pinned(manifest.digest.clone()).familiar(),
        platform: platform.clone(),
        available: manifest.index().map(super::manifest::Index::platforms).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Callers put these on a runtime's threads.
    #[test]
    fn the_work_can_be_spawned() {
        fn spawnable(_: &(impl Future + Send)) {}
        let client = Client::new(Config::default(), Arc::new(crate::credentials::Anonymous));
        let reference: Reference = "r.example/a:b".parse().unwrap();
        let repository = &reference.repository;
        spawnable(&client.copy(&reference, repository, &[]));
        spawnable(&client.resolve(&reference));
        spawnable(&client.prepare(&[(repository, Access::Push)]));
        spawnable(&client.tags(repository));
        spawnable(&client.digests(repository, Vec::new()));
        let manifest = client.manifest(&reference);
        spawnable(&manifest);
    }
}
