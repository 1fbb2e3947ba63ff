//! HTTP: one request, one answer, before a deadline.
//!
//! The only place that knows the HTTP library. It knows proxies and TLS; it must not know what a
//! request means, and it never retries: whoever knows the meaning does that.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::{Request, Response};
use thiserror::Error;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Proxy};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// The largest answer that is read: the API's are a few KiB.
const MAX_BODY: u64 = 4 << 20;

/// The moment by which an answer is worth having.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// So long from now.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// The time left; nothing once it has passed.
    #[must_use]
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// This one, or so long from now if that is earlier.
    #[must_use]
    pub fn within(self, time: Duration) -> Self {
        self.min(Self::after(time))
    }
}

/// The way a request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Through the proxy that the environment names, if it names one for this target.
    Proxied,
    /// Straight to the target, as instance metadata must be asked: a proxy would answer for
    /// itself, with the identity of another machine.
    Direct,
}

/// Why there is no answer. Each names the host and what went wrong.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The deadline passed.
    #[error("{host} did not answer in time")]
    Timeout {
        /// The host that was asked.
        host: String,
    },
    /// No address for the name.
    #[error("the host name {host} has no address; check its spelling and the DNS")]
    Unresolved {
        /// The host that was asked.
        host: String,
    },
    /// No connection.
    #[error("no connection to {host}: {reason}")]
    Unreachable {
        /// The host that was asked.
        host: String,
        /// The operating system's words.
        reason: String,
    },
    /// The proxy was not of help.
    #[error("no connection to {host} through the proxy {proxy}: {reason}")]
    Proxy {
        /// The host that was asked.
        host: String,
        /// The proxy's host and port.
        proxy: String,
        /// What it said.
        reason: String,
    },
    /// The connection is not trusted.
    #[error("no trusted TLS connection to {host}: {reason}")]
    Tls {
        /// The host that was asked.
        host: String,
        /// What is wrong with its certificate or protocol.
        reason: String,
    },
    /// The connection ended, or spoke something other than HTTP.
    #[error("{host} broke off the answer: {reason}")]
    Broken {
        /// The host that was asked.
        host: String,
        /// What was wrong.
        reason: String,
    },
    /// The request itself cannot be sent.
    #[error("the request to {host} cannot be sent: {reason}")]
    Request {
        /// The host that was to be asked.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl TransportError {
    /// Whether the same request may fare better in a moment.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Unreachable { .. } | Self::Broken { .. })
    }
}

/// The proxies that the environment names, as curl and Go read the variables. Their addresses may
/// hold a password.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    https: Option<Secret>,
    http: Option<Secret>,
    exceptions: Vec<String>,
}

impl Proxies {
    /// Reads `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` (for both) and `NO_PROXY`, in lower or upper
    /// case.
    ///
    /// `HTTP_PROXY` in upper case is not read where `REQUEST_METHOD` is set: a CGI server would let
    /// its clients set it (CVE-2016-5385).
    pub fn from_variables<'a>(variable: impl Fn(&str) -> Option<&'a str>) -> Self {
        let either = |lower: &str, upper: &str| {
            let set = |name| variable(name).map(str::trim).filter(|value| !value.is_empty());
            set(lower).or_else(|| set(upper)).map(str::to_owned)
        };
        let all = either("all_proxy", "ALL_PROXY");
        let http_upper =
            if variable("REQUEST_METHOD").is_some() { "http_proxy" } else { "HTTP_PROXY" };
        let exceptions = either("no_proxy", "NO_PROXY").unwrap_or_default();
        Self {
            https: either("https_proxy", "HTTPS_PROXY").or_else(|| all.clone()).map(Secret::new),
            http: either("http_proxy", http_upper).or(all).map(Secret::new),
            exceptions: exceptions
                .split(',')
                .map(|entry| entry.trim().to_ascii_lowercase())
                .filter(|entry| !entry.is_empty())
                .collect(),
        }
    }

    /// The proxy for a target, if it needs one. A loopback target never does.
    fn for_target(&self, scheme: &str, host: &str) -> Option<&Secret> {
        let named = if scheme == "http" { &self.http } else { &self.https };
        named.as_ref().filter(|_| !is_loopback(host) && !self.is_exception(host))
    }

    /// `*` is every host; `example.com`, `.example.com` and `*.example.com` are the domain and all
    /// below it.
    fn is_exception(&self, host: &str) -> bool {
        self.exceptions.iter().any(|entry| {
            let domain = entry.trim_start_matches('*').trim_start_matches('.');
            entry == "*"
                || host == domain
                || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
        })
    }
}

