use std::time::Duration;

use super::fixtures::*;
use super::{Context, PolicySnapshot, Target, UserState, visible};
use crate::ids::RoleName;
use crate::resource::ResourceKind;

/// A decision takes a microsecond at most, and a listing of 50,000 nodes 50 ms, when optimised.
#[test]
#[ignore = "measures; run it optimised, on a machine that does nothing else"]
#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
fn speed() {
    let roles: Vec<(String, String)> = (0..100)
        .map(|i| {
            let spec = format!(
                r#"{{"options": {{"client_idle_timeout": "30m", "max_sessions": 10}},
                   "allow": {{"logins": ["{{{{internal.logins}}}}", "ubuntu"],
                   "node_labels": {{"env": ["dev", "e{}"], "team": "*"}}}},
                   "deny": {{"node_labels": {{"secret": "yes"}}}}}}"#,
                i % 10
            );
            (format!("role-{i}"), spec)
        })
        .collect();
    let held: Vec<RoleName> = (0..10).map(|i| role_name(&format!("role-{}", i * 7))).collect();
    let snapshot = roles
        .iter()
        .fold(PolicySnapshot::builder(), |builder, (name, spec)| builder.role(&role(name, spec)))
        .user(user_name("alice"), UserState::with_roles(held.clone()))
        .build();
    let mut identity = alice(&[]);
    identity.roles = held;
    let who = verified(identity);
    let target = Target::Resource(node(&[("env", "e0"), ("team", "web"), ("os", "linux")]));
    let action = ssh("alice");
    // The best of many short runs: what else the machine does is not counted.
    let best = |runs: u32, count: u32, work: &mut dyn FnMut()| -> Duration {
        let run = |_| {
            let start = std::time::Instant::now();
            (0..count).for_each(|_| work());
            start.elapsed() / count
        };
        (0..runs).map(run).min().unwrap()
    };
    let each = best(500, 1000, &mut || {
        assert!(std::hint::black_box(ask(&snapshot, &who, &action, &target)).is_allow());
    });
    let nodes: Vec<_> = (0..50_000)
        .map(|i| {
            let env = format!("e{}", i % 12);
            resource(
                ResourceKind::Node,
                &format!("n{i}"),
                &[("env", &env), ("team", "web"), ("os", "linux")],
            )
        })
        .collect();
    let mut seen = 0;
    let listing = best(10, 1, &mut || {
        seen = visible(&snapshot, &who, &Context::default(), now(), &nodes).count();
    });
    println!("decide {each:?}; listing {seen} of 50,000 nodes {listing:?}");
    assert!(each <= Duration::from_micros(1) && listing <= Duration::from_millis(50));
}
