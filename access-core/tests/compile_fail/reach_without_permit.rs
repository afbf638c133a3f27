//! Reach asks for a permit, and takes the target out of it.
use access_core::reach::Reach;
use access_core::resource::ResourceRef;

async fn attempt(reach: &dyn Reach, target: &ResourceRef) {
    let _ = reach.dial(target).await;
    let _ = reach.dial().await;
}

fn main() {}
