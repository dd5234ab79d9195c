"""Start and run: `start` checks and starts one named query; a dry run only checks.

`start` checks the arguments, guards the checkpoint (`checkpoints.guard`), opens the
sink, starts Spark's query and notes what `runs.run` needs to know about it later. Of
this module only `start` is public; the private functions are its steps. A dry run makes
a `Planned` in place of a query (`operate.shadow.planned`).
"""

from __future__ import annotations

import inspect
import logging
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql.streaming.readwriter import DataStreamWriter

from sparkstream_kit._internal import file_system
from sparkstream_kit._internal.arguments import check, said
from sparkstream_kit._internal.durations import to_microseconds
from sparkstream_kit._internal.spark import logical_plan
from sparkstream_kit._internal.spark.batch import hand_over, keep_printed
from sparkstream_kit._internal.spark.place import locate
from sparkstream_kit._internal.spark.queries import (
    SAYS_END,
    StartFacts,
    TargetLooks,
    note,
    running,
    stop_unknown,
)
from sparkstream_kit._internal.spark.session import settings_id
from sparkstream_kit.checkpoints.drain import is_being_drained
from sparkstream_kit.checkpoints.guard import StartingQuery, guard
from sparkstream_kit.errors import InvalidInputError, innermost_cause, reject_unknown
from sparkstream_kit.sinks.base import (
    Opening,
    begin_query,
    claim,
    inner,
    open_sink,
    writer_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyspark.sql import DataFrame
    from pyspark.sql.streaming.query import StreamingQuery

    from sparkstream_kit._internal.spark.batch import Write
    from sparkstream_kit._internal.spark.place import Place
    from sparkstream_kit.checkpoints.guard import Question
    from sparkstream_kit.checkpoints.logs import Logs
    from sparkstream_kit.checkpoints.operate.shadow import Planned
    from sparkstream_kit.sinks import Sink
    from sparkstream_kit.sinks.base import Target

__all__ = ["start"]


_log = logging.getLogger(__name__)

# RealTime from Spark 4.2 on
_TRIGGERS = [*inspect.signature(DataStreamWriter.trigger).parameters][1:]
_FLAGS = ("availableNow", "once")  # triggers whose value is True instead of a duration
# Kinds of targets that hold the rows of one query: those of a second one would replace
# or hide them.
_OF_ONE_QUERY = ("file", "folder", "memory", "view")
# Of these, the kinds that each session has for itself, under one name or another
_VIEWS = ("memory", "view")


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
    dry_run: bool | str = False,
    **trigger: Any,
) -> StreamingQuery:
    """Start one named streaming query, after checks that name the fix for what is wrong.

    The query's state store is that of the session
    (`spark.sql.streaming.stateStore.providerClass`), except for a query with
    `transformWithState`: this gets RocksDB, which Spark requires for it. If no other
    operator of that query keeps state, its state is encoded in Avro, so that a later
    version of the job can add fields. A checkpoint keeps the state store with which it
    was created.

    Args:
        frame: a streaming DataFrame.
        sink: from `sparkstream_kit.sinks`; its docstring states the delivery promise.
        name: the query's name in progress, errors and Spark's UI. May be left out for
            `sinks.memory`, which names the query after its table.
        mode: the output mode: `append`, `update` or `complete`.
        checkpoint: the folder that keeps the query's progress, from which a restart
            resumes. No other query may use it. Default: a temporary folder, which Spark
            removes when the query ends (with the kit's profiles after a failure, too).
        continues: the checkpoint of an earlier version of this query. If `checkpoint`
            does not exist yet, it is created so that this query continues exactly where
            the earlier one has stopped: its state is built from the input that the
            earlier version has read, and nothing is written meanwhile. All sources must
            be files, Kafka topics or Delta tables, and both checkpoints must be on a
            local path.
        allow_changed_query: accept a checkpoint that a different query wrote, or this
            one under another name, and keep its state; or one that has read other
            folders, in which case the new folders are read from the start.
        moved: folders of input files that have moved since the checkpoint was written,
            as {old: new}. The checkpoint is changed to the new paths, so that no file
            is read again; with `continues`, the new checkpoint gets them.
        dry_run: make all checks, start nothing and leave nothing behind. On Spark
            Connect, whether Spark allows the plan in this output mode is only found out
            at a real start. `"compare"`: run the query over what the checkpoint (that
            of `continues`, if given) has read, and compare what it would write with
            what its targets hold, as `checkpoints.shadow` does.
        **trigger: one of Spark's own trigger keywords: `processingTime="5 seconds"` (or
            a `timedelta`), `availableNow=True`, …, but not `continuous`, which has no
            batches. Default: each batch begins as soon as the previous one has ended.

    Returns:
        Spark's own StreamingQuery, running. A dry run returns a description to print
        instead: mode, sink and its promise, checkpoint, input and trigger. If it is
        passed to `run`, `run` raises it as `errors.DryRun`.

    Raises:
        InvalidInputError: an argument has a wrong type; the DataFrame does not stream;
            the trigger cannot be read; the sink does not support the output mode; the
            name or a required checkpoint is missing; a query of this name already runs;
            the sink writes into a folder that the query reads, or to the view, file or
            folder of a query that runs; or the checkpoint is in use, damaged, of a
            different query, or out of reach of the cluster's nodes.
        KitError: the Python process of a Spark Connect server does not start, or this
            version of Spark prints plans in an unknown form.

    Examples:
        >>> from sparkstream_kit import sinks
        >>> start(None, sinks.console(), name="totals")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: start(): frame is None; give a DataFrame
    """
    check(start, locals())
    trigger = _trigger(trigger)
    _check_sink(sink, mode, checkpoint, trigger)
    _check_streams(frame, name or sink.kind)
    _check_realtime(frame, trigger)
    _check_continues(continues, allow_changed_query)
    query = StartingQuery(
        frame, name or "query", mode, allow_changed_query, moved or {}
    )
    if isinstance(dry_run, str):
        # Imported here, because few starts need it
        from sparkstream_kit.checkpoints.operate import compared

        with _starting(query):  # the query that runs may have the same name
            return compared(query, sink, dry_run, continues or checkpoint)  # type: ignore[return-value]
    location = None
    if checkpoint is not None:
        location = locate(frame.sparkSession, checkpoint)
    request = _StartRequest(replace(query, name=_name(sink, name)), sink, location)
    with _starting(request.query):
        with request.query.in_force():
            request.opening().allows(sink)
        carried: tuple[tuple[str, str], ...] = ()
        if continues is not None:
            from sparkstream_kit.checkpoints.operate.evolve import evolve

            old = locate(frame.sparkSession, continues)
            carried = evolve(
                request.query, sink, location, old, request.opening, dry_run=dry_run
            )
        if dry_run:
            return _planned(request, trigger, carried)  # type: ignore[return-value]
        return _start(request, trigger)


