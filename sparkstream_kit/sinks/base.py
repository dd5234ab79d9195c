"""Thin: the `Sink` type: how a query's rows are written, and what `start` checks first.

Each function in `sparkstream_kit.sinks` returns a `Sink`, of one of two kinds. With a
`SparkSink` Spark writes the rows: `configure` sets a DataStreamWriter up. A `BatchSink`
works batch by batch: `open` returns a function that `foreachBatch` calls with each
micro-batch. `start` opens a sink by `open_sink`, with an `Opening` that it shares with the
sinks inside. `Part` and `Sink.taking` transform each batch before it is written.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from sparkstream_kit._internal.arguments import check, is_a, said
from sparkstream_kit._internal.spark.batch import begin, hand_over
from sparkstream_kit._internal.spark.session import on_server
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery
    from pyspark.sql.streaming.readwriter import DataStreamWriter
    from pyspark.sql.types import StructType

    from sparkstream_kit._internal.spark.batch import Write
    from sparkstream_kit._internal.spark.place import Place

    Read = Callable[[SparkSession, StructType, Place], DataFrame]
    Look = Callable[[int], str | None]  # of a batch: what is lost up to it, or None


MODES = ("append", "complete", "update")
# Metadata of a column of `Sink.read`: which type the query would give it
OTHER_TYPE = "sparkstream.type"


class Target(NamedTuple):
    """What a sink writes to, such as a table; two targets that are equal are the same one.

    Attributes:
        kind: the word for it, such as "table" or "folder".
        name: its name, with the database or server that has it.
        path: its path, for a folder or file that a query could also read; empty for
            others.
        known_as: what two spellings of its name have in common, such as those of a
            table in another case; empty if it has one spelling.
        within: the schema that the name begins with; empty for none.
    """

    kind: str
    name: str
    path: str = ""
    known_as: str = ""
    within: str = ""

    def __str__(self) -> str:
        """Return the target as messages name it."""
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Form:
    """How a target that does not keep Spark's types, such as CSV or SQL, holds values.

    Attributes:
        written: returns rows as `Sink.read` would return them if the sink had written
            them. It is called with the rows and with a folder for its files, as Spark
            takes it, which does not exist yet. The target is not touched.
        texts: the form of a column that `Sink.read` returns as texts: `json`, `csv` as
            Spark writes it, or `text` as Spark casts a value to a string.
    """

    written: Callable[[DataFrame, str], DataFrame]
    texts: str


@dataclass(frozen=True, kw_only=True)
class Sink:
    """Where a query's rows go; call it with a `df.writeStream` to configure that writer.

    There are two kinds: a `SparkSink` has Spark write the rows, and a `BatchSink`
    writes them batch by batch. This class has what they have in common.

    Attributes:
        kind: the sink's name, for messages.
        modes: the output modes that the sink supports.
        promise: the sink's delivery promise, as a phrase for people, such as "at least
            once".
        after_rewind: what the sink does with replayed batches after `sparkstream
            checkpoint rewind`, as a phrase that follows the sink's name.
        needs_checkpoint: whether `start` refuses the sink without a checkpoint, because
            a restart would write the same rows again.
        advice: what to do instead when the user asks for an unsupported output mode.
        writes_to: the tables, views, folders and files that the sink writes. Two sinks
            of one query must not share any of them.
        query_name: the query name that the sink requires; None if the query may have
            any name.
        parts: the inner sinks of a sink that hands its batches on, such as `fan_out`;
            empty for others.
        realtime: returns the DataStreamWriter of a query with the trigger `realTime`,
            which cannot call a function per batch; None for a sink that does not
            support that trigger.
        keys: the columns that identify a row in the target; empty if they are not
            known.
        read: reads all rows of the target back, with the types that they have there. It
            is called with the session, the query's columns, for a format that does not
            name them, and the checkpoint. None if the target cannot be read back.
        form: how the target holds values, if it does not keep each value with its type
            of Spark's.
    """

    kind: str
    modes: tuple[str, ...]
    promise: str
    after_rewind: str = "gets the rows a second time"
    needs_checkpoint: bool = False
    advice: str = "choose another output mode or another sink"
    writes_to: tuple[Target, ...] = ()
    query_name: str | None = None
    parts: tuple[Sink, ...] = field(default=(), repr=False)
    realtime: Callable[[DataFrame], DataStreamWriter] | None = field(
        default=None, repr=False
    )
    keys: tuple[str, ...] = ()
    read: Read | None = field(default=None, repr=False)
    form: Form | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if type(self) is Sink:
            raise InvalidInputError(
                f"sink {self.kind} writes nowhere; make a sinks.BatchSink(…, open=), or"
                " a sinks.SparkSink(…, configure=)"
            )

    def __call__(self, writer: DataStreamWriter) -> DataStreamWriter:
        """Configure a DataStreamWriter for this sink, without `start`, and return the writer.

        Some checks happen only in `start`, and are skipped here: that the sink supports
        the output mode, that there is a checkpoint if the sink needs one, and, for a
        `SparkSink`, that its folder or table does not belong to another query, and can
        hold each value.
        """
        check(Sink.__call__, locals())
        return self._set_up(writer)

    def _set_up(self, writer: DataStreamWriter) -> DataStreamWriter:
        """Configure a DataStreamWriter, as a sink of this kind does it."""
        raise NotImplementedError

    def taking(self, part: Callable[[DataFrame], DataFrame] | Part) -> Sink:
        """Transform each batch before this sink writes it; for a `BatchSink`.

        Args:
            part: a function that takes the batch and returns the DataFrame to write,
                such as `lambda batch: batch.where("total > 0")`; or the result of
                `models.scorer` or `joins.reloading`. At the start it is called with the
                stream, for the columns, so it must run no job: give `pivot` its values.

        Returns:
            A new sink that writes `part(batch)` in place of each batch; this one stays
            as it is. With a `Part` it does not support the trigger `realTime`.

        Raises:
            InvalidInputError: the sink is Spark's own.
        """
        check(Sink.taking, locals())
        return _taking(of_batches(self, "taking()"), part)


@dataclass(frozen=True, kw_only=True)
class SparkSink(Sink):
    """A sink of Spark's own, or of a connector: Spark writes the rows.

    Attributes:
        configure: sets a DataStreamWriter up. It is left out of the repr, because
            options can hold passwords.
        to_table: the catalog table to start the query on with `writer.toTable(…)`; None
            for other sinks.
        check: checks that the query can write to its target. It is called with the
            query's DataFrame and its checkpoint.
        checked: returns the frame to write: the query's, with a check of the values
            that the target would change. Such a value fails its batch before it is
            written.
        claim: for a sink that writes files, notes in their folder which query owns
            them, and returns what `run` calls after batches, for at most 1/50 of the
            time, and at its end, with the number of the last batch (-1 before the first
            one). That returns what of the query's rows is lost, with a way out, or
            None. `claim` is called with the session and the query's checkpoint once the
            query has started.
        on_connect: for a sink that prints, writes a batch in a session of Spark
            Connect, where Spark would print on another machine.

    Examples:
        >>> noop = SparkSink(
        ...     kind="noop",
        ...     modes=("append", "update"),
        ...     promise="none",
        ...     configure=lambda writer: writer.format("noop"),
        ... )
        >>> noop.needs_checkpoint
        False
    """

    configure: Callable[[DataStreamWriter], DataStreamWriter] = field(repr=False)
    to_table: str | None = None
    check: Callable[[DataFrame, Place | None], None] = field(
        default=lambda *_: None, repr=False
    )
    checked: Callable[[DataFrame], DataFrame] = field(
        default=lambda frame: frame, repr=False
    )
    claim: Callable[[SparkSession, Place | None], Look | None] = field(
        default=lambda *_: None, repr=False
    )
    on_connect: Write | None = field(default=None, repr=False)

    def _set_up(self, writer: DataStreamWriter) -> DataStreamWriter:
        return self.configure(writer)


@dataclass(frozen=True, kw_only=True)
class BatchSink(Sink):
    """A sink that works batch by batch, by Spark's `foreachBatch`.

    Attributes:
        open: checks that the query can write to its target, and returns a function that
            takes a batch's DataFrame and id and writes the batch. `open` is called with
            the query's DataFrame, its checkpoint and an `Opening`; without `start`, the
            first two are the first batch and None. On Spark Connect the returned
            function is pickled.

    Examples:
        >>> def open_log(frame, location, opening):
        ...     return lambda batch, batch_id: print(batch_id, batch.columns)
        >>> log = BatchSink(
        ...     kind="log", modes=("append",), promise="at least once", open=open_log
        ... )
        >>> log.parts
        ()
    """

    open: Callable[[DataFrame, Place | None, Opening], Write] = field(repr=False)

    def _set_up(self, writer: DataStreamWriter) -> DataStreamWriter:
        return hand_over(writer, _open_late(self))


def _taking(
    sink: BatchSink, part: Callable[[DataFrame], DataFrame] | Part
) -> BatchSink:
    """Return a sink that writes `part(batch)` in place of each batch."""

    def open_part(frame: DataFrame, location: Place | None, opening: Opening) -> Write:
        take = _taker(part, location)
        changed_frame = take(frame, None)
        if not is_a("DataFrame", changed_frame):
            raise InvalidInputError(
                f"sink {sink.kind}, taking(): the function returned {said(changed_frame)};"
                " return the DataFrame to write"
            )
        write = open_batch_sink(sink, changed_frame, location, opening)
        return lambda batch, batch_id: write(take(batch, batch_id), batch_id)

    realtime = sink.realtime
    if realtime is None or isinstance(part, Part):
        # A Part needs batch ids, which realTime does not have.
        return replace(sink, open=open_part, realtime=None, parts=(sink,))
    return replace(
        sink,
        open=open_part,
        realtime=lambda frame: realtime(part(frame)),
        parts=(sink,),
    )


def _taker(
    part: Callable[[DataFrame], DataFrame] | Part, location: Place | None
) -> Callable[[DataFrame, int | None], DataFrame]:
    """Return the function that transforms a batch, given the batch and its id."""
    if isinstance(part, Part):
        return part.open(location)
    return lambda batch, _batch_id: part(batch)


@dataclass(frozen=True)
class Part:
    """A change of each batch that depends on checkpoint or batch id, for `Sink.taking`.

    `models.scorer` and `joins.reloading` return one, to use the same version of a model
    or table when a batch is replayed.

    Attributes:
        open: called with the query's checkpoint, or None without one, when the sink is
            opened. It returns a function that takes a batch and its id and returns the
            transformed batch. When that function is called with None as the id, only
            the columns of its result are used. On Spark Connect it is pickled.
    """

    open: Callable[[Place | None], Callable[[DataFrame, int | None], DataFrame]]


@dataclass
class LedgerContext:
    """What the sinks with a ledger of one query know about its batches.

    Attributes:
        plans: the plan of the batch that is being written, by its number.
        folders: the folder that each file source reads, by the source's name in
            `sources/`, for the plans.
        before: for a target that does not get every batch: the batch that it got
            before, by the number of the batch that is being written.
        begins: the first batch of each target that a continuation on a new target has
            got, by its text.
        former: what the checkpoint's query has written to, as texts: its targets, or of
            sinks without one their kinds; empty if that is not known.
    """

    plans: dict[int, str | None] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    before: dict[int, int] = field(default_factory=dict)
    begins: dict[str, int] = field(default_factory=dict)
    former: tuple[str, ...] = ()

    def read_note(self, note: Mapping[str, Any]) -> None:
        """Take the query's targets, and since when, from the note of a checkpoint."""
        self.begins = dict(note.get("begins", {}))
        kinds = [f"sinks.{sink.partition(' ')[0]}" for sink in note.get("sinks", ())]
        self.former = tuple(note.get("targets", ()) or kinds)


