"""Sources that a test fills and queries that it steps: each batch leaves a file with its rows.

`streams` yields a `Streams`, which makes the `Source` and `Query` objects of one test.
Input and output go through files, because files can be replayed: each `Source.add_data`
writes one Parquet file for a file source, and a `foreachBatch` function writes the rows
of each batch to a file, which `Query.step` reads. On Spark Connect, the server must be
able to read these files.

On Spark Connect a `foreachBatch` function first starts a Python process at the server,
which takes a second. So the first run of a query without a sink under test uses Spark's
memory sink there. That sink loses its rows at a restart, and in complete mode it keeps
only the rows of the last batch, so restarted queries and queries in complete mode use
the function.
"""

from __future__ import annotations

import itertools
import math
import os
import pickle
import re
import tempfile
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from sparkstream_kit._internal.arguments import check
from sparkstream_kit._internal.file_system import escaped, for_spark
from sparkstream_kit.checkpoints.drain import END, plan_empty_batch, reached
from sparkstream_kit.checkpoints.logs import Logs
from sparkstream_kit.checkpoints.operate.rewind import later_files, set_aside
from sparkstream_kit.connectors import need
from sparkstream_kit.errors import (
    InvalidInputError,
    KitError,
    QueryFailed,
    innermost_cause,
    reject_unknown,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import pytest
    from pyspark.sql import DataFrame, Row, SparkSession
    from pyspark.sql.streaming.listener import StreamingQueryProgress
    from pyspark.sql.streaming.query import StreamingQuery
    from pyspark.sql.types import DataType, StructField, StructType

    from sparkstream_kit.sinks import Sink


_DIGITS = 9  # sums of doubles differ in their last digits with the order of the rows


def fault_of_the_test(error: pytest.ExceptionInfo[BaseException]) -> bool:
    """Return whether pytest should hide the kit's own frames in the traceback of an error.

    The frames are hidden for failed assertions and errors of the kit, whose cause is in
    the test. Modules assign this function to `__tracebackhide__`.
    """
    return error.errisinstance((AssertionError, KitError))


__tracebackhide__ = fault_of_the_test


def write_parquet(
    path: Path, rows: Iterable[object], schema: StructType, arrow: Any
) -> None:
    """Write rows as one Parquet file, without a Spark job.

    Args:
        path: the file to write.
        rows: tuples in the order of the columns, dicts or Rows.
        schema: the columns.
        arrow: the same columns as a schema of pyarrow.

    Raises:
        InvalidInputError: a row does not fit the columns, or a value does not fit the
            type of its column.
        MissingExtraError: pyarrow is not installed.
    """
    need("sparkstream_kit.testing", "testing", "pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    records = [by_name(row, schema.names) for row in rows]
    columns = [
        _arrow_column(records, column, target.type)
        for target, column in zip(arrow, schema, strict=True)
    ]
    pq.write_table(pa.Table.from_arrays(columns, schema=arrow), path)


def _arrow_column(
    records: Sequence[Mapping[str, Any]], column: StructField, arrow_type: Any
) -> Any:
    """Return the values of one column as an array of pyarrow.

    Raises:
        InvalidInputError: a value does not fit the column.
    """
    import pyarrow as pa

    name_and_type = f"column {column.name} ({column.dataType.simpleString()})"
    try:
        values = [
            _to_arrow(record.get(column.name), column.dataType) for record in records
        ]
        array = pa.array(values, type=arrow_type)
    except (
        pa.ArrowException,
        AttributeError,
        OverflowError,
        TypeError,
        ValueError,
    ) as err:
        reason = str(err).splitlines()[0]
        raise InvalidInputError(f"{name_and_type}: {reason}") from None
    if None in values and not column.nullable:
        row = records[values.index(None)]
        raise InvalidInputError(
            f"{name_and_type}: it is NOT NULL, and {row} has no value for it; give one"
        )
    return array


def _to_arrow(value: Any, kind: DataType) -> Any:
    """For pyarrow, make structs dicts, maps lists of pairs, and timestamps microseconds."""
    from pyspark.sql import types as T

    if value is None:
        return None
    if isinstance(kind, T.StructType):
        named = by_name(value, kind.names)
        return {
            field.name: _to_arrow(named.get(field.name), field.dataType)
            for field in kind
        }
    if isinstance(kind, T.ArrayType):
        # Its characters, numbers or keys would be the items
        if isinstance(value, str | bytes | dict):
            raise InvalidInputError(f"{value!r} is not a list")
        return [_to_arrow(item, kind.elementType) for item in value]
    if isinstance(kind, T.MapType):
        return [
            (_to_arrow(key, kind.keyType), _to_arrow(item, kind.valueType))
            for key, item in value.items()
        ]
    # pyarrow would drop a fraction silently
    if isinstance(kind, T.IntegralType) and not hasattr(value, "__index__"):
        raise InvalidInputError(f"{value!r} is not a whole number")
    if isinstance(kind, T.TimestampType):
        if not isinstance(value, datetime):
            raise InvalidInputError(f"{value!r} is not a datetime")
        # As in createDataFrame, a time without a zone is in the time zone of the
        # Python process.
        return kind.toInternal(value)
    return value


def by_name(row: Any, names: Sequence[str]) -> Mapping[str, Any]:
    """Return a row's values by column name, without those that a dict leaves out (NULL).

    Args:
        row: a tuple or list in the order of the columns, a dict or a Row.
        names: the names of the columns.

    Raises:
        InvalidInputError: the row has an unknown column, another number of values, or
            another type.
    """
    named = row.asDict() if hasattr(row, "__fields__") else row
    if isinstance(named, dict):
        reject_unknown("column", named, names)
        return named
    if not isinstance(row, tuple | list) or len(row) != len(names):
        columns = ", ".join(names)
        raise InvalidInputError(
            f"row {row!r} does not fit the columns {columns}; give tuples of"
            f" {len(names)}, dicts or Rows"
        )
    return dict(zip(names, row, strict=True))


def in_order(row: Any, names: Sequence[str]) -> Any:
    """Convert a dict to a tuple in the order of the columns; return any other row unchanged."""
    if isinstance(row, dict):
        by_column = by_name(row, names)
        return tuple(by_column.get(name) for name in names)
    return row


def canonical(value: Any) -> Any:
    """Convert a value to a hashable form, in which results that count as equal compare equal.

    Structs, Rows and lists become tuples, maps become sets of pairs, doubles are
    rounded to nine digits, and all NaN values are equal.

    Examples:
        >>> value = canonical([0.1 + 0.2, {"a": [1]}, float("nan")])
        >>> value == canonical((0.3, {"a": (1,)}, float("nan")))
        True
    """
    if isinstance(value, tuple | list):
        return tuple(canonical(item) for item in value)
    if isinstance(value, dict):
        return frozenset(
            (canonical(key), canonical(item)) for key, item in value.items()
        )
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, float):
        # A NaN is not equal to itself, but two results with NaN in the same place are
        # equal.
        return "NaN" if math.isnan(value) else float(f"{value:.{_DIGITS}g}")
    return value


def without(rows: Iterable[Any], others: Iterable[Any]) -> list[Any]:
    """Subtract rows from rows as multisets: each row of `others` removes one equal row.

    Rows are compared in their `canonical` form. The rows that are left keep their
    order.

    Examples:
        >>> without([("tea", 3), ("ink", 1), ("ink", 1)], [("ink", 1.0), ("pen", 2)])
        [('tea', 3), ('ink', 1)]
    """
    unmatched = Counter(canonical(other) for other in others)
    remaining = []
    for row in rows:
        key = canonical(row)
        if unmatched[key]:
            unmatched[key] -= 1
        else:
            remaining.append(row)
    return remaining


def differing(expected: list[Any], found: list[Any]) -> dict[str, list[Any]]:
    """Return the missing, the unexpected and all expected rows; empty if they are equal."""
    missing = without(expected, found)
    unexpected = without(found, expected)
    if not missing and not unexpected:
        return {}
    return {"missing": missing, "unexpected": unexpected, "expected": expected}


def failure_message(headline: str, parts: Mapping[str, Iterable[object]]) -> str:
    """Format a failure message: a headline, and under each title one row on each line.

    Examples:
        >>> print(failure_message("other rows", {"missing": [("tea", 3)], "unexpected": []}))
        other rows
        missing:
          ('tea', 3)
        unexpected: none
    """
    lines = [headline]
    for title, rows in parts.items():
        texts = [f"  {row!r}" for row in rows]
        lines += [f"{title}:", *texts] if texts else [f"{title}: none"]
    return "\n".join(lines)


@dataclass(frozen=True)
class Batch:
    """The rows that a query delivered in one batch, with Spark's progress of that batch.

    Attributes:
        batch_id: the id of the batch, which Spark counts from 0 over restarts.
        rows: the rows, in the order in which the sink received them.
        progress: Spark's progress record of the batch, with details such as
            `progress.stateOperators`.
    """

    batch_id: int
    rows: list[Row]
    progress: StreamingQueryProgress = field(repr=False, compare=False)

    @property
    def is_empty(self) -> bool:
        """Whether the batch read and delivered no row, as when a new watermark closes no window.

        Nor does it read rows of a file that Spark leaves out, because a filter keeps
        none of them.
        """
        return not self.rows and self.progress.numInputRows == 0

    @property
    def late_rows(self) -> int:
        """The number of rows dropped as late; Spark counts groups after a partial aggregation."""
        return sum(
            state.numRowsDroppedByWatermark for state in self.progress.stateOperators
        )

    @property
    def watermark(self) -> datetime | None:
        """The watermark in force in this batch, as local time without a zone; None without one.

        The rows of a batch move the watermark of the next batch. The last batch of a
        drain has a watermark in the year 9999.
        """
        from sparkstream_kit._internal.spark.late import moment  # which imports PySpark

        at = moment(self.progress.eventTime.get("watermark"))
        if at is None:
            return None
        if at.year != 9999:  # noqa: PLR2004 - END
            at = at.astimezone()
        return at.replace(tzinfo=None)


class Query:
    """A streaming query that a test runs step by step; `Streams.query` makes it.

    The query has a checkpoint of its own. It keeps running between steps, and resumes
    from the checkpoint after a restart, a failure or a simulated crash.

    Attributes:
        frame: the streaming DataFrame that the query runs.
        batches: all batches that the query has delivered, including empty ones.
    """

    def __init__(
        self,
        frame: DataFrame,
        mode: str,
        sink: Sink | None,
        folder: Path,
        publish: Callable[[], None],
    ) -> None:
        self._publish = publish
        self.frame = frame
        self.batches: list[Batch] = []
        self._mode = mode
        self._sink = sink
        self._checkpoint = folder / "checkpoint"
        self._batches = folder / "batches"
        # The name is unique, because tests may share a session.
        self._name = re.sub(r"\W", "_", f"{folder.parent.name}_{folder.name}")
        self._running: StreamingQuery | None = None
        # Table of the memory sink: the rows of all batches, in order
        self._memory: DataFrame | None = None
        self._read = 0  # rows of that table that were read
        self._last = -1  # id of the last batch whose progress and rows were kept
        # Batches read from the table that no step has returned
        self._taken: list[tuple[int, list[Row]]] = []
        self._progress: dict[int, StreamingQueryProgress] = {}

    def step(self, *, watermark: str | datetime | None = None) -> list[Batch]:
        """Process all rows added to the sources; return the batches that were not empty.

        If a batch moves the watermark, a batch without data follows and emits the
        results that the new watermark closes. A batch that read no row and emitted none
        is not returned, but it is in `batches`.

        Args:
            watermark: after the added rows, move the watermark to this time, such as
                "2026-01-31 12:10", or "12:10" for that time on the current day of the
                watermark. A batch without data emits the results that the new watermark
                closes; no extra row is needed, so none gets into the results.

        Returns:
            The batches in order, each with its rows and its progress.

        Raises:
            QueryFailed: a batch failed; the next step tries the batch again.
            InvalidInputError: the time cannot be read, the watermark is already past
                it, or no batch has run yet.
        """
        check(Query.step, locals())
        self._publish()
        batches = self._processed(self._running or self._start())
        if watermark is not None:
            batches += self._move(self._milliseconds(watermark))
        return batches

    def drain(self) -> list[Batch]:
        """Process all added rows and end the input as `run(drain=True)` does; return the batches.

        The last batch emits the results that still wait for the watermark, such as open
        windows. No step can follow.

        Raises:
            QueryFailed, InvalidInputError: as for `step`.
        """
        return self.step() + self._move(END)

    def _move(self, watermark: int) -> list[Batch]:
        """Run a batch without data at a watermark, given in milliseconds since 1970."""
        self.restart()
        logs = Logs(self._checkpoint)
        if logs.done < 0:
            raise InvalidInputError(
                "no batch has run yet, whose watermark could move; call add_data()"
                " first"
            )
        plan_empty_batch(logs, watermark)
        if watermark == END:
            return self._processed(self._start(once=True))
        return self._processed(self._start())

    def _processed(self, query: StreamingQuery) -> list[Batch]:
        """Wait until a running query has processed all input, and return its new batches."""
        from pyspark.errors import StreamingQueryException

        self._running = query
        try:
            query.processAllAvailable()
        except StreamingQueryException as err:
            self._running = None
            raise QueryFailed(self._name, innermost_cause(err)) from err
        finally:
            self._take(query)
        self._running = query if query.isActive else None  # a drained one has ended
        return self._delivered()

    def _take(self, query: StreamingQuery) -> None:
        """Keep the progress and memory-sink rows of new batches, which a restart would lose."""
        for progress in query.recentProgress:
            self._progress[progress.batchId] = progress
        following = self._last + 1
        self._last = Logs(self._checkpoint).done
        if self._memory is None:
            return
        rows = self._memory.collect()
        # Count up the ids instead of listing commits, because Spark may have removed
        # the first ones.
        for batch in range(following, self._last + 1):
            start = self._read
            if batch in self._progress:
                self._read += self._progress[batch].sink.numOutputRows
            self._taken.append((batch, rows[start : self._read]))

    def _milliseconds(self, watermark: str | datetime) -> int:
        """Convert a time to ms since 1970; one without a date is on the day of the watermark."""
        try:
            if isinstance(watermark, datetime):
                time = watermark
            elif re.match(r"\d\d?:", watermark):
                time = datetime.fromisoformat(self._with_date(watermark))
            else:
                time = datetime.fromisoformat(watermark)
            return int(time.timestamp() * 1000)
        except (TypeError, ValueError) as err:
            raise InvalidInputError(
                f"step(): watermark is {watermark!r}; give a time, such as '12:10' or"
                " '2026-01-31 12:10'"
            ) from err

    def _with_date(self, time_of_day: str) -> str:
        """Put the day of the watermark before a time such as `9:30`, which becomes `09:30`."""
        day = datetime.fromtimestamp(reached(Logs(self._checkpoint)) / 1000)  # noqa: DTZ006 - as rows are
        hour, _, rest = time_of_day.partition(":")
        return f"{day:%Y-%m-%d} {hour:0>2}:{rest}"

    def restart(self, frame: DataFrame | None = None) -> None:
        """Stop the query, so that the next step starts it again from its checkpoint.

        Args:
            frame: the DataFrame to continue with, such as that of the next version of a
                job; by default the same one.
        """
        check(Query.restart, locals())
        from pyspark.errors import StreamingQueryException

        if self._running is not None:
            # Wait, because Spark publishes the progress of a batch only after its
            # commit.
            with suppress(StreamingQueryException):
                self._running.processAllAvailable()
            self._running.stop()
            if Logs(self._checkpoint).done > self._last:
                # The step of another query published rows for this one, too
                self._take(self._running)
            self._running = None
        if self._memory is not None:
            self._memory = None
            self.frame.sparkSession.catalog.dropTempView(self._name)
        if frame is not None:
            self.frame = frame

    def kill_before_commit(self) -> None:
        """Simulate a driver that was killed between the write of the last batch and its commit.

        The last batch means the last one that was not empty; empty batches after it are
        removed from the checkpoint, with their state. The next step replays that batch,
        with the same id and the same rows. A sink that keeps a record of its batches,
        as `sinks.sql_table` does, has recorded the empty ones, too; with such a sink
        the very last batch is replayed.

        Raises:
            InvalidInputError: no batch has been committed.
        """
        from sparkstream_kit.sinks.base import inner

        self.restart()
        logs = Logs(self._checkpoint)
        commits = logs.entries("commits")
        if not commits:
            raise InvalidInputError(
                "no batch has been committed yet that could be replayed; call"
                " add_data() and step() first"
            )
        parts = [] if self._sink is None else inner(self._sink)
        keeps_record = any(part.promise.startswith("exactly once") for part in parts)
        replayable = {
            batch.batch_id
            for batch in self.batches
            if keeps_record or not batch.is_empty
        }
        killed = max(replayable & commits.keys(), default=max(commits))
        # The batch after it is planned anew, and Spark would keep a version of the
        # state that is there.
        set_aside(logs, killed + 1)
        for commit in later_files(self._checkpoint / "commits", killed - 1):
            commit.unlink()

    def replay(self) -> list[Batch]:
        """Replay the last batch as after `kill_before_commit`; return it and those after it."""
        self.kill_before_commit()
        return self.step()

    def _start(self, **trigger: Any) -> StreamingQuery:
        """Start the query from its checkpoint, with a sink that records its batches."""
        from sparkstream_kit import sinks, start
        from sparkstream_kit._internal.spark.session import on_server

        self.restart()
        sink = sinks.foreach_batch(_recorder(str(self._batches)))
        spark = self.frame.sparkSession
        if self._sink is not None:
            sink = sinks.fan_out(self._sink, sink)
        elif (
            on_server(spark)
            and self._mode != "complete"
            and not self._checkpoint.exists()
        ):
            sink = replace(sinks.memory(self._name), modes=("append", "update"))
            self._memory = spark.table(self._name)
        return start(
            self.frame,
            sink,
            name=self._name,
            mode=self._mode,
            checkpoint=self._checkpoint,
            **trigger,
        )

    def _delivered(self) -> list[Batch]:
        """Collect the batches since the last call into `batches`; return the non-empty ones."""
        rows_of_batches = self._taken
        self._taken = []
        for path in sorted(self._batches.glob("[!.]*")):
            batch_and_rows = pickle.loads(path.read_bytes())  # noqa: S301 - the recorder's own
            rows_of_batches.append(batch_and_rows)
            path.unlink()
        lost = [batch for batch, _ in rows_of_batches if batch not in self._progress]
        if lost:
            raise InvalidInputError(
                f"this step ran {len(rows_of_batches)} batches, and Spark forgot the"
                f" progress of batch {lost[0]}; step more often, or give"
                " spark.sql.streaming.numRecentProgressUpdates a higher number"
            )
        delivered = [
            Batch(batch_id, rows, self._progress[batch_id])
            for batch_id, rows in rows_of_batches
        ]
        self.batches += delivered
        return [batch for batch in delivered if not batch.is_empty]


def _recorder(folder: str) -> Callable[[DataFrame, int], None]:
    """Return a `foreachBatch` function that writes the rows of each batch to a file in a folder.

    On Spark Connect the function runs in a process of the server, so it refers only to
    strings and to modules of Python.
    """
    zone = os.environ.get("TZ")

    def record(batch: DataFrame, batch_id: int) -> None:
        if zone is not None:
            # Use the zone of the test's process, because `collect` returns times
            # without a zone.
            os.environ["TZ"] = zone
            time.tzset()
        rows = batch.collect()
        name = f"{time.time_ns():020}"
        hidden = Path(folder, f".{name}")
        hidden.write_bytes(pickle.dumps((batch_id, rows)))
        hidden.rename(Path(folder, name))

    return record


# Modification time of the first file, in Unix seconds: in 2001
_FIRST_TIME = 1_000_000_000

# Types by session and schema: only Spark can derive them, and a request takes as long
# as half a batch.
_known_types: WeakKeyDictionary[SparkSession, dict[str, tuple[StructType, Any]]] = (
    WeakKeyDictionary()
)


@contextmanager
def streams(spark: SparkSession) -> Iterator[Streams]:
    """Open a workspace for a test's sources and queries; its end stops them and removes files.

    Args:
        spark: the session to run queries in. Its time zone must be that of the Python
            process; the fixture `spark` sets both to UTC.

    Yields:
        The object that makes sources and queries: `stream(schema)` and
        `stream.query(frame)`.

    Examples:
        In a session::

            with testing.streams(spark) as stream:  # in pytest the fixture `stream`
                sales = stream("product STRING, amount INT")
                query = stream.query(sales.to_df().where("amount > 0"))
                sales.add_data([("tea", 2), ("ink", 0)])
                assert [batch.rows for batch in query.step()] == [[("tea", 2)]]
    """
    check(streams, locals())
    # Ignore errors: Spark's maintenance thread may write to a state store while its
    # folder is removed.
    with tempfile.TemporaryDirectory(
        prefix="sparkstream-test-", ignore_cleanup_errors=True
    ) as folder:
        workspace = Streams(spark, Path(folder))
        try:
            yield workspace
        finally:
            workspace.close()


class Streams:
    """Makes the sources and the queries of one test, as in `stream("product STRING, amount INT")`.

    The fixture `stream` and the function `streams` provide it.

    Attributes:
        folder: the temporary folder with all files of the test.
    """

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self._spark = spark
        self.folder = folder
        self._sources: list[Source] = []
        self._queries: list[Query] = []
        # Tables of a pipeline that a test has given, and the frames of its sources
        self._tables: dict[str, DataFrame] = {}
        self._frames: dict[Source, DataFrame] = {}
        # The file source reads files in the order of their modification times. Times in
        # the past are used, because a file from the future would make Spark ignore the
        # others as too old.
        self._times = itertools.count(_FIRST_TIME)

    def __call__(self, schema: str | StructType) -> Source:
        """Make a source that the test fills with `add_data`.

        Args:
            schema: the columns of the source, as a DDL string or a `StructType`.
        """
        check(Streams.__call__, locals())
        types = self._types(schema)
        folder = self.folder / f"source-{len(self._sources)}"
        folder.mkdir()
        source = Source(self._spark, types, folder, self._times)
        self._sources.append(source)
        return source

    def query(
        self, frame: DataFrame, *, mode: str = "append", sink: Sink | None = None
    ) -> Query:
        """Make a query with a checkpoint of its own; the first step starts it.

        Args:
            frame: a streaming DataFrame, made from `to_df()` of one or more sources.
            mode: the output mode: `append`, `update` or `complete`.
            sink: a sink to test along with the query; it must write batch by batch. The
                sink receives each batch first, and a batch on which it fails is not in
                the result of the step.
        """
        check(Streams.query, locals())
        folder = self.folder / f"query-{len(self._queries)}"
        (folder / "batches").mkdir(parents=True)
        query = Query(frame, mode, sink, folder, self._publish)
        self._queries.append(query)
        return query

    def flow(
        self, path: str | Path, name: str, **given: Source | DataFrame
    ) -> DataFrame:
        """Call a function of a Spark pipeline, with streams of the test as its input.

        Step the result with `query`, such as
        `stream.query(stream.flow("shop.py", "hours", sales=sales))`. The file runs in
        the session of the test; Spark neither makes a table nor runs another function.

        Args:
            path: the file of the pipeline with the function.
            name: the name of the table, or of the flow if it has its own name.
            **given: by the name of a table of the pipeline, the stream that the
                function reads in its place, by `spark.readStream.table` or
                `spark.table`; it stands for the table until the end of the test. By the
                name of a function of the file that reads a source and is not a table
                itself, the stream that it returns.

        Returns:
            What the function returns.

        Raises:
            InvalidInputError: there is no such file, it has no such table or flow, or a
                table was another stream before.

        Examples:
            In a session::

                sales = stream("shop STRING, amount INT")
                good = stream.flow("transformations/shop.py", "good", sales=sales)
                query = stream.query(good)
        """
        check(Streams.flow, locals())
        from sparkstream_kit.testing import pipelines

        frames = {}
        for key, value in given.items():
            if isinstance(value, Source):
                frames[key] = self._frames.setdefault(value, value.to_df())
            else:
                frames[key] = value
        return pipelines.flow(Path(path), name, frames, self._tables)

    def close(self) -> None:
        """Stop all queries and remove the tables that `flow` was given, as a test's end does."""
        from sparkstream_kit.testing import pipelines

        self.stop()
        pipelines.forget(self._tables)

    def stop(self) -> None:
        """Stop all queries; the next step of a query starts it again."""
        for query in self._queries:
            query.restart()

    def _types(self, schema: str | StructType) -> tuple[StructType, Any]:
        """Return a schema as a `StructType` and as a pyarrow schema."""
        key = schema if isinstance(schema, str) else schema.json()
        types_by_key = _known_types.setdefault(self._spark, {})
        if key not in types_by_key:
            from sparkstream_kit._internal.spark.session import as_schema

            columns = as_schema(schema, self._spark)
            # With `limit(0)` Spark knows that the DataFrame is empty. Otherwise it
            # would run a task, and the first task of a session takes a second.
            empty = self._spark.createDataFrame([], columns).limit(0)
            types_by_key[key] = (empty.schema, empty.toArrow().schema)
        return types_by_key[key]

    def _publish(self) -> None:
        """Make the rows added to all sources visible to the queries."""
        waiting = [source for source in self._sources if source.waiting]
        if len(waiting) > 1:
            # A running query could start a batch after one source was published and
            # before the next. A query that starts afterwards sees the rows of all
            # sources.
            self.stop()
        for source in waiting:
            source.publish()


class Source:
    """A streaming source that a test fills; each `add_data` becomes one batch. `Streams` makes it.

    If several sources were filled before a step, their rows are paired: the first
    `add_data` of each source goes into one batch, the second of each into the next
    batch, and so on.

    Attributes:
        schema: the columns of the source, a `StructType`.
        waiting: the files with the rows that were added since the last step.
    """

    def __init__(
        self,
        spark: SparkSession,
        types: tuple[StructType, Any],
        folder: Path,
        times: Iterator[int],
    ) -> None:
        self.schema, self._arrow = types
        self.waiting: list[Path] = []
        self._spark = spark
        self._folder = folder
        self._times = times

    def add_data(self, rows: Iterable[object]) -> None:
        """Add one batch of rows, which the next step of each query of this source reads.

        A row with a later event time moves the watermark after its batch. Columns that
        a dict leaves out are NULL, so `add_data([{"time": later}])` is a short way to
        move the watermark.

        Args:
            rows: tuples in the order of the columns, dicts or Rows, with values of the
                columns' Python types.

        Raises:
            InvalidInputError: a row does not fit the columns, or a value does not fit
                the type of its column.
            MissingExtraError: pyarrow is not installed.
        """
        time = next(self._times)
        hidden = self._folder / f".{time}.parquet"
        write_parquet(hidden, rows, self.schema, self._arrow)
        os.utime(hidden, (time, time))
        self.waiting.append(hidden)

    def to_df(self) -> DataFrame:
        """Return the source as a streaming DataFrame; Spark makes all its columns nullable."""
        reader = self._spark.readStream.schema(self.schema).option(
            "maxFilesPerTrigger", 1
        )
        return reader.parquet(escaped(for_spark(self._folder)))

    def publish(self) -> None:
        """Make the added rows visible to queries; a step does so for all sources."""
        for hidden in self.waiting:
            hidden.rename(hidden.with_name(hidden.name[1:]))
        self.waiting = []
