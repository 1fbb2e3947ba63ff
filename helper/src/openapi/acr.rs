//! The calls of Container Registry.
//!
//! Personal edition: API 2016-06-07 in ROA style. Enterprise edition: API 2018-12-01 in RPC style,
//! with its parameters in the query.

use http::Method;
use jiff::Timestamp;
use serde::Deserialize;

use super::call::Call;
use super::{AccessKey, CallError, Caller, Endpoint};
use crate::secret::Secret;

/// The API's largest page is 100; a smaller one is its default.
const PAGE: usize = 100;
/// More pages than any account has instances for: an end for a server that never says the end.
const MAX_PAGES: usize = 50;

const PERSONAL: &str = "2016-06-07";
const ENTERPRISE: &str = "2018-12-01";

/// A login for a registry that ends by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizationToken {
    /// The user name, as the API gave it.
    pub user: String,
    /// The password.
    pub token: Secret,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// An enterprise instance, as `ListInstance` gives it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Instance {
    /// `cri-...`
    pub instance_id: String,
    /// The first part of its host names.
    pub instance_name: String,
}

/// A login for the personal edition of the endpoint's region.
///
/// # Errors
/// If the API refuses or cannot be asked.
pub fn personal_token(
    caller: &Caller<'_>,
    endpoint: &Endpoint,
    key: &AccessKey,
) -> Result<AuthorizationToken, CallError> {
    let call = Call {
        action: "GetAuthorizationToken",
        version: PERSONAL,
        method: &Method::GET,
        path: "/tokens",
        query: &[],
        form: &[],
    };
    let answer: PersonalToken = caller.signed(endpoint, &call, key)?;
    let PersonalData { authorization_token, temp_user_name, expire_date } = answer.data;
    token(temp_user_name, authorization_token, expire_date, endpoint)
}

/// A login for an enterprise instance.
///
/// # Errors
/// If the API refuses or cannot be asked.
pub fn enterprise_token(
    caller: &Caller<'_>,
    endpoint: &Endpoint,
    key: &AccessKey,
    instance_id: &str,
) -> Result<AuthorizationToken, CallError> {
    let query = [("InstanceId", instance_id)];
    let answer: EnterpriseToken =
        caller.signed(endpoint, &rpc("GetAuthorizationToken", &query), key)?;
    token(answer.temp_username, answer.authorization_token, answer.expire_time, endpoint)
}

/// All enterprise instances of the endpoint's region that the identity may see.
///
/// # Errors
/// If the API refuses or cannot be asked.
pub fn list_instances(
    caller: &Caller<'_>,
    endpoint: &Endpoint,
    key: &AccessKey,
) -> Result<Vec<Instance>, CallError> {
    let page_size = PAGE.to_string();
    let mut found = Vec::new();
    for page in 1..=MAX_PAGES {
        let page_number = page.to_string();
        let query = [("PageNo", page_number.as_str()), ("PageSize", page_size.as_str())];
        let answer: Instances = caller.signed(endpoint, &rpc("ListInstance", &query), key)?;
        let last = answer.instances.is_empty();
        found.extend(answer.instances);
        // A server may give smaller pages than it was asked for, so their length tells nothing.
        if last || answer.total_count.is_some_and(|total| found.len() >= total) {
            break;
        }
    }
    Ok(found)
}

/// The domains under which an enterprise instance serves its registry, its own ones included.
///
/// # Errors
/// If the API refuses or cannot be asked.
pub fn instance_domains(
    caller: &Caller<'_>,
    endpoint: &Endpoint,
    key: &AccessKey,
    instance_id: &str,
) -> Result<Vec<String>, CallError> {
    let query = [("InstanceId", instance_id), ("ModuleName", "Registry")];
    let answer: InstanceEndpoints =
        caller.signed(endpoint, &rpc("ListInstanceEndpoint", &query), key)?;
    let domains = answer.endpoints.into_iter().flat_map(|endpoint| endpoint.domains);
    Ok(domains.map(|domain| domain.domain).collect())
}

fn rpc<'a>(action: &'static str, query: &'a [(&'a str, &'a str)]) -> Call<'a> {
    Call { action, version: ENTERPRISE, method: &Method::POST, path: "/", query, form: &[] }
}

/// Makes a token of the answer's parts; the time is in milliseconds since 1970.
fn token(
    user: String,
    token: String,
    expires: i64,
    endpoint: &Endpoint,
) -> Result<AuthorizationToken, CallError> {
    let token = Secret::new(token);
    match Timestamp::from_millisecond(expires) {
        Ok(expires_at) if !user.is_empty() && !token.is_empty() => {
            Ok(AuthorizationToken { user, token, expires_at })
        }
        _ => Err(CallError::NotTheApi {
            action: "GetAuthorizationToken",
            host: endpoint.authority().to_owned(),
            what: "a token without user name, text or end".to_owned(),
        }),
    }
}

#[derive(Deserialize)]
struct PersonalToken {
    data: PersonalData,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PersonalData {
    authorization_token: String,
    temp_user_name: String,
    expire_date: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EnterpriseToken {
    authorization_token: String,
    temp_username: String,
    expire_time: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Instances {
    #[serde(default)]
    instances: Vec<Instance>,
    total_count: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InstanceEndpoints {
    #[serde(default)]
    endpoints: Vec<InstanceEndpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InstanceEndpoint {
    #[serde(default)]
    domains: Vec<Domain>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Domain {
    domain: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answers as the vendor's documentation shows them.
    #[test]
    fn the_documented_answers_are_read() -> serde_json::Result<()> {
        let personal: PersonalToken = serde_json::from_str(
            r#"{"data":{"authorizationToken":"eyJ0aW1l:0705733","tempUserName":"cr_temp_user",
                "expireDate":1526549792000},"requestId":"94E89857"}"#,
        )?;
        assert_eq!(personal.data.temp_user_name, "cr_temp_user");
        assert_eq!(personal.data.expire_date, 1_526_549_792_000);
        let enterprise: EnterpriseToken = serde_json::from_str(
            r#"{"RequestId":"E069EB86","ExpireTime":1571242083000,"Code":"success","IsSuccess":true,
                "TempUsername":"temp_user_cr","AuthorizationToken":"shaun:uucz"}"#,
        )?;
        assert_eq!(enterprise.temp_username, "temp_user_cr");
        Ok(())
    }

    #[test]
    fn times_are_in_milliseconds() {
        let endpoint = Endpoint::parse("cr.example.com").expect("an endpoint");
        let made = token("u".to_owned(), "t".to_owned(), 1_571_242_083_000, &endpoint);
        let expires_at = made.map(|token| token.expires_at.to_string());
        assert_eq!(expires_at.ok().as_deref(), Some("2019-10-16T16:08:03Z"));
        for (user, text, expires) in [("", "t", 1), ("u", "", 1), ("u", "t", i64::MAX)] {
            assert!(token(user.to_owned(), text.to_owned(), expires, &endpoint).is_err());
        }
    }
}
