"""Thin: columns by their names, whatever is in a name, their types, and their watermarks.

`column` and `quoted` refer to a column whose name has dots or backticks, and `number`
converts one of text. `find_column`, `refuse_taken` and `event_time` check a caller's
columns and raise an error that suggests the fix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit.errors import InvalidInputError, hint, no_timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pyspark.sql import SparkSession

    from sparkstream_kit._internal.spark.shapes import Shape

# The prefixes of the observations of `quarantine`: counts of parsed rows, of files
# without a header, and of broken rules. `progress` finds them by these.
OBSERVED = "sparkstream_quarantine"
HEADERS = "sparkstream_headers"
RULES = "sparkstream_rules"
# Time zones without daylight saving time. Most sessions have one of them, and there
# every local time exists.
STEADY = ("UTC", "Etc/UTC", "GMT", "Z", "+00:00")
# A whole row, for a moment
_ROW = "sparkstream_row"
# Texts that a cast takes for numbers: Java's 1d, 1f and 0x1p3
_JAVA_FLOAT = r"(?i)[\d.][df]\s*$|0x"


def quoted(name: str) -> str:
    """Quote a name for Spark's SQL, so that a dot in it does not select a field.

    Examples:
        >>> quoted("a.b")
        '`a.b`'
    """
    return "`" + name.replace("`", "``") + "`"


def column(name: str) -> Column:
    """Return a column by its name, which may contain any characters."""
    return F.col(quoted(name))


def all_but(names: Iterable[str]) -> Column:
    """Return all columns of a frame but these, which it must have, for its `select`.

    Spark can do this for a table of a pipeline, too, where `drop` fails.
    """
    return F.expr(f"* EXCEPT ({', '.join(map(quoted, names))})")


def without(frame: DataFrame, names: Sequence[str]) -> DataFrame:
    """Return a frame without some columns, of which it may have a part only.

    The frame can be a table of a pipeline: see `with_column`.
    """
    from sparkstream_kit._internal.spark import shapes

    shape = shapes.shape_of(frame)
    if shape.is_whole:
        present = [name for name in names if name in shape.names]
        return frame.select(all_but(present))
    if shapes.table_of_pipeline(frame) is None:
        return frame.drop(*names)
    row = F.struct("*").dropFields(*map(quoted, names))
    return frame.select(row.alias(_ROW)).select(f"{_ROW}.*")


def with_column(frame: DataFrame, name: str, value: Column) -> DataFrame:
    """Return a frame with a column added, or in place of the one that has this name.

    The frame can be a table of a pipeline. For `withColumn` and `withColumnsRenamed`
    Spark Connect looks the table up when the pipeline is defined. If an earlier run has
    made the table, Spark then does not know that this table needs the other one, and
    may read it before it is updated. A select does no such thing.
    """
    from sparkstream_kit._internal.spark import shapes

    if shapes.table_of_pipeline(frame) is None:
        return frame.withColumn(name, value)
    row = F.struct("*").withField(quoted(name), value)
    return frame.select(row.alias(_ROW)).select(f"{_ROW}.*")


def shape_of(frame: DataFrame) -> Shape:
    """Return the columns of a frame, as far as they are known before a query runs."""
    from sparkstream_kit._internal.spark import shapes

    return shapes.shape_of(frame)


def streams(frame: DataFrame) -> bool | None:
    """Return whether a frame streams; None if that is not known before a query runs."""
    from sparkstream_kit._internal.spark import shapes

    return shapes.streams(frame)


def as_compared(spark: SparkSession, names: Sequence[str]) -> list[str]:
    """Return names as the session compares them: in lower case unless case counts."""
    folded = [name.lower() for name in names]
    if len({*folded}) == len(folded):
        return folded
    is_exact = str(spark.conf.get("spark.sql.caseSensitive", "false")).lower() == "true"
    if is_exact:
        return list(names)
    return folded


def find_column(frame: DataFrame, name: str, caller: str = "") -> str:
    """Return the name of a column as the frame spells it; case is ignored, as in Spark.

    Args:
        frame: static or streaming.
        name: the name that the caller gave.
        caller: the function that was called, such as "once()", or which of its frames
            this is, for the message.

    Raises:
        InvalidInputError: there is no such column, or two names differ only in case and
            neither is `name`.
    """
    shape = shape_of(frame)
    same = [each for each in shape.names if each.lower() == name.lower()]
    if name in same:
        return name
    if len(same) != 1:
        if not shape.is_whole:
            return name
        near = hint(name, shape.names)
        if not near:
            near = f"; the columns are: {', '.join(shape.names)}"
        where = ""
        if caller:
            where = f"{caller}: "
        raise InvalidInputError(f"{where}there is no column {name}{near}")
    return same[0]


def refuse_taken(names: Iterable[str], added: Sequence[str], caller: str) -> None:
    """Refuse names to add that a frame has, or that are given twice; case is ignored."""
    folded = [name.lower() for name in added]
    refuse_twice(f"{caller}: column", folded)
    for name in names:
        if name.lower() in folded:
            raise InvalidInputError(
                f"column {name} exists already; rename or drop it, because {caller}"
                f" adds {' and '.join(added)}"
            )


def refuse_twice(what: str, names: list[str]) -> None:
    """Refuse columns or fields with the same name, as a join on an expression produces them.

    Examples:
        >>> refuse_twice("column", ["id", "amount", "id"])
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: column id appears twice; rename or drop one
    """
    for name in names:
        if names.count(name) > 1:
            raise InvalidInputError(f"{what} {name} appears twice; rename or drop one")


def types_in(kind: T.DataType) -> Iterator[T.DataType]:
    """Yield a type and all types inside its arrays, maps and structs."""
    yield kind
    inner: list[T.DataType] = []
    if isinstance(kind, T.StructType):
        inner = [field.dataType for field in kind]
    elif isinstance(kind, T.ArrayType):
        inner = [kind.elementType]
    elif isinstance(kind, T.MapType):
        inner = [kind.keyType, kind.valueType]
    for each in inner:
        yield from types_in(each)


def is_window(kind: T.DataType) -> bool:
    """Return whether a type is that of a window: the times of its start and its end."""
    return isinstance(kind, T.StructType) and kind.names == ["start", "end"]


def holds(kind: T.DataType, *types: type[T.DataType]) -> bool:
    """Return whether a type is one of these, or has one of them anywhere inside."""
    return any(isinstance(each, types) for each in types_in(kind))


def changed_inside(
    value: Column, kind: Any, change: Callable[[Column, T.DataType], Column]
) -> Column:
    """Return an array, a map or a struct with every value changed by a function."""
    if isinstance(kind, T.ArrayType):
        return F.transform(value, lambda one: change(one, kind.elementType))
    if isinstance(kind, T.MapType):
        # A text is never changed as a key, and JSON may have one twice, at which a new
        # map would fail.
        if not isinstance(kind.keyType, T.StringType):
            value = F.transform_keys(value, lambda key, _: change(key, kind.keyType))
        return F.transform_values(value, lambda _, one: change(one, kind.valueType))
    parts = []
    for field in kind.fields:
        inner = change(value.getField(field.name), field.dataType)
        parts.append(inner.alias(field.name))
    return F.when(value.isNotNull(), F.struct(*parts))


def type_with(kind: Any, change: Callable[[T.DataType], T.DataType]) -> T.DataType:
    """Return a type with each one changed that is no array, map or struct, also inside these."""
    if isinstance(kind, T.ArrayType):
        return T.ArrayType(type_with(kind.elementType, change))
    if isinstance(kind, T.MapType):
        return T.MapType(
            type_with(kind.keyType, change), type_with(kind.valueType, change)
        )
    if isinstance(kind, T.StructType):
        changed = T.StructType()
        for each in kind:
            changed.add(
                each.name, type_with(each.dataType, change), metadata=each.metadata
            )
        return changed
    return change(kind)


def number(text: Column, kind: T.DataType) -> Column:
    """Convert text to a number; null if it is none, too big, or would lose digits."""
    value = text.try_cast(kind)
    if isinstance(kind, T.DecimalType):
        return F.when(_fits_scale(text, kind.scale), value)
    if isinstance(kind, (T.DoubleType, T.FloatType)):
        # A cast turns a number that is too big into infinity.
        fits = ~text.rlike(_JAVA_FLOAT) & (finite(value) | text.rlike("(?i)inf|nan"))
        return F.when(fits, value)
    return F.when(F.lit(True), value)


def _fits_scale(text: Column, scale: int) -> Column:
    """Return whether a text has no more digits after its point than a decimal's scale.

    A cast rounds to the scale, so a text with more digits must not become a value. (One
    regular expression for this check would take as long as the cast.)
    """
    point = F.instr(text, ".")
    is_short = (point == 0) | (F.octet_length(F.rtrim(text)) - point <= scale)
    # The plan of a query is compared with the one in its checkpoint as Spark prints it.
    # So this expression stays as it is, also where another one would say the same.
    is_plain = is_short & ~text.contains("e") & ~text.contains("E")
    return is_plain | text.rlike(_powers_of_spark(scale))


def _powers_of_spark(scale: int) -> str:
    r"""Return a pattern for the powers of ten that Spark's own writers write for small numbers.

    Examples:
        >>> import re
        >>> pattern = _powers_of_spark(8)  # DECIMAL(p, 8)
        >>> [bool(re.search(pattern, text)) for text in ("0E-8", "1.5E-7", "1.55E-7", "1E2")]
        [True, True, False, False]
    """
    # The power takes some of the scale's digits, and those after the point take the rest.
    powers = [rf"[1-9]\.?\d{{0,{scale - n}}}E-{n}" for n in range(7, scale + 1)]
    forms = "|".join(["0E-[0-9]+", *powers])
    return rf"^\s*-?({forms})\s*$"


def finite(value: Column) -> Column:
    """Return whether a floating-point value is neither infinite nor NaN."""
    return F.abs(value) < float("inf")


def columns_with_watermark(frame: DataFrame) -> list[str]:
    """Return the names of the columns that have a watermark."""
    return [field.name for field in shape_of(frame).fields if watermark_of(field)]


def watermark_of(field: T.StructField) -> dict[str, int]:
    """Return the part of a column's metadata that is its watermark; {} without one."""
    from sparkstream_kit._internal.spark.shapes import WATERMARK

    if WATERMARK not in field.metadata:
        return {}
    return {WATERMARK: field.metadata[WATERMARK]}


