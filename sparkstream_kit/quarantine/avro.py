"""Extra: records of Avro after the id of their schema, as Confluent's serializers write them.

`parse_avro` is the public function; users find it in `sparkstream_kit.quarantine`. It
gives Spark's Python workers a `Decoder`, which decodes a record with the library
fastavro and checks each value against the type of its column. `Schemas` is where the
records' schemas come from: a folder (`in_folder`), or a schema registry
(`of_registry`).
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import hashlib
import io
import json
import math
import re
import struct
import time
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact, InvalidOperation
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen
from uuid import UUID

from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._internal.arguments import check
from sparkstream_kit._internal.columns import shape_of
from sparkstream_kit._internal.spark.shapes import is_known
from sparkstream_kit.connectors import need
from sparkstream_kit.errors import InvalidInputError, KitError
from sparkstream_kit.quarantine.lines import NESTED, schema_for
from sparkstream_kit.quarantine.rows import RAW, line_of, not_a, parsed

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


_SECONDS = 10  # timeout of a request to the registry
# Seconds until the registry is asked again for an id that it did not know
_AGAIN = 60.0
# Ids in the cache, which is bounded because damaged records can contain any id
_MOST = 10_000
_NOT_FOUND = 404

# The cache of this process, by registry and id: the schema, the reason if there is
# none, and the monotonic time in seconds until which the entry is valid.
_answers: dict[tuple[str, int], tuple[Any, str | None, float]] = {}


@dataclass(frozen=True)
class Schemas:
    """Where the schemas of records come from: a folder that was read, or a registry.

    Attributes:
        place: the address of the registry, without a slash at the end; for a folder, a
            checksum of its schemas, which identifies them in the cache.
        known: for a folder, its schemas by their ids; None for a registry.
        login: the value of the header `Authorization` for the registry; None to send no
            such header.
    """

    place: str
    known: dict[int, Any] | None = dataclasses.field(default=None, repr=False)
    login: str | None = dataclasses.field(default=None, repr=False)


def in_folder(folder: Path) -> Schemas:
    """Read the schemas in a folder; each is in a file that is named by its id, such as `7.avsc`.

    Raises:
        InvalidInputError: the folder does not exist or has no such file, or a file is
            not a schema.
    """
    if not folder.is_dir():
        raise InvalidInputError(
            f"schemas {folder}: there is no such folder; create it or correct the path"
        )
    schemas = {}
    for path in sorted(folder.glob("*.avsc")):
        if not (path.stem.isascii() and path.stem.isdigit()):
            continue
        try:
            schema = json.loads(path.read_text("utf-8"))
            _parsed(schema)
        except ValueError as err:
            raise InvalidInputError(
                f"schema {path} cannot be read: {err}; correct the file"
            ) from None
        schemas[int(path.stem)] = schema
    if not schemas:
        fix = "name them 7.avsc and the like"
        raise InvalidInputError(
            f"schemas {folder}: no file there is named by the id of its schema; {fix}"
        )
    digest = hashlib.sha256(json.dumps(schemas, sort_keys=True).encode()).hexdigest()
    return Schemas(digest, schemas)


def of_registry(text: str) -> Schemas:
    """Parse the address of a registry, and take the login out of it, if there is one.

    Raises:
        InvalidInputError: the text is not an address with http or https.
    """
    if not re.fullmatch(r"https?://(.*@)?[^/@:\s]+(:\d+)?(/.*)?", text):
        raise InvalidInputError(
            f"registry {text!r} is no address, such as http://localhost:8081"
        )
    parts = urlsplit(text)
    url = urlunsplit(
        (parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")
    )
    login = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        login = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return Schemas(url.rstrip("/"), login=login)


def schema_by_id(number: int, schemas: Schemas) -> tuple[Any, str | None]:
    """Look up a schema by its id, in this process's cache or else in the folder or registry.

    Returns:
        The schema as fastavro has parsed it, and None; or None, and the reason why
        there is no schema.

    Raises:
        KitError: the registry cannot be reached, or answers with an error or without a
            schema.
    """
    key = (schemas.place, number)
    if key in _answers:
        schema, why, until = _answers[key]
        if until > time.monotonic():
            return schema, why
    if len(_answers) >= _MOST:
        _answers.clear()
    if schemas.known is None:
        schema = _asked(schemas, number)
    else:
        schema = schemas.known.get(number)
    why = None
    until = float("inf")
    if schema is None:
        why = "unknown schema id"
        until = time.monotonic() + _AGAIN
    else:
        try:
            schema = _parsed(schema)
        except ValueError:
            schema = None
            why = "a schema that cannot be read"
    _answers[key] = schema, why, until
    return schema, why


def _parsed(schema: Any) -> Any:
    """Parse a schema with fastavro.

    Raises:
        ValueError: it is not an Avro schema.
    """
    import fastavro

    try:
        return fastavro.parse_schema(schema)
    except (TypeError, LookupError, fastavro.schema.SchemaParseException) as err:
        raise ValueError(str(err) or type(err).__name__) from None


def _asked(registry: Schemas, number: int) -> Any:
    """Return a registry's schema for an id, as parsed JSON; None if the id is unknown.

    Raises:
        KitError: the registry cannot be reached, or answers with an error or without a
            schema.
    """
    headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
    request = Request(f"{registry.place}/schemas/ids/{number}", headers=headers)  # noqa: S310 - http or https
    if registry.login:
        request.add_unredirected_header("Authorization", registry.login)
    try:
        with urlopen(request, timeout=_SECONDS) as response:  # noqa: S310 - as above
            answer = json.load(response)
        kind = answer.get("schemaType", "AVRO")
        schema = answer["schema"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as err:
        if getattr(err, "code", None) == _NOT_FOUND:
            return None
        raise KitError(
            f"schema registry {registry.place} gives no schema {number}: {err}"
        ) from None
    if kind != "AVRO":
        return {"type": "not Avro"}  # not a valid schema, so that the record is bad
    try:
        return json.loads(schema)
    except ValueError:
        return schema  # the bare name of a type, such as string


_HEADER = 5  # bytes: a zero byte, and the schema's id in four bytes
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


class _BadError(Exception):
    """A record is bad; the message is the reason."""


class _UnfitError(Exception):
    """A value cannot be held exactly by its column's type."""


