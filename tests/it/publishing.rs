//! What a registry holds after a run, and what others make of it: hits and their cost, records and
//! explanations, images that are pulled instead of built, pruning, many pipelines at once.

use serde_json::Value;
use smartbuild_test_rig::{Engine, Entry, Program, unique};

use crate::pipeline::{PASSWORD, Pipeline, USER};

const NOWHERE: &str = "unix:///nowhere.sock";

/// Requests that were answered, those that only asked for a login left out.
fn answered(log: &[Entry]) -> Vec<String> {
    let said = log.iter().filter(|entry| entry.status != 401 && entry.path != "/v2/");
    said.map(|entry| format!("{} {} {}", entry.method, entry.path, entry.status)).collect()
}

fn built(pipeline: &Pipeline, engine: &Engine, number: &str) -> Value {
    pipeline.work.run(pipeline.job(&["--push", "--json"], number).engine(engine)).success().json()
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_hit_costs_two_requests_and_those_for_its_tags_and_bases() {
    let (engine, pipeline) = (Engine::get(), Pipeline::new());
    built(&pipeline, engine, "1");
    let hit = || {
        let before = pipeline.registry.mark();
        let job = pipeline.job(&["--push", "--json"], "2").env("DOCKER_HOST", NOWHERE);
        let report = pipeline.work.run(job).success().json();
        (report, answered(&pipeline.registry.log()[before..]))
    };
    let (report, requests) = hit();
    assert_eq!(report["outcome"], "retagged");
    // The key's manifest and configuration; a look at each of two tags and a move of one of them;
    // the base, whose configuration is known by its digest.
    assert_eq!(requests.len(), 2 + 2 + 1 + 1, "{requests:#?}");
    let (report, requests) = hit();
    assert_eq!(report["outcome"], "unchanged");
    assert_eq!(requests.len(), 2 + 2 + 1, "{requests:#?}");
    assert!(!requests.iter().any(|request| request.starts_with("PUT")), "{requests:#?}");
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_miss_says_what_changed_since_the_image_before() {
    let (engine, pipeline) = (Engine::get(), Pipeline::new());
    built(&pipeline, engine, "1");
    pipeline.work.write("greeting", "good evening\n");

    let explained = pipeline.work.run(pipeline.job(&["explain", &pipeline.image()], "2")).success();
    assert!(
        explained.stdout().starts_with("`greeting` changed: was a file of 6 bytes"),
        "{}",
        explained.text()
    );
    let json = pipeline.work.run(pipeline.job(&["explain", "--json"], "1")).success().json();
    assert_eq!(json["changes"][0]["subject"], "file");
    assert_eq!(json["changes"][0]["name"], "greeting");
    assert_eq!(json["changes"].as_array().unwrap().len(), 1);

    let ran = pipeline.work.run(pipeline.job(&["--push"], "2").engine(engine)).success();
    ran.says(&["since ", ":latest: `greeting` changed"]);
    let same = pipeline.work.run(pipeline.job(&["explain"], "2")).success();
    assert_eq!(same.stdout(), "nothing differs: it is the same key\n");
}

#[test]
#[ignore = "needs docker-registry: run tests/run.sh"]
fn two_directories_and_saved_inputs_can_be_compared() {
    let pipeline = Pipeline::new();
    let saved = pipeline.work.run(pipeline.job(&["inputs", "--json"], "1")).success();
    pipeline.work.write("before.json", saved.stdout());
    pipeline.work.write("greeting", "x\n");
    let ran = pipeline.work.run(pipeline.job(&["explain", "before.json", "."], "1")).success();
    assert!(ran.stdout().starts_with("`greeting` changed"), "{}", ran.text());
    pipeline.work.write("before.json", "{");
    pipeline
        .work
        .run(pipeline.job(&["explain", "before.json"], "1"))
        .exits(2)
        .says(&["before.json"]);
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn what_a_pipeline_built_is_pulled_on_a_laptop_and_not_built_again() {
    let (engine, pipeline) = (Engine::get(), Pipeline::new());
    let first = built(&pipeline, engine, "1");
    for tag in ["1", "latest"] {
        engine.forget(&format!("{}:{tag}", pipeline.image()));
    }
    let name = format!("{}:laptop", pipeline.image());
    let laptop = |more: &[&str]| {
        let arguments = [&["-t", &name, "--json"], more].concat();
        pipeline.work.run(pipeline.job(&arguments, "1").engine(engine))
    };
    laptop(&["--offline"]).exits(3);
    let report = laptop(&[]).success().json();
    assert_eq!(report["outcome"], "pulled");
    assert_eq!(report["digest"], first["digest"]);
    assert_eq!(laptop(&[]).success().json()["outcome"], "local");
    assert_eq!(pipeline.tags(), ["1", "latest"], "nothing is pushed");
    engine.forget(&name);
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn an_image_built_on_top_is_not_taken_for_the_image() {
    let (engine, pipeline) = (Engine::get(), Pipeline::new());
    let name = format!("{}:a", pipeline.image());
    let arguments = ["-t", &name, "--json"];
    let job = || pipeline.job(&arguments, "1").engine(engine);
    pipeline.work.run(job()).success();
    let top = pipeline.image() + ":top";
    pipeline.work.write("top/Dockerfile", format!("FROM {name}\nENV TOP=1\n"));
    pipeline.work.run(engine.docker(["build", "-q", "-t", &top, "top"])).success();
    pipeline.work.remove("top");
    engine.forget(&name);
    // The image on top inherits the label; the engine may or may not have kept the one below it.
    pipeline.work.run(job()).success();
    assert_ne!(engine.image_id(&name), engine.image_id(&top));
    engine.forget(&top);
    engine.forget(&name);
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn what_was_planted_under_a_key_is_built_over_with_a_warning() {
    let (engine, pipeline) = (Engine::get(), Pipeline::new());
    let key = pipeline.work.run(pipeline.job(&["key"], "1")).success();
    let key = key.stdout().trim_end().to_owned();
    pipeline.work.write("other/Dockerfile", "FROM scratch\nLABEL io.smartbuild.key=sb1-0\n");
    let planted = format!("{}:{key}", pipeline.image());
    pipeline.work.run(engine.docker(["build", "-q", "-t", &planted, "other"])).success();
    pipeline.work.docker_config(&serde_json::json!({
        "credHelpers": { pipeline.registry.host(): "aliyun" }
    }));
    let push = engine.docker(["push", &planted]);
    let push = push
        .env("REGISTRY_USERNAME", USER)
        .env("REGISTRY_PASSWORD", PASSWORD)
        .env("REGISTRY_URL", pipeline.registry.host());
    pipeline.work.run(push).success();
    pipeline.work.remove("other");
    engine.forget(&planted);

    let ran = pipeline.work.run(pipeline.job(&["--push"], "1").engine(engine)).success();
    ran.says(&["warning", "is not its image", "sb1-0"]);
    assert_eq!(pipeline.digest(&key), pipeline.digest("1"));
    pipeline.work.run(pipeline.job(&["--push"], "2").env("DOCKER_HOST", NOWHERE)).success();
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn old_images_of_keys_go_and_those_with_names_stay() {
    let (engine, pipeline) = (Engine::get(), Pipeline::new());
    built(&pipeline, engine, "1");
    pipeline.work.write("greeting", "two\n");
    let old = built(&pipeline, engine, "1");
    pipeline.work.write("greeting", "three\n");
    built(&pipeline, engine, "1");
    let image = pipeline.image();
    let prune = |more: &[&str]| {
        let arguments = [&["prune", &image, "--json", "--older-than=0", "--keep=0"], more].concat();
        let ran = pipeline.work.run(login(Program::smartbuild(arguments), &pipeline)).success();
        let mut gone: Vec<String> = Vec::new();
        for stored in ran.json().as_array().unwrap() {
            if stored["fate"] == "deleted" {
                gone.push(stored["key"].as_str().unwrap().to_owned());
            }
        }
        gone.sort();
        gone
    };
    let keys = |suffix: &str| {
        let mut tags = pipeline.registry.tags(&pipeline.repository);
        tags.retain(|tag| tag.starts_with("sb1-") && tag.ends_with(suffix));
        tags.len()
    };
    assert_eq!((keys(""), keys(".inputs")), (6, 3));
    let doomed = prune(&["--dry-run"]);
    assert_eq!(doomed.len(), 2);
    assert!(doomed.contains(&old["key"].as_str().unwrap().to_owned()));
    assert_eq!((keys(""), keys(".inputs")), (6, 3), "a dry run deletes nothing");
    assert_eq!(prune(&[]), doomed);
    assert_eq!((keys(""), keys(".inputs")), (2, 1));
    assert!(pipeline.digest("1").is_some() && pipeline.digest("latest").is_some());
    assert_eq!(prune(&[]), [""; 0]);
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn many_pipelines_at_once_on_one_key_make_one_image() {
    let (engine, pipeline) = (Engine::get(), Pipeline::new());
    let numbers: Vec<String> = (1..=12).map(|number| number.to_string()).collect();
    let running: Vec<_> = numbers
        .iter()
        .map(|number| pipeline.work.start(pipeline.job(&["--push"], number).engine(engine)))
        .collect();
    for job in running {
        job.wait().success();
    }
    let key = pipeline.work.run(pipeline.job(&["key"], "1")).success();
    let image = pipeline.digest(key.stdout().trim_end());
    assert!(image.is_some());
    let label = pipeline.work.run(pipeline.job(&["check", "--json"], "1")).success().json();
    assert_eq!(label["digest"].as_str(), image.as_deref());
    for number in &numbers {
        assert!(pipeline.digest(number).is_some(), "tag {number}");
    }
    // The engine has one image of the key, so what all of them pushed is the same.
    let distinct: std::collections::BTreeSet<_> =
        numbers.iter().map(|number| pipeline.digest(number)).collect();
    assert!(distinct.len() <= 2, "{distinct:?}");
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn only_who_has_the_secret_is_believed() {
    let (engine, pipeline) = (Engine::get(), Pipeline::new());
    let secret = |text: &str| text.repeat(8);
    let run = |sign: Option<&str>, verify: Option<&str>| {
        let mut arguments = vec!["--push", "--json"];
        let mut job = pipeline.job(&[], "1").engine(engine);
        if let Some(sign) = sign {
            arguments.push("--sign-key=env:SIGN");
            job = job.env("SIGN", secret(sign));
        }
        if let Some(verify) = verify {
            arguments.push("--verify-key=env:VERIFY");
            job = job.env("VERIFY", secret(verify));
        }
        pipeline.work.run(job.args(arguments)).success()
    };
    let outcome =
        |ran: &smartbuild_test_rig::Ran| ran.json()["outcome"].as_str().unwrap().to_owned();
    assert_eq!(outcome(&run(None, None)), "built");
    let unsigned = run(Some("ours"), Some("ours"));
    // An engine that pushes by itself has nothing in its store.
    assert!(["local", "built"].contains(&&*outcome(&unsigned)), "{}", unsigned.text());
    unsigned.says(&["warning", "its record is not signed"]);
    assert_eq!(outcome(&run(Some("ours"), Some("ours"))), "unchanged");
    run(None, Some("theirs"))
        .says(&["the signature of its record is not by this key"])
        .hides("theirs");
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn key_tags_can_live_in_a_repository_of_their_own() {
    let (engine, pipeline) = (Engine::get(), Pipeline::new());
    let keys = unique("team/keys");
    let home = format!("--keys-in={}", pipeline.registry.name(&keys));
    pipeline.work.run(pipeline.job(&["--push", &home], "1").engine(engine)).success();
    assert_eq!(pipeline.registry.tags(&pipeline.repository), ["1", "latest"]);
    let mut there = pipeline.registry.tags(&keys);
    there.sort();
    assert_eq!(there.len(), 2, "{there:?}");
    assert!(there[1].ends_with(".inputs"));
    let job = pipeline.job(&["--push", &home], "2").env("DOCKER_HOST", NOWHERE);
    pipeline.work.run(job).success();
    assert_eq!(pipeline.digest("2"), pipeline.digest("1"));
}

fn login(program: Program, pipeline: &Pipeline) -> Program {
    program
        .env("REGISTRY_USERNAME", USER)
        .env("REGISTRY_PASSWORD", PASSWORD)
        .env("REGISTRY_URL", pipeline.registry.host())
}
