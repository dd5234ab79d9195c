"""`state.split_late` and `state.once`: what becomes of late rows and of rows that come again."""

import sys
from datetime import date, datetime, timedelta
from typing import Any, cast

import pytest
from conftest import ran, refusal
from pyspark.sql import functions as F

from sparkstream_kit import state, windows
from sparkstream_kit._spark.session import in_force
from sparkstream_kit.errors import MissingExtraError

# Rows of each batch, in seconds; the watermark is 10 seconds behind the newest row of the batches before.
BATCHES: list[list[int | None]] = [[100], [200, None], [150, 201], [151, 190, 300], [290, 291, 400]]
LATE = {150: 190, 151: 191, 190: 191, 290: 290}  # and the watermark that each has missed


def at(second):
    return None if second is None else datetime(2026, 1, 1) + timedelta(seconds=second)  # noqa: DTZ001 - in UTC


def rows(batches):
    return [row for batch in batches for row in batch.rows]


@pytest.fixture(params=[1, pytest.param(3, marks=pytest.mark.slow)])
def partitions(request, spark):
    """One shuffle partition, and three."""
    with in_force(spark, {"spark.sql.shuffle.partitions": str(request.param)}):
        yield request.param


@pytest.mark.slow
def test_split_late_flags_exactly_the_rows_at_or_before_the_watermark(stream, partitions):
    source = stream("`a time.` TIMESTAMP, `n``o` INT")
    frame = source.to_df().withWatermark("`a time.`", "10 seconds")
    told = state.split_late(frame, "a time.", by="n`o" if partitions == 1 else None)
    assert told.columns == ["a time.", "n`o", "late", "watermark"]
    query = stream.query(told)
    for number, batch in enumerate(BATCHES):
        source.add_data([(at(second), number) for second in batch])
    first = query.step()  # one batch right after the other
    assert sorted((row[0], row[1]) for row in rows(first) if row[0]) == sorted(
        (at(second), number) for number, batch in enumerate(BATCHES) for second in batch if second
    )
    assert {row[0]: row.watermark for row in rows(first) if row.late} == {
        at(second): at(missed) for second, missed in LATE.items()
    }
    assert [tuple(row) for row in rows(first) if row[0] is None] == [(None, 1, False, None)]
    assert sum(batch.progress.stateOperators[0].numRowsTotal for batch in first) == 0
    [again, *_] = query.replay()
    assert sorted(again.rows) == sorted(next(b for b in first if b.batch_id == again.batch_id).rows)


@pytest.mark.slow
def test_split_late_hands_every_type_on_as_it_is(stream):
    source = stream(
        "time TIMESTAMP, day DATE, price DECIMAL(20,6), raw BINARY, m MAP<STRING, TIMESTAMP>, "
        "s STRUCT<`x.y`: ARRAY<TIMESTAMP>, d: DATE>, f FLOAT, ntz TIMESTAMP_NTZ, list ARRAY<MAP<INT, DATE>>, "
        "far BIGINT"
    )
    value: tuple[Any, ...] = (
        at(1.000001), date(1, 1, 1), None, b"\x00\xff", {"a": at(2)}, ([at(3), None], date(9999, 12, 31)),
        float("inf"), at(4), [{1: date(2020, 2, 29)}, None], 3 * 10**17,
    )  # fmt: skip
    frame = source.to_df().withWatermark("time", "10 seconds")
    far = F.timestamp_micros("far")  # the year 11476, which no Python has
    told = state.split_late(frame.withColumn("far", far), "time").drop("late", "watermark")
    told = told.withColumn("far", F.unix_micros("far"))
    assert told.schema.simpleString() == source.schema.simpleString()
    both: list[Any] = [value, (None,) * len(value)]
    source.add_data(both)
    given = stream.query(frame).step()
    query = stream.query(told)
    assert sorted(rows(query.step()), key=str) == sorted(rows(given), key=str)


@pytest.mark.slow
def test_windows_after_split_late_count_exactly_the_others(stream):
    source = stream("time TIMESTAMP")
    told = state.split_late(source.to_df().withWatermark("time", "10 seconds"), "time")
    counts = told.where("NOT late").groupBy(windows.tumbling("time", "100 seconds")).count()
    query = stream.query(windows.flatten(counts))
    last: list[int | None] = [2000]
    for batch in [*BATCHES, last]:
        source.add_data([(at(second),) for second in batch])
    counted = {(row.start - at(0)).seconds: row["count"] for row in rows(query.step())}
    assert counted == {100: 1, 200: 3, 300: 1, 400: 1}  # 150, 151, 190 and 290 are late


@pytest.mark.slow
def test_windows_alone_drop_a_row_when_its_window_has_closed_and_not_when_it_is_late(stream):
    source = stream("time TIMESTAMP")
    told = state.split_late(source.to_df().withWatermark("time", "10 seconds"), "time")
    query = stream.query(told.groupBy(windows.tumbling("time", "100 seconds")).count())
    last: list[int | None] = [2000]
    for batch in [*BATCHES, last]:
        source.add_data([(at(second),) for second in batch])
    assert sum(row["count"] for row in rows(query.step())) == 10  # four of them are late


def test_a_static_frame_has_no_late_row(spark):
    static = spark.createDataFrame([(at(1), 1), (at(-(10**9)), 2)], "time TIMESTAMP, n INT")
    assert [(row.n, row.late, row.watermark) for row in state.split_late(static, "time").collect()] == [
        (1, False, None),
        (2, False, None),
    ]


