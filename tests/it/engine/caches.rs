//! Caches that outlive an engine: in the image, in a registry, in a directory of this machine.
//!
//! What a test would see elsewhere on an empty builder, it sees here by having the engine forget one
//! step. Where a cache was found, the step does not run again.

use std::{fs, path::Path};

use serde_json::{Value, json};
use smartbuild::registry::Digest;
use smartbuild_test_rig::{self as rig, Program, Ran, Work, unique};

use super::{
    apart::{Apart, buildkit_programs},
    features::Project,
};

/// A project with a step that nobody has the result of.
struct Cached {
    project: Project,
    step: String,
    image: String,
}

impl Cached {
    fn new() -> Self {
        let step = unique("step");
        let project =
            Project::new(&format!("FROM @base@\nCOPY file /\nRUN echo {step} && cp file /made\n"));
        project.work.write("file", "x");
        let image = format!("{}:1", project.registry.name(&unique("cached")));
        Self { project, step, image }
    }

    /// Builds and pushes. The engine has neither the image nor the step afterwards.
    fn run(&self, arguments: &[&str]) -> Ran {
        let engine = rig::Engine::get();
        let program = Program::smartbuild(["-t", &self.image, "--push", "--progress=plain"]);
        let ran = self.project.work.run(program.args(arguments).engine(engine));
        engine.forget(&self.image);
        forget_step(&self.step);
        ran
    }

    /// Whether the step ran.
    fn echoed(&self, ran: &Ran) -> bool {
        let end = format!(" {}", self.step);
        ran.stderr().lines().any(|line| line.ends_with(&end))
    }

