"""Which query a batch belongs to: Spark's id of the query, which its checkpoint keeps over restarts."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from pyspark.errors import AnalysisException

from sparkstream_kit import _connect
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["of_batch", "of_checkpoint"]


def of_checkpoint(spark: SparkSession, checkpoint: str) -> str | None:
    """Return the id of the query that wrote a checkpoint; None before a query's first start."""
    # Spark's reader expands wildcards; its checkpoint's path has none.
    path = re.sub(r"([][{}*?\\])", r"\\\1", checkpoint.rstrip("/"))
    try:
        lines = spark.read.text(f"{path}/metadata").select("value").collect()
        found: str = json.loads(lines[0].value)["id"]
    except (AnalysisException, IndexError, ValueError, KeyError):
        return None  # a damaged file is for Spark, or for `start`, to refuse
    return found


def of_batch(batch: DataFrame, checkpoint: str | None) -> str:
    """Return the id of the query that a batch of `foreachBatch` belongs to.

    Raises:
        InvalidInputError: the frame is no batch of a query, or a batch on Spark Connect without checkpoint.
    """
    spark = batch.sparkSession
    if not _connect.is_connect(spark):
        found = spark.sparkContext.getLocalProperty("sql.streaming.queryId")
        fix = "it writes the batches of a running query"
    else:
        found = None if checkpoint is None else of_checkpoint(spark, checkpoint)
        fix = "on Spark Connect start the query with start(frame, sink, checkpoint='folder')"
    if not found:
        raise InvalidInputError(f"this sink cannot tell which query a batch is of; {fix}")
    return str(found)
