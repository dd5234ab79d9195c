"""Disturbed rows: just the late ones are late for Spark, and what counts stays known."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from conftest import refusal

from sparkstream_kit.feeds import csv_line, disturb, json_line, line_files
from sparkstream_kit.feeds.files import microseconds

DELAY = 600
ALL: dict[str, Any] = {"late": 0.1, "duplicates": 0.1, "bad": 0.05, "ahead": 0.05}


def clicks(count, *, step=7, kind=int):
    """Make rows a few seconds apart; some have the time of the row before."""
    return [
        {"n": n, "time": kind(1_700_000_000 + n // 2 * 2 * step)} for n in range(count)
    ]


def late_for_spark(disturbed, size, *, batches_before=0):
    """Return which rows the rule of Spark's guide takes for late, with one file in each batch."""
    late, newest, watermarks = [], 0, [0] * (batches_before + 1)
    for first in range(0, len(disturbed.arriving), size):
        part = disturbed.arriving[first : first + size]
        rows = [
            row
            for row in part
            if not isinstance(row, str) and row not in disturbed.ahead
        ]
        late += [row for row in rows if row["time"] <= watermarks[-1 - batches_before]]
        newest = max([newest, *(row["time"] for row in rows)])
        watermarks.append(newest - DELAY)
    return late


@pytest.mark.fast("3-1", "4-10", "1-10")
@pytest.mark.parametrize("size", [1, 10, 37])
@pytest.mark.parametrize("seed", range(10))
def test_exactly_the_late_rows_are_late_by_either_watermark_that_spark_may_use(
    size, seed
):
    disturbed = disturb(clicks(900), time="time", rows_per_file=size, seed=seed, **ALL)
    assert late_for_spark(disturbed, size) == disturbed.late
    assert late_for_spark(disturbed, size, batches_before=1) == disturbed.late
    assert 45 < len(disturbed.late) < 135


