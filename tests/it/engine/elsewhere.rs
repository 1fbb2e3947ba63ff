//! A `buildkitd` that is elsewhere: in a container, in a pod, behind TCP, in the clear and encrypted.
//!
//! The programs that lead to it are the real ones, or stand-ins that take one command line and no
//! other. It is a whole `buildkitd` where there is one, and the engine's BuildKit otherwise.

use std::process::Command;

use smartbuild_test_rig::{self as rig, Program, Work, unique};

use super::{
    apart::{Apart, buildkit_programs},
    outputs::{bridge, files_are_written, main_job},
};
use crate::pipeline::Pipeline;

/// Puts a program before all others that does this if it is called just so. Gives the `PATH`.
pub(super) fn stand_in(work: &Work, name: &str, arguments: &str, action: &str) -> String {
    let script = format!(
        "#!/bin/sh\n[ \"$*\" = '{arguments}' ] || {{ echo \"not understood: $*\" >&2; exit 9; }}\n{action}\n"
    );
    // Put there by another process: what this one has open for writing cannot be run, nor can what a
    // process that another test starts has of it for a moment.
    work.write(format!("../bin/{name}.sh"), script);
    let (from, to) = (format!("../bin/{name}.sh"), format!("../bin/{name}"));
    work.run(Program::named("install").args(["-m", "755", &from, &to])).success();
    let before = std::env::var("PATH").unwrap();
    format!("{}:{before}", work.join("../bin").display())
}

const POD: &str = "kube-pod://pod-1?namespace=ci&context=far&container=bk";
const POD_ARGUMENTS: &str =
    "--namespace=ci --context=far exec -i --container=bk pod-1 -- buildctl dial-stdio";

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn containers_and_pods_are_reached_through_their_programs() {
    let ways = [
        ("docker", "docker-container://bk", "exec -i bk buildctl dial-stdio"),
        ("podman", "podman-container://bk", "exec -i bk buildctl dial-stdio"),
        ("nerdctl", "nerdctl-container://bk", "exec -i bk buildctl dial-stdio"),
        ("kubectl", POD, POD_ARGUMENTS),
    ];
    let docker = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|directory| directory.join("docker"))
        .find(|path| path.is_file())
        .unwrap();
    for (name, host, arguments) in ways {
        let pipeline = Pipeline::new();
        let socket = bridge(&pipeline);
        // It carries bytes between its own input and output, and any socket.
        let relay = format!("exec {} --host {socket} system dial-stdio", docker.display());
        let path = stand_in(&pipeline.work, name, arguments, &relay);
        files_are_written(&pipeline, |job| job.env("BUILDKIT_HOST", host).env("PATH", &path));
    }
}

#[test]
#[ignore = "needs docker-registry: run tests/run.sh"]
fn why_a_container_cannot_be_reached_is_said_in_its_programs_words() {
    let pipeline = Pipeline::new();
    let no_pod = "echo 'Error from server (NotFound): pods \"pod-1\" not found' >&2; exit 1";
    let path = stand_in(&pipeline.work, "kubectl", POD_ARGUMENTS, no_pod);
    let job = |host| pipeline.job(&["--push"], "1").env("BUILDKIT_HOST", host).env("PATH", &path);
    let said = pipeline.work.run(job(POD)).exits(3);
    assert_eq!(said.text().matches("NotFound").count(), 1, "{}", said.text());
    said.says(&["no buildkitd answers at kube-pod://pod-1", "pods \"pod-1\" not found"]);
    let nerdctl = job("nerdctl-container://bk").env("PATH", pipeline.work.join("../bin"));
    pipeline.work.run(nerdctl).exits(3).says(&["the command `nerdctl` is not installed"]);
}

/// A buildkitd in a container of the rig's engine, which ends with it.
struct Contained {
    name: String,
}

impl Contained {
    fn start() -> Option<Self> {
        let programs = buildkit_programs()?;
        let (name, work) = (unique("buildkitd"), Work::new());
        let copy = |from: &str| {
            let place = work.join(format!("root/{from}"));
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            std::fs::copy(from, place).unwrap();
        };
        for program in ["buildkitd", "buildctl"] {
            work.write(
                format!("root/bin/{program}"),
                std::fs::read(programs.join(program)).unwrap(),
            )
            .chmod(format!("root/bin/{program}"), 0o755);
        }
        let runc =
            ["/usr/sbin/runc", "/usr/bin/runc"].into_iter().find(|p| std::fs::exists(p).unwrap());
        let runc = runc.expect("there is no runc");
        let libraries = work.run(Program::named("ldd").args([runc])).success();
        libraries.stdout().split_whitespace().filter(|word| word.starts_with('/')).for_each(copy);
        work.write("root/bin/runc", std::fs::read(runc).unwrap()).chmod("root/bin/runc", 0o755);
        work.write("root/tmp/empty", "").write("root/etc/passwd", "root:x:0:0::/:/bin/sh\n");
        work.run(Program::named("tar").args(["-C", "root", "-cf", "root.tar", "."])).success();
        let engine = rig::Engine::get();
        let docker = |arguments: &[&str]| work.run(engine.docker(arguments)).success();
        docker(&["import", "--change", "ENV PATH=/bin", "root.tar", &name]);
        let this = Self { name };
        // What `--privileged` is for, on machines that have all rights and on those that have not.
        docker(&[
            "run",
            "--detach",
            "--name",
            &this.name,
            "--network",
            "host",
            "--cap-add",
            "SYS_ADMIN",
            "--cap-add",
            "NET_ADMIN",
            "--security-opt",
            "seccomp=unconfined",
            "--security-opt",
            "apparmor=unconfined",
            "--security-opt",
            "systempaths=unconfined",
            "--volume",
            "/sys/fs/cgroup:/sys/fs/cgroup",
            "--volume",
            "/var/lib/buildkit",
            &this.name,
            "buildkitd",
            "--oci-worker-net",
            "host",
            "--containerd-worker=false",
        ]);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let ask = ["exec", &this.name, "buildctl", "debug", "workers"];
        while work.run(engine.docker(ask)).code() != 0 {
            assert!(std::time::Instant::now() < deadline, "buildkitd does not start");
        }
        Some(this)
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        let engine = rig::Engine::get();
        Work::new().run(engine.docker(["rm", "--force", "--volumes", &self.name]));
        engine.forget(&self.name);
    }
}

