"""Sinks that work batch by batch: each is built on a function `write(batch_df, batch_id)`."""

from __future__ import annotations

import json
import logging
import os
import zlib
from dataclasses import replace
from functools import partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkstream_kit import _connect, _files
from sparkstream_kit._arguments import check
from sparkstream_kit.checkpoints.layout import numbered
from sparkstream_kit.checkpoints.locks import local_path
from sparkstream_kit.errors import InvalidInputError, check_file
from sparkstream_kit.sinks import texts
from sparkstream_kit.sinks.base import MODES, Sink, written

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql.types import StructType

__all__ = ["fan_out", "foreach_batch", "latest", "snapshot"]

_log = logging.getLogger(__name__)


def foreach_batch(write: Callable[[DataFrame, int], None]) -> Sink:
    """Call a function of your own with each batch and its id.

    Use all of the batch's rows: a stateful query fails when its batch is read in part. On Spark Connect the
    function runs in a Python of the server: it changes no variable here, and what it prints is printed here
    by `run`.

    Delivery: at least once; after a crash the same batch comes again with the same id and the same rows.

    Args:
        write: a function of the batch's DataFrame and its id.
    """
    check(foreach_batch, locals())
    return Sink(kind="foreach_batch", modes=MODES, delivery="at least once", write=write)


def snapshot(path: str | Path) -> Sink:
    """Replace one CSV or JSON file with the whole result after each batch, atomically.

    A reader sees the result of one batch, whole, and never a half-written file. The rows pass through the
    driver's memory.

    Delivery: the file holds the result of the last batch written; a replayed batch writes the same again.

    Args:
        path: a local file whose name ends in `.csv` (with a header line) or `.json` (one array of objects).

    Raises:
        InvalidInputError: another ending, a path that is not local, or a folder that does not exist.

    Example:
        >>> snapshot("totals.xml")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: snapshot totals.xml: the name must end in .csv or .json
    """
    check(snapshot, locals())
    formats = {".csv": texts.as_csv, ".json": texts.as_json}
    plain = _files.plain(str(path))
    if plain is None:
        raise InvalidInputError(
            f"snapshot {path}: only a local file is replaced whole; give a local path, or use sinks.latest"
        )
    target = check_file("snapshot", plain, *formats).absolute()

    def bind(frame: DataFrame, _checkpoint: str | None) -> Sink:
        _connect.check_here(frame.sparkSession, f"snapshot {path}", "sinks.latest")
        return replace(made, binder=None)

    made = Sink(
        kind="snapshot",
        modes=("complete",),
        delivery="the last batch's result, whole",
        advice="a snapshot replaces the whole result: use complete",
        targets=(f"file {os.path.realpath(target)}",),
        write=lambda batch, _: _files.replace(target, [formats[target.suffix](batch)]),
        binder=bind,
    )
    return made


def latest(table: str) -> Sink:
    """Show the result of the last batch as the temporary view `table`, also after a restart.

    The rows are kept beside the query's checkpoint and shown again as soon as the query is started on it,
    before and without any new batch; Spark's memory sink would show an empty table. They pass through the
    driver's memory. Without a checkpoint, or with one that is not on a local path, the table is empty
    until the first batch.

    Delivery: the table holds the result of the last batch; a replayed batch shows the same again.

    Args:
        table: the name to use in SQL, in the session of the query's DataFrame.

    Example:
        >>> latest("totals").modes
        ('complete',)
    """
    check(latest, locals())

    def bind(frame: DataFrame, checkpoint: str | None) -> Sink:
        kept = _kept_at(frame.sparkSession, checkpoint, table)
        lines = [] if kept is None else _lines(kept, table, frame.columns)
        _shown_again(frame, lines).createOrReplaceTempView(table)
        return replace(unbound, write=partial(_write_latest, table, frame.sparkSession, kept), binder=None)

    unbound = Sink(
        kind="latest",
        modes=("complete",),
        delivery="the last batch's result, whole",
        advice="the table is the whole result: use complete, or sinks.memory for append",
        targets=(f"view {table.lower()}",),  # Spark's names have no case
        write=partial(_write_latest, table, None, None),
        views={table: lambda frame: frame},
        binder=bind,
    )
    return unbound


def fan_out(*sinks: Sink) -> Sink:
    """Write each batch to several sinks in the order given, computed once.

    Delivery: of each sink its own. A crash between two of them, or after them, brings the batch again to all:
    one that is exactly once knows it and keeps it once, also where the crash was before its neighbour. Until
    then one sink is a batch ahead of the next: several tables do not change in one moment.

    Args:
        *sinks: sinks that work batch by batch.

    Raises:
        InvalidInputError: no sink, one of Spark's own, two that write to the same table, view, folder or
            file, or no output mode that all of them support.

    Example:
        >>> from sparkstream_kit import sinks
        >>> sinks.fan_out(sinks.console())
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: fan_out() takes sinks that work batch by batch ...
    """
    check(fan_out, locals())
    if not sinks:
        raise InvalidInputError("fan_out() needs at least one sink")
    writes = [written(sink, "fan_out()") for sink in sinks]
    modes = reduce(lambda common, sink: [m for m in common if m in sink.modes], sinks, list(MODES))
    if not modes:
        asked = "; ".join(f"{sink.kind} supports {', '.join(sink.modes)}" for sink in sinks)
        raise InvalidInputError(f"fan_out(): no output mode fits all sinks: {asked}; start two queries")

    targets = [target for sink in sinks for target in sink.targets]
    for target in targets:
        if targets.count(target) > 1:
            # The second would find the batch in the ledger and keep nothing, or replace the first.
            raise InvalidInputError(f"fan_out(): two sinks write to {target}; union their rows in the query")

    def write(batch: DataFrame, batch_id: int) -> None:
        batch.persist()
        try:
            for each in writes:
                each(batch, batch_id)
        finally:
            batch.unpersist()

    return Sink(
        kind="fan_out(" + ", ".join(sink.kind for sink in sinks) + ")",
        modes=tuple(modes),
        delivery="; ".join(dict.fromkeys(f"{sink.kind}: {sink.delivery}" for sink in sinks)),
        needs_checkpoint=any(sink.needs_checkpoint for sink in sinks),
        targets=tuple(targets),
        write=write,
        views={view: part for sink in sinks for view, part in sink.views.items()}
        if all(sink.views for sink in sinks)
        else {},
        binder=lambda frame, checkpoint: fan_out(*(sink.bind(frame, checkpoint) for sink in sinks)),
    )


