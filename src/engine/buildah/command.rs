//! Running the program: where it keeps images, and stopping it with all it started.

#[cfg(unix)]
use std::time::{Duration, Instant};
use std::{
    ffi::OsStr,
    io::{self, BufRead, BufReader, Read as _},
    process::{ExitStatus, Stdio},
};

use serde::Deserialize;
use tokio::{
    process::{Child, Command},
    sync::mpsc,
    task::spawn_blocking,
};

use super::ACTION;
use crate::engine::{build::Ulimit, error::Error};

const NAME: &str = "buildah";
/// So many lines may wait to be read.
const WAITING: usize = 256;
/// A line that is longer than this comes in pieces, in bytes.
const LONGEST: u64 = 64 << 10;
/// How long the program may take to clean up when it is told to end.
#[cfg(unix)]
const GRACE: Duration = Duration::from_secs(5);
/// So often is done again what stumbled over somebody else's work in the store.
pub(super) const TRIES: usize = 6;

/// Whether it stumbled over a layer that somebody else removed meanwhile, so that the same may well
/// succeed at once.
///
/// Equal layers are one layer in the store (their names are digests of what they hold), and nothing
/// holds one between the moment it is found there and the moment an image is made of it. To look
/// for cached steps every image of the store is looked at, and to miss one that was just listed is an
/// error, too. No mistake in a Dockerfile ever reads like that.
pub(super) fn stumbled(message: &str) -> bool {
    message.contains("layer not known")
}

/// The program, and how it works in this place.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// Its version, such as `1.28.2`.
    pub(super) version: String,
    /// Whether it has to do without the rights of root.
    pub(super) rootless: bool,
    /// How it keeps layers apart: `overlay`, `vfs`.
    pub(super) driver: String,
    /// Whether steps are kept apart by no more than a changed root: it needs no rights, and works
    /// in containers.
    pub(super) chroot: bool,
    /// Limits of ours that it would try to raise, and must be told to leave.
    pub(super) limits: Vec<Ulimit>,
}

/// The first version 1 of buildah that gives steps limits where nobody says otherwise.
const FIRST_WITH_LIMITS: u32 = 35;

/// The limits that newer versions raise to this where nobody says otherwise (containers/buildah
/// `run_linux.go`). It takes a right that root has not in a container, and they then fail. Older
/// ones lower their own, and would fail on being told to go back to ours.
#[cfg(unix)]
fn low_limits() -> Vec<Ulimit> {
    use rustix::process::{Resource, getrlimit};
    const RAISED_TO: u64 = 1 << 20;
    let low = |(name, resource): (&str, Resource)| {
        let limit = getrlimit(resource);
        let hard = limit.maximum.filter(|hard| *hard < RAISED_TO)?;
        let number = |value| i64::try_from(value).ok();
        let soft = number(limit.current.unwrap_or(hard))?;
        Some(Ulimit { name: name.to_owned(), soft, hard: number(hard)? })
    };
    [("nofile", Resource::Nofile), ("nproc", Resource::Nproc)].into_iter().filter_map(low).collect()
}

#[cfg(not(unix))]
fn low_limits() -> Vec<Ulimit> {
    Vec::new()
}

#[derive(Deserialize)]
struct Info {
    host: Host,
    store: Store,
}

