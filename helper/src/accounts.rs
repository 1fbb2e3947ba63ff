//! The configuration file: which registry belongs to which instance, region and identity.
//!
//! ```toml
//! [[registry]]
//! domains = ["registry.example.com", "*.cr.example.com"]
//! instanceId = "cri-0123456789abcdef"
//! regionId = "cn-hangzhou"
//! profile = "production"
//! ```
//!
//! The words are those of the vendor's own component for Kubernetes (`acr-registry-info`). It knows
//! names; it must not know what is done with them.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::Deserialize;
use thiserror::Error;

use crate::environment::Environment;
use crate::host::{Host, without_login};
use crate::region::{Region, is_instance_id};

/// The variable that names another file than `config.toml` in our configuration directory.
pub const CONFIG_VARIABLE: &str = "DOCKER_CREDENTIAL_ALIYUN_CONFIG";

/// All registries that the user configured by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accounts {
    #[serde(default, rename = "registry")]
    accounts: Vec<Account>,
}

/// One `[[registry]]`: some hosts and what is known about them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Account {
    /// The hosts: `host`, `host:port`, or `*.domain` for all hosts below a domain.
    pub domains: Vec<String>,
    /// `cri-...`, or the empty string for the personal edition. Without it, the host name or the
    /// registry itself tells.
    pub instance_id: Option<String>,
    /// The region of the instance. Without it, the host name or the registry itself tells.
    pub region_id: Option<Region>,
    /// The profile of `~/.aliyun/config.json` or `~/.alibabacloud/credentials` whose identity
    /// counts for these hosts. Without it, the machine's identity does.
    pub profile: Option<String>,
    /// A role that the identity takes for these hosts.
    pub role_arn: Option<String>,
    /// The name of that role's session.
    pub role_session_name: Option<String>,
    /// What the role's owner asks third parties to say.
    pub external_id: Option<String>,
    /// Whether to call the endpoints inside the VPC. Without it, the host name tells.
    pub vpc: Option<bool>,
    /// Container Registry's endpoint, in a private cloud.
    pub endpoint: Option<String>,
    /// STS's endpoint, in a private cloud.
    pub sts_endpoint: Option<String>,
    /// No login at all for these hosts: they are somebody else's and public.
    #[serde(default)]
    pub anonymous: bool,
}

/// A configuration file that cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AccountsError {
    /// It cannot be read.
    #[error("{} cannot be read: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        error: io::Error,
    },
    /// It says something that is not known.
    #[error("{} is not valid: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where and what.
        reason: String,
    },
}

