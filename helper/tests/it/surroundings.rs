//! Machines that lack something: a home, a writable disk, a bus, a locale, everything.

use serde_json::json;
use smartbuild_test_rig::{Engine, Program, Ran, Work, unique};

use crate::rig::{NOT_FOUND, PASSWORD, USER};
use crate::session::Session;

fn request(server: &str) -> String {
    json!({ "ServerURL": server, "Username": USER, "Secret": PASSWORD }).to_string()
}

fn answer(server: &str) -> serde_json::Value {
    json!({ "ServerURL": server, "Username": USER, "Secret": PASSWORD })
}

/// A machine whose programs run as somebody who may write nowhere in it: root gives up being root,
/// others the right to write.
struct ReadOnly {
    work: Work,
    is_root: bool,
}

impl ReadOnly {
    fn new(work: Work) -> Self {
        let ours = std::env::current_exe().unwrap();
        let ours = ours.ancestors().nth(2).unwrap().join("docker-credential-aliyun");
        work.write("program", std::fs::read(ours).unwrap());
        let id = work.run(Program::named("id").args(["-u"])).success();
        let machine = Self { work, is_root: id.stdout().trim() == "0" };
        machine.chmod("u-w,a+rX", "..").chmod("a+rx", "program")
    }

    fn chmod(self, mode: &str, path: &str) -> Self {
        self.work.run(Program::named("chmod").args(["-R", mode, path])).success();
        self
    }

    fn program(&self, verb: &str, input: &str) -> Program {
        let program = self.work.join("program");
        let program = program.to_str().unwrap();
        if self.is_root {
            let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--", program, verb];
            Program::named("setpriv").args(nobody).input(input)
        } else {
            Program::named(program).args([verb]).input(input)
        }
    }

    fn run(&self, program: Program) -> Ran {
        self.work.run(program)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        self.work.run(Program::named("chmod").args(["-R", "u+w", ".."]));
    }
}

#[test]
fn a_read_only_home_is_read_and_what_cannot_be_written_is_told() {
    let work = Work::new();
    let key = "ab".repeat(32);
    let keyed = |program: Program| program.env("DOCKER_CREDENTIAL_ALIYUN_KEY", &key);
    work.run(keyed(Program::helper(["store"]).input(request("r.example")))).success();
    let machine = ReadOnly::new(work);
    let call = |verb: &str, input: &str| machine.run(keyed(machine.program(verb, input)));
    assert_eq!(call("get", "r.example").success().json(), answer("r.example"));
    assert_eq!(call("get", "s.example").exits(1).stdout(), NOT_FOUND);
    assert_eq!(call("list", "").success().json(), json!({ "r.example": USER }));
    call("store", &request("s.example"))
        .exits(1)
        .says(&["the encrypted file", "cannot be written"]);
    call("erase", "s.example").success();
    call("erase", "r.example").exits(1).says(&["the encrypted file", "cannot be written"]);
}

/// What a CI job in a bare container has: variables, and neither home nor locale nor rights.
#[test]
fn variables_need_no_home_no_locale_and_no_rights() {
    let machine = ReadOnly::new(Work::new());
    let bare = |verb: &str, input: &str| {
        let program = machine.program(verb, input).env("LC_ALL", "");
        let program = program.env("REGISTRY_URL", "r.example").env("REGISTRY_USERNAME", USER);
        machine.run(program.env("REGISTRY_PASSWORD", PASSWORD).without_env("HOME"))
    };
    assert_eq!(bare("get", "r.example").success().json(), answer("r.example"));
    assert_eq!(bare("list", "").success().json(), json!({ "r.example": USER }));
    // A client hands back what it got; there is nowhere to keep it, and no need.
    bare("store", &request("r.example")).success();
    bare("erase", "r.example").success();
    bare("store", &request("s.example")).exits(1).says(&["no place to keep a secret"]);
}

