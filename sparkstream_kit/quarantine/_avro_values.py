"""One record of Avro as the typed values of a row, in a worker."""

from __future__ import annotations

import datetime as dt
import io
import math
import struct
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any
from uuid import UUID

from pyspark.sql import types as T

from sparkstream_kit.quarantine._avro_schemas import Schemas, schema_by_id

_HEADER = 5  # bytes: zero, and the id of the schema
_INTEGERS: dict[type[T.DataType], int] = {
    T.ByteType: 7,
    T.ShortType: 15,
    T.IntegerType: 31,
    T.LongType: 63,
}  # bits
_PLAIN: dict[type[T.DataType], type] = {T.BooleanType: bool, T.BinaryType: bytes, T.DateType: dt.date}
# More digits than any decimal has, and no rounding.
_EXACT = Context(prec=100, traps=[InvalidOperation, Inexact])


class _BadError(Exception):
    """A record is bad; the message is why."""


class _UnfitError(Exception):
    """A value is not one of its column's type."""


@dataclass(frozen=True)
class Decoder:
    """Turns a record into the values of its columns, and why it is bad.

    Attributes:
        schema: the columns.
        schemas: those of the records.
    """

    schema: T.StructType
    schemas: Schemas

    def __call__(self, record: bytes | None) -> tuple[Any, ...]:
        """Return the value of each column, and null; or nulls, and the reason."""
        try:
            return (*self._typed(self._read(None if record is None else bytes(record))), None)
        except _BadError as err:
            return (*[None] * len(self.schema), str(err))

    def _read(self, record: bytes | None) -> dict[str, Any]:
        import fastavro

        if record is None:
            raise _BadError("no value")
        if len(record) < _HEADER or record[0] != 0:
            raise _BadError("not Avro with a schema id")
        schema, why = schema_by_id(int.from_bytes(record[1:_HEADER], "big"), self.schemas)
        if why is not None:
            raise _BadError(why)
        content = io.BytesIO(record[_HEADER:])
        try:
            value = fastavro.schemaless_reader(content, schema, None)
        except Exception:  # noqa: BLE001 - bytes of any kind raise errors of any kind
            raise _BadError("not valid for its schema") from None
        if content.read(1):
            raise _BadError("not valid for its schema")
        if not isinstance(value, dict):
            raise _BadError("not a record with fields")
        return value

    def _typed(self, record: dict[str, Any]) -> list[Any]:
        values = []
        for field in self.schema.fields:
            value = record.get(field.name)
            if value is None and not field.nullable:
                raise _BadError(f"{field.name}: missing")
            try:
                values.append(_fitted(value, field.dataType))
            except _UnfitError:
                raise _BadError(f"{field.name}: not a {field.dataType.simpleString()}") from None
        return values


def _fitted(value: Any, kind: T.DataType) -> Any:
    """Return a value of fastavro's as Spark takes it for a column.

    Raises:
        _UnfitError: it is not exactly a value of that type.
    """
    if value is None:
        return None
    if isinstance(kind, T.StructType):
        record = _of(value, dict)
        return {each.name: _in_place(record.get(each.name), each.dataType, each.nullable) for each in kind}
    if isinstance(kind, T.ArrayType):
        return [_in_place(each, kind.elementType, kind.containsNull) for each in _of(value, list)]
    if isinstance(kind, T.MapType):
        pairs = _of(value, dict).items()
        return {key: _in_place(each, kind.valueType, kind.valueContainsNull) for key, each in pairs}
    return _scalar(value, kind)


def _in_place(value: Any, kind: T.DataType, nullable: bool) -> Any:
    if value is None and not nullable:
        raise _UnfitError
    return _fitted(value, kind)


def _of(value: Any, *kinds: type) -> Any:
    if type(value) not in kinds:  # no bool for an int, no datetime for a date
        raise _UnfitError
    return value


def _scalar(value: Any, kind: T.DataType) -> Any:
    if type(kind) in _INTEGERS:
        limit = 1 << _INTEGERS[type(kind)]
        if not -limit <= _of(value, int) < limit:
            raise _UnfitError
        return value
    if isinstance(kind, T.DecimalType):
        return _decimal(_of(value, int, Decimal), kind)
    if isinstance(kind, (T.DoubleType, T.FloatType)):
        return _floating(_of(value, int, float), kind)
    if isinstance(kind, (T.TimestampType, T.TimestampNTZType)):
        if (_of(value, dt.datetime).tzinfo is None) != isinstance(kind, T.TimestampNTZType):
            raise _UnfitError
        return value
    if isinstance(kind, T.StringType):
        return str(_of(value, str, UUID))
    return _of(value, _PLAIN[type(kind)])


def _decimal(value: int | Decimal, kind: T.DecimalType) -> Decimal:
    try:
        exact = _EXACT.quantize(Decimal(value), Decimal(1).scaleb(-kind.scale))
    except (Inexact, InvalidOperation):
        raise _UnfitError from None
    if not exact.is_finite() or len(exact.as_tuple().digits) > kind.precision:
        raise _UnfitError
    return exact


def _floating(value: float, kind: T.DataType) -> float:
    """Return a number that a column of floating-point numbers has; an integer must stay exact."""
    try:
        number = float(value)
        if isinstance(kind, T.FloatType):
            [number] = struct.unpack("f", struct.pack("f", number))
    except OverflowError:
        raise _UnfitError from None
    if (type(value) is int and number != value) or (math.isinf(number) and not math.isinf(value)):
        raise _UnfitError
    return number
