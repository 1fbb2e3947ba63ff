//! Proxies, as the environment names them. They are found by the program itself, so it is run.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    sync::mpsc,
    thread,
};

use smartbuild_test_rig::{Program, Registry, Work};

/// A proxy that refuses everything, and tells the heads of the requests that came.
fn proxy() -> (String, mpsc::Receiver<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (send, heads) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let head = lines.take_while(|line| !line.is_empty()).collect();
            let _ = (&stream).write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
            if send.send(head).is_err() {
                return;
            }
        }
    });
    (address.to_string(), heads)
}

fn check(work: &Work, tag: &str) -> Program {
    work.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    Program::smartbuild(["check", "--push", "-t", tag, "."])
}

#[test]
fn a_registry_elsewhere_is_reached_by_way_of_the_proxy() {
    let (address, heads) = proxy();
    let work = Work::new();
    let program = check(&work, "r.example/app:1");
    let ran = work.run(program.env("HTTPS_PROXY", format!("http://ci:hunter2@{address}")));
    let ran = ran.exits(3).hides("hunter2").says(&["HTTPS_PROXY is set"]);
    let head = heads.recv().unwrap();
    assert_eq!(head[0], "CONNECT r.example:443 HTTP/1.1", "{}", ran.stderr());
    assert!(head.iter().any(|line| line.to_lowercase().starts_with("proxy-authorization: basic")));
}

#[test]
#[ignore = "needs a registry: run tests/run.sh"]
fn a_registry_on_this_machine_is_reached_without_a_proxy() {
    let registry = Registry::open();
    let (address, heads) = proxy();
    let work = Work::new();
    let mut program = check(&work, &registry.name("app:1"));
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
        program = program.env(name, format!("http://{address}"));
    }
    work.run(program).exits(1);
    assert!(heads.try_recv().is_err());
}
