//! One request to one registry, with everything that may come before its answer: finding out how
//! the host speaks, authentication, redirects, trying again.
//!
//! Must not know what the requests mean.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use bytes::Bytes;
use reqwest::{
    Method, StatusCode, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION},
};
use tokio::sync::{Mutex, OnceCell};

use super::{
    answer::Answer,
    auth::{Auth, Authorization, Base, Purpose, may_see_credentials},
    challenge::Scopes,
    error::{Error, Who},
    retry::Attempts,
    tls::Trust,
    transport::{Body, Incoming, Outgoing, Place, Transport, is_loopback, text},
};
use crate::credentials::Logins;

/// Longest chain of redirects that is followed.
const MOST_REDIRECTS: usize = 5;
/// `GET /v2/` answers with next to nothing.
const LARGEST_PING: u64 = 64 << 10;

/// A request that may be sent more than once.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    /// Relative to the registry (`/v2/...`), or whole (an upload's address).
    pub(super) address: Address<'a>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// What has to be allowed for it.
    pub(super) scopes: Scopes,
    /// What is being done, for errors: "read r.example/app:v1".
    pub(super) action: String,
    /// Statuses besides 2xx that the caller deals with.
    pub(super) expected: &'static [u16],
    /// The most that the answer may hold.
    pub(super) limit: u64,
}

