"""The harness on itself: exact rows, restarts, replays, watermarks, planted mistakes."""

import os
import random
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import accumulate
from time import tzset
from typing import Any, cast

import pytest
from conftest import HANGS, refusal
from pyspark.sql import Row
from pyspark.sql import functions as F
from support.kits_sinks import totals
from support.spark_jobs import counting_jobs

from sparkstream_kit import sinks
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit._internal.threads import in_thread
from sparkstream_kit.errors import InvalidInputError, MissingExtraError, QueryFailed
from sparkstream_kit.profiles import PROFILES, read_profile
from sparkstream_kit.testing import (
    Source,
    assert_stream_equals_batch,
    run_script,
    streams,
)
from sparkstream_kit.testing.comparing import _Trial

SALES = "product STRING, amount INT"
EVENTS = "time TIMESTAMP, key STRING"


def windows(events):
    windowed = events.withWatermark("time", "10 seconds").groupBy(
        F.window("time", "10 seconds"), "key"
    )
    return windowed.count().select("window.start", "key", "count")


def at(second):
    return datetime(2024, 1, 1) + timedelta(seconds=second)  # noqa: DTZ001 - as Spark gives times: without a zone


@pytest.fixture
def sales(stream):
    return stream(SALES)


@pytest.mark.fast("update")
@pytest.mark.connect
@pytest.mark.parametrize("mode", ["update", "complete"])
def test_each_step_gives_the_batches_of_what_was_added(stream, sales, mode):
    query = stream.query(totals(sales.to_df()), mode=mode)
    assert query.step() == []
    sales.add_data([("tea", 1), ("tea", 2)])
    sales.add_data([Row(amount=5, product="ink")])
    sales.add_data([])
    batches = query.step()
    assert [batch.batch_id for batch in batches] == (
        [0, 1] if mode == "update" else [0, 1, 2]
    )
    assert [batch.batch_id for batch in query.batches] == [0, 1, 2]
    second = [("ink", 5)] if mode == "update" else [("ink", 5), ("tea", 3)]
    assert [sorted(batch.rows) for batch in batches[:2]] == [[("tea", 3)], second]
    # Where no Python is started for it
    in_memory = "SPARK_REMOTE" in os.environ and mode == "update"
    assert ("Memory" in batches[0].progress.sink.description) == in_memory
    assert query.step() == []


@pytest.mark.slow
def test_a_python_function_gets_rows_that_are_read_in_columns(stream, sales):
    """It hangs on Spark 4.2.0 without the setting in each profile (SPARK-58241)."""
    setting = "spark.sql.execution.arrow.pythonUDF.columnarInput.enabled"
    assert {read_profile(name)[setting] for name in PROFILES} == {"false"}
    twice = F.udf(lambda amount: 2 * amount, "int")
    query, found = stream.query(sales.to_df().select(twice("amount"))), []
    sales.add_data([("tea", 2)])
    in_thread("step", lambda: found.extend(query.step())).join(HANGS)
    assert [batch.rows for batch in found] == [[(4,)]]


# time     0         10        20        30
# events   a                        b   (a)      the watermark is 10 s behind b: the last a is late
# windows  [a-------)[--------)[b-------)


@pytest.mark.slow
def test_the_watermark_adds_a_batch_and_drops_what_is_late(stream):
    events = stream(EVENTS)
    query = stream.query(windows(events.to_df()))
    events.add_data([(at(0), "a")])
    assert [batch.rows for batch in query.step()] == [[]]
    assert [batch.progress.numInputRows for batch in query.batches] == [1, 0]
    events.add_data([{"time": at(25)}])  # the rest is null
    data, without_data = query.step()
    assert (data.rows, data.watermark) == ([], at(-10))
    assert (without_data.rows, without_data.watermark) == ([(at(0), "a", 1)], at(15))
    events.add_data([(at(1), "a"), (at(2), "b"), (at(16), "b")])
    [late] = query.step()
    assert (late.rows, late.late_rows, late.progress.numInputRows) == ([], 2, 3)


