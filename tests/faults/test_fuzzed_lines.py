"""200,000 fuzzed lines against Python's own csv, json and decimal: no line is lost.

The good values are the same.
"""

import csv
import io
import json
import math
import random
import re
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime
from decimal import Context, Decimal, InvalidOperation
from typing import Any

import pytest
from pyspark.sql import functions as F
from support.batch_folders import rows_in

from sparkstream_kit import run, sinks, sources, start
from sparkstream_kit.quarantine import parse_csv, parse_json

LINES, FILES, SEED = 100_000, 4, 9  # of each format

# Put into a line, at random.
PIECES = [
    *('"', '""', '"""', '""""', ",", ", ", ' "', '" ', "'", "\\", "\t", "\x1f", "\x0b", "\x7f"),
    *("\xa0", "\x85", "ß", "東", "😀", "\u2028", "\ufeff", "\ufffe", "\uffff", "\0", "end", "null"),
    *("NaN", "e", "E", ".", "-", "+", "0", "1", "000", "#", "//", ";", "{", "}", "[", "]", ":"),
    *("],[", '"a":1,', '\\"', "\\n", "\\u0041", "\\ud83d\\ude00", "\\ud800", "\\u0000", "1e400"),
    *('"the end of the line"', ',"the end of the line"] '),
]  # fmt: skip
BYTES = [b"\xff", b"\xc3", b"\x80", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"\xc0\x80"]


