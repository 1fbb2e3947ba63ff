//! What a build costs the engine's side: bytes sent to the engine and time, side by side with the
//! docker command line and its two builders, on engines of their own that begin empty.
//!
//! ```text
//! cargo bench --bench engine                  # 10,000 files of 200 MB; 100,000 files; stages
//! cargo bench --bench engine -- context       # only the first: `context`, `many` or `stages`
//! SMARTBUILD_BENCH_DIR=/somewhere cargo bench ...   # where fixtures and engines' data are made
//! ```
//!
//! It needs `docker`, `dockerd` and `docker-registry`, and root for the engines. Nothing is skipped
//! in the first two parts: each build of `smartbuild` has a label of its own, so that what is
//! compared is building.

#![allow(clippy::print_stdout, reason = "it prints what it measures")]
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

mod apart;

use std::{
    env, fs,
    io::{self, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use apart::Daemon;
use smartbuild_test_rig::{Registry, unique};

const DOCKERFILE: &str = "FROM scratch\nCOPY . /src\n";

fn main() {
    let parts: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|word| word == part);
    let base = env::var_os("SMARTBUILD_BENCH_DIR").map_or_else(env::temp_dir, PathBuf::from);
    if wanted("context") {
        compare(&base);
    }
    if wanted("many") {
        many(&base);
    }
    if wanted("stages") {
        stages(&base);
    }
}

/// 10,000 files of 200 MB: first build, unchanged, one file changed.
fn compare(base: &Path) {
    println!("200 MB in 10,000 files, `FROM scratch`, `COPY . /src`\n");
    println!("| | first build | unchanged | one file changed | memory |");
    println!("|---|---|---|---|---|");
    let mut tar: Option<Vec<Cost>> = None;
    for who in [Who::Classic, Who::BuildKit, Who::Ours] {
        let directory = tempfile::tempdir_in(base).unwrap();
        let context = fixture(&directory.path().join("context"), 10_000, 20_000);
        let engine = Engine::start(directory.path());
        let first = engine.build(who, &context, &[]);
        let unchanged = best((0..3).map(|_| engine.build(who, &context, &[])));
        let changed = best((0..3).map(|_| {
            fs::write(context.join("d7/f7"), unique("changed")).unwrap();
            engine.build(who, &context, &[])
        }));
        let costs = vec![first, unchanged, changed];
        let memory = costs.iter().map(|cost| cost.memory).max().unwrap();
        let tar = tar.get_or_insert_with(|| costs.clone());
        let cell = |(cost, tar): (&Cost, &Cost)| {
            format!("{}, {} ({:.2})", bytes(cost.sent), time(cost.time), cost.ratio(tar))
        };
        let cells: Vec<_> = costs.iter().zip(tar.iter()).map(cell).collect();
        println!("| {} | {} | {:.0} MB |", who.name(), cells.join(" | "), mega(memory));
    }
    println!("\nIn brackets: the time against that of the tar.\n");
}

/// 100,000 files go through, in little memory.
fn many(base: &Path) {
    let directory = tempfile::tempdir_in(base).unwrap();
    let context = fixture(&directory.path().join("context"), 100_000, 100);
    let engine = Engine::start(directory.path());
    let first = engine.build(Who::Ours, &context, &[]);
    let again = engine.build(Who::Ours, &context, &[]);
    println!("100,000 files of 100 bytes:");
    for (what, cost) in [("first build", first), ("unchanged", again)] {
        let (sent, took) = (bytes(cost.sent), time(cost.time));
        println!("  {what}: {sent}, {took}, at most {:.0} MB of memory", mega(cost.memory));
    }
    println!();
}

/// A source file changes, on an engine that has nothing (a fresh runner) and on the one that built
/// before; with and without `--cache-stages`.
fn stages(base: &Path) {
    println!(
        "stages: `deps` runs for a while and leaves 60 MB, `build` takes a copy of the source\n"
    );
    println!("| `deps` runs for | | first build | source changed, same engine | fresh engine |");
    println!("|---|---|---|---|---|");
    for rounds in [0, 20] {
        let mut plain: Option<Vec<Cost>> = None;
        for option in [None, Some("--cache-stages")] {
            let registry = Registry::open();
            let name = registry.name(&unique("stages"));
            let work = tempfile::tempdir_in(base).unwrap();
            let context = work.path().join("context");
            fs::create_dir(&context).unwrap();
            fs::write(context.join("source"), unique("one")).unwrap();
            fs::write(context.join("Dockerfile"), staged(&registry.push_base(), rounds)).unwrap();
            let build = |engine: &Engine| {
                let push = ["--push", "-t", &format!("{name}:1"), "--network=none"];
                let options: Vec<_> = push.into_iter().chain(option).collect();
                let cost = engine.build(Who::Ours, &context, &options);
                fs::write(context.join("source"), unique("next")).unwrap();
                cost
            };
            let (home, fresh) = (work.path().join("1"), work.path().join("2"));
            let (first, again) = {
                let engine = Engine::start(&home);
                (build(&engine), build(&engine))
            };
            let fresh = build(&Engine::start(&fresh));
            let costs = vec![first, again, fresh];
            let plain = plain.get_or_insert_with(|| costs.clone());
            let cell = |(cost, plain): (&Cost, &Cost)| {
                format!("{} ({:.2})", time(cost.time), cost.ratio(plain))
            };
            let cells: Vec<_> = costs.iter().zip(plain.iter()).map(cell).collect();
            println!("| {rounds} rounds | {} | {} |", option.unwrap_or(""), cells.join(" | "));
        }
    }
    println!("\nIn brackets: against the same without the option.\n");
}

/// A Dockerfile whose first stage takes so many rounds of work.
fn staged(base: &str, rounds: u32) -> String {
    format!(
        "FROM {base} AS deps\n\
         RUN head -c 60000000 /dev/urandom > /deps; i=0; \
         while [ $i -lt {rounds} ]; do sha256sum /deps > /sum; i=$((i+1)); done\n\
         FROM deps AS build\nCOPY source /source\nRUN cat /source /sum > /result || cp /source /result\n\
         FROM {base}\nCOPY --from=build /result /result\n"
    )
}

/// Who builds.
#[derive(Clone, Copy)]
enum Who {
    Classic,
    BuildKit,
    Ours,
}

impl Who {
    fn name(self) -> &'static str {
        match self {
            Self::Classic => "`docker build`, classic (a tar)",
            Self::BuildKit => "`docker build`, BuildKit",
            Self::Ours => "`smartbuild`",
        }
    }

    fn command(self, context: &Path) -> Command {
        let docker = |buildkit| {
            let mut command = Command::new(docker_program());
            command.env("DOCKER_BUILDKIT", buildkit).args(["build", "-q", "-f"]);
            command.arg(context.join("Dockerfile")).args(["-t", "bench:1"]);
            command
        };
        let mut command = match self {
            Self::Classic => docker("0"),
            Self::BuildKit => docker("1"),
            Self::Ours => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_smartbuild"));
                let label = format!("--label=bench={}", unique("build"));
                command.args(["--progress=plain", "--offline", &label, "-t", "bench:1"]);
                command
            }
        };
        command.arg(context);
        command
    }
}

