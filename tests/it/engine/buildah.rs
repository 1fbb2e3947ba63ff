//! The main job where there is no engine: buildah alone, for users without rights and in a container
//! without privileges.

use std::process::Command;

use smartbuild::engine::Engine;
use smartbuild_test_rig::{self as rig, Program, Ran, Work, unique};

use super::{Heard, request};
use crate::{
    many::all,
    pipeline::Pipeline,
    without_rights::{give_to_nobody, without_rights},
};

/// The smartbuild job as another user would run it: `script` is what runs the program that its
/// arguments name.
fn job(pipeline: &Pipeline, script: &str, arguments: &[&str], number: &str) -> Program {
    // A user without rights may not look into the place where cargo builds.
    let program = pipeline.work.join("../smartbuild");
    if !program.exists() {
        let built = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("smartbuild");
        // By another process: a program that some process has open for writing cannot be run, and what
        // we have open, a process that another test starts has for a moment, too.
        let copied = Command::new("cp").args([&built, &program]).status().unwrap();
        assert!(copied.success());
    }
    let variables = pipeline.variables(number);
    let exports = variables
        .iter()
        .fold(String::new(), |text, (name, value)| text + &format!("export {name}='{value}'\n"));
    let text = format!("set -eu\n{exports}{script}");
    let place = pipeline.work.join("..").canonicalize().unwrap();
    std::fs::write(place.join("job.sh"), text).unwrap();
    Program::named("sh").args([place.join("job.sh").to_str().unwrap()]).args(
        [place.join("smartbuild").to_str().unwrap(), &pipeline.base_argument()]
            .into_iter()
            .chain(arguments.iter().copied()),
    )
}

/// Runs it once; `PLACE` in the script is the directory of the test, which the user owns.
fn run(pipeline: &Pipeline, script: &str, arguments: &[&str], number: &str) -> Ran {
    let place = pipeline.work.join("..").canonicalize().unwrap();
    give_to_nobody(&place);
    let script = script.replace("PLACE", place.to_str().unwrap());
    pipeline.work.run(job(pipeline, &script, arguments, number))
}

/// Miss, then hit, then another miss: with `script` between us and the program.
fn main_job(script: &str) {
    let pipeline = Pipeline::new();
    let run = |arguments: &[&str], number| run(&pipeline, script, arguments, number);
    let built = run(&["--push", "--json"], "1").success().json();
    assert_eq!(built["outcome"], "built");
    let first = pipeline.digest("1");
    assert_eq!(first.as_deref(), built["digest"].as_str());
    assert_eq!(pipeline.digest("latest"), first);
    assert_eq!(pipeline.tags(), ["1", "latest"]);
    let skipped = run(&["--push", "--json"], "2").success().json();
    assert_eq!(skipped["outcome"], "retagged");
    assert_eq!(pipeline.digest("2"), first);
    pipeline.work.write("greeting", "good morning\n");
    run(&["--push"], "3").success().says(&["greeting"]);
    assert_ne!(pipeline.digest("3"), first);
}

#[test]
#[ignore = "needs buildah: run tests/run.sh"]
fn a_user_without_rights_does_the_main_job() {
    main_job(&without_rights("PLACE/home"));
}

#[test]
#[ignore = "needs buildah: run tests/run.sh"]
fn a_user_whose_home_does_not_exist_builds_or_is_told_why_not() {
    let pipeline = Pipeline::new();
    let ran = run(&pipeline, &without_rights("/nonexistent"), &["--push", "--json"], "1");
    if ran.code() == 0 {
        // Before about 1.43 it looks nowhere but in HOME.
        assert_eq!(ran.json()["outcome"], "built");
        return;
    }
    ran.exits(3).says(&["the home directory that /etc/passwd has", "/nonexistent", "create it"]);
    assert_eq!(pipeline.registry.tags(&pipeline.repository), [""; 0]);
}

#[test]
#[ignore = "needs an engine for the container, and buildah: run tests/run.sh"]
fn a_container_without_privileges_does_the_main_job() {
    // The system of this machine, read-only, in a container that has neither an engine's socket
    // nor any privilege; user namespaces are allowed, as Kubernetes allows them.
    let image = format!("{}:1", unique("no-privileges"));
    let script = format!(
        "if [ ! -e PLACE/root.tar ]; then\n\
         mkdir -p PLACE/root/etc PLACE/root/tmp PLACE/root/var/tmp PLACE/root/root PLACE/root/usr\n\
         for name in bin lib lib64 sbin; do ln -s usr/$name PLACE/root/$name; done\n\
         cp -r /etc/containers PLACE/root/etc\n\
         echo root:x:0:0::/root:/bin/sh > PLACE/root/etc/passwd\n\
         echo root:x:0: > PLACE/root/etc/group\n\
         tar -C PLACE/root --owner=0 --group=0 -cf PLACE/root.tar .\n\
         docker import PLACE/root.tar {image} >/dev/null\nfi\n\
         exec docker run --rm --network host --security-opt seccomp=unconfined \
         --volume /usr:/usr:ro --volume PLACE:PLACE --workdir PLACE/work \
         --env HOME=/root $(for name in REGISTRY_USERNAME REGISTRY_PASSWORD REGISTRY_URL \
         IMAGE_URL CI_PIPELINE_IID; do echo --env $name; done) {image} \"$@\"\n"
    );
    let engine = rig::Engine::get();
    main_job(&format!("export DOCKER_HOST={}\n{script}", engine.host()));
    engine.forget(&image);
}

