//! `doctor`: everything between Docker and a login that works, one finding each, and what to do.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

use clap::Args;
use jiff::SignedDuration;

use super::{CommandError, advice, registry, status, transport};
use crate::docker_config::{ConfigFile, SUFFIX, Settings};
use crate::environment::Environment;
use crate::host::Host;
use crate::registry::{Proof, Registry};
use crate::sources;
use crate::store;
use crate::store::choice::{NO_STORE, WAYS_OUT};
use crate::transport::Deadline;
use crate::{Credential, protocol};

/// The longest that one registry may take.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// How far a clock may be off. The API refuses signatures that are 15 minutes old.
const CLOCK_LIMIT: SignedDuration = SignedDuration::from_mins(5);

/// Find out why a login does not work, and what to do about it
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// The registry; without it, all that `status` shows
    host: Option<String>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grade {
    Good,
    Odd,
    Bad,
}

/// What was found so far.
#[derive(Debug, Default)]
struct Findings {
    text: String,
    is_bad: bool,
}

impl Findings {
    fn good(&mut self, finding: impl AsRef<str>) {
        self.add(Grade::Good, finding.as_ref(), None);
    }

    fn odd(&mut self, finding: impl AsRef<str>, advice: impl AsRef<str>) {
        self.add(Grade::Odd, finding.as_ref(), Some(advice.as_ref()));
    }

    fn bad(&mut self, finding: impl AsRef<str>, advice: impl AsRef<str>) {
        self.add(Grade::Bad, finding.as_ref(), Some(advice.as_ref()));
    }

    fn add(&mut self, grade: Grade, finding: &str, advice: Option<&str>) {
        let mark = match grade {
            Grade::Good => "ok     ",
            Grade::Odd => "warning",
            Grade::Bad => "FAILED ",
        };
        self.is_bad |= grade == Grade::Bad;
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{mark}  {finding}");
        if let Some(advice) = advice.filter(|advice| !advice.is_empty()) {
            let _ = writeln!(self.text, "         -> {advice}");
        }
    }
}

impl Doctor {
    pub(super) fn run(self, environment: &Environment) -> Result<(), CommandError> {
        let named = self.host.as_deref().map(registry).transpose()?;
        let mut findings = Findings::default();
        check_program(environment, &mut findings);
        let settings = check_config(environment, &mut findings);
        check_store(environment, &mut findings);
        let hosts: Vec<Host> = match named {
            Some(host) => vec![host],
            None => status::known_hosts(&settings, environment).0.into_iter().collect(),
        };
        if hosts.is_empty() {
            findings.bad(
                "no registry is configured",
                "run `docker-credential-aliyun login HOST`, then `docker-credential-aliyun \
                 configure HOST`",
            );
        }
        for host in &hosts {
            check_host(host, &settings, environment, &mut findings);
        }
        io::stdout().write_all(findings.text.as_bytes())?;
        if findings.is_bad { Err(CommandError::Found) } else { Ok(()) }
    }
}

/// Docker finds the program by its name, on the search path.
fn check_program(environment: &Environment, findings: &mut Findings) {
    let name = protocol::NAME;
    let this = environment.program().and_then(|path| path.canonicalize().ok());
    match (store::helper::find(SUFFIX, environment), this) {
        (Some(found), Some(this)) if found.canonicalize().is_ok_and(|found| found != this) => {
            findings.odd(
                format!("Docker runs {}, which is not this program", found.display()),
                format!("remove it, or put the directory of {} first on the PATH", this.display()),
            );
        }
        (Some(found), _) => findings.good(format!("Docker finds {}", found.display())),
        (None, this) => {
            let directory = this.as_deref().and_then(|path| path.parent());
            let add = directory.map(|path| format!("add {} to the PATH", path.display()));
            findings.bad(
                format!("Docker does not find {name}: it is not on the PATH"),
                add.unwrap_or_else(|| "add its directory to the PATH".to_owned()),
            );
        }
    }
}

fn check_config(environment: &Environment, findings: &mut Findings) -> Settings {
    let file = match ConfigFile::docker(environment) {
        Ok(file) => file,
        Err(error) => {
            findings.odd(error.to_string(), "");
            return Settings::default();
        }
    };
    match file.settings() {
        Ok(settings) => {
            findings.good(format!("{} can be read", file.path().display()));
            settings
        }
        Err(error) => {
            findings.bad(error.to_string(), "");
            Settings::default()
        }
    }
}

