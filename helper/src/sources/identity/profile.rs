//! Profiles of the vendor's command line: `~/.aliyun/config.json`.
//!
//! Fields and modes: `aliyun/aliyun-cli: config/profile.go`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::de::value::MapDeserializer;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::cloud_sso::CloudSso;
use super::oidc::OidcToken;
use super::{Assume, Identity, IdentityError, Problem, StsPlace, external};
use crate::openapi::sts::Role;
use crate::openapi::{AccessKey, Endpoint};
use crate::region::Region;
use crate::secret::Secret;

/// A profile whose source is a profile whose source ...: more than anybody needs.
const MAX_CHAIN: usize = 8;

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ProfileFile {
    current: String,
    profiles: Vec<OneProfile>,
    #[serde(skip)]
    path: PathBuf,
}

/// A profile as it stands in JSON.
#[derive(Debug, Deserialize)]
struct OneProfile(#[serde(deserialize_with = "without_nulls")] Profile);

/// Reads an object as the vendor's Go programs do: a field that is `null` is one that is not there,
/// and of a field that stands there twice the last counts.
fn without_nulls<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let fields: BTreeMap<String, &'de RawValue> = Deserialize::deserialize(deserializer)?;
    let set = fields.into_iter().filter(|(_, value)| value.get() != "null");
    T::deserialize(MapDeserializer::new(set)).map_err(serde_json_error)
}

fn serde_json_error<E: serde::de::Error>(error: serde_json::Error) -> E {
    // Its words may repeat a value.
    drop(error);
    E::custom("a field of another kind")
}

/// What a profile may refer to beside itself.
#[derive(Clone, Copy)]
struct Context<'a> {
    /// Where its `source_profile` is looked up; a profile printed by a command has none.
    file: Option<&'a ProfileFile>,
    /// Whether programs and URIs may be asked (`ALIBABA_CLOUD_DISABLE_EXTERNAL_PROCESS`).
    external: bool,
    /// Where STS is asked if the profile does not say.
    sts: &'a StsPlace,
}

/// One profile, or what a command printed as one. Unknown fields are other programs' business.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Profile {
    name: String,
    mode: String,
    access_key_id: String,
    access_key_secret: Secret,
    sts_token: Secret,
    sts_expiration: Option<i64>,
    ram_role_arn: String,
    ram_session_name: String,
    expired_seconds: u32,
    policy: String,
    external_id: String,
    sts_region: String,
    sts_endpoint: String,
    enable_vpc: bool,
    source_profile: String,
    ram_role_name: String,
    oidc_provider_arn: String,
    oidc_token_file: String,
    process_command: String,
    credentials_uri: String,
    cloud_sso_sign_in_url: String,
    cloud_sso_account_id: String,
    cloud_sso_access_config: String,
    access_token: Secret,
    cloud_sso_access_token_expire: i64,
}

impl ProfileFile {
    /// Reads the file; `None` if there is none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, Problem> {
        let Some(text) = super::read_if_there(path)? else { return Ok(None) };
        let mut json = serde_json::Deserializer::from_str(&text);
        let mut file: Self = without_nulls(&mut json)
            .map_err(|error| Problem::FileShape { path: path.to_owned(), line: error.line() })?;
        file.path = path.to_owned();
        Ok(Some(file))
    }

    fn find(&self, name: &str) -> Option<&Profile> {
        self.profiles.iter().map(|OneProfile(one)| one).find(|profile| profile.name == name)
    }

    /// The identity of the named profile; `None` if there is no such profile.
    pub(super) fn identity(
        &self,
        name: &str,
        external: bool,
        sts: &StsPlace,
    ) -> Result<Option<Identity>, IdentityError> {
        let Some(profile) = self.find(name) else { return Ok(None) };
        let context = Context { file: Some(self), external, sts };
        let identity = profile.identity(context, &mut vec![name]);
        identity.map(Some).map_err(|problem| IdentityError::new(self.origin(name), problem))
    }

    /// The name of the profile that counts where none is asked for, if it holds anything: the
    /// vendor's command line writes an empty one when it is first run.
    pub(super) fn current(&self) -> Option<&str> {
        let name = if self.current.is_empty() { "default" } else { &self.current };
        self.find(name).filter(|profile| !profile.is_blank()).map(|profile| profile.name.as_str())
    }

    /// What errors and `status` call a profile of this file.
    pub(super) fn origin(&self, name: &str) -> String {
        format!("profile `{name}` of {}", self.path.display())
    }
}

