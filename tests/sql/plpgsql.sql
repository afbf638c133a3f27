do $$ begin raise notice 'a notice with % and %', 1, 'two'; end $$;
do $$ begin raise debug 'unseen'; raise log 'unseen here'; raise info 'an info'; raise warning 'a warning'; end $$;
set client_min_messages to debug1;
do $$ begin raise debug 'seen now'; end $$;
reset client_min_messages;
do $$ begin raise exception 'plain'; end $$;
do $$ begin raise exception 'with all' using errcode = 'XY123', detail = 'the detail', hint = 'the hint', table = 't', column = 'c', constraint = 'k', schema = 's', datatype = 'd'; end $$;
\errverbose
do $$ begin raise sqlstate '22012'; end $$;
do $$ begin raise division_by_zero using message = 'named'; end $$;
do $$ begin raise; end $$;
create function pg_temp.inner_one(n int) returns int language plpgsql as $$
begin
  return 10 / n;
end $$;
create function pg_temp.outer_one(n int) returns int language plpgsql as $$
declare found_it int;
begin
  select pg_temp.inner_one(n) into found_it;
  return found_it;
exception
  when division_by_zero then
    raise notice 'caught % (%)', sqlerrm, sqlstate;
    return -1;
end $$;
select pg_temp.outer_one(5), pg_temp.outer_one(0);
select pg_temp.inner_one(0);
\set SHOW_CONTEXT never
select pg_temp.inner_one(0);
\set SHOW_CONTEXT always
do $$ begin perform pg_temp.outer_one(0); end $$;
\set SHOW_CONTEXT errors
create function pg_temp.several(inout a int, out b text, out c int[]) language plpgsql as $$
begin
  a := a + 1; b := 'b' || a; c := array[a, a * 2];
end $$;
select * from pg_temp.several(4);
create function pg_temp.rows(n int) returns table (id int, square bigint) language plpgsql as $$
begin
  for id in 1..n loop square := id * id; return next; end loop;
  return query select 0, 0::bigint;
  raise notice 'gave %', n;
end $$;
select * from pg_temp.rows(3);
select count(*), sum(square) from pg_temp.rows(10000);
do $$
declare r record; counted int; kind text; message text;
begin
  for r in execute 'select i, i % 2 = 0 as even from generate_series(1, $1) i' using 3 loop
    raise notice '% is even: %', r.i, r.even;
  end loop;
  create temp table made (i int);
  insert into made select generate_series(1, 7);
  get diagnostics counted = row_count;
  raise notice 'inserted %', counted;
  begin
    insert into made values ('not a number');
  exception when others then
    get stacked diagnostics kind = returned_sqlstate, message = message_text;
    raise notice 'it was % with %', kind, message;
  end;
  assert counted = 8, 'not eight';
end $$;
create temp table log (at int generated always as identity, what text);
create function pg_temp.watch() returns trigger language plpgsql as $$
begin
  insert into log (what) values (tg_op || ' ' || coalesce(new.what, old.what, '?'));
  if new.what = 'forbidden' then raise exception '% is forbidden', new.what; end if;
  return new;
end $$;
create temp table watched (what text);
create trigger watch before insert or update on watched for each row execute function pg_temp.watch();
insert into watched values ('one'), ('two');
update watched set what = 'three' where what = 'two';
insert into watched values ('four'), ('forbidden');
select what from log order by at;
create procedure pg_temp.in_steps(n int) language plpgsql as $$
begin
  for i in 1..n loop
    insert into watched values ('step ' || i);
    if i % 2 = 0 then commit; else rollback; end if;
  end loop;
end $$;
call pg_temp.in_steps(4);
select what from watched order by 1;
begin;
call pg_temp.in_steps(2);
rollback;
create function pg_temp.bad() returns int language plpgsql as $$ begin retrun 1; end $$;
create function pg_temp.bad() returns int language plpgsql as $$ begin if true then return 1; $$;
create function pg_temp.sql_bad() returns int language sql as $$ select nothing from nowhere $$;
select pg_temp.nothing();
do language plnothing $$ $$;
do $$ <<named>> declare x int := 1; begin declare x int := 2; begin raise notice '% %', named.x, x; end; end $$;
