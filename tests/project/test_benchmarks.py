"""The benchmarks run end to end; nothing here looks at a time."""

import json
import os
import sys
from dataclasses import asdict

import pytest
import report
import templates
from conftest import ROOT, process
from running import Limit, Program, Table, measure

RUN = [sys.executable, str(ROOT / "benchmarks" / "run.py")]


def script(folder, name, text):
    path = folder / f"{name}.py"
    path.write_text(text)
    return Program(name, (path,))


@pytest.mark.slow
def test_a_program_that_is_wrong_or_fails_has_no_figures(tmp_path):
    said: list[str] = []
    right = script(tmp_path, "right", """print('{"rows": [1]}')""")
    wrong = script(tmp_path, "wrong", """print('{"rows": [2]}')""")
    fails = script(tmp_path, "fails", """print("so far"); raise OSError("no disk")""")
    rows = measure(Table("Three", [right, wrong, fails], truth=[1]), 3, said.append)[
        "rows"
    ]
    assert [len(row["figures"]) for row in rows] == [3, 0, 0]
    assert [row["note"] for row in rows] == [
        "",
        "its result differs",
        "exit code 1: OSError: no disk",
    ]


@pytest.mark.slow
def test_all_processes_of_a_program_are_accounted_for(tmp_path):
    child = "import time\nwhile time.process_time() < 0.5: pass"
    text = (
        f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}]);"
        " print(1)"
    )
    assert script(tmp_path, "orphans", text).run().cpu > 0.5


def test_the_interval_is_that_of_the_sign_test():
    # Of five values even all of them hold 93.8 % only
    assert report.interval([5, 1, 4, 2, 3]) is None
    assert report.interval([5, 1, 4, 2, 3, 0]) == (0, 5)
    assert report.interval(range(10)) == (1, 8)


def test_a_goal_is_said_to_be_met_or_by_how_much_it_is_not():
    figures = {"kit": [1.2, 1.3, 9.0], "hand": [1.0, 1.0, 1.0]}
    rows = [
        {"name": name, "figures": of, "cpu": of, "rates": [], "note": ""}
        for name, of in figures.items()
    ]
    limits = [
        Limit("kit", 1.25),
        Limit("kit", 1.3, "hand"),
        Limit("kit", 0.2, "hand", seconds=True),
    ]
    table = {"title": "T", "unit": "s", "higher": False, "others": 0.0, "rows": rows}
    text = report.markdown(table | {"limits": [asdict(limit) for limit in limits]})
    kit, hand = (line.split(" | ")[-2:] for line in text.splitlines()[4:6])
    asked = "at most 1.25 s; at most 1.3 times hand; at most 0.2 s more than hand"
    assert kit == [asked, "**no**, 1.3; yes; **no**, 0.3 |"]
    assert hand == ["", " |"]


@pytest.mark.slow
def test_a_benchmark_fills_table_page_and_chart(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- figures: begin -->\nold\n<!-- figures: end -->\nafter\n"
    )
    row = {"name": "kit", "figures": [3.0], "cpu": [4.0], "rates": [], "note": ""}
    table = {
        "title": "Of before",
        "unit": "ms",
        "goal": "",
        "higher": False,
        "others": 0.0,
        "rows": [row],
    }
    before = {
        "name": "batch",
        "about": "",
        "command": "",
        "date": "",
        "machine": "",
        "tables": [table],
    }
    (tmp_path / "page.json").write_text(json.dumps({"batch": before}))
    command = [*RUN, "listener", "--runs", "1", "--page", str(page)]
    process(command, env={**os.environ, "BENCH_DIR": str(tmp_path)}, check=True)
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1], "old" in lines) == ("before", "after", False)
    rows = [
        line.split(" | ") for line in lines if line.startswith(("| kit", "| plain"))
    ]
    assert [row[0] for row in rows] == [
        "| kit",
        "| kit",
        "| plain PySpark, one that does nothing",
    ]
    assert rows[0][1] == "3", "what was measured before is not lost"
    assert all(float(row[1].replace(",", "")) > 0 and row[3] == "1" for row in rows)
    assert (tmp_path / "page.svg").read_text().startswith("<?xml")


def test_a_wrong_name_is_refused():
    done = process([*RUN, "strat"])
    assert done.returncode == 2
    assert "unknown benchmark strat; known: start, batch" in done.stderr


def test_each_job_that_reads_files_by_the_million_is_measured():
    jobs = {path.stem for path in templates.JOBS.glob("*.py")}
    # Which read no files
    others = {"dstream_wordcount", "socket_wordcount"}
    others |= {"kafka_orders", "kafka_word_count"}
    others |= {"sales_clean", "sales_totals"}  # in `throughput`
    # Which reads what `action_rows` writes; which is no stream
    others |= {"action_windows", "train_posts"}
    assert set(templates.RUNS) == jobs - others
