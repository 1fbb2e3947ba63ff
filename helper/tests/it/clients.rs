//! Every client at hand, through our program, against a registry that asks for a password; once
//! with the Secret Service and once with the encrypted file.

use std::path::Path;

use serde_json::{Value, json};
use smartbuild_test_rig::{Engine, Image, Program, Ran, Registry, Watch, Work, unique};

use crate::rig::{NOT_FOUND, PASSWORD, USER, dockers};
use crate::session::Session;

/// A key for the encrypted file.
const KEY: &str = "8f0d2c3b4a59687786951a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f";

/// Where secrets are kept.
enum Place {
    SecretService(Session),
    File,
}

/// A person's machine, and a registry that knows the person.
struct Setup {
    place: Place,
    registry: Registry,
    work: Work,
}

impl Setup {
    fn new(place: Place) -> Self {
        let registry = Registry::htpasswd(USER, PASSWORD);
        let setup = Self { place, registry, work: Work::new() };
        setup.configure(&json!({ "credHelpers": { setup.host(): "aliyun" } }));
        setup
    }

    fn configure(&self, config: &Value) {
        self.work.docker_config(config);
    }

    fn host(&self) -> &str {
        self.registry.host()
    }

    fn run(&self, program: Program) -> Ran {
        let program = match &self.place {
            Place::SecretService(session) => session.join(program),
            Place::File => program.env("DOCKER_CREDENTIAL_ALIYUN_KEY", KEY),
        };
        self.work.run(program).hides(PASSWORD)
    }

    fn docker(&self, docker: &Path, arguments: &[&str]) -> Program {
        Program::named(docker).args(arguments).engine(Engine::get())
    }

    fn verb(&self, verb: &str, input: &str) -> Ran {
        let program = Program::helper([verb]).input(input);
        match &self.place {
            Place::SecretService(session) => self.work.run(session.join(program)),
            Place::File => self.work.run(program.env("DOCKER_CREDENTIAL_ALIYUN_KEY", KEY)),
        }
    }

    /// Pushes an image with a file in it, which no engine has; gives its repository.
    fn push_new(&self) -> String {
        let repository = unique("clients");
        let image = Image::base().clone().files(&[("marker", &repository)]);
        self.registry.push(&repository, "1", &image);
        repository
    }
}

/// `docker login`, `pull`, `push`, classic `build`, `logout`.
fn docker_does_everything(setup: &Setup, docker: &Path) {
    let host = setup.host();
    let run = |arguments: &[&str]| setup.run(setup.docker(docker, arguments)).success();
    let login = setup.docker(docker, &["login", "-u", USER, "--password-stdin", host]);
    let ran = setup.run(login.input(PASSWORD)).success();
    assert!(ran.stdout().contains("Login Succeeded"));
    // Without a name: what was stored is tried, and handed back to be stored.
    let again = run(&["login", host]);
    assert!(again.stdout().contains("Login Succeeded"));

    let repository = setup.push_new();
    let first = setup.registry.name(&format!("{repository}:1"));
    let second = setup.registry.name(&format!("{repository}:2"));
    run(&["pull", "--quiet", &first]);
    Engine::get().forget(&first);

    setup.work.write("context/Dockerfile", format!("FROM {first}\nRUN cat /marker\n"));
    let build = setup.docker(docker, &["build", "--pull", "--tag", &second, "context"]);
    setup.run(build.env("DOCKER_BUILDKIT", "0")).success();
    run(&["push", &second]);
    assert!(setup.registry.digest(&repository, "2").is_some());
    Engine::get().forget(&first);
    Engine::get().forget(&second);

    run(&["logout", host]);
    assert_eq!(setup.verb("get", host).exits(1).stdout(), NOT_FOUND);
    setup.run(setup.docker(docker, &["pull", "--quiet", &first])).exits(1);
}

/// A wrong password is refused and not kept.
fn docker_refuses_a_wrong_password(setup: &Setup, docker: &Path) {
    let login = setup.docker(docker, &["login", "-u", USER, "--password-stdin", setup.host()]);
    setup.run(login.input("wrong")).exits(1);
    assert_eq!(setup.verb("get", setup.host()).exits(1).stdout(), NOT_FOUND);
}

/// BuildKit, which asks through the session: for the base, and for the push where the client has
/// one.
fn buildkit_pulls_a_private_base_and_pushes(setup: &Setup, docker: &Path) {
    let login = setup.docker(docker, &["login", "-u", USER, "--password-stdin", setup.host()]);
    setup.run(login.input(PASSWORD)).success();
    let repository = setup.push_new();
    let base = setup.registry.name(&format!("{repository}:1"));
    let built = setup.registry.name(&format!("{repository}:2"));
    setup.work.write("context/Dockerfile", format!("FROM {base}\nRUN cat /marker\n"));
    let build = |arguments: &[&str]| {
        let all = [arguments, &["--progress=plain", "--tag", &built, "context"]].concat();
        setup.run(setup.docker(docker, &all).env("DOCKER_BUILDKIT", "1")).success()
    };
    if has_buildx(docker) {
        build(&["buildx", "build", "--push"]);
    } else {
        build(&["build"]);
        setup.run(setup.docker(docker, &["push", &built])).success();
    }
    assert!(setup.registry.digest(&repository, "2").is_some());
    Engine::get().forget(&built);
    setup.run(setup.docker(docker, &["logout", setup.host()])).success();
}