@dataclass(kw_only=True)
class Opening:
    """One start of a query, for all its sinks: what they may create and what they defer.

    A sink takes its next epoch, which shuts an older driver out, only after every sink
    has opened. So a start that one sink refuses does not disturb the older driver,
    which still writes to the other sinks.

    Attributes:
        makes: whether a sink may create what it needs, such as its folder; if False, as
            in a dry run, the sink only checks.
        allows: refuses a target that the query must not write to, for `by_value`, which
            learns its targets from the rows.
        targets: what writes to each target of the query, by `batches.target_key`.
        ledgers: what the sinks with a ledger know about the query's batches.
        at_end: the functions to call when all sinks of the query are open.
        replacement: for `shadow`, opens each sink in its own place, and returns what is
            called with its batches.
    """

    makes: bool = True
    allows: Callable[[Sink], None] = lambda _: None
    targets: dict[tuple[str, str], str] = field(default_factory=dict)
    ledgers: LedgerContext = field(default_factory=LedgerContext)
    at_end: list[Callable[[], None]] = field(default_factory=list)
    replacement: Callable[[Sink, StructType], Write] | None = None

    def end(self) -> None:
        """Call the registered functions, in the order of their registration."""
        for call in self.at_end:
            call()


def _open_late(sink: Sink) -> Write:
    """Return a function that opens the sink at its first batch, without `start`."""
    writes: list[Write] = []

    def write(batch: DataFrame, batch_id: int) -> None:
        if not writes:
            writes.append(open_batch_sink(sink, batch, None))
        writes[0](batch, batch_id)

    return write


