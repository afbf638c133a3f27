//! The seeds of the fuzz targets, and small changes of them, as ordinary tests: CI runs these
//! without cargo-fuzz. Tests of the crates take this file in by its path.

use std::fs;
use std::path::Path;

/// Calls `oracle` with each seed of a target, and with what cutting and changing it leaves.
pub(crate) fn each(target: &str, oracle: impl Fn(&[u8])) {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("fuzz/seeds").join(target))
        .find(|folder| folder.is_dir())
        .unwrap_or_else(|| panic!("no seeds for {target}"));
    let mut seen = 0;
    for entry in fs::read_dir(seeds).unwrap() {
        let seed = fs::read(entry.unwrap().path()).unwrap();
        oracle(&seed);
        changed(&seed, &oracle);
        seen += 1;
    }
    assert!(seen > 0, "no seeds for {target}");
}

/// About a hundred changes, spread over the seed; always the same ones.
fn changed(seed: &[u8], oracle: &impl Fn(&[u8])) {
    let step = (seed.len() / 32).max(1);
    for at in (0..seed.len()).step_by(step) {
        oracle(&seed[..at]);
        for byte in [seed[at] ^ 1, !seed[at]] {
            let mut changed = seed.to_vec();
            changed[at] = byte;
            oracle(&changed);
        }
    }
}
