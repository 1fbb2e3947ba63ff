//! Registry hosts: one name for each, however a client spells it, and what the name of an Alibaba
//! Cloud host says about itself.
//!
//! Pure. It knows names; it must not know networks, files or credentials.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::region::Region;

/// The one name under which Docker Hub's entry is kept.
const HUB: &str = "index.docker.io";

/// A registry, as `host` or `host:port`, in one normal form.
///
/// Clients spell the same registry in many ways: `HOST`, `https://host/`, `https://host/v2/`,
/// `host:443`, `host/namespace/repository`. All of them are the same entry. Ports other than the
/// scheme's own are kept: they are other registries.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host {
    key: String,
}

/// Why a text does not name a registry.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HostError {
    /// Nothing, or only blanks.
    #[error("no registry host was given")]
    Empty,
    /// Characters that are in no address: NUL, control characters.
    #[error("the registry address contains control characters")]
    Control,
    /// Not of the form `[scheme://]host[:port][/path]`.
    #[error("{0:?} is not a registry address; write it as host or host:port")]
    Malformed(String),
}

impl Host {
    /// Reads what a client or a person wrote.
    ///
    /// # Errors
    /// The text names no registry.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        if text.chars().any(char::is_control) {
            return Err(HostError::Control);
        }
        parse_key(text)
            .map(|key| Self { key })
            .ok_or_else(|| HostError::Malformed(without_login(text).chars().take(200).collect()))
    }

    /// The normal form: lower case, without scheme, path or default port.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.key
    }

    /// The normal form without the port.
    #[must_use]
    pub fn name(&self) -> &str {
        split_port(&self.key).map_or(&self.key, |(name, _)| name)
    }

    /// The address that clients look for in a list of entries: the normal form, except for Docker
    /// Hub, which they know by the address of its first version.
    #[must_use]
    pub fn server_url(&self) -> String {
        match self.key.strip_prefix(HUB) {
            Some("") => format!("https://{HUB}/v1/"),
            Some(path) => format!("https://{HUB}{path}"),
            None => self.key.clone(),
        }
    }

    /// What the name says if it is one of Alibaba Cloud Container Registry's own.
    #[must_use]
    pub fn acr(&self) -> Option<Acr> {
        Acr::parse(&self.key)
    }
}

/// An address for an error: without the user name and the password that may stand before the host.
/// Whatever comes before the last `@` may belong to them, if the address is written wrongly enough.
#[must_use]
pub fn without_login(address: &str) -> Cow<'_, str> {
    let Some((_, rest)) = address.rsplit_once('@') else { return address.into() };
    match address.split_once("://") {
        Some((scheme, _)) if !scheme.contains('@') => format!("{scheme}://***@{rest}").into(),
        _ => format!("***@{rest}").into(),
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        Self::parse(text)
    }
}

fn parse_key(text: &str) -> Option<String> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
        None => (None, text.strip_prefix("//").unwrap_or(text)),
    };
    let default_port = match scheme.as_deref() {
        None | Some("https") => 443,
        Some("http") => 80,
        Some(_) => return None,
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (name, port) = split_port(authority)?;
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    if !is_name(&name) {
        return None;
    }
    let port = port.filter(|port| *port != default_port);
    Some(match (name.as_str(), port) {
        (HUB | "docker.io", None) => HUB.to_owned() + hub_token(path),
        (_, None) => name,
        (_, Some(port)) => format!("{name}:{port}"),
    })
}

/// Docker keeps the Hub's OAuth tokens under paths of their own (docker/cli:
/// cli/internal/oauth/manager/manager.go): they are other secrets, not the Hub's password.
fn hub_token(path: &str) -> &str {
    match path {
        "/v1/access-token" | "/v1/refresh-token" => path,
        _ => "",
    }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let name_end = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (name, port) = authority.split_at(name_end);
    let Some(digits) = port.strip_prefix(':') else {
        return port.is_empty().then_some((name, None));
    };
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let port = digits.parse().ok().filter(|port| *port != 0)?;
    Some((name, Some(port)))
}

/// Whether this is a DNS name, an IPv4 address or a bracketed IPv6 address. An underscore is in no
/// host name of the Internet, but in many of Docker's own networks.
fn is_name(name: &str) -> bool {
    if let Some(address) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// What the host name of an Alibaba Cloud Container Registry says.
///
/// Patterns: Alibaba Cloud's documentation of Container Registry ("Configure access credentials",
/// "Instance-independent domain names of Personal Edition"), and
/// goharbor/harbor: src/pkg/reg/adapter/aliacr/adapter.go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acr {
    /// Which product.
    pub edition: Edition,
    /// The region's id, such as `cn-hangzhou`.
    pub region: Region,
    /// From where the host can be reached.
    pub network: Network,
    /// The instance: the name of an Enterprise instance, or the `crpi-...` id of a Personal one.
    /// Older Personal hosts are shared by a whole region and name none.
    pub instance: Option<String>,
    /// What is served.
    pub service: Service,
}

