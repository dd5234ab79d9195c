"""Sources that a test fills and queries that it steps: each batch leaves a file with its rows.

On Spark Connect a function of a batch first starts a Python at the server, for a second. There the first run
of a query leaves its rows in Spark's memory instead, which forgets them at a restart, and in mode complete
all but those of the last batch.

Everything goes through files, because they replay: what is added becomes Parquet files of a file source. On
Connect the server must see these files.
"""

from __future__ import annotations

import itertools
import math
import os
import pickle
import re
import tempfile
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import MAXYEAR, datetime
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from sparkstream_kit._arguments import check
from sparkstream_kit._durations import moment
from sparkstream_kit._files import escaped, for_spark
from sparkstream_kit.checkpoints.drain import END, plan_empty_batch
from sparkstream_kit.checkpoints.logs import Logs
from sparkstream_kit.display import Mark, Span, draw
from sparkstream_kit.errors import (
    InvalidInputError,
    KitError,
    MissingExtraError,
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
    from pyspark.sql.types import DataType, StructType

    from sparkstream_kit.sinks import Sink


_DIGITS = 9  # sums of doubles differ in their last digits with the order of the rows


def fault_of_the_test(error: pytest.ExceptionInfo[BaseException]) -> bool:
    """Say whether pytest can leave the kit's own lines out of a failure: they stand in no test."""
    return error.errisinstance((AssertionError, KitError))


__tracebackhide__ = fault_of_the_test


def write_parquet(path: Path, rows: Iterable[object], schema: StructType, arrow: Any) -> None:
    """Write rows (tuples, dicts or Rows) as one Parquet file, without a job of Spark.

    Raises:
        InvalidInputError: a row that does not fit the columns, or a value that does not fit its type.
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as err:
        raise MissingExtraError("sparkstream_kit.testing", "testing") from err

    records = [by_name(row, schema.names) for row in rows]
    columns = []
    for target, each in zip(arrow, schema, strict=True):
        what = f"column {each.name} ({each.dataType.simpleString()})"
        try:
            values = [_to_arrow(record.get(each.name), each.dataType) for record in records]
            columns.append(pa.array(values, type=target.type))
        except (pa.ArrowException, AttributeError, OverflowError, TypeError, ValueError) as err:
            raise InvalidInputError(f"{what}: {str(err).splitlines()[0]}") from None
        if not each.nullable and None in values:
            raise InvalidInputError(f"{what} is NOT NULL; {records[values.index(None)]} has no value for it")
    pq.write_table(pa.Table.from_arrays(columns, schema=arrow), path)


def _to_arrow(value: Any, kind: DataType) -> Any:
    """Return a value as pyarrow takes it: structs as dicts, maps as pairs, times as microseconds."""
    from pyspark.sql import types as T

    if value is None:
        return None
    if isinstance(kind, T.StructType):
        named = by_name(value, kind.names)
        return {field.name: _to_arrow(named.get(field.name), field.dataType) for field in kind}
    if isinstance(kind, T.ArrayType):
        return [_to_arrow(item, kind.elementType) for item in value]
    if isinstance(kind, T.MapType):
        return [(_to_arrow(key, kind.keyType), _to_arrow(v, kind.valueType)) for key, v in value.items()]
    if isinstance(kind, T.IntegralType) and isinstance(value, float):
        raise InvalidInputError(f"{value} is not a whole number")  # pyarrow would cut it
    # As createDataFrame does it: a time without a zone is one of Python's own time zone.
    return kind.toInternal(value) if isinstance(kind, T.TimestampType) else value


def by_name(row: Any, names: Sequence[str]) -> Mapping[str, Any]:
    """Return a row's values by column; what a dict leaves out is null."""
    named = row.asDict() if hasattr(row, "__fields__") else row
    if isinstance(named, dict):
        reject_unknown("column", named, names)
        return named
    if not isinstance(row, tuple | list) or len(row) != len(names):
        columns = ", ".join(names)
        raise InvalidInputError(
            f"row {row!r} does not fit the columns {columns}; give tuples of {len(names)}, dicts or Rows"
        )
    return dict(zip(names, row, strict=True))


def in_order(row: Any, names: Sequence[str]) -> Any:
    """Return a row as a tuple, if it is a dict."""
    return tuple(by_name(row, names).get(name) for name in names) if isinstance(row, dict) else row


def canonical(value: Any) -> Any:
    """Return a value that compares and hashes as what it shows: structs as tuples, doubles to nine digits.

    Examples:
        >>> canonical([0.1 + 0.2, {"a": [1]}, float("nan")]) == canonical((0.3, {"a": (1,)}, float("nan")))
        True
    """
    if isinstance(value, tuple | list):
        return tuple(canonical(item) for item in value)
    if isinstance(value, dict):
        return frozenset((canonical(key), canonical(item)) for key, item in value.items())
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, float):
        # A NaN differs from itself, and two of them are the same result all the same.
        return "NaN" if math.isnan(value) else float(f"{value:.{_DIGITS}g}")
    return value


