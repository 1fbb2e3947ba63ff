//! `status`: who would be logged in where. Never a secret.

use std::collections::BTreeSet;
use std::io::{self, Write};

use clap::Args;
use serde::Serialize;

use super::{CommandError, say};
use crate::docker_config::{ConfigFile, SUFFIX, Settings};
use crate::environment::Environment;
use crate::host::Host;
use crate::sources;

/// Show every registry, who would be logged in there, and from where
#[derive(Debug, Args)]
pub(super) struct Status {
    /// Print JSON: a list of objects
    #[arg(long)]
    json: bool,
}

/// What is known of a registry. The names of the fields are the interface of `--json`.
#[derive(Debug, Serialize)]
struct Entry {
    host: String,
    /// Whether Docker asks this program for it.
    configured: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    /// RFC 3339, in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Status {
    pub(super) fn run(self, environment: &Environment) -> Result<(), CommandError> {
        let settings = match ConfigFile::docker(environment).and_then(|file| file.settings()) {
            Ok(settings) => settings,
            Err(error) => {
                say(format_args!("{error}"));
                Settings::default()
            }
        };
        let (hosts, troubles) = known_hosts(&settings, environment);
        for trouble in troubles {
            say(format_args!("{trouble}"));
        }
        let entries: Vec<_> =
            hosts.iter().map(|host| entry(host, &settings, environment)).collect();
        let text = if self.json { json(&entries) } else { table(&entries) };
        Ok(io::stdout().write_all(text.as_bytes())?)
    }
}

/// Every registry that Docker asks for by name or that a source names, and what sources complain
/// about instead of naming any.
pub(super) fn known_hosts(
    settings: &Settings,
    environment: &Environment,
) -> (BTreeSet<Host>, Vec<String>) {
    let mut hosts: BTreeSet<_> = settings.hosts().collect();
    let mut troubles = Vec::new();
    for source in sources::all(environment) {
        match source.list() {
            Ok(listed) => hosts.extend(listed.into_iter().map(|(host, _)| host)),
            Err(error) => troubles.push(error.to_string()),
        }
    }
    (hosts, troubles)
}

fn entry(host: &Host, settings: &Settings, environment: &Environment) -> Entry {
    let mut entry = Entry {
        host: host.to_string(),
        configured: settings.helper_for(host) == Some(SUFFIX),
        source: None,
        origin: None,
        username: None,
        expires: None,
        error: None,
    };
    for source in sources::all(environment) {
        match source.get(host) {
            Ok(None) => continue,
            Ok(Some(credential)) => {
                entry.origin = Some(credential.origin.clone());
                entry.username = Some(credential.username.clone());
                entry.expires = credential.expires.map(|time| time.to_string());
            }
            Err(error) => entry.error = Some(error.to_string()),
        }
        entry.source = Some(source.name().to_owned());
        break;
    }
    entry
}

fn json(entries: &[Entry]) -> String {
    serde_json::to_string_pretty(entries).unwrap_or_default() + "\n"
}

fn table(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "No registry is known; start with `docker-credential-aliyun login HOST`.\n"
            .to_owned();
    }
    let mut text = String::new();
    for entry in entries {
        let who = match (&entry.username, &entry.origin, &entry.error) {
            (Some(username), Some(origin), _) => format!("{username}, from {origin}"),
            (_, _, Some(error)) => format!("no login: {error}"),
            _ => "no login".to_owned(),
        };
        let until =
            entry.expires.as_ref().map(|time| format!(", until {time}")).unwrap_or_default();
        let asked =
            if entry.configured { "" } else { " (Docker does not ask for it: see `configure`)" };
        text.push_str(&format!("{}: {who}{until}{asked}\n", entry.host));
    }
    text
}
