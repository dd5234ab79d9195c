"""Open one batch of a query: `batch` returns the rows that it read, or that the query gave its sink in it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from sparkstream_kit import _files
from sparkstream_kit._arguments import check
from sparkstream_kit._spark.batch import hand_over
from sparkstream_kit.checkpoints.damage import newer_state
from sparkstream_kit.checkpoints.fingerprint import differences, fingerprint
from sparkstream_kit.checkpoints.guard import Query
from sparkstream_kit.checkpoints.logs import Logs, checkpoint
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.operate.clone import point_at
from sparkstream_kit.operate.replay import KEPT, Unreadable, copy_sources, ends_of, moves_of, run_planned

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def batch(spark: SparkSession, path: str | Path, number: int, frame: DataFrame) -> DataFrame:
    """Return the rows of one batch of a query, as a static DataFrame; the checkpoint is only read.

    Spark runs the batch once more, as it was planned, on a copy of the checkpoint in a temporary folder. With
    the frame of a source as the job reads it, these are the rows that the batch read; with the frame that the
    job starts, those that it gave the sink, by the state that the query had before it.

    Args:
        spark: the session of `frame`.
        path: a checkpoint on a local path; its query may be running.
        number: the batch, which may have failed. The checkpoint keeps about the last hundred batches by
            default.
        frame: a streaming DataFrame that reads the sources of the query, in the same order.

    Returns:
        A DataFrame with the columns of `frame`. Its rows are in a temporary folder until Python ends.

    Raises:
        InvalidInputError: there is no checkpoint at `path`; the batch is no longer kept, or was never
            planned; the frame reads other sources, or keeps another state than the query; or some of the
            batch's input or state is gone.

    Examples:
        >>> batch(None, "ckpt/totals", 12, None)
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: batch(): spark is None; give a SparkSession
    """
    check(batch, locals())
    logs = Logs(checkpoint(path))
    mode = logs.noted.get("mode", "append")
    state = fingerprint(frame, mode)
    query = Query(frame, f"batch {number}", mode if state else "append", False, {})
    plans = logs.entries("offsets")
    if number not in plans:
        kept = f"it has batches {min(plans)} to {max(plans)}" if plans else "it has no batch"
        raise InvalidInputError(f"checkpoint {path} has no plan of batch {number}; {kept}")
    if state and (changed := differences(logs.noted.get("fingerprint", ""), state)):
        raise InvalidInputError(f"the frame {changed[0]}; give the frame of the job, or that of its source")
    made = tempfile.TemporaryDirectory(prefix="sparkstream-batch-", ignore_cleanup_errors=True)
    root, rows = Path(made.name, "checkpoint"), _files.for_spark(Path(made.name, "rows"))
    try:
        copy_sources(logs, root, moves_of(query, logs, ends_of(logs, number)))
        for log, first in (("offsets", number), ("commits", number - 1)):
            (root / log).mkdir()
            for each in {number - 1, first} & {*logs.entries(log)}:
                shutil.copy(logs.entries(log)[each], root / log / str(each))
        if state and number:
            shutil.copytree(logs.root / "state", root / "state")
            point_at(root, root)
            for file in newer_state(root, number):
                file.unlink()
        writer = hand_over(frame.writeStream, lambda each, _: each.write.mode("overwrite").parquet(rows))
        why = run_planned(query, Logs(root), writer)
    except (OSError, Unreadable) as err:
        raise InvalidInputError(f"batch {number} of checkpoint {path} cannot be opened: {err}") from None
    if why:
        raise InvalidInputError(f"batch {number} of checkpoint {path} cannot be opened: {why}")
    KEPT.append(made)
    return spark.read.parquet(rows)
