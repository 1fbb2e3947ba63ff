//! From a request to the inputs and their key, and to what the engine would be served.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use super::{Error, World, images, remotes, unused};
use crate::{
    context::{self, Ignore, Read, Tree},
    dockerfile::{self, ContextRead, Dockerfile, Effect, ErrorKind, ImageUse, ReadKind, Slice},
    inputs::{self, Inputs, Instruction, Key, Stage},
    layer_cache::LayerCache,
    nearest::nearest,
    platform::Platform,
    registry::Digest,
    settings::{BasePolicy, DockerfileSource, Request},
};

/// Everything that is known before anybody is asked for the image.
#[derive(Debug)]
pub struct Prepared {
    /// What the image depends on.
    pub inputs: Arc<Inputs>,
    /// The digest of that.
    pub key: Key,
    /// Why the key does not cover everything, where it does not.
    pub not_skippable: Option<String>,
    /// What a person should know of how the key came about.
    pub warnings: Vec<String>,
    /// The Dockerfile to serve: bases pinned to the digests in the key and, where that can be had,
    /// the key in the last instruction of the target.
    pub dockerfile: Vec<u8>,
    /// The directories of the contexts; the main one under the empty name.
    pub roots: BTreeMap<String, PathBuf>,
    /// The build arguments that the engine is given: those that were asked for, and the proxies.
    pub build_args: BTreeMap<String, String>,
    /// What the target depends on, as far as the Dockerfile says.
    pub slice: Slice,
    /// The hosts of the registries that the bases are in.
    pub registries: BTreeSet<String>,
    /// Images that a trigger of a base names: they cannot be pinned, for they are not in the text.
    pub unpinned: Vec<(String, Digest)>,
    /// The images that only the engine has, with the identifiers that are in the key.
    pub local_images: Vec<inputs::Image>,
    /// The stages for which images of their own could stand.
    pub reusable: Vec<String>,
}

