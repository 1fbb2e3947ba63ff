//! The encrypted file, alone and with several processes' worth of threads.

use std::thread;

use tempfile::TempDir;
use zeroize::Zeroizing;

use super::*;
use crate::host::Host;
use crate::store::Vault;

struct Setup {
    directory: TempDir,
    environment: Environment,
}

impl Setup {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let environment = Environment::empty().with_home(directory.path());
        Self { directory, environment }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.environment = self.environment.with(name, value);
        self
    }

    fn vault(&self) -> Vault {
        let store = FileStore::open(&self.environment, true).unwrap().unwrap();
        Vault::new("the encrypted file", Arc::new(store))
    }

    fn error(&self) -> String {
        FileStore::open(&self.environment, false).unwrap_err().to_string()
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join(".local/share/docker-credential-aliyun/credentials.json")
    }
}

const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const BASE64: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const KEY: &str = "DOCKER_CREDENTIAL_ALIYUN_KEY";
const PASSPHRASE: &str = "DOCKER_CREDENTIAL_ALIYUN_PASSPHRASE";

fn host(text: &str) -> Host {
    Host::parse(text).unwrap()
}

fn put(vault: &Vault, server: &str, username: &str, secret: &str) {
    vault.store(&host(server), username, &Secret::new(secret.into())).unwrap();
}

fn get(vault: &Vault, server: &str) -> Option<(String, String)> {
    let found = vault.get(&host(server)).unwrap();
    found.map(|found| (found.username.clone(), found.secret.expose().to_owned()))
}

fn pair(username: &str, secret: &str) -> Option<(String, String)> {
    Some((username.into(), secret.into()))
}

#[test]
fn what_was_stored_is_there_for_the_next_process() {
    for (name, value) in [(KEY, HEX), (PASSPHRASE, "correct horse")] {
        let setup = Setup::new().with(name, value);
        put(&setup.vault(), "r.example", "u", "s\"\u{e9}");
        put(&setup.vault(), "q.example:5000", "v", "t");
        assert_eq!(get(&setup.vault(), "https://r.example/v2/"), pair("u", "s\"\u{e9}"));
        assert_eq!(get(&setup.vault(), "q.example:5000"), pair("v", "t"));
        assert_eq!(get(&setup.vault(), "q.example"), None);
        setup.vault().erase(&host("r.example")).unwrap();
        setup.vault().erase(&host("r.example")).unwrap();
        assert_eq!(setup.vault().list().unwrap(), [(host("q.example:5000"), "v".to_owned())]);
    }
}

#[test]
fn another_user_replaces_the_first() {
    let setup = Setup::new().with(KEY, HEX);
    put(&setup.vault(), "r.example", "old", "1");
    put(&setup.vault(), "r.example", "new", "2");
    assert_eq!(get(&setup.vault(), "r.example"), pair("new", "2"));
    assert_eq!(setup.vault().list().unwrap().len(), 1);
}

#[test]
fn hexadecimal_base64_and_a_file_are_the_same_key() {
    let setup = Setup::new().with(KEY, HEX);
    put(&setup.vault(), "r.example", "u", "s");
    let setup = setup.with(KEY, BASE64);
    assert_eq!(get(&setup.vault(), "r.example"), pair("u", "s"));
    let raw: Vec<u8> = (0..32).collect();
    for content in [HEX.as_bytes(), format!("{BASE64}\r\n").as_bytes(), &raw] {
        let path = setup.directory.path().join("key");
        fs::write(&path, content).unwrap();
        let path = path.to_str().unwrap();
        let environment = Environment::empty()
            .with_home(setup.directory.path())
            .with("DOCKER_CREDENTIAL_ALIYUN_KEY_FILE", path);
        let store = FileStore::open(&environment, false).unwrap().unwrap();
        assert_eq!(get(&Vault::new("", Arc::new(store)), "r.example"), pair("u", "s"));
    }
}

#[test]
fn a_key_is_made_once_and_only_for_writing() {
    let setup = Setup::new();
    assert!(!FileStore::is_configured(&setup.environment));
    assert!(FileStore::open(&setup.environment, false).unwrap().is_none());
    put(&setup.vault(), "r.example", "u", "s");
    assert!(FileStore::is_configured(&setup.environment));
    assert_eq!(get(&setup.vault(), "r.example"), pair("u", "s"));
    let key = setup.directory.path().join(".config/docker-credential-aliyun/key");
    fs::remove_file(&key).unwrap();
    // A new key would not open the file that is there.
    for for_writing in [true, false] {
        let error = FileStore::open(&setup.environment, for_writing).unwrap_err();
        assert!(matches!(&error, FileError::Lost { .. }), "{error}");
        let error = error.to_string();
        for word in [key.to_str().unwrap(), setup.file().to_str().unwrap(), "put it back", "remove"]
        {
            assert!(error.contains(word), "{error}");
        }
    }
}

#[test]
fn no_key_is_made_before_there_is_something_to_seal() {
    let setup = Setup::new();
    let vault = setup.vault();
    assert_eq!(get(&vault, "r.example"), None);
    vault.erase(&host("r.example")).unwrap();
    assert_eq!(vault.list().unwrap(), []);
    assert!(!FileStore::is_configured(&setup.environment));
}

