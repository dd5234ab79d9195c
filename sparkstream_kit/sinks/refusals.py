"""Thin: what a value must not be, because a reader of the file or folder would get another.

Each function yields conditions with the words of their message, and `stopped` makes
them a column that fails the batch. So a row that a sink would change is never written.
"""

from __future__ import annotations

import re
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._internal import file_system
from sparkstream_kit._internal.columns import holds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyspark.sql import Column, DataFrame

    # What a value must not be, and what the message says of it
    Refusals = Iterator[tuple[Column, str]]

_NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"  # the folder of NULL, and of ''
_SECOND = 1_000_000  # microseconds
# The characters of which Spark makes three in the name of a folder, such as %2F.
_LONGER = "[\\x01-\\x1f\"#%'*/:=?\\\\\\x7f{\\[\\]^]"


def stopped(
    refusals: Sequence[tuple[Column, str]] | Refusals,
    value: Column,
    kind: T.DataType,
    subject: str,
) -> Column:
    """Return a value, or an error at the last of the refusals that holds."""
    checked = value
    for is_wrong, message in refusals:
        stop = F.raise_error(F.lit(f"{subject} {message}")).cast(kind)
        checked = F.when(is_wrong, stop).otherwise(checked)
    return checked


def only_texts(sink: str, frame: DataFrame) -> DataFrame:
    """Let a text that is not UTF-8 fail the batch, for a sink that collects rows."""
    if not any(holds(each.dataType, T.StringType) for each in frame.schema):
        return frame
    numbered = frame.toDF(*(f"c{number}" for number in range(len(frame.columns))))
    cells = []
    for field, name in zip(frame.schema, numbered.columns, strict=True):
        value = F.col(name)
        refusals = lost_bytes(value, field.dataType)
        subject = f"{sink}: column {field.name}"
        cells.append(stopped(refusals, value, field.dataType, subject))
    return numbered.select(cells).toDF(*frame.columns)


def is_collated(kind: T.DataType) -> bool:
    """Return whether a type is text with a collation, which Spark does not write."""
    return isinstance(kind, T.StringType) and not kind.isUTF8BinaryCollation()


def without_collation(value: Column, kind: T.DataType) -> Column:
    """Return a value for regular expressions, which do not work with a collation."""
    if is_collated(kind):
        return F.collate(value, "UTF8_BINARY")
    return value


def meets(value: Column, mark: str) -> Column:
    """Return whether a text has a mark, or ends with the first characters of one."""
    return F.locate(mark, F.concat(value, F.lit(mark))) <= F.length(value)


def lost_bytes(value: Column, kind: T.DataType) -> Refusals:
    """Yield that a text has bytes that are not UTF-8, which Spark would replace."""
    if holds(kind, T.StringType):
        message = (
            "has a text that is not UTF-8, of which other characters would be written; "
        )
        yield (
            _is_not_utf8(value, kind),
            f"{message}give F.make_valid_utf8(column), or F.base64(bytes)",
        )


def _is_not_utf8(value: Column, kind: Any) -> Column:
    """Return whether a value of a type that holds texts has one that is not UTF-8."""
    if isinstance(kind, T.ArrayType):
        return F.exists(value, lambda each: _is_not_utf8(each, kind.elementType))
    if isinstance(kind, T.MapType):
        parts = []
        if holds(kind.keyType, T.StringType):
            keys = F.map_keys(value)
            parts.append(_is_not_utf8(keys, T.ArrayType(kind.keyType)))
        if holds(kind.valueType, T.StringType):
            values = F.map_values(value)
            parts.append(_is_not_utf8(values, T.ArrayType(kind.valueType)))
        return reduce(or_, parts)
    if isinstance(kind, T.StructType):
        parts = [
            _is_not_utf8(value.getField(field.name), field.dataType)
            for field in kind
            if holds(field.dataType, T.StringType)
        ]
        return reduce(or_, parts)
    return ~F.is_valid_utf8(value)


def in_a_folder(name: str, value: Column, kind: T.DataType) -> Refusals:
    """Yield what a text must not be, because no folder has its name, or another one.

    Args:
        name: the column.
        value: the text.
        kind: the type; values of others than STRING always have a name.
    """
    if not isinstance(kind, T.StringType):
        return
    texts = f"an empty text or {_NULL_FOLDER}"
    message = (
        f"has {texts}, which Spark takes for NULL in the name of a folder; replace it"
    )
    yield value.isin("", _NULL_FOLDER), message
    yield from lost_bytes(value, kind)
    yield (
        value.contains("\0"),
        "has a NUL character, which no name of a folder has; remove it",
    )
    begin = re.sub(_LONGER, "%00", name) + "="
    room = file_system.LONGEST_NAME - len(begin.encode())
    is_too_long = (
        F.octet_length(value) + 2 * F.regexp_count(value, F.lit(_LONGER)) > room
    )
    message = (
        "has a text that is too long for the name of a folder; shorten it, or leave it"
        " out of partition_by"
    )
    yield is_too_long, message


def mark_at_the_beginning(name: str, value: Column, kind: T.DataType) -> Refusals:
    """Yield that the first text of a line begins with a byte order mark."""
    if name in ("csv", "text") and isinstance(kind, T.StringType):
        message = (
            "begins with a byte order mark, which readers take for none of its"
            " characters; remove it"
        )
        yield value.startswith("\ufeff"), message


def lost_in_orc(value: Column, kind: T.DataType) -> Refusals:
    """Yield the days and times that Spark's writer of ORC changes."""
    begin = F.lit("1582-10-04").cast(kind)
    end = F.lit("1582-10-16").cast(kind)
    message = (
        "has a time of 4 to 15 October 1582, which ORC moves; use format='parquet'"
    )
    yield (value >= begin) & (value < end), message
    if isinstance(kind, T.TimestampType):
        micros = F.unix_micros(value)
        message = (
            "has a time in the last second of 1969, which ORC moves; use"
            " format='parquet'"
        )
        yield (micros > -_SECOND) & (micros < 0), message
