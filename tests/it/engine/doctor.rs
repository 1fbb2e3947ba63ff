//! What `smartbuild doctor` says of engines: which one builds, what it can do, and what to do where
//! none answers.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::net::UnixListener,
};

use serde_json::Value;
use smartbuild_test_rig::{self as rig, Program, Ran};

use super::{elsewhere::stand_in, outputs::bridge};
use crate::pipeline::Pipeline;

/// The texts of the findings of that grade.
fn texts(ran: &Ran, grade: &str) -> Vec<String> {
    let findings = ran.json();
    let of_grade = findings.as_array().unwrap().iter().filter(|finding| finding["grade"] == grade);
    of_grade.map(|finding| finding["text"].as_str().unwrap().to_owned()).collect()
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn it_says_what_would_build_and_what_stands_in_the_way() {
    let pipeline = Pipeline::new();
    let doctor = |job: Program| pipeline.work.run(job);
    let well = pipeline.job(&["doctor"], "1").engine(rig::Engine::get());
    let said = doctor(well).success();
    assert!(said.stdout().contains("Docker Engine"), "{}", said.stdout());
    assert!(said.stdout().contains(pipeline.registry.host()), "{}", said.stdout());
    let nowhere = pipeline.job(&["doctor", "--json"], "1").env("DOCKER_HOST", "unix:///none");
    let said = doctor(nowhere).exits(3).json();
    assert_eq!(said[0]["grade"], "bad");
    assert!(said[0]["advice"].is_string());
    let locked = pipeline.job(&["doctor"], "1").engine(rig::Engine::get());
    let said = doctor(locked.env("REGISTRY_PASSWORD", "wrong")).exits(3);
    assert!(said.stdout().contains("FAILED"), "{}", said.stdout());
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn it_says_which_engine_builds_what_is_pushed_and_what_is_not() {
    let pipeline = Pipeline::new();
    let host = bridge(&pipeline);
    let engine = rig::Engine::get();
    let doctor = |more: &[&str], host: &str| {
        let arguments = [&["doctor", "--json"], more].concat();
        let job = pipeline.job(&arguments, "1").engine(engine).env("BUILDKIT_HOST", host);
        pipeline.work.run(job).success()
    };
    let docker = format!("Docker Engine {} for ", engine.version());
    let at = |host: &str, origin: &str| format!(" answers at {host} (from {origin})");
    let begins = |text: &String, begin: &str, end: &str| {
        assert!(text.starts_with(begin) && text.ends_with(end), "{text}: {begin}..{end}");
    };

    let kept = texts(&doctor(&[], &host), "good");
    begins(&kept[0], &docker, &at(engine.host(), "DOCKER_HOST"));
    begins(&kept[1], "it can do ", "");
    begins(&kept[2], "with --push, buildkitd ", &at(&host, "BUILDKIT_HOST"));
    begins(&kept[3], "with --push, it can do secrets, ", "push while building");

    let pushed = texts(&doctor(&["--push"], &host), "good");
    begins(&pushed[0], "buildkitd ", &at(&host, "BUILDKIT_HOST"));
    begins(&pushed[2], &format!("without --push, {docker}"), &at(engine.host(), "DOCKER_HOST"));

    // One engine for all is said once, and what is not asked for does not stand in the way.
    let one = doctor(&[], "");
    assert!(!one.stdout().contains("--push, "), "{}", one.stdout());
    let gone = doctor(&[], "unix:///nowhere.sock");
    let warned = texts(&gone, "odd");
    begins(&warned[0], "with --push, no buildkitd answers at unix:///nowhere.sock", "socket");
}

/// A server on loopback that says this to whoever says something.
fn says(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let _ = client.read(&mut [0; 4096]).and_then(|_| client.write_all(bytes));
        }
    });
    format!("tcp://{address}")
}

