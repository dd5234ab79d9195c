"""Samples of the CSV and JSON files that a query has read: rows and columns in which Spark found no value.

Spark's readers make NULL of what they cannot read, without a word. An observation of the stream itself would
count all rows, but it costs 11 % of CPU over 2 of 12 columns and 70 to 90 % over all, which it keeps alive.
So files are looked at beside the stream, once a minute and at the end: all rows as long as there are few.
A look takes 0.7 s of CPU: 0.6 % of what two cores do in a minute, and 0.4 s at the end of a run.
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
from sparkstream_kit._spark import queries as asking
from sparkstream_kit._spark.plan import FileRead, file_reads, inputs_of
from sparkstream_kit.checkpoints.fingerprint import columns_read
from sparkstream_kit.checkpoints.logs import Input, Logs
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import Column, DataFrame, DataFrameReader, Row
    from pyspark.sql.streaming.listener import StreamingQueryProgress
    from pyspark.sql.streaming.query import StreamingQuery


_log = logging.getLogger(__name__)

_FEWEST = 100  # rows, before which a column may be NULL in all of them by chance
_ALL_FILES, _ALL_BYTES = 32, 4 * 1024**2  # of one look that reads all rows
_FILES, _ROWS = 4, 1000  # of any other look; rows of each file
_KINDS = ("csv", "json")
# Options of a file source that the reader of a batch does not have, and the path.
_OF_STREAMS = {
    *("path", "cleansource", "discardcachedinputratio", "filenameonly", "latestfirst", "maxbytespertrigger"),
    *("maxcachedfiles", "maxfileage", "maxfilespertrigger", "sourcearchivedir"),
}
_MALFORMED = "_sparkstream_malformed"

# Of each query, as fields of a `QuerySummary`, for as long as somebody has the query.
_seen: WeakKeyDictionary[StreamingQuery, dict[str, Any]] = WeakKeyDictionary()


def seen(query: StreamingQuery | None) -> dict[str, Any]:
    """Return what was seen of a query's files in its run, as fields of a `QuerySummary`."""
    return {} if query is None else _seen.get(query, {})


class Samples:
    """What was seen of the CSV and JSON files that one run of a query has read."""

    def __init__(self, query: StreamingQuery) -> None:
        known = asking.started(query)
        self._query = query
        # None for a query of plain Spark's.
        self._frame, self._location, self._logs = known.frame, known.location, known.logs
        # By source: after which entry of its log this run began to read, and up to which it has read.
        self._ends: dict[int, tuple[int, int]] = {}
        self._sources: dict[int, _Source] | None = None

    def add(self, progress: StreamingQueryProgress) -> None:
        """Take in how far one more batch has read."""
        for number, source in enumerate(progress.sources):
            if source.description.startswith("FileStreamSource["):
                first = self._ends.get(number, (asking.entry_at(source.startOffset), 0))[0]
                self._ends[number] = (first, asking.entry_at(source.endOffset))

    def look(self) -> None:
        """Look at a sample of what was read since the last look; `seen` has the result."""
        if self._frame is None or not self._ends:
            return
        try:
            self._look(self._frame)
        # A file or an entry of the log went meanwhile, Spark was stopped: what was seen so far is true.
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
            if self._location is None:  # Spark has removed the log by the end, and all files are of this run
                self._sources[number].look_at_folder(frame)
            elif self._logs is not None:
                self._sources[number].look(frame, self._logs.again(), names[number], *self._ends[number])


