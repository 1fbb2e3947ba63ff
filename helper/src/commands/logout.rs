//! `logout`: forget.

use clap::Args;

use super::{CommandError, login, registry, say};
use crate::credential_for;
use crate::environment::Environment;
use crate::sources;
use crate::store::{self, Choice};

/// Forget a registry's password
#[derive(Debug, Args)]
pub(super) struct Logout {
    /// The registry
    host: String,
    /// Forget it in this store: secret-service, keyutils, file, keychain,
    /// credential-manager, helper:NAME
    #[arg(long)]
    store: Option<Choice>,
}

impl Logout {
    pub(super) fn run(self, environment: &Environment) -> Result<(), CommandError> {
        let host = registry(&self.host)?;
        let vault = store::open(&login::with_store(self.store.as_ref(), environment))?;
        sources::identity::forget(environment, &host);
        let stored = match &vault {
            Some(vault) => vault.get(&host)?,
            None => None,
        };
        match (vault, stored) {
            (Some(vault), Some(credential)) => {
                vault.erase(&host)?;
                let (user, store) = (&credential.username, vault.name());
                say(format_args!(
                    "Logged out of {host}: the password of {user} is gone from {store}."
                ));
            }
            _ => say(format_args!("There was no password of {host} to forget.")),
        }
        if let Ok(Some(left)) = credential_for(host.as_str(), environment) {
            say(format_args!(
                "Docker can still log in, as {} from {}.",
                left.username, left.origin
            ));
        }
        Ok(())
    }
}
