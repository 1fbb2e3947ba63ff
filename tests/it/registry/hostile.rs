//! Registries that want more than they should have: credentials, memory, time.

use bytes::Bytes;
use smartbuild::registry::{Descriptor, Digest, Error};
use smartbuild_test_rig::{Front, Image, Registry, Rule};

use super::{anonymous, name, repository, tagged, user};

/// No request to `front` had a header or a body with the secret, in any coding.
fn saw_no_credentials(front: &Front) {
    for seen in front.seen() {
        assert!(!seen.headers.contains_key("authorization"), "{seen}");
    }
}

#[tokio::test]
#[ignore = "needs a registry: run tests/run.sh"]
async fn a_redirect_to_another_host_is_followed_without_credentials() {
    let registry = Registry::htpasswd("ci", "hunter2");
    registry.push("app", "1", &Image::scratch());
    let front = Front::before(&registry);
    let client = user("ci", "hunter2");
    let app = repository(&front.host(), "app");
    let manifest = client.manifest(&app.tagged(name("1"))).await.unwrap().unwrap();
    let config = &manifest.image().unwrap().config;

    // As registries do whose blobs are in an object store.
    let store = Front::alone();
    let blob = registry.blob("app", &config.digest.to_string()).unwrap();
    store.on("GET", "/bucket/*", Rule::status(200).body(blob));
    let to_store = Rule::redirect(&format!("http://{}/bucket/x?signature=y", store.host()));
    front.on("GET", "/v2/**/blobs/*", to_store);
    client.blob(&app, config, 1 << 20).await.unwrap();
    assert_eq!(store.seen().len(), 1);
    saw_no_credentials(&store);

    // What comes from there is checked like everything else.
    store.on("GET", "/bucket/*", Rule::status(200).body("x".repeat(config.size as usize)));
    let error = client.blob(&app, config, 1 << 20).await.unwrap_err().to_string();
    assert!(error.contains("sent other content than"), "{error}");

    front.on("GET", "/v2/**/blobs/*", Rule::redirect("/v2/app/blobs/again"));
    let error = client.blob(&app, config, 1 << 20).await.unwrap_err().to_string();
    assert!(error.contains("without end"), "{error}");
    front.on("GET", "/v2/**/blobs/*", Rule::redirect("file:///etc/passwd"));
    let error = client.blob(&app, config, 1 << 20).await.unwrap_err().to_string();
    assert!(error.contains("without saying where"), "{error}");
}

#[tokio::test]
#[ignore = "needs a registry: run tests/run.sh"]
async fn an_upload_that_is_sent_elsewhere_takes_no_credentials_along() {
    let registry = Registry::htpasswd("ci", "hunter2");
    let front = Front::before(&registry);
    let other = Front::alone();
    let location = format!("http://{}/upload?state=x", other.host());
    let elsewhere = Rule::status(202).header("location", &location);
    front.on("POST", "/v2/**/blobs/uploads/", elsewhere);
    other.on("PUT", "/upload", Rule::status(201));
    let app = repository(&front.host(), "app");
    let client = user("ci", "hunter2");
    client.upload_blob(&app, "x", Bytes::from_static(b"content")).await.unwrap();
    assert_eq!(other.seen().len(), 1);
    saw_no_credentials(&other);
    // A write is not followed anywhere else.
    front.on("PUT", "/v2/**/manifests/*", Rule::redirect(&format!("http://{}/x", other.host())));
    registry.push("app", "1", &Image::scratch());
    let manifest = client.manifest(&app.tagged(name("1"))).await.unwrap().unwrap();
    let error = client.put_tags(&app, &manifest, &[name("2")]).await.unwrap_err().to_string();
    assert!(error.contains("sends us elsewhere with status 307"), "{error}");
}

