"""Broken jobs, repaired as the skill for agents says; a judge counts rows without Spark."""

import json
import re
import runpy
import shutil
import sqlite3
import tomllib
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from conftest import ROOT, environment, process

HERE = Path(__file__).parent
FAULTS = tomllib.loads((HERE / "faults.toml").read_text("utf-8"))
KEPT = ("ckpt", "bad", "shop.db", "totals.csv")  # what a backup has
FILES = 4


def lines(number):
    """Return the lines of in/NUMBER.json: three sales, and a line that is none."""
    things = [("tea", "a", 2), ("ink", "b", 1), ("tea", "b", 5 + number)]
    sales = [
        {"id": 10 * number + at, "product": product, "shop": shop, "amount": amount}
        for at, (product, shop, amount) in enumerate(things)
    ]
    return [*map(json.dumps, sales), f"not a sale, {number}"]


def land(project, number):
    (project / "in" / f"{number}.json").write_text(
        "".join(f"{line}\n" for line in lines(number))
    )


def run_job(project, job, capfd):
    """Run the job in this process; return its exit code and its standard error."""
    capfd.readouterr()
    return (
        runpy.run_path(str(project / "shop.py"), run_name="shop")["main"]([job]),
        capfd.readouterr().err,
    )


def judge(project, job, by="product", bad=0):
    """Return the rows that are lost and those that are doubled, by the lines that have landed."""
    landed = [line for number in range(FILES) for line in lines(number)]
    sales = [json.loads(line) for line in landed if line.startswith("{")]
    if job == "totals":
        truth: Counter[object] = Counter()
        for sale in sales:
            truth.update(
                {(by, sale[by], "sales"): 1, (by, sale[by], "amount"): sale["amount"]}
            )
        head, *rows = [
            line.split(",")
            for line in (project / "totals.csv").read_text().splitlines()
        ]
        found: Counter[object] = Counter()
        for key, *numbers in rows:
            named = zip(head[1:], map(int, numbers), strict=True)
            found.update({(head[0], key, name): number for name, number in named})
        return truth - found, found - truth
    truth = Counter(
        [*(tuple(sale.values()) for sale in sales), *(x for x in landed if x[0] != "{")]
    )
    with closing(sqlite3.connect(project / "shop.db")) as database:
        there = database.execute(
            "SELECT 1 FROM sqlite_master WHERE name = 'sales'"
        ).fetchall()
        written = (
            there
            and database.execute(
                "SELECT id, product, shop, amount FROM sales"
            ).fetchall()
        )
    files = (project / "bad").glob("batch=*/*.json")
    kept = [
        json.loads(line)["_raw"]
        for file in files
        for line in file.read_text().splitlines()
    ]
    found = Counter(
        [*written, *("mended" if line.startswith("{") else line for line in kept)]
    )
    truth["mended"] = bad
    return truth - found, found - truth


# What takes long is made once: each worker would make it anew.
pytestmark = [
    pytest.mark.xdist_group("broken"),
    pytest.mark.classic_only("what is broken is the driver's own folder"),
]


@pytest.fixture(scope="module")
def made(spark, tmp_path_factory):
    """A project whose jobs have read three files, and one in which it is put anew for each fault.

    The second has always the same path: a checkpoint knows the files by theirs.
    """
    kept, project = (
        tmp_path_factory.mktemp("kept"),
        tmp_path_factory.mktemp("broken") / "project",
    )
    (project / "in").mkdir(parents=True)
    shutil.copy(HERE / "shop.py", project)
    main = runpy.run_path(str(project / "shop.py"), run_name="shop")["main"]
    for backup, files in (("older", (0, 1)), ("backup", (2,))):
        for number in files:
            land(project, number)
        assert [main([job]) for job in ("sales", "totals")] == [0, 0]
        (project / backup).mkdir()
        for name in KEPT:
            copy = shutil.copytree if (project / name).is_dir() else shutil.copy2
            copy(project / name, project / backup / name)
    land(project, 3)
    return shutil.copytree(project, kept / "project"), project


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_broken_job_is_repaired_and_no_row_is_lost_or_doubled(name, made, capfd):
    fault, (kept, project) = FAULTS[name], made
    shutil.rmtree(project)
    shutil.copytree(kept, project)
    job, judged = (
        fault["job"],
        {key: fault[key] for key in ("by", "bad") if key in fault},
    )
    assert judge(project, job)[0], "the fourth file is not read yet"

    def typed(command):
        return process(["bash", "-c", command], cwd=project, env=environment())

    broken = typed(fault["breaks"])
    assert broken.returncode == 0, broken.stderr
    code, said = (
        run_job(project, job, capfd)
        if "looks" not in fault
        else (1, typed(fault["looks"]).stdout)
    )
    assert re.search(fault["says"], said), said
    if fault["repair"]:
        assert any(judge(project, job, **judged)), "it is right without a repair"
    else:
        assert code == 0, said
    for command in fault["repair"]:
        done = typed(command)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    code, said = run_job(project, job, capfd)
    assert code == 0, said
    assert judge(project, job, **judged) == (Counter(), Counter()), said


def test_each_repair_is_one_that_the_skill_has():
    skill = (ROOT / "docs" / "agents" / "sparkstream" / "SKILL.md").read_text("utf-8")
    for name, fault in FAULTS.items():
        for command in fault["repair"]:
            for part in command.split(" | "):
                word = re.match(r"sparkstream checkpoint \w+|kill -TERM|\w+", part)
                assert word, command
                assert re.search(rf"(`|^){word[0]}\b", skill, re.MULTILINE), (
                    name,
                    command,
                )


@pytest.mark.slow
def test_the_judge_sees_a_row_that_is_lost_and_one_that_is_doubled(made):
    kept, project = made
    shutil.rmtree(project)
    shutil.copytree(kept, project)
    with closing(sqlite3.connect(project / "shop.db")) as database, database:
        database.execute("DELETE FROM sales WHERE id = 1")
        database.execute("INSERT INTO sales SELECT * FROM sales WHERE id = 2")
    lost, doubled = judge(project, "sales")
    assert (1, "ink", "b", 1) in lost
    assert doubled == {(2, "tea", "b", 5): 1}
