create temp table plain (id serial primary key, v text default 'd' not null);
create temp table gone (i int) on commit drop;
begin;
create temp table gone (i int) on commit drop;
insert into gone values (1);
select * from gone;
commit;
select * from gone;
create temp table emptied (i int) on commit delete rows;
begin;
insert into emptied values (1), (2);
select count(*) from emptied;
commit;
select count(*) from emptied;
insert into plain (v) values ('a'), (default) returning *;
\d plain
\d+ emptied
create temp view seen as select id, upper(v) as v from plain with check option;
table seen;
\d+ seen
create temp sequence numbers start 10 increment -3 cycle minvalue 1 maxvalue 10;
select nextval('numbers'), nextval('numbers'), nextval('numbers'), nextval('numbers'), nextval('numbers');
\d numbers
create temp table plain (i int);
create temp table copied as select * from plain with no data;
select * from copied;
create temp table if not exists copied as select 1 as x;
create temp table like_it (like plain including all);
\d like_it
select into temp made from plain;
\d made
select v, count(*) into temp counted from plain group by v order by v;
table counted;
create temp table shadow (i int);
insert into shadow select generate_series(1, 5);
analyze shadow;
select reltuples from pg_class where relname = 'shadow' and relpersistence = 't';
explain (costs off) select * from shadow s join plain p on p.id = s.i;
truncate shadow, plain restart identity;
insert into plain (v) values ('again') returning id;
alter table plain rename to renamed;
alter table renamed add constraint short check (length(v) < 9), alter column v type varchar(20);
insert into renamed (v) values ('too long for it');
\dt pg_temp.*
discard temp;
\dt pg_temp.*
select * from renamed;