@dataclass(frozen=True)
class _StartRequest:
    """The arguments of a start; kept for `drain`, which starts the query once more."""

    query: StartingQuery
    sink: Sink
    location: Place | None

    def opening(self, *, makes: bool = True) -> Opening:
        """Return what the sinks of one start share.

        Raises:
            InvalidInputError: the checkpoint lies in a folder that the query reads or
                writes, or a query of this name already runs.
        """
        from sparkstream_kit.sinks.batches import target_key

        _refuse_same_name(self.query)
        inputs = [each.path for each in self.query.inputs if each.path is not None]
        if self.location is not None:
            subject = f"query {self.query.name} has checkpoint"
            checkpoint = [self.location.text]
            outputs = [file_system.escaped(path) for path in _output_paths(self.sink)]
            _refuse_within(subject, checkpoint, "input folder", inputs)
            _refuse_within(subject, checkpoint, "output folder", outputs)
        target_keys = map(target_key, self.sink.writes_to)
        targets = dict.fromkeys(target_keys, "another sink of the query")
        session = settings_id(self.query.spark)
        allows = partial(_allow, self.query.name, session, inputs, targets)
        return Opening(makes=makes, allows=allows, targets=targets)

    def drain(self) -> StreamingQuery | None:
        """Start the query once more, for a last batch that reads nothing and closes every window.

        Returns:
            The query; or None if there is nothing to close.
        """
        from sparkstream_kit.checkpoints.operate import has_windows

        if not has_windows(self.query, self.location):
            return None
        request = replace(
            self, query=replace(self.query, allow_changed=False, moved={})
        )
        with _starting(request.query):
            return _start(request, {"once": True}, drain=True)


