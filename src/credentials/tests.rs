//! Every way a login can come, with real programs for helpers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path, process::Command};

use docker_credential_aliyun::Environment;
use tempfile::TempDir;

use super::*;

/// A home with a `config.json`, and a `PATH` with helpers.
struct Home {
    directory: TempDir,
    environment: Environment,
}

impl Home {
    fn new(config: &str) -> Self {
        let directory = TempDir::new().unwrap();
        fs::create_dir(directory.path().join(".docker")).unwrap();
        fs::write(directory.path().join(".docker/config.json"), config).unwrap();
        let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
        let environment = Environment::empty().with_home(directory.path()).with("PATH", path);
        Self { directory, environment }
    }

    /// Installs a credential helper that reads the server's name and runs `script`.
    fn helper(self, name: &str, script: &str) -> Self {
        self.program(name, &format!("#!/bin/sh\nread -r server\n{script}\n"))
    }

    /// Installs a credential helper. Another process writes it: a test that starts a program at
    /// the same moment would otherwise hold the file open for writing, and Linux not run it.
    fn program(self, name: &str, text: &str) -> Self {
        let path = self.path().join(format!("docker-credential-{name}"));
        let script = "printf %s \"$2\" >\"$1\" && chmod 755 \"$1\"";
        let status = Command::new("sh").args(["-c", script, "sh"]).arg(path).arg(text).status();
        assert!(status.unwrap().success());
        self
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.environment = self.environment.with(name, value);
        self
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn login(&self, host: &str) -> Result<Option<Login>, Error> {
        Credentials::new(self.environment.clone()).login(host)
    }

    /// User name and secret of the login.
    fn pair(&self, host: &str) -> Option<(String, String)> {
        let login = self.login(host).unwrap()?;
        Some((login.username.clone(), login.secret.expose().to_owned()))
    }

    fn refusal(&self, host: &str) -> String {
        self.login(host).unwrap_err().to_string()
    }
}

fn pair(user: &str, secret: &str) -> Option<(String, String)> {
    Some((user.to_owned(), secret.to_owned()))
}

const ANSWER: &str =
    r#"echo "{\"ServerURL\":\"$server\",\"Username\":\"helped\",\"Secret\":\"s3cret-$server\"}""#;

#[test]
fn auths_are_found_in_every_spelling() {
    // "u:p:w", "v:x"
    let home = Home::new(
        r#"{"auths": {
            "a.example": {"auth": "dTpwOnc="},
            "https://b.example:5000/v1/": {"auth": "djp4"},
            "https://index.docker.io/v1/": {"username": "hub", "password": "p"},
            "t.example": {"auth": "dTpw", "identitytoken": "refresh"},
            "helped.example": {},
            "null.example": {"auth": null}
        }}"#,
    );
    assert_eq!(home.pair("a.example"), pair("u", "p:w"));
    assert_eq!(home.pair("b.example:5000"), pair("v", "x"));
    assert_eq!(home.pair("b.example"), None);
    assert_eq!(home.pair("docker.io"), pair("hub", "p"));
    assert_eq!(home.pair("helped.example"), None);
    assert_eq!(home.pair("null.example"), None);
    let token = home.login("t.example").unwrap().unwrap();
    assert!(token.identity_token && token.secret.expose() == "refresh");
    let path = home.path().join(".docker/config.json");
    assert_eq!(token.origin, format!("`auths` in {}", path.display()));
}

#[test]
fn what_is_odd_about_one_host_is_nothing_to_another() {
    let home = Home::new(
        r#"{"auths": {
            "null.example": null,
            "odd.example": {"auth": "%%%"},
            "lines.example": {"auth": "dTp3\r\nOng=\n"},
            "bare.example": {"auth": "dTpw"},
            "unpadded.example": {"auth": "dTpwcA"}
        }, "credHelpers": {"null.example": null}, "proxies": {"default": null},
        "HttpHeaders": {"X": null}}"#,
    );
    assert_eq!(home.pair("null.example"), None);
    assert_eq!(home.pair("lines.example"), pair("u", "w:x"));
    assert_eq!(home.pair("bare.example"), pair("u", "p"));
    assert_eq!(home.pair("unpadded.example"), pair("u", "pp"));
    assert!(home.refusal("odd.example").contains("`auth` of `odd.example` is not"));
}

