"""The values of a line of CSV and of JSON, by the readers themselves and without their rows."""

import json
from typing import Any

import pytest
from conftest import refusal
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.quarantine import parse_csv
from sparkstream_kit.quarantine.lines import (
    _can_hold,
    _has_other_number,
    _is_name,
    _json_fields,
    _json_value,
    _piece_or_null,
    _read_csv,
    _read_json,
    _Settings,
    _settings,
    _typed_columns,
    scalar,
    schema_for,
)
from sparkstream_kit.schemas import from_ddl

ISO = _Settings(None, None, [])


def lines_of(spark, *lines):
    return spark.createDataFrame([(line,) for line in lines], "_raw STRING")


def kind_of(ddl):
    return from_ddl(f"c {ddl}")[0].dataType


# --- what is asked for


@pytest.mark.parametrize(
    ("kind", "also", "expected"),
    [
        (T.StringType(), (), True),
        (T.TimestampType(), (), True),
        (T.BinaryType(), (), False),
        (T.BinaryType(), (T.BinaryType,), True),
        (T.ArrayType(T.LongType()), (), False),
        (T.ArrayType(T.LongType()), (T.ArrayType,), True),
        (T.MapType(T.StringType(), T.LongType()), (), False),
        (T.MapType(T.StringType(), T.LongType()), (T.MapType,), True),
        (T.MapType(T.LongType(), T.LongType()), (T.MapType,), False),
    ],
)
def test_a_format_holds_what_text_can_say_and_its_own_types(kind, also, expected):
    assert _can_hold(kind, also) is expected


def test_a_schema_is_taken_whose_types_the_format_can_hold(spark):
    frame = spark.range(1)
    nested = "a INT NOT NULL, s STRUCT<x: ARRAY<INT>, y: STRING>"
    also = (T.StructType, T.ArrayType)
    assert schema_for(frame, "Form", nested, "mend it", also) == from_ddl(nested)
    assert schema_for(frame, "Form", from_ddl("a INT"), "mend it", ()) == from_ddl(
        "a INT"
    )
    said = refusal(schema_for, frame, "Form", nested, "mend it", (T.StructType,))
    assert said == "column s: Form cannot hold array<int>; mend it"
    twice = "b INT, s STRUCT<x: INT, X: INT>"
    said = refusal(schema_for, frame, "Form", twice, "mend it", also)
    assert said == "column s: its field x appears twice; rename or drop one"
    with in_force(spark, {"spark.sql.caseSensitive": "true"}):
        assert schema_for(frame, "Form", twice, "mend it", also) == from_ddl(twice)


def test_a_pattern_is_for_its_type_alone():
    settings = _Settings("d.M.yyyy", "H:mm", [])
    assert settings.pattern_of(T.DateType()) == "d.M.yyyy"
    assert settings.pattern_of(T.TimestampType()) == "H:mm"
    assert settings.pattern_of(T.TimestampNTZType()) is None
    assert settings.pattern_of(T.StringType()) is None


def test_patterns_and_texts_for_a_missing_value_are_looked_at(spark):
    both = from_ddl("d DATE, s STRUCT<t: TIMESTAMP>")
    found = _settings(spark, both, "d.M.yyyy", "H:mm", "NA")
    assert found == _Settings("d.M.yyyy", "H:mm", ["NA"])
    assert _settings(spark, both, None, None, ()) == ISO
    assert _settings(spark, both, None, None, ("NA", "-")).nulls == ["NA", "-"]
    fix = "write it as Spark does: 'yyyy-MM-dd HH:mm:ss'"
    said = refusal(_settings, spark, both, "%d.%m.%Y", None, ())
    assert said == f"date_format is '%d.%m.%Y'; {fix}"
    said = refusal(_settings, spark, both, None, "YYYY-MM-dd", ())
    assert said == f"timestamp_format is 'YYYY-MM-dd'; {fix}"
    with in_force(spark, {"spark.sql.legacy.timeParserPolicy": "LEGACY"}):
        assert _settings(spark, both, None, None, ()) == ISO
        dates, times = from_ddl("d DATE"), from_ddl("t TIMESTAMP")
        assert _settings(spark, times, "d.M.yyyy", None, ()).date_format == "d.M.yyyy"
        assert _settings(spark, dates, None, "H:mm", ()).timestamp_format == "H:mm"
        said = refusal(_settings, spark, dates, "d.M.yyyy", None, ())
        assert said.startswith("the pattern 'd.M.yyyy': the session's spark.sql.")
        said = refusal(_settings, spark, times, "d.M.yyyy", "H:mm", ())
        assert said.startswith("the pattern 'H:mm': the session's spark.sql.")


