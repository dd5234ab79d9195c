"""The watermark that rows from the future do not move, and the top rows of a batch."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from chispa import assert_df_equality
from conftest import refusal
from pyspark.errors import AnalysisException
from pyspark.sql import functions as F

from sparkstream_kit import quarantine, schemas, sinks, start, windows
from sparkstream_kit._internal.spark.logical_plan import wrong_event_time
from sparkstream_kit.errors import InvalidInputError

ODD = "when.it `was` seen"
FAR = datetime(2099, 1, 1)  # noqa: DTZ001 - Spark's rows have no zone


def at(clock):
    return datetime.fromisoformat(f"2010-01-01 {clock}")


# --- with_watermark


@pytest.mark.parametrize("time", ["time", ODD])
def test_a_row_of_2099_does_not_move_the_watermark_and_keeps_its_values(stream, time):
    #  batch 0: 12:00 a, 2099 far, null   → watermark 11:50
    #  batch 1: 11:55 b, 12:20 c          → watermark 12:10
    quoted = "`" + time.replace("`", "``") + "`"
    source = stream(f"{quoted} TIMESTAMP, key STRING")
    query = stream.query(windows.with_watermark(source.to_df(), time, "10 minutes"))
    source.add_data([(at("12:00"), "a"), (FAR, "far"), (None, "none")])
    source.add_data([(at("11:55"), "b"), (at("12:20"), "c")])
    first, second = query.step()
    assert query.frame.columns == [time, "key", "_reason"]
    reason = f"{time}: 2099-01-01 00:00:00 is more than 1 hour ahead"
    assert first.rows == [
        (at("12:00"), "a", None),
        (None, "far", reason),
        (None, "none", None),
    ]
    assert second.rows == [(at("11:55"), "b", None), (at("12:20"), "c", None)]
    assert second.watermark == at("11:50")


@pytest.mark.connect
@pytest.mark.fast("rocksdb-3")
@pytest.mark.usefixtures("keeping")
def test_windows_close_by_the_rows_of_the_present_alone(stream):
    #  windows       [12:00 - 2 rows - 13:00)[13:00 …
    #  batch 0       a            and far (2099)
    #  batch 1          b                     → 12:00 to 13:00 is still open
    #  batch 2                          c 13:20, watermark 13:10 → it closes
    source = stream("time TIMESTAMP, key STRING")
    rows = windows.with_watermark(source.to_df(), "time", "10 minutes")
    query = stream.query(
        windows.flatten(rows.groupBy(windows.tumbling("time", "1 hour"), "key").count())
    )
    source.add_data([(at("12:00"), "a"), (FAR, "a")])
    source.add_data([(at("12:30"), "a")])
    assert [row for batch in query.step() for row in batch.rows] == []
    query.kill_before_commit()
    source.add_data([(at("13:20"), "a")])
    assert [row for batch in query.step() for row in batch.rows] == [
        (at("12:00"), at("13:00"), "a", 2)
    ]


def test_a_filter_after_the_watermark_lets_no_far_row_move_it(stream):
    source = stream("time TIMESTAMP, key STRING")
    rows = windows.with_watermark(source.to_df(), "time", "10 minutes")
    query = stream.query(
        rows.where("_reason IS NOT NULL OR key = 'a'").select("time", "key")
    )
    source.add_data([(FAR, "far"), (at("12:00"), "a")])
    source.add_data([(at("12:01"), "a")])
    query.step()
    assert query.batches[-1].watermark == at("11:50")


def test_without_a_bound_every_row_moves_the_watermark_and_no_column_is_added(stream):
    source = stream("time TIMESTAMP, key STRING")
    query = stream.query(
        windows.with_watermark(
            source.to_df(), "time", timedelta(minutes=10), ahead=None
        )
    )
    source.add_data([(FAR, "far")])
    source.add_data([(at("12:00"), "a")])
    assert query.frame.columns == ["time", "key"]
    query.step()
    assert query.batches[-1].watermark == FAR - timedelta(minutes=10)


@pytest.mark.slow
def test_the_reason_of_the_quarantine_wins_and_far_rows_are_bad_rows(spark, stream):
    lines = [("2010-01-01 12:00:00,a",), ("junk",), ("2099-01-01 00:00:00,far",)]
    schema = schemas.from_ddl("time TIMESTAMP, key STRING")

    def transform(rows):
        return windows.with_watermark(
            quarantine.parse_csv(rows, schema), "time", "1 minute"
        )

    once = transform(spark.createDataFrame(lines, "value STRING"))
    assert once.columns[:3] == ["time", "key", "_reason"]
    assert quarantine.good_rows(once).collect() == [(at("12:00"), "a")]
    assert quarantine.bad_rows(once).select("_reason", "_raw").collect() == [
        ("not 2 fields", "junk"),
        (
            "time: 2099-01-01 00:00:00 is more than 1 hour ahead",
            "2099-01-01 00:00:00,far",
        ),
    ]
    source = stream("value STRING")
    source.add_data(lines)
    [batch] = stream.query(transform(source.to_df())).step()
    columns = (0, 1, 2, 3)  # the file is another
    assert [[row[i] for i in columns] for row in batch.rows] == [
        [row[i] for i in columns] for row in once.collect()
    ]
    # What the parse found, and what the watermark found after it.
    metrics = [_values(row) for row in batch.progress.observedMetrics.values()]
    assert sorted((row["rows"], row["bad_rows"]) for row in metrics) == [(0, 1), (3, 1)]


def _values(metrics):
    if "values" in metrics:
        return dict(zip(("rows", "bad_rows"), metrics["values"], strict=False))
    return metrics.asDict()


def test_a_row_just_within_the_bound_stays(spark):
    rows = spark.range(1).select(
        (F.current_timestamp() + F.expr("INTERVAL 1 HOUR")).alias("at_the_bound"),
        (F.current_timestamp() + F.expr("INTERVAL 3600.000001 SECOND")).alias(
            "past_it"
        ),
    )
    for name, expected in (("at_the_bound", True), ("past_it", False)):
        kept = (
            windows.with_watermark(rows, name, "1 minute")
            .select(F.col(name).isNotNull())
            .first()
        )
        assert kept == (expected,)


def test_a_static_frame_gets_the_same_rows(spark):
    rows = spark.createDataFrame(
        [(at("12:00"), "a"), (FAR, "far")], "time TIMESTAMP, key STRING"
    )
    noted = windows.with_watermark(rows, "time", "10 minutes", ahead="2 days")
    assert quarantine.good_rows(noted).collect() == [(at("12:00"), "a")]
    reason = "time: 2099-01-01 00:00:00 is more than 2 days ahead"
    assert quarantine.bad_rows(noted).collect() == [(None, "far", reason)]
    assert_df_equality(
        windows.with_watermark(rows, "time", "1 minute", ahead=None), rows
    )


WRONG: list[tuple[dict[str, Any], str]] = [
    (
        {"delay": "0 seconds"},
        "newest; give '1 millisecond', or how late rows may be, such as '10 minutes'",
    ),
    ({"delay": "-10 minutes"}, "delay is -10 minutes; with less than a millisecond"),
    (
        {"delay": timedelta(microseconds=999)},
        "with less than a millisecond Spark drops",
    ),
    ({"delay": "10 min"}, "cannot read delay '10 min'; write it like '10 seconds'"),
    ({"ahead": "-1 hour"}, "ahead must be zero or longer, not -1 hour"),
    ({"ahead": "soon"}, "cannot read ahead 'soon'"),
    ({"time": "tme"}, "there is no column tme; did you mean time?"),
    (
        {"time": "zzz"},
        "there is no column zzz; the columns are: time, number, text, local, day, a.b",
    ),
    (
        {"time": "number"},
        (
            "column number is bigint, not a timestamp; make it one first:"
            " frame.withColumn("
        ),
    ),
    ({"time": "number"}, "F.timestamp_seconds('number'))  # or timestamp_millis"),
    (
        {"time": "text"},
        (
            "column text is string, not a timestamp; make it one first:"
            " frame.withColumn('text',"
        ),
    ),
    ({"time": "local"}, "frame.withColumn('local', F.col('local').cast('timestamp'))"),
    ({"time": "day"}, "frame.withColumn('day', F.col('day').cast('timestamp'))"),
    ({"time": "a.b"}, "frame.withColumn('a.b', F.timestamp_seconds('`a.b`'))"),
]


def typed(spark):
    columns = (
        "time TIMESTAMP, number BIGINT, text STRING, local TIMESTAMP_NTZ, day DATE,"
        " `a.b` DOUBLE"
    )
    return spark.createDataFrame([], columns)


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_a_wrong_watermark_says_what_is_wrong(spark, given, message):
    given = {"time": "time", "delay": "1 minute", **given}
    assert message in refusal(windows.with_watermark, typed(spark), **given)


def test_the_fixes_in_the_messages_work(spark):
    frame = spark.createDataFrame(
        [(1, "2010-01-01 00:00:00", 1.5)], "number BIGINT, text STRING, `a.b` DOUBLE"
    ).withColumns({"day": F.to_date("text"), "local": F.to_timestamp_ntz("text")})
    for name in frame.columns:
        said = refusal(windows.with_watermark, frame, name, "1 minute")
        fixed = eval(said.partition("make it one first: ")[2], {"frame": frame, "F": F})  # noqa: S307
        assert windows.with_watermark(fixed, name, "1 minute").count() == 1


@pytest.mark.parametrize("column", ["number", "a.b"])
def test_a_window_of_no_timestamp_is_told_with_its_fix(spark, column):
    quoted = f"`{column}`"
    for window in (
        windows.tumbling(quoted, "1 hour"),
        windows.session(F.col(quoted), "1 hour"),
    ):
        with pytest.raises(AnalysisException) as error:
            _ = typed(spark).groupBy(window).count().schema  # where Spark finds it
        line = wrong_event_time(error.value)
        assert line is not None
        assert f"event-time column {column} is " in line
        fixed = eval(  # noqa: S307
            line.partition("make it one first: ")[2], {"frame": typed(spark), "F": F}
        )
        assert fixed.groupBy(windows.tumbling(quoted, "1 hour")).count().collect() == []


def test_a_query_that_cannot_start_without_a_watermark_says_how_to_get_one(stream):
    hourly = (
        stream("time TIMESTAMP")
        .to_df()
        .groupBy(windows.tumbling("time", "1 hour"))
        .count()
    )
    with pytest.raises(
        InvalidInputError,
        match="after windows.with_watermark.frame, 'time', '10 minutes'",
    ):
        start(hourly, sinks.foreach_batch(print), name="hourly")


@pytest.mark.connect
def test_a_second_watermark_is_refused_at_the_call(stream):
    source = stream("time TIMESTAMP, other TIMESTAMP, `_reason` STRING, n INT")
    once = windows.with_watermark(source.to_df(), "time", "1 minute")
    for time in ("time", "other"):
        with pytest.raises(
            InvalidInputError,
            match="already has a watermark, on column time; call it once",
        ):
            windows.with_watermark(once, time, "1 minute")
    wrong = source.to_df().drop("_reason").withColumnRenamed("n", "_REASON")
    with pytest.raises(
        InvalidInputError,
        match="column _reason is not a string, and the kit writes its rea",
    ):
        windows.with_watermark(wrong, "time", "1 minute")


# --- top

WORDS = [
    ("x", "ka", 5),
    ("x", "lo", 7),
    ("x", "mi", 5),
    ("y", "ka", 1),
    ("y", "zu", None),
    ("y", "lo", 9),
]
COLUMNS = "`a.b` STRING, `the ``word`` ` STRING, n INT"


@pytest.mark.fast("1-each0-expected0", "9-each2-expected2")
@pytest.mark.parametrize(
    ("n", "each", "expected"),
    [
        (1, [], [5]),
        # Of two that are equal, the one whose other columns come first
        (3, [], [5, 1, 0]),
        (9, [], [5, 1, 0, 2, 3, 4]),
        (1, ["a.b"], [1, 5]),
        (2, ["a.b"], [1, 0, 5, 3]),
        (1, ["the `word` "], [0, 5, 2, 4]),
        (5, ["a.b", "the `word` "], [0, 1, 2, 3, 5, 4]),
    ],
)
def test_top_keeps_the_highest_rows_in_one_order(spark, n, each, expected):
    for rows in (WORDS, WORDS[::-1]):
        kept = windows.top(n, by="n", each=each)(
            spark.createDataFrame(rows, COLUMNS).repartition(3)
        )
        assert kept.columns == ["a.b", "the `word` ", "n"]
        assert kept.collect() == [WORDS[number] for number in expected]


def test_top_orders_by_what_has_an_order(spark):
    rows = spark.sql(
        "SELECT 1 AS n, map('a', 1) AS m, named_struct('v', parse_json('1')) AS s, 2"
        " AS o"
    )
    assert windows.top(1, by="n")(rows).select("o").collect() == [(2,)]
    named_so = rows.select("o", F.struct(F.col("n").alias("variant")).alias("t"))
    assert windows.top(1, by="t")(named_so).select("o").collect() == [(2,)]
    for name, kind in (("m", "map<string,int>"), ("s", "struct<v:variant>")):
        assert f"top(): column {name} is {kind}, which has no order" in refusal(
            windows.top(1, by="o", each=[name]), rows
        )


@pytest.mark.slow
def test_top_of_a_running_count_with_its_batch_read_whole(stream, tmp_path):
    source = stream("tag STRING")
    shown = sinks.snapshot(tmp_path / "top.csv").taking(windows.top(2, by="count"))
    query = stream.query(
        source.to_df().groupBy("tag").count(), mode="complete", sink=shown
    )
    source.add_data([(tag,) for tag in "aabbbc"])
    assert len(query.step()[0].rows) == 3
    assert (tmp_path / "top.csv").read_text() == "tag,count\nb,3\na,2\n"
    source.add_data([(tag,) for tag in "cc"])
    query.step()
    # C is as frequent as b: the name decides, also when the batch comes again
    for _ in range(2):
        assert (tmp_path / "top.csv").read_text() == "tag,count\nb,3\nc,3\n"
        query.replay()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda _: windows.top(0, by="n"), "n is 0; give 1 or more"),
        (
            windows.top(1, by="m"),
            "there is no column m; the columns are: a.b, the `word` , n",
        ),
        (
            windows.top(1, by="n", each=["a.c"]),
            "there is no column a.c; did you mean a.b?",
        ),
        (lambda _: windows.top(1, by="n", each="a.b"), "give a list of strings"),
    ],
)
def test_a_wrong_top_says_what_is_wrong(spark, call, message):
    assert message in refusal(call, spark.createDataFrame(WORDS, COLUMNS))