def without(rows: Iterable[Any], others: Iterable[Any]) -> list[Any]:
    """Return the rows that are left when each of the others has taken one like it away.

    Examples:
        >>> without([("tea", 3), ("ink", 1), ("ink", 1)], [("ink", 1.0), ("pen", 2)])
        [('tea', 3), ('ink', 1)]
    """
    taken = Counter(canonical(other) for other in others)
    left = []
    for row in rows:
        key = canonical(row)
        if taken[key]:
            taken[key] -= 1
        else:
            left.append(row)
    return left


def told(headline: str, parts: Mapping[str, Iterable[object]]) -> str:
    """Return a headline, and under each title a row a line.

    Examples:
        >>> print(told("other rows", {"missing": [("tea", 3)], "unexpected": []}))
        other rows
        missing:
          ('tea', 3)
        unexpected: none
    """
    lines = [headline]
    for title, rows in parts.items():
        shown = [f"  {row!r}" for row in rows]
        lines += [f"{title}:", *shown] if shown else [f"{title}: none"]
    return "\n".join(lines)


@dataclass(frozen=True)
class Batch:
    """What a query delivered in one batch.

    Attributes:
        batch_id: Spark's number of the batch.
        rows: the rows, as Spark gave them to the sink.
        progress: Spark's own progress record, such as `progress.stateOperators`.
    """

    batch_id: int
    rows: list[Row]
    progress: StreamingQueryProgress = field(repr=False, compare=False)

    @property
    def is_empty(self) -> bool:
        """Whether it read no row and gave none, as a batch for a new watermark that closes nothing."""
        return not self.rows and self.progress.numInputRows == 0

    @property
    def late_rows(self) -> int:
        """How many rows the watermark dropped; after a partial aggregation Spark counts groups."""
        return sum(state.numRowsDroppedByWatermark for state in self.progress.stateOperators)

    @property
    def watermark(self) -> datetime | None:
        """The watermark that held in this batch, in a drain the year 9999; its rows move that of the next."""
        at = moment(self.progress.eventTime.get("watermark"))
        # The end has no time in a zone to the east.
        return at and (at if at.year == MAXYEAR else at.astimezone()).replace(tzinfo=None)


