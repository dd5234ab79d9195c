"""What is in a topic of Kafka, as `sparkstream schema --topic` says it, and how to read it.

`newest` reads a few records, `examined` says what each of them is, and `described` adds
the columns and the code that reads them.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit import schemas
from sparkstream_kit.connectors import need
from sparkstream_kit.connectors._registry.protos import Messages, compiled, indexes
from sparkstream_kit.connectors.kafka import brokers
from sparkstream_kit.connectors.kafka.source import check_topics
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.quarantine.decoded import HEADER
from sparkstream_kit.schemas.registered import PARSERS, columns_of, merged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import SparkSession

    from sparkstream_kit.connectors._registry.client import Registry, Schema

_OF_REGISTRY = {
    "AVRO": "Avro",
    "PROTOBUF": "Protobuf",
    "JSON": "JSON with a schema id",
}
_TOMBSTONE = "tombstones"
_UNKNOWN = "with a schema id that the registry does not know"
_UNASKED = "with a schema id"
_JSON = "JSON"
_TEXT = "text"
_BYTES = "other bytes"
# What a parser reads
_READABLE = {*_OF_REGISTRY.values(), _JSON}
_IS_TEXT = {"\t", "\n", "\r"}  # beside printable signs
# Of a source of Kafka, beside the record
_KAFKAS = ("key", "topic", "partition", "offset", "timestamp", "headers")


class Kind(NamedTuple):
    """What a record is.

    Attributes:
        name: in words, such as "Avro".
        number: the id of its schema; None if it has none.
        message: of Protobuf, the full name of its message.
    """

    name: str
    number: int | None = None
    message: str | None = None


@dataclass(frozen=True)
class Described:
    """What is in a topic.

    Attributes:
        topic: its name.
        records: how many records have been looked at.
        values: how many of their values are of each kind, by its name, the most first.
        keys: the same of their keys; null is none.
        ids: the ids of the schemas of the values of each kind that has them, in order.
        schema: the columns, as Spark writes them in JSON; None if the records are none
            of rows.
        code: Python's code that reads them.
        remarks: what is left out of the columns, with the reasons.
    """

    topic: str
    records: int
    values: dict[str, int]
    keys: dict[str, int]
    ids: dict[str, list[int]]
    schema: object
    code: str
    remarks: list[str]


class Place(NamedTuple):
    """Where a topic is, and how its reader is written.

    Attributes:
        servers: the addresses of the brokers.
        topic: the topic's name.
        options: further options of the source.
        registry: the registry; None without one.
        registry_code: Python's code that makes the registry.
        options_code: Python's code for each of the options.
    """

    servers: str
    topic: str
    options: dict[str, str]
    registry: Registry | None
    registry_code: str
    options_code: dict[str, str]


def newest(
    spark: SparkSession, place: Place, most: int
) -> list[tuple[bytes | None, bytes | None]]:
    """Return the keys and values of a topic's newest records, the newest first.

    Args:
        spark: the session, with Kafka's connector.
        place: the topic.
        most: how many records at most.

    Raises:
        InvalidInputError: on Spark Connect; or no broker answers, the log-in fails, or
            there is no such topic.
    """
    if not brokers.can_ask(spark):
        raise InvalidInputError(
            "schema --topic: on Spark Connect Kafka cannot be asked for the newest records;"
            " unset SPARK_REMOTE"
        )
    options = {
        "kafka.isolation.level": "read_committed",
        **place.options,
        "kafka.bootstrap.servers": place.servers,
    }
    with brokers.client(spark, options) as client:
        [topic] = check_topics(client, place.servers, [place.topic]).values()
        parts = [(place.topic, number) for number in topic.partitions]
        first = client.earliest(parts)
        end = client.latest(parts)
    begin = {}
    until = {}
    for part in parts:
        begin[part[1]] = max(first[part], end[part] - most)
        until[part[1]] = end[part]
    records = (
        spark.read.format("kafka")
        .options(**options)
        .option("subscribe", place.topic)
        .option("startingOffsets", json.dumps({place.topic: begin}))
        .option("endingOffsets", json.dumps({place.topic: until}))
        .option("failOnDataLoss", "false")
        .load()
    )
    last = records.orderBy(F.desc("timestamp"), F.desc("offset")).limit(most)
    rows = last.select("key", "value").collect()
    return [(_bytes(row.key), _bytes(row.value)) for row in rows]


def _bytes(value: bytearray | None) -> bytes | None:
    return None if value is None else bytes(value)


class Examiner:
    """Says what records are.

    Args:
        registry: knows the schemas of the ids; None without one.
    """

    def __init__(self, registry: Registry | None) -> None:
        self._registry = registry
        self._messages: dict[int, Messages] = {}
        self.schemas: dict[int, Schema] = {}

    def kind_of(self, record: bytes | None) -> Kind:
        """Return what a key or a value is.

        Examples:
            >>> Examiner(None).kind_of(b'{"n": 1}').name
            'JSON'
            >>> Examiner(None).kind_of(b"1,2").name
            'text'
        """
        if record is None:
            return Kind(_TOMBSTONE)
        if len(record) >= HEADER and record[0] == 0:
            return self._with_id(record)
        if is_object(record):
            return Kind(_JSON)
        try:
            text = record.decode()
        except UnicodeDecodeError:
            return Kind(_BYTES)
        is_text = all(sign.isprintable() or sign in _IS_TEXT for sign in text)
        return Kind(_TEXT if is_text else _BYTES)

    def _with_id(self, record: bytes) -> Kind:
        number = int.from_bytes(record[1:HEADER], "big")
        if self._registry is None:
            is_json = is_object(record[HEADER:])
            return Kind(_OF_REGISTRY["JSON"] if is_json else _UNASKED, number)
        schema = self._registry.schema(number)
        if schema is None:
            return Kind(_UNKNOWN, number)
        self.schemas[number] = schema
        if schema.kind != "PROTOBUF":
            return Kind(_OF_REGISTRY.get(schema.kind, schema.kind), number)
        return Kind(_OF_REGISTRY["PROTOBUF"], number, self._message(number, record))

    def _message(self, number: int, record: bytes) -> str | None:
        need("schema --topic", "protobuf", "google.protobuf", "grpc_tools")
        try:
            if number not in self._messages:
                self._messages[number] = Messages(compiled(self.schemas[number]))
            places, _ = indexes(record, HEADER)
            return self._messages[number].by_index(places)
        except (ValueError, LookupError):
            return None  # a bad record


def is_object(text: bytes) -> bool:
    """Return whether bytes are an object of JSON."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def described(
    spark: SparkSession,
    place: Place,
    records: Sequence[tuple[bytes | None, bytes | None]],
    message: str | None = None,
) -> Described:
    """Say what records are, which columns they have, and how they are read.

    Args:
        spark: the session.
        place: the topic.
        records: keys and values, the newest first.
        message: of Protobuf, the message to read; None for the one of most records.

    Raises:
        InvalidInputError: there are no records, their schemas cannot be read, or a
            registry is needed for it.
    """
    where = f"topic {place.topic} at {place.servers}"
    if not records:
        raise InvalidInputError(
            f"{where} has no records; write some, or give --registry URL"
            f" {place.topic}-value in place of --topic"
        )
    examiner = Examiner(place.registry)
    kinds = [examiner.kind_of(value) for _, value in records]
    values = Counter(kind.name for kind in kinds)
    keys = Counter(examiner.kind_of(key).name for key, _ in records if key is not None)
    ids = {name: _ids(kinds, name) for name in values if _ids(kinds, name)}
    name = next((name for name, _ in values.most_common() if name in _READABLE), None)
    if name is None and values[_UNASKED]:
        numbers = ", ".join(map(str, ids[_UNASKED]))
        raise InvalidInputError(
            f"{where}: its records have the schema ids {numbers}; give --registry URL,"
            " which knows these schemas"
        )
    reading = None
    if name is not None:
        chosen = [kind for kind in kinds if kind.name == name]
        if name == _JSON or place.registry is None:
            texts = [
                value[0 if name == _JSON else HEADER :]
                for kind, (_, value) in zip(kinds, records, strict=True)
                if kind.name == name and value is not None
            ]
            reading = _of_texts(spark, texts, has_header=name != _JSON)
        else:
            reading = _of_schemas(examiner.schemas, chosen, where, message)
    return Described(
        topic=place.topic,
        records=len(records),
        values=dict(values.most_common()),
        keys=dict(keys.most_common()),
        ids=ids,
        schema=None if reading is None else reading.schema.jsonValue(),
        code=_code(place, reading, is_text=_TEXT in values),
        remarks=[] if reading is None else reading.remarks,
    )


