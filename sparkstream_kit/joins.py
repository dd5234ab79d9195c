"""Thin: join a stream with a table, or two streams by time; batch and streaming alike.

The rules are those of the Structured Streaming guide, "Join Operations". `with_table`
and `within` take two DataFrames and return one. `reloading` joins each batch with a
table that changes while the stream runs.
"""

from __future__ import annotations

import re
from functools import partial, reduce
from operator import and_
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from sparkstream_kit._internal.arguments import check
from sparkstream_kit._internal.columns import (
    all_but,
    column,
    event_time,
    find_column,
    shape_of,
    streams,
    with_column,
)
from sparkstream_kit._internal.durations import Duration, not_negative
from sparkstream_kit.errors import InvalidInputError, reject_unknown
from sparkstream_kit.quarantine.rows import REASON

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyspark.sql import Column, DataFrame, SparkSession

    from sparkstream_kit.sinks.base import Part


__all__ = ["reloading", "with_table", "within"]

# The joins that Spark supports for a stream with a table, and for two streams in append
# mode.
_WITH_TABLE = ("inner", "left", "left_anti", "left_semi")
_WITHIN = ("full", "inner", "left", "left_semi", "right")


def with_table(
    stream: DataFrame, table: DataFrame, *, on: str | Sequence[str], how: str = "left"
) -> DataFrame:
    """Add the columns of a table to each row of a stream, by equal keys.

    The join keeps no state and does not delay rows. A row whose key is null matches
    nothing. A key that occurs twice in the table gives two rows. Spark may use only the
    files that the table had when it was first read: for a table that changes while the
    stream runs, use `reloading`.

    Args:
        stream: static or streaming.
        table: static.
        on: the key column or a list of key columns. Both frames have them by the same
            names and with the same types (whole numbers and decimals may differ; Spark
            rounds what has more than 38 digits in all).
        how: "left" keeps rows that match nothing, with nulls; "inner" leaves them out;
            "left_semi" and "left_anti" return the rows that match, or do not match,
            without the table's columns.

    Returns:
        The columns of `stream`, then (for "left" and "inner") those of `table` without
        the keys.

    Raises:
        InvalidInputError: `table` is a stream, a key is not in both frames or has
            different types in them, another column is in both (for "left" and "inner"),
            or `how` is none of these.

    Examples:
        In a session::

            with_table(sales, merchants, on="merchant")  # every sale, with its merchant's columns
    """
    check(with_table, locals())
    reject_unknown("how of joins.with_table()", [how], _WITH_TABLE)
    if streams(table):
        fix = "read it with spark.read, or use joins.within"
        raise InvalidInputError(f"joins.with_table(): table is a stream; {fix}")
    keys = _keys({"stream": stream, "table": table}, on)
    if how in ("inner", "left"):
        _refuse_clash({"stream": stream, "table": table}, keys)
    return _joined(stream, table, keys, how)


