//! Images of several platforms: what is pushed, found again, used again, and kept.
//!
//! No emulation is needed: the Dockerfile only copies.

use serde_json::Value;
use smartbuild_test_rig::{Engine, Front, Image, Program, Ran, Registry, Rule, Work, unique};

const NOWHERE: &str = "unix:///nowhere.sock";
const BOTH: &str = "--platform=linux/amd64,linux/arm64";

/// A project whose image has one file for all platforms, and one of its own for each.
struct Project {
    registry: Registry,
    work: Work,
    repository: String,
}

impl Project {
    fn new() -> Self {
        let registry = Registry::open();
        let base =
            |platform: &str| Image::scratch().files(&[("base", platform)]).platform(platform);
        let bases = [base("linux/amd64"), base("linux/arm64")];
        registry.push_index("base", "1", &[&bases[0], &bases[1]]);
        let (work, repository) = (Work::new(), unique("team/several"));
        let dockerfile = format!(
            "FROM {}\nARG TARGETARCH\nCOPY all /\nCOPY $TARGETARCH /own\n",
            registry.name("base:1")
        );
        work.write("Dockerfile", dockerfile).write("all", &repository);
        work.write("amd64", "one\n").write("arm64", "other\n");
        Self { registry, work, repository }
    }

    fn image(&self, tag: &str) -> String {
        self.registry.name(&format!("{}:{tag}", self.repository))
    }

    fn run(&self, arguments: &[&str], engine: Option<&Engine>) -> Ran {
        let program = Program::smartbuild(arguments);
        self.work.run(match engine {
            Some(engine) => program.engine(engine),
            None => program.env("DOCKER_HOST", NOWHERE),
        })
    }

    /// `--push` of one tag for both platforms.
    fn push(&self, tag: &str, engine: Option<&Engine>) -> Value {
        let image = self.image(tag);
        self.run(&[BOTH, "-t", &image, "--push", "--json"], engine).success().json()
    }

    /// The manifest that a tag has.
    fn manifest(&self, tag: &str) -> Value {
        let bytes = self.registry.manifest(&self.repository, tag).expect(tag);
        serde_json::from_slice(&bytes).unwrap()
    }

    /// The digests that an index names, by architecture.
    fn parts(&self, tag: &str) -> [String; 2] {
        let index = self.manifest(tag);
        ["amd64", "arm64"].map(|architecture| {
            let parts = index["manifests"].as_array().unwrap();
            let part = parts.iter().find(|part| part["platform"]["architecture"] == architecture);
            part.unwrap()["digest"].as_str().unwrap().to_owned()
        })
    }

    fn keys(&self) -> Vec<String> {
        let mut tags = self.registry.tags(&self.repository);
        tags.retain(|tag| tag.starts_with("sb1-") && !tag.ends_with(".inputs"));
        tags
    }

