//! A server that stands in front of a registry, writes down every request and, where a test says
//! so, answers wrongly, late or never.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::registry::Registry;
use crate::server::{Answer, Boxed, Endless, Reset, Server, Spoil, Spoiled, full};

/// A front: what no [`Rule`] catches passes to the registry behind it.
///
/// It speaks plain HTTP, so the registry behind it must be without TLS.
#[derive(Debug)]
pub struct Front {
    server: Server,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    upstream: Option<String>,
    rules: Vec<Rule>,
    seen: Vec<Seen>,
    /// How many requests wait for an answer that does not come.
    parked: Arc<Parked>,
}

/// The requests that are kept waiting.
#[derive(Debug, Default)]
struct Parked {
    count: Mutex<usize>,
    more: Condvar,
    released: Notify,
    /// Whoever comes to wait after the release is too late to hear of it.
    over: AtomicBool,
}

impl Parked {
    /// Waits until the front is healed; the connection is reset then.
    async fn park(&self) -> Reset {
        let released = self.released.notified();
        if self.over.load(Ordering::SeqCst) {
            return Reset;
        }
        *self.count.lock().unwrap() += 1;
        self.more.notify_all();
        released.await;
        Reset
    }
}

/// A request that came, and what it got.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `GET`, `HEAD`, ...
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// What follows the `?`; empty where there is none.
    pub query: String,
    /// The request's headers.
    pub headers: HeaderMap,
    /// The status it was answered with; none yet, or the connection was reset.
    pub status: Option<u16>,
}

impl Seen {
    /// The client, as it names itself.
    #[must_use]
    pub fn agent(&self) -> &str {
        self.headers.get("user-agent").and_then(|name| name.to_str().ok()).unwrap_or_default()
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status.map_or("no answer".to_owned(), |status| status.to_string());
        let mark = if self.query.is_empty() { "" } else { "?" };
        write!(f, "{} {}{mark}{} -> {status}", self.method, self.path, self.query)
    }
}

impl Front {
    /// A front of a registry.
    #[must_use]
    pub fn before(registry: &Registry) -> Self {
        assert!(registry.ca().is_none(), "a front speaks plain HTTP, so its registry must too");
        Self::start(Some(registry.host().to_owned()))
    }

    /// A front with nothing behind it: what no rule catches is answered with 404.
    #[must_use]
    pub fn alone() -> Self {
        Self::start(None)
    }

    fn start(upstream: Option<String>) -> Self {
        let state = Arc::new(Mutex::new(State { upstream, ..State::default() }));
        let shared = Arc::clone(&state);
        let server = Server::start(move |request| answer(Arc::clone(&shared), request));
        Self { server, state }
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        self.server.address().to_string()
    }

    /// Adds a rule for the requests of this method (`*`: of every method) whose path fits the
    /// pattern: `*` stands for one path segment, `**` for any number of them, and a segment may
    /// have one `*` in it. The rule that was added last goes first.
    ///
    /// ```no_run
    /// # use smartbuild_test_rig::{Front, Registry, Rule};
    /// let registry = Registry::open();
    /// let front = Front::before(&registry);
    /// front.on("PUT", "/v2/**/manifests/*", Rule::status(503).header("retry-after", "1").times(2));
    /// ```
    pub fn on(&self, method: &str, pattern: &str, mut rule: Rule) {
        method.clone_into(&mut rule.method);
        pattern.clone_into(&mut rule.pattern);
        lock(&self.state).rules.push(rule);
    }

    /// Forgets all rules: from now on everything passes. What was kept waiting is reset.
    pub fn heal(&self) {
        let mut state = lock(&self.state);
        state.rules.clear();
        let parked = std::mem::take(&mut state.parked);
        parked.over.store(true, Ordering::SeqCst);
        parked.released.notify_waiters();
    }

    /// Waits until a request has been kept waiting by [`Rule::hang`] or [`Rule::swallow`], or until
    /// `ended` says that none will come; whether there is one.
    pub fn wait_for_parked(&self, mut ended: impl FnMut() -> bool) -> bool {
        let parked = Arc::clone(&lock(&self.state).parked);
        let mut count = parked.count.lock().unwrap();
        while *count == 0 {
            if ended() {
                return false;
            }
            // The bell rings for a request, but not for the end of whoever makes them.
            count = parked.more.wait_timeout(count, Duration::from_millis(20)).unwrap().0;
        }
        true
    }

    /// Every request so far, in the order of arrival.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.state).seen.clone()
    }

    /// How many requests of this method (`*`: any) came for paths that fit the pattern.
    #[must_use]
    pub fn count(&self, method: &str, pattern: &str) -> usize {
        let fits = |seen: &&Seen| {
            fits_method(method, seen.method.as_str()) && fits_path(pattern, &seen.path)
        };
        lock(&self.state).seen.iter().filter(fits).count()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        lock(&self.state).seen.clear();
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        println!("--- front {}", self.host());
        for seen in self.seen() {
            println!("{seen}");
        }
    }
}

