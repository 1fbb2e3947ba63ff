//! The commands for people, without a terminal.

use std::path::Path;

use serde_json::json;
use smartbuild_test_rig::{Program, Ran, Registry, Work};

use crate::rig::{PASSWORD, USER, configured};

/// Logs in without a terminal, into the encrypted file with a key of its own making.
fn login(host: &str, password: &str) -> Program {
    Program::helper(["login", "--store", "file", "--username", USER, "--password-stdin", host])
        .input(format!("{password}\n"))
}

fn doctor(host: &str) -> Program {
    Program::helper(["doctor", host])
}

/// Asserts that a finding is there, with what to do about it.
#[track_caller]
fn finds(ran: &Ran, finding: &str, advice: &str) {
    let mut lines = ran.stdout().lines();
    let found = lines.find(|line| line.contains(finding));
    assert!(found.is_some(), "expected: {finding}\n{}", ran.text());
    let next = lines.next().unwrap_or_default();
    assert!(next.contains("-> ") && next.contains(advice), "expected: -> {advice}\n{}", ran.text());
}

#[test]
fn help_version_completions_and_manual_are_printed() {
    let run = |arguments: &[&str]| Work::new().run(Program::helper(arguments)).success();
    assert!(run(&["--help"]).stdout().contains("docker-credential-aliyun login registry."));
    assert!(run(&["login", "--help"]).stdout().contains("--password-stdin"));
    assert!(run(&["completions", "bash"]).stdout().contains("docker-credential-aliyun"));
    assert!(run(&["completions", "zsh"]).stdout().contains("#compdef docker-credential-aliyun"));
    assert!(run(&["man"]).stdout().contains(".Dt DOCKER-CREDENTIAL-ALIYUN 1"));
    Work::new().run(Program::helper(["login"])).exits(2).says(&["<HOST>"]);
    let store = Work::new().run(Program::helper(["login", "--store", "foo", "r.example"])).exits(2);
    store.says(&["there is no store called \"foo\"", "keyutils"]).hides("ALIYUN_STORE");
    Work::new().run(Program::helper(["login", "a b"])).exits(1).says(&["not a registry address"]);
}

#[test]
fn without_a_terminal_nobody_is_asked() {
    let key = "00".repeat(32);
    let ask = |arguments: &[&str]| {
        let program = Program::helper(arguments).env("DOCKER_CREDENTIAL_ALIYUN_KEY", &key);
        Work::new().run(program).exits(1)
    };
    ask(&["login", "r.example"]).says(&["there is no terminal to ask at", "--password-stdin"]);
    ask(&["login", "--password-stdin", "r.example"]).says(&["--password-stdin needs --username"]);
    ask(&["login", "--password-stdin", "-u", "u", "r.example"]).says(&["the password is empty"]);
    ask(&["login", "--password-stdin", "-u", "a:b", "r.example"]).says(&["contains a colon"]);
    for argument in [&["-p", "hunter2"][..], &["--password=hunter2"]] {
        let ran = ask(&[&["login", "r.example", "-u", USER], argument].concat());
        ran.says(&["--password-stdin"]).hides("hunter2");
    }
}

#[test]
fn without_a_store_login_says_the_ways_out_before_it_asks() {
    let program = Program::helper(["login", "-u", USER, "--password-stdin", "r.example"]);
    let ran = Work::new().run(program.input(PASSWORD)).exits(1);
    let ways = ["--store file", "DOCKER_CREDENTIAL_ALIYUN_STORE=keyutils", "REGISTRY_USERNAME"];
    let ran = ran.says(&["no place to keep a secret"]).says(&ways);
    assert_eq!(ran.stderr().lines().count(), 1);
}

#[test]
fn a_login_that_fails_and_a_logout_leave_no_store_behind() {
    let work = Work::new();
    work.run(login("127.0.0.1:1", PASSWORD)).exits(1);
    let logout = ["logout", "--store", "file", "r.example"];
    work.run(Program::helper(logout)).success().says(&["There was no password of r.example"]);
    for place in [".config", ".local/share"] {
        assert!(!work.home().join(place).join("docker-credential-aliyun").exists(), "{place}");
    }
    // A file whose key is gone is told as that: to log in once more would not help.
    let kept = || login("r.example", PASSWORD).args(["--no-check"]);
    work.run(kept()).success();
    work.remove("../home/.config/docker-credential-aliyun/key");
    work.run(kept())
        .exits(1)
        .says(&["credentials.json is not there: put it back", "remove the file"]);
}

