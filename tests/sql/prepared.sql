create temp table p as select i as id, 'name ' || i as name from generate_series(1, 100) i;
prepare one (int) as select name from p where id = $1;
execute one (7);
execute one ('8');
execute one ('eight');
execute one (1, 2);
execute one;
execute none (1);
prepare one (int) as select 1;
prepare untyped as select $1 || 'x', $2::int + 1;
execute untyped ('a', 2);
execute untyped (null, null);
prepare wrong as select $1;
execute wrong ('text');
prepare unknowable as select * from nowhere where id = $1;
explain (costs off) execute one (3);
prepare change (int, text) as update p set name = $2 where id = $1 returning id, name;
execute change (3, e'with ''quotes'' and \\ and $1');
execute change (300, 'nobody');
prepare several as select 1; execute several;
select name, statement, parameter_types::text, from_sql from pg_prepared_statements order by name;
alter table p add column more int default 5;
prepare everything as select * from p where id = 1;
execute everything;
alter table p add column yet_more int;
execute everything;
deallocate one;
execute one (1);
deallocate nothing;
deallocate all;
execute untyped ('a', 2);
select 1 as a, 'x'::varchar(5) as b, now() as c, array[1.5] as d, null as e \gdesc
select nothing \gdesc
create table pg_temp.made (i int) \gdesc
insert into p values (101, 'x') returning id, name \gdesc
select $1;
select :VERSION_NUM >= 160000 as has_bind \gset
\if :has_bind
select $1::int + $2::int as sum, $3 as text \bind 1 2 'three' \g
select $1::int \bind 'x' \g
select $1 \bind \g
select $1, $2 \bind 'a' 'b' \gx
\bind 5
select $1::int * 2;
\endif
set plan_cache_mode to force_generic_plan;
prepare generic (int) as select count(*) from p where id < $1;
execute generic (10);
execute generic (20);
explain (costs off) execute generic (20);
begin;
prepare inside as select 1 as x;
rollback;
execute inside;
discard plans;
execute inside;
deallocate prepare inside;