def event_time(
    frame: DataFrame,
    name: str,
    caller: str,
    *,
    watermark: bool = True,
    without_zone: bool = False,
) -> str:
    """Check an event-time column and return its name as the frame spells it.

    Args:
        frame: static or streaming.
        name: the name that the caller gave.
        caller: the function that was called, for the message.
        watermark: whether a streaming frame must have a watermark on the column; a
            static frame needs none.
        without_zone: whether a timestamp without a time zone is allowed, too.

    Raises:
        InvalidInputError: there is no such column, it is not a timestamp, or it has no
            watermark.
    """
    from sparkstream_kit._internal.spark import shapes

    name = find_column(frame, name, caller)
    field = shape_of(frame).find(name)
    if field is not None and shapes.is_known(field.dataType):
        kind = field.dataType.simpleString()
        if kind != "timestamp" and not (without_zone and kind == "timestamp_ntz"):
            raise InvalidInputError(f"{caller}: {no_timestamp(name, kind)}")
    marked = columns_with_watermark(frame)
    if watermark and name not in marked and streams(frame):
        other = ""
        if marked:
            other = f" (column {marked[0]} has it)"
        fix = (
            f"give it one first: windows.with_watermark(frame, {name!r}, '10 minutes')"
        )
        raise InvalidInputError(
            f"{caller}: column {name} has no watermark{other}; {fix}"
        )
    return name
