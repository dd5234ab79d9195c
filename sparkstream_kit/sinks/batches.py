"""Start and run: sinks that write each batch by a function `write(batch_df, batch_id)`.

`foreach_batch` calls a user's function, and `snapshot` replaces a file. `fan_out` and
`by_watermark` hand each batch to other sinks; `combined_sink` builds both. Users find all
four in `sparkstream_kit.sinks`.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from inspect import (
    isasyncgenfunction,
    iscoroutinefunction,
    isgeneratorfunction,
    signature,
)
from pathlib import Path
from typing import TYPE_CHECKING

from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._internal import file_system
from sparkstream_kit._internal.arguments import check
from sparkstream_kit._internal.columns import column as _column
from sparkstream_kit._internal.columns import event_time, refuse_taken, refuse_twice
from sparkstream_kit._internal.spark.batch import count_aside
from sparkstream_kit._internal.spark.place import refuse_elsewhere
from sparkstream_kit._internal.spark.session import refuse_former_patterns
from sparkstream_kit.checkpoints.logs import plan_in
from sparkstream_kit.errors import InvalidInputError, printable
from sparkstream_kit.sinks import readback
from sparkstream_kit.sinks.base import (
    JSON,
    MODES,
    BatchSink,
    Form,
    Sink,
    Target,
    of_batches,
    open_batch_sink,
)
from sparkstream_kit.sinks.cells import cells
from sparkstream_kit.sinks.file_columns import check_types
from sparkstream_kit.sinks.refusals import only_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

    from sparkstream_kit._internal.spark.batch import Write
    from sparkstream_kit._internal.spark.place import Place
    from sparkstream_kit.sinks.base import Opening


def foreach_batch(write: Callable[[DataFrame, int], None]) -> Sink:
    """Call a function of your own with each batch and its id.

    The function must read all rows of the batch: a stateful query fails if its batch is
    only partly read. On Spark Connect the function runs in a Python process of the
    server: it cannot change variables of your script, and `run` prints its output on
    your side.

    Delivery: at least once; after a crash the same batch is replayed with the same id
    and the same rows.

    Args:
        write: a function that takes the batch's DataFrame and its id, an integer that
            starts at 0.

    Raises:
        InvalidInputError: the function is async or a generator, of which a call runs
            nothing; or it cannot be called with two arguments.

    Examples:
        In a session::

            def show(batch, batch_id):
                batch.show()

            start(sales, sinks.foreach_batch(show), name="sales")
    """
    check(foreach_batch, locals())
    runs_nothing = (isasyncgenfunction, iscoroutinefunction, isgeneratorfunction)
    if any(is_kind(write) for is_kind in runs_nothing):
        raise InvalidInputError(
            "sinks.foreach_batch(): write must be a function without async and yield"
        )
    _refuse_other_arguments(write)
    return BatchSink(
        kind="foreach_batch",
        modes=MODES,
        promise="at least once",
        open=lambda *_: write,
    )


def _refuse_other_arguments(write: Callable[[DataFrame, int], None]) -> None:
    """Refuse a function that Spark cannot call with a batch and its id."""
    try:
        arguments = signature(write)
    except (TypeError, ValueError):  # some of C do not say what they take
        return
    try:
        arguments.bind("batch", "batch_id")
    except TypeError:
        name = getattr(write, "__name__", "the function")
        raise InvalidInputError(
            f"sinks.foreach_batch(): write is {name}{arguments}, and Spark calls it with"
            " a batch and its id; write it as def write(batch, batch_id)"
        ) from None


def snapshot(path: str | Path) -> Sink:
    """Replace one CSV or JSON file with the whole result after each batch, atomically.

    Use it in output mode `complete`, in which each batch is the whole result. A reader
    always sees the complete result of one batch, never a half-written file. The rows
    pass through the driver's memory.

    Times are in the session's time zone. Each TIMESTAMP has its UTC offset, in CSV only
    if the time zone is not UTC: without the offset an hour that occurs twice in autumn
    would be ambiguous.

    Delivery: the file holds the result of the last batch written; a replayed batch
    writes the same again.

    Args:
        path: a local file whose name ends in `.csv` (with a header line) or `.json`
            (one array of objects).

    Raises:
        InvalidInputError: the path has another ending, is not local, or is in a folder
            that does not exist; when the query starts, the format cannot hold a column,
            two columns have one name, or the files would be on a Spark Connect server
            elsewhere.

    Examples:
        >>> snapshot("t.xml")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: snapshot t.xml: the name must end in .csv or .json
    """
    check(snapshot, locals())
    formats = {".csv": as_csv, ".json": as_json}
    local_path = file_system.plain(str(path))
    if local_path is None:
        raise InvalidInputError(
            f"snapshot {path} is not on this machine; give a local path, or use"
            " sinks.latest"
        )
    target = Path(local_path).absolute()
    if target.suffix not in formats:
        raise InvalidInputError(
            f"snapshot {path}: the name must end in {' or '.join(formats)}"
        )
    if target.is_dir():
        raise InvalidInputError(
            f"snapshot {path} is a folder, as Spark writes one; give another name"
        )
    if not target.parent.is_dir():
        raise InvalidInputError(
            f"snapshot {path}: folder {target.parent} does not exist; create it"
        )

    def open_file(frame: DataFrame, *_: object) -> Write:
        _check_rows(f"snapshot {path}", target.suffix[1:], frame)
        return write_file

    def write_file(batch: DataFrame, _batch_id: int) -> None:
        text = formats[target.suffix](only_texts(f"snapshot {path}", batch))
        file_system.replace(target.resolve(), [text])

    def read_file(
        spark: SparkSession, schema: StructType, _location: Place
    ) -> DataFrame:
        return _read_back(spark, target, schema)

    def as_written(frame: DataFrame, folder: str) -> DataFrame:
        file = Path(str(file_system.plain(folder)), f"rows{target.suffix}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file_system.replace(file, [formats[target.suffix](frame)])
        return _read_back(frame.sparkSession, file, frame.schema)

    return BatchSink(
        kind="snapshot",
        modes=("complete",),
        promise="the last batch's result, whole",
        after_rewind="writes the result of the replayed batch",
        advice="a snapshot replaces the whole result: use complete",
        writes_to=(Target("file", os.path.realpath(target), os.path.realpath(target)),),
        open=open_file,
        read=read_file,
        form=Form(as_written, "json" if target.suffix == ".json" else "text"),
    )


def _check_rows(who: str, name: str, frame: DataFrame) -> None:
    """Refuse rows that a file of this format cannot hold, or a session that cannot write it.

    Raises:
        InvalidInputError: the rows or the session cannot be used.
    """
    refuse_twice(f"{who}: column", frame.columns)
    check_types(who, name, frame.schema.fields)
    if name == "json":
        refuse_former_patterns(who, frame.sparkSession)
    refuse_elsewhere(frame.sparkSession, who, "sinks.latest")


def _read_back(spark: SparkSession, file: Path, schema: StructType) -> DataFrame:
    """Read the rows of a snapshot back as texts."""
    if file.suffix == ".csv":
        return readback.of_csv(spark, file)
    return readback.of_json(spark, file.read_bytes().decode(), schema.names)


def fan_out(*sinks: Sink) -> Sink:
    """Write each batch to several sinks in the order given, and compute the batch only once.

    Delivery: each sink keeps its own promise. After a crash between two sinks, or after
    the last one, the batch is replayed to all of them; a sink that writes exactly once
    recognizes a batch that it has already written, and skips it. Until the replay one
    sink can be a batch ahead of the next: the sinks are not updated in one transaction.

    Args:
        *sinks: sinks that work batch by batch.

    Raises:
        InvalidInputError: no sink was given, a sink is Spark's own, two sinks write to
            the same table, view, folder or file, or no output mode is supported by all
            sinks.

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
        writes = [open_batch_sink(sink, frame, location, opening) for sink in sinks]

        def write(batch: DataFrame, batch_id: int) -> None:
            with computed_once(batch):
                for each in writes:
                    each(batch, batch_id)

        return write

    return combined_sink("fan_out", sinks, open_all)


