//! TLS both ways, on a server of the test's own: the rig's does not ask for certificates.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use smartbuild::{
    credentials::Anonymous,
    registry::{Client, Config, Error},
};
use tempfile::TempDir;

use super::{hasty, tagged};

fn openssl(directory: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    command.current_dir(directory).args(arguments.split(' ')).stderr(Stdio::null());
    assert!(command.status().unwrap().success(), "{arguments}");
}

/// A registry that lets in only who shows a certificate of its authority.
struct Guarded {
    process: Child,
    address: SocketAddr,
    directory: TempDir,
}

impl Guarded {
    fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path();
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
        openssl(path, &format!("req -x509 {key} -subj /CN=authority -keyout ca.key -out ca.crt"));
        for (name, more) in [("server", " -addext subjectAltName=IP:127.0.0.1"), ("client", "")] {
            openssl(
                path,
                &format!(
                    "req -x509 -CA ca.crt -CAkey ca.key {key} -subj /CN={name} -keyout {name}.key -out {name}.cert -addext basicConstraints=critical,CA:FALSE{more}"
                ),
            );
        }
        let settings = serde_json::json!({
            "version": "0.1",
            "log": { "level": "info" },
            "storage": { "filesystem": { "rootdirectory": path.join("data") } },
            "http": { "addr": "127.0.0.1:0", "secret": "x", "tls": {
                "certificate": path.join("server.cert"),
                "key": path.join("server.key"),
                "clientcas": [path.join("ca.crt")],
            }},
        });
        fs::write(path.join("config.yml"), settings.to_string()).unwrap();
        let mut process = Command::new("docker-registry")
            .args(["serve", "config.yml"])
            .current_dir(path)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("listening on ")?;
            rest.split([',', '"']).next()?.parse().ok()
        });
        // It would end if nobody took what it has to say.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address: address.expect("it listens"), directory }
    }

    /// What a user has in `certs.d` for it: the authority, and these of our own files.
    fn client(&self, own: &[&str]) -> (Client, TempDir) {
        let certificates = TempDir::new().unwrap();
        let place = certificates.path().join(self.address.to_string());
        fs::create_dir(&place).unwrap();
        for name in [&["ca.crt"], own].concat() {
            fs::copy(self.directory.path().join(name), place.join(name)).unwrap();
        }
        let config = Config { certificates: vec![certificates.path().to_owned()], ..hasty() };
        (Client::new(config, Arc::new(Anonymous)), certificates)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
#[ignore = "needs a registry: run tests/run.sh"]
async fn a_registry_that_asks_for_a_certificate_gets_the_one_in_certs_d() {
    let registry = Guarded::start();
    let reference = tagged(&registry.address.to_string(), "app", "1");
    let (client, _files) = registry.client(&["client.cert", "client.key"]);
    assert_eq!(client.manifest(&reference).await.unwrap(), None);

    let (client, _files) = registry.client(&[]);
    // The server says why and hangs up at once: the reason is lost when the end of the connection is
    // seen first, so it is asked until it was heard.
    let mut error = client.manifest(&reference).await.unwrap_err();
    for _ in 0..20 {
        if !matches!(error, Error::Broken { .. }) {
            break;
        }
        error = client.manifest(&reference).await.unwrap_err();
    }
    assert!(matches!(error, Error::Tls { .. }), "{error:?}");
    assert!(error.to_string().contains("wants a certificate from us"), "{error}");

    let (client, _files) = registry.client(&["client.cert"]);
    let error = client.manifest(&reference).await.unwrap_err().to_string();
    assert!(error.contains("client.key: No such file"), "{error}");
}
