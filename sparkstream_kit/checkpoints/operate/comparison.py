"""Compare the rows of one target with those that a changed query gives it, for `shadow`.

`KeptTarget` keeps both in a temporary folder, and returns a `Compared`. Rows are
matched by keys where these identify them, else whole rows are compared.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from typing import TYPE_CHECKING, NamedTuple

from pyspark.errors import AnalysisException
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.window import Window

from sparkstream_kit._internal.columns import column
from sparkstream_kit.checkpoints.fingerprint import top_level
from sparkstream_kit.checkpoints.operate.alignment import side_by_side
from sparkstream_kit.connectors._tables import gone_error
from sparkstream_kit.errors import InvalidInputError, reject_unknown
from sparkstream_kit.sinks.folders import BATCH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import Column, DataFrame, SparkSession

    from sparkstream_kit._internal.spark.place import Place
    from sparkstream_kit.checkpoints.guard import StartingQuery
    from sparkstream_kit.checkpoints.operate.alignment import Sides
    from sparkstream_kit.sinks import Sink
    from sparkstream_kit.sinks.base import Read


_RANK = "sparkstream_rank"  # columns that are added for a moment
_SIDE = "sparkstream_side"
# Columns of `Compared.differ` and of what is shown of it
_OWN = {"old", "new", "column", "columns"}
# Spark's conditions for a target that was removed, or of which the files were.
_GONE = ("PATH_NOT_FOUND", "TABLE_OR_VIEW_NOT_FOUND", "UNABLE_TO_INFER_SCHEMA")


@dataclass(frozen=True)
class Compared:
    """The rows of one target beside those that the changed query gives it.

    Attributes:
        target: the target.
        keys: the columns by which rows were matched; empty if whole rows were compared.
        equal: the rows that are the same, with the query's columns.
        differ: the rows that differ: the keys, and `old` and `new` (structs of the
            other columns).
        only_new: the rows that only the changed query has, with the query's columns.
        only_old: the rows that only the target has, with the query's columns.
        columns: a phrase for each column that only one of the two has, or that has two
            types.
        counts: how many rows there are of the four kinds, in the order above.
        notes: a phrase for each column of which the target has another type that holds
            all values.
    """

    target: str
    keys: tuple[str, ...]
    equal: DataFrame
    differ: DataFrame
    only_new: DataFrame
    only_old: DataFrame
    columns: tuple[str, ...]
    counts: tuple[int, ...]
    notes: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether no row, no column and no type of a column differs."""
        return not (any(self.counts[1:]) or self.columns)

    def says(self, rows: int = 10) -> str:
        """Return the comparison as text, with at most so many rows of each kind that differs."""
        equal, differ, only_new, only_old = self.counts
        counts = (
            f"{equal:,} equal, {differ:,} differ, {only_new:,} only new,"
            f" {only_old:,} only old"
        )
        lines = [counts, *self.columns, *self.notes]
        if differ:
            values = _differing_values(self)
            lines += self._table("differ", values, differ, rows)
        if only_new:
            lines += self._table("only new", self.only_new, only_new, rows)
        if only_old:
            lines += self._table("only old", self.only_old, only_old, rows)
        return "\n".join(lines)

    def _table(self, title: str, frame: DataFrame, number: int, most: int) -> list[str]:
        """Return the first rows of one kind as a table below its title.

        Args:
            title: the title.
            frame: the rows.
            number: how many rows of this kind there are.
            most: the largest number of rows to show.
        """
        from sparkstream_kit.display import render

        order = self.keys or frame.columns
        first = frame.sort(*map(column, order)).limit(most)
        lines = [f"{title}:", *render(first, "table").splitlines()]
        if number > most:
            lines.append(f"… and {number - most:,} more")
        return lines


class _Parts(NamedTuple):
    """The rows of a comparison by kind, as `Compared` has them."""

    equal: DataFrame
    differ: DataFrame
    only_new: DataFrame
    only_old: DataFrame


