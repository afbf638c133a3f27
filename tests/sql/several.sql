-- Several statements in one message, which are one transaction unless they say otherwise.
create temp table s (id int primary key);
select 1\; select 2\; select 'three' as three;
insert into s values (1)\; insert into s values (2)\; select * from s;
insert into s values (3)\; insert into s values (1)\; insert into s values (4);
select * from s order by id;
begin\; insert into s values (5)\; commit\; insert into s values (5);
select * from s order by id;
insert into s values (6)\; begin\; insert into s values (7)\; rollback\; select 'after the rollback';
select * from s order by id;
insert into s values (8)\; rollback\; select count(*) from s;
insert into s values (9)\; commit\; select 1/0;
select count(*) from s;
begin\; select 1/0\; select 2;
select 'aborted'\; rollback;
rollback\; select 'no transaction was there';
savepoint x\; select 1;
begin\; savepoint x\; insert into s values (10)\; rollback to x\; commit\; select count(*) from s;
\;
;
;;
select\;\;select;
-- only a comment
/* only a comment */ ;
select 1 /* in /* a nested */ comment */ + 1;
select 1 -- at the end
;
select 'semicolon; in a string', $$and; here$$, "a;b" from (select 1 as "a;b") q;
create rule twice as on insert to s do also select 'rule';
drop rule twice on s;
set work_mem to '5MB'\; show work_mem\; reset work_mem\; show work_mem;
select 1\; selekt 2\; select 3;
select 1\; select 1 + 'x'\; select 3;
prepare q as select 'prepared'\; execute q\; deallocate q\; execute q;
do $$ begin raise notice 'one'; end $$\; do $$ begin raise warning 'two'; end $$\; select 'three';
declare c cursor for select 1\; fetch c;
declare c cursor with hold for select 2\; fetch c;
fetch all c;
listen a\; notify a, 'together'\; unlisten a;
vacuum s\; select 1;
select 1\; vacuum s;
create temp table made as select 1 as i\; table made\; drop table made\; table made;
\set SHOW_ALL_RESULTS off
select 1\; select 2\; select 'only the last';
\set SHOW_ALL_RESULTS on
select pg_sleep(0.01)\; set statement_timeout to '20ms'\; select pg_sleep(5)\; select 'never';
reset statement_timeout;
-- Long ones, made by the database itself.
select 'select ' || string_agg(i::text, ' + ') || ' as sum' from generate_series(1, 3000) i \gexec
select 'select length(''' || repeat('long ', 60000) || ''')' \gexec
select 'select ' || repeat('(', 500) || '1' || repeat(')', 500) \gexec
select string_agg('select ' || i, ';') from generate_series(1, 300) i \gexec
select 'select 1 as "' || repeat('x', 100) || '"' \gexec