def open_batch_sink(
    sink: Sink, frame: DataFrame, location: Place | None, opening: Opening | None = None
) -> Write:
    """Open a sink that works batch by batch, and return the function that writes its batches.

    Args:
        sink: the sink.
        frame: the query's DataFrame, or its first batch if the query does not use
            `start`.
        location: the query's checkpoint; None without one.
        opening: the start that the sink shares with others; None opens this sink alone.
            The caller ends the given opening.

    Raises:
        InvalidInputError: the sink is Spark's own, or refuses the query.
    """
    own_opening = Opening()
    write = open_sink(sink, frame, location, opening or own_opening)
    if write is None:
        raise InvalidInputError(
            f"sink {sink.kind} writes no single batch; start a query of its own for it"
        )
    own_opening.end()
    return write


def open_sink(
    sink: Sink, frame: DataFrame, location: Place | None, opening: Opening
) -> Write | None:
    """Check that a query can write to a sink, and return the function that writes its batches.

    Returns:
        The function; None if Spark writes the rows itself.

    Raises:
        InvalidInputError: the sink refuses the query.
    """
    if opening.replacement is not None and not sink.parts:
        return opening.replacement(sink, frame.schema)
    if isinstance(sink, BatchSink):
        return sink.open(frame, location, opening)
    if isinstance(sink, SparkSink):
        sink.check(frame, location)
        if on_server(frame.sparkSession):
            return sink.on_connect
    return None


