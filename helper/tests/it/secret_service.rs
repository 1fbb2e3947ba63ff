//! The Secret Service: GNOME Keyring on a bus of the test's own, and Docker's program beside ours.

use std::thread;

use serde_json::{Value, json};
use smartbuild_test_rig::{Program, Work};

use crate::rig::{NOT_FOUND, PASSWORD, USER};
use crate::session::Session;

fn request(server: &str, username: &str, secret: &str) -> String {
    json!({ "ServerURL": server, "Username": username, "Secret": secret }).to_string() + "\n"
}

fn answer(server: &str, username: &str, secret: &str) -> Value {
    json!({ "ServerURL": server, "Username": username, "Secret": secret })
}

#[test]
#[ignore = "needs a D-Bus and GNOME Keyring: run tests/run.sh"]
fn what_one_program_stores_the_other_reads() {
    let (session, work) = (Session::unlocked(), Work::new());
    session.ours(&work, "store", &request("a.example", USER, PASSWORD)).success();
    let read = session.theirs(&work, "get", "a.example").success().json();
    assert_eq!(read, answer("a.example", USER, PASSWORD));

    session.theirs(&work, "store", &request("https://B.example/v1/", "bob", "b2")).success();
    session.theirs(&work, "store", &request("c.example:5000", "carl", "c3")).success();
    for server in ["b.example", "https://b.example", "b.example:443", "B.EXAMPLE/ns/repository"] {
        let read = session.ours(&work, "get", server).success().json();
        assert_eq!(read, answer(server, "bob", "b2"));
    }

    let ours = session.ours(&work, "list", "").success().json();
    let all = json!({ "a.example": USER, "b.example": "bob", "c.example:5000": "carl" });
    assert_eq!(ours, all);
    let theirs = session.theirs(&work, "list", "").success().json();
    let all =
        json!({ "a.example": USER, "https://B.example/v1/": "bob", "c.example:5000": "carl" });
    assert_eq!(theirs, all);

    session.ours(&work, "erase", "b.example").success();
    assert_eq!(session.theirs(&work, "get", "https://B.example/v1/").exits(1).stdout(), NOT_FOUND);
    session.theirs(&work, "erase", "a.example").success();
    assert_eq!(session.ours(&work, "get", "a.example").exits(1).stdout(), NOT_FOUND);
    session.ours(&work, "erase", "a.example").success();
}

#[test]
#[ignore = "needs a D-Bus and GNOME Keyring: run tests/run.sh"]
fn an_encrypted_file_does_not_hide_the_keyring_without_a_word() {
    let (session, work) = (Session::unlocked(), Work::new());
    session.ours(&work, "store", &request("a.example", USER, PASSWORD)).success();
    let login = |arguments: &[&str], host: &str| {
        let fixed = ["login", "--no-check", "--password-stdin", "-u", USER];
        let program = Program::helper([&fixed, arguments, &[host]].concat()).input("typed\n");
        work.run(session.join(program)).success()
    };
    login(&[], "b.example").hides("From now on");
    let ran = login(&["--store", "file"], "c.example");
    let words = ["From now on logins are looked for in the encrypted file", "a.example, b.example"];
    ran.says(&words).says(&["no more in the Secret Service", "DOCKER_CREDENTIAL_ALIYUN_STORE"]);
    assert_eq!(session.ours(&work, "get", "a.example").exits(1).stdout(), NOT_FOUND);
    login(&["--store", "file"], "d.example").hides("From now on");
    login(&["--store", "file"], "a.example");
    let ran = login(&["--store", "secret-service"], "a.example");
    ran.says(&["But the encrypted file", "set DOCKER_CREDENTIAL_ALIYUN_STORE=secret-service"]);
}

#[test]
#[ignore = "needs a D-Bus and GNOME Keyring: run tests/run.sh"]
fn another_user_leaves_one_item() {
    let (session, work) = (Session::unlocked(), Work::new());
    session.theirs(&work, "store", &request("https://r.example/v2/", "old", "1")).success();
    session.ours(&work, "store", &request("r.example", "middle", "2")).success();
    session.ours(&work, "store", &request("r.example", "new", "3")).success();
    let theirs = session.theirs(&work, "list", "").success().json();
    assert_eq!(theirs, json!({ "r.example": "new" }));
    let read = session.theirs(&work, "get", "r.example").success().json();
    assert_eq!(read, answer("r.example", "new", "3"));
}

