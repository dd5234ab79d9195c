"""Extra: `sinks.latest`: the result of the last batch as a temporary view."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._internal.arguments import check
from sparkstream_kit._internal.columns import (
    changed_inside,
    column,
    refuse_twice,
    types_in,
)
from sparkstream_kit._internal.spark.batch import (
    in_driver,
    none_of,
    session_with_views,
    show,
)
from sparkstream_kit.checkpoints.logs import KIT
from sparkstream_kit.sinks import stored
from sparkstream_kit.sinks.base import JSON, Form, Sink, Target
from sparkstream_kit.sinks.formats import only_texts

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession
    from pyspark.sql.types import StructType

    from sparkstream_kit._internal.spark.batch import Write
    from sparkstream_kit._internal.spark.place import Place
    from sparkstream_kit.sinks.base import Opening


_log = logging.getLogger(__name__)


def latest(table: str) -> Sink:
    """Show the result of the last batch as the temporary view `table`, also after a restart.

    The sink saves the rows in the query's checkpoint folder. When the query is
    restarted on that checkpoint, the view shows them at once, before any new batch;
    Spark's memory sink would show an empty table. The rows pass through the driver's
    memory. Without a checkpoint, or with one that is not on a local path, the view is
    empty until the first batch.

    Delivery: the view holds the result of the last batch; a replayed batch shows the
    same again.

    Args:
        table: the name to use in SQL, in the session of the query's DataFrame. On Spark
            Connect the query must be started with `start`.

    Raises:
        InvalidInputError: when the query starts, Spark does not take the name, or two
            columns have one name.

    Examples:
        >>> latest("totals").modes
        ('complete',)
    """
    check(latest, locals())
    kept = f"{KIT}/{table}.rows"  # in a folder of the checkpoint that Spark ignores

    def open_view(frame: DataFrame, location: Place | None, opening: Opening) -> Write:
        spark = session_with_views(frame)
        refuse_twice("latest: column", [name.lower() for name in frame.columns])
        keeps = location if location is not None and location.folder else None
        lines = _lines(keeps, kept, frame.columns)
        if not opening.makes:
            return lambda *_: None
        show_instead = show(
            _parsed(spark, lines, frame.schema) if lines else none_of(frame), table
        )

        def write(batch: DataFrame, _batch_id: int) -> None:
            texts = only_texts("latest", batch)
            rows = in_driver(spark, texts)
            lines = []
            if rows is None or keeps:
                objects = _kept(texts if rows is None else rows).select(
                    F.to_json(F.struct("*"), JSON)
                )
                lines = [row[0] for row in objects.collect()]
            if keeps:
                keeps.write(kept, "\n".join(lines))
            show_instead(
                _parsed(batch.sparkSession, lines, batch.schema)
                if rows is None
                else rows
            )

        return write

    return Sink(
        kind="latest",
        modes=("complete",),
        promise="the last batch's result, whole",
        after_rewind="shows the result of the replayed batch",
        advice=(
            "the table is the whole result: use complete, or sinks.memory for append"
        ),
        # Spark ignores the case of view names
        writes_to=(Target("view", table.lower()),),
        open=open_view,
        read=lambda spark, schema, location: stored.of_lines(
            spark, _lines(location, kept), schema.names
        ),
        form=Form(_as_saved, "json"),
    )


def _as_saved(frame: DataFrame, _folder: str) -> DataFrame:
    """Return rows as they are saved and read back."""
    lines = _kept(frame).select(F.to_json(F.struct("*"), JSON)).collect()
    return stored.of_lines(frame.sparkSession, [row[0] for row in lines], frame.columns)


def _lines(
    location: Place | None, kept: str, columns: list[str] | None = None
) -> list[str]:
    """Read the saved rows of a view from a file of its checkpoint, one JSON object per line.

    Args:
        location: the checkpoint.
        kept: the file.
        columns: the columns that the rows must have; None for any.

    Returns:
        The lines; none if no rows were saved, if the file is damaged, or if the rows
        have other columns, because an earlier version of the query saved them.
    """
    with suppress(OSError, TypeError, ValueError):
        text = location.read(kept) if location is not None else None
        # Not splitlines(): a value may contain Unicode's other line separators, at
        # which it would split.
        lines = [
            each
            for each in (text or "").split("\n")
            if each and not each.startswith("crc32 ")
        ]
        if all(
            list(json.loads(line)) == (columns or [*json.loads(line)]) for line in lines
        ):
            return lines
    _log.warning(
        "the table is empty until the next batch: %s/%s is not what was kept",
        location,
        kept,
    )
    return []


def _parsed(spark: SparkSession, lines: list[str], schema: StructType) -> DataFrame:
    rows = spark.createDataFrame([(line,) for line in lines], "value STRING")
    kept = T.StructType(
        [T.StructField(each.name, _kept_type(each.dataType)) for each in schema]
    )
    values = [
        _as_given(F.col("row").getField(each.name), each.dataType).alias(each.name)
        for each in schema
    ]
    return rows.select(F.from_json("value", kept, JSON).alias("row")).select(values)


def _is_odd(kind: T.DataType) -> bool:
    """Return whether JSON cannot hold all values of a type as they are.

    In JSON the keys of a map are texts, and a VARIANT has no NULL.
    """
    is_map = isinstance(kind, T.MapType) and not isinstance(kind.keyType, T.StringType)
    return is_map or isinstance(kind, T.VariantType)


def _kept_type(kind: Any) -> T.DataType:
    """Return the type as which JSON keeps a type: entries for a map, and text for a VARIANT."""
    if isinstance(kind, T.VariantType):
        return T.StringType()
    if isinstance(kind, T.ArrayType):
        return T.ArrayType(_kept_type(kind.elementType))
    if isinstance(kind, T.StructType):
        return T.StructType(
            [T.StructField(each.name, _kept_type(each.dataType)) for each in kind]
        )
    if not isinstance(kind, T.MapType):
        same: T.DataType = kind
        return same
    value = _kept_type(kind.valueType)
    if not _is_odd(kind):
        return T.MapType(kind.keyType, value)
    return T.ArrayType(
        T.StructType().add("key", _kept_type(kind.keyType)).add("value", value)
    )


def _kept(rows: DataFrame) -> DataFrame:
    return rows.select(
        [
            _as_kept(column(each.name), each.dataType).alias(each.name)
            for each in rows.schema
        ]
    )


def _as_kept(value: Column, kind: Any) -> Column:
    """Return a value in the type as which JSON keeps it."""
    if not any(map(_is_odd, types_in(kind))):
        return value
    if isinstance(kind, T.VariantType):
        return F.to_json(value)
    if not _is_odd(kind):
        return changed_inside(value, kind, _as_kept)
    entry = T.StructType().add("key", kind.keyType).add("value", kind.valueType)
    return F.transform(
        F.map_entries(value), lambda each: changed_inside(each, entry, _as_kept)
    )


def _as_given(value: Column, kind: Any) -> Column:
    """Return a value that JSON kept in its own type; the reverse of `_as_kept`."""
    if not any(map(_is_odd, types_in(kind))):
        return value
    if isinstance(kind, T.VariantType):
        return F.parse_json(value)
    if not _is_odd(kind):
        return changed_inside(value, kind, _as_given)
    entry = T.StructType().add("key", kind.keyType).add("value", kind.valueType)
    entries = F.transform(value, lambda each: changed_inside(each, entry, _as_given))
    return F.map_from_entries(entries)