@dataclass
class KeptTarget:
    """The rows of one target, and of what the changed query gives it, in a temporary folder.

    Attributes:
        sink: the sink that writes to the target.
        schema: the columns of the changed query, as the sink gets them.
        read: reads the target back.
        folder: the folder, in the form in which Spark is given it.
    """

    sink: Sink
    schema: T.StructType
    read: Read
    folder: str

    def write(self, batch: DataFrame, number: int) -> None:
        """Keep a batch of the changed query."""
        batch.write.mode("overwrite").parquet(f"{self.folder}/new/{BATCH}={number}")

    def keep_target(self, spark: SparkSession, place: Place) -> None:
        """Keep the rows that the target holds now."""
        try:
            rows = self.read(spark, self.schema, place)
            rows.write.mode("overwrite").parquet(f"{self.folder}/old")
        except AnalysisException as err:
            if err.getCondition() in _GONE:
                raise gone_error(self) from None
            raise err from None
        except FileNotFoundError:
            raise gone_error(self) from None

    def compared(
        self, query: StartingQuery, given_keys: Sequence[str], tolerance: float
    ) -> Compared:
        """Compare the rows, once all are kept.

        Args:
            query: the changed query.
            given_keys: the keys that the caller gave.
            tolerance: how much two floating-point numbers may differ.
        """
        read = query.spark.read.parquet
        new = read(f"{self.folder}/new")
        old = read(f"{self.folder}/old")
        common = [name for name in self.schema.names if name in old.columns]
        only_new = {*self.schema.names} - {*common}
        only_old = {*old.columns} - {*common, BATCH}
        lacking = [f"only the changed query has column {name}" for name in only_new]
        lacking += [f"only the target has column {name}" for name in only_old]
        keys = _keys(self, query, given_keys, common)
        sides = side_by_side(
            _final_rows(old, query.mode, keys),
            _final_rows(new, query.mode, keys),
            self.schema,
            common,
            self.sink.form,
            self.folder,
        )
        if _can_match(sides, keys):
            parts = _matched(sides, keys, tolerance, self.folder)
        else:
            keys = []
            parts = _by_rows(sides)
        return Compared(
            target=str(self),
            keys=tuple(keys),
            equal=parts.equal,
            differ=parts.differ,
            only_new=parts.only_new,
            only_old=parts.only_old,
            columns=(*sorted(lacking), *sides.types),
            counts=tuple(part.count() for part in parts),
            notes=sides.notes,
        )

    def __str__(self) -> str:
        return ", ".join(map(str, self.sink.writes_to)) or self.sink.kind


def _keys(
    target: KeptTarget,
    query: StartingQuery,
    given_keys: Sequence[str],
    names: Sequence[str],
) -> list[str]:
    """Return the columns by which rows are matched; none if they are not known.

    Args:
        target: the target.
        query: the changed query.
        given_keys: the keys that the caller gave.
        names: the columns that both sides have.
    """
    if not names:
        raise InvalidInputError(
            f"{target} has no column of this query; give a new target"
        )
    reject_unknown("key", given_keys, names)
    fingerprint = query.described["fingerprint"]
    group_keys = _group_keys(fingerprint, query.frame.columns)
    stated_keys = [*(given_keys or target.sink.keys)]
    keys = stated_keys or [name for name in group_keys if name in names]
    if absent := {*keys} - {*names}:
        lacks_key = f"{target} has no column {min(absent)}, a key of this query"
        raise InvalidInputError(f"{lacks_key}; give a new target")
    if reserved := _OWN & {*map(str.lower, keys)}:
        raise InvalidInputError(
            f"{target}: key {min(reserved)} has a name of the comparison; rename it"
            " in both, or give keys= without it"
        )
    # Only keys show which rows of an update replace earlier ones
    are_unknown = "groups by: " not in fingerprint or keys != group_keys
    if query.mode == "update" and not stated_keys and are_unknown:
        raise InvalidInputError(
            f"{target}: its rows have no keys that are known; give keys="
        )
    return keys


def _group_keys(fingerprint: str, columns: Sequence[str]) -> list[str]:
    """Return the columns by which a query groups; of a window, those of `windows.flatten`.

    Args:
        fingerprint: the fingerprint of the query.
        columns: the columns of the query.

    Examples:
        >>> _group_keys("groups by: shop#0, window#1", ["start", "end", "shop", "total"])
        ['shop', 'start', 'end']
    """
    facts = fingerprint.split("\n")
    grouped_by = [
        fact.partition(": ")[2] for fact in facts if fact.startswith("groups by: ")
    ]
    names: list[str] = []
    for key in top_level(", ".join(grouped_by)):
        name = re.sub(r"#\d+", "", key)
        if name in columns:
            names.append(name)
        else:
            names += re.findall(r"(\w+)#\d", key)
    keys: list[str] = []
    for name in dict.fromkeys(names):
        if name == "window" and "window" not in columns:
            keys += ["start", "end"]
        else:
            keys.append(name)
    return keys


def _final_rows(rows: DataFrame, mode: str, keys: Sequence[str]) -> DataFrame:
    """Return the rows that stand in the end, of all that the batches of a query wrote."""
    if BATCH not in rows.columns:
        return rows
    if mode == "complete":
        last = rows.agg(F.max(BATCH)).collect()[0][0]
        rows = rows.where(F.col(BATCH) == last)
    elif mode == "update":
        latest = Window.partitionBy(*map(column, keys)).orderBy(F.col(BATCH).desc())
        rows = (
            rows.withColumn(_RANK, F.row_number().over(latest))
            .where(f"{_RANK} = 1")
            .drop(_RANK)
        )
    return rows.drop(BATCH)


