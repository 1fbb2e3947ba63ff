//! The cache's promises, each in a directory of its own.

use std::cell::Cell;

use super::*;

struct Machine {
    _home: tempfile::TempDir,
    cache: TokenCache,
}

fn machine() -> Machine {
    let home = tempfile::tempdir().unwrap();
    let environment = Environment::empty().with_home(home.path());
    let cache = TokenCache::open(&environment).unwrap();
    Machine { _home: home, cache }
}

fn host() -> Host {
    Host::parse("registry.cn-hangzhou.aliyuncs.com").unwrap()
}

fn at(minutes: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + minutes * 60).unwrap()
}

fn token(text: &str, end: Timestamp) -> AuthorizationToken {
    AuthorizationToken {
        user: "cr_temp_user".to_owned(),
        token: Secret::new(text.to_owned()),
        expires_at: end,
    }
}

/// What `get` gives at a minute, when the API gives `answer`; and whether the API was asked.
fn get(
    slot: &Slot<'_>,
    minute: i64,
    answer: Result<AuthorizationToken, &'static str>,
) -> (Result<String, &'static str>, bool) {
    let asked = Cell::new(false);
    let deadline = Deadline::after(Duration::from_secs(60));
    let got = get_or_fetch(
        Some(slot),
        deadline,
        || at(minute),
        |_| {
            asked.set(true);
            answer.map(Some)
        },
    );
    let text =
        got.map(|token| token.map_or_else(String::new, |token| token.token.expose().to_owned()));
    (text, asked.get())
}

#[test]
fn a_token_is_kept_until_a_quarter_of_an_hour_before_its_end() {
    let machine = machine();
    let slot = machine.cache.slot(&host(), &"identity");
    let first = || Ok(token("first", at(60)));
    let second = || Ok(token("second", at(120)));
    assert_eq!(get(&slot, 0, first()), (Ok("first".to_owned()), true));
    assert_eq!(get(&slot, 44, second()), (Ok("first".to_owned()), false));
    assert_eq!(get(&slot, 45, second()), (Ok("second".to_owned()), true));
    assert_eq!(get(&slot, 50, first()), (Ok("second".to_owned()), false));
}

#[test]
fn a_short_token_is_kept_for_half_its_life() {
    let machine = machine();
    let slot = machine.cache.slot(&host(), &"identity");
    assert!(get(&slot, 0, Ok(token("short", at(10)))).1);
    assert!(!get(&slot, 4, Err("down")).1);
    assert!(get(&slot, 5, Ok(token("next", at(15)))).1);
}

#[test]
fn a_good_token_stands_in_while_the_api_is_down_and_the_api_is_left_alone() {
    let machine = machine();
    let slot = machine.cache.slot(&host(), &"identity");
    assert!(get(&slot, 0, Ok(token("old", at(60)))).1);
    assert_eq!(get(&slot, 50, Err("down")), (Ok("old".to_owned()), true));
    assert_eq!(get(&slot, 50, Err("down")), (Ok("old".to_owned()), false));
    assert_eq!(get(&slot, 52, Err("down")), (Ok("old".to_owned()), true));
    assert_eq!(get(&slot, 60, Err("down")), (Err("down"), true));
}

#[test]
fn hosts_and_identities_have_their_own_tokens() {
    let machine = machine();
    let other = Host::parse("registry.cn-beijing.aliyuncs.com").unwrap();
    let slot = machine.cache.slot(&host(), &"identity");
    assert!(get(&slot, 0, Ok(token("mine", at(60)))).1);
    assert!(get(&machine.cache.slot(&host(), &"another"), 0, Err("asked")).1);
    assert!(get(&machine.cache.slot(&other, &"identity"), 0, Err("asked")).1);
    assert!(!get(&machine.cache.slot(&host(), &"identity"), 0, Err("asked")).1);
}

#[test]
fn a_clock_that_goes_back_makes_no_token_good_again() {
    let machine = machine();
    let slot = machine.cache.slot(&host(), &"identity");
    assert!(get(&slot, 0, Ok(token("old", at(60)))).1);
    // A correction of some minutes is none of the token's business.
    assert!(!get(&slot, -4, Err("asked")).1);
    assert_eq!(get(&slot, -6, Err("asked")), (Err("asked"), true));
}

#[test]
fn a_host_is_forgotten_and_no_other() {
    let machine = machine();
    let other = Host::parse("registry.cn-beijing.aliyuncs.com").unwrap();
    for (host, identity) in [(&host(), "a"), (&host(), "b"), (&other, "a")] {
        get(&machine.cache.slot(host, &identity), 0, Ok(token("t", at(60)))).0.unwrap();
    }
    machine.cache.forget(&host());
    assert_eq!(machine.cache.tokens_of(&host()).count(), 0);
    assert_eq!(machine.cache.tokens_of(&other).count(), 1);
}

#[test]
fn a_host_whose_api_hangs_keeps_no_other_waiting() {
    let machine = machine();
    for number in 0..64 {
        let slot = machine.cache.slot(&host(), &number);
        let held = lock_file(&slot.lock_path()).unwrap();
        held.lock().unwrap();
        let other = machine.cache.slot(&host(), &(number + 64));
        assert!(get(&other, 0, Ok(token("t", at(60)))).1);
        assert!(try_lock(&other.lock_path()).is_ok(), "{number}");
    }
}

#[test]
fn any_text_is_kept_as_it_is() {
    let machine = machine();
    let slot = machine.cache.slot(&host(), &"identity");
    let text = "quote \" backslash \\ line \n control \u{1} 中";
    get(&slot, 0, Ok(token(text, at(60)))).0.unwrap();
    assert_eq!(get(&slot, 1, Err("down")), (Ok(text.to_owned()), false));
}

