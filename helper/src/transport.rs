//! HTTP: one request, one answer, before a deadline.
//!
//! The only place that knows the HTTP library. It knows proxies and TLS; it must not know what a
//! request means, and it never retries: whoever knows the meaning does that.

use std::io;
use std::net::IpAddr;
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
    #[error("the host name {host} has no address")]
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
    exceptions: Vec<Exception>,
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
                .split(|separator: char| separator == ',' || separator.is_whitespace())
                .filter_map(Exception::parse)
                .collect(),
        }
    }

    /// The proxy for a target, if it needs one. This machine and its metadata never do.
    fn for_target(&self, target: &Target) -> Option<&Secret> {
        let named = if target.scheme == "http" { &self.http } else { &self.https };
        let is_exception = || self.exceptions.iter().any(|exception| exception.covers(target));
        named
            .as_ref()
            .filter(|_| !is_loopback(&target.host) && target.host != METADATA && !is_exception())
    }
}

/// Where ECS instances have their metadata: a link-local address, which a proxy would answer with
/// its own machine's.
const METADATA: &str = "100.100.100.200";

/// An entry of `NO_PROXY`, by the rules of Go (golang.org/x/net/http/httpproxy), which Docker
/// follows, and of curl, where these let more pass.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Exception {
    hosts: Hosts,
    /// Only this port; without one, every port.
    port: Option<u16>,
}

/// The hosts of an exception.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    /// `*`
    All,
    /// `192.0.2.1`, or `192.0.2.0/24` with the number of bits that count.
    Network(IpAddr, u32),
    /// `example.com`, `.example.com` and `*.example.com`: the domain and all below it.
    Domain(String),
}

impl Exception {
    /// An entry; nothing if it is none.
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.trim().to_ascii_lowercase();
        if entry == "*" {
            return Some(Self { hosts: Hosts::All, port: None });
        }
        if let Some((address, bits)) = entry.split_once('/') {
            let address: IpAddr = address.parse().ok()?;
            let bits = bits.parse().ok().filter(|bits| *bits <= width(address))?;
            return Some(Self { hosts: Hosts::Network(address, bits), port: None });
        }
        // An address of version 6 without brackets has colons and no port.
        let (name, port) = match entry.rsplit_once(':') {
            Some((name, port)) if entry.parse::<IpAddr>().is_err() && !port.ends_with(']') => {
                (name, Some(port.parse().ok()?))
            }
            _ => (entry.as_str(), None),
        };
        let hosts = match unbracketed(name).parse::<IpAddr>() {
            Ok(address) => Hosts::Network(address, width(address)),
            Err(_) => {
                let domain = name.trim_start_matches('*').trim_start_matches('.');
                let domain = domain.trim_end_matches('.');
                Hosts::Domain(Some(domain).filter(|domain| !domain.is_empty())?.to_owned())
            }
        };
        Some(Self { hosts, port })
    }

    fn covers(&self, target: &Target) -> bool {
        let host = target.host.trim_end_matches('.');
        let covered = match &self.hosts {
            Hosts::All => true,
            Hosts::Network(network, bits) => unbracketed(host)
                .parse()
                .is_ok_and(|address: IpAddr| starts_alike(*network, address, *bits)),
            Hosts::Domain(domain) => {
                host == domain
                    || host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.ends_with('.'))
            }
        };
        covered && self.port.is_none_or(|port| port == target.port)
    }
}

/// How many bits an address has.
fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Whether two addresses of one version have the same first bits.
fn starts_alike(one: IpAddr, other: IpAddr, bits: u32) -> bool {
    let differ = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => u128::from(one.to_bits() ^ other.to_bits()) << 96,
        (IpAddr::V6(one), IpAddr::V6(other)) => one.to_bits() ^ other.to_bits(),
        _ => return false,
    };
    differ.leading_zeros() >= bits
}