#[test]
#[ignore = "needs docker-registry: run tests/run.sh"]
fn it_says_what_to_do_wherever_no_engine_answers() {
    let pipeline = Pipeline::new();
    let work = &pipeline.work;
    let failing = "echo 'ssh: Could not resolve hostname far' >&2; exit 255";
    let ssh = "-o ConnectTimeout=30 -T -- far docker system dial-stdio";
    let path = stand_in(work, "ssh", ssh, failing);
    let nobody = work.join("../nobody");
    drop(UnixListener::bind(&nobody).unwrap());
    let nobody = format!("unix://{}", nobody.display());
    let text = format!("unix://{}", work.write("../text", "x").join("../text").display());
    let garbage = says(b"220 mail\r\n");
    let web = says(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    let secure = says(
        b"HTTP/1.0 400 Bad Request\r\nContent-Length: 48\r\n\r\n\
          Client sent an HTTP request to an HTTPS server.\n",
    );
    work.write("../home/.docker/contexts/meta/x/meta.json", "{");
    let docker = |value: &str| vec![("DOCKER_HOST", value.to_owned())];
    let context =
        |name: &str| vec![("DOCKER_HOST", String::new()), ("DOCKER_CONTEXT", name.to_owned())];
    let and = |mut all: Vec<_>, name, value: &str| {
        all.push((name, value.to_owned()));
        all
    };
    let buildkit = |value: &str| {
        vec![("SMARTBUILD_ENGINE", "buildkit".to_owned()), ("BUILDKIT_HOST", value.to_owned())]
    };
    let cases = [
        (docker("unix:///none"), "there is no such socket", "DOCKER_HOST"),
        (docker(&nobody), "nobody listens there", "DOCKER_HOST"),
        (docker(&text), "", "DOCKER_HOST"),
        (docker("tcp://127.0.0.1:1"), "nobody listens there", "correct DOCKER_HOST"),
        (docker(&garbage), "is no Docker Engine", "DOCKER_HOST"),
        (docker(&web), "is no Docker Engine", "DOCKER_HOST"),
        (docker(&secure), "it wants TLS", "set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH"),
        (and(docker(&garbage), "DOCKER_TLS_VERIFY", "1"), "no TLS connection", "check "),
        (and(docker(&garbage), "DOCKER_TLS", "1"), "without verifying", "set DOCKER_TLS_VERIFY=1"),
        (docker("ssh://far"), "Could not resolve hostname far", "`ssh far docker version`"),
        (docker("nonsense://x"), "is no address of an engine", "write unix:///path"),
        (context("none"), "which does not exist", "`docker context ls`"),
        (buildkit("unix:///none"), "there is no such socket", "correct BUILDKIT_HOST"),
        (buildkit(&nobody), "nobody listens there", "correct BUILDKIT_HOST"),
        (buildkit("tcp://127.0.0.1:1"), "nobody listens there", "set BUILDKIT_TLS_DIR"),
        (buildkit(&garbage), "no buildkitd answers", "set BUILDKIT_TLS_DIR"),
        (buildkit(&web), "no buildkitd answers", "set BUILDKIT_TLS_DIR"),
        (and(buildkit(&garbage), "BUILDKIT_TLS_DIR", "/none"), "no buildkitd", "in /none"),
        (buildkit("nerdctl-container://bk"), "`nerdctl` is not installed", "nerdctl exec -i bk"),
        (buildkit("ssh://far"), "no buildkitd answers", "ssh -o ConnectTimeout=30 -T -- far"),
        (buildkit("nonsense://x"), "is no address of an engine", "write unix:///path"),
    ];
    for (variables, text, advice) in cases {
        let job = pipeline.job(&["doctor", "--json"], "1").env("PATH", &path);
        let job = variables.iter().fold(job, |job, (name, value)| job.env(name, value));
        let ran = work.run(job).exits(3);
        let findings: Vec<Value> = ran.json().as_array().unwrap().clone();
        let bad: Vec<_> = findings.iter().filter(|finding| finding["grade"] == "bad").collect();
        let [bad] = &bad[..] else { panic!("{variables:?}: {findings:?}") };
        let said = |name: &str| bad[name].as_str().unwrap();
        assert!(said("text").contains(text), "{variables:?}: {bad}");
        assert!(said("advice").contains(advice), "{variables:?}: {bad}");
    }
}
