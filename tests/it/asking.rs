//! Whom a run asks, and what it makes of no answer: bases, `check`, builds that are not pushed, records.

use std::io::Read as _;

use smartbuild_test_rig::{Engine, Front, Program, Registry, Rule, Work, unique};

use crate::pipeline::Pipeline;

const TOKEN: &str = "npm_Correct-Horse-7f3a91";

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn the_engines_own_image_stands_for_a_base_only_where_the_registry_says_so_or_is_in_trouble() {
    let (engine, front, work) = (Engine::get(), Front::alone(), Work::new());
    let base = format!("{}/{}:1", front.host(), unique("base"));
    work.write("base/Dockerfile", "FROM scratch\nLABEL own=1\n");
    work.run(engine.docker(["build", "-q", "-t", &base, "base"])).success();
    work.write("app/Dockerfile", format!("FROM {base}\nLABEL top=1\n"));
    let key = |more: &[&str]| {
        let arguments = [&["key", "app"], more].concat();
        let program = Program::smartbuild(arguments).engine(engine);
        work.run(program.env("SMARTBUILD_REGISTRY_TIMEOUT", "2"))
    };
    key(&[]).success().hides("warning");
    key(&["--strict"]).success();
    for status in [500, 429] {
        front.on("*", "/v2/**/manifests/*", Rule::status(status));
        key(&[]).success().says(&["warning", "is the one that the engine has"]);
        key(&["--strict"]).exits(3).says(&["the Dockerfile uses the image"]);
    }
    for status in [401, 403] {
        front.on("*", "/v2/**/manifests/*", Rule::status(status));
        key(&[]).exits(3).says(&["login"]);
    }
    front.heal();
    work.write("../home/.docker/config.json", "{");
    front.on("*", "/v2/**", Rule::status(401).header("www-authenticate", "Basic realm=\"x\""));
    key(&[]).exits(2).says(&["config.json is broken"]);
    key(&["--offline"]).success();
    engine.forget(&base);
}

#[test]
fn offline_asks_for_no_frontend_and_check_for_no_image() {
    let (front, work) = (Front::alone(), Work::new());
    let syntax = format!("# syntax={}/frontend:1\nFROM scratch\n", front.host());
    work.write("foreign/Dockerfile", syntax);
    work.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    work.run(Program::smartbuild(["key", "--offline", "foreign"]))
        .success()
        .says(&["no registry is asked (--offline)"]);
    let tag = format!("{}/app:1", front.host());
    work.run(Program::smartbuild(["check", "--offline", "-t", &tag])).exits(1);
    assert!(front.seen().is_empty(), "{:?}", front.seen());
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_build_that_is_not_pushed_says_when_a_registry_was_of_no_help() {
    let (engine, front, work) = (Engine::get(), Front::alone(), Work::new());
    let name = unique("app");
    work.write("Dockerfile", "FROM scratch\nCOPY own /\n").write("own", &name);
    let tag = format!("{}/{name}:1", front.host());
    let run = |command: &[&str]| {
        let program = Program::smartbuild([command, &["-t", &tag]].concat()).engine(engine);
        work.run(program.env("SMARTBUILD_REGISTRY_TIMEOUT", "2"))
    };
    front.on("*", "/v2/**/manifests/*", Rule::status(500));
    run(&["check"]).exits(1).says(&["warning: the registry could not be asked"]);
    run(&["check", "--strict"]).exits(3);
    run(&["--strict"]).exits(3);
    run(&[]).success().says(&[
        "warning: the registry could not be asked",
        "building: there is no image of these inputs yet",
    ]);
    run(&["check", "--strict"]).success().says(&["would skip: the engine has the image"]);
    engine.forget(&tag);
    work.write("own", unique("other"));
    front.on("*", "/v2/**", Rule::status(401).header("www-authenticate", "Basic realm=\"x\""));
    run(&[]).success().hides("warning").says(&["building: there is no image"]);
    engine.forget(&tag);
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn what_was_given_from_outside_is_in_no_record() {
    let (engine, pipeline) = (Engine::get(), Pipeline::on(Registry::open()));
    let dockerfile = "ARG BASE\nFROM $BASE AS builder\nARG NPM_TOKEN\nENV SEEN=x$NPM_TOKEN\n\
                      COPY project /\nFROM scratch\nCOPY --from=builder /project /\n";
    pipeline.work.write("Dockerfile", dockerfile);
    let token = |value: &str| format!("--build-arg=NPM_TOKEN={value}");
    let job = pipeline.job(&["--push", "--json", &token(TOKEN)], "1").engine(engine);
    let key = pipeline.work.run(job).success().json()["key"].as_str().unwrap().to_owned();
    let record = pipeline.registry.manifest(&pipeline.repository, &format!("{key}.inputs"));
    let record: serde_json::Value = serde_json::from_slice(&record.unwrap()).unwrap();
    let layer = record["layers"][0]["digest"].as_str().unwrap();
    let layer = pipeline.registry.blob(&pipeline.repository, layer).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(layer.as_slice()).read_to_string(&mut text).unwrap();
    assert!(text.contains("NPM_TOKEN") && !text.contains(TOKEN), "{text}");

    let explain = |value: &str| {
        let explain = pipeline.job(&["explain", &pipeline.image(), &token(value)], "2");
        pipeline.work.run(explain).success().hides(TOKEN)
    };
    assert_eq!(explain(TOKEN).stdout(), "nothing differs: it is the same key\n");
    let changed = explain("npm_another-token-8888").hides("another-token");
    assert!(changed.stdout().contains("argument `NPM_TOKEN` changed"), "{}", changed.text());
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn explain_compares_what_was_meant_and_tells_what_is_missing() {
    let (engine, pipeline) = (Engine::get(), Pipeline::on(Registry::open()));
    pipeline.work.run(pipeline.job(&["--push"], "1").engine(engine)).success();
    let latest = format!("{}:latest", pipeline.image());
    let explain = |arguments: &[&str]| {
        let arguments = [&["explain"], arguments].concat();
        pipeline.work.run(pipeline.job(&arguments, "1"))
    };
    pipeline.work.write("greeting", "x\n");
    let ran = explain(&["-t", &latest, "."]).success();
    assert!(ran.stdout().starts_with("`greeting` changed"), "{}", ran.text());
    explain(&["."]).exits(2).says(&["both sides are"]);
    explain(&[&pipeline.registry.name("none:1")]).exits(3).says(&["does not have it"]);
    explain(&[&pipeline.registry.name("base:1")]).exits(2).says(&["was not built by smartbuild"]);
    let saved = explain(&[]).success();
    assert!(saved.stdout().starts_with("`greeting` changed"), "{}", saved.text());
    // A record that is none explains nothing, and breaks nothing.
    let mut key = pipeline.registry.tags(&pipeline.repository).into_iter();
    let record = key.rfind(|tag| tag.ends_with(".inputs")).unwrap();
    let image = smartbuild_test_rig::Image::scratch();
    pipeline.registry.push(&pipeline.repository, &record, &image);
    explain(&[]).exits(2).says(&["has no record of its inputs that can be read"]);
}
