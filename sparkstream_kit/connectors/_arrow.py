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
    T.BinaryType,
    T.BooleanType,
    T.ByteType,
    T.DateType,
    T.DecimalType,
    T.DoubleType,
    T.FloatType,
    T.IntegerType,
    T.LongType,
    T.ShortType,
    T.StringType,
    T.TimestampNTZType,
    T.TimestampType,
)
# What makes a number of a column for Parquet, and the type to which it is read back
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
    encryption = spark.conf.get("spark.io.encryption.enabled", None)
    is_secret = str(encryption).lower() == "true"
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
                    valid = column
                    if pa.types.is_string(column.type):
                        valid = valid_utf8(column)
                    if valid is not column:
                        changed.add(field.name)
                    columns.append(valid.cast(field.type))
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
    if pa.types.is_date(column.type):
        return _is_outside(column.cast(pa.int32()), _DAYS)
    if pa.types.is_timestamp(column.type):
        return _is_outside(column.cast(pa.int64()), _MICROSECONDS)
    return any(beyond_python(inner) for inner in _inner_values(column))


def _is_outside(numbers: pa.ChunkedArray, limits: tuple[int, int]) -> bool:
    """Return whether a number is below or above the limits."""
    ends = pc.min_max(numbers)
    least = ends["min"].as_py()
    if least is None:
        return False
    return bool(least < limits[0] or ends["max"].as_py() > limits[1])


def _inner_values(column: pa.ChunkedArray) -> list[pa.ChunkedArray]:
    """Return the values inside a column's: fields, keys and values, or elements."""
    kind = column.type
    parts = column.chunks
    if pa.types.is_struct(kind):
        fields = zip(*(part.flatten() for part in parts), strict=True)
        return [pa.chunked_array(values) for values in fields]
    if pa.types.is_map(kind):
        keys = pa.chunked_array([part.keys for part in parts], kind.key_type)
        values = pa.chunked_array([part.items for part in parts], kind.item_type)
        return [keys, values]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [pa.chunked_array([part.flatten() for part in parts], kind.value_type)]
    return []


def valid_utf8(texts: pa.Array) -> pa.Array:
    r"""Make valid UTF-8 of a column of texts: a byte such as 0xFF becomes `\xff`."""
    if is_utf8(texts):
        return texts
    valid: list[str | None] = []
    for raw in texts.cast(pa.binary()).to_pylist():
        if raw is None:
            valid.append(None)
        else:
            valid.append(raw.decode("utf-8", "backslashreplace"))
    return pa.array(valid)


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
    for key in keys.schema:
        if pa.types.is_nested(key.type):
            raise InvalidInputError(
                f"{where}: key {key.name} is a {key.type}, by which no rows are"
                " matched; give its fields as columns (windows.flatten), and these as"
                " keys"
            )
    null = any(column.null_count for column in keys.columns)
    groups = keys.group_by(keys.column_names).aggregate([([], "count_all")])
    most = pc.max(groups["count_all"]).as_py()
    check_row_keys(where, names, batch_id, null=null, twice=most > 1)


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


def is_text(kind: pa.DataType) -> bool:
    """Return whether a type is one of texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_binary(kind: pa.DataType) -> bool:
    """Return whether a type is one of bytes."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


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
    columns = []
    for name, kind in zip(frame.columns, kinds, strict=True):
        column = F.col(name)
        if type(kind) in _AS_NUMBERS:
            as_number, _ = _AS_NUMBERS[type(kind)]
            column = as_number(name).alias(name)
        columns.append(column)
    with tempfile.TemporaryDirectory(
        prefix="batch-",
        dir=scratch_folder(batch.sparkSession),
        ignore_cleanup_errors=True,
    ) as folder:
        rows = Path(folder, "rows")
        writer = frame.select(columns).write.option("compression", "none")
        writer = writer.option("parquet.block.size", _PART)
        writer = writer.option("parquet.enable.dictionary", "false")
        writer.parquet(for_spark(rows))
        yield Parts(partial(_read, rows, kinds))


def _read(folder: Path, kinds: list[T.DataType]) -> Iterator[pa.RecordBatch]:
    """Read a finished job's Parquet files as rows, in the order of its partitions."""
    for path in sorted(folder.glob("part-*"), key=_order):
        with pq.ParquetFile(path) as file:
            # One call would keep all in memory
            for group in range(file.num_row_groups):
                for part in file.iter_batches(_ROWS, [group]):
                    yield _with_times(part, kinds)


def _order(path: Path) -> tuple[int, str]:
    """Return a sort key for the Parquet files of a job.

    If Spark limits the rows per file, their names end with c000, c001 and so on.

    Examples:
        >>> _order(Path("rows/part-00003-d6f1-c001.parquet"))
        (3, 'part-00003-d6f1-c001.parquet')
    """
    partition = path.name.split("-")[1]
    return int(partition), path.name


def _with_times(part: pa.RecordBatch, kinds: list[T.DataType]) -> pa.RecordBatch:
    """Return rows of a Parquet file with the dates and times that are numbers there."""
    columns = []
    for column, kind in zip(part.columns, kinds, strict=True):
        if type(kind) in _AS_NUMBERS:
            _, arrow_type = _AS_NUMBERS[type(kind)]
            columns.append(column.cast(arrow_type))
        else:
            columns.append(column)
    return pa.RecordBatch.from_arrays(columns, part.schema.names)


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
                blob = sink.getvalue().to_pybytes()
                yield pa.RecordBatch.from_pydict({"blob": [blob]})

    packed = _numbered(batch).mapInArrow(pack, "blob BINARY")
    # In memory, and on disk if they do not fit.
    blobs = packed.withColumn("number", F.monotonically_increasing_id()).persist()
    try:
        computed = blobs.select("number", F.length("blob"), F.crc32("blob")).collect()
        yield Parts(partial(_fetched, blobs, sorted(tuple(row) for row in computed)))
    finally:
        blobs.unpersist()


def _fetched(
    blobs: DataFrame, computed: list[tuple[int, int, int]]
) -> Iterator[pa.RecordBatch]:
    """Fetch the rows of the blobs, and check that each blob is as first computed.

    Spark recomputes a blob that a worker has lost. After a shuffle its rows may then
    come in another order, or be in another blob, so that rows would be lost or doubled.

    Args:
        blobs: the blobs, with the columns `number` and `blob`.
        computed: the number, size in bytes and checksum of each blob that was computed,
            sorted by number.

    Raises:
        KitError: a blob is missing, or differs from the one that was computed first.
    """
    checksums = {number: checksum for number, _, checksum in computed}
    # The numbers of the blobs that are fetched together, by the number of the part
    parts: dict[int, list[int]] = {}
    total = 0
    for number, size, _ in computed:
        parts.setdefault(total // _PART, []).append(number)
        total += size
    for numbers in parts.values():
        # Spark keeps the range of numbers of each cached piece, so this filter skips
        # all other pieces.
        part = blobs.where(F.col("number").between(numbers[0], numbers[-1])).coalesce(1)
        # Not toLocalIterator: Spark never releases its jobs, with their plans and
        # sessions, which would leak a megabyte per batch.
        fetched = part.select("number", "blob").toArrow()
        arrived = fetched["number"].to_pylist()
        for number, blob in zip(arrived, fetched["blob"], strict=True):
            if checksums.pop(number, None) != zlib.crc32(blob.as_buffer()):
                raise KitError(_LOST)
            yield pa.ipc.open_stream(blob.as_buffer()).read_next_batch()
    if checksums:
        raise KitError(_LOST)