/// Finds out what the image of `request` depends on.
///
/// # Errors
/// When the Dockerfile or the context cannot be read or is wrong, or an image that the build starts
/// from cannot be found.
pub async fn prepare(request: &Request, world: &World) -> Result<Prepared, Error> {
    let started = Instant::now();
    let text = read_dockerfile(request, world)?;
    // A stage can declare a proxy and use it like any other argument.
    let mut build_args = world.proxy_arguments();
    build_args.extend(request.build_args.clone());
    let asked = asked(request, build_args);
    let mut parsed = understand(&text, &asked, request)?;
    let mut found = images::Found::new(request, world);
    let mut reasons = Vec::new();
    let mut warnings = Vec::new();

    let frontend = parsed.frontend(&text, &asked);
    if let Some(frontend) = &frontend {
        found.frontend(frontend, &mut reasons).await;
    }
    let slice = match &parsed {
        Parsed::Known(dockerfile) => match slice(dockerfile, &asked, &mut found, request).await {
            Err(Error::Dockerfile(error)) if error.kind() == ErrorKind::NotUnderstood => {
                parsed = Parsed::Unknown(not_understood(&error));
                None
            }
            slice => Some(slice?),
        },
        Parsed::Unknown(_) => None,
    };
    let slice = slice.unwrap_or_else(|| unknown(&text));
    if let Parsed::Unknown(reason) = &parsed {
        if let Some(context) = request.context_images.keys().next() {
            let (context, reason) = (context.clone(), reason.clone());
            return Err(Error::UnplacedImage { context, reason });
        }
        reasons.push(reason.clone());
    }
    for wider in &slice.wider {
        let text = format!("{} line {}: {}", request.dockerfile_name(), wider.line, wider.reason);
        match wider.effect {
            Effect::WholeContext => {
                warnings.push(format!("{text}; the whole context is in the key"));
            }
            Effect::NotSkippable => reasons.push(text),
        }
    }

    if let Parsed::Known(dockerfile) = &parsed {
        let unused = unused::warnings(dockerfile, &asked, &slice, request);
        warnings.extend(unused.map_err(|e| named(e, request))?);
    }

    let trees = scan(request, &slice, world);
    let remotes = remotes::identify(&slice.remotes, request, world, &mut reasons);
    let (trees, remotes) = futures_util::future::join(trees, remotes).await;
    let (mut trees, roots) = trees?;
    warnings.extend(trees.values().flat_map(|tree| &tree.warnings).map(ToString::to_string));

    warnings.extend(found.warnings());
    let pins = found.pins(&slice.images);
    let frontend_pin = found.frontend_pin();
    let frontend_pin = frontend_pin.as_ref().map(|(frontend, digest)| (*frontend, digest.as_str()));
    let dockerfile = match &parsed {
        Parsed::Known(dockerfile) => dockerfile
            .pin(pins.iter().map(|(image, digest)| (*image, digest.as_deref())), frontend_pin)?,
        Parsed::Unknown(_) => text,
    };
    let reusable = match &parsed {
        Parsed::Known(dockerfile) if request.cache_stages.is_some() => {
            dockerfile.reusable(&asked, &slice).map_err(|e| named(e, request))?
        }
        _ => Vec::new(),
    };
    let registries = found.registries();
    let unpinned = found.unpinned(&slice.images);
    let images = found.into_inputs();
    let local_images = images.iter().filter(|image| image.is_local()).cloned().collect();
    let secrets = secrets(&slice, request);
    let inputs = Inputs {
        platforms: vec![request.target_platform()],
        stages: stages(&slice),
        arguments: slice.arguments.clone(),
        context: trees.remove("").unwrap_or_default(),
        contexts: trees,
        remotes,
        secrets,
        labels: request.labels.clone(),
        options: options(request),
        period: request.refresh.map(|refresh| refresh.period(jiff::Timestamp::now())),
        images,
    };
    let key = inputs.key();
    let dockerfile = match &parsed {
        // What no key covers must not be found by one.
        Parsed::Known(_) if reasons.is_empty() => {
            marked(dockerfile, &asked.clone().of_pinned(), key).map_err(|e| named(e, request))?
        }
        _ => dockerfile,
    };
    world.reporter.detail(|| {
        format!("key {key} of {} entries in {:.1?}", inputs.entries(), started.elapsed())
    });
    Ok(Prepared {
        key,
        inputs: Arc::new(inputs),
        not_skippable: (!reasons.is_empty()).then(|| reasons.join("; ")),
        warnings,
        dockerfile,
        roots,
        build_args: asked.build_args,
        slice,
        unpinned,
        registries,
        local_images,
        reusable,
    })
}

/// What a build with these arguments asks of its Dockerfile.
pub(super) fn asked(
    request: &Request,
    build_args: BTreeMap<String, String>,
) -> dockerfile::Request {
    dockerfile::Request {
        target: request.target.clone(),
        build_args,
        platform: request.target_platform(),
        build_platform: Platform::host(),
        contexts: request.contexts.keys().cloned().collect(),
        images: request.context_images.clone(),
    }
}

/// A Dockerfile that we can read, or why we cannot.
enum Parsed {
    Known(Dockerfile),
    /// An engine may understand it; nothing is known of what it reads.
    Unknown(String),
}

impl Parsed {
    fn frontend(&self, text: &[u8], asked: &dockerfile::Request) -> Option<dockerfile::Frontend> {
        match self {
            Self::Known(dockerfile) => dockerfile.frontend(asked),
            Self::Unknown(_) => dockerfile::frontend(text, &asked.build_args),
        }
    }
}

fn understand(
    text: &[u8],
    asked: &dockerfile::Request,
    request: &Request,
) -> Result<Parsed, Error> {
    let foreign = dockerfile::frontend(text, &asked.build_args).filter(|frontend| !frontend.known);
    if let Some(frontend) = foreign {
        return Ok(Parsed::Unknown(format!(
            "it is read by the frontend {}, whose language is not known here",
            frontend.image
        )));
    }
    match dockerfile::parse(text) {
        Ok(dockerfile) => Ok(Parsed::Known(dockerfile)),
        Err(error) if error.kind() == ErrorKind::NotUnderstood => {
            Ok(Parsed::Unknown(not_understood(&error)))
        }
        Err(error) => Err(named(error, request)),
    }
}

fn not_understood(error: &dockerfile::Error) -> String {
    format!("line {} of the Dockerfile is not understood here: {}", error.line(), error.message())
}

