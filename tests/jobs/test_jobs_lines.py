"""What holds for the lines of all jobs: each is in the result or aside, and none fails the job."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from conftest import ON_4_0

from sparkstream_kit import feeds

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

ONE_FILE = ("--available-now", "--max-files-per-trigger", "1")
BY_KEY = pytest.mark.skipif(ON_4_0, reason="transformWithState is for pandas only on Spark 4.0")


def in_this_session(name: str, *args: object) -> None:
    """Run a job's main without what ends a process."""
    assert import_module(name).main.__wrapped__([str(arg) for arg in args]) == 0


FED: dict[str, tuple[Any, str, Any]] = {
    "action_windows": (feeds.actions_rows, "time", feeds.json_line),
    "ad_join": (feeds.ads_rows, "event_time", feeds.json_line),
    "events_to_postgres": (feeds.events_rows, "time", feeds.csv_line),
    "log_errors": (feeds.log_rows, "time", feeds.log_line),
    "sensor_alerts": (feeds.sensors_rows, "time", feeds.json_line),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[BY_KEY] if name == "sensor_alerts" else []) for name in FED]
)
def test_what_is_bad_or_far_ahead_is_aside_and_every_query_counts_it(
    name: str, spark: SparkSession, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, time, written = FED[name]
    made = feeds.disturb(rows(240, seed=3), time=time, bad=0.05, ahead=0.05, rows_per_file=80, seed=4)
    assert min(len(made.bad), len(made.ahead)) > 3
    feeds.drip(feeds.line_files(map(written, made.arriving), rows=80, name="lines-{}"), folder)
    aside = Counter([*made.bad, *map(written, made.ahead)])
    out, database = tmp_path / "out", tmp_path / "events.db"
    if name == "events_to_postgres":
        to = ("--database", f"sqlite:///{database}", "--checkpoint", tmp_path / "ckpt")
        in_this_session(name, folder, *to, *ONE_FILE)
        with sqlite3.connect(database) as connection:
            found = [raw for (raw,) in connection.execute("SELECT _raw FROM events_bad")]
    else:
        in_this_session(name, folder, out, *ONE_FILE)
        found = [row["_raw"] for row in spark.read.parquet(str(out / "bad")).collect()]
    assert Counter(found) == aside
    counted = re.findall(r"([\d,]+) bad rows", capsys.readouterr().err)
    assert {int(each.replace(",", "")) for each in counted} - {0} == {aside.total()}
