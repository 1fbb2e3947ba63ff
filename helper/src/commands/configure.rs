//! `configure`: make Docker ask this program.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;

use super::{CommandError, registry, say, status};
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
    /// Also change the auth.json of podman, buildah and skopeo; --remove looks into it anyway
    #[arg(long)]
    podman: bool,
    /// Change this file instead of Docker's config.json
    #[arg(long, value_name = "PATH", conflicts_with = "podman")]
    file: Option<PathBuf>,
}

/// Whose file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    Docker,
    Podman,
    Other,
}

impl Configure {
    pub(super) fn run(self, environment: &Environment) -> Result<(), CommandError> {
        let files = match &self.file {
            Some(path) => vec![(ConfigFile::at(environment.directory().join(path)), Client::Other)],
            None => self.files(environment)?,
        };
        // A file that is broken keeps nobody from another one.
        let done: Vec<_> =
            files.iter().map(|(file, client)| self.edit(file, *client, environment)).collect();
        done.into_iter().collect()
    }

    fn edit(
        &self,
        file: &ConfigFile,
        client: Client,
        environment: &Environment,
    ) -> Result<(), CommandError> {
        let hosts = self.hosts(file, environment)?;
        let changes = file.change(&hosts, self.remove, self.dry_run)?;
        for (host, change) in hosts.iter().zip(&changes) {
            self.tell(file, host, change);
        }
        if self.remove {
            return Ok(());
        }
        warn_of_passwords(file, client, &hosts)?;
        match ConfigFile::podman_session(environment) {
            Some(first) if client == Client::Podman => warn_of_passwords(&first, client, &hosts),
            _ => Ok(()),
        }
    }

    /// Docker's file, and podman's if it was asked for. To take entries out, all of podman's that
    /// have some of ours: whoever removes this program need not remember where it was set up.
    fn files(&self, environment: &Environment) -> Result<Vec<(ConfigFile, Client)>, CommandError> {
        let mut files = vec![(ConfigFile::docker(environment)?, Client::Docker)];
        if self.podman {
            files.push((ConfigFile::podman(environment)?, Client::Podman));
        }
        if self.remove {
            let podmans = ConfigFile::podman(environment).ok().filter(|_| !self.podman);
            let podmans = podmans.into_iter().chain(ConfigFile::podman_session(environment));
            let has_ours =
                |file: &ConfigFile| file.settings().is_ok_and(|s| s.named_hosts().next().is_some());
            files.extend(podmans.filter(has_ours).map(|file| (file, Client::Podman)));
        }
        Ok(files)
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
            self.hosts.iter().map(|host| registry(host)).collect::<Result<_, _>>()?
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
            Change::Added => say(format_args!("{path}: `{host}` {would}added")),
            Change::Replaced(other) => {
                say(format_args!("{path}: `{host}` {would}added in place of the helper {other:?}"));
            }
            Change::Removed => say(format_args!("{path}: `{host}` {would}removed")),
            Change::Nothing => say(format_args!("{path}: nothing to do for `{host}`")),
        }
    }
}

/// Docker asks the helper from now on, but what it wrote into the file before stays there.
fn warn_of_passwords(
    file: &ConfigFile,
    client: Client,
    hosts: &[Host],
) -> Result<(), CommandError> {
    for (server, auth) in file.settings()?.auths {
        let host = Host::parse(&server).ok().filter(|host| hosts.contains(host));
        if let (true, Some(host)) = (auth.has_secret, host) {
            let path = file.path().display();
            let logout = match client {
                Client::Docker => format!("run `docker logout {server}`"),
                Client::Podman => format!("run `podman logout --authfile {path} {server}`"),
                Client::Other => "take it out".to_owned(),
            };
            say(format_args!(
                "{path}: there is a readable password of {host} in it; {logout}, then \
                 `docker-credential-aliyun login {host}`"
            ));
        }
    }
    Ok(())
}
