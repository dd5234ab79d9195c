"""What `start` notes in a checkpoint: which query uses it, and what its sinks and topics are."""

from __future__ import annotations

import json
import shutil
import zlib
from typing import TYPE_CHECKING, Any

from sparkstream_kit import _files
from sparkstream_kit.checkpoints.layout import KIT
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

    from sparkstream_kit._spark.place import Place

_QUERY = f"{KIT}/query.json"  # a file; when Spark has written it, a folder: the newest file counts


def read_query(root: Path) -> dict[str, Any] | None:
    """Return what `write_query` has kept in a checkpoint; None if nothing.

    Raises:
        InvalidInputError: it is not what was kept.
    """
    file = root / _QUERY
    if not file.exists():
        return None
    try:
        newest = max(file.glob("part-*"), key=lambda part: part.stat().st_mtime_ns, default=file)
        return _query(newest.read_text("utf-8"))
    except (OSError, TypeError, ValueError, LookupError) as err:
        raise InvalidInputError(
            f"checkpoint file {file} is damaged: not what the kit wrote; put it back, or delete it, and the "
            "query that starts next is taken for the one that wrote the checkpoint"
        ) from err


def _query(text: str) -> dict[str, Any]:
    """Return what a text says of a query, or raise what Python does for another text."""
    kept = dict(json.loads(text))
    if kept.pop("crc32", None) not in {None, _checksum(kept)}:  # versions before this one wrote none
        raise ValueError(text)
    return kept | {name: "" + kept[name] for name in ("name", "mode", "fingerprint")}


def noted(root: Path) -> dict[str, Any]:
    """Return what `write_query` has kept in a checkpoint; nothing where it cannot be read."""
    try:
        return read_query(root) or {}
    except InvalidInputError:
        return {}


def _checksum(query: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(query).encode()):08x}"


def write_query(spark: SparkSession, checkpoint: Place, query: dict[str, Any]) -> None:
    """Keep which query uses the checkpoint."""
    text = json.dumps(query | {"crc32": _checksum(query)})
    if checkpoint.folder is None:
        if checkpoint.renames_in_one_step:
            # Without a job of Spark's: a cluster may have no core free.
            checkpoint.write(f"{_QUERY}/part-kit", text)
            return
        rows = spark.createDataFrame([(text,)], "value STRING").coalesce(1)
        # Beside the former note, as to overwrite it would first remove it: a crash would leave none.
        rows.write.mode("append").text(f"{checkpoint}/{_QUERY}")
        return
    file = checkpoint.folder / _QUERY
    if file.is_dir():
        shutil.rmtree(file)
    _files.replace(file, [text + "\n"])
