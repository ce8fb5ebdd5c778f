"""Reads every live table from its directory with outside readers and compares all rows with what Mainstem serves over SQL.

Usage: readers.py URL [SCHEMA.TABLE]... Tables named after the URL are left out: parents, whose name shows their children's rows too. Values are brought to one form guided by what psycopg returns for the column; order does not matter.
"""

import datetime
import decimal
import hashlib
import pathlib
import struct
import sys
import uuid

import deltalake
import duckdb
import duckdb_extension_delta
import polars
import psycopg
import pyarrow
from psycopg.types.json import set_json_loads

FLOAT4 = 700
EPOCH = datetime.datetime(1970, 1, 1)
MICRO = datetime.timedelta(microseconds=1)


def micros(time):
    return ((time.hour * 60 + time.minute) * 60 + time.second) * 1_000_000 + time.microsecond


def form(value, kind):
    """One text per value. `kind` is the Python type that psycopg gives the column, or None."""
    if value is None:
        return "NULL"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "b" + bytes(value).hex()
    if isinstance(value, bool):
        return "t" if value else "f"
    if kind is datetime.time and not isinstance(value, datetime.time):
        # Delta has no time of day: microseconds or its text.
        return "T%d" % (value if isinstance(value, int) else micros(datetime.time.fromisoformat(value)))
    if isinstance(value, datetime.time):
        return "T%d" % micros(value)
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None:
            value = value.astimezone(datetime.timezone.utc).replace(tzinfo=None)
        return "S%d" % ((value - EPOCH) // MICRO)
    if isinstance(value, datetime.date):
        return "D" + value.isoformat()
    if isinstance(value, float):
        return "F" + ("nan" if value != value else repr(value))
    if isinstance(value, int) and kind is decimal.Decimal:
        value = decimal.Decimal(value)
    if isinstance(value, decimal.Decimal):
        return "N" + format(value.normalize() if value else decimal.Decimal(0), "f")
    if isinstance(value, uuid.UUID) or kind is uuid.UUID:
        return "U" + str(value)
    return "V" + str(value)


def widened(row, narrow):
    """float4 comes over the wire as its shortest text and from files as 32 bits: compared as the 32-bit value."""
    row = list(row)
    for i in narrow:
        if row[i] is not None:
            row[i] = struct.unpack("f", struct.pack("f", row[i]))[0]
    return row


def checksum(rows, kinds):
    total = 0
    count = 0
    for row in rows:
        text = "\x1f".join(form(value, kind) for value, kind in zip(row, kinds))
        total += int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big")
        count += 1
    return count, total % (1 << 128)


def rows_of(table, columns):
    data = table.select(columns).to_pydict()
    return zip(*(data[c] for c in columns))


def with_deltalake(path, columns):
    query = deltalake.QueryBuilder().register("t", deltalake.DeltaTable(path))
    names = ", ".join('"%s"' % c.replace('"', '""') for c in columns)
    return rows_of(pyarrow.table(query.execute("SELECT %s FROM t" % names).read_all()), columns)


def with_duckdb(path, columns):
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    # The package carries the extension, so that nothing is downloaded while a test runs.
    extension = next(pathlib.Path(duckdb_extension_delta.__file__).parent.rglob("delta.duckdb_extension*"))
    connection.execute("LOAD '%s'" % extension)
    return rows_of(connection.execute("SELECT * FROM delta_scan(?)", [path]).to_arrow_table(), columns)


def with_polars(path, columns):
    return polars.read_delta(path).select(columns).iter_rows()


def main():
    set_json_loads(lambda text: text if isinstance(text, str) else text.decode())
    connection = psycopg.connect(sys.argv[1], autocommit=True)
    problems = []
    compared = 0
    tables = connection.execute("SELECT schema_name, table_name, location FROM mainstem.tables").fetchall()
    for schema, name, location in tables:
        if not location or "%s.%s" % (schema, name) in sys.argv[2:]:
            continue
        quoted = '"%s"."%s"' % (schema.replace('"', '""'), name.replace('"', '""'))
        cursor = connection.execute("SELECT * FROM " + quoted)
        truth = cursor.fetchall()
        columns = [d.name for d in cursor.description]
        narrow = [i for i, d in enumerate(cursor.description) if d.type_code == FLOAT4]
        truth = [widened(row, narrow) for row in truth]
        kinds = [next((type(r[i]) for r in truth if r[i] is not None), None) for i in range(len(columns))]
        expected = checksum(truth, kinds)
        for reader in (with_deltalake, with_duckdb, with_polars):
            try:
                found = checksum(reader(location, columns), kinds)
            except Exception as error:  # a reader that cannot read is the finding
                if reader is with_polars and "columnMapping" in str(error):
                    continue  # polars refuses column mapping, which names that Delta does not allow need
                problems.append("%s: %s failed: %s" % (quoted, reader.__name__, error))
                continue
            if found != expected:
                problems.append("%s: %s read %d rows (%x), expected %d (%x)" % (quoted, reader.__name__, *found, *expected))
        compared += 1
    print("%d tables read alike by deltalake, duckdb and polars" % compared)
    if problems or not compared:
        sys.exit("\n".join(problems) or "no table has a location")


main()
