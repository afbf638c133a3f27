"""psycopg 3, unchanged: asynchronous, prepared, in pipelines, COPY, cancel, errors.

Its one argument is a connection string of libpq. It prints "ok" when all of it went well.
"""

import asyncio
import sys
import time

import psycopg
from psycopg import errors

CONNINFO = sys.argv[1]


async def pipeline():
    async with await psycopg.AsyncConnection.connect(CONNINFO, autocommit=True) as conn:
        async with conn.pipeline():
            cursors = [await conn.execute("select %s::int * 2", (n,)) for n in range(200)]
        got = [(await cursor.fetchone())[0] for cursor in cursors]
        assert got == [2 * n for n in range(200)], got
        # An error in a pipeline aborts what follows in it, and nothing after it.
        try:
            async with conn.pipeline():
                await conn.execute("select 1/0")
                await conn.execute("select 1")
            raise AssertionError("no error")
        except errors.DivisionByZero:
            pass
        assert (await (await conn.execute("select 7")).fetchone())[0] == 7


async def cancel():
    async with await psycopg.AsyncConnection.connect(CONNINFO, autocommit=True) as conn:
        began = time.monotonic()
        asleep = asyncio.create_task(conn.execute("select pg_sleep(600)"))
        async with await psycopg.AsyncConnection.connect(CONNINFO, autocommit=True) as other:
            while True:
                cursor = await other.execute(
                    "select count(*) from pg_stat_activity where pid = %s and state = 'active'",
                    (await backend(other, conn),),
                )
                if (await cursor.fetchone())[0]:
                    break
                assert time.monotonic() - began < 60, "the query never began"
        await asyncio.to_thread(conn.cancel)
        try:
            await asleep
            raise AssertionError("not cancelled")
        except errors.QueryCanceled:
            pass
        assert (await (await conn.execute("select 8")).fetchone())[0] == 8


async def backend(other, conn):
    """The server's own process of a connection: the number that the client has is another."""
    cursor = await other.execute(
        "select pid from pg_stat_activity where query like '%pg_sleep(600)%'"
        " and pid <> pg_backend_pid() limit 1"
    )
    row = await cursor.fetchone()
    return row[0] if row else 0


def ordinary():
    with psycopg.connect(CONNINFO) as conn:
        conn.execute("create temp table t (id int, name text, data bytea)")
        with conn.cursor() as cursor:
            with cursor.copy("copy t from stdin") as copy:
                for n in range(5000):
                    copy.write_row((n, None if n % 7 == 0 else f"row {n}", bytes([n % 256]) * 9))
            with cursor.copy("copy (select * from t order by id) to stdout (format binary)") as copy:
                copy.set_types(["int4", "text", "bytea"])
                rows = list(copy.rows())
        assert len(rows) == 5000 and rows[7] == (7, None, bytes([7]) * 9), rows[7]
        for n in range(20):
            row = conn.execute("select name from t where id = %s", (n,), prepare=True).fetchone()
            assert row == (None if n % 7 == 0 else f"row {n}",), row
        with conn.cursor(name="portal") as cursor:
            cursor.itersize = 100
            cursor.execute("select id from t order by id")
            assert [row[0] for row in cursor] == list(range(5000))
        try:
            with conn.transaction():
                conn.execute("insert into nowhere values (1)")
            raise AssertionError("no error")
        except errors.UndefinedTable as err:
            assert err.sqlstate == "42P01", err.sqlstate
        assert conn.execute("select count(*) from t").fetchone() == (5000,)


def denied():
    try:
        psycopg.connect(CONNINFO + " user=postgres")
        raise AssertionError("not denied")
    except psycopg.OperationalError as err:
        assert "access denied, or there is no such thing" in str(err), err


ordinary()
denied()
asyncio.run(pipeline())
asyncio.run(cancel())
print("ok")