#[test]
fn the_tokens_of_a_host_are_found_again() {
    let machine = machine();
    for identity in ["identity", "another"] {
        let token = token(identity, at(60));
        get(&machine.cache.slot(&host(), &identity), 0, Ok(token)).0.unwrap();
    }
    let tokens = |host: &Host| {
        let mut texts: Vec<_> =
            machine.cache.tokens_of(host).map(|token| token.token.expose().to_owned()).collect();
        texts.sort();
        texts
    };
    assert_eq!(tokens(&host()), ["another", "identity"]);
    let other = Host::parse("registry.cn-beijing.aliyuncs.com").unwrap();
    assert!(tokens(&other).is_empty());
}

#[test]
fn a_file_tells_nothing_and_opens_under_its_own_name_only() {
    let machine = machine();
    let slot = machine.cache.slot(&host(), &"identity");
    get(&slot, 0, Ok(token("hunter2", at(60)))).0.unwrap();
    let sealed = fs::read(slot.path()).unwrap();
    let text = String::from_utf8_lossy(&sealed);
    assert!(!text.contains("hunter2") && !text.contains("cr_temp_user"));
    let other = machine.cache.slot(&host(), &"another");
    fs::copy(slot.path(), other.path()).unwrap();
    assert_eq!(other.read(), None);
}

#[cfg(unix)]
#[test]
fn nobody_else_can_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let machine = machine();
    let slot = machine.cache.slot(&host(), &"identity");
    get(&slot, 0, Ok(token("t", at(60)))).0.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&machine.cache.directory), 0o700);
    assert_eq!(mode(&slot.path()), 0o600);
    assert_eq!(mode(&machine.cache.directory.join("key")), 0o600);
}

#[test]
fn a_damaged_file_is_an_empty_place() {
    let machine = machine();
    let slot = machine.cache.slot(&host(), &"identity");
    get(&slot, 0, Ok(token("first", at(60)))).0.unwrap();
    let good = fs::read(slot.path()).unwrap();
    for length in 0..good.len() {
        fs::write(slot.path(), &good[..length]).unwrap();
        assert_eq!(slot.read(), None, "{length} bytes");
    }
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(slot.path(), &bad).unwrap();
        assert_eq!(slot.read(), None, "byte {at}");
    }
    assert!(get(&slot, 0, Ok(token("second", at(60)))).1);
    assert!(!get(&slot, 0, Err("down")).1);
}

#[test]
fn a_lost_key_empties_the_cache() {
    let home = tempfile::tempdir().unwrap();
    let environment = Environment::empty().with_home(home.path());
    let cache = TokenCache::open(&environment).unwrap();
    get(&cache.slot(&host(), &"identity"), 0, Ok(token("t", at(60)))).0.unwrap();
    fs::write(cache.directory.join("key"), "broken").unwrap();
    assert!(TokenCache::open_existing(&environment).is_none());
    let cache = TokenCache::open(&environment).unwrap();
    assert!(get(&cache.slot(&host(), &"identity"), 0, Ok(token("u", at(60)))).1);
}

#[test]
fn without_a_keyring_the_key_is_a_file_of_its_owner() {
    let home = tempfile::tempdir().unwrap();
    let made = Key::create_in(home.path(), |_, _| false).unwrap();
    let sealed = made.seal(b"name", b"text").unwrap();
    assert_eq!(fs::read(home.path().join("key")).unwrap().len(), 32);
    let again = Key::create_in(home.path(), |_, _| false).unwrap();
    assert_eq!(again.open(b"name", &sealed).unwrap().as_slice(), b"text");
}

#[test]
fn the_key_of_the_encrypted_file_seals_the_cache_too() {
    let home = tempfile::tempdir().unwrap();
    let with = |digit: &str| {
        Environment::empty()
            .with_home(home.path())
            .with("DOCKER_CREDENTIAL_ALIYUN_KEY", digit.repeat(64))
    };
    let (one, other) =
        (TokenCache::open(&with("1")).unwrap(), TokenCache::open(&with("2")).unwrap());
    get(&one.slot(&host(), &"identity"), 0, Ok(token("t", at(60)))).0.unwrap();
    assert!(!one.directory.join("key").exists());
    let slot = one.slot(&host(), &"identity");
    assert!(slot.read().is_some());
    assert!(Slot { cache: &other, name: slot.name }.read().is_none());
}

#[test]
fn without_a_place_there_is_no_cache() {
    assert!(TokenCache::open(&Environment::empty()).is_none());
    let home = Environment::empty().with_home("/proc/nonexistent");
    assert!(TokenCache::open(&home).is_none());
}

#[test]
fn whoever_waits_gets_what_the_other_brought() {
    let machine = machine();
    let asked = std::sync::atomic::AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let slot = machine.cache.slot(&host(), &"identity");
                let deadline = Deadline::after(Duration::from_secs(60));
                let got = get_or_fetch(
                    Some(&slot),
                    deadline,
                    || at(0),
                    |_| {
                        asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        Ok::<_, ()>(Some(token("one", at(60))))
                    },
                );
                assert_eq!(got.unwrap().unwrap().token.expose(), "one");
            });
        }
    });
    assert_eq!(asked.into_inner(), 1);
}

#[test]
fn a_lock_that_never_comes_does_not_outlast_the_deadline() {
    let machine = machine();
    let slot = machine.cache.slot(&host(), &"identity");
    let held = lock_file(&slot.lock_path()).unwrap();
    held.lock().unwrap();
    let deadline = Deadline::after(Duration::from_millis(20));
    let got = get_or_fetch(
        Some(&slot),
        deadline,
        || at(0),
        |deadline| {
            assert!(deadline.left().is_zero());
            Err::<Option<AuthorizationToken>, _>("late")
        },
    );
    assert_eq!(got, Err("late"));
}
