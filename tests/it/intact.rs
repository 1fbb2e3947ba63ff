//! Whether what a registry holds is whole and says the truth.

use std::collections::BTreeMap;

use serde_json::Value;
use smartbuild_test_rig::{Registry, sha256};

/// What a repository holds, and what is wrong with it.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// The digest of every tag.
    pub(crate) tags: BTreeMap<String, String>,
    /// The keys that the images of a tag say they were built for.
    pub(crate) labels: BTreeMap<String, Vec<String>>,
    /// Everything that a tag leads to and that is missing, or is not what its digest says.
    pub(crate) faults: Vec<String>,
}

/// Follows every tag of a repository down to the last blob.
pub(crate) fn held(registry: &Registry, repository: &str) -> Held {
    let mut held = Held::default();
    for tag in registry.tags(repository) {
        let Some(digest) = registry.digest(repository, &tag) else {
            held.faults.push(format!("{tag} points at nothing"));
            continue;
        };
        let mut labels = Vec::new();
        follow(registry, repository, &digest, &mut labels, &mut held.faults);
        let key = tag.starts_with("sb1-") && !tag.ends_with(".inputs");
        // The key of an index is that of none of its images.
        if key && labels.len() == 1 && labels[0] != tag {
            held.faults.push(format!("{tag} holds an image of {}", labels[0]));
        }
        held.labels.insert(tag.clone(), labels);
        held.tags.insert(tag, digest);
    }
    held
}

fn follow(
    registry: &Registry,
    repository: &str,
    digest: &str,
    labels: &mut Vec<String>,
    faults: &mut Vec<String>,
) {
    let Some(bytes) = registry.manifest(repository, digest) else {
        return faults.push(format!("the manifest {digest} is missing"));
    };
    if sha256(&bytes) != digest {
        faults.push(format!("the manifest {digest} has other content"));
    }
    let manifest: Value = serde_json::from_slice(&bytes).unwrap();
    for child in manifest["manifests"].as_array().into_iter().flatten() {
        follow(registry, repository, child["digest"].as_str().unwrap(), labels, faults);
    }
    let layers = manifest["layers"].as_array().into_iter().flatten();
    for (index, blob) in manifest.get("config").into_iter().chain(layers).enumerate() {
        let digest = blob["digest"].as_str().unwrap();
        match registry.blob(repository, digest) {
            Some(content) if sha256(&content) == digest => {
                let config = serde_json::from_slice(&content).unwrap_or(Value::Null);
                if let Some(label) = config["config"]["Labels"]["io.smartbuild.key"].as_str()
                    && index == 0
                {
                    labels.push(label.to_owned());
                }
            }
            Some(_) => faults.push(format!("the blob {digest} has other content")),
            None => faults.push(format!("the blob {digest} is missing")),
        }
    }
}
