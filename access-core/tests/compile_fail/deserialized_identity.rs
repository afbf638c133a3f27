//! A verified identity cannot be read from bytes.
use access_core::VerifiedIdentity;

fn main() {
    let _ = serde_json::from_str::<VerifiedIdentity>("{}");
}