/// Where a request goes.
pub(super) enum Address<'a> {
    /// `/v2/...` on the registry.
    Path(&'a str),
    /// An address that the registry gave us.
    Url(&'a Url),
}

impl<'a> Request<'a> {
    /// A request without headers and body.
    pub(super) fn new(method: Method, path: &'a str, scopes: Scopes, action: String) -> Self {
        Self {
            method,
            address: Address::Path(path),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            scopes,
            action,
            expected: &[],
            limit: LARGEST_PING,
        }
    }

    pub(super) fn at(mut self, url: &'a Url) -> Self {
        self.address = Address::Url(url);
        self
    }

    pub(super) fn expecting(mut self, expected: &'static [u16]) -> Self {
        self.expected = expected;
        self
    }

    pub(super) fn up_to(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }
}

/// One registry.
pub(super) struct Host {
    /// As references write it.
    pub(super) name: String,
    /// As its API is reached: Docker Hub's has another name.
    authority: String,
    base: OnceCell<Base>,
    auth: Auth,
    /// Held by the first request until it is answered: what comes at the same moment would only
    /// ask the same questions on connections of its own.
    gate: Mutex<()>,
    met: AtomicBool,
}

impl Host {
    pub(super) fn new(name: &str, logins: Arc<dyn Logins>) -> Self {
        let authority = if name == "docker.io" { "registry-1.docker.io" } else { name };
        Self {
            name: name.to_owned(),
            authority: authority.to_owned(),
            base: OnceCell::new(),
            auth: Auth::new(name, logins),
            gate: Mutex::new(()),
            met: AtomicBool::new(false),
        }
    }

    /// How to reach the registry: by TLS, or for an insecure host by whatever it speaks.
    pub(super) async fn base(&self, transport: &Transport, action: &str) -> Result<Base, Error> {
        self.base.get_or_try_init(|| self.find_base(transport, action)).await.cloned()
    }

    async fn find_base(&self, transport: &Transport, action: &str) -> Result<Base, Error> {
        let place = Place { action: action.to_owned(), host: self.name.clone() };
        let url = |scheme: &str| {
            Url::parse(&format!("{scheme}://{}/", self.authority))
                .map_err(|error| place.protocol(format!("is not a host: {error}")))
        };
        let secure = url("https")?;
        let loopback = is_loopback(&secure);
        if Trust::of(&transport.config, &secure) != Trust::Nothing {
            return Ok(Base { url: secure, trusted: true });
        }
        // As Docker does: TLS without looking at certificates, else plain HTTP.
        let mut ping = secure.clone();
        ping.set_path("/v2/");
        let outgoing = Outgoing {
            method: Method::GET,
            url: ping,
            headers: HeaderMap::new(),
            body: Body::Empty,
            action,
        };
        match transport.send(outgoing).await {
            Ok(_) => Ok(Base { url: secure, trusted: loopback }),
            Err(Error::Tls { .. } | Error::Broken { .. } | Error::Connect { .. }) => {
                Ok(Base { url: url("http")?, trusted: loopback })
            }
            Err(error) => Err(error),
        }
    }

    /// Makes contact ahead of time: connection, TLS, challenge and token for `scopes`. A request that
    /// is under way already does most of it, and is waited for.
    pub(super) async fn prepare(
        &self,
        transport: &Transport,
        scopes: &Scopes,
    ) -> Result<(), Error> {
        // The error names the host.
        let action = "ask the registry".to_owned();
        // The token that the other fetches is then good for this too.
        self.auth.want(scopes).await;
        drop(self.gate.lock().await);
        if self.met.load(Relaxed)
            && let Some(base) = self.base.get()
        {
            let purpose = Purpose { base, needed: scopes, action: &action };
            return self.auth.authorization(transport, &purpose).await.map(drop);
        }
        let ping = Request::new(Method::GET, "/v2/", scopes.clone(), action);
        match self.ask(transport, &ping.expecting(&[401, 403, 404])).await {
            // Nothing depends on this path: what matters is asked for by name.
            Ok(_) | Err(Error::Refused { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sends a request until it is answered, and reads the answer.
    pub(super) async fn ask(
        &self,
        transport: &Transport,
        request: &Request<'_>,
    ) -> Result<Answer, Error> {
        let mut attempts = Attempts::new(&transport.config.retries, &transport.counters);
        loop {
            match self.ask_once(transport, request).await {
                Err(error) => attempts.after(error).await?,
                answered => return answered,
            }
        }
    }

    async fn ask_once(
        &self,
        transport: &Transport,
        request: &Request<'_>,
    ) -> Result<Answer, Error> {
        let (incoming, who) = self.admitted(transport, request).await?;
        let answer = Answer::read(incoming, request.limit).await?;
        if answer.status.is_success() || request.expected.contains(&answer.status.as_u16()) {
            return Ok(answer);
        }
        Err(answer.refusal(&who))
    }

    /// Sends a request until it is answered with success, and leaves the body to the caller.
    pub(super) async fn open(
        &self,
        transport: &Transport,
        request: &Request<'_>,
    ) -> Result<Incoming, Error> {
        let mut attempts = Attempts::new(&transport.config.retries, &transport.counters);
        loop {
            match self.open_once(transport, request).await {
                Err(error) => attempts.after(error).await?,
                answered => return answered,
            }
        }
    }

    async fn open_once(
        &self,
        transport: &Transport,
        request: &Request<'_>,
    ) -> Result<Incoming, Error> {
        let (incoming, who) = self.admitted(transport, request).await?;
        if incoming.status().is_success() {
            return Ok(incoming);
        }
        Err(Answer::read(incoming, request.limit).await?.refusal(&who))
    }

    async fn admitted(
        &self,
        transport: &Transport,
        request: &Request<'_>,
    ) -> Result<(Incoming, Who), Error> {
        let first = if self.met.load(Relaxed) { None } else { Some(self.gate.lock().await) };
        if self.met.load(Relaxed) {
            drop(first);
            return self.authorised(transport, request).await;
        }
        let answered = self.authorised(transport, request).await;
        // Even when it failed: the others shall not fail one after the other.
        self.met.store(true, Relaxed);
        answered
    }

    /// Sends a request, with another authorization when the registry refuses the first. What another
    /// server answers that it sent us to is no word of the registry's, and changes no login.
    async fn authorised(
        &self,
        transport: &Transport,
        request: &Request<'_>,
    ) -> Result<(Incoming, Who), Error> {
        let base = self.base(transport, &request.action).await?;
        let purpose = Purpose { base: &base, needed: &request.scopes, action: &request.action };
        let mut authorization = self.auth.authorization(transport, &purpose).await?;
        let mut again = false;
        loop {
            let incoming = self.routed(transport, request, &base, &authorization).await?;
            if incoming.status() != StatusCode::UNAUTHORIZED {
                return Ok((incoming, authorization.who));
            }
            if !may_see_credentials(&base, incoming.url()) {
                return Err(Answer::read(incoming, request.limit).await?.refused());
            }
            let headers = incoming.headers();
            let better =
                self.auth.refused(transport, &purpose, headers, &authorization, again).await?;
            match better {
                Some(better) => {
                    again = true;
                    authorization = better;
                }
                // A token service that gave us a token knows who we are: it is the right that is
                // missing, not the login.
                None if matches!(authorization.who, Who::User { .. })
                    && authorization.is_token() =>
                {
                    let answer = Answer::read(incoming, request.limit).await?;
                    return Err(match answer.refusal(&authorization.who) {
                        Error::Unauthorized { action, host, who, message } => {
                            Error::Denied { action, host, who, message }
                        }
                        other => other,
                    });
                }
                None => return Ok((incoming, authorization.who)),
            }
        }
    }

    /// Sends a request and follows redirects of what only reads. Credentials go to the registry
    /// itself and nowhere else.
    async fn routed(
        &self,
        transport: &Transport,
        request: &Request<'_>,
        base: &Base,
        authorization: &Authorization,
    ) -> Result<Incoming, Error> {
        let mut url = match request.address {
            Address::Path(path) => self.join(&base.url, path, &request.action)?,
            Address::Url(url) => url.clone(),
        };
        for _ in 0..=MOST_REDIRECTS {
            let mut headers = request.headers.clone();
            if let Some(header) = &authorization.header
                && may_see_credentials(base, &url)
            {
                headers.insert(AUTHORIZATION, header.clone());
            }
            let body = if request.body.is_empty() {
                Body::Empty
            } else {
                Body::Bytes(request.body.clone())
            };
            let method = request.method.clone();
            let action = request.action.as_str();
            let incoming = transport.send(Outgoing { method, url, headers, body, action }).await?;
            let safe = matches!(request.method, Method::GET | Method::HEAD);
            if !incoming.status().is_redirection() || !safe {
                return Ok(incoming);
            }
            url = self.location(base, &incoming)?;
        }
        let place = Place { action: request.action.clone(), host: self.name.clone() };
        Err(place.protocol("sends us from one place to the next without end"))
    }

    /// Sends content that can be sent only once, to an address the registry gave us. The caller
    /// deals with every status.
    pub(super) async fn send_stream(
        &self,
        transport: &Transport,
        outgoing: Outgoing<'_>,
        scopes: &Scopes,
    ) -> Result<Answer, Error> {
        let base = self.base(transport, outgoing.action).await?;
        let purpose = Purpose { base: &base, needed: scopes, action: outgoing.action };
        let authorization = self.auth.authorization(transport, &purpose).await?;
        let mut outgoing = outgoing;
        let own = may_see_credentials(&base, &outgoing.url);
        if let Some(header) = authorization.header.as_ref().filter(|_| own) {
            outgoing.headers.insert(AUTHORIZATION, header.clone());
        }
        let answer = Answer::read(transport.send(outgoing).await?, LARGEST_PING).await?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        if answer.status == StatusCode::UNAUTHORIZED && !own {
            return Err(answer.refused());
        }
        if answer.status == StatusCode::UNAUTHORIZED && authorization.is_token() {
            let headers = &answer.headers;
            let used = &authorization;
            if self.auth.refused(transport, &purpose, headers, used, false).await?.is_some() {
                // There is a better token now; what was streamed has to be read again for it.
                let Place { action, host } = answer.place;
                let reason = "it no longer takes the token".to_owned();
                return Err(Error::Broken { action, host, reason });
            }
        }
        Err(answer.refusal(&authorization.who))
    }

    fn join(&self, base: &Url, path: &str, action: &str) -> Result<Url, Error> {
        let place = Place { action: action.to_owned(), host: self.name.clone() };
        base.join(path).map_err(|error| place.protocol(format!("has no address: {error}")))
    }

    /// Where an answer sends us: relative or whole, but never from TLS to plain HTTP, and never
    /// from elsewhere to this machine.
    pub(super) fn location(&self, base: &Base, incoming: &Incoming) -> Result<Url, Error> {
        self.place_at(base, incoming.url(), text(incoming.headers(), LOCATION), &incoming.place)
    }

    /// The same for an answer that was read.
    pub(super) fn answered_location(&self, base: &Base, answer: &Answer) -> Result<Url, Error> {
        self.place_at(base, &answer.url, answer.header(LOCATION), &answer.place)
    }

    fn place_at(
        &self,
        base: &Base,
        from: &Url,
        location: Option<&str>,
        place: &Place,
    ) -> Result<Url, Error> {
        let url = location
            .and_then(|location| from.join(location).ok())
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| place.protocol("sends us elsewhere without saying where"))?;
        let to_plain = url.scheme() == "http" && from.scheme() == "https";
        let to_us = is_loopback(&url) && !is_loopback(&base.url);
        if to_plain || to_us {
            return Err(place.protocol("sends us to a place that is not safe to go to"));
        }
        Ok(url)
    }
}

/// A header of our own making.
pub(super) fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
