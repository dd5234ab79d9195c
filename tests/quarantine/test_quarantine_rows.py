"""What every parser shares, by itself on small static frames: types, files, reasons, counts."""

import json
from typing import Any

import pytest
from conftest import refusal
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.quarantine import bad_rows, expect, good_rows, mark_bad
from sparkstream_kit.quarantine.rows import (
    block,
    has,
    is_missing,
    parsed,
    readable,
    typed,
)
from sparkstream_kit.schemas import from_ddl

ZONE = "spark.sql.session.timeZone"


def texts_of(spark, *texts):
    return spark.createDataFrame([(text,) for text in texts], "text STRING")


def kind_of(ddl):
    return from_ddl(f"c {ddl}")[0].dataType


def observed(frame):
    """Compute a frame; return what its observations count, in their order, by kind."""
    frame.collect()
    convert = frame.sparkSession._jvm.scala.jdk.javaapi.CollectionConverters  # noqa: SLF001
    metrics = convert.asJava(frame._jdf.queryExecution().observedMetrics())  # noqa: SLF001
    numbered = [(*name.rsplit("_", 1), row.json()) for name, row in metrics.items()]
    found: dict[str, list[dict[str, int]]] = {}
    for kind, _, counts in sorted(numbered, key=lambda each: int(each[1])):
        found.setdefault(kind, []).append(json.loads(counts))
    return found


# --- types