def _ids(kinds: Sequence[Kind], name: str) -> list[int]:
    """Return the ids of the schemas of one kind of records, in order."""
    found = {kind.number for kind in kinds if kind.name == name}
    return sorted(number for number in found if number is not None)


class _Reading(NamedTuple):
    """How records become rows.

    Attributes:
        schema: the columns.
        call: the parser of `quarantine`.
        more: its arguments after the columns.
        is_binary: whether it takes records, and not lines.
        remarks: what is left out of the columns, with the reasons.
    """

    schema: T.StructType
    call: str
    more: str
    is_binary: bool
    remarks: list[str]


def _of_schemas(
    known: Mapping[int, Schema], chosen: Sequence[Kind], where: str, message: str | None
) -> _Reading:
    """Return how records of schemas in a registry are read, which are of one kind."""
    names = Counter(kind.message for kind in chosen if kind.message)
    wanted = message
    if wanted is None and names:
        wanted = names.most_common(1)[0][0]
    found: list[T.StructType] = []
    remarks: list[str] = []
    # The newest first
    for number in sorted({each.number or 0 for each in chosen}, reverse=True):
        of_one = columns_of(known[number], f"id {number} in {where}", wanted)
        found.append(of_one.schema)
        remarks += of_one.remarks
    schema, differences = merged(found)
    more = "registry=registry"
    if message is not None or len(names) > 1:
        more += f", message={_quoted(str(wanted))}"
    call = PARSERS[known[chosen[0].number or 0].kind]
    every = list(dict.fromkeys(remarks + differences))
    return _Reading(schema, call, more, True, every)


