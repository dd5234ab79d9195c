"""What a sink writes is what it was given, for any reader; or it refuses.

It refuses at the start or in the batch.
"""

import ast
import csv
import io
import json
import re
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import ROOT, refusal
from hypothesis import HealthCheck, given, settings
from pyspark.errors import PySparkException
from pyspark.sql import functions as F
from support import rows
from support.rows import Column, Table
from support.sink_streams import finish

from sparkstream_kit import feeds, sinks, sources, start
from sparkstream_kit._internal.spark.place import locate
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.errors import InvalidInputError, QueryFailed
from sparkstream_kit.sinks import formats
from sparkstream_kit.sinks.base import Opening, open_batch_sink, open_sink

STRING, INT = rows.STRING, rows.INT
# No text of the rows: with it Spark's reader of CSV tells NULL from an empty text
NULL = "\x01NULL"
# The kinds that each format can hold. ORC moves some days and times, of which rows
# below have a case each. A byte order mark is lost at the beginning of a file, so it
# stops the batch in the first column.
TEXTS = rows.texts_of([text for text in rows.TEXTS if not text.startswith("\ufeff")])
_LATE = [moment for moment in rows.TIMESTAMP.corners if moment.year not in (1582, 1969)]
LATER = replace(rows.TIMESTAMP, corners=tuple(_LATE))
DATES = replace(
    rows.DATE, corners=tuple(day for day in rows.DATE.corners if day.year != 1582)
)
STRUCT = rows.struct_of(a=rows.INT, b=rows.STRING)
PLAIN = [kind for kind in rows.FLAT if kind is not rows.VARIANT]
HELD = {
    "csv": [kind for kind in PLAIN if kind is not rows.BINARY],
    "json": [*PLAIN, *rows.NESTED],
    "parquet": [*PLAIN, rows.VARIANT, *rows.NESTED, *rows.ODD_MAPS],
    "orc": [
        *[kind for kind in PLAIN if kind not in (rows.DATE, rows.TIMESTAMP)],
        *[DATES, LATER, rows.array_of(STRING), rows.map_of(rows.INT, STRING), STRUCT],
        *[rows.array_of(DATES), rows.map_of(STRING, LATER)],
    ],
}


@pytest.fixture
def one_row(spark, folder):
    """A stream of one row, over which a table of `rows` becomes a stream."""
    feeds.drip([("1.txt", "x\n")], folder)
    return sources.text(spark, str(folder))


def written(table, frame, path, file_format, **options):
    """Write a frame as the sinks of files do, and return it as Spark reads it back."""
    spark = frame.sparkSession
    form = formats.of(sinks.files, file_format, options, path)
    form.check("files", frame)
    guarded = form.guarded("files", frame)
    guarded.coalesce(1).write.format(form.kind).options(**form.options).mode(
        "overwrite"
    ).save(str(path))
    return read_back(spark, table, path, form)


def read_back(spark, table, path, form):
    reader = spark.read.options(**form.reading).schema(table.ddl).format(form.kind)
    if form.kind == "csv":
        reader = reader.option("multiLine", True)
        is_given = "nullvalue" in map(str.lower, form.given)
        reader = reader if is_given else reader.option("nullValue", NULL)
    return reader.load(str(path))


@contextmanager
def expected_word():
    """Let a sink refuse what it is given, in one line with the fix, and let nothing else pass."""
    try:
        yield
    except (InvalidInputError, PySparkException) as said:
        line = r"(USER_RAISED_EXCEPTION\] )?files: (column|partition_by) .*; "
        if not re.search(line, str(said)):
            raise


def lines_of(path):
    """Return the text of the one file of a folder."""
    [file] = [each for each in path.iterdir() if each.name.startswith("part-")]
    return file.read_bytes().decode()


def as_python_reads(path, file_format, columns):
    """Return the texts of STRING columns as a reader without Spark finds them."""
    if file_format == "parquet":
        found = pq.read_table(path, columns=columns).to_pylist()
        return [tuple(row[name] for name in columns) for row in found]
    if file_format == "json":
        objects = [json.loads(line) for line in lines_of(path).split("\n") if line]
        return [tuple(each[name] for name in columns) for each in objects]
    return [tuple(row) for row in csv.reader(io.StringIO(lines_of(path), newline=""))]


@pytest.mark.fast("csv")
@pytest.mark.parametrize("file_format", HELD)
def test_each_type_that_a_format_can_hold_comes_back_as_it_was(
    spark, tmp_path, file_format
):
    table = rows.wide(HELD[file_format])
    frame = table.frame(spark)
    assert table.told(
        written(table, frame, tmp_path / "out", file_format)
    ) == table.told(frame)


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", pytest.param("America/New_York", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "file_format", ["csv", pytest.param("json", marks=pytest.mark.slow)]
)
def test_an_hour_that_comes_twice_and_old_offsets_come_back(
    spark, tmp_path, file_format, zone
):
    table = rows.wide([rows.TIMESTAMP, rows.TIMESTAMP_NTZ, rows.DATE])
    frame = table.frame(spark)
    with in_force(spark, {"spark.sql.session.timeZone": zone}):
        assert table.told(
            written(table, frame, tmp_path / "out", file_format)
        ) == table.told(frame)


