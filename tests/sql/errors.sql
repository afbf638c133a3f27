-- Where, why, and what to do about it.
selekt 1;
select 1 form t;
select 'unterminated;
';
select 1);
select 1 +
  2 +
  nothing +
  3;
select 'äöü', '漢字', 🐘, 1;
select                                                                                                                  wrong, 'and much after it: 0123456789 0123456789 0123456789 0123456789';
create temp table person (id int primary key, first_name text not null, age int constraint grown check (age >= 0), unique (first_name, age));
select first_nam from person;
select person.first_nam, p.id from person;
select * from persons;
select lenght('x');
select length(1, 2);
select 'a' + 1;
select 1 || 2;
insert into person values (1, null, 3);
insert into person values (1, 'x', -3);
insert into person values (1, 'x', 3), (1, 'y', 4);
insert into person values (1, 'x', 3), (2, 'x', 3);
insert into person (id, nothing) values (1, 2);
insert into person values (1, 'x', 3, 4);
insert into person values ('one', 'x', 3);
select 1 / 0;
select 10000000000::int;
select 'x'::int, '1.5'::int, ''::date;
select sqrt(-1), ln(0);
select first_name, count(*) from person;
select id from person group by first_name having count(*) > 1;
select * from person a, person b where id = 1;
select (select 1 union select 2);
select 1 where 1;
select array[1, 'x'];
select * from generate_series(1, 3) as g(a, b);
with recursive r(n) as (select 1 union all select n + 1 from r where n < 3) select * from r, missing;
select set_config('nothing', 'x', false);
set nothing to 1;
set work_mem to 'much';
set timezone to 'Nowhere/Land';
alter table person drop column nothing;
drop table nowhere;
drop table if exists nowhere;
create temp table person (id int);
create temp table if not exists person (id int);
grant all on person to nobody_at_all;
set role nobody_at_all;
create role somebody;
create database somewhere;
alter system set work_mem to '1MB';
select pg_read_file('/etc/passwd');
copy person from '/etc/passwd';
\set VERBOSITY terse
insert into person values (1, null, 3);
select first_nam from person;
\set VERBOSITY verbose
insert into person values (1, 'x', -3);
select 1 / 0;
\set VERBOSITY sqlstate
select 1 / 0;
insert into person values (1, null, 3);
\set VERBOSITY default
\errverbose
select 1;
\errverbose
\echo :ERROR :SQLSTATE :LAST_ERROR_SQLSTATE :LAST_ERROR_MESSAGE
set statement_timeout to '20ms';
select pg_sleep(10);
reset statement_timeout;
select repeat('x', 1000000)::int;
select 'after all that';
