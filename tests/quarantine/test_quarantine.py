"""CSV lines against Spark itself: what is good or bad and why; no line is ever lost."""

import csv
import random
from datetime import date, datetime
from decimal import Decimal
from itertools import product
from typing import Any

import pyarrow.parquet as pq
import pytest
from chispa import assert_df_equality
from conftest import failure, refusal
from pyspark.errors import AnalysisException, StreamingQueryException
from pyspark.sql import functions as F
from pyspark.sql.types import StructType
from support.sql import sql

from sparkstream_kit import run, sinks, start
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.quarantine import (
    bad_rows,
    good_rows,
    mark_bad,
    parse_avro,
    parse_csv,
    parse_json,
    parse_log,
)
from sparkstream_kit.schemas import from_ddl
from sparkstream_kit.sources import text

SALES = (
    StructType()
    .add("OrderID", "long")
    .add("OrderDate", "date")
    .add("Quantity", "integer")
    .add("DiscountPct", "decimal(9,4)")
    .add("Rate", "decimal(12,2)")
    .add("SaleAmount", "decimal(12,2)", nullable=False)
    .add("CustomerName", "string")
    .add("State", "string")
    .add("Region", "string")
    .add("ProductKey", "string", nullable=False)
    .add("RowCount", "integer")
    .add("ProfitMargin", "decimal(9,4)")
)
GOOD = '1,1/31/24,3,0.1000,2.50,7.50,"Ann ""Red"" Lee, Jr.",Ohio,Midwest,P1,1,0.2500'
GOOD_ROW = (
    *(1, date(2024, 1, 31), 3, Decimal("0.1000"), Decimal("2.50"), Decimal("7.50")),
    *('Ann "Red" Lee, Jr.', "Ohio", "Midwest", "P1", 1, Decimal("0.2500")),
)
BAD = {
    GOOD.rpartition(",")[0]: "not 12 fields",
    GOOD + ",": "not 12 fields",
    "": "not 12 fields",
    "   ": "not 12 fields",
    "junk": "not 12 fields",
    "," * 30_000: "not 12 fields",  # Spark's own parser fails the query at 20,480
    # Where Spark's own parser ends
    GOOD + "\uffff,more": "U+FFFF, which is no character",
    GOOD.replace("7.50,", ","): "SaleAmount: empty",
    GOOD.replace("7.50,", '"",'): "SaleAmount: empty",
    GOOD.replace("P1", ""): "ProductKey: empty",
    GOOD.replace("P1", " "): "ProductKey: empty",
    GOOD.replace("7.50", "7.505"): "SaleAmount: not a decimal(12,2)",
    GOOD.replace("7.50", "7.500"): "SaleAmount: not a decimal(12,2)",
    GOOD.replace("7.50", "12345678901.00"): "SaleAmount: not a decimal(12,2)",
    GOOD.replace("7.50", '"$7.50"'): "SaleAmount: not a decimal(12,2)",
    GOOD.replace("7.50", "7.5e0"): "SaleAmount: not a decimal(12,2)",
    GOOD.replace("1/31/24", "2/30/24"): "OrderDate: not a date",
    GOOD.replace("1/31/24", "1/31/2024"): "OrderDate: not a date",
    GOOD.replace("1,1/31", "one,1/31"): "OrderID: not a bigint",
    GOOD.replace(",3,", ",3.5,"): "Quantity: not an int",
    GOOD.replace(",3,", ",2147483648,"): "Quantity: not an int",
    GOOD.replace("0.2500", "0.25%"): "ProfitMargin: not a decimal(9,4)",
    GOOD.replace("0.2500", '"0.2500'): "unbalanced quote",
    GOOD.replace("Ohio", '"Ohio'): "unbalanced quote",
    GOOD.replace("Ohio", '"Ohio" "'): "unbalanced quote",
    # Spark's own parser takes the quotes into the value, or drops the blank.
    GOOD.replace("Ohio", '","abc'): "misplaced quote",
    GOOD.replace("Ohio", '""abc'): "misplaced quote",
    GOOD.replace("Ohio", '""""abc'): "misplaced quote",
    GOOD.replace("Ohio", '"Ohio" '): "misplaced quote",
}


def write(folder, *lines, end="\n"):
    (folder / "lines.csv").write_bytes("".join(line + end for line in lines).encode())
    return str(folder)


def parsed(spark, folder, *lines, end="\n"):
    return parse_csv(
        spark.read.text(write(folder, *lines, end=end)), SALES, date_format="M/d/yy"
    )


