"""psycopg 3 as a client: what an application does first. Usage: psycopg_client.py URL"""

import datetime
import decimal
import sys
import uuid

import psycopg

with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    cursor = connection.cursor()
    film = cursor.execute("SELECT film_id, title, rental_rate, last_update FROM shop.film WHERE film_id = %s", (1,)).fetchone()
    assert film[0] == 1 and film[1] == "ACADEMY DINOSAUR", film
    assert film[2] == decimal.Decimal("0.99"), film
    assert isinstance(film[3], datetime.datetime), film
    titles = cursor.execute("SELECT title FROM shop.film WHERE title LIKE %s AND length > %s ORDER BY 1", ("A%", 100)).fetchall()
    assert len(titles) > 10, titles
    # Prepared: the same statement several times, then binary results.
    for number in range(1, 12):
        row = cursor.execute("SELECT count(*) FROM shop.rental WHERE customer_id = %s", (number,), prepare=True).fetchone()
        assert row[0] > 0, row
    binary = connection.cursor(binary=True)
    row = binary.execute(
        "SELECT customer_id, activebool, create_date, first_name, last_update FROM shop.customer WHERE customer_id = %s", (5,)
    ).fetchone()
    assert row[0] == 5 and row[1] is True and isinstance(row[2], datetime.date) and isinstance(row[4], datetime.datetime), row
    amount = binary.execute("SELECT sum(amount) FROM shop.payment").fetchone()[0]
    assert amount == decimal.Decimal("67416.51"), amount
    nobody = binary.execute("SELECT picture FROM shop.staff").fetchall()
    assert nobody == [(None,), (None,)], nobody
    try:
        cursor.execute("SELECT * FROM shop.absent")
        raise SystemExit("a missing table was read")
    except psycopg.errors.UndefinedTable:
        pass
    with connection.transaction():
        a = cursor.execute("SELECT count(*) FROM shop.film").fetchone()
        b = cursor.execute("SELECT count(*) FROM shop.film").fetchone()
        assert a == b == (1000,), (a, b)
    # Lists, identifiers of type uuid and json, moments: as parameters without a cast.
    some = cursor.execute(
        "SELECT count(*) FROM shop.film WHERE film_id = ANY(%s) AND title <> ALL(%s) AND last_update < %s",
        ([1, 2, 3], ["x"], datetime.datetime.now()),
    ).fetchone()
    assert some == (3,), some
    known = uuid.UUID("11111111-2222-3333-4444-555555555555")
    assert cursor.execute("SELECT %s::uuid", (str(known),)).fetchone() == (known,)
    assert cursor.execute("SELECT '{\"a\": [1, 2]}'::jsonb -> 'a'").fetchone() == ([1, 2],)
    assert binary.execute("SELECT array_agg(film_id ORDER BY film_id) FROM shop.film WHERE film_id < 4").fetchone() == ([1, 2, 3],)
    # Settings by a SELECT, and back.
    assert cursor.execute("SELECT set_config('search_path', 'shop', false)").fetchone() == ("shop",)
    assert cursor.execute("SELECT count(*) FROM film").fetchone() == (1000,)
    cursor.execute("DISCARD ALL")
    assert cursor.execute("SHOW search_path").fetchone() == ('"$user", public',)
    # Pipelined, with an error in the middle.
    with connection.pipeline() as pipeline:
        first, last = connection.execute("SELECT 1"), connection.execute("SELECT title FROM shop.film WHERE film_id = %s", (3,))
        assert first.fetchone() == (1,) and last.fetchone() == ("ADAPTATION HOLES",)
    try:
        with connection.pipeline() as pipeline:
            connection.execute("SELECT nope")
            connection.execute("SELECT 1")
        raise SystemExit("an error in a pipeline was lost")
    except psycopg.errors.UndefinedColumn:
        pass
    with cursor.copy("COPY (SELECT film_id, title FROM shop.film ORDER BY 1) TO STDOUT") as rows:
        assert list(rows.rows())[0] == ("1", "ACADEMY DINOSAUR")

# Server-side cursors: inside a transaction, scrolled on, and held beyond it.
with psycopg.connect(sys.argv[1]) as connection:
    with connection.cursor(name="many") as many:
        many.itersize = 1000
        many.execute("SELECT rental_id FROM shop.rental WHERE rental_id > %s ORDER BY 1", (5,))
        assert sum(1 for _ in many) == 16039
    with connection.cursor(name="few", binary=True) as few:
        few.execute("SELECT film_id, last_update FROM shop.film ORDER BY 1")
        assert [row[0] for row in few.fetchmany(3)] == [1, 2, 3]
        few.scroll(10)
        assert few.fetchone()[0] == 14
    held = connection.cursor(name="held", withhold=True)
    held.execute("SELECT film_id FROM shop.film ORDER BY 1")
    assert held.fetchone() == (1,)
    connection.commit()
    assert held.fetchone() == (2,)
    held.close()
    # A savepoint brings a failed transaction back.
    try:
        with connection.transaction():
            connection.execute("SELECT nope")
    except psycopg.errors.UndefinedColumn:
        pass
    assert connection.execute("SELECT 1").fetchone() == (1,)
print("ok")
