//! Any bytes as a file of an agent's spool.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| access_agent::spool_fuzz_oracle(data));