#[test]
#[ignore = "needs an engine and a buildkitd: run tests/run.sh"]
fn a_buildkitd_in_a_container_does_the_main_job() {
    let Some(Contained { ref name }) = Contained::start() else { return };
    let engine = rig::Engine::get();
    let host = format!("docker-container://{name}");
    main_job(|job| job.engine(engine).env("BUILDKIT_HOST", &host));

    // There is no cluster: the pod is that container.
    let work = Work::new();
    let action = format!("exec docker exec -i {name} buildctl dial-stdio");
    let path = stand_in(&work, "kubectl", POD_ARGUMENTS, &action);
    main_job(|job| job.engine(engine).env("BUILDKIT_HOST", POD).env("PATH", &path));
}

#[test]
#[ignore = "needs a buildkitd: run tests/run.sh"]
fn a_buildkitd_behind_tcp_does_the_main_job() {
    let Some((_daemon, host)) = Apart::buildkitd_on_tcp(Work::new(), "") else { return };
    main_job(|job| job.env("BUILDKIT_HOST", &host));
}

/// Authorities and certificates: of a buildkitd on loopback and elsewhere, of a client.
fn certify(work: &Work) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    let openssl = |arguments: String| {
        let mut command = Command::new("openssl");
        command.current_dir(work.path()).args(arguments.split(' '));
        assert!(command.output().unwrap().status.success(), "{arguments}");
    };
    openssl(format!("req -x509 {key} -subj /CN=authority -keyout ca.key -out ca.pem"));
    openssl(format!("req -x509 {key} -subj /CN=stranger -keyout other.key -out other.pem"));
    let leaf = "-addext basicConstraints=critical,CA:FALSE";
    for (name, more) in [("server", "-addext subjectAltName=DNS:builder"), ("client", leaf)] {
        openssl(format!(
            "req -x509 -CA ca.pem -CAkey ca.key {key} -subj /CN={name} -keyout {name}.key \
             -out {name}.pem {leaf}{}",
            if more == leaf { String::new() } else { format!(" {more}") }
        ));
    }
}

#[test]
#[ignore = "needs a buildkitd: run tests/run.sh"]
fn a_buildkitd_behind_tls_does_the_main_job_for_who_has_a_certificate() {
    let work = Work::new();
    certify(&work);
    let options = "--tlscacert ca.pem --tlscert server.pem --tlskey server.key";
    let Some((daemon, host)) = Apart::buildkitd_on_tcp(work, options) else { return };
    let work = daemon.work();
    let give = |directory: &str, files: &[(&str, &str)]| {
        for (from, to) in files {
            work.write(format!("{directory}/{to}"), work.read(from));
        }
        work.join(directory)
    };
    let own = [("ca.pem", "ca.pem"), ("client.pem", "cert.pem"), ("client.key", "key.pem")];
    let secret = [("ca.pem", "ca.crt"), ("client.pem", "tls.crt"), ("client.key", "tls.key")];
    for files in [own, secret] {
        let directory = give(&unique("certificates"), &files);
        main_job(|job| {
            job.env("BUILDKIT_HOST", &host)
                .env("BUILDKIT_TLS_DIR", &directory)
                .env("BUILDKIT_TLS_SERVERNAME", "builder")
        });
    }

    let pipeline = Pipeline::new();
    let told = |directory: Option<&std::path::Path>, name: &str, said: &str| {
        let job = pipeline.job(&["--push"], "1").env("BUILDKIT_HOST", &host);
        let job = directory.iter().fold(job, |job, path| job.env("BUILDKIT_TLS_DIR", path));
        let ran = pipeline.work.run(job.env("BUILDKIT_TLS_SERVERNAME", name)).exits(3);
        ran.says(&["no buildkitd answers at tcp://127.0.0.1:", "BUILDKIT_TLS_DIR", said]);
    };
    told(Some(&give("right", &own)), "another", "certificate");
    // It may close the connection before its reason has come.
    told(Some(&give("nobody", &own[..1])), "builder", "");
    let stranger = [("other.pem", "ca.pem"), ("client.pem", "cert.pem"), ("client.key", "key.pem")];
    told(Some(&give("stranger", &stranger)), "builder", "UnknownIssuer");
    told(None, "", "no buildkitd");
    assert_eq!(pipeline.registry.tags(&pipeline.repository), [""; 0]);
}