@pytest.mark.parametrize("file_format", ["csv", "json", "parquet"])
def test_another_reader_finds_each_text_and_each_row(spark, tmp_path, file_format):
    table = rows.wide([TEXTS, STRING])
    written(table, table.frame(spark), tmp_path / "out", file_format)
    found = as_python_reads(tmp_path / "out", file_format, ["c0", "c1"])
    # Python's csv has no NULL.
    wanted = (
        [tuple(cell or "" for cell in row) for row in table.rows]
        if file_format == "csv"
        else table.rows
    )
    assert sorted(map(repr, found)) == sorted(map(repr, wanted))


@pytest.mark.slow
@pytest.mark.parametrize("file_format", HELD)
def test_rows_of_any_kind_come_back_or_there_is_a_word(spark, tmp_path, file_format):
    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(table=rows.tables(rows.ALL))
    def prove(table):
        frame = table.frame(spark)
        with expected_word():
            back = table.told(written(table, frame, tmp_path / "out", file_format))
            assert back == table.told(frame)

    prove()


OPTIONS = [
    ("csv", {"sep": ";"}),
    ("csv", {"sep": "\t"}),
    ("csv", {"header": True}),
    ("csv", {"nullValue": "\\N"}),
    ("csv", {"nullvalue": "\\N", "quoteAll": True}),
    ("csv", {"quote": "'"}),
    ("csv", {"escape": "\\"}),
    ("csv", {"compression": "gzip"}),
    ("csv", {"encoding": "UTF-16LE"}),
    ("json", {"compression": "gzip"}),
    ("orc", {"compression": "zlib"}),
]


@pytest.mark.fast("csv-*0", "csv-*3", "csv-*5", "csv-*4")
@pytest.mark.parametrize(("file_format", "options"), OPTIONS)
def test_an_option_changes_the_file_and_no_value(spark, tmp_path, file_format, options):
    # A row of NULL alone is a line of tabs alone, which readers skip: there is a case
    # of it below.
    has_nulls = options.get("sep") != "\t"
    table = rows.wide(
        [TEXTS, rows.TIMESTAMP if file_format == "csv" else INT], nulls=has_nulls
    )
    frame = table.frame(spark)
    found = written(table, frame, tmp_path / "out", file_format, **options)
    assert table.told(found) == table.told(frame)


SPELLED = {
    "CSV": "csv",
    "Csv": "csv",
    "com.databricks.spark.csv": "csv",
    "org.apache.spark.sql.execution.datasources.csv.CSVFileFormat": "csv",
    "org.apache.spark.sql.execution.datasources.v2.json.JsonDataSourceV2": "json",
    "org.apache.spark.sql.parquet": "parquet",
    "ORC": "orc",
    "delta": "delta",
    "com.example.csv": "com.example.csv",
}


def test_a_format_is_known_by_each_of_its_names():
    assert {name: formats.plain_name(name) for name in SPELLED} == SPELLED
    assert formats.of(sinks.files, "CSV", {}, "out") == replace(
        formats.of(sinks.files, "csv", {}, "out"), spelled="CSV"
    )


NULLABLE = "CASE WHEN value > '' THEN value END"
REFUSED: dict[str, Any] = {
    "CSV of one column with NULL": (
        "csv",
        {},
        [f"{NULLABLE} s"],
        "column s is the only one and can be NULL",
    ),
    "of a number": (
        "CSV",
        {"header": True},
        ["CAST(value AS INT) n"],
        "column n is the only one and can be NULL",
    ),
    "beside folders": (
        "csv",
        {"partition_by": ["k"]},
        ["1 k", f"{NULLABLE} s"],
        "column s is the only one",
    ),
    "a blank for NULL": (
        "csv",
        {"nullValue": " "},
        [f"{NULLABLE} s"],
        "give nullValue='NULL'",
    ),
    "quotes for NULL": (
        "csv",
        {"quoteAll": True},
        ["value", "1 n"],
        "quoteAll=True writes NULL as an empty text",
    ),
    "an interval of a calendar": (
        "json",
        {},
        ["make_interval(1) i"],
        "column i is interval, and a file of json",
    ),
    "bytes in CSV": (
        "csv",
        {},
        ["X'00' b", "1 n"],
        "column b is binary, and a file of csv cannot hold it",
    ),
    "no text for a key": (
        "json",
        {},
        ["map(1, 'a') m"],
        "column m is map<int,string>, and a file of json",
    ),
    "a variant in JSON": (
        "json",
        {},
        ["parse_json('1') v"],
        "column v is variant, and a file of json",
    ),
    "a backtick in ORC": (
        "orc",
        {},
        ["1 AS `f``g`"],
        "column f`g has a backtick in its name",
    ),
    "one in a struct": (
        "orc",
        {},
        ["named_struct('f`g', 1) s"],
        "column f`g has a backtick in its name",
    ),
    "dates as keys in ORC": (
        "orc",
        {},
        ["map(current_date(), 1) m"],
        "column m is map<date,int>, and a file of orc",
    ),
    "no column in a struct": (
        "parquet",
        {},
        ["named_struct() s"],
        "column s is struct<>, and a file of parquet",
    ),
    "no column in the files": (
        "csv",
        {"partition_by": ["k"]},
        ["1 k"],
        "partition_by has each column",
    ),
    "a folder twice": (
        "json",
        {"partition_by": ["k", "K"]},
        ["1 k", "1 n"],
        "column k appears twice",
    ),
    "no such folder": (
        "json",
        {"partition_by": ["kk"]},
        ["1 k", "1 n"],
        "there is no column kk; did you mean k?",
    ),
    "a hidden folder": (
        "json",
        {"partition_by": [".k"]},
        ["1 `.k`", "1 n"],
        "makes hidden folders",
    ),
    "bytes as a folder": (
        "json",
        {"partition_by": ["k"]},
        ["X'00' k", "1 n"],
        "column k is binary, of which no",
    ),
    "a field twice": (
        "orc",
        {},
        ["named_struct('f', 1, 'F', 2) s"],
        "column s: field f appears twice",
    ),
    "a name of Spark's": (
        "csv",
        {},
        ["value", "1 _corrupt_record"],
        "puts what it cannot read; rename it",
    ),
    "a collation as a folder": (
        "json",
        {"partition_by": ["k"]},
        ["value COLLATE UNICODE k", "1 n"],
        "give F.collate(column, 'UTF8_BINARY')",
    ),
    "a collation in ORC": (
        "orc",
        {},
        ["array(value COLLATE UNICODE) a"],
        "column a has a string collate UNICODE, which Spark cannot read from orc",
    ),
    "a field without a name in ORC": (
        "orc",
        {},
        ["named_struct('', 1) s"],
        "column s has a field without a name",
    ),
    "two names in two cases": ("parquet", {}, ["1 a", "2 A"], "column a appears twice"),
}


