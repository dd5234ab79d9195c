"""Results for people: tables and bars as text, a picture on a terminal alone."""

import json
import re
from datetime import datetime
from decimal import Decimal

import pytest
from conftest import refusal
from pyspark.sql import functions as F

from sparkstream_kit import windows
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.display import bars, render, table
from sparkstream_kit.sinks.base import JSON

# --- tables and bars


def test_a_table_aligns_and_shows_null():
    assert table(
        ["key", "n"], [["a", "1"], [None, "20"], ["long one", None]], right={1}
    ).splitlines() == [
        "key          n",
        "--------  ----",
        "a            1",
        "NULL        20",
        "long one  NULL",
    ]
    assert table(["key"], []) == "key\n---\n"


@pytest.mark.parametrize("width", [20, 40, 80])
def test_the_longest_bar_fills_the_width_and_the_others_are_in_proportion(width):
    lines = bars([("a", 800.0), ("bb", 400.0), ("c", 0)], width=width).splitlines()
    assert [len(line) for line in lines] == [width] * 3
    assert lines[0].count("█") == 2 * lines[1].count("█") + lines[1].count("▌")
    assert "█" not in lines[2]
    assert [line.split()[-1] for line in lines] == ["800.00", "400.00", "0.00"]


def test_bars_of_nothing_and_of_zeros():
    assert bars([]) == ""
    assert bars([("a", 0), ("b", -5)], width=20).split() == ["a", "0.00", "b", "-5.00"]
    assert bars([("a", float("nan")), ("b", float("inf"))]).split() == [
        "a",
        "nan",
        "b",
        "inf",
    ]


# --- a frame as text


@pytest.fixture
def frame(spark):
    rows = [
        (
            "a,b",
            Decimal("12345678901234567890.10"),
            datetime(2024, 1, 31, 10, 30),  # noqa: DTZ001
        ),
        (None, Decimal("-0.05"), None),
    ]
    return spark.createDataFrame(
        rows, "`a key` string, amount decimal(38,2), at timestamp"
    )


def test_csv_is_exact(frame):
    assert (
        render(frame, "csv")
        == 'a key,amount,at\n"a,b",12345678901234567890.10,2024-01-31'
        " 10:30:00\n,-0.05,\n"
    )


def test_json_is_exact(frame):
    assert json.loads(render(frame, "json"), parse_float=Decimal) == [
        {
            "a key": "a,b",
            "amount": Decimal("12345678901234567890.10"),
            "at": "2024-01-31T10:30:00.000000Z",
        },
        {"a key": None, "amount": Decimal("-0.05"), "at": None},
    ]
    assert json.loads(render(frame.where("false"), "json")) == []


def test_a_table_of_a_frame_has_its_numbers_on_the_right(frame):
    assert render(frame, "table").splitlines() == [
        "a key                   amount  at",
        "-----  -----------------------  -------------------",
        "a,b    12345678901234567890.10  2024-01-31 10:30:00",
        "NULL                     -0.05  NULL",
    ]


def test_the_hour_that_comes_twice_is_two_windows(spark):
    texts = [("2024-10-27 02:30:00+02:00",), ("2024-10-27 02:30:00+01:00",)]
    with in_force(spark, {"spark.sql.session.timeZone": "Europe/Berlin"}):
        rows = spark.createDataFrame(texts, "text STRING").select(
            F.col("text").cast("timestamp").alias("t")
        )
        counts = windows.flatten(
            rows.groupBy(windows.tumbling("t", "1 hour")).count()
        ).orderBy("start")
        shown = render(
            counts.select("start", F.array("end").alias("ends")), "csv"
        ).splitlines()
    assert shown[1:] == [
        "2024-10-27 02:00:00+02:00,[2024-10-27 02:00:00+01:00]",
        "2024-10-27 02:00:00+01:00,[2024-10-27 03:00:00+01:00]",
    ]


def test_an_offset_with_seconds_is_written_whole(spark):
    with in_force(spark, {"spark.sql.session.timeZone": "Europe/Berlin"}):
        old = spark.sql("SELECT TIMESTAMP'1890-01-01' AS t")
        assert render(old, "csv").splitlines() == ["t", "1890-01-01 00:00:00+00:53:28"]
        [[text]] = old.select(F.to_json(F.struct("t"), JSON)).collect()
    assert json.loads(text) == {"t": "1890-01-01T00:00:00.000000+00:53:28"}


def test_an_unknown_form_is_refused(frame):
    assert re.search(
        r"^unknown form jsn; did you mean json\?$", refusal(render, frame, "jsn")
    )
