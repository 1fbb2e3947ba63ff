//! Who the client is to a registry: nobody, Basic, tokens, identity tokens, TLS with an own CA.

use std::{fs, sync::Arc};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use smartbuild::{
    credentials::Anonymous,
    registry::{Access, Client, Config, Error, Statistics},
};
use smartbuild_test_rig::{Image, Registry, unique};
use tempfile::TempDir;

use super::{anonymous, bearer_of, hasty, name, repository, tagged, user};

fn image() -> Image {
    Image::scratch().files(&[("hello", "world")])
}

#[tokio::test]
#[ignore = "needs a registry: run tests/run.sh"]
async fn a_password_is_sent_where_one_is_asked_for() {
    let registry = Registry::htpasswd("ci", "hunter2");
    let digest = registry.push("app", "1", &image());
    let reference = tagged(registry.host(), "app", "1");
    let client = user("ci", "hunter2");
    let manifest = client.manifest(&reference).await.unwrap().unwrap();
    assert_eq!(manifest.digest.to_string(), digest);
    assert_eq!(manifest.bytes, registry.manifest("app", "1").unwrap());

    let error = user("ci", "wrong").manifest(&reference).await.unwrap_err().to_string();
    let host = registry.host();
    assert_eq!(
        error,
        format!(
            "cannot read {reference}: {host} does not accept the login of user `ci` (from the test); it says: authentication required"
        )
    );
    let error = anonymous().manifest(&reference).await.unwrap_err().to_string();
    assert!(error.contains("wants a login, and none was found"), "{error}");
}

#[tokio::test]
#[ignore = "needs a registry: run tests/run.sh"]
async fn one_token_is_good_for_everything_a_run_wants() {
    let registry = Registry::token("ci", "hunter2");
    for path in ["app", "keys/app", "base"] {
        registry.push(path, "1", &image());
    }
    let host = registry.host();
    let client = user("ci", "hunter2");
    let (app, keys, base) =
        (repository(host, "app"), repository(host, "keys/app"), repository(host, "base"));
    client
        .prepare(&[(&app, Access::Push), (&keys, Access::Push), (&base, Access::Pull)])
        .await
        .unwrap();
    let prepared = client.statistics();
    assert_eq!(prepared.tokens, 1);
    for repository in [&app, &keys, &base] {
        client.manifest(&repository.tagged(name("1"))).await.unwrap().unwrap();
    }
    let manifest = client.manifest(&app.tagged(name("1"))).await.unwrap().unwrap();
    client.put_tags(&app, &manifest, &[name("2"), name("3")]).await.unwrap();
    // Nothing but the requests themselves: no more tokens, no challenges.
    let Statistics { requests, tokens, retries, .. } = client.statistics();
    assert_eq!((requests - prepared.requests, tokens, retries), (6, 1, 0));
    let scopes = &registry.tokens().requests()[0].scopes;
    assert_eq!(
        scopes,
        &["repository:app:pull,push", "repository:base:pull", "repository:keys/app:pull,push"]
    );
}

#[tokio::test]
#[ignore = "needs a registry: run tests/run.sh"]
async fn without_preparation_a_first_request_costs_a_challenge_and_a_token() {
    let registry = Registry::token("ci", "hunter2");
    registry.push("app", "1", &image());
    registry.tokens().set_field("access_token");
    let client = user("ci", "hunter2");
    let reference = tagged(registry.host(), "app", "1");
    client.manifest(&reference).await.unwrap().unwrap();
    let probe = 2; // TLS is tried first on a loopback host, then plain HTTP.
    assert_eq!(client.statistics().requests, 3 + probe - 1);
    // Writing needs another token, and is noticed before the registry is asked.
    let manifest = client.manifest(&reference).await.unwrap().unwrap();
    let before = client.statistics().requests;
    client.put_tags(&reference.repository, &manifest, &[name("2")]).await.unwrap();
    assert_eq!(client.statistics().requests, before + 2);
}

#[tokio::test]
#[ignore = "needs a registry: run tests/run.sh"]
async fn questions_at_the_same_moment_cost_one_challenge_and_one_token() {
    let registry = Registry::token("ci", "hunter2");
    registry.push("app", "1", &image());
    let client = user("ci", "hunter2");
    let app = repository(registry.host(), "app");
    let tags = (0..10).map(|n| name(&n.to_string())).collect();
    let digests = client.digests(&app, tags).await.unwrap();
    assert_eq!(digests.len(), 1, "the others are not there");
    let log = registry.log();
    assert_eq!(log.iter().filter(|entry| entry.status == 401).count(), 1, "{log:?}");
    assert_eq!((log.len(), registry.tokens().requests().len()), (11, 1));
}

#[tokio::test]
#[ignore = "needs a registry: run tests/run.sh"]
async fn a_token_that_ends_in_mid_run_is_renewed() {
    let registry = Registry::token("ci", "hunter2");
    registry.push("app", "1", &image());
    let reference = tagged(registry.host(), "app", "1");
    let client = user("ci", "hunter2");
    // It says that it lives long, and the registry refuses it at once.
    registry.tokens().set_lifetime(-120);
    let error = client.manifest(&reference).await.unwrap_err();
    assert!(error.is_access(), "{error}");
    registry.tokens().set_lifetime(300);
    let manifest = client.manifest(&reference).await.unwrap().unwrap();
    client.put_tags(&reference.repository, &manifest, &[name("2")]).await.unwrap();
    assert_eq!(registry.tags("app"), ["1", "2"]);
}

