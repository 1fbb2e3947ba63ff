//! A CI job: nothing but the variables, no store, often no home.

use smartbuild_test_rig::{Engine, Image, Program, Registry, Watch, Work, unique};

use crate::rig::{NOT_FOUND, PASSWORD, USER, configured, docker, dockers};

/// What GitLab hands to the job.
fn in_job(program: Program, host: &str) -> Program {
    program
        .env("REGISTRY_URL", host)
        .env("REGISTRY_USERNAME", USER)
        .env("REGISTRY_PASSWORD", PASSWORD)
}

#[test]
fn only_the_host_of_registry_url_is_answered() {
    let work = Work::new();
    let get = |host: &str| {
        let get = Program::helper(["get"]).input(host);
        work.run(in_job(get, "https://r.example/namespace"))
    };
    assert_eq!(get("r.example").success().json()["Secret"], PASSWORD);
    assert_eq!(get("registry.cn-hangzhou.aliyuncs.com").exits(1).stdout(), NOT_FOUND);
    assert_eq!(get("https://index.docker.io/v1/").exits(1).stdout(), NOT_FOUND);
}

#[test]
fn a_missing_password_is_named_on_both_channels() {
    let get = Program::helper(["get"])
        .input("registry.cn-hangzhou.aliyuncs.com")
        .env("REGISTRY_USERNAME", USER);
    let ran = Work::new().run(get).exits(1);
    assert!(ran.stdout().starts_with("REGISTRY_USERNAME is set but REGISTRY_PASSWORD is not"));
    assert_eq!(ran.stderr(), format!("docker-credential-aliyun: {}", ran.stdout()));
}

#[test]
fn a_password_in_the_url_is_not_repeated() {
    let get = Program::helper(["get"]).input("registry.cn-hangzhou.aliyuncs.com");
    let ran = Work::new().run(in_job(get, "https://ci:hunter2@r.example/")).exits(1);
    ran.hides("hunter2").says(&["REGISTRY_URL names no registry: \"https://***@r.example/\""]);
}

#[test]
fn list_names_the_hosts_that_docker_asks_for() {
    let host = "registry.cn-hangzhou.aliyuncs.com";
    let work = configured(host);
    let list = || {
        let list = Program::helper(["list"]).env("REGISTRY_USERNAME", USER);
        list.env("REGISTRY_PASSWORD", PASSWORD)
    };
    assert_eq!(work.run(list()).success().json(), serde_json::json!({ host: USER }));
    // Where this program is asked for all hosts, the entries of the file tell which these are.
    work.docker_config(&serde_json::json!({ "credsStore": "aliyun", "auths": { host: {} } }));
    assert_eq!(work.run(list()).success().json(), serde_json::json!({ host: USER }));
}

#[test]
fn a_job_without_home_is_answered() {
    let get = Program::helper(["get"]).input("r.example").without_env("HOME").without_env("PATH");
    assert_eq!(Work::new().run(in_job(get, "r.example")).success().json()["Username"], USER);
}

#[test]
#[ignore = "needs an engine and a registry: run tests/run.sh"]
fn docker_and_skopeo_need_nothing_else() {
    let registry = Registry::htpasswd(USER, PASSWORD);
    let host = registry.host();
    let watch = Watch::start(PASSWORD);
    let work = configured(host);
    let repository = unique("job");
    registry.push(&repository, "1", &Image::scratch().files(&[("a", "1")]));
    let (first, second) = (format!("{host}/{repository}:1"), format!("{host}/{repository}:2"));
    for program in dockers() {
        let run = |arguments: &[&str]| {
            work.run(in_job(docker(&program, arguments), host)).hides(PASSWORD).success()
        };
        run(&["pull", "--quiet", &first]);
        run(&["tag", &first, &second]);
        run(&["push", &second]);
        Engine::get().forget(&first);
        registry.delete(&repository, &registry.digest(&repository, "2").unwrap());
        registry.push(&repository, "1", &Image::scratch().files(&[("a", "1")]));
    }
    let skopeo = Program::named("skopeo").args([
        "inspect",
        "--tls-verify=false",
        "--format={{.Digest}}",
        &format!("docker://{first}"),
    ]);
    let inspected = work.run(in_job(skopeo, host)).hides(PASSWORD).success();
    assert_eq!(Some(inspected.stdout().trim()), registry.digest(&repository, "1").as_deref());
    watch.assert_unseen(&work.home());
}
