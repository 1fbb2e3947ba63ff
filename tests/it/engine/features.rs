//! What people use of Docker's language and of its command line, each as they would notice it: by
//! what is in the image, by what a second run does, by what is said where an engine is too old.

use smartbuild_test_rig::{self as rig, GitServer, Program, Ran, Registry, Work, unique};

use super::{Image, apart::Apart};

/// A project with an engine.
pub(super) struct Project {
    pub(super) work: Work,
    pub(super) registry: Registry,
    image: Image,
}

impl Project {
    /// `@base@` in the Dockerfile is an image with a shell.
    pub(super) fn new(dockerfile: &str) -> Self {
        let (work, registry) = (Work::new(), Registry::open());
        let base = registry.push_base();
        work.write("Dockerfile", dockerfile.replace("@base@", &base));
        Self { work, registry, image: Image::new("features") }
    }

    fn program(&self, arguments: &[&str]) -> Program {
        let program = Program::smartbuild(["-t", &self.image.name]).args(arguments);
        program.engine(rig::Engine::get())
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.work.run(self.program(arguments))
    }

    fn build(&self, arguments: &[&str]) -> Ran {
        self.run(arguments).success()
    }

    /// Runs it again: nothing must be built.
    fn hits(&self, arguments: &[&str]) {
        let again = self.build(&[arguments, &["--json"]].concat());
        assert_eq!(again.json()["outcome"], "local", "{}", again.text());
    }

    /// A file of the image.
    fn read(&self, path: &str) -> String {
        self.image.run(&["cat", path])
    }
}

/// The engine's `/build` interface, as two numbers.
fn interface() -> (u32, u32) {
    let format = ["version", "--format", "{{.Server.APIVersion}}"];
    let ran = Work::new().run(rig::Engine::get().docker(format)).success();
    let (major, minor) = ran.stdout().trim().split_once('.').unwrap();
    (major.parse().unwrap(), minor.parse().unwrap())
}

