"""Extra: what rows become in a format with a schema registry.

`Format` is what a user describes with `formats.avro` or `formats.json_schema`.
`Format.ready` is called once at the start of a query; it returns `Records`, which make
the column of records in each batch.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._internal.columns import column, refuse_twice
from sparkstream_kit.connectors._registry import client
from sparkstream_kit.connectors._registry.avros import text_of, whole
from sparkstream_kit.errors import InvalidInputError, reject_unknown
from sparkstream_kit.formats import avro_records as of_avro
from sparkstream_kit.formats import json_records as of_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import Column, DataFrame

    from sparkstream_kit.connectors._registry.client import Registry

_NO_ID = 0  # of a schema that a dry run does not register
_CALLS = {"AVRO": "formats.avro()", "JSON": "formats.json_schema()"}


@dataclass(frozen=True)
class Format:
    """A format of records, and their schema in a registry; `avro` and `json_schema` make one.

    Attributes:
        kind: "AVRO" or "JSON".
        registry: the registry.
        columns: one column, whose value is the record; several, which are its fields;
            None for all.
        subject: the subject of the schema; None for `TOPIC-key` or `TOPIC-value`.
        schema: the text of the schema; None to make it of the columns.
        register: register the schema if it is not there yet.
        name: the name of the record; None for one with the topic's name in it.
    """

    kind: str
    registry: Registry
    columns: str | tuple[str, ...] | None = None
    subject: str | None = None
    schema: str | None = field(default=None, repr=False)
    register: bool = True
    name: str | None = None

    def ready(
        self,
        frame: DataFrame,
        topic: str,
        part: str,
        without: Sequence[str] = (),
        *,
        makes: bool = True,
    ) -> Records:
        """Make or check the schema of a query's columns, and ask the registry for its id.

        Args:
            frame: the query's DataFrame.
            topic: the topic of the records.
            part: "key" or "value".
            without: columns that are no field if `columns` does not name them.
            makes: register the schema if it may be; if False, as in a dry run, only
                check that the registry would take it. The records then have no id, and
                must not be written.

        Raises:
            InvalidInputError: a column does not exist, the format cannot hold it, it
                does not fit the schema, the schema is not registered, or its change
                breaks readers.
            KitError: the registry cannot be reached, or answers with an error.
        """
        fields = self._fields(frame, part, without)
        is_bare = isinstance(self.columns, str)
        kind = fields[0].dataType if is_bare else T.StructType(fields)
        name = self.name or re.sub(
            r"\W|^(?=\d)", "_", f"{topic}_{part}", flags=re.ASCII
        )
        subject = self.subject or f"{topic}-{part}"
        schema = self._schema(kind, name, subject, fields[0].name if is_bare else "")
        number = self._id(subject, schema, makes=makes)
        text = schema.text
        if self.kind == "AVRO":
            text = text_of(whole(schema))
        names = tuple(field.name for field in fields)
        return Records(self.kind, names, is_bare, kind, number, text)

    def _fields(
        self, frame: DataFrame, part: str, without: Sequence[str]
    ) -> list[T.StructField]:
        call = _CALLS[self.kind]
        known = {field.name: field for field in frame.schema.fields}
        names: list[str]
        if self.columns is None:
            if part == "key":
                raise InvalidInputError(
                    f"sinks.kafka(): key={call} does not say which columns are the key;"
                    " give columns='product' or columns=['shop', 'product']"
                )
            names = [name for name in frame.columns if name not in without]
        elif isinstance(self.columns, str):
            names = [self.columns]
        else:
            names = list(self.columns)
        reject_unknown(f"column of {call}", names, known)
        refuse_twice(f"{call}: column", names)
        if not names:
            raise InvalidInputError(f"{call}: a record has no column; give columns=")
        return [known[name] for name in names]

    def _schema(
        self, kind: T.DataType, name: str, subject: str, where: str
    ) -> client.Schema:
        """Return the schema of the records: given, the newest of the subject, or made."""
        if self.schema is not None:
            schema = client.Schema(self.kind, self.schema)
        elif not self.register:
            newest = self.registry.latest(subject)
            if newest is None:
                raise InvalidInputError(self._unregistered(subject))
            schema = newest
        elif self.kind == "AVRO":
            made = of_avro.schema_of(kind, name, where)
            return client.Schema(self.kind, json.dumps(made))
        else:
            return client.Schema(self.kind, json.dumps(of_json.schema_of(kind, name)))
        if schema.kind != self.kind:
            raise InvalidInputError(
                f"{_CALLS[self.kind]}: the schema of subject {subject} of"
                f" {self.registry.place} is of the kind {schema.kind}; use the format of"
                " that name, or give another subject="
            )
        if self.kind == "AVRO":
            imported = {key: each.text for key, each in schema.imported().items()}
            of_avro.check_fits(of_avro.parsed(schema.text, imported), kind, where=where)
        else:
            of_json.check_fits(of_json.parsed(schema.text), kind, where=where)
        return schema

    def _id(self, subject: str, schema: client.Schema, *, makes: bool) -> int:
        """Return the id of a schema, which is registered if it may be.

        Raises:
            InvalidInputError: it is not registered and may not be, or its change breaks
                readers.
        """
        if schema.id is not None:
            return schema.id
        number = self.registry.look_up(subject, schema)
        if number is not None:
            return number
        if not self.register:
            raise InvalidInputError(self._unregistered(subject))
        breaks = self.registry.compatible(subject, schema)
        if breaks:
            former = self.registry.latest(subject)
            changed = changes(former.text if former else "", schema.text)
            raise InvalidInputError(
                f"{_CALLS[self.kind]}: the schema of the columns breaks readers of"
                f" subject {subject} of {self.registry.place}: {changed}"
                f" {' '.join(breaks[0].split())}; change the columns, or the subject's"
                " compatibility"
            )
        if not makes:
            return _NO_ID
        return self.registry.register(subject, schema)

    def _unregistered(self, subject: str) -> str:
        return (
            f"{_CALLS[self.kind]}: subject {subject} of {self.registry.place} does not"
            " have the schema, and register=False; register it there, or leave"
            " register out"
        )


def changes(former: str, new: str) -> str:
    """Say which fields differ between two schemas of records, for a message.

    Examples:
        >>> old = '{"fields": [{"name": "a", "type": "int"}, {"name": "b", "type": "int"}]}'
        >>> new = '{"fields": [{"name": "a", "type": "long"}, {"name": "c", "type": "int"}]}'
        >>> changes(old, new)
        '(field a is changed, field b is gone, field c is new)'
    """
    before = _fields_of(former)
    after = _fields_of(new)
    found = []
    for name, kind in before.items():
        if name not in after:
            found.append(f"field {name} is gone")
        elif after[name] != kind:
            found.append(f"field {name} is changed")
    found += [f"field {name} is new" for name in after if name not in before]
    if not found:
        return "(no field differs)"
    return f"({', '.join(found)})"


def _fields_of(text: str) -> dict[str, Any]:
    """Return the types of a schema's fields, by name; none if it is not one of records."""
    try:
        schema = json.loads(text)
    except ValueError:
        return {}
    if not isinstance(schema, dict):
        return {}
    if "properties" in schema:
        return dict(schema["properties"])
    return {each["name"]: each["type"] for each in schema.get("fields", ())}


