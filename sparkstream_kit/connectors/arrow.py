"""A batch on its way through the driver: kept by the workers as Arrow, and fetched in parts."""

from __future__ import annotations

import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.sql import functions as F

from sparkstream_kit.errors import KitError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import DataFrame

__all__ = ["kept"]

_LOST = "a worker lost rows of this batch on their way; start again, and the batch comes once more"
_PART = 32 * 1024 * 1024  # bytes that the driver's JVM is asked for at a time; it needs a few times as much


@contextmanager
def kept(batch: DataFrame) -> Iterator[Iterator[pa.RecordBatch]]:
    """Compute all of a batch, kept by the workers in blobs; give its rows in their order.

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

    # mapInArrow looks columns up by name, where a dot is a field of a struct.
    frame = batch.toDF(*(f"c{number}" for number in range(len(batch.columns))))
    blobs = frame.mapInArrow(pack, "blob BINARY").withColumn("number", F.monotonically_increasing_id())
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