/// A `docker` program that can build with BuildKit: a newer one cannot without its plugin.
fn docker_program() -> &'static str {
    let can = |program: &&&str| {
        let mut command = Command::new(program);
        let tried = command.env("DOCKER_BUILDKIT", "1").args(["build", "/nowhere"]).output();
        tried.is_ok_and(|tried| !String::from_utf8_lossy(&tried.stderr).contains("buildx"))
    };
    ["docker", "/usr/bin/docker"].iter().find(can).expect("no docker program here has BuildKit")
}

/// What a build cost.
#[derive(Clone)]
struct Cost {
    time: Duration,
    /// Bytes that went to the engine.
    sent: u64,
    /// The largest memory of the client, in bytes.
    memory: u64,
}

impl Cost {
    fn ratio(&self, other: &Self) -> f64 {
        self.time.as_secs_f64() / other.time.as_secs_f64()
    }
}

fn best(costs: impl Iterator<Item = Cost>) -> Cost {
    costs.min_by_key(|cost| cost.time).unwrap()
}

/// An engine with an empty store, behind a proxy that counts what is sent to it.
struct Engine {
    _daemon: Daemon,
    home: PathBuf,
    sent: Arc<AtomicU64>,
}

impl Engine {
    fn start(directory: &Path) -> Self {
        let home = directory.join("engine");
        fs::create_dir_all(home.join("home/.docker")).unwrap();
        // Nobody is to be asked for logins.
        fs::write(home.join("home/.docker/config.json"), r#"{"auths":{"nobody.invalid":{}}}"#)
            .unwrap();
        let daemon = Daemon::start(&home.join("daemon"));
        let sent = Arc::new(AtomicU64::new(0));
        let listener = UnixListener::bind(home.join("sock")).unwrap();
        let (socket, counter) = (daemon.socket(), Arc::clone(&sent));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (socket, sent) = (socket.clone(), Arc::clone(&counter));
                thread::spawn(move || relay(client, &socket, &sent));
            }
        });
        Self { _daemon: daemon, home, sent }
    }

    fn build(&self, who: Who, context: &Path, options: &[&str]) -> Cost {
        let mut command = who.command(context);
        if !options.is_empty() {
            command = Command::new(env!("CARGO_BIN_EXE_smartbuild"));
            command.arg("--progress=plain").args(options).arg(context);
        }
        command
            .env("DOCKER_HOST", format!("unix://{}", self.home.join("sock").display()))
            .env("HOME", self.home.join("home"))
            .env("TMPDIR", &self.home)
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.home.join("output")).unwrap());
        let before = self.sent.load(Relaxed);
        let started = Instant::now();
        let mut child = command.spawn().unwrap();
        let mut memory = 0;
        let status = loop {
            memory = memory.max(peak(child.id()));
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            thread::sleep(Duration::from_millis(2));
        };
        let time = started.elapsed();
        let output = || fs::read_to_string(self.home.join("output")).unwrap_or_default();
        assert!(status.success(), "{command:?}: {}", output());
        Cost { time, sent: self.sent.load(Relaxed) - before, memory }
    }
}

