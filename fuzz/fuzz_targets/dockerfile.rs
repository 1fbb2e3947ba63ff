//! Any bytes as a Dockerfile: an answer in good time, the same one twice; without digests the text
//! stays as it is, and with one behind each name the engine reads the same file.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use smartbuild::dockerfile::{self, BaseImage, Request};

const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

fuzz_target!(|text: &[u8]| {
    let request = Request::new("linux/amd64".parse().unwrap());
    let frontend = dockerfile::frontend(text, &BTreeMap::new());
    let Ok(file) = dockerfile::parse(text) else { return };
    assert_eq!(file.pin([], None).unwrap(), text);
    assert_eq!(file.frontend(&request), frontend);
    let Ok(images) = file.images(&request) else { return };
    let bases: BTreeMap<_, _> =
        images.iter().map(|found| (found.key.clone(), BaseImage::default())).collect();
    let slice = file.slice(&request, &bases);
    assert_eq!(slice, file.slice(&request, &bases));
    let _ = file.slice(&request, &BTreeMap::new());

    // What could not be the name of an image has no digest either.
    let nameable = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"/:.-_".contains(&b);
    if !images.iter().all(|found| found.key.name.bytes().all(nameable)) {
        return;
    }
    let pinned = file.pin(images.iter().map(|found| (found, Some(DIGEST))), None).unwrap();
    let again = dockerfile::parse(&pinned).unwrap().images(&request).unwrap();
    assert_eq!(again.len(), images.len());
    for (before, after) in images.iter().zip(&again) {
        assert!(after.key.name.starts_with(&before.key.name));
        // What a trigger names stands in no place that could be pinned.
        assert_eq!(after.key.name.contains('@'), before.end.is_some());
    }
});
