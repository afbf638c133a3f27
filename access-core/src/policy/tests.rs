use std::time::Duration;

use super::fixtures::*;
use super::*;
use crate::document::Document;
use crate::identity::{MfaProof, Service, Subject, VerifiedIdentity};
use crate::ids::{HostId, RoleName};
use crate::resource::{ResourceKind, ResourceRef};
use crate::role::{AccountKind, CreateDbUserMode, RoleDocument};

const DEV: &str = r#"{"allow": {"logins": ["alice", "root"], "node_labels": {"env": "prod"}}}"#;

fn with_roles(roles: &[(&str, &str)]) -> PolicyBuilder {
    roles
        .iter()
        .fold(PolicySnapshot::builder(), |builder, (name, spec)| builder.role(&role(name, spec)))
        .trust_unlisted_users()
}

fn policy(roles: &[(&str, &str)]) -> PolicySnapshot {
    with_roles(roles).build()
}

fn prod() -> Target {
    Target::Resource(node(&[("env", "prod")]))
}

fn reason(snapshot: &PolicySnapshot, who: &VerifiedIdentity, action: &Action) -> Reason {
    match ask(snapshot, who, action, &prod()) {
        Decision::Deny(reason) => reason,
        Decision::Allow(grant) => panic!("allowed: {grant:?}"),
    }
}

fn grant(snapshot: &PolicySnapshot, who: &VerifiedIdentity, action: &Action) -> Grant {
    match ask(snapshot, who, action, &prod()) {
        Decision::Allow(grant) => grant,
        Decision::Deny(reason) => panic!("denied: {reason}"),
    }
}