class Query:
    """A query that runs when it is stepped, goes on from its checkpoint, and shows each delivery.

    Attributes:
        frame: the DataFrame that it runs.
        batches: all that it has delivered, those without rows, too.
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
        self._name = re.sub(r"\W", "_", f"{folder.parent.name}_{folder.name}")  # tests may share a session
        self._running: StreamingQuery | None = None
        self._memory: DataFrame | None = None  # the rows of all batches, one after the other
        self._read = 0  # rows of it
        self._last = -1  # batch of which all has been kept
        self._taken: list[tuple[int, list[Row]]] = []  # from it, and not yet returned by a step
        self._progress: dict[int, StreamingQueryProgress] = {}

    def step(self, *, watermark: str | datetime | None = None) -> list[Batch]:
        """Process all that was added, and return the batches with rows of it, in order.

        A batch that moves the watermark is followed by one without data, which emits what is closed by it. A
        batch that has read no row and emits none is not returned; it is in `batches`.

        Args:
            watermark: then move the watermark to this time, such as "2026-01-31 12:10", or "12:10" for the
                day that it is at. No row is needed for that, so that none is in the results: a batch without
                data emits what the watermark closes.

        Raises:
            QueryFailed: a batch failed; the next step tries it again.
            InvalidInputError: a time that cannot be read, or that the watermark has passed; or no batch has
                run yet.
        """
        check(Query.step, locals())
        self._publish()
        found = self._processed(self._running or self._start())
        return found if watermark is None else found + self._move(self._milliseconds(watermark))

    def drain(self) -> list[Batch]:
        """Process all that was added and end the input, as `run(drain=True)` does; return the batches.

        The last batch emits what waits for the watermark, such as open windows. No step can follow.

        Raises:
            QueryFailed, InvalidInputError: as for `step`.
        """
        return self.step() + self._move(END)

    def _move(self, watermark: int) -> list[Batch]:
        """Run a batch without data at a watermark, in milliseconds."""
        self.restart()
        logs = Logs(self._checkpoint)
        if logs.done < 0:
            raise InvalidInputError("no batch has run yet, whose watermark could move; call add_data() first")
        plan_empty_batch(logs, watermark)
        return self._processed(self._start())

    def _processed(self, query: StreamingQuery) -> list[Batch]:
        from pyspark.errors import StreamingQueryException

        self._running = query
        try:
            query.processAllAvailable()
        except StreamingQueryException as err:
            self._running = None
            raise QueryFailed(self._name, innermost_cause(err)) from err
        finally:
            self._take(query)
        return self._delivered()

    def _take(self, query: StreamingQuery) -> None:
        """Keep what Spark alone has of the batches of a run."""
        self._progress.update({progress.batchId: progress for progress in query.recentProgress})
        following, self._last = self._last + 1, Logs(self._checkpoint).done
        if self._memory is None:
            return
        rows = self._memory.collect()
        for batch in range(following, self._last + 1):  # Spark may have removed the first commits already
            known, start = self._progress.get(batch), self._read
            self._read += known.sink.numOutputRows if known else 0
            self._taken.append((batch, rows[start : self._read]))

    def _milliseconds(self, watermark: str | datetime) -> int:
        """Return a time as milliseconds since 1970; one without a day is of the watermark's day."""
        try:
            if isinstance(watermark, str) and re.fullmatch(r"\d\d?:\d\d(:\d\d(\.\d+)?)?", watermark):
                last = Logs(self._checkpoint).last_plan
                day = datetime.fromtimestamp((last.watermark if last else 0) / 1000)  # noqa: DTZ006 - as rows are
                hour, _, rest = watermark.partition(":")
                watermark = f"{day:%Y-%m-%d} {hour:0>2}:{rest}"
            time = datetime.fromisoformat(watermark) if isinstance(watermark, str) else watermark
        except ValueError as err:
            raise InvalidInputError(
                f"step(): watermark is {watermark!r}; give a time, such as '12:10' or '2026-01-31 12:10'"
            ) from err
        return int(time.timestamp() * 1000)

    def restart(self, frame: DataFrame | None = None) -> None:
        """Stop the query; the next step starts it on its checkpoint.

        Args:
            frame: another DataFrame to go on with, such as that of the next version of a job.
        """
        check(Query.restart, locals())
        from pyspark.errors import StreamingQueryException

        if self._running is not None:
            with suppress(StreamingQueryException):  # Spark tells of a batch only after its commit
                self._running.processAllAvailable()
            self._running.stop()
            if Logs(self._checkpoint).done > self._last:
                self._take(self._running)  # a step of another query has given it a batch
            self._running = None
        if self._memory is not None:
            self._memory = None
            self.frame.sparkSession.catalog.dropTempView(self._name)
        self.frame = self.frame if frame is None else frame

    def kill_before_commit(self) -> None:
        """Leave the checkpoint as a driver that was killed between the last batch's sink and its commit.

        The last batch is the last one with rows: an empty one after it has then not been planned yet. The
        next step delivers that batch again, with the same id and the same rows.

        Raises:
            InvalidInputError: no batch is committed.
        """
        self.restart()
        logs = Logs(self._checkpoint)
        commits, plans = logs.entries("commits"), logs.entries("offsets")
        if not commits:
            raise InvalidInputError(
                "no batch has been committed yet that could be replayed; call add_data() and step() first"
            )
        ids = {batch.batch_id for batch in self.batches if not batch.is_empty}
        killed = max(ids & commits.keys(), default=max(commits))
        for gone in [commits[each] for each in commits if each >= killed] + [
            plans[each] for each in plans if each > killed
        ]:
            gone.unlink()
            gone.with_name(f".{gone.name}.crc").unlink(missing_ok=True)

    def replay(self) -> list[Batch]:
        """Deliver the last batch again, as after `kill_before_commit`, and return it and what followed."""
        self.kill_before_commit()
        return self.step()

    def _start(self) -> StreamingQuery:
        from sparkstream_kit import sinks, start
        from sparkstream_kit._spark.session import starts_python_for_batches

        self.restart()
        sink, spark = sinks.foreach_batch(_recorder(str(self._batches))), self.frame.sparkSession
        if self._sink is not None:
            sink = sinks.fan_out(self._sink, sink)
        elif starts_python_for_batches(spark) and self._mode != "complete" and not self._checkpoint.exists():
            sink = replace(sinks.memory(self._name), modes=("append", "update"))
            self._memory = spark.table(self._name)
        return start(self.frame, sink, name=self._name, mode=self._mode, checkpoint=self._checkpoint)

    def _delivered(self) -> list[Batch]:
        found, self._taken = self._taken, []
        for path in sorted(self._batches.glob("[!.]*")):
            found.append(pickle.loads(path.read_bytes()))  # noqa: S301 - the recorder's own
            path.unlink()
        if lost := [batch_id for batch_id, _ in found if batch_id not in self._progress]:
            raise InvalidInputError(
                f"this step ran {len(found)} batches, and Spark forgot the progress of batch {lost[0]}; "
                "step more often, or give spark.sql.streaming.numRecentProgressUpdates a higher number"
            )
        delivered = [Batch(batch_id, rows, self._progress[batch_id]) for batch_id, rows in found]
        self.batches += delivered
        return [batch for batch in delivered if not batch.is_empty]


