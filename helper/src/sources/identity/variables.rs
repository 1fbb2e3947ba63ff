//! Identities that environment variables name: an access key, a role, an OIDC token.

use std::path::PathBuf;

use super::oidc::{OidcToken, github_token};
use super::{Assume, Identity, IdentityError, Problem, StsPlace};
use crate::environment::Environment;
use crate::openapi::sts::Role;
use crate::openapi::{AccessKey, Endpoint};
use crate::region::Region;
use crate::secret::Secret;

/// The vendor's prefixes, in the order in which its command line reads them.
const PREFIXES: [&str; 3] = ["ALIBABA_CLOUD_", "ALIBABACLOUD_", "ALICLOUD_"];

/// The vendor's variables in an environment, under any of the vendor's prefixes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Variables<'a>(&'a Environment);

impl<'a> Variables<'a> {
    /// The variables, all of which must be text.
    pub(super) fn new(environment: &'a Environment) -> Result<Self, IdentityError> {
        let is_vendors = |name: &&str| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        for name in environment.names().filter(is_vendors) {
            environment.var(name).map_err(|error| failed(Problem::NotText(error)))?;
        }
        Ok(Self(environment))
    }

    /// The value of `ALIBABA_CLOUD_<name>`, or of its older spellings.
    pub(super) fn get(self, name: &str) -> Option<&'a str> {
        PREFIXES.iter().find_map(|prefix| self.exact(&format!("{prefix}{name}")))
    }

    /// The value of a variable under exactly this name. One of blanks counts as unset.
    pub(super) fn exact(self, name: &str) -> Option<&'a str> {
        self.0.var(name).ok().flatten().map(str::trim).filter(|value| !value.is_empty())
    }

    /// The profile file, and whether a variable named it.
    pub(super) fn profile_path(self) -> Option<(PathBuf, bool)> {
        self.file("CONFIG_FILE", ".aliyun/config.json")
    }

    /// The credentials file, and whether a variable named it.
    pub(super) fn credentials_path(self) -> Option<(PathBuf, bool)> {
        self.file("CREDENTIALS_FILE", ".alibabacloud/credentials")
    }

    /// Where STS is asked, as `ALIBABA_CLOUD_STS_ENDPOINT`, `ALIBABA_CLOUD_STS_REGION` and
    /// `ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED` say.
    pub(super) fn sts_place(self) -> Result<StsPlace, IdentityError> {
        let endpoint = self.get("STS_ENDPOINT").map(Endpoint::parse).transpose();
        let region = self.get("STS_REGION").map(Region::parse).transpose();
        Ok(StsPlace {
            endpoint: endpoint.map_err(|error| failed(Problem::Endpoint(error)))?,
            region: region.map_err(|error| failed(Problem::Region(error)))?,
            vpc: self.is_on("VPC_ENDPOINT_ENABLED"),
        })
    }

    fn file(self, name: &str, below_home: &str) -> Option<(PathBuf, bool)> {
        match self.get(name) {
            Some(path) => Some((self.0.directory().join(path), true)),
            None => Some((self.0.home()?.join(below_home), false)),
        }
    }

    /// Whether a switch is on: `true` in any case, or `1`.
    pub(super) fn is_on(self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"))
    }

    fn or_old(self, name: &str, old: &str) -> Option<&'a str> {
        self.get(name).or_else(|| self.exact(old))
    }
}

/// The origin that errors and `status` name.
const ORIGIN: &str = "the environment";

fn failed(problem: Problem) -> IdentityError {
    IdentityError::new(ORIGIN, problem)
}

fn incomplete(set: &'static str, missing: &'static str) -> IdentityError {
    failed(Problem::Incomplete { set, missing })
}

