"""The `Sink`: what the kit must know of where rows go, beside what Spark must be told."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sparkstream_kit import _connect
from sparkstream_kit._arguments import check
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.sinks import callbacks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspark.sql import DataFrame
    from pyspark.sql.streaming.readwriter import DataStreamWriter

__all__ = ["MODES", "Sink", "written"]

MODES = ("append", "complete", "update")


@dataclass(frozen=True, kw_only=True)
class Sink:
    """Where a query's rows go; callable on a `df.writeStream`, which it returns configured.

    Attributes:
        kind: the sink's name, for messages.
        modes: the output modes that it supports.
        delivery: its delivery promise, in words.
        needs_checkpoint: without a checkpoint a restart would write the same rows again.
        advice: what to do when another output mode is wanted.
        targets: what it writes to, and two sinks of one query must not share.
        query_name: the name that it gives its query, if it gives one.
        to_table: the catalog's table for `writer.toTable(…)`, if it is one.
        configure: sets a DataStreamWriter up; out of the repr, because options can hold passwords.
        write: of a sink that works batch by batch, the function of a batch's DataFrame and id; it can be
            used alone. None for a sink of Spark's own.
        views: of a sink that only shows the last batch, the views that show it, and which part of it.
        binder: makes the sink of one query from its streaming DataFrame and its checkpoint.
    """

    kind: str
    modes: tuple[str, ...]
    delivery: str
    needs_checkpoint: bool = False
    advice: str = "choose another output mode or another sink"
    targets: tuple[str, ...] = ()
    query_name: str | None = None
    to_table: str | None = None
    configure: Callable[[DataStreamWriter], DataStreamWriter] | None = field(default=None, repr=False)
    write: Callable[[DataFrame, int], None] | None = field(default=None, repr=False)
    views: Mapping[str, Callable[[DataFrame], DataFrame]] = field(default_factory=dict, repr=False)
    binder: Callable[[DataFrame, str | None], Sink] | None = field(default=None, repr=False)

    def __call__(self, writer: DataStreamWriter) -> DataStreamWriter:
        """Return the writer, configured for this sink."""
        check(Sink.__call__, locals())
        if self.write is not None:
            in_this_process = not _connect.is_connect(writer)
            writer = writer.foreachBatch(callbacks.called_back(self.write) if in_this_process else self.write)
        if self.configure is not None:
            writer = self.configure(writer)
        return writer

    def bind(self, frame: DataFrame, checkpoint: str | None) -> Sink:
        """Return the sink that belongs to one query; `start` calls this."""
        check(Sink.bind, locals())
        return self if self.binder is None else self.binder(frame, checkpoint)

    def of(self, part: Callable[[DataFrame], DataFrame]) -> Sink:
        """Return a sink that gets `part(batch)` of each batch; for sinks that work batch by batch.

        Args:
            part: a function of the batch, such as `lambda batch: batch.where("total > 0")`.

        Raises:
            InvalidInputError: the sink is Spark's own.
        """
        check(Sink.of, locals())
        write = written(self, "of()")
        return replace(
            self,
            write=lambda batch, batch_id: write(part(batch), batch_id),
            views={view: _after(part, shown) for view, shown in self.views.items()},
            binder=lambda frame, checkpoint: replace(
                self.bind(part(frame), checkpoint).of(part), binder=None
            ),
        )


def _after(
    first: Callable[[DataFrame], DataFrame], then: Callable[[DataFrame], DataFrame]
) -> Callable[[DataFrame], DataFrame]:
    return lambda frame: then(first(frame))


def written(sink: Sink, caller: str) -> Callable[[DataFrame, int], None]:
    """Return the sink's `write`.

    Raises:
        InvalidInputError: the sink is Spark's own, and writes no single batch.
    """
    if sink.write is None:
        raise InvalidInputError(
            f"{caller} takes sinks that work batch by batch (such as latest, sql_table, foreach_batch), "
            f"not {sink.kind}; start a query of its own for {sink.kind}"
        )
    return sink.write