@pytest.mark.slow
def test_once_keeps_the_first_row_of_an_id_and_late_rows_that_are_no_duplicates(stream, partitions):
    source = stream("`an id` STRING, time TIMESTAMP, n INT")
    frame = source.to_df().withWatermark("time", "10 seconds")
    query = stream.query(state.once(frame, ["an id"], "time", timedelta(seconds=30)))
    assert query.frame.columns == ["an id", "time", "n"]

    def kept(*batch):
        source.add_data([(name, at(second), n) for name, second, n in batch])
        return sorted(row.n for row in rows(query.step()))

    assert partitions
    # The first by time, then by the whole row; a row without an id or a time is nobody's duplicate.
    assert kept(("a", 102, 1), ("a", 100, 3), ("a", 100, 2), ("b", 100, 4)) == [2, 4]
    first = [0, 5, 6, 7, 8]
    assert kept((None, 100, 5), (None, 100, 6), ("a", None, 7), ("a", None, 8), ("c", 99, 0)) == first
    assert sorted(row.n for row in rows(query.replay())) == first
    query.kill_before_commit()
    assert kept(("c", 99, 0)) == first
    assert kept(("a", 130, 9), ("b", 131, 10), ("a", 71, 11)) == [10]  # 130 is 30 from 100: within
    query.restart()
    assert kept(("z", 300, 12)) == [12]
    # The watermark is at 290: all but z is forgotten, a late row of any other id passes, and so once.
    assert kept(("d", 150, 13), ("d", 150, 14), ("a", 100, 15), ("z", 299, 16)) == [13, 15]


@pytest.mark.slow
def test_the_state_of_once_falls_when_the_watermark_has_passed(stream):
    source = stream("id BIGINT, time TIMESTAMP")
    query = stream.query(
        state.once(source.to_df().withWatermark("time", "10 seconds"), "id", "time", "30 seconds")
    )
    source.add_data([(n % 10_000, at(n / 1000)) for n in range(20_000)])
    [full, *_] = query.step()
    assert (len(full.rows), full.progress.stateOperators[0].numRowsTotal) == (10_000, 10_000)
    source.add_data([(-1, at(100))])
    query.step()
    assert query.batches[-1].progress.stateOperators[0].numRowsTotal == 1


def test_once_on_a_static_frame_keeps_the_same_rows(spark):
    data = [("a", 0, 1), ("a", 20, 2), ("a", 31, 3), ("b", 5, 4), (None, 5, 5), (None, 5, 6), ("b", None, 7)]
    static = spark.createDataFrame([(k, at(t), n) for k, t, n in data], "k STRING, time TIMESTAMP, n INT")
    kept = state.once(static, "k", "time", "30 seconds").collect()
    assert sorted(row.n for row in kept) == [1, 3, 4, 5, 6, 7]


def test_a_missing_library_is_one_line(stream, monkeypatch):
    frame = stream("id INT, time TIMESTAMP").to_df().withWatermark("time", "1 second")
    monkeypatch.setitem(sys.modules, "pandas", cast("Any", None))
    with pytest.raises(MissingExtraError, match=r"state.once needs .*pip install 'sparkstream-kit\[state\]'"):
        state.once(frame, "id", "time", "1 hour")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"time": "tme"}, "split_late(): there is no column tme; did you mean time?"),
        ({"time": "other"}, "other has no watermark (column time has it); give it one fi"),
        ({"time": "n"}, "split_late(): event-time column n is int, not a"),
        ({"by": "m"}, "split_late(): there is no column m"),
    ],
)
def test_what_split_late_cannot_take_is_one_line(timed, given, message):
    assert message in refusal(state.split_late, timed, **({"time": "time"} | given))


def test_a_frame_with_a_column_twice_or_of_split_late_s_own_names_is_one_line(timed):
    late = timed.withColumn("Late", F.lit(1))
    assert "column Late exists already; rena" in refusal(state.split_late, late, "time")
    twice = timed.select("*", "time")
    assert "two columns are named time; rename one" in refusal(state.split_late, twice, "time")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ids": "id"}, "once(): there is no column id"),
        ({"ids": []}, "once() needs at least one key"),
        ({"within": "1 hr"}, "cannot read within '1 hr'"),
        ({"within": "0 hours"}, "within must be longer than zero, not 0 hours"),
        ({"time": "other"}, "column other has no watermark (column time has it)"),
    ],
)
def test_what_once_cannot_take_is_one_line(timed, given, message):
    how = {"frame": timed, "ids": "n", "time": "time", "within": "1 hour"} | given
    assert message in refusal(state.once, **how)


@pytest.fixture
def timed(stream):
    return stream("time TIMESTAMP, other TIMESTAMP, n INT").to_df().withWatermark("time", "10 seconds")


STATIC = """
from sparkstream_kit import spark_session, state
with spark_session("static", profile="test") as spark:
    rows = spark.sql("SELECT timestamp_seconds(id) AS time, id % 2 AS n FROM range(4)")
    print(sorted(row.n for row in state.once(rows, "n", "time", "1 hour").collect()))
"""


@pytest.mark.slow
def test_a_session_that_has_had_no_stream_takes_a_static_frame():
    assert ran(STATIC).stdout == "[0, 1]\n"


@pytest.mark.parametrize(
    "call",
    [
        lambda f: state.split_late(f, "TIME", by="N"),
        lambda f: state.once(f, "N", "TIME", "1 hour"),
        lambda f: state.alert_when(f, "N", "TIME", "X", state.Silent("1 hour")),
        lambda f: state.as_of(f, f.withColumnRenamed("x", "price"), "N", "TIME"),
        lambda f: state.as_of(f, f.withColumnRenamed("x", "price"), ["N"], "TIME", "PRICE"),
    ],
)
def test_names_of_columns_have_no_case(stream, call):
    frame = stream("n INT, x DOUBLE, time TIMESTAMP").to_df().withWatermark("time", "1 second")
    assert [name for name in call(frame).columns if name != name.lower()] == []
