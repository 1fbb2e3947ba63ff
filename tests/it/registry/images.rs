//! Whole images: tagged, mounted, copied, assembled, recorded; read back by other clients.

use std::collections::BTreeMap;

use bytes::Bytes;
use smartbuild::registry::{
    Arrival, Descriptor, Digest, Error, Manifest, Record, SigningKey, media_type, record_tag,
};
use smartbuild_test_rig::{Front, Image, Program, Registry, Rule, Work, unique};

use super::{anonymous, name, patient, repository, tagged, user};

fn image(text: &str) -> Image {
    Image::scratch().files(&[("common", "the same everywhere")]).files(&[("own", text)])
}

/// Reads a whole image with another client.
fn skopeo_reads(name: &str) {
    let work = Work::new();
    let inspect = ["copy", "--all", "--src-tls-verify=false"];
    let source = format!("docker://{name}");
    work.run(Program::named("skopeo").args(inspect).args([source.as_str(), "dir:out"])).success();
}

#[tokio::test]
#[ignore = "needs a registry: run tests/run.sh"]
async fn a_hit_costs_two_requests_and_one_for_each_tag_and_each_that_moves() {
    let registry = Registry::open();
    let key = format!("sb1-{}", "a".repeat(64));
    let digest = registry.push("app", &key, &image("x").label("io.smartbuild.key", &key));
    registry.push("app", "latest", &image("old"));
    registry.push("app", "same", &image("x").label("io.smartbuild.key", &key));
    let client = anonymous();
    let app = repository(registry.host(), "app");
    client.prepare(&[(&app, smartbuild::registry::Access::Push)]).await.unwrap();
    let (mark, before) = (registry.mark(), client.statistics().requests);

    let manifest = client.manifest(&app.tagged(name(&key))).await.unwrap().unwrap();
    let platform = smartbuild::platform::Platform::host();
    let config = client.image_config(&app, &manifest, &platform).await.unwrap();
    assert_eq!(config.labels["io.smartbuild.key"], key);
    assert_eq!(config.platform(), platform);
    let mut moved = Vec::new();
    for tag in ["latest", "same", "new"].map(name) {
        if client.resolve(&app.tagged(tag.clone())).await.unwrap() != Some(manifest.digest.clone())
        {
            moved.push(tag);
        }
    }
    assert_eq!(moved, [name("latest"), name("new")]);
    client.put_tags(&app, &manifest, &moved).await.unwrap();

    let log = &registry.log()[mark..];
    assert_eq!(log.len(), 2 + 3 + 2, "{log:?}");
    assert_eq!(client.statistics().requests - before, 7);
    assert_eq!(log.iter().filter(|entry| entry.transfers_blob()).count(), 1, "the configuration");
    for tag in ["latest", "same", "new"] {
        assert_eq!(registry.digest("app", tag), Some(digest.clone()));
    }
    skopeo_reads(&registry.name("app:new"));
}

#[tokio::test]
#[ignore = "needs a registry: run tests/run.sh"]
async fn what_is_not_there_is_none_and_no_error() {
    let registry = Registry::open();
    registry.push("app", "1", &image("x"));
    let client = anonymous();
    for (path, tag) in [("app", "2"), ("other", "1")] {
        let reference = tagged(registry.host(), path, tag);
        assert_eq!(client.manifest(&reference).await.unwrap(), None);
        assert_eq!(client.resolve(&reference).await.unwrap(), None);
    }
    assert_eq!(client.tags(&repository(registry.host(), "other")).await.unwrap(), None);
    let digest = Digest::of(b"");
    let absent = repository(registry.host(), "app").pinned(digest);
    assert_eq!(client.manifest(&absent).await.unwrap(), None);
}

#[tokio::test]
#[ignore = "needs a registry: run tests/run.sh"]
async fn tags_are_listed_and_manifests_deleted() {
    let registry = Registry::open();
    for (tag, text) in [("1", "x"), ("2", "y"), ("3", "x")] {
        registry.push("app", tag, &image(text));
    }
    let client = anonymous();
    let app = repository(registry.host(), "app");
    let mut tags = client.tags(&app).await.unwrap().unwrap();
    tags.sort();
    assert_eq!(tags, ["1", "2", "3"].map(name));
    let digest = client.resolve(&app.tagged(name("1"))).await.unwrap().unwrap();
    assert!(client.delete(&app, &digest.clone().into()).await.unwrap());
    assert!(!client.delete(&app, &digest.into()).await.unwrap(), "it is gone");
    assert_eq!(registry.digest("app", "1"), None);
    assert!(registry.digest("app", "2").is_some());

    let read_only = Registry::builder().read_only().start();
    let app = repository(read_only.host(), "app");
    let nothing = Digest::of(b"");
    let error = client.delete(&app, &nothing.into()).await.unwrap_err();
    assert!(matches!(error, Error::NoDeletion { .. }), "{error:?}");
    assert!(error.to_string().contains("deletion has to be enabled"), "{error}");
}