def _kept_at(spark: SparkSession, checkpoint: str | None, table: str) -> Path | None:
    """Return where a table's rows are kept: in the checkpoint's folder, where Spark ignores them."""
    if checkpoint is None:
        return None
    path = local_path(spark, checkpoint)
    if path is None:
        _log.warning("table %s is empty until the first batch: checkpoint %s is not local", table, checkpoint)
        return None
    return Path(path, "sparkstream-kit", f"{table}.rows")


def _lines(kept: Path, table: str, columns: list[str]) -> list[str]:
    """Return the kept rows; none of a query with other columns, which this checkpoint had before.

    Raises:
        InvalidInputError: they are not what was kept.
    """
    former = kept.with_suffix(".jsonl")  # as versions before this one kept them: without a checksum
    file = kept if kept.exists() or not former.exists() else former
    if not file.exists():
        if numbered(kept.parent.parent / "commits"):
            _log.warning("table %s is empty until the next batch: no rows of it are kept in %s", table, kept)
        return []
    try:
        text = file.read_bytes().decode()
        head, _, rows = (_head(text), "", text) if file == former else text.partition("\n")
        # A line ends at a line feed alone, as a value may hold Unicode's other ends.
        lines = [line for line in rows.split("\n") if line]
        fitting = all(list(json.loads(line)) == columns for line in (lines if file == former else lines[:1]))
        if head != _head(rows) or (file == former and not fitting):
            raise ValueError  # noqa: TRY301 - one message for all that can be wrong
    except (OSError, TypeError, ValueError) as err:
        raise InvalidInputError(
            f"the kept rows of table {table} are damaged: {file} is not what was written; put it back, or "
            "delete it, and the table is empty until the next batch"
        ) from err
    if not fitting:
        _log.warning("table %s is empty until the next batch: %s has other columns", table, file)
    return lines if fitting else []


def _head(rows: str) -> str:
    """Return the first line of a file of kept rows, their checksum."""
    return f"crc32 {zlib.crc32(rows.encode()):08x}"


def _write_latest(
    table: str, spark: SparkSession | None, kept: Path | None, batch: DataFrame, _batch_id: int
) -> None:
    if _connect.is_connect(batch.sparkSession):
        lines = _as_json(batch)
        rows = _parsed(batch.sparkSession, lines, batch.schema)  # the very session of the client
    else:
        # The frame belongs to a clone of the session, whose views nobody else sees.
        rows = _in_driver(spark or SparkSession.builder.getOrCreate(), batch)
        lines = _as_json(rows) if kept is not None else []
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        rows_text = "".join(line + "\n" for line in lines)
        _files.replace(kept, [_head(rows_text) + "\n", rows_text])
        kept.with_suffix(".jsonl").unlink(missing_ok=True)
    rows.createOrReplaceTempView(table)


def _shown_again(frame: DataFrame, lines: list[str]) -> DataFrame:
    """Return what a query's table has before its first batch: the kept rows, or none."""
    spark = frame.sparkSession
    if lines or _connect.is_connect(spark):
        return _parsed(spark, lines, frame.schema)
    jvm: Any = spark._jvm  # noqa: SLF001
    return _of_java(spark, jvm.java.util.ArrayList(), frame)


def _in_driver(spark: SparkSession, batch: DataFrame) -> DataFrame:
    """Return a frame of the batch's rows, computed once and kept in the driver's JVM."""
    # Java's old calendar lacks ten days of 1582; which one a frame uses is fixed when it is made.
    batch.sparkSession.conf.set("spark.sql.datetime.java8API.enabled", "true")
    java: Any = batch.select("*")._jdf  # noqa: SLF001
    return _of_java(spark, java.collectAsList(), batch)


def _of_java(spark: SparkSession, rows: Any, like: DataFrame) -> DataFrame:
    """Return a frame of rows that the JVM has; to read what createDataFrame makes in Python takes a job."""
    session, java = cast("Any", spark)._jsparkSession, cast("Any", like)._jdf  # noqa: SLF001
    return DataFrame(session.createDataFrame(rows, java.schema()), spark)


def _as_json(rows: DataFrame) -> list[str]:
    return [row[0] for row in rows.select(F.to_json(F.struct("*"), texts.JSON)).collect()]


def _parsed(spark: SparkSession, lines: list[str], schema: StructType) -> DataFrame:
    rows = spark.createDataFrame([(line,) for line in lines], "value STRING")
    return rows.select(F.from_json("value", schema, texts.JSON).alias("row")).select("row.*")