/// The most memory that a process ever had (`VmHWM` in proc(5)); 0 when it is gone.
fn peak(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilo = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilo.unwrap_or(0) * 1024
}

/// Passes bytes on in both directions, and counts those of the client.
fn relay(client: UnixStream, engine: &Path, sent: &AtomicU64) -> Option<()> {
    let engine = UnixStream::connect(engine).ok()?;
    let (from, to) = (engine.try_clone().ok()?, client.try_clone().ok()?);
    thread::spawn(move || pass(from, to, |_| {}));
    pass(client, engine, |count| {
        sent.fetch_add(count as u64, Relaxed);
    });
    Some(())
}

fn pass(mut from: UnixStream, mut to: UnixStream, count: impl Fn(usize)) {
    let mut buffer = vec![0; 64 << 10];
    let mut copy = || -> io::Result<()> {
        loop {
            let length = from.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            count(length);
            to.write_all(&buffer[..length])?;
        }
    };
    // Either side may go away at any time.
    let _ = copy();
    let _ = to.shutdown(Shutdown::Write);
}

/// A directory of so many files of that size, 100 in each directory, of content that no tool can
/// make smaller.
fn fixture(root: &Path, count: usize, size: usize) -> PathBuf {
    let mut random = fastrand::Rng::with_seed(7);
    let mut content = vec![0; size];
    for index in 0..count {
        let directory = root.join(format!("d{}", index / 100));
        if index % 100 == 0 {
            fs::create_dir_all(&directory).unwrap();
        }
        random.fill(&mut content);
        fs::write(directory.join(format!("f{}", index % 100)), &content).unwrap();
    }
    fs::write(root.join("Dockerfile"), DOCKERFILE).unwrap();
    root.to_owned()
}

fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn bytes(number: u64) -> String {
    match number {
        0..1_000 => format!("{number} B"),
        1_000..1_000_000 => format!("{:.0} kB", number as f64 / 1e3),
        _ => format!("{:.1} MB", mega(number)),
    }
}

fn time(time: Duration) -> String {
    match time.as_millis() {
        milliseconds @ 0..1_000 => format!("{milliseconds} ms"),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}