# A type, a pattern, whether zeros may follow, and the session's time zone; and each text
# with its value as text, None where it is no such value.
TYPED: dict[str, Any] = {
    "a string stays as it is": (
        ("STRING", None, False, "UTC"),
        {"": "", " a ": " a ", "2024": "2024"},
    ),
    "a number": (
        ("INT", None, False, "UTC"),
        {"7": "7", "-7": "-7", "7.0": None, "x": None, "": None},
    ),
    "a number has no pattern": (("INT", "yyyy", True, "UTC"), {"7": "7", "x": None}),
    "a date in ISO": (
        ("DATE", None, False, "UTC"),
        {
            "2024-02-29": "2024-02-29",
            "2024-2-9": "2024-02-09",
            " 2024-02-29 ": "2024-02-29",
            "2023-02-29": None,
            "2024-02": None,
            "12:30": None,
            "2024-02-29 10:00": None,
            "2024-02-29 00:00": None,
        },
    ),
    "a date that zeros may follow": (
        ("DATE", None, True, "UTC"),
        {
            "2024-02-29": "2024-02-29",
            "2024-02-29 00:00": "2024-02-29",
            "2024-02-29T00:00:00.000": "2024-02-29",
            "2024-02-29T00:00:00.001": None,
            "2024-02-29 00:01": None,
        },
    ),
    "a timestamp in ISO": (
        ("TIMESTAMP", None, False, "UTC"),
        {
            "2024-01-31": "2024-01-31 00:00:00",
            "2024-01-31T10:30:00.123456Z": "2024-01-31 10:30:00.123456",
            "2024-01-31 10:30:00+02:00": "2024-01-31 08:30:00",
            "2024-01-31 10:30:00.1234567": None,
            "2024-01-31 10:30:00.1234560": None,
            "2024-01-31 25:00": None,
            "12:30": None,
            "2024-01": None,
        },
    ),
    "a timestamp that zeros may follow": (
        ("TIMESTAMP", None, True, "UTC"),
        {
            "2024-01-31 10:30:00.123456000": "2024-01-31 10:30:00.123456",
            "2024-01-31 10:30:00.1234567": None,
        },
    ),
    "a timestamp without a zone": (
        ("TIMESTAMP_NTZ", None, False, "Europe/Berlin"),
        {
            "2024-01-31": "2024-01-31 00:00:00",
            "2024-03-31T02:30:00.123456": "2024-03-31 02:30:00.123456",
            "2024-01-31 10:30:00.1234560": None,
            "2024-01-31 10:30Z": None,
            "2024-01-31 10:30 Europe/Berlin": None,
        },
    ),
    "a timestamp without a zone that zeros may follow": (
        ("TIMESTAMP_NTZ", None, True, "UTC"),
        {
            "2024-01-31 10:30:00.1234560": "2024-01-31 10:30:00.123456",
            "2024-01-31 10:30:00.1234561": None,
        },
    ),
    "a date by a pattern": (
        ("DATE", "d.M.yyyy", False, "UTC"),
        {"29.2.2024": "2024-02-29", "30.2.2024": None, "2024-02-29": None, "": None},
    ),
    "a timestamp by a pattern": (
        ("TIMESTAMP", "d.M.yyyy H:mm:ss.SSSSSSSS", False, "UTC"),
        {
            "29.2.2024 1:30:00.12345600": "2024-02-29 01:30:00.123456",
            "29.2.2024 1:30:00.12345670": None,
            "2024-02-29 01:30:00": None,
        },
    ),
    "a local time that the clock skips": (
        ("TIMESTAMP", None, False, "Europe/Berlin"),
        {
            "2024-03-31": "2024-03-31 00:00:00",
            "2024-03-31 01:59:59": "2024-03-31 01:59:59",
            "2024-03-31 02:00": None,
            "2024-03-31T02:59:59.999999": None,
            "2024-03-31 03:00": "2024-03-31 03:00:00",
            "2024-03-31T02:30:00Z": "2024-03-31 04:30:00",
            "2024-03-31 02:30:00+01:00": "2024-03-31 03:30:00",
            "2024-03-31 02:30:00 Europe/Berlin": None,
            "2024-03-31 02:30:00 Europe/Athens": "2024-03-31 01:30:00",
        },
    ),
    "a day whose first hour the clock skips": (
        ("TIMESTAMP", None, False, "America/Sao_Paulo"),
        {"2018-11-04": "2018-11-04 01:00:00", "2018-11-04 00:00": None},
    ),
    "a named zone in a session that skips no hour": (
        ("TIMESTAMP", None, False, "UTC"),
        {
            "2024-03-31 02:30": "2024-03-31 02:30:00",
            "2024-03-31 02:30:00 Europe/Berlin": None,
            "2024-03-31 03:30:00 Europe/Berlin": "2024-03-31 01:30:00",
        },
    ),
    "a local time by a pattern": (
        ("TIMESTAMP", "d.M.yyyy H:mm", False, "Europe/Berlin"),
        {
            "31.3.2024 2:30": None,
            "31.3.2024 3:30": "2024-03-31 03:30:00",
            "31.3.2024 25:00": None,
        },
    ),
    "a local time by a pattern in a session that skips no hour": (
        ("TIMESTAMP", "d.M.yyyy H:mm", False, "UTC"),
        {"31.3.2024 2:30": "2024-03-31 02:30:00", "x": None},
    ),
    "a pattern with an offset": (
        ("TIMESTAMP", "d.M.yyyy H:mm xx", False, "Europe/Berlin"),
        {"31.3.2024 2:30 +0100": "2024-03-31 03:30:00", "31.3.2024 2:30": None},
    ),
    "a pattern without an hour": (
        ("TIMESTAMP", "'H' d.M.yyyy", False, "America/Sao_Paulo"),
        {"H 4.11.2018": "2018-11-04 01:00:00"},
    ),
    "a pattern of dates in a zone that skips an hour": (
        ("DATE", "d.M.yyyy H:mm", False, "Europe/Berlin"),
        {"31.3.2024 2:30": "2024-03-31"},
    ),
    "a pattern with a named zone": (
        ("TIMESTAMP", "d.M.yyyy' at 'H:mm[ VV]", False, "UTC"),
        {
            "31.3.2024 at 2:30 Europe/Berlin": None,
            "31.3.2024 at 3:30 Europe/Berlin": "2024-03-31 01:30:00",
            "31.3.2024 at 2:30 Europe/Athens": "2024-03-31 00:30:00",
            "31.3.2024 at 2:30": "2024-03-31 02:30:00",
            "31.3.2024 at 25:30 Europe/Berlin": None,
        },
    ),
    "a pattern with a quote in its text": (
        ("TIMESTAMP", "d.M.yyyy H 'o''clock' VV", False, "UTC"),
        {
            "31.3.2024 2 o'clock Europe/Berlin": None,
            "31.3.2024 3 o'clock Europe/Berlin": "2024-03-31 01:00:00",
        },
    ),
    "a pattern with a zone in words": (
        ("TIMESTAMP", "d.M.yyyy H:mm zzzz", False, "UTC"),
        {"31.3.2024 3:30 Central European Summer Time": "2024-03-31 01:30:00"},
    ),
}


@pytest.mark.parametrize("case", TYPED)
def test_a_text_becomes_a_value_without_loss_or_none(spark, case):
    (ddl, pattern, zeros, zone), expected = TYPED[case]
    value = typed(F.col("text"), kind_of(ddl), pattern, zeros=zeros)
    with in_force(spark, {ZONE: zone}):
        rows = texts_of(spark, *expected).select("text", value.cast("string")).collect()
    assert dict(rows) == expected


