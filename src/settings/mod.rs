//! From what was typed, the environment and `smartbuild.toml` to one [`Request`].
//!
//! Knows option names, the settings file and what CI systems put into the environment; must not know
//! engines or registries.

mod file;
mod pairs;
mod refresh;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use clap::ValueEnum as _;
pub use docker_credential_aliyun::Environment;
pub use pairs::{OutputKind, OutputSpec, SecretSource, SecretSpec, SshSpec, Ulimit};
pub use refresh::Refresh;

use crate::{
    cli::BuildOptions,
    platform::Platform,
    registry::{InvalidReference, Reference, Repository, SigningKey},
};

/// Everything that the user wants, checked and complete.
#[derive(Clone, Debug)]
pub struct Request {
    /// The directory whose files the image may copy.
    pub context: PathBuf,
    /// Further directories by the names that the Dockerfile uses for them.
    pub contexts: BTreeMap<String, PathBuf>,
    /// Where the Dockerfile is.
    pub dockerfile: DockerfileSource,
    /// The stage to build; the last one when absent.
    pub target: Option<String>,
    /// The names to give the image.
    pub tags: Vec<Reference>,
    /// Values of build arguments.
    pub build_args: BTreeMap<String, String>,
    /// Labels to set on the image.
    pub labels: BTreeMap<String, String>,
    /// The platforms to build for, sorted; none stands for the host's.
    pub platforms: Vec<Platform>,
    /// What to build with.
    pub engine: EngineKind,
    /// Whether the tags go to the registry.
    pub push: bool,
    /// What is written into a file, beside what is pushed.
    pub output: Option<OutputSpec>,
    /// Whether the engine must have the image at the end, also after a hit in the registry.
    pub load: bool,
    /// Whether bases must come from the registry, never from the engine's store.
    pub pull: bool,
    /// Whether to build whatever the key says, with no layer from the engine's cache.
    pub no_cache: bool,
    /// Images whose layers the engine may use.
    pub cache_from: Vec<String>,
    /// Where to export the engine's layer cache.
    pub cache_to: Vec<String>,
    /// Stages to build without the engine's layer cache.
    pub no_cache_filter: Vec<String>,
    /// The stages that get images of their own, where any do; all that can when none is named.
    pub cache_stages: Option<Vec<String>>,
    /// Limits of the processes of `RUN`.
    pub ulimits: Vec<Ulimit>,
    /// Secrets that `RUN --mount=type=secret` may read.
    pub secrets: Vec<SecretSpec>,
    /// Agents that `RUN --mount=type=ssh` may use.
    pub ssh: Vec<SshSpec>,
    /// Network of `RUN`: `default`, `none`, `host`.
    pub network: Option<String>,
    /// Further lines of `/etc/hosts` during `RUN`, as `host:address`.
    pub add_host: Vec<String>,
    /// Size of `/dev/shm` during `RUN`, in bytes.
    pub shm_size: Option<u64>,
    /// Which changes of a base count.
    pub base_policy: BasePolicy,
    /// How long an image may go unbuilt although nothing we can see has changed.
    pub refresh: Option<Refresh>,
    /// Whether all permission bits count, not only those that git keeps.
    pub strict_modes: bool,
    /// Whether what is remembered of unchanged files may be used.
    pub stat_cache: bool,
    /// The repository that holds key tags and records, where that is not the image's own.
    pub keys_in: Option<Repository>,
    /// What records are signed with.
    pub sign_key: Option<Arc<SigningKey>>,
    /// What records must be signed with for their images to be believed.
    pub verify_key: Option<Arc<SigningKey>>,
    /// Registries that may be spoken to without TLS or with an unknown certificate.
    pub insecure_registries: Vec<String>,
    /// Whether no registry may be asked.
    pub offline: bool,
    /// Whether a registry that cannot be asked is an error instead of a reason to build.
    pub strict: bool,
    /// How to show the build.
    pub progress: Progress,
    /// Whether stdout gets a report in JSON.
    pub json: bool,
    /// How much to say.
    pub verbosity: Verbosity,
    /// File to write the image's identifier to.
    pub iidfile: Option<PathBuf>,
    /// File to write what buildx calls metadata to.
    pub metadata_file: Option<PathBuf>,
    /// Variables and directories of this process.
    pub environment: Environment,
}