def _can_match(sides: Sides, keys: Sequence[str]) -> bool:
    """Return whether the keys have comparable values, and identify the rows of both sides."""
    if not keys or not {*keys}.isdisjoint(sides.incomparable):
        return False
    return _identify(sides.old, keys) and _identify(sides.new, keys)


def _identify(rows: DataFrame, keys: Sequence[str]) -> bool:
    """Return whether no two rows have the same keys."""
    return (
        rows.groupBy(*map(column, keys))
        .agg(F.count("*").alias(_RANK))
        .where(f"{_RANK} > 1")
        .isEmpty()
    )


def _matched(
    sides: Sides, keys: Sequence[str], tolerance: float, folder: str
) -> _Parts:
    """Match rows by their keys, and keep the pairs in a folder."""
    old = F.col("old")
    new = F.col("new")
    have_the_same_keys = reduce(and_, (old[key].eqNullSafe(new[key]) for key in keys))
    differing = [
        _name_if_differing(
            field, tolerance, is_incomparable=field.name in sides.incomparable
        )
        for field in sides.new.schema
        if field.name not in keys
    ]
    # If all columns are keys, the NULL alone gives the array its type.
    differing.append(F.lit(None).cast("string"))
    old_rows = sides.old.select(F.struct("*").alias("old"))
    new_rows = sides.new.select(F.struct("*").alias("new"))
    pairs = old_rows.join(new_rows, have_the_same_keys, "full").withColumn(
        "columns", F.array_compact(F.array(*differing))
    )
    pairs.write.parquet(f"{folder}/both")
    kept = sides.old.sparkSession.read.parquet(f"{folder}/both")
    in_both = kept.where("old IS NOT NULL AND new IS NOT NULL")
    key_columns = [new[key].alias(key) for key in keys]
    return _Parts(
        equal=in_both.where(F.size("columns") == 0).select("new.*"),
        differ=in_both.where(F.size("columns") > 0).select(
            *key_columns, "columns", "old", "new"
        ),
        only_new=kept.where("old IS NULL").select("new.*"),
        only_old=kept.where("new IS NULL").select("old.*"),
    )


def _by_rows(sides: Sides) -> _Parts:
    """Compare whole rows; none of them differs, as no two belong together."""
    # A row with a value in such a column equals no row of the other side.
    has_value_apart = reduce(
        or_, (column(name).isNotNull() for name in sides.incomparable), F.lit(False)
    )
    old = sides.old.withColumn(_SIDE, F.when(has_value_apart, "old"))
    new = sides.new.withColumn(_SIDE, F.when(has_value_apart, "new"))
    return _Parts(
        equal=new.intersectAll(old).drop(_SIDE),
        differ=new.limit(0).drop(_SIDE),
        only_new=new.exceptAll(old).drop(_SIDE),
        only_old=old.exceptAll(new).drop(_SIDE),
    )


def _name_if_differing(
    field: T.StructField, tolerance: float, *, is_incomparable: bool
) -> Column:
    """Return the name of a field if its values in the structs `old` and `new` differ, else NULL.

    Args:
        field: the field.
        tolerance: how much two floating-point numbers may differ.
        is_incomparable: whether no two values of it are equal, but NULL.
    """
    old = F.col("old")[field.name]
    new = F.col("new")[field.name]
    if is_incomparable:
        equal = old.isNull() & new.isNull()
    else:
        equal = old.eqNullSafe(new)
    if isinstance(field.dataType, (T.DoubleType, T.FloatType)):
        gap = F.abs(old - new)
        larger = F.greatest(F.abs(old), F.abs(new))
        # To Spark NaN is larger than infinity, and equal to itself.
        is_close = (gap <= tolerance * larger) & (gap < math.inf)
        equal |= F.coalesce(is_close, F.lit(False))
    return F.when(~equal, field.name)


def _differing_values(compared: Compared) -> DataFrame:
    """Return a row for each value that differs: the keys, `column`, `old` and `new` (strings)."""
    frame = compared.differ

    def both_values(name: str) -> Column:
        return F.struct(
            F.lit(name).alias("column"),
            F.col("old")[name].cast("string").alias("old"),
            F.col("new")[name].cast("string").alias("new"),
        )

    def differs(value: Column) -> Column:
        return F.array_contains("columns", value["column"])

    keys = [column(key) for key in compared.keys]
    values = F.array(*map(both_values, frame.select("old.*").columns))
    differing = F.explode(F.filter(values, differs)).alias(_RANK)
    return frame.select(*keys, differing).select(*keys, f"{_RANK}.*")