/// What a [`Front`] does with a request instead of passing it on untouched.
#[derive(Clone, Debug)]
pub struct Rule {
    method: String,
    pattern: String,
    action: Action,
    headers: Vec<(HeaderName, Option<HeaderValue>)>,
    body: Vec<u8>,
    delay: Duration,
    authorized: bool,
    agent: String,
    skip: usize,
    times: usize,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Pass,
    Status(StatusCode),
    Reset,
    Hang,
    Swallow,
    Endless,
    Corrupt,
    Truncate(usize),
    Stall(usize),
    Drip(Duration),
}

impl Rule {
    fn new(action: Action) -> Self {
        Self {
            method: String::new(),
            pattern: String::new(),
            action,
            headers: Vec::new(),
            body: Vec::new(),
            delay: Duration::ZERO,
            authorized: false,
            agent: String::new(),
            skip: 0,
            times: usize::MAX,
        }
    }

    /// Passes the request on; of use with [`Rule::header`], [`Rule::without`], [`Rule::after`].
    #[must_use]
    pub fn pass() -> Self {
        Self::new(Action::Pass)
    }

    /// Answers with this status and an empty body.
    #[must_use]
    pub fn status(code: u16) -> Self {
        Self::new(Action::Status(StatusCode::from_u16(code).unwrap()))
    }

    /// Answers with a redirect (307) to this address.
    #[must_use]
    pub fn redirect(location: &str) -> Self {
        Self::status(307).header("location", location)
    }

    /// Resets the connection without an answer.
    #[must_use]
    pub fn reset() -> Self {
        Self::new(Action::Reset)
    }

    /// Keeps the connection open and never answers.
    #[must_use]
    pub fn hang() -> Self {
        Self::new(Action::Hang)
    }

    /// Passes the request on, and keeps the answer to itself.
    #[must_use]
    pub fn swallow() -> Self {
        Self::new(Action::Swallow)
    }

    /// Answers 200 with a body (of spaces) that never ends.
    #[must_use]
    pub fn endless() -> Self {
        Self::new(Action::Endless)
    }

    /// Passes the request on, and turns a bit in the first byte of the answer's body.
    #[must_use]
    pub fn corrupt() -> Self {
        Self::new(Action::Corrupt)
    }

    /// Passes the request on, and breaks the connection after so many bytes of the answer's body.
    #[must_use]
    pub fn truncate(bytes: usize) -> Self {
        Self::new(Action::Truncate(bytes))
    }

    /// Passes the request on, and sends nothing more after so many bytes of the answer's body.
    #[must_use]
    pub fn stall(bytes: usize) -> Self {
        Self::new(Action::Stall(bytes))
    }

    /// Passes the request on, and sends the answer's body a byte at a time, with this pause between.
    #[must_use]
    pub fn drip(pause: Duration) -> Self {
        Self::new(Action::Drip(pause))
    }

    /// Sets a header of the answer, in place of the registry's own.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.parse().unwrap(), Some(value.parse().unwrap())));
        self
    }

    /// Takes a header out of the answer.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.push((name.parse().unwrap(), None));
        self
    }

    /// The body that goes with [`Rule::status`].
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Does what it does only after this time.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Catches only requests that say who asks.
    #[must_use]
    pub fn authorized(mut self) -> Self {
        self.authorized = true;
        self
    }

    /// Catches only requests of this client, as its `User-Agent` begins.
    #[must_use]
    pub fn agent(mut self, name: &str) -> Self {
        name.clone_into(&mut self.agent);
        self
    }

    /// Leaves the first so many fitting requests alone.
    #[must_use]
    pub fn skip(mut self, count: usize) -> Self {
        self.skip = count;
        self
    }

    /// Is used up after so many requests.
    #[must_use]
    pub fn times(mut self, count: usize) -> Self {
        self.times = count;
        self
    }

    /// Whether the rule fits and has not been used up; counts the use.
    fn takes(&mut self, seen: &Seen) -> bool {
        let fits = fits_method(&self.method, seen.method.as_str())
            && fits_path(&self.pattern, &seen.path)
            && (!self.authorized || seen.headers.contains_key("authorization"))
            && seen.agent().starts_with(&self.agent);
        if !fits {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        let left = self.times > 0;
        self.times = self.times.saturating_sub(1);
        left
    }

    fn dress(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            match value {
                Some(value) => _ = headers.insert(name, value.clone()),
                None => _ = headers.remove(name),
            }
        }
    }
}

