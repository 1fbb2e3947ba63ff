//! What differs between two builds, each given by a directory, saved inputs or the name of an image.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;

use super::{Error, World, build::key_home, prepare, publish::is_about_content, records};
use crate::{
    inputs::{Difference, Inputs},
    platform::Platform,
    registry::{self, Reference},
    settings::Request,
};

/// One of the things to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Side {
    /// The build of the request itself.
    Here,
    /// What was named: a directory, a file of saved inputs, or an image.
    Named(String),
}

/// Says what changed from `before` to `after`. Without `before`: from the image that the first of the
/// request's tags points at.
///
/// # Errors
/// When one of them cannot be found or has no record.
pub async fn explain(
    request: &Request,
    world: &World,
    before: Option<Side>,
    after: Side,
) -> Result<Difference, Error> {
    let before = match before {
        Some(before) => before,
        None => match request.tags.first() {
            Some(tag) => Side::Named(tag.to_string()),
            None => {
                let advice = "say what to compare with: a reference, a directory or saved inputs";
                return Err(Error::Explain(advice.into()));
            }
        },
    };
    if let (Some(one), Some(other)) = (directory(request, &before), directory(request, &after))
        && one == other
    {
        let advice = "say what to compare it with: a reference, another directory or saved inputs";
        return Err(Error::Explain(format!("both sides are {}: {advice}", one.display())));
    }
    let mut differences = Vec::new();
    for request in request.for_each_platform() {
        let before = inputs(&request, world, &before).await?;
        let after = inputs(&request, world, &after).await?;
        // A record has no values that were given, so they are told from each other without them.
        let (before, after) = (before.hiding_like(&after), after.hiding_like(&before));
        let difference = Difference::between(&before, &after);
        differences.push((request.target_platform(), difference));
    }
    Ok(Difference::of_platforms(differences))
}

/// The directory that a side is, if it is one.
fn directory(request: &Request, side: &Side) -> Option<PathBuf> {
    let path = match side {
        Side::Here => &request.context,
        Side::Named(name) => Path::new(name),
    };
    path.is_dir().then(|| fs::canonicalize(path).ok()).flatten()
}

async fn inputs(request: &Request, world: &World, side: &Side) -> Result<Arc<Inputs>, Error> {
    let Side::Named(name) = side else { return Ok(prepare(request, world).await?.inputs) };
    let path = Path::new(name);
    if path.is_dir() {
        let request = request.in_context(path);
        return Ok(prepare(&request, world).await?.inputs);
    }
    if path.is_file() {
        let text = fs::read(path).map_err(|error| Error::Explain(format!("{name}: {error}")))?;
        return saved(&text, &request.target_platform(), name).map(Arc::new);
    }
    record(request, world, name).await.map(Arc::new)
}

/// What `smartbuild inputs --json` writes: inputs or, for several platforms, those of each.
fn saved(text: &[u8], platform: &Platform, name: &str) -> Result<Inputs, Error> {
    #[derive(Deserialize)]
    struct Several {
        parts: Vec<Inputs>,
    }
    let Ok(Several { parts }) = serde_json::from_slice(text) else {
        return serde_json::from_slice(text).map_err(|error| {
            Error::Explain(format!("{name} is not what `smartbuild inputs --json` writes: {error}"))
        });
    };
    let part = parts.into_iter().find(|part| part.platforms.contains(platform));
    part.ok_or_else(|| Error::Explain(format!("{name} has no inputs for {platform}")))
}

/// The inputs of an image in a registry.
async fn record(request: &Request, world: &World, name: &str) -> Result<Inputs, Error> {
    let reference: Reference = name.parse().map_err(|error| {
        Error::Explain(format!("{name} is no directory, no file and no image: {error}"))
    })?;
    let reference = reference.or_latest();
    let client = world.client();
    let platform = request.target_platform();
    if client.resolve(&reference).await?.is_none() {
        return Err(Error::Registry(registry::Error::NotFound {
            action: format!("read {}", reference.familiar()),
            host: reference.host().to_owned(),
            message: String::new(),
        }));
    }
    let Some(key) = records::key_of(&client, &reference, &platform).await? else {
        return Err(Error::Explain(format!("{reference} was not built by smartbuild")));
    };
    let home = key_home(request).unwrap_or_else(|| reference.repository.clone());
    let mut damage = String::new();
    for home in [&reference.repository, &home] {
        match records::get(&client, home, key).await {
            Ok(Some(inputs)) => return Ok(inputs),
            Ok(None) => {}
            Err(error) if is_about_content(&error) => damage = format!("; {error}"),
            Err(error) => return Err(error.into()),
        }
    }
    let none = format!("{reference} has no record of its inputs that can be read (key {key})");
    Err(Error::Explain(none + &damage))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::tests::sample;

    #[test]
    fn saved_inputs_of_several_platforms_are_those_of_the_one_that_is_asked_for() {
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        let mut other = sample();
        other.platforms = vec![platform("linux/arm64")];
        let both = serde_json::json!({ "key": sample().key(), "parts": [sample(), other] });
        let read = |name| saved(both.to_string().as_bytes(), &platform(name), "x.json");
        assert_eq!(read("linux/arm64").unwrap(), other);
        assert_eq!(read("linux/amd64").unwrap(), sample());
        assert!(read("linux/s390x").unwrap_err().to_string().contains("no inputs for linux/s390x"));
        let one = serde_json::to_vec(&sample()).unwrap();
        assert_eq!(saved(&one, &platform("linux/amd64"), "x.json").unwrap(), sample());
        let error = saved(b"{", &platform("linux/amd64"), "x.json").unwrap_err().to_string();
        assert!(error.contains("x.json is not what"), "{error}");
    }
}
