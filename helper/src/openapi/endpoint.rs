//! Which host to call: the vendor's naming rule, and what replaces it.
//!
//! Rule: `aliyun/darabonba-openapi: utils/client.go` (`GetEndpointRules`).

use std::fmt;

use thiserror::Error;

use crate::host::without_login;
use crate::region::Region;

/// Over which network an API is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Network {
    /// Over the internet.
    #[default]
    Public,
    /// From inside a virtual private cloud: another host name, reachable only there.
    Vpc,
}

/// The scheme, host and port of an API.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    scheme: &'static str,
    authority: String,
}

/// An endpoint that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not an endpoint: write a host, `https://host[:port]` or `http://host[:port]`")]
pub struct EndpointError(String);

impl Endpoint {
    /// Reads `host[:port]` or `http(s)://host[:port]`; without a scheme it is `https`.
    ///
    /// # Errors
    /// If there is a path, a query, a user name, a blank, another scheme or nothing at all.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let wrong = || EndpointError(without_login(text).into_owned());
        let trimmed = text.trim();
        let (scheme, authority) = match trimmed.split_once("://") {
            Some(("https", rest)) => ("https", rest),
            Some(("http", rest)) => ("http", rest),
            Some(_) => return Err(wrong()),
            None => ("https", trimmed),
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority).to_ascii_lowercase();
        // The default port is left out of the Host header, which is signed.
        let default_port = if scheme == "https" { ":443" } else { ":80" };
        let authority = authority.strip_suffix(default_port).unwrap_or(&authority);
        let parsed: http::uri::Authority = authority.parse().map_err(|_| wrong())?;
        if parsed.host().is_empty() || authority.contains('@') {
            return Err(wrong());
        }
        Ok(Self { scheme, authority: authority.to_owned() })
    }

    /// Container Registry in a region.
    #[must_use]
    pub fn cr(region: &Region, network: Network) -> Self {
        Self::regional("cr", region.as_str(), network)
    }

    /// STS: in a region where one is named, else the central one. Inside a VPC there is no central
    /// one.
    #[must_use]
    pub fn sts(region: Option<&Region>, network: Network) -> Self {
        match region {
            Some(region) => Self::regional("sts", sts_region(region), network),
            None => Self { scheme: "https", authority: "sts.aliyuncs.com".to_owned() },
        }
    }

    /// `<product>[-vpc].<region>.aliyuncs.com`
    fn regional(product: &str, region: &str, network: Network) -> Self {
        let suffix = match network {
            Network::Public => "",
            Network::Vpc => "-vpc",
        };
        let authority = format!("{product}{suffix}.{region}.aliyuncs.com");
        Self { scheme: "https", authority }
    }

    /// `host[:port]`, the value of the `Host` header.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether it is one of the vendor's that answer only inside a VPC.
    #[must_use]
    pub fn is_vpc_only(&self) -> bool {
        let first = self.authority.split('.').next().unwrap_or_default();
        first.ends_with("-vpc") && self.authority.ends_with(".aliyuncs.com")
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

/// The region whose STS serves a region (`AliyunContainerService/ack-ram-tool`: `endpoint.go`).
fn sts_region(region: &Region) -> &str {
    match region.as_str() {
        "cn-hangzhou-finance" => "cn-hangzhou",
        region => region,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_follow_the_vendors_rule() {
        let region = |text| Region::parse(text).unwrap();
        let cr = |network| Endpoint::cr(&region("cn-hangzhou"), network).to_string();
        assert_eq!(cr(Network::Public), "https://cr.cn-hangzhou.aliyuncs.com");
        assert_eq!(cr(Network::Vpc), "https://cr-vpc.cn-hangzhou.aliyuncs.com");
        let sts = |text: Option<_>, network| {
            Endpoint::sts(text.map(region).as_ref(), network).to_string()
        };
        assert_eq!(sts(None, Network::Public), "https://sts.aliyuncs.com");
        assert_eq!(
            sts(Some("eu-central-1"), Network::Vpc),
            "https://sts-vpc.eu-central-1.aliyuncs.com"
        );
        assert_eq!(
            sts(Some("cn-hangzhou-finance"), Network::Public),
            "https://sts.cn-hangzhou.aliyuncs.com"
        );
    }

    #[test]
    fn an_endpoint_is_a_scheme_a_host_and_a_port() {
        let parse = |text| Endpoint::parse(text).map(|endpoint| endpoint.to_string());
        assert_eq!(parse(" CR.example.com ").as_deref(), Ok("https://cr.example.com"));
        assert_eq!(parse("https://cr.example.com:443").as_deref(), Ok("https://cr.example.com"));
        assert_eq!(parse("http://[::1]:8080").as_deref(), Ok("http://[::1]:8080"));
        for wrong in ["", "https://", "ftp://x", "x/y", "https://u:p@x", "a b", "https://x?y"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        let error = parse("https://key:hunter2@cr.example.com").unwrap_err().to_string();
        assert!(error.contains("`https://***@cr.example.com`"), "{error}");
    }
}
