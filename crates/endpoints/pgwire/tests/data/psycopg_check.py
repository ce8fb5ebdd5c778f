"""psycopg 3 against the door under test: values and parameters, text and binary. The first argument is the URL."""

import datetime as dt
import decimal
import sys
import uuid

import psycopg

EXPECTED = (
    True, -2, 4, 2**63 - 1, 1.1, 1e20, decimal.Decimal("-123.45"), "héllo", b"\x00\xff",
    dt.date(2024, 1, 2), dt.time(3, 4, 5, 600000), dt.datetime(2024, 1, 2, 3, 4, 5, 123456),
    dt.datetime(2024, 1, 2, 3, 4, 5, 123456, dt.timezone.utc), uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    {"a": 1}, {"a": 1}, [1, None, 3], '(1,"a b")', decimal.Decimal(2**64 - 1), "view", "word",
)
ECHOED = [
    ("int8", -5), ("float8", 2.5), ("text", "x'y"), ("bool", True), ("bytea", b"\x00\x01"), ("numeric", decimal.Decimal("12.34")),
    ("date", dt.date(1, 1, 1)), ("timestamptz", EXPECTED[12]), ("list", [1, 2]), ("text", None),
]

with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    assert connection.info.server_version == 150000, connection.info.server_version
    for binary in (False, True):
        with connection.cursor(binary=binary) as cursor:
            row, nulls = cursor.execute("SELECT types").fetchall()
            for got, want in zip(row, EXPECTED):
                assert (abs(got - want) < 1e-6 if want == 1.1 else got == want), (binary, got, want)
            assert nulls == (None,) * len(EXPECTED)
            for mark in ("%s", "%t", "%b"):
                for name, value in ECHOED:
                    if mark == "%b" and value is None:
                        continue
                    got = cursor.execute(f"ECHO {name} -- {mark}", (value,)).fetchone()[0]
                    assert got == value, (binary, mark, name, got, value)
    # Prepared on the server, used again, and dropped by the driver when there are too many.
    connection.prepare_threshold, connection.prepared_max = 1, 2
    for n in range(1, 20):
        assert len(connection.execute(f"SELECT rows {n % 7}", prepare=True).fetchall()) == n % 7
    with connection.cursor() as cursor, cursor.copy("COPY (SELECT rows 3) TO STDOUT") as copy:
        assert [row[0] for row in copy.rows()] == ["0", "1", "2"]
    with connection.pipeline():
        cursors = [connection.execute(f"SELECT rows {n}") for n in range(5)]
    assert [len(cursor.fetchall()) for cursor in cursors] == [0, 1, 2, 3, 4]
    try:
        connection.execute("FAIL 1")
        raise SystemExit("no error")
    except psycopg.errors.UndefinedColumn as error:
        assert error.diag.message_hint == "Perhaps y." and "SQL-999" in error.diag.message_detail
    with connection.transaction():
        assert len(connection.execute("SELECT rows 3").fetchall()) == 3
print("psycopg", psycopg.__version__, "agrees")
