//! Files that change while they are sent: just when the engine asks for one, and when half of one is
//! with it. A gate before the engine's socket is where time stands still.

use std::{
    fs::Permissions,
    io::{Read, Write},
    net::Shutdown,
    os::unix::{
        fs::{FileExt as _, MetadataExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    },
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use bollard_buildkit_proto::fsutil::types::{Packet, packet::PacketType};
use prost::Message;
use smartbuild_test_rig::{self as rig, Program, Ran, Registry, Work, unique};

use super::apart::Apart;

/// More than all buffers between a file and the engine hold together.
const LARGE: usize = 16 << 20;
/// So much has passed when the engine has got some of a large file, and nothing before it was large.
const SOME: usize = 1 << 20;

/// When the gate closes.
#[derive(Clone, Copy)]
enum When {
    /// The engine asks for the file of this number, and we have not heard it yet.
    IsAsked(u32),
    /// The engine has got some of what is sent.
    IsSent,
}

type Change = Box<dyn FnOnce() + Send>;

/// A socket before an engine's. What passes last before the moment waits until the change is made.
struct Gate {
    work: Work,
    change: Arc<Mutex<Option<Change>>>,
}

impl Gate {
    fn before(engine: &str, when: When) -> Self {
        let (work, change) = (Work::new(), Arc::new(Mutex::new(None::<Change>)));
        let path = work.join("engine.sock");
        let listener = UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(path, Permissions::from_mode(0o666)).unwrap();
        let engine = engine.strip_prefix("unix://").unwrap().to_owned();
        let kept = Arc::clone(&change);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let engine = UnixStream::connect(&engine).unwrap();
                let (asks, sends): (Is, Is) = match when {
                    When::IsAsked(file) => (Box::new(move |seen| asks_for(seen, file)), never()),
                    When::IsSent => (never(), Box::new(|seen| seen.len() > SOME)),
                };
                carry(&engine, &client, asks, &kept);
                carry(&client, &engine, sends, &kept);
            }
        });
        Self { work, change }
    }

    fn host(&self) -> String {
        format!("unix://{}", self.work.join("engine.sock").display())
    }

    /// The next time that it is the moment, this is done.
    fn set(&self, change: impl FnOnce() + Send + 'static) {
        *self.change.lock().unwrap() = Some(Box::new(change));
    }

    fn was_reached(&self) -> bool {
        self.change.lock().unwrap().is_none()
    }
}

/// Whether it is the moment, by all that has come over a connection.
type Is = Box<dyn Fn(&[u8]) -> bool + Send>;

fn never() -> Is {
    Box::new(|_| false)
}

fn carry(from: &UnixStream, to: &UnixStream, is: Is, change: &Arc<Mutex<Option<Change>>>) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    let change = Arc::clone(change);
    std::thread::spawn(move || {
        let (mut seen, mut buffer) = (Vec::new(), [0; 16 << 10]);
        // What a connection brings after its moment may come when the next build is waited for.
        let mut is_over = false;
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            seen.extend(&buffer[..length]);
            if !is_over && is(&seen) {
                is_over = true;
                if let Some(change) = change.lock().unwrap().take() {
                    change();
                }
            }
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}

/// Whether an engine's side of a session asks for the file of that number (RFC 9113, section 4.1:
/// frames; gRPC's messages are in those of data).
fn asks_for(seen: &[u8], file: u32) -> bool {
    const DATA: u8 = 0;
    let Some(head) = seen.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return false };
    let mut rest = seen[head + 4..].strip_prefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    while let Some([a, b, c, kind, _, _, _, _, _, after @ ..]) = rest {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let Some((mut payload, next)) = after.split_at_checked(length) else { return false };
        rest = Some(next);
        while let (DATA, [0, a, b, c, d, after @ ..]) = (*kind, payload) {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            let Some((message, next)) = after.split_at_checked(length) else { break };
            payload = next;
            let request = PacketType::PacketReq as i32;
            if Packet::decode(message)
                .is_ok_and(|packet| packet.r#type == request && packet.id == file)
            {
                return true;
            }
        }
    }
    false
}

/// What can become of a file.
#[derive(Clone, Copy, Debug)]
enum To {
    Nothing,
    More,
    Less,
    Other,
    Link,
    Directory,
    Fifo,
    Unreadable,
}

impl To {
    fn make(self, path: &Path) {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        let length = file.metadata().unwrap().len();
        if matches!(self, Self::Nothing | Self::Link | Self::Directory | Self::Fifo) {
            std::fs::remove_file(path).unwrap();
        }
        match self {
            Self::Nothing => {}
            Self::More => file.write_all_at(b"more", length).unwrap(),
            Self::Less => file.set_len(length * 3 / 4).unwrap(),
            Self::Other => file.write_all_at(b"other", length - 5).unwrap(),
            Self::Link => std::os::unix::fs::symlink("elsewhere", path).unwrap(),
            Self::Directory => std::fs::create_dir(path).unwrap(),
            Self::Fifo => assert!(Command::new("mkfifo").arg(path).status().unwrap().success()),
            Self::Unreadable => file.set_permissions(Permissions::from_mode(0o0)).unwrap(),
        }
    }

    /// What is said of it.
    fn said(self) -> &'static str {
        match self {
            Self::Nothing => "`file` vanished while it was being built",
            Self::More | Self::Less => "`file` changed its length while it was being built",
            Self::Other => "`file` changed its content while it was being built",
            Self::Link | Self::Directory | Self::Fifo => {
                "`file` was replaced by something that is not a file while it was being built"
            }
            Self::Unreadable => "cannot read `file` of the build context: Permission denied",
        }
    }
}

