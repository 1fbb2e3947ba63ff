//! Which identity this machine has, in the vendor's order, and how each gives its keys.
//!
//! Choosing reads variables and files only, so that an answer from the cache needs no network.
//! Obtaining asks whoever must be asked.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::cloud_sso::CloudSso;
use super::oidc::OidcToken;
use super::profile::ProfileFile;
use super::variables::{self, Variables};
use super::{IdentityError, Problem, ecs, external, fetch, ini, profile};
use crate::environment::Environment;
use crate::openapi::sts::{self, Role};
use crate::openapi::{AccessKey, Caller, Endpoint, Network};
use crate::region::Region;

/// Where the firmware tells what machine this is.
const PRODUCT_NAME: &str = "/sys/class/dmi/id/product_name";

/// An identity, as it is configured.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Identity {
    /// Keys that are at hand, with or without a security token.
    AccessKey(AccessKey),
    /// A role that another identity takes.
    Role { base: Box<Identity>, assume: Assume },
    /// A role that an OIDC token takes.
    OidcRole { token: OidcToken, provider_arn: String, assume: Assume },
    /// The role of the ECS instance; whether somebody asked for it, or it is only likely.
    Instance { role: Option<String>, asked: bool },
    /// An address that gives keys.
    Uri(String),
    /// A command that prints a profile.
    External { arguments: Vec<String>, sts: StsPlace },
    /// A login through the vendor's single sign-on.
    CloudSso(CloudSso),
}

/// A role and where to ask for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Assume {
    pub(super) role: Role,
    pub(super) sts: StsPlace,
}

/// Where STS is asked, as far as somebody said so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct StsPlace {
    pub(super) endpoint: Option<Endpoint>,
    pub(super) region: Option<Region>,
    pub(super) vpc: bool,
}

/// An identity and where it stands.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) identity: Identity,
    pub(super) origin: String,
}

/// What obtaining keys takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Obtain<'a> {
    pub(super) caller: Caller<'a>,
    pub(super) environment: &'a Environment,
    /// Where instance metadata is.
    pub(super) metadata: &'a str,
    /// The region and network of the registry: from inside a VPC only its own STS can be reached.
    pub(super) registry: (Option<&'a Region>, Network),
}

/// The identity that the environment and the vendor's files name; `None` if there is none.
///
/// The order is that of `aliyun/credentials-go: default.go`, except that what is named explicitly
/// comes before an instance role that is only likely: access key, OIDC, profile, credentials file,
/// instance role by name, credentials URI, instance role by firmware. With a profile asked for,
/// only that one counts. STS is asked at the endpoint given, if one is.
pub(super) fn select(
    environment: &Environment,
    profile: Option<&str>,
    sts_endpoint: Option<Endpoint>,
) -> Result<Option<Found>, IdentityError> {
    let variables = Variables::new(environment)?;
    let sts = sts_place(environment, sts_endpoint)?;
    if let Some(name) = profile {
        return named_profile(variables, &sts, name).map(Some);
    }
    let from = |origin: &str, identity| Ok(Some(Found { identity, origin: origin.to_owned() }));
    if let Some(identity) = variables::access_key(variables, &sts)? {
        return from("ALIBABA_CLOUD_ACCESS_KEY_ID", identity);
    }
    if let Some(identity) = variables::oidc(variables, &sts)? {
        return from("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", identity);
    }
    if let Some(name) = variables.get("PROFILE") {
        return named_profile(variables, &sts, name).map(Some);
    }
    if let Some(found) = current_profile(variables, &sts)? {
        return Ok(Some(found));
    }
    if let Some(found) = credentials_file(variables, &sts, "default")? {
        return Ok(Some(found));
    }
    let metadata = !variables.is_on("ECS_METADATA_DISABLED");
    if let Some(role) = variables.get("ECS_METADATA").filter(|_| metadata) {
        let role = Some(role.to_owned());
        return from("ALIBABA_CLOUD_ECS_METADATA", Identity::Instance { role, asked: true });
    }
    if let Some(uri) = variables.get("CREDENTIALS_URI") {
        return from("ALIBABA_CLOUD_CREDENTIALS_URI", Identity::Uri(uri.to_owned()));
    }
    let on_ecs = || fs::read_to_string(PRODUCT_NAME).is_ok_and(|name| ecs::is_instance(&name));
    if metadata && on_ecs() {
        let role = Identity::Instance { role: None, asked: false };
        return from("the role of this ECS instance", role);
    }
    Ok(None)
}

