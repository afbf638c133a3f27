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

#[test]
fn accounts_that_are_made_get_the_granted_roles_and_others_none() {
    let snapshot = policy(&[
        ("db", &open("{}")),
        ("made", &open(r#"{"create_db_user_mode": "keep"}"#)),
        ("off", r#"{"options": {"create_db_user_mode": "off"}}"#),
        ("no-admin", r#"{"deny": {"db_roles": ["adm*"]}}"#),
    ]);
    let roles = |held: &[&str]| {
        let mut identity = alice(held);
        identity.traits = traits(&[("db_roles", &["admin", "writer"])]);
        match ask(&snapshot, &verified(identity), &db("app", "app"), &roach()) {
            Decision::Allow(grant) => (grant.database.create_user, grant.database.roles.to_vec()),
            Decision::Deny(reason) => panic!("denied: {reason}"),
        }
    };
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(roles(&["db"]), (CreateDbUserMode::Off, named(&[])));
    assert_eq!(
        roles(&["db", "made"]),
        (CreateDbUserMode::Keep, named(&["admin", "reader", "writer"]))
    );
    assert_eq!(
        roles(&["made", "no-admin"]),
        (CreateDbUserMode::Keep, named(&["reader", "writer"]))
    );
    assert_eq!(roles(&["made", "off"]), (CreateDbUserMode::Off, named(&[])));
}