def within(
    left: DataFrame,
    right: DataFrame,
    *,
    on: str | Sequence[str],
    left_time: str,
    right_time: str,
    within: Duration,
    before: Duration = "0 seconds",
    how: str = "inner",
) -> DataFrame:
    """Join rows of two streams with equal keys if the right row is at most `within` later.

    A pair has `left_time - before <= right_time <= left_time + within`. Spark keeps the
    rows of both sides in the state until the watermark shows that no partner can come,
    and drops rows that are later than the watermark. A pair is emitted in the batch
    that completes it. In an outer join, a row without a partner is emitted only when
    the watermark has passed its bound *and* a further batch runs: at the end of an
    input the last of these rows stay in the state, unless the query is drained
    (`run(query, drain=True)`).

    If both sides are parts of one stream that has a watermark, this watermark moves
    with the rows of both.

    A row whose key is null matches nothing. A row whose time is null is left out, also
    in outer joins: no watermark would ever pass it, so it would stay in the state for
    ever. An outer join needs append mode.

    Args:
        left: a stream with a watermark on `left_time`, or a static DataFrame.
        right: a stream with a watermark on `right_time`, or a static DataFrame if
            `left` is static.
        on: the key column or a list of key columns. Both frames have them by the same
            names and with the same types (whole numbers and decimals may differ; Spark
            rounds what has more than 38 digits in all).
        left_time: the time column of `left` (timestamp; in a static frame also one
            without a time zone).
        right_time: the time column of `right`, as `left_time`.
        within: how much later than the left time the right time may be: "10 minutes" or
            a `timedelta`.
        before: how much earlier than the left time the right time may be.
        how: "inner" returns pairs alone; "left", "right" and "full" also keep the rows
            of that side, or of both, that have no partner, with nulls; "left_semi"
            returns the left rows that have a partner.

    Returns:
        The columns of `left`, then (unless `how` is "left_semi") those of `right`
        without the keys. Both time columns keep their watermarks. Before a window over
        one of them, drop the other, because Spark allows only one.

    Raises:
        InvalidInputError: only one side is a stream, a stream has no watermark on its
            time column, a time column is not a timestamp, a key is not in both frames
            or has different types in them, another column is in both, a duration cannot
            be read or is below zero, or `how` is none of these.

    Examples:
        In a session::

            within(
                views,
                clicks,
                on="ad_id",
                left_time="shown_at",
                right_time="clicked_at",
                within="10 minutes",
                how="left",  # every view, with its click if one came in time
            )
    """
    check(globals()["within"], locals())  # in here the name `within` is the argument
    reject_unknown("how of joins.within()", [how], _WITHIN)
    is_stream = {"left": streams(left), "right": streams(right)}
    if {True, False} <= {*is_stream.values()}:
        static = "right" if is_stream["left"] else "left"
        fix = "read it with spark.readStream, or use joins.with_table"
        raise InvalidInputError(f"joins.within(): {static} does not stream; {fix}")
    earlier = not_negative("before", before)
    later = not_negative("within", within)
    keys = _keys({"left": left, "right": right}, on)
    left_time = event_time(left, left_time, "left", without_zone=True)
    right_time = event_time(right, right_time, "right", without_zone=True)
    if how == "left_semi":  # of the right side it needs these alone
        needed = dict.fromkeys([*(theirs for _, theirs in keys), right_time])
        right = right.select(*(column(name) for name in needed))
    _refuse_clash({"left": left, "right": right}, keys)
    ours = column(left_time)
    theirs = column(right_time)
    first = ours - F.expr(f"INTERVAL {earlier} MICROSECONDS")
    last = ours + F.expr(f"INTERVAL {later} MICROSECONDS")
    left = left.where(ours.isNotNull())
    right = right.where(theirs.isNotNull())
    return _joined(left, right, keys, how, theirs >= first, theirs <= last)


def reloading(
    name: str,
    read: Callable[[SparkSession], DataFrame],
    *,
    on: str | Sequence[str],
    how: str = "left",
) -> Part:
    """Join each batch with a table's current rows, for tables that change meanwhile.

    `sink.taking(joins.reloading(…))` joins the batches before a sink that works batch
    by batch. The table is read again for each batch. Its rows are copied to a folder in
    the checkpoint, and the batch is joined with the copy, so a batch replayed after a
    crash is joined with the same rows. There is a copy for each batch whose commit
    Spark keeps (`spark.sql.streaming.minBatchesToRetain`, 100 by default), so this
    suits tables of some thousand rows.

    A query without a checkpoint copies nothing, because none of its batches can be
    replayed.

    Args:
        name: the name of the table, used for its folder of copies; different for each
            table of a query.
        read: a function that takes the session and reads the table:
            `lambda spark: spark.read.csv("merchants.csv", header=True)`.
        on: the key column or columns, as in `with_table`.
        how: the kind of join, as in `with_table`.

    Returns:
        The argument for `Sink.taking`. Batches get the same columns as from
        `with_table`.

    Raises:
        InvalidInputError: `name` cannot name a folder, or `how` is unknown. When the
            query starts: any error of `with_table`, or the checkpoint is not on a local
            path.

    Examples:
        In a session::

            merchants = joins.reloading("merchants", read, on="merchant")
            sink = sinks.batch_files("out").taking(merchants)
            start(sales, sink, name="sales", checkpoint="ckpt")
    """
    check(reloading, locals())
    reject_unknown("how of joins.reloading()", [how], _WITH_TABLE)
    if not re.fullmatch(r"\w[\w.-]*", name):
        fix = "use letters, digits, - and _"
        raise InvalidInputError(
            f"joins.reloading(): name {name!r} names a folder; {fix}"
        )
    from sparkstream_kit.checkpoints.pins import copies_of  # few joins need it

    return copies_of(name, read, partial(with_table, on=on, how=how))


