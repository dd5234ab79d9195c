"""How `shadow` puts a target's columns beside those of a changed query, part by part.

`test_checkpoints_values` does so with what each sink writes.
"""

import pytest
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._internal.columns import column
from sparkstream_kit.checkpoints.operate.alignment import (
    _as,
    _common,
    _readable,
    _said_by_the_target,
    side_by_side,
)
from sparkstream_kit.sinks.base import OTHER_TYPE, Form

BYTE, SHORT, INT, LONG = T.ByteType(), T.ShortType(), T.IntegerType(), T.LongType()
FLOAT, DOUBLE, TEXT, DATE = T.FloatType(), T.DoubleType(), T.StringType(), T.DateType()


def decimal(precision, scale):
    return T.DecimalType(precision, scale)


def struct(**fields):
    return T.StructType([T.StructField(name, kind) for name, kind in fields.items()])


# The type of each of two columns, and the one that has the values of both
COMMON: dict[str, tuple[T.DataType, T.DataType, T.DataType | None]] = {
    "the same": (TEXT, TEXT, TEXT),
    "bytes and shorts": (BYTE, SHORT, decimal(5, 0)),
    "shorts and bytes": (SHORT, BYTE, decimal(5, 0)),
    "shorts and ints": (SHORT, INT, decimal(10, 0)),
    "ints and longs": (INT, LONG, decimal(19, 0)),
    "a byte with decimals": (BYTE, decimal(2, 1), decimal(4, 1)),
    "an int with decimals": (decimal(5, 2), INT, decimal(12, 2)),
    "an int with a longer decimal": (INT, decimal(14, 3), decimal(14, 3)),
    "digits before and after the point": (decimal(5, 2), decimal(4, 3), decimal(6, 3)),
    "the most digits": (LONG, decimal(20, 19), decimal(38, 19)),
    "numbers below 1": (decimal(2, 2), decimal(3, 3), decimal(3, 3)),
    "a digit too many": (LONG, decimal(21, 20), None),
    "a whole number and a double": (LONG, DOUBLE, DOUBLE),
    "a float and a decimal": (FLOAT, decimal(5, 2), DOUBLE),
    "a float and a double": (FLOAT, DOUBLE, DOUBLE),
    "a number and a text": (INT, TEXT, None),
    "a text and a number": (TEXT, INT, None),
    "a day and a text": (DATE, TEXT, None),
    "lists of numbers": (T.ArrayType(INT), T.ArrayType(DOUBLE), T.ArrayType(DOUBLE)),
    "lists of two kinds": (T.ArrayType(INT), T.ArrayType(TEXT), None),
    "a list and its element": (T.ArrayType(INT), INT, None),
    "an element and its list": (INT, T.ArrayType(INT), None),
    "fields": (
        struct(a=INT, b=TEXT),
        struct(a=DOUBLE, b=TEXT),
        struct(a=DOUBLE, b=TEXT),
    ),
    "fields of two kinds": (struct(a=INT, b=TEXT), struct(a=INT, b=INT), None),
    "other fields": (struct(a=INT), struct(b=INT), None),
    "a field more": (struct(a=INT), struct(a=INT, b=INT), None),
    "fields in another order": (struct(a=INT, b=TEXT), struct(b=TEXT, a=INT), None),
    "fields and a text": (struct(a=INT), TEXT, None),
    "a text and fields": (TEXT, struct(a=INT), None),
}


@pytest.mark.parametrize("case", COMMON)
def test_two_types_have_a_common_one_if_it_keeps_each_value(case):
    one, other, common = COMMON[case]
    assert _common(one, other) == common


def test_of_two_equal_types_that_of_the_query_counts():
    ours = T.ArrayType(INT, containsNull=False)
    assert _common(T.ArrayType(INT), ours) is ours


def typed(spark, **kinds):
    """Return no rows, of columns that a target says to have with another type."""
    fields = [T.StructField(name, TEXT, True, said) for name, said in kinds.items()]
    return spark.createDataFrame([], T.StructType(fields))


def said(fits, what):
    return {OTHER_TYPE: {"fits": fits, "is": what}}


