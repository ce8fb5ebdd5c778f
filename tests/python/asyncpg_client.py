"""asyncpg as a client: what an application does first, and its mistakes. Usage: asyncpg_client.py URL"""

import asyncio
import decimal
import sys

import asyncpg


async def main():
    connection = await asyncpg.connect(sys.argv[1], timeout=20, command_timeout=20)
    film = await connection.fetchrow("SELECT film_id, title, rental_rate FROM shop.film WHERE film_id = $1", 1)
    assert tuple(film) == (1, "ACADEMY DINOSAUR", decimal.Decimal("0.99")), film
    mistakes = [
        ("select nope", asyncpg.UndefinedColumnError),
        ("SELEC 1", asyncpg.PostgresSyntaxError),
        ("SELECT * FROM shop.absent", asyncpg.UndefinedTableError),
        ("SELECT 1/(film_id - film_id) FROM shop.film", asyncpg.DivisionByZeroError),
    ]
    for sql, kind in mistakes:
        for ask in (connection.fetch, connection.execute):
            try:
                await ask(sql)
                raise SystemExit(f"no error: {sql}")
            except kind:
                pass
            assert await connection.fetchval("SELECT 1") == 1
    async with connection.transaction():
        titles = [row["title"] async for row in connection.cursor("SELECT title FROM shop.film ORDER BY film_id", prefetch=100)]
        assert len(titles) == 1000 and titles[0] == "ACADEMY DINOSAUR", titles[:3]
    try:
        async with connection.transaction():
            await connection.fetch("SELECT nope")
        raise SystemExit("no error")
    except asyncpg.UndefinedColumnError:
        pass
    assert await connection.fetchval("SELECT count(*) FROM shop.film") == 1000
    await connection.close()
    print("ok")


asyncio.run(main())
