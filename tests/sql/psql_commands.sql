select 1 as one, 'two' as two, null as nothing \gset
\echo :one :two :nothing :'two' :"two"
select 5 as one, 6 as other \gset pre_
\echo :pre_one :pre_other :{?pre_one} :{?never}
select 1 as x where false \gset
select generate_series(1, 2) as x \gset
select 1 as "not a name!" \gset
select format('select %s as n, %L as t', i, 'row ' || i) from generate_series(1, 3) i \gexec
select 'select 1/0', 'select 2', null, 'select 3' \gexec
select 'create temp table g' || i || ' (i int)' from generate_series(1, 2) i \gexec
select v, h, c from (values ('a', 'x', 1), ('a', 'y', 2), ('b', 'x', 3), ('c', 'z', null)) q(v, h, c) \crosstabview
select v, h, c, s from (values ('a', 'x', '1', 2), ('b', 'y', '3', 1), ('b', 'z', '4', 3)) q(v, h, c, s) \crosstabview v h c s
select v, h, c from (values ('a', 'x', 1), ('a', 'x', 2)) q(v, h, c) \crosstabview
select 1, 2 \crosstabview
select 1 as a, 2 as b \gx
select 1 as a, 2 as b \g (format=csv)
select 1 as a, 2 as b \g | tr 1 9
\set name 'it''s'
select :'name' as literal, :"name" as identifier;
\set n 41
select :n + 1, ':n', "n" from (select 1 as n) s;
\set list a b c
\echo :list
\unset list
\echo :list
\if true
  \echo yes
  \if false
    select 'never';
  \elif :n
    \echo never
  \else
    \echo inner else
  \endif
\else
  select 1/0;
\endif
\if maybe
\endif
\else
\nosuchcommand
\echo one two   'three  four' `echo from a shell`
\qecho to the query output
\warn to standard error
\! echo a shell
\! exit 3
\echo :SHELL_ERROR :SHELL_EXIT_CODE
\o /dev/null
select 'unseen';
\o
\o | sort -r
select i from generate_series(1, 3) i;
\o
\p
select 'in the buffer' as kept
\p
\r
\p
select 1 as again
;
\g
\gx
create schema tools;
create table tools.t (id int generated always as identity primary key, v text collate "C" unique, g int generated always as (length(v)) stored);
comment on table tools.t is 'a table with a comment';
create index on tools.t (lower(v)) where v is not null;
create function tools.f(a int, b text default 'x', variadic c int[] default '{}') returns text language sql immutable as $$ select $2 $$;
create view tools.v as select id, v from tools.t where g > 3;
create materialized view tools.m as select count(*) from tools.t;
create type tools.e as enum ('a', 'b');
create domain tools.d as text check (value <> '');
\d tools.t
\d+ tools.v
\dt tools.*
\di tools.*
\dv tools.*
\dm tools.*
\df tools.*
\dT+ tools.e
\dD tools.*
\dn tools
\ds tools.*
\dp tools.t
\sf tools.f
\sv tools.v
\sf tools.nothing
\d tools.nothing
\dt nothing.*
\d tools.t extra
\dd tools.*
\dconfig work_mem
\encoding
\encoding nonsense
\ef tools.nothing
\h release
\echo :ROW_COUNT :ENCODING :DBNAME :USER :AUTOCOMMIT :SINGLELINE
drop schema tools;
drop schema tools cascade;
\set ECHO errors
select 'not echoed';
select nothing;
\set ECHO queries
select 'echoed';
\set ECHO all
\set ECHO_HIDDEN on
\dn public
\set ECHO_HIDDEN off
\set SINGLELINE on
select 'a line is a statement'
\set SINGLELINE off
\timing off
