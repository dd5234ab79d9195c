"""Rows on their way into a temporary table: Arrow batches made ready by the workers, one blob at a time."""

from __future__ import annotations

import zlib
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
from pyspark.sql import functions as F
from pyspark.sql.types import BinaryType

from sparkstream_kit.errors import KitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyspark.sql import DataFrame
    from sqlalchemy import Table
    from sqlalchemy.engine import Connection

__all__ = ["consume", "encoded", "load"]

_LOST = "a worker lost rows of this batch on their way into the table; nothing of it was written: start again"
_PART = 16 * 1024 * 1024  # bytes that the driver's JVM is asked for at a time; it needs a few times as much


@contextmanager
def encoded(batch: DataFrame, dialect: str) -> Iterator[Iterator[bytes]]:
    """Compute all of a batch as blobs, kept by the workers; give the blobs in the order of the rows.

    Nothing of the database is held while Spark computes. A whole partition could be too much for the driver's
    JVM, which hangs when it is out of memory: hence parts by their size.
    """
    copy = dialect == "postgresql"
    frame = _with_hex(batch) if copy else batch
    encode = _as_copy_text() if copy else _as_ipc()

    def encode_all(parts: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        for part in parts:
            if part.num_rows:
                yield pa.RecordBatch.from_arrays([pa.array([encode(part)], pa.binary())], ["blob"])

    # mapInArrow looks columns up by name, where a dot is a field of a struct.
    frame = frame.toDF(*(f"c{number}" for number in range(len(frame.columns))))
    blobs = frame.mapInArrow(encode_all, "blob BINARY").withColumn("number", F.monotonically_increasing_id())
    blobs = blobs.persist()  # in memory, and on disk what does not fit
    try:
        made = blobs.select("number", F.length("blob"), F.crc32("blob")).collect()
        yield _fetched(blobs, sorted(tuple(row) for row in made))
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


def _as_ipc() -> Callable[[pa.RecordBatch], bytes]:
    """Return the function that makes a blob for SQLite; nested, so that workers do not need the kit."""

    def encode(part: pa.RecordBatch) -> bytes:
        import pyarrow as pa

        columns = []
        for column in part.columns:
            if pa.types.is_timestamp(column.type):
                # Without its zone, an instant is what it is in UTC.
                plain = column.cast(pa.timestamp("us")).cast(pa.string())
            elif pa.types.is_decimal(column.type) or pa.types.is_date(column.type):
                plain = column.cast(pa.string())
            else:
                plain = column
            columns.append(plain)
        sink = pa.BufferOutputStream()
        ready = pa.RecordBatch.from_arrays(columns, names=part.schema.names)
        with pa.ipc.new_stream(sink, ready.schema) as writer:
            writer.write_batch(ready)
        return cast("bytes", sink.getvalue().to_pybytes())

    return encode


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


def _as_copy_text() -> Callable[[pa.RecordBatch], bytes]:
    r"""Return the function that makes a blob of COPY's text format.

    Not of its CSV format, where before PostgreSQL 18 a line `\.` ends the data, also within a quoted text.
    """

    def encode(part: pa.RecordBatch) -> bytes:
        import pyarrow as pa
        import pyarrow.compute as pc

        texts = []
        for column in part.columns:
            values = column
            if pa.types.is_timestamp(column.type) and column.type.tz:
                values = column.cast(pa.timestamp("us", "UTC"))  # its text ends in Z
            text = values.cast(pa.string())
            free = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
            if free and pc.any(pc.match_substring_regex(text, r"[\\\n\r\t]")).as_py():
                for raw, escaped in (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
                    text = pc.replace_substring(text, raw, escaped)
            texts.append(text)
        lines = pc.binary_join_element_wise(*texts, "\t", null_handling="replace", null_replacement="\\N")
        whole = pc.binary_join(pa.ListArray.from_arrays([0, len(lines)], lines), "\n")[0]
        return cast("bytes", whole.as_buffer().to_pybytes() + b"\n")

    return encode
