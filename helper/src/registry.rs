//! Whether a registry accepts a login: the one conversation with it that this program has.
//!
//! The way of every client: `GET /v2/`, and what its challenge asks for (distribution/distribution:
//! docs/content/spec/api.md, spec/auth/token.md). It knows registries; it must not know where
//! logins come from.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, DATE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use jiff::{SignedDuration, Timestamp};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::Credential;
use crate::host::{Host, without_login};
use crate::openapi::acs3::encode_pairs;
use crate::transport::{Deadline, Route, Transport, TransportError, is_loopback};

/// Why a registry did not accept a login.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProofError {
    /// No answer came.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Something answered that is no registry.
    #[error("{host} is not a registry: GET /v2/ was answered with {status}")]
    NotRegistry {
        /// Who was asked.
        host: String,
        /// What came.
        status: StatusCode,
    },
    /// The login is wrong.
    #[error("{host} does not accept the user name {username:?} with this password ({status})")]
    Refused {
        /// Who was asked.
        host: String,
        /// Who tried.
        username: String,
        /// What came.
        status: StatusCode,
    },
    /// The service that gives tokens has troubles of its own.
    #[error("the token service of {host} ({service}) answered with {status}; try again later")]
    TokenService {
        /// The registry.
        host: String,
        /// Its service.
        service: String,
        /// What came.
        status: StatusCode,
    },
    /// The login would cross the network for everybody to read.
    #[error("{host} sends its clients to {realm}, which is not https; nothing was sent there")]
    Insecure {
        /// The registry.
        host: String,
        /// Where it sends them.
        realm: String,
    },
    /// A login of a kind that no client has.
    #[error("{0} asks for a login of a kind that registries do not use")]
    Unknown(String),
}

/// How a login was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The registry accepted it.
    Accepted,
    /// The registry lets everybody in; nobody looked at the login.
    Open,
}

/// A registry that answers.
#[derive(Debug)]
pub struct Registry<'a> {
    transport: &'a Transport,
    deadline: Deadline,
    host: &'a Host,
    scheme: &'static str,
    challenge: Option<Challenge>,
    /// How far our clock is ahead of the registry's (behind: negative), where it says.
    pub clock_ahead: Option<SignedDuration>,
}

/// What a registry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
    Other,
}

impl<'a> Registry<'a> {
    /// Asks a registry what it wants. Over TLS; on this very machine also without, as Docker does.
    ///
    /// # Errors
    /// No answer, or none of a registry.
    pub fn reach(
        transport: &'a Transport,
        deadline: Deadline,
        host: &'a Host,
    ) -> Result<Self, ProofError> {
        let ask = |scheme| Self::ask(transport, deadline, host, scheme);
        match ask("https") {
            Err(error @ ProofError::Transport(_)) if is_loopback(host.name()) => {
                ask("http").map_err(|_| error)
            }
            other => other,
        }
    }

    fn ask(
        transport: &'a Transport,
        deadline: Deadline,
        host: &'a Host,
        scheme: &'static str,
    ) -> Result<Self, ProofError> {
        let mut registry =
            Self { transport, deadline, host, scheme, challenge: None, clock_ahead: None };
        let (status, headers) = registry.get(&registry.base(), None)?;
        registry.clock_ahead = clock_ahead(&headers);
        registry.challenge = match status {
            StatusCode::OK => None,
            StatusCode::UNAUTHORIZED => Some(Challenge::read(&headers)),
            status => return Err(ProofError::NotRegistry { host: host.to_string(), status }),
        };
        Ok(registry)
    }

    /// Logs in.
    ///
    /// # Errors
    /// The registry, or the service that it sends its clients to, does not accept the login.
    pub fn prove(&self, credential: &Credential) -> Result<Proof, ProofError> {
        let host = self.host.to_string();
        let (url, service) = match &self.challenge {
            None => return Ok(Proof::Open),
            Some(Challenge::Other) => return Err(ProofError::Unknown(host)),
            Some(Challenge::Basic) => (self.base(), None),
            Some(Challenge::Bearer { realm, service }) => {
                let realm_host = self.realm_host(realm)?;
                (token_url(realm, service.as_deref(), &credential.username), Some(realm_host))
            }
        };
        let (status, _) = self.get(&url, Some(credential))?;
        match (status, service) {
            (StatusCode::OK, _) => Ok(Proof::Accepted),
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => {
                Err(ProofError::Refused { host, username: credential.username.clone(), status })
            }
            (status, Some(service)) => Err(ProofError::TokenService { host, service, status }),
            (status, None) => Err(ProofError::NotRegistry { host, status }),
        }
    }