/// Where STS is asked, as the variables say; an endpoint given here stands before theirs.
pub(super) fn sts_place(
    environment: &Environment,
    endpoint: Option<Endpoint>,
) -> Result<StsPlace, IdentityError> {
    let place = Variables::new(environment)?.sts_place()?;
    Ok(StsPlace { endpoint: endpoint.or(place.endpoint), ..place })
}

/// A profile that somebody asked for by name: it must be somewhere.
fn named_profile(
    variables: Variables<'_>,
    sts: &StsPlace,
    name: &str,
) -> Result<Found, IdentityError> {
    let file = profile_file(variables)?;
    if let Some(file) = &file
        && let Some(identity) = file.identity(name, may_ask_others(variables), sts)?
    {
        return Ok(Found { identity, origin: file.origin(name) });
    }
    if let Some(found) = credentials_file(variables, sts, name)? {
        return Ok(found);
    }
    let passed_over = ignores_profiles(variables);
    let profiles = variables.profile_path().filter(|_| !passed_over);
    let places: Vec<_> = [profiles, variables.credentials_path()]
        .iter()
        .flatten()
        .map(|(path, _)| path.display().to_string())
        .collect();
    let mut places = if places.is_empty() {
        "no file, as there is no home".to_owned()
    } else {
        places.join(" and ")
    };
    if passed_over {
        places += ", and passed the profiles of the command line over, as \
                   ALIBABA_CLOUD_CLI_PROFILE_DISABLED or ALIBABA_CLOUD_IGNORE_PROFILE says";
    }
    let problem = Problem::NoProfile { name: name.to_owned(), places };
    Err(IdentityError::new(format!("profile `{name}`"), problem))
}

/// The profile that the vendor's command line uses now.
fn current_profile(
    variables: Variables<'_>,
    sts: &StsPlace,
) -> Result<Option<Found>, IdentityError> {
    let Some(file) = profile_file(variables)? else { return Ok(None) };
    let Some(name) = file.current() else { return Ok(None) };
    let identity = file.identity(name, may_ask_others(variables), sts)?;
    Ok(identity.map(|identity| Found { identity, origin: file.origin(name) }))
}

fn ignores_profiles(variables: Variables<'_>) -> bool {
    variables.is_on("CLI_PROFILE_DISABLED") || variables.is_on("IGNORE_PROFILE")
}

fn profile_file(variables: Variables<'_>) -> Result<Option<ProfileFile>, IdentityError> {
    if ignores_profiles(variables) {
        return Ok(None);
    }
    let Some((path, named)) = variables.profile_path() else { return Ok(None) };
    let file = ProfileFile::read(&path).and_then(|file| match file {
        None if named => Err(Problem::NoFile(path.clone())),
        file => Ok(file),
    });
    file.map_err(|problem| IdentityError::new(path.display().to_string(), problem))
}

/// A section of the credentials file.
fn credentials_file(
    variables: Variables<'_>,
    sts: &StsPlace,
    name: &str,
) -> Result<Option<Found>, IdentityError> {
    let Some((path, named)) = variables.credentials_path() else { return Ok(None) };
    let origin = format!("section `{name}` of {}", path.display());
    let identity = match ini::read(&path, name) {
        Ok(Some(section)) => ini::identity(&section, sts).map(Some),
        Ok(None) if named && !path.exists() => Err(Problem::NoFile(path)),
        Ok(None) => Ok(None),
        Err(problem) => Err(problem),
    };
    match identity {
        Ok(identity) => Ok(identity.map(|identity| Found { identity, origin })),
        Err(problem) => Err(IdentityError::new(origin, problem)),
    }
}

