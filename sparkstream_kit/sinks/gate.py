"""The gate: late rows to one sink, all others to another, by what the checkpoint says of each batch."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from sparkstream_kit._arguments import check
from sparkstream_kit._columns import column, refuse_taken
from sparkstream_kit._spark.batch import count_aside
from sparkstream_kit.checkpoints.logs import watermark
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.sinks.base import Sink, opened
from sparkstream_kit.sinks.batches import kept, together

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from sparkstream_kit._spark.batch import Write
    from sparkstream_kit._spark.place import Place

__all__ = ["by_watermark"]


def by_watermark(time: str, *, on_time: Sink, late: Sink) -> Sink:
    """Write late rows to one sink and all others to another, without state and without Python.

    A row is late when its time is not after the watermark of its batch: the newest time of all batches
    before, less the delay. A row without a time is on time. In the first batches the watermark is 1970-01-01
    00:00 UTC, where Spark begins: rows of that moment and before are late from the first batch on.
    `state.split_late` tells the same rows apart within a query; this gate is for volumes at which Python is
    too slow. To count by windows what was on time, let `on_time` be `batch_files` and a second query read its
    folder: no row of it is late there.

    The summary of `run` says how many rows were set aside (not on Spark Connect).

    Delivery: of each sink its own. Spark writes a batch's watermark into the checkpoint before the batch
    runs, so that a batch that comes again after a crash is split as before.

    Args:
        time: the event-time column (timestamp) with the watermark.
        on_time: gets the rows that are not late, with the same columns; works batch by batch.
        late: gets the late rows, with a further column `watermark TIMESTAMP`, which they have missed; works
            batch by batch.

    Raises:
        InvalidInputError: a sink of Spark's own, or two that write to the same target; when the query starts,
            a column `time` that is not there, is no timestamp or has no watermark, a column `watermark` that
            is there already, or a query without a checkpoint.

    Example:
        >>> from sparkstream_kit import sinks
        >>> sinks.by_watermark("time", on_time=sinks.batch_files("rows"), late=sinks.batch_files("rows"))
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: by_watermark(): two sinks write to folder ...
    """
    check(by_watermark, locals())

    def open_both(frame: DataFrame, location: Place | None) -> Write:
        from pyspark.sql import functions as F

        from sparkstream_kit.state import _frames

        call = "by_watermark()"
        _frames.place_of_time(call, frame, time)
        refuse_taken(frame.columns, ("watermark",), call)
        if location is None:
            raise InvalidInputError(
                f"{call} reads the watermark of each batch in the checkpoint; give "
                "start(…, checkpoint='folder')"
            )
        missed = frame.withColumn("watermark", F.lit(None).cast("timestamp"))
        return partial(
            _write, time, location, opened(on_time, frame, location), opened(late, missed, location)
        )

    made = together("by_watermark", (on_time, late), open_both)
    for sink in (on_time, late):
        if "append" not in sink.modes:
            raise InvalidInputError(
                f"by_watermark() works in append mode, which {sink.kind} does not support"
            )
    return replace(made, modes=("append",), advice="only there is each row of the result a row that came in")


def _write(time: str, location: Place, on_time: Write, late: Write, batch: DataFrame, batch_id: int) -> None:
    from pyspark.sql import functions as F

    text = location.read(f"offsets/{batch_id}")
    if text is None:
        raise InvalidInputError(f"checkpoint {location} has no offsets/{batch_id}, which says the watermark")
    missed = F.timestamp_millis(F.lit(watermark(text)))
    is_late = F.coalesce(column(time) <= missed, F.lit(False))
    with kept(batch):
        on_time(batch.where(~is_late), batch_id)
        rows = batch.where(is_late)
        late(rows.withColumn("watermark", missed), batch_id)
        count_aside(rows, location, batch_id)