class _Source:
    """One source, and what was seen of its files."""

    def __init__(self, read: FileRead, schema: StructType, columns: set[str]) -> None:
        self._kind, self._schema = read.kind, schema
        given = {name.lower(): value for name, value in read.options.items()}
        self._path = given.get("path", "")
        self._options = {name: value for name, value in given.items() if name not in _OF_STREAMS}
        malformed = given.get("columnnameofcorruptrecord", "_corrupt_record")
        self._malformed = malformed if malformed in schema.names else None
        # That the query reads.
        self._columns = [name for name in schema.names if name in columns and name != self._malformed]
        self._never_set = {*self._columns}
        self._looked_until: int | None = None
        self.rows = self._without_value = 0

    @property
    def null_rows(self) -> int:
        """How many rows have NULL in all columns that the query reads; a single one may be NULL in some."""
        none_set = self._columns and len(self.null_columns()) == len(self._columns)
        return self.rows if none_set else self._without_value

    def null_columns(self) -> list[str]:
        """Return the columns that are NULL in all rows, once there are enough of them."""
        return [name for name in self._columns if name in self._never_set and self.rows >= _FEWEST]

    def look_at_folder(self, frame: DataFrame) -> None:
        """Look at files that are in the source's folder."""
        folder = self._reader(frame, self._schema.fields).load(self._path)
        self._count(self._sample(frame, [Input(0, 0, uri) for uri in sorted(folder.inputFiles())]))

    def look(self, frame: DataFrame, logs: Logs, log: str, first: int, last: int) -> None:
        """Look at files that the source's log has after one entry and up to another."""
        after, self._looked_until = first if self._looked_until is None else self._looked_until, last
        self._count(self._sample(frame, logs.inputs(log, after, last)))
        if self.null_columns() and (before := self._sample(frame, logs.inputs(log, -1, first))):
            self._take(before[2:])  # an optional column, of which an earlier run has seen a value

    def _count(self, found: Row | None) -> None:
        if found is not None:
            rows, without_value, *values = found
            self._take(values)
            self.rows, self._without_value = self.rows + rows, self._without_value + without_value

    def _take(self, values: Sequence[int]) -> None:
        self._never_set -= {name for name, count in zip(self._columns, values, strict=True) if count}

    def _sample(self, frame: DataFrame, found: Sequence[Input]) -> Row | None:
        """Return how many rows there are, how many without a value, and by column how many with one."""
        files = _some([file for file in found if not file.gone], _ALL_FILES)
        # A partition's column is in the name of its folder.
        self._columns = [name for name in self._columns if not any(f"/{name}=" in each.uri for each in files)]
        self._never_set &= {*self._columns}
        if not files or not self._columns:
            return None
        sizes = [os.path.getsize(file.path) for file in files if file.path]  # noqa: PTH202 - of many files
        if len(sizes) == len(files) and sum(sizes) <= _ALL_BYTES:
            rows = self._rows(frame, files)
        else:
            each = [self._rows(frame, [file]).limit(_ROWS) for file in _some(files, _FILES)]
            rows = reduce(type(frame).unionAll, each)
        values = [F.count(column(name)) for name in self._columns]
        return rows.agg(F.count(F.lit(1)), F.count_if(self._has_no_value()), *values).first()

    def _rows(self, frame: DataFrame, files: Sequence[Input]) -> DataFrame:
        """Return the rows of files with all columns, and with the line itself where it is malformed."""
        fields, options = self._schema.fields, {}
        if self._malformed is None:
            fields = [*fields, StructField(_MALFORMED, StringType())]
            options = {"columnnameofcorruptrecord": _MALFORMED}  # as the names above are
        paths = [
            _files.escaped(_files.for_spark(Path(each.path)) if each.path else each.uri) for each in files
        ]
        return self._reader(frame, fields).options(**options).load(paths)

    def _reader(self, frame: DataFrame, fields: list[StructField]) -> DataFrameReader:
        reader = frame.sparkSession.read.format(self._kind).schema(StructType(fields))
        return reader.options(**self._options)

    def _has_no_value(self) -> Column:
        """Say whether a row has NULL in all columns that the query reads."""
        nulls = _all_null(self._columns)
        if self._malformed is not None:  # the query has a column for what cannot be read
            return nulls & column(self._malformed).isNull()
        if len(self._columns) > 1:
            return nulls
        # One column may be NULL in a good row.
        return nulls & (column(_MALFORMED).isNotNull() | _all_null(self._schema.names))


def _sources(frame: DataFrame) -> dict[int, _Source]:
    """Return the sources of a query that read CSV or JSON, by their numbers in a checkpoint."""
    reads, used = file_reads(frame), columns_read(frame)
    if len(reads) != len(used):  # a plan that the kit does not know
        return {}
    return {
        number: _Source(read, read.schema, names)
        for number, (read, names) in enumerate(zip(reads, used, strict=True))
        if read is not None and read.kind in _KINDS and read.schema is not None
    }


def _all_null(names: Sequence[str]) -> Column:
    return reduce(and_, [column(name).isNull() for name in names])


def _some(files: list[Input], most: int) -> list[Input]:
    """Return files from the first to the last of a list, evenly."""
    if len(files) <= most:
        return files
    return [files[number * (len(files) - 1) // (most - 1)] for number in range(most)]
