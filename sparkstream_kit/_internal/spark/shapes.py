"""Columns of a DataFrame, as Spark says or, where it may not be asked, as the plan shows.

A function of a pipeline (`pyspark.pipelines`) builds a plan, and Spark answers no
question there (`session.may_ask`). But the client of Spark Connect holds the plan, and
much can be read from it: the schema that a reader was given, the names that a step
gives, the watermarks. `shape_of` returns what is known; what is not known is left to
Spark.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyspark
from pyspark.sql import types as T

from sparkstream_kit._internal import ddl
from sparkstream_kit._internal.spark.session import may_ask, timestamp_type
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pyspark.sql import DataFrame

# EventTimeWatermark.delayKey: Spark's metadata of an event-time column
WATERMARK = "spark.watermarkDelayMs"
# The type of a column of which only the name is known
UNKNOWN = T.DataType()

_OF_FILES = ("csv", "json", "orc", "parquet", "text", "xml", "avro", "binaryfile")
_OF_KAFKA = (
    "key BINARY, value BINARY, topic STRING, partition INT, offset BIGINT, timestamp"
    " TIMESTAMP, timestampType INT"
)
_KAFKA_HEADERS = "headers ARRAY<STRUCT<key: STRING, value: BINARY>>"
_OF_RATE = "timestamp TIMESTAMP, value BIGINT"

# Steps with the columns of their input
_SAME_COLUMNS = {
    "collect_metrics",
    "deduplicate",
    "filter",
    "hint",
    "limit",
    "offset",
    "repartition",
    "repartition_by_expression",
    "sample",
    "sort",
    "subquery_alias",
}
# Steps through which a row keeps its hidden `_metadata`
_KEEP_FILE = {
    "collect_metrics",
    "drop",
    "filter",
    "project",
    "repartition",
    "subquery_alias",
    "with_columns",
    "with_columns_renamed",
    "with_watermark",
}
_PART_OF_NAME = re.compile(r"`((?:[^`]|``)*)`|([^.`]+)")
_ALL_BUT = re.compile(r"\* EXCEPT \((`(?:[^`]|``)*`(?:, `(?:[^`]|``)*`)*)\)")
_QUOTED = re.compile(r"`((?:[^`]|``)*)`")


@dataclass(frozen=True)
class Shape:
    """The columns of a DataFrame, as far as they are known.

    Attributes:
        parts: the columns in their order; None stands for any number of columns that
            are not known.
    """

    parts: tuple[T.StructField | None, ...] = (None,)

    @property
    def fields(self) -> list[T.StructField]:
        """The columns that are known; the type of one can be `UNKNOWN`."""
        return [part for part in self.parts if part is not None]

    @property
    def names(self) -> list[str]:
        """The names of the columns that are known."""
        return [field.name for field in self.fields]

    @property
    def is_whole(self) -> bool:
        """Whether these are all columns."""
        return None not in self.parts

    def first(self) -> str | None:
        """Return the name of the first column; None if it is not known."""
        if self.parts and self.parts[0] is not None:
            return self.parts[0].name
        return None

    def find(self, name: str) -> T.StructField | None:
        """Return a column that is known, by its name or one that differs in case alone."""
        same = [each for each in self.fields if each.name.lower() == name.lower()]
        exact = [each for each in same if each.name == name]
        found = exact or same
        return found[0] if found else None


def is_known(kind: T.DataType) -> bool:
    """Return whether a type in a shape is known."""
    return type(kind) is not T.DataType


def shape_of(frame: DataFrame) -> Shape:
    """Return the columns of a DataFrame: all of them, or those that its plan shows."""
    if may_ask(frame.sparkSession):
        return Shape(tuple(frame.schema.fields))
    return _shape(_relation(frame), timestamp_type(frame.sparkSession))


def streams(frame: DataFrame) -> bool | None:
    """Return whether a DataFrame streams; None if that is not known."""
    if may_ask(frame.sparkSession):
        return frame.isStreaming
    relation = _relation(frame)
    if any(read.is_streaming for read in _messages(relation, "Read")):
        return True
    is_in_sql = any(True for _ in _messages(relation, "SQL"))
    return None if is_in_sql else False


def refuse_table_of_pipeline(frame: DataFrame, call: str) -> None:
    """Refuse a table in a function of a pipeline, for a step that looks it up at once.

    Spark may not have made the table yet. If it has, by an earlier run, Spark would not
    know that the function needs the table.

    Raises:
        InvalidInputError: the DataFrame reads a table by its name.
    """
    table = table_of_pipeline(frame)
    if table is not None:
        raise InvalidInputError(
            f"{call}: in a function of a pipeline Spark takes no watermark for the"
            f" table {table}; read its source in this function, or, if the table is"
            f" not of the pipeline, call {call} above the function"
        )


def table_of_pipeline(frame: DataFrame) -> str | None:
    """Return the first table that a DataFrame reads in a function of a pipeline; else None."""
    if may_ask(frame.sparkSession):
        return None
    for read in _messages(_relation(frame), "Read"):
        if read.HasField("named_table"):
            return str(read.named_table.unparsed_identifier)
    return None


def counts_rows(frame: DataFrame, prefix: str) -> bool:
    """Return whether an observation with this prefix counts all rows, in a plan of Connect."""
    for step in _messages(_relation(frame), "CollectMetrics"):
        if not step.name.startswith(prefix):
            continue
        rows = step.metrics[0].alias.expr.unresolved_function
        counted = rows.arguments[0].literal
        counts_none = rows.function_name == "count_if" and not counted.boolean
        if not (counts_none and counted.HasField("boolean")):
            return True
    return False


def gives_file(frame: DataFrame) -> bool:
    """Return whether the rows of a plan of Connect have the file that they come from."""
    steps, source = _way_down(_relation(frame))
    if source is None:
        return False
    if "subquery_alias" in steps[:-1] and pyspark.__version__ < "4.2":
        return False
    return _format(source) in _OF_FILES


def text_below(frame: DataFrame) -> tuple[bool, list[str]]:
    """Return whether a plan of Connect reads text files, and the steps that mix their lines."""
    relation = _relation(frame)
    sources = [read.data_source for read in _messages(relation, "Read")]
    if not any(source.format.lower() == "text" for source in sources):
        return False, []
    steps, source = _way_down(relation)
    if source is None:
        return True, [steps[-1]]
    return True, []


def _way_down(relation: Any) -> tuple[list[str], Any]:
    """Return the steps above a source from which each row keeps its file, and the source.

    The source is None if another step comes first, which is then the last of the steps.
    """
    steps: list[str] = []
    while True:
        kind = relation.WhichOneof("rel_type")
        if kind == "read":
            return steps, relation.read
        if kind == "with_relations":
            relation = relation.with_relations.root
            continue
        steps.append(str(kind))
        shuffles = kind == "repartition" and relation.repartition.shuffle
        if kind not in _KEEP_FILE or shuffles:
            return steps, None
        relation = getattr(relation, kind).input


def _relation(frame: Any) -> Any:
    """Return the plan of a DataFrame of Spark Connect, as its client sends it."""
    return frame._plan.plan(frame.sparkSession.client)


def _format(read: Any) -> str:
    return str(read.data_source.format).lower()


def _messages(message: Any, name: str) -> Iterator[Any]:
    """Yield the parts of a plan that are of a kind, such as `Read`, from the last step on."""
    if message.DESCRIPTOR.name == name:
        yield message
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        parts = [value] if hasattr(value, "DESCRIPTOR") else value
        for each in parts:
            yield from _messages(each, name)


def _shape(relation: Any, timestamp: T.DataType) -> Shape:
    """Return what a plan of Connect shows of its columns."""
    kind = relation.WhichOneof("rel_type")
    if kind in _OF_SOURCES:
        return _OF_SOURCES[kind](getattr(relation, kind), timestamp)
    if kind in _SAME_COLUMNS:
        return _shape(getattr(relation, kind).input, timestamp)
    if kind in _OF_STEPS:
        step = getattr(relation, kind)
        return _OF_STEPS[kind](step, _shape(step.input, timestamp))
    return Shape()


def _read(read: Any, timestamp: T.DataType) -> Shape:
    """Return the columns of a source: those of its schema, and perhaps of its folders."""
    source = read.data_source
    kind = _format(read)
    text = source.schema
    has_folders = kind in _OF_FILES or not text
    if kind == "text" and not text:
        text = "value STRING"
    elif kind == "rate":
        text = _OF_RATE
        has_folders = False
    elif kind == "kafka":
        text = _OF_KAFKA
        has_folders = False
        options = {name.lower(): value for name, value in source.options.items()}
        if options.get("includeheaders", "").lower() == "true":
            text = f"{text}, {_KAFKA_HEADERS}"
    fields = _columns_in(text, timestamp)
    if fields is None or has_folders:
        return Shape((*(fields or ()), None))
    return Shape(tuple(fields))


def _columns_in(schema: str, timestamp: T.DataType) -> list[T.StructField] | None:
    """Return the columns of a schema as text, in JSON or DDL; None if it cannot be read."""
    if schema.startswith("{"):
        return T.StructType.fromJson(json.loads(schema)).fields
    with suppress(ddl.UnreadError):
        kind = ddl.read(schema, timestamp)
        if isinstance(kind, T.StructType):
            return kind.fields
    return None


def _local(local: Any, timestamp: T.DataType) -> Shape:
    fields = _columns_in(local.schema, timestamp)
    return Shape() if fields is None else Shape(tuple(fields))


def _range(_: Any, __: T.DataType) -> Shape:
    return Shape((T.StructField("id", T.LongType(), False),))


def _with_subqueries(step: Any, timestamp: T.DataType) -> Shape:
    return _shape(step.root, timestamp)


def _joined(join: Any, timestamp: T.DataType) -> Shape:
    left = _shape(join.left, timestamp)
    if join.join_type in (join.JOIN_TYPE_LEFT_ANTI, join.JOIN_TYPE_LEFT_SEMI):
        return left
    if join.using_columns:
        return Shape()
    return Shape((*left.parts, *_shape(join.right, timestamp).parts))


# By the name of a step in the protocol that has no input, or several: its columns
_OF_SOURCES: dict[str | None, Callable[[Any, T.DataType], Shape]] = {
    "join": _joined,
    "local_relation": _local,
    "range": _range,
    "read": _read,
    "with_relations": _with_subqueries,
}


def _selected(step: Any, below: Shape) -> Shape:
    return _with_expressions(step.expressions, below)


def _grouped(step: Any, below: Shape) -> Shape:
    if step.group_type == step.GROUP_TYPE_PIVOT:
        return Shape()
    expressions = [*step.grouping_expressions, *step.aggregate_expressions]
    return _with_expressions(expressions, below)


def _with_expressions(expressions: Iterable[Any], below: Shape) -> Shape:
    parts: list[T.StructField | None] = []
    for expression in expressions:
        parts += _parts(expression, below)
    return Shape(tuple(parts))


def _parts(expression: Any, below: Shape) -> Sequence[T.StructField | None]:
    """Return the columns that an expression of a select gives."""
    kind = expression.WhichOneof("expr_type")
    if kind == "unresolved_star" and not expression.unresolved_star.unparsed_target:
        return below.parts
    if kind == "expression_string":
        all_but = _ALL_BUT.fullmatch(expression.expression_string.expression)
        if all_but:
            names = [name.replace("``", "`") for name in _QUOTED.findall(all_but[1])]
            return _without(names, below).parts
    field = _field(expression, below)
    return [field]


def _field(expression: Any, below: Shape) -> T.StructField | None:
    """Return the column of an expression; None if its name is not known."""
    kind = expression.WhichOneof("expr_type")
    if kind == "unresolved_attribute":
        return _attribute(expression.unresolved_attribute.unparsed_identifier, below)
    if kind == "alias":
        return _alias(expression.alias, below)
    if kind == "cast":
        inner = _field(expression.cast.expr, below)
        if inner is None:
            return None
        return T.StructField(inner.name, _type(expression, below))
    if kind == "unresolved_function":
        return _window(expression.unresolved_function, below)
    return None


def _attribute(identifier: str, below: Shape) -> T.StructField | None:
    names = []
    for in_quotes, plain in _PART_OF_NAME.findall(identifier):
        names.append(in_quotes.replace("``", "`") or plain)
    if not names:
        return None
    is_in_struct = len(names) > 1 and below.find(names[0]) is not None
    found = None if is_in_struct else below.find(names[-1])
    if found is None:
        return T.StructField(names[-1], UNKNOWN)
    return T.StructField(names[-1], found.dataType, found.nullable, found.metadata)


def _alias(alias: Any, below: Shape) -> T.StructField | None:
    if len(alias.name) != 1:
        return None
    metadata = None
    if alias.metadata:
        metadata = json.loads(alias.metadata)
    else:
        inner = _field(alias.expr, below)
        if inner is not None and alias.expr.WhichOneof("expr_type") != "cast":
            metadata = inner.metadata
    return T.StructField(alias.name[0], _type(alias.expr, below), True, metadata)


def _window(function: Any, below: Shape) -> T.StructField | None:
    """Return the column of Spark's windows, which has the watermark of their time."""
    if function.function_name not in ("window", "session_window"):
        return None
    time = _field(function.arguments[0], below)
    kind: T.DataType = UNKNOWN
    metadata = None
    if time is not None:
        metadata = time.metadata
        if is_known(time.dataType) and not isinstance(time.dataType, T.StructType):
            kind = T.StructType().add("start", time.dataType).add("end", time.dataType)
    return T.StructField(function.function_name, kind, True, metadata)


