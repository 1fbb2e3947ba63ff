//! Calls that no client makes, and their exact answers.

use smartbuild_test_rig::{Program, Work};

use crate::rig::{NOT_FOUND, PASSWORD, USER};

const USAGE: &str = "Usage: docker-credential-aliyun <store|get|erase|list|version>\n";

/// stdout, stderr and exit code of a call with CI variables for `r.example`.
fn call(arguments: &[&str], input: &[u8]) -> (String, String, i32) {
    let program = Program::helper(arguments)
        .env("REGISTRY_URL", "r.example")
        .env("REGISTRY_USERNAME", USER)
        .env("REGISTRY_PASSWORD", PASSWORD)
        .input(input);
    let ran = Work::new().run(program);
    (ran.stdout().to_owned(), ran.stderr().to_owned(), ran.code())
}

fn answer(stdout: &str, stderr: &str, code: i32) -> (String, String, i32) {
    (stdout.to_owned(), stderr.to_owned(), code)
}

/// A hard failure: the reason on stdout for the client, and on stderr for the person.
fn failure(reason: &str) -> (String, String, i32) {
    answer(&format!("{reason}\n"), &format!("docker-credential-aliyun: {reason}\n"), 1)
}

#[test]
fn arguments() {
    let version =
        concat!("docker-credential-aliyun (smartbuild) v", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(call(&[], b""), answer(USAGE, "", 1));
    assert_eq!(call(&["get", "store"], b""), answer(USAGE, "", 1));
    assert_eq!(call(&["list", ""], b""), answer(USAGE, "", 1));
    let unknown = "docker-credential-aliyun: unknown action: fetch\n";
    assert_eq!(call(&["fetch"], b""), answer(unknown, "", 1));
    for verb in ["version", "--version", "-v"] {
        assert_eq!(call(&[verb], b"ignored"), answer(version, "", 0));
    }
}

#[test]
fn requests() {
    assert_eq!(call(&["get"], b""), failure("no credentials server URL"));
    assert_eq!(call(&["get"], b"\r\n"), failure("no credentials server URL"));
    let control = "the registry address contains control characters";
    assert_eq!(call(&["get"], b"r.example\0"), failure(control));
    assert_eq!(call(&["get"], b"\xc3\x28"), failure("the server address is not valid UTF-8"));
    let mebibyte = vec![b'a'; 1 << 20];
    assert_eq!(call(&["get"], &mebibyte), answer(NOT_FOUND, "", 1));
    let more = [&mebibyte[..], b"a"].concat();
    assert_eq!(call(&["get"], &more), failure("the request is longer than 1 MiB"));
    assert_eq!(call(&["store"], &more), failure("the request is longer than 1 MiB"));
    let cut = br#"{"ServerURL":"r.example","Username":"u","Sec"#;
    assert_eq!(call(&["store"], cut), failure("the JSON of the request is cut off"));
    assert_eq!(call(&["erase"], b"never.stored"), answer("", "", 0));
    assert_eq!(call(&["erase"], b""), failure("no credentials server URL"));
}

#[test]
fn an_answer_is_silent_on_stderr() {
    let json = r#"{"ServerURL":"https://r.example/v2/","Username":"ci@5939306421830868","Secret":"p\"w\\ <&>$é'1"}"#;
    let expected = answer(&format!("{json}\n"), "", 0);
    assert_eq!(call(&["get"], b"https://r.example/v2/\n"), expected);
    let expected = answer("{\"r.example\":\"ci@5939306421830868\"}\n", "", 0);
    assert_eq!(call(&["list"], b"unused"), expected);
}
