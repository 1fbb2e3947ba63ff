//! Programs, run with a clean environment, and what came of it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::work::Work;

/// A program to run: its arguments, input and environment.
///
/// The environment is empty but for `PATH` (with our own programs first, so that Docker finds
/// `docker-credential-aliyun`), `HOME`, and a `DOCKER_HOST` where nobody listens: a test that means
/// an engine says so with [`Program::engine`].
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, Option<OsString>)>,
    input: Vec<u8>,
    directory: Option<PathBuf>,
    limit: Duration,
    keychain: bool,
}

impl Program {
    /// A program of the system.
    #[must_use]
    pub fn named(name: impl AsRef<Path>) -> Self {
        Self {
            path: name.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            input: Vec::new(),
            directory: None,
            limit: Duration::from_secs(600),
            keychain: true,
        }
    }

    /// `smartbuild` with these arguments.
    #[must_use]
    pub fn smartbuild<S: AsRef<str>>(arguments: impl IntoIterator<Item = S>) -> Self {
        Self::ours("smartbuild").args(arguments)
    }

    /// `docker-credential-aliyun` with these arguments.
    #[must_use]
    pub fn helper<S: AsRef<str>>(arguments: impl IntoIterator<Item = S>) -> Self {
        Self::ours("docker-credential-aliyun").args(arguments)
    }

    fn ours(name: &str) -> Self {
        Self::named(Self::path_of(name))
    }

    /// Where one of our programs is, for a test that runs it in its own way.
    #[must_use]
    pub fn path_of(name: &str) -> PathBuf {
        let path = ours().join(name);
        let there = path.exists();
        assert!(there, "{} is not built: cargo build --workspace --bins", path.display());
        path
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<str>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|text| text.as_ref().into()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.into(), Some(value.as_ref().into())));
        self
    }

    /// Sets several environment variables.
    #[must_use]
    pub fn envs<'a>(self, variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        variables.into_iter().fold(self, |program, (name, value)| program.env(name, value))
    }

    /// Takes a variable out again, such as the rig's `DOCKER_HOST`.
    #[must_use]
    pub fn without_env(mut self, name: &str) -> Self {
        self.environment.push((name.into(), None));
        self
    }

    /// Points it at the engine.
    #[must_use]
    pub fn engine(self, engine: &Engine) -> Self {
        self.env("DOCKER_HOST", engine.host())
    }

    /// What it reads from its standard input; nothing otherwise.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Runs it in another directory.
    #[must_use]
    pub fn current_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.directory = Some(path.into());
        self
    }

    /// Fails the test if it runs longer than this (10 minutes otherwise).
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// For Docker's own program: where its `config.json` names no credentials at all, it would go
    /// and look for a keychain of the machine. So it gets a file that names some.
    pub(crate) fn without_keychain(mut self) -> Self {
        self.keychain = false;
        self
    }

    /// The line that runs it in a shell, in the directory of `work`.
    pub(crate) fn line(&self, work: &Work) -> String {
        let quoted = |text: &OsStr| format!("'{}'", text.to_string_lossy().replace('\'', r"'\''"));
        let mut words = vec!["env".into(), "-i".into(), "TERM=\"$TERM\"".to_owned()];
        let mut variable =
            |name: &str, value: &OsStr| words.push(format!("{name}={}", quoted(value)));
        variable("PATH", &search_path());
        variable("HOME", work.home().as_os_str());
        for (name, value) in &self.environment {
            if let Some(value) = value {
                variable(&name.to_string_lossy(), value);
            }
        }
        words.push(quoted(self.path.as_os_str()));
        words.extend(self.arguments.iter().map(|argument| quoted(argument)));
        format!("(cd {} && {})", quoted(work.path().as_os_str()), words.join(" "))
    }

    pub(crate) fn start(self, directory: &Path, home: &Path) -> Running {
        let config = home.join(".docker/config.json");
        if !self.keychain && !config.exists() {
            fs::create_dir_all(home.join(".docker")).unwrap();
            fs::write(config, r#"{"auths":{"nobody.invalid":{}}}"#).unwrap();
        }
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            .current_dir(self.directory.as_deref().unwrap_or(directory))
            .env_clear()
            .env("PATH", search_path())
            .env("HOME", home)
            .env("DOCKER_HOST", "unix:///the-test-asked-for-no-engine.sock")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let name = self.path.file_name().unwrap_or_default();
        let title = [name].into_iter().chain(self.arguments.iter().map(OsString::as_os_str));
        let title = title.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
        let started = Instant::now();
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{title}: {error}"));
        let mut stdin = child.stdin.take().unwrap();
        // A program need not read its input: a broken pipe is no failure.
        thread::spawn(move || stdin.write_all(&self.input));
        let stdout = collect(child.stdout.take().unwrap());
        let stderr = collect(child.stderr.take().unwrap());
        Running { child, title, started, limit: self.limit, stdout, stderr }
    }
}

