//! Tables of tricky texts, and what holds for any.

use proptest::prelude::*;

use super::{is_safe_encoding, statements};

fn commands(text: &str) -> Vec<String> {
    let main = statements(text).filter(|s| !s.nested && !s.alternative);
    main.map(|s| s.command().into_owned()).collect()
}

/// Every command of the one statement of a text.
fn all(text: &str) -> Vec<String> {
    let found: Vec<_> = statements(text).collect();
    assert_eq!(found.len(), 1, "{text}");
    found[0].commands().map(|command| command.into_owned()).collect()
}

#[test]
fn texts_are_split_where_the_server_splits_them() {
    for (text, expected) in [
        ("", &[][..]),
        (" ; ;; -- nothing\n /* at /* all */ */ ;", &[]),
        ("select 1", &["SELECT"]),
        ("select 1;select 2;", &["SELECT", "SELECT"]),
        ("select ';' -- ;\n; select 2", &["SELECT", "SELECT"]),
        ("select 'it''s;' ; drop table t", &["SELECT", "DROP TABLE"]),
        ("select E'\\';' ; drop table t", &["SELECT", "DROP TABLE"]),
        ("select E'\\\\'; drop table t --'", &["SELECT", "DROP TABLE"]),
        ("select E'a'\n -- x\n '\\';' ; drop table t", &["SELECT", "DROP TABLE"]),
        ("select E'a' '\\'; drop table t --'", &["SELECT", "DROP TABLE"]),
        ("select U&'d\\0061;' ; drop table t", &["SELECT", "DROP TABLE"]),
        ("select \"a;\"\"b;\" ; drop table t", &["SELECT", "DROP TABLE"]),
        ("select $$ ; ' $x$ $$ ; drop table t", &["SELECT", "DROP TABLE"]),
        ("select $x$ ; $$ ; $y$ $x$ ; drop table t", &["SELECT", "DROP TABLE"]),
        ("select $x$ ; $x $x$; drop table t", &["SELECT", "DROP TABLE"]),
        ("select a$x$ from t ; drop table t -- $x$", &["SELECT", "DROP TABLE"]),
        ("select $1$$;$$; drop table t", &["SELECT", "DROP TABLE"]),
        ("select 1$$;$$; drop table t", &["SELECT", "DROP TABLE"]),
        ("select 1 /* /* ; */ ; */ ; drop table t", &["SELECT", "DROP TABLE"]),
        ("select 1 /* ' */ ; drop table t -- '", &["SELECT", "DROP TABLE"]),
        ("select 1--'\r; drop table t", &["SELECT", "DROP TABLE"]),
        ("select 'unterminated ; drop table t", &["SELECT"]),
        ("select $a$ unterminated ; drop table t", &["SELECT"]),
        ("select \"unterminated ; drop table t", &["SELECT"]),
        (
            "create rule r as on insert to t do also (insert into a values (1); delete from b); drop table t",
            &["CREATE RULE", "DROP TABLE"],
        ),
    ] {
        assert_eq!(commands(text), expected, "{text}");
    }
}