def _joined(
    left: DataFrame,
    right: DataFrame,
    keys: list[tuple[str, str]],
    how: str,
    *more: Column,
) -> DataFrame:
    """Join by keys that are renamed on the right, so that no two columns have the same name."""
    new_names = {
        theirs: f"_right_{number}_{theirs}" for number, (_, theirs) in enumerate(keys)
    }
    shapes = {"left": shape_of(left), "right": shape_of(right)}
    renamed = _renamed(right, new_names)
    conditions = [column(ours) == column(new_names[theirs]) for ours, theirs in keys]
    if how == "full" and streams(left):
        # Spark 4.2 matches null keys in this join
        conditions += [column(ours).isNotNull() for ours, _ in keys]
    both = left.join(renamed, reduce(and_, [*conditions, *more]), how)
    if how in ("left_semi", "left_anti"):
        return both
    joined_keys = {}
    for ours, theirs in keys:
        key = _key(column(ours), column(new_names[theirs]), how)
        joined_keys[ours] = key.alias(ours)
    if not all(shape.is_whole for shape in shapes.values()):
        if how in ("right", "full"):
            for name, key in joined_keys.items():
                both = with_column(both, name, key)
        return both.select(all_but(new_names.values()))
    selected = [joined_keys.get(name, column(name)) for name in shapes["left"].names]
    others = [name for name in shapes["right"].names if name not in new_names]
    return both.select(*selected, *map(column, others))


def _renamed(frame: DataFrame, new_names: dict[str, str]) -> DataFrame:
    """Return a frame with new names for some of its columns."""
    shape = shape_of(frame)
    if not shape.is_whole:
        keys = [column(name).alias(new) for name, new in new_names.items()]
        return frame.select(*keys, all_but(new_names))
    renamed = [column(name).alias(new_names.get(name, name)) for name in shape.names]
    return frame.select(*renamed)


def _key(left: Column, right: Column, how: str) -> Column:
    """Return the key of a joined row: in an outer join either side may be missing."""
    if how == "right":
        return right
    if how == "full":
        return F.coalesce(left, right)
    return left


def _keys(
    sides: dict[str, DataFrame], on: str | Sequence[str]
) -> list[tuple[str, str]]:
    """Return the names of each key, as the left and the right frame spell it."""
    names = [on] if isinstance(on, str) else list(on)
    if not names:
        raise InvalidInputError(
            "on is an empty list; give the name of a column that both sides have"
        )
    (left_name, left), (right_name, right) = sides.items()
    keys = [
        (find_column(left, name, left_name), find_column(right, name, right_name))
        for name in names
    ]
    for left_key, right_key in keys:
        our_type = _type_of(left, left_key)
        their_type = _type_of(right, right_key)
        if our_type is None or their_type is None:
            continue
        # Spark compares a long with a double as doubles, which rounds it
        are_exact = _is_exact(our_type) and _is_exact(their_type)
        if our_type != their_type and not are_exact:
            raise InvalidInputError(
                f"key {left_key} is {our_type} in {left_name} and {their_type} in"
                f" {right_name}; cast one of them to the type of the other"
            )
    return keys


def _type_of(frame: DataFrame, name: str) -> str | None:
    """Return the type of a column as Spark names it; None if it is not known."""
    from sparkstream_kit._internal.spark.shapes import is_known

    field = shape_of(frame).find(name)
    if field is None or not is_known(field.dataType):
        return None
    return field.dataType.simpleString()


def _is_exact(kind: str) -> bool:
    """Return whether a type is one of the whole numbers and decimals, by its simple name."""
    return re.fullmatch(r"(tiny|small|big)?int|decimal.*", kind) is not None


def _refuse_clash(sides: dict[str, DataFrame], keys: list[tuple[str, str]]) -> None:
    """Refuse a column that is in both frames and is not a key."""
    (left_name, left), (right_name, right) = sides.items()
    taken = {name.lower() for name in shape_of(left).names}
    right_keys = [theirs for _, theirs in keys]
    for name in shape_of(right).names:
        if name.lower() in taken and name not in right_keys:
            fix = (
                f"rename one of them: {right_name}.withColumnRenamed({name!r},"
                f" '{right_name}_{name}'), or add it to on"
            )
            if name == REASON:  # added by quarantine or by windows.with_watermark
                fix = f"join the good rows: quarantine.good_rows({right_name})"
            raise InvalidInputError(
                f"column {name} is in {left_name} and in {right_name}; {fix}"
            )