@pytest.mark.fast(
    "batch_files-a collation in ORC",
    "files-no column in a struct",
    "files-a backtick in ORC",
)
@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("kind", ["files", "batch_files"])
def test_what_the_schema_shows_is_refused_at_the_start(one_row, tmp_path, kind, case):
    file_format, options, columns, message = REFUSED[case]
    if "partition_by" in options and kind == "batch_files":
        return
    sink = getattr(sinks, kind)(tmp_path / "out", format=file_format, **options)
    assert message in refusal(
        open_sink, sink, one_row.selectExpr(*columns), None, Opening()
    )
    assert not (tmp_path / "out").exists()


WRONG: dict[str, Any] = {
    "emptyValue": ("csv", {"emptyValue": ""}),
    "quote": ("csv", {"quote": ""}),
    "escape": ("csv", {"escape": ""}),
    "sep": ("csv", {"sep": '"'}),
    "sep ": ("csv", {"sep": "\\|"}),
    "escapeQuotes": ("csv", {"escapequotes": False}),
    "charToEscapeQuoteEscaping": ("csv", {"charToEscapeQuoteEscaping": "\\"}),
    "lineSep": ("json", {"lineSep": ";"}),
    "encoding": ("JSON", {"encoding": "UTF-16"}),
    "encoding ": ("text", {"encoding": "ISO-8859-1"}),
}


@pytest.mark.parametrize("option", WRONG)
def test_an_option_with_which_rows_cannot_be_read_is_refused_where_it_is_given(option):
    file_format, options = WRONG[option]
    for make in (sinks.files, sinks.batch_files, sinks.table):
        said = refusal(make, "out", format=file_format, **options)
        assert said.startswith(f"sinks.{make.__name__}(): {option.strip()} ")
        assert "; " in said


def text(*values, nullable=False):
    return Table((Column("s", STRING, nullable),), tuple((value,) for value in values))


def two(*values, kinds=(STRING, STRING)):
    return Table((Column("a", kinds[0]), Column("b", kinds[1])), values)