def fuzzed(make):
    """Give lines, half of them with one to three changes."""
    chance = random.Random(SEED)  # noqa: S311 - a seeded mix, not a secret
    for _ in range(LINES):
        line = make(chance)
        for _ in range(chance.choice((0, 0, 0, 1, 2, 3))):
            at = chance.randrange(len(line) + 1)
            cut = chance.choice((0, 0, 0, 1, 1, 5))
            line = line[:at] + chance.choice([*PIECES, ""]) + line[at + cut :]
        raw = line.encode()
        if chance.random() < 0.02:
            at = chance.randrange(len(raw) + 1)
            raw = raw[:at] + chance.choice(BYTES) + raw[at:]
        yield raw


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_fuzzed_lines_give_what_python_reads(spark, folder, tmp_path, kind):
    make, read, parse = (
        (csv_line, read_csv, csv_rows)
        if kind == "csv"
        else (json_line, read_json, parse_json)
    )
    lines = list(fuzzed(make))
    for number in range(FILES):
        # A byte order mark that begins a file is no part of its first line.
        part = [
            b"first",
            *lines[number * LINES // FILES : (number + 1) * LINES // FILES],
        ]
        (folder / f"{number}.txt").write_bytes(b"\n".join(part))
    rows = parse(sources.text(spark, str(folder)), CSV if kind == "csv" else JSON)
    sink = sinks.batch_files(tmp_path / "out")
    summary = run(
        start(
            rows, sink, name="fuzzed", checkpoint=tmp_path / "ckpt", availableNow=True
        )
    )

    found: Counter[bytes] = Counter()
    bad, wrong = 0, []
    for row in rows_in(tmp_path / "out"):
        reason, raw, exact = (row.pop(name) for name in ("_reason", "_raw", "_bytes"))
        line = raw.encode() if exact is None else exact
        assert row.pop("_file").startswith(f"{folder}/")
        found[line] += 1
        bad += reason is not None
        expected = read(line)
        if (reason is None) != (expected is not None) or (
            expected and shown(row) != shown(expected)
        ):
            wrong.append((line, reason, row, expected))
    assert not wrong, f"{len(wrong)} lines, such as {wrong[:5]}"
    assert found == Counter(lines) + Counter({b"first": FILES})
    assert LINES / 5 < bad < LINES * 4 / 5
    (query,) = summary.queries
    assert (query.input_rows, query.bad_rows) == (LINES + FILES, bad)


def shown(values):
    """Return values as texts, for NaN is equal to nothing, and True to 1."""
    return {name: repr(value) for name, value in values.items()}


# --- CSV: what a text is as a value, said once more and in another way

CSV = """n INT, big BIGINT, price DECIMAL(9,2), share DOUBLE, yes BOOLEAN, day DATE, at TIMESTAMP,
    name STRING NOT NULL, note STRING"""
VALUES = {
    "n": ["0", "-1", "+7", " 12 ", "2147483647", "2147483648", "1.0", "1e2", "x", "1_0",
          "0x1", "007", ""],
    "big": ["0", "9223372036854775807", "-9223372036854775808", "9223372036854775808",
            "1L", "12"],
    "price": ["0", "1.5", "-.5", "1.", "7.505", "7.50", "7.500", "1234567.89",
              "12345678.9", "1e1", "."],
    "share": ["0.1", "1e3", "-1.5E-7", "1e308", "1e309", "NaN", "inf", "-Infinity", "1d",
              "0x1p3", "1..2"],
    "yes": ["true", "FALSE", "maybe", "1", "0", "2", "y", "no", "true"],
    "day": ["2024-02-29", "2023-02-29", "2024-2-9", "0001-01-01", "0000-01-01",
            "9999-12-31", "12:30"],
    "at": ["2024-02-29T10:00:00", "2024-02-29T10:00:00.123456",
           "2024-02-29T10:00:00.123456789", "2024-02-29",
           "2024-02-29T10:00:00.123456000", "2024-02-29T10:00:00.5"],
    "name": ["Ann", "", " ", 'O"Hara', "Zürich", "a,b", "x" * 300],
    "note": ["", "text", "a\tb", '"', "null", "the end of the line"],
}  # fmt: skip
GOOD = dict(
    zip(
        VALUES,
        [
            "1",
            "2",
            "7.50",
            "0.1",
            "true",
            "2024-02-29",
            "2024-02-29T10:00:00",
            "Ann",
            "",
        ],
        strict=True,
    )
)


def csv_rows(lines, schema):
    rows = parse_csv(
        lines, schema, timestamp_format="yyyy-MM-dd'T'HH:mm:ss[.SSSSSSSSS]"
    )
    # Read from Parquet, a time of long ago would be another.
    return rows.withColumn("at", F.date_format("at", "yyyy-MM-dd'T'HH:mm:ss.SSSSSS"))


def csv_line(chance):
    row = [
        chance.choice(VALUES[name]) if chance.random() < 0.15 else good
        for name, good in GOOD.items()
    ]
    text = io.StringIO()
    plain, quoted = (
        csv.writer(text, lineterminator="", quoting=how)
        for how in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
    )
    (quoted if chance.random() < 0.3 else plain).writerow(row)
    return text.getvalue()


def read_csv(raw):
    """Return the values of a line; None where it is bad."""
    try:
        line = raw.decode()
        if line.count('"') % 2 or "\0" in line or "\uffff" in line:
            return None
        (texts,) = csv.reader([line], strict=True)
        row = {
            name: None if text == "" else OF_CSV[name](text)
            for name, text in zip(OF_CSV, texts, strict=True)
        }
    except (ValueError, csv.Error):
        return None
    return row if row["name"] is not None and row["name"].strip(" ") else None


def matching(pattern, text):
    found = re.fullmatch(pattern, text, re.ASCII | re.IGNORECASE)
    if found is None:
        raise ValueError(text)
    return found


def trimmed(text):
    """Return a text without the blanks and controls around it, which Spark's casts drop."""
    return text.strip("".join(map(chr, [*range(33), 0x7F])))


def integer(bits):
    def read(text):
        value = int(matching(r"[+-]?\d+", trimmed(text))[0])
        if not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
            raise ValueError(text)
        return value

    return read


def price(text):
    value = Decimal(matching(r"[\0- ]*([+-]?(\d+\.?\d*|\.\d+))[\0- ]*", text)[1])
    # (A tab after two digits is a third, for the kit.)
    if len(text.rstrip(" ").partition(".")[2]) > 2 or abs(value) >= 10**7:
        raise ValueError(text)
    return value.quantize(Decimal("0.01"))


def floating(text):
    plain = matching(
        r"[\0- ]*([+-]?(inf|infinity|nan|(\d+\.?\d*|\.\d+)(e[+-]?\d+)?))[\0- ]*", text
    )[1]
    value = float(plain)
    if math.isinf(value) and plain[-1].isdigit():
        raise ValueError(text)
    return value


def truth(text):
    return bool(matching("(true|t|yes|y|1)|false|f|no|n|0", trimmed(text))[1])


def day(text):
    year, month, of_month = matching(r"\s*(\d{4})-(\d\d?)-(\d\d?)\s*", text).groups()
    return date(int(year), int(month), int(of_month))


def moment(text):
    whole, digits = matching(
        r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,6})0{0,3})?", text
    ).groups()
    return datetime.fromisoformat(f"{whole}.{(digits or '').ljust(6, '0')}").isoformat(
        timespec="microseconds"
    )


