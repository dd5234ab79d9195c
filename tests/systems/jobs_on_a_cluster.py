"""Each job on a cluster with its data on HDFS, beside a run of it on one machine.

`make cluster-jobs` runs it. Pytest does not collect this file by itself: it takes ten
minutes on two cores.
"""

import itertools
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest
from conftest import ROOT, environment
from faults.drivers import ended
from support.batch_folders import rows_in
from systems.launching import SMALL, written

from sparkstream_kit import feeds

LINES = 200
NOW = ("--available-now",)
DRAIN = (*NOW, "--drain")
MANY = ("--every", "0", "--files", "4", "--rows", "100")


@dataclass(frozen=True)
class Case:
    """A job, the feed that gives its input, its arguments, and the folders of its rows."""

    name: str
    feed: tuple[str, ...]
    flags: tuple[str, ...]
    folders: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()  # those of them that have no rows of this feed
    keeps: bool = True  # takes --checkpoint


CASES = [
    Case("sales_totals", ("sales", *MANY), (*NOW, "--format", "csv")),
    Case("sales_clean", ("sales", *MANY), NOW, ("good", "bad"), ("bad",)),
    Case(
        "sensor_alerts",
        ("sensors", *MANY, "--late", "0.02", "--bad", "0.01"),
        DRAIN,
        ("alerts", "bad"),
    ),
    Case(
        "card_alerts",
        ("cards", "--every", "0", "--files", "4", "--rows", "1000"),
        DRAIN,
        ("",),
    ),
    Case(
        "hashtag_trends",
        ("posts", *MANY, "--duplicates", "0.1"),
        (*DRAIN, "--slide", "10 minutes"),
    ),
    Case(
        "ad_join",
        ("ads", "--files", "4", "--every", "0"),
        DRAIN,
        ("views", "bad"),
        ("bad",),
    ),
    Case(
        "action_rows",
        ("actions", *MANY, "--late", "0.05"),
        NOW,
        ("rows", "late"),
        ("late",),
        keeps=False,
    ),
    Case(
        "log_errors",
        ("logs", *MANY, "--bad", "0.02"),
        DRAIN,
        ("errors", "bad"),
        keeps=False,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_job_gives_on_a_cluster_what_it_gives_on_one_machine(
    case, hdfs, cluster, kit, launch, tmp_path
):
    here, there = tmp_path / case.name, f"/{case.name}"
    feed(case.feed, here / "in")
    land(hdfs, here / "in", f"{there}/in")
    outs = (here / "out", hdfs.url + there + "/out") if case.folders else (None, None)
    keeps = case.keeps and not case.folders
    local = [
        here / "in",
        *filter(None, outs[:1]),
        *(("--checkpoint", here / "ckpt") if keeps else ()),
    ]
    far = [
        f"{hdfs.url}{there}/in",
        *filter(None, outs[1:]),
        *(("--checkpoint", f"{hdfs.url}{there}/ckpt") if keeps else ()),
    ]
    alone = launch.submit(
        *("--master", "local[2]", *SMALL),
        ROOT / "jobs" / f"{case.name}.py",
        *local,
        *case.flags,
    )
    expected = ended(alone)
    found = ended(launch.job(cluster.url, case.name, *far, *case.flags, kit=kit))
    assert sorted(found.splitlines()) == sorted(expected.splitlines())
    for folder in case.folders:
        rows = rows_in(here / "out" / folder)
        assert told(written(hdfs, f"{there}/out/{folder}".rstrip("/"))) == told(rows)
        assert bool(rows) == (folder not in case.empty)
    assert case.folders or expected


def feed(command, folder):
    kind, *flags = command
    subprocess.run(
        [sys.executable, "-m", "sparkstream_kit", "feed", kind, folder, *flags],
        env=environment(),
        check=True,
        capture_output=True,
    )


def land(hdfs, folder, place):
    for file in sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime_ns):
        if not file.name.startswith(("_", ".")):
            hdfs.put(f"{place}/{file.name}", file.read_bytes())


def told(rows):
    """Return rows in a form and an order that two runs share: the file's place is not of it."""
    return sorted(
        str({name: value for name, value in row.items() if name != "_file"})
        for row in rows
    )


def table_rows(database):
    """Return the rows of the job's tables, without the columns that tell one run from another."""
    rows: list[dict[str, Any]] = []
    with closing(sqlite3.connect(database)) as base:
        base.row_factory = sqlite3.Row
        for table in ("events", "events_bad"):
            rows += [dict(row) for row in base.execute(f"SELECT * FROM {table}")]  # noqa: S608 - ours
    return told(
        [
            {name: row[name] for name in row if name not in {"query_id", "batch_id"}}
            for row in rows
        ]
    )


def test_events_into_a_database(hdfs, cluster, kit, launch, tmp_path):
    feed(("events", *MANY, "--duplicates", "0.1", "--bad", "0.02"), tmp_path / "in")
    land(hdfs, tmp_path / "in", "/events/in")
    for master, place, name in (
        ("local[2]", str(tmp_path), "here"),
        (cluster.url, f"{hdfs.url}/events", "there"),
    ):
        flags = (
            "--database",
            f"sqlite:///{tmp_path}/{name}.db",
            "--checkpoint",
            f"{place}/ckpt",
            *NOW,
        )
        zipped_kit = None if name == "here" else kit
        command = (
            *SMALL,
            *(("--py-files", zipped_kit) if zipped_kit else ()),
            ROOT / "jobs/events_to_postgres.py",
        )
        ended(launch.submit("--master", master, *command, f"{place}/in", *flags))
    here, there = (table_rows(tmp_path / f"{name}.db") for name in ("here", "there"))
    assert here == there
    assert len(here) > 300


def test_posts_are_scored(hdfs, cluster, kit, launch, tmp_path):
    feed(("messages", *MANY), tmp_path / "labelled")
    feed(("messages", *MANY, "--seed", "1"), tmp_path / "in")
    land(hdfs, tmp_path / "in", "/scored/in")
    model = tmp_path / "model"  # on a folder that all nodes share
    ended(launch.job("local[2]", "train_posts", tmp_path / "labelled", model))
    ended(
        launch.job(
            "local[2]", "score_posts", tmp_path / "in", model, tmp_path / "out", *NOW
        )
    )
    places = (f"{hdfs.url}/scored/in", model, f"{hdfs.url}/scored/out")
    ended(launch.job(cluster.url, "score_posts", *places, *NOW, kit=kit))
    rows = rows_in(tmp_path / "out/scored")
    assert told(written(hdfs, "/scored/out/scored")) == told(rows)
    assert len(rows) == 400


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("socket_wordcount", ()),
        (
            "dstream_wordcount",
            ("--run-for", "40", "--batch-interval", "4", "--slide", "8"),
        ),
    ],
)
def test_words_of_a_socket(name, flags, hdfs, cluster, kit, launch, free_port):
    server = launch.kit(
        "feed",
        "lines",
        "--port",
        free_port,
        "--count",
        LINES,
        "--rate",
        20,
        "--clients",
        1,
    )
    # For the temporary checkpoint
    default = ("--conf", f"spark.hadoop.fs.defaultFS={hdfs.url}")
    command = (
        "--master",
        cluster.url,
        "--py-files",
        kit,
        *SMALL,
        *default,
        ROOT / "jobs" / f"{name}.py",
    )
    # The receiver of a DStream keeps one of the two cores.
    job = launch.submit(
        *command, "localhost", free_port, *flags, "--profile", "cluster", PYTHONPATH=""
    )
    printed = ended(job)
    ended(server)
    if name == "socket_wordcount":
        found = dict(
            re.findall(r"\|(\w+) *\|(\d+) *\|", printed.rpartition("Batch: ")[2])
        )
    else:  # the first ten words of each batch
        found = dict(re.findall(r"beginning', '(\w+)', (\d+)", printed)[-10:])
    truth = Counter(
        word
        for line in itertools.islice(feeds.random_lines(0), LINES)
        for word in line.split()
    )
    assert len(found) > 5, printed
    assert {word: int(count) for word, count in found.items()} == {
        word: truth[word] for word in found
    }
