"""`sinks.file_columns`: which types a file of a format and the name of a folder can hold."""

import pytest
from conftest import refusal
from pyspark.sql import types as T

from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.sinks import file_columns

FORMATS = ("csv", "json", "orc", "parquet", "text")
DATE, INT, STRING = T.DateType(), T.IntegerType(), T.StringType()


def struct(**fields):
    return T.StructType([T.StructField(name, kind) for name, kind in fields.items()])


# A type, and the formats whose files give it back
HELD = {
    "string": (STRING, "csv json orc parquet text"),
    "int": (INT, "csv json orc parquet"),
    "date": (DATE, "csv json orc parquet"),
    "timestamp": (T.TimestampType(), "csv json orc parquet"),
    "interval of days": (T.DayTimeIntervalType(), "csv json orc parquet"),
    "interval of a calendar": (T.CalendarIntervalType(), ""),
    "binary": (T.BinaryType(), "json orc parquet"),
    "void": (T.NullType(), "json"),
    "variant": (T.VariantType(), "parquet"),
    "array": (T.ArrayType(INT), "json orc parquet"),
    "array of void": (T.ArrayType(T.NullType()), "json"),
    "array of variants": (T.ArrayType(T.VariantType()), "parquet"),
    "struct": (struct(a=INT, b=STRING), "json orc parquet"),
    "struct without fields": (struct(), "json"),
    "one in an array": (T.ArrayType(struct()), "json"),
    "map of texts": (T.MapType(STRING, DATE), "json orc parquet"),
    "map of numbers": (T.MapType(INT, STRING), "orc parquet"),
    "map of dates": (T.MapType(DATE, INT), "parquet"),
    "one in a map": (T.MapType(STRING, T.MapType(DATE, INT)), "parquet"),
    "map with a struct": (T.MapType(STRING, struct(d=DATE)), "json orc parquet"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_holds_what_its_files_give_back(name):
    form = "text (one column, a string)" if name == "text" else name
    for kind, held in HELD.values():
        column = [T.StructField("c", kind)]
        if name in held.split():
            file_columns.check_types("here", name, column)
            continue
        said = refusal(file_columns.check_types, "here", name, column)
        assert said.startswith(
            f"here: column c is {kind.simpleString()}, and a file of {form} cannot hold"
            " it; leave it out, cast it, or use "
        )


@pytest.mark.parametrize(
    ("name", "kind", "way"),
    [
        ("csv", T.ArrayType(INT), "JSON, or F.to_json(column)"),
        ("csv", T.BinaryType(), "JSON, or F.base64(column)"),
        ("json", T.VariantType(), "F.to_json(column), or Parquet"),
        ("orc", T.NullType(), "JSON"),
        ("parquet", T.NullType(), "JSON"),
        ("text", INT, "JSON"),
        ("text", T.BinaryType(), "JSON, or F.base64(column)"),
    ],
    ids=[
        *("nested in csv", "bytes in csv", "variant in json", "void in orc"),
        *("void in parquet", "number in text", "bytes in text"),
    ],
)
def test_a_type_that_a_format_cannot_hold_has_a_way_out(name, kind, way):
    columns = [T.StructField("c", kind)]
    said = refusal(file_columns.check_types, "here", name, columns)
    assert said.endswith(f"; leave it out, cast it, or use {way}")


def test_each_column_is_looked_at_and_text_has_one():
    columns = [T.StructField("s", STRING), T.StructField("t", STRING)]
    said = refusal(file_columns.check_types, "here", "text", columns)
    assert "column s is string, and a file of text (one column, a string)" in said
    columns.append(T.StructField("b", T.BinaryType()))
    said = refusal(file_columns.check_types, "here", "csv", columns)
    assert "column b is binary, and a file of csv" in said
    for name in FORMATS:
        file_columns.check_types("here", name, [])


@pytest.mark.parametrize(
    ("column", "odd"),
    [
        (T.StructField("c`d", INT), "c`d"),
        (T.StructField("c", struct(a=INT, **{"e`f": INT})), "e`f"),
        (T.StructField("c", T.ArrayType(struct(a=struct(**{"`": INT})))), "`"),
        (T.StructField("c`d", struct(**{"e`f": INT})), "c`d"),
    ],
    ids=["of a column", "of a field", "inside of a list", "of both"],
)
def test_a_backtick_in_a_name_is_refused_for_orc_alone(column, odd):
    columns = [T.StructField("fine", INT), column]
    said = refusal(file_columns.check_types, "here", "orc", columns)
    assert said == (
        f"here: column {odd} has a backtick in its name, and Spark reads it from ORC as"
        " NULL; rename it"
    )
    for name in ("json", "parquet"):
        file_columns.check_types("here", name, columns)


def test_a_session_cuts_microseconds_if_it_says_so_in_any_case(spark):
    assert not file_columns.cuts_microseconds(spark)
    for unit, cuts in (("timestamp_millis", True), ("TIMESTAMP_MICROS", False)):
        with in_force(spark, {"spark.sql.parquet.outputTimestampType": unit}):
            assert file_columns.cuts_microseconds(spark) is cuts


def test_the_columns_of_the_files_are_those_that_are_no_folders(spark):
    frame = spark.sql("SELECT 1 AS a, 2 AS Key, 3 AS c")
    names = [
        [field.name for field in file_columns.data_columns(frame, folders)]
        for folders in ((), ("key",), ("C", "A"))
    ]
    assert names == [["a", "Key", "c"], ["a", "c"], ["Key"]]


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        (
            ["no_such"],
            "here: partition_by: there is no column no_such; the columns are",
        ),
        (["s", "S"], "here: partition_by: column s appears twice; rename or drop one"),
        (
            [".h"],
            "here: partition_by column .h makes hidden folders, which readers skip",
        ),
        (
            ["s", "b"],
            "here: partition_by column b is binary, of which no folder has the",
        ),
        (["v"], "here: partition_by column v is void, of which no folder has the name"),
        (
            ["a"],
            "here: partition_by column a is array<int>, of which no folder has the",
        ),
        (
            ["C"],
            "here: partition_by column c is string collate UNICODE, as which Spark",
        ),
    ],
    ids=["no such", "twice", "hidden", "bytes", "void", "a list", "a collation"],
)
def test_a_column_that_is_no_name_of_a_folder_is_refused(spark, folders, words):
    frame = spark.sql(
        "SELECT 's' AS s, 1 AS `.h`, X'00' AS b, NULL AS v, array(1) AS a,"
        " 'c' COLLATE UNICODE AS c"
    )
    assert words in refusal(file_columns.check_folders, "here", frame, folders)
    file_columns.check_folders("here", frame, ["S"])
    file_columns.check_folders("here", frame, [])


