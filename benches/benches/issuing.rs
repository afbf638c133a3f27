//! How fast certificates are issued, against the raw rate of the signature in them.
//!
//! Issuing is everything from a draft with a public key to signed certificates: vetting, the
//! identity's document, serial numbers, encoding, signing. After criterion's figures, a second
//! measurement takes turns between raw signatures and issuing, so that both meet the same machine,
//! and prints their ratios.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark: it prints its result, and has nobody to hand an error to"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use access_ca::*;
use access_core::identity::{AuthorityKind, Identity, Subject};
use access_core::{ClusterName, Login, RoleName, Timestamp, UserName};
use criterion::{BatchSize, Criterion};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};

/// The ratio to reach.
const TARGET: f64 = 0.80;

struct Case {
    name: &'static str,
    raw: Box<dyn Fn()>,
    draft: UserDraft,
    authority: Authority,
}

fn now() -> Timestamp {
    Timestamp::from_secs(1_800_000_000)
}

fn issue(draft: UserDraft, authority: &Authority) -> Signed {
    let policy = IssuingPolicy::new(now(), Duration::from_secs(12 * 3600));
    draft.vet(&policy).unwrap().sign(authority).unwrap()
}

fn cases() -> Vec<Case> {
    let cluster = ClusterName::new("example.com").unwrap();
    let store = SoftwareKeyStore::new(SealingKey::generate().unwrap());
    let authority = |ssh_algorithm| {
        let new = NewAuthority::new(cluster.clone(), AuthorityKind::User);
        Authority::create(&store, &NewAuthority { ssh_algorithm, ..new }, now()).unwrap()
    };
    let key = |algorithm| store.create(algorithm, &KeyPurpose::new("subject")).unwrap().1;

    let subject = Subject::User { name: UserName::new("alice").unwrap() };
    let mut identity = Identity::new(cluster.clone(), subject, now());
    identity.logins = ["alice", "deploy"].map(|name| Login::new(name).unwrap()).into();
    identity.roles = ["access", "requester"].map(|name| RoleName::new(name).unwrap()).into();
    let draft = UserDraft::new(identity, Duration::from_secs(3600));
    let mut ssh = draft.clone();
    ssh.ssh_public_key = Some(key(KeyAlgorithm::Ed25519).public_key().ssh().clone());
    let mut tls = draft;
    tls.tls_public_key = Some(key(KeyAlgorithm::EcdsaP256).public_key().spki_der().to_vec());

    let rng = SystemRandom::new();
    // As long as what is signed in a certificate of these drafts.
    let message = [7; 700];
    let raw_ed25519 = || -> Box<dyn Fn()> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&rng).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        Box::new(move || {
            black_box(pair.sign(black_box(&message)));
        })
    };
    let raw_p256 = || -> Box<dyn Fn()> {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &rng).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &rng).unwrap();
        let rng = SystemRandom::new();
        Box::new(move || {
            black_box(pair.sign(&rng, black_box(&message)).unwrap());
        })
    };
    vec![
        Case {
            name: "ssh ed25519",
            raw: raw_ed25519(),
            draft: ssh.clone(),
            authority: authority(KeyAlgorithm::Ed25519),
        },
        Case {
            name: "ssh p256",
            raw: raw_p256(),
            draft: ssh,
            authority: authority(KeyAlgorithm::EcdsaP256),
        },
        Case {
            name: "x509 p256",
            raw: raw_p256(),
            draft: tls,
            authority: authority(KeyAlgorithm::Ed25519),
        },
    ]
}

fn with_criterion(criterion: &mut Criterion, case: &Case) {
    let mut group = criterion.benchmark_group(case.name);
    group.bench_function("raw signature", |b| b.iter(|| (case.raw)()));
    group.bench_function("issue", |b| {
        b.iter_batched(
            || case.draft.clone(),
            |draft| issue(draft, &case.authority),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// The median over rounds of (issuing rate / raw rate), and the best of each rate, which need not
/// be of one round.
fn ratio(case: &Case) -> (f64, f64, f64) {
    const ROUNDS: usize = 15;
    const BATCH: usize = 2000;
    let (mut ratios, mut best_raw, mut best_issue) = (Vec::new(), 0.0_f64, 0.0_f64);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..BATCH {
            (case.raw)();
        }
        let raw = BATCH as f64 / start.elapsed().as_secs_f64();
        // The drafts are made by whoever asks; only issuing is timed.
        let drafts: Vec<_> = (0..BATCH).map(|_| case.draft.clone()).collect();
        let start = Instant::now();
        for draft in drafts {
            black_box(issue(draft, &case.authority));
        }
        let issue = BATCH as f64 / start.elapsed().as_secs_f64();
        ratios.push(issue / raw);
        best_raw = best_raw.max(raw);
        best_issue = best_issue.max(issue);
    }
    ratios.sort_by(f64::total_cmp);
    (ratios.get(ROUNDS / 2).copied().unwrap_or_default(), best_raw, best_issue)
}

fn main() {
    let cases = cases();
    let mut criterion = Criterion::default().configure_from_args();
    for case in &cases {
        with_criterion(&mut criterion, case);
    }
    criterion.final_summary();
    for case in &cases {
        let (ratio, raw, issue) = ratio(case);
        let verdict = if ratio >= TARGET { "reached" } else { "MISSED" };
        println!(
            "issuing {:12} median ratio {ratio:.2} (target {TARGET:.2} {verdict}); best rates: \
             issuing {issue:.0}/s, raw {raw:.0}/s",
            case.name
        );
    }
}
