//! Options whose value has a form of its own: `KEY=VALUE`, `id=…,src=…`, sizes.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, sync::Arc};

use docker_credential_aliyun::Secret;

use super::{Environment, Error};
use crate::{
    dockerfile,
    layer_cache::{InvalidLayerCache, LayerCache},
    platform::Platform,
    registry::{Reference, SigningKey},
};

/// What a context that is an image begins with.
pub(super) const IMAGE_CONTEXT: &str = "docker-image://";

/// A secret that a step may mount (`--secret`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretSpec {
    /// What the Dockerfile calls it.
    pub id: String,
    /// Where its value is.
    pub source: SecretSource,
}

/// Where the value of a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In a file.
    File(PathBuf),
    /// In a variable of the environment.
    Variable(String),
    /// What a shell command writes.
    Command(String),
}

/// An ssh agent or key that a step may use (`--ssh`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshSpec {
    /// What the Dockerfile calls it; `default` when it does not say.
    pub id: String,
    /// The agent's socket, or files with private keys; nothing where an agent should run and does not.
    pub places: Vec<PathBuf>,
}

/// A limit of the processes of `RUN` (`--ulimit`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// Its name: `nofile`.
    pub name: String,
    /// What a process starts with; -1 is no limit.
    pub soft: i64,
    /// What it can raise it to.
    pub hard: i64,
}

/// Reads `NAME=SOFT[:HARD]` (docker/go-units `ulimit.go`).
pub(super) fn ulimits(texts: &[String]) -> Result<Vec<Ulimit>, Error> {
    let limit = |text: &String| {
        let (name, values) = text.split_once('=')?;
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let (soft, hard) = (soft.parse().ok()?, hard.parse().ok()?);
        let in_order = hard == -1 || (soft != -1 && soft <= hard);
        (!name.is_empty() && in_order).then(|| Ulimit { name: name.to_owned(), soft, hard })
    };
    let read = |text: &String| {
        let why = "write NAME=SOFT or NAME=SOFT:HARD, for example nofile=1024:2048";
        limit(text).ok_or_else(|| Error::option("--ulimit", text, why))
    };
    texts.iter().map(read).collect()
}

/// Splits `KEY=VALUE`; a build argument without a value takes the variable of that name, and has none
/// where there is no such variable (docker/cli `opts/env.go`).
pub(super) fn build_args(
    texts: &[String],
    environment: &Environment,
) -> Result<BTreeMap<String, Option<String>>, Error> {
    let mut arguments: BTreeMap<String, Option<String>> = BTreeMap::new();
    for text in texts {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text.as_str(), environment.var_even_empty(text)),
        };
        if name.is_empty() {
            return Err(Error::option(
                "--build-arg",
                text,
                "write NAME=VALUE, or NAME to take the variable of that name",
            ));
        }
        let argument = arguments.entry(name.to_owned()).or_default();
        if let Some(value) = value {
            *argument = Some(value.to_owned());
        }
    }
    Ok(arguments)
}

/// Reads `NAME:IP` and `NAME=IP`, with or without brackets around an IPv6 address, and writes the first
/// form without them (docker/cli `opts/hosts.go`: `ValidateExtraHost`). Docker's word `host-gateway` is
/// an address, too.
pub(super) fn hosts<'a>(texts: impl Iterator<Item = &'a String>) -> Result<Vec<String>, Error> {
    let host = |text: &String| {
        let (name, address) = text.split_once('=').or_else(|| text.split_once(':'))?;
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let address = bare.unwrap_or(address);
        let known = address == "host-gateway" || address.parse::<IpAddr>().is_ok();
        (!name.is_empty() && known).then(|| format!("{name}:{address}"))
    };
    let why = "write NAME:IP, for example db:10.0.0.7, or NAME:host-gateway";
    texts.map(|text| host(text).ok_or_else(|| Error::option("--add-host", text, why))).collect()
}

/// What steps may ask of the engine (buildkit `util/entitlements`).
pub(super) fn entitlements(texts: &[String]) -> Result<Vec<String>, Error> {
    const KNOWN: [&str; 2] = ["network.host", "security.insecure"];
    let known = |text: &String| match KNOWN.contains(&text.as_str()) {
        true => Ok(text.clone()),
        false => Err(Error::option("--allow", text, "write network.host or security.insecure")),
    };
    texts.iter().map(known).collect()
}

pub(super) fn labels(texts: &[String]) -> Result<BTreeMap<String, String>, Error> {
    let label = |text: &String| match text.split_once('=') {
        Some(("", _)) => Err(Error::option("--label", text, "write NAME=VALUE")),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Ok((text.clone(), String::new())),
    };
    texts.iter().map(label).collect()
}

