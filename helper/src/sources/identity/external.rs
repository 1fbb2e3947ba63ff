//! Keys from a command of the user's: the profile mode `External`.
//!
//! What the command prints is never repeated, in no error and on no stream: it holds keys, and a
//! command that prints something else may print keys there too.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use zeroize::Zeroizing;

use super::Problem;
use crate::environment::Environment;
use crate::transport::Deadline;

/// More than any profile object.
const MAX_OUTPUT: u64 = 64 << 10;

/// A command as a list of arguments, split as a POSIX shell would, without running one: blanks
/// separate, quotes of both kinds hold together, a backslash takes the next character as it is. On
/// Windows a backslash is a part of a path.
pub(super) fn split(command: &str) -> Result<Vec<String>, Problem> {
    let escape = if cfg!(windows) { None } else { Some('\\') };
    let mut arguments = Vec::new();
    let mut current: Option<String> = None;
    let mut quote = None;
    let mut characters = command.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                current.get_or_insert_default();
            }
            (None, _) if character.is_whitespace() => arguments.extend(current.take()),
            (None | Some('"'), _) if Some(character) == escape => {
                let next = characters.next().ok_or(Problem::CommandLine)?;
                let argument = current.get_or_insert_default();
                // Between double quotes it is special before a few characters only.
                if quote.is_some() && !['"', '\\', '$', '`'].contains(&next) {
                    argument.push(character);
                }
                argument.push(next);
            }
            _ => current.get_or_insert_default().push(character),
        }
    }
    arguments.extend(current);
    if quote.is_some() || arguments.is_empty() { Err(Problem::CommandLine) } else { Ok(arguments) }
}

/// Runs the command and gives what it printed. It is killed at the deadline.
pub(super) fn run(
    arguments: &[String],
    environment: &Environment,
    deadline: Deadline,
) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let (program, arguments) = arguments.split_first().ok_or(Problem::CommandLine)?;
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment.for_identity_command())
        .current_dir(environment.directory())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| Problem::CommandStart { program: program.clone(), error })?;
    let finished = finish(&mut child, deadline);
    if finished.is_err() {
        // It may have ended by itself just now; either way it is gone after this.
        drop(child.kill());
        drop(child.wait());
    }
    match finished {
        Ok((output, true)) => Ok(output),
        Ok((_, false)) => Err(Problem::CommandFailed { program: program.clone() }),
        Err(Late) => Err(Problem::CommandLate { program: program.clone() }),
    }
}

struct Late;

/// The output and whether the command succeeded, once it has closed its output and ended.
fn finish(child: &mut Child, deadline: Deadline) -> Result<(Zeroizing<Vec<u8>>, bool), Late> {
    let (send, receive) = mpsc::channel();
    let stdout = child.stdout.take();
    // A thread, since reading from a pipe has no time limit. It ends with the pipe.
    thread::spawn(move || {
        let mut output = Zeroizing::new(Vec::new());
        if let Some(stdout) = stdout {
            // A read that fails leaves less than a profile, which is told by whoever parses it.
            drop(stdout.take(MAX_OUTPUT).read_to_end(&mut output));
        }
        // Nobody listens any more if the deadline has passed.
        drop(send.send(output));
    });
    let output = receive.recv_timeout(deadline.left()).map_err(|_| Late)?;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok((output, status.success())),
            Ok(None) if !deadline.left().is_zero() => thread::sleep(Duration::from_millis(1)),
            Ok(None) | Err(_) => return Err(Late),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> Environment {
        Environment::capture()
    }

    fn shell(script: &str, time: Duration) -> Result<Zeroizing<Vec<u8>>, Problem> {
        let arguments = ["sh", "-c", script].map(str::to_owned);
        run(&arguments, &here(), Deadline::after(time))
    }

    #[test]
    fn a_command_is_split_like_a_shell_does() {
        let split = |command| split(command).ok();
        let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(split("'a b' c \"\"  d"), words(&["a b", "c", "", "d"]));
        assert_eq!(split("a'b'\"c\"d"), words(&["abcd"]));
        assert_eq!(split("\"it's\" '\"'"), words(&["it's", "\""]));
        for wrong in ["'open", "\"open", "", "  "] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_backslash_takes_the_next_character_as_it_is() {
        let split = |command| split(command).ok();
        let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(split(r"a\ b \'"), words(&["a b", "'"]));
        assert_eq!(split(r#""a\"b" "\n""#), words(&["a\"b", r"\n"]));
        assert_eq!(split(r"'\'"), words(&["\\"]));
        assert_eq!(split("a\\"), None);
    }

    #[cfg(unix)]
    #[test]
    fn the_output_of_a_command_is_read() {
        let output = shell("echo out; echo err >&2", Duration::from_secs(30));
        assert_eq!(output.ok().as_deref().map(Vec::as_slice), Some(&b"out\n"[..]));
    }

    #[cfg(unix)]
    #[test]
    fn a_command_that_fails_or_is_missing_or_late_says_only_that() {
        let long = Duration::from_secs(30);
        let failed = shell("echo hunter2; exit 3", long).unwrap_err();
        assert!(matches!(failed, Problem::CommandFailed { .. }));
        assert!(!format!("{failed} {failed:?}").contains("hunter2"));
        let late = shell("echo hunter2; exec sleep 600", Duration::from_millis(50)).unwrap_err();
        assert!(matches!(late, Problem::CommandLate { .. }));
        let closed = shell("exec >&-; exec sleep 600", Duration::from_millis(50)).unwrap_err();
        assert!(matches!(closed, Problem::CommandLate { .. }));
        let missing =
            run(&["/no/such/program".to_owned()], &here(), Deadline::after(long)).unwrap_err();
        assert!(matches!(missing, Problem::CommandStart { .. }));
    }
}
