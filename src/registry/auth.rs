//! Who we are to a registry: Basic, and tokens of the service that the registry names.
//!
//! Knows the token specification of distribution (`docs/spec/auth/token.md`, `oauth.md`); must not
//! know what the requests are for. Tokens are fetched once for everything a run wants of a host,
//! by whoever needs one first; the others wait for it.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use docker_credential_aliyun::secret::Secret;
use reqwest::{
    Method, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use serde::Deserialize;
use tokio::{sync::Mutex, task::spawn_blocking};

use super::{
    answer::{self, Answer},
    challenge::{Challenge, Scopes},
    error::{Error, Who},
    retry::Attempts,
    transport::{Body, Outgoing, Place, Transport, authority, is_loopback, same_origin},
};
use crate::credentials::{self, Login, Logins};

/// How long a token lives whose service does not say (`token.md`).
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// No run takes longer, and no clock can be asked for all that a service may say.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// A token is renewed this long before it ends, for a request takes time to arrive.
const MARGIN: Duration = Duration::from_secs(10);
/// A token is never asked for more repositories than this at once: services bound their URLs.
const MOST_SCOPES: usize = 20;
/// A token's document is never larger.
const LARGEST_TOKEN: u64 = 1 << 20;

/// A registry as requests reach it.
#[derive(Clone, Debug)]
pub(super) struct Base {
    /// `https://host/`.
    pub(super) url: Url,
    /// Whether nobody in between can have changed what came from there: TLS with a checked
    /// certificate, or this machine.
    pub(super) trusted: bool,
}

/// What to send along with a request, and as whom that is.
#[derive(Clone)]
pub(super) struct Authorization {
    pub(super) header: Option<HeaderValue>,
    pub(super) who: Who,
    token: Option<Arc<Token>>,
}

impl Authorization {
    /// Whether a token service vouches for us.
    pub(super) fn is_token(&self) -> bool {
        self.token.is_some()
    }
}

struct Token {
    header: HeaderValue,
    scopes: Scopes,
    expires: Instant,
}

#[derive(Clone, Default)]
enum Scheme {
    /// Not asked yet, or the registry asks for nothing.
    #[default]
    None,
    Basic,
    Bearer {
        realm: Url,
        service: Option<String>,
    },
}

#[derive(Default)]
struct State {
    scheme: Scheme,
    /// Everything that this run has wanted so far.
    wanted: Scopes,
    tokens: Vec<Arc<Token>>,
    /// The login, once it was asked for.
    login: Option<Option<Login>>,
}

/// Our standing with one registry.
pub(super) struct Auth {
    /// The name that logins are asked for by.
    host: String,
    logins: Arc<dyn Logins>,
    state: Mutex<State>,
}

/// The request that an authorization is for.
pub(super) struct Purpose<'a> {
    pub(super) base: &'a Base,
    pub(super) needed: &'a Scopes,
    pub(super) action: &'a str,
}

impl Auth {
    pub(super) fn new(host: &str, logins: Arc<dyn Logins>) -> Self {
        Self { host: host.to_owned(), logins, state: Mutex::default() }
    }

    /// Says what will be wanted, so that the next token is good for it.
    pub(super) async fn want(&self, scopes: &Scopes) {
        self.state.lock().await.wanted.extend(scopes);
    }

    /// What to send with a request, as far as is known by now.
    pub(super) async fn authorization(
        &self,
        transport: &Transport,
        purpose: &Purpose<'_>,
    ) -> Result<Authorization, Error> {
        let mut state = self.state.lock().await;
        state.wanted.extend(purpose.needed);
        match state.scheme.clone() {
            Scheme::None => Ok(Authorization { header: None, who: Who::Nobody, token: None }),
            Scheme::Basic => self.basic(&mut state).await,
            Scheme::Bearer { realm, service } => {
                let service = Service { realm, name: service };
                self.bearer(&mut state, transport, purpose, &service).await
            }
        }
    }