/// What the target depends on, with every image that it reads found.
async fn slice(
    dockerfile: &Dockerfile,
    asked: &dockerfile::Request,
    found: &mut images::Found<'_>,
    request: &Request,
) -> Result<Slice, Error> {
    let uses = dockerfile.images(asked).map_err(|e| named(e, request))?;
    found.uses(&uses).await.map_err(|error| mistyped(error, dockerfile, &uses, request))?;
    let slice = dockerfile.slice(asked, &found.bases()).map_err(|e| named(e, request))?;
    // Triggers of a base can copy from images that the text does not name.
    found.uses(&slice.images).await?;
    Ok(slice)
}

/// The error about an image that is not there, where its name is a word that could be a stage's.
fn mistyped(error: Error, text: &Dockerfile, uses: &[ImageUse], request: &Request) -> Error {
    let (Error::Base { name, .. } | Error::NoBase { name, .. }) = &error else { return error };
    let is_word = !name.contains(['/', ':', '@', '.']);
    let stage = nearest(name, text.stage_names()).filter(|_| is_word);
    let found = uses.iter().find(|image| image.key.name == *name);
    let (Some(stage), Some(found)) = (stage, found) else { return error };
    Error::NoStage {
        file: request.dockerfile_name(),
        line: found.line,
        name: name.clone(),
        stage: stage.to_owned(),
        source: Box::new(error),
    }
}

/// The slice of a Dockerfile that we cannot read: all of the text, all of the context.
fn unknown(text: &[u8]) -> Slice {
    let instruction =
        dockerfile::SlicedInstruction { line: 1, text: String::from_utf8_lossy(text).into_owned() };
    let stage = dockerfile::SlicedStage {
        index: 0,
        name: None,
        base: dockerfile::Base::Scratch,
        triggers: None,
        instructions: vec![instruction],
        uses: BTreeSet::new(),
    };
    let all = ContextRead { stage: 0, context: None, line: 1, kind: ReadKind::All };
    Slice { stages: vec![stage], reads: vec![all], ..Slice::default() }
}

/// The Dockerfile with the key in its last instruction, so that the image can be told from images
/// that are built on top of it and inherit its labels.
fn marked(
    text: Vec<u8>,
    asked: &dockerfile::Request,
    key: Key,
) -> Result<Vec<u8>, dockerfile::Error> {
    let mark = format!("LABEL {}={key}", Key::LABEL);
    Ok(dockerfile::parse(&text)?.marked(asked, &mark)?.unwrap_or(text))
}

fn named(error: dockerfile::Error, request: &Request) -> Error {
    Error::Dockerfile(error.with_file(request.dockerfile_name()))
}

fn read_dockerfile(request: &Request, world: &World) -> Result<Vec<u8>, Error> {
    let unreadable = |source| Error::NoDockerfile { name: request.dockerfile_name(), source };
    match &request.dockerfile {
        DockerfileSource::File(path) => std::fs::read(path).map_err(unreadable),
        DockerfileSource::Stdin => world.stdin().map_err(unreadable),
    }
}

/// Scans every context that the slice reads, on a thread of its own.
async fn scan(
    request: &Request,
    slice: &Slice,
    world: &World,
) -> Result<(BTreeMap<String, Arc<Tree>>, BTreeMap<String, PathBuf>), Error> {
    let mut reads = by_context(&slice.reads);
    reads.entry(String::new()).or_default();
    let dockerfile = match &request.dockerfile {
        DockerfileSource::File(path) => Some(path.clone()),
        DockerfileSource::Stdin => None,
    };
    let mut roots = BTreeMap::new();
    for name in reads.keys() {
        let root = if name.is_empty() { &request.context } else { &request.contexts[name] };
        roots.insert(name.clone(), root.clone());
    }
    let options = context::Options {
        strict_modes: request.strict_modes,
        stat_cache: if request.stat_cache { world.stat_cache() } else { None },
        threads: None,
    };
    let all = roots.clone();
    let scan = tokio::task::spawn_blocking(move || {
        let mut trees = BTreeMap::new();
        for (name, reads) in reads {
            let root = &all[&name];
            // A named context has the ignore file in its root and no other (buildkit
            // `frontend/dockerui/namedcontext.go`).
            let ignore = ignore(root, dockerfile.as_deref().filter(|_| name.is_empty()))?;
            trees.insert(name, Arc::new(context::scan(root, &ignore, &reads, &options)?));
        }
        Ok::<_, Error>(trees)
    });
    // A panic in the scan is a bug, and is one here too.
    let trees = scan.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    Ok((trees, roots))
}