/// Whether a host is this machine, by name or by address.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.ends_with(".localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Sends requests. Certificates are read only when the first TLS connection is made.
#[derive(Debug, Default)]
pub struct Transport {
    proxies: Proxies,
    agent: OnceLock<Agent>,
}

impl Transport {
    /// A transport that uses these proxies.
    #[must_use]
    pub fn new(proxies: Proxies) -> Self {
        Self { proxies, agent: OnceLock::new() }
    }

    /// Sends a request and reads the whole answer, whatever its status. Redirects are not followed:
    /// a signature is good for one host only.
    ///
    /// # Errors
    /// If there is no whole answer before the deadline.
    pub fn send(
        &self,
        request: Request<Vec<u8>>,
        deadline: Deadline,
        route: Route,
    ) -> Result<Response<Zeroizing<Vec<u8>>>, TransportError> {
        let target = Target::of(&request);
        let left = deadline.left();
        if left.is_zero() {
            return Err(TransportError::Timeout { host: target.authority });
        }
        let proxy = match route {
            Route::Direct => None,
            Route::Proxied => self.proxies.for_target(&target.scheme, &target.host),
        };
        let proxy = proxy.map(|address| Proxy::new(address.expose())).transpose();
        let proxy = proxy.map_err(|_| TransportError::Proxy {
            host: target.authority.clone(),
            proxy: "that the environment names".to_owned(),
            reason: "its address cannot be read".to_owned(),
        })?;
        let through = proxy.as_ref().map(|proxy| format!("{}:{}", proxy.host(), proxy.port()));
        let agent = self.agent.get_or_init(agent);
        let request =
            agent.configure_request(request).timeout_global(Some(left)).proxy(proxy).build();
        let explain = |error| target.explain(error, through.as_deref());
        let (parts, mut body) = agent.run(request).map_err(explain)?.into_parts();
        let body = body.with_config().limit(MAX_BODY).read_to_vec().map_err(explain)?;
        Ok(Response::from_parts(parts, Zeroizing::new(body)))
    }
}

