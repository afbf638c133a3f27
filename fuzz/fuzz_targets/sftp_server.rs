//! Any bytes as what a client of SFTP sends.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| access_host::sftp::fuzz_oracle(data));
