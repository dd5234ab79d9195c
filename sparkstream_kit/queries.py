"""`start`: one named streaming query, checked before Spark sees it; in a dry run it is only checked."""

from __future__ import annotations

import inspect
import logging
import os
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pyspark.errors import AnalysisException
from pyspark.sql.streaming.readwriter import DataStreamWriter

from sparkstream_kit import _files
from sparkstream_kit._arguments import check, said
from sparkstream_kit._durations import to_microseconds
from sparkstream_kit._packages import missing_source
from sparkstream_kit._spark import plan
from sparkstream_kit._spark import queries as asking
from sparkstream_kit._spark.batch import begin, hand_over, keep_printed
from sparkstream_kit._spark.place import locate
from sparkstream_kit._spark.plan import (
    has,
    inputs_of,
    refused,
    runs_python,
)
from sparkstream_kit._spark.settings import in_force
from sparkstream_kit.checkpoints.drain import END, drained, is_being_drained, plan_empty_batch
from sparkstream_kit.checkpoints.guard import Query, guard
from sparkstream_kit.checkpoints.logs import at_hand
from sparkstream_kit.errors import InvalidInputError, reject_unknown, wrong_event_time
from sparkstream_kit.profiles import STATE_STORE, STATE_STORES
from sparkstream_kit.sinks.base import Opening, rewind_notes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pyspark.sql import DataFrame
    from pyspark.sql.streaming.query import StreamingQuery

    from sparkstream_kit._dry_run import Planned
    from sparkstream_kit._spark.place import Place
    from sparkstream_kit.checkpoints.logs import Logs
    from sparkstream_kit.sinks import Sink

__all__ = ["start"]


def _check_realtime(frame: DataFrame, sink: Sink, mode: str) -> None:
    """Refuse what no Spark runs in real time; of which operators it does each has a list, and says so itself.

    Raises:
        InvalidInputError: this Spark has no real-time mode, or what the query needs has none.
    """
    if "realTime" not in inspect.signature(DataStreamWriter.trigger).parameters:
        raise InvalidInputError(
            f"trigger realTime is in Spark 4.2 and later, and this is {frame.sparkSession.version}; give "
            "processingTime='0 seconds'"
        )
    if sink.realtime is None:
        raise InvalidInputError(
            f"trigger realTime cannot write to {sink.kind}: it has no batches to hand over; give "
            "sinks.kafka, or processingTime='0 seconds'"
        )
    if mode != "update":
        raise InvalidInputError(f"trigger realTime writes in mode update, not {mode}; give mode='update'")
    if runs_python(frame):
        raise InvalidInputError(
            "trigger realTime runs no Python function; leave it out, or give processingTime='0 seconds'"
        )


_WORDS = {"processingTime": "a batch every {}", "availableNow": "the input that is there, then it ends"}


def _planned(
    asked: _Asked, trigger: dict[str, Any], carried: Sequence[tuple[str, str]], **guarding: Any
) -> Planned:
    """Check a query as its start does, and say what would run; what the checks have made is removed.

    Where its checkpoint is still to be made from that of another one, `carried` says so: all is checked then.
    On Spark Connect only a start tells whether Spark's own rules allow the plan in this output mode.

    Raises:
        InvalidInputError: as `start`.
    """
    from sparkstream_kit import _dry_run  # which no other start needs

    frame, sink, location = asked.frame, asked.sink, asked.location
    begins = [("mode", asked.mode), *(("sink", said) for said in _sinks(sink))]
    if carried:
        return _dry_run.Planned(asked.name, (*begins, *carried, ("trigger", _when(trigger))))
    with guard(frame, location, asked.name, asked.mode, dry_run=True, **guarding) as guarded:
        if "realTime" in trigger and sink.realtime is not None:
            sink.realtime(frame)
        elif sink.open is not None:
            sink.open(frame, location, Opening(makes=False))
        plan.check_mode(frame, asked.mode)
        says = [
            *begins,
            ("checkpoint", _progress(location, guarded.logs)),
            *(("change", what) for what in guarded.changes),
            *(("input", _dry_run.meant(said)) for said in dict.fromkeys(map(str, plan.inputs_of(frame)))),
            ("trigger", _when(trigger)),
        ]
        return _dry_run.Planned(asked.name, tuple(says))


def _sinks(sink: Sink) -> list[str]:
    """Say of each sink where it writes, and what it promises."""
    if sink.parts:
        return [said for part in sink.parts for said in _sinks(part)]
    to = f" to {', '.join(sink.writes_to)}" if sink.writes_to else ""
    return [f"{sink.kind}{to}: {sink.promise}"]