def _type(expression: Any, below: Shape) -> T.DataType:
    """Return the type of an expression, or `UNKNOWN`."""
    kind = expression.WhichOneof("expr_type")
    if kind == "cast":
        return _type_of_cast(expression.cast)
    if kind == "literal":
        return _type_of_literal(expression.literal)
    if kind == "unresolved_function":
        function = expression.unresolved_function
        if function.function_name == "coalesce":
            return _first_known(function.arguments, below)
        if function.function_name == "when":
            # Conditions and values, and perhaps the value of otherwise
            return _first_known(function.arguments[1::2], below)
    field = _field(expression, below)
    return UNKNOWN if field is None else field.dataType


def _first_known(expressions: Iterable[Any], below: Shape) -> T.DataType:
    for each in expressions:
        kind = _type(each, below)
        if is_known(kind) and not isinstance(kind, T.NullType):
            return kind
    return UNKNOWN


def _type_of_cast(cast: Any) -> T.DataType:
    from pyspark.sql.connect.types import proto_schema_to_pyspark_data_type

    if cast.HasField("type"):
        return proto_schema_to_pyspark_data_type(cast.type)
    text = cast.type_str.strip()
    if text.upper() != "TIMESTAMP":  # which the session's settings decide
        with suppress(ddl.UnreadError):
            return ddl.read(text, UNKNOWN)
    return UNKNOWN