BY_VALUE: dict[str, Any] = {
    "a line of blanks": (
        "csv",
        {},
        text(" \t"),
        "column s begins a line of blanks alone",
    ),
    "tabs alone": (
        "csv",
        {"sep": "\t"},
        two((None, None)),
        "column a begins a line of blanks alone",
    ),
    "a tab and a blank": (
        "csv",
        {"sep": "\t"},
        two((None, " ")),
        "column a begins a line of blanks alone",
    ),
    "what Java takes for a blank": (
        "csv",
        {"sep": "\x01"},
        two((None, None)),
        "begins a line of blanks alone",
    ),
    "a tab by its letter": (
        "csv",
        {"sep": "\\t"},
        two((None, None)),
        "begins a line of blanks alone",
    ),
    "a byte order mark": ("csv", {}, text("\ufeffx"), "begins with a byte order mark"),
    "the text of NULL": (
        "csv",
        {"nullValue": "NULL"},
        text("NULL"),
        "has 'NULL', which stands for NULL",
    ),
    "a number of NULL": (
        "csv",
        {"nullValue": "1"},
        two((1, None), kinds=(INT, INT)),
        "has '1', which stands",
    ),
    "a NUL in quotes": (
        "csv",
        {},
        two(("a,\x00", "b")),
        "has a text with a NUL character in quotes",
    ),
    "not in the encoding": (
        "csv",
        {"charset": "iso-8859-1"},
        text("日本"),
        "the encoding cannot write",
    ),
    "a changed line end": (
        "csv",
        {"lineSep": "\r\n"},
        text("a\nb"),
        "has a text with a line end",
    ),
    "the line end": (
        "csv",
        {"lineSep": ";"},
        text("a;b"),
        "has a text with a line end",
    ),
    "a text like sep": ("csv", {"sep": "||"}, two(("a|", "b")), "ends like sep begins"),
    "a text like the line end": (
        "text",
        {"lineSep": "||"},
        text("a|"),
        "which would be two rows",
    ),
    "two lines of text": ("text", {}, text("a\rb"), "which would be two rows"),
    "two parts of text": (
        "text",
        {"lineSep": ";"},
        text("a;b"),
        "which would be two rows",
    ),
    "NULL as text": (
        "text",
        {},
        text("a", None, nullable=True),
        "has NULL, of which text has no sign",
    ),
    "1582 in ORC": ("orc", {}, rows.corners(rows.DATE), "4 to 15 October 1582"),
    "1969 in ORC": (
        "orc",
        {},
        rows.corners(rows.array_of(rows.TIMESTAMP)),
        "the last second of 1969",
    ),
    "an empty folder": (
        "json",
        {"partition_by": ["a"]},
        two(("", "x")),
        "takes for NULL in the name of a folder",
    ),
    "a long folder": (
        "json",
        {"partition_by": ["a"]},
        two(("日" * 90, "x")),
        "too long for the name of a folder",
    ),
    "a long name of a folder": (
        "json",
        {"partition_by": ["a"]},
        two(("/" * 90, "x")),
        "too long for the name of a folder",
    ),
    "a NUL in a folder": (
        "json",
        {"partition_by": ["a"]},
        two(("a\x00", "x")),
        "has a NUL character",
    ),
    "the folder of NULL": (
        "csv",
        {"partition_by": ["a"]},
        two(("__HIVE_DEFAULT_PARTITION__", "x")),
        "takes for",
    ),
}


@pytest.mark.fast(
    "two parts of text", "what Java takes for a blank", "a text like the line end"
)
@pytest.mark.parametrize("case", BY_VALUE)
def test_what_a_value_alone_shows_stops_the_batch_before_it_is_written(
    spark, tmp_path, case
):
    file_format, options, table, message = BY_VALUE[case]
    folders = options.pop("partition_by", []) if "partition_by" in options else []
    form = formats.of(sinks.files, file_format, options, tmp_path / "out")
    if folders:
        options["partition_by"] = folders
        table = replace(
            table, columns=(table.columns[0], replace(table.columns[1], nullable=False))
        )
    frame = table.frame(spark)
    form.check("files", frame, folders)
    with pytest.raises(Exception, match="USER_RAISED_EXCEPTION") as failed:
        form.guarded("files", frame, folders).collect()
    assert message in str(failed.value)


NO_TEXT = "CAST(X'61FF62' AS STRING)"
NOT_UTF8 = {
    "a text": ("csv", NO_TEXT, ()),
    "a text of JSON": ("json", NO_TEXT, ()),
    "in a list": ("json", f"array('x', NULL, {NO_TEXT})", ()),
    "in a map": ("json", f"map('k', array(named_struct('n', 1, 's', {NO_TEXT})))", ()),
    "a key": ("json", f"map({NO_TEXT}, 1)", ()),
    "a folder": ("parquet", NO_TEXT, ["a"]),
}


@pytest.mark.parametrize("case", NOT_UTF8)
def test_bytes_that_are_no_text_stop_the_batch(spark, tmp_path, case):
    file_format, value, folders = NOT_UTF8[case]
    form = formats.of(sinks.files, file_format, {}, tmp_path / "out")
    frame = spark.sql(f"SELECT {value} AS a, 1 AS b")
    form.check("files", frame, folders)
    with pytest.raises(Exception, match="column a has a text that is not UTF-8"):
        form.guarded("files", frame, folders).collect()


@pytest.mark.parametrize("file_format", ["csv", "json", "text"])
def test_a_text_with_a_collation_is_a_text(spark, tmp_path, file_format):
    form = formats.of(sinks.files, file_format, {}, tmp_path / "out")
    frame = spark.sql(
        "SELECT 'Tea' COLLATE UNICODE_CI AS s UNION ALL SELECT 'ink' COLLATE UNICODE_CI"
    )
    form.check("files", frame)
    assert sorted(row.s for row in form.guarded("files", frame).collect()) == [
        "Tea",
        "ink",
    ]


