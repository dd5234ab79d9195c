"""A checkpoint goes from plain PySpark to the kit and back: no row is lost or doubled.

Each of them is killed.
"""

import json
from pathlib import Path

import pytest
from faults.drivers import ended
from support.sql import sql

from sparkstream_kit import checkpoints
from sparkstream_kit.checkpoints.logs import Logs

SCRIPT = Path(__file__).parent / "scripts" / "with_or_without.py"


Row = tuple[int, str, int]  # id, key, n


def land(folder, *numbers):
    """Write a file of some rows for each number; every id is in two files in succession."""
    folder.mkdir(exist_ok=True)
    landed: list[Row] = []
    for number in numbers:
        rows = [(10 * number + i, "abc"[i % 3], i) for i in range(20)]
        whole = folder / f".{number}.json"
        lines = (
            json.dumps(dict(zip(("id", "key", "n"), row, strict=True))) for row in rows
        )
        whole.write_text("\n".join(lines))
        whole.rename(folder / f"{number:02}.json")
        landed += rows
    return landed


@pytest.mark.fast("each to its end")
@pytest.mark.parametrize(
    "killed", [False, True], ids=["each to its end", "each killed"]
)
def test_a_checkpoint_of_plain_spark_is_taken_over_and_given_back(
    killed, tmp_path, launch, spark
):
    landed: list[Row] = []
    for turn, how in enumerate(("plain", "kit", "plain")):
        landed += land(tmp_path / "in", *range(4 * turn, 4 * turn + 4))
        for name in ("totals", "first") if killed else ():
            commits = tmp_path / f"ckpt-{name}/commits"
            done = Logs(commits.parent).done
            driver = launch("python", SCRIPT, how, tmp_path, "stays")
            driver.until(lambda: Logs(commits.parent).done > done)  # noqa: B023 - called at once
            driver.kill("group")
        ended(launch("python", SCRIPT, how, tmp_path))
        for name in ("totals", "first"):
            assert checkpoints.check(tmp_path / f"ckpt-{name}") == []

        totals = {key: [n for _, each, n in landed if each == key] for key in "abc"}
        found = sql(
            f"sqlite:///{tmp_path}/totals.db", "SELECT key, rows, total FROM totals"
        )
        assert sorted(found) == [
            (key, len(numbers), sum(numbers)) for key, numbers in totals.items()
        ]
        ids = spark.read.schema("id BIGINT").json(str(tmp_path / "first")).collect()
        assert sorted(row.id for row in ids) == sorted({each for each, _, _ in landed})
