//! Another program, run to its end or to a deadline.
//!
//! At the deadline it is ended with all that it started: a shell script's commands hold on to its
//! output, and to the terminal, long after the shell itself is gone. It knows processes; it must not
//! know what they are asked.

use std::io::{self, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::transport::Deadline;

/// What a program printed, and whether it succeeded.
pub(crate) struct Ended {
    pub(crate) stdout: Zeroizing<Vec<u8>>,
    pub(crate) success: bool,
}

/// Why a program did not end.
#[derive(Debug)]
pub(crate) enum RunError {
    /// It cannot be started.
    Start(io::Error),
    /// The deadline passed.
    Late,
}

/// Runs a command with this input and no other, and reads what it prints, up to a length.
pub(crate) fn run(
    command: &mut Command,
    input: &[u8],
    longest: u64,
    deadline: Deadline,
) -> Result<Ended, RunError> {
    // In a group of its own, which can be ended as a whole.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
    let command = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(RunError::Start)?;
    let ended = finish(&mut child, input, longest, deadline);
    if ended.is_err() {
        end(&mut child);
    }
    ended
}

fn finish(
    child: &mut Child,
    input: &[u8],
    longest: u64,
    deadline: Deadline,
) -> Result<Ended, RunError> {
    let (send, receive) = mpsc::channel();
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    // Threads, since pipes have no time limits. They end with the pipes.
    let input = Zeroizing::new(input.to_vec());
    thread::spawn(move || {
        if let Some(mut stdin) = stdin {
            // It need not read what it does not need.
            drop(stdin.write_all(&input));
        }
    });
    thread::spawn(move || {
        let mut output = Zeroizing::new(Vec::new());
        if let Some(stdout) = stdout {
            // A read that fails leaves less than an answer, which is told by whoever parses it.
            drop(stdout.take(longest).read_to_end(&mut output));
        }
        // Nobody listens any more if the deadline has passed.
        drop(send.send(output));
    });
    let stdout = receive.recv_timeout(deadline.left()).map_err(|_| RunError::Late)?;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(Ended { stdout, success: status.success() }),
            Ok(None) if !deadline.left().is_zero() => thread::sleep(Duration::from_millis(1)),
            Ok(None) | Err(_) => return Err(RunError::Late),
        }
    }
}

/// Ends a program that nobody has waited for yet, and all of its group. It may have ended by itself
/// just now; either way it is gone after this.
fn end(child: &mut Child) {
    #[cfg(unix)]
    {
        use rustix::process::{Pid, Signal, kill_process_group};
        let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    }
    drop(child.kill());
    drop(child.wait());
}

#[cfg(all(test, unix))]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str, input: &[u8], time: Duration) -> Result<Ended, RunError> {
        run(Command::new("sh").args(["-c", script]), input, 1 << 20, Deadline::after(time))
    }

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn input_goes_in_and_output_comes_out() {
        let long = vec![b'x'; 1 << 18];
        let ended = shell("cat; exit 3", &long, LONG).unwrap();
        assert!(*ended.stdout == long && !ended.success);
        let ended = shell("exec <&-; sleep 0.01; echo done", &long, LONG).unwrap();
        assert!(*ended.stdout == b"done\n" && ended.success);
        assert!(matches!(
            run(&mut Command::new("/no/such/program"), b"", 1, Deadline::after(LONG)),
            Err(RunError::Start(_))
        ));
    }

    #[test]
    fn a_late_program_is_gone_with_all_that_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let pids = directory.path().join("pids");
        let script = format!("sleep 600 & echo $$ $! >{}; wait; sleep 600", pids.display());
        let begun = Instant::now();
        let late = shell(&script, b"", Duration::from_secs(1));
        assert!(matches!(late, Err(RunError::Late)) && begun.elapsed() < LONG);
        let pids = std::fs::read_to_string(pids).unwrap();
        assert_eq!(pids.split_whitespace().count(), 2);
        for pid in pids.split_whitespace() {
            // The grandchild is somebody else's to wait for, which may take them a moment.
            let is_gone = || {
                let state = std::fs::read_to_string(format!("/proc/{pid}/stat"));
                state.map_or(true, |state| state.contains(") Z "))
            };
            while !is_gone() {
                assert!(begun.elapsed() < LONG, "{pid} runs");
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    #[test]
    fn a_program_that_closed_its_output_and_goes_on_is_late() {
        let late = shell("exec >&-; exec sleep 600", b"", Duration::from_millis(50));
        assert!(matches!(late, Err(RunError::Late)));
    }
}