/// `ALIBABA_CLOUD_ACCESS_KEY_ID` with its secret and perhaps a security token, then the role that
/// it is to take.
///
/// Where all of `ALIBABA_CLOUD_OIDC_*` is set too, as in a pod with RRSA, the role is meant for the
/// OIDC token and the key is used as it is (`aliyun/credentials-go: default.go`).
pub(super) fn access_key(
    variables: Variables<'_>,
    sts: &StsPlace,
) -> Result<Option<Identity>, IdentityError> {
    let id = variables.or_old("ACCESS_KEY_ID", "ALICLOUD_ACCESS_KEY");
    let secret = variables.or_old("ACCESS_KEY_SECRET", "ALICLOUD_SECRET_KEY");
    let token = variables.or_old("SECURITY_TOKEN", "ALICLOUD_ACCESS_KEY_STS_TOKEN");
    let (id, secret) = match (id, secret) {
        (Some(id), Some(secret)) => (id, secret),
        (None, None) if token.is_none() => return Ok(None),
        (Some(_), None) => {
            return Err(incomplete(
                "ALIBABA_CLOUD_ACCESS_KEY_ID",
                "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
            ));
        }
        (None, Some(_)) => {
            return Err(incomplete(
                "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
                "ALIBABA_CLOUD_ACCESS_KEY_ID",
            ));
        }
        (None, None) => {
            return Err(incomplete("ALIBABA_CLOUD_SECURITY_TOKEN", "ALIBABA_CLOUD_ACCESS_KEY_ID"));
        }
    };
    let key = Identity::AccessKey(AccessKey {
        id: id.to_owned(),
        secret: Secret::new(secret.to_owned()),
        security_token: token.map(|token| Secret::new(token.to_owned())),
        expires_at: None,
    });
    let for_oidc = variables.get("OIDC_PROVIDER_ARN").is_some();
    Ok(Some(match role(variables) {
        Some(role) if !for_oidc => key.taking(Assume { role, sts: sts.clone() }),
        _ => key,
    }))
}

/// `ALIBABA_CLOUD_ROLE_ARN` and `ALIBABA_CLOUD_OIDC_PROVIDER_ARN` with a token: from the file that
/// `ALIBABA_CLOUD_OIDC_TOKEN_FILE` names (RRSA), from `ALIBABA_CLOUD_OIDC_TOKEN` itself (GitLab's
/// `id_tokens`), or from GitHub's token service where the job may ask it.
pub(super) fn oidc(
    variables: Variables<'_>,
    sts: &StsPlace,
) -> Result<Option<Identity>, IdentityError> {
    let provider = variables.get("OIDC_PROVIDER_ARN");
    let (role, provider_arn) = match (role(variables), provider) {
        (Some(role), Some(provider)) => (role, provider.to_owned()),
        (None, Some(_)) => {
            return Err(incomplete("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "ALIBABA_CLOUD_ROLE_ARN"));
        }
        (Some(_), None) => {
            match ["OIDC_TOKEN_FILE", "OIDC_TOKEN"].iter().any(|name| variables.get(name).is_some())
            {
                true => {
                    return Err(incomplete(
                        "an OIDC token for ALIBABA_CLOUD_ROLE_ARN",
                        "ALIBABA_CLOUD_OIDC_PROVIDER_ARN",
                    ));
                }
                // The role of some other program's: nobody is there who could take it.
                false => return Ok(None),
            }
        }
        (None, None) => return Ok(None),
    };
    let token = if let Some(path) = variables.get("OIDC_TOKEN_FILE") {
        OidcToken::read(&variables.0.directory().join(path)).map_err(failed)?
    } else if let Some(token) = variables.get("OIDC_TOKEN") {
        OidcToken::Text(Secret::new(token.to_owned()))
    } else if let Some(token) = github_token(variables) {
        token
    } else {
        return Err(incomplete(
            "ALIBABA_CLOUD_OIDC_PROVIDER_ARN",
            "ALIBABA_CLOUD_OIDC_TOKEN_FILE or ALIBABA_CLOUD_OIDC_TOKEN (in GitHub Actions, give \
             the job `permissions: id-token: write`)",
        ));
    };
    let assume = Assume { role, sts: sts.clone() };
    Ok(Some(Identity::OidcRole { token, provider_arn, assume }))
}

fn role(variables: Variables<'_>) -> Option<Role> {
    Some(Role {
        arn: variables.get("ROLE_ARN")?.to_owned(),
        session_name: variables.get("ROLE_SESSION_NAME").unwrap_or(Role::SESSION_NAME).to_owned(),
        duration: Role::DURATION,
        policy: None,
        external_id: variables.get("EXTERNAL_ID").map(str::to_owned),
    })
}