@contextmanager
def computed_once(batch: DataFrame) -> Iterator[None]:
    """Cache a batch, so that Spark computes it once for all readers; blocks may nest."""
    if batch.is_cached:
        yield
        return
    batch.persist()
    # The cache is for all readers: the function of one of them may end with
    # `unpersist`.
    batch.unpersist = lambda *_, **__: batch  # type: ignore[method-assign]
    try:
        yield
    finally:
        del batch.unpersist
        # Report the first error, not one that follows from it
        with suppress(Exception):
            batch.unpersist()


def target_key(target: Target) -> tuple[str, str]:
    """Return what two targets that are the same one have in common, however spelt."""
    if target.path == target.name:
        return target.kind, file_system.spelt(target.path)
    return target.kind, target.known_as or target.name


def combined_sink(
    call: str,
    sinks: Sequence[Sink],
    open_all: Callable[[DataFrame, Place | None, Opening], Write],
) -> Sink:
    """Build a sink that hands its batches to other sinks, and check that they fit together.

    Args:
        call: the name of the public function that calls this one, for messages.
        sinks: the inner sinks.
        open_all: the `BatchSink.open` of the new sink: opens the inner sinks, and returns a
            function that writes a batch to them.

    Returns:
        A sink that supports the output modes that all inner sinks support, and needs a
        checkpoint if one of them does.

    Raises:
        InvalidInputError: as for `fan_out`.
    """
    for sink in sinks:
        of_batches(sink, f"{call}()")
    modes = _modes_of_all(sinks)
    if not modes:
        supported_modes = "; ".join(
            f"{sink.kind} supports {', '.join(sink.modes)}" for sink in sinks
        )
        raise InvalidInputError(
            f"{call}(): no output mode fits all sinks: {supported_modes}; start two queries"
        )

    targets: list[Target] = []
    for sink in sinks:
        targets += sink.writes_to
    keys = [*map(target_key, targets)]
    for target in targets:
        if keys.count(target_key(target)) > 1:
            # The second sink would find the batch in the ledger and skip its rows, or
            # replace the first's.
            raise InvalidInputError(
                f"{call}(): two sinks write to {target}; union their rows in the query"
            )
    promises = [f"{sink.kind}: {sink.promise}" for sink in sinks]
    return BatchSink(
        kind=f"{call}(" + ", ".join(sink.kind for sink in sinks) + ")",
        modes=tuple(modes),
        promise="; ".join(dict.fromkeys(promises)),
        needs_checkpoint=any(sink.needs_checkpoint for sink in sinks),
        writes_to=tuple(targets),
        open=open_all,
        parts=tuple(sinks),
    )


