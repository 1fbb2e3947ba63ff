//! Any text as a word, with variables that are set, empty, and not known: an answer in good time.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use smartbuild::dockerfile::{self, Request};

fuzz_target!(|word: &str| {
    let request = Request::new("linux/amd64".parse().unwrap());
    for base in ["scratch", "unknown"] {
        let text =
            format!("FROM {base}\nARG A=a E= B=\"ab.x/y*b\"\nLABEL l={word}\nCOPY {word} /\n");
        let Ok(file) = dockerfile::parse(text.as_bytes()) else { continue };
        let slice = file.slice(&request, &BTreeMap::new());
        assert_eq!(slice, file.slice(&request, &BTreeMap::new()));
    }
});
