//! The gate: what it asks for, what it writes down, and how permits end.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use super::*;
use crate::audit::{AuditError, Event, MemorySink};
use crate::identity::{Identity, Subject, VerifiedIdentity};
use crate::ids::{ClusterName, HostId, Login, ResourceName, UserName};
use crate::policy::{Action, Context, Decision, Grant, Reason, SessionLimits, Target};
use crate::resource::{Resource, ResourceRef};
use crate::role::RecordMode;
use crate::time::{Clock, ManualClock, Timestamp, Validity};

const START: Timestamp = Timestamp::from_secs(1_000_000);

/// A policy that says what it is told to.
struct Told {
    limits: Mutex<Result<SessionLimits, Reason>>,
    fresh_at: Mutex<Option<Timestamp>>,
    changes: watch::Sender<u64>,
}

impl PolicySource for Told {
    fn decide(
        &self,
        _: &VerifiedIdentity,
        _: &Action,
        _: &Target,
        _: &Context,
        _: Timestamp,
    ) -> Decision {
        match &*self.limits.lock().unwrap() {
            Ok(limits) => Decision::Allow(Grant::within(*limits)),
            Err(reason) => Decision::Deny(reason.clone()),
        }
    }

    fn fresh_at(&self) -> Option<Timestamp> {
        *self.fresh_at.lock().unwrap()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

struct Scene {
    gate: Gate,
    policy: Arc<Told>,
    audit: Arc<MemorySink>,
    clock: ManualClock,
    alice: VerifiedIdentity,
}

impl Scene {
    fn new() -> Self {
        let clock = ManualClock::at(START);
        let policy = Arc::new(Told {
            limits: Mutex::new(Ok(SessionLimits::until(START.plus(Duration::from_secs(3600))))),
            fresh_at: Mutex::new(None),
            changes: watch::Sender::new(0),
        });
        let audit = Arc::new(MemorySink::new(100));
        let gate = Gate::new(
            Arc::clone(&policy) as Arc<dyn PolicySource>,
            Arc::clone(&audit) as Arc<dyn crate::audit::AuditSink>,
            Arc::new(clock.clone()),
            GateOptions::default(),
        );
        let identity = Identity::new(
            ClusterName::new("example.com").unwrap(),
            Subject::User { name: UserName::new("alice").unwrap() },
            START,
        );
        let validity = Validity::between(START, START.plus(Duration::from_secs(7200))).unwrap();
        let alice = VerifiedIdentity::for_tests(identity, validity);
        Self { gate, policy, audit, clock, alice }
    }

    async fn ask(&self) -> Result<Permit, Denied> {
        self.gate.authorize(&self.alice, session(), node(), Context::default()).await
    }

    fn change(&self, limits: Result<SessionLimits, Reason>) {
        *self.policy.limits.lock().unwrap() = limits;
        self.policy.changes.send_modify(|tick| *tick += 1);
    }

    fn decisions(&self) -> Vec<String> {
        let events = self.audit.events();
        let codes = events.iter().filter(|event| event.name() == "access.decision");
        codes.map(|event: &Event| event.code().to_owned()).collect()
    }
}

fn session() -> Action {
    Action::SshSession { login: Login::new("root").unwrap() }
}

fn node() -> Target {
    Target::Resource(Resource::new(
        ResourceRef::node(ResourceName::new("web-1").unwrap()),
        Default::default(),
        HostId::new("h-1").unwrap(),
    ))
}

fn limits() -> SessionLimits {
    SessionLimits::until(START.plus(Duration::from_secs(3600)))
}

#[tokio::test]
async fn a_permit_is_recorded_and_synced_before_it_exists() {
    let scene = Scene::new();
    let permit = scene.ask().await.unwrap();
    assert_eq!(permit.action(), &session());
    assert_eq!(scene.decisions(), ["ACD00I"]);
    assert_eq!(scene.audit.synced(), 1);
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_granted() {
    let scene = Scene::new();
    scene.audit.fail_with(Some(AuditError::Full));
    assert!(matches!(scene.ask().await, Err(Denied::Audit(AuditError::Full))));
}

#[tokio::test]
async fn a_denial_is_recorded_and_tells_the_user_little() {
    let scene = Scene::new();
    scene.change(Err(Reason::Other("the moon is full".into())));
    let denied = scene.ask().await.unwrap_err();
    assert_eq!(scene.decisions(), ["ACD00W"]);
    assert!(denied.to_string().contains("moon"));
    assert!(!denied.public().contains("moon"), "{}", denied.public());
}

#[tokio::test]
async fn past_max_staleness_nothing_new_is_granted_and_what_is_goes_on() {
    let scene = Scene::new();
    *scene.policy.fresh_at.lock().unwrap() = Some(START);
    let permit = scene.ask().await.unwrap();
    scene.clock.advance(Duration::from_secs(300));
    assert!(scene.ask().await.is_ok(), "five minutes are allowed");
    scene.clock.advance(Duration::from_millis(1));
    let denied = scene.ask().await.unwrap_err();
    assert!(matches!(denied, Denied::Stale { .. }), "{denied}");
    assert!(denied.public().contains("auth service cannot be reached"), "{}", denied.public());
    assert!(scene.gate.authorize_within(&permit, session()).await.is_err());
    assert!(futures::poll!(Box::pin(permit.ended())).is_pending());
}

#[tokio::test]
async fn an_expired_certificate_opens_nothing() {
    let scene = Scene::new();
    scene.clock.advance(Duration::from_secs(7200));
    assert!(matches!(scene.ask().await, Err(Denied::Certificate(_))));
}

#[tokio::test]
async fn permits_end_by_withdrawal_by_time_and_by_idleness() {
    let scene = Scene::new();
    let permit = scene.ask().await.unwrap();
    let ended = tokio::spawn(permit.ended());
    scene.change(Err(Reason::UnknownUser));
    assert!(matches!(ended.await.unwrap(), EndReason::Withdrawn(_)));

    let scene = Scene::new();
    let permit = scene.ask().await.unwrap();
    let ended = tokio::spawn(permit.ended());
    scene.clock.advance(Duration::from_secs(3600));
    assert_eq!(ended.await.unwrap(), EndReason::Expired);

    let scene = Scene::new();
    scene.change(Ok(SessionLimits { idle: Some(Duration::from_secs(60)), ..limits() }));
    let permit = scene.ask().await.unwrap();
    let mut ended = Box::pin(permit.ended());
    scene.clock.advance(Duration::from_secs(59));
    assert!(futures::poll!(&mut ended).is_pending());
    permit.touch();
    scene.clock.advance(Duration::from_secs(59));
    assert!(futures::poll!(&mut ended).is_pending(), "it was touched");
    scene.clock.advance(Duration::from_secs(1));
    assert_eq!(ended.await, EndReason::Idle);
}

#[tokio::test]
async fn limits_that_become_stricter_reach_what_runs() {
    let scene = Scene::new();
    let secs = Duration::from_secs;
    let until = |end: u64| SessionLimits::until(START.plus(secs(end)));
    let permit = scene.ask().await.unwrap();
    let mut ended = Box::pin(permit.ended());
    assert!(futures::poll!(&mut ended).is_pending());

    // Nobody noted what passed before; from now on it counts.
    scene.clock.advance(secs(300));
    scene.change(Ok(SessionLimits { idle: Some(secs(60)), ..until(3600) }));
    assert!(futures::poll!(&mut ended).is_pending());
    scene.clock.advance(secs(59));
    permit.touch();
    scene.clock.advance(secs(59));
    assert!(futures::poll!(&mut ended).is_pending(), "it was touched");
    scene.clock.advance(secs(1));
    assert_eq!(ended.await, EndReason::Idle);

    // The end comes nearer, and does not go away again.
    scene.change(Ok(until(3600)));
    let mut ended = Box::pin(scene.ask().await.unwrap().ended());
    scene.change(Ok(until(500)));
    assert!(futures::poll!(&mut ended).is_pending());
    scene.change(Ok(until(3600)));
    assert!(futures::poll!(&mut ended).is_pending());
    scene.clock.advance(secs(81));
    assert_eq!(ended.await, EndReason::Expired);
}

#[tokio::test]
async fn a_session_that_must_be_recorded_more_strictly_ends() {
    let scene = Scene::new();
    let with = |record| Ok(SessionLimits { record, ..limits() });
    scene.change(with(RecordMode::BestEffort));
    let permit = scene.ask().await.unwrap();
    let within = scene.gate.authorize_within(&permit, Action::See).await.unwrap();
    let (ended, within) = (permit.ended(), within.ended());
    scene.change(with(RecordMode::Off));
    scene.change(with(RecordMode::Strict));
    let reason = ended.await;
    assert_eq!(
        reason.to_string(),
        "access was withdrawn: your roles have changed (record_session): connect again"
    );
    assert!(futures::poll!(Box::pin(within)).is_pending(), "it records nothing");
}

#[tokio::test]
async fn a_withdrawal_before_the_first_look_is_not_missed() {
    let scene = Scene::new();
    let permit = scene.ask().await.unwrap();
    scene.change(Err(Reason::UnknownUser));
    let ended = permit.ended();
    assert!(matches!(ended.await, EndReason::Withdrawn(_)));
}

#[tokio::test]
async fn a_guarded_stream_wakes_its_reader_and_dies_with_the_permit() {
    let scene = Scene::new();
    let permit = scene.ask().await.unwrap();
    let (near, mut far) = tokio::io::duplex(64);
    let mut guarded = permit.guard(near);
    far.write_all(b"before").await.unwrap();
    let mut buffer = [0; 6];
    guarded.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"before");
    let waiting = tokio::spawn(async move {
        let failed = guarded.read(&mut [0; 1]).await.unwrap_err();
        let write = guarded.write(b"x").await.unwrap_err();
        (failed, write, guarded.end_reason().cloned())
    });
    tokio::task::yield_now().await;
    scene.change(Err(Reason::UnknownUser));
    let (read, write, reason) = waiting.await.unwrap();
    assert_eq!(read.kind(), io::ErrorKind::PermissionDenied);
    assert_eq!(write.kind(), io::ErrorKind::PermissionDenied);
    assert!(matches!(reason, Some(EndReason::Withdrawn(_))));
}

#[tokio::test]
async fn the_rest_of_a_message_may_be_read_after_the_end_if_that_was_allowed() {
    let scene = Scene::new();
    let permit = scene.ask().await.unwrap();
    let (near, mut far) = tokio::io::duplex(64);
    let mut guarded = permit.guard(near);
    guarded.allow_rest(5);
    far.write_all(b"message, and another").await.unwrap();
    let mut piece = [0; 4];
    guarded.read_exact(&mut piece).await.unwrap();
    scene.change(Err(Reason::UnknownUser));
    // Two reads: the first leaves a byte, the second may take more than that.
    for expected in [b"age,", b" and"] {
        guarded.read_exact(&mut piece).await.unwrap();
        assert_eq!(&piece, expected);
        let write = guarded.write(b"x").await.unwrap_err();
        assert_eq!(write.kind(), io::ErrorKind::PermissionDenied);
    }
    let read = guarded.read(&mut piece).await.unwrap_err();
    assert_eq!(read.kind(), io::ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn connections_are_counted_and_given_back() {
    let scene = Scene::new();
    scene.change(Ok(SessionLimits { max_connections: Some(1), ..limits() }));
    let first = scene.ask().await.unwrap();
    assert!(matches!(scene.ask().await, Err(Denied::TooManyConnections { open: 1 })));
    let within = scene.gate.authorize_within(&first, session()).await.unwrap();
    drop(first);
    assert!(scene.ask().await.is_err(), "what was opened within it counts as the same one");
    drop(within);
    assert!(scene.ask().await.is_ok());
}

#[tokio::test]
async fn a_decision_within_a_session_stands_for_a_second_and_no_change() {
    let scene = Scene::new();
    let session_permit = scene.ask().await.unwrap();
    let ask = || scene.gate.authorize_within(&session_permit, session());
    let permit = ask().await.unwrap();
    assert!(scene.gate.stands(&permit) && scene.gate.stands(&session_permit));
    scene.clock.advance(Gate::KEPT_FOR - Duration::from_millis(1));
    assert!(scene.gate.stands(&permit));
    scene.clock.advance(Duration::from_millis(1));
    assert!(!scene.gate.stands(&permit), "it is a second old");

    let permit = ask().await.unwrap();
    scene.change(Ok(limits()));
    assert!(!scene.gate.stands(&permit), "the policy has changed, if not for this");

    let permit = ask().await.unwrap();
    *scene.policy.fresh_at.lock().unwrap() = Some(START);
    scene.clock.advance(Duration::from_millis(1));
    assert!(scene.gate.stands(&permit));
    *scene.policy.fresh_at.lock().unwrap() = Some(Timestamp::EPOCH);
    assert!(!scene.gate.stands(&permit), "the policy is stale");

    *scene.policy.fresh_at.lock().unwrap() = None;
    let soon = scene.clock.now().plus(Duration::from_millis(500));
    scene.change(Ok(SessionLimits { expires: soon, ..limits() }));
    let permit = ask().await.unwrap();
    scene.clock.advance(Duration::from_millis(499));
    assert!(scene.gate.stands(&permit));
    scene.clock.advance(Duration::from_millis(1));
    assert!(!scene.gate.stands(&permit), "what it allows is over");
}

#[tokio::test]
async fn what_is_served_no_more_ends_with_its_reason_and_what_changes_is_decided_anew() {
    let clock = ManualClock::at(START);
    let scene = Scene::new();
    let standing = Arc::new(Mutex::new(Standing::Same));
    let looked = Arc::clone(&standing);
    let policy = Arc::new(ServedPolicy::new(
        Arc::clone(&scene.policy) as Arc<dyn PolicySource>,
        move |_: &Resource| looked.lock().unwrap().clone(),
    ));
    let audit = Arc::clone(&scene.audit) as Arc<dyn crate::audit::AuditSink>;
    let gate = Gate::new(policy, audit, Arc::new(clock), GateOptions::default());
    let ask = || gate.authorize(&scene.alice, session(), node(), Context::default());
    let tick = |now| {
        *standing.lock().unwrap() = now;
        scene.policy.changes.send_modify(|tick| *tick += 1);
    };

    let permit = ask().await.unwrap();
    let Target::Resource(mut relabelled) = node() else { panic!("a node") };
    relabelled.labels.insert("env".into(), "prod".into());
    let ended = permit.ended();
    tokio::pin!(ended);
    tick(Standing::Changed(relabelled));
    assert!(futures::poll!(&mut ended).is_pending());
    tick(Standing::Gone);
    let reason = ended.await;
    assert!(matches!(&reason, EndReason::Gone(id) if id.to_string() == "node/web-1"));
    assert_eq!(reason.to_string(), "node/web-1 is no longer served");
    let denied = ask().await.unwrap_err();
    assert_eq!(denied.public(), "node/web-1 is no longer served");
    // Whoever may not have it is not told.
    scene.change(Err(Reason::UserLocked));
    assert!(ask().await.unwrap_err().public().contains("locked out"));
}
