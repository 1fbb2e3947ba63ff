//! Stage reuse: a fresh runner starts from the last stage that changed, and gets the same image.

use serde_json::{Value, json};
use smartbuild_test_rig::{Engine, Program, Ran, Registry, Work, unique};

/// A project whose stages write what nobody wrote before.
struct Project {
    engine: &'static Engine,
    registry: Registry,
    work: Work,
    repository: String,
}

/// Settings of every kind that a stage can hand on, and every way to read one.
const DOCKERFILE: &str = r#"
ARG BASE
FROM $BASE AS tools
ENV TOOLS=/tools HOME=/root
WORKDIR /tools/bin
COPY tools .
RUN cat tools > tool && mkfifo pipe && ln -s tool link && ln tool hard && chmod 4755 tool
USER 1000:1000
SHELL ["/bin/sh", "-eu", "-c"]
LABEL tools=yes of=tools

FROM tools AS build
ARG VERSION=1
USER 0
COPY source /source
RUN echo "$TOOLS $VERSION $(pwd) $(cat tool /source)" > /result
RUN rm tool && date +%s%N > /dev/null

# what is shipped
FROM tools
COPY --from=build /result /result
RUN --mount=from=build,target=/b pwd > /tmp/where && id -u >> /tmp/where && ls /b >> /tmp/where
ENTRYPOINT ["/bin/cat"]
CMD ["/result"]
"#;

impl Project {
    fn new(dockerfile: &str) -> Self {
        let registry = Registry::open();
        let work = Work::new();
        work.write("Dockerfile", dockerfile).write("tools", unique("tools"));
        work.write("source", "one\n");
        registry.push_base();
        Self { engine: Engine::get(), registry, work, repository: unique("stages") }
    }

    fn name(&self, tag: &str) -> String {
        format!("{}:{tag}", self.registry.name(&self.repository))
    }

    fn program(&self, tag: &str, more: &[&str]) -> Program {
        let base = format!("--build-arg=BASE={}", self.registry.name("base:1"));
        let name = self.name(tag);
        Program::smartbuild(["--push", "-t", &name, &base].iter().chain(more)).engine(self.engine)
    }

    fn build(&self, tag: &str, more: &[&str]) -> Ran {
        self.work.run(self.program(tag, more)).success()
    }

    fn manifest(&self, tag: &str) -> Value {
        serde_json::from_slice(&self.registry.manifest(&self.repository, tag).unwrap()).unwrap()
    }

    /// What the configuration of an image means to who runs it.
    fn config(&self, tag: &str) -> Value {
        let digest = self.manifest(tag)["config"]["digest"].as_str().unwrap().to_owned();
        let blob = self.registry.blob(&self.repository, &digest).unwrap();
        let mut config: Value = serde_json::from_slice(&blob).unwrap();
        let mut config = config["config"].take();
        let labels = config["Labels"].as_object_mut().unwrap();
        assert!(labels.remove("io.smartbuild.key").is_some());
        for of_the_builder in ["Image", "Hostname"] {
            config.as_object_mut().unwrap().remove(of_the_builder);
        }
        config
    }

    /// Every file of an image: path, mode, owner, link, content.
    fn files(&self, tag: &str) -> String {
        let list = "cd / && find . -xdev ! -path './proc*' ! -path './sys*' ! -path './dev*' \
            ! -path './etc/*' -exec stat -c '%n %f %u %g %h %N' {} + | sort; \
            find . -xdev -type f ! -path './proc*' ! -path './sys*' ! -path './dev*' \
            ! -path './etc/*' -exec sha256sum {} + | sort";
        let name = self.name(tag);
        let run = ["run", "--rm", "--network=none", "--user=0", "--entrypoint=/bin/sh", &name];
        let ran = Work::new().run(self.engine.docker(run.iter().chain(&["-c", list]))).success();
        ran.stdout().to_owned()
    }