fn may_ask_others(variables: Variables<'_>) -> bool {
    !variables.is_on("DISABLE_EXTERNAL_PROCESS")
}

/// The text of a file; `None` if there is no such file.
pub(super) fn read_if_there(path: &Path) -> Result<Option<String>, Problem> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(Problem::Unreadable { path: path.to_owned(), error }),
    }
}

impl Identity {
    /// Whether its keys depend on the machine that asks, and not only on what is configured.
    pub(super) fn is_the_machines(&self) -> bool {
        match self {
            Self::Instance { .. } => true,
            Self::Role { base, .. } => base.is_the_machines(),
            _ => false,
        }
    }

    /// The role that this identity takes.
    pub(super) fn taking(self, assume: Assume) -> Self {
        Self::Role { base: Box::new(self), assume }
    }

    /// The keys. `None` if there is no identity after all: an ECS instance without a role or without
    /// metadata, where nobody asked for it.
    pub(super) fn obtain(&self, with: &Obtain<'_>) -> Result<Option<AccessKey>, Problem> {
        match self {
            Self::AccessKey(key) => Ok(Some(key.clone())),
            Self::Role { base, assume } => {
                let Some(key) = base.obtain(with)? else { return Err(Problem::NoBase) };
                let endpoint = assume.sts.endpoint(with);
                let key = sts::assume_role(&with.caller, &endpoint, &key, &assume.role);
                key.map(Some).map_err(Problem::Call)
            }
            Self::OidcRole { token, provider_arn, assume } => {
                let token = token.obtain(with)?;
                let endpoint = assume.sts.endpoint(with);
                let (caller, role) = (&with.caller, &assume.role);
                sts::assume_role_with_oidc(caller, &endpoint, provider_arn, &token, role)
                    .map(Some)
                    .map_err(Problem::Call)
            }
            Self::Instance { role, asked } => match ecs::obtain(role.as_deref(), *asked, with)? {
                None if *asked => Err(Problem::NoInstanceRole(role.clone())),
                key => Ok(key),
            },
            Self::Uri(uri) => fetch::keys_from(uri, with).map(Some),
            Self::External { arguments, sts } => {
                let output = external::run(arguments, with.environment, with.caller.deadline)?;
                profile::printed(&output, sts)?.obtain(with)
            }
            Self::CloudSso(login) => login.obtain(with).map(Some),
        }
    }
}

impl StsPlace {
    fn endpoint(&self, with: &Obtain<'_>) -> Endpoint {
        if let Some(endpoint) = &self.endpoint {
            return endpoint.clone();
        }
        let (registry_region, registry_network) = with.registry;
        let network = if self.vpc { Network::Vpc } else { registry_network };
        let region = match network {
            Network::Vpc => self.region.as_ref().or(registry_region),
            Network::Public => self.region.as_ref(),
        };
        Endpoint::sts(region, network)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn machine() -> Environment {
        Environment::empty().with("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
    }

    fn origin(environment: &Environment) -> String {
        match select(environment, None, None) {
            Ok(Some(found)) => found.origin,
            Ok(None) => "nothing".to_owned(),
            Err(error) => format!("error: {error}"),
        }
    }

    fn home(config: Option<&str>, credentials: Option<&str>) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        for (file, text) in
            [(".aliyun/config.json", config), (".alibabacloud/credentials", credentials)]
        {
            if let Some(text) = text {
                let path = home.path().join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
        }
        home
    }

    const CONFIG: &str = r#"{"current":"work","profiles":[
        {"name":"work","mode":"AK","access_key_id":"i","access_key_secret":"s"},
        {"name":"uri","mode":"CredentialsURI","credentials_uri":"http://127.0.0.1/"}]}"#;
    const CREDENTIALS: &str = "[default]\ntype = access_key\naccess_key_id = i\naccess_key_secret = s\n[only]\ntype = ecs_ram_role\n";

