//! Any bytes as a conversation by SFTP that is followed.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| access_ssh::oracle::sftp_watch(data));