def _of_texts(
    spark: SparkSession, texts: Sequence[bytes], *, has_header: bool
) -> _Reading:
    """Return how records of JSON are read, whose columns Spark infers."""
    with tempfile.TemporaryDirectory(prefix="sparkstream-topic-") as folder:
        lines = [text.replace(b"\n", b" ").replace(b"\r", b" ") for text in texts]
        file = Path(folder, "records.json")
        file.write_bytes(b"\n".join(lines))
        schema = schemas.infer(spark, file, format="json")
    more = "header=True" if has_header else ""
    return _Reading(schema, PARSERS["JSON"], more, has_header, [])


def _code(place: Place, reading: _Reading | None, *, is_text: bool) -> str:
    """Return Python's code that reads the records of a topic.

    Args:
        place: the topic.
        reading: how the records become rows; None if they are read as they are.
        is_text: whether there is text among such records.
    """
    has_registry = reading is not None and "registry" in reading.more
    is_binary = not is_text if reading is None else reading.is_binary
    name = "records" if is_binary else "lines"
    words = ["spark", _quoted(place.servers), _quoted(place.topic)]
    if is_binary:
        words.append("binary=True")
    if place.options_code:
        pairs = [
            f"{_quoted(key)}: {value}" for key, value in place.options_code.items()
        ]
        words.append(f"**{{{', '.join(pairs)}}}")
    source = f"sources.kafka({', '.join(words)})"
    names = ["get_session", "sources"]
    rest = [f"{name} = {source}"]
    if reading is not None:
        columns = {column.lower() for column in reading.schema.names}
        both = [_quoted(each) for each in _KAFKAS if each in columns]
        if both:
            # Their names are those of columns
            rest.append(f"{name} = {name}.drop({', '.join(both)})")
        words = [name, "SCHEMA", *filter(None, [reading.more])]
        rest.append(f"rows = quarantine.{reading.call}({', '.join(words)})")
        names.append("quarantine")
    lines = []
    if has_registry:
        names.append("schemas")
        rest.insert(0, f"registry = {place.registry_code}")
    if "os.environ" in "".join(rest):
        lines += ["import os", ""]
    lines += [f"from sparkstream_kit import {', '.join(sorted(names))}", ""]
    if reading is not None:
        lines.append(schemas.to_code(reading.schema))
    session = _quoted(place.topic)
    lines.append(f'spark = get_session({session}, connectors=["kafka"])')
    return "\n".join([*lines, *rest, ""])


def said(found: Described) -> str:
    """Return what is in a topic as comments of Python, which stand above the code."""
    lines = [f"topic {found.topic}, its newest records: {found.records}"]
    for name, count in found.values.items():
        ids = ", ".join(map(str, found.ids.get(name, [])))
        lines.append(f"  {name}{ids and f' (schema ids {ids})'}: {count}")
    keys = [f"{name}: {count}" for name, count in found.keys.items()]
    lines.append(f"keys: {', '.join(keys) or 'none'}")
    return "".join(f"# {line}\n" for line in lines)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