#[test]
fn a_file_elsewhere_needs_no_home() {
    let work = Work::new();
    let call = |verb: &str, input: &str| {
        let program = Program::helper([verb])
            .without_env("HOME")
            .without_env("PATH")
            .env("LC_ALL", "C")
            .env("DOCKER_CREDENTIAL_ALIYUN_FILE", work.join("deep/secrets.json"))
            .env("DOCKER_CREDENTIAL_ALIYUN_KEY_FILE", work.join("key"));
        work.run(program.input(input))
    };
    assert_eq!(call("get", "r.example").exits(1).stdout(), NOT_FOUND);
    call("erase", "r.example").success();
    call("store", &request("r.example")).success();
    assert_eq!(call("get", "r.example").success().json(), answer("r.example"));
}

#[test]
fn another_helper_is_a_store_when_it_is_there() {
    let work = Work::new();
    let program = Program::helper(["store"])
        .env("DOCKER_CREDENTIAL_ALIYUN_STORE", "helper:never-installed")
        .input(request("r.example"));
    work.run(program).exits(1).says(&["docker-credential-never-installed is not on the PATH"]);
    let program = Program::helper(["store"])
        .env("DOCKER_CREDENTIAL_ALIYUN_STORE", "cupboard")
        .input(request("r.example"));
    work.run(program).exits(1).says(&["there is no store called \"cupboard\"", "keyutils"]);
}

#[test]
fn a_helper_that_hangs_is_ended_with_all_that_it_started() {
    let work = Work::new();
    let script = "#!/bin/sh\necho $$ >\"$HOME/pid\"\nsleep 600 | cat\n";
    work.write("bin/docker-credential-slow", script).chmod("bin/docker-credential-slow", 0o755);
    let path = std::env::join_paths([work.join("bin"), "/usr/bin".into(), "/bin".into()]).unwrap();
    let limit = std::time::Duration::from_secs(30);
    let run = |arguments: &[&str]| {
        let program = Program::helper(arguments)
            .env("PATH", &path)
            .env("DOCKER_CREDENTIAL_ALIYUN_STORE", "helper:slow")
            .input("r.example");
        work.run(program.limit(limit))
    };
    for arguments in [&["get"][..], &["logout", "r.example"]] {
        let ran = run(arguments).exits(1).says(&["docker-credential-slow did not answer to get"]);
        assert!(ran.duration().as_secs() < 12, "{:?}", ran.duration());
        let pid = work.read("../home/pid");
        // The dead may wait for somebody to bury them.
        let group = Program::named("pgrep").args(["--runstates", "R,S,D", "-g", pid.trim()]);
        assert_eq!(work.run(group).stdout(), "", "{arguments:?}");
    }
}

/// Many helpers can say no more than what one server has.
#[test]
fn a_helper_that_cannot_list_is_asked_for_what_it_has() {
    let work = Work::new();
    let script = "#!/bin/sh\nread -r server\ncase $1 in\n\
        list) echo 'list is unimplemented'; exit 1 ;;\n\
        get) cat \"$HOME/$server\" 2>/dev/null && exit; \
        echo 'credentials not found in native keychain'; exit 1 ;;\n\
        store) printf '%s' \"$server\" >\"$HOME/r.example\" ;;\n\
        erase) rm \"$HOME/$server\" ;;\nesac\n";
    work.write("bin/docker-credential-short", script).chmod("bin/docker-credential-short", 0o755);
    let path = std::env::join_paths([work.join("bin"), "/usr/bin".into(), "/bin".into()]).unwrap();
    let call = |verb: &str, input: &str| {
        let program = Program::helper([verb])
            .env("PATH", &path)
            .env("DOCKER_CREDENTIAL_ALIYUN_STORE", "helper:short")
            .input(input);
        work.run(program)
    };
    assert_eq!(call("get", "r.example").exits(1).stdout(), NOT_FOUND);
    call("store", &request("r.example")).success();
    assert_eq!(call("get", "r.example").success().json(), answer("r.example"));
    assert_eq!(call("list", "").success().json(), json!({}));
    call("erase", "r.example").success();
    assert_eq!(call("get", "r.example").exits(1).stdout(), NOT_FOUND);
}

