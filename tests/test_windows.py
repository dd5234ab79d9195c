"""Windows against Spark itself: on a static and a streaming frame, and each message."""

from datetime import datetime, timedelta

import pytest
from chispa import assert_df_equality
from conftest import cases, refusal
from pyspark.sql import functions as F

from sparkstream_kit import run, sinks, start
from sparkstream_kit.windows import flatten, session, sliding, tumbling

EVENTS = "time timestamp, key string"


def at(clock):
    return datetime.fromisoformat(f"2024-01-01 {clock}")


def events(spark, *clocks):
    return spark.createDataFrame([(at(c), "a") for c in clocks], EVENTS)


def starts_and_ends(df):
    rows = flatten(df, df.columns[0]).orderBy("start").collect()
    return [
        (f"{r['start']:%H:%M:%S}", f"{r['end']:%H:%M:%S}", r["count"]) for r in rows
    ]


# time      00    05    10    15    20
# events     x     x     x
# windows   [----------)[----------)


@pytest.mark.parametrize(
    "length", ["10 seconds", timedelta(seconds=10), "interval 10 SECONDS"]
)
def test_tumbling_windows_touch_and_an_end_belongs_to_the_next(spark, length):
    counts = (
        events(spark, "00:00:00", "00:00:05", "00:00:10")
        .groupBy(tumbling("time", length))
        .count()
    )
    assert starts_and_ends(counts) == [
        ("00:00:00", "00:00:10", 2),
        ("00:00:10", "00:00:20", 1),
    ]


# time     -05   00    05    10    15    20
# events          x                 x
# +3 s     ---------3)[---------13)[-------
# -3 s       [-----------7)[----------17)[-


@pytest.mark.parametrize(
    ("offset", "first", "second"),
    [("3 seconds", "23:59:53", "00:00:13"), ("-3 seconds", "23:59:57", "00:00:07")],
)
def test_an_offset_moves_the_windows_either_way(spark, offset, first, second):
    counts = (
        events(spark, "00:00:00", "00:00:15")
        .groupBy(tumbling(F.col("time"), "10 seconds", offset=offset))
        .count()
    )
    assert [start for start, _, _ in starts_and_ends(counts)] == sorted(
        [first, second], reverse=first > second
    )


# time     -05   00    05    10    15    20
# events          x           x
# windows  [----------)
#                [----------)
#                      [----------)
#                            [----------)


def test_sliding_windows_overlap(spark):
    counts = (
        events(spark, "00:00:00", "00:00:10")
        .groupBy(sliding("time", "10 seconds", "5 seconds"))
        .count()
    )
    assert starts_and_ends(counts) == [
        ("23:59:55", "00:00:05", 1),
        ("00:00:00", "00:00:10", 1),
        ("00:00:05", "00:00:15", 1),
        ("00:00:10", "00:00:20", 1),
    ]


def test_sliding_windows_take_an_offset(spark):
    window = sliding("time", "10 seconds", timedelta(seconds=5), offset="1 second")
    counts = events(spark, "00:00:00").groupBy(window).count()
    assert starts_and_ends(counts) == [
        ("23:59:51", "00:00:01", 1),
        ("23:59:56", "00:00:06", 1),
    ]


# time      00    05    10    15    20.000001 30
# events     x           x           x
# gap 10    [---------------------) [-----------)


def test_a_session_ends_one_gap_after_its_last_row(spark):
    rows = events(spark, "00:00:00", "00:00:10", "00:00:20.000001")
    counts = rows.groupBy(session("time", "10 seconds")).count()
    assert starts_and_ends(counts) == [
        ("00:00:00", "00:00:20", 2),
        ("00:00:20", "00:00:30", 1),
    ]


def test_the_columns_keep_spark_s_names(spark):
    df = events(spark, "00:00:00")
    assert df.groupBy(tumbling("time", "1 hour")).count().columns == ["window", "count"]
    assert df.groupBy(sliding("time", "1 hour", "1 minute")).count().columns == [
        "window",
        "count",
    ]
    assert df.groupBy(session("time", "1 hour")).count().columns == [
        "session_window",
        "count",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "7 milliseconds",
        "0.000001 seconds",
        "+5 seconds",
        "1 day -1 hour",
        "1 week 2 days 3 hours 4 minutes 5.678901 seconds",
    ],
)
def test_durations_mean_what_they_mean_to_spark_to_the_microsecond(spark, text):
    ours, spark_s = tumbling("time", text), F.window("time", text)
    df = events(spark, "12:34:56.789012")
    assert_df_equality(df.select(ours.alias("w")), df.select(spark_s.alias("w")))


def test_a_timedelta_is_exact_where_a_float_of_seconds_is_not(spark):
    length = timedelta(days=40_000, microseconds=1)
    window = (
        events(spark, "00:00:00")
        .select(tumbling("time", length))
        .select("window.*")
        .first()
    )
    assert window
    assert window["end"] - window["start"] == length


# --- flatten


def hourly(spark):
    return events(spark, "00:10:00").groupBy("key", tumbling("time", "1 hour")).count()


def test_flatten_puts_start_and_end_in_the_window_s_place(spark):
    expected = spark.createDataFrame(
        [("a", at("00:00:00"), at("01:00:00"), 1)],
        "key string, start timestamp, end timestamp, count long",
    )
    assert_df_equality(flatten(hourly(spark)), expected, ignore_nullable=True)


