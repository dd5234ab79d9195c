"""Records of Avro with the id of their schema before them, as Confluent's serializers write them."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._arguments import check
from sparkstream_kit._columns import column
from sparkstream_kit.errors import InvalidInputError, MissingExtraError
from sparkstream_kit.quarantine._avro_schemas import in_folder, of_registry
from sparkstream_kit.quarantine._avro_values import Decoder
from sparkstream_kit.quarantine.rows import RAW, check_type, parsed
from sparkstream_kit.schemas import from_ddl

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

__all__ = ["parse_avro"]

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

    Example:
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
