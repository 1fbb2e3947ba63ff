//! Engines of a test's own, in namespaces of their own: they can die in mid-build or run out of disk,
//! and whatever they started and mounted ends with them.

use std::{
    fs::File,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use smartbuild_test_rig::Work;

/// An engine apart. Dropping it ends it.
pub(super) struct Apart {
    work: Work,
    process: Child,
}

/// Where `buildkitd` and `buildctl` are: in no distribution. `SMARTBUILD_TEST_BUILDKIT` names their
/// directory, if `PATH` does not; without them there is nothing to test, which is said.
#[expect(clippy::print_stderr, reason = "who runs the tests has to know")]
pub(super) fn buildkit_programs() -> Option<PathBuf> {
    let named = std::env::var_os("SMARTBUILD_TEST_BUILDKIT").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = named.into_iter().chain(std::env::split_paths(&path)).find(|directory| {
        ["buildkitd", "buildctl"].iter().all(|program| directory.join(program).is_file())
    });
    if found.is_none() {
        eprintln!("not tested: there is no buildkitd here (SMARTBUILD_TEST_BUILDKIT=directory)");
    }
    found
}

impl Apart {
    /// Runs a script in a directory of its own, `$store` being the place for images: all that it has
    /// room for is so many megabytes, if a number is given.
    fn start(script: &str, megabytes: Option<u32>) -> Self {
        Self::start_in(Work::new(), &["--net"], script, megabytes)
    }

    fn start_in(work: Work, more: &[&str], script: &str, megabytes: Option<u32>) -> Self {
        let store = work.join("store");
        std::fs::create_dir(&store).unwrap();
        let small =
            megabytes.map(|size| format!("mount -t tmpfs -o size={size}m tmpfs \"$store\"\n"));
        let script = format!("set -eu\n{}{script}", small.unwrap_or_default());
        let process = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child"])
            .args(more)
            .args(["sh", "-c", &script])
            .current_dir(work.path())
            .env("store", store)
            .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(work.join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { work, process }.when_ready()
    }

    /// A Docker Engine.
    pub(super) fn docker(megabytes: Option<u32>) -> Self {
        let script = "\
            ip link add name engine type bridge\nip addr add 192.168.250.1/24 dev engine\n\
            ip link set engine up\necho '{}' > daemon.json\n\
            exec dockerd --config-file daemon.json --host unix://$PWD/sock --data-root $store \
            --exec-root $PWD/run --pidfile $PWD/pid --bridge engine --iptables=false \
            --ip-forward=false --ip-masq=false";
        Self::start(script, megabytes)
    }

    /// podman's service.
    pub(super) fn podman(megabytes: Option<u32>) -> Self {
        let script = "\
            export TMPDIR=$PWD\n\
            exec podman --root $store --runroot $PWD/run system service --time 0 unix://$PWD/sock";
        Self::start(script, megabytes)
    }

    /// A buildkitd, if there is one.
    pub(super) fn buildkitd(megabytes: Option<u32>) -> Option<Self> {
        let programs = buildkit_programs()?;
        let script = format!(
            "exec {}/buildkitd --root $store --addr unix://$PWD/sock --oci-worker-net host \
             --containerd-worker=false",
            programs.display()
        );
        Some(Self::start(&script, megabytes))
    }

    /// A buildkitd that listens on TCP, too, in the network of this machine; its files may be in
    /// `work`.
    pub(super) fn buildkitd_on_tcp(work: Work, options: &str) -> Option<(Self, String)> {
        let programs = buildkit_programs()?;
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let script = format!(
            "exec {}/buildkitd --root $store --addr tcp://{free} --addr unix://$PWD/sock \
             --oci-worker-net host --containerd-worker=false {options}",
            programs.display()
        );
        Some((Self::start_in(work, &[], &script, None), format!("tcp://{free}")))
    }

    /// Where its files are.
    pub(super) fn work(&self) -> &Work {
        &self.work
    }

    fn when_ready(mut self) -> Self {
        let deadline = Instant::now() + Duration::from_secs(60);
        while UnixStream::connect(self.work.join("sock")).is_err() {
            let running = self.process.try_wait().unwrap().is_none();
            assert!(running && Instant::now() < deadline, "{}", self.work.read("log"));
            std::thread::sleep(Duration::from_millis(20));
        }
        self
    }

    /// Its address.
    pub(super) fn host(&self) -> String {
        format!("unix://{}", self.work.join("sock").display())
    }

    /// Ends it and all that it started, as a crash or the kernel would.
    pub(super) fn die(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.die();
    }
}