@contextmanager
def _starting(query: StartingQuery) -> Iterator[None]:
    """Turn Spark's refusals in a block into one line."""
    try:
        yield
    except Exception as err:
        # Only then is it needed
        from sparkstream_kit.connectors._packages import missing_source

        refusal = missing_source(err) or logical_plan.wrong_event_time(err)
        if refusal:
            raise InvalidInputError(refusal) from None
        # The latter of the folder of a table that is in no catalog any more
        if isinstance(err, PySparkException) and (
            isinstance(err, AnalysisException)
            or err.getCondition() == "LOCATION_ALREADY_EXISTS"
        ):
            raise InvalidInputError(
                f"query {query.name}: {logical_plan.refused(err, query.mode)}"
            ) from err
        if isinstance(err, OSError) and err.errno in file_system.NOT_USABLE:
            raise InvalidInputError(
                f"query {query.name}: {err.filename or 'a file'} cannot be written or"
                f" read: {err.strerror}; make room, or correct its rights"
            ) from err
        # Of Java, such as a full disk, for which PySpark has no class
        if isinstance(err, Py4JJavaError):
            raise InvalidInputError(
                f"query {query.name}: {innermost_cause(err)}"
            ) from err
        raise


def _planned(
    request: _StartRequest, trigger: dict[str, Any], carried: Sequence[tuple[str, str]]
) -> Planned:
    """Return what the start of a query would do; nothing is made.

    Args:
        request: the query, its sink and its checkpoint.
        trigger: its trigger, as Spark takes it.
        carried: what a continuation carries over, as `evolve` returns it.
    """
    # Imported here, because few starts need it
    from sparkstream_kit.checkpoints.operate.shadow import planned

    opening = request.opening(makes=False)
    return planned(
        request.query,
        request.sink,
        request.location,
        trigger,
        carried,
        opening,
        _of_systems,
    )


def _start(
    request: _StartRequest, trigger: dict[str, Any], *, drain: bool = False
) -> StreamingQuery:
    """Guard the checkpoint, open the sink, start Spark's query, and note it for `run`.

    Args:
        request: the query, its sink and its checkpoint.
        trigger: its trigger, as Spark takes it.
        drain: plan the last batch, which reads nothing and closes every window, and run
            only that.
    """
    sink = request.sink
    location = request.location
    settings: dict[str, str] = {}
    if "availableNow" in trigger:
        # A query that another thread stops must not look as if it had read all input.
        settings = SAYS_END
    writes = _writes(request)
    with (
        request.query.in_force(settings),
        guard(request.query, location, _of_systems, writes=writes) as guarded,
    ):
        checkpoint_note: Mapping[str, Any] = {}
        if guarded.logs is not None:
            trigger = _trigger_for(request, guarded.logs, trigger, drain=drain)
            checkpoint_note = guarded.logs.noted
        opening = request.opening()
        opening.ledgers.read_note(checkpoint_note)
        opening.allows(sink)  # once more: no other query starts meanwhile
        write = None
        if "realTime" not in trigger:
            write = open_sink(sink, request.query.frame, location, opening)
        writer = _writer(request, trigger, write)
        opening.end()
        try:
            query = begin_query(sink, writer)
            guarded.note()
            look = claim(sink, request.query.spark, location)
        except BaseException:
            # The query may run although its start has failed. Stop it before `guard`
            # releases the lock.
            stop_unknown(request.query.spark, request.query.name)
            raise
        facts = _start_facts(request, trigger, opening, prints=write is not None)
        if look is not None:
            facts = facts._replace(target=TargetLooks(look))
        note(query, facts)
    if guarded.lock is not None:
        guarded.lock.until_end_of(query)
    return query