#[test]
#[ignore = "needs docker-registry: run tests/run.sh"]
fn an_engine_that_is_named_and_does_not_answer_is_not_replaced() {
    let pipeline = Pipeline::new();
    let job = pipeline.job(&["--push"], "1").env("DOCKER_HOST", "unix:///nowhere.sock");
    pipeline.work.run(job).exits(3).says(&["unix:///nowhere.sock (from DOCKER_HOST)"]);
}

#[test]
#[ignore = "needs buildah: run tests/run.sh"]
fn without_push_buildahs_own_store_is_the_cache() {
    let pipeline = Pipeline::new();
    let name = |tag: &str| format!("{}:{tag}", pipeline.image());
    let build = |tag: &str| {
        let arguments = ["--engine", "buildah", "-t", &name(tag), "--json"];
        pipeline.work.run(pipeline.job(&arguments, "1")).success().json()
    };
    assert_eq!(build("a")["outcome"], "built");
    assert_eq!(build("b")["outcome"], "local");
    pipeline.work.run(Program::named("buildah").args(["rmi", &name("a"), &name("b")])).success();
}

#[test]
#[ignore = "needs buildah: run tests/run.sh"]
fn what_a_mount_shows_is_never_taken_from_buildahs_cache() {
    let pipeline = Pipeline::new();
    pipeline.work.write(
        "Dockerfile",
        "ARG BASE\nFROM $BASE\nRUN --mount=target=/m cat /m/greeting > /copy\nRUN cat /copy\n",
    );
    let build = |number| {
        let arguments = ["--engine", "buildah", "--push", "--progress", "plain"];
        pipeline.work.run(pipeline.job(&arguments, number)).success()
    };
    build("1").says(&["hello"]);
    pipeline.work.write("greeting", "another\n");
    build("2").says(&["another"]);
}

#[test]
#[ignore = "needs buildah: run tests/run.sh"]
fn builds_that_share_a_store_are_not_disturbed_by_what_others_remove() {
    let work = Work::new();
    work.write("file", unique("the same layer in all images"));
    let rounds: Vec<u32> = (0..12).collect();
    all(&rounds, |round| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(async {
            let engine = Engine::buildah(&[]).await.unwrap();
            let mut request = request(&work, "FROM scratch\nCOPY file /\n");
            request.labels.insert("round".to_owned(), format!("{round}"));
            let id = engine.build(&request, &Heard::default()).await.unwrap().to_string();
            assert!(engine.inspect(&id).await.unwrap().is_some());
            engine.remove(&id).await.unwrap();
        });
    });
}

/// The containers in the store whose names say that they are of this image.
fn containers(work: &Work) -> Vec<String> {
    let list = ["containers", "--all", "--format", "{{.ImageName}}"];
    let ran = work.run(Program::named("buildah").args(list)).success();
    ran.stdout().lines().map(str::to_owned).collect()
}

#[test]
#[ignore = "needs buildah: run tests/run.sh"]
fn a_step_that_fails_shows_every_line_and_leaves_no_container() {
    let pipeline = Pipeline::new();
    pipeline.work.write(
        "Dockerfile",
        "ARG BASE\nFROM $BASE\n\
         RUN echo 'Error: Cannot find module'; echo 'STEP 7/9: mine'; echo 'Successfully done'; exit 3\n",
    );
    let arguments = ["--engine", "buildah", "--push", "--progress", "plain"];
    let ran = pipeline.work.run(pipeline.job(&arguments, "1")).exits(1);
    let ran = ran.says(&["Error: Cannot find module", "STEP 7/9: mine", "Successfully done"]);
    ran.says(&["step `[2/", "failed with exit code 3"]);
    let base = pipeline.registry.host();
    let left = containers(&pipeline.work);
    assert!(!left.iter().any(|image| image.contains(base)), "{left:?}");
}

#[test]
#[ignore = "needs buildah: run tests/run.sh"]
fn a_build_that_is_cancelled_leaves_no_container() {
    let pipeline = Pipeline::new();
    // The step is told from all others by how long it would take.
    let step = format!("sleep {}.5", 1_000_000 + std::process::id());
    pipeline.work.write("Dockerfile", format!("ARG BASE\nFROM $BASE\nRUN exec {step}\n"));
    let arguments = ["--engine", "buildah", "--push", "--progress", "plain"];
    let mut running = pipeline.work.start(pipeline.job(&arguments, "1"));
    while !Command::new("pgrep")
        .args(["-f", &format!("^{step}$")])
        .output()
        .unwrap()
        .status
        .success()
    {
        assert!(running.is_running(), "{}", running.wait().text());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    running.signal("TERM");
    running.wait().exits(143);
    let base = pipeline.registry.host();
    let left = containers(&pipeline.work);
    assert!(!left.iter().any(|image| image.contains(base)), "{left:?}");
}