def test_flatten_takes_timestamps_without_a_zone_and_odd_names(spark):
    local = events(spark, "00:10:00").select(
        tumbling(F.col("time").cast("timestamp_ntz"), "1 hour").alias("w.x"),
        F.lit(1).alias("a.b`c"),
    )
    flat = flatten(local, "w.x")
    assert flat.columns == ["start", "end", "a.b`c"]
    assert flat.first() == (at("00:00:00"), at("01:00:00"), 1)


@pytest.mark.parametrize(
    ("change", "column", "message"),
    [
        (lambda df: df, "windw", "there is no column windw; did you mean window?"),
        (
            lambda df: df.withColumnRenamed("window", "x"),
            "window",
            "no column window; the columns are: key,",
        ),
        (
            lambda df: df,
            "count",
            "flatten(): column count is bigint, not a window; give the column of",
        ),
        (
            lambda df: df.select(
                F.struct(F.lit(1).alias("start"), F.lit(2).alias("end")).alias("w")
            ),
            "w",
            "not a window",
        ),
        (
            lambda df: df.withColumnRenamed("key", "END"),
            "window",
            "column END exists already; rename",
        ),
    ],
)
def test_flatten_says_what_is_wrong(spark, change, column, message):
    assert message in refusal(flatten, change(hourly(spark)), column)


# --- messages, all of them before Spark is touched: no session is needed here


WRONG = cases("""
sliding('t', '10 seconds', '20 seconds')
    slide 20 seconds is longer than length 10 seconds: rows between windows would be lost; give
tumbling('t', '0 seconds')
    length must be longer than zero, not 0 seconds
tumbling('t', timedelta(seconds=-1))
    length must be longer than zero, not -1 day, 23:59:59
sliding('t', '10 seconds', '-1 second')
    slide must be longer than zero, not -1 second
session('t', '0 minutes')
    gap must be longer than zero, not 0 minutes
tumbling('t', '1 hour', offset='60 minutes')
    offset 60 minutes must be shorter than length 1 hour; subtract the length until it is: the
sliding('t', '10 seconds', '5 seconds', offset='-5 seconds')
    offset -5 seconds must be shorter than slide 5 seconds; subtract the slide until it is: the
tumbling('t', '1 month')
    length 1 month: a month has no fixed length; write it in days
session('t', '99999999999 days')
    gap 99999999999 days is too long; the longest is
session('t', '2 years')
    gap 2 years: a year has no fixed length; write it in days
session('t', 'ten seconds')
    cannot read gap 'ten seconds'; write it like '10 seconds',
""")


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_window_says_what_is_wrong(wrong):
    assert WRONG[wrong] in refusal(eval, wrong, globals())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "10 s",
        "10seconds",
        "1.5 hours",
        "1.0000005 seconds",
        "PT10S",
        "1 day 2",
    ],
)
def test_text_that_spark_cannot_read_or_would_round_is_refused(text):
    assert f"cannot read length {text!r}" in refusal(tumbling, "time", text)


# --- on a stream


def stream(spark, folder, *clocks):
    """One file a batch, in this order, with a watermark of a minute."""
    for number, clock in enumerate(clocks):
        batch = spark.createDataFrame(
            [(f"2024-01-01 {clock}", "a")], "time string, key string"
        )
        batch.coalesce(1).write.csv(str(folder / f"batch={number}"))
    reader = spark.readStream.schema(EVENTS).option("maxFilesPerTrigger", 1)
    return reader.csv(str(folder / "batch=*")).withWatermark("time", "1 minute")


def in_append_mode(df, table):
    run(start(df, sinks.memory(table), availableNow=True))
    return df.sparkSession.table(table).sort(*df.columns[:2]).collect()


# time      00:00     00:10     00:20     00:30 ... 01:00
# events     x x       x                             x
# emitted   [--- 2 ---)[--- 1 --)                    (still open)


@pytest.mark.connect
@pytest.mark.fast("tumbling")
@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (
            lambda: tumbling("time", "10 minutes"),
            [("00:00", "00:10", 2), ("00:10", "00:20", 1)],
        ),
        (
            lambda: sliding("time", "20 minutes", "10 minutes"),
            [("23:50", "00:10", 2), ("00:00", "00:20", 3), ("00:10", "00:30", 1)],
        ),
        (
            lambda: session("time", "5 minutes"),
            [("00:01", "00:08", 2), ("00:12", "00:17", 1)],
        ),
    ],
    ids=["tumbling", "sliding", "session"],
)
def test_on_a_stream_closed_windows_come_out_flat(spark, tmp_path, window, expected):
    lines = stream(spark, tmp_path, "00:01:00", "00:03:00", "00:12:00", "01:00:00")
    counts = lines.groupBy(window(), "key").count()
    rows = in_append_mode(flatten(counts, counts.columns[0]), "closed_windows")
    got = [(f"{r['start']:%H:%M}", f"{r['end']:%H:%M}", r["count"]) for r in rows]
    assert sorted(got, key=lambda r: r[1]) == expected


@pytest.mark.slow
def test_a_stream_can_aggregate_again_over_the_flattened_end(spark, tmp_path):
    counts = stream(spark, tmp_path, "00:01:00", "00:12:00", "01:00:00").groupBy(
        tumbling("time", "10 minutes"), "key"
    )
    flat = flatten(counts.agg(F.count("*").alias("n")))
    rows = in_append_mode(
        flat.groupBy("end", "start").agg(F.sum("n").alias("n")), "aggregated_again"
    )
    assert [(f"{r['end']:%H:%M}", r["n"]) for r in rows] == [("00:10", 1), ("00:20", 1)]
