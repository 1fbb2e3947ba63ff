//! Commands for people, beside the protocol's verbs.
//!
//! They talk on stderr and print data on stdout. No credential is read from an argument.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};

use crate::environment::Environment;
use crate::protocol;

/// The names of the commands, which tell them from the verbs of the protocol before any of this is
/// set up.
pub const NAMES: &[&str] = &["help"];

/// Log in to Alibaba Cloud Container Registry without keeping passwords in Docker's configuration
#[derive(Debug, Parser)]
#[command(name = protocol::NAME, version, disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {}

/// Runs what the arguments say.
#[must_use]
pub fn run(arguments: &[OsString], _environment: Arc<Environment>) -> ExitCode {
    let words = std::iter::once(OsString::from(protocol::NAME)).chain(arguments.iter().cloned());
    match Arguments::try_parse_from(words) {
        Ok(arguments) => match arguments.command {},
        Err(error) => {
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
    }
}
