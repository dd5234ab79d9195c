"""Samples of the CSV and JSON files that a query has read: rows and columns in which Spark found no value.

Spark's readers turn values that they cannot parse into NULL and report nothing. `run` makes a `Samples` for
each query, gives it every progress, and calls `look` ten seconds after the start, then once a minute, and at
the end. `seen` returns the counts for the query's summary, which `verdicts` turns into warnings.

Observing the stream itself would count all rows. But it takes 11 % more CPU for 2 of 12 columns, and 70 to
90 % more for all of them, because Spark then has to read columns that the query does not use. So the files
are read a second time, beside the stream: all rows if there are few, else a sample. One look takes 0.7 s of
CPU, which is 0.6 % of what two cores do in a minute; at the end of a run it takes 0.4 s.
"""

from __future__ import annotations

import logging
import os
from functools import reduce
from operator import and_
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from sparkstream_kit import _files
from sparkstream_kit._columns import column
from sparkstream_kit._spark.plan import FileRead, file_reads, inputs_of
from sparkstream_kit._spark.queries import entry_at, started
from sparkstream_kit.checkpoints.fingerprint import columns_read
from sparkstream_kit.checkpoints.logs import Input, Logs
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import Column, DataFrame, DataFrameReader, Row
    from pyspark.sql.streaming.listener import StreamingQueryProgress
    from pyspark.sql.streaming.query import StreamingQuery


_log = logging.getLogger(__name__)

_FEWEST = 100  # rows: in fewer rows a column may be NULL by chance
_ALL_FILES, _ALL_BYTES = 32, 4 * 1024**2  # the most files and bytes of a look that reads all rows
_FILES, _ROWS = 4, 1000  # the most files of any other look, and the most rows of each file
_KINDS = ("csv", "json")
# Options of a streaming file source that a batch reader does not have; and the path, which is set separately.
_OF_STREAMS = {
    *("path", "cleansource", "discardcachedinputratio", "filenameonly", "latestfirst", "maxbytespertrigger"),
    *("maxcachedfiles", "maxfileage", "maxfilespertrigger", "sourcearchivedir"),
}
_MALFORMED = "_sparkstream_malformed"

# The counts of each query, as fields of a `QuerySummary`. An entry lives as long as its query object.
_seen: WeakKeyDictionary[StreamingQuery, dict[str, Any]] = WeakKeyDictionary()


def seen(query: StreamingQuery | None) -> dict[str, Any]:
    """Return the counts of a query's sampled files, as fields of a `QuerySummary`.

    Returns:
        `rows_looked_at` (int), `null_rows` (int) and `null_columns` (tuple of names); empty if no rows were
        sampled or there is no query.
    """
    return {} if query is None else _seen.get(query, {})


class Samples:
    """Samples the CSV and JSON files that one run of a query reads.

    Args:
        query: the query; one that `start` did not start is not sampled.
    """

    def __init__(self, query: StreamingQuery) -> None:
        known = started(query)
        self._query = query
        # All three are None for a query that `start` did not start.
        self._frame, self._location, self._logs = known.frame, known.location, known.logs
        # By the number of a source: the last entry of its log before this run, and the last one it has read.
        self._ends: dict[int, tuple[int, int]] = {}
        self._sources: dict[int, _Source] | None = None

    def add(self, progress: StreamingQueryProgress) -> None:
        """Note up to which log entry one more batch has read each file source."""
        for number, source in enumerate(progress.sources):
            if source.description.startswith("FileStreamSource["):
                first = self._ends.get(number, (entry_at(source.startOffset), 0))[0]
                self._ends[number] = (first, entry_at(source.endOffset))

    def look(self) -> None:
        """Sample the files that were read since the last look; `seen` then returns the new counts."""
        if self._frame is None or not self._ends:
            return
        try:
            self._look(self._frame)
        # A file or a log entry was deleted meanwhile, or Spark was stopped. The counts so far stay valid.
        except (InvalidInputError, OSError, PySparkException, Py4JError) as err:
            _log.debug("the input files were not looked at: %s", err)
        if found := [source for source in (self._sources or {}).values() if source.rows]:
            _seen[self._query] = {
                "rows_looked_at": sum(source.rows for source in found),
                "null_rows": sum(source.null_rows for source in found),
                "null_columns": tuple(name for source in found for name in source.null_columns()),
            }

    def _look(self, frame: DataFrame) -> None:
        if self._sources is None or self._location is None:
            self._sources = _sources(frame)
        names = [each.log for each in inputs_of(frame)]
        for number in self._sources.keys() & self._ends.keys():
            # Without a checkpoint, Spark has removed its log by the end of the query; but then this run has
            # read all files of the folder.
            if self._location is None:
                self._sources[number].look_at_folder(frame)
            elif self._logs is not None:
                self._sources[number].look(frame, self._logs.again(), names[number], *self._ends[number])