EVERYDAY: dict[str, Any] = {
    "texts unlike sep": (
        "csv",
        {"sep": "||"},
        two(("a|b", "|c"), ("x||y", None), ("", "z")),
    ),
    "a text for NULL in a list": (
        "json",
        {},
        two(
            (("x", None), None),
            kinds=(rows.array_of(STRING), rows.map_of(STRING, STRING)),
        ),
    ),
    "words": ("csv", {}, text("tea", "ink", 'say "hi"', "")),
    "a table": (
        "csv",
        {},
        two(("tea", 1), ("", 2), (None, None), (" ink ", 3), kinds=(STRING, INT)),
    ),
    "tabs": ("csv", {"sep": "\t"}, two(("tea", None), ("x\ty", "z"), ("", None))),
    "with a word for NULL": (
        "csv",
        {"nullValue": "NULL"},
        text("tea", None, "", nullable=True),
    ),
    "blanks in quotes": ("csv", {"quoteAll": True}, text(" ", "", "x")),
    "latin": ("csv", {"encoding": "ISO-8859-1"}, two(("é", 1), kinds=(STRING, INT))),
    "lines": ("text", {}, text("tea", "", " ", nullable=True)),
    "objects": ("json", {}, two(("tea", 1), (None, None), kinds=(STRING, INT))),
}


@pytest.mark.fast("tabs", "a table", "words")
@pytest.mark.parametrize("case", EVERYDAY)
def test_ordinary_rows_are_written_without_a_word(spark, tmp_path, case, caplog):
    file_format, options, table = EVERYDAY[case]
    frame = table.frame(spark)
    assert table.told(
        written(table, frame, tmp_path / "out", file_format, **options)
    ) == table.told(frame)
    assert not caplog.records


@pytest.mark.parametrize(
    "kind", ["files", pytest.param("batch_files", marks=pytest.mark.slow)]
)
def test_a_batch_that_is_stopped_loses_nothing(spark, folder, tmp_path, kind):
    feeds.drip([("1.txt", "tea\n"), ("2.txt", "NULL\n")], folder)
    lines = sources.text(spark, str(folder), max_files_per_trigger=1)
    make = partial(getattr(sinks, kind), tmp_path / "out", format="csv")
    with pytest.raises(
        Exception,
        match=f"{kind}: column value has 'NULL', which stands for NULL; give another",
    ):
        finish(lines, make(nullValue="NULL"), tmp_path / "ckpt")
    finish(lines, make(nullValue="\\N"), tmp_path / "ckpt")
    found = "".join(file.read_text() for file in (tmp_path / "out").rglob("part-*"))
    assert sorted(found.split()) == ["NULL", "tea"]


def test_a_timestamp_is_a_folder_in_a_steady_zone_alone(spark, one_row, tmp_path):
    table = rows.corners(rows.TIMESTAMP, beside=INT)
    stream = table.over(one_row)
    sink = sinks.files(tmp_path / "out", partition_by=["v"])
    with in_force(spark, {"spark.sql.session.timeZone": "Europe/Berlin"}):
        assert "in Europe/Berlin an hour that comes twice would be one" in refusal(
            open_sink, sink, stream, None, Opening()
        )
    open_sink(sink, stream, None, Opening())


@pytest.mark.slow
def test_folders_have_each_value_of_each_type(spark, one_row, tmp_path):
    texts = rows.texts_of(
        [
            t
            for t in rows.TEXTS
            if t not in ("", "__HIVE_DEFAULT_PARTITION__") and len(t) < 99
        ]
    )
    kinds = [*rows.NUMBERS, texts, *rows.TIMES, rows.BOOLEAN, rows.INTERVAL_DAYS]
    for number, kind in enumerate(kinds):
        table = rows.corners(kind, beside=INT)
        out = tmp_path / f"out{number}"
        sink = sinks.files(out, partition_by=["v"])
        finish(table.over(one_row), sink, tmp_path / f"ckpt{number}")
        with in_force(
            spark, {"spark.sql.sources.partitionColumnTypeInference.enabled": "false"}
        ):
            found = spark.read.schema(f"k INT, v {kind.ddl}").parquet(str(out))
            assert table.told(found) == table.told(table.frame(spark)), kind


TABLES: dict[str, Any] = {
    "CSV": (
        None,
        {},
        two(
            ("  lead", 1), ('\\"', 2), ("a,b", None), (None, None), kinds=(STRING, INT)
        ),
    ),
    "csv": (
        "(a STRING, b INT) USING CSV OPTIONS (sep ';', header 'true', nullValue 'N')",
        {},
        two(("x;y", 1), ("", 2), (None, None), kinds=(STRING, INT)),
    ),
    "Json": (None, {}, rows.wide([STRING, rows.TIMESTAMP])),
    "JSON": (
        "(Key STRING, b INT) USING JSON",
        {},
        Table((Column("KEY", STRING), Column("B", INT)), (("x", 1), (None, None))),
    ),
    "parquet": (
        "(b INT, a STRING, c INT) USING parquet PARTITIONED BY (b)",
        {},
        two(("x", 1), ("", 2), (None, None), kinds=(STRING, INT)),
    ),
}
TABLES["Json"] = (
    None,
    {},
    two(
        *((None, moment) for moment in rows.TIMESTAMP.corners),
        kinds=(STRING, rows.TIMESTAMP),
    ),
)


@pytest.mark.classic_only("the table is the session's")
@pytest.mark.fast("csv")
@pytest.mark.parametrize("spelled", TABLES)
def test_a_table_is_read_as_it_was_written(spark, one_row, tmp_path, spelled):
    ddl, options, table = TABLES[spelled]
    if ddl:
        spark.sql(f"CREATE TABLE of_{spelled} {ddl}")
    try:
        finish(
            table.over(one_row),
            sinks.table(f"of_{spelled}", format=spelled, **options),
            tmp_path / "ckpt",
        )
        assert table.told(spark.table(f"of_{spelled}")) == table.told(
            table.frame(spark)
        )
    finally:
        spark.sql(f"DROP TABLE of_{spelled}")


