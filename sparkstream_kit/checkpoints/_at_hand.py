"""The logs of a checkpoint to look into from here: its own folder, or a copy that Spark brings."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from sparkstream_kit.checkpoints import layout
from sparkstream_kit.errors import InvalidInputError, innermost_cause

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyspark.sql import SparkSession

    from sparkstream_kit._spark.place import Place

_LOGS = ("metadata", "offsets", "commits", "sources", layout.KIT)


@contextmanager
def logs(spark: SparkSession, checkpoint: Place) -> Iterator[Path]:
    """Give a folder with the logs of a checkpoint, for `start`: its own folder, or a copy without the state.

    A copy takes one job of Spark's. Errors in the block name the checkpoint, and not the copy.
    """
    if checkpoint.folder is not None:
        yield checkpoint.folder
        return
    with _copy(spark, checkpoint.text, *_LOGS) as folder:
        yield folder


@contextmanager
def batch(checkpoint: Place, number: int) -> Iterator[Path]:
    """Give a folder with what the logs of a checkpoint say of one batch: its own folder, or a small copy.

    The files are read one by one, without a job of Spark's: it is done in each batch of a sink with a ledger.
    """
    from sparkstream_kit.checkpoints.inputs import file_logs

    if checkpoint.folder is not None:
        yield checkpoint.folder
        return

    def bring(name: str) -> None:
        if (text := checkpoint.read(name)) is not None:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, "utf-8")

    with tempfile.TemporaryDirectory(prefix="sparkstream-checkpoint-") as made:
        root = Path(made)
        plans = [root / "offsets" / str(each) for each in (number - 1, number) if each >= 0]
        for name in (*(f"offsets/{plan.name}" for plan in plans), f"{layout.KIT}/query.json/part-kit"):
            bring(name)  # the last one knows the names of the sources
        for source in checkpoint.names("sources"):
            (root / "sources" / source).mkdir(parents=True)
            for name in checkpoint.names(f"sources/{source}"):
                (root / "sources" / source / name).touch()
        ends = [file_logs(root, layout.plan(plan)) for plan in plans]
        for log, last in ends[-1].items():
            for entry, file in layout.numbered(log).items():
                if (ends[0].get(log, -1) if number else -1) < entry <= last:
                    bring(f"sources/{log.name}/{file.name}")
        yield root


@contextmanager
def _copy(spark: SparkSession, checkpoint: str, *parts: str) -> Iterator[Path]:
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    with tempfile.TemporaryDirectory(prefix="sparkstream-checkpoint-") as name:
        try:
            _bring(spark, checkpoint, parts, Path(name))
        except (Py4JError, PySparkException) as err:
            cause, fix = innermost_cause(err), "correct the path, or copy the checkpoint to this machine"
            if cause.startswith("ChecksumException"):
                fix = "put the file back from a backup, or start anew on another checkpoint"
            raise InvalidInputError(f"checkpoint {checkpoint} cannot be read ({cause}); {fix}") from err
        try:
            yield Path(name)
        except InvalidInputError as err:
            err.args = tuple(str(each).replace(name, checkpoint) for each in err.args)
            raise


def _bring(spark: SparkSession, checkpoint: str, parts: Sequence[str], folder: Path) -> None:
    """Copy the files of some parts of a checkpoint, with their times."""
    from pyspark.sql import functions as F

    from sparkstream_kit._spark.place import locate, through_spark

    found = None
    # Looked at first where that can be: of what is missing Spark logs a stack trace.
    place = locate(spark, checkpoint)
    for part in set(parts) & set(place.names()) if place.is_in_reach else parts:
        files = through_spark(spark, f"{checkpoint}/{part}", below=True)
        if files is None:
            continue
        for uri in files.inputFiles():  # the empty ones too, of which there will be no row
            _make(folder, part, unquote(uri))
        changed = F.unix_micros("modificationTime")
        rows = files.select(F.lit(part).alias("part"), "path", changed.alias("at"), "content")
        found = rows if found is None else found.unionAll(rows)
    for part, path, changed, content in found.collect() if found is not None else ():
        file = _make(folder, part, path, content)
        os.utime(file, ns=(changed * 1000, changed * 1000))


def _make(folder: Path, part: str, path: str, content: bytes = b"") -> Path:
    # What comes before the part may be spelt in another way than the checkpoint.
    file = folder / part / ("" if part == "metadata" else path.rpartition(f"/{part}/")[2])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file
