//! RAM identities, exchanged for logins of one hour.
//!
//! ```text
//! host -> accounts   what the user configured for it
//!      -> chain      which identity this machine has; no network
//!      -> cache      a token that is good for a while longer
//!      -> obtain     the identity's keys: metadata, STS, a command ...
//!      -> locate     edition, region and instance of the registry
//!      -> openapi    GetAuthorizationToken
//! ```
//!
//! Every identity is either not configured, and then the next one counts, or it has failed, and then
//! that is the answer: to slide on would be to log in as somebody else.

mod chain;
mod cloud_sso;
mod ecs;
mod error;
mod external;
mod fetch;
mod ini;
mod locate;
mod oidc;
mod profile;
mod variables;

use std::io::{self, Write as _};
use std::sync::Once;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use thiserror::Error;

use self::chain::{Assume, Found, Identity, Obtain, StsPlace, read_if_there};
pub use self::error::{IdentityError, Problem};
use self::locate::{LocateError, Place};
use crate::Credential;
use crate::accounts::{Account, Accounts, AccountsError};
use crate::cache::{self, TokenCache};
use crate::environment::Environment;
use crate::host::Host;
use crate::keychain::DEADLINE;
use crate::openapi::acr::{self, AuthorizationToken};
use crate::openapi::sts::Role;
use crate::openapi::{CallError, Caller, Endpoint, EndpointError};
use crate::protocol::NAME;
use crate::secret::Secret;
use crate::sources::{Source, SourceError};
use crate::transport::{Deadline, Proxies, Transport};

/// The whole time that an answer may take, retries included: a little less than the keychain waits,
/// so that the reason is told and not only the time.
const TIME_LIMIT: Duration = DEADLINE.saturating_sub(Duration::from_millis(500));

/// The variable that replaces Container Registry's endpoint, in private clouds and tests.
pub const CR_ENDPOINT: &str = "DOCKER_CREDENTIAL_ALIYUN_CR_ENDPOINT";
/// The variable that replaces the endpoint of instance metadata, in tests.
pub const METADATA_ENDPOINT: &str = "DOCKER_CREDENTIAL_ALIYUN_METADATA_ENDPOINT";

/// The RAM identity of this machine, exchanged for a token of one hour.
#[derive(Debug)]
pub struct TokenExchange<'a> {
    environment: &'a Environment,
    now: fn() -> Timestamp,
}

/// Why there is no token although there is an identity for the host.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// Our configuration file.
    #[error(transparent)]
    Accounts(#[from] AccountsError),
    /// The identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// An endpoint that was set.
    #[error("the endpoint of {place} is wrong: {error}")]
    Endpoint {
        /// The variable or the field.
        place: &'static str,
        /// What is wrong with it.
        error: EndpointError,
    },
    /// The registry's region or instance.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// The exchange.
    #[error("no registry token with the RAM identity from {origin}: {error}")]
    Call {
        /// Where the identity stands.
        origin: String,
        /// What the API said.
        error: CallError,
    },
}

impl<'a> TokenExchange<'a> {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(environment: &'a Environment) -> Self {
        Self { environment, now: Timestamp::now }
    }

    /// The same by another clock, which tells what the cache takes for the time.
    #[must_use]
    pub fn with_clock(self, now: fn() -> Timestamp) -> Self {
        Self { now, ..self }
    }

    /// A login for the host; `None` if it is not one of Container Registry's or there is no
    /// identity.
    ///
    /// # Errors
    /// If there is an identity for the host that gives no login.
    pub fn login(&self, host: &Host) -> Result<Option<Credential>, ExchangeError> {
        let accounts = match Accounts::read(self.environment) {
            // Whether the file has anything to say about this host nobody knows; most hosts are
            // somebody else's, and must not suffer.
            Err(error) if host.acr().is_none() => {
                warn_once(&error);
                return Ok(None);
            }
            accounts => accounts?,
        };
        let account = accounts.find(host);
        let Some(found) = self.identity(host, account)? else { return Ok(None) };
        let place = Place::guess(host, account, self.environment);
        let replaced = self.replaced_endpoint(account)?;
        let machine = if found.identity.is_the_machines() { machine() } else { None };
        let cache = TokenCache::open(self.environment);
        // Whatever is corrected in the configuration counts at once.
        let depends_on = (&found.identity, &place, &replaced, machine);
        let slot = cache.as_ref().map(|cache| cache.slot(host, &depends_on));
        let deadline = Deadline::after(TIME_LIMIT);
        let token = cache::get_or_fetch(slot.as_ref(), deadline, self.now, |deadline| {
            self.exchange(place, replaced.as_ref(), &found, deadline)
        })?;
        Ok(token.map(|token| Credential {
            username: token.user,
            secret: token.token,
            origin: format!("RAM identity ({})", found.origin),
            expires: Some(token.expires_at),
        }))
    }

