//! What the engine makes of a case, driven by its own client: the truth that keys are held against.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use smartbuild::inputs::Key;
use smartbuild_test_rig::{Engine, Program, sha256};

use super::case::{Case, Laid};

/// What the engine and its client can do beyond Docker 20.10.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Features {
    /// An exception in an ignore file holds for what it matches itself. Older clients also let it hold
    /// for files below, which a line before it excludes by their own names; ours does as the newer ones,
    /// and serves what it has hashed.
    pub(super) exceptions: bool,
    pub(super) heredoc: bool,
    pub(super) link: bool,
    pub(super) patterns: bool,
    pub(super) exclude: bool,
    pub(super) parents: bool,
}

/// A client that builds with BuildKit.
#[derive(Debug)]
pub(super) enum Oracle {
    /// The engine, by the `docker` program.
    Docker { program: PathBuf, host: String },
    /// A `buildkitd`, by the `buildctl` program: `SMARTBUILD_TEST_BUILDKIT` is its address.
    BuildKit { address: String },
    /// The engine, by our own session: `SMARTBUILD_TEST_ORACLE=smartbuild`.
    Ours { docker: PathBuf, host: String },
}

/// An image, as far as it is made by its inputs: no times, no history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Built {
    /// Type, permissions, owner and content by path.
    pub(super) files: BTreeMap<String, String>,
    pub(super) config: String,
}

impl Oracle {
    /// A client that can do it.
    pub(super) fn find() -> Self {
        if let Ok(address) = std::env::var("SMARTBUILD_TEST_BUILDKIT") {
            return Self::BuildKit { address };
        }
        if std::env::var("SMARTBUILD_TEST_ORACLE").is_ok_and(|name| name == "smartbuild") {
            return Self::ours();
        }
        let host = Engine::get().host().to_owned();
        // A newer client cannot do it without its plugin; the distribution's can.
        let programs = ["docker", "/usr/bin/docker"];
        let oracles =
            programs.map(|program| Self::Docker { program: program.into(), host: host.clone() });
        let able = oracles.into_iter().find(|oracle| oracle.can("FROM scratch\nCOPY . /\n"));
        able.expect("no docker program here can build with BuildKit: install docker-buildx")
    }

    /// Our own way to the same engine.
    pub(super) fn ours() -> Self {
        Self::Ours { docker: "docker".into(), host: Engine::get().host().to_owned() }
    }

    pub(super) fn features(&self) -> Features {
        let can = |text: &str| self.can(&format!("FROM scratch\n{text}\n"));
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("Dockerfile", "FROM scratch\nCOPY . /\n");
        write(".dockerignore", "d/f\n!d\n");
        write("d/f", "");
        let built = self.directory(directory.path(), directory.path()).unwrap();
        Features {
            exceptions: !built.files.contains_key("d/f"),
            heredoc: can("COPY <<EOF /x\ny\nEOF"),
            link: can("COPY --link Dockerfile /"),
            patterns: can("ENV A=b\nENV C=${A#b}\nCOPY Dockerfile /"),
            exclude: can("COPY --exclude=x . /"),
            parents: can("COPY --parents Dockerfile /"),
        }
    }