#[tokio::test]
#[ignore = "needs a registry: run tests/run.sh"]
async fn on_one_registry_nothing_but_names_travels() {
    let registry = Registry::token("ci", "hunter2");
    let digest = registry.push("team/app", "1", &image("x"));
    let client = user("ci", "hunter2");
    let mark = registry.mark();
    let from = tagged(registry.host(), "team/app", "1");
    let to = repository(registry.host(), "prod/app");
    let copied = client.copy(&from, &to, &[name("1"), name("latest")]).await.unwrap();
    assert_eq!(copied.to_string(), digest);
    assert_eq!(registry.digest("prod/app", "latest"), Some(digest));
    let log = &registry.log()[mark..];
    assert!(!log.iter().any(smartbuild_test_rig::Entry::transfers_blob), "{log:?}");
    assert!(log.iter().any(|entry| entry.query.contains("mount=") && entry.status == 201));
}

#[tokio::test]
#[ignore = "needs a registry: run tests/run.sh"]
async fn a_mount_that_is_refused_becomes_an_upload() {
    let registry = Registry::open();
    let image = Image::scratch().files(&[("own", "x")]);
    let digest = registry.push("team/app", "1", &image);
    let front = Front::before(&registry);
    let (from, to) =
        (tagged(&front.host(), "team/app", "1"), repository(&front.host(), "prod/app"));
    let client = anonymous();
    let manifest = client.manifest(&from).await.unwrap().unwrap();
    let layer = &manifest.image().unwrap().layers[0];

    // A registry that mounts nothing opens an upload instead.
    let upload = format!("http://{}/v2/prod/app/blobs/uploads/", front.host());
    let upload = reqwest::Client::new().post(upload).send().await.unwrap();
    let location = upload.headers()["location"].to_str().unwrap();
    let opened = Rule::status(202).header("location", location).times(1);
    front.on("POST", "/v2/**/blobs/uploads/", opened);
    let arrival = client.copy_blob(&from.repository, &to, layer).await.unwrap();
    assert_eq!(arrival, Arrival::Sent);
    assert!(registry.blob("prod/app", &layer.digest.to_string()).is_some());
    let copied = client.copy(&from, &to, &[name("1")]).await.unwrap();
    assert_eq!(copied.to_string(), digest);
}

#[tokio::test]
#[ignore = "needs a registry: run tests/run.sh"]
async fn another_registry_gets_an_index_with_all_its_images_and_nothing_twice() {
    let (here, there) = (Registry::open(), Registry::htpasswd("ci", "hunter2"));
    let images = [image("amd64").platform("linux/amd64"), image("arm").platform("linux/arm64/v8")];
    let digest = here.push_index("app", "1", &[&images[0], &images[1]]);
    let client = user("ci", "hunter2");
    let (from, to) = (tagged(here.host(), "app", "1"), repository(there.host(), "copy/app"));
    assert_eq!(client.copy(&from, &to, &[name("1")]).await.unwrap().to_string(), digest);
    assert_eq!(there.manifest("copy/app", "1"), here.manifest("app", "1"));
    let read = here.log().iter().filter(|entry| entry.transfers_blob()).count();
    assert_eq!(read, 5, "two configurations, two layers and one that they share");
    let platform = "linux/arm64".parse().unwrap();
    let index = client.manifest(&to.tagged(name("1"))).await.unwrap().unwrap();
    let config = client.image_config(&to, &index, &platform).await.unwrap();
    assert_eq!(config.platform(), platform);
    let absent = "linux/s390x".parse().unwrap();
    let error = client.image_config(&to, &index, &absent).await.unwrap_err().to_string();
    assert!(
        error.ends_with("no image for linux/s390x; it has linux/amd64, linux/arm64"),
        "{error}"
    );

    // Again: everything is there, and no blob travels.
    let mark = here.mark();
    client.copy(&from, &to, &[name("1")]).await.unwrap();
    assert!(!here.log()[mark..].iter().any(smartbuild_test_rig::Entry::transfers_blob));
}

