//! A context that changes while it is built from.

use std::time::{Duration, Instant};

use smartbuild_test_rig::{Engine, Front, Image, Program, Registry, Rule, Work, unique};

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_file_that_changes_during_the_build_moves_no_tag() {
    let (engine, registry, work) = (Engine::get(), Registry::open(), Work::new());
    registry.push_base();
    let front = Front::before(&registry);
    let (repository, base) = (unique("changing"), format!("{}/base:1", front.host()));
    work.write("file", unique("before"));
    work.write("Dockerfile", format!("FROM {base}\nCOPY file /\nRUN true\n"));
    let name = format!("{}:latest", registry.name(&repository));
    let program = || Program::smartbuild(["--push", "-t", &name, "."]).engine(engine);
    work.run(program()).success();
    let (latest, tags) = (registry.digest(&repository, "latest"), registry.tags(&repository));

    // The engine looks at the base before it asks for the context. Meanwhile a file changes, from
    // what was hashed a moment ago.
    front.on("HEAD", "/v2/other/manifests/**", Rule::pass().after(Duration::from_secs(5)));
    front.forget();
    work.write("file", unique("hashed"));
    // One that it has not seen yet.
    let other = Image::base().clone().label("other", &repository);
    registry.push("other", "1", &other);
    work.write("Dockerfile", format!("FROM {}/other:1\nCOPY file /\n", front.host()));
    let running = work.start(program());
    let end = Instant::now() + Duration::from_secs(60);
    while front.count("HEAD", "/v2/other/manifests/**") == 0 {
        assert!(Instant::now() < end, "the engine does not ask for the base");
        std::thread::sleep(Duration::from_millis(5));
    }
    work.write("file", unique("changed"));
    running.wait().exits(1).says(&["file", "changed"]);
    assert_eq!(registry.digest(&repository, "latest"), latest);
    assert_eq!(registry.tags(&repository), tags, "no tag of the key either");
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn an_image_whose_base_moved_during_the_build_gets_no_name_and_is_not_used_later() {
    let (engine, registry, work) = (Engine::get(), Registry::open(), Work::new());
    // Only the engine has the base, so that it cannot be pinned.
    let [base, other, name] = ["base", "other", "moved"].map(|name| format!("{}:1", unique(name)));
    let smartbuild = |arguments: &[&str]| Program::smartbuild(arguments).engine(engine);
    for image in [&base, &other] {
        let from = registry.push_base();
        work.write("Dockerfile", format!("FROM {from}\nENV OF={}\n", unique("content")));
        work.run(smartbuild(&["-t", image, "."])).success();
    }
    let hashed = engine.image_id(&base).unwrap();
    let point_at = |image: &str| engine.docker(["tag", image, &base]);

    // A step asks for the secret, and meanwhile the name of the base moves.
    let step = "RUN --mount=type=secret,id=move true";
    work.write("Dockerfile", format!("FROM {base}\nENV MARK={}\n{step}\n", unique("mark")));
    let docker = format!("docker --host {} tag {other} {base}", engine.host());
    let build = |command: &str| {
        let secret = format!("id=move,cmd={command}");
        let arguments = ["--offline", "-t", &name, "--secret", &secret, "--json", "."];
        work.run(smartbuild(&arguments))
    };
    build(&docker).exits(3).says(&[&base, "changed while the image was being built"]);
    assert_eq!(engine.image_id(&name), None);

    work.run(point_at(&hashed)).success();
    assert_eq!(build("true").success().json()["outcome"], "built");
    assert_eq!(build("true").success().json()["outcome"], "local");
    for image in [&name, &base, &other] {
        engine.forget(image);
    }
}