def test_a_file_has_at_least_one_column(spark):
    frame = spark.sql("SELECT 1 AS a, 2 AS b")
    file_columns.check_folders("here", frame, ["b"])
    others = ", and a file has rows of the others; leave one in the files"
    said = refusal(file_columns.check_folders, "here", frame, ["a", "B"])
    assert said == f"here: partition_by has each column{others}"
    said = refusal(file_columns.check_folders, "here", frame.select(), [])
    assert said == f"here: the query has no column{others}"


@pytest.mark.parametrize("zone", ["UTC", "Etc/UTC", "Europe/Berlin", "+01:00"])
def test_a_timestamp_is_a_folder_where_the_session_has_utc(spark, zone):
    frame = spark.sql(
        "SELECT now() AS t, localtimestamp() AS u, current_date() AS d, 1 AS n"
    )
    with in_force(spark, {"spark.sql.session.timeZone": zone}):
        file_columns.check_folders("here", frame, ["u", "d"])
        if zone in ("UTC", "Etc/UTC"):
            file_columns.check_folders("here", frame, ["t"])
            return
        said = refusal(file_columns.check_folders, "here", frame, ["t"])
    assert said.startswith(
        "here: partition_by column t is a timestamp, and the name of"
    )
    assert f": in {zone} an hour that comes twice would be one; set spark.sql" in said