    /// Whether an identity is there for the host, as far as can be told without asking anybody.
    fn is_configured(&self, host: &Host) -> bool {
        let found = Accounts::read(self.environment)
            .map_err(ExchangeError::from)
            .and_then(|accounts| self.identity(host, accounts.find(host)));
        matches!(found, Ok(Some(_)))
    }

    /// The identity that counts for a host and its account; `None` if the host is somebody else's.
    fn identity(
        &self,
        host: &Host,
        account: Option<&Account>,
    ) -> Result<Option<Found>, ExchangeError> {
        let is_ours = account.map_or(host.acr().is_some(), |account| !account.anonymous);
        if !is_ours {
            return Ok(None);
        }
        let set =
            |field: fn(&Account) -> &Option<String>| account.and_then(|a| field(a).as_deref());
        let sts = endpoint("stsEndpoint", set(|account| &account.sts_endpoint))?;
        let profile = set(|account| &account.profile);
        let found = chain::select(self.environment, profile, sts.clone())?;
        let Some(found) = found else { return Ok(None) };
        let Some(arn) = set(|account| &account.role_arn) else { return Ok(Some(found)) };
        let session_name = set(|account| &account.role_session_name).unwrap_or(Role::SESSION_NAME);
        let role = Role {
            arn: arn.to_owned(),
            session_name: session_name.to_owned(),
            duration: Role::DURATION,
            policy: None,
            external_id: set(|account| &account.external_id).map(str::to_owned),
        };
        let assume = Assume { role, sts: chain::sts_place(self.environment, sts)? };
        let origin = format!("{}, as {arn}", found.origin);
        Ok(Some(Found { identity: found.identity.taking(assume), origin }))
    }

    /// Container Registry's endpoint, if one is set for the account or for this machine.
    fn replaced_endpoint(
        &self,
        account: Option<&Account>,
    ) -> Result<Option<Endpoint>, ExchangeError> {
        match endpoint("endpoint", account.and_then(|a| a.endpoint.as_deref()))? {
            Some(endpoint) => Ok(Some(endpoint)),
            None => endpoint(CR_ENDPOINT, self.environment.var(CR_ENDPOINT).ok().flatten()),
        }
    }

    /// Asks for a new token.
    fn exchange(
        &self,
        place: Place<'_>,
        replaced: Option<&Endpoint>,
        found: &Found,
        deadline: Deadline,
    ) -> Result<Option<AuthorizationToken>, ExchangeError> {
        let variable = |name: &str| self.environment.var(name).ok().flatten();
        let transport = Transport::new(Proxies::from_variables(variable));
        let caller = Caller { transport: &transport, deadline };
        let metadata = endpoint(METADATA_ENDPOINT, variable(METADATA_ENDPOINT))?;
        let metadata = metadata.map_or_else(|| ecs::ENDPOINT.to_owned(), |found| found.to_string());
        let with = Obtain {
            caller,
            environment: self.environment,
            metadata: &metadata,
            registry: (place.region.as_ref(), place.network),
        };
        let origin = || found.origin.clone();
        let key = found.identity.obtain(&with);
        let Some(key) = key.map_err(|problem| IdentityError::new(origin(), problem))? else {
            return Ok(None);
        };
        let registry = place.locate(&caller, &key, replaced)?;
        let token = match &registry.instance_id {
            Some(id) => acr::enterprise_token(&caller, &registry.endpoint, &key, id),
            None => acr::personal_token(&caller, &registry.endpoint, &key),
        };
        token.map(Some).map_err(|error| ExchangeError::Call { origin: origin(), error })
    }
}

