"""`state.once`: what becomes of rows that come again."""

import random
import shutil
import sys
from collections import defaultdict
from datetime import date, datetime, timedelta
from typing import Any, cast

import pytest
from conftest import ran, refusal
from pyspark.sql import functions as F

from sparkstream_kit import checkpoints, run, sinks, start, state
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.errors import MissingExtraError


def at(second):
    return None if second is None else datetime(2026, 1, 1) + timedelta(seconds=second)  # noqa: DTZ001 - in UTC


def rows(batches):
    return [row for batch in batches for row in batch.rows]


@pytest.mark.slow
def test_once_hands_every_type_on_as_it_is(stream):
    source = stream(
        "time TIMESTAMP, day DATE, price DECIMAL(20,6), raw BINARY, m MAP<STRING,"
        " TIMESTAMP>, s STRUCT<`x.y`: ARRAY<TIMESTAMP>, d: DATE>, f FLOAT, ntz"
        " TIMESTAMP_NTZ, list ARRAY<MAP<INT, DATE>>, far BIGINT"
    )
    value: tuple[Any, ...] = (
        at(1.000001), date(1, 1, 1), None, b"\x00\xff", {"a": at(2)},
        ([at(3), None], date(9999, 12, 31)), float("inf"), at(4),
        [{1: date(2020, 2, 29)}, None], 3 * 10**17,
    )  # fmt: skip
    frame = source.to_df().withWatermark("time", "10 seconds")
    far = F.timestamp_micros("far")  # the year 11476, which no Python has
    told = state.once(frame.withColumn("far", far), "day", "time", "1 hour")
    told = told.withColumn("far", F.unix_micros("far"))
    assert told.schema.simpleString() == source.schema.simpleString()
    both: list[Any] = [value, (None,) * len(value)]
    source.add_data(both)
    given = stream.query(frame).step()
    assert sorted(rows(stream.query(told).step()), key=str) == sorted(
        rows(given), key=str
    )


def test_a_copy_of_a_checkpoint_goes_on_when_the_original_has_gone(
    spark, stream, tmp_path
):
    """Its state names files by absolute paths, which are those of the copy now."""
    source = stream("id STRING, time TIMESTAMP")
    timely = source.to_df().withWatermark("time", "10 seconds")
    original = tmp_path / "ckpt"

    def finish(checkpoint):
        source.publish()
        query = start(
            state.once(timely, "id", "time", "1 hour"),
            sinks.batch_files(tmp_path / "out"),
            name="once",
            checkpoint=checkpoint,
            availableNow=True,
        )
        run(query)

    source.add_data([("a", at(1))])
    finish(original)
    copy = checkpoints.clone(original, tmp_path / "copy")
    shutil.rmtree(original)
    source.add_data([("a", at(2)), ("b", at(2))])
    finish(copy)
    written = spark.read.parquet(str(tmp_path / "out"))
    assert sorted(row.id for row in written.collect()) == ["a", "b"]


