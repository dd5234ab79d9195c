"""Drain a query: a batch without rows moves the watermark, which closes the last windows.

Spark reruns a batch that is in `offsets` and not in `commits` exactly as it was
planned. `plan_empty_batch` therefore writes a plan with the offsets of the last batch
and a later watermark; when Spark runs that batch, every operator writes what the new
watermark closes. `run` drains queries with a finite input this way, `evolve` restores a
watermark, and `testing` closes windows.
https://spark.apache.org/docs/latest/streaming/apis-on-dataframes-and-datasets.html#handling-late-data-and-watermarking
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sparkstream_kit.checkpoints.logs import command, versioned
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from sparkstream_kit.checkpoints.logs import Logs


# The watermark of a draining batch: 9999-12-31 23:59:59 UTC in milliseconds, as Python
# has no later year.
END = 253_402_300_799_000


def plan_empty_batch(logs: Logs, watermark: int, *, builds: bool = False) -> int:
    """Plan one more batch, which reads nothing and has a given watermark.

    Start the query with the trigger `once` to run this batch and no other.

    Args:
        logs: the logs of a checkpoint that no query is running on.
        watermark: the watermark of the new batch, in milliseconds since 1970.
        builds: whether the checkpoint is being built from another one, whose watermark
            it gets.

    Returns:
        The number of the new batch.

    Raises:
        InvalidInputError: no batch was committed yet, the last planned batch is not
            committed, or its watermark is later than `watermark`.
    """
    last = logs.planned
    if last < 0 or last != logs.done:
        raise InvalidInputError(
            f"checkpoint {logs.root} has no batch that is committed after all others;"
            " run its query first"
        )
    if builds:
        before = logs.plan(last).watermark
    else:
        before = reached(logs)
    if watermark < before:
        raise InvalidInputError(
            f"the watermark is at {_time(before)} already, and cannot go back to"
            f" {_time(watermark)}"
        )
    file = logs.root / "offsets" / str(last)
    version, query, *offsets = versioned(file, "v1", "v2")
    of_query = json.loads(query)
    of_query["batchWatermarkMs"] = watermark
    of_query["batchTimestampMs"] = int(time.time() * 1000)
    plan = "\n".join([version, json.dumps(of_query), *offsets])
    logs.replace(file.with_name(str(last + 1)), plan)
    return last + 1


def reached(logs: Logs) -> int:
    """Return the watermark after the last batch, in milliseconds since 1970.

    The plan of that batch has the watermark before it.
    """
    last = logs.done
    if last < 0:
        return 0
    return int(logs.commit(last)["nextBatchWatermarkMs"])


def is_being_drained(logs: Logs) -> bool:
    """Return whether a draining batch is planned and not yet committed, as after a crash in it."""
    last = logs.planned
    if last <= logs.done:
        return False
    return logs.plan(last).watermark == END


def drained(logs: Logs) -> str | None:
    """Return the message that refuses a drained checkpoint; None if the checkpoint was not drained.

    A drained query has written its last windows with a watermark at `END`: any new row
    would be too late.
    """
    last = logs.last_plan
    if last is None or last.watermark != END or is_being_drained(logs):
        return None
    return (
        f"checkpoint {logs.root} was drained: batch {logs.done} has written the windows"
        " that were open, so that rows that come now would be too late for it. Give a"
        " new checkpoint and target; or, to write these windows again later, with more"
        f" rows: {command('rewind', logs.root)} --to {logs.done - 1}"
    )


def _time(milliseconds: int) -> str:
    """Return a time as text, such as "2026-01-31 12:00:00 UTC"."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return str(moment).replace("+00:00", " UTC")
