"""Folders of files as sources: what Spark is told to read, without a query."""

import os
import re
from typing import Any

import pytest
from conftest import refusal
from pyspark.errors import PySparkException
from pyspark.sql import types as T

from sparkstream_kit import sources
from sparkstream_kit._internal.spark.logical_plan import analyzed_plan
from sparkstream_kit.sources.files import (
    _by_lower_name,
    _folders_that_differ,
    _load,
    _only_marker,
    _refuse_wrong_options,
    _why_not_found,
)


def relation(frame):
    """Return what Spark knows of a file source."""
    [leaf] = _all(frame._jdf.queryExecution().analyzed().collectLeaves())  # noqa: SLF001
    return leaf.dataSource()


def _all(sequence):
    return [sequence.apply(number) for number in range(sequence.size())]


def options_of(frame):
    """Return the options with which Spark reads a file source, by names in lower case."""
    pairs = _all(relation(frame).options().toSeq())
    return {pair._1().lower(): pair._2() for pair in pairs}  # noqa: SLF001


def schema_of(frame):
    return relation(frame).userSpecifiedSchema().get().toDDL()


JVM = pytest.mark.classic_only("what Spark is told is seen in the JVM")


# --- what Spark is told


@JVM
def test_a_csv_source_tells_spark_its_options(spark, folder):
    def told(**options):
        frame = sources.csv(spark, folder, schema="a INT, b BIGINT", **options)
        return options_of(frame)

    plain = told()
    assert plain["mode"] == "FAILFAST"
    assert plain["maxbytespertrigger"] == "268435456"
    assert not {"nullvalue", "emptyvalue", "maxfilespertrigger"} & {*plain}
    empty = told(nulls=())
    assert "nullvalue" not in empty
    given = told(nulls="NA", SEP=";", max_files_per_trigger=2)
    assert (given["nullvalue"], given["emptyvalue"]) == ("NA", "NA")
    assert (given["sep"], given["maxfilespertrigger"]) == (";", "2")
    assert "maxbytespertrigger" not in given
    assert told(nulls=["-"], emptyValue="x")["emptyvalue"] == "x"
    # What the user gives goes before what strict reading asks for
    assert told(enforceSchema=True)["enforceschema"] == "true"


@JVM
@pytest.mark.parametrize("kind", ["json", "orc", "parquet", "text"])
def test_each_format_is_read_as_itself(spark, folder, kind):
    schema = {} if kind == "text" else {"schema": "value STRING"}
    frame = getattr(sources, kind)(spark, folder, max_files_per_trigger=1, **schema)
    assert relation(frame).className() == kind
    assert schema_of(frame) == "value STRING"
    assert options_of(frame)["maxfilespertrigger"] == "1"
    assert frame.columns == ["value"]
    assert frame.isStreaming


def test_a_source_has_the_types_of_its_schema(spark, folder):
    ddl = "a DECIMAL(5,2) NOT NULL, b DATE, c BINARY"
    frame = sources.csv(spark, folder, schema=ddl)
    assert frame.dtypes == [("a", "decimal(5,2)"), ("b", "date"), ("c", "binary")]
    assert sources.parquet(spark, folder, schema="a TINYINT").dtypes == [
        ("a", "tinyint")
    ]
    kept = sources.csv(spark, folder, schema="a DATE", mode="PERMISSIVE")
    assert kept.dtypes == [("a", "date")]


def test_rows_of_subfolders_are_left_out_where_files_are_listed_by_name(spark, folder):
    def left_out():
        frame = sources.text(spark, folder, max_files_per_trigger=1)
        assert frame.columns == ["value"]
        return "the first folder of partitions has come" in analyzed_plan(frame)

    for name in "ab":
        (folder / name).write_text("x")
        os.utime(folder / name, (1, 1))
    assert left_out()
    os.utime(folder / "b", (2, 2))
    assert not left_out()


# --- folders of partitions


def test_partitions_are_texts_unless_they_are_declared(spark, folder):
    (folder / "store=007" / "day=01").mkdir(parents=True)
    (folder / "store=007" / "day=01" / "a").write_text("1\n")
    columns = T.StructType().add("v", "integer")

    def load(*declared, of=columns):
        fields = [T.StructField(name, T.IntegerType()) for name in declared]
        return _load(spark.readStream.format("csv"), str(folder), of, fields).dtypes

    v = ("v", "int")
    texts = [("store", "string"), ("day", "string")]
    assert load() == [v, *texts]
    assert load("DAY") == [v, ("store", "string"), ("DAY", "int")]
    assert load("store", "day") == [v, ("store", "int"), ("day", "int")]
    assert refusal(load, "sotre") == "unknown partition sotre; did you mean store?"
    # A column of the files may be declared as one of the folders, too
    assert dict(load("v", of=T.StructType().add("x", "integer").add("v", "integer")))


def test_partitions_that_come_later_are_columns_if_they_are_declared(spark, folder):
    (folder / "a").write_text("1\n")
    columns = T.StructType().add("v", "integer")
    reader = spark.readStream.format("csv")
    assert _load(reader, str(folder), columns, []).dtypes == [("v", "int")]
    declared = [T.StructField("day", T.DateType())]
    later = _load(reader, str(folder), columns, declared)
    assert later.dtypes == [("v", "int"), ("day", "date")]
    frame = sources.csv(spark, folder, schema="v INT", partitions="day DATE")
    assert frame.dtypes == [("v", "int"), ("day", "date")]


