//! A real `git daemon` with one repository.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::yield_now;

use tempfile::TempDir;

/// A repository that is served over `git://`; dropping it ends the server.
#[derive(Debug)]
pub struct GitServer {
    directory: TempDir,
    address: String,
    process: Child,
}

impl GitServer {
    /// Serves an empty repository.
    #[must_use]
    pub fn start() -> Self {
        let directory = TempDir::with_prefix("rig-git-").unwrap();
        let in_it = |program: &str| command(&directory, program);
        assert!(in_it("git").args(["init", "--quiet"]).status().unwrap().success());
        let programs = in_it("git").arg("--exec-path").output().unwrap();
        let programs = PathBuf::from(String::from_utf8(programs.stdout).unwrap().trim_end());
        let daemon = programs.join("git-daemon");
        loop {
            // It does not choose a port by itself: should another take this one first, it ends.
            let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let mut process = in_it(daemon.to_str().unwrap())
                .args(["--export-all", "--reuseaddr", "--listen=127.0.0.1"])
                .arg(format!("--port={}", free.port()))
                .arg(format!("--base-path={}", directory.path().display()))
                .stdin(Stdio::null())
                .spawn()
                .unwrap();
            while process.try_wait().unwrap().is_none() {
                if TcpStream::connect(free).is_ok() {
                    return Self { address: format!("git://{free}/.git"), directory, process };
                }
                yield_now();
            }
        }
    }

    /// What `git clone` takes.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Commits a file to the branch that is checked out, and gives the commit.
    pub fn commit(&self, path: &str, content: &str) -> String {
        std::fs::write(self.directory.path().join(path), content).unwrap();
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "a commit"]);
        self.git(&["rev-parse", "HEAD"]).trim_end().to_owned()
    }

    /// Runs `git` in the repository, and gives what it prints.
    pub fn git(&self, arguments: &[&str]) -> String {
        let output = command(&self.directory, "git").args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A program in the repository, with nothing of this machine's configuration.
fn command(directory: &TempDir, program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory.path());
    for variable in ["GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"] {
        command.env(variable, "/dev/null");
    }
    for who in ["AUTHOR", "COMMITTER"] {
        command
            .env(format!("GIT_{who}_NAME"), "rig")
            .env(format!("GIT_{who}_EMAIL"), "rig@rig.example");
    }
    command
}
