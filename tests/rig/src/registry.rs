//! A real `docker-registry` of our own: Debian's build of distribution/distribution.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use tempfile::TempDir;
use ureq::http;

use crate::access_log::{Entry, Log, OWN_AGENT, follow};
use crate::credentials::{certify, htpasswd};
use crate::image::{Image, Manifest, sha256};
use crate::token::TokenService;

/// What every manifest request accepts.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// A running registry; dropping it ends the server and removes what it stored.
#[derive(Debug)]
pub struct Registry {
    host: String,
    login: Option<(String, String)>,
    tokens: Option<TokenService>,
    ca: Option<PathBuf>,
    agent: ureq::Agent,
    log: Arc<Log>,
    process: Child,
    directory: TempDir,
}

/// How a [`Registry`] is to be.
#[derive(Debug, Default)]
pub struct RegistryBuilder {
    htpasswd: Option<(String, String)>,
    token: Option<(String, String)>,
    tls: bool,
    read_only: bool,
}

impl RegistryBuilder {
    /// Asks for a user name and password (HTTP Basic).
    #[must_use]
    pub fn htpasswd(mut self, user: &str, password: &str) -> Self {
        self.htpasswd = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// Asks for a token, which a [`TokenService`] gives to this user.
    #[must_use]
    pub fn token(mut self, user: &str, password: &str) -> Self {
        self.token = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// Speaks HTTPS with a certificate that only [`Registry::ca`] vouches for.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Refuses everything that writes (405).
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Starts the server, and waits until it listens.
    #[must_use]
    pub fn start(self) -> Registry {
        let directory = TempDir::with_prefix("rig-registry-").unwrap();
        let path = |name: &str| directory.path().join(name);
        let mut settings = json!({
            "version": "0.1",
            "log": { "level": "info" },
            "storage": {
                "filesystem": { "rootdirectory": path("data") },
                "delete": { "enabled": true },
                "maintenance": {
                    "uploadpurging": { "enabled": false },
                    "readonly": { "enabled": self.read_only },
                },
            },
            "http": { "addr": "127.0.0.1:0", "secret": "rig" },
        });
        if let Some((user, password)) = &self.htpasswd {
            std::fs::write(path("htpasswd"), htpasswd(user, password)).unwrap();
            settings["auth"] = json!({ "htpasswd": { "realm": "rig", "path": path("htpasswd") } });
        }
        let tokens = self.token.as_ref().map(|(user, password)| {
            let service = TokenService::start(user, password, &directory);
            settings["auth"] = service.settings(&directory);
            service
        });
        if self.tls {
            certify(directory.path());
            settings["http"]["tls"] =
                json!({ "certificate": path("server.pem"), "key": path("server-key.pem") });
        }
        let ca = self.tls.then(|| path("ca.pem"));
        std::fs::write(path("config.yml"), settings.to_string()).unwrap();

        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(path("config.yml"))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry cannot be started; tests/run.sh installs it");
        let log = Arc::new(Log::default());
        let (send, listening) = mpsc::channel();
        follow(process.stdout.take().unwrap(), {
            let log = Arc::clone(&log);
            move |line| log.access(line)
        });
        follow(process.stderr.take().unwrap(), {
            let log = Arc::clone(&log);
            move |line| {
                if let Some((_, rest)) = line.split_once("listening on ") {
                    let address = rest.split([',', '"']).next().unwrap_or_default();
                    let _ = send.send(address.to_owned());
                }
                log.talk(line);
            }
        });
        let host = listening.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| {
            let _ = process.kill();
            panic!("docker-registry did not start:\n{}", log.text());
        });
        let agent = agent(ca.as_deref());
        let login = self.htpasswd.or(self.token);
        Registry { host, login, tokens, ca, agent, log, process, directory }
    }
}

impl Registry {
    /// A registry that lets everybody in.
    #[must_use]
    pub fn open() -> Self {
        Self::builder().start()
    }

    /// A registry that asks for this user name and password.
    #[must_use]
    pub fn htpasswd(user: &str, password: &str) -> Self {
        Self::builder().htpasswd(user, password).start()
    }

    /// A registry with token authentication; [`Registry::tokens`] is its service.
    #[must_use]
    pub fn token(user: &str, password: &str) -> Self {
        Self::builder().token(user, password).start()
    }

