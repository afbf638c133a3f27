select lo_create(424242);
select lo_create(424242);
begin;
select lo_open(424242, x'60000'::int) as fd \gset
select lowrite(:fd, 'hello, large object');
select lo_lseek(:fd, 7, 0), lo_tell(:fd);
select encode(loread(:fd, 5), 'escape');
select lo_lseek64(:fd, 5000000, 0);
select lowrite(:fd, '\xdeadbeef');
select lo_truncate(:fd, 5000002);
select lo_close(:fd);
commit;
select length(lo_get(424242)), encode(lo_get(424242, 0, 5), 'escape'), lo_get(424242, 4999999, 10);
select lo_put(424242, 0, 'HELLO');
select encode(lo_get(424242, 0, 19), 'escape');
select lo_open(424242, x'20000'::int) as fd \gset
select loread(:fd, 5);
select lo_from_bytea(424243, decode(repeat('0123456789abcdef', 100000), 'hex'));
select md5(lo_get(424243)), length(lo_get(424243));
-- psql's own calls, which take the fast path.
\set file :tmp '/object'
\lo_export 424243 :file
\lo_import :file 'a comment'
select length(lo_get(:LASTOID)) = 800000 and lo_get(:LASTOID) = lo_get(424243) as same;
select obj_description(:LASTOID, 'pg_largeobject');
\lo_unlink :LASTOID
\lo_unlink 424244
\lo_import '/nowhere/at/all'
\lo_export 424244 :file
begin;
\lo_unlink 424243
rollback;
select count(*) from pg_largeobject_metadata where oid in (424242, 424243);
comment on large object 424242 is 'commented';
\lo_list
select lo_unlink(424242), lo_unlink(424243);
select lo_unlink(424242);
select lo_get(424242);
\lo_list