@pytest.mark.slow
def test_the_watermark_moves_without_a_row(stream, caplog):
    """0 s       9  10  12        20
    [-- a, b ------)[------- c ---)
                ^ it stays open
                        ^ it closes, and its rows are late
    """
    events = stream(EVENTS)
    query = stream.query(windows(events.to_df()))
    assert "no batch has run yet" in refusal(query.step, watermark="0:00:09")
    events.add_data([(at(1), "a"), (at(2), "b")])
    assert not any(batch.rows for batch in query.step(watermark="2024-01-01 00:00:09"))
    [closed] = query.step(watermark="0:00:12")
    assert (sorted(closed.rows), closed.watermark) == (
        [(at(0), "a", 1), (at(0), "b", 1)],
        at(12),
    )

    events.add_data([(at(4), "a"), (at(13), "c")])
    assert [(batch.rows, batch.late_rows) for batch in query.step()] == [([], 1)]
    wrong: list[tuple[Any, str]] = [
        ("noon", "give a time, such as '12:10'"),
        (at(3), "is at .* already"),
    ]
    for time, said in wrong:
        with pytest.raises(InvalidInputError, match=said):
            query.step(watermark=time)
    assert [batch.rows for batch in query.drain()] == [[(at(10), "c", 1)]]
    with pytest.raises(InvalidInputError, match="was drained"):
        query.step()
    assert "drain was interrupted" not in caplog.text


@pytest.mark.slow
def test_after_a_drain_the_watermark_is_told_east_of_utc_too(stream, monkeypatch):
    events = stream(EVENTS)
    query = stream.query(windows(events.to_df()))
    events.add_data([(at(1), "a")])
    query.drain()
    # Where the end of the input would be in the year 10000
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    tzset()
    try:
        assert query.batches[-1].watermark == datetime.fromisoformat(
            "9999-12-31 23:59:59"
        )
    finally:
        monkeypatch.undo()
        tzset()


def test_the_watermark_of_a_query_without_state_does_not_go_back(stream):
    events = stream(EVENTS)
    query = stream.query(events.to_df().withWatermark("time", "10 seconds"))
    events.add_data([(at(25), "a")])
    query.step()
    with pytest.raises(
        InvalidInputError, match="is at 2024-01-01 00:00:15 UTC already"
    ):
        query.step(watermark="00:00:14")


@pytest.mark.slow
def test_queries_share_a_source(stream, sales):
    first, second = (
        stream.query(sales.to_df()),
        stream.query(totals(sales.to_df()), mode="complete"),
    )
    sales.add_data([("tea", 1)])
    assert [batch.rows for batch in first.step()] == [[("tea", 1)]]
    sales.add_data([("tea", 1)])
    assert [batch.rows for batch in second.step()] == [[("tea", 1)], [("tea", 2)]]
    assert [batch.rows for batch in first.step()] == [[("tea", 1)]]


@pytest.mark.slow
def test_what_two_sources_get_before_a_step_meets_in_one_batch(stream, sales):
    prices = stream("product STRING, price DECIMAL(8,2)")
    query = stream.query(sales.to_df().join(prices.to_df(), "product"))
    for step in range(3):  # also while the query runs
        name = f"tea {step}"
        prices.add_data([(name, Decimal("1.50"))])
        sales.add_data([(name, 2)])
        prices.add_data([("ink", 1), (name, Decimal(2))])
        found = [row for batch in query.step() for row in batch.rows]
        assert found == [(name, 2, Decimal("1.50")), (name, 2, Decimal("2.00"))]


# Of a query that has nothing to do, Spark tells again and again, with the number of the
# batch to come.
@pytest.mark.fast("rarely")
@pytest.mark.connect
@pytest.mark.parametrize("told", ["10000", "0"], ids=["rarely", "always"])
def test_a_batch_that_the_step_of_another_query_gave_is_in_the_next_step(
    spark, stream, sales, told, until
):
    first, second = (stream.query(sales.to_df()) for _ in range(2))
    sales.add_data([("tea", 1)])
    with in_force(spark, {"spark.sql.streaming.noDataProgressEventInterval": told}):
        first.step()
        first.step()
    sales.add_data([("ink", 2)])
    second.step()
    until((stream.folder / "query-0" / "checkpoint" / "commits" / "1").exists)
    first.restart()
    sales.add_data([("tea", 3)])
    assert [(batch.batch_id, batch.rows) for batch in first.step()] == [
        (1, [("ink", 2)]),
        (2, [("tea", 3)]),
    ]