def _recorder(folder: str) -> Callable[[DataFrame, int], None]:
    """Return the batch function; on Connect it runs in a process of the server, so it holds texts alone."""
    zone = os.environ.get("TZ")

    def record(batch: DataFrame, batch_id: int) -> None:
        import os
        import pickle
        import time
        from pathlib import Path

        if zone is not None:
            os.environ["TZ"] = zone  # of the test's process: Python's times have no zone of their own
            time.tzset()
        rows = batch.collect()
        name = f"{time.time_ns():020}"
        hidden = Path(folder, f".{name}")
        hidden.write_bytes(pickle.dumps((batch_id, rows)))
        hidden.rename(Path(folder, name))

    return record


_FIRST_TIME = 1_000_000_000  # of the files, in seconds: 2001

# By session and text: only Spark knows the types of columns, and to ask takes as long as half a batch.
_known_types: WeakKeyDictionary[SparkSession, dict[str, tuple[StructType, Any]]] = WeakKeyDictionary()


@contextmanager
def streams(spark: SparkSession) -> Iterator[Streams]:
    """Give the maker of sources and queries; at the end no query runs and no file is left.

    Args:
        spark: the session, with the time zone that Python has (the fixture `spark` makes both UTC).

    Examples:
        In a session::

            with testing.streams(spark) as stream:  # in pytest the fixture `stream`
                sales = stream("product STRING, amount INT")
                query = stream.query(sales.to_df().where("amount > 0"))
                sales.add_data([("tea", 2), ("ink", 0)])
                assert [batch.rows for batch in query.step()] == [[("tea", 2)]]
    """
    check(streams, locals())
    # Spark's maintenance thread may write to a state store while its folder goes: that fails no test.
    with tempfile.TemporaryDirectory(prefix="sparkstream-test-", ignore_cleanup_errors=True) as folder:
        made = Streams(spark, Path(folder))
        try:
            yield made
        finally:
            made.stop()


