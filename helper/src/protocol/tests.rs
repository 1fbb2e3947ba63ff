//! The protocol, byte for byte, over a keychain in memory.

use std::cell::RefCell;

use super::*;
use crate::SourceError;

/// Entries in memory; a host named `broken.example` is configured and cannot answer.
#[derive(Default)]
struct Memory(RefCell<BTreeMap<Host, (String, Secret)>>);

impl Keychain for Memory {
    fn get(&self, host: &Host) -> Result<Option<Credential>, Error> {
        if host.as_str() == "broken.example" {
            return Err(SourceError::new("the keyring is locked; unlock it").into());
        }
        let entry = self.0.borrow().get(host).cloned();
        Ok(entry.map(|(username, secret)| Credential {
            username,
            secret,
            origin: "memory".into(),
            expires: None,
        }))
    }

    fn store(&self, host: &Host, username: &str, secret: &Secret) -> Result<(), Error> {
        self.0.borrow_mut().insert(host.clone(), (username.into(), secret.clone()));
        Ok(())
    }

    fn erase(&self, host: &Host) -> Result<(), Error> {
        self.0.borrow_mut().remove(host);
        Ok(())
    }

    fn list(&self) -> BTreeMap<Host, String> {
        self.0.borrow().iter().map(|(host, (user, _))| (host.clone(), user.clone())).collect()
    }
}

impl Memory {
    fn holding(host: &str, username: &str, secret: &str) -> Self {
        let memory = Self::default();
        let host = Host::parse(host).unwrap();
        memory.store(&host, username, &Secret::new(secret.into())).unwrap();
        memory
    }

    /// What the program prints for a verb: stdout, or the failure's text.
    fn ask(&self, verb: Verb, input: impl AsRef<[u8]>) -> String {
        let mut output = Vec::new();
        match serve(verb, self, input.as_ref(), &mut output) {
            Ok(()) => String::from_utf8(output).unwrap(),
            Err(failure) => {
                assert!(output.is_empty(), "a failure wrote to stdout");
                failure.to_string()
            }
        }
    }
}

const NOT_FOUND: &str = "credentials not found in native keychain";

#[test]
fn get_answers_one_line_of_json_with_the_address_as_it_came() {
    let memory = Memory::holding("r.example", "user@1", "p\"w\u{e9}<>");
    let answer = memory.ask(Verb::Get, "https://r.example/v2/\n");
    let expected = "{\"ServerURL\":\"https://r.example/v2/\",\"Username\":\"user@1\",\
                    \"Secret\":\"p\\\"w\u{e9}<>\"}\n";
    assert_eq!(answer, expected);
}

#[test]
fn get_joins_lines_and_trims_blanks() {
    let memory = Memory::holding("b.example", "u", "s");
    for input in ["b.exa\nmple", "  b.example \r\n", "b.exa\r\nmple\r\n", "\n\nb.example"] {
        assert!(memory.ask(Verb::Get, input).contains("\"ServerURL\":\"b.example\""), "{input:?}");
    }
}

#[test]
fn get_says_not_found_alone() {
    let memory = Memory::holding("r.example", "u", "s");
    for input in [
        "other.example",
        "r.example:5000",
        "https://index.docker.io/v1/",
        "https://index.docker.io/v1/refresh-token",
        "nerdctl-experimental://r.example:5000/?ns=x",
        "not an address",
    ] {
        assert_eq!(memory.ask(Verb::Get, input), NOT_FOUND, "{input:?}");
    }
}

#[test]
fn the_password_of_docker_hub_is_not_its_refresh_token() {
    let memory = Memory::holding("https://index.docker.io/v1/", "u", "password");
    assert!(memory.ask(Verb::Get, "docker.io").contains("password"));
    assert_eq!(memory.ask(Verb::Get, "https://index.docker.io/v1/refresh-token"), NOT_FOUND);
    assert_eq!(memory.ask(Verb::List, ""), "{\"https://index.docker.io/v1/\":\"u\"}\n");
}

#[test]
fn misuse_has_exact_answers() {
    let memory = Memory::default();
    let huge = vec![b'a'; MAX_REQUEST + 1];
    let shape = "the request is not a JSON object with the texts ServerURL, Username and Secret";
    let table: &[(Verb, &[u8], &str)] = &[
        (Verb::Get, b"", "no credentials server URL"),
        (Verb::Get, b" \r\n\t", "no credentials server URL"),
        (Verb::Get, b"a\0b", "the registry address contains control characters"),
        (Verb::Get, b"\xff\xfe", "the server address is not valid UTF-8"),
        (Verb::Get, &huge, "the request is longer than 1 MiB"),
        (Verb::Get, &huge[..MAX_REQUEST], NOT_FOUND),
        (Verb::Get, b"broken.example", "the keyring is locked; unlock it"),
        (Verb::Erase, b"", "no credentials server URL"),
        (Verb::Erase, b"a\0b", "the registry address contains control characters"),
        (Verb::Erase, b"\xff", "the server address is not valid UTF-8"),
        (Verb::Erase, b"never.stored", ""),
        (Verb::Erase, b"not an address", ""),
        (
            Verb::Store,
            b"",
            "the request is empty; expected a JSON object with ServerURL, Username and Secret",
        ),
        (Verb::Store, b"{\"ServerURL\":\"a\",\"Us", "the JSON of the request is cut off"),
        (Verb::Store, b"{}", "no credentials server URL"),
        (Verb::Store, b"{\"Username\":\"u\",\"Secret\":\"s\"}", "no credentials server URL"),
        (Verb::Store, b"{\"ServerURL\":\" \",\"Username\":\"u\"}", "no credentials server URL"),
        (Verb::Store, b"{\"ServerURL\":\"a\",\"Secret\":\"s\"}", "no credentials username"),
        (Verb::Store, b"\"hunter2\"", &format!("{shape} (line 1, column 9)")),
        (Verb::Store, b"hunter2", &format!("{shape} (line 1, column 1)")),
        (
            Verb::Store,
            b"{\"ServerURL\":\"a b\",\"Username\":\"u\",\"Secret\":\"s\"}",
            "\"a b\" is not a registry address; write it as host or host:port",
        ),
        (Verb::Store, &huge, "the request is longer than 1 MiB"),
    ];
    for (verb, input, expected) in table {
        let shown = String::from_utf8_lossy(&input[..input.len().min(40)]);
        assert_eq!(memory.ask(*verb, input), *expected, "{verb:?} {shown:?}");
    }
}