@pytest.mark.slow
def test_of_many_batches_each_has_its_own_rows(spark, stream):
    numbers = stream("n INT")
    query = stream.query(numbers.to_df())
    for number in range(9):
        numbers.add_data([(number,)])
    # Spark removes commits meanwhile
    with in_force(spark, {"spark.sql.streaming.minBatchesToRetain": "2"}):
        found = query.step()
    assert [(batch.batch_id, batch.rows) for batch in found] == [
        (number, [(number,)]) for number in range(9)
    ]


TYPES = """wide DECIMAL(38,18), raw BINARY, list ARRAY<INT>,
    pair STRUCT<x: INT, y: STRING>, tiny TINYINT, map MAP<INT, STRUCT<at: TIMESTAMP>>,
    single FLOAT, double DOUBLE, time TIMESTAMP, plain TIMESTAMP_NTZ, day DATE,
    span INTERVAL DAY TO SECOND, big BIGINT, flag BOOLEAN, text STRING"""
EARLY, LATE = datetime(1, 1, 2), datetime(9999, 12, 31, 23, 59, 59, 999999)  # noqa: DTZ001 - without a zone
EXTREMES = (
    *(
        Decimal("12345678901234567890.123456789012345678"),
        b"\x00\xff",
        [1, None],
        (1, None),
        -128,
    ),
    *({1: (EARLY,), 2: None}, float("inf"), float("-inf"), EARLY, LATE, date(1, 1, 1)),
    *(timedelta(days=-1, microseconds=1), -(2**63), True, "\u2028\x00'\""),
)


def test_columns_of_one_name_come_out_as_they_are(stream, sales):
    query = stream.query(
        sales.to_df().select("amount", F.col("product").alias("AMOUNT"))
    )
    sales.add_data([("tea", 1)])
    [batch] = query.step()
    assert list(map(tuple, batch.rows)) == [(1, "tea")]


def test_any_value_comes_out_as_it_went_in(stream):
    source = stream(TYPES)
    query = stream.query(source.to_df())
    source.add_data([EXTREMES, (None,) * len(EXTREMES)])
    [batch] = query.step()
    assert batch.rows == [EXTREMES, (None,) * len(EXTREMES)]
    source.add_data(batch.rows)
    assert [again.rows for again in query.step()] == [batch.rows]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            ("tea", 1),
            (
                "row ('tea', 1) does not fit the columns product, amount, more, tags;"
                " give tuples of 4"
            ),
        ),
        ({"product": "tea", "amout": 1}, "unknown column amout; did you mean amount?"),
        (("tea", 1.5, None, None), "column amount (int): 1.5 is not a whole number"),
        (("tea", 2**31, None, None), "column amount (int): "),
        (
            ("tea", None, None, None),
            (
                "column amount (int): it is NOT NULL, and {'product': 'tea', 'amount':"
                " None, "
            ),
        ),
        ((1, 1, None, None), "column product (string): "),
        (
            ("tea", 1, (Decimal("1.234"),), None),
            "column more (struct<price:decimal(8,2)>): ",
        ),
        (
            ("tea", 1, (1, 2), None),
            "column more (struct<price:decimal(8,2)>): row (1, 2) does not fit",
        ),
        (("tea", 1, None, "ab"), "column tags (array<string>): 'ab' is not a list"),
        (
            ("tea", 1, None, {"a": 1}),
            "column tags (array<string>): {'a': 1} is not a list",
        ),
    ],
)
def test_a_row_that_does_not_fit_is_refused(stream, row, said):
    source = stream(
        "product STRING, amount INT NOT NULL, more STRUCT<price: DECIMAL(8,2)>, tags"
        " ARRAY<STRING>"
    )
    assert refusal(source.add_data, [row]).startswith(said)


def test_a_time_with_a_zone_is_that_instant(stream):
    source = stream("time TIMESTAMP")
    source.add_data([(at(0).replace(tzinfo=UTC),)])
    [batch] = stream.query(source.to_df()).step()
    assert batch.rows == [(at(0),)]