_LITERALS: dict[str, T.DataType] = {
    "boolean": T.BooleanType(),
    "double": T.DoubleType(),
    "integer": T.IntegerType(),
    "long": T.LongType(),
    "null": T.NullType(),
    "string": T.StringType(),
}


def _type_of_literal(literal: Any) -> T.DataType:
    return _LITERALS.get(str(literal.WhichOneof("literal_type")), UNKNOWN)


def _with_columns(step: Any, below: Shape) -> Shape:
    parts = list(below.parts)
    for alias in step.aliases:
        field = _alias(alias, below)
        if field is None:
            return Shape()
        places = [
            place
            for place, part in enumerate(parts)
            if part is not None and part.name.lower() == field.name.lower()
        ]
        if places:
            parts[places[0]] = field
        else:
            parts.append(field)
    return Shape(tuple(parts))


def _renamed(step: Any, below: Shape) -> Shape:
    new_names = {each.col_name.lower(): each.new_col_name for each in step.renames}
    parts: list[T.StructField | None] = []
    for part in below.parts:
        if part is not None and part.name.lower() in new_names:
            name = new_names[part.name.lower()]
            part = T.StructField(name, part.dataType, part.nullable, part.metadata)  # noqa: PLW2901 - renamed
        parts.append(part)
    return Shape(tuple(parts))


