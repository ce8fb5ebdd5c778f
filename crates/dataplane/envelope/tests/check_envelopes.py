"""Decodes our records with fastavro, an Avro reader that knows nothing of us, and compares every value with what went in.

Standard input: one JSON object per line with the schema's text, the record's bytes (hex) and what is expected of it. Prints the number of
records and of cells compared; ends with 1 at the first difference.
"""

import datetime
import decimal
import io
import json
import struct
import sys

import fastavro

decimal.getcontext().prec = 60
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def expect(place, found, wanted):
    if found != wanted:
        sys.exit(f"{place}: found {found!r}, expected {wanted!r}")


def check_cell(place, value, cell):
    kind, wanted = cell["kind"], cell["value"]
    if wanted is None:
        return expect(place, value, None)
    if kind == "bytes":
        expect(place, value.hex(), wanted)
    elif kind == "decimal":
        expect(place, value, decimal.Decimal(int(wanted)).scaleb(-cell["scale"]))
        expect(place + " scale", -value.as_tuple().exponent, cell["scale"])
    elif kind == "float":
        expect(place, struct.pack(">f", value).hex(), wanted)
    elif kind == "double":
        expect(place, struct.pack(">d", value).hex(), wanted)
    elif kind == "zoned":
        moment = datetime.datetime.fromisoformat(value.replace("Z", "+00:00"))
        expect(place, (moment - EPOCH) // datetime.timedelta(microseconds=1), int(wanted))
    elif kind == "integer":
        expect(place, value, int(wanted))
    else:
        expect(place, value, wanted)


def check_row(place, row, cells):
    if cells is None:
        return expect(place, row, None)
    expect(place + " columns", list(row), [cell["name"] for cell in cells])
    for cell in cells:
        check_cell(f"{place}.{cell['name']}", row[cell["name"]], cell)
    return None


def main():
    records = cells = 0
    schemas = {}
    for line in sys.stdin:
        case = json.loads(line)
        raw = bytes.fromhex(case["bytes"])
        expect("prefix", (raw[0], int.from_bytes(raw[1:5], "big")), (0, case["id"]))
        text = case["schema"]
        if text not in schemas:
            schemas[text] = fastavro.parse_schema(json.loads(text))
        stream = io.BytesIO(raw[5:])
        found = fastavro.schemaless_reader(stream, schemas[text])
        expect("bytes left", stream.read(), b"")
        if "key" in case:
            check_row("key", found, case["key"])
            cells += len(case["key"])
        else:
            check_row("before", found["before"], case["before"])
            check_row("after", found["after"], case["after"])
            cells += len(case["before"] or []) + len(case["after"] or [])
            for name, wanted in case["envelope"].items():
                expect(name, found[name], wanted)
        records += 1
    print(f"{records} records, {cells} cells")


main()