class Streams:
    """Makes the sources and the queries of one test: `stream("product STRING, amount INT")`.

    Attributes:
        folder: holds all files of the test.
    """

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self._spark = spark
        self.folder = folder
        self._sources: list[Source] = []
        self._queries: list[Query] = []
        # Files are read in the order of their times, and a time to come would hide the others.
        self._times = itertools.count(_FIRST_TIME)

    def __call__(self, schema: str | StructType) -> Source:
        """Return a new source.

        Args:
            schema: its columns, as DDL or as a `StructType`.
        """
        check(Streams.__call__, locals())
        folder = self.folder / f"source-{len(self._sources)}"
        folder.mkdir()
        self._sources.append(Source(self._spark, self._types(schema), folder, self._times))
        return self._sources[-1]

    def query(self, frame: DataFrame, *, mode: str = "append", sink: Sink | None = None) -> Query:
        """Return a query on its own checkpoint; its first step starts it.

        Args:
            frame: a streaming DataFrame, made from `to_df()` of one or more sources.
            mode: `append`, `update` or `complete`.
            sink: a sink that works batch by batch, to be tested along: it gets each batch, and a batch that
                it fails on is not in the result of the step.
        """
        check(Streams.query, locals())
        folder = self.folder / f"query-{len(self._queries)}"
        (folder / "batches").mkdir(parents=True)
        self._queries.append(Query(frame, mode, sink, folder, self._publish))
        return self._queries[-1]

    def stop(self) -> None:
        """Stop all queries; a step starts its query again."""
        for query in self._queries:
            query.restart()

    def timeline(self) -> str:
        """Return a drawing of the rows, windows and watermark of each query that has one."""
        return drawn(self._sources, self._queries)

    def _types(self, schema: str | StructType) -> tuple[StructType, Any]:
        """Return the columns' types as Spark's and as Arrow's."""
        key = schema if isinstance(schema, str) else schema.json()
        known = _known_types.setdefault(self._spark, {})
        if key not in known:
            from sparkstream_kit.schemas import from_ddl

            columns = from_ddl(schema) if isinstance(schema, str) else schema
            # `limit` tells Spark that it is empty; else it runs a task, and a session's first takes a second.
            empty = self._spark.createDataFrame([], columns).limit(0)
            known[key] = (empty.schema, empty.toArrow().schema)
        return known[key]

    def _publish(self) -> None:
        """Let queries see what was added."""
        waiting = [source for source in self._sources if source.waiting]
        if len(waiting) > 1:
            # A query that runs could begin a batch between two sources; started later, it sees both.
            self.stop()
        for source in waiting:
            source.publish()


