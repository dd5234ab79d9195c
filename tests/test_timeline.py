"""The drawing, in 80 columns: its windows and closing times are those of Spark."""

import os
import re
import sys
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

import pytest
from conftest import process, refusal

from sparkstream_kit import windows
from sparkstream_kit._internal.durations import to_microseconds
from sparkstream_kit.cli import main

LENGTHS = {
    "100 microseconds": ["100 microseconds", "30 microseconds"],
    "10 milliseconds": ["10 milliseconds", "4 milliseconds"],
    "90 seconds": ["90 seconds", "1 second", "50 seconds"],
    "1 hour": ["1 hour", "30 minutes", "25 minutes"],
    "7 hours": ["7 hours", "2 hours"],
    "1 day 12 hours": ["1 day", "12 hours"],
    "1 week": ["1 week", "1 day"],
}
SHAPES = [(length, slide) for length, slides in LENGTHS.items() for slide in slides]


def at(text):
    return datetime.fromisoformat(text)


def shown(text):
    """Return the windows that a text lists, as start and end."""
    listed = re.findall(r"^  (\S.*?) to (\S.*?)(?:   .*)?$", text, re.MULTILINE)
    return [
        (start, end if len(end) > 15 or " " in end else start[:11] + end)
        for start, end in listed
    ]


@pytest.mark.slow
def test_the_windows_are_those_that_spark_gives(spark):
    random = Random(1)  # noqa: S311 - test data
    for length, slide in SHAPES:
        size, step = to_microseconds("length", length), to_microseconds("slide", slide)
        if size // step >= 8:
            continue  # of more than eight windows not all are listed
        shift = timedelta(microseconds=random.randrange(-step + 1, step))
        row = at("1990-01-01") + timedelta(seconds=random.random() * 1e9)
        text = windows.explain(length=length, slide=slide, offset=shift, at=row)
        window = windows.sliding("row", length, slide, offset=shift).alias("window")
        found = (
            spark.createDataFrame([(row,)], "row TIMESTAMP")
            .select(window)
            .select("window.*")
            .collect()
        )
        assert {(at(start), at(end)) for start, end in shown(text)} == {
            tuple(each) for each in found
        }, text


@pytest.mark.slow
def test_a_window_closes_by_the_time_that_is_said_and_not_a_millisecond_before(stream):
    text = windows.explain(
        length="1 hour", watermark="10 minutes", at="2026-01-14 12:47"
    )
    [closes] = re.findall(r"12:00:00 to 13:00:00   (.*)", text)
    [late] = re.findall(r"is late once a\srow of\s(\S+\s\S+)\shas", text)
    assert (closes, " ".join(late.split())) == (
        "2026-01-14 13:10:00",
        "2026-01-14 12:57:00",
    )
    seen, row = datetime.fromisoformat(closes), at("2026-01-14 12:47")

    source = stream("time TIMESTAMP")
    rows = windows.with_watermark(source.to_df(), "time", "10 minutes")
    query = stream.query(rows.groupBy(windows.tumbling("time", "1 hour")).count())
    source.add_data([(row,), (seen - timedelta(milliseconds=1),)])
    source.add_data([(row,)])
    assert [batch.rows for batch in query.step() if batch.rows] == []
    # In one batch with what closes the window, a row still counts
    source.add_data([(seen,), (row,)])
    [[(window, count)]] = [batch.rows for batch in query.step() if batch.rows]
    assert (window["start"], count) == (at("2026-01-14 12:00"), 3)
    source.add_data([(row,)])  # too late
    assert [batch.late_rows for batch in query.step()] == [1]


@pytest.mark.parametrize("watermark", [None, "1 millisecond", "10 minutes", "2 weeks"])
@pytest.mark.parametrize(("length", "slide"), SHAPES)
def test_no_line_is_wider_than_80_columns(length, slide, watermark):
    for row in (None, "2026-03-01 23:59:59.999999", at("2026-01-01")):
        text = windows.explain(length=length, slide=slide, watermark=watermark, at=row)
        assert max(map(len, text.splitlines())) <= 80
        pictures = [line for line in text.splitlines() if re.search(r" \[-*\)", line)]
        assert 1 <= len(pictures) <= 8
        closing = [line for line in pictures if line.endswith(("|", ">"))]
        assert closing == ([] if watermark is None else pictures)


