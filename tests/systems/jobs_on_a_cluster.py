"""Jobs on a cluster with their data on HDFS, beside a run of each on one machine: `make cluster-jobs`.

Pytest does not collect this file by itself: it takes ten minutes on two cores.
"""

import subprocess
import sys
from dataclasses import dataclass

import pytest
from conftest import ROOT, environment
from faults.drivers import ended
from support.batch_folders import rows_in
from systems.launching import SMALL, written

LINES = 200
NOW = ("--available-now",)
DRAIN = (*NOW, "--drain")
MANY = ("--every", "0", "--files", "4", "--rows", "100")


@dataclass(frozen=True)
class Case:
    """A job, the feed that gives its input, its further arguments, and the folders of rows that it writes."""

    name: str
    feed: tuple[str, ...]
    flags: tuple[str, ...]
    folders: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()  # those of them that have no rows of this feed
    keeps: bool = True  # takes --checkpoint


CASES = [
    Case("sales_totals", ("sales", *MANY), (*NOW, "--format", "csv")),
    Case("sales_clean", ("sales", *MANY), NOW, ("good", "bad"), ("bad",)),
    Case("sensor_alerts", ("sensors", *MANY, "--late", "0.02", "--bad", "0.01"), DRAIN, ("alerts", "bad")),
    Case("card_alerts", ("cards", "--every", "0", "--files", "4", "--rows", "1000"), DRAIN, ("",)),
    Case("hashtag_trends", ("posts", *MANY, "--duplicates", "0.1"), (*DRAIN, "--slide", "10 minutes")),
    Case("ad_join", ("ads", "--files", "4", "--every", "0"), DRAIN, ("views", "bad"), ("bad",)),
    Case("action_rows", ("actions", *MANY, "--late", "0.05"), NOW, ("rows", "late"), ("late",), keeps=False),
    Case("log_errors", ("logs", *MANY, "--bad", "0.02"), DRAIN, ("errors", "bad"), keeps=False),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_job_gives_on_a_cluster_what_it_gives_on_one_machine(case, hdfs, cluster, kit, launch, tmp_path):
    here, there = tmp_path / case.name, f"/{case.name}"
    feed(case.feed, here / "in")
    land(hdfs, here / "in", f"{there}/in")
    outs = (here / "out", hdfs.url + there + "/out") if case.folders else (None, None)
    keeps = case.keeps and not case.folders
    local = [here / "in", *filter(None, outs[:1]), *(("--checkpoint", here / "ckpt") if keeps else ())]
    far = [
        f"{hdfs.url}{there}/in",
        *filter(None, outs[1:]),
        *(("--checkpoint", f"{hdfs.url}{there}/ckpt") if keeps else ()),
    ]
    alone = launch.submit(
        *("--master", "local[2]", *SMALL), ROOT / "jobs" / f"{case.name}.py", *local, *case.flags
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
    return sorted(str({name: value for name, value in row.items() if name != "_file"}) for row in rows)
