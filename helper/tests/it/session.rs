//! A desktop session of one's own: a D-Bus, and GNOME Keyring on it.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use smartbuild_test_rig::{Program, Ran, Work};
use tempfile::TempDir;

/// The session; its processes end when it is dropped.
pub(crate) struct Session {
    bus: Child,
    address: String,
    keyring: Option<Child>,
    directory: TempDir,
}

impl Session {
    /// A bus with a keyring that is unlocked.
    pub(crate) fn unlocked() -> Self {
        let mut session = Self::bus_only();
        session.start_keyring(&["--unlock"]);
        session
    }

    /// A bus with a keyring daemon that nobody has logged in to yet, as over ssh.
    pub(crate) fn without_login_keyring() -> Self {
        let mut session = Self::bus_only();
        session.start_keyring(&["--start"]);
        session
    }

    /// A bus, and nobody on it.
    pub(crate) fn bus_only() -> Self {
        let directory = TempDir::with_prefix("session-").unwrap();
        // No service files: nothing is started but what a test starts.
        let socket = directory.path().join("bus");
        let config = format!(
            "<busconfig><type>session</type><listen>unix:path={}</listen><policy context=\"default\">\
             <allow send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>",
            socket.display()
        );
        let config_path = directory.path().join("bus.conf");
        std::fs::write(&config_path, config).unwrap();
        let mut bus = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", config_path.display()))
            .args(["--nofork", "--nopidfile", "--print-address"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("dbus-daemon cannot be started; tests/run.sh installs it");
        let mut address = String::new();
        BufReader::new(bus.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { bus, address: address.trim().to_owned(), keyring: None, directory }
    }

    fn start_keyring(&mut self, mode: &[&str]) {
        let mut keyring = Command::new("gnome-keyring-daemon")
            .args(["--foreground", "--components=secrets"])
            .args(mode)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("DBUS_SESSION_BUS_ADDRESS", &self.address)
            .env("HOME", self.directory.path())
            .env("XDG_RUNTIME_DIR", self.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("gnome-keyring-daemon cannot be started; tests/run.sh installs it");
        // The pass-phrase of the keyring: a line, which is empty.
        let _ = keyring.stdin.take().unwrap().write_all(b"\n");
        self.keyring = Some(keyring);
        let owned = self.ask_bus(&["NameHasOwner", "string:org.freedesktop.secrets"]);
        if !owned.contains("true") {
            self.wait_for_secrets();
        }
    }

    /// The bus tells when somebody takes the name.
    fn wait_for_secrets(&self) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !self.ask_bus(&["NameHasOwner", "string:org.freedesktop.secrets"]).contains("true") {
            assert!(std::time::Instant::now() < deadline, "GNOME Keyring did not start");
            std::thread::yield_now();
        }
    }

    fn ask_bus(&self, call: &[&str]) -> String {
        let method = format!("org.freedesktop.DBus.{}", call[0]);
        self.send("org.freedesktop.DBus", "/org/freedesktop/DBus", &method, &call[1..])
    }

    fn send(&self, destination: &str, path: &str, method: &str, arguments: &[&str]) -> String {
        let output = Command::new("dbus-send")
            .arg(format!("--bus={}", self.address))
            .arg(format!("--dest={destination}"))
            .args(["--print-reply", path, method])
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Locks the login keyring, as a screen saver would.
    pub(crate) fn lock_keyring(&self) {
        let reply = self.send(
            "org.freedesktop.secrets",
            "/org/freedesktop/secrets",
            "org.freedesktop.Secret.Service.Lock",
            &["array:objpath:/org/freedesktop/secrets/collection/login"],
        );
        assert!(reply.contains("/collection/login"), "not locked: {reply}");
    }

    /// What tells a program that it is in this session.
    pub(crate) fn variables(&self) -> [(&'static str, OsString); 2] {
        [
            ("DBUS_SESSION_BUS_ADDRESS", self.address.clone().into()),
            ("XDG_RUNTIME_DIR", self.directory.path().into()),
        ]
    }

    /// A program in this session.
    pub(crate) fn join(&self, program: Program) -> Program {
        self.variables().iter().fold(program, |program, (name, value)| program.env(name, value))
    }

    /// Our helper, in this session.
    pub(crate) fn ours(&self, work: &Work, verb: &str, input: &str) -> Ran {
        work.run(self.join(Program::helper([verb])).input(input))
    }

    /// `docker-credential-secretservice`, in this session.
    pub(crate) fn theirs(&self, work: &Work, verb: &str, input: &str) -> Ran {
        let program = Program::named("docker-credential-secretservice").args([verb]);
        work.run(self.join(program).input(input))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for process in self.keyring.iter_mut().chain([&mut self.bus]) {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
