//! The images in an engine's store: finding, tagging, pushing, pulling.

use std::{collections::BTreeMap, fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use bollard::{
    models::ImageInspect,
    query_parameters::{
        ListImagesOptionsBuilder, RemoveImageOptionsBuilder, TagImageOptionsBuilder,
    },
};
use http::Method;
use serde::{Deserialize, Serialize};

use super::{
    daemon::{Daemon, of_bollard},
    error::Error,
    http::{Message, empty, query},
    progress::{Amount, Event, Progress},
};
use crate::{
    credentials::Login,
    platform::Platform,
    registry::{Digest, Reference, TagOrDigest},
};

/// What an engine calls an image: the digest of its configuration or, with containerd's store, of
/// its manifest.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageId(Digest);

impl ImageId {
    /// The digest itself.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.0
    }

    /// Reads an identifier; podman leaves out the algorithm here and there.
    pub(super) fn parse(action: &str, text: &str) -> Result<Self, Error> {
        let digest = if text.contains(':') {
            Digest::from_str(text)
        } else {
            Digest::from_str(&format!("sha256:{text}"))
        };
        digest.map(Self).map_err(|error| Error::Protocol {
            action: action.to_owned(),
            what: format!("named an image in a way that is not understood: {error}"),
        })
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An image in an engine's store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalImage {
    /// What the engine calls it.
    pub id: ImageId,
    /// The references under which it is found, as the engine writes them.
    pub tags: Vec<String>,
    /// The manifests it was pulled from or pushed as: `repository@digest`.
    pub repo_digests: Vec<String>,
    /// What it runs on.
    pub platform: Platform,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its environment, `NAME=value` each.
    pub environment: Vec<String>,
    /// The instructions that a build on top of it runs.
    pub on_build: Vec<String>,
}

impl LocalImage {
    fn read(action: &str, image: ImageInspect) -> Result<Self, Error> {
        let config = image.config.unwrap_or_default();
        Ok(Self {
            id: ImageId::parse(action, &image.id.unwrap_or_default())?,
            tags: image.repo_tags.unwrap_or_default(),
            repo_digests: image.repo_digests.unwrap_or_default(),
            platform: Platform::normal(
                &image.os.unwrap_or_default(),
                &image.architecture.unwrap_or_default(),
                image.variant.as_deref(),
            ),
            labels: config.labels.unwrap_or_default().into_iter().collect(),
            environment: config.env.unwrap_or_default(),
            on_build: config.on_build.unwrap_or_default(),
        })
    }
}

impl Daemon {
    /// The images in the store that have a label of that value.
    ///
    /// # Errors
    /// When the engine does not say.
    pub(super) async fn find_labelled(
        &self,
        label: &str,
        value: &str,
    ) -> Result<Vec<LocalImage>, Error> {
        let filters = [("label".to_owned(), vec![format!("{label}={value}")])].into();
        let options = ListImagesOptionsBuilder::default().filters(&filters).build();
        let found = self.docker.list_images(Some(options)).await;
        let found = found.map_err(|e| of_bollard("list its images", e))?;
        let mut images = Vec::with_capacity(found.len());
        for summary in found {
            // Gone in between is as good as never found.
            images.extend(self.inspect(&summary.id).await?);
        }
        Ok(images)
    }

    /// The image of a reference or identifier; `None` if the store does not have it.
    ///
    /// # Errors
    /// When the engine does not say.
    pub(super) async fn inspect(&self, name: &str) -> Result<Option<LocalImage>, Error> {
        let action = format!("look at the image {name}");
        match self.docker.inspect_image(name).await.map_err(|e| of_bollard(&action, e)) {
            Ok(image) => LocalImage::read(&action, image).map(Some),
            Err(Error::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives an image another name.
    ///
    /// # Errors
    /// When the engine refuses, for example because the image is gone.
    pub(super) async fn tag(&self, image: &ImageId, name: &Reference) -> Result<(), Error> {
        let options = TagImageOptionsBuilder::default()
            .repo(&name.repository.to_string())
            .tag(&tag_of(name))
            .build();
        self.docker
            .tag_image(&image.to_string(), Some(options))
            .await
            .map_err(|e| of_bollard(&format!("tag the image as {name}"), e))
    }

    /// Removes a name, and the image with it if it was the last one. That there is no such image
    /// is no error.
    ///
    /// # Errors
    /// When the engine refuses, for example because a container uses it.
    pub(super) async fn remove(&self, name: &str) -> Result<(), Error> {
        let options = RemoveImageOptionsBuilder::default().build();
        let removed = self.docker.remove_image(name, Some(options), None).await;
        match removed.map_err(|e| of_bollard(&format!("remove the image {name}"), e)) {
            Ok(_) | Err(Error::Refused { status: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Pulls an image into the store.
    ///
    /// # Errors
    /// When the engine or the registry refuses.
    pub(super) async fn pull(
        &self,
        image: &Reference,
        platform: Option<&Platform>,
        login: Option<&Login>,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let action = format!("pull {image}");
        let mut parameters =
            vec![("fromImage", image.repository.to_string()), ("tag", image.target().to_string())];
        parameters.extend(platform.map(|platform| ("platform", platform.to_string())));
        let path = format!("/images/create?{}", query(parameters));
        self.transfer(&action, &path, image, login, progress, |_| {}).await.map_err(|error| {
            match error {
                Error::Push { message, .. } => Error::failed(action.clone(), message),
                error => error,
            }
        })
    }

    /// Pushes the image that the store has under `name`, and gives the digest of the manifest that
    /// the registry now has under it.
    ///
    /// # Errors
    /// When the engine or the registry refuses.
    pub(super) async fn push(
        &self,
        name: &Reference,
        login: Option<&Login>,
        progress: &dyn Progress,
    ) -> Result<Digest, Error> {
        let action = format!("push {name}");
        let tag = query([("tag", tag_of(name))]);
        let path = format!("/images/{}/push?{tag}", name.repository);
        let mut digest = None;
        self.transfer(&action, &path, name, login, progress, |message| {
            #[derive(Deserialize)]
            struct Pushed {
                #[serde(rename = "Digest")]
                digest: Digest,
            }
            let told = message.aux::<Pushed>().map(|pushed| pushed.digest);
            if let Some(told) = told.or_else(|| message.status.as_deref().and_then(digest_in)) {
                digest = Some(told);
            }
        })
        .await?;
        digest.ok_or_else(|| Error::Protocol {
            action,
            what: "pushed it and did not say under which digest".to_owned(),
        })
    }

    /// A push or a pull: a stream of messages about layers, then the end or an error.
    async fn transfer(
        &self,
        action: &str,
        path: &str,
        image: &Reference,
        login: Option<&Login>,
        progress: &dyn Progress,
        mut also: impl FnMut(&Message),
    ) -> Result<(), Error> {
        let request = self
            .http
            .request(Method::POST, path)
            .header("X-Registry-Auth", registry_auth(login, image.host()))
            .body(empty())
            .map_err(|e| Error::broken(action, &e))?;
        let refused = |message: String| Error::Push {
            image: image.to_string(),
            message,
            login: login.is_some(),
        };
        let mut messages = match self.http.stream(action, request).await {
            Err(Error::Refused { status: 401 | 403, message, .. }) => return Err(refused(message)),
            messages => messages?,
        };
        while let Some(message) = messages.next().await? {
            if let Some(failure) = message.failure() {
                return Err(match Error::failed(action, failure.message) {
                    Error::Failed { message, .. } => refused(message),
                    error => error,
                });
            }
            also(&message);
            if let Message { id: Some(layer), status: Some(status), progress: amount, .. } = message
            {
                let amount = amount
                    .filter(|amount| amount.current > 0)
                    .map(|amount| Amount::new(amount.current, amount.total));
                progress.event(Event::Layer { layer, status, amount });
            }
        }
        Ok(())
    }
}

/// The tag that the engine's interface wants beside the repository.
fn tag_of(name: &Reference) -> String {
    match &name.tag {
        Some(tag) => tag.to_string(),
        None => match name.target() {
            TagOrDigest::Tag(tag) => tag.to_string(),
            TagOrDigest::Digest(digest) => digest.to_string(),
        },
    }
}

/// The digest in `latest: digest: sha256:... size: 528`, which engines print after a push.
fn digest_in(status: &str) -> Option<Digest> {
    status.split_once("digest: ")?.1.split_whitespace().next()?.parse().ok()
}

/// A login as the engine's interface takes it (moby `api/types/registry/authconfig.go`): JSON in
/// URL-safe base64. An engine drops what is encoded otherwise without a word.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Auth<'a> {
    Token { identitytoken: &'a str, serveraddress: &'a str },
    Password { username: &'a str, password: &'a str, serveraddress: &'a str },
    Nobody {},
}

impl<'a> Auth<'a> {
    pub(super) fn new(login: Option<&'a Login>, host: &'a str) -> Self {
        match login {
            None => Self::Nobody {},
            Some(login) if login.identity_token => {
                Self::Token { identitytoken: login.secret.expose(), serveraddress: host }
            }
            Some(login) => Self::Password {
                username: &login.username,
                password: login.secret.expose(),
                serveraddress: host,
            },
        }
    }
}

fn registry_auth(login: Option<&Login>, host: &str) -> http::HeaderValue {
    header_value(&Auth::new(login, host))
}

/// A header that holds JSON in URL-safe base64, and that is not shown in logs.
pub(super) fn header_value(value: &impl Serialize) -> http::HeaderValue {
    let json = serde_json::to_vec(value).unwrap_or_default();
    let mut header = http::HeaderValue::from_str(&URL_SAFE.encode(json))
        .unwrap_or_else(|_| http::HeaderValue::from_static("e30="));
    header.set_sensitive(true);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_of_any_characters_reaches_the_engine() {
        let login = Login {
            username: "name@1".into(),
            secret: "a???b>>>~~~\u{fc}".to_owned().into(),
            origin: String::new(),
            identity_token: false,
        };
        let header = registry_auth(Some(&login), "localhost:5000");
        assert!(header.is_sensitive());
        let text = header.to_str().unwrap();
        assert!(!text.contains(['+', '/']), "{text}");
        let json: serde_json::Value =
            serde_json::from_slice(&URL_SAFE.decode(text).unwrap()).unwrap();
        assert_eq!(json["password"], "a???b>>>~~~\u{fc}");
        assert_eq!(json["serveraddress"], "localhost:5000");
    }

    #[test]
    fn the_digest_of_a_push_is_found_in_its_last_line() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let digest = digest_in(&format!("latest: digest: sha256:{hex} size: 528")).unwrap();
        assert_eq!(digest.hex(), hex);
        assert_eq!(digest_in("Pushed"), None);
        assert_eq!(digest_in("The push refers to repository [digest: x]"), None);
    }
}
