"""asyncpg against the door under test: it flushes and waits where others sync. The first argument is the URL."""

import asyncio
import sys

import asyncpg


async def main():
    connection = await asyncpg.connect(sys.argv[1], timeout=20, command_timeout=20)
    assert await connection.fetchval("SELECT one") == 1
    # A statement with an error, in each way to send one; the connection goes on.
    for ask in (connection.fetch, connection.execute, connection.prepare):
        try:
            await ask("FAIL 1")
            raise SystemExit("no error")
        except asyncpg.UndefinedColumnError as error:
            assert error.hint == "Perhaps y." and "SQL-999" in error.detail, error
        assert await connection.fetchval("SELECT one") == 1
    try:
        await connection.fetch("SELECT broken")
        raise SystemExit("no error")
    except asyncpg.PostgresError as error:
        assert "broke in the middle" in str(error), error
    assert [row[0] for row in await connection.fetch("SELECT rows 3")] == [0, 1, 2]
    assert await connection.fetchval("ECHO int8", -5) == -5
    await connection.close()
    print("asyncpg", asyncpg.__version__, "agrees")


asyncio.run(main())