def test_no_row_is_lost_and_each_kind_is_what_it_says():
    rows = clicks(2000)
    disturbed = disturb(rows, time="time", seed=1, **ALL)
    assert sorted(disturbed.counted + disturbed.late, key=lambda row: row["n"]) == rows
    assert disturbed.counted == sorted(disturbed.counted, key=lambda row: row["n"])
    assert 130 < len(disturbed.duplicates) < 270
    assert 60 < len(disturbed.bad) < 140
    assert 60 < len(disturbed.ahead) < 140
    assert len(disturbed.arriving) == 2000 + len(
        [*disturbed.duplicates, *disturbed.bad, *disturbed.ahead]
    )
    at: dict[Any, list[int]] = {}
    for place, row in enumerate(disturbed.arriving):
        if not isinstance(row, str) and row["time"] < 4_000_000_000:
            at.setdefault(row["n"], []).append(place)
    twice = {n for n, places in at.items() if len(places) > 1}
    assert twice == {row["n"] for row in disturbed.duplicates}
    # Some come in a later file
    assert {at[n][1] // 100 - at[n][0] // 100 for n in twice} > {0, 1}
    assert all(
        datetime.fromtimestamp(row["time"], UTC).year == 2099 for row in disturbed.ahead
    )
    assert disturbed.bad[0].startswith("not a row: ")
    with pytest.raises(json.JSONDecodeError):
        json.loads(disturbed.bad[0])
    assert len(set(disturbed.bad)) == len(disturbed.bad)


def test_what_has_landed_so_far_has_a_truth_of_its_own():
    whole = disturb(clicks(900), time="time", seed=1, **ALL)
    part = whole.first(500)
    assert part.arriving == whole.arriving[:500]
    assert part.counted == whole.counted[: len(part.counted)]
    assert (
        len(part.counted)
        + len(part.late)
        + len(part.duplicates)
        + len(part.bad)
        + len(part.ahead)
        == 500
    )
    assert late_for_spark(part, 100) == part.late


def test_a_seed_gives_the_same_and_without_shares_nothing_changes():
    rows = clicks(500)
    one, same, other = (
        disturb(rows, time="time", seed=seed, **ALL) for seed in (1, 1, 2)
    )
    assert one == same != other
    plain = disturb(rows, time="time", seed=1)
    assert (plain.arriving, plain.counted, set(plain.kinds)) == (
        rows,
        rows,
        {"counted"},
    )
    text = "\n".join(map(json_line, one.arriving))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "66b29df4a5168649"


@pytest.mark.parametrize(
    ("kind", "far"),
    [
        (int, 4_098_377_600),
        (float, 4_098_377_600.0),
        (lambda second: int(second * 1000), 4_098_377_600_000),
        (
            lambda second: datetime.fromtimestamp(second, UTC),
            datetime(2099, 11, 14, 22, 13, 20, tzinfo=UTC),
        ),
        (
            lambda second: f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%SZ}",
            "2099-11-14T22:13:20Z",
        ),
        (
            lambda second: f"{datetime.fromtimestamp(second, UTC):%F %T}",
            "2099-11-14 22:13:20",
        ),
        (lambda second: str(int(second)), "4098377600"),
    ],
    ids=["seconds", "fraction", "milliseconds", "datetime", "iso", "naive", "digits"],
)
def test_each_kind_of_time_keeps_its_kind(kind, far):
    disturbed = disturb(clicks(900, kind=kind), time="time", seed=3, late=0.1, ahead=1)
    assert disturbed.ahead[0]["time"] == far
    assert type(disturbed.ahead[0]["time"]) is type(far)
    plain = disturb(clicks(900), time="time", seed=3, late=0.1, ahead=1)
    assert (
        [row["n"] for row in disturbed.late] == [row["n"] for row in plain.late] != []
    )


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("2024-02-29T12:00:00+02:00", 1_709_200_800_000_000),
        ("2024-02-29", 1_709_164_800_000_000),
        ("20240229", 1_709_164_800_000_000),
        # As a date it would be one of the year 1512
        ("1512112001030", 1_512_112_001_030_000),
        (1_512_112_001_030, 1_512_112_001_030_000),
        ("-5", -5_000_000),
        (True, None),
        (None, None),
        ("soon", None),
        (float("nan"), None),
        (float("inf"), None),
        ("1e400.", None),
    ],
)
def test_times_are_read_or_not(value, wanted):
    assert microseconds(value) == wanted


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (
            {"late": 1.5},
            "late is 1.5; give a share of the rows from 0 to 1, such as 0.05",
        ),
        (
            {"ahead": -0.1},
            "ahead is -0.1; give a share of the rows from 0 to 1, such as 0.05",
        ),
        (
            {"bad": float("nan")},
            "bad is nan; give a share of the rows from 0 to 1, such as 0.05",
        ),
        ({"time": "tim"}, "row 1 has no field 'tim'; did you mean time?; give time=…"),
        (
            {"rows": [{"time": "soon"}]},
            "time of row 1 is the string 'soon'; give epoch seconds, an ISO text",
        ),
        (
            {"rows": [{"time": 2}, {"time": 1}]},
            "row 2 is older than the row before it; sort the rows by time",
        ),
        ({"delay": "0 seconds"}, "delay must be at least a millisecond, not 0 seconds"),
        ({"delay": "soon"}, "cannot read delay 'soon'; write it like '10 seconds'"),
        ({"rows_per_file": 0}, "rows_per_file is 0; give at least 1 row per file"),
        (
            {"late": 1, "rows_per_file": 200},
            "no row can be late: 300 rows in files of 200 span less than 10",
        ),
    ],
)
def test_what_cannot_be_disturbed_is_said_in_a_line(changed, problem):
    given = {"rows": clicks(300), "time": "time", "seed": 1, **changed}
    assert refusal(disturb, given.pop("rows"), **given).startswith(problem)


def test_no_rows_are_no_problem():
    assert disturb([], time="time", late=0.5, seed=1).arriving == []


def test_lines_and_files_of_rows():
    rows: list[dict[str, Any] | str] = [
        {"a": 1, "b": 'x "y", é'},
        {"a": None, "b": ""},
        "not a row: 3 {",
    ]
    assert [csv_line(row) for row in rows] == [
        '1,"x ""y"", é"',
        ',""',
        "not a row: 3 {",
    ]
    assert [json_line(row) for row in rows][::2] == [
        '{"a": 1, "b": "x \\"y\\", é"}',
        "not a row: 3 {",
    ]
    assert list(line_files(["a", "b", "c"], rows=3, name="x-{}.csv")) == [
        ("x-0001.csv", "a\nb\nc\n")
    ]
    assert "rows is 0; give at least 1 row per file" in refusal(
        line_files, [], rows=0, name="x-{}.csv"
    )
    assert "name 'x.csv' has no {} for the number" in refusal(
        line_files, [], rows=1, name="x.csv"
    )
