"""The `Sink`: what the kit must know of where rows go, beside what Spark must be told."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sparkstream_kit._arguments import check
from sparkstream_kit._spark.batch import hand_over
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.readwriter import DataStreamWriter

    from sparkstream_kit._spark.batch import Write
    from sparkstream_kit._spark.place import Place


MODES = ("append", "complete", "update")
FILE_FORMATS = ("csv", "json", "orc", "parquet", "text")  # that Spark itself writes


@dataclass(frozen=True, kw_only=True)
class Sink:
    """Where a query's rows go; callable on a `df.writeStream`, which it returns configured.

    Attributes:
        kind: the sink's name, for messages.
        modes: the output modes that it supports.
        promise: its delivery promise, in words.
        after_rewind: what the sink does with replayed batches after `sparkstream checkpoint rewind`.
        needs_checkpoint: without a checkpoint a restart would write the same rows again.
        advice: what to do when another output mode is wanted.
        writes_to: the tables, views, folders and files that it writes, which two sinks of one query must not
            share.
        query_name: the name that it gives its query, if it gives one.
        to_table: the catalog's table for `writer.toTable(…)`, if it is one.
        configure: of a sink of Spark's own, sets a DataStreamWriter up; out of the repr, because options can
            hold passwords.
        open: checks what a query would meet, and returns the function that writes a batch by its DataFrame
            and id. It is called with the query's DataFrame and checkpoint (for a query that `start` has not
            started, the first batch and None), and with an `Opening`. On Spark Connect the function is
            pickled. Of a sink of Spark's own, `open` only checks, and returns None.
        claim: of a sink of Spark's own that writes files, notes in their folder whose they are. It is called
            with the session and the query's checkpoint when the query has started.
        realtime: returns the writer of a query with the trigger `realTime`, which takes no function of a
            batch; None of a sink that cannot write so.
        parts: of a sink that hands its batches to others, these.
    """

    kind: str
    modes: tuple[str, ...]
    promise: str
    after_rewind: str = "gets the rows a second time"
    needs_checkpoint: bool = False
    advice: str = "choose another output mode or another sink"
    writes_to: tuple[str, ...] = ()
    query_name: str | None = None
    to_table: str | None = None
    configure: Callable[[DataStreamWriter], DataStreamWriter] | None = field(default=None, repr=False)
    open: Callable[[DataFrame, Place | None, Opening], Write | None] | None = field(default=None, repr=False)
    claim: Callable[[SparkSession, Place | None], None] = field(default=lambda *_: None, repr=False)
    realtime: Callable[[DataFrame], DataStreamWriter] | None = field(default=None, repr=False)
    parts: tuple[Sink, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.configure is None and self.open is None:
            raise InvalidInputError(f"sink {self.kind} writes nowhere; give it configure= or open=")

    def __call__(self, writer: DataStreamWriter) -> DataStreamWriter:
        """Return the writer, configured for this sink.

        What only `start` checks is left out then: the output mode, that there is a checkpoint where one is
        needed, and of a sink of Spark's own that its folder or table is not another query's.
        """
        check(Sink.__call__, locals())
        return self.configure(writer) if self.configure is not None else hand_over(writer, _open_late(self))

    def taking(self, part: Callable[[DataFrame], DataFrame] | Part) -> Sink:
        """Return a sink that gets `part(batch)` of each batch; for sinks that work batch by batch.

        Args:
            part: a function of the batch, such as `lambda batch: batch.where("total > 0")`, or what
                `models.scorer` or `joins.reloading` returns.

        Raises:
            InvalidInputError: the sink is Spark's own.
        """
        check(Sink.taking, locals())
        check_writes_batches(self, "taking()")

        def open_part(frame: DataFrame, location: Place | None, opening: Opening) -> Write:
            take = part.open(location) if isinstance(part, Part) else lambda batch, _batch_id: part(batch)
            write = opened(self, take(frame, None), location, opening)
            return lambda batch, batch_id: write(take(batch, batch_id), batch_id)

        if isinstance(part, Part):
            return replace(self, open=open_part, realtime=None)  # in real time no row knows its batch
        begin = self.realtime
        realtime = None if begin is None else lambda frame: begin(part(frame))
        return replace(self, open=open_part, realtime=realtime)


@dataclass(frozen=True)
class Part:
    """What a sink takes of each batch where that depends on more than its rows; for `Sink.taking`.

    Attributes:
        open: is called with the query's checkpoint, or None without one, when the sink is opened. It returns
            the function of a batch and its id; without an id (None) only the columns are asked for. On
            Spark Connect that function is pickled.
    """

    open: Callable[[Place | None], Callable[[DataFrame, int | None], DataFrame]]


class Opening:
    """One opening of a query's sinks: whether they may make what they need, and what they do at its end.

    So a start that one sink refuses does not shut an older driver out of another one.

    Attributes:
        makes: whether a sink may make what it needs, such as its folder; else it only checks.
    """

    def __init__(self, *, makes: bool = True) -> None:
        self.makes = makes
        self._left: list[Callable[[], None]] = []

    def at_last(self, do: Callable[[], None]) -> None:
        """Leave something to be done when all sinks of the query are open."""
        self._left.append(do)

    def end(self) -> None:
        """Do what was left."""
        for do in self._left:
            do()


def _open_late(sink: Sink) -> Write:
    """Return what writes the batches of a query that `start` has not started: opened with the first one."""
    writes: list[Write] = []

    def write(batch: DataFrame, batch_id: int) -> None:
        if not writes:
            writes.append(opened(sink, batch, None))
        writes[0](batch, batch_id)

    return write


def opened(sink: Sink, frame: DataFrame, location: Place | None, opening: Opening | None = None) -> Write:
    """Return what writes the batches of a sink that works batch by batch; without an opening it is alone."""
    own = Opening()
    write = None if sink.open is None else sink.open(frame, location, opening or own)
    if write is None:
        raise InvalidInputError(f"sink {sink.kind} writes no single batch; start a query of its own for it")
    own.end()
    return write


def rewind_notes(sink: Sink) -> list[str]:
    """Return what a sink, and each that it hands its batches to, makes of a rewind: a sentence each."""
    if sink.parts:
        return list(dict.fromkeys(note for part in sink.parts for note in rewind_notes(part)))
    return [f"{sink.kind} {sink.after_rewind}"]


def check_writes_batches(sink: Sink, caller: str) -> None:
    """Refuse a sink that does not work batch by batch.

    Raises:
        InvalidInputError: the sink is Spark's own.
    """
    if sink.configure is not None:
        raise InvalidInputError(
            f"{caller} takes sinks that work batch by batch (such as latest, sql_table, foreach_batch), "
            f"not {sink.kind}; start a query of its own for {sink.kind}"
        )


def check_view(sink: str, table: str) -> None:
    """Refuse what cannot be the name of a temporary view, which is in no schema.

    Raises:
        InvalidInputError: it is empty, or has a dot in it.
    """
    if not table.strip():
        raise InvalidInputError(f"{sink}(): the name of the table is empty; give one, such as 'totals'")
    if "." in table and "`" not in table:
        raise InvalidInputError(
            f"{sink}(): table {table} has a dot in its name, but it is in no schema; give "
            f"{table.replace('.', '_')!r}"
        )
