//! Tokens of OIDC issuers, with which a role is taken without any key.

use std::fs;
use std::path::Path;

use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderValue, Request};
use serde::Deserialize;

use super::fetch::{Fetch, read_json};
use super::variables::Variables;
use super::{Obtain, Problem};
use crate::openapi::acs3;
use crate::secret::Secret;
use crate::transport::Route;

/// The audience that GitHub's token is issued for, unless another one is set: the one that the
/// vendor's action uses (`aliyun/configure-aliyun-credentials-action`).
const AUDIENCE: &str = "sts.aliyuncs.com";

/// A token, or the way to one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum OidcToken {
    /// It is at hand.
    Text(Secret),
    /// GitHub's token service gives one to the job that shows this other token.
    GitHub { url: String, bearer: Secret, audience: String },
}

impl OidcToken {
    /// Reads the file that a token is kept in. It is read anew for every use, since whoever put it
    /// there replaces it before it ends.
    pub(super) fn read(path: &Path) -> Result<Self, Problem> {
        let text = fs::read_to_string(path)
            .map_err(|error| Problem::Unreadable { path: path.to_owned(), error })?;
        match text.trim() {
            "" => Err(Problem::Empty(path.to_owned())),
            token => Ok(Self::Text(Secret::new(token.to_owned()))),
        }
    }

    /// The token itself.
    pub(super) fn obtain(&self, with: &Obtain<'_>) -> Result<Secret, Problem> {
        let (url, bearer, audience) = match self {
            Self::Text(token) => return Ok(token.clone()),
            Self::GitHub { url, bearer, audience } => (url, bearer, audience),
        };
        const WHAT: &str = "GitHub's token service";
        let separator = if url.contains('?') { '&' } else { '?' };
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", bearer.expose()))
            .map_err(|error| Problem::request(WHAT, error))?;
        authorization.set_sensitive(true);
        let request = || {
            Request::get(format!("{url}{separator}audience={}", acs3::encode(audience)))
                .header(ACCEPT, "application/json")
                .header(AUTHORIZATION, authorization.clone())
                .body(Vec::new())
        };
        let fetch = Fetch { what: WHAT, route: Route::Proxied };
        let answer = fetch.run(with, request)?;
        let answer: GitHubToken = read_json(WHAT, &answer)?;
        Ok(Secret::new(answer.value))
    }
}

#[derive(Deserialize)]
struct GitHubToken {
    value: String,
}

/// The way to GitHub's token service, in a job that has `permissions: id-token: write`.
pub(super) fn github_token(variables: Variables<'_>) -> Option<OidcToken> {
    Some(OidcToken::GitHub {
        url: variables.exact("ACTIONS_ID_TOKEN_REQUEST_URL")?.to_owned(),
        bearer: Secret::new(variables.exact("ACTIONS_ID_TOKEN_REQUEST_TOKEN")?.to_owned()),
        audience: variables.get("OIDC_AUDIENCE").unwrap_or(AUDIENCE).to_owned(),
    })
}
