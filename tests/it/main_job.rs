//! The main job: a pipeline builds and pushes, and the next one that changes nothing skips.

use std::path::Path;

use serde_json::json;
use smartbuild_test_rig::{
    Engine, Front, Image, Program, Registry, Rule, Watch, Work, files_with, unique,
};

use crate::pipeline::{PASSWORD, Pipeline, USER};

const NOWHERE: &str = "unix:///nowhere.sock";

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_pipeline_that_changes_nothing_costs_one_look_at_the_registry() {
    let (engine, pipeline) = (Engine::get(), Pipeline::new());
    pipeline.work.run(pipeline.job(&["--push"], "1").engine(engine)).success();
    let first = pipeline.digest("1");
    assert!(first.is_some());
    assert_eq!(pipeline.digest("latest"), first);
    assert_eq!(pipeline.tags(), ["1", "latest"]);

    let before = pipeline.registry.mark();
    pipeline.work.run(pipeline.job(&["--push"], "2").env("DOCKER_HOST", NOWHERE)).success();
    assert_eq!(pipeline.digest("2"), first);
    assert_eq!(pipeline.digest("latest"), first);
    let log = &pipeline.registry.log()[before..];
    let content = |path: &str| path.contains("/blobs/uploads/");
    assert!(!log.iter().any(|entry| content(&entry.path)), "nothing is uploaded");
    let layers = layers(&pipeline, "1");
    let fetched = |digest: &String| log.iter().any(|entry| entry.path.ends_with(digest.as_str()));
    assert!(!layers.iter().any(fetched), "no layer is fetched");
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn the_image_is_what_the_dockerfile_says() {
    let (engine, pipeline) = (Engine::get(), Pipeline::new());
    pipeline.work.run(pipeline.job(&["--push"], "1").engine(engine)).success();
    pipeline.work.docker_config(&json!({ "credHelpers": { pipeline.registry.host(): "aliyun" } }));
    let name = format!("{}:1", pipeline.image());
    let run = ["run", "--rm", "--network=none", "--pull=always", &name, "cat", "/shout"];
    let ran = pipeline.work.run(with_login(engine.docker(run), &pipeline)).success();
    assert_eq!(ran.stdout(), "HELLO\n");
    engine.forget(&name);
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_change_builds_and_taking_it_back_hits_the_first_image() {
    let (engine, pipeline) = (Engine::get(), Pipeline::new());
    pipeline.work.run(pipeline.job(&["--push"], "1").engine(engine)).success();

    pipeline.work.write("greeting", "good morning\n");
    pipeline.work.run(pipeline.job(&["check"], "2")).exits(1);
    pipeline.work.run(pipeline.job(&["--push"], "2").env("DOCKER_HOST", NOWHERE)).exits(3);
    pipeline.work.run(pipeline.job(&["--push"], "2").engine(engine)).success();
    assert_ne!(pipeline.digest("2"), pipeline.digest("1"));
    assert_eq!(pipeline.digest("latest"), pipeline.digest("2"));

    pipeline.work.write("greeting", "hello\n");
    pipeline.work.run(pipeline.job(&["check"], "3")).success();
    pipeline.work.run(pipeline.job(&["--push"], "3").env("DOCKER_HOST", NOWHERE)).success();
    assert_eq!(pipeline.digest("3"), pipeline.digest("1"));
    assert_eq!(pipeline.digest("latest"), pipeline.digest("1"));
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn the_key_is_the_tag_that_is_published() {
    let (engine, pipeline) = (Engine::get(), Pipeline::new());
    let ran = pipeline.work.run(pipeline.job(&["key"], "1")).success();
    let key = ran.stdout().trim_end();
    assert_eq!(ran.stdout().lines().count(), 1);
    assert!(key.starts_with("sb1-") && key.len() == 68, "{key}");
    assert_eq!(pipeline.digest(key), None);

    pipeline.work.run(pipeline.job(&["--push"], "1").engine(engine)).success();
    assert_eq!(pipeline.digest(key), pipeline.digest("1"));
    // Another checkout, on another day, with another umask.
    let other = Work::new();
    other.write("greeting", "hello\n").write("Dockerfile", pipeline.work.read("Dockerfile"));
    other.write("project", pipeline.work.read("project"));
    other.chmod("greeting", 0o600).chmod("Dockerfile", 0o664);
    assert_eq!(other.run(pipeline.job(&["key"], "7")).success().stdout(), ran.stdout());
}

#[test]
#[ignore = "needs docker-registry: run tests/run.sh"]
fn the_inputs_are_listed() {
    let pipeline = Pipeline::new();
    pipeline.work.write("greeting", "hello\n").symlink("greeting", "link");
    pipeline.work.write("Dockerfile", "ARG BASE\nFROM $BASE\nCOPY . /all\n");
    pipeline.work.write("sub/file", "");
    let key = pipeline.work.run(pipeline.job(&["key"], "1")).success();
    let inputs = pipeline.work.run(pipeline.job(&["inputs", "--json"], "1")).success().json();
    assert_eq!(inputs["key"], key.stdout().trim_end());
    let context = inputs["context"].as_array().unwrap();
    let kind = |path: &str| {
        let entry = context.iter().find(|entry| entry["path"] == path);
        entry.unwrap_or_else(|| panic!("{path} is not listed"))["kind"].as_str().unwrap().to_owned()
    };
    assert_eq!(kind("greeting"), "file");
    assert_eq!(kind("link"), "symlink");
    assert_eq!(kind("sub"), "directory");
    assert_eq!(kind("sub/file"), "file");
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn without_push_the_engines_own_store_is_the_cache() {
    let (engine, pipeline) = (Engine::get(), Pipeline::new());
    let name = |tag: &str| format!("{}:{tag}", pipeline.image());
    let build = |tag: &str| {
        let arguments = ["-t", &name(tag), "--json"];
        pipeline.work.run(pipeline.job(&arguments, "1").engine(engine)).success().json()
    };
    let built = build("a");
    let found = build("b");
    assert_eq!(built["outcome"], "built");
    assert_eq!(found["outcome"], "local");
    assert_eq!(engine.image_id(&name("b")), engine.image_id(&name("a")));
    assert!(engine.image_id(&name("b")).is_some());
    assert_eq!(pipeline.tags(), [""; 0], "nothing is pushed");
    engine.forget(&name("a"));
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_step_that_fails_shows_its_output_and_publishes_nothing() {
    let (engine, pipeline) = (Engine::get(), Pipeline::new());
    pipeline.work.write(
        "Dockerfile",
        "ARG BASE\nFROM $BASE\nRUN echo the-reason-is-this; cat /not/there; exit 7\n",
    );
    let job = pipeline.job(&["--push"], "1").engine(engine);
    let ran = pipeline.work.run(job).exits(1);
    ran.says(&["the-reason-is-this", "/not/there", "7"]);
    assert_eq!(pipeline.registry.tags(&pipeline.repository), [""; 0]);
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn the_password_is_nowhere_but_in_the_environment() {
    let (engine, pipeline) = (Engine::get(), Pipeline::new());
    let watch = Watch::start(PASSWORD);
    let encoded_password = basic(USER, PASSWORD);
    let watch_encoded = Watch::start(&encoded_password);
    for (arguments, pipeline_number) in [
        (&["--push"][..], "1"),
        (&["--push", "--json"], "2"),
        (&["inputs", "--json"], "3"),
        (&["check"], "3"),
    ] {
        let job = pipeline.job(arguments, pipeline_number).engine(engine);
        pipeline.work.run(job).success().hides(PASSWORD).hides(&encoded_password);
    }
    let name = format!("{}:1", pipeline.image());
    pipeline.work.docker_config(&json!({ "credHelpers": { pipeline.registry.host(): "aliyun" } }));
    let pull = with_login(engine.docker(["pull", &name]), &pipeline);
    pipeline.work.run(pull).success().hides(PASSWORD);
    let inspect = engine.docker(["image", "inspect", &name]);
    pipeline.work.run(inspect).success().hides(PASSWORD);
    engine.forget(&name);

    for secret in [PASSWORD, &encoded_password] {
        assert!(files_with(secret, &pipeline.registry.storage()).is_empty());
        assert!(files_with(secret, &pipeline.work.path()).is_empty());
    }
    watch.assert_unseen(&pipeline.work.home());
    watch_encoded.assert_unseen(&pipeline.work.home());
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn docker_and_skopeo_need_only_the_helper() {
    let (engine, pipeline) = (Engine::get(), Pipeline::new());
    pipeline.work.docker_config(&json!({ "credHelpers": { pipeline.registry.host(): "aliyun" } }));
    let base = pipeline.registry.name("base:1");
    let copy = pipeline.registry.name(&format!("{}:copy", unique("team/copy")));
    let run = |program: Program| pipeline.work.run(with_login(program, &pipeline));
    run(engine.docker(["pull", &base])).success().hides(PASSWORD);
    run(engine.docker(["tag", &base, &copy])).success();
    run(engine.docker(["push", &copy])).success().hides(PASSWORD);
    let image = format!("docker://{copy}");
    let inspect = ["inspect", "--tls-verify=false", "--raw", &image];
    run(Program::named("skopeo").args(inspect)).success().hides(PASSWORD);
    engine.forget(&copy);

    // And without the variables nobody gets in.
    let inspect = Program::named("skopeo").args(inspect);
    pipeline.work.run(inspect).exits(1);
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn tags_given_by_name_are_pushed_and_only_what_is_missing_is_written() {
    let (engine, pipeline) = (Engine::get(), Pipeline::new());
    let name = |tag: &str| format!("{}:{tag}", pipeline.image());
    let arguments = ["build", "--push", "-t", &name("x"), "--tag", &name("y")];
    let ran = pipeline.work.run(pipeline.job(&arguments, "1").args(["--json"]).engine(engine));
    assert_eq!(ran.success().json()["outcome"], "built");
    assert_eq!(pipeline.tags(), ["x", "y"]);

    let again = |arguments: &[&str]| {
        let job = pipeline.job(arguments, "1").args(["--json", "--push"]);
        pipeline.work.run(job.env("DOCKER_HOST", NOWHERE)).success().json()
    };
    let before = pipeline.registry.mark();
    assert_eq!(again(&["-t", &name("y"), "-t", &name("x")])["outcome"], "unchanged");
    let log = &pipeline.registry.log()[before..];
    assert!(!log.iter().any(|entry| entry.method == "PUT"), "nothing is written");
    assert_eq!(again(&["-t", &name("z")])["outcome"], "retagged");
    assert_eq!(pipeline.digest("z"), pipeline.digest("x"));
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn what_the_image_does_not_contain_changes_nothing() {
    let (engine, pipeline) = (Engine::get(), Pipeline::new());
    pipeline.work.run(pipeline.job(&["--push"], "1").engine(engine)).success();
    let dockerfile = pipeline.work.read("Dockerfile");
    pipeline
        .work
        .write("README.md", "not copied\n")
        .write("Dockerfile", format!("# a comment\n\n{dockerfile}"))
        .chmod("greeting", 0o640);
    pipeline.work.run(pipeline.job(&["--push"], "2").env("DOCKER_HOST", NOWHERE)).success();
    assert_eq!(pipeline.digest("2"), pipeline.digest("1"));
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_base_that_moves_is_built_on() {
    let (engine, pipeline) = (Engine::get(), Pipeline::new());
    pipeline.work.run(pipeline.job(&["--push"], "1").engine(engine)).success();
    let moved = Image::base().clone().files(&[("etc/release", "2")]);
    pipeline.registry.push("base", "1", &moved);
    pipeline.work.run(pipeline.job(&["check"], "2")).exits(1);
    pipeline.work.run(pipeline.job(&["--push"], "2").engine(engine)).success();
    assert_ne!(pipeline.digest("2"), pipeline.digest("1"));
    let name = format!("{}:2", pipeline.image());
    pipeline.work.docker_config(&json!({ "credHelpers": { pipeline.registry.host(): "aliyun" } }));
    let run = ["run", "--rm", "--network=none", "--pull=always", &name, "cat", "/etc/release"];
    let ran = pipeline.work.run(with_login(engine.docker(run), &pipeline)).success();
    assert_eq!(ran.stdout(), "2");
    engine.forget(&name);
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn the_password_may_come_from_a_file() {
    let (engine, pipeline) = (Engine::get(), Pipeline::new());
    pipeline.work.write("../home/password", format!("{PASSWORD}\n"));
    let job = pipeline.job(&["--push"], "1").engine(engine).without_env("REGISTRY_PASSWORD");
    let file = pipeline.work.home().join("password");
    pipeline.work.run(job.env("REGISTRY_PASSWORD_FILE", file)).success();
    assert_eq!(pipeline.tags(), ["1", "latest"]);
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_registry_with_tokens_serves_as_well() {
    let engine = Engine::get();
    let pipeline = Pipeline::on(Registry::token(USER, PASSWORD));
    pipeline.work.run(pipeline.job(&["--push"], "1").engine(engine)).success();
    pipeline.work.run(pipeline.job(&["--push"], "2")).success();
    assert_eq!(pipeline.digest("2"), pipeline.digest("1"));
    assert!(pipeline.digest("2").is_some());
}

#[test]
#[ignore = "needs docker-registry: run tests/run.sh"]
fn a_missing_engine_says_what_to_do_and_that_a_hit_needs_none() {
    let pipeline = Pipeline::new();
    let ran = pipeline.work.run(pipeline.job(&["--push"], "1").env("DOCKER_HOST", NOWHERE));
    one_sentence(&ran.exits(3).says(&["/nowhere.sock", "DOCKER_HOST", "needs none"]));
    assert_eq!(pipeline.tags(), [""; 0]);
}

#[test]
#[ignore = "needs docker-registry: run tests/run.sh"]
fn a_wrong_password_names_the_user_and_where_it_came_from() {
    let pipeline = Pipeline::new();
    let job = pipeline.job(&["--push"], "1").env("REGISTRY_PASSWORD", "Wrong-Battery-55");
    let ran = pipeline.work.run(job).exits(3).hides("Wrong-Battery-55");
    one_sentence(&ran.says(&[USER, "REGISTRY_PASSWORD", pipeline.registry.host()]));
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_user_without_the_right_is_named() {
    let (engine, pipeline) = (Engine::get(), Pipeline::new());
    let front = Front::before(&pipeline.registry);
    let denied = r#"{"errors":[{"code":"DENIED","message":"requested access is denied"}]}"#;
    let path = format!("/v2/{}/**", pipeline.repository);
    front.on("*", &path, Rule::status(403).body(denied).authorized());
    let job = pipeline
        .job(&["--push"], "1")
        .env("REGISTRY_URL", front.host())
        .env("IMAGE_URL", format!("{}/{}", front.host(), pipeline.repository))
        .args([format!("--build-arg=BASE={}/base:1", front.host())]);
    let ran = pipeline.work.run(job.engine(engine)).exits(3).hides(PASSWORD);
    one_sentence(&ran.says(&[USER, "REGISTRY_USERNAME", &front.host()]));
}

#[test]
fn a_host_that_does_not_exist_is_named() {
    let work = Work::new();
    work.write("Dockerfile", "FROM no-such-registry.invalid/a/b:1\n");
    let ran = work.run(Program::smartbuild(["check", "-t", "no-such-registry.invalid/a/c:1"]));
    one_sentence(&ran.exits(3).says(&["no-such-registry.invalid"]));
}

#[test]
#[ignore = "needs docker-registry: run tests/run.sh"]
fn a_certificate_that_nobody_vouches_for_is_refused_and_named() {
    let registry = Registry::builder().tls().htpasswd(USER, PASSWORD).start();
    let pipeline = Pipeline::on(registry);
    pipeline.work.write("Dockerfile", "FROM scratch\nCOPY greeting /\n");
    // On the loopback Docker checks no certificate; this address leads there and is none of it.
    let port = pipeline.registry.host().rsplit_once(':').unwrap().1;
    let host = format!("0.0.0.0:{port}");
    let job = |arguments: &[&str]| {
        pipeline
            .job(arguments, "1")
            .env("REGISTRY_URL", &host)
            .env("IMAGE_URL", format!("{host}/{}", pipeline.repository))
    };
    let before = pipeline.registry.mark();
    let ran = pipeline.work.run(job(&["--push"])).exits(3).hides(PASSWORD);
    one_sentence(&ran.says(&[&host, "certificate"]));
    let asked_for_it = |path: &str| path.contains(&pipeline.repository);
    assert!(!pipeline.registry.log()[before..].iter().any(|entry| asked_for_it(&entry.path)));

    let trusted = job(&["check", "--push"]).env("SSL_CERT_FILE", pipeline.registry.ca().unwrap());
    one_sentence(&pipeline.work.run(trusted).exits(3).says(&[&host, "certificate", "0.0.0.0"]));
}

#[test]
fn a_missing_dockerfile_is_named() {
    let work = Work::new();
    for command in [&["key"][..], &["check", "-t", "a/b:1"], &["-t", "a/b:1"]] {
        let ran = work.run(Program::smartbuild(command));
        one_sentence(&ran.exits(2).says(&["Dockerfile"]));
    }
    let ran = work.run(Program::smartbuild(["key", "-f", "other/file"]));
    one_sentence(&ran.exits(2).says(&["other/file"]));
}

#[test]
fn a_context_that_is_no_directory_is_named() {
    let work = Work::new();
    work.write("Dockerfile", "FROM scratch\n");
    for context in ["not-there", "Dockerfile"] {
        let ran = work.run(Program::smartbuild(["key", context]));
        one_sentence(&ran.exits(2).says(&[context]));
    }
}

#[test]
fn a_bad_reference_is_named() {
    let work = Work::new();
    work.write("Dockerfile", "FROM scratch\nCOPY . /\n");
    for reference in ["Upper/Case:1", "a/b:bad tag", "a//b"] {
        let ran = work.run(Program::smartbuild(["--push", "-t", reference]));
        one_sentence(&ran.exits(2).says(&[reference]));
    }
}

#[test]
fn from_scratch_needs_neither_network_nor_engine() {
    let work = Work::new();
    work.write("Dockerfile", "FROM scratch\nCOPY a /\n").write("a", "1");
    let key = || work.run(Program::smartbuild(["key"])).success().stdout().to_owned();
    let first = key();
    work.write("a", "2");
    assert_ne!(key(), first);
    work.write("a", "1");
    assert_eq!(key(), first);
}

#[test]
fn the_toolbox_of_the_examples_is_understood() {
    let toolbox = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/deployment-toolbox");
    let work = Work::new();
    let arguments = ["inputs", "--json", "--build-arg=BASE=scratch", toolbox.to_str().unwrap()];
    let inputs = work.run(Program::smartbuild(arguments)).success().json();
    let paths: Vec<_> = inputs["context"].as_array().unwrap().iter().collect();
    let paths: Vec<_> = paths.iter().filter_map(|entry| entry["path"].as_str()).collect();
    assert_eq!(paths, ["fetch.sh", "requirements.txt"]);
}

/// What a person gets to read: one message, no more than a few lines, and never a panic.
#[track_caller]
fn one_sentence(ran: &smartbuild_test_rig::Ran) {
    let errors = ran.stderr().lines().filter(|line| line.starts_with("smartbuild: error:")).count();
    assert_eq!(errors, 1, "one line should say smartbuild: error:\n{}", ran.text());
    assert!(!ran.stderr().contains("panicked"), "{}", ran.text());
    assert_eq!(ran.stdout(), "", "stdout is for data");
}

/// The CI variables, for Docker's own program and others that ask the helper.
fn with_login(program: Program, pipeline: &Pipeline) -> Program {
    program
        .env("REGISTRY_USERNAME", USER)
        .env("REGISTRY_PASSWORD", PASSWORD)
        .env("REGISTRY_URL", pipeline.registry.host())
}

/// How HTTP carries a user name and a password.
fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.encode(format!("{user}:{password}"))
}

/// The digests of an image's layers.
fn layers(pipeline: &Pipeline, tag: &str) -> Vec<String> {
    let manifest = pipeline.registry.manifest(&pipeline.repository, tag).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    layers.iter().map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
}