    /// What to send instead, after the registry answered 401 to `used`; `None` when there is
    /// nothing better. `again` says that `used` was itself such an answer.
    pub(super) async fn refused(
        &self,
        transport: &Transport,
        purpose: &Purpose<'_>,
        headers: &HeaderMap,
        used: &Authorization,
        again: bool,
    ) -> Result<Option<Authorization>, Error> {
        let mut state = self.state.lock().await;
        let (realm, service, scope) = match Challenge::from_headers(headers) {
            None => return Ok(None),
            Some(Challenge::Basic) => {
                state.scheme = Scheme::Basic;
                let better = self.basic(&mut state).await?;
                return Ok(Some(better)
                    .filter(|better| better.header.is_some() && better.header != used.header));
            }
            Some(Challenge::Bearer { realm, service, scope }) => (realm, service, scope),
        };
        let realm = self.realm(purpose, &realm)?;
        state.scheme = Scheme::Bearer { realm: realm.clone(), service: service.clone() };
        let service = Service { realm, name: service };
        let mut exact = purpose.needed.clone();
        exact.extend_from_challenge(scope.as_deref().unwrap_or_default());
        let purpose = Purpose { needed: &exact, ..*purpose };
        let Some(token) = &used.token else {
            return self.bearer(&mut state, transport, &purpose, &service).await.map(Some);
        };
        state.tokens.retain(|known| !Arc::ptr_eq(known, token));
        // Somebody else may have renewed it meanwhile; but what was just fetched for exactly this
        // and refused will not get better.
        if !again && let Some(token) = state.token_for(&exact) {
            return Ok(Some(state.with_token(token)));
        }
        if again && token.scopes == exact {
            return Ok(None);
        }
        let login = self.login(&mut state).await?;
        let token = service.fetch(transport, &purpose, &self.host, login.as_ref(), &exact).await?;
        state.tokens.push(Arc::clone(&token));
        Ok(Some(state.with_token(token)))
    }

    /// Basic authentication, or nothing where there is no login.
    async fn basic(&self, state: &mut State) -> Result<Authorization, Error> {
        let login = self.login(state).await?;
        let header = login.as_ref().and_then(basic);
        Ok(Authorization { header, who: who(login.as_ref()), token: None })
    }

