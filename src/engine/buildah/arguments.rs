//! A build in the words of buildah's command line, and what it has no words for.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use super::{ACTION, command::Program};
use crate::{
    dockerfile::Feature,
    engine::{
        build::{BuildError, BuildRequest, Ulimit},
        error::Error,
    },
    platform::Platform,
};

/// The first version 1 of buildah that reads here-documents. Before, it takes their lines for
/// instructions.
const FIRST_WITH_HEREDOCS: u32 = 33;

/// The first version 1 of buildah whose labels are no more than an instruction at the end of the
/// Dockerfile (containers/buildah `imagebuildah/executor.go`). Before, their values were set once
/// more, as they are.
const FIRST_WITH_LABEL_STEPS: u32 = 30;

/// Where what it reads and writes is.
pub(super) struct Paths {
    pub(super) dockerfile: PathBuf,
    pub(super) ignore: PathBuf,
    pub(super) id: PathBuf,
    pub(super) logins: PathBuf,
    /// Where the files of the image go, if they are wanted.
    pub(super) tar: Option<PathBuf>,
    /// A directory that only this user can look into.
    pub(super) secrets: PathBuf,
    pub(super) context: PathBuf,
    pub(super) contexts: BTreeMap<String, PathBuf>,
}

/// Whether there is anything in the request that it cannot do, or would do otherwise without saying
/// so. What it refuses itself is left to it.
pub(super) fn check(request: &BuildRequest, program: &Program) -> Result<(), BuildError> {
    let version = &program.version;
    let refuse = |what: String, why: &str| {
        let why = format!("buildah {version} {why}; use a Docker Engine or a buildkitd");
        Err(BuildError::Unsupported { what, why })
    };
    for feature in &request.needs_buildkit {
        let why = match feature {
            Feature::Heredoc if !program.is_at_least(FIRST_WITH_HEREDOCS) => {
                "is too old for them (1.33 is the first that knows them)"
            }
            Feature::Patterns
            | Feature::SecretEnv
            | Feature::RunNetwork
            | Feature::RunSecurity
            | Feature::RunDevice
            | Feature::AddUnpack => "does not know that",
            // Some versions take the page that is at the address.
            Feature::AddGit => "does not know that everywhere",
            _ => continue,
        };
        return refuse(feature.name().to_owned(), why);
    }
    let label = request.labels.iter().find(|(name, value)| {
        let text = if program.is_at_least(FIRST_WITH_LABEL_STEPS) { value } else { "" };
        !stays_in_an_instruction(name) || !stays_in_an_instruction(text)
    });
    if let Some((name, _)) = label {
        return refuse(
            format!("with the label `{}`", name.escape_debug()),
            "would expand its `$`, and write what cannot be printed otherwise",
        );
    }
    if let Some(cache) = request.cache_to.first() {
        return refuse(format!("with its cache exported to `{cache}`"), "has caches of its own");
    }
    if let Some(stage) = request.no_cache_filter.first() {
        return refuse(
            format!("without the cache of stage `{stage}` alone"),
            "cannot tell them apart",
        );
    }
    if program.chroot {
        let isolation = "gives steps no more than a changed root here (set BUILDAH_ISOLATION=oci \
                         where it can do more)";
        if let Some(network) = request.network.as_ref().filter(|n| *n != "host" && *n != "default")
        {
            return refuse(format!("with the network `{network}`"), isolation);
        }
        if request.shm_size.is_some() {
            return refuse("with another size of /dev/shm".to_owned(), isolation);
        }
    }
    let comma =
        request.ssh.iter().find(|(_, agent)| agent.socket().to_string_lossy().contains(','));
    match comma {
        Some((id, _)) => refuse(format!("with the SSH agent `{id}`"), "takes no path with a comma"),
        None => Ok(()),
    }
}

/// Whether a word is the same after buildah has quoted it as Go does, and has read it as an
/// instruction: Go's quotes do not keep a `$`, and an instruction does not know Go's `\n`.
fn stays_in_an_instruction(word: &str) -> bool {
    let quoted = |c: char| !matches!(c, '"' | '\'' | '\\') && c.escape_debug().len() > 1;
    !word.contains('$') && !word.contains(quoted)
}

/// Whether the results of steps that it has from before may be used.
///
/// Its cache knows the instructions and the files they copy. It does not know what a mount shows
/// them, nor their hosts, network and limits (tried with 1.28), so that it would give an old result
/// for a new key.
fn may_use_cache(request: &BuildRequest) -> bool {
    !request.no_cache
        && request.needs_buildkit.is_empty()
        && request.add_hosts.is_empty()
        && request.ulimits.is_empty()
        && request.network.is_none()
        && request.shm_size.is_none()
}