@pytest.mark.parametrize(
    ("ddl", "expected"),
    [
        ("INT", {"7": False, "x": True}),
        ("STRING", {"": False, None: True}),
        (
            "DATE",
            {
                "0000-12-31": True,
                "0001-01-01": False,
                "9999-12-31": False,
                "+10000-01-01": True,
                "x": True,
            },
        ),
        (
            "TIMESTAMP",
            {
                "0000-12-31 23:59:59.999999": True,
                "0001-01-01 00:00:00": False,
                "9999-12-31 23:59:59.999999": False,
                "+10000-01-01 00:00:00": True,
                "x": True,
            },
        ),
    ],
)
def test_a_value_is_missing_that_is_null_or_outside_the_years_1_to_9999(
    spark, ddl, expected
):
    value = F.col("text").try_cast(kind_of(ddl))
    missing = is_missing(F.col("value"), kind_of(ddl))
    frame = texts_of(spark, *expected).withColumn("value", value)
    assert dict(frame.select("text", missing).collect()) == expected


# --- files


def test_a_file_s_url_is_shown_as_people_write_it(spark):
    shown = {
        "file:/in/a.csv": "/in/a.csv",
        "file:///in/a.csv": "/in/a.csv",
        "file:///in/a%20b%231.csv": "/in/a b#1.csv",
        "file:///in/a+b%2Bc.csv": "/in/a+b+c.csv",
        "s3a://bucket/in/a%C3%BC.csv": "s3a://bucket/in/aü.csv",
        "hdfs://host/file:/a": "hdfs://host/file:/a",
        None: None,
    }
    rows = texts_of(spark, *shown).select("text", readable(F.col("text"))).collect()
    assert dict(rows) == shown


def test_a_line_s_block_tells_its_file_and_whether_it_is_the_whole(spark, folder):
    (folder / "long.txt").write_text("a\n" * 6000)
    (folder / "short.txt").write_text("b\n")
    with in_force(spark, {"spark.sql.files.maxPartitionBytes": "4k"}):
        lines = spark.read.text(str(folder)).select("value", block().alias("b"))
        found = lines.select("value", "b.*").distinct().collect()
    known = sorted(
        (row["value"], row["file"] is not None, row["is_whole"]) for row in found
    )
    # A line of a later block has no number
    assert known == [("a", False, False), ("a", True, False), ("b", True, True)]
    assert len({row["file"] for row in found}) == 3


def test_what_a_frame_can_give_is_known_before_it_is_asked_for(spark, folder):
    (folder / "a.txt").write_text("a\n")
    path = F.col("_metadata.file_path")
    assert has(spark.read.text(str(folder)), path) is True
    assert has(spark.range(1), path) is False
    assert has(spark.range(1), F.col("id")) is True


# --- what each parser returns


def read(frame):
    """Read a line as one value; `bad` is a bad one, and `head` a header."""
    raw = F.col("_raw")
    is_header = F.when(raw == "head", F.lit(True)).when(raw == "like", F.lit(False))
    reason = F.when(raw.isin("bad", "like"), "a bad line")
    return frame.select("*", F.upper("_raw").alias("_v0")), reason, is_header


def read_without_headers(frame):
    frame, reason, _ = read(frame)
    return frame, reason, None


ONE = T.StructType().add("v", "string")


def test_a_bad_line_has_a_reason_and_no_value_and_a_header_is_no_row(spark):
    lines = texts_of(spark, "good", "bad", "head", "like", None)
    found = parsed(lines, ONE, read, "own")
    assert found.columns == ["v", "_reason", "_raw", "_bytes", "_file"]
    assert found.drop("_bytes", "_file").collect() == [
        ("GOOD", None, "good"),
        (None, "a bad line", "bad"),
        (None, "a bad line", "like"),
        (None, None, None),
    ]
    assert dict(found.dtypes) == {
        "v": "string",
        "_reason": "string",
        "_raw": "string",
        "_bytes": "binary",
        "_file": "string",
    }
    all_rows = parsed(lines, ONE, read_without_headers, "own")
    assert [row["_raw"] for row in all_rows.collect()] == [
        "good",
        "bad",
        "head",
        "like",
        None,
    ]


