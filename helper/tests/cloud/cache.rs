//! The cache between processes.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use smartbuild_test_rig::{Program, Work};

use crate::cloud::{Cloud, KEY_A};
use crate::identities::{PERSONAL, is_not_found};

const CACHE: &str = "../home/.cache/docker-credential-aliyun";

fn get(cloud: &Cloud) -> Program {
    keyed(cloud.get(PERSONAL))
}

fn keyed(program: Program) -> Program {
    program
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", KEY_A.0)
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", KEY_A.1)
}

#[test]
fn fifty_at_once_make_one_call() {
    let (cloud, work) = (Cloud::start(), Work::new());
    let running: Vec<_> = (0..50).map(|_| work.start(get(&cloud))).collect();
    let secrets: Vec<_> =
        running.into_iter().map(|one| one.wait().success().json()["Secret"].clone()).collect();
    assert!(secrets.iter().all(|secret| *secret == secrets[0]));
    assert_eq!(cloud.calls(), ["GetAuthorizationToken by LTAI-a"]);
}

/// A number that is not the same every time, and is printed so that a failure can be looked into.
fn seed() -> u64 {
    let now = jiff::Timestamp::now().as_nanosecond() as u64;
    println!("seed {now}");
    now | 1
}

#[test]
fn killed_at_any_moment_the_cache_still_opens() {
    let (cloud, work) = (Cloud::start(), Work::new());
    // How long an undisturbed `get` takes here, so that the kills fall all over it.
    let begun = Instant::now();
    work.run(get(&cloud)).success();
    let whole = begun.elapsed().as_nanos() as u64;
    let mut random = seed();
    for round in 0..150 {
        if round % 3 == 0 {
            work.remove(CACHE);
        }
        let running: Vec<_> = (0..4).map(|_| work.start(get(&cloud))).collect();
        for one in &running {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let moment = Instant::now() + Duration::from_nanos(random % (whole / 2));
            while Instant::now() < moment {
                std::thread::yield_now();
            }
            one.signal("KILL");
        }
        drop(running.into_iter().map(smartbuild_test_rig::Running::wait).collect::<Vec<_>>());
        let secret = work.run(get(&cloud)).success().json()["Secret"].clone();
        let asked = cloud.calls().len();
        let again = work.run(get(&cloud)).success().json()["Secret"].clone();
        assert_eq!((secret, asked), (again, cloud.calls().len()), "round {round}");
    }
}

#[test]
fn a_cached_token_needs_no_network() {
    let (cloud, work) = (Cloud::start(), Work::new());
    let first = work.run(get(&cloud)).success().json();
    let asked = cloud.calls();
    // Nobody is asked: neither the API nor a proxy.
    let again = get(&cloud).env("HTTPS_PROXY", "http://127.0.0.1:1");
    assert_eq!(work.run(again).success().json()["Secret"], first["Secret"]);
    assert_eq!(cloud.calls(), asked);
    // Another endpoint may be another cloud, with tokens of its own.
    let elsewhere = get(&cloud).env("DOCKER_CREDENTIAL_ALIYUN_CR_ENDPOINT", "http://127.0.0.1:1");
    work.run(elsewhere).exits(1);
}

#[test]
fn what_is_corrected_in_the_configuration_counts_at_once() {
    let (cloud, work) = (Cloud::start(), Work::new());
    let user = |fields: &str| {
        let text = format!("[[registry]]\ndomains = ['{PERSONAL}']\n{fields}");
        work.write("../home/.config/docker-credential-aliyun/config.toml", text);
        work.run(get(&cloud)).success().json()["Username"].clone()
    };
    // The editions name the user differently.
    assert_eq!(user("instanceId = ''\n"), "cr_temp_user");
    assert_eq!(user("instanceId = 'cri-a'\n"), "temp_user_cr");
    assert_eq!(user("instanceId = 'cri-a'\nregionId = 'cn-beijing'\n"), "temp_user_cr");
    assert_eq!(user("instanceId = 'cri-a'\nvpc = true\n"), "temp_user_cr");
    assert_eq!(cloud.count("GetAuthorizationToken"), 4);
}

