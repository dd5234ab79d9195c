"""Sinks built on a function `write(batch_df, batch_id)`."""

from __future__ import annotations

import json
import logging
import os
import zlib
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from sparkstream_kit import _files
from sparkstream_kit._arguments import check
from sparkstream_kit._columns import column, event_time, refuse_taken
from sparkstream_kit._spark.batch import count_aside, in_driver, none_of, session_with_views, show
from sparkstream_kit._spark.place import refuse_elsewhere
from sparkstream_kit.checkpoints.logs import numbered, watermark
from sparkstream_kit.errors import InvalidInputError, check_file
from sparkstream_kit.sinks import builtin
from sparkstream_kit.sinks.base import MODES, Sink, check_view, check_writes_batches, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

    from sparkstream_kit._spark.batch import Write
    from sparkstream_kit._spark.place import Place
    from sparkstream_kit.sinks.base import Opening


_log = logging.getLogger(__name__)


def foreach_batch(write: Callable[[DataFrame, int], None]) -> Sink:
    """Call a function of your own with each batch and its id.

    Use all of the batch's rows: a stateful query fails when its batch is read in part. On Spark Connect the
    function runs in a Python of the server: it changes no variable here, and what it prints is printed here
    by `run`.

    Delivery: at least once; after a crash the same batch is replayed with the same id and the same rows.

    Args:
        write: a function of the batch's DataFrame and its id.

    Examples:
        In a session::

            def show(batch, batch_id):
                batch.show()

            start(sales, sinks.foreach_batch(show), name="sales")
    """
    check(foreach_batch, locals())
    return Sink(kind="foreach_batch", modes=MODES, promise="at least once", open=lambda *_: write)


def snapshot(path: str | Path) -> Sink:
    """Replace one CSV or JSON file with the whole result after each batch, atomically.

    It is for the mode `complete`, in which a batch is the whole result. A reader sees the result of one
    batch, whole, and never a half-written file. The rows pass through the driver's memory. Times are in the
    session's time zone; where that is not UTC, each has its offset (in JSON always), so that an hour that
    comes twice in autumn is told apart.

    Delivery: the file holds the result of the last batch written; a replayed batch writes the same again.

    Args:
        path: a local file whose name ends in `.csv` (with a header line) or `.json` (one array of objects).

    Raises:
        InvalidInputError: another ending, a path that is not local, or a folder that does not exist.

    Examples:
        >>> snapshot("totals.xml")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: snapshot totals.xml: the name must end in .csv or .json
    """
    check(snapshot, locals())
    formats = {".csv": builtin.as_csv, ".json": builtin.as_json}
    plain = _files.plain(str(path))
    if plain is None:
        raise InvalidInputError(
            f"snapshot {path}: only a local file is replaced whole; give a local path, or use sinks.latest"
        )
    target = check_file("snapshot", plain, *formats).absolute()

    def open_file(frame: DataFrame, *_: object) -> Write:
        refuse_elsewhere(frame.sparkSession, f"snapshot {path}", "sinks.latest")
        return lambda batch, _: _files.replace(target, [formats[target.suffix](batch)])

    return Sink(
        kind="snapshot",
        modes=("complete",),
        promise="the last batch's result, whole",
        after_rewind="writes the result of the replayed batch",
        advice="a snapshot replaces the whole result: use complete",
        writes_to=(f"file {os.path.realpath(target)}",),
        open=open_file,
    )


