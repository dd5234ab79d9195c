"""A batch on its way through the driver: computed once, kept on disk, and read as Arrow in small parts."""

from __future__ import annotations

import tempfile
import zlib
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._files import for_spark
from sparkstream_kit._spark.session import other_master, scratch_folder
from sparkstream_kit.errors import KitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyspark.sql import Column, DataFrame


_LOST = "a worker lost rows of this batch on their way; start again, and the batch is replayed"
_PART = 32 * 1024 * 1024  # bytes at a time; a JVM that is asked for them needs a few times as much
_ROWS = 10_000  # at a time, as Spark makes parts of Arrow

# Parquet has all of these as Arrow has them, but for dates and instants, which the session's settings shift.
_PLAIN = (
    *(T.BinaryType, T.BooleanType, T.ByteType, T.DateType, T.DecimalType, T.DoubleType, T.FloatType),
    *(T.IntegerType, T.LongType, T.ShortType, T.StringType, T.TimestampNTZType, T.TimestampType),
)
_AS_NUMBERS: dict[type[T.DataType], tuple[Callable[[str], Column], pa.DataType]] = {
    T.DateType: (F.unix_date, pa.date32()),
    T.TimestampType: (F.unix_micros, pa.timestamp("us", "UTC")),
}


@contextmanager
def kept(batch: DataFrame) -> Iterator[Iterator[pa.RecordBatch]]:
    """Compute all of a batch once, and give its rows in their order; memory holds a part of them.

    Where Spark's workers are on this machine, they leave plain columns in files, which are read here: no
    Python is between, and no second job. Else they keep the rows themselves. They also do so where Spark
    encrypts its temporary data (`spark.io.encryption.enabled`), as these files would not be encrypted.
    """
    spark = batch.sparkSession
    is_secret = str(spark.conf.get("spark.io.encryption.enabled", None)).lower() == "true"
    plain = all(isinstance(field.dataType, _PLAIN) for field in batch.schema)
    with (in_files if plain and not is_secret and other_master(spark) is None else in_blobs)(batch) as parts:
        yield parts


def _numbered(batch: DataFrame) -> DataFrame:
    """Name the columns c0, c1 and so on: Spark looks into a name with a dot, and two may be the same."""
    return batch.toDF(*(f"c{number}" for number in range(len(batch.columns))))


@contextmanager
def in_files(batch: DataFrame) -> Iterator[Iterator[pa.RecordBatch]]:
    """Keep a batch in Parquet files of this machine."""
    frame, kinds = _numbered(batch), [field.dataType for field in batch.schema]
    columns = [
        _AS_NUMBERS[type(kind)][0](name).alias(name) if type(kind) in _AS_NUMBERS else F.col(name)
        for name, kind in zip(frame.columns, kinds, strict=True)
    ]
    folder = scratch_folder(batch.sparkSession)
    with tempfile.TemporaryDirectory(prefix="batch-", dir=folder, ignore_cleanup_errors=True) as made:
        writer = frame.select(columns).write.option("compression", "none").option("parquet.block.size", _PART)
        writer.option("parquet.enable.dictionary", "false").parquet(for_spark(Path(made, "rows")))
        yield _read(Path(made, "rows"), kinds)


def _read(folder: Path, kinds: list[T.DataType]) -> Iterator[pa.RecordBatch]:
    """Give the rows of the files that a job has written, all of which are there when it has ended."""
    # part-00003-….parquet; where Spark limits the rows of a file, c000, c001 and so on end the name.
    for path in sorted(folder.glob("part-*"), key=lambda path: (int(path.name.split("-")[1]), path.name)):
        with pq.ParquetFile(path) as file:
            groups = [[number] for number in range(file.num_row_groups)]  # all at once would stay in memory
            for part in chain.from_iterable(file.iter_batches(_ROWS, group) for group in groups):
                columns = [
                    column.cast(_AS_NUMBERS[type(kind)][1]) if type(kind) in _AS_NUMBERS else column
                    for column, kind in zip(part.columns, kinds, strict=True)
                ]
                yield pa.RecordBatch.from_arrays(columns, part.schema.names)


@contextmanager
def in_blobs(batch: DataFrame) -> Iterator[Iterator[pa.RecordBatch]]:
    """Keep a batch with the workers, in blobs of Arrow.

    A whole partition could be too much for the driver's JVM, which hangs when it is out of memory: hence
    parts by their size.
    """

    def pack(parts: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa  # nested, with all that it needs: so the workers do not need the kit

        for part in parts:
            if part.num_rows:
                sink = pa.BufferOutputStream()
                with pa.ipc.new_stream(sink, part.schema) as writer:
                    writer.write_batch(part)
                yield pa.RecordBatch.from_pydict({"blob": [sink.getvalue().to_pybytes()]})

    blobs = (
        _numbered(batch).mapInArrow(pack, "blob BINARY").withColumn("number", F.monotonically_increasing_id())
    )
    blobs = blobs.persist()  # in memory, and on disk what does not fit
    try:
        made = blobs.select("number", F.length("blob"), F.crc32("blob")).collect()
        yield _fetched(blobs, sorted(tuple(row) for row in made))
    finally:
        blobs.unpersist()


def _fetched(blobs: DataFrame, made: list[tuple[int, int, int]]) -> Iterator[pa.RecordBatch]:
    """Give the rows of the blobs that were made, or fail: one that a worker has lost is computed again.

    After a shuffle its rows may come in another order then, and be in another blob.
    """
    sums = {number: checksum for number, _, checksum in made}
    parts: dict[int, list[int]] = {}  # numbers of blobs
    total = 0
    for number, size, _ in made:
        parts.setdefault(total // _PART, []).append(number)
        total += size
    for numbers in parts.values():
        # The numbers that Spark keeps of what it has on disk let it skip all else.
        part = blobs.where(F.col("number").between(numbers[0], numbers[-1])).coalesce(1)
        # Not by toLocalIterator: Spark never forgets its jobs, with plan and session, a megabyte a batch.
        fetched = part.select("number", "blob").toArrow()
        for number, blob in zip(fetched["number"].to_pylist(), fetched["blob"], strict=True):
            if sums.pop(number, None) != zlib.crc32(blob.as_buffer()):
                raise KitError(_LOST)
            yield pa.ipc.open_stream(blob.as_buffer()).read_next_batch()
    if sums:
        raise KitError(_LOST)