def test_a_header_is_looked_for_only_where_asked_for(spark, folder):
    (folder / "a.csv").write_text("k,n\n")
    mixed = spark.read.text(str(folder)).repartition(2)
    assert parse_csv(mixed, "k STRING, n INT").columns[:2] == ["k", "n"]
    assert "another step (Repartition)" in refusal(
        parse_csv, mixed, "k STRING, n INT", header=True
    )


# --- CSV


def test_the_columns_that_are_no_text_and_a_name_of_a_column(spark):
    assert _typed_columns(from_ddl("a STRING, b INT, c STRING, d DATE")) == [1, 3]
    names = {"k": True, " K ": True, "": False, "x": False, None: False}
    rows = lines_of(spark, *names).select("_raw", _is_name(F.col("_raw"), "K"))
    assert dict(rows.collect()) == names


def test_each_value_of_a_line_is_typed_or_the_first_wrong_one_is_the_reason(spark):
    schema = from_ddl("a INT, b STRING NOT NULL, c DATE, d INT NOT NULL")
    settings = _Settings("d.M.yy", None, ["NA", "-"])
    expected = {
        "1,x,29.2.24,2": (None, ["1", "x", "2024-02-29", "2"]),
        ",x,,2": (None, [None, "x", None, "2"]),
        "NA,x,-,2": (None, [None, "x", None, "2"]),
        "n,x,y,z": ("a: not an int", None),
        "1, ,y,2": ("b: empty", None),
        "1,NA,y,2": ("b: empty", None),
        "1,x,30.2.24,2": ("c: not a date", None),
        "1,x,29.2.24,": ("d: empty", None),
        "1,x,29.2.24, ": ("d: not an int", None),
        "1,x,29.2.24": ("not 4 fields", None),
        "1;x;29.2.24;2": ("not 4 fields; give sep=';'", None),
        'x,"': ("unbalanced quote", None),
    }
    lines = lines_of(spark, *expected)
    frame, reason, _ = _read_csv(lines, schema, settings, ",", header=False)
    values = F.array(*[F.col(f"_v{index}").cast("string") for index in range(4)])
    rows = frame.select("_raw", reason.alias("why"), values.alias("values")).collect()
    assert {
        row["_raw"]: (row["why"], None if row["why"] else row["values"]) for row in rows
    } == expected