#[test]
fn store_is_as_lenient_as_go() {
    let requests = [
        r#"{"ServerURL":"r.example","Username":"u","Secret":"s"}"#,
        "{\"ServerURL\":\"r.example\",\"Username\":\"u\",\"Secret\":\"s\"}\n",
        r#"{"serverurl":"r.example","USERNAME":"u","secret":"s"}"#,
        r#"{"ServerURL":"r.example","Username":"u","Secret":"s","Extra":{"a":[1]}} trailing"#,
        "{\n\t\"ServerURL\": \" https://r.example/ \",\n\t\"Username\": \"u\",\n\t\"Secret\": \"\\u0073\"\n}",
        r#"{"ServerURL":null,"ServerURL":"r.example","Username":"u","Secret":"s"}"#,
    ];
    for request in requests {
        let memory = Memory::default();
        assert_eq!(memory.ask(Verb::Store, request), "", "{request}");
        let answer = memory.ask(Verb::Get, "r.example");
        assert_eq!(answer, "{\"ServerURL\":\"r.example\",\"Username\":\"u\",\"Secret\":\"s\"}\n");
    }
}

#[test]
fn store_replaces_by_host_whatever_the_user() {
    let memory = Memory::holding("r.example", "old", "s1");
    let request = r#"{"ServerURL":"https://r.example/v1/","Username":"new","Secret":"s2"}"#;
    assert_eq!(memory.ask(Verb::Store, request), "");
    assert_eq!(memory.ask(Verb::List, ""), "{\"r.example\":\"new\"}\n");
}

#[test]
fn an_empty_secret_is_not_found() {
    let memory = Memory::holding("r.example", "u", "");
    assert_eq!(memory.ask(Verb::Get, "r.example"), NOT_FOUND);
}

#[test]
fn erase_is_idempotent() {
    let memory = Memory::holding("r.example", "u", "s");
    assert_eq!(memory.ask(Verb::Erase, "https://r.example/v2/"), "");
    assert_eq!(memory.ask(Verb::Erase, "r.example"), "");
    assert_eq!(memory.ask(Verb::Get, "r.example"), NOT_FOUND);
}

/// A pipe that must not be read.
struct Untouchable;

impl Read for Untouchable {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        panic!("stdin was read")
    }
}

#[test]
fn list_and_version_never_read() {
    let mut output = Vec::new();
    serve(Verb::List, &Memory::default(), Untouchable, &mut output).unwrap();
    assert_eq!(output, b"{}\n");
    output.clear();
    serve(Verb::Version, &Memory::default(), Untouchable, &mut output).unwrap();
    assert_eq!(String::from_utf8(output).unwrap(), format!("{VERSION}\n"));
}

#[test]
fn arguments_are_a_verb_a_command_or_a_mistake() {
    let parse = |arguments: &[&str]| {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        match Call::parse(&arguments, &["login"]) {
            Call::Verb(verb) => format!("{verb:?}"),
            Call::Unknown(word) => format!("unknown {}", word.display()),
            other => format!("{other:?}"),
        }
    };
    assert_eq!(parse(&["get"]), "Get");
    assert_eq!(parse(&["-v"]), "Version");
    assert_eq!(parse(&[]), "Usage");
    assert_eq!(parse(&["get", "store"]), "Usage");
    assert_eq!(parse(&["login", "r.example"]), "Command");
    assert_eq!(parse(&["--help"]), "Command");
    assert_eq!(parse(&["GET"]), "unknown GET");
    assert_eq!(parse(&[""]), "unknown ");
}

#[test]
fn requests_and_failures_hide_their_secrets() {
    let request = parse_store(br#"{"ServerURL":"a","Username":"u","Secret":"hunter2"}"#).unwrap();
    assert!(!format!("{request:?}").contains("hunter2"));
    for bytes in [&br#""hunter2""#[..], br#"{"Secret":["hunter2"]}"#, br#"{"Secret":"hunter2"#] {
        let failure = parse_store(bytes).unwrap_err();
        assert!(!format!("{failure} {failure:?}").contains("hunter2"));
    }
}