#[derive(Deserialize)]
struct Host {
    #[serde(default)]
    rootless: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Store {
    graph_driver_name: String,
    #[serde(default)]
    graph_status: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Program {
    pub(super) async fn find() -> Result<Self, Error> {
        let mut program = Self {
            version: String::new(),
            rootless: false,
            driver: String::new(),
            chroot: std::env::var_os("BUILDAH_ISOLATION").is_none_or(|set| set == "chroot"),
            limits: Vec::new(),
        };
        let version = program.ask("say its version", ["--version"]).await?;
        // `buildah version 1.28.2 (image-spec 1.1.0, runtime-spec 1.0.2)`
        let version = String::from_utf8_lossy(&version);
        program.version = version.split_whitespace().nth(2).unwrap_or_default().to_owned();
        if program.is_at_least(FIRST_WITH_LIMITS) {
            program.limits = low_limits();
        }
        let said = program.ask("work here", ["info"]).await?;
        let Info { host, store } =
            serde_json::from_slice(&said).map_err(|error| Error::Protocol {
                action: "find out how buildah works here".to_owned(),
                what: format!("said what cannot be read ({error})"),
            })?;
        program.rootless = host.rootless;
        program.driver = store.graph_driver_name;
        let status = store.graph_status.unwrap_or_default();
        let native = status.get("Native Overlay Diff").is_some_and(|native| native == "true");
        // In a container without privileges overlays need a device that is not there, which is
        // found out only when the first step runs.
        let fuse = std::fs::File::options().read(true).write(true).open("/dev/fuse").is_ok();
        if program.rootless && program.driver == "overlay" && !native && !fuse {
            program.driver = "vfs".to_owned();
        }
        Ok(program)
    }

    /// A run of the program, to which arguments can be added.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(NAME);
        if self.rootless && self.driver == "vfs" {
            command.args(["--storage-driver", "vfs"]);
        }
        command.stdin(Stdio::null()).kill_on_drop(true);
        #[cfg(unix)]
        command.process_group(0);
        command
    }

    /// Whether it is of that version 1, or later.
    pub(super) fn is_at_least(&self, minor: u32) -> bool {
        let mut numbers = self.version.split('.').map(|part| part.parse::<u32>().ok());
        match (numbers.next().flatten(), numbers.next().flatten()) {
            (Some(1), Some(own)) => own >= minor,
            (Some(major), _) => major > 1,
            _ => false,
        }
    }

    /// Runs it to its end, and gives what it wrote.
    pub(super) async fn ask<S: AsRef<OsStr>>(
        &self,
        action: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Vec<u8>, Error> {
        let mut command = self.command();
        command.args(arguments);
        self.finish(action, command).await
    }

    /// Runs a command that was put together to its end, and gives what it wrote.
    pub(super) async fn finish(
        &self,
        action: &str,
        mut command: Command,
    ) -> Result<Vec<u8>, Error> {
        let mut tries = TRIES;
        loop {
            let output = command.output().await.map_err(not_started)?;
            if output.status.success() {
                return Ok(output.stdout);
            }
            let text = String::from_utf8_lossy(&output.stderr);
            let message = last_error(&text);
            tries -= 1;
            if tries == 0 || !stumbled(&message) {
                return Err(Error::failed(action, self.with_advice(message)));
            }
        }
    }

    /// What it says, with what to do where that is known.
    pub(super) fn with_advice(&self, message: String) -> String {
        if let Some(reason) = homeless(&message) {
            return format!(
                "buildah {} looks for its settings in the home directory that /etc/passwd has for \
                 this user, and cannot ({reason}); create it, or build as a user that has one",
                self.version
            );
        }
        let advice = if message.contains("CLONE_NEWUSER") {
            "this place forbids user namespaces, which buildah needs; in a container of Docker's, \
             allow them with --security-opt seccomp=unconfined"
        } else if message.contains("supplemental groups") || message.contains("subuid") {
            "give this user ranges in /etc/subuid and /etc/subgid, as `man 5 subuid` says"
        } else {
            return message;
        };
        format!("{message}; {advice}")
    }
}

/// Why it has no settings, if it says so and gives up.
///
/// The process that newer versions start for each step has the environment of the step, so that
/// `HOME` does not help: it looks where /etc/passwd says.
pub(super) fn homeless(line: &str) -> Option<&str> {
    const WORDS: &str = "failed to setup From and Build flags: failed to get default container \
                         config: ";
    let (_, reason) = line.split_once(WORDS)?;
    Some(reason.split('"').next().unwrap_or(reason).trim())
}

/// The error that the program ended with.
fn last_error(text: &str) -> String {
    let start = text.rfind("\nError").map_or(0, |end| end + 1);
    let last = text.get(start..).unwrap_or(text).trim();
    in_one_line(last.strip_prefix("Error: ").unwrap_or(last))
}

/// Whether an error is the heading of several, which come in lines of their own (hashicorp
/// `go-multierror`: `listFormatFunc`).
pub(super) fn is_heading(error: &str) -> bool {
    let first = error.lines().next().unwrap_or_default();
    first.ends_with("error occurred:") || first.ends_with("errors occurred:")
}

/// An error in one line, without its headings.
pub(super) fn in_one_line(error: &str) -> String {
    let lines = error.lines().filter(|line| !is_heading(line));
    let lines = lines.map(|line| line.trim().trim_start_matches("* ").trim_start_matches(": "));
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

fn not_started(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::NotInstalled { program: NAME },
        _ => Error::broken("run buildah", &error),
    }
}

/// A run whose lines are read while it works. Dropping it ends the program, and all it started.
pub(super) struct Talk {
    child: Child,
    texts: mpsc::Receiver<String>,
}

impl Talk {
    /// Starts the command. Both its outputs go through one pipe, so that what steps write stays
    /// between the lines that name the steps.
    pub(super) fn start(mut command: Command) -> Result<Self, Error> {
        let broken = |error: io::Error| Error::broken(ACTION, &error);
        let (reader, writer) = io::pipe().map_err(broken)?;
        command.stdout(writer.try_clone().map_err(broken)?).stderr(writer);
        let child = command.spawn().map_err(not_started)?;
        // Ours, which would keep the pipe open.
        drop(command);
        let (sender, texts) = mpsc::channel(WAITING);
        spawn_blocking(move || {
            for text in (Pieces { reader: BufReader::new(reader), begun: Vec::new() }) {
                if sender.blocking_send(text).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, texts })
    }

    /// The next line with its end, or the next piece of one that is too long; `None` when there is
    /// no more.
    pub(super) async fn text(&mut self) -> Option<String> {
        self.texts.recv().await
    }

    /// Waits for the program's end.
    pub(super) async fn end(mut self) -> Result<ExitStatus, Error> {
        self.child.wait().await.map_err(|error| Error::broken(ACTION, &error))
    }
}

/// Lines, and pieces of lines that are too long to be kept.
struct Pieces<R> {
    reader: R,
    /// The beginning of a character that a piece ended in.
    begun: Vec<u8>,
}

impl<R: BufRead> Iterator for Pieces<R> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut bytes = std::mem::take(&mut self.begun);
        let read = self.reader.by_ref().take(LONGEST).read_until(b'\n', &mut bytes).unwrap_or(0);
        if let (1.., Err(error)) = (read, std::str::from_utf8(&bytes))
            && error.error_len().is_none()
        {
            self.begun = bytes.split_off(error.valid_up_to());
        }
        (read > 0 || !bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[cfg(unix)]
impl Drop for Talk {
    /// Asks it to end, which lets it remove its container and take off its mounts; one that does not
    /// is killed.
    fn drop(&mut self) {
        use rustix::process::{Pid, Signal, kill_process_group};
        // Without rights it works in a child of its own, which a signal to the parent leaves alone.
        let group = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let Some(group) = group else { return };
        let _ = kill_process_group(group, Signal::TERM);
        let since = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && since.elapsed() < GRACE {
            // Nobody reads it any more, and it must not wait for that.
            self.texts.close();
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = kill_process_group(group, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_one_line() {
        assert_eq!(last_error("a warning\nError: no such image\n"), "no such image");
        assert_eq!(last_error("killed\n"), "killed");
        let several = "Error: 2 errors occurred:\n\t* layer not known\n\t* in use\n\n\n";
        assert_eq!(last_error(several), "layer not known; in use");
    }

    #[test]
    fn a_line_without_end_comes_in_pieces_that_tear_no_character() {
        let text = format!("one\n{}\nend", "\u{20ac}".repeat(50_000));
        let pieces = Pieces { reader: text.as_bytes(), begun: Vec::new() };
        let pieces: Vec<_> = pieces.collect();
        assert_eq!(pieces.concat(), text);
        assert!(pieces[0] == "one\n" && pieces.len() == 5, "{}", pieces.len());
        let torn = Pieces { reader: &b"x\xff\xe2\x82"[..], begun: Vec::new() };
        assert_eq!(torn.collect::<String>(), "x\u{fffd}\u{fffd}");
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        let program = |version: &str| Program {
            version: version.to_owned(),
            rootless: false,
            driver: String::new(),
            chroot: true,
            limits: Vec::new(),
        };
        assert!(program("1.33.0").is_at_least(33) && program("1.100.0-dev").is_at_least(33));
        assert!(program("2.0.0").is_at_least(33));
        assert!(!program("1.28.2").is_at_least(33) && !program("").is_at_least(33));
    }
}
