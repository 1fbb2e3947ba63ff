//! Commands for people, beside the protocol's verbs.
//!
//! They talk on stderr and print data on stdout. No password is ever an argument. It knows
//! arguments; how things are done is in the modules that it calls.

mod advice;
mod configure;
mod doctor;
mod login;
mod logout;
mod status;
mod terminal;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, Parser, Subcommand};
use thiserror::Error;

use crate::docker_config::ConfigError;
use crate::environment::Environment;
use crate::host::{Host, HostError, without_login};
use crate::protocol;
use crate::registry::ProofError;
use crate::store::StoreError;
use crate::transport::{Proxies, Transport};

/// The names of the commands, by which they are told from the verbs of the protocol.
pub const NAMES: &[&str] =
    &["login", "logout", "status", "configure", "doctor", "completions", "man", "help"];

/// Logs Docker in to Alibaba Cloud Container Registry, and keeps passwords out of its configuration
#[derive(Debug, Parser)]
#[command(
    name = protocol::NAME,
    version,
    after_help = EXAMPLES,
    after_long_help = VERBS
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  docker-credential-aliyun login registry.cn-hangzhou.aliyuncs.com
  docker-credential-aliyun configure registry.cn-hangzhou.aliyuncs.com
  docker-credential-aliyun doctor";

const VERBS: &str = "\
Examples:
  Log in once, and let Docker ask this program from then on:
    docker-credential-aliyun login registry.cn-hangzhou.aliyuncs.com
    docker-credential-aliyun configure registry.cn-hangzhou.aliyuncs.com

  A server without a desktop: make an encrypted file, and keep the password there:
    docker-credential-aliyun login --store file registry.cn-hangzhou.aliyuncs.com

  A CI job needs no login at all, only variables:
    REGISTRY_URL, REGISTRY_USERNAME, and REGISTRY_PASSWORD or REGISTRY_PASSWORD_FILE

  See what is wrong, and what to do about it:
    docker-credential-aliyun doctor

Docker and its kin call this program with one of the verbs get, store, erase, list and version,
which read their request from standard input.

Sources are asked in this order: CI variables, the store, the RAM identity of this machine.

The variables, the stores and the files: docker-credential-aliyun man | man -l -

Exit status: 0 if it worked, 1 if it did not, 2 if the arguments make no sense.";

const MANUAL: &str = include_str!("../../docker-credential-aliyun.1");

#[derive(Debug, Subcommand)]
enum Command {
    Login(login::Login),
    Logout(logout::Logout),
    Status(status::Status),
    Configure(configure::Configure),
    Doctor(doctor::Doctor),
    /// Print a completion script
    ///
    /// For example: docker-credential-aliyun completions bash >
    /// ~/.local/share/bash-completion/completions/docker-credential-aliyun
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, for man -l or a file docker-credential-aliyun.1
    Man,
}

/// Why a command failed, in one sentence.
#[derive(Debug, Error)]
enum CommandError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{error}; {advice}")]
    Proof { error: ProofError, advice: String },
    #[error("{0}")]
    Input(String),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// The findings have been printed already.
    #[error("")]
    Found,
}

/// Runs what the arguments say. The exit status is 0, 1 if it failed, 2 if it was not understood.
#[must_use]
pub fn run(arguments: &[OsString], environment: Arc<Environment>) -> ExitCode {
    let words = std::iter::once(OsString::from(protocol::NAME)).chain(arguments.iter().cloned());
    let command = match Arguments::try_parse_from(words) {
        Ok(Arguments { command }) => command,
        Err(error) => {
            // Help goes to stdout, complaints to stderr; a closed pipe is nobody's fault.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let done = match command {
        Command::Login(login) => login.run(&environment),
        Command::Logout(logout) => logout.run(&environment),
        Command::Status(status) => status.run(&environment),
        Command::Configure(configure) => configure.run(&environment),
        Command::Doctor(doctor) => doctor.run(&environment),
        Command::Completions { shell } => completions(shell),
        Command::Man => manual(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(CommandError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(CommandError::Found) => ExitCode::FAILURE,
        Err(error) => {
            say(format_args!("{}: {error}", protocol::NAME));
            ExitCode::FAILURE
        }
    }
}

fn completions(shell: clap_complete::Shell) -> Result<(), CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), protocol::NAME, &mut script);
    Ok(io::stdout().write_all(&script)?)
}

fn manual() -> Result<(), CommandError> {
    Ok(io::stdout().write_all(MANUAL.as_bytes())?)
}

/// A registry that a person named. Clients name repositories too; of a person who does, nobody knows
/// whether the path is a slip.
fn registry(text: &str) -> Result<Host, CommandError> {
    let host = Host::parse(text)?;
    let path = text.trim().trim_end_matches('/').trim_start_matches('/');
    if !text.contains("://") && path.contains('/') {
        return Err(CommandError::Input(format!(
            "{:?} is not a registry alone; write `{host}` if that is the one",
            without_login(text.trim())
        )));
    }
    Ok(host)
}

/// A line of talk, for people.
fn say(line: std::fmt::Arguments<'_>) {
    // Nobody is left to tell when stderr is gone.
    let _ = writeln!(io::stderr(), "{line}");
}

/// The way to registries, through the proxies that the environment names.
fn transport(environment: &Environment) -> Transport {
    Transport::new(Proxies::from_variables(|name| environment.var(name).ok().flatten()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_is_told_from_a_verb() {
        let mut program = Arguments::command();
        program.build();
        let names: Vec<_> = program.get_subcommands().map(clap::Command::get_name).collect();
        assert_eq!(names, NAMES);
    }

    #[test]
    fn the_manual_has_every_command_and_every_option() {
        for command in Arguments::command().get_subcommands() {
            let name = command.get_name();
            assert!(MANUAL.contains(&format!("\n.It Cm {name}\n")), "{name}");
            let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
            for long in shown.filter_map(clap::Arg::get_long) {
                assert!(MANUAL.contains(&format!("Fl -{long}")), "{name} --{long}");
            }
        }
    }
}
