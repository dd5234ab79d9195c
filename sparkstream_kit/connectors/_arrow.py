"""A batch on its way through the driver: computed once, and read as Arrow in parts.

In between it is kept on disk, or with the workers.

Sinks that write from the driver's Python (`sql_table`, `mongodb`, `iceberg`, and
`delta` with delta-rs) read a batch with `kept`. It chooses between `in_files`, which is
faster, and `in_blobs`, which works on every cluster. `gathered` gives the batch as one
table, and `check_keys` checks its keys.
"""

from __future__ import annotations

import logging
import tempfile
import zlib
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._internal.file_system import for_spark
from sparkstream_kit._internal.spark.session import other_master, scratch_folder
from sparkstream_kit.connectors import check_row_keys
from sparkstream_kit.errors import InvalidInputError, KitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pyspark.sql import Column, DataFrame


_log = logging.getLogger(__name__)

_LOST = (
    "a worker lost rows of this batch on their way; start again, and the batch is"
    " replayed"
)
# Bytes of a part; the driver's JVM needs a few times as much memory for it
_PART = 32 * 1024 * 1024
_ROWS = 10_000  # rows of a part, as in Spark's own Arrow batches

# The types that Parquet stores exactly as Arrow does. Dates and timestamps are written
# as numbers, because the session's settings can shift them in Parquet.
_PLAIN = (
    *(
        T.BinaryType,
        T.BooleanType,
        T.ByteType,
        T.DateType,
        T.DecimalType,
        T.DoubleType,
        T.FloatType,
    ),
    *(
        T.IntegerType,
        T.LongType,
        T.ShortType,
        T.StringType,
        T.TimestampNTZType,
        T.TimestampType,
    ),
)
_AS_NUMBERS: dict[type[T.DataType], tuple[Callable[[str], Column], pa.DataType]] = {
    T.DateType: (F.unix_date, pa.date32()),
    T.TimestampType: (F.unix_micros, pa.timestamp("us", "UTC")),
}


class Parts:
    """The rows of a batch in parts of bounded size; each loop reads them again."""

    def __init__(self, read: Callable[[], Iterator[pa.RecordBatch]]) -> None:
        self._read = read

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self._read()


@contextmanager
def kept(batch: DataFrame) -> Iterator[Parts]:
    """Compute a batch once, and yield its rows in their order, in parts of bounded size.

    The driver's memory holds one part at a time. Parts can be read only within the
    `with` block, there also several times, for a transaction that is tried again.

    If Spark's workers are on this machine and the columns have plain types, the workers
    write Parquet files that this process reads (`in_files`): this needs no Python
    worker and no second job. Otherwise the workers keep the rows (`in_blobs`). They
    also keep them if Spark encrypts its temporary data (`spark.io.encryption.enabled`),
    because the files would not be encrypted.

    Args:
        batch: the batch; all of it is computed before the block begins.

    Yields:
        The parts, whose columns are named c0, c1 and so on, in the batch's order.

    Raises:
        KitError: while the parts are read, a worker has lost rows.
    """
    spark = batch.sparkSession
    is_secret = (
        str(spark.conf.get("spark.io.encryption.enabled", None)).lower() == "true"
    )
    is_plain = all(isinstance(field.dataType, _PLAIN) for field in batch.schema)
    way = in_blobs
    if is_plain and not is_secret and other_master(spark) is None:
        way = in_files
    with way(batch) as parts:
        yield parts


@contextmanager
def gathered(batch: DataFrame, schema: pa.Schema) -> Iterator[pa.Table]:
    r"""Gather a batch in a temporary file, and yield it as a memory-mapped table.

    Memory holds only the part that is being read. The libraries that write a table read
    it in threads of their own: if they read the rows from Spark there, a stop of the
    query would not end Spark's jobs. Bytes of a column of texts that are not UTF-8 are
    written as `\xff`, with a warning: most readers refuse them.

    Args:
        batch: the batch.
        schema: the names and types of its columns, in their order.
    """
    with (
        kept(batch) as parts,
        tempfile.NamedTemporaryFile(prefix="sparkstream-", suffix=".arrow") as file,
    ):
        with pa.ipc.new_file(file.name, schema) as writer:
            changed = set[str]()
            for part in parts:
                columns = []
                for column, field in zip(part.columns, schema, strict=True):
                    texts = (
                        valid_utf8(column)
                        if pa.types.is_string(column.type)
                        else column
                    )
                    changed |= {field.name} if texts is not column else set()
                    columns.append(texts.cast(field.type))
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
        for name in sorted(changed):
            _log.warning(
                r"column %s: texts that are not UTF-8 are changed: the byte 0xFF is"
                r" \xff",
                name,
            )
        with pa.memory_map(file.name) as mapped:
            yield pa.ipc.open_file(mapped).read_all()