fn ignore(context: &Path, dockerfile: Option<&Path>) -> Result<Ignore, Error> {
    match context::ignore_file(context, dockerfile)? {
        None => Ok(Ignore::none()),
        Some((path, text)) => {
            let name = path.strip_prefix(".").unwrap_or(&path).display().to_string();
            let parsed = Ignore::parse(&text).map(|ignore| ignore.named(name));
            parsed.map_err(|source| Error::Ignore { path, source })
        }
    }
}

/// What is read of each context, the main one under the empty name.
pub(super) fn by_context<'a>(
    reads: impl IntoIterator<Item = &'a ContextRead>,
) -> BTreeMap<String, Vec<Read>> {
    let mut all: BTreeMap<String, Vec<Read>> = BTreeMap::new();
    for read in reads {
        let name = read.context.clone().unwrap_or_default();
        all.entry(name).or_default().extend(context_reads(&read.kind));
    }
    all
}

/// What a stage reads, in the words of the context.
fn context_reads(kind: &ReadKind) -> Vec<Read> {
    match kind {
        ReadKind::All => vec![Read::All],
        ReadKind::Bind { source } => vec![Read::Bind { source: source.clone().into_bytes() }],
        ReadKind::Copy { sources, parents, exclude } => {
            let exclude: Vec<_> = exclude.iter().map(|pattern| pattern.clone().into()).collect();
            let copy = |source: &String| Read::Copy {
                source: source.clone().into_bytes(),
                parents: *parents,
                exclude: exclude.clone(),
            };
            sources.iter().map(copy).collect()
        }
    }
}

fn stages(slice: &Slice) -> Vec<Stage> {
    let stage = |stage: &dockerfile::SlicedStage| Stage {
        name: stage.name.clone().unwrap_or_else(|| stage.index.to_string()),
        instructions: stage
            .instructions
            .iter()
            .map(|i| Instruction { line: i.line, text: i.text.clone() })
            .collect(),
    };
    slice.stages.iter().map(stage).collect()
}

/// The identifiers of the secrets and agents that the steps mount. A step can see that one is missing,
/// unless the build fails then: so that counts too.
fn secrets(slice: &Slice, request: &Request) -> BTreeSet<String> {
    let entry = |id: String, counts: bool| if counts { id } else { format!("{id} (not given)") };
    let secret = |mount: &dockerfile::Secret| {
        let given = request.secrets.iter().any(|secret| secret.id == mount.id);
        entry(mount.id.clone(), given || mount.required)
    };
    let agent = |mount: &dockerfile::Secret| {
        let given = request.ssh.iter().any(|agent| agent.id == mount.id);
        entry(format!("ssh:{}", mount.id), given || mount.required)
    };
    slice.secrets.iter().map(secret).chain(slice.ssh.iter().map(agent)).collect()
}

/// Options of the build that can change the image.
fn options(request: &Request) -> BTreeMap<String, String> {
    let mut options = BTreeMap::new();
    if let Some(network) = request.network.as_ref().filter(|network| *network != "default") {
        options.insert("network".to_owned(), network.clone());
    }
    if !request.add_host.is_empty() {
        options.insert("add-host".to_owned(), request.add_host.join("\n"));
    }
    for limit in &request.ulimits {
        options.insert(format!("ulimit {}", limit.name), format!("{}:{}", limit.soft, limit.hard));
    }
    if request.cache_to.iter().any(LayerCache::is_inline) {
        // It is written into the image's configuration.
        options.insert("cache-to".to_owned(), "inline".to_owned());
    }
    if let Some(size) = request.shm_size {
        options.insert("shm-size".to_owned(), size.to_string());
    }
    if request.base_policy == BasePolicy::Tag {
        options.insert("base-policy".to_owned(), "tag".to_owned());
    }
    options
}
