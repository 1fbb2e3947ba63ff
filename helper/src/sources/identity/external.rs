//! Keys from a command of the user's: the profile mode `External`.
//!
//! What the command prints is never repeated, in no error and on no stream: it holds keys, and a
//! command that prints something else may print keys there too.

use std::process::Command;

use zeroize::Zeroizing;

use super::Problem;
use crate::child::{self, Ended, RunError};
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

/// Runs the command and gives what it printed. It is ended at the deadline.
pub(super) fn run(
    arguments: &[String],
    environment: &Environment,
    deadline: Deadline,
) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let (program, arguments) = arguments.split_first().ok_or(Problem::CommandLine)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(environment.for_identity_command())
        .current_dir(environment.directory());
    let program = program.clone();
    match child::run(&mut command, b"", MAX_OUTPUT, deadline) {
        Ok(Ended { stdout, success: true }) => Ok(stdout),
        Ok(_) => Err(Problem::CommandFailed { program }),
        Err(RunError::Start(error)) => Err(Problem::CommandStart { program, error }),
        Err(RunError::Late) => Err(Problem::CommandLate { program }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