#[test]
fn a_login_behind_another_one_says_how_to_come_before_it() {
    let work = Work::new();
    let kept = || login("r.example", PASSWORD).args(["--no-check"]);
    let variables = [("REGISTRY_URL", "r.example"), ("REGISTRY_USERNAME", USER)];
    let ran = work.run(kept().envs(variables).env("REGISTRY_PASSWORD", "other")).success();
    ran.says(&["But REGISTRY_USERNAME and REGISTRY_PASSWORD will be used", "unset what names it"]);
}

#[test]
#[ignore = "needs a registry: run tests/run.sh"]
fn login_proves_stores_and_logout_forgets() {
    for registry in [Registry::htpasswd(USER, PASSWORD), Registry::token(USER, PASSWORD)] {
        let (host, work) = (registry.host(), Work::new());
        let refused = work.run(login(host, "wrong")).exits(1);
        refused.says(&["does not accept the user name", USER, "check the user name"]);
        let get = || work.run(Program::helper(["get"]).input(host));
        get().exits(1);

        let ran = work.run(login(host, PASSWORD)).success().hides(PASSWORD);
        let said = ran.says(&[
            &format!("Logged in to {host} as {USER}."),
            "The password is in the encrypted file ",
            &format!("run `docker-credential-aliyun configure {host}`"),
        ]);
        assert_eq!(said.stdout(), "");
        assert_eq!(get().success().json()["Secret"], PASSWORD);

        work.run(Program::helper(["configure", host])).success();
        work.run(login(host, PASSWORD)).success().hides("configure");
        let status = work.run(Program::helper(["status", "--json"])).success().hides(PASSWORD);
        let entry = &status.json()[0];
        assert_eq!(
            (&entry["host"], &entry["configured"], &entry["username"], &entry["source"]),
            (&json!(host), &json!(true), &json!(USER), &json!("store"))
        );
        work.run(doctor(host)).success().hides(PASSWORD);

        work.run(Program::helper(["logout", host])).success().says(&["is gone from the encrypted"]);
        work.run(Program::helper(["logout", host])).success().says(&["There was no password of"]);
        get().exits(1);
    }
}

#[test]
fn configure_edits_and_status_shows() {
    let work = configured("old.example");
    let configure = |arguments: &[&str]| {
        let all = [&["configure"], arguments].concat();
        work.run(Program::helper(all))
    };
    let dry = configure(&["--dry-run", "new.example"]).success();
    dry.says(&["config.json: `new.example` would be added"]);
    let before = work.read("../home/.docker/config.json");
    assert!(!before.contains("new.example"));
    configure(&["https://New.example/", "old.example"])
        .success()
        .says(&["`new.example` added", "nothing to do for `old.example`"]);
    let after: serde_json::Value =
        serde_json::from_str(&work.read("../home/.docker/config.json")).unwrap();
    assert_eq!(
        after,
        json!({ "credHelpers": { "old.example": "aliyun", "new.example": "aliyun" } })
    );
    let status = work.run(Program::helper(["status"])).success();
    assert!(status.stdout().contains("new.example: no login\n"), "{}", status.text());
    configure(&["--remove", "new.example"]).success().says(&["`new.example` removed"]);
    configure(&["--podman", "p.example"]).success().says(&["config.json", "auth.json"]);
    assert!(work.read("../home/.config/containers/auth.json").contains("p.example"));
    configure(&["--remove", "old.example"]).success().hides("auth.json: `old.example` removed");
    configure(&["--remove"]).success().says(&["auth.json: `p.example` removed"]);
    assert!(!work.read("../home/.config/containers/auth.json").contains("p.example"));
    configure(&["not/a/host"]).exits(1).says(&["\"not/a/host\" is not a registry alone"]);
    configure(&["--dry-run", "https://new.example/v2/", "x.example/"]).success();
    configure(&["--file", "other.json", "f.example"]).success();
    assert!(work.read("other.json").contains("f.example"));
    work.write("../home/.docker/config.json", "{ broken");
    configure(&["x.example"]).exits(1).says(&["is left as it is: mend it by hand"]);
    assert_eq!(work.read("../home/.docker/config.json"), "{ broken");
    // What is broken keeps nobody from the rest.
    configure(&["--podman", "x.example"]).exits(1).says(&["auth.json: `x.example` added"]);
    configure(&["--remove"]).exits(1).says(&["mend it", "auth.json: `x.example` removed"]);
}

