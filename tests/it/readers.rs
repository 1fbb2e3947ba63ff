//! What other clients make of what we wrote: Docker's, skopeo's and containerd's each read everything
//! that was pushed, retagged, mounted, copied and assembled.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use smartbuild_test_rig::{Engine, Image, Program, Registry, Work, unique};

use crate::intact::held;

/// A containerd that keeps what it fetches in a directory of its own.
struct Containerd {
    process: Child,
    work: Work,
}

impl Containerd {
    fn start() -> Self {
        let work = Work::new();
        let place = |name: &str| work.home().join(name);
        let mut command = Command::new("containerd");
        command.arg("--address").arg(place("socket")).arg("--root").arg(place("root"));
        command.arg("--state").arg(place("state")).args(["--log-level", "fatal"]);
        let process = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        let started = Self { process: process.expect("containerd"), work };
        let end = Instant::now() + Duration::from_secs(60);
        while !started.ctr(&["version"]).status().unwrap().success() {
            assert!(Instant::now() < end, "containerd does not start");
            std::thread::yield_now();
        }
        started
    }

    fn socket(&self) -> PathBuf {
        self.work.home().join("socket")
    }

    fn ctr(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.socket()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Fetches everything that a name leads to, for all platforms, and checks its digests.
    fn reads(&self, name: &str) -> bool {
        let fetch = ["content", "fetch", "--plain-http", "--all-platforms", name];
        self.ctr(&fetch).status().unwrap().success()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Has every client read a name, and Docker's run what it read.
fn read_by_all(work: &Work, containerd: &Containerd, name: &str, content: &str) {
    let engine = Engine::get();
    engine.forget(name);
    work.run(engine.docker(["pull", "-q", name])).success();
    assert_eq!(engine.run(name, &["cat", "/own"]).success().stdout(), content, "{name}");
    engine.forget(name);

    let (source, place) = (format!("docker://{name}"), format!("dir:{}", unique("read")));
    let copy = ["copy", "--all", "--src-tls-verify=false", &source, &place];
    work.run(Program::named("skopeo").args(copy)).success();
    assert!(containerd.reads(name), "{name}");
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn other_clients_read_what_was_pushed_retagged_mounted_copied_and_assembled() {
    let (registry, elsewhere) = (Registry::open(), Registry::open());
    let (engine, containerd) = (Engine::get(), Containerd::start());
    let (work, app) = (Work::new(), unique("app"));
    let other = Image::scratch().files(&[("other", "x")]).platform("linux/arm64");
    registry.push_index("base", "1", &[Image::base(), &other]);
    let base = registry.name("base:1");
    work.write("Dockerfile", format!("FROM {base}\nCOPY own /own\n")).write("own", &app);
    let run = |tag: &str, more: &[&str]| {
        let arguments = [&["--push", "--json", "-t", tag][..], more].concat();
        work.run(Program::smartbuild(arguments).engine(engine)).success().json()
    };
    let tag = |path: &str| registry.name(&format!("{path}/{app}"));
    let pushed = tag("team") + ":pushed";
    assert_eq!(run(&pushed, &[])["outcome"], "built");
    let retagged = tag("team") + ":retagged";
    assert_eq!(run(&retagged, &[])["outcome"], "retagged");
    // The key is found beside the first tag, so the image comes from there.
    let mounted = tag("mirror") + ":mounted";
    let before = registry.mark();
    assert_eq!(run(&pushed, &["-t", &mounted])["outcome"], "retagged");
    let mount = |path: &str| path.ends_with("/blobs/uploads/");
    let mounts: Vec<_> =
        registry.log()[before..].iter().filter(|e| mount(&e.path)).cloned().collect();
    assert!(!mounts.is_empty() && mounts.iter().all(|entry| entry.status == 201), "{mounts:?}");
    let copied = elsewhere.name(&format!("team/{app}:copied"));
    assert_eq!(run(&pushed, &["-t", &copied])["outcome"], "retagged");
    let assembled = tag("several") + ":assembled";
    run(&assembled, &["--platform=linux/amd64,linux/arm64"]);

    engine.forget(&pushed);
    for name in [&pushed, &retagged, &mounted, &copied, &assembled] {
        read_by_all(&work, &containerd, name, &app);
    }
    for (registry, path) in
        [(&registry, "team"), (&registry, "mirror"), (&elsewhere, "team"), (&registry, "several")]
    {
        let held = held(registry, &format!("{path}/{app}"));
        assert!(held.faults.is_empty(), "{path}: {:?}", held.faults);
    }
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn other_clients_miss_what_is_missing() {
    let (registry, containerd, work) = (Registry::open(), Containerd::start(), Work::new());
    let name = registry.name("nothing:1");
    assert!(!containerd.reads(&name));
    let copy = ["copy", "--src-tls-verify=false", &format!("docker://{name}"), "dir:out"];
    assert_ne!(work.run(Program::named("skopeo").args(copy)).code(), 0);
}
