"""Extra: formats of Kafka's records with a schema registry: Avro, and JSON with a schema.

`avro` and `json_schema` describe a format, which `sinks.kafka` takes as `key` and
`value`. At the start of a query it makes the schema of the columns and asks the
registry (`records.Format`); then the columns become records in Confluent's format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparkstream_kit._internal.arguments import check
from sparkstream_kit.connectors import need
from sparkstream_kit.connectors._registry import client
from sparkstream_kit.formats import avro_records as of_avro
from sparkstream_kit.formats import json_records as of_json
from sparkstream_kit.formats.records import Format

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sparkstream_kit.connectors._registry.client import Registry

__all__ = ["avro", "json_schema"]


def avro(
    registry: Registry | str,
    *,
    columns: Sequence[str] | str | None = None,
    subject: str | None = None,
    schema: str | None = None,
    register: bool = True,
    name: str | None = None,
) -> Format:
    """Write rows to Kafka as Avro with a schema registry, in Confluent's format.

    A record is a zero byte, the id of its schema in four bytes, and the value in Avro's
    binary encoding, as Confluent's serializers write it. The schema is made of the
    columns:

    - BYTE, SHORT and INT are `int`, BIGINT is `long`, and DECIMAL is `bytes` with its
      digits (logical type `decimal`).
    - TIMESTAMP is `timestamp-micros`, TIMESTAMP_NTZ is `local-timestamp-micros`, DATE is
      `date`.
    - A column that may be null is a union with null, and null is its default.
    - A struct is a record. Avro has maps with keys of text only, and no intervals and
      VARIANT.

    When a query starts, the schema is looked up in its subject. If it is not there, the
    registry is asked whether the change breaks readers; if it does, the query does not
    start, and nothing is written or registered. Otherwise the schema is registered.
    With the same columns a restart registers nothing.

    The Python workers encode the values; they need the extras `avro` and `kafka`
    (fastavro, pyarrow). If the records go to several topics (`to=` of `sinks.kafka`),
    all have the one schema of `subject`; no schema is registered for the other topics,
    as readers find it by its id.

    Args:
        registry: the registry, as `schemas.registry` returns it, or its address.
        columns: a list of the columns that are the fields of the record. One name
            that is not in a list: the value of this column is the whole record, and for
            null the record has no value: it is a tombstone (as a key, no key). Default,
            for `value` only: all columns, without those of `partition`, `headers` and
            `to`.
        subject: the subject of the schema. Default: `TOPIC-key` or `TOPIC-value`.
        schema: the schema, as JSON. The columns must fit it exactly; its fields with a
            default need no column. It refers to no other schemas. Default: made of the
            columns.
        register: register a schema that is not there yet. With False and without
            `schema`, the newest schema of the subject is taken, which the columns must
            fit; with `schema`, that one must be registered.
        name: the full name of the record in a schema that is made, such as
            "shop.Total". Default: from the topic, such as `totals_value`.

    Raises:
        InvalidInputError: the address is none. When the query starts: a column does not
            exist, Avro or the schema cannot hold it, or the registry refuses the
            schema.
        MissingExtraError: fastavro, pandas or pyarrow is not installed.

    Examples:
        >>> avro("http://localhost:8081", columns="product").register
        True
    """
    check(avro, locals())
    need("formats.avro", "avro", "fastavro")
    need("formats.avro", "kafka", "pandas", "pyarrow")
    if schema is not None:
        of_avro.parsed(schema)
    of = client.of(registry)
    return Format("AVRO", of, _columns(columns), subject, schema, register, name)


def json_schema(
    registry: Registry | str,
    *,
    columns: Sequence[str] | str | None = None,
    subject: str | None = None,
    schema: str | None = None,
    register: bool = True,
    name: str | None = None,
) -> Format:
    """Write rows to Kafka as JSON with a JSON Schema in a registry, in Confluent's format.

    A record is a zero byte, the id of its schema in four bytes, and JSON, as
    Confluent's serializers write it. The schema (draft 7) is made of the columns:

    - Whole numbers are `integer`; DECIMAL, DOUBLE and FLOAT are `number`. Decimals are
      written with all digits, of which readers that make doubles of numbers keep 15.
    - TIMESTAMP is a text with microseconds and offset, DATE and TIMESTAMP_NTZ are
      texts, and bytes are Base64.
    - A column that may be null is `oneOf` null and its type; the others are required.
    - JSON has maps with keys of text only, and no intervals. NaN and Infinity, which
      JSON lacks, end the query.

    Spark's own functions write the JSON. The registry, the subject, the check of a
    change, several topics and tombstones are as for `avro`.

    Args:
        registry: the registry, as `schemas.registry` returns it, or its address.
        columns: as for `avro`.
        subject: the subject of the schema. Default: `TOPIC-key` or `TOPIC-value`.
        schema: the schema, as JSON. The types of the columns must fit it; words such as
            `pattern` and `minimum` are not checked. Default: made of the columns.
        register: as for `avro`.
        name: the title of a schema that is made. Default: from the topic, such as
            `totals_value`.

    Raises:
        InvalidInputError: as for `avro`.

    Examples:
        >>> json_schema("http://localhost:8081", columns=["product", "total"]).columns
        ('product', 'total')
    """
    check(json_schema, locals())
    if schema is not None:
        of_json.parsed(schema)
    of = client.of(registry)
    return Format("JSON", of, _columns(columns), subject, schema, register, name)


def _columns(given: Sequence[str] | str | None) -> str | tuple[str, ...] | None:
    if given is None or isinstance(given, str):
        return given
    return tuple(given)
