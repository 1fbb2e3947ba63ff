//! The keychain that the protocol's verbs act on: sources to read, a store to write.
//!
//! It knows the order of things; it must not know the wire, nor what is behind a source.

use std::collections::BTreeMap;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use crate::docker_config::ConfigFile;
use crate::environment::Environment;
use crate::host::Host;
use crate::protocol::Keychain;
use crate::secret::Secret;
use crate::sources::{self, Source};
use crate::{Credential, Error, first_answer, store};

/// The longest that a verb takes, whatever hangs: there is a person behind the client.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// The keychain of this machine and this process.
#[derive(Debug, Clone)]
pub struct SystemKeychain {
    environment: Arc<Environment>,
}

impl SystemKeychain {
    /// Opens nothing yet.
    #[must_use]
    pub fn new(environment: Arc<Environment>) -> Self {
        Self { environment }
    }

    /// Does something that may hang, and gives up on it at the deadline.
    fn in_time<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Environment) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let environment = Arc::clone(&self.environment);
        thread::spawn(move || sender.send(work(&environment)));
        receiver.recv_timeout(DEADLINE).unwrap_or_else(|error| {
            Err(match error {
                RecvTimeoutError::Timeout => Error::Timeout,
                RecvTimeoutError::Disconnected => Error::Broken,
            })
        })
    }
}

impl Keychain for SystemKeychain {
    fn get(&self, host: &Host) -> Result<Option<Credential>, Error> {
        let host = host.clone();
        self.in_time(move |environment| first_answer(&sources::all(environment), &host))
    }

    fn store(&self, host: &Host, username: &str, secret: &Secret) -> Result<(), Error> {
        let (host, username, secret) = (host.clone(), username.to_owned(), secret.clone());
        self.in_time(move |environment| {
            if is_echo(environment, &host, &username, &secret) {
                return Ok(());
            }
            let vault = store::open_for_writing(environment)?;
            if secret.is_empty() {
                vault.erase(&host)?;
            } else {
                vault.store(&host, &username, &secret)?;
            }
            Ok(())
        })
    }

    fn erase(&self, host: &Host) -> Result<(), Error> {
        let host = host.clone();
        self.in_time(move |environment| {
            sources::identity::forget(environment, &host);
            if let Some(vault) = store::open(environment)? {
                vault.erase(&host)?;
            }
            Ok(())
        })
    }

    fn list(&self) -> BTreeMap<Host, String> {
        self.in_time(|environment| Ok(answered_hosts(environment))).unwrap_or_default()
    }
}

/// Whether a client hands back what it just got: `docker login HOST` stores what `get` answered.
///
/// Kept, a token would shadow its successors for ever, and a CI variable would outlive its job.
fn is_echo(environment: &Environment, host: &Host, username: &str, secret: &Secret) -> bool {
    sources::identity::is_own_token(environment, host, username, secret)
        || sources::variables::Variables::new(environment)
            .get(host)
            .is_ok_and(|found| found.is_some_and(|c| c.username == username && c.secret == *secret))
}

/// The hosts for which `get` has an answer, each with the user of the source that would give it. A
/// host that an earlier source would refuse with an error is left out, like every source that
/// cannot say what it has.
fn answered_hosts(environment: &Environment) -> BTreeMap<Host, String> {
    let sources = sources::all(environment);
    let mut hosts = BTreeMap::new();
    for (position, source) in sources.iter().enumerate() {
        for (host, username) in source.list_open().unwrap_or_default() {
            if hosts.contains_key(&host) {
                continue;
            }
            match first_answer(&sources[..position], &host) {
                Ok(None) => hosts.insert(host, username),
                Ok(Some(earlier)) => hosts.insert(host, earlier.username),
                Err(_) => continue,
            };
        }
    }
    // A source for every host of Alibaba Cloud names none. Those that clients ask us for count,
    // unless it takes a request to say.
    let quick = &sources[..2];
    let settings = ConfigFile::docker(environment).and_then(|file| file.settings());
    for host in settings.unwrap_or_default().hosts() {
        if let (false, Ok(Some(found))) = (hosts.contains_key(&host), first_answer(quick, &host)) {
            hosts.insert(host, found.username);
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_breaks_off_is_told_from_work_that_hangs() {
        let keychain = SystemKeychain::new(Arc::new(Environment::empty()));
        let broken = keychain.in_time::<()>(|_| panic!("as a fault would"));
        assert!(matches!(broken, Err(Error::Broken)));
    }
}