    fn base(&self) -> String {
        let name = match self.host.as_str() {
            "index.docker.io" => "registry-1.docker.io",
            name => name,
        };
        format!("{}://{name}/v2/", self.scheme)
    }

    /// The host of a token service, if a password may be sent there.
    fn realm_host(&self, realm: &str) -> Result<String, ProofError> {
        let uri: Option<http::Uri> = realm.parse().ok();
        let authority = uri.as_ref().and_then(http::Uri::authority);
        let name = authority.map(|authority| authority.host().to_owned());
        let is_https = uri.as_ref().and_then(http::Uri::scheme_str) == Some("https");
        match name {
            Some(name) if is_https || is_loopback(&name) => Ok(name),
            _ => Err(ProofError::Insecure {
                host: self.host.to_string(),
                realm: without_login(realm).chars().filter(|c| !c.is_control()).take(200).collect(),
            }),
        }
    }

    fn get(
        &self,
        url: &str,
        login: Option<&Credential>,
    ) -> Result<(StatusCode, HeaderMap), ProofError> {
        let mut request = Request::get(url);
        if let Some(login) = login {
            let pair = Zeroizing::new(format!("{}:{}", login.username, login.secret.expose()));
            let value = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(&*pair)));
            if let Ok(mut value) = HeaderValue::from_str(&value) {
                value.set_sensitive(true);
                request = request.header(AUTHORIZATION, value);
            }
        }
        let invalid = |error: http::Error| TransportError::Request {
            host: self.host.to_string(),
            reason: error.to_string(),
        };
        let request = request.body(Vec::new()).map_err(invalid)?;
        let answer = self.transport.send(request, self.deadline, Route::Proxied)?;
        Ok((answer.status(), answer.headers().clone()))
    }
}

fn token_url(realm: &str, service: Option<&str>, username: &str) -> String {
    let mut query = vec![("account", username), ("client_id", crate::protocol::NAME)];
    query.extend(service.map(|service| ("service", service)));
    let separator = if realm.contains('?') { '&' } else { '?' };
    format!("{realm}{separator}{}", encode_pairs(&query))
}

impl Challenge {
    /// The strongest kind that is offered: a token before a password with every request.
    fn read(headers: &HeaderMap) -> Self {
        let offers = headers.get_all(WWW_AUTHENTICATE);
        let offers: Vec<_> =
            offers.iter().filter_map(|o| o.to_str().ok().map(Self::parse)).collect();
        let bearer = offers.iter().find(|offer| matches!(offer, Self::Bearer { .. }));
        let basic = || offers.iter().find(|offer| matches!(offer, Self::Basic));
        bearer.or_else(basic).cloned().unwrap_or(Self::Other)
    }

    fn parse(header: &str) -> Self {
        let (kind, rest) = header.split_once(' ').unwrap_or((header, ""));
        let field = |name: &str| {
            let (_, value) = rest.split_once(&format!("{name}=\""))?;
            value.split_once('"').map(|(value, _)| value.to_owned())
        };
        match kind.to_ascii_lowercase().as_str() {
            "basic" => Self::Basic,
            "bearer" => match field("realm") {
                Some(realm) => Self::Bearer { realm, service: field("service") },
                None => Self::Other,
            },
            _ => Self::Other,
        }
    }
}

/// By the `Date` header.
fn clock_ahead(headers: &HeaderMap) -> Option<SignedDuration> {
    let date = headers.get(DATE)?.to_str().ok()?;
    let theirs = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
    Some(Timestamp::now().duration_since(theirs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: Option<&str>| Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
        };
        let acr = r#"Bearer realm="https://dockerauth.cn-hangzhou.aliyuncs.com/auth",service="registry.aliyuncs.com:cn-hangzhou:26842""#;
        let expected = bearer(
            "https://dockerauth.cn-hangzhou.aliyuncs.com/auth",
            Some("registry.aliyuncs.com:cn-hangzhou:26842"),
        );
        assert_eq!(Challenge::parse(acr), expected);
        assert_eq!(Challenge::parse(r#"bearer realm="https://a/""#), bearer("https://a/", None));
        assert_eq!(Challenge::parse("Basic realm=\"x\""), Challenge::Basic);
        assert_eq!(Challenge::parse("Bearer"), Challenge::Other);
        assert_eq!(Challenge::parse("Negotiate"), Challenge::Other);
    }

    #[test]
    fn the_user_name_is_encoded() {
        let url = token_url("https://a/auth", Some("s:1"), "a b@1");
        assert_eq!(
            url,
            "https://a/auth?account=a%20b%401&client_id=docker-credential-aliyun&service=s%3A1"
        );
        assert!(
            token_url("https://a/auth?x=1", None, "u").starts_with("https://a/auth?x=1&account=u")
        );
    }
}
