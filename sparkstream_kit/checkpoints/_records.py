"""What is read and kept in a checkpoint: by its files, or through Spark where only Spark reaches them."""

from __future__ import annotations

import json
import re
import shutil
import zlib
from typing import TYPE_CHECKING

from py4j.protocol import Py4JError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import functions as F

from sparkstream_kit import _causes, _files
from sparkstream_kit.checkpoints.layout import numbered
from sparkstream_kit.checkpoints.locks import local_path
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["last_settings", "read_query", "write_query"]

_OF_SPARK = (Py4JError, PySparkException)
_QUERY = "sparkstream-kit/query.json"  # a file; when Spark has written it, a folder: the newest file counts


def read_query(spark: SparkSession, checkpoint: str) -> dict[str, str] | None:
    """Return what `write_query` has kept; None if nothing.

    Raises:
        InvalidInputError: it is not what was kept.
    """
    local = local_path(spark, checkpoint)
    try:
        if local is None:
            files = _through_spark(spark, f"{checkpoint}/{_QUERY}")
            row = files.orderBy(F.desc("modificationTime")).first() if files is not None else None
            return None if row is None else _query(row.content.decode())
        file = local / _QUERY
        notes = sorted(file.glob("part-*"), key=lambda note: note.stat().st_mtime_ns) or [file]
        return _query(notes[-1].read_text("utf-8")) if file.exists() else None
    except (OSError, TypeError, ValueError, LookupError, *_OF_SPARK) as err:
        reason = _causes.innermost(err) if isinstance(err, _OF_SPARK) else "not what the kit wrote"
        raise InvalidInputError(
            f"checkpoint file {checkpoint}/{_QUERY} is damaged: {reason}; put it back, or delete it, and the "
            "query that starts next is taken for the one that wrote the checkpoint"
        ) from err


def _query(text: str) -> dict[str, str]:
    """Return what a text says of a query, or raise what Python does for another text."""
    kept = dict(json.loads(text))
    if kept.pop("crc32", None) not in {None, _checksum(kept)}:  # versions before this one wrote none
        raise ValueError(text)
    return kept | {name: "" + kept[name] for name in ("name", "mode", "fingerprint")}


def _checksum(query: dict[str, str]) -> str:
    return f"{zlib.crc32(json.dumps(query).encode()):08x}"


def write_query(spark: SparkSession, checkpoint: str, query: dict[str, str]) -> None:
    """Keep which query uses the checkpoint."""
    text = json.dumps(query | {"crc32": _checksum(query)})
    local = local_path(spark, checkpoint)
    if local is None:
        rows = spark.createDataFrame([(text,)], "value STRING").coalesce(1)
        # Beside the former note, as to overwrite it would first remove it: a crash would leave none.
        rows.write.mode("append").text(f"{checkpoint}/{_QUERY}")
        return
    file = local / _QUERY
    if file.is_dir():
        shutil.rmtree(file)
    _files.replace(file, [text + "\n"])


def last_settings(spark: SparkSession, checkpoint: str) -> dict[str, str] | None:
    """Return the settings that the newest batch was planned with; None if no batch was ever planned.

    Raises:
        InvalidInputError: its plan cannot be read.
    """
    local = local_path(spark, checkpoint)
    if local is not None:
        batches = list(numbered(local / "offsets"))
    else:
        files = _through_spark(spark, f"{checkpoint}/offsets")
        names = [] if files is None else [file.rpartition("/")[2] for file in files.inputFiles()]
        batches = [int(name) for name in names if name.isdigit()]
    if not batches:
        return None
    plan = f"offsets/{max(batches)}"
    try:
        if local is not None:
            text = (local / plan).read_text("utf-8")
        else:
            files = _through_spark(spark, f"{checkpoint}/{plan}")
            row = None if files is None else files.first()
            text = "" if row is None else row.content.decode()
        version, settings, _ = text.split("\n", 2)
        # Another version is a newer Spark's.
        return dict(json.loads(settings).get("conf", {})) if version == "v1" else {}
    except (OSError, AttributeError, TypeError, ValueError) as err:
        raise _damaged(checkpoint, f"{plan} is cut off or changed") from err
    except _OF_SPARK as err:
        raise _damaged(checkpoint, f"{plan} cannot be read ({_causes.innermost(err)})") from err


def _damaged(checkpoint: str, what: str) -> InvalidInputError:
    return InvalidInputError(
        f"checkpoint {checkpoint} is damaged: {what}; restore it from a backup, start anew on another, or "
        "copy it to a local path, where sparkstream checkpoint check COPY says which batch to go back to"
    )


def _through_spark(spark: SparkSession, path: str) -> DataFrame | None:
    """Return a folder's files as rows with their content; None if there is no such folder."""
    try:
        # Spark takes a path for a pattern.
        files = spark.read.format("binaryFile").load(re.sub(r"([][{}*?\\])", r"\\\1", path))
        files.schema  # noqa: B018 - Connect looks for the path only now
    except AnalysisException as err:
        if err.getCondition() != "PATH_NOT_FOUND":
            raise
        return None
    return files
