//! Password files, keys and certificates, made by the distribution's own programs.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// A line of an htpasswd file, with the only hash that the registry takes; the password goes
/// through a pipe, so that no process list shows it.
pub(crate) fn htpasswd(user: &str, password: &str) -> Vec<u8> {
    let mut process = Command::new("htpasswd")
        .args(["-n", "-i", "-B", "-C", "4", user])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("htpasswd cannot be started; tests/run.sh installs it (apache2-utils)");
    process.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success(), "htpasswd failed");
    output.stdout
}

/// Makes `ca.pem` and, signed by it, `server.pem` with `server-key.pem` for the loopback names.
pub(crate) fn certify(directory: &Path) {
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let new_key = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    openssl(&[
        &new_key,
        &["-x509", "-days", "2", "-subj", "/CN=rig authority"],
        &["-keyout", &path("ca-key.pem"), "-out", &path("ca.pem")],
    ]);
    openssl(&[
        &new_key,
        &["-x509", "-days", "2", "-subj", "/CN=localhost"],
        &["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        &["-addext", "basicConstraints=critical,CA:FALSE"],
        &["-CA", &path("ca.pem"), "-CAkey", &path("ca-key.pem")],
        &["-keyout", &path("server-key.pem"), "-out", &path("server.pem")],
    ]);
}

/// Runs the openssl program.
pub(crate) fn openssl(arguments: &[&[&str]]) {
    let output = Command::new("openssl")
        .args(arguments.concat())
        .output()
        .expect("openssl cannot be started; tests/run.sh installs it");
    assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
}

/// A private key as PEM.
pub(crate) fn key_pem(pkcs8: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(pkcs8);
    format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
}
