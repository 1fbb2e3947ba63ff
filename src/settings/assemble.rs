//! How what was typed, the settings file and the environment come together.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::ValueEnum as _;

use super::{
    DockerfileSource, EngineKind, Environment, Error, OutputKind, OutputSpec, Progress, Request,
    Verbosity, file, names,
    names::named,
    pairs::{self, Contexts},
    text,
};
use crate::{cli::BuildOptions, layer_cache::LayerCache, platform::Platform};

impl Request {
    /// Puts together what was typed, what the settings file says and what the environment says, in
    /// that order of precedence.
    ///
    /// # Errors
    /// When a value is not of its form, options contradict each other, the context is not a directory
    /// or the settings file is broken.
    pub fn new(
        options: &BuildOptions,
        context: Option<PathBuf>,
        environment: &Environment,
    ) -> Result<Self, Error> {
        no_attestations(options)?;
        no_annotations(options)?;
        registry_timeout(environment)?;
        let settings = file::Settings::read(options.config.as_deref(), environment)?;
        let context = directory(context.or_else(|| settings.context.clone()))?;
        let dockerfile = match options.file.as_ref().or(settings.file.as_ref()) {
            Some(path) if path.as_os_str() == "-" => DockerfileSource::Stdin,
            Some(path) => DockerfileSource::File(path.clone()),
            None => DockerfileSource::File(default_dockerfile(&context)),
        };
        let is_on = |typed: Option<bool>, set: Option<bool>| typed.or(set).unwrap_or_default();
        let offline = is_on(options.offline, None);
        if offline
            && let Some((option, _)) = [("--push", options.push), ("--pull", options.pull)]
                .into_iter()
                .find(|(_, typed)| *typed == Some(true))
        {
            return Err(Error::Conflict(format!(
                "{option} needs a registry, and --offline asks none: give one of them"
            )));
        }
        // What was typed goes before what the file says.
        let push = is_on(options.push, settings.push) && !offline;
        let tags = names::tags(options, &settings, environment)?;
        if push && tags.is_empty() {
            return Err(Error::Conflict(format!(
                "--push needs a name to push to: give -t HOST/NAMESPACE/REPOSITORY:TAG{}",
                names::missing_of_a_pipeline(environment)?
            )));
        }
        if push && let Some(tag) = tags.iter().find(|tag| tag.digest.is_some()) {
            return Err(Error::option("--tag", tag.to_string(), "a tag cannot have a digest"));
        }

        let mut build_args = settings.build_args.clone();
        // As buildx does: reproducible times are asked for by the environment.
        if let Some(epoch) = text(environment, "SOURCE_DATE_EPOCH")? {
            build_args.insert("SOURCE_DATE_EPOCH".to_owned(), epoch.to_owned());
        }
        for (name, value) in pairs::build_args(&options.build_arg, environment)? {
            match value {
                Some(value) => build_args.insert(name, value),
                // What was typed goes before the file here too: the argument is not given.
                None => build_args.remove(&name),
            };
        }
        let mut labels = settings.labels.clone();
        labels.extend(pairs::labels(&options.label)?);
        let progress = progress(options, environment)?;

        let contexts = contexts(options, &settings)?;
        Ok(Self {
            context,
            contexts: contexts.directories,
            context_images: contexts.images,
            dockerfile,
            target: options.target.clone().or_else(|| settings.target.clone()),
            tags,
            build_args,
            labels,
            platforms: platforms(options, &settings, environment)?,
            engine: engine(options, &settings, environment)?,
            push,
            output: output(options)?,
            load: is_on(options.load, settings.load),
            pull: is_on(options.pull, settings.pull) && !offline,
            no_cache: is_on(options.no_cache, None),
            cache_from: pairs::caches(
                "--cache-from",
                or_set(&options.cache_from, &settings.cache_from),
                LayerCache::source,
            )?,
            cache_to: pairs::caches(
                "--cache-to",
                or_set(&options.cache_to, &settings.cache_to),
                LayerCache::destination,
            )?,
            allow: pairs::entitlements(&options.allow)?,
            no_cache_filter: options.no_cache_filter.clone(),
            cache_stages: cache_stages(options, &settings),
            ulimits: pairs::ulimits(or_set(&options.ulimit, &settings.ulimits))?,
            secrets: pairs::secrets(or_set(&options.secret, &settings.secrets), environment)?,
            ssh: pairs::ssh(or_set(&options.ssh, &settings.ssh), environment)?,
            network: network(options, &settings)?,
            add_host: pairs::hosts(options.add_host.iter().chain(&settings.add_host))?,
            shm_size: options
                .shm_size
                .as_deref()
                .or(settings.shm_size.as_deref())
                .map(pairs::size)
                .transpose()?,
            base_policy: options.base_policy.or(settings.base_policy).unwrap_or_default(),
            refresh: match options.refresh.as_ref().or(settings.refresh.as_ref()) {
                Some(text) => {
                    Some(text.parse().map_err(|error| Error::option("--refresh", text, error))?)
                }
                None => None,
            },
            strict_modes: is_on(options.strict_modes, settings.strict_modes),
            stat_cache: !options.no_stat_cache,
            keys_in: match options.keys_in.as_ref().or(settings.keys_in.as_ref()) {
                Some(text) => Some(named("--keys-in", text)?),
                None => None,
            },
            sign_key: pairs::signing_key(
                "--sign-key",
                options.sign_key.as_ref().or(settings.sign_key.as_ref()),
                environment,
            )?,
            verify_key: pairs::signing_key(
                "--verify-key",
                options.verify_key.as_ref().or(settings.verify_key.as_ref()),
                environment,
            )?,
            insecure_registries: options
                .insecure_registry
                .iter()
                .chain(&settings.insecure_registries)
                .cloned()
                .collect(),
            offline,
            strict: is_on(options.strict, settings.strict),
            progress,
            json: options.json,
            verbosity: match (progress == Progress::Quiet, options.verbose) {
                (true, _) => Verbosity::Quiet,
                (false, true) => Verbosity::Verbose,
                (false, false) => Verbosity::Normal,
            },
            iidfile: options.iidfile.clone(),
            metadata_file: options.metadata_file.clone(),
            environment: environment.clone(),
        })
    }
}

