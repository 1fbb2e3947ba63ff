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
