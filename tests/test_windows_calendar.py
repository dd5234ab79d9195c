"""Days, weeks and months of a time zone, against Python's zoneinfo; no row is lost."""

from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from conftest import refusal
from pyspark.sql import functions as F

from sparkstream_kit import run, sinks, sources, start, windows
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.profiles import STATE_STORE, STATE_STORES
from sparkstream_kit.testing import assert_stream_equals_batch
from sparkstream_kit.windows import calendar, flatten

UNITS = ["day", "week", "month", "quarter", "year"]
# Days on which the clock changes: on the first ones in Havana, Cairo and São Paulo it
# skips midnight.
CHANGES = {
    "Europe/Berlin": [date(2026, 3, 29), date(2026, 10, 25)],
    "America/New_York": [date(2026, 3, 8), date(2026, 11, 1)],
    "Australia/Lord_Howe": [date(2026, 10, 4), date(2026, 4, 5)],  # by half an hour
    "America/St_Johns": [date(2026, 3, 8), date(2026, 11, 1)],
    "Asia/Kathmandu": [date(2026, 1, 1)],  # never; 5:45 ahead of UTC
    "America/Havana": [date(2026, 3, 8), date(2026, 11, 1)],
    "Africa/Cairo": [date(2026, 4, 24), date(2026, 10, 30)],
    "America/Sao_Paulo": [date(2018, 11, 4), date(2018, 2, 18)],
    "Pacific/Apia": [date(2011, 12, 31)],  # there was no 30 December
}
BERLIN = "Europe/Berlin"


def utc(text):
    return datetime.fromisoformat(text)  # Spark's rows have no zone


def first_of(day, unit):
    """Return the first day of the unit that a day is in."""
    months = {"month": 1, "quarter": 3, "year": 12}
    if unit in months:
        return date(day.year, (day.month - 1) // months[unit] * months[unit] + 1, 1)
    return day - timedelta(days=day.weekday()) if unit == "week" else day


def window_of(moment, unit, zone):
    """Return the window of a moment by zoneinfo, in UTC."""
    place = ZoneInfo(zone)
    day = first = first_of(moment.replace(tzinfo=UTC).astimezone(place).date(), unit)
    while first_of(day, unit) == first:
        day += timedelta(days=1)
    return tuple(
        datetime.combine(each, time(), place).astimezone(UTC).replace(tzinfo=None)
        for each in (first, day)
    )


def moments(zone):
    """Return moments of days around clock changes, and those just beside each midnight."""
    place, found = ZoneInfo(zone), set()
    for change in CHANGES[zone]:
        for day in range(-2, 3):
            midnight = datetime.combine(
                change + timedelta(days=day), time(), place
            ).astimezone(UTC)
            found |= {midnight + timedelta(minutes=30 * half) for half in range(48)}
            found |= {midnight + timedelta(microseconds=beside) for beside in (-1, 1)}
    return sorted(moment.replace(tzinfo=None) for moment in found)


def by_each_unit(frame, zone):
    for unit in UNITS:
        frame = calendar(frame, "time", unit, zone=zone).withColumnRenamed(
            "window", unit
        )
    return frame


#  Berlin, 29 March    00:00 01:00 03:00 …     24:00 on the clock
#  in UTC              23:00 00:00 01:00 …     22:00
#  window of the day   [------- 23 hours ------)


@pytest.mark.slow
@pytest.mark.parametrize("zone", CHANGES)
def test_windows_are_those_of_zoneinfo(spark, zone):
    given = moments(zone)
    rows = by_each_unit(
        spark.createDataFrame([(each,) for each in given], "time TIMESTAMP"), zone
    ).collect()
    for row, moment in zip(sorted(rows), given, strict=True):
        expected = {unit: window_of(moment, unit, zone) for unit in UNITS}
        assert {unit: tuple(row[unit]) for unit in UNITS} == expected, moment


@pytest.mark.slow
def test_days_are_as_long_as_on_a_clock(spark):
    def hours(*dates, zone):
        times = [(utc(f"{each} 16:00"),) for each in dates]
        days = calendar(
            spark.createDataFrame(times, "time TIMESTAMP"), "time", "day", zone=zone
        )
        length = F.unix_micros("window.end") - F.unix_micros("window.start")
        return [
            row[0]
            for row in days.orderBy("time").select(length / 3_600_000_000).collect()
        ]

    assert hours("2026-03-28", "2026-03-29", "2026-10-25", zone=BERLIN) == [24, 23, 25]
    assert hours("2026-04-04", "2026-10-03", zone="Australia/Lord_Howe") == [24.5, 23.5]


@pytest.mark.slow
def test_the_session_s_time_zone_makes_no_difference(spark):
    frame = spark.createDataFrame(
        [(each,) for each in moments(BERLIN)], "time TIMESTAMP"
    )
    shown = [
        F.unix_micros(f"{unit}.{side}") for unit in UNITS for side in ("start", "end")
    ]

    def found():
        return sorted(
            by_each_unit(frame, BERLIN).select(F.unix_micros("time"), *shown).collect()
        )

    in_utc = found()
    with in_force(spark, {"spark.sql.session.timeZone": BERLIN}):
        assert found() == in_utc


# --- on a stream

EVENTS = "time TIMESTAMP, key STRING"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["append", "update", "complete"])
def test_a_stream_counts_as_a_static_frame_does(spark, mode):
    def days(events):
        timed = windows.with_watermark(events, "time", "1 hour", ahead=None)
        return flatten(
            calendar(timed, "time", "day", zone=BERLIN).groupBy("window").count()
        )

    rows = spark.createDataFrame(
        [(each,) for each in moments(BERLIN)[::16]], "time TIMESTAMP"
    )
    keys = ["start", "end"] if mode == "update" else []
    assert_stream_equals_batch(
        days, rows, mode=mode, keys=keys, watermark=("time", "1 hour"), examples=3
    )


