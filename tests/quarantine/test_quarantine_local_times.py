"""Local times where the clock is changed twice a year: none is moved in silence.

It would be moved by an hour.
"""

import json
from datetime import UTC, datetime

import pytest
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit import display, quarantine, windows
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.schemas import schema_of

ZONE = "spark.sql.session.timeZone"
SCHEMA = schema_of(time=T.TimestampType(), n=T.IntegerType())
BERLIN = "Europe/Berlin"
MISSING = "time: not a timestamp"
# Each text, and the moment that it names in Berlin, in UTC; None where there is no such
# time.
TIMES = {
    "2024-03-31 01:59:59": "2024-03-31T00:59:59",
    "2024-03-31 02:30:00": None,
    "2024-03-31T02:00": None,
    "2024-03-31T02:59:59.999999": None,
    "2024-03-31 03:00": "2024-03-31T01:00:00",
    "2024-03-31T02:30:00Z": "2024-03-31T02:30:00",
    "2024-03-31 02:30:00+01:00": "2024-03-31T01:30:00",
    "2024-03-31 02:30:00 Europe/Athens": "2024-03-31T00:30:00",
    "2024-03-31 02:30:00 Europe/Berlin": None,
    "2024-03-31T02:30:00CET": None,
    "2024-03-31 02:30:00 UTC+1": "2024-03-31T01:30:00",
    "2024-03-10T02:30:00 America/New_York": None,
    "2024-03-10 03:30:00 America/New_York": "2024-03-10T07:30:00",
    "2024-10-27 02:30:00Europe/Berlin": "2024-10-27T00:30:00",
    "2024-03-31": "2024-03-30T23:00:00",
    "2024-10-27 02:30": "2024-10-27T00:30:00",  # it comes twice: the first
    "2024-10-27 02:30:00+01:00": "2024-10-27T01:30:00",
    "1893-04-01 00:03:00": None,  # the clock was set to a whole hour
}


@pytest.fixture
def zone(spark):
    """Set the session's time zone for the test."""
    former = str(spark.conf.get(ZONE))
    yield lambda name: spark.conf.set(ZONE, name)
    spark.conf.set(ZONE, former)


def csv(spark, texts, pattern=None):
    lines = spark.createDataFrame(
        [(f"{text},{n}",) for n, text in enumerate(texts)], "value STRING"
    )
    return quarantine.parse_csv(lines, SCHEMA, timestamp_format=pattern)


def as_json(spark, texts, pattern=None):
    lines = [(json.dumps({"time": text, "n": n}),) for n, text in enumerate(texts)]
    frame = spark.createDataFrame(lines, "value STRING")
    return quarantine.parse_json(frame, SCHEMA, timestamp_format=pattern)


def read(rows):
    """Return the moment of each row in UTC, and its reason."""
    return [
        (
            (
                None
                if at is None
                else f"{datetime.fromtimestamp(at // 1_000_000, UTC):%Y-%m-%dT%H:%M:%S}"
            ),
            reason,
        )
        for at, reason in rows.select(F.unix_micros("time"), "_reason").collect()
    ]


@pytest.mark.slow
@pytest.mark.parametrize("parse", [csv, as_json])
def test_a_time_that_does_not_exist_is_a_bad_row_but_in_utc(spark, zone, parse):
    zone(BERLIN)
    assert read(parse(spark, TIMES)) == [
        (moment, None if moment else MISSING) for moment in TIMES.values()
    ]
    by_pattern = read(
        parse(spark, ["31.3.2024 2:30", "31.3.2024 3:30"], "d.M.yyyy H:mm")
    )
    assert by_pattern == [(None, MISSING), ("2024-03-31T01:30:00", None)]
    assert read(parse(spark, ["31.3.2024 2:30 +0100"], "d.M.yyyy H:mm xx")) == [
        ("2024-03-31T01:30:00", None)
    ]
    assert read(parse(spark, ["31.3.2024"], "d.M.yyyy")) == [
        ("2024-03-30T23:00:00", None)
    ]
    named = {
        "31.3.2024 02:30 Europe/Berlin": None,
        "31.3.2024 03:30 Europe/Berlin": "2024-03-31T01:30:00",
        "31.3.2024 02:30 Europe/Athens": "2024-03-31T00:30:00",
        "10.3.2024 02:30 America/New_York": None,
        "10.3.2024 02:30 UTC": "2024-03-10T02:30:00",
    }
    found = read(parse(spark, named, "d.M.yyyy HH:mm VV"))
    assert found == [(moment, None if moment else MISSING) for moment in named.values()]
    words = ["Mar 31 02:30:00 CET 2024", "Mar 31 03:30:00 CET 2024"]
    assert read(parse(spark, words, "MMM dd HH:mm:ss zzz yyyy")) == [
        (None, MISSING),
        ("2024-03-31T01:30:00", None),
    ]
    zone("UTC")
    assert read(
        parse(spark, ["2024-03-31 02:30 Europe/Berlin"], "yyyy-MM-dd HH:mm VV")
    ) == [(None, MISSING)]
    assert read(parse(spark, ["2024-03-31 02:30:00"])) == [
        ("2024-03-31T02:30:00", None)
    ]


def test_a_plan_in_utc_has_no_trace_of_it(spark, zone, capsys):
    plans = []
    for name in ("UTC", BERLIN):
        zone(name)
        # The profiles cut a plan
        with in_force(spark, {"spark.sql.maxPlanStringLength": "1000000"}):
            csv(spark, ["2024-03-31 02:30:00"]).explain("extended")
        plans.append(
            "timestamp_ntz"
            in capsys.readouterr().out.partition("== Optimized Logical Plan ==")[2]
        )
    assert plans == [False, True]


def test_the_hour_that_comes_twice_is_two_windows_in_what_is_written(spark, zone):
    zone(BERLIN)
    moments = [
        (text,) for text in ("2024-10-27 02:30:00+02:00", "2024-10-27 02:30:00+01:00")
    ]
    rows = spark.createDataFrame(moments, "text STRING").select(
        F.col("text").cast("timestamp").alias("time")
    )
    counts = (
        rows.groupBy(windows.tumbling("time", "1 hour")).count().orderBy("window.start")
    )
    flat = display.render(windows.flatten(counts).select("start"), "csv")
    assert flat == "start\n2024-10-27 02:00:00+02:00\n2024-10-27 02:00:00+01:00\n"
    nested = counts.select(
        "window",
        F.array("window.start").alias("list"),
        F.create_map(F.lit("at"), "window.end").alias("map"),
    )
    twice = [
        ("2024-10-27 02:00:00+02:00", "2024-10-27 02:00:00+01:00"),
        ("2024-10-27 02:00:00+01:00", "2024-10-27 03:00:00+01:00"),
    ]
    lines = [f'"{{{begin}, {end}}}",[{begin}],{{at -> {end}}}' for begin, end in twice]
    assert display.render(nested, "csv").splitlines()[1:] == lines
    zone("UTC")
    assert display.render(windows.flatten(counts).select("start"), "csv").splitlines()[
        1:
    ] == [
        "2024-10-27 00:00:00",
        "2024-10-27 01:00:00",
    ]
