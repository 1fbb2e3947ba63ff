//! What a user sees of a step that fails: the line of the Dockerfile, and of a file that is not there,
//! why.

use serde_json::{Value, json};
use smartbuild_test_rig::{Engine, Program, Ran, Registry, Work, unique};

/// The engines that the program chooses from.
const ENGINES: [&str; 2] = ["docker", "buildah"];

fn run(work: &Work, engine: &str, arguments: &[&str]) -> Ran {
    work.run(program(engine, arguments))
}

fn program(engine: &str, arguments: &[&str]) -> Program {
    let option = format!("--engine={engine}");
    Program::smartbuild(arguments.iter().chain([&option.as_str()])).engine(Engine::get())
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_step_that_fails_names_its_line_as_the_dockerfile_was_named() {
    let (work, registry) = (Work::new(), Registry::open());
    let text = format!(
        "# syntax is the engine's own\nARG BASE={}\n\nFROM $BASE AS build\nRUN true\n\nFROM $BASE\n\
         COPY --from=build /etc /e\nENV CODE=7\nRUN echo {} && \\\n    exit $CODE\nUSER 0\n",
        registry.push_base(),
        unique("x"),
    );
    work.write("Dockerfile", &text).write("docker/app.Dockerfile", &text);
    work.write("sub/Dockerfile", &text);
    for engine in ENGINES {
        let failed = |arguments: &[&str], place: &str| {
            let words = format!(" ({place}) failed with exit code 7");
            run(&work, engine, arguments).exits(1).says(&[&words]);
        };
        failed(&["."], "Dockerfile:10");
        failed(&["-q"], "Dockerfile:10");
        failed(&["sub"], "sub/Dockerfile:10");
        failed(&["-f", "docker/app.Dockerfile", "."], "docker/app.Dockerfile:10");
        failed(&["--output=type=tar,dest=out.tar", "."], "Dockerfile:10");
        let stdin = program(engine, &["-f", "-", "."]).input(text.as_bytes());
        work.run(stdin).exits(1).says(&[" (line 10) failed with exit code 7"]);

        let raw = run(&work, engine, &["--progress=rawjson", "-f", "docker/app.Dockerfile", "."]);
        let failed: Vec<Value> = raw
            .exits(1)
            .stderr()
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .flat_map(|line| line["vertexes"].as_array().cloned().unwrap_or_default())
            .filter(|vertex| vertex.get("range").is_some())
            .collect();
        assert_eq!(failed.len(), 1, "{engine}");
        assert_eq!(failed[0]["sourceInfo"], json!({ "filename": "docker/app.Dockerfile" }));
        assert_eq!(failed[0]["range"][0]["start"]["line"], 10);
        assert!(failed[0]["error"].is_string());
    }
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn the_line_is_the_users_where_images_stand_for_stages() {
    let (work, registry) = (Work::new(), Registry::open());
    let text = |last: &str| {
        format!(
            "FROM {} AS heavy\nRUN echo {} > /made\n# more\nRUN true\n\nFROM heavy AS next\nRUN true\n\
             FROM heavy\nCOPY --from=next /made /it\n{last}\n",
            registry.push_base(),
            registry.host(),
        )
    };
    let name = format!("{}:1", registry.name(&unique("app")));
    let arguments = ["--push", "--cache-stages", "-t", &name, "."];
    work.write("Dockerfile", text("RUN true"));
    run(&work, "docker", &arguments).success();
    work.write("Dockerfile", text("\nRUN exit 3"));
    let failed = run(&work, "docker", &arguments).exits(1);
    failed.says(&["stage heavy: ", "stage next: ", "(Dockerfile:11) failed with exit code 3"]);
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_trigger_of_a_base_fails_where_the_base_is_named() {
    let (work, registry) = (Work::new(), Registry::open());
    let base = smartbuild_test_rig::Image::base().clone().onbuild("ENV A=b").onbuild("RUN exit 5");
    registry.push("trigger", "1", &base);
    work.write("Dockerfile", format!("\nFROM {}\nRUN true\n", registry.name("trigger:1")));
    for engine in ENGINES {
        let failed = run(&work, engine, &["."]).exits(1);
        failed.says(&["RUN exit 5` (Dockerfile:2) failed with exit code 5"]);
    }
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_source_that_is_ignored_or_mistyped_is_explained() {
    let work = Work::new();
    work.write("dist/app", "x").write("src/main.rs", "x");
    work.write(".dockerignore", "# what is made\n\ndist\n");
    work.write("other.Dockerfile.dockerignore", "**/app\n");
    let of_dist = "is there, but line 3 of .dockerignore (`dist`) leaves it out";
    for (instruction, why) in [
        ("COPY dist/app /", format!("`dist/app`: it {of_dist}")),
        ("COPY dist /d/", format!("`dist`: it {of_dist}")),
        ("COPY src dist/app /d/", format!("`dist/app`: it {of_dist}")),
        ("ADD dist/app /", format!("`dist/app`: it {of_dist}")),
        ("COPY srv/main.rs /", "`srv/main.rs`; there is `src/main.rs`".to_owned()),
        ("COPY nothing /", "`nothing`\n".to_owned()),
    ] {
        work.write("Dockerfile", format!("FROM scratch\n{instruction}\n"));
        for engine in ENGINES {
            let failed = run(&work, engine, &["."]).exits(1);
            let place =
                format!("{instruction}` (Dockerfile:2) failed: nothing in the build context");
            failed.says(&[&format!("{place} matches {why}")]);
        }
    }
    work.write("other.Dockerfile", "FROM scratch\nCOPY dist/app /\n");
    let failed = run(&work, "docker", &["-f", "other.Dockerfile", "."]).exits(1);
    failed.says(&["(other.Dockerfile:2)", "line 1 of other.Dockerfile.dockerignore (`**/app`)"]);
}

/// What an engine does without is not called an error.
#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn what_engines_allow_to_be_missing_is_built() {
    let (work, registry) = (Work::new(), Registry::open());
    work.write("dist/app", "x").write("kept", "x").write(".dockerignore", "dist\n");
    let base = registry.push_base();
    for instruction in [
        "COPY kept dis*/app /d/",
        "COPY kept *.none /d/",
        "COPY --from=made /etc/passwd /dist/",
        "RUN true # COPY dist/app /",
    ] {
        work.write("Dockerfile", format!("FROM {base} AS made\nFROM made\n{instruction}\n"));
        run(&work, "docker", &["."]).success();
    }
}
