use super::*;

fn read(text: &str) -> ConnString {
    text.parse().unwrap()
}

fn refused(text: &str) -> String {
    text.parse::<ConnString>().unwrap_err().to_string()
}

#[test]
fn the_contracts_own_example_is_understood() {
    let text = "postgres://access@crdb:26257/access_backend?pool_max_conns=20&sslmode=verify-full\
                &sslcert=/c.crt&sslkey=/c.key&sslrootcert=/ca.crt";
    let conn = read(text);
    assert_eq!(conn.ssl_mode(), SslMode::VerifyFull);
    assert_eq!(conn.pooling().max_conns, 20);
    assert_eq!(conn.tls().identity, Some(("/c.crt".into(), "/c.key".into())));
    assert_eq!(conn.tls().root, Some("/ca.crt".into()));
    assert_eq!(conn.to_string(), "postgres://access@crdb:26257/access_backend");
}

#[test]
fn both_forms_say_the_same() {
    let url = read("postgresql://da%40n:p%25w@a:1,[::1]:2/db?connect_timeout=3&application_name=x");
    let words = read(
        r"user=da@n password = 'p%w' host=a,::1 port=1,2 dbname=db connect_timeout=3 application_name='x'",
    );
    assert_eq!(url.config, words.config);
    assert_eq!(url.config.get_ports(), [1, 2]);
    assert_eq!(url.config.get_password(), Some(&b"p%w"[..]));
    let quoted = read(r"user='o\'neil' host=/run/pg");
    assert_eq!(quoted.user(), "o'neil");
    assert_eq!(quoted.database(), "o'neil");
}

#[test]
fn no_password_is_shown() {
    let conn = read("postgres://u:hunter2@h/db");
    assert!(!format!("{conn:?} {conn}").contains("hunter2"));
    assert!(!refused("postgres://u:hunter2@h/db?sslmod=x").contains("hunter2"));
    assert!(!refused("mysql://u:hunter2@h/db").contains("hunter2"));
}

#[test]
fn what_leaves_the_machine_is_verified_unless_said_otherwise() {
    for (text, mode) in [
        ("postgres://u@db.example.com/x", SslMode::VerifyFull),
        ("postgres://u@10.0.0.1/x", SslMode::VerifyFull),
        ("postgres://u@localhost,db/x", SslMode::VerifyFull),
        ("postgres://u@localhost/x", SslMode::Prefer),
        ("postgres://u@127.0.0.1/x", SslMode::Prefer),
        ("postgres://u@%2Frun%2Fpg/x", SslMode::Prefer),
        ("postgres://u@db/x?sslmode=allow", SslMode::Allow),
        ("postgres://u@db/x?sslmode=disable", SslMode::Disable),
        ("postgres://u@db/x?sslmode=require", SslMode::Require),
        ("postgres://u@db/x?sslmode=verify-ca", SslMode::VerifyCa),
    ] {
        assert_eq!(read(text).ssl_mode(), mode, "{text}");
    }
}

#[test]
fn errors_name_the_parameter_and_the_nearest() {
    for (text, expected) in [
        ("postgres://u@h/d?sslrootcrt=/x", "did you mean sslrootcert?"),
        ("postgres://u@h/d?pool_max_con=3", "did you mean pool_max_conns?"),
        ("postgres://u@h/d?SSLMODE=require", "did you mean sslmode?"),
        ("postgres://u@h/d?frobnicate=3", "known are application_name"),
        ("postgres://u@h/d?sslpassword=3", "keep the key without a passphrase"),
        ("postgres://u@h/d?sslmode=full", "sslmode is disable, allow"),
        ("postgres://u@h/d?sslmode=require&sslmode=disable", "twice"),
        ("postgres://u@h/d?sslcert=/x", "sslcert needs sslkey"),
        ("postgres://u@h/d?pool_max_conns=0", "between 2 and 1000"),
        ("postgres://u@h/d?pool_max_conns=many", "pool_max_conns is a number"),
        ("postgres://u@h/d?pool_max_conn_lifetime=5", "a time like 90s"),
        ("postgres://u@h:x/d", "port is a port, not \"x\""),
        ("postgres://u@h:70000/d", "port is a port"),
        ("postgres://u@a,b,c:1,/d", "host has an empty name"),
        ("host=a,b port=1,2,3 user=u", "port names 3 ports for 2 hosts"),
        ("postgres://u@::1/d", "in brackets"),
        ("postgres://u@h/d?a", "has no value"),
        ("postgres://u@h/%zz", "two hexadecimal digits"),
        ("postgres://h/d", "names no user"),
        ("postgres://u@/d", "names no host"),
        ("user='u", "does not end"),
        ("crdb:26257", "neither a URL"),
        ("mysql://u@h/d", "does not begin with postgres://"),
    ] {
        let error = refused(text);
        assert!(error.starts_with("storage.conn_string: "), "{error}");
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn a_bound_of_zero_is_none() {
    let timeout = |more: &str| {
        let conn: ConnString = format!("postgres://u@h/d{more}").parse().unwrap();
        conn.config.get_connect_timeout().copied()
    };
    assert_eq!(timeout(""), Some(Duration::from_secs(10)));
    assert_eq!(timeout("?connect_timeout=3"), Some(Duration::from_secs(3)));
    assert_eq!(timeout("?connect_timeout=0"), None);
}
