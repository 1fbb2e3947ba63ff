//! The options that `build`, `key`, `inputs` and `check` share, with docker build's own names.

use std::path::PathBuf;

use clap::{Arg, ArgAction, Args, builder::BoolishValueParser};

use crate::settings::{BasePolicy, EngineKind, Progress};

/// What an option is that is on when it is given, and off with `=false`, as docker's are.
trait Switch {
    fn switch(self) -> Self;
}

impl Switch for Arg {
    fn switch(self) -> Self {
        self.num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_parser(BoolishValueParser::new())
            .value_name("BOOL")
    }
}

/// The options, and the directory to build.
#[derive(Args, Clone, Debug, Default)]
pub struct BuildCommand {
    /// How to build.
    #[command(flatten)]
    pub options: BuildOptions,

    /// Build context: the directory whose files the image may copy [default: .]
    #[arg(value_name = "CONTEXT")]
    pub context: Option<PathBuf>,
}

/// What can be typed; [`crate::settings::Request`] is what it means.
#[derive(Args, Clone, Debug, Default)]
pub struct BuildOptions {
    /// Name for the image; may be given several times
    /// [default in GitLab CI: $IMAGE_URL:$CI_PIPELINE_IID and $IMAGE_URL:latest]
    #[arg(short, long, value_name = "NAME:TAG")]
    pub tag: Vec<String>,

    /// Dockerfile; - reads it from stdin [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "PATH")]
    pub file: Option<PathBuf>,

    /// Stage to build [default: the last one]
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,

    /// Value of a build argument; without a value, that of the variable of the same name
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub build_arg: Vec<String>,

    /// Another directory, or an image (docker-image://IMAGE), that has this name in the Dockerfile
    #[arg(long, value_name = "NAME=DIRECTORY")]
    pub build_context: Vec<String>,

    /// Label to set on the image
    #[arg(long, value_name = "NAME=VALUE")]
    pub label: Vec<String>,

    /// Platform to build for, such as linux/arm64; several with --push [default: this machine's]
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    pub platform: Vec<String>,

    /// What to build with [default: auto: the one that is named by BUILDKIT_HOST or DOCKER_HOST,
    /// else whichever is there]
    #[arg(long, value_enum, value_name = "ENGINE")]
    pub engine: Option<EngineKind>,

    /// Push the tags; with this, the registry is where built images are looked for
    #[arg(long, switch())]
    pub push: Option<bool>,

    /// Write what was built: a directory, - for a tar on stdout, or type=local|tar|oci[,dest=PATH]
    #[arg(short, long, value_name = "OUTPUT")]
    pub output: Option<String>,

    /// Have the image in the engine's store at the end, also when the build was skipped
    #[arg(long, switch())]
    pub load: Option<bool>,

    /// Take base images from their registries only, never from the engine's store
    #[arg(long, switch())]
    pub pull: Option<bool>,

    /// Build whatever the key says, and without the engine's layer cache
    #[arg(long, switch())]
    pub no_cache: Option<bool>,

    /// Where the engine may take layers from: IMAGE, or type=local,src=DIR; may be given several times
    #[arg(long, value_name = "CACHE")]
    pub cache_from: Vec<String>,

    /// Where to leave the engine's layer cache: type=inline, type=registry,ref=IMAGE, type=local,dest=DIR
    #[arg(long, value_name = "CACHE")]
    pub cache_to: Vec<String>,

    /// What steps may ask of the engine: network.host, security.insecure; may be given several times
    #[arg(long, value_name = "ENTITLEMENT", value_delimiter = ',')]
    pub allow: Vec<String>,

    /// Stage to build without the engine's layer cache; may be given several times
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub no_cache_filter: Vec<String>,

