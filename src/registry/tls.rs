//! TLS: whom to believe, and what to do when we do not.
//!
//! Knows Docker's `certs.d` directories and builds the HTTP clients that go by them; must not know
//! what is sent over them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{
    Url,
    tls::{Certificate, Identity},
};

use super::{
    config::Config,
    error::Error,
    transport::{authority, innermost, is_loopback},
};

/// How the other side proves who it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Trust {
    /// By a certificate that the system trusts.
    System,
    /// By a certificate that the system or these files trust; they may hold our own too.
    Files(Vec<PathBuf>),
    /// Not at all: a loopback host, or one that the user called insecure.
    Nothing,
}

impl Trust {
    /// How the server at `url` has to prove who it is. Docker would not look at the certificates
    /// for a loopback host; we do where somebody has put them.
    pub(super) fn of(config: &Config, url: &Url) -> Self {
        let (host, authority) = (url.host_str().unwrap_or_default(), authority(url));
        let named = |entry: &String| {
            entry.eq_ignore_ascii_case(&authority) || entry.eq_ignore_ascii_case(host)
        };
        if config.insecure.iter().any(named) {
            return Self::Nothing;
        }
        let directory = if cfg!(windows) { authority.replace(':', "") } else { authority };
        let directories = config.certificates.iter().map(|parent| parent.join(&directory));
        let directories: Vec<_> = directories.filter(|directory| directory.is_dir()).collect();
        match directories.is_empty() {
            false => Self::Files(directories),
            true if is_loopback(url) => Self::Nothing,
            true => Self::System,
        }
    }
}

/// A client for servers that prove themselves like this. Takes milliseconds: it reads the system's
/// certificates.
pub(super) fn build(
    config: &Config,
    trust: &Trust,
    direct: bool,
    host: &str,
) -> Result<reqwest::Client, Error> {
    // An error says that a provider is there already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .user_agent(&config.user_agent)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(config.timeouts.connect)
        .pool_idle_timeout(Duration::from_secs(60));
    if direct {
        builder = builder.no_proxy();
    }
    match trust {
        Trust::System => {}
        Trust::Nothing => builder = builder.tls_danger_accept_invalid_certs(true),
        Trust::Files(directories) => {
            let mut files = Files::default();
            for directory in directories {
                files.read(directory).map_err(|(path, reason)| Error::Certificates {
                    host: host.to_owned(),
                    path: path.display().to_string(),
                    reason,
                })?;
            }
            if !files.authorities.is_empty() {
                builder = builder.tls_certs_merge(files.authorities);
            }
            if let Some(identity) = files.identity {
                builder = builder.identity(identity);
            }
        }
    }
    builder.build().map_err(|error| Error::Certificates {
        host: host.to_owned(),
        path: "the system's store".to_owned(),
        reason: format!(
            "{}; install the package ca-certificates, or name a file in SSL_CERT_FILE",
            innermost(&error)
        ),
    })
}

/// What a directory under `certs.d` holds (moby `registry/registry.go`: `loadTLSConfig`).
#[derive(Default)]
struct Files {
    authorities: Vec<Certificate>,
    identity: Option<Identity>,
}

impl Files {
    fn read(&mut self, directory: &Path) -> Result<(), (PathBuf, String)> {
        let failed = |path: &Path, reason: &dyn ToString| (path.to_owned(), reason.to_string());
        let read = |path: &Path| fs::read(path).map_err(|error| failed(path, &error));
        let entries = fs::read_dir(directory).map_err(|error| failed(directory, &error))?;
        let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        for path in paths {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => {
                    let found = Certificate::from_pem_bundle(&read(&path)?)
                        .map_err(|error| failed(&path, &innermost(&error)))?;
                    if found.is_empty() {
                        return Err(failed(&path, &"there is no certificate in it"));
                    }
                    self.authorities.extend(found);
                }
                Some("cert") if self.identity.is_none() => {
                    let key = path.with_extension("key");
                    let mut pem = read(&path)?;
                    pem.push(b'\n');
                    pem.extend(read(&key)?);
                    let identity = Identity::from_pem(&pem)
                        .map_err(|error| failed(&path, &innermost(&error)))?;
                    self.identity = Some(identity);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// What is wrong with the other side's TLS, and what to do about it.
pub(super) fn explain(error: &rustls::Error, url: &Url) -> String {
    use rustls::{CertificateError as Bad, Error as Tls};
    let host = authority(url);
    match error {
        Tls::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            "its certificate has expired; check this machine's clock, or have it renewed".to_owned()
        }
        Tls::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            "its certificate is for another name; use the name that it is for".to_owned()
        }
        Tls::InvalidMessage(_) => format!(
            "it does not speak TLS; if it speaks plain HTTP, pass --insecure-registry {host}"
        ),
        other => {
            let reason = match other {
                Tls::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => {
                    "its certificate is of an authority that is not trusted here".to_owned()
                }
                other => other.to_string(),
            };
            format!(
                "{reason}; name the file of its authority in SSL_CERT_FILE, or put it at /etc/docker/certs.d/{host}/ca.crt, or pass --insecure-registry {host}"
            )
        }
    }
}

/// What it means when the other side ends the connection because of our certificate. Known by its
/// text only: with TLS 1.3 it comes after the handshake, and by way of HTTP/2 without its type.
pub(super) fn explain_alert(text: &str, url: &Url) -> Option<String> {
    let alert = text.strip_prefix("received fatal alert: ")?;
    if !matches!(alert, "CertificateRequired" | "BadCertificate" | "UnknownCA") {
        return Some(format!("it says {alert}"));
    }
    let host = authority(url);
    Some(format!(
        "it wants a certificate from us; put one at /etc/docker/certs.d/{host}/client.cert, and its key at client.key"
    ))
}