#[test]
fn without_any_configuration_there_is_no_login_and_no_error() {
    let empty = TempDir::new().unwrap();
    for environment in [
        Environment::empty(),
        Environment::empty().with_home(empty.path()),
        Environment::empty().with("DOCKER_CONFIG", "/dev/null"),
    ] {
        let credentials = Credentials::new(environment);
        assert_eq!(credentials.login("r.example").unwrap(), None);
        assert!(credentials.docker_config().unwrap().proxies(None).is_none());
    }
    assert_eq!(Home::new("\n").pair("r.example"), None, "Docker takes an empty file for none");
    let nulls = r#"{"auths":null,"credHelpers":null,"credsStore":null,"proxies":null,"x":[1]}"#;
    assert_eq!(Home::new(nulls).pair("r.example"), None);
}

#[test]
fn the_variable_goes_before_helpers_and_helpers_before_auths() {
    let config = r#"{"credHelpers": {"r.example": "mine"}, "credsStore": "store",
        "auths": {"r.example": {"auth": "dTpw"}, "only.example": {"auth": "dTpw"}}}"#;
    let store = r#"if [ "$server" = only.example ]; then
            echo "credentials not found in native keychain"; exit 1; fi
        echo "{\"Username\":\"stored\",\"Secret\":\"x\"}""#;
    let home = Home::new(config).helper("mine", ANSWER).helper("store", store);
    assert_eq!(home.pair("r.example"), pair("helped", "s3cret-r.example"));
    assert_eq!(home.pair("other.example"), pair("stored", "x"));
    assert_eq!(home.pair("only.example"), pair("u", "p"), "a helper without it is no obstacle");
    assert_eq!(home.pair("docker.io"), pair("stored", "x"));
    let origin = home.login("r.example").unwrap().unwrap().origin;
    assert!(origin.starts_with("docker-credential-mine, which `credHelpers` in "), "{origin}");

    let home = home.with("DOCKER_AUTH_CONFIG", r#"{"auths":{"r.example":{"auth":"djp4"}}}"#);
    assert_eq!(home.pair("r.example"), pair("v", "x"));
    assert_eq!(home.login("r.example").unwrap().unwrap().origin, "`auths` in DOCKER_AUTH_CONFIG");
    assert_eq!(home.pair("other.example"), pair("stored", "x"));
}