def test_only_what_is_no_text_keeps_its_bytes_too(spark):
    lines = spark.createDataFrame(
        [(b"a\0b",), (b"Z\xfc",), ("Zü\ufffd".encode(),)], "value BINARY"
    )
    found = parsed(lines, ONE, read, "own").select("_raw", "_bytes").collect()
    assert found == [
        ("a\ufffdb", bytearray(b"a\0b")),
        ("Z\ufffd", bytearray(b"Z\xfc")),
        ("Zü\ufffd", None),
    ]


# The columns of the lines, and those of the result after the four that the kit adds.
COLUMNS = {
    "the line alone": ("x AS value", []),
    "other columns behind it": ("x AS value, 1 AS `a.b`, 2 AS c", ["a.b", "c"]),
    "a key behind it": ("x AS value, 1 AS key", ["key"]),
    "a record of Kafka": ("1 AS key, x AS value, 2 AS topic", ["key", "topic"]),
    "a key alone": ("x AS key, 1 AS topic", ["topic"]),
    "a file of its own": ("x AS value, 'here' AS _file, 1 AS c", ["c"]),
}


@pytest.mark.parametrize("case", COLUMNS)
def test_the_first_column_is_the_line_and_the_others_are_kept(spark, case):
    given, others = COLUMNS[case]
    lines = spark.sql(f"SELECT {given} FROM VALUES ('line') AS t(x)")  # noqa: S608
    found = parsed(lines, ONE, read, "own")
    assert found.columns == ["v", "_reason", "_raw", "_bytes", "_file", *others]
    [row] = found.collect()
    assert (row["v"], row["_raw"]) == ("LINE", "line")
    assert row["_file"] == ("here" if "_file" in given else None)
    assert list(row)[5:] == list(range(1, 1 + len(others)))


@pytest.mark.parametrize("with_blocks", [False, True])
def test_a_line_of_a_file_says_which(spark, folder, with_blocks):
    (folder / "a b.txt").write_text("line\nhead\nlike\n")
    blocks = []

    def read_with_blocks(frame):
        blocks.append("_block" in frame.columns)
        return read(frame)

    for lines in (
        spark.read.text(str(folder)),
        spark.read.text(str(folder)).withColumn("_file", F.lit("own")),
    ):
        own = "_file" in lines.columns
        found = parsed(lines, ONE, read_with_blocks, "own", with_blocks=with_blocks)
        assert found.columns == ["v", "_reason", "_raw", "_bytes", "_file"]
        file = "own" if own else f"{folder}/a b.txt"
        assert found.select("_raw", "_file").collect() == [
            ("line", file),
            ("like", file),
        ]
    assert blocks == [with_blocks] * 2


def test_a_name_that_the_kit_needs_or_that_is_there_twice_is_refused(spark):
    def said(ddl, names, **settings):
        lines = spark.sql("SELECT " + ", ".join(f"'x' AS {name}" for name in names))
        with in_force(spark, settings):
            return refusal(parsed, lines, from_ddl(ddl), read, "own")

    taken = "the name is taken by the kit; rename the column"
    for name in ("_reason", "_raw", "_bytes", "_file", "_RAW"):
        assert said(f"a INT, {name} INT", ["value"]) == f"column {name}: {taken}"
    for name in ("_reason", "_raw", "_bytes"):
        assert said("a INT", ["value", name]) == f"column {name}: {taken}"
    twice = "two columns have this name"
    of_schema = f"{twice}; rename one of them"
    of_lines = (
        f"{twice}; rename that of the lines, or read lines of text alone: sources.text"
    )
    assert said("a INT, A INT", ["value"]) == f"column A: {of_schema}"
    assert said("b INT, a INT", ["value", "a"]) == f"column a: {of_lines}"
    assert said("b INT, a INT", ["value", "c", "C"]) == f"column C: {of_lines}"
    exact = {"spark.sql.caseSensitive": "true"}
    assert said("a INT, A INT, a INT", ["value"], **exact) == f"column a: {of_schema}"


def test_good_and_bad_rows_are_apart(spark):
    rows = spark.sql(
        "SELECT * FROM VALUES (1, null, 'x'), (2, 'why', 'y') AS t(n, _reason, m)"
    )
    assert good_rows(rows).columns == ["n", "m"]
    assert good_rows(rows).collect() == [(1, "x")]
    assert bad_rows(rows).columns == ["n", "_reason", "m"]
    assert bad_rows(rows).collect() == [(2, "why", "y")]
    # What a parse returned: the values of the schema are left out, all null
    more = rows.selectExpr("n", "_reason", "m AS _raw", "n AS `a.b`")
    assert good_rows(more).columns == ["n", "a.b"]
    assert bad_rows(more).columns == ["_reason", "_raw", "a.b"]
    assert bad_rows(more).collect() == [("why", "y", 2)]