fn unbracketed(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Whether a host is this machine, by name or by address.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || unbracketed(host).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
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
            Route::Proxied => self.proxies.for_target(&target),
        };
        let proxy = proxy.map(open_proxy).transpose().map_err(|_| TransportError::Proxy {
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

/// The proxy at an address. A SOCKS proxy of version 5 resolves the names itself, as with Go's
/// clients: what is behind it often has names of its own.
fn open_proxy(address: &Secret) -> Result<Proxy, ureq::Error> {
    match address.expose().strip_prefix("socks5://") {
        Some(rest) => Proxy::new(&Zeroizing::new(format!("socks5h://{rest}"))),
        None => Proxy::new(address.expose()),
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
#[derive(Debug)]
struct Target {
    scheme: String,
    host: String,
    port: u16,
    /// Host and port as they were written, without a user name and a password before them.
    authority: String,
}

impl Target {
    fn of(request: &Request<Vec<u8>>) -> Self {
        let uri = request.uri();
        let scheme = uri.scheme_str().unwrap_or("https").to_owned();
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        let authority = match uri.port_u16() {
            Some(port) => format!("{host}:{port}"),
            None => host.clone(),
        };
        let port = uri.port_u16().unwrap_or(if scheme == "http" { 80 } else { 443 });
        Self { scheme, host, port, authority }
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
            error @ ureq::Error::Http(_) => {
                TransportError::Request { host, reason: error.to_string() }
            }
            // Its words repeat the address, which may hold a password.
            ureq::Error::BadUri(_) => {
                TransportError::Request { host, reason: "its address is not one".to_owned() }
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
            // How a SOCKS proxy's refusal comes.
            io::ErrorKind::Other => match proxy {
                Some(proxy) => TransportError::Proxy { host, proxy: proxy.to_owned(), reason },
                None => TransportError::Broken { host, reason },
            },
            _ => TransportError::Broken { host, reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    fn proxies(variables: &[(&str, &'static str)]) -> Proxies {
        Proxies::from_variables(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
        })
    }

    fn target(url: &str) -> Target {
        Target::of(&Request::get(url).body(Vec::new()).unwrap())
    }

    fn chosen(proxies: &Proxies, scheme: &str, host: &str) -> Option<String> {
        let target = target(&format!("{scheme}://{host}/"));
        proxies.for_target(&target).map(|proxy| proxy.expose().to_owned())
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
    fn exceptions_are_gos_and_curls() {
        let all = "10.0.0.0/8, fd00::/8 192.0.2.1\tp.example:8443,.s.example:443 *.w.example,\
                   [2001:db8::1]:81,2001:db8::2,/,:1,x/y,.,r.example.";
        let proxies = proxies(&[("https_proxy", "http://s:1"), ("NO_PROXY", all)]);
        for direct in [
            "10.1.2.3",
            "10.1.2.3:8443",
            "[fd00::1]",
            "192.0.2.1",
            "p.example:8443",
            "x.p.example:8443",
            "s.example",
            "x.s.example",
            "x.w.example:81",
            "[2001:db8::1]:81",
            "[2001:db8::2]:82",
            "r.example",
            // The machine's own metadata, whatever is set.
            "100.100.100.200",
        ] {
            assert_eq!(chosen(&proxies, "https", direct), None, "{direct}");
        }
        for through in [
            "11.1.2.3",
            "[fe00::1]",
            "192.0.2.2",
            "p.example",
            "x.s.example:444",
            "[2001:db8::1]:82",
            "10.0.0.1.example",
        ] {
            assert!(chosen(&proxies, "https", through).is_some(), "{through}");
        }
        let none = self::proxies(&[("https_proxy", "http://s:1"), ("NO_PROXY", "a,*")]);
        assert_eq!(chosen(&none, "https", "any.example"), None);
    }

    #[test]
    fn a_password_in_an_address_is_not_a_part_of_the_host_in_errors() {
        let target = target("http://user:hunter2@R.example:5000/?key=hunter3");
        assert_eq!(target.authority, "r.example:5000");
        assert!(!format!("{target:?}").contains("hunter"));
    }

    #[test]
    fn a_proxy_of_every_kind_is_an_answer_or_an_error() {
        for address in [
            "socks5://127.0.0.1:1",
            "socks5h://u:p@127.0.0.1:1",
            "socks4://127.0.0.1:1",
            "http://127.0.0.1:1",
            "https://127.0.0.1:1",
            "127.0.0.1:1",
            "gopher://127.0.0.1:1",
            "://",
        ] {
            let transport = Transport::new(proxies(&[("ALL_PROXY", address)]));
            let request = Request::get("http://r.example/").body(Vec::new()).unwrap();
            let deadline = Deadline::after(Duration::from_secs(5));
            let error = transport.send(request, deadline, Route::Proxied).unwrap_err();
            assert!(matches!(error, TransportError::Proxy { .. }), "{address}: {error}");
        }
    }

    /// A SOCKS proxy (RFC 1928) that says yes to one connection, and answers itself.
    fn socks_proxy(listener: &TcpListener) -> io::Result<String> {
        let (mut stream, _) = listener.accept()?;
        let mut greeting = [0; 3];
        stream.read_exact(&mut greeting)?;
        stream.write_all(&[5, 0])?;
        let mut head = [0; 5];
        stream.read_exact(&mut head)?;
        let mut name = vec![0; usize::from(head[4]) + 2];
        stream.read_exact(&mut name)?;
        stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
        let mut request = [0; 4096];
        assert!(stream.read(&mut request)? > 0);
        stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")?;
        name.truncate(usize::from(head[4]));
        Ok(String::from_utf8_lossy(&name).into_owned())
    }

    #[test]
    fn a_socks_proxy_resolves_names_of_its_own() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("socks5://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || socks_proxy(&listener));
        let transport =
            Transport::new(Proxies { http: Some(Secret::new(address)), ..Proxies::default() });
        let request = Request::get("http://r.invalid/v2/").body(Vec::new()).unwrap();
        let deadline = Deadline::after(Duration::from_secs(20));
        let answer = transport.send(request, deadline, Route::Proxied).unwrap();
        assert_eq!(answer.status(), 204);
        assert_eq!(server.join().unwrap().unwrap(), "r.invalid");
    }

    #[test]
    fn no_password_of_a_proxy_is_printed() {
        let proxies = proxies(&[("https_proxy", "http://user:hunter2@s:1")]);
        assert!(!format!("{proxies:?}").contains("hunter2"));
    }
}