impl Source for TokenExchange<'_> {
    fn name(&self) -> &str {
        "RAM identity"
    }

    fn get(&self, host: &Host) -> Result<Option<Credential>, SourceError> {
        self.login(host).map_err(SourceError::new)
    }

    fn list(&self) -> Result<Vec<(Host, String)>, SourceError> {
        let accounts = Accounts::read(self.environment).map_err(SourceError::new)?;
        let mut hosts = Vec::new();
        for (host, account) in accounts.hosts() {
            if self.identity(&host, Some(account)).map_err(SourceError::new)?.is_some() {
                hosts.push((host, String::new()));
            }
        }
        Ok(hosts)
    }
}

/// Whether this login is one of our own tokens, which `docker login` hands back to be stored after
/// it has used it. Stored, it would stand before every fresh one and fail an hour later.
///
/// It is ours if the cache holds it for the host. It is as good as ours, where an identity gives
/// tokens for the host, if it has the form of one (base64 of a JSON object with its time, a colon, a
/// signature in hex), or if it is an identity token that the registry gave for one, which Docker
/// hands back under the user name `<token>`. Without an identity such a login is somebody's own.
#[must_use]
pub fn is_own_token(
    environment: &Environment,
    host: &Host,
    username: &str,
    secret: &Secret,
) -> bool {
    let is_cached = || {
        TokenCache::open_existing(environment)
            .is_some_and(|cache| cache.tokens_of(host).any(|token| token.token == *secret))
    };
    let looks_like_one = username == IDENTITY_TOKEN || has_token_form(secret.expose());
    looks_like_one && TokenExchange::new(environment).is_configured(host) || is_cached()
}

/// The user name that says that the secret is an identity token (docker/cli:
/// `cli/config/credentials/native_store.go`).
const IDENTITY_TOKEN: &str = "<token>";

fn has_token_form(text: &str) -> bool {
    let Some((body, signature)) = text.split_once(':') else { return false };
    let is_signature = signature.len() >= 40 && signature.bytes().all(|b| b.is_ascii_hexdigit());
    is_signature
        && BASE64_STANDARD
            .decode(body)
            .ok()
            .and_then(|json| serde_json::from_slice::<serde_json::Value>(&json).ok())
            .is_some_and(|token| token.get("time").is_some())
}

/// The number that Linux draws each time it starts (random(4)). Machines that share a home, and with
/// it the cache, have roles of their own.
fn machine() -> Option<Vec<u8>> {
    std::fs::read("/proc/sys/kernel/random/boot_id").ok()
}

/// Tells the person in front of a client of a configuration file that cannot be used; once, however
/// many hosts are asked for.
fn warn_once(error: &AccountsError) {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        let line = error.to_string().replace(char::is_control, " ");
        // Nobody is left to tell when stderr is gone.
        let _ = writeln!(io::stderr(), "{NAME}: warning: {line}");
    });
}

/// Forgets the tokens that are kept for a host.
pub fn forget(environment: &Environment, host: &Host) {
    if let Some(cache) = TokenCache::open_existing(environment) {
        cache.forget(host);
    }
}

/// An endpoint that a variable or a field sets.
fn endpoint(place: &'static str, text: Option<&str>) -> Result<Option<Endpoint>, ExchangeError> {
    let parsed = text.map(Endpoint::parse).transpose();
    parsed.map_err(|error| ExchangeError::Endpoint { place, error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_form() {
        let body = BASE64_STANDARD.encode(r#"{"instanceId":"cri-1","time":"1","type":"user"}"#);
        let signature = "0123456789abcdef0123456789abcdef01234567";
        assert!(has_token_form(&format!("{body}:{signature}")));
        for other in [
            "password".to_owned(),
            format!("{body}:password"),
            format!("password:{signature}"),
            format!("{}:{signature}", BASE64_STANDARD.encode("{}")),
            String::new(),
        ] {
            assert!(!has_token_form(&other), "{other}");
        }
    }

    #[test]
    fn a_host_of_somebody_else_needs_no_identity() {
        let broken = Environment::empty().with("ALIBABA_CLOUD_ACCESS_KEY_ID", "half");
        let login = |host: &str| TokenExchange::new(&broken).login(&Host::parse(host).unwrap());
        assert!(matches!(login("ghcr.io"), Ok(None)));
        assert!(matches!(login("evilcr.aliyuncs.com.attacker.tld"), Ok(None)));
        assert!(login("registry.cn-hangzhou.aliyuncs.com").is_err());
    }
}