/// The identity that a command printed, as a profile object.
pub(super) fn printed(output: &[u8], sts: &StsPlace) -> Result<Identity, Problem> {
    let OneProfile(profile) = serde_json::from_slice(output).map_err(|_| Problem::CommandOutput)?;
    profile.identity(Context { file: None, external: false, sts }, &mut Vec::new())
}

impl Profile {
    fn is_blank(&self) -> bool {
        let keyed = self.mode.is_empty() || self.mode.eq_ignore_ascii_case("AK");
        keyed && self.access_key_id.is_empty() && self.access_key_secret.is_empty()
    }

    /// `seen` holds the names on the way here, to find a circle.
    fn identity<'a>(
        &'a self,
        context: Context<'a>,
        seen: &mut Vec<&'a str>,
    ) -> Result<Identity, Problem> {
        let mode = self.mode.to_ascii_lowercase();
        match mode.as_str() {
            "" | "ak" => Ok(Identity::AccessKey(self.key(false)?)),
            "ststoken" => Ok(Identity::AccessKey(self.key(true)?)),
            // The vendor's command line uses a token that stands beside the key.
            "ramrolearn" => {
                let key = self.key(!self.sts_token.is_empty())?;
                Ok(Identity::AccessKey(key).taking(self.assume(context)?))
            }
            "ecsramrole" => Ok(self.instance()),
            "ramrolearnwithrolename" => Ok(self.instance().taking(self.assume(context)?)),
            "chainableramrolearn" => Ok(self.source(context, seen)?.taking(self.assume(context)?)),
            "oidc" => {
                let provider = required("oidc_provider_arn", &self.oidc_provider_arn)?;
                let path = required("oidc_token_file", &self.oidc_token_file)?;
                Ok(Identity::OidcRole {
                    token: OidcToken::read(Path::new(path))?,
                    provider_arn: provider.to_owned(),
                    assume: self.assume(context)?,
                })
            }
            "external" => {
                context.may_ask_others("a command")?;
                let command = required("process_command", &self.process_command)?;
                let arguments = external::split(command)?;
                Ok(Identity::External { arguments, sts: context.sts.clone() })
            }
            "credentialsuri" => {
                context.may_ask_others("a credentials URI")?;
                let uri = required("credentials_uri", &self.credentials_uri)?;
                Ok(Identity::Uri(uri.to_owned()))
            }
            "cloudsso" => Ok(Identity::CloudSso(self.cloud_sso()?)),
            "oauth" => match self.cached_key() {
                Some(key) => Ok(Identity::AccessKey(key)),
                None => Err(Problem::LoginExpired { profile: self.name.clone(), mode: "OAuth" }),
            },
            _ => Err(Problem::Mode(self.mode.clone())),
        }
    }

    /// The pair of keys, with its token where the mode has one.
    fn key(&self, with_token: bool) -> Result<AccessKey, Problem> {
        let id = required("access_key_id", &self.access_key_id)?.to_owned();
        required("access_key_secret", self.access_key_secret.expose())?;
        let security_token = if with_token {
            required("sts_token", self.sts_token.expose())?;
            Some(self.sts_token.clone())
        } else {
            None
        };
        let secret = self.access_key_secret.clone();
        Ok(AccessKey { id, secret, security_token, expires_at: self.expires_at() })
    }

    /// The temporary keys that the vendor's command line left here, if they are good for a while.
    fn cached_key(&self) -> Option<AccessKey> {
        const A_WHILE: i64 = 180;
        let key = self.key(true).ok()?;
        let left = key.expires_at?.as_second() - Timestamp::now().as_second();
        (left > A_WHILE).then_some(key)
    }

    fn expires_at(&self) -> Option<Timestamp> {
        self.sts_expiration
            .filter(|seconds| *seconds > 0)
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
    }

    fn instance(&self) -> Identity {
        let role = Some(self.ram_role_name.clone()).filter(|role| !role.is_empty());
        Identity::Instance { role, asked: true }
    }

    fn source<'a>(
        &'a self,
        context: Context<'a>,
        seen: &mut Vec<&'a str>,
    ) -> Result<Identity, Problem> {
        let name = required("source_profile", &self.source_profile)?;
        if seen.contains(&name) || seen.len() == MAX_CHAIN {
            seen.push(name);
            return Err(Problem::Circle(seen.join(" -> ")));
        }
        let source = context.file.and_then(|file| file.find(name));
        let source = source.ok_or_else(|| Problem::NoSourceProfile(name.to_owned()))?;
        seen.push(name);
        source.identity(context, seen)
    }

    fn assume(&self, context: Context<'_>) -> Result<Assume, Problem> {
        let text = |value: &str| Some(value.to_owned()).filter(|value| !value.is_empty());
        let role = Role {
            arn: required("ram_role_arn", &self.ram_role_arn)?.to_owned(),
            session_name: text(&self.ram_session_name)
                .unwrap_or_else(|| Role::SESSION_NAME.to_owned()),
            duration: if self.expired_seconds == 0 { Role::DURATION } else { self.expired_seconds },
            policy: text(&self.policy),
            external_id: text(&self.external_id),
        };
        let endpoint = text(&self.sts_endpoint).map(|text| Endpoint::parse(&text)).transpose();
        let region = text(&self.sts_region).map(|text| Region::parse(&text)).transpose();
        let outer = context.sts.clone();
        let sts = StsPlace {
            endpoint: endpoint.map_err(Problem::Endpoint)?.or(outer.endpoint),
            region: region.map_err(Problem::Region)?.or(outer.region),
            vpc: self.enable_vpc || outer.vpc,
        };
        Ok(Assume { role, sts })
    }

    fn cloud_sso(&self) -> Result<CloudSso, Problem> {
        Ok(CloudSso {
            profile: self.name.clone(),
            cached: self.cached_key(),
            sign_in_url: required("cloud_sso_sign_in_url", &self.cloud_sso_sign_in_url)?.to_owned(),
            account_id: required("cloud_sso_account_id", &self.cloud_sso_account_id)?.to_owned(),
            access_config: required("cloud_sso_access_config", &self.cloud_sso_access_config)?
                .to_owned(),
            access_token: self.access_token.clone(),
            access_token_expires: self.cloud_sso_access_token_expire,
        })
    }
}

