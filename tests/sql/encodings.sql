\pset null '<null>'
select 'ünïcode 漢字 🐘' as utf8, length('🐘'), octet_length('🐘'), ascii('ü'), chr(8364), e'\u20ac\U0001F418';
\encoding LATIN1
select chr(252) as u, 'plain';
select chr(8364);
select chr(8364) from generate_series(1, 2);
select 'fine again';
\encoding WIN1252
select chr(8364) || chr(252);
set client_encoding to 'EUC_JP';
select chr(28450);
show client_encoding;
set client_encoding to 'SQL_ASCII';
select 'é';
set client_encoding to 'nonsense';
reset client_encoding;
\encoding UTF8
select e'\xff';
select e'\xc3\x28', convert_from('\xff', 'UTF8');
select convert_to('é', 'LATIN1'), convert('\xe9', 'LATIN1', 'UTF8');
select e'\u0000';
select e'\ud800';
select u&'\00e9 !0041' uescape '!', u&'d!0061t!+000061' uescape '!';
select u&'\zzzz';
set standard_conforming_strings to off;
select 'back\\slash\x41';
set escape_string_warning to on;
select 'warned: \\';
set backslash_quote to on;
select 'it\'s';
reset standard_conforming_strings;
reset backslash_quote;
select 'back\slash', e'it\'s', 'it''s', 'two '
  'parts', $tag$ $$ inner $$ $tag$;
select 'Ä' < 'b' collate "C", upper('ß'), lower('ÀÉ'), initcap('éa b');
select 'größe' ~ '^\w+$', regexp_replace('añb', '[^[:ascii:]]', '?');
select "größe", "Two Words" from (select 1 as "größe", 2 as "Two Words") s;
select normalize(u&'e\0301') = u&'\00e9', u&'e\0301' is normalized;
select repeat('ü', 20000);