OF_CSV: dict[str, Callable[[str], Any]] = {
    "n": integer(32),
    "big": integer(64),
    "price": price,
    "share": floating,
    "yes": truth,
    "day": day,
    "at": moment,
    "name": str,
    "note": str,
}

# --- JSON

JSON = """n INT NOT NULL, big BIGINT, price DECIMAL(9,2), share DOUBLE, yes BOOLEAN, name STRING,
    some ARRAY<INT>"""
TOKENS = [
    *("0", "-1", "7.5", "7.50", "7.505", "1e3", "-2.5E-2", "1e400", "2147483648", "-0", "1.0"),
    *("9223372036854775808", "12345678901234567890123456789012345678"),
    *("01", "NaN", "true", "false", "0.1234567890123456789012345678901234567890"),
    *('"7.50"', '"text"', '""', '"a\\"b\\\\"', "null"),
    *('"\\u00fc 東"', "[]", "[1, null]", "[1, 2.5]", "[1, 2147483648]", '{"a":1,"a":2}'),
    *('{"a": {"a": [1.5, "1e400", {}]}}', '["", [true, 1.25e10, {"b": -0.5}]]'),
]  # fmt: skip
SOUND = {
    "n": "1", "big": "2", "price": "7.5", "share": "0.25", "yes": "true",
    "name": '"Ann"', "some": "[1, 2]",
}  # fmt: skip


def json_line(chance):
    picked = {
        name: chance.choice(TOKENS) if chance.random() < 0.15 else good
        for name, good in SOUND.items()
        if chance.random() < 0.9
    }
    blank = chance.choice(("", "", " "))
    return (
        "{"
        + f",{blank}".join(f'"{name}":{blank}{token}' for name, token in picked.items())
        + "}"
    )


EXACT = Context(prec=400)


class Exponent(Decimal):
    """A number that is written with an exponent."""


def read_json(raw):
    """Return the values of a line; None where it is bad."""
    try:
        found = json.loads(
            raw.decode(),
            object_pairs_hook=once,
            parse_constant=refused,
            parse_float=decimal,
        )
        # Fails for half of a surrogate pair
        json.dumps(found, default=str, ensure_ascii=False).encode()
        if not isinstance(found, dict):
            return None
        row = {
            name: None if found.get(name) is None else read(found[name])
            for name, read in OF_JSON.items()
        }
    except (ValueError, InvalidOperation):
        # also an exponent of more digits than Decimal takes
        return None
    return row if row["n"] is not None else None


def once(pairs):
    if len(dict(pairs)) < len(pairs):
        raise ValueError(pairs)
    return dict(pairs)


def refused(text):
    raise ValueError(text)


def decimal(text):
    return Exponent(text) if "e" in text.lower() else Decimal(text)


def of(kind, read):
    def read_one(value):
        if type(value) is not kind:
            raise ValueError(value)
        return read(value)

    return read_one


def json_price(value):
    if isinstance(value, str):
        return price(value)
    if type(value) not in (int, Decimal):
        raise ValueError(value)
    plain = Decimal(value).quantize(Decimal("0.01"), context=EXACT)
    if plain != value or abs(plain) >= 10**7:
        raise ValueError(value)
    return plain


def json_floating(value):
    if type(value) not in (int, Decimal, Exponent) or math.isinf(float(value)):
        raise ValueError(value)
    return float(value)


def sized(bits):
    return of(int, lambda value: integer(bits)(str(value)))


def some(values):
    if not isinstance(values, list):
        raise ValueError(values)  # noqa: TRY004 - as all that is bad
    return [None if value is None else sized(32)(value) for value in values]


OF_JSON: dict[str, Callable[[Any], Any]] = {
    "n": sized(32),
    "big": sized(64),
    "price": json_price,
    "share": json_floating,
    "yes": of(bool, bool),
    "name": of(str, str),
    "some": some,
}
