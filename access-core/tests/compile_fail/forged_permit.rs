//! A permit has no public field and no public constructor.
use access_core::Permit;

fn attempt() -> Permit {
    Permit { inner: unreachable!() }
}

fn main() {}