def latest(table: str) -> Sink:
    """Show the result of the last batch as the temporary view `table`, also after a restart.

    The rows are kept beside the query's checkpoint and shown again as soon as the query is started on it,
    before and without any new batch; Spark's memory sink would show an empty table. They pass through the
    driver's memory. Without a checkpoint, or with one that is not on a local path, the table is empty
    until the first batch.

    Delivery: the table holds the result of the last batch; a replayed batch shows the same again.

    Args:
        table: the name to use in SQL, in the session of the query's DataFrame. (On Spark Connect this takes
            a query that `start` has started.)

    Raises:
        InvalidInputError: the name is empty, or has a dot in it.

    Examples:
        >>> latest("totals").modes
        ('complete',)
    """
    check(latest, locals())
    check_view("latest", table)

    def open_view(frame: DataFrame, location: Place | None, opening: Opening) -> Write:
        spark = session_with_views(frame)
        file = _kept_at(location, table)
        lines = [] if file is None else _lines(file, table, frame.columns)
        shown = _parsed(spark, lines, frame.schema) if lines else none_of(frame)
        if not opening.makes:
            return lambda *_: None
        show_instead = show(shown, table)

        def write(batch: DataFrame, _batch_id: int) -> None:
            rows = in_driver(spark, batch)
            lines = _as_json(batch if rows is None else rows) if rows is None or file is not None else []
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                text = "".join(line + "\n" for line in lines)
                _files.replace(file, [_head(text) + "\n", text])
            show_instead(_parsed(batch.sparkSession, lines, batch.schema) if rows is None else rows)

        return write

    return Sink(
        kind="latest",
        modes=("complete",),
        promise="the last batch's result, whole",
        after_rewind="shows the result of the replayed batch",
        advice="the table is the whole result: use complete, or sinks.memory for append",
        writes_to=(f"view {table.lower()}",),  # Spark's names have no case
        open=open_view,
    )


def _kept_at(location: Place | None, table: str) -> Path | None:
    """Return where a table's rows are kept: in the checkpoint's folder, where Spark ignores them."""
    if location is None:
        return None
    if location.folder is None:
        _log.warning(
            "table %s is empty until the first batch: checkpoint %s is not local", table, location.text
        )
        return None
    return location.folder / "sparkstream-kit" / f"{table}.rows"


def _lines(kept: Path, table: str, columns: list[str]) -> list[str]:
    """Return the kept rows; none of a query with other columns, which this checkpoint had before.

    Raises:
        InvalidInputError: they are not what was kept.
    """
    if not kept.exists():
        if numbered(kept.parent.parent / "commits"):
            _log.warning("table %s is empty until the next batch: no rows of it are kept in %s", table, kept)
        return []
    try:
        head, _, rows = kept.read_bytes().decode().partition("\n")
        # A line ends at a line feed alone, as a value may hold Unicode's other ends.
        lines = [line for line in rows.split("\n") if line]
        fitting = all(list(json.loads(line)) == columns for line in lines[:1])
        if head != _head(rows):
            raise ValueError  # noqa: TRY301 - one message for all that can be wrong
    except (OSError, TypeError, ValueError) as err:
        raise InvalidInputError(
            f"the kept rows of table {table} are damaged: {kept} is not what was written; put it back, or "
            "delete it, and the table is empty until the next batch"
        ) from err
    if not fitting:
        _log.warning("table %s is empty until the next batch: %s has other columns", table, kept)
    return lines if fitting else []


def _head(rows: str) -> str:
    """Return the first line of a file of kept rows, their checksum."""
    return f"crc32 {zlib.crc32(rows.encode()):08x}"


def _as_json(rows: DataFrame) -> list[str]:
    return [row[0] for row in rows.select(F.to_json(F.struct("*"), builtin.JSON)).collect()]


