//! SSH agents through the command line: one that runs, one of a socket, keys in files, and none.

use std::{
    os::unix::net::UnixListener,
    path::PathBuf,
    time::{Duration, Instant},
};

use smartbuild_test_rig::{self as rig, Program, Ran, Registry, Running, Work, unique};

/// A project whose image has what `ssh-add` says in a step.
struct Project {
    work: Work,
    _registry: Registry,
}

impl Project {
    fn new(mount: &str) -> Self {
        let (work, registry) = (Work::new(), Registry::open());
        let base = registry.push_base();
        // The base has no SSH: the client comes from this machine, with the libraries it needs.
        copy_program(&work, "ssh-add");
        work.write("name", unique("project")).write(
            "Dockerfile",
            format!(
                "FROM {base} AS listed\nCOPY . /\nRUN --mount=type=ssh{mount} ssh-add -l > /keys\n\
                 RUN find / -xdev -name '*ssh*agent*' > /left || true\n\
                 FROM scratch\nCOPY --from=listed /keys /left /\n"
            ),
        );
        Self { work, _registry: registry }
    }

    /// A key, and what it is known by.
    fn key(&self, name: &str, passphrase: &str) -> String {
        let path = format!("../{name}");
        let make = ["-q", "-t", "ed25519", "-N", passphrase, "-C", "a test", "-f", &path];
        self.work.run(Program::named("ssh-keygen").args(make)).success();
        let known = Program::named("ssh-keygen").args(["-lf", &format!("{path}.pub")]);
        let known = self.work.run(known).success();
        known.stdout().split_whitespace().nth(1).unwrap().to_owned()
    }