    /// The step runs without the cache, and does not with it.
    fn is_spared(&self, source: &str) {
        // Another label is another image of the same steps.
        let label = |name| format!("--label={name}={}", unique("label"));
        let without = self.run(&[&label("without"), "--cache-to=type=inline"]).success();
        assert!(self.echoed(&without), "the builder is not empty:\n{}", without.text());
        let with = self.run(&[&label("with"), "--cache-from", source]).success();
        assert!(!self.echoed(&with), "the step ran in spite of {source}:\n{}", with.text());
    }
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_cache_in_a_registry_spares_an_empty_builder_the_step() {
    let cached = Cached::new();
    let cache = cached.project.registry.name(&unique("cache"));
    // The image carries its own cache, whatever the engine's store is; a cache apart needs a newer
    // store.
    cached.run(&["--cache-to=type=inline"]).success();
    cached.is_spared(&cached.image);
    let ran =
        cached.run(&["--label=a=b", &format!("--cache-to=type=registry,ref={cache},mode=max")]);
    if ran.code() == 0 {
        cached.is_spared(&format!("type=registry,ref={cache}"));
    } else {
        ran.exits(3).says(&["only engines with containerd's image store"]);
    }
}

/// Copies an image into a layout as it is: skopeo would write it anew, and without its cache.
fn copy_to_layout(work: &Work, image: &str, layout: &str) {
    let source = format!("docker://{image}");
    let copy = ["copy", "--src-tls-verify=false", &source, "dir:image"];
    work.run(Program::named("skopeo").args(copy)).success();
    let manifest = work.read("image/manifest.json");
    let digest = Digest::of(manifest.as_bytes());
    for file in fs::read_dir(work.join("image")).unwrap().flatten() {
        let name = file.file_name().into_string().unwrap();
        let name = if name == "manifest.json" { digest.hex() } else { name };
        work.write(format!("{layout}/blobs/sha256/{name}"), fs::read(file.path()).unwrap());
    }
    let descriptor = json!({
        "mediaType": serde_json::from_str::<Value>(&manifest).unwrap()["mediaType"],
        "digest": digest.to_string(),
        "size": manifest.len(),
        "annotations": { "org.opencontainers.image.ref.name": "latest" },
    });
    let index = json!({ "schemaVersion": 2, "manifests": [descriptor] });
    work.write(format!("{layout}/index.json"), index.to_string());
}

#[test]
#[ignore = "needs an engine and skopeo: run tests/run.sh"]
fn a_cache_in_a_directory_spares_an_empty_builder_the_step() {
    let cached = Cached::new();
    let work = &cached.project.work;
    let first = cached.run(&["--cache-to=type=inline", "--cache-from=type=local,src=none"]);
    first
        .success()
        .says(&["type=local,src=none cannot be used: there is no cache `latest` in none"]);
    // Every engine takes a cache from a directory: an image with its cache in it is one.
    copy_to_layout(work, &cached.image, "copied");
    cached.is_spared("type=local,src=copied");

    let to = "type=local,dest=kept,mode=max";
    let ran = cached.run(&["--label=a=b", "--cache-to", to]);
    if ran.code() != 0 {
        ran.exits(3).says(&["only engines with containerd's image store"]);
        return;
    }
    cached.is_spared("type=local,src=kept");
    // What the next one needs no more goes, where that is wished.
    let blobs = || fs::read_dir(work.join("kept/blobs/sha256")).unwrap().count();
    let before = blobs();
    work.write("file", "y");
    cached.run(&["--cache-to", to]).success();
    let both = blobs();
    assert!(both > before);
    work.write("file", "z");
    cached.run(&["--cache-to", &format!("{to},reset=true")]).success();
    assert_eq!(blobs(), before, "{both} before");
    cached.is_spared("type=local,src=kept");
}

#[test]
#[ignore = "needs a buildkitd: run tests/run.sh"]
fn a_directory_is_shared_with_buildkits_own_client() {
    let Some(programs) = buildkit_programs() else { return };
    let Some((_daemon, host)) = Apart::buildkitd_on_tcp(Work::new(), "") else { return };
    let cached = Cached::new();
    let work = &cached.project.work;
    let buildctl = |arguments: &[&str]| {
        let ran = work.run(buildctl(&programs, &host).args(arguments)).success();
        // The other one begins with nothing.
        prune(work, &programs, &host);
        ran
    };
    let theirs = |arguments: &[&str]| {
        let build = ["build", "--progress=plain", "--frontend=dockerfile.v0", "--local=context=."];
        buildctl(&[&build[..], &["--local=dockerfile=."], arguments].concat())
    };
    let ours = |arguments: &[&str]| {
        let program = Program::smartbuild(["--progress=plain", "-o", "type=tar,dest=files.tar"]);
        let ran = work.run(program.args(arguments).env("BUILDKIT_HOST", &host)).success();
        prune(work, &programs, &host);
        ran
    };
    let first = ours(&["--cache-to=type=local,dest=ours,mode=max"]);
    assert!(cached.echoed(&first), "{}", first.text());
    let second = theirs(&[
        "--import-cache=type=local,src=ours",
        "--export-cache=type=local,dest=theirs,mode=max",
    ]);
    assert!(!cached.echoed(&second), "{}", second.text());
    let third = ours(&[
        "--cache-from=type=local,src=theirs",
        "--cache-to=type=local,dest=theirs,tag=other",
    ]);
    assert!(!cached.echoed(&third), "{}", third.text());
    // The tag of theirs is still there beside ours.
    let fourth = theirs(&["--import-cache=type=local,src=theirs"]);
    assert!(!cached.echoed(&fourth), "{}", fourth.text());
    let index: Value = serde_json::from_str(&work.read("theirs/index.json")).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
}

#[test]
#[ignore = "needs a buildkitd: run tests/run.sh"]
fn platforms_do_not_replace_each_others_caches() {
    let Some(programs) = buildkit_programs() else { return };
    let Some((_daemon, host)) = Apart::buildkitd_on_tcp(Work::new(), "") else { return };
    let project = Project::new("FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /file\n");
    let work = &project.work;
    work.write("amd64", unique("a")).write("arm64", unique("b"));
    let image = project.registry.name(&unique("image"));
    let cache = format!("type=registry,ref={}", project.registry.name(&unique("cache")));
    let run = |more: &[&str]| {
        let program = Program::smartbuild(["-t", &image, "--push", "--progress=plain"]);
        let program = program.args(["--platform=linux/amd64,linux/arm64"]).args(more);
        let ran = work.run(program.env("BUILDKIT_HOST", &host)).success();
        prune(work, &programs, &host);
        ran
    };
    for (from, to) in [("src", "dest"), ("", "")] {
        let place = |way: &str| {
            if way.is_empty() { cache.clone() } else { format!("type=local,{way}=kept") }
        };
        let label = format!("--label=l={}", unique("label"));
        let first = run(&[
            &label,
            &format!("--cache-from={}", place(from)),
            &format!("--cache-to={}", place(to)),
        ]);
        assert_eq!(first.stderr().matches("cannot be used").count(), 2, "{}", first.text());
        let label = format!("--label=l={}", unique("label"));
        let second = run(&[&label, &format!("--cache-from={}", place(from))]);
        // What comes out of a directory is unpacked, not copied.
        let is_taken =
            |line: &&str| line.ends_with(" CACHED") || line.contains(" extracting sha256:");
        let taken = second.stderr().lines().filter(is_taken).count();
        assert_eq!(taken, 2, "{}", second.text());
        second.hides("cannot be used");
    }
}

#[test]
#[ignore = "needs a buildkitd: run tests/run.sh"]
fn a_cache_that_cannot_be_written_is_the_reason_that_is_named() {
    let Some((_daemon, host)) = Apart::buildkitd_on_tcp(Work::new(), "") else { return };
    let cached = Cached::new();
    let work = &cached.project.work;
    work.write("taken", "a file");
    let run = |cache: &str| {
        let arguments = ["-t", &cached.image, "--push", "--cache-to", cache];
        work.run(Program::smartbuild(arguments).env("BUILDKIT_HOST", &host))
    };
    run("type=local,dest=taken").exits(3).says(&["cannot write the cache in taken"]);
    let repository = cached.image.split_once('/').unwrap().1.trim_end_matches(":1");
    assert_eq!(cached.project.registry.tags(repository), [""; 0]);
}

/// BuildKit's own client.
fn buildctl(programs: &Path, host: &str) -> Program {
    Program::named(programs.join("buildctl").to_str().unwrap()).args(["--addr", host])
}

/// Has a buildkitd forget all that it built.
fn prune(work: &Work, programs: &Path, host: &str) {
    work.run(buildctl(programs, host).args(["prune", "--all"])).success();
}

/// Takes the result of a step out of the engine's cache, and nothing of anybody else's.
fn forget_step(step: &str) {
    let engine = rig::Engine::get();
    let list = ["system", "df", "--verbose", "--format", "{{json .BuildCache}}"];
    let work = Work::new();
    // It fails where somebody else's record goes at that moment.
    let mut lists = (0..20).map(|_| work.run(engine.docker(list)));
    let records: Value = lists.find(|ran| ran.code() == 0).unwrap().json();
    for record in records.as_array().unwrap() {
        if record["Description"].as_str().is_some_and(|description| description.contains(step)) {
            let id = record["ID"].as_str().unwrap().trim_end_matches('*');
            let filter = format!("id={id}");
            work.run(engine.docker(["builder", "prune", "--all", "--force", "--filter", &filter]));
        }
    }
}
