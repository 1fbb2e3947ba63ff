//! The CloudSSO login that the vendor's command line keeps in a profile.

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, Uri};
use jiff::Timestamp;
use serde::Deserialize;

use super::fetch::{Fetch, read_json};
use super::{Obtain, Problem};
use crate::openapi::AccessKey;
use crate::openapi::sts::TemporaryKey;
use crate::secret::Secret;
use crate::transport::Route;

const WHAT: &str = "CloudSSO";

/// Keys that were got by an earlier login, and the token that gets others until that login ends.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct CloudSso {
    pub(super) profile: String,
    pub(super) cached: Option<AccessKey>,
    pub(super) sign_in_url: String,
    pub(super) account_id: String,
    pub(super) access_config: String,
    pub(super) access_token: Secret,
    /// Seconds since 1970.
    pub(super) access_token_expires: i64,
}

impl CloudSso {
    pub(super) fn obtain(&self, with: &Obtain<'_>) -> Result<AccessKey, Problem> {
        if let Some(key) = &self.cached {
            return Ok(key.clone());
        }
        let expired = || Problem::LoginExpired { profile: self.profile.clone(), mode: WHAT };
        let over = self.access_token_expires <= Timestamp::now().as_second();
        if self.access_token.is_empty() || over {
            return Err(expired());
        }
        let body = serde_json::json!({
            "AccountId": self.account_id,
            "AccessConfigurationId": self.access_config,
        })
        .to_string();
        let url = self.url()?;
        let bearer = format!("Bearer {}", self.access_token.expose());
        let mut bearer =
            HeaderValue::from_str(&bearer).map_err(|error| Problem::request(WHAT, error))?;
        bearer.set_sensitive(true);
        let request = || {
            Request::post(&url)
                .header(ACCEPT, "application/json")
                .header(CONTENT_TYPE, "application/json")
                .header(AUTHORIZATION, bearer.clone())
                .body(body.clone().into_bytes())
        };
        match (Fetch { what: WHAT, route: Route::Proxied }).run(with, request) {
            Ok(answer) => read_json::<Answer>(WHAT, &answer).map(|answer| answer.key.into()),
            Err(Problem::Status { status: 401 | 403, .. }) => Err(expired()),
            Err(problem) => Err(problem),
        }
    }

    /// The service stands beside the page where people sign in.
    fn url(&self) -> Result<String, Problem> {
        let uri: Uri = self.sign_in_url.parse().map_err(|error| Problem::request(WHAT, error))?;
        match (uri.scheme_str(), uri.authority()) {
            (Some(scheme), Some(authority)) => {
                Ok(format!("{scheme}://{authority}/cloud-credentials"))
            }
            _ => Err(Problem::Field("cloud_sso_sign_in_url")),
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "CloudCredential")]
    key: TemporaryKey,
}
