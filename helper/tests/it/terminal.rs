//! What somebody at a terminal sees of `doctor` and `login` when something is wrong.

use std::ffi::OsString;

use serde_json::json;
use smartbuild_test_rig::{Front, Program, Registry, Rule, Work};

use crate::person::Person;
use crate::rig::{PASSWORD, USER, configured};
use crate::session::Session;

/// An address where nobody listens.
const NOWHERE: &str = "127.0.0.1:1";

/// What a person sees who asks the doctor.
fn doctor(work: &Work, host: &str, variables: &[(&str, OsString)]) -> String {
    let line = format!("docker-credential-aliyun doctor {host}");
    let screen = Person::in_surroundings(work, &line, variables).reads_to_the_end();
    println!("{screen}");
    screen
}

/// What a person sees who logs in with this password, which is never on the screen.
fn login(work: &Work, arguments: &str, password: &str, variables: &[(&str, OsString)]) -> String {
    let line = format!("docker-credential-aliyun login -u {USER} {arguments}; echo status $?");
    let mut person = Person::in_surroundings(work, &line, variables);
    person.reads(&format!("Password of {USER}: "));
    person.waits_for_hidden_input();
    person.types(password);
    let screen = person.reads_to_the_end();
    println!("{screen}");
    assert!(!screen.contains(password), "{screen}");
    screen
}

/// Asserts that there is a line with a finding, and after it what to do.
#[track_caller]
fn finds(screen: &str, finding: &str, advice: &str) {
    let mut lines = screen.lines();
    assert!(lines.any(|line| line.contains(finding)), "expected: {finding}\n{screen}");
    let next = lines.next().unwrap_or_default();
    assert!(next.contains("-> ") && next.contains(advice), "expected: -> {advice}\n{screen}");
}

/// Asserts that it failed, in one line that says all this.
#[track_caller]
fn refuses(screen: &str, texts: &[&str]) {
    let line = screen.lines().find(|line| line.starts_with("docker-credential-aliyun: "));
    let line = line.unwrap_or_else(|| panic!("no reason is given\n{screen}"));
    for text in texts {
        assert!(line.contains(text), "expected: {text}\n{screen}");
    }
    assert!(screen.contains("status 1\r\n"), "{screen}");
}

#[test]
#[ignore = "needs a registry: run tests/run.sh"]
fn login_asks_and_shows_no_password() {
    let registry = Registry::htpasswd(USER, "typed-by-hand");
    let (host, work) = (registry.host(), Work::new());
    let line = format!("docker-credential-aliyun login --store file {host}");
    let mut person = Person::at_terminal(&work, &line);
    person.reads("User name at");
    person.types(USER);
    person.reads("Password of");
    person.waits_for_hidden_input();
    person.types("typed-by-hand");
    let screen = person.reads_to_the_end();
    assert!(screen.contains(&format!("Logged in to {host} as {USER}.")), "{screen}");
    assert!(screen.contains("name@account-id") && !screen.contains("typed-by-hand"), "{screen}");
    let get = work.run(Program::helper(["get"]).input(host)).success();
    assert_eq!(get.json()["Secret"], "typed-by-hand");
}

#[test]
fn an_interrupted_login_leaves_the_terminal_as_it_was() {
    let line = format!(
        "trap : INT; stty -a; docker-credential-aliyun login --store file -u {USER} {NOWHERE}; \
         echo status $?; stty -a"
    );
    let work = Work::new();
    let mut person = Person::at_terminal(&work, &line);
    person.reads("Password of");
    person.waits_for_hidden_input();
    person.presses("half\x03");
    let screen = person.reads_to_the_end();
    assert!(screen.contains("status 130"), "{screen}");
    let settings = |text: &str| {
        let from = text.find("speed").unwrap_or_else(|| panic!("{screen}"));
        text[from..].split("Password of").next().unwrap_or_default().trim().to_owned()
    };
    let (before, after) = screen.split_once("status 130").unwrap();
    assert_eq!(settings(before), settings(after));
    assert!(settings(after).contains(" echo ") && !screen.contains("half"), "{screen}");
}

#[test]
fn a_person_who_calls_no_command_is_told_of_them() {
    for line in ["docker-credential-aliyun", "docker-credential-aliyun gett"] {
        let screen = Person::at_terminal(&Work::new(), line).reads_to_the_end();
        let words = ["docker-credential-aliyun login HOST", "docker-credential-aliyun --help"];
        assert!(words.iter().all(|word| screen.contains(word)), "{screen}");
    }
}

