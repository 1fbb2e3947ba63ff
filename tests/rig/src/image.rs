//! Images made by hand, so that a registry can be filled without an engine.

use std::io::Write;
use std::process::Command;
use std::sync::OnceLock;

use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// `sha256:HEX` of some bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// An image: layers and a configuration. The same calls give the same bytes.
#[derive(Clone, Debug)]
pub struct Image {
    /// Compressed.
    layers: Vec<Vec<u8>>,
    config: Value,
}

/// A manifest and its media type, as they are PUT into a registry.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) media_type: &'static str,
    pub(crate) bytes: Vec<u8>,
}

impl Image {
    /// The distribution's static busybox with all its applets in `/bin`: enough for `RUN` steps.
    #[must_use]
    pub fn base() -> &'static Self {
        static BASE: OnceLock<Image> = OnceLock::new();
        BASE.get_or_init(|| {
            let path = ["/bin/busybox", "/usr/bin/busybox"]
                .into_iter()
                .find(|path| std::fs::exists(path).unwrap_or_default())
                .expect("no /bin/busybox here: install busybox-static, or run tests/run.sh");
            let list = Command::new(path).arg("--list").output().unwrap().stdout;
            let list = String::from_utf8(list).unwrap();
            let mut layer = Layer::new();
            for directory in ["bin", "etc", "root", "tmp"] {
                layer.directory(directory, if directory == "tmp" { 0o1777 } else { 0o755 });
            }
            layer.file("bin/busybox", &std::fs::read(path).unwrap(), 0o755);
            for applet in list.lines().filter(|applet| *applet != "busybox") {
                layer.symlink(&format!("bin/{applet}"), "busybox");
            }
            layer.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n", 0o644);
            layer.file("etc/group", b"root:x:0:\n", 0o644);
            Self::scratch().with(layer).env("PATH", "/bin").config("Cmd", json!(["/bin/sh"]))
        })
    }

    /// An image with nothing in it, for `linux` on the processor of this machine.
    #[must_use]
    pub fn scratch() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "created": "2026-01-01T00:00:00Z",
            "config": {},
            "rootfs": { "type": "layers", "diff_ids": [] },
            "history": [],
        });
        Self { layers: Vec::new(), config }
    }

    /// Adds a layer with these files.
    #[must_use]
    pub fn files(self, files: &[(&str, &str)]) -> Self {
        let mut layer = Layer::new();
        for (path, text) in files {
            layer.file(path, text.as_bytes(), 0o644);
        }
        self.with(layer)
    }

    fn with(mut self, layer: Layer) -> Self {
        let tar = layer.0.into_inner().unwrap();
        let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::none());
        gzip.write_all(&tar).unwrap();
        self.layers.push(gzip.finish().unwrap());
        push(&mut self.config["rootfs"]["diff_ids"], json!(sha256(&tar)));
        push(&mut self.config["history"], json!({ "created_by": "the test rig" }));
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        push(&mut self.config["config"]["Env"], json!(format!("{name}={value}")));
        self
    }

    /// Sets a label.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.config["config"]["Labels"][name] = json!(value);
        self
    }

    /// Adds a trigger: an instruction that a build `FROM` this image starts with.
    #[must_use]
    pub fn onbuild(mut self, instruction: &str) -> Self {
        push(&mut self.config["config"]["OnBuild"], json!(instruction));
        self
    }

    /// Says that the image is for another platform, such as `linux/arm64` or `linux/arm/v7`.
    #[must_use]
    pub fn platform(mut self, platform: &str) -> Self {
        let names = ["os", "architecture", "variant"];
        for (name, value) in names.iter().zip(platform.split('/')) {
            self.config[*name] = json!(value);
        }
        self
    }

    /// Sets a field of the inner configuration, such as `Entrypoint`, `WorkingDir` or `User`.
    #[must_use]
    pub fn config(mut self, field: &str, value: Value) -> Self {
        self.config["config"][field] = value;
        self
    }

    pub(crate) fn layers(&self) -> &[Vec<u8>] {
        &self.layers
    }

    pub(crate) fn config_bytes(&self) -> Vec<u8> {
        self.config.to_string().into_bytes()
    }

    /// Docker's schema 2, which every registry and every engine takes.
    pub(crate) fn manifest(&self) -> Manifest {
        let described = |bytes: &[u8], media_type: &str| json!({ "mediaType": media_type, "size": bytes.len(), "digest": sha256(bytes) });
        let config = "application/vnd.docker.container.image.v1+json";
        let layer = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        let media_type = "application/vnd.docker.distribution.manifest.v2+json";
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": described(&self.config_bytes(), config),
            "layers": self.layers.iter().map(|bytes| described(bytes, layer)).collect::<Vec<_>>(),
        });
        Manifest { media_type, bytes: manifest.to_string().into_bytes() }
    }

    /// The index of several images, each with its platform.
    pub(crate) fn index(images: &[&Self]) -> Manifest {
        let entries = images.iter().map(|image| {
            let Manifest { media_type, bytes } = image.manifest();
            let mut platform = json!({});
            for name in ["os", "architecture", "variant"] {
                if let Some(value) = image.config.get(name) {
                    platform[name] = value.clone();
                }
            }
            json!({
                "mediaType": media_type,
                "size": bytes.len(),
                "digest": sha256(&bytes),
                "platform": platform,
            })
        });
        let media_type = "application/vnd.docker.distribution.manifest.list.v2+json";
        let index = json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "manifests": entries.collect::<Vec<_>>(),
        });
        Manifest { media_type, bytes: index.to_string().into_bytes() }
    }
}

/// Appends to an array that may not exist yet.
fn push(array: &mut Value, value: Value) {
    match array {
        Value::Array(values) => values.push(value),
        other => *other = json!([value]),
    }
}

struct Layer(tar::Builder<Vec<u8>>);

impl Layer {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn header(kind: tar::EntryType, size: usize, mode: u32) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size as u64);
        header.set_mode(mode);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header
    }

    fn directory(&mut self, path: &str, mode: u32) {
        let mut header = Self::header(tar::EntryType::Directory, 0, mode);
        self.0.append_data(&mut header, path, std::io::empty()).unwrap();
    }

    fn file(&mut self, path: &str, bytes: &[u8], mode: u32) {
        let mut header = Self::header(tar::EntryType::Regular, bytes.len(), mode);
        self.0.append_data(&mut header, path, bytes).unwrap();
    }

    fn symlink(&mut self, path: &str, target: &str) {
        let mut header = Self::header(tar::EntryType::Symlink, 0, 0o777);
        self.0.append_link(&mut header, path, target).unwrap();
    }
}
