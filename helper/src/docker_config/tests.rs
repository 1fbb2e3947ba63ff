//! Files of clients: what is read, and that nothing but the entry changes.

use tempfile::TempDir;

use super::*;

/// What a file that grew over the years looks like.
const OLD: &str = r#"{
    "auths": {
        "https://index.docker.io/v1/": {"auth": "c2VjcmV0"},
        "r.example": {}
    },
    "HttpHeaders": { "User-Agent": "Docker-Client/18.09 (linux)" },
    "credsStore": "pass",
    "psFormat": "table {{.ID}}\t{{.Names}} <\u00e9>",
    "number": 1.50e+3,
    "credHelpers": {
        "ghcr.io": "github"
    },
    "plugins": { "x-cli-plugin": { "hooks": "on" } }
}
"#;

fn host(text: &str) -> Host {
    Host::parse(text).unwrap()
}

fn file(content: Option<&str>) -> (TempDir, ConfigFile) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("docker/config.json");
    if let Some(content) = content {
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
    }
    (directory, ConfigFile::at(path))
}

fn content(file: &ConfigFile) -> String {
    fs::read_to_string(file.path()).unwrap()
}

#[test]
fn an_entry_comes_and_goes_and_all_else_stays() {
    let (_directory, file) = file(Some(OLD));
    let changes =
        file.change(&[host("https://R.example/"), host("ghcr.io")], false, false).unwrap();
    assert_eq!(changes, [Change::Added, Change::Replaced("github".into())]);
    let new = OLD.replace(
        "\"ghcr.io\": \"github\"",
        "\"ghcr.io\": \"aliyun\",\n        \"r.example\": \"aliyun\"",
    );
    assert_eq!(content(&file), new);
    assert_eq!(
        file.settings().unwrap().hosts().collect::<Vec<_>>(),
        [host("ghcr.io"), host("r.example")]
    );
    let again = file.change(&[host("r.example")], false, false).unwrap();
    assert_eq!(again, [Change::Nothing]);
    let removed = file.change(&[host("r.example"), host("never.there")], true, false).unwrap();
    assert_eq!(removed, [Change::Removed, Change::Nothing]);
    assert_eq!(content(&file), OLD.replace("\"github\"", "\"aliyun\""));
}

#[test]
fn a_missing_file_is_made_for_its_owner_alone() {
    let (_directory, file) = file(None);
    assert_eq!(file.settings().unwrap(), Settings::default());
    assert_eq!(file.change(&[host("r.example")], true, false).unwrap(), [Change::Nothing]);
    assert!(!file.path().exists());
    assert_eq!(file.change(&[host("r.example")], false, true).unwrap(), [Change::Added]);
    assert!(!file.path().exists());
    file.change(&[host("r.example")], false, false).unwrap();
    assert_eq!(content(&file), "{\n\t\"credHelpers\": {\n\t\t\"r.example\": \"aliyun\"\n\t}\n}\n");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(file.path()), 0o600);
        assert_eq!(mode(file.path().parent().unwrap()), 0o700);
    }
}

#[test]
fn a_broken_file_is_refused_and_left_alone() {
    for broken in [
        "{\"auths\": {\"r\": {\"auth\": \"c2VjcmV0\"}",
        "[]",
        "{\"credHelpers\": [\"c2VjcmV0\"]}",
        "{\"credHelpers\": {\"r\": 1}}",
        "\u{feff}{}",
        "null",
    ] {
        let (_directory, file) = file(Some(broken));
        let error = file.change(&[host("r.example")], false, false).unwrap_err().to_string();
        assert!(error.contains("is not a configuration that Docker can read"), "{error}");
        assert!(!error.contains("c2VjcmV0"), "{error}");
        assert_eq!(content(&file), broken);
        assert_eq!(fs::read_dir(file.path().parent().unwrap()).unwrap().count(), 1);
    }
}

#[test]
fn a_file_that_docker_reads_is_read() {
    for odd in [
        r#"{"auths": null, "credHelpers": null, "credsStore": null}"#,
        r#"{"auths": {}, "auths": {"q.example": null}, "credHelpers": {"q.example": null}}"#,
        r#"{"credHelpers": {"r.example": "other"}, "credHelpers": {"s.example": "x"}} and more"#,
    ] {
        let (_directory, file) = file(Some(odd));
        file.change(&[host("r.example")], false, false).unwrap();
        assert_eq!(file.settings().unwrap().named_hosts().collect::<Vec<_>>(), [host("r.example")]);
        file.change(&[host("r.example")], true, false).unwrap();
        assert_eq!(file.settings().unwrap().named_hosts().count(), 0, "{odd}");
    }
}

