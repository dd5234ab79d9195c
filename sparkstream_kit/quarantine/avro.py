"""Extra: records of Avro after the id of their schema, as Confluent's serializers write them.

`parse_avro` is the public function; users find it in `sparkstream_kit.quarantine`. It
gives Spark's Python workers a `Decoder`, which decodes a record with the library
fastavro and checks each value against the type of its column. The records' schemas come
from a folder (`in_folder`), or from a schema registry (`connectors/_registry`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql import types as T

from sparkstream_kit._internal.arguments import check
from sparkstream_kit.connectors import need
from sparkstream_kit.connectors._registry.avros import parsed as parsed_schema
from sparkstream_kit.connectors._registry.avros import whole
from sparkstream_kit.connectors._registry.client import Schema
from sparkstream_kit.connectors._registry.client import of as registry_of
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.quarantine.decoded import (
    HEADER,
    MOST_SCHEMAS,
    BadError,
    UnfitError,
    instance_of,
    read_by,
    refuse_text,
    scalar,
)
from sparkstream_kit.quarantine.lines import NESTED, schema_for
from sparkstream_kit.quarantine.rows import not_a, parsed

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from sparkstream_kit.connectors._registry.client import Registry


@dataclass(frozen=True)
class Folder:
    """The schemas of a folder, which was read.

    Attributes:
        digest: a checksum of the schemas, which identifies them in the cache.
        known: the texts of the schemas by their ids.
    """

    digest: str
    known: dict[int, str] = dataclasses.field(
        default_factory=dict, repr=False, compare=False
    )

    def schema(self, number: int) -> Schema | None:
        """Return the schema with an id; None if there is no file of that name."""
        text = self.known.get(number)
        return None if text is None else Schema("AVRO", text)


def in_folder(folder: Path) -> Folder:
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
            parsed_schema(schema, {})
        except ValueError as err:
            raise InvalidInputError(
                f"schema {path} cannot be read: {err}; correct the file"
            ) from None
        schemas[int(path.stem)] = json.dumps(schema)
    if not schemas:
        fix = "name them 7.avsc and the like"
        raise InvalidInputError(
            f"schemas {folder}: no file there is named by the id of its schema; {fix}"
        )
    digest = hashlib.sha256(json.dumps(schemas, sort_keys=True).encode()).hexdigest()
    return Folder(digest, schemas)


def schema_by_id(number: int, schemas: Folder | Registry) -> tuple[Any, str | None]:
    """Look up a schema by its id in the folder or registry.

    Returns:
        The schema as fastavro has parsed it, and None; or None, and the reason why
        there is no schema.

    Raises:
        KitError: the registry cannot be reached, or answers with an error or without a
            schema.
    """
    found = schemas.schema(number)
    if found is None:
        return None, "unknown schema id"
    schema = _readable(schemas, found)
    if schema is None:
        return None, "a schema that cannot be read"
    return schema, None


@lru_cache(MOST_SCHEMAS)
def _readable(_: Folder | Registry, found: Schema) -> Any:
    """Return a schema as fastavro has parsed it, once in a process; None if it is not Avro.

    Two registries can have the same text with other schemas behind its references.
    """
    try:
        return whole(found)
    except ValueError:
        return None


@dataclass(frozen=True)
class Decoder:
    """Decodes a record in a Python UDF, to its columns or to the reason why it is bad.

    Attributes:
        schema: the columns to read, each from the record's field of the same name.
        schemas: where the records' schemas come from.
    """

    schema: T.StructType
    schemas: Folder | Registry

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
        except BadError as err:
            nulls = [None] * len(self.schema)
            return (*nulls, str(err))

    def _read(self, record: bytes | None) -> dict[str, Any]:
        import fastavro

        if record is None:
            raise BadError("no value")
        if len(record) < HEADER or record[0] != 0:
            raise BadError("not Avro with a schema id")
        number = int.from_bytes(record[1:HEADER], "big")
        schema, why = schema_by_id(number, self.schemas)
        if why is not None:
            raise BadError(why)
        content = io.BytesIO(record[HEADER:])
        try:
            value = fastavro.schemaless_reader(content, schema, None)
        except Exception:  # noqa: BLE001 - bytes of any kind raise errors of any kind
            raise BadError("not valid for its schema") from None
        if content.read():
            raise BadError("not valid for its schema")
        if not isinstance(value, dict):
            raise BadError("not a record with fields")
        return value

    def _typed(self, record: dict[str, Any]) -> list[Any]:
        values = []
        for field in self.schema.fields:
            value = record.get(field.name)
            if value is None and not field.nullable:
                raise BadError(f"{field.name}: missing")
            try:
                values.append(_fitted(value, field.dataType))
            except UnfitError:
                raise BadError(f"{field.name}: {not_a(field.dataType)}") from None
        return values


def _fitted(value: Any, kind: T.DataType, nullable: bool = True) -> Any:
    """Convert a value that fastavro has decoded to one that Spark accepts for a column of a type.

    Raises:
        UnfitError: the value is not of that type, or does not fit into it exactly.
    """
    if value is None:
        if not nullable:
            raise UnfitError
        return None
    if isinstance(kind, T.StructType):
        record = instance_of(value, dict)
        return {
            field.name: _fitted(record.get(field.name), field.dataType, field.nullable)
            for field in kind
        }
    if isinstance(kind, T.ArrayType):
        return [
            _fitted(element, kind.elementType, kind.containsNull)
            for element in instance_of(value, list)
        ]
    if isinstance(kind, T.MapType):
        return {
            key: _fitted(inner, kind.valueType, kind.valueContainsNull)
            for key, inner in instance_of(value, dict).items()
        }
    return scalar(value, kind)


def parse_avro(
    records: DataFrame,
    schema: T.StructType | str,
    *,
    schemas: str | Path | None = None,
    registry: Registry | str | None = None,
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
    registry does not know. A registry that is away is asked again for a minute (`wait`
    of `schemas.registry`). After that the query fails, because it is then unknown which
    records are bad.

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
        registry: a schema registry, in place of a folder, from `schemas.registry`, or
            its address, such as "http://registry:8081" or
            "https://user:password@registry". It must answer `GET /schemas/ids/7`, and,
            for a schema that refers to others, `GET /subjects/NAME/versions/1`.

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
    refuse_text("parse_avro", records)
    if (schemas is None) == (registry is None):
        choice = "schemas='folder' or registry='http://host:8081'"
        raise InvalidInputError(f"parse_avro() takes {choice}; give one of them")
    if registry is not None:
        decode = Decoder(schema, registry_of(registry))
    else:
        decode = Decoder(schema, in_folder(Path(str(schemas))))
    return parsed(
        records, schema, partial(read_by, decode=decode, schema=schema), "avro"
    )
