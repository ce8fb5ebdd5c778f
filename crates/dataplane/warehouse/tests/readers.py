"""Reads Delta tables with engines that know nothing of us and compares every cell with what the caller expects.

Usage: readers.py EXPECTED.json, a list of {path, columns: [{name, physical, kind, scale}], rows: [[text or null]], mapped}.
"""

import datetime
import decimal
import json
import pathlib
import sys

import deltalake
import duckdb
import duckdb_extension_delta
import polars

EPOCH = datetime.datetime(1970, 1, 1)


def text(value, column):
    """One form for a value, whatever Python type an engine gives it."""
    if value is None:
        return None
    kind = column["kind"]
    if kind == "bool":
        return "1" if value else "0"
    if kind in ("float32", "float64"):
        return str(int(value * 4))
    if kind == "decimal":
        return str(int(decimal.Decimal(value).scaleb(column["scale"])))
    if kind == "date":
        return str((value - EPOCH.date()).days)
    if kind in ("timestamp", "timestamp_tz"):
        if value.tzinfo is not None:
            value = value.astimezone(datetime.timezone.utc).replace(tzinfo=None)
        delta = value - EPOCH
        return str((delta.days * 86400 + delta.seconds) * 1_000_000 + delta.microseconds)
    if kind == "bytes":
        return bytes(value).decode()
    return str(value)


def rows_of(records, columns):
    rows = [[text(record[c["name"]], c) for c in columns] for record in records]
    return sorted(rows, key=repr)


def by_deltalake(path, names):
    import pyarrow

    table = deltalake.DeltaTable(path)
    found = deltalake.QueryBuilder().register("t", table).execute("select * from t").read_all()
    return pyarrow.table(found).to_pylist()


def by_pyarrow(path, names):
    """What `to_pandas` goes by; it refuses every feature."""
    return deltalake.DeltaTable(path).to_pyarrow_table().to_pylist()


def by_duckdb(path, names):
    return CONNECTION.execute(f"select * from delta_scan('{path}')").to_arrow_table().to_pylist()


def by_polars(path, names):
    return polars.scan_delta(path).collect().to_dicts()


def connect():
    # The extension comes as a package: nothing is fetched at run time.
    folder = pathlib.Path(duckdb_extension_delta.__file__).parent / "extensions" / f"v{duckdb.__version__}"
    connection = duckdb.connect()
    connection.execute("set autoinstall_known_extensions = false")
    connection.execute(f"load '{folder / 'delta.duckdb_extension'}'")
    return connection


def main():
    expected = json.load(open(sys.argv[1]))
    failed, plain = 0, 0
    for table in expected:
        columns = table["columns"]
        wanted = sorted(table["rows"], key=repr)
        readers = [("deltalake", by_deltalake), ("duckdb", by_duckdb), ("polars", by_polars)]
        if deltalake.DeltaTable(table["path"]).protocol().min_reader_version == 1:
            plain += 1
            readers.append(("pyarrow", by_pyarrow))
        for name, read in readers:
            if name == "polars" and table["mapped"]:
                continue  # refuses column mapping
            found = rows_of(read(table["path"], columns), columns)
            if found != wanted:
                failed += 1
                more = [r for r in found if r not in wanted][:2]
                less = [r for r in wanted if r not in found][:2]
                print(f"{name} {table['path']}: {len(found)} rows, wanted {len(wanted)}; too many {more}, missing {less}")
    print(f"{len(expected)} tables read, {plain} of them need no features, {failed} differ")
    sys.exit(1 if failed else 0)


CONNECTION = connect()
main()
