//! Any bytes as both sides of a PostgreSQL session, wherever they are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Err(broken) = access_postgres::oracle::check(data) {
        panic!("{broken}");
    }
});