/// Where the text of the Dockerfile comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerfileSource {
    /// A file.
    File(PathBuf),
    /// Standard input (`-f -`).
    Stdin,
}

/// Which changes of a base image count (`--base-policy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BasePolicy {
    /// The digest that the registry gives for its name today.
    #[default]
    Digest,
    /// Its name only: the Dockerfile decides when the base moves.
    Tag,
}

/// What to build with (`--engine`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineKind {
    /// The one that is named; else the Docker Engine, a buildkitd or buildah, whichever is there.
    #[default]
    Auto,
    /// The Docker Engine, or podman's service.
    Docker,
    /// A buildkitd.
    Buildkit,
    /// The program buildah.
    Buildah,
}

/// How a build is shown (`--progress`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Progress {
    /// Live on a terminal, plain elsewhere.
    #[default]
    Auto,
    /// Line by line.
    Plain,
    /// Live.
    Tty,
    /// The engine's events as JSON lines.
    Rawjson,
    /// Nothing but errors.
    Quiet,
}

/// How much is said on stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Errors only.
    Quiet,
    /// What happened and why.
    #[default]
    Normal,
    /// Also how: round trips, files read, times.
    Verbose,
}

/// What the user wants cannot be made out, or contradicts itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option's value is not of its form.
    #[error("{option} {value}: {why}")]
    Option {
        /// The option as typed.
        option: &'static str,
        /// Its value.
        value: String,
        /// What is wrong and what it should look like.
        why: String,
    },
    /// Two options, or an option and its absence, do not go together.
    #[error("{0}")]
    Conflict(String),
    /// The context is no directory that can be read.
    #[error("the build context {path} {why}")]
    Context {
        /// The context as typed.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The settings file cannot be used.
    #[error("{path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column where there is one.
        why: String,
    },
}

