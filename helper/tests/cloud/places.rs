//! Editions, regions, instances, networks: where a login is asked for.

use serde_json::json;
use smartbuild_test_rig::{Program, Work};

use crate::cloud::{Cloud, KEY_A};
use crate::http::Reply;
use crate::identities::{PERSONAL, is_not_found};

/// A machine with the key of account `a` and this configuration file.
fn machine(config: &str) -> Work {
    let work = Work::new();
    work.write("../home/.config/docker-credential-aliyun/config.toml", config);
    work
}

fn keyed(program: Program) -> Program {
    program
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", KEY_A.0)
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", KEY_A.1)
}

/// The calls that a `get` makes, without who made them, and the user name that it gives.
fn calls(cloud: &Cloud, work: &Work, host: &str) -> (Vec<String>, String) {
    let ran = work.run(keyed(cloud.get(host))).success();
    let calls = cloud.calls().iter().map(|call| call.replace(" by LTAI-a", "")).collect();
    (calls, ran.json()["Username"].as_str().unwrap().to_owned())
}

const ASK: &str = "GetAuthorizationToken";

#[test]
fn both_editions_are_known_by_their_hosts() {
    let cloud = Cloud::start();
    let personal = calls(&cloud, &Work::new(), PERSONAL);
    assert_eq!(personal, (vec![ASK.to_owned()], "cr_temp_user".to_owned()));
    let cloud = Cloud::start();
    let new = calls(&cloud, &Work::new(), "crpi-abc123.cn-hangzhou.personal.cr.aliyuncs.com");
    assert_eq!(new, (vec![ASK.to_owned()], "cr_temp_user".to_owned()));
    let cloud = Cloud::start();
    let enterprise = calls(&cloud, &Work::new(), "team-a-registry.cn-hangzhou.cr.aliyuncs.com");
    assert_eq!(enterprise.0, ["ListInstance", ASK]);
    assert_eq!(enterprise.1, "temp_user_cr");
}

#[test]
fn an_instance_is_found_on_any_page() {
    let cloud = Cloud::start();
    cloud.set_crowd(75);
    let found = calls(&cloud, &Work::new(), "team-a-registry.cn-hangzhou.cr.aliyuncs.com");
    assert_eq!(found.0, ["ListInstance", "ListInstance", "ListInstance", ASK]);
}

#[test]
fn an_instance_of_somebody_else_is_told_with_the_ways_out() {
    let cloud = Cloud::start();
    let host = "team-b-registry.cn-hangzhou.cr.aliyuncs.com";
    let ran = Work::new().run(keyed(cloud.get(host))).exits(1);
    ran.says(&["no instance for team-b-registry", "roleArn", "anonymous = true"]);
    let public = machine(&format!("[[registry]]\ndomains = ['{host}']\nanonymous = true\n"));
    is_not_found(&public.run(keyed(cloud.get(host))));
}

#[test]
fn a_configured_instance_needs_no_search() {
    let cloud = Cloud::start();
    let host = "registry.example.com";
    let work = machine(&format!(
        "[[registry]]\ndomains = ['{host}']\ninstanceId = 'cri-a'\nregionId = 'cn-hangzhou'\n"
    ));
    assert_eq!(calls(&cloud, &work, host), (vec![ASK.to_owned()], "temp_user_cr".to_owned()));
}

#[test]
fn a_configured_host_is_asked_who_it_is() {
    let cloud = Cloud::start();
    let host = cloud.host();
    let work = machine(&format!("[[registry]]\ndomains = ['{host}']\n"));
    let enterprise = calls(&cloud, &work, &host);
    assert_eq!(enterprise.0, ["challenge", ASK]);
    assert_eq!(enterprise.1, "temp_user_cr");
    let cloud = Cloud::start();
    cloud.set_service("registry.aliyuncs.com:cn-hangzhou:26842");
    let host = cloud.host();
    let work = machine(&format!("[[registry]]\ndomains = ['{host}']\n"));
    assert_eq!(calls(&cloud, &work, &host).1, "cr_temp_user");
}

#[test]
fn a_host_that_nobody_configured_is_asked_nothing() {
    let cloud = Cloud::start();
    let host = cloud.host();
    is_not_found(&Work::new().run(keyed(cloud.get(&host))));
    assert_eq!(cloud.calls(), Vec::<String>::new());
}

#[test]
fn a_domain_of_ones_own_is_found_among_the_instances() {
    let cloud = Cloud::start();
    cloud.set_service("something else");
    // Nobody answers at this name, so only the API can tell.
    let host = "cri-a.example.com";
    let work = machine(&format!("[[registry]]\ndomains = ['{host}']\nregionId = 'cn-hangzhou'\n"));
    let found = calls(&cloud, &work, host);
    assert_eq!(found.0, ["ListInstance", "ListInstanceEndpoint", ASK]);
}