@pytest.mark.classic_only("the table is the session's")
@pytest.mark.parametrize(
    "names", [("Of_Two", "default.of_two"), ("of_two", "`of_two`")]
)
def test_a_table_of_a_query_that_runs_is_no_other_ones_before_it_has_rows(
    spark, folder, tmp_path, names
):
    lines = sources.text(spark, str(folder))
    one, other = map(sinks.table, names)
    query = start(lines, one, name="one", checkpoint=tmp_path / "one")
    try:
        said = refusal(
            start,
            lines,
            other,
            name="other",
            checkpoint=tmp_path / "other",
            availableNow=True,
        )
        assert "is written by query one, which runs; end that query first" in said
    finally:
        query.stop()
        spark.sql("DROP TABLE of_two")


OTHER: dict[str, Any] = {
    "an option": (
        "csv",
        {"sep": "|"},
        ["value a", "1 b"],
        "created without the option sep='|'",
    ),
    "a format": (
        "json",
        {},
        ["value a", "1 b"],
        "table there has the format csv, not json; give format='csv'",
    ),
    "a place": (
        "csv",
        {},
        ["1 b", "value a"],
        "has the columns a, b, and csv knows them by their places alone",
    ),
    "a type": (
        "csv",
        {},
        ["value a", "1L b"],
        "column b is bigint, and int in the table; cast it",
    ),
    "a name": ("csv", {}, ["value a", "1 bb"], "has no column bb; did you mean b?"),
    "a partition": (
        "csv",
        {"partition_by": ["a"]},
        ["value a", "1 b"],
        "is partitioned by no column; leave",
    ),
}


@pytest.mark.classic_only("the table is the session's")
def test_rows_that_do_not_fit_a_table_are_refused(spark, one_row):
    spark.sql("CREATE TABLE there (a STRING, b INT) USING CSV OPTIONS (sep ';')")
    try:
        for file_format, options, columns, message in OTHER.values():
            sink = sinks.table("there", format=file_format, **options)
            assert message in refusal(
                open_sink, sink, one_row.selectExpr(*columns), None, Opening()
            )
    finally:
        spark.sql("DROP TABLE there")


@pytest.mark.classic_only("the table is the session's")
@pytest.mark.parametrize(
    ("file_format", "option"),
    [
        ("csv", "emptyValue 'x'"),
        ("csv", "locale 'de-DE'"),
        ("csv", "maxCharsPerColumn '3'"),
        ("json", "multiLine 'true'"),
        ("text", "wholetext 'true'"),
    ],
)
def test_a_table_that_is_read_otherwise_than_written_is_refused(
    spark, one_row, file_format, option
):
    spark.sql(
        f"CREATE TABLE otherwise (value STRING) USING {file_format} OPTIONS ({option})"
    )
    try:
        said = refusal(
            open_sink,
            sinks.table("otherwise", format=file_format),
            one_row,
            None,
            Opening(),
        )
        name = option.split()[0].lower()
        assert f"was created with the option {name}=" in said
        assert said.endswith("; use a table without it")
    finally:
        spark.sql("DROP TABLE otherwise")


@pytest.mark.classic_only("the table is the session's")
@pytest.mark.parametrize("kind", ["CHAR(5)", "ARRAY<VARCHAR(3)>"])
def test_a_table_whose_texts_have_a_limit_is_refused(spark, one_row, kind):
    spark.sql(f"CREATE TABLE limited (value {kind}, char STRING) USING parquet")
    try:
        value = "array(value)" if "ARRAY" in kind else "value"
        frame = one_row.selectExpr(f"{value} AS value", "value AS char")
        said = refusal(open_sink, sinks.table("limited"), frame, None, Opening())
        assert said.startswith(f"table limited: column value is {kind.lower()}, and")
        assert said.endswith("; use a table that has STRING")
    finally:
        spark.sql("DROP TABLE limited")


@pytest.mark.classic_only("the table is the session's")
def test_a_text_that_is_too_long_for_its_varchar_fails_the_batch(spark, one_row):
    spark.sql("CREATE TABLE short (value VARCHAR(3), n INT) USING parquet")
    try:
        sink = sinks.table("short")
        assert isinstance(sink, sinks.SparkSink)
        rows_to_write = spark.createDataFrame([("日本語", 1)], "value STRING, n INT")
        assert sink.checked(rows_to_write).collect() == [("日本語", 1)]
        too_long = rows_to_write.withColumn("value", F.lit("four"))
        with pytest.raises(PySparkException) as caught:
            sink.checked(too_long).collect()
        said = "table short: column value has a text that is longer than varchar(3)"
        assert said in str(caught.value)
    finally:
        spark.sql("DROP TABLE short")


def test_a_table_of_xml_is_refused():
    said = refusal(sinks.table, "t", format="XML")
    assert said.startswith("sinks.table(): format is 'XML', and Spark reads texts from")


