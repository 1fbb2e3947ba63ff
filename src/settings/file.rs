//! The settings file, `smartbuild.toml`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{BasePolicy, EngineKind, Environment, Error, pairs::IMAGE_CONTEXT};

/// What a settings file can say: the names are those of the options, in the plural where there may be
/// several. The singular is understood, too.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Settings {
    pub(super) context: Option<PathBuf>,
    pub(super) file: Option<PathBuf>,
    pub(super) target: Option<String>,
    #[serde(alias = "tag")]
    pub(super) tags: Vec<String>,
    #[serde(alias = "platform")]
    pub(super) platforms: Vec<String>,
    #[serde(alias = "build-arg")]
    pub(super) build_args: BTreeMap<String, String>,
    #[serde(alias = "build-context")]
    pub(super) build_contexts: BTreeMap<String, PathBuf>,
    #[serde(alias = "label")]
    pub(super) labels: BTreeMap<String, String>,
    pub(super) engine: Option<EngineKind>,
    pub(super) push: Option<bool>,
    pub(super) load: Option<bool>,
    pub(super) pull: Option<bool>,
    pub(super) cache_from: Vec<String>,
    pub(super) cache_to: Vec<String>,
    pub(super) cache_stages: Option<CacheStages>,
    #[serde(alias = "secret")]
    pub(super) secrets: Vec<String>,
    pub(super) ssh: Vec<String>,
    #[serde(alias = "ulimit")]
    pub(super) ulimits: Vec<String>,
    pub(super) network: Option<String>,
    #[serde(alias = "add-hosts")]
    pub(super) add_host: Vec<String>,
    pub(super) shm_size: Option<String>,
    pub(super) base_policy: Option<BasePolicy>,
    pub(super) refresh: Option<String>,
    pub(super) strict_modes: Option<bool>,
    pub(super) strict: Option<bool>,
    pub(super) keys_in: Option<String>,
    pub(super) sign_key: Option<String>,
    pub(super) verify_key: Option<String>,
    #[serde(alias = "insecure-registry")]
    pub(super) insecure_registries: Vec<String>,
}

/// Which stages get images of their own: all or none of those that can, or these.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum CacheStages {
    All(bool),
    These(Vec<String>),
}

impl Settings {
    /// Reads the file that was named, or `SMARTBUILD_CONFIG`, or `smartbuild.toml` in the current
    /// directory where there is one. Relative paths in it are relative to it.
    pub(super) fn read(named: Option<&Path>, environment: &Environment) -> Result<Self, Error> {
        let named = named.map(Path::to_owned).or_else(|| environment.path("SMARTBUILD_CONFIG"));
        let optional = named.is_none();
        let path = named.unwrap_or_else(|| PathBuf::from("smartbuild.toml"));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if optional && error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(Error::File { path, why: error.to_string() }),
        };
        let mut settings: Self = toml::from_str(&text).map_err(|error| Error::File {
            path: path.clone(),
            why: error.to_string().trim_end().to_owned(),
        })?;
        if let Some(directory) = path.parent() {
            let single = [&mut settings.context, &mut settings.file].into_iter().flatten();
            let stdin = Path::new("-");
            for relative in single.chain(settings.build_contexts.values_mut()) {
                if relative != stdin && !relative.starts_with(IMAGE_CONTEXT) {
                    *relative = directory.join(&relative);
                }
            }
            for key in [&mut settings.sign_key, &mut settings.verify_key].into_iter().flatten() {
                if !key.starts_with("env:") {
                    *key = directory.join(&key).display().to_string();
                }
            }
        }
        Ok(settings)
    }
}