@pytest.mark.slow
def test_once_keeps_in_forty_batches_what_a_loop_over_the_rows_keeps(
    stream, spark, monkeypatch
):
    # A group then has entries of each batch
    monkeypatch.setattr("sparkstream_kit.state.alerts._GROUPS", 2)
    source = stream("a INT, `b c` STRING, time TIMESTAMP")
    timely = source.to_df().withWatermark("time", "5 seconds")
    with in_force(spark, {"spark.sql.shuffle.partitions": "3"}):
        query = stream.query(state.once(timely, ["b c", "a"], "time", "12 seconds"))
        source.add_data([(-1, "", at(-99))])
        query.step()
    draw = random.Random(7)  # noqa: S311 - sample data
    known, newest = defaultdict[Any, list[int]](list), -99
    for number in range(40):
        seconds = [(number + draw.randrange(-20, 9)) // 2 for _ in range(12)]
        batch = [(draw.randrange(40), draw.choice("xyz"), second) for second in seconds]
        for times in known.values():  # the watermark is that of the batches before
            times[:] = [each for each in times if each + 12 > newest - 5]
        expected = []
        for a, b, second in sorted(batch, key=lambda row: row[2]):
            if all(abs(second - each) > 12 for each in known[a, b]):
                known[a, b].append(second)
                expected.append((a, b, at(second)))
        newest = max(newest, *seconds)
        source.add_data([(a, b, at(second)) for a, b, second in batch])
        assert sorted(rows(query.step())) == sorted(expected)
        if number % 13 == 0:  # after a crash before the commit, and in a new process
            assert sorted(rows(query.replay())) == sorted(expected)
    source.add_data([(-1, "", at(999))])
    query.step()  # the watermark passes all the others
    assert query.batches[-1].progress.stateOperators[0].numRowsTotal == 1


@pytest.mark.connect
def test_once_on_a_static_frame_keeps_the_same_rows(spark):
    data: list[Any] = [
        ("a", 0, 9),
        ("a", 0, 1),
        ("a", 20, 2),
        ("a", 31, 3),
        ("b", 5, 4),
        ("b", None, 7),
    ]
    data += [(None, 5, 5), (None, 5, 6)]
    static = spark.createDataFrame(
        [(k, at(t), n) for k, t, n in data], "k STRING, time TIMESTAMP, n INT"
    )
    kept = state.once(static, "k", "time", "30 seconds").collect()
    assert sorted(row.n for row in kept) == [1, 3, 4, 5, 6, 7]


@pytest.mark.fast("STRUCT<a: TIMESTAMP>-ids1")
@pytest.mark.parametrize(
    ("kind", "ids"),
    [
        (
            "STRUCT<a: INT, b: INT>",
            ["(1, NULL)", "(NULL, 1)", "(1, 1)", "(NULL, NULL)"],
        ),
        (
            "STRUCT<a: TIMESTAMP>",
            ["(timestamp_micros(1))", "(timestamp_micros(2))", "(NULL)"],
        ),
        ("ARRAY<STRING>", ["('a', NULL)", "(NULL, 'a')", "('a')", "('')", "()"]),
    ],
)
def test_ids_that_differ_in_what_they_have_within_are_told_apart(spark, kind, ids):
    make = (
        f"SELECT CAST({kind.partition('<')[0]}%s AS {kind}) AS id,"
        " TIMESTAMP'2026-01-01' AS t"
    )
    rows = spark.sql(" UNION ALL ".join(make % each for each in ids))
    assert state.once(rows.union(rows), "id", "t", "1 hour").count() == len(ids)
    assert state.once(
        rows.withColumn("id", F.lit(None).cast(kind)), "id", "t", "1 hour"
    ).count() == len(ids)


def test_a_missing_library_is_one_line(stream, monkeypatch):
    frame = stream("id INT, time TIMESTAMP").to_df().withWatermark("time", "1 second")
    monkeypatch.setitem(sys.modules, "pandas", cast("Any", None))
    with pytest.raises(
        MissingExtraError,
        match=r"state.once needs .*pip install 'sparkstream-kit\[state\]'",
    ):
        state.once(frame, "id", "time", "1 hour")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ids": []}, "once() needs at least one key"),
        ({"within": "0 hours"}, "within must be longer than zero, not 0 hours"),
        ({"time": "tme"}, "once(): there is no column tme; did you mean time?"),
        (
            {"time": "other"},
            "column other has no watermark (column time has it); give it one fi",
        ),
    ],
)
def test_what_once_cannot_take_is_one_line(timed, given, message):
    how = {"frame": timed, "ids": "n", "time": "time", "within": "1 hour"} | given
    assert message in refusal(state.once, **how)


@pytest.mark.parametrize(
    "made", ["map('a', n)", "parse_json('1')", "array(map('a', n))"]
)
def test_an_id_of_which_spark_makes_no_hash_is_one_line(timed, made):
    said = refusal(
        state.once, timed.withColumn("id", F.expr(made)), "id", "time", "1 hour"
    )
    assert said.startswith("once(): column id is ")
    assert said.endswith(
        "of which Spark makes no hash; give a column of its own: F.to_json('id')"
    )


def test_a_frame_with_a_column_twice_is_one_line(timed):
    twice = timed.select("*", "time")
    assert "two columns are named time; rename one" in refusal(
        state.once, twice, "n", "time", "1 hour"
    )


@pytest.fixture
def timed(stream):
    return (
        stream("time TIMESTAMP, other TIMESTAMP, n INT")
        .to_df()
        .withWatermark("time", "10 seconds")
    )


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
        lambda f: state.once(f, "N", "TIME", "1 hour"),
        lambda f: state.alert_when(f, "N", "TIME", "X", state.Silent("1 hour")),
        lambda f: state.as_of(
            f, f.withColumnRenamed("x", "price"), ["N"], "TIME", "PRICE"
        ),
    ],
)
def test_names_of_columns_have_no_case(stream, call):
    frame = (
        stream("n INT, x DOUBLE, time TIMESTAMP")
        .to_df()
        .withWatermark("time", "1 second")
    )
    assert [name for name in call(frame).columns if name != name.lower()] == []