    fn can(&self, text: &str) -> bool {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("Dockerfile"), text).unwrap();
        let build = Build { context: directory.path(), beside: directory.path(), options: &[] };
        self.build(&build, directory.path()).is_ok()
    }

    /// Builds a case without cache.
    ///
    /// # Errors
    /// What the client says when the build fails.
    pub(super) fn case(&self, case: &Case, laid: &Laid, registry: &str) -> Result<Built, String> {
        let mut options = Vec::new();
        for (name, value) in &case.arguments {
            options
                .push(("build-arg", format!("{name}={}", value.replace("@registry@", registry))));
        }
        for (name, value) in &case.labels {
            options.push(("label", format!("{name}={value}")));
        }
        if let Some(target) = case.target {
            options.push(("target", case.recipe.call(target, false)));
        }
        if let Some(platform) = case.platform {
            options.push(("platform", platform.to_owned()));
        }
        let build = Build { context: &laid.context(), beside: &laid.beside(), options: &options };
        self.build(&build, laid.path())
    }

    /// Builds a directory with a Dockerfile in it.
    ///
    /// # Errors
    /// What the client says when the build fails.
    pub(super) fn directory(&self, context: &Path, beside: &Path) -> Result<Built, String> {
        let scratch = tempfile::tempdir().unwrap();
        self.build(&Build { context, beside, options: &[] }, scratch.path())
    }

    fn build(&self, build: &Build<'_>, scratch: &Path) -> Result<Built, String> {
        let Build { context, beside, options } = build;
        let saved = scratch.join("image.tar");
        match self {
            Self::Docker { program, host } => {
                let docker = || {
                    let mut command = Command::new(program);
                    command.env("DOCKER_HOST", host).env("DOCKER_CONFIG", scratch.join("config"));
                    command
                };
                let id = scratch.join("image.id");
                let mut command = docker();
                // Newer clients say by default when and how an image was made, inside of it.
                command.env("DOCKER_BUILDKIT", "1").env("BUILDX_NO_DEFAULT_ATTESTATIONS", "1");
                command.args(["build", "--no-cache", "--pull", "-f"]);
                command.arg(beside.join("Dockerfile")).arg("--iidfile").arg(&id);
                for (name, value) in *options {
                    command.args([format!("--{name}"), value.clone()]);
                }
                run(command.arg("--progress=plain").arg(context))?;
                let id = std::fs::read_to_string(id).unwrap();
                run(docker().args(["save", "-o"]).arg(&saved).arg(&id))?;
                run(docker().args(["image", "rm", "-f", &id]))?;
            }
            Self::Ours { docker, host } => {
                let id = scratch.join("image.id");
                let mut command = Command::new(Program::path_of("smartbuild"));
                command.env_clear().env("HOME", scratch).env("DOCKER_HOST", host);
                command.args(["--no-cache", "--pull", "--progress=plain", "-f"]);
                command.arg(beside.join("Dockerfile")).arg("--iidfile").arg(&id);
                for (name, value) in *options {
                    command.args([format!("--{name}"), value.clone()]);
                }
                run(command.arg(context))?;
                let id = std::fs::read_to_string(id).unwrap();
                let docker = || {
                    let mut command = Command::new(docker);
                    command.env("DOCKER_HOST", host).env("DOCKER_CONFIG", scratch.join("config"));
                    command
                };
                run(docker().args(["save", "-o"]).arg(&saved).arg(&id))?;
                run(docker().args(["image", "rm", "-f", &id]))?;
            }
            Self::BuildKit { address } => {
                let mut command = Command::new("buildctl");
                command.args(["--addr", address, "build", "--no-cache", "--progress=plain"]);
                command.args(["--frontend=dockerfile.v0", "--local"]);
                command.arg(format!("context={}", context.display())).arg("--local");
                command.arg(format!("dockerfile={}", beside.display())).arg("--output");
                command.arg(format!("type=docker,name=x,dest={}", saved.display()));
                for (name, value) in *options {
                    let option = match *name {
                        "build-arg" | "label" => format!("{name}:{value}"),
                        _ => format!("{name}={value}"),
                    };
                    command.args(["--opt", &option]);
                }
                run(&mut command)?;
            }
        }
        let image = std::fs::read(&saved).unwrap();
        std::fs::remove_file(saved).unwrap();
        Ok(Built::read(&image))
    }
}

struct Build<'a> {
    context: &'a Path,
    beside: &'a Path,
    options: &'a [(&'a str, String)],
}

fn run(command: &mut Command) -> Result<(), String> {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    if status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

impl Built {
    /// Reads what `docker save` writes.
    fn read(saved: &[u8]) -> Self {
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
        let paths: std::collections::BTreeSet<&String> = paths.collect();
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
        && labels.remove(Key::LABEL).is_some()
        && labels.is_empty()
    {
        settings.remove("Labels");
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
