// node-postgres, unchanged: connect, prepared, COPY, errors, LISTEN, cancel by another connection.
// Its one argument is what `access db config --format=json` prints. It prints "ok" at the end.
'use strict';
const assert = require('assert');
const fs = require('fs');
const { Readable } = require('stream');
const { pipeline } = require('stream/promises');
const { Client } = require('pg');
const { from, to } = require('pg-copy-streams');

const told = JSON.parse(process.argv[2]);
const settings = {
  host: told.hostaddr,
  port: told.port,
  user: told.user,
  database: told.dbname,
  ssl: {
    servername: told.host,
    ca: fs.readFileSync(told.sslrootcert),
    cert: fs.readFileSync(told.sslcert),
    key: fs.readFileSync(told.sslkey),
  },
};

async function main() {
  const client = new Client(settings);
  await client.connect();
  await client.query('create temp table t (id int primary key, name text)');
  for (let n = 0; n < 50; n += 1) {
    const name = n % 5 === 0 ? null : `row ${n}`;
    await client.query({ name: 'put', text: 'insert into t values ($1, $2)', values: [n, name] });
  }
  const { rows } = await client.query('select id, name from t where id = any($1) order by id', [[5, 6]]);
  assert.deepStrictEqual(rows, [{ id: 5, name: null }, { id: 6, name: 'row 6' }]);
  await assert.rejects(client.query('insert into t values (1)'), { code: '23505' });
  // Queries that are sent before the answers come.
  const many = await Promise.all([...Array(100).keys()].map((n) => client.query('select $1::int', [n])));
  assert.deepStrictEqual(many.map((one) => one.rows[0].int4), [...Array(100).keys()]);
  const big = await client.query("select repeat('x', 3000000) as x");
  assert.strictEqual(big.rows[0].x.length, 3000000);

  const lines = [...Array(5000).keys()].map((n) => `${1000 + n}\ttext of ${n}\n`);
  await pipeline(Readable.from(lines), client.query(from('copy t from stdin')));
  let copied = '';
  for await (const piece of client.query(to('copy (select * from t where id >= 1000 order by id) to stdout'))) {
    copied += piece;
  }
  assert.ok(copied === lines.join(''), 'what was copied in is not what is copied out');
  const wrong = pipeline(Readable.from(['no number\tx\n']), client.query(from('copy t from stdin')));
  await assert.rejects(wrong, { code: '22P02' });

  const heard = new Promise((resolve) => client.on('notification', resolve));
  await client.query('listen news');
  const other = new Client(settings);
  await other.connect();
  await other.query("notify news, 'hello'");
  assert.strictEqual((await heard).payload, 'hello');

  const asleep = client.query('select pg_sleep(600)');
  asleep.catch(() => {});
  for (;;) {
    const active = await other.query("select 1 from pg_stat_activity where query = 'select pg_sleep(600)' and state = 'active'");
    if (active.rows.length > 0) break;
  }
  // As the library does it: a connection that says nothing but which query, and the secret.
  new Client(settings).cancel(client, client.activeQuery || client._activeQuery);
  await assert.rejects(asleep, { code: '57014' });
  await other.end();
  await client.end();

  const denied = new Client({ ...settings, user: 'postgres' });
  await assert.rejects(denied.connect(), { code: '28000', message: /access denied, or there is no such thing/ });
  console.log('ok');
}

main().catch((err) => {
  console.error(err);
  process.exit(1);
});