/// What stands for the names of contexts: directories, and images.
#[derive(Default)]
pub(super) struct Contexts {
    pub(super) directories: BTreeMap<String, PathBuf>,
    pub(super) images: BTreeMap<String, String>,
}

impl Contexts {
    /// Reads `NAME=DIRECTORY` and `NAME=docker-image://IMAGE`; a name that is there already gets another
    /// meaning. A context is found by the shortest way to write its name, under which it must be sent
    /// too: an engine looks for no other (buildx `build/opt.go`, buildkit `frontend/dockerui/config.go`:
    /// `NamedContext`).
    pub(super) fn add(&mut self, text: &str) -> Result<(), Error> {
        let wrong = |why: &str| Error::option("--build-context", text, why);
        const HOW: &str = "write NAME=DIRECTORY or NAME=docker-image://IMAGE";
        let (name, value) = match text.split_once('=') {
            Some((name, value)) if !name.is_empty() && !value.is_empty() => (name, value),
            _ => return Err(wrong(HOW)),
        };
        // Names of stages are in lower case, tags are not.
        let name = context_name(name).or_else(|| context_name(&name.to_lowercase()));
        let name = name.ok_or_else(|| wrong("its name is neither a stage's nor an image's"))?;
        if let Some(image) = value.strip_prefix(IMAGE_CONTEXT) {
            if image == "scratch" {
                return Err(wrong("there is no such image; an empty directory is as much"));
            }
            image.parse::<Reference>().map_err(|error| wrong(&error.to_string()))?;
            self.directories.remove(&name);
            self.images.insert(name, image.to_owned());
            return Ok(());
        }
        if value.contains("://") {
            return Err(wrong(&format!(
                "only directories and images can be a named context; {HOW}"
            )));
        }
        let path = PathBuf::from(value);
        match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(wrong("this is not a directory")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(wrong("there is no such directory"));
            }
            Err(error) => return Err(wrong(&format!("the directory cannot be read: {error}"))),
        }
        self.images.remove(&name);
        self.directories.insert(name, path);
        Ok(())
    }
}

/// The name by which engines look for a context, which may be for one platform (`name::linux/arm64`).
/// `None` if no image could have it.
fn context_name(text: &str) -> Option<String> {
    let (name, platform) = match text.split_once("::") {
        Some((name, platform)) => (name, Some(platform.parse::<Platform>().ok()?)),
        None => (text, None),
    };
    name.parse::<Reference>().ok()?;
    let name = dockerfile::familiar(name);
    Some(platform.map_or_else(|| name.clone(), |platform| format!("{name}::{platform}")))
}

/// Reads `id=ID[,src=FILE|,env=NAME|,cmd=COMMAND]`, as docker does, and more: what a command writes,
/// such as that of a password manager. It comes last, for it may have commas in it. Without a source, the variable ID if it is
/// set, else the file ID (buildx `util/buildflags/secrets.go`).
pub(super) fn secrets(
    texts: &[String],
    environment: &Environment,
) -> Result<Vec<SecretSpec>, Error> {
    texts.iter().map(|text| secret(text, environment)).collect()
}

fn secret(text: &str, environment: &Environment) -> Result<SecretSpec, Error> {
    let wrong = |why: &str| Error::option("--secret", text, why);
    let (text, command) = match text.split_once(",cmd=") {
        Some((text, command)) => (text, Some(command)),
        None => (text, None),
    };
    let (mut id, mut file, mut variable) = (None, None, None);
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("id", value)) => id = Some(value.to_owned()),
            Some(("src" | "source", value)) => file = Some(PathBuf::from(value)),
            Some(("env", value)) => variable = Some(value.to_owned()),
            Some(("type", "file" | "env")) => {}
            _ => {
                return Err(wrong("write id=ID,src=FILE, id=ID,env=VARIABLE or id=ID,cmd=COMMAND"));
            }
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| wrong("it has no id=ID"))?;
    let source = match (file, variable, command) {
        (Some(file), None, None) => SecretSource::File(file),
        (None, Some(variable), None) => SecretSource::Variable(variable),
        (None, None, Some(command)) => SecretSource::Command(command.to_owned()),
        (None, None, None) if environment.var(&id).is_ok_and(|value| value.is_none()) => {
            SecretSource::File(PathBuf::from(&id))
        }
        (None, None, None) => SecretSource::Variable(id.clone()),
        _ => return Err(wrong("give one of src, env and cmd")),
    };
    Ok(SecretSpec { id, source })
}