#[tokio::test]
#[ignore = "needs a registry: run tests/run.sh"]
async fn what_a_user_may_not_do_is_said_with_the_users_name() {
    let registry = Registry::token("ci", "hunter2");
    registry.push("app", "1", &image());
    registry.tokens().deny("app", "push");
    let reference = tagged(registry.host(), "app", "1");
    let client = user("ci", "hunter2");
    let manifest = client.manifest(&reference).await.unwrap().unwrap();
    let error = client.put_tags(&reference.repository, &manifest, &[name("2")]).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error:?}");
    let error = error.to_string();
    assert!(error.contains("does not allow it to user `ci` (from the test)"), "{error}");
    let error = user("ci", "wrong").manifest(&reference).await.unwrap_err().to_string();
    assert!(error.contains("does not accept the login of user `ci`"), "{error}");
    assert!(error.contains("incorrect username or password"), "{error}");
    assert!(!error.contains("wrong"), "{error}");
}

#[tokio::test]
#[ignore = "needs a registry: run tests/run.sh"]
async fn the_public_needs_a_token_but_no_login() {
    let registry = Registry::token("ci", "hunter2");
    registry.push("app", "1", &image());
    let reference = tagged(registry.host(), "app", "1");
    let error = anonymous().manifest(&reference).await.unwrap_err().to_string();
    assert!(error.contains("wants a login, and none was found"), "{error}");
    registry.tokens().allow_anonymous_pull();
    assert!(anonymous().manifest(&reference).await.unwrap().is_some());
}

#[tokio::test]
#[ignore = "needs a registry: run tests/run.sh"]
async fn an_identity_token_is_exchanged_and_never_sent_as_a_password() {
    let registry = Registry::token("ci", "hunter2");
    registry.push("app", "1", &image());
    let refresh = refresh_token(&registry, "ci", "hunter2").await;
    let reference = tagged(registry.host(), "app", "1");
    let client = bearer_of(refresh.clone());
    assert!(client.manifest(&reference).await.unwrap().is_some());
    let last = registry.tokens().requests().pop().unwrap();
    assert_eq!((last.method.as_str(), last.grant, last.status), ("POST", "refresh_token", 200));
    registry.tokens().set_password("ci", "new");
    let error = bearer_of(refresh).manifest(&reference).await.unwrap_err().to_string();
    assert!(error.contains("the login of the identity token from the test"), "{error}");
}

/// What `docker login` would have kept.
async fn refresh_token(registry: &Registry, user: &str, password: &str) -> String {
    // Whoever makes the first client of a process chooses; the tests need no order.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::new();
    let ping = http.get(format!("http://{}/v2/", registry.host())).send().await.unwrap();
    let challenge = ping.headers()["www-authenticate"].to_str().unwrap().to_owned();
    let field = |name: &str| {
        let (_, rest) = challenge.split_once(&format!("{name}=\"")).unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    let url = format!("{}?service={}&offline_token=true", field("realm"), field("service"));
    let basic = BASE64_STANDARD.encode(format!("{user}:{password}"));
    let answer = http.get(url).header("authorization", format!("Basic {basic}"));
    let answer = answer.send().await.unwrap().bytes().await.unwrap();
    let document: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    document["refresh_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
#[ignore = "needs a registry: run tests/run.sh"]
async fn a_registry_with_a_certificate_of_its_own_is_believed_by_certs_d() {
    let registry = Registry::builder().tls().start();
    registry.push("app", "1", &image());
    let reference = tagged(registry.host(), "app", "1");
    let trusting = |ca: &str| {
        let directory = TempDir::new().unwrap();
        let place = directory.path().join(registry.host());
        fs::create_dir(&place).unwrap();
        fs::write(place.join("ca.crt"), ca).unwrap();
        let certificates = vec![directory.path().to_owned()];
        (Client::new(Config { certificates, ..hasty() }, Arc::new(Anonymous)), directory)
    };
    let own = fs::read_to_string(registry.ca().unwrap()).unwrap();
    let (client, _files) = trusting(&own);
    assert!(client.manifest(&reference).await.unwrap().is_some());

    let other = Registry::builder().tls().start();
    let (client, _files) = trusting(&fs::read_to_string(other.ca().unwrap()).unwrap());
    let error = client.manifest(&reference).await.unwrap_err();
    assert!(matches!(error, Error::Tls { .. }), "{error:?}");
    let error = error.to_string();
    for part in ["authority that is not trusted", "SSL_CERT_FILE", "certs.d", "--insecure-registry"]
    {
        assert!(error.contains(part), "{part}: {error}");
    }
    let (client, _files) = trusting("nonsense");
    let error = client.manifest(&reference).await.unwrap_err().to_string();
    assert!(error.contains("ca.crt: there is no certificate in it"), "{error}");

    // A loopback host needs no proof, and one that was called insecure neither.
    assert!(anonymous().manifest(&reference).await.unwrap().is_some());
}

#[tokio::test]
async fn a_host_that_is_not_there_is_said_to_be_so() {
    let missing = format!("{}.invalid", unique("no"));
    let reference = tagged(&missing, "app", "1");
    let error = anonymous().manifest(&reference).await.unwrap_err();
    assert!(matches!(error, Error::UnknownHost { .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("there is no host `{missing}`")), "{error}");

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let reference = tagged(&closed.to_string(), "app", "1");
    let error = anonymous().manifest(&reference).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
}
