//! The table of faults: at every step of a conversation, everything that can go wrong. What the
//! user is told, that it ends, and that the next run mends it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use smartbuild::{
    credentials::Anonymous,
    registry::{Client, Config, Error, Retries, Timeouts},
};
use smartbuild_test_rig::{Front, Image, Registry, Rule, unique};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{anonymous, hasty, name, repository, tagged};

/// A step of a hit or a miss.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    LookUp,
    ReadManifest,
    ReadBlob,
    StartUpload,
    Upload,
    PutTag,
}

const STEPS: [Step; 6] = [
    Step::LookUp,
    Step::ReadManifest,
    Step::ReadBlob,
    Step::StartUpload,
    Step::Upload,
    Step::PutTag,
];

impl Step {
    /// The requests that it makes.
    fn requests(self) -> (&'static str, &'static str) {
        match self {
            Self::LookUp => ("HEAD", "/v2/**/manifests/*"),
            Self::ReadManifest => ("GET", "/v2/**/manifests/*"),
            Self::ReadBlob => ("GET", "/v2/**/blobs/*"),
            Self::StartUpload => ("POST", "/v2/**/blobs/uploads/"),
            Self::Upload => ("PUT", "/v2/**/blobs/uploads/*"),
            Self::PutTag => ("PUT", "/v2/**/manifests/*"),
        }
    }

    fn reads(self) -> bool {
        matches!(self, Self::ReadManifest | Self::ReadBlob)
    }

    /// A hit and a miss in small; everything but this step is known to pass.
    async fn run(self, client: &Client, host: &str, path: &str) -> Result<bool, Error> {
        let reference = tagged(host, path, "1");
        let app = &reference.repository;
        match self {
            Self::LookUp => Ok(client.resolve(&reference).await?.is_some()),
            Self::ReadManifest => Ok(client.manifest(&reference).await?.is_some()),
            Self::ReadBlob => {
                let manifest = client.manifest(&reference).await?.expect("it is there");
                let config = &manifest.image().expect("it is an image").config;
                client.blob(app, config, 1 << 20).await.map(|_| true)
            }
            Self::StartUpload | Self::Upload => {
                let content = Bytes::from(unique("content"));
                client.upload_blob(app, "x", content).await.map(|_| true)
            }
            Self::PutTag => {
                let manifest = client.manifest(&reference).await?.expect("it is there");
                client.put_tags(app, &manifest, &[name("2")]).await.map(|_| true)
            }
        }
    }
}

struct Case {
    fault: &'static str,
    rule: Rule,
    steps: Vec<Step>,
    /// What the user reads.
    says: &'static str,
}

fn cases() -> Vec<Case> {
    let status = |code: u16| {
        let body = r#"{"errors":[{"code":"X","message":"the reason"}]}"#;
        Rule::status(code).body(body)
    };
    let case = |fault, rule, says| Case { fault, rule, steps: STEPS.to_vec(), says };
    let reading = |fault, rule, says| {
        let steps = STEPS.into_iter().filter(|step| step.reads()).collect();
        Case { fault, rule, steps, says }
    };
    vec![
        case("401", status(401), "wants a login, and none was found"),
        case("403", status(403), "does not allow it without a login"),
        case("429", status(429), "too many requests"),
        case("500", status(500), "has trouble of its own (status 500)"),
        case("502", status(502), "has trouble of its own (status 502)"),
        case("503", status(503), "has trouble of its own (status 503)"),
        case("reset", Rule::reset(), "broke"),
        reading("truncated", Rule::truncate(10), "broke"),
        reading("other content", Rule::corrupt(), "sent other content than sha256:"),
    ]
}

/// Runs every case at every step, each on a front of its own.
async fn every_case(cases: Vec<Case>, check: impl AsyncFn(&Case, Step, &Front, &str)) {
    let registry = Registry::open();
    let mut runs = Vec::new();
    for case in &cases {
        for step in &case.steps {
            let path = unique("app");
            registry.push(&path, "1", &Image::scratch());
            let front = Front::before(&registry);
            let (method, pattern) = step.requests();
            front.on(method, pattern, case.rule.clone());
            let check = &check;
            runs.push(async move { check(case, *step, &front, &path).await });
        }
    }
    join_all(runs).await;
}

