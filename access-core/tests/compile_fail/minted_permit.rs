//! What mints permits is the gate's own.
use access_core::Permit;

fn main() {
    let _ = Permit::mint;
}