/// The two products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edition {
    /// Container Registry Personal Edition.
    Personal,
    /// Container Registry Enterprise Edition.
    Enterprise,
}

/// From where a host can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The Internet.
    Public,
    /// Virtual private clouds of the region.
    Vpc,
    /// The region's classic network.
    Classic,
}

/// What a host serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Images.
    Images,
    /// Images, peer to peer within a cluster (port 65001).
    PeerToPeer,
    /// Helm charts.
    Charts,
}

impl Acr {
    /// Reads a normalised `host[:port]`.
    fn parse(key: &str) -> Option<Self> {
        let (name, port) = split_port(key)?;
        let labels: Vec<&str> = name.strip_suffix(".aliyuncs.com")?.split('.').collect();
        let acr = match labels[..] {
            [first, region] => Self::shared(first, region),
            [first, region, "cr"] => Self::enterprise(first, region, false),
            [first, "distributed", region, "cr"] => Self::enterprise(first, region, true),
            [first, region, "personal", "cr"] => Self::personal(first, region),
            _ => None,
        }?;
        let port_fits = port.is_none_or(|port| acr.service == Service::PeerToPeer && port == 65001);
        port_fits.then_some(acr)
    }

    /// `registry[-intl][-vpc|-internal].<region>.aliyuncs.com`
    fn shared(first: &str, region: &str) -> Option<Self> {
        let rest = first.strip_prefix("registry")?;
        let network = match rest.strip_prefix("-intl").unwrap_or(rest) {
            "" => Network::Public,
            "-vpc" => Network::Vpc,
            "-internal" => Network::Classic,
            _ => return None,
        };
        Some(Self {
            edition: Edition::Personal,
            region: Region::parse(region).ok()?,
            network,
            instance: None,
            service: Service::Images,
        })
    }

    /// `crpi-<id>[-vpc].<region>.personal.cr.aliyuncs.com`
    fn personal(first: &str, region: &str) -> Option<Self> {
        let (instance, network) = split_vpc(first);
        let id = instance.strip_prefix("crpi-")?;
        let region = Region::parse(region).ok()?;
        is_instance_name(id).then(|| Self {
            edition: Edition::Personal,
            region,
            network,
            instance: Some(instance.to_owned()),
            service: Service::Images,
        })
    }

    /// `<name>-{registry|chart}[-vpc][.distributed].<region>.cr.aliyuncs.com`. The name may itself
    /// end in `-registry`: the last one is the host's.
    fn enterprise(first: &str, region: &str, distributed: bool) -> Option<Self> {
        let (rest, network) = split_vpc(first);
        let (instance, service) = match (rest.strip_suffix("-registry"), distributed) {
            (Some(name), false) => (name, Service::Images),
            (Some(name), true) => (name, Service::PeerToPeer),
            (None, false) => (rest.strip_suffix("-chart")?, Service::Charts),
            (None, true) => return None,
        };
        let region = Region::parse(region).ok()?;
        is_instance_name(instance).then(|| Self {
            edition: Edition::Enterprise,
            region,
            network,
            instance: Some(instance.to_owned()),
            service,
        })
    }
}

fn split_vpc(label: &str) -> (&str, Network) {
    match label.strip_suffix("-vpc") {
        Some(rest) => (rest, Network::Vpc),
        None => (label, Network::Public),
    }
}

