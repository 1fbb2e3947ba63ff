//! The key as the program tells it: what it must cover of what surrounds the context, and how it says
//! what it does not use.

use serde_json::{Value, json};
use smartbuild_test_rig::{Front, Image, Program, Registry, Rule, Work};

/// `smartbuild inputs` of a directory. No engine answers, for none is needed.
fn inputs(work: &Work, options: &[&str]) -> Value {
    work.run(program(&["inputs", "--json"], options)).success().json()
}

fn key(work: &Work, options: &[&str]) -> String {
    work.run(program(&["key"], options)).success().stdout().trim().to_owned()
}

fn program(command: &[&str], options: &[&str]) -> Program {
    Program::smartbuild(command.iter().chain(options).chain(&["."]))
        .env("DOCKER_HOST", "tcp://127.0.0.1:9")
}

#[test]
fn a_proxy_of_dockers_configuration_counts_where_a_stage_declares_it() {
    let work = Work::new();
    let proxied = |proxies: Value| {
        work.docker_config(&json!({ "proxies": proxies }));
        key(&work, &[])
    };
    let default = |proxy: &str| proxied(json!({ "default": { "httpProxy": proxy } }));
    work.write("Dockerfile", "FROM scratch\nARG http_proxy\nLABEL proxy=$http_proxy\n");
    let one = default("http://one:1");
    assert_ne!(one, default("http://two:2"));
    assert_ne!(one, proxied(json!({})));
    // That of the engine whose address is set goes before the default one.
    let own = |host: &str| {
        proxied(json!({
            "default": { "httpProxy": "http://two:2" },
            host: { "httpProxy": "http://one:1" },
        }))
    };
    assert_eq!(one, own("tcp://127.0.0.1:9"));
    assert_ne!(one, own("tcp://127.0.0.1:10"));
    // What is typed goes before both.
    let typed = |proxy: &str| key(&work, &["--build-arg", &format!("http_proxy={proxy}")]);
    assert_eq!(one, typed("http://one:1"));

    work.write("Dockerfile", "FROM scratch\nLABEL proxy=$http_proxy\n");
    assert_eq!(default("http://one:1"), default("http://two:2"), "nobody declares it");
}

#[test]
fn a_named_context_is_the_same_however_its_name_is_written() {
    let work = Work::new();
    work.write("Dockerfile", "FROM scratch\nCOPY --from=r.example/k/mv a /\n");
    work.write("dir/a", "1").write("dir/b", "1");
    let named = |name: &str| inputs(&work, &["--build-context", &format!("{name}=dir")]);
    let expected = named("r.example/k/mv");
    assert_eq!(expected["contexts"]["r.example/k/mv"][0]["path"], "a", "{expected}");
    assert_eq!(named("r.example/k/mv:latest"), expected);
    let gone = program(&["key"], &["--build-context", "x=gone"]);
    work.run(gone).exits(2).says(&["--build-context x=gone", "no such directory"]);
}

#[test]
fn a_stage_on_a_directory_knows_all_of_its_variables() {
    let work = Work::new();
    work.write("Dockerfile", "FROM base\nCOPY $WHO/a /\n").write("dir/x", "1");
    work.write("a", "1").write("b", "1");
    let options = ["--build-context", "base=dir"];
    let before = key(&work, &options);
    work.write("b", "2");
    assert_eq!(key(&work, &options), before);
    work.write("a", "2");
    assert_ne!(key(&work, &options), before);
}

#[test]
fn a_dockerfile_on_standard_input_lies_beside_no_ignore_file() {
    let work = Work::new();
    work.write("a", "1").write("Dockerfile.dockerignore", "a").write(".dockerignore", "b");
    work.write("b", "1");
    let key = || {
        let program = program(&["key"], &["-f", "-"]).input("FROM scratch\nCOPY a b* /\n");
        work.run(program).success().stdout().to_owned()
    };
    let before = key();
    work.write("b", "2");
    assert_eq!(key(), before, "it is ignored");
    work.write("a", "2");
    assert_ne!(key(), before, "it is not");
}

#[cfg(unix)]
#[test]
fn parents_are_kept_from_the_pivot_on() {
    let work = Work::new();
    work.write("Dockerfile", "FROM scratch\nCOPY --parents l/./b /\n");
    work.write("target/b", "1").write("target/c", "1").symlink("target", "l");
    let before = key(&work, &[]);
    work.write("target/c", "2");
    assert_eq!(key(&work, &[]), before);
    work.write("target/b", "2");
    assert_ne!(key(&work, &[]), before, "the link is followed");
}