def streamed(frame):
    """Run a stream over the files that are there, and return its rows."""
    query = (
        frame.writeStream.format("memory")
        .queryName("streamed")
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    return frame.sparkSession.table("streamed")


# --- good rows


@pytest.mark.slow
def test_a_good_line_gives_its_values_exactly(spark, folder):
    frame = parsed(spark, folder, GOOD)
    assert_df_equality(
        good_rows(frame), spark.createDataFrame([GOOD_ROW], SALES), ignore_nullable=True
    )
    assert frame.select("_reason", "_raw").collect() == [(None, GOOD)]


def test_line_ends_and_letters_of_other_systems(spark, folder):
    rows = good_rows(
        parsed(
            spark,
            folder,
            GOOD.replace("Ohio", "Zürich, 東京".join('""')),
            GOOD,
            end="\r\n",
        )
    )
    assert [(row.State, row.ProfitMargin) for row in rows.collect()] == [
        ("Zürich, 東京", Decimal("0.25")),
        ("Ohio", Decimal("0.25")),
    ]


@pytest.mark.slow
def test_a_column_may_be_empty_unless_the_schema_says_not_null(spark, folder):
    rows = parsed(
        spark, folder, ",,,,,7.50,,,,P1,,", '"","","","","","7.50","","","","P1","",""'
    )
    for row in rows.collect():
        assert row["_reason"] is None
        assert [value for value in row[:12] if value not in (None, "")] == [
            Decimal("7.50"),
            "P1",
        ]


READ = [
    ("TINYINT", " -128 ", -128),
    ("SMALLINT", "+7", 7),
    ("FLOAT", "1.5", 1.5),
    ("DOUBLE", "-1.5e3", -1500.0),
    ("DOUBLE", "-inf", float("-inf")),
    ("DOUBLE", "1e-400", 0.0),
    ("BOOLEAN", "true", True),
    ("DECIMAL(5,2)", "-.5", Decimal("-0.50")),
    ("DECIMAL(5,2)", "1.", Decimal(1)),
    ("DECIMAL(5,2)", " 1.50 ", Decimal("1.50")),
    ("DECIMAL(5,0)", "12345", Decimal(12345)),
    ("DATE", "2024-2-29", date(2024, 2, 29)),
    (
        "TIMESTAMP",
        "2024-02-29",
        datetime(2024, 2, 29),  # noqa: DTZ001 - as PySpark gives it
    ),
    (
        "TIMESTAMP",
        "2024-02-29T10:00:00.123456Z",
        datetime(2024, 2, 29, 10, 0, 0, 123456),  # noqa: DTZ001
    ),
    ("STRING", ' a "b" ', ' a "b" '),
]


@pytest.mark.slow
def test_each_type_is_read(spark):
    ddl = ", ".join(f"c{n} {kind}" for n, (kind, _, _) in enumerate(READ))
    line = ",".join(given for _, given, _ in READ)
    frame = parse_csv(spark.createDataFrame([(line,)], "value string"), from_ddl(ddl))
    assert frame.collect() == [
        (*[value for _, _, value in READ], None, line, None, None)
    ]


def test_another_separator_and_patterns(spark):
    frame = spark.createDataFrame(
        [("31.01.2024;31.01.2024 10:30;1,5",)], "`a line` string"
    )
    schema = from_ddl("d DATE, t TIMESTAMP, s STRING")
    good = good_rows(
        parse_csv(
            frame,
            schema,
            date_format="dd.MM.yyyy",
            timestamp_format="dd.MM.yyyy HH:mm",
            sep=";",
        )
    )
    expected = [(date(2024, 1, 31), datetime(2024, 1, 31, 10, 30), "1,5")]  # noqa: DTZ001
    assert_df_equality(good, spark.createDataFrame(expected, schema))


@pytest.mark.slow
def test_a_separator_of_any_characters(spark):
    """Spark's own parser gives `1` and two quotes more for the first."""
    for sep in ("e1", "||", "😀", ".*", "ab"):
        lines = spark.createDataFrame(
            [(f'1.5,{sep}1"x"',), (f'"a{sep}""b"{sep}c',)], "line STRING"
        )
        rows = parse_csv(lines, from_ddl("a STRING, b STRING"), sep=sep).collect()
        assert [row[:3] for row in rows] == [
            ("1.5,", '1"x"', None),
            (f'a{sep}"b', "c", None),
        ]


def test_separators_that_overlap_are_not_guessed(spark):
    reasons = {
        "a|||b": "a separator that could begin at two places",
        "a||||b": None,  # an empty value between two separators
        "x||b||c": None,
        "a|b||c||d": None,
        "a\ufffeb||c||d": "U+FFFE, which is no character",
        "||||": None,
        "a||b": "not 3 fields",
        " ": "not 3 fields",
    }
    lines = spark.createDataFrame([(line,) for line in reasons], "line STRING")
    rows = parse_csv(
        lines, from_ddl("a STRING, b STRING, c STRING"), sep="||"
    ).collect()
    assert {row["_raw"]: row["_reason"] for row in rows} == reasons
    assert [row[:3] for row in rows if row["_raw"] in ("a||||b", "a|b||c||d")] == [
        ("a", None, "b"),
        ("a|b", "c", "d"),
    ]


@pytest.mark.parametrize("sep", ["", '"', "a\n", "\\", "\\t", "|\ufffe"])
def test_a_separator_that_cannot_be_is_refused(spark, sep):
    with pytest.raises(
        InvalidInputError, match="give one character or more, but no quote, backslash"
    ):
        parse_csv(spark.range(1).selectExpr("'a' AS value"), from_ddl("a INT"), sep=sep)


@pytest.mark.slow
def test_of_the_digits_of_a_second_none_is_cut(spark):
    times = {
        "2024-01-31T10:30:00.123456789": None,
        "2024-01-31T10:30:00.1234561": None,
        "2024-01-31T10:30:00.123456000": 123456,
        "2024-01-31T10:30:00.1234560": 123456,
        "2024-01-31T10:30:00.12": 120000,
    }
    lines = spark.createDataFrame([(line,) for line in times], "line STRING")
    as_json = spark.createDataFrame(
        [(f'{{"t":"{line}"}}',) for line in times], "line STRING"
    )
    for pattern in (
        "yyyy-MM-dd'T'HH:mm:ss.SSSSSSSSS",
        "yyyy-MM-dd'T'HH[:mm][:ss][.SSSSSSSSS]",
    ):
        for frame in (
            parse_csv(lines, from_ddl("t TIMESTAMP"), timestamp_format=pattern),
            parse_json(as_json, from_ddl("t TIMESTAMP"), timestamp_format=pattern),
        ):
            found = [
                (row.t and row.t.microsecond, row["_reason"]) for row in frame.collect()
            ]
            assert found == [
                (value, None if value else "t: not a timestamp")
                for value in times.values()
            ]
    quoted = spark.createDataFrame([("SSSSSSSS 2024-01-31",)], "line STRING")
    (row,) = parse_csv(
        quoted, from_ddl("d DATE"), date_format="'SSSSSSSS' yyyy-MM-dd"
    ).collect()
    assert row.d == date(2024, 1, 31)


# --- bad rows


@pytest.mark.parametrize("ansi", ["true", "false"])
def test_a_bad_line_is_kept_with_its_reason(spark, folder, ansi):
    with in_force(spark, {"spark.sql.ansi.enabled": ansi}):
        rows = parsed(spark, folder, *BAD, GOOD).drop("_bytes", "_file").collect()
    assert rows == [
        *[(*[None] * 12, reason, line) for line, reason in BAD.items()],
        (*GOOD_ROW, None, GOOD),
    ]


@pytest.mark.parametrize("sep", [",", "ab"])
def test_quotes_are_read_as_python_reads_them_in_every_short_line(spark, sep):
    expected: dict[str, list[str] | str] = {}
    for line in (
        "".join(chars) for size in range(1, 8) for chars in product('",x', repeat=size)
    ):
        try:
            (values,) = csv.reader([line], strict=True)
        except csv.Error:
            values = []
        wrong = (
            "unbalanced quote"
            if line.count('"') % 2
            else ""
            if values
            else "misplaced quote"
        )
        wrong = wrong or ("" if len(values) == 3 else "not 3 fields")
        expected[line.replace(",", sep)] = wrong or [
            value.replace(",", sep) for value in values
        ]
    lines = spark.createDataFrame([(line,) for line in expected], "line STRING")
    rows = parse_csv(lines, from_ddl("a STRING, b STRING, c STRING"), sep=sep).collect()
    assert {
        row["_raw"]: row["_reason"] or [value or "" for value in row[:3]]
        for row in rows
    } == expected


NOT_READ = {
    "TINYINT": ["128", "x"],
    "SMALLINT": ["32768", "1.0"],
    "INT": ["1_000", "1L", " ", "1e2"],
    "BIGINT": ["9223372036854775808", "0x1"],
    # 1f, 1d and 0x1p3 are Java's notation, which a cast takes; it makes infinite what
    # is too big.
    "FLOAT": ['"1,5"', "1f", "1e39"],
    "DOUBLE": ["many", "1d", "0x1p3", "1e400"],
    "BOOLEAN": ["maybe", "2"],
    "DECIMAL(5,0)": ["1.0", ".5", "."],  # a cast makes .5 a 1
    "DECIMAL(5,2)": [".", ".555", "1000", "1e1", "1E-9", "1.505 "],
    # A cast drops a time, and makes a time alone today; the last is no date of
    # Python's.
    "DATE": [
        "2023-02-29",
        "2024-01-31 10:00",
        "12:30",
        "2024-1",
        "+12024-01-01",
        "0000-01-01",
    ],
    "TIMESTAMP": [
        "0000-12-31 23:59:59",
        "2024-01-31 25:00:00",
        "12:30",
        "2024",
        "now",
        "2024-01-31 10:00:00.1234567",
        "2024-01-31 10:00:00.1234560",
    ],
}


@pytest.mark.slow
def test_a_value_that_does_not_parse_is_bad_also_where_the_query_does_not_use_it(
    spark, folder
):
    schema = from_ddl(
        ", ".join(f"c{n} {kind}" for n, kind in enumerate(NOT_READ)) + ", used INT"
    )
    expected = {
        "," * n
        + value
        + "," * (len(NOT_READ) - n)
        + "1": f"c{n}: not {'an' if kind == 'INT' else 'a'} {kind.lower()}"
        for n, (kind, values) in enumerate(NOT_READ.items())
        for value in values
    }
    frame = parse_csv(spark.read.text(write(folder, *expected)), schema)
    assert {
        row["_raw"]: row["_reason"] for row in bad_rows(frame).collect()
    } == expected
    assert good_rows(frame).select("used").collect() == []


# Lines that most readers of text refuse, and the reason that they have as CSV and as
# JSON.
NO_TEXT = {
    b'{"a":"Z\xfcrich"}': ("not valid UTF-8",) * 2,
    # Replaced, it is the same as that before
    b'{"a":"Zu\x88rich"}': ("not valid UTF-8",) * 2,
    b'\xff\xfe{\x00"\x00a\x00"\x00:\x001\x00}\x00': ("not valid UTF-8",) * 2,  # UTF-16
    b'{"a":"\xed\xa0\x80"}': ("not valid UTF-8",) * 2,  # half of a surrogate pair
    b'{"a":"x\x00y"}': ("a NUL character", "not valid JSON, or a field twice"),
}


@pytest.mark.fast("1-parse_json")
@pytest.mark.parametrize(("kind", "parse"), [(0, parse_csv), (1, parse_json)])
def test_every_reader_reads_every_bad_line_exactly(
    spark, folder, tmp_path, kind, parse
):
    (folder / "lines.txt").write_bytes(b"\n".join([*NO_TEXT, "{Zürich".encode()]))
    frame = parse(text(spark, str(folder)), from_ddl("a STRING NOT NULL, b STRING"))
    out, database = tmp_path / "out", f"sqlite:///{tmp_path}/bad.db"
    sink = sinks.fan_out(sinks.batch_files(out), sinks.sql_table(database, "bad"))
    run(
        start(
            bad_rows(frame),
            sink,
            name="bad",
            checkpoint=tmp_path / "ckpt",
            availableNow=True,
        )
    )

    (file,) = out.glob("batch=*/*.parquet")
    table = pq.read_table(file, partitioning=None)
    table.validate(full=True)
    in_sql = sql(database, "SELECT _reason, _raw, _bytes, _file FROM bad")
    for rows in ([tuple(row.values()) for row in table.to_pylist()], in_sql):
        assert {bytes(row[2] or row[1].encode()): row[0] for row in rows} == {
            **{line: reasons[kind] for line, reasons in NO_TEXT.items()},
            "{Zürich".encode(): ("not 2 fields", "not valid JSON, or a field twice")[
                kind
            ],
        }
        assert {row[3] for row in rows} == {f"{folder}/lines.txt"}
        assert all("\ufffd" in row[1] and "\0" not in row[1] for row in rows if row[2])


# --- what stands beside the line


@pytest.mark.slow
def test_lines_may_bring_the_place_that_they_are_from(spark):
    places = [("1", "kafka:sales/0/5"), ("x", "kafka:sales/0/6")]
    rows = parse_csv(
        spark.createDataFrame(places, "value STRING, _file STRING"), from_ddl("n INT")
    )
    assert [row.asDict() for row in good_rows(rows).collect()] == [{"n": 1}]
    assert [(row["_raw"], row["_file"]) for row in bad_rows(rows).collect()] == [
        ("x", "kafka:sales/0/6")
    ]
    other = spark.createDataFrame(places, "value STRING, _raw STRING")
    assert "column _raw: the name is taken by the kit" in refusal(
        parse_csv, other, from_ddl("n INT")
    )
    record = spark.createDataFrame(
        [("5", "7", "sales")], "key STRING, value STRING, topic STRING"
    )
    assert good_rows(parse_csv(record, from_ddl("n INT"))).collect() == [
        (7, "5", "sales")
    ]
    # Kafka's own
    record = spark.createDataFrame(
        [(b"5", b"7"), (b"6", b"x")], "key BINARY, value BINARY"
    )
    rows = parse_csv(record, from_ddl("n INT"))
    assert good_rows(rows).collect() == [(7, b"5")]
    assert [row["_raw"] for row in bad_rows(rows).collect()] == ["x"]


def test_a_pattern_of_python_is_refused(spark):
    said = refusal(
        parse_csv, spark.range(1), from_ddl("t DATE"), date_format="%Y-%m-%d"
    )
    assert (
        said
        == "date_format is '%Y-%m-%d'; write it as Spark does: 'yyyy-MM-dd HH:mm:ss'"
    )


def test_a_pattern_that_the_session_reads_as_spark_2_is_refused(spark):
    """There 31.01.2026 x is a day, and .1 a thousandth of a second."""
    lines = spark.createDataFrame([("31.01.2026 x",)], "value STRING")
    with in_force(spark, {"spark.sql.legacy.timeParserPolicy": "LEGACY"}):
        for parse in (parse_csv, parse_json):
            said = refusal(parse, lines, "t DATE", date_format="dd.MM.yyyy")
            assert said.startswith("the pattern 'dd.MM.yyyy': the session's spark.sql.")
            parse(lines, "t STRING", date_format="dd.MM.yyyy")
        assert "parse_log(): the session's spark.sql." in refusal(parse_log, lines)
        assert good_rows(parse_csv(lines, "t DATE")).collect() == []
    rows = parse_csv(lines, "t DATE", date_format="dd.MM.yyyy")
    assert good_rows(rows).collect() == []


@pytest.mark.slow
def test_a_row_says_its_file(spark, folder):
    names = ["a b+c%20[7].csv", "ü#1.csv"]
    for name in names:
        (folder / name).write_text(f"{GOOD}\njunk\n")
    for frame in (
        spark.read.text(str(folder)),
        text(spark, str(folder), max_files_per_trigger=1),
    ):
        # Before 4.2 Spark knows the file of lines only where nothing was done to them.
        both = parse_csv(
            frame if spark.version < "4.2" else frame.where("true"),
            SALES,
            date_format="M/d/yy",
        )
        rows = (
            (streamed(both) if both.isStreaming else both)
            .orderBy("_file", "_raw")
            .collect()
        )
        found = [(row["_file"], row["_raw"]) for row in rows]
        assert found == [
            (f"{folder}/{name}", line) for name in names for line in (GOOD, "junk")
        ]


@pytest.mark.slow
def test_the_other_columns_are_kept(spark):
    """As those of Kafka; the time keeps its watermark."""
    lines = (
        spark.readStream.format("rate")
        .load()
        .selectExpr("'1' AS value", "timestamp AS `a.b`", "value AS v0")
    )
    frame = parse_csv(lines.withWatermark("`a.b`", "1 minute"), from_ddl("n INT"))
    assert frame.columns == ["n", "_reason", "_raw", "_bytes", "_file", "a.b", "v0"]
    assert good_rows(frame).columns == ["n", "a.b", "v0"]
    assert bad_rows(frame).columns == [
        "_reason",
        "_raw",
        "_bytes",
        "_file",
        "a.b",
        "v0",
    ]
    assert good_rows(frame).schema["a.b"].metadata == {"spark.watermarkDelayMs": 60_000}

    static = spark.createDataFrame([("1", 7), ("x", 8)], "value STRING, `a.b` INT")
    assert good_rows(parse_csv(static, from_ddl("n INT"))).collect() == [(1, 7)]
    as_json = spark.createDataFrame(
        [('{"n":1}', 7), ("x", 8)], "value STRING, `a.b` INT"
    )
    rows = parse_json(as_json, from_ddl("n INT"))
    assert (good_rows(rows).collect(), bad_rows(rows).collect()[0][-1]) == ([(1, 7)], 8)


@pytest.mark.parametrize("parse", [parse_csv, parse_json])
@pytest.mark.parametrize(
    ("names", "schema", "message"),
    [
        ("value STRING, _FILE INT", "n INT", "_FILE: the name is taken"),
        ("value STRING, N INT", "n INT", "N: two columns have this name"),
        ("value STRING, x INT, X INT", "n INT", "X: two columns have this name"),
        ("value STRING", "n INT, m INT, n INT", "n: two columns have this name"),
        ("value STRING", "n INT, N STRING", "N: two columns have this name"),
    ],
)
def test_two_columns_of_one_name_are_refused(spark, parse, names, schema, message):
    lines = spark.createDataFrame([("1", 1, 1)[: names.count(",") + 1]], names)
    assert message in refusal(parse, lines, from_ddl(schema))


@pytest.mark.slow
def test_names_that_differ_in_case_are_two_where_spark_tells_them_apart(spark):
    with in_force(spark, {"spark.sql.caseSensitive": "true"}):
        as_json = spark.createDataFrame(
            [('{"a": 1, "A": 2, "s": {"b": 3, "B": 4}}',)], "value STRING"
        )
        rows = parse_json(as_json, "a INT, A INT, s STRUCT<b: INT, B: INT>")
        assert good_rows(rows).collect() == [(1, 2, (3, 4))]
        lines = spark.createDataFrame([("a,A",), ("1,2",), ("A,a",)], "value STRING")
        rows = parse_csv(lines, "a INT, A INT", header=True)
        assert good_rows(rows).collect() == [(1, 2)]
        assert bad_rows(rows).select("_raw").collect() == [("A,a",)]
        assert "_RAW: the name is taken" in refusal(parse_csv, lines, "_RAW INT")


# --- headers


HEADER = ",".join(SALES.names)


@pytest.mark.slow
def test_a_header_is_counted_and_is_no_row(spark, folder):
    for number, header in enumerate(["shop,amount", "SHOP,AMOUNT", '"shop","amount"']):
        (folder / f"{number}.csv").write_text(f"{header}\nnorth,1\njunk\n")
    (folder / "none.csv").write_text("north,1\n")
    frame = parse_csv(
        text(spark, str(folder)), from_ddl("shop STRING, amount INT"), header=True
    )
    (query,) = run(start(frame, sinks.memory("headed"), availableNow=True)).queries
    rows = spark.table("headed").selectExpr("_raw", "_reason IS NULL").collect()
    assert sorted(rows) == [("junk", False)] * 3 + [("north,1", True)] * 4
    assert (query.input_rows, query.parsed_rows, query.bad_rows, query.header_rows) == (
        10,
        7,
        3,
        3,
    )
    assert query.files_without_header == 1
    assert ", 3 header lines, 3 bad rows, " in str(query)
    assert "_header" not in frame.columns


OTHER, WORD = HEADER.replace("OrderID", "Order number"), GOOD.replace(",3,", ",three,")
UNHEADED = [(SALES, [HEADER, GOOD, OTHER, WORD, "junk"], 4, 2)] + [
    (f"shop STRING, town {kind}", ['Shop,"town"', "shop,1", "town,2", "junk"], 2, 1)
    for kind in ("STRING", "INT")
]


@pytest.mark.fast("shop STRING, town INT-lines2-2-1")
@pytest.mark.parametrize(("schema", "lines", "bad", "like"), UNHEADED)
def test_without_header_it_is_a_bad_row_that_looks_like_one(
    spark, folder, schema, lines, bad, like
):
    write(folder, *lines)
    frame = parse_csv(text(spark, str(folder)), schema, date_format="M/d/yy")
    assert counted(frame, "unheaded") == [(len(lines), bad, 0, like)]
    assert spark.table("unheaded").count() == len(lines)


NOT, BELOW, LIKE = (
    "not the header of the schema",
    "its file has another header",
    "like a header",
)
PEOPLE, PRICES = (
    "id INT, name STRING, city STRING",
    "product STRING, price DECIMAL(9,2)",
)
WORDS = "word STRING, class STRING, note STRING"
# The schema, the text of a file, its good rows, and its bad lines with their reasons.
HEADED: dict[str, Any] = {
    "an index of pandas": (
        PEOPLE,
        ",name,city\n0,ann,rome\n",
        [(0, "ann", "rome")],
        {},
    ),
    "an index of R": ("`_c0` INT, a DOUBLE", '"","a"\n"1",2.5\n', [(1, 2.5)], {}),
    "blanks around names": ("`a ` INT, `  b` INT", "a ,  b\n1,2\n", [(1, 2)], {}),
    "a name twice": ("a0 INT, A1 INT, b INT", "a,A,b\n1,2,3\n", [(1, 2, 3)], {}),
    "no name at all": ("a STRING, b STRING", ",\nx,y\n", [], {",": NOT, "x,y": BELOW}),
    "a byte order mark": (
        PRICES,
        "\ufeffproduct,price\r\ntea,1\r\n",
        [("tea", Decimal(1))],
        {},
    ),
    "blank lines first": (
        "a STRING",
        "\n  \na\nx\n",
        [("x",)],
        {"": "not 1 field", "  ": "not 1 field"},
    ),
    "one column": ("a STRING", "A\nx\na\n", [("x",)], {"a": LIKE}),
    "nothing but a header": (PEOPLE, "id,name,city", [], {}),
    "an empty file": (PEOPLE, "", [], {}),
    "a year for a name": (
        "y2020 INT, name STRING, city STRING",
        "2020,city,name\n1,x,y\n",
        [],
        {"2020,city,name": NOT, "1,x,y": BELOW},
    ),
    "other names": (
        "id STRING, name STRING",
        "Nr,Vorname\n1,x\n",
        [],
        {"Nr,Vorname": NOT, "1,x": BELOW},
    ),
    "another order": (
        "id STRING, name STRING",
        "name,id\nx,1\n",
        [],
        {"name,id": NOT, "x,1": BELOW},
    ),
    "Excel": (
        PRICES,
        "product;price\r\ntea;2,5\r\nink;1,0\r\n",
        [],
        {"product;price": f"{NOT}; give sep=';'", "tea;2,5": BELOW, "ink;1,0": BELOW},
    ),
    "Excel without a header": (
        PRICES,
        "tea;2,5\nink;1,0\n",
        [],
        {"tea;2,5": f"{NOT}; give sep=';'", "ink;1,0": BELOW},
    ),
    "no header": (
        PEOPLE,
        "0,ann,rome\n1,x\n",
        [(0, "ann", "rome")],
        {"1,x": "not 3 fields"},
    ),
    "rows with names": (
        WORDS,
        "word,class,note\nnote,word,z\nnote,y,z\nword,class,note\n",
        [("note", "y", "z")],
        {"note,word,z": LIKE, "word,class,note": LIKE},
    ),
}


@pytest.mark.connect
@pytest.mark.fast("Excel", "Excel without a header")
@pytest.mark.parametrize("case", HEADED)
def test_a_header_is_the_first_line_of_its_file(spark, folder, case):
    schema, content, good, bad = HEADED[case]
    for number in range(3):  # several files in one task
        (folder / f"{number}.csv").write_text(content)
    rows = parse_csv(spark.read.text(str(folder)), schema, header=True).collect()
    values = [tuple(row)[:-4] for row in rows if row["_reason"] is None]
    assert values == good * 3
    assert [(row["_raw"], row["_reason"]) for row in rows if row["_reason"]] == [
        *bad.items()
    ] * 3


@pytest.mark.slow
@pytest.mark.connect
def test_the_summary_says_how_many_files_had_no_header(spark, folder):
    texts = "k,n\na,1\n", "a,2\n", "n,k\n3,a\n", "k,n\n", ""
    for number, content in enumerate(texts):
        (folder / f"{number}.csv").write_text(content)
    lines = text(spark, str(folder), max_files_per_trigger=2)
    frame = parse_csv(lines, "k STRING, n INT", header=True)
    summary = run(
        start(
            good_rows(frame),
            sinks.memory("headless"),
            name="headless",
            availableNow=True,
        )
    )
    [query] = summary.queries
    assert sorted(spark.table("headless").collect()) == [("a", 1), ("a", 2)]
    assert (query.header_rows, query.files_without_header, query.bad_rows) == (2, 2, 2)
    assert (
        "hint: header=True, but 2 of 4 files of query headless had no header of the"
        " schema; " in str(summary)
    )


@pytest.mark.slow
def test_a_filter_behind_the_parse_does_not_hide_the_header_from_it(spark, folder):
    write(folder, "k,n", "a,1", "b,2")
    rows = parse_csv(spark.read.text(str(folder)), "k STRING, n INT", header=True)
    assert rows.where("n = 2").select("k", "_reason").collect() == [("b", None)]
    assert good_rows(rows).where("k = 'a'").collect() == [("a", 1)]


PARTS = "n INT, s STRING", [f"{number},a" for number in range(3000)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("header", "rows"), [("n,s", 3000), ("0,first", 3001), ("m,s", None)]
)
def test_a_file_in_several_parts_has_one_header(spark, folder, header, rows):
    schema, lines = PARTS
    write(folder, header, *lines)
    with in_force(spark, {"spark.sql.files.maxPartitionBytes": "4k"}):
        frame = parse_csv(text(spark, str(folder)), schema, header=True)
        query = start(frame, sinks.memory("parts"), name="parts", availableNow=True)
        if rows:
            run(query)
            assert spark.table("parts").where("_reason IS NULL").count() == rows
            return
        said = failure(run, query)
    assert (
        f"the header of {folder}/lines.csv does not have the columns of the schema,"
        " n, s" in said
    )
    assert "in this order; it is m,s; Spark reads this large file in parts" in said


@pytest.mark.slow
def test_lines_in_another_order_have_no_known_header(spark, folder):
    write(folder, "k,n", "a,1")
    lines = spark.read.text(str(folder))
    kept = (
        lines.coalesce(1),
        lines.where("value <> ''").withColumn("day", F.lit(1)),
        lines.alias("l"),
    )
    for frame in kept:
        assert parse_csv(frame, "k STRING, n INT", header=True).select(
            "k", "n"
        ).collect() == [("a", 1)]
    mixed = {
        "Repartition": lines.repartition(2),
        "Union": lines.union(lines),
        "Join": lines.join(spark.range(1)),
        "Sort": lines.sort("value"),
        "Deduplicate": lines.dropDuplicates(),
    }
    for step, frame in mixed.items():
        said = refusal(parse_csv, frame, "k STRING, n INT", header=True)
        assert (
            f"after another step ({step}) it is not known; parse the lines of"
            " sources.text first" in said
        )
        assert parse_csv(frame, "k STRING, n INT").columns[:2] == ["k", "n"]


def test_lines_of_no_file_are_headers_by_their_names_and_none_stops_the_query(spark):
    lines = spark.createDataFrame(
        [("K,n",), ("a,1",), ("n,k",), ("k,n",)], "value STRING"
    )
    rows = parse_csv(lines, "k STRING, n STRING", header=True).collect()
    assert [(row["k"], row["_reason"]) for row in rows] == [("a", None), (None, LIKE)]


@pytest.mark.slow
def test_a_null_line_is_bad(spark):
    frame = parse_csv(spark.createDataFrame([(None,)], "value string"), SALES)
    assert bad_rows(frame).collect() == [("not 12 fields", None, None, None)]


# --- what Spark's progress says


def counted(frame, name, mode="append"):
    """Run a query; return what each parse counted in each batch.

    The counts are those of rows, bad rows, headers, and bad rows like headers.
    """
    query = start(frame, sinks.memory(name), mode=mode, availableNow=True)
    query.awaitTermination()
    observed = [each.observedMetrics for each in query.recentProgress]
    assert all(
        kind.startswith("sparkstream_quarantine")
        for metrics in observed
        for kind in metrics
    )
    return [tuple(row) for metrics in observed for row in metrics.values()]


@pytest.mark.slow
def test_progress_counts_rows_and_bad_rows_whatever_is_selected(spark, folder):
    write(folder, GOOD, "junk", "", GOOD)
    frame = parse_csv(text(spark, str(folder)), SALES, date_format="M/d/yy")
    assert counted(
        good_rows(frame).groupBy("Quantity").count(), "some", "complete"
    ) == [(4, 2, 0, 0)]
    frames = [
        parse_csv(text(spark, str(folder)), SALES, date_format="M/d/yy")
        for _ in range(2)
    ]
    both = good_rows(frames[0]).union(good_rows(frames[1]))
    # Two parses in one query are counted each
    assert counted(both, "both") == [(4, 2, 0, 0)] * 2


@pytest.mark.slow
def test_a_rule_of_ones_own_makes_rows_bad_and_counts_them(spark, folder):
    (folder / "1.csv").write_text("a,1\nb,-1\nc,x\nd,-2\n")
    rows = parse_csv(text(spark, str(folder)), from_ddl("k STRING, n INT"))
    marked = mark_bad(rows, F.when(F.col("n") < 0, "n: below 0"))
    assert marked.columns == rows.columns
    summary = run(start(marked, sinks.memory("marked"), availableNow=True))
    found = spark.table("marked")
    assert [tuple(row) for row in good_rows(found).collect()] == [("a", 1)]
    assert [
        (row["_reason"], row["_raw"]) for row in bad_rows(found).sort("_raw").collect()
    ] == [
        ("n: below 0", "b,-1"),
        ("n: not an int", "c,x"),
        ("n: below 0", "d,-2"),
    ]
    assert (summary.queries[0].parsed_rows, summary.queries[0].bad_rows) == (4, 3)


def test_a_reason_is_a_text(spark):
    rows = spark.sql("SELECT 1 AS n, '' AS _reason")
    said = (
        "mark_bad(): reason is boolean; give a text: F.when(F.col('price') < 0, 'price:"
        " below 0')"
    )
    assert refusal(mark_bad, rows, F.col("n") < 0) == said
    assert mark_bad(rows, F.lit(None)).columns == rows.columns


@pytest.mark.parametrize(
    "call", [good_rows, bad_rows, lambda rows: mark_bad(rows, F.lit(""))]
)
def test_rows_without_a_reason_are_refused_by_what_needs_one(spark, call):
    assert "(): no column _reason; give what a parse" in refusal(call, spark.range(1))


# --- what cannot be asked for


@pytest.mark.parametrize(
    "ddl", ["s STRUCT<a: INT, A: INT>", "s ARRAY<STRUCT<a: INT, A: INT>>"]
)
def test_a_field_that_is_there_twice_is_refused(spark, ddl):
    lines = spark.createDataFrame([("{}",)], "value STRING")
    said = "column s: its field a appears twice; rename or drop one"
    assert refusal(parse_json, lines, from_ddl(ddl)) == said


def test_a_blank_line_and_a_line_of_a_longer_json_say_so(spark):
    part = "a part of JSON over several lines"
    reasons = {
        "": "a blank line",
        " ": "a blank line",
        "[": part,
        '{"a": 1},': part,
        "}": part,
        "{": part,
    }
    lines = spark.createDataFrame([(line,) for line in reasons], "value STRING")
    rows = parse_json(lines, "a INT").select("_raw", "_reason").collect()
    assert {row["_raw"]: row["_reason"] for row in rows} == reasons


def test_a_line_that_splits_at_another_separator_says_so(spark):
    reasons = {
        "a;1": "not 2 fields; give sep=';'",
        "a\t1": r"not 2 fields; give sep='\t'",
        "a": "not 2 fields",
    }
    lines = spark.createDataFrame([(line,) for line in reasons], "value STRING")
    rows = parse_csv(lines, "k STRING, n INT").select("_raw", "_reason").collect()
    assert {row["_raw"]: row["_reason"] for row in rows} == reasons


@pytest.mark.parametrize(
    ("ddl", "message"),
    [
        (
            "a INT, b ARRAY<INT>",
            "column b: CSV cannot hold array<int>; read it as a string",
        ),
        ("a BINARY", "column a: CSV cannot hold binary; read it as a string"),
        ("_raw STRING", "column _raw: the name is taken by the kit; rename the column"),
        (
            "_Bytes STRING",
            "column _Bytes: the name is taken by the kit; rename the column",
        ),
        (
            "_reason STRING",
            "column _reason: the name is taken by the kit; rename the column",
        ),
    ],
)
def test_a_schema_that_cannot_be_is_refused(spark, ddl, message):
    assert message in refusal(
        parse_csv, spark.range(1).selectExpr("'a' AS value"), from_ddl(ddl)
    )


@pytest.mark.parametrize("parse", [parse_csv, parse_json])
def test_an_error_behind_a_parse_does_not_show_pages_of_its_plan(spark, parse):
    lines = spark.createDataFrame([("1",)], "value STRING")
    parsed = parse(
        lines, ", ".join(f"c{n} {['INT', 'DATE', 'STRING'][n % 3]}" for n in range(12))
    )
    for call in (lambda: parsed.select("tpyo"), lambda: parsed.groupBy("tpyo").count()):
        with pytest.raises(AnalysisException, match="UNRESOLVED_COLUMN") as caught:
            _ = call().schema
        assert len(str(caught.value)) < 3500, str(caught.value)
        assert str(caught.value).count("\n") < 20


def test_a_failure_behind_a_parse_does_not_show_pages_of_its_plan(spark, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("1,2024-01-01\n")
    rows = parse_csv(text(spark, tmp_path / "in"), "c0 INT, c1 DATE")
    query = (
        rows.select(F.expr("1 / (c0 - 1)"))
        .writeStream.format("noop")
        .trigger(availableNow=True)
        .start()
    )
    with pytest.raises(StreamingQueryException, match="DIVIDE_BY_ZERO") as caught:
        query.awaitTermination()
    assert len(str(caught.value)) < 3500, str(caught.value)


def test_a_quote_that_is_open_at_the_end_is_seen_whatever_the_number_of_quotes(spark):
    """Spark's own parser takes the rest of the line for its value, and says nothing."""
    lines = spark.createDataFrame(
        [('1"#,1,"',), ('1"#,1,"x',), ('1"#,"x',), ('1"",1,"x"',)], "line STRING"
    )
    rows = parse_csv(lines, from_ddl("a STRING, b INT, c STRING")).collect()
    assert [row["_reason"] for row in rows] == ["misplaced quote"] * 3 + [None]
    assert rows[3][:3] == ('1""', 1, "x")


@pytest.mark.slow
def test_a_schema_is_taken_as_ddl_as_the_sources_take_it(spark, tmp_path):
    lines = spark.createDataFrame([("1",)], "value STRING")
    ddl = "a INT NOT NULL"
    assert parse_csv(lines, ddl).collect() == parse_csv(lines, from_ddl(ddl)).collect()
    assert parse_json(lines, ddl).columns == parse_json(lines, from_ddl(ddl)).columns
    (tmp_path / "7.avsc").write_text(
        '{"type": "record", "name": "r", "fields": [{"name": "a", "type": "int"}]}'
    )
    records = lines.select(F.col("value").cast("binary"))
    assert parse_avro(records, ddl, schemas=tmp_path).columns[0] == "a"
    for parse in (
        parse_csv,
        parse_json,
        lambda *given: parse_avro(*given, schemas=tmp_path),
    ):
        with pytest.raises(InvalidInputError, match="^cannot read DDL 'a INTT'"):
            parse(records if parse not in (parse_csv, parse_json) else lines, "a INTT")


def mixed(seed, count):
    """Return good and bad lines at random, and how many are bad."""
    chance = random.Random(seed)  # noqa: S311 - a seeded mix, not a secret
    lines = [
        chance.choice([GOOD, *BAD]) if chance.random() < 0.5 else GOOD
        for _ in range(count)
    ]
    return lines, sum(line != GOOD for line in lines)


@pytest.mark.fast("2")
@pytest.mark.parametrize("seed", [1, 2])
def test_good_rows_and_bad_rows_are_all_lines_whatever_is_selected(spark, folder, seed):
    lines, bad = mixed(seed, 500)
    frame = parsed(spark, folder, *lines)
    good = len(lines) - bad
    assert (good_rows(frame).count(), bad_rows(frame).count()) == (good, bad)
    for column in ("CustomerName", "Quantity"):
        assert len(good_rows(frame).select(column).collect()) == good
    assert sorted(row[0] for row in frame.select("_raw").collect()) == sorted(lines)


@pytest.mark.slow
def test_no_good_row_has_bytes_that_are_no_text(spark):
    """Wherever they stand in the line; on Spark before 4.2 half of a surrogate pair is `?`."""
    lines = [
        *(
            b'{"a":{"k\xff":"1"}}',
            b'{"a":{"k":"\xc3"}}',
            b'{"\xff":1}',
            b'{"a":{"k":["\xf0\x9f"]}}',
        ),
        *(rb'{"a":{"\ud800":"1"}}', rb'{"a":{"k":"\udfff\ud83d"}}'),
    ]
    frame = spark.createDataFrame(
        [(line,) for line in lines], "line BINARY"
    ).selectExpr("CAST(line AS STRING)")
    for ddl in ("a MAP<STRING, STRING>", "a VARIANT", "a STRUCT<k: STRING>", "b INT"):
        for row in (
            good_rows(parse_json(frame, from_ddl(ddl)))
            .selectExpr("to_json(struct(*))")
            .collect()
        ):
            assert "\ufffd" not in row[0]  # and PySpark could read it
    assert (
        good_rows(parse_csv(frame, from_ddl("a STRING, b STRING"), sep=":")).count()
        == 0
    )