def _writes(request: _StartRequest) -> dict[str, Any]:
    """Return what the checkpoint notes about the sinks, the targets and the columns."""
    sinks = [f"{each.kind} {each.after_rewind}" for each in inner(request.sink)]
    return {
        "sinks": list(dict.fromkeys(sinks)),
        "targets": [str(target) for target in request.sink.writes_to],
        "columns": [list(column) for column in request.query.frame.dtypes],
    }


def _writer(
    request: _StartRequest, trigger: Mapping[str, Any], write: Write | None
) -> DataStreamWriter:
    """Return Spark's writer for a query, with all that it is to start with.

    Args:
        request: the query, its sink and its checkpoint.
        trigger: its trigger.
        write: the sink's function for each batch; None for a sink of Spark's own, and
            in real time.
    """
    query = request.query
    if "realTime" in trigger and request.sink.realtime is not None:
        writer = request.sink.realtime(query.frame)
    elif write is not None:
        write = keep_printed(write, query.spark, query.name)
        writer = hand_over(query.frame.writeStream, write)
    else:
        writer = writer_of(request.sink, query.frame)
    writer = writer.queryName(query.name).outputMode(query.mode)
    if request.location is not None:
        writer = writer.option("checkpointLocation", request.location.text)
    if trigger:
        writer = writer.trigger(**trigger)
    return writer


def _start_facts(
    request: _StartRequest,
    trigger: Mapping[str, Any],
    opening: Opening,
    *,
    prints: bool,
) -> StartFacts:
    """Return what `run` needs to know about a query that has started.

    Args:
        request: the query, its sink and its checkpoint.
        trigger: its trigger.
        opening: what its sinks share.
        prints: whether Spark passes its batches to a Python function.
    """
    from sparkstream_kit.connectors import progress_listeners

    between = trigger.get("processingTime", "0 seconds")
    interval = to_microseconds("processingTime", between) / 1_000_000
    return StartFacts(
        frame=request.query.frame,
        mode=request.query.mode,
        location=request.location,
        drain=request.drain,
        prints=prints,
        interval=interval or None,
        targets=request.sink.writes_to,
        writes=opening.targets,
        ends=bool(trigger.keys() & {"availableNow", "once"}),
        says_end="availableNow" in trigger,
        progress_listeners=progress_listeners(request.query),
    )


def _of_systems(query: StartingQuery) -> list[Question]:
    """Return the checks of the systems that a query reads."""
    from sparkstream_kit.connectors import questions

    return questions({each.kind for each in query.inputs})


def _trigger_for(
    request: _StartRequest, logs: Logs, trigger: dict[str, Any], *, drain: bool
) -> dict[str, Any]:
    """Return the trigger to start with: `once` for a last batch, else the given one.

    With `drain` the last batch is planned in the checkpoint. If an earlier drain was
    cut off, the last batch is planned already, and a start finishes it.
    """
    if drain:
        from sparkstream_kit.checkpoints.operate import plan_last_batch

        plan_last_batch(logs, request.location)
    elif not is_being_drained(logs):
        return trigger
    elif "once" not in trigger:  # with it, one batch is all that was asked for
        _log.warning(
            "query %s: its drain was interrupted; finishing it now, then stopping",
            request.query.name,
        )
    return {"once": True}


