//! Any bytes as stored inputs: those that decode have a key, and are the same after being written
//! and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smartbuild::inputs::{Difference, Inputs};

fuzz_target!(|text: &[u8]| {
    let Ok(inputs) = serde_json::from_slice::<Inputs>(text) else { return };
    let written = serde_json::to_vec(&inputs).unwrap();
    let again: Inputs = serde_json::from_slice(&written).unwrap();
    assert_eq!(again.key(), inputs.key());
    assert!(Difference::between(&inputs, &again).is_empty());
});
