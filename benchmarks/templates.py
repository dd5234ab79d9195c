"""Tables about the jobs of `jobs/`."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import data
from running import HERE, ROOT, Measured, Program, Table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["jobs"]

ROWS = 1_000_000
LIMIT = 1200  # seconds; rows through Python take minutes
BATCHES = 10  # one file in each
JOBS = ROOT / "jobs"


@dataclass(frozen=True)
class Job:
    """How a job runs.

    Attributes:
        data: the dataset that it reads.
        args: after its input folder; `{work}` is an empty folder, and `{model}` that of
            a model.
        train: it needs a model, which it makes itself from a part of its input.
    """

    data: str
    args: tuple[str, ...] = ()
    train: bool = False


OUT = ("{work}/out",)
RUNS = {
    "action_rows": Job("actions", OUT),
    "log_errors": Job("logs", OUT),
    "sensor_alerts": Job("sensors", OUT),
    "card_alerts": Job("cards", OUT),
    "hashtag_trends": Job("posts"),
    "ad_join": Job("ads", OUT),
    "score_posts": Job("messages", ("{model}", *OUT), train=True),
    "events_to_postgres": Job(
        "events",
        ("--database", "sqlite:///{work}/shop.db", "--checkpoint", "{work}/ckpt"),
    ),
}


def jobs(scale: float) -> Iterator[Table]:
    """Each job with its own feed, in ten batches of one file: rows a second.

    The time begins when the session is up.
    """
    for name, job in RUNS.items():
        yield of_job(name, job, int(ROWS * scale))


def of_job(name: str, job: Job, count: int) -> Table:
    """Return the table of a job over so many rows."""

    def rate(run: Measured) -> float:
        return count / run.query[0]

    def read(run: Measured) -> bool:
        # A job that joins its input with itself, or has a query for what is bad, reads
        # it more than once.
        return bool(run.result["rows"]) and run.result["rows"] % count == 0

    folder = data.lines(job.data, count, BATCHES)
    model = folder.with_name(f"{folder.name}-model")
    if job.train and not model.exists():
        train(data.lines(job.data, BATCHES * 100, BATCHES), model)
    args = [part.replace("{model}", str(model)) for part in job.args]
    command: list[str | Path] = [
        HERE / "jobs" / "job.py",
        name,
        folder,
        *args,
        "--available-now",
    ]
    # The job of trends has no such flag: it reads all files in one batch.
    by_file = () if name == "hashtag_trends" else ("--max-files-per-trigger", "1")
    return Table(
        f"{name}, {count:,} rows",
        [Program(name, [*command, *by_file], figure=rate, reads=read, limit=LIMIT)],
        truth=True,
        unit="rows/s",
        runs=2,
        inputs=folder,
        higher=True,
        more={
            "rows in state, at most": lambda run: float(run.result["state"]),
            "memory, MiB": lambda run: float(run.result["memory"]),
        },
    )


def train(folder: Path, model: Path) -> None:
    """Make the model with which a job scores."""
    command: list[str | Path] = [sys.executable, JOBS / "train_posts.py", folder, model]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
