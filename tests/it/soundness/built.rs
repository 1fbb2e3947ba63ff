//! An image that was built, as far as two of them can be held against each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::Read,
    path::Path,
};

use serde_json::Value;
use smartbuild::inputs::Key;
use smartbuild_test_rig::sha256;

/// An image, as far as it is made by its inputs: no times, no history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Built {
    /// Type, permissions, owner and content by path.
    pub(super) files: BTreeMap<String, String>,
    pub(super) config: String,
}

impl Built {
    /// Reads what `docker save` writes.
    pub(super) fn read(saved: &[u8]) -> Self {
        let mut parts = BTreeMap::new();
        for entry in tar::Archive::new(saved).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            let mut content = Vec::new();
            if let Some(target) = entry.link_name().unwrap() {
                // Layers with the same content, since Docker 20.10.
                let above = Path::new(&path).parent().unwrap().join(target);
                let shared = parts.get(&plain(&above)).cloned();
                content = shared.unwrap_or_default();
            } else {
                entry.read_to_end(&mut content).unwrap();
            }
            parts.insert(path, content);
        }
        let manifest: Value = serde_json::from_slice(&parts["manifest.json"]).unwrap();
        let config = parts[manifest[0]["Config"].as_str().unwrap()].as_slice();
        let config: Value = serde_json::from_slice(config).unwrap();
        let mut built = Self { config: settings(&config), ..Self::default() };
        for layer in manifest[0]["Layers"].as_array().into_iter().flatten() {
            built.apply(&parts[layer.as_str().unwrap()]);
        }
        built
    }

    /// Lays a layer over what is there.
    fn apply(&mut self, layer: &[u8]) {
        let mut text = Vec::new();
        let layer = if layer.starts_with(&[0x1f, 0x8b]) {
            flate2::read::MultiGzDecoder::new(layer).read_to_end(&mut text).unwrap();
            &text[..]
        } else {
            layer
        };
        for entry in tar::Archive::new(layer).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path_bytes().escape_ascii().to_string();
            let path = path.trim_start_matches("./").trim_end_matches('/').to_owned();
            let (above, name) = path.rsplit_once('/').unwrap_or(("", &path));
            if let Some(gone) = name.strip_prefix(".wh.") {
                let gone = match (gone, above) {
                    (".wh..opq", above) => {
                        self.files.retain(|other, _| !other.starts_with(&format!("{above}/")));
                        continue;
                    }
                    (gone, "") => gone.to_owned(),
                    (gone, above) => format!("{above}/{gone}"),
                };
                self.remove(&gone);
                continue;
            }
            let header = entry.header().clone();
            let kind = header.entry_type();
            let owner = format!("{}:{}", header.uid().unwrap(), header.gid().unwrap());
            let mut description = format!("{kind:?} {:o} {owner}", header.mode().unwrap() & 0o7777);
            let target = entry.link_name_bytes().map(|name| name.escape_ascii().to_string());
            if kind.is_hard_link() {
                let target = target.unwrap_or_default();
                description = self.files.get(&target).cloned().unwrap_or_default();
            } else if let Some(target) = target {
                let _ = write!(description, " -> {target}");
            } else if kind.is_file() {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                let _ = write!(description, " {}", sha256(&content));
            }
            if !kind.is_dir() {
                self.remove(&path);
            }
            self.files.insert(path, description);
        }
    }

    fn remove(&mut self, path: &str) {
        let below = format!("{path}/");
        self.files.retain(|other, _| other != path && !other.starts_with(&below));
    }

    /// What differs, for people.
    pub(super) fn difference(&self, other: &Self) -> String {
        let mut text = String::new();
        if self.config != other.config {
            let _ = writeln!(text, "  config {}\n      -> {}", self.config, other.config);
        }
        let paths = self.files.keys().chain(other.files.keys());
        let paths: BTreeSet<&String> = paths.collect();
        for path in paths {
            let (was, is) = (self.files.get(path), other.files.get(path));
            if was != is {
                let _ = writeln!(text, "  {path}: {was:?} -> {is:?}");
            }
        }
        text
    }
}

/// What a configuration says of the image, without how and when it was made.
fn settings(config: &Value) -> String {
    let mut said = String::new();
    for name in ["architecture", "os", "variant"] {
        let _ = write!(said, "{name} {} ", config[name]);
    }
    let mut settings = config["config"].as_object().cloned().unwrap_or_default();
    // The key says of itself which it is.
    if let Some(labels) = settings.get_mut("Labels").and_then(Value::as_object_mut)
        && labels.shift_remove(Key::LABEL).is_some()
        && labels.is_empty()
    {
        settings.shift_remove("Labels");
    }
    let settings: BTreeMap<String, Value> =
        settings.into_iter().filter(|(_, value)| !value.is_null()).collect();
    said + &serde_json::to_string(&settings).unwrap()
}

/// A path without `..`.
fn plain(path: &Path) -> String {
    let mut names: Vec<String> = Vec::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => drop(names.pop()),
            part => names.push(part.as_os_str().to_string_lossy().into_owned()),
        }
    }
    names.join("/")
}
