"""Sources: each gives a plain streaming DataFrame, and says what is wrong with its arguments."""

import inspect
import re
from typing import Any

import pytest
from conftest import cases, refusal
from pyspark.sql.streaming.readwriter import DataStreamReader

from sparkstream_kit import feeds, run, sinks, sources, start
from sparkstream_kit._internal.arguments import check_options


def rows(spark, frame):
    """Return all rows of a finite stream, and how many batches they took."""
    summary = run(start(frame, sinks.memory("rows"), availableNow=True))
    return (
        sorted(tuple(row) for row in spark.table("rows").collect()),
        summary.queries[0].batches,
    )


@pytest.mark.connect
@pytest.mark.parametrize(
    ("read", "texts", "expected"),
    [
        (sources.csv, ["1,a\n", "2,b\n"], [(1, "a"), (2, "b")]),
        (
            sources.json,
            ['{"n":1,"s":"a"}\n', '{"n":2,"s":"b"}\n'],
            [(1, "a"), (2, "b")],
        ),
    ],
)
def test_text_formats_with_a_schema_one_file_a_batch(
    spark, folder, read, texts, expected
):
    feeds.drip([(f"{n}.txt", text) for n, text in enumerate(texts)], folder)
    frame = read(spark, str(folder), schema="n INT, s STRING", max_files_per_trigger=1)
    assert rows(spark, frame) == (expected, 2)


def test_text_lines_and_sparks_own_options(spark, folder):
    feeds.drip([("1.txt", "one\r\ntwo\n"), ("2.log", "three")], folder)
    assert rows(spark, sources.text(spark, str(folder)))[0] == [
        ("one",),
        ("three",),
        ("two",),
    ]
    assert rows(spark, sources.text(spark, str(folder), pathGlobFilter="*.log"))[0] == [
        ("three",)
    ]


@pytest.mark.parametrize(
    ("more", "batches"),
    [
        ({}, 3),
        ({"maxBytesPerTrigger": 20}, 2),
        ({"maxfilespertrigger": 3}, 1),
        ({"max_files_per_trigger": 2}, 2),
    ],
)
def test_a_batch_is_bounded_by_bytes_unless_files_are_counted(
    spark, folder, monkeypatch, more, batches
):
    monkeypatch.setattr("sparkstream_kit.sources.listing._BYTES", 10)
    feeds.drip([(f"{n}.txt", "ten bytes\n") for n in range(3)], folder)
    assert rows(spark, sources.text(spark, str(folder), **more))[1] == batches


@pytest.mark.connect
def test_rate_and_table(spark):
    assert sources.rate(spark, rows_per_second=5).columns == ["timestamp", "value"]
    spark.sql("CREATE TABLE events USING parquet AS SELECT 1 AS n")
    try:
        assert rows(spark, sources.table(spark, "events"))[0] == [(1,)]
    finally:
        spark.sql("DROP TABLE events")


@pytest.mark.parametrize("form", ["csv", "json", "orc", "parquet", "text"])
@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("max_file_per_trigger", "max_files_per_trigger"),
        ("max_bytes_per_trigger", "maxBytesPerTrigger"),
        ("max_file_age", "maxFileAge"),
    ],
)
def test_a_misspelt_option_is_refused(spark, folder, form, name, near):
    schema = {} if form == "text" else {"schema": "n INT"}
    said = refusal(getattr(sources, form), spark, str(folder), **schema, **{name: 1})
    assert said == f"unknown keyword of sources.{form}() {name}; did you mean {near}?"


@pytest.mark.parametrize(
    ("form", "options"),
    [
        (
            "csv",
            {
                "header": True,
                "SEP": ";",
                "nullValue": "-",
                "maxFileAge": "30d",
                "mode": "FAILFAST",
            },
        ),
        ("json", {"multiLine": True, "allowComments": True, "timeZone": "UTC"}),
        ("text", {"wholetext": True, "lineSep": ",", "pathGlobFilter": "*.txt"}),
        ("parquet", {"mergeSchema": True, "parquet.filter.dictionary.enabled": False}),
        (
            "orc",
            {"mergeSchema": True, "fs.s3a.connection.maximum": 5, "latestFirst": True},
        ),
    ],
)
def test_sparks_own_options_and_those_of_hadoop_pass(
    spark, folder, caplog, form, options
):
    schema = {} if form == "text" else {"schema": "n INT"}
    assert getattr(sources, form)(spark, str(folder), **schema, **options).isStreaming
    assert caplog.messages == []