    /// A token that allows what is needed: one we have, or a new one for everything wanted.
    async fn bearer(
        &self,
        state: &mut State,
        transport: &Transport,
        purpose: &Purpose<'_>,
        service: &Service,
    ) -> Result<Authorization, Error> {
        if let Some(token) = state.token_for(purpose.needed) {
            return Ok(state.with_token(token));
        }
        let login = self.login(state).await?;
        let mut all = state.wanted.clone();
        all.extend(purpose.needed);
        let mut fetched = None;
        if all != *purpose.needed && all.len() <= MOST_SCOPES {
            match service.fetch(transport, purpose, &self.host, login.as_ref(), &all).await {
                Ok(token) => fetched = Some(token),
                // Some services refuse as a whole what they would allow in part.
                Err(Error::Unauthorized { .. } | Error::Denied { .. } | Error::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let token = match fetched {
            Some(token) => token,
            None => {
                let needed = purpose.needed;
                service.fetch(transport, purpose, &self.host, login.as_ref(), needed).await?
            }
        };
        state.tokens.push(Arc::clone(&token));
        Ok(state.with_token(token))
    }

    async fn login(&self, state: &mut State) -> Result<Option<Login>, Error> {
        if let Some(login) = &state.login {
            return Ok(login.clone());
        }
        let (logins, host) = (Arc::clone(&self.logins), self.host.clone());
        let asked = spawn_blocking(move || logins.login(&host)).await;
        let login = asked.unwrap_or_else(|panic| {
            let reason = panic.to_string();
            Err(credentials::Error::Broken { host: self.host.clone(), reason })
        })?;
        Ok(state.login.insert(login).clone())
    }

    /// Checks the token service that a registry names. Passwords go there, so it has to be reached
    /// safely, and its name has to have come safely.
    fn realm(&self, purpose: &Purpose<'_>, realm: &str) -> Result<Url, Error> {
        let base = purpose.base;
        let place = Place { action: purpose.action.to_owned(), host: self.host.clone() };
        let url = Url::parse(realm)
            .ok()
            .filter(|url| matches!(url.scheme(), "https" | "http") && url.has_host())
            .ok_or_else(|| place.protocol("names a token service that is no URL"))?;
        let same_host = url.host() == base.url.host();
        let plain = url.scheme() == "http";
        if plain && !is_loopback(&url) && !(same_host && base.url.scheme() == "http") {
            return Err(place.protocol(format!(
                "names the token service {} without TLS, which no login is sent to",
                authority(&url)
            )));
        }
        if plain && is_loopback(&url) && !is_loopback(&base.url) {
            return Err(place.protocol("names a token service on this machine, which it is not on"));
        }
        if !base.trusted && !same_host {
            return Err(place.protocol(format!(
                "names the token service {} over a connection that others could have changed, so no login is sent there",
                authority(&url)
            )));
        }
        Ok(url)
    }
}

impl State {
    fn token_for(&mut self, needed: &Scopes) -> Option<Arc<Token>> {
        let now = Instant::now();
        self.tokens.retain(|token| token.expires > now);
        self.tokens.iter().find(|token| token.scopes.cover(needed)).cloned()
    }

    fn with_token(&self, token: Arc<Token>) -> Authorization {
        let login = self.login.as_ref().and_then(Option::as_ref);
        Authorization { header: Some(token.header.clone()), who: who(login), token: Some(token) }
    }
}

/// A token service.
struct Service {
    realm: Url,
    name: Option<String>,
}

impl Service {
    /// Asks for a token that allows `scopes`: by GET with the password, by POST with an identity
    /// token, by GET with nothing for the public.
    async fn fetch(
        &self,
        transport: &Transport,
        purpose: &Purpose<'_>,
        registry: &str,
        login: Option<&Login>,
        scopes: &Scopes,
    ) -> Result<Arc<Token>, Error> {
        let place = Place { action: purpose.action.to_owned(), host: authority(&self.realm) };
        let retries = &transport.config.retries;
        let asked = Instant::now();
        let mut attempts = Attempts::new(retries, &transport.counters);
        let answer = loop {
            match self.ask(transport, login, scopes, &place.action).await {
                Err(error) => attempts.after(error).await?,
                Ok(answer) => break answer,
            }
        };
        let document: TokenDocument = serde_json::from_slice(&answer.body)
            .map_err(|_| place.protocol("answered something that is no token"))?;
        let life = document.life();
        let filled = |token: &Secret| !token.is_empty();
        let token = document.token.filter(filled).or(document.access_token.filter(filled));
        let header = token
            .and_then(|token| HeaderValue::try_from(format!("Bearer {}", token.expose())).ok())
            .ok_or_else(|| {
                place
                    .protocol(format!("answered without a token when asked for one for {registry}"))
            })?;
        Ok(Arc::new(Token {
            header: sensitive(header),
            scopes: scopes.clone(),
            expires: asked + life.saturating_sub(MARGIN.min(life / 4)),
        }))
    }

    async fn ask(
        &self,
        transport: &Transport,
        login: Option<&Login>,
        scopes: &Scopes,
        action: &str,
    ) -> Result<Answer, Error> {
        transport.counters.tokens.fetch_add(1, Relaxed);
        let incoming = transport.send(self.request(login, scopes, action)).await?;
        let answer = Answer::read(incoming, LARGEST_TOKEN).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(answer.refusal(&who(login))) }
    }

    fn request<'a>(&self, login: Option<&Login>, scopes: &Scopes, action: &'a str) -> Outgoing<'a> {
        let mut url = self.realm.clone();
        let mut headers = HeaderMap::new();
        let identity = login.filter(|login| login.identity_token);
        if let Some(login) = identity {
            // Written as a URL's query, which is how forms are written.
            let mut form = self.realm.clone();
            form.set_query(None);
            form.query_pairs_mut()
                .append_pair("grant_type", "refresh_token")
                .append_pair("service", self.name.as_deref().unwrap_or_default())
                .append_pair("client_id", "smartbuild")
                .append_pair("scope", &scopes.texts().collect::<Vec<_>>().join(" "))
                .append_pair("refresh_token", login.secret.expose());
            let body = Bytes::copy_from_slice(form.query().unwrap_or_default().as_bytes());
            let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
            headers.insert(CONTENT_TYPE, form_type);
            let body = Body::Bytes(body);
            return Outgoing { method: Method::POST, url, headers, body, action };
        }
        {
            let mut query = url.query_pairs_mut();
            if let Some(name) = &self.name {
                query.append_pair("service", name);
            }
            for scope in scopes.texts() {
                query.append_pair("scope", &scope);
            }
            if let Some(login) = login {
                query.append_pair("account", &login.username);
            }
        }
        if let Some(header) = login.and_then(basic) {
            headers.insert(AUTHORIZATION, header);
        }
        Outgoing { method: Method::GET, url, headers, body: Body::Empty, action }
    }
}