#[test]
fn not_configured() {
    let work = Work::new();
    let screen = doctor(&work, "", &[]);
    finds(&screen, "FAILED   no registry is configured", "docker-credential-aliyun login HOST");
    finds(&screen, "no encrypted file is set up", "--store file");
    let screen = doctor(&work, NOWHERE, &[]);
    finds(&screen, &format!("there is no login for {NOWHERE}"), "REGISTRY_USERNAME");
    finds(&screen, "Docker does not ask this program", &format!("configure {NOWHERE}"));
    // Nobody is asked for a password that could not be kept.
    let line = format!("docker-credential-aliyun login {NOWHERE}; echo status $?");
    let screen = Person::at_terminal(&work, &line).reads_to_the_end();
    refuses(&screen, &["no place to keep a secret", "--store file", "REGISTRY_USERNAME"]);
}

#[test]
#[ignore = "needs a registry: run tests/run.sh"]
fn wrong_password() {
    let registry = Registry::htpasswd(USER, PASSWORD);
    let (host, work) = (registry.host(), configured(registry.host()));
    let screen = login(&work, &format!("--store file {host}"), "wrong-password", &[]);
    refuses(&screen, &["does not accept the user name", USER, "check the user name"]);
    let screen = login(&work, &format!("--store file --no-check {host}"), "wrong-password", &[]);
    assert!(screen.contains("Logged in to"), "{screen}");
    let screen = doctor(&work, host, &[]);
    finds(&screen, "it came from the encrypted file", "check the user name");
    assert!(!screen.contains("wrong-password"), "{screen}");
}

#[test]
#[ignore = "needs a D-Bus and GNOME Keyring: run tests/run.sh"]
fn locked_keyring() {
    let (session, work) = (Session::unlocked(), Work::new());
    let store = json!({ "ServerURL": NOWHERE, "Username": USER, "Secret": PASSWORD });
    session.ours(&work, "store", &store.to_string()).success();
    session.lock_keyring();
    let screen = doctor(&work, NOWHERE, &session.variables());
    let finding = format!("no login for {NOWHERE}: the Secret Service is locked");
    let line = screen.lines().find(|line| line.contains(&finding));
    assert!(line.is_some_and(|line| line.contains("unlock the login keyring")), "{screen}");
    let screen = login(&work, &format!("--no-check {NOWHERE}"), PASSWORD, &session.variables());
    refuses(&screen, &["the Secret Service is locked", "unlock the login keyring"]);
}

#[test]
#[ignore = "needs a D-Bus: run tests/run.sh"]
fn no_bus_and_nobody_on_the_bus() {
    let work = Work::new();
    let nobody = Session::bus_only();
    for variables in [&nobody.variables()[..], &[]] {
        let screen = doctor(&work, NOWHERE, variables);
        finds(&screen, "no keychain answers in this session", "--store file");
        let line = format!("docker-credential-aliyun login {NOWHERE}; echo status $?");
        let screen = Person::in_surroundings(&work, &line, variables).reads_to_the_end();
        refuses(&screen, &["no place to keep a secret", "--store file"]);
    }
}

#[test]
fn unreachable_host() {
    let work = configured(NOWHERE);
    let screen = doctor(&work, NOWHERE, &[]);
    finds(&screen, &format!("no connection to {NOWHERE}"), "check the network");
    let screen = login(&work, &format!("--store file {NOWHERE}"), "some-password", &[]);
    refuses(&screen, &[&format!("no connection to {NOWHERE}"), "check the network"]);
}

#[test]
#[ignore = "needs a registry: run tests/run.sh"]
fn clock_off_by_an_hour() {
    let registry = Registry::htpasswd(USER, "good-password");
    let front = Front::before(&registry);
    let then = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(61);
    let date = then.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    front.on("*", "/**", Rule::pass().header("date", &date));
    let work = configured(&front.host());
    // A password does not care; the signature of a RAM identity does.
    let screen = login(&work, &format!("--store file {}", front.host()), "good-password", &[]);
    assert!(screen.contains("Logged in to"), "{screen}");
    finds(&doctor(&work, &front.host(), &[]), "the clock is 61 minutes ahead of", "set-ntp");
}

#[test]
#[ignore = "needs a registry: run tests/run.sh"]
fn untrusted_certificate() {
    let registry = Registry::builder().htpasswd(USER, "good-password").tls().start();
    let (host, work) = (registry.host(), configured(registry.host()));
    finds(&doctor(&work, host, &[]), "no trusted TLS connection to", "set SSL_CERT_FILE");
    let command = format!("--store file {host}");
    let screen = login(&work, &command, "good-password", &[]);
    refuses(&screen, &[&format!("no trusted TLS connection to {host}"), "set SSL_CERT_FILE"]);
    let trusted = [("SSL_CERT_FILE", OsString::from(registry.ca().unwrap()))];
    let screen = login(&work, &command, "good-password", &trusted);
    assert!(screen.contains("Logged in to"), "{screen}");
    let screen = doctor(&work, host, &trusted);
    assert!(screen.contains(&format!("{host} accepts the login of {USER}")), "{screen}");
}