/// Reads the secret of `--sign-key` or `--verify-key`: the content of a file, or the value of a
/// variable. Never the secret itself: a command line can be read by everybody on the machine. What was
/// typed is not repeated in errors, for it may be the secret all the same.
pub(super) fn signing_key(
    option: &'static str,
    place: Option<&String>,
    environment: &Environment,
) -> Result<Option<Arc<SigningKey>>, Error> {
    let Some(place) = place else { return Ok(None) };
    let wrong = |why: String| {
        Error::Conflict(format!(
            "{option} {why}; give the file that holds the key, or env:VARIABLE"
        ))
    };
    let secret = match place.strip_prefix("env:") {
        Some(name) => environment
            .var(name)
            .map_err(|_| wrong("names a variable that is not text".into()))?
            .ok_or_else(|| wrong("names a variable that is not set".into()))?
            .to_owned(),
        None => std::fs::read_to_string(place)
            .map_err(|error| wrong(format!("names a file that cannot be read: {error}")))?,
    };
    let key = SigningKey::new(&Secret::new(secret));
    key.map(|key| Some(Arc::new(key))).map_err(|error| wrong(format!("is too weak: {error}")))
}

/// Reads `default`, `ID=SOCKET` or `ID=KEY[,KEY]`.
pub(super) fn ssh(texts: &[String], environment: &Environment) -> Result<Vec<SshSpec>, Error> {
    let spec = |text: &String| {
        let (id, places): (_, Vec<PathBuf>) = match text.split_once('=') {
            Some((id, places)) => (id, places.split(',').map(PathBuf::from).collect()),
            // Whether one runs matters only to who builds.
            None => (text.as_str(), environment.path("SSH_AUTH_SOCK").into_iter().collect()),
        };
        if places.iter().any(|place| place.as_os_str().is_empty()) {
            return Err(Error::option("--ssh", text, "write default, ID=SOCKET or ID=KEY[,KEY]"));
        }
        let id = if id.is_empty() { "default" } else { id };
        Ok(SshSpec { id: id.to_owned(), places })
    };
    texts.iter().map(spec).collect()
}

/// Reads a size in bytes with docker's suffixes `b`, `k`, `m`, `g` (powers of 1024).
pub(super) fn size(text: &str) -> Result<u64, Error> {
    let wrong = || Error::option("--shm-size", text, "write a size such as 64m or 1g");
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches('b');
    let (digits, unit) = match digits.chars().last() {
        Some('k') => (&digits[..digits.len() - 1], 1 << 10),
        Some('m') => (&digits[..digits.len() - 1], 1 << 20),
        Some('g') => (&digits[..digits.len() - 1], 1 << 30),
        _ => (digits, 1_u64),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(unit).ok_or_else(wrong)
}
/// Where a build is written to (`--output`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputSpec {
    /// What is written.
    pub kind: OutputKind,
    /// The file or the directory; `None` for standard output.
    pub to: Option<PathBuf>,
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// The image's files, into a directory.
    Local,
    /// The image's files, as a tar.
    Tar,
    /// The image, as a tar of OCI's image layout.
    Oci,
}

/// Places for the engine's layer cache, read one by one.
pub(super) fn caches(
    option: &'static str,
    texts: &[String],
    read: fn(&str) -> Result<LayerCache, InvalidLayerCache>,
) -> Result<Vec<LayerCache>, Error> {
    let cache = |text: &String| read(text).map_err(|error| Error::option(option, text, error));
    texts.iter().map(cache).collect()
}

/// `type=local|tar|oci[,dest=PATH]`; a path alone is a directory, and `-` a tar on standard output.
pub(super) fn output(text: &str) -> Result<OutputSpec, Error> {
    let wrong = |why: &str| Err(Error::option("--output", text, why));
    if !text.contains('=') {
        return Ok(match text {
            "-" => OutputSpec { kind: OutputKind::Tar, to: None },
            path => OutputSpec { kind: OutputKind::Local, to: Some(path.into()) },
        });
    }
    let (mut kind, mut to) = (None, None);
    for pair in text.split(',') {
        match pair.split_once('=') {
            Some(("type", "local")) => kind = Some(OutputKind::Local),
            Some(("type", "tar")) => kind = Some(OutputKind::Tar),
            Some(("type", "oci")) => kind = Some(OutputKind::Oci),
            Some(("type", _)) => return wrong("its type is none of local, tar, oci"),
            Some(("dest", path)) if !path.is_empty() => to = Some(path),
            _ => return wrong("write it as type=local|tar|oci,dest=PATH"),
        }
    }
    let to = to.filter(|path| *path != "-").map(PathBuf::from);
    match kind {
        None => wrong("its type is missing; write it as type=local|tar|oci,dest=PATH"),
        Some(OutputKind::Local) if to.is_none() => wrong("type=local needs dest=DIRECTORY"),
        Some(kind) => Ok(OutputSpec { kind, to }),
    }
}
