"""The job `card_alerts`: it finds the frauds that were put into the payments, and no others."""

import csv
import hashlib
import json
from datetime import datetime, timedelta

import card_alerts
import pytest
from pyspark.sql import functions as F

from sparkstream_kit import feeds
from sparkstream_kit.cli import main
from sparkstream_kit.testing import assert_stream_equals_batch

DELAY = timedelta(minutes=10)
WHAT = {"Often": "burst", "ZScore": "amount", "Travel": "place"}


def found(alerts):
    """Return alerts in the form of the truth."""
    return sorted((row.card, f"{row.time:%Y-%m-%dT%H:%M:%SZ}", WHAT[row.rule]) for row in alerts)


def by_then(rows):
    """Return the frauds in payments that the watermark has passed."""
    last = datetime.fromisoformat(rows[-1]["time"]) - DELAY
    return sorted(each for each in feeds.cards_truth(rows) if datetime.fromisoformat(each[1]) <= last)


@pytest.mark.slow
def test_frauds_found_are_frauds_injected_over_kills_and_restarts(stream):
    made = feeds.disturb(
        feeds.cards_rows(3000, seed=3), time="time", late=0.02, bad=0.01, ahead=0.005, delay=DELAY,
        rows_per_file=600, seed=3,
    )  # fmt: skip
    assert (len(made.late) > 20, len(made.bad) > 5, len(made.ahead) > 2) == (True, True, True)
    source = stream("value STRING")
    query = stream.query(card_alerts.transform(source.to_df()))
    alerts = []
    for start in range(0, len(made.arriving), 600):
        part = made.arriving[start : start + 600]
        source.add_data([(feeds.csv_line(row),) for row in part])
        delivered = query.step()
        alerts += [row for batch in delivered for row in batch.rows]
        if start == 1200:
            assert [batch.rows for batch in query.replay()] == [delivered[-1].rows]
            query.restart()
    expected = by_then(made.counted)
    assert {what for *_, what in expected} == {"burst", "amount", "place"}
    assert found(alerts) == expected
    reasons = {row.rule: row.reason for row in alerts}
    assert reasons["Often"].startswith("5 rows in ")
    assert "deviations above the mean" in reasons["ZScore"]
    assert " km in " in reasons["Travel"]


@pytest.mark.slow
def test_a_stream_gives_what_a_batch_gives(spark):
    rows = [
        *((minute, 10.0 + minute % 3, 40.7) for minute in range(0, 24, 2)),
        (24, 900.0, 40.7), (30, 10.0, -33.9), *((40 + part / 10, 10.0, 40.7) for part in range(5)),
    ]  # fmt: skip
    first = datetime(2024, 6, 1)  # noqa: DTZ001
    frame = spark.createDataFrame(
        [("40", first + timedelta(minutes=m), "Cinema, Ltd", "x", a, lat, 0.5) for m, a, lat in rows],
        "card STRING, time TIMESTAMP, merchant STRING, category STRING, amount DOUBLE, "
        "lat DOUBLE, lon DOUBLE",
    )

    def transform(payments):
        columns = ("card", "time", "merchant", "category", "amount", "lat", "lon")
        return card_alerts.transform(payments.select(F.to_csv(F.struct(*columns)).alias("value")))

    assert [what for *_, what in found(transform(frame).collect())] == ["amount", "place", "place", "burst"]
    assert_stream_equals_batch(transform, frame, watermark=("time", DELAY), examples=2)


@pytest.mark.slow
def test_the_job_finds_the_truth_in_two_runs_over_a_fed_folder(job, spark, folder, tmp_path):
    made = feeds.disturb(feeds.cards_rows(1500, seed=2), time="time", bad=0.01, rows_per_file=300, seed=2)
    files = list(feeds.line_files(map(feeds.csv_line, made.arriving), rows=300, name="cards-{}.csv"))
    out = tmp_path / "out"
    printed = ""
    for some, more in ((files[:3], ()), (files[3:], ("--drain",))):
        feeds.drip(some, folder)
        done = job("python", "card_alerts", folder, out, "--available-now", "--max-bad", "5%", *more)
        assert done.returncode == 0, done.stderr
        printed += done.stdout
    expected = sorted(feeds.cards_truth(made.counted))
    assert found(spark.read.parquet(str(out)).collect()) == expected
    assert len(printed.splitlines()) == len(expected)


def test_wrong_arguments_are_one_line(refused, tmp_path):
    (tmp_path / "home" / "in").mkdir()
    cases = [
        (["in"], "the following arguments are required: OUT_DIR"),
        (["in", "in"], "OUT_DIR in is the input folder in"),
    ]
    refused("card_alerts", cases)


def test_the_command_lands_payments_and_their_truth(tmp_path):
    fed = tmp_path / "in"
    assert main(["feed", "cards", str(fed), "--files", "2", "--rows", "900", "--every", "0"]) == 0
    lines = [line for file in sorted(fed.glob("c*")) for line in file.read_text().splitlines()]
    names = ("card", "time", "merchant", "category", "amount", "lat", "lon")
    rows = [dict(zip(names, values, strict=True)) for values in csv.reader(lines)]
    told = json.loads((fed / "_truth.json").read_text())["truth"]
    assert list(map(tuple, told)) == feeds.cards_truth(rows) != []
    assert rows == list(feeds.cards_rows(1800, seed=0))


def test_the_feed_is_the_same_again():
    made = list(feeds.cards_rows(500, seed=9))
    assert made == list(feeds.cards_rows(600, seed=9))[:500]
    assert [row["time"] for row in made] == sorted(row["time"] for row in made)
    digest = hashlib.sha256(repr(made).encode()).hexdigest()  # another one: known truth has changed
    assert digest[:16] == "06a9adaa7b6a622e"