#[test]
fn a_logout_forgets_the_token_too() {
    let (cloud, work) = (Cloud::start(), Work::new());
    work.run(get(&cloud)).success();
    work.run(keyed(Program::helper(["erase"]).input(PERSONAL))).success();
    work.run(get(&cloud)).success();
    work.run(Program::helper(["logout", PERSONAL])).success();
    work.run(get(&cloud)).success();
    assert_eq!(cloud.count("GetAuthorizationToken"), 3);
}

#[test]
fn another_identity_or_host_is_another_token() {
    let (cloud, work) = (Cloud::start(), Work::new());
    let secret = |program: Program| work.run(program).success().json()["Secret"].clone();
    let mine = secret(get(&cloud));
    let beijing = secret(keyed(cloud.get("registry.cn-beijing.aliyuncs.com")));
    let role = "acs:ram::1:role/r-for-LTAI-a";
    let as_role = secret(get(&cloud).env("ALIBABA_CLOUD_ROLE_ARN", role));
    assert!(mine != beijing && mine != as_role && beijing != as_role);
    // A wrong secret must not get what the right one got.
    work.run(get(&cloud).env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "wrong")).exits(1);
}

#[test]
fn without_a_place_for_a_cache_each_call_asks() {
    for unset in ["HOME", "XDG_RUNTIME_DIR"] {
        let (cloud, work) = (Cloud::start(), Work::new());
        // The place exists and takes no files, whoever asks.
        let get = || get(&cloud).env("XDG_CACHE_HOME", "/proc/self").without_env(unset);
        work.run(get()).success();
        let ran = work.run(get()).success();
        assert_eq!(ran.stderr(), "");
        assert_eq!(cloud.count("GetAuthorizationToken"), 2);
    }
}

/// Every file below a directory.
fn files(directory: &Path) -> Vec<Vec<u8>> {
    fs::read_dir(directory)
        .unwrap()
        .flatten()
        .flat_map(|entry| {
            let path = entry.path();
            if path.is_dir() { files(&path) } else { vec![fs::read(path).unwrap()] }
        })
        .collect()
}

#[test]
fn no_file_holds_a_secret_in_the_clear() {
    let (cloud, work) = (Cloud::start(), Work::new());
    let token = work.run(get(&cloud)).success().json()["Secret"].as_str().unwrap().to_owned();
    let files = files(&work.home());
    assert!(!files.is_empty());
    for file in files {
        let holds = |secret: &str| file.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!holds(&token) && !holds(KEY_A.1) && !holds(KEY_A.0));
    }
}

#[test]
fn docker_logins_echo_is_accepted_and_not_kept() {
    let (cloud, work) = (Cloud::start(), Work::new());
    let answer = work.run(get(&cloud)).success().stdout().to_owned();
    let store = Program::helper(["store"]).input(answer);
    let ran = work.run(keyed(store)).success();
    assert_eq!((ran.stdout(), ran.stderr()), ("", ""));
    // Without the identity there is nothing left to answer with.
    is_not_found(&work.run(Program::helper(["get"]).input(PERSONAL)));
}

#[test]
fn a_token_that_a_person_got_by_hand_is_kept_where_there_is_no_identity() {
    let (cloud, work) = (Cloud::start(), Work::new());
    let answer = work.run(get(&cloud)).success().stdout().to_owned();
    let elsewhere = Work::new();
    let with_store = |program: Program| program.env("DOCKER_CREDENTIAL_ALIYUN_KEY", "1".repeat(64));
    elsewhere.run(with_store(Program::helper(["store"]).input(answer.clone()))).success();
    let kept = elsewhere.run(with_store(Program::helper(["get"]).input(PERSONAL))).success();
    assert_eq!(kept.stdout(), answer);
}