def _trigger(trigger: dict[str, Any]) -> dict[str, Any]:
    """Check a trigger and convert it to what Spark accepts: a `timedelta` becomes a text.

    Spark itself would report some wrong keywords and values only after the start.

    Raises:
        InvalidInputError: an unknown keyword, more than one trigger, or a value that
            cannot be used.
    """
    reject_unknown(
        "keyword of start()", trigger, [*(start.__kwdefaults__ or ()), *_TRIGGERS]
    )
    if "continuous" in trigger:
        raise InvalidInputError(
            "start() takes no trigger continuous: Spark calls it experimental, and it"
            " has no batches that `run` could count; give processingTime='0 seconds'"
        )
    if len(trigger) > 1:
        raise InvalidInputError(
            f"start() takes one trigger, not {' and '.join(trigger)}; leave out the"
            " others"
        )
    for keyword, value in trigger.items():
        if keyword in _FLAGS and value is not True:
            raise InvalidInputError(
                f"start(): {keyword} is {said(value)}; give {keyword}=True, or leave it out"
            )
        if keyword in _FLAGS:
            continue
        microseconds = to_microseconds(keyword, value)
        if microseconds < 0:
            raise InvalidInputError(
                f"start(): {keyword} is {value}; give 0 seconds or more"
            )
        if isinstance(value, timedelta):
            return {keyword: f"{microseconds} microseconds"}
    return trigger


def _check_streams(frame: DataFrame, name: str) -> None:
    """Refuse a static DataFrame; Spark's own error names only a method."""
    if not frame.isStreaming:
        raise InvalidInputError(
            f"query {name}: the DataFrame does not stream; read it with"
            " spark.readStream"
        )


def _check_continues(continues: str | Path | None, allow_changed_query: bool) -> None:
    """Refuse the two ways to go on with a changed query together."""
    if continues is not None and allow_changed_query:
        raise InvalidInputError(
            "start(): allow_changed_query=True keeps the old state, and continues="
            " builds a new one; leave one of them out"
        )


def _check_realtime(frame: DataFrame, trigger: Mapping[str, Any]) -> None:
    """Refuse a function with memory in real time: Spark fails there without saying why."""
    if "realTime" in trigger and logical_plan.has(frame, "TransformWithState"):
        fix = "give processingTime='0 seconds'"
        raise InvalidInputError(f"trigger realTime runs no function with memory; {fix}")


def _check_sink(
    sink: Sink, mode: str, checkpoint: str | Path | None, trigger: Mapping[str, Any]
) -> None:
    """Refuse a mode or trigger that the sink does not support, and a missing checkpoint.

    Spark itself refuses most of what does not run in real time: it is not the same in
    all versions.
    """
    if mode not in sink.modes:
        raise InvalidInputError(
            f"sink {sink.kind} supports output mode {' and '.join(sink.modes)}, not"
            f" {mode}; {sink.advice}"
        )
    if "realTime" in trigger and sink.realtime is None:
        raise InvalidInputError(
            f"trigger realTime cannot write to {sink.kind}: it has no batches to hand"
            " over; give sinks.kafka without exactly_once, or processingTime='0"
            " seconds'"
        )
    # Spark would say it after the start, and a dry run never
    if "realTime" in trigger and mode != "update":
        raise InvalidInputError(
            f"trigger realTime writes in mode update, not {mode}; give mode='update'"
        )
    if sink.needs_checkpoint and checkpoint is None:
        raise InvalidInputError(
            f"sink {sink.kind} needs a checkpoint: without one a restart would write"
            " every row again; give start(…, checkpoint='folder')"
        )