/// A project with an image in a registry, whose next build sends `file` and what comes before it.
struct Project {
    work: Work,
    registry: Registry,
    repository: String,
}

impl Project {
    fn new() -> Self {
        let project =
            Self { work: Work::new(), registry: Registry::open(), repository: unique("moving") };
        project.work.write("Dockerfile", "FROM scratch\nCOPY a b c d file /\n");
        // Whoever runs the program may look into the context.
        project.work.chmod("..", 0o755);
        project.write("file", 100);
        let engine = rig::Engine::get();
        project.work.run(project.program(engine.host(), false)).success();
        engine.forget(&project.name());
        project
    }

    /// Files that no engine has, `large` being so many bytes.
    fn write(&self, large: &str, length: usize) {
        for name in ["a", "b", "c", "d", "file"] {
            let content = unique(name);
            let length = if name == large { length } else { content.len() };
            let content = content.repeat(length / content.len() + 1);
            self.work.write(name, &content[..length]);
        }
    }

    fn name(&self) -> String {
        format!("{}:latest", self.registry.name(&self.repository))
    }

    /// The program, as a user who may not read everything if that matters.
    fn program(&self, host: &str, unprivileged: bool) -> Program {
        let arguments = ["--push", "-t", &self.name(), "--progress", "plain"];
        let is_root = std::fs::metadata(self.work.path()).unwrap().uid() == 0;
        let program = if unprivileged && is_root {
            let (built, own) = (Program::path_of("smartbuild"), self.work.join("../smartbuild"));
            // By another process, so that nobody has it open for writing here.
            let copied = Command::new("install").args([built, own.clone()]).status().unwrap();
            assert!(copied.success());
            let user = ["--reuid=65534", "--regid=65534", "--clear-groups"];
            Program::named("setpriv").args(user).args([own.to_str().unwrap()]).args(arguments)
        } else {
            Program::smartbuild(arguments)
        };
        program.env("DOCKER_HOST", host)
    }

    /// Builds while `file` changes, and finds nothing changed in the registry.
    fn builds_while_it_changes(&self, gate: &Gate, to: To) {
        let all = || {
            let tags = self.registry.tags(&self.repository);
            let digest = |tag: String| (self.registry.digest(&self.repository, &tag), tag);
            tags.into_iter().map(digest).collect::<Vec<_>>()
        };
        let (before, path) = (all(), self.work.join("file"));
        gate.set(move || to.make(&path));
        let ran = self.work.run(self.program(&gate.host(), matches!(to, To::Unreadable)));
        assert!(gate.was_reached(), "{to:?}: {}", ran.text());
        fails(ran, to);
        assert_eq!(all(), before, "{to:?}");
        let path = self.work.join("file");
        if path.is_dir() {
            std::fs::remove_dir(path).unwrap();
        } else if path.symlink_metadata().is_ok() {
            std::fs::remove_file(path).unwrap();
        }
    }
}

fn fails(ran: Ran, to: To) {
    let ran = ran.exits(if matches!(to, To::Unreadable) { 2 } else { 1 }).says(&[to.said()]);
    assert_eq!(ran.stderr().matches("error:").count(), 1, "{to:?}: {}", ran.text());
}

const BEFORE_IT_IS_OPENED: [To; 8] =
    [To::Nothing, To::More, To::Less, To::Other, To::Link, To::Directory, To::Fifo, To::Unreadable];

/// What can become of a file of which a part was sent. Its name may lead elsewhere by then: what is
/// open is sent to its end.
const WHILE_IT_IS_READ: [To; 4] = [To::Nothing, To::More, To::Less, To::Other];

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_file_that_changes_when_the_engine_asks_for_it() {
    let project = Project::new();
    // The Dockerfile's directory has fewer files than that.
    let gate = Gate::before(rig::Engine::get().host(), When::IsAsked(4));
    gate.work.chmod("..", 0o755);
    for to in BEFORE_IT_IS_OPENED {
        project.write("file", 1000);
        project.builds_while_it_changes(&gate, to);
    }
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_file_that_changes_when_a_part_of_it_was_sent() {
    let project = Project::new();
    let gate = Gate::before(rig::Engine::get().host(), When::IsSent);
    for to in WHILE_IT_IS_READ {
        project.write("file", LARGE);
        project.builds_while_it_changes(&gate, to);
    }
}

#[test]
#[ignore = "needs podman: run tests/run.sh"]
fn a_file_that_changes_while_a_tar_is_sent() {
    let (project, podman) = (Project::new(), Apart::podman(None));
    let gate = Gate::before(&podman.host(), When::IsSent);
    gate.work.chmod("..", 0o755);
    for (large, changes) in [("d", &BEFORE_IT_IS_OPENED[..]), ("file", &WHILE_IT_IS_READ)] {
        for to in changes {
            project.write(large, LARGE);
            project.builds_while_it_changes(&gate, *to);
        }
    }
}
