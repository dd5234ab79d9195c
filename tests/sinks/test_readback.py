"""`sinks.readback`: rows as a target holds them, and the values that their texts stand for."""

import json
from datetime import date

import pytest
from pyspark.errors import AnalysisException
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.sinks import readback
from sparkstream_kit.sinks.formats import Format

INT, STRING = T.IntegerType(), T.StringType()
SCHEMA = T.StructType().add("s", STRING).add("n", INT).add("k", STRING)


def form_of(kind, **given):
    return Format(kind, kind, given)


def told(frame):
    return frame.columns, sorted(map(tuple, frame.collect()), key=str)


def type_of(spark, kind):
    return spark.sql(f"SELECT CAST(NULL AS {kind}) AS c").schema["c"].dataType


def put(folder, text, name="part-0"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder


# --- files


def test_csv_is_read_as_texts_under_the_names_of_the_query(spark, tmp_path):
    folder = put(tmp_path / "out", 'x,1,007\n"",,"a\nb"\n')
    rows = readback.of_files(spark, folder, form_of("csv"), SCHEMA)
    assert told(rows) == (["s", "n", "k"], [("", None, "a\nb"), ("x", "1", "007")])
    assert {field.dataType for field in rows.schema} == {STRING}


def test_csv_with_a_header_has_the_names_of_its_files(spark, tmp_path):
    folder = put(tmp_path / "out", "k;s\n1;x\n")
    form = form_of("csv", header=True, sep=";")
    assert told(readback.of_files(spark, folder, form, SCHEMA)) == (
        ["k", "s"],
        [("1", "x")],
    )


@pytest.mark.parametrize(
    ("line", "columns", "row"),
    [
        ("x\n", ["s"], ("x",)),
        ("x,1,a,b\n", ["s", "n", "k", "_c3"], ("x", "1", "a", "b")),
    ],
    ids=["fewer", "more"],
)
def test_csv_can_have_another_number_of_columns_than_the_query(
    spark, tmp_path, line, columns, row
):
    folder = put(tmp_path / "out", line)
    rows = readback.of_files(spark, folder, form_of("csv", header=False), SCHEMA)
    assert told(rows) == (columns, [row])


def test_names_of_folders_are_columns_with_their_texts(spark, tmp_path):
    out = tmp_path / "out"
    put(out / "K=007", "x,1\n")
    rows = readback.of_files(spark, out, form_of("csv"), SCHEMA, ["k"])
    assert told(rows) == (["s", "n", "K"], [("x", "1", "007")])
    text = T.StructType().add("K", STRING).add("s", STRING)
    rows = readback.of_files(spark, out, form_of("text"), text, ["k"])
    assert told(rows) == (["s", "K"], [("x,1", "007")])


@pytest.mark.parametrize("files", [[], ["part-0"]], ids=["no file", "empty files"])
def test_a_folder_without_rows_has_the_columns_of_the_query(spark, tmp_path, files):
    out = tmp_path / "out"
    out.mkdir()
    for name in files:
        put(out, "", name)
    rows = readback.of_files(spark, out, form_of("csv"), SCHEMA)
    assert told(rows) == (["s", "n", "k"], [])
    if files:
        rows = readback.of_files(spark, out, form_of("json"), SCHEMA)
        assert told(rows) == (["s", "n", "k"], [])


def test_a_folder_that_is_not_there_is_no_empty_one(spark, tmp_path):
    with pytest.raises(AnalysisException, match="PATH_NOT_FOUND"):
        readback.of_files(spark, tmp_path / "no", form_of("csv"), SCHEMA)


def test_json_is_read_as_texts_of_json_and_others_with_their_types(spark, tmp_path):
    folder = put(tmp_path / "json", '{"n":1,"s":"1"}\n{"n":null,"o":[1.50]}\n')
    rows = readback.of_files(spark, folder, form_of("json"), SCHEMA)
    assert told(rows) == (
        ["s", "n", "o"],
        [('"1"', "1", None), (None, None, "[1.5]")],
    )
    spark.sql("SELECT 1 AS n, '007' AS k").coalesce(1).write.partitionBy("k").parquet(
        str(tmp_path / "parquet")
    )
    rows = readback.of_files(
        spark, tmp_path / "parquet", form_of("parquet"), SCHEMA, ["k"]
    )
    assert told(rows) == (["n", "k"], [(1, "007")])


def test_a_first_row_of_several_lines_has_all_columns(spark, tmp_path):
    folder = put(tmp_path / "out", '"a\nb",1,2\nx,3,4\n')
    rows = readback.of_files(spark, folder, form_of("csv"), SCHEMA)
    assert told(rows) == (["s", "n", "k"], [("a\nb", "1", "2"), ("x", "3", "4")])


def test_a_path_is_taken_literally(spark, tmp_path):
    put(tmp_path / "a[b]", "x,1,a,more\n")
    put(tmp_path / "ab", "y,2,b\n")
    rows = readback.of_files(spark, tmp_path / "a[b]", form_of("csv"), SCHEMA)
    assert told(rows) == (["s", "n", "k", "_c3"], [("x", "1", "a", "more")])


def test_a_folder_with_a_log_of_spark_has_the_files_that_are_in_it(spark, tmp_path):
    out = put(tmp_path / "a[b]", "x,1,a\n")
    put(out, "y,2,b\n", "part-1")
    entry = {"path": f"file://{tmp_path}/a%5Bb%5D/part-0", "size": 6, "isDir": False}
    entry |= {"modificationTime": 1, "blockReplication": 1, "blockSize": 9}
    put(out / "_spark_metadata", f"v1\n{json.dumps(entry | {'action': 'add'})}", "0")
    rows = readback.of_files(spark, out, form_of("csv"), SCHEMA)
    assert told(rows) == (["s", "n", "k"], [("x", "1", "a")])


@pytest.mark.parametrize("kind", ["csv", "json", "orc", "parquet"])
def test_what_a_comparison_keeps_is_read_back(spark, tmp_path, kind):
    frame = spark.sql("SELECT 'x' AS s, 1 AS n, '007' AS k")
    out = str(tmp_path / "out")
    for form in (form_of(kind), form_of(kind, compression="none")):
        readback.keep_files(frame, out, form, ["k"])  # over what was there
        rows = readback.of_files(spark, out, form, frame.schema, ["k"])
        expected = {"json": ('"x"', "1", "007"), "csv": ("x", "1", "007")}
        assert told(rows)[1] == [expected.get(kind, ("x", 1, "007"))]
    assert [each.name for each in (tmp_path / "out").glob("k*")] == ["k=007"]


def test_what_a_comparison_keeps_is_checked_as_the_session_writes_it(spark, tmp_path):
    frame = spark.sql("SELECT timestamp_micros(1) AS t")
    setting = {"spark.sql.parquet.outputTimestampType": "TIMESTAMP_MILLIS"}
    with (
        in_force(spark, setting),
        pytest.raises(
            Exception, match="the comparison: column t has a time with micro"
        ),
    ):
        readback.keep_files(frame, str(tmp_path / "out"), form_of("parquet"))


def test_a_snapshot_of_csv_has_null_for_empty_texts(spark, tmp_path):
    put(tmp_path, 's,n\n"a ""b""\nc",1\n"",\n', "[1].csv")
    rows = readback.of_csv(spark, tmp_path / "[1].csv")
    assert told(rows) == (["s", "n"], [('a "b"\nc', "1"), (None, None)])


# --- objects of JSON


def test_a_snapshot_of_json_has_a_row_for_each_object(spark):
    text = json.dumps([{"s": "1", "n": None}, {"s": "", "n": 1, "more": {"b": [True]}}])
    assert told(readback.of_json(spark, text, ["n", "s"])) == (
        ["n", "s", "more"],
        [("1", '""', '{"b":[true]}'), (None, '"1"', None)],
    )
    assert told(readback.of_json(spark, "[]", ["n", "s"])) == (["n", "s"], [])


def test_lines_have_a_row_each_and_their_fields_in_order(spark):
    lines = ['{"z":1,"a":"null"}', '{"b":2,"y":null}', '{"z":"null"}']
    assert told(readback.of_lines(spark, lines, ["z", "no", "b"])) == (
        ["z", "b", "a", "y"],
        [
            ('"null"', None, None, None),
            ("1", None, '"null"', None),
            (None, "2", None, None),
        ],
    )
    assert told(readback.of_lines(spark, ["{}"], ["n"])) == ([], [()])
    assert told(readback.of_lines(spark, [], ["n", "s"])) == (["n", "s"], [])


def test_columns_beside_the_objects_stay(spark):
    rows = spark.sql("SELECT 7 AS `k.d`, parse_json('{\"n\":1}') AS sparkstream_row")
    assert told(readback.of_variants(rows, ["k.d", "n"])) == (["n", "k.d"], [("1", 7)])
    none = rows.limit(0)
    assert told(readback.of_variants(none, ["k.d", "n"])) == (["n", "k.d"], [])


# --- the value that a text stands for


@pytest.mark.parametrize(
    ("form", "kind", "texts", "values"),
    [
        ("json", "INT", ["1", '"x"', None, "["], [1, None, None, None]),
        ("json", "STRING", ['"1"', '""', None], ["1", "", None]),
        ("json", "MAP<STRING, INT>", ['{"a":1}', None], [{"a": 1}, None]),
        ("json", "ARRAY<DATE>", ['["2026-01-31"]', None], [[date(2026, 1, 31)], None]),
        ("csv", "STRING", ["x", "", ' a,"b"\n ', None], ["x", "", ' a,"b"\n ', None]),
        ("csv", "INT", ["1", "x", "", None], [1, None, None, None]),
        ("csv", "DATE", ["2026-01-31", None], [date(2026, 1, 31), None]),
        ("text", "INT", ["1", "x", None], [1, None, None]),
        ("text", "STRING", ["1", "", None], ["1", "", None]),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_text_stands_for_a_value_of_its_type_or_for_null(
    spark, form, kind, texts, values
):
    rows = spark.createDataFrame(list(enumerate(texts)), "i INT, s STRING")
    wanted = type_of(spark, kind)
    value = readback.parsed(form, F.col("s"), wanted)
    assert value is not None
    found = rows.select("i", value.alias("c"))
    assert found.schema["c"].dataType == wanted
    assert [row.c for row in found.sort("i").collect()] == values


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        ("json", "MAP<INT, STRING>"),
        ("json", "ARRAY<MAP<DATE, INT>>"),
        ("csv", "ARRAY<INT>"),
        ("csv", "MAP<STRING, INT>"),
        ("csv", "STRUCT<a: INT>"),
        ("csv", "VARIANT"),
        ("csv", "VOID"),
        ("text", "ARRAY<INT>"),
        ("text", "VOID"),
    ],
)
def test_no_text_of_a_form_stands_for_a_value_of_some_types(spark, form, kind):
    wanted = type_of(spark, kind)
    assert readback.parsed(form, F.col("s"), wanted) is None