/// Whether the engine is Docker 23.0 or later, whose BuildKit knows named contexts and
/// here-documents.
pub(crate) fn is_newer() -> bool {
    interface() >= (1, 42)
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn secrets_reach_their_steps_and_nothing_else() {
    let project = Project::new(
        "FROM @base@\n\
         RUN --mount=type=secret,id=file,required wc -c < /run/secrets/file > /file\n\
         RUN --mount=type=secret,id=variable,target=/v wc -c < /v > /variable\n\
         RUN --mount=type=secret,id=command,uid=7,mode=0400 stat -c '%u %a' /run/secrets/command > /command\n\
         RUN --mount=type=secret,id=none test ! -e /run/secrets/none\n\
         RUN find /run -type f > /left 2> /dev/null || true\n",
    );
    let (file, variable, command) = (unique("file"), unique("variable"), unique("command"));
    project.work.write("../secret", &file).write("../printed", &command);
    let given = [
        "--secret=id=file,src=../secret",
        "--secret=id=variable,env=TOKEN",
        "--secret=id=command,cmd=cat ../printed",
        "--progress=plain",
    ];
    let run = |more: &[&str]| {
        let program = project.program(&given).args(more).env("TOKEN", &variable);
        project.work.run(program)
    };
    let built = run(&[]).success();
    assert_eq!(project.read("/file").trim(), file.len().to_string());
    assert_eq!(project.read("/variable").trim(), variable.len().to_string());
    assert_eq!(project.read("/command").trim(), "7 400");
    assert_eq!(project.read("/left"), "");
    let inspect = ["image", "inspect", &project.image.name];
    let history = ["image", "history", "--no-trunc", &project.image.name];
    let [inspect, history] = [&inspect[..], &history].map(|arguments| {
        project.work.run(rig::Engine::get().docker(arguments)).success().stdout().to_owned()
    });
    for secret in [&file, &variable, &command] {
        assert!(!(inspect.clone() + &history).contains(secret), "{secret} is in the image");
        built.clone().hides(secret);
    }

    // Another value is another token for the same work; none at all is other work.
    project.work.write("../secret", "rotated");
    assert_eq!(run(&["--json"]).success().json()["outcome"], "local");
    let less = project.program(&given[..1]).args(["--no-cache"]);
    project.work.run(less).exits(1).says(&["/v"]);
    let none = project.run(&["--no-cache"]).exits(1);
    none.says(&["secret", "file"]);
    project.run(&["--secret=id=file,src=../nowhere", "--no-cache"]).says(&["../nowhere"]).exits(2);
    let broken = project.run(&["--secret=id=file,cmd=echo hush; exit 3", "--no-cache"]);
    broken.exits(2).says(&["`echo hush; exit 3` ended with exit status: 3"]).hides("hush\n");
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_run_that_waits_for_the_command_of_a_secret_ends_when_it_is_told_to() {
    let project = Project::new(
        "FROM @base@\nRUN --mount=type=secret,id=slow,required cat /run/secrets/slow\n",
    );
    let begun = project.work.join("../begun");
    let given = format!("--secret=id=slow,cmd=touch {}; exec sleep 600", begun.display());
    let mut running = project.work.start(project.program(&[&given, "--no-cache"]));
    while !begun.exists() {
        assert!(running.is_running(), "{}", running.wait().text());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    running.signal("INT");
    running.wait().exits(130).says(&["interrupted; nothing was published"]);
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn mounts_are_there_for_their_steps_alone() {
    // It is in the command too: BuildKit knows a step again whatever the name of its cache is.
    let cache = unique("cache");
    let project = Project::new(
        &"FROM @base@ AS one\n\
          RUN mkdir /made && echo made > /made/file\n\
          FROM @base@\n\
          RUN --mount=source=directory,target=/b cat /b/file > /bound && ls -A /b > /list\n\
          RUN --mount=type=bind,from=one,source=/made,target=/b,rw \
              cat /b/file > /of-stage && echo gone > /b/file\n\
          RUN --mount=from=one,source=/made,target=/b cat /b/file > /of-stage-again\n\
          RUN --mount=type=cache,id=@cache@,target=/c echo @cache@ >> /c/runs && wc -l < /c/runs > /runs\n\
          RUN --mount=type=tmpfs,target=/t grep -q ' /t tmpfs ' /proc/mounts && echo x > /t/file\n\
          RUN for mounted in /b /c /t; do ls -A $mounted; done > /left 2> /dev/null || true\n"
            .replace("@cache@", &cache),
    );
    project.work.write("directory/file", "bound\n").write("elsewhere", "1");
    project.build(&[]);
    for (path, content) in [
        ("/bound", "bound\n"),
        ("/list", "file\n"),
        ("/of-stage", "made\n"),
        ("/of-stage-again", "made\n"),
        ("/runs", "1\n"),
        ("/left", ""),
    ] {
        assert_eq!(project.read(path), content, "{path}");
    }
    project.work.write("elsewhere", "2");
    project.hits(&[]);
    // What is mounted counts, and caches stay.
    project.work.write("directory/file", "other\n");
    project.build(&[]);
    assert_eq!((project.read("/bound"), project.read("/runs")), ("other\n".into(), "2\n".into()));
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn here_documents_are_steps_and_files() {
    let project = Project::new(
        "FROM @base@\nARG WHO=you\n\
         RUN <<EOF\nset -e\necho $WHO > /who\nWHO=me\necho \"$WHO\" >> /who\nEOF\n\
         COPY <<one <<-\"two\" /files/\n$WHO\n# no remark\none\n\t$WHO\n\ttwo\n",
    );
    let ran = project.run(&["--build-arg=WHO=them"]);
    if !is_newer() {
        ran.exits(2).says(&["here-documents", "# syntax=docker/dockerfile:1"]);
        return;
    }
    ran.success();
    assert_eq!(project.read("/who"), "them\nme\n");
    assert_eq!(project.read("/files/one"), "them\n# no remark\n");
    assert_eq!(project.read("/files/two"), "$WHO\n");
    project.hits(&["--build-arg=WHO=them"]);
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn stages_take_from_images_of_registries_and_see_them_move() {
    let project = Project::new("");
    let (registry, tools) = (&project.registry, unique("tools"));
    let image = |text: &str| rig::Image::scratch().files(&[("bin/tool", text), ("lib/a", "a\n")]);
    registry.push(&tools, "1", &image("first\n"));
    let base = registry.push_base();
    let name = registry.name(&format!("{tools}:1"));
    project.work.write(
        "Dockerfile",
        format!(
            "FROM {name} AS tools\n\
             FROM {base} AS made\n\
             COPY --from=tools /bin/tool /tool\n\
             RUN --mount=from={name},target=/m cat /m/bin/tool /tool > /made\n\
             FROM {base}\n\
             COPY --from=made /made /\n\
             COPY --from={name} /lib /lib\n"
        ),
    );
    project.build(&[]);
    assert_eq!(
        (project.read("/made"), project.read("/lib/a")),
        ("first\nfirst\n".into(), "a\n".into())
    );
    project.hits(&[]);
    registry.push(&tools, "1", &image("second\n"));
    project.build(&[]);
    assert_eq!(project.read("/made"), "second\nsecond\n");
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn named_contexts_are_directories_stages_and_images() {
    let project = Project::new(
        "FROM @base@ AS made\nRUN echo of the stage > /file\n\
         FROM @base@\n\
         COPY --from=other wanted /wanted\n\
         RUN --mount=from=other,source=wanted,target=/m cat /m > /mounted\n\
         COPY --from=made /file /made\n\
         COPY file /main\n",
    );
    project.work.write("file", "of the main one\n");
    project.work.write("../other/wanted", "of the other\n").write("../other/unwanted", "1");
    project.work.write("../instead/file", "instead of the stage\n");
    let given = ["--build-context=other=../other", "--build-context=made=../instead"];
    let ran = project.run(&given);
    if !is_newer() {
        ran.exits(3).says(&["named context", "Docker 23.0 or later"]);
        return;
    }
    ran.success();
    let files = ["/wanted", "/mounted", "/made", "/main"].map(|path| project.read(path));
    let all = ["of the other\n", "of the other\n", "instead of the stage\n", "of the main one\n"];
    assert_eq!(files, all);
    project.work.write("../other/unwanted", "2");
    project.hits(&given);
    project.work.write("../other/wanted", "changed\n");
    project.build(&given);
    assert_eq!(project.read("/mounted"), "changed\n");
}

#[test]
#[ignore = "needs an engine and git: run tests/run.sh"]
fn repositories_are_built_as_they_are_today() {
    let server = GitServer::start();
    let first = server.commit("file", "first\n");
    server.git(&["branch", "v1"]);
    let dockerfile = format!("FROM @base@\nADD {}#v1 /tools/\n", server.address());
    let project = Project::new(&dockerfile);
    if interface() < (1, 44) {
        let said = ["ADD of a git repository", "Docker 25.0 or later"];
        project.run(&[]).exits(3).says(&said);
        return;
    }
    project.build(&[]);
    assert_eq!(project.read("/tools/file"), "first\n");
    server.commit("file", "second\n");
    project.hits(&[]);
    server.git(&["branch", "--force", "v1"]);
    project.build(&[]);
    assert_eq!(project.read("/tools/file"), "second\n");
    project.hits(&[]);
    // A tag of the same name that is somewhere else: who knows what the engine takes.
    server.git(&["tag", "v1", &first]);
    let again = project.build(&["--json"]);
    assert_eq!(again.json()["outcome"], "built");
    again.says(&["`v1` is a branch and a tag: write `refs/heads/v1` or `refs/tags/v1`"]);
    // The commit itself never moves, and need not be looked up.
    let pinned = format!("FROM scratch\nADD {}#{first} /tools/\n", server.address());
    project.work.write("Dockerfile", pinned);
    project.build(&[]);
    drop(server);
    project.hits(&[]);
}

#[test]
#[ignore = "needs podman, buildah and git: run tests/run.sh"]
fn builders_that_would_add_the_page_at_a_repositorys_address_are_not_used() {
    let server = GitServer::start();
    server.commit("file", "first\n");
    let project = Project::new(&format!("FROM @base@\nADD {} /tools/\n", server.address()));
    let podman = Apart::podman(None);
    let program = || Program::smartbuild(["-t", &project.image.name]);
    let ways =
        [program().env("DOCKER_HOST", podman.host()), program().args(["--engine", "buildah"])];
    for program in ways {
        project.work.run(program).exits(3).says(&["ADD of a git repository"]);
    }
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_step_gets_the_network_of_the_host_where_that_is_allowed() {
    let project =
        Project::new(&format!("FROM @base@\nRUN --network=host echo {}\n", unique("step")));
    let refused = project.run(&[]);
    if !is_newer() {
        refused.exits(2).says(&["too old to know RUN --network"]);
        return;
    }
    refused.exits(2).says(&["a step asks for network.host", "--allow network.host"]);
    project.build(&["--allow=network.host"]);
    project.hits(&["--allow=network.host"]);
    // Where the image is there already, nothing is asked for.
    project.hits(&[]);
}

#[test]
#[ignore = "needs a buildkitd: run tests/run.sh"]
fn a_step_gets_all_rights_where_that_is_allowed() {
    let allowed = "--allow-insecure-entitlement security.insecure";
    let Some((_daemon, host)) = Apart::buildkitd_on_tcp(Work::new(), allowed) else { return };
    let rights = "grep CapEff /proc/self/status";
    let project =
        Project::new(&format!("FROM @base@\nRUN {rights}\nRUN --security=insecure {rights}\n"));
    let run = |more: &[&str]| {
        let program = Program::smartbuild(["--progress=plain", "-o", "type=tar,dest=files.tar"]);
        project.work.run(program.args(more).env("BUILDKIT_HOST", &host))
    };
    run(&[]).exits(2).says(&["a step asks for security.insecure", "--allow security.insecure"]);
    let ran = run(&["--allow", "security.insecure"]).success();
    let rights = ran.stderr().lines().filter_map(|line| line.split_once("CapEff:"));
    let rights: Vec<_> = rights.map(|(_, mask)| u64::from_str_radix(mask.trim(), 16)).collect();
    let [Ok(usual), Ok(all)] = rights[..] else { panic!("{}", ran.text()) };
    assert!(usual & all == usual && all > usual, "{usual:x} {all:x}");
}

/// What stands for an image, or for a stage, is an image elsewhere: the key is that of the Dockerfile that
/// names the images, and every engine builds it.
fn contexts_are_images(engine: impl Fn(Program) -> Program) {
    let dockerfile = "FROM nowhere.invalid/x AS made\nRUN exit 1\nFROM start\n\
                      COPY --from=tools:latest /tool /tool\nCOPY --from=made /made /made\n\
                      RUN test \"$(cat /tool /made)\" = \"12\"\n";
    let project = Project::new(dockerfile);
    let (work, registry) = (&project.work, &project.registry);
    let base = registry.push_base();
    let push = |name: &str, files: &[(&str, &str)]| {
        registry.push(name, "1", &rig::Image::scratch().files(files));
        registry.name(&format!("{name}:1"))
    };
    let (tools, made) = (push("tools", &[("tool", "1")]), push("made", &[("made", "2")]));
    let given = [("start", &base), ("tools", &tools), ("MADE", &made)]
        .map(|(name, image)| format!("--build-context={name}=docker-image://{image}"));
    let image = format!("{}:1", registry.name(&unique("image")));
    let build = || {
        let program = Program::smartbuild(["-t", &image, "--push", "--json"]).args(&given);
        work.run(engine(program)).success().json()["outcome"].clone()
    };
    assert_eq!(build(), "built");
    assert_eq!(build(), "unchanged");
    push("tools", &[("tool", "1"), ("other", "3")]);
    assert_eq!(build(), "built");

    let key = |more: &[String]| {
        work.run(Program::smartbuild(["key"]).args(more)).success().stdout().to_owned()
    };
    let with_contexts = key(&given);
    let named = dockerfile
        .replace("FROM nowhere.invalid/x AS made\nRUN exit 1", &format!("FROM {made} AS made"));
    let named = named.replace("FROM start", &format!("FROM {base}"));
    work.write("Dockerfile", named.replace("tools:latest", &tools));
    assert_eq!(key(&[]), with_contexts);
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_context_may_be_an_image() {
    contexts_are_images(|program| program.engine(rig::Engine::get()));
}

#[test]
#[ignore = "needs buildah: run tests/run.sh"]
fn a_context_of_buildah_may_be_an_image() {
    contexts_are_images(|program| program.args(["--engine", "buildah"]));
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_foreign_platform_is_built_where_nothing_has_to_run() {
    let project = Project::new("");
    let registry = &project.registry;
    let base =
        |platform: &str| rig::Image::scratch().files(&[("base", platform)]).platform(platform);
    registry.push_index("both", "1", &[&base("linux/amd64"), &base("linux/riscv64")]);
    project.work.write("file", "x").write(
        "Dockerfile",
        format!(
            "FROM {}\nARG TARGETARCH\nLABEL architecture=$TARGETARCH\nCOPY file /\n",
            registry.name("both:1")
        ),
    );
    project.build(&["--platform=linux/riscv64"]);
    let format = "{{.Os}}/{{.Architecture}} {{.Config.Labels.architecture}}";
    let inspect = ["image", "inspect", "--format", format, &project.image.name];
    let found = project.work.run(rig::Engine::get().docker(inspect)).success();
    assert_eq!(found.stdout().trim(), "linux/riscv64 riscv64");
    project.hits(&["--platform=linux/riscv64"]);
    project.build(&["--platform=linux/riscv64", "--output=type=tar,dest=files.tar"]);
    let base = Program::named("tar").args(["xOf", "files.tar", "base"]);
    assert_eq!(project.work.run(base).success().stdout(), "linux/riscv64");
}

#[test]
#[ignore = "needs an engine and skopeo: run tests/run.sh"]
fn an_archive_of_an_image_is_the_image() {
    let project = Project::new("FROM @base@\nENV A=b\nCOPY file /\n");
    project.work.write("file", unique("content"));
    let ran = project.run(&["--output=type=oci,dest=image.tar", "--json"]);
    if ran.code() != 0 {
        // Its BuildKit can write nothing but files.
        ran.exits(3).says(&["oci"]);
        assert!(!project.work.join("image.tar").exists());
        return;
    }
    let inspect = |format: &str| {
        let arguments = ["inspect", "--format", format, "oci-archive:image.tar"];
        project.work.run(Program::named("skopeo").args(arguments)).success().stdout().to_owned()
    };
    assert_eq!(ran.json()["digest"], inspect("{{.Digest}}").trim());
    assert!(inspect("{{.Env}}").contains("A=b"));
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_remark_behind_a_continued_end_adds_nothing_to_the_last_instruction() {
    let project = Project::new("FROM @base@\nWORKDIR /w\nRUN touch a \\\n# The end.\n");
    project.build(&[]);
    assert_eq!(project.image.run(&["ls", "/w"]).trim(), "a");
    project.hits(&[]);
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_named_context_is_sent_by_the_name_that_the_engine_looks_for() {
    if !is_newer() {
        return;
    }
    let project = Project::new("FROM @base@\nCOPY --from=r.example/k/mv file /\n");
    project.work.write("dir/file", "of the directory");
    let options = ["--build-context", "r.example/k/mv:latest=dir"];
    project.build(&options);
    assert_eq!(project.read("/file"), "of the directory");
    project.hits(&options);
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn an_engine_starts_from_the_32_bit_image_that_the_key_knows() {
    let platform = smartbuild::platform::Platform::host();
    if platform.architecture != "amd64" {
        return;
    }
    let project = Project::new("FROM scratch\n");
    let base = rig::Image::base().clone().platform("linux/386").env("A", "a");
    project.registry.push_index("small", "1", &[&base]);
    let text = format!("FROM {}\nCOPY $A /copied\n", project.registry.name("small:1"));
    project.work.write("Dockerfile", text).write("a", "of the context");
    project.build(&[]);
    assert_eq!(project.read("/copied"), "of the context");
    project.hits(&[]);
}
