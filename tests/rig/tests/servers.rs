//! The rig itself: do the servers do what the tests take for granted?

use smartbuild_test_rig::{Engine, Front, Image, Program, Registry, Rule, Work, unique};

#[test]
#[ignore = "needs docker-registry: run tests/run.sh"]
fn a_registry_keeps_what_is_pushed_and_logs_what_is_asked() {
    let registry = Registry::open();
    let digest = registry.push("a/b", "1", &Image::scratch().files(&[("x", "1")]));
    assert_eq!(registry.digest("a/b", "1"), Some(digest));
    assert_eq!(registry.digest("a/b", "2"), None);
    assert_eq!(registry.tags("a/b"), ["1"]);
    assert!(registry.log().is_empty(), "the rig's own requests are left out");

    let inspect = ["inspect", "--tls-verify=false", "--raw"];
    let image = format!("docker://{}", registry.name("a/b:1"));
    let ran = Work::new().run(Program::named("skopeo").args(inspect).args([image])).success();
    assert_eq!(registry.manifest("a/b", "1").as_deref(), Some(ran.stdout().as_bytes()));
    let log = registry.log();
    assert!(log.iter().any(|entry| entry.path == "/v2/a/b/manifests/1" && entry.status == 200));
    assert!(!log.iter().any(smartbuild_test_rig::Entry::transfers_blob));
}

#[test]
#[ignore = "needs docker-registry: run tests/run.sh"]
fn every_kind_of_registry_lets_in_only_whom_it_should() {
    let kinds = [
        Registry::htpasswd("robin@1", "right"),
        Registry::token("robin@1", "right"),
        Registry::builder().htpasswd("robin@1", "right").tls().start(),
    ];
    for registry in &kinds {
        registry.push("a/b", "1", &Image::scratch());
        let image = format!("docker://{}", registry.name("a/b:1"));
        let inspect = |password: &str| {
            let login = format!("robin@1:{password}");
            let verify = registry.ca().is_some();
            Work::new().run(
                Program::named("skopeo")
                    .args(["inspect", "--raw", "--creds", &login])
                    .args([&format!("--tls-verify={verify}"), &image])
                    .envs(registry.ca().and_then(|ca| Some(("SSL_CERT_FILE", ca.to_str()?)))),
            )
        };
        inspect("right").success();
        inspect("wrong").exits(1);
    }
    let asked = kinds[1].tokens().requests();
    assert!(asked.iter().any(|one| one.status == 200 && one.user.as_deref() == Some("robin@1")));
    assert!(asked.iter().any(|one| one.status == 401 && one.user.is_none()));
    assert!(asked.iter().any(|one| one.scopes == ["repository:a/b:pull"]));
}

#[test]
#[ignore = "needs docker-registry: run tests/run.sh"]
fn a_dead_token_is_refused() {
    let registry = Registry::token("robin", "right");
    registry.push("a", "1", &Image::scratch());
    registry.tokens().set_lifetime(-120);
    let image = format!("docker://{}", registry.name("a:1"));
    let inspect = ["inspect", "--raw", "--tls-verify=false", "--creds", "robin:right", &image];
    Work::new().run(Program::named("skopeo").args(inspect)).exits(1);
}

#[test]
#[ignore = "needs docker-registry: run tests/run.sh"]
fn a_front_passes_on_what_no_rule_catches() {
    let registry = Registry::open();
    registry.push("a/b", "1", &Image::scratch().files(&[("x", "1")]));
    let front = Front::before(&registry);
    let image = format!("docker://{}/a/b:1", front.host());
    let inspect = ["inspect", "--tls-verify=false", "--retry-times=0", &image];
    let inspect = || Work::new().run(Program::named("skopeo").args(inspect));
    inspect().success();
    assert_eq!(front.count("GET", "/v2/**/manifests/*"), 1);
    for rule in [Rule::status(500), Rule::reset(), Rule::truncate(10), Rule::corrupt()] {
        front.heal();
        front.on("GET", "/v2/**/blobs/*", rule.clone());
        front.on("GET", "/v2/**/manifests/*", rule);
        inspect().exits(1);
    }
    front.heal();
    inspect().success();
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn the_engine_runs_the_base() {
    let (engine, registry) = (Engine::get(), Registry::open());
    let base = registry.push_base();
    let ran = engine.run(&base, &["sh", "-c", "echo $((6 * 7)) | tr 4 5"]).success();
    assert_eq!(ran.stdout(), "52\n");

    let work = Work::new();
    work.write("Dockerfile", format!("FROM {base}\nCOPY hello /\nRUN wc -c < hello > size\n"));
    work.write("hello", "12345");
    let name = registry.name(&unique("hello"));
    work.run(engine.docker(["build", "--tag", &name, "."])).success();
    work.run(engine.docker(["push", &name])).success();
    assert_eq!(engine.run(&name, &["cat", "/size"]).success().stdout().trim(), "5");
    engine.forget(&name);
    assert_eq!(engine.image_id(&name), None);
}
