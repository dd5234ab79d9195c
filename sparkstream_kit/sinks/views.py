"""Extra: `sinks.latest`: the result of the last batch as a temporary view."""

from __future__ import annotations

import json
import logging
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
from sparkstream_kit._internal.spark.session import on_server, refuse_former_patterns
from sparkstream_kit.checkpoints.logs import KIT
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.sinks import readback
from sparkstream_kit.sinks.base import JSON, BatchSink, Form, Sink, Target
from sparkstream_kit.sinks.refusals import only_texts

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
        keeps = _if_local(location)
        # JSON saves the rows, and brings them here from a server of Spark Connect
        if keeps is not None or on_server(spark):
            refuse_former_patterns("latest", spark)
        lines = _lines(keeps, kept, frame.columns)
        if not opening.makes:
            return lambda *_: None
        if lines:
            saved = _parsed(spark, lines, frame.schema)
        else:
            saved = none_of(frame)
        show_instead = show(saved, table)

        def write(batch: DataFrame, _batch_id: int) -> None:
            texts = only_texts("latest", batch)
            rows = in_driver(spark, texts)
            lines = []
            if rows is None:
                lines = _as_lines(texts)
            elif keeps:
                lines = _as_lines(rows)
            if keeps:
                keeps.write(kept, "\n".join(lines))
            if rows is None:
                rows = _parsed(batch.sparkSession, lines, batch.schema)
            show_instead(rows)

        return write

    return BatchSink(
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
        read=lambda spark, schema, location: readback.of_lines(
            spark, _lines(location, kept), schema.names
        ),
        form=Form(_as_saved, "json"),
    )


def _if_local(location: Place | None) -> Place | None:
    """Return the checkpoint if it is a local folder, in which rows can be saved."""
    if location is None or location.folder is None:
        return None
    return location


def _as_saved(frame: DataFrame, _folder: str) -> DataFrame:
    """Return rows as they are saved and read back."""
    return readback.of_lines(frame.sparkSession, _as_lines(frame), frame.columns)


def _as_lines(rows: DataFrame) -> list[str]:
    """Return rows as they are saved: a JSON object for each."""
    objects = _kept(rows).select(F.to_json(F.struct("*"), JSON))
    return [row[0] for row in objects.collect()]


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

    Raises:
        InvalidInputError: there is a folder in place of the file, so that no batch
            could save its rows.
    """
    try:
        text = None
        if location is not None:
            text = location.read(kept)
        # Not splitlines(): a value may contain Unicode's other line separators, at
        # which it would split.
        lines = [
            line
            for line in (text or "").split("\n")
            if line and not line.startswith("crc32 ")
        ]
        names = [list(json.loads(line)) for line in lines]
        is_kept = not columns or all(each == columns for each in names)
    except IsADirectoryError as err:
        raise InvalidInputError(
            f"latest: {location}/{kept} is a folder; delete it: the rows of the view"
            " are saved in a file of that name"
        ) from err
    except (OSError, TypeError, ValueError):
        is_kept = False
    if is_kept:
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
