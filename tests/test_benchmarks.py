"""The benchmarks run end to end; nothing here looks at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RUN = [sys.executable, str(ROOT / "benchmarks" / "run.py")]


@pytest.mark.slow
def test_a_tiny_benchmark_compares_results_and_fills_table_page_and_chart(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- figures: begin -->\nold\n<!-- figures: end -->\nafter\n")
    command = [*RUN, "quarantine", "--scale", "0.0005", "--runs", "1", "--no-engines", "--page", str(page)]
    env = {**os.environ, "BENCH_DIR": str(tmp_path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert "differs" not in done.stdout

    # A truth that is another one: the programs have no figures any more.
    [truth] = tmp_path.glob("data/sales-*/truth.json")
    rows = json.loads(truth.read_text())
    truth.write_text(json.dumps([[rows[0][0], "0.01"], *rows[1:]]))

    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1], "old" in lines) == ("before", "after", False)
    tables = [line.split(" | ") for line in lines if line.startswith(("| kit", "| plain"))]
    assert [row[0] for row in tables] == ["| plain readStream.csv", "| kit"] * 2
    assert all(float(row[1]) > 0 and row[3] == "1" for row in tables)
    assert (tmp_path / "page.svg").read_text().startswith("<?xml")


def test_a_wrong_name_is_refused() -> None:
    done = subprocess.run([*RUN, "strat"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unknown benchmark strat; known: start, batch" in done.stderr
