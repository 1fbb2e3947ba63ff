//! An API that is down, slow, wrong or unwilling: the time it may take, and the words.

use std::time::Duration;

use docker_credential_aliyun::sources::identity::TokenExchange;
use docker_credential_aliyun::{Environment, Host};
use jiff::{SignedDuration, Timestamp};
use smartbuild_test_rig::{Program, Work};

use crate::cloud::{Cloud, KEY_A, refusal};
use crate::http::Reply;
use crate::identities::PERSONAL;

fn get(cloud: &Cloud) -> Program {
    cloud
        .get(PERSONAL)
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", KEY_A.0)
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", KEY_A.1)
        // A deadline that is missed fails the test; it is 10 s, and the machine may be busy.
        .limit(Duration::from_secs(20))
}

/// What can go wrong, and a word of the sentence about it.
fn faults() -> Vec<(&'static str, Reply, &'static str)> {
    let too_many = Reply::text(429, "text/plain", "");
    let failed = serde_json::json!({"IsSuccess": false, "Code": "INSTANCE_NOT_EXIST"});
    vec![
        ("500", Reply::text(500, "text/plain", ""), "HTTP 500; try again later"),
        ("429", too_many.clone(), "HTTP 429; try again later"),
        ("429 for an hour", too_many.with("retry-after", "3600"), "HTTP 429; try again in 3600 s"),
        ("throttled", refusal(400, "Throttling.User", ""), "Throttling.User; try again later"),
        ("hang", Reply::Hang, "did not answer in time"),
        ("close", Reply::Close, "broke off"),
        ("HTML", Reply::text(200, "text/html", "<html>"), "a web page (HTTP 200)"),
        ("failed", Reply::json(200, &failed), "INSTANCE_NOT_EXIST; there is no such instance"),
        (
            "no token",
            Reply::json(200, &serde_json::json!({"IsSuccess": true})),
            "JSON of another shape",
        ),
    ]
}

#[test]
fn each_fault_has_its_sentence_before_the_deadline() {
    std::thread::scope(|scope| {
        for (name, fault, words) in faults() {
            scope.spawn(move || {
                let (cloud, work) = (Cloud::start(), Work::new());
                cloud.fail("GetAuthorizationToken", fault);
                let ran = work.run(get(&cloud)).exits(1);
                assert!(ran.stdout().contains(words), "{name}: {}", ran.stdout());
                assert_eq!(ran.stdout().lines().count(), 1, "{name}");
                assert!(ran.stdout().contains("ALIBABA_CLOUD_ACCESS_KEY_ID"), "{name}");
                assert!(ran.stderr().contains(words), "{name}: {}", ran.stderr());
                ran.hides(KEY_A.1);
            });
        }
    });
}

#[test]
fn a_token_that_is_still_good_stands_in_for_each_fault() {
    std::thread::scope(|scope| {
        for (name, fault, _) in faults() {
            scope.spawn(move || {
                let (cloud, work) = (Cloud::start(), Work::new());
                let first = work.run(get(&cloud)).success().json();
                cloud.fail("GetAuthorizationToken", fault);
                // The same machine, fifty minutes later.
                let machine = Environment::empty()
                    .with_home(work.home())
                    .with("DOCKER_CREDENTIAL_ALIYUN_CR_ENDPOINT", cloud.url())
                    .with("ALIBABA_CLOUD_STS_ENDPOINT", cloud.url())
                    .with("ALIBABA_CLOUD_ACCESS_KEY_ID", KEY_A.0)
                    .with("ALIBABA_CLOUD_ACCESS_KEY_SECRET", KEY_A.1);
                let exchange = TokenExchange::new(&machine)
                    .with_clock(|| Timestamp::now() + SignedDuration::from_mins(50));
                let host = Host::parse(PERSONAL).unwrap();
                let second = exchange.login(&host).unwrap().unwrap();
                assert_eq!(second.secret.expose(), first["Secret"], "{name}");
                assert!(cloud.count("GetAuthorizationToken") > 1, "{name}: it was tried");
                cloud.heal();
                let asked = cloud.calls().len();
                let third = exchange.login(&host).unwrap().unwrap();
                assert_eq!(
                    third.secret, second.secret,
                    "{name}: the API is left alone for a while"
                );
                assert_eq!(cloud.calls().len(), asked, "{name}");
            });
        }
    });
}

#[test]
fn a_fault_that_passes_is_not_seen() {
    let (cloud, work) = (Cloud::start(), Work::new());
    cloud
        .fail("GetAuthorizationToken", Reply::text(503, "text/plain", "").with("retry-after", "1"));
    let running = work.start(get(&cloud));
    while cloud.count("GetAuthorizationToken") == 0 {
        std::thread::yield_now();
    }
    cloud.heal();
    running.wait().success();
    assert_eq!(cloud.count("GetAuthorizationToken"), 2);
}

#[test]
fn refusals_say_what_to_do() {
    for (code, status, advice) in [
        ("USER_NOT_EXIST", 404, "set one in the console under Access Credential"),
        ("MissingSecurityToken", 400, "ALIBABA_CLOUD_SECURITY_TOKEN"),
        ("InvalidAction.NotFound", 404, "check the region"),
    ] {
        let (cloud, work) = (Cloud::start(), Work::new());
        cloud.fail("GetAuthorizationToken", refusal(status, code, "words of the API"));
        work.run(get(&cloud)).exits(1).says(&[code, "words of the API", advice, "[request R-1]"]);
        assert_eq!(cloud.count("GetAuthorizationToken"), 1, "{code} is not asked again");
    }
}

#[test]
fn a_missing_permission_names_the_statement_to_add() {
    let (cloud, work) = (Cloud::start(), Work::new());
    cloud.forbid();
    let statement = r#"{"Effect": "Allow", "Action": "cr:GetAuthorizationToken", "Resource": "*"}"#;
    work.run(get(&cloud)).exits(1).says(&["Forbidden.RAM", statement]);
}

#[test]
fn a_wrong_clock_is_told_by_how_much() {
    for (ahead, words) in [(61, "61 min behind"), (-125, "125 min ahead of")] {
        let (cloud, work) = (Cloud::start(), Work::new());
        // A margin, as the header has whole seconds.
        cloud.set_clock(
            SignedDuration::from_mins(ahead) + SignedDuration::from_secs(5 * ahead.signum()),
        );
        work.run(get(&cloud)).exits(1).says(&["InvalidTimeStamp.Expired", words]);
    }
}

#[test]
fn an_endpoint_that_is_not_there_is_named() {
    let work = Work::new();
    let gone = Cloud::start().url();
    let get = Program::helper(["get"])
        .input(PERSONAL)
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", KEY_A.0)
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", KEY_A.1)
        .env("DOCKER_CREDENTIAL_ALIYUN_CR_ENDPOINT", &gone);
    let host = gone.strip_prefix("http://").unwrap();
    work.run(get).exits(1).says(&[&format!("no connection to {host}")]);
}

#[test]
fn a_proxy_that_refuses_is_named() {
    let (proxy, work) = (Cloud::start(), Work::new());
    let get = Program::helper(["get"])
        .input(PERSONAL)
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", KEY_A.0)
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", KEY_A.1)
        .env("HTTPS_PROXY", proxy.url().replace("http://", "http://user:hunter2@"));
    let ran = work.run(get).exits(1).hides("hunter2");
    ran.says(&["through the proxy", &proxy.host()]);
}