#[test]
fn a_host_without_region_says_what_to_set() {
    let cloud = Cloud::start();
    cloud.set_service("something else");
    let host = cloud.host();
    let work = machine(&format!("[[registry]]\ndomains = ['{host}']\n"));
    let ran = work.run(keyed(cloud.get(&host))).exits(1);
    ran.says(&["regionId"]);
}

#[test]
fn a_registry_cannot_send_the_keys_elsewhere() {
    let cloud = Cloud::start();
    let host = cloud.host();
    let work = machine(&format!("[[registry]]\ndomains = ['{host}']\n"));
    for service in
        ["registry.aliyuncs.com:attacker.example/x:china:cri-a", "registry.aliyuncs.com:evil:1"]
    {
        cloud.set_service(service);
        let get = keyed(Program::helper(["get"]).input(&*host)).env("HTTPS_PROXY", cloud.url());
        work.run(get).exits(1).says(&["the region of", "regionId"]);
    }
    assert_eq!(cloud.calls(), ["challenge", "challenge"]);
}

#[test]
fn a_list_names_the_configured_hosts_that_have_an_identity() {
    let cloud = Cloud::start();
    let work = machine(
        "[[registry]]\ndomains = ['r.example.com', '*.cr.example.com']\n\
         [[registry]]\ndomains = ['public.example.com']\nanonymous = true\n",
    );
    let list = |program: Program| work.run(program).success().json();
    assert_eq!(list(keyed(Program::helper(["list"]))), json!({"r.example.com": ""}));
    assert_eq!(list(Program::helper(["list"])), json!({}));
    assert_eq!(cloud.calls(), Vec::<String>::new());
}

#[test]
fn a_broken_configuration_is_told_with_its_line() {
    let cloud = Cloud::start();
    let work = machine("[[registry]]\ndomain = ['r.example.com']\n");
    work.run(keyed(cloud.get(PERSONAL))).exits(1).says(&["config.toml", "line"]);
    // Somebody else's registry is none of its business; the person is told all the same.
    let ran = work.run(keyed(cloud.get("ghcr.io"))).exits(1);
    assert_eq!(ran.stdout(), "credentials not found in native keychain\n");
    let warning = "docker-credential-aliyun: warning: ";
    assert!(ran.stderr().starts_with(warning) && ran.stderr().contains("config.toml"));
}

/// Which of the vendor's hosts is called, as a proxy sees it.
fn called(host: &str, more: fn(Program) -> Program) -> (Vec<String>, String) {
    let proxy = Cloud::start();
    let get = more(keyed(Program::helper(["get"]).input(host)).env("HTTPS_PROXY", proxy.url()));
    let ran = Work::new().run(get).exits(1);
    let mut calls: Vec<_> = proxy.calls().iter().map(|call| call.replace(" refused", "")).collect();
    calls.dedup();
    (calls, ran.stdout().to_owned())
}

#[test]
fn a_proxy_is_used_for_what_is_no_exception() {
    let cloud = Cloud::start();
    cloud.fail("CONNECT cr.private.example:80", Reply::Tunnel);
    let get = || {
        keyed(Program::helper(["get"]).input(PERSONAL))
            .env("DOCKER_CREDENTIAL_ALIYUN_CR_ENDPOINT", "http://cr.private.example")
            .env("http_proxy", cloud.url())
    };
    Work::new().run(get()).success();
    let through = ["CONNECT cr.private.example:80", "GetAuthorizationToken by LTAI-a"];
    assert_eq!(cloud.calls(), through);
    let excepted = get().env("no_proxy", "private.example");
    Work::new().run(excepted).exits(1).says(&["the host name cr.private.example has no address"]);
    assert_eq!(cloud.calls(), through);
}

#[test]
fn hosts_inside_a_vpc_call_endpoints_inside_the_vpc() {
    let same = |program| program;
    let (calls, _) = called("registry.cn-beijing.aliyuncs.com", same);
    assert_eq!(calls, ["CONNECT cr.cn-beijing.aliyuncs.com:443"]);
    let (calls, words) = called("registry-vpc.cn-beijing.aliyuncs.com", same);
    assert_eq!(calls, ["CONNECT cr-vpc.cn-beijing.aliyuncs.com:443"]);
    assert!(words.contains("only inside a VPC"), "{words}");
    let role = |program: Program| program.env("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/r");
    let (calls, _) = called("registry-vpc.cn-beijing.aliyuncs.com", role);
    assert_eq!(calls, ["CONNECT sts-vpc.cn-beijing.aliyuncs.com:443"]);
    let (calls, _) = called("registry.cn-beijing.aliyuncs.com", role);
    assert_eq!(calls, ["CONNECT sts.aliyuncs.com:443"]);
}
