//! A Docker Engine of a benchmark's own, which begins empty. It needs `dockerd` and root.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use smartbuild_test_rig::unique;

/// A running engine. Dropping it ends it and removes what it stored.
pub(crate) struct Daemon {
    process: Child,
    home: PathBuf,
    _bridge: Bridge,
}

impl Daemon {
    /// Starts one whose files are in a directory that is not there yet, and waits until it answers.
    pub(crate) fn start(home: &Path) -> Self {
        fs::create_dir_all(home).unwrap();
        let log = fs::File::create(home.join("log")).unwrap();
        let path = |name: &str| home.join(name).display().to_string();
        // A bridge of its own: told to have none, an engine takes away that of the machine's.
        let bridge = Bridge::make();
        let process = Command::new("dockerd")
            .args(["--host", &format!("unix://{}", path("sock"))])
            .args(["--data-root", &path("data"), "--exec-root", &path("exec")])
            .args(["--pidfile", &path("pid"), "--bridge", &bridge.0])
            .args(["--iptables=false", "--ip6tables=false", "--ip-masq=false"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let daemon = Self { process, home: home.to_owned(), _bridge: bridge };
        let end = Instant::now() + Duration::from_secs(60);
        while !daemon.answers() {
            let log = || fs::read_to_string(home.join("log")).unwrap_or_default();
            assert!(Instant::now() < end, "no engine: {}", log());
            thread::sleep(Duration::from_millis(50));
        }
        daemon
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.home.join("sock")
    }

    fn answers(&self) -> bool {
        let host = format!("unix://{}", self.socket().display());
        let run = Command::new("docker").args(["-H", &host, "version"]).output();
        run.is_ok_and(|run| run.status.success())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Asked to, it ends its containerd and takes down its mounts.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(self.home.join("data"));
    }
}

/// A network bridge, by its name; it goes when it is dropped.
struct Bridge(String);

impl Bridge {
    fn make() -> Self {
        let name = format!("sb{}", unique("").trim_start_matches('-'));
        let bridge = Self(name);
        let address = format!("10.{}.{}.1/24", fastrand::u8(200..250), fastrand::u8(..));
        bridge.ip(&["link", "add", &bridge.0, "type", "bridge"]);
        bridge.ip(&["addr", "add", &address, "dev", &bridge.0]);
        bridge.ip(&["link", "set", &bridge.0, "up"]);
        bridge
    }

    fn ip(&self, arguments: &[&str]) {
        let run = Command::new("ip").args(arguments).status().unwrap();
        assert!(run.success(), "ip {arguments:?}: {run}");
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &self.0]).status();
    }
}