def test_a_time_without_a_day_is_of_a_day_that_is_shown():
    text = windows.explain(
        length="1 hour", slide="30 minutes", watermark="30 minutes", at="23:47"
    )
    assert (
        "  2026-01-14 23:00:00 to 2026-01-15 00:00:00   2026-01-15 00:30:00\n" in text
    )
    assert text == windows.explain(
        length="1 hour",
        slide="30 minutes",
        watermark="30 minutes",
        at="2026-01-14 23:47",
    )


def test_of_many_windows_both_ends_are_listed():
    text = windows.explain(length="1 day", slide="1 minute", at="2026-01-14 12:47")
    _, *listed = (
        text[text.index("It falls in 1,440 windows:") :]
        .partition("\n\n")[0]
        .splitlines()
    )
    assert listed[0] == "  2026-01-13 12:48:00 to 2026-01-14 12:48:00"
    assert listed[4] == "  … 1,432 more"
    assert listed[8] == "  2026-01-14 12:47:00 to 2026-01-15 12:47:00"


def test_weeks_that_start_on_thursdays_are_told():
    why = "Spark counts windows from 1970-01-01, a Thursday: weeks start on Thursdays"
    assert why in " ".join(windows.explain(length="1 week").split())
    assert "Thursday" not in windows.explain(length="1 week", offset="4 days")


def test_a_time_with_a_zone_is_told_in_utc():
    for given in (datetime(2026, 1, 14, 12, 47, tzinfo=UTC), "2026-01-14 14:47+02:00"):
        assert windows.explain(length="1 hour", at=given).startswith(
            "A row of 2026-01-14 12:47:00 in "
        )


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"length": "1 hr"}, "cannot read length '1 hr'; write it like '10 seconds'"),
    (
        {"slide": "2 hours"},
        (
            "slide 2 hours is longer than length 1 hour: rows between windows would be"
            " lost"
        ),
    ),
    (
        {"offset": "1 hour"},
        "offset 1 hour must be shorter than length 1 hour; subtract",
    ),
    (
        {"watermark": "0 seconds"},
        "watermark is 0 seconds; with less than a millisecond Spark drops",
    ),
    (
        {"at": "25:00"},
        "cannot read the time '25:00'; write it like '12:47' or '2026-01-14 12:47:30'",
    ),
    ({"at": "noon"}, "cannot read the time 'noon'"),
    (
        {"length": "3000000 days"},
        "windows of 3000000 days reach out of the years 1 to 9999; give shorter",
    ),
    (
        {"at": "0001-01-01 00:30", "length": "1 week"},
        "windows of 1 week reach out of the years 1 to 9999",
    ),
    ({"watermark": "3000000 days"}, "reach out of the years 1 to 9999"),
]


@pytest.mark.parametrize("given", [5, b"12:47", date(2026, 1, 14)], ids=str)
def test_what_is_no_time_is_refused(given):
    assert refusal(windows.explain, length="1 hour", at=given) == (
        f"cannot read the time {given!r}; write it like '12:47' or '2026-01-14"
        " 12:47:30'"
    )


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_what_cannot_be_drawn_is_one_line(given, message, capsys):
    assert message in refusal(windows.explain, **{"length": "1 hour", **given})
    flags = [
        word
        for name, value in {"length": "1 hour", **given}.items()
        for word in (f"--{name}", value)
    ]
    assert main(["windows", "explain", *flags]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert message in said.err


def test_the_command_prints_the_same_without_importing_pyspark(no_pyspark):
    flags = [
        "--length",
        "1 hour",
        "--slide",
        "30 minutes",
        "--watermark",
        "10 minutes",
        "--at",
        "12:47",
    ]
    command = [sys.executable, "-m", "sparkstream_kit", "windows", "explain", *flags]
    done = process(command, env={**os.environ, **no_pyspark})
    assert (done.returncode, done.stderr) == (0, "")
    said = windows.explain(
        length="1 hour", slide="30 minutes", watermark="10 minutes", at="12:47"
    )
    assert done.stdout == said + "\n"
