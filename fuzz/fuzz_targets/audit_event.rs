//! Any bytes as an audit event.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| access_core::oracle::audit_event(data));
