//! The Security Token Service: taking a role.

use http::Method;
use jiff::Timestamp;
use serde::Deserialize;

use super::call::Call;
use super::{AccessKey, CallError, Caller, Endpoint};
use crate::secret::Secret;

const VERSION: &str = "2015-04-01";

/// A role, and how to take it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Role {
    /// `acs:ram::<account>:role/<name>`
    pub arn: String,
    /// The name that the audit log shows.
    pub session_name: String,
    /// How long the keys shall last, in seconds; the service's minimum is 900.
    pub duration: u32,
    /// A policy that narrows what the keys may do.
    pub policy: Option<String>,
    /// What the role's owner asks third parties to say.
    pub external_id: Option<String>,
}

impl Role {
    /// The session name where none is set.
    pub const SESSION_NAME: &'static str = "docker-credential-aliyun";
    /// The duration where none is set: the service's own default.
    pub const DURATION: u32 = 3600;

    fn form<'a>(&'a self, duration: &'a str) -> Vec<(&'a str, &'a str)> {
        let mut form = vec![
            ("RoleArn", self.arn.as_str()),
            ("RoleSessionName", self.session_name.as_str()),
            ("DurationSeconds", duration),
        ];
        form.extend(self.policy.as_deref().map(|policy| ("Policy", policy)));
        form
    }
}

/// Keys of a role, for an identity that its trust policy names.
///
/// # Errors
/// If STS refuses or cannot be asked.
pub fn assume_role(
    caller: &Caller<'_>,
    endpoint: &Endpoint,
    key: &AccessKey,
    role: &Role,
) -> Result<AccessKey, CallError> {
    let duration = role.duration.to_string();
    let mut form = role.form(&duration);
    form.extend(role.external_id.as_deref().map(|id| ("ExternalId", id)));
    let answer: Answer = caller.signed(endpoint, &call("AssumeRole", &form), key)?;
    Ok(answer.credentials.into())
}

/// Keys of a role, for a token of an OIDC issuer that RAM knows as a provider. Not signed: the
/// token is the proof.
///
/// # Errors
/// If STS refuses or cannot be asked.
pub fn assume_role_with_oidc(
    caller: &Caller<'_>,
    endpoint: &Endpoint,
    provider_arn: &str,
    token: &Secret,
    role: &Role,
) -> Result<AccessKey, CallError> {
    let duration = role.duration.to_string();
    let mut form = role.form(&duration);
    form.extend([("OIDCProviderArn", provider_arn), ("OIDCToken", token.expose())]);
    let call = call("AssumeRoleWithOIDC", &form);
    let answer: Answer = caller.anonymous(endpoint, &call, token.expose())?;
    Ok(answer.credentials.into())
}

fn call<'a>(action: &'static str, form: &'a [(&'a str, &'a str)]) -> Call<'a> {
    Call { action, version: VERSION, method: &Method::POST, path: "/", query: &[], form }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    credentials: TemporaryKey,
}

/// Temporary keys in the four fields that STS, instance metadata and credentials URIs all use.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TemporaryKey {
    access_key_id: String,
    access_key_secret: String,
    security_token: String,
    expiration: Option<String>,
}

impl From<TemporaryKey> for AccessKey {
    fn from(key: TemporaryKey) -> Self {
        Self {
            id: key.access_key_id,
            secret: Secret::new(key.access_key_secret),
            security_token: Some(Secret::new(key.security_token)),
            expires_at: key.expiration.and_then(|time| time.parse::<Timestamp>().ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_asked_for_with_all_that_was_set() {
        let role = Role {
            arn: "acs:ram::1:role/r".to_owned(),
            session_name: "s".to_owned(),
            duration: 900,
            policy: Some("{}".to_owned()),
            external_id: Some("e".to_owned()),
        };
        let form = [
            ("RoleArn", "acs:ram::1:role/r"),
            ("RoleSessionName", "s"),
            ("DurationSeconds", "900"),
            ("Policy", "{}"),
        ];
        assert_eq!(role.form("900"), form);
    }

    #[test]
    fn temporary_keys_are_read() -> serde_json::Result<()> {
        let answer: Answer = serde_json::from_str(
            r#"{"RequestId":"r","AssumedRoleUser":{"Arn":"a"},"Credentials":{"AccessKeyId":"STS.x",
                "AccessKeySecret":"s","SecurityToken":"t","Expiration":"2026-01-02T03:04:05Z"}}"#,
        )?;
        let key = AccessKey::from(answer.credentials);
        assert_eq!(key.id, "STS.x");
        assert_eq!(key.security_token, Some(Secret::new("t".to_owned())));
        assert_eq!(
            key.expires_at.map(|time| time.to_string()).as_deref(),
            Some("2026-01-02T03:04:05Z")
        );
        Ok(())
    }
}