#[tokio::test]
#[ignore = "needs a registry: run tests/run.sh"]
async fn what_a_registry_sends_us_to_cannot_ask_for_the_login() {
    let registry = Registry::token("ci", "hunter2");
    registry.push("app", "1", &Image::scratch());
    let (front, other, thief) = (Front::before(&registry), Front::alone(), Front::alone());
    let app = repository(&front.host(), "app");
    let bearer = format!("Bearer realm=\"http://{}/token\",service=\"s\"", thief.host());
    thief.on("GET", "/token", Rule::status(200).body(r#"{"token":"t"}"#));
    front.on("GET", "/v2/**/blobs/*", Rule::redirect(&format!("http://{}/x", other.host())));
    let location = format!("http://{}/upload?state=x", other.host());
    let elsewhere = Rule::status(202).header("location", &location);
    front.on("POST", "/v2/**/blobs/uploads/", elsewhere);
    for challenge in [bearer.as_str(), "Basic realm=\"x\""] {
        other.on("*", "/**", Rule::status(401).header("www-authenticate", challenge));
        let client = user("ci", "hunter2");
        let manifest = client.manifest(&app.tagged(name("1"))).await.unwrap().unwrap();
        let config = &manifest.image().unwrap().config;
        let error = client.blob(&app, config, 1 << 20).await.unwrap_err();
        assert!(matches!(error, Error::Refused { status: 401, .. }), "{error:?}");
        assert!(error.to_string().contains(&other.host()), "{error}");
        // What fits into one request, and what is asked how far it got when it breaks.
        for size in [10, 2 << 20] {
            let content = Bytes::from(vec![b'x'; size]);
            let error = client.upload_blob(&app, "x", content).await.unwrap_err();
            assert!(matches!(error, Error::Refused { status: 401, .. }), "{error:?}");
        }
        other.on("PATCH", "/**", Rule::reset().times(1));
        let content = Bytes::from(vec![b'y'; 2 << 20]);
        let error = client.upload_blob(&app, "x", content).await.unwrap_err();
        assert!(matches!(error, Error::Refused { status: 401, .. }), "{error:?}");
        // And what the registry itself believes of us is as it was.
        let mark = registry.tokens().requests().len();
        client.put_tags(&app, &manifest, &[name("2")]).await.unwrap();
        assert_eq!(registry.tokens().requests().len(), mark, "the token is still good");
    }
    assert!(thief.seen().is_empty(), "{:?}", thief.seen());
    saw_no_credentials(&other);
}

#[tokio::test]
async fn a_token_service_on_an_unsafe_place_gets_no_login() {
    let front = Front::alone();
    for (realm, says) in [
        ("http://tokens.example/token", "names the token service tokens.example without TLS"),
        ("ftp://tokens.example/token", "names a token service that is no URL"),
        ("nonsense", "names a token service that is no URL"),
    ] {
        let challenge = format!("Bearer realm=\"{realm}\",service=\"s\"");
        front.on("*", "/v2/**", Rule::status(401).header("www-authenticate", &challenge));
        let client = user("ci", "hunter2");
        let error = client.manifest(&tagged(&front.host(), "app", "1")).await.unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
    saw_no_credentials(&front);
}

#[tokio::test]
async fn token_services_that_answer_nonsense_are_no_trap() {
    let (front, tokens) = (Front::alone(), Front::alone());
    let challenge = format!("Bearer realm=\"http://{}/token\",service=\"s\"", tokens.host());
    front.on("*", "/v2/**", Rule::status(401).header("www-authenticate", &challenge));
    for (rule, says) in [
        (Rule::status(200).body("nonsense"), "answered something that is no token"),
        (Rule::status(200).body("{}"), "answered without a token"),
        (Rule::status(200).body(r#"{"token":"a\nb"}"#), "answered without a token"),
        (Rule::endless(), "sent more than 1048576 bytes"),
        (Rule::redirect("http://elsewhere.example/"), "sends us elsewhere with status 307"),
        (Rule::status(401), "does not accept the login of user `ci`"),
        // A token that the registry then refuses: asked for again at most once, not for ever.
        (Rule::status(200).body(r#"{"token":"t","expires_in":0}"#), "does not allow it"),
        (Rule::status(200).body(r#"{"token":"t"}"#), "does not allow it"),
        (Rule::status(200).body(r#"{"token":"t","expires_in":1e19}"#), "does not allow it"),
        (Rule::status(200).body(r#"{"token":"","access_token":"t"}"#), "does not allow it"),
    ] {
        tokens.heal();
        tokens.forget();
        tokens.on("GET", "/token", rule);
        let client = user("ci", "hunter2");
        let error = client.manifest(&tagged(&front.host(), "app", "1")).await.unwrap_err();
        assert!(error.to_string().contains(says), "{says}: {error}");
        assert!(tokens.seen().len() <= 2, "{:?}", tokens.seen());
    }
}

#[tokio::test]
async fn sizes_are_bounded_before_anything_is_read() {
    let front = Front::alone();
    let reference = tagged(&front.host(), "app", "1");
    let client = anonymous();
    for rule in [Rule::endless(), Rule::status(200).body(vec![b' '; (4 << 20) + 1])] {
        front.on("GET", "/v2/**/manifests/*", rule);
        let error = client.manifest(&reference).await.unwrap_err().to_string();
        assert!(error.contains("sent more than 4194304 bytes"), "{error}");
    }
    front.on("GET", "/v2/**/tags/list", Rule::endless());
    let error = client.tags(&reference.repository).await.unwrap_err().to_string();
    assert!(error.contains("sent more than"), "{error}");
    front.on("GET", "/v2/**/blobs/*", Rule::endless());
    let blob = Descriptor::of("x", b"content");
    let error = client.blob(&reference.repository, &blob, 100).await.unwrap_err().to_string();
    assert!(error.contains("sent more than 7 bytes"), "{error}");
    let large = Descriptor { size: 1 << 40, ..blob };
    let error = client.blob(&reference.repository, &large, 100).await.unwrap_err().to_string();
    assert!(error.contains("more than 100"), "{error}");
    // An endless explanation of an error is cut, and the error stays.
    assert!(front.seen().len() < 20);
}

#[tokio::test]
async fn what_is_no_manifest_is_refused_with_its_name() {
    let front = Front::alone();
    let reference = tagged(&front.host(), "app", "1");
    let oci = "application/vnd.oci.image.manifest.v1+json";
    for (kind, body, says) in [
        ("application/json", "<html>", "it is not a manifest"),
        (oci, "{}", "it is not a manifest"),
        (oci, r#"{"schemaVersion":1}"#, "schema 1"),
        (oci, r#"{"schemaVersion":2,"config":{"digest":"md5:0","size":1}}"#, "is not a digest"),
        (oci, r#"{"schemaVersion":2,"config":{"digest":"sha256:0","size":-1}}"#, "not a"),
        (oci, &"[".repeat(1000), "it is not a manifest"),
    ] {
        let rule = Rule::status(200).header("content-type", kind).body(body);
        front.on("GET", "/v2/**/manifests/*", rule);
        let error = anonymous().manifest(&reference).await.unwrap_err().to_string();
        assert!(error.contains(says), "{body}: {error}");
        assert!(error.contains(&reference.to_string()), "{error}");
    }
}

#[tokio::test]
async fn digests_that_do_not_fit_are_found_out() {
    let front = Front::alone();
    let client = anonymous();
    let body = r#"{"schemaVersion":2,"manifests":[]}"#;
    let right = Digest::of(body.as_bytes());
    let wrong = Digest::of(b"");
    let app = repository(&front.host(), "app");
    let manifest = |digest: &Digest| {
        Rule::status(200)
            .header("content-type", "application/vnd.oci.image.index.v1+json")
            .header("docker-content-digest", &digest.to_string())
            .body(body)
    };
    front.on("GET", "/v2/**", manifest(&wrong));
    let error = client.manifest(&app.tagged(name("1"))).await.unwrap_err().to_string();
    assert!(
        error.contains(&format!("sent other content than {wrong} (it has {right})")),
        "{error}"
    );
    front.on("GET", "/v2/**", manifest(&right));
    assert!(client.manifest(&app.tagged(name("1"))).await.is_ok());
    let error = client.manifest(&app.pinned(wrong.clone())).await.unwrap_err().to_string();
    assert!(error.contains("sent other content"), "{error}");
    front.on("HEAD", "/v2/**", manifest(&right));
    let error = client.resolve(&app.pinned(wrong.clone())).await.unwrap_err().to_string();
    assert!(error.contains(&format!("answers with {right}")), "{error}");
    // A registry that stores something else than it was given is not believed.
    let index = client.manifest(&app.tagged(name("1"))).await.unwrap().unwrap();
    let stored = Rule::status(201).header("docker-content-digest", &wrong.to_string());
    front.on("PUT", "/v2/**", stored);
    let error = client.put_tags(&app, &index, &[name("2")]).await.unwrap_err().to_string();
    assert!(error.contains(&format!("stored {wrong} instead of {right}")), "{error}");
    // A registry without HEAD is asked with GET.
    for status in [405, 200] {
        front.on("HEAD", "/v2/**", Rule::status(status));
        let resolved = client.resolve(&app.tagged(name("1"))).await.unwrap();
        assert_eq!(resolved, Some(right.clone()), "{status}");
    }
}

#[tokio::test]
async fn lists_without_end_end() {
    let front = Front::alone();
    let page = Rule::status(200).body(r#"{"tags":["1","no tag",".x"]}"#);
    let app = repository(&front.host(), "app");
    let next = "</v2/app/tags/list?n=1000&last=1>; rel=\"next\"";
    front.on("GET", "/v2/**/tags/list", page.clone().header("link", next));
    let error = anonymous().tags(&app).await.unwrap_err().to_string();
    assert!(error.contains("repeats one page of its list"), "{error}");
    front.on("GET", "/v2/**/tags/list", page);
    assert_eq!(anonymous().tags(&app).await.unwrap(), Some(vec![name("1")]));
    front.on("GET", "/v2/**/tags/list", Rule::status(200).body(r#"{"tags":null}"#));
    assert_eq!(anonymous().tags(&app).await.unwrap(), Some(vec![]));
}

#[tokio::test]
async fn a_list_that_cannot_be_read_to_its_end_is_no_list() {
    let front = Front::alone();
    let app = repository(&front.host(), "app");
    let page = |tag: &str| Rule::status(200).body(format!(r#"{{"tags":["{tag}"]}}"#));
    // As references may be: relative to the page.
    front.on("GET", "/v2/app/tags/list", page("2"));
    front.on("GET", "/v2/app/tags/list", page("1").header("link", "<list?b>; rel=next").times(1));
    let tags = anonymous().tags(&app).await.unwrap();
    assert_eq!(tags, Some(vec![name("1"), name("2")]));
    for link in ["nonsense", "<ftp://x/>; rel=next"] {
        front.on("GET", "/v2/app/tags/list", page("1").header("link", link));
        let error = anonymous().tags(&app).await.unwrap_err().to_string();
        assert!(error.contains("in a way that leads nowhere"), "{error}");
    }
    front.heal();
    front.on("GET", "/v2/app/tags/list", page("1").header("link", "<gone>; rel=next"));
    let error = anonymous().tags(&app).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
    // Two pages that name each other.
    front.on("GET", "/v2/app/tags/list", page("1").header("link", "<list2>; rel=next"));
    front.on("GET", "/v2/app/tags/list2", page("1").header("link", "<list>; rel=next"));
    let error = anonymous().tags(&app).await.unwrap_err().to_string();
    assert!(error.contains("more than 1000 pages"), "{error}");
}