def writer_of(sink: Sink, frame: DataFrame) -> DataStreamWriter:
    """Return Spark's writer of a query's rows, with the checks of their values."""
    if isinstance(sink, SparkSink):
        frame = sink.checked(frame)
    return sink(frame.writeStream)


def begin_query(sink: Sink, writer: DataStreamWriter) -> StreamingQuery:
    """Start the query of a writer, on the sink's table of the catalog if it has one."""
    if isinstance(sink, SparkSink) and sink.to_table is not None:
        return writer.toTable(sink.to_table)
    return begin(writer)


def claim(sink: Sink, spark: SparkSession, checkpoint: Place | None) -> Look | None:
    """Note that a query has started; return what looks whether its rows are still there."""
    if isinstance(sink, SparkSink):
        return sink.claim(spark, checkpoint)
    return None


def inner(sink: Sink) -> list[Sink]:
    """Return the sinks to which a sink such as `fan_out` hands batches; else itself."""
    if not sink.parts:
        return [sink]
    sinks = []
    for part in sink.parts:
        sinks += inner(part)
    return sinks


def of_batches(sink: Sink, caller: str) -> BatchSink:
    """Return a sink as one that works batch by batch, on behalf of the function `caller`.

    Raises:
        InvalidInputError: the sink is Spark's own.
    """
    if not isinstance(sink, BatchSink):
        raise InvalidInputError(
            f"{caller} takes sinks that work batch by batch (such as latest, sql_table,"
            f" foreach_batch), not {sink.kind}; start a query of its own for"
            f" {sink.kind}"
        )
    return sink


# So that JSON keeps every value: nulls would be left out, and timestamps would be cut
# to milliseconds.
JSON = {
    "ignoreNullFields": "false",
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXXXX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
}
# Arguments of one sink or another
NO_OPTIONS = ("exactlyOnce", "mode", "partitionBy", "rowId", "takeOver")