async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Answer {
    let (rule, upstream, index, parked) = {
        let mut state = lock(&state);
        let uri = request.uri();
        let seen = Seen {
            method: request.method().clone(),
            path: uri.path().to_owned(),
            query: uri.query().unwrap_or_default().to_owned(),
            headers: request.headers().clone(),
            status: None,
        };
        let mut rules = state.rules.iter_mut().rev();
        let rule = rules.find_map(|rule| rule.takes(&seen).then(|| rule.clone()));
        state.seen.push(seen);
        let parked = Arc::clone(&state.parked);
        let rule = rule.unwrap_or_else(Rule::pass);
        (rule, state.upstream.clone(), state.seen.len() - 1, parked)
    };
    if !rule.delay.is_zero() {
        tokio::time::sleep(rule.delay).await;
    }
    let mut response = match rule.action {
        Action::Status(code) => {
            let mut response = Response::new(full(rule.body.clone()));
            *response.status_mut() = code;
            response
        }
        Action::Reset => return Err(Reset),
        Action::Hang => return Err(parked.park().await),
        Action::Swallow => {
            let answer = pass(upstream, request).await;
            // Whole, so that the registry has done everything that it does.
            let _ = answer.into_body().collect().await;
            return Err(parked.park().await);
        }
        Action::Endless => Response::new(Endless.boxed()),
        Action::Pass => pass(upstream, request).await,
        Action::Corrupt => spoiled(pass(upstream, request).await, Spoil::Corrupt),
        Action::Truncate(bytes) => spoiled(pass(upstream, request).await, Spoil::Truncate(bytes)),
        Action::Stall(bytes) => spoiled(pass(upstream, request).await, Spoil::Stall(bytes)),
        Action::Drip(pause) => spoiled(pass(upstream, request).await, Spoil::Drip(pause)),
    };
    rule.dress(response.headers_mut());
    if let Some(seen) = lock(&state).seen.get_mut(index) {
        seen.status = Some(response.status().as_u16());
    }
    Ok(response)
}

fn spoiled(response: Response<Boxed>, spoil: Spoil) -> Response<Boxed> {
    response.map(|body| Spoiled::new(body, spoil).boxed())
}

/// Sends the request on as it is, `Host` included, so that the registry names this front in its
/// `Location` headers.
async fn pass(upstream: Option<String>, request: Request<Incoming>) -> Response<Boxed> {
    let Some(upstream) = upstream else {
        let mut response = Response::new(full(r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    };
    let forward = async {
        let stream = TcpStream::connect(upstream).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(text)
    };
    match forward.await {
        Ok(response) => response.map(|body| body.map_err(io::Error::other).boxed()),
        Err(reason) => {
            let mut response = Response::new(full(reason));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn text(error: hyper::Error) -> String {
    error.to_string()
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap()
}

fn fits_method(pattern: &str, method: &str) -> bool {
    pattern == "*" || pattern == method
}

fn fits_path(pattern: &str, path: &str) -> bool {
    let pattern: Vec<_> = pattern.split('/').collect();
    let path: Vec<_> = path.split('/').collect();
    fits_segments(&pattern, &path)
}

pub(crate) fn fits_segments(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern, path) {
        ([], []) => true,
        (["**", rest @ ..], _) => {
            (0..=path.len()).any(|skipped| fits_segments(rest, &path[skipped..]))
        }
        ([first, rest @ ..], [segment, others @ ..]) => {
            let fits = match first.split_once('*') {
                Some((start, end)) => {
                    segment.strip_prefix(start).is_some_and(|rest| rest.ends_with(end))
                }
                None => first == segment,
            };
            fits && fits_segments(rest, others)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_by_segment() {
        for (pattern, path, fits) in [
            ("/v2/", "/v2/", true),
            ("/v2/**/manifests/*", "/v2/a/b/manifests/latest", true),
            ("/v2/**/manifests/sb1-*", "/v2/a/manifests/sb1-00", true),
            ("/v2/**/manifests/sb1-*", "/v2/a/manifests/latest", false),
            ("/v2/*/manifests/*", "/v2/a/b/manifests/latest", false),
            ("**", "/anything/at/all", true),
            ("/v2/**/blobs/uploads/", "/v2/a/blobs/uploads/", true),
            ("/v2/**/blobs/uploads/", "/v2/a/blobs/uploads/1", false),
        ] {
            assert_eq!(fits_path(pattern, path), fits, "{pattern} {path}");
        }
    }

    #[test]
    fn a_rule_acts_only_as_often_as_it_says() {
        let front = Front::alone();
        front.on("GET", "/**", Rule::status(503).header("retry-after", "1").skip(1).times(2));
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build();
        let agent = ureq::Agent::new_with_config(agent);
        let status = || agent.get(format!("http://{}/x", front.host())).call().unwrap().status();
        let statuses: Vec<_> = (0..4).map(|_| status().as_u16()).collect();
        assert_eq!(statuses, [404, 503, 503, 404]);
        assert_eq!(front.count("GET", "/x"), 4);
    }
}