def test_folders_of_partitions_that_differ_are_said(spark, folder):
    def said(schema="v INT"):
        with pytest.raises(PySparkException) as caught:
            spark.read.schema(schema).csv(str(folder))
        return _folders_that_differ("in", caught.value)

    alike = "lay all files out alike, as in day=1/hour=2"
    (folder / "day=x").mkdir()
    (folder / "day=x" / "a").write_text("1\n")
    assert re.fullmatch(
        "input in: .*'x' .*`day`.*; declare it as STRING", said("v INT, day INT") or ""
    )
    (folder / "hour=1").mkdir()
    (folder / "hour=1" / "a").write_text("1\n")
    assert said() == (
        f"input in: its folders of partitions differ in names or depth; {alike}"
    )
    assert refusal(sources.text, spark, folder).endswith(f"in names or depth; {alike}")
    (folder / "hour=1").rename(folder / "day=")
    assert said() == f"input in: the folder of a partition has no value; {alike}"
    (folder / "day=").rename(folder / "day=y")
    assert said("v INT, v INT") is None
    with pytest.raises(PySparkException) as caught:
        spark.read.text(f"{folder}/missing")
    assert _folders_that_differ("in", caught.value) == (
        "input folder in does not exist; create it or correct the path"
    )


def test_a_folder_that_is_not_found_may_have_a_name_that_java_cannot_read(tmp_path):
    missing = "does not exist; create it or correct the path"
    (tmp_path / "da").mkdir()
    (tmp_path / "dä").mkdir()
    unread = (
        "is there, but Spark's JVM cannot read its name in this locale; set"
        " LC_ALL=C.UTF-8 before Spark starts"
    )
    assert _why_not_found(f"{tmp_path}/dä") == unread
    assert _why_not_found(f"file:{tmp_path}/dä") == unread
    for path in (f"{tmp_path}/da", f"{tmp_path}/dö", "s3a://bucket/dä"):
        assert _why_not_found(path) == missing


# --- arguments


@pytest.mark.parametrize("kind", ["csv", "json", "orc", "parquet", "text"])
def test_a_source_looks_at_its_arguments_and_asks_for_a_schema(spark, kind):
    read = getattr(sources, kind)
    assert refusal(read, spark, 5) == f"sources.{kind}(): path is 5; give a path"
    if kind != "text":
        said = refusal(read, spark, "in")
        assert said.startswith(f"sources.{kind}() needs a schema: give schema='name ")
        assert "`sparkstream schema in` prints" in said


def test_csv_knows_one_text_for_a_missing_value():
    assert _only_marker("NA") == "NA"
    assert _only_marker(["NA"]) == "NA"
    assert refusal(_only_marker, ("NA", "-", "?")) == (
        "sources.csv() takes one text for a missing value, not NA, -, ?; give one, or"
        " read the lines with sources.text and give all to quarantine.parse_csv"
    )


def test_lines_are_of_utf_8_and_have_no_schema(spark, folder):
    for encoding in ("UTF-8", "utf-8"):
        assert sources.text(spark, folder, encoding=encoding).columns == ["value"]
    for name in ("Encoding", "charset"):
        assert refusal(sources.text, spark, folder, **{name: "UTF-16"}).startswith(
            "sources.text() reads UTF-8; convert the files (iconv -f UTF-16 -t UTF-8 IN"
        )
    assert refusal(sources.text, spark, folder, encoding="utf8") == (
        "sources.text() cannot read the encoding utf8; did you mean UTF-8?"
    )
    assert refusal(sources.text, spark, folder, SCHEMA="a INT").startswith(
        "sources.text() takes no schema: its one column is value, a line; "
    )


WRONG: dict[str, tuple[list[Any], list[Any]]] = {
    # What Spark reads, and at what a running query would fail
    "cleanSource": (["archive", "DELETE", "off"], ["move", "", "archived"]),
    "discardCachedInputRatio": ([0, "0.2", ".5", 1, 1.0, "1."], [1.5, 2, -0.1, "x"]),
    "fileNameOnly": ([True, "false"], ["yes", 1]),
    "latestFirst": ([False, "TRUE"], ["no", ""]),
    "maxBytesPerTrigger": ([1, "007", 10**12], [0, "00", -1, "1g", 1.5]),
    "maxCachedFiles": ([0, "9"], [-1, "many"]),
    "maxFileAge": (["12h", "30d", "7", "5MIN", "1us"], ["2 hours", "-1h", "h", "1w"]),
    "maxFilesPerTrigger": ([1, "20"], [0, -1, "all"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_option_at_which_a_running_query_would_fail_is_refused(name):
    good, wrong = WRONG[name]
    for value in good:
        _refuse_wrong_options({name.lower(): value})
    for value in wrong:
        said = refusal(_refuse_wrong_options, {name.lower(): value})
        assert said.startswith(f"{name} is {value!r}; give ")


def test_a_source_looks_at_the_options_that_fail_later(spark, folder):
    assert refusal(sources.text, spark, folder, maxFileAge="2 hours") == (
        "maxFileAge is '2 hours'; give a number and Spark's letter of a unit, such as"
        " '12h' or '30d'"
    )
    assert refusal(sources.json, spark, folder, schema="a INT", multline=True) == (
        "unknown keyword of sources.json() multline; did you mean multiLine?"
    )
    assert refusal(sources.orc, spark, folder, schema="a INT", max_files_per_trigger=0)


def test_options_are_known_by_their_names_in_lower_case_but_for_those_of_hadoop():
    assert _by_lower_name({"maxFileAge": "1d", "SEP": ";", "fs.s3a.Endpoint": "x"}) == {
        "maxfileage": "1d",
        "sep": ";",
        "fs.s3a.Endpoint": "x",
    }