def _allow(
    name: str,
    session: str,
    inputs: Sequence[str],
    targets: Mapping[tuple[str, str], str],
    sink: Sink,
) -> None:
    """Refuse a sink that a query must not write to.

    Args:
        name: the name of the query.
        session: the id of its session, as `settings_id` has it.
        inputs: the folders that it reads.
        targets: what it writes to, as in `Opening.targets`; so it is known which
            running query it is itself.
        sink: the sink, or one inside it.

    Raises:
        InvalidInputError: the sink writes into an input folder, or to a target of
            another running query.
    """
    from sparkstream_kit.sinks.batches import target_key

    _refuse_own_input(name, inputs, sink)
    own_targets: dict[tuple[str, ...], Target] = {}
    for target in sink.writes_to:
        if target.kind in _OF_ONE_QUERY:
            own_targets[_unshared(session, target_key(target))] = target
    if not own_targets:
        return
    for other, facts in running():
        if facts.frame is None or facts.writes is targets:
            continue
        other_session = settings_id(facts.frame.sparkSession)
        for other_target in list(facts.writes):
            shared = own_targets.get(_unshared(other_session, other_target))
            if shared is not None:
                raise InvalidInputError(
                    f"query {name}: sink {sink.kind} writes to {shared}, as query"
                    f" {other.name} does, which runs; end that query first, or give"
                    " each query a target of its own"
                )


def _unshared(session: str, target: tuple[str, str]) -> tuple[str, ...]:
    """Return what is equal if two targets are the same one, also across sessions."""
    kind, name = target
    if kind in _VIEWS:
        return "view", name.lower(), session
    return target


def _refuse_own_input(name: str, inputs: Sequence[str], sink: Sink) -> None:
    """Refuse a sink that writes into an input folder: the query would read its own output."""
    _refuse_within(
        f"query {name}: sink {sink.kind} writes to",
        _output_paths(sink),
        "input folder",
        inputs,
    )


def _output_paths(sink: Sink) -> list[str]:
    """Return the folders and files that a sink writes."""
    return [each.path for each in sink.writes_to if each.path]


def _refuse_within(
    subject: str, paths: Sequence[str], folder_role: str, folders: Sequence[str]
) -> None:
    """Refuse a path at or in the folders, unless a name there begins with _ or a dot.

    Readers of a folder pass over such names, as over OUT_DIR/_checkpoint.
    """
    if not paths:
        return
    for folder in folders:
        existing = {
            file_system.spelt(each).rstrip("/")
            for each in [folder, *file_system.matching(folder)]
        }
        for path in paths:
            spelt = file_system.spelt(path)
            insides = [_inside(spelt, each) for each in existing]
            # A folder that is made later, which Spark then finds
            if file_system.matches(folder, spelt):
                depth = len(Path(file_system.plain(folder) or "").absolute().parts)
                insides.append("/".join(Path(spelt).parts[depth:]))
            if any(map(_is_read, insides)):
                verb = "is" if spelt in existing else "lies in"
                raise InvalidInputError(
                    f"{subject} {path}, which {verb} the {folder_role} {folder}; put it elsewhere"
                )


def _inside(path: str, folder: str) -> str | None:
    """Return a path relative to a folder; empty for the folder itself, None outside of it."""
    if f"{path}/".startswith(f"{folder}/"):
        return path[len(folder) + 1 :]
    return None


def _is_read(inside: str | None) -> bool:
    """Return whether readers of a folder read a path in it, which no name of it hides."""
    if inside is None:
        return False
    return not any(map(file_system.is_hidden, inside.split("/")))


def _name(sink: Sink, name: str | None) -> str:
    """Return the query's name, which is the sink's or the given one.

    Raises:
        InvalidInputError: the names differ, or both are missing.
    """
    if sink.query_name and name not in (None, sink.query_name):
        raise InvalidInputError(
            f"sink {sink.kind} names its query {sink.query_name}, because Spark names"
            f" the table after the query; leave name={name} out, or use it for the"
            " table"
        )
    chosen = sink.query_name or name
    if not chosen:
        raise InvalidInputError("a query needs a name: start(…, name='totals')")
    return chosen


def _refuse_same_name(new_query: StartingQuery) -> None:
    """Refuse a query if one of this name runs in its session.

    Raises:
        InvalidInputError: such a query runs.
    """
    if any(query.name == new_query.name for query in new_query.spark.streams.active):
        raise InvalidInputError(
            f"a query named {new_query.name} already runs; end it first: "
            f"[q.stop() for q in spark.streams.active if q.name == {new_query.name!r}]"
        )
