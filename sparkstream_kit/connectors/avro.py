"""Records of Avro with the id of their schema before them, as Confluent's serializers write them."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import hashlib
import io
import json
import math
import struct
import time
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact, InvalidOperation
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen
from uuid import UUID

from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._arguments import check
from sparkstream_kit._columns import column
from sparkstream_kit.errors import InvalidInputError, KitError, MissingExtraError
from sparkstream_kit.quarantine.rows import RAW, check_type, parsed
from sparkstream_kit.schemas import from_ddl

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


_SECONDS = 10  # for one answer
_AGAIN = 60.0  # seconds until an id that was not known is asked for again
_MOST = 10_000  # ids that are remembered; damaged records have any
_NOT_FOUND = 404

# Of this process, by registry and id: the schema, or why there is none, and until when this is so.
_answers: dict[tuple[str, int], tuple[Any, str | None, float]] = {}


@dataclass(frozen=True)
class Schemas:
    """Where the schemas of records are.

    Attributes:
        place: the address of their registry, without a slash at the end; or a name for `known`.
        known: of a folder, the schemas by their ids; None of a registry.
        login: what the header `Authorization` says, if the registry asks for one.
    """

    place: str
    known: dict[int, Any] | None = dataclasses.field(default=None, repr=False)
    login: str | None = dataclasses.field(default=None, repr=False)


def in_folder(folder: Path) -> Schemas:
    """Read the schemas of a folder: each in a file that is named by its id.

    Raises:
        InvalidInputError: no such folder, none in it, or a file that is not a schema.
    """
    if not folder.is_dir():
        raise InvalidInputError(f"schemas {folder}: there is no such folder; create it or correct the path")
    found = {}
    for path in sorted(folder.glob("*.avsc")):
        if path.stem.isascii() and path.stem.isdigit():
            try:
                found[int(path.stem)] = json.loads(path.read_text("utf-8"))
                _parsed(found[int(path.stem)])
            except ValueError as err:
                raise InvalidInputError(f"schema {path} cannot be read: {err}; correct the file") from None
    if not found:
        raise InvalidInputError(
            f"schemas {folder}: no file there is named by the id of its schema; name them 7.avsc and the like"
        )
    digest = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
    return Schemas(digest, found)


def of_registry(text: str) -> Schemas:
    """Read a registry's address, with a login in it or without.

    Raises:
        InvalidInputError: not an address of HTTP.
    """
    try:
        parts = urlsplit(text)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # such as of a port that is no number
        is_address = False
    if not is_address:
        raise InvalidInputError(f"registry {text!r} is no address, such as http://localhost:8081")
    url = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    login = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        login = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return Schemas(url.rstrip("/"), login=login)


def schema_by_id(number: int, schemas: Schemas) -> tuple[Any, str | None]:
    """Return a schema that fastavro has parsed; else None, and why there is none.

    Raises:
        KitError: the registry cannot be reached, or answers with an error of its own.
    """
    place = (schemas.place, number)
    if place in _answers and _answers[place][2] > time.monotonic():
        return _answers[place][:2]
    if len(_answers) >= _MOST:
        _answers.clear()
    schema = _asked(schemas, number) if schemas.known is None else schemas.known.get(number)
    why, until = None, float("inf")
    if schema is None:
        why, until = "unknown schema id", time.monotonic() + _AGAIN
    else:
        try:
            schema = _parsed(schema)
        except ValueError:
            schema, why = None, "a schema that cannot be read"
    _answers[place] = schema, why, until
    return schema, why


def _parsed(schema: Any) -> Any:
    """Return a schema as fastavro reads by it.

    Raises:
        ValueError: it is not a schema of Avro.
    """
    import fastavro

    try:
        return fastavro.parse_schema(schema)
    except (TypeError, LookupError, fastavro.schema.SchemaParseException) as err:
        raise ValueError(str(err) or type(err).__name__) from None


def _asked(registry: Schemas, number: int) -> Any:
    """Return what a registry has for an id; None where it knows no such id."""
    headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
    if registry.login:
        headers["Authorization"] = registry.login
    request = Request(f"{registry.place}/schemas/ids/{number}", headers=headers)  # noqa: S310 - http or https
    try:
        with urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310 - as above
            found = json.load(answer)
    except HTTPError as err:
        if err.code == _NOT_FOUND:
            return None
        raise KitError(f"schema registry {registry.place} answers {err.code} {err.reason}") from None
    except (URLError, OSError, ValueError) as err:
        cause = getattr(err, "reason", None) or err
        raise KitError(f"schema registry {registry.place} cannot be reached: {cause}") from None
    if not isinstance(found, dict) or not isinstance(found.get("schema"), str):
        raise KitError(f"schema registry {registry.place} gives no schema for the id {number}")
    if found.get("schemaType", "AVRO") != "AVRO":
        return {"type": "not Avro"}  # which no reader of Avro knows
    try:
        return json.loads(found["schema"])
    except ValueError:
        return found["schema"]  # the bare name of a type


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


_OTHERWISE = "Avro cannot hold {type}; use another type"


def parse_avro(
    records: DataFrame,
    schema: T.StructType | str,
    *,
    schemas: str | Path | None = None,
    registry: str | None = None,
) -> DataFrame:
    """Parse records of Avro; each gives one row, good or bad.

    A record is a zero byte, the id of its schema in four bytes, and a value in Avro's binary encoding, as
    Confluent's serializers write it. A record is bad when it does not begin so, when its id is not known,
    when its bytes are not one value of its schema, when a value in any column is not of the column's type or
    does not fit (an integer that is too big, a decimal with more digits than the column holds), or when a
    column that the schema says is NOT NULL is null or missing. Fields that `schema` does not have are passed
    over.

    The schema of an id is asked for once in each Python process of Spark's workers, which need fastavro, too.
    An id that the registry does not know is asked for again after a minute. If the registry cannot be
    reached, the query fails, as nobody can say then which records are bad.

    Args:
        records: a DataFrame, streaming or static, whose first column is the record (binary), such as that of
            `sources.kafka(…, binary=True)`. Its other columns are kept.
        schema: the columns, as a StructType or as DDL, each a field of the record by its exact name. Avro's
            `timestamp-millis` and `timestamp-micros` are TIMESTAMP, their local kinds TIMESTAMP_NTZ; enums
            and uuids are STRING. An integer fits any column of numbers that holds it exactly.
        schemas: a folder of schemas on the driver's machine, each in a file that is named by its id:
            `7.avsc`. It is read now: a new file is known after a restart.
        registry: in place of a folder, the address of a schema registry, such as "http://registry:8081" or
            "https://user:password@registry", which is asked `GET /schemas/ids/7`. Schemas that refer to
            others are not read.

    Returns:
        As `parse_csv`: the columns of `schema` (all null in a bad row), then `_reason`, such as "unknown
        schema id" or "amount: not a decimal(12,2)", `_raw`, `_bytes` (the record exactly, unless it is text
        that `_raw` has) and `_file`, then the other columns of `records`.

    Raises:
        InvalidInputError: DDL that cannot be read, a column type that Avro cannot hold, a name as in
            `parse_csv`, not one of `schemas` and `registry`, no such folder, or a file that is not a schema.
        MissingExtraError: fastavro is not installed.

    Examples:
        In a session::

            records = sources.kafka(spark, "localhost:9092", "payments", binary=True)
            rows = quarantine.parse_avro(records, PAYMENTS, registry="http://localhost:8081")
    """
    check(parse_avro, locals())
    try:
        import_module("fastavro")
    except ModuleNotFoundError as err:
        raise MissingExtraError("quarantine.parse_avro", "avro") from err
    schema = from_ddl(schema) if isinstance(schema, str) else schema
    for field in schema.fields:
        check_type(field.name, field.dataType, (T.BinaryType, T.TimestampNTZType), _OTHERWISE)
    first = records.schema[0]
    if not isinstance(first.dataType, T.BinaryType):
        raise InvalidInputError(
            f"parse_avro() reads the first column, and {first.name} is {first.dataType.simpleString()}, not "
            "binary; give sources.kafka(…, binary=True), with the record first"
        )
    if (schemas is None) == (registry is None):
        raise InvalidInputError(
            "parse_avro() takes schemas='folder' or registry='http://host:8081'; give one of them"
        )
    decode = Decoder(schema, of_registry(registry) if registry else in_folder(Path(str(schemas))))
    values = [T.StructField(f"_v{number}", field.dataType) for number, field in enumerate(schema.fields)]
    made = T.StructType([*values, T.StructField("_why", T.StringType())])

    def read(frame: DataFrame) -> tuple[DataFrame, Column, Column | None]:
        decoded = F.udf(decode, made, useArrow=False)(F.col(RAW).cast("binary"))
        frame = frame.select("*", decoded.alias("_read"))  # a step of its own: each record is decoded once
        return frame.select("*", "_read.*"), F.col("_why"), None

    # As a string its bytes are the same, whatever they are.
    text = records.withColumn(first.name, column(first.name).cast("string"))
    return parsed(text, schema, read, "avro")
