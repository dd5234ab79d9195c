"""What is read and kept in a checkpoint: by its files, or through Spark where only Spark reaches them."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from pyspark.errors import AnalysisException
from pyspark.sql import functions as F

from sparkstream_kit import _files
from sparkstream_kit.checkpoints.locks import local_path
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["last_offsets", "read_query", "write_query"]

_QUERY = "sparkstream-kit/query.json"  # a file, or a folder of one when Spark has written it


def read_query(spark: SparkSession, checkpoint: str) -> dict[str, str] | None:
    """Return what `write_query` has kept; None if nothing.

    Raises:
        InvalidInputError: it is no JSON.
    """
    local = local_path(spark, checkpoint)
    if local is None:
        files = _through_spark(spark, f"{checkpoint}/{_QUERY}")
        text = files.first() if files is not None else None
        kept = text.value if text is not None else ""
    else:
        file = local / _QUERY
        parts = sorted(file.glob("part-*")) if file.is_dir() else [file]
        kept = "".join(part.read_text("utf-8") for part in parts if part.exists())
    try:
        return dict(json.loads(kept)) if kept else None
    except ValueError as err:
        raise InvalidInputError(
            f"checkpoint file {checkpoint}/{_QUERY} is damaged: {err}; put it back, or delete it, and the "
            "query that starts next is taken for the one that wrote the checkpoint"
        ) from err


def write_query(spark: SparkSession, checkpoint: str, query: dict[str, str]) -> None:
    """Keep which query uses the checkpoint."""
    text = json.dumps(query)
    local = local_path(spark, checkpoint)
    if local is None:
        rows = spark.createDataFrame([(text,)], "value STRING").coalesce(1)
        rows.write.mode("overwrite").text(f"{checkpoint}/{_QUERY}")
        return
    file = local / _QUERY
    if file.is_dir():
        shutil.rmtree(file)
    _files.replace(file, [text + "\n"])


def last_offsets(spark: SparkSession, checkpoint: str) -> str | None:
    """Return the text of the newest file of planned offsets; None if no batch was ever planned."""
    local = local_path(spark, checkpoint)
    if local is not None:
        names = [path.name for path in (local / "offsets").glob("*") if path.name.isdigit()]
        return (local / "offsets" / max(names, key=int)).read_text("utf-8") if names else None
    files = _through_spark(spark, f"{checkpoint}/offsets")
    if files is None:
        return None
    batch = F.col("_metadata.file_name").try_cast("bigint")
    row = files.where(batch.isNotNull()).orderBy(batch.desc()).first()
    return None if row is None else str(row.value)


def _through_spark(spark: SparkSession, path: str) -> DataFrame | None:
    """Return a folder's files as rows of their text; None if there is no such folder."""
    try:
        files = spark.read.text(path, wholetext=True)
        files.schema  # noqa: B018 - Connect looks for the path only now
    except AnalysisException as err:
        if err.getCondition() != "PATH_NOT_FOUND":
            raise
        return None
    return files