/// Where cargo put the programs: two levels above the test's own executable.
fn ours() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().to_owned()
}

fn search_path() -> OsString {
    let theirs = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths([ours()].into_iter().chain(std::env::split_paths(&theirs))).unwrap()
}

fn collect(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        send.send(bytes)
    });
    receive
}

/// A program that runs; dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    title: String,
    started: Instant,
    limit: Duration,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
}

impl Running {
    /// Its process id, to send it a signal.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal by name, such as `INT`.
    pub fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status().unwrap();
        assert!(status.success(), "kill -s {name} {id}: {status}");
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end; past the limit the test fails.
    pub fn wait(mut self) -> Ran {
        let end = self.started + self.limit;
        let mut late = false;
        let mut take = |pipe: &Receiver<Vec<u8>>| {
            let left = end.saturating_duration_since(Instant::now());
            pipe.recv_timeout(left).unwrap_or_else(|_| {
                late = true;
                Vec::new()
            })
        };
        let (stdout, stderr) = (take(&self.stdout), take(&self.stderr));
        if late {
            let _ = self.child.kill();
        }
        let status = self.child.wait().unwrap();
        let ran = Ran {
            title: self.title.clone(),
            code: status.code(),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
            duration: self.started.elapsed(),
        };
        println!("{}", ran.text());
        assert!(!late, "`{}` did not end within {:?}", ran.title, self.limit);
        ran
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that has ended.
#[derive(Clone, Debug)]
pub struct Ran {
    title: String,
    code: Option<i32>,
    stdout: String,
    stderr: String,
    duration: Duration,
}

impl Ran {
    /// The exit code; -1 where a signal ended it.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.code.unwrap_or(-1)
    }

    /// What it wrote to its standard output.
    #[must_use]
    pub fn stdout(&self) -> &str {
        &self.stdout
    }

    /// What it wrote to its standard error.
    #[must_use]
    pub fn stderr(&self) -> &str {
        &self.stderr
    }

    /// How long it ran. For people: no test may depend on it.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// Its standard output as JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("not JSON: {error}\n{}", self.text()))
    }

    /// Asserts the exit code 0.
    #[track_caller]
    pub fn success(self) -> Self {
        self.exits(0)
    }

    /// Asserts this exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert!(self.code() == code, "expected exit code {code}\n{}", self.text());
        self
    }

    /// Asserts that the standard error has each of these texts.
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            let there = self.stderr.contains(text);
            assert!(there, "expected on stderr: {text}\n{}", self.text());
        }
        self
    }

    /// Asserts that neither output has this text.
    #[track_caller]
    pub fn hides(self, text: &str) -> Self {
        let shown = self.stdout.contains(text) || self.stderr.contains(text);
        assert!(!shown, "not expected in the output: {text}\n{}", self.text());
        self
    }

    /// Everything, for people.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { title, code, stdout, stderr, duration } = self;
        let code = code.map_or("a signal".to_owned(), |code| code.to_string());
        format!("--- {title} -> {code} after {duration:.2?}\n{stdout}--- stderr\n{stderr}---")
    }
}