/// An instance's name: 3 to 30 of `a-z`, `0-9` and `-`, with a letter or digit at both ends.
fn is_instance_name(text: &str) -> bool {
    (3..=30).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(text: &str) -> String {
        Host::parse(text).map_or_else(|error| format!("error: {error}"), |host| host.key)
    }

    #[test]
    fn every_spelling_of_a_registry_is_one_key() {
        let spellings = [
            "r.example",
            " r.example\n",
            "R.Example",
            "r.example.",
            "r.example:443",
            "//r.example",
            "https://r.example",
            "HTTPS://r.example:443/",
            "http://r.example",
            "http://r.example:80",
            "https://r.example/v1/",
            "https://r.example/v2/",
            "r.example/namespace/repository",
            "https://r.example?query",
            "https://r.example#fragment",
        ];
        for spelling in spellings {
            assert_eq!(key(spelling), "r.example", "{spelling:?}");
        }
    }

    #[test]
    fn other_ports_are_other_registries() {
        assert_eq!(key("r.example:5000"), "r.example:5000");
        assert_eq!(key("https://r.example:80"), "r.example:80");
        assert_eq!(key("http://r.example:443/v2/"), "r.example:443");
        assert_eq!(key("localhost:05000"), "localhost:5000");
        assert_eq!(key("[::1]:5000"), "[::1]:5000");
        assert_eq!(key("my_registry:5000"), "my_registry:5000");
    }

    #[test]
    fn a_name_is_a_host_without_its_port() {
        let name = |text: &str| Host::parse(text).unwrap().name().to_owned();
        assert_eq!(name("r.example:5000"), "r.example");
        assert_eq!(name("[::1]"), "[::1]");
        assert_eq!(name("[::1]:5000"), "[::1]");
        assert_eq!(name("r.example"), "r.example");
    }

    #[test]
    fn docker_hub_is_one_entry_and_its_tokens_are_others() {
        for spelling in ["docker.io", "index.docker.io", "https://index.docker.io/v1/"] {
            assert_eq!(key(spelling), "index.docker.io");
            assert_eq!(Host::parse(spelling).unwrap().server_url(), "https://index.docker.io/v1/");
        }
        let token = "https://index.docker.io/v1/refresh-token";
        assert_eq!(key(token), "index.docker.io/v1/refresh-token");
        assert_eq!(Host::parse(token).unwrap().server_url(), token);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        assert_eq!(Host::parse(" \r\n"), Err(HostError::Empty));
        assert_eq!(Host::parse("a\0b"), Err(HostError::Control));
        let malformed = [
            "a b",
            "a..b",
            ":5000",
            "a:0",
            "a:99999",
            "a:5000:1",
            "a:x",
            "a:+80",
            "r.example\\.evil",
            "https://",
            "ftp://r.example",
            "nerdctl-experimental://r.example",
            "[::1",
            "[nonsense]",
            "-a.example",
            "r.ex%61mple",
            "r\u{e9}gistre.example",
        ];
        for text in malformed {
            assert_eq!(Host::parse(text), Err(HostError::Malformed(text.into())));
        }
    }

    #[test]
    fn no_error_repeats_a_login_in_an_address() {
        for (text, shown) in [
            ("user@r.example", "***@r.example"),
            ("https://ci:hunter2@r.example/", "https://***@r.example/"),
            ("ci:hunter2@r.example:5000", "***@r.example:5000"),
            ("https://ci:hunter/2@x@r.example", "https://***@r.example"),
            ("ci@1:hunter2://@r.example", "***@r.example"),
        ] {
            assert_eq!(Host::parse(text), Err(HostError::Malformed(shown.into())), "{text}");
        }
        assert_eq!(without_login("https://r.example/v2/"), "https://r.example/v2/");
    }

    #[test]
    fn the_normal_form_is_a_fixed_point() {
        for text in ["r.example", "r.example:5000", "https://index.docker.io/v1/access-token"] {
            let host = Host::parse(text).unwrap();
            assert_eq!(Host::parse(host.as_str()), Ok(host.clone()));
            assert_eq!(Host::parse(&host.server_url()), Ok(host));
        }
    }

    fn acr(text: &str) -> Option<String> {
        Host::parse(text).unwrap().acr().map(|acr| {
            let Acr { edition, region, network, instance, service } = acr;
            format!(
                "{edition:?} {region} {network:?} {} {service:?}",
                instance.as_deref().unwrap_or("-")
            )
        })
    }

    #[test]
    fn acr_hosts_say_what_they_are() {
        let table = [
            ("registry.cn-hangzhou.aliyuncs.com", "Personal cn-hangzhou Public - Images"),
            ("registry-vpc.cn-beijing.aliyuncs.com", "Personal cn-beijing Vpc - Images"),
            ("registry-internal.cn-beijing.aliyuncs.com", "Personal cn-beijing Classic - Images"),
            (
                "registry-intl.ap-southeast-1.aliyuncs.com",
                "Personal ap-southeast-1 Public - Images",
            ),
            ("registry-intl-vpc.us-west-1.aliyuncs.com", "Personal us-west-1 Vpc - Images"),
            (
                "registry-intl-internal.cn-hongkong.aliyuncs.com",
                "Personal cn-hongkong Classic - Images",
            ),
            (
                "crpi-1a2b3c4d5e.cn-shanghai.personal.cr.aliyuncs.com",
                "Personal cn-shanghai Public crpi-1a2b3c4d5e Images",
            ),
            (
                "crpi-1a2b3c4d5e-vpc.cn-shanghai.personal.cr.aliyuncs.com",
                "Personal cn-shanghai Vpc crpi-1a2b3c4d5e Images",
            ),
            (
                "acme-registry.cn-shenzhen.cr.aliyuncs.com",
                "Enterprise cn-shenzhen Public acme Images",
            ),
            (
                "acme-registry-vpc.cn-shenzhen.cr.aliyuncs.com",
                "Enterprise cn-shenzhen Vpc acme Images",
            ),
            (
                "foo-registry-registry-vpc.eu-central-1.cr.aliyuncs.com",
                "Enterprise eu-central-1 Vpc foo-registry Images",
            ),
            (
                "acme-registry-vpc.distributed.cn-shenzhen.cr.aliyuncs.com:65001",
                "Enterprise cn-shenzhen Vpc acme PeerToPeer",
            ),
            ("acme-chart.cn-shenzhen.cr.aliyuncs.com", "Enterprise cn-shenzhen Public acme Charts"),
            (
                "acme-registry.cn-shanghai-finance-1.cr.aliyuncs.com",
                "Enterprise cn-shanghai-finance-1 Public acme Images",
            ),
            ("registry.cn-north-2-gov-1.aliyuncs.com", "Personal cn-north-2-gov-1 Public - Images"),
        ];
        for (host, expected) in table {
            assert_eq!(acr(host).as_deref(), Some(expected), "{host}");
            assert_eq!(
                acr(&format!("https://{}/v2/", host.to_uppercase())).as_deref(),
                Some(expected)
            );
        }
    }

    #[test]
    fn look_alikes_are_strangers() {
        let strangers = [
            "registry.aliyuncs.com",
            "registry.cn-hangzhou.aliyuncs.com.attacker.example",
            "registry.cn-hangzhou.xaliyuncs.com",
            "registry.cn-hangzhou-aliyuncs.com",
            "xregistry.cn-hangzhou.aliyuncs.com",
            "registry.evil.cn-hangzhou.aliyuncs.com",
            "registry.oss-cn-hangzhou.evil.aliyuncs.com",
            // What OSS and the log service give to whoever asks first.
            "registry.oss-cn-hangzhou.aliyuncs.com",
            "registry-vpc.oss-cn-hangzhou.aliyuncs.com",
            "registry-vpc.oss-cn-hangzhou-internal.aliyuncs.com",
            "registry-intl-vpc.oss-accelerate.aliyuncs.com",
            "registry.oss-accelerate-overseas.aliyuncs.com",
            "registry-internal.s3-cn-hangzhou.aliyuncs.com",
            "registry.log-cn-hangzhou.aliyuncs.com",
            "registry.cn-hangzhou-internal.aliyuncs.com",
            "acme-registry.oss-cn-hangzhou.cr.aliyuncs.com",
            "crpi-1a2b3c4d5e.oss-cn-hangzhou.personal.cr.aliyuncs.com",
            "registry.cn-hangzhou.aliyuncs.com:8443",
            "mybucket.oss-cn-hangzhou.aliyuncs.com",
            "registry-cn-hangzhou.ack.aliyuncs.com",
            "registry-cn-hangzhou-vpc.ack.aliyuncs.com",
            "evilcr.aliyuncs.com.attacker.tld",
            "cr.cn-hangzhou.aliyuncs.com",
            "acme.cn-shenzhen.cr.aliyuncs.com",
            "a--registry.cn-shenzhen.cr.aliyuncs.com",
            "ab-registry.cn-shenzhen.cr.aliyuncs.com",
            "acme-registry.cn-shenzhen.evilcr.aliyuncs.com",
            "acme-registry.shenzhen.cr.aliyuncs.com",
            "acme-registry-vpc.distributed.cn-shenzhen.cr.aliyuncs.com:65002",
            "crpi-ab.cn-shanghai.personal.cr.aliyuncs.com",
            "acme.cn-shanghai.personal.cr.aliyuncs.com",
        ];
        for host in strangers {
            assert_eq!(acr(host), None, "{host}");
        }
    }

    proptest! {
        /// Whatever a label is called, and whatever follows it: only regions come after it.
        #[test]
        fn no_host_of_another_product_is_a_registry(
            label in "(registry|registry-intl|[a-z0-9]{3,9}-registry|crpi-[a-z0-9]{6})(-vpc|-internal)?",
            product in "(oss|log|s3|fc|ecs|mns|ots|rds|sls|nas)(-[a-z0-9]{1,9}){1,3}",
            rest in "(\\.cr|\\.personal\\.cr)?",
        ) {
            prop_assert_eq!(acr(&format!("{label}.{product}{rest}.aliyuncs.com")), None);
        }
    }
}
