//! What differs between two builds, each given by a directory, saved inputs or the name of an image.

use std::{fs, path::Path, sync::Arc};

use super::{Error, World, build::key_home, prepare, records};
use crate::{
    inputs::{Difference, Inputs},
    registry::Reference,
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
    let mut differences = Vec::new();
    for request in request.for_each_platform() {
        let before = inputs(&request, world, &before).await?;
        let after = inputs(&request, world, &after).await?;
        differences.push((request.target_platform(), Difference::between(&before, &after)));
    }
    Ok(Difference::of_platforms(differences))
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
        let saved = serde_json::from_slice(&text).map(Arc::new);
        return saved.map_err(|error| {
            Error::Explain(format!("{name} is not what `smartbuild inputs --json` writes: {error}"))
        });
    }
    record(request, world, name).await.map(Arc::new)
}

/// The inputs of an image in a registry.
async fn record(request: &Request, world: &World, name: &str) -> Result<Inputs, Error> {
    let reference: Reference = name.parse().map_err(|error| {
        Error::Explain(format!("{name} is no directory, no file and no image: {error}"))
    })?;
    let reference = reference.or_latest();
    let client = world.client();
    let platform = request.target_platform();
    let Some(key) = records::key_of(&client, &reference, &platform).await? else {
        return Err(Error::Explain(format!(
            "{reference} is not there, or was not built by smartbuild"
        )));
    };
    let home = key_home(request).unwrap_or_else(|| reference.repository.clone());
    for home in [&reference.repository, &home] {
        if let Some(inputs) = records::get(&client, home, key).await? {
            return Ok(inputs);
        }
    }
    Err(Error::Explain(format!("{reference} has no record of its inputs (key {key})")))
}