def _when(trigger: dict[str, Any]) -> str:
    for word, value in trigger.items():
        return _WORDS.get(word, f"{word} {{}}").format(value)
    return "a batch as soon as the last one has ended"


def _progress(location: Place | None, logs: Logs | None) -> str:
    """Say where a query would keep its progress, and from where it would go on."""
    if location is None:
        return "a temporary one, removed at the end"
    if logs is None:
        return f"{location} (out of reach from here)"
    return f"{location} ({'new' if logs.done < 0 else f'it goes on after batch {logs.done}'})"


# A path in `Sink.writes_to`.
_WRITTEN = re.compile(r"(?:folder |file |Delta table |table .* in sqlite[^:]*:///)(.*)", re.DOTALL)

_log = logging.getLogger(__name__)

_TRIGGERS = ("availableNow", "continuous", "once", "processingTime", "realTime")
# Settings of the session change around a start: two threads must not do so at once.
_one_at_a_time = threading.RLock()
_ENCODING = "spark.sql.streaming.stateStore.encodingFormat"
_FLAGS = ("availableNow", "once")  # the triggers that have no duration


def start(
    frame: DataFrame,
    sink: Sink,
    *,
    name: str | None = None,
    mode: str = "append",
    checkpoint: str | Path | None = None,
    continues: str | Path | None = None,
    allow_changed_query: bool = False,
    moved: Mapping[str | Path, str | Path] | None = None,
    dry_run: bool = False,
    **trigger: Any,
) -> StreamingQuery:
    """Start one named streaming query.

    A query with `transformWithState` gets the RocksDB state store, without which Spark refuses it, and where
    no other operator keeps state its values in Avro, to which a later version of the job can add fields; any
    other query has that of the session (`spark.sql.streaming.stateStore.providerClass`). A checkpoint keeps
    the one that it was begun with.

    Args:
        frame: a streaming DataFrame.
        sink: from `sparkstream_kit.sinks`; its docstring states the delivery promise.
        name: the query's name, in progress, errors and Spark's UI; `sinks.memory` gives its table's.
        mode: `append`, `update` or `complete`.
        checkpoint: the folder that keeps the query's progress, from which it resumes; for this query alone.
            Without it a temporary folder is used, which Spark removes when the query ends (after a failure,
            too, with the kit's profiles).
        continues: the checkpoint of another version of this query. Where `checkpoint` is not there yet, it is
            made so that this query goes on exactly where the other one stands: its state is built from the
            input that the other one has read, and nothing is written meanwhile. All its sources are files or
            topics of Kafka, and both checkpoints are on a local path.
        allow_changed_query: go on with the state in the checkpoint although a different query wrote it, or
            although it has read other folders; these are then read from the start.
        moved: folders of input files that have moved since the checkpoint was written, as {old: new}. The
            checkpoint then knows the files by their new paths, and reads none of them again.
        dry_run: make all checks, start nothing and leave nothing behind. On Spark Connect a plan that Spark
            itself refuses in this output mode shows only at a start.
        **trigger: one of Spark's own words: `processingTime="5 seconds"` (or a `timedelta`),
            `availableNow=True`, ….

    Returns:
        Spark's own StreamingQuery, running. Of a dry run what would run, as a text to print: mode, sink and
        its promise, checkpoint, input and trigger; `run` ends with it (`errors.DryRun`).

    Raises:
        InvalidInputError: an argument of another type, a frame that does not stream, a trigger that cannot
            be read, an output mode that the sink does not support, a missing name or checkpoint, a query of
            this name that already runs, a sink that writes into a folder that the query reads, or a
            checkpoint that is in use, damaged, of a different query, or out
            of reach of the other nodes.

    Examples:
        >>> from sparkstream_kit import sinks
        >>> start(None, sinks.console(), name="totals")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: start(): frame is None; give a DataFrame ...
    """
    check(start, locals())
    trigger = _trigger(trigger)
    _check_sink(sink, mode, checkpoint)
    if not frame.isStreaming:
        raise InvalidInputError(
            f"query {name or sink.kind}: the DataFrame does not stream; read it with spark.readStream"
        )
    if "realTime" in trigger:
        _check_realtime(frame, sink, mode)
    name = _name(frame, sink, name)
    location = None if checkpoint is None else locate(frame.sparkSession, checkpoint)
    asked = _Asked(frame, sink, name, mode, location)
    guarding: dict[str, Any] = {"allow_changed_query": allow_changed_query, "moved": moved}
    with _starting(asked):
        _refuse_own_input(asked)
        carried = () if continues is None else _carry_over(asked, continues, dry_run=dry_run)
        if dry_run:
            found: Any = _planned(asked, trigger, carried, **guarding)
            return found  # type: ignore[no-any-return]
        return _start(asked, trigger, **guarding)


