//! What these tests have in common.

use std::path::{Path, PathBuf};

use serde_json::json;
use smartbuild_test_rig::{Engine, Program, Work};

/// A RAM user, as Alibaba Cloud names them.
pub(crate) const USER: &str = "ci@5939306421830868";

/// A password with what quoting gets wrong.
pub(crate) const PASSWORD: &str = r#"p"w\ <&>$é'1"#;

/// What the protocol prints when there is nothing.
pub(crate) const NOT_FOUND: &str = "credentials not found in native keychain\n";

/// A directory whose `config.json` sends clients of this registry to our program.
pub(crate) fn configured(host: &str) -> Work {
    let work = Work::new();
    work.docker_config(&json!({ "credHelpers": { host: "aliyun" } }));
    work
}

/// Every `docker` program on the search path: the distribution's old one, and the newest to be had.
pub(crate) fn dockers() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<PathBuf> = Vec::new();
    for docker in std::env::split_paths(&path).map(|directory| directory.join("docker")) {
        let Ok(docker) = docker.canonicalize() else { continue };
        if !found.contains(&docker) {
            found.push(docker);
        }
    }
    assert!(!found.is_empty(), "there is no docker program; tests/run.sh installs it");
    found
}

/// One of these programs, pointed at the engine.
pub(crate) fn docker(program: &Path, arguments: &[&str]) -> Program {
    Program::named(program).args(arguments).engine(Engine::get())
}