class Source:
    """A stream that a test fills; each `add_data` becomes a batch.

    What was added to several sources before a step is paired: the first of each in one batch, and so on.

    Attributes:
        schema: the columns.
        waiting: what was added since the last step.
    """

    def __init__(
        self, spark: SparkSession, types: tuple[StructType, Any], folder: Path, times: Iterator[int]
    ) -> None:
        self.schema, self._arrow = types
        self.waiting: list[Path] = []
        self._spark = spark
        self._folder = folder
        self._times = times

    def add_data(self, rows: Iterable[object]) -> None:
        """Add one batch of rows, for the next step of each query of this source.

        A row with a later event time moves the watermark after its batch; what a dict leaves out is null, so
        that `add_data([{"time": later}])` moves it with little else in the way.

        Args:
            rows: tuples in the order of the columns, dicts or Rows, with values of the columns' Python types.

        Raises:
            InvalidInputError: a row that does not fit the columns, or a value that does not fit its type.
            MissingExtraError: pyarrow is not installed.
        """
        time = next(self._times)
        hidden = self._folder / f".{time}.parquet"
        write_parquet(hidden, rows, self.schema, self._arrow)
        os.utime(hidden, (time, time))
        self.waiting.append(hidden)

    def to_df(self) -> DataFrame:
        """Return the source as a streaming DataFrame; all columns are nullable, as Spark makes them."""
        reader = self._spark.readStream.schema(self.schema).option("maxFilesPerTrigger", 1)
        return reader.parquet(escaped(for_spark(self._folder)))

    def files(self) -> list[Path]:
        """Return the files of the batches, in their order."""
        return sorted(self._folder.glob("[!.]*.parquet"), key=lambda path: int(path.stem))

    def publish(self) -> None:
        """Let queries see what was added; a step does so for all sources."""
        for hidden in self.waiting:
            hidden.rename(hidden.with_name(hidden.name[1:]))
        self.waiting = []


def drawn(sources: Sequence[Source], queries: Sequence[Query]) -> str:
    """Return the timeline of each query that has a watermark; nothing for the others.

    The rows are those that the sources got, by batch; one that came at or below the watermark of its batch is
    drawn as late. The windows are those of the results, and the watermark is that of the last batch
    before the end of the input.
    """
    timelines = []
    for number, query in enumerate(queries):
        known = (batch.watermark for batch in query.batches)
        moved = [watermark for watermark in known if watermark is not None and watermark.year < MAXYEAR]
        if not moved:
            continue
        marks = [mark for source in sources for mark in _drawn_rows(source, query)]
        picture = draw(_windows(query), marks, watermark=moved[-1])
        timelines.append(
            f"query {number}: its rows, windows and watermark (! is a row that the watermark had passed)\n\n"
            f"{picture}"
        )
    return "\n\n".join(timelines)


def _drawn_rows(source: Source, query: Query) -> Iterator[Mark]:
    """Yield the rows of a source's batches, by its first column of times."""
    import pyarrow.parquet as pq
    from pyspark.sql.types import TimestampType

    time = next((field.name for field in source.schema if isinstance(field.dataType, TimestampType)), None)
    if time is None:
        return
    files = source.files()
    fed = {batch.batch_id: batch.watermark for batch in query.batches if batch.progress.numInputRows}
    # A batch has read one file, unless there were more of them than files.
    watermarks = list(fed.values()) if len(fed) <= len(files) else []
    for number, (file, watermark) in enumerate(zip_longest(files, watermarks)):
        for value in pq.read_table(file, columns=[time])[time].to_pylist():
            if value is not None:
                at = value.astimezone().replace(tzinfo=None)
                yield Mark(f"{time}, added {number}", at, late=watermark is not None and at <= watermark)


def _windows(query: Query) -> list[Span]:
    """Return the windows of the results, each once and in their order."""
    found = set()
    for batch in query.batches:
        for row in batch.rows:
            named = row.asDict()
            for start, end in [(named.get("start"), named.get("end")), *map(_ends, named.values())]:
                if isinstance(start, datetime) and isinstance(end, datetime):
                    found.add((start, end))
    return [Span(f"{start:%H:%M:%S} to {end:%H:%M:%S}", start, end) for start, end in sorted(found)]


def _ends(value: Any) -> tuple[Any, Any]:
    """Return the start and the end of a value that is a window."""
    names = getattr(value, "__fields__", ())
    return (value["start"], value["end"]) if list(names) == ["start", "end"] else (None, None)