def test_what_a_target_says_of_its_types_is_told_apart(spark):
    old = typed(spark, a=said(True, "x"), b=said(False, "y"), c={}, d=said(False, "z"))
    assert _said_by_the_target(old, ["a", "b", "c"]) == ({"b": "y"}, {"a": "x"})


def test_a_note_of_a_column_with_two_types_is_left_out(spark, tmp_path):
    old = typed(spark, a=said(True, "x"), b=said(True, "y"), c=said(False, "z"))
    new = spark.createDataFrame([], struct(a=TEXT, b=DATE, c=TEXT))
    sides = side_by_side(old, new, new.schema, ["a", "b", "c"], None, str(tmp_path))
    assert sides.notes == ("column a is x",)
    assert sides.types == (
        "column c is z",
        "column b is string in the target, and date in the changed query",
    )
    assert sides.incomparable == ("b",)
    assert sides.old.columns == sides.new.columns == ["a", "b", "c"]
    assert {field.dataType for field in sides.old.schema} == {TEXT}


def test_values_are_compared_in_their_common_type_and_maps_as_texts(spark):
    rows = spark.sql("SELECT 1 AS `a n`, map('k', 1) AS m, array(map('k', 2)) AS l")
    by_type = rows.schema
    columns = [
        _as("a n", None),
        _as("a n", DOUBLE).alias("d"),
        _as("m", by_type["m"].dataType),
        _as("l", by_type["l"].dataType),
        _as("l", None).alias("t"),
    ]
    [row] = rows.select(columns).collect()
    assert row.asDict() == {
        "a n": "1",
        "d": 1.0,
        "m": '{"k":1}',
        "l": '[{"k":2}]',
        "t": "[{k -> 2}]",
    }
    assert isinstance(row.d, float)


# --- targets of texts


def as_texts(rows, _folder):
    """Write each value as its text, money with its currency, and one column as it is."""

    def written(name):
        value = column(name)
        if name == "typed":
            return value
        if name in {"price", "tax"}:
            value = F.concat(value.cast("string"), F.lit(" EUR"))
        return value.cast("string").alias(name)

    return rows.select([written(name) for name in rows.columns])


def test_texts_are_values_where_each_is_one_that_the_sink_writes(spark, tmp_path):
    new = spark.sql(
        "SELECT 1 AS `the n`, 2 AS m, '3' AS s, array(4) AS l, 5 AS price, 6 AS tax, 7 AS k,"
        " 8 AS typed, 9 AS only_here"
    )
    old = spark.sql(
        "SELECT '1' AS `the n`, '02' AS m, '3' AS s, '[4]' AS l, '5 EUR' AS price,"
        " string(NULL) AS tax, 7 AS k, '8' AS typed"
    )
    form = Form(as_texts, "text")
    sides = side_by_side(old, new, new.schema, old.columns, form, str(tmp_path))
    assert sides.types == (
        "column m is int in the changed query, and the target has other values",
        "column k is int in the target, and string in the changed query",
        "column typed is string in the target, and int in the changed query",
    )
    [theirs], [ours] = sides.old.collect(), sides.new.collect()
    assert [*theirs] == [1, "02", "3", "[4]", "5 EUR", None, "7", "8"]
    assert [*ours] == [1, "2", "3", "[4]", "5 EUR", "6 EUR", "7", "8"]
    assert sides.incomparable == ("k", "typed")


def nothing_written(*_):
    raise AssertionError


def test_texts_of_texts_are_not_read(spark):
    rows = spark.createDataFrame([], struct(s=TEXT, l=TEXT))
    schema = struct(s=TEXT, l=T.ArrayType(INT))
    form = Form(nothing_written, "text")
    found = _readable(rows, rows, schema, ["s", "l"], form, "nowhere")
    assert (found.values, found.differences) == ({}, {})


def test_a_text_in_json_is_a_value(spark, tmp_path):
    rows = spark.sql("""SELECT '"a"' AS s""")

    def quoted(texts, _folder):
        return texts.select(F.concat(F.lit('"'), "s", F.lit('"')).alias("s"))

    form = Form(quoted, "json")
    found = _readable(rows, rows, struct(s=TEXT), ["s"], form, str(tmp_path))
    assert (found.values, found.differences) == ({"s": TEXT}, {})