impl Context<'_> {
    fn may_ask_others(self, whom: &'static str) -> Result<(), Problem> {
        if self.external { Ok(()) } else { Err(Problem::ExternalDisabled(whom)) }
    }
}

fn required<'a>(field: &'static str, value: &'a str) -> Result<&'a str, Problem> {
    if value.is_empty() { Err(Problem::Field(field)) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(profiles: &str) -> ProfileFile {
        let text = format!(r#"{{"current":"main","profiles":{profiles}}}"#);
        without_nulls(&mut serde_json::Deserializer::from_str(&text)).expect("a profile file")
    }

    fn identity(profiles: &str, name: &str) -> Result<Identity, String> {
        let found = file(profiles).identity(name, true, &StsPlace::default());
        found.map_err(|error| error.to_string())?.ok_or_else(|| "no profile".to_owned())
    }

    #[test]
    fn modes_are_read_in_any_case() {
        let key = r#"[{"name":"main","mode":"ak","access_key_id":"i","access_key_secret":"s",
            "sts_token":"left over","region_id":"cn-hangzhou","output_format":"json"}]"#;
        let Ok(Identity::AccessKey(key)) = identity(key, "main") else { panic!("no key") };
        assert_eq!((&*key.id, key.secret.expose(), key.security_token), ("i", "s", None));
    }

    #[test]
    fn a_field_that_is_null_is_not_there_and_of_two_the_last_counts() {
        let key = r#"[{"name":"main","mode":"AK","access_key_id":"old","access_key_id":"i",
            "access_key_secret":"s","sts_token":null,"sts_expiration":null,"enable_vpc":null,
            "expired_seconds":null,"ram_role_arn":null,"cloud_sso_access_token_expire":null}]"#;
        let Ok(Identity::AccessKey(key)) = identity(key, "main") else { panic!("no key") };
        assert_eq!((&*key.id, key.secret.expose()), ("i", "s"));
        let none = r#"{"current":null,"profiles":null,"meta_path":null}"#;
        let none = without_nulls::<_, ProfileFile>(&mut serde_json::Deserializer::from_str(none));
        assert_eq!(none.unwrap().current(), None);
    }

    #[test]
    fn a_chain_of_roles_is_taken_from_its_source_on() {
        let chain = r#"[
            {"name":"a","mode":"ChainableRamRoleArn","source_profile":"b","ram_role_arn":"A"},
            {"name":"b","mode":"ChainableRamRoleArn","source_profile":"c","ram_role_arn":"B"},
            {"name":"c","mode":"AK","access_key_id":"i","access_key_secret":"s"}]"#;
        let Ok(Identity::Role { base, assume }) = identity(chain, "a") else { panic!("no role") };
        assert_eq!(assume.role.arn, "A");
        let Identity::Role { base, assume } = *base else { panic!("no second role") };
        assert_eq!(assume.role.arn, "B");
        assert!(matches!(*base, Identity::AccessKey(_)));
    }

    #[test]
    fn a_circle_of_profiles_is_told_with_its_way() {
        let circle = r#"[
            {"name":"a","mode":"ChainableRamRoleArn","source_profile":"b","ram_role_arn":"A"},
            {"name":"b","mode":"ChainableRamRoleArn","source_profile":"a","ram_role_arn":"B"}]"#;
        let error = identity(circle, "a").unwrap_err();
        assert!(error.contains("a -> b -> a"), "{error}");
    }

    #[test]
    fn what_a_profile_lacks_is_named() {
        for (profile, missing) in [
            (r#"{"name":"p","mode":"AK","access_key_id":"i"}"#, "access_key_secret"),
            (r#"{"name":"p","mode":"OIDC"}"#, "oidc_provider_arn"),
            (r#"{"name":"p","mode":"External"}"#, "process_command"),
            (r#"{"name":"p","mode":"CloudSSO"}"#, "cloud_sso_sign_in_url"),
            (r#"{"name":"p","mode":"ChainableRamRoleArn","source_profile":"gone"}"#, "gone"),
            (r#"{"name":"p","mode":"BearerToken"}"#, "BearerToken"),
        ] {
            let error = identity(&format!("[{profile}]"), "p").unwrap_err();
            assert!(error.contains(missing), "{error}");
        }
    }

    #[test]
    fn an_empty_default_profile_is_as_good_as_none() {
        assert_eq!(file(r#"[{"name":"main","mode":"AK","access_key_id":""}]"#).current(), None);
        assert_eq!(file(r#"[{"name":"main","mode":"EcsRamRole"}]"#).current(), Some("main"));
        assert_eq!(file("[]").current(), None);
    }

    #[test]
    fn what_a_command_printed_cannot_run_another_command() {
        let sts = StsPlace::default();
        let key =
            br#"{"mode":"StsToken","access_key_id":"i","access_key_secret":"s","sts_token":"t"}"#;
        assert!(matches!(printed(key, &sts), Ok(Identity::AccessKey(_))));
        let again = br#"{"mode":"External","process_command":"x"}"#;
        assert!(matches!(printed(again, &sts), Err(Problem::ExternalDisabled(_))));
        let rubbish = printed(b"password: hunter2", &sts).unwrap_err();
        assert!(!format!("{rubbish} {rubbish:?}").contains("hunter2"));
    }

    #[test]
    fn no_key_of_a_profile_is_printed() {
        let file =
            file(r#"[{"name":"main","access_key_secret":"hunter2","access_token":"hunter3"}]"#);
        assert!(!format!("{file:?}").contains("hunter"));
    }
}
