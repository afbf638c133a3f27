//! Any bytes as names, ids, labels and other short texts.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| access_core::oracle::names(data));
