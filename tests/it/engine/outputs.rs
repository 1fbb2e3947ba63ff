//! What is written instead of stored, and what is pushed past any store: by BuildKit in an engine, by
//! a buildkitd, by buildah.

use std::{
    io::{Read as _, Write as _},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
};

use smartbuild_test_rig::{self as rig, Program};

use crate::pipeline::Pipeline;

/// The engine's BuildKit, as a `buildkitd` would offer it: plain gRPC on a socket.
pub(super) fn bridge(pipeline: &Pipeline) -> String {
    let path = pipeline.work.join("../buildkitd.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            let engine = rig::Engine::get().host().strip_prefix("unix://").unwrap();
            let mut engine = UnixStream::connect(engine).unwrap();
            let request = "POST /grpc HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\n\
                           Upgrade: h2c\r\n\r\n";
            engine.write_all(request.as_bytes()).unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                engine.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
            carry(client.try_clone().unwrap(), engine.try_clone().unwrap());
            carry(engine, client);
        }
    });
    format!("unix://{}", path.display())
}

fn carry(mut from: UnixStream, mut to: UnixStream) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}

/// Files into a directory, as a tar into a file and on standard output; nothing is published, and
/// nothing is left of a build that fails.
pub(super) fn files_are_written(pipeline: &Pipeline, with: impl Fn(Program) -> Program) {
    let run = |arguments: &[&str]| pipeline.work.run(with(pipeline.job(arguments, "1")));
    // The second time over what the first has written.
    for _ in 0..2 {
        run(&["-o", "out"]).success();
        assert_eq!(pipeline.work.read("out/shout"), "HELLO\n");
    }
    run(&["--output", "type=tar,dest=new/files.tar"]).success();
    let listed = Program::named("tar").args(["xOf", "new/files.tar", "shout"]);
    assert_eq!(pipeline.work.run(listed).success().stdout(), "HELLO\n");
    assert!(run(&["-o", "-"]).success().stdout().contains("HELLO\n"));
    assert_eq!(pipeline.registry.tags(&pipeline.repository), [""; 0]);

    pipeline.work.write("Dockerfile", "ARG BASE\nFROM $BASE\nRUN exit 3\n");
    run(&["--output", "type=tar,dest=none.tar"]).exits(1);
    assert!(!pipeline.work.join("none.tar").exists());
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn an_engine_writes_files() {
    files_are_written(&Pipeline::new(), |job| job.engine(rig::Engine::get()));
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_buildkitd_writes_files() {
    let pipeline = Pipeline::new();
    let host = bridge(&pipeline);
    files_are_written(&pipeline, |job| job.env("BUILDKIT_HOST", &host));
}

#[test]
#[ignore = "needs buildah: run tests/run.sh"]
fn buildah_writes_files() {
    files_are_written(&Pipeline::new(), |job| job.env("SMARTBUILD_ENGINE", "buildah"));
}

#[test]
#[ignore = "needs buildah and skopeo: run tests/run.sh"]
fn an_image_is_written_as_an_archive() {
    let pipeline = Pipeline::new();
    let arguments = ["--engine", "buildah", "-o", "type=oci,dest=image.tar", "--json"];
    let report = pipeline.work.run(pipeline.job(&arguments, "1")).success().json();
    let inspect = ["inspect", "--format", "{{.Digest}}", "oci-archive:image.tar"];
    let digest = pipeline.work.run(Program::named("skopeo").args(inspect)).success();
    assert_eq!(report["digest"], digest.stdout().trim());
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn what_is_in_the_registry_already_is_written_too_and_no_tag_moves() {
    let pipeline = Pipeline::new();
    let run = |arguments: &[&str], number| {
        pipeline.work.run(pipeline.job(arguments, number).engine(rig::Engine::get())).success()
    };
    run(&["--push"], "1");
    let before = pipeline.registry.tags(&pipeline.repository);
    run(&["-o", "out"], "2");
    run(&["--output", "type=tar,dest=files.tar"], "2");
    assert_eq!(pipeline.work.read("out/shout"), "HELLO\n");
    let listed = Program::named("tar").args(["xOf", "files.tar", "shout"]);
    assert_eq!(pipeline.work.run(listed).success().stdout(), "HELLO\n");
    assert_eq!(pipeline.registry.tags(&pipeline.repository), before);

    // With --push it is a hit all the same.
    let both = run(&["--push", "--json", "--output", "type=tar,dest=again.tar"], "3").json();
    assert_eq!(both["outcome"], "retagged");
    assert_eq!(pipeline.digest("3"), pipeline.digest("1"));
    assert!(pipeline.work.join("again.tar").exists());
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn nothing_is_attested() {
    let pipeline = Pipeline::new();
    let refused = pipeline.job(&["--push", "--sbom=true"], "1").engine(rig::Engine::get());
    pipeline
        .work
        .run(refused)
        .exits(2)
        .says(&["--sbom true: images are built without attestations"]);
    let job = pipeline.job(&["--push", "--provenance=false"], "1").engine(rig::Engine::get());
    pipeline.work.run(job).success();
    let manifest = pipeline.registry.manifest(&pipeline.repository, "1").unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    assert!(manifest["config"].is_object(), "an image by itself: {manifest}");
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_buildkitd_has_no_store() {
    let pipeline = Pipeline::new();
    let host = bridge(&pipeline);
    let arguments = ["--engine", "buildkit", "-t", "name:1", "--offline"];
    let job = pipeline.job(&arguments, "1").env("BUILDKIT_HOST", &host);
    pipeline.work.run(job).exits(3);
    let job = pipeline.job(&["--push"], "1").env("BUILDKIT_HOST", "unix:///nowhere.sock");
    pipeline.work.run(job).exits(3).says(&["no buildkitd answers at unix:///nowhere.sock"]);
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn an_engine_does_the_main_job() {
    main_job(|job| job.engine(rig::Engine::get()));
}

/// Miss, hit and a build that fails.
pub(super) fn main_job(with: impl Fn(Program) -> Program) {
    let pipeline = Pipeline::new();
    let job = |number| with(pipeline.job(&["--push", "--json"], number));
    let built = pipeline.work.run(job("1")).success().json();
    assert_eq!(built["outcome"], "built");
    assert_eq!(built["digest"].as_str(), pipeline.digest("1").as_deref());
    assert_eq!(pipeline.digest("latest"), pipeline.digest("1"));
    let skipped = pipeline.work.run(job("2")).success().json();
    assert_eq!(skipped["outcome"], "retagged");
    assert_eq!(pipeline.tags(), ["1", "2", "latest"]);

    // A build that fails moves nothing.
    let before = pipeline.registry.tags(&pipeline.repository);
    pipeline.work.write("Dockerfile", "ARG BASE\nFROM $BASE\nRUN exit 3\n");
    pipeline.work.run(job("3")).exits(1);
    assert_eq!(pipeline.registry.tags(&pipeline.repository), before);
}
