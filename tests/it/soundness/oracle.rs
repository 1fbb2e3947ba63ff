//! What the engine makes of a case, driven by its own client: the truth that keys are held against.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use smartbuild_test_rig::{Engine, Program};

use super::{
    built::Built,
    case::{Case, Laid},
    servers::{Hosts, Servers},
};

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
    pub(super) contexts: bool,
    pub(super) checksum: bool,
}

/// A client that builds with BuildKit.
#[derive(Debug)]
pub(super) enum Oracle {
    /// The engine, by the `docker` program.
    Docker { program: PathBuf, host: String },
    /// A `buildkitd`, by the `buildctl` program: `SMARTBUILD_TEST_BUILDKIT_HOST` is its address.
    BuildKit { address: String },
    /// The engine, by our own session: `SMARTBUILD_TEST_ORACLE=smartbuild`.
    Ours { docker: PathBuf, host: String },
}

impl Oracle {
    /// A client that can do it.
    pub(super) fn find() -> Self {
        if let Ok(address) = std::env::var("SMARTBUILD_TEST_BUILDKIT_HOST") {
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

    /// Whether it is served by us: with other permissions than those on disk.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self, Self::Ours { .. })
    }

    pub(super) fn features(&self, servers: &Servers) -> Features {
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
        // Of an equal image, somebody else would remove the name and all.
        write("unique", directory.path().to_str().unwrap());
        let built = self.directory(directory.path(), directory.path()).unwrap();
        let (address, digest) = servers.probe();
        let context = ("build-context", format!("other={}", directory.path().display()));
        let contexts =
            Build { context: directory.path(), beside: directory.path(), options: &[context] };
        write("Dockerfile", "FROM scratch\nCOPY --from=other Dockerfile /\n");
        Features {
            exceptions: !built.files.contains_key("d/f"),
            heredoc: can("COPY <<EOF /x\ny\nEOF"),
            link: can("COPY --link Dockerfile /"),
            patterns: can("ENV A=b\nENV C=${A#b}\nCOPY Dockerfile /"),
            exclude: can("COPY --exclude=x . /"),
            parents: can("COPY --parents Dockerfile /"),
            contexts: self.build(&contexts, tempfile::tempdir().unwrap().path()).is_ok(),
            checksum: can(&format!("ADD --checksum={digest} {address} /")),
        }
    }

    fn can(&self, text: &str) -> bool {
        let directory = tempfile::tempdir().unwrap();
        // Nobody else builds the same, and removes it.
        let text = format!("{text}LABEL of={}\n", directory.path().display());
        std::fs::write(directory.path().join("Dockerfile"), text).unwrap();
        let build = Build { context: directory.path(), beside: directory.path(), options: &[] };
        self.build(&build, directory.path()).is_ok()
    }

    /// Builds a case without cache.
    ///
    /// # Errors
    /// What the client says when the build fails.
    pub(super) fn case(&self, case: &Case, laid: &Laid, hosts: &Hosts) -> Result<Built, String> {
        let options = case.options(laid, hosts);
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
        let (id, saved) = (scratch.join("image.id"), scratch.join("image.tar"));
        match self {
            Self::Docker { program, host } => {
                let mut command = docker(program, host, scratch);
                // Newer clients say by default when and how an image was made, inside of it.
                command.env("DOCKER_BUILDKIT", "1").env("BUILDX_NO_DEFAULT_ATTESTATIONS", "1");
                command.args(["build", "--no-cache", "--pull", "--progress=plain", "--iidfile"]);
                run(build.typed(command.arg(&id)))?;
                save(program, host, &id, &saved)?;
            }
            Self::Ours { docker, host } => {
                let mut command = ours(host, scratch);
                command.args(["--no-cache", "--pull", "--progress=plain", "--iidfile"]);
                run(build.typed(command.arg(&id)))?;
                save(docker, host, &id, &saved)?;
            }
            Self::BuildKit { address } => {
                let mut command = Command::new("buildctl");
                command.args(["--addr", address, "build", "--no-cache", "--progress=plain"]);
                command.args(["--frontend=dockerfile.v0", "--local"]);
                command.arg(format!("context={}", build.context.display())).arg("--local");
                command.arg(format!("dockerfile={}", build.beside.display())).arg("--output");
                command.arg(format!("type=docker,name=x,dest={}", saved.display()));
                for (name, value) in build.options {
                    match (*name, value.split_once('=')) {
                        ("build-arg" | "label", _) => {
                            command.args(["--opt", &format!("{name}:{value}")])
                        }
                        ("build-context", Some((context, path))) => {
                            // Other clients do this by themselves.
                            let context = context.trim_start_matches("docker.io/library/");
                            let context = context.trim_end_matches(":latest");
                            command
                                .args(["--opt", &format!("context:{context}=local:{context}")])
                                .args(["--local", &format!("{context}={path}")])
                        }
                        ("secret", _) => command.args(["--secret", value]),
                        _ => command.args(["--opt", &format!("{name}={value}")]),
                    };
                }
                run(&mut command)?;
            }
        }
        let image = std::fs::read(&saved).unwrap();
        std::fs::remove_file(saved).unwrap();
        Ok(Built::read(&image))
    }
}

/// What `smartbuild inputs` lists for a case.
pub(super) fn inputs(case: &Case, laid: &Laid, hosts: &Hosts) -> Value {
    let options = case.options(laid, hosts);
    let build = Build { context: &laid.context(), beside: &laid.beside(), options: &options };
    let mut command = ours(Engine::get().host(), laid.path());
    let output = build.typed(command.args(["inputs", "--json"])).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What is built, beside how.
struct Build<'a> {
    context: &'a Path,
    beside: &'a Path,
    options: &'a [(&'a str, String)],
}

impl Build<'_> {
    /// Adds it to a command line in Docker's words.
    fn typed<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        for (name, value) in self.options {
            command.args([format!("--{name}"), value.clone()]);
        }
        command.arg("-f").arg(self.beside.join("Dockerfile")).arg(self.context)
    }
}

fn ours(host: &str, home: &Path) -> Command {
    let mut command = Command::new(Program::path_of("smartbuild"));
    command.env_clear().env("HOME", home).env("DOCKER_HOST", host);
    command.env("DOCKER_CONFIG", home.join("config"));
    command
}

fn docker(program: &Path, host: &str, scratch: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("DOCKER_HOST", host).env("DOCKER_CONFIG", scratch.join("config"));
    command
}

/// Takes an image out of the engine's store, into a file.
fn save(program: &Path, host: &str, id: &Path, saved: &Path) -> Result<(), String> {
    let id = std::fs::read_to_string(id).unwrap();
    let docker = || docker(program, host, saved.parent().unwrap());
    run(docker().args(["save", "-o"]).arg(saved).arg(&id))?;
    run(docker().args(["image", "rm", "-f", &id]))
}

fn run(command: &mut Command) -> Result<(), String> {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    if status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}