    /// An agent that has a key of that name, and its socket. It ends when it is dropped.
    fn agent(&self, key: &str) -> (Running, PathBuf) {
        let socket = self.work.join(format!("../{key}.socket"));
        let path = socket.to_str().unwrap();
        let agent = self.work.start(Program::named("ssh-agent").args(["-D", "-a", path]));
        let deadline = Instant::now() + Duration::from_secs(60);
        while !socket.exists() {
            assert!(Instant::now() < deadline, "the agent does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        let add = Program::named("ssh-add").args(["-q", &format!("../{key}")]);
        self.work.run(add.env("SSH_AUTH_SOCK", path)).success();
        (agent, socket)
    }

    fn program(&self, builder: Builder, arguments: &[&str]) -> Program {
        let program = Program::smartbuild(["-o", "out", "--no-cache"]).args(arguments);
        match builder {
            Builder::Docker => program.engine(rig::Engine::get()),
            Builder::Buildah => program.env("SMARTBUILD_ENGINE", "buildah"),
        }
    }

    /// What the step has seen, where exactly these keys are expected.
    #[track_caller]
    fn lists(&self, ran: Ran, keys: &[&str]) {
        ran.success();
        let listed = self.work.read("out/keys");
        assert_eq!(listed.lines().count(), keys.len(), "{listed}");
        assert!(keys.iter().all(|key| listed.contains(key)), "{keys:?}: {listed}");
        assert_eq!(self.work.read("out/left"), "", "an agent is in the image");
    }
}

#[derive(Clone, Copy)]
enum Builder {
    Docker,
    Buildah,
}

/// Puts a program of this machine and its libraries into the context, where they belong.
fn copy_program(work: &Work, name: &str) {
    let program = format!("/usr/bin/{name}");
    std::fs::create_dir_all(work.join("bin")).unwrap();
    std::fs::copy(&program, work.join(format!("bin/{name}"))).unwrap();
    let libraries = work.run(Program::named("ldd").args([&program])).success();
    for path in libraries.stdout().split_whitespace().filter(|word| word.starts_with('/')) {
        let place = work.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::copy(path, place).unwrap();
    }
}

fn agents_and_keys_reach_the_steps(builder: Builder) {
    let project = Project::new("");
    let (first, second) = (project.key("first", ""), project.key("second", ""));
    let (_agent, socket) = project.agent("first");
    let path = socket.to_str().unwrap();
    let run = |ssh: &str| project.program(builder, &["--ssh", ssh]);
    let of_the_user = run("default").env("SSH_AUTH_SOCK", path);
    project.lists(project.work.run(of_the_user), &[&first]);
    project.lists(project.work.run(run(&format!("default={path}"))), &[&first]);
    // Who may read a key is not for a build to say.
    project.work.chmod("../second", 0o644);
    project.lists(project.work.run(run("default=../second")), &[&second]);
    let ran = project.work.run(run("default=../first,../second").env("SSH_AUTH_SOCK", "/nowhere"));
    project.lists(ran.hides("PRIVATE KEY"), &[&first, &second]);
}

#[test]
#[ignore = "needs an engine and ssh-agent: run tests/run.sh"]
fn agents_and_keys_reach_the_steps_of_an_engine() {
    agents_and_keys_reach_the_steps(Builder::Docker);
}

#[test]
#[ignore = "needs buildah and ssh-agent: run tests/run.sh"]
fn agents_and_keys_reach_the_steps_of_buildah() {
    agents_and_keys_reach_the_steps(Builder::Buildah);
}

#[test]
#[ignore = "needs an engine and ssh-agent: run tests/run.sh"]
fn agents_are_told_apart_by_their_ids() {
    let project = Project::new(",id=deploy,required");
    let (first, second) = (project.key("first", ""), project.key("second", ""));
    let (_agent, socket) = project.agent("first");
    let two = ["--ssh", "default", "--ssh", "deploy=../second"];
    let ran = project.program(Builder::Docker, &two).env("SSH_AUTH_SOCK", &socket);
    project.lists(project.work.run(ran), &[&second]);
    let other = format!("deploy={}", socket.display());
    let ran = project.program(Builder::Docker, &["--ssh", "default=../second", "--ssh", &other]);
    project.lists(project.work.run(ran), &[&first]);
    // What a step requires has to be given.
    let none = project.program(Builder::Docker, &["--ssh", "default=../second"]);
    project.work.run(none).exits(1).says(&["deploy"]);
}

#[test]
#[ignore = "needs an engine and ssh-agent: run tests/run.sh"]
fn an_agent_that_does_not_answer_is_said_before_anything_is_built() {
    let project = Project::new("");
    let nobody = project.work.join("../nobody");
    drop(UnixListener::bind(&nobody).unwrap());
    project.key("locked", "a passphrase");
    project.work.write("../text", "no key\n");
    let no_agent = |reason: &str| format!("there is no SSH agent `default`: {reason}");
    for (ssh, variable, said) in [
        ("default", "", no_agent("SSH_AUTH_SOCK is not set; start ssh-agent, or give")),
        (
            "default",
            "/nowhere/agent",
            no_agent("at /nowhere/agent, there is no such socket; start"),
        ),
        ("default=../nobody", "", no_agent("at ../nobody, nobody listens there; start ssh-agent")),
        ("default=../nothing", "", no_agent("at ../nothing, there is no such socket; start")),
        ("default=../locked", "", no_agent("../locked is no private key that can be used without")),
        ("default=../text", "", no_agent("../text is no private key that can be used without")),
        ("default=../text,../none", "", no_agent("../text is no private key that can be used")),
        ("other=../locked,../nobody", "", "there is no SSH agent `other`: ".to_owned()),
    ] {
        let program = project.program(Builder::Docker, &["--ssh", ssh, "--progress", "plain"]);
        let ran = project.work.run(program.env("SSH_AUTH_SOCK", variable)).exits(2).says(&[&said]);
        assert_eq!(ran.stderr().matches("error:").count(), 1, "{}", ran.text());
        ran.hides("ssh-add -l");
        assert!(!project.work.join("out").exists());
    }
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn an_image_that_is_there_needs_no_agent() {
    let (work, registry) = (Work::new(), Registry::open());
    let dockerfile = "FROM @base@\nRUN --mount=type=ssh true\n";
    work.write("Dockerfile", dockerfile.replace("@base@", &registry.push_base()));
    let name = format!("{}:1", registry.name(&unique("agentless")));
    let run = |ssh: &str| {
        let program = Program::smartbuild(["--push", "--json", "-t", &name, "--ssh", ssh]);
        work.run(program.engine(rig::Engine::get()))
    };
    let nobody = work.join("../agent");
    let listens = UnixListener::bind(&nobody).unwrap();
    assert_eq!(run("default=../agent").success().json()["outcome"], "built");
    drop(listens);
    for ssh in ["default=../agent", "default"] {
        assert_eq!(run(ssh).success().json()["outcome"], "unchanged");
    }
    rig::Engine::get().forget(&name);
}