class _Source:
    """One CSV or JSON source, and the counts of its sampled files.

    Args:
        read: how the query reads the files.
        schema: all columns of the source.
        columns: the columns that the query reads.
    """

    def __init__(self, read: FileRead, schema: StructType, columns: set[str]) -> None:
        self._kind, self._schema = read.kind, schema
        given = {name.lower(): value for name, value in read.options.items()}
        self._path = given.get("path", "")
        self._options = {name: value for name, value in given.items() if name not in _OF_STREAMS}
        malformed = given.get("columnnameofcorruptrecord", "_corrupt_record")
        self._malformed = malformed if malformed in schema.names else None
        # The columns that the query reads, in the order of the schema.
        self._columns = [name for name in schema.names if name in columns and name != self._malformed]
        self._never_set = {*self._columns}
        self._looked_until: int | None = None
        self.rows = self._without_value = 0

    @property
    def null_rows(self) -> int:
        """The number of sampled rows with NULL in all columns that the query reads.

        These are all rows if every such column is NULL throughout. Otherwise they are the rows that
        `_has_no_value` counts, which is stricter if the query reads a single column.
        """
        none_set = self._columns and len(self.null_columns()) == len(self._columns)
        return self.rows if none_set else self._without_value

    def null_columns(self) -> list[str]:
        """Return the columns that are NULL in all sampled rows; none before 100 rows are sampled."""
        return [name for name in self._columns if name in self._never_set and self.rows >= _FEWEST]

    def look_at_folder(self, frame: DataFrame) -> None:
        """Sample the files that are in the folder of the source, for a query without a checkpoint."""
        folder = self._reader(frame, self._schema.fields).load(self._path)
        self._count(self._sample(frame, [Input(0, 0, uri) for uri in sorted(folder.inputFiles())]))

    def look(self, frame: DataFrame, logs: Logs, log: str, first: int, last: int) -> None:
        """Sample the files that were added to the log of the source since the last look.

        Args:
            frame: the query's DataFrame, whose session reads the files.
            logs: the logs of the checkpoint.
            log: the name of the source's log.
            first: the last entry before this run; -1 if the run began with the first one.
            last: the last entry that the run has read.
        """
        after, self._looked_until = first if self._looked_until is None else self._looked_until, last
        self._count(self._sample(frame, logs.inputs(log, after, last)))
        if self.null_columns() and (before := self._sample(frame, logs.inputs(log, -1, first))):
            self._take(before[2:])  # an optional column may have had a value in an earlier run

    def _count(self, found: Row | None) -> None:
        if found is not None:
            rows, without_value, *values = found
            self._take(values)
            self.rows, self._without_value = self.rows + rows, self._without_value + without_value

    def _take(self, values: Sequence[int]) -> None:
        self._never_set -= {name for name, count in zip(self._columns, values, strict=True) if count}

    def _sample(self, frame: DataFrame, found: Sequence[Input]) -> Row | None:
        """Count in a sample of some files the rows, the rows without a value, and each column's values.

        Returns:
            One row of bigints: all rows, those of `_has_no_value`, and then, for each of `self._columns`, the
            rows in which the column is not NULL. None if there are no files, or no columns to check.
        """
        files = _some([file for file in found if not file.gone], _ALL_FILES)
        # A partition column has its value in the name of a folder, so a file cannot lack it.
        self._columns = [name for name in self._columns if not any(f"/{name}=" in each.uri for each in files)]
        self._never_set &= {*self._columns}
        if not files or not self._columns:
            return None
        sizes = [os.path.getsize(file.path) for file in files if file.path]  # noqa: PTH202 - it is faster
        if len(sizes) == len(files) and sum(sizes) <= _ALL_BYTES:
            rows = self._rows(frame, files)
        else:
            each = [self._rows(frame, [file]).limit(_ROWS) for file in _some(files, _FILES)]
            rows = reduce(type(frame).unionAll, each)
        values = [F.count(column(name)) for name in self._columns]
        return rows.agg(F.count(F.lit(1)), F.count_if(self._has_no_value()), *values).first()

    def _rows(self, frame: DataFrame, files: Sequence[Input]) -> DataFrame:
        """Return a DataFrame of the rows of some files, with all columns of the source.

        If the schema has no column for malformed lines, `_sparkstream_malformed` (string) is added. It has
        the line if Spark could not parse it, else NULL.
        """
        fields, options = self._schema.fields, {}
        if self._malformed is None:
            fields = [*fields, StructField(_MALFORMED, StringType())]
            options = {"columnnameofcorruptrecord": _MALFORMED}  # in lower case, as the other names
        paths = [
            _files.escaped(_files.for_spark(Path(each.path)) if each.path else each.uri) for each in files
        ]
        return self._reader(frame, fields).options(**options).load(paths)

    def _reader(self, frame: DataFrame, fields: list[StructField]) -> DataFrameReader:
        reader = frame.sparkSession.read.format(self._kind).schema(StructType(fields))
        return reader.options(**self._options)

    def _has_no_value(self) -> Column:
        """Return a condition for the rows in which Spark found no value.

        Such a row has NULL in all columns that the query reads. If the query reads a single column, which may
        be NULL in a good row, the line must also be malformed or have no value in any column.
        """
        nulls = _all_null(self._columns)
        # With a column for malformed lines, the query keeps them itself, so they are not lost.
        if self._malformed is not None:
            return nulls & column(self._malformed).isNull()
        if len(self._columns) > 1:
            return nulls
        # A single column may be NULL in a good row, so count only malformed lines and rows without any value.
        return nulls & (column(_MALFORMED).isNotNull() | _all_null(self._schema.names))


def _sources(frame: DataFrame) -> dict[int, _Source]:
    """Return the sources of a query that read CSV or JSON, by their numbers in a checkpoint."""
    reads, used = file_reads(frame), columns_read(frame)
    if len(reads) != len(used):  # the kit does not understand this plan, so it samples nothing
        return {}
    return {
        number: _Source(read, read.schema, names)
        for number, (read, names) in enumerate(zip(reads, used, strict=True))
        if read is not None and read.kind in _KINDS and read.schema is not None
    }


def _all_null(names: Sequence[str]) -> Column:
    return reduce(and_, [column(name).isNull() for name in names])


def _some(files: list[Input], most: int) -> list[Input]:
    """Return at most `most` files of a list, evenly spread from the first to the last."""
    if len(files) <= most:
        return files
    return [files[number * (len(files) - 1) // (most - 1)] for number in range(most)]