# The least and the greatest value of the years 1 to 9999, in days and microseconds
# since 1970.
_DAYS = (-719_162, 2_932_896)
_MICROSECONDS = (-62_135_596_800_000_000, 253_402_300_799_999_999)


def beyond_python(column: pa.ChunkedArray) -> bool:
    """Return whether a column has a date or time that Python's own types cannot hold.

    Dates and times inside other values count, too.

    Libraries in Python fail on these years when they make statistics of a file.
    """
    kind = column.type
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        is_date = pa.types.is_date(kind)
        ends = pc.min_max(column.cast(pa.int32() if is_date else pa.int64()))
        least, most = _DAYS if is_date else _MICROSECONDS
        found = ends["min"].as_py()
        return found is not None and (found < least or ends["max"].as_py() > most)
    parts = column.chunks
    if pa.types.is_struct(kind):
        inner = [
            pa.chunked_array(values)
            for values in zip(*(part.flatten() for part in parts), strict=True)
        ]
    elif pa.types.is_map(kind):
        inner = [pa.chunked_array([part.keys for part in parts], kind.key_type)]
        inner.append(pa.chunked_array([part.items for part in parts], kind.item_type))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = [pa.chunked_array([part.flatten() for part in parts], kind.value_type)]
    else:
        inner = []
    return any(beyond_python(each) for each in inner)


def valid_utf8(texts: pa.Array) -> pa.Array:
    r"""Make valid UTF-8 of a column of texts: a byte such as 0xFF becomes `\xff`."""
    if is_utf8(texts):
        return texts
    raws = texts.cast(pa.binary()).to_pylist()
    return pa.array(
        [
            None if raw is None else raw.decode("utf-8", "backslashreplace")
            for raw in raws
        ]
    )


def as_keys(rows: pa.Table, names: Sequence[str]) -> pa.Table:
    """Return columns as keys are compared: -0.0 and 0.0 are one, as in Spark."""
    keys = rows.select(list(names))
    for number, field in enumerate(keys.schema):
        if pa.types.is_floating(field.type):
            unsigned = pc.add(keys.column(number), pa.scalar(0.0, field.type))
            keys = keys.set_column(number, field.name, unsigned)
    return keys


def check_keys(
    rows: pa.Table, where: object, names: Sequence[str], batch_id: int
) -> None:
    """Refuse a batch with rows whose keys do not identify them; see `check_row_keys`."""
    keys = as_keys(rows, names)
    if nested := [each for each in keys.schema if pa.types.is_nested(each.type)]:
        raise InvalidInputError(
            f"{where}: key {nested[0].name} is a {nested[0].type}, by which no rows are"
            " matched; give its fields as columns (windows.flatten), and these as keys"
        )
    null = any(column.null_count for column in keys.columns)
    counted = keys.group_by(keys.column_names).aggregate([([], "count_all")])[
        "count_all"
    ]
    check_row_keys(where, names, batch_id, null=null, twice=pc.max(counted).as_py() > 1)


def check_required(
    rows: pa.Table, where: object, names: Iterable[str], batch_id: int
) -> None:
    """Refuse a batch with a null in a column of which the target requires a value."""
    for name in names:
        if name in rows.column_names and rows[name].null_count:
            raise InvalidInputError(
                f"batch {batch_id} for {where}: column {name} is null, of which the"
                " table requires a value; fill it with F.coalesce, or leave such"
                " rows out"
            )