impl Error {
    fn option(option: &'static str, value: impl Into<String>, why: impl ToString) -> Self {
        Self::Option { option, value: value.into(), why: why.to_string() }
    }
}

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
        let tags = tags(options, &settings, environment)?;
        if push && tags.is_empty() {
            return Err(Error::Conflict(format!(
                "--push needs a name to push to: give -t HOST/NAMESPACE/REPOSITORY:TAG{}",
                missing_of_a_pipeline(environment)?
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

        Ok(Self {
            context,
            contexts: contexts(options, &settings)?,
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
                &["registry"],
            )?,
            cache_to: pairs::caches(
                "--cache-to",
                or_set(&options.cache_to, &settings.cache_to),
                &["registry", "inline"],
            )?,
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

    /// The same build in another directory.
    #[must_use]
    pub fn in_context(&self, context: &Path) -> Self {
        let mut request = self.clone();
        if let DockerfileSource::File(path) = &self.dockerfile {
            let inside = path.strip_prefix(&self.context);
            let moved = inside.map(|inside| context.join(inside));
            request.dockerfile = DockerfileSource::File(moved.unwrap_or_else(|_| path.clone()));
        }
        context.clone_into(&mut request.context);
        request
    }

    /// The platform that was asked for, the first where there are several.
    #[must_use]
    pub fn platform(&self) -> Option<&Platform> {
        self.platforms.first()
    }

    /// The platform that the image is for.
    #[must_use]
    pub fn target_platform(&self) -> Platform {
        self.platform().cloned().unwrap_or_else(Platform::host)
    }

    /// The builds that it takes: one for each platform.
    #[must_use]
    pub fn for_each_platform(&self) -> Vec<Self> {
        if self.platforms.is_empty() {
            return vec![self.clone()];
        }
        let one = |platform: &Platform| Self { platforms: vec![platform.clone()], ..self.clone() };
        self.platforms.iter().map(one).collect()
    }

    /// Whether the image is wanted in the engine's store, so that it is called there what the engine
    /// calls it.
    #[must_use]
    pub fn is_for_the_engine(&self) -> bool {
        self.load || !self.push
    }

    /// The option that asks for a build whatever is there already, if one was given.
    #[must_use]
    pub fn forced(&self) -> Option<&'static str> {
        if self.no_cache {
            Some("--no-cache")
        } else if self.no_cache_filter.is_empty() {
            None
        } else {
            Some("--no-cache-filter")
        }
    }

    /// How the Dockerfile is called in messages.
    #[must_use]
    pub fn dockerfile_name(&self) -> String {
        match &self.dockerfile {
            DockerfileSource::File(path) => path.display().to_string(),
            DockerfileSource::Stdin => "the Dockerfile on stdin".to_owned(),
        }
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

/// The tags asked for, or those of the GitLab pipeline that this runs in.
fn tags(
    options: &BuildOptions,
    settings: &file::Settings,
    environment: &Environment,
) -> Result<Vec<Reference>, Error> {
    let typed = if options.tag.is_empty() { &settings.tags } else { &options.tag };
    let mut tags = Vec::new();
    let mut add = |option, text: &str| -> Result<(), Error> {
        let reference: Reference = named(option, text)?;
        let reference = reference.or_latest();
        if !tags.contains(&reference) {
            tags.push(reference);
        }
        Ok(())
    };
    let option = if options.tag.is_empty() { "tags in the settings file:" } else { "--tag" };
    for text in typed {
        add(option, text)?;
    }
    if typed.is_empty()
        && let (Some(image), Some(pipeline)) =
            (text(environment, "IMAGE_URL")?, text(environment, "CI_PIPELINE_IID")?)
    {
        add("IMAGE_URL and CI_PIPELINE_IID", &format!("{image}:{pipeline}"))?;
        add("IMAGE_URL", &format!("{image}:latest"))?;
    }
    Ok(tags)
}

/// What was typed or, where nothing was, what the settings file says.
fn or_set<'a>(typed: &'a [String], set: &'a [String]) -> &'a [String] {
    if typed.is_empty() { set } else { typed }
}

/// The named contexts: those of the settings file, and those that were typed, which go before.
fn contexts(
    options: &BuildOptions,
    settings: &file::Settings,
) -> Result<BTreeMap<String, PathBuf>, Error> {
    let set = settings.build_contexts.iter();
    let set: Vec<_> = set.map(|(name, path)| format!("{name}={}", path.display())).collect();
    let mut contexts = pairs::contexts(&set)?;
    contexts.extend(pairs::contexts(&options.build_context)?);
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

/// What a pipeline would have to set beside what it has set.
fn missing_of_a_pipeline(environment: &Environment) -> Result<&'static str, Error> {
    let has = |name| text(environment, name).map(|value| value.is_some());
    Ok(match (has("IMAGE_URL")?, has("CI_PIPELINE_IID")?) {
        (true, false) => ", or set CI_PIPELINE_IID beside IMAGE_URL",
        (false, true) => ", or set IMAGE_URL to the repository, as this GitLab pipeline needs it",
        _ => ", or set IMAGE_URL and CI_PIPELINE_IID as a GitLab pipeline does",
    })
}

/// Reads the name of a repository that was given as `option`.
///
/// # Errors
/// When it is none.
pub fn repository(option: &'static str, text: &str) -> Result<Repository, Error> {
    named(option, text)
}

/// Reads a name of an image or a repository. A login that somebody wrote into it is not repeated.
fn named<T: FromStr<Err = InvalidReference>>(option: &'static str, text: &str) -> Result<T, Error> {
    text.parse().map_err(|error| match without_login(text) {
        Some(safe) => Error::option(
            option,
            safe,
            "a login is no part of a name: give it as REGISTRY_USERNAME and REGISTRY_PASSWORD, or \
             with `docker login`",
        ),
        None => Error::option(option, text, error),
    })
}

/// The text without what stands before an `@`, unless that is followed by a digest.
fn without_login(text: &str) -> Option<String> {
    let (before, after) = text.rsplit_once('@')?;
    let scheme = before.find("://").map_or("", |end| &before[..end + 3]);
    let is_digest = scheme.is_empty() && !before.contains('@') && after.starts_with("sha");
    (!is_digest).then(|| format!("{scheme}***@{after}"))
}

/// The value of a variable, which has to be text.
fn text<'e>(environment: &'e Environment, name: &'static str) -> Result<Option<&'e str>, Error> {
    environment.var(name).map_err(|error| Error::Conflict(error.to_string()))
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

#[cfg(test)]
mod tests;