@pytest.mark.parametrize("kind", ["{}", "array({})", "map({}, 1)", "struct({} AS t)"])
def test_a_session_that_cuts_microseconds_of_parquet_fails_the_batch(
    spark, tmp_path, kind
):
    setting = {"spark.sql.parquet.outputTimestampType": "timestamp_millis"}
    whole = "TIMESTAMP'2026-01-31 10:00:00.123Z'"
    finer = "TIMESTAMP'0500-01-31 10:00:00.000001Z'"
    good, bad = (
        spark.sql(f"SELECT {kind.format(time)} AS times") for time in (whole, finer)
    )
    said = ": column times has a time with microseconds, and the session's spark"
    parquet = [sinks.files(tmp_path / "files"), sinks.table("cut")]
    orc = sinks.files(tmp_path / "orc", format="orc")
    for sink in (*parquet, orc):
        assert isinstance(sink, sinks.SparkSink)
        assert sink.checked(bad).collect() == bad.collect()
        with in_force(spark, setting):
            assert sink.checked(good).collect() == good.collect()
            if sink is orc:
                assert sink.checked(bad).collect() == bad.collect()
                continue
            with pytest.raises(PySparkException) as caught:
                sink.checked(bad).collect()
        assert said in str(caught.value)


def test_a_batch_whose_microseconds_would_be_cut_fails(spark, one_row, tmp_path):
    setting = {"spark.sql.parquet.outputTimestampType": "TIMESTAMP_MILLIS"}
    frame = one_row.selectExpr("TIMESTAMP'2026-01-31 10:00:00.000001Z' AS at")
    with in_force(spark, setting), pytest.raises(QueryFailed) as caught:
        finish(frame, sinks.batch_files(tmp_path / "out"), tmp_path / "ckpt")
    said = "batch_files: column at has a time with microseconds, and the session's"
    assert said in str(caught.value)


def test_a_session_with_the_patterns_of_spark_2_is_refused(one_row, tmp_path):
    frame = one_row.selectExpr("DATE'2026-01-31' AS day")
    setting = {"spark.sql.legacy.timeParserPolicy": "legacy"}
    with in_force(one_row.sparkSession, setting):
        for sink in (
            sinks.files(tmp_path / "files", format="json"),
            sinks.batch_files(tmp_path / "batches", format="CSV", nullValue="-"),
            sinks.table("former", format="json"),
            sinks.snapshot(tmp_path / "former.json"),
            sinks.latest("former"),
        ):
            checkpoint = None
            if sink.kind == "latest":  # without one it keeps no rows as JSON
                open_sink(sink, frame, None, Opening())
                checkpoint = locate(one_row.sparkSession, tmp_path / "ckpt")
            said = refusal(open_sink, sink, frame, checkpoint, Opening())
            assert "Policy=LEGACY takes patterns of dates and times in the way" in said
            assert said.endswith("; set it to CORRECTED")
        open_sink(sinks.batch_files(tmp_path / "parquet"), frame, None, Opening())


def test_a_session_that_quotes_null_is_refused_where_texts_can_be_empty(
    one_row, tmp_path
):
    sink = sinks.batch_files(tmp_path / "out", format="csv")
    setting = {
        "spark.sql.legacy.nullValueWrittenAsQuotedEmptyStringCsv": "true",
    }
    texts = one_row.selectExpr("value", "nullif(value, 'x') AS b")
    with in_force(one_row.sparkSession, setting):
        said = refusal(open_sink, sink, texts, None, Opening())
        assert "StringCsv=true writes NULL as an empty text, and column" in said
        open_sink(sink, one_row.selectExpr("1 AS a", "2 AS b"), None, Opening())
    open_sink(sink, texts, None, Opening())


@pytest.mark.classic_only("the table is the session's")
def test_the_statement_that_creates_a_table_with_options_works(spark, one_row):
    sink = sinks.table("made", format="csv", sep=";", header=True, partition_by=["k"])
    frame = one_row.selectExpr("value AS `a b`", "1 AS k", "2 AS n")
    said = refusal(open_sink, sink, frame, None, Opening())
    assert said.startswith(
        "table made: Spark creates it without the option sep, so it would be read"
        " without it"
    )
    spark.sql(said.partition("create it first: ")[2])
    try:
        open_sink(sink, frame, None, Opening())
    finally:
        spark.sql("DROP TABLE made")


def test_a_writer_without_start_goes_on_after_a_failed_batch(one_row, folder, tmp_path):
    frame = one_row.selectExpr("IF(value = 'x', raise_error('not now'), value) AS v")
    writer = frame.writeStream.option(
        "checkpointLocation", str(tmp_path / "ckpt")
    ).trigger(availableNow=True)
    writer = sinks.batch_files(tmp_path / "out", format="json")(writer)
    with pytest.raises(Exception, match="not now"):
        writer.start().awaitTermination()
    (folder / "1.txt").write_text("y\n")
    writer.start().awaitTermination()
    assert (
        "".join(file.read_text() for file in (tmp_path / "out").rglob("part-*"))
        == '{"v":"y"}\n'
    )