    /// A registry of another kind.
    #[must_use]
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder::default()
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The registry's name for a repository: `127.0.0.1:PORT/repository`.
    #[must_use]
    pub fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.host)
    }

    /// The certificate authority (PEM) of a registry with TLS.
    #[must_use]
    pub fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// The service of a registry with token authentication.
    #[must_use]
    pub fn tokens(&self) -> &TokenService {
        self.tokens.as_ref().expect("this registry has no token service")
    }

    /// Where the server keeps its data, to damage it.
    #[must_use]
    pub fn storage(&self) -> PathBuf {
        self.directory.path().join("data/docker/registry/v2")
    }

    /// The requests so far, the rig's own left out. Complete: what was answered is in it.
    #[must_use]
    pub fn log(&self) -> Vec<Entry> {
        // The server writes a line when it has answered; ours is then the last one.
        let mark = crate::unique("mark");
        let _ = self.request("GET", &format!("/v2/?{mark}"), "");
        self.log.wait_for(&mark);
        self.log.entries()
    }

    /// How many requests there are, to look only at later ones: `&registry.log()[before..]`.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.log().len()
    }

    /// The digest that a tag (or digest) of a repository has, if it is there.
    #[must_use]
    pub fn digest(&self, repository: &str, reference: &str) -> Option<String> {
        self.manifest(repository, reference).map(|bytes| sha256(&bytes))
    }

    /// The very bytes of a manifest, if it is there.
    #[must_use]
    pub fn manifest(&self, repository: &str, reference: &str) -> Option<Vec<u8>> {
        self.get(repository, &format!("manifests/{reference}"))
    }

    /// The bytes of a blob, if it is there.
    #[must_use]
    pub fn blob(&self, repository: &str, digest: &str) -> Option<Vec<u8>> {
        self.get(repository, &format!("blobs/{digest}"))
    }

    /// The tags of a repository, sorted; none where there is no such repository.
    #[must_use]
    pub fn tags(&self, repository: &str) -> Vec<String> {
        let Some(bytes) = self.get(repository, "tags/list") else { return Vec::new() };
        let list: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let tags = list["tags"].as_array().cloned().unwrap_or_default();
        let mut tags: Vec<_> =
            tags.iter().filter_map(|tag| tag.as_str().map(str::to_owned)).collect();
        tags.sort();
        tags
    }

    /// Pushes an image under a tag, without any engine; gives its digest.
    pub fn push(&self, repository: &str, tag: &str, image: &Image) -> String {
        self.push_blobs(repository, image);
        self.put_manifest(repository, tag, &image.manifest())
    }

    /// Pushes an index of several images under a tag; gives the index's digest.
    pub fn push_index(&self, repository: &str, tag: &str, images: &[&Image]) -> String {
        for image in images {
            self.push_blobs(repository, image);
            let manifest = image.manifest();
            self.put_manifest(repository, &sha256(&manifest.bytes), &manifest);
        }
        self.put_manifest(repository, tag, &Image::index(images))
    }

    /// Pushes [`Image::base`] as `base:1` and gives its name: `127.0.0.1:PORT/base:1`.
    pub fn push_base(&self) -> String {
        self.push("base", "1", Image::base());
        self.name("base:1")
    }

    /// Removes a manifest by its digest, and with it every tag that has it.
    pub fn delete(&self, repository: &str, digest: &str) {
        let path = format!("/v2/{repository}/manifests/{digest}");
        let status = self.request("DELETE", &path, repository).status();
        assert!(status.is_success(), "DELETE {path}: {status}");
    }

    fn push_blobs(&self, repository: &str, image: &Image) {
        for bytes in image.layers().iter().chain([&image.config_bytes()]) {
            let digest = sha256(bytes);
            let path = format!("/v2/{repository}/blobs/{digest}");
            if self.request("HEAD", &path, repository).status().is_success() {
                continue;
            }
            let path = format!("/v2/{repository}/blobs/uploads/");
            let opened = self.request("POST", &path, repository);
            let location = opened.headers().get("location");
            let location = location.unwrap_or_else(|| panic!("POST {path}: {opened:?}"));
            let location = format!("{}&digest={digest}", location.to_str().unwrap());
            let request = self.build("PUT", &location, repository);
            let request = request.header("content-type", "application/octet-stream");
            let answer = self.agent.run(request.body(&bytes[..]).unwrap()).unwrap();
            assert_eq!(answer.status(), 201, "PUT {location}");
        }
    }

    fn put_manifest(&self, repository: &str, reference: &str, manifest: &Manifest) -> String {
        let request = self
            .build("PUT", &format!("/v2/{repository}/manifests/{reference}"), repository)
            .header("content-type", manifest.media_type);
        let answer = self.agent.run(request.body(&manifest.bytes[..]).unwrap()).unwrap();
        assert_eq!(answer.status(), 201, "PUT manifest {repository}:{reference}");
        sha256(&manifest.bytes)
    }

    fn get(&self, repository: &str, rest: &str) -> Option<Vec<u8>> {
        let path = format!("/v2/{repository}/{rest}");
        let mut answer = self.request("GET", &path, repository);
        // While somebody writes, this server shows links that are half-written.
        for _ in 0..100 {
            if answer.status() != 500 {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
            answer = self.request("GET", &path, repository);
        }
        match answer.status().as_u16() {
            200 => {
                let mut bytes = Vec::new();
                answer.into_body().into_reader().read_to_end(&mut bytes).unwrap();
                Some(bytes)
            }
            404 => None,
            status => panic!("GET {path}: {status}"),
        }
    }

    fn request(&self, method: &str, target: &str, repository: &str) -> http::Response<ureq::Body> {
        let request = self.build(method, target, repository).body(()).unwrap();
        self.agent.run(request).unwrap()
    }

    /// A request with the rig's own right to do it; `target` is a path or a whole URL.
    fn build(&self, method: &str, target: &str, repository: &str) -> http::request::Builder {
        let scheme = if self.ca.is_some() { "https" } else { "http" };
        let url = match target.starts_with('/') {
            true => format!("{scheme}://{}{target}", self.host),
            false => target.to_owned(),
        };
        let request = http::Request::builder()
            .method(method)
            .uri(url)
            .header("user-agent", OWN_AGENT)
            .header("accept", MANIFESTS);
        match (&self.tokens, &self.login) {
            (Some(service), _) => {
                request.header("authorization", format!("Bearer {}", service.own_token(repository)))
            }
            (None, Some((user, password))) => {
                let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
                request.header("authorization", format!("Basic {encoded}"))
            }
            (None, None) => request,
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            println!("--- registry {}\n{}", self.host, self.log.text());
        }
    }
}

fn agent(ca: Option<&Path>) -> ureq::Agent {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ureq::tls::TlsConfig::builder().unversioned_rustls_crypto_provider(provider);
    let tls = match ca {
        Some(path) => {
            let pem = std::fs::read(path).unwrap();
            let certificate = ureq::tls::Certificate::from_pem(&pem).unwrap();
            tls.root_certs(ureq::tls::RootCerts::new_with_certs(&[certificate]))
        }
        None => tls,
    };
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .tls_config(tls.build())
        .build()
        .into()
}