REFUSED = cases("""
csv(spark, 'no/such', schema='n INT')
    input folder no/such does not exist; create it or correct the path
csv(spark, '.', schema='n INT', headr=True)
    unknown keyword of sources.csv() headr; did you mean header?
csv(spark, '.', schema='n INT', mode='FAILFST')
    unknown mode of sources.csv() FAILFST; did you mean FAILFAST?
text(spark, '.', max_files_per_trigger=0)
    max_files_per_trigger must be 1 or more, not 0
text(spark, '.', schema='a INT')
    sources.text() takes no schema: its one column is value, a line; give the schema to
    sources.csv or sources.json, or parse the lines (quarantine.parse_csv, parse_json)
text(spark, '.', encoding='ISO-8859-1')
    sources.text() reads UTF-8; convert the files (iconv -f ISO-8859-1 -t UTF-8 IN >
    OUT) or, if they are ISO-8859-1, decode the lines:
    lines.withColumn('value', F.decode(F.col('value').cast('binary'), 'ISO-8859-1'))
text(spark, '~/in')
    sources.text(): path is the string '~/in'; Python does not expand ~: give
    os.path.expanduser('~/in')
rate(spark, rowPerSecond=2)
    unknown keyword of sources.rate() rowPerSecond; did you mean rows_per_second?
rate(spark, rows_per_second=0)
    rows_per_second must be 1 or more, not 0
socket_lines(spark, '9999', 9999)
    socket_lines(): host 9999 is a number, perhaps a port; give the host and then the port
socket_lines(spark, 'localhost', 0)
    socket_lines(): port must be from 1 to 65535, not 0
socket_lines(spark, '', 9999)
    socket_lines(): the host is empty; give its name or address
table(spark, 'no_such')
    table no_such is not in the catalog; create it or correct the name (`my-table` needs backquotes)
table(spark, 'no-such')
    table no-such is not in the catalog; create it or correct the name (`my-table` needs backquotes)
table(spark, ' ')
    sources.table(): the name is empty; give a table, as table or schema.table
""")


@pytest.mark.parametrize("wrong", REFUSED)
def test_what_a_source_cannot_read_is_refused_at_once(spark, wrong):
    assert (
        refusal(eval, f"sources.{wrong}", {"sources": sources, "spark": spark})
        == REFUSED[wrong]
    )


def test_a_pattern_that_hadoop_cannot_read_is_refused_in_one_line(spark):
    said = refusal(sources.text, spark, "in{a")
    assert said.startswith("input in{a cannot be reached: ")
    assert "Unclosed group at pos 4: `in{a`; correct the path" in said


_REFUSED_BY_SINKS = (
    *(
        "sep",
        "delimiter",
        "linesep",
        "encoding",
        "charset",
        "quote",
        "escape",
        "emptyvalue",
    ),
    *("chartoescapequoteescaping", "escapequotes"),
)


@pytest.mark.parametrize("form", ["csv", "json", "orc", "parquet", "text", "kafka"])
def test_no_option_of_sparks_is_taken_for_a_misspelt_one(form):
    more = """basePath cleanSource fileNameOnly latestFirst maxBytesPerTrigger
        maxCachedFiles maxFileAge codec maxFilesPerTrigger sourceArchiveDir
        timestampNTZFormat timeFormat useUnsafeRow inputBufferSize
        allowNumericLeadingZeros minOffsetsPerTrigger maxRecordsPerFile sortKeys pretty"""
    of_spark = getattr(DataStreamReader, form, None)
    of_pyspark = {*inspect.signature(of_spark).parameters} if of_spark else set()
    names = [*of_pyspark - {"allowNumericLeadingZero"}, *more.split()]
    check_options(getattr(sources, form), names, of_spark)
    if form != "kafka":
        names = [name for name in names if name not in ("self", "path", "mode")]
        # With these, rows could not be read back; they are refused by what they do.
        names = [name for name in names if name.lower() not in _REFUSED_BY_SINKS]
        options: dict[str, Any] = dict.fromkeys(names, 1)
        assert sinks.files("out", format=form, **options).kind == "files"


@pytest.mark.parametrize("kind", ["csv", "json", "orc", "parquet"])
def test_without_a_schema_one_line_says_where_to_get_one(spark, tmp_path, kind):
    assert (
        refusal(getattr(sources, kind), spark, tmp_path)
        == f"sources.{kind}() needs a schema: give schema='name STRING, amount INT' or"
        f" a StructType; `sparkstream schema {tmp_path}` prints that of the files"
    )


@pytest.mark.parametrize("form", ["parquet", "orc"])
def test_binary_formats(spark, folder, form):
    spark.createDataFrame([(1, "a")], "n INT, s STRING").write.format(form).mode(
        "append"
    ).save(str(folder))
    frame = getattr(sources, form)(spark, str(folder), schema="n INT, s STRING")
    assert rows(spark, frame)[0] == [(1, "a")]


@pytest.mark.parametrize(
    "name", ["csv", "json", "orc", "parquet", "rate", "socket_lines", "table", "text"]
)
def test_each_argument_of_a_source_is_described(name):
    call = getattr(sources, name)
    described = re.findall(
        r"^    (\*{0,2}\w+): ", inspect.getdoc(call) or "", re.MULTILINE
    )
    assert [each.strip("*") for each in described if each != "InvalidInputError"] == [
        *inspect.signature(call).parameters
    ]