def test_rows_without_a_time_are_left_out(spark):
    rows = spark.createDataFrame(
        [(None,), (utc("2026-03-29 12:00"),)], "time TIMESTAMP"
    )
    (row,) = calendar(rows, "time", "day", zone=BERLIN).collect()
    assert row["window"] == (utc("2026-03-28 23:00"), utc("2026-03-29 22:00"))


@pytest.mark.slow
def test_a_checkpoint_of_another_zone_or_unit_is_refused(spark, tmp_path, folder):
    (folder / "1.csv").write_text("2026-03-29 12:00:00,a\n")
    rows = windows.with_watermark(
        sources.csv(spark, folder, schema=EVENTS), "time", "1 hour"
    )

    def begin(unit, zone):
        days = calendar(rows, "time", unit, zone=zone).groupBy("window").count()
        how: dict[str, Any] = {
            "name": "days",
            "checkpoint": tmp_path / "ckpt",
            "availableNow": True,
        }
        run(start(days, sinks.batch_files(tmp_path / "out"), **how))

    begin("day", BERLIN)
    begin("day", BERLIN)
    for unit, zone in [("week", BERLIN), ("day", "Europe/Paris")]:
        told = (
            f"the {unit} in {zone} of time; the checkpoint's query computes the day in"
            f" {BERLIN} of time"
        )
        assert told in refusal(begin, unit, zone)


# --- messages


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"unit": "days"}, "unknown unit days; did you mean day?"),
        ({"unit": "hour"}, "unknown unit hour; known: day, month, quarter, week, year"),
        (
            {"zone": "Europe/Berln"},
            "unknown time zone 'Europe/Berln'; did you mean Europe/Berlin?",
        ),
        (
            {"zone": "europe/berlin"},
            "unknown time zone 'europe/berlin'; did you mean Europe/Berlin?",
        ),
        ({"zone": "Pluto"}, "unknown time zone 'Pluto'; write it like Europe/Berlin"),
        ({"time": "tme"}, "calendar(): there is no column tme; did you mean time?"),
        (
            {"time": "key"},
            (
                "calendar(): event-time column key is string, not a timestamp; make it"
                " one first: "
            ),
        ),
        (
            {"time": "window"},
            (
                "column window exists already; rename or drop it, because calendar()"
                " adds window"
            ),
        ),
    ],
)
def test_a_wrong_calendar_says_what_is_wrong(spark, given, message):
    frame = spark.createDataFrame(
        [], "window TIMESTAMP" if given.get("time") == "window" else EVENTS
    )
    assert message in refusal(
        calendar, frame, **{"time": "time", "unit": "day", "zone": BERLIN, **given}
    )


#  St. John's, 29 October 2006: at 00:01 the clock goes back to 23:01 of the 28th.
#  in UTC         02:29   02:30   02:31         03:30   03:31
#  on the clock   23:59   00:00   23:01         00:00   00:01
#  window         … 28 October ------------------------)[ 29 October …


