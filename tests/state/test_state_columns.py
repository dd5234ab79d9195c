"""The columns of `state` on static frames, without a processor: where they are, and packed."""

from datetime import date, datetime

import pytest
from conftest import refusal
from pyspark.sql import functions as F

from sparkstream_kit.state import as_of
from sparkstream_kit.state.processor import (
    _columns_to_add,
    _one_stream,
    _sides,
    packed,
    place_of,
    place_of_time,
    places_of_keys,
    unpacked,
)

NOON = datetime(2024, 2, 29, 12)  # noqa: DTZ001 - in UTC
MICROS = 1_709_208_000_000_000  # the same, since 1970
DAY, DAYS = date(1970, 1, 11), 10


def empty(spark, ddl):
    return spark.createDataFrame([], ddl)


def test_a_column_is_found_by_its_name_without_case_once(spark):
    frame = empty(spark, "k STRING, `a.b` INT, time TIMESTAMP, n INT")
    assert [place_of("call()", frame, name) for name in ("K", "a.b", "N")] == [0, 1, 3]
    assert places_of_keys("call()", frame, "n") == [3]
    assert places_of_keys("call()", frame, ("n", "k")) == [3, 0]
    assert place_of_time("call()", frame, "TIME") == 2
    twice = frame.select("k", "n", F.lit(1).alias("n"))
    said = "call(): two columns are named n; rename one of them"
    assert refusal(place_of, "call()", twice, "n") == said
    said = "call() needs at least one key; give the columns that tell rows apart"
    assert refusal(places_of_keys, "call()", frame, []) == said
    said = refusal(place_of_time, "call()", frame, "n")
    assert said.startswith("call(): event-time column n is int, not a timestamp")


def test_times_are_whole_numbers_on_the_way_to_python_and_back(spark):
    ddl = (
        "time TIMESTAMP, `a day` DATE, s STRUCT<t: TIMESTAMP, n: INT>,"
        " list ARRAY<DATE>, m MAP<STRING, TIMESTAMP>, text STRING"
    )
    row = (NOON, DAY, (NOON, 5), [DAY, None], {"a": NOON}, "x")
    frame = spark.createDataFrame([row, (None,) * 6], ddl)
    to_python = packed(frame)
    assert to_python.dtypes == [
        ("c0", "bigint"),
        ("c1", "int"),
        ("c2", "struct<t:bigint,n:int>"),
        ("c3", "array<int>"),
        ("c4", "map<string,bigint>"),
        ("c5", "string"),
    ]
    assert to_python.collect() == [
        (MICROS, DAYS, (MICROS, 5), [DAYS, None], {"a": MICROS}, "x"),
        (None,) * 6,
    ]
    back = to_python.select(*unpacked(to_python.columns, frame.schema))
    assert back.dtypes == frame.dtypes
    assert back.collect() == frame.collect()


def test_a_watermark_stays_with_the_time_alone_and_comes_back(stream):
    frame = (
        stream("n INT, time TIMESTAMP, at TIMESTAMP")
        .to_df()
        .withWatermark("time", "1 minute")
    )
    mark = {"spark.watermarkDelayMs": 60_000}
    for timed_by, kept in ((1, [{}, mark, {}]), (None, [{}] * 3), (2, [{}] * 3)):
        rows = packed(frame, timed_by)
        assert [field.metadata for field in rows.schema] == kept
        back = rows.select(*unpacked(rows.columns, frame.schema))
        assert [field.metadata for field in back.schema] == [{}, mark, {}]


@pytest.mark.parametrize(
    ("key", "columns", "expected"),
    [
        ("k", None, ["b", "c"]),
        (["K", "b"], None, ["c"]),
        ("k", "c", ["c"]),
        ("k", ("c", "b"), ["c", "b"]),
        ("k", [], []),
    ],
)
def test_all_columns_are_added_but_the_keys_and_the_time(spark, key, columns, expected):
    right = empty(spark, "k STRING, time TIMESTAMP, b INT, c INT")
    assert _columns_to_add(right, key, "TIME", columns) == expected


LEFT, RIGHT = "n INT, time TIMESTAMP, k STRING", "price INT, k STRING, time TIMESTAMP"


def test_both_frames_of_as_of_are_one_with_the_sides(spark):
    left = spark.createDataFrame([(7, NOON, "a")], LEFT)
    right = spark.createDataFrame([(9, "a", NOON)], RIGHT)
    sides = _sides("as_of()", left, right, "k", "time", None)
    assert sides.added == ["last_time", "price"]
    assert sides.right.columns == ["time", "price", "k"]
    assert (sides.left_places, sides.right_places) == ([2, 1], [2, 0])
    both = _one_stream(sides)
    assert both.columns == ["side", "c0", "c1", "c2", "r0", "r1"]
    assert both.collect() == [
        (1, 7, MICROS, "a", None, None),
        (0, None, MICROS, "a", MICROS, 9),
    ]


def test_two_frames_that_do_not_fit_are_refused(spark):
    left, right = empty(spark, LEFT), empty(spark, RIGHT)

    def said(left, right, key="k", columns=None):
        return refusal(as_of, left, right, key, "time", columns)

    assert said(left, right.withColumn("k", F.lit(1))) == (
        "as_of(): column k is string on the left and int on the right; cast one of them"
    )
    assert "column n exists already" in said(
        left, right.withColumnRenamed("price", "N")
    )
    assert "there is no column prise" in said(left, right, columns="prise")
    assert "there is no column price" in said(left, right, key=["k", "price"])
    assert "column time is string" in said(left.withColumn("time", F.lit("")), right)
    assert "column time is string" in said(left, right.withColumn("time", F.lit("")))


def test_a_stream_and_a_static_frame_are_refused(spark, stream):
    streaming = stream(RIGHT).to_df().withWatermark("time", "1 minute")
    assert refusal(as_of, empty(spark, LEFT), streaming, "k", "time") == (
        "as_of() takes two streams or two static frames; use a join for one of each"
    )


def test_the_result_of_as_of_has_the_left_columns_and_those_that_are_added(spark):
    left, right = empty(spark, LEFT), empty(spark, RIGHT)
    assert as_of(left, right, "k", "time").dtypes == [
        ("n", "int"),
        ("time", "timestamp"),
        ("k", "string"),
        ("last_time", "timestamp"),
        ("price", "int"),
    ]
