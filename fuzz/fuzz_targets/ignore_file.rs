//! Any bytes as an ignore file, and any as a path: an answer in good time, the same one twice, and
//! never that the root is ignored.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smartbuild::context::Ignore;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (text, path) = input;
    let Ok(ignore) = Ignore::parse(text) else { return };
    assert_eq!(ignore.excludes(path), ignore.excludes(path));
    assert!(!ignore.excludes(b""));
    assert!(!ignore.excludes(b"."));
});