LIKE = "like a header"
# The columns, and each line with its reason and what it says of a header: where no
# header is looked for, and where one is, of lines that come from no file.
HEADERS: dict[str, Any] = {
    "two columns that are no text": (
        "a INT, b DATE, c STRING",
        {
            "1,2024-01-31,x": ((None, None), (None, None)),
            "m,n,o": (("a: not an int", False), ("a: not an int", False)),
            "m,2024-01-31,x": (("a: not an int", None), ("a: not an int", None)),
            "m,7,x": (("a: not an int", None), ("a: not an int", None)),
            "a,b,c": (("a: not an int", False), (None, True)),
            "A, b ,C": (("a: not an int", False), (None, True)),
        },
    ),
    "one column that is no text": (
        "a INT, b STRING",
        {
            "m,n": (("a: not an int", None), ("a: not an int", None)),
            "m,b": (("a: not an int", None), ("a: not an int", False)),
            "b,a": (("a: not an int", None), ("a: not an int", False)),
            "b,b": (("a: not an int", None), ("a: not an int", False)),
            "a,b": (("a: not an int", False), (None, True)),
            "a,b,c": (("not 2 fields", None), ("not 2 fields", False)),
            "7a,b": (("a: not an int", None), ("a: not an int", None)),
            "7,b": ((None, None), (None, None)),
        },
    ),
    "text alone": (
        "a STRING, b STRING",
        {
            "a,b": ((LIKE, False), (None, True)),
            "b,a": ((None, None), (LIKE, False)),
            "a,x": ((None, None), (LIKE, False)),
            "x,a": ((None, None), (None, None)),
            "x,y": ((None, None), (None, None)),
            ",b": ((None, None), (None, True)),
        },
    ),
    "one column of text": (
        "a STRING",
        {"a": ((None, None), (None, True)), "x": ((None, None), (None, None))},
    ),
    "one column": (
        "a INT",
        {
            "a": (("a: not an int", None), (None, True)),
            "x": (("a: not an int", None), ("a: not an int", None)),
        },
    ),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_line_looks_like_a_header_by_words_and_by_names(spark, case):
    ddl, expected = HEADERS[case]
    for number, header in enumerate((False, True)):
        frame, reason, is_header = _read_csv(
            lines_of(spark, *expected), from_ddl(ddl), ISO, ",", header=header
        )
        assert is_header is not None
        rows = frame.select("_raw", reason, is_header).collect()
        assert {line: (why, is_it) for line, why, is_it in rows} == {
            line: of_both[number] for line, of_both in expected.items()
        }


# The columns; and the lines of files in their order: the file, and the reason and what
# the line says of a header.
PLACED: dict[str, Any] = {
    "a header": (
        "k STRING, n INT",
        [
            ("K,n", 1, (None, True)),
            ("a,1", 1, (None, None)),
            ("a,x", 1, ("n: not an int", None)),
            ("k,n", 1, ("n: not an int", None)),
        ],
    ),
    "no header": (
        "k STRING, n INT",
        [("a,1", 1, (None, False)), ("b,2", 1, (None, None))],
    ),
    "a first row with the name of a column": (
        "k STRING, n INT",
        [("n,1", 1, ("not the header of the schema", False))],
    ),
    "a first row that is bad": (
        "k STRING, n INT, m INT",
        [
            ("a,1,x", 1, ("not the header of the schema", False)),
            ("a,1,2", 1, ("its file has another header", None)),
        ],
    ),
    "a first row that another separator splits as often": (
        "k STRING, n INT",
        [("a;b,1", 1, ("not the header of the schema; give sep=';'", False))],
    ),
    "text alone": (
        "k STRING, n STRING",
        [
            ("a,1", 1, ("not the header of the schema", False)),
            ("k,n", 2, (None, True)),
            ("n,k", 2, (LIKE, None)),
            ("x,y", 2, (None, None)),
        ],
    ),
}


@pytest.mark.parametrize("case", PLACED)
def test_of_a_file_the_first_line_is_the_header(spark, case):
    ddl, expected = PLACED[case]
    schema = "_raw STRING, _file STRING, _block STRUCT<file: BIGINT, is_whole: BOOLEAN>"
    lines = [(raw, "file:/in", (file, True)) for raw, file, _ in expected]
    frame = spark.createDataFrame(lines, schema).coalesce(1)
    frame, reason, is_header = _read_csv(frame, from_ddl(ddl), ISO, ",", header=True)
    assert is_header is not None
    rows = frame.select("_raw", "_block.file", reason, is_header).collect()
    assert [(raw, file, (why, is_it)) for raw, file, why, is_it in rows] == expected


# --- JSON


def test_an_object_is_split_into_its_fields():
    names = T.StructType().add("a.b", "long").add("c`d", "string")
    assert _json_fields(names) == "STRUCT<`a.b`: VARIANT, `c``d`: VARIANT>"


# A type, a pattern, and whether zeros may follow; and each value of JSON as text, with
# None where it is no such value.
SCALARS: dict[str, Any] = {
    "INT": (
        ("INT", None, False),
        {"1": "1", "-1": "-1", "1.0": None, "1e0": None, '"1"': None, "true": None,
         "2147483648": None, "null": None, "[1]": None},
    ),
    "BIGINT": (
        ("BIGINT", None, False),
        {"9223372036854775807": "9223372036854775807", "9223372036854775808": None},
    ),
    "BOOLEAN": (
        ("BOOLEAN", None, False),
        {"true": "true", "false": "false", "1": None, '"true"': None},
    ),
    "DOUBLE": (
        ("DOUBLE", None, False),
        {"1": "1.0", "1.5": "1.5", "1e3": "1000.0", "1e400": None, '"1.5"': None,
         "true": None},
    ),
    "FLOAT": (
        ("FLOAT", None, False), {"0.5": "0.5", "1e38": "1.0E38", "1e39": None},
    ),
    "DECIMAL": (
        ("DECIMAL(5,2)", None, False),
        {"7": "7.00", "7.5": "7.50", "7.55": "7.55", "7.505": None, "1000": None,
         "0E-8": "0.00", "0.0e0": "0.00", "1e0": None, "1e-9": None, '"7.50"': "7.50",
         '"7.505"': None, '"x"': None, "true": None},
    ),
    "STRING": (("STRING", "yyyy", False), {'"a"': "a", '""': "", "5": None, "{}": None}),
    "DATE": (
        ("DATE", None, False),
        {'"2024-02-29"': "2024-02-29", '"2024-02-29T00:00"': None, "20240229": None},
    ),
    "DATE that zeros may follow": (
        ("DATE", None, True),
        {'"2024-02-29T00:00"': "2024-02-29", '"2024-02-29T00:01"': None},
    ),
    "DATE by a pattern": (
        ("DATE", "d.M.yyyy", False),
        {'"29.2.2024"': "2024-02-29", '"2024-02-29"': None},
    ),
    "TIMESTAMP": (
        ("TIMESTAMP", None, False),
        {'"2024-02-29T10:00:00.123456Z"': "2024-02-29 10:00:00.123456",
         '"2024-02-29T10:00:00.1234560Z"': None,
         "1700000000": "2023-11-14 22:13:20", "1.5": None, "true": None},
    ),
    "TIMESTAMP that zeros may follow": (
        ("TIMESTAMP", None, True),
        {'"2024-02-29T10:00:00.1234560Z"': "2024-02-29 10:00:00.123456"},
    ),
    "TIMESTAMP by a pattern": (
        ("TIMESTAMP", "yyyy", False),
        {'"2024"': "2024-01-01 00:00:00", "2024": None, '"2024-02-29"': None},
    ),
    "TIMESTAMP_NTZ": (
        ("TIMESTAMP_NTZ", None, True),
        {'"2024-02-29T10:00:00.1234560"': "2024-02-29 10:00:00.123456", "5": None},
    ),
    "VARIANT": (("VARIANT", None, False), {"5": "5", '"a"': "a", "null": None}),
}  # fmt: skip


@pytest.mark.parametrize("case", SCALARS)
def test_a_value_of_json_is_exactly_of_the_type_or_null(spark, case):
    (ddl, pattern, zeros), expected = SCALARS[case]
    piece = F.parse_json("_raw")
    value = scalar(piece, kind_of(ddl), pattern, zeros=zeros).cast("string")
    assert dict(lines_of(spark, *expected).select("_raw", value).collect()) == expected


# A type, whether null is allowed; and each value of JSON with what is read of it, as
# JSON, and whether that is exact.
NESTED: dict[str, Any] = {
    "a number": (
        "INT", True, {"1": (1, True), "1.5": (None, False), "null": (None, True)},
    ),
    "a number that is not null": (
        "INT", False, {"1": (1, True), "1.5": (None, False), "null": (None, False)},
    ),
    "a date outside the years of Python": (
        "DATE", True, {'"2024-02-29"': ("2024-02-29", True),
                       '"0000-01-01"': ("0000-01-01", False)},
    ),
    "a struct": (
        "STRUCT<a: INT NOT NULL, b: STRING>", True,
        {'{"a": 1, "b": "x", "c": 2}': ({"a": 1, "b": "x"}, True),
         '{"a": 1}': ({"a": 1, "b": None}, True),
         '{"a": 1, "b": "NA"}': ({"a": 1, "b": None}, True),
         '{"b": "x"}': ({"a": None, "b": "x"}, False),
         '{"a": 1, "b": 2}': ({"a": 1, "b": None}, False),
         "[]": (None, False), "null": (None, True)},
    ),
    "a struct that is not null": (
        "STRUCT<a: INT>", False, {"{}": ({"a": None}, True), "null": (None, False)},
    ),
    "an array": (
        "ARRAY<INT>", True,
        {"[]": ([], True), "[1, null]": ([1, None], True),
         '[1, "NA"]': ([1, None], True), '[1, "x"]': ([1, None], False),
         "{}": (None, False), "null": (None, True)},
    ),
    "a map": (
        "MAP<STRING, INT>", True,
        {"{}": ({}, True), '{"a": 1, "b": null}': ({"a": 1, "b": None}, True),
         '{"a": "NA"}': ({"a": None}, True), '{"a": 1.5}': ({"a": None}, False),
         "[]": (None, False), "null": (None, True)},
    ),
    "structs in an array": (
        "ARRAY<STRUCT<d: DATE>>", True,
        {'[{"d": "29.2.24"}, {}, null]': (
            [{"d": "2024-02-29"}, {"d": None}, None], True),
         '[{"d": "2024-02-29"}]': ([{"d": None}], False)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NESTED)
def test_all_that_is_inside_a_value_of_json_is_exact_or_the_value_is_not(spark, case):
    ddl, nullable, expected = NESTED[case]
    pattern = "d.M.yy" if "structs" in case else None
    settings = _Settings(pattern, None, ["NA"])
    piece = F.parse_json("_raw")
    value, is_exact = _json_value(piece, kind_of(ddl), settings, nullable=nullable)
    whole = F.to_json(F.struct(value.alias("v")), {"ignoreNullFields": "false"})
    rows = lines_of(spark, *expected).select(
        "_raw", whole, F.coalesce(is_exact, F.lit(False))
    )
    assert {
        line: (json.loads(found)["v"], exact) for line, found, exact in rows.collect()
    } == expected


@pytest.mark.parametrize(
    ("ddl", "bad"), [("ARRAY<INT>", "[null]"), ("MAP<STRING, INT>", '{"a": null}')]
)
def test_a_null_inside_is_not_exact_where_the_type_has_none(spark, ddl, bad):
    kind = kind_of(ddl)
    for name in ("containsNull", "valueContainsNull"):
        if hasattr(kind, name):
            setattr(kind, name, False)
    _, is_exact = _json_value(F.parse_json("_raw"), kind, ISO)
    assert lines_of(spark, bad).select(is_exact).collect() == [(False,)]


def test_only_the_texts_for_a_missing_value_are_null(spark):
    read = {
        '"NA"': None,
        '"-"': None,
        '"x"': '"x"',
        "5": "5",
        "null": "null",
        "[]": "[]",
    }
    piece = _piece_or_null(F.parse_json("_raw"), _Settings(None, None, ["NA", "-"]))
    rows = lines_of(spark, *read).select("_raw", F.to_json(piece)).collect()
    assert dict(rows) == read
    piece = _piece_or_null(F.parse_json("_raw"), ISO)
    rows = lines_of(spark, '"NA"').select(F.to_json(piece)).collect()
    assert rows == [('"NA"',)]


def test_a_number_that_variant_would_round_is_found_but_not_in_a_text(spark):
    changed = {
        "[]": False,
        "12345678901234567890123456789012345678": False,
        "123456789012345678901234567890123456789": True,
        "0.1234567890123456789012345678901234567": False,
        "0.12345678901234567890123456789012345678": True,
        "1.2345678901234567e3": False,
        "1.23456789012345678e3": True,
        "2.2250738585072014e-308": False,  # the smallest double of full precision
        "2.2250738585072009E-308": True,
        "1e400": True,
        "-1e400": True,
        "0e400": False,
        "1e-400": True,
        '{"1e400": "1e400", "a": "\\"1e400"}': False,
        '{"a": [1, {"b": "x\\\\"}, 1e400]}': True,
    }
    rows = lines_of(spark, *changed).select("_raw", _has_other_number(F.col("_raw")))
    assert dict(rows.collect()) == changed


NO_JSON, NO_OBJECT = "not valid JSON, or a field twice", "not one JSON object"
PART = "a part of JSON over several lines"


def test_each_line_of_json_is_one_object_or_says_why_not(spark):
    schema = from_ddl("a INT NOT NULL, b ARRAY<INT>, c DATE")
    settings = _Settings("d.M.yy", None, ["NA"])
    expected = {
        '{"a": 1}': (None, "1", None, None),
        '{"a": 1, "b": [2], "c": "29.2.24"}': (None, "1", "[2]", "2024-02-29"),
        '{"a": 1, "b": "NA", "c": "NA"}': (None, "1", None, None),
        '{"a": 1, "b": [2.5]}': ("b: not an array<int>", "1", None, None),
        '{"a": 1, "c": "2024-02-29"}': ("c: not a date", "1", None, None),
        '{"a": 1.5}': ("a: not an int", None, None, None),
        '{"a": "NA"}': ("a: missing", None, None, None),
        "{}": ("a: missing", None, None, None),
        " ": ("a blank line", None, None, None),
        '{"a": 1},': (PART, None, None, None),
        "}": (PART, None, None, None),
        "x": (NO_JSON, None, None, None),
        '{"a": 1, "a": 1}': (NO_JSON, None, None, None),
        '{"a": 1}, {"a": 2}': (NO_OBJECT, "1", None, None),
        "[1]": (NO_OBJECT, None, None, None),
        None: (NO_JSON, None, None, None),
    }
    lines = lines_of(spark, *expected)
    frame, reason, header = _read_json(lines, schema, settings, refuse_unknown=False)
    assert header is None
    values = [F.col(f"_v{index}").cast("string") for index in range(3)]
    rows = frame.select("_raw", reason, *values).collect()
    assert {row[0]: tuple(row)[1:] for row in rows} == expected


def test_what_a_line_may_not_have_depends_on_what_is_asked_for(spark):
    unknown = "a field that the schema does not have"
    number = "a number that VARIANT cannot hold"
    # By the schema, and whether an unknown field is refused
    expected = {
        '{"a": 1}': (None, None, None),
        '{"a": 1, "b": 2}': (None, unknown, None),
        '{"A": 1}': (None, unknown, None),
        '{"a": 1, "b": 1e400}': (None, unknown, number),
    }
    asked = [("a INT", False), ("a INT", True), ("a VARIANT", False)]
    found: dict[str, list[str | None]] = {line: [] for line in expected}
    for ddl, refuse in asked:
        frame, reason, _ = _read_json(
            lines_of(spark, *expected), from_ddl(ddl), ISO, refuse_unknown=refuse
        )
        for line, why in frame.select("_raw", reason).collect():
            found[line].append(why)
    assert {line: tuple(reasons) for line, reasons in found.items()} == expected


def test_a_line_of_json_that_is_not_valid_utf_8_says_so(spark):
    line = spark.createDataFrame([(b'{"a": "\xff"}',)], "b BINARY")
    frame, reason, _ = _read_json(
        line.selectExpr("CAST(b AS STRING) AS _raw"),
        from_ddl("a STRING"),
        ISO,
        refuse_unknown=False,
    )
    assert frame.select(reason).collect() == [("not valid UTF-8",)]
