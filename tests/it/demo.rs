//! The demonstration of `install.sh`, as a newcomer sees it, with the programs of the tests.

use std::net::TcpStream;

use smartbuild_test_rig::{self as rig, Program, Work};

use crate::without_rights::{give_to_nobody, without_rights};

/// What it shows at its end.
const SHOWN: [&str; 3] = [
    "built and pushed",
    "skipped: nothing changed, no engine was asked",
    "1, 2 and latest are one image",
];

/// What `install.sh` does when both programs are in place.
const DEMO: &str = "\
set -eu
here=$PWD/here
bin=$PWD/bin
. \"$here/tests/machine.sh\"
. \"$here/examples/hello/demo.sh\"
";

/// A place of the test's own with what the demonstration reads, and both programs.
fn newcomer() -> Work {
    let work = Work::new();
    work.write("demo.sh", DEMO);
    let copies = "mkdir bin here here/tests here/examples\n\
                  cp \"$1\" \"$2\" bin\n\
                  cp \"$3/tests/machine.sh\" here/tests\n\
                  cp -r \"$3/examples/hello\" here/examples\n";
    let programs = ["smartbuild", "docker-credential-aliyun"].map(Program::path_of);
    let copy = Program::named("sh")
        .args(["-euc", copies, "sh"])
        .args(programs.iter().map(|path| path.to_str().unwrap()))
        .args([env!("CARGO_MANIFEST_DIR")]);
    work.run(copy).success();
    work
}

/// Runs it; afterwards nothing listens any more where its registry was.
fn show(work: &Work, demo: Program) -> rig::Ran {
    let ran = work.run(demo).success().says(&SHOWN);
    let host = ran.stderr().split_once("Started a registry at ").unwrap().1;
    let host = host.split(';').next().unwrap();
    assert!(TcpStream::connect(host).is_err(), "{host} still answers");
    ran
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn with_an_engine_it_builds_and_then_skips() {
    let demo = Program::named("sh").args(["demo.sh"]).engine(rig::Engine::get());
    show(&newcomer(), demo).says(&["Using the Docker Engine at", "Docker got the password from"]);
}

#[test]
#[ignore = "needs buildah: run tests/run.sh"]
fn where_no_engine_can_be_started_a_user_without_rights_sees_it_with_buildah() {
    let work = newcomer();
    let place = work.join("..").canonicalize().unwrap();
    let script = without_rights("PLACE/home").replace("PLACE", place.to_str().unwrap());
    work.write("user.sh", script);
    give_to_nobody(&place);
    let nowhere = ["env", "-u", "SMARTBUILD_ENGINE", "DOCKER_HOST=unix:///nowhere.sock"];
    let and_what_is_left =
        "sh demo.sh && buildah images --all --quiet && buildah containers --quiet";
    let demo = Program::named("sh").args(["user.sh"]).args(nowhere);
    let ran = show(&work, demo.args(["sh", "-c", and_what_is_left]))
        .says(&["none can be started here: using buildah", "Built a base image with buildah"]);
    assert_eq!(ran.stdout(), "", "images and containers are left");
}