#[test]
#[ignore = "needs a D-Bus and GNOME Keyring: run tests/run.sh"]
fn of_two_users_at_once_one_stays() {
    let (session, work) = (Session::unlocked(), Work::new());
    for round in 0..20 {
        let users = ["a", "b", "c"].map(|user| format!("{user}{round}"));
        thread::scope(|scope| {
            for user in &users {
                let (session, work) = (&session, &work);
                let store = move || session.ours(work, "store", &request("r.example", user, user));
                scope.spawn(move || store().success());
            }
        });
        let read = session.ours(&work, "get", "r.example").success().json();
        let user = read["Username"].as_str().unwrap();
        assert!(users.iter().any(|known| known == user) && read["Secret"] == user, "{read}");
        let theirs = session.theirs(&work, "list", "").success().json();
        assert_eq!(theirs, json!({ "r.example": user }));
    }
}

#[test]
#[ignore = "needs a D-Bus and GNOME Keyring: run tests/run.sh"]
fn a_locked_keyring_is_an_answer() {
    let (session, work) = (Session::unlocked(), Work::new());
    session.ours(&work, "store", &request("r.example", USER, PASSWORD)).success();
    session.lock_keyring();
    let locked = "the Secret Service is locked; unlock the login keyring";
    let ran = session.ours(&work, "get", "r.example").exits(1).says(&[locked]);
    assert!(ran.stdout().starts_with(locked));
    let request = request("other.example", "u", "s");
    session.ours(&work, "store", &request).exits(1).says(&[locked]);
    session.ours(&work, "erase", "r.example").exits(1).says(&[locked]);
    // A stranger to the keyring is none of its business.
    assert_eq!(session.ours(&work, "get", "other.example").exits(1).stdout(), NOT_FOUND);
    // A client that is told of it asks for it, and gives up the build when that fails.
    assert_eq!(session.ours(&work, "list", "").success().stdout(), "{}\n");
    let status = work.run(session.join(Program::helper(["status"]))).success();
    assert!(status.stdout().contains("r.example: no login: the Secret Service is locked"));
}

#[test]
#[ignore = "needs a D-Bus and GNOME Keyring: run tests/run.sh"]
fn a_bus_without_a_secret_service_is_no_store() {
    let (session, work) = (Session::bus_only(), Work::new());
    assert_eq!(session.ours(&work, "get", "r.example").exits(1).stdout(), NOT_FOUND);
    session.ours(&work, "erase", "r.example").success();
    assert_eq!(session.ours(&work, "list", "").success().stdout(), "{}\n");
    let ran = session.ours(&work, "store", &request("r.example", "u", "s")).exits(1);
    let ran = ran.says(&["no place to keep a secret", "--store file"]);
    assert!(!ran.text().to_lowercase().contains("d-bus") && !ran.text().contains("dbus"));
}

#[test]
#[ignore = "needs a D-Bus and GNOME Keyring: run tests/run.sh"]
fn a_keyring_that_ends_with_the_session_is_not_written_to() {
    let (session, work) = (Session::without_login_keyring(), Work::new());
    assert_eq!(session.ours(&work, "get", "r.example").exits(1).stdout(), NOT_FOUND);
    let ran = session.ours(&work, "store", &request("r.example", "u", "s")).exits(1);
    ran.says(&["has no keyring that outlasts the session", "--store file"]);
}

#[test]
#[ignore = "needs a D-Bus and GNOME Keyring: run tests/run.sh"]
fn twenty_at_once_are_all_answered() {
    let (session, work) = (Session::unlocked(), Work::new());
    session.ours(&work, "store", &request("r.example", USER, PASSWORD)).success();
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| session.ours(&work, "get", "r.example").success());
        }
    });
}
