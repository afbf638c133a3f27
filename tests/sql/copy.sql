\pset null '<null>'
create temp table c (id int, name text, at date);
copy c from stdin;
1	one	2024-01-01
2	\N	\N
3	tab\there\nline	2024-02-29
\.
select * from c order by id;
copy c (name, id) from stdin with (format csv, header true, null 'nil', delimiter ';');
name;id
"quoted ""name""; with all";4
nil;5
"nil";6
;7
\.
copy c to stdout;
copy c to stdout (format csv, header, force_quote *, null 'NULL');
copy (select id, name from c order by id desc) to stdout with csv delimiter '|' quote '''';
copy (select id, name, '\x00ff'::bytea, 1.5::float8 from c where id < 3 order by id) to stdout with (format binary);
copy (values (1, 'x'), (2, e'back\\slash')) to stdout;
copy (select 1 where false) to stdout;
copy c from stdin;
8	eight	2024-13-01
\.
copy c from stdin;
9	nine
\.
copy c from stdin;
10	ten	2024-01-01	too many
\.
copy c from stdin;
x	letters	2024-01-01
\.
copy c from stdin (format csv);
11,"unterminated,2024-01-01
\.
copy c from stdin where id % 2 = 0;
12	twelve	2024-01-01
13	thirteen	2024-01-01
\.
select count(*), max(id) from c;
copy nowhere from stdin;
copy c (nothing) to stdout;
copy c from stdin with (format nonsense);
copy c to '/tmp/not-for-you';
copy c from program 'true';
begin;
copy c from stdin;
20	kept	2024-01-01
\.
savepoint s;
copy c from stdin;
bad	line	x
\.
rollback to s;
copy c from stdin;
21	kept too	2024-01-01
\.
commit;
select id, name from c where id >= 20 order by id;
\copy c (id, name) from program 'printf "30\tby a program\n31\tits second line\n"'
\copy (select id, name from c where id >= 30 order by id) to stdout
\copy c from pstdin
40	from psql's input	2024-01-01
\.
\copy c to program 'sort -r | head -3'
\copy nowhere to stdout
\copy c from '/nowhere/at/all'
create temp table big (id int, text text);
insert into big select i, md5(i::text) || repeat('x', i % 90) from generate_series(1, 20000) i;
copy big to stdout;
create temp table bigger (like big);
\copy (select * from big order by id) to program 'cat > /dev/null'
\copy bigger from program 'seq 1 30000 | sed "s/$/\ttext/"'
select count(*), sum(id), min(text) from bigger;
truncate bigger;
copy bigger from stdin (format csv, freeze);
1,x
\.
-- Copies within one text, and an error among them.
copy (select 'first') to stdout\; select 'between'\; copy (select 'second') to stdout;
copy (select 'first') to stdout\; select 1/0\; copy (select 'never') to stdout;
copy (select 1/(3 - i) from generate_series(1, 5) i) to stdout;
select 'after it all';
