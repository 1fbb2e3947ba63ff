//! What a failed call means, in words that say what to do.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

use crate::transport::TransportError;

/// Why a call brought no answer of the kind asked for.
#[derive(Debug, Error)]
pub enum CallError {
    /// The API understood and said no.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// There was no answer.
    #[error("{action} got no answer: {source}{}", if *.vpc_only { VPC_ONLY } else { "" })]
    Transport {
        /// The call.
        action: &'static str,
        /// What went wrong.
        source: TransportError,
        /// Whether the endpoint answers only inside a VPC.
        vpc_only: bool,
    },
    /// The API is there but cannot serve now.
    #[error("{host} could not serve {action} now: {reason}; try again {}", when(retry_after.as_ref()))]
    Unavailable {
        /// The call.
        action: &'static str,
        /// The endpoint's host.
        host: String,
        /// The status or the code.
        reason: String,
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// Somebody else answered, or the answer is of an unknown kind.
    #[error(
        "{host} answered {action} with {what}, which is not what the API answers; check the \
         endpoint, and any proxy or login page in between"
    )]
    NotTheApi {
        /// The call.
        action: &'static str,
        /// The endpoint's host.
        host: String,
        /// What came.
        what: String,
    },
}

fn when(retry_after: Option<&Duration>) -> String {
    match retry_after {
        Some(wait) if !wait.is_zero() => format!("in {} s", wait.as_secs()),
        _ => "later".to_owned(),
    }
}

const VPC_ONLY: &str = "; this endpoint answers only inside a VPC of its region: outside, use the \
                        registry's public host name";

/// A call that the API refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct Refusal {
    /// The call.
    pub action: &'static str,
    /// The endpoint's host.
    pub host: String,
    /// The API's code.
    pub code: String,
    /// The API's words, shortened, without anything secret. May be empty.
    pub message: String,
    /// The number to give to the vendor's support. May be empty.
    pub request_id: String,
    /// How far this machine's clock is behind the API's (ahead: negative), in seconds, where the
    /// answer told.
    pub clock_behind: Option<i64>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} refused {}: {}", self.host, self.action, self.code)?;
        let message = self.message.trim_end_matches('.');
        if !message.is_empty() && message != self.code {
            write!(f, " ({message})")?;
        }
        if let Some(advice) = self.advice() {
            write!(f, "; {advice}")?;
        }
        if !self.request_id.is_empty() {
            write!(f, " [request {}]", self.request_id)?;
        }
        Ok(())
    }
}

impl Refusal {
    /// Whether the code is about an instance or an action that the endpoint's region does not have.
    fn is_about_place(&self) -> bool {
        let code = self.code.to_ascii_uppercase().replace(['_', '.'], "");
        code.contains("INSTANCENOTEXIST")
            || code.contains("INVALIDINSTANCE")
            || code.contains("INSTANCEIDNOTEXIST")
            || code == "INSTANCENOTFOUND"
    }