@pytest.mark.slow
def test_a_day_that_the_clock_goes_back_to_stays_open(stream):
    source = stream(EVENTS)
    timed = windows.with_watermark(source.to_df(), "time", "10 minutes")
    days = (
        calendar(timed, "time", "day", zone="America/St_Johns")
        .groupBy("window", "key")
        .count()
    )
    query = stream.query(flatten(days))
    for batch in [
        {"02:29": "28", "02:30": "29", "03:20": "28"},
        {"03:29": "28", "03:30": "29"},
    ]:
        source.add_data(
            [(utc(f"2006-10-29 {clock}"), key) for clock, key in batch.items()]
        )
        query.step()
    source.add_data([(utc("2006-11-02 00:00"), "end")])
    query.step()
    midnight = utc("2006-10-29 03:30")
    assert sorted(tuple(row) for batch in query.batches for row in batch.rows) == [
        (utc("2006-10-28 02:30"), midnight, "28", 3),
        (midnight, utc("2006-10-30 03:30"), "29", 2),
    ]


# The state store, and in how many partitions
MEMORY, ROCKSDB = ("memory", 1), ("rocksdb", 3)


MODES = ["append", "update", "complete"]


def batches_of(given):
    """Cut rows into batches, each row up to 40 minutes before or after its place."""
    random = Random(5)  # noqa: S311 - test data
    shaken = sorted(
        given, key=lambda each: each + timedelta(minutes=random.uniform(-20, 20))
    )
    size = -(-len(shaken) // 5)
    return [shaken[at : at + size] for at in range(0, len(shaken), size)]


def counted(query, mode):
    """Return the counts by window that a query has written, in batches some of which came twice."""
    written = {batch.batch_id: batch.rows for batch in query.batches}
    if mode == "complete":
        return {tuple(row)[:2]: row["count"] for row in written[max(written)]}
    found: dict[Any, int] = {}
    for _, rows in sorted(written.items()):
        for row in rows:
            assert mode == "update" or tuple(row)[:2] not in found, (
                "append writes a window once"
            )
            found[tuple(row)[:2]] = row["count"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "keeping", "zone", "unit"),
    [
        *(
            (mode, keeping, BERLIN, "day")
            for mode in MODES
            for keeping in (MEMORY, ROCKSDB)
        ),
        *(("append", ROCKSDB, zone, "day") for zone in CHANGES if zone != BERLIN),
        *((mode, ROCKSDB, BERLIN, "week") for mode in MODES),
        *((mode, MEMORY, "America/New_York", "month") for mode in MODES),
    ],
)
def test_a_stream_counts_as_zoneinfo_does_over_restarts(
    spark, stream, mode, keeping, zone, unit
):
    store, partitions = keeping
    given = moments(zone)
    end = given[-1] + timedelta(days=200)
    source = stream(EVENTS)
    timed = windows.with_watermark(source.to_df(), "time", "1 hour", ahead=None)
    counts = flatten(calendar(timed, "time", unit, zone=zone).groupBy("window").count())
    with in_force(
        spark,
        {
            STATE_STORE: STATE_STORES[store],
            "spark.sql.shuffle.partitions": str(partitions),
        },
    ):
        query = stream.query(counts, mode=mode)
        for number, batch in enumerate(batches_of(given)):
            source.add_data([(each, "a") for each in batch])
            query.step()
            if number == 1:
                query.restart()
            if number == 3:
                query.kill_before_commit()
        source.add_data([(end, "end")])
        query.step()
    found = counted(query, mode)
    found.pop(window_of(end, unit, zone), None)
    assert found == Counter(window_of(each, unit, zone) for each in given)


def test_microseconds_count_in_any_year(spark):
    given = [
        utc(f"{year}-06-30 23:59:59.999999")
        for year in ("0900", "1900", "2300", "9998")
    ]
    days = calendar(
        spark.createDataFrame([(each,) for each in given], "time TIMESTAMP"),
        "time",
        "day",
        zone="UTC",
    )
    ends = [row["window"]["end"] for row in days.orderBy("time").collect()]
    assert ends == [each + timedelta(microseconds=1) for each in given]


def test_without_a_watermark_append_mode_is_refused_in_one_line(stream):
    days = (
        calendar(stream(EVENTS).to_df(), "time", "day", zone=BERLIN)
        .groupBy("window")
        .count()
    )
    assert "watermark" in refusal(
        start, days, sinks.memory("no_watermark"), availableNow=True
    )
