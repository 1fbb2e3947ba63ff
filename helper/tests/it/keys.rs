//! Every form in which a client names a registry, sent to the real program.

use serde_json::json;
use smartbuild_test_rig::{Program, Ran, Work};

use crate::rig::NOT_FOUND;

fn call(work: &Work, verb: &str, input: &str) -> Ran {
    work.run(
        Program::helper([verb])
            .env("DOCKER_CREDENTIAL_ALIYUN_KEY_FILE", work.join("key"))
            .input(input),
    )
}

fn store(work: &Work, server: &str, username: &str) {
    let request = json!({ "ServerURL": server, "Username": username, "Secret": "s" });
    call(work, "store", &request.to_string()).success();
}

/// Client, what it says at login, what it asks later.
const CLIENTS: &[(&str, &str, &[&str])] = &[
    ("docker pull, push, build", "r.example", &["r.example"]),
    ("docker login with a scheme", "https://r.example", &["r.example"]),
    ("docker login with a path", "https://r.example/v2/", &["r.example", "https://r.example"]),
    ("docker with a port", "r.example:5000", &["r.example:5000", "http://r.example:5000"]),
    ("docker with the peer-to-peer port", "r.example:65001", &["r.example:65001"]),
    ("docker with Docker Hub", "https://index.docker.io/v1/", &["https://index.docker.io/v1/"]),
    ("podman, buildah, skopeo with Docker Hub", "docker.io", &["https://index.docker.io/v1/"]),
    ("podman, buildah, skopeo", "r.example", &["r.example", "r.example/ns/repository"]),
    ("go-containerregistry", "r.example", &["r.example/ns/repository", "r.example"]),
    (
        "nerdctl",
        "https://r.example:443",
        &[
            "r.example:443",
            "https://r.example:443",
            "http://r.example",
            "r.example",
            "https://r.example",
        ],
    ),
    ("Nomad", "r.example", &["r.example/ns/repository"]),
    ("docker-py, compose 1", "https://r.example/v1/", &["r.example", "https://r.example/v1/"]),
    ("a hand-written name", "R.Example.", &["r.example", "R.EXAMPLE", "r.example."]),
];

#[test]
fn every_client_finds_its_entry() {
    for (client, login, later) in CLIENTS {
        let work = Work::new();
        store(&work, login, client);
        for server in *later {
            let body = call(&work, "get", &format!("{server}\n")).success().json();
            assert_eq!(body, json!({ "ServerURL": server, "Username": client, "Secret": "s" }));
        }
        let listed = call(&work, "list", "unused").success().json();
        assert_eq!(listed.as_object().unwrap().len(), 1, "{client}");
        for server in *later {
            call(&work, "erase", server).success();
            assert_eq!(call(&work, "get", server).exits(1).stdout(), NOT_FOUND, "{client}");
        }
    }
}

#[test]
fn other_registries_find_nothing() {
    let work = Work::new();
    store(&work, "r.example", "u");
    for server in [
        "r.example:5000",
        "http://r.example:443",
        "q.r.example",
        "r.example.evil.example",
        "nerdctl-experimental://r.example:443/?ns=r.example",
        "https://index.docker.io/v1/",
        "https://index.docker.io/v1/refresh-token",
    ] {
        assert_eq!(call(&work, "get", server).exits(1).stdout(), NOT_FOUND, "{server}");
    }
}

#[test]
fn a_ci_variable_that_is_handed_back_is_not_kept() {
    let work = Work::new();
    let request = json!({ "ServerURL": "r.example", "Username": "ci@1", "Secret": "pw" });
    let login = Program::helper(["store"])
        .envs([("REGISTRY_URL", "r.example"), ("REGISTRY_USERNAME", "ci@1")])
        .env("REGISTRY_PASSWORD", "pw")
        .input(request.to_string());
    // There is no store, and none is needed.
    work.run(login).success();
}

#[test]
fn list_leaves_standard_input_alone_and_names_what_get_answers() {
    let work = Work::new();
    store(&work, "r.example", "stored");
    let ran = work.run(
        Program::helper(["list"])
            .env("DOCKER_CREDENTIAL_ALIYUN_KEY_FILE", work.join("key"))
            .envs([("REGISTRY_URL_A", "a.example"), ("REGISTRY_USERNAME_A", "a")])
            .env("REGISTRY_PASSWORD_A", "pw")
            // Half of a login: `get` would fail, so it is not named.
            .envs([("REGISTRY_URL_B", "r.example"), ("REGISTRY_USERNAME_B", "b")]),
    );
    assert_eq!(ran.success().json(), json!({ "a.example": "a" }));
}
