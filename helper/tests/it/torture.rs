//! Eight processes at a time on one encrypted file, killed whenever it pleases chance.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;
use smartbuild_test_rig::{Program, Work};

/// How many calls each of the writers makes.
const CALLS: usize = 125;
const WRITERS: usize = 8;

/// How long a call is left alone at first, at most. Then it follows what calls take on this
/// machine, so that about half of them live.
const PATIENCE: Duration = Duration::from_millis(20);

fn random() -> u32 {
    let mut bytes = [0; 4];
    SystemRandom::new().fill(&mut bytes).unwrap();
    u32::from_le_bytes(bytes)
}

/// What is known of the one entry that a writer has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Known {
    /// What the last acknowledged call left.
    sure: Option<usize>,
    /// What a killed call may have left instead.
    perhaps: Option<Option<usize>>,
}

/// Runs a verb, and kills it after a while; whether it was acknowledged.
fn call(work: &Work, verb: &str, input: &str, patience: Duration) -> bool {
    let program = std::env::current_exe().unwrap();
    let program = program.ancestors().nth(2).unwrap().join("docker-credential-aliyun");
    let mut child = Command::new(program)
        .arg(verb)
        .env_clear()
        .env("HOME", work.home())
        .env("DOCKER_CREDENTIAL_ALIYUN_KEY_FILE", work.join("key"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It need not live to read it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    thread::sleep(patience.mul_f64(f64::from(random()) / f64::from(u32::MAX)));
    child.kill().unwrap();
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    let status = child.wait().unwrap();
    // Killed, or done; never a failure of its own.
    assert!(status.success() || status.code().is_none(), "{verb}: {said}");
    status.success()
}

fn get(work: &Work, server: &str) -> Option<String> {
    let program = Program::helper(["get"])
        .env("DOCKER_CREDENTIAL_ALIYUN_KEY_FILE", work.join("key"))
        .input(server);
    let ran = work.run(program);
    match ran.code() {
        0 => Some(ran.json()["Secret"].as_str().unwrap().to_owned()),
        _ => {
            assert_eq!(ran.stdout(), crate::rig::NOT_FOUND);
            None
        }
    }
}

/// Stores and erases its own entry, and checks after each call that what was acknowledged counts.
fn writer(work: &Work, number: usize) -> usize {
    let server = format!("r{number}.example");
    let mut known = Known { sure: None, perhaps: None };
    let mut acknowledged = 0;
    let mut patience = PATIENCE;
    for count in 0..CALLS {
        let wanted = (!random().is_multiple_of(4)).then_some(count);
        let done = match wanted {
            Some(secret) => {
                let request =
                    json!({ "ServerURL": server, "Username": "u", "Secret": secret.to_string() });
                call(work, "store", &request.to_string(), patience)
            }
            None => call(work, "erase", &server, patience),
        };
        if done {
            acknowledged += 1;
            patience = patience.mul_f64(0.9);
            known = Known { sure: wanted, perhaps: None };
        } else {
            patience = patience.mul_f64(1.1);
            known.perhaps = Some(wanted);
        }
        let there = get(work, &server).map(|secret| secret.parse().unwrap());
        let possible = there == known.sure || Some(there) == known.perhaps;
        assert!(possible, "{server}: {there:?} is there, but {known:?}");
        known = Known { sure: there, perhaps: None };
    }
    acknowledged
}

#[test]
fn nothing_acknowledged_is_lost_and_the_file_always_opens() {
    let work = Work::new();
    let key = "0f".repeat(32);
    work.write("key", key);
    let acknowledged: usize = thread::scope(|scope| {
        let work = &work;
        let writers: Vec<_> = (0..WRITERS).map(|n| scope.spawn(move || writer(work, n))).collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    println!("{acknowledged} of {} calls were acknowledged", WRITERS * CALLS);
    assert!(acknowledged > 0, "no call lived long enough");
    assert!(acknowledged < WRITERS * CALLS, "no call was killed");
    // Drafts and locks of the dead: one of each at most.
    let directory = work.home().join(".local/share/docker-credential-aliyun");
    assert!(std::fs::read_dir(directory).unwrap().count() <= 3);
}
