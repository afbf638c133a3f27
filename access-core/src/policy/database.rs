//! Database sessions and their statements.

use super::fixtures::*;
use super::*;
use crate::identity::Subject;
use crate::resource::ResourceKind;
use crate::role::CreateDbUserMode;

fn policy(roles: &[(&str, &str)]) -> PolicySnapshot {
    roles
        .iter()
        .fold(PolicySnapshot::builder(), |builder, (name, spec)| builder.role(&role(name, spec)))
        .trust_unlisted_users()
        .build()
}

fn roach() -> Target {
    Target::Resource(resource(ResourceKind::Database, "roach", &[("env", "prod")]))
}

/// Everything of every database, with these options.
fn open(options: &str) -> String {
    format!(
        r#"{{"options": {options}, "allow": {{"db_labels": {{"*": "*"}}, "db_names": ["app*"],
            "db_users": ["app"], "db_roles": ["reader", "{{{{internal.db_roles}}}}"]}}}}"#
    )
}

fn statement(command: &str, writes: bool) -> Action {
    Action::DatabaseStatement {
        user: login("app"),
        database: "app".into(),
        command: command.to_owned().into(),
        writes,
    }
}

fn granted(snapshot: &PolicySnapshot, roles: &[&str]) -> DatabaseGrant {
    match ask(snapshot, &verified(alice(roles)), &db("app", "app"), &roach()) {
        Decision::Allow(grant) => grant.database,
        Decision::Deny(reason) => panic!("denied: {reason}"),
    }
}

fn db(user: &str, name: &str) -> Action {
    Action::Database { user: login(user), database: name.into() }
}

