//! What a whole hit costs: `smartbuild --push` of an image that the registry has, near by and 40 ms
//! away, and the pipeline of `docker` commands that it takes the place of, on an engine that has
//! nothing of it.
//!
//! ```text
//! cargo bench --bench hit               # needs docker-registry; with dockerd and root, the pipeline too
//! SMARTBUILD_BENCH_DIR=/somewhere cargo bench ...   # where engines keep their data
//! ```
//!
//! The number of round trips that a hit waits for is not counted but measured: by how much longer it
//! takes when each takes longer. What is left is its own.

#![allow(clippy::print_stdout, reason = "it prints what it measures")]
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

mod apart;

use std::{
    env,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use apart::Daemon;
use smartbuild_test_rig::{Far, Image, Registry, Work, unique};

const ROUNDS: usize = 40;
/// The sizes of base images in bytes, so that there is something to pull: one of a small
/// distribution, and one of a language with its tools.
const BASES: [usize; 2] = [64 << 20, 700 << 20];
const PIPELINES: usize = 3;

fn main() {
    let registry = Registry::open();
    let way = Far::from(registry.host(), Duration::from_millis(40));
    let small = base(BASES[0]);
    let near = Project::new(&registry, registry.host(), &small);
    let far = Project::new(&registry, &way.host(), &small);

    let floor = best(ROUNDS, || drop(run(&mut Command::new("/bin/true"))));
    let version = best(ROUNDS, || drop(run(Command::new(SMARTBUILD).arg("--version"))));
    let (trip, far_trip) = (round_trip(registry.host()), round_trip(&way.host()));
    let hit = best(ROUNDS, || near.skip());
    let far_hit = best(ROUNDS / 4, || far.skip());
    let trips = (far_hit - hit).as_secs_f64() / (far_trip - trip).as_secs_f64();
    let own = hit.as_secs_f64() - trips * trip.as_secs_f64();

    println!("a small context (8 files), two tags that are right already; the best of {ROUNDS}:");
    println!("  /bin/true                     {:8.2} ms", milliseconds(floor));
    println!("  smartbuild --version          {:8.2} ms", milliseconds(version));
    println!("  a round trip                  {:8.2} ms", milliseconds(trip));
    println!("  the whole hit                 {:8.2} ms", milliseconds(hit));
    println!("  the same, 40 ms away          {:8.2} ms", milliseconds(far_hit));
    println!("  round trips that it waits for {trips:8.2}");
    println!("  without them                  {:8.2} ms", own * 1000.0);
    println!("  of that, over /bin/true       {:8.2} ms", own * 1000.0 - milliseconds(floor));

    if !Command::new("dockerd").arg("--version").output().is_ok_and(|ran| ran.status.success()) {
        println!("there is no dockerd here: the pipeline of docker commands was not run");
        return;
    }
    for size in BASES {
        let project = Project::new(&registry, registry.host(), &base(size));
        let hit = best(ROUNDS, || project.skip());
        let pipeline = (0..PIPELINES).map(|_| project.pipeline()).min().unwrap();
        println!("an image of {} MB:", size >> 20);
        println!(
            "  login, pull, build, 2 pushes  {:8.0} ms on an engine without it",
            milliseconds(pipeline)
        );
        println!(
            "  against the skip              {:8.0} times",
            pipeline.as_secs_f64() / hit.as_secs_f64()
        );
    }
}

const SMARTBUILD: &str = env!("CARGO_BIN_EXE_smartbuild");

/// A project whose image the registry has.
struct Project {
    work: Work,
    host: String,
    repository: String,
}

impl Project {
    fn new(registry: &Registry, host: &str, base: &Image) -> Self {
        let (work, repository) = (Work::new(), unique("bench/hit"));
        registry.push(&repository, "base", base);
        // Or the client looks for a credential store of this machine.
        work.write("../home/.docker/config.json", r#"{ "auths": { "nowhere.example.org": {} } }"#);
        work.write(
            "Dockerfile",
            format!("FROM {host}/{repository}:base\nCOPY src /src\nRUN cat /src/* > /all\n"),
        );
        for file in 0..8 {
            work.write(format!("src/{file}"), format!("{repository} {file}\n"));
        }
        let project = Self { work, host: host.to_owned(), repository };
        let key = run(project.smartbuild().arg("key"));
        let image =
            base.clone().files(&[("src/0", "x")]).label("io.smartbuild.key", key.trim_end());
        for tag in [key.trim_end(), "1", "latest"] {
            registry.push(&project.repository, tag, &image);
        }
        project
    }

    fn image(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    fn smartbuild(&self) -> Command {
        let mut command = Command::new(SMARTBUILD);
        command.current_dir(self.work.path()).env_clear().env("HOME", self.work.home());
        command.env("DOCKER_HOST", "unix:///nowhere.sock");
        command
    }

    /// The pipeline with `smartbuild`.
    fn skip(&self) {
        let tags = ["1", "latest"].map(|tag| format!("-t={}:{tag}", self.image()));
        let said = run(self.smartbuild().arg("--push").args(tags).arg("--json"));
        assert!(said.contains("\"unchanged\""), "{said}");
    }

    /// The time of the pipeline of before, which has five lines, on an engine that has nothing.
    fn pipeline(&self) -> Duration {
        let directory = tempfile::tempdir_in(base_directory()).unwrap();
        let engine = Daemon::start(&directory.path().join("engine"));
        let image = self.image();
        let script = format!(
            "echo secret | docker login --username ci --password-stdin {host}\n\
             docker pull {image}:latest || true\n\
             docker build --cache-from {image}:latest --tag {image}:1 --tag {image}:latest .\n\
             docker push {image}:1\n\
             docker push {image}:latest\n",
            host = self.host,
        );
        let mut shell = Command::new("sh");
        shell.args(["-ec", &script]).current_dir(self.work.path()).env("HOME", self.work.home());
        shell.env("DOCKER_HOST", format!("unix://{}", engine.socket().display()));
        let start = Instant::now();
        run(&mut shell);
        start.elapsed()
    }
}

/// Where engines keep their data.
fn base_directory() -> PathBuf {
    env::var_os("SMARTBUILD_BENCH_DIR").map_or_else(env::temp_dir, PathBuf::from)
}

/// An image with `size` bytes that do not compress well.
fn base(size: usize) -> Image {
    let mut random = fastrand::Rng::with_seed(1);
    let filler: String = std::iter::repeat_with(|| random.alphanumeric()).take(size).collect();
    Image::base().clone().files(&[("filler", &filler)])
}

/// Runs a program that must succeed, and gives what it prints.
fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The time of one question and its answer on a connection that stands.
fn round_trip(host: &str) -> Duration {
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_nodelay(true).unwrap();
    let request = format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\n\r\n");
    best(ROUNDS, || {
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = [0; 4096];
        assert!(stream.read(&mut answer).unwrap() > 0);
    })
}

/// The shortest of several runs.
fn best(rounds: usize, mut work: impl FnMut()) -> Duration {
    let lap = |_| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    (0..rounds).map(lap).min().unwrap()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
