//! `login`: ask, prove, keep.

use std::collections::BTreeSet;
use std::io::{self, BufRead, ErrorKind, IsTerminal, Read, Write};
use std::time::Duration;

use clap::Args;
use zeroize::Zeroizing;

use super::{CommandError, advice, registry, say, terminal, transport};
use crate::docker_config::{ConfigFile, SUFFIX};
use crate::environment::Environment;
use crate::host::Host;
use crate::registry::{Proof, Registry};
use crate::secret::Secret;
use crate::store::{self, Choice, Vault};
use crate::transport::Deadline;
use crate::{Credential, credential_for};

/// The longest that a registry may take.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// The longest password that is read.
const MAX_PASSWORD: u64 = 64 * 1024;

/// Log in to a registry, and keep the password in this machine's store
#[derive(Debug, Args)]
pub(super) struct Login {
    /// The registry, such as registry.cn-hangzhou.aliyuncs.com
    host: String,
    /// The user name, such as name@5939306421830868 for a RAM user; asked for if not given
    #[arg(short, long)]
    username: Option<String>,
    /// Read the password from standard input instead of the terminal
    #[arg(long)]
    password_stdin: bool,
    /// What `docker login` takes, and everybody on the machine can read
    #[arg(short, long, hide = true)]
    password: Option<Secret>,
    /// Keep it in this store: secret-service, keyutils, file, keychain,
    /// credential-manager, helper:NAME
    #[arg(long)]
    store: Option<Choice>,
    /// Keep it without asking the registry whether it is right
    #[arg(long)]
    no_check: bool,
}

impl Login {
    pub(super) fn run(self, environment: &Environment) -> Result<(), CommandError> {
        let host = registry(&self.host)?;
        if self.password.is_some() {
            return Err(CommandError::Input(
                "everybody on this machine can read a password in the arguments, and this one is \
                 not used: change it, and give it with --password-stdin"
                    .to_owned(),
            ));
        }
        // First what can fail at once: nobody wants to type a password for nothing.
        let vault = open(self.store.as_ref(), environment)?;
        let credential = self.ask(&host)?;
        if self.no_check {
            say(format_args!("Not asking {host} whether the password is right."));
        } else {
            prove(&host, &credential, environment)?;
        }
        let before = logins(environment);
        vault.store(&host, &credential.username, &credential.secret)?;
        say(format_args!("Logged in to {host} as {}.", credential.username));
        say(format_args!("The password is in {}.", vault.name()));
        self.hint(&host, &vault, environment);
        if let Some((store, hosts)) = before {
            warn_of_hidden(&store, hosts.iter().filter(|other| **other != host), environment);
        }
        Ok(())
    }

    fn ask(&self, host: &Host) -> Result<Credential, CommandError> {
        let username = match &self.username {
            Some(username) => username.clone(),
            None if self.password_stdin => {
                return Err(CommandError::Input(
                    "--password-stdin needs --username: standard input is the password's"
                        .to_owned(),
                ));
            }
            None => prompt(host)?,
        };
        check_username(&username)?;
        let secret =
            if self.password_stdin { read_password()? } else { prompt_password(&username)? };
        if secret.is_empty() {
            return Err(CommandError::Input("the password is empty".to_owned()));
        }
        Ok(Credential { username, secret, origin: "this login".to_owned(), expires: None })
    }

    /// Says what keeps Docker from using what was stored.
    fn hint(&self, host: &Host, vault: &Vault, environment: &Environment) {
        let found = credential_for(host.as_str(), environment);
        match found {
            Ok(Some(found)) if found.origin == vault.name() => {}
            Ok(Some(found)) => {
                let chosen = with_store(self.store.as_ref(), environment);
                let chosen = credential_for(host.as_str(), &chosen).ok().flatten();
                let variable = store::choice::VARIABLE;
                let advice = match &self.store {
                    Some(choice) if chosen.is_some_and(|chosen| chosen.origin == vault.name()) => {
                        format!("set {variable}={choice} for this one to be used")
                    }
                    _ => "unset what names it for this one to be used".to_owned(),
                };
                say(format_args!("But {} will be used: it goes first; {advice}.", found.origin));
            }
            _ => {
                if let Some(choice) = &self.store {
                    let variable = store::choice::VARIABLE;
                    say(format_args!("Set {variable}={choice} for it to be found there."));
                }
            }
        }
        let settings = ConfigFile::docker(environment).and_then(|file| file.settings());
        if settings.is_ok_and(|settings| settings.helper_for(host) != Some(SUFFIX)) {
            say(format_args!(
                "Docker does not ask for it yet; run `docker-credential-aliyun configure {host}`."
            ));
        }
    }
}

/// The store to write to, possibly named on the command line.
fn open(choice: Option<&Choice>, environment: &Environment) -> Result<Vault, CommandError> {
    Ok(store::open_for_writing(&with_store(choice, environment))?)
}

