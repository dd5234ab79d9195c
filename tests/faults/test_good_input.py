"""Each job and example on good input says nothing but its summary.

It says no verdict, no hint and no warning.
"""

import logging
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from sparkstream_kit import feeds
from sparkstream_kit.feeds.datasets import DATASETS

FILES, ROWS = 11, 30  # a verdict takes ten batches
ONE_FILE = ("--available-now", "--max-files-per-trigger", "1")


def rows(name):
    """Return a function that makes the lines of a dataset."""
    known = DATASETS[name]
    return lambda: [known.line(row) for row in known.rows(FILES * ROWS, seed=5)]


def sales():
    return [feeds.csv_line(row) for row in feeds.sales_rows(FILES * ROWS, seed=5)]


def hourly():
    times = (
        f"2024-01-01T{8 + n // 60:02}:{n % 60:02}:00Z" for n in range(FILES * ROWS)
    )
    return [
        feeds.json_line({"time": time, "product": "tea", "amount": 2}) for time in times
    ]


JOBS: dict[str, tuple[Callable[[], list[str]], Callable[[Path], tuple[Any, ...]]]] = {
    "action_rows": (rows("actions"), lambda out: (out,)),
    "ad_join": (rows("ads"), lambda out: (out, "--drain")),
    "card_alerts": (rows("cards"), lambda out: (out, "--drain")),
    "events_to_postgres": (
        rows("events"),
        lambda out: (
            "--database",
            f"sqlite:///{out}.db",
            "--checkpoint",
            f"{out}-ckpt",
        ),
    ),
    "hashtag_trends": (
        rows("posts"),
        lambda out: ("--drain", "--checkpoint", f"{out}-ckpt"),
    ),
    "hourly_sales": (hourly, lambda out: (out, "--drain")),
    "log_errors": (rows("logs"), lambda out: (out, "--drain")),
    "sales_clean": (sales, lambda out: (out,)),
    "sales_totals": (sales, lambda _: ()),
    "score_posts": (rows("messages"), lambda out: (f"{out}-model", out)),
    "sensor_alerts": (rows("sensors"), lambda out: (out, "--drain")),
}


@pytest.fixture
def quiet(capsys, caplog):
    """Run a job's `main`, which is well and says nothing that begs for a remedy."""

    def run(main, *args):
        with caplog.at_level(logging.WARNING):
            assert main.__wrapped__([str(arg) for arg in args]) == 0
        said = capsys.readouterr().err.splitlines()
        assert any(
            "last batch committed: " in line or "learned from" in line for line in said
        ), said
        assert [
            line for line in said if line.startswith(("verdict:", "hint:", "warning:"))
        ] == []
        assert [record.getMessage() for record in caplog.records] == []
        assert [line for line in said if "waiting" in line] == []

    return run


@pytest.mark.parametrize("name", JOBS)
def test_a_job_says_nothing_but_its_summary(
    name, spark, folder, tmp_path, quiet, monkeypatch
):
    made, flags = JOBS[name]
    feeds.drip(feeds.line_files(made(), rows=ROWS, name="lines-{}"), folder)
    monkeypatch.setattr(sys, "path", [str(ROOT / "examples"), *sys.path])
    main = import_module(name).main
    if name == "score_posts":
        quiet(import_module("train_posts").main, folder, *flags(tmp_path / "out")[:1])
    limits = ONE_FILE if name not in ("hashtag_trends", "score_posts") else ONE_FILE[:1]
    quiet(main, folder, *flags(tmp_path / "out"), *limits)
    if name == "action_rows":
        places = (tmp_path / "out" / "rows", tmp_path / "counts")
        quiet(
            import_module("action_windows").main, *places, "--available-now", "--drain"
        )


def test_a_job_that_reads_a_socket_says_nothing_but_its_summary(spark, quiet):
    with feeds.LineServer(["to be or not to be"] * 3) as server:
        quiet(import_module("socket_wordcount").main, server.host, server.port)
