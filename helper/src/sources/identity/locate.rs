//! The edition, region and instance behind a registry's host: from our configuration, then from
//! the name, then from the registry's own challenge, then from the API's lists.

use std::time::Duration;

use http::Request;
use http::header::WWW_AUTHENTICATE;
use thiserror::Error;

use super::variables::Variables;
use crate::accounts::Account;
use crate::environment::Environment;
use crate::host::{self, Edition, Host};
use crate::openapi::{AccessKey, CallError, Caller, Endpoint, Network, acr};
use crate::region::{Region, is_instance_id};
use crate::transport::{Deadline, Route, Transport, is_loopback};

/// The longest that a registry may take for its challenge.
const CHALLENGE: Duration = Duration::from_secs(3);

/// What is known without asking anybody. All of it, and nothing else, decides whom a token is asked
/// of and for which instance.
#[derive(Debug, Hash)]
pub(super) struct Place<'a> {
    host: &'a Host,
    /// Whether the user configured the host by name.
    configured: bool,
    pub(super) region: Option<Region>,
    pub(super) network: Network,
    instance: Instance,
    /// The region of the identity, for want of a better one.
    fallback: Option<Region>,
}

/// What is known of the instance.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Instance {
    /// There is none: the personal edition.
    Personal,
    /// `cri-...`
    Id(String),
    /// The name of an enterprise instance.
    Named(String),
    Unknown,
}

/// Whom to ask for a token, and for which instance; none in the personal edition.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Registry {
    pub(super) endpoint: Endpoint,
    pub(super) instance_id: Option<String>,
}

/// A registry whose region or instance cannot be found out.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LocateError {
    /// Nobody told the region.
    #[error("the region of {0} is not known; set regionId for it in the configuration file")]
    Region(String),
    /// The account has no such instance.
    #[error(
        "this identity's account has no instance for {host} in {region}; if it belongs to another \
         account, set its profile or roleArn in the configuration file, or `anonymous = true` if \
         its images are public"
    )]
    Instance {
        /// The registry.
        host: String,
        /// The region that was searched.
        region: Region,
    },
    /// The search failed.
    #[error(
        "the instance of {host} cannot be looked up, and instanceId is not set for it in the configuration file: {error}"
    )]
    Lookup {
        /// The registry.
        host: String,
        /// What the API said.
        error: CallError,
    },
}

impl<'a> Place<'a> {
    /// What the configuration and the name tell.
    pub(super) fn guess(
        host: &'a Host,
        account: Option<&Account>,
        environment: &'a Environment,
    ) -> Self {
        let variables = Variables::new(environment).ok();
        let acr = host.acr();
        let name = acr.as_ref();
        let in_vpc = account.and_then(|account| account.vpc).unwrap_or_else(|| {
            name.is_some_and(|acr| acr.network == host::Network::Vpc)
                || variables.is_some_and(|variables| variables.is_on("VPC_ENDPOINT_ENABLED"))
        });
        let set_id = account.and_then(|account| account.instance_id.clone());
        let set_region = account.and_then(|account| account.region_id.clone());
        let instance = match (set_id, name) {
            (Some(id), _) if id.is_empty() => Instance::Personal,
            (Some(id), _) => Instance::Id(id),
            (None, Some(acr)) if acr.edition == Edition::Personal => Instance::Personal,
            (None, Some(acr)) => acr.instance.clone().map_or(Instance::Unknown, Instance::Named),
            (None, None) => Instance::Unknown,
        };
        Self {
            host,
            configured: account.is_some(),
            region: set_region.or_else(|| name.map(|acr| acr.region.clone())),
            network: if in_vpc { Network::Vpc } else { Network::Public },
            instance,
            fallback: variables
                .and_then(|variables| variables.get("REGION_ID"))
                .and_then(|text| Region::parse(text).ok()),
        }
    }

    /// Finds out the rest.
    pub(super) fn locate(
        mut self,
        caller: &Caller<'_>,
        key: &AccessKey,
        replaced: Option<&Endpoint>,
    ) -> Result<Registry, LocateError> {
        let is_open = self.region.is_none()
            || matches!(self.instance, Instance::Named(_) | Instance::Unknown);
        // A hostile registry could name somebody's instance, so only a host that the user named is
        // believed.
        if is_open && self.configured {
            self.learn(challenge(caller, self.host));
        }
        let region = self.region.take().or(self.fallback.take());
        let region = region.ok_or_else(|| LocateError::Region(self.host.to_string()))?;
        let endpoint = replaced.cloned().unwrap_or_else(|| Endpoint::cr(&region, self.network));
        let instance_id = match self.instance {
            Instance::Personal => None,
            Instance::Id(id) => Some(id),
            Instance::Named(_) | Instance::Unknown => {
                let found = self.look_up(caller, &endpoint, key);
                let found = found
                    .map_err(|error| LocateError::Lookup { host: self.host.to_string(), error })?;
                let host = self.host.to_string();
                Some(found.ok_or(LocateError::Instance { host, region })?)
            }
        };
        Ok(Registry { endpoint, instance_id })
    }

    /// Takes over what is not known yet.
    fn learn(&mut self, told: Option<Challenge>) {
        let Some(told) = told else { return };
        self.region.get_or_insert(told.region);
        if matches!(self.instance, Instance::Named(_) | Instance::Unknown) {
            self.instance = told.instance_id.map_or(Instance::Personal, Instance::Id);
        }
    }