@dataclass(frozen=True)
class Decoder:
    """Decodes a record in a Python UDF, to its columns or to the reason why it is bad.

    Attributes:
        schema: the columns to read, each from the record's field of the same name.
        schemas: where the records' schemas come from.
    """

    schema: T.StructType
    schemas: Schemas

    def __call__(self, record: bytes | None) -> tuple[Any, ...]:
        """Decode a record.

        Returns:
            The value of each column and None; for a bad record, None for each column
            and the reason.

        Raises:
            KitError: the registry cannot be reached, or answers with an error or
                without a schema.
        """
        try:
            fields = self._read(None if record is None else bytes(record))
            return (*self._typed(fields), None)
        except _BadError as err:
            nulls = [None] * len(self.schema)
            return (*nulls, str(err))

    def _read(self, record: bytes | None) -> dict[str, Any]:
        import fastavro

        if record is None:
            raise _BadError("no value")
        if len(record) < _HEADER or record[0] != 0:
            raise _BadError("not Avro with a schema id")
        number = int.from_bytes(record[1:_HEADER], "big")
        schema, why = schema_by_id(number, self.schemas)
        if why is not None:
            raise _BadError(why)
        content = io.BytesIO(record[_HEADER:])
        try:
            value = fastavro.schemaless_reader(content, schema, None)
        except Exception:  # noqa: BLE001 - bytes of any kind raise errors of any kind
            raise _BadError("not valid for its schema") from None
        if content.read():
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
                raise _BadError(f"{field.name}: {not_a(field.dataType)}") from None
        return values


def _fitted(value: Any, kind: T.DataType, nullable: bool = True) -> Any:
    """Convert a value that fastavro has decoded to one that Spark accepts for a column of a type.

    Raises:
        _UnfitError: the value is not of that type, or does not fit into it exactly.
    """
    if value is None:
        if not nullable:
            raise _UnfitError
        return None
    if isinstance(kind, T.StructType):
        record = _of(value, dict)
        return {
            field.name: _fitted(record.get(field.name), field.dataType, field.nullable)
            for field in kind
        }
    if isinstance(kind, T.ArrayType):
        return [
            _fitted(element, kind.elementType, kind.containsNull)
            for element in _of(value, list)
        ]
    if isinstance(kind, T.MapType):
        return {
            key: _fitted(inner, kind.valueType, kind.valueContainsNull)
            for key, inner in _of(value, dict).items()
        }
    return _scalar(value, kind)


def _of(value: Any, *kinds: type) -> Any:
    """Return a value that is of one of these types of Python, and refuse any other.

    Raises:
        _UnfitError: it is of another type.
    """
    # Not isinstance: a bool is an int, and a datetime is a date
    if type(value) not in kinds:
        raise _UnfitError
    return value


def _scalar(value: Any, kind: T.DataType) -> Any:
    """Convert a value for a column whose type has no types inside.

    Raises:
        _UnfitError: the value is not of that type, or does not fit into it exactly.
    """
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
        is_local = _of(value, dt.datetime).tzinfo is None
        if is_local != isinstance(kind, T.TimestampNTZType):
            raise _UnfitError
        return value
    if isinstance(kind, T.StringType):
        return str(_of(value, str, UUID))
    return _of(value, _PLAIN[type(kind)])


def _decimal(value: int | Decimal, kind: T.DecimalType) -> Decimal:
    """Convert a number for a column of decimals, without rounding it.

    Raises:
        _UnfitError: the number has more digits than the column holds, or is no finite
            one.
    """
    try:
        exact = _EXACT.quantize(Decimal(value), Decimal(1).scaleb(-kind.scale))
    except (Inexact, InvalidOperation):
        raise _UnfitError from None
    if not exact.is_finite() or len(exact.as_tuple().digits) > kind.precision:
        raise _UnfitError
    return exact