/// How long a registry may be silent, as `SMARTBUILD_REGISTRY_TIMEOUT` says it.
///
/// # Errors
/// When that is no number of seconds.
pub fn registry_timeout(environment: &Environment) -> Result<Option<Duration>, Error> {
    const VARIABLE: &str = "SMARTBUILD_REGISTRY_TIMEOUT";
    /// Nobody waits longer, and no clock counts as far as a number can.
    const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
    let Some(value) = text(environment, VARIABLE)? else { return Ok(None) };
    match value.trim().parse().map(Duration::from_secs) {
        Ok(time) if !time.is_zero() => Ok(Some(time.min(LONGEST))),
        _ => Err(Error::option(VARIABLE, value, "write it in seconds, for example 300")),
    }
}

/// How the build is shown: as asked for, or as the `docker` command is told to by the environment.
fn progress(options: &BuildOptions, environment: &Environment) -> Result<Progress, Error> {
    const VARIABLE: &str = "BUILDKIT_PROGRESS";
    if options.quiet {
        return Ok(Progress::Quiet);
    }
    match (options.progress, text(environment, VARIABLE)?) {
        (Some(progress), _) => Ok(progress),
        (None, None) => Ok(Progress::default()),
        (None, Some(value)) => Progress::from_str(value, false).map_err(|_| {
            Error::option(VARIABLE, value, "it is auto, plain, tty, rawjson or quiet")
        }),
    }
}

/// The build context: a directory that can be read.
fn directory(path: Option<PathBuf>) -> Result<PathBuf, Error> {
    let path = path.unwrap_or_else(|| PathBuf::from("."));
    let text = path.display().to_string();
    let wrong = |why: String| Err(Error::Context { path: text.clone(), why });
    if text == "-" {
        let why = "cannot be read from stdin: give a directory, and -f - for a Dockerfile alone";
        return wrong(why.into());
    }
    if text.contains("://") || text.starts_with("git@") {
        let why = "is not a directory: fetch it first (git clone, or unpack it), and give its path";
        return wrong(why.into());
    }
    match std::fs::read_dir(&path) {
        Ok(_) => Ok(path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            wrong("does not exist: give the path of a directory".into())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            wrong("is not a directory: give the directory, and the Dockerfile with -f".into())
        }
        Err(error) => wrong(format!("cannot be read: {error}")),
    }
}

/// `Dockerfile`, or `dockerfile` where only that exists (moby/buildkit
/// `frontend/dockerui: ReadEntrypoint`).
fn default_dockerfile(context: &Path) -> PathBuf {
    let (usual, lower) = (context.join("Dockerfile"), context.join("dockerfile"));
    if !usual.exists() && lower.exists() { lower } else { usual }
}

/// What was typed or, where nothing was, what the settings file says.
fn or_set<'a>(typed: &'a [String], set: &'a [String]) -> &'a [String] {
    if typed.is_empty() { set } else { typed }
}

/// The named contexts: those of the settings file, and those that were typed, which go before.
fn contexts(options: &BuildOptions, settings: &file::Settings) -> Result<Contexts, Error> {
    let set = settings.build_contexts.iter();
    let set = set.map(|(name, place)| format!("{name}={}", place.display()));
    let mut contexts = Contexts::default();
    for text in set.chain(options.build_context.iter().cloned()) {
        contexts.add(&text)?;
    }
    Ok(contexts)
}

