//! From an identity to a real registry, with Docker's own programs.

use std::path::PathBuf;

use serde_json::json;
use smartbuild_test_rig::{Engine, Image, Program, Registry, Watch, Work, unique};

use crate::cloud::{Cloud, KEY_A, KEY_B, machines, profiles};

/// Configures the registry's host as a domain of an instance.
fn domain(registry: &Registry, instance: &str, more: &str) -> String {
    format!(
        "[[registry]]\ndomains = ['{}']\ninstanceId = '{instance}'\nregionId = 'cn-hangzhou'\n{more}\n",
        registry.host()
    )
}

fn configure(work: &Work, hosts: &[&Registry], config: &str) {
    let helpers: serde_json::Map<_, _> =
        hosts.iter().map(|registry| (registry.host().to_owned(), json!("aliyun"))).collect();
    work.docker_config(&json!({ "credHelpers": helpers }));
    work.write("../home/.config/docker-credential-aliyun/config.toml", config);
}

/// An image with this file that is no other test's: to forget an image is to forget all its names.
fn image_with(file: &str) -> Image {
    Image::scratch().files(&[(file, &unique("content"))])
}

#[test]
#[ignore = "needs an engine and a registry: run tests/run.sh"]
fn each_identity_pulls_and_pushes() {
    let engine = Engine::get();
    for machine in machines() {
        // The enterprise edition and the personal one, both under a domain of one's own.
        for instance in ["cri-a", ""] {
            println!("{} {instance}", machine.name);
            let (cloud, work) = (Cloud::start(), Work::new());
            let registry = cloud.registry("a");
            let repository = unique("identity");
            registry.push(&repository, "1", &image_with("a"));
            configure(&work, &[&registry], &domain(&registry, instance, ""));
            (machine.files)(&work, &cloud);
            let docker = |arguments: &[&str]| {
                let program = cloud.around(engine.docker(arguments));
                work.run((machine.variables)(program, &cloud)).hides(KEY_A.1).success()
            };
            let name = |tag| registry.name(&format!("{repository}:{tag}"));
            docker(&["pull", "--quiet", &name("1")]);
            docker(&["tag", &name("1"), &name("2")]);
            docker(&["push", &name("2")]);
            assert!(registry.digest(&repository, "2").is_some());
            let by = format!("GetAuthorizationToken by {}", machine.caller);
            assert!(cloud.count(&by) > 0, "{:?}", cloud.calls());
            engine.forget(&name("1"));
            engine.forget(&name("2"));
        }
    }
}

#[test]
#[ignore = "needs an engine and a registry: run tests/run.sh"]
fn docker_login_hands_our_token_back_and_nothing_keeps_it() {
    let engine = Engine::get();
    let (cloud, work) = (Cloud::start(), Work::new());
    let registry = cloud.registry("a");
    configure(&work, &[&registry], &domain(&registry, "cri-a", ""));
    let keyed = |program: Program| {
        cloud
            .around(program)
            .env("ALIBABA_CLOUD_ACCESS_KEY_ID", KEY_A.0)
            .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", KEY_A.1)
    };
    let watch = Watch::start(KEY_A.1);
    let login = work.run(keyed(engine.docker(["login", registry.host()]))).success();
    assert!(login.stdout().contains("Login Succeeded"));
    work.run(keyed(engine.docker(["logout", registry.host()]))).success();
    let list = work.run(Program::helper(["list"])).success();
    assert_eq!(list.stdout().trim(), "{}");
    watch.assert_unseen(&work.home());
}

/// The `docker` programs of this machine that build with BuildKit (20.10, or one with buildx).
fn with_buildkit(work: &Work) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap();
    let mut programs: Vec<PathBuf> = std::env::split_paths(&path)
        .filter_map(|directory| directory.join("docker").canonicalize().ok())
        .collect();
    programs.dedup();
    programs.retain(|program| {
        let help = Program::named(program).args(["build", "--help"]).env("DOCKER_BUILDKIT", "1");
        work.run(help).code() == 0
    });
    programs
}

#[test]
#[ignore = "needs an engine and a registry: run tests/run.sh"]
fn one_build_pulls_from_two_accounts() {
    let engine = Engine::get();
    let classic = engine.docker(["build"]).env("DOCKER_BUILDKIT", "0");
    let buildkit = with_buildkit(&Work::new()).into_iter().map(|program| {
        Program::named(program).args(["build"]).env("DOCKER_BUILDKIT", "1").engine(engine)
    });
    for build in std::iter::once(classic).chain(buildkit) {
        let (cloud, work) = (Cloud::start(), Work::new());
        let (first, second) = (cloud.registry("a"), cloud.registry("b"));
        let (one, two) = (unique("one"), unique("two"));
        first.push(&one, "1", &image_with("a"));
        second.push(&two, "1", &image_with("b"));
        let config =
            domain(&first, "cri-a", "profile = 'a'") + &domain(&second, "cri-b", "profile = 'b'");
        configure(&work, &[&first, &second], &config);
        profiles(
            &work,
            &json!([
                {"name": "a", "mode": "AK", "access_key_id": KEY_A.0, "access_key_secret": KEY_A.1},
                {"name": "b", "mode": "AK", "access_key_id": KEY_B.0, "access_key_secret": KEY_B.1},
            ]),
        );
        let (one, two) = (first.name(&format!("{one}:1")), second.name(&format!("{two}:1")));
        work.write("Dockerfile", format!("FROM {one} AS one\nFROM {two}\nCOPY --from=one /a /a\n"));
        let tag = unique("two-accounts");
        work.run(cloud.around(build.args(["--no-cache", "-t", &tag, "."]))).success();
        assert!(engine.image_id(&tag).is_some());
        let mut calls = cloud.calls();
        calls.sort();
        assert_eq!(calls, ["GetAuthorizationToken by LTAI-a", "GetAuthorizationToken by LTAI-b"]);
        for name in [&tag, &one, &two] {
            engine.forget(name);
        }
    }
}

#[test]
#[ignore = "needs a registry: run tests/run.sh"]
fn endpoints_are_asked_over_tls_that_is_trusted() {
    let registry = Registry::builder().tls().start();
    let work = Work::new();
    let get = || {
        Program::helper(["get"])
            .input("registry.cn-hangzhou.aliyuncs.com")
            .env("DOCKER_CREDENTIAL_ALIYUN_CR_ENDPOINT", format!("https://{}", registry.host()))
            .env("ALIBABA_CLOUD_ACCESS_KEY_ID", KEY_A.0)
            .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", KEY_A.1)
    };
    // Of a registry, no login can be had; but its words are heard only over a connection.
    let trusted = get().env("SSL_CERT_FILE", registry.ca().unwrap());
    work.run(trusted).exits(1).says(&["which is not what the API answers"]);
    work.run(get()).exits(1).says(&["no trusted TLS connection to"]);
}
