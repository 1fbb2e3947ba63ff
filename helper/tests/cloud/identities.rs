//! Every identity, through the real program.

use serde_json::json;
use smartbuild_test_rig::{Program, Ran, Work};

use crate::cloud::{Cloud, KEY_A, KEY_B, OIDC_TOKEN, SSO_TOKEN, machines, profiles};
use crate::http::Reply;

/// The personal edition's host in a region; nobody has configured anything about it.
pub(crate) const PERSONAL: &str = "registry.cn-hangzhou.aliyuncs.com";

/// The protocol's everyday answer: there is nothing for this host.
pub(crate) fn is_not_found(ran: &Ran) {
    let answer = (ran.code(), ran.stdout(), ran.stderr());
    assert_eq!(answer, (1, "credentials not found in native keychain\n", ""));
}

#[test]
fn each_identity_gets_a_login() {
    for machine in machines() {
        println!("{}", machine.name);
        let (cloud, work) = (Cloud::start(), Work::new());
        (machine.files)(&work, &cloud);
        let ran = work.run((machine.variables)(cloud.get(PERSONAL), &cloud)).success();
        assert_eq!(ran.json()["Username"], "cr_temp_user");
        assert_eq!(ran.stderr(), "");
        let by = format!("GetAuthorizationToken by {}", machine.caller);
        assert_eq!(cloud.calls().last(), Some(&by));
        for secret in [KEY_A.1, OIDC_TOKEN, SSO_TOKEN] {
            assert!(!ran.stdout().contains(secret));
        }
    }
}

#[test]
fn a_machine_without_identity_is_not_found() {
    let cloud = Cloud::start();
    is_not_found(&Work::new().run(cloud.get(PERSONAL)));
    assert_eq!(cloud.calls(), Vec::<String>::new());
}

/// Two profiles in one file.
fn two_accounts(work: &Work) {
    profiles(
        work,
        &json!([
            {"name": "a", "mode": "AK", "access_key_id": KEY_A.0, "access_key_secret": KEY_A.1},
            {"name": "b", "mode": "AK", "access_key_id": KEY_B.0, "access_key_secret": KEY_B.1},
        ]),
    );
}

#[test]
fn a_variable_or_the_configuration_chooses_the_profile() {
    let (cloud, work) = (Cloud::start(), Work::new());
    two_accounts(&work);
    work.run(cloud.get(PERSONAL)).success();
    work.run(cloud.get(PERSONAL).env("ALIBABA_CLOUD_PROFILE", "b")).success();
    work.write(
        "../home/.config/docker-credential-aliyun/config.toml",
        "[[registry]]\ndomains = ['*.cn-beijing.aliyuncs.com']\nprofile = 'b'\n\
         roleArn = 'acs:ram::1:role/guarded-for-LTAI-b'\nexternalId = 'agreed'\n",
    );
    work.run(cloud.get("registry.cn-beijing.aliyuncs.com")).success();
    assert_eq!(
        cloud.calls(),
        [
            "GetAuthorizationToken by LTAI-a",
            "GetAuthorizationToken by LTAI-b",
            "AssumeRole by LTAI-b",
            "GetAuthorizationToken by STS.guarded-for-LTAI-b-of-b",
        ]
    );
}

#[test]
fn what_is_configured_and_broken_ends_the_search() {
    // Behind each of these stands a profile that works.
    type Breakage = (&'static str, fn(Program, &Cloud) -> Program, &'static str);
    let breakages: [Breakage; 7] = [
        (
            "half a key",
            |program, _| program.env("ALIBABA_CLOUD_ACCESS_KEY_ID", "x"),
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
        ),
        (
            "an unknown key",
            |program, _| {
                program
                    .env("ALIBABA_CLOUD_ACCESS_KEY_ID", "x")
                    .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "hunter2")
            },
            "there is no such access key",
        ),
        (
            "a wrong secret",
            |program, _| {
                program
                    .env("ALIBABA_CLOUD_ACCESS_KEY_ID", KEY_A.0)
                    .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "hunter2")
            },
            "does not belong to the access key id",
        ),
        (
            "a role that is not to be taken",
            |program, _| {
                program
                    .env("ALIBABA_CLOUD_ACCESS_KEY_ID", KEY_A.0)
                    .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", KEY_A.1)
                    .env("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/r-for-nobody")
            },
            "trust policy",
        ),
        (
            "a token that the provider does not accept",
            |program, _| {
                program
                    .env("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/ci")
                    .env("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "acs:ram::1:oidc-provider/ci")
                    .env("ALIBABA_CLOUD_OIDC_TOKEN", "hunter2")
            },
            "issuer, audience",
        ),
        (
            "a profile that is not there",
            |program, _| program.env("ALIBABA_CLOUD_PROFILE", "gone"),
            "no profile `gone`",
        ),
        (
            "an endpoint that is none",
            |program, _| program.env("ALIBABA_CLOUD_STS_ENDPOINT", "ftp://sts"),
            "ftp://sts",
        ),
    ];
    for (name, breakage, words) in breakages {
        println!("{name}");
        let (cloud, work) = (Cloud::start(), Work::new());
        two_accounts(&work);
        let ran = work.run(breakage(cloud.get(PERSONAL), &cloud)).exits(1);
        assert!(ran.stdout().contains(words), "{}", ran.stdout());
        assert_eq!(ran.stdout().lines().count(), 1);
        assert!(ran.stderr().contains(words));
        ran.hides("hunter2");
        assert_eq!(cloud.count("GetAuthorizationToken by"), 0);
    }
}