def is_utf8(column: pa.Array) -> bool:
    """Return whether all texts in a column are valid UTF-8."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _numbered(batch: DataFrame) -> DataFrame:
    """Rename the columns to c0, c1 and so on.

    Spark misreads dots in names, and names may repeat.
    """
    return batch.toDF(*(f"c{number}" for number in range(len(batch.columns))))


@contextmanager
def in_files(batch: DataFrame) -> Iterator[Parts]:
    """Keep a batch in Parquet files in a temporary local folder; see `kept`."""
    frame = _numbered(batch)
    kinds = [field.dataType for field in batch.schema]
    columns = [
        (
            _AS_NUMBERS[type(kind)][0](name).alias(name)
            if type(kind) in _AS_NUMBERS
            else F.col(name)
        )
        for name, kind in zip(frame.columns, kinds, strict=True)
    ]
    folder = scratch_folder(batch.sparkSession)
    with tempfile.TemporaryDirectory(
        prefix="batch-", dir=folder, ignore_cleanup_errors=True
    ) as made:
        writer = (
            frame.select(columns)
            .write.option("compression", "none")
            .option("parquet.block.size", _PART)
        )
        writer.option("parquet.enable.dictionary", "false").parquet(
            for_spark(Path(made, "rows"))
        )
        yield Parts(partial(_read, Path(made, "rows"), kinds))


def _read(folder: Path, kinds: list[T.DataType]) -> Iterator[pa.RecordBatch]:
    """Read a finished job's Parquet files as rows, in the order of its partitions."""
    # Names are part-00003-….parquet; if Spark limits the rows per file, they end with
    # c000, c001 and so on.
    for path in sorted(
        folder.glob("part-*"),
        key=lambda path: (int(path.name.split("-")[1]), path.name),
    ):
        with pq.ParquetFile(path) as file:
            # One call would keep all in memory
            for group in range(file.num_row_groups):
                for part in file.iter_batches(_ROWS, [group]):
                    columns = [
                        (
                            column.cast(_AS_NUMBERS[type(kind)][1])
                            if type(kind) in _AS_NUMBERS
                            else column
                        )
                        for column, kind in zip(part.columns, kinds, strict=True)
                    ]
                    yield pa.RecordBatch.from_arrays(columns, part.schema.names)


@contextmanager
def in_blobs(batch: DataFrame) -> Iterator[Parts]:
    """Keep a batch with the workers as Arrow blobs, to fetch them in parts; see `kept`.

    The parts are limited by their size, because a whole partition could exhaust the
    memory of the driver's JVM, which then hangs.
    """

    def pack(parts: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # Within the function, so that the workers do not need the kit
        import pyarrow as pa

        for part in parts:
            if part.num_rows:
                sink = pa.BufferOutputStream()
                with pa.ipc.new_stream(sink, part.schema) as writer:
                    writer.write_batch(part)
                yield pa.RecordBatch.from_pydict(
                    {"blob": [sink.getvalue().to_pybytes()]}
                )

    packed = _numbered(batch).mapInArrow(pack, "blob BINARY")
    # In memory, and on disk if they do not fit.
    blobs = packed.withColumn("number", F.monotonically_increasing_id()).persist()
    try:
        made = blobs.select("number", F.length("blob"), F.crc32("blob")).collect()
        yield Parts(partial(_fetched, blobs, sorted(tuple(row) for row in made)))
    finally:
        blobs.unpersist()


def _fetched(
    blobs: DataFrame, made: list[tuple[int, int, int]]
) -> Iterator[pa.RecordBatch]:
    """Fetch the rows of the blobs, and check that each blob is as first computed.

    Spark recomputes a blob that a worker has lost. After a shuffle its rows may then
    come in another order, or be in another blob, so that rows would be lost or doubled.

    Args:
        blobs: the blobs, with the columns `number` and `blob`.
        made: the number, size in bytes and checksum of each blob that was computed,
            sorted by number.

    Raises:
        KitError: a blob is missing, or differs from the one that was computed first.
    """
    sums = {number: checksum for number, _, checksum in made}
    # The numbers of the blobs that are fetched together
    parts: dict[int, list[int]] = {}
    total = 0
    for number, size, _ in made:
        parts.setdefault(total // _PART, []).append(number)
        total += size
    for numbers in parts.values():
        # Spark keeps the range of numbers of each cached piece, so this filter skips
        # all other pieces.
        part = blobs.where(F.col("number").between(numbers[0], numbers[-1])).coalesce(1)
        # Not toLocalIterator: Spark never releases its jobs, with their plans and
        # sessions, which would leak a megabyte per batch.
        fetched = part.select("number", "blob").toArrow()
        for number, blob in zip(
            fetched["number"].to_pylist(), fetched["blob"], strict=True
        ):
            if sums.pop(number, None) != zlib.crc32(blob.as_buffer()):
                raise KitError(_LOST)
            yield pa.ipc.open_stream(blob.as_buffer()).read_next_batch()
    if sums:
        raise KitError(_LOST)