def test_a_snapshot_has_each_text_for_python_and_for_spark(spark, tmp_path):
    table = rows.wide([TEXTS, STRING])
    frame = table.frame(spark)
    open_batch_sink(sinks.snapshot(tmp_path / "o.csv"), frame, None)(frame, 0)
    with (tmp_path / "o.csv").open(newline="", encoding="utf-8") as file:
        head, *found = csv.reader(file)
    assert head == ["c0", "c1"]
    assert found == [[cell or "" for cell in row] for row in table.rows]
    back = spark.read.csv(
        f"file:{tmp_path}/o.csv",
        header=True,
        escape='"',
        multiLine=True,
        nullValue=NULL,
        schema=table.ddl,
    )
    assert table.told(back) == table.told(frame)
    lossy = spark.sql("SELECT map(1, 2) AS m")
    for ending, form in (("csv", "csv"), ("json", "json")):
        sink = sinks.snapshot(tmp_path / f"m.{ending}")
        assert (
            f"column m is map<int,int>, and a file of {form} cannot hold it"
            in refusal(open_batch_sink, sink, lossy, None)
        )


VIEW = pytest.param(
    "a view", marks=pytest.mark.classic_only("the view is the session's")
)


@pytest.mark.parametrize("kind", ["csv", "json", VIEW])
def test_a_whole_result_with_bytes_or_with_a_name_twice_is_not_written(
    spark, tmp_path, kind
):
    sink = (
        sinks.latest("of_bytes")
        if kind == "a view"
        else sinks.snapshot(tmp_path / f"o.{kind}")
    )
    frame = spark.sql(f"SELECT 1 AS n, {NO_TEXT} AS s")
    write = open_batch_sink(sink, frame, None)
    with pytest.raises(Exception, match="column s has a text that is not UTF-8"):
        write(frame, 0)
    write(spark.sql("SELECT 1 AS n, 'tea' AS s"), 1)
    assert "column n appears twice" in refusal(
        open_batch_sink, sink, frame.select("n", "n"), None
    )


def test_a_line_of_csv_is_one_record_for_any_reader():
    table = rows.wide([TEXTS, STRING])
    for row in (*table.rows, ("", None), (None, None)):
        [found] = csv.reader(io.StringIO(feeds.csv_line(row), newline=""))
        assert found == [cell or "" for cell in row]
    for one in (" ", "", None, "\n"):
        assert feeds.csv_line((one,)).startswith('"'), "readers skip a line of blanks"


@pytest.mark.slow
@pytest.mark.classic_only("the view is the session's")
def test_the_rows_of_latest_are_the_same_after_a_restart(spark, one_row, tmp_path):
    kinds = [
        rows.DOUBLE,
        rows.TIMESTAMP,
        rows.BINARY,
        rows.VARIANT,
        rows.INTERVAL_MONTHS,
        *rows.ODD_MAPS,
    ]
    kinds += [
        rows.array_of(rows.ODD_MAPS[0]),
        rows.struct_of(a=rows.VARIANT, b=rows.ODD_MAPS[2]),
    ]
    table = rows.wide(kinds)
    stream = table.over(one_row.groupBy("value").count().select("value"))
    for _ in range(2):
        finish(stream, sinks.latest("of_all"), tmp_path / "ckpt", "complete")
        assert table.told(spark.table("of_all")) == table.told(table.frame(spark))


ON_THE_PAGE = re.compile(
    r"^\| `(\w+)`: `([^`]*)`(?:, [^|`\\]*)?(?: \\\| `([^`]*)`)? \| (?:`(.*)`)? ?\|"
    r" (?:`(.*)`)? ?\|$",
    re.MULTILINE,
)
PAGE = ON_THE_PAGE.findall(
    (ROOT / "docs/files.md").read_text("utf-8").partition("## What is written")[2]
)


def unescaped(text):
    return ast.literal_eval(f"'''{text}'''") if text else ""


@pytest.mark.parametrize(("file_format", "row", "options", "line", "word"), PAGE)
def test_each_row_of_the_page_is_true(
    spark, tmp_path, file_format, row, options, line, word
):
    arguments = eval(f"dict({options})")  # noqa: S307 - as a reader of the page would type it
    values = re.split(r", (?![^(]*\))", row)
    if "void" not in word:
        values = [
            value.replace("NULL", "CAST(NULL AS STRING)") if value == "NULL" else value
            for value in values
        ]
    frame = spark.sql(
        "SELECT "
        + ", ".join(
            f"{value} AS {name}" for value, name in zip(values, "ab", strict=False)
        )
    )
    out, folders = tmp_path / "out", arguments.pop("partition_by", ())

    def write():
        form = formats.of(sinks.files, file_format, arguments, out)
        form.check("files", frame, folders)
        guarded = form.guarded("files", frame, folders).coalesce(1)
        guarded.write.format(form.kind).options(**form.options).save(str(out))

    if not word:
        write()
        assert lines_of(out) == unescaped(line) + "\n"
        return
    with pytest.raises((InvalidInputError, PySparkException)) as said:
        write()
    assert word in str(said.value)


def test_the_page_has_its_rows():
    page = (
        (ROOT / "docs/files.md").read_text("utf-8").partition("## What is written")[2]
    )
    assert len(PAGE) == len(re.findall(r"^\| `", page, re.MULTILINE)) > 25