#[tokio::test]
#[ignore = "needs a registry: run tests/run.sh"]
async fn a_lasting_fault_is_told_clearly_and_the_next_run_mends_it() {
    every_case(cases(), async |case, step, front, path| {
        let label = format!("{} at {step:?}", case.fault);
        let host = front.host();
        let error = step.run(&anonymous(), &host, path).await.expect_err(&label);
        let text = error.to_string();
        assert!(text.contains(case.says), "{label}: {text}");
        assert!(text.starts_with("cannot ") && text.contains(&host), "{label}: {text}");
        let explained = matches!(case.fault, "403" | "500" | "502" | "503");
        if explained && step != Step::LookUp {
            assert!(text.ends_with("it says: the reason"), "{label}: {text}");
        }
        front.heal();
        assert!(step.run(&anonymous(), &host, path).await.expect(&label), "{label}");
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a registry: run tests/run.sh"]
async fn a_passing_fault_is_not_even_seen() {
    let passing = |case: &Case| !matches!(case.fault, "401" | "403" | "other content");
    let cases = cases()
        .into_iter()
        .filter(passing)
        .map(|case| Case { rule: case.rule.clone().times(2), ..case });
    every_case(cases.collect(), async |case, step, front, path| {
        let label = format!("{} at {step:?}", case.fault);
        let client = anonymous();
        assert!(step.run(&client, &front.host(), path).await.expect(&label), "{label}");
        assert_eq!(client.statistics().retries, 2, "{label}");
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a registry: run tests/run.sh"]
async fn silence_ends_in_an_error() {
    let limit = Duration::from_secs(2);
    let silences = vec![
        Case {
            fault: "no answer",
            rule: Rule::hang(),
            steps: STEPS.to_vec(),
            says: "did not answer for 2 s",
        },
        Case {
            fault: "half an answer",
            rule: Rule::stall(10),
            steps: STEPS.into_iter().filter(|step| step.reads()).collect(),
            says: "stopped in the middle of its answer for 2 s",
        },
    ];
    every_case(silences, async |case, step, front, path| {
        let label = format!("{} at {step:?}", case.fault);
        let config = Config {
            retries: Retries { attempts: 1, ..Retries::default() },
            timeouts: Timeouts { answer: limit, idle: limit, ..hasty().timeouts },
            ..hasty()
        };
        let client = Client::new(config, Arc::new(Anonymous));
        let text = step.run(&client, &front.host(), path).await.expect_err(&label).to_string();
        assert!(text.contains(case.says), "{label}: {text}");
    })
    .await;
}

#[tokio::test]
async fn a_slow_loris_is_not_waited_for() {
    // It sends a byte often enough not to be silent, and is never done.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _request = stream.read(&mut [0; 4096]).await?;
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4000000\r\n\r\n").await?;
                loop {
                    stream.write_all(b" ").await?;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                #[expect(unreachable_code, reason = "it says what the block gives")]
                std::io::Result::Ok(())
            });
        }
    });
    let timeouts = Timeouts { document: Duration::from_secs(1), ..hasty().timeouts };
    let retries = Retries { attempts: 1, ..Retries::default() };
    let config = Config { timeouts, retries, ..hasty() };
    let client = Client::new(config, Arc::new(Anonymous));
    let error = client.manifest(&tagged(&address.to_string(), "app", "1")).await.unwrap_err();
    assert!(error.to_string().contains("did not finish its answer for 1 s"), "{error}");
}

#[tokio::test]
#[ignore = "needs a registry: run tests/run.sh"]
async fn a_server_that_names_a_time_is_waited_for() {
    let registry = Registry::open();
    registry.push("app", "1", &Image::scratch());
    let front = Front::before(&registry);
    let reference = tagged(&front.host(), "app", "1");
    front.on("GET", "/v2/**/manifests/*", Rule::status(429).header("retry-after", "1").times(1));
    assert!(anonymous().manifest(&reference).await.unwrap().is_some());
    front.on("GET", "/v2/**/manifests/*", Rule::status(429).header("retry-after", "7200"));
    let error = anonymous().manifest(&reference).await.unwrap_err().to_string();
    assert!(error.ends_with("too many requests; try again in 7200 s"), "{error}");
    assert_eq!(front.count("GET", "/v2/**/manifests/*"), 3);
}

#[tokio::test]
#[ignore = "needs a registry: run tests/run.sh"]
async fn what_has_gone_missing_is_named() {
    let registry = Registry::open();
    registry.push("app", "1", &Image::scratch());
    let front = Front::before(&registry);
    front.on("GET", "/v2/**/blobs/*", Rule::status(404));
    let app = repository(&front.host(), "app");
    let client = anonymous();
    let manifest = client.manifest(&app.tagged(name("1"))).await.unwrap().unwrap();
    let config = &manifest.image().unwrap().config;
    let error = client.blob(&app, config, 1 << 20).await.unwrap_err().to_string();
    assert!(error.contains(&config.digest.to_string()), "{error}");
    assert!(error.contains("does not have it"), "{error}");
}
