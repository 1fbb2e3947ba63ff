//! buildah's store: finding, tagging, pushing, pulling.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde::Deserialize;

use super::{Buildah, registries::Registries};
use crate::{
    credentials::Login,
    engine::{
        error::Error,
        images::{ImageId, LocalImage},
        scratch::Scratch,
    },
    platform::Platform,
    registry::{Digest, Reference},
};

/// An image, as `buildah inspect` describes it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    #[serde(rename = "FromImageID")]
    id: String,
    docker: Image,
}

#[derive(Deserialize)]
struct Image {
    architecture: String,
    os: String,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default)]
    config: Option<Config>,
    #[serde(default)]
    history: Vec<Step>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Config {
    env: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
    on_build: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Step {
    #[serde(default)]
    created_by: String,
}

#[derive(Deserialize)]
struct Listed {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
}

impl Buildah {
    pub(in crate::engine) async fn find_labelled(
        &self,
        label: &str,
        value: &str,
    ) -> Result<Vec<LocalImage>, Error> {
        const ACTION: &str = "list its images";
        let filter = format!("label={label}={value}");
        let mut tries = 5;
        let said = loop {
            match self.program.ask(ACTION, ["images", "--json", "--filter", &filter]).await {
                // It stumbles over an image that somebody else removes meanwhile.
                Err(Error::Failed { message, .. }) if tries > 1 && is_about_absence(&message) => {
                    tries -= 1;
                }
                said => break said?,
            }
        };
        // One line for each name.
        let mut names = BTreeMap::<String, BTreeSet<String>>::new();
        for image in read::<Option<Vec<Listed>>>(ACTION, &said)?.unwrap_or_default() {
            names.entry(image.id).or_default().extend(image.names.unwrap_or_default());
        }
        let mut images = Vec::with_capacity(names.len());
        for (id, names) in names {
            let found = self.inspect(&id).await?;
            images.extend(
                found.map(|image| LocalImage { tags: names.into_iter().collect(), ..image }),
            );
        }
        Ok(images)
    }

    pub(in crate::engine) async fn inspect(&self, name: &str) -> Result<Option<LocalImage>, Error> {
        let Some(Inspected { id, docker: image }) = self.describe(name).await? else {
            return Ok(None);
        };
        let config = image.config.unwrap_or_default();
        Ok(Some(LocalImage {
            id: ImageId::parse("look at an image", &id)?,
            tags: Vec::new(),
            repo_digests: Vec::new(),
            platform: Platform::normal(&image.os, &image.architecture, image.variant.as_deref()),
            labels: config.labels.unwrap_or_default(),
            environment: config.env.unwrap_or_default(),
            on_build: config.on_build.unwrap_or_default(),
        }))
    }

    pub(in crate::engine) async fn last_instruction(
        &self,
        image: &ImageId,
    ) -> Result<Option<String>, Error> {
        let described = self.describe(&image.to_string()).await?;
        Ok(described.and_then(|image| Some(image.docker.history.last()?.created_by.clone())))
    }

    async fn describe(&self, name: &str) -> Result<Option<Inspected>, Error> {
        let action = format!("look at the image {name}");
        let name = name.strip_prefix("sha256:").unwrap_or(name);
        match self.program.ask(&action, ["inspect", "--type", "image", "--", name]).await {
            Ok(said) => read(&action, &said).map(Some),
            Err(Error::Failed { message, .. }) if is_about_absence(&message) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(in crate::engine) async fn tag(
        &self,
        image: &ImageId,
        name: &Reference,
    ) -> Result<(), Error> {
        let action = format!("tag the image as {name}");
        let arguments = ["tag", &image.digest().hex(), &name.to_string()];
        self.program.ask(&action, arguments).await.map(drop)
    }

    pub(in crate::engine) async fn remove(&self, name: &str) -> Result<(), Error> {
        let action = format!("remove the image {name}");
        let id = name.strip_prefix("sha256:").unwrap_or(name);
        let removed = self.program.ask(&action, ["rmi", "--", id]).await.map(drop);
        // It fails, too, when what the image was built from cannot go with it.
        match removed {
            Err(Error::Failed { .. }) if self.describe(name).await?.is_none() => Ok(()),
            removed => removed,
        }
    }

    pub(in crate::engine) async fn pull(
        &self,
        image: &Reference,
        platform: Option<&Platform>,
        login: Option<&Login>,
    ) -> Result<(), Error> {
        let action = format!("pull {image}");
        let broken = |error: std::io::Error| Error::broken(&action, &error);
        let private = Scratch::small("image").map_err(broken)?;
        let files = Registries::of_host(private.path(), image.host(), login, &self.insecure);
        let files = files.map_err(broken)?;
        let mut command = self.program.command();
        command.envs([files.variable()]);
        command.args(["pull", "--quiet", "--authfile"]).arg(files.logins());
        command.args(platform.map(|platform| format!("--platform={platform}")));
        command.arg(format!("docker://{image}"));
        self.program.finish(&action, command).await.map(drop)
    }

    /// Writes an image into an archive of OCI's layout.
    pub(super) async fn archive(&self, image: &ImageId, to: &Path) -> Result<Digest, Error> {
        let action = format!("write the image into {}", to.display());
        let broken = |error: std::io::Error| Error::broken(&action, &error);
        // It writes only into a file that is not there yet.
        let private = Scratch::small("image").map_err(broken)?;
        let (archive, digest) = (private.path().join("archive"), private.path().join("digest"));
        let mut command = self.program.command();
        command.args(["push", "--quiet", "--format", "oci", "--digestfile"]).arg(&digest);
        command.arg(image.digest().hex()).arg(format!("oci-archive:{}", archive.display()));
        self.program.finish(&action, command).await?;
        std::fs::copy(&archive, to).map_err(broken)?;
        read_digest(&digest, action)
    }

    pub(in crate::engine) async fn push(
        &self,
        name: &Reference,
        login: Option<&Login>,
    ) -> Result<Digest, Error> {
        let action = format!("push {name}");
        let broken = |error: std::io::Error| Error::broken(&action, &error);
        let private = Scratch::small("image").map_err(broken)?;
        let files = Registries::of_host(private.path(), name.host(), login, &self.insecure);
        let files = files.map_err(broken)?;
        let digest = private.path().join("digest");
        let mut command = self.program.command();
        command.envs([files.variable()]);
        command.args(["push", "--quiet", "--authfile"]).arg(files.logins());
        command.arg("--digestfile").arg(&digest);
        command.arg(name.to_string()).arg(format!("docker://{name}"));
        self.program.finish(&action, command).await.map_err(|error| match error {
            Error::Failed { message, .. } => {
                Error::Push { image: name.to_string(), message, login: login.is_some() }
            }
            error => error,
        })?;
        read_digest(&digest, action)
    }
}

/// The digest that it wrote down.
fn read_digest(file: &Path, action: String) -> Result<Digest, Error> {
    let text = std::fs::read_to_string(file).map_err(|error| Error::broken(&action, &error))?;
    text.trim().parse().map_err(|error| Error::Protocol {
        action,
        what: format!("pushed it under a digest that is none ({error})"),
    })
}

fn read<'a, T: Deserialize<'a>>(action: &str, said: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(said).map_err(|error| Error::Protocol {
        action: action.to_owned(),
        what: format!("gave an unreadable answer: {error}"),
    })
}

/// Whether it says that there is no such image.
fn is_about_absence(message: &str) -> bool {
    ["not known", "not found", "unable to find", "identifier is not"]
        .iter()
        .any(|words| message.contains(words))
}