    #[test]
    fn identities_are_tried_in_the_vendors_order() {
        let home = home(Some(CONFIG), Some(CREDENTIALS));
        let token = home.path().join("token");
        fs::write(&token, "jwt").unwrap();
        // From the last in order to the first: each that is added comes before those there.
        let mut here = machine().with("ALIBABA_CLOUD_CREDENTIALS_URI", "http://127.0.0.1/");
        assert_eq!(origin(&here), "ALIBABA_CLOUD_CREDENTIALS_URI");
        here = here
            .with("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "")
            .with("ALIBABA_CLOUD_ECS_METADATA", "role");
        assert_eq!(origin(&here), "ALIBABA_CLOUD_ECS_METADATA");
        here = here.with("ALIBABA_CLOUD_CLI_PROFILE_DISABLED", "true").with_home(home.path());
        assert!(origin(&here).starts_with("section `default` of "));
        here = here.with("ALIBABA_CLOUD_CLI_PROFILE_DISABLED", "");
        assert!(origin(&here).starts_with("profile `work` of "));
        here = here
            .with("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/r")
            .with("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "acs:ram::1:oidc-provider/p")
            .with("ALIBABA_CLOUD_OIDC_TOKEN_FILE", &token);
        assert_eq!(origin(&here), "ALIBABA_CLOUD_OIDC_PROVIDER_ARN");
        here = here
            .with("ALIBABA_CLOUD_ACCESS_KEY_ID", "i")
            .with("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "s");
        assert_eq!(origin(&here), "ALIBABA_CLOUD_ACCESS_KEY_ID");
    }

    #[test]
    fn the_role_in_a_pod_is_for_the_pods_token() {
        let keyed = machine()
            .with("ALIBABA_CLOUD_ACCESS_KEY_ID", "i")
            .with("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "s")
            .with("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/r");
        let identity =
            |environment: &Environment| select(environment, None, None).unwrap().unwrap().identity;
        assert!(matches!(identity(&keyed), Identity::Role { .. }));
        let pod = keyed.with("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "p");
        assert!(matches!(identity(&pod), Identity::AccessKey(_)));
    }

    #[test]
    fn the_older_spellings_count() {
        let old = machine().with("ALICLOUD_ACCESS_KEY", "i").with("ALICLOUD_SECRET_KEY", "s");
        assert_eq!(origin(&old), "ALIBABA_CLOUD_ACCESS_KEY_ID");
        let other = machine()
            .with("ALIBABACLOUD_ACCESS_KEY_ID", "i")
            .with("ALIBABACLOUD_ACCESS_KEY_SECRET", "s");
        assert_eq!(origin(&other), "ALIBABA_CLOUD_ACCESS_KEY_ID");
    }

    #[test]
    fn half_an_identity_is_an_error_that_names_the_other_half() {
        for (set, missing) in [
            ("ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET"),
            ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_ACCESS_KEY_ID"),
            ("ALIBABA_CLOUD_SECURITY_TOKEN", "ALIBABA_CLOUD_ACCESS_KEY_ID"),
            ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "ALIBABA_CLOUD_ROLE_ARN"),
            ("ALIBABA_CLOUD_PROFILE", "hunter2"),
            ("ALIBABA_CLOUD_CONFIG_FILE", "hunter2"),
            ("ALIBABA_CLOUD_CREDENTIALS_FILE", "hunter2"),
            ("ALIBABA_CLOUD_STS_ENDPOINT", "endpoint"),
            ("ALIBABA_CLOUD_STS_REGION", "region"),
        ] {
            let value = if set.ends_with("STS_ENDPOINT") { "ftp://x" } else { "hunter2" };
            let error = origin(&machine().with(set, value));
            assert!(error.starts_with("error: ") && error.contains(missing), "{set}: {error}");
            assert!(!set.contains("SECRET") || !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_role_that_nobody_could_take_is_no_identity() {
        let home = home(Some(CONFIG), None);
        let stray = machine()
            .with("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/r")
            .with("ALIBABA_CLOUD_ROLE_SESSION_NAME", "left-over");
        assert_eq!(origin(&stray), "nothing");
        assert!(origin(&stray.clone().with_home(home.path())).starts_with("profile `work` of "));
        for token in ["ALIBABA_CLOUD_OIDC_TOKEN_FILE", "ALIBABA_CLOUD_OIDC_TOKEN"] {
            let error = origin(&stray.clone().with(token, "hunter2"));
            assert!(error.contains("ALIBABA_CLOUD_OIDC_PROVIDER_ARN is not"), "{error}");
        }
    }

    /// Metadata at an address where nobody can answer, or where somebody answers with this.
    fn instance(asked: bool, answer: Option<&'static str>) -> Result<bool, String> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let metadata = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let Some(answer) = answer else { return };
            for stream in listener.incoming().take(1) {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let transport = crate::transport::Transport::default();
        let deadline = crate::transport::Deadline::after(std::time::Duration::from_secs(9));
        let with = Obtain {
            caller: Caller { transport: &transport, deadline },
            environment: &machine(),
            metadata: &metadata,
            registry: (None, Network::Public),
        };
        let identity = Identity::Instance { role: None, asked };
        let key = identity.obtain(&with).map(|key| key.is_some());
        drop(server);
        key.map_err(|problem| problem.to_string())
    }

    #[test]
    fn metadata_that_nobody_asked_for_need_not_be_there() {
        let forbidden = "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        for answer in [None, Some(forbidden)] {
            assert_eq!(instance(false, answer), Ok(false));
            let error = instance(true, answer).unwrap_err();
            assert!(error.contains("ECS instance metadata"), "{error}");
        }
    }

    #[test]
    fn a_profile_that_is_asked_for_comes_from_either_file_or_is_an_error() {
        let home = home(Some(CONFIG), Some(CREDENTIALS));
        let here = machine().with_home(home.path());
        let of = |name| select(&here, Some(name), None).map(|found| found.unwrap().identity);
        assert!(matches!(of("uri"), Ok(Identity::Uri(_))));
        assert!(matches!(of("only"), Ok(Identity::Instance { asked: true, .. })));
        let error = of("gone").unwrap_err().to_string();
        assert!(error.contains("gone") && error.contains("config.json"), "{error}");
        let here = here.clone().with("ALIBABA_CLOUD_CLI_PROFILE_DISABLED", "true");
        let error = select(&here, Some("work"), None).unwrap_err().to_string();
        assert!(!error.contains("config.json") && error.contains("PROFILE_DISABLED"), "{error}");
    }

    #[test]
    fn asking_others_can_be_forbidden() {
        let home = home(Some(CONFIG), None);
        let here = machine()
            .with_home(home.path())
            .with("ALIBABA_CLOUD_DISABLE_EXTERNAL_PROCESS", "true")
            .with("ALIBABA_CLOUD_PROFILE", "uri");
        assert!(origin(&here).contains("ALIBABA_CLOUD_DISABLE_EXTERNAL_PROCESS"));
    }

    #[test]
    fn a_broken_file_ends_the_search() {
        let home = home(Some("{"), Some(CREDENTIALS));
        let error = origin(&machine().with_home(home.path()));
        assert!(error.contains("config.json") && error.contains("line 1"), "{error}");
    }

    #[test]
    fn nothing_is_nothing() {
        assert_eq!(origin(&machine()), "nothing");
        assert_eq!(origin(&machine().with_home("/nonexistent")), "nothing");
    }
}