#[test]
fn labels_login_and_certificate_must_all_agree() {
    let snapshot = policy(&[("dev", DEV)]);
    assert!(may_ssh(&snapshot, alice(&["dev"]), "alice"));
    // Allowed by the certificate, not by the role; and the other way round.
    assert!(!may_ssh(&snapshot, alice(&["dev"]), "ubuntu"));
    let mut narrow = alice(&["dev"]);
    narrow.logins = vec![login("alice")];
    assert!(!may_ssh(&snapshot, narrow.clone(), "root"));
    assert_eq!(
        reason(&snapshot, &verified(narrow), &ssh("root")),
        Reason::Principal(login("root"))
    );
    assert!(!may_ssh(&snapshot, alice(&[]), "alice"));
    assert!(!may_ssh(&snapshot, alice(&["unheard-of"]), "alice"));
    let lab = Target::Resource(node(&[("env", "lab")]));
    assert!(!ask(&snapshot, &verified(alice(&["dev"])), &ssh("alice"), &lab).is_allow());
    // One role must allow all of it: labels of one and the login of another will not do.
    let split = policy(&[
        ("labels", r#"{"allow": {"node_labels": {"*": "*"}}}"#),
        ("logins", r#"{"allow": {"logins": ["alice"]}}"#),
    ]);
    assert!(!may_ssh(&split, alice(&["labels", "logins"]), "alice"));
}

#[test]
fn a_denial_names_its_role_to_admins_and_nothing_to_users() {
    let snapshot = policy(&[("dev", DEV), ("no-root", r#"{"deny": {"logins": ["root"]}}"#)]);
    let who = verified(alice(&["dev", "no-root"]));
    let denied = reason(&snapshot, &who, &ssh("root"));
    assert_eq!(denied, Reason::DeniedBy(role_name("no-root")));
    assert!(denied.to_string().contains("no-root"));
    let absent = match ask(&snapshot, &who, &ssh("alice"), &Target::Resource(node(&[]))) {
        Decision::Deny(reason) => reason,
        Decision::Allow(_) => panic!("allowed"),
    };
    assert_eq!(denied.public(), absent.public());
    assert_ne!(denied.to_string(), absent.to_string());
    assert!(grant(&snapshot, &who, &ssh("alice")).roles == [role_name("dev")]);
}

#[test]
fn a_role_that_was_taken_away_counts_no_more() {
    let user = |roles: &[&str]| UserState::with_roles(roles.iter().map(|role| role_name(role)));
    let snapshot = with_roles(&[("dev", DEV)]).user(user_name("alice"), user(&["dev"])).build();
    assert!(may_ssh(&snapshot, alice(&["dev"]), "alice"));
    // Held now, but not in the certificate.
    assert!(!may_ssh(&snapshot, alice(&[]), "alice"));
    let snapshot = snapshot.to_builder().user(user_name("alice"), user(&["other"])).build();
    assert!(!may_ssh(&snapshot, alice(&["dev"]), "alice"));
    // A role that is made after the user who holds it.
    let snapshot = PolicySnapshot::builder()
        .user(user_name("alice"), user(&["late", "dev"]))
        .role(&role("dev", DEV))
        .build();
    assert!(may_ssh(&snapshot, alice(&["dev", "late"]), "alice"));
    let snapshot = snapshot.to_builder().remove_role(&role_name("dev")).build();
    assert!(!may_ssh(&snapshot, alice(&["dev"]), "alice"));
}

#[test]
fn removed_unknown_and_locked_users_and_void_certificates_are_denied() {
    let base = || PolicySnapshot::builder().role(&role("dev", DEV));
    let held = UserState::with_roles([role_name("dev")]);
    let with = |state: UserState| base().user(user_name("alice"), state).build();
    let who = verified(alice(&["dev"]));
    assert_eq!(reason(&base().build(), &who, &ssh("alice")), Reason::UnknownUser);
    let removed = with(UserState { removed: true, ..held.clone() });
    assert_eq!(reason(&removed, &who, &ssh("alice")), Reason::UnknownUser);
    let locked = with(UserState { locked: true, ..held.clone() });
    assert_eq!(reason(&locked, &who, &ssh("alice")), Reason::UserLocked);
    let void = with(UserState { valid_after: at(501), ..held.clone() });
    assert!(matches!(reason(&void, &who, &ssh("alice")), Reason::Void { .. }));
    let good = with(UserState { valid_after: at(500), ..held.clone() });
    assert!(ask(&good, &who, &ssh("alice"), &prod()).is_allow());
    let gone = good.to_builder().remove_user(&user_name("alice")).build();
    assert_eq!(reason(&gone, &who, &ssh("alice")), Reason::UnknownUser);
    let cleared = good.to_builder().clear().build();
    assert_eq!(reason(&cleared, &who, &ssh("alice")), Reason::UnknownUser);
}

#[test]
fn lent_roles_count_while_their_request_holds() {
    let mut state = UserState::with_roles([]);
    let lent = LentRoles { roles: vec![role_name("dev")], expires: at(2000) };
    state.lent.insert("req-1".into(), lent.clone());
    let snapshot = |state: &UserState| {
        PolicySnapshot::builder()
            .role(&role("dev", DEV))
            .user(user_name("alice"), state.clone())
            .build()
    };
    let mut identity = alice(&["dev"]);
    assert!(!may_ssh(&snapshot(&state), identity.clone(), "alice"));
    identity.access_requests = vec!["req-1".into()];
    let who = verified(identity);
    // The session ends with the loan, not with the certificate.
    assert_eq!(grant(&snapshot(&state), &who, &ssh("alice")).limits.expires, at(2000));
    state.lent.insert("req-1".into(), LentRoles { expires: at(1000), ..lent });
    assert!(!ask(&snapshot(&state), &who, &ssh("alice"), &prod()).is_allow());
    state.lent.clear();
    assert!(!ask(&snapshot(&state), &who, &ssh("alice"), &prod()).is_allow());
}

#[test]
fn a_role_that_cannot_be_read_denies_its_holders() {
    let broken = role("broken", r#"{"allow": {"logins": ["*"]}}"#);
    let snapshot = with_roles(&[("dev", DEV)]).role(&broken).build();
    assert!(may_ssh(&snapshot, alice(&["dev"]), "alice"));
    assert!(!may_ssh(&snapshot, alice(&["dev", "broken"]), "alice"));
    let who = verified(alice(&["dev", "broken"]));
    let why = reason(&snapshot, &who, &ssh("alice")).to_string();
    assert!(why.contains("broken") && why.contains("allow.logins"), "{why}");
    assert_eq!(visible(&snapshot, &who, &Context::default(), now(), [&node(&[])]).count(), 0);
    assert_eq!(max_ttl(&snapshot, &[role_name("broken")]), Duration::ZERO);
    assert!(
        logins_for(&snapshot, &[role_name("dev"), role_name("broken")], &traits(&[])).is_empty()
    );
    let snapshot = snapshot.to_builder().unreadable_role(&role_name("dev"), "too new").build();
    assert!(!may_ssh(&snapshot, alice(&["dev"]), "alice"));
    assert_eq!(snapshot.unreadable_roles().count(), 2);
    // Who had it taken away is not held up by it.
    let snapshot = with_roles(&[("dev", DEV)])
        .role(&broken)
        .user(user_name("alice"), UserState::with_roles([role_name("dev")]))
        .build();
    assert!(may_ssh(&snapshot, alice(&["dev", "broken"]), "alice"));
}

#[test]
fn each_kind_of_lock_stops_what_it_names_until_it_expires() {
    let mut identity = alice(&["dev"]);
    identity.mfa = Some(MfaProof { device: "key-1".into(), at: at(400) });
    identity.access_requests = vec!["req-1".into()];
    let who = verified(identity);
    let targets = [
        LockTarget::User(user_name("alice")),
        LockTarget::Role(role_name("dev")),
        LockTarget::Login(login("alice")),
        LockTarget::Node("web-1".into()),
        LockTarget::Node("host-1".into()),
        LockTarget::Resource(ResourceRef::node(node(&[]).id.name)),
        LockTarget::MfaDevice("key-1".into()),
        LockTarget::AccessRequest("req-1".into()),
    ];
    for target in targets {
        let lock = |expires| Lock { target: target.clone(), message: "stolen".into(), expires };
        let with = |expires| with_roles(&[("dev", DEV)]).lock("l", lock(expires)).build();
        for (expires, holds) in [(None, true), (Some(at(1001)), true), (Some(at(1000)), false)] {
            let allowed = ask(&with(expires), &who, &ssh("alice"), &prod()).is_allow();
            assert_eq!(allowed, !holds, "{target} {expires:?}");
        }
        let why = reason(&with(None), &who, &ssh("alice")).to_string();
        assert!(why.contains(&target.to_string()) && why.contains("stolen"), "{why}");
        let lifted = with(None).to_builder().remove_lock("l").build();
        assert!(ask(&lifted, &who, &ssh("alice"), &prod()).is_allow(), "{target}");
        let listed =
            visible(&with(None), &who, &Context::default(), now(), [node(&[("env", "prod")])])
                .count();
        assert_eq!(listed, usize::from(matches!(target, LockTarget::Login(_))), "{target}");
    }
    // A lock on a host voids the host's own certificate, by id and by the name of what it serves.
    let agent = verified(host("host-1", &[Service::Node]));
    let read = |snapshot: &PolicySnapshot| {
        ask(snapshot, &agent, &Action::Api(Verb::List), &Target::api(ApiKind::Role)).is_allow()
    };
    let lock = |node: &str| Lock {
        target: LockTarget::Node(node.into()),
        message: String::new(),
        expires: None,
    };
    assert!(read(&policy(&[])));
    assert!(!read(&with_roles(&[]).lock("l", lock("host-1")).build()));
    assert!(read(&with_roles(&[]).lock("l", lock("host-2")).build()));
    // One on a resource leaves the host its own: it has to hear of the lock.
    let mut identity = host("host-1", &[Service::Node]);
    let Subject::Host { resources, .. } = &mut identity.subject else { panic!("no host") };
    resources.push(node(&[]).id);
    let agent = verified(identity);
    let by = |target: LockTarget| {
        let lock = Lock { target, message: String::new(), expires: None };
        let snapshot = with_roles(&[]).lock("l", lock).build();
        ask(&snapshot, &agent, &Action::Api(Verb::List), &Target::api(ApiKind::Role)).is_allow()
    };
    assert!(by(LockTarget::Resource(node(&[]).id)));
    assert!(!by(LockTarget::Node("web-1".into())));
}

#[test]
fn lock_documents_read_as_people_write_them() {
    let json = br#"{"kind": "lock", "version": "v1", "metadata": {"name": "l1"},
        "spec": {"target": {"user": "alice"}, "expires": "2026-01-01T00:00:00Z"}}"#;
    let lock = Document::<Lock>::from_json(json).unwrap();
    assert_eq!(lock.spec.target, LockTarget::User(user_name("alice")));
    let typo = String::from_utf8_lossy(json).replace("\"user\"", "\"usr\"");
    let error = Document::<Lock>::from_json(typo.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("did you mean \"user\""), "{error}");
}

#[test]
fn pinned_certificates_need_their_address() {
    let snapshot = policy(&[("dev", DEV)]);
    let mut identity = alice(&["dev"]);
    identity.source_pin = Some("203.0.113.0/24".parse().unwrap());
    let who = verified(identity);
    for (address, allowed) in
        [(None, false), (Some("203.0.113.9"), true), (Some("198.51.100.1"), false)]
    {
        let client_addr = address.map(|address| address.parse().unwrap());
        let context = Context { client_addr, trace_id: None };
        let decision = decide(&snapshot, &who, &ssh("alice"), &prod(), &context, now());
        assert_eq!(decision.is_allow(), allowed, "{address:?}");
        let listed = visible(&snapshot, &who, &context, now(), [node(&[("env", "prod")])]).count();
        assert_eq!(listed, usize::from(allowed));
    }
    // A role can demand the pin.
    let demanding = policy(&[("dev", DEV), ("pin", r#"{"options": {"pin_source_ip": true}}"#)]);
    assert!(!may_ssh(&demanding, alice(&["dev", "pin"]), "alice"));
}

#[test]
fn a_certificate_for_one_resource_is_good_for_nothing_else() {
    let all = r#"{"allow": {"logins": ["alice"], "node_labels": {"*": "*"},
                            "rules": [{"resources": ["*"], "verbs": ["*"]}]}}"#;
    let snapshot = policy(&[("all", all)]);
    let mut identity = alice(&["all"]);
    identity.route = Some("node/web-1".parse().unwrap());
    let who = verified(identity);
    let other = Target::Resource(resource(ResourceKind::Node, "web-2", &[]));
    assert!(ask(&snapshot, &who, &ssh("alice"), &prod()).is_allow());
    assert!(!ask(&snapshot, &who, &ssh("alice"), &other).is_allow());
    let api = Target::api(ApiKind::Role);
    assert!(!ask(&snapshot, &who, &Action::Api(Verb::Read), &api).is_allow());
}

#[test]
fn session_mfa_needs_a_certificate_for_the_target() {
    let strict = DEV.replacen('{', r#"{"options": {"require_session_mfa": true}, "#, 1);
    let snapshot = policy(&[("strict", &strict), ("dev", DEV)]);
    // A role that does not allow the session does not make it stricter either.
    assert!(may_ssh(&snapshot, alice(&["dev"]), "alice"));
    let mut identity = alice(&["dev", "strict"]);
    identity.mfa = Some(MfaProof { device: "key".into(), at: at(400) });
    let denied = reason(&snapshot, &verified(identity.clone()), &ssh("alice"));
    assert!(matches!(denied, Reason::SessionMfa(_)));
    assert!(ask(&snapshot, &verified(identity.clone()), &Action::See, &prod()).is_allow());
    identity.route = Some("node/web-1".parse().unwrap());
    assert!(may_ssh(&snapshot, identity.clone(), "alice"));
    identity.mfa = None;
    assert!(!may_ssh(&snapshot, identity, "alice"));
}

#[test]
fn forwarding_agent_and_files_follow_their_options() {
    let opts = |name: &'static str, options: &str| {
        (name, DEV.replacen('{', &format!(r#"{{"options": {options}, "#), 1))
    };
    let roles = [
        opts("plain", "{}"),
        opts("no-forward", r#"{"port_forwarding": false}"#),
        opts("agent", r#"{"forward_agent": true}"#),
        opts("no-files", r#"{"ssh_file_copy": false, "permit_pty": false}"#),
        opts("no-remote", r#"{"ssh_port_forwarding": {"remote": {"enabled": false}}}"#),
    ];
    let roles: Vec<(&str, &str)> =
        roles.iter().map(|(name, spec)| (*name, spec.as_str())).collect();
    let snapshot = policy(&roles);
    let user = || login("alice");
    let forward = Action::SshForward { login: user(), host: "db".into(), port: 1 };
    let listen = Action::SshListen { login: user(), host: "db".into(), port: 1 };
    let agent = Action::SshAgent { login: user() };
    let files = Action::SshSftp { login: user() };
    for (held, forwards, listens, agents, copies) in [
        (&["plain"][..], true, true, false, true),
        (&["no-forward"], false, false, false, true),
        (&["no-forward", "plain"], true, true, false, true),
        (&["plain", "agent"], true, true, true, true),
        (&["no-files", "plain"], true, true, false, false),
        (&["no-remote", "plain"], true, false, false, true),
    ] {
        let who = verified(alice(held));
        let limits = grant(&snapshot, &who, &ssh("alice")).limits;
        assert_eq!(limits.permit_pty, !held.contains(&"no-files"));
        for (action, expected, limit) in [
            (&forward, forwards, limits.local_forwarding),
            (&listen, listens, limits.remote_forwarding),
            (&agent, agents, limits.forward_agent),
            (&files, copies, limits.file_copy),
        ] {
            assert_eq!(ask(&snapshot, &who, action, &prod()).is_allow(), expected, "{held:?}");
            assert_eq!(limit, expected, "{held:?} {action:?}");
        }
    }
}

#[test]
fn the_strictest_limits_win() {
    let strict = r#"{"options": {
        "client_idle_timeout": "5m", "record_session": {"default": "off", "ssh": "strict"},
        "max_sessions": 3, "max_connections": 2, "max_session_ttl": "2h",
        "db_read_only": true, "create_db_user_mode": "keep",
        "db_replication": false, "db_redact_parameters": true, "db_deny_commands": "drop"}}"#;
    let lax = DEV.replacen(
        '{',
        r#"{"options": {"client_idle_timeout": "never", "record_session": {"default": "off"},
             "max_sessions": 9, "max_session_ttl": "8h", "create_db_user_mode": "off",
             "db_replication": true, "db_redact_parameters": false}, "#,
        1,
    );
    let snapshot = policy(&[("strict", strict), ("lax", &lax)]);
    let both = grant(&snapshot, &verified(alice(&["lax", "strict"])), &ssh("alice"));
    let database = both.database;
    assert!(database.read_only && database.redact_parameters && !database.replication);
    assert_eq!(database.create_user, CreateDbUserMode::Off);
    let both = both.limits;
    assert_eq!(both.idle, Some(Duration::from_secs(300)));
    assert_eq!(both.record, RecordMode::Strict);
    assert_eq!((both.max_sessions, both.max_connections), (Some(3), Some(2)));
    let alone = grant(&snapshot, &verified(alice(&["lax"])), &ssh("alice"));
    assert!(alone.database.replication && !alone.database.read_only);
    let alone = alone.limits;
    assert_eq!((alone.idle, alone.record), (None, RecordMode::Off));
    let roles: Vec<RoleName> = ["lax", "strict"].map(role_name).to_vec();
    assert_eq!(max_ttl(&snapshot, &roles), Duration::from_secs(7200));
    assert_eq!(max_ttl(&snapshot, &roles[..1]), Duration::from_secs(8 * 3600));
    assert_eq!(max_ttl(&snapshot, &[]), Duration::from_secs(30 * 3600));
}

#[test]
fn sessions_end_with_the_certificate_unless_nobody_demands_it() {
    let demanding = r#"{"options": {"disconnect_expired_cert": true}}"#;
    let settings = ClusterSettings { disconnect_expired_cert: false, ..ClusterSettings::default() };
    let ends = |snapshot: &PolicySnapshot, roles: &[&str]| {
        grant(snapshot, &verified(alice(roles)), &ssh("alice")).limits.expires
    };
    let strict = policy(&[("dev", DEV)]);
    assert_eq!(ends(&strict, &["dev"]), at(5000));
    let lax = with_roles(&[("dev", DEV), ("end", demanding)]).settings(settings).build();
    assert_eq!(ends(&lax, &["dev"]), crate::Timestamp::MAX);
    assert_eq!(ends(&lax, &["dev", "end"]), at(5000));
}

#[test]
fn a_role_that_expires_allows_no_more_but_still_denies() {
    let mut dev: RoleDocument = role("dev", DEV);
    dev.metadata.expires = Some(at(1500));
    let snapshot = PolicySnapshot::builder().role(&dev).trust_unlisted_users();
    let early = snapshot.clone().build();
    assert_eq!(grant(&early, &verified(alice(&["dev"])), &ssh("alice")).limits.expires, at(1500));
    dev.metadata.expires = Some(at(1000));
    assert!(!may_ssh(&snapshot.role(&dev).build(), alice(&["dev"]), "alice"));
    let mut deny = role("deny", r#"{"deny": {"logins": ["root"]}}"#);
    deny.metadata.expires = Some(at(900));
    let snapshot = with_roles(&[("dev", DEV)]).role(&deny).build();
    assert!(!may_ssh(&snapshot, alice(&["dev", "deny"]), "root"));
}

#[test]
fn certificates_name_the_logins_that_roles_allow() {
    let snapshot = policy(&[
        ("own", r#"{"allow": {"logins": ["{{internal.logins}}", "ubuntu", "a b\n"]}}"#),
        ("no-root", r#"{"deny": {"logins": ["ROOT"]}}"#),
    ]);
    let held = traits(&[("logins", &["alice", "root", "-bad", "*"])]);
    let logins = |roles: &[&str]| -> Vec<String> {
        let roles: Vec<RoleName> = roles.iter().map(|role| role_name(role)).collect();
        logins_for(&snapshot, &roles, &held).iter().map(ToString::to_string).collect()
    };
    assert_eq!(logins(&["own"]), ["alice", "root", "ubuntu"]);
    assert_eq!(logins(&["own", "no-root", "unheard-of"]), ["alice", "ubuntu"]);
    assert!(logins(&["no-root"]).is_empty());
}

#[test]
fn accounts_on_a_resource_come_from_the_roles_that_match_it() {
    let snapshot = policy(&[
        (
            "dev",
            r#"{"allow": {"kubernetes_labels": {"env": "dev"}, "kubernetes_groups": ["devs", "x-*"]}}"#,
        ),
        (
            "ops",
            r#"{"allow": {"kubernetes_labels": {"env": "prod"}, "kubernetes_groups": ["ops", "system:masters"]}}"#,
        ),
        ("not", r#"{"deny": {"kubernetes_groups": ["system:*"]}}"#),
    ]);
    let groups = |roles: &[&str], env: &str| -> Vec<String> {
        let cluster = resource(ResourceKind::KubernetesCluster, "k", &[("env", env)]);
        let who = verified(alice(roles));
        granted_accounts(&snapshot, &who, AccountKind::KubernetesGroup, &cluster, now())
            .unwrap()
            .into_iter()
            .collect()
    };
    assert_eq!(groups(&["dev", "ops"], "dev"), ["devs"]);
    assert_eq!(groups(&["dev", "ops"], "prod"), ["ops", "system:masters"]);
    assert_eq!(groups(&["dev", "ops", "not"], "prod"), ["ops"]);
    assert!(groups(&["dev"], "lab").is_empty());
}

#[test]
fn roles_may_be_asked_for_and_reviewed_as_roles_say() {
    let snapshot = preset_policy();
    let access = role_name("access");
    let who = |role: &str| verified(alice(&[role]));
    assert!(may_request(&snapshot, &who("requester"), &access, now()).is_ok());
    assert!(may_request(&snapshot, &who("reviewer"), &access, now()).is_err());
    assert!(may_request(&snapshot, &who("requester"), &role_name("editor"), now()).is_err());
    assert!(may_review(&snapshot, &who("reviewer"), &access, now()).is_ok());
    assert!(may_review(&snapshot, &who("requester"), &access, now()).is_err());
    let agent = verified(host("host-1", &[Service::Node]));
    assert!(may_review(&snapshot, &agent, &access, now()).is_err());
}

#[test]
fn hosts_list_what_is_theirs_and_proxies_list_all() {
    let snapshot = policy(&[]);
    let mut other = node(&[]);
    other.host = HostId::new("host-2").unwrap();
    let nodes = [node(&[]), other];
    let seen = |service| {
        let who = verified(host("host-1", &[service]));
        visible(&snapshot, &who, &Context::default(), now(), &nodes).count()
    };
    assert_eq!([seen(Service::Node), seen(Service::Proxy), seen(Service::Db)], [1, 2, 0]);
}
