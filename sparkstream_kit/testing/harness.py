"""Sources that a test fills, on a classic session and on Spark Connect alike.

Everything goes through files, because they replay: what is added becomes Parquet files of a file source. On
Connect the server must see these files.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from sparkstream_kit._arguments import check
from sparkstream_kit._files import escaped, for_spark
from sparkstream_kit.testing import _rows
from sparkstream_kit.testing.queries import Query

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

    from sparkstream_kit.sinks import Sink

__all__ = ["Source", "Streams", "streams"]

__tracebackhide__ = _rows.fault_of_the_test

_FIRST_TIME = 1_000_000_000  # of the files, in seconds: 2001

# By session and text: only Spark knows the types of columns, and to ask takes as long as half a batch.
_known_types: WeakKeyDictionary[SparkSession, dict[str, tuple[StructType, Any]]] = WeakKeyDictionary()


@contextmanager
def streams(spark: SparkSession) -> Iterator[Streams]:
    """Give the maker of sources and queries; at the end no query runs and no file is left.

    Args:
        spark: the session, with the time zone that Python has (the fixture `spark` makes both UTC).
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
        from sparkstream_kit.testing.drawing import drawn

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
        _rows.write_parquet(hidden, rows, self.schema, self._arrow)
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
