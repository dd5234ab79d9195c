"""The job `sensor_alerts`: it finds the spikes and silences put into the readings, and no others."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta
from typing import Any

import pytest
import sensor_alerts
from pyspark.sql import functions as F

from sparkstream_kit import feeds
from sparkstream_kit.cli import main
from sparkstream_kit.testing import assert_stream_equals_batch

DELAY = timedelta(minutes=2)
WHAT = {"Ewma": "spike", "Silent": "silence"}


def lines(rows):
    return [(feeds.json_line(row),) for row in rows]


def found(alerts):
    """Return alerts in the form of the truth."""
    return sorted((row.device, f"{row.time:%Y-%m-%dT%H:%M:%SZ}", WHAT[row.rule]) for row in alerts)


@pytest.mark.slow
def test_alerts_found_are_alerts_injected_over_kills_and_restarts(stream):
    made = feeds.disturb(
        feeds.sensors_rows(3000, seed=4), time="time", late=0.02, bad=0.01, ahead=0.005, delay=DELAY,
        rows_per_file=600, seed=4,
    )  # fmt: skip
    assert (len(made.late) > 20, len(made.bad) > 5, len(made.ahead) > 2) == (True, True, True)
    source = stream("value STRING")
    query = stream.query(sensor_alerts.transform(source.to_df()))
    alerts = []
    for start in range(0, len(made.arriving), 600):
        source.add_data(lines(made.arriving[start : start + 600]))
        delivered = query.step()
        alerts += [row for batch in delivered for row in batch.rows]
        if start == 1200:
            assert [batch.rows for batch in query.replay()] == [delivered[-1].rows]
            query.restart()
    expected = feeds.sensors_truth(made.counted, delay=DELAY)
    assert {what for *_, what in expected} == {"spike", "silence"}
    assert found(alerts) == sorted(expected)
    assert "deviations above the moving mean " in next(row.reason for row in alerts if row.rule == "Ewma")


@pytest.mark.slow
def test_a_stream_gives_what_a_batch_gives(spark):
    rows = [
        *(("d1", minute, 20.0 + minute % 2) for minute in range(26)), ("d1", 26, 60.0),
        *(("d2", minute, 5.0) for minute in (0, 3, 17, 18)),
    ]  # fmt: skip
    frame = spark.createDataFrame(
        [(device, datetime(2024, 3, 1, 0, minute), degrees) for device, minute, degrees in rows],  # noqa: DTZ001
        "device STRING, time TIMESTAMP, temperature DOUBLE",
    )

    def transform(readings):
        return sensor_alerts.transform(readings.select(F.to_json(F.struct("*")).alias("value")))

    static = found(transform(frame).collect())
    assert ("d1", "2024-03-01T00:26:00Z", "spike") in static
    assert ("d2", "2024-03-01T00:13:00Z", "silence") in static
    assert_stream_equals_batch(transform, frame, watermark=("time", DELAY), examples=2)


@pytest.mark.slow
def test_the_job_finds_the_truth_in_two_runs_over_a_fed_folder(job, spark, folder, tmp_path):
    made = feeds.disturb(feeds.sensors_rows(1500, seed=2), time="time", bad=0.01, rows_per_file=300, seed=2)
    files = list(feeds.line_files(map(feeds.json_line, made.arriving), rows=300, name="sensors-{}.json"))
    out = tmp_path / "out"
    printed = ""
    for some in (files[:3], files[3:]):
        feeds.drip(some, folder)
        done = job("python", "sensor_alerts", folder, out, "--available-now")
        assert done.returncode == 0, done.stderr
        assert "Python worker" not in done.stderr  # what PySpark says of its own
        printed += done.stdout
    alerts = spark.read.parquet(str(out / "alerts")).collect()
    expected = feeds.sensors_truth(made.counted, delay=DELAY)
    assert found(alerts) == sorted(expected)
    assert len(printed.splitlines()) == len(expected)
    assert spark.read.parquet(str(out / "bad")).count() == len(made.bad)


def test_wrong_arguments_are_one_line(refused, tmp_path):
    (tmp_path / "home" / "in").mkdir()
    cases = [
        (["in"], "the following arguments are required: OUT_DIR"),
        (["in", "in/out"], "OUT_DIR in/out lies in the input folder in"),
    ]
    refused("sensor_alerts", cases)


def test_the_truth_of_readings_is_known():
    rows: list[dict[str, Any]] = [
        {"device": "d1", "time": f"2024-03-01T00:{minute:02}:00Z", "temperature": degrees}
        for minute, degrees in ((0, 18.0), (20, 40.0), (29, 18.0))
    ]
    assert feeds.sensors_truth(rows) == [
        ("d1", "2024-03-01T00:10:00Z", "silence"), ("d1", "2024-03-01T00:20:00Z", "spike"),
    ]  # fmt: skip


def test_the_command_lands_readings_and_their_truth(tmp_path):
    fed = tmp_path / "in"
    assert main(["feed", "sensors", str(fed), "--files", "2", "--rows", "300", "--every", "0"]) == 0
    rows = [json.loads(line) for file in sorted(fed.glob("s*")) for line in file.read_text().splitlines()]
    told = json.loads((fed / "_truth.json").read_text())["truth"]
    assert list(map(tuple, told)) == feeds.sensors_truth(rows, delay=DELAY)
    assert rows == list(feeds.sensors_rows(600, seed=0))


def test_the_feed_is_the_same_again():
    made = list(feeds.sensors_rows(500, seed=9))
    assert made == list(feeds.sensors_rows(600, seed=9))[:500]
    assert [row["time"] for row in made] == sorted(row["time"] for row in made)
    digest = hashlib.sha256(repr(made).encode()).hexdigest()  # another one: known truth has changed
    assert digest[:16] == "bca7f868e4da5ed3"