#[test]
fn commands_have_the_servers_names() {
    for (text, expected) in [
        ("(((select 1)))", "SELECT"),
        ("table t", "SELECT"),
        ("values (1)", "SELECT"),
        ("select 1 into t2", "SELECT INTO"),
        ("create temp table x as select 1", "CREATE TABLE AS"),
        ("create table x (a int generated always as (1) stored)", "CREATE TABLE"),
        ("create unlogged table if not exists x (a int)", "CREATE TABLE"),
        ("create or replace temp recursive view v(a) as select 1", "CREATE VIEW"),
        ("create unique index concurrently i on t (a)", "CREATE INDEX"),
        ("create materialized view v as select 1", "CREATE MATERIALIZED VIEW"),
        ("alter user mapping for u server s options (a 'b')", "ALTER USER MAPPING"),
        ("alter system set x = 1", "ALTER SYSTEM"),
        ("drop owned by x", "DROP OWNED"),
        ("create \"odd", "CREATE"),
        ("copy t (a, b) from stdin", "COPY FROM"),
        ("copy (select 1) to stdout", "COPY TO"),
        ("copy t to program 'x'", "COPY TO"),
        ("explain delete from t", "EXPLAIN"),
        ("explain (costs off, format json) delete from t", "EXPLAIN"),
        ("explain (select 1)", "EXPLAIN"),
        ("explain analyze verbose delete from t", "DELETE"),
        ("explain (costs off, analyze) delete from t", "DELETE"),
        ("explain analyze (debug) delete from t", "DELETE"),
        ("prepare p (int, text) as delete from t where a = $1", "DELETE"),
        ("prepare transaction 'x'", "PREPARE TRANSACTION"),
        ("prepare transaction as delete from t", "DELETE"),
        ("execute p (1)", "EXECUTE"),
        ("declare c no scroll cursor with hold for select 1", "DECLARE CURSOR"),
        ("start transaction read only", "START TRANSACTION"),
        ("end", "COMMIT"),
        ("abort", "ROLLBACK"),
        ("rollback to savepoint x", "ROLLBACK"),
        ("rollback prepared 'x'", "ROLLBACK PREPARED"),
        ("truncate t", "TRUNCATE TABLE"),
        ("lock t", "LOCK TABLE"),
        ("set cluster setting a.b = 1", "SET CLUSTER SETTING"),
        ("reset cluster setting a.b", "RESET CLUSTER SETTING"),
        ("set constraints all deferred", "SET CONSTRAINTS"),
        ("frobnicate t", "FROBNICATE"),
        ("caf\u{e9} t", "UNKNOWN"),
        ("'x'", "UNKNOWN"),
        ("\"select\" 1", "UNKNOWN"),
        ("/* a */ -- b\n SeLeCt 1", "SELECT"),
    ] {
        assert_eq!(commands(text), [expected], "{text}");
    }
}

#[test]
fn all_that_a_statement_carries_out_is_named() {
    for (text, expected) in [
        (
            "with d as (delete from t returning *) insert into u select * from d",
            &["DELETE", "INSERT"][..],
        ),
        (
            "with d as materialized (with e as (update t set a = 1 returning *) select 1) select 1",
            &["UPDATE"],
        ),
        (
            "with recursive d as (select 1) search breadth first by a set o delete from t",
            &["DELETE"],
        ),
        ("with d as (select 1) select * from d", &["SELECT"]),
        ("insert into t values (1) on conflict (a) do update set a = 2", &["INSERT", "UPDATE"]),
        (
            "merge into t using s on true when matched then delete when not matched then insert values (1)",
            &["MERGE", "DELETE", "INSERT"],
        ),
        ("select * from [delete from t returning a]", &["DELETE"]),
        ("copy (delete from t returning a) to stdout", &["COPY TO", "DELETE"]),
        ("create user u", &["CREATE ROLE", "CREATE USER"]),
        ("select delete, update from t", &["SELECT"]),
        ("create table t (a int references u on delete cascade)", &["CREATE TABLE"]),
        ("select a for b from t; ", &["SELECT"]),
    ] {
        assert_eq!(all(text), expected, "{text}");
    }
}

#[test]
fn what_may_write_is_told_from_what_reads() {
    for text in [
        "select 1",
        "select 'delete'",
        "select \"into\" from t",
        "table t",
        "show all",
        "begin",
        "start transaction read only",
        "commit",
        "rollback",
        "savepoint s",
        "release s",
        "set search_path to x",
        "reset search_path",
        "listen c",
        "unlisten *",
        "fetch 10 from c",
        "close c",
        "declare c cursor for select 1",
        "explain delete from t",
        "explain analyze select 1",
        "copy t to stdout",
        "copy (select 1) to stdout with (format csv)",
        "prepare p as select $1",
        "execute p",
        "deallocate p",
        "discard plans",
        "with a as (select 1) select * from a",
        "use db",
    ] {
        assert!(!statements(text).next().unwrap().writes, "{text}");
    }
    for text in [
        "insert into t values (1)",
        "select 1 into x",
        "select * from t for update",
        "select * from t for no key update",
        "select * from t for key share",
        "select * from t for share",
        "copy t from stdin",
        "copy t to '/tmp/x'",
        "copy t to program 'stdout'",
        "do $$ begin end $$",
        "call p()",
        "notify c",
        "lock t",
        "vacuum",
        "analyze t",
        "explain analyze delete from t",
        "declare c cursor for select * from t for update",
        "prepare p as update t set a = 1",
        "frobnicate",
        "create table x as select 1",
        "grant select on t to x",
        "commit prepared 'x'",
        "prepare transaction 'x'",
        "upsert into t values (1)",
        "refresh materialized view v",
        "1",
        "import foreign schema s from server x into y",
        "export into csv 'x' from table t",
    ] {
        assert!(statements(text).next().unwrap().writes, "{text}");
    }
}

