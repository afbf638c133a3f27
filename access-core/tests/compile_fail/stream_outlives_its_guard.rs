//! What was reached cannot be taken out of the guard that ends it.
use access_core::gate::Guarded;
use access_core::reach::BoxedStream;

fn attempt(guarded: Guarded<BoxedStream>) -> BoxedStream {
    guarded.inner
}

fn main() {}