/// Clients up to 22 have BuildKit's part built in; later ones need the plugin buildx, which not every
/// distribution has.
fn speaks_buildkit(docker: &Path) -> bool {
    let help = Program::named(docker).args(["build", "--help"]).env("DOCKER_BUILDKIT", "1");
    let ran = Work::new().run(help);
    ran.code() == 0 && ran.stdout().contains("--progress")
}

fn has_buildx(docker: &Path) -> bool {
    Work::new().run(Program::named(docker).args(["buildx", "version"])).code() == 0
}

/// `skopeo login`, `inspect`, `copy`, `logout`.
fn skopeo_does_everything(setup: &Setup) {
    let host = setup.host();
    let auth = setup.work.home().join(".docker/config.json");
    let auth = auth.to_str().unwrap();
    let skopeo = |arguments: &[&str]| {
        Program::named("skopeo").args(arguments).env("REGISTRY_AUTH_FILE", auth)
    };
    let login = skopeo(&["login", "--tls-verify=false", "-u", USER, "--password-stdin", host]);
    setup.run(login.input(PASSWORD)).success();
    let repository = setup.push_new();
    let source = format!("docker://{}", setup.registry.name(&format!("{repository}:1")));
    let copy = format!("docker://{}", setup.registry.name(&format!("{repository}-copy:1")));
    setup.run(skopeo(&["inspect", "--tls-verify=false", &source])).success();
    let flags = ["--src-tls-verify=false", "--dest-tls-verify=false", "--insecure-policy"];
    setup.run(skopeo(&[&["copy"], &flags[..], &[&source, &copy]].concat())).success();
    assert_eq!(
        setup.registry.digest(&format!("{repository}-copy"), "1"),
        setup.registry.digest(&repository, "1")
    );
    setup.run(skopeo(&["logout", host])).success();
    assert_eq!(setup.verb("get", host).exits(1).stdout(), NOT_FOUND);
    // Nothing left to forget: the program of 2022 overflows its stack if the helper says so.
    let again = setup.run(skopeo(&["logout", host]));
    assert!(!again.stderr().contains("goroutine"), "{}", again.text());
}

/// `login`, `pull` and `logout` of buildah and podman, over a storage of its own, with the `auth.json`
/// that our `configure --podman` writes.
fn logs_in_and_pulls(setup: &Setup, name: &str) {
    let host = setup.host();
    let auth = setup.work.home().join(".config/containers/auth.json");
    let (root, run) =
        (setup.work.join(format!("{name}-root")), setup.work.join(format!("{name}-run")));
    let program = |arguments: &[&str]| {
        Program::named(name)
            .args(["--root", root.to_str().unwrap(), "--runroot", run.to_str().unwrap()])
            .args(["--storage-driver", "vfs"])
            .args(arguments)
            .env("REGISTRY_AUTH_FILE", &auth)
    };
    let configure = Program::helper(["configure", "--podman", host]);
    setup.run(configure.env("REGISTRY_AUTH_FILE", &auth)).success();
    let login = program(&["login", "--tls-verify=false", "-u", USER, "--password-stdin", host]);
    setup.run(login.input(PASSWORD)).success();
    let who = setup.run(program(&["login", "--get-login", host])).success();
    assert_eq!(who.stdout().trim(), USER);
    let repository = setup.push_new();
    let image = setup.registry.name(&format!("{repository}:1"));
    setup.run(program(&["pull", "--tls-verify=false", &image])).success();
    setup.run(program(&["rmi", &image])).success();
    setup.run(program(&["logout", host])).success();
    assert_eq!(setup.verb("get", host).exits(1).stdout(), NOT_FOUND);
    setup.run(program(&["pull", "--tls-verify=false", &image])).exits(125);
}

fn every_client(place: Place) {
    let setup = Setup::new(place);
    let watch = Watch::start(PASSWORD);
    for docker in dockers() {
        docker_does_everything(&setup, &docker);
        docker_refuses_a_wrong_password(&setup, &docker);
        if speaks_buildkit(&docker) {
            buildkit_pulls_a_private_base_and_pushes(&setup, &docker);
        } else {
            println!("not tested: BuildKit by {}, which lacks buildx", docker.display());
        }
    }
    skopeo_does_everything(&setup);
    logs_in_and_pulls(&setup, "buildah");
    logs_in_and_pulls(&setup, "podman");
    watch.assert_unseen(&setup.work.home());
}

#[test]
#[ignore = "needs an engine, a registry and GNOME Keyring: run tests/run.sh"]
fn with_the_secret_service() {
    every_client(Place::SecretService(Session::unlocked()));
}

#[test]
#[ignore = "needs an engine and a registry: run tests/run.sh"]
fn with_the_encrypted_file() {
    every_client(Place::File);
}

#[test]
#[ignore = "needs an engine and a registry: run tests/run.sh"]
fn as_the_store_for_all_registries() {
    let setup = Setup::new(Place::File);
    for docker in dockers() {
        setup.configure(&json!({ "credsStore": "aliyun" }));
        docker_does_everything(&setup, &docker);
    }
}