@dataclass(frozen=True)
class _Asked:
    """What a query is started with, and started with once more to end a finite input."""

    frame: DataFrame
    sink: Sink
    name: str
    mode: str
    location: Place | None

    def drain(self) -> StreamingQuery | None:
        """Start the query for its last batch, which reads nothing and closes every window.

        Returns:
            None where there is nothing to close: no state, no watermark, mode `complete`, which has written
            all of it, or that batch has run.
        """
        place = self.location
        if place is None or self.mode == "complete" or not place.names("state"):
            return None
        if not has(self.frame, "EventTimeWatermark"):
            return None  # a batch more would write nothing, and leave a checkpoint that takes no more rows
        with at_hand(place) as logs:
            if drained(logs):
                return None
        with _starting(self):
            return _start(self, {"once": True}, drain=True)


def _carry_over(asked: _Asked, continues: str | Path, *, dry_run: bool) -> tuple[tuple[str, str], ...]:
    """Make the checkpoint of a changed query, which goes on where the other one stands; say what was done."""
    from sparkstream_kit.checkpoints.evolve import evolve  # few starts need it

    frame, sink, place = asked.frame, asked.sink, asked.location
    if place is None:
        raise InvalidInputError("start(): continues= needs a new checkpoint; give checkpoint='folder'")

    def check_sink(old: Place, makes: bool) -> None:
        if sink.open is not None:  # without its end: the query's own start takes its epoch
            sink.open(frame, old, Opening(makes=makes))
        plan.check_mode(frame, asked.mode)

    changed = Query(frame, asked.name, asked.mode, allow_changed=False, moved={})
    old = locate(frame.sparkSession, continues)
    return evolve(changed, sink.writes_to, check_sink, place, old, dry_run=dry_run)


@contextmanager
def _starting(asked: _Asked) -> Iterator[None]:
    """Make one start at a time, and put in one line what Spark says of a query that it does not start."""
    try:
        with _one_at_a_time, in_force(asked.frame.sparkSession, _state_store(asked.frame)):
            yield
    except Exception as err:
        if known := missing_source(err) or wrong_event_time(err):
            raise InvalidInputError(known) from None
        if isinstance(err, AnalysisException):
            raise InvalidInputError(f"query {asked.name}: {refused(err, asked.mode)}") from err
        raise


def _start(asked: _Asked, trigger: dict[str, Any], *, drain: bool = False, **guarding: Any) -> StreamingQuery:
    frame, sink, name = asked.frame, asked.sink, asked.name
    location, spark = asked.location, frame.sparkSession
    columns = [list(each) for each in frame.dtypes]
    writes = {"sinks": rewind_notes(sink), "targets": list(sink.writes_to), "columns": columns}
    with guard(frame, location, name, asked.mode, writes=writes, **guarding) as guarded:
        if guarded.logs is not None:
            trigger = _trigger_for(asked, guarded.logs, trigger, drain=drain)
        realtime = sink.realtime if "realTime" in trigger else None
        opening = Opening()
        write = None if realtime or sink.open is None else sink.open(frame, location, opening)
        writer = frame.writeStream if realtime is None else realtime(frame)
        writer = writer.queryName(name).outputMode(asked.mode)
        if write is not None:
            writer = hand_over(writer, keep_printed(write, spark, name))
        elif realtime is None:
            writer = sink(writer)
        if location is not None:
            writer = writer.option("checkpointLocation", location.text)
        if trigger:
            writer = writer.trigger(**trigger)
        opening.end()
        try:
            query = writer.toTable(sink.to_table) if sink.to_table else begin(writer)
            guarded.note()
            sink.claim(spark, location)
        except BaseException:
            asking.stop_unknown(spark, name)  # before the lock is released
            raise
    if guarded.lock is not None:
        guarded.lock.until_end_of(query)
    interval = to_microseconds("processingTime", trigger.get("processingTime", "0 seconds")) / 1_000_000
    known = asking.Started(
        *(frame, asked.mode, location, asked.drain, write is not None, interval or None, sink.writes_to),
        endless=not (ends := bool(trigger.keys() & {"availableNow", "once"})),
        ends=ends,
        logs=None if location is None or location.folder is None else guarded.logs,
    )
    asking.note(query, known)
    return query