/// The way to the keychains of macOS and Windows, walked with the helper that is at hand here.
#[test]
#[ignore = "needs a D-Bus and GNOME Keyring: run tests/run.sh"]
fn another_helper_keeps_what_it_is_given() {
    let (session, work) = (Session::unlocked(), Work::new());
    let call = |verb: &str, input: &str| {
        let program = Program::helper([verb])
            .env("DOCKER_CREDENTIAL_ALIYUN_STORE", "helper:secretservice")
            .input(input);
        work.run(session.join(program))
    };
    call("store", &request("r.example")).success();
    assert_eq!(call("get", "https://r.example/v2/").success().json()["Secret"], PASSWORD);
    assert_eq!(session.theirs(&work, "get", "r.example").success().json(), answer("r.example"));
    let other = json!({ "ServerURL": "r.example", "Username": "new", "Secret": "2" });
    call("store", &other.to_string()).success();
    assert_eq!(call("get", "r.example").success().json()["Username"], "new");
    assert_eq!(call("list", "").success().json(), json!({ "r.example": "new" }));
    session.theirs(&work, "store", &request("https://Q.example/v1/")).success();
    assert_eq!(call("get", "q.example").success().json()["Username"], USER);
    call("erase", "q.example").success();
    call("erase", "r.example").success();
    call("erase", "r.example").success();
    assert_eq!(session.theirs(&work, "list", "").success().stdout().trim(), "{}");
}

/// The kernel's keyring belongs to the user of the test, so the entry has a name of its own.
#[test]
#[ignore = "needs a kernel that lets us keep keys: run tests/run.sh"]
fn the_kernel_keeps_what_it_is_given() {
    let work = Work::new();
    let call = |verb: &str, input: &str| {
        let program =
            Program::helper([verb]).env("DOCKER_CREDENTIAL_ALIYUN_STORE", "keyutils").input(input);
        work.run(program)
    };
    let server = format!("{}.example", unique("r"));
    let stored = call("store", &request(&server));
    if stored.stderr().contains("the kernel keyring is not available here") {
        println!("a container without keys: only the sentence is tested");
        return;
    }
    stored.success();
    assert_eq!(call("get", &format!("https://{server}/v2/")).success().json()["Secret"], PASSWORD);
    let other = json!({ "ServerURL": server, "Username": "new", "Secret": "2" });
    call("store", &other.to_string()).success();
    assert_eq!(call("list", "").success().json()[&server], "new");
    call("erase", &server).success();
    call("erase", &server).success();
    assert_eq!(call("get", &server).exits(1).stdout(), NOT_FOUND);
}

/// An image with nothing in it but the program and the libraries that it is linked with.
#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_scratch_container_is_answered() {
    let work = Work::new();
    let engine = Engine::get();
    let name = unique("scratch");
    let ours = std::env::current_exe().unwrap();
    let ours = ours.ancestors().nth(2).unwrap().join("docker-credential-aliyun");
    let linked = work.run(Program::named("ldd").args([ours.to_str().unwrap()])).success();
    work.write("root/program", std::fs::read(&ours).unwrap()).chmod("root/program", 0o755);
    let libraries = linked.stdout().split_whitespace().filter(|word| word.starts_with("/lib"));
    for library in libraries {
        let copy = format!("root{library}");
        work.write(&copy, std::fs::read(library).unwrap()).chmod(&copy, 0o755);
    }
    work.run(Program::named("tar").args(["-cf", "root.tar", "-C", "root", "."])).success();
    work.run(engine.docker(["import", "root.tar", &name])).success();
    let run = |verb: &str, variables: &[&str], input: &str| {
        let mut arguments = vec!["run", "--rm", "-i", "--network=none", "--read-only"];
        arguments.extend(variables.iter().flat_map(|variable| ["--env", *variable]));
        arguments.extend([name.as_str(), "/program", verb]);
        work.run(engine.docker(arguments).env("REGISTRY_PASSWORD", PASSWORD).input(input))
    };
    let variables = ["REGISTRY_URL=r.example", "REGISTRY_USERNAME=u", "REGISTRY_PASSWORD"];
    let got = run("get", &variables, "r.example").success().json();
    assert_eq!(got["Secret"], PASSWORD);
    assert_eq!(run("get", &[], "r.example").exits(1).stdout(), NOT_FOUND);
    assert_eq!(run("list", &[], "").success().stdout(), "{}\n");
    run("store", &[], &request("r.example")).exits(1).says(&["no place to keep a secret"]);
    engine.forget(&name);
}