def test_a_time_as_text_and_a_step_of_two_values_are_refused(stream, sales):
    assert refusal(stream("t TIMESTAMP").add_data, [("noon",)]).endswith(
        ": 'noon' is not a datetime"
    )
    said = refusal(
        run_script, stream.query(sales.to_df()), cast("Any", [(sales, [("tea", 1)])])
    )
    assert said.startswith("step 1 is no tuple of three; give a source")


@pytest.mark.classic_only("it asks Spark for its jobs")
def test_a_source_needs_no_task_of_spark(spark, stream):
    with counting_jobs(spark) as jobs:
        stream(
            "at TIMESTAMP, needs_no_task MAP<STRING, ARRAY<DECIMAL(9, 2)>>"
        ).add_data([])
        assert [len(job.stageIds) for job in jobs()] == [0]


@pytest.mark.slow
@pytest.mark.connect
def test_a_restart_goes_on_from_the_checkpoint_also_with_another_frame(stream, sales):
    query = stream.query(totals(sales.to_df()), mode="update")
    sales.add_data([("tea", 1)])
    query.step()
    query.restart()
    sales.add_data([("tea", 2)])
    assert [(batch.batch_id, batch.rows) for batch in query.step()] == [
        (1, [("tea", 3)])
    ]
    query.restart(totals(sales.to_df()).where("total > 5"))
    sales.add_data([("tea", 1)])
    sales.add_data([("tea", 2)])
    assert [batch.rows for batch in query.step()] == [[], [("tea", 6)]]


def written_by(naive):
    """Return a sink that only appends; it runs in the server's process, too."""
    path = str(naive)

    def write(batch, batch_id):
        rows = batch.collect()
        with open(path, "a") as file:  # noqa: PTH123 - a function without names from outside
            file.writelines(f"{batch_id} {row.product} {row.total}\n" for row in rows)

    return sinks.foreach_batch(write)


@pytest.mark.slow
@pytest.mark.connect
def test_the_last_batch_comes_again_with_the_same_id_and_rows_to_a_sink_too(
    stream, sales, tmp_path
):
    naive = tmp_path / "naive"
    query = stream.query(totals(sales.to_df()), mode="update", sink=written_by(naive))
    assert "no batch has been committed yet that could" in refusal(query.replay)
    sales.add_data([("tea", 1)])
    sales.add_data([("tea", 2)])
    *_, last = query.step()
    assert query.replay() == [last]
    assert naive.read_text() == "0 tea 1\n1 tea 3\n1 tea 3\n"
    query.kill_before_commit()
    sales.add_data([("tea", 4)])
    again, new = query.step()
    assert (again, new.rows) == (last, [("tea", 7)])


@pytest.mark.slow
def test_with_a_watermark_a_sink_that_knows_its_batches_gets_the_last_one_again(
    stream, tmp_path
):
    events = stream(EVENTS)
    table = sinks.sql_table(
        f"sqlite:///{tmp_path}/t.db", "t", how="upsert", keys=["start", "key"]
    )
    sink = sinks.fan_out(table, sinks.foreach_batch(lambda *_: None))
    query = stream.query(windows(events.to_df()), mode="update", sink=sink)
    for second in (21, 22):
        events.add_data([(at(second), "a")])
        query.step()  # with an empty batch behind it
        assert query.replay() == []


@pytest.mark.fast("update")
@pytest.mark.parametrize("mode", ["update", "append"])
def test_with_a_watermark_too_a_step_is_the_batch_of_what_was_added_and_that_one_comes_again(
    stream, mode
):
    events = stream(EVENTS)
    timely = events.to_df().withWatermark("time", "0 seconds")
    counted = (
        windows(events.to_df())
        if mode == "update"
        else timely.dropDuplicates(["time", "key"])
    )
    query = stream.query(counted, mode=mode)
    events.add_data([(at(21), "a")])
    [batch] = query.step()  # an empty batch follows, for the new watermark
    assert len(batch.rows) == 1
    assert [each.is_empty for each in query.batches] == [False, True]
    query.kill_before_commit()
    events.add_data([(at(22), "b")])
    again, new = query.step()
    assert (again, [row.key for row in new.rows]) == (batch, ["b"])
    assert query.replay() == [new]
    # Its state is that of the batches, not of the empty batch before the kill
    query.restart()
    events.add_data([(at(22), "b")])
    assert [row["count"] for batch in query.step() for row in batch.rows] == [2] * (
        mode == "update"
    )


