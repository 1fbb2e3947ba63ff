//! Plain requests for credentials: instance metadata, credentials URIs, CloudSSO, GitHub.

use std::time::Duration;

use http::header::ACCEPT;
use http::{Request, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::{Obtain, Problem};
use crate::openapi::AccessKey;
use crate::openapi::sts::TemporaryKey;
use crate::transport::Route;

/// The longest that one of these may take: each is near, or has little to do.
const ATTEMPT: Duration = Duration::from_secs(3);

/// Whom to ask, and over which way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fetch {
    /// The name that errors give it.
    pub(super) what: &'static str,
    /// Through a proxy or not.
    pub(super) route: Route,
}

impl Fetch {
    /// Sends the request, a second time if the first fails in passing. An answer of status 200 is
    /// the only good one, but a 404 is told apart, since it means "nothing here".
    pub(super) fn run(
        self,
        with: &Obtain<'_>,
        request: impl Fn() -> Result<Request<Vec<u8>>, http::Error>,
    ) -> Result<Zeroizing<Vec<u8>>, Problem> {
        let mut answer = self.once(with, ATTEMPT, &request);
        let in_passing = match &answer {
            Ok(answer) => answer.status().is_server_error(),
            Err(Problem::Transport { source, .. }) => source.is_transient(),
            Err(_) => false,
        };
        if in_passing && !with.caller.deadline.left().is_zero() {
            answer = self.once(with, ATTEMPT, &request);
        }
        self.accept(answer?)
    }

    /// Sends the request once, and waits for a moment only.
    pub(super) fn glance(
        self,
        with: &Obtain<'_>,
        moment: Duration,
        request: impl Fn() -> Result<Request<Vec<u8>>, http::Error>,
    ) -> Result<Zeroizing<Vec<u8>>, Problem> {
        self.accept(self.once(with, moment, request)?)
    }

    fn accept(self, answer: Response<Zeroizing<Vec<u8>>>) -> Result<Zeroizing<Vec<u8>>, Problem> {
        match answer.status() {
            StatusCode::OK => Ok(answer.into_body()),
            status => Err(Problem::Status { what: self.what, status: status.as_u16() }),
        }
    }

    fn once(
        self,
        with: &Obtain<'_>,
        time: Duration,
        request: impl Fn() -> Result<Request<Vec<u8>>, http::Error>,
    ) -> Result<Response<Zeroizing<Vec<u8>>>, Problem> {
        let request = request().map_err(|error| Problem::request(self.what, error))?;
        let deadline = with.caller.deadline.within(time);
        let sent = with.caller.transport.send(request, deadline, self.route);
        sent.map_err(|source| Problem::Transport { what: self.what, source })
    }
}

/// The keys that a credentials URI gives.
pub(super) fn keys_from(uri: &str, with: &Obtain<'_>) -> Result<AccessKey, Problem> {
    const WHAT: &str = "the credentials URI";
    let request = || Request::get(uri).header(ACCEPT, "application/json").body(Vec::new());
    let answer = Fetch { what: WHAT, route: Route::Proxied }.run(with, request)?;
    read_keys(WHAT, &answer)
}

/// An answer as JSON. What stands in it is never repeated.
pub(super) fn read_json<T: DeserializeOwned>(
    what: &'static str,
    body: &[u8],
) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::Shape {
        what,
        line: error.line(),
        column: error.column(),
    })
}

/// Temporary keys as instance metadata and credentials URIs give them: four fields and a code.
pub(super) fn read_keys(what: &'static str, body: &[u8]) -> Result<AccessKey, Problem> {
    #[derive(Deserialize)]
    struct Outcome {
        #[serde(rename = "Code")]
        code: Option<String>,
    }
    let outcome: Outcome = read_json(what, body)?;
    match outcome.code.as_deref() {
        None | Some("Success") => read_json::<TemporaryKey>(what, body).map(AccessKey::from),
        Some(code) => {
            let code = code.chars().filter(|c| c.is_ascii_graphic()).take(60).collect();
            Err(Problem::Code { what, code })
        }
    }
}