# --- rules, reasons and counts


def test_a_reason_of_ones_own_keeps_a_former_one(spark):
    rows = spark.sql(
        "SELECT * FROM VALUES (1, null), (-1, null), (-2, 'why') AS t(n, _reason)"
    )
    found = mark_bad(rows, F.when(F.col("n") < 0, "n: below 0"))
    assert found.collect() == [(1, None), (-1, "n: below 0"), (-2, "why")]
    assert mark_bad(rows, F.lit(None)).collect() == rows.collect()


def test_the_rules_are_checked_in_their_order_and_null_breaks_one(spark):
    sales = spark.sql(
        "SELECT * FROM VALUES ('north', 3), ('south', 0), (null, 5), (null, null)"
        " AS t(shop, amount)"
    )
    rules = {
        "amount >\n 0": "quarantine",
        "shop <> 'x'": "quarantine",
        "amount < 5": "warn",
        "amount IS NULL OR amount < 9": "fail",
    }
    found = expect(sales, rules)
    assert found.columns == ["shop", "amount", "_reason"]
    assert found.collect() == [
        ("north", 3, None),
        ("south", 0, "breaks amount > 0"),
        (None, 5, "breaks shop <> 'x'"),
        (None, None, "breaks amount > 0"),
    ]
    # A row with a reason is not looked at again, also not by a rule of failing
    again = expect(found, {"shop = 'north'": "fail", "amount = 7": "quarantine"})
    assert again.columns == found.columns
    assert [row["_reason"] for row in again.collect()] == [
        "breaks amount = 7",
        "breaks amount > 0",
        "breaks shop <> 'x'",
        "breaks amount > 0",
    ]
    assert expect(sales, {"amount > 0": "warn"}).collect() == sales.collect()


@pytest.mark.classic_only("what a static frame observed")
def test_what_is_counted_of_rows_and_of_rules(spark, folder):
    def counts(rows, bad, headers=0, like=0):
        names = "rows", "bad_rows", "headers", "like_headers"
        return dict(zip(names, (rows, bad, headers, like), strict=True))

    lines = texts_of(spark, "good", "bad", "head", "like", "head")
    of_lines = counts(3, 2, 2, 1)
    found = parsed(lines, ONE, read, "own")
    assert observed(found) == {"sparkstream_quarantine": [of_lines]}
    assert observed(parsed(lines, ONE, read_without_headers, "own")) == {
        "sparkstream_quarantine": [counts(5, 2)]
    }
    # Rows of a step after a parse are counted there, and only newly bad ones here
    marked = mark_bad(found, F.lit("all are bad"))
    assert observed(marked)["sparkstream_quarantine"] == [of_lines, counts(0, 1)]
    rules = {"v <> 'GOOD'": "quarantine", "v  <> ''": "warn"}
    ruled = observed(expect(found, rules))
    assert ruled["sparkstream_quarantine"] == [of_lines, counts(0, 1)]
    assert ruled["sparkstream_rules"] == [{"v <> 'GOOD'": 1, "v <> ''": 0}]
    good = observed(expect(good_rows(found), {"v <> 'GOOD'": "quarantine"}))
    assert good["sparkstream_quarantine"] == [of_lines, counts(0, 1)]
    # Rows that no parse has counted
    plain = texts_of(spark, "a", "b", None)
    once = expect(plain, {"text = 'a'": "quarantine"})
    assert observed(once) == {
        "sparkstream_quarantine": [counts(3, 2)],
        "sparkstream_rules": [{"text = 'a'": 2}],
    }
    twice = observed(expect(once, {"text = 'b'": "quarantine"}))
    assert twice["sparkstream_quarantine"] == [counts(3, 2), counts(0, 1)]
    with_reason = plain.withColumn("_reason", F.lit(None).cast("string"))
    first = mark_bad(with_reason, F.when(F.col("text") == "a", "why"))
    then = observed(expect(good_rows(first), {"text = 'b'": "quarantine"}))
    assert then["sparkstream_quarantine"] == [counts(0, 1), counts(2, 1)]
    # Of files, those without a header are counted, too
    (folder / "a.txt").write_text("like\n")
    files = parsed(spark.read.text(str(folder)), ONE, read, "own", with_blocks=True)
    assert observed(files) == {
        "sparkstream_headers": [{"files": 1}],
        "sparkstream_quarantine": [counts(1, 1)],
    }
