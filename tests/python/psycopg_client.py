"""psycopg 3 as a client: what an application does first. Usage: psycopg_client.py URL"""

import datetime
import decimal
import sys

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
print("ok")