def test_a_sink_of_sparks_own_is_refused(stream, sales):
    query = stream.query(sales.to_df(), sink=sinks.console())
    assert "fan_out() takes sinks that work batch by batch" in refusal(query.step)


@pytest.mark.connect
def test_a_failed_batch_is_named_and_comes_again(stream, sales, tmp_path):
    flag = str(tmp_path / "repaired")

    def write(batch, batch_id):
        import os

        batch.collect()
        if batch_id == 1 and not os.path.exists(flag):  # noqa: PTH110 - a function without names from outside
            raise ValueError("the disk is full")

    query = stream.query(sales.to_df(), sink=sinks.foreach_batch(write))
    sales.add_data([("tea", 1)])
    sales.add_data([("tea", 2)])
    with pytest.raises(QueryFailed, match=r"query_0 failed: .*the disk is full"):
        query.step()
    (tmp_path / "repaired").touch()
    assert [(batch.batch_id, batch.rows) for batch in query.step()] == [
        (0, [("tea", 1)]),
        (1, [("tea", 2)]),
    ]


def test_a_script_names_the_step_and_shows_its_batches(stream, sales):
    query = stream.query(totals(sales.to_df()), mode="update")
    script: list[tuple[Source, list[Any], list[Any]]] = [
        (sales, [("tea", 1), ("ink", 1)], [("tea", 1), {"total": 1, "product": "ink"}]),
        (sales, [("tea", 1)], [("tea", 1)]),
    ]
    with pytest.raises(AssertionError) as raised:
        run_script(query, script)
    assert str(raised.value).splitlines() == [
        "step 2 delivered other rows than expected",
        *("missing:", "  ('tea', 1)"),
        *("unexpected:", "  Row(product='tea', total=2)"),
        *("expected:", "  ('tea', 1)"),
        *("delivered in batch 1:", "  Row(product='tea', total=2)"),
    ]


def rows_of(spark, count=9):
    return spark.createDataFrame(
        [("tea" if n % 3 else "ink", n) for n in range(count)], SALES
    )


@pytest.mark.fast("<lambda>-options0")
@pytest.mark.parametrize(
    ("transform", "options"),
    [
        (lambda sales: sales.where("amount % 2 = 0"), {}),
        (
            lambda s: totals(s).withColumn("mean", F.col("total") / 7),
            {"mode": "update", "keys": ["product"]},
        ),
    ],
)
def test_a_sound_transform_gives_the_same_as_a_batch_run(spark, transform, options):
    assert_stream_equals_batch(transform, rows_of(spark), examples=4, **options)


@pytest.mark.slow
def test_windows_are_compared_when_all_of_them_are_closed(spark):
    events = spark.createDataFrame(
        [(at(7 * n), "ab"[n % 2]) for n in range(9)] + [(None, "a")], EVENTS
    )
    how: dict[str, Any] = {"watermark": ("time", timedelta(seconds=10)), "examples": 4}
    # The filter leaves nothing of the last row: another one has to close the windows.
    assert_stream_equals_batch(
        lambda frame: windows(frame.where("key = 'a'")), events, **how
    )


@pytest.mark.slow
def test_rows_that_only_close_windows_are_not_compared(spark):
    events = spark.createDataFrame([(at(7 * n), "ab"[n % 2]) for n in range(5)], EVENTS)
    watermark = ("time", "10 seconds")
    assert_stream_equals_batch(
        lambda frame: frame.withWatermark("time", "10 seconds").dropDuplicates(
            ["key", "time"]
        ),
        events,
        watermark=watermark,
        examples=3,
    )