#[test]
fn nothing_readable_is_in_the_file() {
    let setup = Setup::new().with(KEY, HEX);
    put(&setup.vault(), "secret-host.example", "secret-user", "hunter2");
    let text = fs::read_to_string(setup.file()).unwrap();
    for readable in ["secret-host", "secret-user", "hunter2"] {
        assert!(!text.contains(readable));
    }
    assert!(text.starts_with(r#"{"version":1,"kdf":"key","salt":""#), "{text}");
}

#[cfg(unix)]
#[test]
fn nobody_else_reads_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let setup = Setup::new();
    put(&setup.vault(), "r.example", "u", "s");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let key = setup.directory.path().join(".config/docker-credential-aliyun/key");
    assert_eq!(mode(&setup.file()), 0o600);
    assert_eq!(mode(&key), 0o600);
    assert_eq!(mode(setup.file().parent().unwrap()), 0o700);
}

#[cfg(unix)]
#[test]
fn a_link_to_the_file_stays_a_link() {
    let setup = Setup::new().with(KEY, HEX);
    put(&setup.vault(), "r.example", "u", "s");
    let elsewhere = setup.directory.path().join("elsewhere.json");
    fs::rename(setup.file(), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, setup.file()).unwrap();
    put(&setup.vault(), "r.example", "u", "t");
    assert!(fs::symlink_metadata(setup.file()).unwrap().is_symlink());
    assert_eq!(get(&setup.vault(), "r.example"), pair("u", "t"));
}

#[test]
fn what_does_not_open_says_why_and_is_left_alone() {
    let setup = Setup::new().with(KEY, HEX);
    put(&setup.vault(), "r.example", "u", "s");
    let good = fs::read(setup.file()).unwrap();
    let refusal = |setup: &Setup| setup.vault().get(&host("r.example")).unwrap_err().to_string();

    let other = Setup { environment: setup.environment.clone(), ..Setup::new() };
    let other = other.with(KEY, &HEX.replace("00", "ff"));
    assert!(refusal(&other).contains("does not open with this key"), "{}", refusal(&other));
    let store = other.vault().store(&host("r.example"), "u", &Secret::new("x".into()));
    assert!(store.is_err());
    assert_eq!(fs::read(setup.file()).unwrap(), good);

    let mut changed = good.clone();
    let at = changed.len() - 10;
    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
    let cases: [(&[u8], &str); 4] = [
        (&changed, "does not open with this key"),
        (&good[..40], "is damaged"),
        (b"", "is damaged"),
        (br#"{"version":2}"#, "has version 2"),
    ];
    for (bytes, words) in cases {
        fs::write(setup.file(), bytes).unwrap();
        assert!(refusal(&setup).contains(words), "{}", refusal(&setup));
        assert!(setup.vault().erase(&host("r.example")).is_err());
        assert_eq!(fs::read(setup.file()).unwrap(), bytes);
    }
}

#[test]
fn a_key_and_a_passphrase_are_not_mixed_up() {
    let setup = Setup::new().with(PASSPHRASE, "correct horse");
    put(&setup.vault(), "r.example", "u", "s");
    let refusal = setup.with(KEY, HEX).vault().get(&host("r.example")).unwrap_err().to_string();
    assert!(refusal.contains("was written with a pass-phrase"), "{refusal}");
}

#[test]
fn a_file_cannot_ask_for_the_whole_memory() {
    let setup = Setup::new().with(PASSPHRASE, "correct horse");
    put(&setup.vault(), "r.example", "u", "s");
    let text = fs::read_to_string(setup.file()).unwrap();
    let greedy = text.replace("\"memory\":19456", "\"memory\":4000000000");
    assert_ne!(text, greedy);
    fs::write(setup.file(), greedy).unwrap();
    let refusal = setup.vault().get(&host("r.example")).unwrap_err().to_string();
    assert!(refusal.contains("unreasonable"), "{refusal}");
}

#[test]
fn what_is_no_key_is_refused_without_being_shown() {
    let error = Setup::new().with(KEY, "hunter2").error();
    assert!(error.starts_with(&format!("{KEY} is not a key")) && !error.contains("hunter2"));
    let setup = Setup::new().with(KEY, HEX);
    put(&setup.vault(), "r.example", "u", "s");
    let setup = setup.with(KEY, "").with("DOCKER_CREDENTIAL_ALIYUN_KEY_FILE", "/nowhere/key");
    let error = setup.error();
    assert!(error.starts_with("the key /nowhere/key of the encrypted file"), "{error}");
}

#[test]
fn writers_at_once_lose_nothing() {
    let setup = Setup::new().with(KEY, HEX);
    thread::scope(|scope| {
        for writer in 0..8 {
            let setup = &setup;
            scope.spawn(move || {
                for entry in 0..5 {
                    put(&setup.vault(), &format!("r{writer}-{entry}.example"), "u", "s");
                }
            });
        }
    });
    assert_eq!(setup.vault().list().unwrap().len(), 40);
}

#[test]
fn every_write_has_a_seal_of_its_own() {
    let key = MasterKey::key(Zeroizing::new([7; 32]));
    let entries = Entries::new();
    let (first, second) =
        (format::seal(&entries, &key).unwrap(), format::seal(&entries, &key).unwrap());
    assert_ne!(first, second);
    assert_eq!(format::open(&first, &key).unwrap(), entries);
}
