"""Extra: values that a library has decoded from bytes, for columns of types of Spark.

What `avro` and `protobuf` share: the errors that make a record bad, `scalar`, which
gives a value to a column only if the column's type holds it exactly, and `read_by`,
which decodes each record in Spark's Python workers.
"""

from __future__ import annotations

import datetime as dt
import math
import struct
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._internal.columns import shape_of
from sparkstream_kit._internal.spark.shapes import is_known
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.quarantine.rows import RAW, line_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import Column, DataFrame


# Bits without the sign.
_INTEGERS: dict[Any, int] = {
    T.ByteType: 7,
    T.ShortType: 15,
    T.IntegerType: 31,
    T.LongType: 63,
}
_PLAIN: dict[type[T.DataType], type] = {
    T.BooleanType: bool,
    T.BinaryType: bytes,
    T.DateType: dt.date,
}
# To change a decimal's scale without rounding; 100 digits are more than any decimal of
# Spark's has.
_EXACT = Context(prec=100, traps=[InvalidOperation, Inexact])


HEADER = 5  # bytes: a zero byte, and the schema's id in four bytes
# Schemas that a process keeps parsed
MOST_SCHEMAS = 10_000


class BadError(Exception):
    """A record is bad; the message is the reason."""


class UnfitError(Exception):
    """A value cannot be held exactly by its column's type."""


def instance_of(value: Any, *kinds: type) -> Any:
    """Return a value that is of one of these types of Python, and refuse any other.

    Raises:
        UnfitError: it is of another type.
    """
    # Not isinstance: a bool is an int, and a datetime is a date
    if type(value) not in kinds:
        raise UnfitError
    return value


def scalar(value: Any, kind: T.DataType) -> Any:
    """Convert a value for a column whose type has no types inside.

    Raises:
        UnfitError: the value is not of that type, or does not fit into it exactly.
    """
    if type(kind) in _INTEGERS:
        limit = 1 << _INTEGERS[type(kind)]
        if not -limit <= instance_of(value, int) < limit:
            raise UnfitError
        return value
    if isinstance(kind, T.DecimalType):
        return _decimal(instance_of(value, int, Decimal), kind)
    if isinstance(kind, (T.DoubleType, T.FloatType)):
        return _floating(instance_of(value, int, float), kind)
    if isinstance(kind, (T.TimestampType, T.TimestampNTZType)):
        is_local = instance_of(value, dt.datetime).tzinfo is None
        if is_local != isinstance(kind, T.TimestampNTZType):
            raise UnfitError
        return value
    if isinstance(kind, T.StringType):
        return str(instance_of(value, str, UUID))
    return instance_of(value, _PLAIN[type(kind)])


def _decimal(value: int | Decimal, kind: T.DecimalType) -> Decimal:
    """Convert a number for a column of decimals, without rounding it.

    Raises:
        UnfitError: the number has more digits than the column holds, or is no finite
            one.
    """
    try:
        exact = _EXACT.quantize(Decimal(value), Decimal(1).scaleb(-kind.scale))
    except (Inexact, InvalidOperation):
        raise UnfitError from None
    if not exact.is_finite() or len(exact.as_tuple().digits) > kind.precision:
        raise UnfitError
    return exact


def _floating(value: float, kind: T.DataType) -> float:
    """Convert a number for a column of floats or doubles.

    An integer must stay exact, a float may be rounded.

    Raises:
        UnfitError: an integer would be rounded, or a finite number would become
            infinite.
    """
    try:
        number = float(value)
        if isinstance(kind, T.FloatType):
            [number] = struct.unpack("f", struct.pack("f", number))
    except OverflowError:
        raise UnfitError from None
    is_rounded = type(value) is int and number != value
    if is_rounded or (math.isinf(number) and not math.isinf(value)):
        raise UnfitError
    return number


def refuse_text(call: str, records: DataFrame) -> None:
    """Refuse records whose first column is not binary.

    Raises:
        InvalidInputError: it is of another type, which is known.
    """
    first = shape_of(records).find(line_of(records))
    is_other = first is not None and is_known(first.dataType)
    if first and is_other and not isinstance(first.dataType, T.BinaryType):
        raise InvalidInputError(
            f"{call}() reads the first column, and {first.name} is"
            f" {first.dataType.simpleString()}, not binary; give sources.kafka(…,"
            " binary=True), with the record first"
        )


def read_by(
    frame: DataFrame, decode: Callable[[bytes | None], Any], schema: T.StructType
) -> tuple[DataFrame, Column, Column | None]:
    """Read the values of records; the result is that of a `Read` of `rows`.

    Args:
        frame: the records, as RAW.
        decode: returns of a record the value of each column and the reason why it is
            bad.
        schema: the columns.
    """
    result = T.StructType()
    for index, field in enumerate(schema.fields):
        result.add(f"_v{index}", field.dataType)
    result.add("_why", T.StringType())
    decoded = F.udf(decode, result, useArrow=False)(F.col(RAW).cast("binary"))
    # A separate step: it decodes each record once
    frame = frame.select("*", decoded.alias("_read"))
    return frame.select("*", "_read.*"), F.col("_why"), None
