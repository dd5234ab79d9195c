"""Every command and every example of the README works as it stands."""

from __future__ import annotations

import inspect
import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from conftest import ROOT

from sparkstream_kit import sinks

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

    from sparkstream_kit.testing import Streams

README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
# These two are what CI runs; a test that ran them would run itself.
CI = {"make demo", "make test"}


def test_ci_runs_the_commands_that_set_up_everything() -> None:
    assert set(BLOCKS[0].split("\n")) - {""} == CI
    ci = (ROOT / ".ci" / "run").read_text("utf-8")
    assert all(re.search(rf"^stage {line}\b", ci, re.MULTILINE) for line in CI)


@pytest.mark.parametrize("name", [name for name in sinks.__all__ if name != "Sink"])
def test_each_sink_stands_in_the_table_of_promises_once(name: str) -> None:
    table = README.partition("## What is promised\n")[2].partition("\n**")[0]
    assert table.count(f"`sinks.{name}`") == 1, "enter it in the README, in the row of its promise"


@pytest.mark.slow
def test_the_shell_commands_run_one_after_the_other(tmp_path: Path) -> None:
    for name in ("jobs", ".venv"):
        (tmp_path / name).symlink_to(ROOT / name)
    script = "".join(BLOCKS[1:]).replace("kill", "exit 9")
    # Not the port that somebody may be using, and the last feeder is endless.
    script = re.sub(r"\b9999\b", "19999", script).replace("feed lines", "feed lines --port 19999")
    script = script.replace("sparkstream serve", "sparkstream serve --port 19002")
    with (tmp_path / "out").open("w") as out:
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        runs = len(re.findall(r"^(?:spark-submit|python) ", script, re.MULTILINE))
        assert shell.wait(40 * runs) == 0, (tmp_path / "out").read_text()
    finally:
        os.killpg(shell.pid, signal.SIGTERM)
    printed = (tmp_path / "out").read_text()
    for line in (
        "ProductKey             Orders  TotalSales",
        "sales_clean: 1 batch, 500 rows in, 0 bad rows, ",
        "|word |count|",
        "('since the beginning', 'ka', ",
        "  12:30 to 13:30   13:40",
        "log_errors: 3 batches, 300 rows in, 0 late rows dropped, 8 bad rows, ",
    ):
        assert line in printed
        assert line.rstrip(" ") in README


@pytest.mark.slow
def test_the_python_examples_run_one_after_the_other(
    spark: SparkSession, stream: Streams, tmp_path: Path
) -> None:
    (tmp_path / "events").mkdir()
    for hour in (1, 2):
        lines = [f'{{"time": "2026-01-01T0{hour}:1{n}:00Z", "action": "open"}}\n' for n in range(hour)]
        (tmp_path / "events" / f"{hour}.json").write_text("".join(lines))
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        there = block.replace('"events/"', repr(str(tmp_path / "events")))
        exec(compile(there, "README.md", "exec"), names)  # noqa: S102 - our own README
    assert [row["count"] for row in spark.table("hourly").orderBy("start").collect()] == [1, 2]
    tests = [name for name in names if name.startswith("test_")]
    assert len(tests) == 2
    for name in tests:
        fixtures = {"spark": spark, "stream": stream}
        names[name](*(fixtures[asked] for asked in inspect.signature(names[name]).parameters))
