"""Extra: `sinks.by_value`: a sink for each value of a column, such as one table for each topic."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from sparkstream_kit._internal import columns
from sparkstream_kit._internal.arguments import check, said
from sparkstream_kit.checkpoints.logs import KIT
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.sinks.base import (
    BatchSink,
    Sink,
    Target,
    of_batches,
    open_batch_sink,
)
from sparkstream_kit.sinks.batches import computed_once, target_key
from sparkstream_kit.sinks.ledger import this_driver
from sparkstream_kit.sinks.plans import folders_read

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import Column, DataFrame

    from sparkstream_kit._internal.spark.batch import Write
    from sparkstream_kit._internal.spark.place import Place
    from sparkstream_kit.sinks.base import Opening


# A text that is a name in any file system and database: nothing that leads out of a
# folder or hides a file.
_PLAIN = re.compile(r"[^\W_][\w .+@-]{0,127}")


def by_value(
    column: str,
    sink_of: Callable[[str], Sink],
    *,
    mode: str = "append",
    most: int = 1_000,
    any_value: bool = False,
) -> Sink:
    """Write the rows of each value of a column to a sink of their own.

    So each topic, for example, gets a table of its own.

    The targets are known from the rows: a new value gets its sink in the batch in which
    it first appears. The batch is computed once, and one small query lists its values.
    Then their rows are written, value by value, in the order of the values. A value
    that a batch does not have costs nothing there. If a write fails, the batch fails;
    it is replayed to all of its values.

    The targets of the values of the last batch are checked when the query starts, all
    others in the first batch that has rows for them. The checkpoint notes, in
    `sparkstream-kit/values`, which batch each value got last. So a target that was
    restored from an older backup, and lacks that batch, is refused.

    Delivery: each sink keeps its own promise. After a crash between two sinks, or after
    the last one, the batch is replayed to all of them, and a sink that writes exactly
    once skips the batch if it has it. A stalled driver that resumes after its
    replacement started is refused, also by a target that is new.

    Args:
        column: the column, whose values are taken as texts.
        sink_of: a function that takes a value and returns its sink, which must work
            batch by batch. It must give the same target for a value each time, and
            another one for each other value. The sink gets the query's columns, also
            `column`; use `taking` to drop it.
        mode: the output mode of the query, `append` or `update`.
        most: the most targets that are open at once, and the most values of a batch.
            Those used longest ago are closed first; the query no longer knows then
            which batch they got last.
        any_value: call `sink_of` with every value, None for NULL. By default a batch
            fails that has a value which is NULL, is longer than 128 characters, does
            not begin with a letter or digit, or has others than letters, digits, spaces
            and `. _ + @ -` in it: as a part of a path it could lead out of its folder,
            or be hidden. So does a batch with a value whose dot would lead to another
            schema of a database.

    Raises:
        InvalidInputError: the mode is `complete`; when the query starts, the column is
            missing, or there is no checkpoint; in a batch, it has too many values or
            one that is refused, `sink_of` returns no sink, a sink of Spark's own, one
            that does not support the mode or one whose target another value or sink of
            the query has, or a target refuses the query.

    Examples:
        >>> from sparkstream_kit import sinks
        >>> sinks.by_value("topic", lambda topic: sinks.batch_files(f"lake/{topic}")).modes
        ('append',)
    """
    check(by_value, locals())
    if most < 1:
        raise InvalidInputError(f"by_value(): most is {most}; give 1 or more")
    if mode == "complete":
        raise InvalidInputError("by_value(): mode is complete; give append or update")

    def open_all(frame: DataFrame, location: Place | None, opening: Opening) -> Write:
        columns.find_column(frame, column, caller="by_value()")
        if location is None:
            raise InvalidInputError(
                "by_value() notes values in the checkpoint; give start(…,"
                " checkpoint='folder')"
            )
        opening.ledgers.folders |= folders_read(frame)
        targets = _Targets(
            column=column,
            sink_of=sink_of,
            mode=mode,
            most=most,
            any_value=any_value,
            location=location,
            opening=_opening_of_value(opening),
            driver=this_driver(),
        )
        note_driver = partial(location.write, f"{targets.file}.driver", targets.driver)
        opening.at_end.append(note_driver)
        targets.open_last(frame, opening)
        return targets.write

    return BatchSink(
        kind=f"by_value({column})",
        modes=(mode,),
        promise="for each value, that of its sink",
        after_rewind=(
            "gives each sink its rows again; a sink with a ledger writes a replayed"
            " batch with the same rows once, refuses others, and says how to set its"
            " target back"
        ),
        needs_checkpoint=True,
        advice="give by_value(…, mode='update') if its sinks support it",
        writes_to=(Target("targets by", column),),
        open=open_all,
    )


def _opening_of_value(opening: Opening) -> Opening:
    """Return an opening with an end of its own, for a target that does not get every batch."""
    return replace(opening, ledgers=replace(opening.ledgers, before={}), at_end=[])


def _leads_to_other_schema(value: str, target: Target) -> bool:
    """Return whether the last dot of a value has become the one between a schema and its table."""
    before, dot, _ = value.rpartition(".")
    return bool(dot) and target.within.endswith(before)


class _Batches(NamedTuple):
    """The last batch that had rows of a value, and the one before that; -1 for none known."""

    last: int
    before: int

    def followed_by(self, number: int) -> _Batches:
        """Return the same once a batch has rows of the value; it may be the last one, replayed.

        Examples:
            >>> batches = _Batches(last=5, before=3)
            >>> batches.followed_by(7), batches.followed_by(5), batches.followed_by(4)
            (_Batches(last=7, before=5), _Batches(last=5, before=3), _Batches(last=4, before=-1))
        """
        if number > self.last:
            return _Batches(number, self.last)
        if number < self.last:
            # The last batch is from before a rewind: nothing is known of those before it
            return _Batches(number, -1)
        return self


class _OpenTarget(NamedTuple):
    """The open target of a value.

    Attributes:
        write: the function that writes a batch to it.
        before: the `before` of its opening, which says which batch it got last.
    """

    write: Write
    before: dict[int, int]


@dataclass
class _Targets:
    """The targets of a query by the values of a column; the other fields are those of `by_value`.

    Attributes:
        opening: what the openings during the run share with that of the start.
        driver: this start of the query.
        batches: by value, the one used longest ago first. The checkpoint has it, too.
        open_targets: by value, those that are open.
    """

    column: str
    sink_of: Callable[[Any], Sink]
    mode: str
    most: int
    any_value: bool
    location: Place
    opening: Opening
    driver: str
    batches: dict[str | None, _Batches] = field(default_factory=dict)
    open_targets: dict[str | None, _OpenTarget] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """The file of the checkpoint that has `batches`.

        Another, whose name ends in `.driver`, has the driver of the last start.
        """
        return f"{KIT}/values/{quote(self.column, safe='')}"

    def open_last(self, frame: DataFrame, opening: Opening) -> None:
        """Open the targets of the last batch, of which the checkpoint may have lost the plan."""
        entries = json.loads(self.location.read(self.file) or "[]")
        committed = max(self.location.entries("commits"), default=-1)
        self.batches = {}
        for value, last, before in entries:
            # Later batches than the next one were rewound
            if last <= committed + 1:
                self.batches[value] = _Batches(last, before)
        newest = max((batches.last for batches in self.batches.values()), default=-1)
        values = [
            value for value, batches in self.batches.items() if batches.last == newest
        ]
        for value in values:
            opening.at_end.append(self.open(value, frame, opening).end)

    def open(self, value: str | None, frame: DataFrame, start: Opening) -> Opening:
        """Open the target of a value, and return its opening, which the caller ends.

        Raises:
            InvalidInputError: its sink cannot be used, or has a target of others; or as
                for the sink.
        """
        sink = self._sink(value)
        opening = _opening_of_value(start)
        # The note of the checkpoint does not name the targets of single values
        opening.ledgers.former = ()
        opening.allows(sink)
        last, before = self.batches[value]
        opening.ledgers.before[last] = before
        opening.ledgers.before[last + 1] = last
        for target in sink.writes_to:
            self._check_target(target, value, opening)
        write = open_batch_sink(sink, frame, self.location, opening)
        self.open_targets[value] = _OpenTarget(write, opening.ledgers.before)
        return opening

    def _sink(self, value: str | None) -> Sink:
        """Return the sink that the user's function gives for a value.

        Raises:
            InvalidInputError: it is no sink, or one that cannot be used.
        """
        sink = self.sink_of(value)
        if not isinstance(sink, Sink):
            raise InvalidInputError(
                f"by_value(): the function returned {said(sink)} for {self.column}"
                f" {value}; return a sink"
            )
        of_batches(sink, "by_value()")
        if self.mode not in sink.modes:
            raise InvalidInputError(
                f"by_value(): sink {sink.kind} of {self.column} {value} supports"
                f" {' and '.join(sink.modes)}, not {self.mode}; give by_value(…,"
                f" mode={sink.modes[0]!r}), or another sink"
            )
        return sink

    def _check_target(
        self, target: Target, value: str | None, opening: Opening
    ) -> None:
        """Refuse a target in another schema, or one that another value has.

        Raises:
            InvalidInputError: the target is one of these.
        """
        this_value = f"{self.column} {value}"
        if (
            value is not None
            and not self.any_value
            and _leads_to_other_schema(value, target)
        ):
            raise InvalidInputError(
                f"by_value(): the dot in {this_value} would lead to the schema {target.within};"
                " replace it in the name of the table: value.replace('.', '_')"
            )
        # Of two values with one target, the second would be taken for a replay, and its
        # rows be skipped.
        other = opening.targets.setdefault(target_key(target), this_value)
        if other != this_value:
            raise InvalidInputError(
                f"by_value(): {this_value} and {other} have the same target, {target}; give"
                " each a target of its own, or give both one value in the column"
            )

    def check_driver(self) -> None:
        """Refuse to go on if another driver has started the query.

        The epochs of the targets are then newer.
        """
        driver = self.location.read(f"{self.file}.driver")
        if driver != self.driver:
            raise InvalidInputError(
                f"another driver has started to write to the targets by {self.column}"
                f" ({driver}); this one ends"
            )

    def write(self, batch: DataFrame, number: int) -> None:
        """Write the rows of each value to its sink."""
        text = columns.column(self.column).cast("string")
        with computed_once(batch):
            values = self._values(batch, text)
            self.check_values(values, number)
            self.check_driver()
            self.note(values, number)
            for value in values:
                if value not in self.open_targets:
                    self.open(value, batch, self.opening).end()
            self.check_driver()  # again: of two drivers, at least one sees the other
            for value in values:
                target = self.open_targets[value]
                target.before.clear()
                target.before[number] = self.batches[value].before
                target.write(batch.where(text.eqNullSafe(value)), number)

    def _values(self, batch: DataFrame, text: Column) -> list[Any]:
        """Return the values of a batch in order: one more than `most` if there are too many."""
        distinct = batch.select(text.alias("value")).distinct().orderBy("value")
        return [row[0] for row in distinct.limit(self.most + 1).collect()]

    def check_values(self, values: list[str | None], number: int) -> None:
        """Refuse a batch with too many values, or with one that the function must not get."""
        if len(values) > self.most:
            raise InvalidInputError(
                f"by_value(): batch {number} has more than {self.most} values of"
                f" {self.column}, each with a target of its own; give most=…, or a"
                " column with fewer values"
            )
        for value in values:
            if not self.any_value and not _PLAIN.fullmatch(value or ""):
                raise InvalidInputError(
                    f"by_value(): batch {number} has {self.column} {value!r}, which is"
                    " no plain name; replace it in the query, or give any_value=True"
                    " and let the function make a name of it"
                )

    def note(self, values: list[str | None], number: int) -> None:
        """Note a batch's values before they are written; drop the oldest over `most`.

        The sinks of dropped values are closed.
        """
        for value in values:
            value_batches = self.batches.pop(value, _Batches(-1, -1))
            # At the end: the oldest come first
            self.batches[value] = value_batches.followed_by(number)
        oldest = list(self.batches)[: -self.most]
        for value in oldest:
            del self.batches[value]
            self.open_targets.pop(value, None)
        noted = [[value, *batches] for value, batches in self.batches.items()]
        self.location.write(self.file, json.dumps(noted))