#[test]
fn configure_tells_of_readable_passwords_without_showing_them() {
    let work = Work::new();
    work.docker_config(&json!({ "auths": { "https://r.example": { "auth": "dTpodW50ZXIy" } } }));
    let ran = work.run(Program::helper(["configure", "r.example"])).success();
    ran.hides("dTpodW50ZXIy").says(&["a readable password of r.example", "docker logout"]);
    // Podman looks first into a file of its own.
    let program = Program::helper(["configure", "--podman", "r.example"]);
    work.write("run/containers/auth.json", r#"{"auths":{"r.example":{"auth":"dTpodW50ZXIy"}}}"#);
    let program = program.env("XDG_RUNTIME_DIR", work.join("run"));
    let ran = work.run(program).success().hides("dTpodW50ZXIy");
    ran.says(&["run/containers/auth.json: there is a readable password", "podman logout"]);
}

#[test]
fn configure_without_hosts_takes_the_known_ones() {
    let work = Work::new();
    work.run(Program::helper(["configure"])).exits(1).says(&["no registry is known yet"]);
    let program = Program::helper(["configure"])
        .envs([("REGISTRY_URL", "r.example"), ("REGISTRY_USERNAME", "u")])
        .env("REGISTRY_PASSWORD", "p");
    work.run(program).success().says(&["`r.example` added"]);
}

#[test]
#[ignore = "needs a registry: run tests/run.sh"]
fn doctor_finds_an_untrusted_certificate_and_trusts_a_named_one() {
    let registry = Registry::builder().htpasswd(USER, PASSWORD).tls().start();
    let host = registry.host();
    let work = configured(host);
    let program = || {
        doctor(host)
            .envs([("REGISTRY_URL", host), ("REGISTRY_USERNAME", USER)])
            .env("REGISTRY_PASSWORD", PASSWORD)
    };
    let ran = work.run(program()).exits(1);
    finds(&ran, &format!("no trusted TLS connection to {host}"), "set SSL_CERT_FILE");
    let login = work.run(login(host, PASSWORD)).exits(1);
    login.says(&["no trusted TLS connection", "SSL_CERT_FILE"]);
    let ran = work.run(program().env("SSL_CERT_FILE", registry.ca().unwrap())).success();
    assert!(ran.stdout().contains(&format!("{host} accepts the login of {USER}")));
}

#[test]
fn doctor_finds_a_host_without_address_and_a_dead_proxy() {
    let ran = Work::new().run(doctor("registry.invalid")).exits(1);
    finds(&ran, "the host name registry.invalid has no address", "check the host's name");
    let program = doctor("registry.invalid").env("HTTPS_PROXY", "http://u:hunter2@127.0.0.1:1");
    let ran = Work::new().run(program).exits(1).hides("hunter2");
    finds(&ran, "through the proxy 127.0.0.1:1", "HTTPS_PROXY");
    let vpc = "registry-vpc.cn-hangzhou.aliyuncs.com";
    let ran = Work::new().run(doctor(vpc).env("HTTPS_PROXY", "")).exits(1);
    finds(&ran, &format!("{vpc} has no address"), "inside the network of region cn-hangzhou");
}

#[test]
fn doctor_finds_another_program_of_the_name() {
    let work = Work::new();
    work.write("bin/docker-credential-aliyun", "#!/bin/sh\n");
    work.chmod("bin/docker-credential-aliyun", 0o755);
    let program = doctor("127.0.0.1:1").env("PATH", work.join("bin"));
    let ran = work.run(program).exits(1);
    finds(&ran, "which is not this program", "first on the PATH");
    let ran = work.run(doctor("127.0.0.1:1").env("PATH", Path::new("/nowhere"))).exits(1);
    finds(&ran, "it is not on the PATH", "to the PATH");
}
