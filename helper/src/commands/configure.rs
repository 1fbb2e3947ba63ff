//! `configure`: make Docker ask this program.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;

use super::{CommandError, say, status};
use crate::docker_config::{Change, ConfigFile};
use crate::environment::Environment;
use crate::host::Host;

/// Make Docker ask this program for registries (credHelpers in config.json)
#[derive(Debug, Args)]
pub(super) struct Configure {
    /// The registries; without any, all that `status` shows
    hosts: Vec<String>,
    /// Take the registries out again
    #[arg(long)]
    remove: bool,
    /// Say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Also change the auth.json of podman, buildah and skopeo
    #[arg(long)]
    podman: bool,
    /// Change this file instead of Docker's config.json
    #[arg(long, value_name = "PATH", conflicts_with = "podman")]
    file: Option<PathBuf>,
}

impl Configure {
    pub(super) fn run(self, environment: &Environment) -> Result<(), CommandError> {
        let mut files = match &self.file {
            Some(path) => vec![ConfigFile::at(environment.directory().join(path))],
            None => vec![ConfigFile::docker(environment)?],
        };
        if self.podman {
            files.push(ConfigFile::podman(environment)?);
        }
        for file in &files {
            let hosts = self.hosts(file, environment)?;
            let changes = file.change(&hosts, self.remove, self.dry_run)?;
            for (host, change) in hosts.iter().zip(&changes) {
                self.tell(file, host, change);
            }
            if !self.remove {
                warn_of_passwords(file, &hosts)?;
            }
        }
        Ok(())
    }

    fn hosts(
        &self,
        file: &ConfigFile,
        environment: &Environment,
    ) -> Result<Vec<Host>, CommandError> {
        let hosts: BTreeSet<Host> = if self.hosts.is_empty() {
            let settings = file.settings()?;
            match self.remove {
                true => settings.named_hosts().collect(),
                false => status::known_hosts(&settings, environment).0,
            }
        } else {
            self.hosts.iter().map(|host| Host::parse(host)).collect::<Result<_, _>>()?
        };
        if hosts.is_empty() && !self.remove {
            return Err(CommandError::Input(
                "no registry is known yet; name it: `docker-credential-aliyun configure HOST`"
                    .to_owned(),
            ));
        }
        Ok(hosts.into_iter().collect())
    }

    fn tell(&self, file: &ConfigFile, host: &Host, change: &Change) {
        let would = if self.dry_run { "would be " } else { "" };
        let path = file.path().display();
        match change {
            Change::Added => say(format_args!("{path}: {host} {would}added")),
            Change::Replaced(other) => {
                say(format_args!("{path}: {host} {would}added in place of the helper {other:?}"));
            }
            Change::Removed => say(format_args!("{path}: {host} {would}removed")),
            Change::Nothing => say(format_args!("{path}: nothing to do for {host}")),
        }
    }
}

/// Docker asks the helper from now on, but what it wrote into the file before stays there.
fn warn_of_passwords(file: &ConfigFile, hosts: &[Host]) -> Result<(), CommandError> {
    for (server, auth) in file.settings()?.auths {
        let host = Host::parse(&server).ok().filter(|host| hosts.contains(host));
        if let (true, Some(host)) = (auth.has_secret, host) {
            say(format_args!(
                "{}: there is a readable password of {host} in it; run `docker logout {server}`, \
                 then `docker-credential-aliyun login {host}`",
                file.path().display()
            ));
        }
    }
    Ok(())
}