def _modes_of_all(sinks: Sequence[Sink]) -> list[str]:
    """Return the output modes that each of the sinks supports."""
    modes = list(MODES)
    for sink in sinks:
        modes = [mode for mode in modes if mode in sink.modes]
    return modes


def by_watermark(time: str, *, on_time: Sink, late: Sink) -> Sink:
    """Write late rows to one sink and all other rows to another.

    This needs no state and no Python workers.

    A row is late if its event time is at or before the watermark of its batch, which is
    the newest event time of all earlier batches minus the delay. A row whose event time
    is null is on time. Spark's watermark starts at 1970-01-01 00:00 UTC, so rows with
    that time or an earlier one are late from the first batch on.

    To aggregate the on-time rows by windows, write them with `batch_files` and read
    that folder in a second query: none of these rows is late there.

    The summary of `run` says how many rows were late (not on Spark Connect).

    Delivery: each sink keeps its own promise. Spark writes a batch's watermark into the
    checkpoint before the batch runs, so a batch that is replayed after a crash is split
    the same way.

    Args:
        time: the event-time column (timestamp), which must have a watermark.
        on_time: the sink for the rows that are not late, with the query's columns; must
            work batch by batch.
        late: the sink for the late rows, with the query's columns and `watermark
            TIMESTAMP`, the watermark that the row missed; must work batch by batch.

    Raises:
        InvalidInputError: a sink is Spark's own or does not support append mode, or
            both write to the same target; when the query starts, the column `time` is
            missing, is no timestamp or has no watermark, the query already has a column
            `watermark`, or it has no checkpoint.

    Examples:
        >>> from sparkstream_kit import sinks
        >>> rows = sinks.batch_files("rows")
        >>> sinks.by_watermark("time", on_time=rows, late=sinks.batch_files("rows"))
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
        late_frame = frame.withColumn("watermark", F.lit(None).cast(T.TimestampType()))
        writes = (
            open_batch_sink(on_time, frame, location, opening),
            open_batch_sink(late, late_frame, location, opening),
        )
        return partial(_write_by_watermark, time, location, *writes)

    combined = combined_sink("by_watermark", (on_time, late), open_both)
    for sink in (on_time, late):
        if "append" not in sink.modes:
            raise InvalidInputError(
                f"by_watermark() works in append mode, which {sink.kind} does not"
                " support; give another sink"
            )
    return replace(
        combined,
        modes=("append",),
        advice="in other modes result rows are not input rows",
    )


def _write_by_watermark(
    time: str,
    location: Place,
    on_time: Write,
    late: Write,
    batch: DataFrame,
    batch_id: int,
) -> None:
    text = location.read(f"offsets/{batch_id}")
    if text is None:
        raise InvalidInputError(
            f"by_watermark(): checkpoint {location} has no offsets/{batch_id}, which"
            " says the watermark; restore it, and start again"
        )
    watermark = F.timestamp_millis(F.lit(plan_in(text).watermark))
    is_late = F.coalesce(_column(time) <= watermark, F.lit(False))
    with computed_once(batch):
        on_time(batch.where(~is_late), batch_id)
        rows = batch.where(is_late)
        late(rows.withColumn("watermark", watermark), batch_id)
        count_aside(rows, location, batch_id)


def as_csv(frame: DataFrame) -> str:
    """Return a DataFrame as CSV: a header line, then one record per row.

    A null is an empty field, and an empty text is "". In a file of one column both are
    "".

    The format is that of RFC 4180, except that lines end with a line feed alone.
    """
    rows = [frame.columns, *cells(frame)]
    return "".join(f"{file_system.csv_record(row)}\n" for row in rows)


def as_json(frame: DataFrame) -> str:
    """Return rows as a JSON array, one object a line; decimals are numbers, in full.

    Spark escapes the ASCII control characters, as JSON requires. `printable` also
    escapes the other unprintable characters, which JSON permits.
    """
    objects = frame.select(F.to_json(F.struct("*"), JSON)).collect()
    if not objects:
        return "[]\n"
    lines = ["  " + printable(row[0]) for row in objects]
    return "[\n" + ",\n".join(lines) + "\n]\n"