#[test]
fn what_lifts_a_restriction_is_found() {
    for text in [
        "set default_transaction_read_only = off",
        "SET SESSION \"Transaction_Read_Only\" TO 'off'",
        "set local transaction_read_only to false",
        "set U&\"\\0074ransaction_read_only\" = off",
        "set transaction isolation level serializable, read write",
        "set session characteristics as transaction read /* */ write",
        "begin read write",
        "begin transaction isolation level serializable read write",
        "start transaction read write",
        "alter role x set default_transaction_read_only = off",
        "select set_config('default_transaction_' || 'read_only', 'off', false)",
        "select pg_catalog.\"set_config\"('a', 'b', false)",
        "select 1 where exists (select SET_CONFIG('a', 'b', false))",
        "explain analyze select set_config('a', 'b', false)",
    ] {
        let found = statements(text).next().unwrap();
        assert!(found.lifts_read_only && !found.by_reset, "{text}");
    }
    for text in ["reset all", "discard all", "reset default_transaction_read_only"] {
        let found = statements(text).next().unwrap();
        assert!(found.lifts_read_only && found.by_reset, "{text}");
    }
    for text in [
        "set search_path = x",
        "begin read only",
        "reset search_path",
        "discard temp",
        "set transaction isolation level serializable read only",
        "select 'set_config'",
        "show transaction_read_only",
        "set role x",
        "set session authorization x",
    ] {
        assert!(!statements(text).next().unwrap().lifts_read_only, "{text}");
    }
    for text in ["set cluster setting a.b = 1", "reset cluster setting a.b"] {
        assert!(statements(text).next().unwrap().writes, "{text}");
    }
    for (text, expected) in [
        ("set client_encoding to 'SJIS'", true),
        ("set names big5", true),
        ("set client_encoding = S_____________________________________JIS", true),
        ("set session client_encoding = E'UTF8'", true),
        ("set client_encoding to 'UTF8'", false),
        ("set names 'latin1'", false),
        ("set session names 'SJIS'", true),
        ("set local names gbk", true),
        ("set session names 'utf8'", false),
        ("update pg_settings set setting = 'SJIS' where name like 'client_enc%'", true),
        ("update \"pg_settings\" set setting = 'SJIS'", true),
        ("select * from pg_settings", false),
        ("set client_encoding to default", false),
        ("select names from t", false),
    ] {
        assert_eq!(statements(text).next().unwrap().unsafe_encoding, expected, "{text}");
    }
    assert!(!is_safe_encoding("") && !is_safe_encoding("win932") && is_safe_encoding("EUC_JP"));
}

#[test]
fn where_backslashes_matter_both_readings_count() {
    let read = |text: &str| -> Vec<(String, bool)> {
        statements(text).map(|s| (s.command().into_owned(), s.alternative)).collect()
    };
    let named = |pairs: &[(&str, bool)]| -> Vec<(String, bool)> {
        pairs.iter().map(|(name, second)| ((*name).to_owned(), *second)).collect()
    };
    assert_eq!(
        read("select 'a\\'; drop table t; --'"),
        named(&[("SELECT", false), ("DROP TABLE", false), ("SELECT", true)])
    );
    assert_eq!(
        read("select 'a\\', $$'; drop table t; --$$"),
        named(&[("SELECT", false), ("SELECT", true), ("DROP TABLE", true)])
    );
    assert_eq!(
        read("select b'\\'', '; drop table t; --'"),
        named(&[("SELECT", false), ("DROP TABLE", false), ("SELECT", true)])
    );
    assert_eq!(read("select E'\\n', \"\\\", $$\\$$"), named(&[("SELECT", false)]));
}

