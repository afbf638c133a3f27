-- What psql makes of the same rows.
create temp table d (id int, text text, amount numeric, seen date);
insert into d values (1, 'short', 1.50, '2024-01-01'), (2, null, -1234567.125, null),
  (3, e'two\nlines and a\ttab', 0, '1999-12-31'), (4, 'wide: 漢字 ﷽ 🐘', null, 'infinity'), (5, '', 'NaN', '-infinity');
table d;
\pset null '(none)'
\pset border 2
table d;
\pset linestyle unicode
table d;
\pset linestyle old-ascii
\pset border 1
table d;
\pset linestyle ascii
\x
table d;
\x auto
\pset columns 40
table d;
\x off
\pset format wrapped
table d;
\pset columns 0
\pset format unaligned
\pset fieldsep '|~|'
table d;
\pset fieldsep_zero on
select 'a', 'b' from d limit 2;
\pset fieldsep_zero off
\pset recordsep ' ## '
select id from d order by id;
\pset recordsep '\n'
\pset format csv
table d;
\pset csv_fieldsep ';'
table d;
\pset format html
table d;
\pset tableattr 'class="t"'
\pset format latex
select id, text from d where id < 3;
\pset format latex-longtable
select id, text from d where id < 3;
\pset format troff-ms
select id, text from d where id < 3;
\pset format asciidoc
select id, text from d where id < 3;
\pset format aligned
\pset title 'With a title'
\pset footer off
select id, amount from d;
\pset title
\pset footer on
\pset tuples_only
select id, amount from d;
\t
\pset numericlocale on
select amount from d;
\pset numericlocale off
\pset expanded on
select 1 as "a column with a long name", repeat('y', 200) as long;
select where false;
\pset expanded off
select;
select from d;
select 1 as x where false;
select 1 as "Ünïcode", 2 as "select", 3 as "?column?", 4;
\pset