#[test]
fn docker_hub_is_asked_for_by_its_old_name() {
    let home = Home::new(r#"{"credsStore": "mine"}"#).helper("mine", ANSWER);
    assert_eq!(home.pair("docker.io"), pair("helped", "s3cret-https://index.docker.io/v1/"));
}

#[test]
fn a_token_from_a_helper_is_no_password() {
    let answer = r#"echo '{"Username":"<token>","Secret":"refresh"}'"#;
    let home = Home::new(r#"{"credsStore": "mine"}"#).helper("mine", answer);
    let login = home.login("r.example").unwrap().unwrap();
    assert!(login.identity_token && login.username.is_empty());
    for nothing in ["echo '{}'", r#"echo '{"Username":"","Secret":""}'"#] {
        let home = Home::new(r#"{"credsStore": "mine"}"#).helper("mine", nothing);
        assert_eq!(home.pair("r.example"), None, "{nothing}");
    }
}

#[test]
fn a_broken_helper_ends_the_search_with_its_reason() {
    let config =
        r#"{"credHelpers": {"r.example": "mine"}, "auths": {"r.example": {"auth": "dTpw"}}}"#;
    let error = Home::new(config).refusal("r.example");
    assert!(error.contains("docker-credential-mine is not in PATH"), "{error}");
    let failing = "echo 'the keychain is locked'; echo more; exit 1";
    let error = Home::new(config).helper("mine", failing).refusal("r.example");
    assert_eq!(
        error,
        "cannot get the login for r.example: docker-credential-mine failed: the keychain is locked more"
    );
    let error = Home::new(config).helper("mine", "exit 3").refusal("r.example");
    assert!(error.ends_with("it printed no reason"), "{error}");
    // What it printed may be a secret, so it is not repeated.
    let error = Home::new(config).helper("mine", "echo hunter2").refusal("r.example");
    assert!(error.contains("is not the JSON") && !error.contains("hunter2"), "{error}");
    let error = Home::new(r#"{"credsStore": "../../bin/sh"}"#).refusal("r.example");
    assert!(error.contains("must not be a path"), "{error}");
}

#[test]
fn a_helper_that_hangs_is_ended() {
    // A child of the helper holds on to its output, as a daemon that it starts would.
    let home = Home::new("{}").helper("slow", "sleep 60 & sleep 60");
    let deadline = Duration::from_millis(50);
    let error = helper::get("slow", "r.example", &home.environment, deadline).unwrap_err();
    assert!(error.to_string().contains("did not answer in 0.05 s"), "{error}");
}

#[test]
fn the_answer_of_a_helper_that_leaves_a_child_behind_is_taken() {
    // The child is a daemon that the helper started, and has its output still.
    let home =
        Home::new(r#"{"credsStore": "mine"}"#).helper("mine", &format!("{ANSWER}\nsleep 60 &"));
    assert_eq!(home.pair("r.example"), pair("helped", "s3cret-r.example"));
}

#[test]
fn a_helper_that_fails_after_it_answered_is_not_repeated() {
    for script in [
        format!("{ANSWER}\nexit 1"),
        "printf '\"Secret\":\"s3cret\"'; exit 1".to_owned(),
        "printf s3cret; head -c 2000000 /dev/zero | tr '\\0' x; exit 1".to_owned(),
    ] {
        let home = Home::new(r#"{"credsStore": "mine"}"#).helper("mine", &script);
        let error = home.refusal("r.example");
        assert!(!error.contains("s3cret"), "{error}");
        assert!(error.contains("may hold a secret"), "{error}");
    }
}

#[test]
fn a_helper_need_not_read_its_input() {
    let deaf = "#!/bin/sh\nexec <&-\necho '{\"Username\":\"u\",\"Secret\":\"s\"}'\n";
    let home = Home::new("{}").program("deaf", deaf);
    let login = helper::get("deaf", "r.example", &home.environment, HELPER_DEADLINE).unwrap();
    assert_eq!(login.unwrap().username, "u");
}

#[test]
fn a_broken_configuration_is_named_with_its_place_and_without_its_content() {
    let home = Home::new("{\n  \"auths\": {\"r.example\": {\"auth\": hunter2}}\n}");
    let error = home.refusal("r.example");
    let path = home.path().join(".docker/config.json");
    assert!(
        error.contains(&format!("{} is broken at line 2, column 3", path.display())),
        "{error}"
    );
    assert!(error.contains("it is not JSON") && !error.contains("hunter2"), "{error}");
    let error = Home::new(r#"{"auths": {"r.example": {"auth": 7}}}"#).refusal("r.example");
    assert!(error.contains("a value is of the wrong type"), "{error}");
    let home = Home::new(r#"{"auths": {"r.example": {"auth": "aHVudGVyMg=="}}}"#);
    assert_eq!(home.pair("x.example"), None, "nothing is wrong with this one");
    let error = home.refusal("r.example");
    assert!(error.contains("`auth` of `r.example` is not user:password"), "{error}");
    let error = Home::new("{}").with("DOCKER_AUTH_CONFIG", "nonsense").refusal("r.example");
    assert!(error.starts_with("DOCKER_AUTH_CONFIG is broken at line 1"), "{error}");
    let home = Home::new("{}");
    fs::remove_file(home.path().join(".docker/config.json")).unwrap();
    fs::create_dir(home.path().join(".docker/config.json")).unwrap();
    assert!(home.refusal("r.example").starts_with("cannot read Docker's configuration"));
}

#[test]
fn the_variables_of_a_pipeline_are_enough() {
    let home = Home::new("{}")
        .with("REGISTRY_URL", "https://r.example:5000/")
        .with("REGISTRY_USERNAME", "name@5939306421830868")
        .with("REGISTRY_PASSWORD", "hunter2");
    assert_eq!(home.pair("r.example:5000"), pair("name@5939306421830868", "hunter2"));
    assert_eq!(home.pair("elsewhere.example"), None);
    let login = home.login("r.example:5000").unwrap().unwrap();
    assert!(login.origin.contains("REGISTRY_PASSWORD"), "{}", login.origin);
    assert!(!format!("{login:?}").contains("hunter2"));
}

#[test]
fn proxies_become_build_arguments_in_both_spellings() {
    let config = DockerConfig::parse(
        r#"{"proxies": {"default": {"httpProxy": "http://u:p@proxy:1", "noProxy": "x"},
            "tcp://engine:1": {"httpProxy": "http://other:1"}}, "currentContext": "remote"}"#,
        "config.json",
    )
    .unwrap();
    let proxies = config.proxies(Some("unix:///var/run/docker.sock")).unwrap();
    let names: Vec<_> = proxies.build_arguments().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"]);
    let other = config.proxies(Some("tcp://engine:1")).unwrap();
    assert_eq!(other.http_proxy.as_deref(), Some("http://other:1"));
    assert_eq!(config.current_context.as_deref(), Some("remote"));
    assert!(!format!("{config:?}").contains("u:p"));
}