def test_no_order_makes_a_row_late_and_orders_differ():
    times, delay = [at(7 * n) for n in range(12)], timedelta(seconds=20)
    rows = [Row(time=time) for time in times]
    unused: Any = None
    trial = _Trial(unused, unused, unused, rows, "append", (), "time", delay)
    draw = random.Random(0)  # noqa: S311 - no secret
    orders = set()
    for _ in range(200):
        [order] = trial.split(
            [(draw.randint(0, 9), draw.randint(0, 24)) for _ in rows], [0, 0, 0]
        )
        orders.add(order)
        for number, before in zip(order[1:], accumulate(order, max), strict=False):
            assert times[before] - delay < times[number]
    assert len(orders) > 100
    assert any(order != tuple(sorted(order)) for order in orders)


def failure(transform, rows, **options):
    with pytest.raises(AssertionError) as raised:
        assert_stream_equals_batch(transform, rows, **options)
    assert not hasattr(raised.value, "__notes__")
    return str(raised.value)


def rows_fed(message):
    return message[: message.index("missing:")].count("Row(")


@pytest.mark.slow
def test_a_planted_dependence_on_the_order_is_caught_and_shrunk(spark):
    def last(sales):
        return sales.groupBy("product").agg(F.last("amount").alias("last"))

    message = failure(last, rows_of(spark, 4), mode="update", keys=["product"])
    assert message.startswith(
        "in update mode the stream's result is not that of a batch run"
    )
    assert rows_fed(message) in (2, 3)
    for part in (
        "rows of batch 0:",
        "unexpected:",
        "expected:",
        "delivered in batch 0:",
    ):
        assert f"\n{part}\n" in message


@pytest.mark.slow
def test_a_planted_dependence_on_the_split_is_caught_and_shrunk_to_the_same_rows_each_time(
    spark,
):
    def by_batch(sales):  # an earlier total is delivered too
        return totals(sales).drop("product").where("total > 2")

    rows = rows_of(spark, 6)
    first = failure(by_batch, rows, mode="update", keys=["total"])
    assert rows_fed(first) <= 3
    assert first.startswith(
        "in update mode the stream's result is not that of a batch run"
    )
    for part in (
        "rows of batch 0:",
        "unexpected:",
        "expected:",
        "delivered in batch 0:",
    ):
        assert f"\n{part}\n" in first
    assert failure(by_batch, rows, mode="update", keys=["total"]) == first


@pytest.mark.slow
def test_without_a_watermark_windows_that_stay_open_are_missing(spark):
    message = failure(windows, spark.createDataFrame([(at(0), "a")], EVENTS))
    assert "unexpected: none" in message
    assert rows_fed(message) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "updte"}, "unknown output mode updte; did you mean update?"),
        (
            {"mode": "update"},
            r"keys=\[\] in update mode; give the result's key columns",
        ),
        (
            {"mode": "update", "keys": ["prod"]},
            "unknown key column prod; did you mean product?",
        ),
        (
            {"keys": ["product"]},
            (
                r"keys=\['product'\] in append mode; give the result's key columns in"
                r" update"
            ),
        ),
        (
            {"watermark": ("tim", "1 hour")},
            r"_batch\(\): there is no column tim; the columns are: product",
        ),
    ],
)
def test_wrong_arguments_are_refused(spark, options, said):
    with pytest.raises(InvalidInputError, match=said):
        assert_stream_equals_batch(lambda sales: sales, rows_of(spark, 1), **options)


def test_no_rows_prove_nothing(spark):
    assert "rows is empty" in refusal(
        assert_stream_equals_batch, totals, rows_of(spark, 0)
    )


@pytest.mark.connect
def test_nothing_is_left_after_a_failure(spark):
    with pytest.raises(ZeroDivisionError), streams(spark) as stream:
        sales, folder = stream(SALES), stream.folder
        query = stream.query(sales.to_df())
        sales.add_data([("tea", 1)])
        query.step()
        assert len(spark.streams.active) == 1
        raise ZeroDivisionError
    assert spark.streams.active == []
    assert not folder.exists()


def test_a_missing_library_is_named(spark, sales, monkeypatch):
    rows = rows_of(spark, 1)
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(
        MissingExtraError,
        match=r"assert_stream_equals_batch .*'sparkstream-kit\[testing\]'",
    ):
        assert_stream_equals_batch(totals, rows)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        MissingExtraError,
        match=r"sparkstream_kit.testing .*'sparkstream-kit\[testing\]'",
    ):
        sales.add_data([("tea", 1)])