    /// The instance of that name, or the one that serves this domain.
    fn look_up(
        &self,
        caller: &Caller<'_>,
        endpoint: &Endpoint,
        key: &AccessKey,
    ) -> Result<Option<String>, CallError> {
        let instances = acr::list_instances(caller, endpoint, key)?;
        if let Instance::Named(name) = &self.instance {
            let found = instances.into_iter().find(|instance| instance.instance_name == *name);
            return Ok(found.map(|instance| instance.instance_id));
        }
        for instance in instances {
            let domains = acr::instance_domains(caller, endpoint, key, &instance.instance_id)?;
            if domains.iter().any(|domain| Host::parse(domain).as_ref() == Ok(self.host)) {
                return Ok(Some(instance.instance_id));
            }
        }
        Ok(None)
    }
}

/// What a registry says of itself to everybody who asks without a login.
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    region: Region,
    /// `cri-...`; none in the personal edition.
    instance_id: Option<String>,
}

/// Asks the registry. Over TLS, except on this very machine. A registry that does not tell is no
/// error: there are other ways.
fn challenge(caller: &Caller<'_>, host: &Host) -> Option<Challenge> {
    let name = host.as_str();
    let scheme = if is_loopback(host.name()) { "http" } else { "https" };
    let request = Request::get(format!("{scheme}://{name}/v2/")).body(Vec::new()).ok()?;
    let (transport, deadline): (&Transport, Deadline) = (caller.transport, caller.deadline);
    let answer = transport.send(request, deadline.within(CHALLENGE), Route::Proxied).ok()?;
    let headers = answer.headers().get_all(WWW_AUTHENTICATE);
    headers.iter().filter_map(|header| header.to_str().ok()).find_map(parse_challenge)
}

/// `Bearer realm="...",service="registry.aliyuncs.com:<region>:<...>:cri-..."` in the enterprise
/// edition, with a plain number at the end in the personal one
/// (`goharbor/harbor: src/pkg/reg/adapter/aliacr/adapter.go`).
fn parse_challenge(header: &str) -> Option<Challenge> {
    let (_, rest) = header.split_once("service=\"")?;
    let (service, _) = rest.split_once('"')?;
    let mut parts = service.strip_prefix("registry.aliyuncs.com:")?.split(':');
    let region = Region::parse(parts.next()?).ok()?;
    let rest: Vec<_> = parts.collect();
    let is_instance = |part: &&&str| is_instance_id(part);
    // What begins like an id and is none is no word of Container Registry's.
    if rest.is_empty() || rest.iter().any(|part| part.starts_with("cri-") && !is_instance_id(part))
    {
        return None;
    }
    let instance_id = rest.iter().find(is_instance).map(|id| (*id).to_owned());
    Some(Challenge { region, instance_id })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_tells_region_and_instance() {
        let challenge = |service: &str| {
            parse_challenge(&format!(
                r#"Bearer realm="https://dockerauth.cn-hangzhou.aliyuncs.com/auth",service="{service}""#
            ))
            .map(|told| (told.region.to_string(), told.instance_id))
        };
        let told =
            |region: &str, id: Option<&str>| Some((region.to_owned(), id.map(str::to_owned)));
        assert_eq!(
            challenge("registry.aliyuncs.com:cn-shanghai:china:cri-xxxx"),
            told("cn-shanghai", Some("cri-xxxx"))
        );
        assert_eq!(challenge("registry.aliyuncs.com:cn-hangzhou:26842"), told("cn-hangzhou", None));
        for other in [
            "registry.docker.io",
            "registry.aliyuncs.com",
            "registry.aliyuncs.com::",
            "",
            // What would lead the keys elsewhere.
            "registry.aliyuncs.com:attacker.example/x:china:cri-victim",
            "registry.aliyuncs.com:attacker.example:26842",
            "registry.aliyuncs.com:oss-cn-hangzhou:26842",
            "registry.aliyuncs.com:cn-hangzhou:china:cri-a&RegionId=b",
        ] {
            assert_eq!(challenge(other), None, "{other}");
        }
    }

    fn region(text: &str) -> Option<Region> {
        Region::parse(text).ok()
    }

    fn guess(host: &str, account: Option<&Account>) -> (Option<Region>, Network, Instance) {
        let environment = Environment::empty();
        let host = Host::parse(host).unwrap();
        let place = Place::guess(&host, account, &environment);
        (place.region, place.network, place.instance)
    }

    #[test]
    fn names_tell_edition_region_and_network() {
        assert_eq!(
            guess("registry-vpc.cn-beijing.aliyuncs.com", None),
            (region("cn-beijing"), Network::Vpc, Instance::Personal)
        );
        assert_eq!(
            guess("foo-registry.eu-central-1.cr.aliyuncs.com", None),
            (region("eu-central-1"), Network::Public, Instance::Named("foo".to_owned()))
        );
        assert_eq!(guess("r.example.com", None), (None, Network::Public, Instance::Unknown));
    }

    #[test]
    fn the_configuration_stands_before_the_name() {
        let account = Account {
            instance_id: Some("cri-1".to_owned()),
            region_id: region("cn-shanghai"),
            vpc: Some(false),
            ..Account::default()
        };
        assert_eq!(
            guess("foo-registry-vpc.cn-beijing.cr.aliyuncs.com", Some(&account)),
            (region("cn-shanghai"), Network::Public, Instance::Id("cri-1".to_owned()))
        );
        let personal = Account { instance_id: Some(String::new()), ..Account::default() };
        assert_eq!(guess("r.example.com", Some(&personal)).2, Instance::Personal);
    }
}
