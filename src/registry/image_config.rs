//! The configuration of an image: what it runs on, and what builds on top of it inherit.
//!
//! Knows the OCI image specification's `config.md`, which Docker's schema 2 shares.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::platform::Platform;

/// What an image's configuration says, as far as builds care.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "RawConfig")]
pub struct ImageConfig {
    /// What the image runs on.
    pub os: String,
    /// As Go names it.
    pub architecture: String,
    /// `v7` of `arm`.
    pub variant: Option<String>,
    /// When the image was made, as RFC 3339 writes it.
    pub created: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Environment, `NAME=value`, in order.
    pub env: Vec<String>,
    /// Triggers, in order.
    pub onbuild: Vec<String>,
    /// Working directory.
    pub workdir: String,
    /// User, as `USER` wrote it.
    pub user: String,
    /// Shell of the shell form, if the image changed it.
    pub shell: Vec<String>,
    /// Number of layers.
    pub layers: usize,
}

impl ImageConfig {
    /// The platform in normal form.
    #[must_use]
    pub fn platform(&self) -> Platform {
        Platform::normal(&self.os, &self.architecture, self.variant.as_deref())
    }
}

/// The document as it is written: Go writes `null` where a list or map is empty.
#[derive(Deserialize)]
struct RawConfig {
    #[serde(default)]
    os: Option<String>,
    #[serde(default)]
    architecture: Option<String>,
    variant: Option<String>,
    created: Option<String>,
    #[serde(default)]
    config: Option<RawContainer>,
    rootfs: Option<RawRootfs>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct RawContainer {
    labels: Option<BTreeMap<String, String>>,
    env: Option<Vec<String>>,
    on_build: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    shell: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct RawRootfs {
    diff_ids: Option<Vec<String>>,
}

impl From<RawConfig> for ImageConfig {
    fn from(raw: RawConfig) -> Self {
        let config = raw.config.unwrap_or_default();
        Self {
            os: raw.os.unwrap_or_default(),
            architecture: raw.architecture.unwrap_or_default(),
            variant: raw.variant.filter(|variant| !variant.is_empty()),
            created: raw.created,
            labels: config.labels.unwrap_or_default(),
            env: config.env.unwrap_or_default(),
            onbuild: config.on_build.unwrap_or_default(),
            workdir: config.working_dir.unwrap_or_default(),
            user: config.user.unwrap_or_default(),
            shell: config.shell.unwrap_or_default(),
            layers: raw.rootfs.and_then(|rootfs| rootfs.diff_ids).map_or(0, |ids| ids.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_configuration_may_say_null() {
        let config: ImageConfig = serde_json::from_str(
            r#"{"os":"linux","architecture":"arm","variant":"v7","config":{"Labels":null,
                "Env":["A=b"],"OnBuild":null,"WorkingDir":"/x"},"rootfs":{"diff_ids":null}}"#,
        )
        .unwrap();
        assert_eq!(config.platform().to_string(), "linux/arm/v7");
        assert_eq!((config.env.len(), config.workdir.as_str()), (1, "/x"));
        let empty: ImageConfig = serde_json::from_str("{}").unwrap();
        assert_eq!(empty, ImageConfig::default());
    }
}
