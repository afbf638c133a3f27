//! The gate takes proofs, not claims.
use access_core::identity::Identity;
use access_core::policy::{Action, Context, Target};
use access_core::Gate;

async fn attempt(gate: &Gate, claim: &Identity, target: Target) {
    let _ = gate.authorize(claim, Action::See, target, Context::default()).await;
}

fn main() {}