def _floating(value: float, kind: T.DataType) -> float:
    """Convert a number for a column of floats or doubles.

    An integer must stay exact, a float may be rounded.

    Raises:
        _UnfitError: an integer would be rounded, or a finite number would become
            infinite.
    """
    try:
        number = float(value)
        if isinstance(kind, T.FloatType):
            [number] = struct.unpack("f", struct.pack("f", number))
    except OverflowError:
        raise _UnfitError from None
    is_rounded = type(value) is int and number != value
    if is_rounded or (math.isinf(number) and not math.isinf(value)):
        raise _UnfitError
    return number


def parse_avro(
    records: DataFrame,
    schema: T.StructType | str,
    *,
    schemas: str | Path | None = None,
    registry: str | None = None,
) -> DataFrame:
    """Parse Avro records that begin with their schema's id; each record gives one row, good or bad.

    A record is a zero byte, the id of its schema in four bytes, and a value in Avro's
    binary encoding, as Confluent's serializers write it. A record is bad if

    - it does not begin with a zero byte and an id,
    - its schema id is unknown, or its schema cannot be read,
    - its bytes are not exactly one value of that schema, or the value is not a record
      with fields,
    - a value is not of its column's type or does not fit (an integer that is too big, a
      decimal with more digits than the column holds), or
    - a column that is NOT NULL in `schema` is null or missing.

    Fields of the record that `schema` does not have are ignored.

    Each Python worker process of Spark asks for the schema of an id once, and caches
    it; the workers need fastavro, too. It asks again after a minute for an id that the
    registry does not know. If the registry cannot be reached, the query fails, because
    it is then unknown which records are bad.

    Args:
        records: a DataFrame, streaming or static, whose first column is the record
            (binary), such as that of `sources.kafka(…, binary=True)`. Its other columns
            are kept.
        schema: the columns to read, as a StructType or as DDL, each from the record's
            field of exactly the same name. Avro's `timestamp-millis` and
            `timestamp-micros` are read as TIMESTAMP, their local kinds as
            TIMESTAMP_NTZ, enums and uuids as STRING. An integer fits every numeric
            column that holds it exactly.
        schemas: a folder of schemas on the driver's machine, each in a file that is
            named by its id:
            `7.avsc`. It is read when this function is called, so a new file needs a
            restart.
        registry: the address of a schema registry, in place of a folder, such as
            "http://registry:8081" or "https://user:password@registry". It must answer
            `GET /schemas/ids/7`. Schemas that refer to other schemas cannot be read.

    Returns:
        The same columns as `parse_csv`: those of `schema` (all null in a bad row), then
        `_reason` (string; null in a good row), such as "unknown schema id" or "amount:
        not a decimal(12,2)", `_raw`, `_bytes` (the exact record, unless it is text and
        `_raw` holds it) and `_file`, then the other columns of `records`.

    Raises:
        InvalidInputError: the DDL cannot be read, Avro cannot hold a column's type, a
            column has a name that `parse_csv` refuses, the first column is not binary,
            not exactly one of `schemas` and `registry` is given, the folder does not
            exist or has no schema, a file is not a schema, or `registry` is not an
            address.
        MissingExtraError: fastavro is not installed.

    Examples:
        In a session::

            records = sources.kafka(spark, "localhost:9092", "payments", binary=True)
            rows = quarantine.parse_avro(records, PAYMENTS, registry="http://localhost:8081")
    """
    check(parse_avro, locals())
    need("quarantine.parse_avro", "avro", "fastavro")
    also = (*NESTED, T.BinaryType, T.TimestampNTZType)
    schema = schema_for(records, "Avro", schema, "use another type", also)
    first = shape_of(records).find(line_of(records))
    is_other = first is not None and is_known(first.dataType)
    if first and is_other and not isinstance(first.dataType, T.BinaryType):
        raise InvalidInputError(
            f"parse_avro() reads the first column, and {first.name} is"
            f" {first.dataType.simpleString()}, not binary; give sources.kafka(…,"
            " binary=True), with the record first"
        )
    if (schemas is None) == (registry is None):
        choice = "schemas='folder' or registry='http://host:8081'"
        raise InvalidInputError(f"parse_avro() takes {choice}; give one of them")
    if registry:
        decode = Decoder(schema, of_registry(registry))
    else:
        decode = Decoder(schema, in_folder(Path(str(schemas))))
    return parsed(records, schema, partial(_read_avro, decode=decode), "avro")


def _read_avro(
    frame: DataFrame, decode: Decoder
) -> tuple[DataFrame, Column, Column | None]:
    """Read the values of records; the result is that of a `Read` of `rows`."""
    result = T.StructType()
    for index, field in enumerate(decode.schema.fields):
        result.add(f"_v{index}", field.dataType)
    result.add("_why", T.StringType())
    decoded = F.udf(decode, result, useArrow=False)(F.col(RAW).cast("binary"))
    # A separate step: it decodes each record once
    frame = frame.select("*", decoded.alias("_read"))
    return frame.select("*", "_read.*"), F.col("_why"), None
