-- Rows and values that are large, many, or nothing at all.
\pset format unaligned
select string_agg(format('%s as c%s', i, i), ', ') as list from generate_series(1, 1600) i \gset
select :list;
select :list where false;
select string_agg('1', ', ') as list from generate_series(1, 1665) \gset
select :list;
select repeat('x', 2000000);
select length(repeat('x', 100000000));
select i, md5(i::text), repeat('y', i % 100) from generate_series(1, 30000) i;
select repeat(chr(65 + i % 26), i * 37) from generate_series(1, 400) i;
select from generate_series(1, 1000);
select '' from generate_series(1, 1000);
select null from generate_series(1, 3);
select array_agg(i) from generate_series(1, 20000) i;
select decode(repeat('00ff', 200000), 'hex');
select repeat('z', 4090 + i) from generate_series(1, 20) i;
select repeat('z', 8180 + i) from generate_series(1, 20) i;
select repeat('z', 65520 + i) from generate_series(1, 20) i;
do $$ begin for i in 1..2000 loop raise notice 'notice % %', i, repeat('n', i % 70); end loop; end $$;
do $$ begin raise notice '%', repeat('n', 300000); end $$;
do $$ begin raise exception '%', repeat('e', 300000); end $$;
do $$ begin raise exception 'short' using detail = repeat('d', 100000), hint = repeat('h', 100000); end $$;
select i / (29000 - i) from generate_series(1, 30000) i;
select 'still here';
