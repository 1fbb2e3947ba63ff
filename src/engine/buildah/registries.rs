//! What buildah is told of registries: the logins, and which of them are not encrypted.
//!
//! Both go into files of a directory that only this user can look into.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use tokio::task::spawn_blocking;

use super::ACTION;
use crate::{
    credentials::Login,
    engine::{
        build::{BuildError, BuildRequest},
        error::Error,
    },
};

/// The variable that names the file with the settings of registries (containers-registries.conf(5)).
const SETTINGS: &str = "CONTAINERS_REGISTRIES_CONF";
/// Where that file is otherwise.
const SYSTEM: &str = "/etc/containers/registries.conf";
/// What a name without a host means, if the user's settings do not say: what it means to Docker,
/// since that is what the key is about.
const SHORT_NAMES: &str = "unqualified-search-registries";
/// Registries of this machine need not be encrypted, as with Docker. A host stands for all its ports.
const LOOPBACK: [&str; 3] = ["127.0.0.1", "localhost", "[::1]"];

/// The files.
pub(super) struct Registries {
    settings: PathBuf,
    logins: PathBuf,
}

impl Registries {
    /// Writes what a build needs to know.
    pub(super) async fn write(
        place: &Path,
        request: &BuildRequest,
        insecure: &[String],
    ) -> Result<Self, BuildError> {
        let mut logins = BTreeMap::new();
        for host in &request.registries {
            let (asked, known) = (host.clone(), Arc::clone(&request.logins));
            let login = spawn_blocking(move || known.login(&asked)).await;
            let login = login.map_err(|error| Error::broken("look for logins", &error))?;
            if let Some(login) = login.map_err(Error::from)? {
                logins.insert(host.as_str(), login);
            }
        }
        let logins = logins.iter().map(|(host, login)| (*host, login)).collect();
        Ok(Self::files(place, &logins, insecure).map_err(|e| Error::broken(ACTION, &e))?)
    }

    /// Writes what one conversation with one registry needs.
    pub(super) fn of_host(
        place: &Path,
        host: &str,
        login: Option<&Login>,
        insecure: &[String],
    ) -> io::Result<Self> {
        let logins = login.map(|login| (host, login)).into_iter().collect();
        Self::files(place, &logins, insecure)
    }

    fn files(
        place: &Path,
        logins: &BTreeMap<&str, &Login>,
        insecure: &[String],
    ) -> io::Result<Self> {
        let this =
            Self { settings: place.join("registries.conf"), logins: place.join("auth.json") };
        fs::write(&this.settings, settings(insecure)?)?;

        let mut options = fs::File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let auths: BTreeMap<_, _> =
            logins.iter().map(|(host, login)| (*host, Auth::of(login))).collect();
        let text = serde_json::to_vec(&serde_json::json!({ "auths": auths }))?;
        options.open(&this.logins)?.write_all(&text)?;
        Ok(this)
    }

    /// The variable without which the program would look elsewhere.
    pub(super) fn variable(&self) -> (&'static str, &Path) {
        (SETTINGS, &self.settings)
    }

    /// The file with the logins.
    pub(super) fn logins(&self) -> &Path {
        &self.logins
    }
}

/// The user's settings, or the system's, with the registries that are not encrypted.
fn settings(insecure: &[String]) -> io::Result<String> {
    let own = std::env::var_os("HOME").map(PathBuf::from);
    let own = own.map(|home| home.join(".config/containers/registries.conf"));
    let files = [std::env::var_os(SETTINGS).map(PathBuf::from), own, Some(SYSTEM.into())];
    let file = files.into_iter().flatten().find(|file| file.is_file());
    Ok(with_insecure(file.map(fs::read_to_string).transpose()?.unwrap_or_default(), insecure))
}

fn with_insecure(mut text: String, insecure: &[String]) -> String {
    let known = text.parse::<toml::Table>().is_ok_and(|table| table.contains_key(SHORT_NAMES));
    if !known {
        text.insert_str(0, &format!("{SHORT_NAMES} = [\"docker.io\"]\n"));
    }
    for host in LOOPBACK.into_iter().chain(insecure.iter().map(String::as_str)) {
        text += &format!("\n[[registry]]\nlocation = \"{host}\"\ninsecure = true\n");
    }
    text
}

/// A login in `auth.json` (containers-auth.json(5)).
#[derive(Serialize)]
struct Auth<'a> {
    auth: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    identitytoken: Option<&'a str>,
}

impl<'a> Auth<'a> {
    fn of(login: &'a Login) -> Self {
        let secret = login.secret.expose();
        if login.identity_token {
            return Self { auth: STANDARD.encode("<token>:"), identitytoken: Some(secret) };
        }
        let auth = STANDARD.encode(format!("{}:{secret}", login.username));
        Self { auth, identitytoken: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_set_stays() {
        let own = "unqualified-search-registries = [\"own\"]\n[[registry]]\nlocation = \"a\"\n";
        for text in ["", "short-name-mode = \"disabled\"\n[aliases]\n", own] {
            let all = with_insecure(text.to_owned(), &["b:1".to_owned()]);
            let table = all.parse::<toml::Table>().unwrap();
            let first = table[SHORT_NAMES][0].as_str().unwrap();
            assert_eq!(first, if text == own { "own" } else { "docker.io" });
            let registries = table["registry"].as_array().unwrap();
            assert_eq!(registries.last().unwrap()["location"].as_str(), Some("b:1"));
            assert_eq!(registries.len(), if text == own { 5 } else { 4 });
        }
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_read_the_logins() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = tempfile::TempDir::new().unwrap();
        let login = Login {
            username: "name@1".into(),
            secret: "a:b".to_owned().into(),
            origin: String::new(),
            identity_token: false,
        };
        let files = Registries::of_host(place.path(), "host:1", Some(&login), &[]).unwrap();
        let mode = fs::metadata(files.logins()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let json: serde_json::Value =
            serde_json::from_slice(&fs::read(files.logins()).unwrap()).unwrap();
        let auth = json["auths"]["host:1"]["auth"].as_str().unwrap();
        assert_eq!(STANDARD.decode(auth).unwrap(), b"name@1:a:b");
    }
}