fn agent() -> Agent {
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    Agent::config_builder()
        .tls_config(tls)
        .proxy(None)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_connect(Some(Duration::from_secs(3)))
        .user_agent(concat!("docker-credential-aliyun/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent()
}

/// What a request was for, to say so when it fails.
struct Target {
    scheme: String,
    host: String,
    authority: String,
}

impl Target {
    fn of(request: &Request<Vec<u8>>) -> Self {
        let uri = request.uri();
        Self {
            scheme: uri.scheme_str().unwrap_or("https").to_owned(),
            host: uri.host().unwrap_or_default().to_owned(),
            authority: uri.authority().map(ToString::to_string).unwrap_or_default(),
        }
    }

    fn explain(&self, error: ureq::Error, proxy: Option<&str>) -> TransportError {
        let host = self.authority.clone();
        match error {
            ureq::Error::Timeout(ureq::Timeout::Connect) => {
                TransportError::Unreachable { host, reason: "it does not answer".to_owned() }
            }
            ureq::Error::Timeout(_) => TransportError::Timeout { host },
            ureq::Error::HostNotFound => self.unresolved(proxy),
            ureq::Error::ConnectProxyFailed(reason) => TransportError::Proxy {
                host,
                proxy: proxy.unwrap_or("that the environment names").to_owned(),
                reason,
            },
            ureq::Error::Io(error) => self.explain_io(&error, proxy),
            ureq::Error::ConnectionFailed => {
                TransportError::Unreachable { host, reason: "it does not answer".to_owned() }
            }
            ureq::Error::Tls(reason) => TransportError::Tls { host, reason: reason.to_owned() },
            ureq::Error::Rustls(error) => TransportError::Tls { host, reason: error.to_string() },
            error @ (ureq::Error::Http(_) | ureq::Error::BadUri(_)) => {
                TransportError::Request { host, reason: error.to_string() }
            }
            error => TransportError::Broken { host, reason: error.to_string() },
        }
    }

    /// No address: of the proxy's name if there is one, for then nobody else's is asked for here.
    fn unresolved(&self, proxy: Option<&str>) -> TransportError {
        let host = self.authority.clone();
        match proxy {
            Some(proxy) => TransportError::Proxy {
                host,
                proxy: proxy.to_owned(),
                reason: "its name has no address".to_owned(),
            },
            None => TransportError::Unresolved { host },
        }
    }

    fn explain_io(&self, error: &io::Error, proxy: Option<&str>) -> TransportError {
        let host = self.authority.clone();
        // rustls reports an untrusted certificate as an I/O error of the handshake.
        if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return TransportError::Tls { host, reason: tls.to_string() };
        }
        let reason = error.to_string();
        // The standard library has no kind for what the resolver says.
        if reason.starts_with("failed to lookup address information") {
            return self.unresolved(proxy);
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::AddrNotAvailable => match proxy {
                Some(proxy) => TransportError::Proxy { host, proxy: proxy.to_owned(), reason },
                None => TransportError::Unreachable { host, reason },
            },
            io::ErrorKind::TimedOut => TransportError::Timeout { host },
            _ => TransportError::Broken { host, reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &'static str)]) -> Proxies {
        Proxies::from_variables(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
        })
    }

    fn chosen(proxies: &Proxies, scheme: &str, host: &str) -> Option<String> {
        proxies.for_target(scheme, host).map(|proxy| proxy.expose().to_owned())
    }

    #[test]
    fn the_scheme_of_the_target_chooses_the_proxy() {
        let both = proxies(&[("HTTPS_PROXY", "http://s:1"), ("http_proxy", "http://p:2")]);
        assert_eq!(chosen(&both, "https", "cr.example.com").as_deref(), Some("http://s:1"));
        assert_eq!(chosen(&both, "http", "cr.example.com").as_deref(), Some("http://p:2"));
        let all = proxies(&[("ALL_PROXY", "http://a:3"), ("https_proxy", " ")]);
        assert_eq!(chosen(&all, "https", "cr.example.com").as_deref(), Some("http://a:3"));
        assert_eq!(chosen(&proxies(&[]), "https", "cr.example.com"), None);
    }

    #[test]
    fn a_cgi_client_cannot_set_the_proxy() {
        let cgi = proxies(&[("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "http://evil")]);
        assert_eq!(chosen(&cgi, "http", "cr.example.com"), None);
    }

    #[test]
    fn exceptions_and_this_machine_are_asked_directly() {
        let proxies =
            proxies(&[("https_proxy", "http://s:1"), ("NO_PROXY", "Aliyuncs.com, .b.io,c")]);
        for direct in [
            "cr.cn-hangzhou.aliyuncs.com",
            "aliyuncs.com",
            "x.b.io",
            "c",
            "127.0.0.1",
            "[::1]",
            "localhost",
        ] {
            assert_eq!(chosen(&proxies, "https", direct), None, "{direct}");
        }
        for through in ["evilaliyuncs.com", "ab.io", "cc"] {
            assert!(chosen(&proxies, "https", through).is_some(), "{through}");
        }
    }

    #[test]
    fn no_password_of_a_proxy_is_printed() {
        let proxies = proxies(&[("https_proxy", "http://user:hunter2@s:1")]);
        assert!(!format!("{proxies:?}").contains("hunter2"));
    }
}
