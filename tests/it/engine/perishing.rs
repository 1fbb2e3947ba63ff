//! Engines that die or run out of disk in mid-build: one error that says so, and nothing is
//! published.

use std::time::{Duration, Instant};

use smartbuild_test_rig::{Program, Ran, unique};

use super::apart::Apart;
use crate::pipeline::Pipeline;

/// Room for an engine and for no more than the base of a build, in megabytes.
const SMALL: u32 = 48;

/// A project whose base is this machine's busybox: engines apart reach no registry.
fn project(more: &str) -> Pipeline {
    let pipeline = Pipeline::new();
    let busybox =
        ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| std::fs::read(path).ok());
    pipeline.work.write("busybox", busybox.unwrap()).chmod("busybox", 0o755);
    let dockerfile = format!("FROM scratch\nCOPY busybox project /bin/\n{more}");
    pipeline.work.write("Dockerfile", dockerfile);
    pipeline
}

/// One error, which is the engine's, and nothing in the registry.
fn published_nothing(pipeline: &Pipeline, ran: Ran, said: &[&str]) {
    let ran = ran.exits(3).says(said);
    assert_eq!(ran.text().matches("error:").count(), 1, "{}", ran.text());
    assert_eq!(pipeline.registry.tags(&pipeline.repository), [""; 0]);
}

/// The processes whose command line has this in it.
fn processes(text: &str) -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let found = all.filter(|process| {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(text)
    });
    found.map(|process| process.file_name().into_string().unwrap()).collect()
}

/// Builds until a step runs, then lets the engine die.
fn dies(with: impl Fn(&Pipeline, Program) -> Program, die: impl FnOnce(&Pipeline), said: &[&str]) {
    // A number of its own: that is how the process is known.
    let seconds = u32::from_str_radix(&unique("")[1..8], 16).unwrap() + 10_000;
    let pipeline = project(&format!("RUN [\"/bin/busybox\", \"sleep\", \"{seconds}\"]\n"));
    let job = with(&pipeline, pipeline.job(&["--push", "--progress", "plain"], "1"));
    let mut running = pipeline.work.start(job);
    let deadline = Instant::now() + Duration::from_secs(120);
    while processes(&format!("/bin/busybox sleep {seconds}")).is_empty() {
        assert!(Instant::now() < deadline, "the step does not run");
        if !running.is_running() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    die(&pipeline);
    published_nothing(&pipeline, running.wait(), said);
}

/// Builds what the engine has no room for.
fn is_full(with: impl Fn(&Pipeline, Program) -> Program) {
    let pipeline = project("COPY large /\n");
    pipeline.work.write("large", unique("x").repeat(6_000_000));
    let job = with(&pipeline, pipeline.job(&["--push", "--progress", "plain"], "1"));
    let ran = pipeline.work.run(job);
    published_nothing(&pipeline, ran, &["the engine cannot", "its disk is full"]);
}

const BROKEN: [&str; 2] = ["cannot build the image", "the connection to the engine broke"];

#[test]
#[ignore = "needs dockerd: run tests/run.sh"]
fn a_docker_engine_that_dies() {
    let mut engine = Apart::docker(None);
    let host = engine.host();
    dies(|_, job| job.env("DOCKER_HOST", &host), |_| engine.die(), &BROKEN);
}

#[test]
#[ignore = "needs podman: run tests/run.sh"]
fn a_podman_that_dies() {
    let mut engine = Apart::podman(None);
    let host = engine.host();
    dies(|_, job| job.env("DOCKER_HOST", &host), |_| engine.die(), &BROKEN);
}

#[test]
#[ignore = "needs a buildkitd: run tests/run.sh"]
fn a_buildkitd_that_dies() {
    let Some(mut engine) = Apart::buildkitd(None) else { return };
    let host = engine.host();
    dies(|_, job| job.env("BUILDKIT_HOST", &host), |_| engine.die(), &BROKEN);
}

#[test]
#[ignore = "needs buildah: run tests/run.sh"]
fn a_buildah_that_dies() {
    // The copy of the context is where this says, so that its arguments tell which one is ours.
    let place = |pipeline: &Pipeline| pipeline.work.join("..").canonicalize().unwrap();
    let with = |pipeline: &Pipeline, job: Program| {
        job.env("SMARTBUILD_ENGINE", "buildah").env("TMPDIR", place(pipeline))
    };
    let die = |pipeline: &Pipeline| {
        let own = processes(&format!("{}/smartbuild-context-", place(pipeline).display()));
        let killed = std::process::Command::new("kill").arg("-9").args(&own).status().unwrap();
        assert!(killed.success(), "{own:?}");
    };
    dies(with, die, &["the engine cannot build the image: buildah ended with signal: 9"]);
}

#[test]
#[ignore = "needs buildah: run tests/run.sh"]
fn a_buildah_without_room() {
    is_full(|pipeline, _| {
        let place = pipeline.work.join("..").canonicalize().unwrap().display().to_string();
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"{place}/store\"\nrunroot = \"{place}/run\"\n"
        );
        pipeline.work.write("../storage.conf", storage);
        let mount = format!(
            "mkdir {place}/store && mount -t tmpfs -o size={SMALL}m tmpfs {place}/store && exec \"$@\""
        );
        let program = Program::path_of("smartbuild");
        let job = Program::named("unshare")
            .args(["--mount", "sh", "-c", &mount, "sh", program.to_str().unwrap()])
            .args(["--push", "--progress", "plain", &pipeline.base_argument()])
            .env("CONTAINERS_STORAGE_CONF", format!("{place}/storage.conf"))
            .env("SMARTBUILD_ENGINE", "buildah");
        let variables = pipeline.variables("1");
        variables.iter().fold(job, |job, (name, value)| job.env(name, value))
    });
}

#[test]
#[ignore = "needs dockerd: run tests/run.sh"]
fn a_docker_engine_without_room() {
    let engine = Apart::docker(Some(SMALL));
    is_full(|_, job| job.env("DOCKER_HOST", engine.host()));
}

#[test]
#[ignore = "needs podman: run tests/run.sh"]
fn a_podman_without_room() {
    let engine = Apart::podman(Some(SMALL));
    is_full(|_, job| job.env("DOCKER_HOST", engine.host()));
}

#[test]
#[ignore = "needs a buildkitd: run tests/run.sh"]
fn a_buildkitd_without_room() {
    let Some(engine) = Apart::buildkitd(Some(SMALL)) else { return };
    is_full(|_, job| job.env("BUILDKIT_HOST", engine.host()));
}