@dataclass(frozen=True)
class Records:
    """What rows become, once the registry has given the id of their schema.

    Attributes:
        kind: "AVRO" or "JSON".
        columns: the columns.
        is_bare: whether the value of the one column is the record, so that null is no
            record; else the columns are the fields of a record.
        type: the type of the record.
        number: the id of the schema.
        text: the schema, in which what it refers to is defined where it comes first.
    """

    kind: str
    columns: tuple[str, ...]
    is_bare: bool
    type: T.DataType
    number: int
    text: str = field(repr=False)

    def column(self) -> Column:
        """Return the column of records (binary), in Confluent's format."""
        columns = [column(name) for name in self.columns]
        value = columns[0]
        if not self.is_bare:
            named = zip(columns, self.columns, strict=True)
            value = F.struct(*(each.alias(name) for each, name in named))
        if self.kind == "JSON":
            header = F.lit(b"\0" + self.number.to_bytes(4, "big"))
            return F.concat(header, of_json.json_of(value, self.type))
        return _encoded(of_avro.Encoder(self.number, self.text), value)


def _encoded(encoder: of_avro.Encoder, value: Column) -> Column:
    """Return a column that an encoder makes of a column, in Python workers."""
    import pyarrow as pa
    from pyspark.sql.pandas.functions import arrow_udf

    def encode(values: Any) -> Any:
        return encoder(values)

    # By which Spark knows what to call it with
    encode.__annotations__.update({"values": pa.Array, "return": pa.Array})
    to_udf: Any = arrow_udf  # its overloads name no function that makes bytes
    encoded: Column = to_udf(encode, "binary")(value)
    return encoded