#[test]
fn what_a_command_prints_is_repeated_nowhere() {
    for script in ["echo hunter2; echo hunter2 >&2", "echo hunter2; exit 3", "echo '{\"hunter2\":'"]
    {
        let (cloud, work) = (Cloud::start(), Work::new());
        work.write("../home/keys", format!("#!/bin/sh\n{script}\n")).chmod("../home/keys", 0o755);
        let command = work.home().join("keys");
        profiles(&work, &json!([{"name": "x", "mode": "External", "process_command": command}]));
        let ran = work.run(cloud.get(PERSONAL)).exits(1).hides("hunter2");
        assert!(ran.stdout().contains("profile `x`"), "{}", ran.stdout());
    }
}

#[test]
fn a_circle_of_profiles_is_told() {
    let (cloud, work) = (Cloud::start(), Work::new());
    let link = |name: &str, source: &str| json!({"name": name, "mode": "ChainableRamRoleArn", "source_profile": source, "ram_role_arn": "r"});
    profiles(&work, &json!([link("a", "b"), link("b", "a")]));
    work.run(cloud.get(PERSONAL)).exits(1).says(&["a -> b -> a"]);
}

#[test]
fn a_login_that_is_over_says_how_to_sign_in_again() {
    let (cloud, work) = (Cloud::start(), Work::new());
    let profile = |ends: i64| {
        json!([{
            "name": "sso", "mode": "CloudSSO", "cloud_sso_sign_in_url": cloud.url(),
            "cloud_sso_account_id": "1", "cloud_sso_access_config": "ac-1",
            "access_token": "revoked", "cloud_sso_access_token_expire": ends,
        }])
    };
    let again = "aliyun configure --profile sso --mode CloudSSO";
    profiles(&work, &profile(1));
    work.run(cloud.get(PERSONAL)).exits(1).says(&[again]);
    assert_eq!(cloud.count("CloudSSO"), 0);
    profiles(&work, &profile(i64::MAX));
    work.run(cloud.get(PERSONAL)).exits(1).says(&[again]).hides("revoked");
}

#[test]
fn metadata_never_goes_through_a_proxy() {
    let (cloud, proxy, work) = (Cloud::start(), Cloud::start(), Work::new());
    let get = cloud
        .get(PERSONAL)
        .env("ALIBABA_CLOUD_ECS_METADATA", "instance-role")
        .env("HTTP_PROXY", proxy.url())
        .env("http_proxy", proxy.url())
        .env("ALL_PROXY", proxy.url());
    work.run(get).success();
    assert_eq!(proxy.calls(), Vec::<String>::new());
}

#[test]
fn an_instance_without_the_role_says_so() {
    let (cloud, work) = (Cloud::start(), Work::new());
    cloud.set_instance_role(None);
    let get = || cloud.get(PERSONAL).env("ALIBABA_CLOUD_ECS_METADATA", "wished-for");
    work.run(get()).exits(1).says(&["no RAM role `wished-for`"]);
    is_not_found(&work.run(get().env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")));
}

#[test]
fn a_uri_that_is_down_is_named_and_its_words_are_not() {
    let (cloud, work) = (Cloud::start(), Work::new());
    let get = || {
        let uri = cloud.url() + "/keys?key=hunter2";
        cloud.get(PERSONAL).env("ALIBABA_CLOUD_CREDENTIALS_URI", uri)
    };
    for fault in [
        Reply::text(500, "text/plain", "hunter2"),
        Reply::text(200, "text/html", "hunter2"),
        Reply::Close,
    ] {
        cloud.fail("credentials URI", fault);
        let ran = work.run(get()).exits(1).says(&["ALIBABA_CLOUD_CREDENTIALS_URI"]);
        ran.hides("hunter2");
    }
}