    /// What the code means and what to do about it, for the codes that people meet.
    ///
    /// Sources: error centre of Container Registry and STS; `aliyun/acr-login` issues 15 and 19;
    /// `aliyun/aliyun-cli` issues 232 and 400.
    #[must_use]
    pub fn advice(&self) -> Option<String> {
        let code = self.code.as_str();
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| code.starts_with(prefix));
        let fixed = if code == "USER_NOT_EXIST" {
            "the personal edition knows a RAM user only once it has a registry password: set one in \
             the console under Access Credential"
        } else if self.is_about_place() {
            "there is no such instance in this region for this account: check instanceId and \
             regionId in the configuration, and whose identity this is"
        } else if starts(&["InvalidTimeStamp", "InvalidTimestamp", "IllegalTimestamp"]) {
            return Some(self.clock_advice());
        } else if starts(&["InvalidAccessKeyId.Inactive"]) {
            "the access key is disabled: enable it in the RAM console or use another one"
        } else if starts(&["InvalidAccessKeyId"]) {
            "there is no such access key: it was deleted, mistyped, or belongs to another site, or \
             it is a temporary one without its security token"
        } else if starts(&["SignatureDoesNotMatch", "IncompleteSignature", "InvalidSignature"]) {
            "the access key secret does not belong to the access key id"
        } else if starts(&["MissingSecurityToken"]) {
            "these are temporary keys: set the security token that came with them \
             (ALIBABA_CLOUD_SECURITY_TOKEN)"
        } else if starts(&["InvalidSecurityToken"]) {
            "the temporary keys have expired or do not belong together: get new ones"
        } else if starts(&["EntityNotExist.Role"]) {
            "there is no such role: check the ARN, its account number and its spelling"
        } else if starts(&["AuthenticationFail.OIDCToken.Expired"]) {
            "the OIDC token has expired: it must be issued shortly before it is used"
        } else if starts(&["AuthenticationFail.OIDCToken"]) {
            "the OIDC provider does not accept the token: check issuer, audience (client id) and \
             fingerprint of the provider in RAM"
        } else if starts(&["AuthenticationFail.NoPermission"]) {
            "the role's trust policy does not let this OIDC subject in: check its conditions \
             oidc:iss, oidc:aud and oidc:sub"
        } else if starts(&["EntityNotExist.OIDCProvider", "AuthenticationFail.OIDCProvider"]) {
            "there is no such OIDC provider: check its ARN"
        } else if starts(&[
            "InvalidAction",
            "InvalidVersion",
            "InvalidApi",
            "InvalidParameter.Action",
        ]) {
            "this endpoint does not offer that call: check the region and any endpoint that was set"
        } else if self.is_permission() {
            return Some(self.permission_advice());
        } else {
            return None;
        };
        Some(fixed.to_owned())
    }

    fn is_permission(&self) -> bool {
        let code = self.code.to_ascii_lowercase().replace('_', "");
        ["forbidden", "nopermission", "notauthorized", "unauthorized", "accessdenied"]
            .iter()
            .any(|part| code.contains(part))
    }

    fn permission_advice(&self) -> String {
        match self.action {
            "AssumeRole" => {
                "this identity may not take the role: allow sts:AssumeRole on the role's ARN, and \
                 name the identity in the role's trust policy"
            }
            .to_owned(),
            "AssumeRoleWithOIDC" => {
                "the role's trust policy does not let this OIDC subject in".to_owned()
            }
            action => format!(
                "add to the policy of this identity: {{\"Effect\": \"Allow\", \"Action\": \
                 \"cr:{action}\", \"Resource\": \"*\"}}, and cr:PullRepository or \
                 cr:PushRepository for the repositories"
            ),
        }
    }

    fn clock_advice(&self) -> String {
        match self.clock_behind {
            Some(seconds) if seconds.abs() >= 60 => {
                let side = if seconds > 0 { "behind" } else { "ahead of" };
                let minutes = seconds.abs() / 60;
                format!("this machine's clock is {minutes} min {side} the API's: set it (NTP)")
            }
            _ => "the request was older than 15 minutes when it came: check this machine's clock"
                .to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(action: &'static str, code: &str) -> Refusal {
        Refusal {
            action,
            host: "cr.cn-hangzhou.aliyuncs.com".to_owned(),
            code: code.to_owned(),
            message: String::new(),
            request_id: String::new(),
            clock_behind: None,
        }
    }

    #[test]
    fn a_refusal_is_one_sentence_with_code_meaning_and_request() {
        let mut refusal = refusal("GetAuthorizationToken", "USER_NOT_EXIST");
        refusal.message = "user is not exist.".to_owned();
        refusal.request_id = "94E89857".to_owned();
        assert_eq!(
            refusal.to_string(),
            "cr.cn-hangzhou.aliyuncs.com refused GetAuthorizationToken: USER_NOT_EXIST (user is not \
             exist); the personal edition knows a RAM user only once it has a registry password: set \
             one in the console under Access Credential [request 94E89857]"
        );
    }

    #[test]
    fn the_codes_that_people_meet_have_advice() {
        for (code, word) in [
            ("NoPermission", "cr:GetAuthorizationToken"),
            ("Forbidden.RAM", "cr:GetAuthorizationToken"),
            ("INSTANCE_NOT_EXIST", "instanceId"),
            ("InvalidAccessKeyId.NotFound", "no such access key"),
            ("SignatureDoesNotMatch", "does not belong"),
            ("MissingSecurityToken", "ALIBABA_CLOUD_SECURITY_TOKEN"),
            ("InvalidSecurityToken.Expired", "get new ones"),
            ("InvalidTimeStamp.Expired", "clock"),
            ("InvalidAction.NotFound", "region"),
        ] {
            let advice = refusal("GetAuthorizationToken", code).advice().unwrap_or_default();
            assert!(advice.contains(word), "{code}: {advice}");
        }
        assert_eq!(refusal("ListInstance", "SomethingNew").advice(), None);
    }

    #[test]
    fn a_role_that_may_not_be_taken_says_which_side_to_change() {
        let advice = refusal("AssumeRole", "NoPermission").advice().unwrap_or_default();
        assert!(advice.contains("sts:AssumeRole") && advice.contains("trust policy"), "{advice}");
    }

    #[test]
    fn a_wrong_clock_is_told_by_how_much() {
        let mut refusal = refusal("AssumeRole", "InvalidTimeStamp.Expired");
        refusal.clock_behind = Some(3660);
        assert!(refusal.to_string().contains("61 min behind"), "{refusal}");
        refusal.clock_behind = Some(-7200);
        assert!(refusal.to_string().contains("120 min ahead of"), "{refusal}");
    }
}