def _parsed(spark: SparkSession, lines: list[str], schema: StructType) -> DataFrame:
    rows = spark.createDataFrame([(line,) for line in lines], "value STRING")
    return rows.select(F.from_json("value", schema, builtin.JSON).alias("row")).select("row.*")


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

    Examples:
        >>> from sparkstream_kit import sinks
        >>> sinks.fan_out(sinks.console())
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: fan_out() takes sinks that work batch by batch ...
    """
    check(fan_out, locals())
    if not sinks:
        raise InvalidInputError("fan_out() needs at least one sink")

    def open_all(frame: DataFrame, location: Place | None, opening: Opening) -> Write:
        writes = [opened(sink, frame, location, opening) for sink in sinks]

        def write(batch: DataFrame, batch_id: int) -> None:
            with computed_once(batch):
                for each in writes:
                    each(batch, batch_id)

        return write

    return together("fan_out", sinks, open_all)


@contextmanager
def computed_once(batch: DataFrame) -> Iterator[None]:
    """Have Spark compute a batch once that is read several times, also where one such block is in another."""
    if batch.is_cached:
        yield
        return
    batch.persist()
    try:
        yield
    except BaseException:
        with suppress(Exception):  # what failed first is the cause, such as that Spark has gone
            batch.unpersist()
        raise
    batch.unpersist()


def together(
    call: str, sinks: Sequence[Sink], open_all: Callable[[DataFrame, Place | None, Opening], Write]
) -> Sink:
    """Return the sink that hands its batches to others.

    Args:
        call: the function that makes it.
        sinks: the others.
        open_all: opens them, and returns what writes a batch to them.

    Raises:
        InvalidInputError: as for `fan_out`.
    """
    for sink in sinks:
        check_writes_batches(sink, f"{call}()")
    modes = [mode for mode in MODES if all(mode in sink.modes for sink in sinks)]
    if not modes:
        asked = "; ".join(f"{sink.kind} supports {', '.join(sink.modes)}" for sink in sinks)
        raise InvalidInputError(f"{call}(): no output mode fits all sinks: {asked}; start two queries")

    targets = [target for sink in sinks for target in sink.writes_to]
    for target in targets:
        if targets.count(target) > 1:
            # The second would find the batch in the ledger and keep nothing, or replace the first.
            raise InvalidInputError(f"{call}(): two sinks write to {target}; union their rows in the query")
    return Sink(
        kind=f"{call}(" + ", ".join(sink.kind for sink in sinks) + ")",
        modes=tuple(modes),
        promise="; ".join(dict.fromkeys(f"{sink.kind}: {sink.promise}" for sink in sinks)),
        needs_checkpoint=any(sink.needs_checkpoint for sink in sinks),
        writes_to=tuple(targets),
        open=open_all,
        parts=tuple(sinks),
    )


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
    runs, so that a batch replayed after a crash is split as before.

    Args:
        time: the event-time column (timestamp) with the watermark.
        on_time: gets the rows that are not late, with the same columns; works batch by batch.
        late: gets the late rows, with a further column `watermark TIMESTAMP`, which they have missed; works
            batch by batch.

    Raises:
        InvalidInputError: a sink of Spark's own, or two that write to the same target; when the query starts,
            a column `time` that is not there, is no timestamp or has no watermark, a column `watermark` that
            is there already, or a query without a checkpoint.

    Examples:
        >>> from sparkstream_kit import sinks
        >>> sinks.by_watermark("time", on_time=sinks.batch_files("rows"), late=sinks.batch_files("rows"))
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: by_watermark(): two sinks write to folder ...
    """
    check(by_watermark, locals())

    def open_both(frame: DataFrame, location: Place | None, opening: Opening) -> Write:
        call = "by_watermark()"
        event_time(frame, time, call)
        refuse_taken(frame.columns, ("watermark",), call)
        if location is None:
            raise InvalidInputError(
                f"{call} reads the watermark of each batch in the checkpoint; give "
                "start(…, checkpoint='folder')"
            )
        missed = frame.withColumn("watermark", F.lit(None).cast("timestamp"))
        writes = opened(on_time, frame, location, opening), opened(late, missed, location, opening)
        return partial(_write, time, location, *writes)

    made = together("by_watermark", (on_time, late), open_both)
    for sink in (on_time, late):
        if "append" not in sink.modes:
            raise InvalidInputError(
                f"by_watermark() works in append mode, which {sink.kind} does not support"
            )
    return replace(made, modes=("append",), advice="only there is each row of the result a row that came in")


def _write(time: str, location: Place, on_time: Write, late: Write, batch: DataFrame, batch_id: int) -> None:
    text = location.read(f"offsets/{batch_id}")
    if text is None:
        raise InvalidInputError(f"checkpoint {location} has no offsets/{batch_id}, which says the watermark")
    missed = F.timestamp_millis(F.lit(watermark(text)))
    is_late = F.coalesce(column(time) <= missed, F.lit(False))
    with computed_once(batch):
        on_time(batch.where(~is_late), batch_id)
        rows = batch.where(is_late)
        late(rows.withColumn("watermark", missed), batch_id)
        count_aside(rows, location, batch_id)