def _with_watermark(step: Any, below: Shape) -> Shape:
    delay = {WATERMARK: _milliseconds(step.delay_threshold)}
    parts: list[T.StructField | None] = []
    is_found = False
    for part in below.parts:
        if part is not None and part.name.lower() == step.event_time.lower():
            is_found = True
            metadata = {**part.metadata, **delay}
            part = T.StructField(part.name, part.dataType, part.nullable, metadata)  # noqa: PLW2901 - marked
        parts.append(part)
    if not is_found:
        parts.append(T.StructField(step.event_time, UNKNOWN, True, delay))
    return Shape(tuple(parts))


def _milliseconds(delay: str) -> int:
    """Return the delay of a watermark in milliseconds; 0 if it has no fixed length."""
    from sparkstream_kit._internal.durations import MICROSECONDS, to_microseconds

    with suppress(InvalidInputError):
        return to_microseconds("delay", delay) // MICROSECONDS["millisecond"]
    return 0


def _dropped(step: Any, below: Shape) -> Shape:
    names = list(step.column_names)
    for each in step.columns:
        field = _field(each, below)
        if field is not None:
            names.append(field.name)
    return _without(names, below)


def _without(names: Iterable[str], below: Shape) -> Shape:
    left_out = {name.lower() for name in names}
    return Shape(
        tuple(
            part
            for part in below.parts
            if part is None or part.name.lower() not in left_out
        )
    )


def _named(step: Any, below: Shape) -> Shape:
    names = list(step.column_names)
    kinds = [field.dataType for field in below.fields]
    if not below.is_whole or len(kinds) != len(names):
        kinds = [UNKNOWN] * len(names)
    pairs = zip(names, kinds, strict=True)
    return Shape(tuple(T.StructField(name, kind) for name, kind in pairs))


# By the name of any other step: its columns, from those of its input
_OF_STEPS: dict[str | None, Callable[[Any, Shape], Shape]] = {
    "aggregate": _grouped,
    "drop": _dropped,
    "project": _selected,
    "to_df": _named,
    "with_columns": _with_columns,
    "with_columns_renamed": _renamed,
    "with_watermark": _with_watermark,
}