#[test]
fn a_remote_file_counts_by_its_etag_or_else_by_its_content() {
    let (work, front) = (Work::new(), Front::alone());
    let date = "Mon, 23 Nov 2026 00:00:00 GMT";
    let serve = |methods: &[&str], content: &str, tag: Option<&str>| {
        front.heal();
        for method in methods {
            let rule = Rule::status(200).body(content).header("last-modified", date);
            let rule = tag.into_iter().fold(rule, |rule, tag| rule.header("etag", tag));
            front.on(method, "/file", rule);
        }
    };
    work.write("Dockerfile", format!("FROM scratch\nADD http://{}/file /\n", front.host()));
    let both = ["HEAD", "GET"];
    serve(&both, "1", None);
    let dated = key(&work, &[]);
    serve(&both, "2", None);
    assert_ne!(key(&work, &[]), dated, "same date, same length");
    serve(&both, "1", None);
    assert_eq!(key(&work, &[]), dated);
    serve(&both, "1", Some("\"x\""));
    let tagged = key(&work, &[]);
    assert_ne!(tagged, dated);
    // With --refresh too, and where the server does not know HEAD.
    let refreshed = key(&work, &["--refresh", "weekly"]);
    serve(&["GET"], "1", Some("\"x\""));
    assert_eq!(key(&work, &[]), tagged);
    assert_eq!(key(&work, &["--refresh", "weekly"]), refreshed);
    front.heal();
    front.on("GET", "/file", Rule::status(503));
    front.on("HEAD", "/file", Rule::status(503));
    assert_eq!(inputs(&work, &["--refresh", "weekly"])["skippable"], false);
}

#[test]
fn what_was_given_and_nothing_uses_is_said() {
    let work = Work::new();
    work.write("Dockerfile", "ARG BASE=scratch\nFROM $BASE AS build\nARG VERSION\nFROM build\n");
    work.write("dir/a", "1");
    let says = |options: &[&str], texts: &[&str]| {
        let ran = work.run(program(&["key"], options)).success();
        assert_eq!(ran.stderr().is_empty(), texts.is_empty(), "{options:?}: {}", ran.stderr());
        ran.says(texts);
    };
    says(&["--build-arg", "VERSOIN=1"], &["VERSOIN", "there is `VERSION`"]);
    says(&["--build-arg", "other=1"], &["other"]);
    says(&["--build-context", "biuld=dir"], &["biuld"]);
    says(&["--no-cache-filter", "biuld"], &["biuld", "there is `build`"]);
    says(&["--cache-stages=biuld"], &["biuld", "there is `build`"]);
    for argument in ["BASE=scratch", "VERSION=1", "http_proxy=x", "BUILDKIT_X=1", "TARGETOS=linux"]
    {
        says(&["--build-arg", argument], &[]);
    }
    says(&["--build-context", "build=dir"], &[]);
    says(&["--no-cache-filter", "Build"], &[]);
}

#[test]
fn a_stage_whose_name_is_mistyped_is_said_to_be_none() {
    let (work, registry) = (Work::new(), Front::alone());
    work.write("Dockerfile", "FROM scratch AS build\nFROM scratch\nCOPY --from=biuld / /\n");
    let program = program(&["key"], &[]).env("HTTPS_PROXY", format!("http://{}", registry.host()));
    let ran = work.run(program).exits(3);
    ran.says(&["Dockerfile line 3", "no stage is called `biuld`; there is `build`"]);
}

#[test]
#[ignore = "needs a registry: run tests/run.sh"]
fn a_base_of_the_32_bit_architecture_does_where_there_is_no_other() {
    let (work, registry) = (Work::new(), Registry::open());
    let image = Image::scratch().files(&[("etc/x", "x")]).platform("linux/386").env("A", "a");
    registry.push_index("base", "1", &[&image]);
    let text = format!("FROM {}\nCOPY $A /\n", registry.name("base:1"));
    work.write("Dockerfile", text).write("a", "1").write("b", "1");
    let before = key(&work, &["--platform", "linux/amd64"]);
    work.write("b", "2");
    assert_eq!(key(&work, &["--platform", "linux/amd64"]), before, "its variables are known");
    work.run(program(&["key"], &["--platform", "linux/s390x"])).exits(3).says(&["s390x"]);
}