fn check_store(environment: &Environment, findings: &mut Findings) {
    match store::open(environment) {
        Ok(Some(vault)) => match vault.list() {
            Ok(entries) => {
                let count = entries.len();
                let noun = if count == 1 { "registry" } else { "registries" };
                findings.good(format!("{} opens, with {count} {noun} in it", vault.name()));
            }
            Err(error) => findings.bad(error.to_string(), ""),
        },
        Ok(None) => {
            findings.odd(NO_STORE, WAYS_OUT);
        }
        Err(error) => findings.bad(error.to_string(), ""),
    }
}

fn check_host(
    host: &Host,
    settings: &Settings,
    environment: &Environment,
    findings: &mut Findings,
) {
    check_asked(host, settings, environment, findings);
    let credential = check_sources(host, environment, findings);
    let transport = transport(environment);
    let registry = match Registry::reach(&transport, Deadline::after(TIME_LIMIT), host) {
        Ok(registry) => registry,
        Err(error) => return findings.bad(error.to_string(), advice::for_proof(host, &error)),
    };
    findings.good(format!("{host} answers"));
    check_clock(registry.clock_ahead, host, findings);
    let Some(credential) = credential else { return };
    match registry.prove(&credential) {
        Ok(Proof::Accepted) => {
            findings.good(format!("{host} accepts the login of {}", credential.username));
        }
        Ok(Proof::Open) => findings.odd(
            format!("{host} lets everybody in, so the login could not be checked"),
            "pull or push an image to see",
        ),
        Err(error) => findings.bad(
            format!("{error}; it came from {}", credential.origin),
            advice::for_proof(host, &error),
        ),
    }
}

/// Whether Docker would ask this program at all.
fn check_asked(
    host: &Host,
    settings: &Settings,
    environment: &Environment,
    findings: &mut Findings,
) {
    let configure = format!("run `docker-credential-aliyun configure {host}`");
    match settings.helper_for(host) {
        Some(SUFFIX) => findings.good(format!("Docker asks this program for {host}")),
        Some(other) => {
            findings.bad(format!("Docker asks docker-credential-{other} for {host}"), configure);
        }
        None => findings.bad(format!("Docker does not ask this program for {host}"), configure),
    }
    let here = |server: &String| Host::parse(server).as_ref() == Ok(host);
    if let Some((server, _)) = settings.auths.iter().find(|(s, auth)| auth.has_secret && here(s)) {
        findings.odd(
            format!("config.json has a readable password of {host}"),
            format!("run `docker logout {server}`, then `docker-credential-aliyun login {host}`"),
        );
    }
    if environment.var_os("DOCKER_AUTH_CONFIG").is_some() {
        findings.odd(
            "DOCKER_AUTH_CONFIG is set: for the registries in it, Docker asks nobody",
            format!("unset it if {host} is among them"),
        );
    }
}

fn check_sources(
    host: &Host,
    environment: &Environment,
    findings: &mut Findings,
) -> Option<Credential> {
    for source in sources::all(environment) {
        match source.get(host) {
            Ok(None) => {}
            Ok(Some(credential)) => {
                let Credential { username, origin, .. } = &credential;
                let until = credential.expires.map(|time| format!(", until {time}"));
                let until = until.unwrap_or_default();
                findings.good(format!("the login for {host} is {username}, from {origin}{until}"));
                return Some(credential);
            }
            Err(error) => {
                findings.bad(format!("no login for {host}: {error}"), "");
                return None;
            }
        }
    }
    findings.bad(
        format!("there is no login for {host}"),
        format!(
            "run `docker-credential-aliyun login {host}`; in CI set REGISTRY_USERNAME and \
             REGISTRY_PASSWORD, and REGISTRY_URL={host}"
        ),
    );
    None
}

fn check_clock(ahead: Option<SignedDuration>, host: &Host, findings: &mut Findings) {
    let Some(ahead) = ahead else { return };
    if ahead.abs() <= CLOCK_LIMIT {
        return findings.good(format!("the clock agrees with {host}"));
    }
    let side = if ahead.is_positive() { "ahead of" } else { "behind" };
    findings.bad(
        format!("the clock is {} minutes {side} that of {host}", ahead.abs().as_mins()),
        "set it (`timedatectl set-ntp true`): signatures and tokens are refused",
    );
}