/// The arguments of `buildah build`.
pub(super) fn arguments(request: &BuildRequest, paths: &Paths, program: &Program) -> Vec<OsString> {
    let mut arguments = Vec::<OsString>::new();
    let mut add = |texts: &[&str]| arguments.extend(texts.iter().map(Into::into));
    // OCI's format has no place for HEALTHCHECK, SHELL and ONBUILD.
    add(&["build", "--format", "docker", "--layers", "--identity-label=false"]);
    // The container of a step that fails goes, too.
    add(&["--force-rm"]);
    if program.chroot {
        add(&["--isolation", "chroot", "--network", "host"]);
    } else if let Some(network) = request.network.as_ref().filter(|n| *n != "default") {
        add(&["--network", network]);
    }
    add(&[if request.pull { "--pull=always" } else { "--pull=missing" }]);
    if !may_use_cache(request) {
        add(&["--no-cache"]);
    }
    for tag in &request.tags {
        add(&["--tag", &tag.to_string()]);
    }
    for name in request.build_args.keys() {
        match hidden(name) {
            // The value comes in the environment: others can see arguments.
            true => add(&["--build-arg", name]),
            false => add(&["--build-arg", &format!("{name}={}", request.build_args[name])]),
        }
    }
    for (name, value) in &request.labels {
        add(&["--label", &format!("{name}={value}")]);
    }
    for host in &request.add_hosts {
        add(&["--add-host", host]);
    }
    let asked = |own: &&Ulimit| request.ulimits.iter().any(|limit| limit.name == own.name);
    let own = program.limits.iter().filter(|own| !asked(own));
    for limit in request.ulimits.iter().chain(own) {
        add(&["--ulimit", &format!("{}={}:{}", limit.name, limit.soft, limit.hard)]);
    }
    // For its own platform it would warn of arguments that it sets itself.
    let foreign = request.platform.as_ref().filter(|platform| **platform != Platform::host());
    let texts = [
        ("--target", request.target.clone()),
        ("--platform", foreign.map(ToString::to_string)),
        ("--shm-size", request.shm_size.map(|size| size.to_string())),
        ("--timestamp", request.source_date_epoch.map(|seconds| seconds.to_string())),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            add(&[name, &text]);
        }
    }
    for (index, id) in request.secrets.keys().enumerate() {
        let file = secret_file(&paths.secrets, index);
        add(&["--secret", &format!("id={id},src={}", file.display())]);
    }
    for (id, agent) in &request.ssh {
        add(&["--ssh", &format!("{id}={}", agent.socket().display())]);
    }
    for (name, path) in &paths.contexts {
        add(&["--build-context", &format!("{name}={}", path.display())]);
    }
    if let Some(tar) = &paths.tar {
        add(&["--output", &format!("type=tar,dest={}", tar.display())]);
    }
    let files = [
        ("--authfile", &paths.logins),
        ("--ignorefile", &paths.ignore),
        ("--iidfile", &paths.id),
        ("--file", &paths.dockerfile),
    ];
    for (name, path) in files {
        arguments.extend([name.into(), path.into()]);
    }
    arguments.extend(["--".into(), paths.context.clone().into()]);
    arguments
}

/// The variables that hold the values of build arguments.
pub(super) fn variables(request: &BuildRequest) -> impl Iterator<Item = (&String, &String)> {
    request.build_args.iter().filter(|(name, _)| hidden(name))
}

/// Whether the value of a build argument can go through the program's environment: not where the
/// program would take it for something of its own.
fn hidden(name: &str) -> bool {
    const OWN: [&str; 8] =
        ["BUILDAH_", "CONTAINERS_", "STORAGE_", "REGISTRY_", "XDG_", "LD_", "GO", "_"];
    !["PATH", "HOME", "TMPDIR", "USER", "SOURCE_DATE_EPOCH"].contains(&name)
        && !OWN.iter().any(|start| name.starts_with(start))
}

/// Puts the secrets into files of their own, which go with the build: the program reads one when a
/// step asks for it.
pub(super) async fn write_secrets(request: &BuildRequest, within: &Path) -> Result<(), BuildError> {
    for (index, (id, source)) in request.secrets.iter().enumerate() {
        let written = match source.read().await {
            Ok(value) => fs::write(secret_file(within, index), value)
                .map_err(|error| Error::broken(ACTION, &error).to_string()),
            Err(reason) => Err(reason),
        };
        written.map_err(|reason| BuildError::Secret { id: id.clone(), reason })?;
    }
    Ok(())
}