/// The same surroundings with the store that was named on the command line, if one was.
pub(super) fn with_store(choice: Option<&Choice>, environment: &Environment) -> Environment {
    let same = environment.clone();
    match choice {
        Some(choice) => same.with(store::choice::VARIABLE, choice.to_string()),
        None => same,
    }
}

/// The name of the store that is looked into now, and the hosts in it.
fn logins(environment: &Environment) -> Option<(String, BTreeSet<Host>)> {
    let vault = store::open(environment).ok().flatten()?;
    let hosts = vault.list().ok()?.into_iter().map(|(host, _)| host).collect();
    Some((vault.name().to_owned(), hosts))
}

/// A key for the encrypted file makes it the store of this machine. What is in another one stays
/// there, and is not looked for any more: that has to be said.
fn warn_of_hidden<'a>(
    before: &str,
    hosts: impl Iterator<Item = &'a Host>,
    environment: &Environment,
) {
    let Ok(Some(now)) = store::open(environment) else { return };
    let hosts: Vec<_> = hosts.map(Host::as_str).collect();
    if now.name() == before || hosts.is_empty() {
        return;
    }
    say(format_args!(
        "From now on logins are looked for in {}, and no more in {before}, which has those for {}: \
         log in there again, or go back by setting {}.",
        now.name(),
        hosts.join(", "),
        store::choice::VARIABLE,
    ));
}

fn prove(
    host: &Host,
    credential: &Credential,
    environment: &Environment,
) -> Result<(), CommandError> {
    let transport = transport(environment);
    let proof = Registry::reach(&transport, Deadline::after(TIME_LIMIT), host)
        .and_then(|registry| registry.prove(credential))
        .map_err(|error| CommandError::Proof { advice: advice::for_proof(host, &error), error })?;
    if proof == Proof::Open {
        say(format_args!("{host} lets everybody in: the password could not be checked."));
    }
    Ok(())
}

/// A RAM user is `name@account-id` or `name@alias`; the account itself may have any name, also one
/// with `@` or without. So only what no login can carry is refused: HTTP's Basic scheme ends the
/// user name at a colon (RFC 7617, section 2).
fn check_username(username: &str) -> Result<(), CommandError> {
    let problem = if username.is_empty() {
        "is empty"
    } else if username.trim() != username {
        "begins or ends with a blank"
    } else if username.contains(':') {
        "contains a colon, which no registry takes"
    } else if username.chars().any(char::is_control) {
        "contains control characters"
    } else if username.starts_with('@') || username.ends_with('@') {
        "is not of the form name@account-id"
    } else {
        return Ok(());
    };
    Err(CommandError::Input(format!("the user name {problem}")))
}

fn prompt(host: &Host) -> Result<String, CommandError> {
    if !io::stdin().is_terminal() {
        return Err(CommandError::Input(
            "there is no terminal to ask at; use --username and --password-stdin".to_owned(),
        ));
    }
    let ask = || {
        write!(io::stderr(), "User name at {host} (name@account-id for a RAM user): ")?;
        io::stderr().flush()?;
        let mut line = String::new();
        io::stdin().lock().take(4096).read_line(&mut line)?;
        Ok(line.trim().to_owned())
    };
    ask().map_err(|error: io::Error| {
        CommandError::Input(format!("cannot ask for the user name: {error}"))
    })
}

fn prompt_password(username: &str) -> Result<Secret, CommandError> {
    terminal::read_hidden(&format!("Password of {username}: ")).map_err(|error| {
        CommandError::Input(match error.kind() {
            ErrorKind::Interrupted => "interrupted".to_owned(),
            ErrorKind::InvalidData => "the password is not valid UTF-8".to_owned(),
            ErrorKind::FileTooLarge => {
                "the password is longer than a terminal takes; use --password-stdin".to_owned()
            }
            _ => "there is no terminal to ask at; use --password-stdin".to_owned(),
        })
    })
}

/// One line, whose end is not part of the password.
fn read_password() -> Result<Secret, CommandError> {
    let mut text = Zeroizing::new(String::with_capacity(4096));
    io::stdin()
        .lock()
        .take(MAX_PASSWORD)
        .read_to_string(&mut text)
        .map_err(|error| CommandError::Input(format!("cannot read the password: {error}")))?;
    let line = text.trim_end_matches(['\r', '\n']);
    if line.contains(['\r', '\n']) {
        return Err(CommandError::Input("the password has more than one line".to_owned()));
    }
    Ok(Secret::new(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_of_every_kind_are_taken() {
        for good in ["ci@5939306421830868", "ci@alias", "user@example.com", "aliyun1", "\u{540d}@1"]
        {
            assert!(check_username(good).is_ok(), "{good}");
        }
        for bad in ["", " a", "a ", "a:b", "a\tb", "@1", "a@"] {
            assert!(check_username(bad).is_err(), "{bad}");
        }
    }
}
