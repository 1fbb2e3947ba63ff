//! The settings file, `smartbuild.toml`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{BasePolicy, EngineKind, Environment, Error};

/// What a settings file can say; the names are those of the options.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Settings {
    pub(super) context: Option<PathBuf>,
    pub(super) file: Option<PathBuf>,
    pub(super) target: Option<String>,
    pub(super) tags: Vec<String>,
    pub(super) platforms: Vec<String>,
    pub(super) build_args: BTreeMap<String, String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) engine: Option<EngineKind>,
    pub(super) push: Option<bool>,
    pub(super) network: Option<String>,
    pub(super) add_host: Vec<String>,
    pub(super) base_policy: Option<BasePolicy>,
    pub(super) refresh: Option<String>,
    pub(super) cache_stages: Option<bool>,
    pub(super) strict_modes: Option<bool>,
    pub(super) strict: Option<bool>,
    pub(super) keys_in: Option<String>,
    pub(super) sign_key: Option<String>,
    pub(super) verify_key: Option<String>,
    pub(super) insecure_registries: Vec<String>,
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
            for relative in [&mut settings.context, &mut settings.file].into_iter().flatten() {
                *relative = directory.join(&relative);
            }
        }
        Ok(settings)
    }
}