def _trigger_for(asked: _Asked, logs: Logs, trigger: dict[str, Any], *, drain: bool) -> dict[str, Any]:
    """Return the trigger to start with: `once` for a batch that ends the input, else the given one."""
    if drain:
        number = plan_empty_batch(logs, END)
        if asked.location is not None and asked.location.folder is None:  # a copy has it now
            text = (logs.root / "offsets" / str(number)).read_text("utf-8")
            asked.location.write(f"offsets/{number}", text)
    elif is_being_drained(logs):
        _log.warning(
            "query %s: it was cut off while it wrote its last windows; now it writes them, and reads no more",
            asked.name,
        )
    else:
        return trigger
    return {"once": True}


def _state_store(frame: DataFrame) -> dict[str, str]:
    """Return the settings that a query of `transformWithState` needs, whatever the session has for others.

    Without RocksDB Spark refuses it. With its values in Avro the next version of the job can have one field
    more, but Spark has Avro for no other operator that keeps state.
    https://spark.apache.org/docs/latest/streaming/structured-streaming-transform-with-state.html
    """
    if not has(frame, "TransformWithState"):
        return {}
    rocksdb = {STATE_STORE: STATE_STORES["rocksdb"]}
    others = has(frame, "Aggregate|Deduplicate|Distinct|FlatMapGroups|GlobalLimit|Join")
    return rocksdb if others else rocksdb | {_ENCODING: "avro"}


def _trigger(given: dict[str, Any]) -> dict[str, Any]:
    """Return the trigger as Spark takes it, which reads no `timedelta` and some wrong words too late."""
    if "trigger" in given:
        raise InvalidInputError(
            f"start(): trigger is {said(given['trigger'])}; give Spark's own keyword in its place, such as "
            "processingTime='5 seconds' or availableNow=True"
        )
    reject_unknown("keyword of start()", given, [*(start.__kwdefaults__ or ()), *_TRIGGERS])
    if len(given) > 1:
        raise InvalidInputError(
            f"start() takes one trigger, not {' and '.join(given)}; leave out all but one"
        )
    for word, value in given.items():
        if word in _FLAGS and value is not True:
            raise InvalidInputError(f"start(): {word} is {said(value)}; give {word}=True, or leave it out")
        if word not in _FLAGS and (microseconds := to_microseconds(word, value)) < 0:
            raise InvalidInputError(f"start(): {word} is {value}; give 0 seconds or more")
        if isinstance(value, timedelta):
            return {word: f"{microseconds} microseconds"}
    return given


def _check_sink(sink: Sink, mode: str, checkpoint: str | Path | None) -> None:
    """Refuse what the sink cannot do."""
    if mode not in sink.modes:
        raise InvalidInputError(
            f"sink {sink.kind} supports output mode {' and '.join(sink.modes)}, not {mode}; {sink.advice}"
        )
    if sink.needs_checkpoint and checkpoint is None:
        raise InvalidInputError(
            f"sink {sink.kind} needs a checkpoint: without one a restart would write every row again; "
            "give start(…, checkpoint='folder')"
        )


def _refuse_own_input(asked: _Asked) -> None:
    """Refuse a folder or a file of the sink in a folder that the query reads: it would read its own rows."""
    found = (_WRITTEN.fullmatch(target) for target in asked.sink.writes_to)
    written = {match[1]: _spelt(match[1]) for match in found if match}
    if not written:
        return
    for given in (each.path for each in inputs_of(asked.frame) if each.path is not None):
        there = {_spelt(each) for each in [given, *_files.matching(given)]}
        for path, spelt in written.items():
            if any(f"{spelt}/".startswith(f"{each.rstrip('/')}/") for each in there):
                raise InvalidInputError(
                    f"query {asked.name}: sink {asked.sink.kind} writes to {path}, which "
                    f"{'is' if spelt in there else 'lies in'} the input folder {given}; put it elsewhere"
                )


def _spelt(path: str) -> str:
    """Return a path of this machine without links; any other as it is."""
    plain = _files.plain(path)
    return path if plain is None else os.path.realpath(plain)


def _name(frame: DataFrame, sink: Sink, name: str | None) -> str:
    """Return the query's name, checked against the sink and the queries that run."""
    if sink.query_name and name not in (None, sink.query_name):
        raise InvalidInputError(
            f"sink {sink.kind} names its query {sink.query_name}, because Spark names the table after the "
            f"query; leave name={name} out, or use it for the table"
        )
    chosen = sink.query_name or name
    if not chosen:
        raise InvalidInputError("a query needs a name: start(…, name='totals')")
    if any(query.name == chosen for query in frame.sparkSession.streams.active):
        raise InvalidInputError(
            f"a query named {chosen} already runs; end it first: "
            f"[q.stop() for q in spark.streams.active if q.name == {chosen!r}]"
        )
    return chosen