#[tokio::test]
#[ignore = "needs a registry: run tests/run.sh"]
async fn images_of_one_platform_are_put_together() {
    let registry = Registry::open();
    let client = anonymous();
    let app = repository(registry.host(), "app");
    let mut images = Vec::new();
    for platform in ["linux/arm64", "linux/amd64"] {
        let tag = platform.replace('/', "-");
        registry.push("app", &tag, &image(platform).platform(platform));
        let manifest = client.manifest(&app.tagged(name(&tag))).await.unwrap().unwrap();
        images.push((platform.parse().unwrap(), manifest));
    }
    let list = Manifest::assemble(&images, BTreeMap::new()).unwrap();
    client.put_tags(&app, &list, &[name("all")]).await.unwrap();
    skopeo_reads(&registry.name("app:all"));
    let read = client.manifest(&app.tagged(name("all"))).await.unwrap().unwrap();
    assert_eq!(read, list);

    // The same as the OCI writes it.
    let empty = client.upload_blob(&app, media_type::OCI_EMPTY, Bytes::from_static(b"{}"));
    let empty: Descriptor = empty.await.unwrap();
    let text = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": empty, "layers": []
    });
    let oci = Manifest::parse(media_type::OCI_MANIFEST, text.to_string().into()).unwrap();
    client.put_tags(&app, &oci, &[]).await.unwrap();
    images[0].1 = oci;
    let notes = BTreeMap::from([("io.smartbuild.key".to_owned(), "sb1-x".to_owned())]);
    let index = Manifest::assemble(&images, notes.clone()).unwrap();
    client.put_tags(&app, &index, &[name("oci")]).await.unwrap();
    let read = client.manifest(&app.tagged(name("oci"))).await.unwrap().unwrap();
    assert_eq!((read.media_type.as_str(), read.annotations()), (media_type::OCI_INDEX, &notes));
}

#[tokio::test]
#[ignore = "needs a registry: run tests/run.sh"]
async fn records_read_back_whichever_form_the_registry_takes() {
    let registry = Registry::open();
    let front = Front::before(&registry);
    let client = anonymous();
    let key = name(&format!("sb1-{}", "0".repeat(64)));
    let record = Record {
        image: Digest::of(b"image"),
        created: "2026-11-23T18:00:00Z".to_owned(),
        notes: BTreeMap::from([("io.smartbuild.note".to_owned(), "x".to_owned())]),
        inputs: Bytes::from(vec![7; 100_000]),
    };
    let signing = SigningKey::new(&unique("secret-of-the-test").into()).unwrap();
    let record = signing.sign(&key, record);
    let plain = repository(&front.host(), "plain");
    let artifact = repository(&front.host(), "artifact");
    assert_eq!(client.record(&artifact, &key).await.unwrap(), None);
    client.put_record(&artifact, &key, &record).await.unwrap();
    assert_eq!(client.record(&artifact, &key).await.unwrap(), Some(record.clone()));

    let refusal = r#"{"errors":[{"code":"MANIFEST_INVALID","message":"unknown media type"}]}"#;
    front.on("PUT", "/v2/plain/manifests/*", Rule::status(400).body(refusal).times(1));
    client.put_record(&plain, &key, &record).await.unwrap();
    assert_eq!(client.record(&plain, &key).await.unwrap(), Some(record));
    let tag = record_tag(&key).unwrap();
    let manifest = client.manifest(&plain.tagged(tag.clone())).await.unwrap().unwrap();
    assert_eq!(manifest.media_type, media_type::DOCKER_MANIFEST);
    for path in ["plain", "artifact"] {
        let repository = repository(&front.host(), path);
        let head = client.record_head(&repository, &key).await.unwrap().unwrap();
        assert_eq!(signing.verify(&key, &head, &Digest::of(b"image")), Ok(()));
        assert!(signing.verify(&key, &head, &Digest::of(b"planted")).is_err());
        skopeo_reads(&registry.name(&format!("{path}:{tag}")));
    }

    // What somebody else put there is no record.
    registry.push("other", tag.as_str(), &image("x"));
    let other = repository(registry.host(), "other");
    let error = client.record(&other, &key).await.unwrap_err().to_string();
    assert!(error.contains("is not a record of inputs"), "{error}");
}

#[tokio::test]
#[ignore = "needs a registry: run tests/run.sh"]
async fn many_at_once_on_one_tag_all_succeed() {
    let registry = Registry::token("ci", "hunter2");
    let digest = registry.push("app", "1", &image("x"));
    let from = tagged(registry.host(), "app", "1");
    let to = repository(registry.host(), "copy");
    let mut pipelines = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (from, to) = (from.clone(), to.clone());
        pipelines.spawn(async move {
            // This registry shows half-written links while others write: patience helps.
            let client = patient("ci", "hunter2");
            client.copy(&from, &to, &[name("latest"), name("key")]).await
        });
    }
    for copied in pipelines.join_all().await {
        assert_eq!(copied.unwrap().to_string(), digest);
    }
    assert_eq!(registry.tags("copy"), ["key", "latest"]);
    assert_eq!(registry.digest("copy", "latest"), Some(digest));
}
