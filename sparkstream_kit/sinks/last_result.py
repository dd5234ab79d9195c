"""The sink `latest`: the last batch's result as a view, also after a restart."""

from __future__ import annotations

import json
import logging
import zlib
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from sparkstream_kit import _files
from sparkstream_kit._arguments import check
from sparkstream_kit._spark.batch import in_driver, none_of, session_with_views
from sparkstream_kit.checkpoints.logs import numbered
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.sinks import builtin
from sparkstream_kit.sinks.base import Sink, check_view

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

    from sparkstream_kit._spark.batch import Write
    from sparkstream_kit._spark.place import Place
    from sparkstream_kit.sinks.base import Opening


_log = logging.getLogger(__name__)


def latest(table: str) -> Sink:
    """Show the result of the last batch as the temporary view `table`, also after a restart.

    The rows are kept beside the query's checkpoint and shown again as soon as the query is started on it,
    before and without any new batch; Spark's memory sink would show an empty table. They pass through the
    driver's memory. Without a checkpoint, or with one that is not on a local path, the table is empty
    until the first batch.

    Delivery: the table holds the result of the last batch; a replayed batch shows the same again.

    Args:
        table: the name to use in SQL, in the session of the query's DataFrame.

    Raises:
        InvalidInputError: the name is empty, or has a dot in it.

    Examples:
        >>> latest("totals").modes
        ('complete',)
    """
    check(latest, locals())
    check_view("latest", table)

    def open_view(frame: DataFrame, location: Place | None, opening: Opening) -> Write:
        spark = session_with_views(frame)
        kept = _kept_at(location, table)
        lines = [] if kept is None else _lines(kept, table, frame.columns)
        shown = _parsed(spark, lines, frame.schema) if lines else none_of(frame)
        if opening.makes:
            shown.createOrReplaceTempView(table)

        def write(batch: DataFrame, _batch_id: int) -> None:
            rows = in_driver(spark, batch)
            lines = _as_json(batch if rows is None else rows) if rows is None or kept is not None else []
            if kept is not None:
                kept.parent.mkdir(parents=True, exist_ok=True)
                text = "".join(line + "\n" for line in lines)
                _files.replace(kept, [_head(text) + "\n", text])
            if rows is None:  # the very session of the client
                rows = _parsed(batch.sparkSession, lines, batch.schema)
            rows.createOrReplaceTempView(table)

        return write

    return Sink(
        kind="latest",
        modes=("complete",),
        promise="the last batch's result, whole",
        after_rewind="shows the result of the replayed batch",
        advice="the table is the whole result: use complete, or sinks.memory for append",
        writes_to=(f"view {table.lower()}",),  # Spark's names have no case
        open=open_view,
    )


def _kept_at(location: Place | None, table: str) -> Path | None:
    """Return where a table's rows are kept: in the checkpoint's folder, where Spark ignores them."""
    if location is None:
        return None
    if location.folder is None:
        _log.warning(
            "table %s is empty until the first batch: checkpoint %s is not local", table, location.text
        )
        return None
    return location.folder / "sparkstream-kit" / f"{table}.rows"


def _lines(kept: Path, table: str, columns: list[str]) -> list[str]:
    """Return the kept rows; none of a query with other columns, which this checkpoint had before.

    Raises:
        InvalidInputError: they are not what was kept.
    """
    if not kept.exists():
        if numbered(kept.parent.parent / "commits"):
            _log.warning("table %s is empty until the next batch: no rows of it are kept in %s", table, kept)
        return []
    try:
        head, _, rows = kept.read_bytes().decode().partition("\n")
        # A line ends at a line feed alone, as a value may hold Unicode's other ends.
        lines = [line for line in rows.split("\n") if line]
        fitting = all(list(json.loads(line)) == columns for line in lines[:1])
        if head != _head(rows):
            raise ValueError  # noqa: TRY301 - one message for all that can be wrong
    except (OSError, TypeError, ValueError) as err:
        raise InvalidInputError(
            f"the kept rows of table {table} are damaged: {kept} is not what was written; put it back, or "
            "delete it, and the table is empty until the next batch"
        ) from err
    if not fitting:
        _log.warning("table %s is empty until the next batch: %s has other columns", table, kept)
    return lines if fitting else []


def _head(rows: str) -> str:
    """Return the first line of a file of kept rows, their checksum."""
    return f"crc32 {zlib.crc32(rows.encode()):08x}"


def _as_json(rows: DataFrame) -> list[str]:
    return [row[0] for row in rows.select(F.to_json(F.struct("*"), builtin.JSON)).collect()]


def _parsed(spark: SparkSession, lines: list[str], schema: StructType) -> DataFrame:
    rows = spark.createDataFrame([(line,) for line in lines], "value STRING")
    return rows.select(F.from_json("value", schema, builtin.JSON).alias("row")).select("row.*")