impl Accounts {
    /// Reads the file; without one there are no accounts.
    ///
    /// # Errors
    /// If it cannot be read or understood, or if a variable names one that does not exist.
    pub fn read(environment: &Environment) -> Result<Self, AccountsError> {
        let named = environment.path(CONFIG_VARIABLE);
        let is_named = named.is_some();
        let Some(path) = named.or_else(|| default_path(environment)) else {
            return Ok(Self::default());
        };
        match fs::read_to_string(&path) {
            Ok(text) => {
                Self::parse(&text).map_err(|reason| AccountsError::Invalid { path, reason })
            }
            Err(error) if !is_named && is_absent(&error) => Ok(Self::default()),
            Err(error) => Err(AccountsError::Unreadable { path, error }),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut accounts: Self = toml::from_str(text).map_err(|error| one_line(text, &error))?;
        let mut seen = Vec::new();
        for account in &mut accounts.accounts {
            if account.domains.is_empty() {
                return Err("a [[registry]] has no domains".to_owned());
            }
            if let Some(id) = account.instance_id.as_deref().filter(|id| !id.is_empty())
                && !is_instance_id(id)
            {
                return Err(format!("instanceId {id:?} is not an id such as cri-0123456789abcdef"));
            }
            for domain in &mut account.domains {
                *domain = normal_form(domain)?;
                if seen.contains(domain) {
                    return Err(format!("`{domain}` stands in two [[registry]]"));
                }
                seen.push(domain.clone());
            }
        }
        Ok(accounts)
    }

    /// The account of a host: the one that names it, else the one with the longest matching
    /// pattern.
    ///
    /// Below the vendor's own domain a pattern is for registries only: other products have hosts
    /// there that belong to their users, such as OSS's buckets.
    #[must_use]
    pub fn find(&self, host: &Host) -> Option<&Account> {
        let is_strangers = host.name().ends_with(".aliyuncs.com") && host.acr().is_none();
        let matches = |account: &Account| {
            let domains = account.domains.iter();
            let domains = domains.filter(|domain| !(is_strangers && domain.starts_with("*.")));
            domains.filter_map(|domain| closeness(domain, host.as_str())).max()
        };
        let ranked = self.accounts.iter().filter_map(|account| Some((matches(account)?, account)));
        ranked.max_by_key(|(closeness, _)| *closeness).map(|(_, account)| account)
    }

    /// The hosts that are named in full.
    pub fn hosts(&self) -> impl Iterator<Item = (Host, &Account)> {
        self.accounts.iter().flat_map(|account| {
            let named = account.domains.iter().filter(|domain| !domain.starts_with("*."));
            named.filter_map(move |domain| Some((Host::parse(domain).ok()?, account)))
        })
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// How well a domain of the file fits a host: not at all, by a pattern, or exactly.
fn closeness(domain: &str, host: &str) -> Option<usize> {
    match domain.strip_prefix('*') {
        Some(suffix) => {
            host.strip_suffix(suffix).filter(|rest| !rest.is_empty()).map(|_| suffix.len())
        }
        None => (domain == host).then_some(usize::MAX),
    }
}

/// A domain of the file as hosts are written: `host`, `host:port` or `*.domain`.
fn normal_form(domain: &str) -> Result<String, String> {
    let (star, name) = match domain.trim().strip_prefix("*.") {
        Some(name) => ("*.", name),
        None => ("", domain.trim()),
    };
    match Host::parse(name) {
        // `*.com` would hand a token to hosts that nobody can have meant.
        Ok(_) if !star.is_empty() && is_public_suffix(name) => {
            Err(format!("the pattern `{}` covers too much", without_login(domain)))
        }
        Ok(host) => Ok(format!("{star}{host}")),
        Err(error) => Err(format!("in domains: {error}")),
    }
}

/// Whether everybody can have a name below this one: a top-level domain, or what countries have
/// instead (`com.cn`, `co.uk`). The full list (publicsuffix.org) has thousands and changes weekly;
/// these are the words that countries use.
fn is_public_suffix(name: &str) -> bool {
    const SECOND: [&str; 11] =
        ["com", "co", "net", "org", "gov", "edu", "ac", "or", "ne", "go", "gob"];
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    match name.split_once('.') {
        None => true,
        Some((second, country)) => country.len() == 2 && SECOND.contains(&second),
    }
}

/// The parser's message with the line, without the source text around it.
fn one_line(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().replace('\n', " ");
    match error.span() {
        Some(span) => {
            let line = text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1;
            format!("line {line}: {message}")
        }
        None => message,
    }
}

impl Account {
    /// Whether the file says that this is the personal edition.
    #[must_use]
    pub fn is_personal(&self) -> bool {
        self.instance_id.as_deref() == Some("")
    }
}

/// Where the file is unless [`CONFIG_VARIABLE`] says otherwise.
#[must_use]
pub fn default_path(environment: &Environment) -> Option<PathBuf> {
    Some(environment.config_dir()?.join("config.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
[[registry]]
domains = ["Registry.Example.com", "*.cr.example.com"]
instanceId = "cri-a"
regionId = "cn-hangzhou"
profile = "production"

[[registry]]
domains = ["one.cr.example.com", "*.b.cr.example.com", "127.0.0.1:5000"]
instanceId = ""
regionId = "cn-shanghai"
"#;

    fn region(host: &str) -> Option<String> {
        let accounts = Accounts::parse(FILE).unwrap();
        Some(accounts.find(&Host::parse(host).unwrap())?.region_id.clone()?.to_string())
    }

    #[test]
    fn the_closest_domain_decides() {
        let (a, b) = (Some("cn-hangzhou".to_owned()), Some("cn-shanghai".to_owned()));
        assert_eq!(region("registry.example.com"), a);
        assert_eq!(region("two.cr.example.com"), a);
        assert_eq!(region("one.cr.example.com"), b);
        assert_eq!(region("x.b.cr.example.com"), b);
        assert_eq!(region("127.0.0.1:5000"), b);
    }

    #[test]
    fn a_look_alike_does_not_match() {
        for host in [
            "cr.example.com",
            "evilcr.example.com",
            "registry.example.com.evil.io",
            "127.0.0.1:5001",
        ] {
            assert_eq!(region(host), None, "{host}");
        }
    }

    #[test]
    fn a_pattern_over_the_vendors_domain_is_for_its_registries() {
        let text = "[[registry]]\ndomains = [\"*.aliyuncs.com\", \"registry.ack.aliyuncs.com\"]";
        let accounts = Accounts::parse(text).unwrap();
        let is_found = |host: &str| accounts.find(&Host::parse(host).unwrap()).is_some();
        assert!(is_found("registry.cn-hangzhou.aliyuncs.com"));
        assert!(is_found("acme-registry.cn-hangzhou.cr.aliyuncs.com"));
        assert!(is_found("registry.ack.aliyuncs.com"));
        assert!(!is_found("bucket.oss-cn-hangzhou.aliyuncs.com"));
    }

    #[test]
    fn an_empty_instance_is_the_personal_edition() {
        let accounts = Accounts::parse(FILE).unwrap();
        let personal: Vec<_> = accounts.accounts.iter().map(Account::is_personal).collect();
        assert_eq!(personal, [false, true]);
    }

    #[test]
    fn a_file_that_cannot_be_meant_is_refused_with_its_line() {
        for (text, word) in [
            ("[[registry]]\ndomains = [\"a.io\"]\ninstanceID = \"x\"", "line 3"),
            ("[[registry]]\nregionId = \"cn-hangzhou\"", "domains"),
            ("[[registry]]\ndomains = [\"a.io\"]\nregionId = \"a.example/x\"", "line 3: "),
            ("[[registry]]\ndomains = [\"a.io\"]\ninstanceId = \"acme\"", "cri-0123456789abcdef"),
            ("[[registry]]\ndomains = []", "no domains"),
            ("[[registry]]\ndomains = [\"a b\"]", "a b"),
            ("[[registry]]\ndomains = [\"*.com\"]", "too much"),
            ("[[registry]]\ndomains = [\"*.com.cn\"]", "too much"),
            ("[[registry]]\ndomains = [\"*.CO.uk\"]", "too much"),
            ("[[registry]]\ndomains = [\"a.io\", \"https://A.io/\"]", "two"),
            ("[[registy]]", "registy"),
        ] {
            let error = Accounts::parse(text).unwrap_err();
            assert!(error.contains(word) && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn no_file_is_no_accounts_unless_it_was_named() {
        assert_eq!(Accounts::read(&Environment::empty()).unwrap(), Accounts::default());
        let home = Environment::empty().with_home("/nonexistent");
        assert_eq!(Accounts::read(&home).unwrap(), Accounts::default());
        let named = home.with(CONFIG_VARIABLE, "/nonexistent/config.toml");
        assert!(
            Accounts::read(&named).unwrap_err().to_string().contains("/nonexistent/config.toml")
        );
    }
}