/// The stages that get images of their own, by their names in lower case.
fn cache_stages(options: &BuildOptions, settings: &file::Settings) -> Option<Vec<String>> {
    let stages = match (&options.cache_stages, &settings.cache_stages) {
        (Some(stages), _) | (None, Some(file::CacheStages::These(stages))) => stages.as_slice(),
        (None, Some(file::CacheStages::All(true))) => &[],
        (None, None | Some(file::CacheStages::All(false))) => return None,
    };
    Some(stages.iter().map(|name| name.to_lowercase()).collect())
}

/// Attestations say when and where a build ran: of an image that stands for its inputs, whoever built
/// it, they would tell of one build among many.
fn no_attestations(options: &BuildOptions) -> Result<(), Error> {
    let short = [("--provenance", &options.provenance), ("--sbom", &options.sbom)];
    let short = short.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let long = options.attest.iter().map(|value| ("--attest", value));
    let off =
        |value: &str| value == "false" || value.split(',').any(|part| part == "disabled=true");
    match short.chain(long).find(|(_, value)| !off(value)) {
        Some((name, value)) => Err(Error::option(
            name,
            value,
            "images are built without attestations, so that equal inputs give one image; attach \
             them to the digest that is reported, with a tool of their own",
        )),
        None => Ok(()),
    }
}

/// Annotations are of a manifest, and a manifest may be in the registry already.
fn no_annotations(options: &BuildOptions) -> Result<(), Error> {
    match options.annotation.first() {
        Some(text) => Err(Error::option(
            "--annotation",
            text,
            "images are built without annotations; use --label, which is in the key",
        )),
        None => Ok(()),
    }
}

/// Where the build is written to, if that does not meet with other uses of it.
fn output(options: &BuildOptions) -> Result<Option<OutputSpec>, Error> {
    let Some(text) = &options.output else { return Ok(None) };
    let output = pairs::output(text)?;
    let conflict = |why: &str| Err(Error::Conflict(why.to_owned()));
    if output.to.is_none() && (options.json || options.quiet) {
        return conflict("--output to stdout leaves no room there for --json or --quiet");
    }
    if output.kind != OutputKind::Oci && options.push != Some(true) && options.iidfile.is_some() {
        return conflict("files that are written have no identifier: --iidfile goes with an image");
    }
    if options.load == Some(true) {
        return conflict("--load and --output do not go together: run smartbuild once for each");
    }
    Ok(Some(output))
}

/// The network of the steps. BuildKit knows these three; `bridge` is what Docker calls its default.
fn network(options: &BuildOptions, settings: &file::Settings) -> Result<Option<String>, Error> {
    match options.network.as_ref().or(settings.network.as_ref()) {
        None => Ok(None),
        Some(name) if name == "bridge" => Ok(Some("default".to_owned())),
        Some(name) if ["default", "none", "host"].contains(&name.as_str()) => {
            Ok(Some(name.clone()))
        }
        Some(name) => Err(Error::option("--network", name, "it is default, none or host")),
    }
}

/// What was typed, what `SMARTBUILD_ENGINE` says, what the settings file says.
fn engine(
    options: &BuildOptions,
    settings: &file::Settings,
    environment: &Environment,
) -> Result<EngineKind, Error> {
    let set = text(environment, "SMARTBUILD_ENGINE")?.filter(|text| !text.is_empty());
    match (options.engine, set) {
        (Some(engine), _) => Ok(engine),
        (None, Some(text)) => clap::ValueEnum::from_str(text, false).map_err(|_| {
            let kinds = <EngineKind as clap::ValueEnum>::value_variants().iter();
            let names = kinds.filter_map(clap::ValueEnum::to_possible_value);
            let names: Vec<_> = names.map(|name| name.get_name().to_owned()).collect();
            Error::option("SMARTBUILD_ENGINE", text, format!("is none of {}", names.join(", ")))
        }),
        (None, None) => Ok(settings.engine.unwrap_or_default()),
    }
}

/// What was typed, what the settings file says, what the `docker` command is told to build for.
fn platforms(
    options: &BuildOptions,
    settings: &file::Settings,
    environment: &Environment,
) -> Result<Vec<Platform>, Error> {
    const VARIABLE: &str = "DOCKER_DEFAULT_PLATFORM";
    let typed = if options.platform.is_empty() { &settings.platforms } else { &options.platform };
    if typed.is_empty() {
        let default = text(environment, VARIABLE)?.filter(|text| !text.is_empty());
        let parse = |text: &str| text.parse().map_err(|error| Error::option(VARIABLE, text, error));
        return Ok(default.map(parse).transpose()?.into_iter().collect());
    }
    let parse = |text: &String| {
        text.parse().map_err(|error| Error::option("--platform", text.clone(), error))
    };
    let platforms: BTreeSet<Platform> = typed.iter().map(parse).collect::<Result<_, _>>()?;
    Ok(platforms.into_iter().collect())
}