    fn keys(&self) -> usize {
        let tags = self.registry.tags(&self.repository);
        tags.iter().filter(|tag| tag.starts_with("sb1-") && tag.len() == 68).count()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let list = [
            "images",
            "--format",
            "{{.Repository}}:{{.Tag}}",
            &self.registry.name(&self.repository),
        ];
        let names = Work::new().run(self.engine.docker(list)).stdout().to_owned();
        for name in names.lines().filter(|name| !name.contains("<none>")) {
            self.engine.forget(name);
        }
    }
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn an_image_that_starts_from_stored_stages_is_the_one_that_does_not() {
    let project = Project::new(DOCKERFILE);
    let first = project.build("first", &["--cache-stages"]);
    assert!(!first.stderr().contains("is there"), "{}", first.stderr());
    assert_eq!(project.keys(), 3, "the image, tools and build");

    project.work.write("source", "two\n");
    let again = project.build("reused", &["--cache-stages"]);
    assert!(again.stderr().contains("stage tools: "), "{}", again.stderr());
    assert!(!again.stderr().contains("stage build: "), "{}", again.stderr());
    // Nothing of the stage was run: its place is taken by the image.
    assert!(!again.stderr().contains("cat tools > tool"), "{}", again.stderr());
    assert_eq!(project.keys(), 5);

    // The same without reuse, and without what the engine knows.
    project.build("whole", &["--no-cache"]);
    assert_eq!(project.config("reused"), project.config("whole"));
    assert_eq!(project.files("reused"), project.files("whole"));
    let ran = Work::new().run(project.engine.docker([
        "run",
        "--rm",
        "--network=none",
        &project.name("reused"),
    ]));
    assert!(ran.success().stdout().starts_with("/tools 1 /tools/bin tools-"));

    // Of all stages only the last is new: every one of them is taken from the registry.
    let text = project.work.read("Dockerfile").replace("CMD", "ENV LAST=1\nCMD");
    project.work.write("Dockerfile", text);
    let last = project.build("last", &["--cache-stages"]);
    assert!(last.stderr().contains("stage tools: ") && last.stderr().contains("stage build: "));
    assert_eq!(project.files("last"), project.files("reused"));
    assert_eq!(project.keys(), 6);
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn only_stages_that_were_named_have_images() {
    let project = Project::new(DOCKERFILE);
    project.build("1", &["--cache-stages=Tools"]);
    assert_eq!(project.keys(), 2);
    let bare = Project::new(DOCKERFILE);
    bare.build("1", &[]);
    assert_eq!(bare.keys(), 1, "nothing but what was asked for is published");
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_stage_that_is_not_what_its_tag_says_is_not_started_from() {
    let project = Project::new(DOCKERFILE);
    project.build("1", &["--cache-stages=tools"]);
    // Somebody plants another image under the stage's key.
    let key = project.work.run(project.program("1", &["--json"]).args(["--target=tools"]));
    let key = key.success().json()["key"].as_str().unwrap().to_owned();
    let other = smartbuild_test_rig::Image::base().clone().label("planted", "yes");
    project.registry.push(&project.repository, &key, &other);
    project.work.write("source", "two\n");
    let built = project.build("2", &["--cache-stages=tools"]);
    assert!(!built.stderr().contains("is there"), "{}", built.stderr());
    assert_eq!(project.config("2")["Labels"], json!({ "of": "tools", "tools": "yes" }));

    // With a key to verify, what nobody signed is not believed either.
    let signed = |tag: &str, secret: &str| {
        let program = project
            .program(tag, &["--cache-stages=tools", "--sign-key=env:K", "--verify-key=env:K"]);
        project.work.run(program.env("K", secret)).success()
    };
    project.work.write("source", "of the third\n");
    signed("3", "the secret of the team, long enough");
    project.work.write("source", "three\n");
    let trusted = signed("4", "the secret of the team, long enough");
    assert!(trusted.stderr().contains("stage tools: "), "{}", trusted.stderr());
    project.work.write("source", "four\n");
    let strange = signed("5", "another secret of another team, as long");
    assert!(!strange.stderr().contains("is there"), "{}", strange.stderr());
}
