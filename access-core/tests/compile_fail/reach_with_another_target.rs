//! There is no place beside the permit where another target could be named.
use access_core::Permit;
use access_core::reach::Reach;
use access_core::resource::ResourceRef;

async fn attempt(reach: &dyn Reach, permit: &Permit, target: &ResourceRef) {
    let _ = reach.dial(permit, target).await;
}

fn main() {}
