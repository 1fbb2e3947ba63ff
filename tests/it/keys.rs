//! The key as the program tells it: what it must cover of what surrounds the context, and how it says
//! what it does not use.

use serde_json::{Value, json};
use smartbuild_test_rig::{Program, Work};

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