    fn forget(&self, engine: &Engine) {
        for key in self.keys() {
            engine.forget(&self.image(&key));
        }
    }
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn one_run_pushes_every_platform_and_the_next_finds_them_without_an_engine() {
    let (engine, project) = (Engine::get(), Project::new());
    let first = project.push("1", Some(engine));
    assert_eq!(first["outcome"], "built");
    assert_eq!(
        first["digest"].as_str(),
        project.registry.digest(&project.repository, "1").as_deref()
    );
    let [amd, arm] = project.parts("1");
    assert_ne!(amd, arm);
    assert_eq!(project.keys().len(), 3, "one key for each platform, and that of the index");

    // Another client takes each platform's own files.
    for architecture in ["amd64", "arm64"] {
        let source = format!("docker://{}", project.image("1"));
        let directory = format!("dir:out-{architecture}");
        let platform = ["--override-arch", architecture, "copy", "--src-tls-verify=false"];
        let skopeo = Program::named("skopeo").args(platform).args([&source, &directory]);
        project.work.run(skopeo).success();
        project.work.remove(format!("out-{architecture}"));
    }

    let before = project.registry.mark();
    let second = project.push("2", None);
    assert_eq!((&second["outcome"], &second["digest"]), (&"retagged".into(), &first["digest"]));
    assert_eq!(second["key"], first["key"]);
    let log = project.registry.log()[before..].to_vec();
    let asked: Vec<_> = log.iter().filter(|entry| entry.path != "/v2/").collect();
    // The base; the index; manifest and configuration of each platform; the tag, and its move. The
    // configuration of the base is known by its digest.
    assert_eq!(asked.len(), 1 + 1 + 2 * 2 + 2, "{asked:#?}");
    assert_eq!(project.push("2", None)["outcome"], "unchanged");
    project.forget(engine);
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_platform_whose_inputs_did_not_change_is_not_built_again() {
    let (engine, project) = (Engine::get(), Project::new());
    project.push("1", Some(engine));
    let before = project.parts("1");
    project.work.write("arm64", "changed\n");
    let image = project.image("1");
    let check = |platform| project.run(&["check", platform, "-t", &image], None);
    check("--platform=linux/amd64").success();
    check("--platform=linux/arm64").exits(1);
    check(BOTH).exits(1).says(&["there is no image of these inputs yet"]);
    let explained = project.run(&["explain", BOTH, "-t", &image], None).success();
    assert!(
        explained.stdout().starts_with("`arm64` changed for linux/arm64: "),
        "{}",
        explained.text()
    );
    let ran = project.run(&[BOTH, "-t", &image, "--push"], Some(engine)).success();
    ran.says(&["building for linux/arm64: ", ":1: `arm64` changed"])
        .hides("building for linux/amd64: ");
    let after = project.parts("1");
    assert_eq!(before[0], after[0]);
    assert_ne!(before[1], after[1]);
    project.forget(engine);
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn an_index_without_all_platforms_is_no_hit() {
    let (engine, project) = (Engine::get(), Project::new());
    let key = project.push("1", Some(engine))["key"].as_str().unwrap().to_owned();
    // Somebody leaves one out.
    let only = Image::scratch().platform("linux/amd64");
    project.registry.push_index(&project.repository, &key, &[&only]);
    let image = project.image("1");
    project.run(&["check", BOTH, "-t", &image], None).exits(1).says(&["is not its image"]);
    // Both images are there by their own keys: only the index is made anew.
    let second = project.push("2", None);
    assert_eq!(second["outcome"], "retagged");
    assert_eq!(project.parts("2"), project.parts(&key));
    project.run(&["check", BOTH, "-t", &image], None).success();
    project.forget(engine);
}

#[test]
#[ignore = "needs a registry: run tests/run.sh"]
fn an_engine_cannot_hold_several_platforms_and_that_is_said_before_anything_is_done() {
    let project = Project::new();
    let image = project.image("1");
    for arguments in [&[BOTH, "-t", &image][..], &[BOTH, "-t", &image, "--push", "--load"]] {
        let ran = project.run(arguments, None).exits(2);
        ran.says(&["an image of several platforms can only be pushed: give --push"]);
    }
    assert!(project.registry.log().is_empty());
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn the_index_goes_where_its_names_are_and_its_keys_elsewhere_if_so_wanted() {
    let (engine, project) = (Engine::get(), Project::new());
    let keys = unique("team/keys");
    let home = format!("--keys-in={}", project.registry.name(&keys));
    let there = Registry::open();
    let other = there.name("copy/several:1");
    let image = project.image("1");
    let arguments = [BOTH, "-t", &image, "-t", &other, "--push", &home];
    project.run(&arguments, Some(engine)).success();
    assert_eq!(project.registry.tags(&project.repository), ["1"]);
    assert_eq!(project.registry.tags(&keys).len(), 6, "three keys, three records");
    let digest = project.registry.digest(&project.repository, "1");
    assert_eq!(there.digest("copy/several", "1"), digest);
    for part in project.parts("1") {
        assert!(there.manifest("copy/several", &part).is_some());
    }
    project.run(&arguments, None).success();
    for key in project.registry.tags(&keys) {
        engine.forget(&format!("{}:{key}", project.registry.name(&keys)));
    }
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn what_no_key_covers_is_pushed_under_the_name_and_the_platform() {
    let (engine, project) = (Engine::get(), Project::new());
    let front = Front::alone();
    front.on("*", "/file", Rule::status(200).body("x"));
    // The engine gets it; what it would be today is not known.
    front.on("*", "/file", Rule::status(503).agent("smartbuild"));
    let dockerfile = format!("FROM scratch\nADD http://{}/file /\nCOPY all /\n", front.host());
    project.work.write("Dockerfile", dockerfile);
    for _ in 0..2 {
        assert_eq!(project.push("1", Some(engine))["outcome"], "built");
    }
    assert_eq!(project.registry.tags(&project.repository), ["1", "1-linux-amd64", "1-linux-arm64"]);
    for tag in ["1-linux-amd64", "1-linux-arm64"] {
        engine.forget(&project.image(tag));
    }
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn pruning_keeps_what_an_index_that_stays_is_made_of() {
    let (engine, project) = (Engine::get(), Project::new());
    project.push("1", Some(engine));
    let old = project.keys();
    project.work.write("all", "changed\n");
    project.push("1", Some(engine));
    assert_eq!(project.keys().len(), 6);
    let repository = project.registry.name(&project.repository);
    let prune = ["prune", &repository, "--older-than=0", "--keep=0"];
    project.run(&prune, None).success().says(&["deleted 3 of 6 images"]);
    let kept = project.keys();
    assert_eq!(kept.len(), 3);
    assert!(kept.iter().all(|key| !old.contains(key)));
    for part in project.parts("1") {
        assert!(project.registry.manifest(&project.repository, &part).is_some());
    }
    let source = format!("docker://{}", project.image("1"));
    let all = ["copy", "--all", "--src-tls-verify=false", &source, "dir:out"];
    project.work.run(Program::named("skopeo").args(all)).success();
    project.run(&prune, None).success().says(&["deleted 0 of 3 images"]);
}
