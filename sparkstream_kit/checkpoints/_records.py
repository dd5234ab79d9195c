"""What is read and kept in a checkpoint: by its files, or through Spark where only Spark reaches them."""

from __future__ import annotations

import json
import shutil
import zlib
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import functions as F

from sparkstream_kit import _files
from sparkstream_kit._spark import files
from sparkstream_kit.errors import InvalidInputError, innermost_cause

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from sparkstream_kit._spark.files import Location

__all__ = ["last_settings", "read_query", "write_query"]

_OF_SPARK = (Py4JError, PySparkException)
_QUERY = "sparkstream-kit/query.json"  # a file; when Spark has written it, a folder: the newest file counts


def read_query(spark: SparkSession, checkpoint: Location) -> dict[str, Any] | None:
    """Return what `write_query` has kept; None if nothing.

    Raises:
        InvalidInputError: it is not what was kept.
    """
    try:
        if checkpoint.folder is None:
            notes = files.through_spark(spark, f"{checkpoint}/{_QUERY}")
            row = None if notes is None else notes.orderBy(F.desc("modificationTime")).first()
            return None if row is None else _query(row.content.decode())
        file = checkpoint.folder / _QUERY
        parts = sorted(file.glob("part-*"), key=lambda part: part.stat().st_mtime_ns) or [file]
        return _query(parts[-1].read_text("utf-8")) if file.exists() else None
    except (OSError, TypeError, ValueError, LookupError, *_OF_SPARK) as err:
        reason = innermost_cause(err) if isinstance(err, _OF_SPARK) else "not what the kit wrote"
        raise InvalidInputError(
            f"checkpoint file {checkpoint}/{_QUERY} is damaged: {reason}; put it back, or delete it, and the "
            "query that starts next is taken for the one that wrote the checkpoint"
        ) from err


def _query(text: str) -> dict[str, Any]:
    """Return what a text says of a query, or raise what Python does for another text."""
    kept = dict(json.loads(text))
    if kept.pop("crc32", None) not in {None, _checksum(kept)}:  # versions before this one wrote none
        raise ValueError(text)
    return kept | {name: "" + kept[name] for name in ("name", "mode", "fingerprint")}


def _checksum(query: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(query).encode()):08x}"


def write_query(spark: SparkSession, checkpoint: Location, query: dict[str, Any]) -> None:
    """Keep which query uses the checkpoint."""
    text = json.dumps(query | {"crc32": _checksum(query)})
    if checkpoint.folder is None:
        rows = spark.createDataFrame([(text,)], "value STRING").coalesce(1)
        # Beside the former note, as to overwrite it would first remove it: a crash would leave none.
        rows.write.mode("append").text(f"{checkpoint}/{_QUERY}")
        return
    file = checkpoint.folder / _QUERY
    if file.is_dir():
        shutil.rmtree(file)
    _files.replace(file, [text + "\n"])


def last_settings(spark: SparkSession, checkpoint: Location) -> dict[str, str] | None:
    """Return the settings that the newest batch was planned with; None if no batch was ever planned.

    Raises:
        InvalidInputError: its plan cannot be read.
    """
    names = files.names(spark, checkpoint, "offsets")
    if names is None:
        plans = files.through_spark(spark, f"{checkpoint}/offsets")
        names = [] if plans is None else [file.rpartition("/")[2] for file in plans.inputFiles()]
    batches = [int(name) for name in names if name.isdecimal()]
    if not batches:
        return None
    plan = f"offsets/{max(batches)}"
    try:
        version, settings, _ = (files.content(spark, checkpoint, plan) or "").split("\n", 2)
        # Another version is a newer Spark's.
        return dict(json.loads(settings).get("conf", {})) if version == "v1" else {}
    except (OSError, AttributeError, TypeError, ValueError) as err:
        raise _damaged(checkpoint, f"{plan} is cut off or changed") from err
    except _OF_SPARK as err:
        raise _damaged(checkpoint, f"{plan} cannot be read ({innermost_cause(err)})") from err


def _damaged(checkpoint: Location, what: str) -> InvalidInputError:
    return InvalidInputError(
        f"checkpoint {checkpoint} is damaged: {what}; restore it from a backup, start anew on another, or "
        "copy it to a local path, where sparkstream checkpoint check COPY says which batch to go back to"
    )
