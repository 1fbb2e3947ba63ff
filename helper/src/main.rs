//! `docker-credential-aliyun`, thin over its library.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;

use docker_credential_aliyun::commands;
use docker_credential_aliyun::environment::Environment;
use docker_credential_aliyun::keychain::SystemKeychain;
use docker_credential_aliyun::protocol::{self, Call, NAME, Verb};
use docker_credential_aliyun::secret::keep_out_of_core_files;

fn main() -> ExitCode {
    keep_out_of_core_files();
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match Call::parse(&arguments, commands::NAMES) {
        Call::Verb(verb) => serve(verb),
        Call::Command => commands::run(&arguments, Arc::new(Environment::capture())),
        Call::Usage => misuse(protocol::USAGE),
        Call::Unknown(word) => misuse(&format!("{NAME}: unknown action: {}", word.display())),
    }
}

fn serve(verb: Verb) -> ExitCode {
    let keychain = SystemKeychain::new(Arc::new(Environment::capture()));
    match protocol::serve(verb, &keychain, io::stdin().lock(), io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let line = failure.to_string().replace(char::is_control, " ");
            if !failure.is_everyday() {
                let _ = writeln!(io::stderr(), "{NAME}: {line}");
            }
            refuse(&line)
        }
    }
}

/// The protocol's answer to what is no verb. At a terminal there is a person, and not a client.
fn misuse(line: &str) -> ExitCode {
    let status = refuse(line);
    if io::stdout().is_terminal() && io::stderr().is_terminal() {
        let _ = writeln!(io::stderr(), "To log in: {NAME} login HOST. All commands: {NAME} --help");
    }
    status
}

/// The protocol's way to fail: a line on stdout, and exit status 1.
fn refuse(line: &str) -> ExitCode {
    let _ = writeln!(io::stdout(), "{line}");
    ExitCode::FAILURE
}