#[test]
fn bodies_of_functions_are_read_too() {
    let text = "create or replace function f() returns int begin atomic \
                insert into t values (1); select case when true then 1 else 2 end; end; drop table t";
    let found: Vec<_> = statements(text).map(|s| (s.command().into_owned(), s.nested)).collect();
    let expected =
        [("CREATE FUNCTION", false), ("INSERT", true), ("SELECT", true), ("DROP TABLE", false)];
    assert_eq!(found, expected.map(|(name, nested)| (name.to_owned(), nested)));
    // A column may be called "case": the count is led astray, and nothing is hidden by it.
    for label in ["as case", "case", "as \"case\"", "t.case"] {
        let text = format!(
            "create function f() returns int begin atomic select 1 {label}; end; drop table t"
        );
        assert!(statements(&text).any(|s| s.command() == "DROP TABLE"), "{label}");
    }
    // Without a body of statements, BEGIN is a statement.
    assert_eq!(commands("begin; select 1; end; drop table t").len(), 4);
    assert_eq!(
        commands("create function begin() returns int as 'x' language sql; drop table t"),
        ["CREATE FUNCTION", "DROP TABLE"]
    );
}

/// Texts that are made of what the lexer tells apart.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let parts = [
        "select ",
        "drop table t",
        ";",
        "'",
        "''",
        "\\",
        "\"",
        "$$",
        "$a$",
        "$a",
        "$",
        "/*",
        "*/",
        "--",
        "\n",
        "(",
        ")",
        "[",
        "]",
        "E'",
        "U&'",
        "U&\"",
        "b'",
        "begin atomic ",
        "end",
        "case ",
        "create function f() ",
        "with ",
        "as ",
        "explain ",
        "prepare ",
        "delete ",
        "set ",
        "é",
        "\0",
        "client_encoding ",
        "1",
        ".",
        "for ",
        "update ",
    ];
    let part = prop_oneof![
        8 => proptest::sample::select(parts.to_vec()).prop_map(|part| part.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_to_its_end_and_in_order(text in hostile()) {
        let mut last = 0;
        let mut second = false;
        for statement in statements(&text) {
            prop_assert!(!statement.text.is_empty());
            if statement.alternative && !second {
                (second, last) = (true, 0);
            }
            prop_assert_eq!(statement.alternative, second);
            let start = statement.text.as_ptr().addr() - text.as_ptr().addr();
            prop_assert!(start >= last);
            last = start + statement.text.len();
            prop_assert!(last <= text.len());
            prop_assert!(statement.commands().count() <= 7);
            prop_assert_eq!(statement.commands().next(), Some(statement.command()));
        }
    }

    /// Whatever is in a string, a comment or an identifier hides nothing and adds nothing.
    #[test]
    fn what_is_quoted_is_no_statement(inner in hostile()) {
        let inner = String::from_utf8_lossy(&inner).into_owned();
        for quoted in [
            format!("'{}'", inner.replace('\'', "''")),
            format!("E'{}'", inner.replace('\\', "\\\\").replace('\'', "\\'")),
            format!("\"{}\"", inner.replace('"', "\"\"")),
            format!("$zz$ {inner} $zz$"),
            format!("1 /* {} */", inner.replace("/*", "").replace("*/", "").replace(['/', '*'], "")),
            format!("1 -- {}\n", inner.replace(['\n', '\r'], "")),
        ] {
            let text = format!("select {quoted}; drop table t");
            prop_assert_eq!(commands(&text), ["SELECT", "DROP TABLE"], "{}", text);
        }
    }

    /// What follows a text that is complete is found, whatever the text is.
    #[test]
    fn a_statement_more_is_one_more(
        a in "[a-z ;]{0,10}(\\([a-z ;]{0,8}\\)[a-z ;]{0,8}){0,3}",
        b in "[a-z]{1,9}",
    ) {
        let (before, after) = (commands(&a).len(), commands(&format!("{a};{b}")).len());
        prop_assert_eq!(after, before + 1);
    }
}

/// Twice the text, twice the time, whatever it is made of.
#[test]
fn long_texts_take_one_pass() {
    for part in [
        "(",
        "$a",
        "$aaaaaaaaaaaaaaaaaaaaaaaaa",
        "/*",
        "'",
        "''",
        "E'\\",
        ";",
        "a ",
        "- ",
        "$a$ $b",
    ] {
        let text = part.repeat(4_000_000 / part.len());
        // One that took the square of it would be at it for hours, and the runner ends it.
        let covered: usize = statements(&text).map(|statement| statement.text.len()).sum();
        assert!(covered <= 2 * text.len(), "{part}: {covered}");
    }
}