#[test]
fn patterns_never_match_a_databases_superuser() {
    let spec = |users: &str| {
        format!(
            r#"{{"allow": {{"db_labels": {{"*": "*"}}, "db_names": ["*"], "db_users": {users}}}}}"#
        )
    };
    let target = Target::Resource(resource(ResourceKind::Database, "roach", &[]));
    // A bot is held to it as a person is.
    let may = |users: &str, held: &[&str], user: &str| {
        let snapshot = policy(&[("db", &spec(users))]);
        let people = [alice(&["db"]).subject, Subject::Bot { name: user_name("alice") }];
        let [person, bot] = people.map(|subject| {
            let mut identity = alice(&["db"]);
            identity.subject = subject;
            identity.traits = traits(&[("db_users", held)]);
            ask(&snapshot, &verified(identity), &db(user, "app"), &target).is_allow()
        });
        assert_eq!(person, bot, "{users} {user}");
        person
    };
    for users in [
        r#"["*"]"#,
        r#"["ro*", "no*", "RO*"]"#,
        r#"["^.*$"]"#,
        r#"["{{internal.db_users}}"]"#,
        r#"["{{email.local(internal.db_users)}}"]"#,
        r#"["{{regexp.replace(internal.db_users, \"^(.*)$\", \"$1\")}}"]"#,
    ] {
        for user in ["root", "node", "ROOT", "Node"] {
            assert!(!may(users, &["*"], user), "{users} {user}");
        }
    }
    assert!(may(r#"["*"]"#, &[], "app") && may(r#"["{{internal.db_users}}"]"#, &["*"], "app"));
    assert!(may(r#"["*", "root"]"#, &[], "root"));
    assert!(may(r#"["{{internal.db_users}}"]"#, &["root"], "root"));
    assert!(!may(r#"["{{external.db_users}}"]"#, &["*"], "app"));
    // Denials do not tell upper from lower case, which databases may not either.
    let snapshot = policy(&[
        ("db", &spec(r#"["*", "ADMIN"]"#)),
        ("no", r#"{"deny": {"db_users": ["admin", "sys*"]}}"#),
    ]);
    let who = verified(alice(&["db", "no"]));
    for (user, allowed) in [("app", true), ("ADMIN", false), ("SYSTEM", false)] {
        assert_eq!(ask(&snapshot, &who, &db(user, "app"), &target).is_allow(), allowed, "{user}");
    }
}

#[test]
fn a_statement_needs_what_its_session_needs() {
    let snapshot =
        policy(&[("db", &open("{}")), ("not-prod", r#"{"deny": {"db_labels": {"env": "prod"}}}"#)]);
    let who = verified(alice(&["db"]));
    let select = statement("SELECT", false);
    assert!(ask(&snapshot, &who, &select, &roach()).is_allow());
    let other = |user: &str, database: &str| Action::DatabaseStatement {
        user: login(user),
        database: database.into(),
        command: "SELECT".into(),
        writes: false,
    };
    assert!(!ask(&snapshot, &who, &other("root", "app"), &roach()).is_allow());
    assert!(!ask(&snapshot, &who, &other("app", "other"), &roach()).is_allow());
    let denied = verified(alice(&["db", "not-prod"]));
    assert!(!ask(&snapshot, &denied, &select, &roach()).is_allow());
    let node = Target::Resource(node(&[]));
    assert!(matches!(
        ask(&snapshot, &who, &select, &node),
        Decision::Deny(Reason::Mismatch { action: "db.statement", .. })
    ));
}

#[test]
fn statements_are_refused_by_the_options_of_any_role() {
    let snapshot = policy(&[
        ("db", &open("{}")),
        ("reader", r#"{"options": {"db_read_only": true}}"#),
        ("no-drop", r#"{"options": {"db_deny_commands": ["DROP", "copy from"]}}"#),
        ("no-alter", r#"{"options": {"db_deny_commands": "ALTER"}}"#),
    ]);
    let verdict = |roles: &[&str], command: &str, writes: bool| match ask(
        &snapshot,
        &verified(alice(roles)),
        &statement(command, writes),
        &roach(),
    ) {
        Decision::Allow(_) => None,
        Decision::Deny(reason) => Some((reason.to_string(), reason.public())),
    };
    let told = |full: &str, public: &str| Some((full.to_owned(), public.to_owned()));
    let all = ["db", "reader", "no-drop", "no-alter"];
    assert_eq!(verdict(&["db"], "DROP TABLE", true), None);
    assert_eq!(verdict(&all, "SELECT", false), None);
    assert_eq!(
        verdict(&all, "INSERT", true),
        told(
            "INSERT is not permitted by the option db_read_only of role reader",
            "your roles do not permit INSERT: db_read_only"
        )
    );
    // The command is named before the general rule, and whether it writes is no matter.
    for writes in [true, false] {
        assert_eq!(
            verdict(&all, "DROP TABLE", writes),
            told(
                "DROP TABLE is not permitted by the option db_deny_commands of role no-drop",
                "your roles do not permit DROP TABLE: db_deny_commands"
            )
        );
    }
    assert_eq!(verdict(&["db", "no-drop"], "ALTER TABLE", true), None);
    assert_eq!(verdict(&["db", "no-drop"], "COPY TO", false), None);
    assert!(verdict(&["db", "no-drop"], "COPY FROM", true).is_some());
    assert!(verdict(&["db", "no-drop", "no-alter"], "ALTER TABLE", true).is_some());
    // What was not read can be any of them.
    assert!(verdict(&["db", "no-drop"], "UNKNOWN", true).is_some());
    assert!(verdict(&["db", "reader"], "UNKNOWN", true).is_some());
    assert_eq!(verdict(&["db"], "UNKNOWN", true), None);

    let grant = granted(&snapshot, &all);
    assert!(grant.read_only);
    let denied: Vec<&str> = grant.deny_commands.iter().collect();
    assert_eq!(denied, ["ALTER", "COPY FROM", "DROP"]);
}

#[test]
fn replication_needs_a_role_that_allows_the_session_and_says_yes() {
    let snapshot = policy(&[
        ("db", &open("{}")),
        ("replica", &open(r#"{"db_replication": true}"#)),
        ("elsewhere", r#"{"options": {"db_replication": true}}"#),
        ("never", r#"{"options": {"db_replication": false}}"#),
    ]);
    for (roles, expected) in [
        (&["db"][..], false),
        (&["db", "replica"], true),
        (&["db", "elsewhere"], false),
        (&["db", "replica", "never"], false),
    ] {
        assert_eq!(granted(&snapshot, roles).replication, expected, "{roles:?}");
    }
}

/// The same database, with an admin user.
fn with_admin() -> Target {
    let mut server = resource(ResourceKind::Database, "roach", &[("env", "prod")]);
    server.admin_user = Some(login("access-admin"));
    Target::Resource(server)
}

/// What somebody called alice, with these roles, gets who asks for an account: the mode and the
/// roles in the database, or why not.
fn made(
    snapshot: &PolicySnapshot,
    held: &[&str],
    action: &Action,
    target: &Target,
) -> Result<(CreateDbUserMode, Vec<String>), String> {
    let mut identity = alice(held);
    identity.traits = traits(&[("db_roles", &["admin", "writer"])]);
    match ask(snapshot, &verified(identity), action, target) {
        Decision::Allow(grant) => Ok((grant.database.create_user, grant.database.roles.to_vec())),
        Decision::Deny(reason) => Err(reason.public()),
    }
}

fn named(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

const NO: &str = "access denied, or there is no such thing";
const OWN: &str =
    "your account on this database is made for you: connect as alice, and as nobody else";

fn making_policy() -> PolicySnapshot {
    policy(&[
        ("db", &open("{}")),
        ("made", &open(r#"{"create_db_user_mode": "keep"}"#)),
        ("drop", &open(r#"{"create_db_user_mode": "best_effort_drop"}"#)),
        (
            "elsewhere",
            r#"{"options": {"create_db_user_mode": "keep"},
                "allow": {"db_labels": {"env": "dev"}, "db_names": ["*"], "db_roles": ["devel"]}}"#,
        ),
        (
            "bare",
            r#"{"options": {"create_db_user_mode": "keep"},
                "allow": {"db_labels": {"*": "*"}, "db_names": ["app"]}}"#,
        ),
        ("off", r#"{"options": {"create_db_user_mode": "off"}}"#),
        ("no-admin", r#"{"deny": {"db_roles": ["adm*"]}}"#),
        ("no-alice", r#"{"deny": {"db_users": ["ali*"]}}"#),
        ("not-prod", r#"{"deny": {"db_labels": {"env": "prod"}}}"#),
    ])
}

#[test]
fn accounts_that_are_made_get_the_granted_roles_and_others_none() {
    use CreateDbUserMode::{BestEffortDrop, Keep, Off};
    let snapshot = making_policy();
    let (own, target) = (db("alice", "app"), with_admin());
    let got = |held: &[&str]| made(&snapshot, held, &own, &target);
    // `db_users` names another account, which is not looked at.
    assert_eq!(got(&["db"]), Err(NO.into()));
    assert_eq!(got(&["made"]), Ok((Keep, named(&["admin", "reader", "writer"]))));
    assert_eq!(got(&["db", "made"]), Ok((Keep, named(&["admin", "reader", "writer"]))));
    assert_eq!(got(&["made", "no-admin"]), Ok((Keep, named(&["reader", "writer"]))));
    // A role without any says that it is made, and others what it gets.
    assert_eq!(got(&["bare"]), Ok((Keep, named(&[]))));
    assert_eq!(got(&["bare", "db"]), Ok((Keep, named(&["admin", "reader", "writer"]))));
    // The strictest of all that are held, wherever they lead.
    assert_eq!(got(&["made", "drop"]).unwrap().0, BestEffortDrop);
    assert_eq!(
        got(&["drop", "elsewhere"]).unwrap(),
        (BestEffortDrop, named(&["admin", "reader", "writer"]))
    );
    assert_eq!(got(&["made", "off"]), Err(NO.into()));
    // One that does not lead here has nothing made here.
    assert_eq!(got(&["db", "elsewhere"]), Err(NO.into()));
    let account = db("app", "app");
    assert_eq!(made(&snapshot, &["db", "elsewhere"], &account, &target), Ok((Off, named(&[]))));
    assert_eq!(made(&snapshot, &["made", "off"], &account, &target), Ok((Off, named(&[]))));
    for denying in ["no-alice", "not-prod"] {
        assert_eq!(got(&["made", denying]), Err(NO.into()), "{denying}");
    }
    // Names of databases are looked at.
    let other = db("alice", "other");
    assert_eq!(made(&snapshot, &["made"], &other, &target), Err(NO.into()));
    // A database without an admin user makes none.
    assert_eq!(made(&snapshot, &["made"], &own, &roach()), Err(NO.into()));
    assert_eq!(made(&snapshot, &["made"], &account, &roach()), Ok((Off, named(&[]))));
}

#[test]
fn whose_account_is_made_has_no_other() {
    let snapshot = making_policy();
    let target = with_admin();
    // Even if another role names it.
    for user in ["app", "Alice", "bob", "root", "access-admin"] {
        let got = made(&snapshot, &["made", "db"], &db(user, "app"), &target);
        assert_eq!(got, Err(OWN.into()), "{user}");
    }
    // Who may not have the session is not told.
    assert_eq!(made(&snapshot, &["made"], &db("app", "other"), &target), Err(NO.into()));
    assert_eq!(made(&snapshot, &["made", "not-prod"], &db("app", "app"), &target), Err(NO.into()));
    for name in ["root", "Node", "access-admin"] {
        let mut identity = alice(&["made"]);
        identity.subject = Subject::User { name: user_name(name) };
        let decision = ask(&snapshot, &verified(identity), &db(name, "app"), &target);
        let Decision::Deny(reason) = decision else { panic!("{name} got an account") };
        assert!(reason.public().contains("reserved"), "{reason}");
    }
}

#[test]
fn statements_over_an_account_that_is_made_need_what_its_session_needs() {
    let snapshot = making_policy();
    let target = with_admin();
    let by = |user: &str, held: &[&str]| {
        let action = Action::DatabaseStatement {
            user: login(user),
            database: "app".into(),
            command: "SELECT".into(),
            writes: false,
        };
        ask(&snapshot, &verified(alice(held)), &action, &target).is_allow()
    };
    assert!(by("alice", &["made"]) && by("app", &["db"]));
    assert!(!by("app", &["made", "db"]) && !by("alice", &["db"]) && !by("alice", &["made", "off"]));
}

#[test]
fn it_is_known_beforehand_whether_an_account_is_made() {
    let snapshot = making_policy();
    let Target::Resource(server) = with_admin() else { panic!("a database") };
    let mode = |held: &[&str]| {
        let (who, context) = (verified(alice(held)), Context::default());
        account_mode(&snapshot, &who, &server, &context, at(1000))
    };
    assert_eq!(mode(&["bare"]), CreateDbUserMode::Keep);
    assert_eq!(mode(&["bare", "drop"]), CreateDbUserMode::BestEffortDrop);
    for held in [&["db"][..], &["elsewhere"], &["made", "off"], &[]] {
        assert_eq!(mode(held), CreateDbUserMode::Off, "{held:?}");
    }
}