    /// Push stages as images of their own and start from them; all that run something, or these
    #[arg(
        long,
        value_name = "STAGE",
        value_delimiter = ',',
        num_args = 0..,
        require_equals = true
    )]
    pub cache_stages: Option<Vec<String>>,

    /// Attestations, as docker build takes them: only that there be none can be asked for
    #[arg(long, value_name = "ATTESTATION", hide = true)]
    pub attest: Vec<String>,

    /// Short for --attest type=provenance
    #[arg(long, value_name = "VALUE", hide = true, num_args = 0..=1, default_missing_value = "true")]
    pub provenance: Option<String>,

    /// Short for --attest type=sbom
    #[arg(long, value_name = "VALUE", hide = true, num_args = 0..=1, default_missing_value = "true")]
    pub sbom: Option<String>,

    /// Annotations, as buildx takes them: labels serve
    #[arg(long, value_name = "NAME=VALUE", hide = true)]
    pub annotation: Vec<String>,

    /// What the classic builder of the docker command is told; nothing here
    #[arg(long, alias = "force-rm", alias = "compress", hide = true, switch())]
    pub rm: Option<bool>,

    /// Limit of the processes of RUN steps, such as nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub ulimit: Vec<String>,

    /// Secret for RUN --mount=type=secret: id=ID,src=FILE or id=ID,env=VARIABLE or id=ID,cmd=COMMAND
    #[arg(long, value_name = "SECRET")]
    pub secret: Vec<String>,

    // The help is not in the doc comment: there, its brackets would be a link.
    /// SSH agents for the build.
    #[arg(
        long,
        value_name = "AGENT",
        help = "Agent for RUN --mount=type=ssh: default, ID=SOCKET or ID=KEY[,KEY]"
    )]
    pub ssh: Vec<String>,

    /// Network of RUN steps: default, none or host
    #[arg(long, value_name = "MODE")]
    pub network: Option<String>,

    /// Line of /etc/hosts during RUN steps; may be given several times
    #[arg(long, value_name = "HOST:IP")]
    pub add_host: Vec<String>,

    /// Size of /dev/shm during RUN steps, such as 64m
    #[arg(long, value_name = "SIZE")]
    pub shm_size: Option<String>,

    /// Which changes of a base image count
    #[arg(long, value_enum, value_name = "POLICY")]
    pub base_policy: Option<BasePolicy>,

    /// Build again after a period although nothing changed: daily, weekly, monthly, 30d
    #[arg(long, value_name = "PERIOD")]
    pub refresh: Option<String>,

    /// Let all permission bits count, not only those that git keeps
    #[arg(long, switch())]
    pub strict_modes: Option<bool>,

    /// Read every file, whatever is remembered of it
    #[arg(long)]
    pub no_stat_cache: bool,

    /// Repository for key tags and records [default: the first tag's]
    #[arg(long, value_name = "REPOSITORY")]
    pub keys_in: Option<String>,

    /// Sign records with the secret in a file, or in a variable: env:NAME
    #[arg(long, value_name = "SECRET")]
    pub sign_key: Option<String>,

    /// Believe only images whose record is signed with this secret: a file, or env:NAME
    #[arg(long, value_name = "SECRET")]
    pub verify_key: Option<String>,

    /// Registry to speak to without TLS or with an unknown certificate; loopback always is
    #[arg(long, value_name = "HOST")]
    pub insecure_registry: Vec<String>,

    /// Ask no registry: bases and built images come from the engine's store
    #[arg(long, switch())]
    pub offline: Option<bool>,

    /// Fail where a registry cannot be asked, instead of building
    #[arg(long, switch())]
    pub strict: Option<bool>,

    /// How to show the build [default: $BUILDKIT_PROGRESS, or auto]
    #[arg(long, value_enum, value_name = "KIND")]
    pub progress: Option<Progress>,

    /// Write a report in JSON to stdout
    #[arg(long)]
    pub json: bool,

    /// Write the identifier of the image to a file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,

    /// Write what buildx calls metadata to a file: digests and names, in JSON
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,

    /// Settings file [default: smartbuild.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Say nothing but errors; print the image's identifier
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Say how: files read, round trips, times
    #[arg(short, long, action = ArgAction::SetTrue)]
    pub verbose: bool,
}