#[test]
fn where_we_are_asked_for_all_the_files_entries_are_ours() {
    let (_directory, file) = file(Some(
        r#"{"credsStore": "aliyun", "credHelpers": {"a.example": "aliyun", "b.example": "other"},
            "auths": {"https://c.example/v2/": {"auth": ""}, "b.example": {}, "c.example": {}}}"#,
    ));
    let settings = file.settings().unwrap();
    assert_eq!(settings.hosts().collect::<Vec<_>>(), [host("a.example"), host("c.example")]);
    assert_eq!(settings.named_hosts().collect::<Vec<_>>(), [host("a.example")]);
    assert!(!settings.auths.values().any(|auth| auth.has_secret));
}

#[cfg(unix)]
#[test]
fn link_and_mode_are_kept() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let (directory, file) = file(Some("{}"));
    let real = directory.path().join("dotfiles.json");
    fs::rename(file.path(), &real).unwrap();
    symlink("../dotfiles.json", file.path()).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    file.change(&[host("r.example")], false, false).unwrap();
    assert!(fs::symlink_metadata(file.path()).unwrap().is_symlink());
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(fs::read_to_string(&real).unwrap().contains("aliyun"));

    // A link that leads nowhere yet is somebody's wish for a place, also over another link.
    for middle in [None, Some("middle.json")] {
        fs::remove_file(&real).unwrap();
        if let Some(middle) = middle {
            symlink("dotfiles.json", directory.path().join(middle)).unwrap();
            fs::remove_file(file.path()).unwrap();
            symlink(format!("../{middle}"), file.path()).unwrap();
        }
        file.change(&[host("r.example")], false, false).unwrap();
        assert!(fs::symlink_metadata(file.path()).unwrap().is_symlink());
        assert!(fs::symlink_metadata(&real).unwrap().is_file());
        assert!(fs::read_to_string(&real).unwrap().contains("aliyun"));
    }
    fs::remove_file(file.path()).unwrap();
    symlink("config.json", file.path()).unwrap();
    assert!(file.change(&[host("r.example")], false, false).is_err());
}

#[test]
fn changes_at_once_are_all_made() {
    let (_directory, file) = file(Some("{}"));
    std::thread::scope(|scope| {
        for number in 0..30 {
            let file = &file;
            let host = host(&format!("r{number}.example"));
            scope.spawn(move || file.change(&[host], false, false).unwrap());
        }
    });
    assert_eq!(file.settings().unwrap().named_hosts().count(), 30);
}

#[test]
fn settings_say_who_is_asked_and_keep_no_secret() {
    let (_directory, file) = file(Some(OLD));
    let settings = file.settings().unwrap();
    assert_eq!(settings.helper_for(&host("ghcr.io")), Some("github"));
    assert_eq!(settings.helper_for(&host("r.example")), Some("pass"));
    assert!(settings.auths["https://index.docker.io/v1/"].has_secret);
    assert!(!settings.auths["r.example"].has_secret);
    assert!(!format!("{settings:?}").contains("c2VjcmV0"));
}

#[cfg(unix)]
#[test]
fn each_client_has_its_place() {
    let path = |file: Result<ConfigFile, ConfigError>| file.unwrap().path().to_owned();
    let home = Environment::empty().with_home("/home/u");
    assert_eq!(path(ConfigFile::docker(&home)), Path::new("/home/u/.docker/config.json"));
    assert_eq!(path(ConfigFile::podman(&home)), Path::new("/home/u/.config/containers/auth.json"));
    let moved = home.with("DOCKER_CONFIG", "/d").with("XDG_RUNTIME_DIR", "/run/user/1");
    assert_eq!(path(ConfigFile::docker(&moved)), Path::new("/d/config.json"));
    // What podman reads first is gone after a restart.
    assert_eq!(path(ConfigFile::podman(&moved)), Path::new("/home/u/.config/containers/auth.json"));
    let session = |environment: &Environment| {
        ConfigFile::podman_session(environment).map(|file| file.path().to_owned())
    };
    assert_eq!(session(&moved).unwrap(), Path::new("/run/user/1/containers/auth.json"));
    let elsewhere = session(&Environment::empty()).unwrap();
    assert!(elsewhere.starts_with("/run/containers") && elsewhere.ends_with("auth.json"));
    let named = moved.with("REGISTRY_AUTH_FILE", "/a.json");
    assert_eq!(path(ConfigFile::podman(&named)), Path::new("/a.json"));
    assert_eq!(session(&named), None);
    assert_eq!(
        ConfigFile::docker(&Environment::empty()).unwrap_err().to_string(),
        "there is no home directory, so no place for config.json; set DOCKER_CONFIG"
    );
}
