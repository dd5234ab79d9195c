"""Rows on their way into a temporary table: Arrow batches made ready by the workers, one blob at a time."""

from __future__ import annotations

import logging
import zlib
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark.sql import functions as F
from pyspark.sql.types import BinaryType

from sparkstream_kit.errors import KitError
from sparkstream_kit.sinks.sql import encoding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import DataFrame
    from sqlalchemy import Table
    from sqlalchemy.engine import Connection

__all__ = ["consume", "encoded", "load"]

_log = logging.getLogger(__name__)

_LOST = "a worker lost rows of this batch on their way into the table; nothing of it was written: start again"
_CHANGED = {
    "postgresql": r"bytes that are not UTF-8 become \xff, NUL characters \x00, times out of range infinity",
    "sqlite": r"bytes that are not UTF-8 become \xff",
}
_PART = 16 * 1024 * 1024  # bytes that the driver's JVM is asked for at a time; it needs a few times as much


@contextmanager
def encoded(batch: DataFrame, dialect: str, what: str) -> Iterator[Iterator[bytes]]:
    """Compute all of a batch as blobs, kept by the workers; give the blobs in the order of the rows.

    Values that the database cannot hold are changed so that it can, with a warning about `what` is written.

    Nothing of the database is held while Spark computes. A whole partition could be too much for the driver's
    JVM, which hangs when it is out of memory: hence parts by their size.
    """
    copy = dialect == "postgresql"
    frame = _with_hex(batch) if copy else batch
    encode = encoding.as_copy_text() if copy else encoding.as_ipc()

    def encode_all(parts: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        for part in parts:
            if part.num_rows:
                blob, changed = encode(part)
                yield pa.RecordBatch.from_pydict({"blob": [blob], "changed": [changed]})

    # mapInArrow looks columns up by name, where a dot is a field of a struct.
    frame = frame.toDF(*(f"c{number}" for number in range(len(frame.columns))))
    blobs = frame.mapInArrow(encode_all, "blob BINARY, changed BIGINT").withColumn(
        "number", F.monotonically_increasing_id()
    )
    blobs = blobs.persist()  # in memory, and on disk what does not fit
    try:
        made = blobs.select("number", F.length("blob"), F.crc32("blob"), "changed").collect()
        if changed := sum(row.changed for row in made):
            _log.warning("%s: %d values are changed: %s", what, changed, _CHANGED[dialect])
        yield _fetched(blobs, sorted(tuple(row)[:3] for row in made))
    finally:
        blobs.unpersist()


def _fetched(blobs: DataFrame, made: list[tuple[int, int, int]]) -> Iterator[bytes]:
    """Give the blobs that were made, or fail: one that a worker has lost is computed again.

    After a shuffle its rows may come in another order then, and be in another blob.
    """
    sums = {number: checksum for number, _, checksum in made}
    for first, last in _parts([(number, size) for number, size, _ in made]):
        # The numbers that Spark keeps of what it has on disk let it skip all else.
        part = blobs.where(F.col("number").between(first, last)).select("number", "blob").coalesce(1)
        # Not by toLocalIterator: Spark never forgets its jobs, with plan and session, a megabyte a batch.
        for number, blob in part.collect():
            if sums.pop(number, None) != zlib.crc32(blob):
                raise KitError(_LOST)
            yield bytes(blob)
    if sums:
        raise KitError(_LOST)


def _parts(sizes: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Give the first and the last number of each run of blobs of up to `_PART` bytes, or of one blob."""
    run: list[int] = []
    total = 0
    for number, size in sizes:
        if run and total + size > _PART:
            yield run[0], run[-1]
            run, total = [], 0
        run.append(number)
        total += size
    if run:
        yield run[0], run[-1]


def load(connection: Connection, stage: Table, blobs: Iterator[bytes]) -> None:
    """Put all rows of a batch into a table that is there and empty, column by column in its order."""
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "postgresql":
        statement = f"COPY {stage.name} FROM STDIN (ENCODING 'UTF8')"
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for blob in blobs:
                copy.write(blob)
        return
    marks = ", ".join("?" * len(stage.columns))
    # SQLAlchemy's own insert() takes three times as long.
    driver.executemany(f"INSERT INTO {stage.name} VALUES ({marks})", _tuples(blobs))  # noqa: S608 - a constant


def consume(batch: DataFrame) -> None:
    """Compute all of a batch and drop it: a stateful query fails when its batch is not read."""
    batch.write.format("noop").mode("append").save()


def _tuples(blobs: Iterator[bytes]) -> Iterator[tuple[Any, ...]]:
    parts = (pa.ipc.open_stream(blob).read_next_batch() for blob in blobs)
    # Without a step of Python's own for each row.
    return chain.from_iterable(zip(*(c.to_pylist() for c in part.columns), strict=True) for part in parts)


def _with_hex(batch: DataFrame) -> DataFrame:
    """Return the batch with its binary columns as PostgreSQL reads them from text."""
    columns = []
    for field in batch.schema:
        column = F.col("`" + field.name.replace("`", "``") + "`")
        columns.append(F.concat(F.lit("\\x"), F.hex(column)) if field.dataType == BinaryType() else column)
    return batch.select(columns)