fn secret_file(within: &Path, index: usize) -> PathBuf {
    within.join(format!("secret-{index}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{credentials::Anonymous, engine::Context};

    fn program(version: &str) -> Program {
        let (version, driver) = (version.into(), "vfs".into());
        Program { version, rootless: true, driver, chroot: true, limits: Vec::new() }
    }

    fn request() -> BuildRequest {
        let context = Context { root: PathBuf::from("/c"), tree: Arc::default() };
        BuildRequest::new(b"FROM scratch\n".to_vec(), context, Arc::new(Anonymous))
    }

    /// The arguments of a build.
    fn line(request: &BuildRequest, program: &Program) -> String {
        let paths = Paths {
            dockerfile: "/d".into(),
            ignore: "/i".into(),
            id: "/id".into(),
            logins: "/l".into(),
            tar: None,
            secrets: "/s".into(),
            context: "/c".into(),
            contexts: BTreeMap::new(),
        };
        let arguments = arguments(request, &paths, program);
        arguments.iter().map(|a| a.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn values_are_not_among_the_arguments() {
        let mut request = request();
        for name in ["HTTP_PROXY", "TOKEN", "PATH"] {
            request.build_args.insert(name.to_owned(), format!("value-of-{name}"));
        }
        let hidden: Vec<_> = variables(&request).map(|(name, _)| name.as_str()).collect();
        assert_eq!(hidden, ["HTTP_PROXY", "TOKEN"]);
        let text = line(&request, &program("1.28.2"));
        assert!(text.contains("--build-arg HTTP_PROXY --build-arg PATH=value-of-PATH"), "{text}");
        assert!(text.ends_with("--file /d -- /c"), "{text}");
    }

    #[test]
    fn limits_that_are_low_stay_unless_others_are_asked_for() {
        let limit = |name: &str, hard| Ulimit { name: name.to_owned(), soft: 1, hard };
        let mut program = program("1.43.2");
        program.limits = vec![limit("nofile", 10), limit("nproc", 20)];
        let mut request = request();
        request.ulimits = vec![limit("nproc", 30)];
        let text = line(&request, &program);
        assert!(text.contains("--ulimit nproc=1:30 --ulimit nofile=1:10"), "{text}");
        assert!(!text.contains("nproc=1:20"), "{text}");
    }

    #[test]
    fn a_label_that_would_not_stay_as_it_is_is_refused() {
        let refused = |name: &str, value: &str, version| {
            let mut request = request();
            request.labels.insert(name.to_owned(), value.to_owned());
            check(&request, &program(version)).is_err()
        };
        for value in ["", "a b", "\"q\" 'r' \\ \\\\", "caf\u{e9} \u{1f680}", "a=b#c`d`"] {
            assert!(!refused("l", value, "1.28.2") && !refused("l", value, "1.43.2"), "{value:?}");
        }
        for value in ["$A", "a$", "${A", "two\nlines", "tab\t", "\u{a0}"] {
            assert!(!refused("l", value, "1.28.2") && refused("l", value, "1.43.2"), "{value:?}");
            assert!(refused(value, "1", "1.28.2") && refused(value, "1", "1.43.2"), "{value:?}");
        }
    }

    #[test]
    fn what_it_would_do_otherwise_is_refused() {
        let refused = |request: &BuildRequest, version: &str| {
            check(request, &program(version)).err().map(|error| error.to_string())
        };
        let mut asked = request();
        assert_eq!(refused(&asked, "1.28.2"), None);
        asked.needs_buildkit = [Feature::Heredoc].into();
        assert!(refused(&asked, "1.28.2").unwrap().contains("here-documents"));
        assert_eq!(refused(&asked, "1.33.0"), None);
        asked.needs_buildkit = [Feature::AddGit].into();
        assert!(refused(&asked, "1.43.2").unwrap().contains("git repository"));
        asked.needs_buildkit.clear();
        asked.network = Some("none".to_owned());
        assert!(refused(&asked, "1.33.0").unwrap().contains("BUILDAH_ISOLATION"));
    }

    #[test]
    fn its_cache_is_used_only_where_it_knows_all_that_counts() {
        let mut asked = request();
        assert!(may_use_cache(&asked));
        asked.needs_buildkit = [Feature::RunMount].into();
        assert!(!may_use_cache(&asked));
        asked.needs_buildkit.clear();
        asked.add_hosts = vec!["a:1.2.3.4".to_owned()];
        assert!(!may_use_cache(&asked));
    }
}
