//! Deleting images of old keys: nothing goes that any name leads to.

use std::sync::Arc;

use bytes::Bytes;
use smartbuild::{
    credentials::Anonymous,
    registry::{Client, Config, Digest, Record, Repository},
};
use smartbuild_test_rig::{Front, Image, Program, Ran, Registry, Rule, Work, unique};

/// A repository with images of keys that are old, behind a front.
struct Old {
    registry: Registry,
    front: Front,
    work: Work,
    path: String,
}

impl Old {
    fn new() -> Self {
        let registry = Registry::open();
        let front = Front::before(&registry);
        Self { registry, front, work: Work::new(), path: unique("app") }
    }

    /// An image under a key, and its record of long ago; gives its digest.
    async fn image(&self, number: u8) -> String {
        let digest = self.registry.push(&self.path, &key(number), &image(number));
        self.record(number, &digest).await;
        digest
    }

    async fn record(&self, number: u8, image: &str) {
        let client = Client::new(Config::default(), Arc::new(Anonymous));
        let home: Repository = self.registry.name(&self.path).parse().unwrap();
        let record = Record {
            image: image.parse::<Digest>().unwrap(),
            created: "2020-01-01T00:00:00Z".to_owned(),
            notes: [].into(),
            inputs: Bytes::from_static(b"inputs"),
        };
        client.put_record(&home, &key(number).parse().unwrap(), &record).await.unwrap();
    }

    fn program(&self) -> Program {
        let name = format!("{}/{}", self.front.host(), self.path);
        Program::smartbuild(["prune", &name, "--keep=0"])
    }

    fn prune(&self) -> Ran {
        self.work.run(self.program())
    }

    fn tags(&self) -> Vec<String> {
        self.registry.tags(&self.path)
    }

    fn has(&self, digest: &str) -> bool {
        self.registry.digest(&self.path, digest).is_some()
    }
}

fn key(number: u8) -> String {
    format!("sb1-{}", hex::encode([number; 32]))
}

fn image(number: u8) -> Image {
    Image::scratch().files(&[("own", &number.to_string())])
}

#[tokio::test]
#[ignore = "needs docker-registry: run tests/run.sh"]
async fn what_is_old_goes_with_its_record_and_a_tag_that_ends_like_a_record_is_a_name() {
    let old = Old::new();
    let (gone, named) = (old.image(1).await, old.image(2).await);
    old.registry.push(&old.path, "v1.inputs", &image(2));
    old.prune().success().says(&["deleted 1 of 2 images"]);
    assert_eq!((old.has(&gone), old.has(&named)), (false, true));
    assert_eq!(old.tags(), [key(2), format!("{}.inputs", key(2)), "v1.inputs".to_owned()]);
}

#[tokio::test]
#[ignore = "needs docker-registry: run tests/run.sh"]
async fn a_name_that_is_given_while_it_runs_is_seen() {
    let old = Old::new();
    let digests = [old.image(1).await, old.image(2).await];
    // It has decided, and looks once more.
    old.front.on("GET", "/v2/*/tags/list", Rule::hang().skip(1));
    let mut running = old.work.start(old.program());
    assert!(old.front.wait_for_parked(|| !running.is_running()));
    old.registry.push(&old.path, "release", &image(1));
    old.front.heal();
    let ran = running.wait().success().says(&["deleted 1 of 2 images"]);
    assert!(ran.stdout().contains("kept: release"), "{}", ran.text());
    assert_eq!(digests.map(|digest| old.has(&digest)), [true, false]);
}

#[tokio::test]
#[ignore = "needs docker-registry: run tests/run.sh"]
async fn what_an_index_in_an_index_names_stays() {
    let old = Old::new();
    let image = old.image(1).await;
    let other = old.image(2).await;
    // An index below the one that the tag points at, which are both read by us only.
    let index = |digest: &str, kind: &str| {
        let kind = format!("application/vnd.oci.image.{kind}.v1+json");
        format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{kind}","digest":"{digest}","size":1}}]}}"#
        )
    };
    let inner = index(&image, "manifest");
    let inner_digest = smartbuild_test_rig::sha256(inner.as_bytes());
    let outer = index(&inner_digest, "index");
    let oci = |body: String| {
        Rule::status(200)
            .header("content-type", "application/vnd.oci.image.index.v1+json")
            .body(body)
    };
    old.registry.push(&old.path, "nested", &Image::scratch());
    old.front.on("GET", "/v2/*/manifests/nested", oci(outer.clone()));
    old.front.on("HEAD", "/v2/*/manifests/nested", oci(outer));
    old.front.on("GET", &format!("/v2/*/manifests/{inner_digest}"), oci(inner));
    old.prune().success().says(&["deleted 1 of 2 images"]);
    assert_eq!((old.has(&image), old.has(&other)), (true, false));
}

#[tokio::test]
#[ignore = "needs docker-registry: run tests/run.sh"]
async fn what_cannot_be_read_leads_to_every_digest_in_it() {
    let old = Old::new();
    let digest = old.image(1).await;
    old.registry.push(&old.path, "strange", &Image::scratch());
    let strange = Rule::status(200).header("content-type", "application/vnd.strange.v9+json");
    let strange = strange.body(format!(r#"{{"schemaVersion":9,"x":["{digest}"]}}"#));
    old.front.on("GET", "/v2/*/manifests/strange", strange);
    let ran = old.prune().success().says(&["deleted 0 of 1 images"]);
    assert!(ran.stdout().contains("kept: strange"), "{}", ran.text());
}

#[tokio::test]
#[ignore = "needs docker-registry: run tests/run.sh"]
async fn a_record_whose_image_is_gone_goes_too() {
    let old = Old::new();
    let digest = old.image(1).await;
    // Interrupted between the image and its record.
    old.registry.delete(&old.path, &digest);
    assert_eq!(old.tags(), [format!("{}.inputs", key(1))]);
    old.prune().success().says(&["whose image is gone"]);
    assert_eq!(old.tags(), [""; 0]);
}

#[tokio::test]
#[ignore = "needs docker-registry: run tests/run.sh"]
async fn a_registry_that_cannot_prune_says_why() {
    let old = Old::new();
    old.prune().exits(3).says(&["cannot list the tags of", "does not have it"]);
    let digest = old.image(1).await;
    old.front.on("DELETE", "/v2/**", Rule::status(405));
    old.prune().exits(3).says(&["deletion has to be enabled there"]);
    assert!(old.has(&digest));
}