/// Both spellings of the one field are in use (`token.md`).
#[derive(Deserialize)]
struct TokenDocument {
    #[serde(default, deserialize_with = "answer::secret")]
    token: Option<Secret>,
    #[serde(default, deserialize_with = "answer::secret")]
    access_token: Option<Secret>,
    /// Seconds, as a number or as a text of one.
    #[serde(default)]
    expires_in: serde_json::Value,
}

impl TokenDocument {
    /// How long the token lives; what says nothing that can be understood says nothing.
    fn life(&self) -> Duration {
        let text = self.expires_in.as_str().and_then(|text| text.trim().parse().ok());
        let Some(seconds) = self.expires_in.as_f64().or(text) else { return DEFAULT_LIFE };
        Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(LONGEST_LIFE).min(LONGEST_LIFE)
    }
}

fn who(login: Option<&Login>) -> Who {
    login.map_or(Who::Nobody, |login| Who::User {
        name: login.username.clone(),
        origin: login.origin.clone(),
    })
}

/// `None` for an identity token, which is no password.
fn basic(login: &Login) -> Option<HeaderValue> {
    if login.identity_token {
        return None;
    }
    let plain = Secret::new(format!("{}:{}", login.username, login.secret.expose()));
    let encoded = BASE64_STANDARD.encode(plain.expose());
    HeaderValue::try_from(format!("Basic {encoded}")).ok().map(sensitive)
}

/// Marks a header so that nothing prints it.
fn sensitive(mut header: HeaderValue) -> HeaderValue {
    header.set_sensitive(true);
    header
}

/// Whether credentials for `base` may go to `url`.
pub(super) fn may_see_credentials(base: &Base, url: &Url) -> bool {
    same_origin(&base.url, url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lives_as_long_as_its_document_says_in_whatever_form() {
        let life = |text: &str| {
            let document: TokenDocument = serde_json::from_str(text).unwrap();
            document.life().as_secs()
        };
        for (text, seconds) in [
            ("{}", 60),
            (r#"{"expires_in":null}"#, 60),
            (r#"{"expires_in":300}"#, 300),
            (r#"{"expires_in":"300"}"#, 300),
            (r#"{"expires_in":"soon"}"#, 60),
            (r#"{"expires_in":-1}"#, 0),
            (r#"{"expires_in":1e19}"#, 86_400),
            (r#"{"expires_in":1e300}"#, 86_400),
        ] {
            assert_eq!(life(text), seconds, "{text}");
        }
    }
}
