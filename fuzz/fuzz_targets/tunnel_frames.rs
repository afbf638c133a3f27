//! Any bytes as the frames of a tunnel's peer.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Err(broken) = access_tunnel::oracle::check_frames(data) {
        panic!("{broken}");
    }
});
