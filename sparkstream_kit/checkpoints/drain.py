"""A batch that reads no rows and moves only the watermark: how the last windows of a finite input close.

Spark reruns a batch that is in `offsets` and not in `commits`, just as it was planned. So a batch planned
here, with the offsets of the last one and a later watermark, makes every operator write what that watermark
closes. https://spark.apache.org/docs/latest/streaming/apis-on-dataframes-and-datasets.html#handling-late-data-and-watermarking
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


END = 253_402_300_799_000  # 9999-12-31 23:59:59 UTC in milliseconds; Python reads no later year


def plan_empty_batch(logs: Logs, watermark: int) -> int:
    """Plan one more batch, which reads nothing; to be run by Spark's trigger `once`, which reads no more.

    Args:
        logs: of a checkpoint that no query runs on.
        watermark: of the batch, in milliseconds since 1970.

    Returns:
        The batch's number.

    Raises:
        InvalidInputError: there is no committed batch, the last one is not committed, or its watermark is
            later.
    """
    last = logs.planned
    if last < 0 or last != logs.done:
        raise InvalidInputError(
            f"checkpoint {logs.root} has no batch that is committed after all others; run its query first"
        )
    before = logs.plan(last).watermark
    if watermark < before:
        raise InvalidInputError(
            f"the watermark is at {_time(before)} already, and cannot go back to {_time(watermark)}"
        )
    plan = logs.root / "offsets" / str(last)
    version, query, *offsets = versioned(plan, "v1", "v2")
    now = int(time.time() * 1000)
    planned = json.dumps({**json.loads(query), "batchWatermarkMs": watermark, "batchTimestampMs": now})
    logs.replace(plan.with_name(str(last + 1)), "\n".join([version, planned, *offsets]))
    return last + 1


def is_being_drained(logs: Logs) -> bool:
    """Say whether the last batch of a finite input is planned and not yet committed."""
    return logs.planned > logs.done and logs.plan(logs.planned).watermark >= END


def drained(logs: Logs) -> str | None:
    """Say that a checkpoint has written its last windows; None if it has not."""
    last = logs.last_plan
    if last is None or last.watermark < END or is_being_drained(logs):
        return None
    return (
        f"checkpoint {logs.root} was drained: batch {logs.done} has written the windows that were open, so "
        "that rows that come now would be too late for it. Give a new checkpoint; or, to write these "
        f"windows again later, with more rows: {command('rewind', logs.root)} --to {logs.done - 1}"
    )


def _time(milliseconds: int) -> str:
    return str(datetime.fromtimestamp(milliseconds / 1000, UTC)).replace("+00:00", " UTC")
